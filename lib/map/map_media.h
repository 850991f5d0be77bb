// SPDX-License-Identifier: BSD-3-Clause
/// What a durable map looks like on media: a table of one-line cells.
///
/// ```
/// byte   0               1               3                       6               8
///        +---------------+---------------+-----------------------+---------------+
///   0    | state, half   | key size      | value size            | version       |  word 0
///        +---------------+---------------+-----------------------+---------------+
///   8    | key, up to 24 bytes, zero behind its end                              |  words 1 to 3
///        |   of a longer key: its hash, its chain, 0                             |
///        +-----------------------------------------------------------------------+
///  32    | value, half 0: up to 16 bytes, zero behind its end                    |  words 4, 5
///        |   of a longer value: its chain, its CRC32C                            |
///        +-----------------------------------------------------------------------+
///  48    | value, half 1                                                         |  words 6, 7
///        +-----------------------------------------------------------------------+
/// ```
/// A chain is {first block in bits 0..31, blocks in bits 32..63}.
///
/// A cell is valid if and only if
/// - word 0 is well formed (map_word0);
/// - where used: the key's bytes behind its end are zero; or, of a long key, the chain lies in the
///   block store, is as long as the key needs and overlaps no chain marked before, the bytes hash
///   to word 1, and word 3 is 0;
/// - where used: the same of the half that word 0 names, with a CRC32C for the hash. The other half
///   means nothing;
/// - no other valid cell has its key.
/// Of a free cell only the version means anything.
///
/// Word 0 is the commit word: key and half are stored before it, in program order and in its own
/// line, and chains drained before it. So a crash leaves a cell as it was or as it was to be.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"

namespace chainring {

/// Bytes of a key, and of a value, that lie in the cell itself.
inline constexpr std::size_t map_key_inline = 24;
inline constexpr std::size_t map_value_inline = 16;
/// Longest key and value, bytes.
inline constexpr std::size_t map_key_max = 0xffff;
inline constexpr std::size_t map_value_max = 0xff'ffff;

struct map_cell {
  std::uint64_t state;       ///< word 0: map_word0
  std::uint64_t key[3];      ///< words 1 to 3
  std::uint64_t value[2][2]; ///< words 4 to 7: the halves
};
static_assert(sizeof(map_cell) == cacheline_size);
static_assert(offsetof(map_cell, state) == 0);
static_assert(offsetof(map_cell, key) == 8);
static_assert(offsetof(map_cell, value) == 32);

/// Word 0: state in bits 0..1 (0 free, 1 used), half 2, zero 3..7, key size 8..23, value size
/// 24..47, version 48..63. Of a free cell all but the version is zero; the version moves with every
/// commit, and wraps.
struct map_word0 {
  bool used = false;
  std::uint8_t half = 0;
  std::uint16_t key_size = 0;   ///< bytes, at least 1
  std::uint32_t value_size = 0; ///< bytes
  std::uint16_t version = 0;

  [[nodiscard]] constexpr bool long_key() const noexcept { return key_size > map_key_inline; }
  [[nodiscard]] constexpr bool long_value() const noexcept { return value_size > map_value_inline; }
  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{used} | std::uint64_t{half} << 2 | std::uint64_t{key_size} << 8 |
           std::uint64_t{value_size} << 24 | std::uint64_t{version} << 48;
  }
  [[nodiscard]] static constexpr map_word0 unpack(std::uint64_t w) noexcept {
    return {(w & 3) == 1, static_cast<std::uint8_t>(w >> 2 & 1), static_cast<std::uint16_t>(w >> 8),
            static_cast<std::uint32_t>(w >> 24 & map_value_max),
            static_cast<std::uint16_t>(w >> 48)};
  }
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w) noexcept {
    const map_word0 u = unpack(w);
    if (u.pack() != w) return false;
    return u.used ? u.key_size != 0 : u.half == 0 && u.key_size == 0 && u.value_size == 0;
  }
  /// The free cell that an erase leaves.
  [[nodiscard]] constexpr map_word0 erased() const noexcept {
    return {false, 0, 0, 0, static_cast<std::uint16_t>(version + 1)};
  }
};
static_assert(map_word0{true, 1, 0x1234, 0x56789a, 0xbcde}.pack() == 0xbcde'5678'9a12'3405);

} // namespace chainring
