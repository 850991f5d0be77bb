// SPDX-License-Identifier: BSD-3-Clause
#include "mqttsn/codec.h"

#include <algorithm>

namespace chainring::mqttsn {

bool valid_client_id(std::string_view id) noexcept {
  if (id.empty() || !valid_utf8(id)) return false;
  const auto characters = std::count_if(
      id.begin(), id.end(), [](char c) { return (static_cast<std::uint8_t>(c) & 0xC0) != 0x80; });
  return static_cast<std::size_t>(characters) <= client_id_size_max;
}

const char* to_string(message_type type) noexcept {
  switch (type) {
  case message_type::advertise:
    return "ADVERTISE";
  case message_type::searchgw:
    return "SEARCHGW";
  case message_type::gwinfo:
    return "GWINFO";
  case message_type::connect:
    return "CONNECT";
  case message_type::connack:
    return "CONNACK";
  case message_type::willtopicreq:
    return "WILLTOPICREQ";
  case message_type::willtopic:
    return "WILLTOPIC";
  case message_type::willmsgreq:
    return "WILLMSGREQ";
  case message_type::willmsg:
    return "WILLMSG";
  case message_type::register_topic:
    return "REGISTER";
  case message_type::regack:
    return "REGACK";
  case message_type::publish:
    return "PUBLISH";
  case message_type::puback:
    return "PUBACK";
  case message_type::pubcomp:
    return "PUBCOMP";
  case message_type::pubrec:
    return "PUBREC";
  case message_type::pubrel:
    return "PUBREL";
  case message_type::subscribe:
    return "SUBSCRIBE";
  case message_type::suback:
    return "SUBACK";
  case message_type::unsubscribe:
    return "UNSUBSCRIBE";
  case message_type::unsuback:
    return "UNSUBACK";
  case message_type::pingreq:
    return "PINGREQ";
  case message_type::pingresp:
    return "PINGRESP";
  case message_type::disconnect:
    return "DISCONNECT";
  case message_type::willtopicupd:
    return "WILLTOPICUPD";
  case message_type::willtopicresp:
    return "WILLTOPICRESP";
  case message_type::willmsgupd:
    return "WILLMSGUPD";
  case message_type::willmsgresp:
    return "WILLMSGRESP";
  case message_type::encapsulated:
    return "ENCAPSULATED";
  }
  return "reserved";
}

const char* to_string(return_code code) noexcept {
  switch (code) {
  case return_code::accepted:
    return "accepted";
  case return_code::congestion:
    return "rejected: congestion";
  case return_code::invalid_topic_id:
    return "rejected: invalid topic id";
  case return_code::not_supported:
    return "rejected: not supported";
  }
  return "rejected: reserved return code";
}

const char* to_string(decode_status status) noexcept {
  switch (status) {
  case decode_status::ok:
    return "ok";
  case decode_status::truncated:
    return "truncated";
  case decode_status::bad_length:
    return "bad_length";
  case decode_status::unknown_type:
    return "unknown_type";
  case decode_status::too_short:
    return "too_short";
  case decode_status::too_long:
    return "too_long";
  case decode_status::bad_field:
    return "bad_field";
  }
  return "unknown";
}

} // namespace chainring::mqttsn
