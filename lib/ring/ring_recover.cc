// SPDX-License-Identifier: BSD-3-Clause
// Recovery: the cases of recover_cases.h, acted upon.
//
// The queue as it runs is rebuilt from its record and its slots alone: the head is where it was,
// the ticket counter restarts at the largest ticket in the newest ring's window, an older ring ends
// at the base of the next, rte_ring's positions follow through its own calls, and tickets between
// that did not land are holes. What will be delivered counts a reference; everything else in the
// window is over, durably, before anything is allocated, and counts none from then on.
//
// Edges and crash windows: see ring.cc. Here [P11], [P12], [P13], [P15], [P16], [A1], [A4], [A5],
// [A7], [A8], [A9], [R1], [K1], [C1], [E3], [M1], [N1].
#include <algorithm>
#include <new>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/recover_cases.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

namespace {

constexpr std::size_t notes_max = 100;
/// Slots ahead: their descriptors' lines, and then what depends on what those say.
constexpr std::uint32_t prefetch_far = 24, prefetch_near = 12;

void note(queue_recovery& found, std::uint32_t queue, const std::string& text) {
  if (found.notes.size() < notes_max)
    found.notes.push_back("queue " + std::to_string(queue) + ": " + text);
}

void note_slot(queue_recovery& found, std::uint32_t queue, std::uint64_t ticket,
               const slot_row& row) {
  ++found.damaged_slots;
  note(found, queue, "the slot of ticket " + std::to_string(ticket) + " " + row.text);
}

std::uint64_t read(const std::uint64_t& word) noexcept {
  return std::atomic_ref(const_cast<std::uint64_t&>(word))
      .load(std::memory_order_relaxed); // [A7] nobody else is at work yet
}

record_facts facts_of(const queue_record& r, const block_store& blocks,
                      const incarnation_of* expected, std::uint32_t queue) {
  record_facts f;
  f.queue = queue;
  f.record.head = read(r.head);
  f.record.commit = read(r.commit);
  for (unsigned i = 0; i < queue_rings_max; ++i)
    f.record.rings[i] = {read(r.rings[i].base), read(r.rings[i].chain)};
  f.blocks = &blocks;
  if (expected != nullptr && *expected) f.expected = (*expected)(queue);
  return f;
}

ring_slot* slots_of(const block_store& blocks, const queue_ring& r) noexcept {
  return reinterpret_cast<ring_slot*>(blocks.address(chain_of(blocks, r)) + ring_header_size);
}

/// The largest ticket given, as the window's tags show.
std::uint64_t counter_of(std::uint32_t queue, const ring_slot* slots,
                         const ring_window& w) noexcept {
  for (std::uint64_t t = w.from + w.size(); t > w.from; --t) {
    const std::uint32_t i = w.index_of(t);
    const slot_facts f{queue, read(slots[i].tag), i, w, message_status::ok};
    if (f.as_tag().ticket == t && judge(f).in_window) return t;
  }
  return w.from;
}

} // namespace

void queue_table::persist_as_read() noexcept {
  state& s = *state_;
  if (seeded_bug("ring.recover_unread")) return;
  // [P11] before [P12]: after process death what is read need not be durable.
  //      Without it a head that a power cut takes back has freed blocks.
  for (unsigned i = 0; i < s.segment_count; ++i)
    s.medium.flush_read(s.segments[i].records,
                        bytes_for(s.segments[i].end - s.segments[i].first)); // [P11]
  for (std::uint32_t queue = 0; queue < count(); ++queue) {
    const record_facts f = facts_of(s.record_of(queue), s.blocks, nullptr, queue);
    const record_case is = judge(f).is;
    if (is != record_case::one_ring && is != record_case::several_rings) continue;
    for (unsigned k = 0; k < f.commit().count; ++k)
      s.medium.flush_read(slots_of(s.blocks, f.ring(k)),
                          window_of(f, k).size() * sizeof(ring_slot)); // [P11] before [P12]
  }
}

queue_recovery queue_table::check() const {
  state& in = *state_;
  queue_recovery found;
  for (std::uint32_t queue = 0; queue < count(); ++queue) {
    const record_facts f = facts_of(in.record_of(queue), in.blocks, nullptr, queue);
    const record_row& row = judge(f);
    if (row.is == record_case::empty) continue;
    if (row.is != record_case::one_ring && row.is != record_case::several_rings) {
      ++found.damaged_queues;
      note(found, queue, row.text);
      continue;
    }
    ++found.queues;
    for (unsigned k = 0; k < f.commit().count; ++k) {
      const ring_window w = window_of(f, k);
      const ring_slot* slots = slots_of(in.blocks, f.ring(k));
      for (std::uint64_t i = 0; i < w.size(); ++i) {
        slot_facts s{queue, read(slots[i].tag), static_cast<std::uint32_t>(i), w,
                     message_status::ok};
        message_view view;
        if (judge(s).is == slot_case::deliverable && in.messages != nullptr)
          s.message = in.messages->view(slot_ref(read(slots[i].ref)).message(), view);
        const slot_row& is = judge(s);
        found.entries += is.is == slot_case::deliverable;
        found.voided += is.is == slot_case::unpublished;
        if (is.damage) note_slot(found, queue, s.as_tag().ticket, is);
      }
    }
  }
  return found;
}

// [P12] before [P13]: what is void or unlinked is so durably before anything is allocated.
//      Without it the slot's message is published by somebody else in the same generation.
void queue_table::state::persist_change(const void* from, std::size_t n) noexcept {
  const std::uint64_t most = medium.drain_bytes_max() / 2;
  if (changed + cacheline_size > most) {
    medium.drain(); // [P12, in pieces] before [P13]
    changed = 0;
  }
  medium.flush(from, n); // [P12] before [P13]
  changed += cacheline_size;
}

// Slot by slot: served, over, or made void.
void queue_table::state::recover_slots(std::uint32_t queue, ring_state& r, std::uint64_t tail,
                                       std::uint64_t end, queue_recovery& found) {
  const std::uint64_t from = r.head.load(std::memory_order_relaxed); // [K1] nobody else yet
  const ring_window w{r.base, from, end, static_cast<unsigned>(std::countr_zero(r.size()))};
  auto change = [&](ring_slot& s, std::uint64_t tag) {
    if (seeded_bug("ring.recover_unvoided")) return;
    medium.store(&s.tag, tag); // [P12] before its flush
    persist_change(&s, sizeof(ring_slot));
  };
  const auto index_at = [&](std::uint64_t t) {
    return slot_ref(read(r.slots[r.index_of(t)].ref)).message().index;
  };
  for (std::uint64_t t = from + 1; t <= std::min(from + prefetch_far, tail); ++t)
    if (messages != nullptr) messages->prefetch(index_at(t));
  for (std::uint64_t t = from + 1; t <= from + r.size(); ++t) {
    ring_slot& s = r.slots[r.index_of(t)];
    if (messages != nullptr && t + prefetch_near <= tail) {
      messages->prefetch_blocks(index_at(t + prefetch_near));
      if (t + prefetch_far <= tail) messages->prefetch(index_at(t + prefetch_far));
    }
    if (t > tail && read(s.tag) == 0) continue; // never used: nothing to serve or to say
    slot_facts f{queue, read(s.tag), r.index_of(t), w, message_status::ok};
    const slot_ref ref(read(s.ref));
    const bool usual = f.tag == slot_tag{t, slot_state::queued}.pack(queue);
    if (messages != nullptr && t <= tail &&
        (usual || judge(f).is == slot_case::deliverable)) // in the window, its message unasked
      f.message = messages->recover_reference(ref.message());
    if (usual && t <= tail && f.message == message_status::ok) { // as the table would say
      ++found.entries;
      r.marks[f.index].store(mark_of(t, mark_state::ready),
                             std::memory_order_relaxed); // [R1] nobody else yet
      continue;
    }
    const slot_row& row = judge(f);
    if (row.damage) {
      note_slot(found, queue, t, row);
      change(s,
             row.in_window && t <= tail ? slot_tag{t, slot_state::voided}.pack(queue) : 0); // [P12]
    } else if (row.is == slot_case::unpublished) {
      ++found.voided;
      change(s, slot_tag{t, slot_state::voided}.pack(queue)); // [P12]
    }
    if (t > tail) continue;
    const bool serve = row.is == slot_case::deliverable;
    found.entries += serve;
    r.marks[r.index_of(t)].store(mark_of(t, serve ? mark_state::ready : mark_state::hole),
                                 std::memory_order_relaxed); // [R1] nobody else yet
  }
}

void queue_table::state::recover_queue(std::uint32_t queue, const incarnation_of& expected,
                                       queue_recovery& found) {
  queue_state& q = queue_at(queue);
  queue_record& record = record_of(queue);
  const record_facts f = facts_of(record, blocks, &expected, queue);
  const record_row& row = judge(f);
  auto damaged = [&](const std::string& text) {
    ++found.damaged_queues;
    note(found, queue, text);
    q.damaged.store(true, std::memory_order_relaxed); // [A4] nobody else yet
  };
  // What stands in its way today may be gone tomorrow: a ring over somebody's blocks, or past the
  // region's end, would take them from a message that was acknowledged since. It has no place
  // from now on.
  auto ring_damaged = [&](const std::string& text) {
    std::uint64_t& place = record.rings[f.commit().first].chain;
    if (read(place) != 0 && !seeded_bug("ring.recover_damaged_kept")) {
      medium.store(&place, 0); // [P12] before its flush
      if (!seeded_bug("ring.recover_damaged_unflushed")) persist_change(&record, sizeof record);
    }
    damaged(text);
  };
  q.rest_ticket = queue_head::well_formed(f.record.head, queue) ? f.head() : 0;
  q.mode.store(f.commit().mode, std::memory_order_relaxed); // [M1] nobody else yet
  switch (row.is) {
  case record_case::empty:
    return;
  case record_case::other_incarnation: {
    ++found.restarted;
    std::uint64_t word = f.record.commit;
    const queue_commit next{*f.expected, 0, 0, f.commit().mode};
    // Not flushed: until a ring is linked, which flushes this line, every open finds the same.
    const bool stored =
        medium.compare_exchange(&record.commit, word, next.pack(queue)); // [A8] [P15]
    CHAINRING_ASSERT(stored);
    return;
  }
  case record_case::one_ring:
  case record_case::several_rings:
    break;
  case record_case::head_damaged:
  case record_case::commit_damaged:
    q.mode.store(queue_mode::mpsc, std::memory_order_relaxed); // [M1] nobody else yet
    return damaged(row.text);
  case record_case::ring_damaged:
    return ring_damaged(row.text);
  }

  const unsigned count = f.commit().count;
  for (unsigned k = 0; k < count; ++k)
    if (auto live = blocks.mark_required(chain_of(blocks, f.ring(k))); !live) {
      while (k-- > 0)
        blocks.unmark_required(chain_of(blocks, f.ring(k)));
      return ring_damaged("a ring of it: " + live.error().message);
    }
  const std::uint64_t owner = owner_of(queue, f.commit().incarnation);
  ring_state* older = nullptr;
  for (unsigned k = 0; k < count; ++k) {
    const bool newest = k + 1 == count;
    const ring_window w = window_of(f, k);
    const std::uint64_t from = std::min(w.from, w.end);
    // rte_ring holds one fewer than it has slots; what was placed never filled it.
    std::uint64_t tail =
        std::min(counter_of(queue, slots_of(blocks, f.ring(k)), w), from + w.size() - 1);
    std::uint64_t counter = tail;
    // What an older ring lacks up to the next one's base was placed and lost: holes.
    if (!newest && !seeded_bug("ring.recover_short")) counter = tail = w.end;
    if (newest && seeded_bug("ring.counter_from_head")) counter = from;
    std::uint32_t capacity = capacity_of(w.log2_slots);
    if (counter - from > capacity) capacity = static_cast<std::uint32_t>(w.size() - 1);
    ring_state& r = rings[rings_used];
    ring_arrays arrays;
    if (!take_arrays(r, w.log2_slots, arrays)) throw std::bad_alloc();
    if (arrays.times != nullptr)
      arrays.times[0].until.store(no_deadline, std::memory_order_relaxed); // [E3] nobody else yet
    ++rings_used;
    ++rings_live;
    const chain at = chain_of(blocks, f.ring(k));
    blocks_live += at.blocks;
    make_ring(r, medium, blocks, at, w.log2_slots, capacity, arrays);
    set_base(r, queue, w.base, from, f.commit().mode);
    if (const auto depth = static_cast<std::uint32_t>(counter - from); depth != 0) {
      rte_ring_zc_data unused;
      const unsigned got =
          rte_ring_enqueue_zc_bulk_elem_start(r.ring, sizeof(ring_slot), depth, &unused, nullptr);
      CHAINRING_ASSERT(got == depth);
      rte_ring_enqueue_zc_elem_finish(r.ring, depth);
    }
    r.next.store(counter, std::memory_order_relaxed); // [N1] nobody else yet
    r.delivered = counter;
    r.high_water.store(static_cast<std::uint32_t>(counter - from),
                       std::memory_order_relaxed); // [N1] nobody else yet
    r.prepare_at = capacity < capacity_max ? capacity - capacity / 4 : 0;
    recover_slots(queue, r, tail, w.end, found);
    if (newest) r.owner.store(owner, std::memory_order_relaxed); // [A5] nobody else yet
    if (older == nullptr)
      q.first.store(&r, std::memory_order_release); // [A1] pairs with [A2]
    else
      older->successor.store(&r, std::memory_order_release); // [A9] pairs with [A10]
    older = &r;
    q.ring.store(&r, std::memory_order_release); // [A1] pairs with [A2]
  }
  ++found.queues;
}

result<queue_recovery> queue_table::recover(const incarnation_of& expected) {
  state& s = *state_;
  std::uint64_t rings = 0;
  for (std::uint32_t queue = 0; queue < count(); ++queue) {
    const record_facts f = facts_of(s.record_of(queue), s.blocks, &expected, queue);
    const record_case is = judge(f).is;
    if (is == record_case::one_ring || is == record_case::several_rings) rings += f.commit().count;
  }
  if (auto made = s.make_pool(rings); !made) return made.error();
  // Begun full: what others flushed before this, and left to the caller's drain, is not known here.
  s.changed = s.medium.drain_bytes_max() / 2;
  queue_recovery found;
  try {
    for (std::uint32_t queue = 0; queue < count(); ++queue)
      s.recover_queue(queue, expected, found);
  } catch (const std::bad_alloc&) {
    return error{errc::no_space, "queue table: no memory for what the slots of its rings need"};
  }
  return found;
}

result<void> queue_table::finish_recovery() {
  refill(state_->options.stock);
  return {};
}

recovery_part queue_table::part(std::string name, incarnation_of expected, queue_recovery* found) {
  const auto fail = [name](recovery_context& c, const error& e) {
    c.report({name, e.message, severity::fatal});
  };
  return {.name = name,
          .items = count(),
          .persist_as_read =
              [this](recovery_context& c) {
                persist_as_read();
                c.advance(count());
              },
          .repair =
              [this, name, fail, expected = std::move(expected), found](recovery_context& c) {
                auto is = c.checking() ? result<queue_recovery>(check()) : recover(expected);
                if (!is) return fail(c, is.error());
                for (const std::string& note : is->notes)
                  c.report({name, note});
                c.advance(count());
                if (found != nullptr) *found = std::move(*is);
              },
          .rebuild =
              [this, fail](recovery_context& c) {
                if (auto served = finish_recovery(); !served) fail(c, served.error());
                c.advance(count());
              }};
}

} // namespace chainring
