// SPDX-License-Identifier: BSD-3-Clause
/// A count that one thread writes and any thread may read as it goes. Nothing is ordered by it.
#pragma once
#include "compiler.h"

#include <atomic>
#include <cstdint>

namespace chainring {

class statistic {
 public:
  constexpr statistic() noexcept = default;
  statistic(const statistic&) = delete;
  statistic& operator=(const statistic&) = delete;

  /// By the one writer.
  statistic& operator+=(std::uint64_t n) noexcept {
    word_.store(word_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    return *this;
  }
  statistic& operator++() noexcept { return *this += 1; }
  /// By anyone.
  [[nodiscard]] std::uint64_t value() const noexcept {
    return word_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> word_{0};
};

} // namespace chainring
