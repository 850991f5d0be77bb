// SPDX-License-Identifier: BSD-3-Clause
/// What a region file of class `file` holds.
///
/// ```
///          0  header copy of even sequence   (512 bytes used of 4096)
///       4096  header copy of odd sequence    (512 bytes used of 4096)
///       8192  journal: journal_size bytes, circular, made of 64-byte lines
///      image  the region: image_size bytes, as of the journal position `tail`
/// ```
///
/// **The region** is the image with the data of every valid journal record from `tail` on laid over
/// it, in order. Recovery therefore gives the bytes as some drain() left them, and every drain
/// before that one is in them.
///
/// **The header copies** are described in media/container_format.h, which every driver knows.
///
/// **Positions** are bytes of the endless journal: position p lies at journal_offset + p %
/// journal_size. They never wrap.
///
/// **The record at position p with sequence n is valid if and only if** its position is p, its
/// sequence is n, its salt is the header's, its `bytes` are a multiple of 64, do not reach past the
/// journal's end (a record never straddles it) and are what its counts of extents and lines ask
/// for, its extents name as many lines as it says, all inside the image, and its crc is the CRC-32C
/// of the record behind the crc field, seeded with the previous record's crc. The first is at
/// `tail` with `tail_sequence` and the seed `tail_crc`; the first that is not valid ends the
/// journal. A record without lines is a filler up to the journal's end; its header alone is
/// checked.
///
/// ```
/// record:  header (64) | extents (8 each, padded to 64) | lines (64 each, in extent order)
/// extent:  first line of the image << 20 | lines - 1
/// ```
///
/// Each open draws a new salt, after the tail it replayed is in the image, so that a record left
/// behind a torn one by an earlier life never replays. A sector of 512 bytes is assumed not to
/// tear: a sync may rewrite the sector that holds the end of what is durable already.
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
  std::uint32_t crc; ///< of what follows it, to the record's end
  std::uint32_t reserved_word;
  std::uint64_t salt;
  std::uint64_t position;
  std::uint64_t sequence;
  std::uint64_t bytes; ///< of the whole record
  std::uint64_t extents;
  std::uint64_t lines; ///< 0: a filler
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

/// Bytes of the extent table of a record.
constexpr std::uint64_t table_bytes(std::uint64_t extents) noexcept {
  return align_up(extents * sizeof(extent), cacheline_size);
}
constexpr std::uint64_t record_bytes(std::uint64_t extents, std::uint64_t lines) noexcept {
  return sizeof(record) + table_bytes(extents) + lines * cacheline_size;
}

/// Most bytes of one record: a quarter, so that one record and the filler before it always fit.
constexpr std::uint64_t record_bytes_max(std::uint64_t journal_size) noexcept {
  return journal_size / 4;
}
/// Most lines of one record, even where no two of them are neighbours.
constexpr std::uint64_t record_lines_max(std::uint64_t journal_size) noexcept {
  return (record_bytes_max(journal_size) - sizeof(record) - cacheline_size) /
         (cacheline_size + sizeof(extent));
}

} // namespace chainring::file_format
