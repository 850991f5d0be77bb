// SPDX-License-Identifier: BSD-3-Clause
// PUBLISH and PUBREL from a client, and the outcomes of all requests.
//
// MQTT 3.1.1 cannot refuse a PUBLISH. A client whose message is refused gets no answer any more and
// is closed, because the answers to its later messages would come out of order (MQTT-4.6.0-2). In
// MQTT 5.0 the answer says why the message is refused, and the connection goes on.
#include <algorithm>

#include "mqtt/server_state.h"

namespace chainring::mqtt {

void server_worker::state::handle(client& c, const publish& m) noexcept {
  ++count.publishes;
  const auto qos = static_cast<std::uint8_t>(m.qos);
  if (!m.properties.subscription_ids.empty()) { // MQTT-3.3.4-6
    ++count.unexpected;
    return fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
                "a client sends no subscription identifier in PUBLISH");
  }
  if (c.v5 != nullptr && qos != 0 && !expect_answer(c, m)) return;
  const std::optional<std::string_view> name = topic_of(c, m);
  if (!name) return;
  const auto refuse = [&](statistic& why, reason_code reason) {
    ++why;
    if (qos == 0) return;
    if (c.v5 != nullptr) return answer_publish(c, m.packet_id, reason);
    end(c, broker_worker::end_reason::lost);
  };
  if (is_system_topic(*name)) return refuse(count.publishes_denied, reason_code::not_authorized);
  if (rules.set != nullptr) {
    if (!judge(c)) {
      ++count.ended_by_rules;
      return fail(c, broker_worker::end_reason::client, reason_code::not_authorized);
    }
    const access::sender sender = who(c, core.identity_of(c.session));
    if (!rules.set->publish(c.verdict, sender, *name).allowed)
      return refuse(count.publishes_denied, reason_code::not_authorized);
  }
  if (name->size() > core_broker.config().topic_size_max)
    return refuse(qos == 0 ? count.dropped_qos0 : count.publishes_refused,
                  reason_code::topic_name_invalid);
  const std::uint32_t topic = topics.intern(*name);
  if (topic == no_topic)
    return refuse(qos == 0 ? count.dropped_qos0 : count.publishes_refused,
                  reason_code::quota_exceeded);
  const std::uint64_t token = qos == 0 ? no_token
                                       : token_for({.what = pending::kind::publish,
                                                    .qos = qos,
                                                    .packet_id = m.packet_id,
                                                    .connection = number_of(c),
                                                    .life = c.life});
  publish_options options{.qos = qos, .retain = m.retain, .packet_id = m.packet_id};
  const std::span<const std::byte> properties = carried(m.properties);
  if (properties.empty()) return core.publish(*this, c.session, topic, m.payload, options, token);
  // The core knows no expiry of 0 seconds, so such a message is gone within a second.
  if (m.properties.message_expiry_s)
    options.expiry_s = std::max<std::uint32_t>(*m.properties.message_expiry_s, 1);
  core.publish_with_properties(*this, c.session, topic, m.payload, properties, options, token);
}

void server_worker::state::handle(client& c, const pubrel& m) noexcept {
  core.release_identifier(c.session, m.packet_id,
                          token_for({.what = pending::kind::release,
                                     .packet_id = m.packet_id,
                                     .connection = number_of(c),
                                     .life = c.life}));
}

void server_worker::state::settle_publish(client& c, const pending& p, outcome o) noexcept {
  if (o != outcome::accepted) ++count.publishes_refused;
  // `repeated` means that a former connection of the client has sent the message too, and that its
  // outcome is not known yet. The answer goes to that connection, so this one has to try again. So
  // has one whose message is lost: a client repeats nothing before its next connection.
  if (o != outcome::accepted && (c.v5 == nullptr || o == outcome::repeated || o == outcome::lost)) {
    c.condemned = true;
    return defer(c);
  }
  if (c.v5 != nullptr)
    return answer_publish(c, p.packet_id,
                          o == outcome::accepted   ? reason_code::success
                          : o == outcome::too_long ? reason_code::implementation_specific_error
                                                   : reason_code::quota_exceeded);
  send_ack(c, p.qos == 1 ? packet_type::puback : packet_type::pubrec, p.packet_id,
           reason_code::success);
}

void server_worker::state::settled(std::span<const settlement> all) noexcept {
  for (const settlement& s : all) {
    if (s.token == no_token) continue;
    const pending p = tokens[s.token];
    free_tokens.push_back(static_cast<std::uint32_t>(s.token));
    // The connection that asked may be over, and its number may belong to another client now.
    client* c = &clients[p.connection];
    if (c->life != p.life || c->condemned || c->at == client::phase::leaving) c = nullptr;
    switch (p.what) {
    case pending::kind::connect:
      if (c != nullptr) settle_connect(*c, p, s.outcome);
      break;
    case pending::kind::publish:
      if (c != nullptr) settle_publish(*c, p, s.outcome);
      break;
    case pending::kind::release:
      if (c != nullptr && s.outcome == outcome::repeated) { // as for a publish
        c->condemned = true;
        defer(*c);
      } else if (c != nullptr) {
        if (c->v5 != nullptr && c->v5->received != 0) --c->v5->received;
        send_ack(*c, packet_type::pubcomp, p.packet_id, reason_code::success);
      }
      break;
    case pending::kind::subscribe:
    case pending::kind::unsubscribe:
      settle_entry(c, p, s.outcome);
      break;
    case pending::kind::received:
      if (c != nullptr && s.outcome == outcome::accepted) send_pubrel(*c, p.packet_id);
      break;
    }
  }
}

} // namespace chainring::mqtt
