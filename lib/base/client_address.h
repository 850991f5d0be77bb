// SPDX-License-Identifier: BSD-3-Clause
/// The address of a client: equal for equal senders, and opaque to everything but the transport
/// that made it.
#pragma once
#include <array>
#include <compare>
#include <cstdint>

namespace chainring {

/// Three words without padding, so that maps can compare and hash them as bytes. All zero means no
/// address; no transport makes it.
struct client_address {
  std::array<std::uint64_t, 3> words{};

  constexpr client_address() noexcept = default;
  constexpr client_address(std::uint64_t high, std::uint64_t low, std::uint64_t rest) noexcept
      : words{high, low, rest} {}
  /// The address in a transport that numbers its clients, such as one of a test; 0 is no address.
  constexpr client_address(std::uint64_t number) noexcept : words{0, number, 0} {}

  // Word by word: for the array compilers call memcmp().
  friend constexpr bool operator==(const client_address& a, const client_address& b) noexcept {
    return ((a.words[0] ^ b.words[0]) | (a.words[1] ^ b.words[1]) | (a.words[2] ^ b.words[2])) == 0;
  }
  friend constexpr auto operator<=>(const client_address&,
                                    const client_address&) noexcept = default;
};

} // namespace chainring
