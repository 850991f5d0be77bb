// SPDX-License-Identifier: BSD-3-Clause
/// The running broker: its ports, its worker lcores and what they hand to each other.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "broker/broker.h"
#include "net/link.h"
#include "options.h"
#include "packet_transport.h"

struct rte_ring;

namespace chainring::app {

/// What one worker lcore works with. Counters may be read by any thread.
struct worker_context {
  unsigned number = 0;
  unsigned lcore = 0;
  std::vector<std::unique_ptr<net::link>> links; ///< one an interface
  std::vector<net::link*> polled;                ///< those whose receive queue is this worker's
  std::unique_ptr<packet_transport> out;
  rte_ring* handed = nullptr; ///< datagrams from other workers
  std::atomic<std::uint64_t> handed_over{0}, handed_dropped{0}, rounds{0}, idle_rounds{0};
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

  [[nodiscard]] chainring::broker& broker() noexcept { return *broker_; }
  [[nodiscard]] const options& settings() const noexcept { return options_; }
  [[nodiscard]] const std::vector<std::unique_ptr<net::interface>>& interfaces() const noexcept {
    return interfaces_;
  }
  [[nodiscard]] const std::vector<std::unique_ptr<worker_context>>& workers() const noexcept {
    return workers_;
  }

 private:
  explicit service(const options& o) : options_(o) {}
  [[nodiscard]] result<void> open_region();
  [[nodiscard]] result<void> open_ports();
  static int run(void* context);
  void loop(worker_context& w) noexcept;

  options options_;
  std::unique_ptr<chainring::broker> broker_;
  rte_mempool* pool_ = nullptr;
  std::vector<std::unique_ptr<net::interface>> interfaces_;
  std::vector<std::unique_ptr<worker_context>> workers_;
  struct start_argument {
    service* self;
    worker_context* worker;
  };
  std::vector<start_argument> arguments_;
  /// One a transmit queue that several workers share: its holder pumps.
  struct queue_lock {
    std::atomic<bool> held{false};
  };
  std::vector<std::unique_ptr<queue_lock[]>> tx_locks_; ///< by interface, by queue
  std::vector<std::vector<std::uint16_t>> tx_queue_of_; ///< by interface, by worker
  std::atomic<bool> stopping_{false};
  bool started_ = false;
};

} // namespace chainring::app
