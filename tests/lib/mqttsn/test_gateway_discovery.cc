// SPDX-License-Identifier: BSD-3-Clause
// How clients find the gateway, and clients that are nodes behind a forwarder.
#include "gateway_fixture.h"
#include "mqttsn/forwarder.h"
#include "net/address.h"

namespace chainring::testing_gateway {
namespace {

constexpr client_address alice = 101, first = 201, second = 202;
// The groups of two interfaces, and a client on the second of them.
const client_address group_a = net::endpoint{0xe1010101, 1883, 0}.key();
const client_address group_b = net::endpoint{0xe1010101, 1883, 1}.key();
const client_address on_b = net::endpoint{0x0a000007, 4711, 1}.key();

bytes node_id(std::string_view text) {
  const auto all = std::as_bytes(std::span(text));
  return {all.begin(), all.end()};
}

// --- nodes behind forwarders -------------------------------------------------------------------

class GatewayForwarder : public GatewayTest {
 protected:
  void SetUp() override {
    layout.sessions_max = 256;
    layout.subscriptions_max = 256;
    start();
  }
  template <class T>
  void send_as(client_address forwarder, std::string_view node, const T& m,
               std::uint8_t radius = 0) {
    const bytes inner = encode(m), id = node_id(node);
    b->send(forwarder, sn::encapsulated{.radius = radius, .node_id = id, .inner = inner});
  }
  /// Returns the next message that the forwarder got for that node, or nothing.
  std::optional<received> next_for(client_address forwarder, std::string_view node) {
    auto outer = b->next(forwarder);
    if (!outer) return std::nullopt;
    const auto* e = outer->get<sn::encapsulated>();
    if (e == nullptr) {
      ADD_FAILURE() << "a message without the header for the forwarder";
      return std::nullopt;
    }
    EXPECT_TRUE(std::ranges::equal(e->node_id, node_id(node)));
    radius = e->radius;
    received r;
    r.data.assign(e->inner.begin(), e->inner.end());
    EXPECT_EQ(sn::decode(r.data, r.m), sn::decode_status::ok);
    return r;
  }
  template <class Answer, class T>
  received ask_as(client_address forwarder, std::string_view node, const T& m) {
    send_as(forwarder, node, m);
    b->settle();
    auto r = next_for(forwarder, node);
    EXPECT_TRUE(r && r->get<Answer>() != nullptr) << (r ? sn::to_string(r->m.type) : "no answer");
    return r ? std::move(*r) : received{};
  }
  sn::return_code connect_as(client_address forwarder, std::string_view node, std::string_view id,
                             bool clean = true) {
    auto r = ask_as<sn::connack>(
        forwarder, node, sn::connect{.flags = sn::flags{}.with_clean(clean), .client_id = id});
    const auto* c = r.get<sn::connack>();
    return c != nullptr ? c->code : sn::return_code::not_supported;
  }
  std::uint8_t radius = 0;
};

TEST_P(GatewayForwarder, ServesTheNodesOfAForwarderAsClientsOfTheirOwn) {
  EXPECT_EQ(connect_as(first, "one", "a"), sn::return_code::accepted);
  EXPECT_EQ(connect_as(first, "two", "b"), sn::return_code::accepted);
  EXPECT_EQ(connect_as(second, "one", "c"), sn::return_code::accepted);
  EXPECT_TRUE(b->connected("a") && b->connected("b") && b->connected("c"));
  const auto suback =
      ask_as<sn::suback>(first, "two", sn::subscribe{.flags = qos1, .msg_id = 1, .topic = "t"});
  EXPECT_EQ(suback.get<sn::suback>()->code, sn::return_code::accepted);
  const auto regack =
      ask_as<sn::regack>(first, "one", sn::register_topic{.msg_id = 2, .topic = "t"});
  const std::string_view text = "21.5";
  send_as(first, "one",
          sn::publish{.flags = qos1,
                      .topic_id = regack.get<sn::regack>()->topic_id,
                      .msg_id = 3,
                      .data = std::as_bytes(std::span(text))});
  b->settle();
  bool acknowledged = false, delivered = false;
  for (int i = 0; i < 2; ++i) {
    auto outer = b->next(first);
    ASSERT_TRUE(outer && outer->get<sn::encapsulated>());
    const auto* e = outer->get<sn::encapsulated>();
    sn::message m;
    ASSERT_EQ(sn::decode(e->inner, m), sn::decode_status::ok);
    acknowledged |=
        m.get<sn::puback>() != nullptr && std::ranges::equal(e->node_id, node_id("one"));
    delivered |= m.get<sn::publish>() != nullptr && std::ranges::equal(e->node_id, node_id("two"));
  }
  EXPECT_TRUE(acknowledged && delivered);
}

TEST_P(GatewayForwarder, AnswersAClientThatHasMovedAtItsNewNode) {
  EXPECT_EQ(connect_as(first, "one", "a", false), sn::return_code::accepted);
  EXPECT_EQ(connect_as(second, "nine", "a", false), sn::return_code::accepted);
  (void)ask_as<sn::pingresp>(second, "nine", sn::pingreq{});
  (void)ask_as<sn::disconnect>(first, "one", sn::pingreq{});
  EXPECT_FALSE(b->next(second)) << "nothing more goes to the former or the new node";
}

TEST_P(GatewayForwarder, EndsTheConnectionOfANodeWhoseForwarderNowSpeaksForAnotherClient) {
  EXPECT_EQ(connect_as(first, "one", "a"), sn::return_code::accepted);
  EXPECT_EQ(connect_as(first, "one", "b"), sn::return_code::accepted);
  EXPECT_FALSE(b->connected("a"));
  EXPECT_TRUE(b->connected("b"));
}

TEST_P(GatewayForwarder, CountsAHeaderInsideAHeaderAsMalformed) {
  const bytes inner = encode(sn::pingreq{}), id = node_id("in");
  send_as(first, "out", sn::encapsulated{.node_id = id, .inner = inner});
  b->settle();
  EXPECT_FALSE(b->next(first));
  EXPECT_EQ(b->gateway->counters().malformed, 1u);
}

TEST_P(GatewayForwarder, HandsTheRadiusOfASearchOn) {
  for (const unsigned asked : {0u, 1u, 3u, 200u}) {
    send_as(first, "one", sn::searchgw{.radius = static_cast<std::uint8_t>(asked)});
    b->settle();
    auto r = next_for(first, "one");
    ASSERT_TRUE(r && r->get<sn::gwinfo>());
    EXPECT_EQ(r->get<sn::gwinfo>()->gw_id, gateway.gateway_id);
    EXPECT_EQ(radius, std::min(asked, 3u)) << "the control octet has two bits";
  }
}

// A forwarder may broadcast in its network what it gets for a search.
TEST_P(GatewayForwarder, AnswersFewSearchesInASecond) {
  for (int i = 0; i < 1000; ++i)
    send_as(first, "one", sn::searchgw{});
  b->settle();
  const std::size_t answers = b->all(first).size();
  EXPECT_GE(answers, 1u);
  EXPECT_EQ(answers + b->gateway->counters().discovery_limited, 1000u);
  EXPECT_GE(b->gateway->counters().discovery_limited, 900u);
  send_as(second, "one", sn::searchgw{});
  b->settle();
  EXPECT_EQ(b->all(second).size(), 1u) << "one forwarder's searches are not counted for another";
}

TEST_P(GatewayForwarder, CountsTheNodesOfAllPortsOfOneHostTogether) {
  gateway.nodes_max = 16;
  gateway.nodes_per_forwarder_max = 4;
  start();
  for (std::uint16_t port = 1; port <= 8; ++port) {
    const auto from = net::endpoint{.address = net::ip_address(0x0a000001), .port = port}.key();
    send_as(from, "n", sn::connect{.client_id = "c" + std::to_string(port)});
    b->settle();
  }
  EXPECT_EQ(b->gateway->counters().nodes_refused, 4u);
  EXPECT_EQ(b->sessions().size(), 4u);
}

TEST_P(GatewayForwarder, KeepsTheNodeOfAClientThatIsAskedForItsWill) {
  gateway.nodes_max = 4;
  gateway.nodes_per_forwarder_max = 4;
  start();
  (void)ask_as<sn::willtopicreq>(first, "one",
                                 sn::connect{.flags = sn::flags{}.with_will(), .client_id = "a"});
  for (unsigned i = 0; i < 100; ++i) {
    send_as(first, "s" + std::to_string(i), sn::pingreq{});
    b->settle();
  }
  (void)b->all(first);
  (void)ask_as<sn::connack>(first, "one", sn::willtopic{.erase = true});
  EXPECT_TRUE(b->connected("a"));
}

TEST_P(GatewayForwarder, KeepsTheNodesThatAreConnectedWhenStrangersAskForEveryPlace) {
  gateway.nodes_max = 16;
  gateway.nodes_per_forwarder_max = 12;
  start();
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(connect_as(first, "n" + std::to_string(i), "c" + std::to_string(i)),
              sn::return_code::accepted);
  for (unsigned i = 0; i < 2000; ++i) {
    send_as(second, "s" + std::to_string(i), sn::pingreq{});
    if (i % 16 == 0) b->settle();
  }
  b->settle();
  (void)b->all(second);
  for (int i = 0; i < 8; ++i)
    (void)ask_as<sn::pingresp>(first, "n" + std::to_string(i), sn::pingreq{});
  EXPECT_EQ(connect_as(first, "late", "late"), sn::return_code::accepted)
      << "a stranger gives its place up";
  // The forwarder has reached its limit with connected nodes only.
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(connect_as(first, "m" + std::to_string(i), "m" + std::to_string(i)),
              sn::return_code::accepted);
  const auto refused = b->gateway->counters().nodes_refused;
  send_as(first, "more", sn::connect{.client_id = "more"});
  b->settle();
  EXPECT_FALSE(b->next(first));
  EXPECT_EQ(b->gateway->counters().nodes_refused, refused + 1);
}

TEST_P(GatewayForwarder, RefusesANodeIdThatIsTooLong) {
  const std::string longest(sn::node_id_max, 'n');
  EXPECT_EQ(connect_as(first, longest, "a"), sn::return_code::accepted);
  send_as(first, longest + "n", sn::connect{.client_id = "b"});
  b->settle();
  EXPECT_FALSE(b->next(first));
  EXPECT_EQ(b->gateway->counters().nodes_refused, 1u);
}

TEST_P(GatewayForwarder, LeavesRoomForItsHeaderInTheLongestMessage) {
  EXPECT_EQ(connect_as(first, "one", "a"), sn::return_code::accepted);
  (void)ask_as<sn::suback>(first, "one", sn::subscribe{.flags = qos1, .msg_id = 1, .topic = "t"});
  for (auto& link : b->links)
    link->longest_to[first] = 300;
  b->connect(alice, "alice", true);
  const auto id = b->register_name(alice, "t");
  EXPECT_EQ(b->publish(alice, id, std::string(290, 'x'), 1), sn::return_code::accepted);
  EXPECT_FALSE(b->next(first)) << "the message and the header do not fit";
  EXPECT_EQ(b->publish(alice, id, std::string(220, 'x'), 2), sn::return_code::accepted);
  const auto r = next_for(first, "one");
  EXPECT_TRUE(r && r->get<sn::publish>());
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayForwarder, testing::Values(1u, 3u));

// A place that has changed its node has another address, so nothing goes to the wrong node.
TEST(NodeTable, GivesAPlaceThatChangesItsNodeAnotherAddress) {
  auto made = sn::node_table::create({.nodes_max = 1, .per_forwarder_max = 1, .seed = 1},
                                     [](const client_address&) { return false; });
  ASSERT_TRUE(made) << made.error().message;
  sn::node_table& nodes = **made;
  const bytes one = node_id("one"), two = node_id("two");
  const auto before = nodes.find_or_add(first, one);
  ASSERT_TRUE(before);
  EXPECT_EQ(nodes.find(first, one), before);
  EXPECT_EQ(sn::node_table::forwarder_of(*before), first);
  EXPECT_TRUE(sn::node_table::is_node(*before));
  std::optional<client_address> after;
  for (int i = 0; i < 2 && !after; ++i) // the first attempt finds that the place was just used
    after = nodes.find_or_add(first, two);
  ASSERT_TRUE(after);
  EXPECT_NE(*after, *before);
  std::array<std::byte, sn::node_id_max> id;
  EXPECT_EQ(nodes.id_of(*before, id), 0u);
  EXPECT_EQ(nodes.id_of(*after, id), two.size());
  EXPECT_FALSE(nodes.find(first, one));
  EXPECT_EQ(nodes.count(), 1u);
}

TEST(NodeTable, RefusesOptionsOutOfRange) {
  for (const sn::node_table::options& o :
       {sn::node_table::options{.nodes_max = 0}, sn::node_table::options{.nodes_max = 1 << 21},
        sn::node_table::options{.per_forwarder_max = 0},
        sn::node_table::options{.per_forwarder_max = 70'000}})
    EXPECT_FALSE(sn::node_table::create(o, [](const client_address&) { return false; }));
}

// --- discovery
// ------------------------------------------------------------------------------------

class GatewayDiscovery : public GatewayTest {
 protected:
  void SetUp() override {}
  void search(client_address from, bool to_group = false) {
    const bytes datagram = encode(sn::searchgw{.radius = 1});
    b->gateway->worker(b->gateway->home_of(from, datagram)).receive(from, datagram, 0, to_group);
    b->settle();
  }
};

TEST_P(GatewayDiscovery, AnswersASearchAtItsSenderOrAtTheGroupOfItsLink) {
  gateway.gateway_id = 9;
  gateway.groups = {group_a, group_b};
  start();
  search(on_b);
  auto r = b->next(on_b);
  ASSERT_TRUE(r && r->get<sn::gwinfo>());
  EXPECT_EQ(r->get<sn::gwinfo>()->gw_id, 9);
  EXPECT_TRUE(r->get<sn::gwinfo>()->gw_address.empty());
  search(on_b, true);
  EXPECT_FALSE(b->next(on_b));
  EXPECT_FALSE(b->next(group_a));
  r = b->next(group_b);
  EXPECT_TRUE(r && r->get<sn::gwinfo>());
  EXPECT_EQ(b->gateway->counters().searches, 2u);
}

TEST_P(GatewayDiscovery, BroadcastsTheAnswerToABroadcastSearchWhereNoGroupIsConfigured) {
  gateway.groups = {group_a};
  start();
  search(on_b, true);
  EXPECT_FALSE(b->next(on_b));
  const auto r = b->next(net::endpoint{0xffffffff, 4711, 1}.key());
  EXPECT_TRUE(r && r->get<sn::gwinfo>());
}

TEST_P(GatewayDiscovery, AnswersFewSearchesToAGroupInASecond) {
  gateway.groups = {group_b};
  start();
  for (int i = 0; i < 1000; ++i)
    search(on_b, true);
  const auto answers = b->all(group_b).size();
  const auto counted = b->gateway->counters();
  EXPECT_EQ(answers + counted.discovery_limited, 1000u);
  EXPECT_GE(answers, 4u);
  EXPECT_GT(counted.discovery_limited, 0u);
}

TEST_P(GatewayDiscovery, AdvertisesToEachGroupAtTheStartAndThenOnItsPeriod) {
  gateway.advertise_s = 900;
  gateway.groups = {group_a, group_b};
  start();
  const std::uint64_t now = rte_rdtsc(), second = rte_get_tsc_hz();
  const auto advertised = [&](std::uint64_t tsc) {
    for (unsigned w = 0; w < b->broker->workers(); ++w) {
      b->gateway->worker(w).judge(tsc);
      b->gateway->worker(w).send(b->broker->worker(w).end_burst());
    }
    return std::pair(b->count<sn::advertise>(group_a), b->count<sn::advertise>(group_b));
  };
  using both = std::pair<std::size_t, std::size_t>;
  EXPECT_EQ(advertised(now), both(1, 1));
  EXPECT_EQ(advertised(now + 899 * second), both(0, 0));
  EXPECT_EQ(advertised(now + 901 * second), both(1, 1));
  EXPECT_EQ(advertised(now + 1700 * second), both(0, 0));
  EXPECT_EQ(advertised(now + 1802 * second), both(1, 1));
  EXPECT_EQ(b->gateway->counters().advertised, 6u);
}

TEST_P(GatewayDiscovery, SendsNoAdvertiseUnlessItIsAskedTo) {
  gateway.groups = {group_a};
  start();
  b->settle();
  EXPECT_FALSE(b->next(group_a));
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayDiscovery, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_gateway
