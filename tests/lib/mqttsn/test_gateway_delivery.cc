// SPDX-License-Identifier: BSD-3-Clause
// PUBLISH to clients: messages that are too long for an interface, topic ids that a client does not
// know, topics that it refuses, and links without room.
#include "base/idle.h"
#include "gateway_fixture.h"

namespace chainring::testing_gateway {
namespace {

constexpr std::uint64_t alice = 101, bob = 102, small_port = 201, large_port = 202;

// --- messages that are too long --------------------------------------------------------------

class GatewayLength : public GatewayTest {
 protected:
  static constexpr std::size_t large = 1472, small = 576;
  void SetUp() override {
    config.content_size_max = sn::payload_size_max(large);
    gateway.datagram_size_max = large;
    start();
    for (auto& l : b->links) {
      l->longest = large;
      l->longest_to[small_port] = small;
    }
  }
  static std::string text(std::size_t n, char c = 'x') { return std::string(n, c); }
};

TEST_P(GatewayLength, APublishTooLongForEveryListenerIsRefusedAsNotSupported) {
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  b->subscribe(bob, "t", sn::qos_level::one);
  const auto id = b->register_name(alice, "t");
  const std::string fits = text(sn::payload_size_max(large));
  EXPECT_EQ(b->publish(alice, id, fits, 1), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), fits);
  EXPECT_EQ(b->publish(alice, id, fits + "x", 2), sn::return_code::not_supported);
  EXPECT_EQ(b->take(bob), "(nothing)");
  EXPECT_EQ(b->broker->counters().refused_too_long, 1u);
  b->send_publish(alice, id, fits + "x", 0, qos0);
  b->settle();
  EXPECT_FALSE(b->next(alice));
  EXPECT_EQ(b->broker->counters().refused_too_long, 2u);
}

TEST_P(GatewayLength,
       AMessageTooLongForAConnectionIsKeptReportedOnceAndDeliveredThroughALargerPort) {
  b->connect(alice, "alice", true);
  b->connect(small_port, "bob", false);
  b->subscribe(small_port, "t", sn::qos_level::one);
  const auto id = b->register_name(alice, "t");
  const std::string one = text(1000, '1'), two = text(1100, '2');
  EXPECT_EQ(b->publish(alice, id, one, 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, id, "short", 2), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, id, two, 3), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, id, "another", 4), sn::return_code::accepted);
  EXPECT_EQ(b->take(small_port), "short");
  EXPECT_EQ(b->take(small_port), "another");
  EXPECT_EQ(b->take(small_port), "(nothing)");
  EXPECT_EQ(b->broker->counters().skipped, 2u);
  EXPECT_EQ(b->gateway->counters().kept_too_long, 2u);
  const auto events = b->events_of(broker_event::kind::too_long);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].identity, "bob");
  EXPECT_EQ(events[0].count, one.size());
  EXPECT_EQ(events[0].more, small);
  // The same connection is not offered them again, nor is the next one through a small port.
  EXPECT_EQ(b->publish(alice, id, "third", 5), sn::return_code::accepted);
  EXPECT_EQ(b->take(small_port), "third");
  EXPECT_EQ(b->connect(small_port, "bob", false), sn::return_code::accepted);
  EXPECT_EQ(b->take(small_port), "(nothing)");
  EXPECT_EQ(b->connect(large_port, "bob", false), sn::return_code::accepted);
  EXPECT_EQ(b->take(large_port), one);
  EXPECT_EQ(b->take(large_port), two);
  EXPECT_EQ(b->take(large_port), "(nothing)");
}

TEST_P(GatewayLength, AQosZeroMessageTooLongForAConnectionIsDroppedAndCounted) {
  b->connect(alice, "alice", true);
  b->connect(small_port, "bob", true);
  b->subscribe(small_port, "t", sn::qos_level::zero);
  const auto id = b->register_name(alice, "t");
  b->send_publish(alice, id, text(1000), 0, qos0);
  b->send_publish(alice, id, "short", 0, qos0);
  b->settle();
  EXPECT_EQ(b->take(small_port), "short");
  EXPECT_EQ(b->gateway->counters().dropped_too_long, 1u);
}

TEST_P(GatewayLength, AMessageWhoseNameIsTooLongForARegisterIsSkippedAndReportedOnce) {
  for (auto& l : b->links)
    l->longest_to[small_port] = 100;
  b->connect(alice, "alice", true);
  b->connect(small_port, "bob", false);
  b->subscribe(small_port, "#", sn::qos_level::one);
  const std::string name = text(200, 'n');
  const auto named = b->register_name(alice, name), id = b->register_name(alice, "t");
  EXPECT_EQ(b->publish(alice, named, "one", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, named, "two", 2), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, id, "three", 3), sn::return_code::accepted);
  EXPECT_EQ(b->take(small_port), "three");
  EXPECT_EQ(b->gateway->counters().kept_too_long, 2u);
  const auto events = b->events_of(broker_event::kind::too_long);
  ASSERT_EQ(events.size(), 1u) << "the event is reported once";
  EXPECT_EQ(events[0].identity, "bob");
  EXPECT_EQ(events[0].count, name.size()) << "the event reports the length of the name";
  EXPECT_EQ(b->connect(large_port, "bob", false), sn::return_code::accepted);
  EXPECT_EQ(b->take(large_port), "one");
  EXPECT_EQ(b->take(large_port), "two");
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayLength, testing::Values(1u, 3u));

// --- topic ids that a client does not know ---------------------------------------------------

class GatewayIds : public GatewayTest {
 protected:
  void SetUp() override {
    gateway.predefined = {{1, "sensor/1"}};
    start();
    b->connect(alice, "alice", true);
    b->connect(bob, "bob", false);
  }
  void subscribe_as(sn::topic_id_type type, std::uint16_t id, std::string_view name) {
    const auto r = b->ask<sn::suback>(
        bob, sn::subscribe{
                 .flags = qos1.with_topic_type(type), .msg_id = 4, .topic_id = id, .topic = name});
    ASSERT_EQ(r.get<sn::suback>()->code, sn::return_code::accepted);
  }
  /// Answers the next PUBLISH to bob with that code, and returns its topic id and type.
  std::pair<std::uint16_t, sn::topic_id_type> answer(sn::return_code code) {
    const auto r = b->next(bob);
    if (!r || r->get<sn::publish>() == nullptr) {
      ADD_FAILURE() << (r ? std::string(sn::to_string(r->m.type)) : "nothing came");
      return {};
    }
    const auto* p = r->get<sn::publish>();
    b->send(bob, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id, .code = code});
    b->settle();
    return {p->topic_id, p->flags.topic_type()};
  }
  /// Accepts the next message to bob, which must be a REGISTER, and returns its name.
  std::string registered() {
    const auto r = b->next(bob);
    if (!r || r->get<sn::register_topic>() == nullptr) {
      ADD_FAILURE() << (r ? std::string(sn::to_string(r->m.type)) : "nothing came");
      return "";
    }
    const auto* g = r->get<sn::register_topic>();
    b->send(bob, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
    b->settle();
    return std::string(g->topic);
  }
  static constexpr auto unknown = sn::return_code::invalid_topic_id;
};

TEST_P(GatewayIds, AClientThatDoesNotKnowAPredefinedIdGetsARegisterAndTheMessage) {
  subscribe_as(sn::topic_id_type::predefined, 1, "");
  const auto id = b->register_name(alice, "sensor/1");
  EXPECT_EQ(b->publish(alice, id, "one", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, id, "two", 2), sn::return_code::accepted);
  EXPECT_EQ(answer(unknown), std::pair(std::uint16_t{1}, sn::topic_id_type::predefined));
  EXPECT_EQ(registered(), "sensor/1");
  EXPECT_EQ(b->take(bob), "one");
  EXPECT_EQ(b->take(bob), "two")
      << "the message comes with the normal id, which the client knows now";
  EXPECT_EQ(b->take(bob), "(nothing)");
  EXPECT_EQ(b->gateway->counters().ids_forgotten, 1u);
}

TEST_P(GatewayIds, AClientThatDoesNotKnowAShortNameLosesThatMessageAndGetsTheNext) {
  subscribe_as(sn::topic_id_type::short_name, sn::short_topic_id("ab"), "ab");
  subscribe_as(sn::topic_id_type::normal, 0, "t");
  const auto id = b->register_name(alice, "ab"), t = b->register_name(alice, "t");
  EXPECT_EQ(b->publish(alice, id, "one", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, t, "two", 2), sn::return_code::accepted);
  EXPECT_EQ(answer(unknown).second, sn::topic_id_type::short_name);
  EXPECT_EQ(b->take(bob), "two");
  EXPECT_EQ(b->gateway->counters().refused_by_client, 1u);
  EXPECT_EQ(b->broker->counters().dropped_by_client, 1u);
}

TEST_P(GatewayIds, AClientThatForgetsAnIdEachTimeLosesThatMessageAndGetsTheNext) {
  subscribe_as(sn::topic_id_type::normal, 0, "t");
  const auto id = b->register_name(alice, "t");
  EXPECT_EQ(b->publish(alice, id, "one", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, id, "two", 2), sn::return_code::accepted);
  unsigned sent = 0;
  for (; sent < 20 && b->broker->counters().dropped_by_client == 0; ++sent) {
    (void)answer(unknown);
    if (b->broker->counters().dropped_by_client != 0) continue;
    EXPECT_EQ(registered(), "t");
  }
  EXPECT_EQ(sent, gateway.retries_max + 1);
  EXPECT_EQ(b->take(bob), "two");
  EXPECT_EQ(b->take(bob), "(nothing)");
}

TEST_P(GatewayIds, APredefinedIdThatIsUnknownLeavesTheNormalIdsKnown) {
  subscribe_as(sn::topic_id_type::normal, 0, "t"); // the topic id is 2, above the predefined one
  subscribe_as(sn::topic_id_type::predefined, 1, "");
  const auto sensor = b->register_name(alice, "sensor/1"), t = b->register_name(alice, "t");
  EXPECT_EQ(b->publish(alice, sensor, "one", 1), sn::return_code::accepted);
  EXPECT_EQ(answer(unknown), std::pair(std::uint16_t{1}, sn::topic_id_type::predefined));
  EXPECT_EQ(registered(), "sensor/1");
  EXPECT_EQ(b->take(bob), "one");
  EXPECT_EQ(b->publish(alice, t, "two", 2), sn::return_code::accepted);
  EXPECT_EQ(answer(sn::return_code::accepted),
            std::pair(std::uint16_t{2}, sn::topic_id_type::normal))
      << "the client has never rejected the normal id";
}

TEST_P(GatewayIds, AClientThatDoesNotKnowTheIdOfAQosZeroPublishGetsARegisterBeforeTheNext) {
  b->subscribe(bob, "t", sn::qos_level::zero);
  const auto id = b->register_name(alice, "t");
  b->send_publish(alice, id, "one", 0, qos0);
  b->settle();
  const auto r = b->next(bob);
  ASSERT_TRUE(r && r->get<sn::publish>());
  b->send(bob,
          sn::puback{.topic_id = r->get<sn::publish>()->topic_id, .msg_id = 0, .code = unknown});
  b->send_publish(alice, id, "two", 0, qos0);
  b->settle();
  EXPECT_EQ(registered(), "t");
  EXPECT_EQ(b->take(bob), "two");
}

// Several messages may be under way before the first answer comes.
TEST_P(GatewayIds, AClientThatDoesNotKnowTheIdOfAnEarlierQosZeroPublishGetsItsRegister) {
  b->subscribe(bob, "t", sn::qos_level::zero);
  b->subscribe(bob, "u", sn::qos_level::zero);
  const auto t = b->register_name(alice, "t"), u = b->register_name(alice, "u");
  b->send_publish(alice, t, "one", 0, qos0);
  b->send_publish(alice, u, "two", 0, qos0);
  b->settle();
  const auto first = b->next(bob), second = b->next(bob);
  ASSERT_TRUE(first && first->get<sn::publish>() && second && second->get<sn::publish>());
  b->send(bob, sn::puback{.topic_id = first->get<sn::publish>()->topic_id, .code = unknown});
  b->send(bob, sn::puback{.topic_id = 999, .code = unknown}); // this id was never used
  b->send_publish(alice, t, "three", 0, qos0);
  b->send_publish(alice, u, "four", 0, qos0);
  b->settle();
  EXPECT_EQ(registered(), "t");
  EXPECT_EQ(b->take(bob), "three");
  EXPECT_EQ(b->take(bob), "four");
  EXPECT_EQ(b->gateway->counters().ids_forgotten, 1u);
  EXPECT_EQ(b->gateway->counters().unexpected, 1u);
}

TEST_P(GatewayIds, AClientThatDoesNotKnowThePredefinedIdOfAQosZeroPublishGetsARegister) {
  const auto r = b->ask<sn::suback>(
      bob, sn::subscribe{.flags = qos0.with_topic_type(sn::topic_id_type::predefined),
                         .msg_id = 4,
                         .topic_id = 1});
  ASSERT_EQ(r.get<sn::suback>()->code, sn::return_code::accepted);
  const auto id = b->register_name(alice, "sensor/1");
  b->send_publish(alice, id, "one", 0, qos0);
  b->settle();
  ASSERT_TRUE(b->next(bob));
  b->send(bob, sn::puback{.topic_id = 1, .msg_id = 0, .code = unknown});
  b->send_publish(alice, id, "two", 0, qos0);
  b->settle();
  EXPECT_EQ(registered(), "sensor/1");
  EXPECT_EQ(b->take(bob), "two");
}

// A client that answers is not lost, whatever its answer.
TEST_P(GatewayIds, AClientThatAnswersCongestionIsAskedAgainAndNotLost) {
  gateway.retry_ms = gateway.retry_ms_max = 1;
  gateway.retries_max = 2;
  start();
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  b->subscribe(bob, "+", sn::qos_level::one);
  const auto id = b->register_name(alice, "t");
  b->send_publish(alice, id, "one", 1);
  unsigned registers = 0, publishes = 0;
  const std::uint64_t end = rte_rdtsc() + 20 * rte_get_tsc_hz(); // this timeout only detects hangs
  for (idle_policy wait; publishes < 8 && rte_rdtsc() < end; wait.idle()) {
    b->round();
    while (const auto r = b->next(bob)) {
      const auto busy = sn::return_code::congestion;
      if (const auto* g = r->get<sn::register_topic>())
        b->send(bob, sn::regack{.topic_id = g->topic_id,
                                .msg_id = g->msg_id,
                                .code = ++registers < 8 ? busy : sn::return_code::accepted});
      if (const auto* p = r->get<sn::publish>(); p != nullptr && ++publishes < 8)
        b->send(bob, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id, .code = busy});
      if (r->get<sn::disconnect>()) publishes = 1000;
    }
  }
  EXPECT_EQ(publishes, 8u);
  EXPECT_EQ(b->gateway->counters().sessions_lost, 0u);
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayIds, testing::Values(1u, 3u));

// --- more topics than a session has ids ------------------------------------------------------

class GatewayManyTopics : public GatewayTest {
 protected:
  static constexpr unsigned ids = 8;
  void SetUp() override {
    gateway.registrations_per_session_max = ids;
    start();
    b->connect(bob, "bob", false);
  }
  /// Publishes one message on a topic of its own, from a client that has no ids to spare either.
  sn::return_code publish_on(const std::string& name, const std::string& text, sn::flags with) {
    b->connect(alice, "alice", true);
    const auto id = b->register_name(alice, name);
    if (with.qos() == sn::qos_level::one) return b->publish(alice, id, text, 1);
    b->send_publish(alice, id, text, 0, with);
    b->settle();
    return sn::return_code::accepted;
  }
};

TEST_P(GatewayManyTopics, AWildcardSubscriberGetsMessagesOnMoreTopicsThanASessionHasIds) {
  b->subscribe(bob, "many/+", sn::qos_level::one);
  for (unsigned round = 0; round < 2; ++round)
    for (unsigned i = 0; i < 3 * ids; ++i) {
      const std::string n = std::to_string(i);
      ASSERT_EQ(publish_on("many/" + n, n, qos1), sn::return_code::accepted);
      ASSERT_EQ(b->take(bob), n) << "the queue of the subscriber stands still";
    }
}

TEST_P(GatewayManyTopics, AWildcardSubscriberGetsQosZeroMessagesOnMoreTopicsThanASessionHasIds) {
  b->subscribe(bob, "many/+", sn::qos_level::zero);
  for (unsigned i = 0; i < 3 * ids; ++i) {
    const std::string n = std::to_string(i);
    ASSERT_EQ(publish_on("many/" + n, n, qos0), sn::return_code::accepted);
    ASSERT_EQ(b->take(bob), n);
  }
}

TEST_P(GatewayManyTopics, TheIdsThatAClientRequestedAreNeverReplaced) {
  std::vector<std::uint16_t> own;
  for (unsigned i = 0; i < ids; ++i)
    own.push_back(b->register_name(bob, "own/" + std::to_string(i)));
  b->subscribe(bob, "many/+", sn::qos_level::one);
  for (unsigned i = 0; i < 3 * ids; ++i) {
    const std::string n = std::to_string(i);
    ASSERT_EQ(publish_on("many/" + n, n, qos1), sn::return_code::accepted);
    ASSERT_EQ(b->take(bob), n);
  }
  for (const std::uint16_t id : own)
    EXPECT_EQ(b->publish(bob, id, "x", 3), sn::return_code::accepted);
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayManyTopics, testing::Values(1u, 3u));

// --- a link with little room -----------------------------------------------------------------

TEST(GatewayCredit, AWideFanOutThroughALinkWithLittleRoomLosesAndRepeatsNoMessage) {
  constexpr unsigned subscribers = 15'000, room = 64;
  constexpr std::uint64_t first = 100'000;
  store_layout layout;
  layout.sessions_max = subscribers + 100;
  layout.subscriptions_max = subscribers + 100;
  broker_config config = small_config();
  sn::gateway_config gateway;
  auto made = broker_on(memory_media(64 << 20, durability_class::process), config, true, layout);
  ASSERT_TRUE(made) << made.error().message;
  gateway_bench b(std::move(*made), gateway);
  b.connect(alice, "alice", true);
  const auto id = b.register_name(alice, "t");
  for (unsigned i = 0; i < subscribers; ++i) {
    b.send_connect(first + i, "s" + std::to_string(i));
    b.send_subscribe(first + i, "t");
    if (i % 500 == 499) b.round();
  }
  b.settle();
  ASSERT_EQ(b.broker->subscription_count(), subscribers);
  b.out.sent.clear();
  narrow_transport& link = *b.links[0];
  link.room = room;
  link.most = 0;
  link.stands_still = true;
  b.send_publish(alice, id, "to all", 1);
  for (int i = 0; i < 5; ++i)
    b.round();
  EXPECT_EQ(link.waiting(), room) << "the link must be filled exactly";
  EXPECT_LE(b.broker->counters().delivered, room);
  unsigned rounds = 0;
  for (; b.broker->counters().acked < subscribers && rounds < subscribers; ++rounds) {
    link.go_on();
    for (auto& [at, list] : b.out.sent) {
      if (at == alice) continue;
      ASSERT_LE(list.size(), 1u) << "a message was sent twice";
      const auto r = b.next(at);
      if (!r) continue;
      ASSERT_TRUE(r->get<sn::publish>());
      EXPECT_FALSE(r->get<sn::publish>()->flags.dup());
      b.send(at, sn::puback{.topic_id = r->get<sn::publish>()->topic_id,
                            .msg_id = r->get<sn::publish>()->msg_id});
    }
    b.round();
  }
  EXPECT_EQ(b.broker->counters().acked, subscribers);
  EXPECT_EQ(b.broker->counters().delivered, subscribers);
  EXPECT_EQ(b.gateway->counters().retransmitted, 0u);
  EXPECT_EQ(link.refused, 0u) << "a datagram was begun without credit";
  EXPECT_EQ(link.most, room);
  EXPECT_EQ(b.count<sn::puback>(alice), 1u);
}

// A request whose answer finds no room in the link is not answered, which is counted; the client
// repeats it.
TEST(GatewayCredit, AnAnswerThatCannotLeaveIsCountedAndTheNextRequestIsAnswered) {
  auto made = broker_on(memory_media(4 << 20, durability_class::process), small_config(), true);
  ASSERT_TRUE(made) << made.error().message;
  gateway_bench b(std::move(*made), small_gateway());
  b.connect(alice, "alice", true);
  b.links[0]->room = 0;
  b.send(alice, sn::pingreq{});
  b.settle();
  EXPECT_FALSE(b.next(alice));
  EXPECT_EQ(b.gateway->counters().answers_dropped, 1u);
  b.links[0]->room = 8;
  (void)b.ask<sn::pingresp>(alice, sn::pingreq{});
}

// A retransmission that finds no room is not counted against the client and happens when there is
// room.
class GatewayFullLink : public testing::TestWithParam<const char*> {};

TEST_P(GatewayFullLink, AClientIsNotLostForRetransmissionsThatCouldNotLeave) {
  auto made = broker_on(memory_media(4 << 20, durability_class::process), small_config(), true);
  ASSERT_TRUE(made) << made.error().message;
  sn::gateway_config gateway = small_gateway();
  gateway.retry_ms = gateway.retry_ms_max = 1;
  gateway.retries_max = 3;
  gateway_bench b(std::move(*made), gateway);
  b.connect(alice, "alice", true);
  b.connect(bob, "bob", true);
  b.subscribe(bob, GetParam(), sn::qos_level::one);
  const auto id = b.register_name(alice, "t");
  narrow_transport& link = *b.links[0];
  link.room = 2; // for the PUBACK and the message to bob
  link.stands_still = true;
  b.send_publish(alice, id, "one", 1);
  const std::uint64_t end =
      rte_rdtsc() + rte_get_tsc_hz() / 10; // this is a hundred retry intervals
  for (idle_policy wait; rte_rdtsc() < end; wait.idle())
    b.round();
  EXPECT_EQ(b.gateway->counters().sessions_lost, 0u);
  EXPECT_TRUE(b.connected("bob"));
  link.stands_still = false;
  link.go_on();
  EXPECT_EQ(b.take(bob), "one");
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutRegister, GatewayFullLink, testing::Values("t", "+"));

} // namespace
} // namespace chainring::testing_gateway
