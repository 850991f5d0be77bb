// SPDX-License-Identifier: BSD-3-Clause
/// Entries that are leased in place and acknowledged in one call.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ring_fixture.h"
#include "support/seeded.h"
#include "support/test_media.h"

namespace chainring::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct RingRuns : testing::Test, queues_in_memory {
  RingRuns() {
    layout.values = true;
    layout.options.slots = 8;
    layout.options.capacity_max = 31;
    layout.options.stock = 2;
  }
  void fill(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t v = first; v <= last; ++v)
      ASSERT_EQ(q().put(0, v), 1u) << v;
  }
  leased_run lease_run(std::uint32_t n = 64) { return q().consumer().lease_run(0, n); }
  static std::vector<std::uint64_t> values(const leased_run& run) {
    std::vector<std::uint64_t> out;
    for (std::uint32_t i = 0; i < run.count; ++i)
      out.push_back(run.value(i));
    return out;
  }
  void end_release() {
    m->drain();
    (void)q()->release_finish(0);
  }
  /// Acknowledges the run and ends the release. Returns how many leases held.
  std::uint32_t ack_run(const leased_run& run) {
    bool releasing = false;
    const std::uint32_t n = q().consumer().ack_run(0, run, releasing);
    if (releasing) end_release();
    return n;
  }
};

TEST_F(RingRuns, EntriesAreReadInTheirSlotsAndEndWithOneCall) {
  fill(1, 5);
  const leased_run first = lease_run(2), rest = lease_run();
  EXPECT_THAT(values(first), ElementsAre(1, 2));
  EXPECT_THAT(values(rest), ElementsAre(3, 4, 5));
  EXPECT_EQ(rest.first_ticket, 3u);
  EXPECT_EQ(rest.entry(1).ticket(), 4u);
  EXPECT_EQ(rest.entry(1).ref.word, 4u);
  EXPECT_EQ(lease_run().count, 0u) << "everything is leased";
  EXPECT_EQ(ack_run(first), 2u);
  EXPECT_EQ(q()->depth(0), 3u);
  EXPECT_EQ(ack_run(rest), 3u);
  EXPECT_EQ(q()->depth(0), 0u);
  EXPECT_EQ(ack_run(rest), 0u) << "the leases have ended";
}

TEST_F(RingRuns, ARunEndsWithTheLastSlotAndTheNextOneBeginsWithTheFirst) {
  std::uint32_t shorter = 0;
  for (std::uint64_t lap = 0; lap < 40; ++lap) {
    fill(lap * 3 + 1, lap * 3 + 3);
    std::vector<std::uint64_t> got;
    while (got.size() < 3) {
      const leased_run run = lease_run();
      ASSERT_NE(run.count, 0u);
      shorter += run.count < 3;
      for (const std::uint64_t v : values(run))
        got.push_back(v);
      ASSERT_EQ(ack_run(run), run.count);
    }
    ASSERT_THAT(got, ElementsAre(lap * 3 + 1, lap * 3 + 2, lap * 3 + 3));
    ASSERT_EQ(q()->depth(0), 0u);
  }
  EXPECT_GT(shorter, 0u);
}

TEST_F(RingRuns, ARunStaysInItsRing) {
  fill(1, 12); // seven in the first ring
  const leased_run run = lease_run();
  EXPECT_EQ(run.count, 7u);
  EXPECT_EQ(lease_run().count, 0u) << "lease() goes on in the ring that follows";
  EXPECT_EQ(ack_run(run), 7u);
  EXPECT_THAT(values(lease_run()), ElementsAre(8, 9, 10, 11, 12));
}

TEST_F(RingRuns, RunsThatEndOutOfOrderAreReleasedOnceTheFirstHasEnded) {
  fill(1, 5);
  const leased_run first = lease_run(2), rest = lease_run();
  EXPECT_EQ(ack_run(rest), 3u);
  EXPECT_EQ(q()->depth(0), 5u);
  EXPECT_EQ(ack_run(first), 2u);
  EXPECT_EQ(q()->depth(0), 0u);
}

TEST_F(RingRuns, ARunEndsOnlyItsOwnLeases) {
  fill(1, 4);
  const leased_run late = lease_run(3);
  EXPECT_TRUE(q().consumer().nack(0, late.entry(1)));
  EXPECT_EQ(lease_run().count, 0u) << "the next entry was given back";
  const auto again = q().lease(0, 1);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(ack_run(late), 2u) << "the second lease has ended before";
  EXPECT_EQ(q()->depth(0), 3u) << "the entry between is leased";
  EXPECT_EQ(q().consumer().ack(0, again[0]), ack_status::advanced);
  EXPECT_THAT(q().values(0), ElementsAre(4));
}

TEST_F(RingRuns, ARunThatEndsWhileAReleaseIsOpenIsReleasedByTheNextOne) {
  fill(1, 5);
  const leased_run first = lease_run(2), second = lease_run(2), third = lease_run();
  bool releasing = false;
  EXPECT_EQ(q().consumer().ack_run(0, first, releasing), 2u);
  EXPECT_TRUE(releasing);
  EXPECT_EQ(q().consumer().ack_run(0, second, releasing), 2u);
  EXPECT_TRUE(releasing) << "the release of the first run is still open";
  bool another = false;
  EXPECT_EQ(q().consumer().ack_run(0, third, another), 1u);
  EXPECT_FALSE(another) << "only one release can be open";
  end_release();
  EXPECT_EQ(q()->depth(0), 3u);
  EXPECT_TRUE(q().consumer().releasable(0));
  EXPECT_EQ(q().release(0), 3u);
  EXPECT_FALSE(q().consumer().releasable(0));
}

TEST_F(RingRuns, ARunEndsNoLeaseThatARewindADropOrARestartHasEnded) {
  fill(1, 3);
  const leased_run late = lease_run(2);
  q()->rewind(0);
  EXPECT_EQ(ack_run(late), 0u);
  ASSERT_EQ(q().lease(0, 3).size(), 3u);
  EXPECT_EQ(ack_run(late), 0u) << "the entries have another lease";
  q()->rewind(0);
  EXPECT_EQ(q()->drop_oldest(0, 1), 1u);
  EXPECT_EQ(ack_run(late), 0u);
  EXPECT_THAT(q().values(0), ElementsAre(2, 3));
  q()->rewind(0);
  EXPECT_EQ(q().restart(0), restart_status::stored);
  EXPECT_EQ(ack_run(late), 0u);
  fill(4, 4);
  EXPECT_THAT(q().values(0), ElementsAre(4));
}

TEST_F(RingRuns, RunsKeepToTheLeaseSpan) {
  layout.options.lease_span = packet_id_count;
  ASSERT_TRUE(place_many(40000));
  const leased_run run = lease_run(40000);
  EXPECT_EQ(run.count, packet_id_count - 1);
  EXPECT_EQ(lease_run(1).count, 0u);
  EXPECT_EQ(ack_run(run), packet_id_count - 1);
  EXPECT_EQ(lease_run(40000).count, 40000 - (packet_id_count - 1));
}

TEST_F(RingRuns, NothingIsReadInPlaceOnAMediumThatHasFailed) {
  auto failing = std::make_unique<failing_media>(1 << 20);
  bool& broken = failing->broken;
  m = std::move(failing);
  fill(1, 3);
  EXPECT_EQ(lease_run(1).count, 1u);
  broken = true;
  EXPECT_EQ(lease_run(1).count, 0u);
}

TEST_F(RingRuns, NothingIsReadInPlaceThatMayHaveBeenDelivered) {
  fill(1, 3);
  ASSERT_EQ(lease_run(2).count, 2u);
  reopen();
  EXPECT_EQ(lease_run().count, 0u);
  const auto e = q().lease(0, 3);
  ASSERT_EQ(e.size(), 3u);
  EXPECT_TRUE(e[0].redelivered());
}

// A void slot lies between two ready ones, and its mark says so.
bool leases_the_void_slot(RingRuns& r) {
  placement p;
  const std::uint64_t refused[] = {666};
  r.fill(1, 1);
  EXPECT_EQ(r.q()->enqueue_bulk(0, refused, p), 1u);
  r.fill(2, 2);
  r.q()->place_void(p);
  const auto got = RingRuns::values(r.lease_run());
  return std::find(got.begin(), got.end(), 666u) != got.end();
}

TEST_F(RingRuns, AVoidSlotIsPassed) {
  EXPECT_FALSE(leases_the_void_slot(*this));
  EXPECT_THAT(q().values(0), ElementsAre(1, 2));
}

TEST_F(RingRuns, WouldHoldVoidSlotsIfMarksWereNotAskedFor) {
  const seeded on("ring.run_over_marks");
  expect_found("ring.run_over_marks", leases_the_void_slot(*this));
}

TEST_F(RingRuns, AQueueOfSeveralConsumersHasNone) {
  fill(1, 2);
  ASSERT_TRUE(q().consumer().set_mode(0, queue_mode::mpmc));
  EXPECT_EQ(lease_run().count, 0u);
  EXPECT_THAT(q().values(0), ElementsAre(1, 2));
}

TEST_F(RingRuns, LeasesWithDeadlinesHaveNone) {
  layout.options.timed_leases = true;
  fill(1, 2);
  EXPECT_EQ(lease_run().count, 0u);
  EXPECT_THAT(q().values(0), ElementsAre(1, 2));
}

TEST_F(RingRuns, AnEmptyQueueHasNone) {
  EXPECT_EQ(lease_run().count, 0u) << "it has no ring";
  fill(1, 1);
  EXPECT_EQ(lease_run(0).count, 0u);
  EXPECT_EQ(ack_run(lease_run()), 1u);
  EXPECT_EQ(lease_run().count, 0u);
  EXPECT_THAT(q().values(0), IsEmpty());
}

} // namespace
} // namespace chainring::test
