// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <set>
#include <span>

#include "map/map_hash.h"

namespace chainring {
namespace {

using key = std::array<std::uint64_t, 4>;

// The word that makes the factor zero if the number in the source is used without a seed.
std::set<std::uint64_t> hashes_of_keys_that_cancel_a_factor(std::uint64_t seed, bool as_bytes) {
  std::set<std::uint64_t> found;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const key k{i, detail::hash_odd_2, 7, 7};
    found.insert(as_bytes ? hash_bytes(std::as_bytes(std::span(k)), seed) : map_hash<key>{seed}(k));
  }
  return found;
}

TEST(MapHash, KeysWithTheWordThatCancelsAKnownNumberHaveDifferentHashes) {
  for (const bool as_bytes : {false, true}) {
    EXPECT_EQ(hashes_of_keys_that_cancel_a_factor(0x123456789abcdef, as_bytes).size(), 1000u);
    EXPECT_EQ(hashes_of_keys_that_cancel_a_factor(1, as_bytes).size(), 1000u);
  }
}

TEST(MapHash, HashesKeptOnMediaNeverChange) { // they use seed 0
  const char text[] = "a key of more than sixteen octets";
  EXPECT_EQ(hash_bytes(std::as_bytes(std::span(text)), 0), 0x16039b894fd13e4cu);
}

} // namespace
} // namespace chainring
