// SPDX-License-Identifier: BSD-3-Clause
// A message that moves from one queue to another: in whichever step its process ends, exactly one
// of the queues has it afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ring_fixture.h"

namespace chainring {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint32_t from = 0, to = 1;

struct RingMoves : testing::Test, test::queues_in_memory {
  placement placed;

  void SetUp() override {
    layout.moves = true;
    layout.options.count_bytes = true;
    for (std::uint64_t id = 1; id <= 3; ++id)
      ASSERT_TRUE(q().publish(id, {from}));
    ASSERT_EQ(q()->link_now(to), link_status::ready);
  }
  /// Places the oldest message of one queue in the other, durably.
  leased place() {
    const leased entry = q().lease(from, 1).at(0);
    q().messages->add_references(entry.message().index, 1);
    EXPECT_EQ(q()->place_moved_start(to, q()->incarnation(to), entry.ref,
                                     slot_origin::of(from, entry.ticket()), placed),
              place_status::placed);
    q()->place_flush(placed);
    m->drain();
    return entry;
  }
  void mark(const leased& entry) {
    ASSERT_TRUE(q().consumer().set_state(from, entry.ticket(), slot_state::moved));
    q().consumer().flush_slot(from, entry.ticket());
    m->drain();
  }
  void acknowledge(std::uint32_t queue) {
    for (const leased& e : q().lease(queue))
      (void)q()->ack(queue, e.ticket());
    (void)q().release(queue);
  }
};

TEST_F(RingMoves, AMessageThatMovedIsInTheOtherQueueOnly) {
  const std::uint64_t each = q()->content_bytes(from) / 3;
  const leased entry = place();
  EXPECT_THAT(q().ids(to), IsEmpty()) << "it is not ready before its other slot is marked";
  mark(entry);
  q()->place_moved_finish(placed);
  EXPECT_EQ(q()->content_bytes(to), each);
  const auto got = q().lease(to);
  ASSERT_EQ(got.size(), 1u) << "its origin is no entry";
  EXPECT_EQ(q().id_of(got[0].message()), 1u);
  EXPECT_EQ(q()->ack(to, got[0].ticket()), ack_status::advanced);
  EXPECT_EQ(q().release(to), 2u);
  EXPECT_THAT(q().ids(from), ElementsAre(2, 3));
  for (const std::uint64_t ticket : {2u, 3u})
    (void)q()->ack(from, ticket);
  EXPECT_EQ(q().release(from), 3u);
  EXPECT_EQ(q().live(), 0u);
  EXPECT_EQ(q()->content_bytes(to) + q()->content_bytes(from), 0u);
}

TEST_F(RingMoves, AMessageWhoseOtherSlotIsNotMarkedStaysWhereItWas) {
  (void)place();
  EXPECT_EQ(q()->check(q().holds_of_moves()).voided, 1u);
  EXPECT_EQ(reopen().found.voided, 1u);
  EXPECT_THAT(q().ids(to), IsEmpty());
  EXPECT_THAT(q().ids(from), ElementsAre(1, 2, 3));
  EXPECT_EQ(reopen().found.voided, 0u) << "the slot is void, durably";
  acknowledge(from);
  acknowledge(to);
  EXPECT_EQ(q().live(), 0u);
}

TEST_F(RingMoves, AMessageWhoseOtherSlotIsMarkedHasMoved) {
  mark(place());
  EXPECT_EQ(reopen().found.voided, 0u);
  EXPECT_THAT(q().ids(from), ElementsAre(2, 3));
  EXPECT_THAT(q().ids(to), ElementsAre(1));
  acknowledge(from);
  EXPECT_THAT(reopen().ids(to), ElementsAre(1)) << "also once its other slot is released";
  EXPECT_NE(q()->content_bytes(to), 0u);
}

TEST_F(RingMoves, AMessageWithoutItsOriginStaysWhereItWas) {
  (void)place();
  q().slots(to)[1].tag = 0; // the second slot was not stored
  EXPECT_EQ(reopen().found.voided, 1u);
  EXPECT_THAT(q().ids(to), IsEmpty());
  EXPECT_THAT(q().ids(from), ElementsAre(1, 2, 3));
}

TEST_F(RingMoves, AMessageIsNotLostWhereItsOriginIsDamaged) {
  for (const bool tag : {true, false}) {
    mark(place());
    ring_slot& origin = q().slots(to)[placed.first_ticket];
    (tag ? origin.tag : origin.ref) ^= 1;
    EXPECT_THAT(reopen().ids(to), ElementsAre(tag ? 1 : 2));
    EXPECT_EQ(q().found.damaged_slots, tag ? 1u : 0u);
    acknowledge(to);
    reopen();
  }
}

TEST_F(RingMoves, AnOriginThatNamesAnotherMessageOrNoQueueHoldsNothing) {
  mark(place());
  ring_slot& origin = q().slots(to)[1];
  for (const slot_origin other : {slot_origin::of(from, 2), slot_origin::of(from, 700),
                                  slot_origin::of(3, 1), slot_origin::of(1000, 1)}) {
    origin.ref = other.pack(to);
    EXPECT_THAT(reopen().ids(to), ElementsAre(1));
  }
}

TEST_F(RingMoves, AReceiptOfAMessageThatMovedSurvives) {
  mark(place());
  q()->place_moved_finish(placed);
  const leased got = q().lease(to).at(0);
  ASSERT_TRUE(q().consumer().set_state(to, got.ticket(), slot_state::pubrec));
  EXPECT_FALSE(q().consumer().set_state(to, got.ticket(), slot_state::pubrec));
  q().consumer().flush_slot(to, got.ticket());
  m->drain();
  const auto again = reopen().lease(to);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].state(), slot_state::pubrec);
}

TEST_F(RingMoves, AQueueWithoutRoomForTwoSlotsTakesNoMessage) {
  for (std::uint64_t id = 10; id < 16; ++id) // one slot of seven is left
    ASSERT_TRUE(q().publish(id, {to}));
  const leased entry = q().lease(from, 1).at(0);
  EXPECT_EQ(q()->place_moved_start(to, q()->incarnation(to), entry.ref,
                                   slot_origin::of(from, entry.ticket()), placed),
            place_status::full);
  EXPECT_EQ(q()->place_moved_start(to, q()->incarnation(to) + 1, entry.ref,
                                   slot_origin::of(from, entry.ticket()), placed),
            place_status::changed);
  ASSERT_TRUE(q().publish(16, {to}));
}

TEST_F(RingMoves, EveryOriginIsReadAsItWasWritten) {
  for (const std::uint32_t queue : {0u, 1u, 0xFFF'FFFFu})
    for (const std::uint64_t ticket : {std::uint64_t{1}, std::uint64_t{0xFFF'FFFF}, ticket_max}) {
      const std::uint64_t word = slot_origin::of(queue, ticket).pack(7);
      EXPECT_TRUE(slot_origin::well_formed(word, 7));
      EXPECT_FALSE(slot_origin::well_formed(word, 8));
      EXPECT_EQ(slot_origin::unpack(word).queue, queue);
      EXPECT_EQ(slot_origin::unpack(word).ticket_low, ticket & slot_origin::mask);
      for (int bit = 0; bit < 64; ++bit)
        EXPECT_FALSE(slot_origin::well_formed(word ^ std::uint64_t{1} << bit, 7)) << bit;
    }
}

} // namespace
} // namespace chainring
