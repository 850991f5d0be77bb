// SPDX-License-Identifier: BSD-3-Clause
/// The generator's arguments: what stands behind "--".
#pragma once
#include <cstdint>
#include <set>
#include <string>

#include "base/error.h"
#include "base/idle.h"
#include "common/arguments.h"
#include "ledger.h"
#include "net/address.h"

namespace chainring::gen {

enum class phase : std::uint8_t {
  all,       ///< subscribe, publish, collect
  subscribe, ///< durable subscriptions, then away
  publish,   ///< publishers only
  collect,   ///< subscribers only, until nothing is owed
};

struct options {
  gen::shape shape;
  net::endpoint broker;
  net::ipv4_prefix address;
  std::uint32_t gateway = 0;
  std::uint16_t port_id = 0;
  std::uint16_t source_port = 20000;  ///< of the first client of each address
  std::uint16_t source_ports = 40000; ///< clients an address
  std::uint16_t mtu = 1500;
  bool partial_checksums = false;
  gen::phase phase = phase::all;
  double rate = 0;         ///< messages a second from all publishers; 0: flat out
  std::uint64_t count = 0; ///< messages in all, this run; 0: no limit
  double duration_s = 0;   ///< of publishing; 0: no limit
  double drain_timeout_s = 30;
  double retry_interval_s = 1;
  double report_interval_s = 1;
  std::uint32_t window = 0; ///< messages a publisher may have undelivered; 0: as needed
  std::string ledger_path;
  bool resume = false;
  bool json = false;
  idle_mode idle = idle_mode::yield;
  std::set<std::string> given; ///< arguments of the shape that were on the command line

  [[nodiscard]] std::uint32_t clients() const noexcept {
    return shape.publishers + shape.subscribers;
  }
};

/// Parses; prints help, version or the refusal itself.
[[nodiscard]] app::parsed parse(int argc, char** argv, options& out);

/// Takes the shape of the ledger that is resumed; refuses arguments that contradict it.
[[nodiscard]] result<void> adopt_shape(options& o, const shape& of_ledger);

} // namespace chainring::gen
