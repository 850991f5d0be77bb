// SPDX-License-Identifier: BSD-3-Clause
// Sessions: how they begin and how they end.
//
// A session is one record. The record's commit word is the one commit of an open, of a clean start
// and of a deletion.
//
// Ordering labels:
//   [home-set]  The home stores a session's state with release, behind its home; pairs with
//     [home-read].
//   [home-read]  Any thread loads a session's state with acquire before it uses the home; pairs
//     with [home-set]. The home itself loads the state of its own sessions in any order.
//   [incarnation-set]  The home stores a session's incarnation with release, after the
//     session's filters have left the index; pairs with [incarnation-read].
//   [incarnation-read]  A match loads the incarnation of each session with acquire before it
//     reads the version of the index again; pairs with [incarnation-set].
//   [shown-only]  These values are shown to operators; the access orders nothing.
//   [bytes-asked]  Other workers store the sizes of the messages that need room; the home takes
//     the values and looks at the queue itself, so the access orders nothing.
//   [record-stored]  A new record is drained with its burst before the open is settled.
//   [ended-before-restart]  The new incarnation is drained before the queue is emptied, the
//     subscription records are erased, and the messages of open identifiers lose their references.
//   [ended-before-reuse]  The end of a session is drained before its identity gets another
//     record.
#include <algorithm>
#include <mutex>

#include "base/assert.h"
#include "base/hook.h"
#include "base/idle.h"
#include "broker/worker_state.h"
#include "topic/topic.h"

namespace chainring {

opened_session broker_worker::state::open(front_end& by, std::string_view identity,
                                          const session_options& options,
                                          std::uint64_t token) noexcept {
  ++count.opens;
  if (identity.empty() || identity.size() > identity_size_max ||
      common.home_of(identity) != number) {
    ++count.opens_refused;
    return {open_status::refused};
  }
  const identity_key key = common.key_of(identity);
  const std::uint8_t flags = options.ends_with_connection ? session_flag_clean : 0;
  std::uint32_t n = none;
  bool present = false;
  staged_will change;      // the new will, if there is one
  bool copied = false;     // `change` holds a message, which a refusal gives up
  bool sends_will = false; // the will of the former connection is sent
  const auto refuse = [&](open_status why, statistic& counter) {
    if (copied) durable.messages().discard(change.content);
    ++counter;
    return opened_session{why};
  };
  if (options.will != nullptr) {
    const outcome result = copy_will(none, *options.will, will_part::all, change);
    if (result == outcome::too_long) return refuse(open_status::refused, count.opens_refused);
    if (result != outcome::accepted) return refuse(open_status::congestion, count.opens_refused);
    copied = true;
  }
  if (const auto known = common.identities->get(key)) {
    n = *known;
    session& s = at(n);
    if (durable.sessions().identity(n) != identity) { // two identities have the same hashes
      return refuse(open_status::congestion, count.opens_refused);
    }
    const bool active =
        s.state.load(std::memory_order_relaxed) == connection::active; // [home-read]

    // A session that ends with its connection must end before the next one of its identity begins,
    // and so must one that has expired and that check_sessions() has not come to yet.
    const bool over = !active && !s.ends_with_connection && expired(s, n);
    if (over) {
      ++count.expired;
      notify_observer(broker_event::kind::expired, n);
    }
    const bool ends = options.clean_start || s.ends_with_connection || over;
    const session_settings before = durable.sessions().settings(n);
    const bool lost = active ? !options.same_connection && (ends || before.will_delay_s == 0)
                             : s.will_due && ends && !s.will_graced;
    sends_will = (lost || (s.will_due && s.will_certain)) && will_unsent(before.will);
    const bool keeps = options.keep_will && options.will == nullptr && !ends && before.will != 0;
    const bool held = durable.messages().held(slot_ref(before.will).message());
    if (keeps && (sends_will || !held)) {
      const outcome result = copy_will_again(n, change);
      if (result == outcome::congestion)
        return refuse(open_status::congestion, count.opens_refused);
      copied = result == outcome::accepted; // else the will is damaged
    }
    if (!move_to_source(s, options.source))
      return refuse(open_status::congestion, count.opens_refused_source);
    if (active) {
      ++count.taken_over;
      front_end* before = s.server;
      detach(s, n);
      before->closed(n, close_reason::taken_over);
      notify_observer(broker_event::kind::taken_over, n);
    }
    // The record names the former will until that has been sent, or until the new one is held.
    session_settings settings{.expiry_s = options.expiry_s};
    if (sends_will || keeps || (options.will != nullptr && !ends)) {
      settings.will = before.will;
      settings.will_delay_s = before.will_delay_s;
      if (keeps) settings.will &= ~(std::uint64_t{will_flag_resting} << 48);
    }
    if (ends) {
      if (settings.will != 0) {
        durable.sessions().pass_settings(n, settings);
        ++count.drains;
      }
      begin_ending(s, n, true, flags, settings);
    } else {
      present = true;
      durable.queues().rewind(n);
      const bool other_flags = options.ends_with_connection != s.ends_with_connection;
      // [record-stored] Crash between: the session has its former flags, and the client was not
      // answered.
      if (other_flags) {
        durable.sessions().flags_start(n, flags);
        make_record_dirty(s, n);
      }
      change_settings(s, n, settings);
    }
  } else {
    if (common.draining.load(std::memory_order_relaxed)) // [run-time-setting]
      return refuse(open_status::congestion, count.opens_refused);
    if (!enter_source(options.source))
      return refuse(open_status::congestion, count.opens_refused_source);
    n = create(identity, key, options);
    if (n == none) {
      leave_source(options.source);
      return refuse(open_status::congestion, count.opens_refused);
    }
    at(n).source = options.source;
  }
  session& s = at(n);
  // A will that was tried before is not given more time because its client has connected again.
  const std::uint64_t until_tsc = s.will_due && s.will_certain ? s.will_until_tsc : 0;
  forget_due_will(s);
  s.ends_after_will = false;
  s.asleep.store(false, std::memory_order_relaxed); // [turn-only]
  if (sends_will) {
    make_will_due(s, n, 0, true);
    s.will_until_tsc = until_tsc;
  }
  s.server = &by;
  s.ends_with_connection = options.ends_with_connection;
  s.window = std::max<std::uint16_t>(options.window, 1);
  s.paused = false;
  s.has_pending = false;
  s.resting = false;
  clear_in_flight(s);
  drop_volatile(s, true);
  s.home.store(static_cast<std::uint8_t>(number),
               std::memory_order_relaxed);                               // [home-set]
  s.keep_alive_s.store(options.keep_alive_s, std::memory_order_relaxed); // [shown-only]
  *s.address.lock_write() = options.address;
  s.incarnation.store(durable.sessions().incarnation(n),
                      std::memory_order_release); // [incarnation-set]
  // [home-set] Without it another lcore could see the session as active and hand its messages to
  // the home of an earlier session.
  s.state.store(connection::active, std::memory_order_release);
  // A will that is due is sent before the record names another one, or none.
  if (copied || sends_will)
    change_will(s, change, n, &by, token);
  else
    answer_with(&by, token, outcome::accepted);
  notify_observer(broker_event::kind::opened, n);
  make_ready(s, n);
  return {open_status::opening, n, present};
}

// Counts one more session of that source. Returns false when the source has as many as it may.
bool broker_worker::state::enter_source(std::uint64_t source) noexcept {
  if (common.sources == nullptr || source == 0) return true;
  return common.sources->alter(source, [&](std::optional<std::uint32_t>& sessions) {
    if (sessions && *sessions >= config.sessions_per_source_max) return map_status::mismatch;
    sessions = sessions.value_or(0) + 1;
    return map_status::done;
  }) == map_status::done;
}

void broker_worker::state::leave_source(std::uint64_t source) noexcept {
  if (common.sources != nullptr && source != 0) common.sources->decrement(source);
}

// Counts a session to that source in the place of its former one. Returns false, and changes
// nothing, when the source has as many sessions as it may.
bool broker_worker::state::move_to_source(session& s, std::uint64_t source) noexcept {
  if (s.source == source) return true;
  if (!enter_source(source)) return false;
  leave_source(s.source);
  s.source = source;
  return true;
}

// Makes a record for an identity that has none.
std::uint32_t broker_worker::state::create(std::string_view identity, const identity_key& key,
                                           const session_options& options) noexcept {
  // [ended-before-reuse] Crash between: two records would have the same identity.
  if (std::ranges::any_of(endings, [&](const ending& e) { return !e.keep && e.identity == key; }))
    finish_endings();
  std::uint32_t n = none;
  if (own_sessions == common.sessions_per_worker) return none;
  {
    const std::lock_guard guard(common.free_lock);
    if (common.free_sessions.empty()) return none;
    n = common.free_sessions.back();
    common.free_sessions.pop_back();
  }
  const std::uint8_t flags = options.ends_with_connection ? session_flag_clean : 0;
  // The identity is inserted first, because erasing it again costs nothing, whereas the blocks of a
  // long identity are free again only after a drain. No worker but this one, the home of the
  // identity, looks it up.
  bool made = common.identities->insert(key, n) == map_status::done;
  if (made && !durable.sessions().create_start(n, identity, flags,
                                               {.expiry_s = options.expiry_s})) { // [record-stored]
    common.identities->erase(key);
    made = false;
  }
  if (!made) {
    const std::lock_guard guard(common.free_lock);
    common.free_sessions.push_back(n);
    return none;
  }
  ++own_sessions;
  make_record_dirty(at(n), n);
  return n;
}

void broker_worker::state::make_record_dirty(session& s, std::uint32_t n) noexcept {
  if (s.record_dirty) return;
  s.record_dirty = true;
  records.push_back(n);
}

// Changes the settings of a session with this burst. A will that they name no more loses its
// reference after the drain.
void broker_worker::state::change_settings(session& s, std::uint32_t n,
                                           const session_settings& settings) noexcept {
  const session_settings before = durable.sessions().settings(n);
  if (before == settings) return;
  forget_will(before.will, settings.will);
  durable.sessions().settings_start(n, settings); // [record-stored]
  make_record_dirty(s, n);
}

void broker_worker::state::forget_will(std::uint64_t before, std::uint64_t now) noexcept {
  const message_ref former = slot_ref(before).message();
  if (before == 0 || (now != 0 && slot_ref(now).message() == former)) return;
  former_wills.push_back(former.index);
}

// Notes until when a client sleeps, so that an open after a crash counts its session as connected
// until then.
void broker_worker::state::sleep(std::uint32_t n, std::uint32_t duration_s,
                                 std::uint64_t token) noexcept {
  session& s = at(n);
  if (!own(n)) return;
  s.asleep.store(true, std::memory_order_relaxed); // [turn-only]
  detach_shared(s, n, true);
  session_settings settings = durable.sessions().settings(n);
  if (settings.will != 0 || settings.expiry_s != 0 ||
      common.session_expiry_s.load(std::memory_order_relaxed) != 0) { // [run-time-setting]
    settings.disconnected_ns = store::now_ns() + std::uint64_t{duration_s} * 1'000'000'000;
    change_settings(s, n, settings);
  }
  answer_with(s.server, token, outcome::accepted);
}

void broker_worker::state::close(std::uint32_t n, end_reason reason, std::uint64_t token) noexcept {
  session& s = at(n);
  if (!own(n)) return;
  ++count.closes;
  notify_observer(
      reason == end_reason::lost ? broker_event::kind::lost : broker_event::kind::closed, n);
  front_end* by = s.server;
  detach(s, n);
  disconnected(s, n, reason);
  answer_with(by, token, outcome::accepted);
}

void broker_worker::state::set_expiry(std::uint32_t n, std::uint32_t expiry_s,
                                      bool ends_with_connection) noexcept {
  session& s = at(n);
  if (!own(n)) return;
  if (s.ends_with_connection != ends_with_connection) {
    s.ends_with_connection = ends_with_connection;
    // Crash between: the session expires as its connection asked for at first.
    durable.sessions().flags_start(n, ends_with_connection ? session_flag_clean
                                                           : 0); // [record-stored]
    make_record_dirty(s, n);
  }
  session_settings settings = durable.sessions().settings(n);
  settings.expiry_s = expiry_s;
  change_settings(s, n, settings);
}

void broker_worker::state::detach(session& s, std::uint32_t n) noexcept {
  cancel_will_changes(n);
  // [home-set]
  s.state.store(connection::disconnected, std::memory_order_release);
  *s.address.lock_write() = {};
  s.server = nullptr;
  s.has_pending = false;
  s.paused = false;
  s.asleep.store(false, std::memory_order_relaxed); // [turn-only]
  detach_shared(s, n, false);
  clear_in_flight(s);
  drop_volatile(s, true);
}

// Ends a session whose connection is over, or notes the time from which its expiry and its will's
// delay count. A session whose will is to be sent ends after that.
void broker_worker::state::disconnected(session& s, std::uint32_t n, end_reason reason) noexcept {
  session_settings settings = durable.sessions().settings(n);
  // A will that is due already is the one of an earlier connection, which was lost.
  const bool unsent = !s.will_due && will_unsent(settings.will);
  const bool lost = reason == end_reason::lost;
  if (s.ends_with_connection) {
    if (lost && unsent) make_will_due(s, n, 0, true);
    if (!s.will_due) return begin_ending(s, n, false, 0, {});
    return end_after_will(s, n);
  }
  if (lost && unsent)
    make_will_due(s, n, settings.will_delay_s * tsc_hz, settings.will_delay_s == 0);
  if (!lost && unsent && !seeded_bug("broker.will_after_disconnect"))
    settings.will |= std::uint64_t{will_flag_resting} << 48;
  if (settings.expiry_s == 0 && !unsent &&
      common.session_expiry_s.load(std::memory_order_relaxed) == 0) // [run-time-setting]
    return;                                                         // the session never expires
  settings.disconnected_ns = store::now_ns();
  change_settings(s, n, settings);
}

// Ends a session because an operator asks for it or because it has expired.
void broker_worker::state::end_session(std::uint32_t n, broker_event::kind why) noexcept {
  session& s = at(n);
  notify_observer(why, n);
  if (s.state.load(std::memory_order_relaxed) == connection::active) { // [home-read]
    front_end* before = s.server;
    detach(s, n);
    before->closed(n, close_reason::kicked);
  }
  if (!will_unsent(durable.sessions().settings(n).will)) return begin_ending(s, n, false, 0, {});
  if (!s.will_due || !s.will_certain) make_will_due(s, n, 0, true);
  end_after_will(s, n);
}

// A session that is to end stays until its will has been sent. Its record says that the session
// ends and that the client is lost, so that an open after a crash sends the will at once and ends
// the session then. A client that connects meanwhile begins anew.
void broker_worker::state::end_after_will(session& s, std::uint32_t n) noexcept {
  s.ends_after_will = true;
  if (!s.ends_with_connection) {
    s.ends_with_connection = true;
    durable.sessions().flags_start(n, session_flag_clean); // [record-stored]
    make_record_dirty(s, n);
  }
  session_settings settings = durable.sessions().settings(n);
  settings.disconnected_ns = store::now_ns();
  settings.will_delay_s = 0;
  change_settings(s, n, settings);
}

// Begins to end an incarnation. Publishers stop matching the session before its incarnation
// changes. A publisher that matched it earlier carries the old incarnation, and its placement is
// refused.
void broker_worker::state::begin_ending(session& s, std::uint32_t n, bool keep, std::uint8_t flags,
                                        const session_settings& settings) noexcept {
  const auto first = static_cast<std::uint32_t>(ended_filters_used);
  common.filters->remove_all(n, [&](std::string_view filter) {
    if (ended_filters_used == ended_filters.size()) ended_filters.emplace_back();
    ended_filters[ended_filters_used++].assign(filter);
  });
  while (s.first_place != 0) {
    const std::uint32_t place = s.first_place - 1;
    if (ended_filters_used == ended_filters.size()) ended_filters.emplace_back();
    ended_filters[ended_filters_used++]
        .assign(shared_prefix)
        .append(durable.groups().identity(common.groups.group_of(place)));
    leave_group(s, n, place);
  }
  const identity_key key = common.key_of(durable.sessions().identity(n));
  if (s.endings < 2) ++s.endings;
  endings.push_back({n, durable.sessions().incarnation(n), first,
                     static_cast<std::uint32_t>(ended_filters_used) - first, keep, false, key,
                     std::exchange(s.identifiers, {})});
  if (!keep) cancel_will_changes(n);
  forget_will(durable.sessions().settings(n).will, keep ? settings.will : 0);
  durable.sessions().end_start(n, keep, flags, settings); // [ended-before-restart]
  make_record_dirty(s, n);
  clear_in_flight(s);
  s.has_pending = false;
  s.last_taken = 0;
  s.has_identifiers = false;
  s.aside = 0; // publishes of the old incarnation count no more
  s.scans = s.unsettled = s.scans_promised = 0;
  // [incarnation-set] Without it a publisher could match the old filters and take the new
  // incarnation.
  s.incarnation.store(durable.sessions().incarnation(n), std::memory_order_release);
  if (!keep) common.identities->erase(key);
}

// Finishes all incarnations that end in this burst with two drains: one for the records, then one
// for the queues.
void broker_worker::state::finish_endings() noexcept {
  if (endings.empty() && group_endings.empty()) return;
  publish_placed(); // the restart of a queue waits for what is placed in it
  undrained = direct.size() * cacheline_size; // their descriptors
  end_groups();
  for (const ending& e : endings) {
    cover(sizeof(session_record));
    durable.sessions().flush_record(e.session); // [ended-before-restart]
  }
  // [ended-before-restart] Crash between: queue and subscription records carry the old incarnation
  // and are void at the next open.
  drain(); // [ended-before-restart] [publish-before-ready]
  mark_lost_publishes();
  finish_direct(); // [publish-before-ready]
  hook_point("broker.session.ended");
  // The identifiers of an incarnation end with it. A message that is staged or set aside still
  // belongs to its publish. [ended-before-restart]
  for (ending& e : endings)
    identifiers.clear(e.identifiers, [&](const identifier_table::entry& i) {
      if (i.open) durable.messages().drop_reference(i.message.index);
    });
  queue_table& queues = durable.queues();
  undrained = 0;
  bool any = empty_group_queues();
  for (ending& e : endings) {
    idle_policy policy;
    restart_status restarted = queues.restart_start(e.session, e.incarnation);
    for (; restarted == restart_status::busy;
         restarted = queues.restart_start(e.session, e.incarnation))
      policy.idle(); // another worker's placement is not finished
    if (restarted != restart_status::stored) continue;
    cover(sizeof(queue_record));
    queues.restart_flush(e.session); // [ended-before-restart]
    any = true;
    // A session that ended twice in this burst must finish its first restart before the second.
    if (at(e.session).endings == 1) continue;
    drain(); // [ended-before-restart]
    undrained = 0;
    queues.restart_finish(e.session);
    e.finished = true;
  }
  if (any) drain(); // [ended-before-restart]
  free_groups();
  for (const ending& e : endings) {
    at(e.session).endings = 0;
    if (!e.finished) queues.restart_finish(e.session);
    (void)take_bytes_asked(at(e.session));
    if (e.keep) continue;
    durable.sessions().end_finish(e.session);
    free_number(at(e.session), e.session);
  }
  // The subscription records are erased with this burst: see apply_subscriptions().
  for (const ending& e : endings)
    for (std::uint32_t i = 0; i < e.names_count; ++i) {
      const std::string& filter = ended_filters[e.names_first + i];
      subscriptions.push_back({.by = nullptr,
                               .token = 0,
                               .session = e.session,
                               .incarnation = e.incarnation,
                               .filter_at = static_cast<std::uint32_t>(filter_text.size()),
                               .filter_size = static_cast<std::uint32_t>(filter.size()),
                               .options = 0,
                               .identifier = 0,
                               .remove = true,
                               .applied = false,
                               .scans = false,
                               .undone = false,
                               .result = outcome::accepted});
      filter_text.append(filter);
    }
  endings.clear();
  ended_filters_used = 0;
}

void broker_worker::state::free_number(session& s, std::uint32_t n) noexcept {
  CHAINRING_ASSERT(s.first_place == 0); // the next session of this number is in no group
  // [home-set]
  s.state.store(connection::none, std::memory_order_release);
  s.ends_with_connection = false;
  leave_source(s.source);
  s.source = 0;
  s.refused.store(0, std::memory_order_relaxed);    // [shown-only]
  s.over_bytes.store(0, std::memory_order_relaxed); // [shown-only]
  s.high_water.store(0, std::memory_order_relaxed); // [shown-only]
  (void)take_bytes_asked(s);
  s.oldest_published_ns.store(0, std::memory_order_relaxed); // [shown-only]
  s.published.clear();
  s.delivered.clear();
  s.dropped_qos0.clear();
  s.expired_messages.clear();
  // The number may be given to another worker's session at once, so no list may still hold it.
  if (s.ready) {
    std::erase(ready, n);
    const auto waiting = backlog.begin() + static_cast<std::ptrdiff_t>(backlog_from);
    backlog.erase(std::remove(waiting, backlog.end(), n), backlog.end());
  }
  if (s.dirty) std::erase(dirty, n);
  if (s.record_dirty) std::erase(records, n);
  s.ready = s.dirty = s.record_dirty = false;
  s.aside = 0;
  s.scans = s.unsettled = s.scans_promised = 0;
  if (s.will_listed) {
    std::erase(wills_now, n);
    std::erase(wills_later, n);
  }
  s.will_listed = s.ends_after_will = false;
  forget_due_will(s);
  --own_sessions;
  const std::lock_guard guard(common.free_lock);
  common.free_sessions.push_back(n);
}

// Returns true when a session without a connection has expired. A session that was connected when
// the process ended has no time of disconnection; its expiry counts from now on.
bool broker_worker::state::expired(session& s, std::uint32_t n) noexcept {
  session_settings settings = durable.sessions().settings(n);
  const std::uint64_t expiry_s =
      settings.expiry_s != 0
          ? settings.expiry_s
          : common.session_expiry_s.load(std::memory_order_relaxed); // [run-time-setting]
  if (expiry_s == 0) return false;
  const std::uint64_t now = store::now_ns();
  if (settings.disconnected_ns == 0) {
    settings.disconnected_ns = now;
    change_settings(s, n, settings);
    return false;
  }
  // A clock that was set back makes no session expire early.
  return now > settings.disconnected_ns &&
         now - settings.disconnected_ns >= expiry_s * 1'000'000'000;
}

} // namespace chainring
