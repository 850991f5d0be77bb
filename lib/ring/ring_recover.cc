// SPDX-License-Identifier: BSD-3-Clause
// Recovery of queues: acts on the cases of recover_cases.h.
//
// The run-time state of a queue is rebuilt from its record and its slots alone. The head is the one
// that was stored. The ticket counter restarts at the largest ticket in the newest ring's window.
// An older ring ends at the base of the next one. rte_ring's positions are moved by its own calls.
// Tickets in a window whose slots were lost in the crash are holes. Each entry that will be
// delivered counts one reference. Every other slot in the window is done, durably, before anything
// is allocated, and counts no reference from then on.
//
// The ordering labels are described in ring.cc.
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
/// How many slots ahead the descriptors' lines are prefetched, and then what the descriptors name.
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
      .load(std::memory_order_relaxed); // [queue-recovery-alone]
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

/// Returns the largest ticket that was given, as the tags in the window show it.
std::uint64_t counter_of(std::uint32_t queue, const ring_slot* slots,
                         const ring_window& w) noexcept {
  for (std::uint64_t t = w.from + w.size(); t > w.from; --t) {
    const std::uint32_t i = w.index_of(t);
    const slot_facts f{queue, read(slots[i].tag), i, w, message_status::ok};
    if (f.as_tag().ticket == t && judge(f).in_window) return t;
  }
  return w.from;
}

/// Returns what the slot of ticket `t`, which is `taken`, finds in its other queue. The two slots
/// of such an entry are stored in the order of their tickets, and not in one line in every case.
slot_source source_of(std::uint32_t queue, const ring_slot* slots, const ring_window& w,
                      std::uint64_t t, const source_holds& holds) {
  if (t >= w.end) return slot_source::unnamed;
  const ring_slot& origin = slots[w.index_of(t + 1)];
  const std::uint64_t tag = read(origin.tag), word = read(origin.ref);
  const bool damaged = !slot_tag::well_formed(tag, queue);
  if (!damaged && tag != slot_tag{t + 1, slot_state::voided}.pack(queue))
    return slot_source::unnamed;
  // Where an origin is damaged, the message counts as moved: it may be delivered twice, and is not
  // lost.
  if (damaged || !slot_origin::well_formed(word, queue) || !holds) return slot_source::gone;
  const message_ref message = slot_ref(read(slots[w.index_of(t)].ref)).message();
  return holds(slot_origin::unpack(word), message) && !seeded_bug("ring.recover_moved_twice")
             ? slot_source::holding
             : slot_source::gone;
}

} // namespace

bool queue_table::holds(slot_origin at, message_ref message) const noexcept {
  state& s = *state_;
  if (at.queue >= count()) return false;
  const record_facts f = facts_of(s.record_of(at.queue), s.blocks, nullptr, at.queue);
  const record_case kind = judge(f).kind;
  if (kind != record_case::one_ring && kind != record_case::several_rings) return false;
  for (unsigned k = 0; k < f.commit().count; ++k) {
    const ring_window w = window_of(f, k);
    const std::uint64_t t =
        w.from + 1 +
        ((at.ticket_low - (w.from + 1)) & slot_origin::mask); // the first with these bits
    if (t - w.from > w.size() || t > w.end) continue;
    const ring_slot& slot = slots_of(s.blocks, f.ring(k))[w.index_of(t)];
    return read(slot.tag) == slot_tag{t, slot_state::queued}.pack(at.queue) &&
           slot_ref(read(slot.ref)).message() == message;
  }
  return false;
}

void queue_table::persist_as_read() noexcept {
  state& s = *state_;
  if (seeded_bug("ring.recover_unread")) return;
  // After the death of the process, what recovery reads need not be durable.
  // [read-before-repair] Without it recovery could free blocks behind a head that a power cut takes
  // back.
  for (unsigned i = 0; i < s.segment_count; ++i)
    s.medium.flush_read(s.segments[i].records,
                        bytes_for(s.segments[i].end - s.segments[i].first)); // [read-before-repair]
  for (std::uint32_t queue = 0; queue < count(); ++queue) {
    const record_facts f = facts_of(s.record_of(queue), s.blocks, nullptr, queue);
    const record_case kind = judge(f).kind;
    if (kind != record_case::one_ring && kind != record_case::several_rings) continue;
    for (unsigned k = 0; k < f.commit().count; ++k)
      s.medium.flush_read(slots_of(s.blocks, f.ring(k)),
                          window_of(f, k).size() * sizeof(ring_slot)); // [read-before-repair]
  }
}

queue_recovery queue_table::check(const source_holds& holds) const {
  state& t = *state_;
  queue_recovery found;
  for (std::uint32_t queue = 0; queue < count(); ++queue) {
    const record_facts f = facts_of(t.record_of(queue), t.blocks, nullptr, queue);
    const record_row& row = judge(f);
    if (row.kind == record_case::empty) continue;
    if (row.kind != record_case::one_ring && row.kind != record_case::several_rings) {
      ++found.damaged_queues;
      note(found, queue, row.text);
      continue;
    }
    ++found.queues;
    for (unsigned k = 0; k < f.commit().count; ++k) {
      const ring_window w = window_of(f, k);
      const ring_slot* slots = slots_of(t.blocks, f.ring(k));
      for (std::uint64_t i = 0; i < w.size(); ++i) {
        slot_facts s{queue, read(slots[i].tag), static_cast<std::uint32_t>(i), w,
                     message_status::ok};
        message_view view;
        if (s.as_tag().state == slot_state::taken)
          s.source = source_of(queue, slots, w, s.as_tag().ticket, holds);
        if (judge(s).kind == slot_case::deliverable && t.messages != nullptr)
          s.message = t.messages->view(slot_ref(read(slots[i].ref)).message(), view);
        const slot_row& slot = judge(s);
        found.entries += slot.kind == slot_case::deliverable;
        found.voided += slot.kind == slot_case::unpublished || slot.kind == slot_case::not_moved;
        if (slot.damage) note_slot(found, queue, s.as_tag().ticket, slot);
      }
    }
  }
  return found;
}

// Flushes a change that recovery made.
// [voids-before-allocation] Without it another publisher could publish a slot's message in the same
// generation, and the slot would deliver it.
void queue_table::state::persist_change(const void* from, std::size_t n) noexcept {
  const std::uint64_t most = medium.drain_bytes_max() / 2;
  if (changed + cacheline_size > most) {
    // [voids-in-pieces] Without it recovery could flush more than such a medium can drain at once.
    medium.drain(); // [voids-in-pieces]
    changed = 0;
  }
  medium.flush(from, n); // [voids-before-allocation]
  changed += cacheline_size;
}

// Judges each slot of a ring: it is served, it is done, or it is made void.
void queue_table::state::recover_slots(std::uint32_t queue, ring_state& r, std::uint64_t tail,
                                       std::uint64_t end, const source_holds& holds,
                                       queue_recovery& found) {
  const std::uint64_t from = r.head.load(std::memory_order_relaxed); // [queue-recovery-alone]
  const ring_window w{r.base, from, end, static_cast<unsigned>(std::countr_zero(r.size()))};
  auto change = [&](ring_slot& s, std::uint64_t tag) {
    if (seeded_bug("ring.recover_unvoided")) return;
    medium.store(&s.tag, tag); // [voids-before-allocation]
    persist_change(&s, sizeof(ring_slot));
  };
  const auto index_at = [&](std::uint64_t t) {
    return slot_ref(read(r.slots()[r.index_of(t)].ref)).message().index;
  };
  for (std::uint64_t t = from + 1; t <= std::min(from + prefetch_far, tail); ++t)
    if (messages != nullptr) messages->prefetch(index_at(t));
  for (std::uint64_t t = from + 1; t <= from + r.size(); ++t) {
    ring_slot& s = r.slots()[r.index_of(t)];
    if (messages != nullptr && t + prefetch_near <= tail) {
      messages->prefetch_blocks(index_at(t + prefetch_near));
      if (t + prefetch_far <= tail) messages->prefetch(index_at(t + prefetch_far));
    }
    if (t > tail && read(s.tag) == 0) continue; // the slot was never used
    slot_facts f{queue, read(s.tag), r.index_of(t), w, message_status::ok};
    const slot_ref ref(read(s.ref));
    const bool usual = f.tag == slot_tag{t, slot_state::queued}.pack(queue);
    if (f.as_tag().state == slot_state::taken) f.source = source_of(queue, r.slots(), w, t, holds);
    if (messages != nullptr && t <= tail &&
        (usual || judge(f).kind == slot_case::deliverable)) // in the window; its message is unknown
      f.message = messages->recover_reference(ref.message());
    if (usual && t <= tail && f.message == message_status::ok) { // the table of cases says the same
      ++found.entries;
      if (options.count_bytes)
        bytes[queue].fetch_add(messages->size_of(ref.message().index),
                               std::memory_order_relaxed); // [queue-recovery-alone]
      continue;                                            // the watermark makes it ready
    }
    const slot_row& row = judge(f);
    if (row.damage) {
      note_slot(found, queue, t, row);
      change(s, row.in_window && t <= tail ? slot_tag{t, slot_state::voided}.pack(queue)
                                           : 0); // [voids-before-allocation]
    } else if (row.kind == slot_case::unpublished || row.kind == slot_case::not_moved) {
      ++found.voided;
      change(s, slot_tag{t, slot_state::voided}.pack(queue)); // [voids-before-allocation]
    }
    if (t > tail) continue;
    const bool serve = row.kind == slot_case::deliverable;
    found.entries += serve;
    if (serve && options.count_bytes)
      bytes[queue].fetch_add(messages->size_of(ref.message().index),
                             std::memory_order_relaxed); // [queue-recovery-alone]
    if (!serve)
      r.marks[r.index_of(t)].store(mark_of(t, mark_state::hole),
                                   std::memory_order_relaxed); // [queue-recovery-alone]
  }
  r.ready.store(tail, std::memory_order_relaxed); // [queue-recovery-alone]
}

void queue_table::state::recover_queue(std::uint32_t queue, const incarnation_of& expected,
                                       const source_holds& holds, queue_recovery& found) {
  queue_state& q = queue_at(queue);
  queue_record& record = record_of(queue);
  const record_facts f = facts_of(record, blocks, &expected, queue);
  const record_row& row = judge(f);
  auto damaged = [&](const std::string& text) {
    ++found.damaged_queues;
    note(found, queue, text);
    q.damaged.store(true, std::memory_order_relaxed); // [queue-recovery-alone]
  };
  // A damaged entry may name any blocks, for example those of another ring or past the end of the
  // region. What makes it invalid at this open may be gone at the next. It would then take blocks
  // from a message that was acknowledged since. Therefore its chain is set to 0 now.
  auto ring_damaged = [&](const std::string& text) {
    std::uint64_t& chain_word = record.rings[f.commit().first].chain;
    if (read(chain_word) != 0 && !seeded_bug("ring.recover_damaged_kept")) {
      medium.store(&chain_word, 0); // [voids-before-allocation]
      if (!seeded_bug("ring.recover_damaged_unflushed")) persist_change(&record, sizeof record);
    }
    damaged(text);
  };
  q.resume_after = queue_head::well_formed(f.record.head, queue) ? f.head() : 0;
  const queue_mode mode = f.record.commit == 0 ? options.mode : f.commit().mode;
  q.mode.store(mode, std::memory_order_relaxed); // [queue-recovery-alone]
  switch (row.kind) {
  case record_case::empty:
    return;
  case record_case::other_incarnation: {
    ++found.restarted;
    std::uint64_t word = f.record.commit;
    const queue_commit next{*f.expected, 0, 0, mode};
    // The word is not flushed: until a ring is linked, which flushes this line, every open finds
    // the same case.
    const bool stored = medium.compare_exchange(
        &record.commit, word, next.pack(queue)); // [commit-exchanged] [entry-before-commit]
    CHAINRING_ASSERT(stored);
    return;
  }
  case record_case::one_ring:
  case record_case::several_rings:
    break;
  case record_case::head_damaged:
  case record_case::commit_damaged:
    q.mode.store(options.mode, std::memory_order_relaxed); // [queue-recovery-alone]
    return damaged(row.text);
  case record_case::ring_damaged:
    return ring_damaged(row.text);
  }

  const unsigned count = f.commit().count;
  for (unsigned k = 0; k < count; ++k)
    if (auto live = blocks.mark_required(chain_of(blocks, f.ring(k))); !live) {
      while (k-- > 0)
        blocks.unmark_required(chain_of(blocks, f.ring(k)));
      return ring_damaged("one of its rings cannot be used: " + live.error().message);
    }
  const std::uint64_t owner = owner_of(queue, f.commit().incarnation);
  ring_state* older = nullptr;
  for (unsigned k = 0; k < count; ++k) {
    const bool newest = k + 1 == count;
    const ring_window w = window_of(f, k);
    const std::uint64_t from = std::min(w.from, w.end);
    // rte_ring holds one entry fewer than it has slots, so the placed slots never filled the ring.
    std::uint64_t tail =
        std::min(counter_of(queue, slots_of(blocks, f.ring(k)), w), from + w.size() - 1);
    std::uint64_t counter = tail;
    // Tickets that an older ring lacks up to the base of the next one were placed and lost:
    // holes.
    if (!newest && !seeded_bug("ring.recover_short")) counter = tail = w.end;
    if (newest && seeded_bug("ring.counter_from_head")) counter = from;
    std::uint32_t capacity = capacity_of(w.log2_slots);
    if (counter - from > capacity) capacity = static_cast<std::uint32_t>(w.size() - 1);
    ring_state& r = rings[rings_used];
    ring_arrays arrays;
    if (!take_arrays(r, w.log2_slots, arrays)) throw std::bad_alloc();
    if (arrays.times != nullptr)
      arrays.times[0].deadline.store(no_deadline,
                                     std::memory_order_relaxed); // [queue-recovery-alone]
    ++rings_used;
    ++rings_live;
    const chain at = chain_of(blocks, f.ring(k));
    blocks_live += at.blocks;
    make_ring(r, medium, blocks, at, w.log2_slots, capacity, arrays);
    set_base(r, queue, w.base, from, mode);
    if (const auto depth = static_cast<std::uint32_t>(counter - from); depth != 0) {
      rte_ring_zc_data unused;
      const unsigned got =
          rte_ring_enqueue_zc_bulk_elem_start(r.ring, sizeof(ring_slot), depth, &unused, nullptr);
      CHAINRING_ASSERT(got == depth);
      rte_ring_enqueue_zc_elem_finish(r.ring, depth);
    }
    r.next.store(counter, std::memory_order_relaxed); // [queue-recovery-alone]
    r.delivered = counter;
    r.marked.store(counter, std::memory_order_relaxed); // [queue-recovery-alone]
    r.high_water.store(static_cast<std::uint32_t>(counter - from),
                       std::memory_order_relaxed); // [queue-recovery-alone]
    if (older != nullptr) {                        // the depth of all rings so far
      const ring_state* const first =
          q.first.load(std::memory_order_relaxed); // [queue-recovery-alone]
      const std::uint64_t head =
          first->head.load(std::memory_order_relaxed); // [queue-recovery-alone]
      r.peak.store(static_cast<std::uint32_t>(counter - head),
                   std::memory_order_relaxed); // [queue-recovery-alone]
    }
    r.prepare_at = capacity < capacity_max ? capacity - capacity / 4 : 0;
    recover_slots(queue, r, tail, w.end, holds, found);
    if (newest) r.owner.store(owner, std::memory_order_relaxed); // [queue-recovery-alone]
    if (older == nullptr)
      q.first.store(&r, std::memory_order_release); // [ring-published]
    else
      older->successor.store(&r, std::memory_order_release); // [successor-published]
    older = &r;
    q.ring.store(&r, std::memory_order_release); // [ring-published]
  }
  ++found.queues;
}

result<queue_recovery> queue_table::recover(const incarnation_of& expected,
                                            const source_holds& holds) {
  state& s = *state_;
  std::uint64_t rings = 0;
  for (std::uint32_t queue = 0; queue < count(); ++queue) {
    const record_facts f = facts_of(s.record_of(queue), s.blocks, &expected, queue);
    const record_case kind = judge(f).kind;
    if (kind == record_case::one_ring || kind == record_case::several_rings)
      rings += f.commit().count;
  }
  if (auto made = s.make_pool(rings); !made) return made.error();
  // The count begins at its limit, because other components flushed an unknown number of bytes
  // before this and left them to the caller's drain.
  s.changed = s.medium.drain_bytes_max() / 2;
  queue_recovery found;
  try {
    for (std::uint32_t queue = 0; queue < count(); ++queue)
      s.recover_queue(queue, expected, holds, found);
  } catch (const std::bad_alloc&) {
    return error{errc::no_space, "queue table: not enough memory for the slots of its rings"};
  }
  return found;
}

result<void> queue_table::finish_recovery() {
  refill(state_->options.stock);
  return {};
}

recovery_part queue_table::part(std::string name, incarnation_of expected, queue_recovery* found,
                                source_holds holds) {
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
              [this, name, fail, expected = std::move(expected), holds = std::move(holds),
               found](recovery_context& c) {
                auto recovered =
                    c.checking() ? result<queue_recovery>(check(holds)) : recover(expected, holds);
                if (!recovered) return fail(c, recovered.error());
                for (const std::string& note : recovered->notes)
                  c.report({name, note});
                c.advance(count());
                if (found != nullptr) *found = std::move(*recovered);
              },
          .rebuild =
              [this, fail](recovery_context& c) {
                if (auto served = finish_recovery(); !served) fail(c, served.error());
                c.advance(count());
              }};
}

} // namespace chainring
