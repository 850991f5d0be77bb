// SPDX-License-Identifier: BSD-3-Clause
/// A blocking MQTT-SN 1.2 client that uses one UDP socket.
///
/// Every request that has an answer is sent up to 1 + retries_max times, retry_interval apart, as
/// section 6.13 of the specification says. One request is outstanding at a time. While the client
/// waits for an answer, it answers the broker's REGISTER, PINGREQ and PUBREL messages and keeps
/// incoming PUBLISH messages for next(). It acknowledges a PUBLISH only when the caller calls
/// acknowledge(), so that the caller can first make sure that the message will not be lost.
///
/// **QoS 2, receiving:** a message id stays open from acknowledge() until the broker's PUBREL. A
/// PUBLISH with an open id is the same message again; it is answered and not delivered again. With
/// a kept session (clean = false) the open ids also outlive a connection, so that a broker that
/// was killed between PUBREC and PUBREL cannot make the client deliver twice.
///
/// **QoS 2, sending:** publish() with `again` continues the message of the call before it, with its
/// message id. Once PUBREC has come, that message is never published again.
///
/// The class is not thread-safe. Its functions throw only when memory runs out. Its sources are
/// exchange.cc (the socket, requests and answers), connection.cc (sessions and wills), publish.cc,
/// receive.cc (subscriptions and deliveries), sleep.cc and search.cc.
///
///     client c({.host = "localhost", .client_id = "me"});
///     if (auto s = c.open(); !s) return fail(s.message);
///     if (auto s = c.connect(); !s) return fail(s.message);
///     if (auto s = c.publish(topic::named("a/b"), data, mqttsn::qos_level::one, false); !s) ...
///     c.disconnect();
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <sys/socket.h>
#include <vector>

#include "mqttsn/codec.h"

namespace chainring::client {

using clock = std::chrono::steady_clock;

enum class outcome {
  ok,
  no_answer,    ///< no answer came in all attempts
  rejected,     ///< the broker refused the request with `code`
  disconnected, ///< the broker ended the session; connect() begins a new one
  interrupted,  ///< options.stop_fd became readable
  failed,       ///< the socket failed or the message is not possible; a retry would not help
};

struct [[nodiscard]] status {
  outcome what = outcome::ok;
  mqttsn::return_code code{};
  std::string message; ///< a sentence for the user; empty when `what` is ok
  explicit operator bool() const noexcept { return what == outcome::ok; }
  [[nodiscard]] bool congested() const noexcept {
    return what == outcome::rejected && code == mqttsn::return_code::congestion;
  }
};

status failed(std::string message);
/// Like failed(), followed by what errno means.
status system_failed(std::string message);
/// `what` is the request that the broker refused.
status rejected(const std::string& what, mqttsn::return_code code);
/// Such as "2.5 s".
[[nodiscard]] std::string in_seconds(std::chrono::milliseconds t);

/// A topic or a filter in one of the forms that the protocol has for it.
struct topic {
  mqttsn::topic_id_type type = mqttsn::topic_id_type::normal;
  std::uint16_t id = 0; ///< used by predefined ids and short names only
  std::string name;     ///< the name for the user; for a predefined id it is the number as text

  static topic named(std::string name);
  static topic predefined(std::uint16_t id);
  /// `name` must have two octets.
  static topic short_name(const std::string& name);
};

/// True for "$share" and for every filter that begins with "$share/".
[[nodiscard]] bool is_shared(std::string_view filter) noexcept;
/// The filter behind "$share/GROUP/", which says which topics match; empty when there is no group
/// or no filter behind it. Any other filter is returned as it is.
[[nodiscard]] std::string_view without_group(std::string_view filter) noexcept;

struct will {
  std::string topic;
  std::optional<std::string> payload; ///< without a value, an update leaves the message as it is
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  bool retain = false;
};

enum class address_family { any, ipv4, ipv6 };

/// How to find a gateway when its address is not known (section 6.1).
struct search_options {
  std::string address; ///< where SEARCHGW goes: a broadcast, multicast or unicast address
  std::uint8_t radius = 1;
  std::chrono::milliseconds delay_max{1000}; ///< SEARCHGW waits a random part of this first
};

struct client_options {
  std::string host = "localhost";
  std::uint16_t port = 10000;
  std::string bind_address; ///< the local address to send from; empty: the kernel chooses
  address_family family = address_family::any;
  bool fragments =
      false; ///< let the kernel send a message in fragments that one packet cannot hold
  std::optional<search_options> search; ///< used instead of `host`
  std::string client_id;
  bool clean = true;
  std::uint16_t keep_alive_s = 60; ///< 0 means no keep-alive
  std::optional<client::will> will;
  bool delete_will = false; ///< delete the will that the broker keeps of an earlier session
  /// Send or delete the will by WILLTOPICUPD and WILLMSGUPD after CONNECT, and not within it.
  bool update_will = false;
  std::chrono::milliseconds retry_interval{5000};
  unsigned retries_max = 3;
  int stop_fd = -1;   ///< when it becomes readable, every wait ends with outcome::interrupted
  bool debug = false; ///< print each message sent and received on standard error
  bool quiet = false; ///< print no errors and no warnings on standard error
};

/// A message that the broker delivered.
struct delivery {
  mqttsn::flags flags;
  std::uint16_t topic_id = 0;
  std::uint16_t msg_id = 0;
  std::string topic;
  std::vector<std::byte> payload;
};

class client {
 public:
  explicit client(client_options options);
  ~client();
  client(const client&) = delete;
  client& operator=(const client&) = delete;

  /// Finds the host's address, or searches a gateway, and opens the socket.
  status open();
  /// Begins a session, with the will if there is one. The topic ids of an earlier session are
  /// forgotten.
  status connect();
  /// Ends the session and waits for the broker's DISCONNECT.
  status disconnect();

  /// Publishes a message, and registers its topic name at the first use. Returns when the broker
  /// has acknowledged (QoS 1 and 2) or when the message is sent (QoS 0 and -1; QoS -1 needs no
  /// session). A message that is refused because of congestion is sent again, retries_max times.
  /// With `again`, the same message is continued that the last call could not complete because the
  /// session ended.
  status publish(const topic& to, mqttsn::octets data, mqttsn::qos_level qos, bool retain,
                 bool again = false);
  /// Subscribes; `granted` receives the QoS that the broker granted.
  status subscribe(const topic& filter, mqttsn::qos_level qos, mqttsn::qos_level& granted);
  status unsubscribe(const topic& filter);

  /// Waits for the next message; `out` stays empty when none came by `deadline`, or when the client
  /// was awake and the broker has sent it to sleep again (asleep()). The session is kept alive
  /// meanwhile.
  status next(clock::time_point deadline, std::optional<delivery>& out);
  /// Acknowledges a message that the caller has made safe. It does nothing at QoS 0.
  status acknowledge(const delivery& d);
  /// Waits until `fd` can be read; the session is kept alive meanwhile.
  status wait_readable(int fd);
  /// Waits for `time`; the session is kept alive meanwhile.
  status wait(std::chrono::milliseconds time);

  /// Tells the broker that the client is now asleep: the broker keeps its messages, and counts it
  /// as lost when it is not heard for `duration_s` seconds. A message that has come and is not
  /// acknowledged yet is forgotten here, because the broker sends it again.
  status sleep(std::uint16_t duration_s);
  /// Wakes the client up. next() then gives the messages that the broker has kept. What arrived
  /// while the client was asleep is dropped, as a device without power would not have heard it.
  status wake();
  [[nodiscard]] bool asleep() const noexcept { return phase_ == phase::asleep; }
  /// True when the broker has not answered a sleeping client for as long as the client announced,
  /// so that the broker may have given up the session.
  [[nodiscard]] bool overslept() const noexcept;
  /// Waits without a look at the socket, as a sleeping client does.
  status doze(clock::time_point until) const;

  /// After this call options.stop_fd ends no wait, so that a client can disconnect after an
  /// interruption.
  void ignore_stop() noexcept { options_.stop_fd = -1; }
  /// How many PUBLISH messages the broker refused without the client waiting for an answer (QoS 0).
  [[nodiscard]] unsigned refused_count() const noexcept { return refused_count_; }
  [[nodiscard]] mqttsn::return_code refused_code() const noexcept { return refused_code_; }
  /// How many QoS 0 messages were dropped because too many waited for next().
  [[nodiscard]] unsigned overflow_count() const noexcept { return overflow_count_; }
  /// The broker as "host:port".
  [[nodiscard]] const std::string& peer() const noexcept { return peer_; }

 private:
  enum class phase {
    closed,     ///< there is no session
    connecting, ///< CONNECT is sent
    active,
    asleep, ///< the broker keeps messages, and the client does not listen
    awake,  ///< the broker sends what it kept, until its PINGRESP
  };
  /// Encodes the request into a buffer; `again` is true for a retransmission.
  using encoder = std::function<std::size_t(std::span<std::byte>, bool again)>;
  /// Returns true for the message that answers the request.
  using matcher = std::function<bool(const mqttsn::message&)>;

  // exchange.cc
  status open_socket(const sockaddr* address, socklen_t size, int family);
  status exchange(const std::string& what, const encoder& encode, const matcher& match);
  status step(clock::time_point deadline, int fd, const matcher& match, bool& matched, bool& ready);
  /// Repeats a request while the broker refuses it because of congestion, retries_max times.
  status patiently(const std::function<status()>& request);
  status keep_alive();
  /// When keep_alive() has to be called again at the latest.
  [[nodiscard]] clock::time_point keep_alive_at() const noexcept;
  status lost(const std::string& what);
  [[nodiscard]] status ended() const;
  status send(std::size_t size);
  /// How many octets one datagram to the broker may carry, as far as the kernel knows the path.
  [[nodiscard]] std::size_t fits() const;
  template <class Message> void answer(const Message& m);
  void tell(const char* verb, mqttsn::octets datagram) const;
  void tell(const std::string& line) const;
  std::uint16_t next_msg_id() noexcept;
  [[nodiscard]] bool listening() const noexcept {
    return phase_ == phase::active || phase_ == phase::awake;
  }

  // connection.cc
  status connect_once();
  status connect_with_will(mqttsn::return_code& code);
  status update_will();

  // publish.cc
  status register_name(const std::string& name, std::uint16_t& id);
  status publish_once(const topic& to, std::uint16_t id, mqttsn::octets data, mqttsn::qos_level qos,
                      bool retain);
  status release(std::uint16_t msg_id, const std::string& what);

  // receive.cc
  void handle(const mqttsn::message& m);
  void on_publish(const mqttsn::publish& p);
  void on_register(const mqttsn::register_topic& r);
  [[nodiscard]] bool waiting(const mqttsn::publish& p) const noexcept;

  // sleep.cc
  status stay_awake();
  void drop_received();

  // search.cc
  status find_gateway(sockaddr_storage& found, socklen_t& size);

  client_options options_;
  std::string peer_;
  int socket_ = -1;
  phase phase_ = phase::closed;
  bool subscribing_ = false;
  bool refused_ = false; ///< the host answered that nothing listens on the port
  std::uint16_t msg_id_ = 0;
  unsigned pings_ = 0; ///< PINGREQ messages sent since the last PINGRESP
  clock::time_point sent_at_{}, ping_at_{};
  clock::time_point heard_at_{}; ///< when the broker last sent something
  std::uint16_t sleep_s_ = 0;
  unsigned refused_count_ = 0, overflow_count_ = 0;
  mqttsn::return_code refused_code_{};
  std::vector<std::byte> out_, in_;
  std::map<std::string, std::uint16_t> ids_;   ///< topic ids that this client registered
  std::map<std::uint16_t, std::string> names_; ///< topic ids that are valid in this session
  std::set<std::uint16_t> predefined_;         ///< predefined ids that the client is subscribed to
  std::set<std::uint16_t> open_; ///< ids of QoS 2 messages with a PUBREC and without a PUBREL
  std::deque<delivery> inbox_;

  /// The message of publish() that is not completed yet.
  struct {
    std::uint16_t msg_id = 0; ///< 0: it is not sent yet
    bool dup = false;         ///< it was sent in an earlier connection
    bool received = false;    ///< its PUBREC came
  } outgoing_;
  /// Ids that a broker with a kept session cannot have open from an earlier run of the program.
  std::set<std::uint16_t> own_ids_;
};

template <class Message> void client::answer(const Message& m) {
  // The answer's own loss is harmless: the broker then repeats its request.
  static_cast<void>(send(mqttsn::encode(out_, mqttsn::message_body(m))));
}

} // namespace chainring::client
