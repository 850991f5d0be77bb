// SPDX-License-Identifier: BSD-3-Clause
/// The cells of a durable map: damage of one bit, the longest keys, the owner's words, and segments
/// that are added while the map is used.
#include <atomic>
#include <gtest/gtest.h>
#include <thread>

#include "map_fixture.h"
#include "region/recovery.h"

namespace chainring::test {
namespace {

TEST(MapCells, EveryFlippedBitOfAUsedCellOutsideItsIdleHalfIsFound) {
  const struct {
    const char* what;
    std::string key, value;
    bool updated; ///< true: half 1 counts
  } cases[] = {
      {"short", "key", "value", false},
      {"as long as a cell holds", std::string(24, 'k'), std::string(16, 'v'), false},
      {"no value", "key", "", true},
      {"long key", std::string(30, 'k'), "v", true},
      {"long value", "key", std::string(100, 'v'), true},
  };
  for (const auto& each : cases) {
    SCOPED_TRACE(each.what);
    auto memory = memory_media(1 << 16, durability_class::process);
    opened_map m(*memory, {});
    ASSERT_EQ(m->insert(bytes_of(each.key), bytes_of("before")), map_status::done);
    if (!each.updated) {
      ASSERT_EQ(m->update(bytes_of(each.key), bytes_of("between")), map_status::done);
    }
    ASSERT_EQ(m->update(bytes_of(each.key), bytes_of(each.value)), map_status::done);
    auto* words = reinterpret_cast<std::uint64_t*>(m.cell(0));
    const std::size_t idle = each.updated ? 4 : 6;
    ASSERT_EQ(map_word0::unpack(words[0]).half, each.updated ? 1 : 0);
    for (std::size_t bit = 0; bit < 512; ++bit) {
      const std::size_t word = bit / 64;
      words[word] ^= std::uint64_t{1} << bit % 64;
      EXPECT_EQ(m->check().damaged, word / 2 == idle / 2 ? 0u : 1u) << "bit " << bit;
      words[word] ^= std::uint64_t{1} << bit % 64;
    }
    EXPECT_EQ(m->check().damaged, 0u);
  }
}

TEST(MapCells, AFlippedBitInWord0OfAFreeCellIsFound) {
  auto memory = memory_media(1 << 16, durability_class::process);
  opened_map m(*memory, {});
  m->insert(bytes_of("key"), bytes_of("value"));
  m->erase(bytes_of("key"));
  EXPECT_EQ(m.cell(0)->state, 0u);
  for (std::size_t bit = 0; bit < 64; ++bit) {
    m.cell(0)->state ^= std::uint64_t{1} << bit;
    EXPECT_EQ(m->check().damaged, 1u) << "bit " << bit;
    m.cell(0)->state ^= std::uint64_t{1} << bit;
  }
}

TEST(MapCells, ACellCopiedToThePlaceOfAnotherIsDamage) {
  auto memory = memory_media(1 << 16, durability_class::process);
  opened_map m(*memory, {});
  m->insert(bytes_of("key"), bytes_of("value"));
  *m.cell(4) = *m.cell(0);
  const map_recovery found = m->check();
  ASSERT_EQ(found.damaged, 1u);
  EXPECT_EQ(found.notes[0], "map cell 4: its check does not match its contents");
}

TEST(MapCells, KeysOfUpTo131071BytesAndLongValuesComeBack) {
  const map_layout layout{.blocks = 16384};
  auto memory = memory_media(layout.size(), durability_class::process);
  std::vector<std::pair<std::string, std::string>> all;
  for (std::size_t n : {25u, 4096u, 65'535u, 65'535u + 64u, 131'071u}) {
    std::string key(n, 'k');
    key.back() = static_cast<char>('a' + all.size());
    all.emplace_back(key, std::string(n % 7 == 0 ? 65'536 : 65'537 + n % 100, 'v'));
  }
  {
    opened_map m(*memory, layout);
    for (const auto& [key, value] : all) {
      map_change c;
      ASSERT_EQ(m->upsert_start(bytes_of(key), bytes_of(value), c), map_status::done);
      m->change_flush(c);
      memory->drain();
      m->change_finish(c);
    }
  }
  opened_map m(*memory, layout);
  EXPECT_EQ(m.recovered.notes, std::vector<std::string>{});
  std::vector<std::byte> value(1 << 17);
  for (const auto& [key, expected] : all) {
    std::size_t size = 0;
    ASSERT_EQ(m->get(bytes_of(key), value, size), map_status::done);
    EXPECT_EQ(std::string(reinterpret_cast<char*>(value.data()), size), expected);
    EXPECT_EQ(m->erase(bytes_of(key)), map_status::done);
  }
  EXPECT_EQ(m.live_blocks(), 0u);
  EXPECT_EQ(m->insert(bytes_of(std::string(map_key_max + 1, 'x')), {}), map_status::too_long);
}

TEST(MapCells, OwnersWordsChangeInPlaceAndTheCellStaysValid) {
  auto memory = memory_media(1 << 16, durability_class::process);
  {
    opened_map m(*memory, {});
    m->insert(bytes_of("topic"), bytes_of(std::string(16, '\0')));
    map_word0 w = map_word0::unpack(m.cell(0)->state);
    w.owners_words = true;
    m.cell(0)->state = w.pack();
    m.seal(0);
    m.cell(0)->value[0][0] = 0x1111'2222'3333'4444; // only the candidate changes
    EXPECT_EQ(m->check().damaged, 0u);
    m.cell(0)->key[0] ^= 1;
    EXPECT_EQ(m->check().damaged, 1u) << "the check covers the key as in every cell";
    m.cell(0)->key[0] ^= 1;
  }
  opened_map m(*memory, {});
  EXPECT_EQ(m.recovered.entries, 1u);
  const auto value = m->get(bytes_of("topic"));
  ASSERT_TRUE(value);
  EXPECT_EQ(value->size, 16u);
  EXPECT_EQ(static_cast<unsigned>(value->bytes[0]), 0x44u);
  // An update through the map makes the cell an ordinary one.
  EXPECT_EQ(m->update(bytes_of("topic"), bytes_of("plain")), map_status::done);
  EXPECT_EQ(m->check().damaged, 0u);
  EXPECT_EQ(m.text("topic"), "plain");
}

// --- segments -----------------------------------------------------------------------------------

/// A range of 64 cells. The segments take parts of it, and not in the order of their offsets.
const map_layout pieces{.cells = 64, .first = 1, .segments = {{1024, 4}}, .cells_max = 64};

std::uint64_t insert_until_full(durable_map& map, std::uint64_t from) {
  while (map.insert(bytes_of(from), bytes_of(from * 3)) == map_status::done)
    ++from;
  return from;
}

TEST(MapSegments, AddedCellsTakeKeysAndKeepThemOverAReopen) {
  auto memory = memory_media(pieces.size(), durability_class::process);
  {
    opened_map m(*memory, pieces);
    std::uint64_t keys = insert_until_full(*m, 0);
    EXPECT_EQ(keys, 4u);
    ASSERT_TRUE(m->add_segment(0, 16));
    keys = insert_until_full(*m, keys);
    EXPECT_EQ(keys, 20u);
    ASSERT_TRUE(m->add_segment(2048, 1));
    keys = insert_until_full(*m, keys);
    EXPECT_EQ(keys, 21u);
    EXPECT_EQ(m->capacity(), 21u);
    EXPECT_EQ(m->erase(bytes_of(std::uint64_t{2})), map_status::done);
    EXPECT_EQ(m->erase(bytes_of(std::uint64_t{17})), map_status::done);
    EXPECT_EQ(m->insert(bytes_of(std::uint64_t{100}), {}), map_status::done);
    EXPECT_EQ(m->insert(bytes_of(std::uint64_t{101}), {}), map_status::done);
    EXPECT_EQ(m->insert(bytes_of(std::uint64_t{102}), {}), map_status::full);
  }
  map_layout grown = pieces;
  grown.segments = {{1024, 4}, {0, 16}, {2048, 1}};
  opened_map m(*memory, grown);
  EXPECT_EQ(m.recovered.notes, std::vector<std::string>{});
  EXPECT_EQ(m.recovered.entries, 21u);
  for (std::uint64_t k = 0; k < 21; ++k)
    EXPECT_EQ(m->contains(bytes_of(k)), k != 2 && k != 17) << k;
}

TEST(MapSegments, SegmentsGivenInAnotherOrderHaveDamagedCells) {
  auto memory = memory_media(pieces.size(), durability_class::process);
  map_layout two = pieces;
  two.segments = {{1024, 4}, {0, 4}};
  {
    opened_map m(*memory, two);
    EXPECT_EQ(insert_until_full(*m, 0), 8u);
  }
  std::swap(two.segments[0], two.segments[1]);
  auto blocks = block_store::create(*memory, two.blocks_offset(), two.block_size, two.blocks);
  ASSERT_TRUE(blocks);
  auto map = durable_map::create(*memory, two.segments, **blocks);
  ASSERT_TRUE(map);
  EXPECT_EQ((*map)->check().damaged, 8u);
}

TEST(MapSegments, AnInvalidSegmentIsRefusedAndChangesNothing) {
  auto memory = memory_media(pieces.size(), durability_class::process);
  opened_map m(*memory, pieces);
  const auto refused = [&](std::uint64_t offset, std::uint64_t cells, std::string_view because) {
    const auto added = m->add_segment(offset, cells);
    ASSERT_FALSE(added);
    EXPECT_NE(added.error().message.find(because), std::string::npos) << added.error().message;
  };
  refused(0, 0, "expected at least one cell");
  refused(32, 1, "a multiple of 64");
  refused(1 << 20, 1, "inside the region");
  refused(1024 + 128, 1, "overlaps");
  refused(0, 17, "overlaps");
  refused(2048, 61, "cells_max");
  reinterpret_cast<std::uint64_t*>(memory->base())[8] = 5;
  refused(0, 4, "cell 1 of it is not zero");
  EXPECT_EQ(m->capacity(), 4u);
}

TEST(MapSegments, AMapHasAtMostSixteenSegments) {
  auto memory = memory_media(pieces.size(), durability_class::process);
  opened_map m(*memory, pieces);
  for (std::uint64_t i = 1; i < map_segments_max; ++i)
    ASSERT_TRUE(m->add_segment(64 * i, 1)) << i;
  const auto added = m->add_segment(2048, 1);
  ASSERT_FALSE(added);
  EXPECT_NE(added.error().message.find("16 segments, the most a map can have"), std::string::npos);
  EXPECT_EQ(insert_until_full(*m, 0), 4u + 15u);
}

TEST(MapSegments, ReadersAndWritersGoOnWhileCellsAreAdded) {
  constexpr std::uint64_t segment_cells = 512, writers = 2;
  map_layout layout{.cells = segment_cells * map_segments_max, .first = 16};
  layout.segments = {{0, segment_cells}};
  layout.cells_max = layout.cells;
  auto memory = memory_media(layout.size(), durability_class::emulated);
  opened_map m(*memory, layout);
  std::array<std::atomic<std::uint64_t>, writers> inserted{};
  std::atomic<unsigned> working{writers};
  std::atomic<std::uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (std::uint64_t w = 0; w < writers; ++w)
    threads.emplace_back([&, w] {
      const std::uint64_t mine = layout.cells / writers;
      for (std::uint64_t i = 0; i < mine;) {
        const std::uint64_t key = i * writers + w;
        map_change c;
        map_status status = map_status::done;
        if (i % 2 == 0) {
          status = m->insert(bytes_of(key), bytes_of(key * 3));
        } else if ((status = m->upsert_start(bytes_of(key), bytes_of(key * 3), c)) ==
                   map_status::done) {
          m->change_flush(c);
          memory->drain();
          m->change_finish(c);
        }
        if (status == map_status::done)
          inserted[w] = ++i;
        else if (status == map_status::full || status == map_status::busy)
          std::this_thread::yield();
        else
          ++wrong;
      }
      --working;
    });
  threads.emplace_back([&] {
    while (working != 0)
      for (std::uint64_t w = 0; w < writers; ++w)
        for (std::uint64_t i = 0, n = inserted[w]; i < n; i += 1 + n / 64) {
          const std::uint64_t key = i * writers + w;
          std::uint64_t value = 0;
          if (const auto there = m->get(bytes_of(key)))
            std::memcpy(&value, there->bytes.data(), sizeof value);
          wrong += value != key * 3;
        }
  });
  for (std::uint64_t s = 1; s < map_segments_max; ++s) {
    while (m->len() < s * segment_cells)
      std::this_thread::yield();
    ASSERT_TRUE(m->add_segment(s * segment_cells * sizeof(map_cell), segment_cells));
  }
  for (std::thread& t : threads)
    t.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(m->len(), layout.cells);
}

// --- recovery part ------------------------------------------------------------------------------

TEST(MapPart, AnOpenRepairsAndACheckReportsTheSameAndStoresNothing) {
  const map_layout layout{};
  auto memory = memory_media(layout.size(), durability_class::process);
  {
    opened_map m(*memory, layout);
    m->insert(bytes_of("a"), bytes_of("1"));
    m->insert(bytes_of("b"), bytes_of("2"));
    m->insert(bytes_of("c"), bytes_of("3"));
    m.cell(0)->key[0] ^= 1;
  }
  auto blocks =
      block_store::create(*memory, layout.blocks_offset(), layout.block_size, layout.blocks);
  ASSERT_TRUE(blocks);
  auto map = durable_map::create(*memory, 0, layout.cells, **blocks);
  ASSERT_TRUE(map);
  map_recovery found;
  const auto not_c = [](auto key, auto) { return key[0] != std::byte{'c'}; };
  const std::vector<std::byte> before(memory->base(), memory->base() + layout.size());
  {
    recovery all;
    all.add((*map)->part("subscriptions", not_c, &found));
    const recovery_report report = all.check(*memory);
    EXPECT_EQ(report.damage, 1u);
    EXPECT_EQ(report.problems.at(0).text(),
              "subscriptions: map cell 0: its check does not match its contents");
    EXPECT_EQ(std::memcmp(before.data(), memory->base(), layout.size()), 0);
  }
  (*blocks)->begin_recovery();
  recovery all;
  all.add((*map)->part("subscriptions", not_c, &found));
  auto report = all.run(*memory);
  (*blocks)->finish_recovery();
  ASSERT_TRUE(report);
  EXPECT_EQ(report->damage, 1u);
  EXPECT_EQ(found.entries, 1u);
  EXPECT_EQ(found.voided, 1u);
  EXPECT_TRUE((*map)->contains(bytes_of("b")));
  EXPECT_EQ((*map)->len(), 1u);
}

} // namespace
} // namespace chainring::test
