// SPDX-License-Identifier: BSD-3-Clause
// Consumers: leases by a cursor of their own, and acknowledgements, ring after ring. rte_ring's
// consumer side only releases: release.cc.
//
// Each ring has a cursor and a prefix of what is done with; the queue's are those of its oldest
// ring that is not through. An ack is in order only there: in a later ring the slot says so, for
// the head does not reach it yet.
//
// Edges and crash windows: see ring.cc. Here [A2], [A10], [R2], [R3 -> R4], [C1], [C2], [K1], [K2],
// [K3], [E1], [E2], [E3], [E4], [M2], [P16].
#include <algorithm>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

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

namespace {

/// The leases just had, `out` of one ring, end at `deadline`.
void set_deadlines(ring_state& r, std::span<const leased> out, std::uint64_t deadline) noexcept {
  if (out.empty()) return;
  hook_point("ring.lease.timing");
  for (const leased& e : out) {
    lease_time& t = r.time_of(e.ticket());
    t.until.store(deadline, std::memory_order_relaxed); // [E1] before its name
    // [E1] release: pairs with [E2]. Until it is stored, nobody ends this lease.
    t.whose.store(lease_name(e.ticket(), e.generation()), std::memory_order_release); // [E1]
  }
  std::atomic<std::uint64_t>& earliest = r.earliest();
  std::uint64_t seen = earliest.load(std::memory_order_relaxed); // [E3] the exchange decides
  if (r.mode == queue_mode::mpsc) {                              // one consumer
    if (deadline < seen) earliest.store(deadline, std::memory_order_relaxed); // [E3] own
    return;
  }
  // [E3] exchanged even where it stays: whoever takes it later at [E4] sees the deadlines, and who
  //      took it before is told of them here.
  while (!earliest.compare_exchange_weak(seen, std::min(seen, deadline), std::memory_order_acq_rel,
                                         std::memory_order_relaxed)) { // [E3] pairs with [E4]
  }
}

} // namespace

std::uint32_t queue_table::lease(std::uint32_t queue, std::span<leased> out) noexcept {
  return state_->lease_until(queue, out, no_deadline);
}

std::uint32_t queue_table::state::lease_until(std::uint32_t queue, std::span<leased> out,
                                              std::uint64_t deadline) noexcept {
  const inside here = consuming(queue);
  ring_state* r = first_of(queue);
  if (r == nullptr) return 0;
  std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [K2] mpsc: its only writer
  std::uint32_t n = 0;
  for (;;) {
    const std::uint32_t before = n;
    if (r->returned.load(std::memory_order_relaxed) != 0) [[unlikely]] // [C2] a hint
      n += lease_returned(*r, out.subspan(n));
    n += r->mode == queue_mode::mpmc ? lease_shared(*r, out.subspan(n))
                                     : lease_ready(queue, *r, acked, out.subspan(n));
    if (r->times != nullptr) set_deadlines(*r, out.subspan(before, n - before), deadline);
    if (n == out.size()) return n;
    // The next ring, once this one is leased to its end.
    ring_state* const next = r->following();
    if (next == nullptr || (r->cursor.load(std::memory_order_acquire) != next->base && // [C2]
                            !seeded_bug("ring.lease_ahead")))
      return n;
    if (acked == next->base) acked = next->acked.load(std::memory_order_relaxed); // [K2] likewise
    r = next;
  }
}

// One consumer. `acked`: the queue's, which may be in an older ring.
std::uint32_t queue_table::state::lease_ready(std::uint32_t queue, ring_state& r,
                                              std::uint64_t& acked,
                                              std::span<leased> out) noexcept {
  std::uint32_t n = 0;
  std::uint64_t cursor = r.cursor.load(std::memory_order_relaxed); // [C2] its only writer
  const std::uint64_t tail = r.tail(cursor);
  for (;;) {
    // Tickets leased at one time span fewer than there are packet ids.
    const std::uint64_t limit = std::min(tail, acked + packet_id_count - 1);
    slot_tag_run queued(r.queue, cursor + 1, slot_state::queued);
    for (; cursor < limit && n < out.size(); queued.next()) {
      const std::uint64_t ticket = cursor + 1;
      const std::uint32_t i = r.index_of(ticket);
      // [R2] acquire: pairs with the release [R1] in place_finish().
      //      Without it the slot is read before it is placed, and handed out before it is durable.
      const std::uint32_t mark = r.marks[i].load(std::memory_order_acquire); // [R2] with [R1]
      const mark_state s = state_of(mark, ticket);
      if (s == mark_state::ready) [[likely]] {
        const std::uint64_t tag = word_of(r.slots[i].tag);
        if (tag == queued.tag() || may_be_delivered(r, tag, ticket)) [[likely]]
          out[n++] = {slot_ref(word_of(r.slots[i].ref)),
                      handed_out(tag, mark, ticket <= r.delivered)};
        else // the medium changed under us
          r.marks[i].store(mark_of(ticket, mark_state::done), std::memory_order_relaxed); // [K3]
      } else if (s == mark_state::unready) {
        break;
      }
      cursor = ticket;
    }
    r.cursor.store(cursor, std::memory_order_release); // [C1] pairs with [C2]
    if (cursor < limit || limit == tail || n == out.size()) [[likely]]
      return n;
    // At the end of the window, which what is void at its beginning does not hold up.
    const std::uint64_t now = settled(queue);
    if (now == acked) return n;
    acked = now;
  }
}

// The queue's prefix of what is done with, gone on with in each ring. mpsc mode.
std::uint64_t queue_table::state::settled(std::uint32_t queue) const noexcept {
  for (ring_state* r = first_of(queue);; r = r->following()) {
    advance(*r);
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [K2] its only writer
    const ring_state* const next = r->following();
    if (next == nullptr || acked != next->base) return acked;
  }
}

namespace {

/// Leased by nobody else: an entry that the medium no longer shows as one is over.
void end_undeliverable(ring_state& r, std::uint64_t ticket) noexcept {
  const std::uint32_t i = r.index_of(ticket);
  std::uint32_t mark = r.marks[i].load(std::memory_order_acquire); // [R2] as in lease()
  if (state_of(mark, ticket) != mark_state::ready ||
      may_be_delivered(r, word_of(r.slots[i].tag), ticket))
    return;
  r.marks[i].compare_exchange_strong(mark, mark_as(mark, mark_state::done),
                                     std::memory_order_acq_rel,
                                     std::memory_order_relaxed); // [K3] pairs with [R2]
}

} // namespace

// Several consumers: what is read is handed out only if the cursor was still there when it was
// moved. Until then nobody has leased those entries, so nobody can have released their slots.
std::uint32_t queue_table::state::lease_shared(ring_state& r, std::span<leased> out) noexcept {
  std::uint64_t from = r.cursor.load(std::memory_order_acquire); // [C2] pairs with [C1]
  for (;;) {
    const std::uint64_t tail = r.tail(from);
    std::uint64_t cursor = from;
    std::uint32_t n = 0;
    bool damaged = false; // the medium changed under us
    while (cursor < tail && n < out.size()) {
      const std::uint64_t ticket = cursor + 1;
      const std::uint32_t i = r.index_of(ticket);
      const std::uint32_t mark = r.marks[i].load(std::memory_order_acquire); // [R2] as in lease()
      const mark_state s = state_of(mark, ticket);
      if (s == mark_state::unready) break;
      if (s == mark_state::ready) {
        const std::uint64_t tag = word_of(r.slots[i].tag);
        if (may_be_delivered(r, tag, ticket))
          out[n++] = {slot_ref(word_of(r.slots[i].ref)),
                      handed_out(tag, mark, ticket <= r.delivered)};
        else
          damaged = true;
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
    if (!r.cursor.compare_exchange_strong(from, cursor, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) // [C1] pairs with [C2]
      continue;
    for (std::uint64_t t = from + 1; damaged && t <= cursor; ++t)
      end_undeliverable(r, t);
    return n;
  }
}

// Entries that nack() gave back: rare, and near the head.
std::uint32_t queue_table::state::lease_returned(ring_state& r, std::span<leased> out) noexcept {
  std::uint32_t n = 0;
  const std::uint64_t cursor = r.cursor.load(std::memory_order_acquire); // [C2] pairs with [C1]
  for (std::uint64_t t = r.acked.load(std::memory_order_acquire) + 1;    // [K2] pairs with [K1]
       t <= cursor && n < out.size(); ++t) {
    const std::uint32_t i = r.index_of(t);
    std::uint32_t mark = r.marks[i].load(std::memory_order_relaxed); // [R2] the exchange acquires
    if (state_of(mark, t) != mark_state::returned ||
        !r.marks[i].compare_exchange_strong(mark, mark_as(mark, mark_state::ready),
                                            std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) // [K3] pairs with [R2]
      continue;
    r.returned.fetch_sub(1, std::memory_order_relaxed); // [C1] a hint
    const std::uint64_t tag = word_of(r.slots[i].tag);
    if (may_be_delivered(r, tag, t))
      out[n++] = {slot_ref(word_of(r.slots[i].ref)), handed_out(tag, mark, true)};
    else
      end_undeliverable(r, t);
  }
  return n;
}

namespace {

/// The lease that `mark` was read of goes back. False: it has ended otherwise.
bool hand_back(ring_state& r, std::uint64_t ticket, std::uint32_t mark) noexcept {
  r.returned.fetch_add(1, std::memory_order_relaxed); // [C1] a hint, before there is one to find
  const std::uint32_t back = seeded_bug("ring.lease_unnamed")
                                 ? mark_as(mark, mark_state::returned)
                                 : mark_given_back(ticket, mark, mark_state::returned);
  if (r.marks[r.index_of(ticket)].compare_exchange_strong(
          mark, back, std::memory_order_acq_rel, std::memory_order_relaxed)) // [K3] with [R2]
    return true;
  r.returned.fetch_sub(1, std::memory_order_relaxed); // [C1] a hint
  return false;
}

} // namespace

bool queue_table::state::give_back(std::uint32_t queue, std::uint64_t ticket,
                                   std::uint32_t generation) noexcept {
  const inside here = consuming(queue);
  ring_state* const r = ring_for(queue, ticket);
  if (r == nullptr || ticket <= r->acked.load(std::memory_order_acquire) || // [K2]
      ticket > r->cursor.load(std::memory_order_acquire))                   // [C2]
    return false;
  const std::uint32_t mark =
      r->marks[r->index_of(ticket)].load(std::memory_order_relaxed); // [R2] the exchange acquires
  return state_of(mark, ticket) == mark_state::ready &&
         (generation == any_generation || generation == generation_of(mark)) &&
         hand_back(*r, ticket, mark);
}

bool queue_table::nack(std::uint32_t queue, std::uint64_t ticket) noexcept {
  return state_->give_back(queue, ticket, any_generation);
}

std::uint32_t queue_table::state::expire_in(ring_state& r, std::uint64_t now,
                                            std::uint32_t n_max) noexcept {
  // [E4] acquire: pairs with [E3]. Taken away first: what is not seen below was leased a moment ago
  //      and lowers it again. Without that such a lease would never end.
  if (!seeded_bug("ring.expire_takes_late"))
    r.earliest().exchange(no_deadline, std::memory_order_acq_rel); // [E4] pairs with [E3]
  std::uint32_t n = 0;
  std::uint64_t left = no_deadline;
  const std::uint64_t cursor = r.cursor.load(std::memory_order_acquire); // [C2] pairs with [C1]
  for (std::uint64_t t = r.acked.load(std::memory_order_acquire) + 1;    // [K2] pairs with [K1]
       t <= cursor; ++t) {
    const std::uint32_t mark = r.marks[r.index_of(t)].load(std::memory_order_acquire); // [R2]
    if (state_of(mark, t) != mark_state::ready) continue;
    const lease_time& time = r.time_of(t);
    // [E2] acquire: pairs with [E1]. Another lease's deadline says nothing of this one.
    if (time.whose.load(std::memory_order_acquire) != lease_name(t, generation_of(mark)) && // [E2]
        !seeded_bug("ring.expire_stale"))
      continue;
    const std::uint64_t until = time.until.load(std::memory_order_relaxed); // [E2] behind its name
    if (until == no_deadline) continue;
    hook_point("ring.expire.chosen");
    // Where it has been acknowledged or given back meanwhile, the mark is another.
    if (until > now || n == n_max)
      left = std::min(left, until);
    else
      n += hand_back(r, t, mark);
  }
  if (seeded_bug("ring.expire_takes_late")) {
    r.earliest().store(left, std::memory_order_relaxed); // [E4] the wrong way round
    return n;
  }
  std::uint64_t seen = r.earliest().load(std::memory_order_relaxed); // [E3] the exchange decides
  while (left < seen &&
         !r.earliest().compare_exchange_weak(seen, left, std::memory_order_acq_rel,
                                             std::memory_order_relaxed)) { // [E3] pairs with [E4]
  }
  return n;
}

void queue_table::rewind(std::uint32_t queue) noexcept {
  state& s = *state_;
  const inside here = s.consuming(queue);
  for (ring_state* r = s.first_of(queue); r != nullptr; r = r->following()) {
    const std::uint64_t cursor = r->cursor.load(std::memory_order_relaxed); // [C2] nobody leases
    advance(*r);
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [K2] likewise
    r->returned.store(0, std::memory_order_relaxed);                      // [C1] likewise
    for (std::uint64_t t = acked + 1; t <= cursor; ++t) {
      std::atomic<std::uint32_t>& mark = r->marks[r->index_of(t)];
      std::uint32_t was = mark.load(std::memory_order_relaxed); // [R2] the exchange acquires
      if (const mark_state s = state_of(was, t);
          s == mark_state::ready || s == mark_state::returned)
        mark.compare_exchange_strong(was, mark_given_back(t, was, mark_state::ready),
                                     std::memory_order_acq_rel,
                                     std::memory_order_relaxed); // [K3] else an ack was quicker
    }
    r->delivered = std::max(r->delivered, cursor);
    r->cursor.store(acked, std::memory_order_release); // [C1] pairs with [C2]
  }
}

std::uint64_t queue_table::resolve(std::uint32_t queue, std::uint16_t packet_id) const noexcept {
  state& s = *state_;
  const inside here(s.grace);
  const ring_state* r = s.first_of(queue);
  if (r == nullptr || packet_id == 0 || packet_id > packet_id_count) return 0;
  std::uint64_t acked = r->acked.load(std::memory_order_acquire); // [K2] pairs with [K1]
  for (const ring_state* x = r->following(); x != nullptr && acked == x->base; x = x->following())
    acked = x->acked.load(std::memory_order_acquire); // [K2] pairs with [K1]
  const std::uint64_t ahead =
      (packet_id + packet_id_count - packet_id_of(acked + 1)) % packet_id_count;
  const std::uint64_t ticket = acked + 1 + ahead;
  r = s.ring_for(queue, ticket);
  if (r == nullptr || ticket <= r->base ||
      ticket > r->cursor.load(std::memory_order_acquire)) // [C2] pairs with [C1]
    return 0;
  const std::uint32_t mark =
      r->marks[r->index_of(ticket)].load(std::memory_order_acquire); // [R2] as in lease()
  return state_of(mark, ticket) == mark_state::ready ? ticket : 0;
}

// --- acknowledgements ---------------------------------------------------------------------------

namespace {

/// Everything in the rings before `r` is done with.
bool is_oldest(const ring_state* first, const ring_state* r) noexcept {
  if (seeded_bug("ring.ack_order_of_ring")) return true;
  for (; first != r; first = first->following()) {
    const ring_state* const next = first->following();
    if (next == nullptr || first->acked.load(std::memory_order_acquire) != next->base) // [K2]
      return false;
  }
  return true;
}

} // namespace

// The lease of `ticket` ends: the prefix grows, or the slot says so.
ack_status queue_table::state::settle(std::uint32_t queue, std::uint64_t ticket, slot_state to,
                                      std::uint32_t generation) noexcept {
  ring_state* const of = ring_for(queue, ticket);
  if (of == nullptr) return ack_status::ignored;
  ring_state& r = *of;
  const std::uint64_t acked = r.acked.load(std::memory_order_acquire);      // [K2] pairs with [K1]
  if (ticket <= acked || ticket > r.cursor.load(std::memory_order_acquire)) // [C2] with [C1]
    return ack_status::ignored;
  const bool in_order =
      ticket == acked + 1 && to == slot_state::acked && is_oldest(first_of(queue), of);
  std::atomic<std::uint32_t>& mark = r.marks[r.index_of(ticket)];
  std::uint32_t leased_now = mark.load(std::memory_order_relaxed); // [R2] by who leased it
  if (state_of(leased_now, ticket) != mark_state::ready ||
      (generation != any_generation && generation != generation_of(leased_now)))
    return ack_status::ignored;
  if (r.mode == queue_mode::mpsc) {
    if (in_order) {
      r.acked.store(ticket, std::memory_order_release); // [K1] pairs with [K2]
      advance(r);
      return ack_status::advanced;
    }
    mark.store(mark_as(leased_now, mark_state::done),
               std::memory_order_release); // [K3] one consumer
  } else {
    // [K3] acq_rel: one acker ends the lease; the releaser that sees it done sees all before.
    if (!mark.compare_exchange_strong(leased_now, mark_as(leased_now, mark_state::done),
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
  while (may_be_delivered(r, was, ticket) && !seeded_bug("ring.ack_in_memory"))
    if (medium.compare_exchange(&tag, was,
                                slot_tag{ticket, to}.pack(queue))) // [P16] before its flush
      break;
  advance(r);
  return ack_status::marked;
}

ack_status queue_table::ack(std::uint32_t queue, std::uint64_t ticket) noexcept {
  const inside here = state_->consuming(queue);
  return state_->settle(queue, ticket, slot_state::acked, any_generation);
}

} // namespace chainring
