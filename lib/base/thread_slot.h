// SPDX-License-Identifier: BSD-3-Clause
/// Numbers for threads, so that a table can have one row for each thread.
///
/// A thread takes a number by itself when it first uses a structure, and gives it back when it
/// ends. So any number of threads may come and go, and any number may live at one time. Tables have
/// rows for the numbers below max_thread_slots. A thread with a higher number has no row, keeps its
/// number until it ends, and takes a slower way: it allocates without a cache of its own, and it
/// announces itself to a grace period in a row that it shares with others.
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

/// Threads that may live at one time and have rows of their own. Further threads are slower.
inline constexpr unsigned max_thread_slots = 256;

/// Returns the lowest number that no other thread had when this thread first called. It belongs to
/// this thread while it lives, also in destructors of its thread_local objects, and is given back
/// when the thread ends. Numbers above max_thread_slots - 1 have no rows in tables.
[[nodiscard]] unsigned thread_slot() noexcept;

namespace detail {

/// The number of rows that ever belonged to a thread: a thread that looks at every thread looks at
/// this many rows.
inline std::atomic<unsigned> slots_seen{0};

/// This thread's row plus one; 0 before the thread first uses it, and where it has none. The
/// initial-exec model makes it one load without a call, from a shared library too.
[[gnu::tls_model("initial-exec")]] inline constinit thread_local unsigned slot_plus_one = 0;

/// Gives this thread a number, if it has none. Returns slot_plus_one.
unsigned first_row() noexcept;

/// The row of this thread in tables with a row for each thread. False: this thread has none. The
/// two ways are apart for the compiler, so that a thread with a row pays nothing for the others.
[[nodiscard]] inline bool own_row(unsigned& row) noexcept {
  unsigned mine = slot_plus_one;
  if (mine == 0) [[unlikely]] {
    mine = first_row();
    if (mine == 0) return false;
  }
  row = mine - 1;
  return true;
}

/// The number of rows to look at. The caller has passed the fence that [thread-slot-count-read]
/// names.
[[nodiscard]] inline unsigned slots_in_use() noexcept {
  // [thread-slot-count-read] Without it the caller could overlook the row of a new thread.
  return slots_seen.load(std::memory_order_seq_cst);
}

} // namespace detail
} // namespace chainring
