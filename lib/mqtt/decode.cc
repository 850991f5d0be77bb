// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <type_traits>

#include "mqtt/codec.h"
#include "mqtt/list_access.h"
#include "mqtt/reader.h"

namespace chainring::mqtt {
namespace {

/// The first octets that begin a packet: those with a type and the flags that its type demands
/// (table 2-2).
constexpr std::array<bool, 256> begins_packet = [] {
  std::array<bool, 256> table{};
  for (unsigned type = 1; type <= 15; ++type) {
    switch (packet_type(type)) {
    case packet_type::publish:
      for (unsigned flags = 0; flags < 16; ++flags) {
        const unsigned qos = flags >> 1 & 3;
        table[type << 4 | flags] = qos != 3 && (qos != 0 || (flags & 8) == 0);
      }
      break;
    case packet_type::pubrel:
    case packet_type::subscribe:
    case packet_type::unsubscribe:
      table[type << 4 | 2] = true;
      break;
    default:
      table[type << 4] = true;
    }
  }
  return table;
}();

/// What the parsers know of the packet beside its fields.
struct context {
  mqtt::version version;
  std::uint8_t flags; ///< of the fixed header
  bool shortest;      ///< the remaining length has its shortest form
  std::uint8_t level; ///< out: what CONNECT states

  bool v5() const noexcept { return version == version::v5; }
};

void read_properties(reader& in, std::size_t owner, properties& out) noexcept {
  const std::uint32_t size = in.variable_integer();
  if (size == 0) return;
  reader section(in.take(size));
  if (in.status() == decode_status::malformed) return;
  read_properties_into(section, owner, out);
  if (section.status() != decode_status::ok) in.refuse(section.status());
}
template <class Message> void read_properties(reader& in, Message& m) noexcept {
  read_properties(in, static_cast<std::size_t>(Message::type), m.properties);
}

std::uint16_t read_packet_id(reader& in) noexcept {
  const std::uint16_t id = in.u16();
  if (id == 0) in.refuse(decode_status::protocol_error);
  return id;
}

template <class Message> reason_code read_reason(reader& in) noexcept {
  const auto code = reason_code(in.u8());
  if (code != reason_code::success && !allowed_in(Message::type, code))
    in.refuse(decode_status::protocol_error);
  return code;
}

/// Each overload reads one packet type from the octets behind the fixed header.
void parse(reader& in, context& c, publish& m) noexcept {
  m.retain = (c.flags & 1) != 0;
  m.qos = qos_level(c.flags >> 1 & 3);
  m.dup = (c.flags & 8) != 0;
  m.topic = in.unchecked_text();
  if (m.qos != qos_level::zero) m.packet_id = read_packet_id(in);
  if (c.v5()) read_properties(in, m);
  m.payload = in.rest();
  in.skip_rest();
  if (!m.topic.empty() || !c.v5()) {
    if (!valid_topic_name(m.topic)) in.refuse(decode_status::malformed);
  } else if (!m.properties.topic_alias) {
    in.refuse(decode_status::protocol_error);
  }
}

/// Parses PUBACK, PUBREC, PUBREL and PUBCOMP.
template <class Message> void parse_ack(reader& in, context& c, Message& m) noexcept {
  m.packet_id = read_packet_id(in);
  if (!c.v5() || in.left() == 0) return;
  m.reason = read_reason<Message>(in);
  if (in.left() > 0) read_properties(in, m);
}
void parse(reader& in, context& c, puback& m) noexcept {
  parse_ack(in, c, m);
}
void parse(reader& in, context& c, pubrec& m) noexcept {
  parse_ack(in, c, m);
}
void parse(reader& in, context& c, pubrel& m) noexcept {
  parse_ack(in, c, m);
}
void parse(reader& in, context& c, pubcomp& m) noexcept {
  parse_ack(in, c, m);
}

void read_will(reader& in, context& c, unsigned flags, will& m) noexcept {
  m.qos = qos_level(flags >> 3 & 3);
  m.retain = (flags & 0x20) != 0;
  if (c.v5()) read_properties(in, will_owner, m.properties);
  m.topic = in.topic_name();
  m.payload = in.binary();
}

void parse(reader& in, context& c, connect& m) noexcept {
  const std::string_view name = in.text();
  c.level = in.u8();
  if (in.status() != decode_status::ok) {
    c.level = 0;
    return;
  }
  if (name != protocol_name) return in.refuse(decode_status::unknown_protocol);
  if (c.level != static_cast<std::uint8_t>(version::v3_1_1) &&
      c.level != static_cast<std::uint8_t>(version::v5))
    return in.refuse(decode_status::unknown_level);
  c.version = mqtt::version(c.level);

  const unsigned flags = in.u8();
  const bool has_will = (flags & 0x04) != 0, has_password = (flags & 0x40) != 0,
             has_user_name = (flags & 0x80) != 0;
  const bool reserved = (flags & 0x01) != 0;
  const bool bad_will = has_will ? (flags & 0x18) == 0x18 : (flags & 0x38) != 0;
  const bool bad_password = !c.v5() && has_password && !has_user_name;
  if (reserved || bad_will || bad_password) return in.refuse(decode_status::malformed);
  m.clean_start = (flags & 0x02) != 0;
  m.keep_alive_s = in.u16();
  if (c.v5()) read_properties(in, m);
  m.client_id = in.text();
  if (has_will) read_will(in, c, flags, m.will.emplace());
  if (has_user_name) m.user_name = in.text();
  if (has_password) m.password = in.binary();
}

void parse(reader& in, context& c, connack& m) noexcept {
  const std::uint8_t flags = in.u8();
  if (flags > 1) in.refuse(decode_status::malformed);
  m.session_present = flags != 0;
  bool accepted = true;
  if (c.v5()) {
    m.reason = read_reason<connack>(in);
    accepted = m.reason == reason_code::success;
    read_properties(in, m);
  } else {
    m.return_code = connect_return_code(in.u8());
    accepted = m.return_code == connect_return_code::accepted;
    if (m.return_code > connect_return_code::not_authorized)
      in.refuse(decode_status::protocol_error);
  }
  if (m.session_present && !accepted) in.refuse(decode_status::protocol_error);
}

/// Reads a filter of SUBSCRIBE or UNSUBSCRIBE. Returns whether it is one of a shared subscription,
/// which MQTT 3.1.1 does not have.
bool read_filter(reader& in, const context& c) noexcept {
  const std::string_view filter = in.unchecked_text();
  const bool shared = c.v5() && filter.starts_with(shared_prefix);
  if (shared ? !split_shared_filter(filter) : !valid_topic_filter(filter))
    in.refuse(decode_status::malformed);
  return shared;
}

/// The list of the items in `all`, of which `in` has read the last.
template <class Item> list<Item> list_over(octets all, std::size_t count, reader& in) noexcept {
  if (count == 0) in.refuse(decode_status::protocol_error);
  return list_access::over<Item>(all, count);
}

void parse(reader& in, context& c, subscribe& m) noexcept {
  m.packet_id = read_packet_id(in);
  if (c.v5()) read_properties(in, m);
  const octets all = in.rest();
  std::size_t count = 0;
  for (; in.left() > 0 && in.status() != decode_status::malformed; ++count) {
    const bool shared = read_filter(in, c);
    const unsigned options = in.u8();
    if (c.v5()) {
      if ((options & 0xC0) != 0) in.refuse(decode_status::malformed);
      if ((options & 0x03) == 0x03 || (options & 0x30) == 0x30 || (shared && (options & 0x04) != 0))
        in.refuse(decode_status::protocol_error);
    } else if (options > 2) {
      in.refuse(decode_status::malformed);
    }
  }
  m.subscriptions = list_over<subscription>(all, count, in);
}

void parse(reader& in, context& c, unsubscribe& m) noexcept {
  m.packet_id = read_packet_id(in);
  if (c.v5()) read_properties(in, m);
  const octets all = in.rest();
  std::size_t count = 0;
  for (; in.left() > 0 && in.status() != decode_status::malformed; ++count)
    (void)read_filter(in, c);
  m.filters = list_over<std::string_view>(all, count, in);
}

/// The reasons of SUBACK in MQTT 3.1.1 are the QoS that is granted, or a failure.
bool allowed_in_3_1_1(reason_code code) noexcept {
  return code <= reason_code::granted_qos_2 || code == reason_code::unspecified_error;
}

template <class Message> void read_reasons(reader& in, const context& c, Message& m) noexcept {
  const octets all = in.rest();
  while (in.left() > 0) {
    if (c.v5()) {
      (void)read_reason<Message>(in);
    } else if (!allowed_in_3_1_1(reason_code(in.u8()))) {
      in.refuse(decode_status::protocol_error);
    }
  }
  m.reasons = list_over<reason_code>(all, all.size(), in);
}

void parse(reader& in, context& c, suback& m) noexcept {
  m.packet_id = read_packet_id(in);
  if (c.v5()) read_properties(in, m);
  read_reasons(in, c, m);
}

void parse(reader& in, context& c, unsuback& m) noexcept {
  m.packet_id = read_packet_id(in);
  if (!c.v5()) return;
  read_properties(in, m);
  read_reasons(in, c, m);
}

void parse(reader&, context&, pingreq&) noexcept {}
void parse(reader&, context&, pingresp&) noexcept {}

void parse(reader& in, context& c, disconnect& m) noexcept {
  if (!c.v5() || in.left() == 0) return;
  m.reason = read_reason<disconnect>(in);
  if (in.left() > 0) read_properties(in, m);
}

void parse(reader& in, context& c, auth& m) noexcept {
  if (!c.v5()) return in.refuse(decode_status::malformed);
  // The reason code and the properties may be left out together (section 3.15.2.1), although the
  // authentication method may not (section 3.15.2.2.2).
  if (in.left() == 0) return;
  m.reason = read_reason<auth>(in);
  read_properties(in, m);
  if (!m.properties.authentication_method) in.refuse(decode_status::protocol_error);
}

using decoder = decode_status (*)(octets body, context& c, message_body& out) noexcept;

template <class Message>
decode_status decode_as(octets body, context& c, message_body& out) noexcept {
  reader in(body);
  parse(in, c, out.emplace<Message>());
  const bool known =
      in.status() != decode_status::unknown_protocol && in.status() != decode_status::unknown_level;
  // No field may be left over, and only MQTT 5.0 says that the remaining length is the shortest.
  if (known && (in.left() > 0 || (c.v5() && !c.shortest))) in.refuse(decode_status::malformed);
  if (in.status() != decode_status::ok) [[unlikely]]
    out.emplace<std::monostate>();
  return in.status();
}

/// The decoders, indexed by packet type. find_frame() refuses type 0.
constexpr std::array<decoder, 16> decoders = [] {
  std::array<decoder, 16> table{};
  all_messages::for_each([&]<class Message>() {
    table[static_cast<std::size_t>(Message::type)] = &decode_as<Message>;
  });
  return table;
}();

} // namespace

frame_status find_frame(octets in, std::size_t size_max, frame& out) noexcept {
  out = {};
  if (in.empty()) return frame_status::need_more;
  const auto at = [in](std::size_t i) { return std::to_integer<unsigned>(in[i]); };
  if (!begins_packet[at(0)]) [[unlikely]]
    return frame_status::malformed;
  out.type = packet_type(at(0) >> 4);
  out.flags = static_cast<std::uint8_t>(at(0) & 15);
  std::size_t length = 0;
  for (std::size_t i = 1; i < 5; ++i) {
    if (i == in.size()) return frame_status::need_more;
    length |= std::size_t{at(i) & 0x7F} << (7 * (i - 1));
    if (at(i) < 0x80) {
      out.header_size = static_cast<std::uint8_t>(i + 1);
      out.size = i + 1 + length;
      if (out.size > size_max) return frame_status::too_long;
      return in.size() < out.size ? frame_status::need_more : frame_status::ok;
    }
  }
  return frame_status::malformed;
}

decode_status decode(version v, octets packet, message& out) noexcept {
  out.body.emplace<std::monostate>();
  frame f;
  const frame_status found = find_frame(packet, packet.size(), f);
  out.type = f.type;
  out.level = f.type == packet_type::connect ? 0 : static_cast<std::uint8_t>(v);
  if (found == frame_status::malformed) [[unlikely]]
    return decode_status::malformed;
  if (found != frame_status::ok || f.size != packet.size()) [[unlikely]]
    return decode_status::not_one_packet;
  // The last octet of a longer form adds nothing.
  const bool shortest = f.header_size == 2 || packet[f.header_size - 1u] != std::byte{0};
  context c{.version = v, .flags = f.flags, .shortest = shortest, .level = out.level};
  const decode_status status =
      decoders[static_cast<std::size_t>(f.type)](packet.subspan(f.header_size), c, out.body);
  out.level = c.level;
  return status;
}

} // namespace chainring::mqtt
