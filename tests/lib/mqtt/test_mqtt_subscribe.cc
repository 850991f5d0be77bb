// SPDX-License-Identifier: BSD-3-Clause
// The rules of SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK that one packet shows. A statement's
// identifier is that of both specifications unless it says of which.
#include "mqtt_packets.h"

namespace chainring::mqtt {
namespace {

using namespace test;
using namespace std::string_literals;

std::string subscribe_packet(version v, const std::string& list, const std::string& properties = "",
                             unsigned id = 1) {
  return packet(0x82, be16(id) + (v == v5 ? section(properties) : "") + list);
}
std::string unsubscribe_packet(version v, const std::string& list, unsigned id = 1) {
  return packet(0xA2, be16(id) + (v == v5 ? section() : "") + list);
}
std::string entry(const std::string& filter, unsigned options) {
  return str(filter) + raw({options});
}
status status_of_filter(version v, const std::string& filter) {
  const status subscribing = status_of(v, subscribe_packet(v, entry(filter, 0)));
  EXPECT_EQ(status_of(v, unsubscribe_packet(v, str(filter))), subscribing) << filter;
  return subscribing;
}

// [MQTT-2.3.1-1] of 3.1.1, [MQTT-2.2.1-3] of 5.0
TEST(MqttSubscribe, HasAPacketIdentifierThatIsNotZero) {
  for (const version v : {v3, v5}) {
    EXPECT_EQ(status_of(v, subscribe_packet(v, entry("a", 0), "", 0)), status::protocol_error);
    EXPECT_EQ(status_of(v, unsubscribe_packet(v, str("a"), 0)), status::protocol_error);
  }
}

// [MQTT-3.8.3-3] [MQTT-3.10.3-2] of 3.1.1, [MQTT-3.8.3-2] [MQTT-3.10.3-2] of 5.0
TEST(MqttSubscribe, HasAtLeastOneFilter) {
  for (const version v : {v3, v5}) {
    EXPECT_EQ(status_of(v, subscribe_packet(v, "")), status::protocol_error);
    EXPECT_EQ(status_of(v, unsubscribe_packet(v, "")), status::protocol_error);
  }
}

TEST(MqttSubscribe, HasOptionsBehindEachFilter) {
  for (const version v : {v3, v5}) {
    EXPECT_EQ(status_of(v, subscribe_packet(v, str("a"))), status::malformed);
    EXPECT_EQ(status_of(v, subscribe_packet(v, entry("a", 0) + str("b"))), status::malformed);
    EXPECT_EQ(status_of(v, subscribe_packet(v, entry("a", 0) + be16(2) + "b")), status::malformed);
  }
}

// [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2]
TEST(MqttSubscribe, HasFiltersOfAtLeastOneCharacterInUtf8WithoutNul) {
  for (const version v : {v3, v5}) {
    for (const std::string& filter : {""s, "\0"s, "a/\xFF"s, "\xED\xA0\x80"s})
      EXPECT_EQ(status_of_filter(v, filter), status::malformed);
    EXPECT_EQ(status_of_filter(v, "/"), status::ok);
    EXPECT_EQ(status_of_filter(v, "\xC3\xA4/\xF0\x9F\x98\x80"), status::ok);
  }
}

// [MQTT-4.7.1-2] [MQTT-4.7.1-3] of 3.1.1, [MQTT-4.7.1-1] [MQTT-4.7.1-2] of 5.0
TEST(MqttSubscribe, HasWildcardsOnlyAsWholeLevelsAndHashOnlyAsTheLast) {
  for (const version v : {v3, v5}) {
    for (const char* filter : {"a#", "#/a", "a/#/b", "##", "a+", "+a", "a/+b/c", "++", "#+"})
      EXPECT_EQ(status_of_filter(v, filter), status::malformed) << filter;
    for (const char* filter : {"#", "+", "a/#", "+/+/#", "a/+/b", "/+", "+/", "$SYS/#"})
      EXPECT_EQ(status_of_filter(v, filter), status::ok) << filter;
  }
}

TEST(MqttSubscribe, HasAShareNameAndAFilterBehindShare) { // [MQTT-4.8.2-1] [MQTT-4.8.2-2] of 5.0
  for (const char* filter : {"$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a",
                             "$share/#/a", "$share/+/a", "$share/g/a#"})
    EXPECT_EQ(status_of_filter(v5, filter), status::malformed) << filter;
  for (const char* filter : {"$share/g/a", "$share/g//", "$share/g/#", "$share/g/+/b", "$share",
                             "$sharex/g", "$share2/"})
    EXPECT_EQ(status_of_filter(v5, filter), status::ok) << filter;
  // MQTT 3.1.1 does not know shared subscriptions: these are filters like any other.
  for (const char* filter : {"$share/", "$share/g", "$share//a", "$share/+/a"})
    EXPECT_EQ(status_of_filter(v3, filter), status::ok) << filter;
}

TEST(MqttSubscribe, HasOptionsOfNothingButQosInMqtt311) { // [MQTT-3-8.3-4] of 3.1.1
  for (unsigned options = 0; options < 256; ++options)
    EXPECT_EQ(status_of(v3, subscribe_packet(v3, entry("a", options))),
              options < 3 ? status::ok : status::malformed);
}

TEST(MqttSubscribe, HasReservedBitsOfOptionsZero) { // [MQTT-3.8.3-5] of 5.0
  for (const unsigned options : {0x40u, 0x80u, 0xC0u, 0x43u, 0xB0u})
    EXPECT_EQ(status_of(v5, subscribe_packet(v5, entry("a", options))), status::malformed);
}

TEST(MqttSubscribe, HasNoQosAndNoRetainHandlingOfThree) { // section 3.8.3.1 of 5.0
  for (unsigned options = 0; options < 64; ++options) {
    const bool good = (options & 3) != 3 && options >> 4 != 3;
    EXPECT_EQ(status_of(v5, subscribe_packet(v5, entry("b", 0) + entry("a", options))),
              good ? status::ok : status::protocol_error)
        << options;
  }
}

TEST(MqttSubscribe, HasNoLocalOnNoSharedSubscription) { // [MQTT-3.8.3-4] of 5.0
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, entry("$share/g/a", 0x04))), status::protocol_error);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, entry("a", 0) + entry("$share/g/a", 0x04))),
            status::protocol_error);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, entry("$share/g/a", 0x18))), status::ok);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, entry("a", 0x04))), status::ok);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, entry("$share", 0x04))), status::ok);
}

TEST(MqttSubscribe, HasAtMostOneSubscriptionIdentifierWhichIsNotZero) { // section 3.8.2.1.2 of 5.0
  const std::string list = entry("a", 0);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, list, raw({0x0B, 1}))), status::ok);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, list, raw({0x0B, 0xFF, 0xFF, 0xFF, 0x7F}))),
            status::ok);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, list, raw({0x0B, 0}))), status::protocol_error);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, list, raw({0x0B, 1, 0x0B, 2}))),
            status::protocol_error);
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, list, raw({0x0B, 0x81, 0x00}))),
            status::malformed); // [MQTT-1.5.5-1]
  EXPECT_EQ(status_of(v5, subscribe_packet(v5, list, raw({0x0B, 0x80, 0x80, 0x80, 0x80, 0x01}))),
            status::malformed);
}

TEST(MqttSubscribe, IsIteratedInTheOrderOfItsFilters) {
  const decoded d(v5, subscribe_packet(v5, entry("a", 0x01) + entry("b/#", 0x2E)));
  ASSERT_EQ(d.status, status::ok);
  const subscription_list& all = d.out.get<subscribe>()->subscriptions;
  ASSERT_EQ(all.size(), 2u);
  auto at = all.begin();
  EXPECT_EQ((*at).filter, "a");
  EXPECT_EQ((*at).qos, qos_level::one);
  EXPECT_FALSE((*at).no_local || (*at).retain_as_published);
  EXPECT_EQ((*at).retain_handling, retain_handling::send);
  const auto first = at++;
  EXPECT_EQ((*first).filter, "a"); // a forward iterator can be kept
  EXPECT_EQ((*at).filter, "b/#");
  EXPECT_EQ((*at).qos, qos_level::two);
  EXPECT_TRUE((*at).no_local && (*at).retain_as_published);
  EXPECT_EQ((*at).retain_handling, retain_handling::do_not_send);
  EXPECT_EQ(++at, all.end());
  EXPECT_EQ(to_hex(all.raw()), "0001610100036" + "22f232e"s);
}

TEST(MqttSubscribe, DecodedByMqtt5IsEncodedWithoutItsOptionsForMqtt311) {
  const decoded d(v5, subscribe_packet(v5, entry("a", 0x2E)));
  ASSERT_EQ(d.status, status::ok);
  std::byte buffer[16];
  const std::size_t n = encode_subscribe(buffer, v3, *d.out.get<subscribe>());
  EXPECT_EQ(to_hex(octets(buffer).first(n)), "8206000100016102");
}

// [MQTT-3.9.3-2] of both: in 3.1.1 the QoS that is granted, or 0x80
TEST(MqttSuback, HasReasonsOfItsTable) {
  for (unsigned code = 0; code < 256; ++code) {
    EXPECT_EQ(status_of(v3, packet(0x90, be16(1) + raw({0, code}))),
              code < 3 || code == 0x80 ? status::ok : status::protocol_error);
    const bool known = code < 3 || code == 0x80 || code == 0x83 || code == 0x87 || code == 0x8F ||
                       code == 0x91 || code == 0x97 || code == 0x9E || code == 0xA1 || code == 0xA2;
    EXPECT_EQ(status_of(v5, packet(0x90, be16(1) + section() + raw({0, code}))),
              known ? status::ok : status::protocol_error)
        << code;
  }
}

TEST(MqttUnsuback, HasReasonsOfItsTable) { // [MQTT-3.11.3-2] of 5.0
  for (unsigned code = 0; code < 256; ++code) {
    const bool known = code == 0 || code == 0x11 || code == 0x80 || code == 0x83 || code == 0x87 ||
                       code == 0x8F || code == 0x91;
    EXPECT_EQ(status_of(v5, packet(0xB0, be16(1) + section() + raw({0, code}))),
              known ? status::ok : status::protocol_error)
        << code;
  }
}

// They answer packets that have at least one filter: [MQTT-3.8.4-6] and [MQTT-3.11.3-1] of 5.0,
// [MQTT-3.8.4-5] of 3.1.1
TEST(MqttSuback, HasAtLeastOneReason) {
  EXPECT_EQ(status_of(v3, packet(0x90, be16(1))), status::protocol_error);
  EXPECT_EQ(status_of(v5, packet(0x90, be16(1) + section())), status::protocol_error);
  EXPECT_EQ(status_of(v5, packet(0xB0, be16(1) + section())), status::protocol_error);
}

TEST(MqttSuback, HasAPacketIdentifierThatIsNotZero) { // it is that of the packet it answers
  EXPECT_EQ(status_of(v3, packet(0x90, be16(0) + raw({0}))), status::protocol_error);
  EXPECT_EQ(status_of(v5, packet(0x90, be16(0) + section() + raw({0}))), status::protocol_error);
  EXPECT_EQ(status_of(v3, packet(0xB0, be16(0))), status::protocol_error);
  EXPECT_EQ(status_of(v5, packet(0xB0, be16(0) + section() + raw({0}))), status::protocol_error);
}

TEST(MqttUnsuback, HasNoReasonsInMqtt311) {
  EXPECT_EQ(status_of(v3, packet(0xB0, be16(1))), status::ok);
  EXPECT_EQ(status_of(v3, packet(0xB0, be16(1) + raw({0}))), status::malformed);
}

} // namespace
} // namespace chainring::mqtt
