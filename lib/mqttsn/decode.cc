// SPDX-License-Identifier: BSD-3-Clause
#include "mqttsn/codec.h"

#include <type_traits>

namespace chainring::mqttsn {
namespace {

/// Reads the fields of one message from left to right. The caller has checked the size.
class reader {
 public:
  explicit reader(octets body) noexcept : at_(body.data()), left_(body.size()) {}

  std::uint8_t u8() noexcept {
    const auto value = std::to_integer<std::uint8_t>(at_[0]);
    skip(1);
    return value;
  }
  std::uint16_t u16() noexcept {
    const auto value = static_cast<std::uint16_t>(std::to_integer<unsigned>(at_[0]) << 8 |
                                                  std::to_integer<unsigned>(at_[1]));
    skip(2);
    return value;
  }
  mqttsn::flags flags() noexcept { return {u8()}; }
  return_code code() noexcept { return return_code(u8()); }
  std::size_t left() const noexcept { return left_; }
  octets rest() const noexcept { return {at_, left_}; }
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(at_), left_}; }

 private:
  void skip(std::size_t n) noexcept {
    at_ += n;
    left_ -= n;
  }
  const std::byte* at_;
  std::size_t left_;
};

decode_status sized(std::size_t size, std::size_t fixed) noexcept {
  if (size == fixed) [[likely]]
    return decode_status::ok;
  return size < fixed ? decode_status::too_short : decode_status::too_long;
}

decode_status at_least(std::size_t size, std::size_t fixed) noexcept {
  return size >= fixed ? decode_status::ok : decode_status::too_short;
}

/// Each overload fills one message type from the octets behind the header.
decode_status parse(octets body, publish& m) noexcept {
  if (body.size() < 5) [[unlikely]]
    return decode_status::too_short;
  reader in(body);
  m.flags = in.flags();
  m.topic_id = in.u16();
  m.msg_id = in.u16();
  m.data = in.rest();
  return m.flags.topic_type() != topic_id_type::reserved ? decode_status::ok
                                                         : decode_status::bad_field;
}

decode_status parse(octets body, puback& m) noexcept {
  if (body.size() != 5) [[unlikely]]
    return sized(body.size(), 5);
  reader in(body);
  m.topic_id = in.u16();
  m.msg_id = in.u16();
  m.code = in.code();
  return decode_status::ok;
}

decode_status parse(octets body, advertise& m) noexcept {
  if (const auto s = sized(body.size(), 3); s != decode_status::ok) return s;
  reader in(body);
  m.gw_id = in.u8();
  m.duration_s = in.u16();
  return decode_status::ok;
}

decode_status parse(octets body, searchgw& m) noexcept {
  if (const auto s = sized(body.size(), 1); s != decode_status::ok) return s;
  m.radius = reader(body).u8();
  return decode_status::ok;
}

decode_status parse(octets body, gwinfo& m) noexcept {
  if (const auto s = at_least(body.size(), 1); s != decode_status::ok) return s;
  reader in(body);
  m.gw_id = in.u8();
  m.gw_address = in.rest();
  return decode_status::ok;
}

decode_status parse(octets body, connect& m) noexcept {
  if (const auto s = at_least(body.size(), 4); s != decode_status::ok) return s;
  reader in(body);
  m.flags = in.flags();
  m.protocol = in.u8();
  m.keep_alive_s = in.u16();
  m.client_id = in.text();
  return m.protocol == protocol_id ? decode_status::ok : decode_status::bad_field;
}

decode_status parse(octets body, register_topic& m) noexcept {
  if (const auto s = at_least(body.size(), 4); s != decode_status::ok) return s;
  reader in(body);
  m.topic_id = in.u16();
  m.msg_id = in.u16();
  m.topic = in.text();
  return decode_status::ok;
}

decode_status parse(octets body, regack& m) noexcept {
  if (const auto s = sized(body.size(), 5); s != decode_status::ok) return s;
  reader in(body);
  m.topic_id = in.u16();
  m.msg_id = in.u16();
  m.code = in.code();
  return decode_status::ok;
}

decode_status parse(octets body, suback& m) noexcept {
  if (const auto s = sized(body.size(), 6); s != decode_status::ok) return s;
  reader in(body);
  m.flags = in.flags();
  m.topic_id = in.u16();
  m.msg_id = in.u16();
  m.code = in.code();
  return decode_status::ok;
}

decode_status parse(octets body, pingreq& m) noexcept {
  m.client_id = reader(body).text();
  return decode_status::ok;
}

decode_status parse(octets body, disconnect& m) noexcept {
  if (body.empty()) return decode_status::ok;
  if (const auto s = sized(body.size(), 2); s != decode_status::ok) return s;
  m.has_duration = true;
  m.duration_s = reader(body).u16();
  return decode_status::ok;
}

/// Parses WILLTOPICREQ, WILLMSGREQ and PINGRESP.
template <class Message> decode_status parse_bare(octets body, Message&) noexcept {
  return sized(body.size(), 0);
}

/// Parses CONNACK, WILLTOPICRESP and WILLMSGRESP.
template <class Message> decode_status parse_code(octets body, Message& m) noexcept {
  if (const auto s = sized(body.size(), 1); s != decode_status::ok) return s;
  m.code = reader(body).code();
  return decode_status::ok;
}

/// Parses PUBREC, PUBREL, PUBCOMP and UNSUBACK.
template <class Message> decode_status parse_msg_id(octets body, Message& m) noexcept {
  if (const auto s = sized(body.size(), 2); s != decode_status::ok) return s;
  m.msg_id = reader(body).u16();
  return decode_status::ok;
}

/// Parses WILLTOPIC and WILLTOPICUPD.
template <class Message> decode_status parse_will_topic(octets body, Message& m) noexcept {
  m.erase = body.empty();
  if (m.erase) return decode_status::ok;
  reader in(body);
  m.flags = in.flags();
  m.topic = in.text();
  return m.flags.qos() != qos_level::minus_one ? decode_status::ok : decode_status::bad_field;
}

/// Parses WILLMSG and WILLMSGUPD.
template <class Message> decode_status parse_data(octets body, Message& m) noexcept {
  m.data = body;
  return decode_status::ok;
}

/// Parses SUBSCRIBE and UNSUBSCRIBE.
template <class Message> decode_status parse_filter(octets body, Message& m) noexcept {
  if (const auto s = at_least(body.size(), 3); s != decode_status::ok) return s;
  reader in(body);
  m.flags = in.flags();
  m.msg_id = in.u16();
  switch (m.flags.topic_type()) {
  case topic_id_type::normal:
    m.topic = in.text();
    return decode_status::ok;
  case topic_id_type::short_name:
  case topic_id_type::predefined:
    if (in.left() != 2) return decode_status::bad_field;
    if (m.flags.topic_type() == topic_id_type::short_name) m.topic = in.text();
    m.topic_id = in.u16();
    return decode_status::ok;
  case topic_id_type::reserved:
    break;
  }
  return decode_status::bad_field;
}

decode_status parse(octets body, subscribe& m) noexcept {
  const auto s = parse_filter(body, m);
  if (s != decode_status::ok) return s;
  return m.flags.qos() != qos_level::minus_one ? s : decode_status::bad_field;
}
decode_status parse(octets body, unsubscribe& m) noexcept {
  return parse_filter(body, m);
}
decode_status parse(octets body, willtopicreq& m) noexcept {
  return parse_bare(body, m);
}
decode_status parse(octets body, willmsgreq& m) noexcept {
  return parse_bare(body, m);
}
decode_status parse(octets body, pingresp& m) noexcept {
  return parse_bare(body, m);
}
decode_status parse(octets body, connack& m) noexcept {
  return parse_code(body, m);
}
decode_status parse(octets body, willtopicresp& m) noexcept {
  return parse_code(body, m);
}
decode_status parse(octets body, willmsgresp& m) noexcept {
  return parse_code(body, m);
}
decode_status parse(octets body, pubrec& m) noexcept {
  return parse_msg_id(body, m);
}
decode_status parse(octets body, pubrel& m) noexcept {
  return parse_msg_id(body, m);
}
decode_status parse(octets body, pubcomp& m) noexcept {
  return parse_msg_id(body, m);
}
decode_status parse(octets body, unsuback& m) noexcept {
  return parse_msg_id(body, m);
}
decode_status parse(octets body, willtopic& m) noexcept {
  return parse_will_topic(body, m);
}
decode_status parse(octets body, willtopicupd& m) noexcept {
  return parse_will_topic(body, m);
}
decode_status parse(octets body, willmsg& m) noexcept {
  return parse_data(body, m);
}
decode_status parse(octets body, willmsgupd& m) noexcept {
  return parse_data(body, m);
}

template <class Message> decode_status parse_into(octets body, message& out) noexcept {
  const decode_status s = parse(body, out.body.emplace<Message>());
  if (s != decode_status::ok && s != decode_status::bad_field) [[unlikely]]
    out.body.emplace<std::monostate>();
  return s;
}

/// Decodes an encapsulated message. `datagram` holds the wrapper and the message that it wraps.
decode_status unwrap(octets datagram, std::size_t header, std::size_t length,
                     message& out) noexcept {
  if (header != 2) return decode_status::bad_length;
  if (length < 3 || datagram.size() == length) return decode_status::too_short;
  auto& m = out.body.emplace<encapsulated>();
  m.radius = std::to_integer<std::uint8_t>(datagram[2]) & 3;
  m.node_id = datagram.subspan(3, length - 3);
  m.inner = datagram.subspan(length);
  out.length = datagram.size();
  out.trailing = 0;
  return decode_status::ok;
}

using decoder = decode_status (*)(octets datagram, std::size_t header, std::size_t length,
                                  message& out) noexcept;

template <class Message>
decode_status decode_as(octets datagram, std::size_t header, std::size_t length,
                        message& out) noexcept {
  if constexpr (std::is_same_v<Message, encapsulated>)
    return unwrap(datagram, header, length, out);
  else
    return parse_into<Message>(datagram.subspan(header, length - header), out);
}

decode_status decode_reserved(octets, std::size_t, std::size_t, message& out) noexcept {
  out.body.emplace<std::monostate>();
  return decode_status::unknown_type;
}

/// The decoders, indexed by message type.
constexpr std::array<decoder, 256> decoders = [] {
  std::array<decoder, 256> table{};
  table.fill(&decode_reserved);
  all_messages::for_each([&]<class Message>() {
    table[static_cast<std::size_t>(Message::type)] = &decode_as<Message>;
  });
  return table;
}();

} // namespace

decode_status decode(octets datagram, message& out) noexcept {
  const auto at = [&](std::size_t i) { return std::to_integer<std::size_t>(datagram[i]); };
  const auto refuse = [&](decode_status why) {
    out.body.emplace<std::monostate>();
    return why;
  };
  if (datagram.size() < 2) [[unlikely]]
    return refuse(decode_status::truncated);
  std::size_t header = 2, length = at(0);
  if (length == 1) {
    if (datagram.size() < 4) [[unlikely]]
      return refuse(decode_status::truncated);
    header = 4;
    length = at(1) << 8 | at(2);
  }
  if (length < header) [[unlikely]]
    return refuse(decode_status::bad_length);
  if (length > datagram.size()) [[unlikely]]
    return refuse(decode_status::truncated);
  out.type = message_type(at(header - 1));
  out.length = length;
  out.trailing = datagram.size() - length;
  return decoders[at(header - 1)](datagram, header, length, out);
}

} // namespace chainring::mqttsn
