// SPDX-License-Identifier: BSD-3-Clause
// PUBLISH and PUBREL from a client, and the answers to all requests that the core has settled.
//
// A PUBLISH at QoS 2 is answered with PUBREC, once the message and its identifier are durable, or
// with PUBACK where it is refused. The DUP flag means nothing; the core knows which identifiers are
// open. PUBREL is always answered with PUBCOMP, because a client repeats it until it has one.
#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

void gateway_worker::state::refuse_publish(const sender& from, const publish& m,
                                           return_code code) noexcept {
  if (code == return_code::invalid_topic_id) ++count.refused_topic;
  if (code == return_code::not_supported) ++count.refused_unsupported;
  if (m.flags.qos() == qos_level::minus_one) return; // a sender at QoS -1 waits for no answer
  send_message(from.address, 7, puback{.topic_id = m.topic_id, .msg_id = m.msg_id, .code = code});
}

// Refuses what the access rules deny. A sender at QoS 0 or -1 waits for no answer.
void gateway_worker::state::deny_publish(const sender& from, const publish& m) noexcept {
  ++count.publishes_denied;
  if (m.flags.qos() == qos_level::minus_one || m.flags.qos() == qos_level::zero) return;
  send_message(
      from.address, 7,
      puback{.topic_id = m.topic_id, .msg_id = m.msg_id, .code = return_code::not_supported});
}

// Returns the topic that a PUBLISH names, or no_topic with the return code to answer: "not
// supported" means that the access rules deny the topic. Takes a name
// that stands in front of the data away from `data`.
std::uint32_t gateway_worker::state::topic_of(const sender& from, const publish& m, octets& data,
                                              return_code& code) noexcept {
  code = return_code::invalid_topic_id;
  std::string_view name;
  std::array<char, 2> two{};
  switch (m.flags.topic_type()) {
  case topic_id_type::normal: {
    // Some clients send QoS -1 with the length of a name as the topic id and the name in front of
    // the data. That is not in the specification, so an option has to allow it.
    if (m.flags.qos() == qos_level::minus_one) {
      if (!config.names_at_qos_minus_one || m.topic_id > data.size()) return no_topic;
      name = {reinterpret_cast<const char*>(data.data()), m.topic_id};
      if (name.size() > topic_length_max || !valid_topic_name(name)) return no_topic;
      data = data.subspan(name.size());
      if (!may_publish_to(from, name)) {
        code = return_code::not_supported;
        return no_topic;
      }
      break;
    }
    if (!from.known()) return no_topic;
    const std::uint32_t r = ids.find_by_id(from.session, m.topic_id);
    if (r == none) return no_topic;
    if (may_publish(from, r)) return ids.at(r).topic;
    code = return_code::not_supported;
    return no_topic;
  }
  case topic_id_type::predefined: {
    const std::string* found = predefined(m.topic_id);
    if (found == nullptr) return no_topic;
    name = *found;
    break;
  }
  case topic_id_type::short_name:
    two = short_topic_name(m.topic_id);
    name = {two.data(), two.size()};
    if (!valid_topic_name(name)) return no_topic;
    break;
  default:
    return no_topic;
  }
  if (m.flags.topic_type() != topic_id_type::normal &&
      !may_publish(from, m.flags.topic_type(), m.topic_id, name)) {
    code = return_code::not_supported;
    return no_topic;
  }
  const std::uint32_t topic = topics.intern(name);
  if (topic == no_topic) code = return_code::congestion;
  return topic;
}

void gateway_worker::state::handle(const sender& from, const publish& m) noexcept {
  const qos_level qos = m.flags.qos();
  if (!from.known() && qos != qos_level::minus_one) return stranger(from, false);
  return_code code{};
  octets data = m.data;
  const std::uint32_t topic = topic_of(from, m, data, code);
  if (topic == no_topic)
    return code == return_code::not_supported ? deny_publish(from, m)
                                              : refuse_publish(from, m, code);
  if (qos == qos_level::minus_one) ++count.published_minus_one;
  stage(from.known() ? from.session : no_session, m, data, topic);
}

void gateway_worker::state::handle(const sender& from, const pubrel& m) noexcept {
  if (!from.known()) return stranger(from, false);
  ++count.pubrels;
  core.release_identifier(from.session, m.msg_id,
                          token_for({.what = pending_answer::kind::pubcomp,
                                     .to = from.address,
                                     .session = from.session,
                                     .life = at(from.session).life,
                                     .msg_id = m.msg_id}));
}

std::uint64_t gateway_worker::state::token_for(const pending_answer& a) {
  if (free_answers.empty()) {
    answers.push_back(a);
    return answers.size() - 1;
  }
  const std::uint32_t at = free_answers.back();
  free_answers.pop_back();
  answers[at] = a;
  return at;
}

// Makes more places for answers. It is called a few times in the life of a worker.
[[gnu::noinline, gnu::cold]] void gateway_worker::state::make_publish_answers() noexcept {
  const auto first = static_cast<std::uint32_t>(publish_answers.size());
  publish_answers.resize(std::max<std::size_t>(1024, 2 * publish_answers.size()));
  for (std::uint32_t i = first; i < publish_answers.size(); ++i)
    publish_answers[i].next = i + 1 < publish_answers.size() ? i + 1 : none;
  free_publish_answer = first;
}

// The address of the answer is that of the connection, because a connection that gets another
// address counts as another life.
[[gnu::flatten]] void gateway_worker::state::answer_publish(const settlement& s) noexcept {
  const auto i = static_cast<std::uint32_t>(s.token);
  publish_answer& a = publish_answers[i];
  a.next = free_publish_answer;
  free_publish_answer = i;
  const connection& c = at(a.session);
  // The connection that asked is over, and its address may belong to another client now.
  if (c.life != a.life) return;
  // The answer of the first copy follows, or the client sends it again.
  if (s.outcome == outcome::repeated || s.outcome == outcome::lost) return;
  if (s.outcome == outcome::accepted && (s.token & qos2_token) != 0)
    return send_message(c.address, 4, pubrec{.msg_id = a.msg_id});
  // A refusal is a PUBACK at every QoS.
  const return_code code = s.outcome == outcome::accepted     ? return_code::accepted
                           : s.outcome == outcome::congestion ? return_code::congestion
                                                              : return_code::not_supported;
  const std::span<std::byte> room = out->begin(c.address, 7);
  if (room.size() < 7) { // the client repeats its PUBLISH
    ++count.answers_dropped;
    return;
  }
  write_puback(room.data(), {.topic_id = a.topic_id, .msg_id = a.msg_id, .code = code});
  out->commit(7);
}

void gateway_worker::state::settled(std::span<const settlement> all) noexcept {
  for (const settlement& s : all) {
    if (is_publish_token(s.token)) {
      answer_publish(s);
      continue;
    }
    if (s.token == no_token) continue;
    const pending_answer a = answers[s.token];
    free_answers.push_back(static_cast<std::uint32_t>(s.token));
    // The connection that asked is over, and its address may belong to another client now.
    if (a.session != none && at(a.session).life != a.life) continue;
    // The answer of the first copy follows, or the client asks again.
    if (s.outcome == outcome::repeated || s.outcome == outcome::lost) continue;
    const return_code code = s.outcome == outcome::accepted     ? return_code::accepted
                             : s.outcome == outcome::congestion ? return_code::congestion
                                                                : return_code::not_supported;
    switch (a.what) {
    case pending_answer::kind::connack:
      if (connection& c = at(a.session); c.prompted == connection::prompt::asked)
        c.prompted =
            code == return_code::accepted ? connection::prompt::answered : connection::prompt::none;
      send_message(a.to, 3, connack{.code = code});
      break;
    case pending_answer::kind::willtopicresp:
      send_message(a.to, 3, willtopicresp{.code = code});
      break;
    case pending_answer::kind::willmsgresp:
      send_message(a.to, 3, willmsgresp{.code = code});
      break;
    case pending_answer::kind::disconnect:
      send_message(a.to, 2, disconnect{});
      break;
    case pending_answer::kind::suback: {
      const bool accepted = code == return_code::accepted;
      send_message(a.to, 8,
                   suback{.flags = flags{}.with_qos(accepted ? a.qos : qos_level::zero),
                          .topic_id = static_cast<std::uint16_t>(accepted ? a.topic_id : 0),
                          .msg_id = a.msg_id,
                          .code = code});
      break;
    }
    case pending_answer::kind::pubcomp:
      send_message(a.to, 4, pubcomp{.msg_id = a.msg_id});
      break;
    case pending_answer::kind::pubrel:
      // The client may have answered already, in the same burst, or the message may be gone.
      if (connection& c = at(a.session); s.outcome == outcome::accepted &&
                                         c.phase == connection::exchange::releasing &&
                                         c.packet_id == a.msg_id)
        send_pubrel(a.session);
      break;
    case pending_answer::kind::unsuback: // an UNSUBACK carries no return code
      send_message(a.to, 4, unsuback{.msg_id = a.msg_id});
      break;
    }
  }
}

} // namespace chainring::mqttsn
