// SPDX-License-Identifier: BSD-3-Clause
#include "net/datagram_frame.h"

namespace chainring::net {

namespace {

/// The MAC as the first six octets of a word.
std::uint64_t word_of(const rte_ether_addr& mac) noexcept {
  std::uint64_t w = 0;
  std::memcpy(&w, mac.addr_bytes, RTE_ETHER_ADDR_LEN);
  return w;
}

} // namespace

receive_template::receive_template(const receive_filter& filter) noexcept {
  const interface_config& c = filter.config;
  const std::uint32_t own = c.address.address;
  const std::uint32_t network = own & c.address.mask();
  // Below a prefix of 8 bits a link may have addresses that no host can have.
  const bool usable = c.vlan == 0 && c.address_count != 0 && c.udp_port_count != 0 &&
                      is_unicast(own) && !c.address.is_no_host(own) && own != c.multicast_group &&
                      c.address.length >= 8 && is_unicast(network) &&
                      rte_is_unicast_ether_addr(&filter.mac);
  if (!usable) return;
  size_min_ = udp_header_room;
  mac_ = word_of(filter.mac);
  const std::uint64_t version = 0x45;
  type_ = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) | version << 16;
  protocol_ = std::uint64_t{IPPROTO_UDP} << 24;
  to_ = rte_cpu_to_be_32(own) | std::uint64_t{rte_cpu_to_be_16(c.udp_port)} << 48;
  interface_id_ = c.interface_id;
  own_first_ = own;
  own_count_ = c.address_count;
  if (c.address.length >= 31) return; // each address is a host, and each is checked as one
  network_ = network;
  network_size_ = ~c.address.mask() + 1;
  hosts_ = network_size_ - 2;
}

transmit_template::transmit_template(const transmit_config& config, const endpoint& from) noexcept {
  if (config.vlan != 0 || !from.address.is_ipv4() || config.mtu < udp_ip_overhead) return;
  payload_max_ = config.mtu - udp_ip_overhead;
  own_ = rte_cpu_to_be_32(from.address.ipv4());
  port_ = rte_cpu_to_be_16(from.port);
  const std::uint64_t mac = word_of(config.mac);
  own_mac_ = mac << 48;
  const std::uint64_t type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
  const std::uint64_t version = 0x45; // and a type of service of 0
  behind_mac_ = mac >> 16 | type << 32 | version << 48;
  const std::uint64_t fragment = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
  const std::uint64_t time_and_protocol = 64 | IPPROTO_UDP << 8;
  ip_sum_ = version + fragment + time_and_protocol + own_;
  pseudo_sum_ = std::uint64_t{own_} + rte_cpu_to_be_16(IPPROTO_UDP);
  if (config.tx_flags == 0) return;
  flags_ = config.tx_flags;
  offload_ = rte_mbuf_tx_offload(sizeof(rte_ether_hdr), sizeof(rte_ipv4_hdr), sizeof(rte_udp_hdr),
                                 0, 0, 0, 0);
}

} // namespace chainring::net
