// SPDX-License-Identifier: BSD-3-Clause
/// Tables of several segments, segments that are added while the table serves, and the recovery
/// part of a table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "region/recovery.h"
#include "ring/ring.h"

namespace chainring::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// A table of value queues whose records lie in several ranges in front of the blocks.
struct RingSegments : testing::Test {
  static constexpr std::uint64_t chains = 64 << 10;
  std::unique_ptr<media> m = memory_media(1 << 20, durability_class::process);
  std::unique_ptr<block_store> blocks;
  std::unique_ptr<queue_table> queues;
  queue_recovery found;
  std::vector<problem> problems;
  queue_table_options options{.slots = 8, .stock = 2, .queues_max = 64};

  void open(const std::vector<queue_segment>& segments) {
    queues.reset();
    blocks = block_store::create(*m, chains, 256, 512).value();
    queues = queue_table::create(*m, segments, *blocks, nullptr, options).value();
    recovery all;
    all.add(blocks->part());
    all.add(queues->part("queues", {}, &found));
    auto done = all.run(*m);
    ASSERT_TRUE(done);
    problems = std::move(done->problems);
  }
  void put(std::uint32_t queue, std::uint64_t value) const {
    ASSERT_EQ(queues->link_now(queue), link_status::ready);
    placement p;
    ASSERT_EQ(queues->enqueue_bulk(queue, {&value, 1}, p), 1u);
    queues->place_flush(p);
    m->drain();
    queues->place_finish(p);
  }
  [[nodiscard]] std::vector<std::uint64_t> values(std::uint32_t queue) const {
    std::vector<leased> got(8);
    got.resize(queues->lease(queue, got));
    std::vector<std::uint64_t> out;
    for (const leased& e : got)
      out.push_back(e.ref.word);
    return out;
  }
};

TEST_F(RingSegments, QueuesOfALaterSegmentFollowInNumberAndSurviveAReopen) {
  open({{0, 3}});
  put(2, 20);
  ASSERT_TRUE(queues->add_segment({4096, 2}));
  ASSERT_TRUE(queues->add_segment({1024, 4}));
  EXPECT_EQ(queues->count(), 9u);
  put(3, 30);
  put(4, 40);
  put(8, 80);
  open({{0, 3}, {4096, 2}, {1024, 4}});
  EXPECT_EQ(queues->count(), 9u);
  EXPECT_THAT(values(2), ElementsAre(20));
  EXPECT_THAT(values(3), ElementsAre(30));
  EXPECT_THAT(values(4), ElementsAre(40));
  EXPECT_THAT(values(8), ElementsAre(80));
  EXPECT_EQ(queues->statistics().queues, 9u);
  EXPECT_EQ(found.entries, 4u);
  EXPECT_EQ(problems.size(), 0u);
}

TEST_F(RingSegments, ACheckGivesTheNotesOfAnOpenAndChangesNothing) {
  open({{0, 2}, {4096, 2}});
  put(1, 10);
  put(3, 30);
  auto* records = reinterpret_cast<queue_record*>(m->base() + 4096);
  records[1].rings[0].base ^= 2; // in queue 3
  const std::vector<std::byte> before(m->base(), m->base() + (1 << 20));
  recovery all;
  queue_recovery seen;
  all.add(queues->part("queues", {}, &seen));
  const recovery_report report = all.check(*m);
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_THAT(report.problems[0].text(),
              HasSubstr("queues: queue 3: one of its rings fails its check"));
  EXPECT_EQ(seen.damaged_queues, 1u);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), m->base()));
  open({{0, 2}, {4096, 2}});
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].text(), report.problems[0].text());
  EXPECT_THAT(values(1), ElementsAre(10));
  EXPECT_EQ(queues->link_now(3), link_status::refused);
}

TEST_F(RingSegments, EntriesStayLeasedWhileASegmentIsAdded) {
  open({{0, 2}});
  put(1, 10);
  put(1, 11);
  EXPECT_THAT(values(1), ElementsAre(10, 11));
  placement open_placement;
  const std::uint64_t value = 12;
  ASSERT_EQ(queues->enqueue_bulk(1, {&value, 1}, open_placement), 1u);
  ASSERT_TRUE(queues->add_segment({4096, 60}));
  EXPECT_EQ(queues->ack(1, 1), ack_status::advanced);
  EXPECT_EQ(queues->ack(1, 2), ack_status::advanced);
  queues->place_flush(open_placement);
  m->drain();
  queues->place_finish(open_placement);
  EXPECT_THAT(values(1), ElementsAre(12));
}

TEST_F(RingSegments, EveryQueueOfALaterSegmentCanHaveARing) {
  options.queues_max = 8;
  open({{0, 2}});
  EXPECT_EQ(queues->statistics().rings_max, 2u);
  ASSERT_TRUE(queues->add_segment({4096, 6}));
  EXPECT_EQ(queues->statistics().rings_max, 8u);
  for (std::uint32_t queue = 0; queue < 8; ++queue)
    put(queue, queue);
  for (std::uint32_t queue = 0; queue < 8; ++queue)
    EXPECT_THAT(values(queue), ElementsAre(queue));
}

TEST_F(RingSegments, AnInvalidSegmentIsRefusedWithASentence) {
  open({{0, 2}});
  const auto refused = [&](queue_segment s, const char* text) {
    const auto added = queues->add_segment(s);
    ASSERT_FALSE(added);
    EXPECT_THAT(added.error().message, HasSubstr(text));
    EXPECT_EQ(queues->count(), 2u);
  };
  refused({100, 2}, "offset 100 is not a multiple of 64");
  refused({4096, 0}, "count 0: expected 1 to 62");
  refused({4096, 63}, "count 63: expected 1 to 62");
  refused({(1 << 20) - 64, 2}, "past the end of the region");
  refused({64, 1}, "offset 64: the segment overlaps the segment of 2 queues at offset 0");
  auto* words = reinterpret_cast<std::uint64_t*>(m->base() + 4096);
  words[9] = 1;
  refused({4096, 2}, "not zero");
  words[9] = 0;
  for (std::uint32_t i = 1; i < queue_segments_max; ++i)
    ASSERT_TRUE(queues->add_segment({std::uint64_t{4096} + 64 * i, 1}));
  EXPECT_THAT(queues->add_segment({8192, 1}).error().message,
              HasSubstr("the table already has 16 segments"));
}

TEST_F(RingSegments, OtherThreadsUseTheExistingQueuesWhileSegmentsAreAdded) {
  open({{0, 2}});
  put(0, 1);
  std::atomic<bool> done = false;
  std::atomic<std::uint64_t> passed = 0;
  std::thread user([&] {
    for (std::uint64_t value = 2; !done.load() || value < 100; ++value) {
      leased one;
      if (queues->lease(0, {&one, 1}) != 1 || one.ref.word != value - 1) break;
      (void)queues->ack(0, one.ticket());
      if (queues->release_start(0)) {
        queues->release_flush(0);
        m->drain();
        (void)queues->release_finish(0);
      }
      put(0, value);
      (void)queues->statistics();
      passed = value;
    }
  });
  for (std::uint32_t i = 1; i < queue_segments_max; ++i) {
    ASSERT_TRUE(queues->add_segment({std::uint64_t{4096} + 256 * i, 4}));
    const std::uint32_t newest = queues->count() - 1;
    put(newest, i);
    EXPECT_THAT(values(newest), ElementsAre(i));
  }
  done = true;
  user.join();
  EXPECT_GE(passed, 99u);
}

} // namespace
} // namespace chainring::test
