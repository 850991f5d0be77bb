// SPDX-License-Identifier: BSD-3-Clause
/// What lies between the packets of the links and the MQTT front end. Internal to lib/mqtt.
#pragma once
#include <memory>
#include <optional>
#include <span>

#include "mqtt/server.h"
#include "stream/byte_streams.h"
#include "stream/helper_crew.h"
#include "stream/link_packets.h"
#include "stream/tcp.h"
#include "tls/tls.h"
#include "websocket/websocket.h"

namespace chainring::mqtt {

class transport {
 public:
  /// Makes the TCP stack over the links, and listens. `above` hears of every connection.
  [[nodiscard]] result<void> attach(const server_config& config,
                                    std::span<const std::unique_ptr<net::link>> links,
                                    rte_mempool* pool, stream::byte_stream_handler& above);
  void begin_round(std::uint64_t now_tsc) noexcept {
    if (packets_) packets_->begin_round(now_tsc);
  }
  /// Tells `above` what has arrived. Returns true when there was anything to do.
  bool poll(std::uint64_t now_tsc) noexcept {
    bool any = stack_ != nullptr && stack_->poll(now_tsc);
    if (helpers_ != nullptr) any |= helpers_->collect();
    if (tls_ != nullptr) any |= tls_->poll(now_tsc);
    return any;
  }
  /// Reads the certificates for new connections. Any thread may call it.
  [[nodiscard]] result<void> load_certificates(const server_config& config);
  /// The connections, without what carries them.
  [[nodiscard]] stream::byte_streams& streams() noexcept { return *top_; }
  /// The threads for what takes long, or nullptr where nothing does.
  [[nodiscard]] stream::helper_crew* helpers() noexcept { return helpers_.get(); }
  /// Any thread may call it once attach() has returned.
  void add_to(stream::tcp_counters<std::uint64_t>& sum) const {
    if (stack_ != nullptr) add_counters(sum, stack_->counters());
  }
  void add_to(tls::layer_counters<std::uint64_t>& sum) const {
    if (tls_ != nullptr) add_counters(sum, tls_->counters());
  }
  void add_to(websocket::layer_counters<std::uint64_t>& sum) const {
    if (websocket_ != nullptr) add_counters(sum, websocket_->counters());
  }

 private:
  std::optional<stream::link_packets> packets_;
  stream::byte_streams* top_ = nullptr;
  std::unique_ptr<websocket::layer> websocket_;
  std::unique_ptr<tls::layer> tls_;
  std::unique_ptr<stream::helper_crew> helpers_; // ends before what its jobs belong to
  std::unique_ptr<stream::tcp_stack> stack_;
};

} // namespace chainring::mqtt
