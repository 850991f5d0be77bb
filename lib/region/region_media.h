// SPDX-License-Identifier: BSD-3-Clause
/// The layout of a region on media.
///
/// ```
/// 0        superblock A   256 bytes; the rest of the page is reserved
/// 4096     superblock B
/// 8192     root directory 64 entries of one line
/// 12288    the named areas, each on a line, in the directory's order
/// ...      (4096-aligned) the block area, to the end
/// ```
///
/// A superblock, one row for each of its lines. A word has 8 bytes, or is a pair of 4 and 4:
/// ```
///   0  magic | major, minor | sequence | incarnation | size | block_count | state, 0 | crc, 0
///  64  uuid | uuid | compat, incompat | ro_compat, block_size
///      | areas_offset | areas_size | area_count, root_capacity | block_offset
/// 128  0 | 0 | 0 | 0 | 0 | 0 | 0 | 0
/// 192  0 | 0 | 0 | 0 | 0 | 0 | 0 | 0
/// ```
/// A root entry. Its first word consists of 1, 1, 2 and 4 bytes:
/// ```
///   0  (state, kind, 0, version) | offset | size | name | name | name | name | crc, 0
/// ```
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"

namespace chainring {

/// The bytes "ChainRgn".
inline constexpr std::uint64_t region_magic = 0x6e67526e69616843;
inline constexpr std::uint32_t region_format_major = 3;
inline constexpr std::uint32_t region_format_minor = 0;
inline constexpr std::uint64_t superblock_offsets[2] = {0, 4096};
inline constexpr std::uint64_t root_directory_offset = 8192;
inline constexpr std::uint32_t root_directory_entries = 64;
/// The offset of the first area in this format, which is also the fewest bytes a region can have.
inline constexpr std::uint64_t areas_offset =
    root_directory_offset + root_directory_entries * cacheline_size;

/// Flags that this build knows. An unknown compat flag is kept as it is. An unknown ro_compat flag
/// allows only reading, and an unknown incompat flag forbids opening.
inline constexpr std::uint32_t region_incompat_known = 0;
inline constexpr std::uint32_t region_ro_compat_known = 0;

/// What the process that stored the superblock has done with the region.
enum class region_state : std::uint32_t {
  open = 1,       ///< opened it for writing, and not closed it
  clean = 2,      ///< closed it
  unfinished = 3, ///< made it, and not filled it yet: no open accepts it
};

/// A superblock is valid if and only if it has the magic and its CRC32C agrees. Of two valid ones
/// the one with the higher sequence counts. Its version, flags and geometry are judged only then,
/// because a newer superblock that this build does not understand must not be passed over for an
/// older one.
///
/// Only the first line changes. It is stored in program order, with magic 0 first and the magic
/// last. So a crash leaves it unchanged, without a magic, or new, and never as a mixture that has a
/// magic. The other lines are drained before a magic is stored over them. Each change is stored
/// twice: over the older superblock, and when that is drained, over the other one. So damage to one
/// of them loses nothing.
///
/// In every format version these stay the same: the place and size of the superblocks, `magic`,
/// `format_major`, `sequence`, `crc` and what the crc covers.
struct superblock {
  std::uint64_t magic; ///< commit word
  std::uint32_t format_major;
  std::uint32_t format_minor;
  std::uint64_t sequence;
  std::uint64_t incarnation; ///< how many times the region was created or opened for writing
  std::uint64_t size;        ///< bytes of the region; the medium may be longer
  std::uint64_t block_count;
  std::uint32_t state; ///< region_state
  std::uint32_t reserved0;
  std::uint32_t crc; ///< CRC32C of the 256 bytes with this field zero
  std::uint32_t reserved1;

  std::uint64_t uuid[2];
  std::uint32_t compat;
  std::uint32_t incompat;
  std::uint32_t ro_compat;
  std::uint32_t block_size; ///< bytes, 64 to 4096, a power of two
  std::uint64_t areas_offset;
  std::uint64_t areas_size; ///< bytes of all areas together
  std::uint32_t area_count; ///< number of entries at the front of the directory that name areas
  std::uint32_t root_capacity;
  std::uint64_t block_offset; ///< a multiple of 4096, at or behind the end of the areas

  std::uint64_t reserved[16]; ///< zero
};
static_assert(sizeof(superblock) == 256);
static_assert(offsetof(superblock, magic) == 0);
static_assert(offsetof(superblock, format_major) == 8);
static_assert(offsetof(superblock, format_minor) == 12);
static_assert(offsetof(superblock, sequence) == 16);
static_assert(offsetof(superblock, incarnation) == 24);
static_assert(offsetof(superblock, size) == 32);
static_assert(offsetof(superblock, block_count) == 40);
static_assert(offsetof(superblock, state) == 48);
static_assert(offsetof(superblock, reserved0) == 52);
static_assert(offsetof(superblock, crc) == 56);
static_assert(offsetof(superblock, reserved1) == 60);
static_assert(offsetof(superblock, uuid) == 64);
static_assert(offsetof(superblock, compat) == 80);
static_assert(offsetof(superblock, incompat) == 84);
static_assert(offsetof(superblock, ro_compat) == 88);
static_assert(offsetof(superblock, block_size) == 92);
static_assert(offsetof(superblock, areas_offset) == 96);
static_assert(offsetof(superblock, areas_size) == 104);
static_assert(offsetof(superblock, area_count) == 112);
static_assert(offsetof(superblock, root_capacity) == 116);
static_assert(offsetof(superblock, block_offset) == 120);
static_assert(offsetof(superblock, reserved) == 128);

enum class root_state : std::uint8_t { free = 0, present = 1 };
enum class root_kind : std::uint8_t {
  area = 1,  ///< laid out when the region was created
  range = 2, ///< named while the region is open; lies anywhere in the block area
};

/// A root entry is valid if and only if `state` is present, the kind is known, the reserved bytes
/// of the commit word are zero, the CRC32C agrees, the name has 1 to 31 characters with zeros
/// behind them, and its range begins on a line, overlaps no other range, and lies in the right part
/// of the region: in the areas for kind area (the first area_count entries and no others), in the
/// block area for kind range. A root entry is free if and only if its commit word is 0; its other
/// words then mean nothing.
///
/// The commit word is stored last, in program order with the rest of its line.
///
/// Ranges that belong together carry one name and a number: "table", "table#1", "table#2" and so
/// on. There is no gap, because an entry is never removed and each entry is durable before the next
/// is stored. The first range may be an area.
struct root_entry {
  std::uint8_t state; ///< root_state; first byte of the commit word
  std::uint8_t kind;  ///< root_kind
  std::uint16_t reserved0;
  std::uint32_t version; ///< version of the content, which its owner defines
  std::uint64_t offset;
  std::uint64_t size; ///< bytes
  char name[32];
  std::uint32_t crc; ///< CRC32C of the bytes before it
  std::uint32_t reserved1;
};
static_assert(sizeof(root_entry) == cacheline_size);
static_assert(offsetof(root_entry, state) == 0);
static_assert(offsetof(root_entry, kind) == 1);
static_assert(offsetof(root_entry, reserved0) == 2);
static_assert(offsetof(root_entry, version) == 4);
static_assert(offsetof(root_entry, offset) == 8);
static_assert(offsetof(root_entry, size) == 16);
static_assert(offsetof(root_entry, name) == 24);
static_assert(offsetof(root_entry, crc) == 56);
static_assert(offsetof(root_entry, reserved1) == 60);

} // namespace chainring
