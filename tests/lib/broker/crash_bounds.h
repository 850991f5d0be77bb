// SPDX-License-Identifier: BSD-3-Clause
/// How much the crash tests of the broker explore (support/bounds.h).
#pragma once
#include <string>

#include "support/bounds.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::testing_core {

/// A message missing or too much shows in few states. The gate takes a sample of them, and the
/// death of the process between a few stores of the burst and of recovery.
inline const test::explorer_options crash_gate{.states_max = 400,
                                               .sample = true,
                                               .second_lives = 1,
                                               .deaths = 12,
                                               .second_deaths = 2,
                                               .second_points = 20,
                                               .second_states_max = 12};

/// Every state of a point of the first life where there are at most 4,096, and fewer later.
inline const test::explorer_options crash_large{.states_max = 4096,
                                                .second_lives = 2,
                                                .deaths = 64,
                                                .second_deaths = 8,
                                                .second_states_max = 64};

/// The bounds that CHAINRING_BOUNDS asks for.
inline test::explorer_options crash_bounds() {
  return test::bounds(crash_gate, crash_large);
}

/// Expects that the scenario fails while that bug is switched on.
inline void expect_bug(const char* bug, const test::scenario& in,
                       test::explorer_options quick = crash_gate) {
  const test::seeded on(bug);
  quick.print = false;
  const auto r = test::explore(in, quick);
  test::expect_found(bug, !r.ok(), r.failure.substr(0, r.failure.find('\n')));
}

} // namespace chainring::testing_core
