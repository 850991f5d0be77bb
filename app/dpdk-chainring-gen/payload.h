// SPDX-License-Identifier: BSD-3-Clause
/// The payload of a message. With it the receiver can tell whose message it is and whether it is
/// whole.
///
///     0       4       8          12     14     16         24        32          size-4    size
///     | magic | run   | publisher| life | size | sequence | sent_ns | filler ... | crc32c  |
///
/// All fields are little-endian. The filler follows from run, publisher and sequence, so a message
/// that is sent again has the same octets. The CRC-32C covers all octets in front of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace chainring::gen {

inline constexpr std::uint32_t payload_magic = 0x31475243; ///< "CRG1"
inline constexpr std::uint32_t payload_header_size = 32;
inline constexpr std::uint32_t payload_size_min = payload_header_size + 4;

struct stamp {
  std::uint32_t run = 0; ///< a random number of the ledger, which no other ledger has
  std::uint32_t publisher = 0;
  /// How often the ledger had been resumed before the message was first sent.
  std::uint16_t life = 0;
  std::uint64_t sequence = 0;
  std::uint64_t sent_ns = 0; ///< the time of sending on CLOCK_MONOTONIC
};

/// Mixes a number's bits (the finaliser of SplitMix64).
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// Fills all of `to`, which must have payload_size_min octets or more.
void write_payload(std::span<std::byte> to, const stamp& s) noexcept;

/// Reads and checks a payload. Returns false for a torn one, whose magic, length or CRC is wrong.
[[nodiscard]] bool read_payload(std::span<const std::byte> from, stamp& s) noexcept;

} // namespace chainring::gen
