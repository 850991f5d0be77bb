// SPDX-License-Identifier: BSD-3-Clause
// Messages in: subscribers matched, room decided, content staged for the burst. Nothing is placed
// in a queue yet (burst.cc), and nothing is dropped for a publish that could still be refused.
//
// Room is decided for all targets of a publish before anything changes:
//   every queue has room            -> staged
//   a queue refuses (policy reject) -> refused in all, nothing dropped
//   a queue drops its newest        -> the publish goes to the others
//   a queue drops its oldest, here  -> staged; its group makes room when it is placed
//   a queue drops its oldest, and another worker consumes it
//                                   -> the content is kept aside, the other worker is asked, and
//                                      a later burst matches the publish again
//
// Edges:
//   [incarnation-read] [home-read] [shown-only] as in sessions.cc
#include <algorithm>

#include "broker/worker_state.h"

namespace chainring {

namespace {
std::uint8_t front_end_bits_of(std::uint32_t options) noexcept {
  return static_cast<std::uint8_t>((options & subscription_option::front_end_mask) >>
                                   subscription_option::front_end_shift);
}
/// How long a publish waits until another worker has made room, before its sender is refused.
constexpr std::uint64_t aside_seconds = 2;
/// Parts of a second after which the other worker is asked again: somebody else may have taken the
/// room it made. Each time it is asked it drops one more message.
constexpr std::uint64_t ask_again_hz = 20;
} // namespace

void broker_worker::state::publish(front_end& by, std::uint32_t from, std::uint32_t topic,
                                   std::span<const std::byte> content,
                                   const publish_options& options, std::uint64_t token) noexcept {
  if (content.size() > config.content_size_max) {
    ++count.refused_too_long;
    if (options.qos != 0) answer_with(&by, token, outcome::too_long);
    return;
  }
  if (options.qos == 0) {
    ++count.published_qos0;
    return publish_volatile(topic, content, names.subscribers(topic, *shared.filters, number));
  }
  ++count.published_qos1;
  auto refuse = [&] {
    ++count.refused_congestion;
    answer_with(&by, token, outcome::congestion);
  };
  // What a sender publishes comes after what it published before.
  const bool behind = from != no_session && at(from).aside != 0;
  if (medium.failed() || behind) return refuse();
  std::size_t targets_before = 0, volatile_before = 0;
  room found = room::changed;
  constexpr int attempts = 16; // should subscriptions change all the time, the sender tries again
  for (int i = 0; i < attempts && found == room::changed; ++i)
    found = find_room(topic, targets_before, volatile_before);
  const auto give_up = [&] {
    targets.resize(targets_before);
    volatile_targets.resize(volatile_before);
    refuse();
  };
  if (found == room::changed || found == room::full) return give_up();

  staged_publish p;
  p.by = &by;
  p.token = token;
  const bool kept = targets.size() != targets_before;
  if (kept && !reserve(topic, from, content, options, p.content)) return give_up();
  p.places = static_cast<std::uint32_t>(targets.size() - targets_before);
  // A publish that waits is matched again later: its QoS 0 subscribers get this copy then.
  if (volatile_targets.size() != volatile_before) {
    p.volatile_copy = shared.volatiles->make(names.name(topic), content);
    if (p.volatile_copy == none) count.dropped_qos0 += volatile_targets.size() - volatile_before;
  }
  if (found == room::wait) {
    const bool may = aside.size() < config.aside_max && prepare_rings(targets_before);
    if (may) ask_for_room(targets_before);
    targets.resize(targets_before);
    volatile_targets.resize(volatile_before);
    if (!may) {
      if (p.volatile_copy != none) shared.volatiles->drop(p.volatile_copy);
      durable.messages().discard(p.content);
      return refuse();
    }
    return set_aside({.content = p.content,
                      .by = &by,
                      .token = token,
                      .until_tsc = now_tsc + aside_seconds * tsc_hz,
                      .ask_tsc = now_tsc + tsc_hz / ask_again_hz,
                      .topic = topic,
                      .from = from,
                      .from_incarnation = from == no_session
                                              ? 0
                                              : at(from).incarnation.load( // [incarnation-read] own
                                                    std::memory_order_relaxed),
                      .volatile_copy = p.volatile_copy});
  }
  stage(p, targets_before, volatile_before);
}

// QoS 0: handed on at once, never kept.
void broker_worker::state::publish_volatile(std::uint32_t topic, std::span<const std::byte> content,
                                            std::span<const subscriber> to) noexcept {
  if (to.empty()) return;
  const std::uint32_t copy = shared.volatiles->make(names.name(topic), content);
  if (copy == none) {
    count.dropped_qos0 += to.size();
    return;
  }
  for (const subscriber& sub : to) {
    const std::uint32_t incarnation =
        at(sub.session).incarnation.load(std::memory_order_acquire); // [incarnation-read]
    hand_volatile(copy, {sub.session, incarnation, front_end_bits_of(sub.options)});
  }
  shared.volatiles->drop(copy);
}

// The targets of a publish, appended to `targets` and `volatile_targets`; nothing else is changed.
broker_worker::state::room broker_worker::state::find_room(std::uint32_t topic,
                                                           std::size_t& targets_before,
                                                           std::size_t& volatile_before) noexcept {
  const std::uint64_t matched_version = shared.filters->version();
  const std::span<const subscriber> to = names.subscribers(topic, *shared.filters, number);
  targets_before = targets.size();
  volatile_before = volatile_targets.size();
  const auto index = static_cast<std::uint32_t>(staged.size());
  queue_table& queues = durable.queues();
  room found = room::there;
  std::uint64_t dropped_newest = 0;
  for (const subscriber& sub : to) {
    session& s = at(sub.session);
    // [incarnation-read] acquire: pairs with [incarnation-set]. A filter leaves the index before
    // its session's incarnation moves on; so if the index has not changed when all are read, each
    // incarnation is the one that subscribed.
    const std::uint32_t incarnation = s.incarnation.load(std::memory_order_acquire);
    if ((sub.options & subscription_option::qos_mask) == 0) {
      volatile_targets.push_back({sub.session, incarnation, front_end_bits_of(sub.options)});
      continue;
    }
    const std::uint32_t free = queues.free_count(sub.session);
    const bool full = free <= planned.of(sub.session);
    if (full && config.overflow == overflow_policy::drop_newest) {
      ++dropped_newest;
      continue;
    }
    if (full && config.overflow == overflow_policy::reject) {
      report_full(sub.session);
      return room::full;
    }
    // [home-read] seen with the subscription
    if (full && s.home.load(std::memory_order_relaxed) != number) found = room::wait;
    targets.push_back({sub.session, incarnation, index,
                       slot_delivery{1, false, front_end_bits_of(sub.options)}.pack(), full, free});
  }
  if (shared.filters->version() != matched_version) {
    targets.resize(targets_before);
    volatile_targets.resize(volatile_before);
    return room::changed;
  }
  count.dropped_newest += dropped_newest;
  return found;
}

// A descriptor and blocks, with the content copied in. False: there are none.
bool broker_worker::state::reserve(std::uint32_t topic, std::uint32_t from,
                                   std::span<const std::byte> content,
                                   const publish_options& options, message& out) noexcept {
  const std::string_view name = names.name(topic);
  message_fields fields;
  fields.payload_size = static_cast<std::uint32_t>(content.size());
  fields.topic_size = static_cast<std::uint16_t>(name.size());
  fields.qos = 1;
  fields.packet_id = options.packet_id;
  fields.publisher_session = from;
  if (from != no_session)
    fields.publisher_incarnation =
        at(from).incarnation.load(std::memory_order_acquire); // [incarnation-read]
  fields.published_ns = store::now_ns();
  if (!durable.messages().reserve(fields, out)) return false;
  durable.messages().copy_in(out, name.data(), name.size());
  durable.messages().copy_in(out, content.data(), content.size());
  return true;
}

void broker_worker::state::stage(staged_publish& p, std::size_t targets_before,
                                 std::size_t volatile_before) noexcept {
  p.volatile_first = static_cast<std::uint32_t>(volatile_before);
  p.volatile_count = p.volatile_copy == none
                         ? 0
                         : static_cast<std::uint32_t>(volatile_targets.size() - volatile_before);
  if (p.places != 0) durable.messages().stage(p.content);
  for (std::size_t t = targets_before; t < targets.size(); ++t) {
    const std::uint32_t n = targets[t].session;
    const std::uint64_t held =
        config.queue_slots - std::min(config.queue_slots, targets[t].free) + planned.add(n);
    if (held > at(n).high_water.load(std::memory_order_relaxed)) // [shown-only]
      at(n).high_water.store(std::min<std::uint64_t>(held, config.queue_slots),
                             std::memory_order_relaxed); // [shown-only]
  }
  staged.push_back(p);
}

// What could still refuse the publish is found out before another worker is asked to drop anything.
bool broker_worker::state::prepare_rings(std::size_t targets_before) noexcept {
  for (std::size_t t = targets_before; t < targets.size(); ++t)
    if (durable.queues().link_now(targets[t].session) == link_status::refused) return false;
  return true;
}

void broker_worker::state::ask_for_room(std::size_t targets_before) noexcept {
  for (std::size_t t = targets_before; t < targets.size(); ++t) {
    const target& to = targets[t];
    if (!to.makes_room ||
        at(to.session).home.load(std::memory_order_relaxed) == number) // [home-read] as above
      continue;
    (void)durable.queues().overflow(to.session); // asks its consumer
    shared.wake(to.session);
  }
}

void broker_worker::state::set_aside(const aside_publish& p) noexcept {
  ++count.set_aside;
  names.hold(p.topic);
  if (p.from != no_session) ++at(p.from).aside;
  aside.push_back(p);
}

// Publishes that waited for another worker are matched again, in their order.
void broker_worker::state::retry_aside() noexcept {
  if (aside.empty()) return;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < aside.size(); ++i) {
    aside_publish& a = aside[i];
    std::size_t targets_before = 0, volatile_before = 0;
    const room found = find_room(a.topic, targets_before, volatile_before);
    if ((found == room::wait || found == room::changed) && now_tsc < a.until_tsc) {
      if (found == room::wait && now_tsc >= a.ask_tsc) {
        ask_for_room(targets_before);
        a.ask_tsc = now_tsc + tsc_hz / ask_again_hz;
      }
      targets.resize(targets_before);
      volatile_targets.resize(volatile_before);
      aside[kept++] = a;
      continue;
    }
    names.release(a.topic);
    // [incarnation-read] a session that has ended counts nothing, and its number may be another
    // worker's by now.
    if (a.from != no_session &&
        at(a.from).incarnation.load(std::memory_order_relaxed) == a.from_incarnation)
      --at(a.from).aside;
    if (found != room::there) {
      targets.resize(targets_before);
      volatile_targets.resize(volatile_before);
      if (a.volatile_copy != none) shared.volatiles->drop(a.volatile_copy);
      durable.messages().discard(a.content);
      ++count.refused_congestion;
      answer_with(a.by, a.token, outcome::congestion);
      continue;
    }
    staged_publish p;
    p.by = a.by;
    p.token = a.token;
    p.content = a.content;
    p.places = static_cast<std::uint32_t>(targets.size() - targets_before);
    p.volatile_copy = a.volatile_copy;
    if (p.places == 0) durable.messages().discard(p.content); // nobody wants it any more
    stage(p, targets_before, volatile_before);
  }
  aside.resize(kept);
}

// Nobody else tells an operator which client stops a topic.
void broker_worker::state::report_full(std::uint32_t n) noexcept {
  session& s = at(n);
  s.refused.store(s.refused.load(std::memory_order_relaxed) + 1,
                  std::memory_order_relaxed); // [shown-only]
  ++full_untold;
  if (now_tsc < told_full_at + tsc_hz && told_full_at != 0) return;
  told_full_at = now_tsc;
  tell(broker_event::kind::queue_full, n, durable.queues().statistics(n).depth, full_untold);
  full_untold = 0;
}

} // namespace chainring
