// SPDX-License-Identifier: BSD-3-Clause
/// A spin lock for sections of a few instructions, on threads that may be preempted.
///
/// A waiter spins about as long as such a section lasts, and then waits through the idle policy, so
/// that a holder that lost its CPU gets it back. The lock is neither recursive nor fair.
///
///     const std::lock_guard guard(lock_);
///
/// Ordering labels:
///   [lock-taken]  A thread takes the lock by an exchange with acquire; pairs with [lock-freed].
///   [lock-freed]  The holder frees the lock with release; pairs with [lock-taken].
///   [lock-glanced]  A waiter reads the lock to see whether an exchange is worth its cost; the read
///     orders nothing, because the exchange decides.
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
    // [lock-taken] Without it the new holder could miss what the last holder stored.
    return !held_.exchange(true, std::memory_order_acquire);
  }
  void unlock() noexcept {
    // [lock-freed] Without it the next holder could miss what this holder stored.
    held_.store(false, std::memory_order_release);
  }

 private:
  [[gnu::noinline]] void wait() noexcept {
    constexpr int spins = 200; // lasts longer than a section whose holder runs
    idle_policy policy;
    do {
      int left = spins;
      while (held_.load(std::memory_order_relaxed) && --left > 0) // [lock-glanced]
        __builtin_ia32_pause();
      if (left == 0) policy.idle();
    } while (!try_lock());
  }

  std::atomic<bool> held_{false};
};

} // namespace chainring
