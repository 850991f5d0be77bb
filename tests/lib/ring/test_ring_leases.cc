// SPDX-License-Identifier: BSD-3-Clause
/// Leases that end at a deadline of the caller, and acks that name their lease.
#include <array>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hooked.h"
#include "ring_fixture.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct RingLeases : testing::TestWithParam<queue_mode>, queues_in_memory {
  RingLeases() {
    layout.values = true;
    layout.options.slots = 8;
    layout.options.capacity_max = 31;
    layout.options.stock = 2;
    layout.options.timed_leases = true;
  }
  queues_on_media& q() {
    const bool fresh = opened == nullptr;
    queues_in_memory::q();
    if (fresh) {
      EXPECT_TRUE(opened->consumer().set_mode(0, GetParam()));
    }
    return *opened;
  }
  void fill(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t v = first; v <= last; ++v)
      ASSERT_EQ(q().put(0, v), 1u) << v;
  }
  std::vector<leased> lease(std::size_t n, std::uint64_t deadline) {
    std::vector<leased> out(n);
    out.resize(q().consumer().lease(0, out, deadline));
    return out;
  }
};

TEST_P(RingLeases, ALeaseThatIsNotAckedInTimeComesAgainFirst) {
  fill(1, 3);
  const auto late = lease(2, 100);
  ASSERT_EQ(late.size(), 2u);
  EXPECT_EQ(q().consumer().earliest_deadline(0), 100u);
  EXPECT_EQ(q().consumer().expire(0, 99), 0u) << "the deadline has not passed";
  EXPECT_EQ(q().consumer().expire(0, 100), 2u);
  EXPECT_EQ(q().consumer().expire(0, 1000), 0u) << "a lease ends only once";
  EXPECT_EQ(q().consumer().earliest_deadline(0), UINT64_MAX);
  const auto again = lease(3, 200);
  ASSERT_EQ(again.size(), 3u);
  EXPECT_EQ(again[0].ticket(), 1u);
  EXPECT_TRUE(again[0].redelivered());
  EXPECT_TRUE(again[1].redelivered());
  EXPECT_FALSE(again[2].redelivered());
  EXPECT_EQ(again[0].generation(), 1u);
}

TEST_P(RingLeases, ALateConsumerDoesNotEndTheLeaseOfTheNextOne) {
  fill(1, 2);
  const auto late = lease(1, 100);
  EXPECT_EQ(q().consumer().expire(0, 150), 1u);
  EXPECT_EQ(q().consumer().ack(0, late[0]), ack_status::ignored) << "the entry is not leased";
  const auto now = lease(1, 300);
  ASSERT_EQ(now[0].ticket(), 1u);
  EXPECT_EQ(q().consumer().ack(0, late[0]), ack_status::ignored);
  EXPECT_FALSE(q().consumer().nack(0, late[0]));
  EXPECT_EQ(q().consumer().ack(0, now[0]), ack_status::advanced);
  EXPECT_EQ(q().consumer().ack(0, now[0]), ack_status::ignored);
  EXPECT_EQ(q().release(0), 1u);
}

TEST_P(RingLeases, AnAcknowledgedEntryDoesNotComeAgain) {
  fill(1, 4);
  const auto e = lease(4, 100);
  EXPECT_EQ(q().consumer().ack(0, e[0]), ack_status::advanced);
  EXPECT_EQ(q().consumer().ack(0, e[2]), ack_status::marked);
  EXPECT_EQ(q().consumer().expire(0, 100), 2u);
  EXPECT_THAT(q().values(0), ElementsAre(2, 4));
}

TEST_P(RingLeases, ABurstThatIsAcknowledgedInOrderIsReleasedWhole) {
  for (std::uint64_t lap = 0; lap < 40; ++lap) {
    fill(lap * 3 + 1, lap * 3 + 3);
    const auto e = q().lease(0);
    ASSERT_EQ(e.size(), 3u);
    EXPECT_EQ(q().consumer().ack_burst(0, e), 3u);
    EXPECT_EQ(q().consumer().ack_burst(0, e), 0u) << "the leases have ended";
    EXPECT_EQ(q().release(0), 3u);
  }
}

TEST_P(RingLeases, ABurstIsAcknowledgedUpToTheFirstEntryThatIsNotTheOldest) {
  fill(1, 6);
  const auto e = q().lease(0, 5);
  const auto consumer = q().consumer();
  EXPECT_EQ(consumer.ack_burst(0, std::span(e).subspan(1)), 0u);
  EXPECT_EQ(consumer.ack(0, e[2]), ack_status::marked);
  const std::vector<leased> gap = {e[0], e[1], e[3], e[4]}; // the one between is done
  EXPECT_EQ(consumer.ack_burst(0, gap), 4u);
  EXPECT_THAT(q().values(0), ElementsAre(6));
  EXPECT_EQ(q().release(0), 5u);
}

TEST_P(RingLeases, ABurstEndsOnlyItsOwnLeases) {
  fill(1, 4);
  const auto late = q().lease(0, 3);
  const auto consumer = q().consumer();
  EXPECT_TRUE(consumer.nack(0, late[1]));
  EXPECT_EQ(consumer.ack_burst(0, late), 1u) << "the second lease was given back";
  EXPECT_EQ(consumer.ack_burst(0, std::span(late).subspan(1)), 0u);
  const auto again = q().lease(0, 1);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].ticket(), late[1].ticket());
  EXPECT_EQ(consumer.ack_burst(0, std::span(late).subspan(1)), 0u);
  const std::vector<leased> rest = {again[0], late[2]};
  EXPECT_EQ(consumer.ack_burst(0, rest), 2u);
  EXPECT_EQ(q().release(0), 3u);
}

TEST_P(RingLeases, ABurstGoesOnInTheRingThatFollows) {
  fill(1, 12); // seven in the first ring
  const auto e = q().lease(0);
  ASSERT_EQ(e.size(), 12u);
  EXPECT_EQ(q().consumer().ack_burst(0, e), 12u);
  EXPECT_EQ(q().release(0), 12u);
  EXPECT_THAT(q().values(0), IsEmpty());
}

TEST_P(RingLeases, PlacementsThatAreFinishedOutOfOrderWaitForTheFirst) {
  fill(1, 1);
  std::array<placement, 4> p;
  for (std::uint64_t i = 0; i < p.size(); ++i) {
    const std::uint64_t value[] = {i + 2};
    ASSERT_EQ(q()->enqueue_bulk(0, value, p[i]), 1u);
  }
  q()->place_finish(p[2]);
  EXPECT_THAT(q().values(0), ElementsAre(1));
  EXPECT_EQ(q().consumer().leasable(0), 0u);
  q()->place_void(p[1]);
  EXPECT_THAT(q().values(0), IsEmpty());
  q()->place_finish(p[0]);
  EXPECT_TRUE(q()->may_lease(0));
  EXPECT_THAT(q().values(0), ElementsAre(2, 4));
  EXPECT_FALSE(GetParam() == queue_mode::mpsc && q()->may_lease(0));
  q()->place_finish(p[3]);
  EXPECT_TRUE(q()->may_lease(0));
  EXPECT_THAT(q().values(0), ElementsAre(5));
  fill(6, 7);
  EXPECT_THAT(q().values(0), ElementsAre(6, 7));
}

TEST_P(RingLeases, EachLeaseHasItsOwnDeadline) {
  fill(1, 6);
  lease(2, 300);
  lease(2, 100);
  lease(1, UINT64_MAX);
  static_cast<void>(q().lease(0, 1)); // a lease without a deadline
  EXPECT_EQ(q().consumer().earliest_deadline(0), 100u);
  EXPECT_EQ(q().consumer().expire(0, 200), 2u);
  EXPECT_EQ(q().consumer().earliest_deadline(0), 300u);
  EXPECT_EQ(q().consumer().expire(0, UINT64_MAX), 2u);
  EXPECT_EQ(q().consumer().expire(0, UINT64_MAX), 0u);
  EXPECT_THAT(q().values(0), ElementsAre(1, 2, 3, 4));
}

TEST_P(RingLeases, ExpireEndsAtMostAsManyLeasesAsItIsToldAndTheRestNextTime) {
  fill(1, 5);
  lease(5, 10);
  EXPECT_EQ(q().consumer().expire(0, 10, 2), 2u);
  EXPECT_EQ(q().consumer().earliest_deadline(0), 10u);
  EXPECT_EQ(q().consumer().expire(0, 10, 2), 2u);
  EXPECT_EQ(q().consumer().expire(0, 10, 2), 1u);
  EXPECT_THAT(q().values(0), ElementsAre(1, 2, 3, 4, 5));
}

TEST_P(RingLeases, ASlotUsedAgainHasNoDeadlineOfEarlierLeases) {
  std::uint64_t next = 1;
  for (int lap = 0; lap < 5; ++lap) {
    fill(next, next + 6);
    for (const leased& e : lease(7, 10)) // the deadline stays in the slot
      EXPECT_NE(q().consumer().ack(0, e), ack_status::ignored);
    EXPECT_EQ(q().release(0), 7u);
    next += 7;
    fill(next, next + 6);
    ASSERT_EQ(q().lease(0).size(), 7u);
    EXPECT_EQ(q().consumer().expire(0, 1000), 0u) << "the leases have no deadline";
    for (std::uint64_t t = next; t < next + 7; ++t)
      EXPECT_NE(q()->ack(0, t), ack_status::ignored);
    EXPECT_EQ(q().release(0), 7u);
    next += 7;
  }
}

TEST_P(RingLeases, ARingUsedAgainHasNoDeadlineOfItsLastQueue) {
  layout.options.stock = 1;
  layout.options.rings_max = 1;
  layout.options.capacity_max = 0;
  fill(1, 3);
  lease(3, 10);
  ASSERT_EQ(q().restart(0), restart_status::stored);
  q()->refill();
  ASSERT_TRUE(q().consumer().set_mode(1, GetParam()));
  ASSERT_EQ(q().put(1, 1, 3), 3u);
  std::vector<leased> out(3);
  ASSERT_EQ(q().consumer().lease(1, out, 100), 3u);
  EXPECT_EQ(q().consumer().expire(1, 50), 0u);
  EXPECT_EQ(q().consumer().expire(1, 100), 3u);
}

TEST_P(RingLeases, DeadlinesCountInTwoRings) {
  fill(1, 10);
  lease(10, 50);
  EXPECT_EQ(q().consumer().expire(0, 49), 0u);
  EXPECT_EQ(q().consumer().expire(0, 50, 8), 8u);
  EXPECT_EQ(q().consumer().expire(0, 50), 2u);
  EXPECT_THAT(q().values(0), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
}

TEST_P(RingLeases, ALeaseIsNotDurableAndATimedOutEntryIsUnchanged) {
  fill(1, 3);
  lease(3, 50);
  EXPECT_EQ(q().consumer().expire(0, 60), 3u);
  opened.reset();
  EXPECT_THAT(q().values(0), ElementsAre(1, 2, 3));
  EXPECT_EQ(q().consumer().expire(0, UINT64_MAX), 0u) << "the leases have no deadline";
}

TEST_P(RingLeases, RewindEndsLeasesToo) {
  fill(1, 3);
  const auto before = lease(3, 50);
  q()->rewind(0);
  EXPECT_EQ(q().consumer().ack(0, before[0]), ack_status::ignored);
  const auto now = lease(3, 500);
  ASSERT_EQ(now.size(), 3u);
  EXPECT_EQ(q().consumer().ack(0, before[0]), ack_status::ignored);
  EXPECT_EQ(q().consumer().expire(0, 100), 0u);
  EXPECT_EQ(q().consumer().ack(0, now[0]), ack_status::advanced);
  EXPECT_EQ(q().consumer().expire(0, 500), 2u);
}

TEST_P(RingLeases, PubrecStaysWhenALeaseEnds) {
  layout.values = false;
  ASSERT_TRUE(q().publish(1, {0}, 2));
  auto e = lease(1, 10);
  ASSERT_TRUE(q().consumer().set_state(0, e[0].ticket(), slot_state::pubrec));
  q().consumer().flush_slot(0, e[0].ticket());
  m->drain();
  EXPECT_EQ(q().consumer().expire(0, 10), 1u);
  e = lease(1, 20);
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(e[0].state(), slot_state::pubrec);
}

TEST_P(RingLeases, TheGenerationOfALeaseRepeatsAfterSixteenLeases) {
  fill(1, 1);
  const auto first = lease(1, 1);
  EXPECT_EQ(q().consumer().expire(0, 1), 1u);
  for (int i = 1; i < 16; ++i) {
    const auto e = lease(1, 1);
    ASSERT_EQ(e.size(), 1u);
    EXPECT_EQ(e[0].generation(), static_cast<std::uint32_t>(i));
    EXPECT_EQ(q().consumer().ack(0, first[0]), ack_status::ignored);
    EXPECT_EQ(q().consumer().expire(0, 1), 1u);
  }
  EXPECT_EQ(lease(1, 1)[0].generation(), 0u);
}

// --- a consumer that is preempted -------------------------------------------------------------

/// A call that one consumer has begun, and that goes on after its slot was used again. A ring of
/// four slots holds three entries.
struct late_call {
  const char* name;
  const char* where; ///< the hook point at which the other threads run
  bool (*ignored)(queues_on_media&, std::span<const leased>); ///< makes the call
};

struct RingLateCalls : testing::TestWithParam<late_call>, queues_in_memory {
  RingLateCalls() {
    layout.values = true;
    layout.options.slots = 4;
    layout.options.stock = 2;
    layout.options.timed_leases = true;
    layout.options.mode = queue_mode::mpmc;
  }
  placement place(std::uint64_t value) {
    placement p;
    EXPECT_EQ(q()->enqueue_bulk(0, {&value, 1}, p), 1u);
    q()->place_flush(p);
    q().m.drain();
    return p;
  }
  /// Fills the ring, leases everything and begins the late call. Another consumer meanwhile
  /// acknowledges and releases everything, and two producers fill the slots again. The second of
  /// them has finished, so the slot of ticket 1 has the mark of ticket 5. Returns true when the
  /// late call is ignored and both entries are leased afterwards.
  bool leaves_the_newer_entry() {
    for (std::uint64_t v = 1; v <= 3; ++v)
      EXPECT_EQ(q().put(0, v), 1u);
    std::array<leased, 3> out;
    EXPECT_EQ(q().consumer().lease(0, out, 100), 3u);
    placement fourth, fifth;
    const hooked others(GetParam().where, [&] {
      EXPECT_EQ(q().consumer().ack_burst(0, out), 3u);
      EXPECT_EQ(q().release(0), 3u);
      fourth = place(4);
      fifth = place(5);
      q()->place_finish(fifth);
    });
    const bool ignored = GetParam().ignored(q(), out);
    EXPECT_TRUE(others.visited());
    q()->place_finish(fourth);
    return q().values(0) == std::vector<std::uint64_t>{4, 5} && ignored;
  }
};

TEST_P(RingLateCalls, LeaveTheEntryThatHasTheirSlotNow) {
  EXPECT_TRUE(leaves_the_newer_entry());
  EXPECT_EQ(q()->ack(0, 4), ack_status::advanced);
  EXPECT_EQ(q()->ack(0, 5), ack_status::advanced);
  EXPECT_EQ(q().release(0), 2u);
  EXPECT_EQ(q()->depth(0), 0u);
}

TEST_P(RingLateCalls, WouldTakeTheMarkOfALaterEntryForTheirOwn) {
  const seeded on("ring.late_mark_taken");
  expect_found("ring.late_mark_taken", !leaves_the_newer_entry(), GetParam().name);
}

INSTANTIATE_TEST_SUITE_P(
    Calls, RingLateCalls,
    testing::Values(late_call{"Ack", "ring.settle.chosen",
                              [](auto& q, auto) { return q->ack(0, 1) == ack_status::ignored; }},
                    late_call{"AckOfALease", "ring.settle.chosen",
                              [](auto& q, auto of) {
                                return q.consumer().ack(0, of[0]) == ack_status::ignored;
                              }},
                    late_call{"AckBurst", "ring.ack.chosen",
                              [](auto& q, auto of) { return q.consumer().ack_burst(0, of) == 0; }},
                    late_call{"Nack", "ring.give_back.chosen",
                              [](auto& q, auto) { return !q->nack(0, 1); }},
                    late_call{"Expire", "ring.expire.looking",
                              [](auto& q, auto) { return q.consumer().expire(0, 100) == 0; }},
                    late_call{"DropOldest", "ring.drop.looking",
                              [](auto& q, auto) { return q->drop_oldest(0, 1) == 0; }},
                    late_call{"SetState", "ring.settle.chosen",
                              [](auto& q, auto) {
                                return !q.consumer().set_state(0, 1, slot_state::dropped);
                              }}),
    [](const auto& p) { return p.param.name; });

// Placements that are finished out of order leave marks behind the watermark. They must not be
// overwritten before the watermark has passed them, or every later call has to look at marks.
TEST(RingWatermark, PassesTheMarksOfEarlierPlacementsBeforeTheirSlotsAreUsedAgain) {
  queues_in_memory of;
  of.layout.values = true;
  of.layout.options.slots = 4;
  auto& q = of.q();
  const auto place = [&](std::vector<std::uint64_t> values) {
    placement p;
    EXPECT_EQ(q->enqueue_bulk(0, values, p), values.size());
    q->place_flush(p);
    q.m.drain();
    return p;
  };
  const auto consume = [&](std::size_t n) {
    EXPECT_EQ(q.values(0).size(), n);
    std::uint32_t released = 0;
    for (std::uint64_t ticket = 1; ticket <= 20; ++ticket)
      (void)q->ack(0, ticket);
    released = q.release(0);
    EXPECT_EQ(released, n);
  };
  ASSERT_EQ(q->link_now(0), link_status::ready);
  const placement first = place({1}), second = place({2, 3});
  q->place_finish(second);
  q->place_finish(first);
  consume(3);
  q->place_finish(place({4, 5, 6}));
  consume(3);
  const placement next = place({7});
  const hooked late("ring.finish.late", [] {});
  q->place_finish(next);
  EXPECT_FALSE(late.visited()) << "a placement in order has to be finished by marks";
}

INSTANTIATE_TEST_SUITE_P(Modes, RingLeases, testing::Values(queue_mode::mpsc, queue_mode::mpmc),
                         [](const auto& p) {
                           return p.param == queue_mode::mpsc ? "OneConsumer" : "ManyConsumers";
                         });

} // namespace
} // namespace chainring::test
