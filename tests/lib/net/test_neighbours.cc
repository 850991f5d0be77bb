// SPDX-License-Identifier: BSD-3-Clause
#include <atomic>
#include <thread>

#include "frames.h"

namespace chainring::net_test {
namespace {

constexpr std::uint64_t hz = 1u << 20; // so that an age unit is one second
constexpr std::uint64_t second = hz;
constexpr std::uint64_t start = 1000 * second;
constexpr rte_ether_addr other_mac = {{0x02, 0, 0, 0, 0, 0x77}};
constexpr std::uint32_t elsewhere = 0xCB007107; // 203.0.113.7

class Neighbours : public testing::Test {
 protected:
  ring_port device;
  std::unique_ptr<tx_buffer> tx;
  std::unique_ptr<neighbours> arp;
  drop_counters drops;
  interface_config config = configuration();
  neighbour_options options;

  void SetUp() override {
    rte_eth_conf conf{};
    ASSERT_EQ(rte_eth_dev_configure(device.id(), 1, 1, &conf), 0);
    ASSERT_EQ(rte_eth_rx_queue_setup(device.id(), 0, 64, 0, nullptr, pool()), 0);
    ASSERT_EQ(rte_eth_tx_queue_setup(device.id(), 0, 64, 0, nullptr), 0);
    ASSERT_EQ(rte_eth_dev_start(device.id()), 0);
    options.tsc_hz = hz;
    options.lifetime_s = 300;
    options.retry_ms = 250;
    options.retries = 3;
    options.pending_addresses = 4;
    options.pending_packets = 10;
    options.packets_per_address = 6;
    make();
  }
  void make() {
    auto made = neighbours::create(config, {.mac = our_mac}, options);
    ASSERT_TRUE(made) << made.error().message;
    arp = std::move(*made);
    tx_buffer_options t;
    t.port_id = device.id();
    t.capacity = 8;
    tx = std::move(tx_buffer::create(t)).value();
  }
  void TearDown() override {
    arp.reset();
    tx.reset();
    (void)rte_eth_dev_stop(device.id());
    (void)rte_eth_dev_close(device.id());
    for (const octets& o : device.all_left())
      (void)o;
    EXPECT_TRUE(all_back());
  }
  void poll(std::uint64_t now) { arp->poll(*tx, pool(), drops, now); }
  std::vector<octets> sent() {
    (void)tx->pump(start);
    return device.all_left();
  }
  drop_reason hold(std::uint32_t next_hop, mark_t mark = 0, std::uint64_t now = start) {
    rte_mbuf* m = mbuf(datagram_frame());
    const drop_reason why = arp->hold(next_hop, m, mark, own_address, now);
    if (why != drop_reason::none) rte_pktmbuf_free(m);
    return why;
  }
};

TEST_F(Neighbours, APacketGoesToTheMacThatWasLearnedLast) {
  EXPECT_EQ(arp->route(peer, start).status, route_status::unresolved);
  EXPECT_EQ(arp->route(peer, start).next_hop, peer);
  arp->learn(peer, peer_mac, start);
  const route_result r = arp->route(peer, start);
  EXPECT_EQ(r.status, route_status::resolved);
  EXPECT_EQ(mac_octets(r.mac), mac_octets(peer_mac));
  arp->learn(peer, other_mac, start + 1);
  EXPECT_EQ(mac_octets(arp->route(peer, start + 1).mac), mac_octets(other_mac));
}

TEST_F(Neighbours, AnEntryPastItsLifetimeIsAskedForAgain) {
  arp->learn(peer, peer_mac, start);
  EXPECT_EQ(arp->route(peer, start + 300 * second).status, route_status::resolved);
  EXPECT_EQ(arp->route(peer, start + 302 * second).status, route_status::unresolved);
  arp->learn(peer, peer_mac, start + 302 * second);
  EXPECT_EQ(arp->route(peer, start + 302 * second).status, route_status::resolved);
}

TEST_F(Neighbours, ATimeBeforeTheLastConfirmationCountsAsNoAge) {
  // Another lcore took its time a second earlier and uses it later.
  arp->learn(peer, peer_mac, start);
  EXPECT_EQ(arp->route(peer, start - second).status, route_status::resolved);
  arp->learn(peer, peer_mac, start - second);
  EXPECT_EQ(arp->route(peer, start + 300 * second).status, route_status::resolved);
}

TEST_F(Neighbours, ARetryIsNotDueForALcoreWhoseTimeIsOlder) {
  ASSERT_EQ(hold(peer), drop_reason::none);
  poll(start);
  EXPECT_EQ(sent().size(), 1u);
  for (int i = 0; i < 20; ++i)
    poll(start - 1 - static_cast<std::uint64_t>(i)); // as unsigned numbers these ages would be huge
  EXPECT_TRUE(sent().empty());
  EXPECT_EQ(arp->pending(), 1u);
  EXPECT_EQ(drops.total(), 0u);
}

TEST_F(Neighbours, TimesNearZeroWork) {
  ASSERT_EQ(hold(peer, 0, 5), drop_reason::none);
  poll(5);
  EXPECT_EQ(sent().size(), 1u);
  arp->learn(peer, peer_mac, 6);
  poll(6);
  EXPECT_EQ(sent().size(), 1u);
}

TEST_F(Neighbours, AnUpdateChangesOnlyAKnownAddress) {
  arp->update(peer, other_mac, start);
  EXPECT_EQ(arp->route(peer, start).status, route_status::unresolved);
  arp->learn(peer, peer_mac, start);
  arp->update(peer, other_mac, start);
  EXPECT_EQ(mac_octets(arp->route(peer, start).mac), mac_octets(other_mac));
}

TEST_F(Neighbours, ADatagramsSourceFillsAnEmptyPlaceAndChangesNoEntry) {
  arp->notice(peer, peer_mac, start);
  EXPECT_EQ(mac_octets(arp->route(peer, start).mac), mac_octets(peer_mac));
  arp->notice(peer, other_mac, start + second);
  EXPECT_EQ(mac_octets(arp->route(peer, start + second).mac), mac_octets(peer_mac));
  // It does not change an old entry either: the entry is asked for again, and ARP gives the answer.
  arp->notice(peer, other_mac, start + 400 * second);
  EXPECT_EQ(arp->route(peer, start + 400 * second).status, route_status::unresolved);
  arp->learn(peer, other_mac, start + 400 * second);
  EXPECT_EQ(mac_octets(arp->route(peer, start + 400 * second).mac), mac_octets(other_mac));
}

TEST_F(Neighbours, AFloodOfDatagramSourcesEvictsNoEntry) {
  arp->learn(peer, peer_mac, start);
  for (std::uint32_t i = 0; i < 2'000'000; ++i)
    arp->notice(0x0A000000 + i, other_mac, start + second);
  EXPECT_EQ(mac_octets(arp->route(peer, start + second).mac), mac_octets(peer_mac));
  arp->learn(own_address + 100, other_mac, start + second); // ARP still finds a place
  EXPECT_EQ(arp->route(own_address + 100, start + second).status, route_status::resolved);
}

TEST_F(Neighbours, AFullTableForgetsSilentSourcesForASenderBehindARouter) {
  constexpr std::uint32_t flood = 2'000'000, made_up = 0x0A000000;
  for (std::uint32_t i = 0; i < flood; ++i)
    arp->notice(made_up + i, other_mac, start);
  arp->notice(elsewhere, peer_mac, start + 300 * second);
  EXPECT_EQ(arp->route(elsewhere, start + 300 * second).status, route_status::unreachable)
      << "an entry was evicted that was heard from within its lifetime";
  EXPECT_EQ(arp->evicted(), 0u);
  arp->notice(own_address + 100, peer_mac, start + 302 * second);
  EXPECT_EQ(arp->route(own_address + 100, start + 302 * second).status, route_status::unresolved)
      << "a sender that ARP can ask for took the place of one that it cannot ask for";
  arp->notice(elsewhere, peer_mac, start + 302 * second);
  ASSERT_EQ(arp->route(elsewhere, start + 302 * second).status, route_status::resolved)
      << "a client is unreachable although nothing was heard from the flood for its lifetime";
  EXPECT_EQ(mac_octets(arp->route(elsewhere, start + 302 * second).mac), mac_octets(peer_mac));
  EXPECT_EQ(arp->evicted(), 1u);
  // The place of the source that was silent for longest is taken, and nobody takes the new entry's.
  for (std::uint32_t i = 0; i < flood; ++i)
    arp->notice(made_up + flood + i, other_mac, start + 303 * second);
  EXPECT_EQ(arp->route(elsewhere, start + 303 * second).status, route_status::resolved);
}

TEST_F(Neighbours, ASenderBehindARouterMovesToAnotherRouterOnceTheFirstIsSilent) {
  arp->notice(elsewhere, peer_mac, start);
  arp->notice(elsewhere, other_mac, start + 10 * second);
  EXPECT_EQ(mac_octets(arp->route(elsewhere, start + 10 * second).mac), mac_octets(peer_mac));
  arp->notice(elsewhere, other_mac, start + 400 * second);
  EXPECT_EQ(mac_octets(arp->route(elsewhere, start + 400 * second).mac), mac_octets(other_mac));
  config.gateway = peer;
  make();
  arp->notice(elsewhere, other_mac, start);
  EXPECT_EQ(arp->route(elsewhere, start).next_hop, peer);
}

TEST_F(Neighbours, APacketOffTheLinkGoesToTheGatewayOrToTheLastForwarder) {
  EXPECT_EQ(arp->route(elsewhere, start).status, route_status::unreachable);
  arp->notice(elsewhere, other_mac, start);
  EXPECT_EQ(mac_octets(arp->route(elsewhere, start + 1000 * second).mac), mac_octets(other_mac));
  config.gateway = peer;
  make();
  EXPECT_EQ(arp->route(elsewhere, start).status, route_status::unresolved);
  EXPECT_EQ(arp->route(elsewhere, start).next_hop, peer);
  arp->learn(peer, peer_mac, start);
  EXPECT_EQ(mac_octets(arp->route(elsewhere, start).mac), mac_octets(peer_mac));
}

TEST_F(Neighbours, ArpSaysNothingAboutAnAddressOffTheLink) {
  arp->learn(elsewhere, other_mac, start);
  EXPECT_EQ(arp->route(elsewhere, start).status, route_status::unreachable);
  // The way back that its datagrams came stays, too.
  arp->notice(elsewhere, peer_mac, start);
  arp->learn(elsewhere, other_mac, start);
  arp->update(elsewhere, other_mac, start);
  EXPECT_EQ(mac_octets(arp->route(elsewhere, start).mac), mac_octets(peer_mac));
  config.gateway = peer;
  make();
  arp->learn(peer, peer_mac, start);
  arp->learn(elsewhere, other_mac, start);
  EXPECT_EQ(mac_octets(arp->route(elsewhere, start).mac), mac_octets(peer_mac))
      << "a host of the link takes what goes through the gateway";
}

TEST_F(Neighbours, AGroupAddressResolvesWithoutArp) {
  EXPECT_EQ(mac_octets(arp->route(0xffffffff, start).mac), mac_octets(everybody));
  EXPECT_EQ(mac_octets(arp->route(0xC00002FF, start).mac), mac_octets(everybody));
  EXPECT_EQ(mac_octets(arp->route(group, start).mac), (octets{0x01, 0x00, 0x5e, 0, 1, 7}));
}

TEST_F(Neighbours, AHeldPacketLeavesWithItsMarkOnceTheAddressIsKnown) {
  marked_media media;
  ASSERT_EQ(hold(peer, 7), drop_reason::none);
  ASSERT_EQ(hold(peer, 8), drop_reason::none);
  poll(start);
  std::vector<octets> frames = sent();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0], ethernet(net_test::arp({.sha = our_mac, .sip = own_address, .tip = peer}),
                                0x0806, everybody, our_mac));
  arp->learn(peer, other_mac, start);
  poll(start);
  EXPECT_EQ(arp->pending(), 0u);
  EXPECT_EQ(tx->size(), 2u);
  media.reached = 7;
  EXPECT_EQ(tx->pump(media, start), 1u);
  media.reached = 8;
  EXPECT_EQ(tx->pump(media, start), 1u);
  frames = device.all_left();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(octets(frames[0].begin(), frames[0].begin() + 6), mac_octets(other_mac));
}

TEST_F(Neighbours, RequestsAreRepeatedAtTheirIntervalThenGivenUp) {
  ASSERT_EQ(hold(peer), drop_reason::none);
  ASSERT_EQ(hold(peer), drop_reason::none);
  std::uint64_t now = start;
  for (unsigned n = 0; n < options.retries; ++n) {
    for (int i = 0; i < 5; ++i)
      poll(now + static_cast<std::uint64_t>(i)); // several polls send one request
    EXPECT_EQ(sent().size(), 1u) << n;
    now += hz / 4;
  }
  EXPECT_EQ(arp->pending(), 2u);
  poll(now);
  EXPECT_TRUE(sent().empty());
  EXPECT_EQ(arp->pending(), 0u);
  EXPECT_EQ(drops[drop_reason::unresolved], 2u);
}

TEST_F(Neighbours, TheNumberOfWaitingPacketsIsBounded) {
  // This reaches packets_per_address.
  for (unsigned i = 0; i < options.packets_per_address; ++i)
    EXPECT_EQ(hold(peer), drop_reason::none);
  EXPECT_EQ(hold(peer), drop_reason::pending_full);
  // This reaches pending_packets.
  for (unsigned i = options.packets_per_address; i < options.pending_packets; ++i)
    EXPECT_EQ(hold(peer + 1), drop_reason::none);
  EXPECT_EQ(hold(peer + 2), drop_reason::pending_full);
  EXPECT_EQ(arp->pending(), options.pending_packets);
  // This reaches pending_addresses.
  make();
  for (unsigned i = 0; i < options.pending_addresses; ++i)
    EXPECT_EQ(hold(peer + i), drop_reason::none);
  EXPECT_EQ(hold(peer + options.pending_addresses), drop_reason::pending_full);
  EXPECT_EQ(hold(peer), drop_reason::none);
}

TEST_F(Neighbours, AFullTransmitBufferLosesNoHeldPacket) {
  for (int i = 0; i < 6; ++i)
    ASSERT_EQ(hold(peer), drop_reason::none);
  for (int i = 0; i < 4; ++i)
    ASSERT_TRUE(tx->send(mbuf(datagram_frame()), 0));
  arp->learn(peer, peer_mac, start);
  poll(start);
  EXPECT_EQ(arp->pending(), 2u);
  EXPECT_EQ(sent().size(), 8u);
  poll(start);
  EXPECT_EQ(sent().size(), 2u);
  EXPECT_EQ(arp->pending(), 0u);
}

TEST_F(Neighbours, AFloodOfAddressesEvictsTheOldAndKeepsTheNewest) {
  config.address.length = 0; // every address is on the link
  make();
  arp->learn(peer, peer_mac, start);
  for (std::uint32_t i = 0; i < 2'000'000; ++i)
    arp->learn(0x0A000000 + i, other_mac, start + second);
  EXPECT_EQ(arp->route(peer, start).status, route_status::unresolved); // it is asked for again
  EXPECT_EQ(arp->route(0x0A000000 + 1'999'999, start + second).status, route_status::resolved);
  arp->learn(peer, peer_mac, start + 2 * second);
  EXPECT_EQ(arp->route(peer, start + 2 * second).status, route_status::resolved);
}

TEST_F(Neighbours, ConcurrentLearningNeverGivesAnAddressTheMacOfAnother) {
  config.address.length = 0; // every address is on the link
  options.seed = 0x9E3779B1;
  make();
  // The first octets of a MAC hold its address. There are ten times as many addresses as places.
  constexpr std::uint32_t addresses = 2560, rounds = 100;
  auto mac_of = [](std::uint32_t a, std::uint8_t last) {
    rte_ether_addr mac{};
    std::memcpy(mac.addr_bytes, &a, sizeof a);
    mac.addr_bytes[5] = last;
    return mac;
  };
  // These are the addresses of 64 buckets.
  std::vector<std::uint32_t> all;
  for (std::uint32_t a = 0x0A000000; all.size() < addresses; ++a)
    if (neighbours::mixed(a, 0x9E3779B1) >> 22 == 0) all.push_back(a);
  std::atomic<unsigned> wrong{0}, found{0};
  std::vector<std::thread> threads;
  for (std::uint8_t who = 0; who < 2; ++who)
    threads.emplace_back([&, who] {
      for (std::uint32_t r = 0; r < rounds; ++r)
        for (const std::uint32_t a : all)
          arp->learn(a, mac_of(a, who), start + (r % 3) * second);
    });
  threads.emplace_back([&] {
    for (std::uint32_t r = 0; r < rounds; ++r)
      for (const std::uint32_t a : all) {
        const route_result x = arp->route(a, start);
        if (x.status != route_status::resolved) continue;
        ++found;
        if (std::memcmp(x.mac.addr_bytes, &a, sizeof a) != 0) ++wrong;
      }
  });
  for (std::thread& one : threads)
    one.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(found, 0u);
}

TEST_F(Neighbours, TenThousandClientsInARowAreKnownWhateverTheSeed) {
  config.address.length = 0; // every address is on the link
  for (std::uint64_t seed = 1; seed <= 256; ++seed) {
    options.seed = seed * (seed % 2 == 0 ? 1 : 0x1'0000'0001);
    make();
    std::uint32_t unknown = 0;
    for (std::uint32_t i = 0; i < 10'000; ++i)
      arp->notice(0x0A010000 + i, peer_mac, start);
    for (std::uint32_t i = 0; i < 10'000; ++i)
      unknown += arp->route(0x0A010000 + i, start).status != route_status::resolved;
    EXPECT_LT(unknown, 3u) << "seed " << seed;
  }
}

TEST_F(Neighbours, AllOwnAddressesAreAnnounced) {
  config.address_count = 3;
  make();
  EXPECT_EQ(arp->announce(*tx, pool(), drops), 3u);
  const std::vector<octets> frames = sent();
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(
      frames[2],
      ethernet(net_test::arp({.sha = our_mac, .sip = own_address + 2, .tip = own_address + 2}),
               0x0806, everybody, our_mac));
}

TEST_F(Neighbours, AnOptionOutOfRangeIsRefusedByName) {
  struct one {
    const char* name;
    void (*spoil)(neighbour_options&);
  };
  const one cases[] = {
      {"lifetime_s", [](neighbour_options& o) { o.lifetime_s = 0; }},
      {"retry_ms", [](neighbour_options& o) { o.retry_ms = 0; }},
      {"retries", [](neighbour_options& o) { o.retries = 0; }},
      {"pending_addresses", [](neighbour_options& o) { o.pending_addresses = 0; }},
      {"pending_packets", [](neighbour_options& o) { o.pending_packets = 0xFFFF; }},
      {"packets_per_address", [](neighbour_options& o) { o.packets_per_address = 0; }},
  };
  for (const one& c : cases) {
    neighbour_options o = options;
    c.spoil(o);
    const auto made = neighbours::create(config, {}, o);
    ASSERT_FALSE(made) << c.name;
    EXPECT_NE(made.error().message.find(c.name), std::string::npos) << made.error().message;
    EXPECT_NE(made.error().message.find("expected 1 to "), std::string::npos);
  }
}

TEST_F(Neighbours, WhatCountsAsNoticedIsWhatANoticeWouldNotChange) {
  const auto word = [](const rte_ether_addr& mac) {
    std::uint64_t w = 0;
    std::memcpy(&w, mac.addr_bytes, RTE_ETHER_ADDR_LEN);
    return w;
  };
  const auto noticed = [&](std::uint32_t a, const rte_ether_addr& mac, std::uint64_t now) {
    return arp->noticed(a, word(mac) << 16, arp->age_now(now));
  };
  const auto fresh = [&](std::uint32_t a, std::uint64_t now) {
    return arp->fresh_mac(a, arp->age_now(now));
  };
  EXPECT_FALSE(noticed(peer, peer_mac, start));
  EXPECT_EQ(fresh(peer, start), 0u);
  arp->notice(peer, peer_mac, start);
  EXPECT_TRUE(noticed(peer, peer_mac, start));
  EXPECT_TRUE(noticed(peer, peer_mac, start - second));  // the clock of another lcore
  EXPECT_FALSE(noticed(peer, peer_mac, start + second)); // the entry is older than that
  EXPECT_FALSE(noticed(peer, other_mac, start));
  EXPECT_FALSE(noticed(peer + 1, peer_mac, start));
  EXPECT_EQ(fresh(peer, start), word(peer_mac));
  EXPECT_EQ(fresh(peer, start + 300 * second), word(peer_mac));
  EXPECT_EQ(fresh(peer, start + 301 * second), 0u);
  EXPECT_EQ(fresh(peer + 1, start), 0u);
  EXPECT_EQ(fresh(group, start), 0u);
  arp->learn(peer, other_mac, start); // the change counts at once
  EXPECT_FALSE(noticed(peer, peer_mac, start));
  EXPECT_EQ(fresh(peer, start), word(other_mac));
}

} // namespace
} // namespace chainring::net_test
