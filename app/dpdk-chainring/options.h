// SPDX-License-Identifier: BSD-3-Clause
/// The broker's own arguments, which stand behind "--" or, with the same keys, in a configuration
/// file.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/idle.h"
#include "broker/broker.h"
#include "common/arguments.h"
#include "common/stream.h"
#include "mqtt/server.h"
#include "mqttsn/gateway.h"
#include "net/address.h"

namespace chainring::app {

struct options {
  std::string region;
  std::uint64_t size = 0; ///< in bytes; 0 means the present size, or 256 MiB for a new region
  std::uint32_t block_size = 256;
  std::string durability = "auto";
  std::uint64_t journal_size = 0;
  int journal_cpu = -1;                     ///< less than 0 means every CPU
  std::vector<net::ipv4_prefix> addresses;  ///< one for each port
  std::vector<std::uint32_t> gateways;      ///< one for each port; 0 means none
  std::vector<net::ipv6_prefix> addresses6; ///< one for each port, or empty where IPv6 is off
  std::vector<net::ip_address> gateways6;   ///< one for each port, or empty
  std::vector<std::uint16_t> vlans;         ///< one for each port, or empty
  std::uint16_t udp_port = 10000;
  std::uint32_t sys_interval_s = 10; ///< 0: nothing is published below $SYS
  std::uint16_t mtu = 1500;
  bool mtu_given = false; ///< then a port that cannot have it is refused
  std::uint16_t datagram_max = 0;
  std::uint32_t multicast = 0; ///< a group that every port joins; 0 means none
  net::ip_address multicast6;  ///< an IPv6 group that every port joins; :: means none
  std::string predefined_topics;
  std::string access;    ///< the file of access rules; empty means that everything is allowed
  std::string passwords; ///< the password file; empty means that no passwords are checked
  store_layout tables;
  broker_config broker;
  mqttsn::gateway_config gateway;
  mqtt::server_config mqtt; ///< without listeners, where MQTT over TCP is not served
  idle_mode idle = idle_mode::yield;
  std::string log_file;              ///< an empty path means standard error
  std::vector<log_level> log_levels; ///< applied in this order
  bool interactive = false;
  bool partial_checksums = false;
  /// Payloads of at least so many octets become messages where the ports have received them, in the
  /// region; nothing means that all are copied there.
  std::optional<std::uint32_t> rx_in_region;
};

/// Parses the arguments. It prints the help, the version or the refusal itself.
[[nodiscard]] parsed parse(int argc, char** argv, options& out);

/// The sentence of a tls::context that could not be made, behind the argument that gave its file.
[[nodiscard]] std::string tls_refusal(const tls::context_options& files, const std::string& why);

} // namespace chainring::app
