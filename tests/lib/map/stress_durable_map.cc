// SPDX-License-Identifier: BSD-3-Clause
/// The durable map under free-running threads. Writers insert, update, erase, batch and stage, also
/// on the same keys, while readers look keys up without locks. Every value names its key and
/// carries a CRC.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <thread>

#include "base/crc32c.h"
#include "map_fixture.h"
#include "support/explorer.h"
#include "support/seed.h"

namespace chainring::test {
namespace {

constexpr unsigned staying = 8, coming = 120, writers = 2, readers = 2, rounds = 1'000'000;
/// Other keys that writers add, in the test in which the index grows.
constexpr unsigned fillers = 20'000;

/// Every fourth key is too long for its cell.
std::string key_text(unsigned key) {
  std::string text = "key " + std::to_string(key);
  if (key % 4 == 3) text.resize(40 + key % 60, '.');
  return text;
}

struct head {
  std::uint32_t key, count;
  std::uint32_t length, crc; ///< of key, count and length, and of the bytes behind the head
};
static_assert(sizeof(head) == map_value_inline);

std::uint32_t crc_of(const head& h, const std::byte* rest) {
  return crc32c(crc32c(0, &h, offsetof(head, crc)), rest, h.length - sizeof h);
}
void fill(std::span<std::byte> value, unsigned key, std::uint32_t count) {
  head h{key, count, static_cast<std::uint32_t>(value.size()), 0};
  for (std::size_t i = sizeof h; i < value.size(); ++i)
    value[i] = static_cast<std::byte>(key + count * 13 + i);
  h.crc = crc_of(h, value.data() + sizeof h);
  std::memcpy(value.data(), &h, sizeof h);
}
/// Returns the count in a value, or nothing where it is not a whole value of that key.
std::optional<std::uint32_t> count_in(std::span<const std::byte> value, unsigned key) {
  head h{};
  if (value.size() < sizeof h) return std::nullopt;
  std::memcpy(&h, value.data(), sizeof h);
  if (h.key != key || h.length != value.size() || h.crc != crc_of(h, value.data() + sizeof h))
    return std::nullopt;
  return h.count;
}
/// Draws a length that fits the cell, or a chain of up to four blocks.
std::size_t length_for(std::uint64_t draw) {
  return draw % 2 == 0 ? sizeof(head) : sizeof(head) + draw % 200;
}

struct shared_map {
  bool grows;
  map_layout layout = [this] {
    map_layout l;
    l.cells = staying + coming + (grows ? fillers : 0);
    l.blocks = grows ? 16384 : 4096;
    l.first = grows ? 1 : 0;
    return l;
  }();
  std::unique_ptr<media> m = memory_media(layout.size(), durability_class::emulated);
  opened_map map{*m, layout};
  std::vector<std::string> names;
  std::atomic<unsigned> working{writers};
  std::atomic<std::uint64_t> torn{0}, lost{0}, back{0}, twice{0}, refused{0}, seen{0};

  explicit shared_map(bool with_growth = false) : grows(with_growth) {
    for (unsigned k = 0; k < staying + coming + (grows ? fillers : 0); ++k)
      names.push_back(key_text(k));
  }
  [[nodiscard]] std::span<const std::byte> name(unsigned k) const { return bytes_of(names[k]); }
};

/// Replaces a value by one with the next count, perhaps of another length.
map_status count_up(durable_map::batch& b, shared_map& s, unsigned key, std::uint64_t draw) {
  // The value may change between get() and compare_exchange(), which then returns `mismatch`.
  std::vector<std::byte> now(512), next(length_for(draw));
  std::size_t size = 0;
  if (s.map->get(s.name(key), now, size) != map_status::done) return map_status::missing;
  now.resize(size);
  const auto count = count_in(now, key);
  if (!count) return map_status::too_long;
  fill(next, key, *count + 1);
  return b.compare_exchange(s.name(key), now, next);
}

/// Makes a burst of staged changes, which ends where a change is busy.
void burst(shared_map& s, std::mt19937_64& random, std::uint32_t count) {
  std::array<map_change, 8> open;
  std::size_t n = 0;
  std::vector<std::byte> value;
  map_status status = map_status::done;
  while (status != map_status::busy && n < open.size()) {
    const std::uint64_t draw = random();
    const auto key = static_cast<unsigned>(staying + (draw >> 32) % coming);
    value.resize(length_for(draw >> 8));
    fill(value, key, count);
    status = draw % 3 == 0 ? s.map->erase_start(s.name(key), open[n])
                           : s.map->upsert_start(s.name(key), value, open[n]);
    n += status == map_status::done;
    if (status == map_status::full) ++s.refused;
  }
  for (std::size_t i = 0; i < n; ++i)
    s.map->change_flush(open[i]);
  s.m->drain();
  for (std::size_t i = 0; i < n; ++i)
    s.map->change_finish(open[i]);
}

void write(shared_map& s, unsigned me, std::uint64_t seed) {
  std::mt19937_64 random(seed * 100 + me);
  std::vector<std::byte> value;
  std::uint64_t filled = 0;
  for (unsigned i = 0; i < rounds;) {
    if (random() % 4 == 0) burst(s, random, i);
    durable_map::batch b(*s.map);
    for (std::uint64_t n = 1 + random() % 12; n > 0 && i < rounds; --n, ++i) {
      for (; s.grows && filled < std::uint64_t{fillers} / writers * i / rounds; ++filled) {
        const auto key = static_cast<unsigned>(staying + coming + filled * writers + me);
        value.resize(sizeof(head));
        fill(value, key, 1);
        s.refused += b.insert(s.name(key), value) != map_status::done;
      }
      const std::uint64_t draw = random();
      const auto key = static_cast<unsigned>(staying + (draw >> 32) % coming);
      value.resize(length_for(draw >> 8));
      fill(value, key, static_cast<std::uint32_t>(i));
      map_status status = map_status::done;
      switch (draw % 8) {
      case 0:
        status = b.insert(s.name(key), value);
        break;
      case 1:
        status = b.update(s.name(key), value);
        break;
      case 2:
        status = b.upsert(s.name(key), value);
        break;
      case 3:
      case 4:
        status = b.erase(s.name(key));
        break;
      case 5:
        b.flush_changes();
        s.m->drain();
        b.publish();
        break;
      case 6:
        status = b.update_in_place(s.name(key % staying), [&](std::span<std::byte> v) {
          const auto count = count_in(v, key % staying);
          if (!count) return void(++s.torn);
          fill(v, key % staying, *count + 1);
        });
        if (status != map_status::done) ++s.lost;
        break;
      default:
        status = count_up(b, s, key % staying, draw >> 16);
        if (status == map_status::missing) ++s.lost;
        if (status == map_status::too_long) ++s.torn;
      }
      if (status == map_status::full) ++s.refused;
    }
  }
  --s.working;
}

void read(shared_map& s) {
  std::uint32_t last[staying] = {};
  std::vector<std::byte> buffer(512);
  do {
    for (unsigned k = 0; k < staying + coming; ++k) {
      std::size_t size = 0;
      const map_status status = s.map->get(s.name(k), buffer, size);
      if (status == map_status::missing) {
        if (k < staying) ++s.lost;
        continue;
      }
      ++s.seen;
      const auto count = size <= buffer.size() ? count_in({buffer.data(), size}, k) : std::nullopt;
      if (!count) {
        ++s.torn;
      } else if (k < staying) {
        if (*count < last[k]) ++s.back;
        last[k] = std::max(last[k], *count);
      }
      if (const auto short_value = s.map->get(s.name(k));
          short_value && short_value->size == sizeof(head) && !count_in(short_value->bytes, k))
        ++s.torn;
    }
    unsigned times[staying] = {};
    s.map->for_each([&](std::span<const std::byte> key, std::span<const std::byte> value) {
      const std::string text(reinterpret_cast<const char*>(key.data()), key.size());
      const auto number =
          text.size() > 4 ? static_cast<unsigned>(std::atoi(text.c_str() + 4)) : ~0u;
      if (number >= s.names.size() || s.names[number] != text || !count_in(value, number))
        ++s.torn;
      else if (number < staying)
        ++times[number];
    });
    for (unsigned n : times)
      s.twice += n != 1;
  } while (s.working.load() != 0);
}

/// Counts the entries that a walk finds, and the blocks that their keys and values need.
std::map<std::string, std::string> contents(const opened_map& map, std::uint64_t& blocks) {
  std::map<std::string, std::string> all;
  blocks = 0;
  map->for_each([&](std::span<const std::byte> key, std::span<const std::byte> value) {
    all[{reinterpret_cast<const char*>(key.data()), key.size()}] = {
        reinterpret_cast<const char*>(value.data()), value.size()};
    if (key.size() > map_key_inline) blocks += map.blocks->blocks_for(key.size());
    if (value.size() > map_value_inline) blocks += map.blocks->blocks_for(value.size());
  });
  return all;
}

void readers_and_writers(bool grows) {
  const std::uint64_t seed = printed_seed(1);
  shared_map s(grows);
  std::vector<std::byte> value(sizeof(head));
  for (unsigned k = 0; k < staying; ++k) {
    fill(value, k, 0);
    ASSERT_EQ(s.map->insert(s.name(k), value), map_status::done);
  }
  std::vector<std::thread> threads;
  for (unsigned w = 0; w < writers; ++w)
    threads.emplace_back([&s, w, seed] { write(s, w, seed); });
  for (unsigned r = 0; r < readers; ++r)
    threads.emplace_back([&s] { read(s); });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(s.torn.load(), 0u);
  EXPECT_EQ(s.lost.load(), 0u);
  EXPECT_EQ(s.back.load(), 0u);
  EXPECT_EQ(s.twice.load(), 0u);
  EXPECT_EQ(s.refused.load(), 0u) << "there are enough cells and blocks for all keys";
  EXPECT_GT(s.seen.load(), 0u);

  std::uint64_t blocks = 0;
  const auto before = contents(s.map, blocks);
  EXPECT_EQ(before.size(), s.map->len());
  s.map.map.reset(); // gives back the chains that waited for readers
  EXPECT_EQ(s.map.live_blocks(), blocks);
  s.map.blocks.reset();
  // Every entry must be on the medium.
  const opened_map again(*s.m, s.layout);
  EXPECT_EQ(again.recovered.notes, std::vector<std::string>{});
  EXPECT_EQ(contents(again, blocks), before);
  EXPECT_EQ(again.live_blocks(), blocks);
}

TEST(DurableMapStress, ReadersSeeWholeValuesAndMissNoKeyThatStays) {
  readers_and_writers(false);
}
TEST(DurableMapStress, ReadersSeeWholeValuesAndMissNoKeyThatStaysWhileTheIndexGrows) {
  readers_and_writers(true);
}

/// Two writers change the same two keys in opposite order, each in a batch.
TEST(DurableMapStress, BatchesThatMeetDoNotDeadlock) {
  shared_map s;
  std::vector<std::byte> value(sizeof(head));
  for (unsigned k = 0; k < 2; ++k) {
    fill(value, k, 0);
    ASSERT_EQ(s.map->insert(s.name(k), value), map_status::done);
  }
  constexpr std::uint32_t each = 100'000;
  std::vector<std::thread> threads;
  for (unsigned w = 0; w < 2; ++w)
    threads.emplace_back([&s, w] {
      for (std::uint32_t i = 0; i < each; ++i) {
        durable_map::batch b(*s.map);
        for (unsigned k : {w, 1 - w})
          b.update_in_place(s.name(k), [&](std::span<std::byte> v) {
            fill(v, k, count_in(v, k).value_or(0) + 1);
          });
      }
    });
  for (auto& t : threads)
    t.join();
  for (unsigned k = 0; k < 2; ++k) {
    const auto v = s.map->get(s.name(k));
    ASSERT_TRUE(v);
    EXPECT_EQ(count_in(v->bytes, k), 2 * each) << "an update was lost";
  }
}

} // namespace
} // namespace chainring::test
