// SPDX-License-Identifier: BSD-3-Clause
// What recovery makes of message descriptors: each recovery case, blocks that two messages name,
// and threads that recover one table together.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "message_fixture.h"
#include "region/recovery.h"
#include "support/seeded.h"

namespace chainring {
namespace {

using test::differs;
using test::fields;
using test::fixture;
using test::stage_message;

TEST(MessageRecovery, EachRecoveryCaseHasItsVerdict) {
  fixture f({.blocks = 400});
  f.fragment(5);
  const message live = f.published(1, fields(1, 1000));
  const message unnamed = f.published(2, fields(2, 10));
  message staged, held;
  ASSERT_TRUE(stage_message(*f.t.table, 3, fields(3, 10), staged));
  auto will = fields(4, 10);
  will.held = true;
  ASSERT_TRUE(stage_message(*f.t.table, 4, will, held));
  f->publish(held);
  const message broken = f.published(5, fields(5, 10));
  const message overlapping = f.published(6, fields(6, 10));
  f.t.descriptor(broken.ref.index).check |= 1ull << 55;
  f.t.descriptor(overlapping.ref.index).extent = f.t.descriptor(held.ref.index).extent;
  const message malformed = f.published(7, fields(7, 10));
  f.t.descriptor(malformed.ref.index).state |= 1ull << 63;

  const auto found = f->check();
  EXPECT_EQ(found.published, 4u);
  EXPECT_EQ(found.held, 1u);
  EXPECT_EQ(found.staged, 1u);
  EXPECT_EQ(found.free, 16u - 7u);
  EXPECT_EQ(found.malformed, 3u);
  EXPECT_EQ(found.first_malformed, broken.ref.index);
  EXPECT_STREQ(found.first_reason, "it has unknown flags");

  f.t.begin_recovery();
  using s = message_status;
  EXPECT_EQ(f->recover_reference({16, 1}), s::out_of_range);                 // [index-beyond-table]
  EXPECT_EQ(f->recover_reference(malformed.ref), s::damaged);                // [state-malformed]
  EXPECT_EQ(f->recover_reference({live.ref.index, 2}), s::stale_generation); // [other-generation]
  EXPECT_EQ(f->recover_reference(staged.ref), s::not_published); // [message-unpublished]
  EXPECT_EQ(f->recover_reference(held.ref), s::not_published);   // [message-unpublished]
  EXPECT_EQ(f->recover_reference({15, 0}), s::not_published);    // [message-unpublished]
  EXPECT_EQ(f->recover_held(held.ref), s::ok);                   // [message-whole]
  EXPECT_EQ(f->recover_reference(broken.ref), s::damaged);       // [fields-invalid]
  EXPECT_EQ(f->recover_reference(overlapping.ref), s::damaged);  // [fields-invalid]
  EXPECT_EQ(f->recover_reference(overlapping.ref), s::damaged);
  EXPECT_EQ(f->recover_reference(live.ref), s::ok); // [message-whole]
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
            f.t.store->blocks_for(1008) + 1 + 1); // the extents, their list, and the will
  EXPECT_EQ(differs(*f.t.table, live.ref, 1, fields(1, 1000)), "");

  // A damaged descriptor is not given out again before the next open.
  for (unsigned i = 0; i < 11; ++i) {
    message msg;
    ASSERT_TRUE(f->reserve(fields(9, 0, 0, 0), msg));
    for (const auto& bad : {broken, overlapping, malformed})
      EXPECT_NE(msg.ref.index, bad.ref.index);
  }
  EXPECT_TRUE(f->drop_reference(live.ref.index, 3));
  EXPECT_TRUE(f.t.store->check());
}

TEST(MessageRecovery, AMessageWithAnOverlappingExtentLeavesNoChainMarked) {
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

// Two messages, one of them damaged so that both claim a block. It must not matter which of the two
// is recovered first.
struct claimants {
  fixture f;
  message whole, damaged;
  message_fields whole_fields;

  explicit claimants(std::uint32_t payload) : f({.blocks = 400}), whole_fields(fields(1, payload)) {
    f.fragment(5);
    whole = f.published(1, whole_fields);
    damaged = f.published(2, fields(2, 1000)); // in several extents
  }
  [[nodiscard]] message_descriptor& broken() const { return f.t.descriptor(damaged.ref.index); }
  [[nodiscard]] message_extent* list(const message& m) const {
    return reinterpret_cast<message_extent*>(f.t.store->address({m.chains.first, 1}));
  }
  /// Recovers each of the two `times` times, in either order, and checks what is left.
  void expect_the_whole_one_kept(bool damaged_first) {
    f.t.begin_recovery();
    for (int time = 0; time < 2; ++time) {
      if (damaged_first) static_cast<void>(f->recover_reference(damaged.ref));
      EXPECT_EQ(f->recover_reference(whole.ref), message_status::ok);
      if (damaged_first) continue;
      EXPECT_EQ(f->recover_reference(damaged.ref), message_status::damaged);
    }
    f.t.finish_recovery();
    EXPECT_EQ(f->references(whole.ref.index), 2u);
    EXPECT_EQ(differs(*f.t.table, whole.ref, 1, whole_fields), "");
    message_view v;
    // A message that lost blocks which it had been given is not even followed.
    const message_status seen = f->view(damaged.ref, v);
    EXPECT_FALSE(seen == message_status::ok && (damaged_first || f->verify(v)));
    const std::uint32_t lists = whole.chains.list ? 1 : 0;
    EXPECT_EQ(f.t.store->statistics().live_blocks,
              f.t.store->blocks_for(whole_fields.size()) + lists);
    // Places that name the damaged message are consumed like any other, and release no block.
    const std::uint32_t places = f->references(damaged.ref.index);
    EXPECT_TRUE(places == 0 || f->drop_reference(damaged.ref.index, places));
    EXPECT_TRUE(f.t.store->check());
    EXPECT_EQ(differs(*f.t.table, whole.ref, 1, whole_fields), "");
    EXPECT_TRUE(f->drop_reference(whole.ref.index, 2));
    EXPECT_EQ(f.t.store->statistics().live_blocks, 0u);
  }
};

TEST(MessageRecovery, AWholeMessageKeepsItsBlocksFromADamagedOneThatNamesThem) {
  for (const bool damaged_first : {false, true})
    for (const bool sealed : {false, true}) {
      SCOPED_TRACE(std::string(damaged_first ? "damaged first" : "whole first") +
                   (sealed ? ", sealed" : ", not sealed"));
      claimants c(1000);
      // Copy word 1, so that both messages claim the same blocks, including the list.
      c.broken().extent = c.f.t.descriptor(c.whole.ref.index).extent;
      if (sealed) c.f.t.reseal(c.damaged.ref.index);
      c.expect_the_whole_one_kept(damaged_first);
    }
}

TEST(MessageRecovery, AWholeMessageKeepsItsBlocksFromAnExtentListThatNamesThem) {
  for (const bool damaged_first : {false, true})
    for (const bool sealed : {false, true})
      for (const std::uint32_t payload : {290u, 1000u}) { // one chain, and several
        SCOPED_TRACE(std::string(damaged_first ? "damaged first" : "whole first") +
                     (sealed ? ", sealed, " : ", not sealed, ") + std::to_string(payload));
        claimants c(payload);
        ASSERT_EQ(c.whole.chains.list, payload == 1000);
        c.list(c.damaged)[1].first =
            payload == 1000 ? c.list(c.whole)[1].first : c.whole.chains.first;
        if (sealed) c.f.t.reseal(c.damaged.ref.index);
        c.expect_the_whole_one_kept(damaged_first);
      }
}

TEST(MessageRecovery, AWholeMessageKeepsItsExtentListFromAChainThatCoversIt) {
  for (const bool damaged_first : {false, true}) {
    claimants c(1000);
    message& small = c.damaged = c.f.published(2, fields(2, 10));
    ASSERT_FALSE(small.chains.list);
    c.broken().extent = message_word1{c.whole.chains.first, small.chains.count, false}.pack();
    c.f.t.reseal(small.ref.index);
    c.expect_the_whole_one_kept(damaged_first);
  }
}

TEST(MessageRecovery, TwoOpensJudgeAClaimEquallyWhateverAPowerCutLeft) {
  for (const bool void_landed : {false, true}) {
    claimants c(1000);
    c.broken().extent = c.f.t.descriptor(c.whole.ref.index).extent;
    c.f.t.reseal(c.damaged.ref.index);
    const std::uint64_t published = c.broken().state;
    c.f.t.begin_recovery();
    EXPECT_EQ(c.f->recover_reference(c.damaged.ref), message_status::ok);
    EXPECT_EQ(c.f->recover_reference(c.whole.ref), message_status::ok);
    c.f.t.finish_recovery();
    EXPECT_FALSE(c.f->published(c.damaged.ref));
    if (!void_landed) c.broken().state = published;

    c.f.t.begin_recovery();
    EXPECT_EQ(c.f->recover_reference(c.damaged.ref),
              void_landed ? message_status::not_published : message_status::ok);
    EXPECT_EQ(c.f->recover_reference(c.whole.ref), message_status::ok);
    c.f.t.finish_recovery();
    EXPECT_FALSE(c.f->published(c.damaged.ref));
    EXPECT_EQ(differs(*c.f.t.table, c.whole.ref, 1, c.whole_fields), "");
    EXPECT_TRUE(c.f.t.store->check());
  }
}

TEST(MessageRecovery, WithoutAJudgementTheFirstClaimWouldTakeTheBlocks) {
  claimants c(1000);
  c.broken().extent = c.f.t.descriptor(c.whole.ref.index).extent;
  c.f.t.reseal(c.damaged.ref.index);
  const test::seeded active_bug("message.first_claim_wins");
  c.f.t.begin_recovery();
  EXPECT_EQ(c.f->recover_reference(c.damaged.ref), message_status::ok);
  test::expect_found("message.first_claim_wins",
                     c.f->recover_reference(c.whole.ref) != message_status::ok);
}

TEST(MessageRecovery, AWholeMessageKeepsItsBlocksFromSeveralDamagedOnesWhileThreadsRecover) {
  for (int round = 0; round < 50; ++round) {
    fixture f({.descriptors = 64, .blocks = 400});
    std::vector<message> whole, damaged;
    for (std::uint64_t i = 0; i < 20; ++i)
      whole.push_back(f.published(i, fields(i, 400)));
    for (std::uint64_t i = 0; i < 20; ++i) {
      damaged.push_back(f.published(100 + i, fields(100 + i, 400)));
      const std::uint32_t index = damaged[i].ref.index;
      // The chain reaches from the middle of one message to the middle of the next.
      f.t.descriptor(index).extent +=
          (std::uint64_t{whole[i].chains.first} + 3) - damaged[i].chains.first;
      f.t.reseal(index);
    }
    f.t.begin_recovery(true);
    std::vector<std::thread> threads;
    std::atomic<unsigned> ok{0};
    for (unsigned t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (std::size_t i = t; i < 80; ++i) {
          static_cast<void>(f->recover_reference(damaged[(i * 7 + t) % 20].ref));
          if (i < t + 20) ok += f->recover_reference(whole[i % 20].ref) == message_status::ok;
        }
      });
    for (auto& t : threads)
      t.join();
    f.t.finish_recovery();
    ASSERT_EQ(ok, 80u);
    for (std::uint64_t i = 0; i < 20; ++i) {
      ASSERT_EQ(differs(*f.t.table, whole[i].ref, i, fields(i, 400)), "");
      ASSERT_EQ(f->references(whole[i].ref.index), 4u);
    }
    ASSERT_TRUE(f.t.store->check());
  }
}

TEST(MessageRecovery, SeveralThreadsRecoverOneTable) {
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

TEST(MessageRecovery, ThePartsOfTableAndBlocksOpenATableAndCheckOne) {
  claimants c(1000);
  c.broken().extent = c.f.t.descriptor(c.whole.ref.index).extent;
  c.f.t.reseal(c.damaged.ref.index);
  const message kept = c.f.published(3, fields(3, 10));
  const message malformed = c.f.published(4, fields(4, 10));
  c.f.t.descriptor(malformed.ref.index).seals = 0;
  const auto parts = [&] {
    recovery all;
    all.add(c.f.t.store->part());
    all.add(c.f->part());
    all.add({.name = "places", .repair = [&](recovery_context&) {
               for (const message& m : {c.damaged, c.whole, kept})
                 EXPECT_EQ(c.f->recover_reference(m.ref), message_status::ok);
             }});
    return all;
  };
  const std::vector<std::byte> before(c.f.m->base(), c.f.m->base() + c.f.m->size());
  const auto checked = parts().check(*c.f.m);
  ASSERT_EQ(checked.problems.size(), 1u);
  EXPECT_EQ(checked.problems[0].text(), "message " + std::to_string(malformed.ref.index) +
                                            ": its chain fails its seal (and 0 more)");
  EXPECT_TRUE(std::equal(before.begin(), before.end(), c.f.m->base()));

  auto opened = parts().run(*c.f.m);
  ASSERT_TRUE(opened.ok());
  ASSERT_EQ(opened->problems.size(), 1u);
  EXPECT_EQ(opened->problems[0].text(),
            "message " + std::to_string(c.damaged.ref.index) +
                ": it claims blocks of a message whose content is whole, and its own content is "
                "not; it is not delivered");
  EXPECT_EQ(c.f->statistics().live, 3u);
  EXPECT_EQ(differs(*c.f.t.table, c.whole.ref, 1, c.whole_fields), "");
  EXPECT_EQ(differs(*c.f.t.table, kept.ref, 3, fields(3, 10)), "");
  EXPECT_EQ(c.f->references(malformed.ref.index), 0u);
}

TEST(MessageRecovery, RecoveringATableTwiceGivesTheSameResult) {
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
