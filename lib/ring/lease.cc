// SPDX-License-Identifier: BSD-3-Clause
// Consumers: leases by a cursor of their own, acknowledgements, the head. rte_ring's consumer side
// only releases.
//
// Edges and crash windows: see ring.cc. Here [A2], [A7], [R2], [R3 -> R4], [C1], [C2], [K1], [K2],
// [K3], [L1], [L2], [D2], [N2], [P4], [P5], [P16].
#include <algorithm>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

namespace {

constexpr std::uint64_t redelivered_bit = std::uint64_t{1} << 63;

std::uint64_t word_of(const std::uint64_t& word) noexcept {
  // [R2] relaxed: the mark's acquire came before; changed only by this entry's holder.
  return std::atomic_ref(const_cast<std::uint64_t&>(word)).load(std::memory_order_relaxed); // [R2]
}

bool may_be_delivered(std::uint64_t tag, std::uint64_t ticket) noexcept {
  const slot_tag t = slot_tag::unpack(tag);
  return t.ticket == ticket && (t.state == slot_state::queued || t.state == slot_state::pubrec);
}

} // namespace

void detail::advance(ring_state& r) noexcept {
  std::uint64_t acked = r.acked.load(std::memory_order_acquire); // [K2] pairs with [K1]
  const std::uint64_t from = acked;
  const std::uint64_t cursor = r.cursor.load(std::memory_order_acquire); // [C2] pairs with [C1]
  while (acked < cursor) {
    const std::uint32_t mark =
        r.marks[r.index_of(acked + 1)].load(std::memory_order_acquire); // [R2] pairs with [K3]
    if (!is_over(state_of(mark, acked + 1))) break;
    ++acked;
  }
  if (acked == from) return;
  if (r.mode == queue_mode::mpsc) {
    r.acked.store(acked, std::memory_order_release); // [K1] one consumer
    return;
  }
  // [K1] release. Where another thread moved it meanwhile, that one went on from there.
  std::uint64_t expected = from;
  r.acked.compare_exchange_strong(expected, acked, std::memory_order_acq_rel,
                                  std::memory_order_relaxed); // [K1] pairs with [K2]
}

// --- leases -------------------------------------------------------------------------------------

std::uint32_t queue_table::lease(std::uint32_t queue, std::span<leased> out) noexcept {
  ring_state* const r = ring_of(queue);
  if (r == nullptr) return 0;
  std::uint32_t n = 0;
  if (r->returned.load(std::memory_order_relaxed) != 0) [[unlikely]] // [C2] a hint
    n = lease_returned(*r, out);
  if (r->mode == queue_mode::mpmc) return n + lease_shared(*r, out.subspan(n));
  std::uint64_t cursor = r->cursor.load(std::memory_order_relaxed);     // [C2] its only writer
  const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [K2] its only writer
  // Tickets leased at one time span fewer than there are packet ids.
  const std::uint64_t limit = std::min(r->tail(cursor), acked + packet_id_count - 1);
  while (cursor < limit && n < out.size()) {
    const std::uint64_t ticket = cursor + 1;
    const std::uint32_t i = r->index_of(ticket);
    // [R2] acquire: pairs with the release [R1] in ready().
    //      Without it the slot is read before it is placed, and handed out before it is durable.
    const mark_state s = state_of(r->marks[i].load(std::memory_order_acquire), ticket); // [R2]
    if (s == mark_state::ready) [[likely]] {
      const std::uint64_t tag = word_of(r->slots[i].tag);
      if (may_be_delivered(tag, ticket)) [[likely]]
        out[n++] = {slot_ref(word_of(r->slots[i].ref)),
                    ticket <= r->delivered ? tag | redelivered_bit : tag};
      else // the medium changed under us
        r->marks[i].store(mark_of(ticket, mark_state::done), std::memory_order_relaxed); // [K3] own
    } else if (s == mark_state::unready) {
      break;
    }
    cursor = ticket;
  }
  r->cursor.store(cursor, std::memory_order_release); // [C1] pairs with [C2]
  return n;
}

// Several consumers: what is read is handed out only if the cursor was still there when it was
// moved. Until then nobody has leased those entries, so nobody can have released their slots.
std::uint32_t queue_table::lease_shared(ring_state& r, std::span<leased> out) noexcept {
  std::uint64_t from = r.cursor.load(std::memory_order_acquire); // [C2] pairs with [C1]
  for (;;) {
    const std::uint64_t tail = r.tail(from);
    std::uint64_t cursor = from;
    std::uint32_t n = 0;
    while (cursor < tail && n < out.size()) {
      const std::uint64_t ticket = cursor + 1;
      const std::uint32_t i = r.index_of(ticket);
      const std::uint32_t mark = r.marks[i].load(std::memory_order_acquire); // [R2] as in lease()
      const mark_state s = state_of(mark, ticket);
      if (s == mark_state::unready) break;
      if (s == mark_state::ready || s == mark_state::returned) {
        const std::uint64_t tag = word_of(r.slots[i].tag);
        if (may_be_delivered(tag, ticket))
          out[n++] = {slot_ref(word_of(r.slots[i].ref)),
                      ticket <= r.delivered ? tag | redelivered_bit : tag};
      }
      cursor = ticket;
    }
    if (cursor == from) return 0;
    hook_point("ring.lease.chosen");
    // [C1] acq_rel: one consumer gets these entries. Without it two lease them.
    if (seeded_bug("ring.lease_race")) [[unlikely]] {
      r.cursor.store(cursor, std::memory_order_release); // [C1] without asking
      return n;
    }
    if (r.cursor.compare_exchange_strong(from, cursor, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) // [C1] pairs with [C2]
      return n;
  }
}

// Entries that nack() gave back: rare, and near the head.
std::uint32_t queue_table::lease_returned(ring_state& r, std::span<leased> out) noexcept {
  std::uint32_t n = 0;
  const std::uint64_t cursor = r.cursor.load(std::memory_order_acquire); // [C2] pairs with [C1]
  for (std::uint64_t t = r.acked.load(std::memory_order_acquire) + 1;    // [K2] pairs with [K1]
       t <= cursor && n < out.size(); ++t) {
    const std::uint32_t i = r.index_of(t);
    std::uint32_t mark = mark_of(t, mark_state::returned);
    if (r.marks[i].load(std::memory_order_relaxed) != mark || // [R2] the exchange acquires
        !r.marks[i].compare_exchange_strong(mark, mark_of(t, mark_state::ready),
                                            std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) // [K3] pairs with [R2]
      continue;
    r.returned.fetch_sub(1, std::memory_order_relaxed); // [C1] a hint
    out[n++] = {slot_ref(word_of(r.slots[i].ref)), word_of(r.slots[i].tag) | redelivered_bit};
  }
  return n;
}

bool queue_table::nack(std::uint32_t queue, std::uint64_t ticket) noexcept {
  ring_state* const r = ring_of(queue);
  if (r == nullptr || ticket <= r->acked.load(std::memory_order_acquire) || // [K2]
      ticket > r->cursor.load(std::memory_order_acquire))                   // [C2]
    return false;
  std::uint32_t mark = mark_of(ticket, mark_state::ready);
  r->returned.fetch_add(1, std::memory_order_relaxed); // [C1] a hint, before there is one to find
  if (r->marks[r->index_of(ticket)].compare_exchange_strong(
          mark, mark_of(ticket, mark_state::returned), std::memory_order_acq_rel,
          std::memory_order_relaxed)) // [K3] pairs with [R2]
    return true;
  r->returned.fetch_sub(1, std::memory_order_relaxed); // [C1] a hint
  return false;
}

void queue_table::rewind(std::uint32_t queue) noexcept {
  ring_state* const r = ring_of(queue);
  if (r == nullptr) return;
  const std::uint64_t cursor = r->cursor.load(std::memory_order_relaxed); // [C2] nobody leases
  advance(*r);
  const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [K2] likewise
  if (r->returned.exchange(0, std::memory_order_relaxed) != 0)          // [C1] likewise
    for (std::uint64_t t = acked + 1; t <= cursor; ++t) {
      auto& mark = r->marks[r->index_of(t)];
      if (mark.load(std::memory_order_relaxed) == mark_of(t, mark_state::returned)) // [R2] likewise
        mark.store(mark_of(t, mark_state::ready), std::memory_order_release);       // [R1] likewise
    }
  r->delivered = std::max(r->delivered, cursor);
  r->cursor.store(acked, std::memory_order_release); // [C1] pairs with [C2]
}

std::uint64_t queue_table::resolve(std::uint32_t queue, std::uint16_t packet_id) const noexcept {
  const ring_state* const r = ring_of(queue);
  if (r == nullptr || packet_id == 0 || packet_id > packet_id_count) return 0;
  const std::uint64_t acked = r->acked.load(std::memory_order_acquire); // [K2] pairs with [K1]
  const std::uint64_t ahead =
      (packet_id + packet_id_count - packet_id_of(acked + 1)) % packet_id_count;
  const std::uint64_t ticket = acked + 1 + ahead;
  if (ticket > r->cursor.load(std::memory_order_acquire)) return 0; // [C2] pairs with [C1]
  const std::uint32_t mark =
      r->marks[r->index_of(ticket)].load(std::memory_order_acquire); // [R2] as in lease()
  return mark == mark_of(ticket, mark_state::ready) ? ticket : 0;
}

// --- acknowledgements ---------------------------------------------------------------------------

// The lease of `ticket` ends: the prefix grows, or the slot says so.
ack_status queue_table::settle(ring_state& r, std::uint64_t ticket, slot_state to) noexcept {
  const std::uint64_t acked = r.acked.load(std::memory_order_acquire);      // [K2] pairs with [K1]
  if (ticket <= acked || ticket > r.cursor.load(std::memory_order_acquire)) // [C2] with [C1]
    return ack_status::ignored;
  const bool in_order = ticket == acked + 1 && to == slot_state::acked;
  std::atomic<std::uint32_t>& mark = r.marks[r.index_of(ticket)];
  std::uint32_t leased_now = mark_of(ticket, mark_state::ready);
  if (r.mode == queue_mode::mpsc) {
    if (mark.load(std::memory_order_relaxed) != leased_now) // [R2] one consumer, which leased it
      return ack_status::ignored;
    if (in_order) {
      r.acked.store(ticket, std::memory_order_release); // [K1] pairs with [K2]
      advance(r);
      return ack_status::advanced;
    }
    mark.store(mark_of(ticket, mark_state::done), std::memory_order_release); // [K3] one consumer
  } else {
    // [K3] acq_rel: one acker ends the lease; the releaser that sees it done sees all before.
    if (!mark.compare_exchange_strong(leased_now, mark_of(ticket, mark_state::done),
                                      std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) // [K3] pairs with [R2]
      return ack_status::ignored;
    if (in_order) {
      advance(r);
      return ack_status::advanced;
    }
  }
  // The exact word: once the head has passed it, the slot may be somebody else's.
  std::uint64_t& tag = r.slots[r.index_of(ticket)].tag;
  std::uint64_t was = word_of(tag);
  while (may_be_delivered(was, ticket) && !seeded_bug("ring.ack_in_memory"))
    if (media_.compare_exchange(&tag, was, slot_tag{ticket, to}.pack())) // [P16] before its flush
      break;
  advance(r);
  return ack_status::marked;
}

ack_status queue_table::ack(std::uint32_t queue, std::uint64_t ticket) noexcept {
  ring_state* const r = ring_of(queue);
  return r == nullptr ? ack_status::ignored : settle(*r, ticket, slot_state::acked);
}

std::uint32_t queue_table::ack_through(std::uint32_t queue, std::uint64_t ticket) noexcept {
  ring_state* const r = ring_of(queue);
  if (r == nullptr) return 0;
  const std::uint64_t acked = r->acked.load(std::memory_order_relaxed);      // [K2] its only writer
  if (ticket <= acked || ticket > r->cursor.load(std::memory_order_relaxed)) // [C2] likewise
    return 0;
  CHAINRING_ASSERT(r->mode == queue_mode::mpsc);
  if (r->returned.load(std::memory_order_relaxed) != 0) [[unlikely]] { // [C2] likewise
    for (std::uint64_t t = acked + 1; t <= ticket; ++t) {
      if (r->acked.load(std::memory_order_relaxed) >= t) continue; // [K2] likewise
      if (settle(*r, t, slot_state::acked) != ack_status::advanced) break;
    }
  } else {
    r->acked.store(ticket, std::memory_order_release); // [K1] pairs with [K2]
    advance(*r);
  }
  return static_cast<std::uint32_t>(r->acked.load(std::memory_order_relaxed) - acked); // [K2]
}

bool queue_table::set_state(std::uint32_t queue, std::uint64_t ticket, slot_state state) noexcept {
  ring_state* const r = ring_of(queue);
  if (r == nullptr) return false;
  if (state == slot_state::pubrec) {
    if (ticket <= r->acked.load(std::memory_order_acquire) || // [K2] pairs with [K1]
        ticket > r->cursor.load(std::memory_order_acquire))   // [C2] pairs with [C1]
      return false;
    const std::uint32_t i = r->index_of(ticket);
    if (r->marks[i].load(std::memory_order_acquire) != mark_of(ticket, mark_state::ready)) // [R2]
      return false;
    std::uint64_t was = slot_tag{ticket, slot_state::queued}.pack();
    const slot_tag next{ticket, slot_state::pubrec};
    return media_.compare_exchange(&r->slots[i].tag, was, next.pack()); // [P16] before its flush
  }
  CHAINRING_ASSERT(state == slot_state::moved || state == slot_state::dropped);
  return settle(*r, ticket, state) == ack_status::marked;
}

void queue_table::flush_slot(std::uint32_t queue, std::uint64_t ticket) noexcept {
  const ring_state* const r = ring_of(queue);
  if (r == nullptr) return;
  // [P16] durable with this thread's next drain. PUBREL leaves behind that.
  media_.flush(&r->slots[r->index_of(ticket)], sizeof(ring_slot)); // [P16] behind its exchange
}

// --- the head -----------------------------------------------------------------------------------

bool queue_table::release(std::uint32_t queue) noexcept {
  ring_state* const r = ring_of(queue);
  if (r == nullptr) return false;
  if (r->mode == queue_mode::mpsc) {
    if (r->releasing.load(std::memory_order_relaxed)) return false; // [L1] one consumer
    r->releasing.store(true, std::memory_order_relaxed);            // [L1] one consumer
  } else if (!seeded_bug("ring.two_releasers")) {
    // [L1] acquire: pairs with the release [L2]. From computing the prefix to finish one thread.
    //      Without it two compute one prefix, and the second frees slots that are used again.
    if (r->releasing.load(std::memory_order_relaxed) ||         // [L1] the exchange acquires
        r->releasing.exchange(true, std::memory_order_acquire)) // [L1] pairs with [L2]
      return false;
  }
  advance(*r);
  const std::uint64_t acked = r->acked.load(std::memory_order_acquire); // [K2] pairs with [K1]
  if (acked == r->head.load(std::memory_order_relaxed)) {               // [L1] orders it
    r->releasing.store(false, std::memory_order_release);               // [L2] pairs with [L1]
    return false;
  }
  r->release_to = acked;
  media_.store(&records_[queue].head, acked); // [P4] before [P5]
  return true;
}

void queue_table::flush_release(std::uint32_t queue) noexcept {
  // [P4] before [P5]: the head. Without it the slots' old entries come back over new blocks.
  media_.flush(&records_[queue].head, sizeof(std::uint64_t)); // [P4] before [P5]
}

void queue_table::drop_references(const ring_state& r, std::uint64_t after,
                                  std::uint64_t through) noexcept {
  if (messages_ == nullptr) return;
  for (std::uint64_t t = after + 1; t <= through; ++t) {
    const std::uint32_t i = r.index_of(t);
    if (state_of(r.marks[i].load(std::memory_order_relaxed), t) == mark_state::hole) // [R2] over
      continue;
    // Within bounds unless the medium changed under us: then a message stays until the next open.
    const std::uint32_t index = slot_ref(word_of(r.slots[i].ref)).message().index;
    if (index < messages_->count()) messages_->drop_reference(index);
  }
}

std::uint32_t queue_table::finish_release(std::uint32_t queue) noexcept {
  ring_state* const r = ring_of(queue);
  CHAINRING_ASSERT(r != nullptr);
  const std::uint64_t head = r->head.load(std::memory_order_relaxed); // [L1] orders it
  const auto n = static_cast<std::uint32_t>(r->release_to - head);
  // [P4 < P5] the caller has drained the head: references first, for they are read from the slots.
  drop_references(*r, head, r->release_to);
  hook_point("ring.release.freeing");
  rte_ring_zc_data unused;
  const unsigned got =
      rte_ring_dequeue_zc_bulk_elem_start(r->ring, sizeof(ring_slot), n, &unused, nullptr);
  CHAINRING_ASSERT(got == n);
  rte_ring_dequeue_zc_elem_finish(r->ring, n);
  r->head.store(r->release_to, std::memory_order_release); // [K1] pairs with [K2]
  r->releasing.store(false, std::memory_order_release);    // [L2] pairs with [L1]
  return n;
}

// --- dropping -----------------------------------------------------------------------------------

std::uint32_t queue_table::drop_requested(std::uint32_t queue) const noexcept {
  return at(queue).drop_requests.load(std::memory_order_relaxed); // [D2] pairs with [D1]
}

// The oldest entries end as if acknowledged in order: the head says so, no slot is touched. What a
// client may hold half of (QoS 2) ends only by its own doing.
std::uint32_t queue_table::drop_oldest(std::uint32_t queue, std::uint32_t n) noexcept {
  queue_state& q = at(queue);
  q.drop_requests.store(0, std::memory_order_relaxed); // [D2] pairs with [D1]
  ring_state* const r = ring_of(queue);
  if (r == nullptr) return 0;
  advance(*r);
  std::uint64_t ticket = r->acked.load(std::memory_order_acquire) + 1; // [K2] pairs with [K1]
  std::uint64_t cursor = r->cursor.load(std::memory_order_acquire);    // [C2] pairs with [C1]
  const std::uint64_t tail = r->tail(ticket - 1);
  std::uint32_t dropped = 0;
  for (; ticket <= tail && dropped < n; ++ticket) {
    std::atomic<std::uint32_t>& mark = r->marks[r->index_of(ticket)];
    const mark_state s = state_of(mark.load(std::memory_order_acquire), ticket); // [R2] with [R1]
    if (s == mark_state::unready) break;
    if (!is_over(s) && !droppable(*r, ticket, ticket <= cursor)) break;
    // What nobody has leased is leased first: the cursor passes it, as for any other.
    if (ticket > cursor) {
      if (!r->cursor.compare_exchange_strong(cursor, ticket, std::memory_order_acq_rel,
                                             std::memory_order_relaxed)) // [C1] pairs with [C2]
        break;
      cursor = ticket;
    }
    if (is_over(s)) continue;
    std::uint32_t was = mark_of(ticket, s);
    if (!mark.compare_exchange_strong(was, mark_of(ticket, mark_state::done),
                                      std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) // [K3] pairs with [R2]
      break;
    if (s == mark_state::returned) r->returned.fetch_sub(1, std::memory_order_relaxed); // [C1]
    ++dropped;
  }
  advance(*r);
  tally(q.dropped_oldest, dropped);
  tally(state_->dropped_oldest, std::uint64_t{dropped});
  return dropped;
}

bool queue_table::droppable(const ring_state& r, std::uint64_t ticket,
                            bool leased_now) const noexcept {
  if (seeded_bug("ring.drop_leased")) return true;
  const ring_slot& slot = r.slots[r.index_of(ticket)];
  if (slot_tag::unpack(word_of(slot.tag)).state == slot_state::pubrec) return false;
  if (messages_ == nullptr) return true;
  const bool begun = leased_now || ticket <= r.delivered;
  return !begun || slot_delivery::unpack(slot_ref(word_of(slot.ref)).delivery()).qos != 2;
}

std::uint64_t queue_table::oldest_published_ns(std::uint32_t queue) const noexcept {
  const ring_state* const r = ring_of(queue);
  if (r == nullptr || messages_ == nullptr) return 0;
  const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [K2] the consumer asks
  const std::uint64_t tail = r->tail(acked);
  for (std::uint64_t t = acked + 1; t <= tail; ++t) {
    const std::uint32_t i = r->index_of(t);
    const mark_state s = state_of(r->marks[i].load(std::memory_order_acquire), t); // [R2]
    if (is_over(s)) continue;
    message_view v;
    if (s == mark_state::unready ||
        messages_->view(slot_ref(word_of(r->slots[i].ref)).message(), v) != message_status::ok)
      return 0;
    return v.fields.published_ns;
  }
  return 0;
}

} // namespace chainring
