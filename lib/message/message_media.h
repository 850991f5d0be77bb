// SPDX-License-Identifier: BSD-3-Clause
/// What the message table looks like on media: one-line descriptors and extent lists.
///
/// ```
/// byte   0        2     3       4            8
///        +--------+-----+-------+------------+
///   0    | generat|state| open  | 0          |  word 0, the commit word
///        +--------+-----+-------+------------+
///   8    | first block        | count   | L  |  word 1: a chain of `count` blocks (L=0), or the
///        +--------------------+---------+----+          list, one chain, of `count` extents (L=1)
///  16    | payload size       | topic | prop |  word 2: bytes
///        +--------------------+-------+------+
///  24    | CRC32C             | packet|q|flag|  word 3
///        +--------------------+-------+-+----+
///  32    | expiry, wall clock, ns; 0: none   |  word 4
///  40    | published, wall clock, ns         |  word 5
///        +--------------------+--------------+
///  48    | publisher's session| incarnation  |  word 6
///        +--------------------+--------------+
///  56    | 0                                 |  word 7
///        +-----------------------------------+
/// ```
/// The chain's first bytes are the topic, then the properties, then the payload. An extent list is
/// a chain of its own that holds `count` extents, in order, in its first count * 8 bytes. CRC32C
/// covers, in this order: topic, properties and payload; words 2, 3 (its own half as 0), 4, 5, 6
/// and 7; the descriptor's index and generation, 4 bytes each. Words 0 and 1 change in a message's
/// life and are not covered otherwise.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"

namespace chainring {

enum class message_state : std::uint8_t {
  free = 0,      ///< never used
  staged = 1,    ///< being written, or abandoned: means nothing
  held = 2,      ///< a will: whole, named by its session, not published yet
  published = 3, ///< in every queue that has a slot for it
};

/// Valid if and only if: word 0 is `published` (or `held`, for the session that names it) with
/// the generation of the place that names it; every reserved bit is 0; topic + properties + payload
/// fit exactly in word 1's chain or in the sum of its extents (the last block is used, none is
/// spare); every chain lies in the block store and overlaps no other live one; QoS is at most 2.
/// The content is whole if and only if the CRC agrees; that is checked on delivery, not at open.
struct message_descriptor {
  std::uint64_t state;        ///< word 0: message_word0
  std::uint64_t extent;       ///< word 1: message_word1
  std::uint64_t sizes;        ///< word 2
  std::uint64_t check;        ///< word 3
  std::uint64_t expiry_ns;    ///< word 4
  std::uint64_t published_ns; ///< word 5
  std::uint64_t publisher;    ///< word 6
  std::uint64_t reserved;     ///< word 7, zero
};
static_assert(sizeof(message_descriptor) == cacheline_size);
static_assert(offsetof(message_descriptor, state) == 0);
static_assert(offsetof(message_descriptor, extent) == 8);
static_assert(offsetof(message_descriptor, sizes) == 16);
static_assert(offsetof(message_descriptor, check) == 24);
static_assert(offsetof(message_descriptor, expiry_ns) == 32);
static_assert(offsetof(message_descriptor, published_ns) == 40);
static_assert(offsetof(message_descriptor, publisher) == 48);
static_assert(offsetof(message_descriptor, reserved) == 56);

/// One extent of a list: valid if and only if it has a block and lies in the store.
struct message_extent {
  std::uint32_t first;
  std::uint32_t blocks;
};
static_assert(sizeof(message_extent) == 8);
static_assert(offsetof(message_extent, first) == 0);
static_assert(offsetof(message_extent, blocks) == 4);

/// Word 0: generation in bits 0..15, state in 16..23, bit 24 the QoS 2 identifier is open, rest 0.
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
  /// Every bit of `w` means something.
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w) noexcept {
    return w >> 25 == 0 && (w >> 16 & 0xff) <= static_cast<std::uint8_t>(message_state::published);
  }
};

/// Word 1: first block in bits 0..31, count in 32..62, bit 63 it is an extent list.
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

/// Message flags, in bits 56..63 of word 3. Others are reserved, zero.
inline constexpr std::uint8_t message_flag_retain = 1; ///< published with RETAIN
inline constexpr std::uint8_t message_flag_will = 2;   ///< a will
inline constexpr std::uint8_t message_flags_known = message_flag_retain | message_flag_will;

} // namespace chainring
