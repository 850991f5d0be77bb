// SPDX-License-Identifier: BSD-3-Clause
/// Where workers find the access rules that are in force.
///
/// publish() hands out a new rule set. Each worker takes it over by adopt(), which it calls once a
/// round, and between two calls uses the rules without a lock or an atomic access. A rule set that
/// was replaced stays valid until every worker has adopted a later one; a later publish() then
/// frees it. So two rule sets are kept as long as all workers run.
///
///     rule_board board(workers);
///     board.publish(std::move(rules));           // the control path, any thread
///     rules = board.adopt(worker);               // a worker, once a round
///     if (rules.set != nullptr && !rules.set->judge(who).connect().allowed) ...
///
/// Ordering labels:
///   [rules-published]  publish() stores the newest rule set with release; pairs with
///     [rules-adopted].
///   [rules-adopted]  adopt() loads the newest rule set with acquire; pairs with
///     [rules-published].
///   [rules-left]  adopt() stores the number of the rule set that the worker uses from now on with
///     release, after its last use of the former one; pairs with [rules-reclaimed].
///   [rules-reclaimed]  publish() loads the number that each worker uses with acquire before it
///     frees older rule sets; pairs with [rules-left].
#pragma once
#include "../base/compiler.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "../base/cacheline.h"
#include "access.h"

namespace chainring::access {

class rule_board {
 public:
  /// A rule set with its number, which grows with every publish(). Number 0 means that no rule set
  /// was ever published.
  struct rules {
    const rule_set* set = nullptr;
    std::uint32_t number = 0;
  };

  explicit rule_board(unsigned workers);

  /// Any thread may call it. It allocates.
  void publish(std::shared_ptr<const rule_set> set);
  /// Returns the newest rules. The worker's thread calls it, and must not use afterwards what the
  /// call before returned.
  [[nodiscard]] rules adopt(unsigned worker) noexcept;
  /// How many rule sets are kept.
  [[nodiscard]] std::size_t kept() const;
  /// The newest rule set, or nullptr. Any thread may call it.
  [[nodiscard]] std::shared_ptr<const rule_set> newest() const;

 private:
  struct entry {
    std::shared_ptr<const rule_set> set;
    std::uint32_t number;
  };
  struct alignas(cacheline_size) worker_state {
    std::atomic<std::uint32_t> uses{0}; // the number of the rule set that the worker uses
  };
  mutable std::mutex lock_;                           // for publish() only, never taken by adopt()
  std::vector<std::unique_ptr<const entry>> entries_; // oldest first
  std::atomic<const entry*> newest_{nullptr};
  std::vector<worker_state> workers_;
};

} // namespace chainring::access
