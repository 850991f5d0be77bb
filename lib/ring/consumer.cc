// SPDX-License-Identifier: BSD-3-Clause
// What queue_consumer adds to the calls of lease.cc: the same leases and marks, asked for by
// deadline, by lease, or a prefix at a time.
//
// Edges and crash windows: see ring.cc. Here [C1], [C2], [E4], [K1], [K2], [P16], [R2].
#include "ring/consumer.h"

#include <algorithm>

#include "ring/queue_state.h"

namespace chainring {

using namespace detail;

// --- leases with a deadline ---------------------------------------------------------------------

std::uint32_t queue_consumer::lease(std::uint32_t queue, std::span<leased> out,
                                    std::uint64_t deadline) const noexcept {
  queue_table::state& s = *table_->state_;
  CHAINRING_ASSERT(s.options.timed_leases);
  return s.lease_until(queue, out, deadline);
}

std::uint32_t queue_consumer::expire(std::uint32_t queue, std::uint64_t now,
                                     std::uint32_t n_max) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside here = s.consuming(queue);
  std::uint32_t n = 0;
  for (ring_state* r = s.first_of(queue); r != nullptr && r->times != nullptr; r = r->following())
    if (r->earliest().load(std::memory_order_relaxed) <= now) // [E4] a look
      n += s.expire_in(*r, now, n_max - n);
  return n;
}

std::uint64_t queue_consumer::earliest_deadline(std::uint32_t queue) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside here(s.grace);
  std::uint64_t earliest = no_deadline;
  for (const ring_state* r = s.first_of(queue); r != nullptr && r->times != nullptr;
       r = r->following())
    earliest = std::min(earliest, r->earliest().load(std::memory_order_relaxed)); // [E4] a look
  return earliest;
}

// --- acknowledgements ---------------------------------------------------------------------------

ack_status queue_consumer::ack(std::uint32_t queue, const leased& by) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside here = s.consuming(queue);
  return s.settle(queue, by.ticket(), slot_state::acked, by.generation());
}

bool queue_consumer::nack(std::uint32_t queue, const leased& by) const noexcept {
  return table_->state_->give_back(queue, by.ticket(), by.generation());
}

std::uint32_t queue_consumer::ack_through(std::uint32_t queue,
                                          std::uint64_t ticket) const noexcept {
  queue_table::state& s = *table_->state_;
  ring_state* r = s.ring_for(queue, ticket);
  if (r == nullptr || ticket <= r->acked.load(std::memory_order_relaxed) || // [K2] its only writer
      ticket > r->cursor.load(std::memory_order_relaxed))                   // [C2] likewise
    return 0;
  CHAINRING_ASSERT(r->mode == queue_mode::mpsc);
  const auto through = [&](ring_state& in, std::uint64_t end) {
    const std::uint64_t acked = in.acked.load(std::memory_order_relaxed); // [K2] likewise
    if (in.returned.load(std::memory_order_relaxed) != 0) [[unlikely]] {  // [C2] likewise
      advance(in); // what is void has no lease to settle
      for (std::uint64_t t = acked + 1; t <= end; ++t) {
        if (in.acked.load(std::memory_order_relaxed) >= t) continue; // [K2] likewise
        if (s.settle(queue, t, slot_state::acked, any_generation) != ack_status::advanced) break;
      }
    } else if (end > acked) {
      in.acked.store(end, std::memory_order_release); // [K1] pairs with [K2]
      advance(in);
    }
    return static_cast<std::uint32_t>(in.acked.load(std::memory_order_relaxed) - acked); // [K2]
  };
  std::uint32_t n = 0;
  for (ring_state* x = s.first_of(queue);; x = x->following()) {
    ring_state* const next = x->following();
    const std::uint64_t end = x == r ? ticket : next->base;
    n += through(*x, end);
    if (x == r || x->acked.load(std::memory_order_relaxed) != end) return n; // [K2] likewise
  }
}

// --- states of slots ----------------------------------------------------------------------------

bool queue_consumer::set_state(std::uint32_t queue, std::uint64_t ticket,
                               slot_state to) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside here = s.consuming(queue);
  ring_state* const r = s.ring_for(queue, ticket);
  if (r == nullptr) return false;
  if (to == slot_state::pubrec) {
    if (ticket <= r->acked.load(std::memory_order_acquire) || // [K2] pairs with [K1]
        ticket > r->cursor.load(std::memory_order_acquire))   // [C2] pairs with [C1]
      return false;
    const std::uint32_t i = r->index_of(ticket);
    if (state_of(r->marks[i].load(std::memory_order_acquire), ticket) != mark_state::ready) // [R2]
      return false;
    std::uint64_t was = slot_tag{ticket, slot_state::queued}.pack(queue);
    const slot_tag next{ticket, slot_state::pubrec};
    return s.medium.compare_exchange(&r->slots[i].tag, was,
                                     next.pack(queue)); // [P16] before its flush
  }
  CHAINRING_ASSERT(to == slot_state::moved || to == slot_state::dropped);
  return s.settle(queue, ticket, to, any_generation) == ack_status::marked;
}

void queue_consumer::flush_slot(std::uint32_t queue, std::uint64_t ticket) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside here = s.consuming(queue);
  const ring_state* const r = s.ring_for(queue, ticket);
  if (r == nullptr || ticket <= r->base) return; // the head has passed it, durably
  // [P16] durable with this thread's next drain. PUBREL leaves behind that.
  s.medium.flush(&r->slots[r->index_of(ticket)], sizeof(ring_slot)); // [P16] behind its exchange
}

// --- the queue ----------------------------------------------------------------------------------

bool queue_consumer::set_mode(std::uint32_t queue, queue_mode mode) const noexcept {
  return table_->state_->set_mode(queue, mode);
}

std::uint64_t queue_consumer::oldest_published_ns(std::uint32_t queue) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside here = s.consuming(queue);
  if (s.messages == nullptr) return 0;
  for (const ring_state* r = s.first_of(queue); r != nullptr; r = r->following()) {
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [K2] the consumer asks
    const std::uint64_t tail = r->tail(acked);
    for (std::uint64_t t = acked + 1; t <= tail; ++t) {
      const std::uint32_t i = r->index_of(t);
      const mark_state mark = state_of(r->marks[i].load(std::memory_order_acquire), t); // [R2]
      if (is_over(mark)) continue;
      message_view v;
      if (mark == mark_state::unready ||
          s.messages->view(slot_ref(word_of(r->slots[i].ref)).message(), v) != message_status::ok)
        return 0;
      return v.fields.published_ns;
    }
  }
  return 0;
}

} // namespace chainring
