// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/block: lets every thread keep a cache of its own that any other thread can take
/// back.
///
/// The owner of a cache uses it between enter() and leave() without a locked instruction. A revoker
/// holds the lock that serialises revokers, shuts every owner out, waits for those that are inside,
/// and then owns all caches until it restores them. The handshake is Dekker's over an uneven fence
/// (base/uneven_fence.h), whose cost falls on the revoker. A grace period (base/grace.h) would not
/// do: it waits for the threads that were inside once and lets others in meanwhile, whereas here no
/// owner may be inside until the caches are restored. base/thread_slot.h explains why the revoker
/// overlooks no thread's cache.
///
/// Ordering labels:
///   [cache-busy]  The owner stores busy = 1 before it loads revoked, with the frequent side of the
///     uneven fence between; pairs with [cache-waited-out].
///   [cache-open-read]  The owner loads revoked with acquire; pairs with [cache-revoked] and
///     [cache-restored].
///   [cache-revoked]  The revoker stores revoked = true before it loads busy, with the rare side of
///     the uneven fence between; pairs with [cache-open-read].
///   [cache-waited-out]  The revoker loads busy with acquire until it is 0; pairs with [cache-busy]
///     and [cache-left].
///   [cache-left]  The owner stores busy = 0 with release; pairs with [cache-waited-out].
///   [cache-restored]  The revoker stores revoked = false with release; pairs with
///     [cache-open-read].
///   [revoked-read-locked]  The revoker loads revoked under the lock under which revoked is
///     changed, so the load orders nothing.
#pragma once
#include <atomic>
#include <cstdint>

#include "../base/idle.h"
#include "../base/thread_slot.h"
#include "../base/uneven_fence.h"

namespace chainring::detail {

class revocable {
 public:
  /// Lets the owner in. Returns false if the caches are taken back; the owner then uses what lies
  /// behind its cache.
  [[nodiscard]] bool enter(std::atomic<std::uint32_t>& busy) noexcept {
    // [cache-busy] Without it the revoker could overlook an owner that is inside.
    busy.store(1, std::memory_order_relaxed);
    fence_.often();
    // [cache-open-read] Without it the owner could find entries that the revoker has taken back.
    if (revoked_.load(std::memory_order_acquire)) [[unlikely]] {
      leave(busy);
      return false;
    }
    return true;
  }
  void leave(std::atomic<std::uint32_t>& busy) noexcept {
    // [cache-left] Without it the revoker could miss the last entries that the owner stored.
    busy.store(0, std::memory_order_release);
  }

  // --- The callers of these hold the lock that serialises revokers. ----------------------------
  [[nodiscard]] bool revoked() const noexcept {
    return revoked_.load(std::memory_order_relaxed); // [revoked-read-locked]
  }
  void revoke() noexcept {
    // [cache-revoked] Without it an owner could enter while the revoker uses its cache.
    revoked_.store(true, std::memory_order_relaxed);
    fence_.rarely();
  }
  /// Waits, after revoke(), until this owner is outside and its stores are visible.
  static void wait_out(const std::atomic<std::uint32_t>& busy) noexcept {
    idle_policy wait;
    // [cache-waited-out] Without it the revoker could use the cache together with its owner.
    while (busy.load(std::memory_order_acquire) != 0)
      wait.idle();
  }
  void restore() noexcept {
    // [cache-restored] Without it an owner could enter and miss that its cache was emptied.
    revoked_.store(false, std::memory_order_release);
  }

 private:
  std::atomic<bool> revoked_{false};
  uneven_fence fence_;
};

} // namespace chainring::detail
