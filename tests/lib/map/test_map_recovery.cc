// SPDX-License-Identifier: BSD-3-Clause
// What a recovery finds does not depend on how many threads help in it.
#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <random>

#include "base/bytes_of.h"
#include "crew.h"
#include "map/map_media.h"
#include "map_fixture.h"
#include "support/seed.h"

namespace chainring::test {
namespace {

const map_layout layout{.cells = 40'000, .blocks = 32'000};

/// A map of which some cells are damaged, some keys are there twice and some chains overlap.
std::unique_ptr<media> damaged_map(std::mt19937_64& random) {
  auto m = memory_media(layout.size(), durability_class::process);
  {
    const opened_map map(*m, layout);
    for (std::uint64_t n = 0; n < 36'000; ++n) {
      std::string key = "key " + std::to_string(n), value(n % 16, 'v');
      if (n % 9 == 0) key += std::string(random() % 60, 'k');
      if (n % 3 == 0) value = std::string(17 + random() % 100, 'v');
      const map_status s = map->insert(bytes_of(key), bytes_of(value));
      if (s != map_status::done) break;
      if (n % 13 == 0) {
        EXPECT_EQ(map->erase(bytes_of(key)), map_status::done);
      }
    }
    for (int n = 0; n < 3000; ++n) {
      const std::size_t from = random() % layout.cells, to = random() % layout.cells;
      map_cell& c = *map.cell(to);
      switch (random() % 4) {
      case 0: // a key twice, or a chain of two cells
        c = *map.cell(from);
        if (n % 2 == 0) reinterpret_cast<char*>(c.key)[0] ^= 1;
        if (map_word0::unpack(c.state).used) map.seal(to);
        break;
      case 1:
        reinterpret_cast<std::uint64_t*>(&c)[random() % 8] ^= std::uint64_t{1} << random() % 64;
        break;
      case 2: // a chain that may be anybody's, under a check that fits
        if (!map_word0::unpack(c.state).long_value()) break;
        c.value[map_word0::unpack(c.state).half][0] ^= random() % 8;
        map.seal(to);
        break;
      default: // bytes of chains
        m->base()[layout.blocks_offset() + random() % (layout.blocks * layout.block_size)] ^=
            std::byte{1};
      }
    }
  }
  return m;
}

/// Everything that can be seen of a map that was recovered by so many threads.
struct outcome {
  std::vector<std::byte> bytes;
  map_recovery found;
  std::map<std::string, std::string> entries;
  std::uint64_t live = 0;
  std::vector<std::string> asked; ///< keys for which the recovery asked, in order

  outcome(const media& of, unsigned threads) {
    auto m = memory_media(layout.size(), durability_class::process);
    std::memcpy(m->base(), of.base(), layout.size());
    const auto text = [](std::span<const std::byte> b) {
      return std::string(reinterpret_cast<const char*>(b.data()), b.size());
    };
    map_layout mine = layout;
    mine.recover_by = [&](media& on, block_store& blocks, durable_map& map, const map_filter&) {
      blocks.begin_recovery();
      map.persist_as_read();
      on.drain();
      auto r = map.recover(
          [&](std::span<const std::byte> key, std::span<const std::byte>) {
            asked.push_back(text(key));
            return key.back() != std::byte{'7'};
          },
          crew_of(threads));
      on.drain();
      blocks.finish_recovery();
      return r;
    };
    const opened_map map(*m, mine);
    found = map.recovered;
    live = map.live_blocks();
    map->for_each([&](std::span<const std::byte> key, std::span<const std::byte> value) {
      entries.emplace(text(key), text(value));
    });
    // Cells are given out in the order in which recovery found them free.
    for (int n = 0; n < 500; ++n)
      EXPECT_EQ(map->insert(bytes_of("new " + std::to_string(n)), bytes_of("x")), map_status::done);
    bytes.assign(m->base(), m->base() + layout.size());
  }
};

TEST(MapRecovery, SeveralThreadsFindTheSameAsOne) {
  std::mt19937_64 random(seed_from_environment(1));
  const auto m = damaged_map(random);
  const outcome one(*m, 1);
  EXPECT_GT(one.found.damaged, 500u);
  EXPECT_GT(one.found.voided, 500u);
  EXPECT_GT(one.found.entries, 20'000u);
  const auto said = [&](const char* words) {
    return std::ranges::any_of(
        one.found.notes, [&](const std::string& s) { return s.find(words) != std::string::npos; });
  };
  EXPECT_TRUE(said("another cell holds the same key"));
  EXPECT_TRUE(said("overlaps a chain that is in use"));
  for (const unsigned threads : {2u, 3u, 7u}) {
    const outcome several(*m, threads);
    EXPECT_EQ(several.found.entries, one.found.entries);
    EXPECT_EQ(several.found.damaged, one.found.damaged);
    EXPECT_EQ(several.found.voided, one.found.voided);
    EXPECT_EQ(several.found.notes, one.found.notes);
    EXPECT_EQ(several.live, one.live);
    EXPECT_TRUE(several.entries == one.entries);
    EXPECT_TRUE(several.asked == one.asked);
    EXPECT_TRUE(several.bytes == one.bytes);
  }
}

} // namespace
} // namespace chainring::test
