// SPDX-License-Identifier: BSD-3-Clause
/// The running broker: its ports, its worker lcores and what they hand over to each other.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "base/statistic.h"
#include "broker/broker.h"
#include "mbuf/receive_pool.h"
#include "mqtt/server.h"
#include "mqttsn/gateway.h"
#include "net/listener.h"
#include "options.h"
#include "rates.h"
#include "system_topics.h"

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

  /// Reads the certificates of TLS again, if there are any. Returns a sentence about them. After an
  /// error the former ones stay in use. The main thread calls it.
  [[nodiscard]] result<std::string> load_certificates();

  /// Reads the password file again, if there is one. Returns a sentence about it. After an error
  /// the former one stays in force. The main thread calls it.
  [[nodiscard]] result<std::string> load_passwords();

  /// Logs each port whose link went down or came up since the last call. The main thread calls it
  /// regularly.
  void watch_links();

  /// Reads the counters for the rates. The main thread calls it regularly.
  void sample_rates() {
    rates_.sample(*broker_, *gateway_);
    if (system_) system_->sample(*this);
  }
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
  /// The front end of MQTT over TCP, or nullptr where it is not served.
  [[nodiscard]] const mqtt::server* mqtt() const noexcept { return mqtt_.get(); }
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
  [[nodiscard]] result<void> find_workers();
  /// Opens the region, and the broker on it. `datagram_max` is that of the largest port.
  [[nodiscard]] result<void> open_region(std::size_t datagram_max);
  /// The threads that help to recover the region.
  [[nodiscard]] recovery_crew crew() const;
  [[nodiscard]] result<void> open_ports();
  [[nodiscard]] result<void> open_gateway();
  [[nodiscard]] std::size_t datagram_max() const;
  /// Makes the mbufs for --rx-in-region, with data rooms in the region that is open.
  [[nodiscard]] result<void> make_rooms();
  /// Refuses a port whose driver could not fill them.
  [[nodiscard]] result<void> check_drivers() const;
  /// What is needed behind the beginning of a data room.
  [[nodiscard]] std::size_t room_needed() const;
  [[nodiscard]] net::listener_options shape_of_listeners() const;
  /// How many frames may be held anywhere at one time.
  [[nodiscard]] std::uint32_t frames_needed(const net::listener_options& l) const;
  [[nodiscard]] result<void> check_sizes(const net::interface& i) const;
  static int run(void* context);
  static std::int32_t serve_compaction(void* context) noexcept;
  [[nodiscard]] result<void> offer_compaction();
  void compact_once() noexcept;
  void loop(worker_context& w) noexcept;

  options options_;
  std::unique_ptr<chainring::broker> broker_;
  std::unique_ptr<mqttsn::gateway> gateway_;
  std::unique_ptr<mqtt::server> mqtt_;
  rte_mempool* pool_ = nullptr;
  /// What the ports receive into with --rx-in-region; otherwise that is pool_.
  std::unique_ptr<receive_pool> rooms_;
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
  std::unique_ptr<system_topics> system_; ///< nullptr: nothing is published below $SYS
  std::atomic<bool> stopping_{false};
  std::atomic<bool> compacting_{false};
  std::uint32_t compaction_service_ = 0;
  bool on_service_lcore_ = false; ///< a service lcore does the steps of the compaction
  bool started_ = false;
};

/// Calls fn(name, value) for the counters of MQTT over TCP, if it is served.
template <class F> void for_each_tcp_counter(const service& s, F&& fn) {
  if (s.mqtt() == nullptr) return;
  const mqtt::server_counters mqtt = s.mqtt()->counters();
  mqtt::server_counters::for_each([&](const char* name, auto member) {
    fn(std::string("mqtt_") + name, mqtt.*member);
  });
  const auto tcp = s.mqtt()->tcp_counters();
  tcp.for_each(
      [&](const char* name, auto member) { fn(std::string("tcp_") + name, tcp.*member); });
  const auto tls = s.mqtt()->tls_counters();
  tls.for_each([&](const char* name, auto member) { fn(std::string("tls_") + name, tls.*member); });
  const auto web = s.mqtt()->websocket_counters();
  web.for_each(
      [&](const char* name, auto member) { fn(std::string("websocket_") + name, web.*member); });
  fn(std::string("tcp_connections"), s.mqtt()->connections());
}

} // namespace chainring::app
