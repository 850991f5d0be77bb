// SPDX-License-Identifier: BSD-3-Clause
/// A broker that is reached through a memory port, with the parts between the two. The groups
/// `broker`, `workers`, `million`, `fan-out` and `overload` are made of it; `idle` uses the port
/// and its listener without a broker.
#pragma once
#include "broker/broker.h"
#include "mqttsn/gateway.h"

#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "memory_port.h"
#include "net/address.h"
#include "net/listener.h"
#include "net/port.h"
#include "region/region.h"

namespace chainring::bench {

/// A name for a port or a pool that no other of this run has.
[[nodiscard]] std::string new_name();

/// A pool of packets for everything that runs in turn; null without memory.
[[nodiscard]] packet_pool make_pool(unsigned packets = 65535);

/// What a benchmark says when EAL has too little memory for it.
[[nodiscard]] error no_memory();

struct broker_port_options {
  rte_mempool* pool = nullptr;
  unsigned workers = 1;                          ///< each has a queue of the port
  std::uint32_t slots = memory_port::ring_slots; ///< frames that may wait in a queue for its worker
  std::uint8_t prefix = 8;                       ///< of the network of the port's address
  std::uint32_t router = 0;                      ///< the next hop outside of it
  std::uint32_t tx_capacity = 16384;             ///< frames that may wait for room in the port
};

/// Call open(), and then serve(). The parts are there for their user to call.
struct broker_port {
  static constexpr net::endpoint address{0x0a000001, 10000, 0}; ///< of the broker: 10.0.0.1

  /// Makes the port and its listeners.
  [[nodiscard]] result<void> open(const broker_port_options& o);
  /// Opens the broker of that region, one worker for each queue of the port. It sets the sizes of
  /// datagrams and payloads to what the port carries, and the number of workers.
  [[nodiscard]] result<void> serve(std::unique_ptr<region> of, broker_config core,
                                   mqttsn::gateway_config front);

  // Each uses those before it, and is destroyed before them.
  std::unique_ptr<memory_port> port;
  std::unique_ptr<net::interface> interface;
  std::unique_ptr<net::listener_group> listeners;
  std::unique_ptr<chainring::broker> broker;
  std::unique_ptr<mqttsn::gateway> gateway;
};

} // namespace chainring::bench
