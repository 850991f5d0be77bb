// SPDX-License-Identifier: BSD-3-Clause
/// A transmit buffer that holds packets back until the changes they report are durable.
///
/// A tx_buffer is one lcore's queue in front of one transmit queue of a port. Every packet is
/// appended with a mark (media.h), and leaves in order once durable(mark). A packet that reports no
/// stored state (ARP, ping) uses mark 0, which is always durable, and still keeps its place in the
/// order.
///
/// A burst of packets that share a mark, which is known only after them, is staged: stage() appends
/// each, and release() gives all of them the mark. Until then they keep their places, and none of
/// them leaves.
///
/// The buffer is bounded. When it is full, send() refuses and the caller stops receiving. When the
/// device accepts no packet at all for `stall_ms`, the buffer looks at its link. While the link is
/// up, all packets are kept, however long the stall lasts. When the link is down or the device is
/// gone, the packets whose marks are durable are dropped and counted, because no client can be
/// waiting for them.
///
/// The class is not thread-safe: one lcore uses it, and that lcore alone uses the transmit queue.
/// Nothing is allocated after create().
///
///     if (!tx.send(m, media.mark())) stop_receiving();   // the caller still owns m
///     tx.pump(media, rte_rdtsc());                        // in every round
#pragma once
#include <algorithm>
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
  std::uint32_t capacity = 4096; ///< in packets; rounded up to a power of two
  std::uint32_t stall_ms = 100;
  std::uint64_t tsc_hz = 0; ///< 0 means rte_get_tsc_hz()
};

class tx_buffer {
 public:
  [[nodiscard]] static result<std::unique_ptr<tx_buffer>> create(const tx_buffer_options& options);
  /// Frees the packets that did not leave.
  ~tx_buffer();
  tx_buffer(const tx_buffer&) = delete;
  tx_buffer& operator=(const tx_buffer&) = delete;

  /// Appends a complete frame. Returns false when the buffer is full; the caller then still owns
  /// the frame.
  [[nodiscard]] bool send(rte_mbuf* frame, mark_t mark) noexcept {
    if (free() == 0) [[unlikely]]
      return false;
    append(frame);
    if (staging_)
      staged_mark_ = std::max(staged_mark_, mark);
    else
      end_run(mark);
    return true;
  }

  /// Appends a complete frame, which leaves once release() has given it a durable mark. There must
  /// be a free place.
  void stage(rte_mbuf* frame) noexcept {
    CHAINRING_ASSERT(free() != 0);
    staging_ = true;
    append(frame);
  }
  /// Gives `mark` to the frames that were staged since the last call.
  void release(mark_t mark) noexcept {
    if (!staging_) return;
    staging_ = false;
    end_run(std::max(staged_mark_, mark));
    staged_mark_ = 0;
  }

  /// Hands every packet whose mark is durable to the device, in order, while the device accepts
  /// them. Returns how many packets left the buffer, with the dropped ones.
  std::uint32_t pump(media& m, std::uint64_t now_tsc) noexcept { return pump(&m, now_tsc); }
  /// Does the same in a program that stores nothing: every mark counts as durable.
  std::uint32_t pump(std::uint64_t now_tsc) noexcept { return pump(nullptr, now_tsc); }

  [[nodiscard]] std::uint32_t size() const noexcept { return tail_ - head_; }
  /// The free-running numbers of the oldest packet that waits and of the next one to be appended.
  [[nodiscard]] std::uint32_t begin() const noexcept { return head_; }
  [[nodiscard]] std::uint32_t end() const noexcept { return tail_; }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return mask_ + 1; }
  /// The number of places that send() can fill, without the reserved places.
  [[nodiscard]] std::uint32_t free() const noexcept { return limit_ - tail_; }
  /// Reserves `n` free places for later frames; unreserve() gives them back to send().
  void reserve(std::uint32_t n = 1) noexcept {
    CHAINRING_ASSERT(free() >= n);
    reserved_ += n;
    limit_ -= n;
  }
  void unreserve(std::uint32_t n = 1) noexcept {
    CHAINRING_ASSERT(reserved_ >= n);
    reserved_ -= n;
    limit_ += n;
  }
  /// The most packets that were in the buffer at one time.
  [[nodiscard]] std::uint32_t high_water() const noexcept { return std::max(high_water_, size()); }
  /// The packets that the device accepted, and the packets dropped because its link was down. Any
  /// thread may read these counters and the next.
  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_.value(); }
  [[nodiscard]] std::uint64_t stalled() const noexcept { return stalled_.value(); }
  /// How often the device accepted nothing for `stall_ms` although its link was up.
  [[nodiscard]] std::uint64_t stalls() const noexcept { return stalls_.value(); }

 private:
  /// Packets that follow each other and leave together.
  struct run {
    std::uint32_t end; ///< the number of the first packet behind them
    mark_t mark;       ///< the highest mark of them
  };

  void append(rte_mbuf* frame) noexcept {
    frames_[tail_ & mask_] = frame;
    ++tail_;
  }
  /// Gives the mark to the packets behind the last run. A packet leaves after the packets in front
  /// of it, so one with a lower mark than theirs waits for theirs.
  void end_run(mark_t mark) noexcept {
    if (first_run_ != next_run_) {
      run& last = runs_[(next_run_ - 1) & mask_];
      if (mark <= last.mark) {
        last.end = tail_;
        return;
      }
    }
    runs_[next_run_++ & mask_] = {tail_, mark};
  }
  explicit tx_buffer(const tx_buffer_options& options);
  std::uint32_t pump(media* m, std::uint64_t now_tsc) noexcept;
  [[nodiscard]] bool gone() const noexcept;

  std::unique_ptr<rte_mbuf*[]> frames_;
  std::unique_ptr<run[]> runs_; ///< each has a packet, so there are no more of them than packets
  std::uint32_t mask_;
  std::uint32_t head_ = 0; ///< this number and the next five are free-running
  std::uint32_t tail_ = 0;
  std::uint32_t limit_;         ///< tail_ when no place is free: head_ + capacity() - reserved_
  std::uint32_t ready_ = 0;     ///< the first packet that is not known to be durable
  std::uint32_t first_run_ = 0; ///< the run of that packet
  std::uint32_t next_run_ = 0;  ///< behind the last run
  bool staging_ = false;        ///< the packets behind the last run are staged
  mark_t staged_mark_ = 0;      ///< the highest mark of a packet that was sent among them
  std::uint32_t reserved_ = 0;
  std::uint32_t high_water_ = 0; ///< up to the last pump()
  mark_t durable_ = 0;           ///< the highest mark known to be durable
  std::uint16_t port_id_;
  std::uint16_t queue_;
  bool stalling_ = false;
  std::uint64_t stalled_since_ = 0;
  std::int64_t stall_tsc_; ///< signed, so that a `now` from before the stall counts as no stall
  statistic sent_, stalled_, stalls_;
};

} // namespace chainring::net
