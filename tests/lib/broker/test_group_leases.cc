// SPDX-License-Identifier: BSD-3-Clause
// Messages that the members of shared subscriptions have and have not acknowledged: what is taken
// back from whom, and what expires.
#include <chrono>

#include "groups_fixture.h"

namespace chainring::testing_line {
namespace {

class GroupLeases : public Groups {
 protected:
  /// Fills the group's queue until a message is refused. Messages that arrive meanwhile wait.
  void fill_the_queue() {
    unsigned more = 0;
    while (try_to_publish())
      ASSERT_LT(++more, 200u);
  }
  bool try_to_publish() { return ask(alice, "PUB a/b 1 x").starts_with("OK "); }
  /// Publishes in vain for that long, while the workers run.
  void press_for(std::chrono::milliseconds time) {
    for (const auto begin = std::chrono::steady_clock::now();
         std::chrono::steady_clock::now() - begin < time; server->settle())
      (void)try_to_publish();
  }
};

TEST_P(GroupLeases, TakeAMessageBackFromASilentMemberAndIgnoreItsLateAcknowledgement) {
  config.group_lease_ms = 50;
  start();
  join(1);
  publish(1, 1);
  const auto kept = take(0);
  ASSERT_EQ(kept.size(), 1u);
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#"));
  std::vector<arrived> again;
  for (const std::time_t begin = std::time(nullptr);
       again.empty() && std::time(nullptr) < begin + 60;) {
    server->settle();
    again = take(1);
  }
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].flags, "again");
  EXPECT_EQ(server->next(members_at), "DROP 1");
  acknowledge(0, kept[0]);
  EXPECT_EQ(live(), 1u);
  acknowledge(1, again[0]);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(GroupLeases, LeaveMostMessagesToTheOthersWhereAMemberSkipsThemAll) {
  join(1);
  for (int i = 1; i <= 63; ++i) {
    publish(i, i);
    for (const arrived& a : take(0))
      send(members_at, "SKIP " + a.number);
  }
  const std::uint32_t kept = groups().at(0).leased;
  EXPECT_EQ(kept, test::line_front_end::window + 8u);
  EXPECT_GE(server->broker().counters().group_leases_refused, 1u);
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#"));
  std::size_t got = 0;
  while (const std::size_t more = take_texts(1).size())
    got += more;
  EXPECT_EQ(got, 63u - kept);
  send(members_at, "BYE");
  while (const std::size_t more = take_texts(1).size())
    got += more;
  EXPECT_EQ(got, 63u);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(GroupLeases, TakeASkippedMessageBackAlsoWhereMembersKeepTheirMessages) {
  config.group_lease_ms = 0;
  config.group_lease_skipped_ms = 50;
  start();
  join(1);
  publish(1, 2);
  const auto got = take(0);
  ASSERT_EQ(got.size(), 2u);
  send(members_at, "SKIP " + got[0].number);
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#"));
  std::vector<arrived> other;
  EXPECT_TRUE(wait_until([&] { return !(other = take(1)).empty(); }));
  ASSERT_EQ(other.size(), 1u);
  EXPECT_EQ(other[0].text, "1");
  acknowledge(1, other[0]);
  acknowledge(0, got[1]);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(GroupLeases, OfferMessagesThatAClientSendsBackToThatClientAgain) {
  join(1);
  publish(1, 2);
  const auto got = take(0);
  ASSERT_EQ(got.size(), 2u);
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#"));
  server->send(members_at, "NACK " + got[0].number);
  server->send(members_at, "NACK " + got[1].number);
  server->settle();
  EXPECT_EQ(take(1).size(), 0u) << "its lease goes on";
  const auto again = take(0);
  ASSERT_EQ(again.size(), 2u);
  for (const arrived& a : again) {
    EXPECT_EQ(a.flags, "again");
    EXPECT_EQ(a.text, again[0].text == a.text ? "1" : "2");
    acknowledge(0, a);
  }
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(GroupLeases, GetRoomBackFromAMemberThatKeepsAMessage) {
  config.group_lease_ms = 0;
  config.group_lease_pressed_ms = 50;
  for (const bool by_bytes : {false, true}) {
    config.queue_bytes = by_bytes ? 350 : 0; // three messages of 100 octets, with the topic
    server.reset();
    start();
    join(1);
    const std::string text = by_bytes ? std::string(100, 'x') : "x";
    const auto try_to_publish = [&] { return ask(alice, "PUB a/b 1 " + text).starts_with("OK "); };
    ASSERT_TRUE(try_to_publish());
    ASSERT_EQ(take(0).size(), 1u); // and it is not acknowledged
    ASSERT_TRUE(connect(1));
    ASSERT_TRUE(subscribe(1, "$share/g/a/#"));
    unsigned more = 0;
    while (try_to_publish()) {
      ASSERT_LT(++more, 64u);
      for (const unsigned m : {0u, 1u})
        for (const arrived& a : take(m))
          acknowledge(m, a);
    }
    EXPECT_TRUE(wait_until([&] {
      (void)take_texts(1);
      return try_to_publish();
    })) << (by_bytes ? "the limit of bytes" : "the limit of messages");
  }
}

TEST_P(GroupLeases, DropMessagesThatExpireWhileAllMembersAreAway) {
  config.message_expiry_s = 100;
  start();
  join(2);
  for (unsigned m = 0; m < 2; ++m)
    send(members_at + m, "BYE");
  publish(1, 2);
  test::wall_clock_ahead_s = 60;
  publish(3, 3);
  test::wall_clock_ahead_s = 120;
  EXPECT_TRUE(wait_until([&] { return groups().at(0).queue_depth == 1; }));
  EXPECT_EQ(server->broker().counters().expired_messages, 2u);
  EXPECT_EQ(live(), 1u);
  ASSERT_TRUE(connect(1));
  EXPECT_EQ(take_texts(1), texts{"3"});
  test::wall_clock_ahead_s = 0;
  server->settle();
  EXPECT_EQ(live(), 0u);
}

// Members that work longer on a message than a full queue leaves it to one that holds up others:
// their acknowledgements count, or nobody would ever get on.
TEST_P(GroupLeases, StayWithSlowMembersWhileNobodyBehindThemIsDone) {
  config.group_lease_pressed_ms = 50;
  start();
  join(2);
  fill_the_queue();
  for (int round = 0; round < 3; ++round) {
    std::vector<arrived> held[2] = {take(0), take(1)};
    press_for(std::chrono::milliseconds(200));
    // All in one burst: behind the first of them, the others are late.
    for (unsigned m = 0; m < 2; ++m)
      for (const arrived& a : held[m])
        server->send(members_at + m, "ACK " + a.number);
    server->settle();
    fill_the_queue();
  }
  EXPECT_EQ(server->broker().counters().group_leases_ended, 0u);
}

// It would get nothing from the group while it bans the one who works.
TEST_P(GroupLeases, AreNotTakenBackForAMemberThatSleeps) {
  config.group_lease_pressed_ms = 50;
  start();
  join(2);
  send(members_at + 1, "SLEEP 600");
  ASSERT_TRUE(try_to_publish());
  const std::vector<arrived> first = take(0);
  ASSERT_EQ(first.size(), 1u);
  unsigned more = 0;
  while (try_to_publish()) {
    ASSERT_LT(++more, 200u);
    for (const arrived& a : take(0))
      acknowledge(0, a);
  }
  press_for(std::chrono::milliseconds(200));
  EXPECT_EQ(server->broker().counters().group_leases_ended, 0u);
  acknowledge(0, first[0]);
  EXPECT_TRUE(wait_until([&] { return try_to_publish(); }));
}

TEST_P(GroupLeases, OfExpiredMessagesAreNotWaitedForWhileAllMembersSleep) {
  config.message_expiry_s = 100;
  start();
  join(2);
  for (unsigned m = 0; m < 2; ++m)
    send(members_at + m, "SLEEP 600");
  publish(1, 3);
  test::wall_clock_ahead_s = 120;
  EXPECT_TRUE(wait_until([&] { return live() == 0; }));
  EXPECT_EQ(server->broker().counters().expired_messages, 3u);
  test::wall_clock_ahead_s = 0;
}

// The only member cannot carry one message; the others it still gets.
TEST_P(GroupLeases, OfSkippedMessagesDoNotKeepTheOnlyMemberFromTheNext) {
  config.group_lease_ms = 50;
  start();
  join(1);
  publish(1, 1);
  const std::vector<arrived> first = take(0);
  ASSERT_EQ(first.size(), 1u);
  send(members_at, "SKIP " + first[0].number);
  EXPECT_TRUE(wait_until([&] { return server->broker().counters().group_leases_ended != 0; }));
  publish(2, 2);
  bool got = false;
  for (const arrived& a : take(0))
    got |= a.text == "2";
  EXPECT_TRUE(got);
}

INSTANTIATE_TEST_SUITE_P(Workers, GroupLeases, testing::Values(1u, 2u));

} // namespace
} // namespace chainring::testing_line
