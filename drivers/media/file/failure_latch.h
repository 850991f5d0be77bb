// SPDX-License-Identifier: BSD-3-Clause
/// The first failure of a region file's disk, kept for good.
#pragma once
#include <atomic>
#include <string>

#include "base/error.h"

namespace chainring {

/// What went wrong first, once for all: a failed write or sync is never retried, because the kernel
/// may have dropped the pages it could not write.
class failure_latch {
 public:
  /// `what` names the operation and must outlive the latch.
  void fail(const char* what, int errno_value) noexcept;
  [[nodiscard]] bool failed() const noexcept {
    return failed_.load(std::memory_order_acquire); // [F2] pairs with [F1]: what failed is readable
  }
  /// An error when failed, errc::no_space or errc::io.
  [[nodiscard]] result<void> status(const std::string& path) const;

 private:
  std::atomic<bool> taken_ = false;
  std::atomic<bool> failed_ = false;
  const char* what_ = "";
  int errno_ = 0;
};

} // namespace chainring
