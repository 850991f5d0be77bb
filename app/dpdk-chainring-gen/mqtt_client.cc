// SPDX-License-Identifier: BSD-3-Clause
// The clients' side of MQTT. The sources are the standards of versions 3.1.1 and 5.0.
#include <algorithm>
#include <rte_cycles.h>
#include <utility>

#include "mqtt_generator.h"

namespace chainring::gen {

namespace {

constexpr std::size_t around_payload = 1024; ///< room for names and headers
/// A client whose connection was lost tries again after this time, and after longer ones later.
constexpr double again_s = 0.02;
constexpr unsigned again_shift_max = 6;
constexpr std::uint32_t never = 0xffffffff; ///< the session expiry that never comes

mqtt::qos_level level_of(int qos) noexcept {
  return static_cast<mqtt::qos_level>(qos);
}

bool is_congestion(mqtt::reason_code code) noexcept {
  return code == mqtt::reason_code::quota_exceeded || code == mqtt::reason_code::server_busy ||
         code == mqtt::reason_code::server_unavailable;
}

} // namespace

mqtt_generator::mqtt_generator(const options& o, ledger& book, ledger_file* file, int signal_fd)
    : generator(o, book, file, signal_fd),
      version_(o.protocol == protocol::mqtt_5 ? mqtt::version::v5 : mqtt::version::v3_1_1),
      wires_(o.clients()), exchanges_(o.clients()), client_of_(o.clients()),
      room_(o.shape.payload_max + around_payload) {}

mqtt_generator::~mqtt_generator() = default;

result<void> mqtt_generator::open_protocol() {
  packets_.emplace(std::span(&link_, 1), pool_);
  stream::tcp_options t;
  t.connections_max = options_.clients();
  stream::byte_stream_handler* above_tcp = this;
  if (!options_.tls_ca.empty()) {
    auto context = tls::context::for_clients(options_.tls_ca);
    if (!context) return error{context.error().code, "--tls-ca: " + context.error().message};
    auto crew = stream::helper_crew::create(1, 64);
    if (!crew) return crew.error();
    crew_ = std::move(*crew);
    tls::layer_options secure;
    secure.connections_max = options_.clients();
    auto layer = tls::layer::create(secure, *crew_, *this);
    if (!layer) return layer.error();
    tls_ = std::move(*layer);
    tls_->use(std::move(*context));
    above_tcp = tls_.get();
  }
  auto made = stream::tcp_stack::create(t, *above_tcp, *packets_);
  if (!made) return made.error();
  tcp_ = std::move(*made);
  wire_ = tcp_.get();
  if (tls_ != nullptr) {
    tls_->use(*tcp_);
    wire_ = tls_.get();
  }
  if (auto added = packets_->add_interfaces(*tcp_); !added) return added.error();
  packets_->attach(*tcp_);
  return {};
}

bool mqtt_generator::poll() noexcept {
  packets_->begin_round(now_);
  bool any = tcp_->poll(now_);
  if (tls_ == nullptr) return any;
  any |= crew_->collect();
  return tls_->poll(now_) || any;
}

void mqtt_generator::receive(const net::datagram&) noexcept {
  ++outcome_.foreign;
}

// --- connections --------------------------------------------------------------------------------

void mqtt_generator::connect(std::uint32_t i, state as) noexcept {
  hang_up(i);
  clients_[i].state = as;
  wire& w = wires_[i];
  packets_->begin_round(now_);
  w.connection = tcp_->connect(0, endpoint_of(i).port, options_.broker);
  if (w.connection != stream::no_connection) client_of_[w.connection] = i;
  arm(i);
}

void mqtt_generator::hang_up(std::uint32_t i) noexcept {
  wire& w = wires_[i];
  if (w.connection != stream::no_connection) wire_->abort(w.connection);
  w = {};
}

void mqtt_generator::connected(stream::connection c) noexcept {
  const std::uint32_t i = client_of_[c];
  wires_[i].up = true;
  heard_tsc_ = clients_[i].heard_tsc = now_;
  char room[name_room];
  mqtt::connect m{.client_id = client_id(i, room)};
  const bool wipes = clients_[i].state == state::wiping;
  m.clean_start = wipes || options_.shape.clean;
  if (version_ == mqtt::version::v5 && !options_.shape.clean) m.properties.session_expiry_s = never;
  say(i, m);
  arm(i);
}

void mqtt_generator::lost(std::uint32_t i) noexcept {
  wires_[i] = {};
  if (tls_ != nullptr) outcome_.handshakes_failed = tls_->counters().handshakes_failed.value();
  client& c = clients_[i];
  if (c.state == state::away) return;
  if (c.state == state::leaving) {
    c.state = state::away;
    return;
  }
  if (c.state == state::ready || c.state == state::preparing) {
    ++outcome_.reconnects;
    if (c.state == state::ready) ++opening_;
    if (!is_publisher(i) && options_.shape.clean) ledger_.unsubscribe(subscriber_of(i));
    c.tries = 0;
    c.state = state::connecting;
  }
  due_[i] = now_ + (cycles(again_s) << std::min<unsigned>(c.tries, again_shift_max));
}

void mqtt_generator::finished(stream::connection c) noexcept {
  const std::uint32_t i = client_of_[c];
  wire_->close(c);
  lost(i);
}

void mqtt_generator::ended(stream::connection c, stream::end_reason) noexcept {
  lost(client_of_[c]);
}

void mqtt_generator::writable(stream::connection c) noexcept {
  wire& w = wires_[client_of_[c]];
  const std::size_t taken = wire_->write(c, w.rest);
  w.rest.erase(w.rest.begin(), w.rest.begin() + static_cast<std::ptrdiff_t>(taken));
  wire_->push(c);
}

// --- sending ------------------------------------------------------------------------------------

void mqtt_generator::write(std::uint32_t i, std::span<const std::byte> octets) noexcept {
  wire& w = wires_[i];
  if (!w.up) return;
  packets_->begin_round(now_);
  if (w.rest.empty()) octets = octets.subspan(wire_->write(w.connection, octets));
  w.rest.insert(w.rest.end(), octets.begin(), octets.end());
  wire_->push(w.connection);
}

void mqtt_generator::say(std::uint32_t i, const mqtt::message_body& m) noexcept {
  write(i, std::span(room_).first(mqtt::encode(room_, version_, m)));
}

void mqtt_generator::prepare(std::uint32_t i) noexcept {
  const shape& s = options_.shape;
  clients_[i].state = state::preparing;
  char room[name_room];
  mqtt::subscription one{.qos = level_of(s.qos)};
  if (s.wildcard) {
    char* end = std::ranges::copy(s.prefix, room).out;
    one.filter = {room, std::ranges::copy(std::string_view("/#"), end).out};
  } else {
    one.filter = topic_name(subscriber_of(i) % s.topics, room);
  }
  say(i, mqtt::subscribe{.packet_id = clients_[i].request_id,
                         .subscriptions = std::span<const mqtt::subscription>(&one, 1)});
  arm(i);
}

void mqtt_generator::publish(std::uint32_t i) noexcept {
  const stamp s = ledger_.last_stamp(i);
  if (exchanges_[i].released) { // the broker has the message
    arm(i);
    return say(i, mqtt::pubrel{.packet_id = id_of(s.sequence)});
  }
  const std::uint32_t size = ledger_.payload_size(i, s.sequence);
  char room[name_room];
  mqtt::publish m{.qos = level_of(options_.shape.qos),
                  .topic = topic_name(ledger_.topic_of(i), room)};
  if (ledger_.acknowledges()) {
    m.dup = clients_[i].dup;
    m.packet_id = id_of(s.sequence);
    arm(i);
  }
  const std::size_t header = mqtt::encode_publish_header(room_, version_, m, size);
  write_payload(std::span(room_).subspan(header, size), s);
  write(i, std::span(room_).first(header + size));
}

void mqtt_generator::leave(std::uint32_t i) noexcept {
  client& c = clients_[i];
  due_[i] = 0;
  if (c.state == state::ready) say(i, mqtt::disconnect{});
  c.state = state::away;
  wire& w = wires_[i];
  if (w.up)
    wire_->close(w.connection);
  else if (w.connection != stream::no_connection)
    wire_->abort(w.connection);
  w = {};
}

// A client that waits sends PINGREQ, so that it hears when its connection is no more. The broker
// may hold an answer back for long, and never loses a PINGREQ. But a broker that was restarted
// knows nothing of the connection, and TCP, which doubles its time for each repetition, may be
// silent for minutes before it finds that out.
void mqtt_generator::on_timeout(std::uint32_t i) noexcept {
  client& c = clients_[i];
  wire& w = wires_[i];
  due_[i] = 0;
  if (c.state == state::away || c.state == state::leaving) return;
  if (c.tries < 255) ++c.tries;
  if (c.state == state::ready && is_publisher(i)) {
    if (!ledger_.outstanding(i)) return;
    if (c.refused) { // the broker refused the message, so DUP is not set
      c.refused = false;
      c.tries = 0;
      return publish(i);
    }
  }
  if (c.state == state::ready || c.state == state::preparing) {
    if (!w.pinged && now_ - c.heard_tsc >= ping_tsc_) {
      w.pinged = true;
      say(i, mqtt::pingreq{});
    }
    if (w.pinged && now_ - c.heard_tsc >= cycles(options_.connection_timeout_s)) {
      wire_->abort(w.connection);
      return lost(i);
    }
    due_[i] = now_ + ping_tsc_;
    return;
  }
  connect(i, c.state);
}

// --- receiving ----------------------------------------------------------------------------------

void mqtt_generator::received(stream::connection c, std::span<const std::byte> octets) noexcept {
  const std::uint32_t i = client_of_[c];
  wire& w = wires_[i];
  clients_[i].heard_tsc = heard_tsc_ = now_;
  outcome_.answered = true;
  w.pinged = false;
  wire_->consumed(c, static_cast<std::uint32_t>(octets.size()));
  const bool kept = !w.in.empty();
  if (kept) {
    w.in.insert(w.in.end(), octets.begin(), octets.end());
    octets = w.in;
  }
  std::size_t used = 0;
  mqtt::frame f;
  while (used < octets.size() && wires_[i].connection == c) {
    const mqtt::frame_status status =
        mqtt::find_frame(octets.subspan(used), std::size_t{1} << 28, f);
    if (status == mqtt::frame_status::need_more) break;
    if (status != mqtt::frame_status::ok) {
      ++outcome_.malformed;
      wire_->abort(c);
      return lost(i);
    }
    handle(i, octets.subspan(used, f.size));
    used += f.size;
  }
  if (wires_[i].connection != c) return; // the client has another one by now
  if (kept)
    w.in.erase(w.in.begin(), w.in.begin() + static_cast<std::ptrdiff_t>(used));
  else
    w.in.assign(octets.begin() + static_cast<std::ptrdiff_t>(used), octets.end());
}

void mqtt_generator::handle(std::uint32_t i, std::span<const std::byte> packet) noexcept {
  mqtt::message m;
  if (mqtt::decode(version_, packet, m) != mqtt::decode_status::ok) {
    ++outcome_.malformed;
    return;
  }
  if (const auto* p = m.get<mqtt::publish>()) return on_publish(i, *p);
  if (const auto* p = m.get<mqtt::puback>()) return on_puback(i, *p);
  if (const auto* p = m.get<mqtt::pubrec>()) return on_pubrec(i, *p);
  if (const auto* p = m.get<mqtt::pubrel>()) return on_pubrel(i, *p);
  if (const auto* p = m.get<mqtt::pubcomp>()) return on_pubcomp(i, *p);
  if (const auto* p = m.get<mqtt::connack>()) return on_connack(i, *p);
  if (const auto* p = m.get<mqtt::suback>()) return on_suback(i, *p);
  if (m.get<mqtt::pingresp>() != nullptr) return;
  if (m.get<mqtt::disconnect>() != nullptr) return; // the broker closes the connection behind it
  ++outcome_.unexpected;
}

void mqtt_generator::on_connack(std::uint32_t i, const mqtt::connack& m) noexcept {
  client& c = clients_[i];
  if (c.state != state::wiping && c.state != state::connecting) {
    ++outcome_.unexpected;
    return;
  }
  const bool v5 = version_ == mqtt::version::v5;
  if (v5 ? m.reason != mqtt::reason_code::success
         : m.return_code != mqtt::connect_return_code::accepted) {
    (void)again_later(i, "CONNECT",
                      v5 ? is_congestion(m.reason)
                         : m.return_code == mqtt::connect_return_code::server_unavailable,
                      v5 ? mqtt::to_string(m.reason) : mqtt::to_string(m.return_code));
    return;
  }
  if (!m.session_present) { // the exchanges went with the session
    exchanges_[i].received.clear();
    if (std::exchange(exchanges_[i].released, false)) acknowledged(i);
  }
  // In MQTT 3.1.1 a clean session ends with its connection, so another one is begun.
  if (c.state == state::connecting || v5) return connected(i, false);
  say(i, mqtt::disconnect{});
  wire_->close(wires_[i].connection);
  wires_[i] = {};
  c.tries = 0;
  c.state = state::connecting;
  due_[i] = now_ + 1;
}

void mqtt_generator::on_suback(std::uint32_t i, const mqtt::suback& m) noexcept {
  client& c = clients_[i];
  if (c.state != state::preparing || is_publisher(i) || m.packet_id != c.request_id) {
    ++outcome_.unexpected;
    return;
  }
  const mqtt::reason_code code = *m.reasons.begin();
  if (static_cast<std::uint8_t>(code) > 2) {
    (void)again_later(i, "SUBSCRIBE", is_congestion(code), mqtt::to_string(code));
    return;
  }
  ledger_.subscribe(subscriber_of(i));
  set_ready(i);
}

void mqtt_generator::refused(std::uint32_t i, mqtt::reason_code why) noexcept {
  if (is_congestion(why)) return congested(i);
  (void)again_later(i, "PUBLISH", false, mqtt::to_string(why));
}

void mqtt_generator::on_puback(std::uint32_t i, const mqtt::puback& m) noexcept {
  if (!is_publisher(i) || !awaits(i, m.packet_id) || options_.shape.qos != 1) {
    ++outcome_.unexpected;
    return;
  }
  if (static_cast<std::uint8_t>(m.reason) >= 0x80) return refused(i, m.reason);
  acknowledged(i);
}

void mqtt_generator::on_pubrec(std::uint32_t i, const mqtt::pubrec& m) noexcept {
  if (!is_publisher(i) || !awaits(i, m.packet_id) || options_.shape.qos != 2) {
    ++outcome_.unexpected;
    return;
  }
  if (static_cast<std::uint8_t>(m.reason) >= 0x80) return refused(i, m.reason);
  exchanges_[i].released = true;
  publish(i);
}

void mqtt_generator::on_pubcomp(std::uint32_t i, const mqtt::pubcomp& m) noexcept {
  if (!is_publisher(i) || !awaits(i, m.packet_id) || !exchanges_[i].released) {
    ++outcome_.unexpected;
    return;
  }
  exchanges_[i].released = false;
  acknowledged(i);
}

// A PUBREL whose PUBLISH came to an earlier life of the ledger is answered too.
void mqtt_generator::on_pubrel(std::uint32_t i, const mqtt::pubrel& m) noexcept {
  std::erase(exchanges_[i].received, m.packet_id);
  say(i, mqtt::pubcomp{.packet_id = m.packet_id});
}

void mqtt_generator::on_publish(std::uint32_t i, const mqtt::publish& m) noexcept {
  if (m.qos == mqtt::qos_level::two) {
    std::vector<std::uint16_t>& received = exchanges_[i].received;
    const bool again = std::ranges::find(received, m.packet_id) != received.end();
    say(i, mqtt::pubrec{.packet_id = m.packet_id});
    if (again) return; // the message of an exchange that is not over
    received.push_back(m.packet_id);
  }
  const std::uint32_t topic = is_publisher(i) ? topic_ids::none : topic_of_name(m.topic);
  if (topic == topic_ids::none)
    ++outcome_.unexpected;
  else
    delivered(subscriber_of(i), topic, m.payload, m.dup);
  if (m.qos == mqtt::qos_level::one) say(i, mqtt::puback{.packet_id = m.packet_id});
}

} // namespace chainring::gen
