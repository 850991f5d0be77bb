// SPDX-License-Identifier: BSD-3-Clause
// Chains that wait until no lookup can be reading them. base/grace.h orders readers and the thread
// that gives the chains back.
#include <mutex>

#include "map/durable_map_state.h"

namespace chainring::detail {

bool retired_chains::reclaim() noexcept {
  std::uint64_t newest;
  {
    const std::lock_guard guard(lock_);
    if (count_ == 0) return false;
    newest = ring_[(first_ + count_ - 1) % waiting_max].stamp;
  }
  if (!periods_.begun(newest)) periods_.begin();
  const std::lock_guard guard(lock_);
  while (count_ != 0 && periods_.over(ring_[first_].stamp)) {
    blocks_waiting_ -= ring_[first_].blocks.blocks;
    blocks_.release_required(ring_[first_].blocks);
    first_ = (first_ + 1) % waiting_max;
    --count_;
  }
  return true;
}

void retired_chains::add(chain c) noexcept {
  short_wait wait;
  for (;;) {
    bool reclaim_now = true, added = false;
    {
      const std::lock_guard guard(lock_);
      if (count_ < waiting_max) {
        // The stamp is taken under the lock, so that the chains lie in the order of their stamps.
        ring_[(first_ + count_++) % waiting_max] = {c, periods_.stamp()};
        blocks_waiting_ += c.blocks;
        reclaim_now = count_ % reclaim_chains == 0 || blocks_waiting_ >= reclaim_blocks;
        added = true;
      }
    }
    if (reclaim_now) reclaim();
    if (added) return;
    wait.round(); // the lookups and walks that hold chains end soon
  }
}

} // namespace chainring::detail
