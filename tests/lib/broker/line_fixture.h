// SPDX-License-Identifier: BSD-3-Clause
/// A broker in memory that the line front end serves: no ports, no time, no packets.
#pragma once
#include <memory>
#include <string>

#include "region_fixture.h"
#include "support/line_front_end.h"

namespace chainring::testing_line {

using testing_core::broker_on;
using testing_core::identity_at;

inline broker_config line_config(unsigned workers, std::uint32_t queue_slots) {
  broker_config c;
  c.workers = workers;
  c.queue_slots = queue_slots;
  c.queue_slots_first = 0;
  c.topics_max = 64;
  c.volatile_messages_max = 64;
  testing_core::limit_tables(c);
  return c;
}

} // namespace chainring::testing_line
