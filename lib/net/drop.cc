// SPDX-License-Identifier: BSD-3-Clause
#include "net/drop.h"

namespace chainring::net {

namespace {

// The switch has no default, so that the compiler warns about a reason without a name.
constexpr const char* name_of(drop_reason reason) noexcept {
  // clang-format off
  switch (reason) {
  case drop_reason::none: return "none";
  case drop_reason::not_contiguous: return "not_contiguous";
  case drop_reason::frame_short: return "frame_short";
  case drop_reason::vlan_tagged: return "vlan_tagged";
  case drop_reason::vlan_untagged: return "vlan_untagged";
  case drop_reason::mac_source: return "mac_source";
  case drop_reason::mac_destination: return "mac_destination";
  case drop_reason::ethertype: return "ethertype";
  case drop_reason::arp_malformed: return "arp_malformed";
  case drop_reason::arp_elsewhere: return "arp_elsewhere";
  case drop_reason::arp_conflict: return "arp_conflict";
  case drop_reason::ip_version: return "ip_version";
  case drop_reason::ip_header_length: return "ip_header_length";
  case drop_reason::ip_total_length: return "ip_total_length";
  case drop_reason::ip_checksum: return "ip_checksum";
  case drop_reason::ip_fragment: return "ip_fragment";
  case drop_reason::ip_source: return "ip_source";
  case drop_reason::ip_destination: return "ip_destination";
  case drop_reason::ip_extension: return "ip_extension";
  case drop_reason::ip_option: return "ip_option";
  case drop_reason::ip_protocol: return "ip_protocol";
  case drop_reason::udp_length: return "udp_length";
  case drop_reason::udp_source: return "udp_source";
  case drop_reason::udp_destination: return "udp_destination";
  case drop_reason::udp_checksum: return "udp_checksum";
  case drop_reason::udp_checksum_partial: return "udp_checksum_partial";
  case drop_reason::icmp_malformed: return "icmp_malformed";
  case drop_reason::icmp_other: return "icmp_other";
  case drop_reason::igmp_other: return "igmp_other";
  case drop_reason::nd_malformed: return "nd_malformed";
  case drop_reason::nd_elsewhere: return "nd_elsewhere";
  case drop_reason::nd_conflict: return "nd_conflict";
  case drop_reason::fragment_refused: return "fragment_refused";
  case drop_reason::fragment_lost: return "fragment_lost";
  case drop_reason::datagram_too_long: return "datagram_too_long";
  case drop_reason::no_headroom: return "no_headroom";
  case drop_reason::unreachable: return "unreachable";
  case drop_reason::unresolved: return "unresolved";
  case drop_reason::pending_full: return "pending_full";
  case drop_reason::transmit_full: return "transmit_full";
  case drop_reason::transmit_stalled: return "transmit_stalled";
  case drop_reason::no_mbuf: return "no_mbuf";
  }
  // clang-format on
  return nullptr;
}

constexpr std::size_t names() noexcept {
  std::size_t n = 0;
  while (n < 256 && name_of(static_cast<drop_reason>(n)) != nullptr)
    ++n;
  return n;
}
static_assert(names() == drop_reason_count,
              "drop_reason_count must be computed from the last reason");

} // namespace

const char* to_string(drop_reason reason) noexcept {
  const char* name = name_of(reason);
  return name != nullptr ? name : "unknown";
}

} // namespace chainring::net
