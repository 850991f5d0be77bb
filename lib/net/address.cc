// SPDX-License-Identifier: BSD-3-Clause
#include "net/address.h"

#include <arpa/inet.h>
#include <charconv>

namespace chainring::net {

std::string format_ipv4(std::uint32_t ipv4) {
  return std::to_string(ipv4 >> 24) + "." + std::to_string(ipv4 >> 16 & 255) + "." +
         std::to_string(ipv4 >> 8 & 255) + "." + std::to_string(ipv4 & 255);
}

std::string to_string(const ip_address& a) {
  if (a.is_ipv4()) return format_ipv4(a.ipv4());
  in6_addr octets;
  store_ipv6(&octets, a);
  char text[INET6_ADDRSTRLEN] = {};
  (void)inet_ntop(AF_INET6, &octets, text, sizeof text); // it fails only without room
  return text;
}

std::string to_string(const endpoint& e) {
  const std::string address = to_string(e.address);
  return (e.address.is_ipv4() ? address : "[" + address + "]") + ":" + std::to_string(e.port) +
         "%" + std::to_string(e.interface_id);
}

result<std::uint32_t> parse_ipv4(std::string_view text) {
  in_addr a{};
  // inet_pton() accepts only a dotted quad without leading zeroes, but it stops at a NUL.
  if (text.find('\0') != std::string_view::npos ||
      inet_pton(AF_INET, std::string(text).c_str(), &a) != 1)
    return error{errc::invalid_argument,
                 std::string("'").append(text) + "': expected an IPv4 address such as 192.0.2.1"};
  return ntohl(a.s_addr);
}

namespace {

/// Parses what follows the slash in `text`, or returns `most` where there is no slash.
result<std::uint8_t> parse_length(std::string_view text, unsigned most) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return static_cast<std::uint8_t>(most);
  const std::string_view length = text.substr(slash + 1);
  unsigned n = 0;
  const auto [end, failed] = std::from_chars(length.data(), length.data() + length.size(), n);
  if (failed != std::errc{} || end != length.data() + length.size() || n > most ||
      (length.size() > 1 && length.front() == '0'))
    return error{errc::invalid_argument, std::string("'").append(text) +
                                             "': expected a prefix length of 0 to " +
                                             std::to_string(most) + " after the slash"};
  return static_cast<std::uint8_t>(n);
}

} // namespace

result<ipv4_prefix> parse_ipv4_prefix(std::string_view text) {
  auto address = parse_ipv4(text.substr(0, text.find('/')));
  if (!address) return address.error();
  auto length = parse_length(text, 32);
  if (!length) return length.error();
  return ipv4_prefix{*address, *length};
}

result<ip_address> parse_ipv6(std::string_view text) {
  in6_addr octets{};
  const bool read = text.find('\0') == std::string_view::npos &&
                    inet_pton(AF_INET6, std::string(text).c_str(), &octets) == 1;
  const ip_address a = load_ipv6(&octets);
  if (!read || a.is_ipv4())
    return error{errc::invalid_argument,
                 std::string("'").append(text) + "': expected an IPv6 address such as 2001:db8::1"};
  return a;
}

result<ipv6_prefix> parse_ipv6_prefix(std::string_view text) {
  auto address = parse_ipv6(text.substr(0, text.find('/')));
  if (!address) return address.error();
  auto length = parse_length(text, 128);
  if (!length) return length.error();
  return ipv6_prefix{*address, *length};
}

} // namespace chainring::net
