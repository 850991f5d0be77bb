// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include <cstdint>
#include <string_view>

#include "error.h"

namespace chainring {

enum class idle_mode : std::uint8_t {
  poll,  ///< never gives the CPU away: one thread per CPU only
  yield, ///< a round without progress yields, many of them sleep for at most 100 us (the default)
  sleep, ///< a round without progress sleeps for at most 100 us
};

[[nodiscard]] result<idle_mode> parse_idle_mode(std::string_view text);

/// The one way any loop here waits. Call idle() after a round that did nothing and busy() after one
/// that did something. Not thread-safe: one object a loop.
class idle_policy {
 public:
  explicit idle_policy(idle_mode mode = idle_mode::yield) noexcept : mode_(mode) {}
  void busy() noexcept { rounds_ = 0; }
  void idle() noexcept;

 private:
  idle_mode mode_;
  std::uint32_t rounds_ = 0;
};

} // namespace chainring
