// SPDX-License-Identifier: BSD-3-Clause
/// What figures depend on besides the source: the machine, its kernel, and how the program was
/// compiled.
#pragma once
#include <string>

namespace chainring::bench {

struct machine {
  std::string cpu;          ///< the name that the CPU gives itself
  long cores = 0;           ///< CPUs that are online
  std::string memory_pages; ///< of EAL's memory, which holds the packets
  std::string kernel;
  std::string compiler; ///< with the optimization, as far as the compiler tells a program
  std::string dpdk;
};

/// Finds out about the machine. EAL must be running.
[[nodiscard]] machine this_machine();
/// The same as one sentence.
[[nodiscard]] std::string to_string(const machine& m);

} // namespace chainring::bench
