// SPDX-License-Identifier: BSD-3-Clause
/// The parser of received frames: it says what a frame is, or why it is dropped.
///
/// classify() validates everything up to the UDP payload and never reads past the data, whatever
/// the length fields say. It checks Ethernet; IPv4 (version, header length, total length against
/// the frame's, header checksum, a valid source, an own destination; options are
/// skipped); UDP (length against the IP packet's, checksum unless zero, an own port); ICMP echo
/// requests to an own address; TCP to an own address where the interface has it, up to the IP
/// header; IGMP queries where the port has joined a group; and ARP. A frame may
/// be longer than its IP packet (padding), and an IP packet longer than its UDP datagram; the
/// octets behind are ignored. A checksum is not computed when the mbuf's flags say that the device
/// found it good (GOOD) or knows it to be good without one (NONE). A port of a VLAN accepts the
/// frames that carry its id; any other port accepts frames without a tag and skips a priority tag
/// (VLAN id 0).
///
/// Where the interface has IPv6, its packets are checked in the same way (parse_ipv6.cc): the
/// header, extension headers, a valid source, an own destination, and UDP, whose checksum must be
/// there, or TCP; ICMPv6 echo requests, neighbour discovery and queries for members. Hop-by-hop and
/// destination options are skipped when the sender allows it, and a routing header when nothing of
/// its route is left.
///
/// classify() is thread-safe on different mbufs and allocates nothing. It does not change the mbuf,
/// except that it moves the data of several segments into the first.
///
///     packet_view v = classify(filter, m);
///     if (v.kind == packet_kind::udp) handle(v.source, v.payload);
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <span>

#include "address.h"
#include "drop.h"
#include "port.h"

namespace chainring::net {

enum class packet_kind : std::uint8_t {
  dropped,
  udp,
  icmp_echo,
  arp,
  neighbour_solicitation,
  neighbour_advertisement,
  membership_query,
  fragment, ///< of a UDP datagram to an own address, for reassembly (fragments.h)
  /// A packet of TCP to an own address, of which nothing behind the IP header was read. It needs
  /// interface_config::tcp.
  tcp,
};

/// An IGMP message of version 1 or 2 (RFC 2236).
struct igmp_message {
  std::uint8_t type = 0;
  std::uint8_t response_tenths = 0; ///< in which a query is to be answered; 0 means version 1
  rte_be16_t checksum = 0;
  rte_be32_t group = 0; ///< 0 in a query for every group
};
inline constexpr std::uint8_t igmp_query = 0x11, igmp_report_v2 = 0x16;
inline constexpr std::uint32_t all_hosts = 0xE0000001; ///< 224.0.0.1, which every host has joined

/// A neighbour solicitation or advertisement, or a multicast listener query or report (RFC 4861,
/// RFC 2710), without its options.
struct icmpv6_message {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  rte_be16_t checksum = 0;
  /// The flags of an advertisement in the first octet, or the milliseconds for the answer to a
  /// query in the first two.
  rte_be32_t rest = 0;
  std::array<std::uint8_t, 16> target{}; ///< the neighbour, or the group
};
inline constexpr std::uint8_t icmpv6_echo_request = 128, icmpv6_echo_reply = 129, mld_query = 130,
                              mld_report = 131, nd_solicitation = 135, nd_advertisement = 136;
inline constexpr std::uint8_t nd_source_address = 1, nd_target_address = 2; ///< types of options
inline constexpr std::uint8_t nd_solicited = 0x40, nd_override = 0x20;      ///< flags

/// The own addresses and ports, made once from a configuration and the port's MAC.
struct receive_filter {
  interface_config config;
  rte_ether_addr mac{};

  [[nodiscard]] bool is_own(std::uint32_t ipv4) const noexcept {
    return ipv4 - config.address.address < config.address_count;
  }
  [[nodiscard]] bool is_own_ipv6(const ip_address& a) const noexcept {
    return a != ip_address{} && (a == config.address6.address || a == link_local_of(mac));
  }
  /// The own address from which a packet to `to` is sent, unless it answers one to another address:
  /// the first IPv4 address; for IPv6 the link-local address on the link, or where there is no
  /// other one.
  [[nodiscard]] ip_address own_address(const ip_address& to) const noexcept {
    if (to.is_ipv4()) return config.address.address;
    constexpr std::uint64_t scope = 0xF'0000'0000'0000, on_link = 0x2'0000'0000'0000;
    const bool near = is_link_local(to) || (is_multicast(to) && (to.high & scope) <= on_link);
    return near || config.address6.address == ip_address{} ? link_local_of(mac)
                                                           : config.address6.address;
  }
  /// The own address from which an answer to a client is sent.
  [[nodiscard]] ip_address own_address(const endpoint& to) const noexcept {
    const ip_address own = own_address(to.address);
    if (!to.other_own || config.address6.address == ip_address{}) return own;
    const ip_address link_local = link_local_of(mac);
    return own == link_local ? config.address6.address : link_local;
  }
};

struct packet_view {
  packet_kind kind = packet_kind::dropped;
  /// Set when `kind` is `dropped`. The members that were read before the drop are set; all of them
  /// are for arp_elsewhere.
  drop_reason reason = drop_reason::none;
  /// The packet was sent to a broadcast or multicast address (udp), or the frame was (arp). An
  /// answer to it must not go to the group.
  bool to_group = false;
  std::uint8_t l2_size = 0;        ///< octets in front of the IP or ARP header, 14 or 18
  std::uint8_t nd_flags = 0;       ///< of a neighbour_advertisement
  std::uint16_t arp_operation = 0; ///< RTE_ARP_OP_REQUEST or _REPLY
  std::uint16_t response_ms = 0;   ///< for a membership_query the time for the answer
  /// Octets of the IP header with its options or extension headers; set for all kinds of IPv6, and
  /// for an IPv4 fragment and tcp.
  std::uint16_t ip_size = 0;
  /// The frame's source; for arp the sender in the message, and for neighbour discovery the address
  /// in the option, or zero when there is none.
  rte_ether_addr source_mac{};
  endpoint source{}; ///< the sender; for all kinds but udp without a port
  /// The destination address; for arp and neighbour discovery the target's, and for a
  /// membership_query the group that is asked for (0.0.0.0 or :: for every group).
  ip_address destination{};
  std::uint16_t destination_port = 0;
  /// For udp the payload of the datagram, for icmp_echo the ICMP message, and for tcp the segment
  /// with its header, in the mbuf; else empty.
  std::span<const std::byte> payload{};
};

/// Says what the frame is. The link-local address of a port with IPv6 is made from `filter.mac`.
[[nodiscard]] packet_view classify(const receive_filter& filter, rte_mbuf* m) noexcept;
/// Does the same into `view`, whatever it holds, for code in which the copy of a view counts.
void classify(const receive_filter& filter, rte_mbuf* m, packet_view& view) noexcept;

/// Adds the 16-bit words of `n` octets, as they stand in memory, to `sum` and returns the sum,
/// which fold_checksum() folds. The sum is in one's complement arithmetic of 64 bits. An odd last
/// octet counts as a word with a zero behind it. The function is inline, because adding the few
/// words of a header costs less than a call.
[[nodiscard]] inline std::uint64_t add_checksum(std::uint64_t sum, const void* data,
                                                std::size_t n) noexcept {
  const auto* at = static_cast<const unsigned char*>(data);
  // 2^64 - 1 is a multiple of 2^16 - 1, so words of 16, 32 and 64 bits may be added, as long as
  // each carry out of the 64 bits is added to the lowest bit.
  const auto add = [&sum](std::uint64_t w) {
    sum += w;
    sum += sum < w ? 1 : 0;
  };
  std::uint64_t eight;
  for (; n >= 32; n -= 32, at += 32) {
    for (unsigned i = 0; i < 4; ++i) {
      std::memcpy(&eight, at + 8 * i, 8);
      add(eight);
    }
  }
  for (; n >= 8; n -= 8, at += 8) {
    std::memcpy(&eight, at, 8);
    add(eight);
  }
  if (n >= 4) {
    std::uint32_t four;
    std::memcpy(&four, at, 4);
    add(four);
    at += 4;
    n -= 4;
  }
  if (n >= 2) {
    std::uint16_t two;
    std::memcpy(&two, at, 2);
    add(two);
    at += 2;
    n -= 2;
  }
  if (n != 0) {
    std::uint16_t last = 0;
    std::memcpy(&last, at, 1);
    add(last);
  }
  return sum;
}

/// Folds a sum to 16 bits without complementing it. As a word in memory it is in network order.
[[nodiscard]] inline std::uint16_t fold_checksum(std::uint64_t sum) noexcept {
  sum = (sum & 0xffffffff) + (sum >> 32); // below 2^33
  sum = (sum & 0xffff) + (sum >> 16);     // at most 0x2fffe
  sum = (sum & 0xffff) + (sum >> 16);     // at most 0x10001
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

namespace detail {

/// Reads the UDP datagram of an IP packet, whose pseudo-header has the sum `pseudo` without the
/// length. `n` is the number of octets behind the IP header.
drop_reason read_udp(const interface_config& c, const rte_mbuf* m, packet_view& v,
                     const std::byte* data, std::size_t n, std::uint64_t pseudo) noexcept;
/// Checks a fragment with `n` octets of a packet of the protocol `next`.
drop_reason read_fragment(packet_view& v, std::uint8_t next, std::size_t offset, bool more,
                          std::size_t n) noexcept;
/// Reads an IPv6 packet into `v`, which holds what the Ethernet header says.
drop_reason read_ipv6(const receive_filter& filter, const rte_mbuf* m, packet_view& v,
                      const std::byte* data, std::size_t n) noexcept;

} // namespace detail

} // namespace chainring::net
