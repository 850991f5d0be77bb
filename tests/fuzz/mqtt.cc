// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the MQTT codec. The lowest bit of the first octet chooses the version, and the rest
// is what a connection receives. A packet that is accepted is encoded to one that decodes to the
// same message, and what its properties are is what their stored section is read to.
#include <algorithm>
#include <vector>

#include "fuzz.h"
#include "mqtt/codec.h"

using namespace chainring;
using namespace chainring::mqtt;

namespace {

std::size_t touched = 0;

/// Reads each item of a list, so that a sanitizer sees a view that leaves the packet.
template <class Item> void touch(const list<Item>& all) {
  std::size_t n = 0;
  for (const Item item : all) {
    ++n;
    if constexpr (requires { item.filter; }) {
      touched += item.filter.size() + (item.filter.empty() ? 0u : item.filter.back() == 'x');
    } else if constexpr (requires { item.value; }) {
      for (const std::string_view text : {item.name, item.value})
        touched += text.empty() ? 0u : text.back() == 'x';
    } else if constexpr (requires { item.size(); }) {
      touched += item.empty() ? 0u : item.back() == 'x';
    } else {
      touched += static_cast<std::size_t>(item);
    }
  }
  fuzz::expect(n == all.size() && (n > 0) != all.empty(), "a list has another length than it says");
}

void touch(const properties& p) {
  touch(p.user_properties);
  touch(p.subscription_ids);
}

template <class Message> void touch_message(const Message& m) {
  if constexpr (requires { m.properties; }) touch(m.properties);
  if constexpr (requires { m.subscriptions; }) touch(m.subscriptions);
  if constexpr (requires { m.filters; }) touch(m.filters);
  if constexpr (requires { m.reasons; }) touch(m.reasons);
  if constexpr (requires { m.will; })
    if (m.will) touch(m.will->properties);
}

std::vector<std::byte> section_of(const properties& p) {
  const std::optional<std::size_t> size = properties_size(p);
  fuzz::expect(size.has_value(), "properties that were accepted cannot be expressed");
  std::vector<std::byte> made(*size);
  fuzz::expect(encode_properties(made, p) == *size, "properties have another size than they say");
  if (!made.empty())
    fuzz::expect(encode_properties(std::span(made).first(made.size() - 1), p) == 0,
                 "properties were encoded into too little room");
  return made;
}

void check_properties(packet_type type, const properties& p, bool of_will) {
  const auto read = [&](octets section, properties& out) {
    return of_will ? decode_will_properties(section, out) : decode_properties(type, section, out);
  };
  properties again, third;
  fuzz::expect(read(p.raw, again) == decode_status::ok, "a section is not read again");
  const std::vector<std::byte> first = section_of(p), second = section_of(again);
  fuzz::expect(first == second, "a section is read to other properties");
  fuzz::expect(read(second, third) == decode_status::ok && section_of(third) == second,
               "an encoded section is read to other properties");
}

void check_publish(version v, const publish& m, octets whole) {
  const std::size_t header = whole.size() - m.payload.size();
  fuzz::expect(publish_header_size(v, m, m.payload.size()) == header,
               "the header of a PUBLISH has another size than it says");
  std::vector<std::byte> alone(header);
  fuzz::expect(encode_publish_header(alone, v, m, m.payload.size()) == header &&
                   std::equal(alone.begin(), alone.end(), whole.begin()),
               "the header of a PUBLISH is another when it is written alone");
}

/// Checks the packet that fills `in`. Returns whether it was accepted.
bool check(version v, octets in) {
  message m;
  if (decode(v, in, m) != decode_status::ok) {
    fuzz::expect(m.body.index() == 0, "a refused packet has a body");
    return false;
  }
  const version by{m.level};
  std::visit([](const auto& one) { touch_message(one); }, m.body);
  std::vector<std::byte> again(in.size() + 8);
  const std::size_t n = encode(again, by, m.body);
  fuzz::expect(n != 0 && n <= in.size(), "an accepted packet does not encode, or to a longer one");
  message second;
  fuzz::expect(decode(by, octets(again).first(n), second) == decode_status::ok,
               "the encoded packet does not decode");
  fuzz::expect(second.type == m.type && second.body.index() == m.body.index(),
               "the encoded packet decodes to another type");
  std::vector<std::byte> third(n);
  fuzz::expect(encode(third, by, second.body) == n &&
                   std::equal(third.begin(), third.end(), again.begin()),
               "the decoded packet encodes to other octets");
  fuzz::expect(encode(std::span(third).first(n - 1), by, m.body) == 0,
               "a packet was encoded into too little room");
  // The other version may have no room for a part of it, and never reads or writes past an end.
  std::vector<std::byte> other(in.size() + 8);
  (void)encode(other, by == version::v5 ? version::v3_1_1 : version::v5, m.body);
  std::visit(
      [&]<class Message>(const Message& one) {
        if constexpr (requires { one.properties; })
          if (by == version::v5) check_properties(Message::type, one.properties, false);
        if constexpr (requires { one.will; })
          if (by == version::v5 && one.will)
            check_properties(Message::type, one.will->properties, true);
      },
      m.body);
  if (const auto* p = second.get<publish>()) check_publish(by, *p, octets(third));
  return true;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const version v = (data[0] & 1) != 0 ? version::v5 : version::v3_1_1;
  for (octets left = std::as_bytes(std::span(data, size)).subspan(1); !left.empty();) {
    frame f;
    const frame_status found = find_frame(left, left.size(), f);
    fuzz::expect(found != frame_status::ok || (f.size >= 2 && f.size <= left.size()),
                 "a packet is found that is not there");
    fuzz::expect(found != frame_status::too_long || f.size > left.size(),
                 "a packet is too long that is not");
    // The memory has exactly the size of the packet, so that a read past its end is found.
    const std::size_t n = found == frame_status::ok ? f.size : left.size();
    const std::vector<std::byte> exact(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(n));
    const bool accepted = check(v, exact);
    fuzz::expect(!accepted || found == frame_status::ok, "a packet is accepted that is not whole");
    left = left.subspan(n);
  }
  properties p;
  const std::vector<std::byte> section(reinterpret_cast<const std::byte*>(data) + 1,
                                       reinterpret_cast<const std::byte*>(data) + size);
  if (decode_properties(packet_type(data[0] >> 4), section, p) == decode_status::ok) touch(p);
  return 0;
}
