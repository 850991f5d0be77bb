// SPDX-License-Identifier: BSD-3-Clause
#include "base/escape.h"

#include <array>
#include <cstdint>
#include <cstdio>

namespace chainring {

namespace {

/// A code point at the start of a text and its length in octets. The length is 0 if the text does
/// not start with valid UTF-8.
struct character {
  std::uint32_t code = 0;
  std::size_t size = 0;
};
character first_of(std::string_view text) noexcept {
  const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::uint32_t lead = octet(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t size = lead >= 0xF0 && lead < 0xF5   ? 4
                           : lead >= 0xE0 && lead < 0xF0 ? 3
                           : lead >= 0xC2 && lead < 0xE0 ? 2
                                                         : 0;
  if (size == 0 || size > text.size()) return {};
  std::uint32_t code = lead & (0xFFu >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((octet(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (octet(i) & 0x3Fu);
  }
  constexpr std::array<std::uint32_t, 5> least = {0, 0, 0x80, 0x800, 0x10000};
  if (code < least[size] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return {};
  return {code, size};
}

std::string unicode(std::uint32_t code) {
  std::array<char, 16> text{};
  if (code > 0xFFFF) {
    code -= 0x10000;
    (void)std::snprintf(text.data(), text.size(), "\\u%04x\\u%04x", 0xD800 + (code >> 10),
                        0xDC00 + (code & 0x3FF));
  } else {
    (void)std::snprintf(text.data(), text.size(), "\\u%04x", code);
  }
  return text.data();
}

std::string octet_of(unsigned char o) {
  std::array<char, 8> text{};
  (void)std::snprintf(text.data(), text.size(), "\\x%02x", o);
  return text.data();
}

} // namespace

std::string escape(std::string_view text, std::size_t size_max) {
  constexpr std::string_view cut = "...";
  std::string out;
  std::size_t fits = 0; // length of the part of `out` that leaves room for the mark of a cut
  while (!text.empty()) {
    const character c = first_of(text);
    std::string one;
    if (c.size == 0)
      one = octet_of(static_cast<unsigned char>(text[0]));
    else if (c.code == '"' || c.code == '\\')
      one = {'\\', static_cast<char>(c.code)};
    else if (c.code < 0x20 || c.code >= 0x7F)
      one = unicode(c.code);
    else
      one = static_cast<char>(c.code);
    if (out.size() + one.size() > size_max) {
      out.resize(fits);
      return size_max < cut.size() ? "" : out + std::string(cut);
    }
    out += one;
    if (out.size() + cut.size() <= size_max) fits = out.size();
    text.remove_prefix(c.size == 0 ? 1 : c.size);
  }
  return out;
}

} // namespace chainring
