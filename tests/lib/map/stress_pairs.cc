// SPDX-License-Identifier: BSD-3-Clause
/// Pairs under free-running threads. Each writer keeps a rule for pairs of its own that every
/// listing must show, whatever other threads do.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <set>
#include <thread>

#include "map/multimap.h"
#include "map_fixture.h"
#include "support/seed.h"

namespace chainring::test {
namespace {

constexpr unsigned writers = 2, readers = 2;
constexpr std::uint64_t steps = 30'000;

/// Every third name is too long for a cell.
std::string name_of(std::uint64_t n) {
  std::string text = std::to_string(n);
  if (n % 3 == 2) text.insert(0, 40 + n % 50, '.');
  return text;
}

struct world {
  map_layout layout{.cells = 8192, .blocks = 65536, .first = 8};
  std::unique_ptr<media> memory = memory_media(layout.size(), durability_class::emulated);
  opened_map m{*memory, layout};
  std::unique_ptr<durable_pairs> pairs = durable_pairs::create(*m, true).value();
  bimap<std::string, std::string> relation{*pairs};
  std::atomic<unsigned> working{writers};
  std::atomic<std::uint64_t> inserted[writers] = {}; ///< topics of each writer, so far
};

// A writer moves a window over its topics, in order: the pair ahead is inserted before the last
// one is erased. So there are `window` or one more, and they are neighbours. "all" has the pairs of
// every writer, and is where the writers meet.
constexpr std::uint64_t window = 5, topics = 64;

void write(world& w, unsigned number) {
  const std::string me = "writer " + std::to_string(number);
  const auto topic = [&](std::uint64_t n) {
    return std::to_string(number) + "/" + name_of(n % topics);
  };
  for (std::uint64_t n = 0; n < steps; ++n) {
    EXPECT_EQ(w.relation.insert(me, topic(n)), map_status::done);
    EXPECT_EQ(w.relation.insert(topic(n), "all"), map_status::done);
    w.inserted[number] = n + 1;
    if (n < window) continue;
    EXPECT_EQ(w.relation.erase(me, topic(n - window)), map_status::done);
    EXPECT_EQ(w.relation.erase(topic(n - window), "all"), map_status::done);
  }
  w.working.fetch_sub(1);
}

/// Returns what is wrong with a listing of a writer's topics; nothing where it is in order.
std::string wrong_in(const std::vector<std::string>& listed, unsigned number, bool complete) {
  const std::string prefix = std::to_string(number) + "/";
  std::set<std::uint64_t> seen;
  for (const std::string& t : listed) {
    if (!t.starts_with(prefix)) return "the topic of another writer: " + t;
    const std::size_t digits = t.find_first_not_of('.', prefix.size());
    const std::uint64_t n = std::stoull(t.substr(digits));
    if (name_of(n) != t.substr(prefix.size())) return "a torn name: " + t;
    if (!seen.insert(n).second) return "twice: " + t;
  }
  if (seen.size() > window + 1 || (complete && seen.size() < window))
    return std::to_string(seen.size()) + " topics";
  // Neighbours modulo the number of topics: one gap at most, which is the way around.
  unsigned ends = 0;
  for (const std::uint64_t n : seen)
    ends += !seen.contains((n + 1) % topics);
  return ends > 1 ? "there are gaps" : "";
}

TEST(StressPairs, EachListingIsWhatItsKeyHadAtOneMoment) {
  world w;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < writers; ++i)
    threads.emplace_back([&w, i] { write(w, i); });
  std::atomic<std::uint64_t> listings{0};
  for (unsigned i = 0; i < readers; ++i)
    threads.emplace_back([&w, i, &listings] {
      for (std::uint64_t n = i; w.working.load() != 0; ++n) {
        const auto number = static_cast<unsigned>(n % writers);
        // Once a writer has filled its window, it always has as many topics.
        const bool complete = w.inserted[number].load() >= window;
        const std::string wrong =
            wrong_in(w.relation.get_second("writer " + std::to_string(number)), number, complete);
        EXPECT_EQ(wrong, "");
        const bool all_complete =
            std::ranges::all_of(w.inserted, [](const auto& n) { return n.load() >= window; });
        const std::uint64_t all = w.relation.get_first("all").size();
        EXPECT_LE(all, writers * (window + 1));
        if (all_complete) {
          EXPECT_GE(all, writers * window);
        }
        listings.fetch_add(2);
      }
    });
  for (std::thread& t : threads)
    t.join();
  std::printf("%llu listings\n", static_cast<unsigned long long>(listings.load()));
  EXPECT_GT(listings.load(), 0u);
  EXPECT_EQ(w.relation.len(), 2 * writers * window);
  EXPECT_EQ(w.relation.erase_second("all"), writers * window);
  for (unsigned i = 0; i < writers; ++i)
    EXPECT_EQ(w.relation.erase_first("writer " + std::to_string(i)), window);
  EXPECT_EQ(w.m.live_blocks(), 0u);
}

/// Two writers add pairs of two keys until there are far more pairs than buckets at first, while
/// two readers list the keys. Each key moves to another bucket a few times.
void add_buckets_under_listings() {
  constexpr std::uint64_t each = 700, keys = 2;
  world w;
  std::atomic<std::uint64_t> done[2] = {};
  std::atomic<unsigned> at_work{2};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 2; ++i)
    threads.emplace_back([&, i] {
      for (std::uint64_t n = 0; n < each; ++n) {
        EXPECT_EQ(w.relation.insert("key " + std::to_string(n % keys),
                                    std::to_string(i) + "/" + std::to_string(n)),
                  map_status::done);
        done[i] = n + 1;
      }
      at_work.fetch_sub(1);
    });
  for (unsigned i = 0; i < 2; ++i)
    threads.emplace_back([&, i] {
      for (std::uint64_t n = i; at_work.load() != 0; ++n) {
        std::uint64_t least = 0; // so often the writers have come to this key
        for (const auto& d : done)
          least += (d.load() + keys - 1 - n % keys) / keys;
        const auto listed = w.relation.get_second("key " + std::to_string(n % keys));
        EXPECT_GE(listed.size(), least);
        EXPECT_EQ(std::set(listed.begin(), listed.end()).size(), listed.size());
        for (const std::string& name : listed)
          EXPECT_EQ(std::stoull(name.substr(2)) % keys, n % keys) << name;
      }
    });
  for (std::thread& t : threads)
    t.join();
  for (std::uint64_t n = 0; n < each; ++n)
    ASSERT_EQ(w.relation.get_first("0/" + std::to_string(n)),
              std::vector<std::string>{"key " + std::to_string(n % keys)});
  EXPECT_EQ(w.relation.len(), 2 * each);
}

TEST(StressPairs, ListingsAreCompleteWhileTheBucketsBecomeMore) {
  for (int round = 0; round < 40 && !HasFailure(); ++round)
    add_buckets_under_listings();
}

TEST(StressPairs, ThreadsThatInsertAndEraseTheSamePairsAgree) {
  world w;
  std::atomic<std::int64_t> there[16] = {};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i)
    threads.emplace_back([&w, &there, i] {
      std::mt19937_64 random(seed_from_environment(1) + i);
      for (std::uint64_t n = 0; n < steps; ++n) {
        const std::uint64_t pair = random() % 16;
        const std::string a = name_of(pair / 4), b = name_of(pair % 4);
        if (random() % 2 == 0)
          there[pair] += w.relation.insert(a, b) == map_status::done;
        else
          there[pair] -= w.relation.erase(a, b) == map_status::done;
      }
    });
  for (std::thread& t : threads)
    t.join();
  std::uint64_t sum = 0;
  for (std::uint64_t pair = 0; pair < 16; ++pair) {
    const bool now = w.relation.contains(name_of(pair / 4), name_of(pair % 4));
    EXPECT_EQ(there[pair].load(), now ? 1 : 0);
    sum += now;
  }
  std::uint64_t listed = 0;
  for (std::uint64_t a = 0; a < 4; ++a)
    listed += w.relation.get_second(name_of(a)).size();
  EXPECT_EQ(listed, sum);
  EXPECT_EQ(w.relation.len(), sum);
}

} // namespace
} // namespace chainring::test
