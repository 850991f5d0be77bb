// SPDX-License-Identifier: BSD-3-Clause
/// The numbers of MQTT 3.1.1 and MQTT 5.0 and their names: versions, packet types, reason codes,
/// property identifiers and limits. mqtt/codec.h includes this header.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace chainring::mqtt {

using octets = std::span<const std::byte>;

/// The protocol levels that CONNECT states.
enum class version : std::uint8_t { v3_1_1 = 4, v5 = 5 };

/// A phrase such as "MQTT 3.1.1", or "unknown version".
[[nodiscard]] const char* to_string(version v) noexcept;

/// The packet types of table 2.1. MQTT 3.1.1 has no AUTH.
enum class packet_type : std::uint8_t {
  connect = 1,
  connack = 2,
  publish = 3,
  puback = 4,
  pubrec = 5,
  pubrel = 6,
  pubcomp = 7,
  subscribe = 8,
  suback = 9,
  unsubscribe = 10,
  unsuback = 11,
  pingreq = 12,
  pingresp = 13,
  disconnect = 14,
  auth = 15,
};

/// The specification's name, such as "PUBLISH", or "reserved" for a value that it does not define.
[[nodiscard]] const char* to_string(packet_type type) noexcept;

/// The reason codes of MQTT 5.0 (table 2-6). Those of SUBACK in 3.1.1 are `granted_qos_0` to
/// `granted_qos_2` and `unspecified_error`.
enum class reason_code : std::uint8_t {
  success = 0x00,
  normal_disconnection = 0x00,
  granted_qos_0 = 0x00,
  granted_qos_1 = 0x01,
  granted_qos_2 = 0x02,
  disconnect_with_will = 0x04,
  no_matching_subscribers = 0x10,
  no_subscription_existed = 0x11,
  continue_authentication = 0x18,
  reauthenticate = 0x19,
  unspecified_error = 0x80,
  malformed_packet = 0x81,
  protocol_error = 0x82,
  implementation_specific_error = 0x83,
  unsupported_protocol_version = 0x84,
  client_identifier_not_valid = 0x85,
  bad_user_name_or_password = 0x86,
  not_authorized = 0x87,
  server_unavailable = 0x88,
  server_busy = 0x89,
  banned = 0x8A,
  server_shutting_down = 0x8B,
  bad_authentication_method = 0x8C,
  keep_alive_timeout = 0x8D,
  session_taken_over = 0x8E,
  topic_filter_invalid = 0x8F,
  topic_name_invalid = 0x90,
  packet_identifier_in_use = 0x91,
  packet_identifier_not_found = 0x92,
  receive_maximum_exceeded = 0x93,
  topic_alias_invalid = 0x94,
  packet_too_large = 0x95,
  message_rate_too_high = 0x96,
  quota_exceeded = 0x97,
  administrative_action = 0x98,
  payload_format_invalid = 0x99,
  retain_not_supported = 0x9A,
  qos_not_supported = 0x9B,
  use_another_server = 0x9C,
  server_moved = 0x9D,
  shared_subscriptions_not_supported = 0x9E,
  connection_rate_exceeded = 0x9F,
  maximum_connect_time = 0xA0,
  subscription_identifiers_not_supported = 0xA1,
  wildcard_subscriptions_not_supported = 0xA2,
};

/// The specification's phrase, such as "Topic Alias invalid", or "reserved reason code". Code 0x00
/// is "Success", although some packets give it another name.
[[nodiscard]] const char* to_string(reason_code code) noexcept;

/// Codes from 0x80 on say that something failed.
[[nodiscard]] constexpr bool failed(reason_code code) noexcept {
  return static_cast<std::uint8_t>(code) >= 0x80;
}

/// True where a packet of this type may carry this reason code in MQTT 5.0. A type without a reason
/// code has none.
[[nodiscard]] bool allowed_in(packet_type type, reason_code code) noexcept;

/// The return codes of CONNACK in MQTT 3.1.1 (table 3.1).
enum class connect_return_code : std::uint8_t {
  accepted = 0,
  unacceptable_protocol_version = 1,
  identifier_rejected = 2,
  server_unavailable = 3,
  bad_user_name_or_password = 4,
  not_authorized = 5,
};

/// Returns a phrase such as "refused: identifier rejected".
[[nodiscard]] const char* to_string(connect_return_code code) noexcept;

enum class qos_level : std::uint8_t { zero = 0, one = 1, two = 2 };

/// What a subscriber wants of the retained messages that match its new subscription.
enum class retain_handling : std::uint8_t {
  send = 0,        ///< send them
  send_if_new = 1, ///< send them if the subscription did not exist
  do_not_send = 2,
};

/// The largest value of a variable byte integer.
inline constexpr std::uint32_t variable_integer_max = 268'435'455;
/// The largest size of a packet, in octets: five of the fixed header and all that a remaining
/// length can express.
inline constexpr std::size_t packet_size_max = std::size_t{variable_integer_max} + 5;
/// The longest string or binary data, in octets.
inline constexpr std::size_t text_size_max = 65535;
/// The protocol name that CONNECT states.
inline constexpr std::string_view protocol_name = "MQTT";

/// The property identifiers of MQTT 5.0 (table 2-4).
enum class property_id : std::uint8_t {
  payload_format_indicator = 0x01,
  message_expiry_interval = 0x02,
  content_type = 0x03,
  response_topic = 0x08,
  correlation_data = 0x09,
  subscription_identifier = 0x0B,
  session_expiry_interval = 0x11,
  assigned_client_identifier = 0x12,
  server_keep_alive = 0x13,
  authentication_method = 0x15,
  authentication_data = 0x16,
  request_problem_information = 0x17,
  will_delay_interval = 0x18,
  request_response_information = 0x19,
  response_information = 0x1A,
  server_reference = 0x1C,
  reason_string = 0x1F,
  receive_maximum = 0x21,
  topic_alias_maximum = 0x22,
  topic_alias = 0x23,
  maximum_qos = 0x24,
  retain_available = 0x25,
  user_property = 0x26,
  maximum_packet_size = 0x27,
  wildcard_subscription_available = 0x28,
  subscription_identifier_available = 0x29,
  shared_subscription_available = 0x2A,
};

/// The specification's name, such as "Topic Alias", or "unknown property".
[[nodiscard]] const char* to_string(property_id id) noexcept;

} // namespace chainring::mqtt
