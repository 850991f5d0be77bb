// SPDX-License-Identifier: BSD-3-Clause
// The IPv6 part of building frames.
#include <array>
#include <cstring>
#include <rte_ip.h>
#include <rte_udp.h>

#include "net/build.h"

namespace chainring::net {

namespace {

constexpr std::uint8_t hops = 64, hops_on_link = 255;

rte_ipv6_hdr header(const ip_address& from, const ip_address& to, std::uint8_t next,
                    std::size_t payload, std::uint8_t limit) noexcept {
  rte_ipv6_hdr ip{};
  ip.vtc_flow = rte_cpu_to_be_32(6u << 28);
  ip.payload_len = rte_cpu_to_be_16(static_cast<std::uint16_t>(payload));
  ip.proto = next;
  ip.hop_limits = limit;
  store_ipv6(ip.src_addr, from);
  store_ipv6(ip.dst_addr, to);
  return ip;
}

/// The sum of the pseudo-header of a packet without extension headers or, with another `next` and
/// `length`, with some.
std::uint64_t pseudo_sum(const rte_ipv6_hdr& ip, std::uint8_t next, std::size_t length) noexcept {
  std::array<unsigned char, 2 * sizeof ip.src_addr> addresses;
  std::memcpy(addresses.data(), ip.src_addr, sizeof ip.src_addr);
  std::memcpy(addresses.data() + sizeof ip.src_addr, ip.dst_addr, sizeof ip.dst_addr);
  return std::uint64_t{fold_checksum(add_checksum(0, addresses.data(), addresses.size()))} +
         rte_cpu_to_be_16(next) + rte_cpu_to_be_16(static_cast<std::uint16_t>(length));
}

/// Appends an ICMPv6 message to the empty mbuf `m`, with headers in front of it. `between` is an
/// extension header, or empty.
bool append_icmpv6(rte_mbuf* m, const transmit_config& config, const rte_ether_addr& to_mac,
                   const ip_address& from, const ip_address& to, std::uint8_t limit,
                   std::span<const unsigned char> between, std::span<unsigned char> message) {
  const std::size_t payload = between.size() + message.size();
  rte_ipv6_hdr ip =
      header(from, to, between.empty() ? IPPROTO_ICMPV6 : IPPROTO_HOPOPTS, payload, limit);
  const auto check = static_cast<std::uint16_t>(~fold_checksum(add_checksum(
      pseudo_sum(ip, IPPROTO_ICMPV6, message.size()), message.data(), message.size())));
  std::memcpy(message.data() + 2, &check, sizeof check);
  char* at =
      rte_pktmbuf_append(m, static_cast<std::uint16_t>(config.l2_size() + sizeof ip + payload));
  if (at == nullptr) return false;
  at = detail::put_ethernet(at, config, to_mac, RTE_ETHER_TYPE_IPV6);
  std::memcpy(at, &ip, sizeof ip);
  at += sizeof ip;
  if (!between.empty()) std::memcpy(at, between.data(), between.size());
  std::memcpy(at + between.size(), message.data(), message.size());
  return true;
}

/// A message of neighbour discovery with the own MAC in its option.
std::array<unsigned char, sizeof(icmpv6_message) + 8>
neighbour_message(const transmit_config& config, std::uint8_t type, std::uint8_t flags,
                  std::uint8_t option, const ip_address& target) noexcept {
  icmpv6_message h;
  h.type = type;
  h.rest = rte_cpu_to_be_32(std::uint32_t{flags} << 24);
  store_ipv6(h.target.data(), target);
  std::array<unsigned char, sizeof h + 8> o{};
  std::memcpy(o.data(), &h, sizeof h);
  o[sizeof h] = option;
  o[sizeof h + 1] = 1; // the option has one unit of eight octets
  std::memcpy(o.data() + sizeof h + 2, &config.mac, RTE_ETHER_ADDR_LEN);
  return o;
}

} // namespace

bool build_neighbour_solicitation(rte_mbuf* m, const transmit_config& config, const ip_address& own,
                                  const ip_address& target) noexcept {
  auto message = neighbour_message(config, nd_solicitation, 0, nd_source_address, target);
  const ip_address to = solicited_node(target);
  return append_icmpv6(m, config, group_mac(to), own, to, hops_on_link, {}, message);
}

bool build_neighbour_advertisement(rte_mbuf* m, const transmit_config& config,
                                   const ip_address& target, const ip_address& to,
                                   const rte_ether_addr& to_mac) noexcept {
  const bool to_all = to == ip_address{};
  const std::uint8_t flags = to_all ? nd_override : nd_solicited | nd_override;
  auto message = neighbour_message(config, nd_advertisement, flags, nd_target_address, target);
  return append_icmpv6(m, config, to_all ? group_mac(all_nodes) : to_mac, target,
                       to_all ? all_nodes : to, hops_on_link, {}, message);
}

namespace detail {

bool build_listener_report(rte_mbuf* m, const transmit_config& config,
                           const ip_address& group) noexcept {
  // The next header, the length, the router alert (RFC 2711) for MLD, and padding.
  constexpr std::array<unsigned char, 8> router_alert = {IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0};
  icmpv6_message h;
  h.type = mld_report;
  store_ipv6(h.target.data(), group);
  std::array<unsigned char, sizeof h> message;
  std::memcpy(message.data(), &h, sizeof h);
  return append_icmpv6(m, config, group_mac(group), link_local_of(config.mac), group, 1,
                       router_alert, message);
}

drop_reason build_udp_ipv6(rte_mbuf* m, const transmit_config& config, const rte_ether_addr& to_mac,
                           const endpoint& from, const endpoint& to) noexcept {
  const std::uint32_t payload = rte_pktmbuf_pkt_len(m);
  if (std::uint64_t{payload} + udp_ipv6_overhead > config.mtu)
    return drop_reason::datagram_too_long;
  const auto room = static_cast<std::uint16_t>(config.l2_size() + udp_ipv6_overhead);
  if (rte_pktmbuf_headroom(m) < room) return drop_reason::no_headroom;
  const auto length = static_cast<std::uint16_t>(payload + sizeof(rte_udp_hdr));
  const rte_ipv6_hdr ip =
      header(from.address, to.address, IPPROTO_UDP, length, is_multicast(to.address) ? 1 : hops);
  rte_udp_hdr udp{};
  udp.src_port = rte_cpu_to_be_16(from.port);
  udp.dst_port = rte_cpu_to_be_16(to.port);
  udp.dgram_len = rte_cpu_to_be_16(length);
  std::uint64_t sum = pseudo_sum(ip, IPPROTO_UDP, length);
  m->ol_flags &= ~RTE_MBUF_F_TX_OFFLOAD_MASK; // the mbuf may have been received
  if (config.tx_flags != 0) {
    // The pseudo-header's sum, to which the device adds the rest.
    udp.dgram_cksum = fold_checksum(sum);
    m->l2_len = config.l2_size();
    m->l3_len = sizeof ip;
    m->l4_len = sizeof udp;
    m->ol_flags |= RTE_MBUF_F_TX_IPV6 | (config.tx_flags & RTE_MBUF_F_TX_L4_MASK);
  } else {
    std::array<unsigned char, sizeof udp> udp_bytes;
    std::memcpy(udp_bytes.data(), &udp, sizeof udp);
    sum = add_checksum_of(add_checksum(sum, udp_bytes.data(), udp_bytes.size()), m);
    const auto check = static_cast<std::uint16_t>(~fold_checksum(sum));
    udp.dgram_cksum = check == 0 ? 0xffff : check; // 0 would mean that there is no checksum
  }
  char* at = put_ethernet(rte_pktmbuf_prepend(m, room), config, to_mac, RTE_ETHER_TYPE_IPV6);
  std::memcpy(at, &ip, sizeof ip);
  std::memcpy(at + sizeof ip, &udp, sizeof udp);
  return drop_reason::none;
}

void make_echo_reply_ipv6(rte_mbuf* m, const packet_view& view,
                          const transmit_config& config) noexcept {
  auto* data = rte_pktmbuf_mtod(m, unsigned char*);
  rte_ipv6_hdr ip;
  std::memcpy(&ip, data + view.l2_size, sizeof ip);
  std::array<unsigned char, sizeof(rte_ether_hdr) + sizeof(rte_vlan_hdr)> l2;
  std::memcpy(l2.data(), data, view.l2_size);
  // The reply has no extension headers, so its headers move up to the message.
  const std::size_t extensions = view.ip_size - sizeof ip;
  data =
      reinterpret_cast<unsigned char*>(rte_pktmbuf_adj(m, static_cast<std::uint16_t>(extensions)));
  std::memcpy(data, l2.data(), view.l2_size);
  rte_ether_hdr eth;
  std::memcpy(&eth, data, sizeof eth);
  eth.dst_addr = eth.src_addr;
  eth.src_addr = config.mac;
  std::memcpy(data, &eth, sizeof eth);
  constexpr std::uint32_t ecn = 3u << 20, label = 0xF'FFFF; // both belong to the request only
  const rte_be32_t flow = ip.vtc_flow & ~rte_cpu_to_be_32(ecn | label);
  ip = header(view.destination, view.source.address, IPPROTO_ICMPV6, view.payload.size(), hops);
  ip.vtc_flow = flow;
  std::memcpy(data + view.l2_size, &ip, sizeof ip);
  unsigned char* icmp = data + view.l2_size + sizeof ip;
  icmp[0] = icmpv6_echo_reply;
  icmp[2] = icmp[3] = 0;
  const auto check = static_cast<std::uint16_t>(~fold_checksum(add_checksum(
      pseudo_sum(ip, IPPROTO_ICMPV6, view.payload.size()), icmp, view.payload.size())));
  std::memcpy(icmp + 2, &check, sizeof check);
  // Padding behind the packet is removed.
  const std::size_t size = view.l2_size + sizeof ip + view.payload.size();
  (void)rte_pktmbuf_trim(m, static_cast<std::uint16_t>(rte_pktmbuf_data_len(m) - size));
}

} // namespace detail

} // namespace chainring::net
