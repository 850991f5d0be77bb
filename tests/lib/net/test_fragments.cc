// SPDX-License-Identifier: BSD-3-Clause
// Fragments: the limits of reassembly and what is counted, and the places of datagrams that leave
// in fragments. That scapy puts the same datagrams together is checked in test_scapy.py.
#include <rte_cycles.h>

#include "frames.h"
#include "net/datagram_transport.h"

namespace chainring::net_test {
namespace {

class Fragments : public testing::Test {
 protected:
  static constexpr std::uint32_t datagrams_max = 8, timeout_ms = 1000;
  std::unique_ptr<ring_port> device;
  std::unique_ptr<interface> on;
  std::unique_ptr<link> l;
  std::array<datagram, 64> in;
  std::uint64_t now = rte_rdtsc();
  const octets data = octets(100, 0x42);

  void SetUp() override {
    device = std::make_unique<ring_port>();
    interface_config config = configuration();
    config.port_id = device->id();
    config.datagram_max = 1900;
    config.ipv6 = true;
    on = std::move(open_interface(config, {.pool = pool()})).value();
    link_options o;
    o.pool = pool();
    o.tx_capacity = 8;
    o.fragments = {.datagrams_max = datagrams_max, .timeout_ms = timeout_ms};
    l = std::move(link::create(*on, o)).value();
  }
  void TearDown() override {
    l.reset();
    on.reset();
    device.reset();
    EXPECT_TRUE(all_back()) << "a fragment that waited was not freed";
  }
  /// The part of the datagram `id` that begins at `offset`.
  [[nodiscard]] octets part(unsigned id, std::size_t offset, std::size_t size, bool more) const {
    const octets whole = udp(data);
    const auto at = whole.begin() + static_cast<std::ptrdiff_t>(offset);
    return ethernet(
        ipv4(octets(at, at + static_cast<std::ptrdiff_t>(size)),
             {.fragment = static_cast<unsigned>(offset / 8 | (more ? 0x2000u : 0)), .id = id}),
        0x0800, on->device.mac());
  }
  [[nodiscard]] octets first(unsigned id) const { return part(id, 0, 48, true); }
  [[nodiscard]] octets last(unsigned id) const { return part(id, 48, 60, false); }
  std::uint16_t arrive(const octets& o) {
    rte_mbuf* m = mbuf(o);
    const std::uint16_t n = l->process(std::span(&m, 1), in, now);
    for (std::uint16_t i = 0; i < n; ++i) {
      EXPECT_EQ(octets_of(in[i].frame).size(), 14 + 20 + 8 + data.size());
      rte_pktmbuf_free(in[i].frame);
    }
    return n;
  }
};

TEST_F(Fragments, ADatagramIsReceivedOnceItsLastFragmentCame) {
  EXPECT_EQ(arrive(first(1)), 0);
  EXPECT_EQ(arrive(last(2)), 0);
  EXPECT_EQ(arrive(last(1)), 1);
  EXPECT_EQ(arrive(first(2)), 1);
  EXPECT_EQ(l->reassembled(), 2u);
  EXPECT_EQ(l->frames(), 4u);
  EXPECT_EQ(l->datagrams(), 2u);
  EXPECT_EQ(l->drops().total(), 0u);
}

TEST_F(Fragments, AFloodHoldsNoMoreThanTheTableAndIsOverAfterTheTimeout) {
  const unsigned before = rte_mempool_in_use_count(pool());
  for (unsigned id = 1; id <= 1000; ++id)
    EXPECT_EQ(arrive(first(id)), 0);
  EXPECT_LE(rte_mempool_in_use_count(pool()) - before, datagrams_max);
  EXPECT_EQ(l->drops()[drop_reason::fragment_refused], 1000 - datagrams_max);
  now += rte_get_tsc_hz() / 1000 * timeout_ms * 2;
  EXPECT_EQ(arrive(first(2001)), 0);
  EXPECT_EQ(arrive(last(2001)), 1) << "the flood outlives its timeout";
  EXPECT_GE(l->drops()[drop_reason::fragment_lost], 1u);
}

TEST_F(Fragments, AFloodThatIsSlowerThanTheTableKeepsNobodysDatagramFromBeingPutTogether) {
  const std::uint64_t ms = rte_get_tsc_hz() / 1000;
  for (unsigned id = 1; id <= 400; ++id) {
    // Just as many made-up fragments as fill the table come between two datagrams, which are more
    // than crowded_ms apart.
    for (unsigned made_up = 0; made_up < datagrams_max; ++made_up)
      EXPECT_EQ(arrive(first(1000 + id * datagrams_max + made_up)), 0);
    now += 21 * ms;
    EXPECT_EQ(arrive(first(id)), 0);
    EXPECT_EQ(arrive(last(id)), 1) << id;
  }
  EXPECT_EQ(l->drops()[drop_reason::fragment_refused], 0u);
  EXPECT_EQ(l->drops()[drop_reason::fragment_lost], 400 * datagrams_max);
}

TEST_F(Fragments, ADatagramThatBeganJustNowIsNotExpelledByAFlood) {
  EXPECT_EQ(arrive(first(1)), 0);
  now += rte_get_tsc_hz() / 1000 * 19;
  for (unsigned id = 2; id <= 1000; ++id)
    EXPECT_EQ(arrive(first(id)), 0);
  EXPECT_EQ(arrive(last(1)), 1);
}

TEST_F(Fragments, FragmentsThatContradictEachOtherAreCountedAndGivenUp) {
  EXPECT_EQ(arrive(first(1)), 0);
  EXPECT_EQ(arrive(first(1)), 0);
  EXPECT_EQ(arrive(last(1)), 0) << "a datagram was made of what contradicts itself";
  EXPECT_GE(l->drops()[drop_reason::fragment_refused], 1u);
}

TEST_F(Fragments, ADatagramOfMoreThanEightFragmentsIsGivenUp) {
  for (std::size_t at = 0; at < 96; at += 8)
    EXPECT_EQ(arrive(part(1, at, 8, true)), 0);
  EXPECT_EQ(arrive(part(1, 96, 12, false)), 0);
  EXPECT_GE(l->drops()[drop_reason::fragment_refused] + l->drops()[drop_reason::fragment_lost], 1u);
}

TEST_F(Fragments, AWholeDatagramIsCheckedLikeAnyOther) {
  const octets whole = udp(data, {.sum = udp_fields::wrong});
  const auto cut = whole.begin() + 48;
  EXPECT_EQ(arrive(ethernet(ipv4(octets(whole.begin(), cut), {.fragment = 0x2000}), 0x0800,
                            on->device.mac())),
            0);
  EXPECT_EQ(
      arrive(ethernet(ipv4(octets(cut, whole.end()), {.fragment = 6}), 0x0800, on->device.mac())),
      0);
  EXPECT_EQ(l->drops()[drop_reason::udp_checksum], 1u);
}

TEST_F(Fragments, ADatagramInFragmentsTakesAPlaceForEach) {
  on->arp->learn(peer, peer_mac, now);
  datagram_transport out({l.get()}, pool(), 16);
  const client_address to = endpoint{peer, peer_port, 0}.key();
  EXPECT_EQ(out.size_max(to), 1900u);
  const std::uint32_t places = l->tx().free();
  ASSERT_EQ(places, 8u);
  for (unsigned i = 0; i < 3; ++i) {
    ASSERT_EQ(out.begin(to, 1900).size(), 1900u);
    out.commit(1900);
  }
  ASSERT_EQ(out.begin(to, 10).size(), 10u);
  out.commit(10);
  EXPECT_EQ(l->tx().free(), 1u);
  EXPECT_TRUE(out.begin(to, 1900).empty()) << "two packets were promised one place";
  EXPECT_EQ(out.begin(to, 10).size(), 10u);
  out.commit(10);
  EXPECT_EQ(l->tx().free(), 0u);
  out.release(0);
  (void)l->pump(now);
  EXPECT_EQ(device->all_left().size(), places);
  EXPECT_EQ(l->tx().free(), places);
}

TEST_F(Fragments, ADatagramInFragmentsIsNotOvertakenByALaterOne) {
  on->arp->learn(peer, peer_mac, now);
  datagram_transport out({l.get()}, pool(), 16);
  const client_address to = endpoint{peer, peer_port, 0}.key();
  for (const std::size_t size : {5u, 1900u, 7u, 9u}) {
    ASSERT_EQ(out.begin(to, size).size(), size);
    out.commit(size);
  }
  out.release(0);
  (void)l->pump(now);
  const std::vector<octets> sent = device->all_left();
  ASSERT_EQ(sent.size(), 5u);
  EXPECT_EQ(sent[0].size(), 42u + 5);
  EXPECT_EQ(get16(sent[1], 20) & 0x3FFF, 0x2000u); // the first fragment
  EXPECT_EQ(sent[3].size(), 42u + 7);
  EXPECT_EQ(sent[4].size(), 42u + 9);
}

TEST_F(Fragments, CreditPromisesRoomForTheLongestDatagram) {
  for (const ip_address& address : {ip_address(peer), link_local_of(peer_mac)}) {
    on->arp->learn(address, peer_mac, now);
    datagram_transport out({l.get()}, pool(), 16);
    const client_address to = endpoint{address, peer_port, 0}.key();
    const std::size_t longest = out.size_max(to);
    // The buffer is filled by more and more short datagrams, so that each number of places is left
    // once.
    for (std::uint32_t taken = 0; taken <= 8; ++taken) {
      for (std::uint32_t i = 0; i < taken; ++i) {
        ASSERT_EQ(out.begin(to, 10).size(), 10u);
        out.commit(10);
      }
      std::uint32_t promised = out.credit(to);
      EXPECT_EQ(promised, (8 - taken) / 2) << taken;
      for (; promised > 0; --promised) {
        EXPECT_FALSE(out.begin(to, longest).empty()) << taken << " places were taken";
        out.commit(longest);
      }
      EXPECT_EQ(out.credit(to), 0u);
      out.release(0);
      (void)l->pump(now);
      (void)device->all_left();
    }
    EXPECT_EQ(out.dropped(), 0u);
  }
}

TEST_F(Fragments, ADatagramWaitsForItsNeighbourInAllItsFragments) {
  EXPECT_EQ(l->send(mbuf(octets(1900)), {peer, peer_port, 0}, 0, now), send_status::held);
  (void)l->pump(now);
  EXPECT_EQ(device->all_left().size(), 1u); // the ARP request
  on->arp->learn(peer, peer_mac, now);
  (void)l->pump(now);
  EXPECT_EQ(device->all_left().size(), 2u);
  EXPECT_EQ(l->send(mbuf(octets(1901)), {peer, peer_port, 0}, 0, now), send_status::dropped);
  EXPECT_EQ(l->drops()[drop_reason::datagram_too_long], 1u);
}

} // namespace
} // namespace chainring::net_test
