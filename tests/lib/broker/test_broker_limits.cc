// SPDX-License-Identifier: BSD-3-Clause
// The broker under limits: room in queues and regions, the size of one drain, the octets of a
// client id; and sessions that change during a burst.
#include <ctime>
#include <optional>

#include "../media/scratch.h"
#include "../region/region_fixture.h"
#include "base/idle.h"
#include "broker_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_broker {
namespace {

constexpr std::uint64_t alice = 101, bob = 102, carol = 103;
constexpr auto qos1 = sn::flags{}.with_qos(sn::qos_level::one);

std::unique_ptr<bench> make(std::uint64_t size, const broker_config& config,
                            const sn::gateway_config& gateway = small_gateway()) {
  auto made = broker_on(memory_media(size, durability_class::process), config, true);
  EXPECT_TRUE(made) << made.error().message;
  return made ? std::make_unique<bench>(std::move(*made), gateway) : nullptr;
}

/// Sends a PUBLISH and does not wait.
void send_publish(bench& b, client_address from, std::uint16_t id, std::string_view text,
                  std::uint16_t msg_id) {
  b.send(from, sn::publish{.flags = qos1,
                           .topic_id = id,
                           .msg_id = msg_id,
                           .data = std::as_bytes(std::span(text))});
}

TEST(BrokerLimits, LongQueuesLeaveRoomForMessagesInASmallRegion) {
  broker_config config = small_config();
  config.queue_slots = 4095; // each ring takes 64 KiB of 1 MiB
  config.queue_slots_first = 0;
  auto b = make(1 << 20, config);
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "t", sn::qos_level::one);
  (void)b->ask<sn::disconnect>(bob, sn::disconnect{});
  const auto id = b->register_name(alice, "t");
  const std::string text(500, 'x');
  for (std::uint16_t i = 1; i <= 200; ++i)
    ASSERT_EQ(b->publish(alice, id, text, i), sn::return_code::accepted) << i;
}

TEST(BrokerLimits, TheSubscriptionIndexGrowsBeyondItsFirstSize) {
  constexpr unsigned sessions = 60, filters = 100;
  store_layout layout = small_layout();
  layout.subscriptions_max = sessions * filters;
  broker_config config = small_config();
  config.topics_max = 2 * sessions * filters;
  sn::gateway_config gateway;
  gateway.registrations_max = 2 * sessions * filters;
  const test::scratch_directory directory("/dev/shm");
  media_options o;
  o.path = directory.file("region");
  o.size = 32 << 20;
  auto medium = create_media(o);
  ASSERT_TRUE(medium) << medium.error().message;
  auto made = broker_on(std::move(*medium), config, true, layout);
  ASSERT_TRUE(made) << made.error().message;
  auto b = std::make_unique<bench>(std::move(*made), gateway);
  const auto name = [](unsigned s, unsigned f) {
    return "session/" + std::to_string(s) + "/filter/" + std::to_string(f);
  };
  for (unsigned s = 0; s < sessions; ++s) {
    ASSERT_EQ(b->connect(bob + s, "bob" + std::to_string(s), false), sn::return_code::accepted);
    for (unsigned f = 0; f < filters; ++f)
      b->subscribe(bob + s, name(s, f), sn::qos_level::one);
  }
  EXPECT_EQ(b->broker->subscription_count(), sessions * filters);
  b.reset();
  medium = open_media(o);
  ASSERT_TRUE(medium) << medium.error().message;
  made = broker_on(std::move(*medium), config, false, layout);
  ASSERT_TRUE(made) << made.error().message;
  b = std::make_unique<bench>(std::move(*made), gateway);
  EXPECT_EQ(b->broker->opened().subscriptions, sessions * filters);
  b->connect(alice, "alice", true);
  for (unsigned s = 0; s < sessions; ++s) {
    const unsigned f = s * 37 % filters;
    b->connect(bob + s, "bob" + std::to_string(s), false);
    const auto id = b->register_name(alice, name(s, f));
    ASSERT_EQ(b->publish(alice, id, name(s, f), 1), sn::return_code::accepted);
    EXPECT_EQ(b->take(bob + s), name(s, f));
    EXPECT_EQ(b->take(bob + s), "(nothing)");
  }
}

TEST(BrokerLimits, OneClientCannotTakeAllSubscriptions) {
  broker_config config = small_config();
  config.subscriptions_per_session_max = 3;
  auto b = make(4 << 20, config);
  b->connect(alice, "alice", false);
  for (const char* filter : {"a/#", "b/#", "c/#"})
    b->subscribe(alice, filter, sn::qos_level::one);
  auto refused =
      b->ask<sn::suback>(alice, sn::subscribe{.flags = qos1, .msg_id = 4, .topic = "d/#"});
  EXPECT_EQ(refused.get<sn::suback>()->code, sn::return_code::congestion);
  EXPECT_EQ(b->broker->counters().subscribes_refused, 1u);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "d/#", sn::qos_level::one);
  EXPECT_EQ(b->broker->subscription_count(), 4u);
}

TEST(BrokerLimits, ASubscriberGetsMessagesOnMoreTopicsThanASessionHasIds) {
  sn::gateway_config gateway = small_gateway();
  gateway.registrations_per_session_max = 4;
  auto b = make(4 << 20, small_config(), gateway);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "many/+", sn::qos_level::one);
  for (unsigned i = 0; i < 12; ++i) {
    b->connect(200 + i, "publisher" + std::to_string(i), true);
    const auto id = b->register_name(200 + i, "many/" + std::to_string(i));
    ASSERT_EQ(b->publish(200 + i, id, std::to_string(i), 1), sn::return_code::accepted);
    EXPECT_EQ(b->take(bob), std::to_string(i));
  }
  EXPECT_EQ(b->gateway->counters().ids_replaced, 8u);
}

// The protocol limits characters and not octets.
TEST(BrokerLimits, AClientIdOf23CharactersIsAcceptedWithAnyNumberOfOctets) {
  auto b = make(4 << 20, small_config());
  std::string id;
  for (int i = 0; i < 11; ++i)
    id += "\u00fc"; // each has two octets
  EXPECT_EQ(b->connect(alice, id + "x", false), sn::return_code::accepted);
  EXPECT_EQ(b->connect(bob, id + id + "\u00fc", false), sn::return_code::accepted);
  EXPECT_EQ(b->connect(carol, id + id + "xy", false), sn::return_code::not_supported);
  std::vector<session_info> all;
  (void)b->broker->sessions(0, 10, all);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].identity, id + id + "\u00fc");
}

/// Observes the most lines that were flushed for one drain.
struct largest_drain final : persist_observer {
  std::uint64_t now = 0, most = 0;
  void on_store(const std::uint64_t*, std::uint64_t, const site&) noexcept override {}
  void on_write(const void*, const void*, std::size_t, const site&) noexcept override {}
  bool on_flush(const void* from, std::size_t n, const site&) noexcept override {
    most = std::max(most, now += test::seam_counter::lines_of(from, n));
    return true;
  }
  bool on_drain(const site&) noexcept override {
    now = 0;
    return true;
  }
};

/// A broker that alice is connected to, whose medium covers few bytes with one drain.
struct small_drains {
  test::line_bytes memory{8 << 20};
  media* m = nullptr;
  std::unique_ptr<bench> b;
  std::uint64_t lines_max;

  small_drains(std::uint64_t bytes_max, std::uint32_t queue_slots,
               const store_layout& layout = small_layout())
      : lines_max(bytes_max / cacheline_size) {
    auto kept = std::make_unique<test::kept_media>(memory);
    kept->drain_bytes_max_ = bytes_max;
    m = kept.get();
    broker_config config = small_config();
    config.queue_slots = queue_slots;
    b = std::make_unique<bench>(broker_on(std::move(kept), config, true, layout).value());
    b->connect(alice, "alice", true);
  }
  /// Calls `send`, and returns the most lines of a drain until the broker has nothing left to do.
  template <class F> std::uint64_t most_lines(F&& send) {
    largest_drain seen;
    m->observe(&seen);
    send();
    b->settle();
    m->observe(nullptr);
    return seen.most;
  }
};

TEST(BrokerLimits, ABurstThatOneDrainCannotCoverTakesSeveralDrains) {
  small_drains w(64 << 10, 127);
  bench* const b = w.b.get();
  for (std::uint64_t c = 1000; c < 1040; ++c) {
    b->connect(c, "c" + std::to_string(c), true);
    b->subscribe(c, "t", sn::qos_level::one);
  }
  const auto id = b->register_name(alice, "t");
  const std::string text(1400, 'x');
  const std::uint64_t most = w.most_lines([&] {
    for (std::uint16_t i = 1; i <= 100; ++i)
      send_publish(*b, alice, id, text, i);
  });
  unsigned accepted = 0;
  while (auto r = b->next(alice))
    accepted += r->get<sn::puback>()->code == sn::return_code::accepted;
  EXPECT_EQ(accepted, 100u);
  EXPECT_GT(most, w.lines_max / 4) << "the burst was not large";
  EXPECT_LE(most, w.lines_max);
}

TEST(BrokerLimits, TheEndsOfSessionsThatOneDrainCannotCoverTakeSeveralDrains) {
  constexpr unsigned clients = 200;
  store_layout layout;
  layout.sessions_max = 256;
  small_drains w(8 << 10, 255, layout);
  bench* const b = w.b.get();
  const auto id = b->register_name(alice, "t");
  for (std::uint64_t c = 1000; c < 1000 + clients; ++c) {
    b->connect(c, "c" + std::to_string(c), true);
    b->subscribe(c, "t", sn::qos_level::one);
  }
  ASSERT_EQ(b->publish(alice, id, "x", 1), sn::return_code::accepted); // each queue has a ring
  const std::uint64_t most = w.most_lines([&] {
    for (std::uint64_t c = 1000; c < 1000 + clients; ++c)
      b->send(c, sn::disconnect{});
  });
  EXPECT_EQ(b->broker->session_count(), 1u);
  EXPECT_GT(most, w.lines_max / 4) << "the burst was not large";
  EXPECT_LE(most, w.lines_max);
}

TEST(BrokerLimits, TheMovesOfABurstThatOneDrainCannotCoverTakeSeveralDrains) {
  constexpr std::uint16_t members = 150; // each gets one message, in a line of its own
  store_layout layout;
  layout.sessions_max = 256;
  layout.groups_max = 4;
  small_drains w(8 << 10, 255, layout);
  bench* const b = w.b.get();
  const auto id = b->register_name(alice, "t");
  const auto publish = [&](std::uint16_t msg_id) {
    b->send(alice, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::two),
                               .topic_id = id,
                               .msg_id = msg_id,
                               .data = std::as_bytes(std::span("x", 1))});
    b->settle();
    b->send(alice, sn::pubrel{.msg_id = msg_id});
    b->settle();
  };
  for (std::uint64_t c = 1000; c < 1000 + members; ++c) {
    b->connect(c, "c" + std::to_string(c), false);
    b->subscribe(c, "own", sn::qos_level::one); // its queue gets a ring
    b->subscribe(c, "$share/g/t", sn::qos_level::two);
    b->send(c, sn::disconnect{});
    b->settle();
  }
  const auto own = b->register_name(alice, "own");
  ASSERT_EQ(b->publish(alice, own, "x", 1), sn::return_code::accepted);
  for (std::uint16_t i = 1; i <= members; ++i)
    publish(i);
  const std::uint64_t most = w.most_lines([&] {
    for (std::uint64_t c = 1000; c < 1000 + members; ++c)
      b->send(c, sn::connect{.flags = sn::flags{}, .client_id = "c" + std::to_string(c)});
  });
  EXPECT_EQ(b->broker->counters().group_moves, members);
  EXPECT_LE(most, w.lines_max);
}

// A member whose queue can get no ring now is given nothing at a lower QoS.
TEST(BrokerLimits, AMessageOfAGroupWaitsWhereTheRegionHasNoRoomForItsMembersQueue) {
  broker_config config = small_config();
  config.queue_slots = 255; // each ring takes 4 KiB
  auto b = make(256 << 10, config);
  const auto publish = [&](std::uint16_t topic_id, std::uint16_t msg_id) {
    b->send(alice, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::two),
                               .topic_id = topic_id,
                               .msg_id = msg_id});
    b->settle();
    b->send(alice, sn::pubrel{.msg_id = msg_id});
    b->settle();
    while (b->next(alice)) {
    }
  };
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "$share/g/shared", sn::qos_level::two);
  b->subscribe(bob, "t", sn::qos_level::one);
  b->connect(carol, "carol", false);
  b->subscribe(carol, "filler", sn::qos_level::one);
  const auto shared = b->register_name(alice, "shared"), id = b->register_name(alice, "t"),
             fill = b->register_name(alice, "filler");
  publish(shared, 1); // the group's queue has its ring from now on
  b->send(bob, sn::unsubscribe{.msg_id = 1, .topic = "t"});
  b->send(bob, sn::disconnect{});
  b->settle();
  const std::string filler(1000, 'x');
  std::uint16_t n = 2;
  while (b->publish(alice, fill, filler, n++) == sn::return_code::accepted) {
  }
  EXPECT_EQ(b->take(carol), filler);
  client_address late{};
  for (std::uint64_t c = 200; late == client_address{} && c < 240; ++c) {
    b->connect(c, "late" + std::to_string(c), false);
    b->subscribe(c, "t", sn::qos_level::one);
    if (b->publish(alice, id, "", n++) == sn::return_code::congestion) late = c;
  }
  ASSERT_NE(late, client_address{}) << "every queue found room for a ring";
  b->send(late, sn::unsubscribe{.msg_id = 1, .topic = "t"});
  b->settle();
  while (b->next(late)) {
  }
  b->subscribe(late, "$share/g/shared", sn::qos_level::two);
  publish(shared, n++);
  EXPECT_GE(b->broker->counters().group_moves_refused, 1u);
  while (auto r = b->next(late))
    EXPECT_EQ(r->get<sn::publish>(), nullptr) << "a message came without a move";
  // The fillers go, and then the message comes.
  while (b->take(carol) != "(nothing)") {
  }
  std::optional<received> got;
  for (const std::time_t begin = std::time(nullptr); !got && std::time(nullptr) < begin + 60;) {
    b->settle();
    got = b->next(late);
  }
  ASSERT_TRUE(got && got->get<sn::publish>());
  EXPECT_EQ(got->get<sn::publish>()->flags.qos(), sn::qos_level::two);
}

// One of the subscribers never has room for a ring, so each publish is refused and leaves a void
// place in the queues of the others.
TEST(BrokerLimits, PlacesOfRefusedPublishesAreFreedWithoutAnAck) {
  broker_config config = small_config();
  config.queue_slots = 255; // each ring takes 4 KiB
  auto b = make(256 << 10, config);
  b->connect(alice, "alice", true);
  const std::string filler(1000, 'x');
  b->connect(carol, "carol", false);
  b->subscribe(carol, "filler", sn::qos_level::one);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "t", sn::qos_level::one);
  const auto id = b->register_name(alice, "t"), fill = b->register_name(alice, "filler");
  EXPECT_EQ(b->publish(alice, id, "first", 1), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), "first");
  // All blocks but a few are taken, so that there is no room for another ring.
  std::uint16_t n = 2;
  while (b->publish(alice, fill, filler, n++) == sn::return_code::accepted) {
  }
  EXPECT_EQ(b->take(carol), filler);
  std::vector<client_address> late;
  sn::return_code code = sn::return_code::accepted;
  for (std::uint64_t c = 200; c < 240; ++c) {
    b->connect(c, "late" + std::to_string(c), false);
    b->subscribe(c, "t", sn::qos_level::one);
    late.push_back(c);
    code = b->publish(alice, id, "", n++);
    late.push_back(bob);
    for (const client_address of : late) // unacknowledged messages hold back those behind them
      while (b->take(of) != "(nothing)") {
      }
    late.pop_back();
    if (code != sn::return_code::accepted) break;
  }
  ASSERT_EQ(code, sn::return_code::congestion) << "every queue found room for a ring";
  for (int i = 0; i < 2000; ++i)
    EXPECT_EQ(b->publish(alice, id, "", n++), sn::return_code::congestion);
  for (const client_address c : late)
    b->send(c, sn::unsubscribe{.msg_id = 1, .topic = "t"});
  b->settle();
  idle_policy wait;
  while (b->publish(alice, id, "", n++) != sn::return_code::accepted) {
    b->round();
    wait.idle();
  }
  EXPECT_EQ(b->take(bob), "");
}

TEST(BrokerLimits, ALostRegisterIsSentAgainAlsoWhenItsMessageWasDropped) {
  broker_config config = small_config();
  config.overflow = overflow_policy::drop_oldest;
  sn::gateway_config gateway = small_gateway();
  gateway.retry_ms = 10;
  gateway.retries_max = 200;
  auto b = make(4 << 20, config, gateway);
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", false);
  b->subscribe(bob, "+", sn::qos_level::one);
  const auto id = b->register_name(alice, "t");
  for (std::uint16_t i = 1; i <= 40; ++i)
    b->publish(alice, id, std::to_string(i), i);
  ASSERT_GT(b->broker->counters().dropped_oldest, 0u);
  while (b->next(bob)) { // the client loses everything that comes
  }
  idle_policy wait;
  std::optional<received> again;
  while (!(again = b->next(bob))) {
    b->round();
    wait.idle();
  }
  ASSERT_TRUE(again->get<sn::register_topic>());
}

class BrokerBurst : public testing::Test {
 protected:
  std::unique_ptr<bench> b = make(4 << 20, small_config(2));
  std::string id_at(unsigned home, const std::string& start) {
    for (int i = 0;; ++i) {
      const std::string id = start + std::to_string(i);
      if (b->broker->home_of(id) == home) return id;
    }
  }
};

// A session of another worker starts clean between two publishes of one burst. The publish that
// matched the old session must not reach the new one, and the publish that matched the new one
// must.
TEST_F(BrokerBurst, ASessionThatStartsCleanDuringABurstGetsOnlyItsOwnMessages) {
  const std::string sub = id_at(1, "sub");
  b->connect(alice, id_at(0, "pub"), true);
  const auto id = b->register_name(alice, "t");
  b->connect(bob, sub, false);
  b->subscribe(bob, "t", sn::qos_level::one);
  send_publish(*b, alice, id, "old", 1);
  b->send(bob, sn::connect{.flags = sn::flags{}.with_clean(true), .client_id = sub});
  b->send(bob, sn::subscribe{.flags = qos1, .msg_id = 2, .topic = "t"});
  b->turn(1); // the subscription takes effect at the end of its burst
  send_publish(*b, alice, id, "new", 2);
  b->settle();
  unsigned accepted = 0;
  while (auto r = b->next(alice))
    accepted += r->get<sn::puback>() && r->get<sn::puback>()->code == sn::return_code::accepted;
  EXPECT_EQ(accepted, 2u);
  ASSERT_TRUE(b->next(bob)->get<sn::connack>());
  ASSERT_TRUE(b->next(bob)->get<sn::suback>());
  EXPECT_EQ(b->take(bob), "new");
  EXPECT_EQ(b->take(bob), "(nothing)");
}

// By the time a client comes back, another client uses the address that it left.
TEST_F(BrokerBurst, AnAddressThatAnotherClientTookOverStaysWithThatClient) {
  const std::string first = id_at(0, "first"), second = id_at(1, "second");
  b->connect(bob, first, false);
  b->send(bob,
          sn::connect{.client_id =
                          second}); // from the address of the first client, whose home runs later
  b->send(carol, sn::connect{.client_id = first});
  b->settle();
  while (b->next(bob)) {
  }
  (void)b->ask<sn::pingresp>(bob, sn::pingreq{});
}

} // namespace
} // namespace chainring::testing_broker
