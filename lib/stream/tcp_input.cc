// SPDX-License-Identifier: BSD-3-Clause
// What happens to a received segment before lwIP sees it: it is checked, its connection is found,
// and segments that a stranger may have forged are kept from lwIP or answered here.
#include <algorithm>
#include <cstring>
#include <rte_byteorder.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>

#include "net/parse.h"
#include "stream/tcp_state.h"

namespace chainring::stream {

namespace {

constexpr std::uint8_t option_end = 0, option_nop = 1, option_mss = 2, option_sack = 4;

void free_frame(pbuf* p) noexcept {
  auto* const held = reinterpret_cast<held_frame*>(p);
  rte_pktmbuf_free(held->frame);
  held->next_free = the_stack->first_free_frame;
  the_stack->first_free_frame = static_cast<std::uint32_t>(held - the_stack->frames.data()) + 1;
  --the_stack->frames_held;
}

/// Reads from the options of a SYN what a cookie remembers.
syn_offer read_offer(const segment& g) noexcept {
  syn_offer offer;
  for (std::uint32_t i = sizeof(rte_tcp_hdr); i < g.header_size;) {
    const auto kind = static_cast<std::uint8_t>(g.tcp[i]);
    if (kind == option_end) break;
    if (kind == option_nop) {
      ++i;
      continue;
    }
    if (i + 1 == g.header_size) break;
    const auto size = static_cast<std::uint8_t>(g.tcp[i + 1]);
    if (size < 2 || i + size > g.header_size) break;
    if (kind == option_mss && size == 4)
      offer.mss = static_cast<std::uint16_t>(static_cast<std::uint16_t>(g.tcp[i + 2]) << 8 |
                                             static_cast<std::uint16_t>(g.tcp[i + 3]));
    if (kind == option_sack) offer.sack = true;
    i += size;
  }
  return offer;
}

/// Makes a SYN, with the options that a cookie remembers. Its ports are the wire's.
pbuf* make_syn(std::uint16_t from, std::uint16_t to, std::uint32_t sequence,
               std::uint32_t acknowledged, std::uint16_t window, std::uint8_t flags,
               const syn_offer& offer) noexcept {
  struct {
    rte_tcp_hdr tcp;
    std::uint8_t options[8];
  } s{};
  const std::size_t size = sizeof s.tcp + (offer.sack ? 8u : 4u);
  s.tcp.src_port = rte_cpu_to_be_16(from);
  s.tcp.dst_port = rte_cpu_to_be_16(to);
  s.tcp.sent_seq = rte_cpu_to_be_32(sequence);
  s.tcp.recv_ack = rte_cpu_to_be_32(acknowledged);
  s.tcp.data_off = static_cast<std::uint8_t>(size / 4 << 4);
  s.tcp.tcp_flags = flags;
  s.tcp.rx_win = rte_cpu_to_be_16(window);
  const std::uint8_t options[8] = {option_mss,
                                   4,
                                   static_cast<std::uint8_t>(offer.mss >> 8),
                                   static_cast<std::uint8_t>(offer.mss),
                                   option_nop,
                                   option_nop,
                                   option_sack,
                                   2};
  std::memcpy(s.options, options, sizeof options);
  pbuf* const p = pbuf_alloc(PBUF_RAW, static_cast<u16_t>(size), PBUF_RAM);
  if (p != nullptr) std::memcpy(p->payload, &s, size);
  return p;
}

} // namespace

bool tcp_stack::state::read(const rte_mbuf* frame, std::uint32_t ip_offset, const interface& on,
                            bool checksum_good, segment& g) noexcept {
  const std::uint32_t n = rte_pktmbuf_data_len(frame);
  auto* const ip = rte_pktmbuf_mtod_offset(frame, std::byte*, ip_offset);
  std::uint32_t header = 0, total = 0;
  std::uint64_t pseudo = 0;
  if (ip_offset + sizeof(rte_ipv4_hdr) > n) return false;
  if (static_cast<std::uint8_t>(ip[0]) >> 4 == 4) {
    rte_ipv4_hdr h;
    std::memcpy(&h, ip, sizeof h);
    header = (h.version_ihl & 15u) * 4;
    total = rte_be_to_cpu_16(h.total_length);
    g.ends.peer = rte_be_to_cpu_32(h.src_addr);
    g.ends.own = rte_be_to_cpu_32(h.dst_addr);
    pseudo = std::uint64_t{h.src_addr} + h.dst_addr;
  } else {
    rte_ipv6_hdr h;
    if (ip_offset + sizeof h > n) return false;
    std::memcpy(&h, ip, sizeof h);
    header = sizeof h;
    total = header + rte_be_to_cpu_16(h.payload_len);
    g.ipv6 = true;
    g.ends.peer = net::load_ipv6(h.src_addr);
    g.ends.own = net::load_ipv6(h.dst_addr);
    pseudo = net::fold_checksum(net::add_checksum(0, h.src_addr, 2 * sizeof h.src_addr));
    // The extension headers were checked; a fragment header stands in front of a whole packet.
    for (std::uint8_t next = h.proto; next != IPPROTO_TCP;) {
      if (total > n - ip_offset || header + 8 > total) return false;
      next = static_cast<std::uint8_t>(ip[header]);
      header += (static_cast<std::uint32_t>(ip[header + 1]) + 1) * 8;
    }
  }
  if (total > n - ip_offset || header + sizeof(rte_tcp_hdr) > total) return false;
  g.tcp = ip + header;
  g.size = total - header;
  rte_tcp_hdr tcp;
  std::memcpy(&tcp, g.tcp, sizeof tcp);
  g.header_size = (tcp.data_off >> 4) * 4u;
  if (g.header_size < sizeof tcp || g.header_size > g.size) return false;
  if (std::ranges::find(on.config.addresses, g.ends.own) == on.config.addresses.end()) return false;
  if (!checksum_good) {
    pseudo += std::uint64_t{rte_cpu_to_be_16(IPPROTO_TCP)} +
              rte_cpu_to_be_16(static_cast<std::uint16_t>(g.size));
    if (net::fold_checksum(net::add_checksum(pseudo, g.tcp, g.size)) != 0xffff) {
      if (tcp.cksum != net::fold_checksum(pseudo)) {
        ++count.checksum_wrong;
        return false;
      }
      if (!on.config.partial_checksums) {
        ++count.checksum_partial;
        return false;
      }
    }
  }
  g.ends.peer_port = rte_be_to_cpu_16(tcp.src_port);
  g.ends.own_port = rte_be_to_cpu_16(tcp.dst_port);
  g.sequence = rte_be_to_cpu_32(tcp.sent_seq);
  g.acknowledged = rte_be_to_cpu_32(tcp.recv_ack);
  g.window = rte_be_to_cpu_16(tcp.rx_win);
  g.flags = tcp.tcp_flags;
  return true;
}

// --- segments that begin a connection -----------------------------------------------------------

bool tcp_stack::state::may_begin(const segment& g, interface& on) noexcept {
  if (!listens_at(g.ends)) return true; // lwIP resets it
  if (host_count_of(g.ends.peer) >= options.connections_per_host_max) {
    ++count.refused_host;
    return false;
  }
  if (!rates.allows(g.ends.peer, now_tsc)) {
    ++count.refused_rate;
    return false;
  }
  if (options.syn_cookies &&
      (half_count >= options.half_open_max || (free_links.empty() && half_count != 0))) {
    answer_with_cookie(g, on);
    return false;
  }
  if (free_links.empty()) {
    ++count.refused;
    return false;
  }
  return true;
}

void tcp_stack::state::answer_with_cookie(const segment& g, interface& on) noexcept {
  const syn_offer offer = read_offer(g);
  const auto mss = static_cast<std::uint16_t>(
      std::min<std::uint32_t>(TCP_MSS, on.config.mtu - sizeof(rte_tcp_hdr) -
                                           (g.ipv6 ? sizeof(rte_ipv6_hdr) : sizeof(rte_ipv4_hdr))));
  pbuf* const p = make_syn(g.ends.own_port, g.ends.peer_port,
                           sequences.cookie(g.ends, g.sequence, offer, now_s()), g.sequence + 1,
                           TCPWND_MIN16(TCP_WND), RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG,
                           {.mss = mss, .sack = offer.sack});
  if (p == nullptr) return; // the peer asks again
  ++count.cookies_sent;
  cookies_in_use = true;
  cookie_tsc = now_tsc;
  (void)send(on, g.ends.own, g.ends.peer, p);
  pbuf_free(p);
}

link_state* tcp_stack::state::restore(const segment& g, interface& on) noexcept {
  if (!cookies_in_use || !listens_at(g.ends)) return nullptr;
  if (now_tsc - cookie_tsc > 2 * first_sequence::period_s * hz) { // no cookie is good any more
    cookies_in_use = false;
    return nullptr;
  }
  const std::uint32_t cookie = g.acknowledged - 1;
  const auto offer = sequences.read_cookie(cookie, g.ends, g.sequence - 1, now_s());
  if (!offer) {
    ++count.cookies_refused;
    return nullptr;
  }
  if (free_links.empty() && half_count != 0) drop_oldest_half_open();
  if (free_links.empty()) {
    ++count.refused;
    return nullptr;
  }
  // lwIP gets the SYN that the peer has sent, and its answer was sent before.
  pbuf* const p = make_syn(g.ends.peer_port, g.ends.own_port, g.sequence - 1, 0, g.window,
                           RTE_TCP_SYN_FLAG, *offer);
  if (p == nullptr) return nullptr;
  restored = cookie;
  hand_over(p, g, on, nullptr);
  restored.reset();
  link_state* const l = find(on.endpoint_of(g.ends), g.ends.own_port);
  if (l != nullptr) ++count.cookies_accepted;
  return l;
}

// --- segments of connections that are established (RFC 5961) ------------------------------------

bool tcp_stack::state::may_continue(const segment& g, link_state& l) noexcept {
  const tcp_pcb& p = *l.pcb;
  if (p.state == SYN_RCVD || p.state == SYN_SENT || l.time_wait) return true;
  if (g.has(RTE_TCP_RST_FLAG)) {
    if (g.sequence == p.rcv_nxt) return true;
    if (g.sequence - p.rcv_nxt < p.rcv_wnd) challenge(l);
    return false;
  }
  if (g.has(RTE_TCP_SYN_FLAG)) {
    challenge(l);
    return false;
  }
  if (!g.has(RTE_TCP_ACK_FLAG)) return false;
  // What is acknowledged must have been sent, and not long ago.
  if (TCP_SEQ_GT(g.acknowledged, p.snd_nxt) ||
      TCP_SEQ_LT(g.acknowledged, p.lastack - std::max<tcpwnd_size_t>(p.snd_wnd_max, 65535))) {
    challenge(l);
    return false;
  }
  return true;
}

// The limit is the connection's own: with a common one, whoever can use it up could find out from
// what is left of it whether a guess about a connection was right (CVE-2016-5696).
void tcp_stack::state::challenge(link_state& l) noexcept {
  if (l.challenge_tick == ticks + 1) {
    ++count.challenges_withheld;
    return;
  }
  l.challenge_tick = ticks + 1;
  ++count.challenged;
  with(l, [](tcp_pcb* p) {
    tcp_ack_now(p);
    (void)tcp_output(p);
  });
}

// --- the way in ---------------------------------------------------------------------------------

void tcp_stack::state::hand_over(pbuf* p, const segment& g, interface& on, link_state* l) noexcept {
  ip_data.current_netif = &on.net;
  ip_data.current_input_netif = &on.net;
  to_lwip(ip_data.current_iphdr_dest, g.ends.own);
  to_lwip(ip_data.current_iphdr_src, g.ends.peer);
  show(l);
  current = &on;
  tcp_input(p, &on.net);
  hide(l);
  current = nullptr;
}

void tcp_stack::input(rte_mbuf* frame, std::uint32_t ip_offset, std::uint16_t id,
                      bool checksum_good) noexcept {
  state& s = *state_;
  ++s.count.packets_received;
  const auto drop = [frame] { rte_pktmbuf_free(frame); };
  state::interface* const on = s.interface_of(id);
  segment g;
  if (on == nullptr || !s.read(frame, ip_offset, *on, checksum_good, g)) {
    ++s.count.malformed;
    return drop();
  }
  link_state* l = s.find(on->endpoint_of(g.ends), g.ends.own_port);
  if (g.is(RTE_TCP_SYN_FLAG)) {
    if (l != nullptr && l->time_wait && TCP_SEQ_GT(g.sequence, l->pcb->rcv_nxt)) {
      // The peer uses its port again, with a sequence number above the former connection's (RFC
      // 1122, 4.2.2.13).
      l->released = true;
      s.with(*l, [](tcp_pcb* p) { tcp_abort(p); });
      l = nullptr;
    }
    if (l == nullptr && !s.may_begin(g, *on)) return drop();
  } else if (l == nullptr && g.has(RTE_TCP_ACK_FLAG) && !g.has(RTE_TCP_SYN_FLAG) &&
             !g.has(RTE_TCP_RST_FLAG)) {
    l = s.restore(g, *on);
  }
  if (l != nullptr && !s.may_continue(g, *l)) return drop();
  if (s.first_free_frame == 0) {
    ++s.count.no_frame;
    return drop();
  }
  held_frame& held = s.frames[s.first_free_frame - 1];
  s.first_free_frame = held.next_free;
  ++s.frames_held;
  held.frame = frame;
  held.custom.custom_free_function = free_frame;
  const auto size = static_cast<u16_t>(g.size);
  pbuf* const p = pbuf_alloced_custom(PBUF_RAW, size, PBUF_REF, &held.custom, g.tcp, size);
  s.hand_over(p, g, *on, l);
}

} // namespace chainring::stream
