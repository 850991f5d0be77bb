// SPDX-License-Identifier: BSD-3-Clause
#include "region/region_cases.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"

namespace chainring::detail {

namespace {

constexpr std::size_t name_size_max = sizeof(root_entry::name) - 1;

std::string number(std::uint64_t n) {
  return std::to_string(n);
}

/// Says what is wrong with the geometry; empty if nothing is.
std::string examine_geometry(const superblock& s) {
  const bool power_of_two = (s.block_size & (s.block_size - 1)) == 0;
  if (s.block_size < 64 || s.block_size > 4096 || !power_of_two)
    return "block size " + number(s.block_size);
  if (s.state != static_cast<std::uint32_t>(region_state::open) &&
      s.state != static_cast<std::uint32_t>(region_state::clean))
    return "state " + number(s.state);
  if (s.root_capacity != root_directory_entries || s.area_count > s.root_capacity)
    return number(s.area_count) + " areas of " + number(s.root_capacity) + " roots";
  if (s.areas_offset < areas_offset || s.areas_offset % cacheline_size != 0 ||
      s.areas_offset > s.block_offset || s.areas_size % cacheline_size != 0 ||
      s.areas_size > s.block_offset - s.areas_offset)
    return "areas of " + number(s.areas_size) + " bytes at " + number(s.areas_offset);
  if (s.block_offset % 4096 != 0 || s.block_offset > s.size || s.block_count == 0 ||
      s.block_count > (s.size - s.block_offset) / s.block_size)
    return number(s.block_count) + " blocks at " + number(s.block_offset) + " in " +
           number(s.size) + " bytes";
  return {};
}

/// Judges the superblock that counts. Returns an error if the region must be refused.
std::optional<error> refuse(const superblock& s, std::uint64_t media_size, bool read_only,
                            const std::string& name) {
  if (s.format_major != region_format_major)
    return error{errc::version,
                 name + "it has format version " + number(s.format_major) +
                     ", and this build reads " + number(region_format_major) +
                     (s.format_major < region_format_major
                          ? "; drain it with the version that made it, and create another"
                          : "; open it with a build that reads that version")};
  if (const std::uint32_t unknown = s.incompat & ~region_incompat_known; unknown != 0)
    return error{errc::version, name +
                                    "it needs features this build does not know (incompat flags " +
                                    number(unknown) + "); open it with a build that knows them"};
  if (s.size > media_size)
    return error{errc::corrupt, name + "its superblock says it has " + number(s.size) +
                                    " bytes, and there are " + number(media_size) +
                                    ": the file was truncated; restore the whole file"};
  if (s.state == static_cast<std::uint32_t>(region_state::unfinished))
    return error{errc::corrupt, name + "it was never finished: what made it, such as a salvage or "
                                       "a change of the size, was cut off; remove it, and do that "
                                       "again"};
  if (const std::string wrong = examine_geometry(s); !wrong.empty())
    return error{errc::corrupt, name + "its superblock holds an impossible value (" + wrong +
                                    "); restore it from a copy"};
  if (const std::uint32_t unknown = s.ro_compat & ~region_ro_compat_known;
      unknown != 0 && !read_only)
    return error{errc::version, name +
                                    "it has features this build can only read (ro_compat flags " +
                                    number(unknown) + "); open it read-only"};
  return {};
}

const char* why(superblock_state s) {
  switch (s) {
  case superblock_state::valid:
    return "is valid";
  case superblock_state::damaged:
    return "fails its checksum";
  case superblock_state::unwritten:
    return "was never written";
  case superblock_state::foreign:
    return "has no region magic";
  }
  return "";
}

bool ends_in_zeros(const char* name, std::size_t from) {
  return std::all_of(name + from, name + sizeof(root_entry::name), [](char c) { return c == 0; });
}

} // namespace

std::uint32_t crc_of(const superblock& s) noexcept {
  superblock copy = s;
  copy.crc = 0;
  return crc32c(0, &copy, sizeof copy);
}

std::uint32_t crc_of(const root_entry& e) noexcept {
  return crc32c(0, &e, offsetof(root_entry, crc));
}

superblock_state examine(const superblock& s) noexcept {
  if (s.magic == 0) return superblock_state::unwritten;
  if (s.magic != region_magic) return superblock_state::foreign;
  return s.crc == crc_of(s) ? superblock_state::valid : superblock_state::damaged;
}

superblock_case case_of(superblock_state a, superblock_state b) noexcept {
  using enum superblock_state;
  const auto either = [&](superblock_state s) { return a == s || b == s; };
  if (a == valid && b == valid) return superblock_case::both;
  if (either(valid))
    return either(unwritten) ? superblock_case::cut_off : superblock_case::survivor;
  if (either(damaged)) return superblock_case::lost;
  return a == unwritten && b == unwritten ? superblock_case::none : superblock_case::foreign;
}

superblock_verdict choose(const std::array<superblock, 2>& s, std::uint64_t media_size,
                          bool read_only, const std::string& name) {
  constexpr const char* letter[2] = {"A", "B"};
  const std::array<superblock_state, 2> state{examine(s[0]), examine(s[1])};
  superblock_verdict v;
  v.place = state[1] == superblock_state::valid &&
                    (state[0] != superblock_state::valid || s[1].sequence > s[0].sequence)
                ? 1
                : 0;
  const unsigned other = 1 - v.place;
  switch (case_of(state[0], state[1])) {
  case superblock_case::both:
    if (!std::equal(std::begin(s[0].uuid), std::end(s[0].uuid), std::begin(s[1].uuid))) {
      v.refused =
          error{errc::corrupt, name + "its superblocks are of two different regions; restore "
                                      "it from a copy"};
      return v;
    }
    break;
  case superblock_case::cut_off:
    if (std::memcmp(&s[0].uuid, &s[1].uuid, sizeof(superblock) - offsetof(superblock, uuid)) != 0)
      v.notes.push_back("superblock " + std::string(letter[other]) + " is damaged; superblock " +
                        letter[v.place] + " is used");
    break;
  case superblock_case::survivor:
    v.notes.push_back("superblock " + std::string(letter[other]) + " " + why(state[other]) +
                      "; superblock " + letter[v.place] + " is used");
    break;
  case superblock_case::none:
    v.refused = error{errc::corrupt,
                      name + "it is not a region, or its creation did not finish; if "
                             "nothing else is in it, delete it and create it again; a device, with "
                             "'chainring-region create'"};
    return v;
  case superblock_case::lost: {
    const unsigned lost = state[0] == superblock_state::damaged ? 0 : 1;
    if (s[lost].format_major != region_format_major) {
      v.refused = error{errc::version, name + "it is damaged, or of format version " +
                                           number(s[lost].format_major) + ", which this build (" +
                                           number(region_format_major) + ") does not know"};
      return v;
    }
    v.refused = error{errc::corrupt, name + "superblock A " + why(state[0]) + ", superblock B " +
                                         why(state[1]) +
                                         ": it is damaged beyond use; restore it from a copy"};
    return v;
  }
  case superblock_case::foreign:
    v.refused = error{errc::corrupt, name + "it is not a region: superblock A " + why(state[0]) +
                                         ", superblock B " + why(state[1]) + "; name another file"};
    return v;
  }
  v.refused = refuse(s[v.place], media_size, read_only, name);
  return v;
}

std::string examine_root(const region_root& root, const superblock& s,
                         const std::vector<region_root>& others) {
  if (root.name.empty() || root.name.size() > name_size_max ||
      root.name.find('\0') != std::string::npos)
    return "has no name of 1 to " + number(name_size_max) + " characters";
  const bool area = root.kind == root_kind::area;
  const std::uint64_t from = area ? s.areas_offset : s.block_offset;
  const std::uint64_t to =
      area ? s.areas_offset + s.areas_size : s.block_offset + s.block_count * s.block_size;
  if (root.offset % cacheline_size != 0 || root.offset < from || root.offset > to ||
      root.size > to - root.offset)
    return "'" + root.name + "' names " + number(root.size) + " bytes at " + number(root.offset) +
           ", not on a line or outside the " + (area ? "areas" : "block area") + " from " +
           number(from) + " to " + number(to);
  if (!area && root.size == 0) return "'" + root.name + "' names 0 bytes";
  for (const region_root& other : others) {
    if (other.name == root.name) return "'" + root.name + "' has the name of another root";
    if (root.offset < other.offset + other.size && other.offset < root.offset + root.size)
      return "'" + root.name + "' overlaps root '" + other.name + "'";
  }
  return {};
}

directory_verdict examine_directory(const root_entry* entries, const superblock& s) {
  directory_verdict v;
  for (std::uint32_t i = 0; i < s.root_capacity; ++i) {
    root_entry e;
    std::memcpy(&e, &entries[i], sizeof e);
    const std::string object = "root " + number(i) + " of its directory ";
    std::uint64_t word;
    std::memcpy(&word, &e, sizeof word);
    if (word == 0) {
      if (i < s.area_count)
        v.damage.push_back(object + "is missing");
      else
        v.free_entries.push_back(i);
      continue;
    }
    if (e.crc != crc_of(e)) {
      v.damage.push_back(object + "fails its checksum");
      continue;
    }
    const root_kind kind = i < s.area_count ? root_kind::area : root_kind::range;
    if (e.state != static_cast<std::uint8_t>(root_state::present) ||
        e.kind != static_cast<std::uint8_t>(kind) || e.reserved0 != 0) {
      v.damage.push_back(object + "has an impossible commit word");
      continue;
    }
    const std::size_t length = strnlen(e.name, sizeof e.name);
    if (length > name_size_max || !ends_in_zeros(e.name, length)) {
      v.damage.push_back(object + "has a name without an end");
      continue;
    }
    region_root root{std::string(e.name, length), e.offset, e.size, e.version, kind};
    if (const std::string wrong = examine_root(root, s, v.roots); !wrong.empty()) {
      v.damage.push_back(object + wrong);
      continue;
    }
    v.roots.push_back(std::move(root));
  }
  std::reverse(v.free_entries.begin(), v.free_entries.end());
  return v;
}

} // namespace chainring::detail
