// SPDX-License-Identifier: BSD-3-Clause
#include <atomic>
#include <gtest/gtest.h>
#include <new>
#include <thread>
#include <vector>

#include "seqlock/seqlock.h"

namespace chainring {
namespace {

/// An element for which there is no memory now and then.
struct scarce {
  static inline bool none_left = false;
  std::uint64_t value = 7;
  static void* operator new[](std::size_t n, const std::nothrow_t&) noexcept {
    return none_left ? nullptr : ::operator new[](n);
  }
  static void operator delete[](void* at) noexcept { ::operator delete[](at); }
};

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
  lock.get_mut([](odd_size& now) {
    EXPECT_EQ(now.b, 9);
    now.a = 4;
  });
  EXPECT_EQ(lock.read(), (odd_size{4, 9, {3}}));
  lock.get_mut([](odd_size& now) { now.a = 1; });
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

TEST(SeqArray, AnyElementBelowTheLengthMayBeSetAtOnceAndIsUninitializedUntilThen) {
  seq_array<std::uint32_t> array(4);
  EXPECT_EQ(array.len(), 4u);
  EXPECT_GE(array.capacity(), 4u);
  std::uint32_t value = 7;
  EXPECT_EQ(array.get(0, value), seq_status::uninitialized);
  EXPECT_EQ(array.set(0, 5), seq_status::done);
  EXPECT_EQ(array.set(1, 6), seq_status::done);
  EXPECT_EQ(array.get(3, value), seq_status::uninitialized);
  EXPECT_EQ(value, 7u) << "nothing was read";
  EXPECT_EQ(array.get(4, value), seq_status::out_of_bounds);
  EXPECT_EQ(array.set(4, 5), seq_status::out_of_bounds);
  EXPECT_EQ(array.get(1, value), seq_status::done);
  EXPECT_EQ(value, 6u);
}

TEST(SeqArray, CapacityIsMemoryAndBoundsNothing) {
  seq_array<std::uint32_t> array(1, 100);
  EXPECT_EQ(array.len(), 1u);
  EXPECT_GE(array.capacity(), 100u);
  EXPECT_EQ(array.set(1, 1), seq_status::out_of_bounds);
  EXPECT_EQ(array.resize(array.capacity() + 1), seq_status::done);
  EXPECT_EQ(array.set(array.len() - 1, 3), seq_status::done);
  EXPECT_GE(array.capacity(), array.len());
}

TEST(SeqArray, ForgetsElementsPastAShorterLength) {
  seq_array<std::uint32_t> array(4);
  for (std::uint32_t i = 0; i < 4; ++i)
    ASSERT_EQ(array.set(i, i), seq_status::done);
  EXPECT_EQ(array.resize(1), seq_status::done);
  EXPECT_EQ(array.resize(5), seq_status::done);
  std::uint32_t value = 9;
  EXPECT_EQ(array.get(0, value), seq_status::done);
  EXPECT_EQ(value, 0u);
  for (std::uint32_t i = 1; i < 5; ++i)
    EXPECT_EQ(array.get(i, value), seq_status::uninitialized);
}

// Each length and the elements of every segment, on both sides of where segments meet.
TEST(SeqArray, KeepsItsElementsWhereItGrows) {
  seq_array<std::uint64_t> array;
  EXPECT_EQ(array.len(), 0u);
  EXPECT_EQ(array.capacity(), 0u);
  std::uint64_t value = 0;
  EXPECT_EQ(array.get(0, value), seq_status::out_of_bounds);
  for (std::size_t n = 1; n <= 300; ++n) {
    ASSERT_EQ(array.resize(n), seq_status::done);
    ASSERT_EQ(array.get(n - 1, value), seq_status::uninitialized);
    ASSERT_EQ(array.set(n - 1, 1000 + n), seq_status::done);
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(array.get(i, value), seq_status::done);
      ASSERT_EQ(value, 1001 + i);
    }
    ASSERT_LE(array.capacity(), 2 * n) << "at most half of the memory is unused";
  }
}

TEST(SeqArray, SaysThatThereIsNoMemoryAndGoesOn) {
  seq_array<std::uint64_t> array(2);
  EXPECT_EQ(array.set(1, 5), seq_status::done);
  EXPECT_EQ(array.resize((std::size_t{1} << 40) + 1), seq_status::no_memory);
  EXPECT_EQ(array.len(), 2u);
  std::uint64_t value = 0;
  EXPECT_EQ(array.get(1, value), seq_status::done);
  EXPECT_EQ(value, 5u);
  EXPECT_EQ(array.resize(1000), seq_status::done);
}

TEST(SeqArray, ReadersAndWritersGoOnWhileItGrowsAndShrinks) {
  seq_array<wide> array(2);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> torn{0}, refused{0}, passes{0};
  std::thread reader([&] {
    wide value;
    for (; !stop.load(); ++passes)
      for (std::size_t i = 0; i < 5000; i += 7) {
        const seq_status s = array.get(i, value);
        if (s == seq_status::done && !value.whole()) ++torn;
        if (i < 2 && s == seq_status::out_of_bounds) ++refused;
      }
  });
  std::thread writer([&] {
    for (std::uint64_t n = 0; !stop.load(); ++n)
      array.set(n % 5000, wide(n));
  });
  for (std::size_t round = 0; round < 20 || passes < 20; ++round)
    for (std::size_t n = 2; n < 5000; n = n * 3 / 2 + 1)
      ASSERT_EQ(array.resize(n), seq_status::done);
  stop = true;
  reader.join();
  writer.join();
  EXPECT_EQ(torn.load(), 0u);
  EXPECT_EQ(refused.load(), 0u);
}

TEST(SeqArray, ElementsAreReadWholeWhileSeveralWritersReplaceThem) {
  seq_array<wide> array(3);
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

TEST(Segments, WithoutMemoryKeepWhatTheyHave) {
  detail::segments<scarce> elements(3);
  EXPECT_EQ(elements.room(), 0u);
  ASSERT_TRUE(elements.make_room(1));
  EXPECT_EQ(elements.room(), 4u) << "the power of two above 3";
  elements[3].value = 9;
  scarce::none_left = true;
  EXPECT_TRUE(elements.make_room(4));
  EXPECT_FALSE(elements.make_room(5));
  EXPECT_EQ(elements.room(), 4u);
  scarce::none_left = false;
  EXPECT_TRUE(elements.make_room(100));
  EXPECT_EQ(elements.room(), 128u);
  EXPECT_EQ(elements[3].value, 9u);
  EXPECT_EQ(elements[99].value, 7u);
  EXPECT_FALSE(elements.make_room(elements.elements_max + 1));
  EXPECT_EQ(elements.room(), 128u);
}

TEST(SeqVec, OneMadeForTwoTakesFour) {
  seq_vec<std::uint64_t> list(2);
  EXPECT_EQ(list.capacity(), 2u);
  EXPECT_EQ(list.len(), 0u);
  for (std::uint64_t i = 0; i < 4; ++i) {
    std::size_t at = 99;
    ASSERT_EQ(list.push(10 + i, at), seq_status::done);
    EXPECT_EQ(at, i);
  }
  EXPECT_EQ(list.len(), 4u);
  EXPECT_EQ(list.capacity(), 4u);
  std::uint64_t value = 0;
  for (std::uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(list.get(i, value), seq_status::done);
    EXPECT_EQ(value, 10 + i);
  }
  EXPECT_EQ(list.get(4, value), seq_status::out_of_bounds);
  EXPECT_EQ(list.reserve(100), seq_status::done);
  EXPECT_GE(list.capacity(), 100u);
  EXPECT_EQ(list.len(), 4u);
}

TEST(SeqVec, SaysThatThereIsNoMemoryAndLosesNothing) {
  seq_vec<std::uint64_t> list;
  EXPECT_EQ(list.push(1), seq_status::done);
  EXPECT_EQ(list.reserve((std::size_t{1} << 40) + 1), seq_status::no_memory);
  EXPECT_EQ(list.len(), 1u);
  EXPECT_EQ(list.push(2), seq_status::done);
}

TEST(SeqVec, KeepsEveryPushedValueOnceWhileItGrows) {
  constexpr std::size_t each = 20'000;
  seq_vec<wide> list(2);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> torn{0};
  std::thread reader([&] {
    wide value;
    while (!stop.load())
      for (std::size_t i = 0, n = list.len(); i < n; i += 1 + n / 64)
        if (list.get(i, value) == seq_status::done && !value.whole()) ++torn;
  });
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 2; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < each; ++i) {
        std::size_t index = 0;
        wide back;
        ASSERT_EQ(list.push(wide(t * each + i), index), seq_status::done);
        ASSERT_EQ(list.get(index, back), seq_status::done);
        ASSERT_EQ(back.words[0], t * each + i);
      }
    });
  for (auto& t : threads)
    t.join();
  stop = true;
  reader.join();
  EXPECT_EQ(torn.load(), 0u);
  ASSERT_EQ(list.len(), 2 * each);
  std::vector<bool> seen(2 * each);
  for (std::size_t i = 0; i < list.len(); ++i) {
    wide value;
    ASSERT_EQ(list.get(i, value), seq_status::done);
    ASSERT_TRUE(value.whole());
    EXPECT_FALSE(seen[value.words[0]]);
    seen[value.words[0]] = true;
  }
}

} // namespace
} // namespace chainring
