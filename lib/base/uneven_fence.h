// SPDX-License-Identifier: BSD-3-Clause
/// A full fence between two threads, of which one pays the cost of both.
///
/// Dekker's handshake needs a fence on both sides: each side announces itself and then looks for
/// the other. Here the side that does this often calls often(), which costs nothing. The side that
/// does it rarely calls rarely(), which makes every running thread of the process pass a fence
/// (membarrier(2), a system call). On a kernel without membarrier both sides execute a fence of
/// their own.
///
/// Ordering labels:
///   [fence-often]  What a thread stores before often() is visible to loads behind another thread's
///     rarely(), or the other way round; pairs with [fence-rarely].
///   [fence-rarely]  What a thread stores before rarely() is visible to loads behind another
///     thread's often(), or the other way round; pairs with [fence-often].
#pragma once
#include "compiler.h"

#include <atomic>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "assert.h"

namespace chainring::detail {

class uneven_fence {
 public:
  uneven_fence() noexcept
      : by_kernel_(syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0) {
  }
  void often() const noexcept {
    // [fence-often] Without it each side could miss the announcement of the other.
    if (by_kernel_) [[likely]]
      std::atomic_signal_fence(std::memory_order_seq_cst); // [fence-often]
    else
      std::atomic_thread_fence(std::memory_order_seq_cst); // [fence-often]
  }
  void rarely() const noexcept {
    // [fence-rarely] Without it each side could miss the announcement of the other.
    if (by_kernel_)
      CHAINRING_ASSERT(syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    else
      std::atomic_thread_fence(std::memory_order_seq_cst); // [fence-rarely]
  }

 private:
  const bool by_kernel_;
};

} // namespace chainring::detail
