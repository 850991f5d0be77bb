// SPDX-License-Identifier: BSD-3-Clause
#include "net/datagram_transport.h"

#include <algorithm>
#include <rte_cycles.h>

namespace chainring::net {

datagram_transport::datagram_transport(std::vector<link*> links, rte_mempool* pool,
                                       std::uint32_t waiting_max)
    : lanes_(std::make_unique<lane[]>(links.size())), lane_count_(links.size()), pool_(pool),
      room_(rte_pktmbuf_data_room_size(pool)), waiting_max_(waiting_max), waiting_(waiting_max) {
  room_ -= std::min<std::size_t>(room_, RTE_PKTMBUF_HEADROOM);
  for (std::size_t id = 0; id < links.size(); ++id) {
    link* const way = links[id];
    const net::interface& on = way->interface();
    const auto size_max = [&](const ip_address& to) {
      return static_cast<std::uint32_t>(on.datagram_max(to));
    };
    const auto places = [&](const ip_address& to) {
      return static_cast<std::uint32_t>(packets_of(on.transmit, to, size_max(to)));
    };
    // Any address of its family stands for all.
    const ip_address ipv4(std::uint32_t{0}), ipv6 = all_nodes;
    const auto one_place = static_cast<std::uint32_t>(
        std::min<std::size_t>({on.payload_max(ipv4), on.payload_max(ipv6), room_}));
    lanes_[id] = {
        way, &way->tx(), 0, one_place, places(ipv4), places(ipv6), size_max(ipv4), size_max(ipv6)};
    CHAINRING_ASSERT(way->tx().capacity() >= std::max(places(ipv4), places(ipv6)));
  }
}

datagram_transport::~datagram_transport() {
  // The transmit buffers free what was staged.
  for (const waiting& w : std::span(waiting_).first(waiting_count_)) {
    lanes_[w.to.interface_id].tx->unreserve(w.places);
    rte_pktmbuf_free(w.frame);
  }
  rte_mempool_put_bulk(pool_, reinterpret_cast<void**>(stock_.data()), stock_count_);
}

std::uint32_t datagram_transport::credit(client_address to) const noexcept {
  const std::size_t id = id_of(to);
  if (id >= lane_count_) [[unlikely]]
    return 0;
  const lane& l = lanes_[id];
  const std::uint32_t places = is_ipv4(to) ? l.longest_ipv4 : l.longest_ipv6;
  std::uint32_t room = l.tx->free();
  if (places != 1) room /= places;
  return std::min(room, waiting_max_ - begun_count());
}

std::uint32_t datagram_transport::credit_of_any() const noexcept {
  std::uint32_t room = waiting_max_ - begun_count();
  for (const lane& l : std::span(lanes_.get(), lane_count_))
    room = std::min(room, l.tx->free() / std::max(l.longest_ipv4, l.longest_ipv6));
  return room;
}

std::size_t datagram_transport::size_max(client_address to) const noexcept {
  const lane* l = lane_of(to);
  if (l == nullptr) [[unlikely]]
    return 0;
  return is_ipv4(to) ? l->size_max_ipv4 : l->size_max_ipv6;
}

std::uint32_t datagram_transport::position(client_address to) const noexcept {
  const lane* l = lane_of(to);
  return l != nullptr ? l->tx->end() : 0;
}

bool datagram_transport::passed(client_address to, std::uint32_t position) const noexcept {
  const lane* l = lane_of(to);
  return l == nullptr || static_cast<std::int32_t>(l->tx->begin() - position) >= 0;
}

std::uint32_t datagram_transport::places_for(const lane& l, const client_address& to,
                                             std::size_t size) noexcept {
  if (size <= l.one_place) [[likely]]
    return 1;
  return static_cast<std::uint32_t>(
      packets_of(l.way->interface().transmit, {to.words[0], to.words[1]}, size));
}

std::uint32_t datagram_transport::shrink_stock() noexcept {
  constexpr std::uint32_t kept = stock_max / 2;
  rte_mempool_put_bulk(pool_, reinterpret_cast<void**>(&stock_[kept]), stock_max - kept);
  return kept;
}

std::span<std::byte> datagram_transport::begin(client_address to, std::size_t size) noexcept {
  const std::size_t id = id_of(to);
  if (id >= lane_count_) [[unlikely]]
    return begin_slowly(to, size);
  const lane& l = lanes_[id];
  if (size > l.one_place || l.tx->free() == 0 || begun_count() >= waiting_max_ || stock_count_ == 0)
      [[unlikely]]
    return begin_slowly(to, size);
  open_lane_ = &l;
  open_to_ = to;
  return {static_cast<std::byte*>(stock_[stock_count_ - 1]->buf_addr) + RTE_PKTMBUF_HEADROOM, size};
}

// The part of begin() for a datagram in fragments, for an empty stock, and for refusing.
std::span<std::byte> datagram_transport::begin_slowly(const client_address& to,
                                                      std::size_t size) noexcept {
  const lane* const l = lane_of(to);
  const bool room = l != nullptr && size <= room_ && begun_count() < waiting_max_ &&
                    l->tx->free() >= places_for(*l, to, size);
  // Where the pool has fewer frames than asked for, it gives none of them.
  for (std::uint32_t n = stock_max / 2; room && stock_count_ == 0 && n != 0; n /= 2)
    if (rte_mempool_get_bulk(pool_, reinterpret_cast<void**>(stock_.data()), n) == 0)
      stock_count_ = n;
  if (!room || stock_count_ == 0) {
    ++dropped_;
    return {};
  }
  open_lane_ = l;
  open_to_ = to;
  return {static_cast<std::byte*>(stock_[stock_count_ - 1]->buf_addr) + RTE_PKTMBUF_HEADROOM, size};
}

inline bool datagram_transport::stage(std::size_t size) noexcept {
  const lane& l = *open_lane_;
  if (!is_ipv4(open_to_) ||
      !l.way->stage(stock_[stock_count_ - 1], static_cast<std::uint32_t>(size),
                    static_cast<std::uint32_t>(open_to_.words[1]),
                    static_cast<std::uint16_t>(open_to_.words[2] >> 16), l.age)) [[unlikely]]
    return false;
  ++staged_count_;
  --stock_count_;
  open_lane_ = nullptr;
  return true;
}

void datagram_transport::commit(std::size_t size) noexcept {
  if (!staging_ || !stage(size)) [[unlikely]]
    commit_slowly(size);
}

// The part of commit() for the first datagram of a burst, which reads the clock for all of them,
// for datagrams that cannot be staged, and for those behind them.
void datagram_transport::commit_slowly(std::size_t size) noexcept {
  if (begun_count() == 0) {
    const std::uint64_t now = rte_rdtsc();
    for (lane& l : std::span(lanes_.get(), lane_count_))
      l.age = l.way->interface().arp->age_now(now);
    staging_ = stage(size);
    if (staging_) return;
  }
  staging_ = false;
  wait(size);
}

void datagram_transport::wait(std::size_t size) noexcept {
  rte_mbuf* const m = stock_[--stock_count_];
  rte_pktmbuf_reset(m);
  m->data_len = static_cast<std::uint16_t>(size);
  m->pkt_len = static_cast<std::uint32_t>(size);
  const std::uint32_t places = places_for(*open_lane_, open_to_, size);
  open_lane_->tx->reserve(places);
  waiting_[waiting_count_++] = {m, endpoint::from_key(open_to_), places};
  open_lane_ = nullptr;
}

void datagram_transport::release(mark_t mark) noexcept {
  if (begun_count() == 0) return;
  for (const lane& l : std::span(lanes_.get(), lane_count_))
    l.tx->release(mark);
  staged_count_ = 0;
  staging_ = false;
  if (waiting_count_ == 0) [[likely]]
    return;
  const std::uint64_t now = rte_rdtsc();
  for (const waiting& w : std::span(waiting_).first(waiting_count_)) {
    link& way = *lanes_[w.to.interface_id].way;
    way.tx().unreserve(w.places); // so send() finds what was reserved for this datagram
    const send_status sent = way.send(w.frame, w.to, mark, now);
    CHAINRING_ASSERT(sent != send_status::full);
    (void)sent; // the link counts the datagrams that it drops
  }
  waiting_count_ = 0;
}

} // namespace chainring::net
