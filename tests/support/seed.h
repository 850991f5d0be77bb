// SPDX-License-Identifier: BSD-3-Clause
/// Seeds of randomised tests: CHAINRING_SEED where it is set, else the test's own.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace chainring::test {

inline std::uint64_t seed_from_environment(std::uint64_t fallback) {
  const char* text = std::getenv("CHAINRING_SEED");
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 0);
}

/// The same, and says so: a failure can be run again.
inline std::uint64_t printed_seed(std::uint64_t fallback) {
  const std::uint64_t seed = seed_from_environment(fallback);
  std::printf("CHAINRING_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}
/// Another one in each run.
inline std::uint64_t fresh_seed() {
  return printed_seed(std::random_device{}());
}

} // namespace chainring::test
