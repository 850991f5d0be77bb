// SPDX-License-Identifier: BSD-3-Clause
/// What only some consumers of a queue need, beside the plain lease(), ack() and nack() of
/// queue_table: leases that end at a deadline, calls that count for one particular lease, the
/// acknowledgement of a whole prefix, states of slots, and the queue's mode.
///
/// **When to use:** consumers that share a queue, that can be late, that acknowledge many entries
/// at once, or that deliver at QoS 2. **When not:** a single consumer that answers entry by entry
/// needs only queue_table, and flush_slot() where it answers out of order.
///
/// **Cost.** A queue_consumer is one pointer. It is made where it is used, or kept and copied. The
/// queues and their state belong to the table, which outlives it.
///
/// **Thread-safety.** These are consumer calls, so the rule of ring.h holds: in mpsc mode the
/// queue's one consumer makes them, in mpmc mode any thread may. earliest_deadline() may be called
/// by any thread in both.
///
/// ```
/// queue_consumer consumer(queues);
/// n = consumer.lease(q, entries, now + patience);    // this consumer holds them until then
/// if (consumer.ack(q, entries[0]) == ack_status::marked)  // `ignored` where the lease has ended
///   consumer.flush_slot(q, entries[0].ticket());
/// consumer.expire(q, now);                     // the next lease() hands out what is overdue
/// ```
#pragma once
#include <cstdint>
#include <span>

#include "ring.h"

namespace chainring {

/// What a queue has to drop for some room.
struct drop_plan {
  std::uint32_t entries = 0; ///< for drop_oldest()
  /// False: the queue holds less than the room that is wanted, or an entry that drop_oldest()
  /// cannot give up, or that is not ready, stands in the way. `entries` is then the number of those
  /// that could be given up before it.
  bool possible = true;
};

/// Entries of one queue that are leased in place: consecutive tickets whose slots lie side by side.
/// The slots may be read until the first of the entries is acknowledged, given back or dropped, or
/// the queue is restarted.
struct leased_run {
  const ring_slot* slots = nullptr;
  std::uint64_t first_ticket = 0;
  std::uint32_t count = 0;

  /// Of a message queue.
  [[nodiscard]] slot_ref ref(std::uint32_t i) const noexcept { return slot_ref(slots[i].ref); }
  /// Of a value queue.
  [[nodiscard]] std::uint64_t value(std::uint32_t i) const noexcept { return slots[i].ref; }
  /// The same entry as lease() hands it out.
  [[nodiscard]] leased entry(std::uint32_t i) const noexcept {
    return leased::first(ref(i), first_ticket + i);
  }
};

/// What a queue holds behind its acknowledged prefix.
struct queue_backlog {
  std::uint64_t oldest = 0; ///< a ticket; 0: everything is acknowledged
  std::uint64_t slots = 0;  ///< from this one on, also acknowledged and void ones
};

class queue_consumer {
 public:
  constexpr explicit queue_consumer(queue_table& table) noexcept : table_(&table) {}
  [[nodiscard]] queue_table& table() const noexcept { return *table_; }

  // --- leases with a deadline -------------------------------------------------------------------

  /// Hands out entries as queue_table::lease() does, until `deadline`, in the unit of the caller's
  /// clock. After the deadline expire() gives back the entries that were not acknowledged. The
  /// table was made with timed_leases. UINT64_MAX: no deadline.
  [[nodiscard]] std::uint32_t lease(std::uint32_t queue, std::span<leased> out,
                                    std::uint64_t deadline) const noexcept;
  /// Gives back, as nack() does, up to `n_max` entries whose lease's deadline is at or before
  /// `now`, and returns how many. It reads no clock. Where no deadline has passed it reads a few
  /// words, and otherwise everything that is leased. Afterwards an ack() or nack() by the ended
  /// lease is ignored.
  std::uint32_t expire(std::uint32_t queue, std::uint64_t now,
                       std::uint32_t n_max = UINT32_MAX) const noexcept;
  /// A lower bound of all deadlines: no lease ends before it. UINT64_MAX: no lease has a deadline.
  [[nodiscard]] std::uint64_t earliest_deadline(std::uint32_t queue) const noexcept;

  /// Returns how many entries a lease() could hand out, counting void slots between them, or 0
  /// where the next entry is not ready. Each number was right at some moment during the call. In
  /// mpmc mode another consumer may lease them first.
  [[nodiscard]] std::uint32_t leasable(std::uint32_t queue) const noexcept;

  /// Returns the oldest entry that is not acknowledged, and how many slots there are from it on.
  /// Their room comes back only behind it. Each number was right at some moment during the call.
  [[nodiscard]] queue_backlog backlog(std::uint32_t queue) const noexcept;

  // --- acknowledgements -------------------------------------------------------------------------

  /// Act as queue_table::ack() and nack() do, but only while that very lease still holds the entry.
  /// So a late consumer does not end the lease of the consumer that has the entry now.
  ack_status ack(std::uint32_t queue, const leased& by) const noexcept;
  bool nack(std::uint32_t queue, const leased& by) const noexcept;
  /// Acknowledges the first of `entries`, which one lease() handed out, as long as each is the
  /// oldest entry of the queue and that lease still holds it. Returns how many: these are
  /// `advanced`. For each of the rest, ack() says what became of it. A burst that is acknowledged
  /// whole and in order costs a few instructions an entry in mpmc mode and less in mpsc mode.
  [[nodiscard]] std::uint32_t ack_burst(std::uint32_t queue,
                                        std::span<const leased> entries) const noexcept;
  /// Leases up to `n_max` entries without copying them, in mpsc mode: those that lease() would hand
  /// out next, as far as they lie side by side in one ring. An empty run does not mean that nothing
  /// is ready: lease() then finds out. It is empty where an entry from here on may have a history
  /// (it was given back, may have been delivered before, is void, or became ready out of order),
  /// at the end of a ring and of the lease span, where leases have deadlines, in mpmc
  /// mode, and where the medium has failed. No slot is compared with its check, so a reader that
  /// must notice that memory was lost meanwhile asks media::failed() behind its reads.
  [[nodiscard]] leased_run lease_run(std::uint32_t queue, std::uint32_t n_max) const noexcept;
  /// Acknowledges the entries of a run. Returns how many of the leases held until now: each of
  /// these is acknowledged. Where the head can move and no release is open, the call also begins
  /// one, as release_start() and release_flush() do, and sets `releasing`: a drain of this thread
  /// and release_finish() follow. Otherwise it leaves `releasing` alone. As with ack(), what was
  /// acknowledged in order is durable behind a release that was begun after it: where one was open,
  /// releasable() says that another is due. What was not in order is durable with the next drain.
  [[nodiscard]] std::uint32_t ack_run(std::uint32_t queue, const leased_run& run,
                                      bool& releasing) const noexcept;
  /// True while entries are acknowledged in order and the head has not passed them, or a ring has
  /// none left. Where release_start() returned false, another thread is releasing then.
  [[nodiscard]] bool releasable(std::uint32_t queue) const noexcept;
  /// Acknowledges every leased entry up to and including `ticket`, in mpsc mode. Returns the number
  /// of tickets; void ones count too.
  std::uint32_t ack_through(std::uint32_t queue, std::uint64_t ticket) const noexcept;

  // --- states of slots --------------------------------------------------------------------------

  /// Changes the state of a leased entry to pubrec, which keeps it leased, or to moved or dropped,
  /// which end it as ack() does. False: it is not leased now, or its state is neither `queued` nor
  /// `taken`.
  /// flush_slot() follows in the same burst.
  bool set_state(std::uint32_t queue, std::uint64_t ticket, slot_state to) const noexcept;
  /// Flushes the slot that set_state(), or an ack() that returned `marked`, has changed. It is
  /// durable with this thread's next drain.
  void flush_slot(std::uint32_t queue, std::uint64_t ticket) const noexcept;

  // --- the queue --------------------------------------------------------------------------------

  /// Makes the queue one of a single consumer or of several. The mode is durable when it returns
  /// true; it drains. No consumer call of the queue runs meanwhile. False: entries are leased, a
  /// release or restart is open, or a ring is being linked. The queue may hold entries, and
  /// producers may place more meanwhile.
  [[nodiscard]] bool set_mode(std::uint32_t queue, queue_mode mode) const noexcept;
  /// Returns the wall clock time in ns at which the oldest entry was published. 0: the queue is
  /// empty, or holds values.
  [[nodiscard]] std::uint64_t oldest_published_ns(std::uint32_t queue) const noexcept;
  /// Gives up to `n` of the oldest entries up whose messages expire at `now_ns` on the wall clock
  /// or earlier, as drop_oldest() does, and returns how many. Stops at the first other entry. It
  /// has the same callers as drop_oldest().
  std::uint32_t drop_expired(std::uint32_t queue, std::uint64_t now_ns,
                             std::uint32_t n) const noexcept;
  /// Returns how many entries drop_oldest() has to give up so that the next release makes at least
  /// so many slots and bytes free. Entries that are over already, and that the same release passes,
  /// count for the room too. It changes nothing, and has the same callers as drop_oldest(). Bytes
  /// are those of content_bytes().
  [[nodiscard]] drop_plan plan_drop(std::uint32_t queue, std::uint32_t slots,
                                    std::uint64_t bytes) const noexcept;

 private:
  queue_table* table_;
};

} // namespace chainring
