// SPDX-License-Identifier: BSD-3-Clause
/// Received frames: what one is, or why it is dropped.
///
/// classify() validates everything up to the UDP payload and never reads past the data, whatever
/// the lengths say: Ethernet, IPv4 (version, header length, total length against the frame's,
/// header checksum, no fragments, options skipped, sane source, destination ours), UDP (length
/// against the IP packet's, checksum unless zero, port ours), ICMP echo requests to us, ARP. A
/// frame may be longer than its IP packet (padding), and an IP packet longer than its UDP datagram;
/// what is behind is ignored. A checksum that the mbuf's flags say the device found good (GOOD), or
/// knows to be good without one (NONE), is not computed; otherwise it is. Priority tags (VLAN id 0)
/// are read past, other VLANs dropped.
///
/// Thread-safe on different mbufs; no allocation. The mbuf stays as it was, but for several
/// segments, which are moved into the first.
///
///     packet_view v = classify(filter, m);
///     if (v.kind == packet_kind::udp) handle(v.source, v.payload);
#pragma once
#include <cstddef>
#include <cstdint>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <span>

#include "address.h"
#include "drop.h"
#include "port.h"

namespace chainring::net {

enum class packet_kind : std::uint8_t { dropped, udp, icmp_echo, arp };

/// What is ours: made once from a configuration and a port's MAC.
struct receive_filter {
  interface_config config;
  rte_ether_addr mac{};

  [[nodiscard]] bool ours(std::uint32_t ipv4) const noexcept {
    return ipv4 - config.address.address < config.address_count;
  }
};

struct packet_view {
  packet_kind kind = packet_kind::dropped;
  drop_reason reason = drop_reason::none; ///< set where kind is `dropped`; what was read before is
                                          ///< there then, arp_elsewhere has all
  /// To a broadcast or multicast address (udp), or broadcast at Ethernet (arp).
  bool to_group = false;
  std::uint8_t l2_size = 0;        ///< octets in front of the IPv4 or ARP header: 14 or 18
  std::uint16_t arp_operation = 0; ///< RTE_ARP_OP_REQUEST or _REPLY
  rte_ether_addr source_mac{};     ///< of the frame; for arp the sender's of the message
  endpoint source{};               ///< udp: the sender; icmp_echo and arp: only the address
  std::uint32_t destination = 0;   ///< address; arp: the target's
  std::uint16_t destination_port = 0;
  /// udp: the datagram's payload, in the mbuf. icmp_echo: the ICMP message. Else empty.
  std::span<const std::byte> payload{};
};

[[nodiscard]] packet_view classify(const receive_filter& filter, rte_mbuf* m) noexcept;

/// Sum of the 16-bit words of `n` octets as they stand in memory, added to `sum`, not folded to the
/// end; an odd last octet counts as one with a zero behind it. See fold_checksum().
[[nodiscard]] std::uint64_t add_checksum(std::uint64_t sum, const void* data,
                                         std::size_t n) noexcept;
/// Folds to 16 bits, not complemented. As a 16-bit word in memory it is in network order.
[[nodiscard]] std::uint16_t fold_checksum(std::uint64_t sum) noexcept;

} // namespace chainring::net
