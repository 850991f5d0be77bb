// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <cstdint>
#include <string_view>

#include "error.h"

namespace chainring {

enum class idle_mode : std::uint8_t {
  poll,  ///< never gives the CPU away: one thread per CPU only
  yield, ///< a round without progress yields, many of them sleep for at most 100 us (the default)
  sleep, ///< a round without progress sleeps for 100 us at first, in long pauses for longer
};

[[nodiscard]] result<idle_mode> parse_idle_mode(std::string_view text);

/// The one way any loop here waits. Call idle() after a round that did nothing and busy() after one
/// that did something. Not thread-safe: one object a loop.
///
/// A loop that waits for work from outside may have nothing to do for hours. It may let its sleeps
/// grow from 100 us to `sleep_us_max`: they double every 64 rounds without progress, so that after
/// a pause of some milliseconds work still waits 100 us at most, and after one of a tenth of a
/// second or more it waits for `sleep_us_max`. The first round that did something ends that.
class idle_policy {
 public:
  static constexpr std::uint32_t sleep_us_least = 100;
  explicit idle_policy(idle_mode mode = idle_mode::yield,
                       std::uint32_t sleep_us_max = sleep_us_least) noexcept
      : mode_(mode), sleep_us_max_(sleep_us_max) {}
  void busy() noexcept { rounds_ = 0; }
  void idle() noexcept;
  /// How long the next idle() sleeps, where it sleeps, microseconds.
  [[nodiscard]] std::uint32_t sleep_us() const noexcept;

 private:
  idle_mode mode_;
  std::uint32_t sleep_us_max_;
  std::uint32_t rounds_ = 0;
};

} // namespace chainring
