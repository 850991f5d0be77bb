// SPDX-License-Identifier: BSD-3-Clause
// Wills: messages that are sent for a client when its connection is lost.
//
// A will is a message in the state `held`, which the record of its session names. Publishing the
// message is the one commit of sending it, so a will is sent once whatever happens.
//
// Setting a will takes two bursts. The first makes the message held. The second stores it in the
// session's record, and settles the call. Then the reference of the former will is dropped. In one
// burst a crash could leave a record that names a message which is not held yet, and the former
// will, which was acknowledged, would be lost.
//
// Sending a will is part of a burst: slots are placed as for any publish, and the message is
// published with the others. A session that ends, or whose will is replaced, keeps its will in its
// record until that has been sent. The record goes on naming a will that was sent or that rests
// after its client's own disconnect, because a client may come back and keep it.
//
// Its ordering labels [incarnation-read] and [home-read] are described in sessions.cc, and
// [claim-before-match] in retain.cc.
#include <algorithm>
#include <rte_cycles.h>

#include "broker/worker_state.h"

namespace chainring {

namespace {
constexpr std::size_t tries_per_burst = 64; ///< wills that one burst sends at most
/// Each visit looks at so many waiting wills that all are looked at once in a second, within these
/// bounds: each look may miss the caches, and a burst must not wait long for them.
constexpr std::size_t looks_min = 256, looks_max = 4096;
constexpr std::ptrdiff_t changes_per_session_max = 8; ///< changes of one session's will at one time
} // namespace

// --- setting ----------------------------------------------------------------------------------

// Copies topic and content of a message into the worker's buffers. Returns false when they are
// longer than anything that this broker delivers.
bool broker_worker::state::read_will(const message_view& v, will_message& out) noexcept {
  message_cursor topic = v.topic, payload = v.payload, properties = v.properties;
  if (topic.remaining() > will_topic.size() || payload.remaining() > will_content.size() ||
      properties.remaining() > will_properties.size())
    return false;
  out.topic = {will_topic.data(), static_cast<std::size_t>(topic.remaining())};
  out.content = {will_content.data(), static_cast<std::size_t>(payload.remaining())};
  topic.copy_out(will_topic.data(), out.topic.size());
  payload.copy_out(will_content.data(), out.content.size());
  out.properties = {will_properties.data(), static_cast<std::size_t>(properties.remaining())};
  properties.copy_out(will_properties.data(), out.properties.size());
  out.qos = v.fields.qos;
  out.retain = (v.fields.flags & message_flag_retain) != 0;
  return true;
}

// Reads the will that the session has when its changes under way are done. Returns false when it
// has none, or none that can be read.
bool broker_worker::state::read_will(std::uint32_t n, will_message& out) noexcept {
  message_view v;
  for (std::size_t i = will_changes.size(); i-- > 0;) {
    const staged_will& w = will_changes[i];
    if (w.session != n) continue;
    if (w.now == staged_will::phase::deletion) return false;
    out.delay_s = w.delay_s;
    // A will that is held may have moved since it was copied.
    if (w.now == staged_will::phase::held) return read_held_will(w.content.ref, out);
    v.fields = w.content.fields;
    v.topic = w.all.first(w.content.fields.topic_size);
    v.properties = v.payload = w.all;
    v.properties.advance(w.content.fields.topic_size);
    v.properties = v.properties.first(w.content.fields.properties_size);
    v.payload.advance(std::uint64_t{w.content.fields.topic_size} +
                      w.content.fields.properties_size);
    return read_will(v, out);
  }
  const session_settings settings = durable.sessions().settings(n);
  out.delay_s = settings.will_delay_s;
  return settings.will != 0 && read_held_will(slot_ref(settings.will).message(), out);
}

bool broker_worker::state::read_held_will(message_ref ref, will_message& out) noexcept {
  const std::uint64_t before = medium.losses();
  const message_table::reading mine(durable.messages());
  message_view v;
  return durable.messages().view_held(ref, v) == message_status::ok &&
         durable.messages().verify(v) && read_will(v, out) && !medium.lost_since(before);
}

// True when the session has a will, or will have one when its changes under way are done.
bool broker_worker::state::has_will(std::uint32_t n) const noexcept {
  for (std::size_t i = will_changes.size(); i-- > 0;)
    if (will_changes[i].session == n) return will_changes[i].now != staged_will::phase::deletion;
  return durable.messages().held(slot_ref(durable.sessions().settings(n).will).message());
}

// Copies a will into a new message. Of the session's present will it takes the part that is not
// given.
outcome broker_worker::state::copy_will(std::uint32_t n, will_message will, will_part part,
                                        staged_will& out) noexcept {
  will_message former;
  if (part != will_part::all) {
    const bool any = read_will(n, former);
    // A will that cannot be read, because it is damaged, keeps its content to itself.
    if (!any && has_will(n)) return outcome::congestion;
    if (part == will_part::topic) {
      if (any) will.content = former.content;
      if (any) will.properties = former.properties;
    } else {
      if (!any) return outcome::not_found;
      former.content = will.content;
      former.properties = {}; // they may say what is not true of another content
      will = former;
    }
  }
  if (will.topic.size() > config.topic_size_max ||
      will.content.size() + will.properties.size() > config.content_size_max)
    return outcome::too_long;
  if (medium.failed() || will_changes.size() >= config.wills_changing_max)
    return outcome::congestion;
  message_fields fields;
  fields.payload_size = static_cast<std::uint32_t>(will.content.size());
  fields.topic_size = static_cast<std::uint16_t>(will.topic.size());
  fields.properties_size = static_cast<std::uint32_t>(will.properties.size());
  fields.qos = will.qos;
  fields.flags =
      static_cast<std::uint8_t>(message_flag_will | (will.retain ? message_flag_retain : 0));
  fields.held = true;
  fields.publisher_session = no_session;
  fields.published_ns = store::now_ns();
  if (!durable.messages().reserve(fields, out.content)) return outcome::congestion;
  out.now = staged_will::phase::copied;
  out.all = out.content.to_write;
  out.delay_s = will.delay_s;
  durable.messages().copy_in(out.content, will.topic.data(), will.topic.size());
  if (!will.properties.empty())
    durable.messages().copy_in(out.content, will.properties.data(), will.properties.size());
  durable.messages().copy_in(out.content, will.content.data(), will.content.size());
  return outcome::accepted;
}

// Copies the will that the session has, because a message that was published cannot be held again.
outcome broker_worker::state::copy_will_again(std::uint32_t n, staged_will& out) noexcept {
  will_message former;
  if (!read_will(n, former)) return outcome::not_found;
  return copy_will(n, former, will_part::all, out);
}

void broker_worker::state::change_will(session& s, staged_will& change, std::uint32_t n,
                                       front_end* by, std::uint64_t token) noexcept {
  change.session = n;
  change.incarnation = s.incarnation.load(std::memory_order_relaxed); // [incarnation-read]
  change.by = by;
  change.token = token;
  if (change.now == staged_will::phase::copied) {
    durable.messages().stage(change.content);
    ++wills_copied;
  }
  will_changes.push_back(change);
}

void broker_worker::state::set_will(std::uint32_t n, const will_message* will, will_part part,
                                    std::uint64_t token) noexcept {
  if (!own(n)) return;
  session& s = at(n);
  staged_will change;
  // A change may have to wait for a former will that is being sent. So that no client fills the
  // table, each has few changes under way.
  const auto under_way = std::ranges::count(will_changes, n, &staged_will::session);
  outcome copied = under_way < changes_per_session_max ? outcome::accepted : outcome::congestion;
  if (copied == outcome::accepted && will != nullptr) copied = copy_will(n, *will, part, change);
  if (copied != outcome::accepted) {
    ++count.wills_refused;
    return answer_with(s.server, token, copied);
  }
  change_will(s, change, n, s.server, token);
}

// Gives up the changes of a session whose connection is over. None of them was acknowledged.
void broker_worker::state::cancel_will_changes(std::uint32_t n) noexcept {
  std::erase_if(will_changes, [&](staged_will& w) {
    if (w.session != n) return false;
    if (w.now == staged_will::phase::copied) --wills_copied;
    // No record names the message yet.
    if (w.now != staged_will::phase::deletion)
      durable.messages().drop_reference(w.content.ref.index);
    answer_with(w.by, w.token, outcome::congestion);
    return true;
  });
}

// Stores the wills that are held in the records of their sessions. The changes of one session stay
// in order, and wait for a former will that is being sent.
void broker_worker::state::apply_will_changes() noexcept {
  if (will_changes.empty()) return;
  const bool early = seeded_bug("broker.will_named_before_held");
  std::erase_if(will_changes, [&](const staged_will& w) {
    session& s = at(w.session);
    s.will_blocked |= s.will_due || (w.now == staged_will::phase::copied && !early);
    if (s.will_blocked) return false;
    session_settings settings = durable.sessions().settings(w.session);
    const bool deletion = w.now == staged_will::phase::deletion;
    settings.will = deletion ? 0 : slot_ref(w.content.ref, will_flag_set).word;
    settings.will_delay_s = deletion ? 0 : w.delay_s;
    change_settings(s, w.session, settings);
    ++(deletion ? count.wills_deleted : count.wills_set);
    answer_with(w.by, w.token, outcome::accepted);
    did_work = true;
    return true;
  });
  for (const staged_will& w : will_changes)
    at(w.session).will_blocked = false;
}

// Call it after the burst's drains, which have made the copied wills held.
void broker_worker::state::finish_will_changes() noexcept {
  if (wills_copied == 0) return;
  wills_copied = 0;
  std::erase_if(will_changes, [&](staged_will& w) {
    if (w.now != staged_will::phase::copied) return false;
    w.now = staged_will::phase::held;
    // Content in lost memory is not durable, so the client has to set the will again.
    if (!durable.messages().lost(w.content)) [[likely]]
      return false;
    answer_with(w.by, w.token, outcome::lost);
    durable.messages().drop_reference(w.content.ref.index);
    return true;
  });
}

// Drops the references of records that name other wills, or none, since this burst's drain.
void broker_worker::state::drop_former_wills() noexcept {
  for (const std::uint32_t index : former_wills)
    durable.messages().drop_reference(index);
  former_wills.clear();
}

// --- sending ----------------------------------------------------------------------------------

bool broker_worker::state::will_unsent(std::uint64_t will) const noexcept {
  const slot_ref ref(will);
  return (ref.delivery() & (will_flag_set | will_flag_resting)) == will_flag_set &&
         durable.messages().held(ref.message());
}

void broker_worker::state::make_will_due(session& s, std::uint32_t n, std::uint64_t after_tsc,
                                         bool certain) noexcept {
  s.will_due = true;
  s.will_certain = certain;
  s.will_graced = s.will_counted = false;
  s.will_due_tsc = now_tsc + after_tsc;
  if (s.will_listed) return; // it is looked at again soon
  s.will_listed = true;
  (after_tsc == 0 ? wills_now : wills_later).push_back(n);
}

void broker_worker::state::forget_due_will(session& s) noexcept {
  s.will_due = s.will_certain = s.will_graced = false;
  s.will_until_tsc = 0;
}

// The record of a session says after an open whether its client was connected, and when it was
// lost otherwise.
void broker_worker::state::schedule_will_after_open(std::uint32_t n) noexcept {
  now_tsc = rte_rdtsc();
  session& s = at(n);
  const session_settings settings = durable.sessions().settings(n);
  if (!will_unsent(settings.will)) return;
  s.ends_after_will = s.ends_with_connection;
  if (settings.disconnected_ns == 0) {
    make_will_due(s, n, config.will_grace_s * tsc_hz, false);
    s.will_graced = true;
    return;
  }
  const std::uint64_t due =
      settings.disconnected_ns + std::uint64_t{settings.will_delay_s} * 1'000'000'000;
  const std::uint64_t now = store::now_ns();
  if (due <= now) return make_will_due(s, n, 0, true);
  make_will_due(s, n, (due - now) / 1'000'000'000 * tsc_hz + tsc_hz, false);
}

// Moves waiting wills whose time has come to the list of those that are tried.
void broker_worker::state::look_for_due_wills() noexcept {
  const std::size_t looks =
      std::clamp<std::size_t>(wills_later.size() / maintain_hz, looks_min, looks_max);
  for (std::size_t left = std::min(looks, wills_later.size()); left-- > 0;) {
    if (wills_from >= wills_later.size()) wills_from = 0;
    const std::uint32_t n = wills_later[wills_from];
    session& s = at(n);
    if (s.will_due && now_tsc < s.will_due_tsc) {
      ++wills_from;
      continue;
    }
    wills_later[wills_from] = wills_later.back();
    wills_later.pop_back();
    if (s.will_due)
      wills_now.push_back(n);
    else
      s.will_listed = false;
  }
}

// Stages the due wills with this burst.
void broker_worker::state::send_wills() noexcept {
  if (wills_now.empty()) [[likely]]
    return;
  did_work = true;
  const std::size_t tried = std::min(tries_per_burst, wills_now.size());
  for (std::size_t i = 0; i < tried; ++i) {
    const std::uint32_t n = wills_now[i];
    session& s = at(n);
    s.will_listed = false;
    if (!s.will_due) continue;
    s.will_certain = true;
    const will_attempt tried_now = try_will(s, n);
    switch (tried_now) {
    case will_attempt::staged:
      break;
    case will_attempt::soon:
    case will_attempt::later:
      retry_will(s, n, tried_now == will_attempt::soon);
      break;
    case will_attempt::impossible:
      ++count.wills_dropped;
      will_over(s, n);
      break;
    }
  }
  wills_now.erase(wills_now.begin(), wills_now.begin() + static_cast<std::ptrdiff_t>(tried));
}

broker_worker::state::will_attempt broker_worker::state::try_will(session& s,
                                                                  std::uint32_t n) noexcept {
  if (medium.failed()) return will_attempt::later;
  const message_ref ref = slot_ref(durable.sessions().settings(n).will).message();
  const std::uint64_t before = medium.losses();
  message_view v;
  will_message will;
  if (durable.messages().view_held(ref, v) != message_status::ok || !durable.messages().verify(v) ||
      !read_will(v, will))
    return will_attempt::impossible;
  if (medium.lost_since(before)) [[unlikely]] // the copy may not be what was verified
    return will_attempt::later;
  const std::uint32_t topic = names.intern(will.topic);
  if (topic == no_topic) return will_attempt::later;
  staged_publish p;
  p.will_of = n;
  p.content.ref = ref;
  p.content.fields = v.fields;
  bool retain = will.retain;
  if (retain) {
    retained_table::claim c;
    switch (common.retained->take(will.topic, p.content.fields.size(), will.content.empty(),
                                  asker_for(claim_party::wills), c)) {
    case retained_table::claim_status::claimed:
      p.retained = c.entry;
      p.retained_before = c.before;
      break;
    case retained_table::claim_status::nothing: // it clears nothing
      break;
    case retained_table::claim_status::full: // it is sent all the same
      ++count.retained_refused;
      retain = false;
      break;
    case retained_table::claim_status::wait:
      return will_attempt::soon;
    }
    std::atomic_thread_fence(std::memory_order_seq_cst); // [claim-before-match]
  }
  std::size_t targets_before = targets.size(), volatile_before = volatile_targets.size();
  room found = room::changed;
  constexpr int attempts = 16;
  for (int i = 0; i < attempts && found == room::changed; ++i)
    found = find_room(topic, n, will.qos, retain, p.content.fields.size(), targets_before,
                      volatile_before, p.matched_version);
  // A will that waits is counted once.
  if (!s.will_counted) {
    count_over_bytes();
    if (found == room::full) report_full(full_queue);
  }
  s.will_counted |= found != room::changed;
  if (found != room::available) {
    if (found == room::wait && prepare_rings(targets_before))
      ask_for_room(targets_before, p.content.fields.size());
    targets.resize(targets_before);
    volatile_targets.resize(volatile_before);
    give_up_claim(p);
    return will_attempt::later;
  }
  p.places = static_cast<std::uint32_t>(targets.size() - targets_before);
  if (volatile_targets.size() != volatile_before)
    p.volatile_copy = common.volatiles->make(will.topic, will.content, will.properties);
  durable.messages().add_references(ref.index, 1); // until the burst is finished
  stage(p, targets_before, volatile_before);
  return will_attempt::staged;
}

void broker_worker::state::finish_will(const staged_publish& p) noexcept {
  session& s = at(p.will_of);
  if (p.refused) return retry_will(s, p.will_of);
  ++count.wills_sent;
  will_over(s, p.will_of);
}

// A will that finds no room is tried again for a while, and then dropped: the record says that it
// is not to be sent.
void broker_worker::state::retry_will(session& s, std::uint32_t n, bool soon) noexcept {
  // A program without EAL does not know the frequency of its clock.
  const std::uint64_t hz = tsc_hz != 0 ? tsc_hz : 1'000'000'000;
  if (s.will_until_tsc == 0) s.will_until_tsc = now_tsc + config.will_retry_s * hz;
  if (now_tsc < s.will_until_tsc) {
    s.will_due_tsc = soon ? now_tsc : now_tsc + config.will_retry_ms * hz / 1000;
    s.will_listed = true;
    (soon || config.will_retry_ms == 0 ? wills_now : wills_later).push_back(n);
    return;
  }
  ++count.wills_dropped;
  will_over(s, n);
}

// Ends what a due will has to do with its session. A will that was not sent must not be sent after
// a restart.
void broker_worker::state::will_over(session& s, std::uint32_t n) noexcept {
  forget_due_will(s);
  if (s.ends_after_will) {
    s.ends_after_will = false;
    return begin_ending(s, n, false, 0, {});
  }
  session_settings settings = durable.sessions().settings(n);
  if (!will_unsent(settings.will)) return;
  settings.will |= std::uint64_t{will_flag_resting} << 48;
  change_settings(s, n, settings);
}

} // namespace chainring
