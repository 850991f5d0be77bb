// SPDX-License-Identifier: BSD-3-Clause
// This benchmark measures a worker's packet path that has nothing to do, in idle mode `sleep` with
// the settings of dpdk-chainring: the share of a core it uses, and how long the first frame after a
// pause waits for its answer. The port is a memory port, so that the figures contain no cost of a
// NIC driver. The frame is an ARP request, which the packet path answers by itself.
#include <atomic>
#include <cstdio>
#include <rte_cycles.h>
#include <rte_ring.h>
#include <thread>
#include <vector>

#include "base/idle.h"
#include "broker_port.h"
#include "figures.h"
#include "net/listener.h"

namespace chainring::bench {

namespace {

// The same value as in app/dpdk-chainring/service.cc.
constexpr std::uint32_t idle_sleep_us_max = 1000;
constexpr std::uint32_t our_address = 0x0a000001, peer_address = 0x0a000002;
constexpr rte_ether_addr peer_mac = {{0x02, 0, 0, 0, 0, 0x02}};
constexpr auto long_pause = std::chrono::milliseconds(300);

class nobody final : public net::datagram_sink {
 public:
  unsigned home_of(net::client_address, std::span<const std::byte>) noexcept override { return 0; }
  void receive(net::client_address, bool, std::span<const std::byte>,
               std::uint64_t) noexcept override {}
};

/// The packet path, and the rings at the other end of its port.
struct idle_path {
  packet_pool pool;
  broker_port at;
  std::unique_ptr<media> medium;
};

result<std::unique_ptr<idle_path>> make_path() {
  auto p = std::make_unique<idle_path>();
  net::listener_options lo;
  lo.tx_capacity = 512;
  p->pool.reset(rte_pktmbuf_pool_create("idle_packets",
                                        net::listener_group::frames_needed(1, lo, 0), 0, 0,
                                        RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY));
  if (p->pool == nullptr) return no_memory();
  if (auto opened = p->at.open({.pool = p->pool.get(), .tx_capacity = lo.tx_capacity}); !opened)
    return opened.error();
  p->medium = memory_media(1 << 20, durability_class::emulated);
  return p;
}

/// Returns the microseconds from an ARP request to its answer, or a negative number when no answer
/// came.
double ask(idle_path& p) {
  rte_mbuf* m = rte_pktmbuf_alloc(p.pool.get());
  net::transmit_config as;
  as.mac = peer_mac;
  if (m == nullptr ||
      !net::build_arp_request(m, as, peer_address, our_address, p.at.interface->device.mac())) {
    rte_pktmbuf_free(m);
    return -1;
  }
  const std::uint64_t start = rte_rdtsc();
  if (rte_ring_enqueue(p.at.port->in, m) != 0) {
    rte_pktmbuf_free(m);
    return -1;
  }
  void* answer = nullptr;
  const std::uint64_t hz = rte_get_tsc_hz();
  while (rte_ring_dequeue(p.at.port->out, &answer) != 0)
    if (rte_rdtsc() - start > 10 * hz) return -1; // only detects a hang
  const std::uint64_t took = rte_rdtsc() - start;
  rte_pktmbuf_free(static_cast<rte_mbuf*>(answer));
  return static_cast<double>(took) * 1e6 / static_cast<double>(hz);
}

} // namespace

bool idle_figures(bench_context& c) {
  c.out.heading("idle: one worker's packet path with nothing to do, --idle=sleep, memory port");
  auto made = make_path();
  if (!made) {
    std::fprintf(stderr, "idle: %s\n", made.error().message.c_str());
    return false;
  }
  idle_path& p = **made;
  std::atomic<bool> stop{false};
  std::atomic<double> cpu{0};
  std::thread worker([&] {
    (void)pthread_setaffinity_np(pthread_self(), sizeof c.all_cpus, &c.all_cpus);
    nobody sink;
    idle_policy idle(idle_mode::sleep, idle_sleep_us_max);
    net::listener& mine = p.at.listeners->worker(0);
    while (!stop) {
      bool any = mine.poll(sink);
      any |= mine.send(*p.medium, rte_rdtsc());
      if (any)
        idle.busy();
      else
        idle.idle();
      cpu = cpu_seconds();
    }
  });
  std::vector<double> shares, first, second;
  const unsigned rounds = c.o.quick ? 2 : 10;
  bool answered = true;
  for (unsigned i = 0; i < rounds && answered; ++i) {
    std::this_thread::sleep_for(long_pause);
    const double before = cpu, from = clock_seconds();
    std::this_thread::sleep_for(long_pause);
    shares.push_back((cpu - before) / (clock_seconds() - from) * 100);
    first.push_back(ask(p));
    second.push_back(ask(p));
    answered = first.back() >= 0 && second.back() >= 0;
  }
  stop = true;
  worker.join();
  if (!answered) {
    std::fprintf(stderr, "idle: the packet path did not answer an ARP request\n");
    return false;
  }
  c.out.add(figure("share of a core", "%", shares, target{target::sense::at_most, 2}));
  c.out.add(figure("first frame after a pause of 300 ms, to its answer", "us", first));
  c.out.add(figure("the next frame", "us", second));
  return true;
}

} // namespace chainring::bench
