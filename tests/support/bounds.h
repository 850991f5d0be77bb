// SPDX-License-Identifier: BSD-3-Clause
/// How much the crash suites explore, by the environment variable CHAINRING_BOUNDS:
///
///     gate    (or nothing) bounds in which a suite still finds every seeded bug and every call
///             that is left out
///     large   what .ci/soak takes
///     quick   a few states of the first life, while a scenario is written
#pragma once
#include <cstdlib>
#include <string_view>

#include "support/explorer.h"

namespace chainring::test {

[[nodiscard]] inline explorer_options bounds(const explorer_options& gate,
                                             const explorer_options& large) {
  const char* text = std::getenv("CHAINRING_BOUNDS");
  const std::string_view wanted = text == nullptr ? "gate" : text;
  if (wanted == "large") return large;
  explorer_options o = gate;
  if (wanted == "quick") {
    o.depth = 1;
    o.states_max = 8;
    o.deaths = 0;
  }
  return o;
}

} // namespace chainring::test
