// SPDX-License-Identifier: BSD-3-Clause
/// What several programs check of their arguments, with refusals that say what is accepted.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "size.h"

namespace chainring::app {

/// parse_size(), from `least` up: the text becomes a plain number of bytes.
inline CLI::Validator size_text(std::uint64_t least) {
  return CLI::Validator(
      [least](std::string& text) {
        auto bytes = parse_size(text);
        if (!bytes) return bytes.error().message;
        if (*bytes < least) return "'" + text + "': expected at least " + size_name(least);
        text = std::to_string(*bytes);
        return std::string();
      },
      "SIZE");
}

/// A whole number from `low` to `high`.
template <class T>
CLI::Option* number(CLI::App& a, const char* name, T& to, T low, T high, const char* text) {
  return a.add_option(name, to, text)
      ->check(CLI::Range(std::uint64_t{low}, std::uint64_t{high},
                         std::to_string(low) + " to " + std::to_string(high)))
      ->capture_default_str();
}

} // namespace chainring::app
