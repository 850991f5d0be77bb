// SPDX-License-Identifier: BSD-3-Clause
/// Checks of arguments that several programs share. Their refusals say what is accepted.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "size.h"

namespace chainring::app {

/// Accepts what parse_size() accepts, from `least` bytes up, and turns it into a plain number.
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

/// Adds an option that takes a whole number from `low` to `high`.
template <class T>
CLI::Option* number(CLI::App& a, const char* name, T& to, T low, T high, const char* text) {
  return a.add_option(name, to, text)
      ->check(CLI::Range(std::uint64_t{low}, std::uint64_t{high},
                         std::to_string(low) + " to " + std::to_string(high)))
      ->capture_default_str();
}

} // namespace chainring::app
