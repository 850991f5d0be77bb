// SPDX-License-Identifier: BSD-3-Clause
/// The newest of a thing that any thread may replace and one thread uses, such as what was read
/// from a file again. The user takes a lock only where there is a newer one.
///
///     latest<rules> newest;
///     newest.offer(std::make_shared<const rules>(...));   // any thread
///     const auto& now = newest.take();                    // the one thread that uses it
///
/// Ordering labels:
///   [latest-offered]  offer() stores the number of the newest thing with release, under the lock
///     under which the thing is; pairs with [latest-seen].
///   [latest-seen]  take() loads the number with acquire, and takes the lock where it is new; pairs
///     with [latest-offered].
#pragma once
#include "compiler.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace chainring {

template <class T> class latest {
 public:
  /// Any thread may call it.
  void offer(std::shared_ptr<const T> thing) {
    const std::lock_guard held(lock_);
    offered_ = std::move(thing);
    // [latest-offered] Without it the user could see the number before what it stands for.
    number_.fetch_add(1, std::memory_order_release);
  }
  /// Returns the newest thing, or nullptr when none was ever offered. It stays until the next call,
  /// or as long as a copy of the pointer does. The one thread that uses it calls it.
  [[nodiscard]] const std::shared_ptr<const T>& take() noexcept {
    // [latest-seen] Without it the number could be of a thing that is not there yet.
    const std::uint64_t newest = number_.load(std::memory_order_acquire);
    if (newest == taken_number_) return taken_;
    const std::lock_guard held(lock_);
    taken_ = offered_;
    taken_number_ = number_.load(std::memory_order_acquire); // [latest-seen]
    return taken_;
  }

 private:
  std::mutex lock_; // for offered_
  std::shared_ptr<const T> offered_;
  std::atomic<std::uint64_t> number_{0};
  std::shared_ptr<const T> taken_; // of the user, as is the number
  std::uint64_t taken_number_ = 0;
};

} // namespace chainring
