// SPDX-License-Identifier: BSD-3-Clause
/// How typed structures store their values: as bytes.
#pragma once
#include "compiler.h"

#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace chainring {

/// The bytes of a string, or of a plain value.
[[nodiscard]] inline std::span<const std::byte> bytes_of(std::string_view s) noexcept {
  return std::as_bytes(std::span(s.data(), s.size()));
}
template <class T>
requires(std::is_trivially_copyable_v<T> && !std::is_convertible_v<T, std::string_view>)
    [[nodiscard]] std::span<const std::byte> bytes_of(const T& value) noexcept {
  return std::as_bytes(std::span(&value, 1));
}

namespace detail {

/// How a type is stored as bytes, and how it is passed to a call: std::string, or trivially
/// copyable.
template <class T> struct stored_as_bytes {
  static_assert(std::is_trivially_copyable_v<T>,
                "a type of a durable structure is std::string or trivially copyable");
  using argument = const T&;
  /// The size of a fixed type; 0 for a string.
  static constexpr std::size_t fixed = sizeof(T);
  static std::span<const std::byte> bytes(argument value) noexcept {
    return std::as_bytes(std::span(&value, 1));
  }
  static bool fits(std::span<const std::byte> bytes) noexcept { return bytes.size() == sizeof(T); }
  static T of(std::span<const std::byte> bytes) noexcept {
    T value;
    std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof value);
    return value;
  }
};
template <> struct stored_as_bytes<std::string> {
  using argument = std::string_view;
  static constexpr std::size_t fixed = 0;
  static std::span<const std::byte> bytes(argument value) noexcept { return bytes_of(value); }
  static bool fits(std::span<const std::byte>) noexcept { return true; }
  static std::string of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

} // namespace detail
} // namespace chainring
