// SPDX-License-Identifier: BSD-3-Clause
// Shared subscriptions crashed at every point, under the line front end: members that acknowledge
// in any order, and a group that ends and is made again.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/hook.h"
#include "broker/access.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"
#include "line_workers.h"
#include "support/seeded.h"

namespace chainring::testing_line {

namespace {

constexpr const char* share = "SUB $share/crew/a/long/topic/# 1";
constexpr int group_begun = first_scenario_kind;       ///< from here on the group may be made again
constexpr int group_joined = first_scenario_kind + 2;  ///< from here on it has members again
constexpr int group_renewed = first_scenario_kind + 1; ///< from here on nothing old may come

line_case group_case() {
  line_case kind;
  kind.subscribers = 2;
  return kind;
}

/// A region whose two subscribers are members of one group and want nothing else.
void set_up_group(const line_case& kind, media& m, history& h) {
  std::string why;
  auto b = kind.open(m, true, why);
  if (b == nullptr) return h.fail(why);
  (void)b->ask(publisher_at, "CONNECT publisher -");
  for (unsigned s = 0; s < kind.subscribers; ++s) {
    const unsigned at = subscriber_at + s;
    if (b->ask(at, "CONNECT " + subscriber_name(s) + " -") != "OK 1" || b->ask(at, share) != "OK 2")
      return h.fail("no member");
    leave(*b, s);
  }
}

/// The members take everything that is there. Every message is found at most once; the oracle's
/// place of a message is that of member 0, because one queue serves both.
verdict judge_group(server& b, const history& h) {
  std::vector<std::uint64_t> got;
  for (unsigned s = 0; s < 2; ++s) {
    const unsigned at = subscriber_at + s;
    if (b.ask(at, "CONNECT " + subscriber_name(s) + " -") != "OK 1 present")
      return "a member's session is lost";
    for (std::string line = b.next(at); !line.empty(); line = b.next(at)) {
      const message_line m(line);
      const std::uint64_t id = id_of(m.text);
      if (id == 0 || !h.begun(id)) return "ghost: " + m.text;
      if (m.text != text_of(id)) return "torn: " + m.text;
      if (std::ranges::count(got, id) != 0) return "given to two members: " + m.text;
      if (h.has(forgotten, place(0, id)))
        return "delivered again after its acknowledgement was durable: " + std::to_string(id);
      if (h.has(group_renewed, 0) && id == 1) return "a message of the group that ended";
      got.push_back(id);
      b.send(at, "ACK " + m.number);
      b.settle();
    }
  }
  for (const std::uint64_t id : h.ids(history::begun_kind)) {
    if (!h.is_acked(id) || std::ranges::count(got, id) != 0) continue;
    if (h.has(acknowledging, place(0, id))) continue;
    // Nobody wants what is published while the group has ended.
    if (h.has(group_begun, 0) && (id == 1 || !h.has(group_joined, 0))) continue;
    return "lost: " + std::to_string(id);
  }
  b.settle();
  if (b.broker().message_statistics().live != 0) return "messages are live that nothing reaches";
  return {};
}

scenario group_scenario(const std::string& name, std::function<void(server&, history&)> run) {
  const line_case kind = group_case();
  scenario s = line_scenario(name, kind, std::move(run));
  s.setup = [kind](media& m, history& h) { set_up_group(kind, m, h); };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    return judge_group(*b, h);
  };
  return s;
}

/// Acknowledges the message with that number, whoever has it. Behind the burst that is durable.
void acknowledge_one(server& b, history& h, std::vector<in_flight>& members, std::uint64_t id) {
  for (in_flight& f : members)
    for (std::size_t i = 0; i < f.lines.size(); ++i)
      if (id_of(f.lines[i].text) == id) {
        h.promise(acknowledging, place(0, id));
        b.send(subscriber_at + f.subscriber, "ACK " + f.lines[i].number);
        b.settle();
        h.promise(forgotten, place(0, id));
        return;
      }
  h.fail("nobody has message " + std::to_string(id));
}

} // namespace

// Every acknowledgement is durable by itself, also while an older message is not acknowledged.
scenario members_acknowledge_in_any_order() {
  return group_scenario("groups: members acknowledge in any order", [](server& b, history& h) {
    std::vector<in_flight> members;
    for (unsigned s = 0; s < 2; ++s)
      members.push_back(connect_subscriber(b, h, s));
    publish(b, h, 1, 4);
    for (in_flight& f : members)
      f.take(b, h);
    acknowledge_one(b, h, members, 3);
    acknowledge_one(b, h, members, 2);
    acknowledge_one(b, h, members, 1);
    publish(b, h, 5, 1);
  });
}

// Both members leave, so that the group ends with a message in its queue, and both come back.
scenario group_ended_and_made_again() {
  return group_scenario("groups: a group that ends and is made again", [](server& b, history& h) {
    publish(b, h, 1, 1);
    h.promise(group_begun, 0);
    for (unsigned s = 0; s < 2; ++s) {
      const unsigned at = subscriber_at + s;
      (void)b.ask(at, "CONNECT " + subscriber_name(s) + " -");
      if (!b.ask(at, "UNSUB $share/crew/a/long/topic/#").starts_with("OK"))
        return h.fail("a member cannot leave");
    }
    b.settle();
    h.promise(group_renewed, 0);
    for (unsigned s = 0; s < 2; ++s) {
      const unsigned at = subscriber_at + s;
      if (!b.ask(at, share).starts_with("OK")) return h.fail("a member cannot come back");
      b.forget(at);
    }
    h.promise(group_joined, 0);
    publish(b, h, 2, 1);
    leave(b, 0);
    leave(b, 1);
  });
}

// A member on each of two workers. Each worker publishes, and its member acknowledges what it gets,
// while the other worker does the same with the same queue.
scenario workers_share_a_group() {
  const line_case kind = on_two_workers(group_case());
  scenario s;
  s.name = "groups: members on two workers";
  s.size = 128 << 10;
  s.setup = [=](media& m, history& h) { set_up_members_of_workers(kind, share, m, h); };
  s.run = [=](media& m, history& h) {
    run_members_of_workers(
        kind, m, h,
        [](std::uint64_t id) { return std::string("PUB ") + topic + " 1 " + text_of(id); },
        [](server& b, history& h, unsigned w, const message_line& got) {
          h.promise(acknowledging, place(0, id_of(got.text)));
          b.send(subscriber_at + w, "ACK " + got.number);
        });
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    std::vector<std::uint64_t> found;
    for (unsigned w = 0; w < 2; ++w) {
      const unsigned at = subscriber_at + w;
      if (b->ask(at, "CONNECT " + member_of(*b, w) + " -") != "OK 1 present")
        return "a member's session is lost";
      for (std::string line = b->next(at); !line.empty(); line = b->next(at)) {
        const message_line got(line);
        const std::uint64_t id = id_of(got.text);
        if (id == 0 || !h.begun(id) || got.text != text_of(id)) return "ghost or torn: " + got.text;
        if (std::ranges::count(found, id) != 0) return "given to two members: " + got.text;
        if (h.has(refused, id)) return "refused, and delivered: " + got.text;
        found.push_back(id);
        b->send(at, "ACK " + got.number);
        b->settle();
      }
    }
    for (const std::uint64_t id : h.ids(history::begun_kind))
      if (h.is_acked(id) && std::ranges::count(found, id) == 0 &&
          !h.has(acknowledging, place(0, id)))
        return "lost: " + std::to_string(id);
    b->settle();
    if (b->broker().message_statistics().live != 0) return "messages are live that nothing reaches";
    return {};
  };
  return s;
}

namespace {

TEST(CrashGroups, MembersOnTwoWorkersLoseNothingAndShareNothing) {
  const test::explorer_options under{
      .states_max = 24,
      .sample = true,
      .depth = 1,
      .schedules = {.random = 8, .preemptions = 1, .enumerated_max = 12}};
  EXPECT_TRUE(explore(workers_share_a_group(), test::bounds(under, under)).ok());
}
TEST(CrashGroups, AnAcknowledgementIsDurableThoughAnOlderMessageIsNotAcknowledged) {
  EXPECT_TRUE(explore(members_acknowledge_in_any_order(), testing_core::crash_bounds()).ok());
}
TEST(CrashGroups, AGroupThatEndedHasNothingOfItsEarlierLife) {
  EXPECT_TRUE(explore(group_ended_and_made_again(), testing_core::crash_bounds()).ok());
}

// The tester tested: a slot that was not flushed, and a group that an open keeps without members.
TEST(CrashGroups, SeededBugsAreFound) {
  const std::pair<const char*, scenario (*)()> cases[] = {
      {"groups.ack_unflushed", members_acknowledge_in_any_order},
      {"store.group_kept", group_ended_and_made_again}};
  for (const auto& [bug, in] : cases)
    testing_core::expect_bug(bug, in());
}

} // namespace
} // namespace chainring::testing_line
