// SPDX-License-Identifier: BSD-3-Clause
/// Latencies in a histogram of 100 bins a decade, 0.1 us to 1000 s: percentiles within 2.4 %.
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

  /// Does not allocate.
  void record(std::uint64_t ns) noexcept;
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] double max_us() const noexcept { return static_cast<double>(max_ns_) / 1000; }
  /// The upper edge of the bin that holds the quantile (0 to 1), at most max_us(); 0 without any.
  [[nodiscard]] double quantile_us(double q) const;

 private:
  struct bins;
  std::unique_ptr<bins> bins_;
  std::uint64_t count_ = 0;
  std::uint64_t max_ns_ = 0;
};

} // namespace chainring::app
