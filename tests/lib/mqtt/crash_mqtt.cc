// SPDX-License-Identifier: BSD-3-Clause
// Clients of MQTT crashed at every point, in both versions: what was acknowledged to them is there
// after the crash, and what was delivered exactly once is not delivered again. The front end is the
// product's, with its codec and its outboxes; only the connections are byte strings.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lib/broker/crash_bounds.h"
#include "lib/broker/region_fixture.h"
#include "support/crash_case.h"
#include "support/eal_main.h"
#include "support/explorer.h"
#include "wire_world.h"

namespace chainring::mqtt {
namespace {

using test::explore;
using test::history;
using test::scenario;
using test::verdict;

constexpr std::uint32_t subscriber = 0, publisher = 1, watcher = 2;
constexpr const char* topic = "a/long/topic/name/of/more/than/inline";
constexpr int settled = history::first_own_kind; ///< a request was answered
constexpr int finished = settled + 1; ///< the subscriber need not be given a message again

broker_config tiny() {
  broker_config c;
  c.workers = 1;
  c.home_seed = 1; // the same at each open: what is explored must repeat
  c.queue_slots = 7;
  c.topics_max = 16;
  c.volatile_messages_max = 16;
  c.will_grace_s = 0; // a client that was connected at the crash is lost at the open
  testing_core::limit_tables(c);
  return c;
}

std::unique_ptr<world> open(media& m, bool fresh, version v, std::string& why) {
  auto made = testing_core::broker_in_order(test::join_life(m), tiny(), fresh,
                                            testing_core::tiny_layout(), why);
  return made == nullptr ? nullptr : std::make_unique<world>(std::move(made), v);
}

/// A broker with a publisher that is connected, or nothing, and then the history has failed.
std::unique_ptr<world> with_publisher(media& m, history& h, version v,
                                      const std::optional<will>& testament = {}) {
  std::string why;
  auto w = open(m, false, v, why);
  bool present = false;
  if (w == nullptr || !w->connect(publisher, "publisher", present, testament)) {
    h.fail("no publisher " + why);
    return nullptr;
  }
  return w;
}

/// A broker whose subscriber is back, or nothing, and then what is wrong.
std::unique_ptr<world> with_subscriber(media& m, version v, std::string& why) {
  auto w = open(m, false, v, why);
  if (w == nullptr) {
    why = "does not open: " + why;
    return nullptr;
  }
  w->settle(); // wills are sent
  bool present = false;
  if (w->connect(subscriber, "subscriber", present) && present) return w;
  why = "the session is lost";
  return nullptr;
}

/// The life after a crash, in which nobody does anything.
auto open_again(version v) {
  return [=](media& m, history& h) {
    std::string why;
    auto w = open(m, false, v, why);
    if (!w) return h.fail("does not open again: " + why);
    w->settle();
  };
}

std::string text_of(std::uint64_t id) {
  return "message " + std::to_string(id) + std::string(80, static_cast<char>('a' + id % 26));
}
std::uint64_t id_of(octets payload) {
  const std::string text(reinterpret_cast<const char*>(payload.data()), payload.size());
  const std::uint64_t id = text.starts_with("message ") ? std::stoul(text.substr(8)) : 0;
  return text == text_of(id) ? id : 0;
}

/// Message `id`, with its number as the packet identifier, and `text` as its content.
mqtt::publish message_of(const world& w, std::uint64_t id, qos_level qos, const std::string& text,
                         bool dup = false) {
  mqtt::publish m{.dup = dup,
                  .qos = qos,
                  .packet_id = static_cast<std::uint16_t>(id),
                  .topic = topic,
                  .payload = std::as_bytes(std::span(text))};
  if (w.v5()) m.properties.content_type = "text";
  return m;
}

/// Publishes message `id`. True when it was acknowledged, at QoS 2 by PUBREC.
bool publish_as(world& w, std::uint64_t id, qos_level qos, bool dup = false) {
  const std::string text = text_of(id);
  const auto packet_id = static_cast<std::uint16_t>(id);
  w.send(publisher, message_of(w, id, qos, text, dup));
  if (qos == qos_level::one) {
    const auto* r = w.take<puback>(publisher);
    return r != nullptr && r->packet_id == packet_id && r->reason == reason_code::success;
  }
  const auto* r = w.take<pubrec>(publisher);
  return r != nullptr && r->packet_id == packet_id && r->reason == reason_code::success;
}

/// Takes what the subscriber is given until nothing comes, and ends every exchange. `ended` is told
/// of each message that the subscriber need not be given again: at QoS 1 before it acknowledges it,
/// at QoS 2 once the broker has sent PUBREL.
template <class Ended>
verdict take_all(world& w, const history& h, std::vector<std::uint64_t>& got, Ended&& ended) {
  std::map<std::uint16_t, std::uint64_t> received; // by packet identifier
  while (const message* m = w.next(subscriber)) {
    if (const auto* p = m->get<publish>()) {
      const std::uint64_t id = id_of(p->payload);
      if (id == 0) return "torn";
      if (!h.begun(id)) return "ghost: " + std::to_string(id);
      if (w.v5() && p->properties.content_type != std::optional<std::string_view>("text"))
        return "without its properties: " + std::to_string(id);
      got.push_back(id);
      const std::uint16_t packet_id = p->packet_id;
      if (p->qos == qos_level::two) {
        received[packet_id] = id;
        w.send(subscriber, pubrec{.packet_id = packet_id});
      } else {
        ended(id);
        w.send(subscriber, puback{.packet_id = packet_id});
      }
    } else if (const auto* r = m->get<pubrel>()) {
      const std::uint16_t packet_id = r->packet_id;
      if (received.contains(packet_id)) ended(received[packet_id]);
      w.send(subscriber, pubcomp{.packet_id = packet_id});
    } else {
      return std::string("unexpected: ") + to_string(m->type);
    }
  }
  return {};
}
verdict take_all(world& w, const history& h, std::vector<std::uint64_t>& got) {
  return take_all(w, h, got, [](std::uint64_t) {});
}

std::string name_of(const char* what, version v) {
  return std::string(what) + ", " + to_string(v);
}

// A subscriber with a session that lasts, gone.
auto setup_of(version v, qos_level qos) {
  return [=](media& m, history& h) {
    std::string why;
    auto w = open(m, true, v, why);
    if (!w) return h.fail(why);
    bool present = false;
    if (!w->connect(subscriber, "subscriber", present) || !w->subscribe(subscriber, topic, qos))
      return h.fail("no subscriber");
    w->hang_up(subscriber);
  };
}

// Messages at QoS 1 to a session that comes back in the middle. The publisher repeats the last one.
scenario acknowledged_messages(version v) {
  scenario s;
  s.name = name_of("mqtt: messages at QoS 1", v);
  s.size = 128 << 10;
  s.setup = setup_of(v, qos_level::one);
  s.run = [=](media& m, history& h) {
    auto w = with_publisher(m, h, v);
    if (!w) return;
    bool present = false;
    for (std::uint64_t id = 1; id <= 3; ++id) {
      h.begin(id);
      if (!publish_as(*w, id, qos_level::one)) return h.fail("a message was refused");
      h.ack(id);
    }
    std::vector<std::uint64_t> got;
    if (!w->connect(subscriber, "subscriber", present) || !present) return h.fail("no session");
    if (verdict bad = take_all(*w, h, got, [&](std::uint64_t id) { h.promise(finished, id); }))
      return h.fail(*bad);
    h.begin(4);
    if (publish_as(*w, 4, qos_level::one)) h.ack(4);
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto w = with_subscriber(m, v, why);
    if (!w) return why;
    std::vector<std::uint64_t> got;
    if (verdict bad = take_all(*w, h, got)) return bad;
    for (const std::uint64_t id : h.ids(history::acked))
      if (!h.has(finished, id) && std::ranges::count(got, id) == 0)
        return "lost: " + std::to_string(id);
    if (!std::ranges::is_sorted(got)) return "out of order";
    return {};
  };
  s.continue_after = [=](media& m, history& h) {
    auto w = with_publisher(m, h, v);
    if (!w) return;
    const bool again = h.begun(5);
    if (!again) h.begin(5);
    if (publish_as(*w, 5, qos_level::one, again)) h.ack(5);
  };
  return s;
}

// The medium reaches one mark after another, as that of class `file` does. An answer leaves behind
// the mark of the burst that made it.
scenario answers_behind_marks(version v) {
  scenario s = acknowledged_messages(v);
  s.name = name_of("mqtt: answers leave behind their marks", v);
  s.run = [=](media& m, history& h) {
    auto w = with_publisher(m, h, v);
    if (!w) return;
    auto& medium = static_cast<sim_media&>(w->core().medium());
    std::uint64_t answered = 0;
    const auto burst = [&] {
      w->round();
      while (const auto* r = w->take<puback>(publisher)) {
        h.ack(r->packet_id);
        ++answered;
      }
    };
    medium.hold_marks();
    mark_t reached = medium.mark();
    for (std::uint64_t id = 1; id <= 2; ++id) { // two marks are on their way
      const std::string text = text_of(id);
      h.begin(id);
      w->put(publisher, message_of(*w, id, qos_level::one, text));
      burst();
    }
    if (answered != 0) return; // the explorer says what is wrong with that
    for (const mark_t last = medium.mark(); reached < last;) {
      medium.reach_mark(++reached);
      burst();
    }
    if (answered != 2) h.fail("the answers have not arrived behind their marks");
    medium.reach_every_mark();
  };
  return s;
}

// Messages at QoS 2, from PUBLISH to PUBCOMP on both sides. A publisher that does not know what
// became of its message sends it again with the same packet identifier, and the subscriber has it
// once.
scenario exactly_once(version v) {
  const auto deliver = [](world& w, history& h, std::uint64_t id, bool dup) {
    if (!h.begun(id)) h.begin(id);
    if (!publish_as(w, id, qos_level::two, dup)) return h.fail("a message was refused");
    h.ack(id);
    w.send(publisher, pubrel{.packet_id = static_cast<std::uint16_t>(id)});
    if (w.take<pubcomp>(publisher) == nullptr) return h.fail("no PUBCOMP");
    h.promise(settled, id);
  };
  scenario s;
  s.name = name_of("mqtt: messages at QoS 2", v);
  s.size = 128 << 10;
  s.setup = setup_of(v, qos_level::two);
  s.run = [=](media& m, history& h) {
    auto w = with_publisher(m, h, v);
    if (!w) return;
    bool present = false;
    deliver(*w, h, 1, false);
    if (!w->connect(subscriber, "subscriber", present) || !present) return h.fail("no session");
    std::vector<std::uint64_t> got;
    if (verdict bad = take_all(*w, h, got, [&](std::uint64_t id) { h.promise(finished, id); }))
      return h.fail(*bad);
    deliver(*w, h, 2, false);
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto w = open(m, false, v, why);
    if (!w) return "does not open: " + why;
    bool present = false;
    // The publisher goes on with what it had begun.
    const auto begun = h.ids(history::begun_kind);
    if (!begun.empty() && !h.has(settled, begun.back())) {
      const std::uint64_t id = begun.back();
      if (!w->connect(publisher, "publisher", present)) return "no publisher";
      if (!h.is_acked(id) && !publish_as(*w, id, qos_level::two, true))
        return "a message that is sent again is refused";
      w->send(publisher, pubrel{.packet_id = static_cast<std::uint16_t>(id)});
      if (w->take<pubcomp>(publisher) == nullptr) return "PUBREL has no answer";
    }
    if (!w->connect(subscriber, "subscriber", present) || !present) return "the session is lost";
    std::vector<std::uint64_t> got;
    if (verdict bad = take_all(*w, h, got)) return bad;
    for (const std::uint64_t id : begun) {
      const auto times = std::ranges::count(got, id);
      if (times > 1) return "delivered twice: " + std::to_string(id);
      if (times != 0 && h.has(finished, id)) return "delivered again: " + std::to_string(id);
    }
    if (!begun.empty() && begun.back() == 2 && std::ranges::count(got, 2u) == 0) return "lost: 2";
    return {};
  };
  s.continue_after = open_again(v);
  return s;
}

// What a server promises beside messages: sessions, subscriptions, retained messages and wills.
scenario requests(version v) {
  scenario s;
  s.name = name_of("mqtt: subscriptions, retained messages and wills", v);
  s.size = 128 << 10;
  s.setup = setup_of(v, qos_level::one);
  s.run = [=](media& m, history& h) {
    const std::string last = text_of(2);
    h.begin(2);
    will testament{
        .topic = topic, .payload = std::as_bytes(std::span(last)), .qos = qos_level::one};
    if (v == version::v5) testament.properties.content_type = "text";
    auto w = with_publisher(m, h, v, testament);
    if (!w) return;
    h.ack(2);
    const std::string text = text_of(1);
    h.begin(1);
    w->send(publisher, mqtt::publish{.qos = qos_level::one,
                                     .retain = true,
                                     .packet_id = 1,
                                     .topic = "kept",
                                     .payload = std::as_bytes(std::span(text))});
    if (w->take<puback>(publisher) == nullptr) return h.fail("a retained message was refused");
    h.ack(1);
    bool present = false;
    if (!w->connect(watcher, "watcher", present) || !w->subscribe(watcher, "w/#", qos_level::one))
      return h.fail("no watcher");
    h.promise(settled, 0);
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto w = with_subscriber(m, v, why);
    if (!w) return why;
    bool present = false;
    std::vector<std::uint64_t> got;
    if (verdict bad = take_all(*w, h, got)) return bad;
    if (std::ranges::count(got, 2u) > 1) return "the will was sent twice";
    if (h.is_acked(2) && got.empty()) return "the will is lost";
    if (!w->subscribe(subscriber, "kept", qos_level::one)) return "SUBSCRIBE is refused";
    const auto* kept = w->take<publish>(subscriber);
    if (kept != nullptr && (id_of(kept->payload) != 1 || !kept->retain)) return "torn: retained";
    if (h.is_acked(1) && kept == nullptr) return "the retained message is lost";
    if (!w->connect(watcher, "watcher", present)) return "no watcher";
    if (h.has(settled, 0) && (!present || w->core().subscription_count() != 3))
      return "the watcher's session or subscription is lost";
    return {};
  };
  s.continue_after = open_again(v);
  return s;
}

TEST(CrashMqtt, WhatIsAcknowledgedAtQos1IsDelivered) {
  for (const version v : {version::v3_1_1, version::v5})
    EXPECT_TRUE(explore(acknowledged_messages(v), testing_core::crash_bounds()).ok());
}
TEST(CrashMqtt, WhatIsAcknowledgedAtQos2IsDeliveredOnce) {
  for (const version v : {version::v3_1_1, version::v5})
    EXPECT_TRUE(explore(exactly_once(v), testing_core::crash_bounds()).ok());
}
TEST(CrashMqtt, SubscriptionsRetainedMessagesAndWillsAreThereOnceAnswered) {
  for (const version v : {version::v3_1_1, version::v5})
    EXPECT_TRUE(explore(requests(v), testing_core::crash_bounds()).ok());
}
TEST(CrashMqtt, AnAnswerIsKnownOnceItsMarkIsReached) {
  for (const version v : {version::v3_1_1, version::v5})
    EXPECT_TRUE(explore(answers_behind_marks(v), testing_core::crash_bounds()).ok());
}
TEST(CrashMqtt, SeededBugsAreFound) {
  testing_core::expect_bug("broker.no_publish_flush", acknowledged_messages(version::v3_1_1));
  testing_core::expect_bug("broker.no_publish_flush", acknowledged_messages(version::v5));
  testing_core::expect_bug("mqtt.answers_before_durable", answers_behind_marks(version::v3_1_1));
  testing_core::expect_bug("mqtt.answers_before_durable", answers_behind_marks(version::v5));
}

} // namespace
} // namespace chainring::mqtt
