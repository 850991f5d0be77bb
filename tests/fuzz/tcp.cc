// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the TCP stack. An input is a sequence of {what, more}: a segment of one of eight
// peers over IPv4 or IPv6, which goes on where the peer's connection stands or has numbers of the
// input's, with options and octets; a packet that is the input's altogether; time that passes; or
// something that the handler does with a connection. The stack has room for few connections, so
// that cookies are sent and read, and each limit is reached.
#include <algorithm>
#include <array>
#include <map>
#include <rte_cycles.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <vector>

#include "fuzz.h"
#include "stream/tcp.h"

using namespace chainring;
using namespace chainring::stream;

namespace {

constexpr std::uint32_t own4 = 0xC0000201;
constexpr net::ip_address own6{0x2001'0DB8'0000'0000, 1};
constexpr std::uint16_t own_port = 1883;
constexpr std::size_t peers_count = 8;

struct peer {
  std::uint32_t next = 1000;  ///< the sequence number that it sends next
  std::uint32_t received = 0; ///< what it acknowledges
};

/// Takes what the stack sends, and checks it.
class line final : public packet_output {
 public:
  rte_mempool* pool = nullptr;
  std::array<peer, peers_count> peers;
  bool full = false;

  rte_mbuf* allocate() noexcept override { return full ? nullptr : rte_pktmbuf_alloc(pool); }
  void send(std::uint16_t id, const net::ip_address& to, rte_mbuf* m) noexcept override {
    const auto* const at = rte_pktmbuf_mtod(m, const unsigned char*);
    const std::size_t n = rte_pktmbuf_data_len(m), header = to.is_ipv4() ? 20 : 40;
    fuzz::expect(id == 3 && n >= header + 20 && n <= 1500, "a packet is too short or too long");
    rte_tcp_hdr tcp;
    std::memcpy(&tcp, at + header, sizeof tcp);
    const std::uint16_t sum =
        to.is_ipv4()
            ? rte_ipv4_udptcp_cksum(reinterpret_cast<const rte_ipv4_hdr*>(at), at + header)
            : rte_ipv6_udptcp_cksum(reinterpret_cast<const rte_ipv6_hdr*>(at), at + header);
    fuzz::expect(sum == 0, "a checksum is wrong");
    const std::size_t which = rte_be_to_cpu_16(tcp.dst_port) - 4000u;
    if (which < peers_count) {
      peer& p = peers[which];
      p.received = rte_be_to_cpu_32(tcp.sent_seq) +
                   static_cast<std::uint32_t>(n - header - (tcp.data_off >> 4) * 4u) +
                   ((tcp.tcp_flags & (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG)) != 0 ? 1 : 0);
    }
    rte_pktmbuf_free(m);
  }
};

class echo final : public byte_stream_handler {
 public:
  tcp_stack* stack = nullptr;
  std::map<connection, bool> open; ///< whether its peer has finished

  void accepted(connection c, const net::endpoint& from, std::uint16_t port) noexcept override {
    fuzz::expect(open.emplace(c, false).second && port == own_port && from.interface_id == 3,
                 "a connection was accepted twice");
  }
  void received(connection c, std::span<const std::byte> octets) noexcept override {
    fuzz::expect(open.contains(c) && !open[c] && !octets.empty(), "octets came out of turn");
    (void)stack->write(c, octets);
    stack->push(c);
    stack->consumed(c, static_cast<std::uint32_t>(octets.size()));
  }
  void finished(connection c) noexcept override {
    fuzz::expect(open.contains(c) && !open[c], "a connection was finished twice");
    open[c] = true;
  }
  void writable(connection c) noexcept override {
    fuzz::expect(open.contains(c), "a connection that is gone is writable");
  }
  void ended(connection c, end_reason) noexcept override {
    fuzz::expect(open.erase(c) == 1, "a connection ended twice");
  }
};

/// Makes a packet of a peer. Every second one uses IPv6.
rte_mbuf* make(rte_mempool* pool, std::size_t which, std::uint32_t sequence,
               std::uint32_t acknowledged, std::uint8_t flags,
               std::span<const std::uint8_t> options, std::size_t payload) {
  const bool six = which % 2 != 0;
  const std::size_t header = six ? 40 : 20, padded = (options.size() + 3) / 4 * 4;
  const std::size_t size = 20 + padded + payload;
  rte_mbuf* const m = rte_pktmbuf_alloc(pool);
  if (m == nullptr) return nullptr;
  auto* const at = reinterpret_cast<unsigned char*>(
      rte_pktmbuf_append(m, static_cast<std::uint16_t>(header + size)));
  std::memset(at, 0, header + size);
  if (six) {
    rte_ipv6_hdr ip{};
    ip.vtc_flow = rte_cpu_to_be_32(6u << 28);
    ip.payload_len = rte_cpu_to_be_16(static_cast<std::uint16_t>(size));
    ip.proto = IPPROTO_TCP;
    net::store_ipv6(ip.src_addr, {own6.high, 2 + which});
    net::store_ipv6(ip.dst_addr, own6);
    std::memcpy(at, &ip, sizeof ip);
  } else {
    rte_ipv4_hdr ip{};
    ip.version_ihl = RTE_IPV4_VHL_DEF;
    ip.total_length = rte_cpu_to_be_16(static_cast<std::uint16_t>(header + size));
    ip.next_proto_id = IPPROTO_TCP;
    ip.src_addr = rte_cpu_to_be_32(own4 + 1 + static_cast<std::uint32_t>(which / 4));
    ip.dst_addr = rte_cpu_to_be_32(own4);
    std::memcpy(at, &ip, sizeof ip);
  }
  rte_tcp_hdr tcp{};
  tcp.src_port = rte_cpu_to_be_16(static_cast<std::uint16_t>(4000 + which));
  tcp.dst_port = rte_cpu_to_be_16(own_port);
  tcp.sent_seq = rte_cpu_to_be_32(sequence);
  tcp.recv_ack = rte_cpu_to_be_32(acknowledged);
  tcp.data_off = static_cast<std::uint8_t>((20 + padded) / 4 << 4);
  tcp.tcp_flags = flags;
  tcp.rx_win = rte_cpu_to_be_16(static_cast<std::uint16_t>(sequence | 0x1fff));
  std::memcpy(at + header, &tcp, sizeof tcp);
  if (!options.empty()) std::memcpy(at + header + 20, options.data(), options.size());
  return m;
}

struct world {
  line out;
  echo handler;
  std::unique_ptr<tcp_stack> stack;
  std::uint64_t now = 1;

  explicit world(rte_mempool* pool) {
    out.pool = pool;
    tcp_options o;
    o.connections_max = 6;
    o.connections_per_host_max = 3;
    o.half_open_max = 2;
    o.out_of_order_max = 3;
    o.out_of_order_total_max = 5;
    o.memory_max = 40'000;
    o.seed = 1;
    auto made = tcp_stack::create(o, handler, out);
    fuzz::expect(made.ok(), "the stack could not be made");
    stack = std::move(*made);
    handler.stack = stack.get();
    fuzz::expect(stack->add_interface({.id = 3, .addresses = {own4, own6}}).ok() &&
                     stack->listen(own_port).ok(),
                 "the stack does not listen");
  }
  void segment(fuzz::input& in, bool goes_on) {
    const std::size_t which = in.octet() % peers_count;
    const std::uint8_t flags = in.octet();
    peer& p = out.peers[which];
    std::uint32_t sequence = p.next, acknowledged = p.received;
    if (!goes_on) {
      sequence += static_cast<std::uint32_t>(in.number(2)) - 0x4000;
      acknowledged += static_cast<std::uint32_t>(in.number(2)) - 0x4000;
    }
    const auto options = in.take(in.octet() % 41);
    const std::size_t payload = in.number(2) % 1400;
    rte_mbuf* const m = make(out.pool, which, sequence, acknowledged, flags, options, payload);
    if (m == nullptr) return;
    if (goes_on)
      p.next += static_cast<std::uint32_t>(payload) +
                ((flags & (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG)) != 0 ? 1 : 0);
    stack->input(m, 0, 3, true);
  }
  void packet(fuzz::input& in) {
    const auto octets = in.take(in.number(2) % 1600);
    const std::size_t offset = in.octet() % 32;
    rte_mbuf* const m = rte_pktmbuf_alloc(out.pool);
    if (m == nullptr) return;
    if (!octets.empty())
      std::memcpy(rte_pktmbuf_append(m, static_cast<std::uint16_t>(octets.size())), octets.data(),
                  octets.size());
    stack->input(m, static_cast<std::uint32_t>(std::min(offset, octets.size())), 3,
                 in.octet() % 2 != 0);
  }
  void act(fuzz::input& in) {
    const unsigned what = in.octet();
    if (handler.open.empty()) return;
    auto at = handler.open.begin();
    std::advance(at, in.octet() % handler.open.size());
    const connection c = at->first;
    static const std::vector<std::byte> octets(70'000);
    switch (what % 5) {
    case 0:
      (void)stack->write(c, std::span(octets).first(in.number(2)));
      return stack->push(c);
    case 1:
      return stack->consumed(c, static_cast<std::uint32_t>(in.number(4)));
    case 2:
      handler.open.erase(c);
      return stack->close(c);
    case 3:
      handler.open.erase(c);
      return stack->abort(c);
    default:
      out.full = !out.full;
    }
  }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static rte_mempool* const pool = [] {
    fuzz::start_eal();
    return rte_pktmbuf_pool_create("tcp", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
  }();
  fuzz::input in(data, size);
  {
    world w(pool);
    (void)w.stack->poll(w.now);
    for (int steps = 0; steps < 200 && !in.empty(); ++steps) {
      switch (in.octet() % 8) {
      case 0:
        w.packet(in);
        break;
      case 1:
        w.act(in);
        break;
      case 2:
        w.now += in.octet() * (rte_get_tsc_hz() / 16);
        break;
      case 3:
        w.segment(in, false);
        break;
      default:
        w.segment(in, true);
      }
      (void)w.stack->poll(w.now);
      const char* const wrong = w.stack->audit();
      fuzz::expect(wrong == nullptr, wrong == nullptr ? "" : wrong);
      fuzz::expect(w.stack->open() <= 6, "there are more connections than there may be");
    }
  }
  fuzz::expect(rte_mempool_in_use_count(pool) == 0, "an mbuf was not freed");
  return 0;
}
