// SPDX-License-Identifier: BSD-3-Clause
// PUBLISH and PUBACK, which the clients send all the time, are copies of a frame that lib/net built
// once. A copy receives the client's address, its ids and its message number, and the words of
// these fields are added to the checksums (RFC 1624). All other messages go through the codec.
#include "clients.h"

#include <cstring>
#include <rte_arp.h>
#include <rte_byteorder.h>
#include <rte_cycles.h>
#include <span>

#include "client_side.h"
#include "net/build.h"

namespace chainring::bench {

namespace {

constexpr std::size_t ip_sum_at = 24, source_at = 26, udp_sum_at = 40, payload_at = 42;
// The offset of the flags (PUBLISH) or of the topic id (PUBACK), behind a length of one octet and
// behind a length of three. It is even, as checksums need.
constexpr std::size_t short_fields_at = payload_at + 2, long_fields_at = payload_at + 4;
constexpr std::byte long_length{1};          // the first octet of a length of three octets
constexpr std::uint32_t connecting_max = 64; // clients that are being set up at one time
constexpr std::uint16_t client_port = 20000;
constexpr std::uint32_t frames_max = 256;

std::uint32_t sum_words(const void* data, std::size_t n) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < n; i += 2) {
    std::uint16_t w;
    std::memcpy(&w, static_cast<const std::byte*>(data) + i, 2);
    sum += w;
  }
  return sum;
}
std::uint16_t fold(std::uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

// The part of a PUBLISH behind the octet with the message type. The first octet of the payload
// completes a 16-bit word.
struct publish_fields {
  std::uint8_t flags;
  std::uint8_t topic_id[2];
  std::uint8_t msg_id[2];
  std::uint8_t filler;
  std::uint32_t number;
  std::uint32_t sender;
};
// The compiler adds two octets of padding before `number`; they are part of the payload.
static_assert(sizeof(publish_fields) == 5 + payload_size_min);
struct puback_fields {
  rte_be16_t topic_id, msg_id;
};

} // namespace

client_fleet::client_fleet(const fleet_options& o)
    : o_(o), clients_(o.clients), received_(std::size_t{o.clients} * o.fan_out),
      ns_per_tsc_(1e9 / static_cast<double>(rte_get_tsc_hz())) {
  static constexpr std::byte text[payload_size_max] = {};
  publish_ = make_frame(mqttsn::publish{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                                        .data = std::span(text, o.payload_size)},
                        sizeof(publish_fields));
  puback_ = make_frame(mqttsn::puback{}, sizeof(puback_fields));
  out_.reserve(frames_max);
}

net::endpoint client_fleet::address_of(std::uint32_t n) const {
  return {o_.first_address + n, client_port, 0};
}
std::string client_fleet::topic_of(std::uint32_t n) const {
  return o_.topics + std::to_string(n);
}
void client_fleet::fail(std::uint32_t n, const char* what) {
  if (wrong_.empty()) wrong_ = "client " + std::to_string(n) + ": " + what;
}

client_fleet::frame client_fleet::make_frame(const mqttsn::message_body& body,
                                             std::size_t variable) const {
  frame f;
  rte_mbuf* m = rte_pktmbuf_alloc(o_.pool);
  if (m == nullptr) return f;
  const std::size_t n =
      mqttsn::encode({rte_pktmbuf_mtod(m, std::byte*), rte_pktmbuf_tailroom(m)}, body);
  rte_pktmbuf_append(m, static_cast<std::uint16_t>(n));
  const net::transmit_config from{.mac = client_mac};
  if (net::build_udp(m, from, o_.broker_mac, address_of(0), o_.broker) == net::drop_reason::none) {
    const auto* at = rte_pktmbuf_mtod(m, const std::byte*);
    f.bytes.assign(at, at + m->data_len);
    f.fields_at = at[payload_at] == long_length ? long_fields_at : short_fields_at;
    // These are the sums of both checksums without the fields that fill() writes later.
    const auto without = [&](std::size_t sum_at) {
      std::uint16_t c;
      std::memcpy(&c, at + sum_at, 2);
      std::uint32_t sum = static_cast<std::uint16_t>(~c);
      for (std::size_t i = 0; i < 4; i += 2)
        sum += static_cast<std::uint16_t>(~sum_words(at + source_at + i, 2));
      return sum;
    };
    f.ip_sum = without(ip_sum_at);
    f.udp_sum = without(udp_sum_at);
    for (std::size_t i = 0; i < variable; i += 2)
      f.udp_sum += static_cast<std::uint16_t>(~sum_words(at + f.fields_at + i, 2));
  }
  rte_pktmbuf_free(m);
  return f;
}

rte_mbuf* client_fleet::fill(const frame& f, std::uint32_t n, std::size_t size,
                             const void* fields) {
  rte_mbuf* m = rte_pktmbuf_alloc(o_.pool);
  if (m == nullptr || f.bytes.empty()) {
    fail(n, "the pool has no packet buffer left");
    rte_pktmbuf_free(m);
    return nullptr;
  }
  auto* at = rte_pktmbuf_mtod(m, std::byte*);
  m->data_len = static_cast<std::uint16_t>(f.bytes.size());
  m->pkt_len = m->data_len;
  std::memcpy(at, f.bytes.data(), f.bytes.size());
  const rte_be32_t source = rte_cpu_to_be_32(o_.first_address + n);
  std::memcpy(at + source_at, &source, 4);
  std::memcpy(at + f.fields_at, fields, size);
  const std::uint32_t source_sum = sum_words(&source, 4);
  const std::uint16_t ip = fold(f.ip_sum + source_sum);
  std::uint16_t udp = fold(f.udp_sum + source_sum + sum_words(fields, size));
  if (udp == 0) udp = 0xffff;
  std::memcpy(at + ip_sum_at, &ip, 2);
  std::memcpy(at + udp_sum_at, &udp, 2);
  return m;
}

void client_fleet::queue(rte_mbuf* m) {
  if (m == nullptr) return;
  out_.push_back(m);
  if (out_.size() == frames_max) flush();
}
void client_fleet::flush() {
  if (out_.empty()) return;
  const auto n = static_cast<unsigned>(out_.size());
  if (rte_ring_enqueue_bulk(o_.to_port, reinterpret_cast<void**>(out_.data()), n, nullptr) != n) {
    fail(0, "the ring of the memory port is full");
    rte_pktmbuf_free_bulk(out_.data(), n);
  }
  out_.clear();
}

void client_fleet::say(std::uint32_t n, const mqttsn::message_body& body) {
  rte_mbuf* m = rte_pktmbuf_alloc(o_.pool);
  if (m == nullptr) return fail(n, "the pool has no packet buffer left");
  const std::size_t size = mqttsn::encode({rte_pktmbuf_mtod(m, std::byte*), 256}, body);
  rte_pktmbuf_append(m, static_cast<std::uint16_t>(size));
  const net::transmit_config from{.mac = client_mac};
  if (net::build_udp(m, from, o_.broker_mac, address_of(n), o_.broker) != net::drop_reason::none) {
    rte_pktmbuf_free(m);
    return fail(n, "lib/net cannot build the client's datagram");
  }
  queue(m);
}

void client_fleet::send_publish(std::uint32_t n, std::uint64_t due_tsc) {
  client& c = clients_[n];
  ++c.published;
  if (++c.msg_id == 0) c.msg_id = 1;
  publish_fields f{};
  f.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one).octet;
  f.topic_id[0] = static_cast<std::uint8_t>(c.publish_id >> 8);
  f.topic_id[1] = static_cast<std::uint8_t>(c.publish_id);
  f.msg_id[0] = static_cast<std::uint8_t>(c.msg_id >> 8);
  f.msg_id[1] = static_cast<std::uint8_t>(c.msg_id);
  f.number = c.published;
  f.sender = n;
  queue(fill(publish_, n, sizeof f, &f));
  c.sent_tsc = due_tsc != 0 ? due_tsc : rte_rdtsc();
  ++under_way_;
}

// Answers an ARP request for a client. The broker asks for one of its clients now and then, when
// more of them share a place of its table than the place holds.
void client_fleet::answer_arp(const rte_mbuf* m) {
  if (m->data_len < sizeof(arp_frame)) return;
  arp_frame f = arp_frame::of(m);
  const std::uint32_t n = rte_be_to_cpu_32(f.arp.arp_data.arp_tip) - o_.first_address;
  if (f.arp.arp_opcode != rte_cpu_to_be_16(RTE_ARP_OP_REQUEST) || n >= o_.clients) return;
  f.answer();
  rte_mbuf* answer = rte_pktmbuf_alloc(o_.pool);
  if (answer == nullptr) return fail(n, "the pool has no packet buffer left");
  std::memcpy(rte_pktmbuf_append(answer, sizeof f), &f, sizeof f);
  queue(answer);
}

void client_fleet::take(const rte_mbuf* m) {
  const auto* at = rte_pktmbuf_mtod(m, const std::byte*);
  rte_be16_t type_of_frame;
  std::memcpy(&type_of_frame, at + 2 * RTE_ETHER_ADDR_LEN, sizeof type_of_frame);
  if (type_of_frame == rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP)) return answer_arp(m);
  const bool lengthy = m->data_len > payload_at && at[payload_at] == long_length;
  const std::size_t fields_at = lengthy ? long_fields_at : short_fields_at;
  if (m->data_len < fields_at) return;
  rte_be32_t to;
  std::memcpy(&to, at + 30, 4);
  const std::uint32_t n = rte_be_to_cpu_32(to) - o_.first_address;
  if (n >= o_.clients) return; // the frame is an ARP announcement of the broker
  const auto type = static_cast<std::uint8_t>(at[fields_at - 1]);
  client& c = clients_[n];
  if (type == static_cast<std::uint8_t>(mqttsn::message_type::puback)) {
    puback_fields f;
    std::memcpy(&f, at + fields_at, sizeof f);
    if (c.sent_tsc == 0 || rte_be_to_cpu_16(f.msg_id) != c.msg_id)
      return fail(n, "received a PUBACK that answers no PUBLISH of this client");
    if (latency != nullptr)
      latency->record(
          static_cast<std::uint64_t>(static_cast<double>(rte_rdtsc() - c.sent_tsc) * ns_per_tsc_));
    c.sent_tsc = 0;
    --under_way_;
    if (at[payload_at + 6] == std::byte{0}) {
      ++accepted_;
    } else {
      ++refused_;
      --c.published;
    }
    waiting_.push_back(n);
  } else if (type == static_cast<std::uint8_t>(mqttsn::message_type::publish)) {
    take_publish(n, m, fields_at);
  } else {
    mqttsn::message whole;
    if (mqttsn::decode({at + payload_at, m->data_len - payload_at}, whole) ==
        mqttsn::decode_status::ok)
      take_slow(n, whole);
  }
}

void client_fleet::take_publish(std::uint32_t n, const rte_mbuf* m, std::size_t fields_at) {
  if (m->data_len < fields_at + sizeof(publish_fields))
    return fail(n, "received a PUBLISH that is too short");
  publish_fields f;
  std::memcpy(&f, rte_pktmbuf_mtod(m, const std::byte*) + fields_at, sizeof f);
  // The neighbours of a client are those that stand up to `fan_out` places before it.
  const std::uint32_t distance = (n + o_.clients - 1 - f.sender) % o_.clients;
  if (f.sender >= o_.clients || distance >= o_.fan_out)
    return fail(n, "received a message of another client than its neighbours");
  std::uint32_t& received = received_[std::size_t{n} * o_.fan_out + distance];
  const bool again = f.number == received && (f.flags & 0x80) != 0;
  if (!again && f.number != received + 1)
    return fail(n, "did not receive its neighbour's messages in order and once each");
  if (!again) ++delivered_;
  received = f.number;
  puback_fields answer;
  std::memcpy(&answer, f.topic_id, sizeof answer);
  queue(fill(puback_, n, sizeof answer, &answer));
}

// The topic of client n is the one to which its neighbour n - 1 publishes. A client subscribes to
// its own topic and to those of the `fan_out` - 1 clients before it.
void client_fleet::say_subscribe(std::uint32_t n) {
  client& c = clients_[n];
  const std::uint32_t number = (n + o_.clients - c.subscribed) % o_.clients;
  const bool crosses = o_.crosses && o_.crosses(n);
  const std::string topic = crosses ? o_.other_topics + std::to_string(number) : topic_of(number);
  ++c.subscribed;
  say(n, mqttsn::subscribe{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                           .msg_id = 1,
                           .topic = topic});
}

// A client first sends CONNECT, then SUBSCRIBE to its topics, then REGISTER of the topic of its
// neighbour.
void client_fleet::take_slow(std::uint32_t n, const mqttsn::message& m) {
  client& c = clients_[n];
  if (const auto* a = m.get<mqttsn::connack>(); a != nullptr && c.stage == 1) {
    if (a->code != mqttsn::return_code::accepted) return fail(n, "the broker refused its CONNECT");
    c.stage = 2;
    say_subscribe(n);
  } else if (const auto* s = m.get<mqttsn::suback>(); s != nullptr && c.stage == 2) {
    if (s->code != mqttsn::return_code::accepted)
      return fail(n, "the broker refused its SUBSCRIBE");
    if (c.subscribed < o_.fan_out) return say_subscribe(n);
    c.stage = 3;
    const std::string topic = topic_of((n + 1) % o_.clients);
    say(n, mqttsn::register_topic{.msg_id = 2, .topic = topic});
  } else if (const auto* r = m.get<mqttsn::regack>(); r != nullptr && c.stage == 3) {
    if (r->code != mqttsn::return_code::accepted) return fail(n, "the broker refused its REGISTER");
    c.stage = 4;
    c.publish_id = r->topic_id;
    ++set_up_;
    waiting_.push_back(n);
  } else {
    fail(n, (std::string("received an unexpected ") + mqttsn::to_string(m.type)).c_str());
  }
}

void client_fleet::offer(double messages_per_s) {
  distance_tsc_ = messages_per_s == 0 ? 0 : 1e9 / messages_per_s / ns_per_tsc_;
  due_tsc_ = static_cast<double>(rte_rdtsc());
}

// With a fan-out above 1, a message is acknowledged long before its last delivery, because a client
// is sent one message at a time. The second limit keeps the queues from filling up.
bool client_fleet::may_publish() const {
  constexpr std::uint64_t deliveries_max = 8; // outstanding, for each client
  return publishing_ && under_way_ < o_.window && !waiting_.empty() &&
         (o_.fan_out == 1 || accepted_ * o_.fan_out - delivered_ < deliveries_max * o_.clients);
}

bool client_fleet::step() {
  bool any = false;
  rte_mbuf* frames[64];
  for (;;) {
    const unsigned n =
        rte_ring_dequeue_burst(o_.from_port, reinterpret_cast<void**>(frames), 64, nullptr);
    if (n == 0) break;
    any = true;
    for (unsigned i = 0; i < n; ++i)
      take(frames[i]);
    rte_pktmbuf_free_bulk(frames, n);
  }
  while (connecting_ < o_.clients && connecting_ - set_up_ < connecting_max) {
    const std::uint32_t n = connecting_++;
    clients_[n].stage = 1;
    const std::string id =
        o_.client_id ? o_.client_id(n) : std::string("c").append(std::to_string(n));
    say(n, mqttsn::connect{.flags = mqttsn::flags{}.with_clean(true), .client_id = id});
    any = true;
  }
  while (may_publish()) {
    std::uint64_t due = 0;
    if (distance_tsc_ != 0) {
      due = static_cast<std::uint64_t>(due_tsc_);
      if (due > rte_rdtsc()) break;
      due_tsc_ += distance_tsc_;
    }
    send_publish(waiting_.front(), due);
    waiting_.pop_front();
    any = true;
  }
  flush();
  return any;
}

} // namespace chainring::bench
