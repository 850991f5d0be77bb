// SPDX-License-Identifier: BSD-3-Clause
/// Threads use maps, and each of their calls is recorded. The answers for each key must be those
/// that a single word could give which does one call at a time.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <sched.h>
#include <thread>

#include "base/hook.h"
#include "base/idle.h"
#include "map/seq_map.h"
#include "map_fixture.h"
#include "support/give_way.h"
#include "support/linearizability.h"
#include "support/seed.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

using map_recorder = recorder<map_operation>;

constexpr unsigned threads_max = 4;

std::uint64_t run_seed() {
  static const std::uint64_t seed = printed_seed(1);
  return seed;
}

map_operation draw(std::mt19937_64& random, std::uint64_t keys, std::uint64_t fresh,
                   std::uint64_t seen) {
  static constexpr map_call calls[] = {map_call::insert,
                                       map_call::update,
                                       map_call::upsert,
                                       map_call::erase,
                                       map_call::get,
                                       map_call::get,
                                       map_call::get,
                                       map_call::compare_exchange,
                                       map_call::compare_exchange};
  map_operation o;
  o.kind = calls[random() % std::size(calls)];
  o.key = random() % keys;
  o.value = fresh;
  o.expected = seen;
  return o;
}

struct {
  std::size_t operations = 0, configurations = 0;
  std::uint64_t steps = 0;
} totals;

class MapLinear : public testing::Test {
 protected:
  MapLinear() { totals = {}; }
  ~MapLinear() override {
    std::printf("%zu operations, %llu steps, at most %zu configurations\n", totals.operations,
                static_cast<unsigned long long>(totals.steps), totals.configurations);
  }
};

/// Runs `each(thread, recorder)` on every thread, and checks the calls that they recorded. Returns
/// the part of the history that no order of calls explains, or an empty string.
template <class Each> std::string run(unsigned threads, Each&& each) {
  linear_clock clock;
  std::vector<map_recorder> parts;
  for (unsigned i = 0; i < threads; ++i)
    parts.emplace_back(clock);
  set_hook(give_way, nullptr);
  std::atomic<unsigned> arrived{0};
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; ++i)
    running.emplace_back([&, i] {
      idle_policy wait;
      for (arrived.fetch_add(1); arrived.load() < threads;)
        wait.idle();
      each(i, parts[i]);
    });
  for (auto& t : running)
    t.join();
  set_hook(nullptr, nullptr);
  const auto history = merged(parts);
  const linear_verdict v = check_each_key(map_model{}, history);
  totals.operations += history.size();
  totals.steps += v.steps;
  totals.configurations = std::max(totals.configurations, v.configurations);
  return v ? "" : v.text;
}

/// A growing map is tested in many short runs. Each run begins with a new map, which grows again.
constexpr std::uint64_t growing_runs = 200, growing_operations = 400, fillers = 1200;

// --- volatile -----------------------------------------------------------------------------------

struct wide_value {
  std::uint64_t v = 0, same = 0, too = 0;
  friend bool operator==(const wide_value&, const wide_value&) = default;
};

/// Gives all keys one home, so that entries move while other threads read.
struct one_home {
  std::uint64_t operator()(std::uint64_t) const noexcept { return 0; }
};

/// `each_fills` is the number of other keys that each thread inserts, so that the map grows.
template <class Map>
std::string seq_map_run(Map& map, std::uint64_t keys, std::uint64_t operations,
                        std::uint64_t seed = run_seed(), std::uint64_t each_fills = 0) {
  return run(threads_max, [&](unsigned me, map_recorder& r) {
    std::mt19937_64 random(seed * 100 + me);
    std::uint64_t filled = 0;
    std::vector<std::uint64_t> seen(keys);
    for (std::uint64_t i = 1; i <= operations; ++i) {
      for (; filled < each_fills * i / operations; ++filled)
        ASSERT_EQ(map.insert(keys + filled * threads_max + me, {}), map_status::done);
      const std::uint64_t fresh = std::uint64_t{me + 1} << 32 | i;
      map_operation o = draw(random, keys, fresh, 0);
      o.expected = seen[o.key];
      r.begin(o);
      const wide_value value{fresh, fresh, fresh};
      std::optional<wide_value> got;
      map_status s = map_status::done;
      switch (o.kind) {
      case map_call::insert:
        s = map.insert(o.key, value);
        break;
      case map_call::update:
        s = map.update(o.key, value);
        break;
      case map_call::upsert: // does what upsert() does, and gives way in the middle
        s = map.alter(o.key, [&](std::optional<wide_value>& now) {
          give_way(nullptr, nullptr);
          now = value;
          return map_status::done;
        });
        break;
      case map_call::erase:
        s = map.erase(o.key);
        break;
      case map_call::get:
        got = map.get(o.key);
        s = got ? map_status::done : map_status::missing;
        break;
      case map_call::compare_exchange: {
        wide_value expected{o.expected, o.expected, o.expected};
        s = map.compare_exchange(o.key, expected, value);
        if (s == map_status::mismatch) got = expected;
        break;
      }
      }
      map_operation& done = r.end();
      done.result = s;
      if (got) {
        ASSERT_TRUE(got->v == got->same && got->v == got->too)
            << "a value has words of two changes";
        seen[o.key] = done.found = got->v;
      }
    }
  });
}

TEST_F(MapLinear, CallsOfASeqMapWithFewKeysHaveOneOrder) {
  auto made = seq_map<std::uint64_t, wide_value>::create(8);
  ASSERT_TRUE(made);
  EXPECT_EQ(seq_map_run(**made, 3, 40'000), "");
}
TEST_F(MapLinear, CallsOfASeqMapWithOneHomeHaveOneOrder) {
  auto made = seq_map<std::uint64_t, wide_value, one_home>::create(8);
  ASSERT_TRUE(made);
  EXPECT_EQ(seq_map_run(**made, 6, 40'000), "");
}

std::string growing_seq_map(std::uint64_t seed) {
  constexpr std::uint64_t keys = 5;
  auto made = seq_map<std::uint64_t, wide_value>::create(keys + fillers, {}, 1);
  EXPECT_TRUE(made);
  return seq_map_run(**made, keys, growing_operations, seed, fillers / threads_max);
}
TEST_F(MapLinear, CallsOfAGrowingSeqMapHaveOneOrder) {
  for (std::uint64_t n = 0; n < growing_runs; ++n)
    ASSERT_EQ(growing_seq_map(run_seed() + n), "");
}

// --- durable ------------------------------------------------------------------------------------

/// Values of 8 bytes lie in the cell, and values of 24 bytes in a chain.
struct durable_values {
  std::size_t words;
  [[nodiscard]] std::vector<std::uint64_t> of(std::uint64_t v) const {
    return std::vector<std::uint64_t>(words, v);
  }
  static std::span<const std::byte> bytes(const std::vector<std::uint64_t>& v) {
    return std::as_bytes(std::span(v));
  }
};

map_status get_word(const durable_map& map, std::string_view key, std::uint64_t& value) {
  std::uint64_t words[4] = {};
  std::size_t size = 0;
  const map_status s = map.get(bytes_of(key), std::as_writable_bytes(std::span(words)), size);
  for (std::size_t i = 1; s == map_status::done && i < size / 8; ++i)
    EXPECT_EQ(words[i], words[0]) << "a value has words of two changes";
  value = words[0];
  return s;
}

/// Makes a change through a map or through one of its batches.
template <class Changes>
map_status change(Changes& on, std::string_view key, const map_operation& o,
                  const durable_values& values) {
  const auto value = values.of(o.value);
  switch (o.kind) {
  case map_call::insert:
    return on.insert(bytes_of(key), values.bytes(value));
  case map_call::update:
    return on.update(bytes_of(key), values.bytes(value));
  case map_call::upsert: // does what upsert() does, and gives way in the middle
    return on.alter(bytes_of(key), [&](map_edit& e) {
      give_way(nullptr, nullptr);
      e.assign(values.bytes(value));
      return map_status::done;
    });
  case map_call::erase: // every other time by looking at the value first
    if (o.value % 2 == 0) return on.erase(bytes_of(key));
    return on.erase_if(bytes_of(key), [&](std::span<const std::byte> now) {
      return now.size() == values.bytes(value).size();
    });
  default: {
    const auto expected = values.of(o.expected);
    return on.compare_exchange(bytes_of(key), values.bytes(expected), values.bytes(value));
  }
  }
}

std::string durable_map_run(std::size_t value_words, bool long_keys, bool batches,
                            std::uint64_t operations, std::uint64_t seed = run_seed(),
                            std::uint64_t each_fills = 0) {
  constexpr std::uint64_t keys = 4;
  const map_layout layout{
      .cells = 32 + threads_max * each_fills, .blocks = 256, .first = each_fills == 0 ? 0u : 1u};
  auto memory = memory_media(layout.size(), durability_class::emulated);
  opened_map m(*memory, layout);
  durable_map& map = *m;
  const durable_values values{value_words};
  std::vector<std::string> names;
  for (std::uint64_t k = 0; k < keys; ++k)
    names.push_back(std::string(long_keys ? 40 : 4, static_cast<char>('a' + k)));
  return run(threads_max, [&](unsigned me, map_recorder& r) {
    std::mt19937_64 random(seed * 100 + me);
    std::uint64_t filled = 0;
    std::vector<std::uint64_t> seen(keys);
    std::unique_ptr<durable_map::batch> open;
    std::vector<std::size_t> waiting; // changes of the batch that are not published
    const auto publish = [&] {
      open->commit();
      for (std::size_t i : waiting)
        (void)r.end(i);
      waiting.clear();
      open.reset();
    };
    for (std::uint64_t i = 1; i <= operations; ++i) {
      map_operation o = draw(random, keys, std::uint64_t{me + 1} << 32 | i, 0);
      o.expected = seen[o.key];
      if (o.kind == map_call::get) {
        r.begin(o);
        std::uint64_t value = 0;
        const map_status s = get_word(map, names[o.key], value);
        map_operation& done = r.end();
        done.result = s;
        if (s == map_status::done) seen[o.key] = done.found = value;
        continue;
      }
      for (; filled < each_fills * i / operations; ++filled) {
        const std::uint64_t filler = filled * threads_max + me;
        ASSERT_EQ(open ? open->insert(bytes_of(filler), {}) : map.insert(bytes_of(filler), {}),
                  map_status::done);
      }
      if (batches && !open && random() % 2 == 0) open = std::make_unique<durable_map::batch>(map);
      r.begin(o);
      const map_status s =
          open ? change(*open, names[o.key], o, values) : change(map, names[o.key], o, values);
      if (open && s == map_status::done) { // the change is durable and visible with the batch
        r.at(r.last()).what.result = s;
        waiting.push_back(r.last());
      } else {
        r.end().result = s;
      }
      if (open && random() % 4 == 0) publish();
    }
    if (open) publish();
  });
}

TEST_F(MapLinear, CallsOfADurableMapWithFewKeysHaveOneOrder) {
  EXPECT_EQ(durable_map_run(1, false, false, 6000), "");
}
TEST_F(MapLinear, CallsOfADurableMapWithValuesInChainsHaveOneOrder) {
  EXPECT_EQ(durable_map_run(3, false, false, 6000), "");
}
TEST_F(MapLinear, CallsOfADurableMapWithKeysAndValuesInChainsHaveOneOrder) {
  EXPECT_EQ(durable_map_run(3, true, false, 6000), "");
}
TEST_F(MapLinear, BatchesOfADurableMapHaveOneOrder) {
  EXPECT_EQ(durable_map_run(1, false, true, 6000), "");
}
TEST_F(MapLinear, BatchesOfADurableMapWithValuesInChainsHaveOneOrder) {
  EXPECT_EQ(durable_map_run(3, false, true, 6000), "");
}

std::string growing_durable_map(std::size_t value_words, bool long_keys, bool batches,
                                std::uint64_t seed) {
  return durable_map_run(value_words, long_keys, batches, growing_operations, seed,
                         fillers / threads_max);
}
TEST_F(MapLinear, CallsOfAGrowingDurableMapHaveOneOrder) {
  for (std::uint64_t n = 0; n < growing_runs / 2; ++n)
    ASSERT_EQ(growing_durable_map(1, false, false, run_seed() + n), "");
}
TEST_F(MapLinear, BatchesOfAGrowingDurableMapWithChainsHaveOneOrder) {
  for (std::uint64_t n = 0; n < growing_runs / 2; ++n)
    ASSERT_EQ(growing_durable_map(3, n % 2 == 0, true, run_seed() + n), "");
}

/// The seeded bug moves a home without its claim. A change between the copy and the removal is then
/// lost, or a key that was erased in between comes back.
TEST_F(MapLinear, AMoveWithoutTheClaimIsFound) {
  const seeded on("map.move_unclaimed");
  std::string found;
  std::uint64_t n = 0;
  for (; n < 20 * growing_runs && found.empty(); ++n)
    found = growing_seq_map(run_seed() + n);
  expect_found("map.move_unclaimed", !found.empty(), "run " + std::to_string(n));
  std::printf("%s\n", found.c_str());
}

} // namespace
} // namespace chainring::test
