// SPDX-License-Identifier: BSD-3-Clause
/// A blocking MQTT-SN 1.2 client over one UDP socket.
///
/// Every request that has an answer is sent up to 1 + retries_max times, retry_interval apart, as
/// section 6.13 of the specification says; one request is outstanding at a time. While it waits,
/// the client answers the broker's REGISTER, PINGREQ and PUBREL, and keeps incoming PUBLISHes for
/// next(). It acknowledges a PUBLISH only when it is told to, so that the caller can first make
/// sure that the message will not be lost.
///
/// Not thread-safe. Nothing throws but for lack of memory.
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
  no_answer,    ///< nothing came back in all attempts
  rejected,     ///< the broker refused, with `code`
  disconnected, ///< the broker ended the session; connect() begins another
  interrupted,  ///< options.stop_fd became readable
  failed,       ///< the socket or the message: another attempt would not help
};

struct [[nodiscard]] status {
  outcome what = outcome::ok;
  mqttsn::return_code code{};
  std::string message; ///< a sentence; empty where ok
  explicit operator bool() const noexcept { return what == outcome::ok; }
};

/// A topic or filter as the protocol can name it.
struct topic {
  mqttsn::topic_id_type type = mqttsn::topic_id_type::normal;
  std::uint16_t id = 0; ///< predefined and short ones
  std::string name;     ///< what people call it; a predefined id's is its number

  static topic named(std::string name);
  static topic predefined(std::uint16_t id);
  /// `name` has two octets.
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
  std::uint16_t keep_alive_s = 60; ///< 0: none
  std::optional<client::will> will;
  std::chrono::milliseconds retry_interval{5000};
  unsigned retries_max = 3;
  int stop_fd = -1;   ///< readable: every wait ends with outcome::interrupted
  bool debug = false; ///< each message sent and received is told on standard error
};

/// A message that came in.
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

  /// Finds the host and opens the socket. Nothing is sent.
  status open();
  /// Begins a session, with the will where there is one. Topic ids of an earlier one are forgotten.
  status connect();
  /// Ends the session and waits for the broker's word that it has.
  status disconnect();

  /// Publishes, registering a name at first use. Returns when the broker has acknowledged (QoS 1
  /// and 2) or the message was sent (QoS 0 and -1; -1 needs no session).
  status publish(const topic& to, mqttsn::octets data, mqttsn::qos_level qos, bool retain);
  /// Subscribes; `granted` is the broker's QoS.
  status subscribe(const topic& filter, mqttsn::qos_level qos, mqttsn::qos_level& granted);

  /// The next message, or none by `deadline`. Keeps the session alive meanwhile.
  status next(clock::time_point deadline, std::optional<delivery>& out);
  /// Tells the broker that the message is safe. Nothing at QoS 0.
  status acknowledge(const delivery& d);
  /// Waits until `fd` can be read, keeping the session alive.
  status wait_readable(int fd);

  /// From here on options.stop_fd ends nothing: for the farewell after an interruption.
  void ignore_stop() noexcept { options_.stop_fd = -1; }
  /// PUBLISHes that the broker refused although nothing waited for an answer (QoS 0).
  [[nodiscard]] unsigned refused_count() const noexcept { return refused_count_; }
  [[nodiscard]] mqttsn::return_code refused_code() const noexcept { return refused_code_; }
  /// "host:port".
  [[nodiscard]] std::string peer() const;

 private:
  /// Encodes the request into a buffer, again for a retransmission.
  using encoder = std::function<std::size_t(std::span<std::byte>, bool again)>;
  /// True where the message is the answer that is waited for.
  using matcher = std::function<bool(const mqttsn::message&)>;

  status exchange(const std::string& what, const encoder& encode, const matcher& match);
  status step(clock::time_point deadline, int fd, const matcher& match, bool& matched, bool& ready);
  status keep_alive();
  status lost(const std::string& what);
  status ended() const;
  status send(std::size_t size);
  /// Octets of one datagram on the way to the broker, as far as the system knows.
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
  bool refused_ = false; ///< the host said that nothing listens on the port
  std::uint16_t msg_id_ = 0;
  unsigned pings_ = 0; ///< sent since the last PINGRESP
  clock::time_point sent_at_{}, ping_at_{};
  unsigned refused_count_ = 0;
  mqttsn::return_code refused_code_{};
  std::vector<std::byte> out_, in_;
  std::map<std::string, std::uint16_t> ids_;   ///< names registered by us
  std::map<std::uint16_t, std::string> names_; ///< topic ids in force in this session
  std::set<std::uint16_t> predefined_;         ///< subscribed to
  std::set<std::uint16_t> open_;               ///< QoS 2 messages acknowledged, not released yet
  std::deque<delivery> inbox_;
};

} // namespace chainring::client
