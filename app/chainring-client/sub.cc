// SPDX-License-Identifier: BSD-3-Clause
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "options.h"

namespace chainring::client {
namespace {

int complain(const std::string& why) {
  std::fprintf(stderr, "chainring-client sub: %s\n", why.c_str());
  return exit_failed;
}

/// Opens a descriptor that becomes readable on SIGINT and SIGTERM, so that the client can end its
/// session properly before it exits.
int open_stop_fd() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return signalfd(-1, &signals, SFD_CLOEXEC);
}

/// Prints the message. Returns true when the whole of it is handed to standard output.
bool print(const delivery& d, const sub_options& options) {
  if (options.verbose) std::fprintf(stdout, "%s ", d.topic.c_str());
  std::fwrite(d.payload.data(), 1, d.payload.size(), stdout);
  if (options.newline) std::fputc('\n', stdout);
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

status subscribe_all(client& c, const sub_options& options) {
  /// Makes all subscriptions of the command line.
  for (const auto& filter : options.filters) {
    mqttsn::qos_level granted{};
    if (auto s = c.subscribe(filter, options.qos, granted); !s) return s;
    if (granted < options.qos)
      std::fprintf(stderr, "chainring-client sub: the broker granted '%s' only QoS %d\n",
                   filter.name.c_str(), static_cast<int>(granted));
  }
  return {};
}

/// Connects and subscribes, and starts again when the broker ends the session in between.
status begin(client& c, const sub_options& options) {
  status s;
  for (unsigned attempt = 0; attempt <= options.client.retries_max; ++attempt) {
    if (s = c.connect(); !s) return s;
    if (s = subscribe_all(c, options); s.what != outcome::disconnected) return s;
  }
  return s;
}

/// Waits before the next session, so that a broker that ends every session at once is not flooded.
bool pause(const client_options& options) {
  pollfd stop{options.stop_fd, POLLIN, 0};
  return ::poll(&stop, 1, static_cast<int>(options.retry_interval.count())) == 0;
}

} // namespace

int run_sub(const sub_options& given) {
  sub_options options = given;
  std::signal(SIGPIPE, SIG_IGN);
  options.client.stop_fd = open_stop_fd();
  if (options.client.stop_fd < 0)
    return complain(std::string("cannot wait for signals: ") + std::strerror(errno));

  client c(options.client);
  if (auto s = c.open(); !s) return complain(s.message);
  auto s = begin(c, options);
  const auto deadline =
      options.timeout ? clock::now() + *options.timeout : clock::time_point::max();
  for (unsigned long seen = 0; s && (options.count == 0 || seen < options.count);) {
    std::optional<delivery> d;
    s = c.next(deadline, d);
    if (s.what == outcome::disconnected || s.what == outcome::no_answer) {
      std::fprintf(stderr, "chainring-client sub: %s; connecting again\n", s.message.c_str());
      if (!pause(options.client))
        s = {outcome::interrupted, {}, "interrupted"};
      else
        s = begin(c, options);
      continue;
    }
    if (!s) break;
    if (!d) {
      static_cast<void>(c.disconnect());
      std::fprintf(stderr, "chainring-client sub: the time of --timeout is over\n");
      return exit_timeout;
    }
    // A message is acknowledged only after it is printed, so the broker sends it again if it is
    // not.
    if (!print(*d, options)) {
      const int why = errno;
      static_cast<void>(c.disconnect());
      return complain(std::string("cannot write to standard output: ") + std::strerror(why));
    }
    ++seen;
    s = c.acknowledge(*d);
  }
  if (s.what == outcome::interrupted) {
    c.ignore_stop();
    static_cast<void>(c.disconnect());
    return exit_ok;
  }
  const auto end = c.disconnect();
  if (!s) return complain(s.message);
  if (!end && end.what != outcome::disconnected && end.what != outcome::interrupted)
    return complain(end.message);
  return exit_ok;
}

} // namespace chainring::client
