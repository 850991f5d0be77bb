// SPDX-License-Identifier: BSD-3-Clause
// Topic registration, subscriptions.
//
// A subscription is one record in the map, drained before the index has it and before SUBACK
// leaves; its end is the index first, then the erased record. So what the index matches after a
// crash is what was acknowledged, or asked for and not answered.
#include "broker/worker.h"

namespace chainring {

const std::string* broker_worker::impl::predefined(std::uint16_t id) const noexcept {
  const auto found = shared.predefined_names.find(id);
  return found == shared.predefined_names.end() ? nullptr : &found->second;
}

void broker_worker::impl::register_topic(session& s, std::uint32_t n, client_address from,
                                         const mqttsn::register_topic& m) noexcept {
  ++count.registers;
  auto answer = [&](std::uint16_t id, mqttsn::return_code code) {
    reply(from, 7, [&](std::span<std::byte> b) {
      return mqttsn::encode_regack(b, {.topic_id = id, .msg_id = m.msg_id, .code = code});
    });
  };
  if (!valid_topic_name(m.topic) || m.topic.size() > topic_length_max) {
    ++count.refused_unsupported;
    return answer(0, mqttsn::return_code::not_supported);
  }
  const std::uint32_t topic = topics.intern(m.topic);
  const std::uint32_t r = topic == none ? none : topics.register_topic(n, s.registrations, topic);
  if (r == none) {
    ++count.refused_congestion;
    return answer(0, mqttsn::return_code::congestion);
  }
  topics.at(r).known = true;
  answer(topics.at(r).id, mqttsn::return_code::accepted);
}

void broker_worker::impl::regack(session& s, std::uint32_t n, const mqttsn::regack& m) noexcept {
  if (s.phase != session::exchange::registering || m.msg_id != s.register_id) {
    ++count.unexpected;
    return;
  }
  const std::uint32_t r = s.registration;
  s.phase = session::exchange::idle;
  s.retry_tsc = 0;
  s.retries = 0;
  s.registration = none;
  if (m.code == mqttsn::return_code::accepted) {
    topics.at(r).known = true;
  } else if (m.code == mqttsn::return_code::congestion) {
    s.phase = session::exchange::registering; // asked again later, by the timer
    s.registration = r;
    schedule_retry(s, n);
    return;
  } else {
    // Refusing a name is an unsubscribe from it (section 6.10), and what led here is not wanted.
    ++count.dropped_by_client;
    remove_subscription(n, topics.name(topics.at(r).topic));
    topics.forget(s.registrations, r);
    if (s.volatile_first)
      drop_volatile(s, false);
    else
      finish_delivery(s, n);
  }
  make_ready(s, n);
}

void broker_worker::impl::subscribe(session& s, std::uint32_t n, client_address from,
                                    const mqttsn::subscribe& m) noexcept {
  ++count.subscribes;
  const auto qos = m.flags.qos();
  auto answer = [&](std::uint16_t id, mqttsn::return_code code) {
    if (code == mqttsn::return_code::congestion) ++count.refused_congestion;
    if (code == mqttsn::return_code::invalid_topic_id) ++count.refused_topic;
    if (code == mqttsn::return_code::not_supported) ++count.refused_unsupported;
    reply(from, 8, [&](std::span<std::byte> b) {
      return mqttsn::encode_suback(
          b, {.flags = mqttsn::flags{}.with_qos(
                  code == mqttsn::return_code::accepted ? qos : mqttsn::qos_level::zero),
              .topic_id = id,
              .msg_id = m.msg_id,
              .code = code});
    });
  };
  if (qos == mqttsn::qos_level::two) return answer(0, mqttsn::return_code::not_supported);

  const auto type = m.flags.topic_type();
  std::string_view filter = m.topic;
  if (type == mqttsn::topic_id_type::predefined) {
    const std::string* name = predefined(m.topic_id);
    if (name == nullptr) return answer(m.topic_id, mqttsn::return_code::invalid_topic_id);
    filter = *name;
  }
  const bool valid =
      type == mqttsn::topic_id_type::normal ? valid_topic_filter(filter) : valid_topic_name(filter);
  if (!valid || filter.size() > topic_length_max)
    return answer(0, mqttsn::return_code::not_supported);

  std::uint16_t id = 0;
  if (type == mqttsn::topic_id_type::predefined) {
    id = m.topic_id;
  } else if (type == mqttsn::topic_id_type::normal && !has_wildcard(filter)) {
    const std::uint32_t topic = topics.intern(filter);
    const std::uint32_t r = topic == none ? none : topics.register_topic(n, s.registrations, topic);
    if (r == none) return answer(0, mqttsn::return_code::congestion);
    topics.at(r).known = true; // SUBACK says it
    id = topics.at(r).id;
  }
  const auto bits = static_cast<std::uint8_t>(
      static_cast<unsigned>(qos) | static_cast<unsigned>(type) << delivery::topic_type_shift);
  if (!state.add_subscription(n, filter, bits)) return answer(0, mqttsn::return_code::congestion);
  ++count.drains;
  if (!filter_index::accepted(shared.filters->add(filter, n, bits))) {
    state.remove_subscription(n, filter);
    return answer(0, mqttsn::return_code::congestion);
  }
  answer(id, mqttsn::return_code::accepted);
}

void broker_worker::impl::remove_subscription(std::uint32_t n, std::string_view filter) noexcept {
  if (!shared.filters->remove(filter, n)) return;
  state.remove_subscription(n, filter);
  ++count.drains;
}

void broker_worker::impl::unsubscribe(std::uint32_t n, client_address from,
                                      const mqttsn::unsubscribe& m) noexcept {
  ++count.unsubscribes;
  std::string_view filter = m.topic;
  if (m.flags.topic_type() == mqttsn::topic_id_type::predefined)
    if (const std::string* name = predefined(m.topic_id)) filter = *name;
  if (!filter.empty()) remove_subscription(n, filter);
  reply(from, 4,
        [&](std::span<std::byte> b) { return mqttsn::encode_unsuback(b, {.msg_id = m.msg_id}); });
}

} // namespace chainring
