// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include <cstdint>

namespace chainring {

/// What a map call did. Only `done` changed (or, of a lookup, returned) anything.
enum class map_status : std::uint8_t {
  done,
  exists,   ///< insert: the key is there
  missing,  ///< the key is not there
  mismatch, ///< compare_exchange: the value is another
  full,     ///< no cell, entry or block is free
  busy,     ///< a staged change: another one of that key, or of one beside it, is open
  too_long, ///< the key or value is longer than the map holds, or than the caller's buffer
};

[[nodiscard]] const char* to_string(map_status s) noexcept;

} // namespace chainring
