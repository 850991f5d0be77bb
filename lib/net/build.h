// SPDX-License-Identifier: BSD-3-Clause
/// Building frames: headers in front of payloads, and answers made in place of requests.
///
/// The functions are thread-safe on different mbufs and allocate nothing. IPv4 packets leave with
/// DF set, TTL 64 and no options; a datagram to a group leaves with TTL 1, so that no router
/// forwards it. IPv6 packets have the same limit of hops and no extension headers, except for the
/// router alert that a membership report must have.
#pragma once
#include <cstdint>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "address.h"
#include "drop.h"
#include "parse.h"

namespace chainring::net {

/// What all frames that are sent through a port have in common.
struct transmit_config {
  rte_ether_addr mac{};
  std::uint16_t mtu = 1500;
  /// port::tx_flags(): the checksums that the device computes. 0 means that software computes all.
  std::uint64_t tx_flags = 0;
  std::uint16_t vlan = 0; ///< the VLAN whose tag the frames carry; 0 means no tag

  /// The octets in front of the IP or ARP header.
  [[nodiscard]] std::uint16_t l2_size() const noexcept {
    return static_cast<std::uint16_t>(sizeof(rte_ether_hdr) + (vlan != 0 ? vlan_tag_size : 0));
  }
  /// The longest UDP payload that fits into one packet to this address.
  [[nodiscard]] std::uint16_t payload_max(const ip_address& to) const noexcept {
    return static_cast<std::uint16_t>(mtu - (to.is_ipv4() ? udp_ip_overhead : udp_ipv6_overhead));
  }
};

/// Puts Ethernet, IP and UDP headers with checksums in front of the payload in `m`, which may have
/// any number of segments. Both addresses are IPv4, or both IPv6. `id` is the IPv4 identification.
/// Returns `none`, or datagram_too_long or no_headroom with `m` unchanged. The data of the first
/// segment must belong to this mbuf alone, because the headers are written in front of it.
[[nodiscard]] drop_reason build_udp(rte_mbuf* m, const transmit_config& config,
                                    const rte_ether_addr& to_mac, const endpoint& from,
                                    const endpoint& to, std::uint16_t id = 0) noexcept;

/// Puts an Ethernet header in front of the IPv4 or IPv6 packet in `m`. Returns `none`, or
/// no_headroom with `m` unchanged. The flags of `m` stay: they say which checksums the device fills
/// in.
[[nodiscard]] drop_reason build_frame(rte_mbuf* m, const transmit_config& config,
                                      const rte_ether_addr& to_mac) noexcept;

/// Turns an echo request that classify() accepted into its echo reply: the request's data and DSCP
/// stay (RFC 1122, 3.2.2.6), its addresses are exchanged, and the rest of the header is new. `id`
/// is the IPv4 identification. Padding behind the packet and IPv6 extension headers are removed.
void make_echo_reply(rte_mbuf* m, const packet_view& view, const transmit_config& config,
                     std::uint16_t id = 0) noexcept;

/// Turns an ARP request that classify() accepted into the reply that `view.destination` is at the
/// own MAC. Anything behind the request is removed.
void make_arp_reply(rte_mbuf* m, const packet_view& view, const transmit_config& config) noexcept;

/// Fills the empty mbuf `m` with an ARP request for `target` from `own`. With target == own it is a
/// gratuitous announcement. `to` is the broadcast address, or the MAC of a neighbour that is to
/// confirm its entry. Returns false when the mbuf is too small.
[[nodiscard]] bool build_arp_request(rte_mbuf* m, const transmit_config& config, std::uint32_t own,
                                     std::uint32_t target, const rte_ether_addr& to) noexcept;

/// Fills the empty mbuf `m` with a neighbour solicitation for `target` from the address `own`, or
/// with an advertisement of the own address `target`: to `to`, or to all nodes where `to` is
/// unspecified. Both return false when the mbuf is too small.
[[nodiscard]] bool build_neighbour_solicitation(rte_mbuf* m, const transmit_config& config,
                                                const ip_address& own,
                                                const ip_address& target) noexcept;
[[nodiscard]] bool build_neighbour_advertisement(rte_mbuf* m, const transmit_config& config,
                                                 const ip_address& target, const ip_address& to,
                                                 const rte_ether_addr& to_mac) noexcept;

/// Fills the empty mbuf `m` with a report that the interface is a member of `group`. Returns false
/// when the mbuf is too small.
[[nodiscard]] bool build_membership_report(rte_mbuf* m, const transmit_config& config,
                                           const interface_config& own,
                                           const ip_address& group) noexcept;

/// The Ethernet address that a multicast group or an IPv4 broadcast address maps to (RFC 1112,
/// RFC 2464).
[[nodiscard]] rte_ether_addr group_mac(const ip_address& group) noexcept;

namespace detail {

/// Writes the Ethernet header at `at`, with the port's VLAN tag if it has one, and returns where it
/// ends. There must be room for config.l2_size() octets.
char* put_ethernet(char* at, const transmit_config& config, const rte_ether_addr& to,
                   std::uint16_t type) noexcept;
/// The part of build_udp() for IPv6.
drop_reason build_udp_ipv6(rte_mbuf* m, const transmit_config& config, const rte_ether_addr& to_mac,
                           const endpoint& from, const endpoint& to) noexcept;
void make_echo_reply_ipv6(rte_mbuf* m, const packet_view& view,
                          const transmit_config& config) noexcept;
bool build_listener_report(rte_mbuf* m, const transmit_config& config,
                           const ip_address& group) noexcept;
/// Adds the words of all segments of `m` to `sum`, as add_checksum() does.
std::uint64_t add_checksum_of(std::uint64_t sum, const rte_mbuf* m) noexcept;

} // namespace detail

} // namespace chainring::net
