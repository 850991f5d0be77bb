// SPDX-License-Identifier: BSD-3-Clause
/// The message table on media: descriptors of one line, and extent lists.
///
/// ```
/// byte   0        2     3       4            8
///        +--------+-----+-------+------------+
///   0    | generat|state| open  | 0          |  word 0, the commit word
///        +--------+-----+-------+------------+
///   8    | first block        | count   | L  |  word 1: a chain of `count` blocks (L=0), or the
///        +--------------------+---------+----+          list, one chain, of `count` extents (L=1)
///  16    | payload size       | topic | prop |  word 2: sizes in bytes, of the properties the low
///  16 bits
///        +--------------------+-------+------+
///  24    | CRC32C             | packet|qf|pr |  word 3: QoS, flags, high 8 bits of the properties'
///  size
///        +--------------------+-------+--+---+
///  32    | expiry, wall clock, ns; 0: never  |  word 4
///  40    | published, wall clock, ns         |  word 5
///        +--------------------+--------------+
///  48    | publisher's session| incarnation  |  word 6
///        +--------------------+--------------+
///  56    | seal of word 1     | second seal  |  word 7
///        +--------------------+--------------+
/// ```
/// The chain holds the topic, then the properties, then the payload. An extent list is a chain of
/// its own; its first count * 8 bytes are the `count` extents, in order. The CRC32C covers, in this
/// order: topic, properties and payload; words 2, 3 (with its CRC half as 0), 4, 5 and 6; the index
/// and the generation of the descriptor, 4 bytes each. Words 0, 1 and 7 change during the life of a
/// message, so the CRC does not cover them.
///
/// A seal is a CRC32C of the extent list (nothing if there is none), of word 1, and of the index
/// and generation of the descriptor, 4 bytes each. It shows at an open, without reading any
/// content, whether word 1 names the blocks of this message. There are two seals because a chain
/// may be moved. The thread that moves it stores the seal of the new word 1 in the half that does
/// not seal the present one, and then stores word 1, in one line. So whatever a crash leaves, there
/// is a seal for the word 1 that is there.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"
#include "../base/crc32c.h"

namespace chainring {

enum class message_state : std::uint8_t {
  free = 0,      ///< never used
  staged = 1,    ///< being written, or abandoned; it means nothing
  held = 2,      ///< a will: whole, named by its session, and not published yet
  published = 3, ///< it is in every queue that has a slot for it
};

/// A descriptor is valid if and only if word 0 is `published` (or `held`, for the session that
/// names it) in the generation of the place that names it; every reserved bit is 0; topic,
/// properties and payload exactly fill the chain of word 1 or the sum of its extents (the last
/// block is used, and none is spare); one half of word 7 is the seal of word 1; every chain lies in
/// the block store and overlaps no other live chain; and the QoS is at most 2. The content is whole
/// if and only if the CRC agrees. That is checked on delivery, and at an open only if two messages
/// claim the same block.
struct message_descriptor {
  std::uint64_t state;        ///< word 0: message_word0
  std::uint64_t extent;       ///< word 1: message_word1
  std::uint64_t sizes;        ///< word 2
  std::uint64_t check;        ///< word 3
  std::uint64_t expires_ns;   ///< word 4
  std::uint64_t published_ns; ///< word 5
  std::uint64_t publisher;    ///< word 6
  std::uint64_t seals;        ///< word 7
};
static_assert(sizeof(message_descriptor) == cacheline_size);
static_assert(offsetof(message_descriptor, state) == 0);
static_assert(offsetof(message_descriptor, extent) == 8);
static_assert(offsetof(message_descriptor, sizes) == 16);
static_assert(offsetof(message_descriptor, check) == 24);
static_assert(offsetof(message_descriptor, expires_ns) == 32);
static_assert(offsetof(message_descriptor, published_ns) == 40);
static_assert(offsetof(message_descriptor, publisher) == 48);
static_assert(offsetof(message_descriptor, seals) == 56);

/// One extent of a list. It is valid if and only if it has a block and lies in the store.
struct message_extent {
  std::uint32_t first;
  std::uint32_t blocks;
};
static_assert(sizeof(message_extent) == 8);
static_assert(offsetof(message_extent, first) == 0);
static_assert(offsetof(message_extent, blocks) == 4);

/// Word 0: bits 0..15 are the generation, 16..23 the state, bit 24 says that the QoS 2 identifier
/// is open. The other bits are 0.
struct message_word0 {
  std::uint16_t generation = 0;
  message_state state = message_state::free;
  bool identifier_open = false;

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{generation} | std::uint64_t{static_cast<std::uint8_t>(state)} << 16 |
           std::uint64_t{identifier_open} << 24;
  }
  [[nodiscard]] static constexpr message_word0 unpack(std::uint64_t w) noexcept {
    return {static_cast<std::uint16_t>(w), static_cast<message_state>(w >> 16 & 0xff),
            (w >> 24 & 1) != 0};
  }
  /// True if every bit of `w` has a meaning.
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w) noexcept {
    return w >> 25 == 0 && (w >> 16 & 0xff) <= static_cast<std::uint8_t>(message_state::published);
  }
};

/// Word 1: bits 0..31 are the first block, 32..62 the count, bit 63 says that it is an extent list.
struct message_word1 {
  std::uint32_t first = 0;
  std::uint32_t count = 0; ///< blocks of the chain, or extents of the list
  bool list = false;

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{first} | std::uint64_t{count} << 32 | std::uint64_t{list} << 63;
  }
  [[nodiscard]] static constexpr message_word1 unpack(std::uint64_t w) noexcept {
    return {static_cast<std::uint32_t>(w), static_cast<std::uint32_t>(w >> 32 & 0x7fff'ffff),
            w >> 63 != 0};
  }
};

/// Computes a half of word 7, for a word 1 whose extent list has the CRC32C `list`; 0 if there is
/// no list.
[[nodiscard]] inline std::uint32_t message_seal(std::uint64_t word1, std::uint32_t list,
                                                std::uint32_t index,
                                                std::uint16_t generation) noexcept {
  std::uint64_t state = detail::crc32c_begin(list);
  state = detail::crc32c_word(state, word1);
  state = detail::crc32c_word(state, std::uint64_t{generation} << 32 | index);
  return detail::crc32c_end(state);
}

/// Most bytes of properties that a descriptor can count: the count has 24 bits.
inline constexpr std::uint32_t message_properties_max = (1u << 24) - 1;

/// Message flags, in bits 50..55 of word 3. All others are reserved and zero.
inline constexpr std::uint8_t message_flag_retain = 1; ///< published with RETAIN
inline constexpr std::uint8_t message_flag_will = 2;   ///< a will
inline constexpr std::uint8_t message_flags_known = message_flag_retain | message_flag_will;

} // namespace chainring
