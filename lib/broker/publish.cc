// SPDX-License-Identifier: BSD-3-Clause
// Publishing messages: subscribers are matched, room is found, and content is staged for the burst.
// No message is placed in a queue yet (burst.cc does that), and nothing is dropped for a publish
// that may still be refused.
//
// Room is found for all targets of a publish before anything changes:
//   - Every queue has room: the publish is staged.
//   - A queue refuses (policy reject, or its oldest message cannot be dropped): the publish is
//     refused in all queues and nothing is dropped.
//   - A queue drops its newest message: the publish goes to the other queues.
//   - A queue of this worker drops its oldest message: the publish is staged, and its group makes
//   room
//     when it is placed.
//   - A queue of another worker drops its oldest message: the publish is set aside with its
//   content,
//     the other worker is asked, and a later burst matches the publish again.
//
// Its ordering labels are described in sessions.cc, and [claim-before-match] in retain.cc.
#include <algorithm>

#include "broker/publish_fields.h"
#include "broker/worker_state.h"

namespace chainring {

namespace {
/// True when a publish with that retain flag is delivered with it.
bool retain_goes_on(bool retain, std::uint32_t options) noexcept {
  return retain && (options & subscription_option::retain_as_published) != 0;
}
/// The bits of a copy for a subscriber at QoS 0.
std::uint8_t copy_bits(bool retain, std::uint32_t options) noexcept {
  return static_cast<std::uint8_t>(slot_delivery{0, retain_goes_on(retain, options),
                                                 subscription_option::front_end_bits_of(options)}
                                       .pack());
}
/// How long a publish waits for room that another worker makes, before it is refused.
constexpr std::uint64_t aside_seconds = 2;
/// How often in a second the other worker is asked again, because a third worker may have taken the
/// room. It drops only what is needed for the room that it has not made yet.
constexpr std::uint64_t ask_again_hz = 20;
/// How many bursts a publish waits at least for the claim of its topic. A claim lasts one or two
/// bursts of its holder.
constexpr std::uint32_t claim_tries_min = 1000;
/// Among how many senders the places of the publishes that wait are shared at least.
constexpr std::uint32_t aside_senders = 8;
} // namespace

// Reads what holds for all publishes of a burst: the wall clock, and whether publish_direct() may
// be tried at all. An operator's change counts from the next burst on.
void broker_worker::state::begin_burst() noexcept {
  burst_ns = store::now_ns();
  burst_is_usual = config.queue_bytes == 0 && !slots_differ && !medium.failed() &&
                   !common.draining.load(std::memory_order_relaxed); // [run-time-setting]
}

// Notes what the deliveries of this burst need to know of a publish with places in queues.
void broker_worker::state::know(staged_publish& p, std::uint32_t topic, std::size_t size) noexcept {
  const message_word1 at = p.content.chains;
  if (at.list) return;
  names.hold(topic);
  p.topic = topic;
  if (at.count != 0)
    p.octets = {durable.blocks().address({at.first, at.count}) + p.content.fields.topic_size +
                    p.content.fields.properties_size,
                size};
}

void broker_worker::state::publish(front_end& by, std::uint32_t from, std::uint32_t topic,
                                   std::span<const std::byte> content,
                                   const publish_options& options, std::uint64_t token) noexcept {
  if (!publish_direct(by, from, topic, content, options, token)) [[unlikely]]
    publish_any(by, from, topic, {content, {}}, options, token);
}

void broker_worker::state::publish_any(front_end& by, std::uint32_t from, std::uint32_t topic,
                                       const message_content& content,
                                       const publish_options& options,
                                       std::uint64_t token) noexcept {
  if (content.size() > config.content_size_max) {
    ++count.refused_too_long;
    if (options.qos != 0) answer_with(&by, token, outcome::too_long);
    return;
  }
  if (from != no_session) ++at(from).published;
  const bool identified = options.qos == 2;
  ++(identified         ? count.published_qos2
     : options.qos == 0 ? count.published_qos0
                        : count.published_qos1);
  if (options.qos == 0 && !options.retain &&
      !common.draining.load(std::memory_order_relaxed)) // [run-time-setting]
    return publish_volatile(topic, from, content, options,
                            names.subscribers(topic, *common.filters, number));
  if (identified && from != no_session && repeats(by, from, options.packet_id, token)) return;
  if (common.draining.load(std::memory_order_relaxed)) { // [run-time-setting]
    ++count.refused_draining;
    if (options.qos != 0) answer_with(&by, token, outcome::congestion);
    return;
  }
  auto refuse = [&] {
    if (options.qos == 0) { // it is not retained, and delivered all the same
      ++count.retained_refused;
      return publish_volatile(topic, from, content, options,
                              names.subscribers(topic, *common.filters, number));
    }
    ++count.refused_congestion;
    answer_with(&by, token, outcome::congestion);
  };
  auto refuse_retained = [&] {
    if (options.qos != 0) ++count.retained_refused;
    refuse();
  };
  if (medium.failed()) return refuse();
  if (identified && (from == no_session || !may_identify(from))) return refuse();
  // The messages of a sender keep their order, so none may overtake one that was set aside.
  if (from != no_session && at(from).aside != 0) {
    const bool for_claims = waits_for_claims(from);
    if (for_claims && wait_for_claim(by, from, topic, content, options, token)) return;
    return for_claims && options.retain ? refuse_retained() : refuse();
  }
  staged_publish p;
  p.by = options.qos == 0 ? nullptr : &by;
  p.token = token;
  if (options.retain) {
    retained_table::claim c;
    retained_table::asker asker = asker_for(claim_party::publishes);
    asker.newcomer = true;
    asker.stays = may_set_aside(from);
    switch (topic_is_waited_for(topic)
                ? retained_table::claim_status::wait
                : common.retained->take(names.name(topic),
                                        names.name(topic).size() + content.size(),
                                        content.payload.empty(), asker, c)) {
    case retained_table::claim_status::claimed:
      p.retained = c.entry;
      p.retained_before = c.before;
      break;
    case retained_table::claim_status::nothing: // it clears nothing
      break;
    case retained_table::claim_status::full:
      return refuse_retained();
    case retained_table::claim_status::wait:
      if (!wait_for_claim(by, from, topic, content, options, token)) refuse_retained();
      return;
    }
    // [claim-before-match] Without it the match could miss a subscription that has looked at the
    // entry before it was claimed.
    std::atomic_thread_fence(std::memory_order_seq_cst); // [claim-before-match]
  }
  std::size_t targets_before = 0, volatile_before = 0;
  room found = room::changed;
  constexpr int attempts = 16; // if subscriptions change all the time, the sender must retry
  for (int i = 0; i < attempts && found == room::changed; ++i)
    found = find_room(topic, from, options.qos, options.retain,
                      names.name(topic).size() + content.size(), targets_before, volatile_before,
                      p.matched_version);
  if (!beyond_bytes.empty()) count_over_bytes();
  const auto give_up = [&] {
    targets.resize(targets_before);
    volatile_targets.resize(volatile_before);
    give_up_claim(p);
    refuse();
  };
  if (found == room::full) report_full(full_queue);
  if (found == room::changed || found == room::full) return give_up();

  const bool placed = targets.size() != targets_before;
  // A message without content that goes to no queue only has to erase the cell of its topic.
  p.erases = p.retained != none && content.payload.empty() && !placed && !identified;
  // An identifier needs its message, also where nobody subscribes to it.
  p.kept = placed || identified || (p.retained != none && !p.erases);
  if (p.kept && !reserve(topic, from, content, options, p.content)) return give_up();
  p.places = static_cast<std::uint32_t>(targets.size() - targets_before);
  // A publish that is set aside is matched again later, and its QoS 0 subscribers then get this
  // copy.
  if (volatile_targets.size() != volatile_before)
    p.volatile_copy = make_copy(topic, content, options);
  // There is room for it, which may_identify() has found.
  if (identified)
    (void)identifiers.add(at(from).identifiers, options.packet_id, p.content.ref, false);
  if (found == room::wait) {
    give_up_claim(p); // it is claimed again when it is matched again
    const bool may = may_set_aside(from) && prepare_rings(targets_before);
    if (may) ask_for_room(targets_before, p.content.fields.size());
    targets.resize(targets_before);
    volatile_targets.resize(volatile_before);
    if (!may) {
      if (p.volatile_copy != none) common.volatiles->drop(p.volatile_copy);
      forget_identifier(p.content);
      durable.messages().discard(p.content);
      return refuse();
    }
    return set_aside({.content = p.content,
                      .by = p.by,
                      .token = token,
                      .until_tsc = now_tsc + aside_seconds * tsc_hz,
                      .ask_tsc = now_tsc + tsc_hz / ask_again_hz,
                      .for_claim = false,
                      .counted = true,
                      .topic = topic,
                      .from = from,
                      .volatile_copy = p.volatile_copy});
  }
  // What a subscriber is told beside the content is read back from the message.
  if (p.places != 0 && content.properties.empty() && options.expiry_s == 0)
    know(p, topic, content.size());
  if (from != no_session) at(from).staged_burst = burst_number;
  stage(p, targets_before, volatile_before);
}

// Returns true when all publishes that the sender has set aside wait for claims, and so not long.
bool broker_worker::state::waits_for_claims(std::uint32_t from) noexcept {
  return std::ranges::all_of(aside,
                             [&](const aside_publish& a) { return a.from != from || a.for_claim; });
}

// Returns true when a publish that was set aside waits for the claim of this topic.
bool broker_worker::state::topic_is_waited_for(std::uint32_t topic) noexcept {
  return std::ranges::any_of(
      aside, [&](const aside_publish& a) { return a.for_claim && a.topic == topic; });
}

// Returns true when one more publish of that sender may wait. Each sender has a share of the
// places, so that none can take them all; those without a session are one sender.
bool broker_worker::state::may_set_aside(std::uint32_t from) noexcept {
  const std::uint32_t share = std::clamp<std::uint32_t>(config.aside_max / aside_senders, 1,
                                                        UINT8_MAX); // session::aside counts to it
  return aside.size() < config.aside_max &&
         (from == no_session ? aside_without_session : at(from).aside) < share;
}

// Sets a publish aside whose topic is claimed, or that is behind such a one of its sender, before
// it is matched. Returns false when there is no room for it.
bool broker_worker::state::wait_for_claim(front_end& by, std::uint32_t from, std::uint32_t topic,
                                          const message_content& content,
                                          const publish_options& options,
                                          std::uint64_t token) noexcept {
  message kept;
  if (!may_set_aside(from) || !reserve(topic, from, content, options, kept)) return false;
  if (options.qos == 2) // there is room for it, which may_identify() has found
    (void)identifiers.add(at(from).identifiers, options.packet_id, kept.ref, false);
  set_aside({.content = kept,
             .by = options.qos == 0 ? nullptr : &by,
             .token = token,
             .until_tsc = now_tsc + aside_seconds * tsc_hz,
             .ask_tsc = now_tsc,
             .for_claim = true,
             .counted = false,
             .topic = topic,
             .from = from,
             .volatile_copy = make_copy(topic, content, options)});
  return true;
}

// Publishes at QoS 0: the message is handed on at once and never kept.
void broker_worker::state::publish_volatile(std::uint32_t topic, std::uint32_t from,
                                            const message_content& content,
                                            const publish_options& options,
                                            std::span<const subscriber> to) noexcept {
  if (to.empty()) return;
  const std::uint32_t copy = make_copy(topic, content, options);
  if (copy == none) {
    count.dropped_qos0 += to.size();
    return;
  }
  hand_to_all(copy, from, options.retain, to);
  common.volatiles->drop(copy);
}

// Makes a copy in DRAM for subscribers at QoS 0.
std::uint32_t broker_worker::state::make_copy(std::uint32_t topic, const message_content& content,
                                              const publish_options& options) noexcept {
  constexpr std::uint64_t second_ns = 1'000'000'000;
  if (content.properties.empty()) [[likely]]
    return common.volatiles->make(names.name(topic), content.payload);
  const std::uint64_t expires_ns =
      options.expiry_s == 0 ? 0 : store::now_ns() + options.expiry_s * second_ns;
  return common.volatiles->make(names.name(topic), content.payload, content.properties, expires_ns);
}

// Gives each subscriber the copy. The caller keeps its own reference to the copy.
void broker_worker::state::hand_to_all(std::uint32_t copy, std::uint32_t from, bool retain,
                                       std::span<const subscriber> to) noexcept {
  for (const subscriber& sub : to) {
    if (sub.session == from && (sub.options & subscription_option::no_local) != 0) continue;
    volatile_target one{sub.session, 0, copy_bits(retain, sub.options)};
    if (!common.groups.is_group(sub.session))
      one.incarnation = incarnation_of(sub.session); // [incarnation-read]
    else if (!choose_member(queue_of(sub.session), one))
      continue; // QoS 0 messages are not kept for groups whose members are all away
    hand_volatile(copy, one);
  }
}

// Appends the targets of a publish to `targets` and `volatile_targets`, and notes what is to be
// counted. It counts nothing, because a publish that waits is matched again and again.
broker_worker::state::room
broker_worker::state::find_room(std::uint32_t topic, std::uint32_t from, std::uint8_t qos,
                                bool retain, std::uint64_t size, std::size_t& targets_before,
                                std::size_t& volatile_before,
                                std::uint64_t& matched_version) noexcept {
  matched_version = common.filters->version();
  const std::span<const subscriber> to = names.subscribers(topic, *common.filters, number);
  targets_before = targets.size();
  volatile_before = volatile_targets.size();
  room found = room::available;
  without_newest.clear();
  beyond_bytes.clear();
  full_queue = none;
  for (const subscriber& sub : to) {
    if (sub.session == from && (sub.options & subscription_option::no_local) != 0) continue;
    const bool of_group = common.groups.is_group(sub.session);
    // [incarnation-read] Without it the match could use an incarnation that is older than the
    // filter. A filter leaves the index before its session's incarnation changes. So if the version
    // of the index is the same after all loads, each incarnation is the one that subscribed.
    const std::uint32_t incarnation = incarnation_of(sub.session);
    // It is delivered at the lower of the two.
    const std::uint8_t granted = subscription_option::qos_of(sub.options);
    if (std::min(qos, granted) == 0) {
      volatile_target one{sub.session, incarnation, copy_bits(retain, sub.options)};
      if (!of_group || choose_member(queue_of(sub.session), one)) volatile_targets.push_back(one);
      continue;
    }
    const bool over_bytes = exceeds_bytes(sub.session, size);
    const bool full = over_bytes || room_of(sub.session) <= planned.of(sub.session);
    if (over_bytes) beyond_bytes.push_back(sub.session);
    if (full) press_group(sub.session);
    const overflow_policy policy = full ? policy_of(sub.session) : overflow_policy::reject;
    if (full && policy == overflow_policy::drop_newest) {
      without_newest.push_back(sub.session);
      continue;
    }
    if (full && (policy == overflow_policy::reject || !can_make_room(sub.session, size))) {
      full_queue = sub.session;
      return room::full;
    }
    // The home was set before the subscription entered the index. [home-read]
    if (full && at(sub.session).home.load(std::memory_order_relaxed) != number) found = room::wait;
    targets.push_back({sub.session, incarnation, static_cast<std::uint32_t>(staged.size()),
                       slot_delivery{std::min(qos, granted), retain_goes_on(retain, sub.options),
                                     subscription_option::front_end_bits_of(sub.options)}
                           .pack(),
                       full});
  }
  if (common.filters->version() != matched_version) {
    targets.resize(targets_before);
    volatile_targets.resize(volatile_before);
    beyond_bytes.clear(); // this match does not count
    return room::changed;
  }
  return found;
}

// Reserves a descriptor and blocks and copies the content into them, or takes the blocks in which
// it was received. Returns false when there are none. A publish at QoS 0 may still need its content
// where the message is given up, so that content is copied.
bool broker_worker::state::reserve(std::uint32_t topic, std::uint32_t from,
                                   const message_content& content, const publish_options& options,
                                   message& out) noexcept {
  const std::string_view name = names.name(topic);
  const std::span<const std::byte> payload = content.payload, properties = content.properties;
  message_fields fields = fields_of(name, from, payload.size(), options);
  fields.properties_size = static_cast<std::uint32_t>(properties.size());
  if (options.qos != 0 && in_place.wants(payload.size()) && properties.empty() &&
      in_place.reserve(fields, name, payload, out))
    return true;
  if (!durable.messages().reserve(fields, out)) return false;
  durable.messages().copy_in(out, name.data(), name.size());
  if (!properties.empty()) durable.messages().copy_in(out, properties.data(), properties.size());
  durable.messages().copy_in(out, payload.data(), payload.size());
  return true;
}

void broker_worker::state::stage(staged_publish& p, std::size_t targets_before,
                                 std::size_t volatile_before) noexcept {
  if (p.volatile_copy == none) count.dropped_qos0 += volatile_targets.size() - volatile_before;
  count.dropped_newest += without_newest.size();
  for (const std::uint32_t n : without_newest)
    (void)table_of(n).overflow(queue_of(n), overflow_policy::drop_newest); // this counts the drop
  p.volatile_first = static_cast<std::uint32_t>(volatile_before);
  p.volatile_count = p.volatile_copy == none
                         ? 0
                         : static_cast<std::uint32_t>(volatile_targets.size() - volatile_before);
  if (p.kept) durable.messages().stage(p.content);
  for (std::size_t t = targets_before; t < targets.size(); ++t)
    add_to_group(static_cast<std::uint32_t>(t), p.kept ? p.content.fields.size() : 0);
  staged.push_back(p);
}

// Finds out whether a ring is missing for a queue, before another worker is asked to drop anything.
bool broker_worker::state::prepare_rings(std::size_t targets_before) noexcept {
  for (std::size_t t = targets_before; t < targets.size(); ++t)
    if (table_of(targets[t].session).link_now(queue_of(targets[t].session)) == link_status::refused)
      return false;
  return true;
}

// Asks the homes of full queues to make room for a message of that size.
void broker_worker::state::ask_for_room(std::size_t targets_before, std::uint64_t size) noexcept {
  for (std::size_t t = targets_before; t < targets.size(); ++t) {
    const target& to = targets[t];
    if (!to.makes_room ||
        at(to.session).home.load(std::memory_order_relaxed) == number) // [home-read]
      continue;
    // This asks the consumer of the queue.
    (void)durable.queues().overflow(to.session, overflow_policy::drop_oldest);
    if (config.queue_bytes != 0) {
      std::atomic<std::uint64_t>& least = at(to.session).bytes_asked_least;
      std::uint64_t seen = least.load(std::memory_order_relaxed); // [bytes-asked]
      while (seen > size &&
             !least.compare_exchange_weak(seen, size, std::memory_order_relaxed)) { // [bytes-asked]
      }
      at(to.session).bytes_asked.fetch_add(size, std::memory_order_relaxed); // [bytes-asked]
    }
    common.wake(to.session);
  }
}

void broker_worker::state::set_aside(aside_publish p) noexcept {
  ++count.set_aside;
  names.hold(p.topic);
  if (p.from == no_session) {
    ++aside_without_session;
  } else {
    ++at(p.from).aside;
    p.from_incarnation =
        at(p.from).incarnation.load(std::memory_order_relaxed); // [incarnation-read]
  }
  aside.push_back(p);
}

// Matches the publishes that were set aside again, in their order.
void broker_worker::state::retry_aside() noexcept {
  if (aside.empty()) return;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < aside.size(); ++i) {
    aside_publish& a = aside[i];
    const message_fields& fields = a.content.fields;
    const bool retain = (fields.flags & message_flag_retain) != 0;
    std::size_t targets_before = targets.size(), volatile_before = volatile_targets.size();
    staged_publish p;
    room found = room::available;
    bool at_limit = false; // of retained messages
    // Both the messages of a sender and those that wait for one claim keep their order.
    const bool behind = std::any_of(aside.begin(), aside.begin() + std::ptrdiff_t(kept),
                                    [&](const aside_publish& b) {
                                      return (a.from != no_session && b.from == a.from) ||
                                             (retain && b.for_claim && b.topic == a.topic);
                                    });
    if (behind) {
      found = room::wait;
    } else if (retain) {
      retained_table::claim c;
      const auto claimed =
          common.retained->take(names.name(a.topic), fields.size(), fields.payload_size == 0,
                                asker_for(claim_party::publishes), c);
      if (claimed == retained_table::claim_status::claimed) {
        p.retained = c.entry;
        p.retained_before = c.before;
      } else if (claimed == retained_table::claim_status::wait) {
        found = room::wait;
      } else if (claimed == retained_table::claim_status::full) {
        at_limit = true;
        found = room::full;
      }
      std::atomic_thread_fence(std::memory_order_seq_cst); // [claim-before-match]
    }
    a.for_claim = found == room::wait;
    if (found == room::available) {
      found = find_room(a.topic, a.from, fields.qos, retain, fields.size(), targets_before,
                        volatile_before, p.matched_version);
      if (!a.counted) count_over_bytes();
      a.counted |= found != room::changed;
      if (found == room::full) report_full(full_queue);
    }
    if (found != room::available) give_up_claim(p);
    const bool may_wait =
        now_tsc < a.until_tsc || (a.for_claim && ++a.claim_tries < claim_tries_min);
    if ((found == room::wait || found == room::changed) && may_wait) {
      if (found == room::wait && !a.for_claim && now_tsc >= a.ask_tsc) {
        ask_for_room(targets_before, fields.size());
        a.ask_tsc = now_tsc + tsc_hz / ask_again_hz;
      }
      targets.resize(targets_before);
      volatile_targets.resize(volatile_before);
      aside[kept++] = a;
      continue;
    }
    names.release(a.topic);
    // A session that has ended counts nothing, and its number may belong to another worker by now.
    if (a.from == no_session)
      --aside_without_session;
    else if (at(a.from).incarnation.load(std::memory_order_relaxed) == // [incarnation-read]
             a.from_incarnation)
      --at(a.from).aside;
    if (found != room::available) {
      targets.resize(targets_before);
      volatile_targets.resize(volatile_before);
      if (retain && (fields.qos == 0 || at_limit || a.for_claim)) ++count.retained_refused;
      if (fields.qos != 0) {
        ++count.refused_congestion;
      } else { // it is not retained, and delivered
        const std::span<const subscriber> to = names.subscribers(a.topic, *common.filters, number);
        if (a.volatile_copy != none)
          hand_to_all(a.volatile_copy, a.from, retain, to);
        else
          count.dropped_qos0 += to.size();
      }
      if (a.volatile_copy != none) common.volatiles->drop(a.volatile_copy);
      forget_identifier(a.content);
      durable.messages().discard(a.content);
      answer_with(a.by, a.token, outcome::congestion);
      continue;
    }
    p.by = a.by;
    p.token = a.token;
    p.content = a.content;
    p.places = static_cast<std::uint32_t>(targets.size() - targets_before);
    p.volatile_copy = a.volatile_copy;
    p.kept = p.places != 0 || p.retained != none || fields.identifier_open;
    // A loss while it waited is no news to mark_lost_publishes() any more.
    p.lost = p.kept && medium.losses() != 0 && durable.messages().lost(p.content);
    if (!p.kept) durable.messages().discard(p.content); // no session subscribes to it any more
    stage(p, targets_before, volatile_before);
  }
  aside.resize(kept);
}

// Reports a full queue, because nothing else tells an operator which client stops a topic.
void broker_worker::state::report_full(std::uint32_t n) noexcept {
  const bool of_group = common.groups.is_group(n);
  std::atomic<std::uint64_t>& refused =
      of_group ? common.groups.at(queue_of(n)).refused : at(n).refused;
  refused.store(refused.load(std::memory_order_relaxed) + 1,
                std::memory_order_relaxed); // [shown-only]
  ++full_unreported;
  if (now_tsc < full_reported_at + tsc_hz && full_reported_at != 0) return;
  full_reported_at = now_tsc;
  notify_observer(of_group ? broker_event::kind::group_full : broker_event::kind::queue_full,
                  queue_of(n), table_of(n).depth(queue_of(n)), full_unreported);
  full_unreported = 0;
}

} // namespace chainring
