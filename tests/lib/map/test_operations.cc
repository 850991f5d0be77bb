// SPDX-License-Identifier: BSD-3-Clause
/// Changes of a durable map with operation ids.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "map/map.h"
#include "map_fixture.h"
#include "support/seam_counter.h"

namespace chainring::test {
namespace {

std::unique_ptr<media> medium_for(const map_layout& l) {
  return memory_media(l.size(), durability_class::process);
}

map_layout layout(std::uint64_t cells = 32) {
  map_layout l;
  l.cells = cells;
  l.blocks = 64;
  return l;
}
using outcome = operation_outcome;

TEST(MapOperations, ARepetitionChangesNothing) {
  const auto m = medium_for(layout());
  opened_map map(*m, layout());
  EXPECT_EQ(map->insert({1, 1}, bytes_of("key"), bytes_of("first")), map_status::done);
  EXPECT_EQ(map->upsert(bytes_of("key"), bytes_of("second")), map_status::done);
  EXPECT_EQ(map->insert({1, 1}, bytes_of("key"), bytes_of("first")), map_status::repeated);
  EXPECT_EQ(map->upsert({1, 1}, bytes_of("key"), bytes_of("first")), map_status::repeated);
  EXPECT_EQ(map->erase({1, 1}, bytes_of("key")), map_status::repeated);
  EXPECT_EQ(map.text("key"), "second");
}

TEST(MapOperations, TheLastOperationOfEachClientIsRemembered) {
  const auto m = medium_for(layout());
  opened_map map(*m, layout());
  EXPECT_EQ(map->last_operation(1), 0u);
  EXPECT_EQ(map->resolve({1, 4}), outcome::no_effect);
  EXPECT_EQ(map->upsert({1, 4}, bytes_of("key"), bytes_of("x")), map_status::done);
  EXPECT_EQ(map->erase({1, 9}, bytes_of("key")), map_status::done);
  EXPECT_EQ(map->erase({2, 3}, bytes_of("key")), map_status::done) << "the key is missing";
  EXPECT_EQ(map->resolve({1, 4}), outcome::superseded);
  EXPECT_EQ(map->resolve({1, 9}), outcome::took_effect);
  EXPECT_EQ(map->resolve({1, 10}), outcome::no_effect);
  EXPECT_EQ(map->resolve({2, 3}), outcome::took_effect);
  EXPECT_EQ(map->last_operation(1), 9u);
  EXPECT_EQ(map->last_operation(UINT32_MAX), 0u);
}

TEST(MapOperations, WhatIsRefusedHasNoEffectAndMayBeRepeated) {
  const auto m = medium_for(layout());
  opened_map map(*m, layout());
  ASSERT_EQ(map->insert(bytes_of("key"), bytes_of("other")), map_status::done);
  EXPECT_EQ(map->insert({1, 1}, bytes_of("key"), bytes_of("x")), map_status::exists);
  EXPECT_EQ(map->resolve({1, 1}), outcome::no_effect);
  EXPECT_EQ(map->erase(bytes_of("key")), map_status::done);
  EXPECT_EQ(map->insert({1, 1}, bytes_of("key"), bytes_of("x")), map_status::done);
  EXPECT_EQ(map->insert({1, 1}, bytes_of("key"), bytes_of("x")), map_status::repeated);
  const std::string long_key(map_key_max + 1, 'k');
  EXPECT_EQ(map->insert({1, 2}, bytes_of(long_key), bytes_of("x")), map_status::too_long);
  EXPECT_EQ(map->resolve({1, 2}), outcome::no_effect);
}

TEST(MapOperations, TheyAreThereAfterAnOpen) {
  const auto m = medium_for(layout());
  {
    opened_map map(*m, layout());
    EXPECT_EQ(map->insert({1, 1}, bytes_of("a"), bytes_of("x")), map_status::done);
    EXPECT_EQ(map->insert({7, 70}, bytes_of("b"), bytes_of("x")), map_status::done);
  }
  opened_map map(*m, layout(), [](auto, auto) { return false; });
  EXPECT_EQ(map.recovered.clients, 2u) << "no filter concerns them";
  EXPECT_EQ(map.recovered.entries, 0u);
  EXPECT_EQ(map.recovered.voided, 2u);
  EXPECT_EQ(map->resolve({1, 1}), outcome::took_effect);
  EXPECT_EQ(map->resolve({7, 70}), outcome::took_effect);
  EXPECT_EQ(map->check().clients, 2u);
}

TEST(MapOperations, ABatchIsTheOperationOfEachOfItsIds) {
  const auto m = medium_for(layout());
  opened_map map(*m, layout());
  durable_map::atomic_batch b(*map);
  const auto fill = [&](std::uint64_t one, std::uint64_t other) {
    EXPECT_EQ(b.identify({1, one}), map_status::done);
    EXPECT_EQ(b.identify({2, other}), map_status::done);
    EXPECT_EQ(b.upsert(bytes_of("a"), bytes_of(std::to_string(one))), map_status::done);
    return b.commit();
  };
  EXPECT_EQ(fill(1, 5), map_status::done);
  EXPECT_EQ(fill(2, 5), map_status::repeated);
  EXPECT_EQ(map->resolve({1, 2}), outcome::no_effect) << "one id of the batch was a repetition";
  EXPECT_EQ(map.text("a"), "1");
  EXPECT_EQ(fill(2, 6), map_status::done);
  EXPECT_EQ(map.text("a"), "2");
  EXPECT_EQ(b.size(), 0u);
}

TEST(MapOperations, TheIdsAreNoEntries) {
  const auto m = medium_for(layout());
  opened_map map(*m, layout());
  for (std::uint32_t client = 0; client < 5; ++client)
    EXPECT_EQ(map->insert({client, 1}, bytes_of(client), bytes_of("x")), map_status::done);
  EXPECT_EQ(map->len(), 5u);
  unsigned seen = 0;
  map->for_each([&](auto, auto) { ++seen; });
  EXPECT_EQ(seen, 5u);
  EXPECT_EQ(map->retain([](auto, auto) { return false; }), 5u);
  EXPECT_EQ(map->len(), 0u);
  EXPECT_EQ(map->resolve({4, 1}), outcome::took_effect) << "clearing a map forgets no operation";
}

TEST(MapOperations, NoChangeMayNameTheKeyOfAClient) {
  const auto m = medium_for(layout());
  opened_map map(*m, layout());
  ASSERT_EQ(map->insert({1, 1}, bytes_of("a"), bytes_of("x")), map_status::done);
  const map_client_key key = map_key_of_client(1);
  const std::uint64_t value = 0;
  const auto k = bytes_of(key), v = bytes_of(value);
  EXPECT_EQ(map->insert(k, v), map_status::reserved);
  EXPECT_EQ(map->upsert(k, v), map_status::reserved);
  EXPECT_EQ(map->erase(k), map_status::reserved);
  EXPECT_EQ(map->increment(k), map_status::reserved);
  map_change c;
  EXPECT_EQ(map->upsert_start(k, v, c), map_status::reserved);
  durable_map::atomic_batch b(*map);
  EXPECT_EQ(b.erase(k), map_status::reserved);
  EXPECT_EQ(map->resolve({1, 1}), outcome::took_effect);
}

TEST(MapOperations, AMapWithoutACellForTheClientIsFull) {
  const auto m = medium_for(layout(4));
  opened_map map(*m, layout(4));
  ASSERT_EQ(map->insert({1, 1}, bytes_of("a"), bytes_of("x")), map_status::done);
  map->settle(); // gives the cell of the log back
  ASSERT_EQ(map->insert(bytes_of("b"), bytes_of("x")), map_status::done);
  EXPECT_EQ(map->insert({2, 1}, bytes_of("c"), bytes_of("x")), map_status::full);
  EXPECT_EQ(map->resolve({2, 1}), outcome::no_effect);
  EXPECT_EQ(map->upsert({1, 2}, bytes_of("a"), bytes_of("y")), map_status::done);
}

TEST(MapOperations, AnIdTakesNoThirdDrain) {
  const auto m = medium_for(layout());
  opened_map map(*m, layout());
  seam_counter seen;
  m->observe(&seen);
  for (std::uint64_t i = 1; i < 6; ++i) {
    const auto before = seen.drains;
    EXPECT_EQ(map->upsert({1, i}, bytes_of("key"), bytes_of(i)), map_status::done);
    EXPECT_EQ(seen.drains - before, 2);
    EXPECT_EQ(map->upsert({1, i}, bytes_of("key"), bytes_of(i)), map_status::repeated);
    EXPECT_EQ(seen.drains - before, 2) << "what is repeated takes none";
  }
  m->observe(nullptr);
}

TEST(MapOperations, TypedMapsHaveThem) {
  const auto m = medium_for(layout());
  opened_map bytes(*m, layout());
  map<std::string, std::uint64_t> stock(*bytes);
  EXPECT_EQ(stock.insert({1, 1}, "bolt", 20), map_status::done);
  EXPECT_EQ(stock.upsert({1, 1}, "bolt", 40), map_status::repeated);
  EXPECT_EQ(stock.erase({2, 1}, "nut"), map_status::done);
  map<std::string, std::uint64_t>::atomic_batch b(stock);
  EXPECT_EQ(b.identify({1, 2}), map_status::done);
  EXPECT_EQ(b.upsert("bolt", 15), map_status::done);
  EXPECT_EQ(b.commit(), map_status::done);
  EXPECT_EQ(stock.get("bolt"), 15u);
  EXPECT_EQ(stock.resolve({1, 2}), outcome::took_effect);
  EXPECT_EQ(stock.last_operation(2), 1u);
  EXPECT_EQ(stock.misfits(), 0u);
}

TEST(MapOperations, OfTwoThreadsWithOneIdOneTakesEffect) {
  const auto m = medium_for(layout(256));
  opened_map map(*m, layout(256));
  constexpr std::uint64_t operations = 200;
  std::atomic<std::uint64_t> done{0};
  const auto work = [&] {
    for (std::uint64_t i = 1; i <= operations; ++i) {
      const map_status s = map->upsert({5, i}, bytes_of("key"), bytes_of(i));
      done += s == map_status::done;
      EXPECT_TRUE(s == map_status::done || s == map_status::repeated) << to_string(s);
    }
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_GE(done, 1u);
  EXPECT_LE(done, operations);
  EXPECT_EQ(map->last_operation(5), operations);
}

} // namespace
} // namespace chainring::test
