// SPDX-License-Identifier: BSD-3-Clause
/// Packets for the tests of the MQTT codec, built octet by octet, so that they can break any rule.
#pragma once
#include <algorithm>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

#include "mqtt_text.h"

namespace chainring::mqtt::test {

inline constexpr version v3 = version::v3_1_1, v5 = version::v5;
using status = decode_status;

/// The octets of numbers.
inline std::string raw(std::initializer_list<unsigned> values) {
  std::string made;
  for (const unsigned value : values)
    made += static_cast<char>(value);
  return made;
}
inline std::string be16(std::size_t value) {
  return raw({static_cast<unsigned>(value >> 8), static_cast<unsigned>(value & 0xFF)});
}
/// A string or binary data behind its length.
inline std::string str(std::string_view text) {
  return be16(text.size()) + std::string(text);
}
inline std::string variable(std::size_t value) {
  std::string made;
  for (; value >= 128; value >>= 7)
    made += raw({static_cast<unsigned>(value & 0x7F) | 0x80});
  return made + raw({static_cast<unsigned>(value)});
}
/// A property section behind its length.
inline std::string section(const std::string& properties = "") {
  return variable(properties.size()) + properties;
}
/// A packet whose remaining length fits its body.
inline std::string packet(unsigned first, const std::string& body) {
  return raw({first}) + variable(body.size()) + body;
}

inline octets octets_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// A packet in memory of its own, so that AddressSanitizer finds a read past its end, and what it
/// is decoded to.
struct decoded {
  decoded(version v, octets in) : copy(std::make_unique<std::byte[]>(in.size())), size(in.size()) {
    std::copy(in.begin(), in.end(), copy.get());
    status = decode(v, {copy.get(), size}, out);
  }
  decoded(version v, std::string_view in) : decoded(v, octets_of(in)) {}

  std::unique_ptr<std::byte[]> copy;
  std::size_t size;
  message out;
  decode_status status;
};

inline decode_status status_of(version v, std::string_view in) {
  const decoded d(v, in);
  EXPECT_EQ(d.out.body.index() != 0, d.status == decode_status::ok);
  return d.status;
}

inline void PrintTo(decode_status s, std::ostream* out) {
  *out << to_string(s);
}

struct example {
  mqtt::version version;
  message_body body;
  const char* hex;
};

/// Every packet type in each of its forms, with octets worked out by hand from section 3.
const std::vector<example>& examples();

inline std::vector<std::byte> from_hex(std::string_view text) {
  std::vector<std::byte> data;
  unsigned value = 0;
  bool half = false;
  for (const char c : text) {
    if (c == ' ') continue;
    value = value << 4 | static_cast<unsigned>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    half = !half;
    if (!half) {
      data.push_back(std::byte(static_cast<std::uint8_t>(value)));
      value = 0;
    }
  }
  return data;
}

} // namespace chainring::mqtt::test

namespace chainring::mqtt {
using test::PrintTo;
}
