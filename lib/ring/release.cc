// SPDX-License-Identifier: BSD-3-Clause
// The head: what is acknowledged is released, and a ring that is through leaves the queue with it:
// head and commit word lie in one line, so that a release with an unlink costs what a release does.
//
// Edges and crash windows: see ring.cc. Here [A1], [A2], [A7], [A8], [A10], [R2], [R3 -> R4], [C1],
// [C2], [K1], [K2], [K3], [L1], [L2], [D2], [P4], [P5].
#include <algorithm>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

namespace {

/// What nobody can lease needs no lease: the cursor goes over the voids and holes it stands before.
/// By the releaser: no slot is freed meanwhile.
void pass_over(ring_state& r) noexcept {
  std::uint64_t from = r.cursor.load(std::memory_order_acquire); // [C2] pairs with [C1]
  std::uint64_t cursor = from;
  do {
    const std::uint64_t tail = r.tail(from);
    for (cursor = from; cursor < tail; ++cursor)
      if (!is_over(state_of(r.marks[r.index_of(cursor + 1)].load(std::memory_order_acquire),
                            cursor + 1))) // [R2] as in lease()
        break;
    if (cursor == from) return;
    hook_point("ring.release.passing");
    if (r.mode == queue_mode::mpsc || seeded_bug("ring.pass_race")) {
      r.cursor.store(cursor, std::memory_order_release); // [C1] one consumer
      return;
    }
    // [C1] acq_rel: where it has moved, another consumer has leased from there. Without it the
    //      cursor goes back, and those entries are leased twice.
  } while (!r.cursor.compare_exchange_weak(from, cursor, std::memory_order_acq_rel,
                                           std::memory_order_acquire)); // [C1] pairs with [C2]
}

} // namespace

bool queue_table::release_start(std::uint32_t queue) noexcept {
  state& s = *state_;
  const inside here = s.consuming(queue);
  ring_state* const r = s.first_of(queue);
  if (r == nullptr) return false;
  if (r->mode == queue_mode::mpsc) {
    if (r->releasing.load(std::memory_order_relaxed)) return false; // [L1] one consumer
    r->releasing.store(true, std::memory_order_relaxed);            // [L1] one consumer
  } else if (!seeded_bug("ring.two_releasers")) {
    // [L1] acquire: pairs with the release [L2]. From computing the prefix to finish one thread.
    //      Without it two compute one prefix, and the second frees slots that are used again.
    //      A ring that has left its queue keeps the lock: who comes late is told false.
    if (r->releasing.load(std::memory_order_relaxed) ||         // [L1] the exchange acquires
        r->releasing.exchange(true, std::memory_order_acquire)) // [L1] pairs with [L2]
      return false;
  }
  // The prefix, and the rings it goes through to their ends.
  std::uint64_t acked = 0;
  std::uint8_t through = 0;
  for (ring_state* x = r;;) {
    pass_over(*x);
    advance(*x);
    acked = x->acked.load(std::memory_order_acquire); // [K2] pairs with [K1]
    ring_state* const next = x->following();
    if (next == nullptr || acked != next->base) break;
    ++through;
    x = next;
  }
  if (seeded_bug("ring.unlink_leased") && through == 0 && r->following() != nullptr &&
      r->cursor.load(std::memory_order_relaxed) == r->following()->base) // [C2]
    through = 1;
  if (acked == r->head.load(std::memory_order_relaxed) && through == 0) { // [L1] orders it
    r->releasing.store(false, std::memory_order_release);                 // [L2] pairs with [L1]
    return false;
  }
  r->release_to = acked;
  r->unlinked = through;
  queue_record& record = s.record_of(queue);
  s.medium.store(&record.head, queue_head{acked}.pack(queue)); // [P4] before [P5]
  if (through != 0) {
    // [A7] only an append changes the word meanwhile: it adds to the end.
    std::uint64_t word = std::atomic_ref(record.commit).load(std::memory_order_acquire); // [A7]
    queue_commit now;
    do {
      now = queue_commit::unpack(word);
      now.first = static_cast<std::uint8_t>((now.first + through) % queue_rings_max);
      now.count = static_cast<std::uint8_t>(now.count - through);
    } while (
        !s.medium.compare_exchange(&record.commit, word, now.pack(queue))); // [A8] [P4] before [P5]
    if (seeded_bug("ring.unlink_undrained")) release_finish(queue);
  }
  return true;
}

void queue_table::release_flush(std::uint32_t queue) noexcept {
  // [P4] before [P5]: the head, and the commit word in its line. Without it the slots' old entries
  //      come back over new blocks, or a ring over what was put in its place.
  state_->medium.flush(&state_->record_of(queue).head, sizeof(std::uint64_t)); // [P4] before [P5]
}

void queue_table::state::drop_references(const ring_state& r, std::uint64_t after,
                                         std::uint64_t through) noexcept {
  if (messages == nullptr) return;
  for (std::uint64_t t = after + 1; t <= through; ++t) {
    const std::uint32_t i = r.index_of(t);
    if (state_of(r.marks[i].load(std::memory_order_relaxed), t) == mark_state::hole) // [R2] over
      continue;
    // Of another generation, or of nobody's: the medium changed under us, and the message that was
    // named stays until the next open.
    const message_ref ref = slot_ref(word_of(r.slots[i].ref)).message();
    message_view unread;
    const bool named = messages->published(ref) || // or void
                       messages->view(ref, unread) == message_status::not_published;
    if (named && messages->references(ref.index) != 0) messages->drop_reference(ref.index);
  }
}

std::uint32_t queue_table::release_finish(std::uint32_t queue) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  const inside here = s.consuming(queue);
  ring_state* const first = s.first_of(queue);
  CHAINRING_ASSERT(first != nullptr);
  const std::uint64_t to = first->release_to;
  const unsigned unlinked = first->unlinked;
  std::uint32_t n = 0;
  // [P4 < P5] the caller has drained the head: references first, for they are read from the slots.
  ring_state* r = first;
  for (unsigned k = 0;; ++k) {
    const std::uint64_t end = k < unlinked ? r->following()->base : to;
    const std::uint64_t head = r->head.load(std::memory_order_relaxed); // [L1] orders it
    if (end > head) {
      s.drop_references(*r, head, end);
      dequeue(*r, end);
      r->head.store(end, std::memory_order_release); // [K1] pairs with [K2]
      n += static_cast<std::uint32_t>(end - head);
    }
    if (k == unlinked) break;
    r = r->following();
  }
  if (unlinked == 0) {
    first->releasing.store(false, std::memory_order_release); // [L2] pairs with [L1]
    return n;
  }
  // The newest ring is never among them: [A9] came behind the producers' pointer.
  q.first.store(r, std::memory_order_release); // [A1] pairs with [A2]
  for (ring_state* x = first; x != r;) {
    ring_state* const next = x->following();
    s.retire(*x);
    x = next;
  }
  return n;
}

// --- dropping -----------------------------------------------------------------------------------

std::uint32_t queue_table::drop_requested(std::uint32_t queue) const noexcept {
  return state_->queue_at(queue).drop_requests.load(
      std::memory_order_relaxed); // [D2] pairs with [D1]
}

// The oldest entries end as if acknowledged in order: the head says so, no slot is touched. What a
// client may hold half of (QoS 2) ends only by its own doing.
std::uint32_t queue_table::drop_oldest(std::uint32_t queue, std::uint32_t n) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  q.drop_requests.store(0, std::memory_order_relaxed); // [D2] pairs with [D1]
  const inside here = s.consuming(queue);
  std::uint32_t dropped = 0;
  bool stopped = false;
  for (ring_state* r = s.first_of(queue); r != nullptr && dropped < n && !stopped;) {
    dropped += s.drop_from(*r, n - dropped, stopped);
    ring_state* const next = r->following();
    if (next == nullptr || r->acked.load(std::memory_order_acquire) != next->base) break; // [K2]
    r = next;
  }
  tally(q.dropped_oldest, dropped);
  tally(s.dropped_oldest, std::uint64_t{dropped});
  return dropped;
}

std::uint32_t queue_table::state::drop_from(ring_state& r, std::uint32_t n,
                                            bool& stopped) noexcept {
  advance(r);
  std::uint64_t ticket = r.acked.load(std::memory_order_acquire) + 1; // [K2] pairs with [K1]
  std::uint64_t cursor = r.cursor.load(std::memory_order_acquire);    // [C2] pairs with [C1]
  const std::uint64_t tail = r.tail(ticket - 1);
  std::uint32_t dropped = 0;
  for (; ticket <= tail && dropped < n; ++ticket) {
    std::atomic<std::uint32_t>& mark = r.marks[r.index_of(ticket)];
    std::uint32_t was = mark.load(std::memory_order_acquire); // [R2] pairs with [R1]
    const mark_state s = state_of(was, ticket);
    if (s == mark_state::unready) break;
    if (!is_over(s) && !droppable(r, ticket, ticket <= cursor)) break;
    // What nobody has leased is leased first: the cursor passes it, as for any other.
    if (ticket > cursor) {
      if (!r.cursor.compare_exchange_strong(cursor, ticket, std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) // [C1] pairs with [C2]
        break;
      cursor = ticket;
    }
    if (is_over(s)) continue;
    if (!mark.compare_exchange_strong(was, mark_as(was, mark_state::done),
                                      std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) // [K3] pairs with [R2]
      break;
    if (s == mark_state::returned) r.returned.fetch_sub(1, std::memory_order_relaxed); // [C1]
    ++dropped;
  }
  stopped = ticket <= tail;
  advance(r);
  return dropped;
}

bool queue_table::state::droppable(const ring_state& r, std::uint64_t ticket,
                                   bool leased_now) const noexcept {
  if (seeded_bug("ring.drop_leased")) return true;
  const ring_slot& slot = r.slots[r.index_of(ticket)];
  if (slot_tag::unpack(word_of(slot.tag)).state == slot_state::pubrec) return false;
  if (messages == nullptr) return true;
  const bool begun = leased_now || ticket <= r.delivered;
  return !begun || slot_delivery::unpack(slot_ref(word_of(slot.ref)).delivery()).qos != 2;
}

} // namespace chainring
