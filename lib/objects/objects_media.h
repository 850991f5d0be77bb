// SPDX-License-Identifier: BSD-3-Clause
/// Format of the header with which the range of a named object begins (docs/media-format.md).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../base/cacheline.h"

namespace chainring {

inline constexpr std::uint64_t object_magic = 0x31'6a'62'6f'72'68'63'00; // "\0chrobj1"

/// One line, written and drained before the root that names the range is committed, and never
/// changed.
struct object_header {
  std::uint64_t magic;
  std::uint32_t version; ///< of the content, which the program defines
  std::uint32_t check;   ///< CRC32C of the line with this field zero
  char type[48];         ///< "map of string to 8 bytes", padded with zeros
};
static_assert(sizeof(object_header) == cacheline_size);
static_assert(offsetof(object_header, magic) == 0);
static_assert(offsetof(object_header, version) == 8);
static_assert(offsetof(object_header, check) == 12);
static_assert(offsetof(object_header, type) == 16);

/// The longest type, in characters.
inline constexpr std::size_t object_type_max = sizeof(object_header::type) - 1;

} // namespace chainring
