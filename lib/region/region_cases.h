// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/region: judges what open() finds, without changing anything. Not installed.
///
/// By its own bytes, each superblock is in one of four states:
///
/// | state     | bytes                                   |
/// |-----------|-----------------------------------------|
/// | valid     | magic, and the checksum agrees          |
/// | damaged   | magic, and the checksum does not        |
/// | unwritten | magic 0                                 |
/// | foreign   | any other magic                         |
///
/// Both superblocks together are one case:
///
// clang-format off
/// | A, B (either order)   | case     | verdict                                                |
/// |-----------------------|----------|--------------------------------------------------------|
/// | valid, valid          | both     | the higher sequence counts; two uuids: refused         |
/// | valid, unwritten      | cut_off  | the valid one counts: a power cut interrupted the      |
/// |                       |          | other's change. If their second lines differ, which no |
/// |                       |          | crash can leave, the other is noted as damaged         |
/// | valid, other          | survivor | the valid one counts, and a note names the other       |
/// | unwritten, unwritten  | none     | refused: its creation did not finish, or is no region  |
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
  unsigned place = 0;             ///< the superblock that counts, if the region is not refused
  std::vector<std::string> notes; ///< sentences about the other superblock
};

/// Judges both superblocks. Each sentence of an error begins with `name` ("region PATH: ").
[[nodiscard]] superblock_verdict choose(const std::array<superblock, 2>& s,
                                        std::uint64_t media_size, bool read_only,
                                        const std::string& name);

struct directory_verdict {
  std::vector<region_root> roots;          ///< areas first, in the order of the directory
  std::vector<std::uint32_t> free_entries; ///< the lowest at the back
  std::vector<std::string> damage;         ///< sentences that name the entry
};

/// Judges the root directory of a region whose superblock is `s`.
[[nodiscard]] directory_verdict examine_directory(const root_entry* entries, const superblock& s);

/// Says why the region cannot hold this root beside `others`; empty if it can.
[[nodiscard]] std::string examine_root(const region_root& root, const superblock& s,
                                       const std::vector<region_root>& others);

} // namespace chainring::detail
