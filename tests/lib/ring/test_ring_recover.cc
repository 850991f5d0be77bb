// SPDX-License-Identifier: BSD-3-Clause
/// The cases of recovery, what recovery does with damage, and how often each burst flushes and
/// drains.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "ring/recover_cases.h"
#include "ring_fixture.h"
#include "support/seam_counter.h"
#include "support/seed.h"
#include "support/test_media.h"

namespace chainring::test {
namespace {

using namespace detail;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(RingCases, EverySlotPatternMatchesExactlyOneCase) {
  const ring_window windows[] = {
      {.base = 0, .from = 0, .log2_slots = 2},
      {.base = 0, .from = 7, .log2_slots = 2},
      {.base = 5, .from = 5, .log2_slots = 3},
      {.base = 5, .from = 30, .end = 33, .log2_slots = 3},
      {.base = 5, .from = 30, .end = 30, .log2_slots = 3},
      {.base = ticket_max - 1, .from = ticket_max - 1, .log2_slots = 2},
      {.base = ticket_max, .from = ticket_max, .log2_slots = 24},
  };
  std::vector<int> seen(slot_cases().size());
  std::uint64_t patterns = 0;
  for (const ring_window& w : windows) {
    std::vector<std::uint64_t> tickets = {0, 1, ticket_max, ticket_max - 1};
    for (std::uint64_t at : {w.base, w.from, w.from + w.size(), w.end})
      for (int d = -2; d <= 2; ++d)
        tickets.push_back((at + static_cast<std::uint64_t>(d)) & ticket_max);
    for (std::uint64_t ticket : tickets)
      for (unsigned state : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 128u, 255u})
        for (std::uint32_t index = 0; index < std::min<std::uint64_t>(w.size(), 8); ++index)
          for (auto s :
               {message_status::ok, message_status::not_published, message_status::stale_generation,
                message_status::out_of_range, message_status::damaged})
            for (auto source : {slot_source::gone, slot_source::holding, slot_source::unnamed}) {
              const std::uint64_t packed =
                  ticket == 0 && state == 0
                      ? 0
                      : slot_tag{ticket, static_cast<slot_state>(state)}.pack(3);
              const slot_facts f{
                  3, state < 8 ? packed : ticket | std::uint64_t{state} << 56, index, w, s, source};
              int matches = 0;
              for (const slot_row& row : slot_cases())
                if (row.matches(f)) {
                  ++matches;
                  ++seen[static_cast<std::size_t>(row.kind)];
                }
              ASSERT_EQ(matches, 1) << "ticket " << ticket << " state " << state << " index "
                                    << index << " base " << w.base << " from " << w.from;
              ++patterns;
            }
  }
  for (std::size_t i = 0; i < seen.size(); ++i)
    EXPECT_GT(seen[i], 0) << slot_cases()[i].text;
  EXPECT_GT(patterns, 10000u);
}

TEST(RingCases, EveryRecordPatternMatchesExactlyOneCase) {
  auto m = memory_media(1 << 16, durability_class::process);
  auto blocks = block_store::create(*m, 0, 64, 64).value();
  // Pairs of a first block and a number of blocks. The last two entries get a wrong seal.
  const chain chains[] = {{0, 7}, {57, 7}, {58, 7}, {0, 8}, {0, 0}, {~0u, 0}};
  const std::uint64_t bases[] = {std::uint64_t{2} << 56, 9 | std::uint64_t{2} << 56, 9,
                                 9 | std::uint64_t{25} << 56, ~0ull};
  std::vector<int> seen(record_cases().size());
  for (std::uint64_t head :
       {std::uint64_t{0}, std::uint64_t{9}, ticket_max, ticket_max + 1, ~std::uint64_t{0}})
    for (std::uint32_t incarnation : {0u, 7u})
      for (unsigned first : {0u, 2u, 3u})
        for (unsigned count : {0u, 1u, 2u, 3u})
          for (unsigned top : {0u, 1u, 2u, 256u})
            for (std::uint64_t b0 : bases)
              for (std::uint64_t b1 : bases)
                for (const chain c0 : chains)
                  for (const chain c1 : chains)
                    for (int expected : {-1, 7}) {
                      record_facts f;
                      const auto entry = [](std::uint64_t base, const chain& c) {
                        if (c.blocks == 0) return queue_ring{base, c.first};
                        return queue_ring::sealed(3, base, c.first, c.blocks);
                      };
                      f.queue = 3;
                      f.record.head = head > ticket_max ? head : queue_head{head}.pack(3);
                      f.record.commit = queue_commit{incarnation, static_cast<std::uint8_t>(first),
                                                     static_cast<std::uint8_t>(count),
                                                     static_cast<queue_mode>(top & 1)}
                                            .pack(3) ^
                                        (top & ~1u);
                      f.record.rings[0] = entry(b0, c0);
                      f.record.rings[1] = entry(b1, c1);
                      f.record.rings[2] = entry(b0, c0);
                      f.blocks = blocks.get();
                      if (expected >= 0) f.expected = static_cast<std::uint32_t>(expected);
                      int matches = 0;
                      for (const record_row& row : record_cases())
                        if (row.matches(f)) {
                          ++matches;
                          ++seen[static_cast<std::size_t>(row.kind)];
                        }
                      ASSERT_EQ(matches, 1) << head << " " << count << " " << top;
                    }
  for (std::size_t i = 0; i < seen.size(); ++i)
    EXPECT_GT(seen[i], 0) << record_cases()[i].text;
}

TEST(RingCases, TheWindowRuleHoldsForRingsThatFollowOneAnother) {
  record_facts f;
  f.record.head = queue_head{12}.pack(0);
  f.record.commit = queue_commit{0, 2, 2, queue_mode::mpsc}.pack(0);
  f.record.rings[2] = {queue_base{8, 2}.pack(), 0};
  f.record.rings[0] = {queue_base{14, 3}.pack(), 0};
  const ring_window old = window_of(f, 0), next = window_of(f, 1);
  EXPECT_EQ(old.from, 12u);
  EXPECT_EQ(old.end, 14u);
  EXPECT_EQ(next.from, 14u);
  EXPECT_EQ(next.end, ticket_max);
  auto case_of = [](const ring_window& w, std::uint64_t ticket) {
    return judge(slot_facts{0, slot_tag{ticket, slot_state::queued}.pack(0), w.index_of(ticket), w,
                            message_status::ok})
        .kind;
  };
  EXPECT_EQ(case_of(old, 12), slot_case::released);
  EXPECT_EQ(case_of(old, 14), slot_case::deliverable);
  EXPECT_EQ(case_of(old, 15), slot_case::ahead)
      << "the ticket is past the base of the ring that follows";
  EXPECT_EQ(case_of(next, 15), slot_case::deliverable);
  EXPECT_EQ(case_of(next, 21), slot_case::deliverable);
  EXPECT_EQ(case_of(next, 22), slot_case::overfull);
  EXPECT_EQ(case_of(next, 23), slot_case::ahead);
}

struct RingDamage : testing::Test, queues_in_memory {
  void SetUp() override {
    reopen();
    for (std::uint32_t queue : {0u, 1u, 2u})
      for (std::uint64_t id = 1; id <= 3; ++id)
        ASSERT_TRUE(opened->publish(queue * 10 + id, {queue}));
  }
  queues_on_media& reopen(const incarnation_of& expected = {}) {
    layout.expected = expected;
    return queues_in_memory::reopen();
  }
  /// Stores an entry in queue 2 that names another place for its ring, with a right seal.
  void put_at(std::uint32_t first_block) {
    queue_ring& ring = opened->record(2).rings[0];
    ring = queue_ring::sealed(2, ring.base, first_block, opened->ring_blocks(ring));
  }
  /// Adds a second ring to queue 2, `after` tickets behind the first, in the same blocks.
  void add_ring(std::uint64_t after) {
    queue_record& r = opened->record(2);
    r.rings[1] = queue_ring::sealed(2, r.rings[0].base + after, r.rings[0].first_block(),
                                    opened->ring_blocks(r.rings[0]));
    queue_commit c = queue_commit::unpack(r.commit);
    ++c.count;
    r.commit = c.pack(2);
  }
  /// Expects that the queue is named and out of service, that the others are served, and that a
  /// restart puts the queue into service again.
  void expect_only_broken(std::uint32_t queue, const char* text) {
    EXPECT_EQ(opened->queues->check().damaged_queues, 1u);
    queues_on_media& q = reopen();
    EXPECT_EQ(q.found.damaged_queues, 1u);
    ASSERT_EQ(q.found.notes.size(), 1u);
    EXPECT_THAT(q.found.notes[0], HasSubstr("queue " + std::to_string(queue) + ": "));
    EXPECT_THAT(q.found.notes[0], HasSubstr(text));
    for (std::uint32_t other : {0u, 1u, 2u}) {
      if (other == queue) continue;
      EXPECT_THAT(q.ids(other), ElementsAre(other * 10 + 1, other * 10 + 2, other * 10 + 3));
    }
    EXPECT_THAT(q.ids(queue), IsEmpty());
    EXPECT_EQ(q->link_now(queue), link_status::refused);
    EXPECT_FALSE(q.publish(50, {queue}));
    EXPECT_TRUE(q->statistics(queue).damaged);
    ASSERT_EQ(q.restart(queue), restart_status::stored);
    ASSERT_TRUE(q.publish(60, {queue}));
    EXPECT_THAT(reopen().ids(queue), ElementsAre(60));
    EXPECT_THAT(opened->found.notes, IsEmpty());
  }
};

TEST_F(RingDamage, ARecordWithAFlippedBitOrOfAnotherQueueIsNotActedUpon) {
  ASSERT_EQ(opened->lease(1).size(), 3u);
  ASSERT_EQ((*opened)->ack(1, 1), ack_status::advanced);
  ASSERT_EQ(opened->release(1), 1u);
  record_facts f{
      .queue = 1, .record = opened->record(1), .expected = {}, .blocks = &*opened->blocks};
  ASSERT_EQ(judge(f).kind, record_case::one_ring);
  auto* words =
      reinterpret_cast<std::uint64_t*>(&f.record); // the head, the commit word and the one entry
  for (unsigned bit = 0; bit < 64 * 4; ++bit) {
    words[bit / 64] ^= std::uint64_t{1} << bit % 64;
    EXPECT_NE(judge(f).kind, record_case::one_ring) << "bit " << bit;
    words[bit / 64] ^= std::uint64_t{1} << bit % 64;
  }
  for (std::uint32_t other : {0u, 2u, 3u, 77u, 4'000'000u}) {
    f.queue = other;
    EXPECT_NE(judge(f).kind, record_case::one_ring) << "queue " << other;
    f.queue = 1;
  }
  f.record.rings[0] = opened->record(0).rings[0];
  EXPECT_EQ(judge(f).kind, record_case::ring_damaged) << "the entry of another queue";
}
TEST_F(RingDamage, ASlotWithAFlippedBitInItsTagOrOfAnotherQueueIsNotDelivered) {
  const ring_window w{.base = 0, .from = 0, .log2_slots = 3};
  for (const slot_state state : {slot_state::queued, slot_state::pubrec, slot_state::acked,
                                 slot_state::moved, slot_state::dropped, slot_state::voided})
    for (const std::uint32_t queue : {0u, 1u, 29u, 30u, 65535u}) {
      const std::uint64_t tag = slot_tag{3, state}.pack(queue);
      ASSERT_NE(judge(slot_facts{queue, tag, 2, w}).kind, slot_case::malformed);
      for (unsigned bit = 0; bit < 64; ++bit)
        EXPECT_EQ(judge(slot_facts{queue, tag ^ std::uint64_t{1} << bit, 2, w}).kind,
                  slot_case::malformed)
            << "state " << static_cast<int>(state) << " bit " << bit;
      EXPECT_EQ(judge(slot_facts{queue + 1, tag, 2, w}).kind, slot_case::malformed);
    }
  for (const std::uint32_t queue : {0u, 1u, 29u, 30u})
    EXPECT_EQ(judge(slot_facts{queue, ~0ull, 2, w}).kind, slot_case::malformed);
}
TEST_F(RingDamage, AnAcknowledgedSlotThatDamageTurnsIntoAQueuedOneIsNotDelivered) {
  ASSERT_EQ(opened->lease(0).size(), 3u);
  ASSERT_EQ((*opened)->ack(0, 2), ack_status::marked);
  std::uint64_t& tag = opened->slots(0)[1].tag;
  tag ^= std::uint64_t{3} << 56; // the state `acked` now reads as `queued`
  ASSERT_EQ(slot_tag::unpack(tag).state, slot_state::queued);
  queues_on_media& q = reopen();
  EXPECT_EQ(q.found.damaged_slots, 1u);
  EXPECT_THAT(q.ids(0), ElementsAre(1, 3));
}

TEST_F(RingDamage, ADamagedHeadTakesOneQueueOutOfService) {
  opened->record(1).head = ~0ull;
  expect_only_broken(1, "head");
}
TEST_F(RingDamage, ADamagedCommitWordTakesOneQueueOutOfService) {
  opened->record(0).commit |= std::uint64_t{200} << 36;
  expect_only_broken(0, "commit word");
}
TEST_F(RingDamage, ADamagedIncarnationIsReplacedByARestart) {
  opened->record(0).commit = ~0ull;
  queues_on_media& q = reopen();
  EXPECT_EQ(q.found.damaged_queues, 1u);
  ASSERT_EQ(q->restart_start(0, 4), restart_status::stored);
  q->restart_flush(0);
  m->drain();
  q->restart_finish(0);
  EXPECT_EQ(q->incarnation(0), 5u);
  EXPECT_FALSE(q->statistics(0).damaged);
  EXPECT_EQ(q->restart_start(0, 4), restart_status::changed)
      << "the queue is in service, and in incarnation 5";
  ASSERT_TRUE(q.publish(60, {0}));
  EXPECT_THAT(reopen().ids(0), ElementsAre(60));
  EXPECT_THAT(opened->found.notes, IsEmpty());
}
TEST_F(RingDamage, ARingOutsideTheStoreTakesOneQueueOutOfService) {
  opened->record(2).rings[0].chain += 100000;
  expect_only_broken(2, "impossible");
}
TEST_F(RingDamage, ARingOfAnotherSizeThanItsChainTakesOneQueueOutOfService) {
  opened->record(2).rings[0].base += std::uint64_t{1} << 56;
  expect_only_broken(2, "impossible");
}
TEST_F(RingDamage, ARingThatBeginsPastTheTicketsOfTheRingBeforeTakesOneQueueOutOfService) {
  add_ring(8); // the first ring held at most seven entries
  expect_only_broken(2, "impossible");
}
TEST_F(RingDamage, TwoRingsInTheSameBlocksTakeOneQueueOutOfService) {
  add_ring(0);
  queues_on_media& q = reopen();
  EXPECT_EQ(q.found.damaged_queues, 1u);
  EXPECT_THAT(q.found.notes[0], HasSubstr("queue 2: one of its rings"));
  EXPECT_THAT(q.ids(1), ElementsAre(11, 12, 13));
  ASSERT_EQ(q.restart(2), restart_status::stored);
  ASSERT_TRUE(q.publish(60, {2}));
  EXPECT_THAT(reopen().ids(2), ElementsAre(60)) << "the blocks of its rings are free again";
}
TEST_F(RingDamage, ARingOverTheBlocksOfAnotherQueueTakesOneQueueOutOfService) {
  put_at(opened->record(1).rings[0].first_block());
  opened.reset();
  queues_on_media& q = reopen();
  EXPECT_EQ(q.found.damaged_queues, 1u);
  EXPECT_THAT(q.found.notes[0], HasSubstr("queue 2: one of its rings"));
  EXPECT_THAT(q.ids(1), ElementsAre(11, 12, 13));
}

TEST_F(RingDamage, ARingPastTheEndOfTheStoreStaysDamagedWhenTheStoreGrows) {
  put_at(static_cast<std::uint32_t>(layout.blocks) -
         opened->ring_blocks(opened->record(2).rings[0]));
  layout.blocks -= 1;
  ASSERT_EQ(reopen().found.damaged_queues, 1u);
  layout.blocks += 1;
  EXPECT_EQ(reopen().found.damaged_queues, 1u);
}

TEST_F(RingDamage, ADamagedSlotIsNamedAndTheOthersAreServed) {
  ring_slot* s = opened->slots(0);
  s[0].tag = ~0ull;                                   // the tag is malformed
  s[5].tag = slot_tag{9, slot_state::queued}.pack(0); // the ticket belongs in slot 0
  s[6].tag =
      slot_tag{7 + 8 * 1000, slot_state::queued}.pack(0); // the ticket cannot have been given yet
  s[1].ref = slot_ref(message_ref{1000000, 1}, 1).word;   // there is no such message
  EXPECT_EQ(opened->queues->check().damaged_slots, 4u);
  queues_on_media& q = reopen();
  EXPECT_EQ(q.found.damaged_slots, 4u);
  EXPECT_EQ(q.found.notes.size(), 4u);
  EXPECT_THAT(q.ids(0), ElementsAre(3));
  EXPECT_EQ(slot_tag::unpack(q.slots(0)[6].tag).ticket, 0u)
      << "the ticket must never come into the window";
  queues_on_media& again = reopen();
  EXPECT_THAT(again.found.notes, IsEmpty()) << "the damage was repaired";
  EXPECT_THAT(again.ids(1), ElementsAre(11, 12, 13));
}

TEST_F(RingDamage, MoreEntriesThanARingHoldsAreDamage) {
  layout.values = true; // so that only the slots of queue 0 count
  for (std::uint64_t t = 1; t <= 8; ++t)
    opened->slots(0)[t - 1].tag = slot_tag{t, slot_state::queued}.pack(0);
  EXPECT_EQ(opened->queues->check().damaged_slots, 1u);
  queues_on_media& q = reopen();
  EXPECT_EQ(q.found.damaged_slots, 1u);
  ASSERT_EQ(q.found.notes.size(), 1u);
  EXPECT_THAT(q.found.notes[0],
              HasSubstr("the slot of ticket 8 has a ticket that the ring had no"));
  EXPECT_EQ(q.lease(0).size(), 7u);
  EXPECT_THAT(reopen().found.notes, IsEmpty());
}

TEST_F(RingDamage, AQueueOfAnotherIncarnationIsEmptiedAndItsMessagesFreed) {
  queues_on_media& q = reopen([](std::uint32_t queue) { return queue == 1 ? 5u : 0u; });
  EXPECT_EQ(q.found.restarted, 1u);
  EXPECT_EQ(q->incarnation(1), 5u);
  EXPECT_THAT(q.ids(1), IsEmpty());
  EXPECT_EQ(q.live(), 6u);
  ASSERT_TRUE(q.publish(70, {1}));
  EXPECT_THAT(reopen([](std::uint32_t queue) { return queue == 1 ? 5u : 0u; }).ids(1),
              ElementsAre(70));
}

TEST_F(RingDamage, RingsOfAnotherSizeThanTheOptionsSayAreServed) {
  layout.options.slots = 32;
  queues_on_media& q = reopen();
  EXPECT_EQ(q->statistics(0).capacity, 7u);
  EXPECT_THAT(q.ids(0), ElementsAre(1, 2, 3));
  ASSERT_EQ(q.restart(0), restart_status::stored);
  ASSERT_TRUE(q.publish(9, {0}));
  EXPECT_EQ(q->statistics(0).capacity, 31u);
  layout.options = {.capacity = 2, .stock = 1}; // fewer than the entries in the ring
  EXPECT_THAT(reopen().ids(1), ElementsAre(11, 12, 13));
}

TEST_F(RingDamage, RandomDamageNeverStopsAnOpen) {
  std::mt19937_64 random(printed_seed(20261121));
  opened.reset();
  const std::vector<std::byte> image(m->base(), m->base() + layout.size());
  for (int round = 0; round < 3000; ++round) {
    std::copy(image.begin(), image.end(), m->base());
    const std::uint64_t chains = layout.chains();
    const int changes = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < changes; ++i) {
      // A bit, a byte or a word changes, in a record or in one of the first rings.
      const std::uint64_t at = random() % 2 ? random() % layout.table() : chains + random() % 4096;
      switch (random() % 3) {
      case 0:
        m->base()[at] ^= static_cast<std::byte>(1 << random() % 8);
        break;
      case 1:
        m->base()[at] = static_cast<std::byte>(random());
        break;
      case 2:
        for (std::uint64_t k = 0; k < 8; ++k)
          m->base()[at / 8 * 8 + k] = static_cast<std::byte>(random() >> 8 * k);
        break;
      }
    }
    queues_on_media& q = reopen();
    for (std::uint32_t queue = 0; queue < layout.queues; ++queue) {
      for (const leased& e : q.lease(queue)) {
        static_cast<void>(q.id_of(e.message()));
        static_cast<void>(q->ack(queue, e.ticket()));
      }
      q.release(queue);
      static_cast<void>(q.publish(900, {queue}));
    }
    EXPECT_THAT(reopen().found.damaged_queues, testing::Le(q.found.damaged_queues));
    opened.reset();
  }
}

TEST(RingDrains, RecoveryVoidsMoreSlotsThanOneDrainCovers) {
  queue_layout l;
  l.options.slots = 64;
  l.options.stock = 1;
  small_drains memory(l.size(), 512);
  {
    queues_on_media q(memory, l);
    ASSERT_EQ(q->link_now(0), link_status::ready);
    for (std::uint64_t id = 1; id <= 60; ++id) {
      message m;
      ASSERT_TRUE(q.stage(id, m));
      q.messages->add_references(m.ref.index, 1);
      const slot_ref ref(m.ref, 1);
      placement p;
      ASSERT_EQ(q->place_start(0, {&ref, 1}, p), place_status::placed);
    }
    memory.drain();
  }
  memory.most = 0;
  queues_on_media q(memory, l);
  EXPECT_EQ(q.found.voided, 60u);
  EXPECT_LE(memory.most, memory.drain_bytes_max());
  EXPECT_EQ(q.release(0), 60u);
}

// --- how often a burst flushes and drains -------------------------------------------------------

TEST(RingCounts, APublishDrainsTwiceWhateverTheNumberOfQueues) {
  for (std::uint32_t n : {1u, 8u, 100u}) {
    queue_layout l;
    l.queues = 100;
    l.blocks = 2000;
    l.options.stock = 100;
    auto m = memory_media(l.size(), durability_class::process);
    queues_on_media q(*m, l);
    for (std::uint32_t i = 0; i < n; ++i)
      ASSERT_EQ(q->link_now(i), link_status::ready);
    seam_counter seen;
    m->observe(&seen);
    message msg;
    ASSERT_TRUE(q.stage(1, msg));
    q.messages->add_references(msg.ref.index, n);
    const slot_ref ref(msg.ref, 1);
    std::vector<placement> placed(n);
    for (std::uint32_t i = 0; i < n; ++i)
      ASSERT_EQ(q->place_start(i, {&ref, 1}, placed[i]), place_status::placed);
    q.messages->flush_staged(msg);
    const int own = seen.flushes;
    for (const placement& p : placed)
      q->place_flush(p);
    EXPECT_EQ(seen.flushes - own, static_cast<int>(n)) << "one flush for each queue";
    m->drain();
    q.messages->publish(msg);
    q.messages->flush_published(msg);
    m->drain();
    for (const placement& p : placed)
      q->place_finish(p);
    EXPECT_EQ(seen.drains, 2) << n << " queues";
    m->observe(nullptr);
  }
}

TEST(RingCounts, ABurstOfValuesIsOneRunOfSlotsAndOneDrainWithItsRelease) {
  queue_layout l;
  l.values = true;
  l.options.slots = 128;
  l.options.stock = 1;
  auto m = memory_media(l.size(), durability_class::process);
  queues_on_media q(*m, l);
  ASSERT_EQ(q->link_now(0), link_status::ready);
  std::vector<std::uint64_t> values(32, 5);
  std::vector<leased> got(32);
  seam_counter seen;
  for (int burst = 0; burst < 2; ++burst) {
    if (burst == 1) m->observe(&seen);
    placement p;
    ASSERT_EQ(q->enqueue_burst(0, values, p), 32u);
    const bool moved = q->release_start(0);
    q->place_flush(p);
    if (moved) q->release_flush(0);
    m->drain();
    q->place_finish(p);
    if (moved) {
      EXPECT_EQ(q->release_finish(0), 32u);
    }
    ASSERT_EQ(q->lease(0, got), 32u);
    EXPECT_EQ(q.consumer().ack_through(0, got.back().ticket()), 32u);
  }
  m->observe(nullptr);
  EXPECT_EQ(seen.stores, 65) << "32 slots of two words, and the head";
  EXPECT_EQ(seen.flushes, 2) << "8 lines in one run, and the line of the head";
  EXPECT_EQ(seen.drains, 1);
}

TEST(RingCounts, AcksOutOfOrderFlushTheirSlotAndAcksInOrderFlushNothing) {
  queue_layout l;
  auto m = memory_media(l.size(), durability_class::process);
  queues_on_media q(*m, l);
  for (std::uint64_t id = 1; id <= 3; ++id)
    ASSERT_TRUE(q.publish(id, {0}));
  ASSERT_EQ(q.lease(0).size(), 3u);
  seam_counter seen;
  m->observe(&seen);
  ASSERT_EQ(q->ack(0, 1), ack_status::advanced);
  EXPECT_EQ(seen.stores, 0);
  ASSERT_EQ(q->ack(0, 3), ack_status::marked);
  q.consumer().flush_slot(0, 3);
  EXPECT_EQ(seen.stores, 1);
  EXPECT_EQ(seen.flushes, 1);
  ASSERT_TRUE(q->release_start(0));
  q->release_flush(0);
  m->drain();
  q->release_finish(0);
  EXPECT_EQ(seen.stores, 2);
  EXPECT_EQ(seen.flushes, 2);
  EXPECT_EQ(seen.drains, 1);
  m->observe(nullptr);
}

TEST(SlotTags, ARunOfTagsEqualsTheTagsOfItsTickets) {
  for (const std::uint32_t queue : {0u, 7u, 29u, 4'000'000'000u})
    for (const std::uint64_t first : {std::uint64_t{1}, std::uint64_t{1} << 40, ticket_max - 64})
      for (const slot_state state : {slot_state::queued, slot_state::pubrec}) {
        slot_tag_run run(queue, first, state);
        for (std::uint64_t ticket = first; ticket < first + 64; ++ticket, run.next())
          ASSERT_EQ(run.tag(), (slot_tag{ticket, state}.pack(queue))) << queue << " " << ticket;
      }
}

} // namespace
} // namespace chainring::test
