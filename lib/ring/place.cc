// SPDX-License-Identifier: BSD-3-Clause
// Producers: slots are placed between rte_ring's start and finish, one ring at a time, nothing held
// across a drain.
//
// Edges and crash windows: see ring.cc. Here [A2], [A5 -> A6], [R1], [K2], [N1], [N2], [D1], [P1],
// [P3], [P14], [P16].
#include <algorithm>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

namespace {

/// The parts of tickets first .. first + n - 1 that are contiguous: fn(slots, marks, ticket, n).
template <class F>
inline void for_each_run(const ring_state& r, std::uint64_t first, std::uint32_t n, F&& fn) {
  const std::uint32_t at = r.index_of(first);
  const std::uint32_t to_end = r.size() - at;
  if (n <= to_end) [[likely]] {
    fn(r.slots + at, r.marks + at, first, n);
  } else {
    fn(r.slots + at, r.marks + at, first, to_end);
    fn(r.slots, r.marks, first + to_end, n - to_end);
  }
}

/// [A6] full fence between rte_ring's start and the look at the ring's owner; pairs with the one in
/// close(). On x86 start's locked exchange is one.
inline void fence_behind_start() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  std::atomic_signal_fence(std::memory_order_seq_cst); // [A6]
#else
  std::atomic_thread_fence(std::memory_order_seq_cst); // [A6]
#endif
}

} // namespace

template <bool all>
place_status queue_table::state::put(std::uint32_t queue, std::uint64_t owner,
                                     std::uint64_t owner_mask, const std::uint64_t* words,
                                     std::uint32_t n, placement& out) noexcept {
  queue_state& q = queue_at(queue);
  const inside here(grace); // the ring stays a ring until its placement is finished
  ring_state* r = nullptr;
  rte_ring_zc_data at;
  unsigned room = 0, got = 0;
  for (;;) {
    r = ring_of(queue);
    if (r == nullptr) [[unlikely]]
      return place_status::no_ring;
    hook_point("ring.place.chosen");
    got = all ? rte_ring_enqueue_zc_bulk_elem_start(r->ring, sizeof(ring_slot), n, &at, &room)
              : rte_ring_enqueue_zc_burst_elem_start(r->ring, sizeof(ring_slot), n, &at, &room);
    fence_behind_start();
    // [A6] behind start: pairs with [A5]. What start took is given back untouched.
    //      Without it slots are placed in a ring that has ended, or is another queue's.
    const std::uint64_t now = r->owner.load(std::memory_order_relaxed); // [A6]
    if (((now ^ owner) & owner_mask) == 0 || seeded_bug("ring.closed_unchecked")) [[likely]]
      break;
    if (got != 0) rte_ring_enqueue_zc_elem_finish(r->ring, 0);
    if (((now ^ owner) & owner_queue_mask) == 0) return place_status::changed;
    if (ring_of(queue) == r) return place_status::closed;
    // It has a successor: there it goes on.
  }
  // With older rings about, the limit is on all together. The head only rises: never too many.
  if (const ring_state* first = q.first.load(std::memory_order_acquire); // [A2] pairs with [A1]
      first != r && got != 0) [[unlikely]] {
    const std::uint64_t depth = r->next.load(std::memory_order_relaxed) -    // [N1] owned
                                first->head.load(std::memory_order_relaxed); // [K2] only rises
    const std::uint64_t most = std::max(capacity_max, r->capacity);
    const auto left = static_cast<std::uint32_t>(depth < most ? most - depth : 0);
    if (got > left) {
      got = all ? 0 : left;
      if (got == 0) {
        rte_ring_enqueue_zc_elem_finish(r->ring, 0);
        return place_status::full;
      }
    }
  }
  if (got == 0) [[unlikely]] { // nothing was started: no finish, which would be another producer's
    hook_point("ring.place.full");
    if (seeded_bug("ring.finish_unstarted")) rte_ring_enqueue_zc_elem_finish(r->ring, 0);
    return place_status::full;
  }
  const std::uint64_t last = r->next.load(std::memory_order_relaxed); // [N1] owned until finish
  if (ticket_max - last < got) [[unlikely]] {
    rte_ring_enqueue_zc_elem_finish(r->ring, 0);
    return place_status::exhausted;
  }
  media& on = medium;
  for_each_run(*r, last + 1, got, [&](ring_slot* s, auto*, std::uint64_t ticket, std::uint32_t k) {
    slot_tag_run tags(queue, ticket, slot_state::queued);
    if (seeded_bug("ring.tag_first")) [[unlikely]] {
      for (std::uint32_t i = 0; i < k; ++i, tags.next()) {
        on.store(&s[i].tag, tags.tag()); // [P14] the wrong way round
        on.store(&s[i].ref, *words++);   // [P14] the wrong way round
      }
      return;
    }
    for (std::uint32_t i = 0; i < k; ++i, tags.next()) {
      // [P14] ref, then tag: what a tag makes valid is there before it.
      on.store(&s[i].ref, *words++);   // [P14] before the tag
      on.store(&s[i].tag, tags.tag()); // [P14] behind its ref
    }
  });
  r->next.store(last + got, std::memory_order_relaxed); // [N1] before finish, which releases it
  const std::uint32_t depth = r->capacity - room;
  bool wants = false;
  if (depth > r->high_water.load(std::memory_order_relaxed)) { // [N1] owned until finish
    r->high_water.store(depth, std::memory_order_relaxed);     // [N1] owned until finish
    wants = r->prepare_at != 0 && depth >= r->prepare_at;
  }
  rte_ring_enqueue_zc_elem_finish(r->ring, got); // [R3]
  out = {r, last + 1, got};
  if (wants) [[unlikely]]
    want_larger(queue, 0);
  return place_status::placed;
}

place_status queue_table::place_start(std::uint32_t queue, std::span<const slot_ref> refs,
                                      placement& out) noexcept {
  CHAINRING_ASSERT(!refs.empty());
  return state_->put<true>(queue, owner_of(queue, 0), owner_queue_mask, &refs.front().word,
                           static_cast<std::uint32_t>(refs.size()), out);
}

place_status queue_table::place_start(std::uint32_t queue, std::uint32_t incarnation,
                                      std::span<const slot_ref> refs, placement& out) noexcept {
  CHAINRING_ASSERT(!refs.empty());
  return state_->put<true>(queue, owner_of(queue, incarnation), ~std::uint64_t{0},
                           &refs.front().word, static_cast<std::uint32_t>(refs.size()), out);
}

std::uint32_t queue_table::enqueue_burst(std::uint32_t queue, std::span<const std::uint64_t> values,
                                         placement& out) noexcept {
  CHAINRING_ASSERT(state_->messages == nullptr && !values.empty());
  const place_status s =
      state_->put<false>(queue, owner_of(queue, 0), owner_queue_mask, values.data(),
                         static_cast<std::uint32_t>(values.size()), out);
  return s == place_status::placed ? out.count : 0;
}

std::uint32_t queue_table::enqueue_bulk(std::uint32_t queue, std::span<const std::uint64_t> values,
                                        placement& out) noexcept {
  CHAINRING_ASSERT(state_->messages == nullptr && !values.empty());
  const place_status s =
      state_->put<true>(queue, owner_of(queue, 0), owner_queue_mask, values.data(),
                        static_cast<std::uint32_t>(values.size()), out);
  return s == place_status::placed ? out.count : 0;
}

void queue_table::place_flush(const placement& p) noexcept {
  if (p.count == 0) return;
  for_each_run(*p.ring, p.first_ticket, p.count,
               [&](ring_slot* s, auto*, std::uint64_t, std::uint32_t k) {
                 // [P1] before [P2]: the slots, before the publication that makes them valid.
                 //      Without it the message is published and missing from this queue.
                 state_->medium.flush(s, k * sizeof(ring_slot)); // [P1] before [P2]
               });
}

void queue_table::place_finish(const placement& p) noexcept {
  // [P2 < P3] the caller has drained the publication: deliverable implies durable.
  for_each_run(*p.ring, p.first_ticket, p.count,
               [&](ring_slot*, auto* marks, std::uint64_t ticket, std::uint32_t k) {
                 std::uint32_t mark = mark_of(ticket, mark_state::ready);
                 // [R1] release: pairs with the acquire [R2] in lease(). After the last one the
                 //      ring may go: nothing here touches it then.
                 for (std::uint32_t i = 0; i < k; ++i, mark += 1u << mark_ticket_shift)
                   marks[i].store(mark, std::memory_order_release); // [R1] [P3]
               });
}

void queue_table::place_void(placement& p) noexcept {
  state& in = *state_;
  tally(in.voided, std::uint64_t{p.count});
  if (seeded_bug("ring.void_ready")) return place_finish(p);
  if (p.count == 0) return;
  const std::uint32_t queue = p.ring->queue;
  for_each_run(*p.ring, p.first_ticket, p.count,
               [&](ring_slot* s, auto*, std::uint64_t ticket, std::uint32_t k) {
                 // [P16] nothing waits for it: the message was never published.
                 for (std::uint32_t i = 0; i < k; ++i) {
                   const slot_tag tag{ticket + i, slot_state::voided};
                   std::uint64_t was = slot_tag{ticket + i, slot_state::queued}.pack(queue);
                   in.medium.compare_exchange(&s[i].tag, was,
                                              tag.pack(queue)); // [P16] before its flush
                 }
               });
  for_each_run(*p.ring, p.first_ticket, p.count,
               [&](ring_slot*, auto* marks, std::uint64_t ticket, std::uint32_t k) {
                 for (std::uint32_t i = 0; i < k; ++i)
                   marks[i].store(mark_of(ticket + i, mark_state::done),
                                  std::memory_order_release); // [R1] pairs with [R2]
               });
  p.count = 0; // the ring may go
}

std::uint32_t queue_table::free_count(std::uint32_t queue) const noexcept {
  state& s = *state_;
  const inside here(s.grace);
  const ring_state* const first = s.first_of(queue);
  const ring_state* const r = s.ring_of(queue);
  if (first == nullptr || r == nullptr) return s.ring_capacity;
  const std::uint64_t head = first->head.load(std::memory_order_relaxed); // [K2] an estimate
  const std::uint64_t tail = r->next.load(std::memory_order_relaxed);     // [N2]
  const std::uint64_t own = std::max(head, r->base);
  const std::uint64_t here_used = tail > own ? tail - own : 0;
  const auto here_left =
      static_cast<std::uint32_t>(here_used < r->capacity ? r->capacity - here_used : 0);
  const std::uint64_t most = std::max(s.capacity_max, r->capacity);
  const std::uint64_t used = tail > head ? tail - head : 0;
  const auto left = static_cast<std::uint32_t>(used < most ? most - used : 0);
  if (r->capacity >= s.capacity_max) return std::min(here_left, left);
  const queue_commit c =
      queue_commit::unpack(std::atomic_ref(s.record_of(queue).commit)
                               .load(std::memory_order_relaxed)); // [A7] an estimate
  const std::uint32_t larger = s.grown_from(r->capacity, c.count);
  return std::min(c.count < queue_rings_max ? std::max(here_left, larger) : here_left, left);
}

overflow_policy queue_table::overflow(std::uint32_t queue, std::uint32_t n) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  switch (s.options.overflow) {
  case overflow_policy::reject:
    tally(q.refused, n);
    tally(s.refused, std::uint64_t{n});
    break;
  case overflow_policy::drop_newest:
    tally(q.dropped_newest, n);
    tally(s.dropped_newest, std::uint64_t{n});
    break;
  case overflow_policy::drop_oldest:
    q.drop_requests.fetch_add(n, std::memory_order_relaxed); // [D1] taken by [D2]
    break;
  }
  return s.options.overflow;
}

} // namespace chainring
