// SPDX-License-Identifier: BSD-3-Clause
/// Changes of a durable map that look at the value first, byte by byte and typed.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <stdexcept>
#include <thread>

#include "map/map.h"
#include "map_fixture.h"
#include "support/seam_counter.h"

namespace chainring::test {
namespace {

class MapEdits : public testing::Test {
 protected:
  map_layout layout{.cells = 64, .blocks = 256};
  std::unique_ptr<media> memory = memory_media(layout.size(), durability_class::process);
  std::unique_ptr<opened_map> m = std::make_unique<opened_map>(*memory, layout);
  void reopen() {
    m.reset();
    m = std::make_unique<opened_map>(*memory, layout);
  }
  [[nodiscard]] std::optional<std::uint64_t> number(std::string_view key) const {
    return map<std::string, std::uint64_t>(**m).get(key);
  }
};

TEST_F(MapEdits, AlterInsertsReplacesAndErases) {
  durable_map& map = **m;
  const auto set = [&](std::string_view key, std::string_view value) {
    return map.alter(bytes_of(key), [&](map_edit& e) {
      e.assign(bytes_of(value));
      return map_status::done;
    });
  };
  EXPECT_EQ(set("a", "one"), map_status::done);
  EXPECT_EQ(m->text("a"), "one");
  EXPECT_EQ(map.alter(bytes_of("a"),
                      [](map_edit& e) {
                        EXPECT_TRUE(e.present());
                        EXPECT_EQ(e.now().size(), 3u);
                        e.in_place()[0] = std::byte{'O'};
                        return map_status::done;
                      }),
            map_status::done);
  EXPECT_EQ(m->text("a"), "One");
  EXPECT_EQ(set("a", std::string(300, 'x')), map_status::done);
  EXPECT_EQ(set("a", ""), map_status::done);
  EXPECT_EQ(m->text("a"), "");
  EXPECT_EQ(map.alter(bytes_of("a"),
                      [](map_edit& e) {
                        e.erase();
                        return map_status::done;
                      }),
            map_status::done);
  EXPECT_FALSE(map.contains(bytes_of("a")));
  EXPECT_EQ(m->live_blocks(), 0u);
}

TEST_F(MapEdits, AlterThatLeavesTheValueAloneChangesNothing) {
  durable_map& map = **m;
  ASSERT_EQ(map.insert(bytes_of("a"), bytes_of("one")), map_status::done);
  seam_counter seam;
  memory->observe(&seam);
  EXPECT_EQ(map.alter(bytes_of("a"), [](map_edit&) { return map_status::done; }), map_status::done);
  EXPECT_EQ(map.alter(bytes_of("b"), [](map_edit&) { return map_status::done; }), map_status::done);
  EXPECT_EQ(map.alter(bytes_of("b"),
                      [](map_edit& e) {
                        e.erase();
                        return map_status::done;
                      }),
            map_status::done);
  EXPECT_EQ(map.alter(bytes_of("a"),
                      [](map_edit& e) {
                        e.erase();
                        return map_status::mismatch;
                      }),
            map_status::mismatch);
  memory->observe(nullptr);
  EXPECT_EQ(seam.stores, 0);
  EXPECT_EQ(m->text("a"), "one");
  EXPECT_EQ(map.len(), 1u);
}

TEST_F(MapEdits, ACallbackThatThrowsLeavesTheKeyAsItIsAndOpenToOthers) {
  durable_map& map = **m;
  ASSERT_EQ(map.insert(bytes_of("a"), bytes_of("one")), map_status::done);
  for (const std::string_view key : {"a", "missing"})
    EXPECT_THROW(map.alter(bytes_of(key),
                           [](map_edit& e) -> map_status {
                             e.assign(bytes_of("two"));
                             throw std::runtime_error("no");
                           }),
                 std::runtime_error);
  EXPECT_EQ(m->text("a"), "one");
  EXPECT_FALSE(map.contains(bytes_of("missing")));
  // Another thread could not claim the keys if this one still held them.
  std::thread other([&] {
    EXPECT_EQ(map.update(bytes_of("a"), bytes_of("three")), map_status::done);
    EXPECT_EQ(map.insert(bytes_of("missing"), bytes_of("four")), map_status::done);
  });
  other.join();
  EXPECT_EQ(m->text("a"), "three");
}

TEST_F(MapEdits, AWalkWhoseCallbackThrowsHoldsNoKeyAndNoBlocks) {
  durable_map& map = **m;
  const std::string text(200, 't'); // lies in a chain
  for (const std::string_view key : {"a", "b", "c", "d"})
    ASSERT_EQ(map.insert(bytes_of(key), bytes_of(text)), map_status::done);
  const std::uint64_t free = m->blocks->statistics().free_blocks;
  int calls = 0;
  EXPECT_THROW(map.for_each([&](auto, auto) {
    if (++calls == 2) throw std::runtime_error("no");
  }),
               std::runtime_error);
  std::string stays;
  calls = 0;
  EXPECT_THROW(map.retain([&](auto key, auto) {
    stays.assign(reinterpret_cast<const char*>(key.data()), key.size());
    if (++calls == 3) throw std::runtime_error("no");
    return false;
  }),
               std::runtime_error);
  EXPECT_EQ(map.len(), 2u) << "what was erased before stays erased";
  EXPECT_EQ(m->text(stays), text);
  // Another thread could not claim the key, nor reuse the blocks, if this one still held them.
  std::thread([&] {
    EXPECT_EQ(map.erase(bytes_of(stays)), map_status::done);
    map.trim();
  }).join();
  EXPECT_EQ(map.retain([](auto, auto) { return false; }), 1u);
  map.trim();
  EXPECT_EQ(m->blocks->statistics().free_blocks, free + 4 * 4);
  reopen();
  EXPECT_EQ((*m)->len(), 0u);
}

TEST_F(MapEdits, ABatchKeepsItsChangesWhereACallbackThrows) {
  durable_map& map = **m;
  {
    durable_map::batch burst(map);
    ASSERT_EQ(burst.insert(bytes_of("a"), bytes_of("one")), map_status::done);
    const auto fail = [](map_edit&) -> map_status { throw std::runtime_error("no"); };
    EXPECT_THROW(burst.alter(bytes_of("b"), fail), std::runtime_error);
    EXPECT_THROW(map.alter(bytes_of("b"), fail), std::runtime_error) << "a call that joins it";
    EXPECT_EQ(burst.size(), 1u);
    EXPECT_FALSE(map.contains(bytes_of("a")));
  }
  EXPECT_EQ(m->text("a"), "one");
  EXPECT_FALSE(map.contains(bytes_of("b")));
}

TEST_F(MapEdits, AValueBeyondTheLargestIsTooLongForACallbackAndIsStillSeen) {
  durable_map& map = **m;
  const std::string longest(map_edit::size_max, 'l'), longer(map_edit::size_max + 1, 'm');
  EXPECT_EQ(map.alter(bytes_of("a"),
                      [&](map_edit& e) {
                        e.assign(bytes_of(longest));
                        return map_status::done;
                      }),
            map_status::done);
  EXPECT_EQ(m->text("a"), longest);
  EXPECT_EQ(map.alter(bytes_of("a"),
                      [&](map_edit& e) {
                        e.assign(bytes_of(longer));
                        return map_status::done;
                      }),
            map_status::too_long);
  ASSERT_EQ(map.update(bytes_of("a"), bytes_of(longer)), map_status::done);
  EXPECT_EQ(map.update_in_place(bytes_of("a"), [](std::span<std::byte>) {}), map_status::too_long);
  EXPECT_EQ(map.alter(bytes_of("a"),
                      [&](map_edit& e) {
                        EXPECT_EQ(e.now().size(), longer.size());
                        EXPECT_TRUE(e.in_place().empty());
                        return map_status::done;
                      }),
            map_status::done);
  EXPECT_EQ(m->text("a"), longer);
  EXPECT_EQ(map.erase_if(bytes_of("a"), [&](auto v) { return v.size() == longer.size(); }),
            map_status::done);
}

TEST_F(MapEdits, EraseIfTakesWhatItIsToldAndNothingElse) {
  durable_map& map = **m;
  ASSERT_EQ(map.insert(bytes_of("a"), bytes_of("one")), map_status::done);
  const auto is = [](std::string_view text) {
    return [text](std::span<const std::byte> v) { return std::ranges::equal(v, bytes_of(text)); };
  };
  EXPECT_EQ(map.erase_if(bytes_of("b"), is("one")), map_status::missing);
  EXPECT_EQ(map.erase_if(bytes_of("a"), is("two")), map_status::mismatch);
  EXPECT_EQ(m->text("a"), "one");
  EXPECT_EQ(map.erase_if(bytes_of("a"), is("one")), map_status::done);
  EXPECT_EQ(map.len(), 0u);
}

TEST_F(MapEdits, ACounterIsErasedAtZeroAndNeverWraps) {
  durable_map& map = **m;
  EXPECT_EQ(map.decrement(bytes_of("a")), map_status::missing);
  EXPECT_EQ(map.increment(bytes_of("a"), 3), map_status::done);
  EXPECT_EQ(map.increment(bytes_of("a")), map_status::done);
  EXPECT_EQ(number("a"), 4u);
  EXPECT_EQ(map.decrement(bytes_of("a"), 5), map_status::mismatch);
  EXPECT_EQ(map.increment(bytes_of("a"), ~std::uint64_t{0} - 3), map_status::mismatch);
  EXPECT_EQ(number("a"), 4u);
  reopen();
  EXPECT_EQ(number("a"), 4u);
  EXPECT_EQ((*m)->decrement(bytes_of("a"), 4), map_status::done);
  EXPECT_FALSE((*m)->contains(bytes_of("a")));
  ASSERT_EQ((*m)->insert(bytes_of("a"), bytes_of("text")), map_status::done);
  EXPECT_EQ((*m)->increment(bytes_of("a")), map_status::mismatch);
  EXPECT_EQ((*m)->decrement(bytes_of("a")), map_status::mismatch);
  EXPECT_EQ(m->text("a"), "text");
}

TEST_F(MapEdits, CountersOfSeveralThreadsEndWhereTheirCallsAddUpTo) {
  durable_map& map = **m;
  constexpr int threads = 4, rounds = 3000;
  std::vector<std::thread> running;
  std::atomic<std::int64_t> sum[3] = {};
  for (int t = 0; t < threads; ++t)
    running.emplace_back([&, t] {
      std::uint64_t x = static_cast<std::uint64_t>(t) + 1;
      for (int i = 0; i < rounds; ++i) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        const std::uint64_t key = (x >> 40) % 3, by = (x >> 50) % 3 + 1;
        if ((x >> 33) % 2 == 0) {
          if (map.increment(bytes_of(key), by) == map_status::done)
            sum[key] += static_cast<std::int64_t>(by);
        } else if (map.decrement(bytes_of(key), by) == map_status::done) {
          sum[key] -= static_cast<std::int64_t>(by);
        }
      }
    });
  for (auto& t : running)
    t.join();
  const chainring::map<std::uint64_t, std::uint64_t> counters(map);
  for (std::uint64_t k = 0; k < 3; ++k) {
    const auto left = counters.get(k);
    EXPECT_EQ(static_cast<std::int64_t>(left.value_or(0)), sum[k].load()) << "key " << k;
    EXPECT_NE(left, 0u) << "a counter that is zero has no key";
  }
}

TEST_F(MapEdits, ABatchCountsTheSameKeyTwice) {
  durable_map& map = **m;
  {
    durable_map::batch b(map);
    EXPECT_EQ(b.increment(bytes_of("a")), map_status::done);
    EXPECT_EQ(b.increment(bytes_of("a")), map_status::done);
    EXPECT_EQ(b.decrement(bytes_of("a")), map_status::done);
    EXPECT_EQ(b.erase_if(bytes_of("a"), [](auto v) { return v.size() == 1; }),
              map_status::mismatch);
    EXPECT_EQ(b.alter(bytes_of("c"),
                      [](map_edit& e) {
                        e.assign(bytes_of("new"));
                        return map_status::done;
                      }),
              map_status::done);
  }
  EXPECT_EQ(number("a"), 1u);
  EXPECT_EQ(m->text("c"), "new");
}

TEST_F(MapEdits, RefusedEditsDoNotMakeTheIndexGrow) {
  layout.first = 1;
  reopen();
  durable_map& map = **m;
  ASSERT_EQ(map.insert(bytes_of("a"), bytes_of("1")), map_status::done);
  for (int i = 0; i < 1000; ++i) {
    (void)map.alter(bytes_of("b"), [](map_edit&) { return map_status::done; });
    (void)map.increment(bytes_of("a"));
  }
  EXPECT_FALSE(map.growing());
}

// --- typed --------------------------------------------------------------------------------------

struct reading {
  std::uint32_t station;
  std::uint32_t at_s;
  friend bool operator==(const reading&, const reading&) = default;
};

TEST_F(MapEdits, ATypedMapKeepsValuesAcrossAnOpen) {
  {
    map<std::string, reading> last(**m);
    EXPECT_EQ(last.insert("roof", {7, 100}), map_status::done);
    EXPECT_EQ(last.insert("roof", {8, 100}), map_status::exists);
    EXPECT_EQ(last.update("cellar", {1, 1}), map_status::missing);
    EXPECT_EQ(last.upsert("cellar", {1, 1}), map_status::done);
    EXPECT_EQ(last.compare_exchange("cellar", {1, 2}, {9, 9}), map_status::mismatch);
    EXPECT_EQ(last.compare_exchange("cellar", {1, 1}, {9, 9}), map_status::done);
  }
  reopen();
  map<std::string, reading> last(**m);
  EXPECT_EQ(last.misfits(), 0u);
  EXPECT_EQ(last.get("roof"), (reading{7, 100}));
  EXPECT_EQ(last.get(std::string_view("cellar attic").substr(0, 6)), (reading{9, 9}));
  EXPECT_EQ(last.get("attic"), std::nullopt);
  std::map<std::string, std::uint32_t> walked;
  last.for_each([&](const std::string& k, const reading& r) { walked[k] = r.station; });
  EXPECT_EQ(walked, (std::map<std::string, std::uint32_t>{{"cellar", 9}, {"roof", 7}}));
  EXPECT_EQ(last.retain([](const std::string&, const reading& r) { return r.station == 7; }), 1u);
  EXPECT_EQ(last.len(), 1u);
  EXPECT_EQ(last.erase("roof"), map_status::done);
  last.clear();
  EXPECT_EQ(last.len(), 0u);
}

TEST_F(MapEdits, ATypedAlterDecidesByTheValue) {
  map<std::uint64_t, std::int32_t> balance(**m);
  const auto draw = [&](std::int32_t by) {
    return balance.alter(1, [&](std::optional<std::int32_t>& now) {
      if (now.value_or(0) < by) return map_status::mismatch;
      *now -= by;
      if (*now == 0) now.reset();
      return map_status::done;
    });
  };
  EXPECT_EQ(draw(1), map_status::mismatch);
  EXPECT_EQ(balance.increment(1, 10), map_status::done);
  EXPECT_EQ(draw(4), map_status::done);
  EXPECT_EQ(balance.get(1), 6);
  EXPECT_EQ(balance.erase_if(1, [](std::int32_t v) { return v > 6; }), map_status::mismatch);
  EXPECT_EQ(balance.decrement(1, 7), map_status::mismatch);
  EXPECT_EQ(draw(6), map_status::done);
  EXPECT_FALSE(balance.contains(1));
  map<std::uint64_t, std::int32_t>::batch b(balance);
  EXPECT_EQ(b.insert(2, 5), map_status::done);
  EXPECT_EQ(b.increment(3, 5), map_status::done);
  EXPECT_FALSE(balance.contains(2)) << "not before it is durable";
  b.commit();
  EXPECT_EQ(balance.get(2), 5);
  EXPECT_EQ(b.decrement(3, 5), map_status::done);
  EXPECT_EQ(b.update(2, 6), map_status::done);
  EXPECT_EQ(b.upsert(4, 6), map_status::done);
  EXPECT_EQ(b.erase(2), map_status::done);
  b.commit();
  EXPECT_EQ(balance.len(), 1u);
}

TEST_F(MapEdits, AStringIsKeptWhateverItsLength) {
  map<std::string, std::string> notes(**m);
  for (const std::size_t size : {0, 1, 16, 17, 1000, 5000}) {
    const std::string text(size, 'n');
    ASSERT_EQ(notes.upsert("note", text), map_status::done);
    EXPECT_EQ(notes.get("note"), text);
  }
}

TEST_F(MapEdits, EntriesOfAnotherTypeAreCountedAndNotFound) {
  ASSERT_EQ((*m)->insert(bytes_of("12345678"), bytes_of("four")), map_status::done);
  ASSERT_EQ((*m)->insert(bytes_of("short"), bytes_of("12345678")), map_status::done);
  map<std::uint64_t, std::uint64_t> numbers(**m);
  EXPECT_EQ(numbers.misfits(), 2u);
  std::uint64_t key = 0;
  std::memcpy(&key, "12345678", 8);
  EXPECT_EQ(numbers.get(key), std::nullopt);
  EXPECT_EQ(numbers.increment(key), map_status::mismatch);
  EXPECT_EQ(numbers.alter(key, [](auto&) { return map_status::done; }), map_status::mismatch);
  EXPECT_EQ(numbers.erase_if(key, [](auto) { return true; }), map_status::mismatch);
  numbers.for_each([](auto, auto) { ADD_FAILURE(); });
  EXPECT_EQ(numbers.retain([](auto, auto) { return false; }), 0u);
  EXPECT_EQ(m->text("12345678"), "four");
}

TEST_F(MapEdits, KeysAreListedByPrefix) {
  map<std::string, std::uint64_t> parts(**m);
  for (const char* part : {"M8/bolt", "M8/nut", "M6/bolt", "M8", "M"})
    ASSERT_EQ(parts.insert(part, 1), map_status::done);
  ASSERT_EQ(parts.insert("M8/" + std::string(100, 'x'), 1), map_status::done);
  ASSERT_EQ((*m)->insert(bytes_of("M8/misfit"), bytes_of("no number")), map_status::done);
  const auto found = [&](std::string_view prefix) {
    std::map<std::string, std::uint64_t> all;
    parts.for_each_with_prefix(prefix, [&](const std::string& k, std::uint64_t v) {
      EXPECT_TRUE(all.emplace(k, v).second);
    });
    return all;
  };
  EXPECT_EQ(found("M8/").size(), 3u);
  EXPECT_TRUE(found("M8/").contains("M8/nut"));
  EXPECT_EQ(found("").size(), 6u);
  EXPECT_EQ(found("M8/bolt").size(), 1u);
  EXPECT_TRUE(found("M8/bolts").empty());
}

} // namespace
} // namespace chainring::test
