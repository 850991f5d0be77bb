// SPDX-License-Identifier: BSD-3-Clause
/// What a connection of MQTT 5.0 has beside what every connection has. Internal to lib/mqtt.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mqtt/codec.h"

namespace chainring::mqtt {

/// The answer to a PUBLISH at QoS 1 or 2, which waits until it is known and until the answers to
/// all messages before it are (MQTT-4.6.0-2, MQTT-4.6.0-3).
struct publish_answer {
  std::uint16_t packet_id = 0;
  std::uint8_t qos = 0;
  bool known = false;
  reason_code reason = reason_code::success;
};

/// A subscription of the client that has an identifier, which the client is told with each message
/// that matches the filter.
struct identified_filter {
  std::string filter;  ///< without the group
  std::string group{}; ///< of a shared subscription
  std::uint32_t identifier = 0;
};

struct v5_client {
  std::uint32_t packet_size_max = mqtt::packet_size_max; ///< octets that the client takes at once
  std::uint16_t received = 0;        ///< messages at QoS 1 and 2 from it that are not settled
  bool wants_reasons = true;         ///< it takes reason strings
  bool has_assigned_id = false;      ///< the broker has made its client id
  bool ends_with_connection = false; ///< its session does
  bool authenticates = false;        ///< it has proved itself by AUTH
  std::optional<std::uint32_t> expiry_granted{}; ///< where it is not the one that was asked for
  std::vector<publish_answer> answers;           ///< in the order of the messages
  std::uint16_t aliases_max = 0;                 ///< topic aliases that may be sent to the client
  /// The topics that topic aliases stand for, by alias less one.
  std::vector<std::string> from_client, to_client;
  std::vector<identified_filter> identified;
  std::uint64_t memory = 0; ///< octets of the topics and filters
};

} // namespace chainring::mqtt
