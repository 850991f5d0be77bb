// SPDX-License-Identifier: BSD-3-Clause
/// The running broker: its ports, its worker lcores and what they hand to each other.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "base/statistic.h"
#include "broker/broker.h"
#include "mqttsn/gateway.h"
#include "net/listener.h"
#include "options.h"

namespace chainring::app {

/// What one worker lcore works with. Counters may be read by any thread.
struct worker_context {
  unsigned number = 0;
  unsigned lcore = 0;
  statistic rounds, idle_rounds;
};

class service {
 public:
  /// Opens the region and every port. Prints progress and the summary line.
  [[nodiscard]] static result<std::unique_ptr<service>> create(const options& o);
  ~service();

  /// Starts the workers; they run until stop().
  [[nodiscard]] result<void> start();
  void stop() noexcept;
  /// Waits for the workers, then closes ports and region.
  [[nodiscard]] result<void> finish();

  /// Logs each port whose link went or came back since the last call. The main thread, now and
  /// then.
  void watch_links();

  [[nodiscard]] chainring::broker& broker() noexcept { return *broker_; }
  [[nodiscard]] mqttsn::gateway& gateway() noexcept { return *gateway_; }
  [[nodiscard]] const options& settings() const noexcept { return options_; }
  [[nodiscard]] const std::vector<std::unique_ptr<net::interface>>& interfaces() const noexcept {
    return interfaces_;
  }
  [[nodiscard]] const std::vector<std::unique_ptr<worker_context>>& workers() const noexcept {
    return workers_;
  }
  [[nodiscard]] const net::listener& listener(unsigned worker) const noexcept {
    return listeners_->worker(worker);
  }

 private:
  explicit service(const options& o) : options_(o) {}
  [[nodiscard]] result<void> open_region();
  [[nodiscard]] result<void> open_ports();
  static int run(void* context);
  void loop(worker_context& w) noexcept;

  options options_;
  std::unique_ptr<chainring::broker> broker_;
  std::unique_ptr<mqttsn::gateway> gateway_;
  rte_mempool* pool_ = nullptr;
  std::vector<std::unique_ptr<net::interface>> interfaces_;
  std::vector<bool> link_seen_; ///< by interface: whether its link was up at the last look
  std::unique_ptr<net::listener_group> listeners_;
  std::vector<std::unique_ptr<worker_context>> workers_;
  struct start_argument {
    service* self;
    worker_context* worker;
  };
  std::vector<start_argument> arguments_;
  std::atomic<bool> stopping_{false};
  bool started_ = false;
};

} // namespace chainring::app
