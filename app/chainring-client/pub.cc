// SPDX-License-Identifier: BSD-3-Clause
#include <cerrno>
#include <cstring>
#include <unistd.h>

#include "command.h"

namespace chainring::client {
namespace {

mqttsn::octets bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// Publishes one message. When the broker ends the session, it begins a new one and continues the
/// same message.
status deliver(client& c, const pub_options& options, const std::string& text) {
  for (unsigned attempt = 0;; ++attempt) {
    auto s = c.publish(options.to, bytes_of(text), options.qos, options.retain, attempt > 0);
    if (s.what != outcome::disconnected || attempt >= options.client.retries_max) return s;
    if (attempt > 0)
      if (auto waited = c.wait(options.client.retry_interval); !waited) return waited;
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
    if (n < 0 && errno != EINTR) return system_failed("cannot read standard input");
    if (n > 0) pending.append(buffer, static_cast<std::size_t>(n));
    more = n != 0;
  }
  if (pending.empty()) return {};
  auto s = deliver(c, options, pending);
  if (s) ++count;
  return s;
}

/// Publishes the message as often as --repeat says.
status deliver_repeatedly(client& c, const pub_options& options, const std::string& text) {
  for (unsigned long n = 0; n < options.repeat; ++n) {
    if (n > 0 && options.repeat_delay.count() > 0)
      if (auto s = c.wait(options.repeat_delay); !s && s.what != outcome::disconnected) return s;
    if (auto s = deliver(c, options, text); !s) {
      if (options.repeat > 1) s.message += " (repetition " + std::to_string(n + 1) + ")";
      return s;
    }
  }
  return {};
}

} // namespace

int run_pub(const pub_options& options) {
  const command me{"pub", options.client.quiet};
  std::string text;
  if (auto s = load(options.source, text); !s) return me.complain(s.message);

  client c(options.client);
  if (auto s = c.open(); !s) return me.complain(s.message);
  const bool with_session = options.qos != mqttsn::qos_level::minus_one;
  if (with_session)
    if (auto s = c.connect(); !s) return me.complain(s.message);

  unsigned long count = 0;
  const bool lines = options.source.from == message_source::kind::lines;
  auto s = lines ? deliver_lines(c, options, count) : deliver_repeatedly(c, options, text);
  // The broker answers in order, so once it has answered DISCONNECT it has also sent every refusal
  // of a QoS 0 message.
  const auto end = c.disconnect();
  if (!s) {
    if (lines)
      s.message += " (line " + std::to_string(count + 1) + "; the " + std::to_string(count) +
                   " before it were delivered)";
    return me.complain(s.message);
  }
  if (c.refused_count() > 0)
    return me.complain(std::to_string(c.refused_count()) + " of the messages to '" +
                       options.to.name + "' were refused by the broker (" +
                       to_string(c.refused_code()) + ")");
  if (!end && options.qos == mqttsn::qos_level::zero)
    return me.complain("it is not known whether the broker accepted the message: " + end.message);
  return exit_ok;
}

} // namespace chainring::client
