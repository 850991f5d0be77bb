// SPDX-License-Identifier: BSD-3-Clause
#include <atomic>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

#include "seqlock/seqlock.h"

namespace chainring {
namespace {

struct odd_size {
  std::uint32_t a;
  std::uint16_t b;
  unsigned char c[13];
  bool operator==(const odd_size&) const = default;
};

/// A value of several words. It is whole if all words are the same.
struct wide {
  std::uint64_t words[9];
  explicit wide(std::uint64_t n = 0) noexcept {
    for (auto& w : words)
      w = n;
  }
  [[nodiscard]] bool whole() const noexcept {
    for (auto w : words)
      if (w != words[0]) return false;
    return true;
  }
};

TEST(Seqlock, ReadsTheValueThatWasWrittenLast) {
  seqlock<odd_size> lock(odd_size{1, 2, {3}});
  EXPECT_EQ(lock.read(), (odd_size{1, 2, {3}}));
  {
    auto guard = lock.lock_write();
    guard->b = 9;
  }
  EXPECT_EQ(lock.read(), (odd_size{1, 9, {3}}));
  EXPECT_EQ(std::move(lock).into_inner(), (odd_size{1, 9, {3}}));
}

TEST(Seqlock, AWriteGuardKeepsOtherWritersOutAndReadersIn) {
  seqlock<std::uint64_t> lock(7);
  {
    auto guard = lock.lock_write();
    *guard = 8;
    EXPECT_FALSE(lock.try_lock_write().has_value());
    EXPECT_EQ(lock.try_read(), 7u);
    EXPECT_EQ(lock.read(), 7u);
  }
  EXPECT_EQ(lock.read(), 8u);
  EXPECT_TRUE(lock.try_lock_write().has_value());
}

TEST(Seqlock, ReadersNeverSeeHalfAValueWhileWritersReplaceIt) {
  seqlock<wide> lock;
  constexpr std::uint64_t rounds = 20'000;
  std::atomic<bool> stop{false};
  std::atomic<unsigned> torn{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 2; ++r)
    readers.emplace_back([&] {
      while (!stop.load()) {
        if (!lock.read().whole()) ++torn;
        if (auto v = lock.try_read(); v && !v->whole()) ++torn;
      }
    });
  std::vector<std::thread> writers;
  for (int w = 0; w < 2; ++w)
    writers.emplace_back([&] {
      for (std::uint64_t i = 0; i < rounds; ++i) {
        auto guard = lock.lock_write();
        *guard = wide(guard->words[0] + 1);
      }
    });
  for (auto& t : writers)
    t.join();
  stop = true;
  for (auto& t : readers)
    t.join();
  EXPECT_EQ(torn.load(), 0u);
  EXPECT_EQ(lock.read().words[0], 2 * rounds);
}

TEST(SeqArray, DistinguishesOutOfBoundsFromUninitialized) {
  seq_array<std::uint32_t> array(4, 2);
  std::uint32_t value = 0;
  EXPECT_EQ(array.capacity(), 4u);
  EXPECT_EQ(array.len(), 2u);
  EXPECT_EQ(array.get(0, value), seq_status::uninitialized);
  EXPECT_EQ(array.get(2, value), seq_status::out_of_bounds);
  EXPECT_EQ(array.set(2, 5), seq_status::out_of_bounds);
  EXPECT_EQ(array.set(1, 5), seq_status::done);
  EXPECT_EQ(array.get(1, value), seq_status::done);
  EXPECT_EQ(value, 5u);
}

TEST(SeqArray, ForgetsElementsPastAShorterLength) {
  seq_array<std::uint32_t> array(4, 4);
  for (std::uint32_t i = 0; i < 4; ++i)
    ASSERT_EQ(array.set(i, i), seq_status::done);
  EXPECT_EQ(array.resize(1), seq_status::done);
  EXPECT_EQ(array.resize(4), seq_status::done);
  EXPECT_EQ(array.resize(5), seq_status::out_of_bounds);
  std::uint32_t value = 9;
  EXPECT_EQ(array.get(0, value), seq_status::done);
  EXPECT_EQ(value, 0u);
  for (std::uint32_t i = 1; i < 4; ++i)
    EXPECT_EQ(array.get(i, value), seq_status::uninitialized);
}

TEST(SeqArray, ElementsAreReadWholeWhileSeveralWritersReplaceThem) {
  seq_array<wide> array(3, 3);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> torn{0};
  std::thread reader([&] {
    wide value;
    while (!stop.load())
      for (std::size_t i = 0; i < 3; ++i)
        if (array.get(i, value) == seq_status::done && !value.whole()) ++torn;
  });
  std::vector<std::thread> writers;
  for (std::uint64_t w = 0; w < 2; ++w)
    writers.emplace_back([&, w] {
      for (std::uint64_t i = 0; i < 30'000; ++i)
        array.set(i % 3, wide(i * 2 + w));
    });
  for (auto& t : writers)
    t.join();
  stop = true;
  reader.join();
  EXPECT_EQ(torn.load(), 0u);
}

TEST(SeqVec, KeepsEveryPushedValueOnceAndRefusesValuesPastItsCapacity) {
  constexpr std::size_t each = 500;
  seq_vec<std::uint64_t> list(2 * each);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 2; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < each; ++i) {
        std::size_t index = 0;
        const auto status = list.push(t * each + i, index);
        std::uint64_t back = 0;
        EXPECT_EQ(status, seq_status::done);
        EXPECT_EQ(list.get(index, back), seq_status::done);
        EXPECT_EQ(back, t * each + i);
      }
    });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(list.push(1), seq_status::out_of_bounds);
  EXPECT_EQ(list.len(), 2 * each);
  std::vector<bool> seen(2 * each);
  for (std::size_t i = 0; i < list.len(); ++i) {
    std::uint64_t value = 0;
    ASSERT_EQ(list.get(i, value), seq_status::done);
    EXPECT_FALSE(seen[value]);
    seen[value] = true;
  }
  std::uint64_t value = 0;
  EXPECT_EQ(list.get(2 * each, value), seq_status::out_of_bounds);
}

} // namespace
} // namespace chainring
