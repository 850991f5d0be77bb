// SPDX-License-Identifier: BSD-3-Clause
/// Inside lib/ring: the run-time state of queues and rings. It lies in DRAM and is rebuilt at every
/// open. Its ordering labels are described in ring.cc.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <rte_ring.h>
#include <rte_ring_elem.h>
// rte_ring_elem.h comes first because rte_ring_peek_zc.h does not compile alone.
#include <rte_ring_peek_zc.h>
#include <vector>

#include "base/assert.h"
#include "base/cacheline.h"
#include "base/grace.h"
#include "base/hook.h"
#include "base/idle.h"
#include "base/lazy_array.h"
#include "base/spin_lock.h"
#include "ring/ring.h"

namespace chainring::detail {

// What a program is told that may not make a call.
inline constexpr const char* no_such_queue = "a queue that the table does not have; its number is "
                                             "below the count that create() was given, or "
                                             "that add_segment() made of it";
inline constexpr const char* values_beside_messages =
    "a value for a table whose slots name messages; call place_start() with the message, or make "
    "the "
    "table without a message table";
inline constexpr const char* table_not_serving = "a ring of a table that does not serve yet; call "
                                                 "start() where its records are zero, or recover() "
                                                 "and finish_recovery(), first";

static_assert(sizeof(rte_ring) == ring_header_size);
static_assert(offsetof(rte_ring_headtail, tail) == offsetof(__rte_ring_hts_pos, pos.tail));

/// The state of a ticket. A slot's mark gives it where the mark names the ticket. Otherwise the
/// ticket is `ready` if the ring's watermark has reached it, and `unready` if not. So the usual
/// placement is made ready by one store, and a mark is stored only where something else happened.
/// No mark has to be cleared when a slot is used again. A call that was preempted may still name
/// the earlier ticket then. Where the later ticket has a mark, the earlier one counts as `done`.
/// Where it has none, the slot still has the mark that has ended the earlier ticket.
enum class mark_state : std::uint32_t {
  unready = 0,  ///< the slot is being placed: consumers stop here
  ready = 1,    ///< durable and published; leased where the cursor has passed it
  done = 2,     ///< acknowledged, void or given up
  returned = 3, ///< leased and given back
  hole = 4,     ///< there is nothing to deliver here: the slot counts no reference
};

/// A mark holds the state in bits 0..2, the generation of the lease in bits 3..6 (how often the
/// entry was given back, modulo 16) and the ticket in bits 7..62. 0 names no ticket.
using slot_mark = std::uint64_t;
inline constexpr unsigned mark_generation_shift = 3;
inline constexpr std::uint32_t mark_generation_max = 15;
inline constexpr unsigned mark_ticket_shift = 7;
static_assert(ticket_max >> (64 - mark_ticket_shift) == 0);

constexpr slot_mark mark_of(std::uint64_t ticket, mark_state s,
                            std::uint32_t generation = 0) noexcept {
  return ticket << mark_ticket_shift | generation << mark_generation_shift |
         static_cast<std::uint32_t>(s);
}
constexpr bool names(slot_mark mark, std::uint64_t ticket) noexcept {
  return mark >> mark_ticket_shift == ticket;
}
/// True where the slot has been released and used again since it held the ticket. A call that was
/// preempted meanwhile must leave the mark alone, which is another entry's.
inline bool is_newer(slot_mark mark, std::uint64_t ticket) noexcept {
  return mark >> mark_ticket_shift > ticket && !seeded_bug("ring.late_mark_taken");
}
/// The state of a ticket whose slot has this mark, and which is `unmarked` where the mark names an
/// earlier one.
inline mark_state state_of(slot_mark mark, std::uint64_t ticket, mark_state unmarked) noexcept {
  if (is_newer(mark, ticket)) return mark_state::done;
  return names(mark, ticket) ? static_cast<mark_state>(mark & 7) : unmarked;
}
/// The same for a ticket that the cursor has passed.
inline mark_state passed_state(slot_mark mark, std::uint64_t ticket) noexcept {
  return state_of(mark, ticket, mark_state::ready);
}
constexpr std::uint32_t generation_of(slot_mark mark, std::uint64_t ticket) noexcept {
  return names(mark, ticket)
             ? static_cast<std::uint32_t>(mark >> mark_generation_shift) & mark_generation_max
             : 0;
}
/// Returns the mark of the ticket for the same lease in another state.
constexpr slot_mark mark_as(slot_mark mark, std::uint64_t ticket, mark_state s) noexcept {
  return mark_of(ticket, s, generation_of(mark, ticket));
}
/// Returns the mark of the ticket for the next lease. A holder of the previous lease no longer
/// holds the entry.
constexpr slot_mark mark_given_back(std::uint64_t ticket, slot_mark mark, mark_state s) noexcept {
  return mark_of(ticket, s, (generation_of(mark, ticket) + 1) & mark_generation_max);
}
constexpr bool is_over(mark_state s) noexcept {
  return s == mark_state::done || s == mark_state::hole;
}

/// The queue and the incarnation that a ring serves: number in bits 32..63, incarnation in 0..31.
constexpr std::uint64_t owner_of(std::uint32_t queue, std::uint32_t incarnation) noexcept {
  return std::uint64_t{queue} << 32 | incarnation;
}
inline constexpr std::uint64_t owner_queue_mask = ~std::uint64_t{0} << 32;
/// The owner of a closed ring: nothing more is placed in it.
inline constexpr std::uint64_t owner_none = ~std::uint64_t{0};

inline constexpr std::uint64_t no_deadline = ~std::uint64_t{0};

/// The deadline of a slot's lease, in a table with timed leases. A ring's array has one more
/// element than the ring has slots: the deadline of times[0] is a lower bound of all active
/// deadlines in the ring, and times[1 + i] belongs to slot i.
struct lease_time {
  std::atomic<std::uint64_t> lease_id; ///< the lease that the deadline is for; 0: none
  std::atomic<std::uint64_t> deadline; ///< in the caller's unit
};
/// The number of one lease: ticket in bits 0..55, generation in bits 56..59.
constexpr std::uint64_t lease_id_of(std::uint64_t ticket, std::uint32_t generation) noexcept {
  return ticket | std::uint64_t{generation} << 56;
}

/// A ring. A ring removed from its queue stays valid memory until no thread can still reference it.
/// Meanwhile a producer that holds its address finds that `owner` changed, and a consumer finds
/// that every entry in it is done.
///
/// The usual placement touches the first line alone, and what a consumer does the first two.
struct alignas(cacheline_size) ring_state {
  // What producers read and change, between rte_ring's start and finish. The constant members hold
  // while a queue has the ring.
  rte_ring* ring = nullptr; ///< constant
  std::atomic<std::uint64_t> owner{owner_none};
  std::uint64_t base = 0;             ///< constant; the ticket before the first ticket of slot 0
  std::atomic<std::uint64_t> next{0}; ///< last ticket given to a producer
  /// The watermark: the placements of all tickets up to this one are finished. A placement that is
  /// finished before an earlier one is known by its marks until the watermark passes it.
  std::atomic<std::uint64_t> ready{0};
  /// No slot behind this ticket has a mark that names its ticket, except those that consumers of an
  /// mpmc queue have leased. Every ticket up to `delivered` is at most this.
  std::atomic<std::uint64_t> marked{0};
  std::uint32_t mask = 0;     ///< constant
  std::uint32_t capacity = 0; ///< constant
  std::atomic<std::uint32_t> high_water{0};
  std::uint32_t queue =
      0; ///< constant; the queue that owns the ring, which its slots' checks cover

  // What consumers and the releaser change.
  alignas(cacheline_size) std::atomic<std::uint64_t> cursor{0}; ///< last ticket leased
  std::atomic<std::uint64_t> acked{0}; ///< every ticket up to this one is done
  std::atomic<std::uint64_t> head{0};  ///< every ticket up to this one is released, durably
  std::uint64_t release_to = 0;        ///< the head that the releaser has stored
  /// The ring that follows, set once slots may be placed in it. This ring ends at its base.
  std::atomic<ring_state*> successor{nullptr};
  std::atomic<slot_mark>* marks = nullptr; ///< constant
  lease_time* times = nullptr;             ///< constant; null: leases have no deadlines
  std::atomic<std::uint32_t> returned{0};  ///< marks in state `returned`
  std::atomic<bool> releasing{false};      ///< the releaser's lock, in the queue's oldest ring
  std::uint8_t unlinked = 0;          ///< rings, from this one on, that the releaser has unlinked
  queue_mode mode = queue_mode::mpsc; ///< changes only while no consumer call runs
  bool own_marks = false;             ///< constant; the marks were allocated for this ring alone

  // What is needed now and then. Tickets up to `delivered` may have been delivered before.
  alignas(cacheline_size) std::uint64_t delivered = 0;
  /// Constant: the ticket before that of rte_ring's position 0, modulo 2^32.
  std::uint64_t origin = 0;
  std::uint32_t prepare_at = 0; ///< the depth at which a larger ring is requested; 0: never
  /// The largest depth of the queue before the ring was appended, and while older rings were there.
  /// Otherwise `high_water` has it.
  std::atomic<std::uint32_t> peak{0};
  chain blocks;                 ///< constant

  [[nodiscard]] ring_slot* slots() const noexcept {
    return reinterpret_cast<ring_slot*>(reinterpret_cast<std::byte*>(ring) + ring_header_size);
  }
  [[nodiscard]] std::uint32_t index_of(std::uint64_t ticket) const noexcept {
    return static_cast<std::uint32_t>(ticket - 1 - base) & mask;
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return mask + 1; }
  [[nodiscard]] lease_time& time_of(std::uint64_t ticket) const noexcept {
    return times[1 + index_of(ticket)];
  }
  [[nodiscard]] std::atomic<std::uint64_t>& earliest() const noexcept { return times[0].deadline; }
  /// The last ticket whose placement is finished, for a consumer whose cursor is at `at`.
  [[nodiscard]] std::uint64_t tail(std::uint64_t at) const noexcept {
    // [slot-placed] Without it a slot's mark could be read before the slot is placed.
    const std::uint32_t position =
        __atomic_load_n(&ring->prod.tail, __ATOMIC_ACQUIRE); // [slot-placed]
    return at + static_cast<std::uint32_t>(position - static_cast<std::uint32_t>(at - origin));
  }
  /// The state of a ticket that need not be leased, and the mark it was read of.
  [[nodiscard]] mark_state state_at(std::uint64_t ticket, slot_mark& mark) const noexcept {
    // The watermark is loaded first. In the other order a slot could get its mark, and the
    // watermark pass it, between the two loads: a void slot would look ready until its tag is read.
    const mark_state unmarked = ticket <= ready.load(std::memory_order_acquire) // [slot-ready]
                                    ? mark_state::ready
                                    : mark_state::unready;
    mark = marks[index_of(ticket)].load(std::memory_order_acquire); // [slot-ready]
    return state_of(mark, ticket, unmarked);
  }
  [[nodiscard]] mark_state state_at(std::uint64_t ticket) const noexcept {
    slot_mark mark = 0;
    return state_at(ticket, mark);
  }
  /// Says, before a mark is stored, that tickets up to this one may have a mark.
  void raise_marked(std::uint64_t ticket) noexcept {
    std::uint64_t seen = marked.load(std::memory_order_relaxed); // [mark-announced]
    while (seen < ticket && !marked.compare_exchange_weak(
                                seen, ticket, std::memory_order_relaxed)) { // [mark-announced]
    }
  }
  /// True where a mark may name a ticket behind `ticket`.
  [[nodiscard]] bool marked_behind(std::uint64_t ticket) const noexcept {
    return marked.load(std::memory_order_relaxed) > ticket; // [mark-announced]
  }
  /// The ring in which the tickets continue, or null.
  [[nodiscard]] ring_state* following() const noexcept {
    // [successor-published] Without it a consumer could read the fields of the successor before
    // they are set.
    return successor.load(std::memory_order_acquire); // [successor-published]
  }
};
static_assert(sizeof(ring_state) == 3 * cacheline_size);

/// The arrays in DRAM that belong to a ring.
struct ring_arrays {
  std::atomic<slot_mark>* marks = nullptr;
  lease_time* times = nullptr;
  bool own_marks = false;
};

enum class link_state : std::uint8_t {
  idle,       ///< no thread changes the rings of the queue
  claimed,    ///< a thread prepares a ring for the queue, or changes its mode, for a moment
  linking,    ///< a thread is between link_start() or grow() and link_finish()
  restarting, ///< a thread is between restart_start() and restart_finish()
};

inline constexpr std::uint32_t no_queue = UINT32_MAX;

/// The run-time state of one queue.
struct alignas(cacheline_size) queue_state {
  std::atomic<ring_state*> ring{nullptr};  ///< the newest ring, where producers place
  std::atomic<ring_state*> first{nullptr}; ///< the oldest ring, where consumers begin
  /// The ring prepared for the next append; in state `linking`, the ring that is being linked. Only
  /// the thread that has claimed the link uses it.
  ring_state* spare = nullptr;
  std::uint64_t resume_after = 0; ///< the last ticket given, for a queue that has no ring
  std::atomic<link_state> link{link_state::idle};
  std::atomic<bool> damaged{false};
  std::atomic<bool> wanting{false}; ///< the queue is in the list of those that want a larger ring
  std::atomic<queue_mode> mode{queue_mode::mpsc};
  std::uint8_t quiet = 0; ///< visits at which the queue was nearly empty; used under the claim
  std::atomic<std::uint32_t> drop_requests{0};
  std::atomic<std::uint32_t> refused{0};
  std::atomic<std::uint32_t> dropped_newest{0}, dropped_oldest{0};
  std::uint32_t next_wanting = no_queue; ///< the next in that list; guarded by the table's lock
  std::atomic<std::uint32_t> wanted{0};  ///< the most slots that grow() found no room for
};
static_assert(sizeof(queue_state) == cacheline_size);

/// Adds to a counter that is only shown in statistics.
template <class T> void tally(std::atomic<T>& counter, T n = 1) noexcept {
  counter.fetch_add(n, std::memory_order_relaxed);
}
template <class T> void clear_tally(std::atomic<T>& counter) noexcept {
  counter.store(0, std::memory_order_relaxed); // [queue-estimate]
}
template <class T> [[nodiscard]] T counted(const std::atomic<T>& counter) noexcept {
  return counter.load(std::memory_order_relaxed);
}

/// Queue records that lie together: those of the queues from `first` to before `end`. Constant once
/// `count` includes them.
struct record_segment {
  queue_record* records = nullptr;
  std::uint64_t offset = 0; ///< of the first record in the media
  std::uint32_t first = 0;
  std::uint32_t end = 0;
};

/// A ring that was removed from its queue at `stamp`.
struct retired_ring {
  ring_state* ring;
  std::uint64_t stamp;
};

} // namespace chainring::detail

namespace chainring {

/// Everything that a queue table consists of. The public members of queue_table and queue_consumer
/// are functions over it, in the same files as the members of `state` that they call.
struct queue_table::state {
  media& medium;
  block_store& blocks;
  message_table* messages; ///< null: a table of value queues

  queue_table_options options;
  unsigned log2_slots = 0;         ///< of a queue's first ring
  std::uint32_t ring_capacity = 0; ///< of a queue's first ring
  std::uint32_t ring_blocks = 0;   ///< blocks of a queue's first ring
  std::uint32_t capacity_max = 0;  ///< of a queue; equal to ring_capacity: rings do not grow
  /// In mode mpsc the tickets that are leased at one time span at most this many.
  std::uint64_t leases_max = 0;

  detail::record_segment segments[queue_segments_max];
  std::atomic<std::uint32_t> count{0}; ///< queues in all segments
  unsigned segment_count = 0;          ///< guarded by the lock
  std::uint32_t queues_max = 0;        ///< queues that the arrays have room for

  detail::lazy_array<detail::queue_state> queues;
  detail::lazy_array<std::atomic<std::uint64_t>> bytes; ///< by queue; only with count_bytes
  detail::lazy_array<detail::ring_state> rings;
  detail::lazy_array<std::atomic<detail::slot_mark>> marks; ///< (1 << log2_slots) for each ring
  std::uint64_t rings_room = 0;                             ///< rings that the arrays have room for
  detail::grace_periods grace;

  std::uint64_t changed = 0;                ///< bytes that recovery flushed since its last drain
  std::atomic<std::uint32_t> visit_next{0}; ///< the queue that maintain() looks at next

  alignas(cacheline_size) spin_lock lock; ///< guards the members below, except the counters
  std::uint64_t rings_max = 0; ///< rises with the number of queues, unless the options set it
  std::uint64_t rings_used = 0;
  std::uint64_t rings_live = 0;            ///< rings that have blocks
  std::uint64_t blocks_live = 0;           ///< the blocks of those rings
  std::vector<detail::ring_state*> stock;  ///< rings that are cleared and drained: ready to link
  std::vector<detail::ring_state*> dirty;  ///< rings that have to be cleared
  std::vector<detail::ring_state*> unused; ///< ring states without blocks
  std::vector<detail::retired_ring> retired;
  std::uint32_t wanting_first = detail::no_queue; ///< head of the list through next_wanting

  std::atomic<std::uint64_t> refused_ring{0}, refused{0}, dropped_newest{0}, dropped_oldest{0},
      voided{0}, grown{0}, shrunk{0};

  state(media& m, block_store& b, message_table* t) noexcept : medium(m), blocks(b), messages(t) {}

  /// The most rings that a table of that many queues may have.
  [[nodiscard]] std::uint64_t rings_for(std::uint64_t queues_there) const noexcept {
    if (options.rings_max != 0) return options.rings_max;
    return capacity_max > ring_capacity ? queues_there * (queue_rings_max + 1) + options.stock
                                        : queues_there;
  }
  /// Adds the segment's queues to the table. No thread uses one of them before `count` includes it.
  [[nodiscard]] result<void> take(const queue_segment& s);
  void set_first_mode(std::uint32_t from, std::uint32_t to) noexcept;

  /// Finds the arrays for the ring state `r`, all zero. A ring that is not of the usual size gets
  /// arrays of its own. False: there is not enough memory.
  [[nodiscard]] bool take_arrays(const detail::ring_state& r, unsigned log2,
                                 detail::ring_arrays& out) const noexcept;

  /// Log2 of the slots of a ring that can hold `capacity` entries.
  [[nodiscard]] static unsigned log2_for(std::uint32_t capacity) noexcept {
    return std::max(static_cast<unsigned>(std::bit_width(capacity)), ring_log2_min);
  }
  /// The capacity of a ring that was found on media.
  [[nodiscard]] std::uint32_t capacity_of(unsigned log2) const noexcept {
    if (log2 == log2_slots) return ring_capacity;
    return log2_for(capacity_max) == log2 ? capacity_max : (1u << log2) - 1;
  }
  /// The capacity of the ring that follows one of `capacity`, in a queue that has `ring_count`
  /// rings; `capacity` itself at the limit. The last ring that a queue can have gets the largest
  /// capacity, whatever is left in the rings before it. So a queue that nobody consumes can be
  /// filled up to its limit.
  [[nodiscard]] std::uint32_t grown_from(std::uint32_t capacity,
                                         unsigned ring_count) const noexcept {
    if (capacity >= capacity_max) return capacity;
    return ring_count + 1 >= queue_rings_max ? capacity_max
                                             : std::min(2 * capacity + 1, capacity_max);
  }

  // --- queues and their rings -------------------------------------------------------------------

  [[nodiscard]] std::uint32_t queue_count() const noexcept {
    return count.load(std::memory_order_acquire); // [queue-counted]
  }
  [[nodiscard]] detail::queue_state& queue_at(std::uint32_t queue) const noexcept {
    CHAINRING_EXPECTS(queue < queue_count(), detail::no_such_queue);
    return queues.data()[queue];
  }
  [[nodiscard]] queue_record& record_of(std::uint32_t queue) const noexcept {
    CHAINRING_EXPECTS(queue < queue_count(), detail::no_such_queue); // [queue-counted]
    const detail::record_segment* s = segments;
    while (queue >= s->end)
      ++s;
    return s->records[queue - s->first];
  }
  /// The newest ring, where producers place, or null.
  [[nodiscard]] detail::ring_state* ring_of(std::uint32_t queue) const noexcept {
    // [ring-published] Without it a thread could use a ring before its fields are set.
    return queue_at(queue).ring.load(std::memory_order_acquire); // [ring-published]
  }
  /// The oldest ring, where consumers begin, or null.
  [[nodiscard]] detail::ring_state* first_of(std::uint32_t queue) const noexcept {
    return queue_at(queue).first.load(std::memory_order_acquire); // [ring-published]
  }
  /// The oldest ring of a queue of one consumer, for that consumer. Null: there is no ring, or the
  /// queue has several consumers.
  [[nodiscard]] detail::ring_state* sole_consumer_ring(std::uint32_t queue) const noexcept {
    const detail::queue_state& q = queue_at(queue);
    if (q.mode.load(std::memory_order_relaxed) != queue_mode::mpsc) [[unlikely]] // [mode-changed]
      return nullptr;
    return q.first.load(std::memory_order_acquire); // [ring-published]
  }
  /// The ring that `ticket` is in, if it is in one.
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
  /// A consumer call holds the result while it runs. In mpmc mode other consumers may remove rings
  /// from the queue; the result then keeps the rings that this call reads valid.
  [[nodiscard]] detail::inside consuming(std::uint32_t queue) noexcept {
    // In mpsc mode only the queue's one consumer removes rings, so none disappears while it reads.
    return detail::inside(grace,
                          queue_at(queue).mode.load(std::memory_order_relaxed) == // [mode-changed]
                              queue_mode::mpmc);
  }

  // --- placing: place.cc ------------------------------------------------------------------------

  /// What put() places: one word, all of the words, as many as there is room for, or two words, of
  /// a message that is moved from another queue and of its origin.
  enum class placing : std::uint8_t { one, all, some, moved };
  template <placing how>
  place_status put(std::uint32_t queue, std::uint64_t owner, std::uint64_t owner_mask,
                   const std::uint64_t* words, std::uint32_t n, std::uint32_t limit,
                   placement& out) noexcept;

  void finish_by_marks(const placement& p, detail::mark_state as) noexcept;
  void pass_marked(detail::ring_state& r) const noexcept;
  void pass_older_marks(detail::ring_state& r, std::uint64_t ticket) const noexcept;

  // --- leases and acknowledgements: lease.cc ----------------------------------------------------

  [[nodiscard]] std::uint32_t lease_until(std::uint32_t queue, std::span<leased> out,
                                          std::uint64_t deadline) noexcept;
  [[nodiscard]] std::uint32_t lease_ready(std::uint32_t queue, detail::ring_state& r,
                                          std::uint64_t& acked, std::span<leased> out) noexcept;
  [[nodiscard]] std::uint32_t lease_unmarked(detail::ring_state& r, std::uint64_t acked,
                                             std::span<leased> out, bool& all) const noexcept;
  [[nodiscard]] std::uint32_t lease_marked(std::uint32_t queue, detail::ring_state& r,
                                           std::uint64_t& acked, std::span<leased> out) noexcept;
  [[nodiscard]] std::uint32_t lease_returned(detail::ring_state& r, std::span<leased> out) noexcept;
  [[nodiscard]] std::uint32_t lease_shared(detail::ring_state& r, std::span<leased> out) noexcept;
  [[nodiscard]] std::uint64_t settled(std::uint32_t queue) const noexcept;
  [[nodiscard]] std::uint64_t acked_through(std::uint32_t queue) const noexcept;
  /// Ends the first lease of `ticket` where it is the oldest entry in the queue of one consumer and
  /// no slot has a mark. False: nothing is done, and settle() finds out.
  [[nodiscard]] bool settle_next(std::uint32_t queue, std::uint64_t ticket) const noexcept {
    detail::ring_state* const r = sole_consumer_ring(queue);
    return r != nullptr && settle_next(*r, ticket);
  }
  [[nodiscard]] static bool settle_next(detail::ring_state& r, std::uint64_t ticket) noexcept {
    const std::uint64_t acked = r.acked.load(std::memory_order_relaxed); // [single-consumer]
    if (ticket != acked + 1 || r.marked_behind(acked) ||
        ticket > r.cursor.load(std::memory_order_relaxed)) // [single-consumer]
      return false;
    r.acked.store(ticket, std::memory_order_release); // [prefix-acked]
    return true;
  }
  ack_status settle(std::uint32_t queue, std::uint64_t ticket, slot_state to,
                    std::uint32_t generation) noexcept;
  [[nodiscard]] std::uint32_t settle_run(std::uint32_t queue,
                                         std::span<const leased> entries) noexcept;
  bool give_back(std::uint32_t queue, std::uint64_t ticket, std::uint32_t generation) noexcept;
  [[nodiscard]] std::uint32_t expire_in(detail::ring_state& r, std::uint64_t now,
                                        std::uint32_t n_max) noexcept;

  // --- the head: release.cc ---------------------------------------------------------------------

  /// Stores the head in a queue of one consumer and one ring where no slot behind `acked`, which is
  /// the prefix, has a mark. False: it has nowhere to go, or a release is open.
  [[nodiscard]] bool release_sole(std::uint32_t queue, detail::ring_state& r,
                                  std::uint64_t acked) noexcept {
    if (acked == r.head.load(std::memory_order_relaxed) || // [release-locked]
        r.releasing.load(std::memory_order_relaxed))       // [single-consumer]
      return false;
    r.releasing.store(true, std::memory_order_relaxed); // [single-consumer]
    r.release_to = acked;
    r.unlinked = 0;
    medium.store(&record_of(queue).head, queue_head{acked}.pack(queue)); // [head-before-reuse]
    return true;
  }
  [[nodiscard]] bool release_marked(std::uint32_t queue) noexcept;
  std::uint32_t release(std::uint32_t queue) noexcept;
  /// In a table with messages.
  void drop_references(const detail::ring_state& r, std::uint64_t after,
                       std::uint64_t through) noexcept;
  /// With `now_ns` other than 0 it stops at a message that does not expire until then.
  [[nodiscard]] std::uint32_t drop_from(detail::ring_state& r, std::uint32_t n,
                                        std::uint64_t now_ns, bool& stopped) noexcept;
  [[nodiscard]] std::uint32_t drop_front(std::uint32_t queue, std::uint32_t n,
                                         std::uint64_t now_ns) noexcept;
  /// The bytes of the message of that slot.
  [[nodiscard]] std::uint64_t bytes_at(const detail::ring_state& r,
                                       std::uint64_t ticket) const noexcept;
  void take_bytes_off(std::uint32_t queue, std::uint64_t n) noexcept;
  [[nodiscard]] bool expired(const detail::ring_state& r, std::uint64_t ticket,
                             std::uint64_t now_ns) const noexcept;
  [[nodiscard]] bool droppable(const detail::ring_state& r, std::uint64_t ticket,
                               bool leased_now) const noexcept;

  // --- rings that are added and removed: link.cc ------------------------------------------------

  enum class larger_ring : std::uint8_t { prepared, not_needed, no_room };
  void link(std::uint32_t queue, detail::ring_state& r, std::uint64_t base) noexcept;
  void append(std::uint32_t queue, detail::ring_state& old, detail::ring_state& r) noexcept;
  larger_ring prepare_larger(std::uint32_t queue, std::uint32_t n) noexcept;
  /// True: the link of a smaller ring is stored; link_flush(), a drain and link_finish() follow.
  [[nodiscard]] bool shrink(std::uint32_t queue) noexcept;
  [[nodiscard]] bool set_mode(std::uint32_t queue, queue_mode mode) noexcept;

  // --- the stock and background work: ring.cc ---------------------------------------------------

  [[nodiscard]] result<void> make_pool(std::uint64_t rings_found);
  [[nodiscard]] detail::ring_state* new_ring(std::uint32_t capacity) noexcept;
  [[nodiscard]] detail::ring_state* cleared_ring(std::uint32_t capacity) noexcept;
  void clear(detail::ring_state& r) noexcept;
  void retire(detail::ring_state& r) noexcept;
  std::uint32_t reclaim(std::uint32_t most = UINT32_MAX) noexcept;
  void want_larger(std::uint32_t queue, std::uint32_t n) noexcept;
  std::uint32_t next_wanting() noexcept;

  // --- recovery: ring_recover.cc ----------------------------------------------------------------

  void recover_queue(std::uint32_t queue, const incarnation_of& expected, const source_holds& holds,
                     queue_recovery& found);
  void recover_slots(std::uint32_t queue, detail::ring_state& r, std::uint64_t tail,
                     std::uint64_t end, const source_holds& holds, queue_recovery& found);
  void persist_change(const void* from, std::size_t n) noexcept;
};

namespace detail {

/// Loads a slot's word. The caller has loaded the slot's mark before.
[[nodiscard]] inline std::uint64_t word_of(const std::uint64_t& word) noexcept {
  // The caller's acquire load of the mark orders this load, and only the holder of the entry
  // changes the word.
  return std::atomic_ref(const_cast<std::uint64_t&>(word))
      .load(std::memory_order_relaxed); // [slot-ready]
}
inline constexpr std::uint64_t redelivered_bit = std::uint64_t{1} << 63;
inline constexpr std::uint64_t lease_generation_bits = std::uint64_t{15} << 59;
/// The tag of a slot as lease() hands it out.
[[nodiscard]] constexpr std::uint64_t handed_out(std::uint64_t tag, std::uint32_t generation,
                                                 bool again) noexcept {
  return (tag & slot_tag::checked_mask) | std::uint64_t{generation} << 59 |
         (again ? redelivered_bit : 0);
}
static_assert(slot_state_last < 8, "three bits beside the lease's generation");
inline constexpr std::uint32_t any_generation = ~std::uint32_t{0};
[[nodiscard]] inline bool may_be_delivered(const ring_state& r, std::uint64_t tag,
                                           std::uint64_t ticket) noexcept {
  return tag == slot_tag{ticket, slot_state::queued}.pack(r.queue) ||
         tag == slot_tag{ticket, slot_state::pubrec}.pack(r.queue) ||
         tag == slot_tag{ticket, slot_state::taken}.pack(r.queue);
}

/// The number of blocks of a ring's chain.
[[nodiscard]] inline std::uint64_t ring_blocks(const block_store& blocks, unsigned log2) noexcept {
  return blocks.blocks_for(ring_header_size + (std::uint64_t{sizeof(ring_slot)} << log2));
}
/// The chain of an entry that passes its check.
[[nodiscard]] inline chain chain_of(const block_store& blocks, const queue_ring& r) noexcept {
  return {r.first_block(),
          static_cast<std::uint32_t>(ring_blocks(blocks, queue_base::unpack(r.base).log2_slots))};
}
/// Points a ring state at its chain and initialises the rte_ring in it, empty at position 0.
void make_ring(ring_state& r, media& medium, const block_store& blocks, const chain& at,
               unsigned log2, std::uint32_t capacity, const ring_arrays& arrays) noexcept;
/// Frees the arrays that belong to the ring alone.
void free_arrays(ring_state& r) noexcept;
/// Prepares an empty ring of `queue` for the tickets behind `from`, in slots counted from `base`.
void set_base(ring_state& r, std::uint32_t queue, std::uint64_t base, std::uint64_t from,
              queue_mode mode) noexcept;
/// Sets how rte_ring's consumer side synchronises. No thread may be using it.
void set_sync(ring_state& r, queue_mode mode) noexcept;
/// Moves `acked` forward over the tickets that are done, as far as it goes.
void advance(ring_state& r) noexcept;
/// Takes the tickets behind the head up to `to` out of rte_ring.
void dequeue(ring_state& r, std::uint64_t to) noexcept;

} // namespace detail
} // namespace chainring
