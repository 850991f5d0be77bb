// SPDX-License-Identifier: BSD-3-Clause
// An address belongs to one connection. A client that connects from the address of another client
// ends that client's connection before it is answered, and gets none of that client's messages.
#include "gateway_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_gateway {
namespace {

constexpr std::uint64_t publisher = 900, place = 901, elsewhere = 902;

/// The homes of the first and the second client: the same worker or two workers.
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
  /// Returns the texts of all PUBLISH messages that came to an address, and acknowledges each.
  std::vector<std::string> texts(client_address at) {
    std::vector<std::string> list;
    for (std::string t = b->take(at); t != "(nothing)"; t = b->take(at))
      list.push_back(t);
    return list;
  }
};

using strings = std::vector<std::string>;

TEST_P(GatewayAddress, AClientThatConnectsFromAnothersAddressGetsNoneOfItsMessages) {
  ASSERT_EQ(b->connect(place, first, false), sn::return_code::accepted);
  b->subscribe(place, "a", sn::qos_level::one);
  ASSERT_EQ(b->connect(place, second, false), sn::return_code::accepted);
  EXPECT_FALSE(b->connected(first)) << "the connection of the first client must end";
  b->subscribe(place, "b", sn::qos_level::one);
  EXPECT_EQ(b->publish(publisher, a, "for the first", 1), sn::return_code::accepted);
  EXPECT_EQ(b->publish(publisher, other, "for the second", 2), sn::return_code::accepted);
  EXPECT_EQ(texts(place), strings{"for the second"});
  EXPECT_EQ(b->connect(elsewhere, first, false), sn::return_code::accepted);
  EXPECT_EQ(texts(elsewhere), strings{"for the first"}) << "an acknowledged message is lost";
  EXPECT_EQ(texts(place), strings{});
  EXPECT_EQ(b->gateway->counters().addresses_taken, 1u);
}

TEST_P(GatewayAddress, AClientThatConnectsFromAnothersAddressGetsNoneOfItsQosZeroMessages) {
  ASSERT_EQ(b->connect(place, first, false), sn::return_code::accepted);
  b->subscribe(place, "a", sn::qos_level::zero);
  b->send_publish(publisher, a, "for the first", 0,
                  qos0); // the message is matched and may be under way
  b->send_connect(place, second, false);
  b->settle();
  const auto came = b->all(place);
  ASSERT_FALSE(came.empty());
  const auto answered =
      std::ranges::find_if(came, [](const received& r) { return r.get<sn::connack>() != nullptr; });
  ASSERT_NE(answered, came.end());
  EXPECT_TRUE(std::none_of(answered, came.end(), [](const received& r) {
    return r.get<sn::publish>() != nullptr;
  })) << "a message of the first client came behind the CONNACK";
  b->send_publish(publisher, a, "for the first", 0, qos0);
  b->settle();
  EXPECT_EQ(texts(place), strings{});
}

// A message that is leased to the first client, is unacknowledged, or waits for a REGACK stays with
// that client.
TEST_P(GatewayAddress, AClientThatConnectsFromAnothersAddressGetsNoRegisterOfItsWildcard) {
  ASSERT_EQ(b->connect(place, first, false), sn::return_code::accepted);
  b->subscribe(place, "+", sn::qos_level::one);
  EXPECT_EQ(b->publish(publisher, a, "one", 1), sn::return_code::accepted);
  const auto asked = b->next(place);
  ASSERT_TRUE(asked && asked->get<sn::register_topic>());
  ASSERT_EQ(b->connect(place, second, false), sn::return_code::accepted);
  // The answer to the REGISTER for the first client comes late.
  b->send(place, sn::regack{.topic_id = asked->get<sn::register_topic>()->topic_id,
                            .msg_id = asked->get<sn::register_topic>()->msg_id});
  EXPECT_EQ(b->publish(publisher, other, "two", 2), sn::return_code::accepted);
  EXPECT_EQ(b->all(place).size(), 0u);
  EXPECT_EQ(b->connect(elsewhere, first, false), sn::return_code::accepted);
  EXPECT_EQ(texts(elsewhere), (strings{"one", "two"}));
}

TEST_P(GatewayAddress, AnAcknowledgementFromTheSecondClientSettlesNoMessageOfTheFirst) {
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

TEST_P(GatewayAddress, OfTwoConnectsInOneBurstOnlyOneIsServed) {
  b->send_connect(place, first);
  b->send_connect(place, second);
  b->settle();
  EXPECT_EQ(b->count<sn::connack>(place), 1u);
  EXPECT_EQ(b->connected(first) + b->connected(second), 1);
  EXPECT_TRUE(b->connected(second)) << "the CONNECT that came last must be served";
  (void)b->ask<sn::pingresp>(place, sn::pingreq{});
}

TEST_P(GatewayAddress, AnAddressCanMoveBackAndForthBetweenTwoClients) {
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

// The CONNECT that was received last is served, whichever worker handles it first.
TEST_P(GatewayAddress, OfTwoConnectsTheOneReceivedLastIsServedInAnyOrderOfHandling) {
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

// Datagrams to the first client that are released and still wait in the link of its worker leave
// before another worker answers the next client.
TEST(GatewayAddresses, TheSecondClientIsAnsweredAfterAllDatagramsToTheFirstHaveLeft) {
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
  EXPECT_EQ(b.all(place).size(), 0u)
      << "the second client was answered before the first client's message left";
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
