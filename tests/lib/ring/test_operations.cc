// SPDX-License-Identifier: BSD-3-Clause
/// Enqueues with operation ids.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "queue_fixture.h"
#include "support/seam_counter.h"
#include "support/test_media.h"

namespace chainring::test {
namespace {

using outcome = operation_outcome;

class QueueOperations : public testing::Test {
 protected:
  queue_layout layout;
  std::unique_ptr<media> memory;
  std::unique_ptr<opened_queue> q;
  void open(const durable_queue_options& options, std::uint64_t blocks = 512) {
    layout.options = options;
    layout.blocks = blocks;
    layout.descriptors = options.entries + options.clients;
    q.reset();
    memory = memory_media(layout.size(), durability_class::process);
    reopen();
  }
  void reopen() {
    q.reset();
    q = std::make_unique<opened_queue>(*memory, layout);
    EXPECT_TRUE(q->recovered.clean());
  }
  queue<std::uint64_t> numbers(std::uint32_t stream = 0) {
    return queue<std::uint64_t>(**q, stream);
  }
  std::uint64_t live() const { return q->blocks->statistics().live_blocks; }
};

TEST_F(QueueOperations, ARepetitionPutsNothingIntoTheQueue) {
  open({.entry_bytes = 8, .entries = 10, .clients = 2});
  auto all = numbers();
  EXPECT_EQ(all.enqueue({1, 1}, 11), queue_status::done);
  EXPECT_EQ(all.enqueue({1, 1}, 11), queue_status::repeated);
  EXPECT_EQ(all.enqueue({2, 1}, 21), queue_status::done);
  EXPECT_EQ(all.enqueue({1, 2}, 12), queue_status::done);
  EXPECT_EQ(all.enqueue({1, 1}, 11), queue_status::repeated) << "a later one took effect";
  EXPECT_EQ(all.dequeue(), 11u);
  EXPECT_EQ(all.dequeue(), 21u);
  EXPECT_EQ(all.dequeue(), 12u);
  EXPECT_EQ(all.dequeue(), std::nullopt);
  EXPECT_EQ(all.enqueue({1, 2}, 12), queue_status::repeated) << "its entry is gone";
}

TEST_F(QueueOperations, TheLastOperationOfEachClientIsRememberedAfterItsEntryIsReleased) {
  open({.entry_bytes = 8, .entries = 4, .clients = 2});
  auto all = numbers();
  for (std::uint64_t i = 1; i <= 40; ++i) {
    ASSERT_EQ(all.enqueue({1, i}, i), queue_status::done);
    ASSERT_EQ(all.enqueue({0xffff'ffff, operation_id::sequence_max - 40 + i}, i),
              queue_status::done);
    ASSERT_EQ(all.enqueue(i), queue_status::done) << "an entry without an id";
    for (unsigned n = 0; n < 3; ++n)
      ASSERT_EQ(all.dequeue(), i);
    if (i % 8 == 0) {
      reopen();
      all = numbers();
      EXPECT_EQ(all.dequeue(), std::nullopt);
    }
    EXPECT_EQ(all.resolve({1, i}), outcome::took_effect);
    EXPECT_EQ(all.resolve({1, i + 1}), outcome::no_effect);
    EXPECT_EQ(all.resolve({1, i - 1}), outcome::superseded);
    EXPECT_EQ(all.last_operation(0xffff'ffff), operation_id::sequence_max - 40 + i);
  }
  EXPECT_EQ(all.last_operation(3), 0u);
}

TEST_F(QueueOperations, WhatIsRefusedHasNoEffectAndMayBeRepeated) {
  open({.entry_bytes = 8, .entries = 2, .clients = 2});
  auto all = numbers();
  ASSERT_EQ(all.enqueue({1, 1}, 1), queue_status::done);
  ASSERT_EQ(all.enqueue(2), queue_status::done);
  EXPECT_EQ(all.enqueue({1, 2}, 3), queue_status::full);
  EXPECT_EQ(all.resolve({1, 2}), outcome::no_effect);
  EXPECT_EQ((*q)->enqueue({1, 2}, bytes_of("long text")), queue_status::too_long);
  EXPECT_EQ(all.dequeue(), 1u);
  EXPECT_EQ(all.enqueue({1, 2}, 3), queue_status::done);
  EXPECT_EQ(all.resolve({1, 2}), outcome::took_effect);
}

TEST_F(QueueOperations, AsManyClientsAsAskedForHaveOperations) {
  open({.entry_bytes = 8, .entries = 10, .clients = 2});
  auto all = numbers();
  EXPECT_EQ(all.enqueue({1, 1}, 1), queue_status::done);
  EXPECT_EQ(all.enqueue({2, 1}, 1), queue_status::done);
  EXPECT_EQ(all.enqueue({3, 1}, 1), queue_status::full);
  EXPECT_EQ(all.enqueue({1, 2}, 1), queue_status::done);
  layout.options.clients = 1;
  reopen();
  all = numbers();
  EXPECT_EQ(all.last_operation(1), 2u) << "no client that is there is forgotten";
  EXPECT_EQ(all.last_operation(2), 1u);
  layout.options.clients = 3;
  reopen();
  EXPECT_EQ(numbers().enqueue({3, 1}, 1), queue_status::done);
}

TEST_F(QueueOperations, AnIdTakesNoFurtherFlushOrDrain) {
  open({.entry_bytes = 0, .entries = 100, .clients = 64});
  seam_counter seen;
  memory->observe(&seen);
  const std::string text(100, 'x');
  const auto cost_of = [&](auto&& fn) {
    const auto flushes = seen.flushes, drains = seen.drains;
    fn();
    return std::pair(seen.flushes - flushes, seen.drains - drains);
  };
  (void)(*q)->enqueue(bytes_of(text)); // makes the ring
  const auto without = cost_of([&] { (void)(*q)->enqueue(bytes_of(text)); });
  for (std::uint64_t i = 1; i < 4; ++i)
    EXPECT_EQ(cost_of([&] { (void)(*q)->enqueue({1, i}, bytes_of(text)); }), without);
  EXPECT_EQ(without.second, 2);
  EXPECT_EQ(cost_of([&] { (void)(*q)->enqueue({1, 3}, bytes_of(text)); }), std::pair(0, 0));
  std::vector<operation_id> ids;
  for (std::uint32_t client = 0; client < 40; ++client)
    ids.push_back({client, 10});
  const std::vector<durable_queue::byte_span> entries(ids.size(), bytes_of(text));
  EXPECT_EQ(cost_of([&] { EXPECT_EQ((*q)->enqueue_burst(ids, entries), 40u); }).second, 2);
  memory->observe(nullptr);
}

TEST_F(QueueOperations, ABurstStopsAtARepetitionAndSplitsAtASecondOneOfAClient) {
  open({.entry_bytes = 8, .entries = 100, .clients = 8});
  auto all = numbers();
  const std::vector<operation_id> ids = {{1, 1}, {2, 1}, {1, 2}, {1, 3}, {2, 1}, {3, 1}};
  const std::vector<std::uint64_t> entries = {11, 21, 12, 13, 21, 31};
  EXPECT_EQ(all.enqueue_burst(ids, entries), 4u);
  EXPECT_EQ(all.resolve({3, 1}), outcome::no_effect);
  for (const std::uint64_t e : {11, 21, 12, 13})
    EXPECT_EQ(all.dequeue(), e);
  EXPECT_EQ(all.dequeue(), std::nullopt);
}

TEST_F(QueueOperations, AClientKeepsTheBlocksOfOneMessage) {
  open({.entry_bytes = 200, .entries = 4, .clients = 2}, 256);
  queue<std::array<char, 200>> all(**q);
  ASSERT_EQ(all.enqueue({1, 1}, {}), queue_status::done);
  ASSERT_TRUE(all.dequeue());
  const std::uint64_t one = live();
  for (std::uint64_t i = 2; i < 100; ++i) {
    ASSERT_EQ(all.enqueue({1, i}, {}), queue_status::done);
    ASSERT_TRUE(all.dequeue());
    ASSERT_EQ(live(), one);
  }
  reopen();
  EXPECT_LE(live(), one);
  EXPECT_EQ((*q)->last_operation(1), 99u);
}

TEST_F(QueueOperations, OfThreadsThatShareAClientEachOperationTakesEffectOnce) {
  open({.entry_bytes = 8, .entries = 4000, .clients = 4}, 8192);
  constexpr std::uint64_t operations = 500;
  std::atomic<std::uint64_t> done{0};
  const auto work = [&](std::uint32_t own) {
    auto all = numbers();
    for (std::uint64_t i = 1; i <= operations; ++i) {
      EXPECT_EQ(all.enqueue({own, i}, i), queue_status::done);
      const queue_status s = all.enqueue({0, i}, i);
      done += s == queue_status::done;
      EXPECT_TRUE(s == queue_status::done || s == queue_status::repeated) << to_string(s);
    }
  };
  std::thread other([&] { work(1); });
  work(2);
  other.join();
  EXPECT_EQ((*q)->depth(0), 2 * operations + done);
  EXPECT_EQ((*q)->last_operation(0), operations);
}

} // namespace
} // namespace chainring::test
