// SPDX-License-Identifier: BSD-3-Clause
/// Command line of chainring-bench.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "common/arguments.h"

namespace chainring::bench {

struct options {
  bool list = false;
  bool quick = false; ///< small sizes and few rounds: shows that it runs, measures nothing
  std::vector<std::string> only;             ///< groups; a name's beginning is enough; empty: all
  double seconds = 2;                        ///< for each figure, its peer's time included
  std::string memory_directory = "/dev/shm"; ///< for those of class `process`
  std::string directory = "/var/tmp";        ///< for the files of class `file`
  std::string json;                          ///< file to write; empty: none
  std::uint32_t window = 0;                  ///< publishes under way; 0: a default for each class
  std::uint64_t journal_size = 0;            ///< bytes; 0: the driver's default
};

/// Parses; prints help, version or the refusal itself.
[[nodiscard]] app::parsed parse(int argc, char** argv, options& out);

} // namespace chainring::bench
