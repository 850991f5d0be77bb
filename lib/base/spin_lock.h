// SPDX-License-Identifier: BSD-3-Clause
/// The one spin lock: for sections of a few instructions, on threads that may be preempted.
///
/// A waiter spins about as long as such a section lasts and then waits through the idle policy, so
/// that a holder which has lost its CPU gets it back. Not recursive, and not fair.
///
///     const std::lock_guard guard(lock_);
///
///   edge                                                  breaks without it
///   [L1] lock taken, acquire <- [L2] lock freed, release  two holders at once, or one that does
///   not
///                                                         see what the last one did
///   [L3] a look at the lock, relaxed                      nothing: a hint; the exchange [L1]
///   decides
#pragma once
#include "compiler.h"

#include <atomic>

#include "idle.h"

namespace chainring {

class spin_lock {
 public:
  void lock() noexcept {
    if (try_lock()) [[likely]]
      return;
    wait();
  }
  [[nodiscard]] bool try_lock() noexcept {
    return !held_.exchange(true, std::memory_order_acquire); // [L1] pairs with [L2]
  }
  void unlock() noexcept {
    held_.store(false, std::memory_order_release); // [L2] pairs with [L1]
  }

 private:
  [[gnu::noinline]] void wait() noexcept {
    constexpr int spins = 200; // longer than a section lasts while its holder runs
    idle_policy policy;
    do {
      int left = spins;
      while (held_.load(std::memory_order_relaxed) && --left > 0) // [L3] a hint
        __builtin_ia32_pause();
      if (left == 0) policy.idle();
    } while (!try_lock());
  }

  std::atomic<bool> held_{false};
};

} // namespace chainring
