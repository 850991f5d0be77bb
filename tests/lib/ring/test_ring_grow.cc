// SPDX-License-Identifier: BSD-3-Clause
/// Queues that get larger and smaller rings, and that change their mode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/hook.h"
#include "hooked.h"
#include "ring_fixture.h"
#include "support/seam_counter.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::uint64_t> from_to(std::uint64_t first, std::uint64_t last) {
  std::vector<std::uint64_t> v(last - first + 1);
  std::iota(v.begin(), v.end(), first);
  return v;
}

/// Value queues whose first ring holds 7 entries, and which may grow to 60.
struct RingGrow : testing::Test, queues_in_memory {
  RingGrow() {
    layout.values = true;
    layout.options.slots = 8;
    layout.options.capacity_max = 60;
    layout.options.stock = 2;
  }
  /// Places the values `first` to `last` one by one.
  void fill(std::uint64_t first, std::uint64_t last, std::uint32_t queue = 0) {
    for (std::uint64_t v = first; v <= last; ++v)
      ASSERT_EQ(q().put(queue, v), 1u) << v;
  }
  /// Leases and acknowledges every entry up to `ticket`.
  void consume(std::uint64_t ticket, std::uint32_t queue = 0) {
    static_cast<void>(q().lease(queue, 64));
    q().consumer().ack_through(queue, ticket);
    q()->rewind(queue);
  }
};

TEST_F(RingGrow, AFullQueueGetsALargerRingAndNothingChangesForItsConsumer) {
  fill(1, 20);
  const queue_statistics s = q()->statistics(0);
  EXPECT_EQ(s.rings, 2u);
  EXPECT_EQ(s.capacity, 15u);
  EXPECT_EQ(s.depth, 20u);
  EXPECT_EQ(s.high_water, 20u) << "of both rings";
  EXPECT_EQ(s.tail, 20u);
  EXPECT_EQ(q()->statistics().grown, 1u);
  std::uint64_t ticket = 0;
  for (const leased& e : q().lease(0)) {
    EXPECT_EQ(e.ticket(), ++ticket);
    EXPECT_EQ(e.ref.word, ticket);
    EXPECT_EQ(q()->resolve(0, packet_id_of(ticket)), ticket);
  }
  EXPECT_EQ(ticket, 20u);
  EXPECT_EQ(q()->statistics(0).leased, 20u);
  EXPECT_EQ(q().consumer().ack_through(0, 20), 20u);
  EXPECT_EQ(q().release(0), 20u);
  EXPECT_EQ(q()->statistics(0).depth, 0u);
  EXPECT_EQ(q()->statistics(0).high_water, 20u) << "the ring that had most of them is gone";
  fill(21, 30);
  EXPECT_EQ(q()->statistics(0).high_water, 20u);
}

TEST_F(RingGrow, ThePeakOfAQueueIsThatOfAllItsRingsAfterAnOpenToo) {
  fill(1, 7);
  ASSERT_EQ(q()->grow_now(0), link_status::ready);
  EXPECT_EQ(q()->statistics(0).high_water, 7u) << "the newest ring is empty";
  fill(8, 20);
  reopen();
  EXPECT_EQ(q()->statistics(0).high_water, 20u);
}

TEST_F(RingGrow, TheLargerRingIsAskedForAtThreeQuartersAndPreparedByMaintain) {
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  EXPECT_EQ(q()->maintain(), 1u) << "one ring for the stock";
  const std::uint64_t rings = q()->statistics().rings;
  fill(1, 5);
  EXPECT_EQ(q()->maintain(), 0u) << "the ring is not three quarters full";
  EXPECT_EQ(q()->statistics().rings, rings);
  fill(6, 6);
  q()->maintain();
  EXPECT_EQ(q()->statistics().rings, rings + 1);
  q()->maintain();
  EXPECT_EQ(q()->statistics().rings, rings + 1) << "only one larger ring is prepared";
  fill(7, 7);
  EXPECT_EQ(q()->grow(0), link_status::linking) << "the larger ring was prepared";
  EXPECT_EQ(q()->grow(0), link_status::wait) << "another call links a ring already";
  EXPECT_EQ(q()->link_start(0), link_status::wait);
  placement p;
  const slot_ref ref(8);
  EXPECT_EQ(q()->place_start(0, {&ref, 1}, p), place_status::closed)
      << "the link is not durable yet";
  q()->link_flush(0);
  m->drain();
  q()->link_finish(0);
  EXPECT_EQ(q()->place_start(0, {&ref, 1}, p), place_status::placed);
  EXPECT_EQ(p.first_ticket, 8u);
}

TEST_F(RingGrow, GrowReturnsUnpreparedAndGrowNowPreparesTheRing) {
  fill(1, 7);
  EXPECT_EQ(q()->grow(0), link_status::unprepared);
  EXPECT_EQ(q()->statistics(0).rings, 1u);
  EXPECT_EQ(q()->grow_now(0), link_status::ready);
  EXPECT_EQ(q()->statistics(0).rings, 2u);
  EXPECT_EQ(q()->grow_now(0), link_status::ready) << "there is room";
  EXPECT_EQ(q()->statistics(0).rings, 2u);
}

TEST_F(RingGrow, GrowNowFindsRoomWhenAnotherThreadWasQuicker) {
  for (const bool all : {true, false}) {
    opened.reset();
    m = memory_media(1 << 20, durability_class::process);
    fill(1, 7);
    const hooked another("ring.grow.unprepared", [&] {
      if (all)
        EXPECT_EQ(q()->grow_now(0), link_status::ready);
      else
        q()->maintain();
    });
    const std::uint64_t rings = q()->statistics().rings;
    EXPECT_EQ(q()->grow_now(0), link_status::ready);
    EXPECT_TRUE(another.visited());
    EXPECT_EQ(q()->statistics(0).capacity, 15u);
    EXPECT_EQ(q()->statistics().grown, 1u);
    EXPECT_EQ(q()->statistics().rings + q()->statistics().rings_retired, rings + (all ? 1 : 2))
        << "one larger ring, and the stock that maintain() filled";
    EXPECT_EQ(q().put(0, 8), 1u);
  }
}

TEST_F(RingGrow, AQueueThatHasGrownDoesNotGetTheRingThatItWantedBefore) {
  fill(1, 6); // the queue now wants a larger ring
  q()->refill();
  fill(7, 7);
  ASSERT_EQ(q()->grow_now(0), link_status::ready);
  fill(8, 9);
  const std::uint64_t rings = q()->statistics().rings;
  EXPECT_EQ(q()->maintain(), 0u);
  EXPECT_EQ(q()->statistics().rings, rings);
  fill(10, 19); // twelve of fifteen slots are in use
  EXPECT_EQ(q()->maintain(), 1u);
  EXPECT_EQ(q()->statistics().rings, rings + 1);
}

TEST_F(RingGrow, ALargePlacementWantsALargerRingBeforeThreeQuartersAreInUse) {
  fill(1, 3);
  q()->refill();
  EXPECT_EQ(q()->grow(0, 5), link_status::unprepared);
  EXPECT_EQ(q()->maintain(), 1u);
  EXPECT_EQ(q()->grow(0, 5), link_status::linking);
}

TEST_F(RingGrow, TheLimitCountsTheEntriesOfAllRings) {
  fill(1, 60); // rings of 7, 15, and one of the largest size
  EXPECT_EQ(q()->statistics(0).rings, 3u);
  EXPECT_EQ(q()->statistics(0).capacity, 60u);
  EXPECT_EQ(q().put(0, 99), 0u);
  EXPECT_EQ(q().grow(0), link_status::refused);
  consume(7);
  EXPECT_EQ(q().release(0), 7u);
  EXPECT_EQ(q()->statistics(0).rings, 2u);
  fill(61, 67);
  EXPECT_EQ(q()->statistics(0).depth, 60u);
  EXPECT_EQ(q()->free_count(0), 0u);
  EXPECT_EQ(q().put(0, 99), 0u) << "the queue is at its limit";
  EXPECT_EQ(q().grow(0), link_status::refused);
  consume(10);
  EXPECT_EQ(q().release(0), 3u);
  EXPECT_EQ(q()->free_count(0), 3u);
  EXPECT_EQ(q().put(0, 68, 4), 0u);
  EXPECT_EQ(q().put(0, 68, 3), 3u);
  EXPECT_EQ(q().values(0), from_to(11, 70));
}

TEST_F(RingGrow, AQueueThatMayNotGrowIsFullAtItsFirstCapacity) {
  layout.options.capacity_max = 0;
  fill(1, 7);
  EXPECT_EQ(q().put(0, 8), 0u);
  EXPECT_EQ(q()->grow_now(0), link_status::refused);
  EXPECT_EQ(q()->statistics().rings, 2u);
}

TEST_F(RingGrow, ARingLeavesItsQueueWithTheReleaseThatEmptiesItAndIsReused) {
  fill(1, 8);
  consume(6);
  EXPECT_EQ(q().release(0), 6u);
  EXPECT_EQ(q()->statistics(0).rings, 2u) << "one entry is left in the first ring";
  consume(7);
  EXPECT_EQ(q().release(0), 1u);
  EXPECT_EQ(q()->statistics(0).rings, 1u);
  EXPECT_EQ(q()->statistics().rings_retired, 1u);
  EXPECT_EQ(q()->ack(0, 3), ack_status::ignored) << "its ring has left the queue";
  EXPECT_FALSE(q()->nack(0, 7));
  q().consumer().flush_slot(0, 3); // does nothing
  const std::uint64_t rings = q()->statistics().rings;
  q()->maintain();
  EXPECT_EQ(q()->statistics().rings_retired, 0u);
  EXPECT_EQ(q()->statistics().rings, rings - 1) << "the stock was full, so the ring was freed";
  EXPECT_THAT(q().values(0), ElementsAre(8));
}

TEST_F(RingGrow, RingsGoBackToTheBlockStore) {
  q();
  const std::uint64_t before = q().blocks->statistics().live_blocks;
  std::uint64_t next = 1;
  for (int turn = 0; turn < 20; ++turn) {
    fill(next, next + 39);
    consume(next + 39);
    EXPECT_EQ(q().release(0), 40u);
    next += 40;
    ASSERT_EQ(q().restart(0), restart_status::stored);
    q()->maintain();
  }
  EXPECT_EQ(q().blocks->statistics().live_blocks, before);
  EXPECT_EQ(q()->statistics().rings_retired, 0u);
}

TEST_F(RingGrow, AReopenFindsAllRings) {
  fill(1, 30);
  std::vector<leased> e = q().lease(0);
  EXPECT_EQ(q()->ack(0, 2), ack_status::marked);
  EXPECT_EQ(q()->ack(0, 9), ack_status::marked);
  EXPECT_EQ(q()->ack(0, 8), ack_status::marked)
      << "the entry is the oldest of its ring, not of the queue";
  for (std::uint64_t t : {2, 8, 9})
    q().consumer().flush_slot(0, t);
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q().release(0), 2u);
  EXPECT_EQ(q()->check().entries, 26u);
  EXPECT_EQ(reopen().found.entries, 26u);
  EXPECT_THAT(q().found.notes, IsEmpty());
  EXPECT_EQ(q()->statistics(0).rings, 3u);
  EXPECT_EQ(q()->statistics(0).tail, 30u);
  std::vector<std::uint64_t> expected = from_to(3, 7);
  for (std::uint64_t v = 10; v <= 30; ++v)
    expected.push_back(v);
  EXPECT_EQ(q().values(0), expected);
  EXPECT_EQ(q().consumer().ack_through(0, 30), 28u);
  EXPECT_EQ(q().release(0), 28u);
  EXPECT_EQ(q()->statistics(0).rings, 1u);
  fill(31, 40);
  EXPECT_EQ(q().values(0), from_to(31, 40));
}

TEST_F(RingGrow, EntriesThatTheLimitNoLongerAllowsAreStillServed) {
  fill(1, 30);
  layout.options.capacity_max = 0;
  EXPECT_EQ(reopen().values(0), from_to(1, 30));
  EXPECT_EQ(q().consumer().ack_through(0, 30), 30u);
  EXPECT_EQ(q().release(0), 30u);
}

TEST_F(RingGrow, AQueueThatStaysNearlyEmptyGetsASmallerRing) {
  fill(1, 30);
  q()->maintain();
  consume(28);
  EXPECT_EQ(q().release(0), 28u);
  EXPECT_EQ(q()->statistics(0).capacity, 60u);
  for (int visit = 0; visit < 8 && q()->statistics().shrunk == 0; ++visit)
    q()->maintain();
  EXPECT_EQ(q()->statistics().shrunk, 1u);
  EXPECT_EQ(q()->statistics(0).capacity, 15u);
  EXPECT_EQ(q()->statistics(0).rings, 2u);
  fill(31, 33);
  EXPECT_EQ(q().values(0), from_to(29, 33));
  EXPECT_EQ(q().consumer().ack_through(0, 33), 5u);
  EXPECT_EQ(q().release(0), 5u);
  EXPECT_EQ(q()->statistics(0).rings, 1u);
  q()->maintain();
  EXPECT_EQ(reopen()->statistics(0).capacity, 15u);
  fill(34, 50);
  EXPECT_EQ(q().values(0), from_to(34, 50)) << "the queue grows again";
}

TEST_F(RingGrow, AnIdleQueueGetsAllItsMemoryBackWithoutAnAck) {
  q();
  const std::uint64_t before = q().blocks->statistics().live_blocks;
  fill(1, 30);
  consume(30);
  EXPECT_EQ(q().release(0), 30u);
  EXPECT_EQ(q()->statistics(0).capacity, 60u);
  const std::uint64_t refused[] = {31, 32, 33};
  placement p;
  ASSERT_EQ(q()->enqueue_bulk(0, refused, p), 3u);
  q()->place_void(p); // the last call on the queue
  for (int visit = 0; visit < 16; ++visit) {
    q()->maintain();
    q().release(0);
  }
  EXPECT_EQ(q()->statistics().shrunk, 2u);
  EXPECT_EQ(q()->statistics(0).capacity, 7u);
  EXPECT_EQ(q()->statistics(0).rings, 1u);
  EXPECT_EQ(q()->statistics(0).depth, 0u);
  EXPECT_EQ(q()->statistics().rings_retired, 0u);
  ASSERT_EQ(q().restart(0), restart_status::stored);
  q()->maintain();
  EXPECT_EQ(q().blocks->statistics().live_blocks, before);
}

TEST_F(RingGrow, MaintainDoesNoMoreWorkThanItIsAllowed) {
  for (std::uint32_t queue : {0u, 1u, 2u})
    fill(1, 20, queue);
  for (std::uint32_t queue : {0u, 1u, 2u})
    ASSERT_EQ(q().restart(queue), restart_status::stored);
  const std::uint64_t retired = q()->statistics().rings_retired;
  ASSERT_GE(retired, 6u);
  EXPECT_EQ(q()->maintain(1), 1u);
  EXPECT_EQ(q()->statistics().rings_retired, retired - 1);
  EXPECT_EQ(q()->maintain(2), 2u);
  EXPECT_EQ(q()->statistics().rings_retired, retired - 3);
  EXPECT_EQ(q()->maintain(0), 0u);
  EXPECT_EQ(q()->statistics().rings_retired, retired - 3);
  q()->maintain();
  EXPECT_EQ(q()->statistics().rings_retired, 0u);
}

TEST_F(RingGrow, ABusyQueueKeepsItsRing) {
  fill(1, 30);
  consume(22);
  EXPECT_EQ(q().release(0), 22u);
  for (int visit = 0; visit < 40; ++visit)
    q()->maintain();
  EXPECT_EQ(q()->statistics().shrunk, 0u);
}

TEST_F(RingGrow, TheThreeEntriesOfARecordAreUsedInTurn) {
  std::uint64_t in = 1, out = 1;
  for (int turn = 0; turn < 12; ++turn) {
    fill(in, in + 19);
    in += 20;
    EXPECT_EQ(reopen().values(0), from_to(out, in - 1));
    EXPECT_EQ(q().consumer().ack_through(0, in - 1), in - out);
    EXPECT_EQ(q().release(0), in - out);
    out = in;
    for (int visit = 0; visit < 6; ++visit)
      q()->maintain();
  }
  EXPECT_GT(q()->statistics().shrunk, 0u);
}

TEST_F(RingGrow, AQueueThatGetsNoBlocksIsFullAndServesOn) {
  layout.blocks = 25; // enough for the first rings of three queues
  fill(1, 7, 0);
  fill(1, 7, 1);
  EXPECT_EQ(q().put(0, 8), 0u);
  EXPECT_EQ(q()->grow_now(0), link_status::no_room) << "the queue is below its limit";
  EXPECT_GE(q()->statistics().refused_ring, 1u);
  EXPECT_EQ(q()->link_now(2), link_status::ready);
  EXPECT_EQ(q()->link_now(3), link_status::refused);
  EXPECT_EQ(q()->grow_now(3), link_status::no_room) << "there are not even blocks for a first ring";
  EXPECT_EQ(q().values(0), from_to(1, 7));
  EXPECT_EQ(q().consumer().ack_through(0, 3), 3u);
  EXPECT_EQ(q().release(0), 3u);
  EXPECT_EQ(q().put(0, 8), 1u);
}

TEST_F(RingGrow, ARestartDropsAllRings) {
  layout.values = false;
  layout.descriptors = 64;
  for (std::uint64_t id = 1; id <= 25; ++id) {
    if (!q().publish(id, {0})) {
      ASSERT_EQ(q().grow(0), link_status::ready) << id;
      ASSERT_TRUE(q().publish(id, {0}));
    }
  }
  EXPECT_EQ(q()->statistics(0).rings, 3u);
  EXPECT_EQ(q().live(), 25u);
  ASSERT_EQ(q().lease(0, 12).size(), 12u);
  ASSERT_EQ(q().restart(0), restart_status::stored);
  EXPECT_EQ(q().live(), 0u);
  ASSERT_TRUE(q().publish(26, {0}));
  const auto e = q().lease(0);
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(e[0].ticket(), 26u);
  EXPECT_THAT(reopen().ids(0), ElementsAre(26));
}

TEST_F(RingGrow, DropOldestDropsEntriesOfTwoRings) {
  fill(1, 10);
  EXPECT_EQ(q().consumer().plan_drop(0, 8, 0).entries, 8u);
  EXPECT_FALSE(q().consumer().plan_drop(0, 11, 0).possible);
  EXPECT_EQ(q()->depth(0), 10u);
  EXPECT_EQ(q()->drop_oldest(0, 8), 8u);
  EXPECT_EQ(q().release(0), 8u);
  EXPECT_EQ(q()->statistics(0).rings, 1u);
  EXPECT_THAT(q().values(0), ElementsAre(9, 10));
}

TEST_F(RingGrow, AnEntryThatIsNotReadyHoldsUpTheNextRings) {
  auto got = [&] {
    opened.reset();
    m = memory_media(1 << 20, durability_class::process);
    fill(1, 6);
    const slot_ref ref(7);
    placement late;
    EXPECT_EQ(q()->place_start(0, {&ref, 1}, late), place_status::placed);
    fill(8, 9);
    EXPECT_EQ(q()->statistics(0).rings, 2u);
    const auto before = q().values(0);
    q()->place_finish(late);
    return before;
  };
  EXPECT_EQ(got(), from_to(1, 6));
  EXPECT_THAT(q().values(0), ElementsAre(7, 8, 9));
  const test::seeded on("ring.lease_ahead");
  test::expect_found("ring.lease_ahead", got() != from_to(1, 6));
}

TEST_F(RingGrow, RewindAndNackWorkInTwoRings) {
  fill(1, 10);
  ASSERT_EQ(q().lease(0, 9).size(), 9u);
  EXPECT_TRUE(q()->nack(0, 8));
  EXPECT_TRUE(q()->nack(0, 2));
  EXPECT_THAT(q().values(0), ElementsAre(2, 8, 10));
  EXPECT_EQ(q()->ack(0, 9), ack_status::marked);
  q()->rewind(0);
  EXPECT_THAT(q().values(0), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 10));
}

// --- modes --------------------------------------------------------------------------------------

TEST_F(RingGrow, TheModeOfAQueueWithEntriesChangesDurably) {
  fill(1, 10); // two rings
  ASSERT_TRUE(q().consumer().set_mode(0, queue_mode::mpmc));
  EXPECT_EQ(q()->statistics(0).mode, queue_mode::mpmc);
  EXPECT_THAT(q().values(0, 9), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(q().release(0), 1u)
      << "rte_ring's consumer side synchronises for several consumers now";
  EXPECT_EQ(reopen()->statistics(0).mode, queue_mode::mpmc);
  EXPECT_EQ(q().values(0), from_to(2, 10));
  for (std::uint64_t t = 2; t <= 10; ++t)
    EXPECT_NE(q()->ack(0, t), ack_status::ignored);
  EXPECT_EQ(q().release(0), 9u);
  ASSERT_TRUE(q().consumer().set_mode(0, queue_mode::mpsc));
  fill(11, 13);
  EXPECT_EQ(q().values(0), from_to(11, 13));
  EXPECT_EQ(q().consumer().ack_through(0, 13), 3u);
  EXPECT_EQ(q().release(0), 3u);
  EXPECT_EQ(reopen()->statistics(0).mode, queue_mode::mpsc);
}

TEST_F(RingGrow, TheModeDoesNotChangeWhileEntriesAreLeasedOrAReleaseIsOpen) {
  fill(1, 3);
  ASSERT_EQ(q().lease(0, 2).size(), 2u);
  EXPECT_FALSE(q().consumer().set_mode(0, queue_mode::mpmc));
  EXPECT_EQ(q().consumer().ack_through(0, 2), 2u);
  ASSERT_TRUE(q()->release_start(0));
  EXPECT_FALSE(q().consumer().set_mode(0, queue_mode::mpmc));
  q()->release_flush(0);
  m->drain();
  EXPECT_EQ(q()->release_finish(0), 2u);
  fill(4, 8);
  q()->maintain();
  fill(9, 9);
  ASSERT_EQ(q()->grow(0), link_status::linking);
  EXPECT_FALSE(q().consumer().set_mode(0, queue_mode::mpmc)) << "a ring is being linked";
  q()->link_flush(0);
  m->drain();
  q()->link_finish(0);
  EXPECT_TRUE(q().consumer().set_mode(0, queue_mode::mpmc));
  EXPECT_EQ(q().values(0), from_to(3, 9));
}

TEST_F(RingGrow, AModeSurvivesARestart) {
  ASSERT_TRUE(q().consumer().set_mode(0, queue_mode::mpmc));
  fill(1, 3);
  ASSERT_EQ(q().restart(0), restart_status::stored);
  fill(4, 5);
  EXPECT_EQ(reopen()->statistics(0).mode, queue_mode::mpmc);
  EXPECT_THAT(q().values(0), ElementsAre(4, 5));
}

TEST_F(RingGrow, LimitsOutOfRangeAreRefusedWithASentence) {
  auto text = [&](std::uint32_t capacity_max) {
    queue_table_options o = layout.options;
    o.capacity_max = capacity_max;
    auto t = queue_table::create(*m, 0, 1, *q().blocks, nullptr, o);
    return t.ok() ? std::string() : t.error().message;
  };
  EXPECT_EQ(text(7), "");
  EXPECT_THAT(text(6), testing::HasSubstr("capacity_max 6: expected 0 or 7 to 16777215"));
  EXPECT_THAT(text(1 << 24), testing::HasSubstr("capacity_max 16777216"));
}

// --- how many stores, flushes and drains --------------------------------------------------------

TEST_F(RingGrow, AnAppendIsOneLineAndAReleaseWithAnUnlinkCostsWhatAReleaseDoes) {
  fill(1, 7);
  q()->maintain();
  seam_counter seen;
  m->observe(&seen);
  ASSERT_EQ(q()->grow(0), link_status::linking);
  q()->link_flush(0);
  EXPECT_EQ(seen.stores, 3) << "the two words of the entry, and the commit word";
  EXPECT_EQ(seen.flushes, 1);
  EXPECT_EQ(seen.drains, 0) << "the caller drains anyway";
  m->drain();
  q()->link_finish(0);
  m->observe(nullptr);
  fill(8, 9);
  consume(8);
  seen = {};
  m->observe(&seen);
  ASSERT_TRUE(q()->release_start(0));
  q()->release_flush(0);
  EXPECT_EQ(seen.stores, 2) << "the head and the commit word";
  EXPECT_EQ(seen.flushes, 1);
  m->drain();
  EXPECT_EQ(q()->release_finish(0), 8u);
  EXPECT_EQ(seen.drains, 1);
  m->observe(nullptr);
}

} // namespace
} // namespace chainring::test
