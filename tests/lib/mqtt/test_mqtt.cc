// SPDX-License-Identifier: BSD-3-Clause
// What holds for every packet type: examples, framing, truncation, round trips, room and names. The
// identifiers in brackets are those of the specifications' normative statements. Where the two
// number the same statement differently, that of MQTT 3.1.1 stands first.
#include <ranges>
#include <set>

#include "mqtt_packets.h"
#include "random_message.h"
#include "support/seed.h"

namespace chainring::mqtt {
namespace {

using namespace test;
using namespace std::string_literals;

static_assert(std::ranges::forward_range<subscription_list>);
static_assert(std::ranges::forward_range<filter_list>);
static_assert(std::ranges::forward_range<reason_list>);
static_assert(std::ranges::forward_range<user_properties>);
static_assert(std::ranges::forward_range<subscription_ids>);

TEST(Mqtt, TheExamplesNameEveryPacketTypeOfBothVersions) {
  std::set<std::pair<version, std::size_t>> kinds;
  for (const auto& e : examples())
    kinds.insert({e.version, e.body.index()});
  const std::size_t types = std::variant_size_v<message_body> - 1;
  EXPECT_EQ(kinds.size(), types + types - 1); // MQTT 3.1.1 has no AUTH
}

TEST(Mqtt, EachTypeIsEncodedToTheSpecifiedOctets) {
  std::byte buffer[128];
  for (const auto& e : examples())
    EXPECT_EQ(to_hex({buffer, encode(buffer, e.version, e.body)}), to_hex(from_hex(e.hex)))
        << to_text(e.version, e.body);
}

TEST(Mqtt, EachTypeIsDecodedToItsFields) {
  for (const auto& e : examples()) {
    const auto in = from_hex(e.hex);
    const decoded d(e.version, in);
    EXPECT_EQ(d.status, status::ok) << e.hex;
    EXPECT_EQ(to_text(e.version, d.out.body), to_text(e.version, e.body));
    EXPECT_EQ(static_cast<unsigned>(d.out.type), std::to_integer<unsigned>(in[0]) >> 4);
    EXPECT_EQ(d.out.level, static_cast<unsigned>(e.version));
    // A field that the text does not name is missed by its octets.
    std::byte again[128];
    EXPECT_EQ(to_hex({again, encode(again, e.version, d.out.body)}), to_hex(in));
  }
}

TEST(Mqtt, ConnectIsDecodedByTheVersionThatItStates) {
  for (const auto& e : examples()) {
    if (!std::holds_alternative<connect>(e.body)) continue;
    const decoded d(e.version == v5 ? v3 : v5, from_hex(e.hex));
    EXPECT_EQ(d.status, status::ok);
    EXPECT_EQ(d.out.level, static_cast<unsigned>(e.version));
    EXPECT_EQ(to_text(e.version, d.out.body), to_text(e.version, e.body));
  }
}

// --- framing -------------------------------------------------------------------------------------

TEST(MqttFraming, APacketIsFoundInFrontOfTheOctetsBehindIt) {
  for (const auto& e : examples()) {
    auto in = from_hex(e.hex);
    const std::size_t size = in.size();
    in.resize(size + 3, std::byte{0x30});
    frame f;
    EXPECT_EQ(find_frame(in, packet_size_max, f), frame_status::ok);
    EXPECT_EQ(f.size, size);
    EXPECT_EQ(f.header_size, 2);
    EXPECT_EQ(static_cast<unsigned>(f.type) << 4 | f.flags, std::to_integer<unsigned>(in[0]));
  }
}

TEST(MqttFraming, APartOfAPacketNeedsMoreAndTellsItsSizeOnceTheHeaderIsThere) {
  for (const auto& e : examples()) {
    const auto in = from_hex(e.hex);
    for (std::size_t n = 0; n < in.size(); ++n) {
      const auto copy = std::make_unique<std::byte[]>(n);
      std::copy_n(in.begin(), n, copy.get());
      frame f;
      EXPECT_EQ(find_frame({copy.get(), n}, packet_size_max, f), frame_status::need_more);
      EXPECT_EQ(f.size, n < 2 ? 0 : in.size());
      EXPECT_EQ(f.header_size, n < 2 ? 0 : 2);
    }
  }
}

TEST(MqttFraming, TheRemainingLengthHasUpToFourOctets) { // table 2.4; [MQTT-1.5.5-1]
  const struct {
    std::string length;
    std::size_t value;
  } cases[] = {{raw({0x00}), 0},
               {raw({0x7F}), 127},
               {raw({0x80, 0x01}), 128},
               {raw({0xFF, 0x7F}), 16383},
               {raw({0x80, 0x80, 0x01}), 16384},
               {raw({0xFF, 0xFF, 0x7F}), 2097151},
               {raw({0x80, 0x80, 0x80, 0x01}), 2097152},
               {raw({0xFF, 0xFF, 0xFF, 0x7F}), 268435455}};
  for (const auto& c : cases) {
    const std::string in = raw({0x30}) + c.length;
    frame f;
    EXPECT_EQ(find_frame(octets_of(in), packet_size_max, f),
              c.value == 0 ? frame_status::ok : frame_status::need_more);
    EXPECT_EQ(f.header_size, in.size());
    EXPECT_EQ(f.size, in.size() + c.value);
    for (std::size_t n = 0; n < in.size(); ++n) {
      EXPECT_EQ(find_frame(octets_of(in).first(n), packet_size_max, f), frame_status::need_more);
      EXPECT_EQ(f.size, 0u);
    }
  }
  frame f;
  EXPECT_EQ(find_frame(octets_of(raw({0x30, 0xFF, 0xFF, 0xFF})), 10, f), frame_status::need_more);
  EXPECT_EQ(find_frame(octets_of(raw({0x30, 0xFF, 0xFF, 0xFF, 0xFF})), 10, f),
            frame_status::malformed);
  EXPECT_EQ(find_frame(octets_of(raw({0x30, 0x80, 0x80, 0x80, 0x80})), 10, f),
            frame_status::malformed);
}

TEST(MqttFraming, APacketLongerThanTheLimitIsKnownByItsHeader) {
  const std::string header = raw({0x30}) + variable(200);
  frame f;
  EXPECT_EQ(find_frame(octets_of(header), 202, f), frame_status::too_long);
  EXPECT_EQ(f.size, 203u);
  EXPECT_EQ(find_frame(octets_of(header), 203, f), frame_status::need_more);
  const std::string whole = header + std::string(200, 'x');
  EXPECT_EQ(find_frame(octets_of(whole), 202, f), frame_status::too_long);
  EXPECT_EQ(find_frame(octets_of(whole), 203, f), frame_status::ok);
}

// [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] of
// 3.1.1; [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1]
// [MQTT-3.15.1-1] of 5.0; for PUBLISH [MQTT-3.3.1-2] and [MQTT-3.3.1-4] of both
TEST(MqttFraming, TheFlagsAreThoseThatTheTypeDemands) {
  for (unsigned first = 0; first < 256; ++first) {
    const unsigned type = first >> 4, flags = first & 15, qos = flags >> 1 & 3;
    const bool good = type == 3 ? qos != 3 && (qos > 0 || (flags & 8) == 0)
                      : type == 6 || type == 8 || type == 10 ? flags == 2
                                                             : type != 0 && flags == 0;
    frame f;
    EXPECT_EQ(find_frame(octets_of(raw({first})), 100, f),
              good ? frame_status::need_more : frame_status::malformed)
        << first;
    if (good) continue;
    for (const version v : {v3, v5})
      EXPECT_EQ(status_of(v, packet(first, str("a") + be16(1))), status::malformed);
  }
}

TEST(MqttFraming, OnlyMqtt5DemandsTheShortestRemainingLength) { // [MQTT-1.5.5-1] of 5.0
  for (const auto& e : examples()) {
    auto in = from_hex(e.hex);
    for (std::size_t longer = 1; longer <= 3; ++longer) {
      in[longer] |= std::byte{0x80};
      in.insert(in.begin() + static_cast<std::ptrdiff_t>(longer) + 1, std::byte{0});
      frame f;
      EXPECT_EQ(find_frame(in, packet_size_max, f), frame_status::ok);
      EXPECT_EQ(f.header_size, 2 + longer);
      EXPECT_EQ(decoded(e.version, in).status, e.version == v5 ? status::malformed : status::ok)
          << e.hex;
    }
  }
}

TEST(MqttFraming, DecodingTakesExactlyOnePacket) {
  EXPECT_EQ(status_of(v3, ""), status::not_one_packet);
  EXPECT_EQ(status_of(v3, raw({0xC0})), status::not_one_packet);
  EXPECT_EQ(status_of(v3, raw({0x30, 0x80})), status::not_one_packet);
  EXPECT_EQ(status_of(v3, raw({0xC0, 0x00, 0x00})), status::not_one_packet);
  EXPECT_EQ(status_of(v5, raw({0xC0, 0x00, 0xC0, 0x00})), status::not_one_packet);
  EXPECT_EQ(status_of(v5, raw({0x30, 0x80, 0x80, 0x80, 0x80})), status::malformed);
}

// --- truncation ----------------------------------------------------------------------------------

TEST(Mqtt, EveryPrefixOfAPacketIsNotOnePacket) {
  for (const auto& e : examples()) {
    const auto in = from_hex(e.hex);
    for (std::size_t n = 0; n < in.size(); ++n) {
      const decoded d(e.version, octets(in).first(n));
      EXPECT_EQ(d.status, status::not_one_packet);
      EXPECT_EQ(d.out.body.index(), 0u);
    }
  }
}

TEST(Mqtt, APacketCutWithItsLengthIsRefusedOrAShorterPacket) {
  for (const auto& e : examples()) {
    auto in = from_hex(e.hex);
    for (std::size_t n = 2; n < in.size(); ++n) {
      in[1] = std::byte(static_cast<std::uint8_t>(n - 2));
      const decoded d(e.version, octets(in).first(n));
      if (d.status == status::ok) {
        std::byte again[128];
        const std::size_t size = encode(again, e.version, d.out.body);
        EXPECT_EQ(decoded(e.version, octets(again).first(size)).status, status::ok);
      } else {
        EXPECT_TRUE(d.status == status::malformed || d.status == status::protocol_error)
            << to_string(d.status) << " " << e.hex << " " << n;
      }
    }
  }
}

TEST(Mqtt, OctetsBehindTheLastFieldAreMalformed) {
  for (const auto& e : examples()) {
    auto in = from_hex(e.hex);
    in.push_back(std::byte{0});
    in[1] = std::byte(static_cast<std::uint8_t>(in.size() - 2));
    const bool open_end = std::holds_alternative<publish>(e.body) ||
                          std::holds_alternative<suback>(e.body) ||
                          (std::holds_alternative<unsuback>(e.body) && e.version == v5);
    // One octet more is a reason code or an empty property section of the packets that may end
    // before it.
    const bool shortened =
        e.version == v5 && (in.size() == 5 || in.size() == 6 || in.size() == 3 || in.size() == 4) &&
        !std::holds_alternative<pingreq>(e.body) && !std::holds_alternative<pingresp>(e.body) &&
        !std::holds_alternative<auth>(e.body) && !std::holds_alternative<connack>(e.body);
    EXPECT_EQ(decoded(e.version, in).status, open_end || shortened ? status::ok : status::malformed)
        << e.hex;
  }
}

// --- round trips ---------------------------------------------------------------------------------

class MqttRoundTrips : public testing::TestWithParam<version> {};
INSTANTIATE_TEST_SUITE_P(BothVersions, MqttRoundTrips, testing::Values(v3, v5),
                         [](const auto& p) { return p.param == v5 ? "Mqtt5" : "Mqtt311"; });

TEST_P(MqttRoundTrips, AMessageIsEncodedToAPacketThatDecodesToIt) {
  const version v = GetParam();
  random_messages random(chainring::test::fresh_seed());
  std::vector<std::byte> buffer(1 << 20), again(1 << 20);
  std::set<std::size_t> kinds;
  for (int round = 0; round < 30000; ++round) {
    const message_body m = random.any(v);
    kinds.insert(m.index());
    const std::size_t n = encode(buffer, v, m);
    ASSERT_GT(n, 0u) << to_text(v, m);
    const decoded d(v, octets(buffer).first(n));
    ASSERT_EQ(d.status, status::ok) << to_text(v, m) << " " << to_hex(octets(buffer).first(n));
    ASSERT_EQ(to_text(v, d.out.body), to_text(v, m));
    ASSERT_EQ(encode(again, v, d.out.body), n);
    ASSERT_TRUE(
        std::equal(again.begin(), again.begin() + static_cast<std::ptrdiff_t>(n), buffer.begin()));
    frame f;
    ASSERT_EQ(find_frame(octets(buffer).first(n), n, f), frame_status::ok);
    ASSERT_EQ(f.size, n);
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<message_body> - (v == v5 ? 1 : 2));
}

TEST_P(MqttRoundTrips, ADamagedPacketThatIsAcceptedIsOneMessage) {
  const version v = GetParam();
  random_messages random(chainring::test::fresh_seed());
  std::vector<std::byte> buffer(1 << 20);
  unsigned accepted = 0, refused = 0;
  for (int round = 0; round < 60000; ++round) {
    std::vector<std::byte> in(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(encode(
                                                                   buffer, v, random.any(v))));
    random.damage(in);
    const decoded d(v, in);
    ASSERT_EQ(d.out.body.index() != 0, d.status == status::ok);
    if (d.status != status::ok) {
      ++refused;
      continue;
    }
    ++accepted;
    const version by = version{d.out.level};
    const std::size_t n = encode(buffer, by, d.out.body);
    ASSERT_GT(n, 0u);
    const decoded again(by, octets(buffer).first(n));
    ASSERT_EQ(again.status, status::ok) << to_hex(in);
    ASSERT_EQ(to_text(by, again.out.body), to_text(by, d.out.body)) << to_hex(in);
  }
  EXPECT_GT(accepted, 5000u);
  EXPECT_GT(refused, 5000u);
}

// --- room ----------------------------------------------------------------------------------------

TEST(Mqtt, AMessageThatDoesNotFitIsNotEncoded) {
  for (const auto& e : examples()) {
    std::byte whole[128];
    const std::size_t size = encode(whole, e.version, e.body);
    for (std::size_t n = 0; n < size; ++n) {
      const auto small = std::make_unique<std::byte[]>(n);
      EXPECT_EQ(encode({small.get(), n}, e.version, e.body), 0u);
      EXPECT_TRUE(
          std::all_of(small.get(), small.get() + n, [](std::byte b) { return b == std::byte{0}; }));
    }
    const auto exact = std::make_unique<std::byte[]>(size);
    EXPECT_EQ(encode({exact.get(), size}, e.version, e.body), size);
  }
  EXPECT_EQ(encode({}, v5, message_body{}), 0u);
}

TEST(Mqtt, WhatTheWireCannotExpressIsNotEncoded) {
  std::vector<std::byte> buffer(1 << 20);
  const std::string longest(65535, 'x'), longer(65536, 'x');
  const auto fits = [&](version v, const message_body& m) { return encode(buffer, v, m) != 0; };
  for (const version v : {v3, v5}) {
    EXPECT_TRUE(fits(v, publish{.topic = longest}));
    EXPECT_FALSE(fits(v, publish{.topic = longer}));
    EXPECT_EQ(publish_header_size(v, publish{.topic = longer}, 0), 0u);
    EXPECT_FALSE(fits(v, connect{.client_id = longer}));
    EXPECT_FALSE(fits(v, connect{.user_name = longer}));
    EXPECT_FALSE(fits(v, connect{.password = octets_of(longer)}));
    EXPECT_FALSE(fits(v, connect{.will = will{.topic = longer}}));
    EXPECT_FALSE(fits(v, connect{.will = will{.payload = octets_of(longer)}}));
    EXPECT_TRUE(fits(v, connect{.will = will{.payload = octets_of(longest)}}));
    const std::string_view filters[] = {longer};
    EXPECT_FALSE(fits(v, unsubscribe{.filters = filters}));
    const subscription subscriptions[] = {{.filter = longer}};
    EXPECT_FALSE(fits(v, subscribe{.subscriptions = subscriptions}));
    // Properties are not written in MQTT 3.1.1, whatever they are.
    const user_property pairs[] = {{"a", longer}};
    const std::uint32_t ids[] = {variable_integer_max + 1};
    for (const properties& p :
         {properties{.user_properties = pairs}, properties{.subscription_ids = ids},
          properties{.reason_string = longer}, properties{.correlation_data = octets_of(longer)}}) {
      EXPECT_EQ(fits(v, puback{.packet_id = 1, .properties = p}), v == v3);
      EXPECT_EQ(fits(v, disconnect{.properties = p}), v == v3);
      EXPECT_EQ(fits(v, publish{.topic = "a", .properties = p}), v == v3);
      EXPECT_EQ(fits(v, connack{.properties = p}), v == v3);
      EXPECT_EQ(fits(v, connect{.properties = p}), v == v3);
      EXPECT_EQ(fits(v, connect{.will = will{.properties = p}}), v == v3);
      EXPECT_EQ(fits(v, unsuback{.properties = p}), v == v3);
      EXPECT_FALSE(properties_size(p));
      EXPECT_EQ(encode_properties(buffer, p), 0u);
    }
  }
  EXPECT_FALSE(fits(v3, auth{}));
}

TEST(Mqtt, TheHeaderOfAPublishCanBeWrittenAlone) {
  const user_property pairs[] = {{"k", "v"}};
  const std::uint32_t ids[] = {5};
  std::vector<std::byte> whole(3'000'000), data(2'900'000);
  for (const version v : {v3, v5})
    for (const std::size_t payload : {0, 1, 100, 127, 128, 16384, 2097152}) {
      publish m{
          .qos = qos_level::one,
          .packet_id = 9,
          .topic = "a/b",
          .payload = octets(data).first(payload),
          .properties = {.topic_alias = 5, .subscription_ids = ids, .user_properties = pairs}};
      const std::size_t n = encode_publish(whole, v, m), header = n - payload;
      ASSERT_GT(n, payload);
      EXPECT_EQ(publish_header_size(v, m, payload), header);
      const auto alone = std::make_unique<std::byte[]>(header);
      m.payload = {};
      EXPECT_EQ(encode_publish_header({alone.get(), header - 1}, v, m, payload), 0u);
      EXPECT_EQ(encode_publish_header({alone.get(), header}, v, m, payload), header);
      EXPECT_TRUE(std::equal(alone.get(), alone.get() + header, whole.begin()));
    }
}

TEST(Mqtt, TheLongestPacketIsThatOfTheLongestRemainingLength) {
  const publish m{.topic = "a"};
  std::byte header[16];
  const std::size_t longest = variable_integer_max - 3;
  EXPECT_EQ(publish_header_size(v3, m, longest), 8u);
  EXPECT_EQ(encode_publish_header(header, v3, m, longest), 8u);
  EXPECT_EQ(to_hex(octets(header).first(8)), "30ffffff7f000161");
  for (const std::size_t longer : {longest + 1, packet_size_max, ~std::size_t{0}}) {
    EXPECT_EQ(publish_header_size(v3, m, longer), 0u);
    EXPECT_EQ(encode_publish_header(header, v3, m, longer), 0u);
  }
  EXPECT_EQ(publish_header_size(v5, m, longest), 0u); // the length of the properties needs an octet
  EXPECT_EQ(publish_header_size(v5, m, longest - 1), 9u);
}

TEST(Mqtt, AnAcknowledgementWrittenAtOnceHasTheOctetsOfItsEncoder) {
  for (const version v : {v3, v5})
    for (const std::uint16_t id : {1, 0x102, 0xFFFF}) {
      std::byte written[8]{}, expected[8]{};
      for (const message_body& m :
           {message_body(puback{.packet_id = id}), message_body(pubrec{.packet_id = id}),
            message_body(pubrel{.packet_id = id}), message_body(pubcomp{.packet_id = id})}) {
        ASSERT_EQ(encode(expected, v, m), 4u);
        write_ack(written, packet_type(std::to_integer<unsigned>(expected[0]) >> 4), id);
        EXPECT_EQ(to_hex(written), to_hex(expected)); // and nothing is written behind it
      }
    }
}

// --- names ---------------------------------------------------------------------------------------

TEST(MqttNames, AreThoseOfTheSpecification) {
  EXPECT_STREQ(to_string(packet_type::unsuback), "UNSUBACK");
  EXPECT_STREQ(to_string(packet_type{0}), "reserved");
  EXPECT_STREQ(to_string(version::v3_1_1), "MQTT 3.1.1");
  EXPECT_STREQ(to_string(version::v5), "MQTT 5.0");
  EXPECT_STREQ(to_string(version{3}), "unknown version");
  EXPECT_STREQ(to_string(reason_code::topic_alias_invalid), "Topic Alias invalid");
  EXPECT_STREQ(to_string(reason_code{0x05}), "reserved reason code");
  EXPECT_STREQ(to_string(connect_return_code::identifier_rejected), "refused: identifier rejected");
  EXPECT_STREQ(to_string(connect_return_code{6}), "refused: reserved return code");
  EXPECT_STREQ(to_string(property_id::maximum_qos), "Maximum QoS");
  EXPECT_STREQ(to_string(property_id{0x7F}), "unknown property");
  EXPECT_STREQ(to_string(frame_status::too_long), "too_long");
  EXPECT_STREQ(to_string(frame_status{9}), "unknown");
  EXPECT_STREQ(to_string(decode_status::unknown_level), "unknown_level");
  EXPECT_STREQ(to_string(decode_status{99}), "unknown");
}

TEST(MqttNames, EveryReasonCodeThatAPacketMayHaveHasAName) {
  unsigned named = 0;
  for (unsigned code = 0; code < 256; ++code) {
    const bool known = to_string(reason_code(code)) != "reserved reason code"s;
    named += known;
    bool allowed = false;
    for (unsigned type = 0; type < 16; ++type)
      allowed |= allowed_in(packet_type(type), reason_code(code));
    EXPECT_EQ(known, allowed) << code;
    EXPECT_EQ(failed(reason_code(code)), code >= 0x80);
  }
  EXPECT_EQ(named, 43u); // the rows of table 2-6, with one for each value
}

TEST(MqttNames, EachFaultHasItsReasonCode) { // sections 4.13.1 and 4.13.2 of 5.0
  std::set<std::string> names;
  for (std::size_t s = 0; s < decode_status_count; ++s)
    names.insert(to_string(decode_status(s)));
  EXPECT_EQ(names.size(), decode_status_count);
  EXPECT_EQ(names.count("unknown"), 0u);
  EXPECT_EQ(reason_for(status::ok), reason_code::success);
  EXPECT_EQ(reason_for(status::not_one_packet), reason_code::malformed_packet);
  EXPECT_EQ(reason_for(status::malformed), reason_code::malformed_packet);
  EXPECT_EQ(reason_for(status::protocol_error), reason_code::protocol_error);
  EXPECT_EQ(reason_for(status::topic_alias_invalid), reason_code::topic_alias_invalid);
  EXPECT_EQ(reason_for(status::unknown_protocol), reason_code::unsupported_protocol_version);
  EXPECT_EQ(reason_for(status::unknown_level), reason_code::unsupported_protocol_version);
}

} // namespace
} // namespace chainring::mqtt
