// SPDX-License-Identifier: BSD-3-Clause
#include "forward.h"

#include <algorithm>
#include <cstring>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_prefetch.h>

#include "measure.h"

namespace chainring::bench {

namespace {

constexpr unsigned burst_max = 64; // as many as the broker reads from a port at one time

} // namespace

result<std::unique_ptr<forward_loop>>
forward_loop::create(const std::string& name, rte_mempool* pool, const frames_of_message& frames) {
  std::unique_ptr<forward_loop> f(new forward_loop);
  f->pool_ = pool;
  f->frames_ = frames;
  f->port_ = std::make_unique<memory_port>(name);
  if (f->port_->id < 0) return error{errc::no_space, "no memory; give EAL more (-m 512)"};
  const auto id = static_cast<std::uint16_t>(f->port_->id);
  const rte_eth_conf conf{};
  if (rte_eth_dev_configure(id, 1, 1, &conf) != 0 ||
      rte_eth_rx_queue_setup(id, 0, 512, rte_socket_id(), nullptr, pool) != 0 ||
      rte_eth_tx_queue_setup(id, 0, 512, rte_socket_id(), nullptr) != 0 ||
      rte_eth_macaddr_get(id, &f->own_mac_) != 0 || rte_eth_dev_start(id) != 0)
    return error{errc::invalid_argument, "the port of the bare loop cannot be started"};
  return f;
}

forward_loop::~forward_loop() {
  if (port_ == nullptr || port_->id < 0) return;
  rte_eth_dev_stop(static_cast<std::uint16_t>(port_->id));
  rte_eth_dev_close(static_cast<std::uint16_t>(port_->id));
}

// The body of l2fwd's loop: l2fwd_simple_forward() and l2fwd_mac_updating() of DPDK's example.
unsigned forward_loop::round() {
  const auto id = static_cast<std::uint16_t>(port_->id);
  std::array<rte_mbuf*, burst_max> frames;
  const std::uint16_t n = rte_eth_rx_burst(id, 0, frames.data(), burst_max);
  for (std::uint16_t i = 0; i < n; ++i) {
    rte_prefetch0(rte_pktmbuf_mtod(frames[i], void*));
    auto* eth = rte_pktmbuf_mtod(frames[i], rte_ether_hdr*);
    eth->dst_addr = {{2, 0, 0, 0, 0, static_cast<std::uint8_t>(id)}};
    eth->src_addr = own_mac_;
  }
  const std::uint16_t sent = rte_eth_tx_burst(id, 0, frames.data(), n);
  for (std::uint16_t i = sent; i < n; ++i)
    rte_pktmbuf_free(frames[i]);
  return sent;
}

// The emulated clients' part: fresh frames with content, as the fleet's frames are.
bool forward_loop::offer(unsigned n) {
  std::array<rte_mbuf*, burst_max> frames;
  if (rte_pktmbuf_alloc_bulk(pool_, frames.data(), n) != 0) return false;
  for (unsigned i = 0; i < n; ++i) {
    const bool publish = next_++ % frames_.each_way() == 0;
    const std::uint32_t size = publish ? frames_.publish_octets : frames_.puback_octets;
    std::memset(rte_pktmbuf_append(frames[i], static_cast<std::uint16_t>(size)), 0x5a, size);
  }
  if (rte_ring_enqueue_bulk(port_->in, reinterpret_cast<void**>(frames.data()), n, nullptr) == n)
    return true;
  rte_pktmbuf_free_bulk(frames.data(), n);
  return false;
}

void forward_loop::take() {
  std::array<rte_mbuf*, burst_max> frames;
  for (;;) {
    const unsigned n = rte_ring_dequeue_burst(port_->out, reinterpret_cast<void**>(frames.data()),
                                              burst_max, nullptr);
    if (n == 0) return;
    rte_pktmbuf_free_bulk(frames.data(), n);
  }
}

double forward_loop::run(double seconds, unsigned burst) {
  burst = std::clamp(burst, 1u, burst_max);
  const double cpu_before = cpu_seconds();
  const std::uint64_t start = rte_rdtsc();
  const auto length = static_cast<std::uint64_t>(seconds * static_cast<double>(rte_get_tsc_hz()));
  std::uint64_t clients_tsc = 0, forwarded = 0, before = start, after;
  do {
    if (!offer(burst)) return 0;
    const std::uint64_t begin = rte_rdtsc();
    forwarded += round();
    const std::uint64_t end = rte_rdtsc();
    take();
    after = rte_rdtsc();
    clients_tsc += begin - before + (after - end);
    before = after;
  } while (after - start < length);
  const double cpu = cpu_seconds() - cpu_before;
  const auto all_tsc = static_cast<double>(after - start);
  const double own_s = cpu * (all_tsc - static_cast<double>(clients_tsc)) / all_tsc;
  return own_s * 1e9 * frames_.each_way() /
         static_cast<double>(std::max<std::uint64_t>(forwarded, 1));
}

} // namespace chainring::bench
