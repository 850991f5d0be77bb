// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/broker: what a publish brings for a message.
#pragma once
#include <cstddef>
#include <span>

namespace chainring {

struct message_content {
  std::span<const std::byte> payload;
  std::span<const std::byte> properties; ///< the first octet is not 0; empty: there are none
  /// The octets that a limit of the content's size counts.
  [[nodiscard]] std::size_t size() const noexcept { return payload.size() + properties.size(); }
};

} // namespace chainring
