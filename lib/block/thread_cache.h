// SPDX-License-Identifier: BSD-3-Clause
/// Inside lib/block: what lets every thread keep a cache of its own that all others can take back.
///
/// The owner of a cache uses it between enter() and leave() without a locked instruction. A
/// revoker, under the lock that serialises revokers, shuts every owner out, waits for those inside,
/// and then owns all caches until it restores them. It is Dekker's handshake with the owner's fence
/// moved to the revoker's side, where it is a membarrier(2) system call; without that call in the
/// kernel the owner pays the fence.
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
///   [T10] a holder acquires what the one before released by     two holders; stale state
///         [T12]; [T11] is only a hint to try again
///   [T13] a slot is counted before its owner's first [T1];      revoker overlooks the cache of
///         the revoker reads the count, [T14], behind [T5]       a new thread
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <linux/membarrier.h>
#include <new>
#include <sys/syscall.h>
#include <unistd.h>

#include "../base/assert.h"
#include "../base/idle.h"
#include "../base/lazy_array.h"
#include "../base/thread_slot.h"

namespace chainring::detail {

/// Slots that ever had a cache: what a revoker has to look at.
inline std::atomic<unsigned> slots_seen{0};

[[gnu::noinline]] inline unsigned first_slot() noexcept {
  const unsigned slot = thread_slot();
  unsigned seen = slots_seen.load(std::memory_order_relaxed); // [T13]
  while (seen <= slot && !slots_seen.compare_exchange_weak(
                             seen, slot + 1, std::memory_order_seq_cst, // [T13] pairs with [T14]
                             std::memory_order_relaxed)) {              // [T13]
  }
  return slot;
}

/// This thread's slot plus one, 0 before its first use. Initial-exec: one load, no call, from a
/// shared library too.
[[gnu::tls_model("initial-exec")]] inline constinit thread_local unsigned slot_plus_one = 0;

/// This thread's slot without the guarded call behind thread_slot().
inline unsigned my_slot() noexcept {
  if (slot_plus_one == 0) [[unlikely]]
    slot_plus_one = first_slot() + 1;
  return slot_plus_one - 1;
}

class revocable {
 public:
  revocable() noexcept
      : by_kernel_(syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0) {
  }

  /// The owner goes in. False: the caches are taken back, go to what lies behind them.
  [[nodiscard]] bool enter(std::atomic<std::uint32_t>& busy) noexcept {
    busy.store(1, std::memory_order_relaxed); // [T1] before [T3], by [T2]; pairs with [T6]
    if (by_kernel_) [[likely]]
      std::atomic_signal_fence(std::memory_order_seq_cst); // [T2] pairs with [T5], a membarrier
    else
      std::atomic_thread_fence(std::memory_order_seq_cst);       // [T2] pairs with [T5], a fence
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
    // [T5] as a membarrier; pairs with [T2]
    if (by_kernel_)
      CHAINRING_ASSERT(syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    else
      std::atomic_thread_fence(std::memory_order_seq_cst); // [T5] pairs with [T2]
  }
  /// Slots whose owners a revoke() may have met inside.
  [[nodiscard]] static unsigned slots() noexcept {
    return slots_seen.load(std::memory_order_seq_cst); // [T14] pairs with [T13]
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
  const bool by_kernel_;
};

/// A short lock that gives the CPU away where it has to wait: its holder may be preempted.
class short_lock {
 public:
  void lock() noexcept {
    idle_policy wait;
    while (held_.exchange(true, std::memory_order_acquire)) // [T10] pairs with [T12]
      // [T11] only a hint to try again
      while (held_.load(std::memory_order_relaxed))
        wait.idle();
  }
  void unlock() noexcept {
    held_.store(false, std::memory_order_release); // [T12] pairs with [T10]
  }

 private:
  alignas(64) std::atomic<bool> held_{false};
};

} // namespace chainring::detail
