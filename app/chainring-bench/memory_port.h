// SPDX-License-Identifier: BSD-3-Clause
/// A port of net_ring, whose other end is the benchmark itself.
#pragma once
#include <cstdint>
#include <memory>
#include <rte_eth_ring.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <string>
#include <vector>

namespace chainring::bench {

/// A port that receives frames from a ring and transmits frames into a ring, for each queue.
struct memory_port {
  static constexpr std::uint32_t ring_slots = 32768;
  std::vector<rte_ring*> ins, outs;            ///< by queue
  rte_ring *in = nullptr, *out = nullptr;      ///< of the first queue
  int id = -1;

  /// `in_slots`: how many frames may wait for the port's user in a queue, a power of two.
  explicit memory_port(const std::string& name, std::uint32_t in_slots = ring_slots,
                       unsigned queues = 1) {
    bool made = true;
    for (unsigned q = 0; q < queues; ++q) {
      const std::string ring = name + "_" + std::to_string(q);
      ins.push_back(rte_ring_create((ring + "in").c_str(), in_slots, SOCKET_ID_ANY,
                                    RING_F_SP_ENQ | RING_F_SC_DEQ));
      outs.push_back(rte_ring_create((ring + "out").c_str(), ring_slots, SOCKET_ID_ANY,
                                     RING_F_SP_ENQ | RING_F_SC_DEQ));
      made &= ins.back() != nullptr && outs.back() != nullptr;
    }
    in = ins[0];
    out = outs[0];
    if (made) id = rte_eth_from_rings(name.c_str(), ins.data(), queues, outs.data(), queues, 0);
  }
  /// The port must be closed by its user before this destructor runs.
  ~memory_port() {
    for (auto* rings : {&ins, &outs})
      for (rte_ring* r : *rings) {
        void* m = nullptr;
        while (r != nullptr && rte_ring_dequeue(r, &m) == 0)
          rte_pktmbuf_free(static_cast<rte_mbuf*>(m));
        rte_ring_free(r);
      }
  }
  memory_port(const memory_port&) = delete;
  memory_port& operator=(const memory_port&) = delete;
};

struct pool_deleter {
  void operator()(rte_mempool* p) const { rte_mempool_free(p); }
};
using packet_pool = std::unique_ptr<rte_mempool, pool_deleter>;

} // namespace chainring::bench
