// SPDX-License-Identifier: BSD-3-Clause
/// Inside lib/ring: the run-time state of queues and rings, in DRAM, rebuilt at every open. Edges:
/// ring.cc.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <rte_ring.h>
#include <rte_ring_elem.h>
// Behind rte_ring_elem.h: it does not compile alone.
#include <rte_ring_peek_zc.h>
#include <vector>

#include "base/assert.h"
#include "base/cacheline.h"
#include "base/grace.h"
#include "base/idle.h"
#include "base/lazy_array.h"
#include "base/spin_lock.h"
#include "ring/ring.h"

namespace chainring::detail {

static_assert(sizeof(rte_ring) == ring_header_size);
static_assert(offsetof(rte_ring_headtail, tail) == offsetof(__rte_ring_hts_pos, pos.tail));

/// What a slot's mark says of the ticket it is for. Marks of other tickets mean `unready`, so that
/// nothing has to be cleared when a slot is used again, and what is late finds nothing to change.
enum class mark_state : std::uint32_t {
  unready = 0,  ///< being placed: consumers stop here
  ready = 1,    ///< durable and published; leased where the cursor has passed it
  done = 2,     ///< acknowledged, void or given up
  returned = 3, ///< leased and given back
  hole = 4,     ///< found by recovery with nothing to deliver: counts as no reference
};

/// A mark: state in bits 0..2, the lease's generation in 3..6 (how often the entry was given back,
/// modulo 16), the ticket's low 25 bits in 7..31.
/// A slot's mark is stored at least once a lap and a ring has at most 2^24 slots, so that 25 bits
/// tell its tickets apart.
inline constexpr unsigned mark_generation_shift = 3;
inline constexpr std::uint32_t mark_generation_max = 15;
inline constexpr unsigned mark_ticket_shift = 7;
static_assert(mark_ticket_shift + ring_log2_max + 1 <= 32);

constexpr std::uint32_t mark_of(std::uint64_t ticket, mark_state s,
                                std::uint32_t generation = 0) noexcept {
  return static_cast<std::uint32_t>(ticket << mark_ticket_shift) |
         generation << mark_generation_shift | static_cast<std::uint32_t>(s);
}
constexpr mark_state state_of(std::uint32_t mark, std::uint64_t ticket) noexcept {
  const std::uint32_t s = mark ^ mark_of(ticket, mark_state::unready);
  return s >> mark_ticket_shift == 0 ? static_cast<mark_state>(s & 7) : mark_state::unready;
}
constexpr std::uint32_t generation_of(std::uint32_t mark) noexcept {
  return mark >> mark_generation_shift & mark_generation_max;
}
/// The same ticket and generation in another state.
constexpr std::uint32_t mark_as(std::uint32_t mark, mark_state s) noexcept {
  return (mark & ~std::uint32_t{7}) | static_cast<std::uint32_t>(s);
}
/// The same ticket in another state, of the next lease: who has the one before has none.
constexpr std::uint32_t mark_given_back(std::uint64_t ticket, std::uint32_t mark,
                                        mark_state s) noexcept {
  return mark_of(ticket, s, (generation_of(mark) + 1) & mark_generation_max);
}
constexpr bool is_over(mark_state s) noexcept {
  return s == mark_state::done || s == mark_state::hole;
}

/// Queue and incarnation a ring serves: number in bits 32..63, incarnation in 0..31.
constexpr std::uint64_t owner_of(std::uint32_t queue, std::uint32_t incarnation) noexcept {
  return std::uint64_t{queue} << 32 | incarnation;
}
inline constexpr std::uint64_t owner_queue_mask = ~std::uint64_t{0} << 32;
/// Closed: nothing is placed in it.
inline constexpr std::uint64_t owner_none = ~std::uint64_t{0};

inline constexpr std::uint64_t no_deadline = ~std::uint64_t{0};

/// Of a slot in a table of timed leases: when the lease ends, and which one. In front of a ring's
/// slots' stands one more, whose `until` is not above any of them that counts.
struct lease_time {
  std::atomic<std::uint64_t> whose; ///< ticket in bits 0..55, generation in 56..59; 0: nobody's
  std::atomic<std::uint64_t> until; ///< deadline in the caller's unit
};
constexpr std::uint64_t lease_name(std::uint64_t ticket, std::uint32_t generation) noexcept {
  return ticket | std::uint64_t{generation} << 56;
}

/// A ring. Out of its queue it stays a ring until its grace period is over: a producer that still
/// has the address finds `owner` changed, a consumer finds everything in it over.
struct alignas(cacheline_size) ring_state {
  // Constant while a queue has it.
  rte_ring* ring = nullptr;
  ring_slot* slots = nullptr;
  std::atomic<std::uint32_t>* marks = nullptr;
  std::uint64_t base = 0;   ///< the ticket before the one that slot 0 first had
  std::uint64_t origin = 0; ///< the ticket before the one at rte_ring's position 0, modulo 2^32
  std::uint32_t mask = 0;
  std::uint32_t capacity = 0;
  std::atomic<std::uint64_t> owner{owner_none};
  queue_mode mode = queue_mode::mpsc; ///< changes when nothing else happens
  bool own_marks = false;             ///< allocated for it alone
  std::uint32_t queue = 0;            ///< whose it is: its slots' checks are keyed by it

  // The producers', between rte_ring's start and finish.
  alignas(cacheline_size) std::atomic<std::uint64_t> next{0}; ///< last ticket given
  std::atomic<std::uint32_t> high_water{0};
  std::uint32_t prepare_at = 0; ///< the depth at which its successor is asked for; 0: never
  chain blocks;                 ///< constant

  // The consumer's.
  alignas(cacheline_size) std::atomic<std::uint64_t> cursor{0}; ///< last ticket leased
  std::atomic<std::uint64_t> acked{0}; ///< all tickets to here are done with
  std::atomic<std::uint64_t> head{0};  ///< all tickets to here are released, durably
  std::uint64_t release_to = 0;        ///< what the releaser has stored
  std::uint64_t delivered = 0;         ///< tickets to here may have been delivered earlier
  std::atomic<std::uint32_t> returned{0};
  std::atomic<bool> releasing{false}; ///< of the queue's oldest ring: the releaser's lock
  std::uint8_t unlinked = 0;          ///< rings, from this one on, that the releaser has unlinked
  /// The ring that follows, once slots may be placed in it: then this one ends at its base.
  std::atomic<ring_state*> successor{nullptr};
  lease_time* times = nullptr; ///< constant; null: leases have no time limit

  [[nodiscard]] std::uint32_t index_of(std::uint64_t ticket) const noexcept {
    return static_cast<std::uint32_t>(ticket - 1 - base) & mask;
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return mask + 1; }
  [[nodiscard]] lease_time& time_of(std::uint64_t ticket) const noexcept {
    return times[1 + index_of(ticket)];
  }
  [[nodiscard]] std::atomic<std::uint64_t>& earliest() const noexcept { return times[0].until; }
  /// The last ticket that producers have finished placing, seen from a consumer at `cursor`.
  [[nodiscard]] std::uint64_t tail(std::uint64_t at) const noexcept {
    // [R4] acquire: pairs with the release [R3] in rte_ring's finish.
    //      Without it a slot's mark could be read before the slot is placed.
    const std::uint32_t position = __atomic_load_n(&ring->prod.tail, __ATOMIC_ACQUIRE); // [R4]
    return at + static_cast<std::uint32_t>(position - static_cast<std::uint32_t>(at - origin));
  }
  /// The ring that tickets go on in, or null.
  [[nodiscard]] ring_state* following() const noexcept {
    // [A10] acquire: pairs with the release [A9] in link_finish().
    //      Without it the successor's fields are read before they are set.
    return successor.load(std::memory_order_acquire); // [A10]
  }
};
static_assert(sizeof(ring_state) == 3 * cacheline_size);

/// What a ring has in DRAM beside its state.
struct ring_arrays {
  std::atomic<std::uint32_t>* marks = nullptr;
  lease_time* times = nullptr;
  bool own_marks = false;
};

enum class link_state : std::uint8_t {
  idle,
  claimed,    ///< for a moment: a ring is being prepared for it, or its mode changed
  linking,    ///< between link_start() or grow() and link_finish(), by one thread
  restarting, ///< between restart_start() and restart_finish()
};

inline constexpr std::uint32_t no_queue = UINT32_MAX;

struct alignas(cacheline_size) queue_state {
  std::atomic<ring_state*> ring{nullptr};  ///< the newest: where producers place
  std::atomic<ring_state*> first{nullptr}; ///< the oldest: where consumers begin
  /// Whoever has claimed the link: a ring prepared for an append; while linking, the one linked.
  ring_state* spare = nullptr;
  std::uint64_t rest_ticket = 0; ///< where tickets go on when there is no ring
  std::atomic<link_state> link{link_state::idle};
  std::atomic<bool> damaged{false};
  std::atomic<bool> wanting{false}; ///< in the list of queues that want a larger ring
  std::atomic<queue_mode> mode{queue_mode::mpsc};
  std::uint8_t quiet = 0; ///< claimed: visits at which it was nearly empty
  std::atomic<std::uint32_t> drop_requests{0};
  std::atomic<std::uint32_t> refused{0};
  std::atomic<std::uint32_t> dropped_newest{0}, dropped_oldest{0};
  std::uint32_t next_wanting = no_queue; ///< under the list lock
  std::atomic<std::uint32_t> wanted{0};  ///< most slots that grow() found no room for
};
static_assert(sizeof(queue_state) == cacheline_size);

/// A counter that only informs.
template <class T> void tally(std::atomic<T>& counter, T n = 1) noexcept {
  counter.fetch_add(n, std::memory_order_relaxed);
}
template <class T> [[nodiscard]] T counted(const std::atomic<T>& counter) noexcept {
  return counter.load(std::memory_order_relaxed);
}

/// Records that lie together, of the queues from `first` to before `end`. Constant once counted.
struct record_segment {
  queue_record* records = nullptr;
  std::uint64_t offset = 0; ///< of the media
  std::uint32_t first = 0;
  std::uint32_t end = 0;
};

/// A ring out of its queue.
struct retired_ring {
  ring_state* ring;
  std::uint64_t stamp;
};

} // namespace chainring::detail

namespace chainring {

/// Everything that a queue table is. The public members of queue_table and queue_consumer are
/// bodies over it, in the same files as the members of `state` that they call.
struct queue_table::state {
  media& medium;
  block_store& blocks;
  message_table* messages; ///< null: a table of value queues

  queue_table_options options;
  unsigned log2_slots = 0;         ///< of a queue's first ring
  std::uint32_t ring_capacity = 0; ///< of a queue's first ring
  std::uint32_t ring_blocks = 0;   ///< of a queue's first ring
  std::uint32_t capacity_max = 0;  ///< of a queue; ring_capacity: rings do not grow

  detail::record_segment segments[queue_segments_max];
  std::atomic<std::uint32_t> count{0}; ///< of queues, in all segments
  unsigned segment_count = 0;          ///< under the lock
  std::uint32_t queues_max = 0;        ///< what the arrays have room for

  detail::lazy_array<detail::queue_state> queues;
  detail::lazy_array<detail::ring_state> rings;
  detail::lazy_array<std::atomic<std::uint32_t>> marks; ///< (1 << log2_slots) a ring
  std::uint64_t rings_room = 0;                         ///< what the arrays have room for
  detail::grace_periods grace;

  std::uint64_t changed = 0; ///< bytes that recovery has flushed since its last drain
  std::atomic<std::uint32_t> visit_next{0}; ///< the queue that maintain() looks at next

  alignas(cacheline_size) spin_lock lock; ///< guards the rest, but for the counters
  std::uint64_t rings_max = 0;            ///< rises with the queues, unless the options say it
  std::uint64_t rings_used = 0;
  std::uint64_t rings_live = 0;            ///< of them, those that have blocks
  std::uint64_t blocks_live = 0;           ///< blocks they have
  std::vector<detail::ring_state*> stock;  ///< cleared and drained: ready to be linked
  std::vector<detail::ring_state*> dirty;  ///< to be cleared
  std::vector<detail::ring_state*> unused; ///< states without blocks
  std::vector<detail::retired_ring> retired;
  std::uint32_t wanting_first = detail::no_queue; ///< a list through next_wanting

  std::atomic<std::uint64_t> refused_ring{0}, refused{0}, dropped_newest{0}, dropped_oldest{0},
      voided{0}, grown{0}, shrunk{0};

  state(media& m, block_store& b, message_table* t) noexcept : medium(m), blocks(b), messages(t) {}

  /// Rings at most, where there are that many queues.
  [[nodiscard]] std::uint64_t rings_for(std::uint64_t queues_there) const noexcept {
    if (options.rings_max != 0) return options.rings_max;
    return capacity_max > ring_capacity ? queues_there * (queue_rings_max + 1) + options.stock
                                        : queues_there;
  }
  /// Takes the segment's queues over. None is used before `count` says so.
  [[nodiscard]] result<void> take(media& on, const queue_segment& s);

  /// For the state `r`, all zero; its own where the ring is not of the usual size. False: no
  /// memory.
  [[nodiscard]] bool take_arrays(const detail::ring_state& r, unsigned log2,
                                 detail::ring_arrays& out) const noexcept;

  /// Slots of a ring that holds `capacity`.
  [[nodiscard]] static unsigned log2_for(std::uint32_t capacity) noexcept {
    return std::max(static_cast<unsigned>(std::bit_width(capacity)), ring_log2_min);
  }
  /// What a ring found on media may hold.
  [[nodiscard]] std::uint32_t capacity_of(unsigned log2) const noexcept {
    if (log2 == log2_slots) return ring_capacity;
    return log2_for(capacity_max) == log2 ? capacity_max : (1u << log2) - 1;
  }
  /// What the ring that follows one of `capacity` may hold, in a queue of `rings`; `capacity` at
  /// the limit. The last ring a queue can have is as large as it may become, whatever is left in
  /// those before: a queue that nobody consumes can be filled to its limit.
  [[nodiscard]] std::uint32_t grown_from(std::uint32_t capacity, unsigned rings) const noexcept {
    if (capacity >= capacity_max) return capacity;
    return rings + 1 >= queue_rings_max ? capacity_max : std::min(2 * capacity + 1, capacity_max);
  }

  // --- queues and their rings -------------------------------------------------------------------

  [[nodiscard]] std::uint32_t queue_count() const noexcept {
    return count.load(std::memory_order_acquire); // [G2] pairs with [G1]
  }
  [[nodiscard]] detail::queue_state& queue_at(std::uint32_t queue) const noexcept {
    CHAINRING_ASSERT(queue < queue_count());
    return queues.data()[queue];
  }
  [[nodiscard]] queue_record& record_of(std::uint32_t queue) const noexcept {
    CHAINRING_ASSERT(queue < queue_count()); // [G2] its segment is there
    const detail::record_segment* s = segments;
    while (queue >= s->end)
      ++s;
    return s->records[queue - s->first];
  }
  /// The newest ring, where producers place; null: none.
  [[nodiscard]] detail::ring_state* ring_of(std::uint32_t queue) const noexcept {
    // [A2] acquire: pairs with the release [A1] in link_finish().
    //      Without it the ring's fields are read before they are set.
    return queue_at(queue).ring.load(std::memory_order_acquire); // [A2]
  }
  /// The oldest ring, where consumers begin; null: none.
  [[nodiscard]] detail::ring_state* first_of(std::uint32_t queue) const noexcept {
    return queue_at(queue).first.load(std::memory_order_acquire); // [A2] pairs with [A1]
  }
  /// The ring that `ticket` is in, if it is in any.
  [[nodiscard]] detail::ring_state* ring_for(std::uint32_t queue,
                                             std::uint64_t ticket) const noexcept {
    detail::ring_state* r = first_of(queue);
    while (r != nullptr) {
      detail::ring_state* const next = r->following();
      if (next == nullptr || ticket <= next->base) break;
      r = next;
    }
    return r;
  }
  /// A consumer call holds this while it runs: where other consumers may take rings away, it keeps
  /// the rings that the call reads.
  [[nodiscard]] detail::inside consuming(std::uint32_t queue) noexcept {
    // [M2] the one consumer of a queue takes rings away itself: nobody else does under its hands.
    return detail::inside(grace, queue_at(queue).mode.load(std::memory_order_relaxed) == // [M2]
                                     queue_mode::mpmc);
  }

  // --- placing: place.cc ------------------------------------------------------------------------

  template <bool all>
  place_status put(std::uint32_t queue, std::uint64_t owner, std::uint64_t owner_mask,
                   const std::uint64_t* words, std::uint32_t n, placement& out) noexcept;

  // --- leases and acknowledgements: lease.cc ----------------------------------------------------

  [[nodiscard]] std::uint32_t lease_until(std::uint32_t queue, std::span<leased> out,
                                          std::uint64_t deadline) noexcept;
  [[nodiscard]] std::uint32_t lease_ready(std::uint32_t queue, detail::ring_state& r,
                                          std::uint64_t& acked, std::span<leased> out) noexcept;
  [[nodiscard]] std::uint32_t lease_returned(detail::ring_state& r, std::span<leased> out) noexcept;
  [[nodiscard]] std::uint32_t lease_shared(detail::ring_state& r, std::span<leased> out) noexcept;
  [[nodiscard]] std::uint64_t settled(std::uint32_t queue) const noexcept;
  ack_status settle(std::uint32_t queue, std::uint64_t ticket, slot_state to,
                    std::uint32_t generation) noexcept;
  bool give_back(std::uint32_t queue, std::uint64_t ticket, std::uint32_t generation) noexcept;
  [[nodiscard]] std::uint32_t expire_in(detail::ring_state& r, std::uint64_t now,
                                        std::uint32_t n_max) noexcept;

  // --- the head: release.cc ---------------------------------------------------------------------

  void drop_references(const detail::ring_state& r, std::uint64_t after,
                       std::uint64_t through) noexcept;
  [[nodiscard]] std::uint32_t drop_from(detail::ring_state& r, std::uint32_t n,
                                        bool& stopped) noexcept;
  [[nodiscard]] bool droppable(const detail::ring_state& r, std::uint64_t ticket,
                               bool leased_now) const noexcept;

  // --- rings coming and going: link.cc ----------------------------------------------------------

  enum class larger_ring : std::uint8_t { prepared, seen_to, no_room };
  void link(std::uint32_t queue, detail::ring_state& r, std::uint64_t base) noexcept;
  void append(std::uint32_t queue, detail::ring_state& old, detail::ring_state& r) noexcept;
  larger_ring prepare_larger(std::uint32_t queue, std::uint32_t n) noexcept;
  /// True: a smaller ring's link is stored; link_flush(), a drain and link_finish() follow.
  [[nodiscard]] bool shrink(std::uint32_t queue) noexcept;
  [[nodiscard]] bool set_mode(std::uint32_t queue, queue_mode mode) noexcept;

  // --- the stock, and what is done at leisure: ring.cc ------------------------------------------

  [[nodiscard]] result<void> make_pool(std::uint64_t rings_found);
  [[nodiscard]] detail::ring_state* new_ring(std::uint32_t capacity) noexcept;
  [[nodiscard]] detail::ring_state* cleared_ring(std::uint32_t capacity) noexcept;
  void clear(detail::ring_state& r) noexcept;
  void retire(detail::ring_state& r) noexcept;
  std::uint32_t reclaim(std::uint32_t most = UINT32_MAX) noexcept;
  void want_larger(std::uint32_t queue, std::uint32_t n) noexcept;
  std::uint32_t next_wanting() noexcept;

  // --- recovery: ring_recover.cc ----------------------------------------------------------------

  void recover_queue(std::uint32_t queue, const incarnation_of& expected, queue_recovery& found);
  void recover_slots(std::uint32_t queue, detail::ring_state& r, std::uint64_t tail,
                     std::uint64_t end, queue_recovery& found);
  void persist_change(const void* from, std::size_t n) noexcept;
};

namespace detail {

/// A slot's word, by whoever has seen its mark.
[[nodiscard]] inline std::uint64_t word_of(const std::uint64_t& word) noexcept {
  // [R2] relaxed: the mark's acquire came before; changed only by this entry's holder.
  return std::atomic_ref(const_cast<std::uint64_t&>(word)).load(std::memory_order_relaxed); // [R2]
}
inline constexpr std::uint64_t redelivered_bit = std::uint64_t{1} << 63;
/// A slot's tag as it is handed out.
[[nodiscard]] constexpr std::uint64_t handed_out(std::uint64_t tag, std::uint32_t mark,
                                                 bool again) noexcept {
  return (tag & slot_tag::checked_mask) | std::uint64_t{generation_of(mark)} << 59 |
         (again ? redelivered_bit : 0);
}
static_assert(slot_state_last < 8, "three bits beside the lease's generation");
inline constexpr std::uint32_t any_generation = ~std::uint32_t{0};
[[nodiscard]] inline bool may_be_delivered(const ring_state& r, std::uint64_t tag,
                                           std::uint64_t ticket) noexcept {
  return tag == slot_tag{ticket, slot_state::queued}.pack(r.queue) ||
         tag == slot_tag{ticket, slot_state::pubrec}.pack(r.queue);
}

/// Blocks of a ring's chain.
[[nodiscard]] inline std::uint64_t ring_blocks(const block_store& blocks, unsigned log2) noexcept {
  return blocks.blocks_for(ring_header_size + (std::uint64_t{sizeof(ring_slot)} << log2));
}
/// The chain of an entry that is whole.
[[nodiscard]] inline chain chain_of(const block_store& blocks, const queue_ring& r) noexcept {
  return {r.first_block(),
          static_cast<std::uint32_t>(ring_blocks(blocks, queue_base::unpack(r.base).log2_slots))};
}
/// Points a ring state at its chain and makes the rte_ring in it anew, empty at position 0.
void make_ring(ring_state& r, media& on, const block_store& blocks, const chain& at, unsigned log2,
               std::uint32_t capacity, const ring_arrays& arrays) noexcept;
/// Frees what is the ring's own.
void free_arrays(ring_state& r) noexcept;
/// Sets an empty ring of `queue` up for tickets behind `from`, in slots counted from `base`.
void set_base(ring_state& r, std::uint32_t queue, std::uint64_t base, std::uint64_t from,
              queue_mode mode) noexcept;
/// How rte_ring's consumer side synchronises. Nobody is in it.
void set_sync(ring_state& r, queue_mode mode) noexcept;
/// The prefix of what is done with grows as far as it goes.
void advance(ring_state& r) noexcept;
/// Takes the tickets behind the head up to `to` out of rte_ring.
void dequeue(ring_state& r, std::uint64_t to) noexcept;

} // namespace detail
} // namespace chainring
