// SPDX-License-Identifier: BSD-3-Clause
/// Placements and leases that end by themselves where the code that made them does not end them,
/// because of an exception or an early return.
///
/// **When to use:** producers that prepare entries in several steps, and consumers that hold
/// several entries while they work. **When not:** queue.h and durable_queue.h, whose enqueue calls
/// are whole; placements that are kept across bursts by a program of one's own, as in the broker.
///
/// A placement that is neither made ready nor void stops its queue: consumers wait for its slots.
/// A lease that is neither acknowledged nor given back keeps its entry until the next open.
///
/// **Durability:** finish() of a placement follows its flush and a drain, as place_finish() does.
/// Its destruction voids the slots and flushes them. With the next drain of that thread a crash
/// cannot bring the entries back; before that, a value that was flushed may be there after a crash,
/// as after a crash during any enqueue call. Entries that are given back are handed out again.
///
/// **Thread-safety:** that of the calls that they make. One thread at a time uses a guard, and any
/// thread may destroy it; in mode mpsc a guard of leases is destroyed by the consumer.
///
/// **Complexity:** the constructors and finish() cost what they call. A placement that is dropped
/// takes a compare-and-swap for each slot. **Memory:** no call allocates.
///
///     chainring::placement_guard placed(table);
///     if (table.enqueue_bulk(0, values, placed.slots()) != 0) {
///       table.place_flush(placed.slots());
///       prepare_more();                            // may throw: then the slots become void
///       media.drain();
///       placed.finish();
///     }
///
///     chainring::taken_guard some(queue, 0);
///     some.take();                                 // up to burst_max entries
///     for (const auto& entry : some.entries())
///       work(entry);                               // may throw: then all come again
///     some.release();                              // one drain for all of them
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "durable_queue.h"
#include "ring.h"

namespace chainring {

/// A placement that becomes void when it is dropped.
class placement_guard {
 public:
  explicit placement_guard(queue_table& table) noexcept : table_(&table) {}
  /// Takes over a placement, which the caller does not end any more.
  placement_guard(queue_table& table, const placement& p) noexcept
      : table_(&table), placement_(p) {}
  placement_guard(placement_guard&& other) noexcept
      : table_(other.table_), placement_(std::exchange(other.placement_, {})) {}
  placement_guard& operator=(placement_guard&& other) noexcept { // `other` ends what this one held
    std::swap(table_, other.table_);
    std::swap(placement_, other.placement_);
    return *this;
  }
  ~placement_guard() { make_void(); }

  /// For place_start(), enqueue_burst() or enqueue_bulk(), which fill an empty guard, and for
  /// place_flush().
  [[nodiscard]] placement& slots() noexcept { return placement_; }
  [[nodiscard]] std::uint32_t count() const noexcept { return placement_.count; }
  /// Makes the slots ready, behind the drain. The guard is empty afterwards.
  void finish() noexcept { table_->place_finish(std::exchange(placement_, {})); }
  /// Voids the slots and flushes them, as the destructor does. The guard is empty afterwards.
  void make_void() noexcept;
  /// Hands the placement to a caller that ends it.
  [[nodiscard]] placement keep() noexcept { return std::exchange(placement_, {}); }

 private:
  queue_table* table_;
  placement placement_;
};

/// Up to burst_max entries that are given back when they are dropped.
class taken_guard {
 public:
  taken_guard(durable_queue& queue, std::uint32_t stream) noexcept
      : queue_(queue), stream_(stream) {}
  taken_guard(const taken_guard&) = delete;
  taken_guard& operator=(const taken_guard&) = delete;
  ~taken_guard() { give_back(); }

  /// Takes the next entries beside those that it holds, and returns how many: `most` at most, and
  /// burst_max with those that it holds.
  std::uint32_t take(std::uint32_t most = durable_queue::burst_max) noexcept {
    const auto room = static_cast<std::uint32_t>(entries_.size()) - count_;
    const std::uint32_t n =
        queue_.take(stream_, std::span(entries_).subspan(count_, most < room ? most : room));
    count_ += n;
    return n;
  }
  /// The entries that it holds, the oldest first.
  [[nodiscard]] std::span<const durable_queue::taken> entries() const noexcept {
    return std::span(entries_).first(count_);
  }
  /// Ends all of them, as durable_queue::release() does, with one drain.
  queue_status release() noexcept {
    return queue_.release(stream_, std::span(entries_).first(std::exchange(count_, 0)));
  }
  /// Gives all of them back, as the destructor does.
  void give_back() noexcept {
    if (count_ != 0) queue_.give_back(stream_, std::span(entries_).first(std::exchange(count_, 0)));
  }

 private:
  durable_queue& queue_;
  std::uint32_t stream_;
  std::uint32_t count_ = 0;
  std::array<durable_queue::taken, durable_queue::burst_max> entries_;
};

} // namespace chainring
