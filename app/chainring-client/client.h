// SPDX-License-Identifier: BSD-3-Clause
/// A blocking MQTT-SN 1.2 client that uses one UDP socket.
///
/// Every request that has an answer is sent up to 1 + retries_max times, retry_interval apart, as
/// section 6.13 of the specification says. One request is outstanding at a time. While the client
/// waits for an answer, it answers the broker's REGISTER, PINGREQ and PUBREL messages and keeps
/// incoming PUBLISH messages for next(). It acknowledges a PUBLISH only when the caller calls
/// acknowledge(), so that the caller can first make sure that the message will not be lost.
///
/// The class is not thread-safe. Its functions throw only when memory runs out.
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
};

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

struct will {
  std::string topic;
  std::string payload;
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  bool retain = false;
};

struct client_options {
  std::string host = "localhost";
  std::uint16_t port = 10000;
  std::string client_id;
  bool clean = true;
  std::uint16_t keep_alive_s = 60; ///< 0 means no keep-alive
  std::optional<client::will> will;
  std::chrono::milliseconds retry_interval{5000};
  unsigned retries_max = 3;
  int stop_fd = -1;   ///< when it becomes readable, every wait ends with outcome::interrupted
  bool debug = false; ///< print each message sent and received on standard error
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

  /// Finds the host's address and opens the socket. It sends nothing.
  status open();
  /// Begins a session, with the will if there is one. The topic ids of an earlier session are
  /// forgotten.
  status connect();
  /// Ends the session and waits for the broker's DISCONNECT.
  status disconnect();

  /// Publishes a message, and registers its topic name at the first use. Returns when the broker
  /// has acknowledged (QoS 1 and 2) or when the message is sent (QoS 0 and -1; QoS -1 needs no
  /// session).
  status publish(const topic& to, mqttsn::octets data, mqttsn::qos_level qos, bool retain);
  /// Subscribes; `granted` receives the QoS that the broker granted.
  status subscribe(const topic& filter, mqttsn::qos_level qos, mqttsn::qos_level& granted);

  /// Waits for the next message; `out` stays empty when none came by `deadline`. The session is
  /// kept alive meanwhile.
  status next(clock::time_point deadline, std::optional<delivery>& out);
  /// Acknowledges a message that the caller has made safe. It does nothing at QoS 0.
  status acknowledge(const delivery& d);
  /// Waits until `fd` can be read; the session is kept alive meanwhile.
  status wait_readable(int fd);

  /// After this call options.stop_fd ends no wait, so that a client can disconnect after an
  /// interruption.
  void ignore_stop() noexcept { options_.stop_fd = -1; }
  /// How many PUBLISH messages the broker refused without the client waiting for an answer (QoS 0).
  [[nodiscard]] unsigned refused_count() const noexcept { return refused_count_; }
  [[nodiscard]] mqttsn::return_code refused_code() const noexcept { return refused_code_; }
  /// The broker as "host:port".
  [[nodiscard]] std::string peer() const;

 private:
  /// Encodes the request into a buffer; `again` is true for a retransmission.
  using encoder = std::function<std::size_t(std::span<std::byte>, bool again)>;
  /// Returns true for the message that answers the request.
  using matcher = std::function<bool(const mqttsn::message&)>;

  status exchange(const std::string& what, const encoder& encode, const matcher& match);
  status step(clock::time_point deadline, int fd, const matcher& match, bool& matched, bool& ready);
  status keep_alive();
  status lost(const std::string& what);
  status ended() const;
  status send(std::size_t size);
  /// How many octets one datagram to the broker may carry, as far as the kernel knows the path.
  std::size_t fits() const;
  status register_name(const std::string& name, std::uint16_t& id);
  status publish_once(const topic& to, std::uint16_t id, mqttsn::octets data, mqttsn::qos_level qos,
                      bool retain);
  void handle(const mqttsn::message& m);
  void on_publish(const mqttsn::publish& p);
  void on_register(const mqttsn::register_topic& r);
  template <class Message> void answer(const Message& m);
  void tell(const char* verb, mqttsn::octets datagram) const;
  std::uint16_t next_msg_id() noexcept;

  client_options options_;
  int socket_ = -1;
  bool connected_ = false, connecting_ = false, subscribing_ = false;
  bool refused_ = false; ///< the host answered that nothing listens on the port
  std::uint16_t msg_id_ = 0;
  unsigned pings_ = 0; ///< PINGREQ messages sent since the last PINGRESP
  clock::time_point sent_at_{}, ping_at_{};
  unsigned refused_count_ = 0;
  mqttsn::return_code refused_code_{};
  std::vector<std::byte> out_, in_;
  std::map<std::string, std::uint16_t> ids_;   ///< topic ids that this client registered
  std::map<std::uint16_t, std::string> names_; ///< topic ids that are valid in this session
  std::set<std::uint16_t> predefined_;         ///< predefined ids that the client is subscribed to
  std::set<std::uint16_t> open_; ///< ids of QoS 2 messages with a PUBREC and without a PUBREL
  std::deque<delivery> inbox_;
};

} // namespace chainring::client
