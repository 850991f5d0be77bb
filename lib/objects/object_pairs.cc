// SPDX-License-Identifier: BSD-3-Clause
#include "objects/object_pairs.h"

namespace chainring::detail {

namespace {
// The key of a pair's entry has the size of the first half before both. Strings count as a string
// of a map does; one beside a fixed half counts with that half.
std::size_t key_of(std::size_t first, std::size_t second) noexcept {
  constexpr std::size_t string = 256;
  if (first == 0 && second == 0) return 0;
  return sizeof(std::uint32_t) + (first == 0 ? string : first) + (second == 0 ? string : second);
}
} // namespace

pairs_object::pairs_object(std::string name, std::uint64_t entries, std::uint32_t version,
                           std::size_t first_bytes, std::size_t second_bytes, bool by_second)
    : map_object(std::move(name), type_of(first_bytes, second_bytes, by_second), entries, version,
                 key_of(first_bytes, second_bytes)),
      first_bytes_(first_bytes), second_bytes_(second_bytes), by_second_(by_second) {}

std::string pairs_object::type_of(std::size_t first_bytes, std::size_t second_bytes,
                                  bool by_second) {
  return (by_second ? "bimap of " : "multimap of ") + bytes_in_words(first_bytes) + " to " +
         bytes_in_words(second_bytes);
}

result<void> pairs_object::make(media& medium, block_store& blocks, std::span<const range> ranges,
                                bool fresh) {
  if (auto made = map_object::make(medium, blocks, ranges, fresh); !made) return made;
  auto made = durable_pairs::create(bytes(), by_second_);
  if (!made) return made.error();
  pairs_ = std::move(made).value();
  return {};
}

std::vector<recovery_part> pairs_object::parts() {
  std::vector<recovery_part> all = map_object::parts();
  all.push_back({.name = "pairs of '" + name() + "'",
                 .rebuild = [this](recovery_context&) { pairs_->rebuild(); }});
  return all;
}

} // namespace chainring::detail
