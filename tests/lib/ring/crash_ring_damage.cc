// SPDX-License-Identifier: BSD-3-Clause
/// The entry of a queue's ring names the blocks of a message in another queue. Recovery gives the
/// ring up for good, whatever the point at which recovery or the work after it crashes. A message
/// that is later acknowledged in those blocks is never lost to the damaged ring.
#include <gtest/gtest.h>

#include "crash_world.h"
#include "message/message_media.h"
#include "support/mutation.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

// Recovery looks at queues in the order of their numbers. The owner of the blocks stands before the
// damaged queue, and the queue that is used afterwards stands behind it.
constexpr std::uint32_t owner = 0, damaged = 1, later = 2;

void damage(const queues_on_media& q) {
  const message_ref first = slot_ref(q.slots(owner)[0].ref).message();
  const auto* table = reinterpret_cast<const message_descriptor*>(q.m.base() + q.l.table());
  queue_ring& ring = q.record(damaged).rings[0];
  const std::uint32_t at = message_word1::unpack(table[first.index].extent).first;
  q.m.store(&ring.chain, queue_ring::sealed(damaged, ring.base, at, q.ring_blocks(ring)).chain);
}

/// Consumes everything in the owner's queue, so that its blocks are used again, and publishes two
/// messages to the later queue.
void use_again(const queues_on_media& q, history& h, std::uint64_t id) {
  for (const leased& e : q.lease(owner)) {
    h.promise(consuming, q.id_of(e.message()));
    (void)q->ack(owner, e.ticket());
  }
  (void)q.release(owner);
  for (const std::uint64_t end = id + 2; id < end; ++id) {
    h.begin(id);
    if (q.publish(id, {later})) h.ack(id);
  }
}

scenario given_up() {
  return {
      .name = "ring: a damaged ring is given up",
      .setup =
          [](media& m, history&) {
            const queues_on_media q(m, crash_layout());
            CHAINRING_ASSERT(q.publish(1, {owner}) && q.publish(2, {damaged}));
            damage(q);
          },
      .run =
          [](media& m, history& h) {
            const queues_on_media q(m, crash_layout());
            use_again(q, h, 10);
            if (h.ids(history::acked).size() != 2) h.fail("a message was not published");
          },
      .recover_and_check = [](media& m, const history& h) -> verdict {
        const queues_on_media q(m, crash_layout());
        if (q.found.damaged_queues != 1)
          return std::to_string(q.found.damaged_queues) + " damaged queues were found, expected 1";
        const auto in_owner = q.ids(owner), in_later = q.ids(later);
        if (!h.has(consuming, 1) && in_owner != std::vector<std::uint64_t>{1})
          return "message 1 was lost";
        for (const std::uint64_t id : in_later)
          if (!h.begun(id))
            return "message " + std::to_string(id) + " was delivered although never published";
        for (const std::uint64_t id : h.ids(history::acked))
          if (!std::ranges::count(in_later, id))
            return "message " + std::to_string(id) + " was lost";
        return {};
      },
      .continue_after =
          [](media& m, history& h) {
            const queues_on_media q(m, crash_layout());
            use_again(q, h, 100);
          },
  };
}

// --- what will exist later ----------------------------------------------------------------------

// A slot names a message that does not exist, and a ring lies past the end of the blocks. Recovery
// gives both up. Then the tables grow, and a message that has that name, or lies there, is
// published to another queue.
constexpr std::uint32_t early_slot = 0, early_ring = 1, behind = 2;

queue_layout growing_tables(bool grown) {
  queue_layout l = crash_layout();
  l.descriptors = 1;
  l.blocks_later = 16;
  l.descriptors_later = 2;
  l.grown = grown;
  return l;
}

scenario named_early() {
  constexpr int growing = refused + 100;
  const auto layout = [](const history& h) { return growing_tables(h.has(growing, 0)); };
  scenario s;
  s.name = "ring: damage that names what will exist later";
  s.size = growing_tables(true).size();
  s.setup = [](media& m, history&) {
    const queues_on_media q(m, growing_tables(false));
    CHAINRING_ASSERT(q.publish(1, {early_slot, early_ring}));
    const slot_ref was(q.slots(early_slot)[0].ref);
    m.store(&q.slots(early_slot)[0].ref,
            slot_ref(message_ref{q.l.descriptors, 1}, was.delivery()).word);
    queue_ring& ring = q.record(early_ring).rings[0];
    m.store(&ring.chain,
            queue_ring::sealed(early_ring, ring.base, q.l.blocks, q.ring_blocks(ring)).chain);
  };
  s.run = [](media& m, history& h) {
    const queues_on_media q(m, growing_tables(false));
    if (q.found.damaged_slots != 1 || q.found.damaged_queues != 1)
      return h.fail("the damage was not found");
    h.promise(growing, 0);
    if (!q.grow_tables()) return h.fail("the tables did not grow");
    for (std::uint64_t id = 10; id < 13; ++id) {
      h.begin(id);
      if (!q.publish(id, {behind}, 1, 12 * q.l.block_size))
        return h.fail("a message was not published");
      h.ack(id);
    }
  };
  s.recover_and_check = [layout](media& m, const history& h) -> verdict {
    const queues_on_media q(m, layout(h));
    const auto in_behind = q.ids(behind);
    for (const std::uint64_t id : q.ids(early_slot))
      return "message " + std::to_string(id) + " was delivered from a slot that was given up";
    for (const std::uint64_t id : in_behind)
      if (!h.begun(id)) return "message " + std::to_string(id) + " was never published";
    for (const std::uint64_t id : h.ids(history::acked))
      if (!std::ranges::count(in_behind, id)) return "message " + std::to_string(id) + " was lost";
    return {};
  };
  return s;
}

/// A call that is missing shows in many states.
const explorer_options few_states{.states_max = 256, .second_lives = 2, .second_states_max = 16};

TEST(RingDamageCrash, WhatIsGivenUpStaysSoWhenWhatItNamesExists) {
  const explorer_report r = explore(named_early(), few_states);
  EXPECT_TRUE(r.ok()) << r.failure;
}

TEST(RingDamageCrash, ARingOverTheBlocksOfAMessageIsGivenUpForGood) {
  const explorer_report r = explore(given_up(), {});
  EXPECT_TRUE(r.ok()) << r.failure;
}

TEST(RingDamageCrash, SeededBugsAreFound) {
  for (const char* bug : {"ring.recover_damaged_kept", "ring.recover_damaged_unflushed"}) {
    const test::seeded on(bug);
    const explorer_report r = explore(given_up(), {});
    expect_found(bug, !r.ok(), given_up().name);
  }
}

// A lost or unneeded call that concerns damage. tests/prove judges this together with crash_ring.
TEST(RingDamageCrash, EveryCallOfTheRecoveryOfDamageIsTried) {
  mutation_options m;
  m.under = {"lib/ring/ring_recover"};
  explorer_options quiet = few_states;
  quiet.print = false;
  const mutation_report r = mutate({given_up(), named_early()}, quiet, m);
  std::printf("%s", r.text().c_str());
  EXPECT_EQ(r.baseline, "");
}

} // namespace
} // namespace chainring::test
