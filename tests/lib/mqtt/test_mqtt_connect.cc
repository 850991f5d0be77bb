// SPDX-License-Identifier: BSD-3-Clause
// The rules of CONNECT, CONNACK, DISCONNECT and AUTH that one packet shows. A statement's
// identifier is that of both specifications unless it says of which.
#include "mqtt_packets.h"

namespace chainring::mqtt {
namespace {

using namespace test;
using namespace std::string_literals;

/// A CONNECT with these flags and this payload.
std::string connect_packet(version v, unsigned flags, const std::string& payload = str("c"),
                           const std::string& properties = "") {
  return packet(0x10, str("MQTT") + raw({static_cast<unsigned>(v), flags}) + be16(60) +
                          (v == v5 ? section(properties) : "") + payload);
}

std::string will_fields(version v, const std::string& topic, const std::string& properties = "") {
  return (v == v5 ? section(properties) : "") + str(topic) + str("payload");
}

constexpr std::string_view not_utf8[] = {
    std::string_view("\0", 1), "a\xFF", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82"};

TEST(MqttConnect, HasTheProtocolNameMqtt) { // [MQTT-3.1.2-1]
  const auto named = [](const std::string& name, unsigned level) {
    return packet(0x10, str(name) + raw({level, 2}) + be16(60) + (level == 5 ? section() : "") +
                            str("c"));
  };
  for (const unsigned level : {4u, 5u})
    EXPECT_EQ(status_of(v3, named("MQTT", level)), status::ok);
  for (const char* name : {"MQIsdp", "mqtt", "MQT", "", "MQTT5"})
    for (const unsigned level : {3u, 4u, 5u}) {
      const decoded d(v5, named(name, level));
      EXPECT_EQ(d.status, status::unknown_protocol);
      EXPECT_EQ(d.out.level, level);
    }
  EXPECT_EQ(status_of(v3, named("\xFF", 4)), status::malformed);
}

TEST(MqttConnect, OfAnUnknownLevelTellsTheLevelWhateverFollows) { // [MQTT-3.1.2-2]
  for (const unsigned level : {0u, 3u, 6u, 0x83u, 0x84u, 255u}) {
    for (const std::string& rest : {""s, "\xFF\xFF\xFF"s, raw({2}) + be16(60) + str("c")}) {
      const decoded d(v5, packet(0x10, str("MQTT") + raw({level}) + rest));
      EXPECT_EQ(d.status, status::unknown_level) << level;
      EXPECT_EQ(d.out.level, level);
      EXPECT_EQ(d.out.type, packet_type::connect);
    }
  }
  // Its remaining length may have any form, because no rule of MQTT 5.0 holds for it.
  EXPECT_EQ(status_of(v5, raw({0x10, 0x87, 0x00}) + str("MQTT") + raw({9})), status::unknown_level);
  const decoded d(v5, packet(0x10, str("MQTT")));
  EXPECT_EQ(d.status, status::malformed);
  EXPECT_EQ(d.out.level, 0);
}

TEST(MqttConnect, TellsItsVersionAlsoWhenItIsMalformed) {
  for (const version v : {v3, v5}) {
    const decoded d(v3, connect_packet(v, 0x01));
    EXPECT_EQ(d.status, status::malformed);
    EXPECT_EQ(d.out.level, static_cast<unsigned>(v));
  }
}

TEST(MqttConnect, HasTheReservedFlagZero) { // [MQTT-3.1.2-3]
  for (const version v : {v3, v5}) {
    EXPECT_EQ(status_of(v, connect_packet(v, 0x02)), status::ok);
    EXPECT_EQ(status_of(v, connect_packet(v, 0x03)), status::malformed);
  }
}

// [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15]
TEST(MqttConnect, WithoutWillHasNoWillQosAndNoWillRetain) {
  for (const version v : {v3, v5}) {
    for (const unsigned flags : {0x08u, 0x10u, 0x18u, 0x20u, 0x28u})
      EXPECT_EQ(status_of(v, connect_packet(v, flags | 2)), status::malformed) << flags;
    EXPECT_EQ(status_of(v, connect_packet(v, 2, str("c") + will_fields(v, "w"))),
              status::malformed); // and no fields of a will
  }
}

TEST(MqttConnect, WithWillHasAWillQosOfZeroToTwo) { // [MQTT-3.1.2-14]
  for (const version v : {v3, v5})
    for (unsigned qos = 0; qos < 4; ++qos)
      EXPECT_EQ(status_of(v, connect_packet(v, 0x06 | qos << 3, str("c") + will_fields(v, "w"))),
                qos < 3 ? status::ok : status::malformed);
}

TEST(MqttConnect, WithWillHasWillTopicAndPayload) { // [MQTT-3.1.2-9]
  for (const version v : {v3, v5}) {
    EXPECT_EQ(status_of(v, connect_packet(v, 0x06, str("c"))), status::malformed);
    EXPECT_EQ(
        status_of(v, connect_packet(v, 0x06, str("c") + (v == v5 ? section() : "") + str("w"))),
        status::malformed);
  }
}

// [MQTT-3.1.3-10] of 3.1.1, [MQTT-3.1.3-9] of 5.0; [MQTT-4.7.1-1] of 3.1.1, [MQTT-4.7.0-1] of 5.0;
// [MQTT-4.7.3-1]
TEST(MqttConnect, HasAWillTopicThatIsATopicName) {
  for (const version v : {v3, v5}) {
    for (const std::string topic : {"", "a/+", "#", "+", "a#"})
      EXPECT_EQ(status_of(v, connect_packet(v, 0x06, str("c") + will_fields(v, topic))),
                status::malformed)
          << topic;
    for (const std::string_view topic : not_utf8)
      EXPECT_EQ(
          status_of(v, connect_packet(v, 0x06, str("c") + will_fields(v, std::string(topic)))),
          status::malformed);
    EXPECT_EQ(status_of(v, connect_packet(v, 0x06, str("c") + will_fields(v, "$w/x"))), status::ok);
  }
}

// [MQTT-3.1.2-18] to [MQTT-3.1.2-21]
TEST(MqttConnect, HasUserNameAndPasswordExactlyWhereTheFlagsSaySo) {
  for (const version v : {v3, v5}) {
    EXPECT_EQ(status_of(v, connect_packet(v, 0x02, str("c") + str("u"))), status::malformed);
    EXPECT_EQ(status_of(v, connect_packet(v, 0x82, str("c"))), status::malformed);
    EXPECT_EQ(status_of(v, connect_packet(v, 0x82, str("c") + str("u"))), status::ok);
    EXPECT_EQ(status_of(v, connect_packet(v, 0x82, str("c") + str("u") + str("p"))),
              status::malformed);
    EXPECT_EQ(status_of(v, connect_packet(v, 0xC2, str("c") + str("u"))), status::malformed);
    EXPECT_EQ(status_of(v, connect_packet(v, 0xC2, str("c") + str("u") + str("\0\xFF"s))),
              status::ok); // a password is binary data
  }
}

TEST(MqttConnect, WithoutUserNameHasNoPasswordInMqtt311) { // [MQTT-3.1.2-22] of 3.1.1
  EXPECT_EQ(status_of(v3, connect_packet(v3, 0x42, str("c") + str("p"))), status::malformed);
  EXPECT_EQ(status_of(v5, connect_packet(v5, 0x42, str("c") + str("p"))), status::ok);
}

TEST(MqttConnect, HasAClientId) { // [MQTT-3.1.3-3]
  for (const version v : {v3, v5}) {
    EXPECT_EQ(status_of(v, connect_packet(v, 0x02, "")), status::malformed);
    // An empty one is for the caller: [MQTT-3.1.3-6] to [MQTT-3.1.3-8]
    for (const unsigned flags : {0x00u, 0x02u})
      EXPECT_EQ(status_of(v, connect_packet(v, flags, str(""))), status::ok);
  }
}

// [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.1.3-4] [MQTT-3.1.3-11] of 3.1.1;
// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.1.3-4] [MQTT-3.1.3-10] of 5.0
TEST(MqttConnect, HasClientIdAndUserNameInUtf8WithoutNul) {
  for (const version v : {v3, v5})
    for (const std::string_view bad : not_utf8) {
      EXPECT_EQ(status_of(v, connect_packet(v, 0x02, str(bad))), status::malformed);
      EXPECT_EQ(status_of(v, connect_packet(v, 0x82, str("c") + str(bad))), status::malformed);
    }
}

TEST(MqttConnect, KeepsAByteOrderMark) { // [MQTT-1.5.3-3] of 3.1.1, [MQTT-1.5.4-3] of 5.0
  for (const version v : {v3, v5}) {
    const decoded d(v, connect_packet(v, 0x02,
                                      str("\xEF\xBB\xBF"
                                          "c")));
    ASSERT_EQ(d.status, status::ok);
    EXPECT_EQ(d.out.get<connect>()->client_id, "\xEF\xBB\xBF"
                                               "c");
  }
}

TEST(MqttConnect, HasAuthenticationDataOnlyWithAMethod) { // section 3.1.2.11.10 of 5.0
  const std::string method = raw({0x15}) + str("m"), data = raw({0x16}) + str("d");
  EXPECT_EQ(status_of(v5, connect_packet(v5, 2, str("c"), method)), status::ok);
  EXPECT_EQ(status_of(v5, connect_packet(v5, 2, str("c"), data)), status::protocol_error);
  EXPECT_EQ(status_of(v5, connect_packet(v5, 2, str("c"), data + method)), status::ok);
}

TEST(MqttConnack, HasReservedFlagsZero) { // section 3.2.2.1 of 3.1.1, [MQTT-3.2.2-1] of 5.0
  for (unsigned flags = 0; flags < 256; ++flags) {
    const auto expected = flags < 2 ? status::ok : status::malformed;
    EXPECT_EQ(status_of(v3, packet(0x20, raw({flags, 0}))), expected);
    EXPECT_EQ(status_of(v5, packet(0x20, raw({flags, 0, 0}))), expected);
  }
}

TEST(MqttConnack, ThatRefusesHasNoSession) { // [MQTT-3.2.2-4] of 3.1.1, [MQTT-3.2.2-6] of 5.0
  EXPECT_EQ(status_of(v3, packet(0x20, raw({1, 5}))), status::protocol_error);
  EXPECT_EQ(status_of(v5, packet(0x20, raw({1, 0x87, 0}))), status::protocol_error);
}

TEST(MqttConnack, HasAReasonOfItsTable) { // table 3.1 of 3.1.1; [MQTT-3.2.2-8] of 5.0
  for (unsigned code = 0; code < 256; ++code) {
    EXPECT_EQ(status_of(v3, packet(0x20, raw({0, code}))),
              code < 6 ? status::ok : status::protocol_error);
    const bool known = code == 0 || (code >= 0x80 && code <= 0x8A) || code == 0x8C ||
                       code == 0x90 || code == 0x95 || code == 0x97 || code == 0x99 ||
                       (code >= 0x9A && code <= 0x9D) || code == 0x9F;
    EXPECT_EQ(status_of(v5, packet(0x20, raw({0, code, 0}))),
              known ? status::ok : status::protocol_error)
        << code;
  }
}

TEST(MqttConnack, HasAPropertyLengthInMqtt5Only) { // [MQTT-2.2.2-1] of 5.0
  EXPECT_EQ(status_of(v5, packet(0x20, raw({0, 0}))), status::malformed);
  EXPECT_EQ(status_of(v3, packet(0x20, raw({0, 0, 0}))), status::malformed);
}

TEST(MqttDisconnect, HasNoBodyInMqtt311) {
  EXPECT_EQ(status_of(v3, packet(0xE0, "")), status::ok);
  EXPECT_EQ(status_of(v3, packet(0xE0, raw({0}))), status::malformed);
}

TEST(MqttDisconnect, MayEndBeforeItsReasonAndBeforeItsProperties) { // sections 3.14.2.1, 3.14.2.2.1
  for (const std::string& body : {""s, raw({0x00}), raw({0x00, 0x00})}) {
    const decoded d(v5, packet(0xE0, body));
    ASSERT_EQ(d.status, status::ok);
    EXPECT_EQ(d.out.get<disconnect>()->reason, reason_code::normal_disconnection);
  }
}

TEST(MqttDisconnect, HasAReasonOfItsTable) { // [MQTT-3.14.2-1] of 5.0
  for (unsigned code = 0; code < 256; ++code) {
    const bool known = code == 0 || code == 4 || (code >= 0x80 && code <= 0x83) || code == 0x87 ||
                       code == 0x89 || (code >= 0x8B && code <= 0x90) ||
                       (code >= 0x93 && code <= 0xA2);
    EXPECT_EQ(status_of(v5, packet(0xE0, raw({code}))), known ? status::ok : status::protocol_error)
        << code;
  }
}

TEST(MqttAuth, IsUnknownInMqtt311) {
  EXPECT_EQ(status_of(v3, packet(0xF0, "")), status::malformed);
  EXPECT_EQ(status_of(v3, packet(0xF0, raw({0, 0}))), status::malformed);
}

TEST(MqttAuth, LeavesOutReasonAndPropertiesTogetherOrNot) { // section 3.15.2.1 of 5.0
  EXPECT_EQ(status_of(v5, packet(0xF0, "")), status::ok);
  EXPECT_EQ(status_of(v5, packet(0xF0, raw({0x18}))), status::malformed);
}

TEST(MqttAuth, WithPropertiesHasAMethod) { // section 3.15.2.2.2 of 5.0
  EXPECT_EQ(status_of(v5, packet(0xF0, raw({0x18}) + section())), status::protocol_error);
  EXPECT_EQ(status_of(v5, packet(0xF0, raw({0x18}) + section(raw({0x1F}) + str("r")))),
            status::protocol_error);
  EXPECT_EQ(status_of(v5, packet(0xF0, raw({0x18}) + section(raw({0x15}) + str("m")))), status::ok);
}

TEST(MqttAuth, HasAReasonOfItsTable) { // [MQTT-3.15.2-1] of 5.0
  for (unsigned code = 0; code < 256; ++code)
    EXPECT_EQ(status_of(v5, packet(0xF0, raw({code}) + section(raw({0x15}) + str("m")))),
              code == 0 || code == 0x18 || code == 0x19 ? status::ok : status::protocol_error);
}

TEST(MqttPing, HasNoBody) {
  for (const version v : {v3, v5})
    for (const unsigned first : {0xC0u, 0xD0u}) {
      EXPECT_EQ(status_of(v, packet(first, "")), status::ok);
      EXPECT_EQ(status_of(v, packet(first, raw({0}))), status::malformed);
    }
}

} // namespace
} // namespace chainring::mqtt
