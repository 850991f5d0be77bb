// SPDX-License-Identifier: BSD-3-Clause
// Retained messages that are not retained, or that several want to publish to one topic.
#include <chrono>

#include "retained_fixture.h"
#include "topic/topic_names.h"

namespace chainring::testing_line {
namespace {

// --- QoS 0: nobody can be told -------------------------------------------------------------------

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

// Otherwise the topic would be kept for one that does not come.
TEST_F(RetainedFlood, WhoIsRefusedAPlaceHasNoTurn) {
  using enum retained_table::claim_status;
  retained_table& table = broker_access::retained(core());
  retained_table::claim first, second;
  ASSERT_EQ(table.take("t", 10, false, {.party = 1}, first), claimed);
  EXPECT_EQ(table.take("t", 10, false, {.party = 4, .stays = false}, second), wait);
  table.abandon(first.entry);
  EXPECT_EQ(
      table.take("t", 10, false, {.party = 7, .newcomer = true, .patience_tsc = 1000}, second),
      claimed);
  table.abandon(second.entry);
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
