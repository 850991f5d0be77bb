// SPDX-License-Identifier: BSD-3-Clause
/// What the broker itself keeps on media, in version 3: session records, group records, and the
/// keys and values of the subscription map. Queues, messages and map cells have layouts of their
/// own.
///
// clang-format off: the diagrams
/// A session record has two lines. The first line says to which session the number belongs:
/// ```
/// byte   0       1       2               4                       8
///        +-------+-------+---------------+-----------------------+
///   0    | state | flags | seal          | incarnation           |  word 0, the commit word
///        +-------+-------+---------------+-----------------------+
///   8    | identity size | front end | 0                         |  word 1
///        +---------------+---------------------------------------+
///  16    | identity: inline to 24 octets, zero behind its end;   |  words 2 to 4
///        | else {hash, first block 32 | blocks 32, 0}            |
///  40    | created, wall clock, ns                               |  word 5
///  48    | check                 | 0                             |  word 6
///  56    | 0                                                     |  word 7
///        +-------------------------------------------------------+
/// ```
/// The second line holds the settings twice; they may be changed while the session lives:
/// ```
///        +-------------------------------+-----------------------+
///  64    | active half 1, version 31     | check                 |  word 8, the settings' commit
///        +-------------------------------+-----------------------+
///  72    | half 0: disconnected at, wall clock, ns; 0: connected |  word 9
///  80    | expiry, s                     | will delay, s         |  word 10
///  88    | will: descriptor 32, generation 16, will flags 16     |  word 11
///  96    | half 1                                                |  words 12 to 14
/// 120    | 0                                                     |  word 15
///        +-------------------------------------------------------+
/// ```
// clang-format on
/// A will is a message that the record keeps alive. It is sent when the connection is lost, which
/// publishes the message: a will whose message is published has been sent. The word stays, because
/// a client may open its session again with the will that the session has.
///
/// The number of the record is the number of the session and of its queue record. A group record
/// has the same form, in a table of its own, with `group/filter` as its identity and with other
/// numbers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../base/cacheline.h"
#include "../base/crc32c.h"

namespace chainring {

enum class session_state : std::uint8_t {
  free = 0, ///< the record is free; its incarnation is the last that was used
  used = 1,
};

/// This flag says that the session ends with its connection and at the next open.
inline constexpr std::uint8_t session_flag_clean = 1;

inline constexpr std::size_t identity_inline_max = 24;   ///< octets that fit into the record itself
inline constexpr std::size_t identity_size_max = 65'535; ///< in octets

/// A record is valid if and only if: the seal fits word 0, the state is `used`, every reserved bit
/// of words 0, 1 and 6 is 0 (words 7 and 15 are not checked), the identity has 1 to 65,535 octets
/// and, where it is inline, zeros behind its end, the check is session_check() of the record and
/// its number, and no other used record has the same identity. Words 1 to 7 and the settings are
/// stored before the commit word in program order. So after any crash the first line is a free
/// record or a whole one; the settings are drained no later.
///
/// The settings are valid if and only if the check in word 8 is settings_check() of the active
/// half. Otherwise the session counts as one without settings.
struct session_record {
  std::uint64_t state;       ///< word 0: session_word0
  std::uint64_t attributes;  ///< word 1: session_word1
  std::uint64_t identity[3]; ///< words 2 to 4
  std::uint64_t created_ns;  ///< word 5
  std::uint64_t check;       ///< word 6: session_check(), upper half zero
  std::uint64_t reserved0;   ///< zero
  std::uint64_t settings;    ///< word 8: settings_word
  std::uint64_t halves[2][3];
  std::uint64_t reserved1; ///< zero
};
static_assert(sizeof(session_record) == 2 * cacheline_size);
static_assert(offsetof(session_record, state) == 0);
static_assert(offsetof(session_record, attributes) == 8);
static_assert(offsetof(session_record, identity) == 16);
static_assert(offsetof(session_record, created_ns) == 40);
static_assert(offsetof(session_record, check) == 48);
static_assert(offsetof(session_record, reserved0) == 56);
static_assert(offsetof(session_record, settings) == 64);
static_assert(offsetof(session_record, halves) == 72);
static_assert(offsetof(session_record, reserved1) == 120);

/// Flags of a session's will, in the upper 16 bits of its word. A word of zero means no will.
inline constexpr std::uint16_t will_flag_set = 1; ///< the word names a will
/// The client ended its connection itself, so the will is not sent, but stays for the next one.
inline constexpr std::uint16_t will_flag_resting = 2;

/// Word 0: state in bits 0..7, flags in 8..15, seal in 16..31, incarnation in 32..63.
struct session_word0 {
  session_state state = session_state::free;
  std::uint8_t flags = 0;
  std::uint32_t incarnation = 0;

  /// The seal of a record that was never used is zero, like the whole word.
  [[nodiscard]] static std::uint16_t seal(std::uint32_t number, std::uint64_t word) noexcept {
    constexpr std::uint64_t covered = ~(std::uint64_t{0xffff} << 16);
    if ((word & covered) == 0) return 0;
    const std::uint64_t of[2] = {word & covered, number};
    const std::uint32_t crc = crc32c(0, of, sizeof of);
    return static_cast<std::uint16_t>(crc ^ crc >> 16);
  }
  [[nodiscard]] std::uint64_t pack(std::uint32_t number) const noexcept {
    const std::uint64_t w = std::uint64_t{static_cast<std::uint8_t>(state)} |
                            std::uint64_t{flags} << 8 | std::uint64_t{incarnation} << 32;
    return w | std::uint64_t{seal(number, w)} << 16;
  }
  [[nodiscard]] static constexpr session_word0 unpack(std::uint64_t w) noexcept {
    return {static_cast<session_state>(w & 0xff), static_cast<std::uint8_t>(w >> 8),
            static_cast<std::uint32_t>(w >> 32)};
  }
  [[nodiscard]] static bool well_formed(std::uint32_t number, std::uint64_t w) noexcept {
    return (w & 0xff) <= 1 && (w >> 8 & 0xff) <= session_flag_clean &&
           (w >> 16 & 0xffff) == seal(number, w);
  }
};

/// Word 1: identity size in bits 0..15, the front end's number in 16..23, rest 0.
struct session_word1 {
  std::uint16_t identity_size = 0;
  std::uint8_t front_end = 0; ///< opaque to the core; 0 means that it is not set

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{identity_size} | std::uint64_t{front_end} << 16;
  }
  [[nodiscard]] static constexpr session_word1 unpack(std::uint64_t w) noexcept {
    return {static_cast<std::uint16_t>(w), static_cast<std::uint8_t>(w >> 16)};
  }
};

/// The CRC-32C of the record's number and words 1 to 5. A record that is damaged, or was written
/// for another place, belongs to no session. A long identity has a hash of its own in word 2.
[[nodiscard]] inline std::uint64_t session_check(std::uint32_t number,
                                                 const session_record& r) noexcept {
  constexpr std::size_t covered = offsetof(session_record, check) - sizeof r.state;
  return crc32c(crc32c(0, &number, sizeof number), &r.attributes, covered);
}

/// Word 2 of a long identity: the upper half is the CRC-32C of its octets, the lower half the
/// CRC-32C of its octets twice over.
[[nodiscard]] inline std::uint64_t long_identity_hash(std::string_view identity) noexcept {
  const std::uint32_t forward = crc32c(0, identity.data(), identity.size());
  return std::uint64_t{forward} << 32 | crc32c(forward, identity.data(), identity.size());
}

/// The check in word 8, which has the active half in bit 0, a version in bits 1..31, and this check
/// in bits 32..63. A word 8 of zero means that the session has no settings.
[[nodiscard]] inline std::uint32_t settings_check(std::uint32_t number, std::uint32_t incarnation,
                                                  std::uint32_t low,
                                                  const std::uint64_t (&half)[3]) noexcept {
  const std::uint32_t of[3] = {number, incarnation, low};
  return crc32c(crc32c(0, of, sizeof of), half, sizeof half);
}

/// The key of a subscription in the map is its session and incarnation, little-endian, then its
/// filter. A record whose incarnation is not exactly that of its session is void.
inline constexpr std::size_t subscription_key_prefix = 8;

/// The value of a subscription has an options word, which is opaque to the core except for the QoS
/// in bits 0..1 and the front end's two bits in 3..4; the subscription identifier of 28 bits; four
/// zero octets; and the CRC-32C of the key and these twelve octets.
inline constexpr std::size_t subscription_value_size = 16;

namespace subscription_option {
inline constexpr std::uint32_t qos_mask = 3;
inline constexpr std::uint32_t front_end_shift = 3;
inline constexpr std::uint32_t front_end_mask = 3u << front_end_shift;
inline constexpr std::uint32_t no_local = 1u << 5;
inline constexpr std::uint32_t retain_as_published = 1u << 6;
inline constexpr std::uint32_t retain_handling_shift = 7; ///< two bits
inline constexpr std::uint32_t defined = (1u << 9) - 1 - 4;
[[nodiscard]] constexpr std::uint8_t qos_of(std::uint32_t options) noexcept {
  return static_cast<std::uint8_t>(options & qos_mask);
}
[[nodiscard]] constexpr std::uint8_t front_end_bits_of(std::uint32_t options) noexcept {
  return static_cast<std::uint8_t>((options & front_end_mask) >> front_end_shift);
}
} // namespace subscription_option

} // namespace chainring
