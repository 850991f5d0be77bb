// SPDX-License-Identifier: BSD-3-Clause
// Retained messages in the core, under the line front end.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <string>
#include <vector>

#include "../region/region_fixture.h"
#include "broker/access.h"
#include "line_fixture.h"
#include "support/eal_main.h"
#include "topic/topic_names.h"

namespace chainring::testing_line {
namespace {

constexpr unsigned publisher = 1, subscriber = 2, another = 3;
using lines = std::vector<std::string>;

class Retained : public testing::Test {
 protected:
  test::line_bytes bytes = test::line_bytes(4 << 20);
  broker_config config = line_config(1, 63);
  store_layout layout;
  std::unique_ptr<test::line_server> server;

  Retained() {
    layout.sessions_max = 16;
    layout.subscriptions_max = 64;
    layout.messages_max = 512;
    layout.groups_max = 1;
    layout.retained_max = 64;
  }
  void open(bool fresh) {
    server.reset();
    if (fresh) std::ranges::fill(bytes, std::byte{});
    auto made = broker_on(std::make_unique<test::kept_media>(bytes), config, fresh, layout);
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ((*made)->opened().notes, std::vector<std::string>{});
    server = std::make_unique<test::line_server>(std::move(*made));
    ASSERT_TRUE(server->ask(publisher, "CONNECT publisher -").starts_with("OK 1"));
  }
  void SetUp() override { open(true); }

  broker& core() { return server->broker(); }
  /// Takes all free blocks but so many.
  void leave_blocks(std::uint32_t left) {
    block_store& blocks = broker_access::state(core()).blocks();
    std::uint64_t last = 0;
    for (std::uint64_t n = blocks.statistics().largest_run; n != 0;
         n = blocks.statistics().largest_run) {
      const auto run = blocks.reserve_run(static_cast<std::uint32_t>(n));
      if (!run) break;
      last = *run;
    }
    while (blocks.reserve_run(1))
      ;
    for (std::uint32_t i = 0; i < left; ++i)
      blocks.release_run(last + std::uint64_t{i} * 256, 1);
  }
  std::uint64_t retained() { return core().retained_counts().messages; }
  std::uint64_t live() { return core().message_statistics().live; }
  bool accepted(unsigned at, const std::string& line) {
    return server->ask(at, line).starts_with("OK ");
  }
  void connect(unsigned at, const std::string& name) {
    ASSERT_TRUE(accepted(at, "CONNECT " + name + " -"));
  }
  /// What the connection has got, as "qos flags topic text"; each is acknowledged.
  lines take(unsigned at) {
    lines got;
    server->settle();
    for (std::string line = server->next(at); !line.empty(); line = server->next(at)) {
      if (!line.starts_with("MSG ")) continue;
      const std::size_t behind = line.find(' ', 4);
      const std::string number = line.substr(4, behind - 4);
      got.push_back(line.substr(behind + 1, 1) + line.substr(behind + 4));
      if (number != "0") server->send(at, "ACK " + number);
      server->settle();
    }
    return got;
  }
};

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
  config.queue_slots = 15;
  open(true);
  for (int i = 0; i < 40; ++i)
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
  connect(subscriber, "slow");
  server->send(subscriber, "STOP");
  ASSERT_EQ(server->ask(subscriber, "SUB t/# 1"), "OK 2");
  EXPECT_EQ(core().counters().retained_sent, 7u);
  ASSERT_TRUE(accepted(publisher, "PUB t/new 1 live")) << "there is room for other messages";
  server->send(subscriber, "GO");
  lines got = take(subscriber);
  EXPECT_EQ(got.size(), 41u);
  std::ranges::sort(got);
  EXPECT_EQ(std::ranges::unique(got).size(), 0u) << "none is given twice";
}

TEST_F(Retained, WhatHadNoRoomBeforeARestartIsGivenWhenTheClientSubscribesAgain) {
  config.queue_slots = 15;
  open(true);
  for (int i = 0; i < 40; ++i)
    ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
  connect(subscriber, "slow");
  server->send(subscriber, "STOP");
  ASSERT_EQ(server->ask(subscriber, "SUB t/# 1"), "OK 2");
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

// --- QoS 0: nobody can be told that a message is not retained
// ---------------------------------------

class RetainedAtQos0 : public Retained {
 protected:
  void SetUp() override {
    Retained::SetUp();
    connect(subscriber, "present");
  }
  void expect_delivered_and_counted(const std::string& topic) {
    EXPECT_EQ(take(subscriber), (lines{"0 - " + topic + " text"}));
    EXPECT_EQ(core().counters().retained_refused, 1u);
    EXPECT_EQ(retained(), 0u);
  }
};

TEST_F(RetainedAtQos0, AMessageThatFindsNoBlocksIsDeliveredAndCounted) {
  ASSERT_TRUE(accepted(subscriber, "SUB a 1"));
  leave_blocks(0);
  server->send(publisher, "RET a 0 text");
  expect_delivered_and_counted("a");
}

TEST_F(RetainedAtQos0, AMessageWhoseTopicFindsNoBlocksIsDeliveredAndCounted) {
  const std::string topic = "a/topic/that/is/longer/than/a/cell/of/the/map";
  ASSERT_TRUE(accepted(subscriber, "SUB " + topic + " 1"));
  leave_blocks(1); // for the message
  server->send(publisher, "RET " + topic + " 0 text");
  expect_delivered_and_counted(topic);
  EXPECT_EQ(live(), 0u);
}

TEST_F(RetainedAtQos0, AMessageThatWaitsTooLongForItsTopicIsDeliveredAndCounted) {
  ASSERT_TRUE(accepted(subscriber, "SUB a 1"));
  retained_table& table = broker_access::retained(core());
  retained_table::claim other;
  ASSERT_EQ(table.take("a", 10, false, {}, other), retained_table::claim_status::claimed);
  server->send(publisher, "RET a 0 text");
  const auto begun = std::chrono::steady_clock::now();
  while (core().counters().retained_refused == 0 &&
         std::chrono::steady_clock::now() - begun < std::chrono::seconds(60))
    server->settle();
  table.abandon(other.entry);
  expect_delivered_and_counted("a");
  EXPECT_EQ(live(), 0u);
}

TEST_F(RetainedAtQos0, CopiesThatFindNoRoomAreCountedAlsoForAMessageThatWaited) {
  config.volatile_messages_max = 1;
  open(true);
  connect(subscriber, "present");
  ASSERT_TRUE(accepted(subscriber, "SUB # 0"));
  server->send(subscriber, "STOP");
  server->send(publisher, "PUB b 0 first"); // takes the one place
  server->settle();
  server->send(publisher, "RET a 1 one");
  server->send(publisher, "RET a 1 two"); // waits for the topic
  server->settle();
  EXPECT_GE(core().counters().set_aside, 1u);
  server->send(subscriber, "GO");
  EXPECT_EQ(take(subscriber), (lines{"0 - b first"}));
  EXPECT_EQ(core().counters().dropped_qos0, 2u);
}

// --- several that publish to one topic -----------------------------------------------------------

/// Only for what a stranger sends: nothing is settled for it, and nothing delivered to it.
class no_front_end final : public front_end {
 public:
  std::uint32_t credit(std::uint32_t) const noexcept override { return 0; }
  void settled(std::span<const settlement>) noexcept override {}
  std::size_t deliver(std::uint32_t, std::span<const delivery_item>) noexcept override { return 0; }
  void withdrawn(std::uint32_t, std::uint64_t) noexcept override {}
  void closed(std::uint32_t, close_reason) noexcept override {}
};

/// A stranger without a session floods the topic "t" with retained messages at QoS -1.
class RetainedFlood : public Retained {
 protected:
  static constexpr int bursts_max = 200; // many more than a turn takes
  no_front_end none;

  void stranger(const std::string& text, unsigned worker = 0) {
    broker_worker& w = core().worker(worker);
    w.publish(none, no_session, w.topics().intern("t"), std::as_bytes(std::span(text)),
              {.qos = 0, .retain = true}, no_token);
  }
  /// Bursts, each with a message of the stranger, until the condition holds.
  template <class F> bool comes_true(F&& condition, unsigned workers = 1) {
    for (int burst = 0; burst < bursts_max && !condition(); ++burst) {
      stranger("flood" + std::to_string(burst));
      for (unsigned w = workers; w-- > 0;)
        (void)server->turn(w);
    }
    return condition();
  }
  std::string retained_text() {
    if (!accepted(subscriber, "CONNECT reader clean") || !accepted(subscriber, "SUB t 0"))
      return "(nobody reads)";
    const lines got = take(subscriber);
    return got.size() == 1 ? got[0].substr(got[0].rfind(' ') + 1) : "(nothing)";
  }
};

TEST_F(RetainedFlood, ASenderHasAShareOfThePlacesForPublishesThatWait) {
  for (int i = 0; i < 100; ++i)
    stranger("flood" + std::to_string(i));
  EXPECT_EQ(core().counters().set_aside, 8u) << "an eighth of the 64 places";
  EXPECT_EQ(core().counters().retained_refused, 91u) << "the first one did not wait";
  server->send(publisher, "RET t 1 mine");
  for (int i = 0; i < 20; ++i)
    (void)server->turn(0);
  EXPECT_EQ(server->next(publisher), "OK 2");
  EXPECT_EQ(retained_text(), "mine");
}

TEST_F(RetainedFlood, ASessionHasAShareOfThePlacesToo) {
  config.aside_max = 16;
  open(true);
  connect(another, "another");
  for (int i = 0; i < 4; ++i)
    server->send(publisher, "RET t 1 first" + std::to_string(i));
  server->send(another, "RET t 1 second");
  server->settle();
  EXPECT_EQ(server->next(publisher), "NO 5 congestion") << "two may wait, and one did not have to";
  for (const char* answer : {"OK 2", "OK 3", "OK 4"})
    EXPECT_EQ(server->next(publisher), answer);
  EXPECT_EQ(server->next(another), "OK 2");
  EXPECT_EQ(core().counters().retained_refused, 1u);
}

TEST_F(RetainedFlood, AMessageBeyondTheShareIsDeliveredAtQos0AndNotRetained) {
  config.aside_max = 8;
  open(true);
  connect(subscriber, "present");
  ASSERT_TRUE(accepted(subscriber, "SUB t 1"));
  for (int i = 0; i < 3; ++i)
    stranger("x" + std::to_string(i));
  lines got = take(subscriber);
  std::ranges::sort(got);
  EXPECT_EQ(got, (lines{"0 - t x0", "0 - t x1", "0 - t x2"}));
  EXPECT_EQ(core().counters().retained_refused, 1u);
  EXPECT_EQ(core().counters().retained, 2u);
}

TEST_F(RetainedFlood, ANewcomerDoesNotOvertakeAPublishThatWaits) {
  stranger("flood");
  server->send(publisher, "RET t 1 waiting");
  ASSERT_EQ(core().counters().set_aside, 1u);
  EXPECT_TRUE(comes_true([&] { return server->waiting(publisher) != 0; }));
  EXPECT_EQ(server->next(publisher), "OK 2");
}

TEST_F(RetainedFlood, TwoMessagesOfASenderWithoutASessionAreRetainedInTheirOrder) {
  server->send(publisher, "RET t 1 early");
  stranger("first");
  ASSERT_EQ(core().counters().set_aside, 1u);
  (void)server->turn(0);
  stranger("second");
  server->settle();
  EXPECT_EQ(retained_text(), "second");
}

TEST_F(RetainedFlood, ARetainedWillIsSentBetweenOthersMessages) {
  connect(subscriber, "watcher");
  ASSERT_TRUE(accepted(subscriber, "SUB t 1"));
  ASSERT_TRUE(accepted(another, "CONNECT owner retain t 1 gone"));
  stranger("flood");
  server->send(another, "LOST");
  EXPECT_TRUE(comes_true([&] { return core().counters().wills_sent != 0; }));
}

TEST_F(RetainedFlood, AnOperatorClearsATopicBetweenOthersMessages) {
  stranger("flood");
  (void)server->turn(0);
  const auto reply = core().clear_retained("t");
  ASSERT_NE(reply, nullptr);
  EXPECT_TRUE(comes_true([&] { return reply->done(); }));
  EXPECT_TRUE(reply->found);
}

TEST_F(RetainedFlood, APublishOfAnotherWorkerGetsItsTurn) {
  config.workers = 2;
  config.home_seed = 1;
  open(true);
  connect(another, identity_at(core(), 1, "other"));
  stranger("flood");
  server->send(another, "RET t 1 waiting");
  ASSERT_EQ(core().counters().set_aside, 1u);
  server->forget(another);
  EXPECT_TRUE(comes_true([&] { return server->waiting(another) != 0; }, 2));
  EXPECT_EQ(server->next(another), "OK 2");
}

TEST_F(RetainedFlood, AllThatWaitGetTheirTurns) {
  config.workers = 2;
  config.home_seed = 1;
  open(true);
  const unsigned at[] = {20, 21};
  const unsigned owners[] = {22, 23};
  for (unsigned w = 0; w < 2; ++w) {
    connect(at[w], identity_at(core(), w, "p"));
    ASSERT_TRUE(accepted(owners[w], "CONNECT " + identity_at(core(), w, "owner") +
                                        " retain t 1 gone" + std::to_string(w)));
  }
  stranger("flood");
  for (unsigned w = 0; w < 2; ++w) {
    for (int i = 0; i < 3; ++i)
      server->send(at[w], "RET t 1 " + std::to_string(i));
    server->send(owners[w], "LOST");
  }
  const auto reply = core().clear_retained("t");
  EXPECT_TRUE(comes_true(
      [&] {
        return server->waiting(at[0]) == 3 && server->waiting(at[1]) == 3 &&
               core().counters().wills_sent == 2 && (reply == nullptr || reply->done());
      },
      2));
}

TEST_F(RetainedFlood, ATopicIsNotKeptForeverForAWillThatWasGivenUp) {
  config.will_retry_s = 0;
  open(true);
  ASSERT_TRUE(accepted(publisher, "RET t 1 before"));
  ASSERT_TRUE(accepted(another, "CONNECT owner retain t 1 gone"));
  stranger("flood");
  server->send(another, "LOST");
  server->settle();
  ASSERT_EQ(core().counters().wills_dropped, 1u) << "it has met the claim of the stranger";
  server->send(publisher, "RET t 1 last");
  for (const std::time_t begin = std::time(nullptr);
       server->waiting(publisher) == 0 && std::time(nullptr) < begin + 60;)
    server->settle();
  EXPECT_EQ(server->next(publisher), "OK 3");
  EXPECT_EQ(retained_text(), "last");
}

} // namespace
} // namespace chainring::testing_line
