// SPDX-License-Identifier: BSD-3-Clause
// Retained messages in the core, under the line front end: what is kept, and what a new
// subscription is given.
#include "retained_fixture.h"
#include "support/eal_main.h"
#include "topic/topic_names.h"

namespace chainring::testing_line {
namespace {

TEST_F(Retained, AMessageIsGivenToEachNewSubscriptionWithTheFlagAndToPresentOnesWithout) {
  connect(another, "present");
  ASSERT_TRUE(accepted(another, "SUB a/+ 1"));
  ASSERT_TRUE(accepted(publisher, "RET a/b 1 first"));
  EXPECT_EQ(take(another), (lines{"1 - a/b first"}));
  connect(subscriber, "new");
  EXPECT_EQ(server->ask(subscriber, "SUB a/b 1"), "OK 2");
  EXPECT_EQ(take(subscriber), (lines{"1 retained a/b first"}));
  EXPECT_EQ(retained(), 1u);
  EXPECT_EQ(core().counters().retained_sent, 1u);
}

TEST_F(Retained, TheSettlementOfASubscriptionComesBeforeItsRetainedMessages) {
  ASSERT_TRUE(accepted(publisher, "RET t 1 one"));
  ASSERT_TRUE(accepted(publisher, "RET a/b 1 two"));
  for (const char* filter : {"t", "#", "a/+"}) {
    connect(subscriber, std::string("new") + filter);
    server->send(subscriber, std::string("SUB ") + filter + " 1");
    server->settle();
    const std::string first = server->next(subscriber), second = server->next(subscriber);
    EXPECT_TRUE(first.starts_with("OK ")) << filter << ": " << first;
    EXPECT_TRUE(second.starts_with("MSG ")) << filter << ": " << second;
    server->forget(subscriber);
  }
}

TEST_F(Retained, AMessageReplacesTheOneBeforeAndAnEmptyOneClearsTheTopic) {
  ASSERT_TRUE(accepted(publisher, "RET a/b 1 first"));
  ASSERT_TRUE(accepted(publisher, "RET a/b 1 second"));
  connect(subscriber, "one");
  ASSERT_TRUE(accepted(subscriber, "SUB a/b 1"));
  EXPECT_EQ(take(subscriber), (lines{"1 retained a/b second"}));
  ASSERT_TRUE(accepted(publisher, "RET a/b 1"));
  EXPECT_EQ(take(subscriber), (lines{"1 - a/b "})) << "an empty message is delivered as any";
  EXPECT_EQ(retained(), 0u);
  ASSERT_TRUE(accepted(subscriber, "SUB a/b 1"));
  EXPECT_EQ(take(subscriber), lines{});
  EXPECT_EQ(live(), 0u) << "nothing holds the messages of a topic that was cleared";
  EXPECT_EQ(core().retained_counts().bytes, 0u);
  EXPECT_EQ(core().counters().retained_cleared, 1u);
}

TEST_F(Retained, ATopicThatNobodySubscribesToIsClearedWithoutAMessage) {
  ASSERT_TRUE(accepted(publisher, "RET a/b 1 text"));
  ASSERT_TRUE(accepted(publisher, "RET a/b 1"));
  ASSERT_TRUE(accepted(publisher, "RET never/set 1"));
  server->settle();
  EXPECT_EQ(retained(), 0u);
  EXPECT_EQ(live(), 0u);
  EXPECT_EQ(core().retained_counts().bytes, 0u);
}

TEST_F(Retained, MessagesOfShortAndLongTopicsSurviveARestart) {
  const std::string longer = "a/topic/that/is/longer/than/the/cell/of/the/map/has/room/for";
  ASSERT_TRUE(accepted(publisher, "RET a 1 old"));
  ASSERT_TRUE(accepted(publisher, "RET a 1 short"));
  ASSERT_TRUE(accepted(publisher, "RET " + longer + " 1 " + std::string(900, 'x')));
  ASSERT_TRUE(accepted(publisher, "RET gone 1 text"));
  ASSERT_TRUE(accepted(publisher, "RET gone 1"));
  for (int life = 0; life < 3; ++life) {
    open(false);
    EXPECT_EQ(retained(), 2u);
    EXPECT_EQ(core().opened().retained, 2u);
    connect(subscriber, "s" + std::to_string(life));
    ASSERT_TRUE(accepted(subscriber, "SUB # 1"));
    lines got = take(subscriber);
    std::ranges::sort(got);
    EXPECT_EQ(got,
              (lines{"1 retained a short", "1 retained " + longer + " " + std::string(900, 'x')}));
    auto wrong = broker::check(core().region());
    ASSERT_TRUE(wrong);
    EXPECT_EQ(*wrong, std::vector<std::string>{});
    ASSERT_TRUE(accepted(subscriber, "UNSUB #"));
  }
  ASSERT_TRUE(accepted(publisher, "RET a 1"));
  ASSERT_TRUE(accepted(publisher, "RET " + longer + " 1"));
  open(false);
  EXPECT_EQ(retained(), 0u);
  EXPECT_EQ(live(), 0u);
}

TEST_F(Retained, AMessageIsGivenAtTheLowerQosOfPublishAndSubscription) {
  ASSERT_TRUE(accepted(publisher, "RET one 1 x"));
  server->send(publisher, "RET zero 0 y");
  server->settle();
  connect(subscriber, "at0");
  ASSERT_TRUE(accepted(subscriber, "SUB + 0"));
  lines got = take(subscriber);
  std::ranges::sort(got);
  EXPECT_EQ(got, (lines{"0 retained one x", "0 retained zero y"}));
  connect(another, "at1");
  ASSERT_TRUE(accepted(another, "SUB + 1"));
  got = take(another);
  std::ranges::sort(got);
  EXPECT_EQ(got, (lines{"0 retained zero y", "1 retained one x"}));
}

TEST_F(Retained, AMessageAtQos0SurvivesAndIsHandedToPresentSubscribersAtQos0) {
  connect(subscriber, "present");
  ASSERT_TRUE(accepted(subscriber, "SUB zero 1"));
  server->send(publisher, "RET zero 0 y");
  EXPECT_EQ(take(subscriber), (lines{"0 - zero y"}));
  open(false);
  connect(another, "later");
  ASSERT_TRUE(accepted(another, "SUB zero 1"));
  EXPECT_EQ(take(another), (lines{"0 retained zero y"}));
}

TEST_F(Retained, TwoPublishesToOneTopicInOneBurstAreBothKeptInTheirOrder) {
  connect(subscriber, "present");
  ASSERT_TRUE(accepted(subscriber, "SUB a 1"));
  connect(another, "publisher2");
  server->send(publisher, "RET a 1 first");
  server->send(another, "RET a 1 second");
  server->send(publisher, "RET b 1 third");
  server->settle();
  EXPECT_TRUE(server->next(publisher).starts_with("OK "));
  EXPECT_TRUE(server->next(another).starts_with("OK "));
  EXPECT_GE(core().counters().set_aside, 1u);
  EXPECT_EQ(take(subscriber), (lines{"1 - a first", "1 - a second"}));
  ASSERT_TRUE(accepted(subscriber, "SUB a 1"));
  EXPECT_EQ(take(subscriber), (lines{"1 retained a second"}));
}

TEST_F(Retained, OneSenderMayPublishToATopicSeveralTimesInOneBurst) {
  config.aside_max = 8 * 15; // a sender may have an eighth of them
  open(true);
  for (int i = 0; i < 5; ++i) {
    server->send(publisher, "RET a 0 zero" + std::to_string(i));
    server->send(publisher, "RET a 1 one" + std::to_string(i));
    server->send(publisher, "PUB b 1 plain" + std::to_string(i));
  }
  server->settle();
  for (int i = 0; i < 10; ++i)
    EXPECT_TRUE(server->next(publisher).starts_with("OK ")) << i;
  connect(subscriber, "later");
  ASSERT_TRUE(accepted(subscriber, "SUB a 1"));
  EXPECT_EQ(take(subscriber), (lines{"1 retained a one4"}));
}

TEST_F(Retained, OptionsOfASubscriptionSayWhatItIsGiven) {
  ASSERT_TRUE(accepted(publisher, "RET a 1 text"));
  connect(subscriber, "s");
  ASSERT_TRUE(accepted(subscriber, "SUB a 1 0 never"));
  EXPECT_EQ(take(subscriber), lines{});
  ASSERT_TRUE(accepted(subscriber, "SUB a 1 0 new"));
  EXPECT_EQ(take(subscriber), lines{}) << "the session has the subscription already";
  ASSERT_TRUE(accepted(subscriber, "SUB + 1 0 new,published,others"));
  EXPECT_EQ(take(subscriber), (lines{"1 retained a text"}));
  ASSERT_TRUE(accepted(subscriber, "UNSUB a"));
  ASSERT_TRUE(accepted(publisher, "RET a 1 flagged"));
  server->send(publisher, "RET a 0 copied");
  ASSERT_TRUE(accepted(publisher, "PUB a 1 plain"));
  ASSERT_TRUE(accepted(subscriber, "PUB a 1 own"));
  EXPECT_EQ(take(subscriber),
            (lines{"1 retained a flagged", "0 retained a copied", "1 - a plain"}));
  ASSERT_TRUE(accepted(subscriber, "SUB + 1"));
  EXPECT_EQ(take(subscriber), (lines{"0 retained a copied"}))
      << "a resubscription is given it again";
}

TEST_F(Retained, RetainedMessagesTakeHalfOfAQueueAndTheRestFollows) {
  subscribe_slowly();
  EXPECT_EQ(core().counters().retained_sent, 7u);
  ASSERT_TRUE(accepted(publisher, "PUB t/new 1 live")) << "there is room for other messages";
  server->send(subscriber, "GO");
  lines got = take(subscriber);
  EXPECT_EQ(got.size(), 41u);
  std::ranges::sort(got);
  EXPECT_EQ(std::ranges::unique(got).size(), 0u) << "none is given twice";
}

TEST_F(Retained, WhatHadNoRoomBeforeARestartIsGivenWhenTheClientSubscribesAgain) {
  subscribe_slowly();
  open(false);
  ASSERT_EQ(server->ask(subscriber, "CONNECT slow -"), "OK 1 present");
  EXPECT_EQ(take(subscriber).size(), 7u) << "half of the queue";
  ASSERT_TRUE(accepted(publisher, "PUB t/new 1 live")) << "the subscription is there";
  EXPECT_EQ(take(subscriber), (lines{"1 - t/new live"}));
  ASSERT_TRUE(accepted(subscriber, "SUB t/# 1"));
  EXPECT_EQ(take(subscriber).size(), 40u);
}

TEST_F(Retained, CopiesAtQos0ComeAsTheClientTakesThem) {
  config.volatile_per_session_max = 4;
  open(true);
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
  connect(subscriber, "slow");
  server->send(subscriber, "STOP");
  ASSERT_EQ(server->ask(subscriber, "SUB t/# 0"), "OK 2");
  server->send(subscriber, "GO");
  EXPECT_EQ(take(subscriber).size(), 20u);
  EXPECT_EQ(core().counters().dropped_qos0, 0u);
}

TEST_F(Retained, AClientThatTakesNothingKeepsNoOtherFromItsRetainedMessages) {
  config.queue_slots = 3;
  config.retained_scans_max = 2;
  config.retained_scan_idle_ms = 0;
  open(true);
  for (int i = 0; i < 10; ++i)
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
  for (unsigned i = 0; i < 6; ++i) {
    const unsigned at = 10 + i;
    connect(at, "slow" + std::to_string(i));
    server->send(at, "STOP");
    ASSERT_EQ(server->ask(at, "SUB t/# 1"), "OK 2");
  }
  EXPECT_GE(core().counters().retained_given_up, 4u);
  connect(subscriber, "quick");
  ASSERT_EQ(server->ask(subscriber, "SUB t/# 1"), "OK 2");
  EXPECT_EQ(take(subscriber).size(), 10u);
}

TEST_F(Retained, AClientHasAShareOfThePlacesForSubscriptionsThatAreGivenRetainedMessages) {
  config.queue_slots = 3;
  config.retained_scans_max = 6;
  config.retained_scans_per_session_max = 4;
  open(true);
  for (int i = 0; i < 10; ++i)
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
  connect(another, "greedy");
  server->send(another, "STOP");
  const char* const filters[] = {"#", "t/#", "+/#", "t/+", "+/+"};
  for (int i = 0; i < 4; ++i)
    ASSERT_TRUE(accepted(another, std::string("SUB ") + filters[i] + " 1"));
  EXPECT_EQ(server->ask(another, "SUB +/+ 1"), "NO 6 congestion");
  EXPECT_EQ(core().counters().retained_scans_refused, 1u);
  EXPECT_TRUE(accepted(another, "SUB t/# 1")) << "the subscription replaces one of the four";
  EXPECT_TRUE(accepted(another, "SUB +/+ 1 0 never")) << "it is given no retained messages";
  ASSERT_TRUE(accepted(another, "UNSUB +/+"));
  ASSERT_TRUE(accepted(another, "UNSUB t/#"));
  for (const char* filter : {"+/+", "t/#"}) // both in one burst
    server->send(another, std::string("SUB ") + filter + " 1");
  server->settle();
  EXPECT_TRUE(server->next(another).starts_with("NO "));
  EXPECT_TRUE(server->next(another).starts_with("OK "));
  EXPECT_EQ(core().counters().retained_scans_refused, 2u);
  connect(subscriber, "other");
  ASSERT_EQ(server->ask(subscriber, "SUB t/# 1"), "OK 2");
  EXPECT_EQ(take(subscriber).size(), 10u);
  EXPECT_EQ(core().counters().retained_given_up, 0u);
}

TEST_F(Retained, AClientThatTakesItsRetainedMessagesOneByOneReceivesThemAll) {
  config.queue_slots = 3;
  config.retained_scans_max = 1;
  config.retained_scan_idle_ms = 600'000;
  open(true);
  for (int i = 0; i < 10; ++i)
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
  connect(subscriber, "steady");
  ASSERT_TRUE(accepted(subscriber, "SUB t/# 1"));
  connect(another, "impatient");
  EXPECT_EQ(server->ask(another, "SUB t/# 1"), "NO 2 congestion");
  EXPECT_EQ(core().counters().retained_scans_refused, 1u);
  EXPECT_EQ(take(subscriber).size(), 10u);
  EXPECT_EQ(server->ask(another, "SUB t/# 1"), "OK 3");
  EXPECT_EQ(take(another).size(), 10u);
  EXPECT_EQ(core().counters().retained_given_up, 0u);
}

TEST_F(Retained, WhereAPlaceIsMissingTheIdleClientWithTheMostGivesOneUp) {
  config.queue_slots = 3;
  config.retained_scans_max = 3;
  config.retained_scan_idle_ms = 0;
  for (int more_bursts = 0; more_bursts < 3;
       ++more_bursts) { // whichever of the three is looked at first
    open(true);
    for (int i = 0; i < 10; ++i)
      ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
    connect(subscriber, "modest");
    server->send(subscriber, "STOP");
    ASSERT_TRUE(accepted(subscriber, "SUB t/# 1"));
    connect(another, "greedy");
    server->send(another, "STOP");
    ASSERT_TRUE(accepted(another, "SUB t/# 1"));
    ASSERT_TRUE(accepted(another, "SUB # 1"));
    connect(10, "newcomer");
    server->send(10, "STOP");
    for (int i = 0; i < more_bursts; ++i)
      server->turn(0);
    ASSERT_TRUE(accepted(10, "SUB t/# 1"));
    EXPECT_EQ(core().counters().retained_given_up, 1u);
    for (const unsigned at : {subscriber, 10u}) {
      server->send(at, "GO");
      EXPECT_EQ(take(at).size(), 10u) << at;
    }
  }
}

TEST_F(Retained, ASubscriptionThatIsRefusedTakesNoPlaceOfAnother) {
  config.retained_scans_max = 1;
  config.retained_scan_idle_ms = 0;
  config.subscriptions_per_session_max = 1;
  subscribe_slowly();
  connect(another, "full");
  ASSERT_TRUE(accepted(another, "SUB nothing/here 1"));
  EXPECT_EQ(server->ask(another, "SUB t/1 1"), "NO 3 congestion");
  EXPECT_EQ(core().counters().retained_given_up, 0u);
  server->send(subscriber, "GO");
  EXPECT_EQ(take(subscriber).size(), 40u);
}

TEST_F(Retained, ASubscriptionToAGroupTakesNoPlaceOfOneThatIsGivenRetainedMessages) {
  config.retained_scans_max = 1;
  open(true);
  ASSERT_TRUE(accepted(publisher, "RET t/1 1 x"));
  connect(subscriber, "s");
  for (const char* filter : {"$share/g/t/#", "t/1"})
    server->send(subscriber, std::string("SUB ") + filter + " 1");
  server->settle();
  EXPECT_EQ(server->next(subscriber), "OK 2");
  EXPECT_EQ(server->next(subscriber), "OK 3");
  EXPECT_EQ(core().counters().subscribes_refused, 0u);
}

TEST_F(Retained, MoreSubscriptionsInOneBurstThanThereArePlacesForAreRefused) {
  config.retained_scans_max = 2;
  open(true);
  ASSERT_TRUE(accepted(publisher, "RET t 1 x"));
  connect(subscriber, "s");
  for (const char* filter : {"t", "#", "+"})
    server->send(subscriber, std::string("SUB ") + filter + " 1");
  server->send(subscriber, "SUB other 1");
  server->settle();
  lines answers;
  for (std::string line = server->next(subscriber); !line.empty(); line = server->next(subscriber))
    answers.push_back(line);
  EXPECT_EQ(std::ranges::count(answers, "NO 4 congestion"), 1);
  EXPECT_EQ(std::ranges::count(answers, "OK 5"), 1) << "no message is retained for that one";
  EXPECT_EQ(core().counters().subscribes_refused, 1u);
}

TEST_F(Retained, TheLimitsOfTopicsAndOfOctetsRefuseWithCongestion) {
  config.retained_messages_max = 2;
  config.retained_bytes_max = 4096;
  open(true);
  ASSERT_TRUE(accepted(publisher, "RET a 1 x"));
  ASSERT_TRUE(accepted(publisher, "RET b 1 x"));
  EXPECT_TRUE(server->ask(publisher, "RET c 1 x").ends_with("congestion"));
  EXPECT_EQ(core().counters().retained_refused, 1u);
  ASSERT_TRUE(accepted(publisher, "RET b 1"));
  ASSERT_TRUE(accepted(publisher, "RET c 1 x")) << "a topic that was cleared makes room";
  // Messages of up to 1,463 octets in blocks of 256: of two in each cell, one has no room.
  const std::string large(1400, 'x');
  ASSERT_TRUE(accepted(publisher, "RET a 1 " + large));
  ASSERT_TRUE(accepted(publisher, "RET c 1 " + large));
  EXPECT_TRUE(server->ask(publisher, "RET c 1 " + large).ends_with("congestion"));
  EXPECT_EQ(core().counters().retained_refused, 2u);
  const auto counts = core().retained_counts();
  EXPECT_LE(counts.bytes, counts.bytes_max);
  // At QoS 0 nobody can be told; the message is delivered, and counted as not retained.
  connect(subscriber, "s");
  ASSERT_TRUE(accepted(subscriber, "SUB d 1"));
  server->send(publisher, "RET d 0 unkept");
  EXPECT_EQ(take(subscriber), (lines{"0 - d unkept"}));
  EXPECT_EQ(core().counters().retained_refused, 3u);
}

// The region has blocks for the messages of a burst, and none for the long topic of the first one.
TEST_F(Retained, AMessageThatIsRefusedForItsTopicLeavesTheOthersOfItsBurstWithTheirClients) {
  const std::string topic(60, 't');
  constexpr unsigned alice = 10, bob = 11, carol = 12;
  const auto subscribe = [&](unsigned at, const std::string& name, const std::string& filter) {
    connect(at, name);
    ASSERT_TRUE(accepted(at, "SUB " + filter + " 1"));
    ASSERT_TRUE(accepted(publisher, "PUB " + filter + " 1 ring")); // the queue gets its ring
    ASSERT_EQ(take(at), (lines{"1 - " + filter + " ring"}));
  };
  // Each list has the publishes behind the refused one, as topics.
  for (const std::string& burst : lines{"bcb", "b", "bc", "cbbc", "cb"}) {
    open(true);
    subscribe(alice, "alice", topic);
    subscribe(bob, "bob", "b");
    subscribe(carol, "carol", "c");
    leave_blocks(1 + static_cast<std::uint32_t>(burst.size()));
    server->send(publisher, "RET " + topic + " 1 refused");
    lines to_bob, to_carol;
    for (std::size_t n = 0; n < burst.size(); ++n) {
      const std::string name(1, burst[n]), text = "text" + std::to_string(n);
      server->send(publisher, "PUB " + name + " 1 " + text);
      (name == "b" ? to_bob : to_carol).push_back("1 - " + name + " " + text);
    }
    server->settle();
    EXPECT_TRUE(server->next(publisher).starts_with("NO ")) << burst;
    for (std::size_t n = 0; n < burst.size(); ++n)
      EXPECT_TRUE(server->next(publisher).starts_with("OK ")) << burst << n;
    EXPECT_EQ(take(alice), lines{}) << burst;
    EXPECT_EQ(take(bob), to_bob) << burst;
    EXPECT_EQ(take(carol), to_carol) << burst;
    EXPECT_TRUE(comes_true([&] { return live() == 0; })) << burst;
  }
}

// A subscriber of the refused topic gets other messages of the burst in the same queue.
TEST_F(Retained, AMessageThatIsRefusedForItsTopicIsTheOnlyOneThatItsSubscriberMisses) {
  const std::string topic(60, 't');
  connect(subscriber, "present");
  for (const std::string& filter : {topic, std::string("b")})
    ASSERT_TRUE(accepted(subscriber, "SUB " + filter + " 1"));
  ASSERT_TRUE(accepted(publisher, "PUB b 1 ring"));
  ASSERT_EQ(take(subscriber), (lines{"1 - b ring"}));
  leave_blocks(3);
  server->send(publisher, "PUB b 1 first");
  server->send(publisher, "RET " + topic + " 1 refused");
  server->send(publisher, "PUB b 1 last");
  server->settle();
  EXPECT_EQ(take(subscriber), (lines{"1 - b first", "1 - b last"}));
  EXPECT_EQ(core().counters().retained_refused, 1u);
  EXPECT_TRUE(comes_true([&] { return live() == 0; }));
}

TEST_F(Retained, ATableThatIsFullGrows) {
  layout.retained_max = 4;
  open(true);
  for (int i = 0; i < 64; ++i) {
    ASSERT_TRUE(core().grow_tables());
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x")) << i;
  }
  open(false);
  EXPECT_EQ(retained(), 64u);
}

TEST_F(Retained, AnOperatorSeesAndClearsThem) {
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(
        accepted(publisher, "RET t/" + std::to_string(i) + " 1 " + std::string(i + 1, 'x')));
  std::vector<retained_info> seen;
  const std::uint32_t next = core().retained(0, 3, seen);
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_EQ(core().retained(next, 6, seen), 0u);
  ASSERT_EQ(seen.size(), 5u);
  for (unsigned i = 0; i < 5; ++i) {
    EXPECT_EQ(seen[i].topic, "t/" + std::to_string(i));
    EXPECT_EQ(seen[i].size, i + 1);
    EXPECT_EQ(seen[i].qos, 1);
    EXPECT_NE(seen[i].published_ns, 0u);
  }
  connect(subscriber, "present");
  ASSERT_TRUE(accepted(subscriber, "SUB t/3 1 0 never"));
  EXPECT_TRUE(core().clear_retained("t/3"));
  EXPECT_FALSE(core().clear_retained("t/9"));
  EXPECT_EQ(take(subscriber), lines{}) << "clearing sends nothing to subscribers";
  EXPECT_EQ(retained(), 4u);
  open(false);
  EXPECT_EQ(retained(), 4u);
}

TEST_F(Retained, AScanEndsWithItsSessionAndItsSubscription) {
  config.queue_slots = 7;
  open(true);
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
  connect(subscriber, "s");
  server->send(subscriber, "STOP");
  ASSERT_EQ(server->ask(subscriber, "SUB t/# 1"), "OK 2");
  ASSERT_EQ(server->ask(subscriber, "UNSUB t/#"), "OK 3");
  server->send(subscriber, "GO");
  EXPECT_EQ(take(subscriber).size(), 3u);
  server->send(subscriber, "STOP");
  ASSERT_EQ(server->ask(subscriber, "SUB t/# 1"), "OK 4");
  ASSERT_EQ(server->ask(subscriber, "CONNECT s clean"), "OK 5");
  EXPECT_EQ(take(subscriber), lines{});
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1"));
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_F(Retained, TwoWorkersThatPublishToOneTopicWaitForEachOther) {
  config.workers = 2;
  config.home_seed = 1;
  open(true);
  const unsigned at[] = {20, 21};
  for (unsigned w = 0; w < 2; ++w)
    connect(at[w], identity_at(core(), w, "p"));
  connect(subscriber, identity_at(core(), 1, "s"));
  ASSERT_TRUE(accepted(subscriber, "SUB a 1"));
  for (int i = 0; i < 10; ++i) {
    server->send(at[0], "RET a 1 w0-" + std::to_string(i));
    server->send(at[1], "RET a 1 w1-" + std::to_string(i));
    server->settle();
    EXPECT_TRUE(server->next(at[0]).starts_with("OK "));
    EXPECT_TRUE(server->next(at[1]).starts_with("OK "));
    const lines got = take(subscriber);
    ASSERT_EQ(got.size(), 2u);
    ASSERT_TRUE(accepted(subscriber, "SUB a 1"));
    const lines kept = take(subscriber);
    ASSERT_EQ(kept.size(), 1u);
    EXPECT_EQ(kept[0].substr(kept[0].rfind(' ')), got[1].substr(got[1].rfind(' ')));
  }
  ASSERT_TRUE(accepted(at[1], "RET a 1"));
  (void)take(subscriber);
  EXPECT_EQ(live(), 0u);
}

} // namespace
} // namespace chainring::testing_line
