// SPDX-License-Identifier: BSD-3-Clause
// Both handshakes of QoS 2 over MQTT-SN, crashed at every point.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "broker_fixture.h"
#include "crash_bounds.h"
#include "gateway_scenarios.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::testing_broker {
namespace {

using test::explore;
using test::history;
using test::scenario;
using test::verdict;

constexpr client_address subscriber = 300, publisher = 301;
constexpr const char* topic = "t";
constexpr std::uint16_t packet_id = 7; ///< of every message, one after the other
constexpr auto qos2 = sn::flags{}.with_qos(sn::qos_level::two);

constexpr int releasing = history::first_own_kind;
constexpr int released = history::first_own_kind + 1;
constexpr int receiving = history::first_own_kind + 2;
constexpr int received_it = history::first_own_kind + 3;

std::string text_of(std::uint64_t id) {
  return "message " + std::to_string(id) + std::string(80, static_cast<char>('a' + id % 26));
}

/// A broker and its two clients.
struct wire {
  std::unique_ptr<bench> b;
  std::uint16_t topic_id = 0;

  bool open(media& m, bool fresh, std::string& why) {
    auto made =
        testing_core::broker_in_order(test::join_life(m), tiny_config(), fresh, tiny_layout(), why);
    if (made == nullptr) return false;
    b = std::make_unique<bench>(std::move(made));
    return true;
  }
  template <class Answer, class T> bool ask(client_address from, const T& m) {
    b->send(from, m);
    b->settle();
    const auto r = b->next(from);
    return r && r->template get<Answer>() != nullptr;
  }
  bool connect(client_address from, const char* id) {
    return ask<sn::connack>(from, sn::connect{.client_id = id});
  }
  bool connect_publisher() {
    if (!connect(publisher, "publisher")) return false;
    b->send(publisher, sn::register_topic{.msg_id = 1, .topic = topic});
    b->settle();
    const auto r = b->next(publisher);
    if (!r || r->get<sn::regack>() == nullptr) return false;
    topic_id = r->get<sn::regack>()->topic_id;
    return true;
  }
  bool publish(std::uint64_t id, bool dup = false) {
    const std::string text = text_of(id);
    return ask<sn::pubrec>(publisher, sn::publish{.flags = qos2.with_dup(dup),
                                                  .topic_id = topic_id,
                                                  .msg_id = packet_id,
                                                  .data = std::as_bytes(std::span(text))});
  }
  bool release() { return ask<sn::pubcomp>(publisher, sn::pubrel{.msg_id = packet_id}); }

  /// Finishes the publisher's exchange that a crash cut off.
  verdict finish_publishing(const history& h, history* life) {
    const auto begun = h.ids(history::begun_kind);
    if (begun.empty()) return {};
    const std::uint64_t last = *std::ranges::max_element(begun);
    if (h.has(released, last)) return {};
    if (!h.has(releasing, last)) {
      if (!publish(last, true) || !publish(last, true)) return "a repetition got no PUBREC";
      if (life != nullptr) {
        life->ack(last);
        life->promise(releasing, last);
      }
    }
    if (!release()) return "a PUBREL that is sent again got no PUBCOMP";
    if (life != nullptr) life->promise(released, last);
    return {};
  }

  /// Takes what the subscriber is sent until nothing comes, and ends each exchange.
  verdict take_all(const history& h, history* life, std::vector<std::uint64_t>& got) {
    b->send(subscriber, sn::connect{.client_id = "subscriber"});
    b->settle();
    std::uint64_t now = 0; // the message under way
    while (auto r = b->next(subscriber)) {
      if (const auto* g = r->get<sn::register_topic>()) {
        b->send(subscriber, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
      } else if (const auto* p = r->get<sn::publish>()) {
        const std::string text(reinterpret_cast<const char*>(p->data.data()), p->data.size());
        now = text.starts_with("message ") ? std::stoul(text.substr(8)) : 0;
        if (now == 0 || text != text_of(now)) return "torn: " + text;
        if (!h.begun(now)) return "a ghost: " + text;
        if (h.has(received_it, now)) return "sent again behind its PUBREL: " + text;
        if (std::ranges::count(got, now) != 0) return "doubled: " + text;
        got.push_back(now);
        if (life != nullptr) life->promise(receiving, now);
        b->send(subscriber, sn::pubrec{.msg_id = p->msg_id});
      } else if (const auto* l = r->get<sn::pubrel>()) {
        if (life != nullptr && now != 0) life->promise(received_it, now);
        b->send(subscriber, sn::pubcomp{.msg_id = l->msg_id});
      }
      b->settle();
    }
    return {};
  }
};

} // namespace

scenario exactly_once_on_the_wire() {
  scenario s;
  s.name = "broker: both handshakes of QoS 2 over MQTT-SN";
  s.size = 128 << 10;
  s.setup = [](media& m, history& h) {
    std::string why;
    wire w;
    if (!w.open(m, true, why)) return h.fail(why);
    if (!w.connect(subscriber, "subscriber") || !w.connect(publisher, "publisher") ||
        !w.ask<sn::suback>(subscriber, sn::subscribe{.flags = qos2, .msg_id = 1, .topic = topic}))
      h.fail("no clients");
  };
  s.run = [](media& m, history& h) {
    std::string why;
    wire w;
    if (!w.open(m, false, why)) return h.fail(why);
    if (!w.connect_publisher()) return h.fail("no publisher");
    for (std::uint64_t id = 1; id <= 2; ++id) {
      h.begin(id);
      if (!w.publish(id)) return h.fail("no PUBREC");
      h.ack(id);
      if (!w.publish(id, true)) return h.fail("a repetition got no PUBREC");
      h.promise(releasing, id);
      if (!w.release()) return h.fail("no PUBCOMP");
      h.promise(released, id);
    }
    std::vector<std::uint64_t> got;
    if (verdict bad = w.take_all(h, &h, got)) return h.fail(*bad);
    if (got.size() != 2) h.fail("not all messages came");
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    wire w;
    if (!w.open(m, false, why)) return "does not open: " + why;
    if (!w.connect_publisher()) return "no publisher";
    if (verdict bad = w.finish_publishing(h, nullptr)) return bad;
    std::vector<std::uint64_t> got;
    if (verdict bad = w.take_all(h, nullptr, got)) return bad;
    for (const std::uint64_t id : h.ids(history::begun_kind))
      if (std::ranges::count(got, id) == 0 && !h.has(receiving, id))
        return "lost: " + std::to_string(id);
    const auto live = w.b->broker->message_statistics().live;
    if (live != 0) return std::to_string(live) + " messages are live that nothing reaches";
    return {};
  };
  s.continue_after = [](media& m, history& h) {
    std::string why;
    wire w;
    if (!w.open(m, false, why)) return h.fail("does not open again: " + why);
    if (!w.connect_publisher()) return h.fail("no publisher");
    if (verdict bad = w.finish_publishing(h, &h)) return h.fail(*bad);
    std::vector<std::uint64_t> got;
    if (verdict bad = w.take_all(h, &h, got)) h.fail(*bad);
  };
  return s;
}

namespace {

TEST(CrashGateway, AMessageAtQosTwoIsDeliveredOnceWhateverACrashCutsOff) {
  EXPECT_TRUE(explore(exactly_once_on_the_wire(), testing_core::crash_bounds()).ok());
}

// The tester tested: closings and receipts that are not durable, and identifiers that are not
// found.
TEST(CrashGateway, AnAnswerAtQosTwoThatPromisesTooMuchIsFound) {
  for (const char* bug : {"broker.identifier_not_flushed", "broker.receipt_not_flushed",
                          "broker.identifiers_forgotten"})
    testing_core::expect_bug(bug, exactly_once_on_the_wire());
}

} // namespace
} // namespace chainring::testing_broker
