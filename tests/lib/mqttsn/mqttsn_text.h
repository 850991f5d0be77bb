// SPDX-License-Identifier: BSD-3-Clause
/// MQTT-SN messages as one line of text, `PUBLISH flags=32 topic_id=1 msg_id=7 data=6869`, and
/// back. Tests compare messages in this form and exchange them with other implementations. Numbers
/// are decimal; strings and spans are hexadecimal.
#pragma once
#include <charconv>
#include <concepts>
#include <deque>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "mqttsn/codec.h"

namespace chainring::mqttsn::test {

inline std::string to_hex(octets data) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : data) {
    text += digits[std::to_integer<unsigned>(b) >> 4];
    text += digits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

inline std::vector<std::byte> from_hex(std::string_view text) {
  std::vector<std::byte> data;
  std::string digits;
  for (const char c : text)
    if (c != ' ') digits += c;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    unsigned value = 0;
    std::from_chars(&digits[i], &digits[i] + 2, value, 16);
    data.push_back(std::byte(value));
  }
  return data;
}

/// Calls visit(name, member) for each field that is sent on the wire.
template <class M, class V> void for_each_field(M& m, V visit) {
  if constexpr (requires { m.gw_id; }) visit("gw_id", m.gw_id);
  if constexpr (requires { m.erase; }) visit("erase", m.erase);
  if constexpr (requires { m.flags; }) visit("flags", m.flags.octet);
  if constexpr (requires { m.protocol; }) visit("protocol", m.protocol);
  if constexpr (requires { m.keep_alive_s; }) visit("keep_alive_s", m.keep_alive_s);
  if constexpr (requires { m.has_duration; }) visit("has_duration", m.has_duration);
  if constexpr (requires { m.duration_s; }) visit("duration_s", m.duration_s);
  if constexpr (requires { m.radius; }) visit("radius", m.radius);
  if constexpr (requires { m.topic_id; }) visit("topic_id", m.topic_id);
  if constexpr (requires { m.msg_id; }) visit("msg_id", m.msg_id);
  if constexpr (requires { m.code; }) visit("code", m.code);
  if constexpr (requires { m.client_id; }) visit("client_id", m.client_id);
  if constexpr (requires { m.topic; }) visit("topic", m.topic);
  if constexpr (requires { m.gw_address; }) visit("gw_address", m.gw_address);
  if constexpr (requires { m.data; }) visit("data", m.data);
  if constexpr (requires { m.node_id; }) visit("node_id", m.node_id);
  if constexpr (requires { m.inner; }) visit("inner", m.inner);
}

inline std::string field_text(std::string_view v) {
  return to_hex(std::as_bytes(std::span(v)));
}
inline std::string field_text(octets v) {
  return to_hex(v);
}
inline std::string field_text(return_code v) {
  return std::to_string(static_cast<int>(v));
}
template <std::integral T> std::string field_text(T v) {
  return std::to_string(v);
}

inline std::string to_text(const message_body& body) {
  return std::visit(
      []<class M>(const M& m) -> std::string {
        if constexpr (std::same_as<M, std::monostate>) {
          return "-";
        } else {
          std::string text = to_string(M::type);
          for_each_field(m, [&](const char* name, const auto& value) {
            text += std::string(" ") + name + "=" + field_text(value);
          });
          return text;
        }
      },
      body);
}

/// Reads what to_text() writes. Missing fields keep their defaults. The strings are kept in
/// `storage`.
inline std::optional<message_body> from_text(const std::string& line,
                                             std::deque<std::vector<std::byte>>& storage) {
  std::istringstream in(line);
  std::string type, word;
  in >> type;
  std::map<std::string, std::string> fields;
  while (in >> word)
    fields[word.substr(0, word.find('='))] = word.substr(word.find('=') + 1);
  std::optional<message_body> found;
  const auto attempt = [&]<class M>(M m) {
    if constexpr (!std::same_as<M, std::monostate>) {
      if (type != to_string(M::type)) return;
      for_each_field(m, [&]<class T>(const char* name, T& value) {
        const auto field = fields.find(name);
        if (field == fields.end()) return;
        if constexpr (std::same_as<T, octets>) {
          value = storage.emplace_back(from_hex(field->second));
        } else if constexpr (std::same_as<T, std::string_view>) {
          const auto& bytes = storage.emplace_back(from_hex(field->second));
          value = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
        } else {
          value = static_cast<T>(std::stoul(field->second));
        }
      });
      found = m;
    }
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (attempt(std::variant_alternative_t<I, message_body>{}), ...);
  }
  (std::make_index_sequence<std::variant_size_v<message_body>>{});
  return found;
}

} // namespace chainring::mqttsn::test
