// SPDX-License-Identifier: BSD-3-Clause
/// The order in which the batches of a map become visible, and what lets a reader see several keys
/// between two of them. seq_map and durable_map have one each.
///
/// A count is odd while a batch is published. A reader of several keys reads the count, the keys,
/// and the count again, and starts again where it changed. A reader that batches disturb
/// `tries_max` times takes the lock of the publishers, who then wait for it. Readers of single keys
/// look at nothing here.
///
/// Ordering labels:
///   [batch-count]  A publisher makes the count odd and then makes a release fence before it
///     changes an entry; a reader makes an acquire fence behind its last entry and loads the count
///     again, so a reader that saw a change of a batch sees that the count has changed; pairs with
///     [batch-count].
///   [batch-published]  A publisher makes the count even with release behind its last change; a
///     reader loads it with acquire before its first entry, so a reader that sees the count sees
///     the whole batch; pairs with [batch-published].
///   [batch-turn]  The count changes only under the lock (base/spin_lock.h), which the thread
///     holds; the load orders nothing.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <type_traits>

#include "../base/cacheline.h"
#include "../base/hook.h"
#include "../base/spin_lock.h"
#include "../seqlock/seqlock.h"

namespace chainring::detail {

class alignas(cacheline_size) batch_order {
 public:
  static constexpr unsigned tries_max = 16;

  /// Calls fn(), which changes the entries of one batch and waits for nothing.
  template <class Fn> void publish(Fn&& fn) noexcept {
    const std::lock_guard turn(lock_);
    const std::uint64_t before = count_.load(std::memory_order_relaxed); // [batch-turn]
    if (!seeded_bug("map.batch_uncounted")) {
      // [batch-count] Without it a reader could take a key from before a batch and one from behind
      // it for keys of one moment.
      count_.store(before + 1, std::memory_order_relaxed); // [batch-count]
      std::atomic_thread_fence(std::memory_order_release); // [batch-count]
    }
    fn();
    if (!seeded_bug("map.batch_uncounted")) {
      // [batch-published] Without it a reader could see the count of a batch and miss its changes.
      count_.store(before + 2, std::memory_order_release); // [batch-published]
    }
  }

  /// Returns what fn() returned when no batch was published from its beginning to its end. fn() may
  /// be called several times, and does not change the map.
  template <class Fn> std::invoke_result_t<Fn&> read(Fn&& fn) {
    short_wait wait;
    for (unsigned tries = 0; tries < tries_max; ++tries) {
      const std::uint64_t before = count_.load(std::memory_order_acquire); // [batch-published]
      if (before % 2 != 0) {
        wait.round();
        continue;
      }
      if constexpr (std::is_void_v<std::invoke_result_t<Fn&>>) {
        fn();
        if (!changed_since(before)) return;
      } else {
        auto seen = fn();
        if (!changed_since(before)) return seen;
      }
    }
    const std::lock_guard turn(lock_);
    return fn();
  }

 private:
  [[nodiscard]] bool changed_since(std::uint64_t before) const noexcept {
    std::atomic_thread_fence(std::memory_order_acquire);     // [batch-count]
    return count_.load(std::memory_order_relaxed) != before; // [batch-count]
  }

  std::atomic<std::uint64_t> count_{0};
  spin_lock lock_; ///< held by the publisher, or by a reader that was disturbed too often
};

} // namespace chainring::detail
