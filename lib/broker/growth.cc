// SPDX-License-Identifier: BSD-3-Clause
// Growth of tables while workers run: a table first grows on media (store_growth.cc), then in DRAM,
// and then its new numbers are given out.
#include <algorithm>
#include <mutex>
#include <new>

#include "broker/common_state.h"

namespace chainring {

result<unsigned> broker::grow_tables(bool at_once) {
  common_state& s = *common_;
  store& state = *s.state;
  unsigned grown = 0;
  const std::uint32_t before = state.sessions_max();
  const std::size_t free = [&] {
    const std::lock_guard guard(s.free_lock);
    return s.free_sessions.size();
  }();
  if (at_once || free < (before + 7) / 8) {
    // A thread that sees the larger number of sessions must find them initialised.
    for (std::uint32_t n = before; n < std::min(2 * before, s.sessions_limit); ++n)
      new (&s.sessions[n]) session;
    auto more = state.grow_table(store::table::sessions);
    if (!more) return more.error();
    grown += *more != 0;
    // The records are zero, and so are their incarnations. The lock is taken once for each number,
    // because workers wait for it.
    for (std::uint32_t n = before + *more; n-- > before;) {
      const std::lock_guard guard(s.free_lock);
      s.free_sessions.push_back(n);
    }
  }
  const std::uint32_t groups_before = state.groups().count();
  if (at_once || s.groups.free_count() < (groups_before + 7) / 8) {
    auto more = state.grow_table(store::table::groups);
    if (!more) return more.error();
    grown += *more != 0;
    for (std::uint32_t g = groups_before + *more; g-- > groups_before;)
      s.groups.add_free(g);
  }
  if (at_once || state.nearly_full(store::table::subscriptions)) {
    auto more = state.grow_table(store::table::subscriptions);
    if (!more) return more.error();
    grown += *more != 0;
    if (!s.filters->reserve(static_cast<std::uint32_t>(state.subscriptions_max())))
      return error{errc::no_space, "the index of filters cannot grow to " +
                                       std::to_string(state.subscriptions_max()) +
                                       " subscriptions"};
  }
  if (at_once || state.nearly_full(store::table::messages)) {
    auto more = state.grow_table(store::table::messages);
    if (!more) return more.error();
    grown += *more != 0;
  }
  if (at_once || state.nearly_full(store::table::retained)) {
    auto more = state.grow_table(store::table::retained);
    if (!more) return more.error();
    grown += *more != 0;
    s.retained->reserve(static_cast<std::uint32_t>(state.retained().capacity()));
  }
  return grown;
}

} // namespace chainring
