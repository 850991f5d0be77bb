// SPDX-License-Identifier: BSD-3-Clause
/// The chains of a region that no compactor moves: segments of tables, objects, rings, long keys
/// and values of maps, long identities. Internal to lib/inspect.
#pragma once
#include <cstdint>
#include <string>

#include "region/region.h"

namespace chainring::detail {

struct fixed_chains {
  std::uint64_t blocks = 0; ///< of all of them
  std::uint64_t end = 0;    ///< the block behind the last of them
  std::string last;         ///< what that one is: "a ring of queue 7"
};

/// Finds them in a region that was recovered and is quiet.
[[nodiscard]] fixed_chains find_fixed_chains(const region& in);

} // namespace chainring::detail
