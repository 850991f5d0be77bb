// SPDX-License-Identifier: BSD-3-Clause
// --rx-in-region: the ports receive into blocks of the region.
#include <algorithm>
#include <array>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <string>
#include <string_view>

#include "log.h"
#include "service.h"

namespace chainring::app {

namespace {

/// Drivers that fill an mbuf by the CPU, at the address that the mbuf has. Others have their device
/// fill it, for which the region would have to be mapped, or compute the address from that of the
/// mbuf. The frames of net_ring come from its other end, and their payloads are copied.
constexpr std::array<std::string_view, 5> copying_drivers = {"net_tap", "net_af_packet", "net_pcap",
                                                             "net_ring", "net_null"};
constexpr std::uint32_t block_size_max = 4096;

} // namespace

std::size_t service::room_needed() const {
  // A buffer holds a frame of the MTU, and a datagram that is put together from fragments.
  constexpr std::size_t headers = 80; // Ethernet with a tag, IPv6 with a fragment header, UDP
  return std::max(options_.mtu, options_.datagram_max) + headers + RTE_PKTMBUF_HEADROOM;
}

result<void> service::check_drivers() const {
  std::uint16_t port = 0;
  RTE_ETH_FOREACH_DEV(port) {
    rte_eth_dev_info info{};
    if (rte_eth_dev_info_get(port, &info) != 0) continue; // open_port() refuses it
    const std::string_view driver = info.driver_name == nullptr ? "" : info.driver_name;
    if (std::ranges::find(copying_drivers, driver) != copying_drivers.end()) continue;
    return error{errc::unsupported,
                 "--rx-in-region: port " + std::to_string(port) + " has the driver " +
                     std::string(driver) +
                     ", and only net_tap, net_af_packet, net_pcap, net_null and net_ring are known "
                     "to write into a region; leave --rx-in-region out"};
  }
  return {};
}

result<void> service::make_rooms() {
  block_store& blocks = broker_->blocks();
  const std::size_t needed = room_needed();
  if (blocks.block_size() < needed) {
    const std::string sizes = "--rx-in-region: the region " + options_.region + " has blocks of " +
                              std::to_string(blocks.block_size()) +
                              " bytes, and a received frame needs " + std::to_string(needed) +
                              " in one block; ";
    if (needed > block_size_max)
      return error{errc::invalid_argument,
                   sizes + "give an --mtu and a --max-datagram of at most " +
                       std::to_string(block_size_max -
                                      (needed - std::max(options_.mtu, options_.datagram_max))) +
                       ", and a new region with --block-size 4096"};
    return error{errc::invalid_argument, sizes + "give a new region with --block-size " +
                                             (needed > 2048 ? "4096" : "2048") +
                                             ", or leave --rx-in-region out"};
  }
  const net::listener_options l = shape_of_listeners();
  receive_pool_options o;
  o.cache_mbufs = RTE_MEMPOOL_CACHE_MAX_SIZE;
  o.mbufs = frames_needed(l);
  o.data_room = static_cast<std::uint16_t>(blocks.block_size());
  o.socket = static_cast<int>(rte_socket_id());
  auto made = receive_pool::create("chainring_received", blocks, o);
  if (made) {
    rooms_ = std::move(*made);
    CHAINRING_LOG(INFO, region,
                  "the ports receive into the region, and payloads of %u octets or more are not "
                  "copied; %u data rooms take %llu MiB of it",
                  *options_.rx_in_region, o.mbufs,
                  static_cast<unsigned long long>(
                      (std::uint64_t{o.mbufs} * blocks.block_size() + (1 << 20) - 1) >> 20));
    return {};
  }
  if (made.error().code != errc::no_space) return made.error();
  // A full region must open all the same, or its messages could never be delivered.
  CHAINRING_LOG(
      WARNING, region,
      "--rx-in-region: %s. All payloads are copied until the broker is started again with "
      "room for %llu MiB in the region; a larger --size makes it",
      made.error().message.c_str(),
      static_cast<unsigned long long>((std::uint64_t{o.mbufs} * blocks.block_size() >> 20) + 1));
  return {};
}

} // namespace chainring::app
