// SPDX-License-Identifier: BSD-3-Clause
// Shared subscriptions as clients of MQTT-SN see them: topic ids, message ids, and who gets what.
#include <gtest/gtest.h>

#include <ctime>
#include <optional>
#include <set>

#include "gateway_fixture.h"

namespace chainring::testing_gateway {
namespace {

constexpr client_address alice = 101, bob = 102, carol = 103;

class GatewayGroups : public testing::Test {
 protected:
  std::unique_ptr<gateway_bench> b;
  void SetUp() override { start(small_config()); }
  void start(const broker_config& config, const sn::gateway_config& gateway = small_gateway()) {
    auto made = broker_on(memory_media(4 << 20, durability_class::process), config, true);
    ASSERT_TRUE(made) << made.error().message;
    b = std::make_unique<gateway_bench>(std::move(*made), gateway);
    for (const client_address at : {alice, bob, carol})
      (void)b->connect(at, at == alice ? "alice" : at == bob ? "bob" : "carol", false);
  }
  /// The client refuses the name that it is told.
  void refuse_name(client_address at) {
    const auto asked = b->next(at);
    ASSERT_TRUE(asked && asked->get<sn::register_topic>());
    b->send(at, sn::regack{.topic_id = asked->get<sn::register_topic>()->topic_id,
                           .msg_id = asked->get<sn::register_topic>()->msg_id,
                           .code = sn::return_code::not_supported});
    b->settle();
  }
  /// A message at QoS 1 of a group of Bob, who has no topic id for it yet.
  void publish_to_bob() {
    (void)b->subscribe(bob, "$share/g/+/b", sn::qos_level::one);
    const std::uint16_t id = b->register_name(alice, "a/b");
    EXPECT_EQ(b->publish(alice, id, "wanted", 1), sn::return_code::accepted);
  }
  /// The next message for that client, which takes the topic ids that it is told.
  std::optional<received> delivery(client_address at) {
    std::optional<received> r;
    for (const std::time_t begin = std::time(nullptr); !r && std::time(nullptr) < begin + 60;) {
      b->settle();
      r = b->next(at);
      const auto* name = r ? r->get<sn::register_topic>() : nullptr;
      if (name == nullptr) continue;
      b->send(at, sn::regack{.topic_id = name->topic_id, .msg_id = name->msg_id});
      r.reset();
    }
    return r;
  }
};

TEST_F(GatewayGroups, ASubackCarriesTheTopicIdOfTheFilterOrZeroForWildcards) {
  EXPECT_EQ(b->subscribe(bob, "$share/g/a/#", sn::qos_level::one), 0u);
  const std::uint16_t id = b->subscribe(bob, "$share/g/a/b", sn::qos_level::one);
  EXPECT_NE(id, 0u);
  EXPECT_EQ(id, b->register_name(bob, "a/b")) << "it is the id of the topic name";
}

TEST_F(GatewayGroups, AMemberAtQos2HasTheWholeExchange) {
  const auto r =
      b->ask<sn::suback>(bob, sn::subscribe{.flags = qos2, .msg_id = 1, .topic = "$share/g/a/b"});
  EXPECT_EQ(r.get<sn::suback>()->flags.qos(), sn::qos_level::two);
  const std::uint16_t id = b->register_name(alice, "a/b");
  b->send_publish(alice, id, "once", 7, qos2);
  b->send(alice, sn::pubrel{.msg_id = 7});
  b->settle();
  const auto got = b->next(bob);
  ASSERT_TRUE(got && got->get<sn::publish>());
  EXPECT_EQ(got->get<sn::publish>()->flags.qos(), sn::qos_level::two);
  const std::uint16_t msg_id = got->get<sn::publish>()->msg_id;
  EXPECT_LT(msg_id, 32768u) << "it comes from the client's own queue";
  // Nobody else gets it, although the client goes without an answer.
  (void)b->subscribe(carol, "$share/g/a/b", sn::qos_level::two);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  EXPECT_FALSE(b->next(carol));
  (void)b->connect(bob, "bob", false);
  const auto again = delivery(bob);
  ASSERT_TRUE(again && again->get<sn::publish>());
  EXPECT_TRUE(again->get<sn::publish>()->flags.dup());
  EXPECT_EQ(again->get<sn::publish>()->msg_id, msg_id);
  b->send(bob, sn::pubrec{.msg_id = msg_id});
  b->settle();
  const auto release = b->next(bob);
  ASSERT_TRUE(release && release->get<sn::pubrel>());
  b->send(bob, sn::pubcomp{.msg_id = msg_id});
  b->send(alice, sn::pubrel{.msg_id = 7});
  b->settle();
  EXPECT_EQ(b->broker->message_statistics().live, 0u);
}

TEST_F(GatewayGroups, AMessageWhoseNameOneMemberRefusesGoesToAnother) {
  publish_to_bob();
  (void)b->subscribe(carol, "$share/g/+/b", sn::qos_level::one);
  refuse_name(bob);
  EXPECT_EQ(b->broker->counters().group_messages_declined, 1u);
  EXPECT_EQ(b->broker->message_statistics().live, 1u);
  // Where all members refuse it, it is dropped.
  refuse_name(carol);
  EXPECT_EQ(b->broker->counters().dropped_by_client, 1u);
  EXPECT_EQ(b->broker->message_statistics().live, 0u);
}

// Whoever declines rests for a moment, and its next connection does not.
TEST_F(GatewayGroups, AMemberThatRefusedANameAndConnectsAgainGetsTheNextMessage) {
  publish_to_bob();
  (void)b->subscribe(carol, "$share/g/+/b", sn::qos_level::one);
  refuse_name(bob);
  ASSERT_EQ(b->broker->counters().group_messages_declined, 1u);
  for (const client_address at : {bob, carol}) {
    b->send(at, sn::disconnect{});
    b->settle();
    (void)b->all(at);
  }
  (void)b->connect(bob, "bob", false);
  const auto got = delivery(bob);
  ASSERT_TRUE(got && got->get<sn::publish>());
}

// Bob was silent for a while, and has not refused it.
TEST_F(GatewayGroups, AMessageIsDroppedOnlyOnceEveryMemberHasRefusedItsName) {
  broker_config config = small_config();
  config.group_lease_ms = 50;
  start(config);
  publish_to_bob();
  ASSERT_TRUE(b->next(bob));
  for (const std::time_t begin = std::time(nullptr);
       b->broker->counters().group_leases_ended == 0 && std::time(nullptr) < begin + 60;)
    b->settle();
  (void)b->subscribe(carol, "$share/g/+/b", sn::qos_level::one);
  b->settle();
  refuse_name(carol);
  EXPECT_EQ(b->broker->counters().dropped_by_client, 0u);
  EXPECT_EQ(b->broker->counters().group_messages_declined, 1u);
  EXPECT_EQ(b->broker->message_statistics().live, 1u);
}

TEST_F(GatewayGroups, ANameTooLongForTheLinkOfAMemberAtQos2MovesNoMessageToIt) {
  (void)b->ask<sn::suback>(bob, sn::subscribe{.flags = qos2, .msg_id = 1, .topic = "$share/g/#"});
  b->links[0]->longest_to[bob] = 40;
  const std::uint16_t id = b->register_name(alice, std::string(50, 'n'));
  b->send_publish(alice, id, "short", 7, qos2);
  b->settle();
  EXPECT_EQ(b->broker->counters().group_moves, 0u);
  EXPECT_EQ(b->broker->counters().skipped, 1u);
}

TEST_F(GatewayGroups, AMessageTooLongForTheLinkOfAMemberAtQos2GoesToAnother) {
  broker_config config = small_config();
  config.group_lease_ms = 50;
  start(config);
  const auto join = [&](client_address at) {
    (void)b->ask<sn::suback>(at,
                             sn::subscribe{.flags = qos2, .msg_id = 1, .topic = "$share/g/a/b"});
  };
  join(bob);
  b->links[0]->longest_to[bob] = 60;
  const std::uint16_t id = b->register_name(alice, "a/b");
  b->send_publish(alice, id, std::string(100, 'x'), 7, qos2);
  b->settle();
  EXPECT_FALSE(b->next(bob));
  EXPECT_EQ(b->broker->counters().group_moves, 0u);
  join(carol);
  const auto r = delivery(carol);
  ASSERT_TRUE(r && r->get<sn::publish>());
  EXPECT_EQ(r->get<sn::publish>()->data.size(), 100u);
}

TEST_F(GatewayGroups, EachMessageGoesToOneMemberWithAMessageIdOfItsOwnRange) {
  for (const client_address at : {bob, carol})
    (void)b->subscribe(at, "$share/g/a/b", sn::qos_level::one);
  const std::uint16_t id = b->register_name(alice, "a/b");
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(b->publish(alice, id, std::to_string(i), static_cast<std::uint16_t>(i + 1)),
              sn::return_code::accepted);
  std::multiset<std::string> got;
  for (int round = 0; round < 2; ++round)
    for (const client_address at : {bob, carol}) {
      const auto r = b->next(at);
      ASSERT_TRUE(r && r->get<sn::publish>());
      const auto* p = r->get<sn::publish>();
      EXPECT_GE(p->msg_id, 32768u);
      got.emplace(reinterpret_cast<const char*>(p->data.data()), p->data.size());
      b->send(at, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
      b->settle();
    }
  EXPECT_EQ(got, (std::multiset<std::string>{"0", "1", "2", "3"}));
  EXPECT_EQ(b->broker->message_statistics().live, 0u);
}

TEST_F(GatewayGroups, AMemberThatDisconnectsGivesItsMessageToTheOtherWithDup) {
  (void)b->subscribe(bob, "$share/g/a/b", sn::qos_level::one);
  const std::uint16_t id = b->register_name(alice, "a/b");
  EXPECT_EQ(b->publish(alice, id, "once", 1), sn::return_code::accepted);
  ASSERT_TRUE(b->next(bob));
  (void)b->subscribe(carol, "$share/g/a/b", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  const auto r = b->next(carol);
  ASSERT_TRUE(r && r->get<sn::publish>());
  EXPECT_TRUE(r->get<sn::publish>()->flags.dup());
  // A PUBACK with made-up message ids harms nobody, and the right one ends the exchange.
  for (const std::uint16_t made_up : {std::uint16_t{1}, std::uint16_t{0xffff}})
    b->send(carol, sn::puback{.topic_id = id, .msg_id = made_up});
  b->settle();
  EXPECT_EQ(b->broker->message_statistics().live, 1u);
  b->send(carol, sn::puback{.topic_id = r->get<sn::publish>()->topic_id,
                            .msg_id = r->get<sn::publish>()->msg_id});
  b->settle();
  EXPECT_EQ(b->broker->message_statistics().live, 0u);
}

TEST_F(GatewayGroups, AMessageTooLongForTheLinkOfAMemberAtQos0GoesToAnother) {
  broker_config config = small_config();
  config.group_lease_ms = 50;
  start(config);
  (void)b->subscribe(carol, "$share/g/a/b", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(carol, sn::disconnect{});
  (void)b->subscribe(bob, "$share/g/a/b", sn::qos_level::zero);
  b->links[0]->longest_to[bob] = 60;
  const std::uint16_t id = b->register_name(alice, "a/b");
  EXPECT_EQ(b->publish(alice, id, std::string(100, 'x'), 1), sn::return_code::accepted);
  b->settle();
  EXPECT_FALSE(b->next(bob));
  EXPECT_EQ(b->broker->message_statistics().live, 1u) << "bob has not got it";
  (void)b->connect(carol, "carol", false);
  const auto r = delivery(carol);
  ASSERT_TRUE(r && r->get<sn::publish>());
  EXPECT_EQ(r->get<sn::publish>()->data.size(), 100u);
}

TEST_F(GatewayGroups, AMessageForWhichAMemberAtQos0HasNoTopicIdIsKept) {
  sn::gateway_config gateway = small_gateway();
  gateway.registrations_max = 1;
  gateway.predefined = {{1, "a/b"}};
  start(small_config(), gateway);
  (void)b->subscribe(bob, "$share/g/+/b", sn::qos_level::zero);
  (void)b->subscribe(carol, "$share/g/+/b", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(carol, sn::disconnect{});
  (void)b->register_name(bob, "the only registration");
  b->send_publish(alice, 1, "kept", 1, qos1.with_topic_type(sn::topic_id_type::predefined));
  b->settle();
  EXPECT_EQ(b->gateway->counters().dropped_no_id, 1u);
  EXPECT_EQ(b->broker->message_statistics().live, 1u);
}

TEST_F(GatewayGroups, ARefusedNameAtQos0DropsTheMessageOfThatNameOnly) {
  // For the sake of Carol, who is away, the group keeps the message in its queue.
  (void)b->subscribe(carol, "$share/g/+/b", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(carol, sn::disconnect{});
  (void)b->subscribe(bob, "$share/g/+/b", sn::qos_level::zero);
  const std::uint16_t own = b->subscribe(bob, "own", sn::qos_level::zero);
  const std::uint16_t shared_id = b->register_name(alice, "a/b");
  const std::uint16_t own_id = b->register_name(alice, "own");
  EXPECT_EQ(b->publish(alice, shared_id, "shared", 1), sn::return_code::accepted);
  const auto asked = b->next(bob);
  ASSERT_TRUE(asked && asked->get<sn::register_topic>());
  b->send_publish(alice, own_id, "own", 0, sn::flags{}); // it is offered before the other one
  b->settle();
  b->send(bob, sn::regack{.topic_id = asked->get<sn::register_topic>()->topic_id,
                          .msg_id = asked->get<sn::register_topic>()->msg_id,
                          .code = sn::return_code::not_supported});
  b->settle();
  const auto got = b->next(bob);
  ASSERT_TRUE(got && got->get<sn::publish>());
  EXPECT_EQ(got->get<sn::publish>()->topic_id, own);
  EXPECT_EQ(b->gateway->counters().refused_by_client, 1u);
  EXPECT_EQ(b->broker->message_statistics().live, 0u);
}

TEST_F(GatewayGroups, ASlowMemberWhosePubackComesLateGetsTheNextMessageAtOnce) {
  broker_config config = small_config();
  config.group_lease_ms = 1500;
  start(config);
  (void)b->subscribe(bob, "$share/g/a/b", sn::qos_level::one);
  const std::uint16_t id = b->register_name(alice, "a/b");
  EXPECT_EQ(b->publish(alice, id, "slow", 1), sn::return_code::accepted);
  const auto first = b->next(bob);
  ASSERT_TRUE(first && first->get<sn::publish>());
  for (const std::time_t begin = std::time(nullptr);
       b->broker->counters().group_leases_ended == 0 && std::time(nullptr) < begin + 60;)
    b->settle();
  while (b->next(bob)) {
  }
  b->send(bob, sn::puback{.topic_id = id, .msg_id = first->get<sn::publish>()->msg_id});
  b->settle();
  const auto again = b->next(bob);
  ASSERT_TRUE(again && again->get<sn::publish>());
  EXPECT_TRUE(again->get<sn::publish>()->flags.dup());
  b->send(bob, sn::puback{.topic_id = id, .msg_id = again->get<sn::publish>()->msg_id});
  b->settle();
  EXPECT_EQ(b->broker->message_statistics().live, 0u);
}

TEST_F(GatewayGroups, AnUnsubscribeEndsAGroupWithItsLastMember) {
  (void)b->subscribe(bob, "$share/g/a/#", sn::qos_level::one);
  EXPECT_EQ(b->broker->group_count(), 1u);
  (void)b->ask<sn::unsuback>(bob, sn::unsubscribe{.msg_id = 5, .topic = "$share/g/a/#"});
  b->settle();
  EXPECT_EQ(b->broker->group_count(), 0u);
  (void)b->ask<sn::unsuback>(bob, sn::unsubscribe{.msg_id = 6, .topic = "$share/g/a/#"});
}

} // namespace
} // namespace chainring::testing_gateway
