// SPDX-License-Identifier: BSD-3-Clause
/// The generator's own arguments, which stand behind "--".
#pragma once
#include <cstdint>
#include <set>
#include <string>

#include "base/error.h"
#include "base/idle.h"
#include "common/arguments.h"
#include "crossing.h"
#include "ledger.h"
#include "net/address.h"

namespace chainring::gen {

enum class phase : std::uint8_t {
  all,       ///< subscribe, publish and collect in one run
  subscribe, ///< make durable subscriptions, then disconnect
  publish,   ///< run the publishers only
  collect,   ///< run the subscribers only, until nothing is owed
};

enum class protocol : std::uint8_t { mqtt_sn, mqtt_3_1_1, mqtt_5 };

struct options {
  gen::shape shape;
  gen::protocol protocol = gen::protocol::mqtt_sn;
  net::endpoint broker;
  net::ipv4_prefix address;
  std::uint32_t gateway = 0;
  std::uint16_t port_id = 0;
  std::uint16_t source_port = 20000;  ///< the port of the first client of each address
  std::uint16_t source_ports = 40000; ///< clients per address
  std::uint16_t mtu = 1500;
  bool partial_checksums = false;
  crossing_options crossing;
  gen::phase phase = phase::all;
  double rate = 0;         ///< messages per second of all publishers; 0 means no limit
  std::uint64_t count = 0; ///< messages of this run; 0 means no limit
  double duration_s = 0;   ///< how long to publish; 0 means no limit
  double drain_timeout_s = 30;
  double retry_interval_s = 1;
  double connection_timeout_s = 10;
  double report_interval_s = 1;
  std::uint32_t window = 0; ///< messages a publisher may have undelivered; 0 means as needed
  std::string tls_ca; ///< PEM file of the authorities of the broker's certificate; empty: no TLS
  std::string ledger_path;
  bool resume = false;
  bool json = false;
  idle_mode idle = idle_mode::yield;
  std::set<std::string> given; ///< arguments of the shape that were on the command line

  [[nodiscard]] std::uint32_t clients() const noexcept {
    return shape.publishers + shape.subscribers;
  }
};

/// Parses the arguments. It prints the help, the version or the refusal itself.
[[nodiscard]] app::parsed parse(int argc, char** argv, options& out);

/// Takes over the shape of the ledger that is resumed, and refuses arguments that contradict it.
[[nodiscard]] result<void> adopt_shape(options& o, const shape& of_ledger);

} // namespace chainring::gen
