// SPDX-License-Identifier: BSD-3-Clause
// rte_ip_frag_table_del_expired_entries() is experimental in DPDK 22.11, and there is no other way
// to free the place of a datagram before its time.
#define ALLOW_EXPERIMENTAL_API
#include "net/fragments.h"

#include <cstring>
#include <rte_cycles.h>
#include <rte_ip.h>
#include <rte_log.h>
#include <rte_udp.h>
#include <string>

namespace chainring::net {

// --- putting together ----------------------------------------------------------------------------

result<std::unique_ptr<reassembly>> reassembly::create(const reassembly_options& o) {
  constexpr std::uint32_t most = 4096, bucket_entries = 16;
  if (o.datagrams_max == 0 || o.datagrams_max > most)
    return error{errc::invalid_argument, "reassembly: datagrams_max " +
                                             std::to_string(o.datagrams_max) + ": expected 1 to " +
                                             std::to_string(most)};
  if (o.timeout_ms == 0 || o.timeout_ms > 60'000)
    return error{errc::invalid_argument, "reassembly: timeout_ms " + std::to_string(o.timeout_ms) +
                                             ": expected 1 to 60000"};
  const std::uint64_t hz = o.tsc_hz != 0 ? o.tsc_hz : rte_get_tsc_hz();
  std::unique_ptr<reassembly> r(new reassembly);
  // There are more places than datagrams, so that few of them find their buckets full.
  const std::uint32_t buckets = std::max(4u, o.datagrams_max / bucket_entries * 2);
  // The library says at level INFO how large the table is, which tells an operator nothing.
  const int level = rte_log_get_level(RTE_LOGTYPE_USER1);
  rte_log_set_level(RTE_LOGTYPE_USER1, RTE_LOG_WARNING);
  r->table_ = rte_ip_frag_table_create(buckets, bucket_entries, o.datagrams_max,
                                       hz * o.timeout_ms / 1000, SOCKET_ID_ANY);
  r->spared_tsc_ = hz * (o.timeout_ms - std::min(o.timeout_ms, o.crowded_ms)) / 1000;
  if (level >= 0) rte_log_set_level(RTE_LOGTYPE_USER1, static_cast<std::uint32_t>(level));
  if (r->table_ == nullptr)
    return error{errc::no_space, "reassembly: there is no memory for the table of fragments"};
  return r;
}

reassembly::~reassembly() {
  if (table_ != nullptr) rte_ip_frag_table_destroy(table_);
}

namespace {

/// librte_ip_frag expects the fragment header right behind the IPv6 header, so extension headers
/// between them, which the parser has read, are taken out.
void remove_extensions(rte_mbuf* m, const packet_view& v) noexcept {
  constexpr std::size_t fragment_size = sizeof(rte_ipv6_fragment_ext);
  const std::size_t extensions = v.ip_size - sizeof(rte_ipv6_hdr) - fragment_size;
  if (extensions == 0) return;
  auto* data = rte_pktmbuf_mtod(m, unsigned char*);
  std::memmove(data + extensions, data, v.l2_size + sizeof(rte_ipv6_hdr));
  data =
      reinterpret_cast<unsigned char*>(rte_pktmbuf_adj(m, static_cast<std::uint16_t>(extensions)));
  rte_ipv6_hdr ip;
  std::memcpy(&ip, data + v.l2_size, sizeof ip);
  ip.proto = IPPROTO_FRAGMENT;
  ip.payload_len =
      rte_cpu_to_be_16(static_cast<std::uint16_t>(rte_be_to_cpu_16(ip.payload_len) - extensions));
  std::memcpy(data + v.l2_size, &ip, sizeof ip);
}

} // namespace

rte_mbuf* reassembly::put(rte_mbuf* m, const packet_view& v, std::uint64_t now_tsc) noexcept {
  if (v.source.address.is_ipv4())
    return rte_ipv4_frag_reassemble_packet(
        table_, &discarded_, m, now_tsc,
        rte_pktmbuf_mtod_offset(m, rte_ipv4_hdr*, std::size_t{v.l2_size}));
  auto* ip = rte_pktmbuf_mtod_offset(m, rte_ipv6_hdr*, std::size_t{v.l2_size});
  return rte_ipv6_frag_reassemble_packet(table_, &discarded_, m, now_tsc, ip,
                                         reinterpret_cast<rte_ipv6_fragment_ext*>(ip + 1));
}

void reassembly::free_discarded(const rte_mbuf* newest, drop_counters& drops) noexcept {
  for (std::uint32_t i = 0; i < discarded_.cnt; ++i)
    drops.count(discarded_.row[i] == newest ? drop_reason::fragment_refused
                                            : drop_reason::fragment_lost);
  rte_ip_frag_free_death_row(&discarded_, 0);
}

rte_mbuf* reassembly::add(rte_mbuf* m, const packet_view& v, drop_counters& drops,
                          std::uint64_t now_tsc) noexcept {
  m->l2_len = v.l2_size;
  if (v.source.address.is_ipv4()) {
    m->l3_len = v.ip_size;
  } else {
    remove_extensions(m, v);
    m->l3_len = sizeof(rte_ipv6_hdr) + sizeof(rte_ipv6_fragment_ext);
  }
  rte_mbuf* whole = put(m, v, now_tsc);
  // A fragment that contradicts others is discarded together with them, and one that found no room
  // alone. Then it gets the room of what has waited for longer than crowded_ms. Each datagram that
  // is expelled here came in a packet of its own, so this takes no more time than receiving them.
  if (discarded_.cnt == 1 && discarded_.row[0] == m) [[unlikely]] {
    discarded_.cnt = 0;
    rte_ip_frag_table_del_expired_entries(table_, &discarded_, now_tsc + spared_tsc_);
    free_discarded(m, drops);
    whole = put(m, v, now_tsc);
  }
  free_discarded(m, drops);
  if (whole == nullptr) return nullptr;
  ++datagrams_;
  // The header has no checksum any more, and each part had a valid one.
  whole->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
  whole->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD;
  return whole;
}

// --- taking apart --------------------------------------------------------------------------------

namespace {

constexpr std::size_t unit = 8; ///< offsets count in this

std::size_t headers_of(const ip_address& to) noexcept {
  return to.is_ipv4() ? sizeof(rte_ipv4_hdr) : sizeof(rte_ipv6_hdr) + sizeof(rte_ipv6_fragment_ext);
}
/// The octets of the UDP datagram in each fragment but the last.
std::size_t piece_of(const transmit_config& config, const ip_address& to) noexcept {
  return (config.mtu - headers_of(to)) / unit * unit;
}

/// Writes the headers of one fragment at `at`. `more` says that others follow it.
void put_headers(char* at, const transmit_config& config, const rte_ether_addr& to_mac,
                 const endpoint& from, const endpoint& to, std::uint32_t id, std::size_t offset,
                 std::size_t size, bool more) noexcept {
  const std::uint8_t hops = is_multicast(to.address) ? 1 : 64;
  const auto length = static_cast<std::uint16_t>(size);
  if (to.address.is_ipv4()) {
    at = detail::put_ethernet(at, config, to_mac, RTE_ETHER_TYPE_IPV4);
    rte_ipv4_hdr ip{};
    ip.version_ihl = RTE_IPV4_VHL_DEF;
    ip.total_length = rte_cpu_to_be_16(static_cast<std::uint16_t>(length + sizeof ip));
    ip.packet_id = rte_cpu_to_be_16(static_cast<std::uint16_t>(id));
    ip.fragment_offset = rte_cpu_to_be_16(
        static_cast<std::uint16_t>(offset / unit | (more ? RTE_IPV4_HDR_MF_FLAG : 0)));
    ip.time_to_live = hops;
    ip.next_proto_id = IPPROTO_UDP;
    ip.src_addr = rte_cpu_to_be_32(from.address.ipv4());
    ip.dst_addr = rte_cpu_to_be_32(to.address.ipv4());
    std::memcpy(at, &ip, sizeof ip);
    ip.hdr_checksum = static_cast<std::uint16_t>(~fold_checksum(add_checksum(0, at, sizeof ip)));
    std::memcpy(at, &ip, sizeof ip);
    return;
  }
  at = detail::put_ethernet(at, config, to_mac, RTE_ETHER_TYPE_IPV6);
  rte_ipv6_hdr ip{};
  rte_ipv6_fragment_ext fragment{};
  ip.vtc_flow = rte_cpu_to_be_32(6u << 28);
  ip.payload_len = rte_cpu_to_be_16(static_cast<std::uint16_t>(length + sizeof fragment));
  ip.proto = IPPROTO_FRAGMENT;
  ip.hop_limits = hops;
  store_ipv6(ip.src_addr, from.address);
  store_ipv6(ip.dst_addr, to.address);
  fragment.next_header = IPPROTO_UDP;
  fragment.frag_data =
      rte_cpu_to_be_16(static_cast<std::uint16_t>(offset | (more ? RTE_IPV6_EHDR_MF_MASK : 0)));
  fragment.id = rte_cpu_to_be_32(id);
  std::memcpy(at, &ip, sizeof ip);
  std::memcpy(at + sizeof ip, &fragment, sizeof fragment);
}

/// The sum of the pseudo-header.
std::uint64_t pseudo_sum(const endpoint& from, const endpoint& to, std::uint16_t length) noexcept {
  std::array<unsigned char, 32> addresses;
  store_ipv6(addresses.data(), from.address);
  store_ipv6(addresses.data() + 16, to.address);
  std::uint64_t sum = 0;
  if (to.address.is_ipv4()) // the mapped prefix is no part of the pseudo-header
    sum = add_checksum(add_checksum(0, addresses.data() + 12, 4), addresses.data() + 28, 4);
  else
    sum = add_checksum(0, addresses.data(), addresses.size());
  return std::uint64_t{fold_checksum(sum)} + rte_cpu_to_be_16(IPPROTO_UDP) +
         rte_cpu_to_be_16(length);
}

} // namespace

std::size_t packets_of(const transmit_config& config, const ip_address& to,
                       std::size_t payload) noexcept {
  if (payload <= config.payload_max(to)) return 1;
  const std::size_t piece = piece_of(config, to);
  return (payload + sizeof(rte_udp_hdr) + piece - 1) / piece;
}

std::size_t fragmented_max(const transmit_config& config, const ip_address& to) noexcept {
  constexpr std::size_t udp_payload_max = 65535 - udp_ip_overhead;
  return std::min(piece_of(config, to) * fragments_max - sizeof(rte_udp_hdr), udp_payload_max);
}

drop_reason build_fragments(const rte_mbuf* m, const transmit_config& config,
                            const rte_ether_addr& to_mac, const endpoint& from, const endpoint& to,
                            std::uint32_t id, rte_mempool* pool,
                            std::array<rte_mbuf*, fragments_max>& frames) noexcept {
  const std::uint32_t payload = rte_pktmbuf_pkt_len(m);
  if (payload > fragmented_max(config, to.address)) return drop_reason::datagram_too_long;
  const std::size_t count = packets_of(config, to.address, payload);
  const std::size_t piece = piece_of(config, to.address);
  const std::size_t headers = config.l2_size() + headers_of(to.address);
  if (rte_pktmbuf_alloc_bulk(pool, frames.data(), static_cast<unsigned>(count)) != 0)
    return drop_reason::no_mbuf;
  const auto length = static_cast<std::uint16_t>(payload + sizeof(rte_udp_hdr));
  rte_udp_hdr udp{};
  udp.src_port = rte_cpu_to_be_16(from.port);
  udp.dst_port = rte_cpu_to_be_16(to.port);
  udp.dgram_len = rte_cpu_to_be_16(length);
  std::array<unsigned char, sizeof udp> udp_bytes;
  std::memcpy(udp_bytes.data(), &udp, sizeof udp);
  const std::uint64_t sum = detail::add_checksum_of(
      add_checksum(pseudo_sum(from, to, length), udp_bytes.data(), udp_bytes.size()), m);
  const auto check = static_cast<std::uint16_t>(~fold_checksum(sum));
  udp.dgram_cksum = check == 0 ? 0xffff : check;
  std::size_t copied = 0; // octets of the payload
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t offset = i * piece;
    const std::size_t size = std::min(piece, length - offset);
    char* at = rte_pktmbuf_append(frames[i], static_cast<std::uint16_t>(headers + size));
    if (at == nullptr) {
      rte_pktmbuf_free_bulk(frames.data(), static_cast<unsigned>(count));
      return drop_reason::no_headroom;
    }
    put_headers(at, config, to_mac, from, to, id, offset, size, i + 1 < count);
    at += headers;
    std::size_t left = size;
    if (i == 0) {
      std::memcpy(at, &udp, sizeof udp);
      at += sizeof udp;
      left -= sizeof udp;
    }
    const auto part = static_cast<std::uint32_t>(left);
    const void* octets = rte_pktmbuf_read(m, static_cast<std::uint32_t>(copied), part, at);
    if (octets != at) std::memcpy(at, octets, left);
    copied += left;
  }
  return drop_reason::none;
}

} // namespace chainring::net
