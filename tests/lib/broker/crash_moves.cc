// SPDX-License-Identifier: BSD-3-Clause
// Messages of a group that its members get at QoS 2, crashed at every point: each moves to one
// member's own queue, and from then on no other member may get it, whatever the crash cuts off.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "crash_bounds.h"
#include "line_case.h"
#include "line_qos2.h"
#include "line_scenarios.h"
#include "line_workers.h"
#include "support/seeded.h"

namespace chainring::testing_line {

namespace {

constexpr const char* share = "SUB $share/crew/a/long/topic/# 2";
constexpr unsigned members = 2;
constexpr int receiving = first_scenario_kind;    ///< the member has said that it has the message
constexpr int received = first_scenario_kind + 1; ///< it was told to forget that it has it

/// A region with a publisher, and members of one group that take its messages at QoS 2.
void set_up_members(const line_case& kind, media& m, history& h) {
  std::string why;
  auto b = kind.open(m, true, why);
  if (b == nullptr) return h.fail(why);
  if (!connect_publisher(*b)) return h.fail("no publisher");
  for (unsigned s = 0; s < members; ++s)
    if (b->ask(subscriber_at + s, "CONNECT " + subscriber_name(s) + " -") != "OK 1" ||
        b->ask(subscriber_at + s, share) != "OK 2")
      return h.fail("no member");
}

/// What the members were given and have not received yet.
using deliveries = std::array<std::vector<message_line>, members>;

/// Notes what a member was given since.
void note_arrived(server& b, history& h, unsigned s, deliveries& all) {
  std::vector<message_line>& got = all[s];
  for (std::string line = b.next(subscriber_at + s); !line.empty();
       line = b.next(subscriber_at + s))
    if (line.starts_with("MSG ")) {
      got.emplace_back(line);
      h.promise(delivered, place(s, id_of(got.back().text)));
    }
}

/// Lets the worker run until nothing is left to do, and notes behind each burst what was given.
void run_bursts(server& b, history& h, deliveries& got) {
  for (bool more = true; more;) {
    more = b.turn(0);
    for (unsigned s = 0; s < members; ++s)
      note_arrived(b, h, s, got);
  }
}

void publish_at_qos_2(server& b, history& h, std::uint64_t id, deliveries& got) {
  h.begin(id);
  b.send(publisher_at, std::string("PUB ") + topic + " 2:7 " + text_of(id));
  run_bursts(b, h, got);
  if (!b.next(publisher_at).starts_with("OK ")) return h.fail("refused: " + std::to_string(id));
  h.ack(id);
  if (!accepted(b, "REL 7")) h.fail("the release was refused");
}

/// The member says that it has a message; `ends` says that it also ends the exchange.
void receive(server& b, history& h, unsigned s, const message_line& m, bool ends) {
  h.promise(receiving, place(s, id_of(m.text)));
  b.send(subscriber_at + s, "REC " + m.number);
  b.settle();
  if (b.next(subscriber_at + s) != "REL " + m.number) return h.fail("no release");
  h.promise(received, place(s, id_of(m.text)));
  if (!ends) return;
  b.send(subscriber_at + s, "ACK " + m.number);
  b.settle();
}

/// Each message has exactly one member: the one that was given it before the crash, or else the one
/// that gets it now.
verdict judge_members(server& b, const history& h, const std::array<std::string, members>& names) {
  std::array<taken, members> got;
  for (unsigned s = 0; s < members; ++s)
    if (verdict bad = take_everything(b, subscriber_at + s, names[s], got[s])) return bad;
  for (const taken& one : got)
    for (const std::uint64_t id : one.messages)
      if (!h.begun(id)) return "a ghost: " + std::to_string(id);
  for (const std::uint64_t id : h.ids(history::begun_kind)) {
    unsigned now = 0, before = 0;
    const std::string text = std::to_string(id);
    for (unsigned s = 0; s < members; ++s) {
      const bool here = std::ranges::count(got[s].messages, id) != 0;
      now += here;
      if (!h.has(delivered, place(s, id))) continue;
      ++before;
      if (here && h.has(received, place(s, id))) return "sent again after its release: " + text;
      if (!here && !h.has(receiving, place(s, id))) return "lost to its member: " + text;
    }
    if (before > 1 || now > 1) return "given to two members: " + text;
    for (unsigned s = 0; s < members; ++s)
      if (before != 0 && std::ranges::count(got[s].messages, id) != 0 &&
          !h.has(delivered, place(s, id)))
        return "given to another member than before: " + text;
    if (h.is_acked(id) && before + now == 0) return "lost: " + text;
  }
  return nothing_is_left(b);
}

scenario move_scenario(const std::string& name, const line_case& kind,
                       std::function<void(server&, history&)> run) {
  scenario s;
  s.name = name;
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) { set_up_members(kind, m, h); };
  s.run = [kind, run](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    for (unsigned m = 0; m < members; ++m)
      if (b->ask(subscriber_at + m, "CONNECT " + subscriber_name(m) + " -") != "OK 1 present")
        return h.fail("a member's session is not there");
    run(*b, h);
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return "does not open: " + why;
    // The message whose acknowledgement the crash cut off is sent again, as at any time at QoS 2.
    for (const std::uint64_t id : h.ids(history::begun_kind))
      if (!h.is_acked(id) && !accepted(*b, std::string("PUB ") + topic + " 2:7 " + text_of(id)))
        return "a message that is sent again was refused";
    if (!accepted(*b, "REL 7")) return "the release was refused";
    return judge_members(*b, h, {subscriber_name(0), subscriber_name(1)});
  };
  // The life after a crash gives the group one message more, which its first member takes.
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("does not open again: " + why);
    for (const std::uint64_t id : h.ids(history::begun_kind))
      if (!h.is_acked(id)) {
        if (!accepted(*b, std::string("PUB ") + topic + " 2:7 " + text_of(id)))
          return h.fail("a message that is sent again was refused");
        h.ack(id);
      }
    if (!accepted(*b, "REL 7")) return h.fail("the release was refused");
    b->send(subscriber_at, "CONNECT " + subscriber_name(0) + " -");
    b->settle();
    deliveries got;
    publish_at_qos_2(*b, h, static_cast<std::uint64_t>(10'000 * h.crashes()), got);
  };
  return s;
}

} // namespace

// Both members take messages. One of them ends an exchange, begins another and leaves; the group
// goes on with the other one.
scenario members_take_at_qos_2() {
  return move_scenario("groups: members that take at QoS 2", {}, [](server& b, history& h) {
    deliveries got;
    for (std::uint64_t id = 1; id <= 4; ++id)
      publish_at_qos_2(b, h, id, got);
    if (got[0].size() < 2 || got[1].size() < 2) return h.fail("the members did not share");
    receive(b, h, 0, got[0][0], true);
    receive(b, h, 0, got[0][1], false);
    leave(b, 0);
    got[1].clear();
    publish_at_qos_2(b, h, 5, got);
    for (const message_line& m : got[1])
      receive(b, h, 1, m, true);
  });
}

// A member leaves the group and its session goes on: what it took is still its own.
scenario members_leave_at_qos_2() {
  return move_scenario("groups: a member that leaves with messages at QoS 2", {},
                       [](server& b, history& h) {
                         deliveries got;
                         for (std::uint64_t id = 1; id <= 3; ++id)
                           publish_at_qos_2(b, h, id, got);
                         h.begin(4);
                         // In one burst with a message that may be on its way to it.
                         b.send(publisher_at, std::string("PUB ") + topic + " 2:7 " + text_of(4));
                         b.send(subscriber_at, "UNSUB $share/crew/a/long/topic/#");
                         run_bursts(b, h, got);
                         if (!b.next(publisher_at).starts_with("OK ")) return h.fail("refused");
                         h.ack(4);
                         if (!accepted(b, "REL 7")) h.fail("the release was refused");
                       });
}

// Both workers lease from the group's queue, mark its slots and release it, while each moves what
// its member takes.
scenario workers_move_messages_of_a_group() {
  const line_case kind = on_two_workers({});
  scenario s;
  s.name = "groups: members at QoS 2 on two workers";
  s.size = 128 << 10;
  s.setup = [=](media& m, history& h) { set_up_members_of_workers(kind, share, m, h); };
  s.run = [=](media& m, history& h) {
    run_members_of_workers(
        kind, m, h,
        [](std::uint64_t id) {
          return std::string("PUB ") + topic + " 2:" + std::to_string(id) + " " + text_of(id);
        },
        [](server&, history& h, unsigned w, const message_line& got) {
          h.promise(delivered, place(w, id_of(got.text)));
        });
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    for (unsigned w = 0; w < 2; ++w) {
      (void)b->ask(publisher_at + w, "CONNECT " + publisher_of(*b, w) + " -");
      for (const std::uint64_t id : {w + 1, w + 3})
        if (!b->ask(publisher_at + w, "REL " + std::to_string(id)).starts_with("OK "))
          return "a release was refused";
    }
    for (const std::uint64_t id : h.ids(history::begun_kind))
      if (h.has(refused, id) && (h.has(delivered, place(0, id)) || h.has(delivered, place(1, id))))
        return "refused, and delivered: " + std::to_string(id);
    return judge_members(*b, h, {member_of(*b, 0), member_of(*b, 1)});
  };
  return s;
}

namespace {

TEST(CrashMoves, MembersOnTwoWorkersLoseNothingAndShareNothing) {
  const test::explorer_options under{
      .states_max = 24,
      .sample = true,
      .depth = 1,
      .schedules = {.random = 8, .preemptions = 1, .enumerated_max = 12}};
  EXPECT_TRUE(explore(workers_move_messages_of_a_group(), test::bounds(under, under)).ok());
}
TEST(CrashMoves, EveryMessageAtQos2HasOneMember) {
  EXPECT_TRUE(explore(members_take_at_qos_2(), testing_core::crash_bounds()).ok());
}
TEST(CrashMoves, AMemberThatLeavesKeepsWhatItTook) {
  EXPECT_TRUE(explore(members_leave_at_qos_2(), testing_core::crash_bounds()).ok());
}

// The tester tested.
TEST(CrashMoves, SeededBugsAreFound) {
  for (const char* bug :
       {"groups.marked_before_moved", "groups.mark_not_drained", "ring.recover_moved_twice"})
    testing_core::expect_bug(bug, members_take_at_qos_2());
}

} // namespace
} // namespace chainring::testing_line
