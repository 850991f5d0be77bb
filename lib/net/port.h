// SPDX-License-Identifier: BSD-3-Clause
/// An ethdev port, set up with whatever it is able to do.
///
/// open_port() works for any driver (net_tap, net_af_packet, net_af_xdp, net_pcap, net_ring,
/// net_memif, net_null, a NIC): queues and descriptors are brought into the device's limits,
/// checksum offloads are used where there are any (received ones checked, sent ones computed), and
/// a device that cannot change its MTU or go promiscuous is used as it is. A device without a MAC
/// (net_ring) gets a random, locally administered one. What came of it can be read from the port.
///
/// Control path; not thread-safe. rte_eth_rx_burst() and rte_eth_tx_burst() on id() follow ethdev's
/// rules: one lcore a queue.
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

/// Octets of Ethernet, IPv4 and UDP headers in front of a payload.
inline constexpr std::uint16_t udp_header_room = 14 + 20 + 8;
/// Of these, what counts against the MTU.
inline constexpr std::uint16_t udp_ip_overhead = 20 + 8;

/// One port and who we are on it. Addresses and ports in host byte order.
struct interface_config {
  std::uint16_t port_id = 0;
  /// What endpoints of datagrams received here say.
  std::uint16_t interface_id = 0;
  /// Our address, and the prefix of the link.
  ipv4_prefix address{};
  /// How many consecutive addresses from `address` on are ours (a generator has many): hosts of the
  /// prefix all of them.
  std::uint32_t address_count = 1;
  /// Next hop for addresses off the link; 0: none. Without one, an address off the link is answered
  /// through the neighbour its packets came from.
  std::uint32_t gateway = 0;
  /// Our UDP port, and how many consecutive ones from it on are ours.
  std::uint16_t udp_port = 1883;
  std::uint16_t udp_port_count = 1;
  /// A multicast group whose datagrams are ours too; 0: none. The device is told to receive it, or
  /// all groups, or everything: the first of these it can do.
  std::uint32_t multicast_group = 0;
  /// Datagrams to the link's or the limited broadcast address are ours too.
  bool accept_broadcast = true;
  /// Largest IP packet, octets, 68 (RFC 791) to 65535. Brought into the device's limits.
  std::uint16_t mtu = 1500;
  /// Use the device's checksum offloads where it has any.
  bool checksum_offload = true;
  /// Take UDP datagrams whose checksum the sender left to its hardware (it holds the sum of the
  /// pseudo-header). Such datagrams reach a port on a veth or bridge without having crossed a wire.
  bool partial_checksums = false;
};

struct port_options {
  /// Receive buffers, for every queue.
  rte_mempool* pool = nullptr;
  std::uint16_t rx_queues = 1;
  std::uint16_t tx_queues = 1;
  std::uint16_t rx_descriptors = 1024;
  std::uint16_t tx_descriptors = 1024;
  bool promiscuous = false;
  /// Longest wait for the link to come up. A port without a link is opened all the same.
  std::uint32_t link_wait_ms = 2000;
};

/// From the narrowest to the widest.
enum class multicast_reception : std::uint8_t {
  none,        ///< no group asked for, or a device that can do none of the others: what it gives
  filter,      ///< the one group, by a device filter
  all_groups,  ///< every multicast frame
  promiscuous, ///< every frame
};

/// An open, started port. Stopped and closed when destroyed.
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
  /// Queues there are: at most as many as asked for.
  [[nodiscard]] std::uint16_t rx_queues() const noexcept { return rx_queues_; }
  [[nodiscard]] std::uint16_t tx_queues() const noexcept { return tx_queues_; }
  [[nodiscard]] std::uint16_t mtu() const noexcept { return mtu_; }
  /// RTE_MBUF_F_TX_* for every UDP datagram sent: the checksums the device fills in.
  [[nodiscard]] std::uint64_t tx_flags() const noexcept { return tx_flags_; }
  /// RTE_ETH_RX_OFFLOAD_*: the checksums the device checks; mbuf flags carry its verdict.
  [[nodiscard]] std::uint64_t rx_checksums() const noexcept { return rx_checksums_; }
  [[nodiscard]] bool multi_segment_tx() const noexcept { return multi_segment_tx_; }
  /// How frames of config.multicast_group come in.
  [[nodiscard]] multicast_reception multicast() const noexcept { return multicast_; }
  /// As it was at the end of open_port().
  [[nodiscard]] bool link_up() const noexcept { return link_up_; }
  [[nodiscard]] bool link_is_up_now() const noexcept;

  /// Stops and closes the device; no lcore may be polling it. Idempotent.
  void close() noexcept;

 private:
  friend result<port> open_port(const interface_config&, const port_options&);
  void take(port& other) noexcept;

  bool open_ = false;
  bool started_ = false;
  bool multi_segment_tx_ = false;
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

/// Checks a configuration; open_port() does so first. Errors name the field and its range.
[[nodiscard]] result<void> validate(const interface_config& config);

/// Configures and starts the port. Errors name the port and the remedy.
[[nodiscard]] result<port> open_port(const interface_config& config, const port_options& options);

} // namespace chainring::net
