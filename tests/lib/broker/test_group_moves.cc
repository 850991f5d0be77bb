// SPDX-License-Identifier: BSD-3-Clause
// Messages of groups at QoS 2, under the line front end: each moves to one member's own queue, and
// stays with that member.
#include <algorithm>

#include "groups_fixture.h"

namespace chainring::testing_line {
namespace {

class GroupMoves : public Groups {
 protected:
  /// Publishes texts first .. last at QoS 2.
  void publish(int first, int last) {
    for (int i = first; i <= last; ++i) {
      ASSERT_TRUE(ask(alice, "PUB a/b 2:7 " + std::to_string(i)).starts_with("OK ")) << i;
      ASSERT_TRUE(ask(alice, "REL 7").starts_with("OK ")) << i;
    }
  }
  void join(unsigned count, const char* qos = "2") {
    for (unsigned m = 0; m < count; ++m) {
      ASSERT_TRUE(connect(m));
      ASSERT_TRUE(subscribe(m, "$share/g/a/#", qos));
    }
  }
  /// One member, whose own queue has one slot left. A move needs two.
  void join_with_a_full_queue() {
    config.queue_slots = 15;
    config.queue_slots_first = 0;
    server.reset();
    start();
    join(1);
    ASSERT_TRUE(ask(members_at, "SUB own 1").starts_with("OK "));
    for (int i = 0; i < 14; ++i)
      ASSERT_TRUE(ask(alice, "PUB own 1 " + std::to_string(i)).starts_with("OK "));
  }
  std::vector<std::string> lines_of(unsigned m) {
    std::vector<std::string> all;
    for (std::string line = server->next(members_at + m); !line.empty();
         line = server->next(members_at + m))
      all.push_back(line);
    return all;
  }
  /// Ends the exchange of a delivery.
  void receive(unsigned m, const arrived& a) {
    send(members_at + m, "REC " + a.number);
    EXPECT_EQ(lines_of(m), lines{"REL " + a.number});
    send(members_at + m, "ACK " + a.number);
  }
  void leave(unsigned m) {
    send(members_at + m, "BYE");
    server->forget(members_at + m);
  }
  [[nodiscard]] broker_counters counters() { return server->broker().counters(); }
  using lines = std::vector<std::string>;
};

TEST_P(GroupMoves, EachMessageGoesToOneMemberAtQos2) {
  join(2);
  publish(1, 4);
  std::vector<std::string> all;
  for (unsigned m = 0; m < 2; ++m) {
    for (const arrived& a : take(m)) {
      EXPECT_EQ(a.qos, "2");
      EXPECT_EQ(a.flags, "-");
      all.push_back(a.text);
      receive(m, a);
    }
  }
  std::ranges::sort(all);
  EXPECT_EQ(all, (texts{"1", "2", "3", "4"}));
  EXPECT_EQ(counters().group_moves, 4u);
  EXPECT_EQ(groups().at(0).leased, 0u);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(GroupMoves, AMessageAtALowerQosMovesNowhere) {
  join(1);
  ASSERT_TRUE(ask(alice, "PUB a/b 1 one").starts_with("OK "));
  const auto got = take(0);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].qos, "1");
  acknowledge(0, got[0]);
  EXPECT_EQ(counters().group_moves, 0u);
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/other/a/#", "1"));
  publish(1, 1);
  ASSERT_EQ(take(0).size(), 1u);
  const auto lower = take(1);
  ASSERT_EQ(lower.size(), 1u);
  EXPECT_EQ(lower[0].qos, "1");
  EXPECT_EQ(counters().group_moves, 1u);
}

// The client may have the message, so nobody else gets it, as MQTT 5 has it (4.8.2).
TEST_P(GroupMoves, AMessageStaysWithTheMemberThatTookIt) {
  join(2);
  publish(1, 1);
  const unsigned taker = server->waiting(members_at) != 0 ? 0 : 1, other = 1 - taker;
  const auto first = take(taker);
  ASSERT_EQ(first.size(), 1u);
  leave(taker);
  EXPECT_TRUE(take(other).empty());
  leave(other);
  ASSERT_TRUE(connect(other));
  EXPECT_TRUE(take(other).empty());
  ASSERT_TRUE(connect(taker));
  const auto again = take(taker);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].text, "1");
  EXPECT_EQ(again[0].flags, "again");
  receive(taker, again[0]);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(GroupMoves, AMemberThatUnsubscribesGetsWhatItTook) {
  join(2);
  publish(1, 2);
  const auto got = take(0);
  ASSERT_EQ(got.size(), 1u);
  ASSERT_TRUE(ask(members_at, "UNSUB $share/g/a/#").starts_with("OK "));
  receive(0, got[0]);
  for (const arrived& a : take(1))
    receive(1, a);
  publish(3, 3);
  EXPECT_EQ(take_texts(1, false), texts{"3"});
}

TEST_P(GroupMoves, ACleanStartOfAMemberEndsWhatItTook) {
  join(2);
  publish(1, 2);
  ASSERT_EQ(take(0).size(), 1u);
  leave(0);
  ASSERT_TRUE(connect(0, "clean"));
  EXPECT_TRUE(take(0).empty());
  for (const arrived& a : take(1))
    receive(1, a);
  server->settle();
  EXPECT_EQ(live(), 0u) << "nobody gets the message of the session that ended";
}

TEST_P(GroupMoves, AMemberTakesNoMoreThanItsWindow) {
  constexpr unsigned window = test::line_front_end::window;
  join(1);
  publish(1, 40);
  const auto first = take(0);
  EXPECT_EQ(first.size(), window);
  EXPECT_EQ(counters().group_moves, window);
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#", "2"));
  EXPECT_EQ(take(1).size(), window) << "the others wait for whichever member is free";
  for (const arrived& a : first)
    send(members_at, "REC " + a.number);
  (void)lines_of(0);
  for (const arrived& a : first)
    send(members_at, "ACK " + a.number);
  EXPECT_EQ(take(0).size(), 40 - 2 * window);
}

// A member whose own queue is full, of messages that it does not take, holds up nobody.
TEST_P(GroupMoves, AMessageGoesToAnotherMemberWhereAQueueIsFull) {
  join_with_a_full_queue();
  EXPECT_EQ(take(0).size(), 14u);
  publish(1, 1);
  EXPECT_TRUE(take(0).empty());
  EXPECT_GE(counters().group_moves_refused, 1u);
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#", "2"));
  EXPECT_TRUE(wait_until([&] { return server->waiting(members_at + 1) != 0; }));
  const auto got = take(1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].text, "1");
}

TEST_P(GroupMoves, TheOnlyMemberGetsItsMessageOnceItsQueueHasRoom) {
  join_with_a_full_queue();
  const auto own = take(0);
  publish(1, 1);
  EXPECT_TRUE(take(0).empty());
  for (const arrived& a : own)
    acknowledge(0, a);
  EXPECT_TRUE(wait_until([&] { return server->waiting(members_at) != 0; }));
  EXPECT_EQ(take_texts(0, false), texts{"1"});
}

TEST_P(GroupMoves, AMessageThatWasSentAtQos1StaysAtQos1) {
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#", "2")); // the group keeps messages at QoS 2
  leave(1);
  join(1, "1");
  publish(1, 1);
  const auto first = take(0);
  ASSERT_EQ(first.size(), 1u);
  ASSERT_EQ(first[0].qos, "1");
  ASSERT_TRUE(subscribe(0, "$share/g/a/#", "2"));
  send(members_at, "NACK " + first[0].number);
  const auto again = take(0);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].qos, "1");
  EXPECT_EQ(again[0].flags, "again");
  EXPECT_EQ(counters().group_moves, 0u);
}

TEST_P(GroupMoves, AQueueOfOneSlotGetsMessagesAtQos1) {
  config.queue_slots_clean = 1;
  server.reset();
  start();
  ASSERT_TRUE(connect(0, "passing"));
  ASSERT_TRUE(subscribe(0, "$share/g/a/#", "2"));
  publish(1, 1);
  const auto got = take(0);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].qos, "1");
  acknowledge(0, got[0]);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

// What moves stands behind the member's own messages, and they do not keep it out.
TEST_P(GroupMoves, AMemberWithABacklogOfItsOwnGetsMessagesOfItsGroupToo) {
  join(1);
  ASSERT_TRUE(ask(members_at, "SUB own 1").starts_with("OK "));
  send(members_at, "STOP");
  for (int i = 0; i < 40; ++i)
    ASSERT_TRUE(ask(alice, "PUB own 1 own").starts_with("OK "));
  publish(1, 10);
  send(members_at, "GO");
  unsigned from_group = 0, own = 0;
  while (from_group < 10) {
    const auto got = take(0);
    ASSERT_FALSE(got.empty());
    for (const arrived& a : got) {
      ++(a.qos == "2" ? from_group : own);
      if (a.qos == "2") send(members_at, "REC " + a.number);
      acknowledge(0, a);
    }
  }
  EXPECT_EQ(own, 40u);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(GroupMoves, ASleeperGetsWhatItTookBeforeWhenItWakes) {
  join(2);
  publish(1, 1);
  const unsigned taker = server->waiting(members_at) != 0 ? 0 : 1;
  ASSERT_EQ(take(taker).size(), 1u);
  send(members_at + taker, "SLEEP 600");
  EXPECT_TRUE(take(1 - taker).empty());
  publish(2, 2);
  EXPECT_EQ(take_texts(1 - taker, false), texts{"2"});
}

INSTANTIATE_TEST_SUITE_P(Workers, GroupMoves, testing::Values(1u, 2u),
                         [](const auto& i) { return std::to_string(i.param); });

} // namespace
} // namespace chainring::testing_line
