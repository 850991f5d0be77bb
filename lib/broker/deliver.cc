// SPDX-License-Identifier: BSD-3-Clause
// PUBLISH to a client: one exchange at a time in each session (MQTT-SN 1.2 sections 6.5, 6.6).
//
// A message is leased from the session's queue, sent, and acknowledged in the queue when the
// client's PUBACK comes; until that is durable a crash delivers it again. A client that does not
// know the topic's id is told by REGISTER first, and nothing is sent before its REGACK. What the
// client does not answer is sent again with DUP, at doubling intervals; in the end the client
// counts as lost and the message stays in its queue.
//
// Edges: [W1] [W2] [W5] as in connect.cc.
#include <algorithm>

#include "base/hook.h"
#include "broker/worker.h"

namespace chainring {

// --- QoS 0 ------------------------------------------------------------------------------------

// Gives one target its copy; takes no reference over from the caller.
void broker_worker::impl::hand_volatile(std::uint32_t message, const volatile_target& to) noexcept {
  session& s = shared.sessions[to.session];
  // [W1] acquire: the home is set before the state that shows it.
  if (s.state.load(std::memory_order_acquire) != connection::active)
    return; // not kept for the absent
  shared.volatiles->hold(message);
  if (s.home.load(std::memory_order_relaxed) == number) {                // [W1]
    if (s.incarnation.load(std::memory_order_acquire) == to.incarnation) // [W5]
      return keep_volatile(s, to.session, message, to.bits);
  } else {
    const volatile_parcel parcel{message, to.session, to.incarnation, to.bits};
    // [W1]
    if (shared.inboxes[s.home.load(std::memory_order_relaxed)]->parcels.push(&parcel)) return;
    ++count.dropped_qos0;
  }
  shared.volatiles->drop(message);
}

// Takes over the caller's reference.
void broker_worker::impl::keep_volatile(session& s, std::uint32_t n, std::uint32_t message,
                                        std::uint16_t bits) noexcept {
  if (s.volatile_count >= config.volatile_per_session_max || free_nodes.empty()) {
    ++count.dropped_qos0;
    shared.volatiles->drop(message);
    return;
  }
  const std::uint32_t node = free_nodes.back();
  free_nodes.pop_back();
  nodes[node] = {message, none, bits};
  (s.volatile_count == 0 ? s.volatile_first_index : nodes[s.volatile_last_index].next) = node;
  s.volatile_last_index = node;
  ++s.volatile_count;
  make_ready(s, n);
}

void broker_worker::impl::drop_volatile(session& s, bool all) noexcept {
  while (s.volatile_count != 0) {
    const std::uint32_t node = s.volatile_first_index;
    s.volatile_first_index = nodes[node].next;
    --s.volatile_count;
    shared.volatiles->drop(nodes[node].message);
    free_nodes.push_back(node);
    if (!all) return;
  }
}

// --- names ------------------------------------------------------------------------------------

broker_worker::impl::name_status
broker_worker::impl::name_for(session& s, std::uint32_t n, std::string_view topic,
                              std::uint16_t bits, std::uint16_t& id,
                              mqttsn::topic_id_type& type) noexcept {
  type = static_cast<mqttsn::topic_id_type>((bits & delivery::topic_type_mask) >>
                                            delivery::topic_type_shift);
  if (type == mqttsn::topic_id_type::short_name && topic.size() == 2) {
    id = mqttsn::short_topic_id(topic);
    return name_status::known;
  }
  if (type == mqttsn::topic_id_type::predefined) {
    if (const auto p = shared.predefined_ids.find(topic); p != shared.predefined_ids.end()) {
      id = p->second;
      return name_status::known;
    }
  }
  type = mqttsn::topic_id_type::normal;
  const std::uint32_t t = topics.intern(topic);
  if (t == none) return name_status::later;
  const std::uint32_t r = topics.register_topic(n, s.registrations, t);
  if (r == none) return name_status::later;
  if (topics.at(r).known) {
    id = topics.at(r).id;
    return name_status::known;
  }
  if (topic.size() + 6 > config.datagram_size_max) return name_status::impossible;
  s.registration = r;
  s.phase = session::exchange::registering;
  s.retries = 0;
  ++s.register_id;
  if (s.register_id == 0) s.register_id = 1;
  send_register(s, r);
  schedule_retry(s, n);
  return name_status::asked;
}

bool broker_worker::impl::send_register(session& s, std::uint32_t r) noexcept {
  const std::string_view name = topics.name(topics.at(r).topic);
  const client_address to = s.address.load(std::memory_order_relaxed); // [W2] own session
  const std::span<std::byte> room = out->begin(to, name.size() + 8);
  if (room.empty()) return false;
  out->commit(mqttsn::encode_register(
      room, {.topic_id = topics.at(r).id, .msg_id = s.register_id, .topic = name}));
  return true;
}

// --- sending ----------------------------------------------------------------------------------

// The payload was verified when losses() was `losses_then`; where it has changed, nothing is sent.
bool broker_worker::impl::send_publish(session& s, mqttsn::flags flags, std::uint16_t id,
                                       std::uint16_t msg_id, message_cursor payload,
                                       std::uint64_t losses_then) noexcept {
  const std::size_t size = payload.remaining();
  const std::size_t header = mqttsn::publish_header_size(size);
  const client_address to = s.address.load(std::memory_order_relaxed); // [W2] own session
  const std::span<std::byte> room = out->begin(to, header + size);
  if (room.size() < header + size) return false;
  mqttsn::encode_publish_header(room, {.flags = flags, .topic_id = id, .msg_id = msg_id}, size);
  payload.copy_out(room.data() + header, size);
  if (on.lost_since(losses_then)) [[unlikely]]
    return false;
  out->commit(header + size);
  return true;
}

// What was leased may have been among what was dropped.
void broker_worker::impl::forget_dropped(session& s, std::uint32_t n) noexcept {
  if (s.ticket == 0) return;
  if (state.queues().resolve(n, s.packet_id) == s.ticket) return;
  s.ticket = 0;
  if (s.phase != session::exchange::publishing) return; // a REGISTER under way goes on
  s.phase = session::exchange::idle;
  s.retry_tsc = 0;
}

void broker_worker::impl::deliver(session& s, std::uint32_t n) noexcept {
  s.ready = false;
  if (const std::uint32_t wanted = state.queues().drop_requested(n); wanted != 0) {
    count.dropped_oldest += state.queues().drop_oldest(n, wanted);
    forget_dropped(s, n);
    make_dirty(s, n);
  }
  if (s.state.load(std::memory_order_relaxed) != connection::active) return; // [W1] own session
  while (s.phase == session::exchange::idle) {
    if (s.volatile_count != 0) {
      if (!deliver_volatile(s, n)) return;
      continue;
    }
    if (s.ticket == 0) {
      leased next;
      if (state.queues().lease(n, {&next, 1}) == 0) return;
      s.ticket = next.ticket();
      s.leased = next.message();
      s.delivery_bits = next.delivery() & delivery::bits_mask;
      s.packet_id = packet_id_of(next.ticket());
      s.retries = 0;
      s.corrections = 0;
      s.sent = next.redelivered();
      if (!delivery::whole(n, next.ref.word)) {
        ++count.damaged; // whose message it is cannot be told
        finish_delivery(s, n);
        continue;
      }
    }
    if (!deliver_leased(s, n, s.sent)) return;
  }
}

// False: nothing more can be sent to this session now.
bool broker_worker::impl::deliver_volatile(session& s, std::uint32_t n) noexcept {
  const volatile_node& first = nodes[s.volatile_first_index];
  const std::span<const std::byte> payload = shared.volatiles->payload(first.message);
  std::uint16_t id = 0;
  mqttsn::topic_id_type type{};
  s.volatile_first = true;
  switch (name_for(s, n, shared.volatiles->topic(first.message), first.bits, id, type)) {
  case name_status::asked:
    return false;
  case name_status::impossible:
  case name_status::later:
    ++count.dropped_qos0;
    drop_volatile(s, false);
    return true;
  case name_status::known:
    break;
  }
  const client_address to = s.address.load(std::memory_order_relaxed); // [W2] own session
  const std::span<std::byte> room =
      out->begin(to, payload.size() + mqttsn::publish_header_size_max);
  if (!room.empty()) {
    out->commit(mqttsn::encode_publish(
        room, {.flags = mqttsn::flags{}.with_topic_type(type), .topic_id = id, .data = payload}));
    ++count.delivered_qos0;
  } else {
    ++count.dropped_qos0;
  }
  drop_volatile(s, false);
  return true;
}

// Sends what is leased. True: it is out of the way without the client, and the next may follow.
bool broker_worker::impl::deliver_leased(session& s, std::uint32_t n, bool again) noexcept {
  message_view v;
  const std::uint64_t before = on.losses();
  const message_status seen = state.messages().view(s.leased, v);
  if (seen != message_status::ok || !state.messages().verify(v)) {
    ++count.damaged; // nothing damaged is ever delivered
    finish_delivery(s, n);
    return true;
  }
  hook_point("broker.deliver.verified");
  const std::size_t size = v.payload.remaining();
  if (mqttsn::publish_header_size(size) == 0 ||
      size + mqttsn::publish_header_size(size) > config.datagram_size_max) {
    ++count.dropped_too_long; // section 6.10: given up silently
    finish_delivery(s, n);
    return true;
  }
  char name[topic_length_max];
  const std::size_t length = v.topic.remaining();
  if (length > topic_length_max) {
    ++count.damaged;
    finish_delivery(s, n);
    return true;
  }
  v.topic.copy_out(name, length);
  if (on.lost_since(before)) [[unlikely]] { // what was verified need not be what was copied
    make_ready(s, n);
    return false;
  }
  std::uint16_t id = 0;
  mqttsn::topic_id_type type{};
  s.volatile_first = false;
  switch (name_for(s, n, {name, length}, s.delivery_bits, id, type)) {
  case name_status::asked:
    return false;
  case name_status::impossible:
    ++count.dropped_too_long;
    finish_delivery(s, n);
    return true;
  case name_status::later:
    schedule_retry(s, n);
    return false;
  case name_status::known:
    break;
  }
  const auto flags =
      mqttsn::flags{}.with_qos(mqttsn::qos_level::one).with_topic_type(type).with_dup(again);
  s.phase = session::exchange::publishing;
  s.sent = true;
  if (send_publish(s, flags, id, s.packet_id, v.payload, before))
    ++(again ? count.retransmitted : count.delivered);
  schedule_retry(s, n); // also where it could not be sent just now
  return false;
}

// --- answers and silence ----------------------------------------------------------------------

// The leased message is done with: its acknowledgement goes with the next burst.
void broker_worker::impl::finish_delivery(session& s, std::uint32_t n) noexcept {
  if (s.ticket != 0 && state.queues().ack(n, s.ticket) != ack_status::ignored) make_dirty(s, n);
  s.ticket = 0;
  s.phase = session::exchange::idle;
  s.retry_tsc = 0;
  s.retries = 0;
}

void broker_worker::impl::puback_in(session& s, std::uint32_t n, const mqttsn::puback& m) noexcept {
  if (s.phase != session::exchange::publishing || m.msg_id != s.packet_id) {
    ++count.unexpected; // late, doubled or made up: it names nothing that is leased now
    return;
  }
  switch (m.code) {
  case mqttsn::return_code::congestion:
    return; // the retransmission comes later
  case mqttsn::return_code::invalid_topic_id: {
    // It has forgotten the id: told again, then sent again. The retries go on counting.
    if (const std::uint32_t r = topics.find_by_id(n, m.topic_id); r != none)
      topics.at(r).known = false;
    s.phase = session::exchange::idle;
    if (++s.corrections > config.retries_max) {
      ++count.sessions_lost;
      return end_connection(s, n);
    }
    if (deliver_leased(s, n, true)) make_ready(s, n);
    return;
  }
  case mqttsn::return_code::not_supported:
    ++count.dropped_by_client;
    break;
  default:
    ++count.acked;
    break;
  }
  finish_delivery(s, n);
  make_ready(s, n);
}

void broker_worker::impl::schedule_retry(session& s, std::uint32_t n) noexcept {
  const std::uint64_t doubled = std::uint64_t{config.retry_ms} << std::min<unsigned>(s.retries, 16);
  const std::uint64_t wait = std::min<std::uint64_t>(doubled, config.retry_ms_max);
  const std::uint64_t due = now_tsc + milliseconds(wait);
  s.retry_tsc = due;
  // A timer that fires before looks at the deadline and arms itself again.
  if (s.timer_due == 0 || due < s.timer_due) arm(s, n);
}

bool broker_worker::impl::retransmit(session& s, std::uint32_t n) noexcept {
  s.retry_tsc = 0;
  if (s.retries >= config.retries_max) {
    ++count.sessions_lost;
    end_connection(s, n);
    return false;
  }
  ++s.retries;
  if (s.phase == session::exchange::registering) {
    ++count.retransmitted;
    send_register(s, s.registration);
    schedule_retry(s, n);
  } else if (s.ticket != 0) {
    const std::uint8_t tried = s.retries;
    s.phase = session::exchange::idle;
    if (deliver_leased(s, n, s.sent)) make_ready(s, n);
    if (s.phase == session::exchange::publishing) s.retries = tried;
  } else {
    make_ready(s, n);
  }
  return true;
}

} // namespace chainring
