// SPDX-License-Identifier: BSD-3-Clause
// Datagrams of a burst, and the short way of the usual ones: whatever a client sends gets the same
// answers, however it comes in, and whatever the worker remembers of the client.
#include "base/idle.h"
#include "gateway_fixture.h"

namespace chainring::testing_gateway {
namespace {

constexpr std::uint64_t alice = 101, bob = 102, carol = 103;

class GatewayBursts : public GatewayTest {
 protected:
  using sent = std::pair<client_address, bytes>;

  static bytes publish(std::uint16_t id, std::string_view text, std::uint16_t msg_id,
                       sn::flags with = qos1) {
    return encode(sn::publish{
        .flags = with, .topic_id = id, .msg_id = msg_id, .data = std::as_bytes(std::span(text))});
  }
  static sn::received_datagram arrived(const sent& what) {
    sn::received_datagram d{};
    d.from = what.first;
    d.received_tsc = rte_rdtsc();
    d.data = what.second.data();
    d.size = static_cast<std::uint32_t>(what.second.size());
    return d;
  }
  /// Hands each worker its datagrams, one by one, or in one burst, or in bursts as it places them.
  enum class manner { alone, in_bursts, placed };
  void hand(const std::vector<sent>& datagrams, manner how) {
    std::vector<std::vector<sn::received_datagram>> bursts(b->broker->workers());
    for (const sent& s : datagrams)
      bursts[b->gateway->home_of(s.first, s.second)].push_back(arrived(s));
    for (unsigned w = 0; w < bursts.size(); ++w) {
      sn::gateway_worker& worker = b->gateway->worker(w);
      if (how == manner::in_bursts) worker.receive_burst(bursts[w]);
      if (how == manner::alone)
        for (const auto& d : bursts[w])
          worker.receive(d.from, d.payload(), d.received_tsc, d.to_group);
      if (how != manner::placed) continue;
      for (std::span rest(bursts[w]); !rest.empty();) {
        std::array<std::uint8_t, 64> homes{};
        const std::size_t placed = worker.place(rest, homes.data());
        worker.receive_burst(rest.first(placed));
        rest = rest.subspan(placed);
      }
    }
  }
};

// A burst is longer than what the worker looks at in one pass, and has something of everything.
TEST_P(GatewayBursts, TheDatagramsOfABurstGetTheAnswersThatEachWouldGetAlone) {
  std::map<manner, std::map<std::uint64_t, std::vector<std::string>>> answers;
  std::map<manner, sn::gateway_counters> counters;
  for (const manner how : {manner::alone, manner::in_bursts, manner::placed}) {
    start();
    std::vector<sent> burst;
    std::vector<std::uint16_t> ids;
    // Each has the same home both times, because that decides which requests wait for each other.
    for (const std::uint64_t at : {alice, bob, carol}) {
      const std::string id =
          b->id_at(static_cast<unsigned>(at - alice), "c" + std::to_string(at) + "-");
      ASSERT_EQ(b->connect(at, id, true), sn::return_code::accepted);
      ids.push_back(b->register_name(at, "t" + std::to_string(at)));
      ids.push_back(b->register_name(at, "u"));
    }
    b->subscribe(carol, "t101", sn::qos_level::one);
    std::uint64_t stranger = 700;
    while (b->gateway->home_of(stranger, publish(ids[0], "a stranger", 1)) != 0)
      ++stranger;
    for (std::uint16_t i = 1; i <= 20; ++i) {
      burst.emplace_back(alice, publish(ids[i % 2], "one", i));
      burst.emplace_back(bob, publish(ids[2 + i % 2], "two", i, qos2));
      burst.emplace_back(bob, encode(sn::pubrel{.msg_id = i}));
      burst.emplace_back(carol, encode(sn::pingreq{}));
      burst.emplace_back(carol, publish(4711, "no such id", i));
      burst.emplace_back(carol, encode(sn::puback{.topic_id = 1, .msg_id = 99}));
      burst.emplace_back(stranger, publish(ids[0], "a stranger", i));
      burst.emplace_back(alice, bytes(3, std::byte{0x0c}));
    }
    const std::string late = b->id_at(0, "late");
    burst.emplace_back(900, encode(sn::connect{.client_id = late}));
    burst.emplace_back(bob, encode(sn::disconnect{}));
    burst.emplace_back(bob, publish(ids[2], "after the end", 50));
    hand(burst, how);
    b->settle();
    for (const std::uint64_t at : {alice, bob, carol, stranger, std::uint64_t{900}})
      for (const auto& r : b->all(at))
        answers[how][at == stranger ? 700 : at].push_back(sn::to_string(r.m.type));
    counters[how] = b->gateway->counters();
  }
  EXPECT_GE(answers[manner::alone][alice].size(), 20u);
  for (const manner how : {manner::in_bursts, manner::placed}) {
    EXPECT_EQ(answers[how], answers[manner::alone]);
    sn::for_each_counter(counters[manner::alone],
                         [&, i = 0](const char* name, std::uint64_t n) mutable {
                           std::uint64_t other = 0;
                           int k = 0;
                           sn::for_each_counter(counters[how], [&](const char*, std::uint64_t m) {
                             if (k++ == i) other = m;
                           });
                           EXPECT_EQ(other, n) << name;
                           ++i;
                         });
  }
}

// A datagram waits for an earlier one of its sender that may move the client, and for no other.
TEST_P(GatewayBursts, ABurstIsPlacedUpToADatagramWhoseSenderMayHaveMoved) {
  const unsigned last = b->broker->workers() - 1;
  const std::string id = b->id_at(last, "alice"), other = b->id_at(0, "bob");
  ASSERT_EQ(b->connect(alice, id, true), sn::return_code::accepted);
  const std::uint16_t topic = b->register_name(alice, "t");
  std::uint64_t stranger = 700; // that this worker answers
  while (b->gateway->home_of(stranger, encode(sn::pingreq{})) != last)
    ++stranger;
  const auto homes_of = [&](const std::vector<sent>& all, bool by_last = true) {
    std::vector<sn::received_datagram> burst;
    for (const sent& s : all)
      burst.push_back(arrived(s));
    std::array<std::uint8_t, 64> homes{};
    const std::size_t n = b->gateway->worker(by_last ? last : (last + 1) % b->broker->workers())
                              .place(burst, homes.data());
    return std::vector<unsigned>(homes.begin(), homes.begin() + static_cast<std::ptrdiff_t>(n));
  };
  const sent message{alice, publish(topic, "x", 1)};
  const sent answer{alice, encode(sn::puback{.topic_id = topic, .msg_id = 7})};
  const sent ping{stranger, encode(sn::pingreq{})};
  const sent connect{stranger, encode(sn::connect{.client_id = id})};
  const sent elsewhere{stranger, encode(sn::connect{.client_id = other})};
  EXPECT_EQ(homes_of({message, answer, message}), std::vector(3, last)) << "all at once";
  EXPECT_EQ(homes_of({message, answer}, false), std::vector(2, last)) << "by another worker";
  EXPECT_EQ(homes_of({ping, message, answer}), std::vector(3, last)) << "of other senders";
  EXPECT_EQ(homes_of({connect, message, ping, message}), std::vector(2, last));
  EXPECT_EQ(homes_of({ping, connect}), std::vector(1, last));
  EXPECT_EQ(homes_of({message, {alice, encode(sn::disconnect{})}, message}), std::vector(2, last));
  EXPECT_EQ(homes_of(std::vector<sent>(100, message)).size(), 32u) << "one pass";
  if (last == 0) return;
  EXPECT_EQ(homes_of({elsewhere, message}), (std::vector<unsigned>{0, last}));
}

// More messages than the worker had places for when it began, in one burst, and none is mixed up.
TEST_P(GatewayBursts, EachOfManyMessagesInOneBurstGetsItsOwnAnswer) {
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  const std::uint16_t id = b->register_name(alice, "t");
  for (int round = 0; round < 2; ++round) {
    std::vector<sent> burst;
    for (std::uint16_t i = 1; i <= 3000; ++i)
      burst.emplace_back(alice, publish(id, "x", i));
    hand(burst, manner::in_bursts);
    b->settle();
    std::vector<bool> seen(3001);
    for (const auto& r : b->all(alice)) {
      const auto* ack = r.get<sn::puback>();
      ASSERT_NE(ack, nullptr);
      EXPECT_EQ(ack->topic_id, id);
      ASSERT_LT(ack->msg_id, seen.size());
      EXPECT_FALSE(seen[ack->msg_id]);
      seen[ack->msg_id] = true;
    }
    EXPECT_EQ(std::ranges::count(seen, true), 3000);
  }
}

// The worker remembers which id a client used last, and which one a client was sent last.
TEST_P(GatewayBursts, TopicIdsMayComeInAnyOrder) {
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  ASSERT_EQ(b->connect(bob, "bob", true), sn::return_code::accepted);
  ASSERT_EQ(b->connect(carol, "carol", true), sn::return_code::accepted);
  const std::uint16_t names[] = {b->register_name(alice, "a"), b->register_name(alice, "c")};
  // For another client the same ids stand for the other names.
  const std::uint16_t others[] = {b->register_name(bob, "c"), b->register_name(bob, "a")};
  ASSERT_EQ(names[0], others[0]);
  const std::uint16_t ids[] = {b->subscribe(carol, "a", sn::qos_level::one),
                               b->subscribe(carol, "c", sn::qos_level::one)};
  std::uint16_t msg_id = 0;
  for (const unsigned i : {0u, 0u, 1u, 0u, 1u, 1u, 0u})
    for (const bool by_bob : {false, true, false}) {
      const std::uint64_t from = by_bob ? bob : alice;
      EXPECT_EQ(b->publish(from, names[i], "x", ++msg_id), sn::return_code::accepted);
      const auto r = b->next(carol);
      ASSERT_TRUE(r && r->get<sn::publish>());
      const auto* p = r->get<sn::publish>();
      EXPECT_EQ(p->topic_id, ids[by_bob ? 1 - i : i]);
      b->send(carol, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
      b->settle();
    }
}

// A client that has forgotten an id is told the name again, though the id was sent just before.
TEST_P(GatewayBursts, AnIdThatTheClientHasForgottenIsNotSentAgainBeforeItsName) {
  for (const bool at_qos_0 : {false, true}) {
    start();
    ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
    ASSERT_EQ(b->connect(carol, "carol", true), sn::return_code::accepted);
    const std::uint16_t id = b->register_name(alice, "t");
    const std::uint16_t of_carol = b->subscribe(carol, "t", sn::qos_level::one);
    EXPECT_EQ(b->publish(alice, id, "first", 1), sn::return_code::accepted);
    EXPECT_EQ(b->take(carol), "first");
    sn::puback unknown{.topic_id = of_carol, .code = sn::return_code::invalid_topic_id};
    if (!at_qos_0) {
      EXPECT_EQ(b->publish(alice, id, "second", 2), sn::return_code::accepted);
      const auto r = b->next(carol);
      ASSERT_TRUE(r && r->get<sn::publish>());
      unknown.msg_id = r->get<sn::publish>()->msg_id;
    }
    b->send(carol, unknown);
    b->settle();
    if (at_qos_0) {
      EXPECT_EQ(b->publish(alice, id, "second", 2), sn::return_code::accepted);
    }
    const auto asked = b->next(carol);
    ASSERT_TRUE(asked && asked->get<sn::register_topic>());
    EXPECT_EQ(asked->get<sn::register_topic>()->topic, "t");
  }
}

// A client with as many topic ids as it may have gets the id of a new name in the place of the
// oldest.
TEST_P(GatewayBursts, AnIdThatWasReplacedIsUnknownThoughItWasUsedLast) {
  gateway.registrations_per_session_max = 1;
  start();
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  ASSERT_EQ(b->connect(bob, "bob", true), sn::return_code::accepted);
  ASSERT_EQ(b->connect(carol, "carol", true), sn::return_code::accepted);
  const std::uint16_t of_alice = b->register_name(alice, "s/a");
  const std::uint16_t of_bob = b->register_name(bob, "s/b");
  b->subscribe(carol, "s/+", sn::qos_level::one);
  EXPECT_EQ(b->publish(alice, of_alice, "one", 1), sn::return_code::accepted);
  const auto asked = b->next(carol);
  ASSERT_TRUE(asked && asked->get<sn::register_topic>());
  const std::uint16_t id = asked->get<sn::register_topic>()->topic_id;
  b->send(carol, sn::regack{.topic_id = id, .msg_id = asked->get<sn::register_topic>()->msg_id});
  b->settle();
  EXPECT_EQ(b->take(carol), "one");
  EXPECT_EQ(b->publish(carol, id, "mine", 1), sn::return_code::accepted);
  EXPECT_EQ(b->take(carol), "mine");
  EXPECT_EQ(b->publish(bob, of_bob, "two", 1), sn::return_code::accepted);
  EXPECT_EQ(b->take(carol), "two");
  EXPECT_EQ(b->publish(carol, id, "no more", 2), sn::return_code::invalid_topic_id);
}

// A client that has sent and received nothing yet has no topic id at all, and 0 is never one.
TEST_P(GatewayBursts, TopicIdZeroIsUnknownBeforeAndAfterTheFirstMessage) {
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, 0, "x", 1), sn::return_code::invalid_topic_id);
  const std::uint16_t id = b->register_name(alice, "t");
  EXPECT_EQ(b->publish(alice, 0, "x", 2), sn::return_code::invalid_topic_id);
  EXPECT_EQ(b->publish(alice, id, "x", 3), sn::return_code::accepted);
  EXPECT_EQ(b->publish(alice, 0, "x", 4), sn::return_code::invalid_topic_id);
}

// What was remembered of a client ends with its connection.
TEST_P(GatewayBursts, ATopicIdOfAnEarlierConnectionIsUnknown) {
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  const std::uint16_t id = b->register_name(alice, "t");
  EXPECT_EQ(b->publish(alice, id, "known", 1), sn::return_code::accepted);
  ASSERT_EQ(b->connect(alice, "alice", true), sn::return_code::accepted);
  for (std::uint16_t i = 2; i < 5; ++i)
    EXPECT_EQ(b->publish(alice, id, "unknown", i), sn::return_code::invalid_topic_id);
  (void)b->ask<sn::disconnect>(alice, sn::disconnect{});
  // The session's number and its registration are another client's now.
  ASSERT_EQ(b->connect(bob, "bob", true), sn::return_code::accepted);
  const std::uint16_t of_bob = b->register_name(bob, "t");
  EXPECT_EQ(b->publish(bob, of_bob, "known", 1), sn::return_code::accepted);
  b->send(alice, publish(id, "a stranger", 3));
  b->settle();
  EXPECT_EQ(b->count<sn::puback>(alice), 0u);
}

// --- requests beside messages ------------------------------------------------------------------

class GatewayRequests : public GatewayBursts {
 protected:
  void SetUp() override {
    gateway.requests_per_round = 2;
    start();
  }
  /// Begins a round of each worker in which messages are under way.
  void keep_workers_busy() {
    for (unsigned w = 0; w < b->broker->workers(); ++w) {
      const std::uint64_t at = 9000 + w;
      if (const std::string id = b->id_at(w, "busy"); !b->connected(id)) {
        EXPECT_EQ(b->connect(at, id, true), sn::return_code::accepted);
      }
      b->send(at, sn::pingreq{});
    }
  }
};

TEST_P(GatewayRequests, AMessageDoesNotWaitForTheRequestsOfAFlood) {
  ASSERT_EQ(b->connect(alice, b->id_at(0, "a"), true), sn::return_code::accepted);
  ASSERT_EQ(b->connect(bob, b->id_at(0, "b"), true), sn::return_code::accepted);
  const std::uint16_t id = b->register_name(alice, "t");
  std::vector<sent> burst;
  for (std::uint16_t i = 1; i <= 12; ++i)
    burst.emplace_back(bob, encode(sn::register_topic{.msg_id = i, .topic = "flood"}));
  burst.emplace_back(alice, publish(id, "x", 1));
  burst.emplace_back(bob, encode(sn::pingreq{}));
  keep_workers_busy();
  hand(burst, manner::in_bursts);
  b->round();
  EXPECT_EQ(b->count<sn::puback>(alice), 1u);
  const auto first = b->all(bob);
  ASSERT_EQ(first.size(), 3u)
      << "two requests have their turn beside messages, and a ping needs none";
  EXPECT_EQ(first[0].get<sn::regack>()->msg_id, 1);
  EXPECT_EQ(first[1].get<sn::regack>()->msg_id, 2);
  EXPECT_NE(first[2].get<sn::pingresp>(), nullptr);
  b->settle();
  const auto later = b->all(bob);
  ASSERT_EQ(later.size(), 10u) << "the others have theirs in later rounds";
  for (std::uint16_t i = 0; i < 10; ++i)
    EXPECT_EQ(later[i].get<sn::regack>()->msg_id, i + 3) << "in the order in which they came";
  EXPECT_EQ(b->gateway->counters().requests_waited, 10u);
  EXPECT_EQ(b->gateway->counters().requests_dropped, 0u);
}

TEST_P(GatewayRequests, OneSenderCannotTakeThePlacesInWhichRequestsWait) {
  ASSERT_EQ(b->connect(alice, b->id_at(0, "a"), true), sn::return_code::accepted);
  std::vector<sent> burst;
  const std::uint16_t id = b->register_name(alice, "t");
  // All places and more, if they were one sender's.
  for (std::uint16_t i = 1; i <= 1000; ++i)
    burst.emplace_back(alice, encode(sn::register_topic{.msg_id = i, .topic = "flood"}));
  for (std::uint16_t i = 1; i <= 1000; ++i)
    burst.emplace_back(alice, publish(4711, "no such id", i));
  burst.emplace_back(alice, publish(id, "x", 2000));
  const std::string name = b->id_at(0, "b");
  burst.emplace_back(bob, encode(sn::connect{.client_id = name}));
  keep_workers_busy();
  hand(burst, manner::in_bursts);
  b->settle();
  const auto got = b->all(alice);
  const auto is_regack = [](const received& r) { return r.get<sn::regack>() != nullptr; };
  EXPECT_EQ(std::ranges::count_if(got, is_regack), 18) << "two at once, and sixteen that waited";
  ASSERT_EQ(got.size(), 19u);
  EXPECT_TRUE(std::ranges::any_of(got, [](const received& r) {
    const auto* ack = r.get<sn::puback>();
    return ack != nullptr && ack->msg_id == 2000;
  })) << "its messages do not suffer";
  EXPECT_EQ(b->count<sn::connack>(bob), 1u);
  EXPECT_EQ(b->gateway->counters().requests_dropped, 1982u);
}

TEST_P(GatewayRequests, RequestsOfManySendersWaitUpToALimitAndNoneIsCountedTwice) {
  constexpr std::uint64_t first = 5000, senders = 4000;
  bytes too_long(2500); // a PUBLISH in the long form
  too_long[0] = std::byte{1};
  too_long[1] = std::byte{2500 >> 8};
  too_long[2] = std::byte{2500 & 255};
  too_long[3] = std::byte{0x0c};
  for (const auto& kind :
       {encode(sn::pingreq{}), encode(sn::disconnect{}),
        encode(sn::register_topic{.msg_id = 1, .topic = "t"}), publish(1, "x", 1), too_long}) {
    start();
    std::vector<sent> burst;
    for (std::uint64_t i = 0; i < senders; ++i)
      burst.emplace_back(first + i, kind);
    keep_workers_busy();
    hand(burst, manner::in_bursts);
    b->settle();
    std::uint64_t answered = 0;
    for (std::uint64_t i = 0; i < senders; ++i)
      answered += b->all(first + i).size();
    const auto c = b->gateway->counters();
    const bool fits = kind.size() <= 2000;
    EXPECT_EQ(c.requests_waited, fits ? 1024u * b->broker->workers() : 0u) << kind.size();
    EXPECT_EQ(c.requests_waited + c.requests_dropped + 2 * b->broker->workers(), senders);
    EXPECT_LE(answered, senders - c.requests_dropped);
    EXPECT_GT(answered, 0u) << kind.size();
  }
}

TEST_P(GatewayRequests, WithoutMessagesAllHaveTheirTurnAtOnce) {
  std::vector<sent> burst;
  for (std::uint64_t i = 0; i < 3000; ++i)
    burst.emplace_back(5000 + i, encode(sn::pingreq{}));
  hand(burst, manner::in_bursts);
  EXPECT_EQ(b->gateway->counters().unknown_source, 3000u);
  EXPECT_EQ(b->gateway->counters().requests_waited, 0u);
}

// The datagram that waited is that of a stranger, and its sender has a connection elsewhere by now.
TEST_P(GatewayRequests, WhatWaitedDoesNotEndAConnectionThatAnotherWorkerHasOpened) {
  const unsigned last = b->broker->workers() - 1;
  std::uint64_t at = 3000;
  while (b->gateway->home_of(at, encode(sn::pingreq{})) != last)
    ++at;
  std::vector<sent> burst;
  for (std::uint64_t i = 4000, found = 0; found < 2; ++i)
    if (b->gateway->home_of(i, encode(sn::pingreq{})) == last) {
      burst.emplace_back(i, encode(sn::pingreq{}));
      ++found;
    }
  burst.emplace_back(at, encode(sn::pingreq{}));
  const std::string id = b->id_at(0, "moved");
  burst.emplace_back(at, encode(sn::connect{.client_id = id}));
  keep_workers_busy();
  hand(burst, manner::in_bursts);
  b->settle();
  const auto got = b->all(at);
  if (last == 0) { // one worker: the datagrams have their turn in order
    ASSERT_EQ(got.size(), 2u);
    EXPECT_NE(got[0].get<sn::disconnect>(), nullptr);
    EXPECT_NE(got[1].get<sn::connack>(), nullptr);
    return;
  }
  EXPECT_TRUE(b->connected(id));
  ASSERT_GE(got.size(), 1u);
  EXPECT_NE(got.back().get<sn::connack>(), nullptr)
      << "a DISCONNECT behind it would end the connection for the client";
}

TEST_P(GatewayRequests, WithoutALimitAllHaveTheirTurnBesideMessages) {
  gateway.requests_per_round = 0;
  start();
  std::vector<sent> burst;
  for (std::uint64_t i = 0; i < 3000; ++i)
    burst.emplace_back(5000 + i, encode(sn::pingreq{}));
  keep_workers_busy();
  hand(burst, manner::in_bursts);
  EXPECT_EQ(b->gateway->counters().unknown_source, 3000u);
  EXPECT_EQ(b->gateway->counters().requests_waited, 0u);
}

TEST_P(GatewayRequests, ALongMessageOfAClientDoesNotWait) {
  ASSERT_EQ(b->connect(alice, b->id_at(0, "a"), true), sn::return_code::accepted);
  const std::uint16_t id = b->register_name(alice, "t");
  std::vector<sent> burst;
  for (std::uint16_t i = 1; i <= 10; ++i)
    burst.emplace_back(alice, publish(id, std::string(400, 'x'), i)); // not the usual form
  for (std::uint16_t i = 1; i <= 10; ++i)
    burst.emplace_back(bob, publish(sn::short_topic_id({"ab", 2}), "x", 0,
                                    sn::flags{}
                                        .with_qos(sn::qos_level::minus_one)
                                        .with_topic_type(sn::topic_id_type::short_name)));
  keep_workers_busy();
  hand(burst, manner::in_bursts);
  b->round();
  EXPECT_EQ(b->count<sn::puback>(alice), 10u);
  EXPECT_EQ(b->gateway->counters().published_minus_one, 10u);
  EXPECT_EQ(b->gateway->counters().requests_waited, 0u);
}

TEST_P(GatewayRequests, WhatASenderAskedForHasItsTurnInOrder) {
  ASSERT_EQ(b->connect(alice, b->id_at(0, "a"), true), sn::return_code::accepted);
  std::vector<sent> burst;
  for (std::uint64_t i = 0; i < 8; ++i) {
    const std::string other = b->id_at(0, "x" + std::to_string(i) + "-");
    burst.emplace_back(2000 + i, encode(sn::connect{.client_id = other}));
  }
  burst.emplace_back(alice, encode(sn::register_topic{.msg_id = 6, .topic = "t"}));
  burst.emplace_back(alice, encode(sn::subscribe{.flags = qos1, .msg_id = 7, .topic = "t"}));
  keep_workers_busy();
  hand(burst, manner::in_bursts);
  b->settle();
  EXPECT_GE(b->gateway->counters().requests_waited, 1u);
  const auto got = b->all(alice);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_NE(got[0].get<sn::regack>(), nullptr);
  EXPECT_NE(got[1].get<sn::suback>(), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Workers, GatewayBursts, testing::Values(1u, 3u));
INSTANTIATE_TEST_SUITE_P(Workers, GatewayRequests, testing::Values(1u, 3u));

} // namespace
} // namespace chainring::testing_gateway
