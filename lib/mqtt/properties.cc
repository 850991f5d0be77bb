// SPDX-License-Identifier: BSD-3-Clause
#include "mqtt/reader.h"

#include <array>
#include <initializer_list>

#include "mqtt/list_access.h"

namespace chainring::mqtt {
namespace {

constexpr std::uint64_t bit(property_id id) noexcept {
  return std::uint64_t{1} << static_cast<unsigned>(id);
}
constexpr std::uint64_t bits(std::initializer_list<property_id> ids) noexcept {
  std::uint64_t all = 0;
  for (const property_id id : ids)
    all |= bit(id);
  return all;
}

/// The properties that each packet type may have (table 2-4), and at index 0 those of a will.
constexpr std::array<std::uint64_t, 16> allowed = [] {
  using id = property_id;
  constexpr std::uint64_t of_message =
      bits({id::payload_format_indicator, id::message_expiry_interval, id::content_type,
            id::response_topic, id::correlation_data, id::user_property});
  constexpr std::uint64_t of_answer = bits({id::reason_string, id::user_property});
  constexpr std::uint64_t of_both_ends =
      bits({id::session_expiry_interval, id::receive_maximum, id::maximum_packet_size,
            id::topic_alias_maximum, id::authentication_method, id::authentication_data,
            id::user_property});
  std::array<std::uint64_t, 16> table{};
  const auto of = [&](packet_type type) -> std::uint64_t& {
    return table[static_cast<std::size_t>(type)];
  };
  table[0] = of_message | bit(id::will_delay_interval);
  of(packet_type::connect) =
      of_both_ends | bits({id::request_response_information, id::request_problem_information});
  of(packet_type::connack) =
      of_both_ends |
      bits({id::assigned_client_identifier, id::server_keep_alive, id::response_information,
            id::server_reference, id::reason_string, id::maximum_qos, id::retain_available,
            id::wildcard_subscription_available, id::subscription_identifier_available,
            id::shared_subscription_available});
  of(packet_type::publish) = of_message | bits({id::topic_alias, id::subscription_identifier});
  for (const auto type : {packet_type::puback, packet_type::pubrec, packet_type::pubrel,
                          packet_type::pubcomp, packet_type::suback, packet_type::unsuback})
    of(type) = of_answer;
  of(packet_type::subscribe) = bits({id::subscription_identifier, id::user_property});
  of(packet_type::unsubscribe) = bit(id::user_property);
  of(packet_type::disconnect) =
      of_answer | bits({id::session_expiry_interval, id::server_reference});
  of(packet_type::auth) = of_answer | bits({id::authentication_method, id::authentication_data});
  return table;
}();

/// A boolean is 0 or 1. Any other value is a protocol error.
void read(reader& in, std::optional<bool>& to) noexcept {
  const std::uint8_t value = in.u8();
  if (value > 1) in.refuse(decode_status::protocol_error);
  to = value != 0;
}
void read(reader& in, std::optional<qos_level>& to) noexcept {
  const std::uint8_t value = in.u8();
  if (value > 1) in.refuse(decode_status::protocol_error);
  to = qos_level(value & 1);
}
void read(reader& in, std::optional<std::uint16_t>& to) noexcept {
  to = in.u16();
}
void read(reader& in, std::optional<std::uint32_t>& to) noexcept {
  to = in.u32();
}
void read(reader& in, std::optional<std::string_view>& to) noexcept {
  to = in.text();
}
void read(reader& in, std::optional<octets>& to) noexcept {
  to = in.binary();
}

template <class Number>
void read_positive(reader& in, std::optional<Number>& to, decode_status otherwise) noexcept {
  read(in, to);
  if (*to == 0) in.refuse(otherwise);
}

void read_value(reader& in, property_id id, const std::byte* start, properties& p) noexcept {
  switch (id) {
  case property_id::payload_format_indicator:
    return read(in, p.payload_format_indicator);
  case property_id::message_expiry_interval:
    return read(in, p.message_expiry_s);
  case property_id::content_type:
    return read(in, p.content_type);
  case property_id::response_topic:
    p.response_topic = in.topic_name();
    return;
  case property_id::correlation_data:
    return read(in, p.correlation_data);
  case property_id::subscription_identifier:
    if (in.variable_integer() == 0) in.refuse(decode_status::protocol_error);
    list_access::add(p.subscription_ids, {start, in.at()});
    return;
  case property_id::session_expiry_interval:
    return read(in, p.session_expiry_s);
  case property_id::assigned_client_identifier:
    return read(in, p.assigned_client_id);
  case property_id::server_keep_alive:
    return read(in, p.server_keep_alive_s);
  case property_id::authentication_method:
    return read(in, p.authentication_method);
  case property_id::authentication_data:
    return read(in, p.authentication_data);
  case property_id::request_problem_information:
    return read(in, p.request_problem_information);
  case property_id::will_delay_interval:
    return read(in, p.will_delay_s);
  case property_id::request_response_information:
    return read(in, p.request_response_information);
  case property_id::response_information:
    return read(in, p.response_information);
  case property_id::server_reference:
    return read(in, p.server_reference);
  case property_id::reason_string:
    return read(in, p.reason_string);
  case property_id::receive_maximum:
    return read_positive(in, p.receive_maximum, decode_status::protocol_error);
  case property_id::topic_alias_maximum:
    return read(in, p.topic_alias_maximum);
  case property_id::topic_alias:
    return read_positive(in, p.topic_alias, decode_status::topic_alias_invalid);
  case property_id::maximum_qos:
    return read(in, p.maximum_qos);
  case property_id::retain_available:
    return read(in, p.retain_available);
  case property_id::user_property:
    (void)in.text();
    (void)in.text();
    list_access::add(p.user_properties, {start, in.at()});
    return;
  case property_id::maximum_packet_size:
    return read_positive(in, p.maximum_packet_size, decode_status::protocol_error);
  case property_id::wildcard_subscription_available:
    return read(in, p.wildcard_subscription_available);
  case property_id::subscription_identifier_available:
    return read(in, p.subscription_ids_available);
  case property_id::shared_subscription_available:
    return read(in, p.shared_subscription_available);
  }
}

/// Octets of the property at `at`, which is valid.
std::size_t size_of_property(const std::byte* at) noexcept {
  const std::byte* const value = at + 1;
  switch (property_id(std::to_integer<std::uint8_t>(*at))) {
  case property_id::payload_format_indicator:
  case property_id::request_problem_information:
  case property_id::request_response_information:
  case property_id::maximum_qos:
  case property_id::retain_available:
  case property_id::wildcard_subscription_available:
  case property_id::subscription_identifier_available:
  case property_id::shared_subscription_available:
    return 2;
  case property_id::server_keep_alive:
  case property_id::receive_maximum:
  case property_id::topic_alias_maximum:
  case property_id::topic_alias:
    return 3;
  case property_id::message_expiry_interval:
  case property_id::session_expiry_interval:
  case property_id::will_delay_interval:
  case property_id::maximum_packet_size:
    return 5;
  case property_id::subscription_identifier: {
    std::size_t size = 2;
    for (const std::byte* b = value; (*b & std::byte{0x80}) != std::byte{0}; ++b)
      ++size;
    return size;
  }
  case property_id::user_property: {
    const std::size_t name = 2 + wire::u16(value);
    return 1 + name + 2 + wire::u16(value + name);
  }
  case property_id::content_type:
  case property_id::response_topic:
  case property_id::correlation_data:
  case property_id::assigned_client_identifier:
  case property_id::authentication_method:
  case property_id::authentication_data:
  case property_id::response_information:
  case property_id::server_reference:
  case property_id::reason_string:
    break;
  }
  return 3 + wire::u16(value);
}

decode_status decode_section(octets section, std::size_t owner, properties& out) noexcept {
  out = {};
  reader in(section);
  read_properties_into(in, owner, out);
  if (in.status() != decode_status::ok) out = {};
  return in.status();
}

} // namespace

const std::byte* wire::next_property(const std::byte* at, std::uint8_t id) noexcept {
  do {
    at += size_of_property(at);
  } while (std::to_integer<std::uint8_t>(*at) != id);
  return at;
}

void read_properties_into(reader& in, std::size_t owner, properties& out) noexcept {
  // What a PUBLISH may have more than once (MQTT 5.0, sections 3.3.2.3.7 and 3.3.2.3.8).
  const std::uint64_t repeatable =
      owner == static_cast<std::size_t>(packet_type::publish)
          ? bits({property_id::user_property, property_id::subscription_identifier})
          : bit(property_id::user_property);
  out.raw = in.rest();
  std::uint64_t seen = 0;
  while (in.left() > 0 && in.status() != decode_status::malformed) {
    const std::byte* const start = in.at();
    const std::uint8_t id = in.u8();
    if (id >= 64 || (allowed[owner] >> id & 1) == 0) return in.refuse(decode_status::malformed);
    const std::uint64_t one = std::uint64_t{1} << id;
    if ((seen & one & ~repeatable) != 0) in.refuse(decode_status::protocol_error);
    seen |= one;
    read_value(in, property_id(id), start, out);
  }
  if (out.authentication_data && !out.authentication_method)
    in.refuse(decode_status::protocol_error);
}

decode_status decode_properties(packet_type type, octets section, properties& out) noexcept {
  return decode_section(section, static_cast<std::size_t>(type) & 15, out);
}

decode_status decode_will_properties(octets section, properties& out) noexcept {
  return decode_section(section, will_owner, out);
}

} // namespace chainring::mqtt
