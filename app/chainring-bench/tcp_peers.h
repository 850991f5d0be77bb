// SPDX-License-Identifier: BSD-3-Clause
/// Clients of a TCP stack in the same process, without a kernel and without a port.
///
/// `tcp_peers` makes the segments that many clients would send, hands them to the stack, and reads
/// the segments that the stack sends to them. It knows no more of TCP than that: nothing is lost
/// between the two, so it never sends anything again. A hundred thousand clients take 1.6 MB.
///
/// Thread-safety: the thread of the stack makes all calls.
#pragma once
#include <cstring>
#include <functional>
#include <netinet/in.h>
#include <rte_byteorder.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <span>
#include <string_view>
#include <vector>

#include "stream/tcp.h"

namespace chainring {

class tcp_peers final : public stream::packet_output {
 public:
  static constexpr std::uint32_t own_address = 0xC6120701; ///< of the stack: 198.18.7.1
  static constexpr std::uint16_t own_port = 1883;
  /// So many clients share an address; the first one is 10.0.0.1.
  static constexpr std::uint32_t per_address = 1000;

  struct peer {
    std::uint32_t next_sequence = 0; ///< of the next octet that the client sends
    std::uint32_t received = 0;      ///< the sequence number that the client acknowledges next
    bool open = false;               ///< the stack has answered its SYN
    bool ended = false;              ///< the stack has sent a FIN or a RST
    std::uint32_t octets = 0;        ///< that the client has received
  };

  /// `pool` holds the segments of both directions.
  tcp_peers(rte_mempool* pool, std::uint32_t count) : pool_(pool), peers_(count) {}
  ~tcp_peers() override {
    for (rte_mbuf* m : sent_)
      rte_pktmbuf_free(m);
  }
  tcp_peers(const tcp_peers&) = delete;
  tcp_peers& operator=(const tcp_peers&) = delete;

  [[nodiscard]] peer& operator[](std::uint32_t n) noexcept { return peers_[n]; }
  [[nodiscard]] std::uint32_t size() const noexcept {
    return static_cast<std::uint32_t>(peers_.size());
  }
  [[nodiscard]] static std::uint32_t address_of(std::uint32_t n) noexcept {
    return 0x0A000001 + n / per_address;
  }
  [[nodiscard]] static std::uint16_t port_of(std::uint32_t n) noexcept {
    return static_cast<std::uint16_t>(1024 + n % per_address);
  }

  /// Makes a segment of client `n`, which continues where its last one ended.
  [[nodiscard]] rte_mbuf* make(std::uint32_t n, std::uint8_t flags, std::string_view payload = {}) {
    peer& p = peers_[n];
    rte_mbuf* const m = rte_pktmbuf_alloc(pool_);
    const auto size = static_cast<std::uint16_t>(headers + payload.size());
    char* const at = m == nullptr ? nullptr : rte_pktmbuf_append(m, size);
    if (at == nullptr) return nullptr;
    rte_ipv4_hdr ip{};
    ip.version_ihl = RTE_IPV4_VHL_DEF;
    ip.total_length = rte_cpu_to_be_16(size);
    ip.time_to_live = 64;
    ip.next_proto_id = IPPROTO_TCP;
    ip.src_addr = rte_cpu_to_be_32(address_of(n));
    ip.dst_addr = rte_cpu_to_be_32(own_address);
    rte_tcp_hdr tcp{};
    tcp.src_port = rte_cpu_to_be_16(port_of(n));
    tcp.dst_port = rte_cpu_to_be_16(own_port);
    tcp.sent_seq = rte_cpu_to_be_32(p.next_sequence);
    tcp.recv_ack = rte_cpu_to_be_32((flags & RTE_TCP_ACK_FLAG) != 0 ? p.received : 0);
    tcp.data_off = sizeof tcp / 4 << 4;
    tcp.tcp_flags = flags;
    tcp.rx_win = rte_cpu_to_be_16(65535);
    std::memcpy(at, &ip, sizeof ip);
    std::memcpy(at + sizeof ip, &tcp, sizeof tcp);
    if (!payload.empty()) std::memcpy(at + headers, payload.data(), payload.size());
    p.next_sequence += static_cast<std::uint32_t>(payload.size()) +
                       ((flags & (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG)) != 0 ? 1 : 0);
    return m;
  }

  /// Reads what the stack has sent since the last call. `heard` is called with the number of each
  /// client that got a segment, behind which there was something to acknowledge.
  template <class F> void read(F&& heard) {
    const std::vector<rte_mbuf*> all = std::exchange(sent_, {});
    for (rte_mbuf* m : all) {
      const auto* const at = rte_pktmbuf_mtod(m, const char*);
      rte_ipv4_hdr ip;
      rte_tcp_hdr tcp;
      std::memcpy(&ip, at, sizeof ip);
      std::memcpy(&tcp, at + sizeof ip, sizeof tcp);
      const std::uint32_t n = (rte_be_to_cpu_32(ip.dst_addr) - 0x0A000001) * per_address +
                              rte_be_to_cpu_16(tcp.dst_port) - 1024u;
      const std::uint32_t payload = rte_be_to_cpu_16(ip.total_length) -
                                    static_cast<std::uint32_t>(sizeof ip) -
                                    (tcp.data_off >> 4) * 4u;
      rte_pktmbuf_free(m);
      if (n >= peers_.size()) continue;
      peer& p = peers_[n];
      p.octets += payload;
      p.ended = p.ended || (tcp.tcp_flags & (RTE_TCP_FIN_FLAG | RTE_TCP_RST_FLAG)) != 0;
      p.open = p.open || (tcp.tcp_flags & RTE_TCP_SYN_FLAG) != 0;
      const bool counts = (tcp.tcp_flags & (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG)) != 0;
      p.received = rte_be_to_cpu_32(tcp.sent_seq) + payload + (counts ? 1 : 0);
      if ((payload != 0 || counts) && (tcp.tcp_flags & RTE_TCP_RST_FLAG) == 0) heard(n);
    }
  }

  /// Opens the connections of the clients [first, last), and reports them to the handler.
  void open(stream::tcp_stack& stack, std::uint32_t first, std::uint32_t last,
            std::uint64_t now_tsc) {
    constexpr std::uint32_t at_once = 512;
    for (std::uint32_t from = first; from < last; from += at_once) {
      for (std::uint32_t n = from; n < last && n < from + at_once; ++n) {
        peers_[n] = {.next_sequence = n * 7919};
        if (rte_mbuf* const m = make(n, RTE_TCP_SYN_FLAG)) stack.input(m, 0, 0, true);
      }
      read([&](std::uint32_t n) {
        if (rte_mbuf* const m = make(n, RTE_TCP_ACK_FLAG)) stack.input(m, 0, 0, true);
      });
      (void)stack.poll(now_tsc);
    }
  }

  // stream::packet_output
  [[nodiscard]] rte_mbuf* allocate() noexcept override { return rte_pktmbuf_alloc(pool_); }
  void send(std::uint16_t, const net::ip_address&, rte_mbuf* m) noexcept override {
    sent_.push_back(m);
  }

 private:
  static constexpr std::size_t headers = sizeof(rte_ipv4_hdr) + sizeof(rte_tcp_hdr);
  rte_mempool* pool_;
  std::vector<peer> peers_;
  std::vector<rte_mbuf*> sent_; ///< by the stack, and not read yet
};

} // namespace chainring
