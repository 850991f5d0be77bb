// SPDX-License-Identifier: BSD-3-Clause
// Wills on the wire: how clients are asked for them, when they are sent, and clients that answer
// wrongly.
#include <array>

#include "access/access.h"
#include "gateway_fixture.h"
#include "net/address.h"

namespace chainring::testing_gateway {
namespace {

constexpr client_address alice = 101, bob = 102, carol = 103, stranger = 104;
constexpr auto with_will = sn::flags{}.with_will();

class GatewayWills : public GatewayTest {
 protected:
  std::map<client_address, std::map<std::uint16_t, std::string>> names;

  /// Bob watches all topics below "will/".
  void SetUp() override {
    start();
    ASSERT_NE(b, nullptr);
    names.clear();
    ASSERT_EQ(b->connect(bob, "bob", true), sn::return_code::accepted);
    b->subscribe(bob, "will/#", sn::qos_level::one);
  }
  void ask_for_will(client_address from, std::string_view id, bool clean = true,
                    std::uint16_t keep_alive_s = 0) {
    (void)b->ask<sn::willtopicreq>(from, sn::connect{.flags = with_will.with_clean(clean),
                                                     .keep_alive_s = keep_alive_s,
                                                     .client_id = id});
  }
  /// Connects with a will, and returns the code of CONNACK.
  sn::return_code connect_with_will(client_address from, std::string_view id,
                                    std::string_view topic, std::string_view text,
                                    bool clean = true, sn::flags flags = qos1,
                                    std::uint16_t keep_alive_s = 0) {
    ask_for_will(from, id, clean, keep_alive_s);
    (void)b->ask<sn::willmsgreq>(from, sn::willtopic{.flags = flags, .topic = topic});
    return connack(from, sn::willmsg{.data = std::as_bytes(std::span(text))});
  }
  template <class T> sn::return_code connack(client_address from, const T& m) {
    const auto r = b->ask<sn::connack>(from, m);
    return r.template get<sn::connack>() ? r.template get<sn::connack>()->code
                                         : sn::return_code::congestion;
  }
  /// Returns everything that was published to that client, as "topic=text", with spaces between.
  std::string published_to(client_address at) {
    std::string list;
    b->settle();
    while (auto r = b->next(at)) {
      if (const auto* g = r->get<sn::register_topic>()) {
        names[at][g->topic_id] = g->topic;
        b->send(at, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
      } else if (const auto* p = r->get<sn::publish>()) {
        list += (list.empty() ? "" : " ") + names[at][p->topic_id] + "=" +
                std::string(reinterpret_cast<const char*>(p->data.data()), p->data.size());
        if (p->flags.retain()) list += " retained";
        if (p->flags.qos() == sn::qos_level::one)
          b->send(at, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
      }
      b->settle();
    }
    return list;
  }
  /// Ends the connection of a client without its doing.
  void lose(client_address at, std::string_view id) {
    // Another client takes the address.
    ASSERT_EQ(b->connect(at, std::string(id) + "-thief", true), sn::return_code::accepted);
    b->settle();
  }
  [[nodiscard]] sn::gateway_counters counters() const { return b->gateway->counters(); }
};

// --- asking -------------------------------------------------------------------------------------

TEST_P(GatewayWills, AClientIsAskedForItsWillWhichIsSentWhenItIsLost) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "lost"), sn::return_code::accepted);
  EXPECT_TRUE(b->connected("alice"));
  EXPECT_EQ(published_to(bob), "");
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=lost");
  EXPECT_EQ(published_to(bob), "") << "it is sent once";
}

TEST_P(GatewayWills, ASilentClientsWillIsSent) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "lost", true, qos1, 1),
            sn::return_code::accepted);
  std::string got;
  for (const std::time_t begin = std::time(nullptr);
       got.empty() && std::time(nullptr) < begin + 60;)
    got = published_to(bob);
  EXPECT_EQ(got, "will/a=lost");
  EXPECT_EQ(b->count<sn::disconnect>(alice), 1u);
  EXPECT_EQ(counters().sessions_lost, 1u);
}

TEST_P(GatewayWills, AClientIsNotConnectedBeforeItsWillIsKnown) {
  ask_for_will(alice, "alice");
  EXPECT_FALSE(b->connected("alice"));
  (void)b->ask<sn::disconnect>(alice, sn::pingreq{});
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/a"});
  EXPECT_FALSE(b->connected("alice"));
  EXPECT_EQ(connack(alice, sn::willmsg{}), sn::return_code::accepted);
  EXPECT_TRUE(b->connected("alice"));
}

TEST_P(GatewayWills, ARepeatedConnectBeginsAnew) {
  ask_for_will(alice, "alice");
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/first"});
  ask_for_will(alice, "alice");
  b->send(alice, sn::willmsg{});
  b->settle();
  EXPECT_EQ(b->all(alice).size(), 0u) << "the topic of the first CONNECT does not count";
  EXPECT_EQ(counters().unexpected, 1u);
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/second"});
  EXPECT_EQ(connack(alice, sn::willmsg{}), sn::return_code::accepted);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/second=");
}

TEST_P(GatewayWills, ARepeatedWilltopicIsAnsweredAgainAndTheLastOneCounts) {
  ask_for_will(alice, "alice");
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/first"});
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/second"});
  EXPECT_EQ(connack(alice, sn::willmsg{}), sn::return_code::accepted);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/second=");
}

TEST_P(GatewayWills, ARepeatedWillmsgGetsConnackAgain) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "lost"), sn::return_code::accepted);
  EXPECT_EQ(connack(alice, sn::willmsg{}), sn::return_code::accepted);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=lost") << "the repetition changes nothing";
}

TEST_P(GatewayWills, ARepeatedWillmsgBeforeTheConnackMakesOneConnack) {
  ask_for_will(alice, "alice");
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/a"});
  b->send(alice, sn::willmsg{});
  b->send(alice, sn::willmsg{});
  b->settle();
  EXPECT_EQ(b->count<sn::connack>(alice), 1u);
}

TEST_P(GatewayWills, AConnectWithoutWillEndsTheQuestionsOfAnEarlierOne) {
  ask_for_will(alice, "alice");
  EXPECT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  b->send(alice, sn::willtopic{.flags = qos1, .topic = "will/a"});
  b->settle();
  EXPECT_EQ(b->all(alice).size(), 0u);
  EXPECT_EQ(counters().unexpected, 1u);
}

TEST_P(GatewayWills, AnotherClientAtTheAddressEndsTheQuestionsOfTheFirst) {
  for (unsigned home = 0; home < b->broker->workers(); ++home) {
    const std::string first = b->id_at(0, "first"), second = b->id_at(home, "second");
    ask_for_will(alice, first);
    (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/first"});
    EXPECT_EQ(connect_with_will(alice, second, "will/second", "x"), sn::return_code::accepted);
    EXPECT_TRUE(b->connected(second));
    EXPECT_FALSE(b->connected(first));
    (void)b->ask<sn::disconnect>(alice, sn::disconnect{});
  }
}

TEST_P(GatewayWills, AnotherClientAtTheAddressIsLostWhenTheQuestionsBegin) {
  EXPECT_EQ(connect_with_will(alice, b->id_at(0, "first"), "will/first", "lost"),
            sn::return_code::accepted);
  EXPECT_EQ(connect_with_will(alice, b->id_at(1, "second"), "will/second", "x"),
            sn::return_code::accepted);
  EXPECT_EQ(published_to(bob), "will/first=lost");
}

// --- clean sessions -----------------------------------------------------------------------------

TEST_P(GatewayWills, AnEmptyWilltopicDeletesOnlyTheWill) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "gone", false), sn::return_code::accepted);
  b->subscribe(alice, "t", sn::qos_level::one);
  ask_for_will(alice, "alice", false);
  EXPECT_EQ(connack(alice, sn::willtopic{.erase = true}), sn::return_code::accepted);
  EXPECT_EQ(b->broker->subscription_count(), 2u) << "the subscription stays";
  EXPECT_EQ(connack(alice, sn::willtopic{.erase = true}), sn::return_code::accepted)
      << "a repetition is answered again";
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "");
}

TEST_P(GatewayWills, AnEmptyWilltopicInACleanConnectMeansNoWill) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "gone", false), sn::return_code::accepted);
  b->subscribe(alice, "t", sn::qos_level::one);
  ask_for_will(alice, "alice", true);
  EXPECT_EQ(connack(alice, sn::willtopic{.erase = true}), sn::return_code::accepted);
  EXPECT_EQ(b->broker->subscription_count(), 1u);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "");
}

TEST_P(GatewayWills, AConnectWithoutWillKeepsTheStoredOneUnlessItIsClean) {
  for (const bool clean : {false, true}) {
    const std::string id = clean ? "clean" : "kept";
    EXPECT_EQ(connect_with_will(alice, id, "will/a", id, false), sn::return_code::accepted);
    EXPECT_EQ(b->connect(alice, id, clean), sn::return_code::accepted);
    EXPECT_EQ(published_to(bob), "") << "the connection was not lost";
    lose(alice, id);
    EXPECT_EQ(published_to(bob), clean ? "" : "will/a=kept");
  }
}

TEST_P(GatewayWills, AWillRestsAfterDisconnectAndCountsAgainAfterConnect) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "there", false), sn::return_code::accepted);
  (void)b->ask<sn::disconnect>(alice, sn::disconnect{});
  EXPECT_EQ(published_to(bob), "");
  EXPECT_EQ(b->connect(alice, "alice", false), sn::return_code::accepted);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=there");
}

TEST_P(GatewayWills, AClientThatConnectsFromAnotherAddressWasLost) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "moved", false), sn::return_code::accepted);
  EXPECT_EQ(b->connect(carol, "alice", false), sn::return_code::accepted);
  EXPECT_EQ(published_to(bob), "will/a=moved");
}

TEST_P(GatewayWills, ARetainedWillIsRetained) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "kept", true, qos1.with_retain()),
            sn::return_code::accepted);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=kept");
  EXPECT_EQ(b->connect(carol, "carol", true), sn::return_code::accepted);
  b->send_subscribe(carol, "will/#");
  EXPECT_EQ(published_to(carol), "will/a=kept retained");
}

// --- changes ------------------------------------------------------------------------------------

TEST_P(GatewayWills, TopicAndMessageOfAWillAreChangedIndependently) {
  const std::string text = "second";
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "first"), sn::return_code::accepted);
  const auto topic =
      b->ask<sn::willtopicresp>(alice, sn::willtopicupd{.flags = qos1, .topic = "will/b"});
  EXPECT_EQ(topic.get<sn::willtopicresp>()->code, sn::return_code::accepted);
  EXPECT_EQ(topic.data.size(), 3u);
  const auto message =
      b->ask<sn::willmsgresp>(alice, sn::willmsgupd{.data = std::as_bytes(std::span(text))});
  EXPECT_EQ(message.get<sn::willmsgresp>()->code, sn::return_code::accepted);
  EXPECT_EQ(message.data.size(), 3u);
  EXPECT_EQ(counters().will_updates, 2u);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/b=second");
}

TEST_P(GatewayWills, AnEmptyWilltopicupdDeletesTheWill) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "gone"), sn::return_code::accepted);
  const auto r = b->ask<sn::willtopicresp>(alice, sn::willtopicupd{.erase = true});
  EXPECT_EQ(r.get<sn::willtopicresp>()->code, sn::return_code::accepted);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "");
}

TEST_P(GatewayWills, TheMessageOfNoWillCannotBeChanged) {
  b->connect(alice, "alice", true);
  const auto r = b->ask<sn::willmsgresp>(alice, sn::willmsgupd{});
  EXPECT_EQ(r.get<sn::willmsgresp>()->code, sn::return_code::not_supported);
}

TEST_P(GatewayWills, AChangedTopicThatIsNoTopicNameIsRefusedAndTheWillStays) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "stays"), sn::return_code::accepted);
  const std::string long_name = "will/" + std::string(300, 'x');
  for (const std::string& name : {std::string("will/#"), std::string("will/+"), long_name}) {
    const auto r = b->ask<sn::willtopicresp>(alice, sn::willtopicupd{.flags = qos1, .topic = name});
    EXPECT_EQ(r.get<sn::willtopicresp>()->code, sn::return_code::not_supported) << name;
  }
  const auto r = b->ask<sn::willtopicresp>(
      alice,
      sn::willtopicupd{.flags = sn::flags{}.with_qos(sn::qos_level::minus_one), .topic = "will/b"});
  EXPECT_EQ(r.get<sn::willtopicresp>()->code, sn::return_code::not_supported);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=stays");
}

TEST_P(GatewayWills, AChangedMessageThatIsTooLongIsRefusedAndTheWillStays) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "stays"), sn::return_code::accepted);
  const bytes too_long(config.content_size_max + 1);
  const auto r = b->ask<sn::willmsgresp>(alice, sn::willmsgupd{.data = too_long});
  EXPECT_EQ(r.get<sn::willmsgresp>()->code, sn::return_code::not_supported);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=stays");
}

// --- what is refused ----------------------------------------------------------------------------

TEST_P(GatewayWills, AWilltopicThatIsNoTopicNameIsRefusedWithTheConnect) {
  const std::string long_name = "will/" + std::string(300, 'x');
  for (const std::string& name :
       {std::string("will/#"), std::string("will/+"), std::string(), long_name}) {
    ask_for_will(alice, "alice");
    EXPECT_EQ(connack(alice, sn::willtopic{.flags = qos1, .topic = name}),
              sn::return_code::not_supported)
        << name;
    EXPECT_FALSE(b->connected("alice"));
    (void)b->ask<sn::disconnect>(alice, sn::willmsg{}); // the client is a stranger again
  }
  ask_for_will(alice, "alice");
  EXPECT_EQ(connack(alice, sn::willtopic{.flags = qos1.with_qos(sn::qos_level::minus_one),
                                         .topic = "will/a"}),
            sn::return_code::not_supported);
  EXPECT_EQ(counters().connects_refused, 5u);
}

TEST_P(GatewayWills, AWillThatIsTooLongIsRefusedWithTheConnect) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "former", false),
            sn::return_code::accepted);
  ask_for_will(alice, "alice", false);
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/b"});
  const bytes too_long(config.content_size_max + 1);
  EXPECT_EQ(connack(alice, sn::willmsg{.data = too_long}), sn::return_code::not_supported);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=former") << "the former connection went on, with its will";
}

TEST_P(GatewayWills, AWillmsgFromAnotherAddressIsAStrangers) {
  ask_for_will(alice, "alice");
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/a"});
  (void)b->ask<sn::disconnect>(stranger, sn::willmsg{});
  (void)b->ask<sn::disconnect>(stranger, sn::willtopic{.flags = qos1, .topic = "will/evil"});
  EXPECT_FALSE(b->connected("alice"));
  EXPECT_EQ(connack(alice, sn::willmsg{}), sn::return_code::accepted);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=");
}

TEST_P(GatewayWills, AWillmsgWithoutAWilltopicOpensNothing) {
  ask_for_will(alice, "alice");
  b->send(alice, sn::willmsg{});
  b->settle();
  EXPECT_EQ(b->all(alice).size(), 0u);
  EXPECT_FALSE(b->connected("alice"));
  EXPECT_EQ(counters().unexpected, 1u);
}

TEST_P(GatewayWills, AChangeFromAStrangerChangesNothing) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "hers"), sn::return_code::accepted);
  (void)b->ask<sn::disconnect>(stranger, sn::willtopicupd{.erase = true});
  (void)b->ask<sn::disconnect>(stranger, sn::willmsgupd{});
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=hers");
}

TEST_P(GatewayWills, AccessRulesJudgeTheTopicOfAWillAsAPublish) {
  auto rules =
      access::rule_set::parse("default allow\ndeny publish client alice topic secret/#", "rules");
  ASSERT_TRUE(rules) << rules.error().message;
  b->gateway->use_rules(std::move(*rules));
  b->settle();
  ask_for_will(alice, "alice");
  EXPECT_EQ(connack(alice, sn::willtopic{.flags = qos1, .topic = "secret/a"}),
            sn::return_code::not_supported);
  EXPECT_EQ(counters().publishes_denied, 1u);
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "allowed"), sn::return_code::accepted);
  const auto r =
      b->ask<sn::willtopicresp>(alice, sn::willtopicupd{.flags = qos1, .topic = "secret/a"});
  EXPECT_EQ(r.get<sn::willtopicresp>()->code, sn::return_code::not_supported);
  EXPECT_EQ(counters().publishes_denied, 2u);
  lose(alice, "alice");
  EXPECT_EQ(published_to(bob), "will/a=allowed");
}

TEST_P(GatewayWills, RulesThatBecomeStricterWhileAClientIsAskedJudgeItsConnectAndItsWill) {
  const auto use = [&](const char* text) {
    auto rules = access::rule_set::parse(text, "rules");
    ASSERT_TRUE(rules) << rules.error().message;
    b->gateway->use_rules(std::move(*rules));
    b->settle();
  };
  use("default allow");
  ask_for_will(alice, "alice");
  (void)b->ask<sn::willmsgreq>(alice, sn::willtopic{.flags = qos1, .topic = "will/a"});
  ask_for_will(carol, "carol");
  (void)b->ask<sn::willmsgreq>(carol, sn::willtopic{.flags = qos1, .topic = "will/c"});
  ask_for_will(stranger, "stranger");
  use("default allow\ndeny connect client alice\ndeny connect client stranger\n"
      "deny publish client carol");
  EXPECT_EQ(connack(alice, sn::willmsg{}), sn::return_code::not_supported);
  EXPECT_EQ(connack(carol, sn::willmsg{}), sn::return_code::not_supported);
  EXPECT_EQ(connack(stranger, sn::willtopic{.erase = true}), sn::return_code::not_supported);
  EXPECT_EQ(b->sessions().size(), 1u) << "only Bob's is there";
  EXPECT_EQ(counters().connects_denied, 2u);
  EXPECT_EQ(counters().publishes_denied, 1u);
}

TEST_P(GatewayWills, AClientThatNewRulesDoNotAllowSendsNoWill) {
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", "lost"), sn::return_code::accepted);
  auto rules = access::rule_set::parse("default allow\ndeny connect client alice", "rules");
  ASSERT_TRUE(rules) << rules.error().message;
  b->gateway->use_rules(std::move(*rules));
  b->settle();
  EXPECT_FALSE(b->connected("alice"));
  EXPECT_EQ(published_to(bob), "");
}

// --- limits -------------------------------------------------------------------------------------

/// A port of a host.
client_address port_of(std::uint32_t host, std::uint16_t port) {
  return net::endpoint{.address = net::ip_address(host), .port = port}.key();
}

TEST_P(GatewayWills, AStrangerWithAThousandConnectsIsAskedForAFewWillsAndOthersStillAre) {
  gateway.will_prompts_per_source_max = 8;
  SetUp();
  constexpr std::uint32_t attacker = 0x0A000001, other = 0x0A000002;
  const std::uint64_t now = rte_rdtsc();
  for (std::uint16_t i = 1; i <= 1000; ++i) {
    const std::string id = "evil" + std::to_string(i);
    b->send_at(now, port_of(attacker, i), sn::connect{.flags = with_will, .client_id = id});
  }
  b->settle();
  std::size_t asked = 0, refused = 0;
  for (std::uint16_t i = 1; i <= 1000; ++i)
    for (const received& r : b->all(port_of(attacker, i))) {
      asked += r.get<sn::willtopicreq>() != nullptr;
      refused += r.get<sn::connack>() != nullptr &&
                 r.get<sn::connack>()->code == sn::return_code::congestion;
    }
  EXPECT_EQ(asked, 8u * b->broker->workers()) << "the limit is of each worker";
  EXPECT_EQ(refused, 1000 - asked);
  EXPECT_EQ(counters().will_prompts_refused, refused);
  EXPECT_EQ(connect_with_will(port_of(other, 1), "alice", "will/a", ""), sn::return_code::accepted);
}

TEST_P(GatewayWills, WhenManySourcesHaveFilledTheTableTheOldestGivesItsPlaceUpToANewcomer) {
  gateway.will_prompts_max = 16;
  gateway.will_prompt_s = 2;
  SetUp();
  const std::uint64_t now = rte_rdtsc();
  for (std::uint32_t i = 1; i <= 1000; ++i) {
    const std::string id = "evil" + std::to_string(i);
    b->send_at(now, port_of(0x0A000000 + i, 1), sn::connect{.flags = with_will, .client_id = id});
  }
  b->settle();
  EXPECT_EQ(counters().will_prompts, 1000u);
  EXPECT_EQ(counters().will_prompts_expired, 1000u - 16 * b->broker->workers());
  EXPECT_EQ(connect_with_will(alice, "alice", "will/a", ""), sn::return_code::accepted);
  EXPECT_EQ(counters().will_prompts_expired, 1001u - 16 * b->broker->workers());
  for (unsigned w = 0; w < b->broker->workers(); ++w)
    b->gateway->worker(w).judge(now + 3 * rte_get_tsc_hz());
  EXPECT_EQ(counters().will_prompts_expired, 1000u);
  EXPECT_EQ(counters().will_prompts_refused, 0u);
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayWills, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_gateway
