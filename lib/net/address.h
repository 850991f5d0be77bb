// SPDX-License-Identifier: BSD-3-Clause
/// IPv4 addresses, prefixes and UDP endpoints, all in host byte order.
///
/// All functions are thread-safe. The text functions allocate and belong to the control path.
#pragma once
#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "../base/error.h"

namespace chainring::net {

/// The source or destination of a datagram, in host byte order. Its key() identifies a client.
struct endpoint {
  std::uint32_t ipv4 = 0;
  std::uint16_t port = 0;
  /// The interface_config::interface_id of the port through which the endpoint is reached.
  std::uint16_t interface_id = 0;

  /// Packs the endpoint into one word. Two endpoints are equal when their keys are equal.
  [[nodiscard]] constexpr std::uint64_t key() const noexcept {
    return std::uint64_t{ipv4} << 32 | std::uint64_t{port} << 16 | interface_id;
  }
  [[nodiscard]] static constexpr endpoint from_key(std::uint64_t key) noexcept {
    return {static_cast<std::uint32_t>(key >> 32), static_cast<std::uint16_t>(key >> 16),
            static_cast<std::uint16_t>(key)};
  }
  friend constexpr auto operator<=>(const endpoint&, const endpoint&) noexcept = default;
};

/// Formats an endpoint as "10.0.0.7:1883%0": address, port and interface.
[[nodiscard]] std::string to_string(const endpoint& e);

/// An interface's address with the length of its link's prefix, such as 192.0.2.1/24.
struct ipv4_prefix {
  std::uint32_t address = 0;
  std::uint8_t length = 0; ///< 0 to 32

  [[nodiscard]] constexpr std::uint32_t mask() const noexcept {
    return length == 0 ? 0 : ~std::uint32_t{0} << (length < 32 ? 32 - length : 0);
  }
  [[nodiscard]] constexpr bool contains(std::uint32_t ipv4) const noexcept {
    return ((ipv4 ^ address) & mask()) == 0;
  }
  /// The directed broadcast address, or 0 when the prefix is too long to have one.
  [[nodiscard]] constexpr std::uint32_t broadcast() const noexcept {
    return length >= 31 ? 0 : address | ~mask();
  }
  /// True for an address on the link that no single host has: the address of the network, which is
  /// an old broadcast address, or the directed broadcast address.
  [[nodiscard]] constexpr bool is_no_host(std::uint32_t ipv4) const noexcept {
    return length < 31 && contains(ipv4) && ((ipv4 & ~mask()) == 0 || ipv4 == broadcast());
  }
};

[[nodiscard]] constexpr bool is_multicast(std::uint32_t ipv4) noexcept {
  return ipv4 >> 28 == 0xE;
}

/// True for an address that a host can have: not in network 0, loopback, multicast or class E.
[[nodiscard]] constexpr bool is_unicast(std::uint32_t ipv4) noexcept {
  return ipv4 >> 24 != 0 && ipv4 >> 24 != 127 && ipv4 >> 28 < 0xE;
}

/// Parses a dotted quad. It refuses anything else, also leading zeroes and a NUL anywhere.
[[nodiscard]] result<std::uint32_t> parse_ipv4(std::string_view text);
/// Parses "192.0.2.1/24"; without a slash the length is 32.
[[nodiscard]] result<ipv4_prefix> parse_ipv4_prefix(std::string_view text);
[[nodiscard]] std::string format_ipv4(std::uint32_t ipv4);

} // namespace chainring::net

template <> struct std::hash<chainring::net::endpoint> {
  std::size_t operator()(const chainring::net::endpoint& e) const noexcept {
    // Fibonacci hashing, which mixes into the high bits.
    std::uint64_t x = e.key() * 0x9E3779B97F4A7C15u;
    return static_cast<std::size_t>(x ^ (x >> 32));
  }
};
