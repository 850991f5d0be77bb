// SPDX-License-Identifier: BSD-3-Clause
/// The MQTT-SN 1.2 front end between the datagrams of clients and the broker's core.
///
/// It keeps what the protocol needs for a connection: the client's address, topic ids, the exchange
/// under way, retransmission and keep-alive. The core keeps everything that must survive a crash.
/// ```
/// auto gateway = mqttsn::gateway::create(*broker, config);
/// gateway->worker(n).attach(transport, &hearing);
/// for each datagram: gateway->worker(n).receive(from, payload, received_tsc);
/// gateway->worker(n).judge(now_tsc);                   // timers, and requests that waited
/// gateway->worker(n).send(broker->worker(n).end_burst());
/// ```
/// **Limits.** A client id has 1 to 23 characters. A session has at most
/// registrations_per_session_max topic ids that its client asked for, and as many that deliveries
/// needed. When deliveries need more, the oldest of theirs is replaced, and a client that still
/// uses it receives "invalid topic id". A sender without a session receives DISCONNECT at most a
/// few times a second.
///
/// **Requests take turns** with `requests_per_round`. While messages are under way, a round handles
/// so many requests: CONNECT, REGISTER, SUBSCRIBE, and whatever comes from a sender without a
/// session, but for messages at QoS -1. Up to 1,024 others of up to 2,000 octets wait for later
/// rounds, 16 of each sender, and what is beyond that is dropped as if the network had lost it
/// (requests_dropped). Messages that arrive later are handled before requests that wait.
///
/// **Wills** are asked for before the session is opened. How many clients are asked at a time has a
/// limit, and one for each source; a CONNECT beyond it is refused with "congestion". A will whose
/// topic or message cannot be accepted makes the CONNECT fail with "not supported". The will stays
/// stored after the client's own DISCONNECT, but it is not sent for it.
///
/// **Sleeping clients** keep their topic ids. A duration of 0 is no sleep: it ends the connection.
///
/// **Access rules** (use_rules()) are asked before anything is made. A CONNECT, REGISTER,
/// SUBSCRIBE, or PUBLISH at QoS 1 that they deny is answered with return code 3 (not supported),
/// because MQTT-SN 1.2 has no return code for it; a PUBLISH at QoS 0 or -1 is dropped. REGISTER
/// asks for the right to publish.
///
/// **Durability.** PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK and CONNACK leave behind the
/// mark of the burst that made durable what they acknowledge. Addresses, topic ids and timers are
/// forgotten in a crash: clients connect again, messages that they had not acknowledged are
/// delivered again, and a QoS 2 message that they had received is only released.
///
/// Thread-safety: each worker belongs to one thread. Any thread may call home_of() and read
/// counters.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../access/access.h"
#include "../base/error.h"
#include "../broker/broker.h"
#include "../net/datagram_frame.h"
#include "../net/transport.h"
#include "codec.h"
#include "gateway_counters.h"

namespace chainring::mqttsn {

using net::client_address;
using net::received_datagram;

struct predefined_topic {
  std::uint16_t id = 0;
  std::string name;
};
/// Reads lines of the form "ID NAME"; '#' starts a comment. Errors name the file and the line.
[[nodiscard]] result<std::vector<predefined_topic>> read_predefined_topics(const std::string& path);

/// The longest topic name and filter, in octets: the length of a name in a REGISTER of 255 octets.
inline constexpr std::size_t topic_length_max = 255;

struct gateway_config {
  /// Time until the first retransmission (Tretry); it doubles each time.
  std::uint32_t retry_ms = 10'000;
  std::uint32_t retry_ms_max = 80'000;
  std::uint32_t retries_max = 5;             ///< after so many the client counts as lost (Nretry)
  std::uint32_t registrations_max = 262'144; ///< topic ids in all sessions of a worker
  std::uint32_t registrations_per_session_max = 1024;
  std::uint16_t datagram_size_max = 1472; ///< the longest datagram of any interface, in octets
  std::uint8_t gateway_id = 1;
  /// Accept PUBLISH at QoS -1 with the length of a topic name in place of the topic id and the name
  /// in front of the data. Some clients send this form, which is not in the specification.
  bool names_at_qos_minus_one = false;
  std::vector<predefined_topic> predefined;
  /// Seconds between two ADVERTISE messages (Tadv), 1 to 65,535. 0: none is sent.
  std::uint16_t advertise_s = 0;
  std::uint16_t own_port = 0; ///< what access rules know as the port of clients; 0 means none
  /// The addresses of the groups to which ADVERTISE goes, and GWINFO for a SEARCHGW that came to a
  /// group: at most one of each IP version for each interface, as keys of net::endpoint. On an
  /// interface without one that GWINFO is broadcast, over IPv6 to all nodes.
  std::vector<client_address> groups;
  std::uint32_t requests_per_round = 0;  ///< requests that a round handles beside messages; 0: all
  std::uint32_t will_prompts_max = 1024; ///< clients that a worker asks for their wills at a time
  std::uint32_t will_prompts_per_source_max = 128; ///< of these, at one Internet address
  std::uint32_t will_prompt_s = 60;                ///< how long such a client may take
  std::uint32_t nodes_max = 4096;                  ///< wireless nodes behind forwarders
  std::uint32_t nodes_per_forwarder_max = 2048;    ///< of these, behind one forwarder
};

/// The longest payload in octets that a datagram of this size can deliver, which is the value for
/// broker_config::content_size_max.
[[nodiscard]] std::uint32_t payload_size_max(std::size_t datagram_size) noexcept;

class gateway_worker {
 public:
  ~gateway_worker();
  gateway_worker(const gateway_worker&) = delete;
  gateway_worker& operator=(const gateway_worker&) = delete;

  /// Sets the transport for datagrams, and who knows what has been read from the ports. Call it
  /// before the first burst. Without `heard` everything that was received counts as handled at
  /// once.
  void attach(net::transport& out, const net::hearing* heard = nullptr) noexcept;
  /// Says for the datagrams of a burst which workers handle them, as net::datagram_sink::place()
  /// does. Each hint is for receive_burst() of this worker.
  [[nodiscard]] std::size_t place(std::span<received_datagram> burst,
                                  std::uint8_t* homes) const noexcept;
  /// Handles one datagram. It never fails: a faulty datagram is answered or counted. The client
  /// counts as heard at `received_tsc`; 0 means now. `to_group` says that the datagram was sent to
  /// a multicast group or broadcast, and not to this host alone.
  void receive(client_address from, std::span<const std::byte> datagram,
               std::uint64_t received_tsc = 0, bool to_group = false) noexcept;
  /// Handles the datagrams of a burst in their order, as receive() does one by one. It waits less
  /// for memory, because it asks for what it will read before it needs it. Their `received_tsc` is
  /// not 0, and their frames stay the caller's.
  void receive_burst(std::span<const received_datagram> datagrams) noexcept;
  /// Handles a datagram in a broker whose medium has failed: it answers pings and does nothing
  /// else.
  void receive_failed(client_address from, std::span<const std::byte> datagram) noexcept;
  /// Handles requests that wait, and lets timers fire. Call it in every round, after everything
  /// that was received. Returns true if a request waited. A client counts as silent only after
  /// every datagram has been handled that reached its port before its time was over.
  bool judge(std::uint64_t now_tsc) noexcept;
  /// Releases the messages of this burst, which leave once `mark` is durable. Call it between two
  /// bursts.
  void send(mark_t mark) noexcept;

 private:
  friend class gateway;
  struct state;
  explicit gateway_worker(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

class gateway {
 public:
  /// Makes a gateway. The broker must outlive it. errc::invalid_argument names the setting and its
  /// range.
  [[nodiscard]] static result<std::unique_ptr<gateway>> create(broker& core,
                                                               const gateway_config& config);
  ~gateway();
  gateway(const gateway&) = delete;
  gateway& operator=(const gateway&) = delete;

  [[nodiscard]] gateway_worker& worker(unsigned number) noexcept;
  /// Returns the number of the worker that handles this datagram. Any thread may call it.
  [[nodiscard]] unsigned home_of(client_address from,
                                 std::span<const std::byte> datagram) const noexcept;
  /// Puts access rules in force in the place of the former ones. Each worker takes them over with
  /// its next judge(), or with attach(), and then judges its connections again. Without rules
  /// everything is allowed. Any thread may call it; it allocates.
  void use_rules(std::shared_ptr<const access::rule_set> rules);
  /// Returns the rules that use_rules() was given last, or nullptr.
  [[nodiscard]] std::shared_ptr<const access::rule_set> rules() const;
  /// Changes gateway_config::retry_ms (and retry_ms_max to eight times as much) and retries_max for
  /// what is sent from now on. Any thread may call them.
  void set_retry_interval(std::uint32_t ms) noexcept;
  void set_retries_max(std::uint32_t n) noexcept;
  /// How many connections of a worker have a timer. The worker's thread calls it.
  [[nodiscard]] std::uint32_t timers_armed(unsigned worker) const noexcept;
  [[nodiscard]] gateway_counters counters() const;
  [[nodiscard]] gateway_counters counters(unsigned worker) const;

 private:
  friend class gateway_worker;
  struct common_state;
  explicit gateway(std::unique_ptr<common_state> s);
  std::unique_ptr<common_state> common_;
};

} // namespace chainring::mqttsn
