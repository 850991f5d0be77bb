// SPDX-License-Identifier: BSD-3-Clause
#include "ring/guards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

#include "ring_fixture.h"

namespace chainring::test {
namespace {

using testing::ElementsAre;

struct PlacementGuard : testing::Test, queues_in_memory {
  PlacementGuard() { layout.values = true; }
  /// Places values and flushes them.
  placement_guard place(std::initializer_list<std::uint64_t> values, bool flush = true) {
    EXPECT_EQ(q()->link_now(0), link_status::ready);
    placement_guard placed(*q().queues);
    EXPECT_EQ(q()->enqueue_bulk(0, {values.begin(), values.size()}, placed.slots()), values.size());
    if (flush) q()->place_flush(placed.slots());
    return placed;
  }
  /// The queue hands out what was put in before and behind, and everything can be released.
  void expect_queue_goes_on() {
    ASSERT_EQ(q().put(0, 4), 1u);
    EXPECT_THAT(q().values(0), ElementsAre(1, 4));
    EXPECT_EQ(q().consumer().ack_through(0, q()->statistics(0).tail),
              q()->statistics(0).tail - q()->statistics(0).head);
    EXPECT_NE(q().release(0), 0u);
    EXPECT_EQ(q()->depth(0), 0u);
    EXPECT_EQ(q().restart(0), restart_status::stored) << "no placement is open";
  }
};

TEST_F(PlacementGuard, APlacementThatIsForgottenStopsItsQueueAndOneThatIsGuardedDoesNot) {
  ASSERT_EQ(q().put(0, 1), 1u);
  placement forgotten = place({2, 3}).keep();
  ASSERT_EQ(q().put(0, 4), 1u);
  EXPECT_THAT(q().values(0), ElementsAre(1));
  EXPECT_EQ(q().restart(0), restart_status::busy);
  placement_guard(*q().queues, forgotten); // takes it over, and is dropped
  EXPECT_THAT(q().values(0), ElementsAre(4));
}

TEST_F(PlacementGuard, AQueueGoesOnAfterADroppedPlacement) {
  ASSERT_EQ(q().put(0, 1), 1u);
  (void)place({2, 3});
  (void)place({5}, false);
  expect_queue_goes_on();
}

TEST_F(PlacementGuard, AQueueGoesOnAfterAnException) {
  ASSERT_EQ(q().put(0, 1), 1u);
  try {
    const placement_guard placed = place({2, 3});
    m->drain();
    throw std::runtime_error("the program gives up");
  } catch (const std::runtime_error&) {
  }
  expect_queue_goes_on();
}

TEST_F(PlacementGuard, AnotherThreadMayDropThePlacement) {
  ASSERT_EQ(q().put(0, 1), 1u);
  auto placed = std::make_unique<placement_guard>(place({2, 3}));
  std::thread([&] { placed.reset(); }).join();
  expect_queue_goes_on();
}

TEST_F(PlacementGuard, FinishMakesTheEntriesReadyAndTheGuardEmpty) {
  {
    placement_guard placed = place({1, 2});
    m->drain();
    EXPECT_EQ(placed.count(), 2u);
    placed.finish();
    EXPECT_EQ(placed.count(), 0u);
  }
  EXPECT_THAT(q().values(0), ElementsAre(1, 2));
}

TEST_F(PlacementGuard, APlacementIsEndedOnceWhereverItIsMoved) {
  ASSERT_EQ(q().put(0, 1), 1u);
  {
    placement_guard first = place({2});
    placement_guard second(std::move(first));
    placement_guard third = place({3});
    third = std::move(second);
    EXPECT_EQ(third.count(), 1u);
    third.make_void();
    EXPECT_EQ(third.count(), 0u);
  }
  EXPECT_EQ(q()->statistics().voided, 2u);
  expect_queue_goes_on();
}

TEST_F(PlacementGuard, AMessageThatIsDroppedInEveryQueueLeavesNothingBehind) {
  layout.values = false;
  ASSERT_TRUE(q().publish(1, {0, 1}));
  for (const std::uint32_t queue : {0u, 1u})
    ASSERT_EQ(q()->link_now(queue), link_status::ready);
  message msg;
  ASSERT_TRUE(q().stage(2, msg));
  const slot_ref ref(msg.ref, 1);
  {
    placement_guard one(*q().queues), other(*q().queues);
    q().messages->add_references(msg.ref.index, 2);
    ASSERT_EQ(q()->place_start(0, {&ref, 1}, one.slots()), place_status::placed);
    ASSERT_EQ(q()->place_start(1, {&ref, 1}, other.slots()), place_status::placed);
  }
  q().messages->discard(msg);
  ASSERT_TRUE(q().publish(3, {0, 1}));
  for (const std::uint32_t queue : {0u, 1u}) {
    EXPECT_THAT(q().ids(queue), ElementsAre(1, 3));
    q().consumer().ack_through(queue, 3);
    EXPECT_EQ(q().release(queue), 3u);
  }
  EXPECT_EQ(q().live(), 0u);
}

} // namespace
} // namespace chainring::test
