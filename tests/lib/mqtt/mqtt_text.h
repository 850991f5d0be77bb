// SPDX-License-Identifier: BSD-3-Clause
/// MQTT messages as one line of text, `PUBACK packet_id=7 reason=16 p.reason_string=6869`. Tests
/// compare messages in this form and exchange them with other implementations. A line holds the
/// fields that the version has, always in the same order. Numbers are decimal, strings and binary
/// data are hexadecimal, and the items of a list are separated by commas.
#pragma once
#include <concepts>
#include <string>
#include <type_traits>

#include "mqtt/codec.h"

namespace chainring::mqtt::test {

inline std::string to_hex(octets data) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : data) {
    text += digits[std::to_integer<unsigned>(b) >> 4];
    text += digits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

inline std::string field_text(std::string_view v) {
  return to_hex(std::as_bytes(std::span(v)));
}
inline std::string field_text(octets v) {
  return to_hex(v);
}
template <class T>
requires std::integral<T> || std::is_enum_v<T> std::string field_text(T v) {
  return std::to_string(static_cast<unsigned long>(v));
}
inline std::string field_text(const user_property& v) {
  return field_text(v.name) + ":" + field_text(v.value);
}

/// Collects the fields of a line.
class line {
 public:
  line(std::string name, version v) : text_(std::move(name)), version_(v) {}

  template <class T> line& add(const std::string& name, const T& value) {
    text_ += " " + name + "=" + field_text(value);
    return *this;
  }
  template <class T> line& add(const std::string& name, const std::optional<T>& value) {
    return value ? add(name, *value) : *this;
  }
  template <class T> line& add(const std::string& name, const list<T>& items) {
    if (items.empty()) return *this;
    text_ += " " + name + "=";
    bool first = true;
    for (const T item : items) {
      text_ += (first ? "" : ",") + item_text(item);
      first = false;
    }
    return *this;
  }
  line& add(const std::string& prefix, const properties& p) {
    if (!v5()) return *this;
    return add(prefix + "payload_format_indicator", p.payload_format_indicator)
        .add(prefix + "message_expiry_s", p.message_expiry_s)
        .add(prefix + "content_type", p.content_type)
        .add(prefix + "response_topic", p.response_topic)
        .add(prefix + "correlation_data", p.correlation_data)
        .add(prefix + "subscription_ids", p.subscription_ids)
        .add(prefix + "session_expiry_s", p.session_expiry_s)
        .add(prefix + "assigned_client_id", p.assigned_client_id)
        .add(prefix + "server_keep_alive_s", p.server_keep_alive_s)
        .add(prefix + "authentication_method", p.authentication_method)
        .add(prefix + "authentication_data", p.authentication_data)
        .add(prefix + "request_problem_information", p.request_problem_information)
        .add(prefix + "will_delay_s", p.will_delay_s)
        .add(prefix + "request_response_information", p.request_response_information)
        .add(prefix + "response_information", p.response_information)
        .add(prefix + "server_reference", p.server_reference)
        .add(prefix + "reason_string", p.reason_string)
        .add(prefix + "receive_maximum", p.receive_maximum)
        .add(prefix + "topic_alias_maximum", p.topic_alias_maximum)
        .add(prefix + "topic_alias", p.topic_alias)
        .add(prefix + "maximum_qos", p.maximum_qos)
        .add(prefix + "retain_available", p.retain_available)
        .add(prefix + "maximum_packet_size", p.maximum_packet_size)
        .add(prefix + "wildcard_subscription_available", p.wildcard_subscription_available)
        .add(prefix + "subscription_ids_available", p.subscription_ids_available)
        .add(prefix + "shared_subscription_available", p.shared_subscription_available)
        .add(prefix + "user_properties", p.user_properties);
  }
  bool v5() const { return version_ == version::v5; }
  const std::string& text() const { return text_; }

 private:
  template <class T> static std::string item_text(const T& item) { return field_text(item); }
  std::string item_text(const subscription& item) const {
    std::string text = field_text(item.filter) + ":" + field_text(item.qos);
    if (v5())
      text += ":" + field_text(item.no_local) + ":" + field_text(item.retain_as_published) + ":" +
              field_text(item.retain_handling);
    return text;
  }
  std::string text_;
  version version_;
};

inline void add_fields(line& to, const connect& m) {
  to.add("clean_start", m.clean_start).add("keep_alive_s", m.keep_alive_s);
  to.add("client_id", m.client_id);
  if (m.will) {
    to.add("w.topic", m.will->topic).add("w.payload", m.will->payload);
    to.add("w.qos", m.will->qos).add("w.retain", m.will->retain);
    to.add("w.p.", m.will->properties);
  }
  to.add("user_name", m.user_name).add("password", m.password);
}
inline void add_fields(line& to, const connack& m) {
  to.add("session_present", m.session_present);
  if (to.v5()) {
    to.add("reason", m.reason);
  } else {
    to.add("return_code", m.return_code);
  }
}
inline void add_fields(line& to, const publish& m) {
  to.add("dup", m.dup).add("qos", m.qos).add("retain", m.retain);
  if (m.qos != qos_level::zero) to.add("packet_id", m.packet_id);
  to.add("topic", m.topic).add("payload", m.payload);
}
/// PUBACK, PUBREC, PUBREL, PUBCOMP, the messages with lists, DISCONNECT and AUTH.
template <class Message> void add_fields(line& to, const Message& m) {
  if constexpr (requires { m.packet_id; }) to.add("packet_id", m.packet_id);
  if constexpr (requires { m.reason; })
    if (to.v5()) to.add("reason", m.reason);
  if constexpr (requires { m.subscriptions; }) to.add("subscriptions", m.subscriptions);
  if constexpr (requires { m.filters; }) to.add("filters", m.filters);
  if constexpr (requires { m.reasons; }) to.add("reasons", m.reasons);
}

inline std::string to_text(version v, const message_body& body) {
  return std::visit(
      [&]<class M>(const M& m) -> std::string {
        if constexpr (std::same_as<M, std::monostate>) {
          return "-";
        } else {
          line to(M::name, v);
          add_fields(to, m);
          if constexpr (requires { m.properties; }) to.add("p.", m.properties);
          return to.text();
        }
      },
      body);
}

} // namespace chainring::mqtt::test
