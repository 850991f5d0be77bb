// SPDX-License-Identifier: BSD-3-Clause
#include "net/build.h"

#include <array>
#include <cstring>
#include <rte_arp.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_udp.h>

namespace chainring::net {

namespace detail {

namespace {

// Forced inline into the IPv4 builder below, because nearly every datagram passes here.
[[gnu::always_inline]] inline std::uint64_t add_checksum_inline(std::uint64_t sum,
                                                                const rte_mbuf* m) noexcept {
  bool odd = false;
  for (const rte_mbuf* s = m; s != nullptr; s = s->next) {
    const auto* data = rte_pktmbuf_mtod(s, const unsigned char*);
    std::size_t n = rte_pktmbuf_data_len(s);
    if (odd && n != 0) { // this octet completes a word of the segment before
      const unsigned char word[2] = {0, *data};
      sum = add_checksum(sum, word, sizeof word);
      ++data;
      --n;
      odd = false;
    }
    sum = add_checksum(sum, data, n);
    if (n % 2 != 0) odd = true;
  }
  return sum;
}

} // namespace

std::uint64_t add_checksum_of(std::uint64_t sum, const rte_mbuf* m) noexcept {
  return add_checksum_inline(sum, m);
}

char* put_ethernet(char* at, const transmit_config& config, const rte_ether_addr& to,
                   std::uint16_t type) noexcept {
  const rte_ether_hdr eth{
      .dst_addr = to,
      .src_addr = config.mac,
      .ether_type = rte_cpu_to_be_16(config.vlan != 0 ? std::uint16_t{RTE_ETHER_TYPE_VLAN} : type)};
  std::memcpy(at, &eth, sizeof eth);
  at += sizeof eth;
  if (config.vlan == 0) return at;
  const rte_vlan_hdr tag{.vlan_tci = rte_cpu_to_be_16(config.vlan),
                         .eth_proto = rte_cpu_to_be_16(type)};
  std::memcpy(at, &tag, sizeof tag);
  return at + sizeof tag;
}

} // namespace detail

namespace {

/// The part of build_udp() for IPv4 with a VLAN tag, which few ports have.
drop_reason build_tagged_udp(rte_mbuf* m, const transmit_config& config,
                             const rte_ether_addr& to_mac, const endpoint& from, const endpoint& to,
                             std::uint16_t id) noexcept {
  if (rte_pktmbuf_headroom(m) < udp_header_room + vlan_tag_size) return drop_reason::no_headroom;
  transmit_config untagged = config;
  untagged.vlan = 0;
  if (const drop_reason why = build_udp(m, untagged, to_mac, from, to, id);
      why != drop_reason::none)
    return why;
  (void)detail::put_ethernet(rte_pktmbuf_prepend(m, vlan_tag_size), config, to_mac,
                             RTE_ETHER_TYPE_IPV4);
  m->l2_len = config.l2_size();
  return drop_reason::none;
}

} // namespace

drop_reason build_frame(rte_mbuf* m, const transmit_config& config,
                        const rte_ether_addr& to_mac) noexcept {
  const bool ipv6 = *rte_pktmbuf_mtod(m, const unsigned char*) >> 4 == 6;
  char* const at = rte_pktmbuf_prepend(m, config.l2_size());
  if (at == nullptr) return drop_reason::no_headroom;
  (void)detail::put_ethernet(at, config, to_mac, ipv6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4);
  m->l2_len = config.l2_size();
  return drop_reason::none;
}

drop_reason build_udp(rte_mbuf* m, const transmit_config& config, const rte_ether_addr& to_mac,
                      const endpoint& from, const endpoint& to, std::uint16_t id) noexcept {
  if (!to.address.is_ipv4()) [[unlikely]]
    return detail::build_udp_ipv6(m, config, to_mac, from, to);
  if (config.vlan != 0) [[unlikely]]
    return build_tagged_udp(m, config, to_mac, from, to, id);
  const std::uint32_t payload = rte_pktmbuf_pkt_len(m);
  if (std::uint64_t{payload} + udp_ip_overhead > config.mtu) return drop_reason::datagram_too_long;
  if (rte_pktmbuf_headroom(m) < udp_header_room) return drop_reason::no_headroom;
  struct {
    rte_ether_hdr eth;
    rte_ipv4_hdr ip;
    rte_udp_hdr udp;
  } h{};
  static_assert(sizeof h.eth + sizeof h.ip + sizeof h.udp == udp_header_room);
  h.eth.dst_addr = to_mac;
  h.eth.src_addr = config.mac;
  h.eth.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
  h.ip.version_ihl = RTE_IPV4_VHL_DEF;
  h.ip.total_length = rte_cpu_to_be_16(static_cast<std::uint16_t>(payload + udp_ip_overhead));
  h.ip.packet_id = rte_cpu_to_be_16(id);
  h.ip.fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
  h.ip.time_to_live = is_multicast(to.address.ipv4()) ? 1 : 64;
  h.ip.next_proto_id = IPPROTO_UDP;
  h.ip.src_addr = rte_cpu_to_be_32(from.address.ipv4());
  h.ip.dst_addr = rte_cpu_to_be_32(to.address.ipv4());
  const auto length = static_cast<std::uint16_t>(payload + sizeof(rte_udp_hdr));
  h.udp.src_port = rte_cpu_to_be_16(from.port);
  h.udp.dst_port = rte_cpu_to_be_16(to.port);
  h.udp.dgram_len = rte_cpu_to_be_16(length);
  // This is the sum of the pseudo-header. Its words are at most 32 bits wide, so no carry leaves
  // the 64 bits.
  std::uint64_t sum = std::uint64_t{h.ip.src_addr} + h.ip.dst_addr + rte_cpu_to_be_16(IPPROTO_UDP) +
                      h.udp.dgram_len;
  m->ol_flags &= ~RTE_MBUF_F_TX_OFFLOAD_MASK; // the mbuf may have been received
  if (config.tx_flags != 0) {
    // The pseudo-header's sum, to which the device adds the rest.
    h.udp.dgram_cksum = fold_checksum(sum);
    m->l2_len = sizeof h.eth;
    m->l3_len = sizeof h.ip;
    m->l4_len = sizeof h.udp;
    m->ol_flags |= config.tx_flags;
  } else {
    unsigned char ip_bytes[sizeof h.ip];
    std::memcpy(ip_bytes, &h.ip, sizeof ip_bytes);
    h.ip.hdr_checksum =
        static_cast<std::uint16_t>(~fold_checksum(add_checksum(0, ip_bytes, sizeof ip_bytes)));
    unsigned char udp_bytes[sizeof h.udp];
    std::memcpy(udp_bytes, &h.udp, sizeof udp_bytes);
    sum = add_checksum(sum, udp_bytes, sizeof udp_bytes);
    sum = detail::add_checksum_inline(sum, m);
    const auto check = static_cast<std::uint16_t>(~fold_checksum(sum));
    h.udp.dgram_cksum = check == 0 ? 0xffff : check; // 0 would mean that there is no checksum
  }
  char* to_bytes = rte_pktmbuf_prepend(m, udp_header_room);
  std::memcpy(to_bytes, &h.eth, sizeof h.eth);
  std::memcpy(to_bytes + sizeof h.eth, &h.ip, sizeof h.ip);
  std::memcpy(to_bytes + sizeof h.eth + sizeof h.ip, &h.udp, sizeof h.udp);
  return drop_reason::none;
}

void make_echo_reply(rte_mbuf* m, const packet_view& view, const transmit_config& config,
                     std::uint16_t id) noexcept {
  if (!view.source.address.is_ipv4()) return detail::make_echo_reply_ipv6(m, view, config);
  auto* data = rte_pktmbuf_mtod(m, unsigned char*);
  rte_ether_hdr eth;
  std::memcpy(&eth, data, sizeof eth);
  eth.dst_addr = eth.src_addr;
  eth.src_addr = config.mac;
  std::memcpy(data, &eth, sizeof eth);
  rte_ipv4_hdr ip;
  std::memcpy(&ip, data + view.l2_size, sizeof ip);
  const std::uint32_t asker = ip.src_addr;
  ip.src_addr = ip.dst_addr;
  ip.dst_addr = asker;
  ip.type_of_service &= 0xfc; // a congestion mark (ECN) belongs to the request only
  ip.total_length = rte_cpu_to_be_16(static_cast<std::uint16_t>(sizeof ip + view.payload.size()));
  ip.packet_id = rte_cpu_to_be_16(id);
  ip.fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
  ip.time_to_live = 64;
  ip.hdr_checksum = 0;
  ip.hdr_checksum = static_cast<std::uint16_t>(~fold_checksum(add_checksum(0, &ip, sizeof ip)));
  std::memcpy(data + view.l2_size, &ip, sizeof ip);
  unsigned char* icmp = data + view.l2_size + sizeof ip;
  icmp[0] = RTE_IP_ICMP_ECHO_REPLY;
  icmp[2] = icmp[3] = 0;
  const auto check =
      static_cast<std::uint16_t>(~fold_checksum(add_checksum(0, icmp, view.payload.size())));
  std::memcpy(icmp + 2, &check, 2);
  // Padding behind the packet is removed.
  const std::size_t size = view.l2_size + sizeof ip + view.payload.size();
  (void)rte_pktmbuf_trim(m, static_cast<std::uint16_t>(rte_pktmbuf_data_len(m) - size));
}

void make_arp_reply(rte_mbuf* m, const packet_view& view, const transmit_config& config) noexcept {
  auto* data = rte_pktmbuf_mtod(m, unsigned char*);
  rte_ether_hdr eth;
  std::memcpy(&eth, data, sizeof eth);
  eth.dst_addr = view.source_mac;
  eth.src_addr = config.mac;
  std::memcpy(data, &eth, sizeof eth);
  rte_arp_hdr h;
  std::memcpy(&h, data + view.l2_size, sizeof h);
  h.arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REPLY);
  h.arp_data.arp_tha = h.arp_data.arp_sha;
  h.arp_data.arp_sha = config.mac;
  const std::uint32_t asker = h.arp_data.arp_sip;
  h.arp_data.arp_sip = h.arp_data.arp_tip;
  h.arp_data.arp_tip = asker;
  std::memcpy(data + view.l2_size, &h, sizeof h);
  const std::size_t size = view.l2_size + sizeof h;
  (void)rte_pktmbuf_trim(m, static_cast<std::uint16_t>(rte_pktmbuf_data_len(m) - size));
}

bool build_arp_request(rte_mbuf* m, const transmit_config& config, std::uint32_t own,
                       std::uint32_t target, const rte_ether_addr& to) noexcept {
  rte_arp_hdr arp{};
  char* at = rte_pktmbuf_append(m, static_cast<std::uint16_t>(config.l2_size() + sizeof arp));
  if (at == nullptr) return false;
  arp.arp_hardware = rte_cpu_to_be_16(RTE_ARP_HRD_ETHER);
  arp.arp_protocol = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
  arp.arp_hlen = RTE_ETHER_ADDR_LEN;
  arp.arp_plen = 4;
  arp.arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REQUEST);
  arp.arp_data.arp_sha = config.mac;
  arp.arp_data.arp_sip = rte_cpu_to_be_32(own);
  arp.arp_data.arp_tip = rte_cpu_to_be_32(target);
  at = detail::put_ethernet(at, config, to, RTE_ETHER_TYPE_ARP);
  std::memcpy(at, &arp, sizeof arp);
  return true;
}

bool build_membership_report(rte_mbuf* m, const transmit_config& config,
                             const interface_config& own, const ip_address& group) noexcept {
  if (!group.is_ipv4()) return detail::build_listener_report(m, config, group);
  constexpr std::array<unsigned char, 4> router_alert = {0x94, 4, 0, 0}; // RFC 2113
  constexpr std::size_t ip_size = sizeof(rte_ipv4_hdr) + router_alert.size();
  std::array<unsigned char, ip_size + sizeof(igmp_message)> packet{};
  rte_ipv4_hdr ip{};
  ip.version_ihl = RTE_IPV4_VHL_DEF + router_alert.size() / 4;
  ip.total_length = rte_cpu_to_be_16(packet.size());
  ip.time_to_live = 1;
  ip.next_proto_id = IPPROTO_IGMP;
  ip.src_addr = rte_cpu_to_be_32(own.address.address);
  ip.dst_addr = rte_cpu_to_be_32(group.ipv4());
  std::memcpy(packet.data(), &ip, sizeof ip);
  std::memcpy(packet.data() + sizeof ip, router_alert.data(), router_alert.size());
  ip.hdr_checksum =
      static_cast<std::uint16_t>(~fold_checksum(add_checksum(0, packet.data(), ip_size)));
  std::memcpy(packet.data(), &ip, sizeof ip);
  igmp_message igmp{.type = igmp_report_v2, .group = ip.dst_addr};
  igmp.checksum = static_cast<std::uint16_t>(~fold_checksum(add_checksum(0, &igmp, sizeof igmp)));
  std::memcpy(packet.data() + ip_size, &igmp, sizeof igmp);
  char* at = rte_pktmbuf_append(m, static_cast<std::uint16_t>(config.l2_size() + packet.size()));
  if (at == nullptr) return false;
  at = detail::put_ethernet(at, config, group_mac(group), RTE_ETHER_TYPE_IPV4);
  std::memcpy(at, packet.data(), packet.size());
  return true;
}

rte_ether_addr group_mac(const ip_address& group) noexcept {
  if (!group.is_ipv4())
    return {{0x33, 0x33, static_cast<std::uint8_t>(group.low >> 24),
             static_cast<std::uint8_t>(group.low >> 16), static_cast<std::uint8_t>(group.low >> 8),
             static_cast<std::uint8_t>(group.low)}};
  const std::uint32_t ipv4 = group.ipv4();
  if (!is_multicast(ipv4)) return {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  return {{0x01, 0x00, 0x5e, static_cast<std::uint8_t>(ipv4 >> 16 & 0x7f),
           static_cast<std::uint8_t>(ipv4 >> 8), static_cast<std::uint8_t>(ipv4)}};
}

} // namespace chainring::net
