// SPDX-License-Identifier: BSD-3-Clause
/// Seeds of randomised tests: CHAINRING_SEED if it is set, otherwise the test's own seed.
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

/// As above, and prints the seed, so that a failure can be run again.
inline std::uint64_t printed_seed(std::uint64_t fallback) {
  const std::uint64_t seed = seed_from_environment(fallback);
  std::printf("CHAINRING_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}
/// Returns a different seed in each run.
inline std::uint64_t fresh_seed() {
  return printed_seed(std::random_device{}());
}

} // namespace chainring::test
