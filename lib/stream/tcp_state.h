// SPDX-License-Identifier: BSD-3-Clause
/// The state of a TCP stack. Internal to lib/stream.
#pragma once
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <rte_tcp.h>
#include <span>
#include <vector>

#include "base/keyed_hash.h"
#define ip6_hdr lwip_ip6_hdr // the C library has a structure of this name, too
#include "lwip/init.h"
#include "lwip/ip.h"
#include "lwip/nd6.h"
#include "lwip/netif.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"
#undef ip6_hdr
#include "lwip_hooks.h"
#include "stream/first_sequence.h"
#include "stream/source_rates.h"
#include "stream/tcp.h"

#if LWIP_VERSION_MAJOR != 2 || LWIP_VERSION_MINOR != 1 || LWIP_VERSION_REVISION != 3
#error                                                                                             \
    "lib/stream relies on lists, timers and functions below TCP of lwIP 2.1.3; read its tcp*.c again"
#endif

namespace chainring::stream {

/// What the stack keeps of a connection beside lwIP's control block.
struct link_state {
  tcp_pcb* pcb = nullptr; ///< null when it is gone
  net::endpoint peer;
  std::uint16_t own_port = 0;
  std::uint32_t next = 0;      ///< in its bucket, plus one
  std::uint32_t slow_at = 0;   ///< its place in `slow`, plus one; 0: not there
  std::uint32_t fast_at = 0;   ///< the same in `fast`
  std::uint32_t slow_tick = 0; ///< the last tick of the slow timer that it was in
  std::uint32_t fast_tick = 0; ///< the same of the fast one
  std::uint32_t visit = 0; ///< the call of a timer after which its control block was still there
  std::uint32_t unconsumed = 0; ///< octets received, of which consumed() was not told
  std::uint32_t half_before = 0;    ///< in the line of half-open connections, plus one
  std::uint32_t half_after = 0;     ///< the same
  std::uint32_t challenge_tick = 0; ///< of the slow timer, when a segment was last challenged
  pbuf* in = nullptr;           ///< received, and not given to the handler yet
  end_reason reason = end_reason::closed;
  bool time_wait = false;   ///< its control block is in TIME-WAIT
  bool half_open = false;   ///< it is in the line of half-open connections
  bool begun_here = false;  ///< connect() has made it
  bool established = false; ///< it is to be, or was, reported as accepted or connected
  bool told = false;        ///< accepted() or connected() was called
  bool finished = false;    ///< the peer sends nothing more
  bool finish_told = false;
  bool wants_room = false; ///< write() took less than it was given
  bool released = false;   ///< the handler has closed or aborted it
  bool listed = false;     ///< it is in `ready`
};

/// A received frame while lwIP or the handler has it. `custom` is first, so that a pointer to it is
/// one to the whole.
struct held_frame {
  pbuf_custom custom;
  rte_mbuf* frame;
  std::uint32_t next_free;
};

/// What the stack has read of a received segment.
struct segment {
  connection_ends ends;
  std::byte* tcp = nullptr;      ///< the TCP header in the frame
  std::uint32_t size = 0;        ///< octets of the segment with its header
  std::uint32_t header_size = 0; ///< of the TCP header with its options
  std::uint32_t sequence = 0;    ///< in host byte order, like all that follows
  std::uint32_t acknowledged = 0;
  std::uint16_t window = 0;
  std::uint8_t flags = 0;
  bool ipv6 = false;

  /// The flags that say what the segment is for.
  [[nodiscard]] bool is(std::uint8_t wanted) const noexcept {
    constexpr std::uint8_t purpose =
        RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG | RTE_TCP_RST_FLAG | RTE_TCP_FIN_FLAG;
    return (flags & purpose) == wanted;
  }
  [[nodiscard]] bool has(std::uint8_t flag) const noexcept { return (flags & flag) != 0; }
};

struct tcp_stack::state {
  tcp_options options;
  byte_stream_handler* handler;
  packet_output* output;
  hash_key key;
  first_sequence sequences;
  tcp_counters<statistic> count;

  std::vector<link_state> links;
  std::vector<std::uint32_t> free_links;
  std::vector<std::uint32_t> buckets;    ///< the first connection of each, plus one
  std::vector<std::uint32_t> host_count; ///< connections by the hash of the peer's address
  std::vector<std::uint32_t> slow, fast; ///< the connections that have something for these timers
  std::vector<std::uint32_t> ready;      ///< a ring of connections for which poll() has something
  std::size_t ready_first = 0, ready_count = 0;
  /// The line of half-open connections, from the oldest to the newest, by number plus one.
  std::uint32_t half_first = 0, half_last = 0;
  std::uint32_t half_count = 0;
  /// When a SYN was last answered with a cookie.
  std::uint64_t cookie_tsc = 0;
  bool cookies_in_use = false;
  source_rates rates;
  std::uint32_t open = 0;

  std::vector<held_frame> frames;
  std::uint32_t first_free_frame = 0; ///< plus one
  std::uint32_t frames_held = 0;

  struct interface {
    tcp_interface config;
    netif net{};
    bool has_global = false; ///< it has an IPv6 address beyond the link

    /// The endpoint of a peer, which says too at which of two IPv6 addresses the peer has asked.
    [[nodiscard]] net::endpoint endpoint_of(const connection_ends& e) const noexcept {
      const bool other = has_global && !e.peer.is_ipv4() &&
                         net::is_link_local(e.peer) != net::is_link_local(e.own);
      return {e.peer, e.peer_port, config.id, other};
    }
  };
  std::vector<std::unique_ptr<interface>> interfaces;
  interface* current = nullptr;     ///< that of the packet or the connection which lwIP works on
  struct listened {
    std::uint16_t port;
    std::optional<net::ip_address> at; ///< an own address; nothing means all of them
  };
  std::vector<listened> listening;
  [[nodiscard]] bool listens_at(const connection_ends& e) const noexcept {
    return std::ranges::any_of(listening, [&](const listened& l) {
      return l.port == e.own_port && (!l.at || *l.at == e.own);
    });
  }
  std::uint16_t packet_id = 0;      ///< of the last IPv4 packet that was sent
  /// lwIP's next first sequence number is this cookie, and its answer to the SYN is not sent.
  std::optional<std::uint32_t> restored;

  std::uint64_t hz = 0;
  std::uint64_t now_tsc = 0; ///< of create(), and then of the last poll()
  std::uint64_t fast_next = 0, slow_next = 0;
  std::uint32_t ticks = 0;      ///< of the slow timer, half a second each
  std::uint32_t fast_ticks = 0; ///< of the fast timer
  std::size_t slow_left = 0;    ///< the places of `slow` that this tick has not visited yet
  std::size_t fast_left = 0;
  std::uint32_t visits = 0;
  std::uint8_t timer_calls = 0; ///< what lwIP's own counter of such calls has
  std::uint64_t memory = 0;     ///< octets that lwIP has allocated

  state(const tcp_options& o, const hash_key& k, std::uint64_t tsc_hz)
      : options(o), key(k), rates(o.connections_per_second_max, tsc_hz, k), hz(tsc_hz) {}

  // tcp_stack.cc
  [[nodiscard]] std::uint32_t bucket_of(const net::endpoint& peer,
                                        std::uint16_t own_port) const noexcept;
  [[nodiscard]] std::uint32_t& host_count_of(const net::ip_address& peer) noexcept;
  [[nodiscard]] link_state* find(const net::endpoint& peer, std::uint16_t own_port) noexcept;
  [[nodiscard]] std::uint32_t number_of(const link_state& l) const noexcept {
    return static_cast<std::uint32_t>(&l - links.data());
  }
  [[nodiscard]] link_state* live(connection c) noexcept {
    link_state* const l = c < links.size() ? &links[c] : nullptr;
    return l != nullptr && l->pcb != nullptr && (l->told || l->begun_here) && !l->released
               ? l
               : nullptr;
  }
  void adopt(tcp_pcb* pcb) noexcept;
  /// Takes a free number for the control block. There must be one.
  link_state& number(tcp_pcb* pcb, interface& on) noexcept;
  /// Decides whether a connection that lwIP calls established may stay.
  [[nodiscard]] bool admit(link_state& l) noexcept;
  void enter_half_open(link_state& l) noexcept;
  void leave_half_open(link_state& l) noexcept;
  /// Ends the connection that has been half open for the longest time.
  void drop_oldest_half_open() noexcept;
  /// The control block of the connection is gone.
  void forget(link_state& l) noexcept;
  void release_number(link_state& l) noexcept;
  void list(link_state& l) noexcept;
  /// Shows lwIP this connection alone, or none, and hides it again.
  void show(link_state* l) noexcept;
  void hide(link_state* l) noexcept;
  /// Calls fn(control block) of a connection, while lwIP sees it alone.
  template <class F> void with(link_state& l, F&& fn) noexcept {
    show(&l);
    fn(l.pcb);
    hide(&l);
  }
  [[nodiscard]] interface* interface_of(std::uint16_t id) noexcept;
  void serve(link_state& l) noexcept;
  void free_input(link_state& l) noexcept;
  [[nodiscard]] std::uint64_t now_s() const noexcept { return now_tsc / hz; }

  // tcp_input.cc
  /// Reads the segment and checks all that can be checked without its connection.
  [[nodiscard]] bool read(const rte_mbuf* frame, std::uint32_t ip_offset, const interface& on,
                          bool checksum_good, segment& g) noexcept;
  /// Says whether lwIP gets to see a segment that begins a connection.
  [[nodiscard]] bool may_begin(const segment& g, interface& on) noexcept;
  /// Says whether lwIP gets to see a segment of a connection that is established (RFC 5961).
  [[nodiscard]] bool may_continue(const segment& g, link_state& l) noexcept;
  void challenge(link_state& l) noexcept;
  void answer_with_cookie(const segment& g, interface& on) noexcept;
  /// Makes the connection that the cookie in this acknowledgement stands for.
  link_state* restore(const segment& g, interface& on) noexcept;
  /// Hands a segment to lwIP, which frees the buffer.
  void hand_over(pbuf* p, const segment& g, interface& on, link_state* l) noexcept;

  // lwip_below.cc
  /// Sends a segment, which is copied, behind an IP header. Its checksum is filled in.
  [[nodiscard]] err_t send(interface& on, const net::ip_address& from, const net::ip_address& to,
                           const pbuf* segment) noexcept;

  // tcp_connect.cc
  [[nodiscard]] connection connect(interface& on, std::uint16_t own_port,
                                   const net::endpoint& to) noexcept;

  // tcp_timers.cc
  [[nodiscard]] static bool wants_slow(const link_state& l) noexcept;
  [[nodiscard]] static bool wants_fast(const link_state& l) noexcept;
  void sort_into_timers(link_state& l) noexcept;
  void leave_timers(link_state& l) noexcept;
  bool run_timers(std::uint64_t now) noexcept;
  void run_chunk(std::span<const std::uint32_t> chunk, bool is_slow) noexcept;
};

/// The stack of this process, for the functions that lwIP calls without a context.
extern tcp_stack::state* the_stack;

[[nodiscard]] net::ip_address address_of(const ip_addr_t& a) noexcept;
void to_lwip(ip_addr_t& to, const net::ip_address& from) noexcept;

} // namespace chainring::stream
