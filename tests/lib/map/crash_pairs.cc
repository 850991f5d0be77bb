// SPDX-License-Identifier: BSD-3-Clause
/// Pairs are crashed at every point of their changes, while a reader lists both directions after
/// every step. The same scenarios run with the seeded bug and with each flush and drain switched
/// off, and must find all of these.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "base/hook.h"
#include "map/multimap.h"
#include "map_fixture.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

/// The kinds of promises that a history records about pairs; the id is the pair, and the value 1
/// if it is there.
enum kinds : int {
  seen = history::first_own_kind, ///< a listing showed the pair so, so it is not as before
  settled,                        ///< recovery found it so
};

constexpr unsigned firsts = 2, seconds = 3, pairs_count = firsts * seconds;

map_layout crash_layout() {
  map_layout l;
  l.cells = 5; // fewer than pairs, so that cells are soon used again
  l.blocks = 12;
  return l;
}

/// The second first half makes keys that are too long for a cell.
std::string first_of(unsigned pair) {
  return pair / seconds == 0 ? "client" : "client " + std::string(60, '.');
}
std::string second_of(unsigned pair) {
  return "topic " + std::to_string(pair % seconds);
}

/// Returns the states in which each pair may be found after a crash, oldest first.
std::vector<std::vector<std::pair<std::uint64_t, bool>>> candidates_of(const history& h) {
  std::vector<std::vector<std::pair<std::uint64_t, bool>>> all(pairs_count, {{0, false}});
  const auto from = [](auto& c, auto&& is) {
    const auto first = std::ranges::find_if(c, is);
    if (first != c.end()) c.erase(c.begin(), first); // a later change was seen before the promise
  };
  for (const history::entry& e : h.entries()) {
    auto& c = all[e.id % pairs_count];
    if (e.kind == history::begun_kind)
      c.emplace_back(e.id, e.value != 0);
    else if (e.kind == history::acked)
      from(c, [&](const auto& x) { return x.first == e.id; });
    else
      from(c, [&](const auto& x) { return x.second == (e.value != 0); });
    if (e.kind == settled) c.resize(1);
  }
  return all;
}

using relation = bimap<std::string, std::string>;

/// Which pairs the relation has; nothing, and `why`, where its directions do not agree.
std::vector<bool> listed(const relation& r, std::string& why) {
  std::vector<bool> by_first(pairs_count), by_second(pairs_count);
  for (unsigned p = 0; p < pairs_count; ++p) {
    const auto b = r.get_second(first_of(p));
    const auto a = r.get_first(second_of(p));
    by_first[p] = std::ranges::count(b, second_of(p)) == 1;
    by_second[p] = std::ranges::count(a, first_of(p)) == 1;
    if (b.size() > seconds || a.size() > firsts) why = "a listing has too many pairs";
  }
  if (by_first != by_second) why = "the directions do not agree";
  return by_first;
}

class pairs_world {
 public:
  pairs_world(media& medium, history& promises)
      : map_(medium, crash_layout()), h_(promises),
        sequence_(1000 * static_cast<std::uint64_t>(promises.crashes())) {
    if (!map_.recovered.notes.empty()) h_.fail("damage: " + map_.recovered.notes.front());
    pairs_->rebuild();
    std::string why;
    shown_ = listed(relation_, why);
    if (!why.empty()) h_.fail(why);
    for (unsigned p = 0; p < pairs_count; ++p)
      if (candidates_of(h_)[p].size() > 1) h_.promise(settled, p, shown_[p]);
    set_hook(
        [](const char* name, void* self) noexcept {
          if (std::strncmp(name, "pairs.", 6) != 0 && std::strcmp(name, "map.finished") != 0)
            return;
          static_cast<pairs_world*>(self)->look();
          static_cast<pairs_world*>(self)->map_->trim();
        },
        this);
  }
  ~pairs_world() { set_hook(nullptr, nullptr); }
  pairs_world(const pairs_world&) = delete;
  pairs_world& operator=(const pairs_world&) = delete;

  void change(unsigned pair, bool inserts) {
    const std::uint64_t id = begin(pair, inserts);
    const map_status done = inserts ? relation_.insert(first_of(pair), second_of(pair))
                                    : relation_.erase(first_of(pair), second_of(pair));
    end(id, done);
  }
  /// Changes of a batch: which pair, and whether it is inserted.
  void batch(const std::vector<std::pair<unsigned, bool>>& changes) {
    std::vector<std::uint64_t> ids;
    std::vector<map_status> statuses;
    {
      relation::batch b(relation_);
      for (const auto& [pair, inserts] : changes) {
        ids.push_back(begin(pair, inserts));
        statuses.push_back(inserts ? b.insert(first_of(pair), second_of(pair))
                                   : b.erase(first_of(pair), second_of(pair)));
      }
    }
    for (std::size_t i = 0; i < ids.size(); ++i)
      end(ids[i], statuses[i]);
  }
  void erase_first(unsigned pair) {
    std::vector<std::uint64_t> ids;
    for (unsigned p = 0; p < pairs_count; ++p)
      if (first_of(p) == first_of(pair) && relation_.contains(first_of(p), second_of(p)))
        ids.push_back(begin(p, false));
    if (relation_.erase_first(first_of(pair)) != ids.size()) h_.fail("erase_first() missed pairs");
    for (const std::uint64_t id : ids)
      end(id, map_status::done);
  }

 private:
  std::uint64_t begin(unsigned pair, bool inserts) {
    const std::uint64_t id = ++sequence_ * pairs_count + pair;
    h_.begin(id, inserts);
    return id;
  }
  void end(std::uint64_t id, map_status status) {
    if (status != map_status::done)
      h_.fail("a change of pair " + std::to_string(id % pairs_count) + ": " + to_string(status));
    h_.ack(id);
    look();
  }
  /// Lists everything, and promises what has become visible.
  void look() {
    std::string why;
    const std::vector<bool> now = listed(relation_, why);
    if (!why.empty()) return h_.fail(why);
    for (unsigned p = 0; p < pairs_count; ++p)
      if (now[p] != shown_[p]) h_.promise(seen, p, now[p]);
    shown_ = now;
  }

  opened_map map_;
  history& h_;
  std::uint64_t sequence_;
  std::unique_ptr<durable_pairs> pairs_ = durable_pairs::create(*map_, true).value();
  relation relation_{*pairs_};
  std::vector<bool> shown_;
};

scenario pairs_scenario(const std::string& name, const std::function<void(pairs_world&)>& run) {
  scenario s;
  s.name = "pairs: " + name;
  s.size = align_up(crash_layout().size(), 4096);
  s.run = [run](media& m, history& h) {
    pairs_world w(m, h);
    run(w);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    opened_map map(m, crash_layout());
    if (!map.recovered.notes.empty()) return "damage: " + map.recovered.notes.front();
    const auto pairs = durable_pairs::create(*map, true).value();
    pairs->rebuild();
    std::string why;
    const std::vector<bool> found = listed(relation(*pairs), why);
    if (!why.empty()) return why;
    const auto may = candidates_of(h);
    for (unsigned p = 0; p < pairs_count; ++p) {
      if (relation(*pairs).contains(first_of(p), second_of(p)) != found[p])
        return "contains() and the listings do not agree on pair " + std::to_string(p);
      if (std::ranges::none_of(may[p], [&](const auto& x) { return x.second == found[p]; }))
        return (found[p] ? "a ghost of pair " : "lost pair ") + std::to_string(p);
    }
    const std::uint64_t there = static_cast<std::uint64_t>(std::ranges::count(found, true));
    if (pairs->len() != there || map->len() != there) return "a pair that nobody stored";
    return {};
  };
  s.continue_after = [](media& m, history& h) {
    pairs_world w(m, h);
    w.erase_first(0);
    w.change(0, true);
    w.erase_first(3);
    w.batch({{0, false}, {3, true}});
  };
  return s;
}

scenario one_by_one() {
  return pairs_scenario("insert and erase", [](pairs_world& w) {
    w.change(0, true);
    w.change(3, true);
    w.change(1, true);
    w.change(0, false);
    w.change(4, true);
    w.change(3, false);
    w.change(0, true);
  });
}
scenario in_batches() {
  return pairs_scenario("batches", [](pairs_world& w) {
    w.batch({{0, true}, {1, true}, {2, true}});
    w.batch({{3, true}, {0, false}});
    w.batch({{3, false}, {4, true}, {5, true}});
    w.batch({{1, false}, {1, true}});
    w.batch({{4, false}, {0, true}, {0, false}});
  });
}
/// A batch erases a pair in a full map and then inserts another, for which it must commit first.
scenario in_a_full_map() {
  return pairs_scenario("a batch that makes its own room", [](pairs_world& w) {
    w.batch({{0, true}, {1, true}, {2, true}, {3, true}, {4, true}});
    w.batch({{1, false}, {5, true}, {3, false}});
  });
}
/// More pairs of one half than a batch takes are inserted and erased.
scenario of_several_batches() {
  constexpr std::uint64_t many = durable_pairs::batch::changes_max + 2;
  static const map_layout layout{.cells = 80, .blocks = 8};
  using numbers = multimap<std::uint64_t, std::uint64_t>;
  enum operations : std::uint64_t { inserts, erases };
  scenario s;
  s.name = "pairs: more than a batch takes";
  s.size = align_up(layout.size(), 4096);
  s.run = [](media& m, history& h) {
    const opened_map map(m, layout);
    const auto pairs = durable_pairs::create(*map, false).value();
    pairs->rebuild();
    h.begin(inserts);
    {
      numbers::batch b{numbers(*pairs)};
      for (std::uint64_t i = 0; i < many; ++i)
        if (b.insert(7, i) != map_status::done) return h.fail("a pair was refused");
    }
    h.ack(inserts);
    h.begin(erases);
    if (numbers(*pairs).erase(7) != many) return h.fail("a pair was not erased");
    h.ack(erases);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const opened_map map(m, layout);
    if (!map.recovered.notes.empty()) return "damage: " + map.recovered.notes.front();
    const auto pairs = durable_pairs::create(*map, false).value();
    pairs->rebuild();
    std::vector<std::uint64_t> found = numbers(*pairs).get(7);
    std::ranges::sort(found);
    for (const std::uint64_t i : found)
      if (i >= many) return "a ghost: " + std::to_string(i);
    if (pairs->len() != found.size()) return "a pair of another key";
    if (h.is_acked(inserts) && !h.begun(erases) && found.size() != many) return "lost pairs";
    if (h.is_acked(erases) && !found.empty()) return "pairs that were erased are back";
    return {};
  };
  return s;
}
scenario of_a_half() {
  return pairs_scenario("every pair of a half", [](pairs_world& w) {
    w.batch({{0, true}, {1, true}, {3, true}, {4, true}});
    w.erase_first(3);
    w.erase_first(0);
    w.change(5, true);
  });
}
const scenario_list all = {one_by_one, in_batches, in_a_full_map, of_a_half, of_several_batches};

/// Which keys have one claim, and so where a batch commits early, depends on the seed of the map.
[[maybe_unused]] const bool seed_is_fixed =
    (set_fixed_seed(std::mt19937_64(seed_from_environment(1))()), true);

explorer_options options() {
  return bounds({.seed = seed_from_environment(1),
                 .states_max = 256,
                 .sample = true,
                 .second_lives = 3,
                 .second_states_max = 16},
                {.seed = seed_from_environment(1), .second_lives = 3, .second_states_max = 64});
}

TEST(PairsCrash, NoPairIsLostAndNoneIsThereInOneDirectionOnly) {
  expect_all_hold(all, options());
}

TEST(PairsCrash, SeededBugsAreFound) {
  expect_bugs_found({"pairs.link_undrained"}, all, options());
}

TEST(PairsCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/map/durable_pairs", "lib/map/durable_map_staged"};
  m.stay = {
      {"return start(key, false, out,", "an erase has no chains to flush"},
      {": state_.records.erase_start(", "an erase has no chains to flush"},
      {"if (size_ == changes_max) commit();",
       "in a map of few cells a batch commits before it is full, because two of its pairs have "
       "one claim"},
      {"return one.erase(first, second);",
       "a batch of one has nothing to commit before its change"}};
  expect_calls_needed(all, options(), m);
}

} // namespace
} // namespace chainring::test
