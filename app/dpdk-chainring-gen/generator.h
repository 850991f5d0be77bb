// SPDX-License-Identifier: BSD-3-Clause
/// Many clients on one port, which differ in their source port and address. They speak MQTT-SN over
/// UDP (sn_generator.h) or MQTT over TCP (mqtt_generator.h).
///
/// Clients 0 to publishers-1 publish and the others subscribe. Each publisher has at most one
/// PUBLISH of QoS 1 or 2 without its last answer, and sends it again with DUP until it is
/// acknowledged. A client that
/// the broker does not know any more, because it was restarted, connects again and goes on. The
/// ledger records every event that matters for the verdict.
///
/// The generator uses one thread, one receive queue and one transmit queue. After create() only the
/// reports, the ledger's text and lwIP allocate memory.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "common/latency.h"
#include "ledger.h"
#include "ledger_file.h"
#include "net/link.h"
#include "options.h"

namespace chainring::gen {

/// How a run went, apart from what the ledger says.
struct outcome {
  bool finished = false;    ///< the phase has done all that it is for
  bool judged = false;      ///< all subscribers were connected and the broker answered to the end
  bool interrupted = false; ///< a second signal ended the run
  std::string refusal;      ///< a sentence about what the broker refused finally; empty if nothing
  double elapsed_s = 0;
  /// The time from the start of publishing (or of the run, when it published nothing) to the last
  /// message, the last acknowledgement and the last first delivery; 0 when there was none.
  double publishing_s = 0, acking_s = 0, delivering_s = 0;
  tally before; ///< the ledger's counts at the start of the run
  std::uint64_t reconnects = 0;
  std::uint64_t malformed = 0;         ///< what the broker sent that is no valid message
  std::uint64_t unexpected = 0;        ///< answers that are late or doubled, and unknown topic ids
  std::uint64_t handshakes_failed = 0; ///< of TLS
  std::uint64_t foreign = 0; ///< datagrams that came from another address than the broker's
  bool answered = false;     ///< the broker has answered at least once
};

class generator {
 public:
  /// Opens the port. `file` may be null. The loop reads signals from `signal_fd`.
  [[nodiscard]] static result<std::unique_ptr<generator>> create(const options& o, ledger& book,
                                                                 ledger_file* file, int signal_fd);
  virtual ~generator();
  generator(const generator&) = delete;
  generator& operator=(const generator&) = delete;

  /// Runs the phase that the options name, to its end.
  outcome run();

  [[nodiscard]] const app::latencies& to_ack() const noexcept { return to_ack_; }
  [[nodiscard]] const app::latencies& to_delivery() const noexcept { return to_delivery_; }
  [[nodiscard]] const net::link& link() const noexcept { return *link_; }

 protected:
  enum class state : std::uint8_t {
    away,       ///< the client has no session and does nothing
    wiping,     ///< sent a CONNECT that deletes the session of an earlier run
    connecting, ///< sent CONNECT
    preparing,  ///< sent SUBSCRIBE, or REGISTER of MQTT-SN
    ready,      ///< may publish, or is subscribed
    leaving,    ///< sent DISCONNECT
  };
  enum class stage : std::uint8_t { subscribing, connecting, publishing, draining, leaving, done };
  struct client {
    gen::generator::state state = state::away;
    std::uint8_t tries = 0; ///< how often the request without an answer was sent again
    bool queued = false;    ///< for publishers: the client is in ready_
    bool dup = false;       ///< for publishers: the broker may already have the outstanding PUBLISH
    bool refused = false; ///< for publishers: the outstanding PUBLISH was refused and is sent later
    std::uint8_t refusals = 0;
    std::uint16_t topic_id = 0; ///< of MQTT-SN
    std::uint16_t request_id = 0;
    std::uint64_t heard_tsc = 0;
  };

  generator(const options& o, ledger& book, ledger_file* file, int signal_fd);
  [[nodiscard]] result<void> open_port();

  // These functions, in generator.cc, are the loop and its stages.
  bool publish_some() noexcept;
  bool check_timers() noexcept;
  void control();
  void enter(stage next);
  void open_clients() noexcept;
  void close_clients() noexcept;
  void revive_port() noexcept;
  void read_signals();
  void report();
  [[nodiscard]] bool drained() noexcept;
  [[nodiscard]] bool all_subscribers_ready() const noexcept;
  void progress() noexcept { progress_tsc_ = now_; }
  [[nodiscard]] std::uint64_t cycles(double seconds) const noexcept {
    return static_cast<std::uint64_t>(seconds * hz_);
  }
  [[nodiscard]] std::uint64_t ns(std::uint64_t tsc) const noexcept {
    return start_ns_ + static_cast<std::uint64_t>(static_cast<double>(tsc - start_tsc_) * tick_ns_);
  }

  // What a protocol implements.
  /// Prepares the protocol once the port is open.
  [[nodiscard]] virtual result<void> open_protocol() = 0;
  /// Runs once in each round. Returns true when there was anything to do.
  virtual bool poll() noexcept { return false; }
  virtual void receive(const net::datagram& d) noexcept = 0;
  /// Sends what opens a client's session: `as` is wiping or connecting.
  virtual void connect(std::uint32_t i, state as) noexcept = 0;
  /// Sends what a client needs behind CONNACK before it is ready.
  virtual void prepare(std::uint32_t i) noexcept = 0;
  /// Sends the publisher's last message, for the first time or again.
  virtual void publish(std::uint32_t i) noexcept = 0;
  /// Returns false while what the publisher sent before has not left.
  [[nodiscard]] virtual bool may_publish(std::uint32_t) const noexcept { return true; }
  virtual void leave(std::uint32_t i) noexcept = 0;
  virtual void on_timeout(std::uint32_t i) noexcept = 0;

  // These functions, in clients.cc, are what the protocols have in common.
  virtual void start(std::uint32_t i) noexcept;
  void reconnect(std::uint32_t i) noexcept;
  /// The client's session is open. `prepares` says that a publisher is not ready yet.
  void connected(std::uint32_t i, bool prepares) noexcept;
  void set_ready(std::uint32_t i) noexcept;
  void enqueue(std::uint32_t i) noexcept;
  void arm(std::uint32_t i) noexcept;
  /// True when the identifier of an acknowledgement is that of the message which waits for one.
  [[nodiscard]] bool awaits(std::uint32_t i, std::uint16_t id) const noexcept;
  void acknowledged(std::uint32_t i) noexcept;
  /// The message was refused for lack of room, and is sent again later.
  void congested(std::uint32_t i) noexcept;
  void delivered(std::uint32_t subscriber, std::uint32_t topic, std::span<const std::byte> data,
                 bool dup) noexcept;
  /// Returns true when the request will be sent again later, false when it is refused finally.
  bool again_later(std::uint32_t i, const char* what, bool congestion, const char* answer) noexcept;

  [[nodiscard]] bool is_publisher(std::uint32_t i) const noexcept {
    return i < options_.shape.publishers;
  }
  [[nodiscard]] std::uint32_t subscriber_of(std::uint32_t i) const noexcept {
    return i - options_.shape.publishers;
  }
  [[nodiscard]] net::endpoint endpoint_of(std::uint32_t i) const noexcept;
  /// The packet identifier of a PUBLISH follows from its sequence number, so that the next life
  /// uses the same one when it sends the message again.
  [[nodiscard]] static std::uint16_t id_of(std::uint64_t sequence) noexcept {
    return static_cast<std::uint16_t>((sequence - 1) % 65535 + 1);
  }
  static constexpr std::size_t name_room = 64;
  /// The name of a topic: a two-character short name at QoS -1, else one with the prefix.
  std::string_view topic_name(std::uint32_t topic, std::span<char> room) const noexcept;
  [[nodiscard]] std::uint32_t topic_of_name(std::string_view name) const noexcept;
  std::string_view client_id(std::uint32_t i, std::span<char> room) const noexcept;

  options options_;
  crossing crossing_;
  ledger& ledger_;
  ledger_file* file_;
  int signal_fd_;
  rte_mempool* pool_ = nullptr;
  std::unique_ptr<net::interface> interface_;
  std::unique_ptr<net::link> link_;
  double hz_ = 0, tick_ns_ = 0;
  std::uint64_t start_tsc_ = 0, start_ns_ = 0;
  std::uint64_t retry_tsc_ = 0, ping_tsc_ = 0;

  std::vector<client> clients_;
  std::vector<std::uint64_t> due_;   ///< for each client, the TSC of its next timeout; 0 means none
  std::vector<std::uint32_t> ready_; ///< a ring of the publishers that may send
  std::uint32_t ready_first_ = 0, ready_count_ = 0;
  std::uint32_t timer_at_ = 0;

  stage stage_ = stage::subscribing;
  std::uint64_t now_ = 0;
  std::uint64_t stage_tsc_ = 0, control_tsc_ = 0, revive_tsc_ = 0, progress_tsc_ = 0,
                heard_tsc_ = 0, delivery_tsc_ = 0, publish_tsc_ = 0, publish_end_tsc_ = 0,
                ack_tsc_ = 0, fresh_tsc_ = 0;
  std::uint32_t open_next_ = 0, open_end_ = 0;
  std::uint32_t opening_ = 0;     ///< clients that are neither away nor ready
  std::uint32_t outstanding_ = 0; ///< publishers with an unacknowledged message
  std::uint32_t leaving_ = 0;
  double tokens_ = 0;
  std::uint64_t tokens_tsc_ = 0;
  std::uint64_t to_send_ = 0;
  bool is_memif_ = false;
  bool running_ = true; ///< the port is started
  bool stop_ = false;
  bool stalled_ = false;
  tally reported_;
  std::uint64_t report_tsc_ = 0, report_due_ = 0, ledger_due_ = 0;
  outcome outcome_;
  app::latencies to_ack_, to_delivery_;
};

} // namespace chainring::gen
