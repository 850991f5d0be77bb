// SPDX-License-Identifier: BSD-3-Clause
/// Regions with named objects are crashed at every point at which objects are made, added, changed
/// and given more room.
#include <gtest/gtest.h>

#include "base/hook.h"
#include "objects/object_map.h"
#include "objects/object_queue.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

using number_map = map<std::uint64_t, std::uint64_t>;
const durable<number_map> first{"first", 4}, second{"second", 3};
constexpr std::uint64_t size = 64 << 10;

enum kinds : int {
  there = history::first_own_kind, ///< id: an object was there when open() returned
  roomy,                           ///< an object had room for so many keys
  seen,                            ///< an entry that open() showed, so that someone may have acted
  closed,                          ///< id 0: close() returned
};
enum objects_of_a_history : std::uint64_t { of_first, of_second };

using opened = std::unique_ptr<objects>;

number_map of(const opened& all, std::uint64_t which) {
  return all->get<number_map>(which == of_first ? first.name : second.name).value();
}

/// Opens the region, or makes it where the medium holds none yet.
opened start(media& m, history& h, bool both) {
  auto r = h.has(there, of_first) ? region::open_on(join_life(m), false)
                                  : region::create_on(join_life(m), {});
  if (!r) r = region::open_on(join_life(m), false);
  if (!r) return h.fail("the region does not open: " + r.error().message), nullptr;
  auto all = both ? objects::open(std::move(r).value(), first, second)
                  : objects::open(std::move(r).value(), first);
  if (!all) return h.fail("the objects do not open: " + all.error().message), nullptr;
  if (!(*all)->recovered().clean()) h.fail("a crash looks like damage");
  h.promise(there, of_first);
  if (both) h.promise(there, of_second);
  for (std::uint64_t which = of_first; which <= (both ? of_second : of_first); ++which)
    of(*all, which).for_each([&](std::uint64_t k, std::uint64_t) { h.promise(seen, k); });
  return std::move(all).value();
}

void grow(const opened& all, history& h, std::uint64_t which) {
  if (auto done = all->grow(which == of_first ? first.name : second.name, 2); !done)
    return h.fail(done.error().message);
  h.promise(roomy, which, of(all, which).capacity());
}

/// Key and value of an entry are its number in the history.
void insert(const opened& all, history& h, std::uint64_t which, std::uint64_t number) {
  const std::uint64_t id = which << 32 | number;
  h.begin(id);
  map_status s = of(all, which).insert(id, id);
  if (s == map_status::full) {
    grow(all, h, which);
    s = of(all, which).insert(id, id);
  }
  if (s != map_status::done) return h.fail("an entry was refused");
  h.ack(id);
}

verdict check(media& m, const history& h) {
  auto r = region::open_on(join_life(m), false);
  if (!r) {
    if (h.has(there, of_first)) return "does not open: " + r.error().message;
    return {};
  }
  // Builds before batches open a closed region, because it has no log of one.
  if (h.has(closed, 0) && !objects::check(**r).problems.empty())
    return "a closed region has the log of a batch";
  const bool both = h.has(there, of_second);
  for (const auto& [which, name] : {std::pair(of_first, first.name), {of_second, second.name}})
    if (h.has(there, which) && !(*r)->root(name)) return "the object '" + name + "' is gone";
  auto all = both ? objects::open(std::move(r).value(), first, second)
                  : objects::open(std::move(r).value(), first);
  if (!all) return "does not open: " + all.error().message;
  if (!(*all)->recovered().clean()) return "a crash looks like damage";
  std::uint64_t ranges = 0;
  for (std::uint64_t which = of_first; which <= (both ? of_second : of_first); ++which) {
    const number_map map = of(*all, which);
    if (map.misfits() != 0) return "an entry that nobody stored";
    std::string wrong;
    map.for_each([&](std::uint64_t k, std::uint64_t v) {
      if (k != v || k >> 32 != which || !h.begun(k)) wrong = "ghost or torn: " + std::to_string(k);
    });
    if (!wrong.empty()) return wrong;
    if (map.capacity() < h.value(roomy, which).value_or(0)) return "room that was added is gone";
    for (const int kind : {static_cast<int>(history::acked), static_cast<int>(seen)})
      for (const std::uint64_t id : h.ids(kind))
        if (id >> 32 == which && !map.contains(id)) return "lost: " + std::to_string(id);
  }
  for (const region_root& root : (*all)->region().roots())
    ranges += (*all)->blocks().blocks_for(root.size);
  if ((*all)->blocks().statistics().live_blocks != ranges)
    return "blocks that nothing names are live";
  return {};
}

/// Makes a region whose blocks hold bytes that look like cells in use, of all kinds.
void used_blocks(media& m, history& h) {
  auto r = region::create_on(join_life(m), {});
  if (!r) return h.fail(r.error().message);
  const region_geometry g = (*r)->geometry();
  auto* words = reinterpret_cast<std::uint64_t*>((*r)->at(g.block_offset));
  for (std::uint64_t i = 0; i < g.block_count * g.block_size / 8; ++i)
    (*r)->medium().store(&words[i], 0x0101'0101'0101'0101 * (i % 200 + 1));
  (*r)->medium().flush(words, g.block_count * g.block_size);
  (*r)->medium().drain();
}

scenario of_objects(const std::string& name, void (*run)(media&, history&)) {
  scenario s;
  s.name = "objects: " + name;
  s.size = size;
  s.run = run;
  s.recover_and_check = check;
  s.continue_after = [](media& m, history& h) {
    const opened all = start(m, h, true);
    if (all == nullptr) return;
    insert(all, h, of_second, 100 + static_cast<std::uint64_t>(h.crashes()));
  };
  return s;
}

scenario made() {
  return of_objects("made, changed and closed", [](media& m, history& h) {
    const opened all = start(m, h, true);
    if (all == nullptr) return;
    insert(all, h, of_first, 1);
    insert(all, h, of_second, 1);
    const std::uint64_t id = of_first << 32 | 2;
    number_map::atomic_batch batch(of(all, of_first));
    h.begin(id);
    (void)batch.insert(id, id);
    if (batch.commit() != map_status::done) return h.fail("a batch was refused");
    h.ack(id);
    if (auto done = all->close(); !done) return h.fail(done.error().message);
    h.promise(closed, 0);
  });
}
scenario added() {
  return of_objects("one is added to the other", [](media& m, history& h) {
    {
      const opened all = start(m, h, false);
      if (all == nullptr) return;
      insert(all, h, of_first, 1);
    }
    const opened all = start(m, h, true);
    if (all == nullptr) return;
    insert(all, h, of_second, 1);
    insert(all, h, of_first, 2);
  });
}
scenario grown() {
  return of_objects("room is added", [](media& m, history& h) {
    const opened all = start(m, h, true);
    if (all == nullptr) return;
    for (std::uint64_t i = 0; i < 3; ++i)
      insert(all, h, of_second, i);
    grow(all, h, of_second);
    for (std::uint64_t i = 3; i < 5; ++i)
      insert(all, h, of_second, i);
  });
}
/// The region has no run of blocks for the room, and grows.
scenario region_grown() {
  scenario s = of_objects("room is added in a region that grows", [](media& m, history& h) {
    const opened all = start(m, h, false);
    if (all == nullptr) return;
    for (std::uint64_t i = 0; i < 400; ++i) {
      const std::uint64_t before = all->region().geometry().size;
      if (auto done = all->grow(first.name, 1); !done) return h.fail(done.error().message);
      h.promise(roomy, of_first, of(all, of_first).capacity());
      if (all->region().geometry().size != before) break;
    }
    insert(all, h, of_first, 1);
  });
  s.size = 20 << 10;
  s.size_max = 1 << 20;
  return s;
}
/// The region has no run of blocks for an object that is added, and grows.
scenario region_grown_for_another() {
  scenario s = of_objects("one is added to a region that grows", [](media& m, history& h) {
    {
      const opened all = start(m, h, false);
      if (all == nullptr) return;
      insert(all, h, of_first, 1);
    }
    auto r = region::open_on(join_life(m), false);
    if (!r) return h.fail("the region does not open: " + r.error().message);
    const std::uint64_t before = (*r)->geometry().size;
    auto all = objects::open(std::move(r).value(), first, durable<number_map>{"wide", 400});
    if (!all) return h.fail("the objects do not open: " + all.error().message);
    if ((*all)->region().geometry().size == before) h.fail("the region has not grown");
    insert(*all, h, of_first, 2);
  });
  s.size = 20 << 10;
  s.size_max = 1 << 20;
  return s;
}
/// The blocks of an object held something before, which must not be taken for entries.
scenario blocks_used_before() {
  scenario s = of_objects("over blocks that were used before", [](media& m, history& h) {
    const opened all = start(m, h, true);
    if (all == nullptr) return;
    insert(all, h, of_first, 1);
  });
  s.setup = used_blocks;
  return s;
}

/// A queue whose entries are messages is made, used, and given more room by an open that asks for
/// more. Its entries are numbered from 1 on, and taken in this order.
struct wide_entry {
  std::uint64_t number, more[2];
};
using wide_queue = queue<wide_entry>;
scenario queue_made_and_grown() {
  static constexpr int done = seen + 1, ending = seen + 2; // number: released, or about to be
  const auto open = [](media& m, history& h, std::uint64_t entries) -> opened {
    auto r = region::open_on(join_life(m), false);
    if (!r) r = region::create_on(join_life(m), {});
    if (!r) return h.fail("the region does not open: " + r.error().message), nullptr;
    auto all = objects::open(std::move(r).value(), durable<wide_queue>{"queue", entries});
    if (!all) return h.fail("the queue does not open: " + all.error().message), nullptr;
    if (!(*all)->recovered().clean()) h.fail("a crash looks like damage");
    h.promise(there, of_first);
    return std::move(all).value();
  };
  const auto put = [](const opened& all, history& h, std::uint64_t number) {
    h.begin(number);
    if (all->get<wide_queue>("queue").value().enqueue({number, {number, ~number}}) !=
        queue_status::done)
      return h.fail("an entry was refused");
    h.ack(number);
  };
  scenario s;
  s.name = "objects: a queue, and more room for it";
  s.size = 36 << 10; // the open that asks for more makes the region larger
  s.size_max = 1 << 20;
  s.setup = used_blocks;
  s.run = [=](media& m, history& h) {
    {
      const opened all = open(m, h, 2);
      if (all == nullptr) return;
      put(all, h, 1);
      put(all, h, 2);
      auto next = all->get<wide_queue>("queue").value().take();
      if (!next || next->value().number != 1) return h.fail("the first entry is not the first");
      h.promise(ending, 1);
      if (next->done() != queue_status::done) return h.fail("an entry could not be ended");
      h.promise(done, 1);
    }
    const opened all = open(m, h, 4);
    if (all == nullptr) return;
    for (std::uint64_t i = 3; i < 5; ++i)
      put(all, h, i);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    auto r = region::open_on(join_life(m), false);
    if (!r) {
      if (h.has(there, of_first)) return "does not open: " + r.error().message;
      return {};
    }
    auto all = objects::open(std::move(r).value(), durable<wide_queue>{"queue", 4});
    if (!all) return "does not open: " + all.error().message;
    if (!(*all)->recovered().clean()) return "a crash looks like damage";
    std::uint64_t last = 0;
    std::vector<bool> found(8);
    std::vector<wide_queue::held> kept; // none is ended, because this is crashed and repeated too
    while (auto next = (*all)->get<wide_queue>("queue").value().take()) {
      const wide_entry e = next->value();
      if (e.number >= found.size() || e.more[0] != e.number || e.more[1] != ~e.number ||
          !h.begun(e.number))
        return "an entry that nobody put in: " + std::to_string(e.number);
      if (e.number <= last || h.has(done, e.number))
        return "again, or out of order: " + std::to_string(e.number);
      found[e.number] = true;
      last = e.number;
      kept.push_back(std::move(*next));
    }
    for (std::uint64_t n = 1; n < found.size(); ++n)
      if (h.is_acked(n) && !found[n] && !h.has(ending, n)) return "lost: " + std::to_string(n);
    return {};
  };
  return s;
}

const scenario_list all = {made,
                           added,
                           grown,
                           region_grown,
                           region_grown_for_another,
                           blocks_used_before,
                           queue_made_and_grown};

explorer_options options() {
  return bounds({.seed = seed_from_environment(1),
                 .states_max = 24,
                 .sample = true,
                 .second_lives = 2,
                 .second_points = 60,
                 .second_states_max = 8},
                {.seed = seed_from_environment(1), .second_lives = 2, .second_states_max = 32});
}

TEST(ObjectsCrash, NoObjectIsLostAndNoneHoldsWhatNobodyStored) {
  expect_all_hold(all, options());
}

TEST(ObjectsCrash, SeededBugsAreFound) {
  expect_bugs_found({"objects.range_not_drained"}, all, options());
}

TEST(ObjectsCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/objects/", "lib/ring/durable_queue.h"}; // an object starts its queue
  const std::string own_medium =
      "opens or makes a medium of its own, which the explorer does not see; it sees what follows";
  m.stay = {{"exists ? region::open(options.media) : region::create(options);", own_medium},
            {"return open(std::move(opened).value(), std::move(of));", own_medium}};
  expect_calls_needed(all, options(), m);
}

} // namespace
} // namespace chainring::test
