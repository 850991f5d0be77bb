// SPDX-License-Identifier: BSD-3-Clause
// Shared subscriptions, as a worker serves them: sessions join and leave groups, and groups end.
// How their messages are delivered is in leases.cc.
//
// A membership is one subscription record. The group's record is stored and flushed with the first
// member's; both are in the first drain of that burst, and an open deletes a record that lacks the
// other. The last member's record is erased in one burst, and the group ends in the next one with
// the sessions that end there: first its record is drained, then its queue is emptied.
//
// A worker makes consumer calls of a group's queue only while it is the home of one of its members,
// and a member counts until the end of the burst in which it leaves. So no thread leases, releases
// or acknowledges while the queue of an ended group is restarted.
//
// Its ordering labels [group-set], [group-seen] and [turn-only] are described in groups.cc,
// [incarnation-read] and [home-read] in sessions.cc, and [release-before-reuse] in burst.cc.
//
// Ordering labels:
//   [group-record-stored]  A group's record is drained with the subscription record of each of its
//     members, before that subscription is settled.
//   [group-ended-before-restart]  The end of a group is drained before its queue is emptied and its
//     number is free.
//   [slot-acked]  A slot that was acknowledged out of order is drained before the burst ends.
#include <algorithm>

#include "base/hook.h"
#include "base/idle.h"
#include "broker/worker_state.h"
#include "ring/consumer.h"
#include "topic/topic.h"

namespace chainring {

// --- queues of sessions and of groups ---------------------------------------------------------

std::uint32_t broker_worker::state::seal_of(std::uint32_t subscriber) const noexcept {
  return common.groups.is_group(subscriber)
             ? group_seal | common.groups.group_of_subscriber(subscriber)
             : subscriber;
}
std::uint32_t broker_worker::state::incarnation_of(std::uint32_t subscriber) noexcept {
  // [incarnation-read] [group-seen]
  return common.groups.is_group(subscriber)
             ? common.groups.at(queue_of(subscriber)).incarnation.load(std::memory_order_acquire)
             : at(subscriber).incarnation.load(std::memory_order_acquire); // [incarnation-read]
}

// Wakes members of a group, one for each of `n` entries that have become available.
void broker_worker::state::wake_members(std::uint32_t group, std::uint32_t n) noexcept {
  for (; n > 0; --n) {
    const std::uint32_t member = common.groups.take_waiting(group);
    if (member == group_directory::none) return;
    wake(member);
  }
}

// Chooses the member of a group that gets a QoS 0 message. Returns false when none is connected.
bool broker_worker::state::choose_member(std::uint32_t group, volatile_target& out) noexcept {
  const std::uint32_t place = common.groups.choose_present(group, common.sessions.data());
  if (place == group_directory::none) return false;
  const group_member& m = common.groups.member(place);
  const std::uint64_t who = m.who.load(std::memory_order_acquire); // [group-seen]
  if ((who & group_member::active) == 0) return false;
  out.session = static_cast<std::uint32_t>(who);
  out.incarnation = incarnation_of(out.session);
  out.bits = static_cast<std::uint8_t>(slot_delivery{0, false, group_member::bits_of(who)}.pack());
  // A session leaves its groups before its incarnation changes.
  return m.who.load(std::memory_order_acquire) == who; // [group-seen]
}

// --- joining and leaving ----------------------------------------------------------------------

// Returns the session's place in the group of that identity, plus one; 0 means none.
std::uint32_t broker_worker::state::place_in_group(const session& s,
                                                   std::string_view identity) noexcept {
  for (std::uint32_t p = s.first_place; p != 0; p = common.groups.member(p - 1).next_plus_1)
    if (durable.groups().identity(common.groups.group_of(p - 1)) == identity) return p;
  return 0;
}

// Applies a request about a shared subscription. Call it before the burst's flushes.
void broker_worker::state::apply_shared(staged_subscription& p, std::string_view filter,
                                        durable_map::batch& batch) noexcept {
  // What an earlier request of this burst changes counts from the end of the burst on, so a second
  // one for the same subscription waits for the next burst.
  for (const staged_subscription* q = subscriptions.data(); q != &p; ++q)
    if (q->by != nullptr && q->session == p.session && q->incarnation == p.incarnation &&
        (q->deferred || q->result == outcome::accepted) &&
        filter == std::string_view(filter_text.data() + q->filter_at, q->filter_size)) {
      p.deferred = true;
      return;
    }
  session& s = at(p.session);
  const auto parts = split_shared_filter(filter);
  const std::uint32_t place = parts ? place_in_group(s, parts->both) : 0;
  if (p.remove) {
    p.result = place != 0 ? outcome::accepted : outcome::not_found;
    // A membership that an open found no place for has a record all the same.
    if (parts) store::erase_subscription(batch, p.session, p.incarnation, filter);
    if (place != 0) leave_group(s, p.session, place - 1);
    return;
  }
  if (!parts) {
    p.result = outcome::too_long; // it is refused finally
    return;
  }
  p.result = outcome::congestion;
  p.place = place;
  if (place == 0 && !join_group(p, s, parts->both)) return;
  p.applied = store::put_subscription(batch, p.session, p.incarnation, filter, p.options,
                                      p.identifier) == map_status::done;
  if (p.applied) p.result = outcome::accepted;
  // Another worker may have stored the record, and need not have drained it yet.
  group_records.push_back(common.groups.group_of(p.place - 1)); // [group-record-stored]
}

// Takes a place in a group that the session is not a member of. Returns false when it gets none.
bool broker_worker::state::join_group(staged_subscription& p, session& s,
                                      std::string_view identity) noexcept {
  const std::uint32_t memberships = s.membership_count() + s.joining;
  if (common.filters->count_of(p.session) + memberships >= config.subscriptions_per_session_max)
    return false;
  if (memberships >= config.group_memberships_per_session_max) {
    ++count.group_memberships_refused;
    return false;
  }
  const identity_key key = common.key_of(identity);
  using enum group_directory::joined::status;
  const group_directory::joined got = common.groups.join(key, identity);
  switch (got.how) {
  case wait:
    p.deferred = true;
    return false;
  case no_group:
    ++count.groups_refused;
    return false;
  case no_place:
    ++count.group_members_refused;
    return false;
  case made: {
    const std::uint32_t g = common.groups.group_of(got.place);
    // [group-record-stored] Crash between: the group has no member, and an open deletes it.
    const bool stored = durable.groups().create_start(g, identity, 0, {});
    common.groups.made(g, key, stored);
    if (!stored) {
      ++count.groups_refused;
      return false;
    }
    ++count.groups_made;
    break;
  }
  case joined:
    break;
  }
  p.place = got.place + 1;
  p.joins = true;
  ++s.joining;
  return true;
}

// Settles a shared subscription behind the burst's drain.
void broker_worker::state::finish_shared(staged_subscription& p) noexcept {
  if (p.place == 0) return;
  if (p.applied) {
    const auto listed = common.groups.activate(p.place - 1, p.session, p.options);
    if (!filter_index::accepted(listed))
      p.result = listed == filter_index::status::full ? outcome::congestion : outcome::too_long;
  }
  session& s = at(p.session);
  if (p.joins) --s.joining;
  if (p.result != outcome::accepted) {
    if (p.joins) return free_place(p.place - 1);
    // Nothing has changed for a member, unless the place was not active and its record is erased.
    if (p.applied) leave_group(s, p.session, p.place - 1);
    return;
  }
  if (p.joins) {
    common.groups.link(p.place - 1, s);
    add_own_member(common.groups.group_of(p.place - 1));
  }
  make_ready(s, p.session); // messages may wait for it
}

void broker_worker::state::add_own_member(std::uint32_t group) noexcept {
  if (own_members[group]++ == 0) own_groups.push_back(group);
}

// Takes a member out of its group. What it has and did not acknowledge goes to the others.
void broker_worker::state::leave_group(session& s, std::uint32_t n, std::uint32_t place) noexcept {
  common.groups.deactivate(place);
  give_back_shared(s, n, common.groups.group_of(place), true);
  common.groups.unlink(place, s);
  // The place may have been woken for an entry that it did not take.
  wake_members(common.groups.group_of(place), 1);
  leaving.push_back(place);
}

// Frees the places of members that left, at the end of the burst.
void broker_worker::state::finish_leaving() noexcept {
  for (const std::uint32_t place : leaving) {
    const std::uint32_t g = common.groups.group_of(place);
    if (--own_members[g] == 0) {
      std::erase(own_groups, g);
      std::erase(group_dirty, g);
      group_is_dirty[g] = false;
    }
    free_place(place);
  }
  leaving.clear();
}

void broker_worker::state::free_place(std::uint32_t place) noexcept {
  const std::uint32_t g = common.groups.group_of(place);
  if (common.groups.release(place))
    group_endings.push_back({g, durable.groups().incarnation(g), {}, false});
}

// Stores the ends of groups without members. A drain follows, and then empty_group_queues().
void broker_worker::state::end_groups() noexcept {
  // [group-ended-before-restart] Without it a crash could bring the group back over a queue that
  // was used again. Crash between: the group has no member, and an open deletes it.
  for (group_ending& e : group_endings) {
    e.identity = common.key_of(durable.groups().identity(e.group));
    durable.groups().end_start(e.group, false, 0, {}); // [group-ended-before-restart]

    // Publishers that matched the group before its filter left the index have the old incarnation.
    common.groups.at(e.group).incarnation.store(durable.groups().incarnation(e.group),
                                                std::memory_order_release); // [group-set]
    cover(sizeof(session_record));
    durable.groups().flush_record(e.group); // [group-ended-before-restart]
  }
}

// Empties the queues of the groups that end, behind the drain of their records. Returns whether a
// drain must follow before free_groups().
bool broker_worker::state::empty_group_queues() noexcept {
  bool any = false;
  for (group_ending& e : group_endings) {
    idle_policy policy;
    restart_status restarted = durable.group_queues().restart_start(e.group, e.incarnation);
    for (; restarted == restart_status::busy;
         restarted = durable.group_queues().restart_start(e.group, e.incarnation))
      policy.idle(); // a publisher's placement is not finished
    e.restarted = restarted == restart_status::stored;
    if (!e.restarted) continue;
    cover(sizeof(queue_record));
    durable.group_queues().restart_flush(e.group); // [group-ended-before-restart]
    any = true;
  }
  return any;
}

void broker_worker::state::free_groups() noexcept {
  for (const group_ending& e : group_endings) {
    if (e.restarted) durable.group_queues().restart_finish(e.group);
    durable.groups().end_finish(e.group);
    common.groups.ended(e.group, e.identity);
    ++count.groups_ended;
  }
  group_endings.clear();
}

// --- the burst --------------------------------------------------------------------------------

// Stores the heads of the queues of groups. The burst's flushes and drain follow, and then
// finish_group_releases().
void broker_worker::state::start_group_releases() noexcept {
  for (const std::uint32_t g : group_dirty) {
    group_is_dirty[g] = false;
    if (durable.group_queues().release_start(g))
      group_releases.push_back(g);
    else if (queue_consumer(durable.group_queues()).releasable(g))
      group_retries.push_back(g); // another worker releases; what it leaves is for the next burst
  }
  group_dirty.clear();
}

void broker_worker::state::flush_groups() noexcept {
  for (const std::uint32_t g : group_records)
    durable.groups().flush_record(g); // [group-record-stored]
  group_records.clear();
  // [slot-acked] Without it a crash could bring the message back to another member. Crash between:
  // the message is delivered again.
  for (const acked_slot& a : acked_slots)
    if (!seeded_bug("groups.ack_unflushed"))
      queue_consumer(durable.group_queues()).flush_slot(a.group, a.ticket); // [slot-acked]
  acked_slots.clear();
  for (const std::uint32_t g : group_releases)
    durable.group_queues().release_flush(g); // [release-before-reuse]
}

void broker_worker::state::finish_group_releases() noexcept {
  for (const std::uint32_t g : group_releases)
    durable.group_queues().release_finish(g); // [release-before-reuse]
  group_releases.clear();
  for (const std::uint32_t g : group_retries)
    make_group_dirty(g);
  group_retries.clear();
}

} // namespace chainring
