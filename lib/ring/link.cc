// SPDX-License-Identifier: BSD-3-Clause
// Rings that are added to a queue and removed from it: the first ring, appends, modes and restarts.
//
// An append closes the newest ring of a queue and links a ring that was prepared:
//   1. close() marks the ring closed, makes a full fence and waits until no producer is placing.
//   2. The entry and the commit word, which lie in one line, are stored.
//   3. The caller drains them.
//   4. link_finish() publishes the pointers.
// Producers that come between 1 and 4 find the ring closed. A producer that had begun gives its
// turn in the old ring back and places its slots in the successor.
//
// The ordering labels are described in ring.cc.
#include <algorithm>
#include <bit>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

namespace {

/// Ends placing in the ring: no producer begins any more, and those that were placing have
/// finished.
void close(ring_state& r) noexcept {
  // A producer whose start() the comparison below does not see finds the ring closed.
  r.owner.store(owner_none, std::memory_order_relaxed); // [ring-closed]
  std::atomic_thread_fence(std::memory_order_seq_cst);  // [ring-closed]
  if (seeded_bug("ring.close_unwaited")) return;
  idle_policy wait;
  for (;;) {
    __rte_ring_hts_pos position;
    // The acquire pairs with rte_ring's finish: the placements that have finished are seen.
    position.raw = __atomic_load_n(&r.ring->hts_prod.ht.raw, __ATOMIC_ACQUIRE); // [ring-closed]
    if (position.pos.head == position.pos.tail) return;
    wait.idle();
  }
}

bool is_closed(const ring_state& r) noexcept {
  return r.owner.load(std::memory_order_relaxed) == owner_none; // [ring-closed] [link-claimed]
}

/// Claims the link of a queue while it is in scope, or for longer after keep().
class link_claim {
 public:
  link_claim(queue_state& q, link_state as) noexcept : q_(q) {
    link_state idle = link_state::idle;
    // [link-claimed] Without it two threads could link rings to one queue at the same time, or one
    // could miss the ring that the last one prepared.
    have_ = q.link.compare_exchange_strong(idle, as, std::memory_order_acquire,
                                           std::memory_order_relaxed); // [link-claimed]
  }
  ~link_claim() {
    if (have_) q_.link.store(link_state::idle, std::memory_order_release); // [link-claimed]
  }
  link_claim(const link_claim&) = delete;
  link_claim& operator=(const link_claim&) = delete;
  explicit operator bool() const noexcept { return have_; }
  void keep(link_state as) noexcept {
    q_.link.store(as, std::memory_order_relaxed); // [link-claimed]
    have_ = false;
  }

 private:
  queue_state& q_;
  bool have_;
};

} // namespace

// --- links --------------------------------------------------------------------------------------

// Stores a ring's entry and the commit word that counts it, in the one line of the record. The
// caller has claimed the link.
void queue_table::state::link(std::uint32_t queue, ring_state& r, std::uint64_t base) noexcept {
  queue_state& q = queue_at(queue);
  queue_record& record = record_of(queue);
  const auto log2 = static_cast<std::uint8_t>(std::countr_zero(r.size()));
  // Only a release changes the commit word meanwhile. It takes rings off the front, so the place of
  // the new entry does not move.
  std::uint64_t word =
      std::atomic_ref(record.commit).load(std::memory_order_acquire); // [commit-exchanged]
  queue_commit now = queue_commit::unpack(word);
  if (now.count == 0) now.first = 0;
  queue_ring& entry = record.rings[(now.first + now.count) % queue_rings_max];
  const auto store_entry = [&] {
    const queue_ring next =
        queue_ring::sealed(queue, queue_base{base, log2}.pack(), r.blocks.first, r.blocks.blocks);
    medium.store(&entry.base, next.base);   // [entry-before-commit]
    medium.store(&entry.chain, next.chain); // [entry-before-commit]
  };
  if (!seeded_bug("ring.entry_last")) store_entry();
  do {
    now = queue_commit::unpack(word);
    if (now.count == 0) now.first = 0;
    ++now.count;
    now.mode = r.mode;
    // [entry-before-commit] Without it the commit word could count an entry that was not stored.
    // [commit-exchanged] Without it an append or a release could undo what the other one changed in
    // the commit word.
  } while (!medium.compare_exchange(
      &record.commit, word,
      now.pack(queue))); // [commit-exchanged] [link-before-use] [entry-before-commit]
  if (seeded_bug("ring.entry_last")) store_entry();
  q.spare = &r;
}

link_status queue_table::link_start(std::uint32_t queue) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  if (s.ring_of(queue) != nullptr) [[likely]] {
    // The look may be too early: a producer that gets `ready` then finds the ring closed.
    // [queue-estimate]
    return q.link.load(std::memory_order_relaxed) == link_state::linking ? link_status::wait
                                                                         : link_status::ready;
  }
  link_claim claim(q, link_state::linking);
  if (!claim) return link_status::wait;
  if (s.ring_of(queue) != nullptr) return link_status::ready;
  if (q.damaged.load(std::memory_order_relaxed)) return link_status::refused; // [link-claimed]
  ring_state* r = nullptr;
  {
    std::lock_guard hold(s.lock);
    if (!s.stock.empty()) {
      r = s.stock.back();
      s.stock.pop_back();
    }
  }
  if (r == nullptr) {
    CHAINRING_EXPECTS(s.rings_max != 0, table_not_serving);
    tally(s.refused_ring);
    return link_status::refused;
  }
  set_base(*r, queue, q.resume_after, q.resume_after,
           q.mode.load(std::memory_order_relaxed)); // [mode-changed]
  s.link(queue, *r, q.resume_after);
  claim.keep(link_state::linking);
  if (seeded_bug("ring.attach_undrained")) {
    link_finish(queue);
    return link_status::ready;
  }
  return link_status::linking;
}

void queue_table::link_flush(std::uint32_t queue) noexcept {
  state_->medium.flush(&state_->record_of(queue), sizeof(queue_record)); // [link-before-use]
}

void queue_table::link_finish(std::uint32_t queue) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  CHAINRING_ASSERT(q.spare != nullptr);
  ring_state& r = *q.spare;
  ring_state* const old = q.ring.load(std::memory_order_relaxed); // [ring-published]
  q.spare = nullptr;
  q.quiet = 0;
  r.prepare_at = r.capacity < s.capacity_max ? r.capacity - r.capacity / 4 : 0;
  if (old != nullptr) // which is closed: its counts do not change any more
    r.peak.store(std::max(old->high_water.load(std::memory_order_relaxed), // [ticket-counter]
                          old->peak.load(std::memory_order_relaxed)),      // [ticket-counter]
                 std::memory_order_relaxed);                               // [ticket-counter]
  // The caller has drained the link; from here on producers place slots behind it.
  // [link-before-use] Without it a crash could leave a published message in a ring that no queue
  // has. Crash between: the queue has an empty ring.
  r.owner.store(owner_of(queue, incarnation(queue)),
                std::memory_order_relaxed); // [ring-closed] [ring-published]
  if (old == nullptr)
    q.first.store(&r, std::memory_order_release); // [ring-published] [link-before-use]
  q.ring.store(&r, std::memory_order_release);    // [ring-published] [link-before-use]

  // The successor is stored last: a consumer that sees it may remove the old ring, so no producer
  // may still be sent there.
  if (old != nullptr) old->successor.store(&r, std::memory_order_release); // [successor-published]
  q.link.store(link_state::idle, std::memory_order_release);               // [link-claimed]
}

link_status queue_table::link_now(std::uint32_t queue) noexcept {
  link_status s = link_start(queue);
  if (s == link_status::refused) {
    hook_point("ring.prepare.refused");
    refill(std::max(state_->options.stock, 1u)); // adds nothing if another thread was quicker
    s = link_start(queue);
  }
  if (s != link_status::linking) return s;
  link_flush(queue);
  state_->medium.drain(); // [link-before-use]
  link_finish(queue);
  return link_status::ready;
}

// --- appends ------------------------------------------------------------------------------------

// Closes `old` and links `r`, a cleared and drained ring, behind it. The caller has claimed the
// link.
void queue_table::state::append(std::uint32_t queue, ring_state& old, ring_state& r) noexcept {
  const std::uint64_t before = old.next.load(std::memory_order_relaxed); // [ticket-counter]
  hook_point("ring.append.closing");
  close(old);
  hook_point("ring.append.closed");
  // The ring is closed, so its ticket counter rests. Its value is the new ring's base: so every
  // ticket that was given lies in the window of one of the rings.
  std::uint64_t base = old.next.load(std::memory_order_relaxed); // [ticket-counter]
  if (seeded_bug("ring.base_early")) base = before;
  if (seeded_bug("ring.base_head"))
    base = old.head.load(std::memory_order_relaxed); // [prefix-acked]
  set_base(r, queue, base, base, old.mode);
  if (seeded_bug("ring.append_copies")) [[unlikely]] { // the entries are copied, which is wrong
    const std::uint64_t head = old.head.load(std::memory_order_relaxed); // [prefix-acked]
    for (std::uint64_t t = head + 1; t <= base; ++t) {
      ring_slot& to = r.slots()[static_cast<std::uint32_t>(t - 1 - head) & r.mask];
      medium.store(&to.ref, old.slots()[old.index_of(t)].ref); // [ref-before-tag]
      medium.store(&to.tag, old.slots()[old.index_of(t)].tag); // [ref-before-tag]
    }
    persist_range(medium, r.slots(), r.size() * sizeof(ring_slot)); // [clear-before-link]
    link(queue, r, head);
    std::uint64_t word = record_of(queue).commit;
    queue_commit c = queue_commit::unpack(word);
    c.first = static_cast<std::uint8_t>((c.first + c.count - 1) % queue_rings_max);
    c.count = 1;
    medium.compare_exchange(&record_of(queue).commit, word, c.pack(queue)); // [commit-exchanged]
    return;
  }
  link(queue, r, base);
}

link_status queue_table::grow(std::uint32_t queue, std::uint32_t n) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  if (s.ring_of(queue) == nullptr) {
    const link_status first = link_start(queue);
    return first == link_status::refused ? link_status::no_room : first;
  }
  link_claim claim(q, link_state::claimed);
  if (!claim) return link_status::wait;
  ring_state* const r = s.ring_of(queue); // it stays the newest ring while the link is claimed
  if (r == nullptr || is_closed(*r)) return link_status::wait;
  // rte_ring_free_count() is not used, because its loads are plain.
  const std::uint64_t from =
      std::max(r->base, r->head.load(std::memory_order_acquire));              // [prefix-acked]
  const std::uint64_t in_use = r->next.load(std::memory_order_relaxed) - from; // [ticket-counter]
  if (in_use + n <= r->capacity && free_count(queue) >= n) return link_status::ready;
  const queue_commit c =
      queue_commit::unpack(std::atomic_ref(s.record_of(queue).commit)
                               .load(std::memory_order_acquire));     // [commit-exchanged]
  const std::uint64_t last = r->next.load(std::memory_order_relaxed); // [ticket-counter]
  if (c.count == queue_rings_max || r->capacity >= s.capacity_max || free_count(queue) < n ||
      last == ticket_max)
    return link_status::refused;
  if (q.spare == nullptr) {
    s.want_larger(queue, n);
    return link_status::unprepared;
  }
  ring_state& next = *q.spare;
  claim.keep(link_state::linking);
  s.append(queue, *r, next);
  tally(s.grown);
  if (seeded_bug("ring.append_undrained")) {
    link_finish(queue);
    return link_status::ready;
  }
  return link_status::linking;
}

link_status queue_table::grow_now(std::uint32_t queue, std::uint32_t n) noexcept {
  link_status status = grow(queue, n);
  if (status == link_status::unprepared) {
    hook_point("ring.grow.unprepared");
    const bool room = state_->prepare_larger(queue, n) != state::larger_ring::no_room;
    status = grow(queue, n); // another thread may have prepared the ring, or have linked it
    if (status == link_status::unprepared) return room ? link_status::wait : link_status::no_room;
  }
  if (status != link_status::linking) return status;
  link_flush(queue);
  state_->medium.drain(); // [link-before-use]
  link_finish(queue);
  return link_status::ready;
}

// Prepares a ring of the next size: allocated, cleared, drained, and kept with the queue until its
// newest ring is full. `n` is the number of slots that found no room; 0 means background work.
// Nothing is prepared where the newest ring does not want a larger one: after an append it is
// another ring.
queue_table::state::larger_ring queue_table::state::prepare_larger(std::uint32_t queue,
                                                                   std::uint32_t n) noexcept {
  queue_state& q = queue_at(queue);
  const std::uint32_t wanted = q.wanted.exchange(0, std::memory_order_relaxed); // [queue-estimate]
  std::uint32_t capacity = 0;
  {
    link_claim claim(q, link_state::claimed);
    const ring_state* const r = ring_of(queue);
    if (!claim || r == nullptr || q.spare != nullptr) return larger_ring::not_needed;
    const queue_commit c =
        queue_commit::unpack(std::atomic_ref(record_of(queue).commit)
                                 .load(std::memory_order_acquire)); // [queue-estimate]
    capacity = grown_from(r->capacity, c.count);
    if (capacity == r->capacity || c.count == queue_rings_max) return larger_ring::not_needed;
    const std::uint64_t in_use =
        r->next.load(std::memory_order_relaxed) -
        std::max(r->base, r->head.load(std::memory_order_relaxed)); // [queue-estimate]
    const bool filling = n == 0 && r->high_water.load(std::memory_order_relaxed) >=
                                       r->prepare_at; // [ticket-counter]
    if (!filling && in_use + (n == 0 ? wanted : n) <= r->capacity) return larger_ring::not_needed;
  }
  reclaim(); // retired rings make room
  ring_state* const larger = cleared_ring(capacity);
  if (larger == nullptr) {
    tally(refused_ring);
    return larger_ring::no_room;
  }
  {
    link_claim claim(q, link_state::claimed);
    const ring_state* const r = ring_of(queue);
    if (claim && r != nullptr && q.spare == nullptr && r->capacity < larger->capacity) {
      q.spare = larger;
      return larger_ring::prepared;
    }
  }
  retire(*larger); // another thread was quicker
  return larger_ring::not_needed;
}

namespace {
constexpr std::uint32_t quiet_visits = 4;
/// A ring is nearly empty while at most capacity / quiet_part of its slots are in use.
constexpr std::uint32_t quiet_part = 8;
} // namespace

// Makes one visit to the queue. A queue that was nearly empty at this visit and at the visits
// before gets a smaller ring.
bool queue_table::state::shrink(std::uint32_t queue) noexcept {
  queue_state& q = queue_at(queue);
  if (ring_of(queue) == nullptr) return false;
  link_claim claim(q, link_state::claimed);
  if (!claim) return false;
  ring_state* const r = ring_of(queue);
  // Only a queue with one ring shrinks, and only a ring larger than a first ring.
  if (r == nullptr || is_closed(*r) || r->capacity <= ring_capacity ||
      q.first.load(std::memory_order_relaxed) != r) // [link-claimed]
    return false;
  const std::uint32_t depth =
      static_cast<std::uint32_t>(r->next.load(std::memory_order_relaxed) -
                                 r->head.load(std::memory_order_relaxed)); // [ticket-counter]
  if (depth > r->capacity / quiet_part) {
    q.quiet = 0;
    return false;
  }
  if (++q.quiet < quiet_visits) return false;
  q.quiet = 0;
  const std::uint32_t capacity = std::max(r->capacity / (quiet_part / 2), ring_capacity);
  ring_state* const smaller = cleared_ring(capacity);
  if (smaller == nullptr) return false;
  if (q.spare != nullptr) retire(*q.spare);
  claim.keep(link_state::linking);
  append(queue, *r, *smaller);
  tally(shrunk);
  return true;
}

// --- modes --------------------------------------------------------------------------------------

std::uint32_t queue_table::incarnation(std::uint32_t queue) const noexcept {
  return queue_commit::unpack(std::atomic_ref(state_->record_of(queue).commit)
                                  .load(std::memory_order_acquire)) // [commit-exchanged]
      .incarnation;
}

bool queue_table::state::set_mode(std::uint32_t queue, queue_mode mode) noexcept {
  queue_state& q = queue_at(queue);
  link_claim claim(q, link_state::claimed);
  if (!claim || q.damaged.load(std::memory_order_relaxed)) return false; // [link-claimed]
  ring_state* const first = first_of(queue);
  if (first != nullptr && first->releasing.load(std::memory_order_relaxed))
    return false; // [release-locked]
  for (ring_state* r = first; r != nullptr; r = r->following()) {
    advance(*r);
    if (r->acked.load(std::memory_order_relaxed) != r->cursor.load(std::memory_order_relaxed))
      return false; // [prefix-acked] [cursor-moved]
  }
  std::uint64_t word = std::atomic_ref(record_of(queue).commit)
                           .load(std::memory_order_acquire); // [commit-exchanged]
  queue_commit now;
  do {
    now = queue_commit::unpack(word);
    now.mode = mode;
  } while (!medium.compare_exchange(&record_of(queue).commit, word,
                                    now.pack(queue))); // [commit-exchanged] [mode-before-leases]
  if (!seeded_bug("ring.mode_undrained")) {
    medium.flush(&record_of(queue), sizeof(queue_record)); // [mode-before-leases]
    medium.drain();                                        // [mode-before-leases]
  }
  // [mode-before-leases] Without it a crash could bring back the mode from before, after entries
  // were leased in the new one. Crash between: the queue has either mode, and nothing is leased.
  q.mode.store(mode, std::memory_order_relaxed); // [mode-changed] [mode-before-leases]
  for (ring_state* r = first; r != nullptr; r = r->following()) {
    r->mode = mode;
    set_sync(*r, mode);
  }
  return true;
}

// --- restart ------------------------------------------------------------------------------------

restart_status queue_table::restart_start(std::uint32_t queue, std::uint32_t incarnation) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  queue_record& record = s.record_of(queue);
  link_claim claim(q, link_state::restarting);
  if (!claim) return restart_status::busy;
  // The incarnation of a damaged record cannot be trusted, so it is not compared.
  if (!q.damaged.load(std::memory_order_relaxed) && // [link-claimed]
      this->incarnation(queue) != incarnation)
    return restart_status::changed;
  if (ring_state* const first = s.first_of(queue); first != nullptr) {
    // No release is open from here to restart_finish().
    if (first->releasing.exchange(true, std::memory_order_acquire)) // [release-locked]
      return restart_status::busy;
    close(*s.ring_of(queue));
    std::uint64_t t = first->head.load(std::memory_order_relaxed); // [prefix-acked]
    for (ring_state* r = first; r != nullptr; r = r->following()) {
      for (const std::uint64_t tail = r->tail(t); t < tail; ++t) {
        // The mark's acquire load shows that its producer does nothing with the ring any more.
        if (r->state_at(t + 1) != mark_state::unready) // [slot-ready]
          continue;
        first->releasing.store(false, std::memory_order_release); // [release-locked]
        return restart_status::busy;
      }
    }
  }
  std::uint64_t word =
      std::atomic_ref(record.commit).load(std::memory_order_acquire); // [commit-exchanged]
  if (!queue_head::well_formed(record.head, queue))                   // only in a damaged record
    s.medium.store(&record.head, 0);                                  // [entry-before-commit]

  // From this commit word on everything in the queue is unreachable.
  const queue_commit next{incarnation + 1, 0, 0,
                          q.mode.load(std::memory_order_relaxed)}; // [mode-changed]
  const bool stored = s.medium.compare_exchange(
      &record.commit, word, next.pack(queue)); // [commit-exchanged] [restart-before-free]
  CHAINRING_ASSERT(stored);
  claim.keep(link_state::restarting);
  return restart_status::stored;
}

void queue_table::restart_flush(std::uint32_t queue) noexcept {
  state_->medium.flush(&state_->record_of(queue), sizeof(queue_record)); // [restart-before-free]
}

void queue_table::restart_finish(std::uint32_t queue) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  // The caller has drained the restart, so the contents of the queue may be freed.
  // [restart-before-free] Without it a crash could show the old queue over blocks that were used
  // again. Crash between: the queue is empty and of the next incarnation.
  ring_state* r = s.first_of(queue);
  if (r != nullptr) {
    q.resume_after = s.ring_of(queue)->next.load(std::memory_order_relaxed); // [ticket-counter]
    q.ring.store(nullptr, std::memory_order_release);                        // [ring-published]
    q.first.store(nullptr, std::memory_order_release);                       // [ring-published]
  }
  while (r != nullptr) {
    ring_state* const next = r->following();
    const std::uint64_t head = r->head.load(std::memory_order_relaxed); // [prefix-acked]
    const std::uint64_t tail = r->next.load(std::memory_order_relaxed); // [ticket-counter]
    if (s.messages != nullptr) s.drop_references(*r, head, tail);
    dequeue(*r, tail);
    s.retire(*r);
    r = next;
  }
  if (q.spare != nullptr) s.retire(*q.spare);
  q.spare = nullptr;
  q.quiet = 0;
  q.drop_requests.store(0, std::memory_order_relaxed); // [drop-requests]
  clear_tally(q.refused); // they are those of the new incarnation from here on
  clear_tally(q.dropped_newest);
  clear_tally(q.dropped_oldest);
  q.damaged.store(false, std::memory_order_relaxed);         // [link-claimed]
  q.link.store(link_state::idle, std::memory_order_release); // [link-claimed]
}

} // namespace chainring
