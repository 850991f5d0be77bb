// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "support/link_counter.h"
#include "support/seed.h"
#include "topic/filter_index.h"
#include "topic/name_arena.h"
#include "topic/topic_names.h"

namespace chainring {
namespace {

constexpr std::uint32_t none = topic_names::none;

TEST(TopicNames, GivesOneNumberANameAndKeepsTheNumberWhileItIsHeld) {
  topic_names names({.topics_max = 4, .fan_out_max = 16});
  const std::uint32_t kept = names.intern("kept");
  EXPECT_EQ(names.intern("kept"), kept);
  EXPECT_EQ(names.find("kept"), kept);
  EXPECT_EQ(names.find("unknown"), none);
  names.hold(kept);
  names.hold(kept);
  names.release(kept);
  for (int i = 0; i < 100; ++i)
    ASSERT_NE(names.intern("passing" + std::to_string(i)), none);
  EXPECT_EQ(names.name(kept), "kept");
  EXPECT_EQ(names.intern("kept"), kept);
  EXPECT_EQ(names.held_count(), 1u);
  names.release(kept);
  EXPECT_EQ(names.held_count(), 0u);
  for (int i = 0; i < 4; ++i)
    ASSERT_NE(names.intern("last" + std::to_string(i)), none);
  EXPECT_EQ(names.find("kept"), none);
}

TEST(TopicNames, ReusesTheNameThatWasUsedLongestAgo) {
  topic_names names({.topics_max = 3, .fan_out_max = 16});
  names.intern("a");
  names.intern("b");
  names.intern("c");
  names.intern("a"); // "a" is used again
  names.intern("d");
  EXPECT_EQ(names.find("b"), none);
  EXPECT_NE(names.find("a"), none);
  EXPECT_NE(names.find("c"), none);
  const std::uint32_t d = names.find("d");
  names.hold(d);
  names.release(d); // a release counts as a use
  names.intern("e");
  EXPECT_EQ(names.find("a"), none);
  EXPECT_EQ(names.reuse_count(), 2u);
}

TEST(TopicNames, RefusesOnlyWhenEveryNameIsHeld) {
  topic_names names({.topics_max = 2, .fan_out_max = 16});
  const std::uint32_t a = names.intern("a"), b = names.intern("b");
  names.hold(a);
  names.hold(b);
  EXPECT_EQ(names.intern("c"), none);
  EXPECT_EQ(names.intern("a"), a);
  names.release(b);
  EXPECT_NE(names.intern("c"), none);
  EXPECT_EQ(names.name(a), "a");
}

TEST(TopicNames, KeepsNamesOf65535OctetsInOnePieceAndRefusesLongerOnes) {
  topic_names names({.topics_max = 16, .fan_out_max = 16, .name_bytes_max = 3 * 65536});
  const std::string long_name(65535, 'x');
  std::vector<std::uint32_t> held;
  for (const char c : {'a', 'b', 'c'}) {
    const std::uint32_t t = names.intern(c + long_name.substr(1));
    ASSERT_NE(t, none);
    EXPECT_EQ(names.name(t), c + long_name.substr(1));
    held.push_back(t);
    names.hold(t);
  }
  EXPECT_EQ(names.intern(long_name + "x"), none);
  EXPECT_EQ(names.intern("short"), none); // the octets are used up; there are numbers left
  EXPECT_EQ(names.topic_count(), 3u);
  names.release(held[1]);
  const std::uint32_t s = names.intern("short");
  ASSERT_NE(s, none);
  EXPECT_EQ(names.intern(""), names.intern(""));
  EXPECT_EQ(names.name(held[0]), "a" + long_name.substr(1));
  EXPECT_EQ(names.name(names.find("short")), "short");
  EXPECT_NE(names.intern(long_name), none); // the short names are given up for the long one
  EXPECT_EQ(names.name_bytes(), 3 * 65536u);
}

TEST(TopicNames, FindsAndReusesNamesInAFewStepsHoweverManyAreHeld) {
  constexpr std::uint32_t topics = 65536;
  topic_names names({.topics_max = topics, .fan_out_max = 16, .seed = test::printed_seed(1)});
  for (std::uint32_t i = 0; i < topics - 1; ++i)
    names.hold(names.intern("held" + std::to_string(i)));
  const test::link_counter links;
  std::uint64_t most = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::uint64_t before = links.count();
    ASSERT_NE(names.intern("unknown" + std::to_string(i)), none);
    most = std::max(most, links.count() - before);
  }
  names.hold(names.intern("one more"));
  const std::uint64_t before = links.count();
  EXPECT_EQ(names.intern("no room"), none);
  most = std::max(most, links.count() - before);
  EXPECT_LT(most, 40u);
}

TEST(TopicNames, SpreadsNamesThatAClientMadeToShareAChecksum) {
  const std::vector<std::string> made = test::names_with_one_checksum(8192);
  for (const std::string& name : made)
    ASSERT_EQ(crc32c(0, name.data(), name.size()), crc32c(0, made[0].data(), made[0].size()));
  topic_names names({.topics_max = 16384, .fan_out_max = 16});
  const test::link_counter links;
  for (const std::string& name : made)
    names.intern(name);
  EXPECT_EQ(names.topic_count(), made.size());
  EXPECT_LT(links.count(), 10 * made.size());
}

TEST(TopicNames, SeesEachSubscriptionChangeAndCountsASessionOnceWithItsHighestQos) {
  topic_names names({.topics_max = 16, .fan_out_max = 16});
  filter_index index(
      {.filters_max = 16, .subscriptions_max = 16, .levels_max = 16, .sessions_max = 16});
  const std::uint32_t t = names.intern("a/b");
  EXPECT_TRUE(names.subscribers(t, index, 0).empty());
  index.add("a/b", 3, 0);
  index.add("a/+", 3, 0xabc1);
  index.add("#", 4, 0);
  auto found = names.subscribers(t, index, 0);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0], (subscriber{3, 0xabc1}));
  EXPECT_EQ(found[1], (subscriber{4, 0}));
  index.remove("a/+", 3);
  EXPECT_EQ(names.subscribers(t, index, 0)[0], (subscriber{3, 0}));
  index.add("a/b", 3, 2);
  EXPECT_EQ(names.subscribers(t, index, 0)[0], (subscriber{3, 2}));
}

TEST(TopicNames, KeepsItsMatchesWhileOthersSubscribeElsewhere) {
  topic_names names({.topics_max = 256, .fan_out_max = 16});
  filter_index index({.filters_max = 2048,
                      .subscriptions_max = 2048,
                      .levels_max = 2048,
                      .sessions_max = 16,
                      .seed = 1});
  index.add("site/7/temp", 1, 1);
  const std::uint32_t t = names.intern("site/7/temp");
  for (int i = 0; i < 500; ++i) {
    index.add("other/" + std::to_string(i), 2, 1);
    index.add("another/+/" + std::to_string(i), 2, 1);
    ASSERT_EQ(names.subscribers(t, index, 0).size(), 1u);
  }
  EXPECT_LT(names.match_count(), 5u); // the first match, and a few where hashes collide
  index.add("site/+/temp", 2, 1);
  EXPECT_EQ(names.subscribers(t, index, 0).size(), 2u);
}

TEST(TopicNames, GivesEverySessionOfAWideTopicThoughEachMatchesBySeveralFilters) {
  constexpr std::uint32_t sessions = 1000;
  topic_names names({.topics_max = 64, .fan_out_max = sessions});
  filter_index index({.filters_max = 16,
                      .subscriptions_max = 8 * sessions,
                      .levels_max = 64,
                      .sessions_max = sessions});
  const char* filters[] = {"a/b/c", "+/b/c", "a/+/c", "a/b/+", "a/#", "#"};
  for (std::uint32_t f = 0; f < 6; ++f)
    for (std::uint32_t s = 0; s < sessions; ++s)
      ASSERT_EQ(index.add(filters[f], s, s % 6 == f ? 2 : f % 2), filter_index::status::added);
  for (int i = 0; i < 20; ++i) { // more matches than are kept at a time
    const std::uint32_t t = names.intern(i == 0 ? "a/b/c" : "a/" + std::to_string(i) + "/c");
    const auto found = names.subscribers(t, index, 0);
    ASSERT_EQ(found.size(), sessions);
    for (std::uint32_t s = 0; s < sessions; ++s) {
      ASSERT_EQ(found[s].session, s);
      if (i == 0) {
        ASSERT_EQ(found[s].options, 2u);
      }
    }
  }
}

TEST(TopicNames, AgreesWithAModelThroughRandomUse) {
  std::mt19937 random(static_cast<unsigned>(test::fresh_seed()));
  topic_names names({.topics_max = 50, .fan_out_max = 16, .name_bytes_max = 3 * 65536});
  std::map<std::uint32_t, std::pair<std::string, unsigned>> held;
  for (int step = 0; step < 50'000; ++step) {
    const unsigned kind = random() % 3;
    std::string name = std::to_string(random() % 100);
    name.resize(random() % 8 == 0 ? 1 + random() % 65535 : name.size(), 'x');
    if (kind < 2) {
      const std::uint32_t t = names.intern(name);
      if (t == none) continue;
      ASSERT_EQ(names.name(t), name);
      if (kind == 1 && held.size() < 30) {
        names.hold(t);
        held.try_emplace(t, name, 0).first->second.second++;
      }
    } else if (!held.empty()) {
      auto at = std::next(held.begin(), random() % held.size());
      ASSERT_EQ(names.name(at->first), at->second.first);
      names.release(at->first);
      if (--at->second.second == 0) held.erase(at);
    }
    ASSERT_EQ(names.held_count(), held.size());
  }
  for (const auto& [t, what] : held)
    EXPECT_EQ(names.name(t), what.first);
}

TEST(TopicNames, SaysWhichOptionIsOutOfRange) {
  try {
    topic_names names({.topics_max = 0});
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "topic_names: topics_max is 0, expected 1 to 1073741824");
  }
}

TEST(NameArena, GivesBlocksThatDoNotOverlapAndJoinsThemAgain) {
  std::mt19937 random(static_cast<unsigned>(test::fresh_seed()));
  detail::name_arena arena;
  arena.make(200'000); // four blocks of 65,536
  std::map<std::uint32_t, std::pair<std::size_t, char>> blocks;
  for (int step = 0; step < 50'000; ++step) {
    if (random() % 2 == 0 || blocks.empty()) {
      const std::size_t length = random() % (1u << random() % 17);
      const std::uint32_t b = arena.allocate(length);
      if (b == detail::name_arena::none) continue;
      const char mark = static_cast<char>(random());
      ASSERT_TRUE(blocks.try_emplace(b, length, mark).second);
      std::fill_n(arena.at(b), length, mark);
    } else {
      const auto at = std::next(blocks.begin(), random() % blocks.size());
      const auto [length, mark] = at->second;
      ASSERT_TRUE(std::all_of(arena.at(at->first), arena.at(at->first) + length,
                              [m = mark](char c) { return c == m; }));
      arena.free(at->first, length);
      blocks.erase(at);
    }
  }
  for (const auto& [b, what] : blocks)
    arena.free(b, what.first);
  EXPECT_EQ(arena.bytes_used(), 0u);
  for (int i = 0; i < 4; ++i)
    EXPECT_NE(arena.allocate(65535), detail::name_arena::none);
  EXPECT_EQ(arena.allocate(1), detail::name_arena::none);
}

} // namespace
} // namespace chainring
