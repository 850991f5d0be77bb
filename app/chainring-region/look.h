// SPDX-License-Identifier: BSD-3-Clause
/// The commands that look at what lies in a region, which another program may have open.
#pragma once
#include <cstddef>

#include "region/region.h"

namespace chainring::region_tool {

struct look_options {
  bool json = false;        ///< one JSON object a line instead of text
  bool counts = false;      ///< dump: objects and queues with counts only, without their entries
  std::size_t octets = 120; ///< most characters that are shown of an identity, a key or a content
};

/// Each prints what it finds and returns the exit status: 0, or 1 where it met damage.
int show_sessions(const region& r, const look_options& o);
int show_queues(const region& r, const look_options& o);
int dump(const region& r, const look_options& o);

} // namespace chainring::region_tool
