// SPDX-License-Identifier: BSD-3-Clause
#include "ring/guards.h"

namespace chainring {

void placement_guard::make_void() noexcept {
  if (placement_.count == 0) return;
  // Without the flush a crash behind the next drain could bring the entries back, because they may
  // have been flushed before. place.cc describes the order.
  table_->place_void(placement_, true);
  placement_ = {};
}

} // namespace chainring
