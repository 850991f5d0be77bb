// SPDX-License-Identifier: BSD-3-Clause
// What ends or bounds the messages that the core keeps: their expiry, and the limits and policies
// of queues, under the line front end.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

#include "../region/region_fixture.h"
#include "line_fixture.h"
#include "support/eal_main.h"
#include "wall_clock.h"

namespace chainring::testing_line {
namespace {

constexpr unsigned publisher = 1, subscriber = 2, another = 3;
using lines = std::vector<std::string>;

class Limits : public testing::Test {
 protected:
  test::line_bytes bytes = test::line_bytes(4 << 20);
  broker_config config = line_config(1, 15);
  store_layout layout;
  std::unique_ptr<test::line_server> server;

  Limits() {
    layout.sessions_max = 16;
    layout.subscriptions_max = 64;
    layout.messages_max = 512;
    layout.groups_max = 1;
    layout.retained_max = 64;
    test::wall_clock_ahead_s = 0;
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
  /// A subscriber of topic "t" that is connected, or else absent.
  void subscribe(unsigned at, const std::string& name, int qos, bool stays,
                 const std::string& flags = "-") {
    ASSERT_TRUE(accepted(at, "CONNECT " + name + " " + flags));
    ASSERT_TRUE(accepted(at, "SUB t " + std::to_string(qos)));
    if (!stays) leave(at);
  }
  void leave(unsigned at) {
    ASSERT_TRUE(accepted(at, "BYE"));
    server->forget(at);
  }
  broker& core() { return server->broker(); }
  broker_counters counters() { return core().counters(); }
  session_info info(const std::string& name) {
    const auto found = core().session_of(name);
    EXPECT_TRUE(found) << name;
    return found.value_or(session_info{});
  }
  bool accepted(unsigned at, const std::string& line) {
    return server->ask(at, line).starts_with("OK ");
  }
  bool publish(const std::string& text) { return accepted(publisher, "PUB t 1 " + text); }
  /// Turns until the condition holds. The worker looks after its sessions now and then.
  template <class F> bool comes_true(F&& condition) {
    for (const std::time_t begin = std::time(nullptr); !condition();) {
      if (std::time(nullptr) > begin + 60) return false;
      server->settle();
    }
    return true;
  }
  /// The texts that the connection has got; each is acknowledged.
  lines take(unsigned at) {
    lines got;
    server->settle();
    for (std::string line = server->next(at); !line.empty(); line = server->next(at)) {
      if (!line.starts_with("MSG ")) continue;
      got.push_back(line.substr(line.rfind(' ') + 1));
      const std::string number = line.substr(4, line.find(' ', 4) - 4);
      if (number != "0") server->send(at, "ACK " + number);
      server->settle();
    }
    return got;
  }
};

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

// --- bytes in a queue ----------------------------------------------------------------------------

class QueueBytes : public Limits {
 protected:
  std::string text(int i) { return std::to_string(i) + std::string(98, 'x'); } // 99 octets

  void begin(overflow_policy policy) {
    config.queue_bytes = 350; // three messages of 100 octets, with the topic
    config.overflow = policy;
    open(true);
    subscribe(subscriber, "absent", 1, false);
  }
};

TEST_F(QueueBytes, AQueueRefusesWhatWouldExceedItsLimitOfBytes) {
  begin(overflow_policy::reject);
  for (int i = 1; i <= 3; ++i)
    ASSERT_TRUE(publish(text(i)));
  EXPECT_EQ(info("absent").queue_bytes, 300u);
  EXPECT_FALSE(publish(text(4)));
  EXPECT_TRUE(publish("short"));
  EXPECT_EQ(info("absent").over_bytes, 1u);
  EXPECT_EQ(counters().over_queue_bytes, 1u);
  open(false);
  EXPECT_EQ(info("absent").queue_bytes, 306u) << "counted again by an open";
  ASSERT_TRUE(accepted(subscriber, "CONNECT absent -"));
  EXPECT_EQ(take(subscriber).size(), 4u);
  server->settle();
  EXPECT_EQ(info("absent").queue_bytes, 0u);
  leave(subscriber);
  EXPECT_TRUE(publish(std::string(400, 'y'))) << "an empty queue takes any message";
}

TEST_F(QueueBytes, DropOldestDropsAsManyAsTheNewMessageNeeds) {
  begin(overflow_policy::drop_oldest);
  for (int i = 1; i <= 3; ++i)
    ASSERT_TRUE(publish(text(i)));
  ASSERT_TRUE(publish(std::string(199, 'z')));
  EXPECT_EQ(info("absent").dropped_oldest, 2u);
  EXPECT_EQ(info("absent").queue_bytes, 300u);
  ASSERT_TRUE(accepted(subscriber, "CONNECT absent -"));
  EXPECT_EQ(take(subscriber), (lines{text(3), std::string(199, 'z')}));
}

TEST_F(QueueBytes, ABurstDoesNotExceedTheLimit) {
  begin(overflow_policy::drop_newest);
  for (int i = 1; i <= 5; ++i)
    server->send(publisher, "PUB t 1 " + text(i));
  server->settle();
  EXPECT_EQ(info("absent").queue_bytes, 300u);
  EXPECT_EQ(info("absent").dropped_newest, 2u);
}

TEST_F(QueueBytes, ACleanStartLeavesNoBytes) {
  begin(overflow_policy::reject);
  ASSERT_TRUE(publish(text(1)));
  ASSERT_TRUE(accepted(subscriber, "CONNECT absent clean"));
  EXPECT_EQ(info("absent").queue_bytes, 0u);
}

// A client may have received a QoS 2 message in part, so only its answers end that message, and
// what stands behind it cannot be dropped either.
class QueueBytesBehindQos2 : public QueueBytes {
 protected:
  void SetUp() override {
    config.queue_bytes = 350;
    config.overflow = overflow_policy::drop_oldest;
    open(true);
    subscribe(subscriber, "exact", 2, true);
  }
  void stop() {
    server->settle();
    server->send(subscriber, "STOP");
  }
};

TEST_F(QueueBytesBehindQos2, AQueueThatCanDropNothingRefusesWhatExceedsItsLimitOfBytes) {
  ASSERT_TRUE(accepted(publisher, "PUB t 2:1 " + text(1)));
  stop();
  ASSERT_TRUE(publish(text(2)));
  ASSERT_TRUE(publish(text(3)));
  for (int i = 0; i < 5; ++i)
    EXPECT_FALSE(publish(text(4)));
  EXPECT_EQ(info("exact").queue_bytes, 300u);
  EXPECT_EQ(info("exact").dropped_oldest, 0u);
  EXPECT_EQ(info("exact").refused, 5u);
  ASSERT_TRUE(server->next(subscriber).starts_with("MSG 1 2 "));
  server->send(subscriber, "REC 1");
  server->settle();
  ASSERT_EQ(server->next(subscriber), "REL 1");
  server->send(subscriber, "ACK 1");
  server->settle();
  EXPECT_TRUE(publish(text(4)));
  EXPECT_EQ(info("exact").dropped_oldest, 0u);
}

TEST_F(QueueBytesBehindQos2, AMessageThatDoesNotFitHoldsUpNoOtherOfItsBurst) {
  ASSERT_TRUE(accepted(publisher, "PUB t 2:1 " + text(1)));
  stop();
  ASSERT_TRUE(publish(text(2)));
  ASSERT_TRUE(publish(text(3)));
  server->send(publisher, "PUB t 1 first");
  server->send(publisher, "PUB t 1 " + text(4));
  server->send(publisher, "PUB t 1 second");
  server->settle();
  EXPECT_EQ(server->next(publisher), "NO 6 congestion") << "it is refused at once";
  EXPECT_EQ(server->next(publisher), "OK 5");
  EXPECT_EQ(server->next(publisher), "OK 7");
}

TEST_F(QueueBytesBehindQos2, NothingIsDroppedForAMessageThatFindsNoRoomAllTheSame) {
  ASSERT_TRUE(publish(text(1)));
  ASSERT_TRUE(accepted(publisher, "PUB t 2:1 " + text(2)));
  stop();
  ASSERT_TRUE(publish(text(3)));
  EXPECT_FALSE(publish(std::string(200, 'z'))) << "the first one alone does not make room for it";
  EXPECT_EQ(info("exact").dropped_oldest, 0u);
  EXPECT_TRUE(publish(text(4)));
  EXPECT_EQ(info("exact").dropped_oldest, 1u);
}

TEST_F(QueueBytes, AMessageLongerThanTheLimitReplacesAllOthersWithDropOldest) {
  begin(overflow_policy::drop_oldest);
  ASSERT_TRUE(publish(text(1)));
  ASSERT_TRUE(publish(text(2)));
  EXPECT_TRUE(publish(std::string(400, 'z')));
  EXPECT_EQ(info("absent").dropped_oldest, 2u);
  EXPECT_EQ(info("absent").queue_bytes, 401u);
  EXPECT_TRUE(publish(text(3)));
  EXPECT_EQ(info("absent").queue_bytes, 100u);
}

TEST_F(QueueBytes, AMessageThatTheLimitRefusesIsCountedForItsQueue) {
  begin(overflow_policy::reject);
  ASSERT_TRUE(publish(text(1)));
  EXPECT_FALSE(publish(std::string(400, 'z')));
  EXPECT_EQ(info("absent").refused, 1u);
}

// --- drop-oldest ---------------------------------------------------------------------------------

class DropOldest : public Limits {
 protected:
  void begin() {
    config.overflow = overflow_policy::drop_oldest;
    open(true);
    subscribe(subscriber, "slow", 1, true);
  }
  void fill(int messages, const std::string& with = "") {
    for (int i = 1; i <= messages; ++i)
      ASSERT_TRUE(publish(std::to_string(i) + with));
    server->settle();
  }
  /// The answers to what the connection asked.
  lines answers(unsigned at) {
    lines got;
    server->settle();
    for (std::string line = server->next(at); !line.empty(); line = server->next(at))
      if (line.starts_with("OK ") || line.starts_with("NO ")) got.push_back(line.substr(0, 2));
    return got;
  }
};

TEST_F(DropOldest, ABurstLargerThanAQueueIsRefusedOnlyInItsRest) {
  begin();
  for (int i = 0; i < 20; ++i)
    server->send(publisher, "PUB t 1 " + std::to_string(i));
  const lines got = answers(publisher);
  EXPECT_EQ(std::ranges::count(got, "OK"), 15);
  EXPECT_EQ(std::ranges::count(got, "NO"), 5);
  EXPECT_EQ(info("slow").queue_depth, 15u);
}

TEST_F(DropOldest, AnAcknowledgementOfTheSameBurstMakesTheRoom) {
  begin();
  fill(15);
  server->send(subscriber, "ACK 1");
  server->send(publisher, "PUB t 1 new");
  EXPECT_EQ(answers(publisher), lines{"OK"});
  EXPECT_EQ(info("slow").dropped_oldest, 0u);
  server->send(subscriber, "ACK 3");
  server->send(publisher, "PUB t 1 new");
  server->send(publisher, "PUB t 1 new");
  EXPECT_EQ(answers(publisher), (lines{"OK", "OK"}));
  EXPECT_EQ(info("slow").dropped_oldest, 1u) << "the second one frees the place of the third too";
}

TEST_F(DropOldest, AnAcknowledgementOfTheSameBurstMakesRoomForBytesToo) {
  config.queue_bytes = 350;
  begin();
  fill(3, std::string(98, 'x'));
  server->send(subscriber, "ACK 1");
  server->send(publisher, "PUB t 1 " + std::string(99, 'y'));
  EXPECT_EQ(answers(publisher), lines{"OK"});
  EXPECT_EQ(info("slow").dropped_oldest, 0u);
}

// --- limits between two workers ------------------------------------------------------------------

/// The publisher is worker 0's, and the subscribers are worker 1's.
class TwoWorkers : public DropOldest {
 protected:
  static constexpr unsigned remote = 20;
  std::string slow, viewer;

  TwoWorkers() {
    config.workers = 2;
    config.home_seed = 1;
  }
  void begin(overflow_policy policy, int qos = 1) {
    config.overflow = policy;
    open(true);
    slow = identity_at(core(), 1, "slow");
    viewer = identity_at(core(), 1, "viewer");
    ASSERT_TRUE(accepted(remote, "CONNECT " + identity_at(core(), 0, "remote") + " -"));
    subscribe(subscriber, slow, qos, true);
  }
  void fill(int messages, const std::string& with = "") {
    for (int i = 1; i <= messages; ++i)
      ASSERT_TRUE(accepted(remote, "PUB t 1 " + std::to_string(i) + with));
    server->settle();
  }
  /// Publishes, and turns until there is an answer.
  std::string answer_to(const std::string& text) {
    std::string got = server->ask(remote, "PUB t 1 " + text);
    (void)comes_true([&] {
      if (got.empty()) got = server->next(remote);
      return !got.empty();
    });
    return got.substr(0, 2);
  }
};

TEST_F(TwoWorkers, RoomThatAnAcknowledgementMakesIsNotMadeByADropToo) {
  begin(overflow_policy::drop_oldest);
  fill(15);
  server->send(remote, "PUB t 1 new");
  (void)server->turn(0);
  ASSERT_EQ(counters().set_aside, 1u);
  server->send(subscriber, "ACK 1");
  EXPECT_EQ(answers(remote), lines{"OK"});
  EXPECT_EQ(info(slow).dropped_oldest, 0u);
}

TEST_F(TwoWorkers, AMessageAcknowledgedBehindTheRequestForRoomIsNotDropped) {
  config.queue_bytes = 350;
  begin(overflow_policy::drop_oldest);
  fill(3, std::string(98, 'x'));
  server->send(remote, "PUB t 1 " + std::string(99, 'y'));
  (void)server->turn(0);
  ASSERT_EQ(counters().set_aside, 1u);
  server->send(subscriber, "ACK 1");
  EXPECT_EQ(answers(remote), lines{"OK"});
  EXPECT_EQ(info(slow).dropped_oldest, 0u);
}

TEST_F(TwoWorkers, TheLimitOfBytesDropsAsManyAsTheNewMessageNeeds) {
  config.queue_slots = 127;
  config.queue_bytes = 200;
  begin(overflow_policy::drop_oldest);
  server->send(subscriber, "STOP");
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(accepted(remote, "PUB t 1 x"));
  ASSERT_EQ(info(slow).queue_bytes, 200u);
  EXPECT_EQ(answer_to(std::string(149, 'y')), "OK");
  EXPECT_EQ(info(slow).dropped_oldest, 75u);
  EXPECT_EQ(info(slow).queue_bytes, 200u);
}

TEST_F(TwoWorkers, AQueueHoldsItsLimitOfBytesUnderEachPolicy) {
  for (const overflow_policy policy :
       {overflow_policy::reject, overflow_policy::drop_newest, overflow_policy::drop_oldest}) {
    config.queue_bytes = 350;
    begin(policy);
    server->send(subscriber, "STOP");
    fill(3, std::string(98, 'x'));
    const bool refused = policy == overflow_policy::reject;
    EXPECT_EQ(answer_to(std::string(99, 'y')), refused ? "NO" : "OK");
    EXPECT_EQ(info(slow).queue_bytes, 300u);
    EXPECT_EQ(info(slow).over_bytes, 1u);
    EXPECT_EQ(info(slow).dropped_newest, policy == overflow_policy::drop_newest ? 1u : 0u);
    EXPECT_EQ(info(slow).dropped_oldest, policy == overflow_policy::drop_oldest ? 1u : 0u);
    EXPECT_EQ(answer_to("short"), "OK");
  }
}

TEST_F(TwoWorkers, AMessageLongerThanTheLimitReplacesAllOthers) {
  config.queue_bytes = 350;
  begin(overflow_policy::drop_oldest);
  server->send(subscriber, "STOP");
  fill(3, std::string(98, 'x'));
  EXPECT_EQ(answer_to(std::string(400, 'z')), "OK");
  EXPECT_EQ(info(slow).queue_bytes, 401u);
  EXPECT_EQ(info(slow).dropped_oldest, 3u);
}

TEST_F(TwoWorkers, NothingIsDroppedForAMessageThatFindsNoRoomAllTheSame) {
  config.queue_bytes = 350;
  begin(overflow_policy::drop_oldest, 2);
  fill(1, std::string(98, 'x'));
  ASSERT_TRUE(accepted(remote, "PUB t 2:1 " + std::string(99, 'x')));
  server->settle();
  server->send(subscriber, "STOP");
  fill(1, std::string(98, 'x'));
  EXPECT_EQ(answer_to(std::string(200, 'y')), "NO");
  EXPECT_EQ(info(slow).dropped_oldest, 0u);
  EXPECT_EQ(answer_to(std::string(99, 'y')), "OK");
  EXPECT_EQ(info(slow).dropped_oldest, 1u);
}

// The request is to make room in the queue of a session that has ended.
TEST_F(TwoWorkers, ANewSessionDropsNothingForWhatItsPredecessorWasAsked) {
  config.queue_bytes = 350;
  begin(overflow_policy::drop_oldest);
  fill(3, std::string(98, 'x'));
  server->send(remote, "PUB t 1 " + std::string(300, 'y'));
  (void)server->turn(0);
  ASSERT_EQ(counters().set_aside, 1u);
  server->send(subscriber, "CONNECT " + slow + " clean");
  server->send(subscriber, "SUB t 1");
  EXPECT_EQ(answers(remote), lines{"OK"});
  server->send(subscriber, "STOP");
  fill(1, "x");
  EXPECT_EQ(info(slow).dropped_oldest, 0u);
}

TEST_F(TwoWorkers, MessagesThatExpireMakeRoomForThePublisherOfAnotherWorker) {
  config.message_expiry_s = 100;
  begin(overflow_policy::reject);
  leave(subscriber);
  fill(15);
  EXPECT_EQ(answer_to("refused"), "NO");
  test::wall_clock_ahead_s = 101;
  ASSERT_TRUE(comes_true([&] { return info(slow).queue_depth == 0; }));
  EXPECT_EQ(info(slow).expired_messages, 15u);
  EXPECT_EQ(answer_to("new"), "OK");
  ASSERT_TRUE(accepted(subscriber, "CONNECT " + slow + " -"));
  EXPECT_EQ(take(subscriber), lines{"new"});
}

TEST_F(TwoWorkers, AMessageThatExpiresBeforeItsClientTakesItIsNotDelivered) {
  config.message_expiry_s = 100;
  begin(overflow_policy::reject);
  server->send(subscriber, "STOP");
  ASSERT_TRUE(accepted(remote, "PUB t 1 early"));
  test::wall_clock_ahead_s = 60;
  ASSERT_TRUE(accepted(remote, "PUB t 1 late"));
  test::wall_clock_ahead_s = 120;
  server->send(subscriber, "GO");
  EXPECT_EQ(take(subscriber), lines{"late"});
  EXPECT_EQ(counters().expired_messages, 1u);
  server->settle();
  EXPECT_EQ(core().message_statistics().live, 0u);
}

// --- counters ------------------------------------------------------------------------------------

TEST_F(TwoWorkers, APublishThatWaitsIsCountedOnceInEachCounter) {
  config.overflow_clean = overflow_policy::drop_newest;
  config.queue_bytes = 350;
  begin(overflow_policy::drop_oldest);
  subscribe(another, viewer, 1, true, "passing");
  for (const unsigned at : {subscriber, another})
    server->send(at, "STOP");
  fill(3, std::string(98, 'x'));
  server->send(remote, "PUB t 1 " + std::string(99, 'y'));
  for (int i = 0; i < 10; ++i)
    (void)server->turn(0);
  ASSERT_EQ(counters().set_aside, 1u);
  EXPECT_EQ(counters().dropped_newest, 0u) << "it may still be refused";
  EXPECT_EQ(answers(remote), lines{"OK"});
  EXPECT_EQ(counters().dropped_newest, 1u);
  EXPECT_EQ(info(viewer).dropped_newest, 1u);
  EXPECT_EQ(counters().over_queue_bytes, 2u);
  EXPECT_EQ(info(slow).over_bytes, 1u);
  EXPECT_EQ(info(viewer).over_bytes, 1u);
}

TEST_F(QueueBytes, AWillThatWaitsIsCountedOnce) {
  config.will_retry_ms = 0;
  begin(overflow_policy::reject);
  for (int i = 1; i <= 3; ++i)
    ASSERT_TRUE(publish(text(i)));
  ASSERT_TRUE(accepted(another, "CONNECT owner - t 1 " + text(4)));
  server->send(another, "LOST");
  for (int i = 0; i < 20; ++i)
    (void)server->turn(0);
  EXPECT_EQ(info("absent").refused, 1u);
  EXPECT_EQ(info("absent").over_bytes, 1u);
  ASSERT_TRUE(accepted(subscriber, "CONNECT absent -"));
  EXPECT_EQ(take(subscriber), (lines{text(1), text(2), text(3), text(4)}));
  EXPECT_EQ(counters().over_queue_bytes, 1u);
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
