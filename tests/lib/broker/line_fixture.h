// SPDX-License-Identifier: BSD-3-Clause
/// A broker in memory that the line front end serves: no ports, no time, no packets.
#pragma once
#include <memory>
#include <string>

#include "broker/broker.h"
#include "region/region.h"
#include "support/line_front_end.h"

namespace chainring::testing_line {

/// A broker on a medium that is there already; the region is created where `fresh`.
inline result<std::unique_ptr<broker>> broker_on(std::unique_ptr<media> on,
                                                 const broker_config& config, bool fresh,
                                                 const store_layout& layout) {
  result<std::unique_ptr<region>> r = error{};
  if (fresh) {
    region_options o;
    o.block_size = 256;
    o.areas = broker::areas(layout, on->size(), o.block_size);
    r = region::create_on(std::move(on), o);
  } else {
    r = region::open_on(std::move(on), false);
  }
  if (!r) return r.error();
  return broker::open(std::move(*r), config);
}

inline broker_config line_config(unsigned workers, std::uint32_t queue_slots) {
  broker_config c;
  c.workers = workers;
  c.queue_slots = queue_slots;
  c.queue_slots_first = 0;
  c.topics_max = 64;
  c.volatile_messages_max = 64;
  c.in_flight_max = 256;
  return c;
}

/// An identity whose sessions that worker serves.
inline std::string identity_at(const broker& b, unsigned home, const std::string& start) {
  for (int i = 0;; ++i) {
    const std::string identity = start + std::to_string(i);
    if (b.home_of(identity) == home) return identity;
  }
}

} // namespace chainring::testing_line
