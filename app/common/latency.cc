// SPDX-License-Identifier: BSD-3-Clause
#include "latency.h"

#include <algorithm>
#include <boost/histogram/axis/regular.hpp>
#include <boost/histogram/histogram.hpp>
#include <boost/histogram/make_histogram.hpp>
#include <vector>

namespace chainring::app {

namespace bh = boost::histogram;

struct latencies::bins {
  using axis = bh::axis::regular<double, bh::axis::transform::log>;
  bh::histogram<std::tuple<axis>, bh::dense_storage<std::uint64_t>> of{
      bh::make_histogram_with(bh::dense_storage<std::uint64_t>(), axis(1000, 0.1, 1e9))};
};

latencies::latencies() : bins_(std::make_unique<bins>()) {}
latencies::~latencies() = default;

void latencies::record(std::uint64_t ns) noexcept {
  ++count_;
  max_ns_ = std::max(max_ns_, ns);
  bins_->of(static_cast<double>(ns) / 1000);
}

double latencies::quantile_us(double q) const {
  if (count_ == 0) return 0;
  const double wanted = q * static_cast<double>(count_);
  const auto& axis = bins_->of.axis();
  double seen = 0;
  for (int i = -1; i <= axis.size(); ++i) { // -1 and size() are the bins below and above the axis
    seen += static_cast<double>(bins_->of.at(i));
    if (seen >= wanted) return i == axis.size() ? max_us() : std::min(axis.value(i + 1), max_us());
  }
  return max_us();
}

} // namespace chainring::app
