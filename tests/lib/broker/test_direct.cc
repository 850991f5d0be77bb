// SPDX-License-Identifier: BSD-3-Clause
// Publishes that are placed when they arrive, beside those that are staged for the end of the
// burst.
#include "broker_fixture.h"
#include "support/seeded.h"

namespace chainring::testing_broker {
namespace {

constexpr std::uint64_t alice = 101, bob = 102, carol = 103;
constexpr auto one = sn::flags{}.with_qos(sn::qos_level::one);

class Direct : public testing::TestWithParam<unsigned> {
 protected:
  std::unique_ptr<bench> b;
  broker_config config = small_config(GetParam());
  std::uint16_t topic = 0;

  void SetUp() override {
    auto made = broker_on(memory_media(4 << 20, durability_class::process), config, true);
    ASSERT_TRUE(made) << made.error().message;
    b = std::make_unique<bench>(std::move(*made));
    b->connect(alice, "alice", true);
    b->connect(bob, "bob", false);
    b->subscribe(bob, "t", sn::qos_level::one);
    topic = b->register_name(alice, "t");
    EXPECT_EQ(b->publish(alice, topic, "first", 99), sn::return_code::accepted);
    EXPECT_EQ(b->take(bob), "first");
  }
  /// Sends without ending the burst.
  void send(std::uint16_t msg_id, const std::string& text, sn::flags flags = one) {
    b->send(alice, sn::publish{.flags = flags,
                               .topic_id = topic,
                               .msg_id = msg_id,
                               .data = std::as_bytes(std::span(text))});
  }
  /// The return codes that alice has got, by message id.
  std::map<std::uint16_t, sn::return_code> answers() {
    std::map<std::uint16_t, sn::return_code> got;
    while (auto r = b->next(alice))
      if (const auto* p = r->get<sn::puback>()) got[p->msg_id] = p->code;
    return got;
  }
  std::vector<std::string> take_all() {
    std::vector<std::string> got;
    for (std::string text = b->take(bob); text != "(nothing)"; text = b->take(bob))
      got.push_back(text);
    return got;
  }
};

TEST_P(Direct, TheMessagesOfABurstComeInTheirOrder) {
  std::vector<std::string> sent;
  for (std::uint16_t i = 1; i <= 5; ++i) {
    sent.push_back(std::to_string(i));
    send(i, sent.back());
  }
  b->settle();
  EXPECT_EQ(answers().size(), 5u);
  EXPECT_EQ(take_all(), sent);
}

TEST_P(Direct, AMessageDoesNotOvertakeAnEarlierOneThatIsStaged) {
  send(1, "placed at once");
  send(2, "retained", one.with_retain(true));
  send(3, "behind it");
  b->settle();
  EXPECT_EQ(answers().size(), 3u);
  EXPECT_EQ(take_all(), (std::vector<std::string>{"placed at once", "retained", "behind it"}));
}

TEST_P(Direct, OvertakingIsFound) {
  const test::seeded bug("broker.direct_overtakes");
  send(1, "retained", one.with_retain(true));
  send(2, "behind it");
  b->settle();
  test::expect_found("broker.direct_overtakes",
                     take_all() != std::vector<std::string>{"retained", "behind it"});
}

TEST_P(Direct, ASessionMayEndInTheBurstThatPlacesAMessageInItsQueue) {
  const auto before = b->broker->counters();
  send(1, "for the session that ends");
  b->send(bob, sn::connect{.flags = sn::flags{}.with_clean(true), .client_id = "bob"});
  b->settle();
  EXPECT_EQ(answers().at(1), sn::return_code::accepted);
  auto r = b->next(bob);
  ASSERT_TRUE(r && r->get<sn::connack>());
  EXPECT_EQ(r->get<sn::connack>()->code, sn::return_code::accepted);
  EXPECT_FALSE(b->next(bob)) << "the message was for the former session";
  b->subscribe(bob, "t", sn::qos_level::one);
  EXPECT_EQ(b->publish(alice, topic, "for the next one", 2), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), "for the next one");
  EXPECT_EQ(b->broker->counters().placed - before.placed, 2u);
}

// A client that comes back in the burst in which its session ended ends it in the middle of the
// burst.
TEST_P(Direct, MessagesBeforeAndBehindTheEndOfASessionInOneBurstArriveOnce) {
  b->connect(carol, "carol", true);
  for (std::uint16_t i = 1; i <= 3; ++i) {
    const auto placed = b->broker->counters().placed;
    send(i, "before");
    b->send(carol, sn::disconnect{});
    b->send(carol, sn::connect{.flags = sn::flags{}.with_clean(true), .client_id = "carol"});
    send(static_cast<std::uint16_t>(i + 100), "behind");
    b->settle();
    EXPECT_EQ(answers().size(), 2u) << i;
    EXPECT_EQ(take_all(), (std::vector<std::string>{"before", "behind"})) << i;
    EXPECT_EQ(b->broker->counters().placed - placed, 2u) << "each is finished once";
    while (b->next(carol)) {
    }
  }
  EXPECT_EQ(b->broker->message_statistics().live, 0u);
}

TEST_P(Direct, AQueueThatBecomesFullWithinABurstRefusesTheRest) {
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  for (std::uint16_t i = 1; i <= 40; ++i)
    send(i, std::to_string(i));
  b->settle();
  std::vector<std::string> accepted;
  const auto got = answers();
  EXPECT_EQ(got.size(), 40u);
  for (const auto& [id, code] : got)
    if (code == sn::return_code::accepted) accepted.push_back(std::to_string(id));
  EXPECT_EQ(accepted.size(), config.queue_slots);
  b->connect(bob, "bob", false);
  EXPECT_EQ(take_all(), accepted);
}

TEST_P(Direct, ABurstOfBothKindsLeavesNoReferenceBehind) {
  b->connect(carol, "carol", false);
  b->subscribe(carol, "wide", sn::qos_level::one);
  b->subscribe(bob, "wide", sn::qos_level::one);
  const auto wide = b->register_name(alice, "wide");
  const auto live = b->broker->message_statistics().live;
  for (std::uint16_t i = 1; i <= 10; ++i) {
    send(i, "narrow");
    b->send(alice, sn::publish{.flags = one, .topic_id = wide, .msg_id = 100});
    b->settle();
    while (b->take(bob) != "(nothing)") {
    }
    while (b->take(carol) != "(nothing)") {
    }
  }
  b->settle();
  EXPECT_EQ(b->broker->message_statistics().live, live);
}

INSTANTIATE_TEST_SUITE_P(Workers, Direct, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_broker
