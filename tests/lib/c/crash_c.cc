// SPDX-License-Identifier: BSD-3-Clause
/// The calls of the C binding are crashed at every point: what a call has returned for is there.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "c/handles.h"
#include "objects/object_map.h"
#include "objects/object_pairs.h"
#include "objects/object_queue.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/explorer.h"
#include "support/test_media.h"

namespace chainring::test {
namespace {

using byte_map = map<std::string, std::string>;
using byte_pairs = bimap<std::string, std::string>;
using byte_queue = queue<std::string>;
const durable<byte_map> words{"words", 8};
const durable<byte_pairs> topics{"topics", 6};
const durable<byte_queue> jobs{"jobs", 8};
const durable<byte_queue> orders{.name = "orders", .entries = 4, .clients = 2};

/// What a region holds, by the name of each thing; what is missing is not in it.
using content = std::map<std::string, std::string>;

struct handles {
  chainring_region* region;
  chainring_map* map;
  chainring_pairs* pairs;
  chainring_queue *queue, *orders;
};

/// A call, and what is otherwise once it has returned; "" means that the thing is gone.
struct operation {
  std::function<bool(const handles&)> call;
  content effect;
};

bool done(chainring_status s) {
  return s == CHAINRING_DONE;
}
chainring_bytes text(const char* t) {
  return chainring_text(t);
}
std::string number(std::uint64_t n) {
  return {reinterpret_cast<const char*>(&n), sizeof n};
}

const std::string long_text(300, 'x');

std::vector<operation> operations() {
  const auto take = [](const handles& h, chainring_taken& t) {
    return chainring_queue_take(h.queue, 0, &t, 1) == 1;
  };
  return {
      {[](auto& h) { return done(chainring_map_insert(h.map, text("a"), text("1"))); },
       {{"map a", "1"}}},
      {[](auto& h) { return done(chainring_map_update(h.map, text("a"), text("2"))); },
       {{"map a", "2"}}},
      {[](auto& h) { return done(chainring_map_upsert(h.map, text("b"), text("3"))); },
       {{"map b", "3"}}},
      {[](auto& h) {
         return done(chainring_map_compare_exchange(h.map, text("b"), text("3"), text("4")));
       },
       {{"map b", "4"}}},
      {[](auto& h) { return done(chainring_map_increment(h.map, text("n"), 7)); },
       {{"map n", number(7)}}},
      {[](auto& h) { return done(chainring_map_decrement(h.map, text("n"), 2)); },
       {{"map n", number(5)}}},
      {[](auto& h) {
         chainring_change c[] = {{CHAINRING_CHANGE_INSERT, 0, text("c"), text("5")},
                                 {CHAINRING_CHANGE_UPDATE, 0, text("a"), text("6")},
                                 {CHAINRING_CHANGE_UPSERT, 0, text("d"), text(long_text.c_str())},
                                 {CHAINRING_CHANGE_ERASE, 0, text("b"), {}}};
         return chainring_map_apply(h.map, c, 4) == 4;
       },
       {{"map c", "5"}, {"map a", "6"}, {"map d", long_text}, {"map b", ""}}},
      {[](auto& h) { return done(chainring_map_erase(h.map, text("a"))); }, {{"map a", ""}}},
      {[](auto& h) { return done(chainring_pairs_insert(h.pairs, text("x"), text("y"))); },
       {{"pair xy", "1"}}},
      {[](auto& h) { return done(chainring_pairs_insert(h.pairs, text("x"), text("z"))); },
       {{"pair xz", "1"}}},
      {[](auto& h) { return done(chainring_pairs_erase(h.pairs, text("x"), text("y"))); },
       {{"pair xy", ""}}},
      {[](auto& h) {
         return done(chainring_pairs_erase_all(h.pairs, CHAINRING_SECOND, text("z"), nullptr));
       },
       {{"pair xz", ""}}},
      {[](auto& h) { return done(chainring_queue_enqueue(h.queue, text("one"))); },
       {{"job one", "1"}}},
      {[](auto& h) {
         const chainring_bytes b[] = {text("two"), text("three")};
         return chainring_queue_enqueue_burst(h.queue, b, 2) == 2;
       },
       {{"job two", "1"}, {"job three", "1"}}},
      {[](auto& h) {
         const chainring_bytes b[] = {text("four"), text("five")};
         return done(chainring_queue_enqueue_bulk(h.queue, b, 2));
       },
       {{"job four", "1"}, {"job five", "1"}}},
      {[take](auto& h) {
         chainring_taken t{};
         return take(h, t) && done(chainring_queue_release(h.queue, 0, &t, 1));
       },
       {{"job one", ""}}},
      {[take](auto& h) { // what is given back comes again, and is released then
         chainring_taken t{};
         return take(h, t) && done(chainring_queue_give_back(h.queue, 0, &t, 1)) && take(h, t) &&
                done(chainring_queue_release(h.queue, 0, &t, 1));
       },
       {{"job two", ""}}},
      {[](auto& h) { // a batch, which is the operation of a client
         chainring_batch* const b = chainring_batch_create(h.map, nullptr);
         const bool made = done(chainring_batch_identify(b, {5, 1, 0})) &&
                           done(chainring_batch_insert(b, text("e"), text("7"))) &&
                           done(chainring_batch_erase(b, text("c"))) &&
                           done(chainring_batch_commit(b, nullptr)) &&
                           done(chainring_batch_identify(b, {5, 1, 0})) &&
                           chainring_batch_commit(b, nullptr) == CHAINRING_REPEATED;
         chainring_batch_destroy(b);
         return made;
       },
       {{"map e", "7"}, {"map c", ""}, {"last of the map", "5"}}},
      {[](auto& h) {
         return done(chainring_queue_enqueue_operation(h.orders, {9, 2, 0}, text("order")));
       },
       {{"order order", "1"}, {"last of the orders", "9"}}},
      {[](auto& h) {
         chainring_error e;
         return done(chainring_grow(h.region, "words", 8, &e));
       },
       {{"room", "more"}}},
  };
}

std::unique_ptr<objects> open(media& m, std::string& why, bool fresh = false) {
  auto r = fresh ? region::create_on(join_life(m), {}) : region::open_on(join_life(m), false);
  if (!r) {
    why = r.error().message;
    return nullptr;
  }
  auto all = objects::open(std::move(r).value(), words, topics, jobs, orders);
  if (!all)
    why = all.error().message;
  else if (!(*all)->recovered().clean())
    why = "a crash looks like damage";
  return all ? std::move(all).value() : nullptr;
}

content content_of(objects& all) {
  content found;
  const auto map = all.get<byte_map>("words").value();
  map.for_each([&](const std::string& k, const std::string& v) { found["map " + k] = v; });
  all.get<byte_pairs>("topics").value().for_each(
      [&](const std::string& a, const std::string& b) { found["pair " + a + b] = "1"; });
  auto queue = all.get<byte_queue>("jobs").value();
  std::vector<byte_queue::held> held;
  while (auto next = queue.take()) {
    found["job " + next->value()] = "1";
    held.push_back(std::move(*next));
  }
  auto named = all.get<byte_queue>("orders").value();
  if (auto next = named.take()) found["order " + next->value()] = "1";
  if (const auto n = map.last_operation(1); n != 0) found["last of the map"] = std::to_string(n);
  if (const auto n = named.last_operation(2); n != 0)
    found["last of the orders"] = std::to_string(n);
  if (map.capacity() > words.entries) found["room"] = "more";
  return found;
}

/// A scenario in a region that is there: `run` has a handle of it, which a crash ends.
scenario of_c(const std::string& name, std::uint64_t size,
              const std::function<void(chainring_region*, media&, history&)>& run) {
  scenario s;
  s.name = "C: " + name;
  s.size = size;
  s.setup = [](media& m, history& h) {
    std::string why;
    (void)open(m, why, true);
    if (!why.empty()) h.fail(why);
  };
  s.run = [run](media& m, history& h) {
    std::string why;
    auto all = open(m, why);
    if (!why.empty()) return h.fail(why);
    chainring_region* const r = region_of(std::move(all));
    run(r, m, h);
    chainring_abandon(r);
  };
  return s;
}

scenario calls() {
  scenario s = of_c("each call", 192 << 10, [](chainring_region* r, media&, history& h) {
    const handles to{r, chainring_map_get_handle(r, "words", nullptr),
                     chainring_pairs_get_handle(r, "topics", nullptr),
                     chainring_queue_get_handle(r, "jobs", nullptr),
                     chainring_queue_get_handle(r, "orders", nullptr)};
    const auto all_of_them = operations();
    for (std::uint64_t i = 0; i < all_of_them.size(); ++i) {
      h.begin(i);
      if (!all_of_them[i].call(to)) h.fail("operation " + std::to_string(i) + " was refused");
      h.ack(i);
    }
  });
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    auto all = open(m, why);
    if (!why.empty()) return "does not open: " + why;
    const content found = content_of(*all);
    const auto value = [](const content& in, const std::string& thing) {
      const auto at = in.find(thing);
      return at == in.end() ? std::string() : at->second;
    };
    std::map<std::string, std::vector<std::string>> may;
    const auto ran = operations();
    for (std::uint64_t i = 0; i < ran.size(); ++i)
      for (const auto& [thing, then] : ran[i].effect) {
        auto& c = may.try_emplace(thing, 1, std::string()).first->second;
        if (h.is_acked(i)) c.clear();
        if (h.begun(i)) c.push_back(then);
      }
    for (const auto& [thing, then] : found)
      if (!may.contains(thing)) return "a ghost: " + thing;
    for (const auto& [thing, values] : may)
      if (std::ranges::find(values, value(found, thing)) == values.end())
        return "not as it was promised: " + thing;
    return {};
  };
  return s;
}

constexpr std::size_t chain_bytes = 5000; // two drains cover 2,048 bytes each, and a third the rest

/// A chain that the program wrote is durable when chainring_chain_persist() returns.
scenario chains() {
  const auto run = [](chainring_region* r, media& m, history& h) {
    chainring_chain c{};
    if (chainring_chain_allocate(r, chain_bytes, &c, 1, nullptr) != CHAINRING_DONE)
      return h.fail("no chain");
    auto* const to = static_cast<std::byte*>(chainring_chain_address(r, c));
    m.write(to, std::string(chain_bytes, 'w').data(), chain_bytes);
    const auto offset = static_cast<std::uint64_t>(to - m.base());
    if (chainring_chain_persist(r, &c, 1) != CHAINRING_DONE) return h.fail("not persisted");
    h.ack(0, offset);
  };
  scenario s = of_c("a chain that is written", 64 << 10, run);
  s.drain_bytes_max = 4096;
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const auto offset = h.value(history::acked, 0);
    if (offset &&
        std::string(chain_bytes, 'w')
                .compare(0, chain_bytes, reinterpret_cast<const char*>(m.base() + *offset),
                         chain_bytes) != 0)
      return "the bytes of the chain are not there";
    return {};
  };
  return s;
}

const scenario_list all = {calls, chains};

explorer_options options() {
  return bounds({.seed = seed_from_environment(1),
                 .states_max = 32,
                 .sample = true,
                 .second_lives = 1,
                 .second_points = 20,
                 .second_states_max = 4},
                {.seed = seed_from_environment(1), .second_lives = 1, .second_states_max = 16});
}

TEST(CCrash, ALongChainIsMadeDurableInPiecesThatADrainCovers) {
  region_options o;
  auto narrow = std::make_unique<small_drains>(256 << 10, 4096);
  const small_drains& m = *narrow;
  auto all = objects::open(region::create_on(std::move(narrow), o).value(), words);
  ASSERT_TRUE(all) << all.error().message;
  chainring_region* const r = region_of(std::move(all).value());
  chainring_chain c{};
  ASSERT_EQ(chainring_chain_allocate(r, 20'000, &c, 1, nullptr), CHAINRING_DONE);
  EXPECT_EQ(chainring_chain_persist(r, &c, 1), CHAINRING_DONE);
  EXPECT_LE(m.most, m.limit);
  EXPECT_EQ(chainring_chain_release(r, &c, 1), CHAINRING_DONE);
  chainring_abandon(r);
}

TEST(CCrash, AChangeThatAFailedMediumDoesNotKeepIsSaid) {
  auto failing = std::make_unique<failing_media>(256 << 10);
  failing_media& m = *failing;
  auto all = objects::open(region::create_on(std::move(failing), {}).value(), words, topics, jobs);
  ASSERT_TRUE(all) << all.error().message;
  chainring_region* const r = region_of(std::move(all).value());
  chainring_map* const map = chainring_map_get_handle(r, "words", nullptr);
  chainring_pairs* const pairs = chainring_pairs_get_handle(r, "topics", nullptr);
  EXPECT_EQ(chainring_map_insert(map, text("a"), text("1")), CHAINRING_DONE);
  m.broken = true;
  EXPECT_EQ(chainring_map_insert(map, text("b"), text("1")), CHAINRING_FAILED);
  EXPECT_EQ(chainring_map_erase(map, text("a")), CHAINRING_FAILED);
  EXPECT_EQ(chainring_map_erase(map, text("none")), CHAINRING_MISSING);
  chainring_change c{CHAINRING_CHANGE_INSERT, 0, text("c"), text("1")};
  EXPECT_EQ(chainring_map_apply(map, &c, 1), 0u);
  EXPECT_EQ(c.status, CHAINRING_FAILED);
  EXPECT_EQ(chainring_pairs_insert(pairs, text("a"), text("b")), CHAINRING_FAILED);
  EXPECT_EQ(chainring_queue_enqueue(chainring_queue_get_handle(r, "jobs", nullptr), text("x")),
            CHAINRING_FAILED);
  chainring_abandon(r);
}

TEST(CCrash, WhatACallHasReturnedForIsThere) {
  expect_all_hold(all, options());
}

TEST(CCrash, EveryCallOfTheLibraryIsNeeded) {
  mutation_options m;
  m.under = {"lib/c/"};
  const std::string own = "opens or closes a medium of its own, which the explorer does not see";
  m.stay = {
      {"objects::open_or_create(std::move(o), std::move(wanted));", own},
      {"region->all->close();", own},
      {"r.wait(r.mark())", "the scenarios hold no marks; wait() is the medium's own"},
      {"b.commit();", "the destruction of the batch would commit it too"},
      {"m.drain(); // in pieces",
       "the last drain covers the same lines, where the medium can cover so many; "
       "ALongChainIsMadeDurableInPiecesThatADrainCovers needs it"},
      {"return handle_or_null<chainring_region>(error, ", own},
      {"return guarded(error, fn, [](chainring_status) -> Handle*", own},
      {"const std::unique_ptr<chainring_region> gone(region); | "
       "return guarded(error, [&] {",
       own},
      {"return 0; | }", "the batch is empty when it goes"},
      {"c.status = status_of(b.", "the batch commits here where it must; crash_map shows that"}};
  expect_calls_needed(all, options(), m);
}

} // namespace
} // namespace chainring::test
