// SPDX-License-Identifier: BSD-3-Clause
// What a queue, and the table, can be asked about itself.
//
// Edges: see ring.cc. Here [A2], [A3], [A7], [A9 -> A10], [C2], [K2], [N2].
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

queue_statistics queue_table::statistics(std::uint32_t queue) const noexcept {
  const queue_state& q = state_->queue_at(queue);
  queue_statistics out;
  const queue_commit c = queue_commit::unpack(
      std::atomic_ref(state_->record_of(queue).commit).load(std::memory_order_acquire)); // [A7]
  out.incarnation = c.incarnation;
  out.mode = c.mode;
  out.damaged = q.damaged.load(std::memory_order_relaxed); // [A3] a report
  out.refused = counted(q.refused);
  out.dropped_newest = counted(q.dropped_newest);
  out.dropped_oldest = counted(q.dropped_oldest);
  const inside here(state_->grace);
  const ring_state* const first = state_->first_of(queue);
  const ring_state* r = state_->ring_of(queue);
  if (first == nullptr || r == nullptr) {
    out.head = out.tail = out.leased = q.rest_ticket;
    return out;
  }
  out.capacity = r->capacity;
  out.head = first->head.load(std::memory_order_acquire);     // [K2] before the tail: depth >= 0
  out.leased = first->cursor.load(std::memory_order_acquire); // [C2] likewise
  out.rings = 1;
  for (const ring_state* x = first->following(); x != nullptr; x = x->following()) {
    ++out.rings;
    if (out.leased == x->base) // the ring before is leased to its end
      out.leased = x->cursor.load(std::memory_order_acquire); // [C2] likewise
  }
  out.tail = r->next.load(std::memory_order_relaxed); // [N2]
  out.depth = static_cast<std::uint32_t>(out.tail - out.head);
  out.high_water = r->high_water.load(std::memory_order_relaxed); // [N2]
  return out;
}

queue_table_statistics queue_table::statistics() const noexcept {
  state& s = *state_;
  queue_table_statistics out;
  out.queues = count();
  {
    std::lock_guard hold(s.lock);
    out.rings_max = s.rings_max;
    out.rings = s.rings_live;
    out.rings_in_stock = s.stock.size();
    out.rings_retired = s.retired.size();
    out.ring_blocks = s.blocks_live;
  }
  for (std::uint32_t i = 0; i < out.queues; ++i)
    out.damaged += s.queue_at(i).damaged.load(std::memory_order_relaxed); // [A3] a report
  out.refused = counted(s.refused);
  out.refused_ring = counted(s.refused_ring);
  out.dropped_newest = counted(s.dropped_newest);
  out.dropped_oldest = counted(s.dropped_oldest);
  out.voided = counted(s.voided);
  out.grown = counted(s.grown);
  out.shrunk = counted(s.shrunk);
  return out;
}

} // namespace chainring
