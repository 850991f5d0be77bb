// SPDX-License-Identifier: BSD-3-Clause
/// Threads that a program lends to a recovery.
///
/// A library does not know on which CPUs it may run threads. So whoever opens a region says how
/// work is spread: a DPDK program over its lcores, another program over threads of its own.
///
///     recovery_crew crew{2, [](const std::function<void(unsigned)>& work) {
///                          std::thread other(work, 1);
///                          work(0);
///                          other.join();
///                        }};
#pragma once
#include <functional>

namespace chainring {

struct recovery_crew {
  /// How many threads work at one time, with the one that recovers; 1: that one alone.
  unsigned threads = 1;
  /// Calls work(0) on the calling thread and work(1) to work(threads - 1) on one other thread each,
  /// all at the same time, and returns when all have returned. What a thread stored before is
  /// visible to the others when `work` begins, and to the caller when this returns.
  std::function<void(const std::function<void(unsigned)>& work)> together = {};

  [[nodiscard]] bool several() const noexcept { return threads > 1 && together != nullptr; }
};

} // namespace chainring
