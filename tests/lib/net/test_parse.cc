// SPDX-License-Identifier: BSD-3-Clause
#include <set>

#include "frames.h"

namespace chainring::net_test {
namespace {

constexpr rte_ether_addr zero_mac{};
constexpr rte_ether_addr group_address = {{0x01, 0x00, 0x5e, 0x00, 0x01, 0x07}};
constexpr rte_ether_addr stranger = {{0x02, 0, 0, 0, 0, 0x55}};

packet_view seen(const receive_filter& f, const octets& frame, std::uint64_t flags = 0) {
  rte_mbuf* m = exact_mbuf(frame);
  m->ol_flags |= flags;
  packet_view v = classify(f, m);
  rte_pktmbuf_free(m);
  v.payload = {};
  return v;
}

octets cut(octets o, std::size_t n) {
  o.resize(n);
  return o;
}

octets tagged(const octets& frame, unsigned tci) {
  octets o(frame.begin(), frame.begin() + 12);
  put16(o, 0x8100);
  put16(o, tci);
  return o + octets(frame.begin() + 12, frame.end());
}

TEST(Parse, EachReasonToDropAReceivedFrameIsReachedByItsFrame) {
  using r = drop_reason;
  struct one {
    const char* name;
    octets frame;
    r reason;
  };
  const octets data = text("hello");
  auto ip_of = [&](const ip_fields& f, const octets& body) { return ethernet(ipv4(body, f)); };
  auto from = [&](std::uint32_t a) { return ip_of({.from = a}, udp(data, {.from = a})); };
  auto to = [&](std::uint32_t a) { return ip_of({.to = a}, udp(data, {.to = a})); };
  const one cases[] = {
      {"no octet", {}, r::frame_short},
      {"13 octets", cut(datagram_frame(), 13), r::frame_short},
      {"tag cut", cut(tagged(datagram_frame(), 0), 17), r::frame_short},
      {"IPv4 header cut", cut(datagram_frame(), 14 + 19), r::frame_short},
      {"ARP cut", cut(arp_frame(), 14 + 27), r::frame_short},
      {"VLAN 5", tagged(datagram_frame(), 5), r::vlan_tagged},
      {"VLAN 5 with a priority", tagged(datagram_frame(), 0xE005), r::vlan_tagged},
      {"two tags", tagged(tagged(datagram_frame(), 0), 0), r::ethertype},
      {"source MAC zero", ethernet(ipv4(udp(data)), 0x0800, our_mac, zero_mac), r::mac_source},
      {"source MAC a group", ethernet(ipv4(udp(data)), 0x0800, our_mac, group_address),
       r::mac_source},
      {"source MAC broadcast", ethernet(ipv4(udp(data)), 0x0800, our_mac, everybody),
       r::mac_source},
      {"to another MAC", ethernet(ipv4(udp(data)), 0x0800, stranger), r::mac_destination},
      {"IPv6", ethernet(ipv4(udp(data)), 0x86dd), r::ethertype},
      {"a length", ethernet(ipv4(udp(data)), 46), r::ethertype},
      {"ARP of hardware 6", arp_frame({.hardware = 6}), r::arp_malformed},
      {"ARP for IPv6", arp_frame({.protocol = 0x86dd}), r::arp_malformed},
      {"ARP hlen 8", arp_frame({.hlen = 8}), r::arp_malformed},
      {"ARP plen 16", arp_frame({.plen = 16}), r::arp_malformed},
      {"ARP operation 0", arp_frame({.operation = 0}), r::arp_malformed},
      {"RARP", arp_frame({.operation = 3}), r::arp_malformed},
      {"ARP sender MAC a group", ethernet(arp({.sha = group_address}), 0x0806, everybody, peer_mac),
       r::arp_malformed},
      {"ARP sender MAC zero", ethernet(arp({.sha = zero_mac}), 0x0806, everybody, peer_mac),
       r::arp_malformed},
      {"ARP from multicast", arp_frame({.sip = group}), r::arp_malformed},
      {"ARP from 255.255.255.255", arp_frame({.sip = 0xffffffff}), r::arp_malformed},
      {"ARP from the link's broadcast address", arp_frame({.sip = 0xC00002FF}), r::arp_malformed},
      {"ARP from loopback", arp_frame({.sip = 0x7F000001}), r::arp_malformed},
      {"ARP for somebody else", arp_frame({.tip = own_address + 1}), r::arp_elsewhere},
      {"ARP announcement of somebody else", arp_frame({.sip = peer, .tip = peer}),
       r::arp_elsewhere},
      {"an own announcement that comes back",
       ethernet(arp({.sha = our_mac, .sip = own_address}), 0x0806, everybody, our_mac),
       r::arp_elsewhere},
      {"an own address that is claimed", arp_frame({.sip = own_address, .tip = own_address}),
       r::arp_conflict},
      {"version 6", ip_of({.version = 6}, udp(data)), r::ip_version},
      {"version 0", ip_of({.version = 0}, udp(data)), r::ip_version},
      {"IHL 4", ip_of({.ihl = 4}, udp(data)), r::ip_header_length},
      {"IHL past the end", cut(ip_of({.ihl = 15}, udp(data)), 14 + 59), r::ip_header_length},
      {"total length 19", ip_of({.total = 19}, udp(data)), r::ip_total_length},
      {"total length 0", ip_of({.total = 0}, udp(data)), r::ip_total_length},
      {"total length past the end", ip_of({.total = 20 + 8 + 5 + 1}, udp(data)),
       r::ip_total_length},
      {"total length 65535", ip_of({.total = 65535}, udp(data)), r::ip_total_length},
      {"header checksum", ip_of({.bad_checksum = true}, udp(data)), r::ip_checksum},
      {"first fragment of 13 octets", ip_of({.fragment = 0x2000}, udp(data)), r::ip_fragment},
      {"fragment of TCP", ip_of({.protocol = 6, .fragment = 0x0001}, udp(data)), r::ip_fragment},
      {"from 0.0.0.0", from(0), r::ip_source},
      {"from network 0", from(0x00000007), r::ip_source},
      {"from loopback", from(0x7F000001), r::ip_source},
      {"from multicast", from(group), r::ip_source},
      {"from class E", from(0xF0000001), r::ip_source},
      {"from the limited broadcast address", from(0xffffffff), r::ip_source},
      {"from the link's broadcast address", from(0xC00002FF), r::ip_source},
      {"from the link's network address", from(0xC0000200), r::ip_source},
      {"from an own address", from(own_address), r::ip_source},
      {"to another host", to(own_address + 1), r::ip_destination},
      {"to a group not joined", to(group + 1), r::ip_destination},
      {"to an own address by broadcast", ethernet(ipv4(udp(data)), 0x0800, everybody),
       r::ip_destination},
      {"TCP", ip_of({.protocol = 6}, udp(data)), r::ip_protocol},
      {"UDP header cut", ip_of({}, cut(udp(data), 7)), r::udp_length},
      {"UDP length 7", ip_of({}, udp(data, {.length = 7})), r::udp_length},
      {"UDP length past the packet", ip_of({}, udp(data, {.length = 8 + 5 + 1})), r::udp_length},
      {"UDP length past the packet, octets behind",
       ip_of({.total = 20 + 8 + 5}, udp(data, {.length = 14}) + octets(40)), r::udp_length},
      {"from port 0", ip_of({}, udp(data, {.from_port = 0})), r::udp_source},
      {"to the port below", ip_of({}, udp(data, {.to_port = our_port - 1})), r::udp_destination},
      {"to the port above", ip_of({}, udp(data, {.to_port = our_port + 1})), r::udp_destination},
      {"UDP checksum", ip_of({}, udp(data, {.sum = udp_fields::wrong})), r::udp_checksum},
      {"UDP checksum left to hardware", ip_of({}, udp(data, {.sum = udp_fields::partial})),
       r::udp_checksum_partial},
      {"ICMP of 7 octets", ip_of({.protocol = 1}, cut(echo({}), 7)), r::icmp_malformed},
      {"ICMP checksum", ip_of({.protocol = 1}, echo(data, 8, 0, true)), r::icmp_malformed},
      {"echo request with IP options", ip_of({.protocol = 1, .options = {7, 3, 4, 0}}, echo(data)),
       r::icmp_malformed},
      {"echo reply", ip_of({.protocol = 1}, echo(data, 0)), r::icmp_other},
      {"echo request code 1", ip_of({.protocol = 1}, echo(data, 8, 1)), r::icmp_other},
      {"port unreachable", ip_of({.protocol = 1}, echo(data, 3, 3)), r::icmp_other},
      {"echo request to the broadcast address",
       ethernet(ipv4(echo(data), {.to = 0xC00002FF, .protocol = 1}), 0x0800, everybody),
       r::icmp_other},
  };
  // These are reached in test_scapy.py, which makes IPv6 packets.
  std::set<r> reached = {r::ip_extension, r::ip_option};
  for (const one& c : cases) {
    const packet_view v = seen(filter(), c.frame);
    EXPECT_EQ(v.kind, packet_kind::dropped) << c.name;
    EXPECT_STREQ(to_string(v.reason), to_string(c.reason)) << c.name;
    reached.insert(v.reason);
  }
  receive_filter on_vlan = filter();
  on_vlan.config.vlan = 5;
  EXPECT_EQ(seen(on_vlan, tagged(datagram_frame(), 0xE005)).kind, packet_kind::udp);
  for (const octets& frame : {datagram_frame(), tagged(datagram_frame(), 0)})
    reached.insert(seen(on_vlan, frame).reason);
  // This frame does not fit into any mbuf in one piece.
  rte_mbuf* m = segmented(datagram_frame(octets(1400)), {20, 700}, exact_mbuf);
  reached.insert(classify(filter(), m).reason);
  rte_pktmbuf_free(m);
  for (auto i = static_cast<unsigned>(r::not_contiguous); i <= static_cast<unsigned>(r::icmp_other);
       ++i)
    EXPECT_TRUE(reached.contains(static_cast<r>(i))) << to_string(static_cast<r>(i));
  EXPECT_TRUE(all_back());
}

TEST(Parse, TheFieldsOfADatagramAreRead) {
  rte_mbuf* m = exact_mbuf(datagram_frame());
  const packet_view v = classify(filter(), m);
  ASSERT_EQ(v.kind, packet_kind::udp) << to_string(v.reason);
  EXPECT_FALSE(v.to_group);
  EXPECT_EQ(v.l2_size, 14);
  EXPECT_EQ(v.source, (endpoint{peer, peer_port, 0}));
  EXPECT_EQ(v.destination, own_address);
  EXPECT_EQ(v.destination_port, our_port);
  EXPECT_TRUE(rte_is_same_ether_addr(&v.source_mac, &peer_mac));
  ASSERT_EQ(v.payload.size(), 5u);
  EXPECT_EQ(std::memcmp(v.payload.data(), "hello", 5), 0);
  rte_pktmbuf_free(m);
}

TEST(Parse, OctetsBehindTheDatagramAreIgnored) {
  const octets padded = cut(datagram_frame(), 60);
  const octets behind_udp = ethernet(ipv4(udp(text("hello")) + text("more")));
  const octets with_options =
      ethernet(ipv4(udp(text("hello")), {.options = {7, 7, 4, 0, 0, 0, 0, 0}}));
  for (const octets& frame : {padded, behind_udp, with_options, tagged(padded, 0xE000)}) {
    rte_mbuf* m = exact_mbuf(frame);
    const packet_view v = classify(filter(), m);
    EXPECT_EQ(v.kind, packet_kind::udp) << to_string(v.reason);
    ASSERT_EQ(v.payload.size(), 5u);
    EXPECT_EQ(std::memcmp(v.payload.data(), "hello", 5), 0);
    rte_pktmbuf_free(m);
  }
}

TEST(Parse, AnEmptyDatagramIsAccepted) {
  rte_mbuf* m = exact_mbuf(datagram_frame({}));
  const packet_view v = classify(filter(), m);
  EXPECT_EQ(v.kind, packet_kind::udp);
  EXPECT_TRUE(v.payload.empty());
  rte_pktmbuf_free(m);
}

TEST(Parse, SegmentsAreJoinedWhereverTheyAreCut) {
  const octets frame = datagram_frame(text("in several pieces"));
  for (std::size_t a = 0; a <= frame.size(); ++a)
    for (std::size_t b = a; b <= frame.size(); b += 7) {
      rte_mbuf* m = segmented(frame, {a, b});
      const packet_view v = classify(filter(), m);
      ASSERT_EQ(v.kind, packet_kind::udp) << a << " " << b << " " << to_string(v.reason);
      EXPECT_EQ(v.payload.size(), 17u);
      EXPECT_EQ(m->nb_segs, 1);
      rte_pktmbuf_free(m);
    }
  EXPECT_TRUE(all_back());
}

TEST(Parse, GroupsAndBroadcastsAreAcceptedAsConfigured) {
  receive_filter f = filter();
  auto sent_to = [&](std::uint32_t ip, const rte_ether_addr& mac) {
    return seen(f, ethernet(ipv4(udp(text("x"), {.to = ip}), {.to = ip}), 0x0800, mac));
  };
  EXPECT_EQ(sent_to(group, group_address).reason, drop_reason::ip_destination);
  f.config.multicast_group = group;
  EXPECT_TRUE(sent_to(group, group_address).to_group);
  EXPECT_EQ(sent_to(group, group_address).kind, packet_kind::udp);
  EXPECT_EQ(sent_to(0xC00002FF, everybody).kind, packet_kind::udp);
  EXPECT_EQ(sent_to(0xffffffff, everybody).kind, packet_kind::udp);
  f.config.accept_broadcast = false;
  EXPECT_EQ(sent_to(0xC00002FF, everybody).reason, drop_reason::ip_destination);
  EXPECT_EQ(sent_to(0xffffffff, everybody).reason, drop_reason::ip_destination);
}

TEST(Parse, EachOfSeveralOwnAddressesAndPortsIsAccepted) {
  receive_filter f = filter();
  f.config.address_count = 3;
  f.config.udp_port = 65534;
  f.config.udp_port_count = 2;
  auto kind = [&](std::uint32_t ip, unsigned port) {
    return seen(f, ethernet(ipv4(udp(text("x"), {.to = ip, .to_port = port}), {.to = ip}))).reason;
  };
  EXPECT_EQ(kind(own_address, 65534), drop_reason::none);
  EXPECT_EQ(kind(own_address + 2, 65535), drop_reason::none);
  EXPECT_EQ(kind(own_address + 3, 65535), drop_reason::ip_destination);
  EXPECT_EQ(kind(own_address - 1, 65535), drop_reason::ip_destination);
  EXPECT_EQ(kind(own_address, 0), drop_reason::udp_destination);
  EXPECT_EQ(kind(own_address, 65533), drop_reason::udp_destination);
}

TEST(Parse, AGoodVerdictOfTheDeviceIsTrustedAndABadOneIsChecked) {
  const octets bad_udp = ethernet(ipv4(udp(text("hello"), {.sum = udp_fields::wrong})));
  const octets bad_ip = ethernet(ipv4(udp(text("hello")), {.bad_checksum = true}));
  auto reason = [](const octets& o, std::uint64_t flags) {
    return seen(filter(), o, flags).reason;
  };
  EXPECT_EQ(reason(bad_udp, RTE_MBUF_F_RX_L4_CKSUM_GOOD), drop_reason::none);
  EXPECT_EQ(reason(bad_udp, RTE_MBUF_F_RX_L4_CKSUM_NONE), drop_reason::none);
  EXPECT_EQ(reason(bad_udp, RTE_MBUF_F_RX_L4_CKSUM_BAD), drop_reason::udp_checksum);
  EXPECT_EQ(reason(bad_ip, RTE_MBUF_F_RX_IP_CKSUM_GOOD), drop_reason::none);
  EXPECT_EQ(reason(bad_ip, RTE_MBUF_F_RX_IP_CKSUM_NONE), drop_reason::none);
  EXPECT_EQ(reason(bad_ip, RTE_MBUF_F_RX_IP_CKSUM_BAD), drop_reason::ip_checksum);
  // A device that sums up the whole IP packet knows nothing about a shorter datagram inside it.
  EXPECT_EQ(reason(datagram_frame(), RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_BAD),
            drop_reason::none);
  const octets behind = ethernet(ipv4(udp(text("hello"), {.sum = udp_fields::wrong}) + text("oo")));
  EXPECT_EQ(reason(behind, RTE_MBUF_F_RX_L4_CKSUM_GOOD), drop_reason::udp_checksum);
}

TEST(Parse, AMissingChecksumIsAcceptedAndAPartialOneIfConfigured) {
  const octets none = ethernet(ipv4(udp(text("hello"), {.sum = udp_fields::none})));
  const octets partial = ethernet(ipv4(udp(text("hello"), {.sum = udp_fields::partial})));
  receive_filter f = filter();
  EXPECT_EQ(seen(f, none).kind, packet_kind::udp);
  EXPECT_EQ(seen(f, partial).kind, packet_kind::dropped);
  f.config.partial_checksums = true;
  EXPECT_EQ(seen(f, partial).kind, packet_kind::udp);
}

TEST(Parse, RandomOctetsAndMutatedFramesAreParsedWithinTheirBounds) {
  std::mt19937_64 random(run_seed());
  const std::vector<octets> valid = {
      datagram_frame(), datagram_frame(octets(1400, 7)), echo_frame(),
      arp_frame(),      tagged(echo_frame(), 0),         cut(datagram_frame(), 60)};
  receive_filter f = filter();
  f.config.multicast_group = group;
  std::size_t passed = 0;
  constexpr int rounds = 60000;
  for (int i = 0; i < rounds; ++i) {
    octets o = valid[random() % valid.size()];
    const auto mutations = random() % 5;
    for (std::uint64_t k = 0; k < mutations && !o.empty(); ++k) {
      // Most mutations hit the headers.
      const std::size_t at =
          random() % (random() % 4 == 0 ? o.size() : std::min<std::size_t>(o.size(), 46));
      switch (random() % 5) {
      case 0:
        o[at] ^= static_cast<std::uint8_t>(1u << random() % 8);
        break;
      case 1:
        o[at] = static_cast<std::uint8_t>(random());
        break;
      case 2:
        o.resize(random() % (o.size() + 1));
        break;
      case 3:
        o.resize(o.size() + random() % 60, static_cast<std::uint8_t>(random()));
        break;
      case 4:
        o[at] = random() % 2 == 0 ? 0xff : 0;
        break;
      }
    }
    if (random() % 2 == 0 && o.size() >= 34) { // make the header checksum valid again
      const std::size_t header = std::min<std::size_t>((o[14] & 15u) * 4u, o.size() - 14);
      if (header >= 20) {
        set16(o, 24, 0);
        set16(
            o, 24,
            checksum(octets(o.begin() + 14, o.begin() + 14 + static_cast<std::ptrdiff_t>(header))));
      }
    }
    rte_mbuf* m = nullptr;
    if (random() % 3 == 0) {
      std::vector<std::size_t> cuts = {random() % (o.size() + 1), random() % (o.size() + 1)};
      std::sort(cuts.begin(), cuts.end());
      m = segmented(o, cuts, random() % 2 == 0 ? mbuf : exact_mbuf);
    } else {
      m = exact_mbuf(o);
    }
    if (random() % 4 == 0) m->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    const packet_view v = classify(f, m);
    passed += v.kind != packet_kind::dropped;
    EXPECT_EQ(v.kind == packet_kind::dropped, v.reason != drop_reason::none);
    if (v.kind == packet_kind::udp || v.kind == packet_kind::icmp_echo) {
      const auto* data = rte_pktmbuf_mtod(m, const std::byte*);
      EXPECT_GE(v.payload.data(), data);
      EXPECT_LE(v.payload.data() + v.payload.size(), data + rte_pktmbuf_data_len(m));
    }
    rte_pktmbuf_free(m);
  }
  EXPECT_GT(passed,
            static_cast<std::size_t>(rounds / 10)); // not every mutation makes the frame invalid
  EXPECT_LT(passed, static_cast<std::size_t>(rounds));
  EXPECT_TRUE(all_back());
}

TEST(Checksum, AgreesWithTheDefinitionAtEveryLengthAndAlignment) {
  std::mt19937_64 random(run_seed());
  octets o(80);
  for (auto& b : o)
    b = static_cast<std::uint8_t>(random());
  for (std::size_t at = 0; at < 8; ++at)
    for (std::size_t n = 0; n <= 64; ++n) {
      const octets part(o.begin() + static_cast<std::ptrdiff_t>(at),
                        o.begin() + static_cast<std::ptrdiff_t>(at + n));
      std::uint16_t got = fold_checksum(add_checksum(0, o.data() + at, n));
      EXPECT_EQ(static_cast<std::uint16_t>(~rte_be_to_cpu_16(got)), checksum(part));
    }
}

TEST(Checksum, LosesNoCarryOfWordsThatAreAllOnes) {
  for (const std::size_t n : {8u, 16u, 40u, 64u, 1500u}) {
    octets ones(n, 0xff), most(n, 0xff);
    most[n / 2] = 0xfe;
    for (const octets& o : {ones, most}) {
      const std::uint16_t got = fold_checksum(add_checksum(0xffffffff, o.data(), n));
      EXPECT_EQ(static_cast<std::uint16_t>(~rte_be_to_cpu_16(got)), checksum(o)) << n;
    }
  }
  EXPECT_EQ(fold_checksum(0), 0);
  EXPECT_EQ(fold_checksum(~std::uint64_t{0}), 0xffff);
  EXPECT_EQ(fold_checksum(std::uint64_t{1} << 63), 0x8000);
}

TEST(DropReason, EachReasonHasANameOfItsOwn) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < drop_reason_count; ++i) {
    const std::string name = to_string(static_cast<drop_reason>(i));
    EXPECT_NE(name, "unknown") << i;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_STREQ(to_string(static_cast<drop_reason>(drop_reason_count)), "unknown");
  drop_counters c;
  c.count(drop_reason::no_mbuf, 2);
  c.count(drop_reason::none);
  EXPECT_EQ(c.total(), 2u);
}

TEST(Address, OnlyADottedQuadIsAccepted) {
  EXPECT_EQ(parse_ipv4("192.0.2.1").value(), own_address);
  EXPECT_EQ(format_ipv4(own_address), "192.0.2.1");
  EXPECT_EQ(to_string(endpoint{own_address, 1883, 2}), "192.0.2.1:1883%2");
  for (const std::string_view bad :
       {std::string_view(""), std::string_view("192.0.2"), std::string_view("192.0.2.1 "),
        std::string_view("192.0.2.256"), std::string_view("192.0.2.01"),
        std::string_view("0x7f.0.0.1"), std::string_view("192.0.2.1\0", 10),
        std::string_view("192.0.2.1\0junk", 14), std::string_view("\0", 1)})
    EXPECT_FALSE(parse_ipv4(bad)) << bad;
}

TEST(Address, OnlyAValidPrefixIsAccepted) {
  const ipv4_prefix p = parse_ipv4_prefix("192.0.2.1/24").value();
  EXPECT_EQ(p.address, own_address);
  EXPECT_EQ(p.length, 24);
  EXPECT_EQ(p.mask(), 0xffffff00u);
  EXPECT_EQ(p.broadcast(), 0xC00002FFu);
  EXPECT_TRUE(p.contains(peer));
  EXPECT_EQ(parse_ipv4_prefix("192.0.2.1").value().length, 32);
  EXPECT_EQ(parse_ipv4_prefix("192.0.2.1/0").value().mask(), 0u);
  for (const std::string_view bad :
       {std::string_view("192.0.2.1/"), std::string_view("192.0.2.1/33"),
        std::string_view("192.0.2.1/-1"), std::string_view("192.0.2.1/+1"),
        std::string_view("192.0.2.1/024"), std::string_view("192.0.2.1/24 "),
        std::string_view("192.0.2.1\0/24", 13), std::string_view("192.0.2.1/24\0", 13),
        std::string_view("/24")})
    EXPECT_FALSE(parse_ipv4_prefix(bad)) << bad;
}

TEST(Endpoint, ItsKeyHoldsAddressPortAndInterface) {
  const endpoint e{0xC0000209, 40000, 7};
  EXPECT_EQ(endpoint::from_key(e.key()), e);
}

} // namespace
} // namespace chainring::net_test
