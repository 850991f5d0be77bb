// SPDX-License-Identifier: BSD-3-Clause
/// Structures under more threads than tables have rows for (base/thread_slot.h).
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <string>
#include <unistd.h>

#include "map/durable_map.h"
#include "map/seq_map.h"
#include "objects/object_map.h"
#include "objects/object_queue.h"
#include "support/many_threads.h"

namespace chainring::test {
namespace {

using text_map = map<std::string, std::string>;
using number_queue = queue<std::uint64_t>;
using text_queue = queue<std::string>;

/// A text that fits no cell. Every 16th takes so many blocks that a thread keeps its extents
/// elsewhere than on its stack.
std::string long_text(std::uint64_t i) {
  return std::string((i % 16 == 0 ? 3000 : 40) + i % 100, static_cast<char>('a' + i % 26));
}
std::string key_of(std::uint64_t i) {
  return "a key that lies in a chain because it is so long: " + std::to_string(i);
}

class ManyThreads : public testing::TestWithParam<const char*> {
 protected:
  ManyThreads() { std::filesystem::remove(path); }
  ~ManyThreads() override { std::filesystem::remove(path); }
  const std::string path = std::string(GetParam()) + "/threads." + std::to_string(getpid());
  static constexpr std::uint64_t threads_max = 1100;

  void open() {
    volatile_map = seq_map<std::uint64_t, std::uint64_t>::create(4 * threads_max).value();
    auto opened = objects::open_or_create(
        path, durable<text_map>{"texts", 8 * threads_max},
        durable<number_queue>{"numbers", 2 * threads_max, 1, queue_mode::mpmc},
        durable<text_queue>{"lines", 2 * threads_max, 1, queue_mode::mpmc});
    ASSERT_TRUE(opened) << opened.error().message;
    all = std::move(opened).value();
  }
  /// What one thread does, whose number among the threads of the test is `i`.
  void work(std::uint64_t i) {
    auto texts = all->get<text_map>("texts").value();
    auto numbers = all->get<number_queue>("numbers").value();
    auto lines = all->get<text_queue>("lines").value();
    const auto expect = [&](bool right) { wrong += right ? 0 : 1; };

    expect(volatile_map->insert(i, i) == map_status::done);
    expect(volatile_map->get(i) == i);

    // A batch, and single calls that join it.
    {
      durable_map& bytes = texts.bytes();
      durable_map::batch burst(bytes);
      expect(burst.insert(bytes_of(key_of(i)), bytes_of(long_text(i))) == map_status::done);
      expect(texts.upsert("last", "x") == map_status::done);
      expect(burst.size() == 0);
    }
    expect(texts.get(key_of(i)) == long_text(i));
    // Staged changes, of which a thread finishes its own before it waits for those of others.
    std::vector<map_change> open;
    const auto finish = [&] {
      for (map_change& c : open)
        texts.bytes().change_flush(c);
      all->region().medium().drain();
      for (map_change& c : open)
        texts.bytes().change_finish(c);
      open.clear();
    };
    for (std::uint64_t k = 0; k < 2; ++k) {
      const std::string key = key_of(threads_max + 2 * i + k);
      map_change c;
      map_status s;
      while ((s = texts.bytes().upsert_start(bytes_of(key), bytes_of(long_text(k)), c)) ==
             map_status::busy) {
        finish();
        std::this_thread::yield();
      }
      expect(s == map_status::done);
      if (s == map_status::done) open.push_back(c);
    }
    finish();
    // A walk, within which keys with chains are looked up.
    if (i % 64 == 0)
      texts.bytes().for_each([&](auto key, auto) { expect(texts.bytes().contains(key)); });

    expect(numbers.enqueue(i) == queue_status::done);
    expect(lines.enqueue(long_text(i)) == queue_status::done);
    if (i % 2 == 0) {
      if (auto got = numbers.dequeue()) taken_numbers += 1;
      if (auto got = lines.dequeue()) taken_lines += 1;
    }
  }
  void expect_everything_of(std::uint64_t n) {
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(volatile_map->len(), n);
    for (const bool reopened : {false, true}) {
      if (reopened) {
        ASSERT_TRUE(all->close());
        open();
        EXPECT_TRUE(all->recovered().clean());
      }
      auto texts = all->get<text_map>("texts").value();
      EXPECT_EQ(texts.len(), 3 * n + 1);
      for (std::uint64_t i = 0; i < n; ++i)
        ASSERT_TRUE(texts.get(key_of(i)) == long_text(i)) << i;
      EXPECT_EQ(all->get<number_queue>("numbers").value().depth(), n - taken_numbers);
      EXPECT_EQ(all->get<text_queue>("lines").value().depth(), n - taken_lines);
    }
    std::uint64_t lines = 0;
    while (auto line = all->get<text_queue>("lines").value().dequeue())
      lines += line->size() >= 40;
    EXPECT_EQ(lines, n - taken_lines);
  }

  std::unique_ptr<seq_map<std::uint64_t, std::uint64_t>> volatile_map;
  std::unique_ptr<objects> all;
  std::atomic<std::uint64_t> wrong{0}, taken_numbers{0}, taken_lines{0};
};

TEST_P(ManyThreads, OneAfterTheOtherMayUseAStructure) {
  open();
  for (std::uint64_t i = 0; i < 1000; ++i)
    std::thread([&] { work(i); }).join();
  expect_everything_of(1000);
}

TEST_P(ManyThreads, MayUseAStructureAtOnce) {
  open();
  run_at_once(600, [&](unsigned i) { work(i); });
  expect_everything_of(600);
}

TEST_P(ManyThreads, WorkAsOthersDoWhereNoneOfThemHasARow) {
  open();
  const occupied_rows no_row_left;
  run_at_once(60, [&](unsigned i) { work(i); });
  expect_everything_of(60);
}

INSTANTIATE_TEST_SUITE_P(InMemoryAndInAFile, ManyThreads, testing::Values("/dev/shm", "/var/tmp"),
                         [](const auto& info) {
                           return std::string(info.index == 0 ? "process" : "file");
                         });

TEST(ManyThreadsOfABlockStore, GetAndGiveBackBlocksWithoutCachesOfTheirOwn) {
  auto m = memory_media(64 * 4096, durability_class::process);
  auto store = block_store::create(*m, 0, 64, 4096).value();
  const occupied_rows no_row_left;
  std::atomic<std::uint64_t> refused{0};
  run_at_once(8, [&](unsigned) {
    for (int i = 0; i < 2000; ++i) {
      chain few[4], one;
      if (!store->allocate_bulk(3, few)) ++refused;
      if (!store->try_allocate(2, one)) ++refused;
      store->release(few);
      store->release(one);
    }
  });
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(store->statistics().cached_blocks, 0u);
  EXPECT_EQ(store->statistics().largest_run, 4096u) << "all blocks are free, in one run";
  EXPECT_TRUE(store->check());
}

} // namespace
} // namespace chainring::test
