// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the MQTT-SN decoder. A message that it accepts is whole, and its encoding decodes to
// the same message.
#include <vector>

#include "fuzz.h"
#include "mqttsn/codec.h"
#include "topic/topic.h"

using namespace chainring;
using namespace chainring::mqttsn;

namespace {

void check_topics(std::string_view text, std::string_view other) {
  const bool filter = valid_topic_filter(text);
  fuzz::expect(!valid_topic_name(text) || filter, "a valid topic name is no valid filter");
  fuzz::expect(!filter || valid_utf8(text), "a valid filter is no valid UTF-8");
  if (valid_topic_name(text)) {
    fuzz::expect(topic_matches(text, text), "a topic name does not match itself");
    fuzz::expect(topic_matches("#", text) == (text[0] != '$'),
                 "the filter # and a topic name match against the rule for $");
  }
  if (filter && valid_topic_name(other)) (void)topic_matches(text, other);
  (void)valid_client_id(text);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The memory has exactly the size of the input, so that a read past its end is found.
  const std::vector<std::uint8_t> exact(data, data + size);
  const octets datagram = std::as_bytes(std::span(exact));
  message m;
  const decode_status status = decode(datagram, m);
  (void)visit_usual(datagram, [&]<class Message>(const Message& usual) {
    fuzz::expect(status == decode_status::ok && m.trailing == 0 && m.get<Message>() != nullptr,
                 "a usual message is none for the decoder");
    std::vector<std::byte> one(size), other(size);
    fuzz::expect(encode_message(one, usual) == size &&
                     encode_message(other, *m.get<Message>()) == size && one == other,
                 "a usual message has other fields than those that are decoded");
    return true;
  });
  fuzz::expect(m.length <= size && m.trailing <= size, "the message is longer than the datagram");
  if (status == decode_status::ok || status == decode_status::bad_field) {
    fuzz::expect(m.length + m.trailing == size,
                 "some octets are neither of the message nor trailing");
    std::vector<std::byte> again(size + 16);
    const std::size_t n = encode(again, m.body);
    if (status == decode_status::ok)
      fuzz::expect(n != 0 && n <= m.length, "an accepted message does not encode");
    if (n != 0 && status == decode_status::ok) {
      message second;
      const octets whole(again.data(), n);
      fuzz::expect(decode(whole, second) == decode_status::ok,
                   "the encoded message does not decode");
      fuzz::expect(second.type == m.type && second.body.index() == m.body.index(),
                   "the encoded message decodes to another type");
      std::vector<std::byte> third(size + 16);
      fuzz::expect(encode(third, second.body) == n &&
                       std::memcmp(third.data(), again.data(), n) == 0,
                   "the decoded message encodes to other octets");
      std::vector<std::byte> small(n - 1);
      fuzz::expect(encode(small, m.body) == 0, "a message was encoded into too little room");
    }
  } else {
    fuzz::expect(m.body.index() == 0, "a refused datagram has a body");
  }
  const std::string_view text(reinterpret_cast<const char*>(exact.data()), size);
  check_topics(text.substr(0, size / 2), text.substr(size / 2));
  return 0;
}
