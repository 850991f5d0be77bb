// SPDX-License-Identifier: BSD-3-Clause
#include "packet_transport.h"

#include <algorithm>
#include <rte_cycles.h>

namespace chainring::app {

packet_transport::packet_transport(std::vector<net::link*> links, rte_mempool* pool,
                                   std::uint32_t burst_max)
    : links_(std::move(links)), pool_(pool), burst_max_(burst_max) {
  waiting_.reserve(burst_max);
}

packet_transport::~packet_transport() {
  rte_pktmbuf_free(open_);
  for (const waiting& w : waiting_)
    rte_pktmbuf_free(w.frame);
}

bool packet_transport::has_room(std::uint32_t packets) const noexcept {
  return std::ranges::all_of(links_, [packets](net::link* l) { return l->tx().free() >= packets; });
}

std::span<std::byte> packet_transport::begin(client_address to, std::size_t size) noexcept {
  open_to_ = net::endpoint::from_key(to);
  if (open_to_.interface_id >= links_.size() || waiting_.size() == burst_max_) {
    ++dropped_;
    return {};
  }
  if (open_ == nullptr) open_ = rte_pktmbuf_alloc(pool_);
  if (open_ == nullptr || rte_pktmbuf_tailroom(open_) < size) {
    ++dropped_;
    return {};
  }
  return {rte_pktmbuf_mtod(open_, std::byte*), size};
}

void packet_transport::commit(std::size_t size) noexcept {
  open_->data_len = static_cast<std::uint16_t>(size);
  open_->pkt_len = static_cast<std::uint32_t>(size);
  waiting_.push_back({open_, open_to_});
  open_ = nullptr;
}

void packet_transport::release(mark_t mark) noexcept {
  if (waiting_.empty()) return;
  const std::uint64_t now = rte_rdtsc();
  for (const waiting& w : waiting_) {
    if (links_[w.to.interface_id]->send(w.frame, w.to, mark, now) == net::send_status::full) {
      rte_pktmbuf_free(w.frame); // as if lost on the way: the client, or our timer, asks again
      ++dropped_;
    }
  }
  waiting_.clear();
}

} // namespace chainring::app
