// SPDX-License-Identifier: BSD-3-Clause
// Wills: how a client is asked for its will, and how it changes the will later.
//
// A CONNECT with the will flag is answered with WILLTOPICREQ, the client's WILLTOPIC with
// WILLMSGREQ, and its WILLMSG opens the session and leads to CONNACK. Until then the client has no
// session, and only a place in the table of will_prompts.h. The session that it has from before,
// and the connection to it, go on meanwhile.
//
// The client sends again what was not answered. A repeated CONNECT begins anew. A repeated
// WILLTOPIC takes the place of the first one and is answered again. What opened the session, when
// it is repeated, gets CONNACK again.
//
// An empty WILLTOPIC means that the client wants no will, so there is no message to ask for. The
// access rules judge the topic of a will like that of a PUBLISH.
#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

namespace {
// What a client gets when its will cannot be had: the protocol has no return code for it.
constexpr connack refused_will{.code = return_code::not_supported};
} // namespace

// Asks a client for its will.
void gateway_worker::state::prompt(const sender& from, const connect& m) noexcept {
  will_prompt* const p = prompts.begin(from.address, source_of(from.address));
  if (p == nullptr) {
    ++count.will_prompts_refused;
    return send_message(from.address, 3, connack{.code = return_code::congestion});
  }
  ++count.will_prompts;
  count.will_prompts_expired += prompts.take_given_up();
  p->received_tsc = from.received_tsc;
  p->expires_tsc = now_tsc + milliseconds(std::uint64_t{config.will_prompt_s} * 1000);
  p->connect_size = static_cast<std::uint16_t>(encode_connect(p->connect, m));
  send_message(from.address, 2, willtopicreq{});
}

void gateway_worker::state::forget_old_prompts() noexcept {
  if (now_tsc < prompts_looked_at_tsc) return;
  prompts_looked_at_tsc = now_tsc + milliseconds(1000);
  count.will_prompts_expired += prompts.erase_expired(now_tsc);
}

// Opens the session of a client that was asked for its will; a null pointer means that it has none.
void gateway_worker::state::finish_prompt(const sender& from, will_prompt& p,
                                          const will_message* will) noexcept {
  message m;
  const auto datagram = p.connect;
  const sender then{from.address, none, p.received_tsc};
  const connect* c = nullptr;
  if (decode({datagram.data(), p.connect_size}, m) == decode_status::ok) c = m.get<connect>();
  // The access rules may have changed since the client was asked.
  if (c == nullptr || !may_connect(from.address, c->client_id)) {
    ++count.connects_denied;
    return refuse_prompt(from, p);
  }
  if (will != nullptr && !may_have_will(from, c->client_id, will->topic)) {
    ++count.publishes_denied;
    return refuse_prompt(from, p);
  }
  prompts.erase(p);
  open(then, *c, will);
}

// Refuses the will of a client that is asked for it, and with it the CONNECT.
void gateway_worker::state::refuse_prompt(const sender& from, will_prompt& p) noexcept {
  ++count.connects_refused;
  prompts.erase(p);
  send_message(from.address, 3, refused_will);
}

// Handles a WILLTOPIC or WILLMSG of a client that is not asked for it. The one that opened its
// session was repeated, if its CONNACK was lost.
void gateway_worker::state::unasked(const sender& from) noexcept {
  if (!from.known()) return stranger(from, false);
  const connection& c = at(from.session);
  if (c.prompted == connection::prompt::answered)
    return send_message(from.address, 3, connack{.code = return_code::accepted});
  if (c.prompted == connection::prompt::none) ++count.unexpected;
}

bool gateway_worker::state::may_have_will(const sender& from, std::string_view client_id,
                                          std::string_view topic) const noexcept {
  if (is_system_topic(topic)) return false;
  if (rules.set == nullptr) return true;
  const access::sender client = who(from.address, client_id);
  return rules.set->publish(rules.set->judge(client), client, topic).allowed;
}

void gateway_worker::state::handle(const sender& from, const willtopic& m) noexcept {
  will_prompt* const p = prompts.find(from.address);
  if (p == nullptr) return unasked(from);
  if (m.erase) return finish_prompt(from, *p, nullptr);
  if (m.topic.size() > topic_length_max || !valid_topic_name(m.topic))
    return refuse_prompt(from, *p);
  message kept;
  const connect* c = nullptr;
  if (decode({p->connect.data(), p->connect_size}, kept) == decode_status::ok)
    c = kept.get<connect>();
  if (c == nullptr || !may_have_will(from, c->client_id, m.topic)) {
    ++count.publishes_denied;
    return refuse_prompt(from, *p);
  }
  p->topic_known = true;
  p->topic_flags = m.flags;
  p->topic_size = static_cast<std::uint16_t>(m.topic.size());
  std::ranges::copy(m.topic, p->topic.begin());
  send_message(from.address, 2, willmsgreq{});
}

void gateway_worker::state::handle(const sender& from, const willmsg& m) noexcept {
  will_prompt* const p = prompts.find(from.address);
  if (p == nullptr) return unasked(from);
  if (!p->topic_known) {
    ++count.unexpected;
    return;
  }
  const auto topic = p->topic; // finish_prompt() gives the place up
  const will_message will{.topic = {topic.data(), p->topic_size},
                          .content = m.data,
                          .qos = static_cast<std::uint8_t>(p->topic_flags.qos()),
                          .retain = p->topic_flags.retain()};
  finish_prompt(from, *p, &will);
}

// --- changes ----------------------------------------------------------------------------------

void gateway_worker::state::handle(const sender& from, const willtopicupd& m) noexcept {
  if (!from.known()) return stranger(from, false);
  const auto refuse = [&] {
    send_message(from.address, 3, willtopicresp{.code = return_code::not_supported});
  };
  if (!m.erase && (m.topic.size() > topic_length_max || !valid_topic_name(m.topic)))
    return refuse();
  if (!m.erase && !may_publish_to(from, m.topic)) {
    ++count.publishes_denied;
    return refuse();
  }
  ++count.will_updates;
  const std::uint64_t token = token_for({.what = pending_answer::kind::willtopicresp,
                                         .to = from.address,
                                         .session = from.session,
                                         .life = at(from.session).life});
  if (m.erase) return core.set_will(from.session, nullptr, token);
  const will_message will{.topic = m.topic,
                          .content = {},
                          .qos = static_cast<std::uint8_t>(m.flags.qos()),
                          .retain = m.flags.retain()};
  core.set_will(from.session, &will, token, will_part::topic);
}

void gateway_worker::state::handle(const sender& from, const willmsgupd& m) noexcept {
  if (!from.known()) return stranger(from, false);
  ++count.will_updates;
  const will_message will{.topic = {}, .content = m.data};
  core.set_will(from.session, &will,
                token_for({.what = pending_answer::kind::willmsgresp,
                           .to = from.address,
                           .session = from.session,
                           .life = at(from.session).life}),
                will_part::content);
}

} // namespace chainring::mqttsn
