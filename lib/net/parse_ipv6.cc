// SPDX-License-Identifier: BSD-3-Clause
// The IPv6 part of the parser: the header, the extension headers and ICMPv6 (RFC 8200, 4443, 4861,
// 2710).
#include <cstring>
#include <rte_byteorder.h>
#include <rte_ip.h>

#include "net/parse.h"

namespace chainring::net::detail {

namespace {

constexpr unsigned extensions_max = 8;

/// Reads the options of a hop-by-hop or destination options header. Options that the sender allows
/// to be skipped are skipped (RFC 8200, 4.2).
drop_reason read_options(const std::byte* at, std::size_t n) noexcept {
  constexpr std::uint8_t pad1 = 0, must_be_known = 0xC0;
  for (std::size_t i = 2; i < n;) {
    const auto type = static_cast<std::uint8_t>(at[i]);
    if (type == pad1) {
      ++i;
      continue;
    }
    if (i + 2 > n) return drop_reason::ip_extension;
    i += 2 + static_cast<std::size_t>(at[i + 1]);
    if (i > n) return drop_reason::ip_extension;
    if ((type & must_be_known) != 0) return drop_reason::ip_option;
  }
  return drop_reason::none;
}

/// Skips extension headers. `next` is the type of the header at `at` and becomes the type of the
/// one that ends the chain; `skipped` is the number of octets in front of that.
drop_reason skip_extensions(const std::byte* at, std::size_t n, std::uint8_t& next,
                            std::size_t& skipped) noexcept {
  skipped = 0;
  for (unsigned i = 0;; ++i) {
    const bool options = next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS;
    if (!options && next != IPPROTO_ROUTING) return drop_reason::none;
    if (i == extensions_max || n - skipped < 8 || (next == IPPROTO_HOPOPTS && i != 0))
      return drop_reason::ip_extension;
    const std::byte* header = at + skipped;
    const std::size_t size = (static_cast<std::size_t>(header[1]) + 1) * 8;
    if (size > n - skipped) return drop_reason::ip_extension;
    if (options) {
      if (const drop_reason why = read_options(header, size); why != drop_reason::none) return why;
    } else if (header[3] != std::byte{0}) { // segments left
      return drop_reason::ip_extension;
    }
    next = static_cast<std::uint8_t>(header[0]);
    skipped += size;
  }
}

/// Reads the options of neighbour discovery, of which the link-layer address is kept in
/// v.source_mac. Returns false where RFC 4861 says to discard the message.
bool read_nd_options(packet_view& v, std::uint8_t wanted, const std::byte* at,
                     std::size_t n) noexcept {
  v.source_mac = {};
  while (n != 0) {
    if (n < 8) return false;
    const std::size_t size = static_cast<std::size_t>(at[1]) * 8;
    if (size == 0 || size > n) return false;
    if (static_cast<std::uint8_t>(at[0]) == wanted && size == 8) {
      std::memcpy(&v.source_mac, at + 2, RTE_ETHER_ADDR_LEN);
      if (!rte_is_unicast_ether_addr(&v.source_mac) || rte_is_zero_ether_addr(&v.source_mac))
        return false;
    }
    at += size;
    n -= size;
  }
  return true;
}

drop_reason read_neighbour(const receive_filter& filter, packet_view& v, const std::byte* at,
                           std::size_t n, std::uint8_t hops) noexcept {
  icmpv6_message h;
  const rte_ether_addr frame_source = v.source_mac;
  const ip_address to = v.destination;
  std::memcpy(&h, at, sizeof h);
  const ip_address target = load_ipv6(h.target.data());
  const bool asks = h.type == nd_solicitation, probe = v.source.address == ip_address{};
  if (hops != 255 || h.code != 0 || !is_unicast_ipv6(target) ||
      !read_nd_options(v, asks ? nd_source_address : nd_target_address, at + sizeof h,
                       n - sizeof h))
    return drop_reason::nd_malformed;
  const bool has_mac = !rte_is_zero_ether_addr(&v.source_mac);
  v.nd_flags = static_cast<std::uint8_t>(rte_be_to_cpu_32(h.rest) >> 24);
  // A probe for a duplicate has no source and no option, and goes to the group of its target. An
  // advertisement to a group answers nobody.
  if (asks ? probe && (has_mac || to != solicited_node(target))
           : probe || ((v.nd_flags & nd_solicited) != 0 && is_multicast(to)))
    return drop_reason::nd_malformed;
  v.destination = target;
  if (asks) {
    if (!filter.is_own_ipv6(target)) return drop_reason::nd_elsewhere;
    v.kind = packet_kind::neighbour_solicitation;
    return drop_reason::none;
  }
  if (filter.is_own_ipv6(target)) {
    const bool own = rte_is_same_ether_addr(&frame_source, &filter.mac) != 0;
    return own ? drop_reason::nd_elsewhere : drop_reason::nd_conflict;
  }
  if (!has_mac) return drop_reason::nd_elsewhere; // it confirms what is not kept apart here
  v.kind = packet_kind::neighbour_advertisement;
  return drop_reason::none;
}

drop_reason read_listener_query(packet_view& v, const std::byte* at, std::uint8_t hops) noexcept {
  icmpv6_message h;
  std::memcpy(&h, at, sizeof h);
  const ip_address group = load_ipv6(h.target.data());
  if (hops != 1 || !is_link_local(v.source.address) || !v.to_group ||
      (group != ip_address{} && !is_multicast(group)))
    return drop_reason::icmp_other;
  v.destination = group;
  v.response_ms = static_cast<std::uint16_t>(rte_be_to_cpu_32(h.rest) >> 16);
  v.kind = packet_kind::membership_query;
  return drop_reason::none;
}

drop_reason read_icmpv6(const receive_filter& filter, packet_view& v, const std::byte* at,
                        std::size_t n, std::uint64_t pseudo, std::uint8_t hops) noexcept {
  if (n < 8 || fold_checksum(add_checksum(pseudo + rte_cpu_to_be_32(static_cast<std::uint32_t>(n)),
                                          at, n)) != 0xffff)
    return drop_reason::icmp_malformed;
  const auto type = static_cast<std::uint8_t>(at[0]);
  switch (type) {
  case icmpv6_echo_request:
    if (at[1] != std::byte{0} || v.to_group || v.source.address == ip_address{})
      return drop_reason::icmp_other;
    v.kind = packet_kind::icmp_echo;
    v.payload = {at, n};
    return drop_reason::none;
  case nd_solicitation:
  case nd_advertisement:
    if (n < sizeof(icmpv6_message)) return drop_reason::nd_malformed;
    return read_neighbour(filter, v, at, n, hops);
  case mld_query:
    if (n < sizeof(icmpv6_message)) return drop_reason::icmp_malformed;
    return read_listener_query(v, at, hops);
  default:
    return drop_reason::icmp_other;
  }
}

} // namespace

drop_reason read_fragment(packet_view& v, std::uint8_t next, std::size_t offset, bool more,
                          std::size_t n) noexcept {
  if (next != IPPROTO_UDP || n == 0 || (more && n % 8 != 0) || v.ip_size + offset + n > 65535)
    return drop_reason::ip_fragment;
  v.kind = packet_kind::fragment;
  return drop_reason::none;
}

drop_reason read_ipv6(const receive_filter& filter, const rte_mbuf* m, packet_view& v,
                      const std::byte* data, std::size_t n) noexcept {
  const interface_config& c = filter.config;
  rte_ipv6_hdr ip;
  if (n < sizeof ip) return drop_reason::frame_short;
  std::memcpy(&ip, data, sizeof ip);
  if (rte_be_to_cpu_32(ip.vtc_flow) >> 28 != 6) return drop_reason::ip_version;
  const std::size_t total = sizeof ip + rte_be_to_cpu_16(ip.payload_len);
  if (total > n || total == sizeof ip) return drop_reason::ip_total_length;
  const ip_address from = load_ipv6(ip.src_addr), to = load_ipv6(ip.dst_addr);
  v.source = {from, 0, c.interface_id};
  v.destination = to;
  const bool nameless = from == ip_address{}; // only a probe for a duplicate address is
  if ((!nameless && !is_unicast_ipv6(from)) || filter.is_own_ipv6(from))
    return drop_reason::ip_source;
  const ip_address link_local = link_local_of(filter.mac);
  const bool group =
      to == all_nodes || to == solicited_node(link_local) ||
      (c.address6.address != ip_address{} && to == solicited_node(c.address6.address)) ||
      (c.multicast_group6 != ip_address{} && to == c.multicast_group6);
  // A unicast address in a broadcast frame is a probe, while a group in a unicast frame is valid.
  if (!group && (!filter.is_own_ipv6(to) || v.to_group)) return drop_reason::ip_destination;
  v.to_group = v.to_group || group;
  v.source.other_own = !group && to != filter.own_address(from);
  data += sizeof ip;
  n = total - sizeof ip;
  std::uint8_t next = ip.proto;
  std::size_t skipped = 0;
  if (const drop_reason why = skip_extensions(data, n, next, skipped); why != drop_reason::none)
    return why;
  v.ip_size = static_cast<std::uint16_t>(sizeof ip + skipped);
  data += skipped;
  n -= skipped;
  if (next == IPPROTO_FRAGMENT) {
    rte_ipv6_fragment_ext f;
    if (n < sizeof f) return drop_reason::ip_extension;
    std::memcpy(&f, data, sizeof f);
    const std::uint16_t place = rte_be_to_cpu_16(f.frag_data);
    v.ip_size = static_cast<std::uint16_t>(v.ip_size + sizeof f);
    data += sizeof f;
    n -= sizeof f;
    next = f.next_header;
    const std::size_t offset = place & 0xFFF8u;
    const bool more = (place & RTE_IPV6_EHDR_MF_MASK) != 0;
    if (nameless) return drop_reason::ip_source;
    if (offset != 0 || more) return read_fragment(v, next, offset, more, n);
    // A fragment header in a packet that is whole is skipped (RFC 6946).
  }
  // The sum is folded, so that words can be added to it without a carry.
  const std::uint64_t pseudo =
      std::uint64_t{fold_checksum(add_checksum(0, ip.src_addr, 2 * sizeof ip.src_addr))} +
      rte_cpu_to_be_16(next);
  if (next == IPPROTO_ICMPV6) return read_icmpv6(filter, v, data, n, pseudo, ip.hop_limits);
  if (nameless) return drop_reason::ip_source;
  if (next == IPPROTO_TCP && c.tcp && !v.to_group) {
    v.kind = packet_kind::tcp;
    v.payload = {data, n};
    return drop_reason::none;
  }
  if (next != IPPROTO_UDP) return drop_reason::ip_protocol;
  // The checksum is mandatory over IPv6 (RFC 8200, 8.1).
  if (n >= 8 && data[6] == std::byte{0} && data[7] == std::byte{0})
    return drop_reason::udp_checksum;
  return read_udp(c, m, v, data, n, pseudo);
}

} // namespace chainring::net::detail
