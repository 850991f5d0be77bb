// SPDX-License-Identifier: BSD-3-Clause
/// The running broker: its ports, its worker lcores and what they hand over to each other.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "base/statistic.h"
#include "broker/broker.h"
#include "mqttsn/gateway.h"
#include "net/listener.h"
#include "options.h"
#include "rates.h"

namespace chainring::app {

/// What belongs to one worker lcore. Any thread may read the counters.
struct worker_context {
  unsigned number = 0;
  unsigned lcore = 0;
  statistic rounds, idle_rounds;
};

class service {
 public:
  /// Opens every port and the region. It logs its progress and a summary line.
  [[nodiscard]] static result<std::unique_ptr<service>> create(const options& o);
  ~service();

  /// Starts the workers; they run until stop().
  [[nodiscard]] result<void> start();
  /// Asks the workers to stop and returns at once. Any thread may call it.
  void stop() noexcept;
  /// Waits for the workers to stop, then closes the region.
  [[nodiscard]] result<void> finish();

  /// Reads the file of access rules, which then are in force. Returns a sentence about them. After
  /// an error the former rules stay in force. The main thread calls it.
  [[nodiscard]] result<std::string> load_access();

  /// Logs each port whose link went down or came up since the last call. The main thread calls it
  /// regularly.
  void watch_links();

  /// Reads the counters for the rates. The main thread calls it regularly.
  void sample_rates() { rates_.sample(*broker_, *gateway_); }
  [[nodiscard]] const rates& sampled_rates() const noexcept { return rates_; }

  /// Asks for the messages to be moved together. Any thread may call it.
  void want_compaction() noexcept {
    compacting_.store(true, std::memory_order_relaxed); // [compaction-asked]
  }
  /// True until nothing is left to move.
  [[nodiscard]] bool compacting() const noexcept {
    return compacting_.load(std::memory_order_relaxed); // [compaction-asked]
  }
  /// Does a step of it if it was asked for and no service lcore does it. The main thread calls it
  /// often while compacting() is true.
  void go_on_compacting() noexcept;

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
  [[nodiscard]] result<void> check_sizes(const net::interface& i) const;
  static int run(void* context);
  static std::int32_t serve_compaction(void* context) noexcept;
  [[nodiscard]] result<void> offer_compaction();
  void compact_once() noexcept;
  void loop(worker_context& w) noexcept;

  options options_;
  std::unique_ptr<chainring::broker> broker_;
  std::unique_ptr<mqttsn::gateway> gateway_;
  rte_mempool* pool_ = nullptr;
  std::vector<std::unique_ptr<net::interface>> interfaces_;
  std::vector<bool> link_seen_; ///< for each interface, whether its link was last seen up
  std::unique_ptr<net::listener_group> listeners_;
  std::vector<std::unique_ptr<worker_context>> workers_;
  struct start_argument {
    service* self;
    worker_context* worker;
  };
  std::vector<start_argument> arguments_;
  rates rates_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> compacting_{false};
  std::uint32_t compaction_service_ = 0;
  bool on_service_lcore_ = false; ///< a service lcore does the steps of the compaction
  bool started_ = false;
};

} // namespace chainring::app
