// SPDX-License-Identifier: BSD-3-Clause
/// What a durable map looks like on media: a table of one-line cells.
///
/// ```
/// byte   0       1       2               4       5       6               8
///        +-------+-------+---------------+-------+-------+---------------+
///   0    | state | half  | key size      | value | long  | version       |  word 0, the commit
///   word
///        +-------+-------+---------------+-------+-------+---------------+
///   8    | key, up to 24 bytes, zero behind its end; of a longer key: hash, chain, 0
///  32    | value, half 0, 16 bytes
///  48    | value, half 1, 16 bytes
///        +---------------------------------------------------------------+
/// ```
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"

namespace chainring {

inline constexpr std::size_t map_key_inline = 24;
inline constexpr std::size_t map_key_max = 4096;
inline constexpr std::size_t map_value_max = 16;

/// Valid if and only if: word 0 is well formed and `used`; the bytes behind the key are zero; a
/// long key's chain lies in the block store, overlaps no other live one, and hashes to the hash
/// beside it. The half that word 0 names is the value; the other means nothing. A cell is filled,
/// and its idle half stored, before its commit word, in program order: a crash leaves the cell as
/// it was or as it was to be.
struct map_cell {
  std::uint64_t state;  ///< word 0: map_word0
  std::uint64_t key[3]; ///< words 1 to 3
  std::uint64_t value[2][2];
};
static_assert(sizeof(map_cell) == cacheline_size);
static_assert(offsetof(map_cell, key) == 8);
static_assert(offsetof(map_cell, value) == 32);

/// Word 0: used in bits 0..7, half 8..15, key size 16..31, value size 32..39, long key 40..47,
/// version 48..63.
struct map_word0 {
  bool used = false;
  std::uint8_t half = 0;
  std::uint16_t key_size = 0;
  std::uint8_t value_size = 0;
  bool long_key = false;
  std::uint16_t version = 0;

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{used} | std::uint64_t{half} << 8 | std::uint64_t{key_size} << 16 |
           std::uint64_t{value_size} << 32 | std::uint64_t{long_key} << 40 |
           std::uint64_t{version} << 48;
  }
  [[nodiscard]] static constexpr map_word0 unpack(std::uint64_t w) noexcept {
    return {(w & 0xff) != 0,
            static_cast<std::uint8_t>(w >> 8),
            static_cast<std::uint16_t>(w >> 16),
            static_cast<std::uint8_t>(w >> 32),
            (w >> 40 & 0xff) != 0,
            static_cast<std::uint16_t>(w >> 48)};
  }
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w) noexcept {
    const map_word0 u = unpack(w);
    if (u.pack() != w || u.half > 1) return false;
    if (!u.used) return true;
    return u.key_size != 0 && u.key_size <= map_key_max && u.value_size <= map_value_max &&
           u.long_key == (u.key_size > map_key_inline);
  }
};

} // namespace chainring
