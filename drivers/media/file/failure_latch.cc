// SPDX-License-Identifier: BSD-3-Clause
// Ordering labels:
//   [failure-described]  fail() stores what failed and then the flag with release; pairs with
//     [failure-read].
//   [failure-read]  failed() loads the flag with acquire; pairs with [failure-described].
//   [first-failure]  One exchange decides which thread fails first. It orders nothing:
//     [failure-described] publishes what this thread writes.
#include "failure_latch.h"

#include <cerrno>

namespace chainring {

void failure_latch::fail(const char* what, int errno_value) noexcept {
  // [first-failure]
  if (taken_.exchange(true, std::memory_order_relaxed)) return;
  what_ = what;
  errno_ = errno_value;
  // [failure-described] Without it a thread could see the flag and not yet what failed.
  failed_.store(true, std::memory_order_release);
}

result<void> failure_latch::status(const std::string& path) const {
  if (!failed()) return {};
  const errc code = errno_ == ENOSPC || errno_ == EDQUOT ? errc::no_space : errc::io;
  return system_error(code,
                      "region file " + path + ": " + what_ +
                          " failed, so nothing more was made durable; reopen it to go on from what "
                          "is on disk",
                      errno_);
}

} // namespace chainring
