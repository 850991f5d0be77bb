// SPDX-License-Identifier: BSD-3-Clause
// Retained messages for new subscriptions.
//
// A subscription enters the index of filters, and then looks at the entries of the retained table,
// a bounded number in each burst. What it finds is placed in the session's queue with the burst, as
// a message that is published already: only the slot is flushed. At QoS 0 it is a copy in DRAM. The
// subscription is settled when all entries were looked at, or when there is no more room for now:
// retained messages take at most half of a queue, because a queue that they filled would refuse the
// messages of others. The rest follows as the session takes messages. Nothing is delivered to the
// session before the settlement. How far a subscription has come is kept in DRAM only, so after a
// restart the rest does not follow.
//
// Its ordering labels [incarnation-read] and [home-read] are described in sessions.cc.
//
// Ordering labels:
//   [indexed-before-scan]  A subscription enters the index of filters, makes a full fence and looks
//     at the entries; pairs with [claim-before-match].
#include <algorithm>

#include "base/hook.h"
#include "broker/worker_state.h"
#include "topic/topic.h"

namespace chainring {

namespace {
constexpr std::uint32_t entries_each_burst = 512; ///< that all scans of a worker look at

} // namespace

// Returns true when there may be retained messages for that filter. A shared subscription is given
// none.
bool broker_worker::state::needs_scan(std::string_view filter) noexcept {
  if (asks_to_share(filter)) return false;
  retained_table& table = *common.retained;
  return has_wildcard(filter) ? table.size() != 0 : table.find(filter) != retained_table::none;
}

// Returns true when the session must not begin one more scan, so that others find places. A scan
// that the new one replaces does not count.
bool broker_worker::state::has_its_share_of_scans(const session& s, std::uint32_t n,
                                                  std::string_view filter) noexcept {
  if (std::uint32_t{s.scans} + s.scans_promised < config.retained_scans_per_session_max)
    return false;
  return s.scans_promised != 0 || std::ranges::none_of(running_scans, [&](std::uint32_t job) {
           return scans[job].session == n && scans[job].filter == filter;
         });
}

// The session has taken a message, so there may be room for another retained one.
void broker_worker::state::let_scans_go_on(session& s) noexcept {
  if (s.scans == 0) return;
  scans_may_go_on = true;
  s.taken_tsc = now_tsc;
}

// Returns true when one more scan may begin. Where all places are taken, a session whose scans have
// no room, and that has taken nothing for a while, gives one up: of several such sessions the one
// with the most scans, and then the one that has taken nothing for longest.
bool broker_worker::state::may_scan(bool may_give_up) noexcept {
  if (free_scans.size() > scans_promised) return true;
  if (!may_give_up) return false;
  // A program without EAL does not know the frequency of its clock.
  const std::uint64_t hz = tsc_hz != 0 ? tsc_hz : 1'000'000'000;
  const std::uint64_t idle = config.retained_scan_idle_ms * hz / 1000;
  std::uint32_t found = none;
  for (const std::uint32_t job : running_scans) {
    if (!scans[job].stalled || scans[job].by != nullptr) continue;
    const session& s = at(scans[job].session);
    if (s.incarnation.load(std::memory_order_relaxed) != // [incarnation-read]
        scans[job].incarnation)
      continue; // it ends by itself, and the number may be another worker's
    if (now_tsc - s.taken_tsc < idle) continue;
    if (found != none) {
      const session& other = at(scans[found].session);
      if (s.scans < other.scans || (s.scans == other.scans && s.taken_tsc >= other.taken_tsc))
        continue;
    }
    found = job;
  }
  if (found == none) return false;
  ++count.retained_given_up;
  end_scan(found, outcome::accepted);
  return true;
}

// Begins a scan for a subscription that has entered the index. Returns false when there is nothing
// to give, so that the subscription is settled at once, or no place for a scan.
bool broker_worker::state::begin_scan(const staged_subscription& p,
                                      std::string_view filter) noexcept {
  retained_table& table = *common.retained;
  const bool exact = !has_wildcard(filter);
  const std::uint32_t first = exact ? table.find(filter) : 0;
  if (exact ? first == retained_table::none : table.size() == 0) return false;
  // subscribe() has found a place, unless the topic's first message has come since.
  if (at(p.session).scans >= config.retained_scans_per_session_max) return false;
  if (free_scans.empty() && !may_scan()) return false;
  const std::uint32_t job = free_scans.back();
  free_scans.pop_back();
  running_scans.push_back(job);
  scan_job& j = scans[job];
  j.filter.assign(filter);
  j.by = p.by;
  j.token = p.token;
  j.session = p.session;
  j.incarnation = p.incarnation;
  j.options = p.options;
  j.version = common.filters->version();
  j.cursor = j.step_from = first;
  j.placed = 0;
  j.exact = exact;
  j.done = j.stalled = j.refused = false;
  session& s = at(p.session);
  if (s.scans++ == 0) s.taken_tsc = now_tsc;
  ++s.unsettled;
  return true;
}

void broker_worker::state::answer_scan(scan_job& j, outcome o) noexcept {
  if (j.by == nullptr) return;
  answer_with(j.by, j.token, o);
  j.by = nullptr;
  session& s = at(j.session);
  // [incarnation-read]
  if (s.incarnation.load(std::memory_order_relaxed) != j.incarnation || s.unsettled == 0) return;
  --s.unsettled;
  make_ready(s, j.session);
}

void broker_worker::state::end_scan(std::uint32_t job, outcome o) noexcept {
  scan_job& j = scans[job];
  answer_scan(j, o);
  session& s = at(j.session);
  // [incarnation-read]
  if (s.incarnation.load(std::memory_order_relaxed) == j.incarnation && s.scans != 0) --s.scans;
  j.session = none;
  std::erase(running_scans, job);
  free_scans.push_back(job);
}

// A filter that is subscribed to again, or no longer, ends the scan of before.
void broker_worker::state::end_scans_of(std::uint32_t n, std::string_view filter) noexcept {
  if (at(n).scans == 0) return;
  for (std::size_t i = running_scans.size(); i-- > 0;) {
    const std::uint32_t job = running_scans[i];
    if (scans[job].session == n && scans[job].filter == filter) end_scan(job, outcome::accepted);
  }
}

bool broker_worker::state::has_room_for_retained(const scan_job& j, std::uint8_t qos) noexcept {
  session& s = at(j.session);
  if (qos == 0)
    return s.volatile_count < std::max(config.volatile_per_session_max / 2, 1u) &&
           !free_nodes.empty();
  const std::uint32_t wanted = planned.of(j.session);
  if (room_of(j.session) <= wanted) return false;
  if (exceeds_bytes(j.session, config.content_size_max)) return false;
  return durable.queues().depth(j.session) + wanted < std::max(slots_of(j.session) / 2, 1u);
}

// Gives a message to the subscription, and takes over a reference to it. Returns false when there
// is no room.
bool broker_worker::state::give_retained(std::uint32_t job, const retained_message& m) noexcept {
  scan_job& j = scans[job];
  session& s = at(j.session);
  const std::uint8_t qos = std::min(m.qos, subscription_option::qos_of(j.options));
  const std::uint8_t front_end = subscription_option::front_end_bits_of(j.options);
  if (qos != 0 && !has_room_for_retained(j, qos)) {
    durable.messages().drop_reference(m.ref.index);
    return false;
  }
  if (qos != 0) {
    targets.push_back({j.session, j.incarnation, static_cast<std::uint32_t>(staged.size()),
                       slot_delivery{qos, true, front_end}.pack(), false});
    add_to_group(static_cast<std::uint32_t>(targets.size() - 1),
                 durable.messages().size_of(m.ref.index));
    staged_publish p;
    p.content.ref = m.ref;
    p.places = 1;
    p.scan = job;
    staged.push_back(p);
    ++j.placed;
    return true;
  }
  // [home-read]
  if (s.state.load(std::memory_order_relaxed) != connection::active) {
    durable.messages().drop_reference(m.ref.index); // copies are not kept for absent clients
    return true;
  }
  if (!has_room_for_retained(j, 0)) {
    durable.messages().drop_reference(m.ref.index);
    return false;
  }
  message_view v;
  std::uint32_t copy = none;
  const std::uint64_t before = medium.losses();
  if (durable.messages().view(m.ref, v) == message_status::ok && durable.messages().verify(v) &&
      v.topic.remaining() <= name_buffer.size() && v.payload.remaining() <= content_buffer.size() &&
      copy_properties(v.properties)) {
    const auto topic_size = static_cast<std::size_t>(v.topic.remaining());
    const auto size = static_cast<std::size_t>(v.payload.remaining());
    v.topic.copy_out(name_buffer.data(), topic_size);
    v.payload.copy_out(content_buffer.data(), size);
    if (!medium.lost_since(before))
      copy = common.volatiles->make({name_buffer.data(), topic_size},
                                    std::span(content_buffer.data(), size), extras.properties,
                                    v.fields.expires_ns);
    if (copy == none) ++count.dropped_qos0;
  } else {
    ++count.damaged;
  }
  durable.messages().drop_reference(m.ref.index);
  if (copy == none) return true;
  keep_volatile(s, j.session, copy,
                static_cast<std::uint8_t>(slot_delivery{0, true, front_end}.pack()));
  ++count.retained_sent;
  return true;
}

void broker_worker::state::run_scan(std::uint32_t job, std::uint32_t& budget) noexcept {
  scan_job& j = scans[job];
  j.step_from = j.cursor;
  j.placed = 0;
  j.refused = j.stalled = false;
  const std::uint32_t end = j.exact ? j.cursor + 1 : common.retained->size();
  for (; j.cursor < end && budget != 0; ++j.cursor) {
    --budget;
    retained_message m;
    using look = retained_table::look_status;
    const look seen = common.retained->look(j.cursor, j.filter, j.version, durable.messages(), m);
    if (seen == look::wait) return; // its publisher's burst is not over
    if (seen == look::nothing) continue;
    if (m.expired(store::now_ns())) {
      durable.messages().drop_reference(m.ref.index);
      continue;
    }
    if (!give_retained(job, m)) {
      j.stalled = true;
      return;
    }
  }
  j.done = j.cursor >= end;
}

// Looks at some entries for each subscription that waits for its retained messages.
void broker_worker::state::run_scans() noexcept {
  if (running_scans.empty()) return;
  std::uint32_t budget = entries_each_burst;
  const bool go_on = std::exchange(scans_may_go_on, false);
  for (std::size_t i = running_scans.size(); i-- > 0;) {
    const std::uint32_t job = running_scans[i];
    scan_job& j = scans[job];
    session& s = at(j.session);
    // [incarnation-read]
    if (s.incarnation.load(std::memory_order_relaxed) != j.incarnation) {
      end_scan(job, outcome::congestion); // the session has ended
      continue;
    }
    if (j.stalled && !go_on) continue;
    if (budget == 0) break;
    run_scan(job, budget);
    if (!j.stalled) did_work = true;
  }
  // The scan that was first comes last in the next burst.
  std::ranges::rotate(running_scans, running_scans.end() - !running_scans.empty());
}

// Behind the burst: settles the subscriptions whose scans are over or have no room.
void broker_worker::state::finish_scans() noexcept {
  for (std::size_t i = running_scans.size(); i-- > 0;) {
    const std::uint32_t job = running_scans[i];
    scan_job& j = scans[job];
    if (j.placed != 0) {
      if (j.refused) { // other workers have filled the queue meanwhile
        j.cursor = j.step_from;
        j.done = false;
        j.stalled = true;
      } else {
        count.retained_sent += j.placed;
      }
      j.placed = 0;
    }
    if (j.done)
      end_scan(job, outcome::accepted);
    else if (j.stalled)
      answer_scan(j, outcome::accepted);
  }
}

} // namespace chainring
