// SPDX-License-Identifier: BSD-3-Clause
// Sleeping clients: what they are told, what waits for them, how they wake, and who may not wake
// them.
#include "base/idle.h"
#include "gateway_fixture.h"

namespace chainring::testing_gateway {
namespace {

constexpr client_address alice = 101, bob = 102, carol = 103, elsewhere = 104;
constexpr sn::disconnect sleeping(std::uint16_t duration_s) {
  return {.has_duration = true, .duration_s = duration_s};
}
constexpr sn::pingreq ping_of_bob{.client_id = "bob"};

class GatewaySleep : public GatewayTest {
 protected:
  std::uint16_t topic = 0;
  const std::uint64_t second = rte_get_tsc_hz();

  /// Alice publishes to `t`, and Bob's session, which stays, subscribes to it.
  void SetUp() override {
    start();
    ASSERT_NE(b, nullptr);
    ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
    topic = b->register_name(alice, "t");
    ASSERT_EQ(b->connect(bob, "bob", false), sn::return_code::accepted);
    b->subscribe(bob, "t", sn::qos_level::one);
  }
  /// Begins again with a gateway that soon sends again.
  void start_impatient(std::uint32_t retries) {
    gateway.retry_ms = 100;
    gateway.retry_ms_max = 100;
    gateway.retries_max = retries;
    SetUp();
  }
  void send_to_sleep(client_address at, std::uint16_t duration_s = 600) {
    const auto r = b->ask<sn::disconnect>(at, sleeping(duration_s));
    EXPECT_FALSE(r.get<sn::disconnect>()->has_duration);
  }
  void publish(std::string_view text) {
    EXPECT_EQ(b->publish(alice, topic, text, 1), sn::return_code::accepted);
  }
  /// Returns what came for that client in short, and acknowledges the PUBLISHes until there is
  /// nothing more.
  std::string take_all(client_address at) {
    std::string list;
    b->settle();
    while (auto r = b->next(at)) {
      if (!list.empty()) list += " ";
      if (const auto* g = r->get<sn::register_topic>()) {
        list += "REGISTER";
        b->send(at, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
      } else if (const auto* p = r->get<sn::publish>()) {
        list += std::string(reinterpret_cast<const char*>(p->data.data()), p->data.size());
        if (p->flags.dup()) list += "(again)";
        if (p->flags.qos() == sn::qos_level::one)
          b->send(at, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
        if (p->flags.qos() == sn::qos_level::two) b->send(at, sn::pubrec{.msg_id = p->msg_id});
      } else if (const auto* l = r->get<sn::pubrel>()) {
        list += "PUBREL";
        b->send(at, sn::pubcomp{.msg_id = l->msg_id});
      } else {
        list += sn::to_string(r->m.type);
      }
      b->settle();
    }
    return list;
  }
  std::string wake(client_address at, std::string_view id = "bob") {
    b->send(at, sn::pingreq{.client_id = id});
    return take_all(at);
  }
  /// Lets the time of a timer come.
  void go_on(double seconds) {
    const std::uint64_t end =
        rte_rdtsc() + static_cast<std::uint64_t>(seconds * static_cast<double>(second));
    for (idle_policy wait; rte_rdtsc() < end; wait.idle())
      b->round();
  }
  [[nodiscard]] sn::gateway_counters counters() const { return b->gateway->counters(); }
};

// --- falling asleep and waking ------------------------------------------------------------------

TEST_P(GatewaySleep, ASleepingClientIsSentNothingUntilItWakes) {
  send_to_sleep(bob);
  publish("one");
  publish("two");
  EXPECT_EQ(take_all(bob), "");
  EXPECT_TRUE(b->connected("bob"));
  EXPECT_EQ(wake(bob), "one two PINGRESP") << "the topic id is kept";
  publish("three");
  EXPECT_EQ(take_all(bob), "") << "the client sleeps again";
  EXPECT_EQ(wake(bob), "three PINGRESP");
  EXPECT_EQ(counters().sleeps, 1u);
  EXPECT_EQ(counters().wakes, 2u);
}

TEST_P(GatewaySleep, AClientForWhichNothingWaitsGetsPingrespAtOnce) {
  send_to_sleep(bob);
  EXPECT_EQ(wake(bob), "PINGRESP");
  EXPECT_EQ(wake(bob), "PINGRESP");
}

// The client could not sleep again while it waits for an id, which may take for ever.
TEST_P(GatewaySleep, AClientSleepsAgainWithoutAMessageForWhoseNameNoTopicIdIsFree) {
  gateway.registrations_max = 1;
  gateway.predefined = {{1, "t"}};
  start();
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "+", sn::qos_level::one);
  (void)b->register_name(bob, "the only registration");
  send_to_sleep(bob);
  b->send_publish(alice, 1, "waits", 1, qos1.with_topic_type(sn::topic_id_type::predefined));
  b->settle();
  EXPECT_EQ(wake(bob), "PINGRESP");
  EXPECT_GE(counters().registers_refused, 1u);
  EXPECT_EQ(wake(bob), "PINGRESP");
  EXPECT_EQ(b->connect(bob, "bob", false), sn::return_code::accepted);
  EXPECT_EQ(take_all(bob), "REGISTER waits(again)") << "a new connection has no registrations";
}

TEST_P(GatewaySleep, NamesAreRegisteredForAClientThatIsAwake) {
  b->subscribe(bob, "more/#", sn::qos_level::one);
  const auto id = b->register_name(alice, "more/x");
  send_to_sleep(bob);
  EXPECT_EQ(b->publish(alice, id, "x", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, id, "y", 2), sn::return_code::accepted);
  EXPECT_EQ(wake(bob), "REGISTER x y PINGRESP");
  EXPECT_EQ(b->publish(alice, id, "z", 3), sn::return_code::accepted);
  EXPECT_EQ(wake(bob), "z PINGRESP") << "the topic id is kept";
}

TEST_P(GatewaySleep, AllQosLevelsAreDeliveredBeforePingresp) {
  (void)b->ask<sn::suback>(bob, sn::subscribe{.flags = qos2, .msg_id = 9, .topic = "t"});
  send_to_sleep(bob);
  b->send_publish(alice, topic, "zero", 0, qos0);
  publish("one");
  b->send_publish(alice, topic, "two", 2, qos2);
  b->settle();
  b->send(alice, sn::pubrel{.msg_id = 2});
  b->settle();
  EXPECT_EQ(wake(bob), "zero one two PUBREL PINGRESP");
}

TEST_P(GatewaySleep, APingreqThatIsRepeatedWhileAwakeRepeatsNothing) {
  send_to_sleep(bob);
  publish("one");
  b->send(bob, ping_of_bob);
  b->settle();
  const auto first = b->next(bob);
  ASSERT_TRUE(first && first->get<sn::publish>());
  b->send(bob, ping_of_bob);
  b->send(bob, sn::pingreq{});
  b->settle();
  EXPECT_EQ(b->all(bob).size(), 0u);
  const auto* p = first->get<sn::publish>();
  b->send(bob, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
  EXPECT_EQ(take_all(bob), "PINGRESP");
}

TEST_P(GatewaySleep, AnExchangeThatTheSleepInterruptsGoesOnWhenTheClientWakes) {
  publish("one");
  ASSERT_EQ(b->count<sn::publish>(bob), 1u);
  send_to_sleep(bob);
  publish("two");
  EXPECT_EQ(take_all(bob), "");
  EXPECT_EQ(wake(bob), "one(again) two PINGRESP");
}

TEST_P(GatewaySleep, AHandshakeOfQos2ThatTheSleepInterruptsGoesOnWithPubrel) {
  (void)b->ask<sn::suback>(bob, sn::subscribe{.flags = qos2, .msg_id = 9, .topic = "t"});
  b->send_publish(alice, topic, "once", 1, qos2);
  b->settle();
  const auto r = b->next(bob);
  ASSERT_TRUE(r && r->get<sn::publish>());
  b->send(bob, sn::pubrec{.msg_id = r->get<sn::publish>()->msg_id});
  b->settle();
  ASSERT_EQ(b->count<sn::pubrel>(bob), 1u);
  send_to_sleep(bob);
  EXPECT_EQ(take_all(bob), "");
  EXPECT_EQ(wake(bob), "PUBREL PINGRESP");
}

TEST_P(GatewaySleep, ALateAcknowledgementFromASleepingClientBringsNothingMore) {
  publish("one");
  b->settle();
  const auto r = b->next(bob);
  ASSERT_TRUE(r && r->get<sn::publish>());
  publish("two");
  send_to_sleep(bob);
  const auto* p = r->get<sn::publish>();
  b->send(bob, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
  EXPECT_EQ(take_all(bob), "");
  EXPECT_EQ(wake(bob), "two PINGRESP");
}

TEST_P(GatewaySleep, ASleepingClientIsNotSentAnythingAgain) {
  start_impatient(2);
  publish("one");
  ASSERT_EQ(b->count<sn::publish>(bob), 1u);
  send_to_sleep(bob);
  go_on(0.5);
  EXPECT_EQ(b->all(bob).size(), 0u);
  EXPECT_EQ(wake(bob), "one(again) PINGRESP");
}

TEST_P(GatewaySleep, AnAwakeClientThatAnswersNothingSleepsAgainAndIsNotLost) {
  start_impatient(2);
  send_to_sleep(bob);
  publish("one");
  b->send(bob, ping_of_bob);
  go_on(0.6);
  EXPECT_EQ(b->count<sn::publish>(bob), 3u) << "it is sent again as often as to any client";
  go_on(0.3);
  EXPECT_EQ(b->all(bob).size(), 0u);
  EXPECT_TRUE(b->connected("bob"));
  EXPECT_EQ(counters().sessions_lost, 0u);
  EXPECT_EQ(wake(bob), "one(again) PINGRESP");
}

TEST_P(GatewaySleep, PingrespWaitsForAMessageThatHasNoRoomInTheNetwork) {
  send_to_sleep(bob);
  publish("one");
  for (auto& link : b->links)
    link->room = 0;
  b->send(bob, ping_of_bob);
  b->settle();
  EXPECT_EQ(b->all(bob).size(), 0u);
  for (auto& link : b->links)
    link->room = 1;
  EXPECT_EQ(take_all(bob), "one PINGRESP");
}

TEST_P(GatewaySleep, AMessageThatIsTooLongForTheConnectionDoesNotKeepTheClientAwake) {
  send_to_sleep(bob);
  publish(std::string(100, 'x'));
  publish("short");
  for (auto& link : b->links)
    link->longest_to[bob] = 40;
  EXPECT_EQ(wake(bob), "short PINGRESP");
  EXPECT_EQ(counters().kept_too_long, 1u);
}

// --- what a sleeping client may do --------------------------------------------------------------

TEST_P(GatewaySleep, ARequestOfASleepingClientIsAnsweredAndItSleepsOn) {
  send_to_sleep(bob);
  const auto id = b->register_name(bob, "t");
  EXPECT_EQ(b->publish(bob, id, "mine", 5), sn::return_code::accepted);
  (void)b->ask<sn::suback>(bob, sn::subscribe{.flags = qos1, .msg_id = 9, .topic = "u"});
  (void)b->ask<sn::unsuback>(bob, sn::unsubscribe{.msg_id = 10, .topic = "u"});
  (void)b->ask<sn::pingresp>(bob, sn::pingreq{});
  EXPECT_EQ(take_all(bob), "");
  EXPECT_EQ(wake(bob), "mine PINGRESP");
}

TEST_P(GatewaySleep, AConnectFromASleepingClientMakesItActive) {
  send_to_sleep(bob);
  publish("one");
  EXPECT_EQ(b->connect(bob, "bob", false), sn::return_code::accepted);
  EXPECT_EQ(take_all(bob), "REGISTER one");
  publish("two");
  EXPECT_EQ(take_all(bob), "two");
  EXPECT_EQ(wake(bob), "PINGRESP") << "a PINGREQ of an active client is only answered";
}

TEST_P(GatewaySleep, ADisconnectEndsTheSleep) {
  for (const bool awake : {false, true}) {
    SetUp();
    send_to_sleep(bob);
    if (awake) {
      publish("one");
      b->send(bob, ping_of_bob);
      b->settle();
      EXPECT_EQ(b->count<sn::publish>(bob), 1u);
    }
    (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
    EXPECT_FALSE(b->connected("bob"));
    EXPECT_EQ(wake(bob), "DISCONNECT");
  }
}

TEST_P(GatewaySleep, ASecondDurationTakesThePlaceOfTheFirst) {
  send_to_sleep(bob, 1);
  send_to_sleep(bob, 600);
  go_on(2);
  EXPECT_TRUE(b->connected("bob"));
  send_to_sleep(bob, 1);
  go_on(2);
  EXPECT_FALSE(b->connected("bob"));
}

TEST_P(GatewaySleep, ADurationFromAnAwakeClientPutsItToSleepWithoutPingresp) {
  send_to_sleep(bob);
  publish("one");
  b->send(bob, ping_of_bob);
  b->settle();
  ASSERT_EQ(b->count<sn::publish>(bob), 1u);
  send_to_sleep(bob, 60);
  EXPECT_EQ(take_all(bob), "");
  EXPECT_EQ(wake(bob), "one(again) PINGRESP");
}

TEST_P(GatewaySleep, AWillIsChangedAsleep) {
  send_to_sleep(bob);
  const auto r = b->ask<sn::willtopicresp>(bob, sn::willtopicupd{.flags = qos1, .topic = "will/b"});
  EXPECT_EQ(r.get<sn::willtopicresp>()->code, sn::return_code::accepted);
  EXPECT_EQ(wake(bob), "PINGRESP");
}

// --- durations ----------------------------------------------------------------------------------

TEST_P(GatewaySleep, TheDurationTakesThePlaceOfTheKeepAliveTime) {
  b->send(bob, sn::connect{.keep_alive_s = 1, .client_id = "bob"});
  b->settle();
  ASSERT_EQ(b->count<sn::connack>(bob), 1u);
  send_to_sleep(bob, 600);
  go_on(2);
  EXPECT_TRUE(b->connected("bob"));
}

TEST_P(GatewaySleep, AClientThatOversleepsIsLostAndItsWillIsSent) {
  EXPECT_EQ(b->connect(carol, "carol", true), sn::return_code::accepted);
  (void)b->subscribe(carol, "t", sn::qos_level::one);
  const std::string text = "overslept";
  (void)b->ask<sn::willtopicresp>(bob, sn::willtopicupd{.flags = qos1, .topic = "t"});
  (void)b->ask<sn::willmsgresp>(bob, sn::willmsgupd{.data = std::as_bytes(std::span(text))});
  send_to_sleep(bob, 1);
  std::string got;
  for (const std::time_t begin = std::time(nullptr);
       got.empty() && std::time(nullptr) < begin + 60;)
    got = take_all(carol);
  EXPECT_EQ(got, text);
  EXPECT_FALSE(b->connected("bob"));
  EXPECT_EQ(counters().sessions_lost, 1u);
}

TEST_P(GatewaySleep, EachSleepHasTheWholeDuration) {
  send_to_sleep(bob, 2);
  for (int i = 0; i < 3; ++i) {
    go_on(1.5);
    EXPECT_EQ(wake(bob), "PINGRESP");
  }
  EXPECT_TRUE(b->connected("bob"));
}

TEST_P(GatewaySleep, ADurationOfZeroEndsTheConnection) {
  send_to_sleep(bob, 0);
  EXPECT_FALSE(b->connected("bob"));
  EXPECT_EQ(counters().sleeps, 0u);
  EXPECT_EQ(counters().disconnects, 1u);
}

TEST_P(GatewaySleep, TheLongestDurationIsKept) {
  send_to_sleep(bob, 65535);
  publish("one");
  for (unsigned w = 0; w < b->broker->workers(); ++w)
    b->gateway->worker(w).judge(rte_rdtsc() + 72000 * second); // 10 % more are 72088.5 s
  EXPECT_TRUE(b->connected("bob"));
  EXPECT_EQ(wake(bob), "one PINGRESP");
}

// --- who may wake a client ----------------------------------------------------------------------

TEST_P(GatewaySleep, ASleepingClientMayWakeAtAnotherAddress) {
  send_to_sleep(bob);
  publish("one");
  EXPECT_EQ(wake(elsewhere), "one PINGRESP") << "the topic id is kept";
  EXPECT_EQ(take_all(bob), "");
  EXPECT_EQ(counters().addresses_moved, 1u);
  publish("two");
  EXPECT_EQ(wake(elsewhere), "two PINGRESP");
  b->send(bob, sn::pingreq{});
  EXPECT_EQ(take_all(bob), "DISCONNECT") << "nobody is connected at the former address";
}

TEST_P(GatewaySleep, AnActiveClientIsNotFoundAtAnotherAddress) {
  EXPECT_EQ(wake(elsewhere), "DISCONNECT");
  publish("one");
  EXPECT_EQ(take_all(elsewhere), "");
  EXPECT_EQ(take_all(bob), "one");
}

TEST_P(GatewaySleep, AnAwakeClientIsNotFoundAtAnotherAddress) {
  send_to_sleep(bob);
  publish("one");
  b->send(bob, ping_of_bob);
  b->settle();
  EXPECT_EQ(wake(elsewhere), "DISCONNECT");
  EXPECT_EQ(take_all(bob), "one PINGRESP");
}

TEST_P(GatewaySleep, AConnectedClientDoesNotWakeAnother) {
  send_to_sleep(bob);
  publish("one");
  EXPECT_EQ(wake(alice), "DISCONNECT");
  EXPECT_TRUE(b->connected("alice"));
  EXPECT_EQ(wake(bob), "one PINGRESP");
}

TEST_P(GatewaySleep, ASleepingClientDoesNotWakeAnother) {
  EXPECT_EQ(b->connect(carol, "carol", true), sn::return_code::accepted);
  send_to_sleep(carol);
  send_to_sleep(bob);
  publish("one");
  EXPECT_EQ(wake(carol), "DISCONNECT");
  EXPECT_EQ(wake(bob), "one PINGRESP");
  EXPECT_EQ(wake(carol, "carol"), "PINGRESP");
}

TEST_P(GatewaySleep, TheIdOfNobodyIsAStrangers) {
  EXPECT_EQ(wake(elsewhere, "nobody"), "DISCONNECT");
  EXPECT_EQ(wake(elsewhere, std::string(300, 'x')), "DISCONNECT");
  b->send(elsewhere, sleeping(60));
  EXPECT_EQ(take_all(elsewhere), "DISCONNECT");
}

TEST_P(GatewaySleep, AccessRulesJudgeTheAddressWhereAClientWakes) {
  send_to_sleep(bob);
  auto rules = access::rule_set::parse("default allow\ndeny connect from ::68/128", "rules");
  ASSERT_TRUE(rules) << rules.error().message;
  static_assert(elsewhere == client_address{0, 0x68, 0});
  b->gateway->use_rules(*rules);
  b->settle();
  EXPECT_EQ(wake(elsewhere), "DISCONNECT");
  EXPECT_EQ(counters().addresses_moved, 0u);
  EXPECT_EQ(wake(bob), "PINGRESP");
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewaySleep, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_gateway
