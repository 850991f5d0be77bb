// SPDX-License-Identifier: BSD-3-Clause
/// Inside lib/block: what lets every thread keep a cache of its own that all others can take back.
///
/// The owner of a cache uses it between enter() and leave() without a locked instruction. A
/// revoker, under the lock that serialises revokers, shuts every owner out, waits for those inside,
/// and then owns all caches until it restores them. It is Dekker's handshake over an uneven fence
/// (base/uneven_fence.h), which the revoker pays for. It is no grace period (base/grace.h): a grace
/// period waits for those who were inside once and lets others in meanwhile, and here nobody may be
/// inside until the caches are restored.
///
///   edge                                                        breaks without it
///   [T1] owner: busy = 1, then [T3] reads revoked, with [T2]    owner and revoker both inside
///        between; revoker: [T4] revoked = 1, then [T6] reads
///        busy, with [T5] between
///   [T7] owner: busy = 0 release -> [T6] acquire                revoker misses the owner's last
///                                                               entries
///   [T8] revoker: revoked = 0 release -> [T3] acquire           owner finds entries that were
///                                                               taken back
///   [T9] read under the lock that all changes are made under    nothing
///   (that the revoker overlooks no thread's cache: base/thread_slot.h, whose count it reads behind
///   [T5])
#pragma once
#include <atomic>
#include <cstdint>

#include "../base/idle.h"
#include "../base/thread_slot.h"
#include "../base/uneven_fence.h"

namespace chainring::detail {

class revocable {
 public:
  /// The owner goes in. False: the caches are taken back, go to what lies behind them.
  [[nodiscard]] bool enter(std::atomic<std::uint32_t>& busy) noexcept {
    busy.store(1, std::memory_order_relaxed); // [T1] before [T3], by [T2]; pairs with [T6]
    fence_.often();                           // [T2] pairs with [T5]
    if (revoked_.load(std::memory_order_acquire)) [[unlikely]] { // [T3] pairs with [T4], [T8]
      leave(busy);
      return false;
    }
    return true;
  }
  void leave(std::atomic<std::uint32_t>& busy) noexcept {
    busy.store(0, std::memory_order_release); // [T7] pairs with [T6]
  }

  // --- under the revokers' lock -----------------------------------------------------------------
  [[nodiscard]] bool revoked() const noexcept {
    return revoked_.load(std::memory_order_relaxed); // [T9] changes only under the caller's lock
  }
  void revoke() noexcept {
    revoked_.store(true, std::memory_order_relaxed); // [T4] before [T6], by [T5]; pairs with [T3]
    fence_.rarely();                                 // [T5] pairs with [T2]
  }
  /// After revoke(): this owner is out, and what it did is visible.
  static void wait_out(const std::atomic<std::uint32_t>& busy) noexcept {
    idle_policy wait;
    // [T6] pairs with [T1], [T7]
    while (busy.load(std::memory_order_acquire) != 0)
      wait.idle();
  }
  void restore() noexcept {
    revoked_.store(false, std::memory_order_release); // [T8] pairs with [T3]
  }

 private:
  std::atomic<bool> revoked_{false};
  uneven_fence fence_;
};

} // namespace chainring::detail
