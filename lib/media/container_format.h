// SPDX-License-Identifier: BSD-3-Clause
/// The header of a region file of class `file`, which stands in front of its journal and its image.
/// drivers/media/file/file_format.h describes what the journal holds.
///
/// ```
///          0  header copy of even sequence   (512 bytes used of 4096)
///       4096  header copy of odd sequence    (512 bytes used of 4096)
///       8192  journal: journal_size bytes, circular, made of 64-byte lines
///      image  the region: image_size bytes, as it was at the journal position `tail`
/// ```
///
/// **A header copy is valid if and only if** its magic is container_magic, its crc is the CRC-32C
/// of its first 508 bytes, its version is container_version, its sizes and offsets agree with
/// expected_geometry(), and its numbers are below number_limit, which no region lives long enough
/// to reach. Of two valid copies the one with the higher sequence counts. Each change writes both
/// copies in turn, each followed by a sync. What the change permits (journal space reused, a larger
/// region used) waits for both, so either copy alone is enough.
///
/// All fields are little-endian; reserved bytes are zero.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/cacheline.h"

namespace chainring::file_format {

inline constexpr std::uint64_t container_magic = 0x314c4e4a474e4843; // "CHNGJNL1"
inline constexpr std::uint32_t container_version = 1;
inline constexpr std::uint64_t header_spacing = 4096;
inline constexpr std::uint64_t journal_offset = 2 * header_spacing;
/// a lower bound; the driver asks for more
inline constexpr std::uint64_t journal_size_min = 64u << 10;
inline constexpr std::uint64_t journal_size_max = std::uint64_t{1} << 36;
inline constexpr std::uint64_t journal_size_unit = 4096;
/// The size of a journal where none is asked for: that of the region, from 1 to 64 MiB.
constexpr std::uint64_t journal_size_for(std::uint64_t region_size) noexcept {
  return std::clamp<std::uint64_t>(align_up(region_size, journal_size_unit), 1u << 20, 64u << 20);
}
inline constexpr std::uint64_t image_size_unit = 4096;
inline constexpr std::uint64_t image_size_max = std::uint64_t{1} << 45;
/// Bound of the positions and sequences in a header. They only count up, and one region must not
/// reach 2^64.
inline constexpr std::uint64_t number_limit = std::uint64_t{1} << 63;

struct header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes; ///< 512
  std::uint8_t uuid[16];      ///< identifies the container; drawn when it is created
  std::uint64_t sequence;     ///< of this copy; its low bit says in which place the copy lies
  std::uint64_t journal_offset;
  std::uint64_t journal_size;
  std::uint64_t image_offset;
  std::uint64_t image_size;
  std::uint64_t salt;          ///< salt of the records written since the last open
  std::uint64_t tail;          ///< position of the first record that is not in the image yet
  std::uint64_t tail_sequence; ///< the sequence of that record
  std::uint32_t tail_crc;      ///< the seed of the crc of that record
  std::uint32_t reserved_word;
  std::uint64_t reserved[50];
  std::uint32_t reserved_end;
  std::uint32_t crc; ///< of everything before it
};
static_assert(sizeof(header) == 512 && std::is_trivially_copyable_v<header>);
static_assert(offsetof(header, magic) == 0);
static_assert(offsetof(header, version) == 8);
static_assert(offsetof(header, header_bytes) == 12);
static_assert(offsetof(header, uuid) == 16);
static_assert(offsetof(header, sequence) == 32);
static_assert(offsetof(header, journal_offset) == 40);
static_assert(offsetof(header, journal_size) == 48);
static_assert(offsetof(header, image_offset) == 56);
static_assert(offsetof(header, image_size) == 64);
static_assert(offsetof(header, salt) == 72);
static_assert(offsetof(header, tail) == 80);
static_assert(offsetof(header, tail_sequence) == 88);
static_assert(offsetof(header, tail_crc) == 96);
static_assert(offsetof(header, reserved_word) == 100);
static_assert(offsetof(header, reserved) == 104);
static_assert(offsetof(header, reserved_end) == 504);
static_assert(offsetof(header, crc) == 508);

/// The offset at which the image begins.
constexpr std::uint64_t image_offset(std::uint64_t journal_size) noexcept {
  return journal_offset + journal_size;
}
constexpr bool expected_geometry(const header& h) noexcept {
  return h.journal_size >= journal_size_min && h.journal_size <= journal_size_max &&
         h.journal_size % journal_size_unit == 0 && h.image_size > 0 &&
         h.image_size <= image_size_max && h.image_size % image_size_unit == 0 &&
         h.journal_offset == journal_offset && h.image_offset == image_offset(h.journal_size) &&
         h.header_bytes == sizeof(header) && h.tail % cacheline_size == 0;
}
constexpr bool numbers_below_limit(const header& h) noexcept {
  return h.sequence < number_limit && h.tail < number_limit && h.tail_sequence < number_limit;
}

} // namespace chainring::file_format
