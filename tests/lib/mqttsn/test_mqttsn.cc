// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cstdlib>
#include <gtest/gtest.h>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>

#include "mqttsn_text.h"
#include "support/seed.h"

namespace chainring::mqttsn {
namespace {

using namespace std::string_view_literals;
using test::from_hex;
using test::to_hex;
using test::to_text;

octets bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

constexpr flags named{}, one = flags{}.with_qos(qos_level::one),
                         predefined = one.with_topic_type(topic_id_type::predefined),
                         short_name = one.with_topic_type(topic_id_type::short_name);

struct example {
  message_body body;
  const char* hex;
};

/// Every message type in each of its forms, with octets worked out by hand from section 5.4.
const std::vector<example>& examples() {
  static const std::vector<example> all = {
      {advertise{.gw_id = 7, .duration_s = 0x1234}, "05 00 07 1234"},
      {searchgw{.radius = 3}, "03 01 03"},
      {gwinfo{.gw_id = 9}, "03 02 09"},
      {gwinfo{.gw_id = 9, .gw_address = bytes_of("\x0A\x0B")}, "05 02 09 0A0B"},
      {connect{.flags = flags{}.with_clean(), .keep_alive_s = 60, .client_id = "ab"},
       "08 04 04 01 003C 6162"},
      {connect{.flags = flags{}.with_will().with_clean(), .keep_alive_s = 1, .client_id = ""},
       "06 04 0C 01 0001"},
      {connack{.code = return_code::congestion}, "03 05 01"},
      {willtopicreq{}, "02 06"},
      {willtopic{.flags = one.with_retain(), .topic = "w"}, "04 07 30 77"},
      {willtopic{.erase = true}, "02 07"},
      {willmsgreq{}, "02 08"},
      {willmsg{.data = bytes_of("gone")}, "06 09 676F6E65"},
      {willmsg{}, "02 09"},
      {register_topic{.msg_id = 5, .topic = "a/b"}, "09 0A 0000 0005 612F62"},
      {register_topic{.topic_id = 0xFFFE, .msg_id = 5, .topic = "t"}, "07 0A FFFE 0005 74"},
      {regack{.topic_id = 1, .msg_id = 5, .code = return_code::not_supported},
       "07 0B 0001 0005 03"},
      {publish{
           .flags = one.with_dup(), .topic_id = 0x0102, .msg_id = 0x0304, .data = bytes_of("hi")},
       "09 0C A0 0102 0304 6869"},
      {publish{
           .flags =
               flags{}.with_qos(qos_level::minus_one).with_topic_type(topic_id_type::short_name),
           .topic_id = short_topic_id("ab")},
       "07 0C 62 6162 0000"},
      {puback{.topic_id = 1, .msg_id = 2, .code = return_code::invalid_topic_id},
       "07 0D 0001 0002 02"},
      {pubcomp{.msg_id = 0x0102}, "04 0E 0102"},
      {pubrec{.msg_id = 0x0102}, "04 0F 0102"},
      {pubrel{.msg_id = 0x0102}, "04 10 0102"},
      {subscribe{.flags = one, .msg_id = 3, .topic = "a/#"}, "08 12 20 0003 612F23"},
      {subscribe{.flags = predefined, .msg_id = 3, .topic_id = 0x0203}, "07 12 21 0003 0203"},
      {subscribe{.flags = short_name, .msg_id = 3, .topic_id = 0x7879, .topic = "xy"},
       "07 12 22 0003 7879"},
      {suback{.flags = one, .topic_id = 8, .msg_id = 3, .code = return_code::accepted},
       "08 13 20 0008 0003 00"},
      {unsubscribe{.flags = named, .msg_id = 4, .topic = "a/+"}, "08 14 00 0004 612F2B"},
      {unsubscribe{.flags = flags{}.with_topic_type(topic_id_type::predefined),
                   .msg_id = 4,
                   .topic_id = 0x0203},
       "07 14 01 0004 0203"},
      {unsubscribe{.flags = flags{}.with_topic_type(topic_id_type::short_name),
                   .msg_id = 4,
                   .topic_id = 0x7879,
                   .topic = "xy"},
       "07 14 02 0004 7879"},
      {unsuback{.msg_id = 4}, "04 15 0004"},
      {pingreq{}, "02 16"},
      {pingreq{.client_id = "me"}, "04 16 6D65"},
      {pingresp{}, "02 17"},
      {disconnect{}, "02 18"},
      {disconnect{.has_duration = true, .duration_s = 300}, "04 18 012C"},
      {disconnect{.has_duration = true}, "04 18 0000"},
      {willtopicupd{.flags = one, .topic = "w/t"}, "06 1A 20 772F74"},
      {willtopicupd{.erase = true}, "02 1A"},
      {willtopicresp{.code = return_code::accepted}, "03 1B 00"},
      {willmsgupd{.data = bytes_of("x")}, "03 1C 78"},
      {willmsgresp{.code = return_code::not_supported}, "03 1D 03"},
      {encapsulated{.radius = 2, .node_id = bytes_of("N1"), .inner = bytes_of("\x02\x16")},
       "05 FE 02 4E31 02 16"},
      {encapsulated{.inner = bytes_of("\x02\x17")}, "03 FE 00 02 17"},
  };
  return all;
}

/// The first n octets in memory of their own, so that AddressSanitizer finds a read past them.
std::unique_ptr<std::byte[]> alone(octets data, std::size_t n) {
  auto copy = std::make_unique<std::byte[]>(n);
  std::copy_n(data.begin(), n, copy.get());
  return copy;
}

decode_status decode_alone(octets data, message& out) {
  const auto copy = alone(data, data.size());
  return decode({copy.get(), data.size()}, out);
}

TEST(MqttSn, TheExamplesNameEveryMessageType) {
  std::set<std::size_t> kinds;
  for (const auto& e : examples())
    kinds.insert(e.body.index());
  EXPECT_EQ(kinds.size(), std::variant_size_v<message_body> - 1);
}

TEST(MqttSn, EachTypeIsEncodedToTheSpecifiedOctets) {
  std::byte buffer[64];
  for (const auto& e : examples()) {
    const std::size_t n = encode(buffer, e.body);
    EXPECT_EQ(to_hex({buffer, n}), to_hex(from_hex(e.hex))) << to_text(e.body);
  }
}

TEST(MqttSn, EachTypeIsDecodedToItsFields) {
  for (const auto& e : examples()) {
    const auto datagram = from_hex(e.hex);
    message m;
    EXPECT_EQ(decode(datagram, m), decode_status::ok) << e.hex;
    EXPECT_EQ(to_text(m.body), to_text(e.body));
    // A field that the text does not name, or that is not decoded, is missed by its octets.
    std::byte again[64];
    EXPECT_EQ(to_hex({again, encode(again, m.body)}), to_hex(datagram)) << e.hex;
    EXPECT_EQ(m.length, datagram.size());
    EXPECT_EQ(m.trailing, 0u);
    EXPECT_EQ(static_cast<unsigned>(m.type), std::to_integer<unsigned>(datagram[1]));
  }
}

TEST(MqttSn, TheTextOfAMessageThatHasFieldsNamesFields) {
  for (const auto& e : examples())
    std::visit(
        [&]<class M>(const M&) {
          EXPECT_EQ(to_text(e.body).find('=') == std::string::npos, std::is_empty_v<M>)
              << to_text(e.body) << ": its fields are not in for_each_field(), mqttsn_text.h";
        },
        e.body);
}

TEST(MqttSn, EachMessageIsTheSameAfterItsTextIsReadBack) {
  for (const auto& e : examples()) {
    std::deque<std::vector<std::byte>> storage;
    const auto again = test::from_text(to_text(e.body), storage);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(to_text(*again), to_text(e.body));
  }
}

TEST(MqttSn, ShortMessagesMayHaveTheLongLengthField) {
  for (const auto& e : examples()) {
    if (std::holds_alternative<encapsulated>(e.body)) continue;
    auto datagram = from_hex(e.hex);
    const auto length = static_cast<std::uint8_t>(datagram.size() + 2);
    datagram[0] = std::byte(length);
    datagram.insert(datagram.begin(), {std::byte{1}, std::byte{0}});
    message m;
    EXPECT_EQ(decode_alone(datagram, m), decode_status::ok);
    EXPECT_EQ(m.length, length);
  }
}

TEST(MqttSn, OctetsBehindTheMessageAreIgnoredAndCounted) {
  for (const auto& e : examples()) {
    if (std::holds_alternative<encapsulated>(e.body)) continue;
    auto datagram = from_hex(e.hex);
    datagram.insert(datagram.end(), 3, std::byte{0xAA});
    message m;
    EXPECT_EQ(decode(datagram, m), decode_status::ok);
    EXPECT_EQ(m.trailing, 3u);
    EXPECT_EQ(to_text(m.body), to_text(e.body));
  }
}

TEST(MqttSn, EveryTruncatedDatagramIsRefused) {
  for (const auto& e : examples()) {
    const auto datagram = from_hex(e.hex);
    const bool wrapped = std::holds_alternative<encapsulated>(e.body);
    const std::size_t own = std::to_integer<std::size_t>(datagram[0]);
    for (std::size_t n = 0; n < datagram.size(); ++n) {
      const auto copy = alone(datagram, n);
      message m;
      const auto status = decode({copy.get(), n}, m);
      if (wrapped && n > own) {
        ASSERT_EQ(status,
                  decode_status::ok); // only the inner message is cut, and it is refused when it is
                                      // decoded
        EXPECT_EQ(decode(m.get<encapsulated>()->inner, m), decode_status::truncated);
      } else {
        EXPECT_EQ(status, n < own ? decode_status::truncated : decode_status::too_short) << e.hex;
        EXPECT_EQ(m.body.index(), 0u);
      }
    }
  }
}

TEST(MqttSn, ADatagramCutWithItsLengthFieldIsNeverReadPastItsEnd) {
  for (const auto& e : examples()) {
    auto datagram = from_hex(e.hex);
    for (std::size_t n = 2; n < datagram.size(); ++n) {
      datagram[0] = std::byte(static_cast<std::uint8_t>(n));
      message m;
      const auto status = decode_alone(octets(datagram).first(n), m);
      if (status == decode_status::ok) {
        EXPECT_EQ(m.length, n);
      } else {
        EXPECT_TRUE(status == decode_status::too_short || status == decode_status::bad_field ||
                    status == decode_status::too_long)
            << to_string(status);
      }
    }
  }
}

TEST(MqttSn, EachFaultOfADatagramHasItsStatus) {
  const struct {
    const char* hex;
    decode_status status;
  } cases[] = {
      {"", decode_status::truncated},
      {"02", decode_status::truncated},
      {"01 00", decode_status::truncated},
      {"01 00 04", decode_status::truncated},
      {"00 16", decode_status::bad_length},
      {"00 0C 00 0001 0000", decode_status::bad_length},
      {"01 0003 16", decode_status::bad_length},
      {"01 0000 16", decode_status::bad_length},
      {"03 16", decode_status::truncated},
      {"FF 0C 00 0001 0000", decode_status::truncated},
      {"01 FFFF 0C 00 0001 0000", decode_status::truncated},
      {"02 03", decode_status::unknown_type},
      {"02 11", decode_status::unknown_type},
      {"02 19", decode_status::unknown_type},
      {"02 1E", decode_status::unknown_type},
      {"02 FD", decode_status::unknown_type},
      {"02 FF", decode_status::unknown_type},
      {"06 0C 00 0001 00", decode_status::too_short},
      {"06 0D 0001 0002", decode_status::too_short},
      {"08 0D 0001 0002 00 00", decode_status::too_long},
      {"03 17 00", decode_status::too_long},
      {"03 18 00", decode_status::too_short},
      {"05 18 000000", decode_status::too_long},
      {"04 1B 00 00", decode_status::too_long},
      {"02 FE 02 16", decode_status::too_short},
      {"05 FE 02 4E31", decode_status::too_short},
      {"01 0007 FE 02 4E31 02 16", decode_status::bad_length},
      {"06 04 04 02 0000", decode_status::bad_field},
      {"07 0C 03 0001 0000", decode_status::bad_field},
      {"07 12 03 0001 0000", decode_status::bad_field},
      {"06 12 01 0001 00", decode_status::bad_field},
      {"08 14 02 0001 000000", decode_status::bad_field},
      {"06 12 60 0001 61", decode_status::bad_field},
      {"04 07 60 61", decode_status::bad_field},
      {"04 1A 60 61", decode_status::bad_field},
  };
  std::set<decode_status> seen{decode_status::ok};
  for (const auto& c : cases) {
    message m;
    EXPECT_EQ(decode_alone(from_hex(c.hex), m), c.status) << c.hex;
    EXPECT_EQ(m.body.index() != 0, c.status == decode_status::bad_field) << c.hex;
    seen.insert(c.status);
  }
  EXPECT_EQ(seen.size(), decode_status_count);
}

TEST(MqttSn, ABadFieldLeavesTheFieldsThatARefusalNeeds) {
  message m;
  ASSERT_EQ(decode(from_hex("06 04 04 02 0000"), m), decode_status::bad_field);
  EXPECT_EQ(m.get<connect>()->protocol, 2);
  ASSERT_EQ(decode(from_hex("07 0C 23 0009 0007"), m), decode_status::bad_field);
  EXPECT_EQ(m.get<publish>()->topic_id, 9);
  EXPECT_EQ(m.get<publish>()->msg_id, 7);
  ASSERT_EQ(decode(from_hex("06 12 01 0107 00"), m), decode_status::bad_field);
  EXPECT_EQ(m.get<subscribe>()->msg_id, 0x107);
  EXPECT_EQ(m.get<subscribe>()->topic_id, 0);
}

TEST(MqttSn, AReservedReturnCodeIsDecodedForTheCaller) {
  message m;
  ASSERT_EQ(decode(from_hex("03 05 7F"), m), decode_status::ok);
  EXPECT_EQ(static_cast<int>(m.get<connack>()->code), 0x7F);
}

TEST(MqttSn, TheNonStandardFormOfQosMinusOneIsDecodedForTheCaller) {
  message m; // its type is `normal`, and topic id 3 is the length of "a/b" in front of the data
  ASSERT_EQ(decode(from_hex("0B 0C 60 0003 0000 612F62 21"), m), decode_status::ok);
  const auto* p = m.get<publish>();
  EXPECT_EQ(p->flags.qos(), qos_level::minus_one);
  EXPECT_EQ(p->flags.topic_type(), topic_id_type::normal);
  EXPECT_EQ(p->topic_id, 3);
  EXPECT_EQ(p->data.size(), 4u);
}

TEST(MqttSn, AMessageThatDoesNotFitIsNotEncoded) {
  for (const auto& e : examples()) {
    std::byte whole[64];
    const std::size_t size = encode(whole, e.body);
    for (std::size_t n = 0; n < size; ++n) {
      const auto small = std::make_unique<std::byte[]>(n);
      EXPECT_EQ(encode({small.get(), n}, e.body), 0u);
      EXPECT_TRUE(
          std::all_of(small.get(), small.get() + n, [](auto b) { return b == std::byte{0}; }));
    }
    const auto exact = std::make_unique<std::byte[]>(size);
    EXPECT_EQ(encode({exact.get(), size}, e.body), size);
  }
  EXPECT_EQ(encode({}, message_body{}), 0u);
}

TEST(MqttSn, AMessageOfMoreThan255OctetsHasTheLongLengthField) {
  std::vector<std::byte> buffer(message_size_max + 10), data(message_size_max);
  const std::size_t sizes[] = {0, 1, 247, 248, 249, 250, 251, 1000, 65526, 65527, 65535};
  for (const std::size_t size : sizes) {
    const publish out{.flags = one, .topic_id = 1, .msg_id = 2, .data = octets(data).first(size)};
    const std::size_t n = encode_publish(buffer, out);
    const std::size_t expected = size > 65526 ? 0 : size + (size <= 248 ? 7 : 9);
    ASSERT_EQ(n, expected) << size;
    EXPECT_EQ(publish_header_size(size), n == 0 ? 0 : n - size);
    std::byte header[publish_header_size_max];
    EXPECT_EQ(encode_publish_header(header, out, size), publish_header_size(size));
    if (n == 0) continue;
    EXPECT_TRUE(std::equal(header, header + publish_header_size(size), buffer.begin()));
    EXPECT_EQ(
        encode_publish_header(std::span(header).first(publish_header_size(size) - 1), out, size),
        0u);
    message m;
    ASSERT_EQ(decode(octets(buffer).first(n), m), decode_status::ok);
    EXPECT_EQ(m.get<publish>()->data.size(), size);
    EXPECT_EQ(m.get<publish>()->msg_id, 2);
  }
}

TEST(MqttSn, TheWrapperOfAForwarderCanBeWrittenAlone) {
  std::byte buffer[32];
  const std::size_t wrapper = encode_encapsulated(buffer, {.radius = 1, .node_id = bytes_of("N")});
  ASSERT_EQ(wrapper, 4u);
  const std::size_t inner = encode_pingresp(std::span(buffer).subspan(wrapper));
  EXPECT_EQ(to_hex({buffer, wrapper + inner}), "04fe014e0217");
  const std::string long_id(253, 'n');
  std::vector<std::byte> large(1000);
  EXPECT_EQ(encode_encapsulated(large, {.node_id = bytes_of(long_id)}), 0u);
  EXPECT_EQ(encode_encapsulated(large, {.node_id = bytes_of(long_id).first(252)}), 255u);
}

/// Returns the text of what visit_usual() finds in the datagram, or nothing.
std::optional<std::string> usual_text(octets datagram) {
  std::optional<std::string> found;
  const bool taken = visit_usual(datagram, [&](const auto& m) {
    found = to_text(message_body(m));
    return true;
  });
  EXPECT_EQ(taken, found.has_value());
  return found;
}

/// Expects that visit_usual() finds what decode() finds. Returns whether it found anything.
bool expect_same(octets datagram) {
  const auto copy = alone(datagram, datagram.size());
  const octets exact(copy.get(), datagram.size());
  const auto usual = usual_text(exact);
  if (!usual) return false;
  message m;
  EXPECT_EQ(decode(exact, m), decode_status::ok) << to_hex(exact);
  EXPECT_EQ(m.trailing, 0u) << to_hex(exact);
  EXPECT_EQ(*usual, to_text(m.body)) << to_hex(exact);
  return true;
}

TEST(MqttSn, TheUsualMessagesAreThoseWithTheShortLengthFieldAndNothingBehindThem) {
  for (const auto& e : examples()) {
    const std::vector<std::byte> datagram = from_hex(e.hex);
    message m;
    ASSERT_EQ(decode(datagram, m), decode_status::ok);
    const bool usual = m.get<publish>() || m.get<puback>() || m.get<pubrec>() || m.get<pubrel>() ||
                       m.get<pubcomp>() || m.get<pingreq>();
    EXPECT_EQ(expect_same(datagram), usual) << e.hex;
    std::vector<std::byte> longer = datagram;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(usual_text(longer)) << e.hex;
    for (std::size_t n = 0; n < datagram.size(); ++n)
      EXPECT_FALSE(usual_text(octets(datagram).first(n))) << e.hex;
    const std::size_t size = datagram.size() + 2;
    std::vector<std::byte> long_form{std::byte{1}, std::byte(size >> 8), std::byte(size)};
    long_form.insert(long_form.end(), datagram.begin() + 1, datagram.end());
    EXPECT_FALSE(usual_text(long_form)) << e.hex;
  }
  // A caller that handles no message leaves each of them to decode().
  EXPECT_FALSE(visit_usual(from_hex("02 16"), [](const auto&) { return false; }));
}

TEST(MqttSn, EachUsualMessageHasTheFieldsThatTheDecoderFinds) {
  std::mt19937 random(static_cast<unsigned>(chainring::test::fresh_seed()));
  const auto any = [&] { return std::byte(static_cast<std::uint8_t>(random())); };
  unsigned found = 0;
  for (int round = 0; round < 400000; ++round) {
    std::vector<std::byte> datagram;
    if (round % 2 == 0) {
      datagram = from_hex(examples()[random() % examples().size()].hex);
      for (unsigned flips = random() % 3; flips > 0; --flips)
        datagram[random() % datagram.size()] = any();
    } else {
      datagram.resize(random() % 8 == 0 ? random() % 300 : random() % 12);
      for (auto& b : datagram)
        b = any();
      if (!datagram.empty() && random() % 8 != 0) datagram[0] = std::byte(datagram.size());
      if (datagram.size() > 1 && random() % 4 != 0)
        datagram[1] = std::byte(static_cast<std::uint8_t>(0x0C + random() % 12));
    }
    found += expect_same(datagram);
    if (HasFailure()) return;
  }
  EXPECT_GT(found, 20000u);
}

TEST(MqttSn, AShortHeaderWrittenAtOnceHasTheSpecifiedOctets) {
  std::mt19937 random(static_cast<unsigned>(chainring::test::fresh_seed()));
  for (int round = 0; round < 10000; ++round) {
    const auto topic_id = static_cast<std::uint16_t>(random());
    const auto msg_id = static_cast<std::uint16_t>(random());
    std::byte expected[16]{}, written[16]{};
    const puback ack{.topic_id = topic_id, .msg_id = msg_id, .code = return_code(random() & 0xff)};
    ASSERT_EQ(encode_puback(expected, ack), 7u);
    write_puback(written, ack);
    ASSERT_EQ(to_hex(written), to_hex(expected)); // and nothing is written behind it
    const publish out{
        .flags = {static_cast<std::uint8_t>(random())}, .topic_id = topic_id, .msg_id = msg_id};
    const std::size_t payload = random() % 249;
    ASSERT_EQ(encode_publish_header(expected, out, payload), 7u);
    write_short_publish_header(written, out, payload + 7);
    ASSERT_EQ(to_hex(written), to_hex(expected));
  }
}

TEST(MqttSn, ADecodedMessageIsEncodedToOneOfTheSameMeaning) {
  std::mt19937 random(static_cast<unsigned>(chainring::test::fresh_seed()));
  std::byte buffer[600];
  for (int round = 0; round < 200000; ++round) {
    std::vector<std::byte> datagram;
    if (round % 2 == 0) {
      datagram = from_hex(examples()[random() % examples().size()].hex);
      for (unsigned flips = random() % 3 + 1; flips > 0; --flips)
        datagram[random() % datagram.size()] = std::byte(static_cast<std::uint8_t>(random()));
    } else {
      datagram.resize(random() % 24);
      for (auto& b : datagram)
        b = std::byte(static_cast<std::uint8_t>(random()));
      if (datagram.size() > 1 &&
          random() % 4 != 0) { // mostly with a valid length and a type that exists
        datagram[0] = std::byte(static_cast<std::uint8_t>(datagram.size()));
        datagram[1] = std::byte(static_cast<std::uint8_t>(random() % 32));
      }
    }
    const auto copy = alone(datagram, datagram.size());
    message m, again;
    if (decode({copy.get(), datagram.size()}, m) != decode_status::ok) continue;
    const std::size_t n = encode(buffer, m.body);
    ASSERT_GT(n, 0u);
    ASSERT_EQ(decode({buffer, n}, again), decode_status::ok);
    ASSERT_EQ(to_text(again.body), to_text(m.body));
  }
}

TEST(Flags, EachFlagHasItsOwnBits) {
  EXPECT_EQ(flags{}.with_dup().octet, 0x80);
  EXPECT_EQ(flags{}.with_qos(qos_level::one).octet, 0x20);
  EXPECT_EQ(flags{}.with_qos(qos_level::two).octet, 0x40);
  EXPECT_EQ(flags{}.with_qos(qos_level::minus_one).octet, 0x60);
  EXPECT_EQ(flags{}.with_retain().octet, 0x10);
  EXPECT_EQ(flags{}.with_will().octet, 0x08);
  EXPECT_EQ(flags{}.with_clean().octet, 0x04);
  EXPECT_EQ(flags{}.with_topic_type(topic_id_type::short_name).octet, 0x02);
  EXPECT_EQ(flags{0xFF}.with_dup(false).with_retain(false).with_will(false).with_clean(false).octet,
            0x63);
  EXPECT_EQ(flags{0xFF}.with_qos(qos_level::zero).with_topic_type(topic_id_type::normal).octet,
            0x9C);
  for (unsigned octet = 0; octet < 256; ++octet) {
    const flags f{static_cast<std::uint8_t>(octet)};
    EXPECT_EQ(flags{}
                  .with_dup(f.dup())
                  .with_qos(f.qos())
                  .with_retain(f.retain())
                  .with_will(f.will())
                  .with_clean(f.clean())
                  .with_topic_type(f.topic_type()),
              f);
  }
}

TEST(Names, AreThoseOfTheSpecification) {
  EXPECT_STREQ(to_string(message_type::register_topic), "REGISTER");
  EXPECT_STREQ(to_string(message_type::pubcomp), "PUBCOMP");
  EXPECT_STREQ(to_string(message_type{0xFF}), "reserved");
  EXPECT_STREQ(to_string(return_code::congestion), "rejected: congestion");
  EXPECT_STREQ(to_string(return_code{9}), "rejected: reserved return code");
  EXPECT_STREQ(to_string(decode_status::too_long), "too_long");
}

TEST(Ids, ReservedIdsAreNotValid) {
  EXPECT_FALSE(valid_topic_id(0));
  EXPECT_FALSE(valid_topic_id(0xFFFF));
  EXPECT_TRUE(valid_topic_id(1));
  EXPECT_TRUE(valid_topic_id(0xFFFE));
  EXPECT_EQ(short_topic_id("\xFF"
                           "a"),
            0xFF61);
  EXPECT_EQ(short_topic_name(0xFF61), (std::array<char, 2>{'\xFF', 'a'}));
}

TEST(ClientId, HasOneToTwentyThreeCharacters) {
  EXPECT_FALSE(valid_client_id(""));
  EXPECT_TRUE(valid_client_id("a"));
  EXPECT_TRUE(valid_client_id("12345678901234567890123"));
  EXPECT_FALSE(valid_client_id("123456789012345678901234"));
  std::string umlauts;
  for (int i = 0; i < 23; ++i)
    umlauts += "\xC3\xBC";
  EXPECT_TRUE(valid_client_id(umlauts)); // the limit counts characters and not octets
  EXPECT_FALSE(valid_client_id(umlauts + "x"));
  EXPECT_FALSE(valid_client_id("a\xFF"));
  EXPECT_FALSE(valid_client_id("a\0b"sv));
}

} // namespace
} // namespace chainring::mqttsn
