// SPDX-License-Identifier: BSD-3-Clause
#include <atomic>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

#include "map/seq_map.h"

namespace chainring {
namespace {

struct value32 {
  std::uint64_t key = 0, count = 0, not_count = ~std::uint64_t{0}, key_too = 0;
  [[nodiscard]] bool whole(std::uint64_t of) const noexcept {
    return key == of && key_too == of && not_count == ~count;
  }
};
value32 value_of(std::uint64_t key, std::uint64_t count) {
  return {key, count, ~count, key};
}

/// Gives keys few homes, so that writers meet in every entry.
struct crowded {
  std::uint64_t operator()(std::uint64_t key) const noexcept { return key % 4; }
};

template <class Map>
void readers_and_writers(Map& m, std::uint64_t keys, std::uint64_t rounds, std::uint64_t fill) {
  // Keys 0..7 are never erased. No reader may ever miss them while other keys come and go.
  for (std::uint64_t k = 0; k < 8; ++k)
    ASSERT_EQ(m.insert(k, value_of(k, 0)), map_status::done);

  constexpr std::uint64_t writers = 2;
  std::atomic<std::uint64_t> working{writers};
  std::atomic<std::uint64_t> torn{0}, lost{0}, twice{0}, back{0}, refused{0};
  std::vector<std::thread> threads;
  for (std::uint64_t w = 0; w < writers; ++w)
    threads.emplace_back([&, w] {
      std::uint64_t x = w + 1, filled = 0;
      for (std::uint64_t i = 0; i < rounds; ++i) {
        for (; filled < fill / writers * i / rounds; ++filled) {
          const std::uint64_t key = 8 + keys + filled * writers + w;
          refused += m.insert(key, value_of(key, 0)) != map_status::done;
          lost += !m.contains(key);
        }
        x = x * 6364136223846793005u + 1442695040888963407u;
        const std::uint64_t key = 8 + (x >> 33) % keys;
        switch ((x >> 20) % 4) {
        case 0:
          m.insert(key, value_of(key, i));
          break;
        case 1:
        case 2:
          m.erase(key);
          break;
        default:
          m.alter(key % 8, [&](std::optional<value32>& v) {
            v = value_of(key % 8, v->count + 1);
            return map_status::done;
          });
        }
      }
      --working;
    });
  for (int r = 0; r < 2; ++r)
    threads.emplace_back([&] {
      std::uint64_t last[8] = {};
      while (working.load() != 0) {
        for (std::uint64_t k = 0; k < 8 + keys; ++k) {
          const auto v = m.get(k);
          if (v && !v->whole(k)) ++torn;
          if (k >= 8) continue;
          if (!v)
            ++lost;
          else if (v->count < last[k])
            ++back;
          else
            last[k] = v->count;
        }
        std::uint64_t staying[8] = {0, 1, 2, 3, 4, 5, 6, 7};
        value32 values[8];
        lost += m.get_bulk(staying, 8, values) != 0xff;
        for (std::uint64_t k = 0; k < 8; ++k)
          torn += !values[k].whole(k);
        if (fill != 0) m.trim();
        std::uint64_t seen[8] = {};
        m.for_each([&](std::uint64_t k, const value32& v) {
          if (!v.whole(k)) ++torn;
          if (k < 8) ++seen[k];
        });
        for (auto n : seen)
          twice += n != 1;
      }
    });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(torn.load(), 0u);
  EXPECT_EQ(lost.load(), 0u);
  EXPECT_EQ(back.load(), 0u);
  EXPECT_EQ(twice.load(), 0u);
  EXPECT_EQ(refused.load(), 0u);
  std::uint64_t seen = 0;
  m.for_each([&](std::uint64_t k, const value32&) {
    ++seen;
    EXPECT_TRUE(m.contains(k));
  });
  EXPECT_EQ(seen, m.len());
}

/// `fill` is the number of other keys that the writers add one by one. The map then begins with
/// room for hardly more keys than those that stay.
template <class Hash>
void readers_and_writers(std::uint64_t keys, std::uint64_t rounds, std::uint64_t fill = 0) {
  auto made =
      seq_map<std::uint64_t, value32, Hash>::create(keys + 8 + fill, Hash{}, fill == 0 ? 0 : 8);
  ASSERT_TRUE(made);
  readers_and_writers(**made, keys, rounds, fill);
}

TEST(SeqMapStress, ReadersSeeWholeValuesAndMissNoKeyThatStays) {
  readers_and_writers<map_hash<std::uint64_t>>(200, 1'000'000);
}
TEST(SeqMapStress, ReadersMissNoKeyWhileReachesRiseAndFall) {
  readers_and_writers<crowded>(24, 500'000);
}

TEST(SeqMapStress, ReadersMissNoKeyWhileTheMapGrows) {
  for (int i = 0; i < 4; ++i)
    readers_and_writers<map_hash<std::uint64_t>>(200, 200'000, 100'000);
}
TEST(SeqMapStress, ReadersMissNoKeyWhileAMapWithoutACapacityTakesTables) {
  for (int i = 0; i < 4; ++i) {
    auto made = seq_map<std::uint64_t, value32>::create_unbounded();
    ASSERT_TRUE(made);
    readers_and_writers(**made, 200, 200'000, 100'000);
  }
}
/// The hash gives only four homes in every table, and the groups behind them fill up.
TEST(SeqMapStress, ReadersMissNoKeyWhileACrowdedMapGrows) {
  for (int i = 0; i < 10; ++i)
    readers_and_writers<crowded>(24, 20'000, 150);
}

} // namespace
} // namespace chainring
