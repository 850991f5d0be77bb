// SPDX-License-Identifier: BSD-3-Clause
/// What a region looks like on media.
///
/// ```
/// 0        superblock A
/// 4096     superblock B
/// 8192     root directory: 64 lines
/// 12288    the named areas, each on a line, in the directory's order
/// ...      (4096-aligned) the block area, to the end
/// ```
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"

namespace chainring {

inline constexpr std::uint64_t region_magic = 0x676e697261684331; // "1Charing"
inline constexpr std::uint32_t region_format_major = 1;
inline constexpr std::uint32_t region_format_minor = 0;
inline constexpr std::uint64_t superblock_offsets[2] = {0, 4096};
inline constexpr std::uint64_t root_directory_offset = 8192;
inline constexpr std::uint64_t root_directory_entries = 64;
inline constexpr std::uint64_t areas_offset =
    root_directory_offset + root_directory_entries * cacheline_size;

/// Flags this build knows. Unknown compat flags are kept, an unknown ro_compat flag allows reading
/// only, an unknown incompat flag forbids opening.
inline constexpr std::uint32_t region_incompat_known = 0;
inline constexpr std::uint32_t region_ro_compat_known = 0;

/// Valid if and only if: magic, a format major this build knows, the CRC32C over everything before
/// it, and a geometry that fits the media. Of two valid ones the higher sequence number counts.
/// Written whole, in turn, into the other's place: a crash leaves at least one as it was.
struct superblock {
  std::uint64_t magic;
  std::uint32_t format_major;
  std::uint32_t format_minor;
  std::uint32_t compat;
  std::uint32_t incompat;
  std::uint32_t ro_compat;
  std::uint32_t clean; ///< 1: closed; 0: in use, or was when the power went
  std::uint64_t uuid[2];
  std::uint64_t sequence;
  std::uint64_t incarnation;
  std::uint64_t size; ///< bytes of the region
  std::uint64_t block_offset;
  std::uint64_t block_count;
  std::uint32_t block_size;
  std::uint32_t root_count;
  std::uint64_t reserved[19]; ///< zero
  std::uint32_t reserved32;   ///< zero
  std::uint32_t crc;
};
static_assert(sizeof(superblock) == 256);
static_assert(offsetof(superblock, clean) == 28);
static_assert(offsetof(superblock, uuid) == 32);
static_assert(offsetof(superblock, sequence) == 48);
static_assert(offsetof(superblock, incarnation) == 56);
static_assert(offsetof(superblock, size) == 64);
static_assert(offsetof(superblock, block_offset) == 72);
static_assert(offsetof(superblock, block_count) == 80);
static_assert(offsetof(superblock, block_size) == 88);
static_assert(offsetof(superblock, root_count) == 92);
static_assert(offsetof(superblock, crc) == 252);

/// Valid if and only if: it is one of the first root_count; its CRC32C is right; the name ends
/// within its field; the range lies between the directory and the block area and overlaps no other.
/// Written before the first superblock, and not changed.
struct root_entry {
  std::uint64_t offset;
  std::uint64_t size;
  std::uint32_t version;
  std::uint32_t reserved;  ///< zero
  char name[32];           ///< zero behind its end
  std::uint32_t reserved2; ///< zero
  std::uint32_t crc;       ///< of the bytes before it
};
static_assert(sizeof(root_entry) == cacheline_size);
static_assert(offsetof(root_entry, version) == 16);
static_assert(offsetof(root_entry, name) == 24);
static_assert(offsetof(root_entry, crc) == 60);

} // namespace chainring
