// SPDX-License-Identifier: BSD-3-Clause
// Edges
//   F1 -> F2   what failed is written before the flag is set; whoever sees the flag can read it.
//   F3         one exchange decides who fails first, and [F1] publishes what the winner writes.
#include "failure_latch.h"

#include <cerrno>

namespace chainring {

void failure_latch::fail(const char* what, int errno_value) noexcept {
  // [F3] relaxed: only one caller may win; [F1] publishes what it writes.
  if (taken_.exchange(true, std::memory_order_relaxed)) return;
  what_ = what;
  errno_ = errno_value;
  failed_.store(true, std::memory_order_release); // [F1] pairs with [F2]
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
