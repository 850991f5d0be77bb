// SPDX-License-Identifier: BSD-3-Clause
// This file is the clients' side of the protocol. The source is MQTT-SN 1.2, sections 6.2 to 6.14.
#include <algorithm>
#include <cstring>
#include <rte_cycles.h>

#include "sn_generator.h"

namespace chainring::gen {

using mqttsn::flags;
using mqttsn::return_code;
using mqttsn::topic_id_type;

namespace {

mqttsn::qos_level level_of(int qos) noexcept {
  return qos == 1   ? mqttsn::qos_level::one
         : qos == 0 ? mqttsn::qos_level::zero
                    : mqttsn::qos_level::minus_one;
}

} // namespace

sn_generator::sn_generator(const options& o, ledger& book, ledger_file* file, int signal_fd)
    : generator(o, book, file, signal_fd) {
  ids_.reserve(o.shape.subscribers);
  for (std::uint32_t s = 0; s < o.shape.subscribers; ++s)
    ids_.emplace_back(o.shape.wildcard ? o.shape.topics + 1 : 2);
}

result<void> sn_generator::open_protocol() {
  if (interface_->payload_max(options_.broker.address) <
      options_.shape.payload_max + mqttsn::publish_header_size_max)
    return error{errc::invalid_argument,
                 "--payload: the port can send datagrams of at most " +
                     std::to_string(interface_->payload_max(options_.broker.address)) +
                     " octets, which must hold the payload and the PUBLISH header"};
  return {};
}

// --- sending ----------------------------------------------------------------------------------

void sn_generator::send(std::uint32_t i, rte_mbuf* m, std::size_t size) noexcept {
  m->data_len = static_cast<std::uint16_t>(size);
  m->pkt_len = static_cast<std::uint32_t>(size);
  // A full transmit buffer counts as a loss on the network: the client or the broker sends again.
  if (size == 0 ||
      link_->send(m, endpoint_of(i), options_.broker, 0, now_) == net::send_status::full)
    rte_pktmbuf_free(m);
}

template <class Message> void sn_generator::say(std::uint32_t i, const Message& m) noexcept {
  rte_mbuf* frame = rte_pktmbuf_alloc(pool_);
  if (frame == nullptr) return; // this too counts as a loss on the network
  const std::span<std::byte> room(rte_pktmbuf_mtod(frame, std::byte*), rte_pktmbuf_tailroom(frame));
  send(i, frame, mqttsn::encode(room, mqttsn::message_body(m)));
}

void sn_generator::start(std::uint32_t i) noexcept {
  if (!is_publisher(i) || options_.shape.qos != -1) return generator::start(i);
  client& c = clients_[i]; // QoS -1 needs no session
  c.tries = 0;
  c.state = state::ready;
  c.topic_id = 0;
  ++opening_;
  set_ready(i);
}

void sn_generator::connect(std::uint32_t i, state as) noexcept {
  char room[name_room];
  clients_[i].state = as;
  say(i, mqttsn::connect{.flags = flags{}.with_clean(as == state::wiping || options_.shape.clean),
                         .client_id = client_id(i, room)});
  arm(i);
}

void sn_generator::prepare(std::uint32_t i) noexcept {
  client& c = clients_[i];
  const shape& s = options_.shape;
  c.state = state::preparing;
  char room[name_room];
  if (is_publisher(i)) {
    say(i, mqttsn::register_topic{.msg_id = c.request_id,
                                  .topic = topic_name(ledger_.topic_of(i), room)});
    return arm(i);
  }
  mqttsn::subscribe m{.flags = flags{}.with_qos(level_of(std::max(s.qos, 0))),
                      .msg_id = c.request_id};
  const std::uint32_t topic = subscriber_of(i) % s.topics;
  if (s.wildcard) {
    m.topic = "#";
    if (s.qos != -1) {
      char* end = std::ranges::copy(s.prefix, room).out;
      m.topic = {room, std::ranges::copy(std::string_view("/#"), end).out};
    }
  } else {
    m.topic = topic_name(topic, room);
    if (s.qos == -1) {
      m.flags = m.flags.with_topic_type(topic_id_type::short_name);
      m.topic_id = mqttsn::short_topic_id(m.topic);
    }
  }
  say(i, m);
  arm(i);
}

/// Sends the publisher's last message, for the first time or again.
void sn_generator::publish(std::uint32_t i) noexcept {
  const client& c = clients_[i];
  const stamp s = ledger_.last_stamp(i);
  const int qos = options_.shape.qos;
  const std::uint32_t size = ledger_.payload_size(i, s.sequence);
  mqttsn::publish m{.flags = flags{}.with_qos(level_of(qos)).with_dup(c.dup),
                    .topic_id = c.topic_id};
  if (qos == 1) {
    m.msg_id = id_of(s.sequence);
    arm(i);
  } else if (qos == -1) {
    char room[name_room];
    m.flags = m.flags.with_topic_type(topic_id_type::short_name);
    m.topic_id = mqttsn::short_topic_id(topic_name(ledger_.topic_of(i), room));
  }
  rte_mbuf* frame = rte_pktmbuf_alloc(pool_);
  if (frame == nullptr) return; // this counts as a loss on the network
  const std::span<std::byte> room(rte_pktmbuf_mtod(frame, std::byte*), rte_pktmbuf_tailroom(frame));
  const std::size_t header = mqttsn::encode_publish_header(room, m, size);
  write_payload(room.subspan(header, size), s);
  send(i, frame, header + size);
}

void sn_generator::leave(std::uint32_t i) noexcept {
  client& c = clients_[i];
  const bool connected = c.state == state::ready && !(is_publisher(i) && options_.shape.qos == -1);
  c.state = connected ? state::leaving : state::away;
  due_[i] = 0;
  if (!connected) return;
  ++leaving_;
  c.tries = 0;
  say(i, mqttsn::disconnect{});
  arm(i);
}

void sn_generator::ping(std::uint32_t i) noexcept {
  const std::uint64_t quiet = now_ - clients_[i].heard_tsc;
  // A broker that was restarted answers the PINGREQ with DISCONNECT, and the client then
  // reconnects.
  if (quiet >= ping_tsc_) say(i, mqttsn::pingreq{});
  due_[i] = now_ + (quiet >= ping_tsc_ ? ping_tsc_ : ping_tsc_ - quiet);
}

void sn_generator::on_timeout(std::uint32_t i) noexcept {
  client& c = clients_[i];
  due_[i] = 0;
  if (c.state == state::ready && !is_publisher(i)) return ping(i);
  if (c.tries < 255) ++c.tries;
  switch (c.state) {
  case state::wiping:
  case state::connecting:
    return connect(i, c.state);
  case state::preparing:
    return prepare(i);
  case state::ready:
    if (!ledger_.outstanding(i)) return;
    if (c.refused) { // the broker refused the message, so DUP is not set
      c.refused = false;
      c.tries = 0;
    } else {
      c.dup = true;
      ++ledger_.count.resent;
    }
    return publish(i);
  case state::leaving:
    say(i, mqttsn::disconnect{});
    return arm(i);
  case state::away:
    return;
  }
}

// --- receiving --------------------------------------------------------------------------------

void sn_generator::receive(const net::datagram& d) noexcept {
  const net::packet_view& v = d.view;
  const std::uint64_t at =
      std::uint64_t{v.destination.ipv4() - options_.address.address} * options_.source_ports +
      (v.destination_port - options_.source_port);
  if (v.source.address != options_.broker.address || v.source.port != options_.broker.port ||
      at >= clients_.size()) {
    ++outcome_.foreign;
    return;
  }
  const auto i = static_cast<std::uint32_t>(at);
  client& c = clients_[i];
  c.heard_tsc = heard_tsc_ = now_;
  outcome_.answered = true;
  mqttsn::message m;
  if (mqttsn::decode(v.payload, m) != mqttsn::decode_status::ok) {
    ++outcome_.malformed;
    return;
  }
  if (const auto* p = m.get<mqttsn::publish>()) return on_publish(i, *p);
  if (const auto* p = m.get<mqttsn::puback>()) return on_puback(i, *p);
  if (const auto* p = m.get<mqttsn::register_topic>()) return on_register(i, *p);
  if (const auto* p = m.get<mqttsn::connack>()) return on_connack(i, *p);
  if (const auto* p = m.get<mqttsn::regack>()) return on_regack(i, *p);
  if (const auto* p = m.get<mqttsn::suback>()) return on_suback(i, *p);
  if (m.get<mqttsn::disconnect>() != nullptr) return on_disconnect(i);
  if (m.get<mqttsn::pingresp>() != nullptr) return;
  if (m.get<mqttsn::pingreq>() != nullptr) return say(i, mqttsn::pingresp{});
  ++outcome_.unexpected;
}

void sn_generator::refused(std::uint32_t i, const char* what, return_code code) noexcept {
  (void)again_later(i, what, code == return_code::congestion, mqttsn::to_string(code));
}

void sn_generator::on_connack(std::uint32_t i, const mqttsn::connack& m) noexcept {
  client& c = clients_[i];
  if (c.state != state::wiping && c.state != state::connecting) {
    ++outcome_.unexpected;
    return;
  }
  if (m.code != return_code::accepted) {
    refused(i, "CONNECT", m.code);
    return;
  }
  if (c.state == state::connecting) {
    if (!is_publisher(i)) ids_[subscriber_of(i)].clear();
    return connected(i, true);
  }
  c.tries = 0;
  connect(i, state::connecting);
}

void sn_generator::on_regack(std::uint32_t i, const mqttsn::regack& m) noexcept {
  client& c = clients_[i];
  if (c.state != state::preparing || !is_publisher(i) || m.msg_id != c.request_id) {
    ++outcome_.unexpected;
    return;
  }
  if (m.code != return_code::accepted || !mqttsn::valid_topic_id(m.topic_id)) {
    refused(i, "REGISTER", m.code);
    return;
  }
  c.topic_id = m.topic_id;
  set_ready(i);
}

void sn_generator::on_suback(std::uint32_t i, const mqttsn::suback& m) noexcept {
  client& c = clients_[i];
  if (c.state != state::preparing || is_publisher(i) || m.msg_id != c.request_id) {
    ++outcome_.unexpected;
    return;
  }
  if (m.code != return_code::accepted) {
    refused(i, "SUBSCRIBE", m.code);
    return;
  }
  const std::uint32_t s = subscriber_of(i);
  if (mqttsn::valid_topic_id(m.topic_id) && !options_.shape.wildcard && options_.shape.qos != -1)
    ids_[s].set(m.topic_id, s % options_.shape.topics);
  ledger_.subscribe(s);
  set_ready(i);
}

void sn_generator::on_puback(std::uint32_t i, const mqttsn::puback& m) noexcept {
  client& c = clients_[i];
  if (!is_publisher(i)) {
    ++outcome_.unexpected;
    return;
  }
  const bool awaited = awaits(i, m.msg_id);
  switch (m.code) {
  case return_code::accepted:
    if (!awaited) break;
    return acknowledged(i);
  case return_code::congestion:
    if (!awaited) {
      ledger_.count.congestion += options_.shape.qos == 0;
      break;
    }
    return congested(i);
  case return_code::invalid_topic_id:
    if (c.state != state::ready || options_.shape.qos == -1) break;
    ++opening_;
    c.tries = 0;
    c.request_id = c.request_id % 65535 + 1;
    return prepare(i);
  default:
    if (awaited || options_.shape.qos == 0) refused(i, "PUBLISH", m.code);
    return;
  }
  ++outcome_.unexpected;
}

void sn_generator::on_register(std::uint32_t i, const mqttsn::register_topic& m) noexcept {
  const std::uint32_t topic = topic_of_name(m.topic);
  const bool known = !is_publisher(i) && topic != topic_ids::none &&
                     mqttsn::valid_topic_id(m.topic_id) &&
                     ids_[subscriber_of(i)].set(m.topic_id, topic);
  // A topic that is not among the generator's topics is refused; the broker then drops its message.
  if (!known) ++outcome_.unexpected;
  say(i, mqttsn::regack{.topic_id = m.topic_id,
                        .msg_id = m.msg_id,
                        .code = known ? return_code::accepted : return_code::not_supported});
}

void sn_generator::on_publish(std::uint32_t i, const mqttsn::publish& m) noexcept {
  const auto answer = [&](return_code code) {
    if (m.flags.qos() == mqttsn::qos_level::one)
      say(i, mqttsn::puback{.topic_id = m.topic_id, .msg_id = m.msg_id, .code = code});
  };
  if (is_publisher(i)) {
    ++outcome_.unexpected;
    return answer(return_code::not_supported);
  }
  const std::uint32_t s = subscriber_of(i);
  std::uint32_t topic = topic_ids::none;
  if (m.flags.topic_type() == topic_id_type::short_name) {
    const auto two = mqttsn::short_topic_name(m.topic_id);
    topic = topic_of_name({two.data(), two.size()});
  } else if (m.flags.topic_type() == topic_id_type::normal) {
    topic = ids_[s].find(m.topic_id);
  }
  if (topic == topic_ids::none) { // the broker then registers the topic and sends the message again
    ++outcome_.unexpected;
    return answer(return_code::invalid_topic_id);
  }
  delivered(s, topic, m.data, m.flags.dup());
  answer(return_code::accepted);
}

void sn_generator::on_disconnect(std::uint32_t i) noexcept {
  client& c = clients_[i];
  switch (c.state) {
  case state::leaving:
    c.state = state::away;
    due_[i] = 0;
    --leaving_;
    return;
  case state::preparing:
  case state::ready:
    // A QoS -1 publisher has no session that could have ended.
    if (is_publisher(i) && options_.shape.qos == -1) break;
    return reconnect(i);
  case state::wiping:
  case state::connecting:
    return; // it belongs to an older session; a CONNECT is under way
  case state::away:
    break;
  }
  ++outcome_.unexpected;
}

} // namespace chainring::gen
