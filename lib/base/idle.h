// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <cstdint>
#include <string_view>

#include "error.h"

namespace chainring {

enum class idle_mode : std::uint8_t {
  poll, ///< never yields the CPU; each thread needs a CPU of its own
  /// yields after a round without progress, and sleeps up to 100 us after many of them (the
  /// default)
  yield,
  sleep, ///< sleeps 100 us after a round without progress, and longer during a long pause
};

[[nodiscard]] result<idle_mode> parse_idle_mode(std::string_view text);

/// Every loop that waits does so through an idle_policy. Call idle() after a round that made no
/// progress and busy() after a round that did. Not thread-safe: each loop has an object of its own.
///
/// A loop that waits for work from outside may have nothing to do for hours. It may let its sleeps
/// grow from 100 us to `sleep_us_max`: they double after every 64 rounds without progress. After a
/// pause of some milliseconds new work waits at most 100 us; after a pause of a tenth of a second
/// or more it waits for up to `sleep_us_max`. The first round that makes progress ends the long
/// sleeps.
class idle_policy {
 public:
  static constexpr std::uint32_t sleep_us_least = 100;
  explicit idle_policy(idle_mode mode = idle_mode::yield,
                       std::uint32_t sleep_us_max = sleep_us_least) noexcept
      : mode_(mode), sleep_us_max_(sleep_us_max) {}
  void busy() noexcept { rounds_ = 0; }
  void idle() noexcept;
  /// How long the next idle() sleeps if it sleeps, in microseconds.
  [[nodiscard]] std::uint32_t sleep_us() const noexcept;

 private:
  idle_mode mode_;
  std::uint32_t sleep_us_max_;
  std::uint32_t rounds_ = 0;
};

} // namespace chainring
