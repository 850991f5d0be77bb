// SPDX-License-Identifier: BSD-3-Clause
// Chains that wait until nobody can be reading them. The order of reader and reclaimer is that of
// base/grace.h.
#include <mutex>

#include "map/durable_map_state.h"

namespace chainring::detail {

bool map_graveyard::collect() noexcept {
  std::uint64_t newest;
  {
    const std::lock_guard guard(lock_);
    if (count_ == 0) return false;
    newest = ring_[(first_ + count_ - 1) % graves].stamp;
  }
  if (!periods_.begun(newest)) periods_.begin();
  const std::lock_guard guard(lock_);
  while (count_ != 0 && periods_.over(ring_[first_].stamp)) {
    blocks_waiting_ -= ring_[first_].what.blocks;
    blocks_.release_required(ring_[first_].what);
    first_ = (first_ + 1) % graves;
    --count_;
  }
  return true;
}

void map_graveyard::bury(chain c) noexcept {
  short_wait wait;
  for (;;) {
    bool collect_now = true, buried = false;
    {
      const std::lock_guard guard(lock_);
      if (count_ < graves) {
        // Stamped under the lock, so that the ring is in the order of the stamps.
        ring_[(first_ + count_++) % graves] = {c, periods_.stamp()};
        blocks_waiting_ += c.blocks;
        collect_now = count_ % enough == 0 || blocks_waiting_ >= too_much;
        buried = true;
      }
    }
    if (collect_now) collect();
    if (buried) return;
    wait.round(); // lookups and walks end soon
  }
}

} // namespace chainring::detail
