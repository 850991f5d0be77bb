// SPDX-License-Identifier: BSD-3-Clause
#include "net/tx_buffer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <rte_cycles.h>

namespace chainring::net {

result<std::unique_ptr<tx_buffer>> tx_buffer::create(const tx_buffer_options& o) {
  if (o.capacity < 2 || o.capacity > 1u << 24)
    return error{errc::invalid_argument, "a transmit buffer of " + std::to_string(o.capacity) +
                                             " packets is not possible; expected 2 to 2^24"};
  return std::unique_ptr<tx_buffer>(new tx_buffer(o));
}

tx_buffer::tx_buffer(const tx_buffer_options& o)
    : packets_(std::make_unique<packet[]>(std::bit_ceil(o.capacity))),
      mask_(std::bit_ceil(o.capacity) - 1), port_id_(o.port_id), queue_(o.queue),
      stall_tsc_(static_cast<std::int64_t>((o.tsc_hz != 0 ? o.tsc_hz : rte_get_tsc_hz()) *
                                           o.stall_ms / 1000)) {}

tx_buffer::~tx_buffer() {
  for (; head_ != tail_; ++head_)
    rte_pktmbuf_free(packets_[head_ & mask_].frame);
}

bool tx_buffer::gone() const noexcept {
  if (rte_eth_dev_is_removed(port_id_) != 0) return true;
  rte_eth_link link{};
  return rte_eth_link_get_nowait(port_id_, &link) == 0 && link.link_status == RTE_ETH_LINK_DOWN;
}

std::uint32_t tx_buffer::pump(media* m, std::uint64_t now_tsc) noexcept {
  constexpr std::uint32_t burst = 64;
  std::array<rte_mbuf*, burst> frames;
  const std::uint32_t before = head_;
  while (head_ != tail_) {
    std::uint32_t n = 0;
    while (n < burst && head_ + n != tail_) {
      const packet& p = packets_[(head_ + n) & mask_];
      if (m != nullptr && p.mark > durable_) {
        if (!m->durable(p.mark)) break;
        durable_ = p.mark;
      }
      frames[n++] = p.frame;
    }
    if (n == 0) break;
    const std::uint16_t taken =
        rte_eth_tx_burst(port_id_, queue_, frames.data(), static_cast<std::uint16_t>(n));
    head_ += taken;
    sent_ += taken;
    if (taken != 0) stalling_ = false;
    if (taken == n) continue;
    if (taken != 0) break; // the device has no room left for now
    if (!stalling_) {
      stalling_ = true;
      stalled_since_ = now_tsc;
    } else if (static_cast<std::int64_t>(now_tsc - stalled_since_) > stall_tsc_) {
      if (!gone()) {
        stalled_since_ = now_tsc; // ask again after another stall_ms
        ++stalls_;
        break;
      }
      for (std::uint32_t i = 0; i < n; ++i)
        rte_pktmbuf_free(frames[i]);
      head_ += n;
      stalled_ += n;
      continue;
    }
    break;
  }
  return head_ - before;
}

} // namespace chainring::net
