// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <atomic>
#include <sched.h>
#include <thread>

#include "block_model.h"
#include "message/message.h"
#include "support/seed.h"

namespace chainring {
namespace {

/// Each block has at most one owner. Owners write to a flag of the block with plain stores, so a
/// run that two threads own is a data race and also a wrong value.
struct owners {
  std::vector<std::uint32_t> who;
  std::atomic<unsigned> wrong{0};
  explicit owners(std::size_t n) : who(n) {}
  void take(const chain& c, std::uint32_t by) {
    for (std::uint32_t b = c.first; b < c.first + c.blocks; ++b) {
      if (who[b] != 0) ++wrong;
      who[b] = by;
    }
  }
  void give(const chain& c, std::uint32_t by) {
    for (std::uint32_t b = c.first; b < c.first + c.blocks; ++b) {
      if (who[b] != by) ++wrong;
      who[b] = 0;
    }
  }
};

/// A store of `blocks` blocks, of which the threads find `first` at the beginning and the others as
/// they go on.
std::uint64_t run(std::uint32_t blocks, block_store_options options, std::uint32_t longest,
                  unsigned rounds, std::uint32_t first = 0) {
  const std::uint64_t seed = test::printed_seed(42);
  auto m = memory_media(std::uint64_t{64} * blocks, durability_class::process);
  if (first == 0) first = blocks;
  options.block_count_max = blocks;
  auto store = block_store::create(*m, 0, 64, first, options).value();
  owners owned(blocks);
  constexpr unsigned count = 4;
  std::vector<std::thread> threads;
  for (unsigned t = 1; t <= count; ++t)
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed + t);
      std::vector<chain> live;
      std::vector<chain> out(64);
      for (unsigned i = 0; i < rounds; ++i) {
        if (random() % 2 == 0 || live.empty()) {
          const auto n = static_cast<std::uint32_t>(1 + random() % longest);
          const unsigned used = store->allocate(n, out);
          for (unsigned k = 0; k < used; ++k) {
            owned.take(out[k], t);
            live.push_back(out[k]);
          }
          // The store is full. Release most chains, so that the next request finds it merged again.
          while (used == 0 && live.size() > 4) {
            owned.give(live.back(), t);
            store->release(live.back());
            live.pop_back();
          }
        } else {
          const std::size_t k = random() % live.size();
          owned.give(live[k], t);
          store->release(live[k]);
          live[k] = live.back();
          live.pop_back();
        }
        if (i % 4096 == 0) static_cast<void>(store->statistics());
        if (i % 1000 == 7) store->flush_caches();
      }
      for (const chain& c : live) {
        owned.give(c, t);
        store->release(c);
      }
    });
  for (std::uint32_t n = first; n < blocks; n += std::min(blocks - n, 7u)) {
    for (int i = 0; i < 200; ++i)
      sched_yield();
    EXPECT_TRUE(store->extend(n + std::min(blocks - n, 7u)));
  }
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(owned.wrong, 0u);
  EXPECT_TRUE(store->check());
  EXPECT_EQ(store->statistics().free_blocks, blocks);
  store->flush_caches();
  EXPECT_EQ(store->statistics().largest_run, blocks);
  return store->statistics().reclaims;
}

TEST(BlockStoreStress, ThreadsShareAStoreThatIsOftenFull) {
  EXPECT_GT(run(200, {}, 12, 1'000'000), 0u);
}
TEST(BlockStoreStress, ThreadsShareAStoreThatGrows) {
  EXPECT_GT(run(1000, {}, 12, 300'000, 100), 0u);
}
TEST(BlockStoreStress, ThreadsShareAStoreWithRoom) {
  EXPECT_GT(run(20'000, {}, 12, 1'000'000), 0u);
}
TEST(BlockStoreStress, ThreadsShareAStoreWithoutCaches) {
  EXPECT_EQ(run(400, {.cache_runs_max = 0}, 12, 500'000), 0u);
}

TEST(MessageStress, ThreadsPublishReadAndDropFromOneTable) {
  const std::uint64_t seed = test::printed_seed(42);
  constexpr std::uint32_t descriptors = 100, blocks = 400;
  auto m = memory_media(64 * (descriptors + blocks), durability_class::process);
  auto store = block_store::create(*m, 64 * descriptors, 64, blocks).value();
  auto table = message_table::create(*m, 0, descriptors, *store).value();
  constexpr unsigned count = 4;
  // Messages pass through a ring of mailboxes, so any thread may drop the last reference.
  std::atomic<std::uint64_t> mailbox[count] = {};
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < count; ++t)
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed + t);
      std::vector<std::byte> bytes(2000), back(2000);
      auto consume = [&](std::uint64_t word) {
        if (word == 0) return;
        const message_ref ref{static_cast<std::uint32_t>(word),
                              static_cast<std::uint16_t>(word >> 32)};
        message_view v;
        if (table->view(ref, v) != message_status::ok || !table->verify(v)) {
          ++wrong;
          return;
        }
        message_cursor all = v.all;
        const std::uint64_t n = all.copy_out(back.data(), back.size());
        for (std::uint64_t i = 1; i < n; ++i)
          if (back[i] != back[0]) {
            ++wrong;
            break;
          }
        table->drop_reference(ref.index);
      };
      for (unsigned i = 0; i < 200'000; ++i) {
        message msg;
        message_fields f;
        f.payload_size = static_cast<std::uint32_t>(random() % 1500);
        f.topic_size = static_cast<std::uint16_t>(random() % 40);
        if (table->reserve(f, msg)) {
          std::fill_n(bytes.begin(), f.size(), static_cast<std::byte>(random()));
          table->copy_in(msg, bytes.data(), f.size());
          table->stage(msg);
          table->add_references(msg.ref.index, 1);
          table->flush_staged(msg);
          m->drain();
          table->publish(msg);
          const std::uint64_t word =
              std::uint64_t{1} << 63 | msg.ref.index | std::uint64_t{msg.ref.generation} << 32;
          consume(mailbox[random() % count].exchange(word));
          table->drop_reference(msg.ref.index);
        }
        consume(mailbox[t].exchange(0));
      }
    });
  for (auto& t : threads)
    t.join();
  for (auto& box : mailbox)
    if (const std::uint64_t word = box; word != 0)
      table->drop_reference(static_cast<std::uint32_t>(word));
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(table->statistics().free, descriptors);
  EXPECT_EQ(table->statistics().live, 0u);
  EXPECT_EQ(store->statistics().free_blocks, blocks);
  EXPECT_TRUE(store->check());
}

} // namespace
} // namespace chainring
