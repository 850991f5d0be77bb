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
  static constexpr std::array<const char*, 256> names = [] {
    std::array<const char*, 256> table{};
    table.fill("reserved");
    all_messages::for_each(
        [&]<class Message>() { table[static_cast<std::size_t>(Message::type)] = Message::name; });
    return table;
  }();
  return names[static_cast<std::uint8_t>(type)];
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
