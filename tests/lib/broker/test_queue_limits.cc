// SPDX-License-Identifier: BSD-3-Clause
// The limit of a queue in bytes, and what drop-oldest drops, by one worker and by another one than
// the publisher's, under the line front end.
#include "limits_fixture.h"

namespace chainring::testing_line {
namespace {

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
  static constexpr unsigned remote = 20, senders[] = {remote, 21, 22};
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
  void more_senders() {
    for (unsigned i = 1; i < 3; ++i)
      ASSERT_TRUE(accepted(senders[i],
                           "CONNECT " + identity_at(core(), 0, "more" + std::to_string(i)) + " -"));
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

// One look of the other worker makes room for all that waited.
TEST_F(TwoWorkers, TheMessagesOfABurstAskForTheirBytesTogether) {
  config.queue_bytes = 350;
  begin(overflow_policy::drop_oldest);
  more_senders();
  server->send(subscriber, "STOP");
  fill(3, std::string(98, 'x'));
  for (const unsigned at : senders)
    server->send(at, "PUB t 1 " + std::string(99, 'y'));
  (void)server->turn(0);
  ASSERT_EQ(counters().set_aside, 3u);
  (void)server->turn(1);
  EXPECT_EQ(info(slow).dropped_oldest, 3u);
  for (const unsigned at : senders)
    EXPECT_EQ(answers(at), lines{"OK"});
}

// A message that finds no room whatever is dropped does not keep a shorter one from its own.
TEST_F(TwoWorkers, AShortMessageIsMadeRoomForBesideALongOneThatFindsNone) {
  config.queue_bytes = 350;
  begin(overflow_policy::drop_oldest, 2);
  more_senders();
  fill(1, std::string(98, 'x'));
  ASSERT_TRUE(accepted(remote, "PUB t 2:1 " + std::string(99, 'x')));
  server->settle();
  server->send(subscriber, "STOP");
  fill(1, std::string(98, 'x'));
  server->send(senders[1], "PUB t 1 " + std::string(200, 'z'));
  server->send(senders[2], "PUB t 1 " + std::string(99, 'y'));
  (void)server->turn(0);
  ASSERT_EQ(counters().set_aside, 2u);
  (void)server->turn(1);
  EXPECT_EQ(info(slow).dropped_oldest, 1u);
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

} // namespace
} // namespace chainring::testing_line
