// SPDX-License-Identifier: BSD-3-Clause
// The MQTT front end's set-up, and the way of octets from TCP to packets and of packets to TCP.
//
// The core may not be called while it settles or delivers. What follows from an outcome (a client
// whose session is open sends more, a client that is refused is closed) waits for the next poll().
#include "mqtt/server.h"

#include <algorithm>
#include <rte_cycles.h>
#include <utility>

#include "mqtt/server_state.h"

namespace chainring::mqtt {

std::uint32_t content_size_max(std::uint32_t packet_size_max) noexcept {
  constexpr std::uint32_t around = 5 + 2 + 1 + 2; // fixed header, topic of one octet, packet id
  return packet_size_max > around ? packet_size_max - around : 0;
}

namespace {
bool is_of_servers(packet_type type) noexcept {
  return type == packet_type::connack || type == packet_type::suback ||
         type == packet_type::unsuback || type == packet_type::pingresp;
}
} // namespace

server_worker::state::state(broker& b, const server_config& c)
    : config(c), core_broker(b), core(b.worker(0)), topics(core.topics()),
      section(c.packet_size_max), hz(rte_get_tsc_hz()) {}

server::server(std::unique_ptr<server_worker> w) : worker_(std::move(w)) {}
server::~server() = default;
server_worker::server_worker(std::unique_ptr<state> s) : state_(std::move(s)) {}
server_worker::~server_worker() = default;

result<std::unique_ptr<server>> server::create(broker& core, const server_config& c) {
  const auto refuse = [](const char* name, std::uint64_t value, const char* range) {
    return error{errc::invalid_argument,
                 std::string(name) + " " + std::to_string(value) + ": expected " + range};
  };
  if (!stream::tcp_available())
    return error{errc::unsupported, "Chainring was built without TCP: run .ci/install, which "
                                    "brings the sources of lwIP, and build again"};
  if (core.workers() != 1)
    return error{errc::unsupported,
                 "MQTT over TCP needs a broker with one worker lcore, and this one has " +
                     std::to_string(core.workers()) + "; start it with -l 0,1"};
  if (c.packet_size_max < 128 || c.packet_size_max > 16u << 20)
    return refuse("packet_size_max", c.packet_size_max, "128 to 16777216 octets");
  if (c.window_max == 0 || c.window_max > 1024)
    return refuse("window_max", c.window_max, "1 to 1024");
  if (c.connect_timeout_s == 0) return refuse("connect_timeout_s", 0, "at least 1");
  if (c.topic_aliases_max > 1024)
    return refuse("topic_aliases_max", c.topic_aliases_max, "0 to 1024");
  if (c.subscriptions_per_packet_max == 0)
    return refuse("subscriptions_per_packet_max", 0, "at least 1");
  auto s = std::make_unique<server_worker::state>(core, c);
  auto timers = timer_set::create(c.tcp.connections_max);
  if (!timers) return timers.error();
  s->timers = std::move(*timers);
  s->clients.resize(c.tcp.connections_max);
  s->listener_connections.resize(c.listeners.size());
  s->of_session.resize(core.sessions_limit());
  return std::unique_ptr<server>(
      new server(std::unique_ptr<server_worker>(new server_worker(std::move(s)))));
}

void server::use_rules(std::shared_ptr<const access::rule_set> rules) {
  worker_->state_->rules_board.publish(std::move(rules));
}

server_counters server::counters() const {
  server_counters sum{};
  add_counters(sum, worker_->state_->count);
  return sum;
}

stream::tcp_counters<std::uint64_t> server::tcp_counters() const {
  stream::tcp_counters<std::uint64_t> sum{};
  worker_->state_->carrier.add_to(sum);
  return sum;
}

void server::use_passwords(std::shared_ptr<const access::password_file> file) {
  server_worker::state& s = *worker_->state_;
  {
    const std::lock_guard held(s.files_lock);
    std::erase_if(s.files, [](const auto& old) { return old.use_count() == 1; });
    s.files.push_back(file);
  }
  s.passwords.offer(std::move(file));
}

result<void> server::reload_certificates() {
  return worker_->state_->carrier.load_certificates(worker_->state_->config);
}

tls::layer_counters<std::uint64_t> server::tls_counters() const {
  tls::layer_counters<std::uint64_t> sum{};
  worker_->state_->carrier.add_to(sum);
  return sum;
}

websocket::layer_counters<std::uint64_t> server::websocket_counters() const {
  websocket::layer_counters<std::uint64_t> sum{};
  worker_->state_->carrier.add_to(sum);
  return sum;
}

std::uint32_t server::connections() const noexcept {
  return static_cast<std::uint32_t>(worker_->state_->open_connections.value());
}

result<void> server_worker::attach(std::span<const std::unique_ptr<net::link>> links,
                                   rte_mempool* pool, const net::hearing* heard) {
  state& s = *state_;
  s.heard = heard;
  if (auto made = s.carrier.attach(s.config, links, pool, s); !made) return made.error();
  s.tcp = &s.carrier.streams();
  if (s.carrier.helpers() != nullptr) s.desk.open(*s.carrier.helpers(), s);
  s.adopt_rules();
  s.adopt_passwords();
  return {};
}

// --- the round ----------------------------------------------------------------------------------

stream::byte_stream_handler& server_worker::attach(stream::byte_streams& below) {
  state_->tcp = &below;
  state_->adopt_rules();
  state_->adopt_passwords();
  return *state_;
}

void server_worker::begin_round(std::uint64_t now_tsc) noexcept {
  state_->now_tsc = now_tsc;
  state_->carrier.begin_round(now_tsc);
}

bool server_worker::poll(std::uint64_t now_tsc) noexcept {
  state& s = *state_;
  s.now_tsc = now_tsc;
  s.adopt_rules();
  s.adopt_passwords();
  bool any = s.go_on();
  any |= s.carrier.poll(now_tsc);
  any |= s.desk.poll();
  s.timers->manage();
  return any;
}

void server_worker::send(mark_t mark) noexcept {
  state& s = *state_;
  for (const std::uint32_t n : s.with_output)
    s.clients[n].out.release(mark);
  // What was handled is durable, or refused, or waits in a queue of the core.
  for (const std::uint32_t n : std::exchange(s.to_consume, {})) {
    client& c = s.clients[n];
    if (const std::uint32_t octets = std::exchange(c.consumed, 0);
        octets != 0 && c.at != client::phase::none)
      s.tcp->consumed(n, octets);
  }
}

void server_worker::pump(media& medium) noexcept {
  state& s = *state_;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < s.with_output.size(); ++i) {
    const std::uint32_t n = s.with_output[i];
    client& c = s.clients[n];
    if (c.at != client::phase::none && !c.tcp_full) {
      const std::span<const std::byte> ready = c.out.durable(medium);
      if (!ready.empty()) {
        const std::size_t before = c.out.memory();
        const std::size_t taken = s.tcp->write(n, ready);
        c.tcp_full = taken < ready.size();
        c.out.sent(taken);
        s.memory -= before - c.out.memory();
        s.tcp->push(n);
      }
      if (c.out.size() == 0 && c.at == client::phase::leaving) {
        s.tcp->close(n);
        s.drop(c);
      }
      if (c.blocked && c.at == client::phase::open &&
          c.out.size() <= s.config.out_connection_max / 2) {
        c.blocked = false;
        s.core.resume(c.session);
      }
    }
    if (c.at != client::phase::none && c.out.size() != 0 && !c.tcp_full)
      s.with_output[kept++] = n;
    else
      c.in_output_list = false;
  }
  s.with_output.resize(kept);
}

void server_worker::shut_down() noexcept {
  state_->shut_down();
}

bool server_worker::is_flushed() const noexcept {
  return state_->with_output.empty();
}

// --- connections --------------------------------------------------------------------------------

std::uint64_t server_worker::state::token_for(const pending& p) {
  if (free_tokens.empty()) {
    tokens.push_back(p);
    return tokens.size() - 1;
  }
  const std::uint32_t at = free_tokens.back();
  free_tokens.pop_back();
  tokens[at] = p;
  return at;
}

void server_worker::state::note_output(client& c) noexcept {
  if (c.in_output_list) return;
  c.in_output_list = true;
  with_output.push_back(number_of(c));
}

void server_worker::state::defer(client& c) noexcept {
  if (c.deferred) return;
  c.deferred = true;
  deferred.push_back(number_of(c));
}

// Goes on with what outcomes have left.
bool server_worker::state::go_on() noexcept {
  if (deferred.empty()) return false;
  for (const std::uint32_t n : std::exchange(deferred, {})) {
    client& c = clients[n];
    c.deferred = false;
    if (c.at != client::phase::open) continue;
    if (c.condemned) {
      fail(c, broker_worker::end_reason::lost, reason_code::server_busy,
           "a message from a former connection of the client is not settled yet");
      continue;
    }
    handle_waiting(c);
    if (c.peer_finished && c.at == client::phase::open) {
      ++count.sessions_lost;
      end(c, broker_worker::end_reason::lost);
    }
  }
  return true;
}

// Forgets the connection, whose TCP connection is closed.
void server_worker::state::drop(client& c) noexcept {
  if (c.at == client::phase::none) return;
  timers->cancel(c.timer);
  memory -= c.in.capacity() + c.out.memory() + (c.v5 != nullptr ? c.v5->memory : 0);
  if (!exchanges.empty()) end_exchange(c);
  if (c.session != no_session) of_session[c.session] = 0;
  --listener_connections[c.listener];
  const std::uint32_t life = c.life;
  const bool listed = c.in_output_list, waits = c.deferred;
  c = {};
  c.life = life + 1;
  c.in_output_list = listed; // it leaves these lists when its turn comes
  c.deferred = waits;
  open_connections += UINT64_MAX;
}

void server_worker::state::leave(client& c) noexcept {
  if (c.session != no_session) of_session[c.session] = 0;
  c.session = no_session;
  if (c.out.size() == 0) {
    tcp->close(number_of(c));
    drop(c);
    return;
  }
  c.at = client::phase::leaving;
  // A client that does not take what was written for it is not waited for.
  c.heard_tsc = now_tsc;
  arm(c);
}

void server_worker::state::fail(client& c, broker_worker::end_reason why, reason_code reason,
                                std::string_view said) noexcept {
  tell_end(c, reason, said);
  end(c, why);
}

void server_worker::state::end(client& c, broker_worker::end_reason why) noexcept {
  if (c.session != no_session) core.close_session(c.session, why);
  leave(c);
}

// Sets the timer to when the client counts as silent. When the timer fires, it looks whether the
// client was heard meanwhile, so that no packet has to set it again.
void server_worker::state::arm(client& c) noexcept {
  timers->cancel(c.timer);
  c.timer = {};
  std::uint64_t allowed = 0; // in ticks; 0 means any time
  if (c.at != client::phase::open)
    allowed = seconds(config.connect_timeout_s);
  else if (c.keep_alive_s != 0)
    allowed = seconds(c.keep_alive_s) + seconds(c.keep_alive_s) / 2; // MQTT-3.1.2-22, in 3.1.1 -24
  if (allowed == 0) return;
  // A deadline that is over and could not be judged yet is looked at again soon.
  const std::uint64_t due = std::max(c.heard_tsc + allowed, now_tsc + hz / 100);
  c.timer = timers->arm(
      due,
      [](void* self, std::uint64_t n) noexcept {
        static_cast<state*>(self)->on_timer(static_cast<std::uint32_t>(n));
      },
      this, number_of(c));
}

void server_worker::state::on_timer(std::uint32_t n) noexcept {
  client& c = clients[n];
  c.timer = {};
  if (c.at == client::phase::none) return;
  const bool open = c.at == client::phase::open;
  const std::uint64_t allowed = open ? seconds(c.keep_alive_s) + seconds(c.keep_alive_s) / 2
                                     : seconds(config.connect_timeout_s);
  const std::uint64_t end = c.heard_tsc + allowed;
  // What ends the silence may still wait in the port.
  const bool read = heard == nullptr || heard->heard_until(c.from.key()) >= end;
  const bool busy = c.at == client::phase::proving || c.at == client::phase::opening;
  if (now_tsc < end || !read || busy) return arm(c);
  if (c.at == client::phase::leaving) {
    tcp->abort(n);
    return drop(c);
  }
  if (open)
    ++count.sessions_lost;
  else
    ++count.connect_timeouts;
  fail(c, broker_worker::end_reason::lost, reason_code::keep_alive_timeout,
       "nothing came from the client for one and a half times its keep alive");
}

// --- what TCP tells -----------------------------------------------------------------------------

void server_worker::state::accepted(stream::connection n, const net::endpoint& from,
                                    std::uint16_t own_port) noexcept {
  if (!enter(n, own_port)) return;
  client& c = clients[n];
  c.at = client::phase::waiting;
  c.from = from;
  c.heard_tsc = now_tsc;
  ++open_connections;
  arm(c);
}

void server_worker::state::received(stream::connection n,
                                    std::span<const std::byte> octets) noexcept {
  client& c = clients[n];
  if (c.at == client::phase::none || c.at == client::phase::leaving) return;
  const std::uint32_t life = c.life;
  if (c.at == client::phase::proving || c.at == client::phase::opening || c.condemned) {
    c.held += static_cast<std::uint32_t>(octets.size()); // the window bounds what waits
  } else {
    if (c.consumed == 0) to_consume.push_back(n);
    c.consumed += static_cast<std::uint32_t>(octets.size());
    if (c.in.empty()) octets = octets.subspan(handle_packets(c, octets));
  }
  if (c.life != life || c.at == client::phase::leaving || octets.empty()) return;
  const std::size_t before = c.in.capacity();
  c.in.insert(c.in.end(), octets.begin(), octets.end());
  memory += c.in.capacity() - before;
  if (memory > config.memory_max) {
    ++count.closed_out_of_memory;
    return fail(c, broker_worker::end_reason::lost, reason_code::quota_exceeded,
                "the broker has no memory for more octets of unfinished packets");
  }
  handle_waiting(c);
}

// Handles the packets that are whole among what waits.
void server_worker::state::handle_waiting(client& c) noexcept {
  if (c.in.empty() || c.condemned || !takes_packets(c)) return;
  if (c.held != 0) {
    if (c.consumed == 0) to_consume.push_back(number_of(c));
    c.consumed += std::exchange(c.held, 0);
  }
  const std::uint32_t life = c.life;
  const std::size_t used = handle_packets(c, c.in);
  if (c.life != life || used == 0) return;
  const std::size_t before = c.in.capacity();
  c.in.erase(c.in.begin(), c.in.begin() + static_cast<std::ptrdiff_t>(used));
  if (c.in.empty()) c.in.shrink_to_fit();
  memory -= before - c.in.capacity();
}

// Handles whole packets at the start of `octets`, and returns how many octets they have. When the
// connection is closed meanwhile, the result means nothing.
std::size_t server_worker::state::handle_packets(client& c,
                                                 std::span<const std::byte> octets) noexcept {
  const std::uint32_t life = c.life;
  std::size_t used = 0;
  while (used < octets.size() && c.life == life && !c.condemned && takes_packets(c)) {
    frame f;
    switch (find_frame(octets.subspan(used), config.packet_size_max, f)) {
    case frame_status::need_more:
      return used;
    case frame_status::malformed:
      ++count.malformed;
      fail(c, broker_worker::end_reason::lost, reason_code::malformed_packet,
           "no packet starts like this");
      return used;
    case frame_status::too_long:
      ++count.too_long;
      fail(c, broker_worker::end_reason::lost, reason_code::packet_too_large,
           "the packet is longer than the Maximum Packet Size of CONNACK");
      return used;
    case frame_status::ok:
      break;
    }
    ++count.packets;
    // Single octets of a packet prolong no deadline, neither that of CONNECT nor the keep alive.
    if (c.at == client::phase::open) c.heard_tsc = now_tsc;
    handle_packet(c, octets.subspan(used, f.size), f.type);
    used += f.size;
  }
  return used;
}

void server_worker::state::handle_packet(client& c, std::span<const std::byte> packet,
                                         packet_type type) noexcept {
  const bool waits = c.at == client::phase::waiting;
  // The first packet is CONNECT, and no other one is (MQTT-3.1.0-1, MQTT-3.1.0-2).
  if (waits != (type == packet_type::connect)) {
    ++count.unexpected;
    return fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
                waits ? "the first packet is not CONNECT" : "a second CONNECT");
  }
  if (c.at == client::phase::authenticating && type != packet_type::auth &&
      type != packet_type::disconnect) { // MQTT-3.1.2-30
    ++count.unexpected;
    return fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
                "before CONNACK a client sends nothing but AUTH and DISCONNECT");
  }
  if (is_of_servers(type)) { // whatever is in it
    ++count.unexpected;
    return fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
                "only a server sends such a packet");
  }
  message m;
  const decode_status status = decode(c.speaks, packet, m);
  const bool is_v5 = m.level == static_cast<std::uint8_t>(version::v5);
  if (waits && is_v5) {
    c.speaks = version::v5;
  } else if (waits && m.level != static_cast<std::uint8_t>(version::v3_1_1) &&
             status != decode_status::malformed) {
    ++count.versions_refused;
    if (m.level != 0)
      write(c, 16, [](std::span<std::byte> room) {
        return encode_connack(room, version::v3_1_1,
                              {.return_code = connect_return_code::unacceptable_protocol_version});
      });
    return leave(c);
  }
  if (status != decode_status::ok) {
    ++count.malformed;
    return fail(c, broker_worker::end_reason::lost, reason_for(status));
  }
  switch (type) {
  case packet_type::connect:
    connect_packet = packet;
    return handle(c, *m.get<connect>());
  case packet_type::publish:
    return handle(c, *m.get<publish>());
  case packet_type::puback:
    return handle(c, *m.get<puback>());
  case packet_type::pubrec:
    return handle(c, *m.get<pubrec>());
  case packet_type::pubrel:
    return handle(c, *m.get<pubrel>());
  case packet_type::pubcomp:
    return handle(c, *m.get<pubcomp>());
  case packet_type::subscribe:
    return handle(c, *m.get<subscribe>());
  case packet_type::unsubscribe:
    return handle(c, *m.get<unsubscribe>());
  case packet_type::pingreq:
    ++count.pings;
    return write(c, 2,
                 [](std::span<std::byte> room) { return encode_pingresp(room, version::v3_1_1); });
  case packet_type::disconnect:
    return handle(c, *m.get<disconnect>());
  case packet_type::auth:
    return handle(c, *m.get<auth>());
  default:
    ++count.unexpected;
    return fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
                "a client does not send this packet here");
  }
}

void server_worker::state::finished(stream::connection n) noexcept {
  client& c = clients[n];
  if (c.at == client::phase::none) return;
  if (c.at == client::phase::proving || c.at == client::phase::opening ||
      c.deferred) { // what it has sent before is handled first
    c.peer_finished = true;
    return;
  }
  if (c.at == client::phase::open) ++count.sessions_lost;
  if (c.at != client::phase::leaving) end(c, broker_worker::end_reason::lost);
}

void server_worker::state::writable(stream::connection n) noexcept {
  client& c = clients[n];
  if (c.at == client::phase::none) return;
  c.tcp_full = false;
  if (c.out.size() != 0) note_output(c);
}

void server_worker::state::ended(stream::connection n, stream::end_reason) noexcept {
  client& c = clients[n];
  if (c.at == client::phase::none) return;
  if (c.session != no_session) {
    ++count.sessions_lost;
    core.close_session(c.session, broker_worker::end_reason::lost);
  }
  drop(c);
}

} // namespace chainring::mqtt
