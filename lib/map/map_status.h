// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include <cstdint>

namespace chainring {

/// The result of a map call. Only `done` changed something or, from a lookup, returned something.
enum class map_status : std::uint8_t {
  done,
  exists,   ///< insert: the key is in the map
  missing,  ///< the key is not in the map
  mismatch, ///< compare_exchange: the value is not the expected one
  full,     ///< no cell, entry or block is free
  busy,     ///< a staged change: another change of the key, or of a key with its claim, is open
  too_long, ///< the key or the value is longer than the map or the caller's buffer can hold
  too_many, ///< a batch has as many changes as it may have
  failed,   ///< a batch: the medium has failed, and keeps nothing more
  repeated, ///< an operation with an id: it took effect before, or a later one of its client did
  reserved, ///< a change: the key is one of those in which the map keeps operation ids
};

[[nodiscard]] const char* to_string(map_status s) noexcept;

} // namespace chainring
