// SPDX-License-Identifier: BSD-3-Clause
// Tables that grow while workers run: first on media (store_growth.cc), then what is kept in DRAM
// for each place, then the new numbers are given out.
#include <algorithm>
#include <mutex>
#include <new>

#include "broker/shared.h"

namespace chainring {

result<unsigned> broker::grow_tables(bool at_once) {
  shared& s = *shared_;
  store& state = *s.state;
  unsigned grown = 0;
  const std::uint32_t before = state.sessions_max();
  const std::size_t free = [&] {
    const std::lock_guard guard(s.free_lock);
    return s.free_sessions.size();
  }();
  if (at_once || free < (before + 7) / 8) {
    // Whoever counts the sessions from now on finds them whole.
    for (std::uint32_t n = before; n < std::min(2 * before, s.sessions_limit); ++n)
      new (&s.sessions[n]) session;
    auto more = state.grow_table(store::table::sessions);
    if (!more) return more.error();
    grown += *more != 0;
    // Their records are zero, and so is their incarnation. The lock is taken for each, because
    // workers wait for it.
    for (std::uint32_t n = before + *more; n-- > before;) {
      const std::lock_guard guard(s.free_lock);
      s.free_sessions.push_back(n);
    }
  }
  if (at_once || state.nearly_full(store::table::subscriptions)) {
    auto more = state.grow_table(store::table::subscriptions);
    if (!more) return more.error();
    grown += *more != 0;
    if (!s.filters->reserve(static_cast<std::uint32_t>(state.subscriptions_max())))
      return error{errc::no_space, "subscriptions: the index of filters cannot grow to " +
                                       std::to_string(state.subscriptions_max())};
  }
  if (at_once || state.nearly_full(store::table::messages)) {
    auto more = state.grow_table(store::table::messages);
    if (!more) return more.error();
    grown += *more != 0;
  }
  return grown;
}

} // namespace chainring
