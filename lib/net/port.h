// SPDX-License-Identifier: BSD-3-Clause
/// An ethdev port that is set up with the capabilities that it has.
///
/// open_port() works for any driver (net_tap, net_af_packet, net_af_xdp, net_pcap, net_ring,
/// net_memif, net_null, a NIC). Numbers of queues and descriptors are brought into the limits of
/// the device. Checksum offloads are used where they exist, both for received frames and for sent
/// ones. A device that cannot change its MTU or become promiscuous is used as it is. A device
/// without a MAC (net_ring) gets a random, locally administered one. The port's functions tell the
/// result.
///
/// The class belongs to the control path and is not thread-safe. rte_eth_rx_burst() and
/// rte_eth_tx_burst() on id() follow the rule of ethdev: one lcore per queue.
///
///     auto pool = rte_pktmbuf_pool_create("rx", 16383, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
///     interface_config config{.address = parse_ipv4_prefix("192.0.2.1/24").value()};
///     auto port = open_port(config, {.pool = pool, .rx_queues = 2, .tx_queues = 2});
#pragma once
#include <cstdint>
#include <rte_ether.h>
#include <rte_mempool.h>
#include <string>

#include "../base/error.h"
#include "address.h"

namespace chainring::net {

/// The octets of Ethernet, IPv4 and UDP headers in front of a payload.
inline constexpr std::uint16_t udp_header_room = 14 + 20 + 8;
/// The octets of these headers that count against the MTU.
inline constexpr std::uint16_t udp_ip_overhead = 20 + 8;
/// The same for IPv6.
inline constexpr std::uint16_t udp_ipv6_overhead = 40 + 8;
inline constexpr std::uint16_t vlan_tag_size = 4, vlan_max = 4094;
/// The least MTU of a link that carries IPv6 (RFC 8200).
inline constexpr std::uint16_t ipv6_mtu_min = 1280;

/// A port and its own addresses. Addresses and ports are in host byte order.
struct interface_config {
  std::uint16_t port_id = 0;
  /// The interface id in the endpoints of datagrams that this port receives.
  std::uint16_t interface_id = 0;
  /// The own address, and the prefix of the link.
  ipv4_prefix address{};
  /// How many consecutive addresses from `address` on are own addresses (a generator has many). All
  /// of them must be hosts of the prefix.
  std::uint32_t address_count = 1;
  /// The next hop for addresses off the link; 0 means none. Without it an answer to an address off
  /// the link goes to the neighbour from which its packets came.
  std::uint32_t gateway = 0;
  /// The port receives and sends IPv6: at its link-local address, which is made from its MAC, and
  /// at `address6` where one is given. `address` may then be 0, and IPv4 is not received.
  bool ipv6 = false;
  ipv6_prefix address6{};
  /// The next hop for IPv6 addresses off the link; unspecified means none, as for `gateway`.
  ip_address gateway6{};
  /// An IPv6 multicast group that the port joins, like `multicast_group`.
  ip_address multicast_group6{};
  /// The VLAN whose frames the port receives and sends, 1 to 4094; others are dropped. 0 means
  /// frames without a tag, or with a priority tag (id 0).
  std::uint16_t vlan = 0;
  /// The own UDP port, and how many consecutive ports from it on are own ports.
  std::uint16_t udp_port = 1883;
  std::uint16_t udp_port_count = 1;
  /// A multicast group that the port joins; 0 means none. The device is set to receive the group,
  /// else all groups, else every frame, whichever it supports first. Its datagrams are received,
  /// and its membership is reported (membership.h). A datagram is sent to the group like to any
  /// other endpoint, and its MAC is not asked for. Any group can be sent to without being joined.
  std::uint32_t multicast_group = 0;
  /// Datagrams to the broadcast address of the link or to 255.255.255.255 are received too.
  bool accept_broadcast = true;
  /// Packets of TCP to an own address are handed to the sink of link::hand_tcp_to(). Of a device
  /// that can do it, the checksums of TCP are used as well.
  bool tcp = false;
  /// The largest IP packet in octets, 68 (RFC 791) to 65535, brought into the device's limits.
  std::uint16_t mtu = 1500;
  /// The longest UDP payload that is sent. One that does not fit into a packet is sent in at most
  /// eight fragments (fragments.h). 0 means what fits into a packet.
  std::uint16_t datagram_max = 0;
  /// Use the checksum offloads that the device has.
  bool checksum_offload = true;
  /// Accept UDP datagrams whose checksum the sender left to its hardware (the field then holds the
  /// sum of the pseudo-header). Such datagrams come to a port on a veth or bridge without having
  /// crossed a wire.
  bool partial_checksums = false;
};

struct port_options {
  /// The pool of receive buffers for every queue.
  rte_mempool* pool = nullptr;
  /// Several receive queues share the packets by their flows (addresses and UDP or TCP ports), as
  /// the device's RSS hash has it, or its own way where it has none to choose.
  std::uint16_t rx_queues = 1;
  std::uint16_t tx_queues = 1;
  std::uint16_t rx_descriptors = 1024;
  std::uint16_t tx_descriptors = 1024;
  bool promiscuous = false;
  /// The longest wait for the link to come up. A port without a link is opened all the same.
  std::uint32_t link_wait_ms = 2000;
};

/// How a port receives its multicast groups, from the narrowest way to the widest.
enum class multicast_reception : std::uint8_t {
  none,        ///< there is no group, or the device supports none of the other ways
  filter,      ///< a device filter receives these groups
  all_groups,  ///< every multicast frame is received
  promiscuous, ///< every frame is received
};

/// An open, started port. The destructor stops and closes it.
class port {
 public:
  port() noexcept = default;
  port(port&& other) noexcept;
  port& operator=(port&& other) noexcept;
  ~port();

  [[nodiscard]] std::uint16_t id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const std::string& driver() const noexcept { return driver_; }
  [[nodiscard]] const rte_ether_addr& mac() const noexcept { return mac_; }
  /// The numbers of queues, at most as many as were asked for.
  [[nodiscard]] std::uint16_t rx_queues() const noexcept { return rx_queues_; }
  [[nodiscard]] std::uint16_t tx_queues() const noexcept { return tx_queues_; }
  [[nodiscard]] std::uint16_t mtu() const noexcept { return mtu_; }
  /// The RTE_MBUF_F_TX_* flags for every UDP datagram sent, for checksums that the device fills in.
  [[nodiscard]] std::uint64_t tx_flags() const noexcept { return tx_flags_; }
  /// The device fills in the checksums of IPv4 and TCP where a packet's flags ask for it.
  [[nodiscard]] bool fills_tcp_checksums() const noexcept { return fills_tcp_checksums_; }
  /// The RTE_ETH_RX_OFFLOAD_* checksums that the device checks; mbuf flags carry its verdict.
  [[nodiscard]] std::uint64_t rx_checksums() const noexcept { return rx_checksums_; }
  [[nodiscard]] bool multi_segment_tx() const noexcept { return multi_segment_tx_; }
  /// How the frames of the groups that the port has joined are received. IPv6 needs several.
  [[nodiscard]] multicast_reception multicast() const noexcept { return multicast_; }
  /// Whether the link was up at the end of open_port().
  [[nodiscard]] bool link_up() const noexcept { return link_up_; }
  [[nodiscard]] bool link_is_up_now() const noexcept;

  /// Stops and closes the device, which no lcore may be polling. A second call does nothing.
  void close() noexcept;

 private:
  friend result<port> open_port(const interface_config&, const port_options&);
  void take(port& other) noexcept;

  bool open_ = false;
  bool started_ = false;
  bool multi_segment_tx_ = false;
  bool fills_tcp_checksums_ = false;
  bool link_up_ = false;
  std::uint16_t id_ = 0;
  std::uint16_t rx_queues_ = 0;
  std::uint16_t tx_queues_ = 0;
  std::uint16_t mtu_ = 0;
  rte_ether_addr mac_{};
  multicast_reception multicast_ = multicast_reception::none;
  std::uint64_t tx_flags_ = 0;
  std::uint64_t rx_checksums_ = 0;
  std::string name_;
  std::string driver_;
};

/// Checks a configuration, as open_port() does first. Errors name the field and its range.
[[nodiscard]] result<void> validate(const interface_config& config);

/// Configures and starts the port. Errors name the port and what to do.
[[nodiscard]] result<port> open_port(const interface_config& config, const port_options& options);

} // namespace chainring::net
