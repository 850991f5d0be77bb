// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/broker: the fields of a message, made where it is staged. The usual publish and
/// the others have a copy of it each, because a call would cost the usual one a tenth of its stage.
///
/// Its ordering labels are described in sessions.cc.
#pragma once
#include "broker/worker_state.h"

namespace chainring {

// The fields of the message that a publish of that many octets becomes.
[[gnu::always_inline]] inline message_fields
broker_worker::state::fields_of(std::string_view name, std::uint32_t from, std::size_t size,
                                const publish_options& options) noexcept {
  constexpr std::uint64_t second_ns = 1'000'000'000;
  message_fields fields;
  fields.payload_size = static_cast<std::uint32_t>(size);
  fields.topic_size = static_cast<std::uint16_t>(name.size());
  fields.qos = options.qos;
  fields.identifier_open = options.qos == 2;
  fields.flags = options.retain ? message_flag_retain : std::uint8_t{0};
  fields.packet_id = options.packet_id;
  fields.publisher_session = from;
  if (from != no_session)
    fields.publisher_incarnation =
        at(from).incarnation.load(std::memory_order_acquire); // [incarnation-read]
  if (burst_ns == 0) begin_burst();
  fields.published_ns = burst_ns;
  const std::uint64_t expiry_s = options.expiry_s != 0 ? options.expiry_s : config.message_expiry_s;
  if (expiry_s != 0) fields.expires_ns = fields.published_ns + expiry_s * second_ns;
  return fields;
}

} // namespace chainring
