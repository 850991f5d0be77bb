// SPDX-License-Identifier: BSD-3-Clause
/// How figures are measured: in slices of some milliseconds that alternate with slices of the peer
/// (A B, B A, A B ...), so that any other load on the machine affects both alike. A figure is the
/// median of its slices, and a ratio is the median of the ratios of the pairs of slices.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <time.h>
#include <vector>

namespace chainring::bench {

using clock = std::chrono::steady_clock;

[[nodiscard]] inline double quantile(std::vector<double> v, double q) {
  if (v.empty()) return 0;
  std::ranges::sort(v);
  const double at = q * static_cast<double>(v.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, v.size() - 1);
  return v[below] + (at - static_cast<double>(below)) * (v[above] - v[below]);
}
[[nodiscard]] inline double median(const std::vector<double>& v) {
  return quantile(v, 0.5);
}

/// The values that the slices of the figure and of its peer gave, in the same order.
struct pairs {
  std::vector<double> own, peer;

  [[nodiscard]] std::vector<double> ratios() const {
    std::vector<double> r;
    for (std::size_t i = 0; i < std::min(own.size(), peer.size()); ++i)
      r.push_back(own[i] / peer[i]);
    return r;
  }
};

struct budget {
  double seconds = 2;
  unsigned rounds_min = 7;
};

/// Runs slices of `own` and `peer` in turn until the time is over. `peer` may be empty.
inline pairs alternate(const budget& b, const std::function<double()>& own,
                       const std::function<double()>& peer = {}) {
  pairs p;
  own(); // the first call of each warms the caches and is not recorded
  if (peer) peer();
  const auto end = clock::now() + std::chrono::duration<double>(b.seconds);
  for (unsigned round = 0; round < b.rounds_min || clock::now() < end; ++round) {
    if (round % 2 == 0) p.own.push_back(own());
    if (peer) p.peer.push_back(peer());
    if (round % 2 != 0) p.own.push_back(own());
  }
  return p;
}

/// Seconds of this thread's CPU time, which does not include the time of other processes.
[[nodiscard]] inline double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}
[[nodiscard]] inline double clock_seconds() {
  return std::chrono::duration<double>(clock::now().time_since_epoch()).count();
}

/// Makes a slice that calls `fn` until about 2 ms have passed and returns nanoseconds per call. The
/// thread's CPU time measures it, or the clock (`now`) where `fn` waits for something.
template <class Fn> std::function<double()> timed(Fn fn, double (*now)() = cpu_seconds) {
  auto once = [fn, now](std::uint64_t n) mutable {
    const double start = now();
    for (std::uint64_t i = 0; i < n; ++i)
      fn();
    return (now() - start) * 1e9;
  };
  return [once, calls = std::uint64_t{1}, found = false]() mutable {
    double ns = once(calls);
    while (!found && ns < 2e6) {
      calls *= 2;
      ns = once(calls);
    }
    found = true;
    return ns / static_cast<double>(calls);
  };
}

} // namespace chainring::bench
