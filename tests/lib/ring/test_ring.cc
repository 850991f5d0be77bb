// SPDX-License-Identifier: BSD-3-Clause
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/hook.h"
#include "hooked.h"
#include "ring_fixture.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Ring : testing::Test, queues_in_memory {};

TEST_F(Ring, AQueueHasNoRingUntilItsFirstMessage) {
  EXPECT_EQ(q()->statistics(0).capacity, 0u);
  EXPECT_EQ(q()->free_count(0), 7u);
  placement p;
  const slot_ref ref(1);
  EXPECT_EQ(q()->place_start(0, {&ref, 1}, p), place_status::no_ring);
  ASSERT_EQ(q()->link_start(0), link_status::linking);
  EXPECT_EQ(q()->link_start(0), link_status::wait) << "another call links the ring already";
  EXPECT_EQ(q()->place_start(0, {&ref, 1}, p), place_status::no_ring)
      << "the link is not drained yet";
  q()->link_flush(0);
  m->drain();
  q()->link_finish(0);
  EXPECT_EQ(q()->link_start(0), link_status::ready);
  EXPECT_EQ(q()->statistics(0).capacity, 7u);
}

TEST_F(Ring, ARingIsRefusedWhenNoneIsLeftAndComesBackWithARefill) {
  layout.options.stock = 1;
  layout.options.rings_max = 2;
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  EXPECT_EQ(q()->link_start(1), link_status::refused);
  EXPECT_EQ(q()->statistics().refused_ring, 1u);
  EXPECT_EQ(q()->refill(), 1u);
  EXPECT_EQ(q()->link_now(1), link_status::ready);
  EXPECT_EQ(q()->link_now(2), link_status::refused);
  ASSERT_EQ(q().restart(0), restart_status::stored);
  EXPECT_EQ(q()->link_now(2), link_status::ready) << "the restarted queue gave its ring back";
}

TEST_F(Ring, AStockThatAnotherThreadHasJustFilledIsUsed) {
  layout.options.stock = 1;
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  const test::hooked another_thread("ring.prepare.refused", [&] { EXPECT_EQ(q()->refill(), 1u); });
  EXPECT_EQ(q()->link_now(1), link_status::ready);
}

TEST_F(Ring, EntriesComeInTicketOrderAndOnlyWhenReady) {
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  message a, b;
  ASSERT_TRUE(q().stage(1, a));
  ASSERT_TRUE(q().stage(2, b));
  placement pa, pb;
  const slot_ref ra(a.ref, 1), rb(b.ref, 1);
  ASSERT_EQ(q()->place_start(0, {&ra, 1}, pa), place_status::placed);
  ASSERT_EQ(q()->place_start(0, {&rb, 1}, pb), place_status::placed);
  q().messages->publish(b);
  q()->place_finish(pb);
  EXPECT_THAT(q().ids(0), IsEmpty()) << "the first entry is not ready, so the second one waits";
  q().messages->publish(a);
  q()->place_finish(pa);
  EXPECT_THAT(q().ids(0), ElementsAre(1, 2));
  EXPECT_THAT(q().ids(0), IsEmpty()) << "all entries are leased";
}

TEST_F(Ring, WhatWasJustPlacedIsLeasedWithoutALookWhereItIsNext) {
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  message m1, m2;
  placement first, second;
  const auto place = [&](std::uint64_t id, message& msg, placement& p) {
    ASSERT_TRUE(q().stage(id, msg));
    const slot_ref ref(msg.ref, 1);
    ASSERT_EQ(q()->place_start(0, {&ref, 1}, p), place_status::placed);
  };
  place(1, m1, first);
  place(2, m2, second);
  EXPECT_EQ(first.depth, 1u);
  EXPECT_EQ(second.depth, 2u);
  EXPECT_FALSE(q()->lease_placed(0, first)) << "it is not ready";
  for (message* x : {&m1, &m2})
    q().messages->publish(*x);
  q()->place_finish(first);
  EXPECT_FALSE(q()->lease_placed(0, second)) << "it is not ready";
  q()->place_finish(second);
  EXPECT_FALSE(q()->lease_placed(0, second)) << "one before it is not leased";
  EXPECT_FALSE(q()->lease_placed(1, first)) << "it is in another queue";
  EXPECT_TRUE(q()->lease_placed(0, first));
  EXPECT_FALSE(q()->lease_placed(0, first)) << "it is leased";
  EXPECT_TRUE(q()->nack(0, first.first_ticket));
  EXPECT_FALSE(q()->lease_placed(0, second)) << "one that was given back comes first";
  const auto e = q().lease(0);
  ASSERT_EQ(e.size(), 2u);
  EXPECT_EQ(e[0].ticket(), first.first_ticket);
  EXPECT_EQ(e[1].ticket(), second.first_ticket);
}

TEST_F(Ring, TheOldestLeaseIsAcknowledgedAndTheCallerLearnsWhetherMoreMayBeLeased) {
  for (std::uint64_t id = 1; id <= 3; ++id)
    ASSERT_TRUE(q().publish(id, {0}));
  bool more = false;
  EXPECT_FALSE(q()->ack_oldest(0, 1, more)) << "it is not leased";
  const auto e = q().lease(0, 2);
  ASSERT_EQ(e.size(), 2u);
  EXPECT_FALSE(q()->ack_oldest(0, e[1].ticket(), more)) << "it is not the oldest";
  EXPECT_TRUE(q()->ack_oldest(0, e[0].ticket(), more));
  EXPECT_TRUE(more) << "the third may be leased";
  EXPECT_FALSE(q()->ack_oldest(0, e[0].ticket(), more)) << "it is acknowledged";
  EXPECT_EQ(q().lease(0).size(), 1u);
  EXPECT_TRUE(q()->ack_oldest(0, e[1].ticket(), more));
  EXPECT_FALSE(more);
  EXPECT_EQ(q().release(0), 2u);
}

TEST_F(Ring, AVoidPlacementIsPassedOver) {
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  message a;
  ASSERT_TRUE(q().stage(1, a));
  q().messages->add_references(a.ref.index, 1);
  placement p;
  const slot_ref ref(a.ref, 1);
  ASSERT_EQ(q()->place_start(0, {&ref, 1}, p), place_status::placed);
  q()->place_void(p);
  q()->place_flush(p);
  m->drain();
  q().messages->discard(a);
  EXPECT_EQ(q().live(), 1u) << "the void slot still names the message";
  ASSERT_TRUE(q().publish(2, {0}));
  EXPECT_THAT(q().ids(0), ElementsAre(2));
  EXPECT_EQ(q().release(0), 1u) << "the head passes the void slot";
  EXPECT_EQ(q().live(), 1u);
  EXPECT_EQ(q()->ack(0, 2), ack_status::advanced);
  EXPECT_EQ(q().release(0), 1u);
  EXPECT_EQ(q().live(), 0u);
}

TEST_F(Ring, AQueueMayBePrefetchedWithAndWithoutARing) {
  for (unsigned pass = 0; pass < 3; ++pass)
    q()->prefetch(0, pass);
  ASSERT_TRUE(q().publish(1, {0}));
  for (unsigned pass = 0; pass < 3; ++pass)
    q()->prefetch(0, pass);
  EXPECT_THAT(q().ids(0), ElementsAre(1));
}

TEST_F(Ring, AMessageThatOneQueueRefusesIsInNoQueue) {
  for (int i = 1; i <= 7; ++i)
    ASSERT_TRUE(q().publish(static_cast<std::uint64_t>(i), {1}));
  EXPECT_EQ(q()->free_count(1), 0u);
  EXPECT_FALSE(q().publish(8, {0, 1, 2}));
  EXPECT_THAT(q().ids(0), IsEmpty());
  EXPECT_THAT(q().ids(1), ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ(q()->free_count(0), 6u);
  EXPECT_EQ(q().release(0), 1u);
  EXPECT_EQ(q()->free_count(0), 7u);
  EXPECT_EQ(q().live(), 7u);
}

TEST_F(Ring, EnqueueBulkPlacesAllOrNoneAndEnqueueBurstWhatFits) {
  layout.values = true;
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  const std::vector<std::uint64_t> values(5);
  placement p;
  ASSERT_EQ(q()->enqueue_bulk(0, values, p), 5u);
  EXPECT_EQ(p.count, 5u);
  EXPECT_EQ(q()->enqueue_bulk(0, values, p), 0u);
  ASSERT_EQ(q()->enqueue_burst(0, values, p), 2u);
  EXPECT_EQ(p.count, 2u);
  EXPECT_EQ(p.first_ticket, 6u);
  EXPECT_EQ(q()->enqueue_burst(0, values, p), 0u);
  const queue_statistics s = q()->statistics(0);
  EXPECT_EQ(s.depth, 7u);
  EXPECT_EQ(s.high_water, 7u);
  EXPECT_EQ(s.tail, 7u);
}

TEST_F(Ring, AcksInOrderMoveTheHeadAndLateOnesAreIgnored) {
  for (std::uint64_t i = 1; i <= 4; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  EXPECT_EQ(q()->ack(0, 1), ack_status::ignored) << "the entry is not leased";
  ASSERT_EQ(q().lease(0, 3).size(), 3u);
  EXPECT_EQ(q()->ack(0, 4), ack_status::ignored);
  EXPECT_EQ(q()->ack(0, 0), ack_status::ignored);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q()->ack(0, 1), ack_status::ignored);
  EXPECT_EQ(q()->ack(0, 2), ack_status::advanced);
  EXPECT_EQ(q().record(0).head, 0u);
  EXPECT_EQ(q().release(0), 2u);
  EXPECT_EQ(queue_head::unpack(q().record(0).head).ticket, 2u);
  EXPECT_EQ(q()->ack(0, 2), ack_status::ignored);
  EXPECT_FALSE(q()->release_start(0));
  EXPECT_EQ(q().live(), 2u);
}

TEST_F(Ring, AcksOutOfOrderAreMarkedAndJoinThePrefix) {
  for (std::uint64_t i = 1; i <= 4; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  ASSERT_EQ(q().lease(0).size(), 4u);
  EXPECT_EQ(q()->ack(0, 3), ack_status::marked);
  EXPECT_EQ(q()->ack(0, 3), ack_status::ignored);
  EXPECT_EQ(q()->ack(0, 2), ack_status::marked);
  EXPECT_EQ(slot_tag::unpack(q().slots(0)[2].tag).state, slot_state::acked);
  EXPECT_EQ(q().release(0), 0u);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q().release(0), 3u);
  EXPECT_EQ(queue_head::unpack(q().record(0).head).ticket, 3u);
  EXPECT_EQ(q().consumer().ack_through(0, 4), 1u);
  EXPECT_EQ(q().release(0), 1u);
}

TEST_F(Ring, SlotsAreUsedAgainManyTimes) {
  std::uint64_t next = 1, expected = 1;
  for (int lap = 0; lap < 50; ++lap) {
    for (int i = 0; i < 5; ++i)
      ASSERT_TRUE(q().publish(next++, {0}));
    for (const leased& e : q().lease(0)) {
      EXPECT_EQ(e.ticket(), expected);
      EXPECT_EQ(q().id_of(e.message()), expected);
      EXPECT_FALSE(e.redelivered());
      ++expected;
      EXPECT_EQ(q()->ack(0, e.ticket()), ack_status::advanced);
    }
    EXPECT_EQ(q().release(0), 5u);
  }
  EXPECT_EQ(expected, 251u);
  EXPECT_EQ(q().live(), 0u);
}

TEST_F(Ring, ALateAckNeverHitsTheSlotsNewOccupant) {
  ASSERT_TRUE(q().publish(1, {0}));
  ASSERT_EQ(q().lease(0).size(), 1u);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q().release(0), 1u);
  for (std::uint64_t i = 2; i <= 8; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  ASSERT_TRUE(q().lease(0, 7).size() == 7);
  EXPECT_EQ(q()->ack(0, 1), ack_status::ignored);
  EXPECT_FALSE(q()->nack(0, 1));
  EXPECT_FALSE(q().consumer().set_state(0, 1, slot_state::pubrec));
  EXPECT_EQ(q()->ack(0, 2), ack_status::advanced);
}

TEST_F(Ring, RewindDeliversLeasedEntriesThatWereNotAckedAgain) {
  for (std::uint64_t i = 1; i <= 4; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  ASSERT_EQ(q().lease(0, 3).size(), 3u);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q()->ack(0, 3), ack_status::marked);
  q()->rewind(0);
  EXPECT_EQ(q()->ack(0, 2), ack_status::ignored) << "the lease has ended";
  const auto again = q().lease(0);
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0].ticket(), 2u);
  EXPECT_TRUE(again[0].redelivered());
  EXPECT_EQ(again[1].ticket(), 4u);
  EXPECT_FALSE(again[1].redelivered());
}

TEST_F(Ring, ANackedEntryComesAgainFirst) {
  for (std::uint64_t i = 1; i <= 4; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  ASSERT_EQ(q().lease(0, 3).size(), 3u);
  EXPECT_TRUE(q()->nack(0, 2));
  EXPECT_FALSE(q()->nack(0, 2));
  EXPECT_EQ(q()->ack(0, 2), ack_status::ignored);
  EXPECT_EQ(q()->resolve(0, packet_id_of(2)), 0u);
  const auto next = q().lease(0);
  ASSERT_EQ(next.size(), 2u);
  EXPECT_EQ(next[0].ticket(), 2u);
  EXPECT_TRUE(next[0].redelivered());
  EXPECT_EQ(next[1].ticket(), 4u);
  EXPECT_TRUE(q()->nack(0, 4));
  q()->rewind(0);
  EXPECT_EQ(q().lease(0).size(), 4u);
  EXPECT_THAT(q().ids(0), IsEmpty());
}

TEST_F(Ring, PacketIdsResolveToTheEntriesThatAreLeasedNow) {
  for (std::uint64_t i = 1; i <= 4; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  ASSERT_EQ(q().lease(0, 3).size(), 3u);
  EXPECT_EQ(q()->resolve(0, 1), 1u);
  EXPECT_EQ(q()->resolve(0, 3), 3u);
  EXPECT_EQ(q()->resolve(0, 4), 0u) << "the entry is not leased";
  EXPECT_EQ(q()->resolve(0, 0), 0u);
  EXPECT_EQ(q()->resolve(0, 32768), 0u);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q()->resolve(0, 1), 0u);
  EXPECT_EQ(packet_id_of(32767), 32767u);
  EXPECT_EQ(packet_id_of(32768), 1u);
}

TEST_F(Ring, LeasesSpanFewerTicketsThanThereArePacketIdsWhereTheTableSaysSo) {
  layout.options.lease_span = packet_id_count;
  ASSERT_TRUE(place_many(40000));
  EXPECT_EQ(q().lease(0, 40000).size(), packet_id_count - 1);
  EXPECT_EQ(q().lease(0).size(), 0u);
  EXPECT_EQ(q()->resolve(0, 32766), 32766u);
  EXPECT_EQ(q().consumer().ack_through(0, 10), 10u);
  EXPECT_EQ(q().lease(0).size(), 10u);
  EXPECT_EQ(q()->resolve(0, 9), 32767u + 9);
  EXPECT_EQ(q()->resolve(0, 10), 0u);
}

TEST_F(Ring, PubrecIsAStateThatSurvivesAndStaysLeased) {
  ASSERT_TRUE(q().publish(1, {0}, 2));
  ASSERT_TRUE(q().publish(2, {0}, 2));
  EXPECT_FALSE(q().consumer().set_state(0, 1, slot_state::pubrec)) << "the entry is not leased";
  ASSERT_EQ(q().lease(0).size(), 2u);
  EXPECT_TRUE(q().consumer().set_state(0, 1, slot_state::pubrec));
  EXPECT_FALSE(q().consumer().set_state(0, 1, slot_state::pubrec));
  q().consumer().flush_slot(0, 1);
  m->drain();
  const auto after = reopen().lease(0);
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0].state(), slot_state::pubrec);
  EXPECT_TRUE(after[0].redelivered());
  EXPECT_EQ(after[1].state(), slot_state::queued);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_TRUE(q().consumer().set_state(0, 2, slot_state::moved));
  EXPECT_EQ(slot_tag::unpack(q().slots(0)[1].tag).state, slot_state::moved);
  EXPECT_EQ(q().release(0), 2u);
}

TEST_F(Ring, DropOldestStopsAtAQos2EntryThatIsLeasedAndTakesOthers) {
  for (std::uint64_t i = 1; i <= 5; ++i)
    ASSERT_TRUE(q().publish(i, {0}, i == 2 || i == 4 ? 2 : 1));
  ASSERT_EQ(q().lease(0, 2).size(), 2u);
  EXPECT_EQ(q()->drop_oldest(0, 3), 1u)
      << "it drops the first entry and stops at a leased QoS 2 entry";
  EXPECT_EQ(q()->ack(0, 1), ack_status::ignored);
  EXPECT_EQ(q()->ack(0, 2), ack_status::advanced);
  EXPECT_EQ(q()->drop_oldest(0, 2), 2u) << "the fourth entry was never leased";
  EXPECT_EQ(q().release(0), 4u);
  EXPECT_THAT(q().ids(0), ElementsAre(5));
  EXPECT_EQ(q()->statistics(0).dropped_oldest, 3u);
  EXPECT_EQ(q().live(), 1u);
}

TEST_F(Ring, APlanForADropCountsTheRoomOfEntriesThatAreOverAndStopsWhereTheDropWould) {
  layout.options.count_bytes = true;
  for (std::uint64_t i = 1; i <= 6; ++i)
    ASSERT_TRUE(q().publish(i, {0}, i == 5 ? 2 : 1));
  const std::uint64_t each = q()->content_bytes(0) / 6;
  ASSERT_EQ(q().lease(0, 5).size(), 5u);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q()->ack(0, 3), ack_status::marked);
  const auto plan = [&](std::uint32_t slots, std::uint64_t bytes) {
    return q().consumer().plan_drop(0, slots, bytes);
  };
  const std::uint32_t entries_for[] = {0, 0, 1, 1, 2};
  for (std::uint32_t n = 0; n < 5; ++n) {
    for (const drop_plan p : {plan(n, 0), plan(0, n * each), plan(1, n * each)}) {
      EXPECT_TRUE(p.possible) << n;
      EXPECT_EQ(p.entries, entries_for[n]) << n;
    }
  }
  EXPECT_FALSE(plan(5, 0).possible) << "the fifth entry is one of QoS 2 that is leased";
  EXPECT_FALSE(plan(0, 4 * each + 1).possible);
  EXPECT_EQ(plan(5, 0).entries, 2u);
  EXPECT_EQ(q()->drop_oldest(0, 2), 2u);
  EXPECT_EQ(q().release(0), 4u);
  EXPECT_EQ(q()->content_bytes(0), 2 * each);
}

TEST_F(Ring, DroppingALeasedQos2EntryIsFound) {
  ASSERT_TRUE(q().publish(1, {0}, 2));
  ASSERT_EQ(q().lease(0).size(), 1u);
  EXPECT_EQ(q()->drop_oldest(0, 1), 0u);
  ASSERT_TRUE(q().consumer().set_state(0, 1, slot_state::pubrec));
  q()->rewind(0);
  EXPECT_EQ(q()->drop_oldest(0, 1), 0u) << "the client waits for PUBREL";
  const test::seeded on("ring.drop_leased");
  test::expect_found("ring.drop_leased", q()->drop_oldest(0, 1) == 1);
}

TEST_F(Ring, OverflowReturnsThePolicyAndCounts) {
  layout.options.overflow = overflow_policy::drop_oldest;
  EXPECT_EQ(q()->overflow(1, 2), overflow_policy::drop_oldest);
  EXPECT_EQ(q()->drop_requested(1), 2u);
  q()->drop_oldest(1, 2);
  EXPECT_EQ(q()->drop_requested(1), 0u);
  layout.options.overflow = overflow_policy::drop_newest;
  EXPECT_EQ(reopen()->overflow(1), overflow_policy::drop_newest);
  EXPECT_EQ(q()->statistics(1).dropped_newest, 1u);
  EXPECT_EQ(q()->statistics().dropped_newest, 1u);
  EXPECT_EQ(q()->overflow(1, overflow_policy::reject, 3), overflow_policy::reject);
  EXPECT_EQ(q()->statistics(1).refused, 3u) << "the policy that the caller gives";
}

TEST_F(Ring, ARestartDropsEverythingAndTicketsContinue) {
  ASSERT_TRUE(q().publish(1, {0, 1}));
  ASSERT_TRUE(q().publish(2, {0}));
  ASSERT_EQ(q().lease(0).size(), 2u);
  EXPECT_EQ(q()->restart_start(0, 1), restart_status::changed);
  ASSERT_EQ(q().restart(0), restart_status::stored);
  EXPECT_EQ(q()->incarnation(0), 1u);
  EXPECT_EQ(q().live(), 1u) << "the message that is also in queue 1";
  EXPECT_EQ(q()->ack(0, 1), ack_status::ignored);
  EXPECT_THAT(q().ids(0), IsEmpty());
  ASSERT_TRUE(q().publish(3, {0}));
  const auto after = q().lease(0);
  ASSERT_EQ(after.size(), 1u);
  EXPECT_EQ(after[0].ticket(), 3u);
  EXPECT_THAT(q().ids(1), ElementsAre(1));
  EXPECT_THAT(reopen().ids(0), ElementsAre(3));
}

TEST_F(Ring, ARestartIsBusyWhilePlacementsAreOpenAndTakesNoNewOnes) {
  layout.values = true; // so that no references are counted
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  placement p, late;
  const slot_ref ref(message_ref{0, 1}, 1);
  ASSERT_EQ(q()->place_start(0, {&ref, 1}, p), place_status::placed);
  EXPECT_EQ(q()->restart_start(0, 0), restart_status::busy);
  EXPECT_EQ(q()->place_start(0, {&ref, 1}, late), place_status::closed);
  q()->place_void(p);
  ASSERT_EQ(q()->restart_start(0, 0), restart_status::stored);
  EXPECT_EQ(q()->place_start(0, {&ref, 1}, late), place_status::closed);
  q()->restart_flush(0);
  m->drain();
  q()->restart_finish(0);
  EXPECT_EQ(q()->place_start(0, {&ref, 1}, late), place_status::no_ring);
}

TEST_F(Ring, APlacementForAnEarlierIncarnationIsRefused) {
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  const slot_ref ref(message_ref{0, 1}, 1);
  placement p;
  ASSERT_EQ(q().restart(0), restart_status::stored);
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  EXPECT_EQ(q()->place_start(0, 0, {&ref, 1}, p), place_status::changed);
  EXPECT_EQ(q()->place_start(0, 1, {&ref, 1}, p), place_status::placed);
}

TEST_F(Ring, AFullQueueCanBeRestarted) {
  for (std::uint64_t i = 1; i <= 7; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  ASSERT_EQ(q().restart(0), restart_status::stored);
  EXPECT_EQ(q().live(), 0u);
  for (std::uint64_t i = 8; i <= 14; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  EXPECT_THAT(q().ids(0), ElementsAre(8, 9, 10, 11, 12, 13, 14));
}

TEST_F(Ring, RingsServeOneQueueAfterAnother) {
  layout.options.stock = 1;
  layout.options.rings_max = 1;
  std::uint64_t id = 1;
  for (int turn = 0; turn < 40; ++turn) {
    const auto queue = static_cast<std::uint32_t>(turn % 3);
    std::vector<std::uint64_t> expected;
    for (int i = 0; i <= turn % 7; ++i) {
      ASSERT_TRUE(q().publish(id, {queue}));
      expected.push_back(id++);
    }
    EXPECT_EQ(q().ids(queue), expected);
    ASSERT_EQ(q().restart(queue), restart_status::stored);
  }
  EXPECT_EQ(q().live(), 0u);
}

TEST_F(Ring, AnExactCapacityHoldsAsManyEntriesAsItSays) {
  layout.options.capacity = 5;
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  EXPECT_EQ(q()->statistics(0).capacity, 5u);
  for (std::uint64_t i = 1; i <= 5; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  EXPECT_FALSE(q().publish(6, {0}));
  EXPECT_EQ(reopen()->statistics(0).capacity, 5u);
  EXPECT_FALSE(q().publish(6, {0}));
  EXPECT_THAT(q().ids(0), ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(Ring, AValueQueueKeepsItsValuesOverAReopen) {
  layout.values = true;
  ASSERT_EQ(q()->link_now(2), link_status::ready);
  const std::uint64_t values[] = {0, ~0ull, 3};
  placement p;
  ASSERT_EQ(q()->enqueue_burst(2, values, p), 3u);
  q()->place_flush(p);
  m->drain();
  q()->place_finish(p);
  auto got = q().lease(2);
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[1].ref.word, ~0ull);
  EXPECT_EQ(q().consumer().ack_through(2, 2), 2u);
  EXPECT_EQ(q().release(2), 2u);
  got = reopen().lease(2);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].ref.word, 3u);
  EXPECT_EQ(got[0].ticket(), 3u);
  EXPECT_TRUE(got[0].redelivered());
}

TEST_F(Ring, SharedQueuesLeaseEachEntryOnceAndRedeliverReturnedOnes) {
  ASSERT_TRUE(q().consumer().set_mode(0, queue_mode::mpmc));
  for (std::uint64_t i = 1; i <= 6; ++i)
    ASSERT_TRUE(q().publish(i, {0}));
  EXPECT_THAT(q().ids(0, 2), ElementsAre(1, 2));
  EXPECT_FALSE(q().consumer().set_mode(0, queue_mode::mpsc)) << "entries are leased";
  EXPECT_THAT(q().ids(0, 2), ElementsAre(3, 4));
  EXPECT_EQ(q()->ack(0, 3), ack_status::marked);
  EXPECT_EQ(q()->ack(0, 2), ack_status::marked);
  EXPECT_TRUE(q()->nack(0, 1));
  EXPECT_THAT(q().ids(0, 1), ElementsAre(1)) << "another consumer gets it";
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q().release(0), 3u);
  EXPECT_EQ(reopen()->statistics(0).mode, queue_mode::mpmc);
  EXPECT_THAT(q().ids(0), ElementsAre(4, 5, 6));
}

TEST_F(Ring, OnlyOneThreadReleasesAtATime) {
  ASSERT_TRUE(q().publish(1, {0}));
  ASSERT_TRUE(q().publish(2, {0}));
  ASSERT_EQ(q().lease(0).size(), 2u);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  ASSERT_TRUE(q()->release_start(0));
  EXPECT_EQ(q()->ack(0, 2), ack_status::advanced);
  EXPECT_FALSE(q()->release_start(0)) << "the first release is not finished";
  EXPECT_EQ(q()->restart_start(0, 0), restart_status::busy);
  q()->release_flush(0);
  m->drain();
  EXPECT_EQ(q()->release_finish(0), 1u);
  EXPECT_EQ(q().release(0), 1u);
}

TEST_F(Ring, TheOldestEntryIsAsOldAsItsMessage) {
  EXPECT_EQ(q().consumer().oldest_published_ns(0), 0u);
  ASSERT_TRUE(q().publish(41, {0}));
  ASSERT_TRUE(q().publish(42, {0}));
  EXPECT_EQ(q().consumer().oldest_published_ns(0), 41u);
  ASSERT_EQ(q().lease(0).size(), 2u);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q().consumer().oldest_published_ns(0), 42u);
}

TEST_F(Ring, AQueueTakesNothingAfterItsLastTicket) {
  q();
  opened.reset();
  // The queue has given all its tickets except two.
  auto* record = reinterpret_cast<queue_record*>(m->base());
  record->head = queue_head{ticket_max - 2}.pack(0);
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  const slot_ref ref(message_ref{0, 1}, 1);
  const std::vector<slot_ref> three(3, ref);
  placement p;
  EXPECT_EQ(q()->place_start(0, three, p), place_status::exhausted);
  ASSERT_EQ(q()->place_start(0, {three.data(), 2}, p), place_status::placed);
  EXPECT_EQ(p.first_ticket, ticket_max - 1);
  EXPECT_EQ(q()->place_start(0, {&ref, 1}, p), place_status::exhausted);
}

TEST_F(Ring, OptionsOutOfRangeAreRefusedWithASentence) {
  auto blocks = block_store::create(*m, 4096, 64, 64).value();
  auto refused = [&](std::uint64_t offset, std::uint32_t count, queue_table_options o) {
    auto t = queue_table::create(*m, offset, count, *blocks, nullptr, o);
    return t ? std::string() : t.error().message;
  };
  EXPECT_THAT(refused(1, 1, {}), testing::HasSubstr("offset 1"));
  EXPECT_THAT(refused(0, 0, {}), testing::HasSubstr("count 0"));
  EXPECT_THAT(refused(0, 1 << 30, {}), testing::HasSubstr("past the end of the region"));
  EXPECT_THAT(refused(0, 1, {.slots = 12}), testing::HasSubstr("slots 12"));
  EXPECT_THAT(refused(0, 1, {.slots = 2}), testing::HasSubstr("slots 2"));
  EXPECT_THAT(refused(0, 1, {.slots = 4096}), testing::HasSubstr("and the block store has"));
  EXPECT_THAT(refused(0, 1, {.capacity = 1u << 30}), testing::HasSubstr("capacity"));
  EXPECT_THAT(refused(0, 1, {.slots = 16, .lease_span = 1}), testing::HasSubstr("lease_span 1"));
  EXPECT_EQ(refused(0, 1, {.slots = 16}), "");
}

} // namespace
} // namespace chainring::test
