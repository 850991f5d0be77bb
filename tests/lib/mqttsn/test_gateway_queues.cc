// SPDX-License-Identifier: BSD-3-Clause
// Full queues, and what policies and operators do about them; and the cost of CONNECT and
// SUBSCRIBE.
#include "../region/region_fixture.h"
#include "base/hook.h"
#include "base/idle.h"
#include "gateway_fixture.h"

namespace chainring::testing_gateway {
namespace {

constexpr std::uint64_t alice = 101, bob = 102, dave = 103, first_filler = 1000, first_late = 2000;
using strings = std::vector<std::string>;

class GatewayQueues : public GatewayTest {
 protected:
  /// Returns everything that a client is sent from now on, and acknowledges each message.
  strings texts(client_address at) {
    strings list;
    for (std::string t = b->take(at); t != "(nothing)"; t = b->take(at))
      list.push_back(t);
    return list;
  }
  static strings numbers(unsigned from, unsigned to) {
    strings list;
    for (unsigned i = from; i <= to; ++i)
      list.push_back(std::to_string(i));
    return list;
  }
};

// --- policy drop-oldest ----------------------------------------------------------------------

/// Which subscribers exist: one on the publisher's worker, one on another worker, or both.
struct dropping {
  unsigned workers;
  bool local, remote;
};

class GatewayDropOldest : public testing::TestWithParam<dropping> {
 protected:
  static constexpr unsigned slots = 63; // a ring takes four blocks
  std::unique_ptr<gateway_bench> b;
  std::vector<client_address> subscribers;
  std::map<client_address, std::string> ids;
  std::uint16_t topic = 0, msg_id = 0;

  void SetUp() override {
    broker_config config = small_config(GetParam().workers);
    config.overflow = overflow_policy::drop_oldest;
    config.queue_slots = slots;
    config.queue_slots_first = 0;
    store_layout layout = small_layout();
    layout.messages_max = 2048; // more messages than blocks
    auto made = broker_on(memory_media(384 << 10, durability_class::process), config, true, layout);
    ASSERT_TRUE(made) << made.error().message;
    b = std::make_unique<gateway_bench>(std::move(*made), small_gateway());
    ASSERT_EQ(b->connect(alice, b->id_at(0, "alice"), true), sn::return_code::accepted);
    topic = b->register_name(alice, "t");
    if (GetParam().local) subscriber(bob, b->id_at(0, "bob"));
    if (GetParam().remote) subscriber(dave, b->id_at(1, "dave"));
  }
  void subscriber(client_address at, const std::string& id) {
    ASSERT_EQ(b->connect(at, id, false), sn::return_code::accepted);
    b->subscribe(at, "t", sn::qos_level::one);
    subscribers.push_back(at);
    ids[at] = id;
  }
  sn::return_code publish(std::uint16_t topic_id, const std::string& text) {
    return b->publish(alice, topic_id, text, ++msg_id);
  }
  /// Fills each queue, with its first message sent and not acknowledged.
  void fill() {
    for (unsigned i = 1; i <= slots; ++i)
      ASSERT_EQ(publish(topic, std::to_string(i)), sn::return_code::accepted) << i;
    ASSERT_EQ(b->broker->counters().dropped_oldest, 0u);
  }
  strings texts(client_address at) {
    strings list;
    for (std::string t = b->take(at); t != "(nothing)"; t = b->take(at))
      list.push_back(t);
    return list;
  }
  /// Takes blocks until there is no room for a ring and a few blocks are left. Then adds a client
  /// that subscribes to "t" and whose queue cannot take any message.
  void add_subscriber_without_room() {
    const auto fill = b->register_name(alice, "fill");
    std::uint64_t filler = first_filler;
    sn::return_code code = sn::return_code::accepted;
    for (; code == sn::return_code::accepted; ++filler) {
      if (filler != first_filler)
        b->send(filler - 1, sn::unsubscribe{.msg_id = 1, .topic = "fill"});
      ASSERT_EQ(b->connect(filler, "f" + std::to_string(filler), false), sn::return_code::accepted);
      (void)b->all(filler - 1);
      b->subscribe(filler, "fill", sn::qos_level::one);
      for (unsigned i = 0; i < slots && code == sn::return_code::accepted; ++i)
        code = publish(fill, "");
    }
    // This frees some blocks that are not adjacent, so that contents fit and rings do not.
    b->send(filler - 1, sn::unsubscribe{.msg_id = 1, .topic = "fill"});
    b->settle();
    ASSERT_EQ(b->connect(first_filler, "f" + std::to_string(first_filler), false),
              sn::return_code::accepted);
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(b->take(first_filler), "");
    const auto late = b->register_name(alice, "late");
    code = sn::return_code::accepted;
    for (std::uint64_t c = first_late; code == sn::return_code::accepted; ++c) {
      ASSERT_LT(c, first_late + 40) << "every queue found room for a ring";
      ASSERT_EQ(b->connect(c, "l" + std::to_string(c), false), sn::return_code::accepted);
      b->subscribe(c, "late", sn::qos_level::one);
      code = publish(late, "");
      for (std::uint64_t of = first_late; of <= c; ++of)
        (void)texts(of);
      if (code != sn::return_code::accepted) b->subscribe(c, "t", sn::qos_level::one);
    }
  }
};

TEST_P(GatewayDropOldest, APublishThatAnotherQueueRefusesDropsNothingAndStopsNoDelivery) {
  fill();
  add_subscriber_without_room();
  if (HasFatalFailure()) return;
  EXPECT_EQ(publish(topic, "new"), sn::return_code::congestion);
  EXPECT_EQ(publish(topic, "new"), sn::return_code::congestion);
  EXPECT_EQ(b->broker->counters().dropped_oldest, 0u);
  strings expected;
  for (unsigned i = 1; i <= slots; ++i)
    expected.push_back(std::to_string(i));
  for (const client_address at : subscribers)
    EXPECT_EQ(texts(at), expected) << ids[at];
}

TEST_P(GatewayDropOldest, AMessageDroppedWhileItIsUnacknowledgedMakesRoomForTheNextDelivery) {
  fill();
  for (const client_address at : subscribers) {
    const auto sent = b->next(at);
    ASSERT_TRUE(sent && sent->get<sn::publish>()); // the message is never acknowledged
  }
  for (unsigned i = slots + 1; i <= slots + 5; ++i)
    EXPECT_EQ(publish(topic, std::to_string(i)), sn::return_code::accepted);
  for (const client_address at : subscribers) {
    const strings got = texts(at);
    ASSERT_FALSE(got.empty()) << ids[at] << ": delivery to it stands still";
    EXPECT_EQ(got.back(), std::to_string(slots + 5));
  }
  EXPECT_EQ(b->broker->counters().dropped_oldest, 5 * subscribers.size());
}

TEST_P(GatewayDropOldest, APublishThatWaitsForAnotherWorkerIsSettledAfterThatMakesRoom) {
  fill();
  b->send_publish(alice, topic, "new", 1000);
  b->turn(0);
  const auto now = b->all(alice);
  if (!GetParam().remote) {
    EXPECT_EQ(now.size(), 1u) << "no other worker has to make room";
    return;
  }
  EXPECT_EQ(now.size(), 0u);
  EXPECT_EQ(b->broker->counters().set_aside, 1u);
  // A later publish of the same sender does not overtake it.
  b->send_publish(alice, topic, "too early", 1001);
  b->turn(0);
  const auto refused = b->next(alice);
  ASSERT_TRUE(refused && refused->get<sn::puback>());
  EXPECT_EQ(refused->get<sn::puback>()->msg_id, 1001);
  EXPECT_EQ(refused->get<sn::puback>()->code, sn::return_code::congestion);
  b->settle();
  const auto answer = b->next(alice);
  ASSERT_TRUE(answer && answer->get<sn::puback>());
  EXPECT_EQ(answer->get<sn::puback>()->msg_id, 1000);
  EXPECT_EQ(answer->get<sn::puback>()->code, sn::return_code::accepted);
  for (const client_address at : subscribers) {
    (void)b->next(at); // the first message, which was dropped
    const strings got = texts(at);
    ASSERT_FALSE(got.empty());
    EXPECT_EQ(got.back(), "new");
  }
  EXPECT_EQ(publish(topic, "later"), sn::return_code::accepted);
}

// The tests below have a queue in which another worker has to make room.
class GatewayWaits : public GatewayDropOldest {};

TEST_P(GatewayWaits, AWaitingPublishWhoseSenderHasLeftAnswersNoOtherClient) {
  fill();
  b->send_publish(alice, topic, "new", 1000);
  b->turn(0);
  b->send_connect(alice, b->id_at(0, "next"));
  b->settle();
  const auto came = b->all(alice);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_NE(came[0].get<sn::connack>(), nullptr);
  // The number of the session that waited may belong to a client now that waits for nothing.
  const auto id = b->register_name(alice, "elsewhere");
  EXPECT_EQ(publish(id, "x"), sn::return_code::accepted);
}

// The new session has published nothing that its next publish would have to follow.
TEST_P(GatewayWaits, AWaitingPublishHoldsUpNoPublishOfItsSendersNextSession) {
  fill();
  b->send_publish(alice, topic, "new", 1000);
  b->turn(0);
  b->send_connect(alice, b->id_at(0, "alice"));
  b->send(alice, sn::register_topic{.msg_id = 1, .topic = "elsewhere"});
  b->turn(0);
  const auto came = b->all(alice);
  ASSERT_EQ(came.size(), 2u);
  const auto* registered = came.back().get<sn::regack>();
  if (registered == nullptr) registered = came.front().get<sn::regack>();
  ASSERT_NE(registered, nullptr);
  b->send_publish(alice, registered->topic_id, "x", 1);
  b->turn(0);
  const auto answer = b->next(alice);
  ASSERT_TRUE(answer && answer->get<sn::puback>());
  EXPECT_EQ(answer->get<sn::puback>()->code, sn::return_code::accepted);
}

std::string name_of(const testing::TestParamInfo<dropping>& info) {
  return std::to_string(info.param.workers) + "Workers" + (info.param.local ? "Local" : "") +
         (info.param.remote ? "Remote" : "");
}

// The worker that owns the queue makes room in it, and a publisher on another worker, carol, uses
// the room first.
class GatewayRoomTaken : public GatewayDropOldest {
 protected:
  static constexpr std::uint64_t carol = 104;
  std::uint16_t carols_topic = 0;
  unsigned taken = 0, times = 0; ///< how often carol took the room, and how often she shall
  std::string at_point;          ///< the hook point at which she takes it

  void SetUp() override {
    GatewayDropOldest::SetUp();
    ASSERT_EQ(b->connect(carol, b->id_at(1, "carol"), true), sn::return_code::accepted);
    carols_topic = b->register_name(carol, "t");
  }
  void TearDown() override { set_hook(nullptr, nullptr); }
  void let_carol_take_room(const char* point, unsigned how_often) {
    at_point = point;
    times = how_often;
    set_hook(
        [](const char* name, void* context) noexcept {
          auto& test = *static_cast<GatewayRoomTaken*>(context);
          if (name != test.at_point || test.taken == test.times) return;
          const unsigned n = ++test.taken;
          test.b->send_publish(carol, test.carols_topic, "carol's", static_cast<std::uint16_t>(n));
          test.b->turn(1);
        },
        this);
  }
  void expect_all_accepted() {
    // A retained message is not placed before the end of its burst.
    b->send_publish(alice, topic, "alice's", ++msg_id,
                    sn::flags{}.with_qos(sn::qos_level::one).with_retain(true));
    b->settle();
    set_hook(nullptr, nullptr);
    EXPECT_EQ(taken, times) << "the test did not reach " << at_point;
    const auto answer = b->next(alice);
    ASSERT_TRUE(answer && answer->get<sn::puback>());
    EXPECT_EQ(answer->get<sn::puback>()->code, sn::return_code::accepted);
    const auto answers = b->all(carol);
    ASSERT_EQ(answers.size(), times);
    for (const auto& a : answers)
      EXPECT_EQ(a.get<sn::puback>()->code, sn::return_code::accepted);
    const strings got = texts(bob);
    ASSERT_FALSE(got.empty());
    EXPECT_EQ(got.back(), "alice's");
  }
};

TEST_P(GatewayRoomTaken, APublishWhoseRoomAnotherWorkerTookMakesRoomAgain) {
  fill();
  let_carol_take_room("broker.room.made", 3);
  expect_all_accepted();
  EXPECT_EQ(b->broker->counters().dropped_oldest, 1u + 3u);
}

TEST_P(GatewayRoomTaken, APublishWhoseLastFreePlaceAnotherWorkerTookMakesRoom) {
  for (unsigned i = 1; i < slots; ++i)
    ASSERT_EQ(publish(topic, std::to_string(i)), sn::return_code::accepted) << i;
  let_carol_take_room("broker.burst.matched", 1);
  expect_all_accepted();
  EXPECT_EQ(b->broker->counters().dropped_oldest, 1u);
}

INSTANTIATE_TEST_SUITE_P(Consumers, GatewayRoomTaken, testing::Values(dropping{3, true, false}),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Consumers, GatewayDropOldest,
                         testing::Values(dropping{1, true, false}, dropping{3, true, false},
                                         dropping{3, false, true}, dropping{3, true, true}),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Consumers, GatewayWaits,
                         testing::Values(dropping{3, false, true}, dropping{3, true, true}),
                         name_of);

// --- operators -------------------------------------------------------------------------------

class GatewayOperator : public GatewayQueues {
 protected:
  std::uint16_t topic = 0;
  void SetUp() override {
    GatewayQueues::SetUp();
    begin();
  }
  void begin() {
    b->connect(alice, "alice", true);
    b->connect(bob, "bob", false);
    b->subscribe(bob, "t", sn::qos_level::one);
    topic = b->register_name(alice, "t");
  }
  void leave() { (void)b->ask<sn::disconnect>(bob, sn::disconnect{}); }
  void fill() {
    for (std::uint16_t i = 1; i <= config.queue_slots; ++i)
      ASSERT_EQ(b->publish(alice, topic, std::to_string(i), i), sn::return_code::accepted);
    ASSERT_EQ(b->publish(alice, topic, "too many", 99), sn::return_code::congestion);
  }
};

TEST_P(GatewayOperator, AFullQueueIsReportedByItsClientIdAndNotForEachPublish) {
  leave();
  fill();
  for (std::uint16_t i = 0; i < 50; ++i)
    EXPECT_EQ(b->publish(alice, topic, "too many", i), sn::return_code::congestion);
  const auto events = b->events_of(broker_event::kind::queue_full);
  ASSERT_FALSE(events.empty());
  EXPECT_LT(events.size(), 25u) << "there was an event for each publish";
  EXPECT_EQ(events[0].identity, "bob");
  EXPECT_EQ(events[0].count, config.queue_slots);
  const auto all = b->sessions();
  const auto it = std::ranges::find(all, "bob", &session_info::identity);
  ASSERT_NE(it, all.end());
  EXPECT_EQ(it->refused, 51u);
  EXPECT_EQ(it->queue_depth, config.queue_slots);
  EXPECT_EQ(it->queue_high_water, config.queue_slots);
  EXPECT_EQ(it->queue_limit, config.queue_slots);
}

TEST_P(GatewayOperator, AClearedQueueOfAnAbsentClientAcceptsPublishesAgain) {
  leave();
  fill();
  EXPECT_FALSE(b->broker->clear_queue("nobody"));
  EXPECT_TRUE(b->broker->clear_queue("bob"));
  b->settle();
  EXPECT_EQ(b->broker->counters().cleared, config.queue_slots);
  EXPECT_EQ(b->publish(alice, topic, "new", 100), sn::return_code::accepted);
  b->connect(bob, "bob", false);
  EXPECT_EQ(texts(bob), strings{"new"});
}

TEST_P(GatewayOperator, AClearedQueueOfAConnectedClientDeliversTheNextPublish) {
  fill();
  ASSERT_TRUE(b->next(bob)); // the message is under way and unacknowledged
  EXPECT_TRUE(b->broker->clear_queue("bob"));
  b->settle();
  EXPECT_EQ(b->publish(alice, topic, "new", 100), sn::return_code::accepted);
  EXPECT_EQ(texts(bob), strings{"new"});
}

TEST_P(GatewayOperator, AQueueClearedDuringARegisterDeliversAgainAfterItsAnswer) {
  (void)b->ask<sn::unsuback>(bob, sn::unsubscribe{.msg_id = 1, .topic = "t"});
  b->subscribe(bob, "#", sn::qos_level::one);
  const auto id = b->register_name(alice, "u");
  EXPECT_EQ(b->publish(alice, id, "old", 1), sn::return_code::accepted);
  const auto asked = b->next(bob);
  ASSERT_TRUE(asked && asked->get<sn::register_topic>());
  EXPECT_TRUE(b->broker->clear_queue("bob"));
  b->settle();
  b->send(bob, sn::regack{.topic_id = asked->get<sn::register_topic>()->topic_id,
                          .msg_id = asked->get<sn::register_topic>()->msg_id});
  EXPECT_EQ(b->publish(alice, id, "new", 2), sn::return_code::accepted);
  EXPECT_EQ(texts(bob), strings{"new"});
}

TEST_P(GatewayOperator, AKickEndsTheSessionOfAnAbsentClientAndItsTopicWorksAgain) {
  leave();
  fill();
  EXPECT_FALSE(b->broker->kick("nobody"));
  EXPECT_TRUE(b->broker->kick("bob"));
  b->settle();
  EXPECT_EQ(b->broker->session_count(), 1u);
  EXPECT_EQ(b->broker->subscription_count(), 0u);
  EXPECT_EQ(b->publish(alice, topic, "for nobody", 100), sn::return_code::accepted);
  b->connect(bob, "bob", false);
  EXPECT_EQ(texts(bob), strings{});
  EXPECT_EQ(b->events_of(broker_event::kind::kicked).size(), 1u);
}

TEST_P(GatewayOperator, AKickedConnectedClientGetsDisconnectAndCanConnectAgain) {
  fill();
  ASSERT_TRUE(b->next(bob));
  EXPECT_TRUE(b->broker->kick("bob"));
  b->settle();
  const auto came = b->all(bob);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_NE(came[0].get<sn::disconnect>(), nullptr);
  EXPECT_EQ(b->broker->subscription_count(), 0u);
  ASSERT_EQ(b->connect(bob, "bob", false), sn::return_code::accepted);
  b->subscribe(bob, "t", sn::qos_level::one);
  EXPECT_EQ(b->publish(alice, topic, "new", 100), sn::return_code::accepted);
  EXPECT_EQ(texts(bob), strings{"new"});
}

// --- sessions that expire --------------------------------------------------------------------

TEST_P(GatewayOperator, ASessionExpiresAfterItsConnectionEndedAndItsTopicWorksAgain) {
  config.session_expiry_s = 1;
  start();
  begin();
  leave();
  fill();
  for (idle_policy wait; b->broker->session_count() != 1; wait.idle())
    b->round();
  b->settle();
  EXPECT_EQ(b->broker->subscription_count(), 0u);
  EXPECT_EQ(b->broker->counters().expired, 1u);
  const auto events = b->events_of(broker_event::kind::expired);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].identity, "bob");
  EXPECT_TRUE(b->connected("alice")) << "a connected session must not expire";
  EXPECT_EQ(b->publish(alice, topic, "for nobody", 100), sn::return_code::accepted);
}

TEST_P(GatewayOperator, ASessionWithoutAConnectionAtTheEndOfTheBrokerExpiresAfterTheNextOpen) {
  config.session_expiry_s = 1;
  test::line_bytes memory;
  memory.resize(4 << 20);
  const auto open = [&](bool fresh) {
    auto made = broker_on(std::make_unique<test::kept_media>(memory), config, fresh, layout);
    ASSERT_TRUE(made) << made.error().message;
    b = std::make_unique<gateway_bench>(std::move(*made), gateway);
  };
  open(true);
  begin();
  b->connect(dave, "dave", false); // dave is connected until the end
  leave();
  fill();
  b.reset();
  open(false);
  EXPECT_GE(b->broker->opened().sessions, 2u);
  for (idle_policy wait; b->broker->session_count() != 0; wait.idle())
    b->round();
  b->settle();
  EXPECT_EQ(b->broker->subscription_count(), 0u);
  EXPECT_EQ(b->broker->counters().expired, 2u) << "the session that was connected expires too";
  b->connect(bob, "bob", false);
  EXPECT_EQ(texts(bob), strings{});
}

TEST_P(GatewayOperator, ASessionThatComesBackInTimeDoesNotExpire) {
  config.session_expiry_s = 1;
  start();
  begin();
  leave();
  EXPECT_EQ(b->publish(alice, topic, "kept", 1), sn::return_code::accepted);
  ASSERT_EQ(b->connect(bob, "bob", false), sn::return_code::accepted);
  const std::uint64_t end = rte_rdtsc() + rte_get_tsc_hz() * 3 / 2;
  for (idle_policy wait; rte_rdtsc() < end; wait.idle())
    b->round();
  EXPECT_TRUE(b->connected("bob"));
  EXPECT_EQ(b->broker->subscription_count(), 1u);
  EXPECT_EQ(texts(bob), strings{"kept"});
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayOperator, testing::Values(1u, 3u));

// --- the cost of a burst of new clients ------------------------------------------------------

class GatewayBurst : public GatewayQueues {
 protected:
  /// Returns the drains that CONNECT and SUBSCRIBE of so many clients take in one burst.
  std::uint64_t drains_of(unsigned clients, std::uint64_t first) {
    const std::uint64_t before = b->broker->counters().drains;
    for (unsigned i = 0; i < clients; ++i) {
      b->send_connect(first + i, "c" + std::to_string(first + i));
      b->send_subscribe(first + i, "t/" + std::to_string(i));
    }
    b->settle();
    for (unsigned i = 0; i < clients; ++i) {
      const auto came = b->all(first + i);
      EXPECT_EQ(came.size(), 2u) << i;
      if (came.size() != 2) continue;
      EXPECT_TRUE(came[0].get<sn::connack>() && came[1].get<sn::suback>());
      EXPECT_EQ(came[1].get<sn::suback>()->code, sn::return_code::accepted);
    }
    return b->broker->counters().drains - before;
  }
};

TEST_P(GatewayBurst, ConnectAndSubscribeOfAnyNumberOfClientsShareTheDrainOfTheirBurst) {
  const std::uint64_t one = drains_of(1, 1000), many = drains_of(40, 2000);
  EXPECT_EQ(one, 1u);
  EXPECT_LE(many, b->broker->workers()) << "each worker makes one drain for its burst";
}

TEST_P(GatewayBurst, SessionsThatBeginCleanShareTheDrainsOfTheirBurst) {
  (void)drains_of(40, 2000);
  // The same clients connect again, so that 40 sessions end and 40 begin.
  EXPECT_LE(drains_of(40, 2000), 3u * b->broker->workers());
}

TEST_P(GatewayBurst, SessionsThatEndShareTheDrainsOfTheirBurst) {
  (void)drains_of(40, 2000);
  const std::uint64_t before = b->broker->counters().drains;
  for (unsigned i = 0; i < 40; ++i)
    b->send(2000 + i, sn::disconnect{});
  b->settle();
  EXPECT_EQ(b->broker->session_count(), 0u);
  EXPECT_LE(b->broker->counters().drains - before, 3u * b->broker->workers());
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayBurst, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_gateway
