// SPDX-License-Identifier: BSD-3-Clause
/// What becomes of a message for a queue that is full.
#pragma once
#include <cstdint>
#include <string_view>

#include "../base/error.h"

namespace chainring {

enum class overflow_policy : std::uint8_t {
  reject,      ///< the message is refused in all its queues
  drop_newest, ///< this queue does not get the message, which is counted
  /// The consumer is asked to make room, and the message is set aside. Dropped entries are counted.
  drop_oldest,
};

/// Reads "reject", "drop-newest" or "drop-oldest". errc::invalid_argument names the choices.
[[nodiscard]] result<overflow_policy> parse_overflow_policy(std::string_view text);
[[nodiscard]] const char* to_string(overflow_policy p) noexcept;

} // namespace chainring
