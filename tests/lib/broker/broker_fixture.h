// SPDX-License-Identifier: BSD-3-Clause
/// A broker in memory, with clients that are byte strings: no ports, no time.
#pragma once
#include <deque>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <random>
#include <rte_cycles.h>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "mqttsn/gateway.h"
#include "region_fixture.h"

namespace chainring::testing_broker {

namespace sn = chainring::mqttsn;
using net::client_address;
using testing_core::tiny_layout;
using bytes = std::vector<std::byte>;

/// Keeps what was sent, by address. A datagram leaves once its mark is durable on the medium.
class recording_transport final : public net::transport {
 public:
  explicit recording_transport(media* medium = nullptr) : medium_(medium) {}
  std::span<std::byte> begin(client_address to, std::size_t size) noexcept override {
    to_ = to;
    room_.resize(size);
    return room_;
  }
  void commit(std::size_t size) noexcept override {
    waiting_.push_back(
        {to_, bytes(room_.begin(), room_.begin() + static_cast<std::ptrdiff_t>(size)), unmarked});
  }
  void release(mark_t mark) noexcept override {
    for (auto w = waiting_.rbegin(); w != waiting_.rend() && w->mark == unmarked; ++w)
      w->mark = mark;
    while (!waiting_.empty() && (medium_ == nullptr || medium_->durable(waiting_.front().mark))) {
      sent[waiting_.front().to].push_back(std::move(waiting_.front().datagram));
      waiting_.pop_front();
    }
  }
  std::map<client_address, std::deque<bytes>> sent;

 private:
  static constexpr mark_t unmarked = ~mark_t{0};
  struct waiting_datagram {
    client_address to;
    bytes datagram;
    mark_t mark;
  };
  media* medium_;
  client_address to_ = 0;
  bytes room_;
  std::deque<waiting_datagram> waiting_;
};

/// A received message with the bytes it points into.
struct received {
  bytes data;
  sn::message m;
  template <class T> const T* get() const { return m.get<T>(); }
};

template <class T> bytes encode(const T& m) {
  bytes b(2048);
  b.resize(sn::encode(b, sn::message_body(m)));
  return b;
}

inline sn::gateway_config small_gateway() {
  sn::gateway_config c;
  c.registrations_max = 256;
  // Tables that are made at each open are small, as with limit_tables().
  c.will_prompts_max = 64;
  c.nodes_max = 64;
  c.nodes_per_forwarder_max = 32;
  return c;
}

inline std::unique_ptr<sn::gateway> gateway_for(chainring::broker& b, const sn::gateway_config& c) {
  auto made = sn::gateway::create(b, c);
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return std::move(*made);
}

/// One worker's part of a round: what timers do, the burst, and what it said. True when there was
/// anything to do.
inline bool turn_of(chainring::broker& b, sn::gateway& g, unsigned worker) {
  const bool waited = g.worker(worker).judge(rte_rdtsc());
  const mark_t mark = b.worker(worker).end_burst();
  g.worker(worker).send(mark);
  return b.worker(worker).worked() || waited;
}

/// Workers share one thread here: a round lets each take its inbox and end its burst.
class bench {
 public:
  explicit bench(std::unique_ptr<chainring::broker> b,
                 const sn::gateway_config& config = small_gateway())
      : broker(std::move(b)), gateway(gateway_for(*broker, config)), out(&broker->medium()) {
    for (unsigned w = 0; w < broker->workers(); ++w)
      gateway->worker(w).attach(out);
  }
  void send(client_address from, const bytes& datagram) {
    gateway->worker(gateway->home_of(from, datagram)).receive(from, datagram);
  }
  /// One worker's part of a round. True when it found anything to do.
  bool turn(unsigned w) { return turn_of(*broker, *gateway, w); }
  template <class T> void send(client_address from, const T& m) { send(from, encode(m)); }
  void round() {
    for (unsigned w = 0; w < broker->workers(); ++w)
      turn(w);
  }
  /// Until nothing is left to do.
  void settle() {
    for (int quiet = 0, rounds = 0; quiet < 3 && rounds < 1000; ++rounds) {
      bool any = false;
      for (unsigned w = 0; w < broker->workers(); ++w)
        any |= turn(w);
      quiet = any ? 0 : quiet + 1;
    }
  }
  /// The oldest message for that client, if there is one.
  std::optional<received> next(client_address at) {
    auto& q = out.sent[at];
    if (q.empty()) return std::nullopt;
    received r;
    r.data = std::move(q.front());
    q.pop_front();
    EXPECT_EQ(sn::decode(r.data, r.m), sn::decode_status::ok);
    return r;
  }
  /// Sends, lets it happen, and expects exactly one answer, of type Answer.
  template <class Answer, class T> received ask(client_address from, const T& m) {
    send(from, m);
    settle();
    auto r = next(from);
    EXPECT_TRUE(r.has_value()) << "no answer";
    if (!r) return {};
    EXPECT_NE(r->template get<Answer>(), nullptr) << sn::to_string(r->m.type);
    return std::move(*r);
  }
  sn::return_code connect(client_address from, std::string_view id, bool clean) {
    auto r = ask<sn::connack>(from,
                              sn::connect{.flags = sn::flags{}.with_clean(clean), .client_id = id});
    return r.get<sn::connack>() ? r.get<sn::connack>()->code : sn::return_code::not_supported;
  }
  std::uint16_t register_name(client_address from, std::string_view name) {
    auto r = ask<sn::regack>(from, sn::register_topic{.msg_id = 7, .topic = name});
    EXPECT_EQ(r.get<sn::regack>()->code, sn::return_code::accepted);
    return r.get<sn::regack>()->topic_id;
  }
  std::uint16_t subscribe(client_address from, std::string_view filter, sn::qos_level qos) {
    auto r = ask<sn::suback>(
        from, sn::subscribe{.flags = sn::flags{}.with_qos(qos), .msg_id = 9, .topic = filter});
    EXPECT_EQ(r.get<sn::suback>()->code, sn::return_code::accepted);
    return r.get<sn::suback>()->topic_id;
  }
  sn::return_code publish(client_address from, std::uint16_t id, std::string_view text,
                          std::uint16_t msg_id) {
    send(from, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                           .topic_id = id,
                           .msg_id = msg_id,
                           .data = std::as_bytes(std::span(text))});
    settle();
    auto r = next(from);
    EXPECT_TRUE(r && r->get<sn::puback>());
    if (!r || !r->get<sn::puback>()) return sn::return_code::not_supported;
    EXPECT_EQ(r->get<sn::puback>()->topic_id, id);
    EXPECT_EQ(r->get<sn::puback>()->msg_id, msg_id);
    return r->get<sn::puback>()->code;
  }
  /// Takes a PUBLISH (after a REGISTER, if one comes first), acknowledges it and returns its text.
  template <class F> std::string take(client_address at, F&& before_ack) {
    auto r = next(at);
    if (r && r->get<sn::register_topic>()) {
      const auto* g = r->get<sn::register_topic>();
      send(at, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
      settle();
      r = next(at);
    }
    if (!r || !r->get<sn::publish>()) return "(nothing)";
    const auto* p = r->get<sn::publish>();
    std::string text(reinterpret_cast<const char*>(p->data.data()), p->data.size());
    if (p->flags.qos() == sn::qos_level::one) {
      before_ack(text);
      send(at, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
      settle();
    }
    return text;
  }
  std::string take(client_address at) {
    return take(at, [](const std::string&) {});
  }

  std::unique_ptr<chainring::broker> broker;
  std::unique_ptr<sn::gateway> gateway;
  recording_transport out;
};

inline store_layout small_layout() {
  store_layout l;
  l.sessions_max = 64;
  l.subscriptions_max = 128;
  l.groups_max = 4;
  l.retained_max = 16;
  return l;
}

inline broker_config small_config(unsigned workers = 1) {
  broker_config c;
  c.workers = workers;
  c.home_seed = 1; // the same homes at each open: what is explored must repeat
  c.queue_slots = 15;
  c.topics_max = 256;
  c.volatile_messages_max = 64;
  testing_core::limit_tables(c);
  return c;
}

inline broker_config tiny_config(unsigned workers = 1) {
  broker_config c = small_config(workers);
  c.queue_slots = 7;
  c.topics_max = 16;
  c.volatile_messages_max = 16;
  return c;
}

/// A broker on a medium that is there already; the region is created where `fresh`.
inline result<std::unique_ptr<chainring::broker>>
broker_on(std::unique_ptr<media> on, const broker_config& config, bool fresh,
          const store_layout& layout = small_layout()) {
  return testing_core::broker_on(std::move(on), config, fresh, layout);
}

} // namespace chainring::testing_broker
