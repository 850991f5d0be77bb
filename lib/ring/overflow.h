// SPDX-License-Identifier: BSD-3-Clause
/// What happens to a message for a full queue.
#pragma once
#include <cstdint>
#include <string_view>

#include "../base/error.h"

namespace chainring {

enum class overflow_policy : std::uint8_t {
  reject,      ///< the message is refused in all its queues
  drop_newest, ///< this queue goes without it; counted
  drop_oldest, ///< the consumer is asked to make room: set the message aside; counted when dropped
};

/// "reject", "drop-newest" or "drop-oldest". errc::invalid_argument names the choices.
[[nodiscard]] result<overflow_policy> parse_overflow_policy(std::string_view text);
[[nodiscard]] const char* to_string(overflow_policy p) noexcept;

} // namespace chainring
