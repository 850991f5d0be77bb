// SPDX-License-Identifier: BSD-3-Clause
/// The batches of the durable map that are atomic as a whole, crashed at every point: at no crash
/// and for no reader there is a part of a batch. The map is changed in steps, each of which is a
/// single change or a batch; after a crash it is what it was behind one of the steps that were not
/// acknowledged, or behind the last that was.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/hook.h"
#include "crash_world.h"
#include "region/recovery.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

/// The kinds of promises beside those of crash_world.h.
enum batch_kinds : int {
  step_seen = history::first_own_kind + 8, ///< id: a lookup found the keys as behind this step
  step_found,                              ///< id: recovery did
};

/// Keys 0 to 4 are changed by the thread of the scenario, 5 and 6 by another one, whose steps have
/// an order of their own.
constexpr unsigned batch_keys = 7, lanes = 2;
constexpr unsigned lane_of(unsigned key) {
  return key < keys ? 0 : 1;
}
constexpr std::uint64_t lane_base = 1'000'000, life_base = 1'000;

struct change {
  char what; ///< 'i' insert, 's' upsert, 'e' erase
  unsigned key;
  std::uint64_t length = 0;
};
/// A single call with one change, or a batch.
struct step {
  std::vector<change> changes;
  bool batch = false;
  map_status refused = map_status::done; ///< what a batch returns that is not made
};
using steps = std::vector<step>;

/// The steps of a life behind a crash. They take cells, blocks and keys that were given up before.
const steps& later() {
  static const steps all = {
      {{{'s', 0, 130}, {'s', 2, 12}, {'e', 1}}, true},
      {{{'s', 2, 9}}},
      {{{'s', 1, 8}}},
      {{{'e', 0}, {'s', 3, 8}}, true},
  };
  return all;
}

/// The other thread makes its changes while the batch of the first has its claims, so its keys
/// share none of them. An index for eight keys has eight homes, and so many claims.
std::string key_in_batch(unsigned key) {
  if (key < keys) return key_text(key);
  static const auto others = [] {
    const auto claim = [](const std::string& text) {
      return hash_bytes(bytes_of(text), fixed_seed()) % 8;
    };
    std::array<std::string, batch_keys - keys> names;
    unsigned found = 0;
    for (unsigned i = 0; found != names.size(); ++i) {
      const std::string name = "other " + std::to_string(i);
      bool shares = false;
      for (unsigned k = 0; k < keys; ++k)
        shares |= claim(key_text(k)) == claim(name);
      if (!shares) names[found++] = name;
    }
    return names;
  }();
  return others[key - keys];
}
std::string value_of(std::uint64_t id, const change& c) {
  return value_text(change_id(c.key, id), c.length);
}

using contents = std::array<std::string, batch_keys>; ///< by key; empty: missing
struct candidate_state {
  std::uint64_t id; ///< of the last step
  contents now;
};

struct plan {
  std::array<steps, lanes> first;
  std::uint64_t room = 0; ///< keys for which the index has room at first
  map_layout layout() const {
    map_layout l;
    l.cells = 8;
    l.blocks = 24;
    l.first = room;
    return l;
  }
  [[nodiscard]] const step& of(std::uint64_t id) const {
    const std::uint64_t n = id % lane_base;
    const steps& all = n < life_base ? first[id / lane_base] : later();
    return all[n % life_base - 1];
  }
  /// Returns what the keys of a lane may be after a crash, oldest first.
  [[nodiscard]] std::vector<candidate_state> candidates(const history& h, unsigned lane) const {
    std::vector<candidate_state> all = {{lane * lane_base, {}}};
    for (const history::entry& e : h.entries()) {
      if (e.id / lane_base != lane) continue;
      if (e.kind == history::begun_kind) {
        candidate_state next{e.id, all.back().now};
        for (const change& c : of(e.id).changes)
          next.now[c.key] = c.what == 'e' ? "" : value_of(e.id, c);
        all.push_back(std::move(next));
        continue;
      }
      const auto at = std::ranges::find(all, e.id, &candidate_state::id);
      if (at != all.end()) all.erase(all.begin(), at);
      if (e.kind == step_found) all.resize(1);
    }
    return all;
  }
};

contents read_all(const opened_map& map) {
  return map->read_together([&] {
    contents now;
    for (unsigned k = 0; k < batch_keys; ++k) {
      const std::string text = map.text(key_in_batch(k));
      if (text != "(none)") now[k] = text;
    }
    return now;
  });
}

/// Returns the first of these that the keys of the lane are as in, or null.
const candidate_state* find(const std::vector<candidate_state>& all, const contents& now,
                            unsigned lane) {
  for (const candidate_state& c : all) {
    bool same = true;
    for (unsigned k = 0; k < batch_keys; ++k)
      same &= lane_of(k) != lane || c.now[k] == now[k];
    if (same) return &c;
  }
  return nullptr;
}
std::string words_of(const contents& now) {
  std::string text;
  for (unsigned k = 0; k < batch_keys; ++k)
    text += " key " + std::to_string(k) + ": " +
            (now[k].empty() ? "none" : std::to_string(id_of(now[k]) & 0xffff'ffff)) + ";";
  return text;
}

class batch_world {
 public:
  batch_world(media& medium, history& promises, const plan& of, const map_recoverer& by = {})
      : plan_(of), map_(medium, with(of.layout(), by)), m_(medium), h_(promises) {
    if (!map_.recovered.notes.empty()) h_.fail("damage: " + map_.recovered.notes.front());
    look(step_found);
    set_hook(
        [](const char* name, void* self) noexcept {
          auto& world = *static_cast<batch_world*>(self);
          if (std::strncmp(name, "map.publish", 11) == 0) return; // its readers wait
          if (std::strncmp(name, "map.", 4) != 0) return;
          world.look(step_seen);
          world.at_hook(name);
        },
        this);
  }
  ~batch_world() {
    map_->settle(); // as a close of the map does
    set_hook(nullptr, nullptr);
  }
  batch_world(const batch_world&) = delete;
  batch_world& operator=(const batch_world&) = delete;

  void run(const steps& all, unsigned lane = 0) {
    std::uint64_t id = lane * lane_base + life_base * static_cast<std::uint64_t>(h_.crashes());
    for (const step& s : all) {
      take(s, ++id);
      if (lane == 0) look(step_seen);
    }
  }
  /// The other thread's steps are made at the first hook of that name.
  const char* other_at = nullptr;
  /// Single changes are staged.
  bool staged = false;

 private:
  static map_layout with(map_layout l, const map_recoverer& by) {
    l.recover_by = by;
    return l;
  }
  void at_hook(const char* name) {
    if (other_at == nullptr || std::strcmp(name, other_at) != 0) return;
    other_at = nullptr;
    std::thread other([&] { run(plan_.first[1], 1); });
    other.join();
  }

  map_status stage(const change& c, std::uint64_t id) {
    map_change open{};
    const std::string k = key_in_batch(c.key), v = c.what == 'e' ? "" : value_of(id, c);
    const map_status status = c.what == 'e' ? map_->erase_start(bytes_of(k), open)
                                            : map_->upsert_start(bytes_of(k), bytes_of(v), open);
    if (status != map_status::done) return status;
    map_->change_flush(open);
    m_.drain();
    map_->change_finish(open);
    return status;
  }

  void take(const step& s, std::uint64_t id) {
    if (s.refused == map_status::done) h_.begin(id);
    map_status status = map_status::done;
    if (s.batch) {
      durable_map::atomic_batch b(*map_);
      for (const change& c : s.changes) {
        const std::string k = key_in_batch(c.key), v = c.what == 'e' ? "" : value_of(id, c);
        (void)(c.what == 'i'   ? b.insert(bytes_of(k), bytes_of(v))
               : c.what == 's' ? b.upsert(bytes_of(k), bytes_of(v))
                               : b.erase(bytes_of(k)));
      }
      status = b.commit();
    } else if (staged) {
      status = stage(s.changes.front(), id);
    } else {
      const change& c = s.changes.front();
      const std::string k = key_in_batch(c.key), v = c.what == 'e' ? "" : value_of(id, c);
      status = c.what == 'i'   ? map_->insert(bytes_of(k), bytes_of(v))
               : c.what == 's' ? map_->upsert(bytes_of(k), bytes_of(v))
                               : map_->erase(bytes_of(k));
    }
    if (status != s.refused) return h_.fail(std::string("a step returned ") + to_string(status));
    if (s.refused == map_status::done) h_.ack(id);
  }

  /// Looks all keys up, and records behind which steps they are as they were found.
  void look(int kind) {
    const contents now = read_all(map_);
    for (unsigned lane = 0; lane < lanes; ++lane) {
      const auto all = plan_.candidates(h_, lane);
      const candidate_state* c = find(all, now, lane);
      if (c == nullptr) return h_.fail("a part of a batch was seen:" + words_of(now));
      if (c != &all.front() || kind == step_found) h_.promise(kind, c->id);
    }
  }

  const plan& plan_;
  opened_map map_;
  media& m_;
  history& h_;
};

verdict check_batches(media& m, const history& h, const plan& p, const map_recoverer& by) {
  map_layout l = p.layout();
  l.recover_by = by;
  map_recovery before; // what check() says about the map, which changes nothing
  {
    auto blocks = block_store::create(m, l.blocks_offset(), l.block_size, l.blocks).value();
    before = durable_map::create(m, 0, l.cells, *blocks).value()->check();
  }
  opened_map map(m, l);
  if (!map.recovered.notes.empty()) return "damage: " + map.recovered.notes.front();
  if (before.entries != map.recovered.entries || before.replayed != map.recovered.replayed ||
      !before.notes.empty())
    return "check() found " + std::to_string(before.entries) + " entries and a batch of " +
           std::to_string(before.replayed) + ", and recovery " +
           std::to_string(map.recovered.entries) + " and " + std::to_string(map.recovered.replayed);
  const contents now = read_all(map);
  for (unsigned lane = 0; lane < lanes; ++lane) {
    const auto all = p.candidates(h, lane);
    if (find(all, now, lane) == nullptr)
      return "the keys are behind no step from " + std::to_string(all.front().id) + " to " +
             std::to_string(all.back().id) + ":" + words_of(now);
  }
  std::uint64_t found = 0, blocks = 0;
  for (unsigned k = 0; k < batch_keys; ++k) {
    if (now[k].empty()) continue;
    ++found;
    const std::size_t key_size = key_in_batch(k).size();
    if (key_size > map_key_inline) blocks += map.blocks->blocks_for(key_size);
    if (now[k].size() > map_value_inline) blocks += map.blocks->blocks_for(now[k].size());
  }
  if (map->len() != found) return "the map counts " + std::to_string(map->len()) + " entries";
  if (map.live_blocks() != blocks)
    return "live blocks: " + std::to_string(map.live_blocks()) +
           ", reachable blocks: " + std::to_string(blocks);
  // No cell and no block is lost, and a batch that takes the rest of the cells is made.
  durable_map::atomic_batch rest(*map);
  for (std::uint64_t i = found; i + 1 < l.cells; ++i)
    (void)rest.insert(bytes_of("more " + std::to_string(i)), bytes_of("short"));
  if (rest.commit() != map_status::done) return "after recovery a batch is refused";
  if (map->insert(bytes_of("last"), bytes_of("short")) != map_status::done)
    return "after a batch a cell is missing";
  if (map->insert(bytes_of("over"), bytes_of("short")) != map_status::full)
    return "after a batch there is a cell too many";
  if (map->retain([](auto, auto) { return false; }) != l.cells)
    return "after recovery retain() did not erase every entry";
  if (map.live_blocks() != 0) return "blocks are live after every entry was erased";
  return {};
}

struct variant {
  const char* other_at = nullptr;
  bool staged = false;
  map_recoverer by = {};
};
scenario batch_scenario(const std::string& name, plan p, const variant& v = {}) {
  scenario s;
  s.name = "batch: " + name;
  s.size = p.layout().size();
  s.setup = [p](media& m, history&) { // at the start no block is zero
    const map_layout l = p.layout();
    auto* words = reinterpret_cast<std::uint64_t*>(m.base() + l.blocks_offset());
    for (std::uint64_t i = 0; i < l.blocks * l.block_size / 8; ++i)
      m.store(&words[i], 0x0101'0101'0101'0101 * (i % 200 + 1));
  };
  s.run = [p, v](media& m, history& h) {
    batch_world w(m, h, p, v.by);
    w.other_at = v.other_at;
    w.staged = v.staged;
    w.run(p.first[0]);
  };
  s.recover_and_check = [p, v](media& m, const history& h) { return check_batches(m, h, p, v.by); };
  s.continue_after = [p, v](media& m, history& h) {
    batch_world w(m, h, p, v.by);
    w.run(later());
  };
  return s;
}

scenario one_after_the_other() {
  return batch_scenario("inserts, replaces and erases, one batch after the other",
                        {{steps{{{{'i', 0, 8}, {'i', 1, 16}, {'i', 2, 9}}, true},
                                {{{'s', 0, 16}, {'e', 1}, {'s', 2, 8}}, true},
                                {{{'i', 1, 12}, {'e', 0}, {'e', 4}}, true},
                                {{{'s', 1, 9}, {'s', 2, 16}}, true},
                                {{{'e', 1}, {'e', 2}, {'i', 0, 8}}, true}},
                          {}}});
}
scenario long_ones() {
  return batch_scenario("long keys and values",
                        {{steps{{{{'i', 0, 100}, {'i', 3, 8}, {'i', 1, 8}}, true},
                                {{{'s', 0, 65}, {'e', 3}, {'i', 4, 17}}, true},
                                {{{'e', 4}, {'s', 0, 8}, {'s', 1, 130}}, true},
                                {{{'s', 1, 70}}},
                                {{{'i', 3, 64}, {'e', 1}}, true}},
                          {}}});
}
scenario single_changes_behind() {
  return batch_scenario("single changes behind a batch",
                        {{steps{{{{'i', 0, 8}, {'i', 1, 16}}, true},
                                {{{'s', 0, 9}}},
                                {{{'s', 0, 16}, {'e', 1}}, true},
                                {{{'i', 1, 12}}},
                                {{{'e', 0}, {'s', 1, 8}, {'i', 2, 8}}, true},
                                {{{'e', 1}}},
                                {{{'i', 0, 13}}}},
                          {}}});
}
/// The values of a key are as before the batch, in every word of the cell: a log that is stored
/// once more would bring the value of the batch back.
scenario back_again() {
  return batch_scenario("the cells of a batch used again",
                        {{steps{{{{'i', 0, 8}, {'i', 1, 8}, {'i', 2, 8}}, true},
                                {{{'e', 0}, {'e', 1}}, true},
                                {{{'i', 3, 12}}},
                                {{{'i', 4, 12}}},
                                {{{'i', 0, 12}, {'e', 2}}, true},
                                {{{'i', 1, 8}}}},
                          {}}});
}
scenario staged_behind() {
  return batch_scenario("staged changes behind a batch",
                        {{steps{{{{'i', 0, 8}, {'i', 1, 16}}, true},
                                {{{'s', 0, 9}}},
                                {{{'s', 2, 8}}},
                                {{{'s', 0, 70}, {'e', 1}}, true},
                                {{{'e', 0}}},
                                {{{'s', 1, 8}}}},
                          {}}},
                        {.staged = true});
}
scenario refused() {
  return batch_scenario("batches that are refused",
                        {{steps{{{{'i', 0, 8}, {'i', 1, 16}}, true},
                                {{{'s', 0, 9}, {'i', 1, 8}}, true, map_status::exists},
                                {{{'s', 0, 2000}, {'i', 2, 8}}, true, map_status::full},
                                {{{'s', 1, 12}}},
                                {{{'e', 0}, {'s', 1, 8}}, true}},
                          {}}});
}
/// The last batch has cells and blocks which the next one needs.
scenario scarce() {
  return batch_scenario("a batch that needs what the last one keeps",
                        {{steps{{{{'i', 0, 300}, {'i', 1, 300}, {'i', 2, 300}}, true},
                                {{{'s', 0, 300}, {'s', 1, 60}}, true},
                                {{{'s', 2, 400}, {'e', 0}}, true},
                                {{{'s', 1, 400}}}},
                          {}}});
}
scenario growing() {
  return batch_scenario("while the index grows",
                        {{steps{{{{'i', 0, 8}}, true},
                                {{{'i', 1, 9}, {'i', 2, 8}}, true},
                                {{{'s', 0, 12}}},
                                {{{'i', 3, 9}, {'e', 0}, {'i', 4, 70}}, true},
                                {{{'i', 0, 8}}}},
                          {}},
                         1});
}
scenario beside(const char* name, const char* at) {
  return batch_scenario(std::string("another thread's changes ") + name,
                        {{steps{{{{'i', 0, 8}, {'i', 1, 16}}, true},
                                {{{'s', 0, 16}, {'e', 1}, {'i', 2, 8}}, true},
                                {{{'s', 2, 9}}}},
                          steps{{{{'s', 5, 12}}}, {{{'s', 6, 70}}}, {{{'e', 5}}}}}},
                        {.other_at = at});
}
scenario beside_log() {
  return beside("before the log is drained", "map.batch.logged");
}
scenario beside_word() {
  return beside("before the log is named", "map.batch.flushed");
}
scenario beside_cells() {
  return beside("while cells are stored", "map.batch.applied");
}
scenario beside_settling() {
  return beside("while a batch is settled", "map.settle.erased");
}
scenario bounded_drains() {
  scenario s = batch_scenario("a medium whose drains are bounded",
                              {{steps{{{{'i', 0, 190}, {'i', 1, 8}, {'i', 3, 8}}, true},
                                      {{{'s', 0, 180}, {'e', 1}, {'i', 2, 8}, {'s', 3, 9}}, true},
                                      {{{'s', 2, 9}}}},
                                {}}});
  s.drain_bytes_max = 512;
  return s;
}
scenario recovered_by_driver() {
  return batch_scenario(
      "recovered as a part of a region",
      {{steps{{{{'i', 0, 8}, {'i', 1, 100}}, true}, {{{'s', 0, 16}, {'e', 1}, {'i', 2, 8}}, true}},
        {}}},
      {.by = [](media& m, block_store& blocks, durable_map& map, const map_filter& wanted) {
        map_recovery found;
        recovery all;
        all.add(blocks.part());
        all.add(map.part("map", wanted, &found));
        const auto done = all.run(m);
        CHAINRING_ASSERT(done.ok());
        return found;
      }});
}

const scenario_list all = {one_after_the_other,
                           long_ones,
                           single_changes_behind,
                           back_again,
                           staged_behind,
                           refused,
                           scarce,
                           growing,
                           beside_log,
                           beside_word,
                           beside_cells,
                           beside_settling,
                           bounded_drains,
                           recovered_by_driver};

/// Which keys share a claim follows from the seed of the map's hash.
[[maybe_unused]] const bool seed_is_fixed =
    (set_fixed_seed(std::mt19937_64(seed_from_environment(1))()), true);

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

TEST(BatchCrash, NoPartOfABatchIsSeenOrLeft) {
  expect_all_hold(all, options());
}

TEST(BatchCrash, SeededBugsAreFound) {
  expect_bugs_found({"map.batch_claims_early", "map.batch_cells_early"}, all, options());
}

TEST(BatchCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/map/atomic_batch.cc", "lib/map/durable_map_replay.cc"};
  m.stay = {{"[log-cells-in-pieces]",
             "the drain that counts covers the same lines; this drain is for media that cannot "
             "cover so many lines with one drain"},
            {"[replayed-in-pieces]",
             "the drain before the log is erased covers the same lines; this drain is for media "
             "that cannot cover so many lines with one drain"}};
  explorer_options o = options();
  o.states_max = 512;
  o.second_states_max = 16;
  expect_calls_needed(all, o, m);
}

} // namespace
} // namespace chainring::test
