// SPDX-License-Identifier: BSD-3-Clause
#include "net/link.h"

#include <algorithm>
#include <array>
#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_ip.h>

namespace chainring::net {

result<std::unique_ptr<interface>> open_interface(const interface_config& config,
                                                  const port_options& options,
                                                  const neighbour_options& neighbour) {
  auto device = open_port(config, options);
  if (!device) return device.error();
  auto i = std::make_unique<interface>();
  i->config = config;
  i->device = std::move(device).value();
  i->config.mtu = i->device.mtu();
  i->filter = {i->config, i->device.mac()};
  i->transmit = {i->device.mac(), i->device.mtu(), i->device.tx_flags()};
  auto arp = neighbours::create(i->config, i->transmit, neighbour);
  if (!arp) return arp.error();
  i->arp = std::move(arp).value();
  i->groups = std::make_unique<membership>(i->config, i->transmit);
  return i;
}

link::link(net::interface& port, const link_options& options) noexcept
    : interface_(&port), options_(options), own_{port.config.address.address, port.config.udp_port,
                                                 port.config.interface_id} {}

result<std::unique_ptr<link>> link::create(net::interface& port, const link_options& o) {
  const std::string name = "port " + std::to_string(port.device.id()) + ": ";
  if (o.rx_queue != no_queue && o.rx_queue >= port.device.rx_queues())
    return error{errc::invalid_argument,
                 name + "there is no receive queue " + std::to_string(o.rx_queue)};
  if (o.tx_queue >= port.device.tx_queues())
    return error{errc::invalid_argument,
                 name + "there is no transmit queue " + std::to_string(o.tx_queue)};
  if (o.pool == nullptr) return error{errc::invalid_argument, name + "a packet pool is missing"};
  tx_buffer_options t;
  t.port_id = port.device.id();
  t.queue = o.tx_queue;
  t.capacity = o.tx_capacity;
  t.stall_ms = o.stall_ms;
  auto tx = tx_buffer::create(t);
  if (!tx) return tx.error();
  std::unique_ptr<link> l(new link(port, o));
  l->tx_ = std::move(tx).value();
  return l;
}

std::uint16_t link::receive(std::span<datagram> out, std::uint64_t now_tsc) noexcept {
  constexpr std::uint16_t burst = 64;
  std::array<rte_mbuf*, burst> frames;
  if (options_.rx_queue == no_queue) return 0;
  const auto most = static_cast<std::uint16_t>(std::min<std::size_t>(burst, out.size()));
  const std::uint16_t n =
      rte_eth_rx_burst(interface_->device.id(), options_.rx_queue, frames.data(), most);
  emptied_ = n < most;
  return n == 0 ? std::uint16_t{0} : process(std::span(frames.data(), n), out, now_tsc);
}

void link::answer(rte_mbuf* frame) noexcept {
  // The receive flags are cleared. The flags that say how the buffer is attached stay; without them
  // the buffer would not be given back to its owner.
  frame->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
  if (tx_->send(frame, 0)) return;
  drops_.count(drop_reason::transmit_full);
  rte_pktmbuf_free(frame);
}

bool link::handle_arp(rte_mbuf* frame, const packet_view& v, std::uint64_t now_tsc) noexcept {
  const std::uint32_t from = v.source.address.ipv4();
  if (from != 0) interface_->arp->learn(from, v.source_mac, now_tsc);
  if (v.arp_operation != RTE_ARP_OP_REQUEST) return false;
  make_arp_reply(frame, v, interface_->transmit);
  answer(frame);
  return true;
}

std::uint16_t link::process(std::span<rte_mbuf* const> frames, std::span<datagram> out,
                            std::uint64_t now_tsc) noexcept {
  std::uint16_t n = 0;
  CHAINRING_ASSERT(out.size() >= frames.size());
  frames_ += frames.size();
  for (rte_mbuf* frame : frames) {
    const packet_view v = classify(interface_->filter, frame);
    switch (v.kind) {
    case packet_kind::udp:
      if (!v.to_group || interface_->config.address.contains(v.source.address.ipv4()))
        interface_->arp->notice(v.source.address.ipv4(), v.source_mac, now_tsc);
      out[n++] = {frame, v};
      continue;
    case packet_kind::icmp_echo:
      interface_->arp->notice(v.source.address.ipv4(), v.source_mac, now_tsc);
      if (v.payload.size() + sizeof(rte_ipv4_hdr) > interface_->transmit.mtu) {
        drops_.count(drop_reason::datagram_too_long);
        break;
      }
      make_echo_reply(frame, v, interface_->transmit, ip_id_++);
      answer(frame);
      continue;
    case packet_kind::arp:
      if (handle_arp(frame, v, now_tsc)) continue;
      break;
    case packet_kind::membership_query:
      interface_->groups->asked(v.destination, v.response_ms, now_tsc);
      break;
    case packet_kind::dropped:
      // This is ARP between other hosts or a neighbour's announcement; it updates an entry that
      // exists (RFC 826).
      if (v.reason == drop_reason::arp_elsewhere && v.source.address.ipv4() != 0 &&
          !interface_->filter.is_own(v.source.address.ipv4()))
        interface_->arp->update(v.source.address.ipv4(), v.source_mac, now_tsc);
      drops_.count(v.reason);
      break;
    }
    rte_pktmbuf_free(frame);
  }
  datagrams_ += n;
  poll_timers(now_tsc); // packets that waited for an address leave before later packets to it
  return n;
}

send_status link::send(rte_mbuf* m, const endpoint& from, const endpoint& to, mark_t mark,
                       std::uint64_t now_tsc) noexcept {
  if (tx_->free() == 0) return send_status::full;
  const route_result way = interface_->arp->route(to.address.ipv4(), now_tsc);
  auto drop = [&](drop_reason why) {
    drops_.count(why);
    rte_pktmbuf_free(m);
    return send_status::dropped;
  };
  if (way.status == route_status::unreachable) return drop(drop_reason::unreachable);
  if (m->nb_segs > 1 && !interface_->device.multi_segment_tx() && rte_pktmbuf_linearize(m) != 0)
    return drop(drop_reason::not_contiguous);
  if (const drop_reason why = build_udp(m, interface_->transmit, way.mac, from, to, ip_id_++);
      why != drop_reason::none)
    return drop(why);
  if (way.status == route_status::resolved) {
    const bool room = tx_->send(m, mark);
    CHAINRING_ASSERT(room); // free() was checked above, and only this lcore sends
    return send_status::queued;
  }
  if (const drop_reason why =
          interface_->arp->hold(way.next_hop, m, mark, from.address.ipv4(), now_tsc);
      why != drop_reason::none)
    return drop(why);
  return send_status::held;
}

void link::announce() noexcept {
  (void)interface_->arp->announce(*tx_, options_.pool, drops_);
  interface_->groups->announce(rte_rdtsc());
}

} // namespace chainring::net
