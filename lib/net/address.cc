// SPDX-License-Identifier: BSD-3-Clause
#include "net/address.h"

#include <arpa/inet.h>
#include <charconv>
#include <rte_byteorder.h>

namespace chainring::net {

std::string format_ipv4(std::uint32_t ipv4) {
  return std::to_string(ipv4 >> 24) + "." + std::to_string(ipv4 >> 16 & 255) + "." +
         std::to_string(ipv4 >> 8 & 255) + "." + std::to_string(ipv4 & 255);
}

std::string to_string(const ip_address& a) {
  if (a.is_ipv4()) return format_ipv4(a.ipv4());
  const std::uint64_t words[2] = {rte_cpu_to_be_64(a.high), rte_cpu_to_be_64(a.low)};
  char text[INET6_ADDRSTRLEN] = {};
  (void)inet_ntop(AF_INET6, words, text, sizeof text); // it fails only without room
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

result<ipv4_prefix> parse_ipv4_prefix(std::string_view text) {
  const std::size_t slash = text.find('/');
  auto address = parse_ipv4(text.substr(0, slash));
  if (!address) return address.error();
  ipv4_prefix p{*address, 32};
  if (slash == std::string_view::npos) return p;
  const std::string_view length = text.substr(slash + 1);
  unsigned n = 0;
  const auto [end, failed] = std::from_chars(length.data(), length.data() + length.size(), n);
  if (failed != std::errc{} || end != length.data() + length.size() || n > 32 ||
      (length.size() > 1 && length.front() == '0'))
    return error{errc::invalid_argument,
                 std::string("'").append(text) +
                     "': expected a prefix length of 0 to 32 after the slash"};
  p.length = static_cast<std::uint8_t>(n);
  return p;
}

} // namespace chainring::net
