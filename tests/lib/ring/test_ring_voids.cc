// SPDX-License-Identifier: BSD-3-Clause
/// Slots that no consumer gets: void slots, holes, and slots that changed on the medium.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ring_fixture.h"

namespace chainring::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct RingVoids : testing::Test, queues_in_memory {};

/// Places `n` values and makes them void.
void put_void(queues_on_media& q, std::uint32_t queue, std::uint32_t n) {
  ASSERT_EQ(q->link_now(queue), link_status::ready);
  const std::vector<std::uint64_t> values(n, 7);
  placement p;
  ASSERT_EQ(q->enqueue_bulk(queue, values, p), n);
  q->place_void(p);
}

TEST_F(RingVoids, VoidSlotsAtTheHeadAreReleasedWithoutAnAck) {
  layout.values = true;
  for (const queue_mode mode : {queue_mode::mpsc, queue_mode::mpmc}) {
    ASSERT_TRUE(q().consumer().set_mode(0, mode));
    for (int lap = 0; lap < 3; ++lap) {
      put_void(q(), 0, 7);
      EXPECT_EQ(q()->free_count(0), 0u);
      EXPECT_EQ(q().release(0), 7u);
      EXPECT_EQ(q()->free_count(0), 7u);
      EXPECT_FALSE(q()->release_start(0));
    }
    put_void(q(), 0, 2);
    ASSERT_EQ(q().put(0, 1, 2), 2u);
    put_void(q(), 0, 2);
    EXPECT_EQ(q().release(0), 2u) << "the release stops at the first value that is not void";
    EXPECT_THAT(q().values(0, 1), ElementsAre(1));
    EXPECT_FALSE(q()->release_start(0));
    EXPECT_THAT(q().values(0, 1), ElementsAre(2));
    const std::uint64_t last = q()->statistics(0).tail;
    EXPECT_EQ(q()->ack(0, last - 2), ack_status::marked);
    EXPECT_FALSE(q()->release_start(0));
    EXPECT_EQ(q()->ack(0, last - 3), ack_status::advanced);
    EXPECT_EQ(q().release(0), 4u) << "the release also takes the void slots behind it";
  }
}

TEST_F(RingVoids, AReleaseDoesNotPassASlotThatIsNotReady) {
  layout.values = true;
  ASSERT_EQ(q()->link_now(0), link_status::ready);
  const std::uint64_t value = 1;
  placement p;
  ASSERT_EQ(q()->enqueue_bulk(0, {&value, 1}, p), 1u);
  put_void(q(), 0, 3);
  EXPECT_FALSE(q()->release_start(0));
  q()->place_finish(p);
  EXPECT_FALSE(q()->release_start(0));
  EXPECT_THAT(q().values(0), ElementsAre(1));
}

TEST_F(RingVoids, HolesThatRecoveryFoundAreReleasedWithoutAnAck) {
  layout.values = true;
  ASSERT_EQ(q().put(0, 1, 5), 5u);
  for (int i = 0; i < 3; ++i)
    q().slots(0)[i] = {}; // the crash lost the slot
  EXPECT_EQ(reopen()->statistics(0).depth, 5u);
  EXPECT_EQ(q().release(0), 3u);
  EXPECT_EQ(q()->free_count(0), 5u);
  EXPECT_THAT(q().values(0), ElementsAre(4, 5));
}

TEST_F(RingVoids, AckThroughPassesAVoidSlotWhereAnEntryWasGivenBack) {
  layout.values = true;
  put_void(q(), 0, 1);
  ASSERT_EQ(q().put(0, 2, 3), 3u);
  ASSERT_EQ(q().lease(0).size(), 3u);
  ASSERT_TRUE(q()->nack(0, 4));
  EXPECT_EQ(q().consumer().ack_through(0, 4), 3u)
      << "the ack stops at the entry that was given back";
  EXPECT_THAT(q().values(0), ElementsAre(4));
}

TEST_F(RingVoids, ASlotThatChangedOnTheMediumIsDoneAndHoldsNothingUp) {
  layout.values = true;
  for (const queue_mode mode : {queue_mode::mpsc, queue_mode::mpmc}) {
    opened.reset();
    m = memory_media(1 << 20, durability_class::process);
    ASSERT_TRUE(q().consumer().set_mode(0, mode));
    ASSERT_EQ(q().put(0, 1, 5), 5u);
    q().slots(0)[1].tag = ~0ull;
    q().slots(0)[2].tag = slot_tag{900, slot_state::queued}.pack(0);
    EXPECT_THAT(q().values(0, 2), ElementsAre(1, 4));
    ASSERT_TRUE(q()->nack(0, 4));
    q().slots(0)[3].tag = 0;
    EXPECT_THAT(q().values(0), ElementsAre(5));
    EXPECT_EQ(q()->ack(0, 1), ack_status::advanced);
    EXPECT_NE(q()->ack(0, 5), ack_status::ignored);
    EXPECT_EQ(q().release(0), 5u);
  }
}

TEST_F(RingVoids, AChangedSlotDropsNoReferenceOfAnotherMessage) {
  ASSERT_TRUE(q().publish(1, {0}));
  ASSERT_TRUE(q().publish(2, {0}));
  ASSERT_TRUE(q().publish(3, {1}));
  const message_ref third = q().lease(1)[0].message();
  ASSERT_EQ(q().lease(0).size(), 2u);
  q().slots(0)[0].ref =
      slot_ref(message_ref{third.index, static_cast<std::uint16_t>(third.generation + 1)}, 1).word;
  q().slots(0)[1].ref = slot_ref(message_ref{layout.descriptors - 1, 0}, 1).word; // no such message
  EXPECT_EQ(q().consumer().ack_through(0, 2), 2u);
  EXPECT_EQ(q().release(0), 2u);
  EXPECT_EQ(q().live(), 3u);
  EXPECT_EQ(q().id_of(third), 3u);
  EXPECT_THAT(reopen().ids(1), ElementsAre(3));
  EXPECT_EQ(q().live(), 1u) << "the messages of the changed slots stay until the next open";
}

TEST_F(RingVoids, ManyVoidSlotsDoNotUsePacketIdsUp) {
  layout.values = true;
  layout.options.slots = 65536;
  layout.options.stock = 1;
  layout.options.lease_span = packet_id_count;
  layout.queues = 1;
  layout.blocks = 20000;
  m = memory_media(layout.size(), durability_class::process);
  put_void(q(), 0, 33000);
  ASSERT_EQ(q().put(0, 1), 1u);
  put_void(q(), 0, 32000);
  ASSERT_EQ(q().put(0, 2), 1u);
  EXPECT_THAT(q().values(0), ElementsAre(1, 2));
  put_void(q(), 0, 500);
  EXPECT_EQ(q().release(0), 33000u);
  put_void(q(), 0, 2000);
  ASSERT_EQ(q().put(0, 3), 1u);
  EXPECT_THAT(q().values(0), IsEmpty()) << "the first entry is still leased";
  EXPECT_EQ(q()->ack(0, 33001), ack_status::advanced);
  EXPECT_THAT(q().values(0), ElementsAre(3));
}

} // namespace
} // namespace chainring::test
