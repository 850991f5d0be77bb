// SPDX-License-Identifier: BSD-3-Clause
// The rules of properties (MQTT 5.0, section 2.2.2), in every packet type and in wills.
#include <map>

#include "mqtt_packets.h"

namespace chainring::mqtt {
namespace {

using namespace test;
using namespace std::string_literals;

/// A packet of this type, and at 0 a CONNECT whose will has the properties.
std::string packet_with(unsigned type, const std::string& properties) {
  const std::string p = section(properties);
  switch (packet_type(type)) {
  case packet_type::connect:
    return packet(0x10, str("MQTT") + raw({5, 2}) + be16(0) + p + str("c"));
  case packet_type::connack:
    return packet(0x20, raw({0, 0}) + p);
  case packet_type::publish:
    return packet(0x30, str("t") + p);
  case packet_type::puback:
  case packet_type::pubrec:
  case packet_type::pubcomp:
    return packet(type << 4, be16(1) + raw({0}) + p);
  case packet_type::pubrel:
    return packet(0x62, be16(1) + raw({0}) + p);
  case packet_type::subscribe:
    return packet(0x82, be16(1) + p + str("a") + raw({0}));
  case packet_type::suback:
    return packet(0x90, be16(1) + p + raw({0}));
  case packet_type::unsubscribe:
    return packet(0xA2, be16(1) + p + str("a"));
  case packet_type::unsuback:
    return packet(0xB0, be16(1) + p + raw({0}));
  case packet_type::disconnect:
    return packet(0xE0, raw({0}) + p);
  case packet_type::auth:
    return packet(0xF0, raw({0x18}) + p);
  default: // the properties of a will
    return packet(0x10, str("MQTT") + raw({5, 6}) + be16(0) + section() + str("c") + p + str("w") +
                            str(""));
  }
}

constexpr unsigned of_will = 0;
constexpr unsigned owners[] = {of_will, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15};

/// A valid value of each property.
const std::map<unsigned, std::string>& values() {
  static const std::map<unsigned, std::string> all = {{0x01, raw({1})},
                                                      {0x02, raw({0, 0, 0, 1})},
                                                      {0x03, str("t")},
                                                      {0x08, str("r")},
                                                      {0x09, str("\xFF")},
                                                      {0x0B, raw({7})},
                                                      {0x11, raw({0, 0, 0, 1})},
                                                      {0x12, str("i")},
                                                      {0x13, be16(1)},
                                                      {0x15, str("m")},
                                                      {0x16, str("\xFF")},
                                                      {0x17, raw({1})},
                                                      {0x18, raw({0, 0, 0, 1})},
                                                      {0x19, raw({1})},
                                                      {0x1A, str("r")},
                                                      {0x1C, str("s")},
                                                      {0x1F, str("r")},
                                                      {0x21, be16(1)},
                                                      {0x22, be16(1)},
                                                      {0x23, be16(1)},
                                                      {0x24, raw({1})},
                                                      {0x25, raw({1})},
                                                      {0x26, str("k") + str("v")},
                                                      {0x27, raw({0, 0, 0, 1})},
                                                      {0x28, raw({1})},
                                                      {0x29, raw({1})},
                                                      {0x2A, raw({1})}};
  return all;
}

/// The packets that may have each property (table 2-4), with 0 for a will.
const std::map<unsigned, std::vector<unsigned>>& table_2_4() {
  static const std::map<unsigned, std::vector<unsigned>> all = {
      {0x01, {0, 3}},
      {0x02, {0, 3}},
      {0x03, {0, 3}},
      {0x08, {0, 3}},
      {0x09, {0, 3}},
      {0x0B, {3, 8}},
      {0x11, {1, 2, 14}},
      {0x12, {2}},
      {0x13, {2}},
      {0x15, {1, 2, 15}},
      {0x16, {1, 2, 15}},
      {0x17, {1}},
      {0x18, {0}},
      {0x19, {1}},
      {0x1A, {2}},
      {0x1C, {2, 14}},
      {0x1F, {2, 4, 5, 6, 7, 9, 11, 14, 15}},
      {0x21, {1, 2}},
      {0x22, {1, 2}},
      {0x23, {3}},
      {0x24, {2}},
      {0x25, {2}},
      {0x26, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15}},
      {0x27, {1, 2}},
      {0x28, {2}},
      {0x29, {2}},
      {0x2A, {2}}};
  return all;
}

/// What goes with a property, so that the packet is valid: data needs a method, and AUTH needs one.
std::string companion(unsigned owner, unsigned id) {
  const bool needs = (id == 0x16 || owner == 15) && id != 0x15;
  return needs ? raw({0x15}) + str("m") : "";
}

bool may_have(unsigned owner, unsigned id) {
  const auto found = table_2_4().find(id);
  return found != table_2_4().end() &&
         std::ranges::find(found->second, owner) != found->second.end();
}

TEST(MqttProperties, APacketHasOnlyThoseOfItsType) { // section 2.2.2.2
  for (const unsigned owner : owners)
    for (unsigned id = 0; id < 256; ++id) {
      const auto value = values().find(id);
      const std::string property = raw({id}) + (value != values().end() ? value->second : str("x"));
      EXPECT_EQ(status_of(v5, packet_with(owner, companion(owner, id) + property)),
                may_have(owner, id) ? status::ok : status::malformed)
          << "packet " << owner << " property " << id;
    }
}

TEST(MqttProperties, EachIsThereAtMostOnceButUserPropertiesAndTheIdentifiersOfAPublish) {
  for (const unsigned owner : owners)
    for (const auto& [id, value] : values()) {
      if (!may_have(owner, id)) continue;
      const bool repeatable = id == 0x26 || (id == 0x0B && owner == 3);
      const std::string one = raw({id}) + value;
      EXPECT_EQ(status_of(v5, packet_with(owner, companion(owner, id) + one + one)),
                repeatable ? status::ok : status::protocol_error)
          << "packet " << owner << " property " << id;
    }
}

TEST(MqttProperties, AValueThatEndsBehindTheSectionIsMalformed) { // section 2.2.2.2
  for (const unsigned owner : owners)
    for (const auto& [id, value] : values()) {
      if (!may_have(owner, id)) continue;
      for (std::size_t n = 0; n < value.size(); ++n) {
        const std::string cut = raw({id}) + value.substr(0, n);
        EXPECT_EQ(status_of(v5, packet_with(owner, companion(owner, id) + cut)), status::malformed)
            << "packet " << owner << " property " << id;
      }
    }
}

TEST(MqttProperties, ASectionThatEndsBehindThePacketIsMalformed) {
  EXPECT_EQ(status_of(v5, packet(0x20, raw({0, 0, 1}))), status::malformed);
  EXPECT_EQ(status_of(v5, packet(0x20, raw({0, 0, 4, 0x21, 0, 1}))), status::malformed);
  EXPECT_EQ(status_of(v5, packet(0x20, raw({0, 0, 0xFF, 0xFF, 0xFF, 0x7F}))), status::malformed);
}

TEST(MqttProperties, TheLengthOfASectionHasTheShortestForm) { // [MQTT-1.5.5-1]
  EXPECT_EQ(status_of(v5, packet(0x20, raw({0, 0, 0x80, 0x00}))), status::malformed);
  EXPECT_EQ(status_of(v5, packet(0x20, raw({0, 0, 0x83, 0x00, 0x21, 0, 1}))), status::malformed);
  EXPECT_EQ(status_of(v5, packet(0x20, raw({0, 0, 0x80, 0x80, 0x80, 0x80, 0x00}))),
            status::malformed);
  const std::string pair = raw({0x26}) + str("k") + str(std::string(200, 'v'));
  EXPECT_EQ(status_of(v5, packet_with(2, pair)), status::ok);
}

TEST(MqttProperties, ABooleanIsZeroOrOne) {
  for (const unsigned id : {0x01u, 0x17u, 0x19u, 0x24u, 0x25u, 0x28u, 0x29u, 0x2Au}) {
    const unsigned owner = table_2_4().at(id).front();
    for (unsigned value = 0; value < 256; ++value)
      EXPECT_EQ(status_of(v5, packet_with(owner, raw({id, value}))),
                value < 2 ? status::ok : status::protocol_error)
          << id;
  }
}

TEST(MqttProperties, MaximaOfPacketsAndSizesAreNotZero) { // sections 3.1.2.11.3, 3.1.2.11.4
  for (const unsigned owner : {1u, 2u}) {
    EXPECT_EQ(status_of(v5, packet_with(owner, raw({0x21, 0, 0}))), status::protocol_error);
    EXPECT_EQ(status_of(v5, packet_with(owner, raw({0x21, 1, 0}))), status::ok);
    EXPECT_EQ(status_of(v5, packet_with(owner, raw({0x27, 0, 0, 0, 0}))), status::protocol_error);
    EXPECT_EQ(status_of(v5, packet_with(owner, raw({0x27, 1, 0, 0, 0}))), status::ok);
    EXPECT_EQ(status_of(v5, packet_with(owner, raw({0x22, 0, 0}))), status::ok);
  }
}

TEST(MqttProperties, StringsAreUtf8WithoutNul) { // [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1]
  for (const std::string& bad : {"\xFF"s, "\0"s, "\xED\xA0\x80"s}) {
    for (const unsigned id : {0x03u, 0x08u, 0x12u, 0x15u, 0x1Au, 0x1Cu, 0x1Fu}) {
      const unsigned owner = table_2_4().at(id).front();
      EXPECT_EQ(status_of(v5, packet_with(owner, raw({id}) + str(bad))), status::malformed) << id;
    }
    for (const unsigned owner : owners) {
      const std::string good = companion(owner, 0x26);
      EXPECT_EQ(status_of(v5, packet_with(owner, good + raw({0x26}) + str(bad) + str(""))),
                status::malformed);
      EXPECT_EQ(status_of(v5, packet_with(owner, good + raw({0x26}) + str("") + str(bad))),
                status::malformed);
    }
  }
}

TEST(MqttProperties, AuthenticationDataComesOnlyWithAMethod) { // sections 3.1.2.11.10, 3.2.2.3.18
  for (const unsigned owner : {1u, 2u, 15u})
    EXPECT_EQ(status_of(v5, packet_with(owner, raw({0x16}) + str("d"))), status::protocol_error);
}

TEST(MqttProperties, AFaultOfTheFormGoesBeforeAFaultOfTheProtocol) { // section 1.2
  EXPECT_EQ(status_of(v5, packet_with(1, raw({0x21, 0, 0, 0x7F}))), status::malformed);
  EXPECT_EQ(status_of(v5, packet(0x32, str("t") + be16(0) + section(raw({0x7F})))),
            status::malformed);
  EXPECT_EQ(status_of(v5, packet(0x62, be16(0) + raw({0x92}) + section() + raw({0}))),
            status::malformed);
  // Of two faults of the protocol, the first is told.
  EXPECT_EQ(status_of(v5, packet_with(3, raw({0x23, 0, 0, 0x23, 0, 1}))),
            status::topic_alias_invalid);
}

TEST(MqttProperties, UserPropertiesKeepTheirOrderBetweenOthers) { // [MQTT-3.3.2-18]
  const auto pair = [](const char* k, const char* v) { return raw({0x26}) + str(k) + str(v); };
  std::string all = pair("b", "1");
  for (const unsigned id : {0x01u, 0x02u, 0x03u, 0x08u, 0x09u, 0x0Bu, 0x23u})
    all += raw({id}) + values().at(id) + pair("a", std::to_string(id).c_str());
  const decoded d(v5, packet_with(3, all + pair("b", "")));
  ASSERT_EQ(d.status, status::ok);
  std::string found;
  for (const user_property p : d.out.get<publish>()->properties.user_properties)
    found += std::string(p.name) + "=" + std::string(p.value) + " ";
  EXPECT_EQ(found, "b=1 a=1 a=2 a=3 a=8 a=9 a=11 a=35 b= ");
}

TEST(MqttProperties, AStoredSectionIsReadAgainByTheRulesOfItsOwner) {
  const std::string stored =
      raw({0x02, 0, 0, 0, 9, 0x23, 0, 5, 0x0B, 3, 0x26}) + str("k") + str("v");
  const decoded d(v5, packet_with(3, stored));
  ASSERT_EQ(d.status, status::ok);
  const properties& read = d.out.get<publish>()->properties;
  EXPECT_EQ(to_hex(read.raw), to_hex(octets_of(stored)));
  properties again;
  ASSERT_EQ(decode_properties(packet_type::publish, read.raw, again), status::ok);
  // A broker forwards them with another expiry, alias and identifier.
  const std::uint32_t ids[] = {300};
  again.message_expiry_s = 4;
  again.topic_alias = std::nullopt;
  again.subscription_ids = ids;
  std::byte buffer[32];
  EXPECT_EQ(properties_size(again), 15u);
  const std::size_t n = encode_properties(buffer, again);
  EXPECT_EQ(to_hex(octets(buffer).first(n)), "0200000004"
                                             "0bac02"
                                             "2600016b000176");
  EXPECT_EQ(encode_properties(std::span(buffer).first(14), again), 0u);
  EXPECT_EQ(encode_properties(std::span(buffer).first(15), again), 15u);
  EXPECT_EQ(decode_will_properties(read.raw, again), status::malformed);
  EXPECT_TRUE(again.raw.empty() && again.user_properties.empty() && !again.message_expiry_s);
  const std::string of_a_will = raw({0x18, 0, 0, 0, 1});
  EXPECT_EQ(decode_will_properties(octets_of(of_a_will), again), status::ok);
  EXPECT_EQ(again.will_delay_s, 1u);
  EXPECT_EQ(decode_properties(packet_type::publish, octets_of(of_a_will), again),
            status::malformed);
}

} // namespace
} // namespace chainring::mqtt
