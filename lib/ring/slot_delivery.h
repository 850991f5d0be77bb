// SPDX-License-Identifier: BSD-3-Clause
/// The sixteen bits of a slot that are its caller's: how a message is delivered from that slot, and
/// a check that the slot is undamaged and belongs to its queue.
/// ```
/// bit    15                         5   4    3     2       1   0
///        +--------------------------+--------+--------+--------+
///        | check, 11 bits           | front  | retain | QoS    |
///        |                          | end's  |        |        |
///        +--------------------------+--------+--------+--------+
/// ```
#pragma once
#include <cstdint>

#include "../base/crc32c.h"
#include "../message/message.h"

namespace chainring {

/// How a message is delivered, as the low bits of the sixteen.
struct slot_delivery {
  std::uint8_t qos = 0; ///< 0 to 2
  bool retain = false;
  std::uint8_t front_end = 0; ///< 0 to 3, for the front end's own use

  static constexpr unsigned retain_shift = 2, front_end_shift = 3, check_shift = 5;
  static constexpr std::uint16_t bits_mask = (1 << check_shift) - 1;

  [[nodiscard]] constexpr std::uint16_t pack() const noexcept {
    return static_cast<std::uint16_t>((qos & 3) | (retain ? 1 << retain_shift : 0) |
                                      (front_end & 3) << front_end_shift);
  }
  [[nodiscard]] static constexpr slot_delivery unpack(std::uint16_t w) noexcept {
    return {static_cast<std::uint8_t>(w & 3), (w >> retain_shift & 1) != 0,
            static_cast<std::uint8_t>(w >> front_end_shift & 3)};
  }

  /// Returns the check of a slot of that queue that names the message in the low 48 bits of `word`.
  /// Because of it a damaged slot, or the slot of another queue, does not deliver a message that is
  /// not the queue's. It detects every change of one bit.
  [[nodiscard]] static std::uint16_t check(std::uint32_t queue, std::uint64_t word,
                                           std::uint16_t bits) noexcept {
    constexpr std::uint64_t named = (std::uint64_t{1} << 48) - 1;
    const std::uint64_t covered[] = {(word & named) | std::uint64_t{bits} << 48, queue};
    const std::uint32_t crc = crc32c(0, covered, sizeof covered);
    return static_cast<std::uint16_t>((crc ^ crc >> 11 ^ crc >> 22) << check_shift);
  }
  /// Returns the sixteen bits of a slot of that queue for that message: `bits` as pack() made them,
  /// and the check.
  [[nodiscard]] static std::uint16_t sealed(std::uint32_t queue, message_ref m,
                                            std::uint16_t bits) noexcept {
    const std::uint64_t word = std::uint64_t{m.index} | std::uint64_t{m.generation} << 32;
    return static_cast<std::uint16_t>(bits | check(queue, word, bits));
  }
  /// True when the check in the first word of a slot of that queue fits the rest of the word.
  [[nodiscard]] static bool whole(std::uint32_t queue, std::uint64_t slot_word) noexcept {
    const auto all = static_cast<std::uint16_t>(slot_word >> 48);
    return (all & ~bits_mask) == check(queue, slot_word, all & bits_mask);
  }
};

} // namespace chainring
