// SPDX-License-Identifier: BSD-3-Clause
// Retained messages on the wire: PUBLISH with the retain flag, and what new and present subscribers
// are sent.
#include <set>

#include "gateway_fixture.h"

namespace chainring::testing_gateway {
namespace {

constexpr client_address alice = 101, bob = 102, carol = 103, stranger = 104;
constexpr sn::flags kept = sn::flags{}.with_qos(sn::qos_level::one).with_retain();

/// One PUBLISH that came: its flags and its text.
struct delivered {
  sn::flags flags;
  std::string text;
};

class GatewayRetained : public GatewayTest {
 protected:
  std::uint16_t topic = 0;

  /// Alice publishes to `t`; Bob is connected.
  void SetUp() override {
    layout.retained_max = 128;
    start();
    ASSERT_NE(b, nullptr);
    ASSERT_EQ(b->connect(alice, b->id_at(0, "alice"), true), sn::return_code::accepted);
    ASSERT_EQ(b->connect(bob, b->id_at(1, "bob"), true), sn::return_code::accepted);
    topic = b->register_name(alice, "t");
  }
  sn::return_code retain(std::uint16_t id, std::string_view text, sn::flags with = kept) {
    b->send_publish(alice, id, text, 7, with);
    b->settle();
    auto r = b->next(alice);
    if (r && r->get<sn::pubrec>()) return sn::return_code::accepted;
    EXPECT_TRUE(r && r->get<sn::puback>());
    return r && r->get<sn::puback>() ? r->get<sn::puback>()->code : sn::return_code::not_supported;
  }
  std::uint64_t retained() { return b->broker->retained_counts().messages; }
  /// Everything that comes for that client; it knows every topic and acknowledges every message.
  std::vector<delivered> take(client_address at) {
    std::vector<delivered> got;
    b->settle();
    while (auto r = b->next(at)) {
      if (const auto* g = r->get<sn::register_topic>())
        b->send(at, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
      if (const auto* p = r->get<sn::publish>()) {
        got.push_back(
            {p->flags, std::string(reinterpret_cast<const char*>(p->data.data()), p->data.size())});
        if (p->flags.qos() == sn::qos_level::one)
          b->send(at, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
        if (p->flags.qos() == sn::qos_level::two) b->send(at, sn::pubrec{.msg_id = p->msg_id});
      }
      if (const auto* p = r->get<sn::pubrel>()) b->send(at, sn::pubcomp{.msg_id = p->msg_id});
      b->settle();
    }
    return got;
  }
};

TEST_P(GatewayRetained, ANewSubscriberIsSentTheMessageWithTheFlagBehindItsSuback) {
  ASSERT_EQ(retain(topic, "text"), sn::return_code::accepted);
  b->send_subscribe(bob, "t");
  b->settle();
  auto suback = b->next(bob);
  ASSERT_TRUE(suback && suback->get<sn::suback>()) << "the SUBACK carries the topic id";
  auto first = b->next(bob);
  ASSERT_TRUE(first && first->get<sn::publish>());
  EXPECT_TRUE(first->get<sn::publish>()->flags.retain());
  EXPECT_EQ(first->get<sn::publish>()->flags.qos(), sn::qos_level::one);
  EXPECT_EQ(first->get<sn::publish>()->topic_id, suback->get<sn::suback>()->topic_id);
  EXPECT_FALSE(first->get<sn::publish>()->flags.dup());
}

TEST_P(GatewayRetained, APresentSubscriberIsSentTheMessageWithoutTheFlag) {
  b->subscribe(bob, "t", sn::qos_level::one);
  ASSERT_EQ(retain(topic, "text"), sn::return_code::accepted);
  const auto got = take(bob);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].text, "text");
  EXPECT_FALSE(got[0].flags.retain());
}

TEST_P(GatewayRetained, AWildcardIsGivenEveryTopicOnceAndEachIsRegisteredFirst) {
  std::set<std::string> expected;
  for (int i = 0; i < 30; ++i) {
    const std::string text = "text " + std::to_string(i);
    ASSERT_EQ(retain(b->register_name(alice, "r/" + std::to_string(i)), text),
              sn::return_code::accepted);
    expected.insert(text);
  }
  b->subscribe(bob, "r/+", sn::qos_level::one);
  std::multiset<std::string> got;
  for (const delivered& d : take(bob)) {
    EXPECT_TRUE(d.flags.retain());
    got.insert(d.text);
  }
  EXPECT_EQ(got.size(), 30u);
  EXPECT_EQ(std::set<std::string>(got.begin(), got.end()), expected);
}

TEST_P(GatewayRetained, AnEmptyMessageClearsTheTopicAndIsDeliveredAsAny) {
  b->subscribe(bob, "t", sn::qos_level::one);
  ASSERT_EQ(retain(topic, "text"), sn::return_code::accepted);
  ASSERT_EQ(retain(topic, ""), sn::return_code::accepted);
  const auto got = take(bob);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[1].text, "");
  EXPECT_EQ(retained(), 0u);
  ASSERT_EQ(b->connect(carol, "carol", true), sn::return_code::accepted);
  b->subscribe(carol, "t", sn::qos_level::one);
  EXPECT_TRUE(take(carol).empty());
  EXPECT_EQ(b->broker->message_statistics().live, 0u);
}

TEST_P(GatewayRetained, MessagesOfEveryQosAreRetainedAndGivenAtTheLowerQos) {
  const auto zero = b->register_name(alice, "q/0"), one = b->register_name(alice, "q/1"),
             two = b->register_name(alice, "q/2");
  b->send_publish(alice, zero, "0", 0, sn::flags{}.with_retain());
  b->settle();
  ASSERT_EQ(retain(one, "1"), sn::return_code::accepted);
  ASSERT_EQ(retain(two, "2", kept.with_qos(sn::qos_level::two)), sn::return_code::accepted);
  b->send(alice, sn::pubrel{.msg_id = 7});
  b->settle();
  ASSERT_EQ(retained(), 3u);
  for (const auto granted : {sn::qos_level::zero, sn::qos_level::one, sn::qos_level::two}) {
    b->subscribe(bob, "q/+", granted);
    const auto got = take(bob);
    ASSERT_EQ(got.size(), 3u);
    for (const delivered& d : got) {
      EXPECT_TRUE(d.flags.retain());
      const auto published = static_cast<sn::qos_level>(d.text[0] - '0');
      EXPECT_EQ(d.flags.qos(), std::min(published, granted)) << d.text;
    }
  }
}

TEST_P(GatewayRetained, ASubscriptionThatIsMadeAgainIsGivenTheMessageAgain) {
  ASSERT_EQ(retain(topic, "text"), sn::return_code::accepted);
  for (int i = 0; i < 3; ++i) {
    b->subscribe(bob, "t", sn::qos_level::one);
    EXPECT_EQ(take(bob).size(), 1u);
  }
}

TEST_P(GatewayRetained, ShortAndPredefinedTopicsAndASenderWithoutASessionMayRetain) {
  b->send(stranger, sn::publish{.flags = sn::flags{}
                                             .with_qos(sn::qos_level::minus_one)
                                             .with_retain()
                                             .with_topic_type(sn::topic_id_type::short_name),
                                .topic_id = sn::short_topic_id("ab"),
                                .data = std::as_bytes(std::span("text", 4))});
  b->settle();
  EXPECT_EQ(retained(), 1u);
  b->subscribe(bob, "ab", sn::qos_level::one);
  const auto got = take(bob);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].flags.qos(), sn::qos_level::zero);
  EXPECT_TRUE(got[0].flags.retain());
}

TEST_P(GatewayRetained, AFullTableAnswersWithCongestion) {
  config.retained_messages_max = 3;
  SetUp();
  for (int i = 0; i < 3; ++i)
    ASSERT_EQ(retain(b->register_name(alice, "r/" + std::to_string(i)), "x"),
              sn::return_code::accepted);
  EXPECT_EQ(retain(topic, "x"), sn::return_code::congestion);
  EXPECT_EQ(b->broker->counters().retained_refused, 1u);
  ASSERT_EQ(retain(b->register_name(alice, "r/1"), ""), sn::return_code::accepted);
  EXPECT_EQ(retain(topic, "x"), sn::return_code::accepted);
}

// A client that never answers is lost with what it was given; the topics and other clients stay.
TEST_P(GatewayRetained, AClientThatSubscribesToEverythingAndAnswersNothingHarmsNoOther) {
  for (int i = 0; i < 40; ++i)
    ASSERT_EQ(retain(b->register_name(alice, "r/" + std::to_string(i)), "x"),
              sn::return_code::accepted);
  for (int i = 0; i < 10; ++i) {
    b->send_subscribe(bob, "#", static_cast<std::uint16_t>(i + 1));
    b->send_subscribe(bob, "r/+", static_cast<std::uint16_t>(i + 100));
  }
  b->settle();
  // The queue still takes what others publish.
  const auto live = b->register_name(alice, "r/0");
  EXPECT_EQ(b->publish(alice, live, "live", 9), sn::return_code::accepted);
  ASSERT_EQ(b->connect(carol, "carol", true), sn::return_code::accepted);
  b->subscribe(carol, "r/#", sn::qos_level::one);
  EXPECT_EQ(take(carol).size(), 40u);
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayRetained, testing::Values(1u, 2u));

} // namespace
} // namespace chainring::testing_gateway
