// SPDX-License-Identifier: BSD-3-Clause
/// The MQTT front end: clients that speak MQTT 3.1.1 or MQTT 5.0 over TCP use the broker's core
/// through it, beside those of MQTT-SN. They share topics, retained messages, wills and groups, and
/// a client id names one session whichever protocol its client speaks.
///
/// An acknowledgement means what it means everywhere in Chainring: PUBACK, PUBREC, PUBCOMP, SUBACK
/// and UNSUBACK leave once what they say is durable in the region's class. In MQTT 5.0 a message
/// that is refused (a full queue, a message that nobody could ever be sent, a topic that the access
/// rules deny) is answered with the reason. MQTT 3.1.1 has no way to refuse a PUBLISH, so there the
/// connection is closed without an acknowledgement, and the client may send the message again. A
/// refused message at QoS 0 is dropped and counted.
///
/// A client of MQTT 5.0 is told by DISCONNECT why its connection is closed. A client of an older
/// version than 3.1.1 is answered "unacceptable protocol version".
///
/// **Limits.** A packet has at most `packet_size_max` octets. A client that does not connect within
/// `connect_timeout_s` is closed. What waits to be sent to a client is kept in its durable queue;
/// beyond `out_connection_max` octets the core is not asked for more. `memory_max` bounds the
/// buffers of all connections of a worker: beyond it, a client whose packet needs more room is
/// closed, and the core is asked for nothing more.
///
/// Thread-safety: a server_worker belongs to the thread of its worker; any thread may read the
/// counters, and use_rules() may be called by any thread.
///
///     auto server = mqtt::server::create(*broker, {});
///     server_worker& mine = (*server)->worker();
///     mine.attach(listener.links(), pool, interfaces, &listener);
///     // in every round of worker 0:
///     mine.begin_round(now);
///     listener.poll(sink);          // hands TCP packets to the stack
///     mine.poll(now);               // handles what has arrived
///     const mark_t mark = worker.end_burst();
///     mine.send(mark);              // what was answered leaves once the mark is durable
///     mine.pump(medium);
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../access/access.h"
#include "../access/password_file.h"
#include "../base/error.h"
#include "../broker/broker.h"
#include "../net/link.h"
#include "../net/transport.h"
#include "../stream/tcp.h"
#include "../tls/tls.h"
#include "../websocket/websocket.h"

namespace chainring::mqtt {

/// Where clients connect. No two listeners have the same port.
struct listener_config {
  std::uint16_t port = 1883; ///< the TCP port
  std::optional<net::ip_address> address{}; ///< one of the own ones; nothing means all of them
  bool tls = false;          ///< clients connect by TLS
  bool websocket = false;    ///< clients speak MQTT in WebSockets
  std::string path = "/mqtt"; ///< at which they open them
  std::uint32_t connections_max = 0;     ///< at one time; 0 means the limit of all listeners
  std::optional<bool> allow_anonymous{}; ///< where it differs from the setting of the server
};

struct server_config {
  std::vector<listener_config> listeners{{}};
  std::uint32_t packet_size_max = 64 << 10; ///< octets of the longest packet from a client
  std::uint16_t window_max = 32;            ///< messages under way to a client at one time
  std::uint16_t topic_aliases_max = 16;     ///< topic aliases of a connection in each direction
  std::uint32_t connect_timeout_s = 10;     ///< from the TCP connection to CONNECT
  std::uint32_t subscriptions_per_packet_max = 1024;
  /// Subscriptions with an identifier of one client, because each message to it is compared with
  /// all of them.
  std::uint32_t identified_per_client_max = 128;
  std::uint32_t out_connection_max = 64 << 10; ///< octets that wait to be sent to one client
  std::uint64_t memory_max = std::uint64_t{256} << 20; ///< octets in the buffers of all connections
  /// The origins from which scripts in browsers may connect by WebSocket; empty means any.
  std::vector<std::string> websocket_origins;
  stream::tcp_options tcp{};
  /// What is needed for listeners with TLS.
  tls::context_options tls{};
  bool check_passwords = false;        ///< use_passwords() will give a file
  bool allow_anonymous = true;         ///< clients without a user name may connect
  bool certificate_names_user = false; ///< the common name of its certificate is a client's user
  unsigned helper_threads = 1;         ///< do handshakes and check passwords
  std::uint32_t helper_jobs_max = 256; ///< of these, as many are under way at one time
};

/// The counters of a worker, each named after what it counts. `Word` is std::uint64_t in sums that
/// are handed out, and `statistic` in the counters of a worker.
template <class Word> struct basic_server_counters {
  Word packets{}, malformed{}, unexpected{}, too_long{};
  Word connects{}, connects_refused{}, connects_denied{}, connect_timeouts{}, versions_refused{};
  Word connects_v5{}, disconnects_sent{}, receive_maximum_exceeded{}, deliveries_refused{};
  Word aliases_refused{}, identifiers_refused{};
  Word authentications{}, authentications_failed{}; ///< by AUTH
  Word passwords_checked{}, passwords_wrong{}, passwords_waited{}, anonymous_refused{},
      listener_full{};
  Word disconnects{}, sessions_lost{}, closed_by_core{}, closed_out_of_memory{};
  Word publishes{}, publishes_refused{}, publishes_denied{}, dropped_qos0{};
  Word subscribes{}, subscribes_refused{}, subscribes_denied{}, unsubscribes{}, pings{};
  Word delivered{}, redelivered{}, deliveries_denied{}, dropped_too_long{}, ended_by_rules{},
      ended_by_passwords{};

  /// Calls fn(name, member pointer) for each counter.
  template <class F> static void for_each(F&& fn) {
    using c = basic_server_counters;
    fn("packets", &c::packets);
    fn("malformed", &c::malformed);
    fn("unexpected", &c::unexpected);
    fn("too_long", &c::too_long);
    fn("connects", &c::connects);
    fn("connects_refused", &c::connects_refused);
    fn("connects_denied", &c::connects_denied);
    fn("connect_timeouts", &c::connect_timeouts);
    fn("versions_refused", &c::versions_refused);
    fn("connects_v5", &c::connects_v5);
    fn("disconnects_sent", &c::disconnects_sent);
    fn("receive_maximum_exceeded", &c::receive_maximum_exceeded);
    fn("deliveries_refused", &c::deliveries_refused);
    fn("aliases_refused", &c::aliases_refused);
    fn("identifiers_refused", &c::identifiers_refused);
    fn("authentications", &c::authentications);
    fn("authentications_failed", &c::authentications_failed);
    fn("passwords_checked", &c::passwords_checked);
    fn("passwords_wrong", &c::passwords_wrong);
    fn("passwords_waited", &c::passwords_waited);
    fn("anonymous_refused", &c::anonymous_refused);
    fn("listener_full", &c::listener_full);
    fn("disconnects", &c::disconnects);
    fn("sessions_lost", &c::sessions_lost);
    fn("closed_by_core", &c::closed_by_core);
    fn("closed_out_of_memory", &c::closed_out_of_memory);
    fn("publishes", &c::publishes);
    fn("publishes_refused", &c::publishes_refused);
    fn("publishes_denied", &c::publishes_denied);
    fn("dropped_qos0", &c::dropped_qos0);
    fn("subscribes", &c::subscribes);
    fn("subscribes_refused", &c::subscribes_refused);
    fn("subscribes_denied", &c::subscribes_denied);
    fn("unsubscribes", &c::unsubscribes);
    fn("pings", &c::pings);
    fn("delivered", &c::delivered);
    fn("redelivered", &c::redelivered);
    fn("deliveries_denied", &c::deliveries_denied);
    fn("dropped_too_long", &c::dropped_too_long);
    fn("ended_by_rules", &c::ended_by_rules);
    fn("ended_by_passwords", &c::ended_by_passwords);
  }
};
using server_counters = basic_server_counters<std::uint64_t>;

/// The longest content of a message that a packet of this size can bring, whatever its topic.
[[nodiscard]] std::uint32_t content_size_max(std::uint32_t packet_size_max) noexcept;

class server_worker {
 public:
  ~server_worker();
  server_worker(const server_worker&) = delete;
  server_worker& operator=(const server_worker&) = delete;

  /// Makes the TCP stack over the worker's links, and listens. Call it before the first round.
  /// `heard` says what has been read from the ports.
  [[nodiscard]] result<void> attach(std::span<const std::unique_ptr<net::link>> links,
                                    rte_mempool* pool, const net::hearing* heard = nullptr);
  /// Takes the connections of another carrier instead, and returns what the carrier calls: one
  /// connection has one number there, below server_config::tcp.connections_max. `below` must
  /// outlive the worker.
  [[nodiscard]] stream::byte_stream_handler& attach(stream::byte_streams& below);
  /// Sets the time of the round, before anything is received in it.
  void begin_round(std::uint64_t now_tsc) noexcept;
  /// Handles what clients have sent, and lets timers fire. Returns true when there was anything.
  bool poll(std::uint64_t now_tsc) noexcept;
  /// Gives the mark of this burst to everything that was answered and delivered in it.
  void send(mark_t mark) noexcept;
  /// Sends what is durable.
  void pump(media& medium) noexcept;
  /// Ends all connections, because the program ends. Clients of MQTT 5.0 are told so. The sessions
  /// stay as they are. The caller ends the burst and calls send() and pump() until is_flushed().
  void shut_down() noexcept;
  /// True when no connection has output that is not handed to TCP.
  [[nodiscard]] bool is_flushed() const noexcept;

 private:
  friend class server;
  struct state;
  explicit server_worker(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

class server {
 public:
  /// Makes the front end of a broker with one worker; lwIP allows one TCP stack in a process. The
  /// broker must outlive it. errc::invalid_argument names the setting and its range.
  [[nodiscard]] static result<std::unique_ptr<server>> create(broker& core,
                                                              const server_config& config);
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  [[nodiscard]] server_worker& worker() noexcept { return *worker_; }
  /// Puts access rules in force in the place of the former ones. Each connection is judged again.
  /// Any thread may call it; it allocates.
  void use_rules(std::shared_ptr<const access::rule_set> rules);
  /// Checks user names and passwords with this file from now on. Ends the connections of users that
  /// have no entry in it, or another one than in the file before. Any thread may call it; it
  /// allocates.
  void use_passwords(std::shared_ptr<const access::password_file> file);
  /// Reads the certificates again, for new connections. After an error the former ones stay in use.
  /// Any thread may call it.
  [[nodiscard]] result<void> reload_certificates();
  [[nodiscard]] server_counters counters() const;
  [[nodiscard]] stream::tcp_counters<std::uint64_t> tcp_counters() const;
  [[nodiscard]] tls::layer_counters<std::uint64_t> tls_counters() const;
  [[nodiscard]] websocket::layer_counters<std::uint64_t> websocket_counters() const;
  /// TCP connections, half-open ones included. Any thread may call it.
  [[nodiscard]] std::uint32_t connections() const noexcept;

 private:
  explicit server(std::unique_ptr<server_worker> w);
  std::unique_ptr<server_worker> worker_;
};

} // namespace chainring::mqtt
