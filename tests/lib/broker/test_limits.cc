// SPDX-License-Identifier: BSD-3-Clause
// Messages that expire, and the limits and policies of each class of sessions, under the line front
// end.
#include "limits_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_line {
namespace {

// --- messages that expire ------------------------------------------------------------------------

class Expiry : public Limits {
 protected:
  void SetUp() override {
    config.message_expiry_s = 100;
    open(true);
  }
};

TEST_F(Expiry, AMessageThatExpiresBeforeItsClientTakesItIsNotDelivered) {
  subscribe(subscriber, "slow", 1, true);
  server->send(subscriber, "STOP");
  server->settle();
  ASSERT_TRUE(publish("early"));
  test::wall_clock_ahead_s = 60;
  ASSERT_TRUE(publish("late"));
  test::wall_clock_ahead_s = 120;
  server->send(subscriber, "GO");
  EXPECT_EQ(take(subscriber), lines{"late"});
  EXPECT_EQ(counters().expired_messages, 1u);
  EXPECT_EQ(info("slow").expired_messages, 1u);
  server->settle();
  EXPECT_EQ(core().message_statistics().live, 0u);
}

TEST_F(Expiry, ExpiredMessagesOfAnAbsentClientMakeRoomForOthers) {
  subscribe(subscriber, "absent", 1, false);
  for (int i = 0; i < 15; ++i)
    ASSERT_TRUE(publish("old"));
  ASSERT_FALSE(publish("refused"));
  test::wall_clock_ahead_s = 101;
  ASSERT_TRUE(comes_true([&] { return info("absent").queue_depth == 0; }));
  EXPECT_EQ(info("absent").expired_messages, 15u);
  ASSERT_TRUE(publish("new"));
  ASSERT_TRUE(accepted(subscriber, "CONNECT absent -"));
  EXPECT_EQ(take(subscriber), lines{"new"});
  EXPECT_EQ(counters().dropped_oldest, 0u);
}

TEST_F(Expiry, AMessageExpiresAlsoWhileTheBrokerIsStopped) {
  subscribe(subscriber, "absent", 1, false);
  ASSERT_TRUE(publish("early"));
  test::wall_clock_ahead_s = 60;
  ASSERT_TRUE(publish("late"));
  test::wall_clock_ahead_s = 120;
  config.message_expiry_s = 0; // it counts when a message is published
  open(false);
  ASSERT_TRUE(accepted(subscriber, "CONNECT absent -"));
  EXPECT_EQ(take(subscriber), lines{"late"});
  EXPECT_EQ(counters().expired_messages, 1u);
}

TEST_F(Expiry, AMessageExpiresAsItsPublisherAsksAtEachQos) {
  subscribe(subscriber, "slow", 2, true);
  server->send(subscriber, "STOP");
  server->settle();
  for (const char* qos : {"0/50", "1/50", "2:7/50", "0/500", "1/500", "2:8/500", "1"})
    server->send(publisher, std::string("PUB t ") + qos + " {p}" + qos);
  server->settle();
  test::wall_clock_ahead_s = 90;
  server->send(subscriber, "GO");
  EXPECT_EQ(take(subscriber), (lines{"{p}0/500", "{p}1/500", "{p}2:8/500", "{p}1"}));
  EXPECT_EQ(counters().expired_messages, 3u);
}

TEST_F(Expiry, ASessionThatHasExpiredIsOverAlsoBeforeTheBrokerComesToLookAtIt) {
  subscribe(subscriber, "short", 1, false);
  ASSERT_TRUE(publish("old"));
  ASSERT_TRUE(accepted(subscriber, "CONNECT short -"));
  server->forget(subscriber);
  ASSERT_TRUE(accepted(subscriber, "BYE 50"));
  test::wall_clock_ahead_s = 51;
  server->forget(subscriber);
  const std::string said = server->ask(subscriber, "CONNECT short -");
  EXPECT_TRUE(said.starts_with("OK ") && !said.ends_with("present")) << said;
  EXPECT_EQ(take(subscriber), lines{});
  EXPECT_EQ(counters().expired, 1u);
}

TEST_F(Expiry, NoMessageExpiresEarlyWhenTheClockIsSetBack) {
  subscribe(subscriber, "absent", 1, false);
  ASSERT_TRUE(publish("text"));
  test::wall_clock_ahead_s = -1000;
  ASSERT_TRUE(publish("another"));
  open(false);
  ASSERT_TRUE(accepted(subscriber, "CONNECT absent -"));
  EXPECT_EQ(take(subscriber), (lines{"text", "another"}));
}

TEST_F(Expiry, AMessageAtQos2ThatMayHaveBeenSentEndsOnlyByTheAnswersOfItsClient) {
  subscribe(subscriber, "exact", 2, true);
  ASSERT_TRUE(accepted(publisher, "PUB t 2:1 received"));
  ASSERT_TRUE(accepted(publisher, "PUB t 2:2 sent"));
  EXPECT_TRUE(server->next(subscriber).starts_with("MSG 1 2 "));
  EXPECT_TRUE(server->next(subscriber).starts_with("MSG 2 2 "));
  server->send(subscriber, "REC 1");
  server->settle();
  EXPECT_EQ(server->next(subscriber), "REL 1");
  leave(subscriber);
  subscribe(another, "marker", 1, false);
  ASSERT_TRUE(publish("expires"));
  test::wall_clock_ahead_s = 101;
  ASSERT_TRUE(comes_true([&] { return info("marker").queue_depth == 0; }));
  EXPECT_EQ(info("exact").queue_depth, 3u);
  ASSERT_TRUE(accepted(subscriber, "CONNECT exact -"));
  EXPECT_EQ(server->next(subscriber), "REL 3");
  EXPECT_EQ(server->next(subscriber), "MSG 4 2 0 again t sent");
  server->settle();
  EXPECT_EQ(server->next(subscriber), "");
  EXPECT_EQ(info("exact").expired_messages, 1u) << "the one behind them";
}

TEST_F(Expiry, ARetainedMessageThatHasExpiredIsGivenToNobodyAndItsTopicIsCleared) {
  ASSERT_TRUE(accepted(publisher, "RET t 1 old"));
  test::wall_clock_ahead_s = 60;
  ASSERT_TRUE(accepted(publisher, "RET u 1 new"));
  test::wall_clock_ahead_s = 120;
  ASSERT_TRUE(accepted(subscriber, "CONNECT late -"));
  ASSERT_TRUE(accepted(subscriber, "SUB # 1"));
  EXPECT_EQ(take(subscriber), lines{"new"});
  ASSERT_TRUE(comes_true([&] { return core().retained_counts().messages == 1; }));
  EXPECT_EQ(counters().retained_expired, 1u);
  server->settle();
  EXPECT_EQ(core().message_statistics().live, 1u);
  open(false);
  EXPECT_EQ(core().retained_counts().messages, 1u);
}

// --- session classes -----------------------------------------------------------------------------

class Classes : public Limits {
 protected:
  /// Both subscribers are connected and take nothing, so that their queues fill.
  void begin() {
    open(true);
    subscribe(subscriber, "durable", 1, true);
    subscribe(another, "viewer", 1, true, "passing");
    for (const unsigned at : {subscriber, another})
      server->send(at, "STOP");
    server->settle();
  }
  lines go(unsigned at) {
    server->send(at, "GO");
    return take(at);
  }
};

TEST_F(Classes, SessionsThatEndWithTheirConnectionHaveTheirOwnLimitAndPolicy) {
  config.queue_slots_clean = 3;
  config.overflow_clean = overflow_policy::drop_newest;
  begin();
  for (int i = 1; i <= 15; ++i)
    ASSERT_TRUE(publish(std::to_string(i))) << i;
  EXPECT_EQ(info("viewer").queue_depth, 3u);
  EXPECT_EQ(info("viewer").queue_limit, 3u);
  EXPECT_EQ(info("durable").queue_depth, 15u);
  EXPECT_EQ(info("durable").queue_limit, 15u);
  EXPECT_FALSE(publish("refused")) << "the durable session still refuses";
  EXPECT_EQ(go(another), (lines{"1", "2", "3"}));
  EXPECT_EQ(go(subscriber).size(), 15u);
  EXPECT_EQ(counters().dropped_newest, 12u);
  EXPECT_EQ(info("viewer").dropped_newest, 12u);
  EXPECT_EQ(info("durable").refused, 1u);
}

TEST_F(Classes, ASessionThatTakesAnEarlierOnesNumberDoesNotShowItsDrops) {
  config.queue_slots_clean = 3;
  config.overflow_clean = overflow_policy::drop_newest;
  begin();
  for (int i = 1; i <= 5; ++i)
    ASSERT_TRUE(publish(std::to_string(i)));
  const session_info first = info("viewer");
  EXPECT_EQ(first.dropped_newest, 2u);
  leave(another);
  subscribe(another, "next", 1, true, "passing");
  EXPECT_EQ(info("next").number, first.number);
  EXPECT_EQ(info("next").dropped_newest, 0u);
}

TEST_F(Classes, AViewerDropsItsOldestWhileADurableSessionKeepsAll) {
  config.queue_slots_clean = 3;
  config.overflow_clean = overflow_policy::drop_oldest;
  begin();
  for (int i = 1; i <= 10; ++i)
    ASSERT_TRUE(publish(std::to_string(i))) << i;
  EXPECT_EQ(info("viewer").dropped_oldest, 7u);
  EXPECT_EQ(info("durable").dropped_oldest, 0u);
  EXPECT_EQ(go(another), (lines{"8", "9", "10"}));
  EXPECT_EQ(go(subscriber).size(), 10u);
}

TEST_F(Classes, TheLimitOfAClassMayBeAboveTheUsualOne) {
  config.queue_slots = 4;
  config.queue_slots_first = 2;
  config.queue_slots_clean = 12;
  config.overflow = overflow_policy::drop_oldest;
  config.overflow_clean = overflow_policy::reject;
  begin();
  for (int i = 1; i <= 12; ++i)
    ASSERT_TRUE(publish(std::to_string(i))) << i;
  EXPECT_FALSE(publish("refused"));
  EXPECT_EQ(info("durable").dropped_oldest, 8u);
  EXPECT_EQ(go(another).size(), 12u);
  EXPECT_EQ(go(subscriber), (lines{"9", "10", "11", "12"}));
}

TEST_F(Classes, ABurstFillsAQueueUpToTheLimitOfItsClass) {
  config.queue_slots_clean = 3;
  config.overflow_clean = overflow_policy::drop_oldest;
  begin();
  for (int i = 1; i <= 5; ++i)
    server->send(publisher, "PUB t 1 " + std::to_string(i));
  server->settle();
  EXPECT_LE(info("viewer").queue_depth, 3u);
  EXPECT_LE(info("viewer").queue_high_water, 3u);
}

TEST_F(Classes, AQueueAboveANewLimitDropsAsManyAsItMust) {
  config.overflow = overflow_policy::drop_oldest;
  open(true);
  subscribe(subscriber, "durable", 1, false);
  for (int i = 1; i <= 10; ++i)
    ASSERT_TRUE(publish(std::to_string(i)));
  config.queue_slots = 4;
  config.queue_slots_clean = 15; // the table can hold more than a durable session may
  open(false);
  ASSERT_TRUE(publish("11"));
  EXPECT_EQ(info("durable").dropped_oldest, 7u);
  ASSERT_TRUE(accepted(subscriber, "CONNECT durable -"));
  EXPECT_EQ(take(subscriber), (lines{"8", "9", "10", "11"}));
}

TEST_F(Limits, TheHighWaterOfAQueueThatHasNotGrownIsWhatItHeld) {
  config.queue_slots_first = 3;
  open(true);
  subscribe(subscriber, "slow", 1, true);
  server->send(subscriber, "STOP");
  for (unsigned i = 1; i <= 15; ++i) {
    ASSERT_TRUE(publish("text"));
    EXPECT_EQ(info("slow").queue_high_water, i);
  }
  server->send(subscriber, "GO");
  EXPECT_EQ(take(subscriber).size(), 15u);
  EXPECT_EQ(info("slow").queue_high_water, 15u);
}

} // namespace
} // namespace chainring::testing_line
