// SPDX-License-Identifier: BSD-3-Clause
#include "command.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace chainring::client {
namespace {

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

} // namespace

void command::say(const std::string& sentence) const {
  if (!quiet) std::fprintf(stderr, "chainring-client %s: %s\n", name, sentence.c_str());
}

int command::complain(const std::string& why) const {
  say(why);
  return exit_failed;
}

status load(const message_source& source, std::string& text) {
  using kind = message_source::kind;
  text.clear();
  if (source.from == kind::message) {
    text = source.text;
  } else if (source.from == kind::file) {
    const int fd = ::open(source.text.c_str(), O_RDONLY | O_CLOEXEC);
    const bool read = fd >= 0 && read_all(fd, text);
    const int why = errno;
    if (fd >= 0) ::close(fd);
    if (!read) return failed("--file: cannot read '" + source.text + "': " + std::strerror(why));
  } else if (source.from == kind::whole && !read_all(STDIN_FILENO, text)) {
    return system_failed("cannot read standard input");
  }
  return {};
}

int open_stop_fd() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return signalfd(-1, &signals, SFD_CLOEXEC);
}

status begin(client& c, const client_options& options, bool with_pause,
             const std::function<status()>& prepare) {
  status s;
  for (unsigned attempt = 0; attempt <= options.retries_max; ++attempt) {
    if (with_pause || attempt > 0)
      if (s = c.doze(clock::now() + options.retry_interval); !s) return s;
    if (s = c.connect(); !s) return s;
    if (s = prepare(); s.what != outcome::disconnected) return s;
  }
  return s;
}

status subscribe_to(client& c, const topic& filter, mqttsn::qos_level qos, const command& from) {
  mqttsn::qos_level granted{};
  auto s = c.subscribe(filter, qos, granted);
  if (s && granted < qos)
    from.say("the broker granted '" + filter.name + "' only QoS " +
             std::to_string(static_cast<int>(granted)));
  return s;
}

} // namespace chainring::client
