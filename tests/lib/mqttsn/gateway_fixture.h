// SPDX-License-Identifier: BSD-3-Clause
/// A broker and a gateway in memory, behind a network with limits: room for a number of datagrams,
/// a longest datagram, links that stand still, and a port that is not read yet.
#pragma once
#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/broker/broker_fixture.h"

namespace chainring::testing_gateway {

using namespace testing_broker;

constexpr auto qos0 = sn::flags{}.with_qos(sn::qos_level::zero);
constexpr auto qos1 = sn::flags{}.with_qos(sn::qos_level::one);
constexpr auto qos2 = sn::flags{}.with_qos(sn::qos_level::two);

/// The transport of one worker. Released datagrams leave at once, or when the link moves again.
class narrow_transport final : public net::transport {
 public:
  explicit narrow_transport(recording_transport& wire) : wire_(wire) {}
  std::uint32_t room = std::numeric_limits<std::uint32_t>::max(); ///< datagrams that may wait
  std::size_t longest = std::numeric_limits<std::size_t>::max();
  std::map<client_address, std::size_t> longest_to; ///< for clients behind another interface
  bool stands_still = false;
  std::uint64_t refused = 0; ///< how often begin() was called without credit
  std::size_t most = 0;      ///< the most datagrams that ever waited

  [[nodiscard]] std::uint32_t credit(client_address) const noexcept override {
    return room - static_cast<std::uint32_t>(std::min<std::size_t>(room, waiting()));
  }
  [[nodiscard]] std::size_t size_max(client_address to) const noexcept override {
    const auto own = longest_to.find(to);
    return own == longest_to.end() ? longest : own->second;
  }
  [[nodiscard]] std::uint32_t position(client_address) const noexcept override {
    return left_ + static_cast<std::uint32_t>(link_.size());
  }
  [[nodiscard]] bool passed(client_address, std::uint32_t position) const noexcept override {
    return static_cast<std::int32_t>(left_ - position) >= 0;
  }
  std::span<std::byte> begin(client_address to, std::size_t size) noexcept override {
    EXPECT_LE(size, size_max(to)) << "the datagram is longer than its interface carries";
    if (credit(to) == 0) {
      ++refused;
      return {};
    }
    to_ = to;
    open_.resize(size);
    return open_;
  }
  void commit(std::size_t size) noexcept override {
    open_.resize(size);
    staged_.emplace_back(to_, open_);
    most = std::max(most, waiting());
  }
  void release(mark_t) noexcept override {
    for (auto& s : staged_)
      link_.push_back(std::move(s));
    staged_.clear();
    if (!stands_still) go_on();
  }
  /// Makes the link move again, so that waiting datagrams leave.
  void go_on() {
    left_ += static_cast<std::uint32_t>(link_.size());
    for (auto& s : link_)
      wire_.sent[s.first].push_back(std::move(s.second));
    link_.clear();
  }
  [[nodiscard]] std::size_t waiting() const noexcept { return staged_.size() + link_.size(); }

 private:
  recording_transport& wire_;
  client_address to_ = 0;
  bytes open_;
  std::deque<std::pair<client_address, bytes>> staged_, link_;
  std::uint32_t left_ = 0;
};

/// A port that has been read up to a given moment.
struct stated_hearing final : net::hearing {
  std::uint64_t until = std::numeric_limits<std::uint64_t>::max();
  [[nodiscard]] std::uint64_t heard_until(client_address) const noexcept override { return until; }
};

/// An event that the core reported to its operator.
struct reported_event {
  broker_event::kind what;
  std::string identity;
  std::uint64_t count, more;
};

class gateway_bench : public bench {
 public:
  explicit gateway_bench(std::unique_ptr<chainring::broker> b, const sn::gateway_config& config)
      : bench(std::move(b), config) {
    for (unsigned w = 0; w < broker->workers(); ++w) {
      links.push_back(std::make_unique<narrow_transport>(out));
      gateway->worker(w).attach(*links[w], &heard);
    }
    broker->observe(
        [](void* self, const broker_event& e) noexcept {
          static_cast<gateway_bench*>(self)->events.push_back(
              {e.what, std::string(e.identity), e.count, e.more});
        },
        this);
  }
  std::vector<reported_event> events_of(broker_event::kind what) const {
    std::vector<reported_event> found;
    std::ranges::copy_if(events, std::back_inserter(found),
                         [what](const reported_event& t) { return t.what == what; });
    return found;
  }
  /// Sends a datagram that was received at the given time.
  template <class T> void send_at(std::uint64_t tsc, client_address from, const T& m) {
    const bytes datagram = encode(m);
    gateway->worker(gateway->home_of(from, datagram)).receive(from, datagram, tsc);
  }
  void send_connect(client_address from, const std::string& id, bool clean = true) {
    send(from, sn::connect{.flags = sn::flags{}.with_clean(clean), .client_id = id});
  }
  void send_publish(client_address from, std::uint16_t id, std::string_view text,
                    std::uint16_t msg_id, sn::flags with = qos1) {
    send(from, sn::publish{.flags = with,
                           .topic_id = id,
                           .msg_id = msg_id,
                           .data = std::as_bytes(std::span(text))});
  }
  void send_subscribe(client_address from, std::string_view filter, std::uint16_t msg_id = 1) {
    send(from, sn::subscribe{.flags = qos1, .msg_id = msg_id, .topic = filter});
  }
  /// Returns everything that came for that client, and forgets it.
  std::vector<received> all(client_address at) {
    std::vector<received> list;
    while (auto r = next(at))
      list.push_back(std::move(*r));
    return list;
  }
  /// Returns how many of the messages that came have that type.
  template <class T> std::size_t count(client_address at) {
    return static_cast<std::size_t>(
        std::ranges::count_if(all(at), [](const received& r) { return r.get<T>() != nullptr; }));
  }
  /// Returns a client id whose home is that worker.
  std::string id_at(unsigned home, const std::string& start) const {
    for (int i = 0;; ++i)
      if (std::string id = start + std::to_string(i);
          broker->home_of(id) == home % broker->workers())
        return id;
  }
  [[nodiscard]] bool connected(std::string_view identity) const {
    return std::ranges::any_of(
        sessions(), [&](const session_info& s) { return s.identity == identity && s.connected; });
  }
  [[nodiscard]] std::vector<session_info> sessions() const {
    std::vector<session_info> list;
    (void)broker->sessions(0, 1u << 20, list);
    return list;
  }

  std::vector<std::unique_ptr<narrow_transport>> links; ///< indexed by worker
  stated_hearing heard;
  std::vector<reported_event> events;
};

/// Tests may change the members before they call start().
class GatewayTest : public testing::TestWithParam<unsigned> {
 protected:
  broker_config config = small_config(workers_of_test());
  sn::gateway_config gateway = small_gateway();
  store_layout layout = small_layout();
  std::uint64_t size = 4 << 20;
  std::unique_ptr<gateway_bench> b;

  void start() {
    auto made = broker_on(memory_media(size, durability_class::process), config, true, layout);
    ASSERT_TRUE(made) << made.error().message;
    b = std::make_unique<gateway_bench>(std::move(*made), gateway);
  }
  void SetUp() override { start(); }
  static unsigned workers_of_test() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    return info != nullptr && info->value_param() != nullptr ? GetParam() : 1;
  }
};

} // namespace chainring::testing_gateway
