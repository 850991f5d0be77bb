// SPDX-License-Identifier: BSD-3-Clause
/// The reasons why a packet is dropped, and counters for them.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"
#include "../base/statistic.h"

namespace chainring::net {

enum class drop_reason : std::uint8_t {
  none,
  // These reasons apply to received frames; they are checked in this order.
  /// Several segments do not fit one mbuf; give the pool larger buffers (also a frame to send, at a
  /// port that sends one segment only).
  not_contiguous,
  frame_short,      ///< the frame ends inside a header
  vlan_tagged,      ///< the frame is of another VLAN than the port, or of one where it has none
  vlan_untagged,    ///< the frame has no VLAN id, and the port belongs to a VLAN
  mac_source,       ///< the source MAC is a group address or zero
  mac_destination,  ///< the frame is unicast to another host
  ethertype,        ///< the frame is neither IPv4 nor ARP, nor IPv6 where the port has it
  arp_malformed,    ///< ARP not for Ethernet and IPv4, or with a reserved operation or address
  arp_elsewhere,    ///< ARP for another host; it updates the entry of a known neighbour
  arp_conflict,     ///< another host claims one of the own addresses
  ip_version,       ///< the version in the IP header is not the one of the frame's type
  ip_header_length, ///< IHL is below 5 or points past the end of the packet
  ip_total_length,  ///< the total length is below the header's or above the frame's
  ip_checksum,      ///< the header checksum is wrong
  ip_fragment,      ///< a fragment that is malformed, or not of a UDP datagram
  /// The source is network 0, unspecified, loopback, a group, broadcast, the network or an own
  /// address.
  ip_source,
  ip_destination, ///< the destination is neither an own address nor a joined group
  /// IPv6 extension headers that are malformed or in a wrong place, a routing header with a route
  /// left, or more than eight headers.
  ip_extension,
  ip_option,            ///< an IPv6 option that is not known here and must not be skipped
  ip_protocol,          ///< the packet is neither UDP nor ICMP
  udp_length,           ///< the UDP length is below 8 or goes past the end of the IP packet
  udp_source,           ///< the source port is 0, which cannot be answered
  udp_destination,      ///< the destination port is not an own port
  udp_checksum,         ///< the UDP checksum is wrong
  udp_checksum_partial, ///< a veth peer left the UDP checksum to hardware: `ethtool -K DEV tx off`
  icmp_malformed,       ///< ICMP that is too short, has a wrong checksum or IP options
  icmp_other,           ///< ICMP other than an echo request to an own address
  igmp_other,           ///< IGMP that is malformed, no query, or not of the link
  nd_malformed,         ///< neighbour discovery that RFC 4861 says to discard
  nd_elsewhere,         ///< neighbour discovery for another host
  nd_conflict,          ///< another host claims one of the own IPv6 addresses
  fragment_refused,     ///< a fragment that found no room, or contradicts those before it
  fragment_lost,        ///< a fragment whose datagram never became whole
  // These reasons apply to frames that are sent.
  datagram_too_long, ///< longer than the MTU and than what is sent in fragments
  no_headroom,       ///< the mbuf has no room for headers in front of the payload
  unreachable,       ///< the destination is off the link and there is no gateway
  unresolved,        ///< the requests for the neighbour's MAC were not answered
  pending_full,      ///< too many packets already wait for neighbours to answer
  transmit_full,     ///< the transmit buffer was full (the link's own requests and answers only)
  transmit_stalled,  ///< the device accepted no packet while its link was down
  no_mbuf,           ///< the pool had no mbuf for a frame of the link; it must stay the last reason
};
/// The number of reasons, with `none`. drop.cc does not compile when a reason has no name or stands
/// behind the last one.
inline constexpr std::size_t drop_reason_count = static_cast<std::size_t>(drop_reason::no_mbuf) + 1;

/// The reason as a word such as "ip_checksum", which fits into the name of a counter.
[[nodiscard]] const char* to_string(drop_reason reason) noexcept;

/// The counters of one worker. It is their only writer; any number of readers add up the values of
/// all workers.
class alignas(cacheline_size) drop_counters {
 public:
  void count(drop_reason reason, std::uint64_t n = 1) noexcept {
    counts_[static_cast<std::size_t>(reason)] += n;
  }
  [[nodiscard]] std::uint64_t operator[](drop_reason reason) const noexcept {
    return counts_[static_cast<std::size_t>(reason)].value();
  }
  /// The sum over all reasons except `none`.
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
