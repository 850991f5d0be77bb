// SPDX-License-Identifier: BSD-3-Clause
// Queues: tables, the rings they have in stock, what is done at leisure. Links, appends and
// restarts are in link.cc, placing in place.cc, leases in lease.cc and consumer.cc, the head in
// release.cc, recovery in ring_recover.cc, queries in statistics.cc, grace periods in base/grace.h.
// clang-format off
//
// Edges (what one thread sees of another), for the whole component:
//   edge                                                        breaks without it
//   [A1] ring pointer release -> [A2] acquire                   a ring is used before it is set up
//   [A3] link claimed, acquire <- [A4] given back, release      two threads link one queue
//   [A5] ring closed, full fence, rte_ring's head and tail      a producer places in a ring that
//        compared -> rte_ring's start, full fence, [A6] owner   has ended: its slots are in nobody's
//        read                                                   window
//   [A7] commit word read -> [A8] exchanged                     a change is made to another
//   [A9] successor release -> [A10] acquire                     a ring is consumed before it is set
//                                                               up, or unlinked while the queue
//                                                               still points to it
//   [G1] count of queues release -> [G2] acquire                a queue's record is looked for where
//                                                               no segment is
//   [R1] mark `ready` release -> [R2] mark acquire              a slot is read before it is durable
//   [R3] rte_ring's finish release -> [R4] its tail acquire     a mark is read before its slot
//   [C1] cursor release -> [C2] acquire                         an entry leased twice; an ack of
//                                                               what is not leased
//   [K1] acked release -> [K2] acquire                          an ack of what is done with
//   [K3] mark exchanged by its one acker -> [R2]                two acks of one lease
//   [L1] releaser's lock acquire <- [L2] release                two releasers free one prefix
//   [E1] lease's deadline, then its name, release ->            a lease ends at the deadline of the
//        [E2] acquire                                           slot's one before
//   [E3] earliest deadline lowered behind [E1], release ->      a lease never ends
//        [E4] taken before the leases are looked at, acquire
//   [S1] the lists' lock taken <- [S2] given back, whose own    a ring in two queues
//        edges are in block/thread_cache.h
//   grace periods, whose edges are in base/grace.h              a ring is reused in a thread's hands
//   next, high_water: [N1] stored between rte_ring's start and finish, whose own edges order them;
//        [N2] loaded as an estimate
//   drop requests: [D1] added, [D2] taken: a count and nothing else
//   mode: [M1] changed while no consumer call runs; [M2] read
//
// Crash windows (what must be durable before what is stored or done):
//   [P1] slots flushed, drained     < [P2] the message's publication is stored (by the publisher)
//        A crash between: the slots are void, for the message is not published.
//   [P2] publication drained        < [P3] marks say ready
//        A crash between: the message is in all its queues and was not acknowledged.
//   [P4] head flushed, drained      < [P5] slots are free, references dropped, an unlinked ring
//                                          retired
//        A crash between: the entries are gone, their messages unreachable.
//   [P6] ring cleared, drained      < [P7] the commit word that links it is stored
//        A crash between: nothing links to it. Without it, old payload reads as slots.
//   [P7] link flushed, drained      < [P8] ring pointer set: slots are placed in it
//        A crash between: an empty ring. Without it, published messages lie in no queue.
//   [P9] restart flushed, drained   < [P10] references dropped, the rings taken away
//        A crash between: an empty queue of the next incarnation.
//   [P11] what recovery read flushed, drained < [P12] acted upon
//        Without it, what was only visible steers recovery, and a power cut takes it back.
//   [P12] voids flushed, drained    < [P13] anything allocated
//        Without it, the slot's message is published by somebody else, in the same generation.
//   [P14] ref stored before the tag of its line: a tag never validates another ref
//   [P15] entry stored before the commit word of its line: a count never counts another entry
//   [P16] tag changed, flushed: durable with the burst; until then the entry comes again
//   [P17] mode flushed, drained     < [P18] leases are handed out in it
//        Without it a crash brings back the mode before.
// clang-format on
#include "ring/ring.h"

#include <algorithm>
#include <new>

#include "base/hook.h"
#include "ring/queue_state.h"

namespace chainring {

using namespace detail;

namespace detail {

void make_ring(ring_state& r, media& on, const block_store& blocks, const chain& at, unsigned log2,
               std::uint32_t capacity, const ring_arrays& arrays) noexcept {
  new (&r) ring_state;
  std::byte* memory = blocks.address(at);
  on.declare_scratch(memory, ring_header_size);
  r.ring = reinterpret_cast<rte_ring*>(memory);
  r.slots = reinterpret_cast<ring_slot*>(memory + ring_header_size);
  r.marks = arrays.marks;
  r.own_marks = arrays.own_marks;
  r.times = arrays.times;
  r.blocks = at;
  r.mask = (1u << log2) - 1;
  r.capacity = capacity;
  // The flag makes rte_ring round capacity + 1 up to the slots there are.
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
  // Nobody else has the ring: [A1] publishes all of this.
  r.next.store(from, std::memory_order_relaxed);         // [N1] before [A1]
  r.high_water.store(0, std::memory_order_relaxed);      // [N1] before [A1]
  r.cursor.store(from, std::memory_order_relaxed);       // [C1] before [A1]
  r.acked.store(from, std::memory_order_relaxed);        // [K1] before [A1]
  r.head.store(from, std::memory_order_relaxed);         // [K1] before [A1]
  r.returned.store(0, std::memory_order_relaxed);        // [C1] before [A1]
  r.releasing.store(false, std::memory_order_relaxed);   // [L2] before [A1]
  r.successor.store(nullptr, std::memory_order_relaxed); // [A9] before [A1]
  r.unlinked = 0;
  r.release_to = from;
  r.delivered = from;
}

void dequeue(ring_state& r, std::uint64_t to) noexcept {
  const auto n =
      static_cast<std::uint32_t>(to - r.head.load(std::memory_order_relaxed)); // [K2] own
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
  out.marks = out.own_marks ? new (std::nothrow) std::atomic<std::uint32_t>[size]()
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

result<void> queue_table::state::take(media& on, const queue_segment& s) {
  const std::uint32_t have = count.load(std::memory_order_relaxed); // [G2] under the lock
  if (segment_count == queue_segments_max)
    return refuse("segments: there are " + std::to_string(queue_segments_max) +
                  ", as many as a table can have; make the next one of more queues");
  if (s.offset % cacheline_size != 0)
    return refuse("offset " + std::to_string(s.offset) + ": expected a multiple of 64");
  if (s.count == 0 || s.count > queues_max - have)
    return refuse("count " + std::to_string(s.count) + ": expected 1 to " +
                  std::to_string(queues_max - have));
  if (s.offset > on.size() || bytes_for(s.count) > on.size() - s.offset)
    return refuse("count " + std::to_string(s.count) + ": " + std::to_string(bytes_for(s.count)) +
                  " bytes from " + std::to_string(s.offset) + " are past the region's end");
  for (unsigned i = 0; i < segment_count; ++i) {
    const std::uint64_t at = segments[i].offset;
    if (s.offset < at + bytes_for(segments[i].end - segments[i].first) &&
        at < s.offset + bytes_for(s.count))
      return refuse("offset " + std::to_string(s.offset) + ": overlaps the segment of " +
                    std::to_string(segments[i].end - segments[i].first) + " queues at " +
                    std::to_string(at));
  }
  segments[segment_count++] = {reinterpret_cast<queue_record*>(on.base() + s.offset), s.offset,
                               have, have + s.count};
  // [G1] release: pairs with the acquire [G2]. Without it a queue's record is looked for in a
  //      segment that is not there yet.
  count.store(have + s.count, std::memory_order_release); // [G1] pairs with [G2]
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
                    ": the records are not zero; clear the range and drain it first");
  }
  std::lock_guard hold(t.lock);
  const std::uint64_t before = t.rings_max;
  t.rings_max =
      std::max(before, std::min(t.rings_room, t.rings_for(std::uint64_t{count()} + s.count)));
  auto taken = t.take(t.medium, s);
  if (!taken) t.rings_max = before;
  return taken;
}

std::uint32_t queue_table::count() const noexcept {
  return state_->queue_count();
}

result<std::unique_ptr<queue_table>> queue_table::create(media& on, std::uint64_t offset,
                                                         std::uint32_t count, block_store& blocks,
                                                         message_table* messages,
                                                         queue_table_options options) {
  const queue_segment all{offset, count};
  return create(on, {&all, 1}, blocks, messages, options);
}

result<std::unique_ptr<queue_table>>
queue_table::create(media& on, std::span<const queue_segment> segments, block_store& blocks,
                    message_table* messages, queue_table_options options) {
  auto s = std::make_unique<state>(on, blocks, messages);
  std::uint64_t queues = 0;
  for (const queue_segment& g : segments)
    queues += g.count;
  if (segments.empty()) return refuse("segments: there is none, expected 1 to 16");
  if (queues == 0 || queues >= UINT32_MAX)
    return refuse("count " + std::to_string(queues) + ": expected 1 to 4294967294");
  s->queues_max = std::max(static_cast<std::uint32_t>(queues), options.queues_max);
  for (const queue_segment& g : segments)
    if (auto taken = s->take(on, g); !taken) return taken.error();
  if (options.capacity != 0) {
    if (options.capacity >= 1u << ring_log2_max)
      return refuse("capacity " + std::to_string(options.capacity) + ": expected 1 to 16777215");
    options.slots = std::max(std::bit_ceil(options.capacity + 1), 1u << ring_log2_min);
  }
  if (!std::has_single_bit(options.slots) || options.slots < 1u << ring_log2_min ||
      options.slots > 1u << ring_log2_max)
    return refuse("slots " + std::to_string(options.slots) +
                  ": expected a power of two from 4 to 16777216");
  s->log2_slots = static_cast<unsigned>(std::countr_zero(options.slots));
  // rte_ring rounds capacity + 1 up to a power of two, and that has to be the slots there are.
  s->ring_capacity = options.capacity == 0 ? options.slots - 1 : options.capacity;
  if (std::bit_ceil(s->ring_capacity + 1) != options.slots)
    return refuse("capacity " + std::to_string(options.capacity) + ": expected at least 2");
  const std::uint64_t ring_needs = ring_blocks(blocks, s->log2_slots);
  if (ring_needs > blocks.block_count())
    return refuse("slots " + std::to_string(options.slots) + ": a ring of " +
                  std::to_string(ring_needs) + " blocks does not fit the block store");
  s->ring_blocks = static_cast<std::uint32_t>(ring_needs);
  if (options.capacity_max != 0 &&
      (options.capacity_max < s->ring_capacity || options.capacity_max >= 1u << ring_log2_max))
    return refuse("capacity_max " + std::to_string(options.capacity_max) + ": expected 0 or " +
                  std::to_string(s->ring_capacity) + " to 16777215");
  s->capacity_max = std::max(options.capacity_max, s->ring_capacity);
  s->options = options;
  if (!s->queues.make(s->queues_max) || !s->grace.make())
    return error{errc::no_space,
                 "queue table: no memory for " + std::to_string(s->queues_max) + " queues"};
  return std::unique_ptr<queue_table>(new queue_table(std::move(s)));
}

result<void> queue_table::state::make_pool(std::uint64_t rings_found) {
  rings_max = std::max(rings_for(queue_count()), rings_found);
  rings_room = std::max(rings_for(queues_max), rings_found);
  if (!rings.make(rings_room) || !marks.make(rings_room << log2_slots, true))
    return error{errc::no_space, "queue table: no memory for the state of " +
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

// [P6 < P7] cleared and drained before anything links to it.
//      Without it what lay in these blocks before reads as slots: a publisher can forge entries.
void queue_table::state::clear(ring_state& r) noexcept {
  static constexpr std::byte zeros[1024]{};
  for (std::uint32_t i = 0; i <= r.mask; ++i)
    r.marks[i].store(0, std::memory_order_relaxed); // [R1] in no queue: [A1] follows
  if (r.times != nullptr) {
    for (std::uint32_t i = 0; i <= r.size(); ++i)
      r.times[i].whose.store(0, std::memory_order_relaxed);     // [E1] in no queue: [A1] follows
    r.earliest().store(no_deadline, std::memory_order_relaxed); // [E3] in no queue: [A1] follows
  }
  if (seeded_bug("ring.uncleared") ||
      (seeded_bug("ring.larger_uncleared") && r.size() != 1u << log2_slots))
    return;
  auto* to = reinterpret_cast<std::byte*>(r.slots);
  std::uint64_t left = std::uint64_t{r.size()} * sizeof(ring_slot);
  while (left != 0) { // in one piece, unless the medium cannot drain so much at once
    const std::uint64_t piece = std::min(left, medium.drain_bytes_max() / 2);
    for (std::uint64_t done = 0; done < piece; done += sizeof zeros)
      medium.write(to + done, zeros, std::min(piece - done, sizeof zeros)); // [P6] before its flush
    medium.flush(to, piece); // [P6] before [P7] in link()
    medium.drain();          // [P6] before [P7] in link()
    to += piece;
    left -= piece;
  }
}

// A ring with blocks of its own, not cleared yet. Null: no state, blocks or memory are left.
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

// A ring, cleared and drained: from the stock where that has such.
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

// Out of its queue, by stores that came before.
void queue_table::state::retire(ring_state& r) noexcept {
  const std::uint64_t stamp = grace.stamp();
  std::lock_guard hold(lock);
  retired.push_back({&r, stamp});
}

// Gives rings back that no thread can have in hand any more; asks, and does not wait.
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
      // First rings are kept for other queues, as many as the stock has room for.
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
      if (s.stock.size() >= s.options.stock && s.dirty.empty()) break;
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

// --- at leisure ---------------------------------------------------------------------------------

// Its newest ring is three quarters full, or was found full for `n`.
void queue_table::state::want_larger(std::uint32_t queue, std::uint32_t n) noexcept {
  queue_state& q = queue_at(queue);
  if (n > q.wanted.load(std::memory_order_relaxed))                // [S1] an estimate
    q.wanted.store(n, std::memory_order_relaxed);                  // [S1] an estimate
  if (q.wanting.exchange(true, std::memory_order_relaxed)) return; // [S1] orders the list
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
  q.wanting.store(false, std::memory_order_relaxed); // [S2] orders the list
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
        s.visit_next.fetch_add(1, std::memory_order_relaxed) % queues; // [N2] wherever it is
    if (!s.shrink(queue)) continue;
    link_flush(queue);
    s.medium.drain(); // [P7] before [P8]
    link_finish(queue);
    ++done;
  }
  return done;
}

} // namespace chainring
