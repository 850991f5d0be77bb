// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: clients of MQTT do whatever they like, in any order, while the broker's bursts, its
// end and a new start lie between. The front end and the core are the product's; only the
// connections are byte strings.
//
// An input is a list of steps: an octet with the client in its two low bits and the step in the
// next three. Step 0: octets, behind their length (1); the client connects first where it is not
// connected. 1: the same, each octet in a segment of its own. 2: the client answers the oldest
// packet that it was sent. 3: its connection ends, by the next octet: 0 by reset, 1 by its own end
// and 2 by a new connection. 4: the client takes so many times 8 octets (1) and no more. 5: the
// burst ends. 6: bursts run until everything has settled. 7: the process dies and the next one
// opens the region.
//
// What is looked at: each packet to a client is one that a server may send at this time in the
// client's version and is not longer than the client takes; no packet identifier is used twice at
// one time, and no more messages are under way than the client allows; nothing follows the end of a
// connection; the broker opens the window for all that it was sent; the region stays whole.
#include <array>
#include <set>

#include "../lib/broker/broker_fixture.h"
#include "../lib/region/region_fixture.h"
#include "../lib/stream/fake_streams.h"
#include "fuzz.h"
#include "mqtt/codec.h"
#include "mqtt/server.h"

namespace chainring::mqtt {
namespace {

using chainring::test::kept_media;
using chainring::test::line_bytes;

constexpr std::uint32_t clients_max = 4;
constexpr std::uint32_t packet_size_max = 1024;

/// What a client knows of its connection.
struct peer {
  bool connected = false, established = false;
  bool finished = false;   ///< it sends nothing more
  bool has_spoken = false; ///< it has sent a packet, which counts for its version
  version speaks = version::v3_1_1;
  std::size_t packet_max = SIZE_MAX, receive_maximum = 65535;
  std::uint64_t octets = 0;                   ///< sent to the broker
  std::vector<std::byte> said;                ///< what it has sent since its last whole packet
  bool sensible = true;                       ///< what it has sent is packets
  std::deque<std::vector<std::byte>> waiting; ///< packets that it has not answered
  std::set<std::uint16_t> under_way; ///< identifiers of messages to it that it has not finished
  std::set<std::uint16_t> received;  ///< of these, the ones at QoS 2 behind PUBREC
};

class world {
 public:
  world(line_bytes& memory, bool fresh) {
    broker_config config = testing_broker::tiny_config();
    config.queue_slots_first = 2; // so that queues grow
    store_layout l;
    l.sessions_max = 4;
    l.subscriptions_max = 8;
    l.messages_max = 32;
    l.groups_max = l.retained_max = 2;
    auto made = testing_broker::broker_on(std::make_unique<kept_media>(memory), config, fresh, l);
    fuzz::expect(made.ok(), made.ok() ? "" : made.error().message);
    core_ = std::move(*made);
    if (!core_->opened().notes.empty()) fuzz::expect(false, core_->opened().notes.front());
    server_config c;
    c.tcp.connections_max = clients_max;
    c.packet_size_max = packet_size_max;
    c.window_max = 3;
    c.topic_aliases_max = 2;
    c.subscriptions_per_packet_max = 4;
    c.identified_per_client_max = 2;
    c.out_connection_max = 2048;
    c.memory_max = 16 << 10;
    auto front = server::create(*core_, c);
    fuzz::expect(front.ok(), front.ok() ? "" : front.error().message);
    server_ = std::move(*front);
    auto rules =
        access::rule_set::parse("deny publish,subscribe topic denied/#\ndefault allow\n", "");
    server_->use_rules(*rules);
    handler_ = &server_->worker().attach(wires_);
  }
  void connect(std::uint32_t n) {
    wires_.lines[n] = {};
    peers_[n] = {};
    peers_[n].connected = true;
    handler_->accepted(n, {0x0a000001 + n, static_cast<std::uint16_t>(1000 + n), 0}, 1883);
  }
  void send(std::uint32_t n, std::span<const std::byte> octets) {
    if (!peers_[n].connected) connect(n);
    if (peers_[n].finished) return;
    watch_said(peers_[n], octets);
    peers_[n].octets += octets.size();
    const std::vector<std::byte> exact(octets.begin(), octets.end());
    handler_->received(n, exact);
    look(n);
  }
  /// Answers the oldest packet as a client should.
  void answer(std::uint32_t n) {
    peer& p = peers_[n];
    if (!p.connected || p.waiting.empty()) return;
    const std::vector<std::byte> octets = std::move(p.waiting.front());
    p.waiting.pop_front();
    message m;
    (void)decode(p.speaks, octets, m);
    if (const auto* got = m.get<publish>()) {
      if (got->qos == qos_level::one) say(n, puback{.packet_id = got->packet_id});
      if (got->qos == qos_level::two) say(n, pubrec{.packet_id = got->packet_id});
    } else if (const auto* rec = m.get<pubrec>()) {
      if (rec->reason < reason_code::unspecified_error) say(n, pubrel{.packet_id = rec->packet_id});
    } else if (const auto* rel = m.get<pubrel>()) {
      say(n, pubcomp{.packet_id = rel->packet_id});
    }
  }
  void hang_up(std::uint32_t n, unsigned how) {
    if (!peers_[n].connected) return;
    if (how == 1) {
      if (!std::exchange(peers_[n].finished, true)) handler_->finished(n);
      return look(n);
    }
    handler_->ended(n, stream::end_reason::reset);
    peers_[n] = {};
    if (how == 2) connect(n);
  }
  void take_only(std::uint32_t n, std::size_t room) {
    if (!peers_[n].connected) return;
    wires_.make_room(*handler_, n, room);
    look(n);
  }
  bool round() {
    server_worker& w = server_->worker();
    w.begin_round(rte_rdtsc());
    bool any = w.poll(rte_rdtsc());
    const mark_t mark = core_->worker(0).end_burst();
    any |= core_->worker(0).worked();
    w.send(mark);
    w.pump(core_->medium());
    for (std::uint32_t n = 0; n < clients_max; ++n)
      look(n);
    return any;
  }
  void settle() {
    int rounds = 0;
    for (int quiet = 0; quiet < 3; ++rounds) {
      quiet = round() ? 0 : quiet + 1;
      fuzz::expect(rounds < 10'000, "the broker does not come to rest");
    }
    for (std::uint32_t n = 0; n < clients_max; ++n) {
      const stream::fake_streams::line& line = wires_.lines[n];
      if (!peers_[n].connected || line.room != SIZE_MAX) continue;
      fuzz::expect(!peers_[n].finished, "a client that has ended is not let go");
      fuzz::expect(line.consumed == peers_[n].octets,
                   "the window stays closed for what was handled");
    }
  }

 private:
  template <class T> void say(std::uint32_t n, const T& m) {
    std::vector<std::byte> octets(64);
    octets.resize(encode(octets, peers_[n].speaks, message_body(m)));
    send(n, octets);
  }
  /// Notes what the client says of itself, and what it acknowledges.
  static void watch_said(peer& p, std::span<const std::byte> octets) {
    p.said.insert(p.said.end(), octets.begin(), octets.end());
    while (p.sensible) {
      frame f;
      const frame_status found = find_frame(p.said, packet_size_max, f);
      if (found == frame_status::need_more) return;
      message m;
      p.sensible = found == frame_status::ok &&
                   decode(p.speaks, std::span(p.said).first(f.size), m) == decode_status::ok;
      const bool first = !std::exchange(p.has_spoken, true);
      if (first && m.level == static_cast<std::uint8_t>(version::v5))
        p.speaks = version::v5; // an answer says in this version what is wrong
      if (!p.sensible) return;
      if (const auto* c = m.get<mqtt::connect>(); c != nullptr && first) {
        p.packet_max = c->properties.maximum_packet_size.value_or(UINT32_MAX);
        p.receive_maximum = c->properties.receive_maximum.value_or(65535);
      } else if (const auto* a = m.get<puback>()) {
        p.under_way.erase(a->packet_id);
      } else if (const auto* r = m.get<pubrec>()) {
        if (r->reason >= reason_code::unspecified_error) p.under_way.erase(r->packet_id);
      } else if (const auto* e = m.get<pubcomp>()) {
        p.under_way.erase(e->packet_id);
      }
      p.said.erase(p.said.begin(), p.said.begin() + static_cast<std::ptrdiff_t>(f.size));
    }
  }
  /// Looks at what the client was sent, and whether its connection has ended.
  void look(std::uint32_t n) {
    stream::fake_streams::line& line = wires_.lines[n];
    peer& p = peers_[n];
    fuzz::expect(p.connected || line.sent.empty(), "octets follow the end of a connection");
    if (!p.connected) return;
    std::span<const std::byte> left = std::as_bytes(std::span(line.sent));
    for (frame f; find_frame(left, SIZE_MAX, f) != frame_status::need_more; f = {}) {
      fuzz::expect(f.size != 0 && f.size <= left.size(), "the broker sent what is no packet");
      look_at(p, left.first(f.size));
      left = left.subspan(f.size);
    }
    fuzz::expect(!line.closed || left.empty(), "a connection ends within a packet");
    line.sent.erase(0, line.sent.size() - left.size());
    if (!line.closed && !line.aborted) return;
    line = {};
    p = {};
  }
  static void look_at(peer& p, std::span<const std::byte> octets) {
    message m;
    const std::vector<std::byte> exact(octets.begin(), octets.end());
    fuzz::expect(decode(p.speaks, exact, m) == decode_status::ok,
                 "the broker sent a malformed packet");
    fuzz::expect(octets.size() <= p.packet_max, "a packet is longer than its client takes");
    const auto* connected = m.get<connack>();
    fuzz::expect((connected != nullptr) != p.established,
                 "CONNACK is not the first packet, or not the only one");
    if (connected != nullptr)
      p.established = p.speaks == version::v5
                          ? connected->reason == reason_code::success
                          : connected->return_code == connect_return_code::accepted;
    for (const packet_type never : {packet_type::connect, packet_type::subscribe,
                                    packet_type::unsubscribe, packet_type::pingreq})
      fuzz::expect(m.type != never, "only a client sends such a packet");
    if (const auto* given = m.get<publish>(); given != nullptr && given->qos != qos_level::zero) {
      fuzz::expect(p.under_way.insert(given->packet_id).second,
                   "a packet identifier is used twice at one time");
      fuzz::expect(p.under_way.size() <= p.receive_maximum,
                   "more messages are under way than the client allows");
    }
    p.waiting.push_back(exact);
  }

  std::unique_ptr<broker> core_;
  stream::fake_streams wires_;
  std::unique_ptr<server> server_;
  stream::byte_stream_handler* handler_ = nullptr;
  std::array<peer, clients_max> peers_;
};

void run(fuzz::input in) {
  static line_bytes memory(64u << 10);
  std::memset(memory.data(), 0, memory.size());
  auto w = std::make_unique<world>(memory, true);
  while (!in.empty()) {
    const unsigned step = in.octet();
    const std::uint32_t client = step & 3;
    switch (step >> 2 & 7) {
    case 0:
      w->send(client, std::as_bytes(in.take(in.octet())));
      break;
    case 1:
      for (const std::uint8_t& octet : in.take(in.octet()))
        w->send(client, std::as_bytes(std::span(&octet, 1)));
      break;
    case 2:
      w->answer(client);
      break;
    case 3:
      w->hang_up(client, in.octet() % 3);
      break;
    case 4:
      w->take_only(client, std::size_t{in.octet()} * 8);
      break;
    case 5:
      w->round();
      break;
    case 6:
      w->settle();
      break;
    default:
      w.reset();
      w = std::make_unique<world>(memory, false);
    }
  }
  for (std::uint32_t n = 0; n < clients_max; ++n)
    w->take_only(n, SIZE_MAX);
  w->settle();
  w.reset();
  w = std::make_unique<world>(memory, false); // the region must be whole, whatever happened
  w.reset();
  auto r = region::open_on(std::make_unique<kept_media>(memory), true);
  fuzz::expect(r.ok(), "the region does not open for reading");
  auto wrong = broker::check(**r);
  fuzz::expect(wrong.ok() && wrong->empty(),
               wrong.ok() && !wrong->empty() ? wrong->front() : "the check could not be made");
}

} // namespace
} // namespace chainring::mqtt

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool started = (chainring::fuzz::start_eal(), true);
  (void)started;
  chainring::mqtt::run(chainring::fuzz::input(data, size));
  return 0;
}
