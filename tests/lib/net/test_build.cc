// SPDX-License-Identifier: BSD-3-Clause
#include "frames.h"

namespace chainring::net_test {
namespace {

const transmit_config config{.mac = our_mac, .mtu = 1500, .tx_flags = 0};
const endpoint us{own_address, our_port, 0}, them{peer, peer_port, 0};

octets headers_of(const octets& frame, std::size_t from, std::size_t n) {
  return {frame.begin() + static_cast<std::ptrdiff_t>(from),
          frame.begin() + static_cast<std::ptrdiff_t>(from + n)};
}

void expect_datagram(const octets& f, const octets& payload, unsigned id) {
  ASSERT_EQ(f.size(), 42 + payload.size());
  EXPECT_EQ(headers_of(f, 0, 6), mac_octets(peer_mac));
  EXPECT_EQ(headers_of(f, 6, 6), mac_octets(our_mac));
  EXPECT_EQ(get16(f, 12), 0x0800u);
  EXPECT_EQ(f[14], 0x45);
  EXPECT_EQ(f[15], 0);
  EXPECT_EQ(get16(f, 16), 28 + payload.size());
  EXPECT_EQ(get16(f, 18), id);
  EXPECT_EQ(get16(f, 20), 0x4000u); // DF
  EXPECT_EQ(f[22], 64);
  EXPECT_EQ(f[23], 17);
  EXPECT_EQ(checksum(headers_of(f, 14, 20)), 0);
  EXPECT_EQ(get32(f, 26), own_address);
  EXPECT_EQ(get32(f, 30), peer);
  EXPECT_EQ(get16(f, 34), our_port);
  EXPECT_EQ(get16(f, 36), peer_port);
  EXPECT_EQ(get16(f, 38), 8 + payload.size());
  EXPECT_NE(get16(f, 40), 0u);
  EXPECT_EQ(checksum(headers_of(f, 34, 8 + payload.size()),
                     pseudo_header(own_address, peer, 8 + payload.size())),
            0);
  EXPECT_EQ(headers_of(f, 42, payload.size()), payload);
}

TEST(Build, ADatagramHasEveryHeaderFieldWhateverItsSegments) {
  std::mt19937_64 random(run_seed());
  for (std::size_t n = 0; n < 90; ++n) {
    octets payload(n);
    for (auto& b : payload)
      b = static_cast<std::uint8_t>(random());
    const std::size_t a = random() % (n + 1), b = a + random() % (n - a + 1);
    rte_mbuf* m = segmented(payload, {a, b});
    m->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM; // left over from an earlier use
    ASSERT_EQ(build_udp(m, config, peer_mac, us, them, static_cast<std::uint16_t>(n)),
              drop_reason::none);
    EXPECT_EQ(m->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK, 0u);
    EXPECT_EQ(m->pkt_len, n + 42);
    expect_datagram(taken(m), payload, static_cast<unsigned>(n));
  }
  EXPECT_TRUE(all_back());
}

TEST(Build, AChecksumThatComesToZeroIsSentAsOnes) {
  // These are two octets that bring the sum of the rest to 0xffff.
  octets payload = {0, 0};
  set16(payload, 0,
        checksum(udp({0, 0}, {.from = own_address,
                              .to = peer,
                              .from_port = our_port,
                              .to_port = peer_port,
                              .sum = udp_fields::none}),
                 pseudo_header(own_address, peer, 10)));
  rte_mbuf* m = mbuf(payload);
  ASSERT_EQ(build_udp(m, config, peer_mac, us, them), drop_reason::none);
  EXPECT_EQ(get16(taken(m), 40), 0xffffu);
}

TEST(Build, TheLongestDatagramFitsTheMtuAndTheNextDoesNot) {
  rte_mbuf* m = mbuf(octets(1472));
  EXPECT_EQ(build_udp(m, config, peer_mac, us, them), drop_reason::none);
  EXPECT_EQ(taken(m).size(), 1514u);
  m = mbuf(octets(1473));
  EXPECT_EQ(build_udp(m, config, peer_mac, us, them), drop_reason::datagram_too_long);
  EXPECT_EQ(taken(m).size(), 1473u); // the mbuf is unchanged
}

TEST(Build, AnMbufWithoutHeadroomIsRefusedAndLeftUnchanged) {
  rte_mbuf* m = exact_mbuf(text("hello"));
  EXPECT_EQ(build_udp(m, config, peer_mac, us, them), drop_reason::no_headroom);
  EXPECT_EQ(taken(m), text("hello"));
}

TEST(Build, ForChecksumOffloadTheHeadersHoldThePseudoHeaderSum) {
  transmit_config offload = config;
  offload.tx_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM;
  rte_mbuf* m = mbuf(text("hello"));
  ASSERT_EQ(build_udp(m, offload, peer_mac, us, them), drop_reason::none);
  EXPECT_EQ(m->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK, offload.tx_flags);
  EXPECT_EQ(m->l2_len, 14u);
  EXPECT_EQ(m->l3_len, 20u);
  const octets f = taken(m);
  EXPECT_EQ(get16(f, 24), 0u);
  EXPECT_EQ(get16(f, 40),
            static_cast<std::uint16_t>(~checksum({}, pseudo_header(own_address, peer, 13))));
}

TEST(Build, AnEchoReplyCarriesTheRequestsDataBehindANewHeader) {
  for (const bool tag : {false, true}) {
    const octets data = text("some data, an odd number of them");
    octets request = ethernet(
        ipv4(echo(data), {.protocol = 1, .fragment = 0x8000, .ttl = 3, .tos = 0xBB, .id = 99}));
    if (tag) { // a priority tag
      const octets insert = {0x81, 0x00, 0xE0, 0x00};
      request.insert(request.begin() + 12, insert.begin(), insert.end());
    }
    const octets wanted = echo(data, 0);
    request.resize(request.size() + 9, 0xAA); // padding
    rte_mbuf* m = exact_mbuf(request);
    const packet_view v = classify(filter(), m);
    ASSERT_EQ(v.kind, packet_kind::icmp_echo) << to_string(v.reason);
    make_echo_reply(m, v, config, 0x4321);
    const octets f = taken(m);
    const std::size_t ip = tag ? 18 : 14;
    ASSERT_EQ(f.size(), ip + 20 + wanted.size());
    EXPECT_EQ(headers_of(f, 0, 6), mac_octets(peer_mac));
    EXPECT_EQ(headers_of(f, 6, 6), mac_octets(our_mac));
    EXPECT_EQ(f[ip], 0x45);
    EXPECT_EQ(f[ip + 1], 0xB8); // the DSCP, without the congestion mark
    EXPECT_EQ(get16(f, ip + 2), 20 + wanted.size());
    EXPECT_EQ(get16(f, ip + 4), 0x4321u);
    EXPECT_EQ(get16(f, ip + 6), 0x4000u); // DF is set and the reserved bit is not
    EXPECT_EQ(f[ip + 8], 64);
    EXPECT_EQ(f[ip + 9], 1);
    EXPECT_EQ(checksum(headers_of(f, ip, 20)), 0);
    EXPECT_EQ(get32(f, ip + 12), own_address);
    EXPECT_EQ(get32(f, ip + 16), peer);
    EXPECT_EQ(headers_of(f, ip + 20, wanted.size()), wanted);
  }
  EXPECT_TRUE(all_back());
}

TEST(Build, AnArpReplyGoesToTheAskingHostWithoutPadding) {
  octets request = arp_frame();
  request.resize(60, 0x55);
  rte_mbuf* m = exact_mbuf(request);
  const packet_view v = classify(filter(), m);
  ASSERT_EQ(v.kind, packet_kind::arp);
  EXPECT_EQ(v.arp_operation, 1);
  make_arp_reply(m, v, config);
  EXPECT_EQ(
      taken(m),
      ethernet(
          arp({.operation = 2, .sha = our_mac, .sip = own_address, .tha = peer_mac, .tip = peer}),
          0x0806, peer_mac, our_mac));
}

TEST(Build, AnArpRequestAsksForTheTarget) {
  rte_mbuf* m = mbuf({});
  ASSERT_TRUE(build_arp_request(m, config, own_address, peer, everybody));
  EXPECT_EQ(taken(m), ethernet(arp({.sha = our_mac, .sip = own_address, .tip = peer}), 0x0806,
                               everybody, our_mac));
  m = exact_mbuf({});
  EXPECT_FALSE(build_arp_request(m, config, own_address, peer, everybody));
  rte_pktmbuf_free(m);
  EXPECT_TRUE(all_back());
}

TEST(Build, AMulticastGroupMapsToTheMacOfRfc1112) {
  const rte_ether_addr a = group_mac(0xE0810107); // 224.129.1.7, of which the mapping drops one bit
  EXPECT_EQ(mac_octets(a), (octets{0x01, 0x00, 0x5e, 0x01, 0x01, 0x07}));
  const rte_ether_addr b = group_mac(0xffffffff);
  EXPECT_EQ(mac_octets(b), mac_octets(everybody));
}

} // namespace
} // namespace chainring::net_test
