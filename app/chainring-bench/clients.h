// SPDX-License-Identifier: BSD-3-Clause
/// A fleet of clients at the other end of a memory port. Each client publishes to its neighbour at
/// QoS 1 and acknowledges each message that it receives. Packets are whole Ethernet frames with
/// valid checksums. Each message carries a number, with which each client checks that it receives
/// every message of its neighbour, in order.
#pragma once
#include <cstdint>
#include <deque>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <string>
#include <vector>

#include "common/latency.h"
#include "mqttsn/codec.h"
#include "net/address.h"

namespace chainring::bench {

inline constexpr std::size_t payload_size = 64;

struct fleet_options {
  std::uint32_t clients = 64;
  std::uint32_t window = 64; ///< how many PUBLISH messages may wait for their PUBACK at one time
  rte_ring* to_port = nullptr;
  rte_ring* from_port = nullptr;
  rte_mempool* pool = nullptr;
  rte_ether_addr broker_mac{};
  net::endpoint broker{};
  std::uint32_t first_address = 0;
};

class client_fleet {
 public:
  explicit client_fleet(const fleet_options& o);

  /// Handles the frames that have arrived and sends what is due. Returns true when it did anything.
  bool step();
  /// True when every client is connected, has subscribed, and knows the topic id it publishes to.
  [[nodiscard]] bool set_up() const { return set_up_ == o_.clients; }
  void publish(bool on) { publishing_ = on; }
  /// True when every PUBLISH is answered and every accepted message is delivered.
  [[nodiscard]] bool quiet() const { return under_way_ == 0 && delivered_ == accepted_; }

  [[nodiscard]] std::uint64_t accepted() const { return accepted_; }
  [[nodiscard]] std::uint64_t delivered() const { return delivered_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  /// The first fault that a client found: a message that is missing, doubled or out of order, or an
  /// answer to no request. Empty while there is none.
  [[nodiscard]] const std::string& wrong() const { return wrong_; }
  /// Where to record the time from handing a PUBLISH to the port to finding its PUBACK there, or
  /// null.
  app::latencies* latency = nullptr;

 private:
  struct client {
    std::uint64_t sent_tsc = 0; ///< when the PUBLISH without an answer was sent; 0 means none
    std::uint32_t published = 0, received = 0;
    std::uint16_t publish_id = 0, msg_id = 0;
    std::uint8_t stage = 0;
  };
  struct frame {
    std::vector<std::byte> bytes;
    std::uint32_t ip_sum = 0, udp_sum = 0; ///< sums of everything except the fields of fill()
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
  void send_publish(std::uint32_t n);
  void fail(std::uint32_t n, const char* what);

  fleet_options o_;
  std::vector<client> clients_;
  frame publish_, puback_;
  std::deque<std::uint32_t> waiting_; ///< clients that may publish next, in turn
  std::vector<rte_mbuf*> out_;
  std::uint32_t connecting_ = 0, set_up_ = 0, under_way_ = 0;
  std::uint64_t accepted_ = 0, delivered_ = 0, refused_ = 0;
  double ns_per_tsc_;
  bool publishing_ = false;
  std::string wrong_;
};

} // namespace chainring::bench
