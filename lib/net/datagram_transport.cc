// SPDX-License-Identifier: BSD-3-Clause
#include "net/datagram_transport.h"

#include <algorithm>
#include <rte_cycles.h>

namespace chainring::net {

datagram_transport::datagram_transport(std::vector<link*> links, rte_mempool* pool,
                                       std::uint32_t waiting_max)
    : links_(std::move(links)), pool_(pool), waiting_(waiting_max) {
  for (link* way : links_) {
    const net::interface& on = way->interface();
    const auto places = [&](const ip_address& to) {
      return static_cast<std::uint32_t>(packets_of(on.transmit, to, on.datagram_max(to)));
    };
    // Any address of its family stands for all.
    longest_.push_back({places(ip_address(std::uint32_t{0})), places(all_nodes)});
    CHAINRING_ASSERT(way->tx().capacity() >= std::max(longest_.back().ipv4, longest_.back().ipv6));
  }
}

datagram_transport::~datagram_transport() {
  rte_pktmbuf_free(open_);
  for (const waiting& w : std::span(waiting_).first(waiting_count_)) {
    links_[w.to.interface_id]->tx().unreserve(w.places);
    rte_pktmbuf_free(w.frame);
  }
}

std::uint32_t datagram_transport::credit(client_address to) const noexcept {
  const endpoint e = endpoint::from_key(to);
  if (e.interface_id >= links_.size()) return 0;
  const auto staging = static_cast<std::uint32_t>(waiting_.size() - waiting_count_);
  const longest& most = longest_[e.interface_id];
  const std::uint32_t places = e.address.is_ipv4() ? most.ipv4 : most.ipv6;
  return std::min(links_[e.interface_id]->tx().free() / places, staging);
}

std::size_t datagram_transport::size_max(client_address to) const noexcept {
  const endpoint e = endpoint::from_key(to);
  return e.interface_id < links_.size()
             ? links_[e.interface_id]->interface().datagram_max(e.address)
             : 0;
}

std::uint32_t datagram_transport::position(client_address to) const noexcept {
  const endpoint e = endpoint::from_key(to);
  return e.interface_id < links_.size() ? links_[e.interface_id]->tx().end() : 0;
}

bool datagram_transport::passed(client_address to, std::uint32_t position) const noexcept {
  const endpoint e = endpoint::from_key(to);
  return e.interface_id >= links_.size() ||
         static_cast<std::int32_t>(links_[e.interface_id]->tx().begin() - position) >= 0;
}

std::uint32_t datagram_transport::places_for(const endpoint& to, std::size_t size) const noexcept {
  const transmit_config& t = links_[to.interface_id]->interface().transmit;
  return static_cast<std::uint32_t>(packets_of(t, to.address, size));
}

std::span<std::byte> datagram_transport::begin(client_address to, std::size_t size) noexcept {
  open_to_ = endpoint::from_key(to);
  const bool room = open_to_.interface_id < links_.size() &&
                    links_[open_to_.interface_id]->tx().free() >= places_for(open_to_, size) &&
                    waiting_count_ < waiting_.size();
  if (open_ == nullptr && room) open_ = rte_pktmbuf_alloc(pool_);
  if (open_ == nullptr || !room || rte_pktmbuf_tailroom(open_) < size) [[unlikely]] {
    ++dropped_;
    return {};
  }
  return {rte_pktmbuf_mtod(open_, std::byte*), size};
}

void datagram_transport::commit(std::size_t size) noexcept {
  open_->data_len = static_cast<std::uint16_t>(size);
  open_->pkt_len = static_cast<std::uint32_t>(size);
  const std::uint32_t places = places_for(open_to_, size);
  links_[open_to_.interface_id]->tx().reserve(places);
  waiting_[waiting_count_++] = {open_, open_to_, places};
  open_ = nullptr;
}

void datagram_transport::release(mark_t mark) noexcept {
  if (waiting_count_ == 0) return;
  const std::uint64_t now = rte_rdtsc();
  for (const waiting& w : std::span(waiting_).first(waiting_count_)) {
    link& way = *links_[w.to.interface_id];
    way.tx().unreserve(w.places); // so send() finds what was reserved for this datagram
    const send_status sent = way.send(w.frame, w.to, mark, now);
    CHAINRING_ASSERT(sent != send_status::full);
    (void)sent; // the link counts the datagrams that it drops
  }
  waiting_count_ = 0;
}

} // namespace chainring::net
