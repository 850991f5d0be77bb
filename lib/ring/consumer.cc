// SPDX-License-Identifier: BSD-3-Clause
// What queue_consumer adds to the calls of lease.cc: the same leases and marks by deadline, by one
// particular lease, or a prefix at a time. The ordering labels are described in ring.cc.
#include "ring/consumer.h"

#include <algorithm>

#include "ring/queue_state.h"

namespace chainring {

using namespace detail;

// --- leases with a deadline ---------------------------------------------------------------------

std::uint32_t queue_consumer::lease(std::uint32_t queue, std::span<leased> out,
                                    std::uint64_t deadline) const noexcept {
  queue_table::state& s = *table_->state_;
  CHAINRING_EXPECTS(s.options.timed_leases,
                    "a lease with a deadline in a table without them; set "
                    "queue_table_options::timed_leases when the table is made");
  return s.lease_until(queue, out, deadline);
}

std::uint32_t queue_consumer::expire(std::uint32_t queue, std::uint64_t now,
                                     std::uint32_t n_max) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  std::uint32_t n = 0;
  for (ring_state* r = s.first_of(queue); r != nullptr && r->times != nullptr; r = r->following())
    if (r->earliest().load(std::memory_order_relaxed) <= now) // [queue-estimate]
      n += s.expire_in(*r, now, n_max - n);
  return n;
}

std::uint64_t queue_consumer::earliest_deadline(std::uint32_t queue) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard(s.grace);
  std::uint64_t earliest = no_deadline;
  for (const ring_state* r = s.first_of(queue); r != nullptr && r->times != nullptr;
       r = r->following())
    earliest =
        std::min(earliest, r->earliest().load(std::memory_order_relaxed)); // [queue-estimate]
  return earliest;
}

std::uint32_t queue_consumer::leasable(std::uint32_t queue) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  std::uint64_t n = 0;
  bool ready = false;
  for (const ring_state* r = s.first_of(queue); r != nullptr; r = r->following()) {
    const std::uint32_t returned = r->returned.load(std::memory_order_relaxed); // [returned-hint]
    const std::uint64_t cursor = r->cursor.load(std::memory_order_acquire);     // [cursor-moved]
    const std::uint64_t tail = r->tail(cursor);
    n += returned + (tail - cursor);
    ready = ready || returned != 0;
    std::uint64_t t = cursor + 1;
    for (; t <= tail && !ready; ++t) {
      const mark_state mark = r->state_at(t);
      ready = mark == mark_state::ready;
      if (!is_over(mark)) break;
    }
    // The entries of the next ring are leased once every entry of this one is.
    const ring_state* const next = r->following();
    if (next == nullptr || (!ready && t <= tail) || tail != next->base) break;
  }
  return ready ? static_cast<std::uint32_t>(std::min<std::uint64_t>(n, UINT32_MAX)) : 0;
}

// --- acknowledgements ---------------------------------------------------------------------------

ack_status queue_consumer::ack(std::uint32_t queue, const leased& by) const noexcept {
  queue_table::state& s = *table_->state_;
  if (by.generation() == 0 && s.settle_next(queue, by.ticket())) [[likely]]
    return ack_status::advanced;
  const inside guard = s.consuming(queue);
  return s.settle(queue, by.ticket(), slot_state::acked, by.generation());
}

std::uint32_t queue_consumer::ack_burst(std::uint32_t queue,
                                        std::span<const leased> entries) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  std::uint32_t n = s.settle_run(queue, entries);
  // The rest goes entry by entry: void tickets lie between, a ring ends, or marks have to be read.
  for (; n < entries.size(); ++n) {
    const std::uint64_t ticket = entries[n].ticket();
    if (s.acked_through(queue) + 1 != ticket ||
        s.settle(queue, ticket, slot_state::acked, entries[n].generation()) != ack_status::advanced)
      break;
  }
  return n;
}

leased_run queue_consumer::lease_run(std::uint32_t queue, std::uint32_t n_max) const noexcept {
  queue_table::state& s = *table_->state_;
  ring_state* const r = s.sole_consumer_ring(queue);
  if (r == nullptr || r->times != nullptr || s.medium.failed() ||
      r->returned.load(std::memory_order_relaxed) != 0) [[unlikely]] // [returned-hint]
    return {};
  const std::uint64_t cursor = r->cursor.load(std::memory_order_relaxed); // [single-consumer]

  // The watermark is loaded before `marked`, which then covers the marks up to the watermark.
  const std::uint64_t ready = r->ready.load(std::memory_order_acquire); // [slot-ready]
  if (r->marked_behind(cursor) && !seeded_bug("ring.run_over_marks")) [[unlikely]]
    return {};
  const std::uint32_t at = r->index_of(cursor + 1);
  const std::uint64_t side_by_side = cursor + std::min(n_max, r->size() - at);
  const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [single-consumer]

  const std::uint64_t end = std::min({ready, acked + s.leases_max, side_by_side});
  if (end <= cursor) return {};
  r->cursor.store(end, std::memory_order_release); // [cursor-moved]
  return {r->slots() + at, cursor + 1, static_cast<std::uint32_t>(end - cursor)};
}

// Where no slot behind the prefix has a mark, each entry there is in its first lease.
std::uint32_t queue_consumer::ack_run(std::uint32_t queue, const leased_run& run,
                                      bool& releasing) const noexcept {
  queue_table::state& s = *table_->state_;
  const std::uint64_t last = run.first_ticket + run.count - 1;
  if (ring_state* const r = s.sole_consumer_ring(queue); r != nullptr && run.count != 0)
      [[likely]] {
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [single-consumer]
    if (run.first_ticket == acked + 1 && !r->marked_behind(acked) &&
        last <= r->cursor.load(std::memory_order_relaxed)) [[likely]] { // [single-consumer]
      r->acked.store(last, std::memory_order_release);                  // [prefix-acked]
      if (r->following() == nullptr ? s.release_sole(queue, *r, last)
                                    : table_->release_start(queue)) {
        table_->release_flush(queue);
        releasing = true;
      }
      return run.count;
    }
  }
  std::uint32_t n = 0;
  for (std::uint32_t i = 0; i < run.count; ++i) {
    const inside guard = s.consuming(queue);
    const ack_status a = s.settle(queue, run.first_ticket + i, slot_state::acked, 0);
    if (a == ack_status::marked) flush_slot(queue, run.first_ticket + i);
    n += a != ack_status::ignored ? 1 : 0;
  }
  if (table_->release_start(queue)) {
    table_->release_flush(queue);
    releasing = true;
  }
  return n;
}

bool queue_consumer::nack(std::uint32_t queue, const leased& by) const noexcept {
  return table_->state_->give_back(queue, by.ticket(), by.generation());
}

queue_backlog queue_consumer::backlog(std::uint32_t queue) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  queue_backlog all;
  for (const ring_state* r = s.first_of(queue); r != nullptr; r = r->following()) {
    const std::uint64_t acked = r->acked.load(std::memory_order_acquire); // [prefix-acked]
    const std::uint64_t tail = r->tail(acked);
    if (tail == acked) continue;
    if (all.oldest == 0) all.oldest = acked + 1;
    all.slots += tail - acked;
  }
  return all;
}

bool queue_consumer::releasable(std::uint32_t queue) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  const ring_state* const r = s.first_of(queue);
  if (r == nullptr) return false;
  const std::uint64_t acked = r->acked.load(std::memory_order_acquire); // [prefix-acked]
  const ring_state* const next = r->following();
  return acked != r->head.load(std::memory_order_acquire) || // [prefix-acked]
         (next != nullptr && acked == next->base);
}

std::uint32_t queue_consumer::ack_through(std::uint32_t queue,
                                          std::uint64_t ticket) const noexcept {
  queue_table::state& s = *table_->state_;
  ring_state* r = s.ring_for(queue, ticket);
  if (r == nullptr || ticket <= r->acked.load(std::memory_order_relaxed) || // [single-consumer]
      ticket > r->cursor.load(std::memory_order_relaxed))                   // [single-consumer]
    return 0;
  CHAINRING_EXPECTS(r->mode == queue_mode::mpsc,
                    "a call for queues of one consumer; this queue is in mode mpmc: acknowledge "
                    "each entry by itself");
  const auto through = [&](ring_state& x, std::uint64_t end) {
    const std::uint64_t acked = x.acked.load(std::memory_order_relaxed); // [single-consumer]
    if (x.returned.load(std::memory_order_relaxed) != 0) [[unlikely]] {  // [single-consumer]
      advance(x); // void tickets have no lease that could be settled
      for (std::uint64_t t = acked + 1; t <= end; ++t) {
        if (x.acked.load(std::memory_order_relaxed) >= t) continue; // [single-consumer]
        if (s.settle(queue, t, slot_state::acked, any_generation) != ack_status::advanced) break;
      }
    } else if (end > acked) {
      x.acked.store(end, std::memory_order_release); // [prefix-acked]
      advance(x);
    }
    return static_cast<std::uint32_t>(x.acked.load(std::memory_order_relaxed) -
                                      acked); // [single-consumer]
  };
  std::uint32_t n = 0;
  for (ring_state* x = s.first_of(queue);; x = x->following()) {
    ring_state* const next = x->following();
    const std::uint64_t end = x == r ? ticket : next->base;
    n += through(*x, end);
    if (x == r || x->acked.load(std::memory_order_relaxed) != end) return n; // [single-consumer]
  }
}

// --- states of slots ----------------------------------------------------------------------------

bool queue_consumer::set_state(std::uint32_t queue, std::uint64_t ticket,
                               slot_state to) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  ring_state* const r = s.ring_for(queue, ticket);
  if (r == nullptr) return false;
  if (to == slot_state::pubrec) {
    if (ticket <= r->acked.load(std::memory_order_acquire) || // [prefix-acked]
        ticket > r->cursor.load(std::memory_order_acquire))   // [cursor-moved]
      return false;
    const std::uint32_t i = r->index_of(ticket);
    if (passed_state(r->marks[i].load(std::memory_order_acquire), ticket) !=
        mark_state::ready) // [slot-ready]
      return false;
    // Only this consumer changes the tag.
    std::uint64_t was = word_of(r->slots()[i].tag);
    const slot_tag next{ticket, slot_state::pubrec};
    return was != next.pack(queue) && may_be_delivered(*r, was, ticket) &&
           s.medium.compare_exchange(&r->slots()[i].tag, was,
                                     next.pack(queue)); // [tag-with-burst]
  }
  CHAINRING_EXPECTS(to == slot_state::moved || to == slot_state::dropped,
                    "an entry is settled as moved or dropped; acknowledge it by ack()");
  return s.settle(queue, ticket, to, any_generation) == ack_status::marked;
}

void queue_consumer::flush_slot(std::uint32_t queue, std::uint64_t ticket) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  const ring_state* const r = s.ring_for(queue, ticket);
  if (r == nullptr || ticket <= r->base) return; // the head has passed it, durably
  // [tag-with-burst] Without it PUBREL could leave although a crash takes the PUBREC back. Crash
  // between: the entry is delivered again.
  s.medium.flush(&r->slots()[r->index_of(ticket)], sizeof(ring_slot)); // [tag-with-burst]
}

// --- the queue ----------------------------------------------------------------------------------

bool queue_consumer::set_mode(std::uint32_t queue, queue_mode mode) const noexcept {
  return table_->state_->set_mode(queue, mode);
}

std::uint64_t queue_consumer::oldest_published_ns(std::uint32_t queue) const noexcept {
  queue_table::state& s = *table_->state_;
  const inside guard = s.consuming(queue);
  if (s.messages == nullptr) return 0;
  const message_table::reading mine(*s.messages);
  for (const ring_state* r = s.first_of(queue); r != nullptr; r = r->following()) {
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [single-consumer]
    const std::uint64_t tail = r->tail(acked);
    for (std::uint64_t t = acked + 1; t <= tail; ++t) {
      const std::uint32_t i = r->index_of(t);
      const mark_state mark = r->state_at(t);
      if (is_over(mark)) continue;
      message_view v;
      if (mark == mark_state::unready ||
          s.messages->view(slot_ref(word_of(r->slots()[i].ref)).message(), v) != message_status::ok)
        return 0;
      return v.fields.published_ns;
    }
  }
  return 0;
}

} // namespace chainring
