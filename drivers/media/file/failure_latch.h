// SPDX-License-Identifier: BSD-3-Clause
/// Keeps the first failure of a region file's disk for good.
#pragma once
#include <atomic>
#include <string>

#include "base/error.h"

namespace chainring {

/// Remembers what failed first. A failed write or sync is never tried again, because the kernel may
/// have dropped the pages that it could not write.
class failure_latch {
 public:
  /// Notes a failure, if it is the first. `what` names the operation and must outlive the latch.
  void fail(const char* what, int errno_value) noexcept;
  [[nodiscard]] bool failed() const noexcept {
    // [failure-read] Without it a thread could see the flag and not yet what failed.
    return failed_.load(std::memory_order_acquire);
  }
  /// Returns the error if something failed: errc::no_space or errc::io.
  [[nodiscard]] result<void> status(const std::string& path) const;

 private:
  std::atomic<bool> taken_ = false;
  std::atomic<bool> failed_ = false;
  const char* what_ = "";
  int errno_ = 0;
};

} // namespace chainring
