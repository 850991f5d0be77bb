// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/broker: a message that a member of a group has leased.
#pragma once
#include <cstdint>

#include "ring/ring.h"

namespace chainring {

/// A message that a member got from its group and has not acknowledged yet. Numbers of leases and
/// sessions in it are stored plus one, and 0 means none.
struct group_lease {
  std::uint32_t session_plus_1;
  std::uint32_t place;
  leased entry;
  std::uint64_t since_tsc;
  std::uint64_t deadline_tsc; // UINT64_MAX: never
  std::uint32_t next, before; // in the session's list; `next` also in the list of free leases
  std::uint32_t older, newer; // in the worker's list of leases that have a deadline
  std::uint32_t generation;   // counts the uses of this element
  std::uint16_t id;
  bool again; // the front end took the message and gave it back
  enum class phase_type : std::uint8_t {
    pending, // to be offered to the front end
    sent,
    skipped, // the connection can never carry it
    moving,  // to the session's own queue, with the next burst
  } phase;
};

} // namespace chainring
