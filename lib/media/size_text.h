// SPDX-License-Identifier: BSD-3-Clause
/// Sizes in the form in which people write them. Not installed.
#pragma once
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "../base/error.h"
#include "mapping.h"

namespace chainring {

/// Returns a size in the largest unit that leaves no fraction, such as "64M".
[[nodiscard]] inline std::string size_name(std::uint64_t bytes) {
  constexpr std::string_view units = "KMGT";
  std::size_t unit = 0;
  for (; unit < units.size() && bytes != 0 && bytes % 1024 == 0; ++unit)
    bytes /= 1024;
  return std::to_string(bytes) + (unit == 0 ? std::string() : std::string(1, units[unit - 1]));
}

/// Parses "67108864" or "64M" into bytes. The units are K, M, G and T in either case; the largest
/// size is that of a region.
[[nodiscard]] inline result<std::uint64_t> parse_size(const std::string& text) {
  std::uint64_t n = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, n);
  const std::string_view unit(read.ptr, end);
  constexpr std::string_view units = "KMGTkmgt";
  const std::size_t which = unit.size() == 1 ? units.find(unit[0]) : std::string_view::npos;
  const bool number = read.ptr != text.data() && (unit.empty() || which != std::string_view::npos);
  const std::size_t shift = unit.empty() || !number ? 0 : 10 * (which % 4 + 1);
  if (!number || read.ec != std::errc() || n > detail::region_size_max >> shift)
    return error{errc::invalid_argument,
                 "'" + text +
                     "': expected bytes, or a number with K, M, G or T such as 256M, up to " +
                     size_name(detail::region_size_max)};
  return n << shift;
}

} // namespace chainring
