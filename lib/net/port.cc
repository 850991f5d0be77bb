// SPDX-License-Identifier: BSD-3-Clause
#include "net/port.h"

#include <algorithm>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <span>
#include <vector>

#include "base/idle.h"
#include "net/build.h"
#include "net/membership.h"

namespace chainring::net {

port::port(port&& other) noexcept {
  take(other);
}
port& port::operator=(port&& other) noexcept {
  if (this != &other) {
    close();
    take(other);
  }
  return *this;
}
port::~port() {
  close();
}

void port::take(port& other) noexcept {
  open_ = std::exchange(other.open_, false);
  started_ = std::exchange(other.started_, false);
  multi_segment_tx_ = other.multi_segment_tx_;
  fills_tcp_checksums_ = other.fills_tcp_checksums_;
  link_up_ = other.link_up_;
  id_ = other.id_;
  rx_queues_ = other.rx_queues_;
  tx_queues_ = other.tx_queues_;
  mtu_ = other.mtu_;
  mac_ = other.mac_;
  multicast_ = other.multicast_;
  tx_flags_ = other.tx_flags_;
  rx_checksums_ = other.rx_checksums_;
  name_ = std::move(other.name_);
  driver_ = std::move(other.driver_);
}

bool port::link_is_up_now() const noexcept {
  rte_eth_link l{};
  return open_ && rte_eth_link_get_nowait(id_, &l) == 0 && l.link_status == RTE_ETH_LINK_UP;
}

void port::close() noexcept {
  if (started_) (void)rte_eth_dev_stop(id_);
  if (open_) (void)rte_eth_dev_close(id_);
  started_ = open_ = false;
}

namespace {

template <class Refuse> result<void> validate_ipv6(const interface_config& c, Refuse refuse) {
  const ip_address &a = c.address6.address, &gateway = c.gateway6, &group = c.multicast_group6;
  const ip_address none{};
  if (!c.ipv6) {
    if (a != none || gateway != none || group != none)
      return refuse("ipv6 is off", "it to be on with an IPv6 address, gateway or group");
    return {};
  }
  const std::string length = std::to_string(c.address6.length);
  if (c.address6.length > 128) return refuse("address6: prefix length " + length, "0 to 128");
  if (a != none && (!is_unicast_ipv6(a) || is_link_local(a)))
    return refuse("address6 " + to_string(a),
                  ":: for none, or a unicast address that is not link-local");
  if (gateway != none && (!is_unicast_ipv6(gateway) || gateway == a ||
                          !(is_link_local(gateway) || (a != none && c.address6.contains(gateway)))))
    return refuse("gateway6 " + to_string(gateway),
                  ":: for none, or another host's address on the link");
  if (group != none && (group.is_ipv4() || !is_multicast(group)))
    return refuse("multicast_group6 " + to_string(group), ":: for none, or ff00::/8");
  return {};
}

} // namespace

result<void> validate(const interface_config& c) {
  const auto refuse = [&c](const std::string& what, const std::string& range) {
    return error{errc::invalid_argument,
                 "port " + std::to_string(c.port_id) + ": " + what + ": expected " + range};
  };
  if (c.udp_port == 0) return refuse("udp_port 0", "1 to 65535");
  if (c.udp_port_count == 0 || c.udp_port_count > 65536 - c.udp_port)
    return refuse("udp_port_count " + std::to_string(c.udp_port_count),
                  "1 to " + std::to_string(65536 - c.udp_port) + " from port " +
                      std::to_string(c.udp_port) + " on");
  if (c.interface_id > endpoint::interface_id_max)
    return refuse("interface_id " + std::to_string(c.interface_id),
                  "0 to " + std::to_string(endpoint::interface_id_max));
  if (c.vlan > vlan_max)
    return refuse("vlan " + std::to_string(c.vlan),
                  "0 for none, or 1 to " + std::to_string(vlan_max));
  if (c.multicast_group != 0 && !is_multicast(c.multicast_group))
    return refuse("multicast_group " + format_ipv4(c.multicast_group),
                  "0.0.0.0 for none, or 224.0.0.0 to 239.255.255.255");
  const std::uint16_t mtu_min = c.ipv6 ? ipv6_mtu_min : std::uint16_t{RTE_ETHER_MIN_MTU};
  if (c.mtu < mtu_min)
    return refuse("mtu " + std::to_string(c.mtu), std::to_string(mtu_min) + " to 65535");
  if (auto valid = validate_ipv6(c, refuse); !valid) return valid;
  const std::uint32_t a = c.address.address;
  if (a == 0 && c.ipv6) return {}; // IPv6 alone
  const std::string length = std::to_string(c.address.length);
  if (c.address.length > 32) return refuse("address: prefix length " + length, "0 to 32");
  if (!is_unicast(a)) return refuse("address " + format_ipv4(a), "a unicast address");
  if (c.address.is_no_host(a))
    return refuse("address " + format_ipv4(a) + "/" + length,
                  "the address of a host, not of the network or its broadcast");
  // `last` is the last address that may be an own one: within the prefix without its broadcast
  // address, and within the unicast addresses.
  std::uint32_t last = a | ~c.address.mask();
  if (c.address.is_no_host(last)) --last;
  last = std::min(last, a < 0x7F000000 ? 0x7EFFFFFFu : 0xDFFFFFFFu);
  const std::uint32_t most = last - a + 1;
  if (c.address_count == 0 || c.address_count > most)
    return refuse("address_count " + std::to_string(c.address_count),
                  "1 to " + std::to_string(most) + ", the number of hosts of /" + length +
                      " from " + format_ipv4(a) + " on");
  if (c.gateway != 0 && (!is_unicast(c.gateway) || !c.address.contains(c.gateway) ||
                         c.address.is_no_host(c.gateway) || c.gateway - a < c.address_count))
    return refuse("gateway " + format_ipv4(c.gateway),
                  "0.0.0.0 for none, or another host's address on the link");
  return {};
}

namespace {

// Tries the narrowest reception that the device offers first. The parser's own filter drops all
// other frames anyway.
multicast_reception receive_groups(std::uint16_t id, std::span<rte_ether_addr> macs) {
  if (rte_eth_dev_set_mc_addr_list(id, macs.data(), static_cast<std::uint32_t>(macs.size())) == 0)
    return multicast_reception::filter;
  if (rte_eth_allmulticast_enable(id) == 0) return multicast_reception::all_groups;
  if (rte_eth_promiscuous_enable(id) == 0) return multicast_reception::promiscuous;
  return multicast_reception::none;
}

// Returns the largest MTU of the device, as ethdev computes it.
std::uint16_t mtu_of(const rte_eth_dev_info& info) {
  const bool overhead_known = info.max_mtu != UINT16_MAX && info.max_rx_pktlen > info.max_mtu;
  const std::uint32_t overhead =
      overhead_known ? info.max_rx_pktlen - info.max_mtu : RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
  if (info.max_rx_pktlen == 0) return info.max_mtu; // the device does not say
  const std::uint32_t most = info.max_rx_pktlen > overhead ? info.max_rx_pktlen - overhead : 0;
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(most, info.max_mtu));
}

} // namespace

result<port> open_port(const interface_config& config, const port_options& options) {
  if (auto valid = validate(config); !valid) return valid.error();
  port p;
  p.id_ = config.port_id;
  std::string name = "port " + std::to_string(config.port_id);
  rte_eth_dev_info info{};
  if (const int failed = rte_eth_dev_info_get(p.id_, &info); failed != 0)
    return system_error(errc::not_found, name + ": there is no such port", -failed);
  char text[RTE_ETH_NAME_MAX_LEN] = {};
  if (rte_eth_dev_get_name_by_port(p.id_, text) == 0) p.name_ = text;
  p.driver_ = info.driver_name != nullptr ? info.driver_name : "";
  name += " (" + p.name_ + "): ";
  if (options.pool == nullptr)
    return error{errc::invalid_argument, name + "a packet pool is missing"};

  const auto bounded = [](std::uint16_t want, std::uint16_t most) {
    return std::max<std::uint16_t>(1, std::min(want, most));
  };
  p.rx_queues_ = bounded(options.rx_queues, info.max_rx_queues);
  p.tx_queues_ = bounded(options.tx_queues, info.max_tx_queues);
  // These drivers have one pair of queues each and refuse unequal numbers.
  if (p.driver_ == "net_tap" || p.driver_ == "net_af_xdp" || p.driver_ == "net_af_packet")
    p.rx_queues_ = p.tx_queues_ = std::min(p.rx_queues_, p.tx_queues_);
  // The peer decides how many queues of a memif are connected; the others never take a packet.
  if (p.driver_ == "net_memif") p.rx_queues_ = p.tx_queues_ = 1;
  rte_eth_conf conf{};
  // The packets of a flow come in on one queue, in order. A device without this spreads its packets
  // in a way of its own, as net_tap and net_af_packet let the kernel do.
  constexpr std::uint64_t flows = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP;
  if (p.rx_queues_ > 1 && (info.flow_type_rss_offloads & flows) != 0) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads & flows;
  }
  std::uint64_t flags = 0;
  if (config.checksum_offload) {
    constexpr std::uint64_t sums = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    if ((info.tx_offload_capa & sums) == sums) {
      conf.txmode.offloads |= sums;
      flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM;
    }
    constexpr std::uint64_t tcp = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    if (config.tcp && (info.tx_offload_capa & tcp) == tcp) {
      conf.txmode.offloads |= tcp;
      p.fills_tcp_checksums_ = true;
    }
    std::uint64_t checked = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
    if (config.tcp) checked |= RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
    p.rx_checksums_ = info.rx_offload_capa & checked;
    conf.rxmode.offloads |= p.rx_checksums_;
  }
  const std::uint16_t mtu = std::min(config.mtu, mtu_of(info));
  conf.rxmode.mtu = mtu;
  // A device that can scatter delivers a frame that is longer than a buffer in several buffers.
  const std::uint32_t room = rte_pktmbuf_data_room_size(options.pool) - RTE_PKTMBUF_HEADROOM;
  const std::uint32_t frame = mtu + std::uint32_t{RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN};
  if (frame > room) {
    if ((info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER) == 0)
      return error{errc::invalid_argument, name + "an MTU of " + std::to_string(mtu) +
                                               " needs buffers of " + std::to_string(frame) +
                                               " octets, and those of the pool have " +
                                               std::to_string(room)};
    conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
  }
  p.multi_segment_tx_ = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
  if (p.multi_segment_tx_) conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
  if (const int failed = rte_eth_dev_configure(p.id_, p.rx_queues_, p.tx_queues_, &conf);
      failed != 0)
    return system_error(errc::unsupported,
                        name + "the device refuses " + std::to_string(p.rx_queues_) +
                            " receive and " + std::to_string(p.tx_queues_) + " transmit queues",
                        -failed);
  p.open_ = true;
  // A device that cannot be told its MTU has no limit of its own below that of mtu_of().
  (void)rte_eth_dev_set_mtu(p.id_, mtu);
  if (rte_eth_dev_get_mtu(p.id_, &p.mtu_) != 0) p.mtu_ = RTE_ETHER_MTU;
  p.mtu_ = std::min(p.mtu_, config.mtu);
  const std::uint16_t mtu_min = config.ipv6 ? ipv6_mtu_min : std::uint16_t{RTE_ETHER_MIN_MTU};
  if (p.mtu_ < mtu_min)
    return error{errc::unsupported, name + "the MTU is " + std::to_string(p.mtu_) + "; " +
                                        (config.ipv6 ? "IPv6" : "IPv4") + " needs " +
                                        std::to_string(mtu_min) + " or more"};
  std::uint16_t rx = options.rx_descriptors, tx = options.tx_descriptors;
  (void)rte_eth_dev_adjust_nb_rx_tx_desc(p.id_, &rx, &tx);
  const int socket = std::max(rte_eth_dev_socket_id(p.id_), 0);
  for (std::uint16_t q = 0; q < p.rx_queues_; ++q)
    if (const int failed = rte_eth_rx_queue_setup(p.id_, q, rx, static_cast<unsigned>(socket),
                                                  nullptr, options.pool);
        failed != 0)
      return system_error(errc::unsupported,
                          name + "the device refuses receive queue " + std::to_string(q), -failed);
  rte_eth_txconf tx_conf = info.default_txconf;
  tx_conf.offloads = conf.txmode.offloads;
  for (std::uint16_t q = 0; q < p.tx_queues_; ++q)
    if (const int failed =
            rte_eth_tx_queue_setup(p.id_, q, tx, static_cast<unsigned>(socket), &tx_conf);
        failed != 0)
      return system_error(errc::unsupported,
                          name + "the device refuses transmit queue " + std::to_string(q), -failed);
  if (const int failed = rte_eth_dev_start(p.id_); failed != 0)
    return system_error(errc::io, name + "the device does not start", -failed);
  p.started_ = true;
  if (options.promiscuous)
    (void)rte_eth_promiscuous_enable(p.id_); // a device without this mode is used as it is
  if (const int failed = rte_eth_macaddr_get(p.id_, &p.mac_); failed != 0)
    return system_error(errc::io, name + "the device has no MAC address", -failed);
  if (rte_is_zero_ether_addr(&p.mac_)) {
    rte_eth_random_addr(p.mac_.addr_bytes);
    (void)rte_eth_dev_default_mac_addr_set(p.id_,
                                           &p.mac_); // a device that refuses it does not filter
  }
  std::vector<rte_ether_addr> groups;
  if (config.multicast_group != 0)
    groups = {group_mac(config.multicast_group), group_mac(all_hosts)};
  for (const ip_address& group : ipv6_groups(config, p.mac_))
    groups.push_back(group_mac(group));
  if (config.ipv6) groups.push_back(group_mac(all_nodes));
  if (!groups.empty()) p.multicast_ = receive_groups(p.id_, groups);
  // A device that takes tags out of received frames hides them from the parser.
  (void)rte_eth_dev_set_vlan_offload(p.id_, 0);
  p.tx_flags_ = flags;
  idle_policy policy(idle_mode::sleep);
  const std::uint64_t limit =
      rte_get_timer_cycles() + rte_get_timer_hz() * options.link_wait_ms / 1000;
  while (!(p.link_up_ = p.link_is_up_now()) && rte_get_timer_cycles() < limit)
    policy.idle();
  return p;
}

} // namespace chainring::net
