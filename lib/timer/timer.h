// SPDX-License-Identifier: BSD-3-Clause
/// Timeouts on `rte_timer`: preallocated, cancelled by handles, never early.
///
/// A `timer_set` belongs to one lcore, which arms, cancels and expires its timers. Deadlines are
/// TSC values (rte_rdtsc()). Timers fire in the order of their deadlines, whatever happened between
/// two reads of the clock. A timer never fires before its deadline, so one with the deadline
/// UINT64_MAX never fires. A handle names one arming, so a handle kept too long cancels nothing. A
/// deadline kept on media is wall-clock time: see remaining_ns().
///
/// It needs EAL and rte_timer_subsystem_init(). No call allocates after create(), which reserves
/// addresses; memory is used only for as many timers as were ever armed at one time. Callbacks may
/// arm and cancel timers. The cost is that of rte_timer, so rearm a timer when it fires rather than
/// for each packet.
///
///     auto timers = timer_set::create(1024);
///     timer_handle h = (*timers)->arm(rte_rdtsc() + hz, on_expiry, self, 7);
///     (*timers)->cancel(h);     // false if it has fired, was cancelled or was never armed
///     (*timers)->manage();      // in the polling loop
#pragma once
#include <cstdint>
#include <memory>

#include "../base/error.h"

namespace chainring {

/// Names one arming of one timer. A default-constructed handle names none.
struct timer_handle {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  friend bool operator==(const timer_handle&, const timer_handle&) = default;
};

class timer_set {
 public:
  using callback = void (*)(void* context, std::uint64_t argument) noexcept;

  /// Makes a set with room for `timers_max` armed timers (1 to 2^31). Fails if EAL is not
  /// initialised.
  [[nodiscard]] static result<std::unique_ptr<timer_set>> create(std::uint32_t timers_max);
  /// Cancels all armed timers. Runs on the lcore that armed them, or after that lcore has stopped.
  ~timer_set();
  timer_set(const timer_set&) = delete;
  timer_set& operator=(const timer_set&) = delete;

  /// Arms a timer: manage() calls function(context, argument) once the TSC has reached
  /// `deadline_tsc`. Returns a default-constructed handle if no timer is free.
  [[nodiscard]] timer_handle arm(std::uint64_t deadline_tsc, callback function, void* context,
                                 std::uint64_t argument) noexcept;
  /// Returns true if the timer was armed, so that it will not fire. A stale handle cancels nothing.
  bool cancel(timer_handle handle) noexcept;
  [[nodiscard]] bool pending(timer_handle handle) const noexcept;
  /// Fires all timers that are due. Returns how many fired.
  std::uint32_t manage() noexcept;
  [[nodiscard]] std::uint32_t armed() const noexcept;

 private:
  struct state;
  explicit timer_set(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

/// The time left until a wall-clock deadline that was read from media at open, in ns; 0 if it has
/// passed. Ask once and then count by the TSC, so that no later step of the wall clock makes the
/// timer fire early. If the clock stands before `stored_ns`, the time at which the deadline was
/// stored, then the clock was set back, and the whole time is given again.
[[nodiscard]] std::uint64_t remaining_ns(std::uint64_t deadline_wall_ns, std::uint64_t stored_ns,
                                         std::uint64_t now_wall_ns) noexcept;

} // namespace chainring
