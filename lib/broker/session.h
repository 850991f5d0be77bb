// SPDX-License-Identifier: BSD-3-Clause
/// A session as it runs: what the record on media does not hold. One per session number. Internal
/// to the broker.
#pragma once
#include <atomic>
#include <cstdint>

#include "broker/front_end.h"
#include "message/message.h"
#include "ring/ring.h"

namespace chainring {

enum class connection : std::uint8_t { none, disconnected, active };

/// A message sent and not acknowledged, beyond the first of its session.
struct in_flight_node {
  std::uint64_t ticket;
  std::uint32_t next;
};

/// Fields marked (any) are read by any thread; the others belong to the session's home worker.
struct session {
  static constexpr std::uint32_t none = 0xffffffff;

  std::atomic<connection> state{connection::none}; // (any)
  std::atomic<std::uint8_t> home{0};               // (any) set before the state that shows it
  std::atomic<bool> woken{false};                  // (any) in its home's list of woken sessions
  std::atomic<std::uint32_t> incarnation{0};       // (any)
  std::atomic<std::uint32_t> next_woken{none};     // (any) behind it in that list
  std::atomic<std::uint64_t> address{0};           // (any) as the front end gave it
  std::atomic<std::uint16_t> keep_alive_s{0};      // (any) as the front end gave it
  std::atomic<std::uint64_t> refused{0};           // (any) messages its full queue refused
  std::atomic<std::uint64_t> high_water{0};        // (any) most messages its queue held

  front_end* server = nullptr;       // who serves the connection
  bool ends_with_connection = false; // its record's flag
  bool ready = false;                // in the home's list of sessions that may have deliveries
  bool dirty = false;                // in the home's list of queues with acks to make durable
  bool record_dirty = false;         // in the list of records to flush
  bool ending = false;               // in the list of incarnations that end in this burst
  bool paused = false;               // deliver() left something: until resume()
  std::uint8_t aside = 0;            // publishes of it that wait for room, at most 255
  std::uint16_t window = 1;
  std::uint16_t in_flight = 0;    // tickets below
  std::uint64_t first_ticket = 0; // 0: none
  std::uint32_t more_tickets = none;

  // Leased and offered, and not taken yet.
  bool has_pending = false;
  leased pending;

  std::uint32_t volatile_first = none, volatile_last = none; // QoS 0 messages that wait
  std::uint32_t volatile_count = 0;
};

} // namespace chainring
