// SPDX-License-Identifier: BSD-3-Clause
#include "net/link.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_prefetch.h>
#include <rte_random.h>

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
  if (i->config.address.address == 0) { // IPv6 alone: no IPv4 address is an own one or on the link
    i->config.address = {0, 32};
    i->config.address_count = 0;
    i->config.accept_broadcast = false;
  }
  i->filter = {i->config, i->device.mac()};
  i->transmit = {i->device.mac(), i->device.mtu(), i->device.tx_flags(), config.vlan};
  auto arp = neighbours::create(i->config, i->transmit, neighbour);
  if (!arp) return arp.error();
  i->arp = std::move(arp).value();
  i->groups = std::make_unique<membership>(i->config, i->transmit);
  return i;
}

namespace {

constexpr std::uint16_t burst = 64; ///< frames that are read from a port at one time

} // namespace

link::link(net::interface& port, const link_options& options) noexcept
    : interface_(&port), options_(options), own_{port.config.address.address, port.config.udp_port,
                                                 port.config.interface_id},
      receiver_(port.filter), sender_(port.transmit, own_) {}

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
  if (o.rx_queue != no_queue) {
    auto whole = reassembly::create(o.fragments);
    if (!whole) return whole.error();
    l->whole_ = std::move(whole).value();
  }
  return l;
}

std::uint16_t link::read_burst(std::uint16_t most, rte_mbuf** frames) noexcept {
  if (options_.rx_queue == no_queue) return 0;
  const std::uint16_t n =
      rte_eth_rx_burst(interface_->device.id(), options_.rx_queue, frames, most);
  emptied_ = n < most;
  return n;
}

CHAINRING_STAGE std::uint16_t link::receive(std::span<datagram> out,
                                            std::uint64_t now_tsc) noexcept {
  std::array<rte_mbuf*, burst> frames;
  const std::uint16_t n = read_burst(
      static_cast<std::uint16_t>(std::min<std::size_t>(burst, out.size())), frames.data());
  return n == 0 ? std::uint16_t{0} : process(std::span(frames.data(), n), out, now_tsc);
}

CHAINRING_STAGE std::uint16_t link::receive(std::span<received_datagram> out,
                                            std::uint64_t now_tsc) noexcept {
  constexpr std::uint16_t ahead = 4; // frames that are being loaded while another is read
  std::array<rte_mbuf*, burst + ahead> frames;
  const std::uint16_t count = read_burst(
      static_cast<std::uint16_t>(std::min<std::size_t>(burst, out.size())), frames.data());
  if (count == 0) return 0;
  const auto prefetch = [](const rte_mbuf* m) {
    const auto* at = rte_pktmbuf_mtod(m, const std::byte*);
    rte_prefetch0(at);
    rte_prefetch0(at + cacheline_size);
  };
  for (std::uint16_t i = 0; i < ahead; ++i) {
    frames[count + i] = frames[count - 1]; // so that the loop need not look for the last frame
    prefetch(frames[i]);
  }
  const neighbours& known = *interface_->arp;
  const std::uint32_t age = known.age_now(now_tsc);
  received_datagram* d = out.data();
  for (std::uint16_t i = 0; i < count; ++i) {
    prefetch(frames[i + ahead]);
    std::uint64_t mac = 0;
    if (receiver_.read(frames[i], *d, mac)) [[likely]] {
      d->received_tsc = now_tsc;
      const auto from = static_cast<std::uint32_t>(d->from.words[1]);
      if (known.noticed(from, mac, age) || notice(from, mac, now_tsc)) [[likely]] {
        ++d;
        continue;
      }
    }
    d += process_unusual(frames[i], *d, now_tsc);
  }
  const auto n = static_cast<std::uint16_t>(d - out.data());
  frames_ += count;
  datagrams_ += n;
  poll_timers(now_tsc);
  return n;
}

bool link::notice(std::uint32_t from, std::uint64_t mac, std::uint64_t now_tsc) noexcept {
  if (!receiver_.is_sender(from, mac)) return false;
  rte_ether_addr octets;
  mac >>= 16; // the last six octets become the first
  std::memcpy(octets.addr_bytes, &mac, RTE_ETHER_ADDR_LEN);
  interface_->arp->notice(from, octets, now_tsc);
  return true;
}

std::uint16_t link::process_unusual(rte_mbuf* frame, received_datagram& out,
                                    std::uint64_t now_tsc) noexcept {
  datagram d;
  const std::uint16_t n = process_packets({&frame, 1}, {&d, 1}, now_tsc);
  if (n != 0)
    out = {.from = d.view.source.key(),
           .received_tsc = now_tsc,
           .data = d.view.payload.data(),
           .size = static_cast<std::uint32_t>(d.view.payload.size()),
           .to_group = d.view.to_group,
           .frame = d.frame};
  return n;
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

// Answers a neighbour solicitation, and makes its sender known.
void link::advertise(const packet_view& v, std::uint64_t now_tsc) noexcept {
  const bool probe = v.source.address == ip_address{};
  rte_ether_addr to_mac = v.source_mac;
  if (!probe && rte_is_zero_ether_addr(&to_mac)) {
    // A neighbour that checks whether this host is still there may leave its MAC out. Where it is
    // unknown, there is nothing to keep alive.
    const route_result way = interface_->arp->route(v.source.address, now_tsc);
    if (way.status != route_status::resolved) return;
    to_mac = way.mac;
  }
  rte_mbuf* m = rte_pktmbuf_alloc(options_.pool);
  if (m == nullptr) {
    drops_.count(drop_reason::no_mbuf);
    return;
  }
  if (!build_neighbour_advertisement(m, interface_->transmit, v.destination, v.source.address,
                                     to_mac)) {
    rte_pktmbuf_free(m);
    drops_.count(drop_reason::transmit_full);
    return;
  }
  answer(m);
}

std::uint16_t link::process(std::span<rte_mbuf* const> frames, std::span<datagram> out,
                            std::uint64_t now_tsc) noexcept {
  CHAINRING_ASSERT(out.size() >= frames.size());
  frames_ += frames.size();
  const std::uint16_t n = process_packets(frames, out, now_tsc);
  datagrams_ += n;
  poll_timers(now_tsc); // packets that waited for an address leave before later packets to it
  return n;
}

std::uint16_t link::process_packets(std::span<rte_mbuf* const> frames, std::span<datagram> out,
                                    std::uint64_t now_tsc) noexcept {
  std::uint16_t n = 0;
  for (rte_mbuf* frame : frames) {
    // The view is read in its place, which the next frame takes unless this one is a datagram.
    out[n].frame = frame;
    classify(interface_->filter, frame, out[n].view);
    const packet_view& v = out[n].view;
    switch (v.kind) {
    case packet_kind::udp:
      if (!v.to_group || interface_->arp->on_link(v.source.address))
        interface_->arp->notice(v.source.address, v.source_mac, now_tsc);
      ++n;
      continue;
    case packet_kind::tcp:
      if (packets_ == nullptr) {
        drops_.count(drop_reason::ip_protocol);
        break;
      }
      interface_->arp->notice(v.source.address, v.source_mac, now_tsc);
      packets_->take(frame, v);
      continue;
    case packet_kind::icmp_echo:
      interface_->arp->notice(v.source.address, v.source_mac, now_tsc);
      if (v.payload.size() +
              (v.source.address.is_ipv4() ? sizeof(rte_ipv4_hdr) : sizeof(rte_ipv6_hdr)) >
          interface_->transmit.mtu) {
        drops_.count(drop_reason::datagram_too_long);
        break;
      }
      make_echo_reply(frame, v, interface_->transmit, ip_id_++);
      answer(frame);
      continue;
    case packet_kind::arp:
      if (handle_arp(frame, v, now_tsc)) continue;
      break;
    case packet_kind::neighbour_solicitation:
      if (v.source.address != ip_address{} && !rte_is_zero_ether_addr(&v.source_mac))
        interface_->arp->learn(v.source.address, v.source_mac, now_tsc);
      advertise(v, now_tsc);
      break;
    case packet_kind::neighbour_advertisement:
      interface_->arp->advertised(v.destination, v.source_mac, (v.nd_flags & nd_override) != 0,
                                  now_tsc);
      break;
    case packet_kind::membership_query:
      interface_->groups->asked(v.destination, v.response_ms, now_tsc);
      break;
    case packet_kind::fragment:
      if (whole_ == nullptr) {
        drops_.count(drop_reason::fragment_refused);
        break;
      }
      // A packet that is whole now is no fragment any more.
      if (rte_mbuf* whole = whole_->add(frame, v, drops_, now_tsc); whole != nullptr)
        n += process_packets(std::span(&whole, 1), out.subspan(n), now_tsc);
      continue;
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
  return n;
}

send_status link::send(rte_mbuf* m, const endpoint& from, const endpoint& to, mark_t mark,
                       std::uint64_t now_tsc) noexcept {
  if (tx_->free() == 0) return send_status::full;
  const route_result way = interface_->arp->route(to.address, now_tsc);
  auto drop = [&](drop_reason why) {
    drops_.count(why);
    rte_pktmbuf_free(m);
    return send_status::dropped;
  };
  if (way.status == route_status::unreachable) return drop(drop_reason::unreachable);
  if (m->nb_segs > 1 && !interface_->device.multi_segment_tx() && rte_pktmbuf_linearize(m) != 0)
    return drop(drop_reason::not_contiguous);
  const drop_reason built = build_udp(m, interface_->transmit, way.mac, from, to, ip_id_++);
  if (built == drop_reason::datagram_too_long)
    return send_fragments(m, way, from, to, mark, now_tsc);
  if (built != drop_reason::none) return drop(built);
  if (way.status == route_status::resolved) {
    const bool room = tx_->send(m, mark);
    CHAINRING_ASSERT(room); // free() was checked above, and only this lcore sends
    return send_status::queued;
  }
  if (const drop_reason why = interface_->arp->hold(way.next_hop, m, mark, from.address, now_tsc);
      why != drop_reason::none)
    return drop(why);
  return send_status::held;
}

void link::send_packet(rte_mbuf* m, const ip_address& to, std::uint64_t now_tsc) noexcept {
  const auto* const ip = rte_pktmbuf_mtod(m, const std::byte*);
  const ip_address own =
      to.is_ipv4() ? own_.address : load_ipv6(ip + offsetof(rte_ipv6_hdr, src_addr));
  const route_result way = interface_->arp->route(to, now_tsc);
  drop_reason why = tx_->free() == 0                          ? drop_reason::transmit_full
                    : way.status == route_status::unreachable ? drop_reason::unreachable
                                                              : drop_reason::none;
  if (why == drop_reason::none) why = build_frame(m, interface_->transmit, way.mac);
  if (why == drop_reason::none) {
    if (way.status == route_status::resolved) {
      const bool room = tx_->send(m, 0);
      CHAINRING_ASSERT(room); // free() was checked above, and only this lcore sends
      return;
    }
    why = interface_->arp->hold(way.next_hop, m, 0, own, now_tsc);
    if (why == drop_reason::none) return;
  }
  drops_.count(why);
  rte_pktmbuf_free(m);
}

send_status link::send_fragments(rte_mbuf* m, const route_result& way, const endpoint& from,
                                 const endpoint& to, mark_t mark, std::uint64_t now_tsc) noexcept {
  const std::size_t payload = rte_pktmbuf_pkt_len(m);
  const std::size_t count = packets_of(interface_->transmit, to.address, payload);
  std::array<rte_mbuf*, fragments_max> frames;
  drop_reason why = drop_reason::datagram_too_long;
  if (payload <= interface_->datagram_max(to.address)) {
    if (tx_->free() < count) return send_status::full;
    const std::uint32_t id =
        to.address.is_ipv4() ? ip_id_++ : static_cast<std::uint32_t>(rte_rand());
    why = build_fragments(m, interface_->transmit, way.mac, from, to, id, options_.pool, frames);
  }
  rte_pktmbuf_free(m);
  if (why != drop_reason::none) {
    drops_.count(why);
    return send_status::dropped;
  }
  for (rte_mbuf* frame : std::span(frames.data(), count)) {
    if (way.status == route_status::resolved) {
      const bool room = tx_->send(frame, mark);
      CHAINRING_ASSERT(room); // free() was checked above, and only this lcore sends
      continue;
    }
    why = interface_->arp->hold(way.next_hop, frame, mark, from.address, now_tsc);
    if (why == drop_reason::none) continue;
    drops_.count(why);
    rte_pktmbuf_free(frame);
  }
  return way.status == route_status::resolved ? send_status::queued : send_status::held;
}

void link::announce() noexcept {
  (void)interface_->arp->announce(*tx_, options_.pool, drops_);
  interface_->groups->announce(rte_rdtsc());
}

} // namespace chainring::net
