// SPDX-License-Identifier: BSD-3-Clause
/// How figures are measured: in slices of some milliseconds that alternate with the peer's (A B, B
/// A, A B ...), so that whatever else the machine does meets both. The median of the slices counts,
/// and for a ratio the median of the pairs' ratios.
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

/// What one round of each gave.
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

/// Runs slice() of one and the other until the time is over. `peer` may be empty.
inline pairs alternate(const budget& b, const std::function<double()>& own,
                       const std::function<double()>& peer = {}) {
  pairs p;
  own(); // warm
  if (peer) peer();
  const auto end = clock::now() + std::chrono::duration<double>(b.seconds);
  for (unsigned round = 0; round < b.rounds_min || clock::now() < end; ++round) {
    if (round % 2 == 0) p.own.push_back(own());
    if (peer) p.peer.push_back(peer());
    if (round % 2 != 0) p.own.push_back(own());
  }
  return p;
}

/// Seconds of this thread's CPU time: what other processes take of its CPU is not in it.
[[nodiscard]] inline double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}
[[nodiscard]] inline double clock_seconds() {
  return std::chrono::duration<double>(clock::now().time_since_epoch()).count();
}

/// A slice that calls fn so often that it takes about 2 ms, and gives nanoseconds a call, by the
/// thread's CPU time or, for what waits, by the clock.
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
