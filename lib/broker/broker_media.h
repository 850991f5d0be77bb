// SPDX-License-Identifier: BSD-3-Clause
/// What the broker itself keeps on media: session records, and the keys and values of the
/// subscription map. Queues, messages and map cells have layouts of their own.
///
/// A session record is one line:
/// ```
/// byte   0       1       2               4                       8
///        +-------+-------+---------------+-----------------------+
///   0    | state | flags | 0             | incarnation           |  word 0, the commit word
///        +-------+-------+---------------+-----------------------+
///   8    | id len| 0                     | keep alive, s | 0     |  word 1
///        +-------+-----------------------+---------------+-------+
///  16    | client id, 24 bytes, zero behind its end              |  words 2 to 4
///  40    | created, wall clock, ns                               |  word 5
///  48    | check                     | 0                         |  word 6
///  56    | 0                                                     |  word 7
///        +-------------------------------------------------------+
/// ```
/// The record's number is the session's, and that of its queue record.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"
#include "../base/crc32c.h"

namespace chainring {

enum class session_state : std::uint8_t {
  free = 0, ///< nobody's; the incarnation is the last one used
  used = 1,
};

/// The session ends with its connection (CONNECT with CleanSession), and at the next open.
inline constexpr std::uint8_t session_flag_clean = 1;

/// Valid if and only if: state is `used`, every reserved bit is 0, the client id has 1 to 23 octets
/// and is zero behind them, the check is session_check() of the record and its number, no other
/// used record has the same id. The words before the commit word in program order are word 1 to 7:
/// a crash leaves a free record or a whole one.
struct session_record {
  std::uint64_t state;        ///< word 0: session_word0
  std::uint64_t attributes;   ///< word 1: id length, keep alive
  std::uint64_t client_id[3]; ///< words 2 to 4
  std::uint64_t created_ns;   ///< word 5
  std::uint64_t check;        ///< word 6: session_check(), upper half zero
  std::uint64_t reserved;     ///< zero
};
static_assert(sizeof(session_record) == cacheline_size);
static_assert(offsetof(session_record, state) == 0);
static_assert(offsetof(session_record, attributes) == 8);
static_assert(offsetof(session_record, client_id) == 16);
static_assert(offsetof(session_record, created_ns) == 40);
static_assert(offsetof(session_record, check) == 48);
static_assert(offsetof(session_record, reserved) == 56);

/// Word 0: state in bits 0..7, flags in 8..15, incarnation in 32..63.
struct session_word0 {
  session_state state = session_state::free;
  std::uint8_t flags = 0;
  std::uint32_t incarnation = 0;

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{static_cast<std::uint8_t>(state)} | std::uint64_t{flags} << 8 |
           std::uint64_t{incarnation} << 32;
  }
  [[nodiscard]] static constexpr session_word0 unpack(std::uint64_t w) noexcept {
    return {static_cast<session_state>(w & 0xff), static_cast<std::uint8_t>(w >> 8),
            static_cast<std::uint32_t>(w >> 32)};
  }
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w) noexcept {
    return (w & 0xff) <= 1 && (w >> 8 & 0xff) <= session_flag_clean && (w >> 16 & 0xffff) == 0;
  }
};

/// Word 1: id length in bits 0..7, keep alive (seconds) in 32..47, rest 0.
struct session_word1 {
  std::uint8_t id_length = 0;
  std::uint16_t keep_alive_s = 0;

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{id_length} | std::uint64_t{keep_alive_s} << 32;
  }
  [[nodiscard]] static constexpr session_word1 unpack(std::uint64_t w) noexcept {
    return {static_cast<std::uint8_t>(w), static_cast<std::uint16_t>(w >> 32)};
  }
};

/// CRC-32C of the record's number and words 1 to 5: a record that is damaged, or another's in this
/// place, is nobody's session.
[[nodiscard]] inline std::uint64_t session_check(std::uint32_t number,
                                                 const session_record& r) noexcept {
  constexpr std::size_t covered = offsetof(session_record, check) - sizeof r.state;
  return crc32c(crc32c(0, &number, sizeof number), &r.attributes, covered);
}

/// Key of a subscription in the map: session and incarnation, little-endian, then the filter. A
/// record whose incarnation is not exactly its session's is void.
inline constexpr std::size_t subscription_key_prefix = 8;

/// Value of a subscription: its delivery bits, as in a queue slot, in the first octet; three zeros;
/// the CRC-32C of the key and those four.
inline constexpr std::size_t subscription_value_size = 8;

/// Delivery bits of a queue slot and of a subscription.
namespace delivery {
inline constexpr std::uint16_t qos_mask = 3;         ///< 0 or 1 so far
inline constexpr std::uint16_t retain = 4;           ///< reserved until retained messages exist
inline constexpr std::uint16_t topic_type_shift = 3; ///< two bits: MQTT-SN topic id type
inline constexpr std::uint16_t topic_type_mask = 3 << topic_type_shift;
inline constexpr std::uint16_t check_shift = 5; ///< eleven bits, in a slot: check()
inline constexpr std::uint16_t bits_mask = (1 << check_shift) - 1;

/// Of a slot that names the message `ref` (descriptor and generation, 48 bits) for the session: a
/// slot that is damaged, or another session's, does not deliver somebody else's message. No change
/// of one bit goes unseen.
[[nodiscard]] inline std::uint16_t check(std::uint32_t session, std::uint64_t ref,
                                         std::uint16_t bits) noexcept {
  const std::uint64_t covered[] = {ref | std::uint64_t{bits} << 48, session};
  const std::uint32_t crc = crc32c(0, covered, sizeof covered);
  return static_cast<std::uint16_t>((crc ^ crc >> 11 ^ crc >> 22) << check_shift);
}
/// Whether the delivery bits of a slot go with the rest of its first word.
[[nodiscard]] inline bool whole(std::uint32_t session, std::uint64_t slot_word) noexcept {
  const auto bits = static_cast<std::uint16_t>(slot_word >> 48);
  const std::uint64_t ref = slot_word & ((std::uint64_t{1} << 48) - 1);
  return (bits & ~bits_mask) == check(session, ref, bits & bits_mask);
}
} // namespace delivery

} // namespace chainring
