// SPDX-License-Identifier: BSD-3-Clause
// This benchmark measures a worker's packet path that has nothing to do, in idle mode `sleep` with
// the settings of dpdk-chainring: the share of a core it uses, and how long the first frame after a
// pause waits for its answer. The port is made of rings, so that the figures contain no cost of a
// NIC driver. The frame is an ARP request, which the packet path answers by itself.
#include <array>
#include <atomic>
#include <cstdio>
#include <rte_cycles.h>
#include <rte_eth_ring.h>
#include <rte_ring.h>
#include <thread>
#include <vector>

#include "base/idle.h"
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

struct ring_deleter {
  void operator()(rte_ring* r) const {
    void* m = nullptr;
    while (rte_ring_dequeue(r, &m) == 0)
      rte_pktmbuf_free(static_cast<rte_mbuf*>(m));
    rte_ring_free(r);
  }
};
struct pool_deleter {
  void operator()(rte_mempool* p) const { rte_mempool_free(p); }
};

/// The packet path, and the rings at the other end of its port.
struct idle_path {
  std::unique_ptr<rte_mempool, pool_deleter> pool;
  std::unique_ptr<rte_ring, ring_deleter> in, out;
  std::unique_ptr<net::interface> interface;
  std::unique_ptr<net::listener_group> listeners;
  std::unique_ptr<media> medium;
};

result<std::unique_ptr<idle_path>> make_path() {
  auto p = std::make_unique<idle_path>();
  const auto no_memory = error{errc::no_space, "no memory; give EAL more (-m 512)"};
  net::listener_options lo;
  lo.tx_capacity = 512;
  p->pool.reset(rte_pktmbuf_pool_create("idle_packets",
                                        net::listener_group::frames_needed(1, lo, 0), 0, 0,
                                        RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY));
  p->in.reset(rte_ring_create("idle_in", 64, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ));
  p->out.reset(rte_ring_create("idle_out", 64, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ));
  if (p->pool == nullptr || p->in == nullptr || p->out == nullptr) return no_memory;
  rte_ring* in = p->in.get();
  rte_ring* out = p->out.get();
  const int id = rte_eth_from_rings("bench_idle", &in, 1, &out, 1, 0);
  if (id < 0) return no_memory;
  net::interface_config ic;
  ic.port_id = static_cast<std::uint16_t>(id);
  ic.address = {our_address, 8};
  auto opened = net::open_interface(ic, {.pool = p->pool.get()});
  if (!opened) return opened.error();
  p->interface = std::move(*opened);
  lo.pool = p->pool.get();
  std::array<net::interface*, 1> all{p->interface.get()};
  auto made = net::listener_group::create(all, lo);
  if (!made) return made.error();
  p->listeners = std::move(*made);
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
      !net::build_arp_request(m, as, peer_address, our_address, p.interface->device.mac())) {
    rte_pktmbuf_free(m);
    return -1;
  }
  const std::uint64_t start = rte_rdtsc();
  if (rte_ring_enqueue(p.in.get(), m) != 0) {
    rte_pktmbuf_free(m);
    return -1;
  }
  void* answer = nullptr;
  const std::uint64_t hz = rte_get_tsc_hz();
  while (rte_ring_dequeue(p.out.get(), &answer) != 0)
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
    net::listener& mine = p.listeners->worker(0);
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
