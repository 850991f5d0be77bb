// SPDX-License-Identifier: BSD-3-Clause
/// The number of places that a burst wants in each queue, and the group of targets in which they
/// are. Internal to the broker.
///
/// The size of this table follows the fan-out of the burst and not the number of sessions, so a
/// worker needs no memory for queues in which it places nothing.
#pragma once
#include <bit>
#include <cstdint>
#include <vector>

namespace chainring {

class plan_table {
 public:
  explicit plan_table(std::uint32_t first) : entries_(std::bit_ceil(first)) {}

  /// Returns how many places were added for that queue since clear().
  [[nodiscard]] std::uint32_t of(std::uint32_t queue) const noexcept {
    const entry& e = entries_[find(queue)];
    return e.burst == burst_ ? e.places.count : 0;
  }
  /// Returns how many bytes were added for that queue since clear().
  [[nodiscard]] std::uint64_t bytes_of(std::uint32_t queue) const noexcept {
    const entry& e = entries_[find(queue)];
    return e.burst == burst_ ? e.bytes : 0;
  }
  /// The number of places in a queue, and what the caller keeps with it.
  struct plan {
    std::uint32_t count = 0;
    std::uint32_t group = 0; ///< the caller's own
  };
  /// Adds one place for a message of that size. The result is valid until the next call.
  plan& add(std::uint32_t queue, std::uint64_t bytes) {
    if (2 * used_ >= entries_.size()) grow();
    entry& e = entries_[find(queue)];
    if (e.burst != burst_) {
      e = {};
      e.burst = burst_;
      e.queue = queue;
      ++used_;
    }
    e.bytes += bytes;
    ++e.places.count;
    return e.places;
  }
  /// Forgets all places.
  void clear() noexcept {
    ++burst_;
    used_ = 0;
  }

 private:
  struct entry {
    std::uint64_t burst = 0;
    std::uint32_t queue = 0;
    plan places;
    std::uint64_t bytes = 0;
  };
  /// Returns the index of the queue's entry, or of the free entry that it would take.
  [[nodiscard]] std::size_t find(std::uint32_t queue) const noexcept {
    const std::size_t mask = entries_.size() - 1;
    std::size_t i = queue * std::uint64_t{0x9e3779b97f4a7c15} >> 40 & mask; // 2^64 / phi
    while (entries_[i].burst == burst_ && entries_[i].queue != queue)
      i = (i + 1) & mask;
    return i;
  }
  void grow() {
    std::vector<entry> old(2 * entries_.size());
    old.swap(entries_);
    for (const entry& e : old)
      if (e.burst == burst_) entries_[find(e.queue)] = e;
  }

  std::vector<entry> entries_;
  std::uint64_t burst_ = 1;
  std::size_t used_ = 0;
};

} // namespace chainring
