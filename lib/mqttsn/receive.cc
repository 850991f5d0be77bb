// SPDX-License-Identifier: BSD-3-Clause
// Receiving datagrams: each is decoded, its sender is found, and the handler of its type is called.
// The dispatch visits every type of all_messages, so a message without a handler does not compile.
#include <rte_cycles.h>

#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

gateway_worker::state::sender gateway_worker::state::find(client_address from,
                                                          std::uint64_t received_tsc) noexcept {
  sender s{from, none, received_tsc};
  const auto found = common.addresses->get(from);
  if (!found) return s;
  if (serves(*found, from)) s.session = *found;
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
void gateway_worker::state::receive(const sender& from,
                                    std::span<const std::byte> datagram) noexcept {
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
