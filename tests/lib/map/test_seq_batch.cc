// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "base/hook.h"
#include "map/seq_map.h"
#include "support/give_way.h"
#include "support/seed.h"
#include "support/seeded.h"

namespace chainring {
namespace {

using numbers = seq_map<std::uint64_t, std::uint64_t>;

/// Gives keys few homes, so that keys of a batch share claims, groups and tags.
struct crowded {
  std::uint64_t operator()(std::uint64_t key) const noexcept { return key % 3; }
};

template <class Map = numbers> auto made(std::uint64_t capacity, std::uint64_t first = 0) {
  auto m = Map::create(capacity, {}, first);
  EXPECT_TRUE(m);
  return std::move(m).value();
}

TEST(SeqBatch, ItsChangesAreSeenAfterItsCommitAndNotBefore) {
  auto m = made(8);
  m->insert(1, 10);
  m->insert(2, 20);
  numbers::atomic_batch b(*m);
  EXPECT_EQ(b.upsert(1, 11), map_status::done);
  EXPECT_EQ(b.erase(2), map_status::done);
  EXPECT_EQ(b.insert(3, 30), map_status::done);
  EXPECT_EQ(b.erase(4), map_status::done); // is missing, and may be
  EXPECT_EQ(b.size(), 4u);
  EXPECT_EQ(m->get(1), 10u);
  EXPECT_TRUE(m->contains(2));
  EXPECT_FALSE(m->contains(3));
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(b.size(), 0u);
  EXPECT_EQ(m->get(1), 11u);
  EXPECT_FALSE(m->contains(2));
  EXPECT_EQ(m->get(3), 30u);
  EXPECT_EQ(m->len(), 2u);
}

TEST(SeqBatch, AnEmptyOneIsDone) {
  auto m = made(8);
  numbers::atomic_batch b(*m);
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(b.insert(1, 1), map_status::done);
  b.clear();
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(m->len(), 0u);
}

TEST(SeqBatch, TheLastChangeOfAKeyCounts) {
  auto m = made(8);
  m->insert(1, 10);
  m->insert(2, 20);
  numbers::atomic_batch b(*m);
  (void)b.upsert(1, 11);
  (void)b.erase(1);
  (void)b.erase(2);
  (void)b.insert(2, 21); // behind the erase of its key it does not mind that the key is there
  (void)b.insert(3, 30);
  (void)b.insert(3, 31);
  (void)b.insert(4, 40);
  (void)b.erase(4);
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_FALSE(m->contains(1));
  EXPECT_EQ(m->get(2), 21u);
  EXPECT_EQ(m->get(3), 31u);
  EXPECT_FALSE(m->contains(4));
  EXPECT_EQ(m->len(), 2u);
}

TEST(SeqBatch, AnInsertOfAKeyThatIsThereRefusesTheWholeBatch) {
  auto m = made(8);
  m->insert(5, 50);
  numbers::atomic_batch b(*m);
  (void)b.insert(1, 10);
  (void)b.insert(5, 51);
  (void)b.insert(9, 90);
  EXPECT_EQ(b.commit(), map_status::exists);
  EXPECT_EQ(m->len(), 1u);
  EXPECT_EQ(m->get(5), 50u);
  EXPECT_FALSE(m->contains(1));
  EXPECT_FALSE(m->contains(9));
  EXPECT_EQ(m->upsert(1, 12), map_status::done); // its claims are free again
}

TEST(SeqBatch, AMapWithoutRoomForAllOfItTakesNothing) {
  auto m = made(4);
  for (std::uint64_t k = 0; k < 3; ++k)
    m->insert(k, k);
  numbers::atomic_batch b(*m);
  (void)b.upsert(0, 100);
  (void)b.insert(7, 70);
  (void)b.insert(8, 80);
  EXPECT_EQ(b.commit(), map_status::full);
  EXPECT_EQ(m->len(), 3u);
  EXPECT_EQ(m->get(0), 0u);
  EXPECT_FALSE(m->contains(7));
  EXPECT_FALSE(m->contains(8));
  (void)b.upsert(0, 100);
  (void)b.insert(7, 70);
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(m->len(), 4u);
  // A full map still takes a batch that adds no key.
  (void)b.upsert(0, 101);
  (void)b.erase(1);
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(m->get(0), 101u);
  EXPECT_EQ(m->len(), 3u);
}

/// The hash gives all keys one home, whose neighbourhood has fewer entries than the map has room.
TEST(SeqBatch, AHomeWithoutRoomLeavesNothingOfTheBatch) {
  struct one_home {
    std::uint64_t operator()(std::uint64_t) const noexcept { return 5; }
  };
  struct wide {
    std::uint64_t words[8];
  };
  using map = seq_map<std::uint64_t, wide, one_home>;
  auto m = made<map>(1000);
  std::uint64_t k = 0;
  while (m->insert(k, {{k}}) == map_status::done)
    ++k;
  ASSERT_LT(k, 1000u);
  ASSERT_EQ(m->erase(0), map_status::done);
  map::atomic_batch b(*m);
  (void)b.upsert(1, {{77}});
  (void)b.erase(2);
  (void)b.insert(2000, {{2000}});
  (void)b.insert(2001, {{2001}});
  EXPECT_EQ(b.commit(), map_status::full);
  EXPECT_EQ(m->get(1)->words[0], 1u);
  EXPECT_TRUE(m->contains(2));
  EXPECT_FALSE(m->contains(2000));
  EXPECT_FALSE(m->contains(2001));
  EXPECT_EQ(m->len(), k - 1);
  EXPECT_EQ(m->insert(2000, {{1}}), map_status::done); // the entry is free again
}

TEST(SeqBatch, MoreChangesThanItMayHaveAreRefused) {
  auto m = made(1000);
  numbers::atomic_batch b(*m);
  for (std::uint64_t k = 0; k < numbers::atomic_batch::changes_max; ++k)
    ASSERT_EQ(b.insert(k, k), map_status::done);
  EXPECT_EQ(b.insert(999, 1), map_status::too_many);
  EXPECT_EQ(b.erase(1), map_status::too_many);
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(m->len(), numbers::atomic_batch::changes_max);
  EXPECT_FALSE(m->contains(999));
}

TEST(SeqBatch, AMapGrowsUnderBatches) {
  auto m = made(100'000, 1);
  numbers::atomic_batch b(*m);
  for (std::uint64_t k = 0; k < 50'000;) {
    for (int i = 0; i < 100; ++i, ++k)
      ASSERT_EQ(b.insert(k, k), map_status::done);
    ASSERT_EQ(b.commit(), map_status::done);
  }
  EXPECT_EQ(m->len(), 50'000u);
  for (std::uint64_t k = 0; k < 50'000; ++k)
    ASSERT_EQ(m->get(k), k);
}

template <class Map> void against_a_model(std::uint64_t capacity, std::uint64_t keys) {
  std::mt19937_64 random(test::seed_from_environment(1));
  auto m = made<Map>(capacity, 2);
  std::map<std::uint64_t, std::uint64_t> model;
  typename Map::atomic_batch b(*m);
  for (int round = 0; round < 3000; ++round) {
    auto after = model;
    std::map<std::uint64_t, bool> changed;
    bool exists = false;
    for (auto n = random() % 12; n > 0; --n) {
      const std::uint64_t key = random() % keys, value = random();
      const auto kind = random() % 3;
      if (kind == 2) {
        ASSERT_EQ(b.erase(key), map_status::done);
        after.erase(key);
      } else {
        ASSERT_EQ(kind == 0 ? b.insert(key, value) : b.upsert(key, value), map_status::done);
        after[key] = value;
      }
      changed[key] = kind == 0 && !changed.contains(key);
    }
    std::uint64_t fresh = 0;
    for (const auto& [key, inserts] : changed) {
      exists |= inserts && model.contains(key);
      fresh += after.contains(key) && !model.contains(key);
    }
    const map_status expected = model.size() + fresh > capacity ? map_status::full
                                : exists                        ? map_status::exists
                                                                : map_status::done;
    ASSERT_EQ(b.commit(), expected);
    if (expected == map_status::done) model = after;
    ASSERT_EQ(m->len(), model.size());
    for (std::uint64_t key = 0; key < keys; ++key) {
      const auto found = model.find(key);
      ASSERT_EQ(m->get(key), found == model.end() ? std::nullopt : std::optional(found->second));
    }
  }
}
TEST(SeqBatch, RandomBatchesLeaveWhatAModelSays) {
  against_a_model<numbers>(12, 20);
  against_a_model<seq_map<std::uint64_t, std::uint64_t, crowded>>(40, 30);
}

/// Writers move the same number to all keys of a set in one batch, and now and then take all of
/// them out. Readers of one key after the other never see an older number behind a newer one, and
/// readers of all keys at one moment see one number.
struct seen_by_readers {
  std::uint64_t older = 0, mixed = 0, refused = 0;
};
template <class Hash>
seen_by_readers write_and_read(int rounds, std::uint64_t others, bool growing) {
  constexpr std::uint64_t keys = 6;
  using map = seq_map<std::uint64_t, std::uint64_t, Hash>;
  auto m = made<map>(keys + 2 * others + 16, growing ? 4 : 0);
  std::atomic<std::uint64_t> next{1}, older{0}, mixed{0}, refused{0};
  std::atomic<int> working{2};
  std::vector<std::thread> threads;
  set_hook(test::give_way, nullptr);
  // One writer gives the numbers, so that they rise; the other one makes batches of other keys, and
  // single changes that share claims and groups with those of the first.
  threads.emplace_back([&] {
    typename map::atomic_batch b(*m);
    for (int i = 0; i < rounds; ++i) {
      const std::uint64_t number = next++;
      for (std::uint64_t k = 0; k < keys; ++k)
        (void)b.upsert(k, number);
      refused += b.commit() != map_status::done;
      if (i % 5 != 4) continue;
      for (std::uint64_t k = 0; k < keys; ++k)
        (void)b.erase(k);
      refused += b.commit() != map_status::done;
    }
    --working;
  });
  threads.emplace_back([&] {
    typename map::atomic_batch b(*m);
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(rounds); ++i) {
      const std::uint64_t k = keys + i % others;
      refused += m->upsert(k, i) != map_status::done;
      (void)b.upsert(k + others, i);
      (void)b.erase(keys + (i + others / 2) % others);
      refused += b.commit() != map_status::done;
    }
    --working;
  });
  threads.emplace_back([&] { // one key after the other
    std::uint64_t least = 0; // what is seen next
    for (std::uint64_t k = 0, newest = 0; working.load() != 0; k = (k + 1) % keys) {
      const auto v = m->get(k);
      if (v) {
        older += *v < least;
        least = newest = std::max(newest, *v);
      } else {
        least = newest + 1; // the batch that erased the keys came behind that number
      }
    }
  });
  threads.emplace_back([&] { // all keys at one moment, one by one or as a burst
    for (unsigned round = 0; working.load() != 0; ++round) {
      std::array<std::optional<std::uint64_t>, keys> seen;
      m->read_together([&] {
        if (round % 2 == 0) {
          for (std::uint64_t k = 0; k < keys; ++k)
            seen[k] = m->get(k);
          return;
        }
        const std::uint64_t all[keys] = {0, 1, 2, 3, 4, 5};
        std::uint64_t values[keys];
        const std::uint64_t hits = m->get_bulk(all, keys, values);
        for (std::uint64_t k = 0; k < keys; ++k)
          seen[k] = (hits >> k & 1) != 0 ? std::optional(values[k]) : std::nullopt;
      });
      for (const auto& s : seen)
        mixed += s != seen[0];
    }
  });
  for (auto& t : threads)
    t.join();
  set_hook(nullptr, nullptr);
  return {older.load(), mixed.load(), refused.load()};
}

void expect_together(const seen_by_readers& seen) {
  EXPECT_EQ(seen.older, 0u);
  EXPECT_EQ(seen.mixed, 0u);
  EXPECT_EQ(seen.refused, 0u);
}
TEST(SeqBatch, ReadersSeeAllOfABatchOrNothing) {
  expect_together(write_and_read<map_hash<std::uint64_t>>(6'000, 10, false));
}
TEST(SeqBatch, ReadersSeeAllOfABatchWhereItsKeysShareHomes) {
  expect_together(write_and_read<crowded>(6'000, 10, false));
}
TEST(SeqBatch, ReadersSeeAllOfABatchWhileTheMapGrows) {
  expect_together(write_and_read<map_hash<std::uint64_t>>(1'500, 1'000, true));
}

TEST(SeqBatch, SeededBugsAreFound) {
  {
    const test::seeded on("map.batch_one_by_one");
    const auto seen = write_and_read<map_hash<std::uint64_t>>(6'000, 10, false);
    test::expect_found("map.batch_one_by_one", seen.older != 0, "SeqBatch");
  }
  {
    const test::seeded on("map.batch_uncounted");
    const auto seen = write_and_read<map_hash<std::uint64_t>>(6'000, 10, false);
    test::expect_found("map.batch_uncounted", seen.mixed != 0, "SeqBatch");
  }
}

/// A batch that holds one claim and waits for another one must not hold up the growth for which the
/// holder of that one waits.
TEST(SeqBatch, ABatchAndInsertsOfAGrowingMapDoNotWaitForEachOther) {
  for (int round = 0; round < 20; ++round) {
    auto m = made(4'000, 2);
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 3; ++t)
      threads.emplace_back([&, t] {
        numbers::atomic_batch b(*m);
        for (std::uint64_t i = 0; i < 1'000; ++i) {
          const std::uint64_t key = t * 1'000 + i;
          if (t == 0) {
            ASSERT_EQ(m->insert(key, key), map_status::done);
            continue;
          }
          (void)b.insert(key, key);
          if (b.size() == 40 || i == 999) {
            ASSERT_EQ(b.commit(), map_status::done);
          }
        }
      });
    for (auto& t : threads)
      t.join();
    ASSERT_EQ(m->len(), 3'000u);
  }
}

} // namespace
} // namespace chainring
