// SPDX-License-Identifier: BSD-3-Clause
// Queue tables: the rings they have in stock, and their background work. Links, appends and
// restarts are in link.cc, placing in place.cc, leases in lease.cc and consumer.cc, the head in
// release.cc, recovery in ring_recover.cc, queries in statistics.cc, grace periods in base/grace.h.
//
// The labels of the whole component, between threads first, then of what must be durable. Where the
// block store, the message table or base/grace.h order something, their files describe it.
//
// Ordering labels:
//   [ring-published]  link_finish() stores the pointer to a ring with release after the ring is set
//     up; ring_of() and first_of() load it with acquire; pairs with [ring-published].
//   [link-claimed]  One thread at a time claims the link of a queue by an exchange with acquire,
//     and gives it back with release; what was changed under the last claim is seen under the next;
//     pairs with [link-claimed].
//   [ring-closed]  close() stores the owner `none`, makes a full fence and then compares rte_ring's
//     head and tail; a producer's start() moves the head, then it makes a full fence and loads the
//     owner; pairs with [ring-closed].
//   [commit-exchanged]  The commit word is loaded with acquire and changed only by a
//     compare-exchange of the seam, since a release and an append may change it at the same time;
//     pairs with [commit-exchanged].
//   [successor-published]  link_finish() stores the pointer to the successor with release, behind
//     [ring-published]; following() loads it with acquire; pairs with [successor-published].
//   [queue-counted]  take() fills in a segment and stores the number of queues with release;
//     queue_count() loads it with acquire; pairs with [queue-counted].
//   [slot-ready]  place_finish() stores the watermark, or the slot's mark, with release after the
//     slot is durable; lease() loads the watermark and then, where there may be one, the mark with
//     acquire, and then reads the slot. Each move of the watermark loads it with acquire before, so
//     it covers what the moves before covered; pairs with [slot-ready].
//   [mark-announced]  A thread raises `marked` before it stores a mark for a ticket that is not
//     leased in mpmc mode. Whoever sees the mark, or the watermark behind it, by [slot-ready],
//     [cursor-moved] or [lease-ended] sees `marked` too, so the access orders nothing itself.
//   [slot-placed]  rte_ring's finish stores the producers' tail with release; tail() loads it with
//     acquire; pairs with [slot-placed].
//   [cursor-moved]  lease() stores the cursor with release, in mpmc mode by an exchange; the calls
//     that ask whether a ticket is leased load it with acquire; pairs with [cursor-moved].
//   [prefix-acked]  The acknowledged prefix and the released head are stored with release and
//     loaded with acquire; pairs with [prefix-acked].
//   [lease-ended]  The mark of a leased entry is exchanged for `done` or `returned` by one thread;
//     advance() loads it with acquire; pairs with [lease-ended].
//   [release-locked]  A releaser takes the lock of the queue's oldest ring with acquire in
//     release_start() and gives it back with release in release_finish(); pairs with
//     [release-locked].
//   [deadline-named]  A lease's deadline is stored, then the number of the lease with release;
//     expire() loads the number with acquire and then the deadline; pairs with [deadline-named].
//   [earliest-deadline]  A lease lowers the earliest deadline of its ring behind [deadline-named];
//     expire() takes the earliest deadline away before it looks at the leases; both exchange, so
//     each sees the other; pairs with [earliest-deadline].
//   [ring-lists]  The lists of rings and of queues that want a larger ring are guarded by the
//     table's lock, whose own edges order their contents; a flag beside a list orders nothing.
//   [ticket-counter]  `next`, `high_water` and `peak` are changed between rte_ring's start and
//     finish, whose own edges order producers; outside of it they are estimates, or the ring is
//     closed and they rest; the accesses order nothing.
//   [drop-requests]  Producers add to the number of requested slots and the consumer resets it; it
//     is a count and orders nothing.
//   [mode-changed]  The mode changes only while no consumer call runs; the load orders nothing.
//   [single-consumer]  In mpsc mode the queue's one consumer is the only writer of what it loads
//     here, so the access orders nothing.
//   [returned-hint]  The number of returned entries only says whether a look at the marks may find
//     one; it orders nothing.
//   [queue-estimate]  A report or a decision that may be made on an old value; it orders nothing.
//   [exchange-decides]  The load only supplies the value that the following exchange expects; the
//     exchange orders, the load orders nothing.
//   [queue-recovery-alone]  Recovery runs before any other thread uses the table; it orders
//     nothing.
//
//   The rest of the table says what must be durable before what is stored or done.
//
// Ordering labels:
//   [slots-before-publish]  Slots are flushed and drained before the publisher stores the
//     publication of their message.
//   [publication-before-mark]  The publication is drained before the marks say `ready`.
//   [head-before-reuse]  The head, and the commit word in its line, are flushed and drained before
//     slots are free, references are dropped and an unlinked ring is retired.
//   [clear-before-link]  A ring is cleared and drained before the commit word that links it is
//     stored.
//   [link-before-use]  The link is flushed and drained before the ring pointer is set, so before
//     slots are placed in the ring.
//   [restart-before-free]  A restart is flushed and drained before references are dropped and the
//     rings are taken away.
//   [read-before-repair]  What recovery reads is flushed and drained before recovery acts on it.
//   [voids-before-allocation]  The voids and repairs of recovery are flushed and drained before
//     anything is allocated.
//   [voids-in-pieces]  On media that bounds a drain, recovery drains its voids in pieces before the
//     caller's drain.
//   [ref-before-tag]  The ref of a slot is stored before the tag in its line.
//   [entry-before-commit]  The entry of a ring is stored before the commit word in its line.
//   [tag-with-burst]  A changed tag is stored before its flush, and is durable with the drain of
//     the burst.
//   [mode-before-leases]  A changed mode is flushed and drained before entries are leased in it.
#include "ring/ring.h"

#include <algorithm>
#include <new>

#include "base/hook.h"
#include "ring/queue_state.h"

namespace chainring {

using namespace detail;

namespace detail {

void make_ring(ring_state& r, media& medium, const block_store& blocks, const chain& at,
               unsigned log2, std::uint32_t capacity, const ring_arrays& arrays) noexcept {
  new (&r) ring_state;
  std::byte* memory = blocks.address(at);
  medium.declare_scratch(memory, ring_header_size);
  r.ring = reinterpret_cast<rte_ring*>(memory);
  r.marks = arrays.marks;
  r.own_marks = arrays.own_marks;
  r.times = arrays.times;
  r.blocks = at;
  r.mask = (1u << log2) - 1;
  r.capacity = capacity;
  // RING_F_EXACT_SZ makes rte_ring round capacity + 1 up to the number of slots.
  const int made = rte_ring_init(r.ring, "chainring", capacity,
                                 RING_F_MP_HTS_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
  CHAINRING_ASSERT(made == 0 && r.ring->size == r.size());
}

void free_arrays(ring_state& r) noexcept {
  if (r.own_marks) delete[] r.marks;
  delete[] r.times;
  r.own_marks = false;
  r.marks = nullptr;
  r.times = nullptr;
}

namespace {

/// Moves rte_ring's positions forward by `n`. The ring is empty and no other thread uses it.
void move_positions(ring_state& r, std::uint32_t n) noexcept {
  while (n != 0) {
    const std::uint32_t step = n < r.capacity ? n : r.capacity;
    rte_ring_zc_data at;
    CHAINRING_ASSERT(
        rte_ring_enqueue_zc_bulk_elem_start(r.ring, sizeof(ring_slot), step, &at, nullptr) == step);
    rte_ring_enqueue_zc_elem_finish(r.ring, step);
    CHAINRING_ASSERT(
        rte_ring_dequeue_zc_bulk_elem_start(r.ring, sizeof(ring_slot), step, &at, nullptr) == step);
    rte_ring_dequeue_zc_elem_finish(r.ring, step);
    n -= step;
  }
}

} // namespace

void set_sync(ring_state& r, queue_mode mode) noexcept {
  r.ring->cons.sync_type = mode == queue_mode::mpmc ? RTE_RING_SYNC_MT_HTS : RTE_RING_SYNC_ST;
}

void set_base(ring_state& r, std::uint32_t queue, std::uint64_t base, std::uint64_t from,
              queue_mode mode) noexcept {
  set_sync(r, mode);
  move_positions(r, static_cast<std::uint32_t>(from - base - r.ring->cons.tail) & r.mask);
  r.mode = mode;
  r.queue = queue;
  r.base = base;
  r.origin = from - r.ring->cons.tail;
  // No other thread has the ring yet: [ring-published] publishes all of these stores.
  r.next.store(from, std::memory_order_relaxed);         // [ticket-counter]
  r.high_water.store(0, std::memory_order_relaxed);      // [ticket-counter]
  r.peak.store(0, std::memory_order_relaxed);            // [ticket-counter]
  r.ready.store(from, std::memory_order_relaxed);        // [slot-ready]
  r.marked.store(from, std::memory_order_relaxed);       // [mark-announced]
  r.cursor.store(from, std::memory_order_relaxed);       // [cursor-moved]
  r.acked.store(from, std::memory_order_relaxed);        // [prefix-acked]
  r.head.store(from, std::memory_order_relaxed);         // [prefix-acked]
  r.returned.store(0, std::memory_order_relaxed);        // [cursor-moved]
  r.releasing.store(false, std::memory_order_relaxed);   // [release-locked]
  r.successor.store(nullptr, std::memory_order_relaxed); // [successor-published]
  r.unlinked = 0;
  r.release_to = from;
  r.delivered = from;
}

void dequeue(ring_state& r, std::uint64_t to) noexcept {
  const auto n = static_cast<std::uint32_t>(
      to - r.head.load(std::memory_order_relaxed)); // [single-consumer] [release-locked]
  if (n == 0) return;
  hook_point("ring.release.freeing");
  rte_ring_zc_data unused;
  const unsigned got =
      rte_ring_dequeue_zc_bulk_elem_start(r.ring, sizeof(ring_slot), n, &unused, nullptr);
  CHAINRING_ASSERT(got == n);
  rte_ring_dequeue_zc_elem_finish(r.ring, n);
}

} // namespace detail

bool queue_table::state::take_arrays(const ring_state& r, unsigned log2,
                                     ring_arrays& out) const noexcept {
  const std::size_t size = std::size_t{1} << log2;
  out.own_marks = log2 != log2_slots;
  out.marks = out.own_marks ? new (std::nothrow) std::atomic<slot_mark>[size]()
                            : marks.data() + (static_cast<std::size_t>(&r - rings.data()) << log2);
  out.times = options.timed_leases ? new (std::nothrow) lease_time[size + 1]() : nullptr;
  if (out.marks != nullptr && (out.times != nullptr || !options.timed_leases)) return true;
  if (out.own_marks) delete[] out.marks;
  delete[] out.times;
  return false;
}

queue_table::queue_table(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}

queue_table::~queue_table() {
  if (!state_) return;
  for (std::uint64_t i = 0; i < state_->rings_used; ++i) {
    ring_state& r = state_->rings[i];
    if (r.ring == nullptr) continue;
    state_->medium.retract_scratch(r.ring, ring_header_size);
    free_arrays(r);
  }
}

namespace {

error refuse(std::string text) {
  return error{errc::invalid_argument, "queue table: " + std::move(text)};
}

} // namespace

// Gives queues the mode that they have before their first ring. create() calls it once there are
// queues in DRAM.
void queue_table::state::set_first_mode(std::uint32_t from, std::uint32_t to) noexcept {
  if (queues.data() == nullptr || options.mode == queue_mode::mpsc) return;
  for (std::uint32_t q = from; q < to; ++q)
    queues[q].mode.store(options.mode, std::memory_order_relaxed); // [mode-changed]
}

result<void> queue_table::state::take(const queue_segment& s) {
  const std::uint32_t have = count.load(std::memory_order_relaxed); // [queue-counted]
  if (segment_count == queue_segments_max)
    return refuse("the table already has " + std::to_string(queue_segments_max) +
                  " segments, the most a table can have; make each segment of more queues");
  if (s.offset % cacheline_size != 0)
    return refuse("offset " + std::to_string(s.offset) + " is not a multiple of 64");
  if (s.count == 0 || s.count > queues_max - have)
    return refuse("count " + std::to_string(s.count) + ": expected 1 to " +
                  std::to_string(queues_max - have) + " queues in the segment");
  if (s.offset > medium.size() || bytes_for(s.count) > medium.size() - s.offset)
    return refuse("count " + std::to_string(s.count) + ": the records take " +
                  std::to_string(bytes_for(s.count)) + " bytes from offset " +
                  std::to_string(s.offset) + ", which is past the end of the region");
  for (unsigned i = 0; i < segment_count; ++i) {
    const std::uint64_t at = segments[i].offset;
    if (s.offset < at + bytes_for(segments[i].end - segments[i].first) &&
        at < s.offset + bytes_for(s.count))
      return refuse("offset " + std::to_string(s.offset) +
                    ": the segment overlaps the segment of " +
                    std::to_string(segments[i].end - segments[i].first) + " queues at offset " +
                    std::to_string(at));
  }
  segments[segment_count++] = {reinterpret_cast<queue_record*>(medium.base() + s.offset), s.offset,
                               have, have + s.count};
  set_first_mode(have, have + s.count);
  // [queue-counted] Without it a thread could look for a queue's record in a segment that is not
  // there yet.
  count.store(have + s.count, std::memory_order_release); // [queue-counted]
  return {};
}

result<void> queue_table::add_segment(const queue_segment& s) {
  state& t = *state_;
  if (s.offset % cacheline_size == 0 && s.offset <= t.medium.size() &&
      bytes_for(s.count) <= t.medium.size() - s.offset) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(t.medium.base() + s.offset);
    if (std::any_of(words, words + bytes_for(s.count) / sizeof *words,
                    [](std::uint64_t w) { return w != 0; }))
      return refuse("offset " + std::to_string(s.offset) +
                    ": the queue records are not zero; clear their range and drain it first");
  }
  std::lock_guard hold(t.lock);
  const std::uint64_t before = t.rings_max;
  t.rings_max =
      std::max(before, std::min(t.rings_room, t.rings_for(std::uint64_t{count()} + s.count)));
  auto taken = t.take(s);
  if (!taken) t.rings_max = before;
  return taken;
}

std::uint32_t queue_table::count() const noexcept {
  return state_->queue_count();
}

result<std::unique_ptr<queue_table>> queue_table::create(media& medium, std::uint64_t offset,
                                                         std::uint32_t count, block_store& blocks,
                                                         message_table* messages,
                                                         queue_table_options options) {
  const queue_segment all{offset, count};
  return create(medium, {&all, 1}, blocks, messages, options);
}

result<std::unique_ptr<queue_table>>
queue_table::create(media& medium, std::span<const queue_segment> segments, block_store& blocks,
                    message_table* messages, queue_table_options options) {
  auto s = std::make_unique<state>(medium, blocks, messages);
  std::uint64_t queues = 0;
  for (const queue_segment& g : segments)
    queues += g.count;
  if (segments.empty()) return refuse("no segment is given: expected 1 to 16 segments");
  if (queues == 0 || queues >= UINT32_MAX)
    return refuse("count " + std::to_string(queues) + ": expected 1 to 4294967294 queues");
  s->queues_max = std::max(static_cast<std::uint32_t>(queues), options.queues_max);
  for (const queue_segment& g : segments)
    if (auto taken = s->take(g); !taken) return taken.error();
  if (options.capacity != 0) {
    if (options.capacity >= 1u << ring_log2_max)
      return refuse("capacity " + std::to_string(options.capacity) +
                    ": expected 0, or 2 to 16777215");
    options.slots = std::max(std::bit_ceil(options.capacity + 1), 1u << ring_log2_min);
  }
  if (!std::has_single_bit(options.slots) || options.slots < 1u << ring_log2_min ||
      options.slots > 1u << ring_log2_max)
    return refuse("slots " + std::to_string(options.slots) +
                  ": expected a power of two from 4 to 16777216");
  s->log2_slots = static_cast<unsigned>(std::countr_zero(options.slots));
  // rte_ring rounds capacity + 1 up to a power of two, which must be the number of slots.
  s->ring_capacity = options.capacity == 0 ? options.slots - 1 : options.capacity;
  if (std::bit_ceil(s->ring_capacity + 1) != options.slots)
    return refuse("capacity " + std::to_string(options.capacity) +
                  ": expected 0, or 2 to 16777215");
  const std::uint64_t ring_needs = ring_blocks(blocks, s->log2_slots);
  if (ring_needs > blocks.block_count())
    return refuse("slots " + std::to_string(options.slots) + ": a ring takes " +
                  std::to_string(ring_needs) + " blocks, and the block store has " +
                  std::to_string(blocks.block_count()));
  s->ring_blocks = static_cast<std::uint32_t>(ring_needs);
  if (options.capacity_max != 0 &&
      (options.capacity_max < s->ring_capacity || options.capacity_max >= 1u << ring_log2_max))
    return refuse("capacity_max " + std::to_string(options.capacity_max) + ": expected 0 or " +
                  std::to_string(s->ring_capacity) + " to 16777215");
  s->capacity_max = std::max(options.capacity_max, s->ring_capacity);
  if (options.lease_span == 1)
    return refuse("lease_span 1: expected 0, for any number of leases, or at least 2");
  s->leases_max = options.lease_span == 0 ? ticket_max : options.lease_span - 1;
  s->options = options;
  s->options.count_bytes = options.count_bytes && s->messages != nullptr;
  if (!s->queues.make(s->queues_max) || !s->grace.make() ||
      (s->options.count_bytes && !s->bytes.make(s->queues_max)))
    return error{errc::no_space,
                 "queue table: not enough memory for " + std::to_string(s->queues_max) + " queues"};
  s->set_first_mode(0, s->queue_count());
  return std::unique_ptr<queue_table>(new queue_table(std::move(s)));
}

result<void> queue_table::state::make_pool(std::uint64_t rings_found) {
  rings_max = std::max(rings_for(queue_count()), rings_found);
  rings_room = std::max(rings_for(queues_max), rings_found);
  if (!rings.make(rings_room) || !marks.make(rings_room << log2_slots, true))
    return error{errc::no_space, "queue table: not enough memory for the state of " +
                                     std::to_string(rings_room) + " rings"};
  for (auto* list : {&stock, &dirty, &unused})
    list->reserve(rings_room);
  retired.reserve(rings_room);
  return {};
}

result<void> queue_table::start() {
  if (auto made = state_->make_pool(0); !made) return made;
  refill(state_->options.stock);
  return {};
}

// --- rings --------------------------------------------------------------------------------------

// Clears a ring that no queue has.
// [clear-before-link] Without it the old bytes of these blocks read as slots, and a publisher could
// forge entries. Crash between: nothing links to the ring, and its blocks are free.
void queue_table::state::clear(ring_state& r) noexcept {
  static constexpr std::byte zeros[1024]{};
  for (std::uint32_t i = 0; i <= r.mask; ++i)
    r.marks[i].store(0, std::memory_order_relaxed); // [slot-ready]
  if (r.times != nullptr) {
    for (std::uint32_t i = 0; i <= r.size(); ++i)
      r.times[i].lease_id.store(0, std::memory_order_relaxed);  // [deadline-named]
    r.earliest().store(no_deadline, std::memory_order_relaxed); // [earliest-deadline]
  }
  if (seeded_bug("ring.uncleared") ||
      (seeded_bug("ring.larger_uncleared") && r.size() != 1u << log2_slots))
    return;
  auto* to = reinterpret_cast<std::byte*>(r.slots());
  std::uint64_t left = std::uint64_t{r.size()} * sizeof(ring_slot);
  while (left != 0) { // one piece, unless the medium cannot drain so much at once
    const std::uint64_t piece = std::min(left, medium.drain_bytes_max() / 2);
    for (std::uint64_t done = 0; done < piece; done += sizeof zeros)
      medium.write(to + done, zeros, std::min(piece - done, sizeof zeros)); // [clear-before-link]
    medium.flush(to, piece);                                                // [clear-before-link]
    medium.drain();                                                         // [clear-before-link]
    to += piece;
    left -= piece;
  }
}

// Allocates a ring that is not cleared yet. Null: no ring state, blocks or memory are left.
ring_state* queue_table::state::new_ring(std::uint32_t capacity) noexcept {
  const unsigned log2 = state::log2_for(capacity);
  const auto needs = static_cast<std::uint32_t>(detail::ring_blocks(blocks, log2));
  ring_state* r = nullptr;
  {
    std::lock_guard hold(lock);
    if (!unused.empty()) {
      r = unused.back();
      unused.pop_back();
    } else if (rings_used < rings_max) {
      r = &rings[rings_used++];
    }
  }
  if (r == nullptr) return nullptr;
  chain at;
  ring_arrays arrays;
  const bool made = take_arrays(*r, log2, arrays);
  if (!made || !blocks.allocate_required(needs, at)) {
    if (made && arrays.own_marks) delete[] arrays.marks;
    if (made) delete[] arrays.times;
    std::lock_guard hold(lock);
    unused.push_back(r);
    return nullptr;
  }
  std::lock_guard hold(lock);
  make_ring(*r, medium, blocks, at, log2, capacity, arrays);
  ++rings_live;
  blocks_live += at.blocks;
  return r;
}

// Returns a ring that is cleared and drained, from the stock where that has one.
ring_state* queue_table::state::cleared_ring(std::uint32_t capacity) noexcept {
  if (capacity == ring_capacity) {
    std::lock_guard hold(lock);
    if (!stock.empty()) {
      ring_state* const r = stock.back();
      stock.pop_back();
      return r;
    }
  }
  ring_state* const r = new_ring(capacity);
  if (r != nullptr) clear(*r);
  return r;
}

// Retires a ring that the caller has already removed from its queue.
void queue_table::state::retire(ring_state& r) noexcept {
  const std::uint64_t stamp = grace.stamp();
  std::lock_guard hold(lock);
  retired.push_back({&r, stamp});
}

// Gives back rings that no thread can still reference. It does not wait for a grace period.
std::uint32_t queue_table::state::reclaim(std::uint32_t most) noexcept {
  std::uint64_t newest = 0;
  {
    std::lock_guard hold(lock);
    if (retired.empty()) return 0;
    newest = retired.back().stamp;
  }
  if (!grace.begun(newest)) grace.begin();
  std::uint32_t done = 0;
  while (done < most) {
    ring_state* r = nullptr;
    {
      std::lock_guard hold(lock);
      const auto it =
          std::ranges::find_if(retired, [&](const retired_ring& x) { return grace.over(x.stamp); });
      if (it == retired.end()) return done;
      r = it->ring;
      retired.erase(it);
      // Rings of the first size are kept for other queues, as many as the stock has room for.
      if (r->size() == 1u << log2_slots && r->capacity == ring_capacity &&
          stock.size() + dirty.size() < options.stock) {
        dirty.push_back(r);
        ++done;
        continue;
      }
      --rings_live;
      blocks_live -= r->blocks.blocks;
    }
    medium.retract_scratch(r->ring, ring_header_size);
    blocks.release_required(r->blocks);
    free_arrays(*r);
    r->ring = nullptr;
    ++done;
    std::lock_guard hold(lock);
    unused.push_back(r);
  }
  return done;
}

std::uint32_t queue_table::refill(std::uint32_t rings_max) noexcept {
  state& s = *state_;
  std::uint32_t added = 0;
  s.reclaim(rings_max);
  while (added < rings_max) {
    ring_state* r = nullptr;
    {
      std::lock_guard hold(s.lock);
      if (s.stock.size() >= std::max(s.options.stock, 1u) && s.dirty.empty()) break;
      if (!s.dirty.empty()) {
        r = s.dirty.back();
        s.dirty.pop_back();
      }
    }
    if (r == nullptr) r = s.new_ring(s.ring_capacity);
    if (r == nullptr) break;
    s.clear(*r);
    ++added;
    std::lock_guard hold(s.lock);
    s.stock.push_back(r);
  }
  return added;
}

// --- background work ----------------------------------------------------------------------------

// Notes that the queue wants a larger ring: its newest ring is three quarters full, or had no room
// for `n` slots.
void queue_table::state::want_larger(std::uint32_t queue, std::uint32_t n) noexcept {
  queue_state& q = queue_at(queue);
  if (n > q.wanted.load(std::memory_order_relaxed))                // [queue-estimate]
    q.wanted.store(n, std::memory_order_relaxed);                  // [queue-estimate]
  if (q.wanting.exchange(true, std::memory_order_relaxed)) return; // [ring-lists]
  std::lock_guard hold(lock);
  q.next_wanting = wanting_first;
  wanting_first = queue;
}

std::uint32_t queue_table::state::next_wanting() noexcept {
  std::lock_guard hold(lock);
  const std::uint32_t queue = wanting_first;
  if (queue == no_queue) return queue;
  queue_state& q = queue_at(queue);
  wanting_first = q.next_wanting;
  q.next_wanting = no_queue;
  q.wanting.store(false, std::memory_order_relaxed); // [ring-lists]
  return queue;
}

std::uint32_t queue_table::maintain(std::uint32_t work) noexcept {
  state& s = *state_;
  std::uint32_t done = s.reclaim(work);
  while (done < work) {
    const std::uint32_t queue = s.next_wanting();
    if (queue == no_queue) break;
    done += s.prepare_larger(queue, 0) == state::larger_ring::prepared;
  }
  if (done < work) done += refill(work - done);
  if (done >= work || s.capacity_max == s.ring_capacity) return done;
  const std::uint32_t queues = count();
  for (std::uint32_t looked = 0; looked < queues && looked < work - done && looked < 64; ++looked) {
    const std::uint32_t queue =
        s.visit_next.fetch_add(1, std::memory_order_relaxed) % queues; // [queue-estimate]
    if (!s.shrink(queue)) continue;
    link_flush(queue);
    s.medium.drain(); // [link-before-use]
    link_finish(queue);
    ++done;
  }
  return done;
}

} // namespace chainring
