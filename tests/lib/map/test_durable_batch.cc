// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "base/hook.h"
#include "map/map.h"
#include "map_fixture.h"
#include "support/give_way.h"
#include "support/seam_counter.h"
#include "support/seed.h"
#include "support/seeded.h"
#include "support/test_media.h"

namespace chainring::test {
namespace {

map_layout layout(std::uint64_t cells = 16, std::uint64_t blocks = 64) {
  return {.cells = cells, .blocks = blocks};
}
struct made {
  std::unique_ptr<media> m;
  opened_map map;
  seam_counter seen;
  explicit made(const map_layout& l = layout())
      : m(memory_media(l.size(), durability_class::process)), map(*m, l) {
    m->observe(&seen);
  }
  ~made() { m->observe(nullptr); }
  durable_map* operator->() { return map.map.get(); }
  durable_map& operator*() { return *map.map; }
};

TEST(DurableBatch, ItsChangesAreSeenAfterItsCommitAndNotBefore) {
  made map;
  map->insert(bytes_of("a"), bytes_of("1"));
  map->insert(bytes_of("b"), bytes_of("2"));
  durable_map::atomic_batch b(*map);
  EXPECT_EQ(b.upsert(bytes_of("a"), bytes_of(std::string(100, 'x'))), map_status::done);
  EXPECT_EQ(b.erase(bytes_of("b")), map_status::done);
  EXPECT_EQ(b.insert(bytes_of(std::string(50, 'c')), bytes_of("3")), map_status::done);
  EXPECT_EQ(b.erase(bytes_of("missing")), map_status::done);
  EXPECT_EQ(b.size(), 4u);
  EXPECT_EQ(map.map.text("a"), "1");
  EXPECT_EQ(map.map.text("b"), "2");
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(b.size(), 0u);
  EXPECT_EQ(map.map.text("a"), std::string(100, 'x'));
  EXPECT_EQ(map.map.text("b"), "(none)");
  EXPECT_EQ(map.map.text(std::string(50, 'c')), "3");
  EXPECT_EQ(map->len(), 2u);
}

TEST(DurableBatch, ItTakesTwoDrainsWhateverItsSize) {
  made map(layout(600, 600));
  const auto commit = [&](unsigned n) {
    durable_map::atomic_batch b(*map);
    for (unsigned i = 0; i < n; ++i)
      ASSERT_EQ(b.upsert(bytes_of("key " + std::to_string(i)), bytes_of(n)), map_status::done);
    map.seen.drains = 0;
    ASSERT_EQ(b.commit(), map_status::done);
    EXPECT_EQ(map.seen.drains, 2) << n << " changes";
  };
  for (const unsigned n : {1u, 10u, 256u})
    commit(n);
  // A single change of a key that the batch does not have takes one, as ever, unless the secret
  // hash gives the key a stripe with one of the batch's. The first of one that it has takes two
  // more.
  int drains = 3;
  for (int tries = 0; drains == 3 && tries < 40; ++tries) {
    commit(256);
    map.seen.drains = 0;
    EXPECT_EQ(map->upsert(bytes_of("other " + std::to_string(tries)), bytes_of("1")),
              map_status::done);
    drains = map.seen.drains;
  }
  EXPECT_EQ(drains, 1);
  map.seen.drains = 0;
  EXPECT_EQ(map->upsert(bytes_of("key 0"), bytes_of("1")), map_status::done);
  EXPECT_EQ(map->upsert(bytes_of("key 1"), bytes_of("1")), map_status::done);
  EXPECT_EQ(map.seen.drains, 4);
}

TEST(DurableBatch, TheLastChangeOfAKeyCounts) {
  made map;
  map->insert(bytes_of("a"), bytes_of("0"));
  durable_map::atomic_batch b(*map);
  (void)b.erase(bytes_of("a"));
  (void)b.insert(bytes_of("a"), bytes_of("1"));
  (void)b.insert(bytes_of("b"), bytes_of("1"));
  (void)b.upsert(bytes_of("b"), bytes_of("2"));
  (void)b.insert(bytes_of("c"), bytes_of("1"));
  (void)b.erase(bytes_of("c"));
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(map.map.text("a"), "1");
  EXPECT_EQ(map.map.text("b"), "2");
  EXPECT_EQ(map.map.text("c"), "(none)");
}

TEST(DurableBatch, ARefusedOneLeavesNothing) {
  made map(layout(4, 8));
  map->insert(bytes_of("a"), bytes_of("0"));
  durable_map::atomic_batch b(*map);
  (void)b.insert(bytes_of("b"), bytes_of("1"));
  (void)b.insert(bytes_of("a"), bytes_of("1"));
  EXPECT_EQ(b.commit(), map_status::exists);
  for (int i = 0; i < 4; ++i) // with the cell of the log there is room for two more
    (void)b.insert(bytes_of("key " + std::to_string(i)), bytes_of("1"));
  EXPECT_EQ(b.commit(), map_status::full);
  (void)b.upsert(bytes_of("a"), bytes_of(std::string(300, 'x')));
  (void)b.upsert(bytes_of("b"),
                 bytes_of(std::string(300, 'x'))); // there are blocks for one of them
  EXPECT_EQ(b.commit(), map_status::full);
  EXPECT_EQ(map->len(), 1u);
  EXPECT_EQ(map.map.text("a"), "0");
  EXPECT_EQ(map.map.live_blocks(), 0u);
  EXPECT_EQ(map->insert(bytes_of("b"), bytes_of("1")), map_status::done); // its claim is free
  (void)b.insert(bytes_of("c"), bytes_of("1"));
  (void)b.erase(bytes_of("b"));
  EXPECT_EQ(b.commit(), map_status::done);
  // The cell that "b" had, and that of the log, are there for others.
  EXPECT_EQ(map->insert(bytes_of("d"), bytes_of("1")), map_status::done);
  EXPECT_EQ(map->insert(bytes_of("e"), bytes_of("1")), map_status::done);
  EXPECT_EQ(map->insert(bytes_of("f"), bytes_of("1")), map_status::full);
}

TEST(DurableBatch, WhatItCannotHoldIsRefused) {
  made map(layout(600, 600));
  durable_map::atomic_batch b(*map);
  EXPECT_EQ(b.insert({}, bytes_of("1")), map_status::too_long);
  for (unsigned i = 0; i < durable_map::atomic_batch::changes_max; ++i)
    ASSERT_EQ(b.insert(bytes_of(i), bytes_of(i)), map_status::done);
  EXPECT_EQ(b.insert(bytes_of("one more"), bytes_of("1")), map_status::too_many);
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(map->len(), durable_map::atomic_batch::changes_max);
}

TEST(DurableBatch, AFailedMediumIsSaidAndNothingIsSeen) {
  const map_layout l = layout();
  failing_media m(l.size());
  opened_map map(m, l);
  map->insert(bytes_of("a"), bytes_of("0"));
  durable_map::atomic_batch b(*map);
  (void)b.upsert(bytes_of("a"), bytes_of("1"));
  m.broken = true;
  EXPECT_EQ(b.commit(), map_status::failed);
  EXPECT_EQ(map.text("a"), "0");
  // It fails in the middle of a commit.
  m.broken = false;
  (void)b.upsert(bytes_of("a"), bytes_of("1"));
  set_hook(
      [](const char* name, void* medium) noexcept {
        if (std::string_view(name) == "map.batch.flushed")
          static_cast<failing_media*>(medium)->broken = true;
      },
      &m);
  EXPECT_EQ(b.commit(), map_status::failed);
  set_hook(nullptr, nullptr);
  EXPECT_EQ(map.text("a"), "0");
}

TEST(DurableBatch, AnOpenBatchOfTheThreadIsCommittedFirst) {
  made map;
  durable_map::batch open(*map);
  (void)open.insert(bytes_of("a"), bytes_of("1"));
  durable_map::atomic_batch b(*map);
  (void)b.upsert(bytes_of("a"), bytes_of("2"));
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(map.map.text("a"), "2");
  (void)open.upsert(bytes_of("a"), bytes_of("3")); // settles the batch
  open.commit();
  EXPECT_EQ(map.map.text("a"), "3");
}

TEST(DurableBatch, AMapOfTypesHasThem) {
  made m;
  map<std::string, std::uint64_t> stock(*m);
  map<std::string, std::uint64_t>::atomic_batch b(stock);
  EXPECT_EQ(b.insert("bolt", 20), map_status::done);
  EXPECT_EQ(b.upsert("nut", 30), map_status::done);
  EXPECT_EQ(b.erase("screw"), map_status::done);
  EXPECT_EQ(b.size(), 3u);
  EXPECT_EQ(b.commit(), map_status::done);
  const auto both =
      stock.read_together([&] { return std::pair(stock.get("bolt"), stock.get("nut")); });
  EXPECT_EQ(both.first, 20u);
  EXPECT_EQ(both.second, 30u);
}

/// What a batch leaves on media when the process dies right behind its commit.
struct left_by_batch {
  map_layout l = layout(8, 24);
  std::unique_ptr<media> m = memory_media(l.size(), durability_class::process);
  std::vector<std::byte> image;
  left_by_batch() {
    opened_map map(*m, l);
    map->insert(bytes_of("a"), bytes_of("0"));
    durable_map::atomic_batch b(*map);
    (void)b.upsert(bytes_of("a"), bytes_of("1"));
    (void)b.insert(bytes_of("b"), bytes_of(std::string(100, 'x')));
    EXPECT_EQ(b.commit(), map_status::done);
    image.assign(m->base(), m->base() + l.size());
    // As if none of its changes had reached its cell.
    for (std::uint64_t i = 0; i < l.cells; ++i) {
      const map_word0 w = map_word0::unpack(cell(i)->state);
      if (!w.used || w.is_log()) continue;
      cell(i)->state = 0;
    }
  }
  map_cell* cell(std::uint64_t i) { return reinterpret_cast<map_cell*>(image.data()) + i; }
  map_cell* log() {
    for (std::uint64_t i = 0;; ++i)
      if (map_word0::unpack(cell(i)->state).is_log()) return cell(i);
  }
  map_log_entry* entries() {
    const map_cell* c = log();
    const auto chain = static_cast<std::uint32_t>(c->value[map_word0::unpack(c->state).half][0]);
    return reinterpret_cast<map_log_entry*>(image.data() + l.blocks_offset() +
                                            std::uint64_t{chain} * l.block_size);
  }
  void seal_log() {
    map_cell* c = log();
    map_word0 w = map_word0::unpack(c->state);
    c->value[w.half][1] = crc32c(0, entries(), w.value_size);
    w.check = map_check(static_cast<std::uint64_t>(c - cell(0)), w, c->key, c->value[w.half]);
    c->state = w.pack();
  }
  std::unique_ptr<media> medium() const {
    auto to = memory_media(l.size(), durability_class::process);
    std::ranges::copy(image, to->base());
    return to;
  }
};

TEST(DurableBatch, AnOpenCompletesItAndACheckSaysSo) {
  left_by_batch left;
  const auto m = left.medium();
  {
    auto blocks = block_store::create(*m, left.l.blocks_offset(), left.l.block_size, left.l.blocks);
    const auto unopened = durable_map::create(*m, 0, left.l.cells, **blocks).value();
    const map_recovery seen = unopened->check();
    EXPECT_EQ(seen.replayed, 2u);
    EXPECT_EQ(seen.entries, 2u);
    EXPECT_EQ(seen.damaged, 0u);
    EXPECT_TRUE(std::ranges::equal(left.image, std::span(m->base(), left.l.size())));
  }
  const opened_map map(*m, left.l);
  EXPECT_EQ(map.recovered.replayed, 2u);
  EXPECT_EQ(map.recovered.entries, 2u);
  EXPECT_EQ(map.text("a"), "1");
  EXPECT_EQ(map.text("b"), std::string(100, 'x'));
}

TEST(DurableBatch, ADamagedLogIsNamedAndItsCellsStayAsTheyAre) {
  struct damage {
    const char* name;
    std::function<void(left_by_batch&)> make;
    const char* note;
  };
  const char* const impossible = "its batch has an impossible change";
  const damage all[] = {
      {"a key", [](auto& l) { l.log()->key[1] = 1; }, "its check does not match its contents"},
      {"its bytes", [](auto& l) { l.entries()->key[2] ^= 1; },
       "the bytes of its batch do not match their CRC"},
      {"no such chain",
       [](auto& l) {
         map_cell* c = l.log();
         map_word0 w = map_word0::unpack(c->state);
         c->value[w.half][0] = 1'000'000;
         w.check =
             map_check(static_cast<std::uint64_t>(c - l.cell(0)), w, c->key, c->value[w.half]);
         c->state = w.pack();
       },
       "the chain of its batch is impossible"},
      {"no such cell",
       [](auto& l) {
         l.entries()->cell = 8;
         l.seal_log();
       },
       impossible},
      {"itself",
       [](auto& l) {
         l.entries()->cell = static_cast<std::uint64_t>(l.log() - l.cell(0));
         l.seal_log();
       },
       impossible},
      {"the check of a change",
       [](auto& l) {
         l.entries()->key[0] ^= 1;
         l.seal_log();
       },
       impossible},
      {"a malformed change",
       [](auto& l) {
         l.entries()->state |= 2;
         l.seal_log();
       },
       impossible},
      {"its last word",
       [](auto& l) {
         l.entries()[1].zero = 1;
         l.seal_log();
       },
       impossible},
  };
  for (const damage& each : all) {
    left_by_batch left;
    each.make(left);
    const auto m = left.medium();
    const auto number = std::to_string(left.log() - left.cell(0));
    const std::vector<std::string> expected = {"map cell " + number + ": " + each.note};
    {
      auto blocks =
          block_store::create(*m, left.l.blocks_offset(), left.l.block_size, left.l.blocks);
      const auto unopened = durable_map::create(*m, 0, left.l.cells, **blocks).value();
      EXPECT_EQ(unopened->check().notes, expected) << each.name;
    }
    const opened_map map(*m, left.l);
    EXPECT_EQ(map.recovered.notes, expected) << each.name;
    EXPECT_EQ(map.recovered.replayed, 0u) << each.name;
    EXPECT_EQ(map->len(), 0u) << each.name;
    EXPECT_EQ(opened_map(*m, left.l).recovered.damaged, 0u) << each.name; // it is gone for good
  }
}

TEST(DurableBatch, ASettledMapHasNoLog) {
  const map_layout l = layout();
  const auto m = memory_media(l.size(), durability_class::process);
  {
    opened_map map(*m, l);
    durable_map::atomic_batch b(*map);
    (void)b.insert(bytes_of("a"), bytes_of("1"));
    ASSERT_EQ(b.commit(), map_status::done);
    map->settle();
  }
  const auto* cells = reinterpret_cast<const map_cell*>(m->base());
  for (std::uint64_t i = 0; i < l.cells; ++i)
    EXPECT_FALSE(map_word0::unpack(cells[i].state).is_log());
  EXPECT_EQ(opened_map(*m, l).recovered.replayed, 0u);
}

TEST(DurableBatch, RandomBatchesAndSingleChangesLeaveWhatAModelSays) {
  std::mt19937_64 random(seed_from_environment(1));
  map_layout l = layout(24, 256);
  l.first = 2;
  made map(l);
  std::map<std::string, std::string> model;
  const auto key_of = [&] {
    const auto n = random() % 12;
    return n % 4 == 3 ? std::string(40, static_cast<char>('a' + n)) : "key " + std::to_string(n);
  };
  const auto value_of = [&] {
    return std::string(random() % 3 == 0 ? 90 : 9, 'a' + random() % 26);
  };
  for (int round = 0; round < 3000; ++round) {
    if (random() % 3 == 0) {
      const std::string key = key_of(), value = value_of();
      if (random() % 3 == 0) {
        ASSERT_EQ(map->erase(bytes_of(key)),
                  model.erase(key) != 0 ? map_status::done : map_status::missing);
      } else {
        ASSERT_EQ(map->upsert(bytes_of(key), bytes_of(value)), map_status::done);
        model[key] = value;
      }
    } else {
      durable_map::atomic_batch b(*map);
      for (auto n = random() % 8; n > 0; --n) {
        const std::string key = key_of(), value = value_of();
        if (random() % 3 == 0) {
          (void)b.erase(bytes_of(key));
          model.erase(key);
        } else {
          (void)b.upsert(bytes_of(key), bytes_of(value));
          model[key] = value;
        }
      }
      ASSERT_EQ(b.commit(), map_status::done);
    }
    ASSERT_EQ(map->len(), model.size());
    for (const auto& [key, value] : model)
      ASSERT_EQ(map.map.text(key), value);
  }
  map->settle();
  map->retain([](auto, auto) { return false; });
  EXPECT_EQ(map.map.live_blocks(), 0u);
}

/// One thread moves a number to all keys of a set in one batch, another makes batches and single
/// changes beside it, and readers look at one key after the other and at all keys of one moment.
struct seen_by_readers {
  std::uint64_t older = 0, mixed = 0, refused = 0;
};
seen_by_readers write_and_read(std::uint64_t rounds, std::uint64_t first) {
  constexpr std::uint64_t keys = 5;
  map_layout l = layout(128, 256);
  l.first = first;
  const auto m = memory_media(l.size(), durability_class::process);
  opened_map bytes(*m, l);
  map<std::uint64_t, std::uint64_t> map(*bytes);
  std::atomic<std::uint64_t> older{0}, mixed{0}, refused{0};
  std::atomic<int> working{2};
  std::vector<std::thread> threads;
  set_hook(give_way, nullptr);
  threads.emplace_back([&] {
    chainring::map<std::uint64_t, std::uint64_t>::atomic_batch b(map);
    for (std::uint64_t i = 1; i <= rounds; ++i) {
      for (std::uint64_t k = 0; k < keys; ++k)
        (void)b.upsert(k, i);
      refused += b.commit() != map_status::done;
      if (i % 5 != 4) continue;
      for (std::uint64_t k = 0; k < keys; ++k)
        (void)b.erase(k);
      refused += b.commit() != map_status::done;
    }
    --working;
  });
  threads.emplace_back([&] {
    chainring::map<std::uint64_t, std::uint64_t>::atomic_batch b(map);
    for (std::uint64_t i = 0; i < rounds; ++i) {
      refused += map.upsert(keys + i % 20, i) != map_status::done;
      (void)b.upsert(keys + (i + 10) % 20, i);
      (void)b.erase(keys + (i + 5) % 20);
      (void)b.upsert(keys + 20 + i % 40, i);
      if (i % 3 == 0) refused += b.commit() != map_status::done;
    }
    --working;
  });
  threads.emplace_back([&] {
    std::uint64_t least = 0; // what is seen next
    for (std::uint64_t k = 0, newest = 0; working.load() != 0; k = (k + 1) % keys) {
      const auto v = map.get(k);
      if (v) {
        older += *v < least;
        least = newest = std::max(newest, *v);
      } else {
        least = newest + 1; // the batch that erased the keys came behind that number
      }
    }
  });
  threads.emplace_back([&] {
    while (working.load() != 0) {
      const auto seen = map.read_together([&] {
        std::array<std::optional<std::uint64_t>, keys> all;
        for (std::uint64_t k = 0; k < keys; ++k)
          all[k] = map.get(k);
        return all;
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

TEST(DurableBatch, ReadersSeeAllOfABatchOrNothing) {
  for (const std::uint64_t first : {0u, 2u}) {
    const auto seen = write_and_read(1'000, first);
    EXPECT_EQ(seen.older, 0u);
    EXPECT_EQ(seen.mixed, 0u);
    EXPECT_EQ(seen.refused, 0u);
  }
}
TEST(DurableBatch, SeededBugsAreFound) {
  {
    const seeded on("map.batch_one_by_one");
    expect_found("map.batch_one_by_one", write_and_read(1'000, 0).older != 0, "DurableBatch");
  }
  {
    const seeded on("map.batch_uncounted");
    expect_found("map.batch_uncounted", write_and_read(1'000, 0).mixed != 0, "DurableBatch");
  }
}

} // namespace
} // namespace chainring::test
