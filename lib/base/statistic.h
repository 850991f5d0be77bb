// SPDX-License-Identifier: BSD-3-Clause
/// A counter that one thread writes and any thread may read at any time. It orders nothing.
#pragma once
#include "compiler.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace chainring {

class statistic {
 public:
  constexpr statistic() noexcept = default;
  statistic(const statistic&) = delete;
  statistic& operator=(const statistic&) = delete;

  /// Only the one writer may call this and operator++().
  [[gnu::always_inline]] statistic& operator+=(std::uint64_t n) noexcept {
    word_.store(word_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    return *this;
  }
  [[gnu::always_inline]] statistic& operator++() noexcept { return *this += 1; }
  /// Starts again at 0. Only the one writer may call this.
  void clear() noexcept { word_.store(0, std::memory_order_relaxed); }
  /// Any thread may call this.
  [[nodiscard]] std::uint64_t value() const noexcept {
    return word_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> word_{0};
};

/// Adds the counts in `from` to `to`. `Counters` is a table of counters, templated on the type of
/// its words, whose for_each(fn) calls fn(name, member pointer) for each counter.
template <template <class> class Counters>
void add_counters(Counters<std::uint64_t>& to, const Counters<statistic>& from) {
  std::array<std::uint64_t, sizeof from / sizeof(statistic)> values;
  std::size_t i = 0;
  from.for_each([&](const char*, auto member) { values[i++] = (from.*member).value(); });
  i = 0;
  to.for_each([&](const char*, auto member) { to.*member += values[i++]; });
}

} // namespace chainring
