// SPDX-License-Identifier: BSD-3-Clause
// The directory of groups: who is a member, who waits, and who is next.
//
// Ordering labels:
//   [group-seen]  Any thread loads the state, the incarnation and the places of a group with
//     acquire before it uses them; pairs with [group-set].
//   [group-set]  Under the lock the state and incarnation of a group are stored, and a place is
//     stored with release before the filter enters the index; pairs with [group-seen].
//   [member-waits]  A home sets `waiting`, then comes a full fence, and then it looks at the queue;
//     pairs with [member-woken].
//   [member-woken]  A worker makes an entry available, then comes a full fence, and then it looks
//     for members that wait; pairs with [member-waits]. So either it finds the member, or the
//     member finds the entry.
//   [turn-only]  Whose turn it is, and numbers that are shown; the access orders nothing.
#include "broker/groups.h"

#include <algorithm>
#include <mutex>

#include "base/assert.h"
#include "base/hook.h"
#include "base/keyed_hash.h"
#include "broker/broker_media.h"
#include "map/map_hash.h"

namespace chainring {

bool group_directory::make(session_table& records, filter_index& filters,
                           std::uint32_t first_number, std::uint32_t groups_limit,
                           std::uint32_t members_max) {
  records_ = &records;
  filters_ = &filters;
  first_number_ = first_number;
  limit_ = groups_limit;
  members_max_ = std::max(members_max, 1u);
  auto identities = seq_map<identity_key, std::uint32_t>::create(
      limit_, map_hash<identity_key>{random_seed()}, records.count());
  if (!identities || !groups_.make(limit_) || !members_.make(std::size_t{limit_} * members_max_))
    return false;
  identities_ = std::move(identities).value();
  free_.reserve(limit_);
  return true;
}

std::uint32_t group_directory::member_count() const noexcept {
  return taken_.load(std::memory_order_relaxed); // [turn-only]
}
std::uint32_t group_directory::group_count() const noexcept {
  return used_.load(std::memory_order_relaxed); // [turn-only]
}

void group_directory::add_free(std::uint32_t group) {
  const std::lock_guard guard(lock_);
  free_.push_back(group);
}

std::size_t group_directory::free_count() noexcept {
  const std::lock_guard guard(lock_);
  return free_.size();
}

bool group_directory::add_found(std::uint32_t group, const identity_key& key) {
  if (identities_->insert(key, group) != map_status::done) return false;
  groups_[group].incarnation.store(records_->incarnation(group),
                                   std::memory_order_relaxed);              // [group-set]
  groups_[group].state.store(group_state::used, std::memory_order_relaxed); // [group-set]
  used_.fetch_add(1, std::memory_order_relaxed);                            // [turn-only]
  return true;
}

// --- members
// --------------------------------------------------------------------------------------

group_directory::joined group_directory::join(const identity_key& key,
                                              std::string_view identity) noexcept {
  using enum joined::status;
  const std::lock_guard guard(lock_);
  std::uint32_t g = none;
  if (const auto known = identities_->get(key)) {
    g = *known;
    if (groups_[g].state.load(std::memory_order_relaxed) != group_state::used) // [group-seen]
      return {wait, none};
    if (records_->identity(g) != identity) return {no_group, none}; // the hashes of both are equal
  } else {
    if (free_.empty()) return {no_group, none};
    g = free_.back();
    if (identities_->insert(key, g) != map_status::done) return {no_group, none};
    free_.pop_back();
    groups_[g].state.store(group_state::making, std::memory_order_relaxed); // [group-set]
    used_.fetch_add(1, std::memory_order_relaxed);                          // [turn-only]
  }
  shared_group& group = groups_[g];
  const bool is_new =
      group.state.load(std::memory_order_relaxed) == group_state::making; // [group-seen]
  for (std::uint32_t i = 0; i < members_max_; ++i) {
    group_member& m = members_[g * members_max_ + i];
    if (m.who.load(std::memory_order_relaxed) != 0) continue;    // [group-seen]
    m.who.store(group_member::taken, std::memory_order_relaxed); // [group-set]
    if (group.places.load(std::memory_order_relaxed) <= i)       // [group-seen]
      group.places.store(i + 1, std::memory_order_release);      // [group-set]
    ++group.members;
    taken_.fetch_add(1, std::memory_order_relaxed); // [turn-only]
    return {is_new ? made : joined::status::joined, g * members_max_ + i};
  }
  return {no_place, none};
}

void group_directory::made(std::uint32_t group, const identity_key& key, bool stored) noexcept {
  const std::lock_guard guard(lock_);
  shared_group& g = groups_[group];
  g.incarnation.store(records_->incarnation(group), std::memory_order_relaxed); // [group-set]
  // [group-set] Without it a thread could see the group as used and take the incarnation of an
  // earlier group.
  if (stored) return g.state.store(group_state::used, std::memory_order_release); // [group-set]
  identities_->erase(key);
  members_[group * members_max_].who.store(0, std::memory_order_relaxed); // [group-set]
  g.members = 0;
  g.state.store(group_state::none, std::memory_order_relaxed); // [group-set]
  used_.fetch_sub(1, std::memory_order_relaxed);               // [turn-only]
  taken_.fetch_sub(1, std::memory_order_relaxed);              // [turn-only]
  free_.push_back(group);
}

void group_directory::link(std::uint32_t place, session& s) noexcept {
  group_member& m = members_[place];
  m.next_plus_1 = s.first_place;
  m.before_plus_1 = 0;
  m.from_tsc = 0;
  if (s.first_place != 0) members_[s.first_place - 1].before_plus_1 = place + 1;
  s.first_place = place + 1;
  s.memberships.fetch_add(1, std::memory_order_relaxed); // [shown-only]
}

void group_directory::unlink(std::uint32_t place, session& s) noexcept {
  const group_member& m = members_[place];
  (m.before_plus_1 != 0 ? members_[m.before_plus_1 - 1].next_plus_1 : s.first_place) =
      m.next_plus_1;
  if (m.next_plus_1 != 0) members_[m.next_plus_1 - 1].before_plus_1 = m.before_plus_1;
  if (s.next_place == place + 1) s.next_place = 0;
  s.memberships.fetch_sub(1, std::memory_order_relaxed); // [shown-only]
}

// Enters the group into the index with the highest QoS of its members, or takes it out.
filter_index::status group_directory::relist(std::uint32_t group) noexcept {
  const std::string_view identity = records_->identity(group);
  const std::string_view filter = identity.substr(identity.find('/') + 1);
  const std::uint32_t places =
      groups_[group].places.load(std::memory_order_relaxed); // [group-seen]
  bool any = false;
  std::uint8_t qos = 0;
  for (std::uint32_t i = 0; i < places; ++i) {
    const std::uint64_t who =
        members_[group * members_max_ + i].who.load(std::memory_order_relaxed); // [group-seen]
    if ((who & group_member::active) == 0) continue;
    any = true;
    qos = std::max(qos, group_member::qos_of(who));
  }
  if (any) return filters_->add(filter, first_number_ + group, qos);
  filters_->remove(filter, first_number_ + group);
  return filter_index::status::added;
}

filter_index::status group_directory::activate(std::uint32_t place, std::uint32_t session,
                                               std::uint32_t options) noexcept {
  const std::lock_guard guard(lock_);
  group_member& m = members_[place];
  const std::uint64_t before = m.who.load(std::memory_order_relaxed); // [group-seen]
  m.who.store(group_member::pack(session, subscription_option::qos_of(options),
                                 subscription_option::front_end_bits_of(options)),
              std::memory_order_release); // [group-set]
  const filter_index::status listed = relist(group_of(place));
  if (!filter_index::accepted(listed))
    m.who.store(before, std::memory_order_relaxed); // [group-set]
  return listed;
}

void group_directory::deactivate(std::uint32_t place) noexcept {
  const std::lock_guard guard(lock_);
  (void)stop_waiting(place);
  members_[place].who.store(group_member::taken, std::memory_order_relaxed); // [group-set]
  (void)relist(group_of(place)); // the filter is in the index already, so nothing is refused
}

bool group_directory::release(std::uint32_t place) noexcept {
  const std::lock_guard guard(lock_);
  const std::uint32_t g = group_of(place);
  members_[place].who.store(0, std::memory_order_relaxed); // [group-set]
  taken_.fetch_sub(1, std::memory_order_relaxed);          // [turn-only]
  if (--groups_[g].members != 0) return false;
  groups_[g].state.store(group_state::ending, std::memory_order_relaxed); // [group-set]
  return true;
}

void group_directory::ended(std::uint32_t group, const identity_key& key) noexcept {
  const std::lock_guard guard(lock_);
  shared_group& g = groups_[group];
  identities_->erase(key);
  g.places.store(0, std::memory_order_relaxed);                // [group-set]
  g.pressed_tsc.store(0, std::memory_order_relaxed);           // [turn-only]
  g.refused.store(0, std::memory_order_relaxed);               // [turn-only]
  g.high_water.store(0, std::memory_order_relaxed);            // [turn-only]
  g.state.store(group_state::none, std::memory_order_release); // [group-set]
  used_.fetch_sub(1, std::memory_order_relaxed);               // [turn-only]
  free_.push_back(group);
}

// --- waiting and choosing
// ---------------------------------------------------------------------------

void group_directory::wait(std::uint32_t place) noexcept {
  group_member& m = members_[place];
  if (m.waiting.exchange(true, std::memory_order_acq_rel)) return;          // [member-waits]
  groups_[group_of(place)].waiting.fetch_add(1, std::memory_order_relaxed); // [member-waits]
  // [member-waits] Without it the member could look at the queue before its flag is seen, and both
  // sides would miss each other.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  hook_point("groups.member.waits");
}

bool group_directory::stop_waiting(std::uint32_t place) noexcept {
  group_member& m = members_[place];
  if (!m.waiting.load(std::memory_order_relaxed) ||          // [member-waits]
      !m.waiting.exchange(false, std::memory_order_acq_rel)) // [member-waits]
    return false;
  groups_[group_of(place)].waiting.fetch_sub(1, std::memory_order_relaxed); // [member-waits]
  return true;
}

std::uint32_t group_directory::take_waiting(std::uint32_t group) noexcept {
  shared_group& g = groups_[group];
  // [member-woken] Without it this thread could look for members before its entry is seen.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (g.waiting.load(std::memory_order_relaxed) == 0) return none; // [member-woken]
  // [group-seen] Without it the search could end before a place that was taken and waits.
  const std::uint32_t places = g.places.load(std::memory_order_acquire); // [group-seen]
  const std::uint32_t from = g.next.load(std::memory_order_relaxed);     // [turn-only]
  for (std::uint32_t i = 0; i < places; ++i) {
    const std::uint32_t at = (from + i) % places;
    const std::uint32_t place = group * members_max_ + at;
    const std::uint64_t who = members_[place].who.load(std::memory_order_acquire); // [group-seen]
    if ((who & group_member::active) == 0 || !stop_waiting(place)) continue;
    g.next.store(at + 1, std::memory_order_relaxed); // [turn-only]
    return static_cast<std::uint32_t>(who);
  }
  return none;
}

std::uint32_t group_directory::choose_present(std::uint32_t group,
                                              const session* sessions) noexcept {
  shared_group& g = groups_[group];
  const std::uint32_t places = places_of(group);
  const std::uint32_t from = g.next.load(std::memory_order_relaxed); // [turn-only]
  std::uint32_t sleeper = none;
  for (std::uint32_t i = 0; i < places; ++i) {
    const std::uint32_t at = (from + i) % places;
    const std::uint32_t place = place_at(group, at);
    if (!is_present(place, sessions)) continue;
    if (!is_awake(place, sessions)) {
      if (sleeper == none) sleeper = place;
      continue;
    }
    g.next.store(at + 1, std::memory_order_relaxed); // [turn-only]
    return place;
  }
  return sleeper;
}

bool group_directory::is_present(std::uint32_t place, const session* sessions) const noexcept {
  const std::uint64_t who = members_[place].who.load(std::memory_order_acquire); // [group-seen]
  return (who & group_member::active) != 0 &&
         sessions[static_cast<std::uint32_t>(who)].state.load(std::memory_order_acquire) ==
             connection::active; // [group-seen]
}

bool group_directory::is_awake(std::uint32_t place, const session* sessions) const noexcept {
  const std::uint64_t who = members_[place].who.load(std::memory_order_acquire); // [group-seen]
  return is_present(place, sessions) && !sessions[static_cast<std::uint32_t>(who)].asleep.load(
                                            std::memory_order_relaxed); // [turn-only]
}

bool group_directory::another_is_awake(std::uint32_t group, std::uint32_t except,
                                       const session* sessions) const noexcept {
  for (std::uint32_t i = 0; i < places_of(group); ++i)
    if (place_at(group, i) != except && is_awake(place_at(group, i), sessions)) return true;
  return false;
}

std::uint32_t group_directory::active_count(std::uint32_t group) const noexcept {
  const std::uint32_t places =
      groups_[group].places.load(std::memory_order_acquire); // [group-seen]
  std::uint32_t n = 0;
  for (std::uint32_t i = 0; i < places; ++i)
    n += (members_[group * members_max_ + i].who.load(std::memory_order_relaxed) & // [group-seen]
          group_member::active) != 0;
  return n;
}

} // namespace chainring
