// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/block: a pool of free descriptor numbers in DRAM, last in first out. Each thread
/// has a cache, which any other thread can take back (thread_cache.h).
///
/// Ordering labels:
///   [number-cache-owned]  A cache is used by its owner between enter() and leave(), by the holder
///     of the lock while the caches are revoked, and by its owner under the lock otherwise. The
///     access itself orders nothing: the labels of thread_cache.h order it.
///   [number-counts-shown]  Statistics, and the guess whether a revocation is worth its cost, read
///     the counts of other threads at any moment; the read orders nothing.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "../base/lazy_array.h"
#include "../base/spin_lock.h"
#include "thread_cache.h"

namespace chainring::detail {

class index_pool {
 public:
  static constexpr std::uint32_t cache_limit = 256;

  /// Allocates the pool for numbers below `count_max`. No number is free yet.
  [[nodiscard]] bool reserve(std::uint32_t count_max, std::uint32_t cache_max) noexcept {
    cache_max_ = cache_max;
    return free_.make(count_max, true) && caches_.make(max_thread_slots);
  }

  /// `next` gets the number that this thread will probably take next, or `index` itself.
  [[nodiscard, gnu::always_inline]] bool take(std::uint32_t& index, std::uint32_t& next) noexcept {
    unsigned row = 0;
    if (!own_row(row)) [[unlikely]] {
      const bool taken = take_behind_cache(nullptr, index);
      next = index;
      return taken;
    }
    cache& c = caches_[row];
    if (cache_max_ != 0 && open_.enter(c.busy)) {
      const std::uint32_t n = get(c.count);
      if (n != 0) {
        index = get(c.entries[n - 1]);
        next = get(c.entries[n < 2 ? 0 : n - 2]);
        set(c.count, n - 1);
      }
      open_.leave(c.busy);
      if (n != 0) return true;
    }
    const bool taken = take_behind_cache(&c, index);
    next = index;
    return taken;
  }

  [[gnu::always_inline]] void give(std::uint32_t index) noexcept {
    unsigned row = 0;
    if (!own_row(row)) [[unlikely]]
      return give_behind_cache(nullptr, index);
    cache& c = caches_[row];
    if (cache_max_ != 0 && open_.enter(c.busy)) {
      const std::uint32_t n = get(c.count);
      if (n < cache_max_) {
        set(c.entries[n], index);
        set(c.count, n + 1);
      }
      open_.leave(c.busy);
      if (n < cache_max_) return;
    }
    give_behind_cache(&c, index);
  }

  /// Empties the pool. Recovery then adds each number that nothing on media refers to. No other
  /// thread may use the pool meanwhile.
  void clear() noexcept {
    const std::lock_guard guard(lock_);
    for (unsigned slot = 0; slot < slots_in_use(); ++slot)
      set(caches_[slot].count, 0);
    free_count_ = 0;
  }
  /// Makes the numbers from `first` to `end` - 1 free; the lowest is taken first. All numbers below
  /// `first` must have been added before. Thread-safe.
  void add_range(std::uint32_t first, std::uint32_t end) noexcept {
    const std::lock_guard guard(lock_);
    for (std::uint32_t i = end; i > first; --i)
      free_[free_count_++] = i - 1;
    restore_free_ = std::max<std::uint64_t>(1, end / 8);
    restore_if_plenty();
  }
  /// As give(), but without the cache. No other thread may use the pool meanwhile.
  void add(std::uint32_t index) noexcept {
    free_[free_count_++] = index;
    restore_if_plenty();
  }

  struct counts {
    std::uint64_t free, cached;
  };
  [[nodiscard]] counts count() const noexcept {
    const std::lock_guard guard(lock_);
    const std::uint64_t cached = cached_count();
    return {free_count_ + cached, cached};
  }

 private:
  struct alignas(64) cache {
    std::atomic<std::uint32_t> busy;
    std::atomic<std::uint32_t> count;
    std::atomic<std::uint32_t> entries[cache_limit];
  };
  static std::uint32_t get(const std::atomic<std::uint32_t>& a) noexcept {
    return a.load(std::memory_order_relaxed); // [number-cache-owned] [number-counts-shown]
  }
  static void set(std::atomic<std::uint32_t>& a, std::uint32_t v) noexcept {
    a.store(v, std::memory_order_relaxed); // [number-cache-owned]
  }

  /// `mine` is the cache of this thread; null: it has none.
  [[gnu::noinline]] void give_behind_cache(cache* mine, std::uint32_t index) noexcept {
    const std::lock_guard guard(lock_);
    if (mine != nullptr && !open_.revoked()) flush(*mine, get(mine->count) / 2);
    free_[free_count_++] = index;
    restore_if_plenty();
  }

  [[nodiscard, gnu::noinline]] bool take_behind_cache(cache* mine, std::uint32_t& index) noexcept {
    const std::lock_guard guard(lock_);
    if (free_count_ == 0 && !open_.revoked() && cached_count() != 0) {
      open_.revoke();
      for (unsigned slot = 0, slots = slots_in_use(); slot < slots; ++slot) {
        revocable::wait_out(caches_[slot].busy);
        flush(caches_[slot], get(caches_[slot].count));
      }
      restore_if_plenty();
    }
    if (free_count_ == 0) return false;
    index = free_[--free_count_];
    // Refill the cache of this thread, with at most one sixteenth of what is free.
    if (mine != nullptr && !open_.revoked() && get(mine->count) == 0) {
      const std::uint64_t n = std::min<std::uint64_t>(cache_max_ / 2, free_count_ / 16);
      for (std::uint64_t i = n; i > 0; --i)
        set(mine->entries[i - 1], free_[--free_count_]);
      set(mine->count, static_cast<std::uint32_t>(n));
    }
    return true;
  }

  /// Moves the `n` oldest numbers of a cache back to the pool. The caller holds the lock.
  void flush(cache& c, std::uint32_t n) noexcept {
    const std::uint32_t count = get(c.count);
    for (std::uint32_t i = 0; i < n; ++i)
      free_[free_count_++] = get(c.entries[i]);
    for (std::uint32_t i = n; i < count; ++i)
      set(c.entries[i - n], get(c.entries[i]));
    set(c.count, count - n);
  }
  [[nodiscard]] std::uint64_t cached_count() const noexcept {
    std::uint64_t n = 0;
    for (unsigned slot = 0, slots = slots_in_use(); slot < slots; ++slot)
      n += get(caches_[slot].count);
    return n;
  }
  void restore_if_plenty() noexcept {
    if (open_.revoked() && free_count_ >= restore_free_) open_.restore();
  }

  revocable open_;
  lazy_array<cache> caches_;
  std::uint32_t cache_max_ = 0;
  std::uint64_t restore_free_ = 1;
  alignas(
      /// protects the members below, and the caches while they are revoked
      cacheline_size) mutable spin_lock lock_;
  lazy_array<std::uint32_t> free_;
  std::uint64_t free_count_ = 0;
};

} // namespace chainring::detail
