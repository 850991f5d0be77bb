// SPDX-License-Identifier: BSD-3-Clause
/// Headers in front of payloads, and answers made in place.
///
/// Thread-safe on different mbufs; no allocation. IPv4 packets leave with DF set, TTL 64 and no
/// options.
#pragma once
#include <cstdint>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "address.h"
#include "drop.h"
#include "parse.h"

namespace chainring::net {

/// What every frame sent through a port has in common.
struct transmit_config {
  rte_ether_addr mac{};
  std::uint16_t mtu = 1500;
  /// port::tx_flags(): checksums left to the device. 0: all in software.
  std::uint64_t tx_flags = 0;
};

/// Puts Ethernet, IPv4 and UDP headers in front of the payload that `m` (of any number of segments)
/// holds, checksums included. Ports and addresses in host order. `id` is the IPv4 identification.
/// Returns `none`, or datagram_too_long or no_headroom with `m` unchanged. The first segment's data
/// must be this mbuf's alone: the headers are written in front of it.
[[nodiscard]] drop_reason build_udp(rte_mbuf* m, const transmit_config& config,
                                    const rte_ether_addr& to_mac, const endpoint& from,
                                    const endpoint& to, std::uint16_t id = 0) noexcept;

/// Makes the echo reply of an echo request that classify() accepted: the request's data and DSCP
/// (RFC 1122, 3.2.2.6), its addresses the other way round, a header of our own otherwise. `id` is
/// the IPv4 identification. Padding behind the packet goes.
void make_echo_reply(rte_mbuf* m, const packet_view& view, const transmit_config& config,
                     std::uint16_t id = 0) noexcept;

/// Makes, of an ARP request that classify() accepted, the reply that `view.destination` is at our
/// MAC. What was behind the request goes.
void make_arp_reply(rte_mbuf* m, const packet_view& view, const transmit_config& config) noexcept;

/// Fills the empty mbuf `m` with an ARP request for `target` from `own`; with target == own it is
/// the gratuitous announcement. `to` is the broadcast address, or a neighbour's to be confirmed.
/// False: the mbuf is too small.
[[nodiscard]] bool build_arp_request(rte_mbuf* m, const transmit_config& config, std::uint32_t own,
                                     std::uint32_t target, const rte_ether_addr& to) noexcept;

/// The Ethernet address that an IPv4 multicast group or broadcast address maps to (RFC 1112).
[[nodiscard]] rte_ether_addr group_mac(std::uint32_t ipv4) noexcept;

} // namespace chainring::net
