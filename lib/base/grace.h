// SPDX-License-Identifier: BSD-3-Clause
/// Inside the library: how long what was taken away may still be in somebody's hands.
///
/// A call that looks at things which others may take away is *inside* meanwhile: a store when it
/// goes in, a store when it comes out, no locked instruction and no fence. What was taken away is
/// stamped; whoever reclaims begins a new epoch, makes every running thread pass a fence
/// (uneven_fence.h), and asks later, without waiting, whether everybody who was inside then has
/// come out. It is what rte_rcu_qsbr does, with the reader's fence moved to the reclaimer and
/// without threads having to report.
///
// clang-format off
///   edge                                                        breaks without it
///   [G1] inside: epoch stored, then things read, with [G2]      a thing is reused under a thread
///        between; reclaimer: thing taken away, then [G4] reads  that has just gone in
///        who is inside, with [G3] between
///   [G5] out: release -> [G4] acquire                           a thing is reused before its last
///                                                               reader's reads
///   [G6] epoch moved on behind what was taken away, acq_rel     who has seen the epoch, and not
///        -> [G7] read, acquire                                  what was taken away, counts as out
///   [G8] fence made known, release -> [G9] acquire              a stamp counts as fenced too soon
// clang-format on
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
  /// False: no memory.
  [[nodiscard]] bool make() noexcept { return threads_.make(max_thread_slots); }

  /// Not nested.
  std::atomic<std::uint64_t>& enter() noexcept {
    std::atomic<std::uint64_t>& mine = threads_[my_slot()].inside;
    // [G1] before things are read, by [G2]; pairs with [G4]. Release, so that [G5] stays seen.
    mine.store(epoch_.load(std::memory_order_acquire), std::memory_order_release); // [G1] [G7]
    fence_.often(); // [G2] pairs with [G3]
    return mine;
  }
  static void leave(std::atomic<std::uint64_t>& mine) noexcept {
    mine.store(0, std::memory_order_release); // [G5] pairs with [G4]
  }

  /// For what has been taken away, by stores that came before.
  [[nodiscard]] std::uint64_t stamp() noexcept {
    // [G6] acq_rel: pairs with [G7]: who goes in with a later epoch sees what was taken away.
    return epoch_.fetch_add(1, std::memory_order_acq_rel); // [G6]
  }
  /// Begins a grace period for every stamp so far. A system call.
  void begin() noexcept {
    const std::uint64_t now =
        epoch_.fetch_add(1, std::memory_order_acq_rel) + 1;        // [G6] behind every stamp so far
    fence_.rarely();                                               // [G3] pairs with [G2]
    std::uint64_t known = fenced_.load(std::memory_order_relaxed); // [G9] the exchange decides
    while (known < now && !fenced_.compare_exchange_weak(known, now, std::memory_order_release,
                                                         std::memory_order_relaxed)) { // [G8] [G9]
    }
  }
  [[nodiscard]] bool begun(std::uint64_t stamp) const noexcept {
    return fenced_.load(std::memory_order_acquire) > stamp; // [G9] pairs with [G8]
  }
  /// Nobody is inside any more who was when the stamp's grace period began.
  [[nodiscard]] bool over(std::uint64_t stamp) const noexcept {
    if (seeded_bug("grace.not_kept")) return true;
    if (!begun(stamp)) return false;
    for (unsigned i = 0; i < slots_in_use(); ++i) {
      const std::uint64_t in = threads_[i].inside.load(std::memory_order_acquire); // [G4] with [G1]
      if (in != 0 && in <= stamp) return false;
    }
    return true;
  }

 private:
  struct alignas(cacheline_size) thread {
    std::atomic<std::uint64_t> inside; ///< the epoch it went in with; 0: out
  };
  lazy_array<thread> threads_;
  std::atomic<std::uint64_t> epoch_{1};
  std::atomic<std::uint64_t> fenced_{0};
  uneven_fence fence_;
};

/// Inside while in scope, where `on`.
class inside {
 public:
  explicit inside(grace_periods& g, bool on = true) noexcept : mine_(on ? &g.enter() : nullptr) {}
  ~inside() {
    if (mine_ != nullptr) grace_periods::leave(*mine_);
  }
  inside(const inside&) = delete;
  inside& operator=(const inside&) = delete;

 private:
  std::atomic<std::uint64_t>* mine_;
};

} // namespace chainring::detail
