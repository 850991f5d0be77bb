// SPDX-License-Identifier: BSD-3-Clause
/// Crash scenarios of two workers, each with a publisher and a member of one group, which run in an
/// order that the explorer chooses.
#pragma once
#include <atomic>
#include <functional>
#include <string>

#include "base/hook.h"
#include "line_case.h"

namespace chainring::testing_line {

/// `kind` with two workers.
inline line_case on_two_workers(line_case kind) {
  kind.config.workers = 2;
  kind.config.home_seed = 1;
  return kind;
}
inline std::string publisher_of(server& b, unsigned w) {
  return identity_at(b.broker(), w, "publisher");
}
inline std::string member_of(server& b, unsigned w) {
  return identity_at(b.broker(), w, "member");
}

inline void set_up_members_of_workers(const line_case& kind, const std::string& share, media& m,
                                      history& h) {
  std::string why;
  auto b = kind.open(m, true, why);
  if (b == nullptr) return h.fail(why);
  for (unsigned w = 0; w < 2; ++w) {
    (void)b->ask(publisher_at + w, "CONNECT " + publisher_of(*b, w) + " -");
    if (b->ask(subscriber_at + w, "CONNECT " + member_of(*b, w) + " -") != "OK 1" ||
        b->ask(subscriber_at + w, share) != "OK 2")
      return h.fail("no member");
  }
}

/// Each worker publishes two messages, and its member is given what it takes. `publish(id)` is the
/// line of a publish, and `given(b, h, w, line)` is called for each delivery.
inline void run_members_of_workers(
    const line_case& kind, media& m, history& h,
    const std::function<std::string(std::uint64_t)>& publish,
    const std::function<void(server&, history&, unsigned, const message_line&)>& given) {
  std::string why;
  auto b = kind.open(m, false, why);
  if (b == nullptr) return h.fail(why);
  for (unsigned w = 0; w < 2; ++w) {
    (void)b->ask(publisher_at + w, "CONNECT " + publisher_of(*b, w) + " -");
    (void)b->ask(subscriber_at + w, "CONNECT " + member_of(*b, w) + " -");
  }
  std::atomic<unsigned> over{0}; // messages that were given to a member, or refused
  const auto part = [&](unsigned w, std::uint64_t first) {
    return [&, w, first] {
      for (const std::uint64_t id : {first, first + 2}) {
        h.begin(id, usual_size);
        b->send(publisher_at + w, publish(id));
      }
      std::uint64_t next = first;
      for (int i = 0; i < 100'000 && over < 4; ++i) {
        b->turn(w);
        for (std::string said = b->next(publisher_at + w); !said.empty();
             said = b->next(publisher_at + w), next += 2)
          if (said.starts_with("OK ")) {
            h.ack(next);
          } else { // the other worker links the first ring of the queue just then
            h.promise(refused, next);
            ++over;
          }
        for (std::string line = b->next(subscriber_at + w); !line.empty();
             line = b->next(subscriber_at + w)) {
          if (!line.starts_with("MSG ")) continue;
          given(*b, h, w, message_line(line));
          ++over;
        }
        hook_point("idle");
      }
      b->turn(w);
    };
  };
  test::interleave(h.threads(), {part(0, 1), part(1, 2)});
  if (over != 4) h.fail("a message reached no member");
}

} // namespace chainring::testing_line
