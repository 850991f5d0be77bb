// SPDX-License-Identifier: BSD-3-Clause
/// Pairs that are found by either half, and the multimap and the bimap that are made of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>

#include "map/multimap.h"
#include "map_fixture.h"
#include "support/seam_counter.h"
#include "support/seed.h"

namespace chainring::test {
namespace {

/// Any number of orders under a customer, and clients with their topics.
using order_map = multimap<std::string, std::uint64_t>;
using topic_map = bimap<std::string, std::string>;

template <class T> std::vector<T> sorted(std::vector<T> v) {
  std::ranges::sort(v);
  return v;
}

class Pairs : public testing::Test {
 protected:
  map_layout layout{.cells = 4096, .blocks = 16384, .first = 8};
  std::unique_ptr<media> memory = memory_media(layout.size(), durability_class::process);
  std::unique_ptr<opened_map> m;
  std::unique_ptr<durable_pairs> pairs;

  Pairs() { open(); }
  ~Pairs() override { pairs.reset(); }
  void open() {
    pairs.reset();
    m.reset();
    m = std::make_unique<opened_map>(*memory, layout);
    pairs = durable_pairs::create(**m, true).value();
    pairs->rebuild();
  }
  /// Starts anew, with so many cells and blocks.
  void begin_with(std::uint64_t cells, std::uint64_t blocks) {
    layout.cells = cells;
    layout.blocks = blocks;
    layout.first = 0;
    pairs.reset();
    m.reset();
    memory = memory_media(layout.size(), durability_class::process);
    open();
  }
};

TEST_F(Pairs, ACallbackThatThrowsHoldsNothingUp) {
  order_map orders(*pairs);
  for (std::uint64_t order = 1; order <= 5; ++order)
    ASSERT_EQ(orders.insert("ada", order), map_status::done);
  const auto fail = [](auto...) { throw std::runtime_error("no"); };
  EXPECT_THROW(orders.for_each("ada", fail), std::runtime_error);
  EXPECT_THROW(pairs->for_each(fail), std::runtime_error);
  std::thread([&] { EXPECT_EQ(orders.erase("ada"), 5u); }).join();
  EXPECT_TRUE(orders.get("ada").empty());
}

TEST_F(Pairs, SeveralValuesOfAKeyAreAddedListedAndRemovedOneByOne) {
  order_map orders(*pairs);
  EXPECT_TRUE(orders.get("ada").empty());
  EXPECT_EQ(orders.insert("ada", 3), map_status::done);
  EXPECT_EQ(orders.insert("ada", 1), map_status::done);
  EXPECT_EQ(orders.insert("ada", 2), map_status::done);
  EXPECT_EQ(orders.insert("ada", 2), map_status::exists);
  EXPECT_EQ(orders.insert("bob", 2), map_status::done);
  EXPECT_EQ(sorted(orders.get("ada")), (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(orders.count("ada"), 3u);
  EXPECT_EQ(orders.erase("ada", 1), map_status::done);
  EXPECT_EQ(orders.erase("ada", 1), map_status::missing);
  EXPECT_EQ(sorted(orders.get("ada")), (std::vector<std::uint64_t>{2, 3}));
  EXPECT_TRUE(orders.contains("ada", 3));
  EXPECT_FALSE(orders.contains("ada", 1));
  EXPECT_TRUE(orders.contains("bob"));
  EXPECT_FALSE(orders.contains("eve"));
  EXPECT_EQ(orders.len(), 3u);
  EXPECT_EQ(orders.erase("ada"), 2u);
  EXPECT_EQ(orders.erase("ada"), 0u);
  EXPECT_EQ(orders.get("bob"), std::vector<std::uint64_t>{2});
  EXPECT_EQ(orders.len(), 1u);
}

TEST_F(Pairs, ARelationIsListedAndErasedFromBothSides) {
  topic_map topics(*pairs);
  for (const char* client : {"a", "b", "c"})
    EXPECT_EQ(topics.insert(client, "news"), map_status::done);
  EXPECT_EQ(topics.insert("a", "weather"), map_status::done);
  EXPECT_EQ(sorted(topics.get_first("news")), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(sorted(topics.get_second("a")), (std::vector<std::string>{"news", "weather"}));
  EXPECT_EQ(topics.count_first("a"), 2u);
  EXPECT_EQ(topics.count_second("news"), 3u);
  EXPECT_EQ(topics.erase_first("a"), 2u);
  EXPECT_EQ(sorted(topics.get_first("news")), (std::vector<std::string>{"b", "c"}));
  EXPECT_TRUE(topics.get_first("weather").empty());
  EXPECT_EQ(topics.erase_second("news"), 2u);
  EXPECT_EQ(topics.len(), 0u);
  EXPECT_EQ(pairs->records().len(), 0u);
}

TEST_F(Pairs, HalvesThatJoinToTheSameBytesAreDifferentPairs) {
  topic_map topics(*pairs);
  EXPECT_EQ(topics.insert("ab", "c"), map_status::done);
  EXPECT_EQ(topics.insert("a", "bc"), map_status::done);
  EXPECT_EQ(topics.insert("", "abc"), map_status::done);
  EXPECT_EQ(topics.insert("abc", ""), map_status::done);
  EXPECT_EQ(topics.insert("", ""), map_status::done);
  EXPECT_EQ(topics.len(), 5u);
  EXPECT_EQ(topics.get_second("ab"), std::vector<std::string>{"c"});
  EXPECT_EQ(topics.get_first("bc"), std::vector<std::string>{"a"});
  EXPECT_EQ(sorted(topics.get_second("")), (std::vector<std::string>{"", "abc"}));
  EXPECT_EQ(sorted(topics.get_first("")), (std::vector<std::string>{"", "abc"}));
}

TEST_F(Pairs, AnyChangesGiveWhatASetOfPairsGivesAlsoAfterAReopen) {
  std::mt19937_64 random(seed_from_environment(1));
  std::set<std::pair<std::string, std::string>> model;
  const auto text = [&](unsigned kinds) {
    const auto n = static_cast<unsigned>(random() % kinds);
    return std::string(n % 5 == 4 ? 60 + n % 50 : 1, '.') + std::to_string(n);
  };
  for (int life = 0; life < 3; ++life) {
    topic_map topics(*pairs);
    for (int change = 0; change < 6000; ++change) {
      // One client has most of the pairs, and one topic too.
      const std::string a = random() % 4 == 0 ? "hot" : text(60);
      const std::string b = random() % 4 == 0 ? "hot" : text(60);
      const bool there = model.contains({a, b});
      if (random() % 5 < 3) {
        EXPECT_EQ(topics.insert(a, b), there ? map_status::exists : map_status::done);
        model.insert({a, b});
      } else if (random() % 200 == 0) {
        EXPECT_EQ(topics.erase_second(b),
                  std::erase_if(model, [&](const auto& p) { return p.second == b; }));
      } else {
        EXPECT_EQ(topics.erase(a, b), there ? map_status::done : map_status::missing);
        model.erase({a, b});
      }
    }
    open();
    topic_map again(*pairs);
    std::map<std::string, std::vector<std::string>> by_first, by_second;
    for (const auto& [a, b] : model) {
      by_first[a].push_back(b);
      by_second[b].push_back(a);
      EXPECT_TRUE(again.contains(a, b));
    }
    for (const auto& [a, all] : by_first)
      EXPECT_EQ(sorted(again.get_second(a)), all);
    for (const auto& [b, all] : by_second)
      EXPECT_EQ(sorted(again.get_first(b)), all);
    std::set<std::pair<std::string, std::string>> walked;
    again.for_each([&](const std::string& a, const std::string& b) {
      EXPECT_TRUE(walked.insert({a, b}).second);
    });
    EXPECT_EQ(walked, model);
    EXPECT_EQ(again.len(), model.size());
    EXPECT_EQ(again.misfits(), 0u);
  }
}

TEST_F(Pairs, AChangeTakesOneFlushAndOneDrainAndABatchOneDrain) {
  set_fixed_seed(1); // which keys have one claim, so that a batch goes in two, depends on it
  begin_with(4096, 16384);
  set_fixed_seed(0);
  order_map orders(*pairs);
  seam_counter seam;
  memory->observe(&seam);
  EXPECT_EQ(orders.insert("ada", 1), map_status::done);
  EXPECT_EQ(seam.flushes, 1u);
  EXPECT_EQ(seam.drains, 1u);
  EXPECT_EQ(orders.erase("ada", 1), map_status::done);
  EXPECT_EQ(seam.flushes, 2u);
  EXPECT_EQ(seam.drains, 2u);
  {
    order_map::batch changes(orders);
    for (std::uint64_t order = 0; order < 20; ++order)
      EXPECT_EQ(changes.insert("customer " + std::to_string(order), order), map_status::done);
    EXPECT_EQ(orders.len(), 0u); // nobody sees them yet
  }
  EXPECT_EQ(seam.drains, 3u);
  EXPECT_EQ(orders.len(), 20u);
  const std::uint64_t before = seam.drains;
  EXPECT_EQ(orders.insert("ada", 1), map_status::done);
  EXPECT_EQ(orders.insert("ada", 1), map_status::exists);
  EXPECT_EQ(orders.erase("ada", 2), map_status::missing);
  EXPECT_EQ(seam.drains, before + 1); // what changes nothing drains nothing
  memory->observe(nullptr);
}

TEST_F(Pairs, ABatchOfAnyLengthAndWithAPairTwiceDoesAllOfIt) {
  order_map orders(*pairs);
  {
    order_map::batch changes(orders);
    for (std::uint64_t order = 0; order < 1000; ++order)
      EXPECT_EQ(changes.insert("ada", order), map_status::done);
    EXPECT_EQ(changes.insert("ada", 5), map_status::exists);
    EXPECT_EQ(changes.erase("ada", 5), map_status::done);
    EXPECT_EQ(changes.erase("ada", 5), map_status::missing);
    EXPECT_EQ(changes.insert("ada", 5), map_status::done);
  }
  EXPECT_EQ(orders.count("ada"), 1000u);
  EXPECT_EQ(orders.erase("ada"), 1000u);
  EXPECT_EQ(m->live_blocks(), 0u);
}

TEST_F(Pairs, FullAndTooLongAreAnsweredAndChangeNothing) {
  begin_with(4, 16);
  order_map orders(*pairs);
  for (std::uint64_t order = 0; order < 4; ++order)
    EXPECT_EQ(orders.insert("ada", order), map_status::done);
  EXPECT_EQ(orders.insert("ada", 4), map_status::full);
  {
    order_map::batch changes(orders); // its own erase makes the room
    EXPECT_EQ(changes.erase("ada", 0), map_status::done);
    EXPECT_EQ(changes.insert("ada", 4), map_status::done);
  }
  EXPECT_EQ(sorted(orders.get("ada")), (std::vector<std::uint64_t>{1, 2, 3, 4}));
  EXPECT_EQ(orders.erase("ada", 1), map_status::done);
  EXPECT_EQ(orders.insert(std::string(2000, 'x'), 1), map_status::full) << "there are 16 blocks";
  EXPECT_EQ(orders.insert(std::string(durable_pairs::bytes_max - 7, 'x'), 1), map_status::too_long);
  EXPECT_EQ(orders.erase(std::string(durable_pairs::bytes_max - 7, 'x'), 1), map_status::too_long);
  EXPECT_FALSE(orders.contains(std::string(durable_pairs::bytes_max - 7, 'x'), 1));
  EXPECT_EQ(orders.len(), 3u);
  EXPECT_EQ(m->live_blocks(), 0u);
}

TEST_F(Pairs, TheLongestPairIsKept) {
  topic_map topics(*pairs);
  const std::string half(durable_pairs::bytes_max / 2, 'x');
  const std::string rest(durable_pairs::bytes_max - half.size(), 'y');
  EXPECT_EQ(topics.insert(half, rest), map_status::done);
  open();
  topic_map again(*pairs);
  EXPECT_EQ(again.get_second(half), std::vector<std::string>{rest});
  EXPECT_EQ(again.get_first(rest), std::vector<std::string>{half});
  EXPECT_EQ(again.erase(half, rest), map_status::done);
  EXPECT_EQ(m->live_blocks(), 0u);
}

TEST_F(Pairs, EntriesThatAreNoPairOfTheTypesAreCountedAndNotServed) {
  ASSERT_EQ((*m)->insert(bytes_of("abc"), {}), map_status::done); // shorter than its size
  ASSERT_EQ((*m)->insert(bytes_of("\xff\xff\xff\xff no"), {}), map_status::done);
  ASSERT_EQ(order_map(*pairs).insert("ada", 1), map_status::done);
  ASSERT_EQ(topic_map(*pairs).insert("ada", "news"), map_status::done);
  open();
  const order_map orders(*pairs);
  EXPECT_EQ(orders.misfits(), 3u);
  EXPECT_EQ(orders.get("ada"), std::vector<std::uint64_t>{1});
}

TEST_F(Pairs, ACallbackOfAListingMayChangeThePairs) {
  order_map orders(*pairs);
  for (std::uint64_t order = 0; order < 100; ++order)
    ASSERT_EQ(orders.insert("ada", order), map_status::done);
  orders.for_each("ada", [&](std::uint64_t order) {
    EXPECT_EQ(orders.erase("ada", order), map_status::done);
    EXPECT_EQ(orders.insert("bob", order), map_status::done);
  });
  EXPECT_EQ(orders.count("ada"), 0u);
  EXPECT_EQ(orders.count("bob"), 100u);
}

} // namespace
} // namespace chainring::test
