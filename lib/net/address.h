// SPDX-License-Identifier: BSD-3-Clause
/// IPv4 and IPv6 addresses, prefixes and UDP endpoints, all as numbers in host byte order.
///
/// All functions are thread-safe. The text functions allocate and belong to the control path.
#pragma once
#include <compare>
#include <cstdint>
#include <cstring>
#include <rte_byteorder.h>
#include <rte_ether.h>
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

/// Reads an IPv6 address from its 16 octets in a packet, and writes it there.
[[nodiscard]] inline ip_address load_ipv6(const void* at) noexcept {
  std::uint64_t words[2];
  std::memcpy(words, at, sizeof words);
  return {rte_be_to_cpu_64(words[0]), rte_be_to_cpu_64(words[1])};
}
inline void store_ipv6(void* at, const ip_address& a) noexcept {
  const std::uint64_t words[2] = {rte_cpu_to_be_64(a.high), rte_cpu_to_be_64(a.low)};
  std::memcpy(at, words, sizeof words);
}

/// Returns a number for the host at an address, for limits that count all that one host sends. An
/// IPv6 host chooses its addresses within a prefix of 64 bits, so the prefix stands for it.
[[nodiscard]] constexpr std::uint64_t host_of(const ip_address& a) noexcept {
  return a.high != 0 ? a.high : a.low;
}

/// The source or destination of a datagram. Its key() identifies a client.
struct endpoint {
  ip_address address{};
  std::uint16_t port = 0;
  /// The interface_config::interface_id of the port through which the endpoint is reached.
  std::uint16_t interface_id = 0; ///< at most interface_id_max
  /// For a client over IPv6: it sent its datagram to the other one of the port's two addresses than
  /// receive_filter::own_address() names for it. The answers leave from that address, because a
  /// client takes no answer from another one.
  bool other_own = false;
  static constexpr std::uint16_t interface_id_max = 0x7FFF;

  /// Two endpoints are equal when their keys are equal. No key of an IP address that a host can
  /// have is zero.
  [[nodiscard]] constexpr client_address key() const noexcept {
    return {address.high, address.low, std::uint64_t{port} << 16 |
                                             std::uint64_t{other_own} << 15 | interface_id};
  }
  [[nodiscard]] static constexpr endpoint from_key(const client_address& key) noexcept {
    return {{key.words[0], key.words[1]},
            static_cast<std::uint16_t>(key.words[2] >> 16),
            static_cast<std::uint16_t>(key.words[2] & interface_id_max),
            (key.words[2] >> 15 & 1) != 0};
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

/// An interface's IPv6 address with the length of its link's prefix, such as 2001:db8::1/64.
struct ipv6_prefix {
  ip_address address{}; ///< unspecified means that there is no address
  std::uint8_t length = 64;

  [[nodiscard]] constexpr bool contains(const ip_address& a) const noexcept {
    const auto differs = [](std::uint64_t x, std::uint64_t y, unsigned bits) {
      return bits != 0 && (x ^ y) >> (64 - bits) != 0;
    };
    return !differs(a.high, address.high, length < 64 ? length : 64u) &&
           !differs(a.low, address.low, length > 64 ? length - 64u : 0u);
  }
};

[[nodiscard]] constexpr bool is_multicast(std::uint32_t ipv4) noexcept {
  return ipv4 >> 28 == 0xE;
}
[[nodiscard]] constexpr bool is_multicast(const ip_address& a) noexcept {
  return a.is_ipv4() ? is_multicast(a.ipv4()) : a.high >> 56 == 0xFF;
}
/// True for fe80::/10, whose addresses are valid on one link only.
[[nodiscard]] constexpr bool is_link_local(const ip_address& a) noexcept {
  return a.high >> 54 == 0xFE80 >> 6;
}
/// True for an IPv6 address that a host on a wire can have: not unspecified, loopback, a group, or
/// IPv4-mapped or -compatible.
[[nodiscard]] constexpr bool is_unicast_ipv6(const ip_address& a) noexcept {
  return a.high >> 56 != 0xFF && !(a.high == 0 && (a.low >> 32 == 0 || a.is_ipv4()));
}

inline constexpr ip_address all_nodes{0xFF02'0000'0000'0000, 1}; ///< ff02::1
/// The group in which a neighbour with this address is asked for (RFC 4291, 2.7.1).
[[nodiscard]] constexpr ip_address solicited_node(const ip_address& a) noexcept {
  return {0xFF02'0000'0000'0000, 0x1'FF00'0000 | (a.low & 0xFF'FFFF)};
}
/// The link-local address of an interface with this MAC. Its last half is the MAC with 4368 in the
/// middle, and not with fffe as in most hosts' (RFC 4291, appendix A): both ends of a TAP port have
/// the same MAC, and must not have the same address.
[[nodiscard]] constexpr ip_address link_local_of(const rte_ether_addr& mac) noexcept {
  const auto& b = mac.addr_bytes;
  const auto octet = [&b](unsigned i) { return std::uint64_t{b[i]}; };
  constexpr std::uint64_t middle = 0x4368;
  return {0xFE80'0000'0000'0000, (octet(0) ^ 2) << 56 | octet(1) << 48 | octet(2) << 40 |
                                     middle << 24 | octet(3) << 16 | octet(4) << 8 | octet(5)};
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
/// Parses an IPv6 address such as "2001:db8::1". It refuses IPv4-mapped addresses.
[[nodiscard]] result<ip_address> parse_ipv6(std::string_view text);
/// Parses "2001:db8::1/64"; without a slash the length is 128.
[[nodiscard]] result<ipv6_prefix> parse_ipv6_prefix(std::string_view text);

} // namespace chainring::net
