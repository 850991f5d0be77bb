// SPDX-License-Identifier: BSD-3-Clause
// Senders: clients whose datagrams a stalled process has not read yet, clients that ask for too
// much, senders without a session, and other gateways.
#include <array>

#include "base/idle.h"
#include "gateway_fixture.h"
#include "net/address.h"

namespace chainring::testing_gateway {
namespace {

constexpr std::uint64_t alice = 101, bob = 102, stranger = 700;

// --- a stall longer than the keep-alive ------------------------------------------------------

class GatewayHearing : public GatewayTest {
 protected:
  const std::uint64_t second = rte_get_tsc_hz();
  void SetUp() override {
    layout.sessions_max = 256;
    layout.subscriptions_max = 256;
    start();
  }
  void connect_at(std::uint64_t tsc, std::uint64_t at, std::uint16_t keep_alive_s) {
    const std::string id = "c" + std::to_string(at);
    b->send_at(tsc, at, sn::connect{.keep_alive_s = keep_alive_s, .client_id = id});
  }
  /// Lets time pass, in which timers fire.
  void go_on_for_a_while() {
    const std::uint64_t end = rte_rdtsc() + second / 10;
    for (idle_policy wait; rte_rdtsc() < end; wait.idle())
      b->round();
  }
};

TEST_P(GatewayHearing, ARequestThatIsDroppedIsASignOfLifeAllTheSame) {
  gateway.requests_per_round = 2;
  start();
  const std::uint64_t stalled = rte_rdtsc() - 10 * second;
  constexpr std::uint64_t eager = 1000;
  b->heard.until = stalled;
  connect_at(stalled, eager, 2);
  b->settle();
  b->send_at(stalled, eager, sn::pingreq{}); // while messages are under way, requests wait
  const auto ask = [&](std::uint64_t tsc) {
    b->send_at(tsc, eager, sn::register_topic{.msg_id = 1, .topic = "t"});
  };
  for (int i = 0; i < 18; ++i) // two have their turn, and sixteen wait
    ask(stalled + second);
  ask(stalled + 4 * second);
  EXPECT_EQ(b->gateway->counters().requests_dropped, 1u);
  b->heard.until = stalled + 5 * second;
  go_on_for_a_while();
  EXPECT_EQ(b->gateway->counters().sessions_lost, 0u);
}

// Its datagrams came through two queues of a port, of which one was read late.
TEST_P(GatewayHearing, ADisconnectOfAFormerConnectionDoesNotEndTheOneThatFollowed) {
  const std::uint64_t now = rte_rdtsc();
  b->heard.until = now;
  for (const bool sleeps : {false, true}) {
    connect_at(now - second, alice, 0);
    b->settle();
    ASSERT_TRUE(b->next(alice)) << "no CONNACK";
    b->send_at(now - 2 * second, alice,
               sn::disconnect{.duration_s = static_cast<std::uint16_t>(sleeps ? 60 : 0)});
    b->settle();
    EXPECT_FALSE(b->next(alice));
    b->send_at(now, alice, sn::pingreq{});
    b->settle();
    const auto answer = b->next(alice);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->get<sn::pingresp>());
  }
  EXPECT_EQ(b->gateway->counters().disconnects, 0u);
  EXPECT_EQ(b->gateway->counters().sleeps, 0u);
  EXPECT_EQ(b->gateway->counters().unexpected, 2u);
}

TEST_P(GatewayHearing, NoClientIsLostWhosePingsWaitInAnUnreadPort) {
  for (const unsigned clients : {2u, 150u}) {
    start();
    const std::uint64_t now = rte_rdtsc(), stalled = now - 10 * second;
    constexpr std::uint64_t first = 1000;
    for (unsigned i = 0; i < clients; ++i)
      connect_at(stalled, first + i, 2);
    const unsigned silent = clients; // one more client, which stops pinging
    connect_at(stalled, first + silent, 2);
    b->heard.until = stalled + second / 10;
    b->settle();
    go_on_for_a_while(); // by the clock each keep-alive is over
    EXPECT_EQ(b->gateway->counters().sessions_lost, 0u);
    // Now the port is read, and each client has pinged each second.
    for (unsigned s = 1; s <= 10; ++s) {
      for (unsigned i = 0; i < clients; ++i)
        b->send_at(stalled + s * second, first + i, sn::pingreq{});
      b->heard.until = stalled + s * second;
      b->round();
    }
    b->heard.until = now;
    idle_policy wait;
    while (b->gateway->counters().sessions_lost == 0) {
      b->round();
      wait.idle();
    }
    b->settle();
    EXPECT_EQ(b->gateway->counters().sessions_lost, 1u) << "only the silent client must be lost";
    EXPECT_FALSE(b->connected("c" + std::to_string(first + silent)));
    for (unsigned i = 0; i < clients; ++i)
      EXPECT_TRUE(b->connected("c" + std::to_string(first + i)));
    EXPECT_GE(b->count<sn::disconnect>(first + silent), 1u)
        << "a client that is lost must get DISCONNECT";
  }
}

TEST_P(GatewayHearing, AClientWithoutKeepAliveIsNeverLostForSilence) {
  connect_at(rte_rdtsc() - 1000 * second, alice, 0);
  b->settle();
  go_on_for_a_while();
  EXPECT_EQ(b->gateway->counters().sessions_lost, 0u);
}

// The PUBACK that waits in the port was sent in time.
TEST_P(GatewayHearing, NoMessageIsSentAgainWhoseAnswerMayWaitInAnUnreadPort) {
  gateway.retry_ms = 10;
  start();
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  b->subscribe(bob, "t", sn::qos_level::one);
  const auto id = b->register_name(alice, "t");
  b->heard.until = rte_rdtsc();
  EXPECT_EQ(b->publish(alice, id, "once", 1), sn::return_code::accepted);
  go_on_for_a_while();
  EXPECT_EQ(b->gateway->counters().retransmitted, 0u);
  EXPECT_EQ(b->take(bob), "once");
  EXPECT_EQ(b->take(bob), "(nothing)");
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayHearing, testing::Values(1u, 3u));

// --- limits ----------------------------------------------------------------------------------

class GatewayLimits : public GatewayTest {};

TEST_P(GatewayLimits, AClientThatRegistersEveryNameGetsOnlyItsShareOfTheIds) {
  config.topics_max = 65'536;
  gateway.registrations_max = 262'144;
  start();
  b->connect(alice, "alice", true);
  b->connect(bob, "bob", true);
  unsigned accepted = 0, refused = 0;
  for (unsigned i = 0; i < 65'530; ++i) {
    const std::string name = "mine/" + std::to_string(i);
    b->send(alice, sn::register_topic{.msg_id = static_cast<std::uint16_t>(i), .topic = name});
    if (i % 64 != 0 && i != 65'529) continue;
    b->round();
    for (const auto& r : b->all(alice)) {
      ASSERT_TRUE(r.get<sn::regack>());
      ++(r.get<sn::regack>()->code == sn::return_code::accepted ? accepted : refused);
    }
  }
  EXPECT_EQ(accepted, gateway.registrations_per_session_max);
  EXPECT_EQ(refused, 65'530 - gateway.registrations_per_session_max);
  EXPECT_EQ(b->gateway->counters().registers_refused, refused);
  for (unsigned i = 0; i < 100; ++i)
    (void)b->register_name(bob, "yours/" + std::to_string(i));
  b->subscribe(bob, "other", sn::qos_level::one);
  const auto id = b->register_name(bob, "other");
  EXPECT_EQ(b->publish(bob, id, "x", 1), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), "x");
  // The first client can use the ids that it has.
  const auto mine = b->register_name(alice, "mine/0");
  EXPECT_EQ(b->publish(alice, mine, "x", 2), sn::return_code::accepted);
}

// The senders use 60,000 short names at QoS -1, where a worker can know 256 names.
TEST_P(GatewayLimits, SendersWithoutASessionCannotTakeTopicNumbersFromClients) {
  b->connect(alice, "alice", true);
  b->subscribe(alice, "kept", sn::qos_level::one);
  for (unsigned i = 0; i < 60'000; ++i) {
    const std::array<char, 2> two{static_cast<char>('0' + i % 75),
                                  static_cast<char>('0' + i / 75 % 75)};
    b->send_publish(stranger, sn::short_topic_id({two.data(), 2}), "x", 0,
                    sn::flags{}
                        .with_qos(sn::qos_level::minus_one)
                        .with_topic_type(sn::topic_id_type::short_name));
    if (i % 64 == 0) b->round();
  }
  b->settle();
  EXPECT_EQ(b->all(stranger).size(), 0u);
  for (unsigned i = 0; i < 100; ++i)
    (void)b->register_name(alice, "new/" + std::to_string(i));
  const auto id = b->register_name(alice, "kept");
  EXPECT_EQ(b->publish(alice, id, "x", 1), sn::return_code::accepted);
  EXPECT_EQ(b->take(alice), "x");
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayLimits, testing::Values(1u, 3u));

class GatewayNames : public GatewayTest {
 protected:
  void SetUp() override {}
  void send_named(std::uint16_t length, std::string_view data) {
    b->send_publish(stranger, length, data, 0, sn::flags{}.with_qos(sn::qos_level::minus_one));
    b->settle();
  }
};

TEST_P(GatewayNames, ANameInFrontOfTheDataAtQosMinusOneIsAcceptedOnlyWhereTheOptionAllowsIt) {
  for (const bool allowed : {false, true}) {
    gateway.names_at_qos_minus_one = allowed;
    start();
    b->connect(alice, "alice", true);
    b->subscribe(alice, "a/b", sn::qos_level::zero);
    send_named(3, "a/bfirst");
    EXPECT_EQ(b->take(alice), allowed ? "first" : "(nothing)");
    EXPECT_EQ(b->gateway->counters().refused_topic, allowed ? 0u : 1u);
    EXPECT_FALSE(b->next(stranger)) << "QoS -1 is never answered";
  }
}

TEST_P(GatewayNames, ALengthBeyondTheDataAndAnInvalidNameAreRefused) {
  gateway.names_at_qos_minus_one = true;
  start();
  b->connect(alice, "alice", true);
  b->subscribe(alice, "#", sn::qos_level::zero);
  send_named(9, "a/bfirst");
  send_named(0, "data");
  send_named(3, "a/#data");
  send_named(0xffff, "a");
  EXPECT_EQ(b->take(alice), "(nothing)");
  EXPECT_EQ(b->gateway->counters().refused_topic, 4u);
  send_named(1, "a");
  EXPECT_EQ(b->take(alice), "") << "the data may be empty";
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayNames, testing::Values(1u, 3u));

class GatewayIdsGivenOut : public GatewayTest {
 protected:
  void SetUp() override {}
};

TEST_P(GatewayIdsGivenOut, LieAboveThePredefinedOnes) {
  gateway.predefined = {{7, "seven"}, {700, "sevenhundred"}};
  start();
  b->connect(alice, "alice", true);
  EXPECT_EQ(b->register_name(alice, "new"), 701);
  EXPECT_EQ(b->subscribe(alice, "other", sn::qos_level::zero), 702);
}

TEST_P(GatewayIdsGivenOut, MustHaveRoomAboveThePredefinedOnes) {
  start();
  gateway.registrations_per_session_max = 1024;
  gateway.predefined = {{65534, "last"}};
  auto refused = sn::gateway::create(*b->broker, gateway);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("predefined topic id 65534: expected at most 61438"),
            std::string::npos)
      << refused.error().message;
  gateway.predefined = {{61439, "last"}};
  EXPECT_FALSE(sn::gateway::create(*b->broker, gateway));
  gateway.predefined = {{61438, "last"}};
  EXPECT_TRUE(sn::gateway::create(*b->broker, gateway));
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayIdsGivenOut, testing::Values(1u));

TEST(GatewayStrangers, AreSpreadOverWorkersWhateverTheirAddressesHaveInCommon) {
  auto made = broker_on(memory_media(4 << 20, durability_class::process), small_config(4), true);
  ASSERT_TRUE(made) << made.error().message;
  gateway_bench b(std::move(*made), small_gateway());
  const bytes ping = encode(sn::pingreq{});
  constexpr unsigned senders = 4096;
  const auto check = [&](const char* what, auto endpoint_of) {
    std::array<unsigned, 4> at{};
    for (std::uint32_t i = 0; i < senders; ++i)
      ++at[b.gateway->home_of(endpoint_of(i).key(), ping)];
    // The mean is 1,024 for each worker; 160 is more than five times the standard deviation.
    for (const unsigned n : at)
      EXPECT_NEAR(n, senders / 4, 160) << what;
  };
  constexpr std::uint32_t base = 10u << 24;
  check("ports", [](std::uint32_t i) {
    return net::endpoint{base + 1, static_cast<std::uint16_t>(1024 + i), 0};
  });
  check("even ports", [](std::uint32_t i) {
    return net::endpoint{base + 1, static_cast<std::uint16_t>(2 * i), 0};
  });
  check("addresses", [](std::uint32_t i) { return net::endpoint{base + i, 1883, 0}; });
  check("addresses of networks", [](std::uint32_t i) {
    return net::endpoint{base + (i << 8) + 1, 1883, 1};
  });
}

// --- messages that must not be answered ------------------------------------------------------

class GatewayPeers : public GatewayTest {
 protected:
  void expect_silence(const bytes& datagram, client_address from) {
    b->send(from, datagram);
    b->settle();
    EXPECT_EQ(b->all(from).size(), 0u) << "message type " << std::to_integer<int>(datagram[1]);
  }
};

TEST_P(GatewayPeers, AMessageThatOnlyAGatewaySendsIsNotAnswered) {
  b->connect(alice, "alice", true);
  for (const client_address from : {stranger, alice}) {
    expect_silence(encode(sn::advertise{}), from);
    expect_silence(encode(sn::gwinfo{.gw_id = 1}), from);
    expect_silence(encode(sn::connack{}), from);
    expect_silence(encode(sn::willtopicreq{}), from);
    expect_silence(encode(sn::willmsgreq{}), from);
    expect_silence(encode(sn::suback{}), from);
    expect_silence(encode(sn::unsuback{}), from);
    expect_silence(encode(sn::willtopicresp{}), from);
    expect_silence(encode(sn::willmsgresp{}), from);
    expect_silence(encode(sn::pingresp{}), from);
  }
  EXPECT_EQ(b->gateway->counters().unexpected, 20u);
  EXPECT_EQ(b->gateway->counters().strangers_told, 0u);
  EXPECT_TRUE(b->connected("alice"));
}

// Neither has a session at the other. `first` is spoofed, as if one gateway had sent it to the
// other.
TEST_P(GatewayPeers, TwoGatewaysSoonEndAnExchangeThatASpoofedMessageBegins) {
  const std::string name = "t";
  const std::vector<bytes> spoofed{
      encode(sn::disconnect{}),
      encode(sn::pingreq{}),
      encode(sn::register_topic{.msg_id = 1, .topic = name}),
      encode(sn::regack{}),
      encode(sn::puback{}),
      encode(sn::publish{.flags = qos1, .topic_id = 1, .msg_id = 1}),
      encode(sn::subscribe{.flags = qos1, .msg_id = 1, .topic = name}),
      encode(sn::unsubscribe{.msg_id = 1, .topic = name}),
      encode(sn::searchgw{}),
      encode(sn::willtopicupd{.topic = name}),
  };
  for (const bytes& first : spoofed) {
    start();
    auto made = broker_on(memory_media(4 << 20, durability_class::process), config, true);
    ASSERT_TRUE(made) << made.error().message;
    gateway_bench other(std::move(*made), gateway);
    constexpr std::uint64_t own = 1, peer = 2; // the addresses of the two gateways
    b->send(peer, first);
    unsigned passed = 0;
    for (bool any = true; any && passed < 1000;) {
      any = false;
      b->settle();
      while (!b->out.sent[peer].empty()) {
        other.send(own, b->out.sent[peer].front());
        b->out.sent[peer].pop_front();
        any = true;
        ++passed;
      }
      other.settle();
      while (!other.out.sent[own].empty()) {
        b->send(peer, other.out.sent[own].front());
        other.out.sent[own].pop_front();
        any = true;
        ++passed;
      }
    }
    EXPECT_LE(passed, 4u) << "message type " << std::to_integer<int>(first[1]);
  }
}

TEST_P(GatewayPeers, AStrangerIsAnsweredAFewTimesASecondAndOtherStrangersStillAre) {
  const std::uint64_t now = rte_rdtsc();
  for (int i = 0; i < 100; ++i)
    b->send_at(now, stranger, sn::pingreq{});
  for (std::uint64_t other = 5000; other < 5010; ++other)
    b->send_at(now, other, sn::pingreq{});
  b->settle();
  EXPECT_EQ(b->count<sn::disconnect>(stranger), 4u);
  unsigned answered = 0;
  for (std::uint64_t other = 5000; other < 5010; ++other)
    answered += b->count<sn::disconnect>(other) != 0;
  EXPECT_GE(answered, 9u) << "one source may share its count with the first";
  EXPECT_EQ(b->gateway->counters().unknown_source, 110u);
  // A second later the stranger is answered again.
  b->send_at(now + 2 * rte_get_tsc_hz(), stranger, sn::pingreq{});
  b->settle();
  EXPECT_EQ(b->count<sn::disconnect>(stranger), 1u);
}

TEST_P(GatewayPeers, ADisconnectIsAnsweredAgainWhenTheAnswerWasLostMoreThanOnce) {
  b->connect(alice, "alice", true);
  std::uint64_t now = rte_rdtsc();
  // The network loses each of these answers, so the client sends DISCONNECT again.
  for (int i = 0; i < 5; ++i, now += rte_get_tsc_hz() * 3 / 10) {
    b->send_at(now, alice, sn::disconnect{});
    b->settle();
    EXPECT_EQ(b->count<sn::disconnect>(alice), 1u) << "attempt " << i;
  }
  // And in the next session from the same address.
  b->connect(alice, "alice", true);
  for (int i = 0; i < 5; ++i, now += rte_get_tsc_hz() * 3 / 10) {
    b->send_at(now, alice, sn::disconnect{});
    b->settle();
    EXPECT_EQ(b->count<sn::disconnect>(alice), 1u) << "attempt " << i;
  }
}

TEST_P(GatewayPeers, DisconnectsThatFollowEachOtherSlowlyComeToAnEnd) {
  std::uint64_t now = rte_rdtsc();
  const auto answers = [&](int times) {
    unsigned n = 0;
    for (int i = 0; i < times; ++i, now += rte_get_tsc_hz() / 2) {
      b->send_at(now, stranger, sn::disconnect{});
      b->settle();
      n += b->count<sn::disconnect>(stranger);
    }
    return n;
  };
  EXPECT_EQ(answers(11), 8u) << "another gateway, which answers after half a second";
  now += 10 * rte_get_tsc_hz();
  EXPECT_EQ(answers(2), 2u) << "a client that comes later";
}

// --- features that are not offered -----------------------------------------------------------

TEST_P(GatewayPeers, ASharedSubscriptionWithoutAValidGroupOrFilterIsRefused) {
  b->connect(alice, "alice", true);
  for (const std::string filter :
       {"$share", "$share/", "$share/g", "$share/g/", "$share//f", "$share/+/f", "$share/g/a#"}) {
    const auto r =
        b->ask<sn::suback>(alice, sn::subscribe{.flags = qos1, .msg_id = 1, .topic = filter});
    EXPECT_EQ(r.get<sn::suback>()->code, sn::return_code::not_supported) << filter;
  }
  EXPECT_EQ(b->broker->subscription_count(), 0u);
  b->subscribe(alice, "$shared/x", sn::qos_level::one);
}

// --- a medium that has failed ----------------------------------------------------------------

TEST_P(GatewayPeers, AfterTheMediumHasFailedOnlyPingsOfClientsAreAnswered) {
  b->connect(alice, "alice", true);
  const auto id = b->register_name(alice, "t");
  const auto failed = [&](client_address from, const bytes& datagram) {
    const unsigned home = b->gateway->home_of(from, datagram);
    b->gateway->worker(home).receive_failed(from, datagram);
    b->gateway->worker(home).send(mark_t{});
    return b->all(from);
  };
  const auto answers = failed(alice, encode(sn::pingreq{}));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_NE(answers[0].get<sn::pingresp>(), nullptr);
  const std::string text = "x";
  EXPECT_EQ(failed(alice, encode(sn::publish{.flags = qos1,
                                             .topic_id = id,
                                             .msg_id = 1,
                                             .data = std::as_bytes(std::span(text))}))
                .size(),
            0u);
  EXPECT_EQ(failed(alice, encode(sn::disconnect{})).size(), 0u);
  EXPECT_EQ(failed(bob, encode(sn::connect{.client_id = "bob"})).size(), 0u);
  EXPECT_EQ(failed(stranger, encode(sn::pingreq{})).size(), 0u);
  EXPECT_EQ(failed(alice, bytes{}).size(), 0u);
  EXPECT_TRUE(b->connected("alice"));
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayPeers, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_gateway
