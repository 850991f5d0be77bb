// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "message/compactor.h"
#include "message_fixture.h"
#include "support/seed.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

/// A table whose messages are known by their ids, so that each can be compared whenever it is asked
/// for.
struct shop {
  std::unique_ptr<media> m;
  table_on_media t;
  struct item {
    message_ref ref;
    std::uint64_t id;
    message_fields f;
  };
  std::vector<item> items;
  std::uint64_t next_id = 1;

  explicit shop(const table_layout& l, bool caches = false)
      : m(memory_media(l.size(), durability_class::process)), t(*m, l, caches) {}

  /// Publishes messages of `bytes` bytes until there is no room.
  void fill(std::uint32_t bytes, std::size_t most = SIZE_MAX) {
    message msg;
    const auto f = fields(next_id, bytes, 0, 0);
    for (; most != 0; --most) {
      auto mine = f;
      mine.packet_id = static_cast<std::uint16_t>(next_id);
      if (!publish_message(t, next_id, mine, msg)) return;
      items.push_back({msg.ref, next_id++, mine});
    }
  }
  void drop(std::size_t i) {
    t->drop_reference(items[i].ref.index);
    items[i] = items.back();
    items.pop_back();
  }
  template <class Random> void drop_share(double share, Random& random) {
    std::shuffle(items.begin(), items.end(), random);
    for (auto n = static_cast<std::size_t>(static_cast<double>(items.size()) * share); n != 0; --n)
      drop(items.size() - 1);
  }
  [[nodiscard]] std::string first_difference() const {
    for (const item& i : items)
      if (auto d = differs(*t.table, i.ref, i.id, i.f); !d.empty())
        return "message " + std::to_string(i.id) + ": " + d;
    return "";
  }
  /// Views of all messages.
  [[nodiscard]] std::vector<message_view> viewed() const {
    std::vector<message_view> views(items.size());
    for (std::size_t i = 0; i < views.size(); ++i)
      EXPECT_EQ(t->view(items[i].ref, views[i]), message_status::ok);
    return views;
  }
  /// Chains of all messages, which are at least as many as there are messages.
  [[nodiscard]] std::uint64_t chains() const {
    std::uint64_t n = 0;
    for (const item& i : items) {
      const auto word1 = message_word1::unpack(t.descriptor(i.ref.index).extent);
      n += word1.list ? word1.count : 1;
    }
    return n;
  }
  /// Blocks that the bytes of the messages need.
  [[nodiscard]] double used_blocks() const {
    double n = 0;
    for (const item& i : items)
      n += static_cast<double>(t.store->blocks_for(i.f.size()));
    return n;
  }
  [[nodiscard]] double utilisation() const {
    return used_blocks() / static_cast<double>(t.store->block_count());
  }
};

/// A shop of which half the messages were dropped at random.
struct half_full : shop {
  explicit half_full(std::uint64_t seed) : shop({.descriptors = 256, .blocks = 256}) {
    fill(64);
    std::mt19937_64 random(seed_from_environment(seed));
    drop_share(0.5, random);
  }
};

/// Steps until the compactor is idle. Returns how many steps that took.
std::uint64_t run(message_compactor& c, compaction_budget budget = {}) {
  std::uint64_t steps = 0;
  while (c.step(budget) != compaction::idle)
    ++steps;
  return steps;
}

std::unique_ptr<message_compactor> make(const shop& s, compactor_options o = {}) {
  return message_compactor::create(*s.t.table, o).value();
}

TEST(Compactor, RefusesOptionsThatCannotBe) {
  const shop s({});
  const auto why = [&](compactor_options o) {
    auto c = message_compactor::create(*s.t.table, o);
    return c ? std::string() : c.error().message;
  };
  EXPECT_EQ(why({.segment_blocks = 15}), "segment_blocks 15: expected 16 to 1073741823");
  EXPECT_EQ(why({.victims = 65}), "victims 65: expected 1 to 64");
  EXPECT_EQ(why({.victims = 0}), "victims 0: expected 1 to 64");
  EXPECT_EQ(why({.reserve_blocks = 129}),
            "reserve_blocks 129: expected at most half of the store's 256");
  EXPECT_EQ(why({.ceiling_block = 256}), "ceiling_block 256: expected fewer than the store's 256");
  EXPECT_EQ(why({}), "");
}

TEST(Compactor, ATableHasOneAtATime) {
  const shop s({});
  auto first = message_compactor::create(*s.t.table);
  ASSERT_TRUE(first.ok());
  const auto second = message_compactor::create(*s.t.table);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, errc::busy);
  first.value().reset();
  EXPECT_TRUE(message_compactor::create(*s.t.table).ok());
}

TEST(Compactor, AFullStoreOfSplitMessagesComesToAnEndSoon) {
  std::mt19937_64 random(seed_from_environment(9));
  shop s({.descriptors = 4096, .blocks = 4096});
  s.fill(64);
  s.drop_share(0.5, random);
  s.fill(640); // in many chains each, until nothing is free
  const auto c = make(s, {.reserve_blocks = 1});
  EXPECT_LT(run(*c), 10'000u);
  EXPECT_EQ(s.first_difference(), "");
}

TEST(Compactor, AnEmptyStoreAndAFullOneHaveNothingToImprove) {
  shop s({.descriptors = 256, .blocks = 256});
  const auto c = make(s, {.segment_blocks = 16});
  run(*c);
  EXPECT_EQ(c->statistics().moved, 0u);
  s.fill(64);
  run(*c);
  EXPECT_EQ(c->statistics().moved, 0u);
  EXPECT_EQ(s.first_difference(), "");
}

TEST(Compactor, JoinsHolesAndKeepsEveryMessage) {
  std::mt19937_64 random(seed_from_environment(1));
  shop s({.descriptors = 4096, .blocks = 4096});
  const auto c = make(s);
  s.fill(64);
  s.drop_share(0.5, random);
  const auto before = s.t.store->statistics();
  ASSERT_LT(before.largest_run, 64u);
  run(*c);
  const auto after = s.t.store->statistics();
  EXPECT_EQ(after.live_blocks, before.live_blocks);
  EXPECT_LT(after.free_runs, before.free_runs / 20); // each of them the length of a segment or more
  EXPECT_EQ(s.first_difference(), "");
  EXPECT_TRUE(s.t.store->check().ok());
}

TEST(Compactor, RepeatsLeaveNothingBehind) {
  std::mt19937_64 random(seed_from_environment(2));
  shop s({.descriptors = 2048, .blocks = 2048}, true);
  const std::uint64_t free_before = s.t.store->statistics().free_blocks;
  for (int round = 0; round < 20; ++round) {
    const auto c = make(s);
    s.fill(static_cast<std::uint32_t>(64 * (1 + round % 5)));
    s.drop_share(0.7, random);
    run(*c, {.descriptors = 100, .blocks = 7});
    ASSERT_EQ(s.first_difference(), "");
  }
  s.drop_share(1, random);
  EXPECT_EQ(s.t.store->statistics().free_blocks, free_before);
  s.t.store->flush_caches();
  EXPECT_EQ(s.t.store->statistics().largest_run, free_before);
  EXPECT_TRUE(s.t.store->check().ok());
}

TEST(Compactor, LeavesPinnedMessagesWhereTheyAre) {
  half_full s(3);
  const auto words = [&] {
    std::vector<std::uint64_t> w;
    for (const auto& i : s.items)
      w.push_back(s.t.descriptor(i.ref.index).extent);
    return w;
  };
  for (const auto& i : s.items)
    ASSERT_TRUE(s.t->pin(i.ref.index));
  const auto before = words();
  const auto c = make(s, {.segment_blocks = 16});
  run(*c);
  EXPECT_EQ(words(), before);
  EXPECT_NE(c->statistics().pinned, 0u);
  for (const auto& i : s.items)
    s.t->unpin(i.ref.index);
  run(*c);
  EXPECT_NE(words(), before);
  EXPECT_EQ(s.first_difference(), "");
}

TEST(Compactor, AReaderKeepsTheOldPlaceUntilItIsDone) {
  half_full s(4);
  const auto c = make(s, {.segment_blocks = 16});
  const std::uint64_t free = s.t.store->statistics().free_blocks;
  std::vector<message_view> views;
  {
    const message_table::reading mine(*s.t.table);
    views = s.viewed();
    compaction now = compaction::working;
    while (now == compaction::working)
      now = c->step({});
    ASSERT_EQ(now, compaction::waiting);
    EXPECT_NE(c->statistics().moved, 0u);
    EXPECT_LT(s.t.store->statistics().free_blocks, free);
    // Whatever other threads now write into free blocks, these cursors show the messages.
    shop& writer = s;
    const std::size_t kept = writer.items.size();
    writer.fill(64);
    for (std::size_t i = 0; i < kept; ++i)
      EXPECT_TRUE(s.t->verify(views[i]));
  }
  run(*c);
  EXPECT_EQ(s.first_difference(), "");
}

TEST(Compactor, WithoutAGracePeriodAReaderSeesOtherBytes) {
  const seeded bug("compactor.grace_not_kept");
  half_full s(4);
  const auto c = make(s, {.segment_blocks = 16});
  const message_table::reading mine(*s.t.table);
  const std::vector<message_view> views = s.viewed();
  run(*c);
  s.fill(64);
  const bool all_whole = std::all_of(views.begin(), views.end(),
                                     [&](const message_view& v) { return s.t->verify(v); });
  expect_found("compactor.grace_not_kept", !all_whole, "other bytes at the old place");
}

TEST(Compactor, APinTakenInsideAReadingKeepsTheOldPlace) {
  half_full s(5);
  const auto c = make(s, {.segment_blocks = 16});
  std::vector<message_view> views;
  {
    const message_table::reading mine(*s.t.table);
    views = s.viewed();
    while (c->step({}) == compaction::working) {
    }
    for (const auto& i : s.items)
      ASSERT_TRUE(s.t->pin(i.ref.index)); // such as a device that was given the old bytes
  }
  run(*c);
  const std::size_t kept = s.items.size();
  s.fill(64);
  for (std::size_t i = 0; i < kept; ++i)
    EXPECT_TRUE(s.t->verify(views[i]));
  for (std::size_t i = 0; i < kept; ++i)
    s.t->unpin(s.items[i].ref.index);
  run(*c);
  EXPECT_EQ(s.first_difference(), "");
}

TEST(Compactor, AContentThatFailsItsChecksumIsNotMoved) {
  half_full s(6);
  for (const auto& i : s.items) {
    const auto word1 = message_word1::unpack(s.t.descriptor(i.ref.index).extent);
    *s.t.store->address({word1.first, word1.count}) ^= std::byte{1};
  }
  const auto c = make(s, {.segment_blocks = 16});
  const std::uint64_t free = s.t.store->statistics().free_blocks;
  run(*c);
  EXPECT_EQ(c->statistics().moved, 0u);
  EXPECT_NE(c->statistics().unsound, 0u);
  EXPECT_EQ(s.t.store->statistics().free_blocks, free);
}

TEST(Compactor, GivesWayToARequestThatWasRefused) {
  shop s({.descriptors = 512, .blocks = 512});
  s.fill(64);
  std::mt19937_64 random(seed_from_environment(7));
  s.drop_share(0.5, random);
  const auto c = make(s, {.segment_blocks = 64, .reserve_blocks = 1});
  while (c->statistics().moved == 0)
    ASSERT_EQ(c->step({.descriptors = 64, .blocks = 1}), compaction::working);
  s.fill(64); // until it is refused
  const std::size_t before = s.items.size();
  for (int i = 0; i < 1000 && c->statistics().gave_way == 0; ++i)
    (void)c->step({.descriptors = 1, .blocks = 1});
  EXPECT_EQ(c->statistics().gave_way, 1u);
  while (c->step({.descriptors = 1, .blocks = 1}) != compaction::idle) {
  }
  s.fill(64);
  EXPECT_GT(s.items.size(), before);
  EXPECT_EQ(s.first_difference(), "");
}

/// The blocks from `ceiling` on that are not free.
std::uint32_t used_above(const shop& s, std::uint32_t ceiling) {
  s.t.store->flush_caches();
  const auto rest = static_cast<std::uint32_t>(s.t.store->block_count()) - ceiling;
  return rest - s.t.store->room_inside(ceiling, rest).free;
}

TEST(Compactor, EmptiesTheEndOfTheStoreAndMovesNothingElse) {
  std::mt19937_64 random(seed_from_environment(10));
  shop s({.descriptors = 1024, .blocks = 1024}, true);
  s.fill(64);
  s.drop_share(0.6, random);
  constexpr std::uint32_t ceiling = 512;
  std::uint64_t above = 0;
  for (const auto& i : s.items)
    above += message_word1::unpack(s.t.descriptor(i.ref.index).extent).first >= ceiling;
  ASSERT_NE(used_above(s, ceiling), 0u);
  const std::uint64_t free = s.t.store->statistics().free_blocks;
  {
    const auto c = make(s, {.ceiling_block = ceiling});
    run(*c, {.descriptors = 64, .blocks = 16});
    EXPECT_EQ(c->statistics().moved, above);
    EXPECT_EQ(c->statistics().split, 0u);
  }
  EXPECT_EQ(used_above(s, ceiling), 0u);
  EXPECT_EQ(s.t.store->statistics().free_blocks, free);
  EXPECT_EQ(s.first_difference(), "");
  EXPECT_TRUE(s.t.store->check().ok());
}

TEST(Compactor, SplitsAMessageForWhichNoRunIsLongEnoughInFrontOfTheEnd) {
  for (const std::uint32_t bytes : {1280u, 6400u}) {
    std::mt19937_64 random(seed_from_environment(11));
    shop s({.descriptors = 1024, .blocks = 1024});
    s.fill(64, 704);
    const std::size_t small = s.items.size();
    s.fill(bytes, 16); // 20 or 100 blocks each, behind the small ones
    std::shuffle(s.items.begin(), s.items.begin() + static_cast<std::ptrdiff_t>(small), random);
    for (std::size_t i = 0; i < small / 2 + 100; ++i) {
      s.t->drop_reference(s.items[i].ref.index);
      s.items[i].id = 0;
    }
    std::erase_if(s.items, [](const auto& i) { return i.id == 0; });
    ASSERT_LT(s.t.store->room_inside(0, 704).longest, 20u);
    constexpr std::uint32_t ceiling = 704;
    {
      const auto c = make(s, {.ceiling_block = ceiling});
      run(*c);
      EXPECT_NE(c->statistics().split, 0u);
      EXPECT_EQ(c->statistics().moved, c->statistics().split);
      EXPECT_EQ(s.first_difference(), "");
    }
    if (bytes == 1280) {
      EXPECT_EQ(used_above(s, ceiling), 0u);
    }
    EXPECT_EQ(s.first_difference(), "");
    EXPECT_TRUE(s.t.store->check().ok());
    s.drop_share(1, random);
    EXPECT_EQ(s.t.store->statistics().live_blocks, 0u);
  }
}

TEST(Compactor, LeavesInTheEndWhatHasNoRoomInFrontOfIt) {
  shop s({.descriptors = 256, .blocks = 256});
  s.fill(64);
  std::size_t dropped = 0; // ten holes in front of the end
  for (std::size_t i = s.items.size(); i-- > 0 && dropped < 10;)
    if (message_word1::unpack(s.t.descriptor(s.items[i].ref.index).extent).first < 192) {
      s.drop(i);
      ++dropped;
    }
  const auto c = make(s, {.ceiling_block = 192});
  run(*c);
  EXPECT_EQ(c->statistics().moved, 10u);
  EXPECT_NE(c->statistics().no_room, 0u);
  EXPECT_EQ(used_above(s, 192), 64u - 10u);
  EXPECT_EQ(s.first_difference(), "");
}

TEST(Compactor, SplitsAMessageOfSeveralChainsAnew) {
  std::mt19937_64 random(seed_from_environment(12));
  shop s({.descriptors = 512, .blocks = 512});
  s.fill(64);
  s.drop_share(0.6, random);
  s.fill(640, 16); // in several chains each, some of them in the end
  constexpr std::uint32_t ceiling = 448;
  ASSERT_NE(used_above(s, ceiling), 0u);
  const auto c = make(s, {.ceiling_block = ceiling});
  run(*c, {.descriptors = 32, .blocks = 8});
  EXPECT_EQ(used_above(s, ceiling), 0u);
  EXPECT_NE(c->statistics().split, 0u);
  EXPECT_EQ(s.first_difference(), "");
  EXPECT_TRUE(s.t.store->check().ok());
}

/// Objects of one size, of which nine in ten are removed at random, and then objects of another
/// size.
struct workload {
  const char* name;
  std::uint32_t block_size, blocks, first, second;
};

class Fragmentation : public testing::TestWithParam<workload> {};

TEST_P(Fragmentation, NineTenthsOfTheStoreAreUsedInSingleChains) {
  const workload& w = GetParam();
  std::mt19937_64 random(seed_from_environment(8));
  shop s({.descriptors = w.blocks, .block_size = w.block_size, .blocks = w.blocks}, true);
  const auto c = make(s);
  s.fill(w.first);
  s.drop_share(0.9, random);
  const double share = 0.9 * static_cast<double>(s.t.store->block_count());
  const double each = static_cast<double>(s.t.store->blocks_for(w.second));
  s.fill(w.second, static_cast<std::size_t>((share - s.used_blocks()) / each) + 1);
  const double chains_before =
      static_cast<double>(s.chains()) / static_cast<double>(s.items.size());
  run(*c);
  const double chains_after = static_cast<double>(s.chains()) / static_cast<double>(s.items.size());
  const auto stats = c->statistics();
  std::printf("%s: chains a message %.2f before, %.2f after; %.1f %% of the store in use; %lu "
              "messages moved in %lu cycles\n",
              w.name, chains_before, chains_after, 100 * s.utilisation(), stats.moved,
              stats.cycles);
  EXPECT_GE(s.utilisation(), 0.9);
  EXPECT_EQ(chains_after, 1.0);
  EXPECT_EQ(s.first_difference(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, Fragmentation,
    testing::Values(workload{"60 to 70 bytes", 64, 16384, 60, 70},
                    workload{"1,000 to 1,024 bytes", 256, 16384, 1000, 1024},
                    workload{"1,000 to 1,030 bytes", 256, 16384, 1000, 1030},
                    workload{"1,024 to 10,240 bytes", 256, 16384, 1024, 10240},
                    workload{"10 K to 100 K bytes", 256, 65536, 10 << 10, 100 << 10},
                    workload{"500 K to 600 K bytes", 256, 131072, 500 << 10, 600 << 10}),
    [](const auto& i) {
      return std::string("From") + std::to_string(i.param.first) + "To" +
             std::to_string(i.param.second);
    });

} // namespace
} // namespace chainring::test
