// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <string>

#include "mqttsn/registrations.h"
#include "support/link_counter.h"
#include "support/seed.h"
#include "topic/topic_names.h"

namespace chainring::mqttsn {
namespace {

constexpr std::uint32_t none = registrations::none;

TEST(Registrations, EachSessionGetsIdsFromOneOnAndForgetsThem) {
  topic_names names({.topics_max = 16, .fan_out_max = 16});
  registrations known(names, {.entries_max = 8});
  std::uint32_t first = none, second = none;
  const std::uint32_t a = names.intern("a"), b = names.intern("b");
  EXPECT_EQ(known.at(known.add(1, first, a)).id, 1);
  EXPECT_EQ(known.at(known.add(1, first, b)).id, 2);
  EXPECT_EQ(known.at(known.add(1, first, a)).id, 1);
  EXPECT_EQ(known.at(known.add(2, second, b)).id, 1);
  EXPECT_EQ(known.at(known.find_by_id(1, 2)).topic, b);
  EXPECT_EQ(known.find_by_topic(1, b), known.find_by_id(1, 2));
  EXPECT_EQ(known.find_by_id(2, 2), none);
  EXPECT_EQ(known.count_of(first), 2u);
  known.forget_all(first);
  EXPECT_EQ(first, none);
  EXPECT_EQ(known.find_by_id(1, 1), none);
  EXPECT_NE(known.find_by_id(2, 1), none);
  EXPECT_EQ(known.count(), 1u);
  EXPECT_EQ(names.held_count(), 1u);
}

TEST(Registrations, GiveOutNoIdBelowTheFirstEvenWhenTheIdsHaveGoneRound) {
  constexpr std::uint32_t per_session = 1024;
  constexpr std::uint16_t first_id = registrations::first_id_max(per_session);
  topic_names names({.topics_max = 16, .fan_out_max = 16});
  registrations known(names,
                      {.entries_max = 8, .per_session_max = per_session, .first_id = first_id});
  std::uint32_t list = none;
  const std::uint32_t topic = names.intern("a"), kept = names.intern("b");
  EXPECT_EQ(known.at(known.add(1, list, kept)).id, first_id);
  for (unsigned i = 0; i < 70'000; ++i) {
    const std::uint32_t r = known.add(1, list, topic);
    EXPECT_GT(known.at(r).id, first_id) << "the id of the other topic is taken";
    EXPECT_LE(known.at(r).id, registrations::id_max);
    known.forget(r);
  }
}

TEST(Registrations, AForgottenIdIsNotGivenToTheNextTopic) {
  topic_names names({.topics_max = 16, .fan_out_max = 16});
  registrations known(names, {.entries_max = 8});
  std::uint32_t list = none;
  known.forget(known.add(1, list, names.intern("a")));
  EXPECT_EQ(known.count(), 0u);
  EXPECT_EQ(names.held_count(), 0u);
  EXPECT_EQ(known.at(known.add(1, list, names.intern("b"))).id, 2);
}

TEST(Registrations, OneClientWith65530RegistersTakesNoTopicsFromOthersAndSlowsNoneDown) {
  topic_names names({.topics_max = 65536, .fan_out_max = 16, .seed = test::printed_seed(1)});
  registrations known(names, {.entries_max = 131072, .seed = 1});
  std::uint32_t greedy = none, modest = none;
  std::uint32_t taken = 0;
  for (std::uint32_t i = 0; i < 65530; ++i)
    taken += known.add(1, greedy, names.intern("greedy" + std::to_string(i))) != none;
  EXPECT_EQ(taken, 1024u);
  EXPECT_EQ(known.last_refusal(), registrations::refusal::session_limit);
  EXPECT_EQ(known.count_of(greedy), 1024u);

  const test::link_counter links;
  std::uint64_t most = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::uint64_t before = links.count();
    const std::uint32_t topic = names.intern("modest" + std::to_string(i));
    ASSERT_NE(topic, none);
    ASSERT_NE(known.add(2, modest, topic), none);
    most = std::max(most, links.count() - before);
  }
  EXPECT_LT(most, 60u);
}

TEST(Registrations, AFreeIdIsFoundInAFewStepsAfterTheIdsHaveGoneRound) {
  topic_names names({.topics_max = 4096, .fan_out_max = 16, .seed = 1});
  registrations known(names, {.entries_max = 4096, .seed = test::printed_seed(1)});
  std::uint32_t list = none;
  // 1,000 ids in a row stay in use, and later ids run into them again and again.
  for (std::uint32_t i = 0; i < 1000; ++i)
    ASSERT_NE(known.add(1, list, names.intern("kept" + std::to_string(i))), none);
  const test::link_counter links;
  std::uint64_t most = 0;
  for (std::uint32_t i = 0; i < 200'000; ++i) {
    const std::uint64_t before = links.count();
    const std::uint32_t r = known.add(1, list, names.intern("passing"));
    ASSERT_NE(r, none);
    const std::uint16_t id = known.at(r).id;
    ASSERT_TRUE(id > 1000 && id < 0xffff) << id;
    known.forget(r);
    most = std::max(most, links.count() - before);
  }
  EXPECT_LT(most, 60u);
}

TEST(Registrations, ARefusalSaysWhetherTheTableOrTheSessionIsFull) {
  topic_names names({.topics_max = 16, .fan_out_max = 16});
  registrations known(names, {.entries_max = 3, .per_session_max = 2});
  std::uint32_t first = none, second = none;
  const std::uint32_t a = names.intern("a"), b = names.intern("b"), c = names.intern("c");
  EXPECT_NE(known.add(1, first, a), none);
  EXPECT_NE(known.add(1, first, b), none);
  EXPECT_EQ(known.add(1, first, c), none);
  EXPECT_EQ(known.last_refusal(), registrations::refusal::session_limit);
  EXPECT_NE(known.add(2, second, a), none);
  EXPECT_EQ(known.add(2, second, b), none);
  EXPECT_EQ(known.last_refusal(), registrations::refusal::table_full);
  EXPECT_NE(known.add(2, second, a), none); // this topic is registered already
  EXPECT_THROW(registrations(names, {.per_session_max = 40'000}), std::invalid_argument);
}

TEST(Registrations, EachOfTheTwoListsOfASessionHasItsOwnRoomAndOldestEntry) {
  topic_names names({.topics_max = 16, .fan_out_max = 16});
  registrations known(names, {.entries_max = 8, .per_session_max = 2});
  std::uint32_t asked = none, offered = none;
  EXPECT_EQ(known.oldest(offered), none);
  const std::uint32_t a = known.add(1, offered, names.intern("a"));
  const std::uint32_t b = known.add(1, offered, names.intern("b"));
  EXPECT_EQ(known.add(1, offered, names.intern("c")), none);
  const std::uint32_t c = known.add(1, asked, names.intern("c"));
  ASSERT_NE(c, none) << "the other list must have room";
  EXPECT_EQ(known.oldest(offered), a);
  EXPECT_EQ(known.add(1, asked, names.intern("a")), a)
      << "the topic is registered in the other list";
  known.move(asked, a);
  EXPECT_EQ(known.oldest(offered), b);
  EXPECT_EQ(known.oldest(asked), c);
  known.move(asked, b); // there is no room, so the registration stays in its list
  EXPECT_EQ(known.count_of(asked), 2u);
  EXPECT_EQ(known.oldest(offered), b);
  known.forget(c);
  EXPECT_EQ(known.oldest(asked), a);
  known.forget(b);
  EXPECT_EQ(known.oldest(offered), none);
  known.forget_all(asked);
  known.forget_all(offered);
  EXPECT_EQ(known.count(), 0u);
  EXPECT_EQ(names.held_count(), 0u);
}

TEST(Registrations, RandomUseGivesTheResultsOfAModel) {
  std::mt19937 random(static_cast<unsigned>(test::fresh_seed()));
  topic_names names({.topics_max = 64, .fan_out_max = 16});
  registrations known(names, {.entries_max = 60, .per_session_max = 20});
  constexpr std::uint32_t sessions = 6;
  std::uint32_t lists[sessions];
  std::fill_n(lists, sessions, none);
  std::map<std::uint32_t, std::map<std::string, std::uint16_t>> model;
  std::size_t total = 0;
  for (int step = 0; step < 30'000; ++step) {
    const std::uint32_t s = random() % sessions;
    auto& mine = model[s];
    const std::string name = "t" + std::to_string(random() % 40);
    const auto at = mine.find(name);
    const std::uint32_t topic = names.intern(name);
    ASSERT_NE(topic, none);
    if (random() % 3 != 0) {
      const std::uint32_t r = known.add(s, lists[s], topic);
      if (at != mine.end()) {
        ASSERT_EQ(known.at(r).id, at->second);
      } else if (mine.size() == 20 || total == 60) {
        ASSERT_EQ(r, none);
      } else {
        ASSERT_NE(r, none);
        for (const auto& [other, id] : mine)
          ASSERT_NE(id, known.at(r).id) << other;
        mine[name] = known.at(r).id;
        ++total;
      }
    } else if (random() % 50 == 0) {
      known.forget_all(lists[s]);
      total -= mine.size();
      mine.clear();
    } else if (at != mine.end()) {
      known.forget(known.find_by_topic(s, topic));
      mine.erase(at);
      --total;
    }
    ASSERT_EQ(known.count(), total);
    ASSERT_EQ(known.count_of(lists[s]), mine.size());
    for (const auto& [held, id] : mine)
      ASSERT_EQ(names.name(known.at(known.find_by_id(s, id)).topic), held);
  }
}

} // namespace
} // namespace chainring::mqttsn
