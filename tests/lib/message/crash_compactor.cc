// SPDX-License-Identifier: BSD-3-Clause
/// Messages that are moved while they are named, crashed at every point.
#include <gtest/gtest.h>

#include "message/compactor.h"
#include "message_world.h"
#include "support/crash_suite.h"

namespace chainring::test {
namespace {

std::unique_ptr<message_compactor> compactor_of(const world& w) {
  return message_compactor::create(*w.t.table, {.segment_blocks = 16, .reserve_blocks = 1}).value();
}

/// Steps until the compactor is idle, and expects that it has moved something.
void compact(const world& w, history& h) {
  const auto c = compactor_of(w);
  while (c->step({}) != compaction::idle) {
  }
  if (c->statistics().moved == 0) h.fail("nothing was moved");
}

/// Chains of other owners, one block each, which part the messages between them.
struct fillers {
  block_store& store;
  std::vector<chain> all;

  /// Takes every block, and gives those back that are not to be parted by a filler.
  fillers(const world& w, std::initializer_list<std::uint32_t> kept) : store(*w.t.store) {
    chain c;
    while (store.allocate_contiguous(1, c))
      if (std::find(kept.begin(), kept.end(), c.first) != kept.end())
        all.push_back(c);
      else
        free.push_back(c);
    store.release(free);
  }
  void release() {
    store.release(all);
    all.clear();
  }

 private:
  std::vector<chain> free;
};

/// A crash is followed by deliveries, publications and another compaction.
void go_on_and_compact(media& m, history& h) {
  go_on(m, h, false);
  const world w(m);
  const auto c = compactor_of(w);
  while (c->step({}) != compaction::idle) {
  }
}

scenario moving(std::string name, std::function<void(world&, history&)> run) {
  scenario s = make(std::move(name), std::move(run));
  s.continue_after = go_on_and_compact;
  return s;
}

scenario again_and_again() {
  return moving("move a message twice", [](world& w, history& h) {
    const auto refs = w.publish(h, {1, 2}, 50);
    if (refs.empty()) return;
    w.consume_all(h, refs[0]);
    compact(w, h);
    const auto next = w.publish(h, {3, 4}, 50);
    if (next.empty()) return;
    w.consume_all(h, next[0]);
    compact(w, h);
    w.publish(h, {5}, 50);
  });
}
scenario joined() {
  return moving("join the chains of a message", [](world& w, history& h) {
    fillers f(w, {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22});
    const auto refs = w.publish(h, {1}, 100); // two blocks in runs of one, and an extent list
    if (refs.empty()) return;
    f.release();
    compact(w, h);
    w.publish(h, {2}, 100);
    w.consume_all(h, refs[0]);
    w.publish(h, {3}, 100);
  });
}
scenario rolled() {
  return moving("move one chain of several", [](world& w, history& h) {
    fillers f(w, {0, 2, 4, 6, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22});
    const auto refs = w.publish(h, {1}, 100);
    if (refs.empty()) return;
    const auto c = compactor_of(w);
    while (c->step({}) != compaction::idle) {
    }
    const auto s = c->statistics();
    if (s.moved == 0 || s.joined != 0) h.fail("no chain of the message was moved alone");
    f.release();
    w.publish(h, {2}, 100);
    w.consume_all(h, refs[0]);
  });
}
scenario between_steps() {
  return moving("publish and consume between the steps", [](world& w, history& h) {
    const auto refs = w.publish(h, {1, 2}, 50);
    if (refs.empty()) return;
    w.consume_all(h, refs[0]);
    const auto c = compactor_of(w);
    std::vector<message_ref> next;
    for (std::uint64_t step = 0; c->step({.descriptors = 1, .blocks = 1}) != compaction::idle;
         ++step) {
      if (step == 4) next = w.publish(h, {3}, 50);
      if (step == 6 && !next.empty()) w.consume(h, 1, next[0]);
    }
    if (c->statistics().moved == 0) h.fail("nothing was moved");
    w.publish(h, {4}, 50);
  });
}
scenario consumed_while_it_moves() {
  return moving("consume a message whose copy is made", [](world& w, history& h) {
    const auto refs = w.publish(h, {1, 2}, 50);
    if (refs.empty()) return;
    w.consume_all(h, refs[0]);
    const auto c = compactor_of(w);
    while (c->statistics().moved == 0)
      if (c->step({.descriptors = 4, .blocks = 1}) == compaction::idle) return h.fail("not moved");
    w.consume_all(h, refs[1]); // the old place waits for its grace period
    w.publish(h, {3}, 50);
    while (c->step({}) != compaction::idle) {
    }
    w.publish(h, {4}, 50);
  });
}

/// Empties the end of the store, from `ceiling` on. Returns how many messages were split.
std::uint64_t vacate(const world& w, history& h, std::uint32_t ceiling) {
  const auto c = message_compactor::create(*w.t.table, {.ceiling_block = ceiling}).value();
  while (c->step({}) != compaction::idle) {
  }
  if (c->statistics().moved == 0) h.fail("nothing was moved");
  return c->statistics().split;
}
scenario vacated() {
  return moving("empty the end of the store", [](world& w, history& h) {
    const auto refs = w.publish(h, {1, 2, 3}, 50);
    if (refs.empty()) return;
    w.consume_all(h, refs[0]);
    const auto last = message_word1::unpack(w.t.descriptor(refs[2].index).extent);
    vacate(w, h, last.first);
    w.consume_all(h, refs[1]);
    w.publish(h, {4, 5}, 50);
  });
}
scenario split() {
  return moving("split a message at the end of the store", [](world& w, history& h) {
    fillers f(w, {1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 22, 23});
    const auto refs = w.publish(h, {1}, 100); // two blocks, in the only run that is long enough
    if (refs.empty()) return;
    if (vacate(w, h, 20) != 1) h.fail("the message was not split");
    f.release();
    w.publish(h, {2}, 100);
    w.consume_all(h, refs[0]);
    w.publish(h, {3}, 100);
  });
}

const scenario_list all = {again_and_again,         joined,  rolled, between_steps,
                           consumed_while_it_moves, vacated, split};

explorer_options options() {
  explorer_options o;
  o.seed = seed_from_environment(1);
  return o;
}

TEST(CompactorCrash, EveryMessageStaysWholeUnderItsName) {
  expect_all_hold(all, options());
}
TEST(CompactorCrash, SeededBugsAreFound) {
  expect_bugs_found({"compactor.copy_undrained", "compactor.seal_of_present_lost",
                     "compactor.sealed_late", "compactor.name_undrained"},
                    all, options());
}
TEST(CompactorCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options which;
  which.under = {"lib/message/compactor"};
  expect_calls_needed(all, options(), which);
}

} // namespace
} // namespace chainring::test
