// SPDX-License-Identifier: BSD-3-Clause
// Datagrams in, by message type. Edges: [W1] [W2] as in connect.cc.
#include <rte_cycles.h>

#include "broker/worker.h"

namespace chainring {

std::uint32_t broker_worker::impl::number_of(const session& s) const noexcept {
  return static_cast<std::uint32_t>(&s - shared.sessions.get());
}

session* broker_worker::impl::find(client_address from, std::uint32_t& n) noexcept {
  const auto found = shared.addresses->get(from);
  if (!found) return nullptr;
  session& s = shared.sessions[*found];
  // [W1] acquire: pairs with the release [W2] in connect(); a session handed over is seen whole.
  if (s.state.load(std::memory_order_acquire) != connection::active ||
      s.home.load(std::memory_order_relaxed) != number)
    return nullptr;
  n = *found;
  return &s;
}

void broker_worker::impl::disconnect_unknown(client_address to) noexcept {
  ++count.unknown_source;
  reply(to, 2, [](std::span<std::byte> b) { return mqttsn::encode_disconnect(b); });
}

// A message whose form is right and a field of which is not: refused as its own answer can.
void broker_worker::impl::refuse_field(const session* s, client_address from,
                                       const mqttsn::message& m) noexcept {
  constexpr auto refused = mqttsn::return_code::not_supported;
  ++count.malformed;
  const auto* p = m.get<mqttsn::publish>();
  if (p != nullptr && p->flags.qos() == mqttsn::qos_level::minus_one) return; // waits for nothing
  if (m.get<mqttsn::connect>() != nullptr)
    reply(from, 3,
          [](std::span<std::byte> b) { return mqttsn::encode_connack(b, {.code = refused}); });
  else if (s == nullptr)
    disconnect_unknown(from);
  else if (p != nullptr)
    puback(from, p->topic_id, p->msg_id, refused);
  else if (const auto* q = m.get<mqttsn::subscribe>())
    reply(from, 8, [&](std::span<std::byte> b) {
      return mqttsn::encode_suback(b, {.msg_id = q->msg_id, .code = refused});
    });
  else if (const auto* u = m.get<mqttsn::unsubscribe>())
    reply(from, 4, [&](std::span<std::byte> b) {
      return mqttsn::encode_unsuback(b, {.msg_id = u->msg_id}); // it names no subscription
    });
}

void broker_worker::impl::receive(client_address from,
                                  std::span<const std::byte> datagram) noexcept {
  ++count.datagrams;
  mqttsn::message m;
  const auto status = mqttsn::decode(datagram, m);
  if (status != mqttsn::decode_status::ok && status != mqttsn::decode_status::bad_field) {
    ++count.malformed;
    return;
  }
  if (m.trailing != 0) ++count.trailing_octets;
  std::uint32_t n = 0;
  session* s = find(from, n);
  if (s != nullptr) s->heard_tsc = now_tsc;
  if (status == mqttsn::decode_status::bad_field) return refuse_field(s, from, m);

  if (const auto* p = m.get<mqttsn::publish>()) {
    if (s == nullptr && p->flags.qos() != mqttsn::qos_level::minus_one)
      return disconnect_unknown(from);
    return publish(s, n, from, *p);
  }
  if (const auto* c = m.get<mqttsn::connect>()) return connect(from, *c);
  if (m.get<mqttsn::searchgw>() != nullptr) {
    return reply(from, 3, [&](std::span<std::byte> b) {
      return mqttsn::encode_gwinfo(b, {.gw_id = config.gateway_id});
    });
  }
  if (m.get<mqttsn::advertise>() != nullptr || m.get<mqttsn::gwinfo>() != nullptr) {
    ++count.unexpected; // for clients, from another gateway
    return;
  }
  if (m.get<mqttsn::encapsulated>() != nullptr) {
    ++count.unsupported;
    return;
  }
  if (s == nullptr) return disconnect_unknown(from);

  if (const auto* a = m.get<mqttsn::puback>()) return puback_in(*s, n, *a);
  if (const auto* r = m.get<mqttsn::register_topic>()) return register_topic(*s, n, from, *r);
  if (const auto* r = m.get<mqttsn::regack>()) return regack(*s, n, *r);
  if (const auto* q = m.get<mqttsn::subscribe>()) return subscribe(*s, n, from, *q);
  if (const auto* q = m.get<mqttsn::unsubscribe>()) return unsubscribe(n, from, *q);
  if (const auto* d = m.get<mqttsn::disconnect>()) return disconnect(*s, n, from, *d);
  if (m.get<mqttsn::pingreq>() != nullptr) {
    ++count.pings;
    return reply(from, 2, [](std::span<std::byte> b) { return mqttsn::encode_pingresp(b); });
  }
  if (m.get<mqttsn::pingresp>() != nullptr) return;
  if (m.get<mqttsn::willtopicupd>() != nullptr) {
    ++count.unsupported;
    return reply(from, 3, [](std::span<std::byte> b) {
      return mqttsn::encode_willtopicresp(b, {.code = mqttsn::return_code::not_supported});
    });
  }
  if (m.get<mqttsn::willmsgupd>() != nullptr) {
    ++count.unsupported;
    return reply(from, 3, [](std::span<std::byte> b) {
      return mqttsn::encode_willmsgresp(b, {.code = mqttsn::return_code::not_supported});
    });
  }
  ++count.unexpected; // QoS 2 answers, or what only a gateway sends
}

} // namespace chainring
