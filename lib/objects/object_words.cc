// SPDX-License-Identifier: BSD-3-Clause
// Objects made of the words of their type, for a check without the program that made them.
#include <charconv>
#include <optional>

#include "objects/object_map.h"
#include "objects/object_pairs.h"
#include "objects/object_queue.h"

namespace chainring::detail {

namespace {

/// Takes `front` off the text. False: the text does not begin with it.
bool take(std::string_view& text, std::string_view front) noexcept {
  if (!text.starts_with(front)) return false;
  text.remove_prefix(front.size());
  return true;
}

std::optional<std::uint32_t> take_number(std::string_view& text) noexcept {
  std::uint32_t n = 0;
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (wrong != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return n;
}

/// The opposite of bytes_in_words().
std::optional<std::uint32_t> take_bytes(std::string_view& text) noexcept {
  if (take(text, "string")) return 0;
  const auto n = take_number(text);
  if (!n || !(take(text, " bytes") || take(text, " byte"))) return std::nullopt;
  return n;
}

} // namespace

std::unique_ptr<named_object> object_in_words(const std::string& name, std::string_view type,
                                              std::uint32_t version) {
  std::unique_ptr<named_object> made;
  std::string_view left = type;
  const bool map = take(left, "map of "), multi = !map && take(left, "multimap of "),
             both_ways = !map && !multi && take(left, "bimap of ");
  if (map || multi || both_ways) {
    const auto key = take_bytes(left);
    const bool to = take(left, " to ");
    const auto value = take_bytes(left);
    if (!key || !to || !value) return nullptr;
    if (map)
      made = std::make_unique<map_object>(name, 1, version, *key, *value);
    else
      made = std::make_unique<pairs_object>(name, 1, version, *key, *value, both_ways);
  } else if (take(left, "queue of ")) {
    const auto entry = take_bytes(left);
    std::string_view words = left;
    bool ids = take(words, ", with ids");
    const auto streams =
        !ids && take(left, ", ") ? take_number(left) : std::optional<std::uint32_t>(1);
    ids |= take(left, " streams") && take(left, ", with ids");
    if (entry && streams)
      made = std::make_unique<queue_object>(
          name, version,
          durable_queue_options{
              .entry_bytes = *entry, .entries = 1, .streams = *streams, .clients = ids ? 1u : 0u});
  }
  return made != nullptr && made->type() == type && made->acceptable() ? std::move(made) : nullptr;
}

} // namespace chainring::detail
