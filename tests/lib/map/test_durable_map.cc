// SPDX-License-Identifier: BSD-3-Clause
#include <cstdlib>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <thread>

#include "base/crc32c.h"
#include "base/hook.h"
#include "map_fixture.h"
#include "support/seam_counter.h"
#include "support/seed.h"
#include "support/test_media.h"

namespace chainring::test {
namespace {

const std::string long_key(40, 'k'), long_value(300, 'v');

class DurableMap : public testing::Test {
 protected:
  map_layout layout{.cells = 8, .blocks = 64};
  std::unique_ptr<media> memory = memory_media(1 << 16, durability_class::process);
  std::unique_ptr<opened_map> m = std::make_unique<opened_map>(*memory, layout);
  void reopen(const opened_map::filter& wanted = {}) {
    m.reset();
    m = std::make_unique<opened_map>(*memory, layout, wanted);
  }
};

TEST_F(DurableMap, EachCallReturnsWhatItFound) {
  durable_map& map = **m;
  EXPECT_EQ(map.update(bytes_of("a"), bytes_of("1")), map_status::missing);
  EXPECT_EQ(map.erase(bytes_of("a")), map_status::missing);
  EXPECT_EQ(map.insert(bytes_of("a"), bytes_of("1")), map_status::done);
  EXPECT_EQ(map.insert(bytes_of("a"), bytes_of("2")), map_status::exists);
  EXPECT_EQ(map.update(bytes_of("a"), bytes_of("3")), map_status::done);
  EXPECT_EQ(m->text("a"), "3");
  EXPECT_EQ(map.upsert(bytes_of("b"), bytes_of("4")), map_status::done);
  EXPECT_EQ(map.upsert(bytes_of("b"), bytes_of("")), map_status::done);
  EXPECT_EQ(m->text("b"), "");
  EXPECT_EQ(map.len(), 2u);
  EXPECT_EQ(map.compare_exchange(bytes_of("a"), bytes_of("2"), bytes_of("5")),
            map_status::mismatch);
  EXPECT_EQ(map.compare_exchange(bytes_of("a"), bytes_of("3"), bytes_of("5")), map_status::done);
  EXPECT_EQ(map.compare_exchange(bytes_of("x"), bytes_of("3"), bytes_of("5")), map_status::missing);
  EXPECT_EQ(
      map.update_in_place(bytes_of("a"), [](std::span<std::byte> v) { v[0] = std::byte{'7'}; }),
      map_status::done);
  EXPECT_EQ(m->text("a"), "7");
  EXPECT_EQ(map.erase(bytes_of("a")), map_status::done);
  EXPECT_FALSE(map.contains(bytes_of("a")));
  EXPECT_EQ(map.len(), 1u);
  EXPECT_EQ(map.capacity(), 8u);
  EXPECT_EQ(map.insert({}, bytes_of("1")), map_status::too_long); // a key must not be empty
  const std::string huge(map_key_max + 1, 'x');
  EXPECT_EQ(map.insert(bytes_of(huge), {}), map_status::too_long);
}

TEST_F(DurableMap, KeysAreComparedByAllTheirBytesAndByLength) {
  durable_map& map = **m;
  const std::string_view zero("a\0", 2);
  EXPECT_EQ(map.insert(bytes_of("a"), bytes_of("1")), map_status::done);
  EXPECT_EQ(map.insert(bytes_of(zero), bytes_of("2")), map_status::done);
  std::string other = long_key;
  other.back() = 'x';
  EXPECT_EQ(map.insert(bytes_of(long_key), bytes_of("3")), map_status::done);
  EXPECT_EQ(map.insert(bytes_of(other), bytes_of("4")), map_status::done);
  EXPECT_EQ(m->text("a"), "1");
  EXPECT_EQ(m->text(zero), "2");
  EXPECT_EQ(m->text(long_key), "3");
  EXPECT_EQ(m->text(other), "4");
}

TEST_F(DurableMap, LongKeysAndValuesTakeBlocksAndGiveThemBack) {
  durable_map& map = **m;
  EXPECT_EQ(map.insert(bytes_of(long_key), bytes_of(long_value)), map_status::done);
  EXPECT_EQ(m->live_blocks(), 1u + 5u);
  EXPECT_EQ(m->text(long_key), long_value);
  EXPECT_EQ(map.get(bytes_of(long_key))->size, long_value.size());
  std::size_t size = 0;
  std::byte small[16];
  EXPECT_EQ(map.get(bytes_of(long_key), small, size), map_status::too_long);
  EXPECT_EQ(size, long_value.size());
  EXPECT_EQ(map.update(bytes_of(long_key), bytes_of("short")), map_status::done);
  EXPECT_EQ(m->live_blocks(), 1u);
  EXPECT_EQ(m->text(long_key), "short");
  EXPECT_EQ(map.update(bytes_of(long_key), bytes_of(long_value)), map_status::done);
  EXPECT_EQ(map.update_in_place(bytes_of(long_key),
                                [](std::span<std::byte> v) { v.back() = std::byte{'!'}; }),
            map_status::done);
  EXPECT_EQ(m->text(long_key), long_value.substr(1) + "!");
  reopen();
  EXPECT_EQ(m->live_blocks(), 6u);
  EXPECT_EQ(m->text(long_key), long_value.substr(1) + "!");
  EXPECT_EQ((*m)->erase(bytes_of(long_key)), map_status::done);
  EXPECT_EQ(m->live_blocks(), 0u);
}

TEST_F(DurableMap, AChangeThatHasNoRoomIsRefusedAndTakesNothing) {
  durable_map& map = **m;
  for (char c = 'a'; c < 'i'; ++c)
    ASSERT_EQ(map.insert(bytes_of(std::string_view(&c, 1)), bytes_of("1")), map_status::done);
  EXPECT_EQ(map.insert(bytes_of("z"), bytes_of("1")), map_status::full);
  EXPECT_EQ(map.insert(bytes_of(long_key), bytes_of(long_value)), map_status::full);
  EXPECT_EQ(m->live_blocks(), 0u);
  const std::string too_much(65 * 64, 'x');
  EXPECT_EQ(map.update(bytes_of("a"), bytes_of(too_much)), map_status::full);
  EXPECT_EQ(m->text("a"), "1");
  EXPECT_EQ(map.erase(bytes_of("b")), map_status::done);
  EXPECT_EQ(map.insert(bytes_of("z"), bytes_of(too_much)), map_status::full);
  EXPECT_EQ(map.insert(bytes_of("z"), bytes_of("1")), map_status::done);
}

TEST_F(DurableMap, AChangeCostsOneFlushAndABatchOneDrain) {
  durable_map& map = **m;
  seam_counter seen;
  const auto counted = [&](auto&& what) {
    seen = {};
    memory->observe(&seen);
    what();
    memory->observe(nullptr);
    return std::pair(seen.flushes, seen.drains);
  };
  using cost = std::pair<int, int>;
  EXPECT_EQ(counted([&] { map.insert(bytes_of("a"), bytes_of("1")); }), cost(1, 1));
  EXPECT_EQ(seen.stores, 6);
  EXPECT_EQ(counted([&] { map.update(bytes_of("a"), bytes_of("2")); }), cost(1, 1));
  EXPECT_EQ(seen.stores, 3);
  EXPECT_EQ(counted([&] { map.erase(bytes_of("a")); }), cost(1, 1));
  EXPECT_EQ(seen.stores, 1);
  EXPECT_EQ(counted([&] { map.erase(bytes_of("a")); }), cost(0, 0));
  EXPECT_EQ(counted([&] { (void)map.get(bytes_of("a")); }), cost(0, 0));
  EXPECT_EQ(counted([&] {
              durable_map::batch b(map);
              b.insert(bytes_of("a"), bytes_of("1"));
              b.insert(bytes_of("b"), bytes_of("1"));
              b.insert(bytes_of("c"), bytes_of("1"));
              b.commit();
            }),
            cost(3, 1));
  EXPECT_EQ(counted([&] {
              durable_map::batch b(map);
              b.update(bytes_of("a"), bytes_of("2"));
              b.erase(bytes_of("b"));
              b.insert(bytes_of("d"), bytes_of("1"));
            }),
            cost(3, 1));
  EXPECT_EQ(counted([&] { map.insert(bytes_of(long_key), bytes_of(long_value)); }), cost(3, 2));
  EXPECT_EQ(counted([&] { map.update(bytes_of(long_key), bytes_of(long_value)); }), cost(2, 2));
  EXPECT_EQ(counted([&] { map.erase(bytes_of(long_key)); }), cost(1, 1));
}

TEST_F(DurableMap, ABatchIsVisibleWhenItIsPublishedAndNotBefore) {
  durable_map& map = **m;
  map.insert(bytes_of("a"), bytes_of("1"));
  map.insert(bytes_of("b"), bytes_of("1"));
  durable_map::batch b(map);
  EXPECT_EQ(b.insert(bytes_of("c"), bytes_of("2")), map_status::done);
  EXPECT_EQ(b.update(bytes_of("a"), bytes_of("2")), map_status::done);
  EXPECT_EQ(b.erase(bytes_of("b")), map_status::done);
  const auto unseen = [&] {
    EXPECT_EQ(m->text("a"), "1");
    EXPECT_EQ(m->text("b"), "1");
    EXPECT_EQ(m->text("c"), "(none)");
  };
  unseen();
  b.flush_changes();
  EXPECT_EQ(b.insert(bytes_of("d"), bytes_of("2")), map_status::done); // after flush_changes()
  memory->drain();
  unseen();
  b.publish();
  EXPECT_EQ(m->text("a"), "2");
  EXPECT_EQ(m->text("b"), "(none)");
  EXPECT_EQ(m->text("c"), "2");
  EXPECT_EQ(m->text("d"), "(none)");
  EXPECT_EQ(b.size(), 1u);
  b.commit();
  EXPECT_EQ(m->text("d"), "2");
}

TEST_F(DurableMap, ASecondChangeOfAKeyCommitsTheFirst) {
  durable_map& map = **m;
  durable_map::batch b(map);
  EXPECT_EQ(b.insert(bytes_of("a"), bytes_of("1")), map_status::done);
  EXPECT_EQ(b.insert(bytes_of("a"), bytes_of("2")), map_status::exists);
  EXPECT_EQ(m->text("a"), "1");
  EXPECT_EQ(b.erase(bytes_of("a")), map_status::done);
  EXPECT_EQ(b.insert(bytes_of("a"), bytes_of("3")), map_status::done);
  EXPECT_EQ(m->text("a"), "(none)");
  b.commit();
  EXPECT_EQ(m->text("a"), "3");
  EXPECT_EQ(map.len(), 1u);
}

TEST_F(DurableMap, ASingleCallJoinsTheThreadsOpenBatch) {
  durable_map& map = **m;
  durable_map::batch b(map);
  b.insert(bytes_of("a"), bytes_of("1"));
  EXPECT_EQ(map.upsert(bytes_of("a"), bytes_of("2")), map_status::done);
  EXPECT_EQ(b.size(), 0u);
  EXPECT_EQ(m->text("a"), "2");
}

TEST_F(DurableMap, ABatchCommitsItselfWhenItIsFull) {
  layout = {.cells = 300};
  reopen();
  {
    durable_map::batch b(**m);
    for (int i = 0; i < 200; ++i)
      ASSERT_EQ(b.insert(bytes_of(i), bytes_of(i * 3)), map_status::done);
  }
  reopen();
  EXPECT_EQ((*m)->len(), 200u);
  for (int i = 0; i < 200; ++i) {
    int value = 0;
    std::memcpy(&value, (*m)->get(bytes_of(i))->bytes.data(), sizeof value);
    EXPECT_EQ(value, i * 3);
  }
}

TEST_F(DurableMap, RecoveryErasesEntriesThatTheFilterDoesNotWant) {
  (*m)->insert(bytes_of("a"), bytes_of("1"));
  (*m)->insert(bytes_of("b"), bytes_of("2"));
  (*m)->insert(bytes_of(long_key), bytes_of(long_value));
  reopen([](auto key, auto) { return key.size() == 1 && key[0] == std::byte{'a'}; });
  EXPECT_EQ(m->recovered.voided, 2u);
  EXPECT_EQ(m->live_blocks(), 0u);
  reopen();
  EXPECT_EQ(m->recovered.entries, 1u);
  EXPECT_EQ(m->text("a"), "1");
}

TEST_F(DurableMap, ADamagedCellIsNamedAndTheOthersAreServed) {
  const char* const malformed = "its commit word is malformed";
  const struct {
    const char* what;
    std::function<void(map_cell&)> damage;
    const char* note;
  } cases[] = {
      {"word 0", [](map_cell& c) { c.state |= 0x40; }, malformed},
      {"state 3", [](map_cell& c) { c.state |= 3; }, malformed},
      {"no key", [](map_cell& c) { c.state &= ~std::uint64_t{0xffff80}; }, malformed},
      {"key bit", [](map_cell& c) { c.key[0] ^= 8; }, "its check does not match its contents"},
      {"key end", [](map_cell& c) { c.key[2] = 1; }, "the chain of its key is impossible"},
      {"key chain", [](map_cell& c) { c.key[1] += 1u << 20; },
       "the chain of its key is impossible"},
      {"key bytes", [](map_cell& c) { ++c.key[0]; },
       "the bytes of its key do not match their hash"},
      {"value chain", [](map_cell& c) { c.value[0][0] = ~std::uint64_t{0}; },
       "the chain of its value is impossible"},
      {"value bytes", [](map_cell& c) { ++c.value[0][1]; },
       "the bytes of its value do not match their CRC"},
      {"two owners", [](map_cell& c) { c.value[0][0] = c.key[1]; },
       "the chain of its value is impossible"},
  };
  for (const auto& each : cases) {
    SCOPED_TRACE(each.what);
    auto fresh = memory_media(1 << 16, durability_class::process);
    {
      opened_map o(*fresh, layout);
      o->insert(bytes_of(long_key), bytes_of(long_value)); // cell 0
      o->insert(bytes_of("b"), bytes_of("2"));             // cell 1
      each.damage(*o.cell(0));
      if (std::string_view(each.note).find("its check") == std::string_view::npos &&
          each.note != malformed)
        o.seal(0); // so that the check is right and the other rules find the damage
      const auto found = o->check();
      EXPECT_EQ(found.damaged, 1u);
      ASSERT_EQ(found.notes.size(), 1u);
      EXPECT_EQ(found.notes[0], std::string("map cell 0: ") + each.note);
    }
    const map_cell before = *reinterpret_cast<map_cell*>(fresh->base());
    opened_map o(*fresh, layout);
    EXPECT_EQ(o.recovered.damaged, 1u);
    EXPECT_EQ(o.recovered.entries, 1u);
    EXPECT_EQ(o.text("b"), "2");
    EXPECT_EQ(o.text(long_key), "(none)");
    // Six cells are free, and so is the damaged one where its commit word is well formed.
    const bool kept = each.note == malformed;
    for (char c = 'c'; c < (kept ? 'i' : 'j'); ++c)
      EXPECT_EQ(o->insert(bytes_of(std::string_view(&c, 1)), bytes_of("1")), map_status::done);
    EXPECT_EQ(o->insert(bytes_of("z"), bytes_of("1")), map_status::full);
    EXPECT_EQ(std::memcmp(&before, fresh->base(), sizeof before) == 0, kept);
  }
}

TEST_F(DurableMap, BytesBehindAShortKeyOrValueAreDamage) {
  (*m)->insert(bytes_of("a"), bytes_of("1"));
  m->cell(0)->key[2] = 1;
  m->seal(0);
  EXPECT_EQ((*m)->check().notes.at(0),
            "map cell 0: the bytes behind the end of its key are not zero");
  m->cell(0)->key[2] = 0;
  m->cell(0)->value[0][1] = 1;
  m->seal(0);
  EXPECT_EQ((*m)->check().notes.at(0),
            "map cell 0: the bytes behind the end of its value are not zero");
}

TEST_F(DurableMap, TwoCellsWithOneKeyOrOneChainAreDamage) {
  (*m)->insert(bytes_of(long_key), bytes_of("1"));
  (*m)->insert(bytes_of("b"), bytes_of("2"));
  *m->cell(5) = *m->cell(0); // the same key
  m->seal(5);
  map_cell other = *m->cell(0);
  m.reset();
  m = std::make_unique<opened_map>(*memory, layout);
  EXPECT_EQ(m->recovered.damaged, 1u);
  EXPECT_EQ(m->recovered.notes.at(0), "map cell 0: another cell holds the same key");
  EXPECT_EQ(m->text(long_key), "1");
  // A value lies in the block of another key.
  m->cell(6)->key[0] = 'c';
  m->cell(6)->value[0][0] = other.key[1];
  m->cell(6)->value[0][1] =
      crc32c(0, m->blocks->address({static_cast<std::uint32_t>(other.key[1]), 1}), 40);
  m->cell(6)->state = map_word0{.used = true, .key_size = 1, .value_size = 40}.pack();
  m->seal(6);
  reopen();
  EXPECT_EQ(m->recovered.damaged, 1u);
  EXPECT_EQ(m->text("b"), "2");
}

TEST_F(DurableMap, ACellErasedForAnotherDoesNotComeBackWhenTheOtherIsGone) {
  (*m)->insert(bytes_of(long_key), bytes_of("1"));
  *m->cell(5) = *m->cell(0); // the same key and the same chain
  m->seal(5);
  reopen();
  ASSERT_EQ(m->recovered.damaged, 1u);
  ASSERT_EQ((*m)->erase(bytes_of(long_key)), map_status::done);
  reopen();
  EXPECT_EQ(m->recovered.damaged, 0u);
  EXPECT_EQ(m->recovered.entries, 0u);
}

TEST_F(DurableMap, ADamagedCellDoesNotBecomeValidByTheNextBytesOfItsChain) {
  (*m)->insert(bytes_of(long_key), bytes_of("stale"));
  std::byte* const key = m->blocks->address({static_cast<std::uint32_t>(m->cell(0)->key[1]), 1});
  key[3] ^= std::byte{1};
  reopen();
  ASSERT_EQ(m->recovered.damaged, 1u);
  ASSERT_EQ((*m)->insert(bytes_of(long_key), bytes_of("new")), map_status::done);
  ASSERT_EQ((*m)->erase(bytes_of(long_key)), map_status::done);
  std::memcpy(key, long_key.data(), long_key.size()); // as if a new key had been written there
  reopen();
  EXPECT_EQ(m->text(long_key), "(none)");
}

TEST_F(DurableMap, NoBytesOnMediaCrashTheMap) {
  std::mt19937_64 random(fresh_seed());
  for (int round = 0; round < 2'000; ++round) {
    auto noise = memory_media(layout.size(), durability_class::process);
    auto* words = reinterpret_cast<std::uint64_t*>(noise->base());
    for (std::uint64_t i = 0; i < layout.cells * 8; ++i) {
      words[i] = random();
      if (round % 2 == 0) words[i] &= random() & random(); // so that many words are small
      if (i % 8 == 0 &&
          round % 3 != 0) // word 0 is well formed, so that the other rules are reached
        words[i] = map_word0{true,
                             static_cast<std::uint8_t>(random() & 1),
                             false,
                             static_cast<std::uint32_t>(1 + random() % 100),
                             static_cast<std::uint32_t>(random() % 200),
                             0}
                       .pack();
      if (i % 8 != 0 && round % 5 == 0) words[i] = random() % 4 | (random() % 4) << 32;
    }
    for (std::uint64_t i = 0; i < layout.cells;
         ++i) { // the check is right, as it could be by chance
      map_cell& c = reinterpret_cast<map_cell*>(words)[i];
      map_word0 w = map_word0::unpack(c.state);
      if (!w.used || random() % 4 == 0) continue;
      w.check = map_check(i, w, c.key, c.value[w.half]);
      c.state = w.pack();
    }
    opened_map o(*noise, layout);
    EXPECT_EQ(o->len(), o.recovered.entries);
    std::uint64_t seen = 0;
    o->for_each([&](auto key, auto) { seen += o->contains(key); });
    EXPECT_EQ(seen, o.recovered.entries);
  }
}

TEST_F(DurableMap, AMapAgreesWithAModelAcrossReopens) {
  std::mt19937_64 random(fresh_seed());
  layout = {.cells = 40, .blocks = 400};
  memory = memory_media(1 << 18, durability_class::process);
  m.reset();
  reopen();
  std::map<std::string, std::string> model;
  for (int round = 0; round < 20'000; ++round) {
    const std::uint64_t n = random() % 60;
    std::string key = "key " + std::to_string(n);
    if (n % 3 == 0) key += long_key;
    std::string value = std::to_string(random());
    if (random() % 3 == 0) value += long_value.substr(random() % 250);
    const auto it = model.find(key);
    switch (random() % 5) {
    case 0: {
      const auto wanted = it != model.end()    ? map_status::exists
                          : model.size() == 40 ? map_status::full
                                               : map_status::done;
      ASSERT_EQ((*m)->insert(bytes_of(key), bytes_of(value)), wanted);
      if (wanted == map_status::done) model[key] = value;
      break;
    }
    case 1:
      ASSERT_EQ((*m)->erase(bytes_of(key)),
                it != model.end() ? map_status::done : map_status::missing);
      model.erase(key);
      break;
    case 2:
      ASSERT_EQ((*m)->update(bytes_of(key), bytes_of(value)),
                it != model.end() ? map_status::done : map_status::missing);
      if (it != model.end()) it->second = value;
      break;
    default:
      ASSERT_EQ(m->text(key), it != model.end() ? it->second : "(none)");
    }
    if (round % 1'000 != 0) continue;
    if (round % 2'000 == 0) reopen();
    ASSERT_EQ(m->recovered.damaged, 0u);
    const auto erased = (*m)->retain([](auto k, auto) { return k[4] != std::byte{'1'}; });
    ASSERT_EQ(erased, std::erase_if(model, [](auto& e) { return e.first[4] == '1'; }));
    std::map<std::string, std::string> seen;
    (*m)->for_each([&](auto k, auto v) {
      seen.emplace(std::string(reinterpret_cast<const char*>(k.data()), k.size()),
                   std::string(reinterpret_cast<const char*>(v.data()), v.size()));
    });
    ASSERT_EQ(seen, model);
    ASSERT_EQ((*m)->len(), model.size());
  }
}

TEST_F(DurableMap, AWriterCommitsItsOwnBatchBeforeItWaitsForAnotherBatch) {
  durable_map& map = **m;
  std::atomic<int> step{0};
  const auto reach = [&](int n) {
    while (step.load() < n)
      std::this_thread::yield();
  };
  // The two keys may share a claim. Then this thread waits at its first key, and the other one must
  // go on.
  set_hook(
      [](const char* name, void* context) noexcept {
        if (std::string_view(name) == "map.claim.wait")
          *static_cast<std::atomic<int>*>(context) = 2;
      },
      &step);
  std::thread other([&] {
    durable_map::batch theirs(map);
    theirs.insert(bytes_of("b"), bytes_of("theirs"));
    step = 1;
    reach(2);
    // By now or soon, this thread holds "a" and waits for "b". It has committed "a" before, or
    // will.
    theirs.upsert(bytes_of("a"), bytes_of("theirs"));
    theirs.commit();
  });
  reach(1);
  {
    durable_map::batch ours(map);
    ours.insert(bytes_of("a"), bytes_of("ours"));
    step = 2;
    EXPECT_EQ(ours.insert(bytes_of("b"), bytes_of("ours")), map_status::exists);
  }
  other.join();
  set_hook(nullptr, nullptr);
  EXPECT_EQ(m->text("b"), "theirs");
  EXPECT_EQ(m->text("a"), "theirs");
}

TEST(DurableMapDrains, RecoveryErasesMoreCellsThanOneDrainCovers) {
  const map_layout layout{.cells = 100, .blocks = 4};
  small_drains memory(layout.size());
  {
    opened_map map(memory, layout);
    for (unsigned i = 0; i < layout.cells; ++i)
      ASSERT_EQ(map->insert(bytes_of("key " + std::to_string(i)), {}), map_status::done);
  }
  memory.limit = 16 * cacheline_size;
  memory.most = 0;
  auto blocks =
      block_store::create(memory, layout.blocks_offset(), layout.block_size, layout.blocks);
  ASSERT_TRUE(blocks) << blocks.error().message;
  auto map = durable_map::create(memory, 0, layout.cells, **blocks);
  ASSERT_TRUE(map) << map.error().message;
  memory.flush(memory.base(), memory.limit); // bytes that other parts of a recovery flushed
  EXPECT_EQ((*map)->recover([](auto, auto) { return false; }).voided, layout.cells);
  memory.drain();
  EXPECT_EQ(memory.most, memory.limit);
  EXPECT_EQ((*map)->check().entries, 0u);
}

TEST(DurableMapDrains, ABatchTakesMoreLongKeysAndValuesThanOneDrainCovers) {
  const map_layout layout{.cells = 64, .blocks = 4096};
  small_drains memory(layout.size());
  opened_map map(memory, layout);
  memory.limit = 256 * cacheline_size;
  memory.most = 0;
  {
    durable_map::batch b(*map);
    for (unsigned i = 0; i < 40; ++i) {
      const std::string key = std::string(100, 'k') + std::to_string(i);
      ASSERT_EQ(b.insert(bytes_of(key), bytes_of(std::string(1000 + i, 'v'))), map_status::done);
    }
    // One drain cannot even cover this value alone.
    ASSERT_EQ(b.insert(bytes_of("large"), bytes_of(std::string(3 * memory.limit, 'l'))),
              map_status::done);
    memory.flush(memory.base(), memory.limit / 4); // bytes that the caller flushed
  }
  EXPECT_GT(memory.most, 0u);
  EXPECT_LE(memory.most, memory.limit);
  for (unsigned i = 0; i < 40; ++i)
    EXPECT_EQ(map.text(std::string(100, 'k') + std::to_string(i)), std::string(1000 + i, 'v'));
  EXPECT_EQ(map.text("large"), std::string(3 * memory.limit, 'l'));
}

TEST(DurableMapCreate, ATableOutsideTheRegionIsRefused) {
  auto memory = memory_media(1 << 16, durability_class::process);
  auto blocks = block_store::create(*memory, 4096, 64, 4);
  ASSERT_TRUE(blocks);
  for (auto [offset, cells] : {std::pair<std::uint64_t, std::uint64_t>{0, 0},
                               {32, 1},
                               {0, 1025},
                               {1 << 17, 1},
                               {64, std::uint64_t{1} << 58},
                               {0, std::uint64_t{1} << 32}}) {
    auto made = durable_map::create(*memory, offset, cells, **blocks);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, errc::invalid_argument);
  }
}

} // namespace
} // namespace chainring::test
