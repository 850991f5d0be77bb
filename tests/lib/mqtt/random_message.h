// SPDX-License-Identifier: BSD-3-Clause
/// Random MQTT messages that keep every rule which the decoder checks, and damage for their
/// encodings.
#pragma once
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "mqtt/codec.h"

namespace chainring::mqtt::test {

class random_messages {
 public:
  explicit random_messages(std::uint64_t seed) : random_(seed) {}

  /// A message of any type that the version has. Its views are valid until the next call.
  message_body any(version v) {
    strings_.clear();
    user_properties_.clear();
    subscriptions_.clear();
    filters_.clear();
    reasons_.clear();
    ids_.clear();
    v5_ = v == version::v5;
    switch (packet_type(1 + below(v5_ ? 15 : 14))) {
    case packet_type::connect:
      return connect_message();
    case packet_type::connack:
      return connack_message();
    case packet_type::publish:
      return publish_message();
    case packet_type::puback:
      return ack<puback>();
    case packet_type::pubrec:
      return ack<pubrec>();
    case packet_type::pubrel:
      return ack<pubrel>();
    case packet_type::pubcomp:
      return ack<pubcomp>();
    case packet_type::subscribe:
      return subscribe_message();
    case packet_type::suback:
      return suback{.packet_id = id(),
                    .reasons = reasons(packet_type::suback),
                    .properties = properties_of(packet_type::suback)};
    case packet_type::unsubscribe:
      return unsubscribe_message();
    case packet_type::unsuback:
      return unsuback{.packet_id = id(),
                      .reasons = v5_ ? reasons(packet_type::unsuback) : reason_list{},
                      .properties = properties_of(packet_type::unsuback)};
    case packet_type::pingreq:
      return pingreq{};
    case packet_type::pingresp:
      return pingresp{};
    case packet_type::disconnect:
      return disconnect{.reason = reason(packet_type::disconnect),
                        .properties = properties_of(packet_type::disconnect)};
    case packet_type::auth:
      return auth_message();
    }
    return {};
  }

  std::size_t below(std::size_t n) { return random_() % n; }
  bool one_of(std::size_t n) { return below(n) == 0; }

  /// Changes some octets of a packet, cuts it or adds to it, and mostly mends its length.
  void damage(std::vector<std::byte>& packet) {
    for (std::size_t n = 1 + below(2); n > 0; --n) {
      const std::size_t at = below(packet.size());
      switch (below(8)) {
      case 0:
        packet.insert(packet.begin() + static_cast<std::ptrdiff_t>(at), any_octet());
        break;
      case 1:
        if (packet.size() > 1) packet.erase(packet.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      case 2:
        packet[at] = std::byte(static_cast<std::uint8_t>(below(3)));
        break;
      case 3:
        packet[at] ^= std::byte(static_cast<std::uint8_t>(1u << below(8)));
        break;
      case 4:
        packet[at] = one_of(2) ? std::byte{'+'} : std::byte{'#'};
        break;
      case 5: // the flags of the fixed header
        packet[0] ^= std::byte(static_cast<std::uint8_t>(1u << below(4)));
        break;
      default:
        packet[at] = any_octet();
      }
    }
    if (packet.size() >= 2 && packet.size() < 130 && !one_of(8))
      packet[1] = std::byte(static_cast<std::uint8_t>(packet.size() - 2));
  }

 private:
  std::byte any_octet() { return std::byte(static_cast<std::uint8_t>(random_())); }
  std::uint16_t id() { return static_cast<std::uint16_t>(1 + below(65535)); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(random_()); }
  std::uint32_t u32() {
    return one_of(4) ? 0xFFFFFFFF : static_cast<std::uint32_t>(random_() >> below(32));
  }

  std::string_view keep(std::string text) { return strings_.emplace_back(std::move(text)); }
  /// Mostly short, sometimes long enough that lengths need more octets.
  std::size_t size() { return one_of(40) ? below(400) : one_of(400) ? below(20000) : below(12); }

  std::string characters(std::size_t n, bool topic) {
    static const std::string_view some[] = {"a",
                                            "b",
                                            "Z",
                                            "7",
                                            "/",
                                            " ",
                                            "$",
                                            "\x01",
                                            "\x7F",
                                            "\xC2\x80",
                                            "\xC3\xA4",
                                            "\xDF\xBF",
                                            "\xE0\xA0\x80",
                                            "\xE2\x82\xAC",
                                            "\xEF\xBB\xBF",
                                            "\xED\x9F\xBF",
                                            "\xEE\x80\x80",
                                            "\xF0\x90\x80\x80",
                                            "\xF4\x8F\xBF\xBF",
                                            "+",
                                            "#"};
    std::string text;
    while (text.size() < n)
      text += some[below(std::size(some) - (topic ? 2 : 0))];
    return text;
  }
  std::string_view text() { return keep(characters(size(), false)); }
  std::string_view topic() { return keep(characters(1 + size(), true)); }
  octets binary() {
    std::string data(size(), 0);
    for (char& c : data)
      c = static_cast<char>(random_());
    return std::as_bytes(std::span(keep(std::move(data))));
  }
  std::string_view filter() {
    for (;;) {
      std::string made = one_of(8) ? "$share/group/" : "";
      for (std::size_t levels = 1 + below(4); levels > 0; --levels)
        made += (one_of(3) ? "+" : characters(below(5), true)) + "/";
      if (one_of(3)) {
        made += "#";
      } else {
        made.pop_back();
      }
      if (made.starts_with(shared_prefix) ? split_shared_filter(made).has_value()
                                          : valid_topic_filter(made))
        return keep(made);
    }
  }

  template <class T, class Make> void maybe(std::optional<T>& to, Make make) {
    if (one_of(3)) to = make();
  }

  properties properties_of(packet_type type) { return properties_of(static_cast<unsigned>(type)); }
  /// Properties that the packet type may have; 0 stands for a will.
  properties properties_of(unsigned type) {
    properties p;
    if (!v5_ || one_of(3)) return p;
    const auto is = [type](auto... types) {
      return ((type == static_cast<unsigned>(types)) || ...);
    };
    using t = packet_type;
    constexpr unsigned of_will = 0;
    const auto flag = [this] { return one_of(2); };
    const auto number = [this] { return u32(); };
    const auto word = [this] { return u16(); };
    const auto positive = [this] { return id(); };
    const auto string = [this] { return text(); };
    const auto data = [this] { return binary(); };
    if (is(t::publish, of_will)) {
      maybe(p.payload_format_indicator, flag);
      maybe(p.message_expiry_s, number);
      maybe(p.content_type, string);
      maybe(p.response_topic, [this] { return topic(); });
      maybe(p.correlation_data, data);
    }
    if (is(of_will)) maybe(p.will_delay_s, number);
    if (is(t::publish)) maybe(p.topic_alias, positive);
    if (is(t::publish, t::subscribe) && one_of(3)) {
      for (std::size_t n = is(t::publish) ? 1 + below(3) : 1; n > 0; --n)
        ids_.push_back(static_cast<std::uint32_t>(1 + (random_() >> below(28)) % 268435455));
      p.subscription_ids = ids_;
    }
    if (is(t::connect, t::connack)) {
      maybe(p.receive_maximum, positive);
      maybe(p.maximum_packet_size, [this] { return 1 + (u32() >> 1); });
      maybe(p.topic_alias_maximum, word);
    }
    if (is(t::connect, t::connack, t::disconnect)) maybe(p.session_expiry_s, number);
    if (is(t::connect)) {
      maybe(p.request_response_information, flag);
      maybe(p.request_problem_information, flag);
    }
    if (is(t::connect, t::connack, t::auth)) {
      maybe(p.authentication_method, string);
      if (p.authentication_method) maybe(p.authentication_data, data);
    }
    if (is(t::connack)) {
      maybe(p.assigned_client_id, string);
      maybe(p.response_information, string);
      maybe(p.server_keep_alive_s, word);
      maybe(p.maximum_qos, [this] { return qos_level(below(2)); });
      maybe(p.retain_available, flag);
      maybe(p.wildcard_subscription_available, flag);
      maybe(p.subscription_ids_available, flag);
      maybe(p.shared_subscription_available, flag);
    }
    if (is(t::connack, t::disconnect)) maybe(p.server_reference, string);
    if (is(t::connack, t::puback, t::pubrec, t::pubrel, t::pubcomp, t::suback, t::unsuback,
           t::disconnect, t::auth))
      maybe(p.reason_string, string);
    if (one_of(2)) {
      auto& all = user_properties_.emplace_back();
      for (std::size_t n = 1 + below(4); n > 0; --n)
        all.push_back({text(), text()});
      p.user_properties = all;
    }
    return p;
  }

  reason_code reason(packet_type type) {
    if (!v5_) return reason_code::success;
    for (;;)
      if (const auto code = reason_code(random_() & 0xFF); allowed_in(type, code)) return code;
  }
  reason_list reasons(packet_type type) {
    static constexpr reason_code old[] = {reason_code::granted_qos_0, reason_code::granted_qos_1,
                                          reason_code::granted_qos_2,
                                          reason_code::unspecified_error};
    for (std::size_t n = 1 + below(5); n > 0; --n)
      reasons_.push_back(v5_ ? reason(type) : old[below(4)]);
    return reasons_;
  }

  connect connect_message() {
    connect m{.clean_start = one_of(2),
              .keep_alive_s = u16(),
              .client_id = text(),
              .properties = properties_of(packet_type::connect)};
    if (one_of(2))
      m.will = will{.topic = topic(),
                    .payload = binary(),
                    .qos = qos_level(below(3)),
                    .retain = one_of(2),
                    .properties = properties_of(0u)};
    maybe(m.user_name, [this] { return text(); });
    if (v5_ || m.user_name) maybe(m.password, [this] { return binary(); });
    return m;
  }
  connack connack_message() {
    connack m{.properties = properties_of(packet_type::connack)};
    if (v5_) m.reason = reason(packet_type::connack);
    if (!v5_) m.return_code = connect_return_code(below(6));
    m.session_present = m.reason == reason_code::success &&
                        m.return_code == connect_return_code::accepted && one_of(2);
    return m;
  }
  publish publish_message() {
    publish m{.qos = qos_level(below(3)),
              .retain = one_of(2),
              .topic = topic(),
              .payload = binary(),
              .properties = properties_of(packet_type::publish)};
    if (m.qos != qos_level::zero) {
      m.dup = one_of(2);
      m.packet_id = id();
    }
    if (m.properties.topic_alias && one_of(2)) m.topic = {};
    return m;
  }
  template <class Message> Message ack() {
    return {.packet_id = id(),
            .reason = reason(Message::type),
            .properties = properties_of(Message::type)};
  }
  subscribe subscribe_message() {
    subscribe m{.packet_id = id(), .properties = properties_of(packet_type::subscribe)};
    for (std::size_t n = 1 + below(4); n > 0; --n) {
      subscription s{.filter = filter(), .qos = qos_level(below(3))};
      if (v5_) {
        s.no_local = !asks_to_share(s.filter) && one_of(2);
        s.retain_as_published = one_of(2);
        s.retain_handling = retain_handling(below(3));
      }
      subscriptions_.push_back(s);
    }
    m.subscriptions = subscriptions_;
    return m;
  }
  unsubscribe unsubscribe_message() {
    unsubscribe m{.packet_id = id(), .properties = properties_of(packet_type::unsubscribe)};
    for (std::size_t n = 1 + below(4); n > 0; --n)
      filters_.push_back(filter());
    m.filters = filters_;
    return m;
  }
  auth auth_message() {
    auth m{.reason = reason(packet_type::auth), .properties = properties_of(packet_type::auth)};
    if (!m.properties.authentication_method) {
      m.properties.authentication_method = text();
    }
    return m;
  }

  std::mt19937_64 random_;
  bool v5_ = false;
  std::deque<std::string> strings_;
  std::deque<std::vector<user_property>> user_properties_;
  std::vector<subscription> subscriptions_;
  std::vector<std::string_view> filters_;
  std::vector<reason_code> reasons_;
  std::vector<std::uint32_t> ids_;
};

} // namespace chainring::mqtt::test
