// SPDX-License-Identifier: BSD-3-Clause
// Pages are lost where messages and wills of MQTT clients are written. Such a client sends nothing
// again in its connection, so it must not wait for an answer in vain: the connection ends, and what
// was not acknowledged is sent again in the next one.
#include <algorithm>
#include <string>
#include <vector>

#include "lib/mqtt/wire_world.h"
#include "lost_memory.h"
#include "support/eal_main.h"

namespace chainring::test_faults {
namespace {

using mqtt::version;

constexpr std::uint32_t sender = 0, receiver = 1;
constexpr const char* topic = "a/b";

std::string text_of(int i) {
  std::string s;
  for (int k = 0; s.size() < 1300; ++k)
    s += "message " + std::to_string(i) + " part " + std::to_string(k) + "; ";
  return s;
}

class LostMqtt : public OnAPlace {
 protected:
  std::unique_ptr<mqtt::world> w;
  broker* core = nullptr;

  void open(version v) {
    std::remove(options_.media.path.c_str());
    broker_config c = small_config();
    c.queue_slots = 127;
    auto opened = broker::open(made(), c);
    ASSERT_TRUE(opened) << opened.error().message;
    core = opened->get();
    w = std::make_unique<mqtt::world>(std::move(*opened), v);
    bool present = false;
    ASSERT_TRUE(w->connect(receiver, "receiver", present));
    ASSERT_TRUE(w->subscribe(receiver, topic, mqtt::qos_level::two));
    ASSERT_TRUE(w->connect(sender, "sender", present));
  }
  media& medium() { return core->region().medium(); }
  /// Sends a message. True when its first acknowledgement came.
  bool publish(int i, mqtt::qos_level qos, bool dup) {
    const std::string text = text_of(i);
    w->send(sender, mqtt::publish{.dup = dup,
                                  .qos = qos,
                                  .packet_id = static_cast<std::uint16_t>(i + 1),
                                  .topic = topic,
                                  .payload = std::as_bytes(std::span(text))});
    const mqtt::message* m = w->next(sender);
    if (m == nullptr) return false;
    if (qos == mqtt::qos_level::one) return m->get<mqtt::puback>() != nullptr;
    if (m->get<mqtt::pubrec>() == nullptr) return false;
    w->send(sender, mqtt::pubrel{.packet_id = static_cast<std::uint16_t>(i + 1)});
    return w->take<mqtt::pubcomp>(sender) != nullptr;
  }
  /// What the receiver is given.
  std::vector<std::string> taken() {
    std::vector<std::string> all;
    for (const mqtt::message* m = w->next(receiver); m != nullptr; m = w->next(receiver)) {
      if (const auto* p = m->get<mqtt::publish>(); p != nullptr) {
        all.emplace_back(reinterpret_cast<const char*>(p->payload.data()), p->payload.size());
        const std::uint16_t id = p->packet_id;
        if (p->qos == mqtt::qos_level::one) w->send(receiver, mqtt::puback{.packet_id = id});
        if (p->qos == mqtt::qos_level::two) w->send(receiver, mqtt::pubrec{.packet_id = id});
      } else if (const auto* r = m->get<mqtt::pubrel>(); r != nullptr) {
        w->send(receiver, mqtt::pubcomp{.packet_id = r->packet_id});
      }
    }
    return all;
  }
  /// The page on which the message lies.
  std::uint64_t page_of(const std::string& text) {
    const region& r = core->region();
    const auto* const from = r.at(r.geometry().block_offset);
    const auto* const end = r.at(r.geometry().size);
    const auto wanted = std::as_bytes(std::span(text));
    const auto* const found = std::search(from, end, wanted.begin(), wanted.end());
    EXPECT_NE(found, end);
    return r.offset_of(found) / page;
  }
};

TEST_P(LostMqtt, AClientWhoseMessageIsLostIsClosedAndSendsItAgain) {
  for (const version v : {version::v3_1_1, version::v5})
    for (const auto qos : {mqtt::qos_level::one, mqtt::qos_level::two}) {
      open(v);
      w->hang_up(receiver); // its messages wait in the region
      ASSERT_TRUE(publish(0, qos, false));
      const std::uint64_t at = page_of(text_of(0));
      for (const std::uint64_t p : {at + 2, at + 5, at + 6}) // the next messages would lie there
        poison(medium(), p * page);
      int unanswered = 0;
      std::vector<std::string> acked{text_of(0)};
      for (int i = 1; i < 40; ++i) {
        for (bool dup = false; !publish(i, qos, dup); dup = true) {
          ASSERT_LT(++unanswered, 4);
          EXPECT_TRUE(w->closed(sender)) << "the client would wait for its answer for ever";
          w->forget(sender);
          bool present = false;
          ASSERT_TRUE(w->connect(sender, "sender", present));
          EXPECT_TRUE(present);
        }
        acked.push_back(text_of(i));
      }
      EXPECT_EQ(unanswered, 1);
      EXPECT_FALSE(w->closed(sender));
      bool present = false;
      ASSERT_TRUE(w->connect(receiver, "receiver", present));
      std::vector<std::string> got = taken();
      // At QoS 1 the first copy, which its own process still reads, may come too.
      if (qos == mqtt::qos_level::one) got.erase(std::unique(got.begin(), got.end()), got.end());
      EXPECT_TRUE(got == acked) << got.size() << " and not " << acked.size() << " messages";
      w.reset();
    }
}

TEST_P(LostMqtt, AClientWhoseWillIsLostIsClosedAndConnectsAgain) {
  for (const version v : {version::v3_1_1, version::v5}) {
    open(v);
    w->hang_up(receiver);
    ASSERT_TRUE(publish(0, mqtt::qos_level::one, false));
    const std::uint64_t at = page_of(text_of(0));
    poison(medium(), (at + 2) * page); // one of the wills would lie there
    int unanswered = 0;
    std::vector<std::string> wills;
    for (std::uint32_t who = 2; who < 8; ++who) {
      wills.push_back(text_of(static_cast<int>(who)));
      const mqtt::will testament{.topic = topic,
                                 .payload = std::as_bytes(std::span(wills.back())),
                                 .qos = mqtt::qos_level::one};
      bool present = false;
      const std::string id = "client " + std::to_string(who);
      while (!w->connect(who, id, present, testament)) {
        ASSERT_LT(++unanswered, 4);
        EXPECT_TRUE(w->closed(who)) << "the client would wait for CONNACK";
        w->forget(who);
      }
    }
    EXPECT_EQ(unanswered, 1);
    EXPECT_FALSE(core->region().failed());
    for (std::uint32_t who = 2; who < 8; ++who)
      w->hang_up(who);
    bool present = false;
    ASSERT_TRUE(w->connect(receiver, "receiver", present));
    wills.insert(wills.begin(), text_of(0));
    EXPECT_TRUE(taken() == wills);
    w.reset();
  }
}

INSTANTIATE_TEST_SUITE_P(Places, LostMqtt, places(), place_name);

} // namespace
} // namespace chainring::test_faults
