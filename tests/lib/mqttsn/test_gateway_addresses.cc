// SPDX-License-Identifier: BSD-3-Clause
// An address belongs to one connection: a client that connects from where another is connected ends
// that connection before it is answered, and gets nothing of what was the other's.
#include "gateway_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_gateway {
namespace {

constexpr client_address publisher = 900, place = 901, elsewhere = 902;

/// `home` of the first client and of the second: the same worker, or two.
struct two_homes {
  unsigned workers, first, second;
};

class GatewayAddress : public testing::TestWithParam<two_homes> {
 protected:
  std::unique_ptr<gateway_bench> b;
  std::string first, second;
  std::uint16_t a = 0, other = 0;

  void SetUp() override {
    auto made = broker_on(memory_media(4 << 20, durability_class::process),
                          small_config(GetParam().workers), true);
    ASSERT_TRUE(made) << made.error().message;
    b = std::make_unique<gateway_bench>(std::move(*made), small_gateway());
    first = b->id_at(GetParam().first, "first");
    second = b->id_at(GetParam().second, "second");
    ASSERT_EQ(b->connect(publisher, "publisher", true), sn::return_code::accepted);
    a = b->register_name(publisher, "a");
    other = b->register_name(publisher, "b");
  }
  /// The texts of all PUBLISHes that came to an address; each is acknowledged.
  std::vector<std::string> texts(client_address at) {
    std::vector<std::string> list;
    for (std::string t = b->take(at); t != "(nothing)"; t = b->take(at))
      list.push_back(t);
    return list;
  }
};

using strings = std::vector<std::string>;

TEST_P(GatewayAddress, AClientThatConnectsWhereAnotherIsGetsNothingOfItAndTheOtherGetsItLater) {
  ASSERT_EQ(b->connect(place, first, false), sn::return_code::accepted);
  b->subscribe(place, "a", sn::qos_level::one);
  ASSERT_EQ(b->connect(place, second, false), sn::return_code::accepted);
  EXPECT_FALSE(b->connected(first)) << "its connection goes on";
  b->subscribe(place, "b", sn::qos_level::one);
  EXPECT_EQ(b->publish(publisher, a, "for the first", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(publisher, other, "for the second", 2), sn::return_code::accepted);
  EXPECT_EQ(texts(place), strings{"for the second"});
  EXPECT_EQ(b->connect(elsewhere, first, false), sn::return_code::accepted);
  EXPECT_EQ(texts(elsewhere), strings{"for the first"}) << "acknowledged, and lost";
  EXPECT_EQ(texts(place), strings{});
  EXPECT_EQ(b->gateway->counters().addresses_taken, 1u);
}

TEST_P(GatewayAddress, AClientThatConnectsWhereAnotherIsGetsNoneOfItsQosZeroMessages) {
  ASSERT_EQ(b->connect(place, first, false), sn::return_code::accepted);
  b->subscribe(place, "a", sn::qos_level::zero);
  b->send_publish(publisher, a, "for the first", 0, qos0); // matched, and perhaps on its way
  b->send_connect(place, second, false);
  b->settle();
  const auto came = b->all(place);
  ASSERT_FALSE(came.empty());
  const auto answered =
      std::ranges::find_if(came, [](const received& r) { return r.get<sn::connack>() != nullptr; });
  ASSERT_NE(answered, came.end());
  EXPECT_TRUE(std::none_of(answered, came.end(), [](const received& r) {
    return r.get<sn::publish>() != nullptr;
  })) << "behind its CONNACK";
  b->send_publish(publisher, a, "for the first", 0, qos0);
  b->settle();
  EXPECT_EQ(texts(place), strings{});
}

// What is leased to the first client, unacknowledged, or waits for a REGACK, is its own all the
// same.
TEST_P(GatewayAddress, AClientThatConnectsWhereAnotherIsGetsNoRegisterOfItsWildcard) {
  ASSERT_EQ(b->connect(place, first, false), sn::return_code::accepted);
  b->subscribe(place, "+", sn::qos_level::one);
  EXPECT_EQ(b->publish(publisher, a, "one", 1), sn::return_code::accepted);
  const auto asked = b->next(place);
  ASSERT_TRUE(asked && asked->get<sn::register_topic>());
  ASSERT_EQ(b->connect(place, second, false), sn::return_code::accepted);
  // The socket's answer to the first client's REGISTER comes late.
  b->send(place, sn::regack{.topic_id = asked->get<sn::register_topic>()->topic_id,
                            .msg_id = asked->get<sn::register_topic>()->msg_id});
  EXPECT_EQ(b->publish(publisher, other, "two", 2), sn::return_code::accepted);
  EXPECT_EQ(b->all(place).size(), 0u);
  EXPECT_EQ(b->connect(elsewhere, first, false), sn::return_code::accepted);
  EXPECT_EQ(texts(elsewhere), (strings{"one", "two"}));
}

TEST_P(GatewayAddress, AnAcknowledgementFromTheSecondClientSettlesNothingOfTheFirst) {
  ASSERT_EQ(b->connect(place, first, false), sn::return_code::accepted);
  b->subscribe(place, "a", sn::qos_level::one);
  EXPECT_EQ(b->publish(publisher, a, "kept", 1), sn::return_code::accepted);
  const auto sent = b->next(place);
  ASSERT_TRUE(sent && sent->get<sn::publish>());
  ASSERT_EQ(b->connect(place, second, false), sn::return_code::accepted);
  b->send(place, sn::puback{.topic_id = sent->get<sn::publish>()->topic_id,
                            .msg_id = sent->get<sn::publish>()->msg_id});
  b->settle();
  EXPECT_EQ(b->connect(elsewhere, first, false), sn::return_code::accepted);
  EXPECT_EQ(texts(elsewhere), strings{"kept"});
}

TEST_P(GatewayAddress, OfTwoConnectsInOneBurstOneIsServedAndTheOtherNotAnswered) {
  b->send_connect(place, first);
  b->send_connect(place, second);
  b->settle();
  EXPECT_EQ(b->count<sn::connack>(place), 1u);
  EXPECT_EQ(b->connected(first) + b->connected(second), 1);
  EXPECT_TRUE(b->connected(second)) << "it came last";
  (void)b->ask<sn::pingresp>(place, sn::pingreq{});
}

TEST_P(GatewayAddress, AnAddressMayGoBackAndForthBetweenTwoClients) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(b->connect(place, first, false), sn::return_code::accepted) << i;
    b->subscribe(place, "a", sn::qos_level::one);
    EXPECT_TRUE(b->connected(first) && !b->connected(second)) << i;
    EXPECT_EQ(b->publish(publisher, a, std::to_string(i), 1), sn::return_code::accepted);
    EXPECT_EQ(texts(place), strings{std::to_string(i)});
    ASSERT_EQ(b->connect(place, second, false), sn::return_code::accepted) << i;
    EXPECT_TRUE(!b->connected(first) && b->connected(second)) << i;
    EXPECT_EQ(texts(place), strings{});
  }
}

// The one that came last is served, whichever worker hears of it first.
TEST_P(GatewayAddress, OfConnectsThatOvertakeEachOtherTheOneReceivedLastIsServed) {
  const std::uint64_t now = rte_rdtsc();
  const auto connect_at = [&](std::uint64_t tsc, const std::string& id) {
    b->send_at(tsc, place, sn::connect{.flags = sn::flags{}.with_clean(true), .client_id = id});
  };
  connect_at(now, first);
  connect_at(now + 1, second);
  connect_at(now + 2, first);
  b->settle();
  EXPECT_TRUE(b->connected(first));
  EXPECT_FALSE(b->connected(second));
  EXPECT_TRUE(b->count<sn::connack>(place) >= 1);
  (void)b->ask<sn::pingresp>(place, sn::pingreq{});
}

INSTANTIATE_TEST_SUITE_P(Homes, GatewayAddress,
                         testing::Values(two_homes{1, 0, 0}, two_homes{3, 1, 1}, two_homes{3, 0, 2},
                                         two_homes{3, 2, 0}),
                         [](const auto& info) {
                           const two_homes& h = info.param;
                           return std::to_string(h.workers) + "Workers" + std::to_string(h.first) +
                                  "And" + std::to_string(h.second);
                         });

// A client's datagrams that have been released, and wait in the link of its worker, come before the
// next client is answered by another.
TEST(GatewayAddresses, TheSecondClientIsAnsweredWhenWhatWasTheFirstOnesHasLeft) {
  auto made = broker_on(memory_media(4 << 20, durability_class::process), small_config(2), true);
  ASSERT_TRUE(made) << made.error().message;
  gateway_bench b(std::move(*made), small_gateway());
  const std::string first = b.id_at(0, "first"), second = b.id_at(1, "second");
  b.connect(publisher, b.id_at(1, "publisher"), true);
  const auto id = b.register_name(publisher, "a");
  b.connect(place, first, false);
  b.subscribe(place, "a", sn::qos_level::one);
  b.links[0]->stands_still = true;
  EXPECT_EQ(b.publish(publisher, id, "on its way", 1), sn::return_code::accepted);
  EXPECT_EQ(b.links[0]->waiting(), 1u);
  b.send_connect(place, second);
  b.settle();
  EXPECT_EQ(b.all(place).size(), 0u) << "answered before the first client's message has left";
  b.links[0]->stands_still = false;
  b.links[0]->go_on();
  b.settle();
  const auto came = b.all(place);
  ASSERT_EQ(came.size(), 2u);
  EXPECT_NE(came[0].get<sn::publish>(), nullptr);
  EXPECT_NE(came[1].get<sn::connack>(), nullptr);
  b.links[0]->go_on();
  EXPECT_EQ(b.connect(elsewhere, first, false), sn::return_code::accepted);
  EXPECT_EQ(b.take(elsewhere), "on its way");
}

} // namespace
} // namespace chainring::testing_gateway
