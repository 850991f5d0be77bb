// SPDX-License-Identifier: BSD-3-Clause
/// Transmission that waits until its causes are durable.
///
/// A tx_buffer is one lcore's queue in front of one transmit queue of a port. Every packet is
/// appended with a mark (media.h) and leaves, in order, once durable(mark). Packets that tell
/// nobody about stored state (ARP, ping) use mark 0, which is always durable; they keep their place
/// in the order all the same.
///
/// The buffer is bounded: when it is full, send() refuses and the caller stops taking input. A
/// device that takes no packet at all for `stall_ms` is asked for its link. While the link is up
/// everything is kept, however long the stall lasts; when the link is down or the device is gone,
/// those packets that may leave are dropped, counted, because nobody can be waiting for them.
///
/// Not thread-safe: one lcore, which is also the only one to use the transmit queue. No allocation
/// after create().
///
///     if (!tx.send(m, media.mark())) stop_receiving();   // m is still the caller's
///     tx.pump(media, rte_rdtsc());                        // every round
#pragma once
#include <cstdint>
#include <memory>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "../base/assert.h"
#include "../base/error.h"
#include "../base/statistic.h"
#include "../media/media.h"
#include "drop.h"

namespace chainring::net {

struct tx_buffer_options {
  std::uint16_t port_id = 0;
  std::uint16_t queue = 0;
  std::uint32_t capacity = 4096; ///< packets; rounded up to a power of two
  std::uint32_t stall_ms = 100;
  std::uint64_t tsc_hz = 0; ///< 0: rte_get_tsc_hz()
};

class tx_buffer {
 public:
  [[nodiscard]] static result<std::unique_ptr<tx_buffer>> create(const tx_buffer_options& options);
  /// Frees what did not leave.
  ~tx_buffer();
  tx_buffer(const tx_buffer&) = delete;
  tx_buffer& operator=(const tx_buffer&) = delete;

  /// Appends a complete frame. False: full, and the frame is still the caller's.
  [[nodiscard]] bool send(rte_mbuf* frame, mark_t mark) noexcept {
    if (free() == 0) [[unlikely]]
      return false;
    packets_[tail_ & mask_] = {frame, mark};
    ++tail_;
    if (tail_ - head_ > high_water_) high_water_ = tail_ - head_;
    return true;
  }

  /// Hands every packet whose mark is durable to the device, as far as it takes them, in order.
  /// Returns how many left the buffer, dropped ones included.
  std::uint32_t pump(media& m, std::uint64_t now_tsc) noexcept { return pump(&m, now_tsc); }
  /// For a program that stores nothing: every mark counts as durable.
  std::uint32_t pump(std::uint64_t now_tsc) noexcept { return pump(nullptr, now_tsc); }

  [[nodiscard]] std::uint32_t size() const noexcept { return tail_ - head_; }
  /// Free-running numbers of the oldest packet that waits, and of the next one to come.
  [[nodiscard]] std::uint32_t begin() const noexcept { return head_; }
  [[nodiscard]] std::uint32_t end() const noexcept { return tail_; }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return mask_ + 1; }
  /// Places that send() would fill: those reserved are not among them.
  [[nodiscard]] std::uint32_t free() const noexcept { return capacity() - size() - reserved_; }
  /// Keeps one free place for a frame that comes later; unreserve() gives it back to send().
  void reserve() noexcept {
    CHAINRING_ASSERT(free() != 0);
    ++reserved_;
  }
  void unreserve() noexcept {
    CHAINRING_ASSERT(reserved_ != 0);
    --reserved_;
  }
  [[nodiscard]] std::uint32_t high_water() const noexcept { return high_water_; }
  /// Packets the device took, and packets dropped because its link was gone. Any thread may read
  /// them, as it may the next.
  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_.value(); }
  [[nodiscard]] std::uint64_t stalled() const noexcept { return stalled_.value(); }
  /// How often the device took nothing for `stall_ms` although its link was up.
  [[nodiscard]] std::uint64_t stalls() const noexcept { return stalls_.value(); }

 private:
  struct packet {
    rte_mbuf* frame;
    mark_t mark;
  };

  explicit tx_buffer(const tx_buffer_options& options);
  std::uint32_t pump(media* m, std::uint64_t now_tsc) noexcept;
  [[nodiscard]] bool gone() const noexcept;

  std::unique_ptr<packet[]> packets_;
  std::uint32_t mask_;
  std::uint32_t head_ = 0; ///< free-running, as is tail_
  std::uint32_t tail_ = 0;
  std::uint32_t reserved_ = 0;
  std::uint32_t high_water_ = 0;
  mark_t durable_ = 0; ///< the highest mark known to be durable
  std::uint16_t port_id_;
  std::uint16_t queue_;
  bool stalling_ = false;
  std::uint64_t stalled_since_ = 0;
  std::int64_t stall_tsc_; ///< signed: a `now` from before the stall is no stall
  statistic sent_, stalled_, stalls_;
};

} // namespace chainring::net
