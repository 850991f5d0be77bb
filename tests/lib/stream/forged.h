// SPDX-License-Identifier: BSD-3-Clause
/// TCP packets that nobody's kernel has made.
#pragma once
#include <cstring>
#include <netinet/in.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <string>

namespace chainring::stream {

struct forged {
  std::uint32_t from = 0xC6120703; ///< 198.18.7.3
  std::uint16_t from_port = 1000, to_port = 1883;
  std::uint32_t sequence = 1, acknowledged = 0;
  std::uint8_t flags = RTE_TCP_SYN_FLAG;
  std::string payload{};
  std::uint16_t checksum = 0;
};

inline rte_mbuf* make(rte_mempool* pool, const forged& f) {
  rte_mbuf* const m = rte_pktmbuf_alloc(pool);
  if (m == nullptr) return nullptr;
  const std::size_t size = sizeof(rte_ipv4_hdr) + sizeof(rte_tcp_hdr) + f.payload.size();
  char* const at = rte_pktmbuf_append(m, static_cast<std::uint16_t>(size));
  rte_ipv4_hdr ip{};
  ip.version_ihl = RTE_IPV4_VHL_DEF;
  ip.total_length = rte_cpu_to_be_16(static_cast<std::uint16_t>(size));
  ip.time_to_live = 64;
  ip.next_proto_id = IPPROTO_TCP;
  ip.src_addr = rte_cpu_to_be_32(f.from);
  ip.dst_addr = rte_cpu_to_be_32(0xC6120701);
  rte_tcp_hdr tcp{};
  tcp.src_port = rte_cpu_to_be_16(f.from_port);
  tcp.dst_port = rte_cpu_to_be_16(f.to_port);
  tcp.sent_seq = rte_cpu_to_be_32(f.sequence);
  tcp.recv_ack = rte_cpu_to_be_32(f.acknowledged);
  tcp.data_off = 5 << 4;
  tcp.tcp_flags = f.flags;
  tcp.rx_win = rte_cpu_to_be_16(65535);
  tcp.cksum = f.checksum;
  std::memcpy(at, &ip, sizeof ip);
  std::memcpy(at + sizeof ip, &tcp, sizeof tcp);
  std::memcpy(at + sizeof ip + sizeof tcp, f.payload.data(), f.payload.size());
  return m;
}

} // namespace chainring::stream
