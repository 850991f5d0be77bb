// SPDX-License-Identifier: BSD-3-Clause
// Its ordering labels are described in rule_board.h.
#include "access/rule_board.h"

#include <algorithm>

namespace chainring::access {

rule_board::rule_board(unsigned workers) : workers_(workers) {}

void rule_board::publish(std::shared_ptr<const rule_set> set) {
  const std::lock_guard guard(lock_);
  const std::uint32_t number = entries_.empty() ? 1 : entries_.back()->number + 1;
  entries_.push_back(std::make_unique<const entry>(entry{std::move(set), number}));
  // [rules-published] Without it a worker could find the rule set and not what it holds.
  newest_.store(entries_.back().get(), std::memory_order_release);
  std::uint32_t oldest = number;
  for (const worker_state& w : workers_)
    // [rules-reclaimed] Without it rules could be freed before a worker has last read them.
    oldest = std::min(oldest, w.uses.load(std::memory_order_acquire));
  std::erase_if(entries_, [oldest](const auto& e) { return e->number < oldest; });
}

rule_board::rules rule_board::adopt(unsigned worker) noexcept {
  // [rules-adopted] Without it the worker could read rules from before they were stored.
  const entry* e = newest_.load(std::memory_order_acquire);
  if (e == nullptr) return {};
  // Until this store the board keeps the entry, because its number is above the worker's.
  // [rules-left] Without it rules could be freed while this worker's last reads are under way.
  workers_[worker].uses.store(e->number, std::memory_order_release);
  return {e->set.get(), e->number};
}

std::size_t rule_board::kept() const {
  const std::lock_guard guard(lock_);
  return entries_.size();
}

std::shared_ptr<const rule_set> rule_board::newest() const {
  const std::lock_guard guard(lock_);
  return entries_.empty() ? nullptr : entries_.back()->set;
}

} // namespace chainring::access
