// SPDX-License-Identifier: BSD-3-Clause
// Sending PUBLISH and PUBREL to a client: each session has one exchange at a time (sections 6.5
// and 6.6).
//
// A client that does not know the id of the topic is sent REGISTER first, and nothing more until
// its REGACK. A message without an answer is sent again with DUP, at doubling intervals. In the end
// the client counts as lost, and the message stays in its queue. A message that the client refuses
// finally is acknowledged in its place, counted, and skipped. A message that is too long for this
// connection stays in the queue, and is skipped as long as the connection lasts.
//
// At QoS 2 the client answers with PUBREC. Once the core has made that durable, PUBREL is sent
// until its PUBCOMP, in later connections too, and the PUBLISH is never sent again.
#include <algorithm>

#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

std::uint32_t gateway_worker::state::credit(std::uint32_t n) const noexcept {
  return out->credit(address_of(n));
}

std::uint32_t gateway_worker::state::credit_of_any() const noexcept {
  return out->credit_of_any();
}

// --- names ------------------------------------------------------------------------------------

// Returns the topic id of a short name, or a predefined one, for a subscription of that type, or 0.
// Sets the type that the PUBLISH has.
std::uint16_t gateway_worker::state::fixed_id(std::uint32_t n, const delivery_item& item,
                                              topic_id_type& type) const noexcept {
  type = static_cast<topic_id_type>(item.front_end_bits);
  if (type == topic_id_type::short_name && item.name.size() == 2) return short_topic_id(item.name);
  if (type == topic_id_type::predefined && !common.connections[n].predefined_unknown)
    if (const auto p = common.predefined_ids.find(item.name); p != common.predefined_ids.end())
      return p->second;
  type = topic_id_type::normal;
  return 0;
}

gateway_worker::state::name_status gateway_worker::state::name_for(std::uint32_t n,
                                                                   const delivery_item& item,
                                                                   std::uint16_t& id,
                                                                   topic_id_type& type) noexcept {
  connection& c = at(n);
  if (id = fixed_id(n, item, type); id != 0) return name_status::known;
  const std::uint32_t r = registration_to_offer(n, item.topic);
  if (r == none) {
    ++count.registers_refused;
    return name_status::later;
  }
  if (ids.at(r).known) {
    id = c.delivered_id = ids.at(r).id;
    c.delivered_topic = item.topic;
    return name_status::known;
  }
  if (item.name.size() + 8 > out->size_max(address_of(n))) return name_status::impossible;
  c.registration_plus_1 = r + 1;
  c.phase = connection::exchange::registering;
  c.retries = 0;
  c.wanted_ticket = item.ticket;
  if (++c.register_id == 0) c.register_id = 1;
  send_register(n);
  schedule_retry(n);
  return name_status::asked;
}

// False when the client would have to be told a name that is too long for its link.
bool gateway_worker::state::can_name(std::uint32_t n, const delivery_item& item) const noexcept {
  topic_id_type type{};
  if (item.name.size() + 8 <= out->size_max(address_of(n)) || fixed_id(n, item, type) != 0)
    return true;
  const std::uint32_t r = item.topic == no_topic ? none : ids.find_by_topic(n, item.topic);
  return r != none && ids.at(r).known;
}

void gateway_worker::state::send_register(std::uint32_t n) noexcept {
  const registrations::entry& e = ids.at(at(n).registration_plus_1 - 1);
  const std::string_view name = topics.name(e.topic);
  send_message(address_of(n), name.size() + 8,
               register_topic{.topic_id = e.id, .msg_id = at(n).register_id, .topic = name});
}

// --- sending ----------------------------------------------------------------------------------

// False when the connection cannot carry a PUBLISH with that much content. What its link carries is
// asked again before a message is called too long.
inline bool gateway_worker::state::carries(connection& c, std::size_t size) noexcept {
  if (size + 9 <= c.size_max) [[likely]]
    return true;
  const std::size_t header = publish_header_size(size);
  c.size_max = static_cast<std::uint16_t>(
      std::min<std::size_t>(out->size_max(c.address), config.datagram_size_max));
  return header != 0 && header + size <= c.size_max;
}

// Skips a message that this connection cannot carry, because its content or its name of `size`
// octets is too long. At QoS 1 the message stays in the queue, and the operator's log says so once.
void gateway_worker::state::pass_over(std::uint32_t n, const delivery_item& item,
                                      std::size_t size) noexcept {
  if (item.ticket == 0) {
    ++count.dropped_too_long;
    return core.skip(n, item.ticket); // of a group, another member may get it
  }
  core.skip(n, item.ticket);
  note_too_long(n, size);
}

void gateway_worker::state::note_too_long(std::uint32_t n, std::size_t size) noexcept {
  ++count.kept_too_long;
  if (at(n).reported_too_long) return;
  at(n).reported_too_long = true;
  core.report_too_long(n, size, out->size_max(address_of(n)));
}

// A name for which the client takes no topic id is found out only when it was asked.
carriage gateway_worker::state::may_take(std::uint32_t n, const delivery_item& item) noexcept {
  if (!still_allowed(n)) return carriage::denied;
  if (!may_deliver(n, item.topic, item.name)) {
    ++count.deliveries_denied;
    return carriage::denied;
  }
  const auto size = static_cast<std::size_t>(item.content.size());
  const bool fits = carries(at(n), size);
  if (fits && can_name(n, item)) return carriage::possible;
  note_too_long(n, fits ? item.name.size() : size);
  return carriage::too_long;
}

// Returns the time in ticks until the next retransmission, after so many of them.
[[gnu::noinline]] std::uint64_t gateway_worker::state::retry_interval(unsigned retries) noexcept {
  retry_ms = now_set(common.retry_ms);
  retry_ms_max = now_set(common.retry_ms_max);
  retry_ticks = milliseconds(std::min(retry_ms, retry_ms_max));
  const std::uint64_t doubled = std::uint64_t{retry_ms} << std::min<unsigned>(retries, 16);
  return milliseconds(std::min<std::uint64_t>(doubled, retry_ms_max));
}

// Sends a message as most are: at QoS 1 or 2 for the first time, short, in a connection that is
// idle, to a client that is active and knows the topic id from the PUBLISH before. Returns `other`
// for every other message, having changed nothing.
inline gateway_worker::state::usual_status
gateway_worker::state::deliver_usual(std::uint32_t n, connection& c,
                                     const delivery_item& item) noexcept {
  if (item.ticket == 0 || item.released || item.redelivered || item.ticket == c.sent_ticket ||
      item.ticket == c.refused_ticket || c.phase != connection::exchange::idle ||
      c.rest != connection::rest_state::active)
    return usual_status::other;
  if (rules.number != 0 && (c.judged_under != rules.number || c.subscribed_under != rules.number))
    return usual_status::other;
  const std::size_t size = 7 + static_cast<std::size_t>(item.content.size());
  if (size > 0xff || size > c.size_max || !usual_retries()) return usual_status::other;
  const std::uint16_t id = c.delivered_id;
  if (id == 0 || item.topic != c.delivered_topic ||
      item.front_end_bits != static_cast<std::uint8_t>(topic_id_type::normal))
    return usual_status::other;
  const std::span<std::byte> room = out->begin(c.address, size);
  if (room.size() < size || !item.content.copy_out(room.data() + 7)) [[unlikely]]
    return usual_status::no_room;
  const std::uint16_t packet_id = delivery_packet_id(item.ticket);
  write_short_publish_header(
      room.data(),
      {.flags = flags{}.with_qos(static_cast<qos_level>(item.qos)).with_retain(item.retain),
       .topic_id = id,
       .msg_id = packet_id},
      size);
  out->commit(size);
  c.ticket = c.sent_ticket = item.ticket;
  c.packet_id = packet_id;
  c.topic_id = id;
  c.phase = connection::exchange::publishing;
  c.sent_qos = static_cast<qos_level>(item.qos);
  c.sent_type = topic_id_type::normal;
  c.retries = c.corrections = 0;
  c.retry_tsc = now_tsc + retry_ticks;
  if (c.timer_due == 0 || c.retry_tsc < c.timer_due) [[unlikely]]
    arm(n);
  return usual_status::sent;
}

// The calls of the usual way are small ones, once a message.
[[gnu::flatten]] std::size_t
gateway_worker::state::deliver(std::uint32_t n, std::span<const delivery_item> items) noexcept {
  if (items.size() != 1) [[unlikely]]
    return deliver_each(n, items);
  switch (deliver_usual(n, at(n), items.front())) {
  case usual_status::sent:
    return 1;
  case usual_status::no_room:
    schedule_retry(n);
    return 0;
  case usual_status::other:
    break;
  }
  return deliver_each(n, items);
}

[[gnu::noinline]] std::size_t
gateway_worker::state::deliver_each(std::uint32_t n,
                                    std::span<const delivery_item> items) noexcept {
  connection& c = at(n);
  for (std::size_t taken = 0; taken < items.size(); ++taken) {
    const delivery_item& item = items[taken];
    if (c.phase != connection::exchange::idle) return taken;
    if (item.released) {
      if (!offer_release(n, item)) return taken;
      continue;
    }
    if (item.ticket == 0 ? c.refused_topic_plus_1 != 0 && item.topic + 1 == c.refused_topic_plus_1
                         : item.ticket == c.refused_ticket) {
      // The client has refused the name of this message.
      ++count.refused_by_client;
      if (item.ticket == 0) c.refused_topic_plus_1 = 0;
      core.ack(n, item.ticket, broker_worker::ack_reason::refused);
      continue;
    }
    if (!still_allowed(n)) return taken;
    if (!may_deliver(n, item.topic, item.name)) {
      ++count.deliveries_denied;
      core.ack(n, item.ticket, broker_worker::ack_reason::denied);
      continue;
    }
    const auto size = static_cast<std::size_t>(item.content.size());
    if (!carries(c, size)) {
      pass_over(n, item, size);
      continue;
    }
    std::uint16_t id = 0;
    topic_id_type type{};
    switch (name_for(n, item, id, type)) {
    case name_status::asked:
      return taken;
    case name_status::impossible:
      pass_over(n, item, item.name.size());
      continue;
    case name_status::later: // the timer tries again
      if (item.ticket == 0) {
        ++count.dropped_no_id;
        core.skip(n, 0); // where it is a group's, another member may have a topic id for it
        continue;
      }
      // A client that is awake may sleep again, because a topic id may not become free for long.
      if (c.rest == connection::rest_state::awake)
        c.names_lacking = true;
      else
        schedule_retry(n);
      return taken;
    case name_status::known:
      break;
    }
    const std::size_t header = publish_header_size(size);
    const std::span<std::byte> room = out->begin(address_of(n), header + size);
    if (room.size() < header + size || !item.content.copy_out(room.data() + header)) {
      schedule_retry(n);
      return taken;
    }
    const bool again = item.redelivered || (item.ticket != 0 && item.ticket == c.sent_ticket);
    const auto packet_id =
        static_cast<std::uint16_t>(item.ticket == 0 ? 0 : delivery_packet_id(item.ticket));
    encode_publish_header(room,
                          {.flags = flags{}
                                        .with_qos(static_cast<qos_level>(item.qos))
                                        .with_topic_type(type)
                                        .with_retain(item.retain)
                                        .with_dup(item.ticket != 0 && again),
                           .topic_id = id,
                           .msg_id = packet_id},
                          size);
    out->commit(header + size);
    if (item.ticket == 0) {
      c.volatile_sent_type = type;
      c.volatile_sent_id = id;
      continue;
    }
    if (again) ++count.retransmitted;
    if (item.ticket != c.sent_ticket) c.retries = c.corrections = 0;
    c.phase = connection::exchange::publishing;
    c.ticket = c.sent_ticket = item.ticket;
    c.packet_id = packet_id;
    c.topic_id = id;
    c.sent_type = type;
    c.sent_qos = static_cast<qos_level>(item.qos);
    schedule_retry(n);
  }
  return items.size();
}

// Goes on with a message that the client received in an earlier connection. Returns false when it
// cannot be sent now.
bool gateway_worker::state::offer_release(std::uint32_t n, const delivery_item& item) noexcept {
  if (out->credit(address_of(n)) == 0) {
    schedule_retry(n);
    return false;
  }
  connection& c = at(n);
  c.phase = connection::exchange::releasing;
  c.retries = c.corrections = 0;
  c.ticket = item.ticket;
  c.packet_id = delivery_packet_id(item.ticket);
  send_pubrel(n);
  schedule_retry(n);
  return true;
}

void gateway_worker::state::send_pubrel(std::uint32_t n) noexcept {
  ++count.pubrels_sent;
  send_message(address_of(n), 4, pubrel{.msg_id = at(n).packet_id});
}

// --- answers and silence ----------------------------------------------------------------------

void gateway_worker::state::withdrawn(std::uint32_t n, std::uint64_t ticket) noexcept {
  connection& c = at(n);
  const bool under_way =
      c.phase == connection::exchange::publishing || c.phase == connection::exchange::releasing;
  if (!under_way || c.ticket != ticket) return;
  c.withdrawn_ticket = ticket;
  finish_exchange(n);
}

void gateway_worker::state::handle(const sender& from, const puback& m) noexcept {
  if (!from.known()) return stranger(from, false);
  connection& c = at(from.session);
  const bool answers_it = c.phase == connection::exchange::publishing && m.msg_id == c.packet_id;
  if (m.code == return_code::invalid_topic_id && (answers_it || m.msg_id == 0))
    return unknown_id(from.session, m);
  if (!answers_it) {
    ++count.unexpected; // the PUBACK is late, doubled or made up, and answers no PUBLISH under way
    // A message that was taken back from a slow client: the core learns that the client answers.
    if (c.withdrawn_ticket == 0 || m.msg_id != delivery_packet_id(c.withdrawn_ticket)) return;
    core.ack(from.session, std::exchange(c.withdrawn_ticket, 0));
    return;
  }
  if (m.code == return_code::congestion) { // sent again later; a client that answers is not lost
    c.retries = 0;
    return schedule_retry(from.session);
  }
  const bool refused = m.code == return_code::not_supported;
  if (c.sent_qos == qos_level::two && !refused) { // only PUBREC says that the client has it
    ++count.unexpected;
    return;
  }
  if (refused) ++count.refused_by_client;
  core.ack(from.session, c.ticket,
           refused ? broker_worker::ack_reason::refused : broker_worker::ack_reason::delivered);
  finish_exchange(from.session);
}

// A PUBREC counts for the message under way only. A repeated one gets PUBREL again.
void gateway_worker::state::handle(const sender& from, const pubrec& m) noexcept {
  if (!from.known()) return stranger(from, false);
  connection& c = at(from.session);
  const bool first = c.phase == connection::exchange::publishing && c.sent_qos == qos_level::two;
  if ((!first && c.phase != connection::exchange::releasing) || m.msg_id != c.packet_id) {
    ++count.unexpected;
    return;
  }
  if (first) {
    c.phase = connection::exchange::releasing;
    c.retries = 0;
    schedule_retry(from.session);
  }
  core.received(from.session, c.ticket,
                token_for({.what = pending_answer::kind::pubrel,
                           .to = from.address,
                           .session = from.session,
                           .life = c.life,
                           .msg_id = m.msg_id}));
}

void gateway_worker::state::handle(const sender& from, const pubcomp& m) noexcept {
  if (!from.known()) return stranger(from, false);
  connection& c = at(from.session);
  if (c.phase != connection::exchange::releasing || m.msg_id != c.packet_id) {
    ++count.unexpected;
    return;
  }
  core.ack(from.session, c.ticket);
  finish_exchange(from.session);
}

// Handles a PUBACK that says that the client does not know a topic id: the id of the PUBLISH under
// way or, when the message id is 0, of one at QoS 0. An id exists once for each topic id type.
void gateway_worker::state::unknown_id(std::uint32_t n, const puback& m) noexcept {
  connection& c = at(n);
  const bool at_qos_0 = m.msg_id == 0;
  topic_id_type type = c.sent_type;
  bool sent = m.topic_id == c.topic_id;
  if (at_qos_0) { // several may have been sent, and only the last one is remembered
    const bool last = m.topic_id == c.volatile_sent_id;
    const bool normal = ids.find_by_id(n, m.topic_id) != none;
    type = last ? c.volatile_sent_type : normal ? topic_id_type::normal : topic_id_type::predefined;
    sent = last || normal || predefined(m.topic_id) != nullptr;
  }
  if (!sent) {
    ++count.unexpected;
    return;
  }
  ++count.ids_forgotten;
  if (type == topic_id_type::predefined) c.predefined_unknown = true;
  if (type == topic_id_type::normal)
    if (const std::uint32_t r = ids.find_by_id(n, m.topic_id); r != none) {
      ids.at(r).known = false;
      forget_ids(n);
    }
  if (at_qos_0) return;
  // A short name has no other form, so its message counts as refused. The same happens when the
  // client keeps on forgetting ids, so that it gets the next message.
  const std::uint64_t ticket = c.ticket;
  if (type == topic_id_type::short_name || ++c.corrections > now_set(common.retries_max)) {
    ++count.refused_by_client;
    core.ack(n, ticket, broker_worker::ack_reason::refused);
  } else {
    core.give_back(n, ticket);
  }
  const std::uint8_t corrections = c.corrections;
  finish_exchange(n);
  c.corrections = corrections;
}

void gateway_worker::state::retransmit(std::uint32_t n) noexcept {
  connection& c = at(n);
  c.retry_tsc = 0;
  if (c.phase == connection::exchange::idle) return go_on(n);
  // When the transmit buffer is full, the retry is postponed and not counted against the client.
  if (out->credit(address_of(n)) == 0) return schedule_retry(n);
  if (c.retries >= now_set(common.retries_max))
    return c.rest == connection::rest_state::awake ? fall_asleep(n, no_token) : lose(n);
  ++c.retries;
  if (c.phase == connection::exchange::registering) {
    ++count.retransmitted;
    send_register(n);
    schedule_retry(n);
    return;
  }
  if (c.phase == connection::exchange::releasing) {
    ++count.retransmitted;
    send_pubrel(n);
    schedule_retry(n);
    return;
  }
  // The core offers the message again in this burst, and deliver() recognises it by its ticket.
  c.phase = connection::exchange::idle;
  const std::uint64_t ticket = c.ticket;
  c.ticket = 0;
  core.give_back(n, ticket);
  go_on(n);
}

} // namespace chainring::mqttsn
