// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <tuple>

#include "base/crc32c.h"
#include "ledger.h"
#include "support/seed.h"

using namespace chainring::gen;

namespace {

ledger make(const shape& s, std::uint64_t window = 1000) {
  auto l = ledger::create(s, window);
  EXPECT_TRUE(l.ok());
  return std::move(l).value();
}

ledger next_life(const ledger& l, bool complete, std::uint64_t window = 1000) {
  auto n = ledger::from_json(l.to_json(complete), "memory", window);
  EXPECT_TRUE(n.ok()) << n.error().message;
  return std::move(n).value();
}

struct wire {
  std::array<std::byte, 1500> room{};
  std::size_t size = 0;
  [[nodiscard]] std::span<const std::byte> payload() const { return {room.data(), size}; }
};

wire encode(const ledger& l, const stamp& s) {
  wire w;
  w.size = l.payload_size(s.publisher, s.sequence);
  write_payload({w.room.data(), w.size}, s);
  return w;
}

delivery_kind give(ledger& l, std::uint32_t subscriber, const stamp& s, bool dup = false) {
  stamp seen;
  const wire w = encode(l, s);
  return l.deliver(subscriber, l.topic_of(s.publisher), w.payload(), dup, seen);
}

stamp send(ledger& l, std::uint32_t publisher, bool acknowledged = true) {
  const stamp s = l.begin_send(publisher, 7);
  if (acknowledged) l.acknowledge(publisher);
  return s;
}

shape two_subscribers() {
  return {.publishers = 1, .subscribers = 2, .topics = 1};
}

} // namespace

TEST(Payload, ItIsReadAsWrittenAndAnyFlippedBitIsFound) {
  std::array<std::byte, 61> room{};
  const stamp s{9, 3, 2, 77, 123456789};
  write_payload(room, s);
  stamp seen;
  ASSERT_TRUE(read_payload(room, seen));
  EXPECT_EQ(std::tie(seen.run, seen.publisher, seen.life, seen.sequence, seen.sent_ns),
            std::tie(s.run, s.publisher, s.life, s.sequence, s.sent_ns));
  for (std::size_t bit = 0; bit < room.size() * 8; ++bit) {
    auto torn = room;
    torn[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(read_payload(torn, seen)) << bit;
  }
  for (std::size_t n = 0; n < room.size(); ++n)
    EXPECT_FALSE(read_payload(std::span(room).first(n), seen)) << n;
}

TEST(Ledger, AnAcknowledgedMessageIsOwedToTheSubscribersOfTheTimeItWasSent) {
  ledger l = make(two_subscribers());
  l.subscribe(0);
  const stamp first = send(l, 0);
  l.subscribe(1);
  const stamp second = send(l, 0);
  EXPECT_EQ(l.owed(), 3u);
  EXPECT_EQ(give(l, 1, first), delivery_kind::fresh); // a delivery that is not owed is allowed
  EXPECT_EQ(l.owed(), 3u);
  EXPECT_EQ(give(l, 0, first), delivery_kind::fresh);
  EXPECT_EQ(give(l, 0, second), delivery_kind::fresh);
  EXPECT_EQ(l.owed(), 1u);
  EXPECT_EQ(l.judge().lost, 1u);
  EXPECT_EQ(l.judge().examples.at(0).subscriber, 1u);
  EXPECT_EQ(l.judge().examples.at(0).sequence, 2u);
  EXPECT_EQ(give(l, 1, second), delivery_kind::fresh);
  EXPECT_EQ(l.owed(), 0u);
  EXPECT_EQ(l.judge().lost, 0u);
}

TEST(Ledger, ARepetitionOfASettledMessageThatWasNotOwedCountsAsLate) {
  ledger l = make(two_subscribers());
  l.subscribe(0);
  const stamp s = send(l, 0);
  l.subscribe(1);
  EXPECT_EQ(give(l, 0, s), delivery_kind::fresh);
  give(l, 1, s);
  EXPECT_EQ(l.count.late, 1u);
  EXPECT_EQ(l.count.duplicated(), 0u);
}

TEST(Ledger, ARepetitionIsRecognisedBelowAndAboveTheBaseOfTheWindow) {
  ledger l = make(two_subscribers());
  l.subscribe(0);
  l.subscribe(1);
  const stamp s = send(l, 0);
  EXPECT_EQ(give(l, 0, s), delivery_kind::fresh);
  EXPECT_EQ(give(l, 0, s, true), delivery_kind::duplicate);
  EXPECT_EQ(give(l, 1, s), delivery_kind::fresh);
  EXPECT_EQ(give(l, 0, s), delivery_kind::duplicate);
  EXPECT_EQ(l.count.duplicated_dup, 1u);
  EXPECT_EQ(l.count.duplicated_plain, 1u);
  EXPECT_EQ(l.count.delivered, 2u);
}

TEST(Ledger, ASecondDeliveryAtQos2BreaksTheContractWithinALife) {
  for (const int qos : {1, 2}) {
    ledger l = make({.publishers = 1, .subscribers = 1, .qos = qos});
    l.subscribe(0);
    const stamp s = send(l, 0);
    EXPECT_EQ(give(l, 0, s), delivery_kind::fresh);
    EXPECT_EQ(l.count.twice, 0u);
    EXPECT_EQ(give(l, 0, s, true), delivery_kind::duplicate);
    EXPECT_EQ(l.count.twice, qos == 2 ? 1u : 0u);
    ledger m = next_life(l, true); // which has forgotten the exchange of the message
    EXPECT_EQ(m.count.twice, l.count.twice);
    EXPECT_EQ(give(m, 0, s, true), delivery_kind::duplicate);
    EXPECT_EQ(m.count.twice, l.count.twice);
  }
  ledger clean = make({.publishers = 1, .subscribers = 1, .clean = true, .qos = 2});
  clean.subscribe(0);
  const stamp s = send(clean, 0);
  EXPECT_EQ(give(clean, 0, s), delivery_kind::fresh);
  EXPECT_EQ(give(clean, 0, s), delivery_kind::duplicate);
  EXPECT_EQ(clean.count.twice, 0u);
}

TEST(Ledger, AFirstDeliveryAfterALaterMessageCountsAsReordered) {
  ledger l = make(two_subscribers());
  l.subscribe(0);
  const stamp a = send(l, 0), b = send(l, 0);
  EXPECT_EQ(give(l, 0, b), delivery_kind::fresh);
  EXPECT_EQ(l.count.reordered, 0u);
  EXPECT_EQ(give(l, 0, a), delivery_kind::fresh);
  EXPECT_EQ(l.count.reordered, 1u);
  EXPECT_EQ(give(l, 0, a), delivery_kind::duplicate);
  EXPECT_EQ(l.count.reordered, 1u);
}

TEST(Ledger, AMessageThatWasNeverSentIsFound) {
  ledger l = make({.publishers = 2, .subscribers = 2, .topics = 2});
  l.subscribe(0);
  l.subscribe(1);
  const stamp s = send(l, 0);
  auto with = [&](auto change) {
    stamp other = s;
    change(other);
    return give(l, 0, other);
  };
  EXPECT_EQ(with([](stamp& o) { o.sequence = 2; }), delivery_kind::unknown);
  EXPECT_EQ(with([](stamp& o) { o.sequence = 0; }), delivery_kind::unknown);
  EXPECT_EQ(with([](stamp& o) { o.run ^= 1; }), delivery_kind::unknown);
  EXPECT_EQ(with([](stamp& o) { o.life = 1; }), delivery_kind::unknown);
  EXPECT_EQ(with([](stamp& o) { o.publisher = 2; }), delivery_kind::unknown);
  EXPECT_EQ(give(l, 1, s), delivery_kind::misrouted); // this is a subscriber of the other topic
  stamp seen;
  EXPECT_EQ(l.deliver(0, 1, encode(l, s).payload(), false, seen), delivery_kind::misrouted);
  EXPECT_EQ(l.count.corrupted(), 7u);
  EXPECT_EQ(give(l, 0, s), delivery_kind::fresh);
}

TEST(Ledger, AnUnacknowledgedMessageThatOnlySomeSubscribersGotIsFound) {
  ledger l = make(two_subscribers());
  l.subscribe(0);
  l.subscribe(1);
  const stamp s = send(l, 0, false);
  EXPECT_EQ(l.partial(), 0u);
  EXPECT_EQ(give(l, 0, s), delivery_kind::fresh);
  EXPECT_EQ(l.partial(), 1u);
  EXPECT_EQ(l.judge().partial, 1u);
  EXPECT_EQ(l.owed(), 0u);
  l.acknowledge(0);
  EXPECT_EQ(l.judge().partial, 0u);
  EXPECT_EQ(l.judge().lost, 1u);
}

TEST(Ledger, NothingIsOwedToASubscriptionThatEnded) {
  ledger l = make(two_subscribers());
  l.subscribe(0);
  l.subscribe(1);
  send(l, 0);
  const stamp s = send(l, 0);
  give(l, 0, s);
  EXPECT_EQ(l.owed(), 3u);
  l.unsubscribe(0);
  EXPECT_EQ(l.owed(), 2u);
  l.subscribe(0);
  EXPECT_EQ(l.owed(), 2u);
  send(l, 0);
  EXPECT_EQ(l.owed(), 4u);
}

TEST(Ledger, APublisherWaitsWhileItsWindowIsFull) {
  ledger l = make(two_subscribers(), 128);
  l.subscribe(0);
  std::vector<stamp> sent;
  while (!l.window_full(0))
    sent.push_back(send(l, 0));
  EXPECT_EQ(sent.size(), 128u);
  for (std::size_t i = 1; i < sent.size(); ++i)
    EXPECT_EQ(give(l, 0, sent[i]), delivery_kind::fresh);
  EXPECT_TRUE(l.window_full(0));
  EXPECT_EQ(give(l, 0, sent[0]), delivery_kind::fresh);
  EXPECT_FALSE(l.window_full(0));
  EXPECT_EQ(l.owed(), 0u);
}

TEST(Ledger, BelowQos1TheWindowMovesOnAndUndeliveredMessagesAreCounted) {
  shape of = two_subscribers();
  of.qos = 0;
  ledger l = make(of, 128);
  l.subscribe(0);
  constexpr std::uint64_t n = 1000;
  for (std::uint64_t i = 1; i <= n; ++i) {
    const stamp s = l.begin_send(0, 7);
    EXPECT_FALSE(l.window_full(0));
    if (i % 10 != 0) {
      EXPECT_EQ(give(l, 0, s), delivery_kind::fresh);
    }
  }
  EXPECT_EQ(l.judge().undelivered, n / 10);
  EXPECT_EQ(l.judge().lost, 0u);
}

TEST(Ledger, ALedgerReadFromItsFileIsTheSame) {
  ledger l = make({.publishers = 3, .subscribers = 6, .topics = 3, .payload_max = 900});
  for (std::uint32_t s = 0; s < 6; ++s)
    l.subscribe(s);
  std::vector<stamp> sent;
  for (std::uint32_t i = 0; i < 300; ++i)
    sent.push_back(send(l, i % 3));
  const stamp open = send(l, 1, false);
  for (std::size_t i = 0; i < sent.size(); ++i)
    if (i % 7 != 0) give(l, sent[i].publisher, sent[i]);
  ledger m = next_life(l, true);
  EXPECT_EQ(m.owed(), l.owed());
  EXPECT_EQ(m.of(), l.of());
  EXPECT_EQ(m.judge().lost, l.judge().lost);
  EXPECT_EQ(m.count.delivered, l.count.delivered);
  EXPECT_TRUE(m.outstanding(1));
  const stamp again = m.last_stamp(1);
  EXPECT_EQ(std::tie(again.sequence, again.life, again.sent_ns),
            std::tie(open.sequence, open.life, open.sent_ns)); // the message has the same octets
  EXPECT_EQ(give(m, 1, sent[1]), delivery_kind::duplicate);
  EXPECT_EQ(give(m, 0, sent[0]), delivery_kind::fresh);
  m.acknowledge(1);
  EXPECT_EQ(send(m, 1).life, 1u);
}

TEST(Ledger, AMessageThatADeadLifeMayHaveReceivedIsInDoubtAndNotLost) {
  ledger l = make(two_subscribers());
  l.subscribe(0);
  const stamp written = send(l, 0);
  ledger m = next_life(l, false);
  EXPECT_EQ(m.judge().lost, 0u);
  EXPECT_EQ(m.judge().in_doubt, 1u);
  // A message sent after the last write has a number that the next life uses again.
  const stamp unwritten{written.run, 0, 0, 2, 7};
  EXPECT_EQ(give(m, 0, unwritten), delivery_kind::unlisted);
  ledger n = next_life(l, false);
  const stamp second = send(n, 0);
  EXPECT_EQ(second.sequence, 2u);
  EXPECT_EQ(second.life, 1u);
  EXPECT_EQ(give(n, 0, unwritten), delivery_kind::unlisted);
  EXPECT_EQ(n.owed(), 2u);
  EXPECT_EQ(give(n, 0, second), delivery_kind::fresh);
  EXPECT_EQ(n.judge().lost, 0u);
  EXPECT_EQ(n.judge().in_doubt, 1u);
  EXPECT_EQ(n.count.unknown, 0u);
  send(n, 0);
  EXPECT_EQ(n.judge().lost, 1u); // the message is of this life, so it is lost and not in doubt
  EXPECT_EQ(give(n, 0, written), delivery_kind::fresh);
  EXPECT_EQ(n.judge().in_doubt, 0u);
}

TEST(Ledger, AMessageBeyondTheEndOfACompleteLifeIsUnknown) {
  ledger l = make(two_subscribers());
  l.subscribe(0);
  const stamp s = send(l, 0);
  ledger m = next_life(l, true);
  send(m, 0);
  EXPECT_EQ(give(m, 0, {s.run, 0, 0, 2, 7}), delivery_kind::unknown);
}

TEST(Ledger, ALedgerAboveTheMemoryLimitIsRefused) {
  EXPECT_FALSE(ledger::create({.publishers = 1000, .subscribers = 1}, 1u << 30).ok());
  EXPECT_FALSE(ledger::create(two_subscribers(), ~std::uint64_t{0} / 2).ok());
}

// Compares the ledger with plain sets: every message is in one set only of owed, delivered and
// free.
TEST(Ledger, RandomTrafficGivesTheResultOfPlainSets) {
  std::mt19937_64 random(chainring::test::fresh_seed());
  for (int round = 0; round < 20; ++round) {
    shape of{.publishers = 4, .subscribers = 5, .topics = 3, .wildcard = random() % 2 == 0};
    ledger l = make(of, 64 + random() % 300);
    using delivery = std::tuple<std::uint32_t, std::uint32_t, std::uint64_t>;
    std::set<delivery> owed, got;
    std::vector<stamp> sent;
    std::array<bool, 5> subscribed{};
    for (int step = 0; step < 4000; ++step) {
      const std::uint32_t p = random() % 4, s = random() % 5;
      const auto matches = [&](std::uint32_t subscriber) {
        return of.wildcard || subscriber % of.topics == p % of.topics;
      };
      if (random() % 200 == 0 && !subscribed[s]) {
        subscribed[s] = true;
        l.subscribe(s);
      } else if (random() % 2 == 0 && !l.window_full(p)) {
        sent.push_back(send(l, p));
        for (std::uint32_t i = 0; i < 5; ++i)
          if (subscribed[i] && matches(i)) owed.insert({i, p, sent.back().sequence});
      } else if (!owed.empty()) {
        auto it = owed.begin();
        std::advance(it, static_cast<long>(random() % std::min<std::size_t>(owed.size(), 40)));
        const auto [to, from, sequence] = *it;
        const auto of_it = std::ranges::find_if(
            sent, [&](const stamp& x) { return x.publisher == from && x.sequence == sequence; });
        EXPECT_EQ(give(l, to, *of_it), delivery_kind::fresh);
        got.insert(*it);
        owed.erase(it);
        EXPECT_EQ(give(l, to, *of_it), delivery_kind::duplicate);
      }
      if (random() % 500 == 0) l = next_life(l, true, 64 + random() % 300);
      ASSERT_EQ(l.owed(), owed.size());
    }
    EXPECT_EQ(l.judge().lost, owed.size());
    EXPECT_EQ(l.count.delivered, got.size());
  }
}
