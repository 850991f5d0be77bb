// SPDX-License-Identifier: BSD-3-Clause
#include "listeners.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace chainring::app {

namespace {

struct scheme {
  std::string_view name;
  std::uint16_t port; ///< the usual one
  bool tls, websocket;
};
constexpr std::array<scheme, 4> schemes{{{"mqtt", 1883, false, false},
                                         {"mqtts", 8883, true, false},
                                         {"ws", 8080, false, true},
                                         {"wss", 8081, true, true}}};

/// Reads settings such as max-connections=100&allow-anonymous=true.
result<void> read_settings(std::string_view text, mqtt::listener_config& l) {
  const auto refuse = [](const std::string& why) { return error{errc::invalid_argument, why}; };
  for (;;) {
    const std::size_t end = std::min(text.find('&'), text.size());
    const std::string_view one = text.substr(0, end);
    const std::string_view name = one.substr(0, std::min(one.find('='), one.size()));
    const std::string_view value = one.substr(std::min(name.size() + 1, one.size()));
    if (name == "max-connections") {
      const auto [last, status] =
          std::from_chars(value.data(), value.data() + value.size(), l.connections_max);
      if (status != std::errc{} || last != value.data() + value.size() || l.connections_max == 0 ||
          l.connections_max > 1'000'000)
        return refuse("expected max-connections from 1 to 1000000");
    } else if (name == "allow-anonymous") {
      if (value != "true" && value != "false")
        return refuse("expected allow-anonymous=true or allow-anonymous=false");
      l.allow_anonymous = value == "true";
    } else {
      return refuse("expected max-connections=N or allow-anonymous=true or =false behind the ?, "
                    "joined by &");
    }
    if (end == text.size()) return {};
    text.remove_prefix(end + 1);
  }
}

// Reads :PORT, which fills the text, if there is anything.
result<void> read_port(std::string_view text, std::uint16_t& port) {
  const auto refuse = [](const char* why) { return error{errc::invalid_argument, why}; };
  if (text.empty()) return {};
  if (text[0] != ':') return refuse("expected nothing but :PORT behind the address");
  text.remove_prefix(1);
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (status != std::errc{} || end != text.data() + text.size() || port == 0)
    return refuse("expected a port from 1 to 65535");
  return {};
}

constexpr std::string_view mqtt_sn = "mqttsn://";

} // namespace

bool is_of_mqtt_sn(const std::string& text) noexcept {
  return text.starts_with(mqtt_sn);
}

result<std::uint16_t> parse_mqtt_sn_listener(const std::string& text) {
  std::uint16_t port = 10000;
  const std::string_view rest = std::string_view(text).substr(mqtt_sn.size());
  if (!rest.empty() && rest[0] != ':')
    return error{errc::invalid_argument,
                 "'" + text +
                     "': MQTT-SN is served at all addresses, and its limits are options "
                     "of their own, such as --max-sessions; expected :PORT or nothing "
                     "behind mqttsn://"};
  if (auto read = read_port(rest, port); !read)
    return error{errc::invalid_argument, "'" + text + "': " + read.error().message};
  return port;
}

result<mqtt::listener_config> parse_listener(const std::string& text) {
  const auto refuse = [&](const std::string& why) {
    return error{errc::invalid_argument, "'" + text + "': " + why};
  };
  const std::size_t colon = std::min(text.find("://"), text.size());
  const auto s = std::ranges::find(schemes, std::string_view(text).substr(0, colon), &scheme::name);
  if (s == schemes.end() || colon == text.size())
    return refuse(
        "expected mqtt://, mqtts://, ws://, wss:// or mqttsn://, and :PORT where it is not the "
        "usual one");
  mqtt::listener_config l{.port = s->port, .tls = s->tls, .websocket = s->websocket};
  std::string_view rest = std::string_view(text).substr(colon + 3);
  if (const std::size_t mark = rest.find('?'); mark != std::string_view::npos) {
    if (auto read = read_settings(rest.substr(mark + 1), l); !read)
      return refuse(read.error().message);
    rest = rest.substr(0, mark);
  }
  if (const std::size_t slash = rest.find('/'); slash != std::string_view::npos) {
    if (!s->websocket)
      return refuse("only ws:// and wss:// have a path; expected nothing behind the port");
    l.path = rest.substr(slash);
    if (std::ranges::any_of(l.path, [](char c) { return c <= ' ' || c == '#' || c == '\x7f'; }))
      return refuse("expected a path without blanks and #");
    rest = rest.substr(0, slash);
  }
  // An IPv6 address stands in brackets, because it has colons of its own.
  const std::size_t bracket = rest.find(']');
  const std::size_t size = rest.starts_with('[') && bracket != std::string_view::npos
                               ? bracket + 1
                               : std::min(rest.find(':'), rest.size());
  if (size != 0) {
    const std::string address(rest.substr(0, size));
    if (address.starts_with('[')) {
      auto ipv6 = net::parse_ipv6(address.substr(1, address.size() - 2));
      if (!ipv6) return refuse(ipv6.error().message);
      l.address = *ipv6;
    } else {
      auto ipv4 = net::parse_ipv4(address);
      if (!ipv4) return refuse(ipv4.error().message);
      l.address = *ipv4;
    }
    rest.remove_prefix(address.size());
  }
  if (auto read = read_port(rest, l.port); !read) return refuse(read.error().message);
  return l;
}

std::string to_string(const mqtt::listener_config& l) {
  const auto s = std::ranges::find_if(
      schemes, [&](const scheme& one) { return one.tls == l.tls && one.websocket == l.websocket; });
  std::string address = l.address ? net::to_string(*l.address) : "";
  if (l.address && !l.address->is_ipv4()) address = "[" + address + "]";
  return std::string(s->name) + "://" + address + ":" + std::to_string(l.port) +
         (l.websocket ? l.path : "");
}

} // namespace chainring::app
