// SPDX-License-Identifier: BSD-3-Clause
/// The command line of chainring-bench.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/arguments.h"

namespace chainring::bench {

/// A rate at which messages are offered to the broker.
struct offered_rate {
  std::string text; ///< as the user wrote it
  double value = 0; ///< messages a second, or with `percent` a share of what the broker can do
  bool percent = false;
};

struct options {
  bool list = false;
  /// Use small sizes and few rounds; this shows that the program runs, and measures nothing.
  bool quick = false;
  std::vector<std::string> only; ///< beginnings of the names of groups; empty means all groups
  double seconds = 2;            ///< time for each figure, including its peer
  std::string memory_directory = "/dev/shm"; ///< for the files of class `process`
  std::string directory = "/var/tmp";        ///< for the files of class `file`
  std::string json;                          ///< path of the file to write; empty means none
  std::uint32_t window = 0; ///< PUBLISH messages without a PUBACK; 0 means the class's default
  std::uint64_t journal_size = 0; ///< in bytes; 0 means the driver's default
  std::uint32_t clients = 0;      ///< of the broker's figures; 0 means 10,000 and then 64
  /// Each figure of the broker is measured over so many messages; 0 means for a time.
  std::uint64_t messages = 0;
  std::uint32_t payload_size = 64; ///< octets of the broker's messages
  std::uint32_t fan_out = 1;       ///< subscribers of each of the broker's messages
  std::uint32_t block_size = 256;  ///< of the regions of the broker's figures
  /// Payloads of at least so many octets are received into the region; nothing means none.
  std::optional<std::uint32_t> rx_in_region;
  std::vector<offered_rate> rates; ///< of open loops to measure in addition; usually none
  std::uint32_t sessions = 0;      ///< of the group `million`; 0 means a million
  /// The one case that the group `workers` runs: the share of the messages that cross, 0 to 1, and
  /// whether every datagram lands at the other worker. Less than 0 means all cases.
  double crossing = -1;
  bool misplaced = false;
  unsigned requests_per_round = 2; ///< of the broker in the group overload
  /// Fill the region of that path with sessions and die: see million.cc. Not in the help.
  std::string fill_sessions;
  bool long_filters = false;
};

/// Parses the arguments. It prints the help, the version or the refusal itself.
[[nodiscard]] app::parsed parse(int argc, char** argv, options& out);

} // namespace chainring::bench
