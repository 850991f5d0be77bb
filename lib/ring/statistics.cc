// SPDX-License-Identifier: BSD-3-Clause
// Statistics of one queue and of the table. The ordering labels are described in ring.cc.
#include <algorithm>

#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

queue_statistics queue_table::statistics(std::uint32_t queue) const noexcept {
  const queue_state& q = state_->queue_at(queue);
  queue_statistics out;
  const queue_commit c =
      queue_commit::unpack(std::atomic_ref(state_->record_of(queue).commit)
                               .load(std::memory_order_acquire)); // [commit-exchanged]
  out.incarnation = c.incarnation;
  out.mode = c.mode;
  out.damaged = q.damaged.load(std::memory_order_relaxed); // [queue-estimate]
  out.refused = counted(q.refused);
  out.dropped_newest = counted(q.dropped_newest);
  out.dropped_oldest = counted(q.dropped_oldest);
  const inside guard(state_->grace);
  const ring_state* const first = state_->first_of(queue);
  const ring_state* r = state_->ring_of(queue);
  if (first == nullptr || r == nullptr) {
    out.head = out.tail = out.leased = q.resume_after;
    return out;
  }
  out.capacity = r->capacity;
  // Head and cursor are loaded before the tail, so the depth is never negative.
  out.head = first->head.load(std::memory_order_acquire);     // [prefix-acked]
  out.leased = first->cursor.load(std::memory_order_acquire); // [cursor-moved]
  out.rings = 1;
  for (const ring_state* x = first->following(); x != nullptr; x = x->following()) {
    ++out.rings;
    if (out.leased == x->base) // every entry of the ring before is leased
      out.leased = x->cursor.load(std::memory_order_acquire); // [cursor-moved]
  }
  out.tail = r->next.load(std::memory_order_relaxed); // [ticket-counter]
  out.depth = static_cast<std::uint32_t>(out.tail - out.head);
  out.high_water = std::max(r->high_water.load(std::memory_order_relaxed), // [ticket-counter]
                            r->peak.load(std::memory_order_relaxed));      // [ticket-counter]
  return out;
}

std::uint32_t queue_table::depth(std::uint32_t queue) const noexcept {
  const inside guard(state_->grace);
  const ring_state* const first = state_->first_of(queue);
  const ring_state* const r = state_->ring_of(queue);
  if (first == nullptr || r == nullptr) return 0;
  // The head is loaded before the tail, so the depth is never negative.
  const std::uint64_t head = first->head.load(std::memory_order_acquire);     // [prefix-acked]
  return static_cast<std::uint32_t>(r->next.load(std::memory_order_relaxed) - // [ticket-counter]
                                    head);
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
    out.damaged += s.queue_at(i).damaged.load(std::memory_order_relaxed); // [queue-estimate]
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
