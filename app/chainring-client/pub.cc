// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <thread>
#include <unistd.h>

#include "options.h"

namespace chainring::client {
namespace {

int complain(const std::string& why) {
  std::fprintf(stderr, "chainring-client pub: %s\n", why.c_str());
  return exit_failed;
}

mqttsn::octets bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// Reads to the end of the file. Returns false on an error, which errno names.
bool read_all(int fd, std::string& text) {
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n == 0;
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

/// Publishes one message. It begins a new session when the broker ended the old one, and repeats
/// the message when the broker refused it because of congestion.
status deliver(client& c, const pub_options& options, const std::string& text) {
  for (unsigned attempt = 0;; ++attempt) {
    auto s = c.publish(options.to, bytes_of(text), options.qos, options.retain);
    const bool congested = s.what == outcome::rejected && s.code == mqttsn::return_code::congestion;
    if ((s.what != outcome::disconnected && !congested) || attempt >= options.client.retries_max)
      return s;
    if (attempt > 0 || congested) std::this_thread::sleep_for(options.client.retry_interval);
    if (s.what == outcome::disconnected)
      if (auto again = c.connect(); !again) return again;
  }
}

/// Publishes each line of standard input as soon as it is complete.
status deliver_lines(client& c, const pub_options& options, unsigned long& count) {
  std::string pending;
  std::size_t searched = 0;
  char buffer[65536];
  for (bool more = true; more;) {
    if (const auto end = pending.find('\n', searched); end != std::string::npos) {
      if (auto s = deliver(c, options, pending.substr(0, end)); !s) return s;
      ++count;
      pending.erase(0, end + 1);
      searched = 0;
      continue;
    }
    searched = pending.size();
    if (auto s = c.wait_readable(STDIN_FILENO); !s) return s;
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && errno != EINTR)
      return {
          outcome::failed, {}, std::string("cannot read standard input: ") + std::strerror(errno)};
    if (n > 0) pending.append(buffer, static_cast<std::size_t>(n));
    more = n != 0;
  }
  if (pending.empty()) return {};
  auto s = deliver(c, options, pending);
  if (s) ++count;
  return s;
}

} // namespace

int run_pub(const pub_options& options) {
  std::string text = options.text;
  if (options.from == pub_options::source::file) {
    text.clear();
    const int fd = ::open(options.text.c_str(), O_RDONLY | O_CLOEXEC);
    const bool read = fd >= 0 && read_all(fd, text);
    const int why = errno;
    if (fd >= 0) ::close(fd);
    if (!read) return complain("--file: cannot read '" + options.text + "': " + std::strerror(why));
  } else if (options.from == pub_options::source::whole && !read_all(STDIN_FILENO, text)) {
    return complain(std::string("cannot read standard input: ") + std::strerror(errno));
  }

  client c(options.client);
  if (auto s = c.open(); !s) return complain(s.message);
  const bool with_session = options.qos != mqttsn::qos_level::minus_one;
  if (with_session)
    if (auto s = c.connect(); !s) return complain(s.message);

  unsigned long count = 0;
  const bool lines = options.from == pub_options::source::lines;
  auto s = lines ? deliver_lines(c, options, count) : deliver(c, options, text);
  // The broker answers in order, so once it has answered DISCONNECT it has also sent every refusal
  // of a QoS 0 message.
  const auto end = c.disconnect();
  if (!s) {
    if (lines)
      s.message += " (line " + std::to_string(count + 1) + "; the " + std::to_string(count) +
                   " before it were delivered)";
    return complain(s.message);
  }
  if (c.refused_count() > 0)
    return complain(std::to_string(c.refused_count()) + " of the messages to '" + options.to.name +
                    "' were refused by the broker (" + to_string(c.refused_code()) + ")");
  if (!end && options.qos == mqttsn::qos_level::zero)
    return complain("it is not known whether the broker accepted the message: " + end.message);
  return exit_ok;
}

} // namespace chainring::client
