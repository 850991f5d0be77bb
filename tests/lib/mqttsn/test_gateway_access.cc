// SPDX-License-Identifier: BSD-3-Clause
// Access rules, limits per address, and answers to senders whose address nobody has verified.
#include <random>

#include "gateway_fixture.h"
#include "net/address.h"

namespace chainring::testing_gateway {
namespace {

client_address at_ipv4(unsigned last_octet, std::uint16_t port = 1000, std::uint16_t listener = 0) {
  return net::endpoint{net::ip_address(0x0a000000u + last_octet), port, listener}.key();
}
const client_address alice = at_ipv4(1), bob = at_ipv4(2), eve = at_ipv4(66),
                     away = net::endpoint{net::ip_address(0xc0a80001u), 1000, 1}.key();

class GatewayAccess : public GatewayTest {
 protected:
  void use(const std::string& text) {
    auto made = access::rule_set::parse(text, "rules");
    ASSERT_TRUE(made) << made.error().message;
    b->gateway->use_rules(*made);
    b->settle();
  }
  sn::return_code register_code(client_address from, std::string_view name) {
    auto r = b->ask<sn::regack>(from, sn::register_topic{.msg_id = 7, .topic = name});
    return r.get<sn::regack>()->code;
  }
  sn::return_code subscribe_code(client_address from, std::string_view filter,
                                 sn::flags with = qos1) {
    auto r = b->ask<sn::suback>(from, sn::subscribe{.flags = with, .msg_id = 9, .topic = filter});
    return r.get<sn::suback>()->code;
  }
  mqttsn::gateway_counters counters() const { return b->gateway->counters(); }
};

TEST_P(GatewayAccess, WithoutRulesEverythingIsAllowed) {
  EXPECT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  EXPECT_EQ(subscribe_code(alice, "#"), sn::return_code::accepted);
}

TEST_P(GatewayAccess, ADeniedConnectIsAnsweredWithNotSupportedAndMakesNoSession) {
  use("allow connect client a* from 10.0.0.0/8 listener 0");
  EXPECT_EQ(b->connect(eve, "eve", false), sn::return_code::not_supported);
  EXPECT_EQ(b->connect(away, "alice", false), sn::return_code::not_supported);
  EXPECT_EQ(b->connect(at_ipv4(1, 1000, 1), "alice", false), sn::return_code::not_supported);
  EXPECT_TRUE(b->sessions().empty());
  EXPECT_EQ(b->broker->counters().opens, 0u);
  EXPECT_EQ(counters().connects_denied, 3u);
  EXPECT_EQ(b->connect(alice, "alice", false), sn::return_code::accepted);
}

TEST_P(GatewayAccess, ADeniedConnectEndsNoConnectionAtItsAddress) {
  use("allow connect client alice");
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  EXPECT_EQ(b->connect(alice, "mallory", true), sn::return_code::not_supported);
  EXPECT_TRUE(b->connected("alice"));
}

TEST_P(GatewayAccess, ASharedSubscriptionIsJudgedByTheFilterBehindItsGroupAndThatOnlyOnce) {
  use("allow connect\n"
      "allow subscribe topic secret\n"
      "allow subscribe topic open/#\n");
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  EXPECT_EQ(subscribe_code(alice, "$share/g/open/a"), sn::return_code::accepted);
  EXPECT_EQ(subscribe_code(alice, "$share/g/closed"), sn::return_code::not_supported);
  // This asks for a topic whose name begins with "$share".
  EXPECT_EQ(subscribe_code(alice, "$share/g/$share/h/secret"), sn::return_code::not_supported);
  EXPECT_EQ(counters().subscribes_denied, 2u);
}

TEST_P(GatewayAccess, ADeniedRegisterIsAnsweredWithNotSupportedAndMakesNoRegistration) {
  gateway.registrations_per_session_max = 1;
  start();
  use("allow connect\nallow publish topic own/%c");
  b->connect(alice, "alice", true);
  EXPECT_EQ(register_code(alice, "own/bob"), sn::return_code::not_supported);
  EXPECT_EQ(register_code(alice, "other"), sn::return_code::not_supported);
  EXPECT_EQ(counters().registers_denied, 2u);
  EXPECT_EQ(register_code(alice, "own/alice"), sn::return_code::accepted)
      << "the one place is free";
}

TEST_P(GatewayAccess, ADeniedPublishReachesNobodyAndIsAnsweredOnlyAtQoS1) {
  gateway.predefined = {{1, "open"}, {2, "shut"}};
  start();
  use("allow connect\nallow subscribe\ndeny publish topic shut\nallow publish");
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  for (const char* topic : {"shut", "open", "ab"})
    b->subscribe(bob, topic, sn::qos_level::one);
  use("allow connect\nallow subscribe\ndeny publish topic shut\ndeny publish topic ab\nallow "
      "publish");
  const auto predefined = [](sn::flags f) {
    return f.with_topic_type(sn::topic_id_type::predefined);
  };
  const auto short_name = [](sn::flags f) {
    return f.with_topic_type(sn::topic_id_type::short_name);
  };
  for (int again = 0; again < 2; ++again) { // from the second time on the decision is kept
    for (const auto& [id, flags] : {std::pair{std::uint16_t{2}, predefined(qos1)},
                                    std::pair{sn::short_topic_id("ab"), short_name(qos1)}}) {
      b->send_publish(alice, id, "x", 5, flags);
      b->settle();
      auto r = b->next(alice);
      ASSERT_TRUE(r && r->get<sn::puback>());
      EXPECT_EQ(r->get<sn::puback>()->code, sn::return_code::not_supported);
      EXPECT_EQ(r->get<sn::puback>()->msg_id, 5);
    }
    b->send_publish(alice, 2, "x", 0, predefined(qos0));
    b->send_publish(eve, 2, "x", 0, predefined(sn::flags{}.with_qos(sn::qos_level::minus_one)));
    b->settle();
    EXPECT_TRUE(b->all(alice).empty());
    EXPECT_TRUE(b->all(eve).empty());
  }
  EXPECT_EQ(counters().publishes_denied, 8u);
  EXPECT_TRUE(b->all(bob).empty());
  b->send_publish(alice, 1, "y", 0, predefined(qos0));
  b->settle();
  EXPECT_EQ(b->count<sn::publish>(bob), 1u);
}

TEST_P(GatewayAccess, TheDecisionOnARegisteredTopicFollowsTheRules) {
  use("allow connect\nallow publish,subscribe");
  b->connect(alice, "alice", true);
  const auto id = b->register_name(alice, "t");
  EXPECT_EQ(b->publish(alice, id, "x", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, id, "x", 2), sn::return_code::accepted);
  use("allow connect\ndeny publish topic t\nallow publish,subscribe");
  EXPECT_EQ(b->publish(alice, id, "x", 3), sn::return_code::not_supported);
  EXPECT_EQ(b->publish(alice, id, "x", 4), sn::return_code::not_supported);
  use("allow connect\nallow publish");
  EXPECT_EQ(b->publish(alice, id, "x", 5), sn::return_code::accepted);
  EXPECT_EQ(counters().publishes_denied, 2u);
}

TEST_P(GatewayAccess, ADeniedSubscribeIsAnsweredWithNotSupportedAndKeepsNoSubscription) {
  gateway.predefined = {{1, "shut/x"}};
  start();
  use("allow connect\ndeny subscribe topic shut/#\nallow subscribe topic +/#");
  b->connect(alice, "alice", true);
  EXPECT_EQ(subscribe_code(alice, "shut/x"), sn::return_code::not_supported);
  EXPECT_EQ(subscribe_code(alice, "#"), sn::return_code::not_supported);
  EXPECT_EQ(subscribe_code(alice, "+/x"), sn::return_code::not_supported);
  b->send(alice, sn::subscribe{.flags = qos1.with_topic_type(sn::topic_id_type::predefined),
                               .msg_id = 3,
                               .topic_id = 1});
  b->settle();
  EXPECT_EQ(b->next(alice)->get<sn::suback>()->code, sn::return_code::not_supported);
  EXPECT_EQ(counters().subscribes_denied, 4u);
  EXPECT_EQ(b->broker->subscription_count(), 0u);
  EXPECT_EQ(subscribe_code(alice, "open/+"), sn::return_code::accepted);
  EXPECT_EQ(b->broker->subscription_count(), 1u);
}

// A worker judges some connections under new rules in each round. A member that it has not reached
// yet is judged before it takes a message for good.
TEST_P(GatewayAccess, AMessageOfAGroupMovesToNoClientThatNewRulesDoNotAllow) {
  constexpr unsigned others = 1500;
  layout.sessions_max = 2048;
  start();
  use("allow connect\ndeny subscribe client x topic x\ndeny subscribe client y topic y\n"
      "allow publish,subscribe");
  for (unsigned i = 0; i < others; ++i)
    b->send_connect(at_ipv4(1000 + i), "c" + std::to_string(i), false);
  b->settle();
  b->connect(alice, "alice", true);
  const std::uint16_t id = b->register_name(alice, "t");
  b->connect(bob, "bob", false);
  ASSERT_EQ(subscribe_code(bob, "$share/g/t", qos2), sn::return_code::accepted);
  b->gateway->use_rules(*access::rule_set::parse(
      "deny connect client bob\nallow connect,publish,subscribe", "rules"));
  b->send_publish(alice, id, "kept", 7, qos2);
  b->settle();
  EXPECT_EQ(b->broker->counters().group_moves, 0u);
  EXPECT_FALSE(b->connected("bob"));
  EXPECT_EQ(b->broker->message_statistics().live, 1u) << "the group keeps the message";
}

TEST_P(GatewayAccess, AConnectionThatNewRulesDoNotAllowEndsAndTheOthersGoOn) {
  layout.sessions_max = 1024;
  start();
  use("allow connect\nallow publish,subscribe");
  for (unsigned i = 0; i < 600; ++i)
    b->send_connect(at_ipv4(1000 + i), "c" + std::to_string(i), false);
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->settle();
  use("deny connect client c*\ndeny connect client bob\nallow connect");
  b->settle();
  EXPECT_TRUE(b->connected("alice"));
  EXPECT_FALSE(b->connected("bob"));
  for (unsigned i = 0; i < 600; ++i)
    EXPECT_FALSE(b->connected("c" + std::to_string(i)));
  EXPECT_EQ(counters().ended_by_rules, 601u);
  EXPECT_EQ(b->count<sn::disconnect>(bob), 1u);
  EXPECT_EQ(b->sessions().size(), 602u) << "a session stays, and its client may come back";
  EXPECT_EQ(b->connect(bob, "bob", false), sn::return_code::not_supported);
  use("allow connect");
  EXPECT_EQ(b->connect(bob, "bob", false), sn::return_code::accepted);
}

class GatewayAccessInBetween : public GatewayAccess {
 protected:
  /// Alice and Bob have connections to which a worker that judges its connections again comes late.
  void SetUp() override {
    layout.sessions_max = 2048;
    start();
    use("allow connect\nallow publish,subscribe");
    for (unsigned i = 0; i < 1000; ++i)
      b->send_connect(at_ipv4(1000 + i), "c" + std::to_string(i), true);
    b->settle();
    b->connect(alice, "alice", false);
    b->connect(bob, "bob", true);
    for (client_address at : {alice, bob})
      b->subscribe(at, "t", sn::qos_level::one);
    id = b->register_name(alice, "t");
    ASSERT_EQ(b->register_name(bob, "t"), id);
  }
  void adopt(const std::string& text) {
    b->gateway->use_rules(*access::rule_set::parse(text, "rules"));
    b->round();
    ASSERT_TRUE(b->connected("alice")) << "the worker came to the connection early";
  }
  std::uint16_t id = 0;
};

TEST_P(GatewayAccessInBetween, NoDatagramIsHandledUnderAVerdictOfFormerRules) {
  adopt("deny connect client alice\nallow connect\nallow publish,subscribe");
  b->send_publish(alice, id, "late", 1);
  b->settle();
  EXPECT_TRUE(b->all(bob).empty());
  EXPECT_FALSE(b->connected("alice"));
}

TEST_P(GatewayAccessInBetween, NoMessageIsDeliveredUnderAVerdictOfFormerRules) {
  adopt("deny connect client alice\nallow connect\nallow publish,subscribe");
  b->send_publish(bob, id, "for whom", 1);
  b->round();
  EXPECT_EQ(b->count<sn::publish>(alice), 0u);
  b->settle();
  EXPECT_FALSE(b->connected("alice"));
  use("allow connect\nallow publish,subscribe");
  b->connect(alice, "alice", false);
  EXPECT_EQ(b->take(alice), "for whom") << "the message stays in the queue of the session";
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayAccessInBetween, testing::Values(1u));

TEST_P(GatewayAccess, AMessageThatItsSubscriberMayNoLongerReadIsDroppedAndCounted) {
  use("allow connect\nallow publish,subscribe");
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "a/#", sn::qos_level::one);
  const auto open = b->register_name(alice, "a/open"), shut = b->register_name(alice, "a/shut");
  use("allow connect\nallow publish\nallow subscribe topic a/open");
  for (std::uint16_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(b->publish(alice, shut, "secret", i), sn::return_code::accepted);
    b->send_publish(alice, shut, "secret", 0, qos0);
    b->settle();
  }
  EXPECT_TRUE(b->all(bob).empty()) << "not even the name of the topic leaves";
  EXPECT_EQ(b->publish(alice, open, "plain", 9), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), "plain");
  EXPECT_EQ(counters().deliveries_denied, 6u);
  EXPECT_EQ(b->broker->counters().dropped_denied, 3u);
  EXPECT_EQ(b->sessions().size(), 2u);
  for (const session_info& s : b->sessions())
    EXPECT_EQ(s.queue_depth, 0u) << s.identity;
  // The subscription is still there when the rules allow it again.
  use("allow connect\nallow publish,subscribe");
  EXPECT_EQ(b->publish(alice, shut, "seen", 10), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), "seen");
}

TEST_P(GatewayAccess, ASubscriptionFromBeforeTheRulesIsJudgedAtDelivery) {
  b->connect(bob, "bob", false);
  b->subscribe(bob, "shut", sn::qos_level::one);
  b->connect(alice, "alice", true);
  const auto id = b->register_name(alice, "shut");
  use("allow connect\nallow publish");
  b->send(bob, sn::disconnect{});
  b->settle();
  (void)b->all(bob);
  EXPECT_EQ(b->publish(alice, id, "secret", 1), sn::return_code::accepted);
  EXPECT_EQ(b->connect(bob, "bob", false), sn::return_code::accepted);
  b->settle();
  EXPECT_TRUE(b->all(bob).empty());
  EXPECT_EQ(counters().deliveries_denied, 1u);
}

TEST_P(GatewayAccess, ASleeperThatWakesAtAnotherAddressIsJudgedAnewForItsTopics) {
  use("allow connect\nallow publish,subscribe from 10.0.0.0/8");
  b->connect(bob, "bob", true);
  const auto bobs = b->register_name(bob, "in");
  b->connect(alice, "alice", false);
  b->subscribe(alice, "in", sn::qos_level::one);
  // The rules are newer than the subscription, so deliveries are judged as well.
  use("allow connect\nallow publish,subscribe from 10.0.0.0/8 topic +");
  const auto id = b->register_name(alice, "out");
  EXPECT_EQ(b->publish(alice, id, "x", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(bob, bobs, "for alice", 1), sn::return_code::accepted);
  EXPECT_EQ(b->take(alice), "for alice");
  (void)b->ask<sn::disconnect>(alice, sn::disconnect{.has_duration = true, .duration_s = 600});
  (void)b->ask<sn::pingresp>(away, sn::pingreq{.client_id = "alice"});
  EXPECT_EQ(counters().addresses_moved, 1u);
  EXPECT_EQ(b->publish(away, id, "x", 2), sn::return_code::not_supported);
  EXPECT_EQ(counters().publishes_denied, 1u);
  EXPECT_EQ(b->publish(bob, bobs, "not for there", 2), sn::return_code::accepted);
  (void)b->ask<sn::pingresp>(away, sn::pingreq{.client_id = "alice"});
  EXPECT_EQ(counters().deliveries_denied, 1u);
}

TEST_P(GatewayAccess, AClientThatConnectedBeforeTheFirstRulesIsJudgedByItsId) {
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  use("allow connect client alice\nallow publish client alice topic own/%c");
  EXPECT_TRUE(b->connected("alice"));
  EXPECT_FALSE(b->connected("bob"));
  EXPECT_EQ(register_code(alice, "own/alice"), sn::return_code::accepted);
}

TEST_P(GatewayAccess, APublishWithoutAConnectionIsJudgedByAddressAndListener) {
  gateway.predefined = {{1, "t"}};
  start();
  use("allow connect client bob\nallow subscribe\nallow publish unconnected from 10.0.0.66");
  b->connect(bob, "bob", true);
  b->subscribe(bob, "t", sn::qos_level::one);
  const auto f =
      sn::flags{}.with_qos(sn::qos_level::minus_one).with_topic_type(sn::topic_id_type::predefined);
  b->send_publish(away, 1, "no", 0, f);
  b->send_publish(bob, 1, "no", 0, f); // bob has a connection, so the rule does not concern him
  b->send_publish(eve, 1, "yes", 0, f);
  b->settle();
  EXPECT_EQ(counters().publishes_denied, 2u);
  EXPECT_EQ(b->count<sn::publish>(bob), 1u);
}

TEST_P(GatewayAccess, ManyReloadsKeepFewRuleSets) {
  std::weak_ptr<const access::rule_set> first;
  {
    auto made = *access::rule_set::parse("allow connect", "rules");
    first = made;
    b->gateway->use_rules(std::move(made));
  }
  b->settle();
  use("allow connect");
  use("allow connect");
  EXPECT_TRUE(first.expired());
  EXPECT_NE(b->gateway->rules(), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayAccess, testing::Values(1u, 3u));

// --- limits per address -----------------------------------------------------------------------

class GatewaySources : public GatewayTest {
 protected:
  void SetUp() override {
    config.sessions_per_source_max = 3;
    start();
  }
};

TEST_P(GatewaySources, AnAddressHasOnlySoManySessionsWhateverItsPorts) {
  for (std::uint16_t i = 0; i < 3; ++i)
    EXPECT_EQ(b->connect(at_ipv4(1, i), "a" + std::to_string(i), false), sn::return_code::accepted);
  for (std::uint16_t i = 3; i < 10; ++i)
    EXPECT_EQ(b->connect(at_ipv4(1, i), "a" + std::to_string(i), i % 2 == 0),
              sn::return_code::congestion);
  EXPECT_EQ(b->sessions().size(), 3u);
  EXPECT_EQ(b->broker->counters().opens_refused_source, 7u);
  EXPECT_EQ(b->connect(at_ipv4(2), "b", true), sn::return_code::accepted);
  // The clients that have a session connect again, also from other ports.
  EXPECT_EQ(b->connect(at_ipv4(1, 50), "a0", false), sn::return_code::accepted);
}

TEST_P(GatewaySources, ASessionCountsWhileItsClientIsAwayAndNoLongerWhenItHasEnded) {
  for (std::uint16_t i = 0; i < 3; ++i)
    EXPECT_EQ(b->connect(at_ipv4(1, i), "a" + std::to_string(i), i == 0),
              sn::return_code::accepted);
  b->send(at_ipv4(1, 1), sn::disconnect{});
  b->settle();
  EXPECT_EQ(b->connect(at_ipv4(1, 9), "more", false), sn::return_code::congestion);
  b->send(at_ipv4(1, 0), sn::disconnect{}); // a clean session ends with its connection
  b->settle();
  EXPECT_EQ(b->connect(at_ipv4(1, 9), "more", false), sn::return_code::accepted);
  EXPECT_EQ(b->connect(at_ipv4(1, 10), "again", false), sn::return_code::congestion);
  EXPECT_TRUE(b->broker->kick("a1"));
  b->settle();
  EXPECT_EQ(b->connect(at_ipv4(1, 10), "again", false), sn::return_code::accepted);
}

TEST_P(GatewaySources, AClientThatMovesCountsAtItsNewAddressIfThatHasRoom) {
  for (std::uint16_t i = 0; i < 3; ++i)
    EXPECT_EQ(b->connect(at_ipv4(1, i), "a" + std::to_string(i), false), sn::return_code::accepted);
  EXPECT_EQ(b->connect(at_ipv4(2), "b", false), sn::return_code::accepted);
  EXPECT_EQ(b->connect(at_ipv4(1, 9), "b", false), sn::return_code::congestion);
  EXPECT_TRUE(b->connected("b")) << "a refused CONNECT takes nothing over";
  EXPECT_EQ(b->connect(at_ipv4(2, 5), "a0", false), sn::return_code::accepted);
  EXPECT_EQ(b->connect(at_ipv4(1, 9), "b", false), sn::return_code::accepted);
}

TEST_P(GatewaySources, TheAddressesOfOneIpv6HostCountTogether) {
  for (std::uint16_t i = 0; i < 4; ++i) {
    const client_address at =
        net::endpoint{net::ip_address(0x20010db800000001u, 7u + i), 1000, 0}.key();
    EXPECT_EQ(b->connect(at, "h" + std::to_string(i), false),
              i < 3 ? sn::return_code::accepted : sn::return_code::congestion);
  }
  const client_address other = net::endpoint{net::ip_address(0x20010db800000002u, 7u), 1, 0}.key();
  EXPECT_EQ(b->connect(other, "other", false), sn::return_code::accepted);
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewaySources, testing::Values(1u, 3u));

// --- unverified addresses ---------------------------------------------------------------------

class GatewayUnverified : public GatewayTest {
 protected:
  /// Sends the datagram from an address that was never heard before.
  void send_as_a_stranger(const bytes& datagram) {
    const client_address from = at_ipv4(static_cast<unsigned>(++strangers), 1);
    b->send(from, datagram);
    b->round();
    std::size_t octets = 0;
    for (const bytes& answer : b->out.sent[from])
      octets += answer.size();
    ASSERT_LE(octets, datagram.size())
        << testing::PrintToString(datagram) << " of " << datagram.size() << " octets";
    answered += octets != 0;
    b->out.sent.erase(from);
  }
  std::size_t strangers = 0x10000, answered = 0;
};

// A sender can name any address as its own. What the broker sends there must not be more than what
// the sender has sent, or it would make the sender stronger.
TEST_P(GatewayUnverified, NoAnswerToASenderWithoutAConnectionIsLongerThanItsDatagram) {
  gateway.predefined = {{1, "a topic with a long name"}};
  gateway.retry_ms = 1'000'000;
  start();
  // Somebody subscribes to everything and has messages waiting.
  b->connect(bob, "known", false);
  b->subscribe(bob, "#", sn::qos_level::one);
  std::mt19937_64 random(20260101);
  constexpr std::size_t longest = 12;
  for (unsigned type = 0; type < 256; ++type) {
    for (std::size_t size = 2; size <= longest; ++size) {
      for (unsigned flags : {0x00u, 0x01u, 0x02u, 0x04u, 0x08u, 0x0cu, 0x20u, 0x40u, 0x60u, 0x61u,
                             0x62u, 0x80u, 0xffu}) {
        bytes datagram(size, std::byte{'a'});
        datagram[0] = static_cast<std::byte>(size);
        datagram[1] = static_cast<std::byte>(type);
        if (size > 2) datagram[2] = static_cast<std::byte>(flags);
        if (size > 3) datagram[3] = std::byte{1}; // also CONNECT's protocol id
        for (std::size_t i = 4; i < size; ++i)
          datagram[i] = static_cast<std::byte>(random() % 3 == 0 ? random() : 'a');
        send_as_a_stranger(datagram);
        if (HasFatalFailure()) return;
      }
    }
  }
  EXPECT_GT(answered, 100u);
}

// A sender behind a forwarder has no address of its own, so the whole datagrams are compared.
TEST_P(GatewayUnverified, NoAnswerThroughAForwarderIsLongerThanItsDatagram) {
  for (unsigned type = 0; type < 256; ++type)
    for (std::size_t node = 1; node <= 8; ++node)
      for (std::size_t size = 2; size <= 10; ++size) {
        bytes datagram(3 + node + size, std::byte{1});
        datagram[0] = static_cast<std::byte>(3 + node);
        datagram[1] = std::byte{0xfe};
        datagram[3 + node] = static_cast<std::byte>(size);
        datagram[4 + node] = static_cast<std::byte>(type);
        if (size > 2) datagram[5 + node] = std::byte{0x04};
        send_as_a_stranger(datagram);
        if (HasFatalFailure()) return;
      }
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayUnverified, testing::Values(1u));

} // namespace
} // namespace chainring::testing_gateway
