// SPDX-License-Identifier: BSD-3-Clause
#include "net/drop.h"

namespace chainring::net {

const char* to_string(drop_reason reason) noexcept {
  static constexpr const char* names[] = {"none",
                                          "not_contiguous",
                                          "frame_short",
                                          "vlan_tagged",
                                          "mac_source",
                                          "mac_destination",
                                          "ethertype",
                                          "arp_malformed",
                                          "arp_elsewhere",
                                          "arp_conflict",
                                          "ip_version",
                                          "ip_header_length",
                                          "ip_total_length",
                                          "ip_checksum",
                                          "ip_fragment",
                                          "ip_source",
                                          "ip_destination",
                                          "ip_protocol",
                                          "udp_length",
                                          "udp_source",
                                          "udp_destination",
                                          "udp_checksum",
                                          "udp_checksum_partial",
                                          "icmp_malformed",
                                          "icmp_other",
                                          "datagram_too_long",
                                          "no_headroom",
                                          "unreachable",
                                          "unresolved",
                                          "pending_full",
                                          "transmit_full",
                                          "transmit_stalled",
                                          "no_mbuf"};
  static_assert(sizeof names / sizeof *names == static_cast<std::size_t>(drop_reason::no_mbuf) + 1);
  const auto i = static_cast<std::size_t>(reason);
  return i < sizeof names / sizeof *names ? names[i] : "unknown";
}

} // namespace chainring::net
