// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <vector>

#include "base/keyed_hash.h"

namespace chainring {
namespace {

TEST(KeyedHash, DiffersForTextsThatDifferInOneBitOrInLength) {
  const hash_key key = make_hash_key(1);
  std::set<std::uint64_t> seen;
  std::size_t texts = 0;
  for (std::size_t size = 0; size <= 100; ++size) {
    std::string text(size, '\0');
    seen.insert(keyed_hash(key, text));
    ++texts;
    for (std::size_t bit = 0; bit < 8 * size; ++bit, ++texts) {
      text[bit / 8] = static_cast<char>(1 << bit % 8);
      seen.insert(keyed_hash(key, text));
      text[bit / 8] = 0;
    }
  }
  EXPECT_EQ(seen.size(), texts);
}

TEST(KeyedHash, SpreadsNamesThatDifferInANumberOverBucketsByLowAndByHighBits) {
  const hash_key key = make_hash_key(1);
  std::vector<unsigned> low(65536), high(65536), mixed(65536);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const std::uint64_t h = keyed_hash(key, "site/" + std::to_string(i) + "/temperature");
    ++low[h & 0xffff];
    ++high[h >> 48];
    ++mixed[keyed_mix(key, i, 7) & 0xffff];
  }
  // 65,536 balls fall into as many bins. More than 12 in one bin happen less than once in 10,000
  // keys.
  EXPECT_LE(std::ranges::max(low), 12u);
  EXPECT_LE(std::ranges::max(high), 12u);
  EXPECT_LE(std::ranges::max(mixed), 12u);
}

TEST(KeyedHash, DependsOnItsKeyWhichASeedDetermines) {
  const hash_key one = make_hash_key(1), two = make_hash_key(2), secret = make_hash_key(0);
  EXPECT_EQ(keyed_hash(one, "a"), keyed_hash(make_hash_key(1), "a"));
  EXPECT_NE(keyed_hash(one, "a"), keyed_hash(two, "a"));
  EXPECT_NE(keyed_mix(one, 3, 4), keyed_mix(two, 3, 4));
  EXPECT_EQ(keyed_hash(secret, "a"), keyed_hash(make_hash_key(0), "a"));
  EXPECT_NE(secret.k0 | secret.k1, 0u);
}

} // namespace
} // namespace chainring
