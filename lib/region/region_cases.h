// SPDX-License-Identifier: BSD-3-Clause
/// Inside lib/region: what open() can find, judged without touching anything. Internal: not
/// installed.
///
/// Each superblock is one of four, by its own bytes:
///
/// | state     | bytes                                   |
/// |-----------|-----------------------------------------|
/// | valid     | magic, and the checksum agrees          |
/// | damaged   | magic, and the checksum does not        |
/// | unwritten | magic 0                                 |
/// | foreign   | any other magic                         |
///
/// and the two together are one case:
///
// clang-format off
/// | A, B (either order)   | case     | verdict                                                |
/// |-----------------------|----------|--------------------------------------------------------|
/// | valid, valid          | both     | the higher sequence counts; two uuids: refused         |
/// | valid, unwritten      | cut_off  | the valid one counts. Its partner was being written    |
/// |                       |          | when the power went; where its second line differs, no |
/// |                       |          | crash can have left that: it is noted as damaged       |
/// | valid, other          | survivor | the valid one counts, with a note                      |
/// | unwritten, unwritten  | none     | refused: not a region, its creation did not finish     |
/// | no valid, one damaged | lost     | refused as damaged, or as of an unknown version        |
/// | no valid, no damaged  | foreign  | refused: not a region                                  |
// clang-format on
#pragma once
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "region/region.h"
#include "region/region_media.h"

namespace chainring::detail {

[[nodiscard]] std::uint32_t crc_of(const superblock& s) noexcept;
[[nodiscard]] std::uint32_t crc_of(const root_entry& e) noexcept;

enum class superblock_state { valid, damaged, unwritten, foreign };
enum class superblock_case { both, cut_off, survivor, none, lost, foreign };

[[nodiscard]] superblock_state examine(const superblock& s) noexcept;
[[nodiscard]] superblock_case case_of(superblock_state a, superblock_state b) noexcept;

struct superblock_verdict {
  std::optional<error> refused;
  unsigned place = 0;             ///< which counts, when not refused
  std::vector<std::string> notes; ///< about the other
};

/// Judges both, `name` ("region PATH: ") before each sentence of an error.
[[nodiscard]] superblock_verdict choose(const std::array<superblock, 2>& s,
                                        std::uint64_t media_size, bool read_only,
                                        const std::string& name);

struct directory_verdict {
  std::vector<region_root> roots;          ///< areas first, in order
  std::vector<std::uint32_t> free_entries; ///< last first
  std::vector<std::string> damage;         ///< sentences that name the entry
};

/// Judges the root directory of a region whose superblock is `s`.
[[nodiscard]] directory_verdict examine_directory(const root_entry* entries, const superblock& s);

/// Why the region cannot hold a root of that name and range among those it has; empty: it can.
[[nodiscard]] std::string examine_root(const region_root& root, const superblock& s,
                                       const std::vector<region_root>& others);

} // namespace chainring::detail
