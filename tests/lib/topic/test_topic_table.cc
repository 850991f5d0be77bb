// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <string>

#include "topic/filter_index.h"
#include "topic/topic_table.h"

namespace chainring {
namespace {

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
