// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "message_fixture.h"

namespace chainring {
namespace {

using test::differs;
using test::fields;
using test::fixture;
using test::stage_message;

TEST(MessageRecovery, EachCaseOfTheTableHasItsVerdict) {
  fixture f({.blocks = 400});
  f.fragment(5);
  const message live = f.published(1, fields(1, 1000));
  const message unnamed = f.published(2, fields(2, 10));
  message staged, held;
  ASSERT_TRUE(stage_message(*f.t.table, 3, fields(3, 10), staged));
  ASSERT_TRUE(stage_message(*f.t.table, 4, fields(4, 10), held));
  f->hold(held);
  const message broken = f.published(5, fields(5, 10));
  const message overlapping = f.published(6, fields(6, 10));
  f.t.descriptor(broken.ref.index).reserved = 1;
  f.t.descriptor(overlapping.ref.index).extent = f.t.descriptor(held.ref.index).extent;
  const message malformed = f.published(7, fields(7, 10));
  f.t.descriptor(malformed.ref.index).state |= 1ull << 63;

  const auto found = f->check();
  EXPECT_EQ(found.published, 4u);
  EXPECT_EQ(found.held, 1u);
  EXPECT_EQ(found.staged, 1u);
  EXPECT_EQ(found.free, 16u - 7u);
  EXPECT_EQ(found.malformed, 2u);
  EXPECT_EQ(found.first_malformed, broken.ref.index);
  EXPECT_STREQ(found.first_reason, "its reserved word is not zero");

  f.t.begin_recovery();
  using s = message_status;
  EXPECT_EQ(f->recover_reference({16, 1}), s::out_of_range);                 // [K1]
  EXPECT_EQ(f->recover_reference(malformed.ref), s::damaged);                // [K2]
  EXPECT_EQ(f->recover_reference({live.ref.index, 2}), s::stale_generation); // [K3]
  EXPECT_EQ(f->recover_reference(staged.ref), s::not_published);             // [K4]
  EXPECT_EQ(f->recover_reference(held.ref), s::not_published);               // [K4]
  EXPECT_EQ(f->recover_reference({15, 0}), s::not_published);                // [K4]
  EXPECT_EQ(f->recover_held(held.ref), s::ok);                               // [K6]
  EXPECT_EQ(f->recover_reference(broken.ref), s::damaged);                   // [K5]
  EXPECT_EQ(f->recover_reference(overlapping.ref), s::damaged);              // [K5]
  EXPECT_EQ(f->recover_reference(overlapping.ref), s::damaged);
  EXPECT_EQ(f->recover_reference(live.ref), s::ok); // [K6]
  EXPECT_EQ(f->recover_reference(live.ref), s::ok);
  EXPECT_EQ(f->recover_held(live.ref), s::ok);
  f.t.finish_recovery();

  EXPECT_EQ(f->references(live.ref.index), 3u);
  EXPECT_EQ(f->references(held.ref.index), 1u);
  EXPECT_EQ(f->references(unnamed.ref.index), 0u);
  EXPECT_EQ(f->references(broken.ref.index), 0u);
  const auto stats = f->statistics();
  EXPECT_EQ(stats.live, 2u);
  EXPECT_EQ(stats.damaged, 3u);
  EXPECT_EQ(stats.free, 11u);
  EXPECT_EQ(f.t.store->statistics().live_blocks,
            f.t.store->blocks_for(1008) + 1 + 1); // extents, their list, the will
  EXPECT_EQ(differs(*f.t.table, live.ref, 1, fields(1, 1000)), "");

  // What is damaged is not given out again before the next open.
  for (unsigned i = 0; i < 11; ++i) {
    message msg;
    ASSERT_TRUE(f->reserve(fields(9, 0, 0, 0), msg));
    for (const auto& bad : {broken, overlapping, malformed})
      EXPECT_NE(msg.ref.index, bad.ref.index);
  }
  EXPECT_TRUE(f->drop_reference(live.ref.index, 3));
  EXPECT_TRUE(f.t.store->check());
}

TEST(MessageRecovery, AnExtentThatOverlapsLeavesNothingMarked) {
  fixture f({.blocks = 400});
  f.fragment(5);
  const message msg = f.published(1, fields(1, 1000));
  auto* list = reinterpret_cast<message_extent*>(f.t.store->address({msg.chains.first, 1}));
  list[2] = list[0];
  f.t.begin_recovery();
  EXPECT_EQ(f->recover_reference(msg.ref), message_status::damaged);
  f.t.finish_recovery();
  EXPECT_EQ(f.t.store->statistics().live_blocks, 0u);
}

TEST(MessageRecovery, ThreadsRecoverTogether) {
  fixture f({.descriptors = 64, .blocks = 400});
  f.fragment(3);
  std::vector<message> all;
  for (std::uint64_t i = 0; i < 20; ++i)
    all.push_back(f.published(i, fields(i, 400)));
  for (int round = 0; round < 50; ++round) {
    f.t.begin_recovery(true);
    std::vector<std::thread> threads;
    std::atomic<unsigned> ok{0};
    for (unsigned t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (const message& msg : all)
          ok += f->recover_reference(msg.ref) == message_status::ok;
      });
    for (auto& t : threads)
      t.join();
    f.t.finish_recovery();
    ASSERT_EQ(ok, 80u);
    for (const message& msg : all)
      ASSERT_EQ(f->references(msg.ref.index), 4u);
    ASSERT_TRUE(f.t.store->check());
  }
}

TEST(MessageRecovery, ATableRecoversTwiceToTheSame) {
  fixture f({.blocks = 100}, true);
  const message msg = f.published(1, fields(1, 300));
  for (int round = 0; round < 3; ++round) {
    f.t.begin_recovery();
    EXPECT_EQ(f->recover_reference(msg.ref), message_status::ok);
    f.t.finish_recovery();
    EXPECT_EQ(f->statistics().live, 1u);
    EXPECT_EQ(f.t.store->statistics().live_blocks, 5u);
    EXPECT_EQ(differs(*f.t.table, msg.ref, 1, fields(1, 300)), "");
  }
}

} // namespace
} // namespace chainring
