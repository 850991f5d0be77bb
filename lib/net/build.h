// SPDX-License-Identifier: BSD-3-Clause
/// Building frames: headers in front of payloads, and answers made in place of requests.
///
/// The functions are thread-safe on different mbufs and allocate nothing. IPv4 packets leave with
/// DF set, TTL 64 and no options; a datagram to a group leaves with TTL 1, so that no router
/// forwards it.
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
};

/// Puts Ethernet, IPv4 and UDP headers with checksums in front of the payload in `m`, which may
/// have any number of segments. Ports and addresses are in host byte order. `id` is the IPv4
/// identification. Returns `none`, or datagram_too_long or no_headroom with `m` unchanged. The data
/// of the first segment must belong to this mbuf alone, because the headers are written in front of
/// it.
[[nodiscard]] drop_reason build_udp(rte_mbuf* m, const transmit_config& config,
                                    const rte_ether_addr& to_mac, const endpoint& from,
                                    const endpoint& to, std::uint16_t id = 0) noexcept;

/// Turns an echo request that classify() accepted into its echo reply: the request's data and DSCP
/// stay (RFC 1122, 3.2.2.6), its addresses are exchanged, and the rest of the header is new. `id`
/// is the IPv4 identification. Padding behind the packet is removed.
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

/// Fills the empty mbuf `m` with a report that the interface is a member of `group`. Returns false
/// when the mbuf is too small.
[[nodiscard]] bool build_membership_report(rte_mbuf* m, const transmit_config& config,
                                           const interface_config& own,
                                           const ip_address& group) noexcept;

/// The Ethernet address that an IPv4 multicast group or broadcast address maps to (RFC 1112).
[[nodiscard]] rte_ether_addr group_mac(std::uint32_t ipv4) noexcept;

} // namespace chainring::net
