// SPDX-License-Identifier: BSD-3-Clause
/// The broker's arguments: what stands behind "--", and the configuration file with the same keys.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/idle.h"
#include "broker/broker.h"
#include "common/arguments.h"
#include "common/stream.h"
#include "mqttsn/gateway.h"
#include "net/address.h"

namespace chainring::app {

struct options {
  std::string region;
  std::uint64_t size = 0; ///< bytes; 0: as it is, or 256 MiB when creating
  std::uint32_t block_size = 256;
  std::string durability = "auto";
  std::uint64_t journal_size = 0;
  std::vector<net::ipv4_prefix> addresses; ///< one a port
  std::vector<std::uint32_t> gateways;     ///< one a port, 0: none
  std::uint16_t udp_port = 10000;
  std::uint16_t mtu = 1500;
  std::string predefined_topics;
  store_layout tables;
  broker_config broker;
  mqttsn::gateway_config gateway;
  idle_mode idle = idle_mode::yield;
  std::string log_file;              ///< empty: standard error
  std::vector<log_level> log_levels; ///< applied in their order
  bool interactive = false;
  bool partial_checksums = false;
};

/// Parses; prints help, version or the refusal itself.
[[nodiscard]] parsed parse(int argc, char** argv, options& out);

} // namespace chainring::app
