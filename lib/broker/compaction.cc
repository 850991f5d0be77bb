// SPDX-License-Identifier: BSD-3-Clause
// Moving messages together while workers run: broker::compact() has a compactor only while there is
// something to move, so that its reserve is not missed otherwise.
#include <mutex>

#include "broker/common_state.h"

namespace chainring {

result<compaction> broker::compact(compaction_budget budget) {
  common_state& s = *common_;
  if (s.opened_region->failed()) return compaction::idle;
  if (s.compactor == nullptr) {
    auto made = message_compactor::create(s.state->messages());
    if (!made) return made.error();
    s.compactor = std::move(*made);
  }
  const compaction now = s.compactor->step(budget);
  const std::lock_guard guard(s.compacted_lock);
  s.compacted_now = s.compactor->statistics();
  if (now == compaction::idle) {
    s.compactor.reset();
    s.compacted = s.compacted + s.compacted_now;
    s.compacted_now = {};
  }
  return now;
}

compactor_statistics broker::compaction_statistics() const noexcept {
  const std::lock_guard guard(common_->compacted_lock);
  return common_->compacted + common_->compacted_now;
}

} // namespace chainring
