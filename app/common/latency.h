// SPDX-License-Identifier: BSD-3-Clause
/// A histogram of latencies with 100 bins per decade from 0.1 us to 1000 s, so that percentiles are
/// exact to 2.4 %.
#pragma once
#include <cstdint>
#include <memory>

namespace chainring::app {

class latencies {
 public:
  latencies();
  ~latencies();
  latencies(const latencies&) = delete;
  latencies& operator=(const latencies&) = delete;

  /// Records one latency. It does not allocate memory.
  void record(std::uint64_t ns) noexcept;
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] double max_us() const noexcept { return static_cast<double>(max_ns_) / 1000; }
  /// The upper edge of the bin that holds quantile `q` (0 to 1), but at most max_us(). It is 0
  /// while nothing is recorded.
  [[nodiscard]] double quantile_us(double q) const;

 private:
  struct bins;
  std::unique_ptr<bins> bins_;
  std::uint64_t count_ = 0;
  std::uint64_t max_ns_ = 0;
};

} // namespace chainring::app
