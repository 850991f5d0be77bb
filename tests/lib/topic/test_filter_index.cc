// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/link_counter.h"
#include "support/seed.h"
#include "topic/filter_index.h"
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
  std::map<std::pair<std::string, std::uint32_t>, std::uint32_t> model;
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
      const auto added = index.add(filter, session, static_cast<std::uint32_t>(step));
      const bool known = model.count({filter, session}) != 0;
      if (added == filter_index::status::full) {
        EXPECT_FALSE(known);
        continue;
      }
      EXPECT_EQ(added, known ? filter_index::status::replaced : filter_index::status::added);
      model[{filter, session}] = static_cast<std::uint32_t>(step);
    } else {
      EXPECT_EQ(index.remove(filter, session), model.erase({filter, session}) != 0);
    }
    const std::string topic = draw(false);
    std::multiset<std::pair<std::uint32_t, std::uint32_t>> expected, found;
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

TEST(FilterIndex, TakesFiltersOf65535OctetsAndTellsLongerAndDeeperOnesFromAFullTable) {
  filter_index index({.filters_max = 8,
                      .subscriptions_max = 8,
                      .levels_max = 300,
                      .sessions_max = 4,
                      .text_bytes_max = 300'000});
  const std::string longest(65535, 'x');
  EXPECT_EQ(index.add(longest, 1, 1), filter_index::status::added);
  EXPECT_EQ(index.add("+/" + longest.substr(2), 2, 1), filter_index::status::added);
  EXPECT_EQ(index.add(longest + "x", 1, 1), filter_index::status::too_long);
  EXPECT_FALSE(index.remove(longest + "x", 1));
  EXPECT_EQ(sessions_of(index, longest), std::set<std::uint32_t>{1});
  EXPECT_EQ(sessions_of(index, "/" + longest.substr(1)), std::set<std::uint32_t>{});
  EXPECT_EQ(sessions_of(index, "a/" + longest.substr(2)), std::set<std::uint32_t>{2});
  // The table of text has no room left for a third long filter.
  EXPECT_EQ(index.add("#/" + longest.substr(2), 3, 1), filter_index::status::full);
  std::string shallow = "a"; // a filter without wildcards may have any number of levels
  for (int i = 0; i < 400; ++i)
    shallow += "/";
  EXPECT_EQ(index.add(shallow, 3, 1), filter_index::status::added);
  EXPECT_EQ(sessions_of(index, shallow), std::set<std::uint32_t>{3});
  std::set<std::string> left;
  for (const std::uint32_t s : {1, 2, 3})
    index.remove_all(s, [&](std::string_view f) { left.insert(std::string(f)); });
  EXPECT_EQ(left.size(), 3u);
  EXPECT_EQ(left.count(longest), 1u);
  EXPECT_EQ(index.filter_count(), 0u);
}

TEST(FilterIndex, KeepsAll32BitsOfASubscriptionsOptions) {
  filter_index index(
      {.filters_max = 4, .subscriptions_max = 4, .levels_max = 4, .sessions_max = 4});
  index.add("a", 1, 0xdeadbeef);
  index.match(0, "a", [&](subscriber s) { EXPECT_EQ(s.options, 0xdeadbeef); });
}

TEST(FilterIndex, VisitsAsManyLinksForTheSubscriberNumber40000OfAFilterAsForTheFirst) {
  constexpr std::uint32_t sessions = 40'000;
  filter_index index({.filters_max = 4,
                      .subscriptions_max = sessions,
                      .levels_max = 16,
                      .sessions_max = sessions,
                      .seed = test::printed_seed(1)});
  const test::link_counter links;
  std::uint64_t most = 0;
  auto count = [&](auto&& call) {
    const std::uint64_t before = links.count();
    call();
    most = std::max(most, links.count() - before);
  };
  for (std::uint32_t s = 0; s < sessions; ++s)
    count([&] { ASSERT_EQ(index.add("site/+/temp", s, 1), filter_index::status::added); });
  for (std::uint32_t s = 0; s < sessions; ++s)
    count([&] { ASSERT_EQ(index.add("site/+/temp", s, 2), filter_index::status::replaced); });
  EXPECT_EQ(sessions_of(index, "site/7/temp").size(), sessions);
  for (std::uint32_t s = 0; s < sessions; s += 2)
    count([&] { ASSERT_TRUE(index.remove("site/+/temp", s)); });
  for (std::uint32_t s = 1; s < sessions; s += 2)
    count([&] { index.remove_all(s, [](std::string_view) {}); });
  EXPECT_EQ(index.filter_count(), 0u);
  EXPECT_GT(links.count(), sessions); // the counter does count
  EXPECT_LT(most, 40u);
}

TEST(FilterIndex, RemovesASessionAtTheCostOfItsOwnSubscriptions) {
  constexpr std::uint32_t filters = 1000, others = 50;
  filter_index index({.filters_max = filters,
                      .subscriptions_max = filters * (others + 1),
                      .levels_max = 16,
                      .sessions_max = others + 1,
                      .seed = 7});
  for (std::uint32_t f = 0; f < filters; ++f)
    for (std::uint32_t s = 0; s <= others; ++s)
      ASSERT_EQ(index.add("f" + std::to_string(f), s, 1), filter_index::status::added);
  const test::link_counter links;
  std::uint32_t removed = 0;
  index.remove_all(others, [&](std::string_view) { ++removed; });
  EXPECT_EQ(removed, filters);
  EXPECT_LT(links.count(), 10 * filters);
  EXPECT_EQ(index.subscription_count(), filters * others);
}

TEST(FilterIndex, GrowsWhileOthersMatchAndRefusesNothingItHasRoomFor) {
  constexpr std::uint32_t first = 64, ceiling = 64 * 64;
  filter_index index({.filters_max = first,
                      .subscriptions_max = first,
                      .levels_max = 2 * first,
                      .sessions_max = 16,
                      .readers = 2,
                      .subscriptions_ceiling = ceiling});
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0};
  ASSERT_EQ(index.add("kept/#", 3, 1), filter_index::status::added);
  std::thread reader([&] {
    while (!stop) {
      std::uint32_t found = 0;
      index.match(1, "kept/7", [&](subscriber s) noexcept { found += s.session == 3; });
      if (found != 1) ++wrong;
    }
  });
  std::uint32_t limit = first, made = 1;
  for (;; ++made) {
    const std::string filter = "+/" + std::to_string(made);
    auto status = index.add(filter, made % 16, 1);
    if (status == filter_index::status::full) {
      EXPECT_EQ(made, limit);
      if (!index.reserve(2 * limit)) break;
      limit *= 2;
      status = index.add(filter, made % 16, 1);
    }
    ASSERT_EQ(status, filter_index::status::added) << made;
  }
  stop = true;
  reader.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(made, ceiling);
  EXPECT_FALSE(index.reserve(ceiling + 1));
  for (std::uint32_t i = 1; i < made; ++i)
    ASSERT_EQ(sessions_of(index, "x/" + std::to_string(i)), std::set<std::uint32_t>{i % 16});
}

TEST(FilterIndex, ListsItsFiltersInCallsThatLookAtFewPlacesEach) {
  constexpr std::uint32_t filters = 10 * filter_index::places_at_once, last = filters - 1;
  filter_index index({.filters_max = filters, .subscriptions_max = filters, .sessions_max = 2});
  const auto name_of = [](std::uint32_t i) { return "of/" + std::to_string(i); };
  for (std::uint32_t i = 0; i < filters; ++i)
    ASSERT_EQ(index.add(name_of(i), i == 7 || i == last, 1), filter_index::status::added);
  const auto all = [&](std::size_t max) {
    std::vector<std::string> found;
    std::uint32_t first = 0, calls = 0;
    do {
      const std::uint32_t from = first;
      std::size_t in_call = 0;
      first = index.for_each(from, max, [&](std::string_view filter, std::uint32_t n) {
        EXPECT_EQ(n, 1u);
        found.emplace_back(filter);
        ++in_call;
      });
      EXPECT_LE(in_call, max);
      EXPECT_LE(first, from + filter_index::places_at_once) << "one call looked at too many places";
      ++calls;
    } while (first != 0);
    EXPECT_GE(calls, filters / filter_index::places_at_once);
    return found;
  };
  EXPECT_EQ(all(SIZE_MAX).size(), filters);
  EXPECT_EQ(all(64).size(), filters);
  // Only two filters are left among the places that were used once.
  index.remove_all(0, [](std::string_view) {});
  EXPECT_EQ(all(SIZE_MAX), (std::vector<std::string>{name_of(7), name_of(last)}));
  EXPECT_EQ(all(1), (std::vector<std::string>{name_of(7), name_of(last)}));
  EXPECT_EQ(index.for_each(filters, 1, [](std::string_view, std::uint32_t) { FAIL(); }), 0u);
  EXPECT_EQ(index.for_each(UINT32_MAX, 1, [](std::string_view, std::uint32_t) { FAIL(); }), 0u);
}

TEST(FilterIndex, ListsTheSubscriptionsOfASessionInCallsOfFew) {
  constexpr std::uint32_t filters = 1000;
  filter_index index({.filters_max = filters, .subscriptions_max = 2 * filters, .sessions_max = 3});
  const auto name_of = [](std::uint32_t i) { return "of/" + std::to_string(i); };
  for (std::uint32_t i = 0; i < filters; ++i) {
    ASSERT_EQ(index.add(name_of(i), 0, 0), filter_index::status::added);
    ASSERT_EQ(index.add(name_of(i), 1, i), filter_index::status::added);
  }
  std::set<std::string> found;
  std::size_t calls = 0;
  std::uint32_t at = 0;
  const auto next = [&] {
    std::size_t in_call = 0;
    at = index.for_each_of(1, at, 64, [&](std::string_view filter, std::uint32_t options) {
      EXPECT_EQ(filter, name_of(options));
      EXPECT_TRUE(found.emplace(filter).second) << filter << " is listed twice";
      ++in_call;
    });
    EXPECT_LE(in_call, 64u);
    ++calls;
  };
  do
    next();
  while (at != 0);
  EXPECT_EQ(found.size(), filters);
  EXPECT_EQ(calls, filters / 64 + 1);
  // The list goes on at a subscription that is left meanwhile, and whose place is taken by another
  // session's.
  found.clear();
  next();
  ASSERT_NE(at, 0u);
  const std::size_t before = found.size();
  index.remove_all(1, [](std::string_view) {});
  next();
  EXPECT_EQ(at, 0u);
  EXPECT_EQ(found.size(), before);
  for (std::uint32_t i = 0; i < filters; ++i)
    ASSERT_EQ(index.add(name_of(i), 2, filters), filter_index::status::added);
  for (std::uint32_t i = 1; i < 2 * filters + 10; ++i)
    index.for_each_of(1, i, 64, [](std::string_view, std::uint32_t) {
      ADD_FAILURE() << "a subscription of another session is listed";
    });
}

// Built with ThreadSanitizer this test also reports a count that is no atomic object.
TEST(FilterIndex, SaysHowManySubscriptionsASessionHasWhileItsWorkerSubscribes) {
  constexpr std::uint32_t most = 32;
  filter_index index(
      {.filters_max = 64, .subscriptions_max = 64, .levels_max = 128, .sessions_max = 2});
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> asked{0}, wrong{0};
  std::thread operators([&] {
    while (!stop) {
      if (index.count_of(1) > most) ++wrong;
      ++asked;
    }
  });
  for (int round = 0; round < 200 || asked == 0; ++round) {
    for (std::uint32_t i = 0; i < most; ++i)
      ASSERT_EQ(index.add("of/" + std::to_string(i), 1, 1), filter_index::status::added);
    ASSERT_EQ(index.count_of(1), most);
    index.remove_all(1, [](std::string_view) {});
    ASSERT_EQ(index.count_of(1), 0u);
  }
  stop = true;
  operators.join();
  EXPECT_EQ(wrong, 0u);
}

TEST(FilterIndex, ChangesTheVersionOfTopicsThatAChangedFilterMatches) {
  std::mt19937 random(static_cast<unsigned>(test::fresh_seed()));
  filter_index index(
      {.filters_max = 256, .subscriptions_max = 256, .levels_max = 512, .sessions_max = 8});
  const char* words[] = {"a", "b", "", "$x", "+"};
  auto draw = [&](unsigned count) {
    std::string text = words[random() % count];
    for (unsigned l = random() % 3; l > 0; --l)
      text += std::string("/") + words[random() % count];
    if (count == 5 && random() % 4 == 0) text += "/#";
    return text.empty() ? std::string("x") : text;
  };
  std::set<std::string> topics;
  for (int i = 0; i < 200; ++i)
    topics.insert(draw(4));
  unsigned kept = 0, changed = 0;
  for (int step = 0; step < 3000; ++step) {
    std::map<std::string, std::uint64_t> before;
    for (const std::string& t : topics)
      before[t] = index.version(index.key_of(t));
    const std::string filter = draw(5);
    const std::uint32_t session = random() % 8;
    const bool did = random() % 2 == 0 ? filter_index::accepted(index.add(filter, session, 1))
                                       : index.remove(filter, session);
    for (const std::string& t : topics) {
      const bool same = index.version(index.key_of(t)) == before[t];
      if (did && topic_matches(filter, t)) {
        ASSERT_FALSE(same) << filter << " against " << t;
      }
      if (!did) {
        ASSERT_TRUE(same) << filter << " changed nothing";
      }
      ++(same ? kept : changed);
    }
  }
  EXPECT_GT(changed, 1000u);
  EXPECT_GT(kept, changed); // most changes do not concern most topics
}

TEST(FilterIndex, SpreadsFiltersThatAClientMadeToShareAChecksum) {
  const std::vector<std::string> names = test::names_with_one_checksum(4096);
  filter_index index(
      {.filters_max = 8192, .subscriptions_max = 8192, .levels_max = 16384, .sessions_max = 4});
  const test::link_counter links;
  for (const std::string& name : names) {
    ASSERT_EQ(index.add(name, 1, 1), filter_index::status::added);
    ASSERT_EQ(index.add("+/" + name, 1, 1), filter_index::status::added);
  }
  for (const std::string& name : names)
    EXPECT_EQ(sessions_of(index, name).size(), 1u);
  EXPECT_LT(links.count(), 40 * names.size()); // in one chain it would be 2,000 for each name
}

} // namespace
} // namespace chainring
