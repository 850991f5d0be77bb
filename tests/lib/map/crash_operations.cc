// SPDX-License-Identifier: BSD-3-Clause
/// Changes of a durable map with operation ids, crashed at every point: afterwards resolve() says
/// of each whether it took effect, the keys agree, and a repetition takes effect exactly where the
/// operation had not.
///
/// The program makes a list of operations and does not remember how far it came: in each life it
/// makes all of them again. So what took effect in an earlier life has to be answered `repeated`.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "map_fixture.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

struct operation {
  std::vector<operation_id> ids;
  std::map<std::string, std::string> effect; ///< by key; "": erased
  bool inserts = false;                      ///< the keys are missing before
};
using operations = std::vector<operation>;
using contents = std::map<std::string, std::string>;

const std::string long_value(70, 'v'), long_key(40, 'k');

/// Two clients, whose operations touch the same keys, so that a repetition that took effect would
/// show: no state of the keys comes twice.
const operations& both_clients() {
  static const operations all = {
      {{{1, 5}}, {{"a", "one"}}, true},
      {{{2, 1}}, {{"a", "two"}}},
      {{{1, 6}}, {{"b", long_value}}, true},
      {{{2, 7}}, {{"a", ""}}},
      {{{1, 7}, {2, 8}}, {{"a", "both"}, {"b", ""}, {long_key, "long"}}},
      {{{1, 8}}, {{"a", "three"}, {long_key, ""}}},
      {{{3, 1}}, {{"b", "new client"}}, true},
  };
  return all;
}
/// An operation whose keys no other operation has, and one that changes nothing but its id.
const operations& apart() {
  static const operations all = {
      {{{9, 1}}, {{"a", "one"}}, true},
      {{{9, 2}}, {{"b", "two"}}, true},
      {{{9, 3}}, {{"missing", ""}}},
      {{{9, operation_id::sequence_max}}, {{"a", ""}, {"c", "three"}}},
  };
  return all;
}

map_layout layout() {
  map_layout l;
  l.cells = 9; // three keys, three clients, what the log takes, and what the last batch keeps
  l.blocks = 24;
  return l;
}

map_status make(durable_map& map, const operation& o) {
  if (o.ids.size() == 1 && o.effect.size() == 1) {
    const auto& [key, value] = *o.effect.begin();
    if (value.empty()) return map.erase(o.ids[0], bytes_of(key));
    return o.inserts ? map.insert(o.ids[0], bytes_of(key), bytes_of(value))
                     : map.upsert(o.ids[0], bytes_of(key), bytes_of(value));
  }
  durable_map::atomic_batch b(map);
  for (const operation_id id : o.ids)
    (void)b.identify(id);
  for (const auto& [key, value] : o.effect)
    (void)(value.empty() ? b.erase(bytes_of(key)) : b.upsert(bytes_of(key), bytes_of(value)));
  return b.commit();
}

contents content_of(const opened_map& map) {
  contents found;
  map->for_each([&](auto key, auto) {
    const std::string name(reinterpret_cast<const char*>(key.data()), key.size());
    found[name] = map.text(name);
  });
  return found;
}
void apply(const operation& o, contents& to) {
  for (const auto& [key, value] : o.effect)
    if (value.empty())
      to.erase(key);
    else
      to[key] = value;
}

/// Returns what resolve() has to say of an operation when the first `done` ones took effect.
operation_outcome expected(const operations& all, operation_id id, std::size_t done) {
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < done; ++i)
    for (const operation_id other : all[i].ids)
      if (other.client == id.client) last = other.sequence;
  return outcome_of(id, last);
}

/// Makes all operations, as a program does that was started again.
void run_all(media& m, history& h, const operations& all) {
  opened_map map(m, layout());
  if (!map.recovered.notes.empty()) return h.fail("damage: " + map.recovered.notes.front());
  for (std::uint64_t i = 0; i < all.size(); ++i) {
    if (!h.begun(i)) h.begin(i);
    const map_status s = make(*map, all[i]);
    if (s != map_status::done && (s != map_status::repeated || h.crashes() == 0))
      return h.fail("operation " + std::to_string(i) + " is " + to_string(s));
    if (make(*map, all[i]) != map_status::repeated)
      return h.fail("operation " + std::to_string(i) + " is made twice");
    if (map->resolve(all[i].ids[0]) == operation_outcome::no_effect)
      return h.fail("operation " + std::to_string(i) + " is said to have no effect");
    h.ack(i);
    if (i == 3) map->settle();
  }
  map->settle(); // as a close of the map does
}

verdict check(media& m, const history& h, const operations& all) {
  opened_map map(m, layout());
  if (!map.recovered.notes.empty()) return "damage: " + map.recovered.notes.front();
  std::size_t acked = 0, begun = 0;
  while (acked < all.size() && h.is_acked(acked))
    ++acked;
  while (begun < all.size() && h.begun(begun))
    ++begun;
  // The operations that took effect are the first ones, up to one that was not acknowledged.
  const contents found = content_of(map);
  contents keys;
  std::size_t done = 0;
  for (std::size_t i = 0; i < acked; ++i)
    apply(all[done++], keys);
  const auto agrees = [&] {
    for (const operation& o : all)
      for (const operation_id id : o.ids)
        if (map->resolve(id) != expected(all, id, done)) return false;
    return keys == found && map->len() == keys.size();
  };
  bool fits = agrees();
  for (; !fits && done < begun; fits = agrees())
    apply(all[done++], keys);
  if (!fits)
    return "of " + std::to_string(acked) + " to " + std::to_string(begun) +
           " operations that may have taken effect, the answers and the " +
           std::to_string(found.size()) + " keys fit none";
  for (std::size_t i = 0; i < all.size(); ++i) {
    const map_status s = make(*map, all[i]),
                     wanted = i < done ? map_status::repeated : map_status::done;
    if (s != wanted) return "repeated operation " + std::to_string(i) + " is " + to_string(s);
    if (i >= done) apply(all[i], keys);
    if (content_of(map) != keys)
      return "repeated operation " + std::to_string(i) + " left other keys";
  }
  return {};
}

scenario of(const char* name, const operations& (*all)()) {
  scenario s;
  s.name = std::string("operations: ") + name;
  s.size = layout().size();
  s.run = [all](media& m, history& h) { run_all(m, h, all()); };
  s.recover_and_check = [all](media& m, const history& h) { return check(m, h, all()); };
  s.continue_after = s.run;
  return s;
}
scenario of_both_clients() {
  return of("of two clients on the same keys", both_clients);
}
scenario of_one_client() {
  return of("of one client on keys of its own", apart);
}
const scenario_list all_scenarios = {of_both_clients, of_one_client};

explorer_options options() {
  explorer_options o;
  o.seed = seed_from_environment(1);
  o.second_lives = 2;
  o.second_states_max = 64;
  explorer_options gate = o;
  gate.states_max = 256;
  gate.second_states_max = 16;
  return bounds(gate, o);
}

TEST(OperationCrash, EachTakesEffectOnceAndTheAnswerIsRight) {
  expect_all_hold(all_scenarios, options());
}

TEST(OperationCrash, SeededBugsAreFound) {
  expect_bugs_found({"map.operation_not_recorded", "map.operation_not_asked"}, all_scenarios,
                    options());
}

TEST(OperationCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/map/atomic_batch.cc"};
  m.stay = {{"media_.drain(); // [log-gone-before-reuse]",
             "no scenario here uses cells again behind a settle; those of crash_batches need it"}};
  explorer_options o = options();
  o.states_max = 64;
  o.second_lives = 1;
  o.second_states_max = 4;
  expect_calls_needed(all_scenarios, o, m);
}

} // namespace
} // namespace chainring::test
