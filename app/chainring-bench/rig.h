// SPDX-License-Identifier: BSD-3-Clause
/// One broker worker behind a memory port, and a crowd of emulated clients at the port's other end,
/// both on the calling thread. The groups `million`, `fan-out` and `overload` are made of it.
#pragma once
#include "broker/broker.h"
#include "mqttsn/gateway.h"

#include <cstdint>
#include <memory>
#include <rte_arp.h>
#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <string>
#include <vector>

#include "broker_port.h"
#include "mqttsn/codec.h"
#include "net/listener.h"

namespace chainring::bench {

/// A line of /proc/self/status, such as "RssAnon:", in bytes.
double from_status(const char* name);
/// Bytes of anonymous memory that this process has touched. All structures in DRAM lie in it.
inline double anonymous_bytes() {
  return from_status("RssAnon:");
}

struct rig_options {
  /// The file of the region, of class process. Empty: ordinary memory of class emulated.
  std::string path;
  bool reopen = false; ///< opens the file that is there
  std::uint64_t region_size = 256 << 20;
  std::uint32_t block_size = 256;
  store_layout layout;
  broker_config broker;
  mqttsn::gateway_config gateway;
  std::uint32_t tx_capacity = 16384;
  /// Frames that may wait in the port for the worker, a power of two: as many as a device has
  /// receive descriptors unless it is told otherwise.
  std::uint32_t port_slots = 1024;
};

class rig {
 public:
  static result<std::unique_ptr<rig>> create(const rig_options& o);
  rig(const rig&) = delete;
  rig& operator=(const rig&) = delete;

  /// Runs one round of the worker, the same as the loop body of service::loop() with one worker.
  /// Returns true when there was anything to do.
  bool round();
  /// Says what the network dropped; empty when nothing was.
  [[nodiscard]] std::string dropped() const;
  [[nodiscard]] std::uint64_t round_tsc() const noexcept { return round_tsc_; }

  [[nodiscard]] chainring::broker& broker() noexcept { return *at_.broker; }
  [[nodiscard]] mqttsn::gateway& gateway() noexcept { return *at_.gateway; }
  [[nodiscard]] memory_port& port() noexcept { return *at_.port; }
  [[nodiscard]] rte_mempool* pool() noexcept { return pool_.get(); }
  /// The anonymous memory of the process before the broker was opened.
  [[nodiscard]] double memory_before() const noexcept { return memory_before_; }
  [[nodiscard]] rte_ether_addr mac() const noexcept { return at_.interface->device.mac(); }
  /// Datagrams that wait in the port for the worker, and frames that wait in the worker's transmit
  /// buffer for room in the port.
  [[nodiscard]] std::uint32_t waiting_in_port() const noexcept {
    return rte_ring_count(at_.port->in);
  }

  static constexpr net::endpoint address = broker_port::address;

 private:
  rig() = default;
  packet_pool pool_; ///< destroyed behind what uses it
  broker_port at_;
  std::uint64_t round_tsc_ = 0;
  double memory_before_ = 0;
};

/// Clients 0 to 2^24 - 2^16 - 1, which have the addresses from 10.1.0.0 on, behind a router: the
/// worker's table of neighbours need not hold a million of them. Their packets are whole Ethernet
/// frames with valid checksums. What each client says, and what it makes of the answers, is
/// up to the caller.
class crowd {
 public:
  explicit crowd(rig& r);
  ~crowd() { drop(); }
  crowd(const crowd&) = delete;
  crowd& operator=(const crowd&) = delete;

  /// Sends a message of client `n`, at the next flush() or before.
  void say(std::uint32_t n, const mqttsn::message_body& body);
  /// Sends any octets.
  void send_octets(std::uint32_t n, std::span<const std::byte> octets);
  /// Hands the frames to the port. Returns how many did not fit in the port, and are lost.
  std::uint32_t flush();
  /// True when the port has room for one more frame behind those that wait for the next flush().
  [[nodiscard]] bool has_room() const { return rte_ring_free_count(rig_.port().in) > out_.size(); }
  /// How many frames were lost because the port was full, or because no buffer was free.
  [[nodiscard]] std::uint64_t lost() const noexcept { return lost_; }

  /// Handles the frames that have arrived: calls fn(client, message) for each datagram, except
  /// those to clients of which gone(client) says that they are gone. Returns true when there was
  /// any frame.
  template <class Fn, class Gone> bool receive(Fn&& fn, Gone&& gone) {
    bool any = false;
    rte_mbuf* frames[64];
    for (;;) {
      const unsigned n =
          rte_ring_dequeue_burst(rig_.port().out, reinterpret_cast<void**>(frames), 64, nullptr);
      if (n == 0) return any;
      any = true;
      for (unsigned i = 0; i < n; ++i) {
        mqttsn::message m;
        std::uint32_t client = 0;
        switch (take(frames[i], client, m)) {
        case kind::datagram:
          if (!gone(client)) fn(client, m);
          break;
        case kind::arp:
          answer_arp(frames[i]);
          break;
        case kind::other:
          break;
        }
      }
      rte_pktmbuf_free_bulk(frames, n);
    }
  }
  template <class Fn> bool receive(Fn&& fn) {
    return receive(fn, [](std::uint32_t) { return false; });
  }

 private:
  static constexpr std::uint32_t frames_max = 256, first_address = 0x0a010000; // 10.1.0.0
  static constexpr std::uint16_t client_port = 20000;
  enum class kind : std::uint8_t { datagram, arp, other };

  template <class Encode> void send(std::uint32_t n, Encode&& encode);
  void queue(rte_mbuf* m);
  void drop();
  [[nodiscard]] static kind take(const rte_mbuf* m, std::uint32_t& client, mqttsn::message& out);
  void answer_arp(const rte_mbuf* m);

  rig& rig_;
  rte_mempool* pool_;
  rte_ether_addr mac_;
  std::vector<rte_mbuf*> out_;
  std::uint64_t lost_ = 0;
};

} // namespace chainring::bench
