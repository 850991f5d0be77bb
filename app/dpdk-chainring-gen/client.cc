// SPDX-License-Identifier: BSD-3-Clause
// This file is the clients' side of the protocol. The source is MQTT-SN 1.2, sections 6.2 to 6.14.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <rte_cycles.h>

#include "generator.h"

namespace chainring::gen {

using mqttsn::flags;
using mqttsn::return_code;
using mqttsn::topic_id_type;

namespace {

constexpr std::string_view alphabet =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr unsigned backoff_shift_max = 3;    ///< a retransmission waits for up to eight intervals
constexpr unsigned congestion_shift_max = 8; ///< a refused message waits for up to 256 ms
constexpr std::size_t name_room = 64;

std::string_view join(std::span<char> room, std::string_view a, std::string_view b,
                      std::uint32_t n) noexcept {
  char* at = std::ranges::copy(a, room.data()).out;
  at = std::ranges::copy(b, at).out;
  at = std::to_chars(at, room.data() + room.size(), n).ptr;
  return {room.data(), at};
}

mqttsn::qos_level level_of(int qos) noexcept {
  return qos == 1   ? mqttsn::qos_level::one
         : qos == 0 ? mqttsn::qos_level::zero
                    : mqttsn::qos_level::minus_one;
}

/// The message id of a PUBLISH follows from its sequence number, so that the next life uses the
/// same id when it sends the message again.
std::uint16_t msg_id_of(std::uint64_t sequence) noexcept {
  return static_cast<std::uint16_t>((sequence - 1) % 65535 + 1);
}

} // namespace

// --- names and addresses ----------------------------------------------------------------------

std::string_view generator::topic_name(std::uint32_t topic, std::span<char> room) const noexcept {
  if (options_.shape.qos != -1) return join(room, options_.shape.prefix, "/", topic);
  room[0] = alphabet[topic / alphabet.size()];
  room[1] = alphabet[topic % alphabet.size()];
  return {room.data(), 2};
}

std::uint32_t generator::topic_of_name(std::string_view name) const noexcept {
  std::uint32_t topic = topic_ids::none;
  if (options_.shape.qos == -1) {
    if (name.size() != 2) return topic_ids::none;
    const std::size_t high = alphabet.find(name[0]), low = alphabet.find(name[1]);
    if (high == alphabet.npos || low == alphabet.npos) return topic_ids::none;
    topic = static_cast<std::uint32_t>(high * alphabet.size() + low);
  } else {
    const std::string& prefix = options_.shape.prefix;
    if (!name.starts_with(prefix) || name.size() < prefix.size() + 2 || name[prefix.size()] != '/')
      return topic_ids::none;
    const char* end = name.data() + name.size();
    const auto read = std::from_chars(name.data() + prefix.size() + 1, end, topic);
    if (read.ec != std::errc() || read.ptr != end) return topic_ids::none;
  }
  return topic < options_.shape.topics ? topic : topic_ids::none;
}

std::string_view generator::client_id(std::uint32_t i, std::span<char> room) const noexcept {
  const std::string_view id = is_publisher(i)
                                  ? join(room, options_.shape.prefix, "-pub-", i)
                                  : join(room, options_.shape.prefix, "-sub-", subscriber_of(i));
  const std::string_view letters = crossing_.letters(i);
  std::ranges::copy(letters, room.data() + id.size());
  return {room.data(), id.size() + letters.size()};
}

net::endpoint generator::endpoint_of(std::uint32_t i) const noexcept {
  return {options_.address.address + i / options_.source_ports,
          static_cast<std::uint16_t>(options_.source_port + i % options_.source_ports), 0};
}

// --- sending ----------------------------------------------------------------------------------

void generator::send(std::uint32_t i, rte_mbuf* m, std::size_t size) noexcept {
  m->data_len = static_cast<std::uint16_t>(size);
  m->pkt_len = static_cast<std::uint32_t>(size);
  // A full transmit buffer counts as a loss on the network: the client or the broker sends again.
  if (size == 0 ||
      link_->send(m, endpoint_of(i), options_.broker, 0, now_) == net::send_status::full)
    rte_pktmbuf_free(m);
}

template <class Message> void generator::say(std::uint32_t i, const Message& m) noexcept {
  rte_mbuf* frame = rte_pktmbuf_alloc(pool_);
  if (frame == nullptr) return; // this too counts as a loss on the network
  const std::span<std::byte> room(rte_pktmbuf_mtod(frame, std::byte*), rte_pktmbuf_tailroom(frame));
  send(i, frame, mqttsn::encode(room, mqttsn::message_body(m)));
}

void generator::arm(std::uint32_t i) noexcept {
  due_[i] = now_ + (retry_tsc_ << std::min<unsigned>(clients_[i].tries, backoff_shift_max));
}

void generator::connect(std::uint32_t i, state as) noexcept {
  char room[name_room];
  clients_[i].state = as;
  say(i, mqttsn::connect{.flags = flags{}.with_clean(as == state::wiping || options_.shape.clean),
                         .client_id = client_id(i, room)});
  arm(i);
}

void generator::start(std::uint32_t i) noexcept {
  client& c = clients_[i];
  c.tries = 0;
  if (is_publisher(i) && options_.shape.qos == -1) { // QoS -1 needs no session
    c.state = state::ready;
    c.topic_id = 0;
    ++opening_;
    return set_ready(i);
  }
  ++opening_;
  const bool wipe =
      !is_publisher(i) && !options_.shape.clean && !ledger_.subscribed(subscriber_of(i));
  connect(i, wipe ? state::wiping : state::connecting);
}

void generator::reconnect(std::uint32_t i) noexcept {
  client& c = clients_[i];
  ++outcome_.reconnects;
  if (c.state == state::ready) ++opening_;
  if (!is_publisher(i) && options_.shape.clean) ledger_.unsubscribe(subscriber_of(i));
  c.tries = 0;
  connect(i, state::connecting);
}

void generator::connected(std::uint32_t i) noexcept {
  client& c = clients_[i];
  c.tries = 0;
  progress();
  if (!is_publisher(i)) {
    const std::uint32_t s = subscriber_of(i);
    ids_[s].clear();
    if (ledger_.subscribed(s)) return set_ready(i);
  }
  c.request_id = c.request_id % 65535 + 1;
  prepare(i);
}

void generator::prepare(std::uint32_t i) noexcept {
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

void generator::set_ready(std::uint32_t i) noexcept {
  client& c = clients_[i];
  c.state = state::ready;
  c.tries = 0;
  --opening_;
  progress();
  if (!is_publisher(i)) {
    due_[i] = now_ + ping_tsc_;
    return;
  }
  due_[i] = 0;
  if (!ledger_.outstanding(i)) return enqueue(i);
  c.dup = true; // the broker may have accepted it before the session ended
  ++ledger_.count.resent;
  publish(i);
}

/// Puts the publisher into the ring of those that may send another message.
void generator::enqueue(std::uint32_t i) noexcept {
  client& c = clients_[i];
  if (c.queued) return;
  c.queued = true;
  ready_[(ready_first_ + ready_count_++) % ready_.size()] = i;
}

/// Sends the publisher's last message, for the first time or again.
void generator::publish(std::uint32_t i) noexcept {
  const client& c = clients_[i];
  const stamp s = ledger_.last_stamp(i);
  const int qos = options_.shape.qos;
  const std::uint32_t size = ledger_.payload_size(i, s.sequence);
  mqttsn::publish m{.flags = flags{}.with_qos(level_of(qos)).with_dup(c.dup),
                    .topic_id = c.topic_id};
  if (qos == 1) {
    m.msg_id = msg_id_of(s.sequence);
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

void generator::leave(std::uint32_t i) noexcept {
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

void generator::ping(std::uint32_t i) noexcept {
  const std::uint64_t quiet = now_ - clients_[i].heard_tsc;
  // A broker that was restarted answers the PINGREQ with DISCONNECT, and the client then
  // reconnects.
  if (quiet >= ping_tsc_) say(i, mqttsn::pingreq{});
  due_[i] = now_ + (quiet >= ping_tsc_ ? ping_tsc_ : ping_tsc_ - quiet);
}

void generator::on_timeout(std::uint32_t i) noexcept {
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

void generator::receive(const net::datagram& d) noexcept {
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

bool generator::again_later(std::uint32_t i, const char* what, return_code code) noexcept {
  if (code == return_code::congestion) {
    ++ledger_.count.congestion;
    arm(i);
    return true;
  }
  if (outcome_.refusal.empty()) {
    char room[name_room];
    outcome_.refusal = std::string(what) + " of " + std::string(client_id(i, room)) + " was " +
                       mqttsn::to_string(code);
  }
  return false;
}

void generator::on_connack(std::uint32_t i, const mqttsn::connack& m) noexcept {
  client& c = clients_[i];
  if (c.state != state::wiping && c.state != state::connecting) {
    ++outcome_.unexpected;
    return;
  }
  if (m.code != return_code::accepted) {
    (void)again_later(i, "CONNECT", m.code);
    return;
  }
  if (c.state == state::connecting) return connected(i);
  c.tries = 0;
  connect(i, state::connecting);
}

void generator::on_regack(std::uint32_t i, const mqttsn::regack& m) noexcept {
  client& c = clients_[i];
  if (c.state != state::preparing || !is_publisher(i) || m.msg_id != c.request_id) {
    ++outcome_.unexpected;
    return;
  }
  if (m.code != return_code::accepted || !mqttsn::valid_topic_id(m.topic_id)) {
    (void)again_later(i, "REGISTER", m.code);
    return;
  }
  c.topic_id = m.topic_id;
  set_ready(i);
}

void generator::on_suback(std::uint32_t i, const mqttsn::suback& m) noexcept {
  client& c = clients_[i];
  if (c.state != state::preparing || is_publisher(i) || m.msg_id != c.request_id) {
    ++outcome_.unexpected;
    return;
  }
  if (m.code != return_code::accepted) {
    (void)again_later(i, "SUBSCRIBE", m.code);
    return;
  }
  const std::uint32_t s = subscriber_of(i);
  if (mqttsn::valid_topic_id(m.topic_id) && !options_.shape.wildcard && options_.shape.qos != -1)
    ids_[s].set(m.topic_id, s % options_.shape.topics);
  ledger_.subscribe(s);
  set_ready(i);
}

void generator::on_puback(std::uint32_t i, const mqttsn::puback& m) noexcept {
  client& c = clients_[i];
  if (!is_publisher(i)) {
    ++outcome_.unexpected;
    return;
  }
  const bool awaited = ledger_.outstanding(i) && c.state == state::ready &&
                       m.msg_id == msg_id_of(ledger_.last_stamp(i).sequence);
  switch (m.code) {
  case return_code::accepted: {
    if (!awaited) break;
    const std::uint64_t sent_ns = ledger_.last_stamp(i).sent_ns, now_ns = ns(now_);
    if (sent_ns >= start_ns_ && sent_ns <= now_ns) to_ack_.record(now_ns - sent_ns);
    ledger_.acknowledge(i);
    ack_tsc_ = now_;
    --outstanding_;
    due_[i] = 0;
    c.tries = c.refusals = 0;
    progress();
    return enqueue(i);
  }
  case return_code::congestion:
    if (!awaited) {
      ledger_.count.congestion += options_.shape.qos == 0;
      break;
    }
    ++ledger_.count.congestion;
    due_[i] = now_ + (cycles(0.001) << std::min<unsigned>(c.refusals, congestion_shift_max));
    c.tries = 0;
    c.refused = true;
    if (c.refusals < 255) ++c.refusals;
    return;
  case return_code::invalid_topic_id:
    if (c.state != state::ready || options_.shape.qos == -1) break;
    ++opening_;
    c.tries = 0;
    c.request_id = c.request_id % 65535 + 1;
    return prepare(i);
  default:
    if (awaited || options_.shape.qos == 0) (void)again_later(i, "PUBLISH", m.code);
    return;
  }
  ++outcome_.unexpected;
}

void generator::on_register(std::uint32_t i, const mqttsn::register_topic& m) noexcept {
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

void generator::on_publish(std::uint32_t i, const mqttsn::publish& m) noexcept {
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
  delivery_tsc_ = now_;
  stamp of;
  const delivery_kind kind = ledger_.deliver(s, topic, m.data, m.flags.dup(), of);
  if (kind == delivery_kind::fresh) {
    progress();
    fresh_tsc_ = now_;
    const std::uint64_t now_ns = ns(now_);
    if (of.sent_ns >= start_ns_ && of.sent_ns <= now_ns) to_delivery_.record(now_ns - of.sent_ns);
  }
  answer(return_code::accepted);
}

void generator::on_disconnect(std::uint32_t i) noexcept {
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
