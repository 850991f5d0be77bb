// SPDX-License-Identifier: BSD-3-Clause
// The rules of PUBLISH, PUBACK, PUBREC, PUBREL and PUBCOMP that one packet shows. A statement's
// identifier is that of both specifications unless it says of which.
#include "mqtt_packets.h"

namespace chainring::mqtt {
namespace {

using namespace test;
using namespace std::string_literals;

std::string publish_packet(version v, unsigned flags, const std::string& topic, unsigned id = 1,
                           const std::string& properties = "") {
  return packet(0x30 | flags, str(topic) + ((flags & 6) != 0 ? be16(id) : "") +
                                  (v == v5 ? section(properties) : "") + "payload");
}

// [MQTT-3.3.2-2]; [MQTT-4.7.1-1] of 3.1.1, [MQTT-4.7.0-1] of 5.0
TEST(MqttPublish, HasATopicNameWithoutWildcards) {
  for (const version v : {v3, v5}) {
    for (const char* topic : {"#", "+", "a/+", "a/#", "a+b", "a#", "+a"})
      EXPECT_EQ(status_of(v, publish_packet(v, 0, topic)), status::malformed) << topic;
    for (const char* topic : {"a", "/", "//", " ", "$SYS/x", "$share/g/t"})
      EXPECT_EQ(status_of(v, publish_packet(v, 0, topic)), status::ok) << topic;
  }
}

// [MQTT-3.3.2-1] [MQTT-4.7.3-2]; [MQTT-1.5.3-1] [MQTT-1.5.3-2] of 3.1.1, [MQTT-1.5.4-1]
// [MQTT-1.5.4-2] of 5.0
TEST(MqttPublish, HasATopicNameInUtf8WithoutNul) {
  for (const version v : {v3, v5}) {
    for (const std::string& topic :
         {"\0"s, "a\0"s, "\x80"s, "a\xFF"s, "\xC0\xAF"s, "\xED\xA0\x80"s, "\xED\xBF\xBF"s,
          "\xF4\x90\x80\x80"s, "\xF0\x9F\x98"s, "eight octets and then \xFF"s})
      EXPECT_EQ(status_of(v, publish_packet(v, 0, topic)), status::malformed);
    EXPECT_EQ(status_of(v, publish_packet(v, 0, "\xF0\x9F\x98\x80\xC3\xA4\x01\x7F")), status::ok);
  }
}

TEST(MqttPublish, HasATopicNameOfAtLeastOneCharacter) { // [MQTT-4.7.3-1]; section 3.3.2.1 of 5.0
  EXPECT_EQ(status_of(v3, publish_packet(v3, 0, "")), status::malformed);
  EXPECT_EQ(status_of(v5, publish_packet(v5, 0, "")), status::protocol_error);
  EXPECT_EQ(status_of(v5, publish_packet(v5, 0, "", 1, raw({0x23, 0, 1}))), status::ok);
}

// [MQTT-2.3.1-1] of 3.1.1, [MQTT-2.2.1-3] and [MQTT-2.2.1-4] of 5.0
TEST(MqttPublish, AboveQosZeroHasAPacketIdentifierThatIsNotZero) {
  for (const version v : {v3, v5})
    for (const unsigned flags : {0x2u, 0x4u, 0xAu, 0xCu}) {
      EXPECT_EQ(status_of(v, publish_packet(v, flags, "a", 0)), status::protocol_error);
      EXPECT_EQ(status_of(v, publish_packet(v, flags, "a", 1)), status::ok);
    }
}

TEST(MqttPublish,
     AtQosZeroHasNoPacketIdentifier) { // [MQTT-2.3.1-5] of 3.1.1, [MQTT-2.2.1-2] of 5.0
  const decoded d(v3, packet(0x30, str("a") + be16(7)));
  ASSERT_EQ(d.status, status::ok);
  EXPECT_EQ(d.out.get<publish>()->packet_id, 0);
  EXPECT_EQ(d.out.get<publish>()->payload.size(), 2u); // the octets are payload
}

TEST(MqttPublish, IsNotDuplicateAtQosZeroAndNeverOfQosThree) { // [MQTT-3.3.1-2] [MQTT-3.3.1-4]
  for (const version v : {v3, v5})
    for (const unsigned flags : {0x8u, 0x9u, 0x6u, 0x7u, 0xEu, 0xFu})
      EXPECT_EQ(status_of(v, publish_packet(v, flags, "a")), status::malformed) << flags;
}

TEST(MqttPublish, MayHaveAnEmptyPayload) {
  EXPECT_EQ(status_of(v3, packet(0x30, str("a"))), status::ok);
  EXPECT_EQ(status_of(v5, packet(0x30, str("a") + section())), status::ok);
}

TEST(MqttPublish, HasAPropertyLengthInMqtt5) { // [MQTT-2.2.2-1] of 5.0
  EXPECT_EQ(status_of(v5, packet(0x30, str("a"))), status::malformed);
}

TEST(MqttPublish, HasATopicAliasThatIsNotZero) { // [MQTT-3.3.2-8] of 5.0
  EXPECT_EQ(status_of(v5, publish_packet(v5, 0, "a", 1, raw({0x23, 0, 0}))),
            status::topic_alias_invalid);
  EXPECT_EQ(status_of(v5, publish_packet(v5, 0, "a", 1, raw({0x23, 0xFF, 0xFF}))), status::ok);
}

TEST(MqttPublish, HasAResponseTopicThatIsATopicName) { // [MQTT-3.3.2-13] [MQTT-3.3.2-14] of 5.0
  for (const char* topic : {"a/+", "#", "", "a\xFF"})
    EXPECT_EQ(status_of(v5, publish_packet(v5, 0, "a", 1, raw({0x08}) + str(topic))),
              status::malformed);
  EXPECT_EQ(status_of(v5, publish_packet(v5, 0, "a", 1, raw({0x08}) + str("a/b"))), status::ok);
}

TEST(MqttPublish, HasAContentTypeInUtf8) { // [MQTT-3.3.2-19] of 5.0
  EXPECT_EQ(status_of(v5, publish_packet(v5, 0, "a", 1, raw({0x03}) + str("\xFF"))),
            status::malformed);
}

TEST(MqttPublish, IsNotCheckedAgainstItsPayloadFormat) {
  const std::string in =
      packet(0x30, str("a") + section(raw({0x01, 0x01})) + "\xFF\xFE no UTF-8 at all");
  const decoded d(v5, in);
  ASSERT_EQ(d.status, status::ok);
  EXPECT_TRUE(*d.out.get<publish>()->properties.payload_format_indicator);
}

TEST(MqttPublish, HasEachOfSeveralSubscriptionIdentifiers) { // section 3.3.2.3.8 of 5.0
  const decoded d(v5, publish_packet(v5, 0, "a", 1,
                                     raw({0x0B, 0x05}) + raw({0x26}) + str("k") + str("v") +
                                         raw({0x0B, 0x80, 0x01, 0x0B, 0x05})));
  ASSERT_EQ(d.status, status::ok);
  const properties& p = d.out.get<publish>()->properties;
  EXPECT_EQ(std::vector(p.subscription_ids.begin(), p.subscription_ids.end()),
            (std::vector<std::uint32_t>{5, 128, 5}));
  ASSERT_EQ(p.user_properties.size(), 1u);
  EXPECT_EQ((*p.user_properties.begin()).name, "k");
}

class MqttAcks : public testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(EachType, MqttAcks, testing::Values(0x40, 0x50, 0x62, 0x70),
                         [](const auto& p) {
                           return std::string(to_string(packet_type(p.param >> 4)));
                         });

// [MQTT-2.3.1-6] of 3.1.1, [MQTT-2.2.1-5] of 5.0: it is that of a PUBLISH, which is not zero
TEST_P(MqttAcks, HasAPacketIdentifierThatIsNotZero) {
  for (const version v : {v3, v5}) {
    EXPECT_EQ(status_of(v, packet(GetParam(), be16(0))), status::protocol_error);
    EXPECT_EQ(status_of(v, packet(GetParam(), be16(1))), status::ok);
    EXPECT_EQ(status_of(v, packet(GetParam(), raw({1}))), status::malformed);
  }
}

TEST_P(MqttAcks, HasNothingButThePacketIdentifierInMqtt311) {
  EXPECT_EQ(status_of(v3, packet(GetParam(), be16(1) + raw({0}))), status::malformed);
}

// sections 3.4.2.1, 3.4.2.2.1 and their like of 5.0
TEST_P(MqttAcks, MayEndBeforeItsReasonAndBeforeItsProperties) {
  for (const std::string& rest : {""s, raw({0x00}), raw({0x00, 0x00})})
    EXPECT_EQ(status_of(v5, packet(GetParam(), be16(1) + rest)), status::ok);
  EXPECT_EQ(status_of(v5, packet(GetParam(), be16(1) + raw({0, 0, 0}))), status::malformed);
}

// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] of 5.0
TEST_P(MqttAcks, HasAReasonOfItsTable) {
  const bool released = GetParam() == 0x62 || GetParam() == 0x70;
  for (unsigned code = 0; code < 256; ++code) {
    const bool known = released ? code == 0 || code == 0x92
                                : code == 0 || code == 0x10 || code == 0x80 || code == 0x83 ||
                                      code == 0x87 || code == 0x90 || code == 0x91 ||
                                      code == 0x97 || code == 0x99;
    EXPECT_EQ(status_of(v5, packet(GetParam(), be16(1) + raw({code}))),
              known ? status::ok : status::protocol_error)
        << code;
  }
}

} // namespace
} // namespace chainring::mqtt
