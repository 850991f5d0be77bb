// SPDX-License-Identifier: BSD-3-Clause
// Consumers: leases, which have a cursor of their own, and acknowledgements, ring after ring.
// rte_ring's consumer side only frees slots: release.cc.
//
// Each ring has a cursor and a prefix of tickets that are done. The queue's cursor and prefix are
// those of its oldest ring that still has entries. Only there an acknowledgement can be in order.
// An acknowledgement in a later ring is stored in the slot, because the head does not reach it yet.
//
// The ordering labels are described in ring.cc.
#include <algorithm>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

void detail::advance(ring_state& r) noexcept {
  std::uint64_t acked = r.acked.load(std::memory_order_acquire); // [prefix-acked]
  const std::uint64_t from = acked;
  const std::uint64_t cursor = r.cursor.load(std::memory_order_acquire); // [cursor-moved]
  if (acked == cursor || (r.mode == queue_mode::mpsc && !r.marked_behind(acked))) return;
  while (acked < cursor) {
    const slot_mark mark = r.marks[r.index_of(acked + 1)].load(
        std::memory_order_acquire); // [slot-ready] [lease-ended]
    if (!is_over(passed_state(mark, acked + 1))) break;
    ++acked;
  }
  if (acked == from) return;
  if (r.mode == queue_mode::mpsc) {
    r.acked.store(acked, std::memory_order_release); // [prefix-acked]
    return;
  }
  // Where another thread moved `acked` meanwhile, that thread continued from there.
  std::uint64_t expected = from;
  r.acked.compare_exchange_strong(expected, acked, std::memory_order_acq_rel,
                                  std::memory_order_relaxed); // [prefix-acked]
}

// --- leases -------------------------------------------------------------------------------------

namespace {

/// Sets `deadline` for leases that were just handed out; `out` holds entries of one ring.
void set_deadlines(ring_state& r, std::span<const leased> out, std::uint64_t deadline) noexcept {
  if (out.empty()) return;
  hook_point("ring.lease.timing");
  for (const leased& e : out) {
    lease_time& t = r.time_of(e.ticket());
    // No thread ends this lease before its number is stored.
    // [deadline-named] Without it a lease could end at the deadline of an earlier lease of the
    // slot.
    t.deadline.store(deadline, std::memory_order_relaxed); // [deadline-named]
    t.lease_id.store(lease_id_of(e.ticket(), e.generation()),
                     std::memory_order_release); // [deadline-named]
  }
  std::atomic<std::uint64_t>& earliest = r.earliest();
  std::uint64_t seen = earliest.load(std::memory_order_relaxed); // [exchange-decides]
  if (r.mode == queue_mode::mpsc) {
    if (deadline < seen) earliest.store(deadline, std::memory_order_relaxed); // [single-consumer]
    return;
  }
  // The value is exchanged even where it stays the same. An expire() that takes it later then sees
  // these deadlines, and one that took it before finds it lowered again.
  // [earliest-deadline] Without it a lease could never end.
  while (!earliest.compare_exchange_weak(seen, std::min(seen, deadline), std::memory_order_acq_rel,
                                         std::memory_order_relaxed)) { // [earliest-deadline]
  }
}

} // namespace

std::uint32_t queue_table::lease(std::uint32_t queue, std::span<leased> out) noexcept {
  std::uint32_t n = 0;
  ring_state* const r = state_->sole_consumer_ring(queue);
  if (r != nullptr && r->times == nullptr && r->returned.load(std::memory_order_relaxed) == 0)
      [[likely]] {                                                        // [returned-hint]
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [single-consumer]
    bool all = false;
    n = state_->lease_unmarked(*r, acked, out, all);
    if (n == out.size() || (all && r->following() == nullptr)) [[likely]]
      return n;
  }
  return n + state_->lease_until(queue, out.subspan(n), no_deadline);
}

bool queue_table::lease_placed(std::uint32_t queue, const placement& p) noexcept {
  ring_state* const r = state_->sole_consumer_ring(queue);
  if (r == nullptr || r != p.ring || p.count == 0) return false;
  const std::uint64_t cursor = r->cursor.load(std::memory_order_relaxed); // [single-consumer]
  const std::uint64_t end = cursor + p.count;
  if (p.first_ticket != cursor + 1 || r->times != nullptr ||
      r->ready.load(std::memory_order_acquire) < end || // [slot-ready]
      r->marked_behind(cursor) ||
      r->returned.load(std::memory_order_relaxed) != 0 ||                  // [returned-hint]
      end > r->acked.load(std::memory_order_relaxed) + state_->leases_max) // [single-consumer]
    return false;
  r->cursor.store(end, std::memory_order_release); // [cursor-moved]
  return true;
}

bool queue_table::may_lease(std::uint32_t queue) const noexcept {
  const queue_state& q = state_->queue_at(queue);
  const ring_state* const r = q.first.load(std::memory_order_acquire); // [ring-published]
  if (r == nullptr) return false;
  if (q.mode.load(std::memory_order_relaxed) == queue_mode::mpmc) return true; // [mode-changed]
  const std::uint64_t cursor = r->cursor.load(std::memory_order_relaxed);      // [single-consumer]
  return r->ready.load(std::memory_order_relaxed) > cursor ||                  // [returned-hint]
         r->marked_behind(cursor) ||
         r->returned.load(std::memory_order_relaxed) != 0 || // [returned-hint]
         r->following() != nullptr;
}

std::uint32_t queue_table::state::lease_until(std::uint32_t queue, std::span<leased> out,
                                              std::uint64_t deadline) noexcept {
  const inside guard = consuming(queue);
  ring_state* r = first_of(queue);
  if (r == nullptr) return 0;
  std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [single-consumer]
  std::uint32_t n = 0;
  for (;;) {
    const std::uint32_t before = n;
    if (r->returned.load(std::memory_order_relaxed) != 0) [[unlikely]] // [returned-hint]
      n += lease_returned(*r, out.subspan(n));
    n += r->mode == queue_mode::mpmc ? lease_shared(*r, out.subspan(n))
                                     : lease_ready(queue, *r, acked, out.subspan(n));
    if (r->times != nullptr) set_deadlines(*r, out.subspan(before, n - before), deadline);
    if (n == out.size()) return n;
    // The next ring is used once every entry of this one is leased.
    ring_state* const next = r->following();
    if (next == nullptr ||
        (r->cursor.load(std::memory_order_acquire) != next->base && // [cursor-moved]
         !seeded_bug("ring.lease_ahead")))
      return n;
    if (acked == next->base)
      acked = next->acked.load(std::memory_order_relaxed); // [single-consumer]
    r = next;
  }
}

namespace {

/// Copies up to `n` entries, from the ticket `first` on, that no mark names and that are ready, as
/// far as their slots hold what was placed. Returns how many.
std::uint32_t copy_unmarked(const ring_state& r, std::uint64_t first, std::uint32_t n,
                            leased* out) noexcept {
  slot_tag_run queued(r.queue, first, slot_state::queued);
  std::uint32_t at = r.index_of(first);
  const leased* const begin = out;
  for (;;) {
    const std::uint32_t k = std::min({n, slot_tag_run::part, r.size() - at});
    const std::uint64_t* checks = queued.checks();
    std::uint64_t tag = queued.word(); // as it is handed out: without the check
    const ring_slot* s = r.slots() + at;
    // Copies an entry and returns 0 where its slot holds what was placed.
    const auto one = [&](std::uint32_t i) {
      out[i].ref.word = word_of(s[i].ref);
      out[i].tag = tag + i;
      return word_of(s[i].tag) ^ ((tag + i) | checks[i]);
    };
    const auto go_on = [&](std::uint32_t by) {
      s += by;
      out += by;
      checks += by;
      tag += by;
    };
    std::uint32_t left = k;
    for (;
         left >= 8 && (one(0) | one(1) | one(2) | one(3) | one(4) | one(5) | one(6) | one(7)) == 0;
         left -= 8)
      go_on(8);
    for (; left >= 4 && (one(0) | one(1) | one(2) | one(3)) == 0; left -= 4)
      go_on(4);
    for (; left != 0 && one(0) == 0; --left)
      go_on(1);
    n -= k;
    if (left != 0 || n == 0) return static_cast<std::uint32_t>(out - begin);
    queued.skip(k);
    at = (at + k) & r.mask;
  }
}

} // namespace

// Leases for the one consumer of an mpsc queue. `acked` is the queue's prefix, which may lie in an
// older ring.
std::uint32_t queue_table::state::lease_ready(std::uint32_t queue, ring_state& r,
                                              std::uint64_t& acked,
                                              std::span<leased> out) noexcept {
  bool all = false;
  const std::uint32_t n = lease_unmarked(r, acked, out, all);
  if (n == out.size() || all) return n;
  return n + lease_marked(queue, r, acked, out.subspan(n));
}

// The usual case: no slot behind the cursor has a mark. `all` says that no more entries of this
// ring are ready.
inline std::uint32_t queue_table::state::lease_unmarked(ring_state& r, std::uint64_t acked,
                                                        std::span<leased> out,
                                                        bool& all) const noexcept {
  std::uint64_t cursor = r.cursor.load(std::memory_order_relaxed); // [single-consumer]
  // The watermark is loaded before `marked`, which then covers the marks up to the watermark.
  const std::uint64_t ready = r.ready.load(std::memory_order_acquire); // [slot-ready]
  if (r.marked_behind(cursor)) [[unlikely]]
    return 0;
  const std::uint64_t end = std::min({ready, acked + leases_max, cursor + out.size()});
  std::uint32_t n = 0;
  if (end == cursor + 1) {
    const ring_slot& s = r.slots()[r.index_of(end)];
    const std::uint64_t tag = word_of(s.tag);
    n = tag == slot_tag{end, slot_state::queued}.pack(r.queue);
    if (n != 0) out[0] = {slot_ref(word_of(s.ref)), handed_out(tag, 0, false)};
  } else if (end > cursor) {
    n = copy_unmarked(r, cursor + 1, static_cast<std::uint32_t>(end - cursor), out.data());
  }
  cursor += n;
  // [cursor-moved] Without it an entry could be leased twice, or an ack could count for a ticket
  // that is not leased.
  if (n != 0) r.cursor.store(cursor, std::memory_order_release); // [cursor-moved]
  all = cursor >= ready && !r.marked_behind(cursor);
  return n;
}

// The same where slots behind the cursor may have marks, or the lease span is used up.
[[gnu::noinline]] std::uint32_t queue_table::state::lease_marked(std::uint32_t queue, ring_state& r,
                                                                 std::uint64_t& acked,
                                                                 std::span<leased> out) noexcept {
  std::uint32_t n = 0;
  std::uint64_t cursor = r.cursor.load(std::memory_order_relaxed); // [single-consumer]
  const std::uint64_t tail = r.tail(cursor);
  for (;;) {
    const std::uint64_t limit = std::min(tail, acked + leases_max);
    if (cursor >= limit && limit == tail) return n;
    while (cursor < limit && n < out.size()) {
      const std::uint64_t ticket = cursor + 1;
      const std::uint32_t i = r.index_of(ticket);
      slot_mark mark = 0;
      const mark_state s = r.state_at(ticket, mark);
      if (s == mark_state::ready) [[likely]] {
        const std::uint64_t tag = word_of(r.slots()[i].tag);
        if (may_be_delivered(r, tag, ticket)) [[likely]] {
          out[n++] = {slot_ref(word_of(r.slots()[i].ref)),
                      handed_out(tag, generation_of(mark, ticket), ticket <= r.delivered)};
        } else {                  // the medium has changed since recovery validated the slot
          r.raise_marked(ticket); // [mark-announced]
          r.marks[i].store(mark_of(ticket, mark_state::done),
                           std::memory_order_relaxed); // [lease-ended]
        }
      } else if (s == mark_state::unready) {
        break;
      }
      cursor = ticket;
    }
    r.cursor.store(cursor, std::memory_order_release); // [cursor-moved]
    if (cursor < limit || limit == tail || n == out.size()) [[likely]]
      return n;
    // The window of packet ids is used up. Void tickets at its beginning need no acknowledgement,
    // so the window may move on.
    const std::uint64_t now = settled(queue);
    if (now == acked) return n;
    acked = now;
  }
}

// Moves `acked` forward in each ring and returns the queue's prefix. Only in mpsc mode.
std::uint64_t queue_table::state::settled(std::uint32_t queue) const noexcept {
  for (ring_state* r = first_of(queue);; r = r->following()) {
    advance(*r);
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [single-consumer]
    const ring_state* const next = r->following();
    if (next == nullptr || acked != next->base) return acked;
  }
}

namespace {

/// Ends an entry whose slot on the medium no longer holds it. The caller is the only one that
/// leases it.
void end_undeliverable(ring_state& r, std::uint64_t ticket) noexcept {
  const std::uint32_t i = r.index_of(ticket);
  slot_mark mark = r.marks[i].load(std::memory_order_acquire); // [slot-ready]
  if (passed_state(mark, ticket) != mark_state::ready ||
      may_be_delivered(r, word_of(r.slots()[i].tag), ticket))
    return;
  r.raise_marked(ticket); // [mark-announced]
  r.marks[i].compare_exchange_strong(mark, mark_as(mark, ticket, mark_state::done),
                                     std::memory_order_acq_rel,
                                     std::memory_order_relaxed); // [lease-ended]
}

} // namespace

// Leases for several consumers. The entries that were read are handed out only if the cursor is
// still where it was when it is moved. Until then no consumer has leased them, so no thread can
// have released their slots.
std::uint32_t queue_table::state::lease_shared(ring_state& r, std::span<leased> out) noexcept {
  std::uint64_t from = r.cursor.load(std::memory_order_acquire); // [cursor-moved]
  for (;;) {
    std::uint64_t cursor = from;
    std::uint32_t n = 0;
    bool damaged = false; // the medium has changed since recovery validated the slots
    const std::uint64_t ready = r.ready.load(std::memory_order_acquire); // [slot-ready]
    if (ready > from && !r.marked_behind(from)) [[likely]] { // no slot behind the cursor has a mark
      const std::uint64_t most = std::min<std::uint64_t>(ready - from, out.size());
      n = copy_unmarked(r, from + 1, static_cast<std::uint32_t>(most), out.data());
      cursor += n;
    }
    const bool all = n == out.size() || (cursor >= ready && !r.marked_behind(cursor));
    const std::uint64_t tail = all ? cursor : r.tail(from);
    while (cursor < tail && n < out.size()) {
      const std::uint64_t ticket = cursor + 1;
      const std::uint32_t i = r.index_of(ticket);
      slot_mark mark = 0;
      const mark_state s = r.state_at(ticket, mark);
      if (s == mark_state::unready) break;
      if (s == mark_state::ready) {
        const std::uint64_t tag = word_of(r.slots()[i].tag);
        if (may_be_delivered(r, tag, ticket))
          out[n++] = {slot_ref(word_of(r.slots()[i].ref)),
                      handed_out(tag, generation_of(mark, ticket), ticket <= r.delivered)};
        else
          damaged = true;
      }
      cursor = ticket;
    }
    if (cursor == from) return 0;
    hook_point("ring.lease.chosen");
    // The exchange gives these entries to one consumer only.
    if (seeded_bug("ring.lease_race")) [[unlikely]] {
      r.cursor.store(cursor, std::memory_order_release); // [cursor-moved]
      return n;
    }
    if (!r.cursor.compare_exchange_strong(from, cursor, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) // [cursor-moved]
      continue;
    for (std::uint64_t t = from + 1; damaged && t <= cursor; ++t)
      end_undeliverable(r, t);
    return n;
  }
}

// Leases entries that nack() gave back. They are rare, and near the head.
std::uint32_t queue_table::state::lease_returned(ring_state& r, std::span<leased> out) noexcept {
  std::uint32_t n = 0;
  const std::uint64_t cursor = r.cursor.load(std::memory_order_acquire); // [cursor-moved]
  for (std::uint64_t t = r.acked.load(std::memory_order_acquire) + 1;    // [prefix-acked]
       t <= cursor && n < out.size(); ++t) {
    const std::uint32_t i = r.index_of(t);
    slot_mark mark = r.marks[i].load(std::memory_order_relaxed); // [exchange-decides]
    if (passed_state(mark, t) != mark_state::returned ||
        !r.marks[i].compare_exchange_strong(mark, mark_as(mark, t, mark_state::ready),
                                            std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) // [lease-ended]
      continue;
    r.returned.fetch_sub(1, std::memory_order_relaxed); // [returned-hint]
    const std::uint64_t tag = word_of(r.slots()[i].tag);
    if (may_be_delivered(r, tag, t))
      out[n++] = {slot_ref(word_of(r.slots()[i].ref)),
                  handed_out(tag, generation_of(mark, t), true)};
    else
      end_undeliverable(r, t);
  }
  return n;
}

namespace {

/// Gives back the lease that `mark` was read of. False: the lease has ended otherwise.
bool hand_back(ring_state& r, std::uint64_t ticket, slot_mark mark) noexcept {
  r.raise_marked(ticket); // [mark-announced]

  // The count rises before there is an entry to find.
  r.returned.fetch_add(1, std::memory_order_relaxed); // [returned-hint]
  const slot_mark back = seeded_bug("ring.lease_unnamed")
                             ? mark_as(mark, ticket, mark_state::returned)
                             : mark_given_back(ticket, mark, mark_state::returned);
  if (r.marks[r.index_of(ticket)].compare_exchange_strong(
          mark, back, std::memory_order_acq_rel, std::memory_order_relaxed)) // [lease-ended]
    return true;
  r.returned.fetch_sub(1, std::memory_order_relaxed); // [returned-hint]
  return false;
}

} // namespace

bool queue_table::state::give_back(std::uint32_t queue, std::uint64_t ticket,
                                   std::uint32_t generation) noexcept {
  const inside guard = consuming(queue);
  ring_state* const r = ring_for(queue, ticket);
  if (r == nullptr || ticket <= r->acked.load(std::memory_order_acquire) || // [prefix-acked]
      ticket > r->cursor.load(std::memory_order_acquire))                   // [cursor-moved]
    return false;
  hook_point("ring.give_back.chosen");
  const slot_mark mark =
      r->marks[r->index_of(ticket)].load(std::memory_order_relaxed); // [exchange-decides]
  return passed_state(mark, ticket) == mark_state::ready &&
         (generation == any_generation || generation == generation_of(mark, ticket)) &&
         hand_back(*r, ticket, mark);
}

bool queue_table::nack(std::uint32_t queue, std::uint64_t ticket) noexcept {
  return state_->give_back(queue, ticket, any_generation);
}

std::uint32_t queue_table::state::expire_in(ring_state& r, std::uint64_t now,
                                            std::uint32_t n_max) noexcept {
  // The earliest deadline is taken away first. A lease that the loop below does not see was handed
  // out a moment ago and lowers the value again.
  if (!seeded_bug("ring.expire_takes_late"))
    r.earliest().exchange(no_deadline, std::memory_order_acq_rel); // [earliest-deadline]
  std::uint32_t n = 0;
  std::uint64_t left = no_deadline;
  const std::uint64_t cursor = r.cursor.load(std::memory_order_acquire); // [cursor-moved]
  for (std::uint64_t t = r.acked.load(std::memory_order_acquire) + 1;    // [prefix-acked]
       t <= cursor; ++t) {
    hook_point("ring.expire.looking");
    const slot_mark mark = r.marks[r.index_of(t)].load(std::memory_order_acquire); // [slot-ready]
    if (passed_state(mark, t) != mark_state::ready) continue;
    const lease_time& time = r.time_of(t);
    // A deadline that was stored for another lease of the slot does not count.
    if (time.lease_id.load(std::memory_order_acquire) !=
            lease_id_of(t, generation_of(mark, t)) && // [deadline-named]
        !seeded_bug("ring.expire_stale"))
      continue;
    const std::uint64_t until = time.deadline.load(std::memory_order_relaxed); // [deadline-named]
    if (until == no_deadline) continue;
    hook_point("ring.expire.chosen");
    // Where the entry was acknowledged or given back meanwhile, its mark has changed, and
    // hand_back() does nothing.
    if (until > now || n == n_max)
      left = std::min(left, until);
    else
      n += hand_back(r, t, mark);
  }
  if (seeded_bug("ring.expire_takes_late")) {
    r.earliest().store(left, std::memory_order_relaxed); // [earliest-deadline]
    return n;
  }
  std::uint64_t seen = r.earliest().load(std::memory_order_relaxed); // [exchange-decides]
  while (left < seen &&
         !r.earliest().compare_exchange_weak(seen, left, std::memory_order_acq_rel,
                                             std::memory_order_relaxed)) { // [earliest-deadline]
  }
  return n;
}

void queue_table::rewind(std::uint32_t queue) noexcept {
  state& s = *state_;
  const inside guard = s.consuming(queue);
  for (ring_state* r = s.first_of(queue); r != nullptr; r = r->following()) {
    const std::uint64_t cursor = r->cursor.load(std::memory_order_relaxed); // [single-consumer]
    advance(*r);
    const std::uint64_t acked = r->acked.load(std::memory_order_relaxed); // [single-consumer]
    r->returned.store(0, std::memory_order_relaxed);                      // [single-consumer]
    r->raise_marked(cursor);                                              // [mark-announced]
    for (std::uint64_t t = acked + 1; t <= cursor; ++t) {
      std::atomic<slot_mark>& mark = r->marks[r->index_of(t)];
      slot_mark was = mark.load(std::memory_order_relaxed); // [exchange-decides]
      if (const mark_state s = passed_state(was, t);
          s == mark_state::ready || s == mark_state::returned)
        mark.compare_exchange_strong(was, mark_given_back(t, was, mark_state::ready),
                                     std::memory_order_acq_rel,
                                     std::memory_order_relaxed); // [lease-ended]
    }
    r->delivered = std::max(r->delivered, cursor);
    r->cursor.store(acked, std::memory_order_release); // [cursor-moved]
  }
}

std::uint64_t queue_table::resolve(std::uint32_t queue, std::uint16_t packet_id) const noexcept {
  state& s = *state_;
  const inside guard(s.grace);
  const ring_state* r = s.first_of(queue);
  if (r == nullptr || packet_id == 0 || packet_id > packet_id_count) return 0;
  const std::uint64_t acked = s.acked_through(queue);
  const std::uint64_t ahead =
      (packet_id + packet_id_count - packet_id_of(acked + 1)) % packet_id_count;
  const std::uint64_t ticket = acked + 1 + ahead;
  r = s.ring_for(queue, ticket);
  if (r == nullptr || ticket <= r->base ||
      ticket > r->cursor.load(std::memory_order_acquire)) // [cursor-moved]
    return 0;
  const slot_mark mark =
      r->marks[r->index_of(ticket)].load(std::memory_order_acquire); // [slot-ready]
  return passed_state(mark, ticket) == mark_state::ready ? ticket : 0;
}

// --- acknowledgements ---------------------------------------------------------------------------

namespace {

/// True when every ticket in the rings before `r` is done.
bool is_oldest(const ring_state* first, const ring_state* r) noexcept {
  if (seeded_bug("ring.ack_order_of_ring")) return true;
  for (; first != r; first = first->following()) {
    const ring_state* const next = first->following();
    if (next == nullptr ||
        first->acked.load(std::memory_order_acquire) != next->base) // [prefix-acked]
      return false;
  }
  return true;
}

} // namespace

// Ends the lease of `ticket`: the prefix grows where the entry is the oldest, otherwise the slot's
// tag records the new state.
ack_status queue_table::state::settle(std::uint32_t queue, std::uint64_t ticket, slot_state to,
                                      std::uint32_t generation) noexcept {
  ring_state* const of = ring_for(queue, ticket);
  if (of == nullptr) return ack_status::ignored;
  ring_state& r = *of;
  const std::uint64_t acked = r.acked.load(std::memory_order_acquire);      // [prefix-acked]
  if (ticket <= acked || ticket > r.cursor.load(std::memory_order_acquire)) // [cursor-moved]
    return ack_status::ignored;
  const bool in_order =
      ticket == acked + 1 && to == slot_state::acked && is_oldest(first_of(queue), of);
  std::atomic<slot_mark>& mark = r.marks[r.index_of(ticket)];
  hook_point("ring.settle.chosen");
  // In mpsc mode a ticket behind `marked` has no mark, and its line need not be read.
  const bool unmarked = r.mode == queue_mode::mpsc && !r.marked_behind(ticket - 1);
  slot_mark leased_now = unmarked ? 0 : mark.load(std::memory_order_relaxed); // [slot-ready]
  if (passed_state(leased_now, ticket) != mark_state::ready ||
      (generation != any_generation && generation != generation_of(leased_now, ticket)))
    return ack_status::ignored;
  if (r.mode == queue_mode::mpsc) {
    if (in_order) {
      r.acked.store(ticket, std::memory_order_release); // [prefix-acked]
      advance(r);
      return ack_status::advanced;
    }
    r.raise_marked(ticket); // [mark-announced]
    mark.store(mark_as(leased_now, ticket, mark_state::done),
               std::memory_order_release); // [lease-ended]
  } else {
    // [lease-ended] Without it two acknowledgements could end one lease.
    if (!mark.compare_exchange_strong(leased_now, mark_as(leased_now, ticket, mark_state::done),
                                      std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) // [lease-ended]
      return ack_status::ignored;
    if (in_order) {
      advance(r);
      return ack_status::advanced;
    }
  }
  // The exchange names the exact word: once the head has passed the slot, it may hold another
  // entry.
  std::uint64_t& tag = r.slots()[r.index_of(ticket)].tag;
  std::uint64_t was = word_of(tag);
  while (may_be_delivered(r, was, ticket) && !seeded_bug("ring.ack_in_memory"))
    if (medium.compare_exchange(&tag, was, slot_tag{ticket, to}.pack(queue))) // [tag-with-burst]
      break;
  advance(r);
  return ack_status::marked;
}

// The last ticket of the queue's prefix of tickets that are done.
std::uint64_t queue_table::state::acked_through(std::uint32_t queue) const noexcept {
  const ring_state* r = first_of(queue);
  if (r == nullptr) return 0;
  std::uint64_t acked = r->acked.load(std::memory_order_acquire); // [prefix-acked]
  for (r = r->following(); r != nullptr && acked == r->base; r = r->following())
    acked = r->acked.load(std::memory_order_acquire); // [prefix-acked]
  return acked;
}

// Settles the first of the entries, as many as are the oldest of the queue one behind the other and
// lie in its oldest ring. In mpsc mode the prefix moves over all of them at once. In mpmc mode each
// mark is exchanged, so that no other thread ends one of these leases as well, and then the prefix
// moves.
std::uint32_t queue_table::state::settle_run(std::uint32_t queue,
                                             std::span<const leased> entries) noexcept {
  ring_state* const of = first_of(queue);
  if (of == nullptr || entries.empty()) return 0;
  ring_state& r = *of;
  // A lease by this name is the first of its ticket.
  constexpr std::uint64_t name_bits = ticket_max | lease_generation_bits;
  const auto name_of = [&](std::uint64_t i) { return entries[i].tag & name_bits; };
  const std::uint64_t acked = r.acked.load(std::memory_order_acquire);   // [prefix-acked]
  const std::uint64_t cursor = r.cursor.load(std::memory_order_acquire); // [cursor-moved]
  const auto most =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(cursor - acked, entries.size()));
  if (r.mode == queue_mode::mpsc) {
    // The tickets of a lease rise, so where the first and the last fit, all of them do. None of
    // them has a mark, so each is in its first lease.
    if (most == 0 || r.marked_behind(acked) || name_of(0) != acked + 1 ||
        name_of(most - 1) != acked + most)
      return 0;
    r.acked.store(acked + most, std::memory_order_release); // [prefix-acked]
    return most;
  }
  if (most == 0 || name_of(0) != acked + 1 || name_of(most - 1) != acked + most) return 0;
  hook_point("ring.ack.chosen");
  std::uint32_t n = 0;
  constexpr slot_mark next_ticket = slot_mark{1} << mark_ticket_shift;
  for (slot_mark done = mark_of(acked + 1, mark_state::done); n < most;) {
    std::atomic<slot_mark>* mark = r.marks + r.index_of(acked + 1 + n);
    const std::atomic<slot_mark>* const end =
        mark + std::min(most - n, r.size() - r.index_of(acked + 1 + n));
    const std::atomic<slot_mark>* const from = mark;
    for (; mark != end; ++mark, done += next_ticket) {
      slot_mark found = mark->load(std::memory_order_relaxed); // [exchange-decides]
      // A mark below that of this ticket names an earlier one.
      if ((found >= (done & ~(next_ticket - 1)) && (names(found, done >> mark_ticket_shift) ||
                                                    is_newer(found, done >> mark_ticket_shift))) ||
          !mark->compare_exchange_strong(found, done, std::memory_order_acq_rel,
                                         std::memory_order_relaxed)) // [lease-ended]
        break;
    }
    n += static_cast<std::uint32_t>(mark - from);
    if (mark != end) break;
  }
  hook_point("ring.ack.run");
  if (n == 0) return 0;
  std::uint64_t expected = acked;
  r.acked.compare_exchange_strong(expected, acked + n, std::memory_order_acq_rel,
                                  std::memory_order_relaxed); // [prefix-acked]

  // Where another thread moved `acked` meanwhile, or has ended the lease behind, it goes on here.
  advance(r);
  return n;
}

bool queue_table::ack_oldest(std::uint32_t queue, std::uint64_t ticket, bool& more) noexcept {
  ring_state* const r = state_->sole_consumer_ring(queue);
  if (r == nullptr || !state_->settle_next(*r, ticket)) return false;
  const std::uint64_t cursor = r->cursor.load(std::memory_order_relaxed); // [single-consumer]
  more = r->ready.load(std::memory_order_relaxed) > cursor ||             // [returned-hint]
         r->marked_behind(cursor) ||
         r->returned.load(std::memory_order_relaxed) != 0 || // [returned-hint]
         r->following() != nullptr;
  return true;
}

ack_status queue_table::ack(std::uint32_t queue, std::uint64_t ticket) noexcept {
  if (state_->settle_next(queue, ticket)) [[likely]]
    return ack_status::advanced;
  const inside guard = state_->consuming(queue);
  return state_->settle(queue, ticket, slot_state::acked, any_generation);
}

} // namespace chainring
