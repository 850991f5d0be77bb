// SPDX-License-Identifier: BSD-3-Clause
/// The bare loop that the broker is compared with: as DPDK's example l2fwd, it receives a burst
/// from a memory port, writes both MAC addresses of each frame, and sends the burst. It is the
/// least that any program can do with the broker's frames.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <rte_ether.h>
#include <rte_mempool.h>
#include <string>
#include <vector>

#include "base/error.h"
#include "memory_port.h"

namespace chainring::bench {

/// One message as the broker's port sees it. The broker receives and sends as many frames of each
/// size, so that the bare loop has the same frames when it sends back what it receives.
struct frames_of_message {
  std::uint32_t publish_octets = 0, puback_octets = 0; ///< sizes of a whole Ethernet frame
  std::uint32_t fan_out = 1;

  /// A PUBLISH comes in and its PUBACK goes out. A PUBLISH goes out to each subscriber, and its
  /// PUBACK comes in.
  [[nodiscard]] std::uint32_t each_way() const { return 1 + fan_out; }
};

class forward_loop {
 public:
  static result<std::unique_ptr<forward_loop>> create(const std::string& name, rte_mempool* pool,
                                                      const frames_of_message& frames);
  ~forward_loop();
  forward_loop(const forward_loop&) = delete;
  forward_loop& operator=(const forward_loop&) = delete;

  /// Forwards bursts of so many frames for a time. Returns the nanoseconds of the loop's own CPU
  /// time for the frames of one message, or 0 when the pool or a ring ran out.
  double run(double seconds, unsigned burst);

 private:
  forward_loop() = default;
  [[gnu::noinline]] unsigned round();
  bool offer(unsigned n);
  void take();

  std::unique_ptr<memory_port> port_;
  rte_mempool* pool_ = nullptr;
  frames_of_message frames_;
  rte_ether_addr own_mac_{};
  std::uint32_t next_ = 0; ///< counts the frames, of which the first of each message is a PUBLISH
};

} // namespace chainring::bench
