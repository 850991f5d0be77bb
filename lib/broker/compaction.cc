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
    s.compacted.cycles += s.compacted_now.cycles;
    s.compacted.moved += s.compacted_now.moved;
    s.compacted.moved_blocks += s.compacted_now.moved_blocks;
    s.compacted.joined += s.compacted_now.joined;
    s.compacted.no_room += s.compacted_now.no_room;
    s.compacted.pinned += s.compacted_now.pinned;
    s.compacted.unsound += s.compacted_now.unsound;
    s.compacted.gave_way += s.compacted_now.gave_way;
    s.compacted_now = {};
  }
  return now;
}

compactor_statistics broker::compaction_statistics() const noexcept {
  const std::lock_guard guard(common_->compacted_lock);
  const compactor_statistics& a = common_->compacted;
  const compactor_statistics& b = common_->compacted_now;
  return {a.cycles + b.cycles,   a.moved + b.moved,       a.moved_blocks + b.moved_blocks,
          a.joined + b.joined,   a.no_room + b.no_room,   a.pinned + b.pinned,
          a.unsound + b.unsound, a.gave_way + b.gave_way, b.reserve};
}

} // namespace chainring
