// SPDX-License-Identifier: BSD-3-Clause
/// IPv4 and IPv6 addresses, prefixes and UDP endpoints, all as numbers in host byte order.
///
/// All functions are thread-safe. The text functions allocate and belong to the control path.
#pragma once
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "../base/client_address.h"
#include "../base/error.h"

namespace chainring::net {

/// An IPv4 or an IPv6 address. An IPv4 address is held as its IPv4-mapped IPv6 address (RFC 4291,
/// 2.5.5.2), which never appears on the wire. The default is the unspecified IPv6 address.
struct ip_address {
  std::uint64_t high = 0; ///< the first eight octets of the IPv6 address
  std::uint64_t low = 0;  ///< the last eight

  constexpr ip_address() noexcept = default;
  constexpr ip_address(std::uint64_t first_half, std::uint64_t second_half) noexcept
      : high(first_half), low(second_half) {}
  constexpr ip_address(std::uint32_t ipv4) noexcept : low(mapped << 32 | ipv4) {}

  [[nodiscard]] constexpr bool is_ipv4() const noexcept {
    return (high | (low >> 32 ^ mapped)) == 0;
  }
  /// The IPv4 address, when is_ipv4().
  [[nodiscard]] constexpr std::uint32_t ipv4() const noexcept {
    return static_cast<std::uint32_t>(low);
  }
  friend constexpr auto operator<=>(const ip_address&, const ip_address&) noexcept = default;

 private:
  static constexpr std::uint64_t mapped = 0xFFFF;
};

/// The source or destination of a datagram. Its key() identifies a client.
struct endpoint {
  ip_address address{};
  std::uint16_t port = 0;
  /// The interface_config::interface_id of the port through which the endpoint is reached.
  std::uint16_t interface_id = 0;

  /// Two endpoints are equal when their keys are equal. No key of an IP address that a host can
  /// have is zero.
  [[nodiscard]] constexpr client_address key() const noexcept {
    return {address.high, address.low, std::uint64_t{port} << 16 | interface_id};
  }
  [[nodiscard]] static constexpr endpoint from_key(const client_address& key) noexcept {
    return {{key.words[0], key.words[1]},
            static_cast<std::uint16_t>(key.words[2] >> 16),
            static_cast<std::uint16_t>(key.words[2])};
  }
  friend constexpr auto operator<=>(const endpoint&, const endpoint&) noexcept = default;
};

/// Formats an address as "10.0.0.7" or "2001:db8::7".
[[nodiscard]] std::string to_string(const ip_address& a);
/// Formats an endpoint as "10.0.0.7:1883%0" or "[2001:db8::7]:1883%0": address, port and interface.
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
