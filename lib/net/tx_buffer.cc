// SPDX-License-Identifier: BSD-3-Clause
#include "net/tx_buffer.h"

#include <algorithm>
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
    : frames_(std::make_unique<rte_mbuf*[]>(std::bit_ceil(o.capacity))),
      runs_(std::make_unique<run[]>(std::bit_ceil(o.capacity))),
      mask_(std::bit_ceil(o.capacity) - 1), limit_(capacity()), port_id_(o.port_id),
      queue_(o.queue), stall_tsc_(static_cast<std::int64_t>(
                           (o.tsc_hz != 0 ? o.tsc_hz : rte_get_tsc_hz()) * o.stall_ms / 1000)) {}

tx_buffer::~tx_buffer() {
  for (; head_ != tail_; ++head_)
    rte_pktmbuf_free(frames_[head_ & mask_]);
}

bool tx_buffer::gone() const noexcept {
  if (rte_eth_dev_is_removed(port_id_) != 0) return true;
  rte_eth_link link{};
  return rte_eth_link_get_nowait(port_id_, &link) == 0 && link.link_status == RTE_ETH_LINK_DOWN;
}

std::uint32_t tx_buffer::pump(media* m, std::uint64_t now_tsc) noexcept {
  constexpr std::uint32_t burst = 64;
  const std::uint32_t before = head_;
  high_water_ = high_water();
  while (first_run_ != next_run_) {
    const run& r = runs_[first_run_ & mask_];
    if (m != nullptr && r.mark > durable_) {
      if (!m->durable(r.mark)) break;
      durable_ = r.mark;
    }
    ready_ = r.end;
    ++first_run_;
  }
  while (head_ != ready_) {
    // The device takes the frames from their places, which end at the end of the array.
    rte_mbuf** const frames = &frames_[head_ & mask_];
    const std::uint32_t n = std::min({burst, ready_ - head_, capacity() - (head_ & mask_)});
    const std::uint16_t taken =
        rte_eth_tx_burst(port_id_, queue_, frames, static_cast<std::uint16_t>(n));
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
  limit_ = head_ + capacity() - reserved_;
  return head_ - before;
}

} // namespace chainring::net
