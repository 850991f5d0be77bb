// SPDX-License-Identifier: BSD-3-Clause
/// How a durable map is laid out on media: up to 16 segments, which are tables of cells of one line
/// each. Cells are numbered in the order in which their segments were added.
///
/// ```
/// byte   0               1               3                       6               8
///        +---------------+---------------+-----------------------+---------------+
///   0    | state, half   | key size      | value size            | check         |  word 0
///        +---------------+---------------+-----------------------+---------------+
///   8    | key, up to 24 bytes, zero behind its end                              |  words 1 to 3
///        |   (a longer key: its hash, its chain, 0)                              |
///        +-----------------------------------------------------------------------+
///  32    | value, half 0: up to 16 bytes, zero behind its end                    |  words 4, 5
///        |   (a longer value: its chain, its CRC32C)                             |
///        +-----------------------------------------------------------------------+
///  48    | value, half 1                                                         |  words 6, 7
///        +-----------------------------------------------------------------------+
/// ```
/// A chain word holds the first block in bits 0..31 and the number of blocks in bits 32..63.
///
/// A cell is valid if and only if
/// - word 0 is well formed (map_word0);
/// - in a used cell: the check in word 0 is map_check() of the cell's number, its word 0, its key
///   and the half that word 0 names. So every flipped bit is detected, and so is a cell that was
///   written for another place;
/// - in a used cell: the bytes behind the end of the key are zero; or, with a long key, the chain
///   lies in the block store, is as long as the key needs and overlaps no chain marked before, the
///   bytes hash to word 1, and word 3 is 0;
/// - in a used cell: the same holds for the half that word 0 names, with a CRC32C instead of the
///   hash. The other half means nothing;
/// - no other valid cell has its key.
/// In a free cell word 0 is zero, and the rest means nothing.
///
/// **Log of a batch.** A used cell whose key size is 0 is no entry. Its words 1 to 3 are zero, and
/// its value, whose size is a multiple of 64 and not 0, is a chain of map_log_entry, up to
/// map_log_entries_max of them. Each says what a cell holds after the batch. As long as the cell is
/// there, the batch counts, whatever its cells hold; so an open stores the entries into their
/// cells, and erases the log when that is durable. There is one such cell at most.
///
/// A log is valid if and only if its cell is valid as that of an entry, and each entry names
/// another cell of the map, with a word 0 that is well formed and, unless it is zero, a key size
/// that is not 0 and a check that fits the entry.
///
/// **Operations of a client.** An entry whose key has 24 bytes and begins with map_client_tag says
/// which operation of a client took effect last: the key ends with the client's number in 4 bytes,
/// and the value is the operation's sequence number in 8. It is changed by the batch that makes the
/// operation. Programs neither see nor change such entries by their keys.
///
/// Word 0 is the commit word. Key and half are stored before it, in program order and in its own
/// line, and chains are drained before it. So a crash leaves a cell as it was before the change or
/// as it is after it.
///
/// **Owner's words.** Where word 0 says so, the value is two words of 8 bytes that their owner
/// changes in place, each by one store and without a change of word 0. The check does not cover
/// them. Whoever reads them judges each by its contents. Nothing makes such cells.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "../base/cacheline.h"
#include "../base/crc32c.h"

namespace chainring {

/// Bytes of a key, and of a value, that lie in the cell itself.
inline constexpr std::size_t map_key_inline = 24;
inline constexpr std::size_t map_value_inline = 16;
/// The longest key and value, in bytes.
inline constexpr std::size_t map_key_max = 0x1'ffff;
inline constexpr std::size_t map_value_max = 0xff'ffff;

/// The most changes of a batch, and the bytes of one of them in its log.
inline constexpr std::size_t map_log_entries_max = 256;
inline constexpr std::size_t map_log_entry_size = 64;

/// What the keys begin with in which a map keeps operation ids (base/operation_id.h). The first
/// byte occurs in no UTF-8 text.
inline constexpr char map_client_tag[] = "\xff"
                                         "chainring client\0\0";

/// Such a key.
struct map_client_key {
  char tag[20];
  std::uint32_t client;
};
static_assert(sizeof(map_client_key) == map_key_inline);
static_assert(offsetof(map_client_key, tag) == 0);
static_assert(offsetof(map_client_key, client) == 20);
static_assert(sizeof map_client_tag == sizeof map_client_key::tag);

[[nodiscard]] inline map_client_key map_key_of_client(std::uint32_t client) noexcept {
  map_client_key key;
  std::memcpy(key.tag, map_client_tag, sizeof key.tag);
  key.client = client;
  return key;
}
[[nodiscard]] inline bool is_client_key(std::span<const std::byte> key) noexcept {
  return key.size() == sizeof(map_client_key) &&
         std::memcmp(key.data(), map_client_tag, sizeof map_client_tag) == 0;
}

/// One cell of a map.
struct map_cell {
  std::uint64_t state;       ///< word 0: map_word0
  std::uint64_t key[3];      ///< words 1 to 3
  std::uint64_t value[2][2]; ///< words 4 to 7: the two halves
};
static_assert(sizeof(map_cell) == cacheline_size);
static_assert(offsetof(map_cell, state) == 0);
static_assert(offsetof(map_cell, key) == 8);
static_assert(offsetof(map_cell, value) == 32);

/// Word 0: state in bits 0..1 (0 free, 1 used), half in bit 2, owner's words in bit 3, zero in bits
/// 4..6, key size in bits 7..23, value size in bits 24..47, check in bits 48..63. In a free cell
/// all bits are zero.
struct map_word0 {
  bool used = false;
  std::uint8_t half = 0;
  bool owners_words = false;    ///< the value is two words of its owner, and its size is 16
  std::uint32_t key_size = 0;   ///< bytes, at least 1; 0 in the cell of a batch's log
  std::uint32_t value_size = 0; ///< bytes
  std::uint16_t check = 0;      ///< map_check()

  /// True for the log of a batch, which is no entry.
  [[nodiscard]] constexpr bool is_log() const noexcept { return used && key_size == 0; }
  [[nodiscard]] constexpr bool long_key() const noexcept { return key_size > map_key_inline; }
  [[nodiscard]] constexpr bool long_value() const noexcept { return value_size > map_value_inline; }
  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{used} | std::uint64_t{half} << 2 | std::uint64_t{owners_words} << 3 |
           std::uint64_t{key_size} << 7 | std::uint64_t{value_size} << 24 |
           std::uint64_t{check} << 48;
  }
  [[nodiscard]] static constexpr map_word0 unpack(std::uint64_t w) noexcept {
    return {(w & 3) == 1,
            static_cast<std::uint8_t>(w >> 2 & 1),
            (w >> 3 & 1) != 0,
            static_cast<std::uint32_t>(w >> 7 & map_key_max),
            static_cast<std::uint32_t>(w >> 24 & map_value_max),
            static_cast<std::uint16_t>(w >> 48)};
  }
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w) noexcept {
    const map_word0 u = unpack(w);
    if (u.pack() != w) return false;
    if (!u.used) return w == 0;
    if (u.is_log())
      return !u.owners_words && u.value_size % map_log_entry_size == 0 && u.value_size != 0 &&
             u.value_size <= map_log_entries_max * map_log_entry_size;
    return (!u.owners_words || u.value_size == map_value_inline);
  }
};
static_assert(map_word0{true, 1, true, 0x11234, 0x56789a, 0xbcde}.pack() == 0xbcde'5678'9a89'1a0d);

/// What a cell holds after a batch. In an erase all but the number is zero.
struct map_log_entry {
  std::uint64_t cell;     ///< its number
  std::uint64_t state;    ///< its word 0
  std::uint64_t key[3];   ///< its words 1 to 3
  std::uint64_t value[2]; ///< the half that `state` names
  std::uint64_t zero;
};
static_assert(sizeof(map_log_entry) == map_log_entry_size);
static_assert(offsetof(map_log_entry, cell) == 0);
static_assert(offsetof(map_log_entry, state) == 8);
static_assert(offsetof(map_log_entry, key) == 16);
static_assert(offsetof(map_log_entry, value) == 40);
static_assert(offsetof(map_log_entry, zero) == 56);

/// Returns the check of a used cell: its CRC32C, folded to 16 bits. `half` is the one that counts.
[[nodiscard]] inline std::uint16_t map_check(std::uint64_t number, map_word0 w,
                                             const std::uint64_t (&key)[3],
                                             const std::uint64_t (&half)[2]) noexcept {
  w.check = 0;
  const std::uint64_t covered[7] = {number,
                                    w.pack(),
                                    key[0],
                                    key[1],
                                    key[2],
                                    w.owners_words ? 0 : half[0],
                                    w.owners_words ? 0 : half[1]};
  const std::uint32_t crc = crc32c(0, covered, sizeof covered);
  return static_cast<std::uint16_t>(crc ^ crc >> 16);
}

} // namespace chainring
