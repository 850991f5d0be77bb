// SPDX-License-Identifier: BSD-3-Clause
/// The content of a region file of class `file`.
///
/// ```
///          0  header copy of even sequence   (512 bytes used of 4096)
///       4096  header copy of odd sequence    (512 bytes used of 4096)
///       8192  journal: journal_size bytes, circular, made of 64-byte lines
///      image  the region: image_size bytes, as it was at the journal position `tail`
/// ```
///
/// **The region** is the image with the data of every valid journal record from `tail` on applied
/// to it, in order. So recovery gives the bytes as some drain() left them, and every earlier drain
/// is contained in them.
///
/// **The header copies** are described in media/container_format.h, because every driver knows
/// them.
///
/// **Positions** count the bytes of an endless journal. Position p lies at journal_offset + p %
/// journal_size. Positions never wrap.
///
/// **The record at position p with sequence n is valid if and only if** its position is p, its
/// sequence is n and its salt is the header's; its `bytes` are a multiple of 64, do not reach past
/// the end of the journal (a record never straddles it) and agree with its counts of extents and
/// lines; its extents name as many lines as it says, all inside the image; and its crc is the
/// CRC-32C of the record behind the crc field, seeded with the crc of the record before. The first
/// record is at `tail` with the sequence `tail_sequence` and the seed `tail_crc`. The first record
/// that is not valid ends the journal. A record without lines is a filler up to the end of the
/// journal; only its header is checked.
///
/// ```
/// record:  header (64) | extents (8 each, padded to 64) | lines (64 each, in extent order)
/// extent:  first line of the image << 20 | lines - 1
/// ```
///
/// Each open draws a new salt once the replayed records are in the image. So a record of an earlier
/// life that lies behind a torn record is never replayed. The format assumes that a sector of 512
/// bytes does not tear: a sync may rewrite the sector that holds the end of what is durable
/// already.
///
/// All fields are little-endian; reserved bytes are zero.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/cacheline.h"
#include "media/container_format.h"

namespace chainring::file_format {

struct record {
  std::uint32_t crc; ///< of everything behind it, up to the end of the record
  std::uint32_t reserved_word;
  std::uint64_t salt;
  std::uint64_t position;
  std::uint64_t sequence;
  std::uint64_t bytes; ///< of the whole record
  std::uint64_t extents;
  std::uint64_t lines; ///< 0 in a filler
  std::uint64_t reserved;
};
static_assert(sizeof(record) == cacheline_size && std::is_trivially_copyable_v<record>);
static_assert(offsetof(record, crc) == 0);
static_assert(offsetof(record, reserved_word) == 4);
static_assert(offsetof(record, salt) == 8);
static_assert(offsetof(record, position) == 16);
static_assert(offsetof(record, sequence) == 24);
static_assert(offsetof(record, bytes) == 32);
static_assert(offsetof(record, extents) == 40);
static_assert(offsetof(record, lines) == 48);
static_assert(offsetof(record, reserved) == 56);

using extent = std::uint64_t;
inline constexpr unsigned extent_shift = 20;
inline constexpr std::uint64_t extent_lines_max = std::uint64_t{1} << extent_shift;

constexpr extent make_extent(std::uint64_t first_line, std::uint64_t lines) noexcept {
  return first_line << extent_shift | (lines - 1);
}
constexpr std::uint64_t first_line(extent e) noexcept {
  return e >> extent_shift;
}
constexpr std::uint64_t lines_of(extent e) noexcept {
  return (e & (extent_lines_max - 1)) + 1;
}

/// The size of the extent table of a record, in bytes.
constexpr std::uint64_t table_bytes(std::uint64_t extents) noexcept {
  return align_up(extents * sizeof(extent), cacheline_size);
}
constexpr std::uint64_t record_bytes(std::uint64_t extents, std::uint64_t lines) noexcept {
  return sizeof(record) + table_bytes(extents) + lines * cacheline_size;
}

/// Most bytes of one record: a quarter of the journal, so that a record and a filler before it
/// always fit.
constexpr std::uint64_t record_bytes_max(std::uint64_t journal_size) noexcept {
  return journal_size / 4;
}
/// Most lines of one record, even if no two of them adjoin.
constexpr std::uint64_t record_lines_max(std::uint64_t journal_size) noexcept {
  return (record_bytes_max(journal_size) - sizeof(record) - cacheline_size) /
         (cacheline_size + sizeof(extent));
}

} // namespace chainring::file_format
