// SPDX-License-Identifier: BSD-3-Clause

#include <array>

#include "broker_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_broker {
namespace {

constexpr std::uint64_t alice = 101, bob = 102, carol = 103;

class Broker : public testing::TestWithParam<unsigned> {
 protected:
  std::unique_ptr<bench> b;
  broker_config config = small_config(GetParam());
  sn::gateway_config gateway = small_gateway();
  void start() {
    auto made = broker_on(memory_media(4 << 20, durability_class::process), config, true);
    ASSERT_TRUE(made) << made.error().message;
    b = std::make_unique<bench>(std::move(*made), gateway);
  }
  void SetUp() override { start(); }
};

TEST_P(Broker, DeliversAPublishToItsSubscriber) {
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  ASSERT_EQ(b->connect(bob, "bob", true), sn::return_code::accepted);
  EXPECT_EQ(b->subscribe(bob, "a/b", sn::qos_level::one), 1);
  const auto id = b->register_name(alice, "a/b");
  EXPECT_EQ(b->publish(alice, id, "hello", 5), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), "hello");
  EXPECT_FALSE(b->next(bob));
  const auto c = b->broker->counters();
  EXPECT_EQ(c.placed, 1u);
  EXPECT_EQ(c.acked, 1u);
}

TEST_P(Broker, RegistersTheTopicOfAWildcardSubscriberBeforeItPublishes) {
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  EXPECT_EQ(b->subscribe(bob, "a/#", sn::qos_level::one), 0);
  const auto id = b->register_name(alice, "a/b/c");
  b->publish(alice, id, "one", 1);
  auto r = b->next(bob);
  ASSERT_TRUE(r && r->get<sn::register_topic>());
  EXPECT_EQ(r->get<sn::register_topic>()->topic, "a/b/c");
  EXPECT_FALSE(b->next(bob)) << "nothing may come before the REGACK";
  const auto g = *r->get<sn::register_topic>();
  b->send(bob, sn::regack{.topic_id = g.topic_id, .msg_id = g.msg_id});
  b->settle();
  EXPECT_EQ(b->take(bob), "one");
}

TEST_P(Broker, RefusingARegisterEndsThatSubscriptionAndTheNextMessageFollows) {
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  b->subscribe(bob, "+", sn::qos_level::one);
  const auto x = b->register_name(alice, "x"), y = b->register_name(alice, "y");
  b->publish(alice, x, "unwanted", 1);
  b->publish(alice, y, "wanted", 2);
  auto r = b->next(bob);
  ASSERT_TRUE(r && r->get<sn::register_topic>());
  b->send(bob, sn::regack{.topic_id = r->get<sn::register_topic>()->topic_id,
                          .msg_id = r->get<sn::register_topic>()->msg_id,
                          .code = sn::return_code::not_supported});
  b->settle();
  EXPECT_EQ(b->take(bob), "wanted");
}

TEST_P(Broker, KeepsTheQueueOfADurableSessionWithoutAConnection) {
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "t", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  const auto id = b->register_name(alice, "t");
  for (std::uint16_t i = 1; i <= 5; ++i)
    EXPECT_EQ(b->publish(alice, id, std::to_string(i), i), sn::return_code::accepted);
  EXPECT_FALSE(b->next(bob));
  b->connect(carol, "bob", false); // bob connects from another address
  for (int i = 1; i <= 5; ++i)
    EXPECT_EQ(b->take(carol), std::to_string(i));
  EXPECT_FALSE(b->next(carol));
  EXPECT_FALSE(b->next(bob));
}

TEST_P(Broker, ACleanStartDeletesSubscriptionsAndQueue) {
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "t", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  const auto id = b->register_name(alice, "t");
  b->publish(alice, id, "old", 1);
  b->connect(bob, "bob", true);
  EXPECT_FALSE(b->next(bob));
  b->publish(alice, id, "nobody subscribes", 2);
  EXPECT_FALSE(b->next(bob));
  EXPECT_EQ(b->broker->subscription_count(), 0u);
}

TEST_P(Broker, ACleanSessionEndsWithItsConnection) {
  b->connect(bob, "bob", true);
  b->subscribe(bob, "t", sn::qos_level::one);
  EXPECT_EQ(b->broker->session_count(), 1u);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  EXPECT_EQ(b->broker->session_count(), 0u);
  EXPECT_EQ(b->broker->subscription_count(), 0u);
}

TEST_P(Broker, AnswersAStrangerWithDisconnect) {
  (void)b->ask<sn::disconnect>(alice, sn::pingreq{});
  (void)b->ask<sn::disconnect>(alice, sn::register_topic{.msg_id = 1, .topic = "t"});
  (void)b->ask<sn::disconnect>(
      alice,
      sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one), .topic_id = 1, .msg_id = 1});
  EXPECT_EQ(b->gateway->counters().unknown_source, 3u);
}

TEST_P(Broker, RefusesAnUnknownTopicIdWhateverTheQos) {
  b->connect(alice, "alice", true);
  for (auto q : {sn::qos_level::zero, sn::qos_level::one}) {
    auto r = b->ask<sn::puback>(
        alice, sn::publish{.flags = sn::flags{}.with_qos(q), .topic_id = 77, .msg_id = 3});
    EXPECT_EQ(r.get<sn::puback>()->code, sn::return_code::invalid_topic_id);
    EXPECT_EQ(r.get<sn::puback>()->topic_id, 77);
  }
}

TEST_P(Broker, RefusesAReservedFieldValueByTheAnswerOfItsMessage) {
  const auto bad = sn::topic_id_type::reserved;
  const auto one = sn::flags{}.with_qos(sn::qos_level::one).with_topic_type(bad);
  auto c = b->ask<sn::connack>(alice, sn::connect{.protocol = 2, .client_id = "alice"});
  EXPECT_EQ(c.get<sn::connack>()->code, sn::return_code::not_supported);
  (void)b->ask<sn::disconnect>(alice, sn::publish{.flags = one, .topic_id = 1, .msg_id = 1});
  b->send(alice, sn::publish{.flags = one.with_qos(sn::qos_level::minus_one), .topic_id = 1});
  b->settle();
  EXPECT_FALSE(b->next(alice)) << "a sender at QoS -1 gets no answer";
  b->connect(alice, "alice", true);
  auto p = b->ask<sn::puback>(alice, sn::publish{.flags = one, .topic_id = 1, .msg_id = 2});
  EXPECT_EQ(p.get<sn::puback>()->code, sn::return_code::not_supported);
  const std::array subscribe = {std::byte{7}, std::byte{0x12}, std::byte{0x23}, std::byte{0},
                                std::byte{3}, std::byte{0},    std::byte{1}};
  b->send(alice, bytes(subscribe.begin(), subscribe.end()));
  b->settle();
  auto s = b->next(alice);
  ASSERT_TRUE(s && s->get<sn::suback>());
  EXPECT_EQ(s->get<sn::suback>()->code, sn::return_code::not_supported);
  EXPECT_EQ(s->get<sn::suback>()->msg_id, 3);
  bytes unsubscribe(subscribe.begin(), subscribe.end());
  unsubscribe[1] = std::byte{0x14};
  b->send(alice, unsubscribe);
  b->settle();
  auto u = b->next(alice);
  ASSERT_TRUE(u && u->get<sn::unsuback>());
  EXPECT_EQ(u->get<sn::unsuback>()->msg_id, 3);
}

TEST_P(Broker, DeliversMessagesOfQosZeroAndMinusOne) {
  gateway.predefined = {{5, "sensor/5"}};
  start();
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  b->subscribe(bob, "sensor/+", sn::qos_level::zero);
  auto suback = b->ask<sn::suback>(
      bob, sn::subscribe{.flags = sn::flags{}.with_topic_type(sn::topic_id_type::short_name),
                         .msg_id = 4,
                         .topic_id = sn::short_topic_id("ab"),
                         .topic = "ab"});
  EXPECT_EQ(suback.get<sn::suback>()->code, sn::return_code::accepted);
  const std::string_view text = "21.5";
  b->send(carol, sn::publish{.flags = sn::flags{}
                                          .with_qos(sn::qos_level::minus_one)
                                          .with_topic_type(sn::topic_id_type::predefined),
                             .topic_id = 5,
                             .data = std::as_bytes(std::span(text))});
  b->settle();
  EXPECT_EQ(b->take(bob), "21.5");
  b->send(alice, sn::publish{.flags = sn::flags{}.with_topic_type(sn::topic_id_type::short_name),
                             .topic_id = sn::short_topic_id("ab"),
                             .data = std::as_bytes(std::span(text))});
  b->settle();
  auto r = b->next(bob);
  ASSERT_TRUE(r && r->get<sn::publish>());
  EXPECT_EQ(r->get<sn::publish>()->topic_id, sn::short_topic_id("ab"));
  EXPECT_EQ(r->get<sn::publish>()->flags.topic_type(), sn::topic_id_type::short_name);
  EXPECT_FALSE(b->next(carol)) << "QoS -1 is never answered";
}

TEST_P(Broker, AFullQueueRefusesPublishesUntilItDrains) {
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->connect(carol, "carol", false);
  b->subscribe(bob, "t", sn::qos_level::one);
  b->subscribe(carol, "t", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  const auto id = b->register_name(alice, "t");
  std::vector<std::string> acked;
  sn::return_code code{};
  for (std::uint16_t i = 1; i < 100; ++i) {
    code = b->publish(alice, id, std::to_string(i), i);
    if (code != sn::return_code::accepted) break;
    acked.push_back(std::to_string(i));
    EXPECT_EQ(b->take(carol), acked.back());
  }
  EXPECT_EQ(code, sn::return_code::congestion);
  EXPECT_EQ(acked.size(), config.queue_slots);
  EXPECT_FALSE(b->next(carol)) << "a message that one queue refuses is placed in none";
  b->connect(bob, "bob", false);
  for (const std::string& text : acked)
    EXPECT_EQ(b->take(bob), text);
  EXPECT_EQ(b->publish(alice, id, "again", 200), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), "again");
  EXPECT_EQ(b->take(carol), "again");
}

TEST_P(Broker, AQueueThatBeginsSmallGrowsToItsLimit) {
  config.queue_slots_first = 3;
  start();
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "t", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  const auto id = b->register_name(alice, "t");
  std::vector<std::string> acked;
  for (std::uint16_t i = 1; i <= config.queue_slots; ++i) {
    ASSERT_EQ(b->publish(alice, id, std::to_string(i), i), sn::return_code::accepted) << i;
    acked.push_back(std::to_string(i));
  }
  EXPECT_EQ(b->publish(alice, id, "one too many", 200), sn::return_code::congestion);
  b->connect(bob, "bob", false);
  for (const std::string& text : acked)
    EXPECT_EQ(b->take(bob), text);
  EXPECT_EQ(b->publish(alice, id, "again", 201), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), "again");
}

TEST_P(Broker, DropOldestKeepsTheNewestMessages) {
  config.overflow = overflow_policy::drop_oldest;
  start();
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "t", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  const auto id = b->register_name(alice, "t");
  std::vector<std::string> acked;
  for (std::uint16_t i = 1; i <= 40; ++i)
    if (b->publish(alice, id, std::to_string(i), i) == sn::return_code::accepted)
      acked.push_back(std::to_string(i));
  b->connect(bob, "bob", false);
  std::vector<std::string> got;
  for (std::string text = b->take(bob); text != "(nothing)"; text = b->take(bob))
    got.push_back(text);
  ASSERT_FALSE(got.empty());
  EXPECT_EQ(got.back(), acked.back());
  EXPECT_EQ(acked.size() - got.size(), b->broker->counters().dropped_oldest);
}

TEST_P(Broker, SurvivesDatagramsOfRandomOctets) {
  std::mt19937 random(7);
  b->connect(alice, "alice", true);
  for (int i = 0; i < 20'000; ++i) {
    bytes d(random() % 40);
    for (auto& c : d)
      c = static_cast<std::byte>(random());
    if (d.size() > 1 && random() % 2 == 0) d[0] = static_cast<std::byte>(d.size());
    b->send(random() % 2 == 0 ? alice : bob, d);
    if (i % 16 == 0) b->round();
  }
  b->settle();
}

// The number of a session is used again by the next client that connects, perhaps on another
// worker. What the former home still has of the number must not stop messages for the new session.
class BrokerHomes : public Broker {
 protected:
  std::string id_at(unsigned home, int from = 0) {
    for (int i = from;; ++i) {
      const std::string id = "client" + std::to_string(i);
      if (b->broker->home_of(id) == home) return id;
    }
  }
  void connect_clean(client_address at, const std::string& id) {
    b->send(at, sn::connect{.flags = sn::flags{}.with_clean(true), .client_id = id});
  }
  void subscribe(client_address at) {
    b->send(at, sn::subscribe{
                    .flags = sn::flags{}.with_qos(sn::qos_level::one), .msg_id = 1, .topic = "t"});
  }
  void publish(std::uint16_t id, std::uint16_t number) {
    b->send(alice, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                               .topic_id = id,
                               .msg_id = number});
  }
  bool heard(client_address at) {
    bool any = false;
    while (auto r = b->next(at))
      any |= r->get<sn::publish>() != nullptr;
    return any;
  }
  static constexpr std::uint64_t first = 900, second = 901;
};

TEST_P(BrokerHomes, ASessionNumberThatMovesIsServedByItsNewHome) {
  b->connect(alice, id_at(1), true);
  const auto id = b->register_name(alice, "t");
  connect_clean(first,
                id_at(0)); // worker 0 still has the number in its lists when the client leaves
  b->send(first, sn::disconnect{});
  b->turn(0);
  connect_clean(second, id_at(1, 100));
  subscribe(second);
  b->turn(1);
  publish(id, 1);
  for (int i = 0; i < 3; ++i)
    b->turn(1);
  EXPECT_TRUE(heard(second)) << "its new home does not serve it";
}

TEST_P(BrokerHomes, AWakeUpForTheFormerHomeReachesTheNewHome) {
  b->connect(alice, id_at(2), true);
  const auto id = b->register_name(alice, "t");
  b->connect(first, id_at(0), true);
  b->subscribe(first, "t", sn::qos_level::one);
  publish(id, 1);
  b->turn(2); // this wakes the session, and worker 0 does not run yet
  b->send(first, sn::disconnect{});
  b->turn(0);
  connect_clean(second, id_at(1, 100));
  subscribe(second);
  b->turn(1);
  publish(id, 2);
  b->turn(2);
  b->settle();
  EXPECT_TRUE(heard(second));
}

INSTANTIATE_TEST_SUITE_P(Workers, BrokerHomes, testing::Values(3u));

TEST_P(Broker, AFanOutOfAnyWidthTakesTwoDrains) {
  b->connect(alice, "alice", true);
  for (std::uint64_t c = 1000; c < 1040; ++c) {
    b->connect(c, "c" + std::to_string(c), true);
    b->subscribe(c, "t", sn::qos_level::one);
  }
  const auto id = b->register_name(alice, "t");
  b->publish(alice, id, "first, which gives each queue its ring", 1);
  for (std::uint64_t c = 1000; c < 1040; ++c)
    b->take(c);
  const auto before = b->broker->counters().drains;
  b->send(
      alice,
      sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one), .topic_id = id, .msg_id = 2});
  b->round();
  EXPECT_EQ(b->broker->counters().drains - before, 2u);
}

// What a worker keeps for each of its sessions has the size of its part of them, and not of all.
TEST(BrokerSizes, TheSessionsOfAllWorkersTogetherDoNotGrowWithTheirNumber) {
  store_layout layout = small_layout();
  layout.sessions_max = 16'384;
  for (const unsigned workers : {1u, 8u}) {
    auto made = broker_on(memory_media(16 << 20, durability_class::process), small_config(workers),
                          true, layout);
    ASSERT_TRUE(made) << made.error().message;
    const std::uint64_t limit = (*made)->sessions_limit(), each = (*made)->sessions_per_worker();
    EXPECT_LE(each, limit);
    EXPECT_GT(each * workers, workers == 1 ? limit - 1 : limit);
    EXPECT_LE(each * workers, limit + limit / 2 + 1024 * workers);
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, Broker, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_broker
