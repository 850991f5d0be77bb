// SPDX-License-Identifier: BSD-3-Clause
#include "timer/timer.h"

#include <algorithm>
#include <rte_cycles.h>
#include <rte_lcore.h>
#include <rte_timer.h>
#include <vector>

#include "base/assert.h"

namespace chainring {

struct timer_set::state {
  struct entry {
    rte_timer timer;
    callback function = nullptr;
    void* context = nullptr;
    std::uint64_t argument = 0;
    std::uint64_t deadline = 0;
    std::uint32_t generation = 1; // of the next arming, or of this one
    bool armed = false;
    state* owner = nullptr;
  };
  std::unique_ptr<entry[]> entries;
  std::uint32_t count = 0;
  std::vector<std::uint32_t> free;
  struct due_timer {
    std::uint64_t deadline;
    timer_handle handle;
  };
  std::vector<due_timer> due; // found by manage(), not yet called

  void give_back(entry& e) noexcept {
    e.armed = false;
    if (++e.generation == 0) e.generation = 1; // 0 names none
    free.push_back(static_cast<std::uint32_t>(&e - entries.get()));
  }
  static void expire(rte_timer*, void* argument) {
    entry& e = *static_cast<entry*>(argument);
    state& all = *e.owner;
    all.due.push_back(
        {e.deadline, {static_cast<std::uint32_t>(&e - all.entries.get()), e.generation}});
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
  s->entries = std::make_unique<state::entry[]>(timers_max);
  s->count = timers_max;
  s->free.reserve(timers_max);
  s->due.reserve(timers_max);
  for (std::uint32_t i = timers_max; i-- > 0;) {
    rte_timer_init(&s->entries[i].timer);
    s->entries[i].owner = s.get();
    s->free.push_back(i);
  }
  return std::unique_ptr<timer_set>(new timer_set(std::move(s)));
}

timer_set::~timer_set() {
  for (std::uint32_t i = 0; i < state_->count; ++i)
    if (state_->entries[i].armed) rte_timer_stop_sync(&state_->entries[i].timer);
}

timer_handle timer_set::arm(std::uint64_t deadline_tsc, callback function, void* context,
                            std::uint64_t argument) noexcept {
  if (state_->free.empty()) return {};
  const std::uint32_t i = state_->free.back();
  state_->free.pop_back();
  state::entry& e = state_->entries[i];
  e.function = function;
  e.context = context;
  e.argument = argument;
  e.deadline = deadline_tsc;
  e.armed = true;
  // rte_timer adds to a time it reads itself, after this one: never early.
  const std::uint64_t now = rte_get_timer_cycles();
  const std::uint64_t ticks = deadline_tsc > now ? deadline_tsc - now : 0;
  const int set = rte_timer_reset(&e.timer, ticks, SINGLE, rte_lcore_id(), state::expire, &e);
  CHAINRING_ASSERT(set == 0);
  return {i, e.generation};
}

bool timer_set::pending(timer_handle h) const noexcept {
  return h.generation != 0 && h.index < state_->count &&
         state_->entries[h.index].generation == h.generation && state_->entries[h.index].armed;
}

bool timer_set::cancel(timer_handle h) noexcept {
  if (!pending(h)) return false;
  state::entry& e = state_->entries[h.index];
  rte_timer_stop_sync(&e.timer);
  state_->give_back(e);
  return true;
}

std::uint32_t timer_set::manage() noexcept {
  rte_timer_manage();
  if (state_->due.empty()) return 0;
  // rte_timer's own times differ from the deadlines by the cycles between two reads of the clock.
  std::ranges::sort(state_->due, {}, &state::due_timer::deadline);
  std::uint32_t fired = 0;
  for (std::size_t i = 0; i < state_->due.size(); ++i) {
    const timer_handle h = state_->due[i].handle;
    if (!pending(h)) continue; // cancelled by one before it
    state::entry& e = state_->entries[h.index];
    const callback function = e.function;
    void* const context = e.context;
    const std::uint64_t argument = e.argument;
    state_->give_back(e); // its handle is stale before the callback can see it
    ++fired;
    function(context, argument);
  }
  state_->due.clear();
  return fired;
}

std::uint32_t timer_set::armed() const noexcept {
  return static_cast<std::uint32_t>(state_->count - state_->free.size());
}

std::uint64_t remaining_ns(std::uint64_t deadline_wall_ns, std::uint64_t stored_ns,
                           std::uint64_t now_wall_ns) noexcept {
  const std::uint64_t from = now_wall_ns < stored_ns ? stored_ns : now_wall_ns;
  return deadline_wall_ns > from ? deadline_wall_ns - from : 0;
}

} // namespace chainring
