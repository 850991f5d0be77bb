// SPDX-License-Identifier: BSD-3-Clause
/// The durable map is crashed at every point of its changes, while a reader looks every key up
/// after every step. The same scenarios run with each seeded bug and with each flush and drain
/// switched off, and must find all of these.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <semaphore>
#include <thread>
#include <utility>

#include "base/hook.h"
#include "crash_world.h"
#include "region/recovery.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

scenario inserts() {
  return map_scenario("insert", [](map_world& w) {
    w.insert(0, 8);
    w.insert(1, 16);
    w.insert(2, 11);
  });
}
scenario updates() {
  return map_scenario("update and upsert", [](map_world& w) {
    w.insert(0, 16);
    w.update(0, 8);
    w.update(0, 16);
    w.upsert(0, 12);
    w.upsert(1, 9);
    w.upsert(1, 16);
  });
}
scenario erases() {
  return map_scenario("erase, and the cell again", [](map_world& w) {
    w.insert(0, 16);
    w.insert(1, 8);
    w.erase(0);
    w.insert(2, 13);
    w.erase(2);
    w.insert(0, 9);
    w.erase(1);
    w.erase(0);
    w.insert(1, 16);
  });
}
scenario long_values() {
  return map_scenario("long keys and values", [](map_world& w) {
    w.insert(0, 100);
    w.insert(3, 8);
    w.update(0, 70);
    w.update(0, 16);
    w.insert(4, 130);
    w.update(4, 64);
    w.erase(4);
    w.update(0, 200);
    w.upsert(3, 17);
    w.erase(3);
    w.insert(1, 128);
  });
}
scenario batches() {
  return map_scenario("batches of several keys", [](map_world& w) {
    w.batch({{{'i', 0, 8}, {'i', 1, 16}, {'i', 2, 9}}});
    w.batch({{{'u', 0, 16}, {'e', 1}, {'s', 2, 8}}}, map_world::end::callers_drain);
    w.batch({{{'i', 1, 12}, {'e', 0}}}, map_world::end::destroyed);
    w.insert(0, 10);
  });
}
scenario long_batches() {
  return map_scenario("batches with chains", [](map_world& w) {
    w.batch({{{'i', 0, 100}, {'i', 3, 8}, {'i', 1, 8}}});
    w.batch({{{'u', 0, 65}, {'e', 3}}, {{'u', 1, 20}, {'i', 4, 17}}});
    w.batch({{{'e', 4}, {'u', 0, 8}, {'u', 1, 130}}});
    w.batch({{{'i', 3, 64}, {'i', 4, 64}}}, map_world::end::callers_drain);
  });
}
scenario second_changes() {
  return map_scenario("a second change of a key in a batch", [](map_world& w) {
    w.batch({{{'i', 0, 8}, {'u', 0, 16}}});
    w.batch({{{'u', 0, 9}, {'u', 0, 16}, {'u', 0, 8}}});
    w.batch({{{'e', 0}, {'i', 0, 12}}});
    w.batch({{{'s', 1, 100}, {'u', 1, 40}, {'e', 1}}});
    w.batch({{{'u', 0, 16}}, {{'e', 0}}});
  });
}
scenario other_calls() {
  return map_scenario("compare_exchange, update_in_place, retain", [](map_world& w) {
    w.insert(0, 16);
    w.compare_exchange(0, 8);
    w.update_in_place(0);
    w.insert(1, 100);
    w.update_in_place(1);
    w.compare_exchange(1, 12);
    w.insert(3, 40);
    w.retain(0b00010);
    w.insert(0, 90);
  });
}
scenario edits() {
  return map_scenario("alter, erase_if", [](map_world& w) {
    w.alter(0, 16);
    w.alter(1, 100);
    w.alter(0, 9);
    w.alter(3, 70);
    w.alter(0, 0);
    w.erase_if(1);
    w.alter(3, 12);
    w.alter(0, 130);
    w.erase_if(3);
  });
}
/// Recovery does not want some entries, and their cells and chains are used again.
scenario unwanted_by(const std::string& name, const map_recoverer& recover_by) {
  scenario s = map_scenario(
      name,
      [](map_world& w) {
        w.insert(0, 130);
        w.insert(1, 130);
        w.update(0, 12);
        w.insert(2, 60);
      },
      true, 0, recover_by);
  s.setup = [](media& m, history&) {
    opened_map map(m, crash_layout());
    for (unsigned k : {first_unwanted, first_unwanted + 1})
      map->insert(bytes_of(key_text(k)), bytes_of(value_text(change_id(k, 1), 190)));
  };
  return s;
}
scenario unwanted() {
  return unwanted_by("records of an incarnation that ended", {});
}
/// The recovery driver runs the part of the map, as it does for every region.
scenario recovered_by_driver() {
  return unwanted_by("recovered as a part of a region",
                     [](media& m, block_store& blocks, durable_map& map, const map_filter& wanted) {
                       map_recovery found;
                       recovery all;
                       all.add(blocks.part());
                       all.add(map.part("map", wanted, &found));
                       const auto done = all.run(m);
                       CHAINRING_ASSERT(done.ok());
                       return found;
                     });
}
/// Recovery asks for the key alone, or for nothing.
map_recovery recover_by_key(media& m, block_store& blocks, durable_map& map,
                            const std::function<bool(std::span<const std::byte>)>& wanted) {
  blocks.begin_recovery();
  map.persist_as_read();
  m.drain();
  map_recovery found = map.recover(wanted);
  m.drain();
  blocks.finish_recovery();
  return found;
}
scenario unwanted_keys() {
  return unwanted_by("keys of an incarnation that ended",
                     [](media& m, block_store& blocks, durable_map& map, const map_filter& wanted) {
                       return recover_by_key(m, blocks, map, [&](std::span<const std::byte> key) {
                         return wanted(key, {});
                       });
                     });
}

/// Two cells have one key. Recovery gives one of them up for good: when the key is erased from the
/// other cell, it must not come back with the value that it once had.
scenario key_in_two_cells() {
  constexpr int gone = history::first_own_kind;
  static const map_layout layout = [] {
    map_layout l = crash_layout();
    l.recover_by = [](media& m, block_store& blocks, durable_map& map, const map_filter&) {
      return recover_by_key(m, blocks, map, {});
    };
    return l;
  }();
  scenario s;
  s.name = "map: a key in two cells";
  s.size = layout.size();
  s.setup = [](media& m, history& h) {
    opened_map map(m, layout);
    if (map->insert(bytes_of("other"), bytes_of("before")) != map_status::done ||
        map->insert(bytes_of("key"), bytes_of("now")) != map_status::done)
      return h.fail("refused");
    // The cell of the other key gets this key, and a check that fits.
    map_cell c = *map.cell(0);
    map_word0 w = map_word0::unpack(c.state);
    w.key_size = map_word0::unpack(map.cell(1)->state).key_size;
    std::copy_n(map.cell(1)->key, 3, c.key);
    w.check = map_check(0, w, c.key, c.value[w.half]);
    for (int i = 0; i < 3; ++i)
      m.store(&map.cell(0)->key[i], c.key[i]);
    m.store(&map.cell(0)->state, w.pack());
  };
  s.run = [](media& m, history& h) {
    opened_map map(m, layout);
    if (map.recovered.damaged != 1) return h.fail("the second cell was not noticed");
    if (map->erase(bytes_of("key")) != map_status::done) return h.fail("refused");
    h.promise(gone, 0);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const opened_map map(m, layout);
    const std::string text = map.text("key");
    if (text != "(none)" && text != "now") return "a value from before: " + text;
    if (h.has(gone, 0) && text != "(none)") return "an erased key is back";
    return {};
  };
  return s;
}

scenario growth() {
  return map_scenario(
      "single changes while the index grows",
      [](map_world& w) {
        w.insert(0, 8);
        w.insert(1, 16);
        w.update(0, 100);
        w.insert(2, 9);
        w.erase(1);
        w.insert(3, 40);
        w.insert(4, 12);
        w.update(2, 16);
        w.insert(1, 8);
        w.erase(0);
      },
      false, 1);
}
scenario growing_batches() {
  return map_scenario(
      "batches while the index grows",
      [](map_world& w) {
        w.batch({{{'i', 0, 8}, {'i', 1, 16}}});
        w.batch({{{'u', 0, 16}, {'i', 2, 9}}, {{'e', 1}, {'i', 3, 70}}},
                map_world::end::callers_drain);
        w.batch({{{'i', 4, 12}, {'i', 1, 8}, {'u', 2, 65}, {'e', 0}}});
        w.batch({{{'i', 0, 100}, {'u', 0, 8}}}, map_world::end::destroyed);
      },
      false, 1);
}

scenario bursts() {
  return map_scenario("staged changes in the caller's bursts", [](map_world& w) {
    w.burst({{'s', 0, 8}, {'s', 1, 16}, {'s', 2, 9}});
    w.burst({{'s', 0, 16}, {'e', 1}, {'s', 2, 70}});
    w.burst({{'s', 0, 100}, {'s', 3, 8}, {'s', 4, 17}});
    w.burst({{'s', 0, 9}, {'s', 0, 12}, {'e', 3}});
    w.burst({{'e', 0}, {'s', 0, 65}, {'e', 4}});
  });
}
scenario growing_bursts() {
  return map_scenario(
      "staged changes while the index grows",
      [](map_world& w) {
        w.burst({{'s', 0, 8}, {'s', 1, 70}});
        w.burst({{'s', 2, 9}, {'e', 0}, {'s', 3, 12}});
        w.burst({{'s', 4, 12}, {'s', 1, 8}, {'s', 0, 16}});
      },
      false, 1);
}

scenario beside_batches() {
  return map_scenario("single changes while a batch is open", [](map_world& w) {
    using text = const std::string&;
    w.insert(1, 12);
    w.inside_a_batch({'s', 0, 16}, 8, [](durable_map& m, text k, text, text v) {
      return m.update(bytes_of(k), bytes_of(v));
    });
    w.inside_a_batch({'s', 0, 12}, 9, [](durable_map& m, text k, text, text v) {
      return m.upsert(bytes_of(k), bytes_of(v));
    });
    w.inside_a_batch({'s', 0, 12}, 100, [](durable_map& m, text k, text before, text v) {
      return m.compare_exchange(bytes_of(k), bytes_of(before), bytes_of(v));
    });
    w.inside_a_batch({'s', 0, 16}, 16, [](durable_map& m, text k, text, text v) {
      return m.update_in_place(bytes_of(k), [&](std::span<std::byte> value) {
        std::memcpy(value.data(), v.data(), v.size());
      });
    });
    w.inside_a_batch({'s', 0, 13}, 0,
                     [](durable_map& m, text k, text, text) { return m.erase(bytes_of(k)); });
    w.insert(0, 8);
    w.inside_a_batch({'e', 0}, 11, [](durable_map& m, text k, text, text v) {
      return m.insert(bytes_of(k), bytes_of(v));
    });
  });
}
scenario waiting_batches() {
  return map_scenario("batches of two threads that want one key", [](map_world& w) {
    w.insert(0, 8);
    w.insert(1, 9);
    w.insert(2, 16);
    w.beside_a_batch({'s', 1, 12}, [&] { w.batch({{{'s', 0, 16}, {'s', 1, 10}}}); });
    // The walk has erased other keys when it comes to the one that is held.
    w.beside_a_batch({'s', w.last_of_walk(), 12}, [&] { w.retain(0); });
  });
}

/// Has more keys than a batch takes, in a map of its own.
scenario full_batches() {
  constexpr unsigned many = durable_map::batch::changes_max + 2;
  static const map_layout layout{.cells = many + 2};
  constexpr int gone = history::first_own_kind;
  scenario s;
  s.name = "map: more changes than a batch takes";
  s.size = layout.size();
  static constexpr auto name = [](std::uint64_t i) { return "key " + std::to_string(i); };
  s.run = [](media& m, history& h) {
    opened_map map(m, layout);
    {
      durable_map::batch b(*map);
      for (unsigned i = 0; i < many; ++i) {
        h.begin(i);
        if (b.insert(bytes_of(name(i)), bytes_of(name(i))) != map_status::done) h.fail("refused");
        // The batch was full, and so what it held is durable and can be seen.
        if (i == durable_map::batch::changes_max) h.ack(0);
      }
    }
    h.ack(many - 1);
    h.promise(gone, 0);
    map->retain([](auto, auto) { return false; });
    h.promise(gone, 1);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    opened_map map(m, layout);
    unsigned found = 0, lost = 0;
    const unsigned promised = h.has(gone, 0)         ? 0
                              : h.is_acked(many - 1) ? many
                              : h.is_acked(0)        ? durable_map::batch::changes_max
                                                     : 0;
    for (unsigned i = 0; i < many; ++i) {
      const std::string text = map.text(name(i));
      if (text != "(none)" && text != name(i)) return "torn: " + name(i);
      if (text != "(none)" && !h.begun(i)) return "ghost: " + name(i);
      lost += text == "(none)" && i < promised;
      found += text != "(none)";
    }
    if (lost != 0) return "lost: " + std::to_string(lost) + " keys";
    if (h.has(gone, 1) && found != 0) return "erased keys are back";
    return {};
  };
  return s;
}

/// Has values longer than what one drain of the medium may cover.
scenario long_chains() {
  scenario s = map_scenario("chains longer than a drain", [](map_world& w) {
    w.insert(0, 200);
    w.batch({{{'u', 0, 190}, {'i', 1, 180}}});
  });
  s.drain_bytes_max = 512;
  return s;
}

/// A counter that single calls and batches change one step after the other. The number of a step in
/// the history is its place in `values`.
scenario counters() {
  static constexpr std::uint64_t none = 0, values[] = {none, 3,  4,  2,  none, 20, 21,   22, 23,
                                                       21,   24, 25, 26, 27,   28, none, 5};
  static const map_layout layout = crash_layout(1);
  scenario s;
  s.name = "map: a counter";
  s.size = layout.size();
  s.run = [](media& m, history& h) {
    opened_map map(m, layout);
    const std::string key = "counter";
    const auto k = bytes_of(key);
    std::uint64_t at = 0;
    const auto begin = [&](auto&& change) {
      h.begin(++at);
      if (change() != map_status::done) h.fail("step " + std::to_string(at) + " was refused");
    };
    const auto step = [&](auto&& change) {
      begin(change);
      h.ack(at);
    };
    // The second change of a key in a batch makes the first one durable.
    const auto twice_in_a_batch = [&](auto&& change) {
      durable_map::batch b(*map);
      begin([&] { return b.upsert(k, bytes_of(values[at])); });
      begin([&] { return change(b); });
      h.ack(at - 1);
      b.commit();
      h.ack(at);
    };
    const auto set = [](std::uint64_t to) {
      return [to](map_edit& e) {
        e.assign(bytes_of(to));
        return map_status::done;
      };
    };
    step([&] { return map->increment(k, 3); });
    step([&] { return map->increment(k); });
    step([&] { return map->decrement(k, 2); });
    step([&] { return map->decrement(k, 2); });
    step([&] { return map->alter(k, set(20)); });
    twice_in_a_batch([&](auto& b) { return b.increment(k); });
    twice_in_a_batch([&](auto& b) { return b.decrement(k, 2); });
    twice_in_a_batch([&](auto& b) { return b.alter(k, set(25)); });
    twice_in_a_batch([&](auto& b) {
      return b.update_in_place(k, [](std::span<std::byte> v) { v[0] = std::byte{27}; });
    });
    twice_in_a_batch(
        [&](auto& b) { return b.erase_if(k, [](auto v) { return v[0] != std::byte{0}; }); });
    step([&] { return map->increment(k, 5); });
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const opened_map map(m, layout);
    std::uint64_t now = none, first = 0, last = 0;
    if (auto v = map->get(bytes_of("counter"))) std::memcpy(&now, v->bytes.data(), sizeof now);
    for (std::uint64_t i = 1; i < std::size(values); ++i) {
      if (h.is_acked(i)) first = i;
      if (h.begun(i)) last = i;
    }
    if (std::find(values + first, values + last + 1, now) != values + last + 1) return {};
    return "the counter is " + std::to_string(now) + " after step " + std::to_string(first);
  };
  return s;
}

const scenario_list all = {inserts,        updates,          erases,
                           long_values,    batches,          long_batches,
                           second_changes, other_calls,      unwanted,
                           growth,         growing_batches,  bursts,
                           growing_bursts, beside_batches,   waiting_batches,
                           full_batches,   long_chains,      recovered_by_driver,
                           unwanted_keys,  key_in_two_cells, edits,
                           counters};

/// Which keys share a home follows from the seed of the map's hash, and with it whether a batch has
/// changes when it waits for a key: with seeds 78, 168 and 186 of the first 260, three keys share a
/// home, and the commits in front of such waits are not reached.
[[maybe_unused]] const bool seed_is_fixed =
    (set_fixed_seed(std::mt19937_64(seed_from_environment(1))()), true);

/// At the gate the bounds in which EveryFlushAndDrainIsNeeded finds every call that is left out;
/// .ci/soak takes larger ones.
explorer_options options() {
  explorer_options o;
  o.seed = seed_from_environment(1);
  o.second_lives = 3;
  o.second_states_max = 64;
  explorer_options gate = o;
  gate.states_max = 512;
  gate.second_states_max = 16;
  return bounds(gate, o);
}

TEST(MapCrash, NothingIsLostTornOrDoubled) {
  expect_all_hold(all, options());
}

TEST(MapCrash, SeededBugsAreFound) {
  expect_bugs_found({"map.two_undrained", "map.overwrite_active", "map.free_early",
                     "map.commit_before_chains", "map.release_early", "map.publish_undrained",
                     "map.recover_unread", "map.move_gap", "map.move_by_old_size"},
                    all, options());
}

TEST(MapCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/map/"};
  m.stay = {{"[cells-erased-in-pieces]",
             "recovery drains the same lines once more at its end; this drain is for media that "
             "cannot cover so many lines with one drain"},
            {"return fn(one); ", "a batch of one has nothing to commit before its change"},
            {"return start(key, false, out,", "an erase has no chains to flush"}};
  explorer_options o = options(); // a missing call shows in a few of the states
  o.states_max = 512;
  o.second_states_max = 16;
  expect_calls_needed(all, o, m);
}

} // namespace
} // namespace chainring::test
