// SPDX-License-Identifier: BSD-3-Clause
/// How every program on EAL begins.
#pragma once
#include <csignal>
#include <string>
#include <vector>

namespace chainring::app {

/// Blocks SIGINT, SIGTERM and `others` in this thread and those it starts from now on. A signalfd
/// then delivers them, so that no signal interrupts a burst.
[[nodiscard]] sigset_t block_end_signals(std::initializer_list<int> others = {});

/// Starts EAL. Returns false when EAL did not start, after printing why and what to do about it.
/// `memory_mb` is the memory that the program needs when there are no hugepages.
[[nodiscard]] bool start_eal(int argc, char** argv, unsigned memory_mb = 256);

/// Explains a rte_eal_init() that failed with these arguments after it logged these errors.
[[nodiscard]] std::string why_eal_failed(const std::vector<std::string>& arguments,
                                         const std::vector<std::string>& logged,
                                         unsigned memory_mb);

} // namespace chainring::app
