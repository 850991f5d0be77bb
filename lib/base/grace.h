// SPDX-License-Identifier: BSD-3-Clause
/// Internal to the library: grace periods. They tell when no thread can still use what was
/// unlinked.
///
/// A call that looks at things which another thread may unlink is *inside* meanwhile. Going in
/// costs one store and coming out costs one store; neither needs a locked instruction or a fence. A
/// thread that unlinked something takes a stamp. The thread that reclaims begins a new epoch, makes
/// every running thread pass a fence (uneven_fence.h), and asks later, without waiting, whether all
/// threads that were inside then have come out. This is what rte_rcu_qsbr does, with the reader's
/// fence moved to the reclaimer, and without threads that must report.
///
/// A thread has a row of its own to say that it is inside. Threads beyond max_thread_slots take one
/// of some rows that they share, and as many are added as there are such threads inside at once.
///
/// Ordering labels:
///   [inside-announced]  A thread stores its epoch before it reads things, with the frequent side
///     of the uneven fence between; pairs with [inside-looked-up].
///   [inside-left]  A thread that comes out clears its epoch with release; pairs with
///     [inside-looked-up].
///   [inside-looked-up]  The reclaimer loads the epochs of all threads with acquire, behind the
///     rare side of the uneven fence and after the unlinking; pairs with [inside-announced] and
///     [inside-left].
///   [epoch-advanced]  The epoch is advanced behind the unlinking, with acquire and release; pairs
///     with [epoch-read].
///   [epoch-read]  A thread that goes in loads the epoch with acquire; pairs with [epoch-advanced].
///   [epoch-fenced]  begin() publishes, with release, the epoch that its fence covers; pairs with
///     [epoch-fenced-read].
///   [epoch-fenced-read]  begun() loads that epoch with acquire; pairs with [epoch-fenced].
///   [shared-rows-added]  A thread without a row of its own adds rows by an exchange with release,
///     after it has zeroed them; other threads, and the reclaimer behind its fence, load the
///     address with acquire; pairs with [shared-rows-added].
#pragma once
#include "compiler.h"

#include <atomic>
#include <cstdint>

#include "cacheline.h"
#include "hook.h"
#include "lazy_array.h"
#include "thread_slot.h"
#include "uneven_fence.h"

namespace chainring::detail {

class grace_periods {
 public:
  grace_periods() = default;
  grace_periods(const grace_periods&) = delete;
  grace_periods& operator=(const grace_periods&) = delete;
  ~grace_periods();
  /// Allocates the table of threads. Returns false if there is no memory.
  [[nodiscard]] bool make() noexcept { return threads_.make(max_thread_slots); }

  /// The thread goes in. Must not be called by a thread that is inside.
  std::atomic<std::uint64_t>& enter() noexcept {
    unsigned row = 0;
    if (!own_row(row)) [[unlikely]]
      return enter_shared_row();
    std::atomic<std::uint64_t>& mine = threads_[row].inside;
    // [inside-announced] Without it something could be reused under a thread that has just gone in.
    // The order is release so that the thread's last [inside-left] stays visible too.
    // [epoch-read] Without it a thread could see the new epoch and not what was unlinked before it.
    mine.store(epoch_.load(std::memory_order_acquire), std::memory_order_release);
    fence_.often();
    return mine;
  }
  /// True if the calling thread is inside, in a row of its own.
  [[nodiscard]] bool is_inside() const noexcept {
    unsigned row = 0;
    return own_row(row) &&
           threads_[row].inside.load(std::memory_order_relaxed) != 0; // [inside-announced]
  }
  static void leave(std::atomic<std::uint64_t>& mine) noexcept {
    // [inside-left] Without it something could be reused before its last reader has read it.
    mine.store(0, std::memory_order_release);
  }

  /// Returns the stamp for what this thread has unlinked by its stores so far.
  [[nodiscard]] std::uint64_t stamp() noexcept {
    // [epoch-advanced] Without it a thread with a later epoch could still reach what was unlinked.
    return epoch_.fetch_add(1, std::memory_order_acq_rel);
  }
  /// Begins a grace period for every stamp so far. Costs a system call.
  void begin() noexcept {
    // [epoch-advanced]
    const std::uint64_t now = epoch_.fetch_add(1, std::memory_order_acq_rel) + 1;
    fence_.rarely();
    std::uint64_t known = fenced_.load(std::memory_order_relaxed); // [epoch-fenced-read]
    // [epoch-fenced] Without it a stamp could count as covered before the fence was passed.
    while (known < now && !fenced_.compare_exchange_weak(known, now, std::memory_order_release,
                                                         // [epoch-fenced]
                                                         std::memory_order_relaxed)) {
    }
  }
  /// True once a grace period for the stamp has begun.
  [[nodiscard]] bool begun(std::uint64_t stamp) const noexcept {
    // [epoch-fenced-read] Without it this thread could look up epochs from before the fence.
    return fenced_.load(std::memory_order_acquire) > stamp;
  }
  /// True once no thread is inside any more that was inside when the grace period of the stamp
  /// began.
  [[nodiscard]] bool over(std::uint64_t stamp) const noexcept {
    if (seeded_bug("grace.not_kept")) return true;
    if (!begun(stamp)) return false;
    for (unsigned i = 0; i < slots_in_use(); ++i)
      if (holds(threads_[i], stamp)) return false;
    for (const shared_rows* s = shared_.load(std::memory_order_acquire); // [shared-rows-added]
         s != nullptr; s = s->next)
      for (const thread& row : s->rows)
        if (holds(row, stamp)) return false;
    return true;
  }

 private:
  struct alignas(cacheline_size) thread {
    /// the epoch that the thread went in with; 0 while it is outside
    std::atomic<std::uint64_t> inside;
  };
  /// Rows for any thread that has none. They are added and never taken away.
  struct shared_rows {
    shared_rows* next = nullptr;
    thread rows[15]{};
  };
  /// True while a thread is inside that was inside when the grace period of the stamp began.
  [[nodiscard]] static bool holds(const thread& row, std::uint64_t stamp) noexcept {
    // [inside-looked-up] Without it a reader that is inside, or its last reads, could be
    // overlooked.
    const std::uint64_t in = row.inside.load(std::memory_order_acquire);
    return in != 0 && in <= stamp;
  }
  [[gnu::noinline]] std::atomic<std::uint64_t>& enter_shared_row() noexcept;

  lazy_array<thread> threads_;
  std::atomic<shared_rows*> shared_{nullptr};
  std::atomic<std::uint64_t> epoch_{1};
  std::atomic<std::uint64_t> fenced_{0};
  uneven_fence fence_;
};

/// Keeps the calling thread inside as long as the object lives, if `wanted` is true.
class inside {
 public:
  explicit inside(grace_periods& g, bool wanted = true) noexcept
      : mine_(wanted ? &g.enter() : nullptr) {}
  ~inside() {
    if (mine_ != nullptr) grace_periods::leave(*mine_);
  }
  inside(const inside&) = delete;
  inside& operator=(const inside&) = delete;

 private:
  std::atomic<std::uint64_t>* mine_;
};

} // namespace chainring::detail
