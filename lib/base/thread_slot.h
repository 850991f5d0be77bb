// SPDX-License-Identifier: BSD-3-Clause
/// Numbers for threads, so that a table can have a row for each.
///
///   edge                                                 breaks without it
///   [S1] a slot is counted before its owner's first      who looks at every thread overlooks a new
///        announcement; [S2] who looks reads the count    one
///        behind a fence that orders the two
#pragma once
#include "compiler.h"

#include <atomic>

namespace chainring {

/// Most threads that may use durable structures at one time.
inline constexpr unsigned max_thread_slots = 256;

/// A small number that is this thread's while it lives, for per-thread tables. Given back at thread
/// exit and reused. Asserts when more than max_thread_slots threads ask.
[[nodiscard]] unsigned thread_slot() noexcept;

namespace detail {

/// Slots that ever were somebody's: the rows that who looks at every thread has to look at.
inline std::atomic<unsigned> slots_seen{0};

[[gnu::noinline]] inline unsigned first_slot() noexcept {
  const unsigned slot = thread_slot();
  unsigned seen = slots_seen.load(std::memory_order_relaxed); // [S1] the exchange decides
  while (seen <= slot &&
         !slots_seen.compare_exchange_weak(seen, slot + 1,
                                           std::memory_order_seq_cst,    // [S1] pairs with [S2]
                                           std::memory_order_relaxed)) { // [S1] nothing counted
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

/// How many rows to look at, asked behind the fence of [S2].
[[nodiscard]] inline unsigned slots_in_use() noexcept {
  return slots_seen.load(std::memory_order_seq_cst); // [S2] pairs with [S1]
}

} // namespace detail
} // namespace chainring
