// SPDX-License-Identifier: BSD-3-Clause
/// Rings that are added and removed, and leases that end, under deterministic schedules, with
/// crashes and with each seeded race. Threads are switched at every call of the persist seam, at
/// every hook point and wherever rte_ring spins.
#include <gtest/gtest.h>

#include <array>
#include <set>

#include "base/hook.h"
#include "base/idle.h"
#include "crash_world.h"
#include "schedule_world.h"
#include "support/bounds.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

/// Queues whose first ring holds 3 entries, and which may grow to 15.
struct value_world : scheduled_queues {
  explicit value_world(queue_mode mode) : scheduled_queues(mode, layout()) {}
  static queue_layout layout() {
    queue_layout l;
    l.queues = 2;
    l.values = true;
    l.options.slots = 4;
    l.options.capacity_max = 15;
    l.options.stock = 1;
    l.options.timed_leases = true;
    l.blocks = 96;
    return l;
  }
  /// Appends the larger ring that is prepared. False: no ring is available now.
  bool grow(std::uint32_t queue = 0) {
    const link_status s = q->grow(queue);
    if (s == link_status::linking) {
      q->link_flush(queue);
      m->drain();
      q->link_finish(queue);
    }
    return s == link_status::linking;
  }
  /// Places values as a publisher does that waits until the queue has grown.
  void must_put(std::uint64_t first, std::uint32_t n) {
    idle_policy wait;
    while (put(first, n) == 0) {
      if (!grow()) {
        q->maintain(1);
        wait.idle();
      }
    }
  }
  static constexpr std::uint64_t ignored = 999; ///< follows a value whose ack was ignored
  std::vector<std::uint64_t> consume(std::uint32_t queue = 0) {
    std::vector<std::uint64_t> out;
    for (const leased& e : q.lease(queue, 3)) {
      out.push_back(e.ref.word);
      if (q.consumer().ack(queue, e) == ack_status::ignored) out.push_back(ignored);
    }
    q.release(queue);
    return out;
  }
};

/// True when `seen` has each of the numbers from..to of one producer once, in order.
bool in_order(const std::vector<std::uint64_t>& seen, std::uint64_t from, std::uint64_t to) {
  std::uint64_t next = from;
  for (std::uint64_t v : seen)
    if (v >= from && v <= to && v != next++) return false;
  return next == to + 1;
}

bool holds(const char* bug, const std::function<bool(schedule&)>& body) {
  return test::holds(bug, 600, body);
}

TEST(RingGrowThreads, NothingPlacedWhileARingIsAppendedIsLost) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    w.put(1, 3); // the ring is full, and the larger one gets prepared
    w.q->maintain();
    std::uint32_t placed = 0;
    auto late = [&] { // a producer that may find the ring open or closed
      w.q->drop_oldest(0, 1);
      w.q.release(0); // a slot is free, while the ring is being closed
      placed = w.put(10, 1);
    };
    interleave(s, {[&] { late(); },
                   [&] {
                     for (int i = 0; i < 3 && !w.grow(); ++i)
                       idle_policy().idle();
                   }});
    w.must_put(20, 2);
    std::vector<std::uint64_t> expected = {2, 3};
    if (placed != 0) expected.push_back(10);
    expected.insert(expected.end(), {20, 21});
    std::vector<std::uint64_t> got;
    for (int i = 0; i < 4; ++i)
      for (std::uint64_t v : w.consume())
        got.push_back(v);
    return got == expected && w.q->statistics(0).depth == 0;
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("ring.close_unwaited", !holds("ring.close_unwaited", run));
  test::expect_found("ring.closed_unchecked", !holds("ring.closed_unchecked", run));
  test::expect_found("ring.base_early", !holds("ring.base_early", run));
}

TEST(RingGrowThreads, ProducersThatGrowTheQueueKeepTheirOwnOrder) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    std::vector<std::uint64_t> seen;
    auto produce = [&](std::uint64_t first) {
      for (std::uint64_t v = first; v < first + 6; v += 2)
        w.must_put(v, 2);
    };
    interleave(s, {[&] { produce(100); }, [&] { produce(200); },
                   [&] {
                     idle_policy wait;
                     while (seen.size() < 12) {
                       const auto got = w.consume();
                       seen.insert(seen.end(), got.begin(), got.end());
                       if (got.empty()) wait.idle();
                     }
                   }});
    return in_order(seen, 100, 105) && in_order(seen, 200, 205) && seen.size() == 12;
  };
  EXPECT_TRUE(holds(nullptr, run));
}

TEST(RingGrowThreads, OnlyOneOfManyThreadsAppendsARing) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    w.put(1, 3);
    w.q->maintain();
    int appended = 0;
    auto grow = [&] { appended += w.grow(); };
    interleave(s, {grow, grow, grow});
    return appended == 1 && w.q->statistics(0).rings == 2 && w.put(4, 7) == 7 && w.put(11, 1) == 0;
  };
  EXPECT_TRUE(holds(nullptr, run));
}

TEST(RingGrowThreads, AQueueThatShrinksWhileProducersPlaceLosesNothing) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    w.must_put(1, 3);
    w.must_put(4, 3);
    std::vector<std::uint64_t> seen;
    for (int i = 0; i < 2; ++i)
      for (std::uint64_t v : w.consume())
        seen.push_back(v);
    w.q->maintain();
    interleave(s, {[&] {
                     w.must_put(7, 1);
                     w.must_put(8, 1);
                   },
                   [&] {
                     for (int i = 0; i < 8; ++i)
                       w.q->maintain();
                   },
                   [&] {
                     idle_policy wait;
                     while (seen.size() < 8) {
                       const auto got = w.consume();
                       seen.insert(seen.end(), got.begin(), got.end());
                       if (got.empty()) wait.idle();
                     }
                   }});
    return in_order(seen, 1, 8) && seen.size() == 8;
  };
  EXPECT_TRUE(holds(nullptr, run));
}

// A slow consumer reads a ring while another one empties it. The ring leaves its queue, and would
// next serve another queue with the same tickets in it.
TEST(RingGrowThreads, ARingIsNotUsedAgainWhileAConsumerStillReferencesIt) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpmc);
    if (!w.q.consumer().set_mode(1, queue_mode::mpmc)) std::abort();
    w.put(1, 3);
    w.q->maintain(1); // prepares only the larger ring, so that the stock stays empty
    std::vector<std::uint64_t> slow, fast;
    interleave(s, {[&] {
                     for (const leased& e : w.q.lease(0, 3)) {
                       slow.push_back(e.ref.word);
                       static_cast<void>(w.q.consumer().ack(0, e));
                     }
                   },
                   [&] {
                     if (!w.grow()) return;
                     fast = w.consume();
                     w.q->maintain(); // takes the ring back if no thread references it
                     // A ring that was taken back is the first in stock, so it serves queue 1.
                     if (w.q->link_now(1) == link_status::ready) w.put(101, 3, 1);
                   }});
    w.q.release(0);
    std::set<std::uint64_t> all;
    for (const auto* part : {&slow, &fast})
      for (std::uint64_t v : *part)
        if (!all.insert(v).second) return false;
    w.q->maintain();
    if (w.q->statistics(1).tail == 3 && w.consume(1) != std::vector<std::uint64_t>{101, 102, 103})
      return false;
    return all == std::set<std::uint64_t>{1, 2, 3};
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("grace.not_kept", !holds("grace.not_kept", run));
}

TEST(RingGrowThreads, EntriesOfASharedQueueAreLeasedOnceEachAcrossTwoRings) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpmc);
    w.must_put(1, 3);
    w.must_put(4, 3);
    std::array<std::vector<std::uint64_t>, 2> got;
    auto consumer = [&](std::size_t i) {
      for (int round = 0; round < 3; ++round) {
        for (std::uint64_t v : w.consume())
          got[i].push_back(v);
        w.q->maintain(1);
      }
    };
    interleave(s, {[&] { consumer(0); }, [&] { consumer(1); }});
    std::vector<std::uint64_t> both = got[0];
    both.insert(both.end(), got[1].begin(), got[1].end());
    std::ranges::sort(both);
    w.q.release(0);
    return both == std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6} && w.q->statistics(0).depth == 0 &&
           w.q->statistics(0).rings == 1;
  };
  EXPECT_TRUE(holds(nullptr, run));
}

// --- leases that end ----------------------------------------------------------------------------

TEST(RingGrowThreads, AnAckAndADeadlineNeverBothEndALease) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpmc);
    w.put(1, 2);
    std::array<leased, 2> e;
    if (w.q.consumer().lease(0, e, 10) != 2) std::abort();
    std::array<ack_status, 2> acked{};
    std::uint32_t expired = 0;
    std::vector<std::uint64_t> other;
    interleave(s, {[&] {
                     for (std::size_t i : {1u, 0u})
                       acked[i] = w.q.consumer().ack(0, e[i]);
                   },
                   [&] {
                     expired = w.q.consumer().expire(0, 10);
                     std::array<leased, 2> mine;
                     const std::uint32_t n = w.q.consumer().lease(0, mine, 20);
                     for (std::uint32_t i = 0; i < n; ++i) {
                       other.push_back(mine[i].ref.word);
                       if (w.q.consumer().ack(0, mine[i]) == ack_status::ignored)
                         other.push_back(999);
                     }
                   }});
    std::uint32_t won = 0;
    for (ack_status a : acked)
      won += a != ack_status::ignored;
    return won + expired == 2 && other.size() == expired && w.q.release(0) == 2;
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("ring.lease_unnamed", !holds("ring.lease_unnamed", run));
}

// One consumer leases with deadlines while another one ends overdue leases.
TEST(RingGrowThreads, EachLeaseEndsAtItsDeadlineAndNotBefore) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpmc);
    std::array<leased, 3> e;
    // Earlier leases leave deadlines behind in the slots, which are long over.
    w.put(1, 3);
    if (w.q.consumer().lease(0, e, 5) != 3) std::abort();
    for (const leased& x : e)
      static_cast<void>(w.q.consumer().ack(0, x));
    w.q.release(0);
    w.put(4, 1);
    if (w.q.consumer().lease(0, {e.data(), 1}, 5) != 1) std::abort(); // a lease that is overdue
    w.put(5, 2);
    std::array<leased, 2> mine;
    std::uint32_t n = 0, early = 0;
    interleave(s, {[&] { n = w.q.consumer().lease(0, mine, 100); },
                   [&] { early = w.q.consumer().expire(0, 50); }});
    if (n != 2) return false;
    if (early != 1) return false;
    // The leases until 100 end at 100, and not before.
    if (w.q.consumer().expire(0, 99) != 0) return false;
    return w.q.consumer().expire(0, 100) == 2 && w.q.consumer().earliest_deadline(0) == UINT64_MAX;
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("ring.expire_stale", !holds("ring.expire_stale", run));
  test::expect_found("ring.expire_takes_late", !holds("ring.expire_takes_late", run));
}

// --- with crashes -------------------------------------------------------------------------------

/// Makes one publisher's burst, and grows the queue where that is necessary.
void publish_one(crash_world& w, std::uint64_t id, const std::vector<std::uint32_t>& to) {
  message msg;
  if (!w.q.stage(id, msg)) return w.h.fail("no descriptor was free");
  w.h.begin(id, crash_world::mask_of(to));
  w.q.messages->add_references(msg.ref.index, static_cast<std::uint32_t>(to.size()));
  const slot_ref ref(msg.ref, 1);
  std::vector<placement> placed(to.size());
  for (std::size_t i = 0; i < to.size(); ++i) {
    idle_policy wait;
    while (w.q->place_start(to[i], {&ref, 1}, placed[i]) != place_status::placed) {
      const link_status s = w.q->grow(to[i]);
      if (s == link_status::unprepared) w.q->maintain(1);
      if (s == link_status::wait || s == link_status::refused) wait.idle();
      if (s != link_status::linking) continue;
      w.q->link_flush(to[i]);
      w.q.m.drain();
      w.q->link_finish(to[i]);
    }
  }
  w.q.messages->flush_staged(msg);
  for (const placement& p : placed)
    w.q->place_flush(p);
  w.q.m.drain();
  w.q.messages->publish(msg);
  w.q.messages->flush_published(msg);
  w.q.m.drain();
  for (const placement& p : placed)
    w.q->place_finish(p);
  w.h.ack(id);
  w.q.messages->drop_reference(msg.ref.index);
}

explorer_report crashed(const char* name, const body& run, const char* bug = nullptr) {
  const queue_layout l = growing_layout();
  scenario s = queue_scenario(name, run, l);
  s.continue_after = nullptr;
  explorer_options o;
  o.seed = seed_from_environment(1);
  o.depth = 1;
  o.schedules.random = 16;
  o.schedules.preemptions = 1;
  o.schedules.enumerated_max = 60;
  o.print = bug == nullptr;
  explorer_options gate = o;
  gate.states_max = 512;
  set_seeded_bug(bug);
  explorer_report r = explore(s, bounds(gate, o));
  set_seeded_bug(nullptr);
  return r;
}

TEST(RingGrowThreads, TwoProducersThatAppendARingLoseNothingInACrash) {
  const body run = [](crash_world& w) {
    w.publish(1, {0});
    w.publish(2, {0, 1});
    w.publish(3, {0});
    interleave(w.h.threads(), {[&] {
                                 publish_one(w, 4, {0, 1});
                               },
                               [&] {
                                 publish_one(w, 5, {1, 0});
                               }});
  };
  const explorer_report r = crashed("two producers that append a ring", run);
  EXPECT_TRUE(r.ok()) << r.failure;
  test::expect_found(
      "ring.append_undrained",
      !crashed("two producers that append a ring", run, "ring.append_undrained").ok());
}

TEST(RingGrowThreads, AProducerAndAConsumerDuringAnAppendLoseNothingInACrash) {
  const body run = [](crash_world& w) {
    for (std::uint64_t id : {1, 2, 3})
      w.publish(id, {0});
    interleave(w.h.threads(),
               {[&] {
                  publish_one(w, 4, {0});
                  publish_one(w, 5, {0});
                },
                [&] {
                  w.consume(0, {1, 0}); // one entry is left, so the first ring stays
                  w.consume(0, {0, 1}); // the first ring leaves with this release, or later
                  w.q->maintain(1);
                }});
  };
  const explorer_report r = crashed("a producer and a consumer during an append", run);
  EXPECT_TRUE(r.ok()) << r.failure;
}

TEST(RingGrowThreads, ARingThatMovesToAnotherQueueLosesNothingInACrash) {
  const body run = [](crash_world& w) {
    for (std::uint64_t id : {1, 2, 3, 4})
      w.publish(id, {0});
    interleave(w.h.threads(), {[&] {
                                 w.consume(0, {0, 1, 2});
                               },
                               [&] {
                                 w.q->maintain();
                                 if (w.q->link_now(1) == link_status::ready) publish_one(w, 5, {1});
                               }});
  };
  const explorer_report r = crashed("a ring that moves to another queue", run);
  EXPECT_TRUE(r.ok()) << r.failure;
  test::expect_found(
      "ring.unlink_undrained",
      !crashed("a ring that moves to another queue", run, "ring.unlink_undrained").ok());
}

TEST(RingGrowThreads, AProducerOfAShrinkingQueueLosesNothingInACrash) {
  const body run = [](crash_world& w) {
    for (std::uint64_t id : {1, 2, 3, 4})
      w.publish(id, {0});
    w.consume(0, {0, 1, 2, 3});
    interleave(w.h.threads(), {[&] { publish_one(w, 5, {0}); },
                               [&] {
                                 for (int i = 0; i < 5; ++i)
                                   w.q->maintain();
                               }});
    w.consume(0, {0});
  };
  const explorer_report r = crashed("a producer of a shrinking queue", run);
  EXPECT_TRUE(r.ok()) << r.failure;
}

} // namespace
} // namespace chainring::test
