// SPDX-License-Identifier: BSD-3-Clause
/// Numbers for threads, so that a table can have one row for each thread.
///
/// Ordering labels:
///   [thread-slot-counted]  A thread counts its slot in slots_seen before it announces anything in
///     its row, with a sequentially consistent exchange; pairs with [thread-slot-count-read].
///   [thread-slot-count-read]  A thread that looks at every row reads slots_seen behind a fence;
///     pairs with [thread-slot-counted].
#pragma once
#include "compiler.h"

#include <atomic>

namespace chainring {

/// Most threads that may use durable structures at one time.
inline constexpr unsigned max_thread_slots = 256;

/// Returns a small number that belongs to this thread while it lives, for per-thread tables. The
/// number is given back when the thread exits, and then used again. Asserts if more than
/// max_thread_slots threads ask for a number.
[[nodiscard]] unsigned thread_slot() noexcept;

namespace detail {

/// The number of slots that ever belonged to a thread: a thread that looks at every thread looks at
/// this many rows.
inline std::atomic<unsigned> slots_seen{0};

[[gnu::noinline]] inline unsigned first_slot() noexcept {
  const unsigned slot = thread_slot();
  unsigned seen = slots_seen.load(std::memory_order_relaxed); // [thread-slot-counted]
  while (seen <= slot &&
         // [thread-slot-counted] Without it a thread that looks at every row could overlook this
         // one.
         !slots_seen.compare_exchange_weak(seen, slot + 1,
                                           std::memory_order_seq_cst,    // [thread-slot-counted]
                                           std::memory_order_relaxed)) { // [thread-slot-counted]
  }
  return slot;
}

/// This thread's slot plus one; 0 before the thread first uses it. The initial-exec model makes it
/// one load without a call, from a shared library too.
[[gnu::tls_model("initial-exec")]] inline constinit thread_local unsigned slot_plus_one = 0;

/// As thread_slot(), without its guarded call.
inline unsigned my_slot() noexcept {
  if (slot_plus_one == 0) [[unlikely]]
    slot_plus_one = first_slot() + 1;
  return slot_plus_one - 1;
}

/// The number of rows to look at. The caller has passed the fence that [thread-slot-count-read]
/// names.
[[nodiscard]] inline unsigned slots_in_use() noexcept {
  // [thread-slot-count-read] Without it the caller could overlook the row of a new thread.
  return slots_seen.load(std::memory_order_seq_cst);
}

} // namespace detail
} // namespace chainring
