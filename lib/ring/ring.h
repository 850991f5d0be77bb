// SPDX-License-Identifier: BSD-3-Clause
/// Queues: durable MP/SC and MP/MC queues of 16-byte slots on `rte_ring`, numbered from 0 in a
/// table. A slot names a message of a message table, or (in a table without one) is 8 bytes of the
/// caller's own and a ticket.
///
/// **When to use:** one queue for each session or group, with leases, acknowledgements and
/// redelivery that survive a crash. **When not:** between two lcores of one process `rte_ring`
/// itself is faster and needs no drain.
///
/// **Durability.** What lease() hands out is durable (*deliverable implies durable*), and is handed
/// out again, after a crash too, until its ack() is durable. A message is in every queue it was
/// placed in, or in none: publication of its descriptor is the one commit.
///
/// **The publisher's burst**: two drains, whatever the number of queues. All stores, then all
/// flushes, then the drain.
/// ```
/// queues.link_start(q)                    // ready, or see there: the message is set aside
/// messages.reserve, copy_in, stage, add_references(n)
/// queues.place_start(q, refs, p)             // each queue, its slots grouped
/// messages.flush_staged; queues.place_flush(p)            media.drain();    // [P1 < P2]
/// messages.publish, flush_published                        media.drain();    // [P2 < P3]
/// queues.place_finish(p)                      // from here on consumers see them; acknowledge
/// ```
/// A message that one queue refuses is voided where it was placed: place_void(p) in
/// place_finish()'s place. Each slot placed counts as a reference on its message until the head has
/// passed it, whatever becomes of it; the queue drops those references, the publisher only its own
/// and those it counted for places that were refused.
///
/// **The consumer's burst**: one drain, shared with the publishing done in the same burst.
/// ```
/// n = queues.lease(q, entries)         // in ticket order
/// ...send...                           // answers come
/// if (queues.ack(q, ticket) == ack_status::marked) -> queue_consumer(queues).flush_slot(q, ticket)
/// r = queues.release_start(q)                // stores the head
/// if (r) queues.release_flush(q);                          media.drain();    // [P4 < P5]
/// if (r) queues.release_finish(q);     // slots are free, references dropped
/// ```
/// What fewer consumers need (deadlines, states, modes) is in consumer.h.
///
/// **One burst of one producer in a value queue**: enqueue_burst, place_flush, drain, place_finish:
/// one drain. Each value is durable by itself.
///
/// **Growth.** Where options.capacity_max allows it, a queue whose ring is three quarters full is
/// noted, and maintain() prepares a ring of twice the size (the third of a queue: of the largest).
/// When place_start() then says `full`, grow() closes the full ring and stores the link of the
/// prepared one, which takes one drain, as a first ring does:
/// ```
/// if (queues.place_start(q, refs, p) == place_status::full)
///   if (queues.grow(q, n) == link_status::linking) {
///     queues.link_flush(q);                              media.drain();    // [P7 < P8]
///     queues.link_finish(q);                                // and place_start() again
///   }
/// ```
/// Consumers go through the rings in order and see no seam: tickets, leases and packet ids run on.
/// A ring is taken out of the queue with the release that empties it, and reused when no thread can
/// have it in hand any more. A queue that has been nearly empty gets a smaller ring in the same
/// way.
///
/// **Tickets** number a queue's slots from 1, never reused in one incarnation, never reordered; a
/// restart_start() goes on where it was. Consumers go in ticket order up to the first slot that is
/// not ready.
///
/// **Thread-safety.** Producer calls: any thread, on pinned lcores (a producer preempted inside
/// place_start() holds up the other producers of that queue for as long). Consumer calls: in mpsc
/// mode one thread at a time, the queue's consumer; in mpmc mode any thread, but restart_start()
/// and drop_oldest() still one at a time and no lease meanwhile, rewind() and
/// queue_consumer::set_mode() no consumer call at all. release_start() to release_finish() belongs
/// to one thread at a time, the others are told false. Queries: any thread. Data-path calls do not
/// allocate, wait for a drain, call the system or throw; queue numbers and placements are the
/// caller's contract and asserted.
///
/// **Memory**: 64 bytes on media and 64 in DRAM a queue. A queue has no ring until its first
/// message, and up to three; a ring takes 384 + 16 * slots bytes of the block store, 192 + 4 *
/// slots of DRAM (20 * slots with timed leases). Some first rings are kept for other queues, the
/// rest go back to the block store.
///
/// **Media is untrusted**: recovery validates every record and slot; a damaged queue is named, kept
/// out of service until restart_start(), across crashes and opens, and the rest is served.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../base/error.h"
#include "../block/block_store.h"
#include "../media/media.h"
#include "../media/recovery_part.h"
#include "../message/message.h"
#include "overflow.h"
#include "ring_media.h"
#include "slot_delivery.h"

namespace chainring {

namespace detail {
struct ring_state;
} // namespace detail

/// First word of a slot: which message, and how it is delivered. The queue itself reads only the
/// two QoS bits of `delivery`; in a value queue the word is the caller's.
struct slot_ref {
  std::uint64_t word = 0;

  slot_ref() = default;
  constexpr explicit slot_ref(std::uint64_t w) noexcept : word(w) {}
  constexpr slot_ref(message_ref m, std::uint16_t delivery) noexcept
      : word(std::uint64_t{m.index} | std::uint64_t{m.generation} << 32 |
             std::uint64_t{delivery} << 48) {}
  [[nodiscard]] constexpr message_ref message() const noexcept {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint16_t>(word >> 32)};
  }
  [[nodiscard]] constexpr std::uint16_t delivery() const noexcept {
    return static_cast<std::uint16_t>(word >> 48);
  }
  friend bool operator==(const slot_ref&, const slot_ref&) = default;
};
static_assert(sizeof(slot_ref) == 8);

/// What lease() hands out.
struct leased {
  slot_ref ref;
  std::uint64_t tag = 0; ///< slot_tag; bits 59..62: which lease of the entry, 63: redelivered

  [[nodiscard]] constexpr std::uint64_t ticket() const noexcept { return tag & ticket_max; }
  /// queued; or pubrec: the client has it, PUBREL is what it waits for.
  [[nodiscard]] constexpr slot_state state() const noexcept {
    return static_cast<slot_state>(tag >> 56 & 7);
  }
  /// How often the entry was given back before, in this life, modulo 16.
  [[nodiscard]] constexpr std::uint32_t generation() const noexcept {
    return static_cast<std::uint32_t>(tag >> 59 & 15);
  }
  /// It may have been delivered before, in this life or an earlier one.
  [[nodiscard]] constexpr bool redelivered() const noexcept { return tag >> 63 != 0; }
  [[nodiscard]] constexpr message_ref message() const noexcept { return ref.message(); }
  [[nodiscard]] constexpr std::uint16_t delivery() const noexcept { return ref.delivery(); }
};
static_assert(sizeof(leased) == 16);

/// Slots placed and not yet ready or void: plain data, may be kept across bursts by one owner. The
/// queue cannot be restarted meanwhile.
struct placement {
  detail::ring_state* ring = nullptr;
  std::uint64_t first_ticket = 0;
  std::uint32_t count = 0;
};

enum class link_status : std::uint8_t {
  ready,   ///< place_start() will find a ring; grow(): there is room, place_start() again
  linking, ///< this call stored the link: link_flush(), any drain of this thread, then
           ///< link_finish()
  wait,    ///< another thread is about it, or a restart_start() is under way: try in a later burst
  refused, ///< no ring in stock (see refill()), or the queue is damaged; grow(): see overflow()
  unprepared, ///< grow(): its larger ring is not prepared yet: maintain(), or grow_now()
  no_room,    ///< grow(): below its limit, but there is no ring to be had: congestion
};

enum class place_status : std::uint8_t {
  placed,
  full,      ///< see grow(), and then overflow()
  no_ring,   ///< link_start() first
  changed,   ///< the queue is not in the incarnation that was asked for
  closed,    ///< a restart_start(), or another thread's grow(), is under way: set the message aside
  exhausted, ///< the last ticket has been given: nothing more, ever
};

enum class ack_status : std::uint8_t {
  advanced, ///< the oldest one: the head moves with the next release_start()
  marked,   ///< out of order: the slot was stored to; queue_consumer::flush_slot() with the burst
  ignored,  ///< not leased now: late, doubled or made up
};

enum class restart_status : std::uint8_t {
  stored,  ///< restart_flush(), this thread's drain, then restart_finish()
  busy,    ///< placements or a release are still open; the queue takes nothing new. Call again
  changed, ///< the queue is not in that incarnation
};

/// The outbound packet id of a ticket: 1 to 32767, the same after a crash.
inline constexpr std::uint32_t packet_id_count = 32767;
[[nodiscard]] constexpr std::uint16_t packet_id_of(std::uint64_t ticket) noexcept {
  return static_cast<std::uint16_t>((ticket - 1) % packet_id_count + 1);
}

struct queue_table_options {
  /// Slots of a ring, a power of two; one fewer can be in use, as in rte_ring.
  std::uint32_t slots = 1024;
  /// Exactly this many in use (then `slots` is derived); 0: off.
  std::uint32_t capacity = 0;
  /// Most slots in use in one queue, in all its rings together: rings grow up to it. 0: they do
  /// not.
  std::uint32_t capacity_max = 0;
  /// Most rings at one time; 0: one for each queue, or four and the stock where they grow.
  std::uint32_t rings_max = 0;
  /// Rings kept cleared and drained for queues that get their first message.
  std::uint32_t stock = 64;
  overflow_policy overflow = overflow_policy::reject;
  /// Leases may have deadlines (see queue_consumer): 16 bytes more of DRAM a slot.
  bool timed_leases = false;
  /// Most queues there may be after add_segment(); 0: as many as the table begins with. Costs
  /// address space, and memory only for queues there are.
  std::uint32_t queues_max = 0;
};

/// Where queue records lie: `count` of them from `offset`, a multiple of 64, of the media. A
/// table's segments number its queues through, in order: the second's first queue follows the
/// first's last.
struct queue_segment {
  std::uint64_t offset = 0;
  std::uint32_t count = 0;
};
inline constexpr unsigned queue_segments_max = 16;

/// Of one queue; each number is right at some moment of the call.
struct queue_statistics {
  std::uint32_t incarnation = 0;
  queue_mode mode = queue_mode::mpsc;
  bool damaged = false;
  std::uint32_t rings = 0;
  std::uint32_t capacity = 0;   ///< slots of the newest ring; 0: no ring yet
  std::uint32_t depth = 0;      ///< slots in use, in all rings
  std::uint32_t high_water = 0; ///< largest depth of the newest ring in this life
  std::uint64_t head = 0;       ///< last ticket released
  std::uint64_t tail = 0;       ///< last ticket placed
  std::uint64_t leased = 0;     ///< last ticket leased
  std::uint64_t dropped_newest = 0, dropped_oldest = 0, refused = 0;
};

/// Of the table.
struct queue_table_statistics {
  std::uint64_t queues = 0, rings = 0, rings_in_stock = 0, rings_max = 0;
  std::uint64_t rings_retired = 0;     ///< out of their queue, maybe still in some thread's hands
  std::uint64_t ring_blocks = 0;       ///< of the block store, in all rings
  std::uint64_t grown = 0, shrunk = 0; ///< appends
  std::uint64_t damaged = 0;
  std::uint64_t refused = 0;      ///< place_start() found no room
  std::uint64_t refused_ring = 0; ///< link_start() found no ring, maintain() no room for one
  std::uint64_t dropped_newest = 0, dropped_oldest = 0, voided = 0;
};

/// What recovery found and did.
struct queue_recovery {
  std::uint64_t queues = 0;    ///< with a ring
  std::uint64_t entries = 0;   ///< slots that will be delivered
  std::uint64_t voided = 0;    ///< slots whose message was not published: void, durably
  std::uint64_t restarted = 0; ///< queues of another incarnation than their session's
  std::uint64_t damaged_queues = 0, damaged_slots = 0;
  std::vector<std::string> notes; ///< damage, in sentences that name the queue; the first 100
};

/// The incarnation queue `number` should have; what is there of any other is unreachable.
using incarnation_of = std::function<std::uint32_t(std::uint32_t number)>;

/// The broker needs a part of this and of queue_consumer. The rest is for programs of other people
/// that link the library, and in this tree only tests call it: enqueue_bulk(), which is
/// enqueue_burst()'s other half, as in rte_ring; refill(), for tables whose rings do not grow and
/// which therefore need no maintain(); add_segment() and part(), for a table that is not in the
/// broker's store; rings for several consumers, deadlines and slot states.
class queue_table {
 public:
  /// Over the queue records of `segments` (1 to queue_segments_max), zero when their range was
  /// made. Rings come from `blocks`. `messages` (null: a table of value queues), `blocks` and the
  /// media outlive the table. Empty so far: go on with recover(), or start() where the records are
  /// known to be zero.
  static result<std::unique_ptr<queue_table>> create(media& on,
                                                     std::span<const queue_segment> segments,
                                                     block_store& blocks, message_table* messages,
                                                     queue_table_options options = {});
  /// The same over one segment.
  static result<std::unique_ptr<queue_table>> create(media& on, std::uint64_t offset,
                                                     std::uint32_t count, block_store& blocks,
                                                     message_table* messages,
                                                     queue_table_options options = {});
  ~queue_table();
  queue_table(const queue_table&) = delete;
  queue_table& operator=(const queue_table&) = delete;
  /// Bytes of media for `count` queues.
  [[nodiscard]] static constexpr std::uint64_t bytes_for(std::uint32_t count) noexcept {
    return std::uint64_t{count} * sizeof(queue_record);
  }

  // --- producers --------------------------------------------------------------------------------

  /// Sees to it that the queue has a ring. `ready` is the usual, quick answer.
  [[nodiscard]] link_status link_start(std::uint32_t queue) noexcept;
  void link_flush(std::uint32_t queue) noexcept;
  /// After the drain that followed link_flush(): place_start() works from here on.
  void link_finish(std::uint32_t queue) noexcept;
  /// The same at once, with a drain of its own, refilling the stock when it is empty. Not the data
  /// path. ready, wait or refused.
  [[nodiscard]] link_status link_now(std::uint32_t queue) noexcept;

  /// After place_start() found the queue full for `n` slots: closes its ring and stores the link of
  /// the larger one prepared for it. Between this and link_finish() nobody places anything in the
  /// queue. `refused`: it is at its limit (capacity_max, three rings, the last ticket): the policy
  /// applies. `no_room`: it has no ring and gets none; what it was to take is refused, whatever the
  /// policy, and may be tried again. Waits for placements that other threads are in the middle of
  /// storing.
  [[nodiscard]] link_status grow(std::uint32_t queue, std::uint32_t n = 1) noexcept;
  /// The same at once, preparing the ring where that has not been done, with drains of its own. Not
  /// the data path. ready, wait, refused or no_room: no state, blocks or memory for a larger ring.
  [[nodiscard]] link_status grow_now(std::uint32_t queue, std::uint32_t n = 1) noexcept;

  /// Places all of `refs` (at least one) in order, or none. The caller has counted a reference for
  /// each.
  [[nodiscard]] place_status place_start(std::uint32_t queue, std::span<const slot_ref> refs,
                                         placement& out) noexcept;
  /// The same, only where the queue is in that incarnation: a subscription that was matched before
  /// a clean start places nothing after it.
  [[nodiscard]] place_status place_start(std::uint32_t queue, std::uint32_t incarnation,
                                         std::span<const slot_ref> refs, placement& out) noexcept;
  /// Flushes the slots.
  void place_flush(const placement& p) noexcept;
  /// After the drain of the messages' publication: consumers may have them.
  void place_finish(const placement& p) noexcept;
  /// For a message that will not be published: consumers pass over its slots. Nothing needs to be
  /// flushed: a slot whose message was never published is void after a crash. `p` is empty
  /// afterwards: its ring may go.
  void place_void(placement& p) noexcept;
  /// place_start() for value queues: each value is durable on its own after one place_flush() and
  /// drain, then place_finish(). enqueue_burst() places as many of the first of `values` as there
  /// is room for, enqueue_bulk() all of them or none; both return how many were enqueued.
  [[nodiscard]] std::uint32_t enqueue_burst(std::uint32_t queue,
                                            std::span<const std::uint64_t> values,
                                            placement& out) noexcept;
  [[nodiscard]] std::uint32_t
  enqueue_bulk(std::uint32_t queue, std::span<const std::uint64_t> values, placement& out) noexcept;

  /// Slots that can be placed now, or after grow(): capacity where there is no ring yet.
  [[nodiscard]] std::uint32_t free_count(std::uint32_t queue) const noexcept;
  /// What is to become of `n` messages that found the queue full; counts them, and for drop_oldest
  /// asks the consumer for room.
  overflow_policy overflow(std::uint32_t queue, std::uint32_t n = 1) noexcept;

  // --- the consumer -----------------------------------------------------------------------------
  // Deadlines, acknowledgements by lease or of a prefix, slot states and modes: consumer.h.

  /// Hands out entries in ticket order and returns how many: those returned by nack() first, then
  /// the next ready ones. In mpsc mode leases span fewer than packet_id_count tickets.
  [[nodiscard]] std::uint32_t lease(std::uint32_t queue, std::span<leased> out) noexcept;
  /// The entry is done with. Where `advanced`, that is durable after the steps of a release; where
  /// `marked`, after queue_consumer::flush_slot() and a drain.
  ack_status ack(std::uint32_t queue, std::uint64_t ticket) noexcept;
  /// Gives a lease back: the next lease() hands the entry out again. False: not leased now.
  bool nack(std::uint32_t queue, std::uint64_t ticket) noexcept;
  /// Gives all leases back, as after a reconnect: the next lease() starts behind the last ticket
  /// acknowledged in order, and leaves out what was acknowledged since. No other consumer call of
  /// the queue meanwhile, in mpmc mode too: there nack() what one consumer has.
  void rewind(std::uint32_t queue) noexcept;
  /// The ticket leased now that has this packet id; 0: none.
  [[nodiscard]] std::uint64_t resolve(std::uint32_t queue, std::uint16_t packet_id) const noexcept;

  /// Stores the head where it can move: over what is acknowledged, and over void slots and holes,
  /// which nobody acknowledges. A consumer may call it at any time, with nothing leased and nothing
  /// acknowledged too, and does so now and then for each of its queues: otherwise the slots of
  /// refused messages, and a ring that a smaller one follows, stay until the next acknowledgement.
  /// True: release_flush(), this thread's drain, and release_finish() follow. False: nothing to
  /// release, or another thread is at it.
  [[nodiscard]] bool release_start(std::uint32_t queue) noexcept;
  void release_flush(std::uint32_t queue) noexcept;
  /// After the drain: frees the slots and drops their references. Returns how many.
  std::uint32_t release_finish(std::uint32_t queue) noexcept;

  /// Slots producers have asked for since the last drop_oldest().
  [[nodiscard]] std::uint32_t drop_requested(std::uint32_t queue) const noexcept;
  /// Gives up to `n` of the oldest entries up and returns how many; release_start() then makes
  /// room. Stops at a QoS 2 entry that may have been delivered. A lease of what was given up has
  /// ended: resolve() does not find it any more, and a late ack is ignored.
  std::uint32_t drop_oldest(std::uint32_t queue, std::uint32_t n) noexcept;

  // --- control ----------------------------------------------------------------------------------

  [[nodiscard]] std::uint32_t incarnation(std::uint32_t queue) const noexcept;
  /// Clean start and deletion: everything in it is unreachable, and the incarnation is one more
  /// than that. By the consumer. The contents' references are dropped in restart_finish(). A
  /// damaged queue, whose own incarnation may be anything, takes the one it is given and is whole
  /// again.
  [[nodiscard]] restart_status restart_start(std::uint32_t queue,
                                             std::uint32_t incarnation) noexcept;
  void restart_flush(std::uint32_t queue) noexcept;
  void restart_finish(std::uint32_t queue) noexcept;
  /// Fills the stock up, by at most `rings_max`: allocates, clears, flushes and drains. Returns how
  /// many were added. Any thread; a few microseconds a ring. Call it when idle.
  std::uint32_t refill(std::uint32_t rings_max = UINT32_MAX) noexcept;

  /// What is done at leisure, at most `work` pieces of it: rings that nobody can have in hand any
  /// more are given back, queues that are three quarters full get their larger ring prepared, the
  /// stock is refilled, and queues that were nearly empty at several visits get a smaller ring.
  /// Returns how many pieces were done. Any thread; allocates and drains: when idle, or now and
  /// then.
  std::uint32_t maintain(std::uint32_t work = UINT32_MAX) noexcept;

  /// More queues while the table serves, numbered from count() on. Any thread, one at a time; the
  /// others may use the queues there are meanwhile. `s` is zero, durably, and the caller sees to it
  /// that the next create() is given it: the range is linked before its queues are used.
  /// errc::invalid_argument: a range that cannot be, not zero, or more than queues_max or
  /// queue_segments_max allow.
  [[nodiscard]] result<void> add_segment(const queue_segment& s);
  [[nodiscard]] std::uint32_t count() const noexcept;
  [[nodiscard]] queue_statistics statistics(std::uint32_t queue) const noexcept;
  [[nodiscard]] queue_table_statistics statistics() const noexcept;

  // --- recovery ---------------------------------------------------------------------------------

  /// All records are zero: serves at once.
  [[nodiscard]] result<void> start();
  /// Makes durable what recovery will read; the caller drains, together with all other metadata.
  void persist_as_read() noexcept;
  /// After begin_recovery() of the block store and the message table, and that drain: marks rings
  /// live, counts references, restores positions, voids what is not published. Stores and flushes;
  /// the caller drains before anything is allocated. `expected` (may be empty): see there.
  /// errc::no_space: no memory.
  [[nodiscard]] result<queue_recovery> recover(const incarnation_of& expected = {});
  /// After finish_recovery() of message table and block store: fills the stock, and serves.
  [[nodiscard]] result<void> finish_recovery();
  /// Reads every record and slot and changes nothing: the notes recover() would give.
  [[nodiscard]] queue_recovery check() const;
  /// All of that as one part of a region's recovery, to stand behind the parts of the block store,
  /// the messages, and whatever `expected` asks. What recover() or check() returned is put into
  /// `found`, which outlives the recovery, where it is given.
  [[nodiscard]] recovery_part part(std::string name, incarnation_of expected = {},
                                   queue_recovery* found = nullptr);

 private:
  friend class queue_consumer;
  struct state;
  explicit queue_table(std::unique_ptr<state> s) noexcept;

  std::unique_ptr<state> state_;
};

} // namespace chainring
