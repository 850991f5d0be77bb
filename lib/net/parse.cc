// SPDX-License-Identifier: BSD-3-Clause
#include "net/parse.h"

#include <cstring>
#include <rte_arp.h>
#include <rte_byteorder.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_udp.h>

namespace chainring::net {

namespace detail {

// Forced inline into the IPv4 parser below, because nearly every frame passes here.
[[gnu::always_inline]] inline drop_reason read_udp_inline(const interface_config& c,
                                                          const rte_mbuf* m, packet_view& v,
                                                          const std::byte* data, std::size_t n,
                                                          std::uint64_t pseudo) noexcept {
  rte_udp_hdr udp;
  if (n < sizeof udp) return drop_reason::udp_length;
  std::memcpy(&udp, data, sizeof udp);
  const std::uint16_t length = rte_be_to_cpu_16(udp.dgram_len);
  if (length < sizeof udp || length > n) return drop_reason::udp_length;
  v.source.port = rte_be_to_cpu_16(udp.src_port);
  v.destination_port = rte_be_to_cpu_16(udp.dst_port);
  if (v.source.port == 0) return drop_reason::udp_source;
  if (static_cast<std::uint16_t>(v.destination_port - c.udp_port) >= c.udp_port_count)
    return drop_reason::udp_destination;
  const std::uint64_t verdict = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
  // A device's verdict covers the whole IP packet. It does not apply when octets follow the
  // datagram.
  const bool verified = length == n && (verdict == RTE_MBUF_F_RX_L4_CKSUM_GOOD ||
                                        verdict == RTE_MBUF_F_RX_L4_CKSUM_NONE);
  if (udp.dgram_cksum != 0 && !verified) {
    const std::uint64_t with_length = pseudo + rte_cpu_to_be_16(length);
    if (fold_checksum(add_checksum(with_length, data, length)) != 0xffff) {
      const bool partial = udp.dgram_cksum == fold_checksum(with_length);
      if (!partial) return drop_reason::udp_checksum;
      if (!c.partial_checksums) return drop_reason::udp_checksum_partial;
    }
  }
  v.kind = packet_kind::udp;
  v.payload = {data + sizeof udp, length - sizeof udp};
  return drop_reason::none;
}

drop_reason read_udp(const interface_config& c, const rte_mbuf* m, packet_view& v,
                     const std::byte* data, std::size_t n, std::uint64_t pseudo) noexcept {
  return read_udp_inline(c, m, v, data, n, pseudo);
}

} // namespace detail

namespace {

drop_reason read_arp(const receive_filter& filter, packet_view& v, const std::byte* at,
                     std::size_t n) noexcept {
  rte_arp_hdr h;
  if (n < sizeof h) return drop_reason::frame_short;
  std::memcpy(&h, at, sizeof h);
  v.arp_operation = rte_be_to_cpu_16(h.arp_opcode);
  v.source_mac = h.arp_data.arp_sha;
  const std::uint32_t from = rte_be_to_cpu_32(h.arp_data.arp_sip);
  const std::uint32_t target = rte_be_to_cpu_32(h.arp_data.arp_tip);
  v.source.address = from;
  v.destination = target;
  v.source.interface_id = filter.config.interface_id;
  if (h.arp_hardware != rte_cpu_to_be_16(RTE_ARP_HRD_ETHER) ||
      h.arp_protocol != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) || h.arp_hlen != RTE_ETHER_ADDR_LEN ||
      h.arp_plen != 4 ||
      (v.arp_operation != RTE_ARP_OP_REQUEST && v.arp_operation != RTE_ARP_OP_REPLY) ||
      !rte_is_unicast_ether_addr(&v.source_mac) || rte_is_zero_ether_addr(&v.source_mac) ||
      (from != 0 && // a source of 0 asks whether an address is in use (RFC 5227)
       (!is_unicast(from) || filter.config.address.is_no_host(from))))
    return drop_reason::arp_malformed;
  if (filter.is_own(from)) {
    // An own announcement that comes back through a loop or a bridge is no conflict.
    const bool own = rte_is_same_ether_addr(&v.source_mac, &filter.mac) != 0;
    return own ? drop_reason::arp_elsewhere : drop_reason::arp_conflict;
  }
  if (!filter.is_own(target)) return drop_reason::arp_elsewhere;
  v.kind = packet_kind::arp;
  return drop_reason::none;
}

drop_reason read_igmp(packet_view& v, const std::byte* at, std::size_t n,
                      std::uint8_t time_to_live) noexcept {
  igmp_message h;
  if (time_to_live != 1) return drop_reason::igmp_other; // it may come from off the link (RFC 3376)
  if (n < sizeof h || fold_checksum(add_checksum(0, at, n)) != 0xffff)
    return drop_reason::igmp_other;
  std::memcpy(&h, at, sizeof h);
  const std::uint32_t group = rte_be_to_cpu_32(h.group);
  if (h.type != igmp_query || (group != 0 && !is_multicast(group))) return drop_reason::igmp_other;
  constexpr std::uint16_t version_1_ms = 10'000;
  v.destination = group;
  v.response_ms =
      h.response_tenths == 0 ? version_1_ms : static_cast<std::uint16_t>(h.response_tenths * 100);
  v.kind = packet_kind::membership_query;
  return drop_reason::none;
}

// Reads the frame into `v` and returns `none`, or the reason why the frame is dropped. `v` is a
// parameter because returning a view from each of these checks would copy it.
[[gnu::always_inline]] inline drop_reason read_frame(const receive_filter& filter, rte_mbuf* m,
                                                     packet_view& v) noexcept {
  const interface_config& c = filter.config;
  if (m->nb_segs > 1 && rte_pktmbuf_linearize(m) != 0) return drop_reason::not_contiguous;
  const auto* data = rte_pktmbuf_mtod(m, const std::byte*);
  std::size_t n = rte_pktmbuf_data_len(m);
  rte_ether_hdr eth;
  if (n < sizeof eth) return drop_reason::frame_short;
  std::memcpy(&eth, data, sizeof eth);
  v.l2_size = sizeof eth;
  std::uint16_t type = rte_be_to_cpu_16(eth.ether_type);
  std::uint16_t vlan = 0;
  if (type == RTE_ETHER_TYPE_VLAN) {
    rte_vlan_hdr tag;
    if (n < sizeof eth + sizeof tag) return drop_reason::frame_short;
    std::memcpy(&tag, data + sizeof eth, sizeof tag);
    vlan = rte_be_to_cpu_16(tag.vlan_tci) & 0xfff;
    type = rte_be_to_cpu_16(tag.eth_proto);
    v.l2_size = sizeof eth + sizeof tag;
  }
  if (vlan != c.vlan) return vlan == 0 ? drop_reason::vlan_untagged : drop_reason::vlan_tagged;
  v.source_mac = eth.src_addr;
  if (!rte_is_unicast_ether_addr(&eth.src_addr) || rte_is_zero_ether_addr(&eth.src_addr))
    return drop_reason::mac_source;
  v.to_group = rte_is_multicast_ether_addr(&eth.dst_addr) != 0;
  if (!v.to_group && !rte_is_same_ether_addr(&eth.dst_addr, &filter.mac))
    return drop_reason::mac_destination;
  data += v.l2_size;
  n -= v.l2_size;
  if (type == RTE_ETHER_TYPE_ARP) return read_arp(filter, v, data, n);
  if (type != RTE_ETHER_TYPE_IPV4) {
    if (type != RTE_ETHER_TYPE_IPV6 || !c.ipv6) return drop_reason::ethertype;
    return detail::read_ipv6(filter, m, v, data, n);
  }

  rte_ipv4_hdr ip;
  if (n < sizeof ip) return drop_reason::frame_short;
  std::memcpy(&ip, data, sizeof ip);
  if (ip.version_ihl >> 4 != 4) return drop_reason::ip_version;
  const std::size_t header = std::size_t{ip.version_ihl & 15u} * 4;
  const std::size_t total = rte_be_to_cpu_16(ip.total_length);
  if (header < sizeof ip || header > n) return drop_reason::ip_header_length;
  if (total < header || total > n) return drop_reason::ip_total_length;
  const std::uint64_t ip_verdict = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
  // Only a good verdict of the device counts, because a device may know fewer headers than this
  // parser.
  if (ip_verdict != RTE_MBUF_F_RX_IP_CKSUM_GOOD && ip_verdict != RTE_MBUF_F_RX_IP_CKSUM_NONE &&
      fold_checksum(add_checksum(0, data, header)) != 0xffff)
    return drop_reason::ip_checksum;
  const std::uint32_t from = rte_be_to_cpu_32(ip.src_addr), to = rte_be_to_cpu_32(ip.dst_addr);
  v.source = {from, 0, c.interface_id};
  v.destination = to;
  const bool igmp = ip.next_proto_id == IPPROTO_IGMP && c.multicast_group != 0;
  if ((!is_unicast(from) || filter.is_own(from) || c.address.is_no_host(from)) &&
      !(igmp && from == 0)) // a switch without an address asks for members too (RFC 4541)
    return drop_reason::ip_source;
  const bool broadcast =
      to == 0xffffffff || (c.address.broadcast() != 0 && to == c.address.broadcast());
  const bool group = (broadcast && c.accept_broadcast) ||
                     (c.multicast_group != 0 && (to == c.multicast_group || to == all_hosts));
  // A unicast address in a broadcast frame is a probe, while a group in a unicast frame is valid.
  if (!group && (!filter.is_own(to) || v.to_group)) return drop_reason::ip_destination;
  v.to_group = v.to_group || group;
  data += header;
  n = total - header;

  const std::uint16_t fragment = rte_be_to_cpu_16(ip.fragment_offset);
  if ((fragment & (RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0) [[unlikely]] {
    const std::size_t offset = (std::size_t{fragment} & RTE_IPV4_HDR_OFFSET_MASK) * 8;
    v.ip_size = static_cast<std::uint16_t>(header);
    return detail::read_fragment(v, ip.next_proto_id, offset,
                                 (fragment & RTE_IPV4_HDR_MF_FLAG) != 0, n);
  }
  if (ip.next_proto_id == IPPROTO_ICMP) {
    rte_icmp_hdr icmp;
    if (header != sizeof ip || n < sizeof icmp) return drop_reason::icmp_malformed;
    std::memcpy(&icmp, data, sizeof icmp);
    if (fold_checksum(add_checksum(0, data, n)) != 0xffff) return drop_reason::icmp_malformed;
    if (icmp.icmp_type != RTE_IP_ICMP_ECHO_REQUEST || icmp.icmp_code != 0 || v.to_group)
      return drop_reason::icmp_other;
    v.kind = packet_kind::icmp_echo;
    v.payload = {data, n};
    return drop_reason::none;
  }
  if (ip.next_proto_id == IPPROTO_TCP && c.tcp && !v.to_group) {
    v.ip_size = static_cast<std::uint16_t>(header);
    v.kind = packet_kind::tcp;
    v.payload = {data, n};
    return drop_reason::none;
  }
  if (ip.next_proto_id != IPPROTO_UDP)
    return igmp && v.to_group ? read_igmp(v, data, n, ip.time_to_live) : drop_reason::ip_protocol;
  const std::uint64_t pseudo =
      std::uint64_t{ip.src_addr} + ip.dst_addr + rte_cpu_to_be_16(ip.next_proto_id);
  return detail::read_udp_inline(c, m, v, data, n, pseudo);
}

} // namespace

void classify(const receive_filter& filter, rte_mbuf* m, packet_view& view) noexcept {
  view = {};
  view.reason = read_frame(filter, m, view);
}

packet_view classify(const receive_filter& filter, rte_mbuf* m) noexcept {
  packet_view v;
  classify(filter, m, v);
  return v;
}

} // namespace chainring::net
