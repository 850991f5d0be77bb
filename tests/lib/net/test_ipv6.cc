// SPDX-License-Identifier: BSD-3-Clause
// IPv6 addresses, and the IPv6 part of the neighbour table. What frames look like is compared with
// scapy in test_scapy.py.
#include "frames.h"

namespace chainring::net_test {
namespace {

constexpr rte_ether_addr other_mac = {{0x02, 0, 0, 0, 0, 0x44}};

ip_address address(const char* text) {
  return parse_ipv6(text).value();
}

TEST(Ipv6Address, OnlyAnIpv6AddressIsAccepted) {
  EXPECT_EQ(address("2001:db8::1"), (ip_address{0x2001'0db8'0000'0000, 1}));
  EXPECT_EQ(to_string(address("2001:DB8:0:0::1")), "2001:db8::1");
  EXPECT_EQ(to_string(endpoint{address("fe80::9"), 1883, 2}), "[fe80::9]:1883%2");
  EXPECT_EQ(to_string(endpoint{0x0A000007u, 1883, 0}), "10.0.0.7:1883%0");
  using namespace std::string_literals;
  for (const std::string& bad : {""s, "192.0.2.1"s, "::ffff:192.0.2.1"s, "1::2::3"s, "g::1"s,
                                 "fe80::1%eth0"s, "::1\0"s, "2001:db8::1/64"s})
    EXPECT_FALSE(parse_ipv6(bad)) << bad;
}

TEST(Ipv6Address, OnlyAValidPrefixIsAccepted) {
  const ipv6_prefix p = parse_ipv6_prefix("2001:db8::1/64").value();
  EXPECT_EQ(p.length, 64);
  EXPECT_EQ(parse_ipv6_prefix("2001:db8::1").value().length, 128);
  for (const char* bad : {"2001:db8::1/", "2001:db8::1/129", "2001:db8::1/064", "2001:db8::1/x",
                          "2001:db8::1/-1", "192.0.2.1/24"})
    EXPECT_FALSE(parse_ipv6_prefix(bad)) << bad;
}

TEST(Ipv6Address, APrefixOfAnyLengthContainsWhatAgreesInItsBits) {
  const ip_address a = address("2001:db8:1234:5678:9abc:def0:1357:2468");
  for (unsigned length = 0; length <= 128; ++length) {
    const ipv6_prefix p{a, static_cast<std::uint8_t>(length)};
    for (unsigned bit = 0; bit < 128; ++bit) { // bit 0 is the first one
      ip_address b = a;
      (bit < 64 ? b.high : b.low) ^= std::uint64_t{1} << (63 - bit % 64);
      EXPECT_EQ(p.contains(b), bit >= length) << "bit " << bit << " of /" << length;
    }
  }
}

TEST(Ipv6Address, KindsOfAddressesAreToldApart) {
  for (const char* a : {"2001:db8::1", "fe80::1", "fd00::1", "64:ff9b::192.0.2.1"})
    EXPECT_TRUE(is_unicast_ipv6(address(a))) << a;
  for (const char* a : {"::", "::1", "ff02::1", "::192.0.2.1"})
    EXPECT_FALSE(is_unicast_ipv6(address(a))) << a;
  EXPECT_FALSE(is_unicast_ipv6(0xC0000201u));
  EXPECT_TRUE(is_link_local(address("febf::1")));
  EXPECT_FALSE(is_link_local(address("fec0::1")));
  EXPECT_TRUE(is_multicast(address("ff0e::7")));
  EXPECT_TRUE(is_multicast(ip_address(group)));
  EXPECT_FALSE(is_multicast(address("fe80::1")));
  EXPECT_EQ(to_string(solicited_node(address("2001:db8::12:3456"))), "ff02::1:ff12:3456");
  EXPECT_EQ(to_string(link_local_of({{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}})),
            "fe80::11:2243:6833:4455");
}

TEST(Ipv6Address, AKeyGivesItsEndpointBackAndIsNeverThatOfAnother) {
  std::set<client_address> keys;
  const endpoint all[] = {
      {address("2001:db8::1"), 1883, 0},
      {address("2001:db8::1"), 1883, 1},
      {address("2001:db8::1"), 1883, 1, true},
      {address("2001:db8::1"), 1883, endpoint::interface_id_max},
      {address("2001:db8::1"), 65535, 0, true},
      {address("2001:db8::1"), 1884, 0},
      {address("2001:db8::2"), 1883, 0},
      {0xC0000201u, 1883, 0},
      {address("::c000:201"), 1883, 0},
  };
  for (const endpoint& e : all) {
    EXPECT_EQ(endpoint::from_key(e.key()), e);
    EXPECT_NE(e.key(), client_address{});
    keys.insert(e.key());
  }
  EXPECT_EQ(keys.size(), std::size(all));
}

TEST(Ipv6Port, AConfigurationOutOfRangeIsRefusedByName) {
  using c = interface_config;
  const struct {
    void (*spoil)(c&);
    const char* says;
  } cases[] = {
      {[](c& x) { x.address6.length = 129; }, "address6: prefix length 129: expected 0 to 128"},
      {[](c& x) { x.address6.address = address("ff02::1"); }, "address6 ff02::1: expected"},
      {[](c& x) { x.address6.address = address("fe80::1"); }, "address6 fe80::1: expected"},
      {[](c& x) { x.gateway6 = address("2001:db9::1"); }, "gateway6 2001:db9::1: expected"},
      {[](c& x) { x.gateway6 = x.address6.address; }, "gateway6 2001:db8::1: expected"},
      {[](c& x) { x.multicast_group6 = address("fe80::1"); }, "multicast_group6 fe80::1: expected"},
      {[](c& x) { x.multicast_group6 = group; }, "multicast_group6 224.0.1.7: expected"},
      {[](c& x) { x.mtu = 1279; }, "mtu 1279: expected 1280 to 65535"},
      {[](c& x) { x.vlan = 4095; }, "vlan 4095: expected 0 for none, or 1 to 4094"},
      {[](c& x) { x.interface_id = 0x8000; }, "interface_id 32768: expected 0 to 32767"},
      {[](c& x) { x.ipv6 = false; }, "ipv6 is off"},
  };
  const auto good = [] {
    interface_config x = configuration();
    x.ipv6 = true;
    x.address6 = {address("2001:db8::1"), 64};
    return x;
  };
  EXPECT_TRUE(validate(good()));
  for (const auto& t : cases) {
    interface_config bad = good();
    t.spoil(bad);
    const auto valid = validate(bad);
    ASSERT_FALSE(valid) << t.says;
    EXPECT_NE(valid.error().message.find(t.says), std::string::npos) << valid.error().message;
  }
  interface_config alone = good();
  alone.address = {};
  alone.gateway6 = address("fe80::1");
  EXPECT_TRUE(validate(alone));
}

class Ipv6Neighbours : public testing::Test {
 protected:
  static constexpr std::uint64_t hz = 1'000'000'000, start = 1000 * hz;
  const ip_address near = address("2001:db8::9"), far = address("2001:db9::9"),
                   gateway = address("fe80::1");
  ring_port device;
  interface_config config = configuration();
  neighbour_options options;
  std::unique_ptr<neighbours> table;
  std::unique_ptr<tx_buffer> tx;
  drop_counters drops;

  void SetUp() override {
    config.port_id = device.id();
    config.ipv6 = true;
    config.address6 = {address("2001:db8::1"), 64};
    options.tsc_hz = hz;
    port_ = std::move(open_port(config, {.pool = pool()})).value();
    make();
  }
  void make() {
    table = std::move(neighbours::create(config, {.mac = our_mac}, options)).value();
    tx_buffer_options t;
    t.port_id = device.id();
    tx = std::move(tx_buffer::create(t)).value();
  }
  void TearDown() override {
    table.reset();
    tx.reset();
    port_.close();
    EXPECT_TRUE(all_back());
  }
  [[nodiscard]] route_status status(const ip_address& to, std::uint64_t now = start) const {
    return table->route(to, now).status;
  }
  [[nodiscard]] bool goes_to(const ip_address& to, const rte_ether_addr& mac,
                             std::uint64_t now = start) const {
    const route_result r = table->route(to, now);
    return r.status == route_status::resolved && rte_is_same_ether_addr(&r.mac, &mac) != 0;
  }

 private:
  port port_;
};

TEST_F(Ipv6Neighbours, AnAddressOfTheLinkIsAskedForAndTheGatewayForAnyOther) {
  EXPECT_EQ(status(near), route_status::unresolved);
  EXPECT_EQ(table->route(near, start).next_hop, near);
  EXPECT_EQ(status(address("fe80::9")), route_status::unresolved);
  EXPECT_EQ(status(far), route_status::unreachable);
  config.gateway6 = gateway;
  make();
  EXPECT_EQ(table->route(far, start).next_hop, gateway);
  table->learn(gateway, peer_mac, start);
  EXPECT_TRUE(goes_to(far, peer_mac));
  EXPECT_TRUE(goes_to(address("ff02::101"), {{0x33, 0x33, 0, 0, 1, 1}}));
}

TEST_F(Ipv6Neighbours, AnAdvertisementCountsOnlyForAnAddressThatIsKnownOrWaitedFor) {
  table->advertised(near, peer_mac, true, start);
  EXPECT_EQ(status(near), route_status::unresolved);
  rte_mbuf* held = mbuf(datagram_frame());
  ASSERT_EQ(table->hold(near, held, 0, config.address6.address, start), drop_reason::none);
  table->advertised(near, peer_mac, true, start);
  EXPECT_TRUE(goes_to(near, peer_mac));
  table->poll(*tx, pool(), drops, start);
  (void)tx->pump(start);
  EXPECT_EQ(device.all_left().size(), 1u);
  table->advertised(near, other_mac, false, start); // it does not override a fresh entry
  EXPECT_TRUE(goes_to(near, peer_mac));
  table->advertised(near, other_mac, true, start);
  EXPECT_TRUE(goes_to(near, other_mac));
  const std::uint64_t late = start + hz * options.lifetime_s * 2;
  table->advertised(near, peer_mac, false, late);
  EXPECT_TRUE(goes_to(near, peer_mac, late));
}

TEST_F(Ipv6Neighbours, ADatagramFillsOnlyAnEmptyPlace) {
  table->notice(near, peer_mac, start);
  EXPECT_TRUE(goes_to(near, peer_mac));
  table->notice(near, other_mac, start);
  table->notice(near, other_mac, start + hz * options.lifetime_s * 2);
  EXPECT_TRUE(goes_to(near, peer_mac)) << "a neighbour of the link was redirected by a datagram";
  // Off the link without a gateway the way back changes once it was silent for its lifetime.
  table->notice(far, peer_mac, start);
  table->notice(far, other_mac, start + hz);
  EXPECT_TRUE(goes_to(far, peer_mac));
  const std::uint64_t late = start + hz * options.lifetime_s * 2;
  table->notice(far, other_mac, late);
  EXPECT_TRUE(goes_to(far, other_mac, late));
}

TEST_F(Ipv6Neighbours, AnUnansweredAddressIsAskedForEightTimesAndItsPacketsAreDropped) {
  rte_mbuf* held = mbuf(datagram_frame());
  ASSERT_EQ(table->hold(near, held, 0, config.address6.address, start), drop_reason::none);
  std::size_t asked = 0;
  for (std::uint64_t now = start; now < start + 10 * hz; now += hz / 100) {
    table->poll(*tx, pool(), drops, now);
    (void)tx->pump(now);
    asked += device.all_left().size();
  }
  EXPECT_EQ(asked, options.retries);
  EXPECT_EQ(drops[drop_reason::unresolved], 1u);
  EXPECT_EQ(table->pending(), 0u);
}

TEST_F(Ipv6Neighbours, AFloodOfAddressesTakesNoMoreThanTheTableAndIsCounted) {
  constexpr std::uint64_t entries = 16384, flood = 4 * entries;
  for (std::uint64_t i = 1; i <= flood; ++i)
    table->learn({near.high, i << 32}, peer_mac, start + i * hz);
  std::uint64_t known = 0;
  for (std::uint64_t i = 1; i <= flood; ++i)
    known += goes_to({near.high, i << 32}, peer_mac, start + i * hz);
  EXPECT_LE(known, entries);
  EXPECT_EQ(table->evicted(), flood - known);
  EXPECT_TRUE(goes_to({near.high, flood << 32}, peer_mac, start + flood * hz))
      << "the newest is lost";
  // Datagrams evict nothing that was heard from.
  const std::uint64_t before = table->evicted();
  for (std::uint64_t i = 1; i <= entries; ++i)
    table->notice({near.high, i << 16 | 1}, other_mac, start + flood * hz);
  EXPECT_EQ(table->evicted(), before);
}

TEST_F(Ipv6Neighbours, AFullTableForgetsSilentSourcesForASenderBehindARouter) {
  for (std::uint64_t i = 1; i <= 200'000; ++i)
    table->notice({far.high, i << 32}, other_mac, start);
  const ip_address client = address("2001:db9::c");
  const std::uint64_t within = start + hz * (options.lifetime_s - 1),
                      late = start + hz * options.lifetime_s * 2;
  table->notice(client, peer_mac, within);
  EXPECT_EQ(status(client, within), route_status::unreachable)
      << "an entry was evicted that was heard from within its lifetime";
  EXPECT_EQ(table->evicted(), 0u);
  table->notice(near, peer_mac, late);
  EXPECT_EQ(status(near, late), route_status::unresolved)
      << "a sender that can be asked for took the place of one that cannot";
  table->notice(client, peer_mac, late);
  EXPECT_TRUE(goes_to(client, peer_mac, late))
      << "a client is unreachable although nothing was heard from the flood for its lifetime";
  EXPECT_EQ(table->evicted(), 1u);
  for (std::uint64_t i = 1; i <= 200'000; ++i)
    table->notice({far.high, i << 32 | 1}, other_mac, late);
  EXPECT_TRUE(goes_to(client, peer_mac, late));
}

TEST_F(Ipv6Neighbours, DiscoverySaysNothingAboutAnAddressOffTheLink) {
  table->learn(far, other_mac, start);
  EXPECT_EQ(status(far), route_status::unreachable);
  table->notice(far, peer_mac, start);
  table->learn(far, other_mac, start);
  table->advertised(far, other_mac, true, start);
  EXPECT_TRUE(goes_to(far, peer_mac));
  config.gateway6 = gateway;
  make();
  table->learn(gateway, peer_mac, start);
  table->learn(far, other_mac, start);
  EXPECT_TRUE(goes_to(far, peer_mac)) << "a host of the link takes what goes through the gateway";
}

} // namespace
} // namespace chainring::net_test
