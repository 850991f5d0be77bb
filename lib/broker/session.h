// SPDX-License-Identifier: BSD-3-Clause
/// A session as it runs: what the record on media does not hold. One per session number, allocated
/// at open. Internal to the broker.
#pragma once
#include <atomic>
#include <cstdint>

#include "topic/topic_table.h"
#include "message/message.h"
#include "timer/timer.h"

namespace chainring {

enum class connection : std::uint8_t { none, disconnected, active };

/// Fields marked (any) are read by any thread; the others belong to the session's home worker.
struct session {
  std::atomic<connection> state{connection::none}; // (any)
  std::atomic<std::uint32_t> incarnation{0};       // (any)
  std::atomic<std::uint64_t> address{0};           // (any) client_address while active
  std::atomic<bool> woken{false};             // (any) in some worker's list of queues to look at
  std::atomic<std::uint8_t> home{0};          // (any) set before the state that shows it
  std::atomic<std::uint16_t> keep_alive_s{0}; // (any)
  bool clean = false;
  bool ready = false; // in the home's list of sessions that may have something to deliver
  bool dirty = false; // in the home's list of queues with acks to make durable
  std::uint16_t register_id = 0; // message id of the last REGISTER sent
  std::uint32_t registrations = topic_table::none;

  // One outstanding exchange towards the client (MQTT-SN 1.2 section 6.6 and 6.5).
  enum class exchange : std::uint8_t { idle, registering, publishing } phase = exchange::idle;
  bool sent = false; // what is leased has been sent before: DUP
  std::uint8_t retries = 0;
  std::uint8_t corrections = 0; // times the client did not know the id of what is leased
  bool volatile_first = false;  // the REGISTER is for the first volatile message
  std::uint16_t packet_id = 0;
  std::uint16_t delivery_bits = 0;
  std::uint32_t registration = topic_table::none; // being registered
  std::uint64_t ticket = 0;                       // leased and not acknowledged; 0: none
  message_ref leased;

  std::uint64_t heard_tsc = 0; // last packet from the client
  std::uint64_t retry_tsc = 0; // next retransmission; 0: none
  std::uint64_t timer_due = 0; // when `timer` fires; 0: it is not set
  timer_handle timer;
  std::uint32_t volatile_first_index = topic_table::none; // QoS 0 messages that wait
  std::uint32_t volatile_last_index = topic_table::none;
  std::uint32_t volatile_count = 0;
};

} // namespace chainring
