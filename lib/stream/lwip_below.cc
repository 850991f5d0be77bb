// SPDX-License-Identifier: BSD-3-Clause
// What lwIP's TCP stands on: memory, first sequence numbers, the way of a segment to the link, and
// the few functions of lwIP's IP and interfaces that its TCP calls. lib/net has IP, so lwIP's own
// is not compiled, and each segment is copied and gets its IP header and its checksums in one
// place.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <rte_byteorder.h>
#include <rte_cycles.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

#include "net/parse.h"
#include "stream/tcp_state.h"

namespace chainring::stream {

namespace {

constexpr std::uint8_t time_to_live = 64; // of IPv6 the hop limit

/// The IP header of a segment of `size` octets, and the sum of TCP's pseudo-header.
std::uint64_t put_header(char* at, const net::ip_address& from, const net::ip_address& to,
                         std::uint32_t size, std::uint16_t id, bool device_sums) noexcept {
  const std::uint64_t rest = std::uint64_t{rte_cpu_to_be_16(IPPROTO_TCP)} +
                             rte_cpu_to_be_16(static_cast<std::uint16_t>(size));
  if (to.is_ipv4()) {
    rte_ipv4_hdr ip{};
    ip.version_ihl = RTE_IPV4_VHL_DEF;
    ip.total_length = rte_cpu_to_be_16(static_cast<std::uint16_t>(sizeof ip + size));
    ip.packet_id = rte_cpu_to_be_16(id);
    ip.time_to_live = time_to_live;
    ip.next_proto_id = IPPROTO_TCP;
    ip.src_addr = rte_cpu_to_be_32(from.ipv4());
    ip.dst_addr = rte_cpu_to_be_32(to.ipv4());
    if (!device_sums)
      ip.hdr_checksum =
          static_cast<std::uint16_t>(~net::fold_checksum(net::add_checksum(0, &ip, sizeof ip)));
    std::memcpy(at, &ip, sizeof ip);
    return rest + ip.src_addr + ip.dst_addr;
  }
  rte_ipv6_hdr ip{};
  ip.vtc_flow = rte_cpu_to_be_32(6u << 28);
  ip.payload_len = rte_cpu_to_be_16(static_cast<std::uint16_t>(size));
  ip.proto = IPPROTO_TCP;
  ip.hop_limits = time_to_live;
  net::store_ipv6(ip.src_addr, from);
  net::store_ipv6(ip.dst_addr, to);
  std::memcpy(at, &ip, sizeof ip);
  return rest + net::fold_checksum(net::add_checksum(0, at + offsetof(rte_ipv6_hdr, src_addr), 32));
}

} // namespace

err_t tcp_stack::state::send(interface& on, const net::ip_address& from, const net::ip_address& to,
                             const pbuf* p) noexcept {
  const bool ipv4 = to.is_ipv4();
  const std::uint32_t header = ipv4 ? sizeof(rte_ipv4_hdr) : sizeof(rte_ipv6_hdr);
  const std::uint32_t size = p->tot_len;
  rte_mbuf* const m = output->allocate();
  char* const at =
      m == nullptr ? nullptr : rte_pktmbuf_append(m, static_cast<std::uint16_t>(header + size));
  if (at == nullptr) {
    rte_pktmbuf_free(m);
    ++count.unsent;
    return ERR_MEM; // TCP sends it again
  }
  if (p->next == nullptr)
    std::memcpy(at + header, p->payload, size);
  else
    (void)pbuf_copy_partial(p, at + header, static_cast<u16_t>(size), 0);
  const bool device = on.config.checksum_offload;
  const std::uint64_t pseudo = put_header(at, from, to, size, ++packet_id, device);
  std::uint16_t sum = 0;
  char* const sum_at = at + header + offsetof(rte_tcp_hdr, cksum);
  std::memcpy(sum_at, &sum, sizeof sum);
  if (device) {
    sum = net::fold_checksum(pseudo); // to which the device adds the rest
    m->l3_len = header & 0x1ff;
    m->l4_len = static_cast<std::uint8_t>(static_cast<unsigned char>(at[header + 12]) >> 4) * 4u;
    m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM |
                   (ipv4 ? RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM : RTE_MBUF_F_TX_IPV6);
  } else {
    sum = static_cast<std::uint16_t>(
        ~net::fold_checksum(net::add_checksum(pseudo, at + header, size)));
  }
  std::memcpy(sum_at, &sum, sizeof sum);
  ++count.packets_sent;
  output->send(on.config.id, to, m);
  return ERR_OK;
}

namespace {

err_t send_from_lwip(pbuf* p, const net::ip_address& from, const net::ip_address& to,
                     netif* out) noexcept {
  tcp_stack::state& s = *the_stack;
  if (s.restored) return ERR_OK; // this SYN was answered before, with a cookie
  return s.send(*s.interfaces[out->num], from, to, p);
}

netif* route() noexcept {
  return the_stack->current == nullptr ? nullptr : &the_stack->current->net;
}

} // namespace

} // namespace chainring::stream

extern "C" {

using chainring::stream::the_stack;

struct ip_globals ip_data;
const ip_addr_t ip_addr_any_type = IPADDR_ANY_TYPE_INIT;

// A packet leaves through the interface of its connection, or through the one on which the packet
// that it answers came in.
netif* ip4_route(const ip4_addr_t*) {
  return chainring::stream::route();
}
netif* ip6_route(const ip6_addr_t*, const ip6_addr_t*) {
  return chainring::stream::route();
}
netif* netif_get_by_index(u8_t index) {
  const std::size_t n = static_cast<std::size_t>(index) - 1;
  return n < the_stack->interfaces.size() ? &the_stack->interfaces[n]->net : nullptr;
}

err_t ip4_output_if(pbuf* p, const ip4_addr_t* from, const ip4_addr_t* to, u8_t, u8_t, u8_t,
                    netif* out) {
  return chainring::stream::send_from_lwip(p, rte_be_to_cpu_32(ip4_addr_get_u32(from)),
                                           rte_be_to_cpu_32(ip4_addr_get_u32(to)), out);
}
err_t ip6_output_if(pbuf* p, const ip6_addr_t* from, const ip6_addr_t* to, u8_t, u8_t, u8_t,
                    netif* out) {
  return chainring::stream::send_from_lwip(p, chainring::net::load_ipv6(from->addr),
                                           chainring::net::load_ipv6(to->addr), out);
}

// tcp_timers.cc always calls the timers.
void tcp_timer_needed(void) {}

// Connections have own addresses from their first packet on, so none is looked for.
const ip_addr_t* ip6_select_source_address(netif*, const ip6_addr_t*) {
  return nullptr;
}
// The paths of packets are not discovered.
u16_t nd6_get_destination_mtu(const ip6_addr_t*, netif* out) {
  return out != nullptr ? out->mtu : IP6_MIN_MTU_LENGTH;
}

u32_t stream_hook_first_sequence(const ip_addr_t* own, u16_t own_port, const ip_addr_t* peer,
                                 u16_t peer_port) {
  if (the_stack->restored) return *the_stack->restored;
  const std::uint64_t per_4us = std::max<std::uint64_t>(the_stack->hz / 250'000, 1);
  return the_stack->sequences({chainring::stream::address_of(*own),
                               chainring::stream::address_of(*peer), own_port, peer_port},
                              rte_rdtsc() / per_4us);
}

u16_t stream_hook_out_of_order_max(void) {
  const chainring::stream::tcp_options& o = the_stack->options;
  if (the_stack->frames_held >= o.out_of_order_total_max) {
    ++the_stack->count.out_of_order_refused;
    return 0;
  }
  return static_cast<u16_t>(std::min<std::uint32_t>(o.out_of_order_max, 65535));
}

void* stream_hook_allocate(size_t size) {
  if (the_stack->memory + size > the_stack->options.memory_max) {
    ++the_stack->count.no_memory;
    return nullptr;
  }
  void* const at = std::malloc(size);
  if (at != nullptr) the_stack->memory += malloc_usable_size(at);
  return at;
}

void* stream_hook_allocate_zeroed(size_t count, size_t size) {
  void* const at = stream_hook_allocate(count * size);
  if (at != nullptr) std::memset(at, 0, count * size);
  return at;
}

void stream_hook_free(void* at) {
  if (at == nullptr) return;
  the_stack->memory -= malloc_usable_size(at);
  std::free(at);
}

void stream_hook_assert(const char* what, const char* file, int line) {
  std::fprintf(stderr, "lwIP: %s (%s:%d)\n", what, file, line);
  std::abort();
}

} // extern "C"
