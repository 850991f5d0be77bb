// SPDX-License-Identifier: BSD-3-Clause
/// What the emulated clients of several groups have in common, and the round of the worker that
/// they speak to.
#pragma once
#include <cstring>
#include <rte_arp.h>
#include <rte_byteorder.h>
#include <rte_cycles.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "broker/broker.h"
#include "mqttsn/gateway.h"
#include "mqttsn/sink.h"
#include "net/listener.h"

namespace chainring::bench {

/// All clients have this MAC, as if they were behind one switch.
inline constexpr rte_ether_addr client_mac = {{2, 0, 0, 0, 0, 1}};

/// An ARP request or answer over Ethernet.
struct arp_frame {
  rte_ether_hdr eth;
  rte_arp_hdr arp;

  /// Copies the beginning of a frame that is at least as long.
  [[nodiscard]] static arp_frame of(const rte_mbuf* m) {
    arp_frame f;
    std::memcpy(&f, rte_pktmbuf_mtod(m, const std::byte*), sizeof f);
    return f;
  }
  /// Makes the answer of a client out of a request.
  void answer() {
    eth.dst_addr = arp.arp_data.arp_sha;
    eth.src_addr = client_mac;
    arp.arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REPLY);
    arp.arp_data.arp_tha = arp.arp_data.arp_sha;
    arp.arp_data.arp_sha = client_mac;
    const rte_be32_t asker = arp.arp_data.arp_sip;
    arp.arp_data.arp_sip = arp.arp_data.arp_tip;
    arp.arp_data.arp_tip = asker;
  }
};

/// Runs one round of a worker, the same as the loop body of service::loop(), in which `sink` gets
/// the datagrams. Returns true when there was anything to do.
[[gnu::always_inline]] inline bool run_round(broker& core, mqttsn::gateway& gateway,
                                             net::listener& in, unsigned worker,
                                             net::datagram_sink& sink) {
  media& medium = core.region().medium();
  bool any = medium.has_room() && in.poll(sink);
  any |= gateway.worker(worker).judge(rte_rdtsc());
  const mark_t mark = core.worker(worker).end_burst();
  any |= core.worker(worker).worked();
  gateway.worker(worker).send(mark);
  any |= in.send(medium, rte_rdtsc());
  return any;
}
[[gnu::always_inline]] inline bool run_round(broker& core, mqttsn::gateway& gateway,
                                             net::listener& in, unsigned worker = 0) {
  mqttsn::gateway_sink sink(gateway, worker);
  return run_round(core, gateway, in, worker, sink);
}

} // namespace chainring::bench
