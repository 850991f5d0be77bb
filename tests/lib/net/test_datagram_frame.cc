// SPDX-License-Identifier: BSD-3-Clause
// The templates of the usual frame against the complete parser and builder.
#include "frames.h"
#include "net/datagram_frame.h"

namespace chainring::net_test {
namespace {

std::uint64_t mac_word(const rte_ether_addr& mac) {
  std::uint64_t w = 0;
  std::memcpy(&w, mac.addr_bytes, RTE_ETHER_ADDR_LEN);
  return w;
}

/// Reads the frame in both ways, with these flags in its mbuf. What the template accepts, with its
/// sender, the parser must accept with the same result. Returns whether the template accepted it.
bool read_both(const receive_filter& f, const octets& o, std::uint64_t flags = 0) {
  rte_mbuf* m = exact_mbuf(o);
  m->ol_flags |= flags;
  const packet_view v = classify(f, m);
  const receive_template usual(f);
  received_datagram d{};
  std::uint64_t mac = 0;
  const bool read = usual.read(m, d, mac);
  const bool accepted = read && usual.is_sender(static_cast<std::uint32_t>(d.from.words[1]), mac);
  if (read && !accepted) {
    EXPECT_TRUE(v.reason == drop_reason::mac_source || v.reason == drop_reason::ip_source)
        << to_string(v.reason);
  }
  if (accepted) {
    EXPECT_EQ(v.kind, packet_kind::udp) << to_string(v.reason);
    EXPECT_EQ(d.from, v.source.key());
    EXPECT_EQ(d.data, v.payload.data());
    EXPECT_EQ(d.size, v.payload.size());
    EXPECT_EQ(d.to_group, v.to_group);
    EXPECT_EQ(d.frame, m);
    EXPECT_EQ(mac, mac_word(v.source_mac) << 16);
  }
  rte_pktmbuf_free(m);
  return accepted;
}

constexpr std::array<std::uint64_t, 4> ip_verdicts{
    0, RTE_MBUF_F_RX_IP_CKSUM_BAD, RTE_MBUF_F_RX_IP_CKSUM_GOOD, RTE_MBUF_F_RX_IP_CKSUM_NONE};
constexpr std::array<std::uint64_t, 4> l4_verdicts{
    0, RTE_MBUF_F_RX_L4_CKSUM_BAD, RTE_MBUF_F_RX_L4_CKSUM_GOOD, RTE_MBUF_F_RX_L4_CKSUM_NONE};

class DatagramFrame : public testing::Test {
 protected:
  std::mt19937_64 random{run_seed()};

  void TearDown() override { EXPECT_TRUE(all_back()); }
  octets random_octets(std::size_t n) {
    octets o(n);
    std::ranges::generate(o, [&] { return static_cast<std::uint8_t>(random()); });
    return o;
  }
  /// Makes the checksums of a frame with a header of 20 octets right, if its lengths allow that.
  static void repair(octets& o) {
    if (o.size() < 42) return;
    set16(o, 24, 0);
    set16(o, 24, checksum(octets(o.begin() + 14, o.begin() + 34)));
    const unsigned length = get16(o, 38);
    if (length < 8 || 34 + length > o.size() || get16(o, 40) == 0) return;
    set16(o, 40, 0);
    const std::uint16_t sum = checksum(octets(o.begin() + 34, o.begin() + 34 + length),
                                       pseudo_header(get32(o, 26), get32(o, 30), length));
    set16(o, 40, sum == 0 ? 0xffff : sum);
  }
};

TEST_F(DatagramFrame, EachUsualDatagramIsReadAsTheParserReadsIt) {
  for (std::size_t size = 0; size < 200; ++size)
    EXPECT_TRUE(read_both(filter(), datagram_frame(random_octets(size)))) << size;
  EXPECT_TRUE(read_both(filter(), datagram_frame(random_octets(1472))));
}

TEST_F(DatagramFrame, PaddingATypeOfServiceAndNoChecksumAreUsual) {
  EXPECT_TRUE(read_both(filter(), datagram_frame(text("hi")) + octets(20, 0)));
  EXPECT_TRUE(
      read_both(filter(), ethernet(ipv4(udp(text("hi")), {.fragment = 0x4000, .tos = 0xb8}))));
  EXPECT_TRUE(read_both(filter(), ethernet(ipv4(udp(text("hi"), {.sum = udp_fields::none})))));
}

TEST_F(DatagramFrame, ASenderOffTheLinkIsOne) {
  constexpr std::uint32_t elsewhere = 0xCB007107; // 203.0.113.7
  const octets o = ethernet(ipv4(udp(text("hi"), {.from = elsewhere}), {.from = elsewhere}));
  EXPECT_TRUE(read_both(filter(), o));
}

TEST_F(DatagramFrame, TheVerdictOfTheDeviceCountsAsForTheParser) {
  const octets good = datagram_frame();
  octets bad_ip = good, bad_udp = good;
  bad_ip[24] ^= 1;
  bad_udp[45] ^= 1;
  for (const std::uint64_t ip : ip_verdicts) {
    for (const std::uint64_t l4 : l4_verdicts) {
      const bool ip_known = ip == ip_verdicts[2] || ip == ip_verdicts[3];
      const bool l4_known = l4 == l4_verdicts[2] || l4 == l4_verdicts[3];
      EXPECT_TRUE(read_both(filter(), good, ip | l4));
      EXPECT_EQ(read_both(filter(), bad_ip, ip | l4), ip_known);
      EXPECT_EQ(read_both(filter(), bad_udp, ip | l4), l4_known);
    }
  }
}

TEST_F(DatagramFrame, NoChangedOctetIsAcceptedThatTheParserRefuses) {
  const octets good = datagram_frame(text("some payload"));
  unsigned accepted = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (unsigned value = 0; value < 256; ++value) {
      octets o = good;
      o[i] = static_cast<std::uint8_t>(value);
      (void)read_both(filter(), o);
      (void)read_both(filter(), o, RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD);
      repair(o);
      accepted += read_both(filter(), o);
    }
  }
  // Free are the source's MAC and address in part, the type of service, the id, the TTL, the source
  // port, the payload, and the checksums, which are repaired.
  EXPECT_GT(accepted, 256u * 20);
}

TEST_F(DatagramFrame, ACutFrameIsNotReadBehindItsEnd) {
  const octets good = datagram_frame(text("payload"));
  for (std::size_t n = 0; n < good.size(); ++n)
    EXPECT_FALSE(read_both(filter(), octets(good.begin(), good.begin() + static_cast<long>(n))));
}

TEST_F(DatagramFrame, RandomFramesAndConfigurationsAreReadAsTheParserReadsThem) {
  unsigned accepted = 0;
  for (int i = 0; i < 200'000; ++i) {
    interface_config c = configuration();
    if (random() % 2 == 0) {
      c.address.length = static_cast<std::uint8_t>(random() % 33);
      c.address.address = random() % 4 == 0 ? static_cast<std::uint32_t>(random()) : own_address;
      c.address_count = static_cast<std::uint32_t>(random() % 4);
      c.udp_port_count = static_cast<std::uint16_t>(random() % 3);
      c.multicast_group = random() % 4 == 0 ? group : 0;
      c.vlan = random() % 8 == 0 ? 5 : 0;
      c.accept_broadcast = random() % 2 == 0;
      c.interface_id = static_cast<std::uint16_t>(random() % 0x8000);
      c.ipv6 = random() % 2 == 0;
      c.partial_checksums = random() % 2 == 0;
    }
    const std::uint32_t own = c.address.address;
    // The sender is often near an edge of the link.
    const std::uint32_t edges[] = {own & c.address.mask(), own | ~c.address.mask(), own, peer};
    const std::uint32_t from = edges[random() % 4] + static_cast<std::uint32_t>(random() % 5) - 2;
    const std::uint32_t to =
        random() % 4 == 0 ? own + static_cast<std::uint32_t>(random() % 3) : own;
    octets o =
        ethernet(ipv4(udp(random_octets(random() % 80),
                          {.from = from,
                           .to = to,
                           .sum = random() % 4 == 0 ? udp_fields::partial : udp_fields::right}),
                      {.from = from, .to = to}));
    for (auto n = random() % 4; n != 0; --n) {
      const std::size_t at =
          random() % (random() % 2 == 0 ? std::min<std::size_t>(o.size(), 42) : o.size());
      o[at] =
          static_cast<std::uint8_t>(random() % 3 == 0 ? random() : o[at] ^ (1u << random() % 8));
      if (random() % 2 == 0) repair(o);
    }
    if (random() % 8 == 0) o.resize(random() % (o.size() + 8));
    if (random() % 8 == 0) o.resize(o.size() + random() % 8);
    accepted += read_both({c, our_mac}, o, ip_verdicts[random() % 4] | l4_verdicts[random() % 4]);
    if (HasFailure()) return;
  }
  EXPECT_GT(accepted, 20'000u);
}

TEST_F(DatagramFrame, AFrameOfSeveralSegmentsIsNotUsual) {
  rte_mbuf* m = segmented(datagram_frame(random_octets(100)), {60});
  received_datagram d{};
  std::uint64_t mac = 0;
  EXPECT_FALSE(receive_template(filter()).read(m, d, mac));
  rte_pktmbuf_free(m);
}

/// Writes the datagram in both ways, and compares the frames and what their mbufs say.
void write_both(const transmit_config& t, const endpoint& from, const endpoint& to,
                const octets& payload, std::uint16_t id) {
  const transmit_template usual(t, from);
  ASSERT_GE(usual.payload_max(), static_cast<int>(payload.size()));
  rte_mbuf* right = mbuf(payload);
  ASSERT_EQ(build_udp(right, t, peer_mac, from, to, id), drop_reason::none);
  rte_mbuf* m = mbuf(payload);
  m->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD; // the frame was received before
  m->vlan_tci = 7;
  m->data_off = 17;
  m->tx_offload = 99;
  usual.write(m, static_cast<std::uint32_t>(payload.size()), mac_word(peer_mac),
              rte_cpu_to_be_32(to.address.ipv4()), rte_cpu_to_be_16(to.port), id);
  EXPECT_EQ(octets_of(m), octets_of(right));
  EXPECT_EQ(m->ol_flags, right->ol_flags);
  if (m->ol_flags != 0) { // else nothing reads it
    EXPECT_EQ(m->tx_offload, right->tx_offload);
  }
  EXPECT_EQ(m->pkt_len, right->pkt_len);
  EXPECT_EQ(m->data_off, right->data_off);
  EXPECT_EQ(m->nb_segs, 1);
  EXPECT_EQ(rte_mbuf_refcnt_read(m), 1);
  EXPECT_EQ(m->port, right->port);
  EXPECT_EQ(m->vlan_tci, 0);
  EXPECT_EQ(m->packet_type, 0u);
  rte_pktmbuf_free(right);
  rte_pktmbuf_free(m);
}

TEST_F(DatagramFrame, WhatTheTemplateWritesIsWhatTheBuilderWrites) {
  for (int i = 0; i < 20'000; ++i) {
    transmit_config t{.mac = our_mac};
    if (random() % 4 == 0)
      t.tx_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM;
    const endpoint from{static_cast<std::uint32_t>(random()), static_cast<std::uint16_t>(random())};
    const std::uint32_t to = static_cast<std::uint32_t>(random()) & 0xDFFF'FFFF; // no group
    const std::size_t size = random() % 8 == 0 ? random() % 1473 : random() % 80;
    write_both(t, from, {to, static_cast<std::uint16_t>(random())}, random_octets(size),
               static_cast<std::uint16_t>(random()));
    if (HasFailure()) return;
  }
}

TEST_F(DatagramFrame, AChecksumOfZeroIsWrittenAsItsOtherForm) {
  const transmit_config t{.mac = our_mac};
  const endpoint from{own_address, our_port}, to{peer, peer_port};
  octets payload(2);
  set16(payload, 0,
        checksum(udp({}, {.from = from.address.ipv4(),
                          .to = peer,
                          .from_port = our_port,
                          .to_port = peer_port,
                          .sum = udp_fields::none}),
                 pseudo_header(own_address, peer, 10) + 2));
  write_both(t, from, to, payload, 0);
  rte_mbuf* m = mbuf(payload);
  ASSERT_EQ(build_udp(m, t, peer_mac, from, to), drop_reason::none);
  EXPECT_EQ(get16(octets_of(m), 40), 0xffffu);
  rte_pktmbuf_free(m);
}

TEST_F(DatagramFrame, ATagOrAnIpv6AddressIsNotUsual) {
  EXPECT_LT(transmit_template({.mac = our_mac, .vlan = 5}, {own_address, our_port}).payload_max(),
            0);
  EXPECT_LT(transmit_template({.mac = our_mac}, {all_nodes, our_port}).payload_max(), 0);
}

} // namespace
} // namespace chainring::net_test
