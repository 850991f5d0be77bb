// SPDX-License-Identifier: BSD-3-Clause
#include "objects/object_map.h"

#include <algorithm>

namespace chainring::detail {

namespace {
constexpr std::uint64_t string_bytes = 256; ///< that a string is taken to have
/// Keys that the index has room for at first, so that writers of different keys rarely meet.
constexpr std::uint64_t first_keys = 512;
/// A map may grow to 64 times of what it has when it is opened, to four times of what the program
/// asks for, and at least to so many cells.
constexpr std::uint64_t cells_least = 1 << 20;

std::uint64_t blocks_of(std::size_t bytes, std::size_t inline_max,
                        std::uint32_t block_size) noexcept {
  if (bytes == 0) bytes = string_bytes;
  return bytes > inline_max ? (bytes + block_size - 1) / block_size : 0;
}
} // namespace

map_object::map_object(std::string name, std::uint64_t entries, std::uint32_t version,
                       std::size_t key_bytes, std::size_t value_bytes)
    : named_object(std::move(name), type_of(key_bytes, value_bytes), entries, version),
      key_bytes_(key_bytes), value_bytes_(value_bytes) {}

map_object::map_object(std::string name, std::string type, std::uint64_t entries,
                       std::uint32_t version, std::size_t key_bytes)
    : named_object(std::move(name), std::move(type), entries, version), key_bytes_(key_bytes),
      value_bytes_(1) {} // one byte or none takes no block

result<void> map_object::acceptable() const {
  const auto refuse = [](const char* what, std::uint64_t n, const char* unit, std::uint64_t most) {
    return error{errc::invalid_argument, std::string(what) + std::to_string(n) + unit +
                                             ": expected at most " + std::to_string(most)};
  };
  if (key_bytes_ > map_key_max) return refuse("keys of ", key_bytes_, " bytes", map_key_max);
  if (value_bytes_ > map_value_max)
    return refuse("values of ", value_bytes_, " bytes", map_value_max);
  if (entries() < UINT32_MAX) return {};
  return error{errc::invalid_argument,
               "room for " + std::to_string(entries()) + " entries: expected 1 to 4294967294"};
}

std::string map_object::type_of(std::size_t key_bytes, std::size_t value_bytes) {
  return "map of " + bytes_in_words(key_bytes) + " to " + bytes_in_words(value_bytes);
}

std::uint64_t map_object::range_bytes(std::uint64_t entries) const noexcept {
  return entries * sizeof(map_cell);
}

std::uint64_t map_object::content_blocks(std::uint64_t entries,
                                         std::uint32_t block_size) const noexcept {
  return entries * (blocks_of(key_bytes_, map_key_inline, block_size) +
                    blocks_of(value_bytes_, map_value_inline, block_size));
}

result<void> map_object::make(media& medium, block_store& blocks, std::span<const range> ranges,
                              bool fresh) {
  std::vector<map_segment> segments;
  std::uint64_t cells = 0;
  for (const range& r : ranges) {
    segments.push_back({r.offset, r.bytes / sizeof(map_cell)});
    cells += segments.back().cells;
  }
  (void)fresh; // a map over zeros is empty
  cells_max_ =
      std::min<std::uint64_t>(UINT32_MAX, std::max({64 * cells, 4 * entries(), cells_least}));
  auto made =
      durable_map::create(medium, segments, blocks, std::min(cells, first_keys), cells_max_);
  if (!made) return made.error();
  map_ = std::move(made).value();
  return {};
}

void map_object::settle() noexcept {
  map_->settle();
}

std::vector<recovery_part> map_object::parts() {
  return {map_->part("map '" + name() + "'")};
}

result<void> map_object::add(const range& more) {
  return map_->add_segment(more.offset, more.bytes / sizeof(map_cell));
}

} // namespace chainring::detail
