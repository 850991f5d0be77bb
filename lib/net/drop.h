// SPDX-License-Identifier: BSD-3-Clause
/// Why a packet went no further, and how many did.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"
#include "../base/statistic.h"

namespace chainring::net {

enum class drop_reason : std::uint8_t {
  none,
  // received frames, in the order they are checked
  not_contiguous,       ///< several segments that do not fit one mbuf: give the pool larger ones
                        ///< (also sent, by a port that takes one segment only)
  frame_short,          ///< ends inside a header
  vlan_tagged,          ///< carries a VLAN id; priority tags (id 0) are read past
  mac_source,           ///< the source MAC is a group address or zero
  mac_destination,      ///< unicast to somebody else
  ethertype,            ///< neither IPv4 nor ARP
  arp_malformed,        ///< not Ethernet/IPv4, or a reserved operation or address
  arp_elsewhere,        ///< about addresses that are not ours: brings a known neighbour up to date
  arp_conflict,         ///< somebody else claims one of our addresses
  ip_version,           ///< not version 4
  ip_header_length,     ///< IHL below 5 or past the packet's end
  ip_total_length,      ///< total length shorter than the header or longer than the frame
  ip_checksum,          ///< header checksum
  ip_fragment,          ///< fragments are refused
  ip_source,            ///< network 0, loopback, group, broadcast, network or our own address
  ip_destination,       ///< not ours, not a group we joined
  ip_protocol,          ///< neither UDP nor ICMP
  udp_length,           ///< below 8 or past the IP packet's end
  udp_source,           ///< source port 0 cannot be answered
  udp_destination,      ///< not our port
  udp_checksum,         ///< wrong
  udp_checksum_partial, ///< left to hardware by the sender (a veth peer): `ethtool -K DEV tx off`
  icmp_malformed,       ///< too short, wrong checksum, or IP options on an echo request
  icmp_other,           ///< not an echo request to our own address
  // transmission
  datagram_too_long, ///< longer than the MTU: nothing is fragmented (echo replies too)
  no_headroom,       ///< the mbuf has no room for headers in front of the payload
  unreachable,       ///< off the link, and no gateway
  unresolved,        ///< no answer to the ARP requests
  pending_full,      ///< too many packets already wait for ARP answers
  transmit_full,     ///< the transmit buffer was full (ARP and ICMP answers only)
  transmit_stalled,  ///< the device took nothing, and its link was down
  no_mbuf,           ///< the pool had no mbuf for an ARP request; stays the last
};
/// `none` counts as one. drop.cc does not compile with a reason that has no name or is past the
/// end.
inline constexpr std::size_t drop_reason_count = static_cast<std::size_t>(drop_reason::no_mbuf) + 1;

/// A word such as "ip_checksum", fit for a counter's name.
[[nodiscard]] const char* to_string(drop_reason reason) noexcept;

/// One worker's counters: one writer, any number of readers, which add up the workers' values.
class alignas(cacheline_size) drop_counters {
 public:
  void count(drop_reason reason, std::uint64_t n = 1) noexcept {
    counts_[static_cast<std::size_t>(reason)] += n;
  }
  [[nodiscard]] std::uint64_t operator[](drop_reason reason) const noexcept {
    return counts_[static_cast<std::size_t>(reason)].value();
  }
  /// All but `none`.
  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t sum = 0;
    for (std::size_t i = 1; i < drop_reason_count; ++i)
      sum += counts_[i].value();
    return sum;
  }

 private:
  std::array<statistic, drop_reason_count> counts_{};
};

} // namespace chainring::net
