// SPDX-License-Identifier: BSD-3-Clause
// Groups of shared subscriptions as records, crashed at every point: more memberships in a burst
// than a batch of the map holds, names longer than a record, groups that end side by side, groups
// that an open finds without members, and group queues that get smaller rings.
#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "broker/access.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"
#include "map/durable_map.h"

namespace chainring::testing_line {

namespace {

/// More than a batch holds, so that the burst commits some before its own drain.
constexpr unsigned many = durable_map::batch::changes_max + 3;
constexpr unsigned stayer_at = 300, comer_at = 301, other_at = 302;

constexpr int all_joined = first_scenario_kind; ///< the second client is a member everywhere
constexpr int leaving = first_scenario_kind + 1;
constexpr int all_left = first_scenario_kind + 2;

constexpr const char* crew = "$share/crew/a/long/topic/#";
constexpr const char* band = "$share/band/another/topic/#";
/// Longer than a group's record holds.
constexpr const char* long_name = "$share/crew/of/a/name/longer/than/a/record/holds";

std::string share_of(unsigned i) {
  return "$share/g/" + std::to_string(i);
}

/// Sends one request for each of the many groups, and for the one with a long name, in one burst.
bool ask_for_all(server& b, unsigned at, const std::string& verb) {
  const std::string qos = verb == "SUB" ? " 1" : "";
  for (unsigned i = 0; i < many; ++i)
    b.send(at, verb + " " + share_of(i) + qos);
  b.send(at, verb + " " + long_name + qos);
  b.settle();
  unsigned answered = 0;
  for (std::string line = b.next(at); !line.empty(); line = b.next(at))
    answered += line.starts_with("OK ");
  return answered == many + 1;
}

line_case member_case() {
  line_case kind;
  kind.subscribers = 1;
  kind.layout.groups_max = 2;
  return kind;
}

/// The subscriber's session, and a second one; nobody is a member of a group yet.
void set_up_sessions(const line_case& kind, media& m, history& h) {
  std::string why;
  auto b = kind.open(m, true, why);
  if (b == nullptr) return h.fail(why);
  (void)b->ask(publisher_at, "CONNECT publisher -");
  if (b->ask(subscriber_at, "CONNECT " + subscriber_name(0) + " -") != "OK 1" ||
      b->ask(other_at, "CONNECT other -") != "OK 1")
    h.fail("no session");
}

/// After a crash in a scenario in which nobody may want a message by now.
std::function<void(media&, history&)> only_open(const line_case& kind) {
  return [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
}

} // namespace

// One client is a member of many groups. A second one joins all of them in one burst, and one group
// of its own, and leaves all of them in another burst.
scenario many_memberships_in_a_burst() {
  line_case kind;
  kind.layout.subscriptions_max = 256;
  kind.layout.groups_max = many + 1;
  kind.config.group_members_max = 2;
  kind.config.group_memberships_per_session_max = many + 1;
  scenario s;
  s.name = "groups: more memberships in a burst than a batch holds";
  s.size = 256 << 10;
  s.setup = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, true, why);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(comer_at, "CONNECT comer -");
    (void)b->ask(stayer_at, "CONNECT stayer -");
    for (unsigned i = 0; i < many; ++i)
      if (!b->ask(stayer_at, "SUB " + share_of(i) + " 1").starts_with("OK "))
        return h.fail("no member");
  };
  s.run = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(comer_at, "CONNECT comer -");
    if (!ask_for_all(*b, comer_at, "SUB")) return h.fail("not every membership was accepted");
    h.promise(all_joined, 0);
    h.promise(leaving, 0);
    if (!ask_for_all(*b, comer_at, "UNSUB")) return h.fail("the client cannot leave every group");
    h.promise(all_left, 0);
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    const unsigned members = b->broker().group_member_count();
    if (members < many) return "the first client has lost memberships";
    if (h.has(all_joined, 0) && !h.has(leaving, 0) && members != 2 * many + 1)
      return "memberships are lost: " + std::to_string(2 * many + 1 - members);
    if (h.has(all_left, 0) && members != many)
      return "memberships are back: " + std::to_string(members - many);
    return {};
  };
  return s;
}

// Two groups end in one burst, and the one that is made again gets the number of the other. If the
// end of its first record could come undone, two records would name the group.
scenario groups_end_side_by_side() {
  const line_case kind = member_case();
  scenario s = line_scenario(
      "groups: two that end, and one that gets the number of the other", kind,
      [](server& b, history& h) {
        store& all = broker_access::state(b.broker());
        (void)b.ask(subscriber_at, "CONNECT " + subscriber_name(0) + " -");
        (void)b.ask(other_at, "CONNECT other -");
        b.send(subscriber_at, std::string("UNSUB ") + crew);
        b.send(other_at, std::string("UNSUB ") + band);
        b.settle();
        if (b.broker().group_count() != 0) return h.fail("the groups did not end");
        b.forget(subscriber_at);
        b.forget(other_at);
        if (!b.ask(subscriber_at, std::string("SUB ") + crew + " 1").starts_with("OK "))
          return h.fail("the member cannot come back");
        if (all.groups().word0(1).state != session_state::used)
          return h.fail("the group has not got the number of the other");
        publish(b, h, 1, 1);
        leave(b, 0);
      });
  s.setup = [kind](media& m, history& h) {
    set_up_sessions(kind, m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(subscriber_at, "CONNECT " + subscriber_name(0) + " -");
    (void)b->ask(other_at, "CONNECT other -");
    if (b->ask(subscriber_at, std::string("SUB ") + crew + " 1") != "OK 2" ||
        b->ask(other_at, std::string("SUB ") + band + " 1") != "OK 2")
      h.fail("no members");
  };
  s.continue_after = only_open(kind);
  return s;
}

// A crash has left the record of a group behind the erasure of its last member. The open deletes
// the group, and the content of messages takes the blocks of its name.
scenario group_without_members() {
  const line_case kind = member_case();
  scenario s = line_scenario("groups: a group that an open finds without members", kind,
                             [](server& b, history& h) {
                               publish(b, h, 1, 12, 900);
                               if (!h.is_acked(12)) h.fail("there was no room for the content");
                             });
  s.setup = [kind](media& m, history& h) {
    kind.set_up(m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    session_table& groups = broker_access::state(b->broker()).groups();
    const std::string name = std::string(long_name).substr(std::string("$share/").size());
    if (!groups.create_start(0, name, 0, {})) return h.fail("no record");
    groups.flush_record(0);
    b->broker().medium().drain();
  };
  return s;
}

// The queue of a group has become empty, and the worker gives it a smaller ring when it looks after
// its queues.
scenario group_queues_that_shrink() {
  line_case kind = member_case();
  kind.config.queue_slots_first = 2;
  scenario s =
      line_scenario("groups: a queue that gets a smaller ring", kind, [](server& b, history& h) {
        publish(b, h, 1, 2);
        publish(b, h, 3, 1); // in a second, larger ring
        consume(b, h, 0, 3);
        const auto shrunk = [&] { return b.broker().group_queue_statistics().shrunk == 1; };
        for (const std::time_t begin = std::time(nullptr);
             !shrunk() && std::time(nullptr) < begin + 60;)
          b.settle();
        if (!shrunk()) return h.fail("the queue did not get a smaller ring");
        publish(b, h, 4, 1);
      });
  s.setup = [kind](media& m, history& h) {
    set_up_sessions(kind, m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(subscriber_at, "CONNECT " + subscriber_name(0) + " -");
    if (b->ask(subscriber_at, std::string("SUB ") + crew + " 1") != "OK 2") h.fail("no member");
  };
  return s;
}

namespace {

TEST(CrashGroups, MembershipsOfMoreThanABatchAreThereOrGoneOnceSettled) {
  EXPECT_TRUE(explore(many_memberships_in_a_burst(), testing_core::crash_bounds()).ok());
}
TEST(CrashGroups, AGroupThatIsMadeAgainAtAnotherNumberLosesNothing) {
  EXPECT_TRUE(explore(groups_end_side_by_side(), testing_core::crash_bounds()).ok());
}
TEST(CrashGroups, AGroupWithoutMembersIsDeletedForGood) {
  EXPECT_TRUE(explore(group_without_members(), testing_core::crash_bounds()).ok());
}
TEST(CrashGroups, AGroupQueueWithASmallerRingLosesNothing) {
  EXPECT_TRUE(explore(group_queues_that_shrink(), testing_core::crash_bounds()).ok());
}

} // namespace
} // namespace chainring::testing_line
