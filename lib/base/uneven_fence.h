// SPDX-License-Identifier: BSD-3-Clause
/// A full fence between two threads, one of which pays for both.
///
/// Dekker's handshake needs a fence on both sides: each side announces itself, then looks for the
/// other. Here the side that does it often calls often(), which costs it nothing, and the side that
/// does it rarely calls rarely(), which makes every running thread of the process pass a fence
/// (membarrier(2), a system call). In a kernel without it both sides pay for a fence of their own.
///
///   edge                                                        breaks without it
///   [U1] stores before often() -> loads behind rarely(), or     both sides believe that they came
///        stores before [U2] rarely() -> loads behind often()    first
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
    if (by_kernel_) [[likely]]
      std::atomic_signal_fence(std::memory_order_seq_cst); // [U1] pairs with [U2], a membarrier
    else
      std::atomic_thread_fence(std::memory_order_seq_cst); // [U1] pairs with [U2], a fence
  }
  void rarely() const noexcept {
    if (by_kernel_) // [U2] as a membarrier; pairs with [U1]
      CHAINRING_ASSERT(syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    else
      std::atomic_thread_fence(std::memory_order_seq_cst); // [U2] pairs with [U1]
  }

 private:
  const bool by_kernel_;
};

} // namespace chainring::detail
