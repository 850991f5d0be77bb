// SPDX-License-Identifier: BSD-3-Clause
/// A broker on a medium, whatever front end serves it.
#pragma once
#include <memory>
#include <string>

#include "broker/broker.h"
#include "region/region.h"

namespace chainring::testing_core {

/// A broker on a medium that is there already. The region is created on it where `fresh` is true.
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

/// The smallest tables a broker can have, so that few states are to be explored.
inline store_layout tiny_layout() {
  store_layout l;
  l.sessions_max = 8;
  l.subscriptions_max = 16;
  l.messages_max = 64;
  l.groups_max = 1;
  l.retained_max = 1;
  return l;
}

/// Tables that a worker makes at each open become as small as the tests need. With the defaults of
/// the product most of an open would be spent on memory for 65,536 deliveries.
inline void limit_tables(broker_config& c) {
  c.in_flight_max = 256;
  c.identifiers_max = 256;
  c.group_leases_max = 256;
  c.wills_changing_max = 64;
  c.retained_scans_max = 32;
}

/// An identity that begins with `start` and whose sessions worker `home` serves.
inline std::string identity_at(const broker& b, unsigned home, const std::string& start) {
  for (int i = 0;; ++i) {
    const std::string identity = start + std::to_string(i);
    if (b.home_of(identity) == home) return identity;
  }
}

/// A broker opened in a crash scenario: with the region in order as recovery leaves it, and without
/// a note of damage. Null, and `why`, where it is not.
inline std::unique_ptr<broker> broker_in_order(std::unique_ptr<media> on,
                                               const broker_config& config, bool fresh,
                                               const store_layout& layout, std::string& why,
                                               bool examine = true) {
  auto made = broker_on(std::move(on), config, fresh, layout);
  if (!made) {
    why = made.error().message;
    return nullptr;
  }
  if (!(*made)->opened().notes.empty()) {
    why = "damage: " + (*made)->opened().notes.front();
    return nullptr;
  }
  if (!examine) return std::move(*made);
  // What `chainring-region check` says of a region that recovery has been through: nothing.
  auto wrong = broker::check((*made)->region());
  if (!wrong || !wrong->empty()) {
    why = "check: " + (wrong ? wrong->front() : wrong.error().message);
    return nullptr;
  }
  return std::move(*made);
}

} // namespace chainring::testing_core
