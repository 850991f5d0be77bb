// SPDX-License-Identifier: BSD-3-Clause
// The head: acknowledged entries are released. A ring whose last entry is released leaves the queue
// in the same step. Head and commit word lie in one line, so a release that unlinks a ring costs no
// more flushes and drains than one that does not. The ordering labels are described in ring.cc.
#include <algorithm>

#include "base/hook.h"
#include "ring/consumer.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

namespace {

/// Moves the cursor over the void slots and holes in front of it, which no consumer leases. Only
/// the releaser calls it, so no slot is freed meanwhile.
void pass_over(ring_state& r) noexcept {
  std::uint64_t from = r.cursor.load(std::memory_order_acquire); // [cursor-moved]
  std::uint64_t cursor = from;
  do {
    if (!r.marked_behind(from)) return;
    const std::uint64_t tail = r.tail(from);
    for (cursor = from; cursor < tail; ++cursor)
      if (!is_over(r.state_at(cursor + 1))) break;
    if (cursor == from) return;
    hook_point("ring.release.passing");
    if (r.mode == queue_mode::mpsc || seeded_bug("ring.pass_race")) {
      r.cursor.store(cursor, std::memory_order_release); // [cursor-moved]
      return;
    }
    // Where the exchange fails, another consumer has leased entries from there. A plain store would
    // move the cursor back, and those entries would be leased twice.
  } while (!r.cursor.compare_exchange_weak(from, cursor, std::memory_order_acq_rel,
                                           std::memory_order_acquire)); // [cursor-moved]
}

} // namespace

bool queue_table::release_start(std::uint32_t queue) noexcept {
  state& s = *state_;
  // In the usual queue of one consumer there is one ring, and no slot has a mark: the prefix is
  // where the last ack has left it.
  if (ring_state* const r = s.sole_consumer_ring(queue); r != nullptr) [[likely]] {
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [single-consumer]
    if (!r->marked_behind(acked) && r->following() == nullptr) [[likely]]
      return s.release_sole(queue, *r, acked);
  }
  return s.release_marked(queue);
}

// The same where void slots and acknowledgements out of order are passed, or rings are unlinked.
[[gnu::noinline]] bool queue_table::state::release_marked(std::uint32_t queue) noexcept {
  state& s = *this;
  const inside guard = s.consuming(queue);
  ring_state* const r = s.first_of(queue);
  if (r == nullptr) return false;
  if (r->mode == queue_mode::mpsc) {
    if (r->releasing.load(std::memory_order_relaxed)) return false; // [single-consumer]
    r->releasing.store(true, std::memory_order_relaxed);            // [single-consumer]
  } else if (!seeded_bug("ring.two_releasers")) {
    // One thread holds the lock from here to the end of release_finish(). A ring that has left its
    // queue keeps the lock, so a late caller gets false.
    // [release-locked] Without it two threads could release the same prefix, and the second would
    // free slots that are in use again.
    if (r->releasing.load(std::memory_order_relaxed) ||         // [exchange-decides]
        r->releasing.exchange(true, std::memory_order_acquire)) // [release-locked]
      return false;
  }
  // The head moves over the prefix of done tickets, and through every ring that is done to its end.
  std::uint64_t acked = 0;
  std::uint8_t through = 0;
  for (ring_state* x = r;;) {
    pass_over(*x);
    advance(*x);
    acked = x->acked.load(std::memory_order_acquire); // [prefix-acked]
    ring_state* const next = x->following();
    if (next == nullptr || acked != next->base) break;
    ++through;
    x = next;
  }
  if (seeded_bug("ring.unlink_leased") && through == 0 && r->following() != nullptr &&
      r->cursor.load(std::memory_order_relaxed) == r->following()->base) // [cursor-moved]
    through = 1;
  if (acked == r->head.load(std::memory_order_relaxed) && through == 0) { // [release-locked]
    r->releasing.store(false, std::memory_order_release);                 // [release-locked]
    return false;
  }
  r->release_to = acked;
  r->unlinked = through;
  queue_record& record = s.record_of(queue);
  s.medium.store(&record.head, queue_head{acked}.pack(queue)); // [head-before-reuse]
  if (through != 0) {
    // Only an append changes the commit word meanwhile, and it adds a ring at the end.
    std::uint64_t word =
        std::atomic_ref(record.commit).load(std::memory_order_acquire); // [commit-exchanged]
    queue_commit now;
    do {
      now = queue_commit::unpack(word);
      now.first = static_cast<std::uint8_t>((now.first + through) % queue_rings_max);
      now.count = static_cast<std::uint8_t>(now.count - through);
    } while (!s.medium.compare_exchange(&record.commit, word,
                                        now.pack(queue))); // [commit-exchanged] [head-before-reuse]
    if (seeded_bug("ring.unlink_undrained")) release(queue);
  }
  return true;
}

void queue_table::release_flush(std::uint32_t queue) noexcept {
  // [head-before-reuse] Without it a crash could bring back old entries over blocks that were used
  // again, or a ring over what was put in its place. Crash between: the entries are gone and their
  // messages unreachable.
  state_->medium.flush(&state_->record_of(queue).head,
                       sizeof(std::uint64_t)); // [head-before-reuse]
}

void queue_table::state::drop_references(const ring_state& r, std::uint64_t after,
                                         std::uint64_t through) noexcept {
  std::uint64_t bytes_done = 0;
  for (std::uint64_t t = after + 1; t <= through; ++t) {
    const std::uint32_t i = r.index_of(t);
    if (r.marked_behind(t - 1) && passed_state(r.marks[i].load(std::memory_order_relaxed), t) ==
                                      mark_state::hole) // [slot-ready]
      continue;
    // Where the slot names a message of another generation, or none at all, the medium has changed
    // since recovery validated it. The message that the slot named before then stays until the next
    // open.
    const message_ref ref = slot_ref(word_of(r.slots()[i].ref)).message();
    if (options.count_bytes) bytes_done += messages->size_of(ref.index);
    messages->drop_place(ref);
  }
  if (bytes_done != 0) take_bytes_off(r.queue, bytes_done);
}

std::uint64_t queue_table::state::bytes_at(const ring_state& r,
                                           std::uint64_t ticket) const noexcept {
  return messages->size_of(slot_ref(word_of(r.slots()[r.index_of(ticket)].ref)).message().index);
}

// A descriptor whose size has changed on the medium must not make the count wrap.
void queue_table::state::take_bytes_off(std::uint32_t queue, std::uint64_t n) noexcept {
  std::atomic<std::uint64_t>& count_now = bytes[queue];
  std::uint64_t seen = count_now.load(std::memory_order_relaxed); // [queue-estimate]
  while (!count_now.compare_exchange_weak(seen, seen - std::min(seen, n),
                                          std::memory_order_relaxed)) { // [queue-estimate]
  }
}

std::uint64_t queue_table::content_bytes(std::uint32_t queue) const noexcept {
  return state_->options.count_bytes
             ? state_->bytes[queue].load(std::memory_order_relaxed) // [queue-estimate]
             : 0;
}

std::uint32_t queue_table::release_finish(std::uint32_t queue) noexcept {
  return state_->release(queue);
}

std::uint32_t queue_table::state::release(std::uint32_t queue) noexcept {
  state& s = *this;
  // The usual queue of one consumer releases entries of its one ring, which has no marks there.
  if (ring_state* const r = sole_consumer_ring(queue);
      r != nullptr && r->unlinked == 0 && !options.count_bytes) [[likely]] {
    const std::uint64_t head = r->head.load(std::memory_order_relaxed); // [release-locked]
    const std::uint64_t to = r->release_to;
    if (to > head && !r->marked_behind(head)) [[likely]] {
      for (std::uint64_t t = head + 1; t <= to && messages != nullptr; ++t)
        messages->drop_place(slot_ref(word_of(r->slots()[r->index_of(t)].ref)).message());
      dequeue(*r, to);
      r->head.store(to, std::memory_order_release);         // [prefix-acked]
      r->releasing.store(false, std::memory_order_release); // [release-locked]
      return static_cast<std::uint32_t>(to - head);
    }
  }
  queue_state& q = s.queue_at(queue);
  const inside guard = s.consuming(queue);
  ring_state* const first = s.first_of(queue);
  CHAINRING_ASSERT(first != nullptr);
  const std::uint64_t to = first->release_to;
  const unsigned unlinked = first->unlinked;
  std::uint32_t n = 0;
  // The caller has drained the head. References are dropped first, because they are read from the
  // slots.
  // [prefix-acked] Without it an acknowledgement could count for a ticket that is done already.
  ring_state* r = first;
  for (unsigned k = 0;; ++k) {
    const std::uint64_t end = k < unlinked ? r->following()->base : to;
    const std::uint64_t head = r->head.load(std::memory_order_relaxed); // [release-locked]
    if (end > head) {
      if (messages != nullptr) s.drop_references(*r, head, end);
      dequeue(*r, end);
      r->head.store(end, std::memory_order_release); // [prefix-acked]
      n += static_cast<std::uint32_t>(end - head);
    }
    if (k == unlinked) break;
    r = r->following();
  }
  if (unlinked == 0) {
    first->releasing.store(false, std::memory_order_release); // [release-locked]
    return n;
  }
  // The newest ring is never unlinked: its predecessor gets its successor only after producers have
  // the pointer to it.
  q.first.store(r, std::memory_order_release); // [ring-published]
  for (ring_state* x = first; x != r;) {
    ring_state* const next = x->following();
    s.retire(*x);
    x = next;
  }
  return n;
}

// --- dropping -----------------------------------------------------------------------------------

std::uint32_t queue_table::drop_requested(std::uint32_t queue) const noexcept {
  return state_->queue_at(queue).drop_requests.load(std::memory_order_relaxed); // [drop-requests]
}

// The oldest entries end as if they were acknowledged in order: the head passes them and no slot is
// changed. A QoS 2 entry that the client may have received in part ends only by the client's
// answers.
std::uint32_t queue_table::drop_oldest(std::uint32_t queue, std::uint32_t n) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  q.drop_requests.store(0, std::memory_order_relaxed); // [drop-requests]
  const std::uint32_t dropped = s.drop_front(queue, n, 0);
  tally(q.dropped_oldest, dropped);
  tally(s.dropped_oldest, std::uint64_t{dropped});
  return dropped;
}

std::uint32_t queue_consumer::drop_expired(std::uint32_t queue, std::uint64_t now_ns,
                                           std::uint32_t n) const noexcept {
  queue_table::state& s = *table_->state_;
  return s.messages == nullptr || now_ns == 0 ? 0 : s.drop_front(queue, n, now_ns);
}

std::uint32_t queue_table::state::drop_front(std::uint32_t queue, std::uint32_t n,
                                             std::uint64_t now_ns) noexcept {
  const inside guard = consuming(queue);
  std::uint32_t dropped = 0;
  bool stopped = false;
  for (ring_state* r = first_of(queue); r != nullptr && dropped < n && !stopped;) {
    dropped += drop_from(*r, n - dropped, now_ns, stopped);
    ring_state* const next = r->following();
    if (next == nullptr || r->acked.load(std::memory_order_acquire) != next->base)
      break; // [prefix-acked]
    r = next;
  }
  return dropped;
}

std::uint32_t queue_table::state::drop_from(ring_state& r, std::uint32_t n, std::uint64_t now_ns,
                                            bool& stopped) noexcept {
  advance(r);
  std::uint64_t ticket = r.acked.load(std::memory_order_acquire) + 1; // [prefix-acked]
  std::uint64_t cursor = r.cursor.load(std::memory_order_acquire);    // [cursor-moved]
  const std::uint64_t tail = r.tail(ticket - 1);
  std::uint32_t dropped = 0;
  for (; ticket <= tail && dropped < n; ++ticket) {
    std::atomic<slot_mark>& mark = r.marks[r.index_of(ticket)];
    slot_mark was = 0;
    hook_point("ring.drop.looking");
    const mark_state s = r.state_at(ticket, was);
    if (s == mark_state::unready) break;
    if (!is_over(s) && !droppable(r, ticket, ticket <= cursor)) break;
    if (!is_over(s) && now_ns != 0 && !expired(r, ticket, now_ns)) break;
    // An entry that no consumer has leased is leased here first, so the cursor passes it.
    if (ticket > cursor) {
      if (!r.cursor.compare_exchange_strong(cursor, ticket, std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) // [cursor-moved]
        break;
      cursor = ticket;
    }
    if (is_over(s)) continue;
    r.raise_marked(ticket); // [mark-announced]
    if (!mark.compare_exchange_strong(was, mark_as(was, ticket, mark_state::done),
                                      std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) // [lease-ended]
      break;
    if (s == mark_state::returned)
      r.returned.fetch_sub(1, std::memory_order_relaxed); // [cursor-moved]
    ++dropped;
  }
  stopped = ticket <= tail;
  advance(r);
  return dropped;
}

drop_plan queue_consumer::plan_drop(std::uint32_t queue, std::uint32_t slots,
                                    std::uint64_t bytes) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  drop_plan plan;
  if (!s.options.count_bytes) bytes = 0;
  for (const ring_state* r = s.first_of(queue); r != nullptr; r = r->following()) {
    const std::uint64_t acked = r->acked.load(std::memory_order_acquire);   // [prefix-acked]
    const std::uint64_t cursor = r->cursor.load(std::memory_order_acquire); // [cursor-moved]
    std::uint64_t ticket = r->head.load(std::memory_order_relaxed) + 1;     // [release-locked]
    for (const std::uint64_t tail = r->tail(ticket - 1); ticket <= tail; ++ticket) {
      if (slots == 0 && bytes == 0) return plan;
      const mark_state now = r->state_at(ticket);
      if (ticket > acked && !is_over(now)) {
        plan.possible = now != mark_state::unready && s.droppable(*r, ticket, ticket <= cursor);
        if (!plan.possible) return plan;
        ++plan.entries;
      }
      slots -= slots != 0;
      if (bytes != 0 && now != mark_state::hole) bytes -= std::min(bytes, s.bytes_at(*r, ticket));
    }
  }
  plan.possible = slots == 0 && bytes == 0;
  return plan;
}

bool queue_table::state::droppable(const ring_state& r, std::uint64_t ticket,
                                   bool leased_now) const noexcept {
  if (seeded_bug("ring.drop_leased")) return true;
  const ring_slot& slot = r.slots()[r.index_of(ticket)];
  if (slot_tag::unpack(word_of(slot.tag)).state == slot_state::pubrec) return false;
  if (messages == nullptr) return true;
  const bool begun = leased_now || ticket <= r.delivered;
  return !begun || slot_delivery::unpack(slot_ref(word_of(slot.ref)).delivery()).qos != 2;
}

bool queue_table::state::expired(const ring_state& r, std::uint64_t ticket,
                                 std::uint64_t now_ns) const noexcept {
  const message_table::reading mine(*messages);
  message_view v;
  const slot_ref ref(word_of(r.slots()[r.index_of(ticket)].ref));
  if (messages->view(ref.message(), v) != message_status::ok) return false;
  return v.fields.expires_ns != 0 && v.fields.expires_ns <= now_ns;
}

} // namespace chainring
