// SPDX-License-Identifier: BSD-3-Clause
/// What fewer consumers of a queue need, beside the plain lease(), ack() and nack() of queue_table:
/// leases that end at a deadline, calls that count for one particular lease, the acknowledgement of
/// a whole prefix, states of slots, and the queue's mode.
///
/// **When to use:** consumers that share a queue, that can be late, or that acknowledge many
/// entries at once; QoS 2. **When not:** a single consumer that answers entry by entry needs only
/// queue_table, and flush_slot() where it answers out of order.
///
/// **Cost.** A queue_consumer is one pointer. It is made where it is used, or kept and copied; the
/// queues and their state belong to the table, which outlives it.
///
/// **Thread-safety.** These are consumer calls, so the rule of ring.h holds: in mpsc mode the
/// queue's one consumer makes them, in mpmc mode any thread may. earliest_deadline() may be called
/// by any thread in both.
///
/// ```
/// queue_consumer consumer(queues);
/// n = consumer.lease(q, entries, now + patience);    // this consumer has them until then
/// if (consumer.ack(q, entries[0]) == ack_status::marked)  // ignored where the lease has ended
///   consumer.flush_slot(q, entries[0].ticket());
/// consumer.expire(q, now);                           // the next lease() hands out what is late
/// ```
#pragma once
#include <cstdint>
#include <span>

#include "ring.h"

namespace chainring {

class queue_consumer {
 public:
  constexpr explicit queue_consumer(queue_table& table) noexcept : table_(&table) {}
  [[nodiscard]] queue_table& table() const noexcept { return *table_; }

  // --- leases with a deadline -------------------------------------------------------------------

  /// Hands out entries as queue_table::lease() does, until `deadline`, in whatever unit the
  /// caller's clock has: expire() then gives back what has not been acknowledged. The table was
  /// made with timed_leases. UINT64_MAX: no deadline.
  [[nodiscard]] std::uint32_t lease(std::uint32_t queue, std::span<leased> out,
                                    std::uint64_t deadline) const noexcept;
  /// Gives back, as nack() does, up to `n_max` entries whose lease's deadline is at or before
  /// `now`, and returns how many. It reads no clock. Where no deadline has passed it reads a few
  /// words, and otherwise everything that is leased. From here on the holders' ack() and nack() by
  /// lease are ignored.
  std::uint32_t expire(std::uint32_t queue, std::uint64_t now,
                       std::uint32_t n_max = UINT32_MAX) const noexcept;
  /// No lease ends before that; UINT64_MAX: no lease has a deadline.
  [[nodiscard]] std::uint64_t earliest_deadline(std::uint32_t queue) const noexcept;

  // --- acknowledgements -------------------------------------------------------------------------

  /// As queue_table::ack() and nack(), only where that very lease still is the entry's: an entry
  /// can have gone to another consumer, and one that is late does not end the other's lease.
  ack_status ack(std::uint32_t queue, const leased& by) const noexcept;
  bool nack(std::uint32_t queue, const leased& by) const noexcept;
  /// Acknowledges every entry leased up to and with `ticket`, in mpsc mode. Returns how many
  /// tickets that were; void ones count too.
  std::uint32_t ack_through(std::uint32_t queue, std::uint64_t ticket) const noexcept;

  // --- states of slots --------------------------------------------------------------------------

  /// Marks a leased entry: pubrec (it stays leased), moved or dropped (it is done with, as by
  /// ack()). False: it is not leased now, or already in another state than queued. flush_slot()
  /// follows with the burst.
  bool set_state(std::uint32_t queue, std::uint64_t ticket, slot_state to) const noexcept;
  /// What set_state(), or an ack() that was `marked`, stored in the slot is durable with this
  /// thread's next drain.
  void flush_slot(std::uint32_t queue, std::uint64_t ticket) const noexcept;

  // --- the queue --------------------------------------------------------------------------------

  /// Makes the queue one of a single consumer or of several; durable when it returns true; drains.
  /// No consumer call of the queue runs meanwhile. False: entries are leased, a release or restart
  /// is open, or a ring is being linked. Entries may be in the queue, and may be placed meanwhile.
  [[nodiscard]] bool set_mode(std::uint32_t queue, queue_mode mode) const noexcept;
  /// Wall clock, ns, at which the oldest entry was published; 0: the queue is empty, or holds
  /// values.
  [[nodiscard]] std::uint64_t oldest_published_ns(std::uint32_t queue) const noexcept;

 private:
  queue_table* table_;
};

} // namespace chainring
