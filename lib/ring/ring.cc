// SPDX-License-Identifier: BSD-3-Clause
// Queues: tables, first rings, restart. Placing is in place.cc, consuming in lease.cc, recovery in
// ring_recover.cc.
//
// Edges (what one thread sees of another), for the whole component:
//   edge                                                        breaks without it
//   [A1] ring pointer release -> [A2] acquire                   a ring is used before it is set up
//   [A3] link claimed, acquire <- [A4] given back, release      two threads link one queue
//   [A5] owner stored, owning rte_ring's producer side (or the  a producer places in a ring that is
//        ring full, and every dequeue later) -> [A6] owner      not the queue's any more
//        loaded after rte_ring's start
//   [A7] commit word read -> [A8] exchanged                     a change is made to another
//   [R1] mark `ready` release -> [R2] mark acquire              a slot is read before it is durable
//   [R3] rte_ring's finish release -> [R4] its tail acquire     a mark is read before its slot
//   [C1] cursor release -> [C2] acquire                         an entry leased twice; an ack of
//   what
//                                                               is not leased
//   [K1] acked release -> [K2] acquire                          an ack of what is done with
//   [K3] mark exchanged by its one acker -> [R2]                two acks of one lease
//   [L1] releaser's lock acquire <- [L2] release                two releasers free one prefix
//   [S1] list lock acquire <- [S2] release                      a ring in two queues
//   next, high_water: [N1] stored between rte_ring's start and finish, whose own edges order them;
//        [N2] loaded as an estimate
//   drop requests: [D1] added, [D2] taken: a count and nothing else
//
// Crash windows (what must be durable before what is stored or done):
//   [P1] slots flushed, drained     < [P2] the message's publication is stored (by the publisher)
//        A crash between: the slots are void, for the message is not published.
//   [P2] publication drained        < [P3] marks say ready
//        A crash between: the message is in all its queues and was not acknowledged.
//   [P4] head flushed, drained      < [P5] slots are free, references dropped
//        A crash between: the entries are gone, their messages unreachable.
//   [P6] ring cleared, drained      < [P7] the commit word that links it is stored
//        A crash between: nothing links to it. Without it, old payload reads as slots.
//   [P7] link flushed, drained      < [P8] ring pointer set: slots are placed in it
//        A crash between: an empty ring. Without it, published messages lie in no queue.
//   [P9] restart flushed, drained   < [P10] references dropped, the ring taken away
//        A crash between: an empty queue of the next incarnation.
//   [P11] what recovery read flushed, drained < [P12] acted upon
//        Without it, what was only visible steers recovery, and a power cut takes it back.
//   [P12] voids flushed, drained    < [P13] anything allocated
//        Without it, the slot's message is published by somebody else, in the same generation.
//   [P14] ref stored before the tag of its line: a tag never validates another ref
//   [P15] entry stored before the commit word of its line: a count never counts another entry
//   [P16] tag changed, flushed: durable with the burst; until then the entry comes again
#include "ring/ring.h"

#include <new>

#include "base/hook.h"
#include "ring/queue_state.h"

namespace chainring {

using namespace detail;

namespace detail {

void make_ring(ring_state& r, media& on, const block_store& blocks, const chain& at, unsigned log2,
               std::uint32_t capacity, std::atomic<std::uint32_t>* marks) noexcept {
  new (&r) ring_state;
  std::byte* memory = blocks.address(at);
  on.declare_scratch(memory, ring_header_size);
  r.ring = reinterpret_cast<rte_ring*>(memory);
  r.slots = reinterpret_cast<ring_slot*>(memory + ring_header_size);
  r.marks = marks;
  r.blocks = at;
  r.mask = (1u << log2) - 1;
  r.capacity = capacity;
  // The flag makes rte_ring round capacity + 1 up to the slots there are.
  const int made = rte_ring_init(r.ring, "chainring", capacity,
                                 RING_F_MP_HTS_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
  CHAINRING_ASSERT(made == 0 && r.ring->size == r.size());
}

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

void set_base(ring_state& r, std::uint64_t base, std::uint64_t from, queue_mode mode) noexcept {
  // Nobody consumes from a ring without an owner: how its other side synchronises can change.
  r.ring->cons.sync_type = mode == queue_mode::mpmc ? RTE_RING_SYNC_MT_HTS : RTE_RING_SYNC_ST;
  move_positions(r, static_cast<std::uint32_t>(from - base - r.ring->cons.tail) & r.mask);
  r.mode = mode;
  r.base = base;
  r.origin = from - r.ring->cons.tail;
  // Nobody else has the ring: [A1] publishes all of this.
  r.next.store(from, std::memory_order_relaxed);       // [N1] before [A1]
  r.high_water.store(0, std::memory_order_relaxed);    // [N1] before [A1]
  r.cursor.store(from, std::memory_order_relaxed);     // [C1] before [A1]
  r.acked.store(from, std::memory_order_relaxed);      // [K1] before [A1]
  r.head.store(from, std::memory_order_relaxed);       // [K1] before [A1]
  r.returned.store(0, std::memory_order_relaxed);      // [C1] before [A1]
  r.releasing.store(false, std::memory_order_relaxed); // [L2] before [A1]
  r.release_to = from;
  r.delivered = from;
}

} // namespace detail

queue_table::queue_table(media& on, queue_record* records, std::uint32_t count, block_store& blocks,
                         message_table* messages, std::unique_ptr<state> s) noexcept
    : media_(on), records_(records), count_(count), blocks_(blocks), messages_(messages),
      state_(std::move(s)) {}

queue_table::~queue_table() {
  if (!state_) return;
  for (std::uint64_t i = 0; i < state_->rings_used; ++i)
    media_.retract_scratch(state_->rings.data()[i].ring, ring_header_size);
}

result<std::unique_ptr<queue_table>> queue_table::create(media& on, std::uint64_t offset,
                                                         std::uint32_t count, block_store& blocks,
                                                         message_table* messages,
                                                         queue_table_options options) {
  auto refuse = [](std::string text) {
    return error{errc::invalid_argument, "queue table: " + std::move(text)};
  };
  if (offset % cacheline_size != 0)
    return refuse("offset " + std::to_string(offset) + ": expected a multiple of 64");
  if (count == 0 || count == UINT32_MAX)
    return refuse("count " + std::to_string(count) + ": expected 1 to 4294967294");
  if (offset > on.size() || bytes_for(count) > on.size() - offset)
    return refuse("count " + std::to_string(count) + ": " + std::to_string(bytes_for(count)) +
                  " bytes from " + std::to_string(offset) + " are past the region's end");
  auto s = std::make_unique<state>();
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
  s->options = options;
  if (!s->queues.make(count))
    return error{errc::no_space, "queue table: no memory for " + std::to_string(count) + " queues"};
  auto* records = reinterpret_cast<queue_record*>(on.base() + offset);
  return std::unique_ptr<queue_table>(
      new queue_table(on, records, count, blocks, messages, std::move(s)));
}

result<void> queue_table::make_pool(std::uint64_t rings) {
  state& s = *state_;
  const std::uint64_t wanted = s.options.rings_max == 0 ? count_ : s.options.rings_max;
  s.rings_max = std::max<std::uint64_t>(wanted, rings);
  if (!s.rings.make(s.rings_max) || !s.marks.make(s.rings_max << s.log2_slots))
    return error{errc::no_space, "queue table: no memory for the state of " +
                                     std::to_string(s.rings_max) + " rings"};
  s.stock.reserve(s.rings_max);
  s.dirty.reserve(s.rings_max);
  return {};
}

result<void> queue_table::start() {
  if (auto made = make_pool(0); !made) return made;
  refill(state_->options.stock);
  return {};
}

queue_state& queue_table::at(std::uint32_t queue) const noexcept {
  CHAINRING_ASSERT(queue < count_);
  return state_->queues.data()[queue];
}

ring_state* queue_table::ring_of(std::uint32_t queue) const noexcept {
  // [A2] acquire: pairs with the release [A1] in attached().
  //      Without it the ring's fields are read before they are set.
  return at(queue).ring.load(std::memory_order_acquire);
}

// --- the stock ----------------------------------------------------------------------------------

namespace {

// [P6 < P7] cleared and drained before anything links to it.
//      Without it what lay in these blocks before reads as slots: a publisher can forge entries.
void clear(media& on, ring_state& r) noexcept {
  static constexpr std::byte zeros[1024]{};
  auto* to = reinterpret_cast<std::byte*>(r.slots);
  std::uint64_t left = std::uint64_t{r.size()} * sizeof(ring_slot);
  while (left != 0) { // in one piece, unless the medium cannot drain so much at once
    const std::uint64_t piece = std::min(left, on.drain_bytes_max() / 2);
    for (std::uint64_t done = 0; done < piece; done += sizeof zeros)
      on.write(to + done, zeros, std::min(piece - done, sizeof zeros)); // [P6] before its flush
    on.flush(to, piece); // [P6] before [P7] in prepare()
    on.drain();          // [P6] before [P7] in prepare()
    to += piece;
    left -= piece;
  }
}

} // namespace

// One more ring in the list of those to be cleared. False: no state or no blocks are left.
bool queue_table::add_ring() noexcept {
  state& s = *state_;
  chain at;
  if (s.rings_used == s.rings_max || !blocks_.allocate_contiguous(s.ring_blocks, at)) return false;
  ring_state& r = s.rings.data()[s.rings_used];
  make_ring(r, media_, blocks_, at, s.log2_slots, s.ring_capacity,
            s.marks.data() + (s.rings_used << s.log2_slots));
  ++s.rings_used;
  s.dirty.push_back(&r);
  return true;
}

std::uint32_t queue_table::refill(std::uint32_t rings_max) noexcept {
  state& s = *state_;
  std::uint32_t added = 0;
  while (added < rings_max) {
    ring_state* r = nullptr;
    {
      std::lock_guard hold(s.lock);
      if (s.stock.size() >= s.options.stock && s.dirty.empty()) break;
      if (s.dirty.empty() && !add_ring()) break;
      r = s.dirty.back();
      s.dirty.pop_back();
    }
    for (std::uint32_t i = 0; i <= r->mask; ++i)
      r->marks[i].store(0, std::memory_order_relaxed); // [R1] in no queue: [A1] follows
    if (!seeded_bug("ring.uncleared")) clear(media_, *r);
    ++added;
    std::lock_guard hold(s.lock);
    s.stock.push_back(r);
  }
  return added;
}

// --- the first ring -----------------------------------------------------------------------------

prepare_status queue_table::prepare(std::uint32_t queue) noexcept {
  queue_state& q = at(queue);
  if (ring_of(queue) != nullptr) [[likely]]
    return prepare_status::ready;
  link_state idle = link_state::idle;
  // [A3] acquire: pairs with the release [A4]: the last one's doings are seen, its ring among them.
  if (!q.link.compare_exchange_strong(idle, link_state::linking, std::memory_order_acquire,
                                      std::memory_order_relaxed)) // [A3] failed: nothing was seen
    return prepare_status::wait;
  state& s = *state_;
  auto give_back = [&](prepare_status answer) {
    q.link.store(link_state::idle, std::memory_order_release); // [A4] release: pairs with [A3]
    return answer;
  };
  if (ring_of(queue) != nullptr) return give_back(prepare_status::ready);
  if (q.damaged.load(std::memory_order_relaxed)) // [A3] orders it
    return give_back(prepare_status::refused);
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
    return give_back(prepare_status::refused);
  }
  set_base(*r, q.rest_ticket, q.rest_ticket, q.mode);
  queue_record& record = records_[queue];
  const auto log2 = static_cast<std::uint8_t>(std::countr_zero(r->size()));
  media_.store(&record.rings[0].base, queue_base{q.rest_ticket, log2}.pack()); // [P15]
  media_.store(&record.rings[0].chain,
               std::uint64_t{r->blocks.first} | std::uint64_t{r->blocks.blocks} << 32); // [P15]
  // [A7] the word changes only under the link claim, which this thread has: [A8] succeeds.
  std::uint64_t word = std::atomic_ref(record.commit).load(std::memory_order_relaxed); // [A7]
  const queue_commit now{queue_commit::unpack(word).incarnation, 0, 1, q.mode};
  // [P7] the link: pairs with [P6] in refill() and [P8] in attached(). [P15] behind its entry.
  const bool stored = media_.compare_exchange(&record.commit, word, now.pack()); // [A8] [P7] [P15]
  CHAINRING_ASSERT(stored);
  q.pending = r;
  if (seeded_bug("ring.attach_undrained")) {
    attached(queue);
    return prepare_status::ready;
  }
  return prepare_status::linking;
}

void queue_table::flush_link(std::uint32_t queue) noexcept {
  media_.flush(&records_[queue], sizeof(queue_record)); // [P7] before [P8]
}

void queue_table::attached(std::uint32_t queue) noexcept {
  queue_state& q = at(queue);
  CHAINRING_ASSERT(q.pending != nullptr);
  ring_state& r = *q.pending;
  q.pending = nullptr;
  // [P7 < P8] the caller has drained the link; from here on slots are placed behind it.
  //      Without it a published message lies in a ring that no queue has.
  rte_ring_zc_data unused;
  // [A5] owner changes while this thread owns the producers' side: see [A6] in put().
  CHAINRING_ASSERT(
      rte_ring_enqueue_zc_bulk_elem_start(r.ring, sizeof(ring_slot), 1, &unused, nullptr) == 1);
  r.owner.store(owner_of(queue, incarnation(queue)), std::memory_order_relaxed); // [A5]
  rte_ring_enqueue_zc_elem_finish(r.ring, 0);
  q.ring.store(&r, std::memory_order_release);               // [A1] [P8] pairs with [A2]
  q.link.store(link_state::idle, std::memory_order_release); // [A4] release: pairs with [A3]
}

prepare_status queue_table::prepare_now(std::uint32_t queue) noexcept {
  prepare_status s = prepare(queue);
  if (s == prepare_status::refused && refill(std::max(state_->options.stock, 1u)) != 0)
    s = prepare(queue);
  if (s != prepare_status::linking) return s;
  flush_link(queue);
  media_.drain(); // [P7] before [P8]
  attached(queue);
  return prepare_status::ready;
}

// --- restart ------------------------------------------------------------------------------------

std::uint32_t queue_table::incarnation(std::uint32_t queue) const noexcept {
  // [A7] acquire: what was stored before the exchange [A8] is seen with it.
  return queue_commit::unpack(
             std::atomic_ref(records_[queue].commit).load(std::memory_order_acquire)) // [A7]
      .incarnation;
}

bool queue_table::set_mode(std::uint32_t queue, queue_mode mode) noexcept {
  queue_state& q = at(queue);
  link_state idle = link_state::idle;
  if (!q.link.compare_exchange_strong(idle, link_state::linking, std::memory_order_acquire,
                                      std::memory_order_relaxed)) // [A3] as in prepare()
    return false;
  const bool empty = ring_of(queue) == nullptr;
  if (empty) q.mode = mode;
  q.link.store(link_state::idle, std::memory_order_release); // [A4] release: pairs with [A3]
  return empty;
}

restart_status queue_table::restart(std::uint32_t queue, std::uint32_t incarnation) noexcept {
  queue_state& q = at(queue);
  queue_record& record = records_[queue];
  std::uint64_t word = std::atomic_ref(record.commit).load(std::memory_order_acquire); // [A7]
  if (queue_commit::unpack(word).incarnation != incarnation) return restart_status::changed;
  link_state idle = link_state::idle;
  if (!q.link.compare_exchange_strong(idle, link_state::restarting, std::memory_order_acquire,
                                      std::memory_order_relaxed)) // [A3] as in prepare()
    return restart_status::busy;
  auto busy = [&] {
    q.link.store(link_state::idle, std::memory_order_release); // [A4] release: pairs with [A3]
    return restart_status::busy;
  };
  if (ring_state* r = ring_of(queue); r != nullptr) {
    // [L1] acquire: no release is open from here to restarted().
    if (r->releasing.exchange(true, std::memory_order_acquire)) return busy();
    rte_ring_zc_data unused;
    const bool room =
        rte_ring_enqueue_zc_bulk_elem_start(r->ring, sizeof(ring_slot), 1, &unused, nullptr) != 0;
    // [A5] either this thread owns the producers' side; or the ring is full, and stays so until a
    //      dequeue, which only the holder of the releaser's lock does: this thread, later.
    r->owner.store(owner_none, std::memory_order_relaxed); // [A5] pairs with [A6]
    if (room) rte_ring_enqueue_zc_elem_finish(r->ring, 0);
    const std::uint64_t head = r->head.load(std::memory_order_relaxed); // [K2] under [L1]
    const std::uint64_t tail = r->tail(head);
    for (std::uint64_t t = head + 1; t <= tail; ++t) {
      // [R2] acquire: pairs with [R1]: whoever placed it does nothing with the ring any more.
      if (state_of(r->marks[r->index_of(t)].load(std::memory_order_acquire), t) !=
          mark_state::unready)
        continue;
      r->releasing.store(false, std::memory_order_release); // [L2] release: pairs with [L1]
      return busy();
    }
  }
  word = std::atomic_ref(record.commit).load(std::memory_order_acquire); // [A7] under [A3]
  if (record.head > ticket_max) media_.store(&record.head, 0); // [P15] only where it was damaged
  // [P9] everything in it is unreachable: pairs with [P10] in restarted().
  const queue_commit next{incarnation + 1, 0, 0, q.mode};
  const bool stored = media_.compare_exchange(&record.commit, word, next.pack()); // [A8] [P9]
  CHAINRING_ASSERT(stored);
  return restart_status::stored;
}

void queue_table::flush_restart(std::uint32_t queue) noexcept {
  media_.flush(&records_[queue], sizeof(queue_record)); // [P9] before [P10]
}

void queue_table::restarted(std::uint32_t queue) noexcept {
  queue_state& q = at(queue);
  state& s = *state_;
  // [P9 < P10] the caller has drained the restart; what was in the queue may go.
  //      Without it a crash shows the old queue over blocks that were used again.
  if (ring_state* r = ring_of(queue); r != nullptr) {
    const std::uint64_t head = r->head.load(std::memory_order_relaxed); // [K2] under [L1]
    const std::uint64_t tail = r->next.load(std::memory_order_relaxed); // [N2] closed: it rests
    drop_references(*r, head, tail);
    if (const auto n = static_cast<std::uint32_t>(tail - head); n != 0) {
      rte_ring_zc_data unused;
      CHAINRING_ASSERT(rte_ring_dequeue_zc_bulk_elem_start(r->ring, sizeof(ring_slot), n, &unused,
                                                           nullptr) == n);
      rte_ring_dequeue_zc_elem_finish(r->ring, n);
    }
    q.rest_ticket = tail;
    q.ring.store(nullptr, std::memory_order_release); // [A1] pairs with [A2]
    std::lock_guard hold(s.lock);
    if (r->size() == 1u << s.log2_slots) s.dirty.push_back(r);
  }
  q.drop_requests.store(0, std::memory_order_relaxed);       // [D2]
  q.damaged.store(false, std::memory_order_relaxed);         // [A4] orders it
  q.link.store(link_state::idle, std::memory_order_release); // [A4] release: pairs with [A3]
}

// --- queries ------------------------------------------------------------------------------------

queue_statistics queue_table::statistics(std::uint32_t queue) const noexcept {
  const queue_state& q = at(queue);
  queue_statistics out;
  const queue_commit c = queue_commit::unpack(
      std::atomic_ref(records_[queue].commit).load(std::memory_order_acquire)); // [A7]
  out.incarnation = c.incarnation;
  out.mode = c.count != 0 ? c.mode : q.mode;
  out.damaged = q.damaged.load(std::memory_order_relaxed); // [A3] a report
  out.refused = counted(q.refused);
  out.dropped_newest = counted(q.dropped_newest);
  out.dropped_oldest = counted(q.dropped_oldest);
  const ring_state* r = ring_of(queue);
  if (r == nullptr) {
    out.head = out.tail = out.leased = q.rest_ticket;
    return out;
  }
  out.capacity = r->capacity;
  out.head = r->head.load(std::memory_order_acquire);     // [K2] before the tail: depth >= 0
  out.leased = r->cursor.load(std::memory_order_acquire); // [C2] likewise
  out.tail = r->next.load(std::memory_order_relaxed);     // [N2]
  out.depth = static_cast<std::uint32_t>(out.tail - out.head);
  out.high_water = r->high_water.load(std::memory_order_relaxed); // [N2]
  return out;
}

queue_table_statistics queue_table::statistics() const noexcept {
  const state& s = *state_;
  queue_table_statistics out;
  out.queues = count_;
  out.rings_max = s.rings_max;
  {
    std::lock_guard hold(state_->lock);
    out.rings = s.rings_used;
    out.rings_in_stock = s.stock.size();
  }
  for (std::uint32_t i = 0; i < count_; ++i)
    out.damaged += at(i).damaged.load(std::memory_order_relaxed); // [A3] a report
  out.refused = counted(s.refused);
  out.refused_ring = counted(s.refused_ring);
  out.dropped_newest = counted(s.dropped_newest);
  out.dropped_oldest = counted(s.dropped_oldest);
  out.voided = counted(s.voided);
  return out;
}

} // namespace chainring
