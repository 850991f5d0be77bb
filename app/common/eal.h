// SPDX-License-Identifier: BSD-3-Clause
/// How programs on EAL begin.
#pragma once
#include <csignal>
#include <string>
#include <vector>

namespace chainring::app {

/// SIGINT, SIGTERM and `others`, blocked from now on in every thread: one takes them from a
/// signalfd, so that none interrupts a burst.
[[nodiscard]] sigset_t block_end_signals(std::initializer_list<int> others = {});

/// False: EAL did not start, and why was printed, with the remedy. `memory_mb`: what the program
/// needs where there are no hugepages.
[[nodiscard]] bool start_eal(int argc, char** argv, unsigned memory_mb = 256);

/// What to tell of a rte_eal_init() with these arguments that logged these errors and failed.
[[nodiscard]] std::string why_eal_failed(const std::vector<std::string>& arguments,
                                         const std::vector<std::string>& logged,
                                         unsigned memory_mb);

} // namespace chainring::app
