// SPDX-License-Identifier: BSD-3-Clause
// Topic ids and subscriptions.
#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

const std::string* gateway_worker::state::predefined(std::uint16_t id) const noexcept {
  const auto found = common.predefined_names.find(id);
  return found == common.predefined_names.end() ? nullptr : &found->second;
}

// Returns the registration of a topic that a client asks for, and makes it if there is none.
// Returns none when a limit is reached.
std::uint32_t gateway_worker::state::registration(std::uint32_t n, std::uint32_t topic) noexcept {
  if (topic == no_topic) return none;
  connection& c = at(n);
  std::uint32_t list = c.list_plus_1 - 1;
  const std::uint32_t r = ids.add(n, list, topic);
  if (r != none) ids.move(list, r); // a delivery may have made it in the other list
  c.list_plus_1 = list + 1;
  return r;
}

// Does the same for a topic that a delivery needs. When a limit is reached, it replaces the id that
// a delivery needed longest ago, which would otherwise block every other name. The ids that the
// client asked for stay.
std::uint32_t gateway_worker::state::registration_to_offer(std::uint32_t n,
                                                           std::uint32_t topic) noexcept {
  if (topic == no_topic) return none;
  connection& c = at(n);
  std::uint32_t list = c.offered_plus_1 - 1;
  std::uint32_t r = ids.add(n, list, topic);
  if (r == none && ids.oldest(list) != none) {
    ++count.ids_replaced;
    forget_ids(n);
    ids.forget(ids.oldest(list));
    r = ids.add(n, list, topic);
  }
  c.offered_plus_1 = list + 1;
  return r;
}

void gateway_worker::state::handle(const sender& from, const register_topic& m) noexcept {
  if (!from.known()) return stranger(from, false);
  ++count.registers;
  const auto answer = [&](std::uint16_t id, return_code code) {
    if (code != return_code::accepted) ++count.registers_refused;
    send_message(from.address, 7, regack{.topic_id = id, .msg_id = m.msg_id, .code = code});
  };
  if (!valid_topic_name(m.topic) || m.topic.size() > topic_length_max)
    return answer(0, return_code::not_supported);
  if (!may_publish_to(from, m.topic)) {
    ++count.registers_denied;
    return send_message(from.address, 7,
                        regack{.msg_id = m.msg_id, .code = return_code::not_supported});
  }
  const std::uint32_t r = registration(from.session, topics.intern(m.topic));
  if (r == none) return answer(0, return_code::congestion);
  ids.at(r).known = true;
  answer(ids.at(r).id, return_code::accepted);
}

void gateway_worker::state::handle(const sender& from, const regack& m) noexcept {
  if (!from.known()) return stranger(from, false);
  connection& c = at(from.session);
  if (c.phase != connection::exchange::registering || m.msg_id != c.register_id) {
    ++count.unexpected;
    return;
  }
  const std::uint32_t r = c.registration_plus_1 - 1;
  if (m.code == return_code::congestion) { // asked again later; a client that answers is not lost
    c.retries = 0;
    schedule_retry(from.session);
    return;
  }
  c.phase = connection::exchange::idle;
  c.retry_tsc = 0;
  c.retries = 0;
  c.registration_plus_1 = 0;
  if (m.code == return_code::accepted) {
    ids.at(r).known = true;
  } else {
    // A client that refuses a name unsubscribes from it (section 6.10), and does not want the
    // message.
    core.unsubscribe(from.session, topics.name(ids.at(r).topic), no_token);
    c.refused_topic_plus_1 = c.wanted_ticket == 0 ? ids.at(r).topic + 1 : 0;
    forget_ids(from.session);
    ids.forget(r);
    c.refused_ticket = c.wanted_ticket;
  }
  go_on(from.session);
}

void gateway_worker::state::handle(const sender& from, const subscribe& m) noexcept {
  if (!from.known()) return stranger(from, false);
  const auto refuse = [&](std::uint16_t id, return_code code) {
    ++(code == return_code::invalid_topic_id ? count.refused_topic : count.refused_unsupported);
    send_message(from.address, 8, suback{.topic_id = id, .msg_id = m.msg_id, .code = code});
  };
  const auto type = m.flags.topic_type();
  std::string_view filter = m.topic;
  if (type == topic_id_type::predefined) {
    const std::string* name = predefined(m.topic_id);
    if (name == nullptr) return refuse(m.topic_id, return_code::invalid_topic_id);
    filter = *name;
  }
  const bool valid =
      type == topic_id_type::normal ? valid_topic_filter(filter) : valid_topic_name(filter);
  // The name of a group is no part of the topic names that the client is sent.
  const auto shared = split_shared_filter(filter);
  if (!valid || (asks_to_share(filter) && !shared) || filter.size() > topic_length_max)
    return refuse(0, return_code::not_supported);
  // Access rules, too, are about the filter and not about the group.
  const std::string_view names = shared ? shared->filter : filter;
  if (!may_subscribe(from.session, names)) {
    ++count.subscribes_denied;
    return send_message(from.address, 8,
                        suback{.msg_id = m.msg_id, .code = return_code::not_supported});
  }

  std::uint16_t id = 0;
  if (type == topic_id_type::predefined) {
    id = m.topic_id;
  } else if (type == topic_id_type::normal && !has_wildcard(names)) {
    const std::uint32_t r = registration(from.session, topics.intern(names));
    if (r == none) {
      ++count.registers_refused;
      return send_message(from.address, 8,
                          suback{.msg_id = m.msg_id, .code = return_code::congestion});
    }
    ids.at(r).known = true; // the SUBACK carries the id
    id = ids.at(r).id;
  }
  const qos_level granted = m.flags.qos(); // decode() lets no QoS -1 through
  core.subscribe(from.session, filter,
                 {.qos = static_cast<std::uint8_t>(granted),
                  .front_end_bits = static_cast<std::uint8_t>(type)},
                 token_for({.what = pending_answer::kind::suback,
                            .to = from.address,
                            .session = from.session,
                            .life = at(from.session).life,
                            .topic_id = id,
                            .msg_id = m.msg_id,
                            .qos = granted}));
}

void gateway_worker::state::handle(const sender& from, const unsubscribe& m) noexcept {
  if (!from.known()) return stranger(from, false);
  std::string_view filter = m.topic;
  if (m.flags.topic_type() == topic_id_type::predefined)
    if (const std::string* name = predefined(m.topic_id)) filter = *name;
  if (filter.empty()) return send_message(from.address, 4, unsuback{.msg_id = m.msg_id});
  core.unsubscribe(from.session, filter,
                   token_for({.what = pending_answer::kind::unsuback,
                              .to = from.address,
                              .session = from.session,
                              .life = at(from.session).life,
                              .msg_id = m.msg_id}));
}

} // namespace chainring::mqttsn
