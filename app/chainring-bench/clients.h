// SPDX-License-Identifier: BSD-3-Clause
/// A fleet of clients at the other end of a memory port. Each client publishes to its neighbours at
/// QoS 1 (to one of them at fan-out 1) and acknowledges each message that it receives. Packets are
/// whole Ethernet frames with valid checksums. Each message carries a number, with which each
/// client checks that it receives every message of each neighbour, in order.
///
/// By itself the fleet is a closed loop: a client publishes again as soon as its last message is
/// acknowledged. With offer() it is an open loop: messages fall due at equal distances in time,
/// whether the broker keeps up or not.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <string>
#include <vector>

#include "common/latency.h"
#include "mqttsn/codec.h"
#include "net/address.h"

namespace chainring::bench {

/// The sizes of a payload: from the least that holds the numbers with which messages are checked,
/// to the most that a PUBLISH in one packet of 1,500 octets carries.
inline constexpr std::uint32_t payload_size_min = 11, payload_size_max = 1463;

struct fleet_options {
  std::uint32_t clients = 64;
  std::uint32_t window = 64; ///< how many PUBLISH messages may wait for their PUBACK at one time
  std::uint32_t payload_size = 64;
  std::uint32_t fan_out = 1; ///< subscribers of each topic; at most `clients`
  rte_ring* to_port = nullptr;
  rte_ring* from_port = nullptr;
  rte_mempool* pool = nullptr;
  rte_ether_addr broker_mac{};
  net::endpoint broker{};
  std::uint32_t first_address = 0;
  /// The beginning of the topics to which the fleet publishes, and of those to which a client
  /// subscribes for which crosses() is true: the topics of another fleet, whose clients in turn
  /// subscribe here. For fan-out 1.
  std::string topics = "bench/", other_topics;
  std::function<bool(std::uint32_t)> crosses;
  /// The id of a client; without it "c" and its number.
  std::function<std::string(std::uint32_t)> client_id;
};

class client_fleet {
 public:
  explicit client_fleet(const fleet_options& o);

  /// Handles the frames that have arrived and sends what is due. Returns true when it did anything.
  bool step();
  /// True when every client is connected, has subscribed, and knows the topic id it publishes to.
  [[nodiscard]] bool set_up() const { return set_up_ == o_.clients; }
  void publish(bool on) { publishing_ = on; }
  /// Offers so many messages a second from now on, or with 0 as many as the broker accepts.
  void offer(double messages_per_s);
  /// True when every PUBLISH is answered and every accepted message is delivered.
  [[nodiscard]] bool quiet() const {
    return under_way_ == 0 && delivered_ == accepted_ * o_.fan_out;
  }
  /// True when every PUBLISH is answered.
  [[nodiscard]] bool answered() const { return under_way_ == 0; }
  /// The octets of a whole frame with a PUBLISH and with a PUBACK.
  [[nodiscard]] std::size_t publish_octets() const { return publish_.bytes.size(); }
  [[nodiscard]] std::size_t puback_octets() const { return puback_.bytes.size(); }

  [[nodiscard]] std::uint64_t accepted() const { return accepted_; }
  [[nodiscard]] std::uint64_t delivered() const { return delivered_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  /// The first fault that a client found: a message that is missing, doubled or out of order, or an
  /// answer to no request. Empty while there is none.
  [[nodiscard]] const std::string& wrong() const { return wrong_; }
  /// Where to record the time until a PUBACK is found at the port, or null. The time begins when
  /// the PUBLISH was handed to the port. In an open loop it begins when the message fell due, so
  /// that the time that it waited for a client or for the window counts.
  app::latencies* latency = nullptr;

 private:
  struct client {
    std::uint64_t sent_tsc = 0; ///< when the PUBLISH without an answer was sent; 0 means none
    std::uint32_t published = 0, subscribed = 0;
    std::uint16_t publish_id = 0, msg_id = 0;
    std::uint8_t stage = 0;
  };
  struct frame {
    std::vector<std::byte> bytes;
    std::uint32_t ip_sum = 0, udp_sum = 0; ///< sums of everything except the fields of fill()
    std::size_t fields_at = 0;             ///< where the fields of fill() are
  };

  [[nodiscard]] net::endpoint address_of(std::uint32_t n) const;
  [[nodiscard]] std::string topic_of(std::uint32_t n) const;
  [[nodiscard]] frame make_frame(const mqttsn::message_body& body, std::size_t variable) const;
  rte_mbuf* fill(const frame& f, std::uint32_t n, std::size_t size_of_fields, const void* fields);
  void queue(rte_mbuf* m);
  void flush();
  void say(std::uint32_t n, const mqttsn::message_body& body);
  void take(const rte_mbuf* m);
  void answer_arp(const rte_mbuf* m);
  void take_slow(std::uint32_t n, const mqttsn::message& m);
  void say_subscribe(std::uint32_t n);
  void take_publish(std::uint32_t n, const rte_mbuf* m, std::size_t fields_at);
  [[nodiscard]] bool may_publish() const;
  void send_publish(std::uint32_t n, std::uint64_t due_tsc);
  void fail(std::uint32_t n, const char* what);

  fleet_options o_;
  std::vector<client> clients_;
  /// For each client the number of the last message of each of its `fan_out` neighbours.
  std::vector<std::uint32_t> received_;
  frame publish_, puback_;
  std::deque<std::uint32_t> waiting_; ///< clients that may publish next, in turn
  std::vector<rte_mbuf*> out_;
  std::uint32_t connecting_ = 0, set_up_ = 0, under_way_ = 0;
  std::uint64_t accepted_ = 0, delivered_ = 0, refused_ = 0;
  double ns_per_tsc_;
  double distance_tsc_ = 0, due_tsc_ = 0; ///< of the messages of an open loop; 0 in a closed loop
  bool publishing_ = false;
  std::string wrong_;
};

} // namespace chainring::bench
