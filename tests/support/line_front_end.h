// SPDX-License-Identifier: BSD-3-Clause
/// A second front end, for tests: a protocol of text lines over a transport inside the process. It
/// serves the same core as the front ends of the product, and shares nothing else with them.
///
/// A client sends lines. Every line except ACK, NACK, SKIP, REC, STOP and GO is numbered 1, 2, 3
/// ... on its connection. It is answered with "OK number" once it is durable, or with "NO number
/// reason". A PUB at QoS 0 is not answered.
///
///     CONNECT identity flags   flags: "clean" and "passing" joined by ",", or "-". OK says
///     "present"
///                              if the session goes on. A "passing" session ends with its
///                              connection.
///     CONNECT identity flags topic qos text   the same with a will; flags may also be "retain"
///                              for the will. Without a will, "keep" goes on with the present one,
///                              and "same" says that no connection was lost.
///     WILL topic qos text      replaces the will
///     WILLTOPIC topic qos      replaces all of it but the text
///     WILLTEXT text            replaces its text
///     UNWILL                   deletes the will
///     LOST                     ends the connection as one that was lost
///     SLEEP seconds            no deliveries until GO
///     SUB filter qos [bits [options]]
///                              bits: 0 to 3, shown in each MSG. options: "new" or "never" for
///                              retained messages, "published" (the retain flag goes on), "others"
///                              (nothing of its own), "id=N" (an identifier), joined by ","
///     UNSUB filter
///     PUB topic qos text       text is the rest of the line; qos is 0, 1 or 2:ID, where ID is the
///                              packet id, and may end in /N: the message expires in N seconds.
///                              Where a text (of a will, too) begins with "{", its octets up to
///                              "}" are the properties of the message. A delivery shows them again.
///                              While the first copy has no outcome, a repetition is
///                              not answered.
///     RET topic qos [text]     the same, and the message is retained; without text the topic is
///                              cleared
///     REL ID                   releases a message at QoS 2, unless it has no outcome yet
///     BYE [expiry]             expiry: the session ends so many seconds later, or now ("0")
///     ACK n  NACK n  SKIP n    delivery n is done; comes again; stays for the next connection
///     REC n                    delivery n, at QoS 2, was received: "REL n" follows once that is
///                              durable, and is answered with ACK n
///     STOP  GO                 the client takes no deliveries between STOP and GO
///
/// It gets "MSG n qos bits flags topic text" (n is 0 at QoS 0; flags is "again" if the message may
/// have been sent before, "retained", "expires" of one with properties, or "-"). At most 16 of them
/// wait for their ACK. A delivery that was received in an earlier connection comes as "REL n". The
/// client gets "DROP n" for a delivery that a policy gave up, and "GONE reason" when the core ended
/// the connection.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/hook.h"
#include "broker/broker.h"
#include "broker/front_end.h"
#include "broker/worker.h"

namespace chainring::test {

/// Lines that have reached their clients, by connection.
class line_transport {
 public:
  void arrive(unsigned connection, std::string line) {
    arrived_[connection].push_back(std::move(line));
  }
  /// Takes the oldest line for that client; empty if there is none.
  std::string next(unsigned connection) {
    auto& lines = arrived_[connection];
    if (lines.empty()) return {};
    std::string line = std::move(lines.front());
    lines.pop_front();
    return line;
  }
  /// Takes the oldest line that begins with OK or NO. Lines before it stay.
  std::string next_answer(unsigned connection) {
    auto& lines = arrived_[connection];
    const auto at = std::ranges::find_if(
        lines, [](const std::string& l) { return l.starts_with("OK ") || l.starts_with("NO "); });
    if (at == lines.end()) return {};
    std::string line = std::move(*at);
    lines.erase(at);
    return line;
  }
  [[nodiscard]] std::size_t count(unsigned connection) { return arrived_[connection].size(); }
  void forget(unsigned connection) { arrived_[connection].clear(); }

 private:
  std::map<unsigned, std::deque<std::string>> arrived_;
};

/// One worker's way to the clients: a line leaves once the mark of its burst is durable.
class line_link {
 public:
  line_link(line_transport& to, media& medium) : to_(to), medium_(medium) {}
  void send(unsigned connection, std::string line) {
    waiting_.push_back({connection, std::move(line), unmarked});
  }
  /// Everything sent since the last call waits for `mark`, and what may leave does.
  void release(mark_t mark) {
    for (auto line = waiting_.rbegin(); line != waiting_.rend() && line->mark == unmarked; ++line)
      line->mark = mark;
    while (!waiting_.empty() &&
           (medium_.durable(waiting_.front().mark) || seeded_bug("line.sent_before_mark"))) {
      to_.arrive(waiting_.front().connection, std::move(waiting_.front().text));
      waiting_.pop_front();
    }
  }

 private:
  static constexpr mark_t unmarked = ~mark_t{0};
  struct waiting_line {
    unsigned connection;
    std::string text;
    mark_t mark;
  };
  line_transport& to_;
  media& medium_;
  std::deque<waiting_line> waiting_;
};

/// The front end of one worker.
class line_front_end final : public front_end {
 public:
  static constexpr std::uint16_t window = 16;

  line_front_end(broker_worker& worker, line_transport& out, media& medium)
      : worker_(worker), out_(out, medium) {}
  void receive(unsigned connection, std::string_view line);
  /// Ends the worker's burst and sends the answers. Returns whether there was anything to do.
  bool end_burst();

  [[nodiscard]] std::uint32_t credit(std::uint32_t session) const noexcept override;
  void settled(std::span<const settlement> all) noexcept override;
  [[nodiscard]] std::size_t deliver(std::uint32_t session,
                                    std::span<const delivery_item> items) noexcept override;
  void withdrawn(std::uint32_t session, std::uint64_t ticket) noexcept override;
  void closed(std::uint32_t session, close_reason reason) noexcept override;

 private:
  struct delivery {
    std::uint64_t ticket = 0; // 0 if the place is free
    unsigned number = 0;
  };
  struct client {
    std::uint32_t session = no_session;
    unsigned requests = 0;   // lines numbered so far
    unsigned deliveries = 0; // MSGs numbered so far
    bool stopped = false;
    std::array<delivery, window> in_flight{};
  };
  using words = std::vector<std::string_view>;

  client* serving(std::uint32_t session) noexcept;
  void connect(unsigned connection, client& c, const words& w);
  bool change_will(client& c, const words& w, std::uint64_t token);
  void request(unsigned connection, client& c, const words& w, std::string_view text);
  void answer_delivery(client& c, const words& w);
  void refuse(unsigned connection, const client& c, const char* reason);
  [[nodiscard]] std::uint64_t token(unsigned connection, const client& c) const noexcept {
    return std::uint64_t{connection} << 32 | c.requests;
  }
  static constexpr std::uint64_t receipt_token = std::uint64_t{1} << 63; // with a delivery's number

  broker_worker& worker_;
  line_link out_;
  std::map<unsigned, client> clients_;
  std::map<std::uint32_t, unsigned> connections_; // by session
  std::map<std::uint64_t, bool> present_;         // CONNECTs that wait for their settlement
};

/// A broker with a line front end on each worker, all on one thread: a round lets each worker end
/// its burst.
class line_server {
 public:
  explicit line_server(std::unique_ptr<chainring::broker> b);
  /// Gives the line to the home worker of the connection's identity.
  void send(unsigned connection, const std::string& line);
  /// Front ends read each line where `by` has put it, or without that where the sender has it.
  void arrive_by(std::function<std::string_view(std::string_view)> by) { arrival_ = std::move(by); }
  /// Runs rounds until nothing is left to do.
  void settle();
  /// Runs one burst of one worker. Returns whether there was anything to do.
  bool turn(unsigned worker) { return front_ends_[worker]->end_burst(); }
  /// Sends the line, runs rounds, and returns the oldest OK or NO. MSGs stay.
  std::string ask(unsigned connection, const std::string& line);
  std::string next(unsigned connection) { return out_.next(connection); }
  [[nodiscard]] std::size_t waiting(unsigned connection) { return out_.count(connection); }
  void forget(unsigned connection) { out_.forget(connection); }
  [[nodiscard]] chainring::broker& broker() noexcept { return *broker_; }

 private:
  std::unique_ptr<chainring::broker> broker_;
  line_transport out_;
  std::vector<std::unique_ptr<line_front_end>> front_ends_;
  std::map<unsigned, unsigned> homes_; // by connection
  std::function<std::string_view(std::string_view)> arrival_;
};

} // namespace chainring::test
