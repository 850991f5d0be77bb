// SPDX-License-Identifier: BSD-3-Clause
//
// How deadlines keep their order. rte_timer_reset() adds ticks to a clock that it reads later than
// the caller computed them, so rte_timer's own expiry times lie behind the deadlines: a little, or
// by a lot if the thread lost its CPU in between. arm() therefore lets a timer expire a little
// before its deadline, and tries again with a larger lead if rte_timer's time still lies behind. So
// when manage() asks rte_timer at time t, every timer with a deadline up to t has expired. Expired
// timers wait in a heap ordered by deadline, and manage() calls those that are due by t in that
// order.
#include "timer/timer.h"

#include <algorithm>
#include <functional>
#include <rte_cycles.h>
#include <rte_lcore.h>
#include <rte_timer.h>
#include <span>

#include "base/assert.h"
#include "base/hook.h"
#include "base/lazy_array.h"

namespace chainring {

namespace {

// A timer with a deadline farther away expires after ticks_max and waits in the heap, because
// rte_timer's sum of ticks and clock must not wrap.
constexpr std::uint64_t ticks_max = std::uint64_t{1} << 61;
// cycles by which a timer expires before its deadline; more than a reset takes
constexpr std::uint64_t first_lead = 4096;

} // namespace

struct timer_set::state {
  struct entry { // all zero until its place is first taken
    rte_timer timer;
    callback function;
    void* context;
    std::uint64_t argument;
    std::uint64_t deadline;
    std::uint32_t generation; // of the current or the next arming; 0 if the place was never taken
    bool armed;
    state* owner;
  };
  detail::lazy_array<entry> entries;
  std::uint32_t count = 0;
  std::uint32_t taken = 0;                // places below this one were taken at least once
  detail::lazy_array<std::uint32_t> free; // a stack of free places
  std::uint32_t free_count = 0;
  struct due_timer {
    std::uint64_t deadline;
    timer_handle handle;
    bool operator>(const due_timer& other) const noexcept { return deadline > other.deadline; }
  };
  detail::lazy_array<due_timer> due; // a heap of the expired timers, the earliest deadline on top
  std::uint32_t due_count = 0;
  [[nodiscard]] std::span<due_timer> heap() const noexcept { return {due.data(), due_count}; }

  [[nodiscard]] bool is_armed(timer_handle h) const noexcept {
    return h.generation != 0 && h.index < taken && entries[h.index].generation == h.generation &&
           entries[h.index].armed;
  }
  entry* take() noexcept {
    if (free_count != 0) return &entries[free[--free_count]];
    if (taken == count) return nullptr;
    entry& e = entries[taken++];
    rte_timer_init(&e.timer);
    e.generation = 1;
    e.owner = this;
    return &e;
  }
  void give_back(entry& e) noexcept {
    e.armed = false;
    if (++e.generation == 0) e.generation = 1; // generation 0 names no arming
    free[free_count++] = static_cast<std::uint32_t>(&e - entries.data());
  }
  void expired(const entry& e) noexcept {
    if (due_count == count) { // timers were cancelled while they waited: remove them to make room
      const auto gone =
          std::ranges::remove_if(heap(), [&](const due_timer& d) { return !is_armed(d.handle); });
      due_count -= static_cast<std::uint32_t>(gone.size());
      std::ranges::make_heap(heap(), std::greater{});
    }
    due[due_count++] = {e.deadline,
                        {static_cast<std::uint32_t>(&e - entries.data()), e.generation}};
    std::ranges::push_heap(heap(), std::greater{});
  }
  static void expire(rte_timer*, void* argument) {
    const entry& e = *static_cast<entry*>(argument);
    e.owner->expired(e);
  }
};

timer_set::timer_set(std::unique_ptr<state> s) : state_(std::move(s)) {}

result<std::unique_ptr<timer_set>> timer_set::create(std::uint32_t timers_max) {
  if (timers_max == 0 || timers_max > 1u << 31)
    return error{errc::invalid_argument,
                 "timers " + std::to_string(timers_max) + ": expected 1 to 2^31"};
  const int ready = rte_timer_subsystem_init();
  if (ready != 0 && ready != -EALREADY)
    return error{errc::unsupported, "timers: they need rte_eal_init() first"};
  auto s = std::make_unique<state>();
  if (!s->entries.make(timers_max) || !s->free.make(timers_max) || !s->due.make(timers_max))
    return error{errc::no_space, "timers " + std::to_string(timers_max) +
                                     ": no addresses for them; ask for fewer, or raise the "
                                     "limit of addresses (ulimit -v)"};
  s->count = timers_max;
  return std::unique_ptr<timer_set>(new timer_set(std::move(s)));
}

timer_set::~timer_set() {
  for (std::uint32_t i = 0; i < state_->taken; ++i)
    if (state_->entries[i].armed) rte_timer_stop_sync(&state_->entries[i].timer);
}

timer_handle timer_set::arm(std::uint64_t deadline_tsc, callback function, void* context,
                            std::uint64_t argument) noexcept {
  state::entry* const taken = state_->take();
  if (taken == nullptr) return {};
  state::entry& e = *taken;
  e.function = function;
  e.context = context;
  e.argument = argument;
  e.deadline = deadline_tsc;
  e.armed = true;
  for (std::uint64_t lead = first_lead;; lead *= 2) {
    const std::uint64_t now = rte_get_timer_cycles();
    const std::uint64_t left = deadline_tsc > now ? deadline_tsc - now : 0;
    const std::uint64_t ticks = std::min(left > lead ? left - lead : 0, ticks_max);
    hook_point("timer.counted");
    const int set = rte_timer_reset(&e.timer, ticks, SINGLE, rte_lcore_id(), state::expire, &e);
    CHAINRING_EXPECTS(set == 0,
                      "a timer could not be armed; call rte_timer_subsystem_init() first, and arm "
                      "timers from the lcore that made them");
    // with 0 ticks the next manage() calls it
    if (ticks == 0 || e.timer.expire <= deadline_tsc) break;
  }
  return {static_cast<std::uint32_t>(&e - state_->entries.data()), e.generation};
}

bool timer_set::pending(timer_handle h) const noexcept {
  return state_->is_armed(h);
}

bool timer_set::cancel(timer_handle h) noexcept {
  if (!pending(h)) return false;
  state::entry& e = state_->entries[h.index];
  rte_timer_stop_sync(&e.timer);
  state_->give_back(e);
  return true;
}

std::uint32_t timer_set::manage() noexcept {
  state& all = *state_;
  const std::uint64_t now = rte_get_timer_cycles(); // read before rte_timer_manage() reads it
  rte_timer_manage();
  std::uint32_t fired = 0;
  while (all.due_count != 0 && all.due[0].deadline <= now) {
    const timer_handle h = all.due[0].handle;
    std::ranges::pop_heap(all.heap(), std::greater{});
    --all.due_count;
    if (!all.is_armed(h)) continue; // it was cancelled while it waited
    state::entry& e = all.entries[h.index];
    const callback function = e.function;
    void* const context = e.context;
    const std::uint64_t argument = e.argument;
    all.give_back(e); // so that the callback sees a stale handle
    ++fired;
    function(context, argument);
  }
  return fired;
}

std::uint32_t timer_set::armed() const noexcept {
  return state_->taken - state_->free_count;
}

std::uint64_t remaining_ns(std::uint64_t deadline_wall_ns, std::uint64_t stored_ns,
                           std::uint64_t now_wall_ns) noexcept {
  const std::uint64_t from = now_wall_ns < stored_ns ? stored_ns : now_wall_ns;
  return deadline_wall_ns > from ? deadline_wall_ns - from : 0;
}

} // namespace chainring
