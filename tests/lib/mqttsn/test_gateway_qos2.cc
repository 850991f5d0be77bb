// SPDX-License-Identifier: BSD-3-Clause
// QoS 2 on the wire, from publishers and to subscribers, with repetitions, reconnections and
// clients that answer wrongly.
#include "gateway_fixture.h"

namespace chainring::testing_gateway {
namespace {

constexpr client_address alice = 101, bob = 102, bob_later = 103, stranger = 104;

class GatewayQos2 : public GatewayTest {
 protected:
  std::uint16_t topic = 0;

  /// Alice publishes to `t`, and Bob's session, which stays, subscribes to it.
  void SetUp() override {
    start();
    ASSERT_NE(b, nullptr);
    ASSERT_EQ(b->connect(alice, "alice", false), sn::return_code::accepted);
    topic = b->register_name(alice, "t");
    ASSERT_EQ(b->connect(bob, "bob", false), sn::return_code::accepted);
    subscribe(qos2);
  }
  /// Begins again with a gateway that soon sends again.
  void start_impatient(std::uint32_t retries) {
    gateway.retry_ms = 100;
    gateway.retry_ms_max = 100;
    gateway.retries_max = retries;
    SetUp();
  }
  void subscribe(sn::flags at) {
    const auto r = b->ask<sn::suback>(bob, sn::subscribe{.flags = at, .msg_id = 9, .topic = "t"});
    ASSERT_EQ(r.get<sn::suback>()->code, sn::return_code::accepted);
    EXPECT_EQ(r.get<sn::suback>()->flags.qos(), at.qos())
        << "the QoS that was asked for is granted";
  }
  /// Publishes at QoS 2 and returns the type of the one answer.
  std::string publish(std::uint16_t msg_id, std::string_view text, bool dup = false) {
    b->send_publish(alice, topic, text, msg_id, qos2.with_dup(dup));
    return answer(alice, msg_id);
  }
  std::string release(std::uint16_t msg_id) {
    b->send(alice, sn::pubrel{.msg_id = msg_id});
    return answer(alice, msg_id);
  }
  /// Returns the one message that came for that client, with its message id, in short.
  std::string answer(client_address at, std::uint16_t msg_id) {
    b->settle();
    std::string said;
    for (const received& r : b->all(at)) {
      std::uint16_t id = 0;
      if (const auto* m = r.get<sn::pubrec>()) id = m->msg_id;
      if (const auto* m = r.get<sn::pubrel>()) id = m->msg_id;
      if (const auto* m = r.get<sn::pubcomp>()) id = m->msg_id;
      if (const auto* m = r.get<sn::puback>()) id = m->msg_id;
      EXPECT_EQ(id, msg_id);
      said += (said.empty() ? "" : " ") + std::string(sn::to_string(r.m.type));
      if (const auto* m = r.get<sn::puback>())
        said += " " + std::to_string(static_cast<unsigned>(m->code));
    }
    return said;
  }
  /// Takes the PUBLISH that came for that client, after the REGISTER that may come first.
  std::optional<received> delivery(client_address at) {
    b->settle();
    auto r = b->next(at);
    if (r && r->get<sn::register_topic>()) {
      const auto* g = r->get<sn::register_topic>();
      b->send(at, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
      b->settle();
      r = b->next(at);
    }
    if (!r || !r->get<sn::publish>()) return std::nullopt;
    return r;
  }
  /// Waits until something comes for that client, and not for ever.
  std::optional<received> await(client_address at) {
    for (const std::time_t begin = std::time(nullptr); std::time(nullptr) < begin + 60;) {
      b->settle();
      if (auto r = b->next(at)) return r;
    }
    return std::nullopt;
  }
  static std::string text_of(const received& r) {
    const auto* p = r.get<sn::publish>();
    return {reinterpret_cast<const char*>(p->data.data()), p->data.size()};
  }
  [[nodiscard]] std::uint64_t unexpected() const { return b->gateway->counters().unexpected; }
};

// --- from publishers ----------------------------------------------------------------------------

TEST_P(GatewayQos2, APublishIsAnsweredByPubrecAndItsPubrelByPubcomp) {
  EXPECT_EQ(publish(7, "hello"), "PUBREC");
  const auto r = delivery(bob);
  ASSERT_TRUE(r);
  EXPECT_EQ(text_of(*r), "hello");
  EXPECT_EQ(r->get<sn::publish>()->flags.qos(), sn::qos_level::two);
  EXPECT_FALSE(r->get<sn::publish>()->flags.dup());
  EXPECT_EQ(release(7), "PUBCOMP");
}

TEST_P(GatewayQos2, EachRepetitionBeforePubrelGetsPubrecAndOneIsDelivered) {
  EXPECT_EQ(publish(7, "hello"), "PUBREC");
  EXPECT_EQ(publish(7, "hello", true), "PUBREC");
  EXPECT_EQ(publish(7, "hello", true), "PUBREC");
  EXPECT_EQ(publish(7, "hello"), "PUBREC") << "the DUP flag means nothing";
  EXPECT_EQ(release(7), "PUBCOMP");
  EXPECT_EQ(release(7), "PUBCOMP") << "a PUBREL that is repeated is answered again";
  EXPECT_EQ(b->broker->counters().repeated_qos2, 3u);
  EXPECT_EQ(b->broker->counters().placed, 1u);
}

TEST_P(GatewayQos2, APublishWithDupThatIsSeenFirstIsDelivered) {
  EXPECT_EQ(publish(7, "hello", true), "PUBREC");
  const auto r = delivery(bob);
  ASSERT_TRUE(r);
  EXPECT_EQ(text_of(*r), "hello");
  EXPECT_FALSE(r->get<sn::publish>()->flags.dup()) << "DUP is each sender's own";
  EXPECT_EQ(release(7), "PUBCOMP");
  EXPECT_EQ(publish(7, "again", true), "PUBREC");
  EXPECT_EQ(b->broker->counters().placed, 2u) << "the identifier was free, whatever DUP says";
}

TEST_P(GatewayQos2, APubrelAfterAReconnectGetsPubcomp) {
  EXPECT_EQ(publish(7, "hello"), "PUBREC");
  ASSERT_EQ(b->connect(alice, "alice", false), sn::return_code::accepted);
  topic = b->register_name(alice, "t");
  EXPECT_EQ(publish(7, "hello", true), "PUBREC") << "the identifier outlives the connection";
  EXPECT_EQ(b->broker->counters().placed, 1u);
  ASSERT_EQ(b->connect(alice, "alice", false), sn::return_code::accepted);
  EXPECT_EQ(release(7), "PUBCOMP");
  EXPECT_EQ(release(8), "PUBCOMP") << "an identifier that was never open is answered too";
}

TEST_P(GatewayQos2, AfterACleanConnectThePacketIdIsFree) {
  EXPECT_EQ(publish(7, "one"), "PUBREC");
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  topic = b->register_name(alice, "t");
  EXPECT_EQ(publish(7, "two"), "PUBREC");
  EXPECT_EQ(b->broker->counters().placed, 2u);
}

TEST_P(GatewayQos2, ARefusedPublishIsAnsweredByPuback) {
  b->send_publish(alice, 77, "x", 3, qos2);
  EXPECT_EQ(answer(alice, 3), "PUBACK 2") << "the topic id is unknown";
  const std::string large(b->broker->config().content_size_max + 1, 'x');
  EXPECT_EQ(publish(4, large), "PUBACK 3");
  for (std::uint16_t i = 1; i <= b->broker->config().queue_slots; ++i)
    ASSERT_EQ(b->publish(alice, topic, "fill", i), sn::return_code::accepted);
  EXPECT_EQ(publish(5, "x"), "PUBACK 1") << "the queue is full";
  EXPECT_EQ(release(5), "PUBCOMP");
}

TEST_P(GatewayQos2, APublisherThatNeverReleasesReachesItsLimit) {
  config.identifiers_per_session_max = 2;
  SetUp();
  EXPECT_EQ(publish(1, "a"), "PUBREC");
  EXPECT_EQ(publish(2, "b"), "PUBREC");
  EXPECT_EQ(publish(3, "c"), "PUBACK 1");
  EXPECT_EQ(b->broker->counters().refused_identifiers, 1u);
  EXPECT_EQ(release(1), "PUBCOMP");
  EXPECT_EQ(publish(3, "c"), "PUBREC");
}

TEST_P(GatewayQos2, StrangersGetDisconnectForEveryPartOfTheHandshake) {
  (void)b->ask<sn::disconnect>(stranger, sn::publish{.flags = qos2, .topic_id = 1, .msg_id = 1});
  (void)b->ask<sn::disconnect>(stranger, sn::pubrel{.msg_id = 1});
  (void)b->ask<sn::disconnect>(stranger, sn::pubrec{.msg_id = 1});
  b->send(stranger, sn::pubcomp{.msg_id = 1});
  b->settle();
  EXPECT_EQ(b->gateway->counters().unknown_source, 4u);
}

// --- to subscribers -----------------------------------------------------------------------------

TEST_P(GatewayQos2, APubrecIsAnsweredByPubrelAndThePubcompEndsTheExchange) {
  ASSERT_EQ(publish(7, "one"), "PUBREC");
  ASSERT_EQ(publish(8, "two"), "PUBREC");
  auto r = delivery(bob);
  ASSERT_TRUE(r);
  const std::uint16_t id = r->get<sn::publish>()->msg_id;
  b->send(bob, sn::pubrec{.msg_id = id});
  EXPECT_EQ(answer(bob, id), "PUBREL") << "the next message waits for the end of this one";
  b->send(bob, sn::pubcomp{.msg_id = id});
  r = delivery(bob);
  ASSERT_TRUE(r);
  EXPECT_EQ(text_of(*r), "two");
  EXPECT_EQ(b->broker->counters().acked, 1u);
}

TEST_P(GatewayQos2, AMessageIsDeliveredAtTheLowerOfBothQos) {
  subscribe(qos1);
  ASSERT_EQ(publish(7, "x"), "PUBREC");
  auto r = delivery(bob);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->get<sn::publish>()->flags.qos(), sn::qos_level::one);
  b->send(bob, sn::puback{.topic_id = r->get<sn::publish>()->topic_id,
                          .msg_id = r->get<sn::publish>()->msg_id});
  subscribe(qos0);
  ASSERT_EQ(publish(8, "x"), "PUBREC");
  r = delivery(bob);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->get<sn::publish>()->flags.qos(), sn::qos_level::zero);
  subscribe(qos2);
  ASSERT_EQ(b->publish(alice, topic, "x", 9), sn::return_code::accepted);
  r = delivery(bob);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->get<sn::publish>()->flags.qos(), sn::qos_level::one);
}

TEST_P(GatewayQos2, ThePublishIsSentAgainUntilPubrecAndThePubrelUntilPubcomp) {
  start_impatient(200);
  ASSERT_EQ(publish(7, "one"), "PUBREC");
  auto r = delivery(bob);
  ASSERT_TRUE(r);
  const std::uint16_t id = r->get<sn::publish>()->msg_id;
  r = await(bob);
  ASSERT_TRUE(r && r->get<sn::publish>());
  EXPECT_TRUE(r->get<sn::publish>()->flags.dup());
  EXPECT_EQ(r->get<sn::publish>()->msg_id, id);
  b->send(bob, sn::pubrec{.msg_id = id});
  b->settle();
  (void)b->all(bob);
  for (int i = 0; i < 3; ++i) { // from now on the PUBLISH is never sent again
    r = await(bob);
    ASSERT_TRUE(r && r->get<sn::pubrel>());
    EXPECT_EQ(r->get<sn::pubrel>()->msg_id, id);
  }
  b->send(bob, sn::pubrec{.msg_id = id});
  b->settle();
  for (const received& again : b->all(bob))
    EXPECT_NE(again.get<sn::pubrel>(), nullptr);
  b->send(bob, sn::pubcomp{.msg_id = id});
  b->settle();
  (void)b->all(bob);
  EXPECT_EQ(b->broker->counters().received_qos2, 1u);
  EXPECT_EQ(b->broker->counters().acked, 1u);
}

TEST_P(GatewayQos2, AClientThatNeverAnswersPubrelIsLostAndGetsPubrelWhenItIsBack) {
  start_impatient(5);
  ASSERT_EQ(publish(7, "one"), "PUBREC");
  auto r = delivery(bob);
  ASSERT_TRUE(r);
  const std::uint16_t id = r->get<sn::publish>()->msg_id;
  b->send(bob, sn::pubrec{.msg_id = id});
  for (const std::time_t begin = std::time(nullptr);
       b->gateway->counters().sessions_lost == 0 && std::time(nullptr) < begin + 60;)
    b->settle();
  ASSERT_EQ(b->gateway->counters().sessions_lost, 1u);
  b->send_connect(bob_later, "bob", false);
  b->settle();
  const auto said = b->all(bob_later);
  ASSERT_GE(said.size(), 2u);
  EXPECT_NE(said[0].get<sn::connack>(), nullptr);
  ASSERT_NE(said[1].get<sn::pubrel>(), nullptr) << "only the end of the exchange is missing";
  EXPECT_EQ(said[1].get<sn::pubrel>()->msg_id, id) << "the message id is the same";
  b->send(bob_later, sn::pubcomp{.msg_id = id});
  ASSERT_EQ(publish(8, "two"), "PUBREC");
  r = delivery(bob_later);
  ASSERT_TRUE(r);
  EXPECT_EQ(text_of(*r), "two");
}

TEST_P(GatewayQos2, AnswersThatNameNoExchangeUnderWayChangeNothing) {
  b->send(bob, sn::pubrec{.msg_id = 1});
  b->send(bob, sn::pubcomp{.msg_id = 1});
  b->settle();
  EXPECT_EQ(unexpected(), 2u) << "nothing is under way";
  ASSERT_EQ(publish(7, "one"), "PUBREC");
  auto r = delivery(bob);
  ASSERT_TRUE(r);
  const auto* p = r->get<sn::publish>();
  b->send(bob, sn::pubrec{.msg_id = static_cast<std::uint16_t>(p->msg_id + 1)});
  b->send(bob, sn::pubrec{.msg_id = 0});
  b->send(bob, sn::pubcomp{.msg_id = p->msg_id}); // it has not said that it has the message
  b->send(bob, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id}); // this is for QoS 1
  b->settle();
  EXPECT_EQ(unexpected(), 6u);
  EXPECT_EQ(b->broker->counters().received_qos2, 0u);
  EXPECT_EQ(b->broker->counters().acked, 0u);
  b->send(bob, sn::pubrec{.msg_id = p->msg_id});
  b->send(bob, sn::pubcomp{.msg_id = p->msg_id}); // in the same burst, before PUBREL could leave
  b->settle();
  EXPECT_EQ(b->count<sn::pubrel>(bob), 0u);
  EXPECT_EQ(b->broker->counters().acked, 1u);
  b->send(bob, sn::pubrec{.msg_id = p->msg_id});
  b->settle();
  EXPECT_EQ(unexpected(), 7u) << "the exchange is over";
}

TEST_P(GatewayQos2, APubrecForAMessageAtQosOneIsNoAnswer) {
  subscribe(qos1);
  ASSERT_EQ(publish(7, "one"), "PUBREC");
  const auto r = delivery(bob);
  ASSERT_TRUE(r);
  const auto* p = r->get<sn::publish>();
  b->send(bob, sn::pubrec{.msg_id = p->msg_id});
  b->settle();
  EXPECT_EQ(unexpected(), 1u);
  b->send(bob, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
  b->settle();
  EXPECT_EQ(b->broker->counters().acked, 1u);
}

TEST_P(GatewayQos2, AMessageThatTheClientRefusesByPubackIsDroppedAndCounted) {
  ASSERT_EQ(publish(7, "one"), "PUBREC");
  ASSERT_EQ(publish(8, "two"), "PUBREC");
  auto r = delivery(bob);
  ASSERT_TRUE(r);
  const auto* p = r->get<sn::publish>();
  b->send(bob, sn::puback{.topic_id = p->topic_id,
                          .msg_id = p->msg_id,
                          .code = sn::return_code::not_supported});
  EXPECT_EQ(text_of(*delivery(bob)), "two");
  EXPECT_EQ(b->gateway->counters().refused_by_client, 1u);
  EXPECT_EQ(b->broker->counters().dropped_by_client, 1u);
}

TEST_P(GatewayQos2, AnInvalidTopicIdInAPubackIsMendedAtQosTwoAsWell) {
  ASSERT_EQ(publish(7, "one"), "PUBREC");
  auto r = delivery(bob);
  ASSERT_TRUE(r);
  const auto* p = r->get<sn::publish>();
  b->send(bob, sn::puback{.topic_id = p->topic_id,
                          .msg_id = p->msg_id,
                          .code = sn::return_code::invalid_topic_id});
  const std::uint16_t id = p->msg_id;
  r = delivery(bob); // after the REGISTER that it answers
  ASSERT_TRUE(r);
  EXPECT_EQ(r->get<sn::publish>()->msg_id, id);
  EXPECT_TRUE(r->get<sn::publish>()->flags.dup());
  b->send(bob, sn::pubrec{.msg_id = id});
  EXPECT_EQ(answer(bob, id), "PUBREL");
}

TEST_P(GatewayQos2, PubrelIsSentAgainWhenTheLinkHadNoRoom) {
  start_impatient(200);
  ASSERT_EQ(publish(7, "one"), "PUBREC");
  auto r = delivery(bob);
  ASSERT_TRUE(r);
  const std::uint16_t id = r->get<sn::publish>()->msg_id;
  for (auto& link : b->links)
    link->room = 0;
  b->send(bob, sn::pubrec{.msg_id = id});
  b->settle();
  EXPECT_EQ(b->count<sn::pubrel>(bob), 0u);
  for (auto& link : b->links)
    link->room = std::numeric_limits<std::uint32_t>::max();
  r = await(bob);
  ASSERT_TRUE(r && r->get<sn::pubrel>());
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayQos2, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_gateway
