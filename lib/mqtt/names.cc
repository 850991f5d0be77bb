// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <initializer_list>

#include "mqtt/codec.h"

namespace chainring::mqtt {
namespace {

/// A set of reason codes.
class reason_set {
 public:
  constexpr reason_set() noexcept = default;
  constexpr reason_set(std::initializer_list<reason_code> codes) noexcept {
    for (const reason_code code : codes)
      words_[word(code)] |= bit(code);
  }
  [[nodiscard]] constexpr bool has(reason_code code) const noexcept {
    return (words_[word(code)] & bit(code)) != 0;
  }

 private:
  static constexpr std::size_t word(reason_code code) noexcept {
    return static_cast<std::size_t>(code) / 64;
  }
  static constexpr std::uint64_t bit(reason_code code) noexcept {
    return std::uint64_t{1} << (static_cast<unsigned>(code) % 64);
  }
  std::array<std::uint64_t, 4> words_{};
};

/// The reason codes of each packet type (the tables of section 3, and table 2-6, which alone gives
/// DISCONNECT "Bad authentication method").
constexpr std::array<reason_set, 16> allowed_reasons = [] {
  using r = reason_code;
  std::array<reason_set, 16> table{};
  const auto of = [&](packet_type type) -> reason_set& {
    return table[static_cast<std::size_t>(type)];
  };
  of(packet_type::connack) = {r::success,
                              r::unspecified_error,
                              r::malformed_packet,
                              r::protocol_error,
                              r::implementation_specific_error,
                              r::unsupported_protocol_version,
                              r::client_identifier_not_valid,
                              r::bad_user_name_or_password,
                              r::not_authorized,
                              r::server_unavailable,
                              r::server_busy,
                              r::banned,
                              r::bad_authentication_method,
                              r::topic_name_invalid,
                              r::packet_too_large,
                              r::quota_exceeded,
                              r::payload_format_invalid,
                              r::retain_not_supported,
                              r::qos_not_supported,
                              r::use_another_server,
                              r::server_moved,
                              r::connection_rate_exceeded};
  of(packet_type::puback) = {r::success,
                             r::no_matching_subscribers,
                             r::unspecified_error,
                             r::implementation_specific_error,
                             r::not_authorized,
                             r::topic_name_invalid,
                             r::packet_identifier_in_use,
                             r::quota_exceeded,
                             r::payload_format_invalid};
  of(packet_type::pubrec) = of(packet_type::puback);
  of(packet_type::pubrel) = {r::success, r::packet_identifier_not_found};
  of(packet_type::pubcomp) = of(packet_type::pubrel);
  of(packet_type::suback) = {r::granted_qos_0,
                             r::granted_qos_1,
                             r::granted_qos_2,
                             r::unspecified_error,
                             r::implementation_specific_error,
                             r::not_authorized,
                             r::topic_filter_invalid,
                             r::packet_identifier_in_use,
                             r::quota_exceeded,
                             r::shared_subscriptions_not_supported,
                             r::subscription_identifiers_not_supported,
                             r::wildcard_subscriptions_not_supported};
  of(packet_type::unsuback) = {r::success,
                               r::no_subscription_existed,
                               r::unspecified_error,
                               r::implementation_specific_error,
                               r::not_authorized,
                               r::topic_filter_invalid,
                               r::packet_identifier_in_use};
  of(packet_type::disconnect) = {r::normal_disconnection,
                                 r::disconnect_with_will,
                                 r::unspecified_error,
                                 r::malformed_packet,
                                 r::protocol_error,
                                 r::implementation_specific_error,
                                 r::not_authorized,
                                 r::server_busy,
                                 r::server_shutting_down,
                                 r::bad_authentication_method,
                                 r::keep_alive_timeout,
                                 r::session_taken_over,
                                 r::topic_filter_invalid,
                                 r::topic_name_invalid,
                                 r::receive_maximum_exceeded,
                                 r::topic_alias_invalid,
                                 r::packet_too_large,
                                 r::message_rate_too_high,
                                 r::quota_exceeded,
                                 r::administrative_action,
                                 r::payload_format_invalid,
                                 r::retain_not_supported,
                                 r::qos_not_supported,
                                 r::use_another_server,
                                 r::server_moved,
                                 r::shared_subscriptions_not_supported,
                                 r::connection_rate_exceeded,
                                 r::maximum_connect_time,
                                 r::subscription_identifiers_not_supported,
                                 r::wildcard_subscriptions_not_supported};
  of(packet_type::auth) = {r::success, r::continue_authentication, r::reauthenticate};
  return table;
}();

} // namespace

bool allowed_in(packet_type type, reason_code code) noexcept {
  return allowed_reasons[static_cast<std::size_t>(type) & 15].has(code);
}

const char* to_string(version v) noexcept {
  switch (v) {
  case version::v3_1_1:
    return "MQTT 3.1.1";
  case version::v5:
    return "MQTT 5.0";
  }
  return "unknown version";
}

const char* to_string(packet_type type) noexcept {
  static constexpr std::array<const char*, 256> names = [] {
    std::array<const char*, 256> table{};
    table.fill("reserved");
    all_messages::for_each(
        [&]<class Message>() { table[static_cast<std::size_t>(Message::type)] = Message::name; });
    return table;
  }();
  return names[static_cast<std::uint8_t>(type)];
}

const char* to_string(reason_code code) noexcept {
  switch (code) {
  case reason_code::success:
    return "Success";
  case reason_code::granted_qos_1:
    return "Granted QoS 1";
  case reason_code::granted_qos_2:
    return "Granted QoS 2";
  case reason_code::disconnect_with_will:
    return "Disconnect with Will Message";
  case reason_code::no_matching_subscribers:
    return "No matching subscribers";
  case reason_code::no_subscription_existed:
    return "No subscription existed";
  case reason_code::continue_authentication:
    return "Continue authentication";
  case reason_code::reauthenticate:
    return "Re-authenticate";
  case reason_code::unspecified_error:
    return "Unspecified error";
  case reason_code::malformed_packet:
    return "Malformed Packet";
  case reason_code::protocol_error:
    return "Protocol Error";
  case reason_code::implementation_specific_error:
    return "Implementation specific error";
  case reason_code::unsupported_protocol_version:
    return "Unsupported Protocol Version";
  case reason_code::client_identifier_not_valid:
    return "Client Identifier not valid";
  case reason_code::bad_user_name_or_password:
    return "Bad User Name or Password";
  case reason_code::not_authorized:
    return "Not authorized";
  case reason_code::server_unavailable:
    return "Server unavailable";
  case reason_code::server_busy:
    return "Server busy";
  case reason_code::banned:
    return "Banned";
  case reason_code::server_shutting_down:
    return "Server shutting down";
  case reason_code::bad_authentication_method:
    return "Bad authentication method";
  case reason_code::keep_alive_timeout:
    return "Keep Alive timeout";
  case reason_code::session_taken_over:
    return "Session taken over";
  case reason_code::topic_filter_invalid:
    return "Topic Filter invalid";
  case reason_code::topic_name_invalid:
    return "Topic Name invalid";
  case reason_code::packet_identifier_in_use:
    return "Packet Identifier in use";
  case reason_code::packet_identifier_not_found:
    return "Packet Identifier not found";
  case reason_code::receive_maximum_exceeded:
    return "Receive Maximum exceeded";
  case reason_code::topic_alias_invalid:
    return "Topic Alias invalid";
  case reason_code::packet_too_large:
    return "Packet too large";
  case reason_code::message_rate_too_high:
    return "Message rate too high";
  case reason_code::quota_exceeded:
    return "Quota exceeded";
  case reason_code::administrative_action:
    return "Administrative action";
  case reason_code::payload_format_invalid:
    return "Payload format invalid";
  case reason_code::retain_not_supported:
    return "Retain not supported";
  case reason_code::qos_not_supported:
    return "QoS not supported";
  case reason_code::use_another_server:
    return "Use another server";
  case reason_code::server_moved:
    return "Server moved";
  case reason_code::shared_subscriptions_not_supported:
    return "Shared Subscriptions not supported";
  case reason_code::connection_rate_exceeded:
    return "Connection rate exceeded";
  case reason_code::maximum_connect_time:
    return "Maximum connect time";
  case reason_code::subscription_identifiers_not_supported:
    return "Subscription Identifiers not supported";
  case reason_code::wildcard_subscriptions_not_supported:
    return "Wildcard Subscriptions not supported";
  }
  return "reserved reason code";
}

const char* to_string(connect_return_code code) noexcept {
  switch (code) {
  case connect_return_code::accepted:
    return "accepted";
  case connect_return_code::unacceptable_protocol_version:
    return "refused: unacceptable protocol version";
  case connect_return_code::identifier_rejected:
    return "refused: identifier rejected";
  case connect_return_code::server_unavailable:
    return "refused: server unavailable";
  case connect_return_code::bad_user_name_or_password:
    return "refused: bad user name or password";
  case connect_return_code::not_authorized:
    return "refused: not authorized";
  }
  return "refused: reserved return code";
}

const char* to_string(property_id id) noexcept {
  switch (id) {
  case property_id::payload_format_indicator:
    return "Payload Format Indicator";
  case property_id::message_expiry_interval:
    return "Message Expiry Interval";
  case property_id::content_type:
    return "Content Type";
  case property_id::response_topic:
    return "Response Topic";
  case property_id::correlation_data:
    return "Correlation Data";
  case property_id::subscription_identifier:
    return "Subscription Identifier";
  case property_id::session_expiry_interval:
    return "Session Expiry Interval";
  case property_id::assigned_client_identifier:
    return "Assigned Client Identifier";
  case property_id::server_keep_alive:
    return "Server Keep Alive";
  case property_id::authentication_method:
    return "Authentication Method";
  case property_id::authentication_data:
    return "Authentication Data";
  case property_id::request_problem_information:
    return "Request Problem Information";
  case property_id::will_delay_interval:
    return "Will Delay Interval";
  case property_id::request_response_information:
    return "Request Response Information";
  case property_id::response_information:
    return "Response Information";
  case property_id::server_reference:
    return "Server Reference";
  case property_id::reason_string:
    return "Reason String";
  case property_id::receive_maximum:
    return "Receive Maximum";
  case property_id::topic_alias_maximum:
    return "Topic Alias Maximum";
  case property_id::topic_alias:
    return "Topic Alias";
  case property_id::maximum_qos:
    return "Maximum QoS";
  case property_id::retain_available:
    return "Retain Available";
  case property_id::user_property:
    return "User Property";
  case property_id::maximum_packet_size:
    return "Maximum Packet Size";
  case property_id::wildcard_subscription_available:
    return "Wildcard Subscription Available";
  case property_id::subscription_identifier_available:
    return "Subscription Identifier Available";
  case property_id::shared_subscription_available:
    return "Shared Subscription Available";
  }
  return "unknown property";
}

const char* to_string(frame_status status) noexcept {
  switch (status) {
  case frame_status::need_more:
    return "need_more";
  case frame_status::ok:
    return "ok";
  case frame_status::malformed:
    return "malformed";
  case frame_status::too_long:
    return "too_long";
  }
  return "unknown";
}

const char* to_string(decode_status status) noexcept {
  switch (status) {
  case decode_status::ok:
    return "ok";
  case decode_status::not_one_packet:
    return "not_one_packet";
  case decode_status::malformed:
    return "malformed";
  case decode_status::protocol_error:
    return "protocol_error";
  case decode_status::topic_alias_invalid:
    return "topic_alias_invalid";
  case decode_status::unknown_protocol:
    return "unknown_protocol";
  case decode_status::unknown_level:
    return "unknown_level";
  }
  return "unknown";
}

reason_code reason_for(decode_status status) noexcept {
  switch (status) {
  case decode_status::ok:
    return reason_code::success;
  case decode_status::not_one_packet:
  case decode_status::malformed:
    return reason_code::malformed_packet;
  case decode_status::protocol_error:
    return reason_code::protocol_error;
  case decode_status::topic_alias_invalid:
    return reason_code::topic_alias_invalid;
  case decode_status::unknown_protocol:
  case decode_status::unknown_level:
    return reason_code::unsupported_protocol_version;
  }
  return reason_code::unspecified_error;
}

} // namespace chainring::mqtt
