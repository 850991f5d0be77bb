// SPDX-License-Identifier: BSD-3-Clause
// Messages to a client, and what it answers.
//
// At QoS 2 the client answers with PUBREC. Once the core has made that durable, PUBREL is sent, in
// later connections too, and the PUBLISH is never sent again.
#include <algorithm>

#include "mqtt/server_state.h"

namespace chainring::mqtt {

namespace {
/// The messages that the core may offer a client at one time.
constexpr std::uint32_t offered_max = 16;
} // namespace

std::uint32_t server_worker::state::credit(std::uint32_t session) const noexcept {
  const std::uint32_t n = session < of_session.size() ? of_session[session] : 0;
  if (n == 0) return 0;
  const client& c = clients[n - 1];
  if (c.at != client::phase::open || c.condemned) return 0;
  if (c.out.size() < config.out_connection_max && (memory < config.memory_max || c.out.size() == 0))
    return offered_max;
  c.blocked = true;
  return 0;
}

bool server_worker::state::may_read(client& c, std::string_view topic) noexcept {
  if (rules.set == nullptr) return true;
  (void)judge(c);
  const access::sender reader = who(c, core.identity_of(c.session));
  return c.verdict.connect().allowed && rules.set->subscribe(c.verdict, reader, topic).allowed;
}

carriage server_worker::state::may_take(std::uint32_t session, const delivery_item& item) noexcept {
  client* const c = of(session);
  if (c == nullptr) return carriage::denied;
  if (!may_read(*c, item.name)) {
    ++count.deliveries_denied;
    return carriage::denied;
  }
  if (c->v5 == nullptr) return carriage::possible;
  const auto size = static_cast<std::size_t>(item.content.size());
  publish p{.qos = qos_level(item.qos), .packet_id = 1, .topic = item.name};
  if (item.extras != nullptr) add_carried(*item.extras, p.properties);
  if (!c->v5->identified.empty()) p.properties.subscription_ids = ids_for(*c, item);
  return publish_header_size(c->speaks, p, size) + size <= packet_size_limit(*c)
             ? carriage::possible
             : carriage::too_long;
}

std::size_t server_worker::state::deliver(std::uint32_t session,
                                          std::span<const delivery_item> items) noexcept {
  client* const c = of(session);
  if (c == nullptr || c->at != client::phase::open || c->condemned) return 0;
  std::size_t taken = 0;
  for (const delivery_item& item : items) {
    if (c->out.size() >= config.out_connection_max) {
      c->blocked = true;
      return taken;
    }
    if (item.released) {
      const std::uint16_t id = delivery_packet_id(item.ticket);
      c->sent.push_back({item.ticket, id, 2, true});
      send_pubrel(*c, id);
      ++taken;
      continue;
    }
    if (!may_read(*c, item.name)) {
      ++count.deliveries_denied;
      core.ack(session, item.ticket, broker_worker::ack_reason::denied);
      ++taken;
      continue;
    }
    const auto size = static_cast<std::size_t>(item.content.size());
    publish p{.dup = item.redelivered && item.ticket != 0,
              .qos = qos_level(item.qos),
              .retain = item.retain,
              .packet_id = item.ticket == 0 ? std::uint16_t{0} : delivery_packet_id(item.ticket),
              .topic = item.name};
    if (c->v5 != nullptr && item.extras != nullptr) add_carried(*item.extras, p.properties);
    if (c->v5 != nullptr && !c->v5->identified.empty())
      p.properties.subscription_ids = ids_for(*c, item);
    const std::uint16_t new_alias = c->v5 != nullptr ? choose_alias(*c, p) : std::uint16_t{0};
    const std::size_t header = publish_header_size(c->speaks, p, size);
    // What the client cannot take counts as sent to it (MQTT-3.1.2-25). Of a group, another member
    // may get it.
    if (header + size > packet_size_limit(*c)) {
      ++count.dropped_too_long;
      core.ack(session, item.ticket, broker_worker::ack_reason::refused);
      ++taken;
      continue;
    }
    bool whole = false;
    write(*c, header + size, [&](std::span<std::byte> room) {
      (void)encode_publish_header(room, c->speaks, p, size);
      whole = item.content.copy_out(room.data() + header);
      return whole ? header + size : 0;
    });
    if (!whole) return taken; // memory was lost meanwhile
    if (new_alias != 0) keep_alias(*c, item.name);
    ++taken;
    ++count.delivered;
    if (p.dup) ++count.redelivered;
    if (item.ticket != 0) c->sent.push_back({item.ticket, p.packet_id, item.qos, false});
  }
  return taken;
}

void server_worker::state::withdrawn(std::uint32_t session, std::uint64_t ticket) noexcept {
  if (client* const c = of(session); c != nullptr)
    std::erase_if(c->sent, [&](const under_way& u) { return u.ticket == ticket; });
}

void server_worker::state::send_pubrel(client& c, std::uint16_t packet_id,
                                       reason_code reason) noexcept {
  send_ack(c, packet_type::pubrel, packet_id, reason);
}

// A client of MQTT 5.0 has refused a message. It is sent to nobody again.
void server_worker::state::settle_refused(client& c, std::vector<under_way>::iterator u) noexcept {
  ++count.deliveries_refused;
  const std::uint64_t ticket = u->ticket;
  c.sent.erase(u);
  core.ack(c.session, ticket, broker_worker::ack_reason::rejected);
  core.resume(c.session);
}

// An acknowledgement that is not the next one of a message under way. One of an unknown message is
// doubled, or its message was withdrawn, and that is nobody's fault.
void server_worker::state::answered_wrongly(client& c) noexcept {
  ++count.unexpected;
  fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
       "this is not the acknowledgement of the message's QoS");
}

void server_worker::state::handle(client& c, const puback& m) noexcept {
  const auto u = std::ranges::find(c.sent, m.packet_id, &under_way::packet_id);
  if (u == c.sent.end()) {
    ++count.unexpected;
    return;
  }
  if (u->qos != 1) return answered_wrongly(c);
  if (failed(m.reason)) return settle_refused(c, u);
  const std::uint64_t ticket = u->ticket;
  c.sent.erase(u);
  core.ack_and_resume(c.session, ticket);
}

// A repeated PUBREC, or one for a message that is gone, gets PUBREL as well, because the client
// waits for it.
void server_worker::state::handle(client& c, const pubrec& m) noexcept {
  const auto u = std::ranges::find(c.sent, m.packet_id, &under_way::packet_id);
  if (u == c.sent.end()) {
    ++count.unexpected;
    if (failed(m.reason)) return; // nothing goes on with this identifier (section 4.3.3)
    return send_pubrel(c, m.packet_id, reason_code::packet_identifier_not_found);
  }
  if (u->qos != 2) return answered_wrongly(c);
  if (failed(m.reason) && !u->received) return settle_refused(c, u);
  u->received = true;
  core.received(c.session, u->ticket,
                token_for({.what = pending::kind::received,
                           .packet_id = m.packet_id,
                           .connection = number_of(c),
                           .life = c.life}));
}

void server_worker::state::handle(client& c, const pubcomp& m) noexcept {
  const auto u = std::ranges::find(c.sent, m.packet_id, &under_way::packet_id);
  if (u == c.sent.end()) {
    ++count.unexpected;
    return;
  }
  if (!u->received) return answered_wrongly(c);
  const std::uint64_t ticket = u->ticket;
  c.sent.erase(u);
  core.ack_and_resume(c.session, ticket);
}

} // namespace chainring::mqtt
