// SPDX-License-Identifier: BSD-3-Clause
#include <cerrno>
#include <csignal>
#include <cstring>

#include "command.h"
#include "format.h"

namespace chainring::client {
namespace {

/// Takes all messages that came before the request was sent; none of them is its response.
status pass_over(client& c) {
  for (;;) {
    std::optional<delivery> d;
    if (auto s = c.next(clock::now(), d); !s || !d) return s;
    if (auto s = c.acknowledge(*d); !s) return s;
  }
}

/// Waits for the response. `out` stays empty when none came by the deadline. A retained message is
/// an old one and no response.
status wait_for_response(client& c, clock::time_point deadline, std::optional<delivery>& out) {
  for (;;) {
    if (auto s = c.next(deadline, out); !s || !out || !out->flags.retain()) return s;
    if (auto s = c.acknowledge(*out); !s) return s;
  }
}

} // namespace

int run_rr(const rr_options& given) {
  rr_options options = given;
  const command me{"rr", options.client.quiet};
  std::string text;
  if (auto s = load(options.source, text); !s) return me.complain(s.message);
  std::signal(SIGPIPE, SIG_IGN);
  options.client.stop_fd = open_stop_fd();
  if (options.client.stop_fd < 0)
    return me.complain(std::string("cannot wait for signals: ") + std::strerror(errno));

  client c(options.client);
  if (auto s = c.open(); !s) return me.complain(s.message);
  bool sent = false, tried = false;
  const auto prepare = [&]() -> status {
    if (auto s = subscribe_to(c, options.response, options.qos, me); !s) return s;
    if (sent) return {};
    if (!tried)
      if (auto s = pass_over(c); !s) return s;
    auto s = c.publish(options.request, std::as_bytes(std::span(text)), options.qos, options.retain,
                       tried);
    tried = true;
    sent = static_cast<bool>(s);
    return s;
  };
  auto s = begin(c, options.client, false, prepare);
  const auto deadline = clock::now() + options.timeout;
  std::optional<delivery> response;
  while (s) {
    s = wait_for_response(c, deadline, response);
    if (s.what != outcome::disconnected && s.what != outcome::no_answer) break;
    me.say(s.message + "; connecting again");
    s = begin(c, options.client, true, prepare);
  }
  if (s && !response) {
    static_cast<void>(c.disconnect());
    me.say("no response to '" + options.request.name + "' came on '" + options.response.name +
           "' in " + in_seconds(options.timeout) +
           "; check that a responder is connected and publishes there, or allow more with "
           "--timeout");
    return exit_timeout;
  }
  if (s && !print(*response, options.output)) s = system_failed("cannot write to standard output");
  if (s) s = c.acknowledge(*response);
  c.ignore_stop();
  static_cast<void>(c.disconnect());
  if (s) return exit_ok;
  return me.complain(s.what == outcome::interrupted ? "interrupted before the response came"
                                                    : s.message);
}

} // namespace chainring::client
