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
#include "net/sender_set.h"

namespace chainring::mqttsn {

gateway_worker::state::sender gateway_worker::state::find(client_address from,
                                                          std::uint64_t received_tsc) noexcept {
  sender s{from, none, received_tsc};
  const auto found = common.addresses->get(common.key_of(from));
  if (!found || !serves(*found, from)) return s;
  s.session = *found;
  senders.note(senders.hash(from), *found);
  return s;
}

// Answers a sender without a session with DISCONNECT, unless it had one too recently. A datagram
// can reach this worker late, when another one has opened a connection at the address. The client
// there would take DISCONNECT for the end of that connection.
void gateway_worker::state::stranger(const sender& from, bool by_disconnect) noexcept {
  ++count.unknown_source;
  if (!strangers.may_answer(from.address, by_disconnect, now_tsc)) return;
  if (const auto n = common.addresses->get(common.key_of(from.address)))
    // [connection-home]
    if (const unsigned home = at(*n).home_plus_1.load(std::memory_order_relaxed);
        home != 0 && home != number + 1)
      return;
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

// Returns true for a request, which may wait for a later round. What a delivery needs does not
// wait: the messages of a client with a connection that publishes, acknowledges or pings, and
// messages at QoS -1. Nor does a forwarder's header, because the message behind it may.
bool gateway_worker::state::may_wait(const sender& s, const message& m) noexcept {
  if (m.get<encapsulated>() != nullptr) return false;
  if (const auto* p = m.get<publish>(); p != nullptr)
    return p->flags.qos() != qos_level::minus_one &&
           (!s.known() || (p->flags.topic_type() == topic_id_type::normal &&
                           ids.find_by_id(s.session, p->topic_id) == none));
  if (!s.known()) return true;
  return m.get<puback>() == nullptr && m.get<pubrec>() == nullptr && m.get<pubrel>() == nullptr &&
         m.get<pubcomp>() == nullptr && m.get<pingreq>() == nullptr && m.get<regack>() == nullptr;
}

// Returns true when the request is to be handled now. Otherwise it waits, or is dropped.
bool gateway_worker::state::has_turn(const sender& from,
                                     std::span<const std::byte> datagram) noexcept {
  if (may_handle_more() && backlog.empty()) {
    ++requests_now;
    return true;
  }
  ++(backlog.put(from.address, from.received_tsc, from.to_group, datagram)
         ? count.requests_waited
         : count.requests_dropped);
  return false;
}

// Returns true for a datagram that is a request by its type, so that it need not be decoded where
// it could not even wait. A PUBLISH that is not usual is one if its topic id is not registered. It
// may also be one that the access rules have not judged yet; then it is dropped only where its own
// client floods the worker.
bool gateway_worker::state::may_drop(const received_datagram& d, bool known) noexcept {
  switch (type_of(d.payload())) {
  case message_type::publish: {
    if (!known || d.size < 7 || d.data[0] == std::byte{1} || !backlog.is_full_for(d.from))
      return false;
    const flags f{std::to_integer<std::uint8_t>(d.data[2])};
    return f.topic_type() == topic_id_type::normal && f.qos() != qos_level::minus_one;
  }
  case message_type::connect:
  case message_type::register_topic:
  case message_type::subscribe:
  case message_type::unsubscribe:
  case message_type::searchgw:
    return true;
  default:
    return false;
  }
}

// `n` is the session that the index names for the sender, or none.
[[gnu::noinline]] void gateway_worker::state::receive_unusual(const received_datagram& d,
                                                              std::uint32_t n) noexcept {
  if (!backlog.empty() && !backlog.has_room(d.from)) {
    const bool known = n != none && serves(n, d.from);
    if (may_drop(d, known)) {
      ++count.requests_dropped;
      if (known) // what a client sends is a sign of life also if it is dropped
        at(n).heard_tsc = std::max(at(n).heard_tsc, d.received_tsc);
      return;
    }
  }
  receive({d.from, none, d.received_tsc, d.to_group}, d.payload());
}

// Handles requests that wait, as many as this round may still handle, and begins the next round.
// Returns true if any waited.
bool gateway_worker::state::take_turns() noexcept {
  const bool any = !backlog.empty();
  for (; may_handle_more() && !backlog.empty(); ++requests_now) {
    const waiting_request& r = backlog.front();
    receive({r.from, none, r.received_tsc, r.to_group}, r.datagram(), true);
    backlog.pop();
  }
  requests_now = 0;
  quiet_rounds = std::min(quiet_rounds + 1, quiet_rounds_max);
  return any;
}

// Handles a datagram, or the message that a forwarder has put a header in front of.
[[gnu::noinline]] void gateway_worker::state::receive(const sender& from,
                                                      std::span<const std::byte> datagram,
                                                      bool has_waited) noexcept {
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
  if (may_wait(s, m)) {
    if (!has_waited && !has_turn(s, datagram)) return;
  } else if (s.known()) {
    quiet_rounds = 0;
  }
  if (status == decode_status::bad_field) return refuse_field(s, m);
  std::visit([&](const auto& body) { handle(s, body); }, m.body);
}

// Finds the topic of an id, and remembers it. False: the client has no such id, or the access rules
// have not been asked yet whether it may publish to the topic, or they have denied it.
[[gnu::noinline]] bool gateway_worker::state::look_up_published(std::uint32_t n,
                                                                std::uint16_t topic_id) noexcept {
  const std::uint32_t r = ids.find_by_id(n, topic_id);
  if (r == none) return false;
  const registrations::entry& e = ids.at(r);
  if (e.of_broker) return false;
  if (rules.set != nullptr && e.publish_judged != word_of(rules.number, true)) return false;
  connection& c = at(n);
  c.published_id = topic_id;
  c.published_topic = e.topic;
  c.published_under = rules.number;
  return true;
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
    if (!known && !worker.look_up_published(session, m.topic_id)) [[unlikely]]
      return false;
    worker.stage(session, m, m.data, c.published_topic);
    return true;
  }
  // Handles a PUBACK that says that the client has received the message under way at QoS 1.
  [[gnu::always_inline]] bool take(const puback& m) const noexcept {
    if (c.phase != connection::exchange::publishing || m.msg_id != c.packet_id ||
        c.sent_qos != qos_level::one || m.code != return_code::accepted)
      return false;
    if (c.rest != connection::rest_state::active) [[unlikely]] {
      worker.core.ack(session, c.ticket);
      worker.finish_exchange(session);
      return true;
    }
    const std::uint64_t ticket = c.ticket;
    worker.end_exchange(c);
    worker.core.ack_and_resume(session, ticket);
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

// Sets for each datagram the session that the index names for its sender, or none. In passes: the
// lines of the index are asked for, then the lines of the connections, and when these are needed
// they have come.
[[gnu::always_inline]] inline void
gateway_worker::state::find_senders(std::span<const received_datagram> some,
                                    std::uint32_t* sessions) const noexcept {
  for (std::size_t i = 0; i < some.size(); ++i) {
    sessions[i] = senders.hash(some[i].from); // until the line has come
    senders.prefetch(sessions[i]);
  }
  for (std::size_t i = 0; i < some.size(); ++i) {
    sessions[i] = senders.find(sessions[i]);
    if (sessions[i] == none) continue;
    __builtin_prefetch(&at(sessions[i]), 1);
    __builtin_prefetch(&at(sessions[i]).sent_ticket, 1);
  }
}

// Most datagrams land where their client is at home, and then nothing is read that another worker
// writes. A message of an exchange moves no client. Every other one may, so what follows of its
// sender in this burst has to wait until it is handled.
CHAINRING_STAGE std::size_t gateway_worker::place(std::span<received_datagram> burst,
                                                  std::uint8_t* homes) const noexcept {
  const state& s = *state_;
  const std::span some = burst.first(std::min(state::at_once, burst.size()));
  std::array<std::uint32_t, state::at_once> sessions;
  s.find_senders(some, sessions.data());
  net::sender_set moving;
  for (std::size_t i = 0; i < some.size(); ++i) {
    received_datagram& d = some[i];
    if (!moving.empty() && moving.may_have(d.from)) [[unlikely]]
      return i;
    const message_type type = type_of(d.payload());
    const bool of_exchange = type >= message_type::publish && type <= message_type::pubrel;
    if (of_exchange && sessions[i] != state::none && s.serves(sessions[i], d.from)) [[likely]] {
      d.hint = sessions[i];
      homes[i] = static_cast<std::uint8_t>(s.number);
      continue;
    }
    homes[i] = static_cast<std::uint8_t>(s.home_of(sessions[i], type, d));
    d.hint = homes[i] == s.number ? sessions[i] : received_datagram::no_hint;
    if (!of_exchange && homes[i] == s.number) moving.add(d.from);
  }
  return some.size();
}

// `n` is the session that the index names for the sender, or none. A connection that this worker
// serves has its address in the map of all addresses.
[[gnu::noinline]] unsigned
gateway_worker::state::home_of(std::uint32_t n, message_type type,
                               const received_datagram& d) const noexcept {
  if (type != message_type::connect && type != message_type::encapsulated &&
      type != message_type::willtopic && type != message_type::willmsg && n != none &&
      serves(n, d.from))
    return number;
  return common.home_of(d.from, d.payload());
}

CHAINRING_STAGE void
gateway_worker::receive_burst(std::span<const received_datagram> all) noexcept {
  state& s = *state_;
  std::array<std::uint32_t, state::at_once> sessions;
  while (!all.empty()) {
    const std::span some = all.first(std::min(state::at_once, all.size()));
    all = all.subspan(some.size());
    if (some.front().hint == received_datagram::no_hint)
      s.find_senders(some, sessions.data());
    else // place() has found most of them
      for (std::size_t i = 0; i < some.size(); ++i)
        sessions[i] = some[i].hint != received_datagram::no_hint
                          ? some[i].hint
                          : s.senders.find(s.senders.hash(some[i].from));
    s.count.datagrams += some.size();
    for (std::size_t i = 0; i < some.size(); ++i) {
      const received_datagram& d = some[i];
      s.now_tsc = std::max(s.now_tsc, d.received_tsc);
      if (s.receive_usual(d.from, sessions[i], d.payload(), d.received_tsc)) [[likely]]
        s.quiet_rounds = 0;
      else
        s.receive_unusual(d, sessions[i]);
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
