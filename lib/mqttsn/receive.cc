// SPDX-License-Identifier: BSD-3-Clause
// Receiving datagrams: each is decoded, its sender is found, and the handler of its type is called.
// The dispatch visits every type of all_messages, so a message without a handler does not compile.
//
// Nearly all datagrams are a PUBLISH or its answer, from a client with a connection, and nothing
// about them is to be refused. receive_usual() handles these in few instructions. It changes
// nothing when it meets anything else, which then goes the general way from its beginning.
#include <algorithm>
#include <array>
#include <rte_cycles.h>

#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

gateway_worker::state::sender gateway_worker::state::find(client_address from,
                                                          std::uint64_t received_tsc) noexcept {
  sender s{from, none, received_tsc};
  const auto found = common.addresses->get(from);
  if (!found || !serves(*found, from)) return s;
  s.session = *found;
  senders.note(senders.hash(from), *found);
  return s;
}

// Answers a sender without a session with DISCONNECT, unless it had one too recently.
void gateway_worker::state::stranger(const sender& from, bool by_disconnect) noexcept {
  ++count.unknown_source;
  if (!strangers.may_answer(from.address, by_disconnect, now_tsc)) return;
  ++count.strangers_told;
  send_message(from.address, 2, disconnect{});
}

// Refuses a well-formed message that has a reserved value in a field, by the answer of its type.
void gateway_worker::state::refuse_field(const sender& from, const message& m) noexcept {
  constexpr auto refused = return_code::not_supported;
  ++count.malformed;
  const auto* p = m.get<publish>();
  if (p != nullptr && p->flags.qos() == qos_level::minus_one)
    return; // a sender at QoS -1 waits for no answer
  if (m.get<connect>() != nullptr)
    send_message(from.address, 3, connack{.code = refused});
  else if (will_prompt* const asked =
               m.get<willtopic>() != nullptr ? prompts.find(from.address) : nullptr)
    refuse_prompt(from, *asked);
  else if (!from.known())
    stranger(from, false);
  else if (m.get<willtopicupd>() != nullptr)
    send_message(from.address, 3, willtopicresp{.code = refused});
  else if (p != nullptr)
    send_message(from.address, 7,
                 puback{.topic_id = p->topic_id, .msg_id = p->msg_id, .code = refused});
  else if (const auto* q = m.get<subscribe>())
    send_message(from.address, 8, suback{.msg_id = q->msg_id, .code = refused});
  else if (const auto* u = m.get<unsubscribe>())
    send_message(from.address, 4, unsuback{.msg_id = u->msg_id}); // it names no subscription
}

// Handles a datagram, or the message that a forwarder has put a header in front of.
[[gnu::noinline]] void
gateway_worker::state::receive(const sender& from, std::span<const std::byte> datagram) noexcept {
  message m;
  const auto status = decode(datagram, m);
  if (status != decode_status::ok && status != decode_status::bad_field) {
    ++count.malformed;
    return;
  }
  if (m.trailing != 0) ++count.trailing_octets;
  sender s = find(from.address, from.received_tsc);
  s.to_group = from.to_group;
  if (s.known()) at(s.session).heard_tsc = std::max(at(s.session).heard_tsc, s.received_tsc);
  if (s.known() && !still_allowed(s.session)) return;
  if (status == decode_status::bad_field) return refuse_field(s, m);
  std::visit([&](const auto& body) { handle(s, body); }, m.body);
}

// What receive_usual() does with each type of visit_usual(). A call returns false, having changed
// nothing that the general way would not change, when that has to handle the message.
struct gateway_worker::state::usual {
  state& worker;
  connection& c;
  const std::uint32_t session;
  const client_address& from;
  const std::uint64_t received_tsc;

  template <class Message> [[gnu::always_inline]] bool operator()(const Message& m) const noexcept {
    c.heard_tsc = std::max(c.heard_tsc, received_tsc);
    return take(m);
  }

 private:
  // Stages a PUBLISH with a topic id that its client has registered, if the client may send it.
  [[gnu::always_inline]] bool take(const publish& m) const noexcept {
    if (m.flags.topic_type() != topic_id_type::normal || m.flags.qos() == qos_level::minus_one)
      return false;
    const bool known =
        m.topic_id == c.published_id && m.topic_id != 0 && c.published_under == worker.rules.number;
    if (!known && !look_up(m.topic_id)) [[unlikely]]
      return false;
    worker.stage(session, m, m.data, c.published_topic);
    return true;
  }
  // Finds the topic of an id, and remembers it. False: the client has no such id, or the access
  // rules have not been asked yet whether it may publish to the topic, or they have denied it.
  [[gnu::noinline]] bool look_up(std::uint16_t topic_id) const noexcept {
    const std::uint32_t r = worker.ids.find_by_id(session, topic_id);
    if (r == none) return false;
    const registrations::entry& e = worker.ids.at(r);
    if (worker.rules.set != nullptr && e.publish_judged != word_of(worker.rules.number, true))
      return false;
    c.published_id = topic_id;
    c.published_topic = e.topic;
    c.published_under = worker.rules.number;
    return true;
  }
  // Handles a PUBACK that says that the client has received the message under way at QoS 1.
  [[gnu::always_inline]] bool take(const puback& m) const noexcept {
    if (c.phase != connection::exchange::publishing || m.msg_id != c.packet_id ||
        c.sent_qos != qos_level::one || m.code != return_code::accepted)
      return false;
    worker.core.ack(session, c.ticket);
    worker.finish_exchange(session);
    return true;
  }
  template <class Message> bool take(const Message& m) const noexcept {
    worker.handle(sender{from, session, received_tsc}, m);
    return true;
  }
};

// Handles the datagram if it is a usual one, and returns whether it was. `n` is the session that
// the index names for the sender, or none; its connection says whether it is the sender's.
[[gnu::always_inline]] inline bool
gateway_worker::state::receive_usual(const client_address& from, std::uint32_t n,
                                     std::span<const std::byte> datagram,
                                     std::uint64_t received_tsc) noexcept {
  if (n == none) [[unlikely]]
    return false;
  connection& c = at(n);
  const std::uint64_t other = (c.address.words[0] ^ from.words[0]) |
                              (c.address.words[1] ^ from.words[1]) |
                              (c.address.words[2] ^ from.words[2]);
  if (other != 0 || !serves(n)) [[unlikely]]
    return false;
  if (rules.number != 0 && c.judged_under != rules.number) [[unlikely]]
    return false;
  return visit_usual(datagram, usual{*this, c, n, from, received_tsc});
}

void gateway_worker::receive(client_address from, std::span<const std::byte> datagram,
                             std::uint64_t received_tsc, bool to_group) noexcept {
  received_datagram d{};
  d.from = from;
  d.received_tsc = received_tsc != 0 ? received_tsc : rte_rdtsc();
  d.data = datagram.data();
  d.size = static_cast<std::uint32_t>(datagram.size());
  d.to_group = to_group;
  receive_burst({&d, 1});
}

// In passes: the lines of the index are asked for, then the lines of the connections, and when
// these are needed they have come.
CHAINRING_STAGE void
gateway_worker::receive_burst(std::span<const received_datagram> all) noexcept {
  state& s = *state_;
  constexpr std::size_t at_once = 32;
  std::array<std::uint32_t, at_once> hashes, sessions;
  while (!all.empty()) {
    const std::span<const received_datagram> some = all.first(std::min(at_once, all.size()));
    all = all.subspan(some.size());
    for (std::size_t i = 0; i < some.size(); ++i) {
      hashes[i] = s.senders.hash(some[i].from);
      s.senders.prefetch(hashes[i]);
    }
    for (std::size_t i = 0; i < some.size(); ++i) {
      sessions[i] = s.senders.find(hashes[i]);
      if (sessions[i] == state::none) continue;
      __builtin_prefetch(&s.at(sessions[i]), 1);
      __builtin_prefetch(&s.at(sessions[i]).sent_ticket, 1);
    }
    s.count.datagrams += some.size();
    for (std::size_t i = 0; i < some.size(); ++i) {
      const received_datagram& d = some[i];
      s.now_tsc = std::max(s.now_tsc, d.received_tsc);
      if (!s.receive_usual(d.from, sessions[i], d.payload(), d.received_tsc)) [[unlikely]]
        s.receive({d.from, state::none, d.received_tsc, d.to_group}, d.payload());
    }
  }
}

// Messages that only a gateway sends get no answer, because two gateways could otherwise answer
// each other for ever.
void gateway_worker::state::handle(const sender&, const advertise&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const gwinfo&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const connack&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const willtopicreq&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const willmsgreq&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const suback&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const unsuback&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const willtopicresp&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const willmsgresp&) noexcept {
  ++count.unexpected;
}
void gateway_worker::state::handle(const sender&, const pingresp&) noexcept {
  ++count.unexpected;
}

} // namespace chainring::mqttsn
