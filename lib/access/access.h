// SPDX-License-Identifier: BSD-3-Clause
/// Access rules: who may connect, publish and subscribe where.
///
/// A rule set is read from a text file with one rule on each line, and never changes afterwards.
/// The first rule that fits decides. Where no rule fits, the line `default` decides, and without
/// that line the answer is no.
///
///     default deny
///     deny  all                 client guest*   listener 1
///     allow connect             client sensor-* from 10.0.0.0/8
///     allow publish             client sensor-* topic site/%c/#
///     allow publish,subscribe   from fd00::/8
///     allow publish             unconnected     from 10.0.0.0/8  topic alarm
///
/// A line is empty, or a comment that begins with `#`, or `default allow|deny`, or a rule: `allow`
/// or `deny`, then `all` or some of `connect`, `publish` and `subscribe` joined by commas, then any
/// of these, each at most once:
///
///   client PATTERN   The client id fits; `*` stands for any octets, `?` for one octet.
///   user PATTERN     The name that the client has proved fits in the same way.
///   anonymous        The client has proved no name.
///   unconnected      The sender publishes without a connection. Only `publish` may stand before.
///   from ADDRESS     The sender's IPv4 or IPv6 address, or a range such as 10.0.0.0/8.
///   listener NUMBER  The datagram came in at that listener, counted from 0.
///   port NUMBER      The client uses that port of the broker: the UDP port of MQTT-SN, or the TCP
///                    port of a listener for MQTT.
///   topic FILTER     The topic fits the filter (topic_pattern.h). Not together with `connect`.
///
/// A word may stand in quotes, in which `\"` is a quote and `\\` a backslash. A rule without
/// `client`, `user`, `anonymous` and `unconnected` concerns everybody.
///
/// A subscription is allowed when every topic that its filter matches may be read: the first rule
/// that covers the whole filter must allow, and no rule before it may deny a part of the filter.
///
/// **Cost.** judge() looks at the rules for this very client id and at all rules whose client
/// pattern has a wildcard or that have none; call it once for each connection. publish() and
/// subscribe() look at the rules that the verdict lists, in time linear in the topic. None of them
/// allocates.
///
/// Thread-safety: a rule set is constant, so any thread may use it. A verdict belongs to its owner.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../base/error.h"
#include "topic_pattern.h"

namespace chainring::access {

/// The longest line and the most rules of a file.
inline constexpr std::size_t line_size_max = 4096;
inline constexpr std::size_t rules_max = 65'000;

/// An IPv6 address as two numbers. An IPv4 address is its IPv4-mapped address (RFC 4291, 2.5.5.2).
struct ip_address {
  std::uint64_t high = 0; ///< the first eight octets
  std::uint64_t low = 0;  ///< the last eight octets
  [[nodiscard]] static constexpr ip_address from_ipv4(std::uint32_t address) noexcept {
    return {0, std::uint64_t{0xffff} << 32 | address};
  }
  friend constexpr bool operator==(const ip_address&, const ip_address&) noexcept = default;
};

/// Who asks.
struct sender {
  std::string_view client_id; ///< empty for a sender without a connection
  ip_address address;
  std::uint16_t listener = 0;
  std::uint16_t own_port = 0; ///< the port of the broker; 0 where the front end does not know it
  std::string_view user{}; ///< the name that the client has proved; empty when it has proved none
};

struct decision {
  bool allowed = false;
  std::uint32_t line = 0; ///< the line of the rule that decided; 0 means the default
};

/// What a rule set says about one client, in a form that publish() and subscribe() need. All zero
/// is a verdict that allows nothing; it must only be given to the rule set that made it.
class verdict {
 public:
  verdict() = default;
  /// Whether the client may connect.
  [[nodiscard]] decision connect() const noexcept { return {connect_, connect_line_}; }

 private:
  friend class rule_set;
  static constexpr std::size_t listed_max = 12;
  /// The first rules that concern the client's publishing and subscribing, in order. When more of
  /// them exist, the rules from `rest_` on are looked at one by one.
  std::array<std::uint16_t, listed_max> listed_;
  std::uint16_t listed_count_;
  std::uint16_t rest_;
  bool connect_;
  std::uint32_t connect_line_;
};

class rule_set {
 public:
  /// Reads a file. errc::invalid_argument names the file, the line and what is wrong;
  /// errc::not_found and errc::io say that the file cannot be read.
  [[nodiscard]] static result<std::shared_ptr<const rule_set>> read(const std::string& path);
  /// Does the same with a text; `name` stands for the file in errors.
  [[nodiscard]] static result<std::shared_ptr<const rule_set>> parse(std::string_view text,
                                                                     const std::string& name);

  [[nodiscard]] verdict judge(const sender& who) const noexcept;
  /// `v` is what judge() said about `who`. `topic` is a valid topic name.
  [[nodiscard]] decision publish(const verdict& v, const sender& who,
                                 std::string_view topic) const noexcept;
  /// `filter` is a valid topic filter, or the name of a topic that is to be delivered.
  [[nodiscard]] decision subscribe(const verdict& v, const sender& who,
                                   std::string_view filter) const noexcept;

  [[nodiscard]] std::size_t size() const noexcept { return rules_.size(); }
  [[nodiscard]] bool allows_by_default() const noexcept { return default_allow_; }

 private:
  enum action : std::uint8_t { may_connect = 1, may_publish = 2, may_subscribe = 4 };
  struct rule {
    bool allow = false;
    bool unconnected = false;
    bool any_client = true;
    bool any_user = true;
    bool anonymous = false;
    std::uint8_t actions = 0;
    std::uint8_t prefix_length = 0; ///< of an IPv6 address; 0 fits every address
    bool any_listener = true;
    std::uint16_t listener = 0;
    std::uint16_t own_port = 0; ///< 0 fits every port
    std::uint32_t line = 0;
    ip_address prefix;
    std::string client; ///< a pattern
    std::string user;   ///< a pattern
    topic_pattern topic;
    [[nodiscard]] bool concerns(const sender& who) const noexcept;
  };
  struct reader; // access_file.cc

  template <class F> void for_each_concerning(const sender& who, F&& fn) const noexcept;
  template <class F>
  void for_each_listed(const verdict& v, const sender& who, std::uint8_t action,
                       F&& fn) const noexcept;
  void index();

  std::vector<rule> rules_;
  /// The rules whose client pattern is one id, by that id; and all others.
  std::vector<std::pair<std::string, std::uint16_t>> by_id_;
  std::vector<std::uint16_t> general_;
  bool default_allow_ = false;
};

} // namespace chainring::access
