// SPDX-License-Identifier: BSD-3-Clause
/// Queues under deterministic schedules, with crashes and with each seeded race. Producers and
/// consumers are switched at every call of the persist seam, at every hook point and wherever
/// rte_ring spins.
#include <gtest/gtest.h>

#include <array>

#include "base/hook.h"
#include "base/idle.h"
#include "crash_world.h"
#include "schedule_world.h"
#include "support/bounds.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

explorer_options crash_options() {
  explorer_options o;
  o.seed = seed_from_environment(1);
  explorer_options gate = o;
  gate.states_max = 512;
  return bounds(gate, o);
}

TEST(RingThreads, TwoInterleavedProducersLoseNothingInACrash) {
  queue_layout l = crash_layout();
  l.queues = 2;
  scenario s = queue_scenario(
      "two producers",
      [](crash_world& w) {
        w.prepare({0, 1});
        auto produce = [&w](std::uint64_t id, std::vector<std::uint32_t> to) {
          message msg;
          if (!w.q.stage(id, msg)) return w.h.fail("no descriptor was free");
          w.h.begin(id, crash_world::mask_of(to));
          w.q.messages->add_references(msg.ref.index, static_cast<std::uint32_t>(to.size()));
          const slot_ref ref(msg.ref, 1);
          std::vector<placement> placed(to.size());
          for (std::size_t i = 0; i < to.size(); ++i)
            if (w.q->place_start(to[i], {&ref, 1}, placed[i]) != place_status::placed)
              return w.h.fail("a message could not be placed");
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
        };
        interleave(w.h.threads(), {[&] {
                                     produce(1, {0, 1});
                                   },
                                   [&] {
                                     produce(2, {1, 0});
                                   },
                                   [&] {
                                     w.look();
                                     w.consume(0, {0});
                                   }});
      },
      l);
  s.continue_after = nullptr;
  s.recover_and_check = [l](media& m, const history& h) -> verdict {
    return check_queues(m, h, l);
  };
  explorer_options o = crash_options();
  o.depth = 1;
  o.schedules.random = 60;
  o.schedules.preemptions = 1;
  o.schedules.enumerated_max = 120;
  const explorer_report r = explore(s, o);
  EXPECT_TRUE(r.ok()) << r.failure;
}

struct value_world : scheduled_queues {
  explicit value_world(queue_mode mode) : scheduled_queues(mode, layout()) {}
  static queue_layout layout() {
    queue_layout l;
    l.queues = 2;
    l.values = true;
    l.options.slots = 8;
    l.options.stock = 2;
    l.blocks = 64;
    return l;
  }
};

bool holds(const char* bug, const std::function<bool(schedule&)>& body) {
  return test::holds(bug, 800, body);
}

TEST(RingThreads, EntriesOfASharedQueueAreLeasedOnceEach) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpmc);
    w.put(1, 6);
    std::array<std::vector<std::uint64_t>, 2> got;
    auto consumer = [&](std::size_t i) {
      for (int round = 0; round < 3; ++round)
        for (const leased& e : w.q.lease(0, 2)) {
          got[i].push_back(e.ref.word);
          static_cast<void>(w.q->ack(0, e.ticket()));
        }
    };
    interleave(s, {[&] { consumer(0); }, [&] { consumer(1); }});
    std::vector<std::uint64_t> both = got[0];
    both.insert(both.end(), got[1].begin(), got[1].end());
    std::ranges::sort(both);
    return both == std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6} && w.q.release(0) == 6;
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("ring.lease_race", !holds("ring.lease_race", run));
}

TEST(RingThreads, TwoReleasersFreeWhatIsAckedOnce) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpmc);
    w.put(1, 6);
    for (const leased& e : w.q.lease(0, 3))
      static_cast<void>(w.q->ack(0, e.ticket()));
    interleave(s, {[&] { w.q.release(0); }, [&] { w.q.release(0); }});
    // Entries 4 to 6 were never acknowledged. New entries must not be placed over them.
    const std::uint32_t room = w.q->free_count(0);
    if (w.put(7, 4) != 4 || room != 4 || w.put(11, 1) != 0) return false;
    return w.values() == std::vector<std::uint64_t>{4, 5, 6, 7, 8, 9, 10};
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("ring.two_releasers", !holds("ring.two_releasers", run));
}

TEST(RingThreads, AReleaserPassesVoidSlotsWhileOthersLease) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpmc);
    auto put_void = [&] {
      const std::uint64_t values[2] = {};
      placement p;
      if (w.q->enqueue_bulk(0, values, p) == 2) w.q->place_void(p);
    };
    put_void();
    w.put(1, 3);
    put_void();
    std::vector<std::uint64_t> got;
    interleave(s, {[&] {
                     for (int round = 0; round < 3; ++round)
                       for (const leased& e : w.q.lease(0, 2)) {
                         got.push_back(e.ref.word);
                         static_cast<void>(w.q.consumer().ack(0, e));
                       }
                   },
                   [&] {
                     w.q.release(0);
                     w.q.release(0);
                   },
                   [&] { w.q.release(0); }});
    w.q.release(0);
    return got == std::vector<std::uint64_t>{1, 2, 3} && w.q->free_count(0) == 7;
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("ring.pass_race", !holds("ring.pass_race", run));
}

TEST(RingThreads, AProducerThatFindsTheRingFullTakesNothingBackFromAnother) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    w.put(1, 4);
    std::array<std::uint32_t, 2> got{};
    interleave(s, {[&] { got[0] = w.put(10, 3); }, [&] { got[1] = w.put(20, 4); }});
    // rte_ring still counts what the other producer placed: there is no room.
    return got[0] == 3 && got[1] == 0 && w.put(30, 1) == 0 &&
           w.values() == std::vector<std::uint64_t>{1, 2, 3, 4, 10, 11, 12};
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("ring.finish_unstarted", !holds("ring.finish_unstarted", run));
}

TEST(RingThreads, PlacementsThatAreFinishedInAnyOrderAreAllReady) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    std::array<placement, 4> placed;
    for (std::uint64_t i = 0; i < placed.size(); ++i) {
      const std::uint64_t values[] = {10 * i + 1};
      if (w.q->enqueue_bulk(0, values, placed[i]) != 1) return false;
      w.q->place_flush(placed[i]);
    }
    w.m->drain();
    interleave(s, {[&] { w.q->place_finish(placed[0]); }, [&] { w.q->place_finish(placed[1]); },
                   [&] { w.q->place_finish(placed[2]); }, [&] { w.q->place_finish(placed[3]); }});
    const std::vector<std::uint64_t> seen = w.values();
    return seen == std::vector<std::uint64_t>{1, 11, 21, 31} && w.put(50, 1) == 1 &&
           w.values() == std::vector<std::uint64_t>{50};
  };
  EXPECT_TRUE(holds(nullptr, run));
  test::expect_found("ring.watermark_race", !holds("ring.watermark_race", run));
}

TEST(RingThreads, TwoConsumersThatAcknowledgeBurstsEndEachLeaseOnce) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpmc);
    w.put(1, 6);
    std::array<std::uint32_t, 2> ended{};
    auto consumer = [&](std::size_t i) {
      const auto e = w.q.lease(0, 3);
      std::uint32_t n = w.q.consumer().ack_burst(0, e);
      ended[i] = n;
      for (; n < e.size(); ++n)
        ended[i] += w.q.consumer().ack(0, e[n]) != ack_status::ignored;
    };
    interleave(s, {[&] { consumer(0); }, [&] { consumer(1); }, [&] { w.q.release(0); }});
    w.q.release(0);
    return ended == std::array<std::uint32_t, 2>{3, 3} && w.q->free_count(0) == 7 &&
           w.values().empty();
  };
  EXPECT_TRUE(holds(nullptr, run));
}

TEST(RingThreads, ProducersAndAConsumerLoseNothingWhenTicketsGoRoundTheRing) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    std::vector<std::uint64_t> seen;
    auto produce = [&](std::uint64_t first) {
      idle_policy wait;
      for (std::uint64_t v = first; v < first + 6; v += 2)
        while (w.put(v, 2) == 0)
          wait.idle();
    };
    interleave(s, {[&] { produce(100); }, [&] { produce(200); },
                   [&] {
                     idle_policy wait;
                     while (seen.size() < 12) {
                       const auto e = w.q.lease(0, 3);
                       for (const leased& x : e)
                         seen.push_back(x.ref.word);
                       if (e.empty())
                         wait.idle();
                       else
                         w.q.consumer().ack_through(0, e.back().ticket());
                       w.q.release(0);
                     }
                   }});
    for (std::uint64_t first : {100, 200}) { // the order of each producer is kept
      std::vector<std::uint64_t> own;
      for (std::uint64_t v : seen)
        if (v / 100 * 100 == first) own.push_back(v);
      for (std::size_t i = 0; i < own.size(); ++i)
        if (own[i] != first + i) return false;
      if (own.size() != 6) return false;
    }
    return true;
  };
  EXPECT_TRUE(holds(nullptr, run));
}

TEST(RingThreads, APlacementThatRacesARestartIsDroppedOrRefused) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    w.put(1, 2);
    std::uint32_t placed = 0;
    restart_status restarted = restart_status::busy;
    interleave(s, {[&] { placed = w.put(10, 1); },
                   [&] {
                     for (int i = 0; i < 50 && restarted == restart_status::busy; ++i) {
                       restarted = w.q.restart(0);
                       idle_policy wait;
                       if (restarted == restart_status::busy) wait.idle();
                     }
                   }});
    if (restarted != restart_status::stored) return false;
    // A value placed before the restart was dropped with the others, and none was placed after it.
    if (w.q->link_now(0) != link_status::ready) return false;
    if (!w.values().empty() || w.put(30, 1) != 1) return false;
    static_cast<void>(placed);
    return w.values() == std::vector<std::uint64_t>{30};
  };
  EXPECT_TRUE(holds(nullptr, run));
}

TEST(RingThreads, OnlyOneOfManyThreadsLinksTheFirstRing) {
  auto run = [](schedule& s) {
    value_world w(queue_mode::mpsc);
    int linked = 0;
    auto link = [&] {
      idle_policy wait;
      for (;;) {
        const link_status p = w.q->link_start(1);
        if (p == link_status::ready) return;
        if (p == link_status::linking) {
          ++linked;
          w.q->link_flush(1);
          w.m->drain();
          w.q->link_finish(1);
          return;
        }
        if (p == link_status::refused) std::abort();
        wait.idle();
      }
    };
    interleave(s, {link, link, link});
    return linked == 1 && w.q->statistics().rings_in_stock == 0;
  };
  EXPECT_TRUE(holds(nullptr, run));
}

} // namespace
} // namespace chainring::test
