// SPDX-License-Identifier: BSD-3-Clause
/// The topics at which the broker reports about itself, `$SYS/broker/...`, under the names that
/// operators of mosquitto know (docs/guides/mqtt.md lists them).
///
/// The messages are at QoS 0, are not retained, and are not durable. Clients cannot publish there
/// (is_system_topic()).
///
/// Thread-safety: sample() belongs to one thread, and publish() to the one of a worker.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/latest.h"
#include "broker/broker.h"
#include "broker/front_end.h"

namespace chainring::app {

class service;

class system_topics final : public front_end {
 public:
  explicit system_topics(std::uint32_t interval_s);
  /// Counts a part of the sessions, and makes new values when the interval is over. Call it about
  /// once a second.
  void sample(service& s);
  /// Publishes some of the newest values, if there are any. Returns true when it has published.
  bool publish(broker_worker& core) noexcept;

  // The core calls these for sessions, of which there are none here.
  [[nodiscard]] std::uint32_t credit(std::uint32_t) const noexcept override { return 0; }
  void settled(std::span<const settlement>) noexcept override {}
  [[nodiscard]] std::size_t deliver(std::uint32_t,
                                    std::span<const delivery_item>) noexcept override {
    return 0;
  }
  void withdrawn(std::uint32_t, std::uint64_t) noexcept override {}
  void closed(std::uint32_t, close_reason) noexcept override {}

 private:
  using clock = std::chrono::steady_clock;
  struct value {
    std::string topic, text;
  };
  /// Connected clients are counted session by session, a part at each call.
  struct census {
    std::uint32_t next = 0;           ///< the session at which the next part begins
    std::uint32_t connected = 0;      ///< those of this round so far
    std::uint32_t last = 0, most = 0; ///< those of the last round, and of the greatest one
    std::vector<session_info> part;
  };
  void count_clients(const chainring::broker& b);
  [[nodiscard]] std::vector<value> values_of(service& s) const;

  const clock::time_point begin_ = clock::now();
  clock::time_point next_;
  std::chrono::seconds interval_;
  census clients_;
  latest<std::vector<value>> newest_;
  // Of the worker: what it publishes now, and how far it has come.
  std::shared_ptr<const std::vector<value>> current_;
  std::size_t published_ = 0;
};

} // namespace chainring::app
