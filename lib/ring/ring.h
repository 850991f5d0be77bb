// SPDX-License-Identifier: BSD-3-Clause
/// Queues: durable queues of 16-byte slots on `rte_ring`, for many producers and one consumer or
/// many consumers, numbered from 0 in a table. A slot names a message of a message table. In a
/// table that was created without a message table, a *value queue*, a slot holds eight bytes of the
/// caller's own and a ticket.
///
/// **When to use:** one queue for each session or group, with leases, acknowledgements and
/// redelivery that survive a crash. **When not:** between two lcores of one process, `rte_ring`
/// itself is faster and needs no drain.
///
/// **Durability.** Every entry that lease() hands out is durable (*deliverable implies durable*).
/// It is handed out again, after a crash too, until its ack() is durable. A message is in every
/// queue it was placed in or in none of them, because the publication of its descriptor is the one
/// commit.
///
/// **The publisher's burst** takes two drains, whatever the number of queues. For each drain, all
/// stores come first, then all flushes, then the drain.
/// ```
/// queues.link_start(q)                // ready; with another answer the message is set aside
/// messages.reserve, copy_in, stage, add_references(n)
/// queues.place_start(q, refs, p)             // for each queue, all its slots in one call
/// messages.flush_staged; queues.place_flush(p)
/// media.drain();                             // [slots-before-publish]
/// messages.publish, flush_published
/// media.drain();                             // [publication-before-mark]
/// queues.place_finish(p)                     // now consumers see the slots: acknowledge
/// ```
/// When one queue refuses a message, the publisher voids the slots that other queues already gave
/// it: it calls place_void(p) instead of place_finish(p). Each placed slot counts as one reference
/// on its message until the head has passed the slot, also when the slot is void. The queue drops
/// these references. The publisher drops its own reference, and those it counted for slots that
/// were refused.
///
/// **The consumer's burst** takes one drain, which it shares with the publishing of the same burst.
/// ```
/// n = queues.lease(q, entries)         // in ticket order
/// ...send the messages and receive the answers...
/// if (queues.ack(q, ticket) == ack_status::marked) -> queue_consumer(queues).flush_slot(q, ticket)
/// r = queues.release_start(q)          // stores the head
/// if (r) queues.release_flush(q);
/// media.drain();                       // [head-before-reuse]
/// if (r) queues.release_finish(q);     // frees the slots and drops their references
/// ```
/// Deadlines, slot states and modes, which only some consumers need, are in consumer.h.
///
/// **One burst of one producer in a value queue** is enqueue_burst, place_flush, drain,
/// place_finish. It takes one drain, and each value is durable by itself.
///
/// **Growth.** Where options.capacity_max allows it, a queue whose ring becomes three quarters full
/// is noted, and maintain() prepares a ring of twice the size for it. The third ring of a queue is
/// prepared at the largest size. When place_start() later returns `full`, grow() closes the full
/// ring and stores the link of the prepared one. The link takes one drain, as the link of a first
/// ring does:
/// ```
/// if (queues.place_start(q, refs, p) == place_status::full)
///   if (queues.grow(q, n) == link_status::linking) {
///     queues.link_flush(q);
///     media.drain();                   // [link-before-use]
///     queues.link_finish(q);           // then call place_start() again
///   }
/// ```
/// Consumers go through the rings in order and notice no border: tickets, leases and packet ids
/// continue. The release that empties a ring takes it out of the queue. The ring is reused when no
/// thread can still reference it. A queue that has been nearly empty gets a smaller ring in the
/// same way.
///
/// **Tickets** number a queue's slots from 1. Within one incarnation a ticket is never reused and
/// the order of tickets never changes; after restart_start() the numbers continue. Consumers take
/// entries in ticket order and stop at the first slot that is not ready.
///
/// **Thread-safety.** Any thread may make producer calls. Producers should run on pinned lcores: a
/// producer that is preempted inside place_start() holds up the other producers of that queue for
/// as long. In mpsc mode only one thread at a time, the queue's consumer, makes consumer calls. In
/// mpmc mode any thread may make them, with these exceptions: restart_start() and drop_oldest() are
/// called by one thread at a time while no thread leases, and rewind() and
/// queue_consumer::set_mode() while no other consumer call runs. Only one thread at a time is
/// between release_start() and release_finish(); release_start() returns false to the others. Any
/// thread may make queries. Calls on the data path do not allocate, wait for a drain, make a system
/// call or throw. Queue numbers and placements are the caller's responsibility and are asserted.
///
/// **Memory.** A queue takes 64 bytes on media and 64 bytes in DRAM. A queue has no ring before its
/// first message, and at most three rings. A ring takes 384 + 16 * slots bytes of the block store
/// and 192 + 8 * slots bytes of DRAM (192 + 24 * slots with timed leases). Some rings of the first
/// size are kept in stock for other queues; the rest go back to the block store.
///
/// **Media is untrusted.** Recovery validates every record and every slot. A damaged queue is named
/// in a note and kept out of service, across crashes and opens, until restart_start(). All other
/// queues are served.
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

/// The first word of a slot: the message it names and how that message is delivered. The queue
/// itself reads only the two QoS bits of `delivery`. In a value queue the word is the caller's.
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

/// An entry that lease() hands out.
struct leased {
  slot_ref ref;
  /// A slot_tag in bits 0..58, the generation of the lease in bits 59..62, `redelivered` in bit 63.
  std::uint64_t tag = 0;

  /// The first lease of a queued entry.
  [[nodiscard]] static constexpr leased first(slot_ref ref, std::uint64_t ticket) noexcept {
    return {ref, ticket | std::uint64_t{static_cast<std::uint8_t>(slot_state::queued)} << 56};
  }
  [[nodiscard]] constexpr std::uint64_t ticket() const noexcept { return tag & ticket_max; }
  /// `queued`; `taken`, which is the same for a message that was moved from another queue; or
  /// `pubrec`: the client has received the message and waits for PUBREL.
  [[nodiscard]] constexpr slot_state state() const noexcept {
    return static_cast<slot_state>(tag >> 56 & 7);
  }
  /// How often the entry was given back before this lease, since the table was opened, modulo 16.
  [[nodiscard]] constexpr std::uint32_t generation() const noexcept {
    return static_cast<std::uint32_t>(tag >> 59 & 15);
  }
  /// True when the entry may have been delivered before, since the open or before a crash.
  [[nodiscard]] constexpr bool redelivered() const noexcept { return tag >> 63 != 0; }
  [[nodiscard]] constexpr message_ref message() const noexcept { return ref.message(); }
  [[nodiscard]] constexpr std::uint16_t delivery() const noexcept { return ref.delivery(); }
};
static_assert(sizeof(leased) == 16);

/// Slots that are placed and neither ready nor void yet. A placement is plain data that one owner
/// may keep across bursts. While it exists the queue cannot be restarted.
struct placement {
  detail::ring_state* ring = nullptr;
  std::uint64_t first_ticket = 0;
  std::uint32_t count = 0;
  std::uint32_t depth = 0; ///< the slots in use in the queue, behind this placement
};

enum class link_status : std::uint8_t {
  /// place_start() will find a ring. From grow(): the queue has room, call place_start() again.
  ready,
  /// This call stored the link. link_flush(), a drain of this thread and link_finish() follow.
  linking,
  /// Another thread is linking a ring, or a restart_start() is under way. Try in a later burst.
  wait,
  /// The stock has no ring (see refill()), or the queue is damaged. From grow(): the queue is at
  /// its limit, and overflow() says what becomes of the messages.
  refused,
  /// Only from grow(): no larger ring is prepared yet. Call maintain() or grow_now().
  unprepared,
  /// Only from grow(): the queue is below its limit, but no ring is available: congestion.
  no_room,
};

enum class place_status : std::uint8_t {
  placed,
  full,    ///< the queue has no room: call grow(), and overflow() where that refuses
  no_ring, ///< the queue has no ring: call link_start() first
  changed, ///< the queue is not in the incarnation that was asked for
  closed, ///< a restart_start(), or a grow() of another thread, is under way: set the message aside
  exhausted, ///< the queue has given its last ticket and will never take another message
};

enum class ack_status : std::uint8_t {
  advanced, ///< the entry was the oldest: the head passes it with the next release_start()
  marked,   ///< the entry was not the oldest: its slot changed; queue_consumer::flush_slot() it
  ignored,  ///< the ticket is not leased now: the ack is late, doubled or made up
};

enum class restart_status : std::uint8_t {
  stored,  ///< restart_flush(), a drain of this thread and restart_finish() follow
  busy,    ///< placements or a release are still open; the queue takes nothing new; call again
  changed, ///< the queue is not in that incarnation
};

/// The outbound packet id of a ticket, from 1 to 32767. It is the same after a crash.
inline constexpr std::uint32_t packet_id_count = 32767;
[[nodiscard]] constexpr std::uint16_t packet_id_of(std::uint64_t ticket) noexcept {
  return static_cast<std::uint16_t>((ticket - 1) % packet_id_count + 1);
}

struct queue_table_options {
  /// Slots of a ring, a power of two. One fewer can be in use, as in rte_ring.
  std::uint32_t slots = 1024;
  /// Exactly this many slots can be in use, and `slots` is derived from it. 0: `slots` counts.
  std::uint32_t capacity = 0;
  /// The most slots in use in one queue, in all its rings together: rings grow up to this limit.
  /// 0: rings do not grow.
  std::uint32_t capacity_max = 0;
  /// The most rings at one time. 0: one for each queue; where rings grow, four for each queue and
  /// the stock.
  std::uint32_t rings_max = 0;
  /// Rings that are kept cleared and drained for queues that get their first message.
  std::uint32_t stock = 64;
  overflow_policy overflow = overflow_policy::reject;
  /// Counts the bytes of the messages in each queue, for content_bytes(). This takes 8 bytes of
  /// DRAM a queue.
  bool count_bytes = false;
  /// The mode of a queue that has never had a ring. Its first link makes the mode durable.
  queue_mode mode = queue_mode::mpsc;
  /// Leases may have deadlines (see queue_consumer). This takes 16 more bytes of DRAM a slot.
  bool timed_leases = false;
  /// In mode mpsc, the tickets that are leased at one time span fewer than this, at least 2. 0: any
  /// number. resolve() needs at most packet_id_count, so that each lease has a packet id of its
  /// own.
  std::uint32_t lease_span = 0;
  /// The most queues there may be after add_segment(). 0: as many as the table begins with. The
  /// limit takes address space; memory is used only for queues that exist.
  std::uint32_t queues_max = 0;
};

/// A range of queue records: `count` of them, from `offset` in the media, a multiple of 64. The
/// segments of a table number its queues in order: the first queue of the second segment follows
/// the last queue of the first.
struct queue_segment {
  std::uint64_t offset = 0;
  std::uint32_t count = 0;
};
inline constexpr unsigned queue_segments_max = 16;

/// Statistics of one queue. Each number was right at some moment during the call.
struct queue_statistics {
  std::uint32_t incarnation = 0;
  queue_mode mode = queue_mode::mpsc;
  bool damaged = false;
  std::uint32_t rings = 0;
  std::uint32_t capacity = 0;   ///< slots that can be in use in the newest ring; 0: no ring yet
  std::uint32_t depth = 0;      ///< slots in use, in all rings
  std::uint32_t high_water = 0; ///< largest depth since the open or the last restart
  std::uint64_t head = 0;       ///< last ticket released
  std::uint64_t tail = 0;       ///< last ticket placed
  std::uint64_t leased = 0;     ///< last ticket leased
  std::uint64_t dropped_newest = 0, dropped_oldest = 0, refused = 0;
};

/// Statistics of the whole table.
struct queue_table_statistics {
  std::uint64_t queues = 0, rings = 0, rings_in_stock = 0, rings_max = 0;
  std::uint64_t rings_retired = 0; ///< rings out of their queue that a thread may still reference
  std::uint64_t ring_blocks = 0;   ///< blocks of the block store in all rings
  std::uint64_t grown = 0, shrunk = 0; ///< larger and smaller rings that were appended
  std::uint64_t damaged = 0;           ///< queues out of service
  std::uint64_t refused = 0;           ///< messages that overflow() refused
  std::uint64_t refused_ring = 0;      ///< rings that link_start() or maintain() did not get
  std::uint64_t dropped_newest = 0, dropped_oldest = 0, voided = 0;
};

/// What recovery found and did.
struct queue_recovery {
  std::uint64_t queues = 0;    ///< queues that have a ring
  std::uint64_t entries = 0;   ///< slots that will be delivered
  std::uint64_t voided = 0;    ///< slots that were made void: their message was not published
  std::uint64_t restarted = 0; ///< queues whose incarnation was not that of their session
  std::uint64_t damaged_queues = 0, damaged_slots = 0;
  std::vector<std::string> notes; ///< the first 100 damages, as sentences that name the queue
};

/// Returns the incarnation that queue `number` should have. Entries of another one are unreachable.
using incarnation_of = std::function<std::uint32_t(std::uint32_t number)>;
/// Says whether the slot that `from` names still holds that message as queued: queue_table::holds()
/// of the table that the message was moved from.
using source_holds = std::function<bool(slot_origin from, message_ref message)>;

/// A table of queues. The broker uses a part of this class and of queue_consumer. The rest is for
/// other programs that link the library, and in this tree only tests call it: enqueue_bulk(), the
/// all-or-none form of enqueue_burst() as in rte_ring; refill(), for tables whose rings do not grow
/// and which therefore need no maintain(); add_segment() and part(), for a table outside the
/// broker's store; rings for several consumers, deadlines and slot states.
class queue_table {
 public:
  /// Makes a table over the queue records of `segments` (1 to queue_segments_max), which are zero
  /// when their range is made. Rings come from `blocks`. With `messages` null it is a table of
  /// value queues. `messages`, `blocks` and the media outlive the table. The table does not serve
  /// yet: recover() follows, or start() where the records are known to be zero.
  static result<std::unique_ptr<queue_table>> create(media& medium,
                                                     std::span<const queue_segment> segments,
                                                     block_store& blocks, message_table* messages,
                                                     queue_table_options options = {});
  /// Makes a table over one segment.
  static result<std::unique_ptr<queue_table>> create(media& medium, std::uint64_t offset,
                                                     std::uint32_t count, block_store& blocks,
                                                     message_table* messages,
                                                     queue_table_options options = {});
  ~queue_table();
  queue_table(const queue_table&) = delete;
  queue_table& operator=(const queue_table&) = delete;
  /// Bytes of media that `count` queues take.
  [[nodiscard]] static constexpr std::uint64_t bytes_for(std::uint32_t count) noexcept {
    return std::uint64_t{count} * sizeof(queue_record);
  }

  // --- producers --------------------------------------------------------------------------------

  /// Stores the link of a first ring where the queue has none. `ready` is the usual, quick answer.
  [[nodiscard]] link_status link_start(std::uint32_t queue) noexcept;
  void link_flush(std::uint32_t queue) noexcept;
  /// Follows the drain behind link_flush(). From here on place_start() finds the ring.
  void link_finish(std::uint32_t queue) noexcept;
  /// Links a first ring at once, with a drain of its own, and refills the stock when it is empty.
  /// Not for the data path. Returns `ready`, `wait` or `refused`.
  [[nodiscard]] link_status link_now(std::uint32_t queue) noexcept;

  /// Makes room after place_start() found the queue full for `n` slots: closes the newest ring and
  /// stores the link of the larger ring prepared for the queue. Between this call and link_finish()
  /// no thread places anything in the queue. Waits until other threads have stored the placements
  /// that they began. Returns `refused` when the queue is at its limit (capacity_max, three rings
  /// or the last ticket): the overflow policy applies. Returns `no_room` when the queue has no ring
  /// and none is available: the messages are refused, whatever the policy, and may be tried again.
  [[nodiscard]] link_status grow(std::uint32_t queue, std::uint32_t n = 1) noexcept;
  /// Grows the queue at once: prepares the larger ring where that has not been done, with drains of
  /// its own. Not for the data path. Returns `ready`, `wait` or `refused`, or `no_room` when no
  /// ring state, blocks or memory are left for a larger ring.
  [[nodiscard]] link_status grow_now(std::uint32_t queue, std::uint32_t n = 1) noexcept;

  /// Places all of `refs` (at least one) in order, or none of them. The caller has counted one
  /// reference for each.
  [[nodiscard]] place_status place_start(std::uint32_t queue, std::span<const slot_ref> refs,
                                         placement& out) noexcept;
  /// Places `refs` only while the queue is in that incarnation. So a subscription that was matched
  /// before a clean start places nothing after it. With a `limit` below the limit of the table, it
  /// returns `full` where more slots than that would be in use in the queue.
  [[nodiscard]] place_status place_start(std::uint32_t queue, std::uint32_t incarnation,
                                         std::span<const slot_ref> refs, placement& out,
                                         std::uint32_t limit = UINT32_MAX) noexcept;
  /// Places a message that this thread has leased from another queue, in two slots, while the queue
  /// is in that incarnation. The caller has counted a reference. These steps follow, in this order,
  /// so that a crash between any two of them leaves the message in exactly one of the queues:
  /// place_flush(), a drain, queue_consumer::set_state() of the other slot to `moved`,
  /// flush_slot(), a drain, and place_moved_finish(). An open makes the entry void while the other
  /// slot is queued. Nothing ends a placement that was flushed and not finished, so the caller
  /// makes sure before place_flush() that its lease holds until place_moved_finish().
  [[nodiscard]] place_status place_moved_start(std::uint32_t queue, std::uint32_t incarnation,
                                               slot_ref ref, slot_origin from, placement& out,
                                               std::uint32_t limit = UINT32_MAX) noexcept;
  void place_moved_finish(const placement& p) noexcept;
  /// Flushes the slots.
  void place_flush(const placement& p) noexcept;
  /// Follows the drain of the messages' publication. From here on consumers may lease the slots.
  void place_finish(const placement& p) noexcept;
  /// Ends a placement of messages that will not be published: consumers pass over its slots. The
  /// void slots need no flush, because after a crash a slot is void when its message was never
  /// published. Empties `p`: its ring may be released from then on. With `flushed` the void slots
  /// are flushed: a message that will be placed again, and is published by then, needs them durable
  /// by a drain before that, or a crash could find it twice in the queue.
  void place_void(placement& p, bool flushed = false) noexcept;
  /// Place values in a value queue. Each value becomes durable on its own with one place_flush()
  /// and a drain; place_finish() follows. enqueue_burst() places as many of the first of `values`
  /// as there is room for, enqueue_bulk() all of them or none. Both return how many they placed.
  [[nodiscard]] std::uint32_t enqueue_burst(std::uint32_t queue,
                                            std::span<const std::uint64_t> values,
                                            placement& out) noexcept;
  [[nodiscard]] std::uint32_t
  enqueue_bulk(std::uint32_t queue, std::span<const std::uint64_t> values, placement& out) noexcept;

  /// Prefetches what the calls for this queue will touch, in three passes of which each needs what
  /// the one before has fetched: first the queue's state and record, then its rings' state, then
  /// the positions of the newest ring and the slots that come next. A caller with a burst of queues
  /// makes one pass over all of them, then the next, and then its calls. Any thread may call it.
  void prefetch(std::uint32_t queue, unsigned pass) const noexcept;
  /// Slots that can be placed now or after grow(). Where the queue has no ring: its first capacity.
  [[nodiscard]] std::uint32_t free_count(std::uint32_t queue) const noexcept;
  /// Slots in use, in all rings of the queue, also void ones. A message that was moved takes two.
  [[nodiscard]] std::uint32_t depth(std::uint32_t queue) const noexcept;
  /// The bytes of the messages in the queue, also of those that are acknowledged and not released.
  /// 0 where options.count_bytes is not set.
  [[nodiscard]] std::uint64_t content_bytes(std::uint32_t queue) const noexcept;
  /// Returns what is to become of `n` messages that found the queue full, and counts them. For
  /// drop_oldest it asks the consumer to make room.
  overflow_policy overflow(std::uint32_t queue, std::uint32_t n = 1) noexcept;
  /// The same by another policy than that of the table.
  overflow_policy overflow(std::uint32_t queue, overflow_policy policy,
                           std::uint32_t n = 1) noexcept;

  // --- the consumer -----------------------------------------------------------------------------
  // Deadlines, acknowledgement of one lease or of a prefix, slot states and modes are in
  // consumer.h.

  /// Hands out entries in ticket order and returns how many: first those that nack() gave back,
  /// then the next ready ones. In mpsc mode the leased tickets span fewer than
  /// options.lease_span.
  [[nodiscard]] std::uint32_t lease(std::uint32_t queue, std::span<leased> out) noexcept;
  /// Leases the entries of a placement that place_finish() has made ready, if lease() would hand
  /// out these next, all of them and for the first time. False: nothing is leased. For a consumer
  /// that knows what it has placed: no slot is read, so none is compared with its check.
  [[nodiscard]] bool lease_placed(std::uint32_t queue, const placement& p) noexcept;
  /// Acknowledges as ack() and then answers as may_lease(), with `more`, where `ticket` is the
  /// oldest lease of a queue of one consumer and nothing there is unusual. False: nothing is done,
  /// and ack() decides.
  [[nodiscard]] bool ack_oldest(std::uint32_t queue, std::uint64_t ticket, bool& more) noexcept;
  /// False: a lease() by this consumer would hand out nothing now. True: it may. The call costs a
  /// few loads, so a consumer that has just emptied its queue need not prepare for a delivery.
  [[nodiscard]] bool may_lease(std::uint32_t queue) const noexcept;
  /// Acknowledges an entry. The ack is durable after the steps of a release where it returns
  /// `advanced`, and after queue_consumer::flush_slot() and a drain where it returns `marked`.
  ack_status ack(std::uint32_t queue, std::uint64_t ticket) noexcept;
  /// Gives a lease back: the next lease() hands the entry out again. False: it is not leased now.
  bool nack(std::uint32_t queue, std::uint64_t ticket) noexcept;
  /// Gives all leases back, as after a reconnect. The next lease() starts behind the last ticket
  /// that was acknowledged in order, and leaves out entries acknowledged since. No other consumer
  /// call of the queue may run meanwhile, also in mpmc mode: there a consumer uses nack() for its
  /// own leases.
  void rewind(std::uint32_t queue) noexcept;
  /// Returns the ticket with this packet id that is leased now, or 0. For tables whose lease_span
  /// is at most packet_id_count.
  [[nodiscard]] std::uint64_t resolve(std::uint32_t queue, std::uint16_t packet_id) const noexcept;

  /// Stores the head where it can move: over acknowledged entries, and over void slots and holes,
  /// which no consumer acknowledges. A consumer may call it at any time, also with nothing leased
  /// and nothing acknowledged, and does so now and then for each of its queues. Otherwise the slots
  /// of refused messages, and a ring that a smaller one follows, stay until the next
  /// acknowledgement. True: release_flush(), a drain of this thread and release_finish() follow.
  /// False: nothing can be released, or another thread is releasing.
  [[nodiscard]] bool release_start(std::uint32_t queue) noexcept;
  void release_flush(std::uint32_t queue) noexcept;
  /// Follows the drain: frees the slots and drops their references. Returns how many.
  std::uint32_t release_finish(std::uint32_t queue) noexcept;

  /// Slots that producers have asked for since the last drop_oldest().
  [[nodiscard]] std::uint32_t drop_requested(std::uint32_t queue) const noexcept;
  /// Gives up to `n` of the oldest entries up and returns how many; the next release_start() makes
  /// their room free. Stops at a QoS 2 entry that may have been delivered. The lease of a given-up
  /// entry has ended: resolve() does not find it, and a late ack() is ignored.
  /// queue_consumer::plan_drop() says how many entries stand for some slots and bytes.
  std::uint32_t drop_oldest(std::uint32_t queue, std::uint32_t n) noexcept;

  // --- control ----------------------------------------------------------------------------------

  [[nodiscard]] std::uint32_t incarnation(std::uint32_t queue) const noexcept;
  /// Empties the queue, for a clean start or a deletion: everything in it becomes unreachable, and
  /// its incarnation becomes `incarnation` + 1. Called by the consumer. restart_finish() drops the
  /// references of its contents. A damaged queue, whose own incarnation cannot be trusted, accepts
  /// any `incarnation` and is in service again afterwards.
  [[nodiscard]] restart_status restart_start(std::uint32_t queue,
                                             std::uint32_t incarnation) noexcept;
  void restart_flush(std::uint32_t queue) noexcept;
  void restart_finish(std::uint32_t queue) noexcept;
  /// Fills the stock up with at most `rings_max` rings: allocates, clears, flushes and drains.
  /// Returns how many were added. Any thread may call it when idle; a ring takes a few
  /// microseconds.
  std::uint32_t refill(std::uint32_t rings_max = UINT32_MAX) noexcept;

  /// Does at most `work` pieces of background work and returns how many it did. It gives back rings
  /// that no thread can still reference, prepares a larger ring for each queue that is three
  /// quarters full, refills the stock, and gives a smaller ring to queues that were nearly empty at
  /// several visits. Any thread may call it, when idle or now and then; it allocates and drains.
  std::uint32_t maintain(std::uint32_t work = UINT32_MAX) noexcept;

  /// Adds queues while the table serves, numbered from count() on. Any thread may call it, one at a
  /// time, while other threads use the existing queues. The records of `s` are zero, durably. The
  /// caller makes sure that the next create() is given `s` as well, before the new queues are used.
  /// errc::invalid_argument: the range is not valid or not zero, or it exceeds queues_max or
  /// queue_segments_max.
  [[nodiscard]] result<void> add_segment(const queue_segment& s);
  [[nodiscard]] std::uint32_t count() const noexcept;
  [[nodiscard]] queue_statistics statistics(std::uint32_t queue) const noexcept;
  [[nodiscard]] queue_table_statistics statistics() const noexcept;

  // --- recovery ---------------------------------------------------------------------------------

  /// Starts to serve at once. All records are zero.
  [[nodiscard]] result<void> start();
  /// Flushes everything that recovery will read. The caller drains it with all other metadata.
  void persist_as_read() noexcept;
  /// Recovers all queues, after begin_recovery() of the block store and of the message table and
  /// the drain of persist_as_read(). It marks the rings' chains live, counts references, restores
  /// positions and voids slots of unpublished messages. It stores and flushes; the caller drains
  /// before anything is allocated. `expected` may be empty; otherwise a queue of another
  /// incarnation is emptied. errc::no_space: there is not enough memory.
  /// `holds` decides about messages that were moved to these queues; where it is empty they count
  /// as moved. The queues that it asks are recovered before.
  [[nodiscard]] result<queue_recovery> recover(const incarnation_of& expected = {},
                                               const source_holds& holds = {});
  /// Fills the stock and serves, after finish_recovery() of the message table and the block store.
  [[nodiscard]] result<void> finish_recovery();
  /// Reads every record and slot and changes nothing. Returns the notes that recover() would give.
  [[nodiscard]] queue_recovery check(const source_holds& holds = {}) const;
  /// True where the slot that `at` names, as it lies on media, holds that message and is queued.
  /// For recovery, which no other thread changes the queue during.
  [[nodiscard]] bool holds(slot_origin at, message_ref message) const noexcept;
  /// The whole of this as one part of a region's recovery. It stands behind the parts of the block
  /// store, of the messages, and of whatever `expected` asks. The result of recover() or check() is
  /// put into `found`, unless that is null; `found` outlives the recovery.
  [[nodiscard]] recovery_part part(std::string name, incarnation_of expected = {},
                                   queue_recovery* found = nullptr, source_holds holds = {});

 private:
  friend class queue_consumer;
  struct state;
  explicit queue_table(std::unique_ptr<state> s) noexcept;

  std::unique_ptr<state> state_;
};

} // namespace chainring
