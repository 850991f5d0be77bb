// SPDX-License-Identifier: BSD-3-Clause
/// The reader of packets, and how property sections are read. Not installed.
#pragma once
#include "codec.h"

namespace chainring::mqtt {

/// Reads a packet from left to right. A field that ends behind the end is a fault; it and all
/// fields behind it are then empty or zero. The first fault is kept, but a malformed packet is
/// malformed whatever else is wrong with it, because that shows before a protocol error does
/// (MQTT 5.0, section 1.2).
class reader {
 public:
  explicit reader(octets in) noexcept : at_(in.data()), end_(in.data() + in.size()) {}

  std::uint8_t u8() noexcept {
    if (left() < 1) return short_of<std::uint8_t>();
    return std::to_integer<std::uint8_t>(*at_++);
  }
  std::uint16_t u16() noexcept {
    if (left() < 2) return short_of<std::uint16_t>();
    at_ += 2;
    return static_cast<std::uint16_t>(wire::u16(at_ - 2));
  }
  std::uint32_t u32() noexcept {
    if (left() < 4) return short_of<std::uint32_t>();
    at_ += 4;
    return static_cast<std::uint32_t>(wire::u16(at_ - 4) << 16 | wire::u16(at_ - 2));
  }
  /// A variable byte integer of at most four octets, in the shortest form (MQTT-1.5.5-1).
  std::uint32_t variable_integer() noexcept {
    std::uint32_t value = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
      const std::uint8_t octet = u8();
      value |= (octet & 0x7Fu) << shift;
      if (octet < 0x80) {
        if (octet == 0 && shift > 0) refuse(decode_status::malformed);
        return value;
      }
    }
    return short_of<std::uint32_t>();
  }
  octets binary() noexcept { return take(u16()); }
  /// Octets that the caller has to check as text.
  std::string_view unchecked_text() noexcept {
    const octets in = binary();
    return {reinterpret_cast<const char*>(in.data()), in.size()};
  }
  std::string_view text() noexcept {
    const std::string_view in = unchecked_text();
    if (!valid_utf8(in)) refuse(decode_status::malformed);
    return in;
  }
  std::string_view topic_name() noexcept {
    const std::string_view in = unchecked_text();
    if (!valid_topic_name(in)) refuse(decode_status::malformed);
    return in;
  }
  octets take(std::size_t n) noexcept {
    if (left() < n) return short_of<octets>();
    at_ += n;
    return {at_ - n, n};
  }

  const std::byte* at() const noexcept { return at_; }
  std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }
  octets rest() const noexcept { return {at_, left()}; }
  void skip_rest() noexcept { at_ = end_; }

  void refuse(decode_status why) noexcept {
    if (status_ == decode_status::ok || why == decode_status::malformed) status_ = why;
  }
  decode_status status() const noexcept { return status_; }

 private:
  template <class T> T short_of() noexcept {
    at_ = end_;
    status_ = decode_status::malformed;
    return {};
  }
  const std::byte* at_;
  const std::byte* end_;
  decode_status status_ = decode_status::ok;
};

/// In place of a packet type: the properties are those of a will.
inline constexpr std::size_t will_owner = 0;

/// Reads a section that fills `in`, by the rules of its owner, which is a packet type or
/// `will_owner`.
void read_properties_into(reader& in, std::size_t owner, properties& out) noexcept;

} // namespace chainring::mqtt
