// SPDX-License-Identifier: BSD-3-Clause
/// Placements that are dropped are crashed while they are being voided, and behind that: no entry
/// that was made ready is lost, and no entry that was dropped comes back behind the next drain.
#include <gtest/gtest.h>

#include <set>

#include "base/hook.h"
#include "ring/guards.h"
#include "ring_fixture.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

enum kinds : int {
  dropped = history::first_own_kind, ///< id: the placement was dropped, and a drain followed
  ending,                            ///< id: it is being released
  ended,                             ///< id: it was released, durably
};

queue_layout layout_of(bool values) {
  queue_layout l;
  l.queues = 1;
  l.descriptors = 8;
  l.blocks = 24;
  l.values = values;
  l.options.stock = 1;
  return l;
}

class world {
 public:
  world(media& m, history& h, bool values)
      : h_(h), values_(values), q_(m, layout_of(values)),
        next_(1 + 1000 * static_cast<std::uint64_t>(h.crashes())) {
    if (q_->link_now(0) != link_status::ready) h_.fail("there is no ring");
  }
  void put(std::uint32_t n) {
    for (; n != 0; --n) {
      h_.begin(next_);
      if (values_ ? q_.put(0, next_) != 1 : !q_.publish(next_, {0}))
        return h_.fail("an entry was refused");
      h_.ack(next_++);
    }
  }
  enum class until : std::uint8_t { placed, flushed, drained };
  /// Places an entry, goes on as far as that, and drops it.
  void drop(until how_far) {
    const std::uint64_t id = next_++;
    h_.begin(id);
    message msg;
    {
      placement_guard placed(*q_.queues);
      if (values_) {
        if (q_->enqueue_bulk(0, {&id, 1}, placed.slots()) != 1) return h_.fail("no room");
      } else {
        if (!q_.stage(id, msg)) return h_.fail("no descriptor");
        q_.messages->add_references(msg.ref.index, 1);
        const slot_ref ref(msg.ref, 1);
        if (q_->place_start(0, {&ref, 1}, placed.slots()) != place_status::placed)
          return h_.fail("no room");
        if (how_far != until::placed) q_.messages->flush_staged(msg);
      }
      if (how_far != until::placed) q_->place_flush(placed.slots());
      if (how_far == until::drained) q_.m.drain();
      hook_point("guards.dropping");
    }
    if (!values_) q_.messages->discard(msg);
    hook_point("guards.dropped");
    q_.m.drain();
    h_.promise(dropped, id);
  }
  void take_all() {
    const auto all = q_.lease(0);
    std::vector<std::uint64_t> ids;
    for (const leased& e : all) {
      ids.push_back(id_of(q_, e, values_));
      h_.promise(ending, ids.back());
    }
    for (const leased& e : all) {
      const ack_status s = q_->ack(0, e.ticket());
      if (s == ack_status::marked) q_.consumer().flush_slot(0, e.ticket());
      if (s == ack_status::ignored) return h_.fail("an ack was ignored");
    }
    if (q_.release(0) == 0) q_.m.drain();
    for (const std::uint64_t id : ids)
      h_.promise(ended, id);
  }
  static std::uint64_t id_of(const queues_on_media& q, const leased& e, bool values) {
    return values ? e.ref.word : q.id_of(e.message());
  }

 private:
  history& h_;
  bool values_;
  queues_on_media q_;
  std::uint64_t next_;
};

verdict check(media& m, const history& h, bool values) {
  const queues_on_media q(m, layout_of(values));
  if (!q.found.notes.empty()) return "damage: " + q.found.notes.front();
  std::set<std::uint64_t> found;
  std::uint64_t last = 0;
  for (const leased& e : q.lease(0)) {
    const std::uint64_t id = world::id_of(q, e, values);
    const std::string about = "entry " + std::to_string(id);
    if (id == 0 || !h.begun(id)) return about + ": nobody put it in";
    if (id <= last) return about + ": behind a later one, or twice";
    if (h.has(dropped, id)) return about + ": it was dropped";
    if (h.has(ended, id)) return about + ": it was released";
    found.insert(last = id);
  }
  for (const std::uint64_t id : h.ids(history::acked))
    if (!found.contains(id) && !h.has(ending, id)) return "entry " + std::to_string(id) + ": lost";
  return {};
}

template <bool values> scenario with(const char* name, void (*run)(world&)) {
  scenario s;
  s.name = "guards: ";
  s.name += name; // g++ 12 warns of a sum of strings here
  s.size = layout_of(values).size();
  s.run = [run](media& m, history& h) {
    world w(m, h, values);
    run(w);
  };
  s.recover_and_check = [](media& m, const history& h) { return check(m, h, values); };
  s.continue_after = [](media& m, history& h) {
    world w(m, h, values);
    w.take_all();
    w.put(1);
    w.drop(world::until::flushed);
    w.put(1);
    w.take_all();
  };
  return s;
}

void drops_at_each_step(world& w) {
  w.put(1);
  w.drop(world::until::placed);
  w.put(1);
  w.drop(world::until::flushed);
  w.take_all();
  w.drop(world::until::drained);
  w.put(1);
  w.drop(world::until::drained);
}

scenario values_dropped() {
  return with<true>("values that are dropped", drops_at_each_step);
}
scenario messages_dropped() {
  return with<false>("messages that are dropped", [](world& w) {
    w.put(1);
    w.drop(world::until::flushed);
    w.take_all();
    w.drop(world::until::drained);
    w.put(1);
  });
}

const scenario_list all = {values_dropped, messages_dropped};

explorer_options options() {
  return bounds({.seed = seed_from_environment(1),
                 .states_max = 64,
                 .sample = true,
                 .second_lives = 1,
                 .second_points = 60,
                 .second_states_max = 8},
                {.seed = seed_from_environment(1), .second_lives = 1, .second_states_max = 16});
}

TEST(GuardsCrash, NothingReadyIsLostAndNothingDroppedComesBack) {
  expect_all_hold(all, options());
}

TEST(GuardsCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/ring/guards"};
  expect_calls_needed(all, options(), m);
}

} // namespace
} // namespace chainring::test
