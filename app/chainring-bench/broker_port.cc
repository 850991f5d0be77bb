// SPDX-License-Identifier: BSD-3-Clause
#include "broker_port.h"

#include <array>
#include <rte_lcore.h>

namespace chainring::bench {

std::string new_name() {
  static unsigned number = 0;
  return "bench" + std::to_string(number++);
}

packet_pool make_pool(unsigned packets) {
  return packet_pool(rte_pktmbuf_pool_create((new_name() + "_packets").c_str(), packets,
                                             RTE_MEMPOOL_CACHE_MAX_SIZE, 0,
                                             RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY));
}

error no_memory() {
  return error{errc::no_space, "no memory; give EAL more (-m 512)"};
}

result<void> broker_port::open(const broker_port_options& o) {
  port = std::make_unique<memory_port>(new_name(), o.slots, o.workers);
  if (port->id < 0) return no_memory();
  net::interface_config ic;
  ic.port_id = static_cast<std::uint16_t>(port->id);
  ic.address = {address.address.ipv4(), o.prefix};
  ic.gateway = o.router;
  ic.udp_port = address.port;
  net::port_options po;
  po.pool = o.pool;
  po.rx_queues = po.tx_queues = static_cast<std::uint16_t>(o.workers);
  auto opened = net::open_interface(ic, po);
  if (!opened) return opened.error();
  interface = std::move(*opened);
  net::listener_options lo;
  lo.workers = o.workers;
  lo.tx_capacity = o.tx_capacity;
  lo.pool = o.pool;
  std::array<net::interface*, 1> all{interface.get()};
  auto made = net::listener_group::create(all, lo);
  if (!made) return made.error();
  listeners = std::move(*made);
  return {};
}

result<void> broker_port::serve(std::unique_ptr<region> of, broker_config core,
                                mqttsn::gateway_config front) {
  const unsigned workers = static_cast<unsigned>(port->ins.size());
  front.datagram_size_max = static_cast<std::uint16_t>(interface->datagram_max());
  core.content_size_max = mqttsn::payload_size_max(front.datagram_size_max);
  core.workers = workers;
  auto opened = chainring::broker::open(std::move(of), core);
  if (!opened) return opened.error();
  broker = std::move(*opened);
  auto made = mqttsn::gateway::create(*broker, front);
  if (!made) return made.error();
  gateway = std::move(*made);
  for (unsigned w = 0; w < workers; ++w)
    gateway->worker(w).attach(listeners->worker(w).out(), &listeners->worker(w));
  return {};
}

} // namespace chainring::bench
