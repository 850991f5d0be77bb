// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "map/seq_map.h"
#include "support/seed.h"

namespace chainring {
namespace {

struct key16 {
  std::uint64_t a = 0, b = 0;
  bool operator==(const key16&) const = default;
};

/// Gives keys few homes, so that probes are long and keys share tags.
struct crowded {
  std::uint64_t operator()(std::uint64_t key) const noexcept { return key % 3; }
};

template <class M> std::unique_ptr<M> make(std::uint64_t capacity) {
  auto made = M::create(capacity);
  EXPECT_TRUE(made);
  return std::move(made).value();
}

TEST(SeqMap, ACapacityOfZeroIsRefused) {
  auto made = seq_map<std::uint64_t, std::uint64_t>::create(0);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, errc::invalid_argument);
}

TEST(SeqMap, ACallbackThatThrowsLeavesItsKeyAsItIsAndOpenToOthers) {
  auto m = make<seq_map<std::uint64_t, std::uint64_t>>(16);
  for (std::uint64_t k = 0; k < 8; ++k)
    ASSERT_EQ(m->insert(k, k), map_status::done);
  for (const std::uint64_t key : {3, 100})
    EXPECT_THROW(m->alter(key,
                          [](std::optional<std::uint64_t>& now) -> map_status {
                            now = 7;
                            throw std::runtime_error("no");
                          }),
                 std::runtime_error);
  EXPECT_THROW(m->for_each([](auto, auto) { throw std::runtime_error("no"); }), std::runtime_error);
  int calls = 0;
  EXPECT_THROW(m->retain([&](auto, auto) {
    if (++calls == 3) throw std::runtime_error("no");
    return false;
  }),
               std::runtime_error);
  EXPECT_EQ(m->len(), 6u) << "what was erased before stays erased";
  // A key that is still claimed would keep another thread waiting.
  std::thread([&] {
    for (std::uint64_t k = 0; k < 8; ++k)
      EXPECT_EQ(m->upsert(k, k), map_status::done);
    EXPECT_EQ(m->insert(100, 1), map_status::done);
  }).join();
  EXPECT_EQ(m->get(3), 3u);
  EXPECT_EQ(m->len(), 9u);
}

TEST(SeqMap, EachCallReturnsWhatItFound) {
  auto m = make<seq_map<key16, std::uint32_t>>(2);
  EXPECT_EQ(m->update({1, 1}, 5), map_status::missing);
  EXPECT_EQ(m->erase({1, 1}), map_status::missing);
  EXPECT_EQ(m->insert({1, 1}, 5), map_status::done);
  EXPECT_EQ(m->insert({1, 1}, 6), map_status::exists);
  EXPECT_EQ(m->get({1, 1}), 5u);
  EXPECT_FALSE(m->get({1, 2}));
  EXPECT_EQ(m->upsert({1, 2}, 7), map_status::done);
  EXPECT_EQ(m->upsert({1, 2}, 8), map_status::done);
  EXPECT_EQ(m->insert({1, 3}, 9), map_status::full);
  EXPECT_EQ(m->upsert({1, 3}, 9), map_status::full);
  EXPECT_EQ(m->len(), 2u);
  std::uint32_t expected = 4;
  EXPECT_EQ(m->compare_exchange({1, 2}, expected, 10), map_status::mismatch);
  EXPECT_EQ(expected, 8u);
  EXPECT_EQ(m->compare_exchange({1, 2}, expected, 10), map_status::done);
  EXPECT_EQ(m->compare_exchange({9, 9}, expected, 10), map_status::missing);
  EXPECT_EQ(m->get({1, 2}), 10u);
  EXPECT_EQ(m->erase({1, 1}), map_status::done);
  EXPECT_EQ(m->insert({1, 3}, 9), map_status::done);
  m->clear();
  EXPECT_EQ(m->len(), 0u);
  EXPECT_FALSE(m->contains({1, 3}));
}

TEST(SeqMap, DecrementErasesAKeyThatReachesZero) {
  auto m = make<seq_map<std::uint64_t, std::uint32_t>>(4);
  EXPECT_EQ(m->decrement(7), map_status::missing);
  EXPECT_EQ(m->increment(7), map_status::done);
  EXPECT_EQ(m->increment(7, 2), map_status::done);
  EXPECT_EQ(m->get(7), 3u);
  EXPECT_EQ(m->decrement(7, 4), map_status::mismatch);
  EXPECT_EQ(m->decrement(7), map_status::done);
  EXPECT_EQ(m->decrement(7, 2), map_status::done);
  EXPECT_FALSE(m->contains(7));
  EXPECT_EQ(m->len(), 0u);
}

TEST(SeqMap, AnAlterThatIsNotDoneChangesNothing) {
  auto m = make<seq_map<std::uint64_t, std::uint32_t>>(4);
  EXPECT_EQ(m->alter(1,
                     [](std::optional<std::uint32_t>& v) {
                       v = 3;
                       return map_status::mismatch;
                     }),
            map_status::mismatch);
  EXPECT_FALSE(m->contains(1));
}

TEST(SeqMap, GetBulkFindsTheKeysOfABurst) {
  auto m = make<seq_map<key16, std::uint64_t>>(1000);
  for (std::uint64_t i = 0; i < 1000; i += 2)
    ASSERT_EQ(m->insert({i, 1}, i * 10), map_status::done);
  key16 keys[64];
  std::uint64_t values[64] = {};
  for (std::uint64_t i = 0; i < 64; ++i)
    keys[i] = {i, 1};
  EXPECT_EQ(m->get_bulk(keys, 64, values), 0x5555555555555555u);
  for (std::uint64_t i = 0; i < 64; ++i)
    EXPECT_EQ(values[i], i % 2 == 0 ? i * 10 : 0);
  EXPECT_EQ(m->get_bulk(keys, 0, values), 0u);
}

template <class M> void agrees_with_a_model(std::uint64_t keys, std::uint64_t capacity) {
  auto m = make<M>(capacity);
  std::map<std::uint64_t, std::uint64_t> model;
  std::mt19937_64 random(test::fresh_seed());
  for (int round = 0; round < 60'000; ++round) {
    const std::uint64_t key = random() % keys, value = random();
    const auto it = model.find(key);
    switch (random() % 6) {
    case 0:
      if (it != model.end()) {
        ASSERT_EQ(m->insert(key, value), map_status::exists);
      } else if (model.size() == capacity) {
        ASSERT_EQ(m->insert(key, value), map_status::full);
      } else {
        ASSERT_EQ(m->insert(key, value), map_status::done);
        model[key] = value;
      }
      break;
    case 1:
    case 2:
      ASSERT_EQ(m->erase(key), it == model.end() ? map_status::missing : map_status::done);
      model.erase(key);
      break;
    case 3:
      ASSERT_EQ(m->update(key, value), it == model.end() ? map_status::missing : map_status::done);
      if (it != model.end()) it->second = value;
      break;
    default: {
      const auto got = m->get(key);
      ASSERT_EQ(got.has_value(), it != model.end());
      if (got) {
        ASSERT_EQ(*got, it->second);
      }
    }
    }
    if (round % 5'000 == 0) {
      std::map<std::uint64_t, std::uint64_t> seen;
      m->for_each(
          [&](std::uint64_t k, std::uint64_t v) { ASSERT_TRUE(seen.emplace(k, v).second); });
      ASSERT_EQ(seen, model);
      const auto erased = m->retain([](std::uint64_t k, std::uint64_t) { return k % 7 != 0; });
      ASSERT_EQ(erased, std::erase_if(model, [](auto& e) { return e.first % 7 == 0; }));
    }
    ASSERT_EQ(m->len(), model.size());
  }
}

TEST(SeqMap, AMapAgreesWithAModel) {
  agrees_with_a_model<seq_map<std::uint64_t, std::uint64_t>>(200, 100);
}
TEST(SeqMap, AMapAgreesWithAModelWhenAllKeysCollide) {
  agrees_with_a_model<seq_map<std::uint64_t, std::uint64_t, crowded>>(40, 30);
}

TEST(SeqMap, ProbesStayShortHoweverManyKeysComeAndGo) {
  constexpr std::uint64_t capacity = 8'192; // the highest load is one half
  auto m = make<seq_map<std::uint64_t, std::uint64_t>>(capacity);
  std::mt19937_64 random(test::fresh_seed());
  std::vector<std::uint64_t> live;
  while (live.size() < capacity) {
    live.push_back(random());
    ASSERT_EQ(m->insert(live.back(), 0), map_status::done);
  }
  const auto churn = [&](std::uint64_t changes) {
    for (std::uint64_t i = 0; i < changes; ++i) {
      auto& victim = live[random() % live.size()];
      ASSERT_EQ(m->erase(victim), map_status::done);
      victim = random();
      ASSERT_EQ(m->insert(victim, 0), map_status::done);
    }
  };
  const double fresh = m->mean_reach();
  churn(20 * capacity);
  const double settled = m->mean_reach();
  churn(100 * capacity);
  std::printf("mean reach %.3f fresh, %.3f after 20 times the capacity, %.3f after 120\n", fresh,
              settled, m->mean_reach());
  EXPECT_LT(settled, 1);
  EXPECT_LT(m->mean_reach(), settled * 1.2);
  for (auto key : live)
    ASSERT_EQ(m->erase(key), map_status::done);
  EXPECT_EQ(m->mean_reach(), 0);
}

TEST(SeqMap, EachInsertAndEraseThatReturnsDoneCountsOnce) {
  auto m = make<seq_map<std::uint64_t, std::uint64_t, crowded>>(64);
  constexpr int rounds = 2'000;
  std::atomic<int> won{0}, erased{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < rounds; ++i) {
        won += m->insert(static_cast<std::uint64_t>(i % 16), t) == map_status::done;
        erased += m->erase(static_cast<std::uint64_t>((i * 7) % 16)) == map_status::done;
      }
    });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(static_cast<std::uint64_t>(won - erased), m->len());
  std::uint64_t seen = 0;
  m->for_each([&](std::uint64_t, std::uint64_t) { ++seen; });
  EXPECT_EQ(seen, m->len());
}

} // namespace
} // namespace chainring
