// SPDX-License-Identifier: BSD-3-Clause
/// The contents of the golden image of format 3, for the program that made it and for the test that
/// opens it. Do not change them, because the image was made from them.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "broker/access.h"
#include "broker/broker.h"
#include "topic/topic_names.h"

namespace chainring::golden {

inline constexpr std::uint64_t region_size = 128 << 10;
inline constexpr std::uint32_t far_expiry_s = 4'000'000'000; ///< more than a century
inline constexpr std::uint32_t largest_identifier = 268'435'455;
inline const std::string short_identity = "reader";
inline const std::string long_identity = [] {
  std::string id;
  while (id.size() < 700)
    id += "a long identity " + std::to_string(id.size()) + " ";
  return id;
}();
inline const std::string long_topic = "a/" + std::string(60, 't');

/// The messages in the order in which they were published. Each goes to both sessions, except the
/// last, which only the session with the long identity subscribed to. The session with the short
/// identity has acknowledged only the second message.
struct kept_message {
  std::string topic, content;
};
inline std::string content_of(std::size_t size) {
  std::string text(size, ' ');
  for (std::size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>('!' + (i * 7 + size) % 90);
  return text;
}
inline const std::vector<kept_message> messages = {
    {"a/b", "hello"},          {"a/b", content_of(300)},
    {"a/b", content_of(1400)}, // its content lies in several extents
    {"a/b", content_of(1)},    {long_topic, content_of(40)},
};
inline constexpr std::size_t acknowledged = 1;

inline store_layout layout() {
  store_layout l;
  l.sessions_max = 4;
  l.subscriptions_max = 8;
  l.messages_max = 32;
  l.groups_max = 2;
  l.retained_max = 4;
  return l;
}
inline broker_config config() {
  broker_config c;
  c.queue_slots = 15;
  c.queue_slots_first = 7;
  c.topics_max = 16;
  c.volatile_messages_max = 16;
  return c;
}

/// A front end without a protocol. It keeps the messages that are delivered to it.
class reader final : public front_end {
 public:
  struct delivered {
    std::uint64_t ticket;
    std::string topic, content;
    std::uint8_t front_end_bits, qos;
    bool redelivered;
  };
  [[nodiscard]] std::uint32_t credit(std::uint32_t) const noexcept override { return 64; }
  void settled(std::span<const settlement> all) noexcept override {
    for (const settlement& s : all)
      outcomes[s.token] = s.outcome;
  }
  [[nodiscard]] std::size_t deliver(std::uint32_t session,
                                    std::span<const delivery_item> items) noexcept override {
    for (const delivery_item& i : items) {
      std::string content(i.content.size(), ' ');
      if (!i.content.copy_out(content.data())) return 0;
      got[session].push_back(
          {i.ticket, std::string(i.name), content, i.front_end_bits, i.qos, i.redelivered});
    }
    return items.size();
  }
  void withdrawn(std::uint32_t, std::uint64_t) noexcept override {}
  void closed(std::uint32_t, close_reason) noexcept override {}

  std::map<std::uint64_t, outcome> outcomes; ///< by token
  std::map<std::uint32_t, std::vector<delivered>> got;
};

} // namespace chainring::golden
