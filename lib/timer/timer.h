// SPDX-License-Identifier: BSD-3-Clause
/// Timeouts on `rte_timer`: preallocated, cancelled by handles that cannot be stale, never early.
///
/// A `timer_set` belongs to one lcore, which arms, cancels and expires its timers. Deadlines are
/// TSC values (rte_rdtsc()); expiry is in deadline order, whatever happened between two reads of
/// the clock; a timer never fires before its deadline, and one at the end of time never does. A
/// deadline kept on media is wall clock: see remaining_ns().
///
/// Needs EAL and rte_timer_subsystem_init(). No allocation after create(), which reserves
/// addresses: memory is that of the most timers that were ever armed at one time. Callbacks may arm
/// and cancel. Cost: as rte_timer; arm again when a timer fires rather than at each packet.
///
///     auto timers = timer_set::create(1024);
///     timer_handle h = (*timers)->arm(rte_rdtsc() + hz, on_expiry, self, 7);
///     (*timers)->cancel(h);     // false once it has fired, been cancelled, or was never armed
///     (*timers)->manage();      // in the loop
#pragma once
#include <cstdint>
#include <memory>

#include "../base/error.h"

namespace chainring {

/// Names one arming of one timer. A default one names none.
struct timer_handle {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  friend bool operator==(const timer_handle&, const timer_handle&) = default;
};

class timer_set {
 public:
  using callback = void (*)(void* context, std::uint64_t argument) noexcept;

  /// Room for `timers_max` armed timers (1 to 2^31). Refuses when EAL is not initialised.
  [[nodiscard]] static result<std::unique_ptr<timer_set>> create(std::uint32_t timers_max);
  /// Cancels what is armed. On the lcore that armed it, or when that lcore has stopped.
  ~timer_set();
  timer_set(const timer_set&) = delete;
  timer_set& operator=(const timer_set&) = delete;

  /// Calls function(context, argument) from manage(), once the TSC has reached `deadline_tsc`. A
  /// default handle: none is free.
  [[nodiscard]] timer_handle arm(std::uint64_t deadline_tsc, callback function, void* context,
                                 std::uint64_t argument) noexcept;
  /// True when it was armed, and will not fire. A stale handle cancels nothing.
  bool cancel(timer_handle handle) noexcept;
  [[nodiscard]] bool pending(timer_handle handle) const noexcept;
  /// Fires what is due. Returns how many fired.
  std::uint32_t manage() noexcept;
  [[nodiscard]] std::uint32_t armed() const noexcept;

 private:
  struct state;
  explicit timer_set(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

/// Time left until a wall-clock deadline read from media at open, ns: 0 when it has passed. Ask
/// once and count on by the TSC: then no later step of the clock makes it fire early. Where the
/// clock stands before `stored_ns`, the time at which the deadline was stored, it was set back, and
/// the whole time is given again.
[[nodiscard]] std::uint64_t remaining_ns(std::uint64_t deadline_wall_ns, std::uint64_t stored_ns,
                                         std::uint64_t now_wall_ns) noexcept;

} // namespace chainring
