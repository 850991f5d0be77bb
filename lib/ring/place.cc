// SPDX-License-Identifier: BSD-3-Clause
// Producers place slots between rte_ring's start and finish, in one ring at a time. They hold
// nothing across a drain. The ordering labels are described in ring.cc.
#include <algorithm>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

namespace {

/// Calls fn(slots, marks, ticket, n) for each contiguous part of tickets first .. first + n - 1.
template <class F>
inline void for_each_run(const ring_state& r, std::uint64_t first, std::uint32_t n, F&& fn) {
  const std::uint32_t at = r.index_of(first);
  const std::uint32_t to_end = r.size() - at;
  if (n <= to_end) [[likely]] {
    fn(r.slots() + at, r.marks + at, first, n);
  } else {
    fn(r.slots() + at, r.marks + at, first, to_end);
    fn(r.slots(), r.marks, first + to_end, n - to_end);
  }
}

/// Stores `n` slots of the tickets from `first` on, as queued.
// [ref-before-tag] Without it a tag could make another entry's ref valid.
void store_queued(media& m, const ring_state& r, std::uint64_t first, std::uint32_t n,
                  const std::uint64_t* words) noexcept {
  slot_tag_run tags(r.queue, first, slot_state::queued);
  std::uint32_t at = r.index_of(first);
  for (;;) {
    const std::uint32_t k = std::min({n, slot_tag_run::part, r.size() - at});
    const std::uint64_t* checks = tags.checks();
    std::uint64_t tag = tags.word();
    ring_slot* s = r.slots() + at;
    const auto one = [&](std::uint32_t i) {
      m.store_unobserved(&s[i].ref, words[i]);              // [ref-before-tag]
      m.store_unobserved(&s[i].tag, (tag + i) | checks[i]); // [ref-before-tag]
    };
    const auto go_on = [&](std::uint32_t by) {
      s += by;
      words += by;
      checks += by;
      tag += by;
    };
    for (std::uint32_t eights = k / 8; eights != 0; --eights) {
      one(0);
      one(1);
      one(2);
      one(3);
      one(4);
      one(5);
      one(6);
      one(7);
      go_on(8);
    }
    for (std::uint32_t ones = k % 8; ones != 0; --ones) {
      one(0);
      go_on(1);
    }
    n -= k;
    if (n == 0) return;
    tags.skip(k);
    at = (at + k) & r.mask;
  }
}

/// A full fence between rte_ring's start and the load of the ring's owner; its partner is in
/// close(). On x86 the locked exchange in start is a full fence already.
inline void fence_behind_start() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  std::atomic_signal_fence(std::memory_order_seq_cst); // [ring-closed]
#else
  std::atomic_thread_fence(std::memory_order_seq_cst); // [ring-closed]
#endif
}

} // namespace

template <queue_table::state::placing how>
place_status queue_table::state::put(std::uint32_t queue, std::uint64_t owner,
                                     std::uint64_t owner_mask, const std::uint64_t* words,
                                     std::uint32_t n, std::uint32_t limit,
                                     placement& out) noexcept {
  constexpr bool all = how != placing::some;
  if constexpr (how == placing::one) n = 1;
  queue_state& q = queue_at(queue);
  const inside guard(grace); // the ring stays valid memory until its placement is finished
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
    // What start took is given back untouched when the ring is not the queue's any more.
    // [ring-closed] Without it a producer could place slots in a ring that has ended or that
    // belongs to another queue, where no consumer looks for them.
    const std::uint64_t now = r->owner.load(std::memory_order_relaxed); // [ring-closed]
    if (((now ^ owner) & owner_mask) == 0 || seeded_bug("ring.closed_unchecked")) [[likely]]
      break;
    if (got != 0) rte_ring_enqueue_zc_elem_finish(r->ring, 0);
    if (((now ^ owner) & owner_queue_mask) == 0) return place_status::changed;
    if (ring_of(queue) == r) return place_status::closed;
    // The ring has a successor by now: place the slots there.
  }
  // While older rings exist, capacity_max bounds the slots of all rings together, and the caller's
  // limit always does. The head that is
  // read here may be old; it only rises, so the bound is never exceeded.
  std::uint64_t older = 0; // the slots in use in older rings
  if (const ring_state* first = q.first.load(std::memory_order_acquire); // [ring-published]
      (first != r || limit < r->capacity) && got != 0) [[unlikely]] {
    const std::uint64_t depth = r->next.load(std::memory_order_relaxed) -    // [ticket-counter]
                                first->head.load(std::memory_order_relaxed); // [queue-estimate]
    const std::uint64_t most = std::min(limit, std::max(capacity_max, r->capacity));
    const auto left = static_cast<std::uint32_t>(depth < most ? most - depth : 0);
    older = depth - std::min<std::uint64_t>(depth, r->capacity - room - got);
    if (got > left) {
      got = all ? 0 : left;
      if (got == 0) {
        rte_ring_enqueue_zc_elem_finish(r->ring, 0);
        return place_status::full;
      }
    }
    if (depth + got > r->peak.load(std::memory_order_relaxed)) // [ticket-counter]
      r->peak.store(static_cast<std::uint32_t>(depth + got),
                    std::memory_order_relaxed); // [ticket-counter]
  }
  if (got == 0) [[unlikely]] { // start took nothing, and finish would end another producer's turn
    hook_point("ring.place.full");
    if (seeded_bug("ring.finish_unstarted")) rte_ring_enqueue_zc_elem_finish(r->ring, 0);
    return place_status::full;
  }
  const std::uint64_t last = r->next.load(std::memory_order_relaxed); // [ticket-counter]
  if (ticket_max - last < got) [[unlikely]] {
    rte_ring_enqueue_zc_elem_finish(r->ring, 0);
    return place_status::exhausted;
  }
  media& m = medium;
  const auto store_observed = [&](ring_slot* s, auto*, std::uint64_t ticket, std::uint32_t k) {
    slot_tag_run tags(queue, ticket, slot_state::queued);
    if constexpr (how == placing::moved) {
      for (std::uint32_t i = 0; i < k; ++i, ++ticket) {
        const slot_state as = ticket == last + 1 ? slot_state::taken : slot_state::voided;
        m.store(&s[i].ref, *words++);                         // [ref-before-tag]
        m.store(&s[i].tag, slot_tag{ticket, as}.pack(queue)); // [ref-before-tag]
      }
      return;
    }
    if (seeded_bug("ring.tag_first")) [[unlikely]] {
      for (std::uint32_t i = 0; i < k; ++i, tags.next()) {
        m.store(&s[i].tag, tags.tag()); // [ref-before-tag]
        m.store(&s[i].ref, *words++);   // [ref-before-tag]
      }
      return;
    }
    for (std::uint32_t i = 0; i < k; ++i, tags.next()) {
      m.store(&s[i].ref, *words++);   // [ref-before-tag]
      m.store(&s[i].tag, tags.tag()); // [ref-before-tag]
    }
  };
  if (how == placing::moved || m.observed() || seeded_bug("ring.tag_first")) [[unlikely]] {
    for_each_run(*r, last + 1, got, store_observed);
  } else if (got == 1) {
    ring_slot& s = r->slots()[r->index_of(last + 1)];
    m.store_unobserved(&s.ref, *words); // [ref-before-tag]
    m.store_unobserved(&s.tag,
                       slot_tag{last + 1, slot_state::queued}.pack(queue)); // [ref-before-tag]
  } else {
    store_queued(m, *r, last + 1, got, words);
  }
  r->next.store(last + got, std::memory_order_relaxed); // [ticket-counter]
  if (options.count_bytes) {
    std::uint64_t placed = 0;
    // An origin is no message.
    for (std::uint64_t t = last + 1; t <= last + (how == placing::moved ? 1 : got); ++t)
      placed += bytes_at(*r, t);
    bytes[queue].fetch_add(placed, std::memory_order_relaxed); // [queue-estimate]
  }
  const std::uint32_t depth = r->capacity - room;
  bool wants = false;
  if (depth > r->high_water.load(std::memory_order_relaxed)) { // [ticket-counter]
    r->high_water.store(depth, std::memory_order_relaxed);     // [ticket-counter]
    wants = r->prepare_at != 0 && depth >= r->prepare_at;
  }
  rte_ring_enqueue_zc_elem_finish(r->ring, got); // [slot-placed]
  out = {r, last + 1, got, static_cast<std::uint32_t>(older + depth)};
  if (wants) [[unlikely]]
    want_larger(queue, 0);
  return place_status::placed;
}

place_status queue_table::place_start(std::uint32_t queue, std::span<const slot_ref> refs,
                                      placement& out) noexcept {
  CHAINRING_EXPECTS(!refs.empty(), "place_start() needs at least one slot");
  return state_->put<state::placing::all>(queue, owner_of(queue, 0), owner_queue_mask,
                                          &refs.front().word,
                                          static_cast<std::uint32_t>(refs.size()), UINT32_MAX, out);
}

place_status queue_table::place_start(std::uint32_t queue, std::uint32_t incarnation,
                                      std::span<const slot_ref> refs, placement& out,
                                      std::uint32_t limit) noexcept {
  CHAINRING_EXPECTS(!refs.empty(), "place_start() needs at least one slot");
  if (refs.size() == 1) [[likely]]
    return state_->put<state::placing::one>(queue, owner_of(queue, incarnation), ~std::uint64_t{0},
                                            &refs.front().word, 1, limit, out);
  return state_->put<state::placing::all>(queue, owner_of(queue, incarnation), ~std::uint64_t{0},
                                          &refs.front().word,
                                          static_cast<std::uint32_t>(refs.size()), limit, out);
}

std::uint32_t queue_table::enqueue_burst(std::uint32_t queue, std::span<const std::uint64_t> values,
                                         placement& out) noexcept {
  CHAINRING_EXPECTS(!values.empty(), "an enqueue needs at least one value");
  CHAINRING_EXPECTS(state_->messages == nullptr, values_beside_messages);
  const place_status s =
      state_->put<state::placing::some>(queue, owner_of(queue, 0), owner_queue_mask, values.data(),
                                        static_cast<std::uint32_t>(values.size()), UINT32_MAX, out);
  return s == place_status::placed ? out.count : 0;
}

std::uint32_t queue_table::enqueue_bulk(std::uint32_t queue, std::span<const std::uint64_t> values,
                                        placement& out) noexcept {
  CHAINRING_EXPECTS(!values.empty(), "an enqueue needs at least one value");
  CHAINRING_EXPECTS(state_->messages == nullptr, values_beside_messages);
  const place_status s =
      state_->put<state::placing::all>(queue, owner_of(queue, 0), owner_queue_mask, values.data(),
                                       static_cast<std::uint32_t>(values.size()), UINT32_MAX, out);
  return s == place_status::placed ? out.count : 0;
}

place_status queue_table::place_moved_start(std::uint32_t queue, std::uint32_t incarnation,
                                            slot_ref ref, slot_origin from, placement& out,
                                            std::uint32_t limit) noexcept {
  const std::uint64_t words[] = {ref.word, from.pack(queue)};
  return state_->put<state::placing::moved>(queue, owner_of(queue, incarnation), ~std::uint64_t{0},
                                            words, 2, limit, out);
}

void queue_table::place_flush(const placement& p) noexcept {
  if (p.count == 0) return;
  media& m = state_->medium;
  for_each_run(*p.ring, p.first_ticket, p.count,
               [&](ring_slot* s, auto*, std::uint64_t, std::uint32_t k) {
                 // [slots-before-publish] Without it a message could be published and missing from
                 // this queue. Crash between: the slots are void, because the message is not
                 // published.
                 m.flush(s, k * sizeof(ring_slot)); // [slots-before-publish]
               });
}

void queue_table::place_finish(const placement& p) noexcept {
  if (p.count == 0) return;
  ring_state& r = *p.ring;
  // [publication-before-mark] Without it a consumer could deliver a message that a crash takes
  // back. Crash between: the message is in all its queues and was not acknowledged.
  if (r.ready.load(std::memory_order_acquire) == p.first_ticket - 1 || // [slot-ready]
      seeded_bug("ring.ready_past_open")) [[likely]] {
    hook_point("ring.finish.next");
    // Only this placement is next, and it has no marks, so no other thread moves the watermark.
    // From this store on the ring may be released, so nothing here touches it afterwards.
    // [slot-ready] Without it a consumer could read a slot that is not durable yet.
    r.ready.store(p.first_ticket + p.count - 1,
                  std::memory_order_release); // [slot-ready] [publication-before-mark]
    return;
  }
  state_->finish_by_marks(p, mark_state::ready);
}

// Finishes a placement by marks: it is not the next one, or it does not become ready. The ring
// stays valid memory meanwhile, because a consumer may release it once the last mark is stored.
[[gnu::noinline]] void queue_table::state::finish_by_marks(const placement& p,
                                                           mark_state as) noexcept {
  const inside guard(grace);
  hook_point("ring.finish.late");
  ring_state& r = *p.ring;
  pass_older_marks(r, p.first_ticket);
  // [mark-announced] Without it a consumer could pass the slots without a look at their marks.
  r.raise_marked(p.first_ticket + p.count - 1); // [mark-announced]
  for_each_run(r, p.first_ticket, p.count,
               [&](ring_slot*, auto* marks, std::uint64_t ticket, std::uint32_t k) {
                 for (std::uint32_t i = 0; i < k; ++i)
                   marks[i].store(mark_of(ticket + i, as),
                                  std::memory_order_release); // [slot-ready]
                                                              // [publication-before-mark]
               });
  pass_marked(r);
}

// Moves the watermark over the finished placements behind it, whose slots have marks. A placement
// that is finished last among several stays behind the watermark until the next call; until then
// consumers find it by its marks.
void queue_table::state::pass_marked(ring_state& r) const noexcept {
  std::uint64_t from = r.ready.load(std::memory_order_acquire); // [slot-ready]
  for (;;) {
    std::uint64_t to = from;
    while (names(r.marks[r.index_of(to + 1)].load(std::memory_order_acquire), // [slot-ready]
                 to + 1))
      ++to;
    if (to == from) return;
    hook_point("ring.finish.passing");
    if (seeded_bug("ring.watermark_race")) [[unlikely]]
      return r.ready.store(to, std::memory_order_release); // [slot-ready]

    // Where the exchange fails, another thread has moved the watermark. A plain store would move it
    // back, behind a placement that has no marks, and its entries would stay unready.
    if (r.ready.compare_exchange_strong(from, to, std::memory_order_acq_rel,
                                        std::memory_order_acquire)) // [slot-ready]
      from = to;
  }
}

// Moves the watermark over the marks of earlier placements before the slots of `ticket` and those
// behind it get theirs. These may be the slots of earlier tickets, and a mark that is overwritten
// can lead the watermark over its ticket no more: every later call would have to look at marks.
void queue_table::state::pass_older_marks(ring_state& r, std::uint64_t ticket) const noexcept {
  if (r.ready.load(std::memory_order_relaxed) + 1 != ticket) pass_marked(r); // [slot-ready]
}

void queue_table::place_moved_finish(const placement& p) noexcept {
  ring_state& r = *p.ring;
  const inside guard(state_->grace);
  const std::uint64_t origin = p.first_ticket + 1;
  state_->pass_older_marks(r, p.first_ticket);
  r.raise_marked(origin); // [mark-announced]

  // The origin comes first: once the last mark is stored the entry may be leased and released.
  r.marks[r.index_of(origin)].store(mark_of(origin, mark_state::hole),
                                    std::memory_order_release); // [slot-ready]
  r.marks[r.index_of(p.first_ticket)].store(mark_of(p.first_ticket, mark_state::ready),
                                            std::memory_order_release); // [slot-ready]
  state_->pass_marked(r);
}

void queue_table::place_void(placement& p, bool flushed) noexcept {
  state& in = *state_;
  tally(in.voided, std::uint64_t{p.count});
  if (seeded_bug("ring.void_ready")) return place_finish(p);
  if (p.count == 0) return;
  const std::uint32_t queue = p.ring->queue;
  for_each_run(*p.ring, p.first_ticket, p.count,
               [&](ring_slot* s, auto*, std::uint64_t ticket, std::uint32_t k) {
                 // The tag waits for no flush where the message was never published.
                 for (std::uint32_t i = 0; i < k; ++i) {
                   const slot_tag tag{ticket + i, slot_state::voided};
                   std::uint64_t was = slot_tag{ticket + i, slot_state::queued}.pack(queue);
                   in.medium.compare_exchange(&s[i].tag, was,
                                              tag.pack(queue)); // [tag-with-burst]
                 }
                 // [void-before-retry] Without it a message that is published already, or that is
                 // placed again and published, could be found twice in the queue after a crash.
                 if (flushed) in.medium.flush(s, k * sizeof(ring_slot));
               });
  in.finish_by_marks(p, mark_state::done);
  p.count = 0; // the ring may be released from here on
}

void queue_table::prefetch(std::uint32_t queue, unsigned pass) const noexcept {
  state& s = *state_;
  const queue_state& q = s.queue_at(queue);
  if (pass == 0) {
    __builtin_prefetch(&q, 1);
    __builtin_prefetch(&s.record_of(queue), 1);
    return;
  }
  const inside guard(s.grace); // the ring stays valid memory while its state is read
  const ring_state* const r = s.ring_of(queue);
  if (r == nullptr) return;
  if (pass == 1) {
    __builtin_prefetch(r, 1);
    __builtin_prefetch(&r->cursor, 1);
    return;
  }
  __builtin_prefetch(&r->ring->capacity);
  __builtin_prefetch(&r->ring->prod, 1);
  __builtin_prefetch(&r->ring->cons, 1);
  const std::uint64_t next = r->next.load(std::memory_order_relaxed) + 1; // [queue-estimate]
  __builtin_prefetch(&r->slots()[r->index_of(next)], 1);
}

std::uint32_t queue_table::free_count(std::uint32_t queue) const noexcept {
  state& s = *state_;
  const inside guard(s.grace);
  const ring_state* const first = s.first_of(queue);
  const ring_state* const r = s.ring_of(queue);
  if (first == nullptr || r == nullptr) return s.ring_capacity;
  const std::uint64_t head = first->head.load(std::memory_order_relaxed); // [queue-estimate]
  const std::uint64_t tail = r->next.load(std::memory_order_relaxed);     // [queue-estimate]
  if (first == r && r->capacity >= s.capacity_max && tail - head < r->capacity) [[likely]]
    return static_cast<std::uint32_t>(r->capacity - (tail - head));
  const std::uint64_t own = std::max(head, r->base);
  const std::uint64_t used_in_ring = tail > own ? tail - own : 0;
  const auto left_in_ring =
      static_cast<std::uint32_t>(used_in_ring < r->capacity ? r->capacity - used_in_ring : 0);
  const std::uint64_t most = std::max(s.capacity_max, r->capacity);
  const std::uint64_t used = tail > head ? tail - head : 0;
  const auto left = static_cast<std::uint32_t>(used < most ? most - used : 0);
  if (r->capacity >= s.capacity_max) return std::min(left_in_ring, left);
  const queue_commit c =
      queue_commit::unpack(std::atomic_ref(s.record_of(queue).commit)
                               .load(std::memory_order_relaxed)); // [queue-estimate]
  const std::uint32_t larger = s.grown_from(r->capacity, c.count);
  return std::min(c.count < queue_rings_max ? std::max(left_in_ring, larger) : left_in_ring, left);
}

overflow_policy queue_table::overflow(std::uint32_t queue, std::uint32_t n) noexcept {
  return overflow(queue, state_->options.overflow, n);
}

overflow_policy queue_table::overflow(std::uint32_t queue, overflow_policy policy,
                                      std::uint32_t n) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  switch (policy) {
  case overflow_policy::reject:
    tally(q.refused, n);
    tally(s.refused, std::uint64_t{n});
    break;
  case overflow_policy::drop_newest:
    tally(q.dropped_newest, n);
    tally(s.dropped_newest, std::uint64_t{n});
    break;
  case overflow_policy::drop_oldest:
    q.drop_requests.fetch_add(n, std::memory_order_relaxed); // [drop-requests]
    break;
  }
  return policy;
}

} // namespace chainring
