// SPDX-License-Identifier: BSD-3-Clause
/// Joins a TCP stack to the links of one worker: packets of TCP that a link receives go to the
/// stack, and the stack's packets leave through the link of their interface.
///
/// A packet leaves behind everything that the link was given before, and waits for no mark, because
/// TCP says nothing about what is durable. Its user writes only what may be known.
///
/// Thread-safety: the worker's thread makes all calls.
#pragma once
#include <memory>
#include <rte_mbuf.h>
#include <span>

#include "../net/link.h"
#include "tcp.h"

namespace chainring::stream {

class link_packets final : public packet_output, public net::packet_sink {
 public:
  /// `links` are those of the worker, by interface id. A buffer of `pool` holds a frame of the MTU.
  link_packets(std::span<const std::unique_ptr<net::link>> links, rte_mempool* pool) noexcept
      : links_(links), pool_(pool) {}
  /// Sets the stack and hands it the packets of all links.
  void attach(tcp_stack& stack) noexcept {
    stack_ = &stack;
    for (const auto& l : links_)
      l->hand_tcp_to(this);
  }

  /// Adds the interface of each link to the stack, with all its addresses. Call it before listen().
  [[nodiscard]] result<void> add_interfaces(tcp_stack& stack) const {
    for (const auto& l : links_)
      if (auto added = stack.add_interface(interface_of(l->interface())); !added) return added;
    return {};
  }
  /// What the stack has to know of an interface.
  [[nodiscard]] static tcp_interface interface_of(const net::interface& i) {
    tcp_interface to{.id = i.config.interface_id,
                     .mtu = i.device.mtu(),
                     .partial_checksums = i.config.partial_checksums,
                     .checksum_offload = i.device.fills_tcp_checksums()};
    if (i.config.address_count != 0) to.addresses.push_back(i.config.address.address);
    if (i.config.ipv6) to.addresses.push_back(net::link_local_of(i.device.mac()));
    if (i.config.ipv6 && i.config.address6.address != net::ip_address{})
      to.addresses.push_back(i.config.address6.address);
    return to;
  }

  [[nodiscard]] rte_mbuf* allocate() noexcept override { return rte_pktmbuf_alloc(pool_); }
  void send(std::uint16_t interface, const net::ip_address& to, rte_mbuf* m) noexcept override {
    links_[interface]->send_packet(m, to, now_tsc_);
  }
  void take(rte_mbuf* frame, const net::packet_view& view) noexcept override {
    const bool good =
        (frame->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    stack_->input(frame, view.l2_size, view.source.interface_id, good);
  }
  /// Sets the time of the round, before any packet is received in it.
  void begin_round(std::uint64_t now_tsc) noexcept { now_tsc_ = now_tsc; }

 private:
  std::span<const std::unique_ptr<net::link>> links_;
  rte_mempool* pool_;
  tcp_stack* stack_ = nullptr;
  std::uint64_t now_tsc_ = 0;
};

} // namespace chainring::stream
