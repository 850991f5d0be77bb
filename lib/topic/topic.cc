// SPDX-License-Identifier: BSD-3-Clause
#include "topic/topic.h"

#include <cstdint>
#include <cstring>

namespace chainring {
namespace {

std::uint8_t octet(std::string_view text, std::size_t at) noexcept {
  return static_cast<std::uint8_t>(text[at]);
}

constexpr std::uint64_t in_each_octet(std::uint8_t value) noexcept {
  return std::uint64_t{0x0101010101010101} * value;
}

/// True where no octet of the word is NUL or above 0x7F, nor, in a topic name, a wildcard.
bool plain_word(const char* at, bool topic_name) noexcept {
  std::uint64_t word;
  std::memcpy(&word, at, 8);
  constexpr std::uint64_t ones = in_each_octet(1), highest = in_each_octet(0x80);
  // Where no octet is above 0x7F, the first one that is zero borrows and gets its highest bit.
  std::uint64_t found = word | (word - ones);
  // `#` and `+` differ in one bit.
  if (topic_name) found |= ((word | in_each_octet('#' ^ '+')) ^ in_each_octet('+')) - ones;
  return (found & highest) == 0;
}

/// True for ASCII without NUL, and, for a topic name, without wildcards. Nearly all texts are
/// plain, and this takes a fraction of the instructions that looking at each octet does.
bool plain(std::string_view text, bool topic_name) noexcept {
  const std::size_t size = text.size();
  if (size < 8) {
    for (std::size_t at = 0; at < size; ++at) {
      const std::uint8_t c = octet(text, at);
      if (c == 0 || c > 0x7F || (topic_name && (c == '+' || c == '#'))) return false;
    }
    return true;
  }
  for (std::size_t at = 0; at + 8 <= size; at += 8)
    if (!plain_word(text.data() + at, topic_name)) return false;
  return plain_word(text.data() + size - 8, topic_name); // the last word may overlap the one before
}

/// Octets of the well-formed UTF-8 sequence at `at` (Unicode 15, table 3-7), or 0.
std::size_t sequence_size(std::string_view text, std::size_t at) noexcept {
  const std::uint8_t lead = octet(text, at);
  if (lead < 0x80) return lead == 0 ? 0 : 1;
  std::size_t size = 0;
  // The second octet has a narrower range than 80..BF where the sequence would otherwise be
  // overlong, a surrogate or past U+10FFFF.
  std::uint8_t low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    size = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    size = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    size = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  if (text.size() - at < size) return 0;
  if (octet(text, at + 1) < low || octet(text, at + 1) > high) return 0;
  for (std::size_t i = 2; i < size; ++i)
    if ((octet(text, at + i) & 0xC0) != 0x80) return 0;
  return size;
}

} // namespace

bool valid_utf8(std::string_view text) noexcept {
  if (plain(text, false)) return true;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = sequence_size(text, at);
    if (size == 0) return false;
    at += size;
  }
  return true;
}

bool has_wildcard(std::string_view filter) noexcept {
  return filter.find_first_of("+#") != std::string_view::npos;
}

bool valid_topic_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > topic_size_max) return false;
  return plain(name, true) || (!has_wildcard(name) && valid_utf8(name));
}

bool valid_topic_filter(std::string_view filter) noexcept {
  if (filter.empty() || filter.size() > topic_size_max || !valid_utf8(filter)) return false;
  for (std::size_t at = filter.find_first_of("+#"); at != std::string_view::npos;
       at = filter.find_first_of("+#", at + 1)) {
    if (at > 0 && filter[at - 1] != '/') return false;
    const bool last = at + 1 == filter.size();
    if (filter[at] == '#' ? !last : !last && filter[at + 1] != '/') return false;
  }
  return true;
}

bool asks_to_share(std::string_view text) noexcept {
  return text.starts_with(shared_prefix) ||
         text == shared_prefix.substr(0, shared_prefix.size() - 1);
}

std::optional<shared_filter> split_shared_filter(std::string_view text) noexcept {
  if (!text.starts_with(shared_prefix)) return std::nullopt;
  const std::string_view both = text.substr(shared_prefix.size());
  const std::size_t end = both.find('/');
  if (end == 0 || end == std::string_view::npos) return std::nullopt;
  const shared_filter s{both.substr(0, end), both.substr(end + 1), both};
  if (!valid_topic_name(s.group) || !valid_topic_filter(s.filter)) return std::nullopt;
  return s;
}

bool topic_matches(std::string_view filter, std::string_view name) noexcept {
  if (name.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#'))) return false;
  // The strings are compared level by level. The position `end` means that a string has no level
  // left: "a/" still has an empty level behind the slash.
  constexpr std::size_t end = std::string_view::npos;
  std::size_t f = 0, n = 0;
  while (f != end) {
    const std::size_t f_end = filter.find('/', f);
    const std::string_view level = filter.substr(f, f_end == end ? end : f_end - f);
    if (level == "#") return true;
    if (n == end) return false;
    const std::size_t n_end = name.find('/', n);
    if (level != "+" && level != name.substr(n, n_end == end ? end : n_end - n)) return false;
    f = f_end == end ? end : f_end + 1;
    n = n_end == end ? end : n_end + 1;
  }
  return n == end;
}

} // namespace chainring
