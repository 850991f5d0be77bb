// SPDX-License-Identifier: BSD-3-Clause
/// Queues are crashed at every point. The same scenarios run with each seeded bug, with each
/// mistake that a caller can make and with each flush and drain switched off, and must find all of
/// these.
#include <array>
#include <gtest/gtest.h>

#include <functional>

#include <thread>

#include "base/hook.h"
#include "crash_world.h"
#include "region/recovery.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

scenario one_queue() {
  return queue_scenario("one queue whose tickets go round the ring", [](crash_world& w) {
    for (std::uint64_t id = 1; id <= 6; ++id) {
      w.publish(id, {0});
      if (id > 1) w.consume(0, {0});
    }
  });
}

/// Three publishers finish their placements in the order 2, 3, 1, and a consumer looks after each.
/// The slots of the first one are not ready until it has finished.
scenario finished_out_of_order() {
  return queue_scenario("placements finished out of order", [](crash_world& w) {
    if (!w.prepare({0})) return w.h.fail("the queue got no ring");
    std::array<message, 3> messages;
    std::array<placement, 3> placed;
    for (std::uint64_t i = 0; i < 3; ++i) {
      if (!w.q.stage(i + 1, messages[i])) return w.h.fail("no descriptor was free");
      w.h.begin(i + 1, crash_world::mask_of({0}));
      w.q.messages->add_references(messages[i].ref.index, 1);
      const slot_ref ref(messages[i].ref, 1);
      if (w.q->place_start(0, {&ref, 1}, placed[i]) != place_status::placed)
        return w.h.fail("a message could not be placed");
      w.q.messages->flush_staged(messages[i]);
      w.q->place_flush(placed[i]);
    }
    w.q.m.drain();
    for (const std::size_t i : {1, 2, 0}) {
      w.q.messages->publish(messages[i]);
      w.q.messages->flush_published(messages[i]);
      w.q.m.drain();
      w.q->place_finish(placed[i]);
      w.h.ack(i + 1);
      w.look();
      w.q.messages->drop_reference(messages[i].ref.index);
    }
    w.consume_burst(0, 2);
    w.publish(4, {0});
    w.publish(5, {0});
    w.consume_burst(0, 3);
  });
}

scenario fan_out() {
  return queue_scenario("three queues", [](crash_world& w) {
    w.publish(1, {0, 1, 2});
    w.publish(2, {2, 0});
    w.consume(0, {0, 1});
    w.consume(2, {0});
    w.publish(3, {0, 1, 2});
    w.consume(1, {0, 1});
    w.publish(4, {1, 2});
  });
}

scenario out_of_order() {
  return queue_scenario("acks out of order", [](crash_world& w) {
    w.publish(1, {0});
    w.publish(2, {0, 1});
    w.publish(3, {0});
    w.consume(0, {2}); // acknowledges nothing: only the first entry is leased
    w.consume(0, {2, 1, 0});
    w.q->rewind(0);
    w.publish(4, {0, 1});
    w.publish(5, {0});
    w.consume(0, {1});
    w.consume(1, {1, 0});
  });
}

scenario head_of_line() {
  return queue_scenario("an entry acknowledged before the first one", [](crash_world& w) {
    w.publish(1, {0});
    w.publish(2, {0});
    w.publish(3, {0});
    const auto e = w.q.lease(0, 3);
    w.h.promise(consuming, key(0, 2));
    if (w.q->ack(0, e[1].ticket()) != ack_status::marked)
      w.h.fail("the ack out of order did not return `marked`");
    w.q.consumer().flush_slot(0, e[1].ticket());
    w.q.m.drain();
    w.h.promise(consumed, key(0, 2));
    w.q->rewind(0);
    w.consume(0, {0});
    w.publish(4, {0});
  });
}

scenario pubrec() {
  return queue_scenario("PUBREC", [](crash_world& w) {
    w.publish(1, {0, 1}, 2);
    w.publish(2, {0}, 2);
    w.receive(0);
    w.consume(0, {0, 1});
    w.publish(3, {0}, 2);
  });
}

scenario voids() {
  return queue_scenario("messages that one queue refuses", [](crash_world& w) {
    for (std::uint64_t id = 1; id <= 3; ++id)
      w.publish(id, {1});
    w.publish(4, {0, 1, 2});
    w.look();
    w.release(0);
    w.consume(1, {0});
    w.publish(5, {0, 1, 2});
    w.consume(0, {0});
    w.consume(1, {0, 1, 2});
    w.publish(6, {0, 2});
  });
}

scenario restarts() {
  return queue_scenario("restart", [](crash_world& w) {
    w.publish(1, {0, 1});
    w.publish(2, {0});
    w.consume(0, {0});
    w.restart(0);
    w.publish(3, {0, 1});
    w.publish(4, {0});
    w.restart(0);
    w.restart(1);
    w.publish(5, {1});
  });
}

scenario drops() {
  return queue_scenario("drop oldest", [](crash_world& w) {
    for (std::uint64_t id = 1; id <= 3; ++id)
      w.publish(id, {0});
    w.drop_oldest(0, 2);
    w.publish(4, {0, 1});
    w.publish(5, {0});
    w.drop_oldest(0, 1);
    w.consume(0, {1, 0});
  });
}

scenario shared() {
  return queue_scenario("a shared queue", [](crash_world& w) {
    if (!w.q.consumer().set_mode(0, queue_mode::mpmc))
      w.h.fail("the queue could not be made one of several consumers");
    w.publish(1, {0});
    w.publish(2, {0, 1});
    w.publish(3, {0});
    w.consume(0, {1, 2, 0});
    if (w.q->link_now(2) != link_status::ready) w.h.fail("the queue got no ring");
    w.publish(4, {0, 2});
    const auto e = w.q.lease(0, 1);
    if (e.empty() || !w.q->nack(0, e[0].ticket())) w.h.fail("no lease could be given back");
    w.consume(0, {0});
    w.publish(5, {0});
    w.publish(6, {0, 2});
    w.consume_burst(0, 2);
  });
}

// A crash came after a session got its new incarnation, and before its queue did.
scenario ended_incarnation() {
  const queue_layout l = crash_layout();
  queue_layout next = l;
  next.expected = [](std::uint32_t queue) { return queue == 0 ? 1u : 0u; };
  scenario s = queue_scenario(
      "an incarnation that ended",
      [](crash_world& w) {
        w.publish(3, {1, 2});
        w.publish(4, {0});
        w.consume(1, {0, 1});
        w.publish(5, {0, 1});
      },
      next);
  s.setup = [l](media& m, history& h) {
    crash_world w(m, h, l);
    w.publish(1, {0, 1});
    w.publish(2, {0});
    for (std::uint64_t id : {1u, 2u}) {
      h.promise(consuming, key(0, id));
      h.promise(consumed, key(0, id));
    }
  };
  return s;
}

/// Another thread links the ring. Its drain covers nothing that this thread flushed.
scenario linked_elsewhere() {
  return queue_scenario("linked by another thread", [](crash_world& w) {
    std::thread other([&] {
      if (w.q->link_now(0) != link_status::ready) w.h.fail("the queue got no ring");
    });
    other.join();
    w.publish(1, {0});
    w.publish(2, {0});
  });
}

// --- rings that are added and removed -----------------------------------------------------------

scenario append() {
  return queue_scenario(
      "a larger ring",
      [](crash_world& w) {
        for (std::uint64_t id = 1; id <= 3; ++id)
          w.publish(id, {0});
        w.publish(4, {0, 1}); // goes into the second ring
        w.consume(0, {0, 1}); // one entry is left in the first ring
        w.publish(5, {0});
        w.consume(0, {0, 1}); // the first ring leaves the queue
        w.q->maintain();      // the first ring is used again
        w.publish(6, {0});
        w.publish(7, {1});
        w.consume(0, {1, 0});
      },
      growing_layout());
}

scenario acks_across_rings() {
  return queue_scenario(
      "acks out of order across two rings",
      [](crash_world& w) {
        for (std::uint64_t id = 1; id <= 5; ++id)
          w.publish(id, {0});
        w.consume(0, {4, 3, 1, 9, 9}); // both entries of the second ring, and one of the first
        w.q->rewind(0);
        w.publish(6, {0});
        w.consume(0, {0, 1, 2});
        w.publish(7, {0});
      },
      growing_layout());
}

scenario three_rings() {
  queue_layout l = growing_layout();
  l.queues = 1;
  return queue_scenario(
      "three rings, and a smaller one",
      [](crash_world& w) {
        for (std::uint64_t id = 1; id <= 4; ++id)
          w.publish(id, {0});
        w.consume(0, {0, 1, 2, 3}); // a ring of 7 is left
        w.q->maintain();
        w.shrink(0); // a ring of 3 follows it
        w.publish(5, {0});
        w.publish(6, {0});
        w.publish(7, {0});
        w.publish(8, {0}); // a third ring, in the first entry of the record
        w.consume(0, {0, 1});
        w.consume(0, {0, 1});
        w.q->maintain();
        w.publish(9, {0});
      },
      l);
}

/// Other threads append the rings. Their drains cover nothing that this thread flushed.
scenario appended_elsewhere() {
  queue_layout l = growing_layout();
  l.queues = 1;
  return queue_scenario(
      "appended by another thread",
      [](crash_world& w) {
        for (std::uint64_t id = 1; id <= 3; ++id)
          w.publish(id, {0});
        std::thread([&] {
          if (w.q->grow_now(0) != link_status::ready) w.h.fail("the queue did not grow");
        }).join();
        w.publish(4, {0});
        w.consume(0, {0, 1, 2, 3});
        std::thread([&] {
          for (int visit = 0; visit < 16 && w.q->statistics().shrunk == 0; ++visit)
            w.q->maintain();
        }).join();
        w.publish(5, {0});
      },
      l);
}

scenario restart_of_two_rings() {
  queue_layout l = growing_layout();
  l.queues = 1;
  return queue_scenario(
      "a restart of two rings",
      [](crash_world& w) {
        for (std::uint64_t id = 1; id <= 5; ++id)
          w.publish(id, {0});
        w.consume(0, {0});
        w.restart(0);
        w.q->maintain();
        w.publish(6, {0});
        w.publish(7, {0});
      },
      l);
}

scenario drop_across_rings() {
  queue_layout l = growing_layout();
  l.options.capacity_max = 5; // 3 of them in the first ring
  l.options.overflow = overflow_policy::drop_oldest;
  return queue_scenario(
      "drop oldest across two rings",
      [](crash_world& w) {
        for (std::uint64_t id = 1; id <= 5; ++id)
          w.publish(id, {0});
        if (w.publish(6, {0}) || w.q->drop_requested(0) != 1)
          w.h.fail("the queue took a message past its limit, or asked for no room");
        w.drop_oldest(0, 4);
        w.publish(7, {0, 1});
        w.publish(8, {0});
        w.consume(0, {2, 1, 0});
      },
      l);
}

scenario drop_newest() {
  queue_layout l = growing_layout();
  l.options.capacity_max = 3;
  l.options.overflow = overflow_policy::drop_newest;
  return queue_scenario(
      "drop newest",
      [](crash_world& w) {
        for (std::uint64_t id = 1; id <= 3; ++id)
          w.publish(id, {0});
        w.publish(4, {0, 1}); // queue 0 does not get it
        w.consume(0, {0, 1});
        w.publish(5, {1, 0});
        w.publish(6, {0, 1});
        w.publish(7, {0, 1});
        w.consume(1, {0, 1});
      },
      l);
}

scenario modes() {
  return queue_scenario(
      "modes",
      [](crash_world& w) {
        for (std::uint64_t id = 1; id <= 4; ++id)
          w.publish(id, {0});
        w.set_mode(0, queue_mode::mpmc);
        w.consume(0, {1, 0});
        w.consume(0, {1, 0});
        w.publish(5, {0, 1});
        w.set_mode(0, queue_mode::mpsc);
        w.publish(6, {0});
        w.consume(0, {0});
        w.set_mode(1, queue_mode::mpmc);
      },
      growing_layout());
}

scenario timeouts() {
  return queue_scenario(
      "leases that time out",
      [](crash_world& w) {
        w.set_mode(0, queue_mode::mpmc);
        for (std::uint64_t id = 1; id <= 5; ++id)
          w.publish(id, {0});
        w.time_out(0, 4, 10); // across two rings
        w.publish(6, {0, 1});
        w.time_out(1, 1, 20);
        w.time_out(0, 1, 30);
      },
      growing_layout());
}

/// In a value queue each value is durable on its own.
scenario value_scenario(const std::string& name, const queue_layout& l,
                        std::function<void(queues_on_media&, history&)> run) {
  scenario s;
  s.name = "ring: " + name;
  s.size = l.size();
  s.run = [l, run](media& m, history& h) {
    queues_on_media q(m, l);
    if (q->link_now(0) != link_status::ready) return h.fail("the queue got no ring");
    run(q, h);
  };
  s.recover_and_check = [l](media& m, const history& h) -> verdict {
    queues_on_media q(m, l);
    if (!q.found.notes.empty()) return "damage: " + q.found.notes.front();
    std::set<std::uint64_t> in;
    for (const leased& e : q.lease(0)) {
      const std::uint64_t v = e.ref.word;
      if (!h.begun(v)) return "delivered although never placed: " + std::to_string(v);
      if (h.has(consumed, v))
        return "delivered again after its consumption was durable: " + std::to_string(v);
      if (!in.insert(v).second) return "in the queue twice: " + std::to_string(v);
      if (e.ticket() != v) return "a value has the ticket of another value";
    }
    for (std::uint64_t v : h.ids(history::acked))
      if (!h.has(consuming, v) && !in.contains(v))
        return "lost after it was durable: " + std::to_string(v);
    return {};
  };
  return s;
}

/// Places values first .. first + n - 1 in one burst.
void put_values(const queues_on_media& q, history& h, std::uint64_t first, std::uint32_t n) {
  for (std::uint64_t v = first; v < first + n; ++v)
    h.begin(v);
  if (q.put(0, first, n) != n) return h.fail("the queue was full");
  for (std::uint64_t v = first; v < first + n; ++v)
    h.ack(v);
}
/// The `n` oldest values leave the queue.
void take_values(const queues_on_media& q, history& h, std::size_t n) {
  const std::vector<leased> got = q.lease(0, n);
  if (got.size() != n) return h.fail("there was nothing to lease");
  for (const leased& e : got)
    h.promise(consuming, e.ref.word);
  if (q.consumer().ack_through(0, got.back().ticket()) != n || q.release(0) == 0)
    return h.fail("the entries could not be acknowledged and released");
  for (const leased& e : got)
    h.promise(consumed, e.ref.word);
}

/// The second burst begins in the last slot of the ring, and goes on in the first, which lies in
/// another line.
scenario values() {
  queue_layout l = crash_layout();
  l.values = true;
  l.options.slots = 8;
  return value_scenario("value queue", l, [](queues_on_media& q, history& h) {
    put_values(q, h, 1, 7);
    take_values(q, h, 7);
    put_values(q, h, 8, 2);
    take_values(q, h, 1);
    put_values(q, h, 10, 1);
    take_values(q, h, 1);
  });
}

/// A ring of 31 entries becomes one of 7, which the stock does not have. The blocks of the new ring
/// look as if they held the next entries of the queue.
scenario smaller_ring() {
  queue_layout l = growing_layout();
  l.queues = 1;
  l.values = true;
  l.block_size = 128; // a ring's slots begin at a multiple of 8 slots
  l.options.capacity_max = 31;
  constexpr std::uint64_t placed = 11; // 3 in the first ring, 7 in the second, 1 in the third
  scenario s =
      value_scenario("a smaller ring that is not in stock", l, [](queues_on_media& q, history& h) {
        for (int visit = 0; visit < 16 && q->statistics().shrunk == 0; ++visit)
          q->maintain();
        if (q->statistics().shrunk == 0) h.fail("the queue did not get a smaller ring");
        put_values(q, h, placed + 1, 1);
      });
  s.setup = [l](media& m, history& h) {
    auto* word = reinterpret_cast<std::uint64_t*>(m.base() + l.chains());
    for (std::uint64_t i = 0; i < std::uint64_t{l.blocks} * l.block_size / sizeof(ring_slot); ++i) {
      m.store(&word[2 * i], 1000 + i);
      m.store(&word[2 * i + 1], slot_tag{placed + 1 + i % 8, slot_state::queued}.pack(0));
    }
    queues_on_media q(m, l);
    put_values(q, h, 1, 3);
    put_values(q, h, 4, 7);
    put_values(q, h, 11, 1);
    take_values(q, h, placed);
  };
  return s;
}

/// The recovery driver runs the part of the queues, as it does for every region.
scenario recovered_by_driver() {
  queue_layout l = crash_layout();
  l.recover_by = [](queues_on_media& q) {
    queue_recovery found;
    recovery all;
    all.add(q.blocks->part());
    all.add(q.messages->part());
    all.add(q.queues->part("queues", {}, &found));
    const auto done = all.run(q.m);
    CHAINRING_ASSERT(done.ok());
    return found;
  };
  return queue_scenario(
      "recovered as a part of a region",
      [](crash_world& w) {
        w.publish(1, {0});
        w.publish(2, {0});
        w.consume(0, {0});
      },
      l);
}

/// The records are known to be empty, so the queues start without recovery in the first life.
scenario started() {
  const queue_layout l = crash_layout();
  queue_layout first = l;
  first.recover_by = [](queues_on_media& q) {
    const bool made = q->start().ok();
    CHAINRING_ASSERT(made);
    return queue_recovery{};
  };
  scenario s = queue_scenario("started without recovery", {}, l);
  s.run = [first](media& m, history& h) {
    crash_world w(m, h, first);
    w.publish(1, {0});
  };
  return s;
}

const std::vector<scenario (*)()> fixed = {linked_elsewhere,
                                           one_queue,
                                           finished_out_of_order,
                                           fan_out,
                                           in_place,
                                           out_of_order,
                                           head_of_line,
                                           pubrec,
                                           voids,
                                           restarts,
                                           drops,
                                           shared,
                                           ended_incarnation,
                                           values,
                                           recovered_by_driver,
                                           started};
const std::vector<scenario (*)()> growing = {appended_elsewhere,
                                             append,
                                             acks_across_rings,
                                             three_rings,
                                             restart_of_two_rings,
                                             drop_across_rings,
                                             drop_newest,
                                             modes,
                                             timeouts,
                                             smaller_ring};

/// At the gate the bounds in which every seeded bug and every mistake of a caller is found;
/// .ci/soak takes larger ones.
explorer_options options() {
  explorer_options o;
  o.seed = seed_from_environment(1);
  o.second_lives = 3;
  o.second_states_max = 64;
  explorer_options gate = o;
  gate.second_lives = 1;
  gate.states_max = 512;
  gate.second_states_max = 16;
  return bounds(gate, o);
}

/// Options for faults that show in a few of the states: a seeded bug, a mistake of a caller, or a
/// call that is switched off.
explorer_options few_states() {
  explorer_options o = options();
  o.print = false;
  o.second_lives = 3;
  o.states_max = 512;
  o.second_states_max = 16;
  return o;
}

TEST(RingCrash, NothingIsLostTornOrDoubled) {
  for (auto make : fixed) {
    const explorer_report r = explore(make(), options());
    EXPECT_TRUE(r.ok()) << r.failure;
  }
}

TEST(RingCrash, NothingIsLostTornOrDoubledWhileRingsAreAddedAndRemoved) {
  for (auto make : growing) {
    const explorer_report r = explore(make(), options());
    EXPECT_TRUE(r.ok()) << r.failure;
  }
}

TEST(RingCrash, AValueWithoutItsTicketIsFound) {
  const test::seeded on("ring.tag_first");
  test::expect_found("ring.tag_first", !explore(values(), options()).ok());
}

struct seeded_case {
  const char* bug;
  scenario (*shown_by)(); ///< the scenario that is tried first
};

void expect_all_found(std::initializer_list<seeded_case> cases,
                      const std::vector<scenario (*)()>& scenarios) {
  explorer_options o = few_states();
  o.sample = true;
  o.second_lives = 1;
  o.second_points = 24;
  o.minimal = false;
  for (const seeded_case& c : cases) {
    const test::seeded on(c.bug);
    std::vector<scenario (*)()> order = {c.shown_by};
    std::ranges::remove_copy(scenarios, std::back_inserter(order), c.shown_by);
    const auto by =
        std::ranges::find_if(order, [&](auto make) { return !explore(make(), o).ok(); });
    test::expect_found(c.bug, by != order.end(), by != order.end() ? (*by)().name : "");
  }
}

TEST(RingCrash, SeededBugsAreFound) {
  expect_all_found({{"ring.uncleared", linked_elsewhere},
                    {"ring.attach_undrained", linked_elsewhere},
                    {"ring.tag_first", fan_out},
                    {"ring.void_ready", fan_out},
                    {"ring.ready_past_open", finished_out_of_order},
                    {"ring.ack_in_memory", out_of_order},
                    {"ring.recover_unread", linked_elsewhere},
                    {"ring.recover_unvoided", linked_elsewhere},
                    {"ring.counter_from_head", linked_elsewhere}},
                   fixed);
}

TEST(RingCrash, SeededBugsOfAppendsModesAndTimesAreFound) {
  expect_all_found({{"ring.append_undrained", appended_elsewhere},
                    {"ring.entry_last", appended_elsewhere},
                    {"ring.base_head", appended_elsewhere},
                    {"ring.append_copies", appended_elsewhere},
                    {"ring.unlink_leased", acks_across_rings},
                    {"ring.recover_short", appended_elsewhere},
                    {"ring.ack_order_of_ring", acks_across_rings},
                    {"ring.mode_undrained", modes},
                    {"ring.lease_unnamed", timeouts},
                    {"ring.larger_uncleared", appended_elsewhere}},
                   growing);
}

TEST(RingCrash, MistakesOfACallerAreFound) {
  explorer_options o = few_states();
  o.sample = true;
  o.second_lives = 1;
  o.second_points = 24;
  const body run = [](crash_world& w) {
    w.publish(1, {0, 1});
    w.publish(2, {0});
    w.consume(0, {0});
    w.publish(3, {0, 1});
    w.consume(0, {0, 1});
    w.consume(1, {0, 1});
    w.publish(4, {0});
    w.publish(5, {0, 1});
    w.restart(0);
    w.publish(6, {1});
    w.publish(7, {0, 1});
  };
  EXPECT_TRUE(explore(queue_scenario("mistakes", run), o).ok());
  for (defect d : {defect::no_first_drain, defect::ready_before_drain, defect::finish_before_drain,
                   defect::restarted_before_drain})
    EXPECT_FALSE(explore(queue_scenario("mistakes", run, crash_layout(), d), o).ok())
        << "defect " << static_cast<int>(d);
}

TEST(RingCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/ring/"};
  m.hang_seconds = 1500; // a slow machine is not taken for a hang
  m.stay = {{"[voids-in-pieces]",
             "recovery drains the same lines once more at its end; this drain is for media that "
             "cannot cover so many lines with one drain"},
            {"persist_range(medium, r.slots()", "the call of a seeded bug"},
            {"s.append(queue, *r, next);", "reaches the seam in a seeded bug only"},
            {"append(queue, *r, *smaller);", "reaches the seam in a seeded bug only"},
            {"link_status status = grow(queue, n);", "reaches the seam in a seeded bug only"},
            {"status = grow(queue, n); // another", "reaches the seam in a seeded bug only"}};
  // A missing call shows in a few of the states.
  explorer_options o = few_states();
  o.sample = true;
  o.states_max = 96;
  o.second_lives = 2;
  o.second_points = 24;
  scenario_list both = growing;
  both.insert(both.end(), fixed.begin(), fixed.end());
  expect_calls_needed(both, o, m);
}

} // namespace
} // namespace chainring::test
