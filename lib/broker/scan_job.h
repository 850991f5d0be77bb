// SPDX-License-Identifier: BSD-3-Clause
/// What scan.cc knows of a subscription. Internal to the broker.
#pragma once
#include <cstdint>
#include <string>

#include "broker/front_end.h"

namespace chainring {

/// A subscription that is given the retained messages of its topics, some in each burst.
struct scan_job {
  std::string filter;
  front_end* by = nullptr; // who waits for the settlement, or nullptr
  std::uint64_t token = 0;
  std::uint32_t session = no_session, incarnation = 0;
  std::uint32_t options = 0;
  std::uint64_t version = 0;   // of the index of filters, behind the subscription
  std::uint32_t cursor = 0;    // the entry to look at next
  std::uint32_t step_from = 0; // the cursor before this burst
  std::uint32_t placed = 0;    // messages placed in this burst
  bool exact = false;          // the filter has no wildcard
  bool done = false;           // every entry was looked at
  bool stalled = false;        // it waits for room in the session's queue
  bool refused = false;        // the queue has refused the places of this burst
};

} // namespace chainring
