// SPDX-License-Identifier: BSD-3-Clause
// PUBLISH from a client: its topic found, its subscribers matched, its message staged for the
// burst. Nothing is placed in a queue yet (burst.cc).
//
// Edges:
//   [W5] acquire of a session's incarnation -> [W4] release in connect.cc; [W1] as there
// Crash windows: [B4] as in burst.cc.
#include <algorithm>

#include "broker/worker.h"

namespace chainring {

void broker_worker::impl::puback(client_address to, std::uint16_t topic_id, std::uint16_t msg_id,
                                 mqttsn::return_code code) noexcept {
  if (code == mqttsn::return_code::congestion) ++count.refused_congestion;
  if (code == mqttsn::return_code::invalid_topic_id) ++count.refused_topic;
  if (code == mqttsn::return_code::not_supported) ++count.refused_unsupported;
  reply(to, 7, [&](std::span<std::byte> b) {
    return mqttsn::encode_puback(b, {.topic_id = topic_id, .msg_id = msg_id, .code = code});
  });
}

// The topic a PUBLISH names; none with the reason otherwise.
std::uint32_t broker_worker::impl::topic_of(session* s, std::uint32_t n, const mqttsn::publish& m,
                                            mqttsn::return_code& code) noexcept {
  code = mqttsn::return_code::invalid_topic_id;
  std::string_view name;
  std::array<char, 2> two{};
  switch (m.flags.topic_type()) {
  case mqttsn::topic_id_type::normal: {
    // QoS -1 with a name in front of the data is not in the specification, and refused.
    if (s == nullptr || m.flags.qos() == mqttsn::qos_level::minus_one) return none;
    const std::uint32_t r = topics.find_by_id(n, m.topic_id);
    return r == none ? none : topics.at(r).topic;
  }
  case mqttsn::topic_id_type::predefined: {
    const std::string* found = predefined(m.topic_id);
    if (found == nullptr) return none;
    name = *found;
    break;
  }
  case mqttsn::topic_id_type::short_name:
    two = mqttsn::short_topic_name(m.topic_id);
    name = {two.data(), two.size()};
    if (!valid_topic_name(name)) return none;
    break;
  default:
    return none;
  }
  const std::uint32_t topic = topics.intern(name);
  if (topic == none) code = mqttsn::return_code::congestion;
  return topic;
}

void broker_worker::impl::publish(session* s, std::uint32_t n, client_address from,
                                  const mqttsn::publish& m) noexcept {
  const auto qos = m.flags.qos();
  const bool silent = qos == mqttsn::qos_level::minus_one; // that sender waits for nothing
  auto refuse = [&](mqttsn::return_code code) {
    if (!silent) return puback(from, m.topic_id, m.msg_id, code);
    ++(code == mqttsn::return_code::invalid_topic_id ? count.refused_topic
                                                     : count.refused_unsupported);
  };
  if (qos == mqttsn::qos_level::two || m.flags.retain())
    return refuse(mqttsn::return_code::not_supported);
  mqttsn::return_code code{};
  const std::uint32_t topic = topic_of(s, n, m, code);
  if (topic == none) return refuse(code);

  if (qos == mqttsn::qos_level::one) {
    if (on.failed()) return refuse(mqttsn::return_code::congestion);
    ++count.published_qos1;
    constexpr int attempts = 16; // should subscriptions change all the time, the client tries again
    for (int i = 0; i < attempts; ++i)
      if (stage(topic, *s, n, from, m)) return;
    return refuse(mqttsn::return_code::congestion);
  }
  ++(silent ? count.published_minus_one : count.published_qos0);
  publish_volatile(topic, m, topics.subscribers(topic, *shared.filters, number));
}

void broker_worker::impl::publish_volatile(std::uint32_t topic, const mqttsn::publish& m,
                                           std::span<const subscriber> to) noexcept {
  if (to.empty()) return;
  const std::uint32_t copy = shared.volatiles->make(topics.name(topic), m.data);
  if (copy == none) {
    count.dropped_qos0 += to.size();
    return;
  }
  for (const subscriber& sub : to) {
    session& s = shared.sessions[sub.session];
    const std::uint32_t incarnation = s.incarnation.load(std::memory_order_acquire); // [W5]
    hand_volatile(copy, {sub.session, incarnation,
                         static_cast<std::uint16_t>(sub.options & ~delivery::qos_mask)});
  }
  shared.volatiles->drop(copy);
}

// Room in a queue whose oldest message may go. Only the queue's consumer drops; another worker is
// asked, and the publisher is refused until it has.
bool broker_worker::impl::make_room(std::uint32_t queue) noexcept {
  session& s = shared.sessions[queue];
  if (s.home.load(std::memory_order_relaxed) != number) { // [W1] seen with the subscription [W5]
    wake(queue);
    return false;
  }
  queue_table& queues = state.queues();
  const std::uint32_t wanted = std::max(queues.drop_requested(queue), planned[queue] + 1);
  count.dropped_oldest += queues.drop_oldest(queue, wanted);
  forget_dropped(s, queue);
  if (queues.release_start(queue)) {
    queues.release_flush(queue); // [B4]
    drain();                     // [B4]
    queues.release_finish(queue);
  }
  return queues.free_count(queue) > planned[queue];
}

// False: subscriptions changed meanwhile, and nothing was done.
bool broker_worker::impl::stage(std::uint32_t topic, session& s, std::uint32_t n,
                                client_address from, const mqttsn::publish& m) noexcept {
  const std::uint64_t matched_version = shared.filters->version();
  const std::span<const subscriber> to = topics.subscribers(topic, *shared.filters, number);
  const std::size_t first_target = targets.size(), first_volatile = volatile_targets.size();
  const auto index = static_cast<std::uint32_t>(staged.size());
  bool full = false;
  std::uint64_t dropped_newest = 0;
  for (const subscriber& sub : to) {
    // [W5] acquire: pairs with [W4]. A subscription ends in the index before its session's
    // incarnation moves on; so if the index has not changed when all are read, each incarnation is
    // the one that subscribed.
    const std::uint32_t incarnation =
        shared.sessions[sub.session].incarnation.load(std::memory_order_acquire);
    if ((sub.options & delivery::qos_mask) == 0) {
      volatile_targets.push_back(
          {sub.session, incarnation, static_cast<std::uint16_t>(sub.options)});
      continue;
    }
    // A full queue refuses early, before anything is stored; place() decides.
    if (state.queues().free_count(sub.session) <= planned[sub.session]) {
      const queue_overflow policy = state.queues().overflow(sub.session);
      if (policy == queue_overflow::drop_newest) {
        ++dropped_newest;
        continue;
      }
      if (policy == queue_overflow::reject || !make_room(sub.session)) {
        full = true;
        break;
      }
    }
    targets.push_back({sub.session, incarnation, index, static_cast<std::uint16_t>(sub.options)});
  }
  auto abandon = [&] {
    targets.resize(first_target);
    volatile_targets.resize(first_volatile);
    puback(from, m.topic_id, m.msg_id, mqttsn::return_code::congestion);
    return true;
  };
  if (shared.filters->version() != matched_version) {
    targets.resize(first_target);
    volatile_targets.resize(first_volatile);
    return false;
  }
  if (full) return abandon();

  staged_publish p;
  p.from = from;
  p.topic_id = m.topic_id;
  p.msg_id = m.msg_id;
  p.volatile_first = static_cast<std::uint32_t>(first_volatile);
  p.volatile_count = static_cast<std::uint32_t>(volatile_targets.size() - first_volatile);
  if (p.volatile_count != 0) {
    p.volatile_copy = shared.volatiles->make(topics.name(topic), m.data);
    if (p.volatile_copy == none) {
      count.dropped_qos0 += p.volatile_count;
      p.volatile_count = 0;
    }
  }
  if (targets.size() != first_target) {
    const std::string_view name = topics.name(topic);
    message_fields fields;
    fields.payload_size = static_cast<std::uint32_t>(m.data.size());
    fields.topic_size = static_cast<std::uint16_t>(name.size());
    fields.qos = 1;
    fields.packet_id = m.msg_id;
    fields.publisher_session = n;
    fields.publisher_incarnation = s.incarnation.load(std::memory_order_acquire); // [W5]
    fields.published_ns = state.now_ns();
    if (!state.messages().reserve(fields, p.content)) {
      if (p.volatile_copy != none) shared.volatiles->drop(p.volatile_copy);
      return abandon();
    }
    state.messages().copy_in(p.content, name.data(), name.size());
    state.messages().copy_in(p.content, m.data.data(), m.data.size());
    state.messages().stage(p.content);
    for (std::size_t t = first_target; t < targets.size(); ++t)
      ++planned[targets[t].session];
    p.places = static_cast<std::uint32_t>(targets.size() - first_target);
  }
  count.dropped_newest += dropped_newest;
  staged.push_back(p);
  return true;
}

} // namespace chainring
