// SPDX-License-Identifier: BSD-3-Clause
/// Threads that publish, read, pin and drop messages of many sizes, while a compactor moves them.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "base/hook.h"
#include "base/spin_lock.h"
#include "message/compactor.h"
#include "message_fixture.h"
#include "support/give_way.h"
#include "support/seed.h"

namespace chainring::test {
namespace {

constexpr table_layout layout{.descriptors = 512, .block_size = 64, .blocks = 2048};
constexpr unsigned threads = 3;
constexpr unsigned rounds = 4000;
constexpr std::size_t shelf_size = 256;

/// Messages that any thread may take and put back.
struct shelf {
  struct item {
    message_ref ref;
    std::uint64_t id = 0;
    message_fields f;
  };
  spin_lock lock;
  std::array<item, shelf_size> items{}; ///< with id 0 a place is empty

  [[nodiscard]] item exchange(std::size_t place, const item& with) {
    const std::lock_guard guard(lock);
    const item before = items[place];
    items[place] = with;
    return before;
  }
};

/// The message must be whole: each byte is compared inside one reading, or under a pin.
void look_at(const fixture& f, const shelf::item& i, bool pinned, std::atomic<unsigned>& wrong) {
  message_table& table = *f.t.table;
  message_view v;
  bool has_pin = false;
  {
    const message_table::reading mine(table);
    if (table.view(i.ref, v) != message_status::ok) {
      ++wrong;
      return;
    }
    give_way(nullptr, nullptr); // the message may be about to move
    if (!pinned) {
      if (!table.verify(v)) ++wrong;
      if (!differs(table, i.ref, i.id, i.f).empty()) ++wrong;
      return;
    }
    has_pin = table.pin(i.ref.index);
  }
  give_way(nullptr, nullptr);
  if (!has_pin || !table.verify(v)) ++wrong;
  if (has_pin) table.unpin(i.ref.index);
}

TEST(CompactorStress, MessagesStayWholeWhileTheyMove) {
  set_hook(give_way, nullptr);
  fixture f(layout, true);
  shelf s;
  std::atomic<unsigned> wrong{0};
  std::atomic<std::uint64_t> next_id{1}, refused{0};
  std::atomic<unsigned> running{threads};
  const std::uint64_t seed = seed_from_environment(1);

  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t)
    all.emplace_back([&, t] {
      std::mt19937_64 random(seed + t);
      for (unsigned r = 0; r < rounds; ++r) {
        const std::size_t place = random() % shelf_size;
        shelf::item old = s.exchange(place, {});
        if (old.id != 0) {
          look_at(f, old, random() % 4 == 0, wrong);
          f->drop_reference(old.ref.index);
        }
        shelf::item fresh{{}, next_id++, {}};
        fresh.f = fields(fresh.id, static_cast<std::uint32_t>(random() % 900), 0, 0);
        message m;
        if (publish_message(f.t, fresh.id, fresh.f, m)) {
          fresh.ref = m.ref;
          look_at(f, fresh, false, wrong);
          old = s.exchange(place, fresh);
          if (old.id != 0) f->drop_reference(old.ref.index);
        } else {
          ++refused;
        }
      }
      --running;
    });
  compactor_statistics done;
  {
    const auto c = message_compactor::create(*f.t.table, {.segment_blocks = 64}).value();
    while (running != 0)
      if (c->step({.descriptors = 128, .blocks = 64}) != compaction::working)
        std::this_thread::yield();
    for (std::thread& t : all)
      t.join();
    done = c->statistics();
  }
  set_hook(nullptr, nullptr);
  EXPECT_EQ(wrong, 0u);
  EXPECT_NE(done.moved, 0u);
  std::printf("%lu messages moved, %lu joined, in %lu cycles; %lu requests refused\n", done.moved,
              done.joined, done.cycles, refused.load());
  for (const shelf::item& i : s.items)
    if (i.id != 0) {
      EXPECT_EQ(differs(*f.t.table, i.ref, i.id, i.f), "");
      f->drop_reference(i.ref.index);
    }
  const auto store = f.t.store->statistics();
  EXPECT_EQ(store.live_blocks, 0u);
  EXPECT_TRUE(f.t.store->check().ok());
  EXPECT_EQ(f->statistics().live, 0u);
}

} // namespace
} // namespace chainring::test
