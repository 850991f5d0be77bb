// SPDX-License-Identifier: BSD-3-Clause
// Rings coming and going: the first ring, appends, modes, restarts.
//
// An append closes the newest ring and links one that was prepared:
//   closed (flag, full fence, producers out) -> entry and commit word stored, one line -> drained
//   by the caller -> pointers published. Producers that come meanwhile find `closed`; one that had
//   begun finishes nothing and goes on in the successor.
//
// Edges and crash windows: see ring.cc. Here [A1], [A2], [A3], [A4], [A5], [A7], [A8], [A9], [C1],
// [C2], [D2], [K2], [L1], [L2], [M1], [N1], [N2], [P6], [P7], [P8], [P9], [P10], [P15], [P17],
// [P18], [R2], [S1].
#include <algorithm>
#include <bit>

#include "base/hook.h"
#include "ring/queue_state.h"
#include "ring/ring.h"

namespace chainring {

using namespace detail;

namespace {

/// Nothing more is placed in the ring, and whoever was placing is out: waits for them.
void close(ring_state& r) noexcept {
  r.owner.store(owner_none, std::memory_order_relaxed); // [A5] before the fence; pairs with [A6]
  // [A5] full fence: a producer whose start() is not seen below sees the ring closed at [A6].
  //      Without it both miss each other, and a slot is placed behind the end.
  std::atomic_thread_fence(std::memory_order_seq_cst); // [A5] pairs with [A6]
  if (seeded_bug("ring.close_unwaited")) return;
  idle_policy wait;
  for (;;) {
    __rte_ring_hts_pos position;
    // [A5] acquire: pairs with [R3] in rte_ring's finish: its placement is seen.
    position.raw = __atomic_load_n(&r.ring->hts_prod.ht.raw, __ATOMIC_ACQUIRE); // [A5]
    if (position.pos.head == position.pos.tail) return;
    wait.idle();
  }
}

bool is_closed(const ring_state& r) noexcept {
  return r.owner.load(std::memory_order_relaxed) == owner_none; // [A5] under [A3]
}

/// Claims the link of a queue while in scope, unless it is kept.
class link_claim {
 public:
  link_claim(queue_state& q, link_state as) noexcept : q_(q) {
    link_state idle = link_state::idle;
    // [A3] acquire: pairs with the release [A4]: the last one's doings are seen, its ring among
    // them.
    have_ = q.link.compare_exchange_strong(idle, as, std::memory_order_acquire,
                                           std::memory_order_relaxed); // [A3] failed: nothing seen
  }
  ~link_claim() {
    if (have_) q_.link.store(link_state::idle, std::memory_order_release); // [A4] pairs with [A3]
  }
  link_claim(const link_claim&) = delete;
  link_claim& operator=(const link_claim&) = delete;
  explicit operator bool() const noexcept { return have_; }
  void keep(link_state as) noexcept {
    q_.link.store(as, std::memory_order_relaxed); // [A3] still this thread's
    have_ = false;
  }

 private:
  queue_state& q_;
  bool have_;
};

} // namespace

// --- links --------------------------------------------------------------------------------------

// The entry and the commit word that counts it, in the record's one line. The link is claimed.
void queue_table::state::link(std::uint32_t queue, ring_state& r, std::uint64_t base) noexcept {
  queue_state& q = queue_at(queue);
  queue_record& record = record_of(queue);
  const auto log2 = static_cast<std::uint8_t>(std::countr_zero(r.size()));
  // [A7] only a release changes the word meanwhile: it takes rings off the front, and the place of
  // the new entry stays what it is.
  std::uint64_t word = std::atomic_ref(record.commit).load(std::memory_order_acquire); // [A7]
  queue_commit now = queue_commit::unpack(word);
  if (now.count == 0) now.first = 0;
  queue_ring& entry = record.rings[(now.first + now.count) % queue_rings_max];
  const auto store_entry = [&] {
    const queue_ring next =
        queue_ring::sealed(queue, queue_base{base, log2}.pack(), r.blocks.first, r.blocks.blocks);
    medium.store(&entry.base, next.base);   // [P15]
    medium.store(&entry.chain, next.chain); // [P15]
  };
  if (!seeded_bug("ring.entry_last")) store_entry();
  do {
    now = queue_commit::unpack(word);
    if (now.count == 0) now.first = 0;
    ++now.count;
    now.mode = r.mode;
    // [P7] the link: pairs with [P6] in clear() and [P8] in link_finish(). [P15] behind its entry.
  } while (!medium.compare_exchange(&record.commit, word, now.pack(queue))); // [A8] [P7] [P15]
  if (seeded_bug("ring.entry_last")) store_entry();
  q.spare = &r;
}

link_status queue_table::link_start(std::uint32_t queue) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  if (s.ring_of(queue) != nullptr) [[likely]] {
    // [A3] a look: who comes a moment too early finds the ring closed.
    return q.link.load(std::memory_order_relaxed) == link_state::linking ? link_status::wait
                                                                         : link_status::ready;
  }
  link_claim claim(q, link_state::linking);
  if (!claim) return link_status::wait;
  if (s.ring_of(queue) != nullptr) return link_status::ready;
  if (q.damaged.load(std::memory_order_relaxed)) return link_status::refused; // [A3] orders it
  ring_state* r = nullptr;
  {
    std::lock_guard hold(s.lock);
    if (!s.stock.empty()) {
      r = s.stock.back();
      s.stock.pop_back();
    }
  }
  if (r == nullptr) {
    tally(s.refused_ring);
    return link_status::refused;
  }
  set_base(*r, queue, q.rest_ticket, q.rest_ticket, q.mode.load(std::memory_order_relaxed)); // [M2]
  s.link(queue, *r, q.rest_ticket);
  claim.keep(link_state::linking);
  if (seeded_bug("ring.attach_undrained")) {
    link_finish(queue);
    return link_status::ready;
  }
  return link_status::linking;
}

void queue_table::link_flush(std::uint32_t queue) noexcept {
  state_->medium.flush(&state_->record_of(queue), sizeof(queue_record)); // [P7] before [P8]
}

void queue_table::link_finish(std::uint32_t queue) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  CHAINRING_ASSERT(q.spare != nullptr);
  ring_state& r = *q.spare;
  ring_state* const old = q.ring.load(std::memory_order_relaxed); // [A2] under [A3]
  q.spare = nullptr;
  q.quiet = 0;
  r.prepare_at = r.capacity < s.capacity_max ? r.capacity - r.capacity / 4 : 0;
  // [P7 < P8] the caller has drained the link; from here on slots are placed behind it.
  //      Without it a published message lies in a ring that no queue has.
  r.owner.store(owner_of(queue, incarnation(queue)), std::memory_order_relaxed); // [A5] before [A1]
  if (old == nullptr) q.first.store(&r, std::memory_order_release); // [A1] [P8] pairs with [A2]
  q.ring.store(&r, std::memory_order_release);                      // [A1] [P8] pairs with [A2]
  // [A9] release: pairs with [A10]. Behind [A1]: once a consumer sees it, it may take the old ring
  //      away, and no producer may be sent there any more.
  if (old != nullptr) old->successor.store(&r, std::memory_order_release); // [A9]
  q.link.store(link_state::idle, std::memory_order_release); // [A4] release: pairs with [A3]
}

link_status queue_table::link_now(std::uint32_t queue) noexcept {
  link_status s = link_start(queue);
  if (s == link_status::refused) {
    hook_point("ring.prepare.refused");
    refill(std::max(state_->options.stock, 1u)); // or somebody else has: then nothing is added
    s = link_start(queue);
  }
  if (s != link_status::linking) return s;
  link_flush(queue);
  state_->medium.drain(); // [P7] before [P8]
  link_finish(queue);
  return link_status::ready;
}

// --- appends ------------------------------------------------------------------------------------

// Closes `old` and links `r`, which is cleared and drained, behind it. The link is claimed.
void queue_table::state::append(std::uint32_t queue, ring_state& old, ring_state& r) noexcept {
  const std::uint64_t before = old.next.load(std::memory_order_relaxed); // [N2] see below
  hook_point("ring.append.closing");
  close(old);
  hook_point("ring.append.closed");
  // [N1] closed: the counter rests. It is the base: every ticket given lies in a ring's window.
  std::uint64_t base = old.next.load(std::memory_order_relaxed); // [N1] behind [A5]
  if (seeded_bug("ring.base_early")) base = before;
  if (seeded_bug("ring.base_head")) base = old.head.load(std::memory_order_relaxed); // [K2]
  set_base(r, queue, base, base, old.mode);
  if (seeded_bug("ring.append_copies")) [[unlikely]] { // the way it is not done: see there
    const std::uint64_t head = old.head.load(std::memory_order_relaxed); // [K2]
    for (std::uint64_t t = head + 1; t <= base; ++t) {
      ring_slot& to = r.slots[static_cast<std::uint32_t>(t - 1 - head) & r.mask];
      medium.store(&to.ref, old.slots[old.index_of(t)].ref); // [P14]
      medium.store(&to.tag, old.slots[old.index_of(t)].tag); // [P14]
    }
    persist_range(medium, r.slots, r.size() * sizeof(ring_slot)); // [P6]
    link(queue, r, head);
    std::uint64_t word = record_of(queue).commit;
    queue_commit c = queue_commit::unpack(word);
    c.first = static_cast<std::uint8_t>((c.first + c.count - 1) % queue_rings_max);
    c.count = 1;
    medium.compare_exchange(&record_of(queue).commit, word, c.pack(queue)); // [A8]
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
  ring_state* const r = s.ring_of(queue); // under the claim it stays
  if (r == nullptr || is_closed(*r)) return link_status::wait;
  // Not rte_ring_free_count(), whose loads are plain.
  const std::uint64_t from =
      std::max(r->base, r->head.load(std::memory_order_acquire)); // [K2] pairs with [K1]
  const std::uint64_t in_use = r->next.load(std::memory_order_relaxed) - from; // [N2]
  if (in_use + n <= r->capacity && free_count(queue) >= n) return link_status::ready;
  const queue_commit c = queue_commit::unpack(
      std::atomic_ref(s.record_of(queue).commit).load(std::memory_order_acquire)); // [A7]
  const std::uint64_t last = r->next.load(std::memory_order_relaxed);              // [N2]
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
  link_status is = grow(queue, n);
  if (is == link_status::unprepared) {
    hook_point("ring.grow.unprepared");
    const bool room = state_->prepare_larger(queue, n) != state::larger_ring::no_room;
    is = grow(queue, n); // whoever was quicker may have prepared it, or done it all
    if (is == link_status::unprepared) return room ? link_status::wait : link_status::no_room;
  }
  if (is != link_status::linking) return is;
  link_flush(queue);
  state_->medium.drain(); // [P7] before [P8]
  link_finish(queue);
  return link_status::ready;
}

// The next size, allocated, cleared and drained; kept with the queue until its ring is full. For
// `n` slots that found no room, or (0) at leisure; and only where the newest ring still wants it:
// after an append it is another.
queue_table::state::larger_ring queue_table::state::prepare_larger(std::uint32_t queue,
                                                                   std::uint32_t n) noexcept {
  queue_state& q = queue_at(queue);
  const std::uint32_t wanted = q.wanted.exchange(0, std::memory_order_relaxed); // [S1] an estimate
  std::uint32_t capacity = 0;
  {
    link_claim claim(q, link_state::claimed);
    const ring_state* const r = ring_of(queue);
    if (!claim || r == nullptr || q.spare != nullptr) return larger_ring::seen_to;
    const queue_commit c =
        queue_commit::unpack(std::atomic_ref(record_of(queue).commit)
                                 .load(std::memory_order_acquire)); // [A7] an estimate
    capacity = grown_from(r->capacity, c.count);
    if (capacity == r->capacity || c.count == queue_rings_max) return larger_ring::seen_to;
    const std::uint64_t in_use =
        r->next.load(std::memory_order_relaxed) -
        std::max(r->base, r->head.load(std::memory_order_relaxed)); // [N2] [K2] an estimate
    const bool filling =
        n == 0 && r->high_water.load(std::memory_order_relaxed) >= r->prepare_at; // [N2]
    if (!filling && in_use + (n == 0 ? wanted : n) <= r->capacity) return larger_ring::seen_to;
  }
  reclaim(); // rings that are over make room
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
  retire(*larger); // somebody was quicker
  return larger_ring::seen_to;
}

namespace {
constexpr std::uint32_t quiet_visits = 4;
constexpr std::uint32_t quiet_part = 8; ///< "nearly empty": at most capacity / 8 in use
} // namespace

// One visit: a queue that was nearly empty at this one and those before gets a smaller ring.
bool queue_table::state::shrink(std::uint32_t queue) noexcept {
  queue_state& q = queue_at(queue);
  if (ring_of(queue) == nullptr) return false;
  link_claim claim(q, link_state::claimed);
  if (!claim) return false;
  ring_state* const r = ring_of(queue);
  if (r == nullptr || is_closed(*r) || r->capacity <= ring_capacity ||
      q.first.load(std::memory_order_relaxed) != r) // [A2] one ring, and larger than the first was
    return false;
  const std::uint32_t depth = static_cast<std::uint32_t>(
      r->next.load(std::memory_order_relaxed) - r->head.load(std::memory_order_relaxed)); // [N2]
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
  // [A7] acquire: what was stored before the exchange [A8] is seen with it.
  return queue_commit::unpack(std::atomic_ref(state_->record_of(queue).commit)
                                  .load(std::memory_order_acquire)) // [A7]
      .incarnation;
}

bool queue_table::state::set_mode(std::uint32_t queue, queue_mode mode) noexcept {
  queue_state& q = queue_at(queue);
  link_claim claim(q, link_state::claimed);
  if (!claim || q.damaged.load(std::memory_order_relaxed)) return false; // [A3] orders it
  ring_state* const first = first_of(queue);
  if (first != nullptr && first->releasing.load(std::memory_order_relaxed)) return false; // [L1]
  for (ring_state* r = first; r != nullptr; r = r->following()) {
    advance(*r);
    if (r->acked.load(std::memory_order_relaxed) != r->cursor.load(std::memory_order_relaxed))
      return false; // [K2] [C2] no consumer call meanwhile
  }
  std::uint64_t word =
      std::atomic_ref(record_of(queue).commit).load(std::memory_order_acquire); // [A7]
  queue_commit now;
  do {
    now = queue_commit::unpack(word);
    now.mode = mode;
  } while (!medium.compare_exchange(&record_of(queue).commit, word, now.pack(queue))); // [A8] [P17]
  if (!seeded_bug("ring.mode_undrained")) {
    medium.flush(&record_of(queue), sizeof(queue_record)); // [P17] before [P18]
    medium.drain();                                        // [P17] before [P18]
  }
  q.mode.store(mode, std::memory_order_relaxed); // [M1] [P18] pairs with [M2]
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
  // Of a damaged record the incarnation may be as damaged as the rest.
  if (!q.damaged.load(std::memory_order_relaxed) && // [A3] orders it
      this->incarnation(queue) != incarnation)
    return restart_status::changed;
  if (ring_state* const first = s.first_of(queue); first != nullptr) {
    // [L1] acquire: no release is open from here to restart_finish().
    if (first->releasing.exchange(true, std::memory_order_acquire))
      return restart_status::busy; // [L1]
    close(*s.ring_of(queue));
    std::uint64_t t = first->head.load(std::memory_order_relaxed); // [K2] under [L1]
    for (ring_state* r = first; r != nullptr; r = r->following()) {
      for (const std::uint64_t tail = r->tail(t); t < tail; ++t) {
        // [R2] acquire: pairs with [R1]: whoever placed it does nothing with the ring any more.
        if (state_of(r->marks[r->index_of(t + 1)].load(std::memory_order_acquire), t + 1) != // [R2]
            mark_state::unready)
          continue;
        first->releasing.store(false, std::memory_order_release); // [L2] release: pairs with [L1]
        return restart_status::busy;
      }
    }
  }
  std::uint64_t word =
      std::atomic_ref(record.commit).load(std::memory_order_acquire); // [A7] under [A3]
  if (!queue_head::well_formed(record.head, queue))                   // only where it was damaged
    s.medium.store(&record.head, 0); // [P15] before the commit word
  // [P9] everything in it is unreachable: pairs with [P10] in restart_finish().
  const queue_commit next{incarnation + 1, 0, 0, q.mode.load(std::memory_order_relaxed)}; // [M2]
  const bool stored =
      s.medium.compare_exchange(&record.commit, word, next.pack(queue)); // [A8] [P9]
  CHAINRING_ASSERT(stored);
  claim.keep(link_state::restarting);
  return restart_status::stored;
}

void queue_table::restart_flush(std::uint32_t queue) noexcept {
  state_->medium.flush(&state_->record_of(queue), sizeof(queue_record)); // [P9] before [P10]
}

void queue_table::restart_finish(std::uint32_t queue) noexcept {
  state& s = *state_;
  queue_state& q = s.queue_at(queue);
  // [P9 < P10] the caller has drained the restart; what was in the queue may go.
  //      Without it a crash shows the old queue over blocks that were used again.
  ring_state* r = s.first_of(queue);
  if (r != nullptr) {
    q.rest_ticket = s.ring_of(queue)->next.load(std::memory_order_relaxed); // [N2] closed: it rests
    q.ring.store(nullptr, std::memory_order_release);                       // [A1] pairs with [A2]
    q.first.store(nullptr, std::memory_order_release);                      // [A1] pairs with [A2]
  }
  while (r != nullptr) {
    ring_state* const next = r->following();
    const std::uint64_t head = r->head.load(std::memory_order_relaxed); // [K2] under [L1]
    const std::uint64_t tail = r->next.load(std::memory_order_relaxed); // [N2] closed: it rests
    s.drop_references(*r, head, tail);
    dequeue(*r, tail);
    s.retire(*r);
    r = next;
  }
  if (q.spare != nullptr) s.retire(*q.spare);
  q.spare = nullptr;
  q.quiet = 0;
  q.drop_requests.store(0, std::memory_order_relaxed);       // [D2]
  q.damaged.store(false, std::memory_order_relaxed);         // [A4] orders it
  q.link.store(link_state::idle, std::memory_order_release); // [A4] release: pairs with [A3]
}

} // namespace chainring
