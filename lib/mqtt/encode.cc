// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <type_traits>

#include "mqtt/codec.h"
#include "mqtt/list_access.h"

namespace chainring::mqtt {
namespace {

constexpr std::size_t variable_integer_size(std::size_t value) noexcept {
  return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

/// Adds up the octets of a packet. What cannot be expressed makes the whole impossible.
class measure {
 public:
  measure& octets_of(std::size_t n) noexcept {
    if (n > packet_size_max) possible_ = false;
    size_ += possible_ ? n : 0;
    return *this;
  }
  measure& text(std::size_t size) noexcept {
    if (size > text_size_max) possible_ = false;
    return octets_of(2 + size);
  }
  measure& variable_integer(std::size_t value) noexcept {
    if (value > variable_integer_max) possible_ = false;
    return octets_of(variable_integer_size(value));
  }
  void impossible() noexcept { possible_ = false; }
  /// A section of `size` octets behind its length.
  measure& section(std::size_t size) noexcept { return variable_integer(size).octets_of(size); }
  bool possible() const noexcept { return possible_ && size_ <= variable_integer_max; }
  std::size_t size() const noexcept { return size_; }

 private:
  std::size_t size_ = 0;
  bool possible_ = true;
};

/// Writes from left to right. The caller knows that all of it fits.
class writer {
 public:
  explicit writer(std::byte* to) noexcept : at_(to) {}

  writer& u8(unsigned value) noexcept {
    *at_++ = std::byte(static_cast<std::uint8_t>(value));
    return *this;
  }
  writer& u16(std::size_t value) noexcept {
    return u8(static_cast<unsigned>(value >> 8)).u8(static_cast<unsigned>(value & 0xFF));
  }
  writer& u32(std::uint32_t value) noexcept { return u16(value >> 16).u16(value & 0xFFFF); }
  writer& variable_integer(std::size_t value) noexcept {
    for (; value >= 128; value >>= 7)
      u8(static_cast<unsigned>(value & 0x7F) | 0x80);
    return u8(static_cast<unsigned>(value));
  }
  writer& bytes(octets data) noexcept {
    at_ = std::copy(data.begin(), data.end(), at_);
    return *this;
  }
  writer& binary(octets data) noexcept { return u16(data.size()).bytes(data); }
  writer& text(std::string_view value) noexcept { return binary(std::as_bytes(std::span(value))); }
  std::byte* at() const noexcept { return at_; }

 private:
  std::byte* at_;
};

// --- properties ----------------------------------------------------------------------------------

/// Calls visit(id, value) for each property that is present and that has one value, in the order of
/// the identifiers.
template <class Visit> void for_each_value(const properties& p, Visit visit) noexcept {
  const auto one = [&](property_id id, const auto& value) {
    if (value) visit(id, *value);
  };
  one(property_id::payload_format_indicator, p.payload_format_indicator);
  one(property_id::message_expiry_interval, p.message_expiry_s);
  one(property_id::content_type, p.content_type);
  one(property_id::response_topic, p.response_topic);
  one(property_id::correlation_data, p.correlation_data);
  one(property_id::session_expiry_interval, p.session_expiry_s);
  one(property_id::assigned_client_identifier, p.assigned_client_id);
  one(property_id::server_keep_alive, p.server_keep_alive_s);
  one(property_id::authentication_method, p.authentication_method);
  one(property_id::authentication_data, p.authentication_data);
  one(property_id::request_problem_information, p.request_problem_information);
  one(property_id::will_delay_interval, p.will_delay_s);
  one(property_id::request_response_information, p.request_response_information);
  one(property_id::response_information, p.response_information);
  one(property_id::server_reference, p.server_reference);
  one(property_id::reason_string, p.reason_string);
  one(property_id::receive_maximum, p.receive_maximum);
  one(property_id::topic_alias_maximum, p.topic_alias_maximum);
  one(property_id::topic_alias, p.topic_alias);
  one(property_id::maximum_qos, p.maximum_qos);
  one(property_id::retain_available, p.retain_available);
  one(property_id::maximum_packet_size, p.maximum_packet_size);
  one(property_id::wildcard_subscription_available, p.wildcard_subscription_available);
  one(property_id::subscription_identifier_available, p.subscription_ids_available);
  one(property_id::shared_subscription_available, p.shared_subscription_available);
}

void add(measure& m, bool) noexcept {
  m.octets_of(1);
}
void add(measure& m, qos_level) noexcept {
  m.octets_of(1);
}
void add(measure& m, std::uint16_t) noexcept {
  m.octets_of(2);
}
void add(measure& m, std::uint32_t) noexcept {
  m.octets_of(4);
}
void add(measure& m, std::string_view value) noexcept {
  m.text(value.size());
}
void add(measure& m, octets value) noexcept {
  m.text(value.size());
}

void put(writer& out, bool value) noexcept {
  out.u8(value ? 1 : 0);
}
void put(writer& out, qos_level value) noexcept {
  out.u8(static_cast<unsigned>(value));
}
void put(writer& out, std::uint16_t value) noexcept {
  out.u16(value);
}
void put(writer& out, std::uint32_t value) noexcept {
  out.u32(value);
}
void put(writer& out, std::string_view value) noexcept {
  out.text(value);
}
void put(writer& out, octets value) noexcept {
  out.binary(value);
}

// --- the items of lists --------------------------------------------------------------------------

void add_item(measure& m, const user_property& item) noexcept {
  m.octets_of(1).text(item.name.size()).text(item.value.size());
}
void add_item(measure& m, std::uint32_t subscription_id) noexcept {
  m.octets_of(1).variable_integer(subscription_id);
}
void add_item(measure& m, std::string_view filter) noexcept {
  m.text(filter.size());
}
void add_item(measure& m, const subscription& item) noexcept {
  m.text(item.filter.size()).octets_of(1);
}
void add_item(measure& m, reason_code) noexcept {
  m.octets_of(1);
}

void put_item(writer& out, version, const user_property& item) noexcept {
  out.u8(static_cast<unsigned>(property_id::user_property)).text(item.name).text(item.value);
}
void put_item(writer& out, version, std::uint32_t subscription_id) noexcept {
  out.u8(static_cast<unsigned>(property_id::subscription_identifier))
      .variable_integer(subscription_id);
}
void put_item(writer& out, version, std::string_view filter) noexcept {
  out.text(filter);
}
void put_item(writer& out, version v, const subscription& item) noexcept {
  unsigned options = static_cast<unsigned>(item.qos);
  if (v == version::v5)
    options |= (item.no_local ? 4u : 0u) | (item.retain_as_published ? 8u : 0u) |
               static_cast<unsigned>(item.retain_handling) << 4;
  out.text(item.filter).u8(options);
}
void put_item(writer& out, version, reason_code item) noexcept {
  out.u8(static_cast<unsigned>(item));
}

template <class Item> void add_list(measure& m, const list<Item>& all) noexcept {
  if (list_access::validated(all)) {
    m.octets_of(list_access::items_size(all));
    return;
  }
  for (const Item item : all)
    add_item(m, item);
}

template <class Item> void put_list(writer& out, version v, const list<Item>& all) noexcept {
  // The options of MQTT 5.0 in a subscription are no octets of MQTT 3.1.1.
  const bool as_it_is = !std::is_same_v<Item, subscription> || v == version::v5;
  if (as_it_is && list_access::contiguous(all)) {
    out.bytes(all.raw());
    return;
  }
  for (const Item item : all)
    put_item(out, v, item);
}

measure measured(const properties& p) noexcept {
  measure m;
  for_each_value(p, [&](property_id, const auto& value) {
    m.octets_of(1);
    add(m, value);
  });
  add_list(m, p.subscription_ids);
  add_list(m, p.user_properties);
  return m;
}

void put_section(writer& out, const properties& p) noexcept {
  for_each_value(p, [&](property_id id, const auto& value) {
    out.u8(static_cast<unsigned>(id));
    put(out, value);
  });
  put_list(out, version::v5, p.subscription_ids);
  put_list(out, version::v5, p.user_properties);
}

// --- packets -------------------------------------------------------------------------------------

/// One packet on its way into a buffer: its fields are measured, and then written if they fit.
class packet {
 public:
  packet(std::span<std::byte> to, version v, packet_type type, unsigned flags = 0) noexcept
      : to_(to), version_(v), first_(static_cast<unsigned>(type) << 4 | flags) {}

  bool v5() const noexcept { return version_ == version::v5; }

  /// Writes the fixed header and calls write(writer), if the packet can be expressed and what is
  /// written of it fits. The last `left_out` octets are left to the caller.
  template <class Write>
  std::size_t encode(const measure& body, Write write, std::size_t left_out = 0) const noexcept {
    if (!body.possible()) return 0;
    const std::size_t size = 1 + variable_integer_size(body.size()) + body.size() - left_out;
    if (size > to_.size()) return 0;
    writer out(to_.data());
    out.u8(first_).variable_integer(body.size());
    write(out);
    return size;
  }

 private:
  std::span<std::byte> to_;
  version version_;
  unsigned first_;
};

/// A property section and its length. MQTT 3.1.1 has none.
class section {
 public:
  section(const packet& of, const properties& p) noexcept
      : properties_(p), present_(of.v5()), size_(present_ ? measured(p) : measure{}) {}

  /// True where there is nothing to write but a length of 0.
  bool empty() const noexcept { return size_.possible() && size_.size() == 0; }
  void add_to(measure& m) const noexcept {
    if (!present_) return;
    if (!size_.possible()) m.impossible();
    m.section(size_.size());
  }
  void write(writer& out) const noexcept {
    if (!present_) return;
    out.variable_integer(size_.size());
    if (size_.size() > 0) put_section(out, properties_);
  }

 private:
  const properties& properties_;
  bool present_;
  measure size_;
};

template <class Message> std::size_t bare(std::span<std::byte> to, version v) noexcept {
  return packet(to, v, Message::type).encode(measure{}, [](writer&) {});
}

/// A packet that ends with a reason code and properties. It leaves out both where they say nothing,
/// and the properties where its type may end behind the reason code.
template <class Message, class Write>
std::size_t with_reason(const packet& p, const Message& m, measure body, Write first) noexcept {
  constexpr bool may_end_behind_reason = Message::type != packet_type::auth;
  const section properties(p, m.properties);
  const bool reason_only = properties.empty() && may_end_behind_reason;
  const bool has_reason = p.v5() && (!properties.empty() || m.reason != reason_code::success);
  const bool has_properties = has_reason && !reason_only;
  if (has_reason) body.octets_of(1);
  if (has_properties) properties.add_to(body);
  return p.encode(body, [&](writer& out) {
    first(out);
    if (has_reason) out.u8(static_cast<unsigned>(m.reason));
    if (has_properties) properties.write(out);
  });
}

template <class Message>
std::size_t ack(std::span<std::byte> to, version v, const Message& m, unsigned flags = 0) noexcept {
  measure body;
  return with_reason(packet(to, v, Message::type, flags), m, body.octets_of(2),
                     [&](writer& out) { out.u16(m.packet_id); });
}

/// Encodes SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.
template <class Message, class Item>
std::size_t with_list(const packet& p, version v, const Message& m,
                      const list<Item>& items) noexcept {
  const section properties(p, m.properties);
  measure body;
  properties.add_to(body.octets_of(2));
  add_list(body, items);
  return p.encode(body, [&](writer& out) {
    out.u16(m.packet_id);
    properties.write(out);
    put_list(out, v, items);
  });
}

/// Measures what stands between the fixed header of a PUBLISH and its payload.
measure publish_fields(const publish& m, const section& properties) noexcept {
  measure fields;
  fields.text(m.topic.size()).octets_of(m.qos != qos_level::zero ? 2 : 0);
  properties.add_to(fields);
  return fields;
}

std::size_t publish_with(std::span<std::byte> to, version v, const publish& m,
                         std::size_t payload_size, bool with_payload) noexcept {
  const unsigned flags =
      (m.dup ? 8u : 0u) | static_cast<unsigned>(m.qos) << 1 | (m.retain ? 1u : 0u);
  const packet p(to, v, publish::type, flags);
  const section properties(p, m.properties);
  const auto write = [&](writer& out) {
    out.text(m.topic);
    if (m.qos != qos_level::zero) out.u16(m.packet_id);
    properties.write(out);
    if (with_payload) out.bytes(m.payload);
  };
  return p.encode(publish_fields(m, properties).octets_of(payload_size), write,
                  with_payload ? 0 : payload_size);
}

/// The encoder of each packet type.
std::size_t encode_message(std::span<std::byte> to, version v, const connect& m) noexcept {
  return encode_connect(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const connack& m) noexcept {
  return encode_connack(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const publish& m) noexcept {
  return encode_publish(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const puback& m) noexcept {
  return encode_puback(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const pubrec& m) noexcept {
  return encode_pubrec(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const pubrel& m) noexcept {
  return encode_pubrel(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const pubcomp& m) noexcept {
  return encode_pubcomp(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const subscribe& m) noexcept {
  return encode_subscribe(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const suback& m) noexcept {
  return encode_suback(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const unsubscribe& m) noexcept {
  return encode_unsubscribe(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const unsuback& m) noexcept {
  return encode_unsuback(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const pingreq& m) noexcept {
  return encode_pingreq(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const pingresp& m) noexcept {
  return encode_pingresp(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const disconnect& m) noexcept {
  return encode_disconnect(to, v, m);
}
std::size_t encode_message(std::span<std::byte> to, version v, const auth& m) noexcept {
  return encode_auth(to, v, m);
}

} // namespace

std::size_t encode_connect(std::span<std::byte> to, version v, const connect& m) noexcept {
  const packet p(to, v, m.type);
  const properties none;
  const section own(p, m.properties), of_will(p, m.will ? m.will->properties : none);
  unsigned flags =
      (m.clean_start ? 0x02u : 0u) | (m.user_name ? 0x80u : 0u) | (m.password ? 0x40u : 0u);
  measure body;
  body.text(protocol_name.size()).octets_of(4);
  own.add_to(body);
  body.text(m.client_id.size());
  if (m.will) {
    flags |= 0x04u | static_cast<unsigned>(m.will->qos) << 3 | (m.will->retain ? 0x20u : 0u);
    of_will.add_to(body);
    body.text(m.will->topic.size()).text(m.will->payload.size());
  }
  if (m.user_name) body.text(m.user_name->size());
  if (m.password) body.text(m.password->size());
  return p.encode(body, [&](writer& out) {
    out.text(protocol_name).u8(static_cast<unsigned>(v)).u8(flags).u16(m.keep_alive_s);
    own.write(out);
    out.text(m.client_id);
    if (m.will) {
      of_will.write(out);
      out.text(m.will->topic).binary(m.will->payload);
    }
    if (m.user_name) out.text(*m.user_name);
    if (m.password) out.binary(*m.password);
  });
}

std::size_t encode_connack(std::span<std::byte> to, version v, const connack& m) noexcept {
  const packet p(to, v, m.type);
  const section properties(p, m.properties);
  measure body;
  properties.add_to(body.octets_of(2));
  return p.encode(body, [&](writer& out) {
    out.u8(m.session_present ? 1 : 0);
    out.u8(p.v5() ? static_cast<unsigned>(m.reason) : static_cast<unsigned>(m.return_code));
    properties.write(out);
  });
}

std::size_t encode_publish(std::span<std::byte> to, version v, const publish& m) noexcept {
  return publish_with(to, v, m, m.payload.size(), true);
}

std::size_t encode_publish_header(std::span<std::byte> to, version v, const publish& m,
                                  std::size_t payload_size) noexcept {
  return publish_with(to, v, m, payload_size, false);
}

std::size_t publish_header_size(version v, const publish& m, std::size_t payload_size) noexcept {
  measure fields = publish_fields(m, section(packet({}, v, m.type), m.properties));
  const std::size_t own = fields.size();
  if (!fields.octets_of(payload_size).possible()) return 0;
  return 1 + variable_integer_size(fields.size()) + own;
}

std::size_t encode_puback(std::span<std::byte> to, version v, const puback& m) noexcept {
  return ack(to, v, m);
}
std::size_t encode_pubrec(std::span<std::byte> to, version v, const pubrec& m) noexcept {
  return ack(to, v, m);
}
std::size_t encode_pubrel(std::span<std::byte> to, version v, const pubrel& m) noexcept {
  return ack(to, v, m, 2);
}
std::size_t encode_pubcomp(std::span<std::byte> to, version v, const pubcomp& m) noexcept {
  return ack(to, v, m);
}

std::size_t encode_subscribe(std::span<std::byte> to, version v, const subscribe& m) noexcept {
  return with_list(packet(to, v, m.type, 2), v, m, m.subscriptions);
}
std::size_t encode_suback(std::span<std::byte> to, version v, const suback& m) noexcept {
  return with_list(packet(to, v, m.type), v, m, m.reasons);
}
std::size_t encode_unsubscribe(std::span<std::byte> to, version v, const unsubscribe& m) noexcept {
  return with_list(packet(to, v, m.type, 2), v, m, m.filters);
}
std::size_t encode_unsuback(std::span<std::byte> to, version v, const unsuback& m) noexcept {
  return with_list(packet(to, v, m.type), v, m, v == version::v5 ? m.reasons : reason_list{});
}

std::size_t encode_pingreq(std::span<std::byte> to, version v, const pingreq&) noexcept {
  return bare<pingreq>(to, v);
}
std::size_t encode_pingresp(std::span<std::byte> to, version v, const pingresp&) noexcept {
  return bare<pingresp>(to, v);
}

std::size_t encode_disconnect(std::span<std::byte> to, version v, const disconnect& m) noexcept {
  return with_reason(packet(to, v, m.type), m, measure{}, [](writer&) {});
}
std::size_t encode_auth(std::span<std::byte> to, version v, const auth& m) noexcept {
  return v == version::v5 ? with_reason(packet(to, v, m.type), m, measure{}, [](writer&) {}) : 0;
}

std::size_t encode(std::span<std::byte> to, version v, const message_body& body) noexcept {
  return std::visit(
      [&]<class Message>(const Message& m) noexcept -> std::size_t {
        if constexpr (std::is_same_v<Message, std::monostate>)
          return 0;
        else
          return encode_message(to, v, m);
      },
      body);
}

std::size_t encode_properties(std::span<std::byte> to, const properties& p) noexcept {
  const std::optional<std::size_t> size = properties_size(p);
  if (!size || *size > to.size()) return 0;
  writer out(to.data());
  put_section(out, p);
  return *size;
}

std::optional<std::size_t> properties_size(const properties& p) noexcept {
  const measure m = measured(p);
  if (!m.possible()) return std::nullopt;
  return m.size();
}

} // namespace chainring::mqtt
