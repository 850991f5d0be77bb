// SPDX-License-Identifier: BSD-3-Clause
/// Frames as octets, made without the library under test, and ports made of rings.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <string>
#include <vector>

#include "net/link.h"
#include "support/seed.h"

namespace chainring::net_test {
using namespace net;

using octets = std::vector<std::uint8_t>;

inline constexpr rte_ether_addr our_mac = {{0x02, 0, 0, 0, 0, 0x01}};
inline constexpr rte_ether_addr peer_mac = {{0x02, 0, 0, 0, 0, 0x99}};
inline constexpr rte_ether_addr everybody = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
inline constexpr std::uint32_t own_address = 0xC0000201; // 192.0.2.1
inline constexpr std::uint32_t peer = 0xC0000209;        // 192.0.2.9
inline constexpr std::uint32_t group = 0xE0000107;       // 224.0.1.7
inline constexpr std::uint16_t our_port = 10000;
inline constexpr std::uint16_t peer_port = 40000;

inline void put16(octets& o, unsigned v) {
  o.push_back(static_cast<std::uint8_t>(v >> 8));
  o.push_back(static_cast<std::uint8_t>(v));
}
inline void put32(octets& o, std::uint32_t v) {
  put16(o, v >> 16);
  put16(o, v & 0xffff);
}
inline unsigned get16(const octets& o, std::size_t at) {
  return static_cast<unsigned>(o.at(at) << 8 | o.at(at + 1));
}
inline std::uint32_t get32(const octets& o, std::size_t at) {
  return get16(o, at) << 16 | get16(o, at + 2);
}
inline void set16(octets& o, std::size_t at, unsigned v) {
  o.at(at) = static_cast<std::uint8_t>(v >> 8);
  o.at(at + 1) = static_cast<std::uint8_t>(v);
}
inline octets operator+(octets a, const octets& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// The checksum of RFC 1071, computed octet by octet. It is 0 over data with a valid checksum in
/// it.
inline std::uint16_t checksum(const octets& o, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i < o.size(); ++i)
    sum += i % 2 == 0 ? std::uint32_t{o[i]} << 8 : o[i];
  while (sum >> 16 != 0)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}
inline std::uint32_t pseudo_header(std::uint32_t from, std::uint32_t to, std::size_t length) {
  return (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff) + 17 +
         static_cast<std::uint32_t>(length);
}

inline octets mac_octets(const rte_ether_addr& a) {
  return {a.addr_bytes, a.addr_bytes + 6};
}
inline octets ethernet(const octets& payload, unsigned type = 0x0800,
                       const rte_ether_addr& to = our_mac, const rte_ether_addr& from = peer_mac) {
  octets o = mac_octets(to) + mac_octets(from);
  put16(o, type);
  return o + payload;
}

struct ip_fields {
  std::uint32_t from = peer, to = own_address;
  unsigned protocol = 17, version = 4, ihl = 0 /* 0 means as the options require */;
  int total = -1; // -1 means the real length
  unsigned fragment = 0, ttl = 17, tos = 0, id = 7;
  octets options{};
  bool bad_checksum = false;
};
inline octets ipv4(const octets& payload, const ip_fields& f = {}) {
  const std::size_t header = 20 + f.options.size();
  octets o;
  o.push_back(static_cast<std::uint8_t>(f.version << 4 | (f.ihl != 0 ? f.ihl : header / 4)));
  o.push_back(static_cast<std::uint8_t>(f.tos));
  put16(o, f.total >= 0 ? static_cast<unsigned>(f.total)
                        : static_cast<unsigned>(header + payload.size()));
  put16(o, f.id);
  put16(o, f.fragment);
  o.push_back(static_cast<std::uint8_t>(f.ttl));
  o.push_back(static_cast<std::uint8_t>(f.protocol));
  put16(o, 0);
  put32(o, f.from);
  put32(o, f.to);
  o = o + f.options;
  set16(o, 10, checksum(o) ^ (f.bad_checksum ? 0x0100u : 0u));
  return o + payload;
}

struct udp_fields {
  std::uint32_t from = peer, to = own_address; // the addresses in the pseudo-header
  unsigned from_port = peer_port, to_port = our_port;
  int length = -1; // -1 means the real length
  enum { right, wrong, none, partial } sum = right;
};
inline octets udp(const octets& payload, const udp_fields& f = {}) {
  const std::size_t length = 8 + payload.size();
  octets o;
  put16(o, f.from_port);
  put16(o, f.to_port);
  put16(o, f.length >= 0 ? static_cast<unsigned>(f.length) : static_cast<unsigned>(length));
  put16(o, 0);
  o = o + payload;
  const std::uint32_t pseudo = pseudo_header(f.from, f.to, length);
  std::uint16_t sum = checksum(o, pseudo);
  if (sum == 0) sum = 0xffff;
  if (f.sum == udp_fields::wrong) sum ^= 0x0101;
  if (f.sum == udp_fields::none) sum = 0;
  if (f.sum == udp_fields::partial) sum = static_cast<std::uint16_t>(~checksum({}, pseudo));
  set16(o, 6, sum);
  return o;
}
inline octets text(const char* s) {
  return {s, s + std::strlen(s)};
}
inline octets datagram_frame(const octets& payload = text("hello")) {
  return ethernet(ipv4(udp(payload)));
}

inline octets echo(const octets& data = text("ping data"), unsigned type = 8, unsigned code = 0,
                   bool bad_checksum = false) {
  octets o = {static_cast<std::uint8_t>(type), static_cast<std::uint8_t>(code), 0, 0};
  put16(o, 0x1234);
  put16(o, 1);
  o = o + data;
  set16(o, 2, checksum(o) ^ (bad_checksum ? 1u : 0u));
  return o;
}
inline octets echo_frame(const octets& data = text("ping data"), unsigned tos = 0) {
  return ethernet(ipv4(echo(data), {.protocol = 1, .tos = tos}));
}

struct arp_fields {
  unsigned hardware = 1, protocol = 0x0800, hlen = 6, plen = 4, operation = 1;
  rte_ether_addr sha = peer_mac;
  std::uint32_t sip = peer;
  rte_ether_addr tha{};
  std::uint32_t tip = own_address;
};
inline octets arp(const arp_fields& f = {}) {
  octets o;
  put16(o, f.hardware);
  put16(o, f.protocol);
  o.push_back(static_cast<std::uint8_t>(f.hlen));
  o.push_back(static_cast<std::uint8_t>(f.plen));
  put16(o, f.operation);
  o = o + mac_octets(f.sha);
  put32(o, f.sip);
  o = o + mac_octets(f.tha);
  put32(o, f.tip);
  return o;
}
inline octets arp_frame(const arp_fields& f = {}) {
  return ethernet(arp(f), 0x0806, f.operation == 1 ? everybody : our_mac, f.sha);
}

// --- mbufs ---------------------------------------------------------------------------------------

inline rte_mempool* pool() {
  static rte_mempool* p =
      rte_pktmbuf_pool_create("frames", 8191, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  return p;
}
/// mbufs without a buffer of their own, to which other buffers are attached.
inline rte_mempool* headers() {
  static rte_mempool* p = rte_pktmbuf_pool_create("headers", 1023, 0, 0, 0, SOCKET_ID_ANY);
  return p;
}
/// True when both pools have all their mbufs back. Every test ends with this check.
inline bool all_back() {
  return rte_mempool_in_use_count(pool()) == 0 && rte_mempool_in_use_count(headers()) == 0;
}

inline rte_mbuf* mbuf(const octets& o) {
  rte_mbuf* m = rte_pktmbuf_alloc(pool());
  if (m == nullptr || rte_pktmbuf_tailroom(m) < o.size()) std::abort();
  std::ranges::copy(o, reinterpret_cast<std::uint8_t*>(
                           rte_pktmbuf_append(m, static_cast<std::uint16_t>(o.size()))));
  return m;
}

/// The frame in heap memory of exactly its size, so that AddressSanitizer reports a read or write
/// past its end. The memory is freed with the mbuf.
inline rte_mbuf* exact_mbuf(const octets& o) {
  struct buffer {
    rte_mbuf_ext_shared_info info;
    std::uint8_t* data;
  };
  auto* b = new buffer{};
  b->data = static_cast<std::uint8_t*>(std::malloc(o.empty() ? 1 : o.size()));
  std::ranges::copy(o, b->data);
  b->info.free_cb = [](void*, void* opaque) {
    std::free(static_cast<buffer*>(opaque)->data);
    delete static_cast<buffer*>(opaque);
  };
  b->info.fcb_opaque = b;
  rte_mbuf_ext_refcnt_set(&b->info, 1);
  rte_mbuf* m = rte_pktmbuf_alloc(headers());
  if (m == nullptr) std::abort();
  rte_pktmbuf_attach_extbuf(m, b->data, RTE_BAD_IOVA, static_cast<std::uint16_t>(o.size()),
                            &b->info);
  m->data_off = 0;
  m->data_len = static_cast<std::uint16_t>(o.size());
  m->pkt_len = m->data_len;
  return m;
}

/// The frame in segments that begin at the ascending offsets `cuts`.
inline rte_mbuf* segmented(const octets& o, const std::vector<std::size_t>& cuts,
                           rte_mbuf* (*make)(const octets&) = mbuf) {
  rte_mbuf* head = nullptr;
  std::size_t from = 0;
  for (std::size_t i = 0; i <= cuts.size(); ++i) {
    const std::size_t to = i < cuts.size() ? std::min(cuts[i], o.size()) : o.size();
    rte_mbuf* one = make(octets(o.begin() + static_cast<std::ptrdiff_t>(from),
                                o.begin() + static_cast<std::ptrdiff_t>(to)));
    from = to;
    if (head == nullptr)
      head = one;
    else if (rte_pktmbuf_chain(head, one) != 0)
      std::abort();
  }
  return head;
}

inline octets octets_of(const rte_mbuf* m) {
  octets o;
  for (; m != nullptr; m = m->next) {
    const auto* at = rte_pktmbuf_mtod(m, const std::uint8_t*);
    o.insert(o.end(), at, at + rte_pktmbuf_data_len(m));
  }
  return o;
}
inline octets taken(rte_mbuf* m) {
  octets o = octets_of(m);
  rte_pktmbuf_free(m);
  return o;
}

inline interface_config configuration() {
  interface_config c;
  c.address = {own_address, 24};
  c.udp_port = our_port;
  return c;
}
inline receive_filter filter() {
  return {configuration(), our_mac};
}

// --- ports ---------------------------------------------------------------------------------------

/// A port that receives frames from one ring and transmits frames into another ring.
class ring_port {
 public:
  explicit ring_port(unsigned tx_slots = 1024, unsigned queues = 1) {
    static int number = 0;
    const std::string name = "t" + std::to_string(number++);
    for (unsigned q = 0; q < queues; ++q) {
      const std::string ring = name + "q" + std::to_string(q);
      in_.push_back(rte_ring_create((ring + "i").c_str(), 1024, SOCKET_ID_ANY, 0));
      out_.push_back(rte_ring_create((ring + "o").c_str(), tx_slots, SOCKET_ID_ANY, 0));
      if (in_.back() == nullptr || out_.back() == nullptr) std::abort();
    }
    const int id = rte_eth_from_rings(name.c_str(), in_.data(), queues, out_.data(), queues, 0);
    if (id < 0) std::abort();
    id_ = static_cast<std::uint16_t>(id);
  }
  /// The port must be closed by its user before this destructor runs.
  ~ring_port() {
    void* m = nullptr;
    for (auto* rings : {&in_, &out_})
      for (rte_ring* r : *rings) {
        while (rte_ring_dequeue(r, &m) == 0)
          rte_pktmbuf_free(static_cast<rte_mbuf*>(m));
        rte_ring_free(r);
      }
  }
  ring_port(const ring_port&) = delete;
  ring_port& operator=(const ring_port&) = delete;

  [[nodiscard]] std::uint16_t id() const { return id_; }
  void arrives(rte_mbuf* m, unsigned queue = 0) const {
    ASSERT_EQ(rte_ring_enqueue(in_[queue], m), 0);
  }
  /// Returns the oldest frame that was transmitted, or nullptr when there is none.
  [[nodiscard]] rte_mbuf* left(unsigned queue = 0) const {
    void* m = nullptr;
    return rte_ring_dequeue(out_[queue], &m) == 0 ? static_cast<rte_mbuf*>(m) : nullptr;
  }
  [[nodiscard]] std::vector<octets> all_left(unsigned queue = 0) const {
    std::vector<octets> v;
    while (rte_mbuf* m = left(queue))
      v.push_back(taken(m));
    return v;
  }

 private:
  std::vector<rte_ring*> in_, out_;
  std::uint16_t id_ = 0;
};

/// A media whose only used function is to say which marks are durable.
class marked_media final : public media {
 public:
  mark_t reached = 0;
  std::uint64_t asked = 0;

  [[nodiscard]] const char* driver_name() const noexcept override { return "marked"; }
  [[nodiscard]] mark_t mark() noexcept override { return reached; }
  [[nodiscard]] bool durable(mark_t m) noexcept override {
    ++asked;
    return m <= reached;
  }
  [[nodiscard]] result<void> grow(std::uint64_t) override { return {}; }
  [[nodiscard]] result<void> close() override { return {}; }
};

/// The run's seed, from CHAINRING_SEED if that is set. It is printed.
inline std::uint64_t run_seed() {
  static const std::uint64_t seed = chainring::test::fresh_seed();
  return seed;
}

} // namespace chainring::net_test
