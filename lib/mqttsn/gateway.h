// SPDX-License-Identifier: BSD-3-Clause
/// The MQTT-SN 1.2 front end: datagrams of clients in, the broker's core behind, datagrams out.
///
/// It keeps what the protocol needs for a connection: the client's address, topic ids, the exchange
/// under way, retransmission and keep-alive. What must survive lies in the core.
/// ```
/// auto gateway = mqttsn::gateway::create(*broker, config);
/// gateway->worker(n).attach(transport, &hearing);
/// for each datagram: gateway->worker(n).receive(from, payload, received_tsc);
/// gateway->worker(n).judge(now_tsc);                   // timers: retransmission, keep-alive
/// gateway->worker(n).send(broker->worker(n).end_burst());
/// ```
/// **Limits.** A client id has 1 to 23 characters. A session has at most
/// registrations_per_session_max topic ids that its client asked for, and as many that deliveries
/// needed: of these the oldest is given up for the next, and a client that still uses it is told
/// "invalid topic id". Strangers are told DISCONNECT at most a few times a second each.
/// **Refused so far**, with "not supported": QoS 2 publishes, retained messages, wills, shared
/// subscriptions. A subscription at QoS 2 is granted QoS 1. DISCONNECT with a duration is not
/// answered, because an answer would promise that the client's sleep is kept.
///
/// Durability: PUBACK, SUBACK, UNSUBACK and CONNACK leave behind the mark of the burst that made what
/// they acknowledge durable. Addresses, topic ids and exchanges under way are forgotten in a crash:
/// clients connect again, and what they had not acknowledged is delivered again.
///
/// Thread-safety: each worker has a thread of its own; home_of() and the counters are for any.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../base/error.h"
#include "../broker/broker.h"
#include "../net/transport.h"
#include "codec.h"
#include "gateway_counters.h"

namespace chainring::mqttsn {

using net::client_address;

struct predefined_topic {
  std::uint16_t id = 0;
  std::string name;
};
/// Reads "ID NAME" lines; '#' starts a comment. Errors name file and line.
[[nodiscard]] result<std::vector<predefined_topic>> read_predefined_topics(const std::string& path);

/// Longest topic name and filter, octets: what a REGISTER of 255 octets in a small network can say.
inline constexpr std::size_t topic_length_max = 255;

struct gateway_config {
  std::uint32_t retry_ms = 10'000; ///< first retransmission (Tretry); doubles each time
  std::uint32_t retry_ms_max = 80'000;
  std::uint32_t retries_max = 5;             ///< then the client counts as lost (Nretry)
  std::uint32_t registrations_max = 262'144; ///< topic ids in all sessions of a worker
  std::uint32_t registrations_per_session_max = 1024;
  std::uint16_t datagram_size_max = 1472; ///< octets of the longest datagram of any interface
  std::uint8_t gateway_id = 1;
  std::vector<predefined_topic> predefined;
};

/// The longest payload that a datagram of that size can deliver, octets: for
/// broker_config::content_size_max.
[[nodiscard]] std::uint32_t payload_size_max(std::size_t datagram_size) noexcept;

class gateway_worker {
 public:
  ~gateway_worker();
  gateway_worker(const gateway_worker&) = delete;
  gateway_worker& operator=(const gateway_worker&) = delete;

  /// Where datagrams go, and who knows what has been read from the ports; before the first burst.
  /// Without `heard` everything received counts as handled at once.
  void attach(net::transport& out, const net::hearing* heard = nullptr) noexcept;
  /// Handles one datagram. Never fails: what is wrong with it is answered or counted. Time of
  /// reception is time of hearing; 0: now.
  void receive(client_address from, std::span<const std::byte> datagram,
               std::uint64_t received_tsc = 0) noexcept;
  /// In a broker whose medium has failed: pings are answered, and nothing else is done.
  void receive_failed(client_address from, std::span<const std::byte> datagram) noexcept;
  /// Lets timers fire. A client counts as silent only once every datagram that reached its port
  /// before its time was over has been handled.
  void judge(std::uint64_t now_tsc) noexcept;
  /// What was said in this burst may leave once `mark` is durable.
  void send(mark_t mark) noexcept;

 private:
  friend class gateway;
  struct state;
  explicit gateway_worker(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

class gateway {
 public:
  /// The broker outlives it. errc::invalid_argument names the setting and its range.
  [[nodiscard]] static result<std::unique_ptr<gateway>> create(broker& core,
                                                               const gateway_config& config);
  ~gateway();
  gateway(const gateway&) = delete;
  gateway& operator=(const gateway&) = delete;

  [[nodiscard]] gateway_worker& worker(unsigned number) noexcept;
  /// The worker a datagram is to be given to. Any thread.
  [[nodiscard]] unsigned home_of(client_address from,
                                 std::span<const std::byte> datagram) const noexcept;
  [[nodiscard]] gateway_counters counters() const;
  [[nodiscard]] gateway_counters counters(unsigned worker) const;

 private:
  friend class gateway_worker;
  struct shared;
  explicit gateway(std::unique_ptr<shared> s);
  std::unique_ptr<shared> shared_;
};

} // namespace chainring::mqttsn
