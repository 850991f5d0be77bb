// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cstdlib>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>
#include <string>

#include "topic/filter_index.h"
#include "topic/topic_table.h"
#include "support/seed.h"
#include "topic/topic.h"

namespace chainring {
namespace {

std::set<std::uint32_t> sessions_of(filter_index& index, std::string_view topic) {
  std::set<std::uint32_t> found;
  index.match(0, topic, [&](subscriber s) { found.insert(s.session); });
  return found;
}

TEST(FilterIndex, MatchesAsTheReferenceDoesThroughRandomChanges) {
  std::mt19937 random(static_cast<unsigned>(test::fresh_seed()));
  filter_index index(
      {.filters_max = 64, .subscriptions_max = 256, .levels_max = 128, .sessions_max = 8});
  std::map<std::pair<std::string, std::uint32_t>, std::uint8_t> model;
  const char* words[] = {"a", "b", "", "$SYS", "a level that is longer than a piece of text", "+"};
  auto draw = [&](bool filter) {
    std::string text;
    const unsigned levels = 1 + random() % 4;
    for (unsigned l = 0; l < levels; ++l) {
      if (l != 0) text += '/';
      if (filter && l + 1 == levels && random() % 4 == 0) return text + '#';
      text += words[random() % (filter ? 6 : 5)];
    }
    return text.empty() ? std::string("x") : text;
  };
  std::uint64_t matched = 0;
  for (int step = 0; step < 20'000; ++step) {
    const std::string filter = draw(true);
    const std::uint32_t session = random() % 8;
    if (random() % 2 == 0) {
      const auto added = index.add(filter, session, static_cast<std::uint8_t>(step));
      const bool known = model.count({filter, session}) != 0;
      if (added == filter_index::status::full) {
        EXPECT_FALSE(known);
        continue;
      }
      EXPECT_EQ(added, known ? filter_index::status::replaced : filter_index::status::added);
      model[{filter, session}] = static_cast<std::uint8_t>(step);
    } else {
      EXPECT_EQ(index.remove(filter, session), model.erase({filter, session}) != 0);
    }
    const std::string topic = draw(false);
    std::multiset<std::pair<std::uint32_t, int>> expected, found;
    for (const auto& [key, options] : model)
      if (topic_matches(key.first, topic)) expected.insert({key.second, options});
    index.match(0, topic, [&](subscriber s) { found.insert({s.session, s.options}); });
    ASSERT_EQ(found, expected) << topic << " after step " << step;
    matched += found.size();
    ASSERT_EQ(index.subscription_count(), model.size());
  }
  EXPECT_GT(matched, 10'000u);
  for (std::uint32_t s = 0; s < 8; ++s) {
    std::set<std::string> left;
    index.remove_all(s, [&](std::string_view f) { left.insert(std::string(f)); });
    for (const auto& [key, options] : model)
      if (key.second == s) {
        EXPECT_EQ(left.count(key.first), 1u);
      }
  }
  EXPECT_EQ(index.subscription_count(), 0u);
  EXPECT_EQ(index.filter_count(), 0u);
}

TEST(FilterIndex, GivesEveryMatchOfATopicThatMatchesMoreFiltersThanAPage) {
  filter_index index(
      {.filters_max = 512, .subscriptions_max = 512, .levels_max = 4096, .sessions_max = 512});
  // a/b/c/d/e/f/g/h matches each choice of + for its 8 levels: 256 filters.
  for (std::uint32_t mask = 0; mask < 256; ++mask) {
    std::string filter;
    for (int l = 0; l < 8; ++l) {
      if (l != 0) filter += '/';
      filter += (mask >> l & 1) != 0 ? "+" : std::string(1, static_cast<char>('a' + l));
    }
    ASSERT_EQ(index.add(filter, mask, 1), filter_index::status::added);
  }
  EXPECT_EQ(sessions_of(index, "a/b/c/d/e/f/g/h").size(), 256u);
}

TEST(FilterIndex, RefusesFiltersThatAreTooDeep) {
  filter_index index(
      {.filters_max = 4, .subscriptions_max = 4, .levels_max = 1024, .sessions_max = 4});
  std::string deep = "+";
  for (int i = 0; i < 255; ++i)
    deep += "/a";
  EXPECT_EQ(index.add(deep, 1, 1), filter_index::status::too_deep);
  EXPECT_TRUE(sessions_of(index, deep.replace(0, 1, "a")).empty());
}

TEST(TopicTable, GivesIdsFromOneInEachSessionAndForgetsThem) {
  topic_table topics(16, 8, 16);
  std::uint32_t first = topic_table::none, second = topic_table::none;
  const std::uint32_t a = topics.intern("a"), b = topics.intern("b");
  EXPECT_EQ(topics.intern("a"), a);
  EXPECT_EQ(topics.at(topics.register_topic(1, first, a)).id, 1);
  EXPECT_EQ(topics.at(topics.register_topic(1, first, b)).id, 2);
  EXPECT_EQ(topics.at(topics.register_topic(1, first, a)).id, 1);
  EXPECT_EQ(topics.at(topics.register_topic(2, second, b)).id, 1);
  EXPECT_EQ(topics.at(topics.find_by_id(1, 2)).topic, b);
  EXPECT_EQ(topics.find_by_id(2, 2), topic_table::none);
  topics.forget_all(first);
  EXPECT_EQ(topics.find_by_id(1, 1), topic_table::none);
  EXPECT_NE(topics.find_by_id(2, 1), topic_table::none);
  EXPECT_EQ(topics.registration_count(), 1u);
}

TEST(TopicTable, ReusesOnlyNamesThatNothingHolds) {
  topic_table topics(4, 8, 16);
  std::uint32_t list = topic_table::none;
  const std::uint32_t kept = topics.intern("kept");
  (void)topics.register_topic(1, list, kept);
  for (int i = 0; i < 100; ++i)
    ASSERT_NE(topics.intern("passing" + std::to_string(i)), topic_table::none);
  EXPECT_EQ(topics.name(kept), "kept");
  EXPECT_EQ(topics.intern("kept"), kept);
}

TEST(TopicTable, SeesEachSubscriptionChangeAndCountsASessionOnce) {
  topic_table topics(16, 8, 64);
  filter_index index(
      {.filters_max = 16, .subscriptions_max = 16, .levels_max = 16, .sessions_max = 16});
  const std::uint32_t t = topics.intern("a/b");
  EXPECT_TRUE(topics.subscribers(t, index, 0).empty());
  index.add("a/b", 3, 0);
  index.add("a/+", 3, 1);
  index.add("#", 4, 0);
  auto found = topics.subscribers(t, index, 0);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0], (subscriber{3, 1})); // the highest QoS
  EXPECT_EQ(found[1], (subscriber{4, 0}));
  index.remove("a/+", 3);
  EXPECT_EQ(topics.subscribers(t, index, 0)[0], (subscriber{3, 0}));
}

} // namespace
} // namespace chainring
