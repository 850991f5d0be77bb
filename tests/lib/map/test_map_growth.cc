// SPDX-License-Identifier: BSD-3-Clause
/// The index of the maps while it grows, seen from every hook point of a move, and the limits of
/// the growth.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "base/hook.h"
#include "map/seq_map.h"
#include "map_fixture.h"
#include "support/explorer.h"
#include "support/seed.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

/// While an object of this class lives, fn(name) is called at every hook point that the thread
/// which made it passes, except those that fn itself passes.
class at_hooks {
 public:
  explicit at_hooks(std::function<void(std::string_view)> fn) : fn_(std::move(fn)) {
    set_hook(
        [](const char* name, void* self) noexcept {
          auto* me = static_cast<at_hooks*>(self);
          if (std::this_thread::get_id() != me->mine_ || me->inside_) return;
          me->inside_ = true;
          me->fn_(name);
          me->inside_ = false;
        },
        this);
  }
  ~at_hooks() { set_hook(nullptr, nullptr); }
  at_hooks(const at_hooks&) = delete;
  at_hooks& operator=(const at_hooks&) = delete;

 private:
  std::function<void(std::string_view)> fn_;
  std::thread::id mine_ = std::this_thread::get_id();
  bool inside_ = false;
};

struct value40 {
  std::uint64_t v = 0, more[4] = {};
  bool operator==(const value40&) const = default;
};

/// A hash that is a signed number, and negative for half of the keys.
struct negative_hash {
  std::int64_t operator()(std::int64_t key) const noexcept {
    return key * 0x0000'9e37'79b9'7f4b; // the factor is odd
  }
};

template <class M> std::unique_ptr<M> make(std::uint64_t capacity, std::uint64_t first) {
  auto made = M::create(capacity, {}, first);
  EXPECT_TRUE(made);
  return std::move(made).value();
}

/// Inserts, updates and erases keys while a map grows, and looks every key up at each step of each
/// move. Returns the first thing that was wrong, or an empty string.
template <class M, class Key, class Value>
std::string follow(std::uint64_t keys, std::uint64_t capacity, std::uint64_t first,
                   std::uint64_t seed) {
  auto m = make<M>(capacity, first);
  std::map<Key, Value> model;
  std::string wrong;
  const auto fail = [&](const std::string& what) {
    if (wrong.empty()) wrong = what;
  };
  Key changing{}; // the key that a running call changes
  bool change = false;
  const auto look = [&](std::string_view where) {
    std::vector<Key> sought;
    for (std::uint64_t i = 0; i < keys; ++i)
      sought.push_back(static_cast<Key>(i) - static_cast<Key>(keys / 2));
    for (std::size_t at = 0; at < sought.size(); at += 16) {
      Value values[16];
      const auto n = static_cast<unsigned>(std::min<std::size_t>(16, sought.size() - at));
      const auto hits = m->get_bulk(&sought[at], n, values);
      for (unsigned i = 0; i < n; ++i) {
        const Key key = sought[at + i];
        if (change && key == changing) continue;
        const auto it = model.find(key);
        const auto got = m->get(key);
        const bool hit = (hits >> i & 1) != 0, wanted = it != model.end();
        if (hit != wanted || got.has_value() != wanted)
          fail(std::string(where) +
               (wanted ? ": a lookup missed a key" : ": a lookup found an erased key"));
        else if (wanted && (values[i] != it->second || *got != it->second))
          fail(std::string(where) + ": a lookup returned an old value");
      }
    }
    if (where == "map.move.copy" || where == "map.move.copied")
      return; // a walk would wait for this move
    std::map<Key, unsigned> met;
    m->for_each([&](const Key& k, const Value&) { ++met[k]; });
    for (const auto& [k, n] : met)
      if (n != 1) fail(std::string(where) + ": a walk returned a key twice");
    for (const auto& [k, v] : model)
      if (!(change && k == changing) && !met.contains(k))
        fail(std::string(where) + ": a walk missed a key");
    if (met.size() > model.size() + 1)
      fail(std::string(where) + ": a walk returned keys that are not in the map");
  };
  const at_hooks watch(look);
  std::mt19937_64 random(seed);
  for (std::uint64_t round = 0; round < 4 * keys && wrong.empty(); ++round) {
    changing = static_cast<Key>(random() % keys) - static_cast<Key>(keys / 2);
    change = true;
    Value value{};
    value.v = round;
    switch (random() % 6) {
    case 0:
      m->erase(changing);
      model.erase(changing);
      break;
    case 1:
      if (m->update(changing, value) == map_status::done) model[changing] = value;
      break;
    default:
      if (m->upsert(changing, value) == map_status::done) model[changing] = value;
    }
    change = false;
    if (round % 16 == 0) look("between");
  }
  while (m->help_grow(1) && wrong.empty())
    ;
  look("at the end");
  if (m->len() != model.size()) fail("len() is not the number of keys");
  return wrong;
}

std::string follow_short(std::uint64_t seed) {
  struct value8 {
    std::uint64_t v = 0;
    bool operator==(const value8&) const = default;
  };
  return follow<seq_map<std::int64_t, value8>, std::int64_t, value8>(60, 120, 1, seed);
}
/// Each entry takes a line.
std::string follow_long(std::uint64_t seed) {
  return follow<seq_map<std::int64_t, value40>, std::int64_t, value40>(60, 120, 3, seed);
}
std::string follow_negative(std::uint64_t seed) {
  return follow<seq_map<std::int64_t, value40, negative_hash>, std::int64_t, value40>(60, 64, 2,
                                                                                      seed);
}

TEST(MapGrowth, NoKeyIsMissedOrDoubledAtAnyPointOfAMove) {
  const std::uint64_t seed = printed_seed(1);
  for (std::uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(follow_short(seed + i), "");
    EXPECT_EQ(follow_long(seed + i), "");
  }
}

TEST(MapGrowth, NegativeHashesFindTheirSlots) {
  EXPECT_EQ(follow_negative(printed_seed(1)), "");
}

TEST(MapGrowth, SeededBugsAreFound) {
  for (const char* bug :
       {"map.move_gap", "map.move_twice", "map.move_signed", "map.move_by_old_size"}) {
    const seeded on(bug);
    const std::string s = follow_short(1), l = follow_long(1), n = follow_negative(1);
    expect_found(bug, !s.empty() && !l.empty() && !n.empty(), s);
  }
}

TEST(MapGrowth, AMapThatBeginsWithMoreThanItsCapacityIsRefused) {
  auto made = seq_map<std::uint64_t, std::uint64_t>::create(10, {}, 11);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, errc::invalid_argument);
}

TEST(MapGrowth, AMapMadeForAllItsKeysNeverGrows) {
  auto m = make<seq_map<std::uint64_t, std::uint64_t>>(1000, 0);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(m->insert(i, i), map_status::done);
    ASSERT_FALSE(m->growing());
  }
  EXPECT_EQ(m->insert(1000, 1), map_status::full);
}

TEST(MapGrowth, NoChangeMovesMoreThanAFewHomesAndAllAreMovedInTime) {
  auto m = make<seq_map<std::uint64_t, value40>>(1 << 14, 1);
  unsigned moved = 0, most = 0, grown = 0, waits = 0;
  const at_hooks watch([&](std::string_view name) {
    moved += name == "map.moved";
    grown += name == "map.grown";
    waits += name == "map.move.wait";
  });
  for (std::uint64_t i = 0; i < 1 << 14; ++i) {
    moved = 0;
    ASSERT_EQ(m->insert(i, {}), map_status::done);
    most = std::max(most, moved);
  }
  EXPECT_LE(most, 4u);
  EXPECT_GE(most, 1u);
  EXPECT_EQ(grown, 14u);
  EXPECT_EQ(waits, 0u);
  EXPECT_EQ(m->insert(1 << 14, {}), map_status::full);
}

/// The callback of a walk makes the map grow.
TEST(MapGrowth, AWalkReturnsEachKeyOnceHoweverFarTheMapGrowsMeanwhile) {
  using map_type = seq_map<std::uint64_t, std::uint64_t>;
  for (std::uint64_t more : {0, 1, 5, 40}) {
    auto m = make<map_type>(4096, 4);
    for (std::uint64_t k = 0; k < 48; ++k)
      ASSERT_EQ(m->insert(k, k), map_status::done);
    std::uint64_t next = 1000;
    std::map<std::uint64_t, unsigned> met;
    m->for_each([&](std::uint64_t k, std::uint64_t) {
      ++met[k];
      m->help_grow(1);
      for (std::uint64_t i = 0; i < more && next < 3000; ++i)
        ASSERT_EQ(m->insert(next++, 0), map_status::done);
    });
    for (std::uint64_t k = 0; k < 48; ++k)
      EXPECT_EQ(met[k], 1u) << k << " with " << more;
    for (const auto& [k, n] : met)
      EXPECT_EQ(n, 1u) << k;
    EXPECT_EQ(m->retain([](std::uint64_t k, std::uint64_t) { return k < 48; }), next - 1000);
    EXPECT_EQ(m->len(), 48u);
  }
}

/// Each home is moved after a walk has read it in the old table and before it reads the new one.
TEST(MapGrowth, AWalkTakesAHomeThatMovesMeanwhileFromTheNewTableOnly) {
  using map_type = seq_map<std::uint64_t, std::uint64_t>;
  auto m = make<map_type>(4096, 64);
  for (std::uint64_t k = 0; k < 64; ++k)
    ASSERT_EQ(m->insert(k, k), map_status::done);
  ASSERT_EQ(m->insert(64, 64), map_status::done); // opens the next table
  unsigned moved = 0;
  std::map<std::uint64_t, unsigned> met;
  {
    const at_hooks watch([&](std::string_view name) {
      if (name == "map.walk") moved += m->help_grow(1);
    });
    m->for_each([&](std::uint64_t k, std::uint64_t) { ++met[k]; });
  }
  EXPECT_EQ(moved, 60u); // there are 64 homes, and the insert moved four
  EXPECT_FALSE(m->growing());
  EXPECT_EQ(met.size(), 65u);
  for (const auto& [k, n] : met)
    EXPECT_EQ(n, 1u) << k;
}

/// A key is in both tables at one moment. The walk waits until the move is finished.
TEST(MapGrowth, AWalkWaitsForTheMoveOfAHomeToFinish) {
  using map_type = seq_map<std::uint64_t, std::uint64_t>;
  auto m = make<map_type>(64, 4);
  for (std::uint64_t k = 0; k < 4; ++k)
    ASSERT_EQ(m->insert(k, k), map_status::done);
  static std::atomic<int> step;
  step = 0;
  set_hook(
      [](const char* name, void*) noexcept {
        const std::string_view at(name);
        if (at == "map.walk.wait") step = 2;
        if (at != "map.move.copied" || step != 0) return;
        step = 1;
        while (step != 2)
          std::this_thread::yield();
      },
      nullptr);
  std::thread mover([&] { EXPECT_EQ(m->insert(4, 4), map_status::done); });
  while (step != 1)
    std::this_thread::yield();
  std::map<std::uint64_t, unsigned> met;
  m->for_each([&](std::uint64_t k, std::uint64_t) { ++met[k]; });
  step = 2;
  mover.join();
  set_hook(nullptr, nullptr);
  for (std::uint64_t k = 0; k < 4; ++k)
    EXPECT_EQ(met[k], 1u) << k;
}

struct all_alike {
  std::uint64_t operator()(std::uint64_t) const noexcept { return ~std::uint64_t{0}; }
};

TEST(MapGrowth, KeysWithOneHashFillTheMapEarlyAndStay) {
  auto m = make<seq_map<std::uint64_t, std::uint64_t, all_alike>>(1 << 20, 1);
  std::uint64_t n = 0;
  while (m->insert(n, n * 3) == map_status::done)
    ++n;
  EXPECT_EQ(m->insert(n, 0), map_status::full);
  EXPECT_GE(n, 512u); // 256 groups of at least two entries
  EXPECT_LE(n, 1024u);
  std::set<std::uint64_t> met;
  m->for_each([&](std::uint64_t k, std::uint64_t) { EXPECT_TRUE(met.insert(k).second); });
  EXPECT_EQ(met.size(), n);
  for (std::uint64_t k = 0; k < n; ++k)
    ASSERT_EQ(m->get(k), k * 3);
  for (std::uint64_t k = 0; k < n; ++k)
    ASSERT_EQ(m->erase(k), map_status::done);
  EXPECT_EQ(m->insert(7, 7), map_status::done);
}

/// A move found no entry and stopped. It moves one more key while a walk reads its home.
TEST(MapGrowth, AWalkReturnsEachKeyOnceWhenAMoveStopsHalfWay) {
  auto m = make<seq_map<std::uint64_t, std::uint64_t, all_alike>>(1 << 20, 1);
  std::uint64_t n = 0;
  while (m->insert(n, n) == map_status::done)
    ++n;
  std::map<std::uint64_t, unsigned> met;
  {
    bool done = false;
    const at_hooks watch([&](std::string_view name) {
      if (name == "map.walk" && !std::exchange(done, true)) m->erase(n - 1);
    });
    m->for_each([&](std::uint64_t k, std::uint64_t) { ++met[k]; });
    EXPECT_TRUE(done);
  }
  for (std::uint64_t k = 0; k < n - 1; ++k)
    ASSERT_EQ(met[k], 1u) << k;
}

TEST(MapGrowth, AnInsertWaitsOnlyForAClaimThatHoldsTheGrowthUpToTheLast) {
  using map_type = seq_map<std::uint64_t, std::uint64_t>;
  auto m = make<map_type>(256, 8);
  std::atomic<int> step{0};
  const auto reach = [&](int n) {
    while (step.load() < n)
      std::this_thread::yield();
  };
  // The callback holds the claim of all homes of a stripe.
  std::thread holder([&] {
    m->alter(1, [&](std::optional<std::uint64_t>& v) {
      v = 1;
      step = 1;
      reach(3);
      return map_status::done;
    });
  });
  reach(1);
  static std::atomic<bool> waited;
  waited = false;
  set_hook(
      [](const char* name, void*) noexcept {
        if (std::string_view(name) == "map.move.wait") waited = true;
      },
      nullptr);
  std::atomic<std::uint64_t> inserted{0};
  std::thread writer([&] {
    const std::uint64_t held = m->hash(1);
    for (std::uint64_t k = 100; inserted.load() < 200; ++k) {
      if ((m->hash(k) & 3) == (held & 3))
        continue; // the first table has four homes, so there are four stripes
      if (m->insert(k, k) == map_status::done) ++inserted;
    }
    step = 4;
  });
  while (!waited.load())
    std::this_thread::yield();
  // As many keys as the second table has room for were inserted.
  EXPECT_EQ(inserted.load(), 16u);
  EXPECT_EQ(step.load(), 1);
  step = 3;
  reach(4);
  holder.join();
  writer.join();
  set_hook(nullptr, nullptr);
  EXPECT_EQ(m->len(), 201u);
  EXPECT_EQ(m->get(1), 1u);
}

TEST(MapGrowth, OutgrownTablesGiveTheirMemoryBackWhileLookupsRun) {
  using map_type = seq_map<std::uint64_t, std::uint64_t>;
  constexpr std::uint64_t keys = 60'000;
  auto m = make<map_type>(1 << 16, 1 << 13); // the first table takes 256 KiB
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> present{0}, missed{0};
  std::thread reader([&] {
    std::minstd_rand random(1);
    while (!done.load())
      if (const std::uint64_t n = present.load(); n != 0)
        missed += m->get(random() % n) == std::nullopt;
  });
  for (std::uint64_t k = 0; k < keys; ++k) {
    ASSERT_EQ(m->insert(k, k), map_status::done);
    present = k + 1;
    if (k % 1000 == 0) m->trim();
  }
  m->trim();
  done = true;
  reader.join();
  EXPECT_EQ(missed.load(), 0u);
  for (std::uint64_t k = 0; k < keys; ++k)
    ASSERT_EQ(m->get(k), k);
}

// --- durable ------------------------------------------------------------------------------------

std::string number_key(std::uint64_t n) {
  std::string text = "key " + std::to_string(n);
  if (n % 3 == 0) text.resize(40, '.');
  return text;
}

struct durable_growth {
  map_layout layout{.cells = 200, .blocks = 800, .first = 1};
  std::unique_ptr<media> memory = memory_media(layout.size(), durability_class::process);
  std::unique_ptr<opened_map> m = std::make_unique<opened_map>(*memory, layout);
  void reopen() {
    m.reset();
    m = std::make_unique<opened_map>(*memory, layout);
  }
};

std::string follow_durable(std::uint64_t seed) {
  durable_growth d;
  std::map<std::string, std::string> model;
  std::set<std::string> changing; // keys that the batch changes
  std::string wrong;
  const auto look = [&](std::string_view where) {
    for (std::uint64_t n = 0; n < 150; ++n) {
      const std::string key = number_key(n);
      if (changing.contains(key)) continue;
      const auto it = model.find(key);
      if (d.m->text(key) != (it == model.end() ? "(none)" : it->second) && wrong.empty())
        wrong = std::string(where) + ": " + key + " is " + d.m->text(key);
    }
  };
  std::mt19937_64 random(seed);
  for (int life = 0; life < 3 && wrong.empty(); ++life) {
    {
      const at_hooks watch(look);
      for (int round = 0; round < 60 && wrong.empty(); ++round) {
        std::map<std::string, std::string> then = model;
        durable_map::batch b(**d.m);
        for (std::uint64_t n = 1 + random() % 12; n > 0; --n) {
          const std::string key = number_key(random() % (life == 0 ? 50 : 150));
          if (changing.contains(key)) continue; // a second change would commit the batch
          changing.insert(key);
          const std::string value(1 + random() % 40, static_cast<char>('a' + round % 26));
          const map_status s =
              random() % 4 == 0 ? b.erase(bytes_of(key)) : b.upsert(bytes_of(key), bytes_of(value));
          if (s != map_status::done) continue;
          if (const auto kept = b.size(); kept == 0) wrong = "a batch of one change is empty";
          if (random() % 8 == 0) b.commit();
          then[key] = value;
          if (d.m->text(key) == "(none)" && b.size() == 0) then.erase(key);
        }
        b.commit();
        // The model takes the changes of the batch in their order.
        for (const std::string& key : changing) {
          const std::string now = d.m->text(key);
          if (now == "(none)")
            then.erase(key);
          else if (then[key] != now && wrong.empty())
            wrong = "after a batch: " + key;
        }
        model = then;
        changing.clear();
        look("between");
      }
    }
    if (d.m->map->len() != model.size() && wrong.empty()) wrong = "the count is wrong";
    d.reopen();
    if (!d.m->recovered.notes.empty() && wrong.empty()) wrong = d.m->recovered.notes.front();
    look("reopened");
  }
  return wrong;
}

TEST(DurableMapGrowth, NoKeyIsMissedAtAnyPointOfAMove) {
  const std::uint64_t seed = printed_seed(1);
  for (std::uint64_t i = 0; i < 4; ++i)
    EXPECT_EQ(follow_durable(seed + i), "");
}

TEST(DurableMapGrowth, SeededBugsAreFound) {
  for (const char* bug : {"map.move_gap", "map.move_signed", "map.move_by_old_size"}) {
    const seeded on(bug);
    const std::string found = follow_durable(1);
    expect_found(bug, !found.empty(), found);
  }
}

TEST(DurableMapGrowth, TheMapTakesAKeyForEachCellAndNoMore) {
  durable_growth d;
  for (std::uint64_t n = 0; n < 200; ++n)
    ASSERT_EQ((*d.m)->insert(bytes_of(n), bytes_of(n)), map_status::done);
  EXPECT_EQ((*d.m)->insert(bytes_of(std::uint64_t{200}), {}), map_status::full);
  d.reopen();
  EXPECT_EQ(d.m->recovered.entries, 200u);
  EXPECT_FALSE((*d.m)->growing()); // recovery began with a table for all entries
  for (std::uint64_t n = 0; n < 200; ++n)
    ASSERT_EQ((*d.m)->erase(bytes_of(n)), map_status::done);
}

TEST(DurableMapGrowth, TheIndexGrowsWhenHalfItsEntriesAreTakenAndNotBefore) {
  durable_growth d;
  d.layout.first = 16;
  d.reopen();
  unsigned grown = 0;
  const at_hooks watch([&](std::string_view name) { grown += name == "map.grow"; });
  for (std::uint64_t n = 0; n < 15; ++n)
    ASSERT_EQ((*d.m)->insert(bytes_of(n), {}), map_status::done);
  const std::uint64_t one = 1, other = 100;
  for (int i = 0; i < 100; ++i) {
    (*d.m)->upsert(bytes_of(one), bytes_of(other));
    (*d.m)->insert(bytes_of(one), {});
    (*d.m)->erase(bytes_of(one));
    (*d.m)->insert(bytes_of(one), {});
  }
  EXPECT_EQ(grown, 0u);
  d.reopen();
  ASSERT_EQ((*d.m)->insert(bytes_of(other), {}), map_status::done);
  EXPECT_EQ(grown, 0u);
  ASSERT_EQ((*d.m)->insert(bytes_of(other + 1), {}), map_status::done);
  EXPECT_EQ(grown, 1u);
}

TEST(DurableMapGrowth, NoChangeMovesMoreThanAFewHomes) {
  durable_growth d;
  unsigned moved = 0, most = 0, grown = 0;
  const at_hooks watch([&](std::string_view name) {
    moved += name == "map.moved";
    grown += name == "map.grown";
  });
  for (std::uint64_t n = 0; n < 200; ++n) {
    moved = 0;
    ASSERT_EQ((*d.m)->insert(bytes_of(n), {}), map_status::done);
    most = std::max(most, moved);
  }
  EXPECT_LE(most, 4u);
  EXPECT_GE(grown, 7u);
}

TEST(DurableMapGrowth, ABatchLargerThanTheFirstTableIsPublishedWhole) {
  durable_growth d;
  {
    durable_map::batch b(**d.m);
    for (std::uint64_t n = 0; n < 60; ++n)
      ASSERT_EQ(b.insert(bytes_of(n), bytes_of(n)), map_status::done);
  }
  for (std::uint64_t n = 0; n < 60; ++n)
    ASSERT_TRUE((*d.m)->contains(bytes_of(n))) << n;
}

TEST(DurableMapGrowth, AMapThatBeginsWithMoreKeysThanCellsIsRefused) {
  durable_growth d;
  auto made = durable_map::create(*d.memory, 0, 10, *d.m->blocks, 11);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, errc::invalid_argument);
}

/// The section of a walk does not end when its callback has looked a key up.
TEST(DurableMapWalk, ValuesStayWholeWhileTheCallbackLooksOtherKeysUp) {
  map_layout layout{.cells = 8, .blocks = 4};
  auto memory = memory_media(layout.size(), durability_class::process);
  const opened_map m(*memory, layout);
  const std::string a(100, 'a'), b(60, 'b'), c(100, 'c');
  ASSERT_EQ(m->insert(bytes_of("a"), bytes_of(a)), map_status::done); // the value takes two blocks
  unsigned seen = 0;
  m->for_each([&](auto key, auto value) {
    ++seen;
    EXPECT_TRUE(std::ranges::equal(key, bytes_of("a")));
    EXPECT_EQ(m.text("a"), a); // a section within the section of the walk
    std::thread([&] {
      EXPECT_EQ(m->update(bytes_of("a"), bytes_of(b)), map_status::done);
      EXPECT_EQ(m->insert(bytes_of("c"), bytes_of(c)), map_status::full);
    }).join();
    EXPECT_TRUE(std::ranges::equal(value, bytes_of(a)));
  });
  EXPECT_EQ(seen, 1u);
  EXPECT_EQ(m->insert(bytes_of("c"), bytes_of(c)), map_status::done);
}

} // namespace
} // namespace chainring::test
