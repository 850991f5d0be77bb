// SPDX-License-Identifier: BSD-3-Clause
// What strangers send who are no party to a connection, and what keeps them from harming the
// others.
#include "forged.h"
#include "stream/first_sequence.h"
#include "stream/source_rates.h"
#include "stream_fixture.h"

namespace chainring::stream {
namespace {

constexpr std::uint32_t kernel_address = 0xC6120702; ///< 198.18.7.2

TEST_F(Tcp, WithoutCookiesTheOldestHalfOpenConnectionGivesWay) {
  options.connections_max = 300;
  options.half_open_max = 100;
  options.syn_cookies = false;
  start();
  line.lost_per_mille = 0;
  for (unsigned n = 0; n < 20000; ++n) {
    forged f;
    f.from = 0xC6120800 + n / 50; // from many hosts, none of which exists
    f.from_port = static_cast<std::uint16_t>(1000 + n);
    stack->input(make(pool, f), 0, 0, true);
    ASSERT_LE(stack->open(), 101u);
    if (n % 100 == 0) round();
  }
  EXPECT_GT(stack->counters().half_open_dropped.value(), 19000u);
  run([] {
    kernel_client c;
    ASSERT_TRUE(c.connect()) << std::strerror(errno);
    ASSERT_TRUE(c.send("in between"));
    EXPECT_EQ(c.receive(10), "in between");
  });
}

TEST_F(Tcp, EveryClientGetsThroughAFloodOfForgedSyns) {
  options.connections_max = 300;
  options.half_open_max = 50;
  start();
  std::atomic<bool> done{false};
  std::thread clients = client_thread([&] {
    for (int i = 0; i < 40; ++i) {
      kernel_client c;
      ASSERT_TRUE(c.connect()) << "client " << i << ": " << std::strerror(errno);
      ASSERT_TRUE(c.send("in between"));
      EXPECT_EQ(c.receive(10), "in between");
    }
    done = true;
  });
  for (std::uint32_t n = 0; !done; ++n) {
    for (std::uint32_t i = 0; i < 60; ++i) {
      forged f;
      f.from = 0xC6120800 + (60 * n + i) % 65536; // none of these hosts exists
      f.from_port = static_cast<std::uint16_t>(n);
      f.sequence = 60 * n + i;
      if (rte_mbuf* const m = make(pool, f)) stack->input(m, 0, 0, true);
    }
    round();
  }
  clients.join();
  EXPECT_GE(stack->counters().cookies_accepted.value(), 40u);
  EXPECT_GT(stack->counters().cookies_sent.value(), 1000u);
  EXPECT_EQ(stack->counters().half_open_dropped.value(), 0u);
}

/// Fills the line of half-open connections, so that the next client gets a cookie.
void fill_line(tcp_stack& stack, rte_mempool* pool, std::uint32_t places) {
  for (std::uint32_t n = 0; n < places; ++n)
    stack.input(make(pool, {.from = 0xC6120800, .from_port = static_cast<std::uint16_t>(n + 1)}), 0,
                0, true);
}

TEST_F(Tcp, AConnectionThatCameOfACookieCarriesMegabytesBothWays) {
  options.half_open_max = 10;
  start();
  fill_line(*stack, pool, 10);
  std::string all(1 << 20, 'm');
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = static_cast<char>('a' + i % 23);
  run([&] {
    kernel_client c;
    ASSERT_TRUE(c.connect());
    std::thread sender = client_thread([&] { EXPECT_TRUE(c.send(all)); });
    EXPECT_TRUE(c.receive(all.size()) == all);
    sender.join();
  });
  EXPECT_EQ(stack->counters().cookies_accepted.value(), 1u);
}

TEST_F(Tcp, ACookieRemembersHowLongTheClientsSegmentsMayBe) {
  options.half_open_max = 10;
  start();
  fill_line(*stack, pool, 10);
  line.largest = 0;
  run([&] {
    kernel_client c;
    c.segments_of(700);
    ASSERT_TRUE(c.connect());
    ASSERT_TRUE(c.send(std::string(20000, 's')));
    EXPECT_EQ(c.receive(20000).size(), 20000u);
  });
  EXPECT_EQ(stack->counters().cookies_accepted.value(), 1u);
  EXPECT_EQ(line.largest, 40u + 536u); // the next smaller size that a cookie can say
}

TEST_F(Tcp, AConnectionThatIsCompletedTakesThePlaceOfAHalfOpenOne) {
  options.connections_max = 5;
  start();
  fill_line(*stack, pool, 5);
  run([] {
    kernel_client c;
    ASSERT_TRUE(c.connect()) << std::strerror(errno);
    ASSERT_TRUE(c.send("x"));
    EXPECT_EQ(c.receive(1), "x");
  });
  EXPECT_EQ(stack->counters().half_open_dropped.value(), 1u);
}

TEST_F(Tcp, GuessedCookiesMakeNoConnection) {
  options.half_open_max = 10;
  start();
  fill_line(*stack, pool, 11);
  ASSERT_EQ(stack->counters().cookies_sent.value(), 1u);
  std::minstd_rand random(11);
  for (unsigned n = 0; n < 20000; ++n) {
    forged f;
    f.from_port = static_cast<std::uint16_t>(1000 + n % 100);
    f.sequence = static_cast<std::uint32_t>(random());
    f.acknowledged = static_cast<std::uint32_t>(random() << 1);
    f.flags = RTE_TCP_ACK_FLAG;
    stack->input(make(pool, f), 0, 0, true);
    if (n % 100 == 0) round();
  }
  EXPECT_EQ(stack->open(), 10u);
  EXPECT_GE(stack->counters().cookies_refused.value(), 20000u);
}

TEST(FirstSequence, ACookieIsReadOnlyByWhoHasAllOfIt) {
  first_sequence s;
  ASSERT_TRUE(s.make());
  const connection_ends ends{0xC0000201, 0xC0000202, 1883, 40000};
  const std::uint64_t now = 1'000'000;
  for (const syn_offer& offer :
       {syn_offer{536, false}, {1220, true}, {1440, false}, {1460, true}}) {
    const std::uint32_t cookie = s.cookie(ends, 77, offer, now);
    EXPECT_EQ(s.read_cookie(cookie, ends, 77, now), offer);
    EXPECT_EQ(s.read_cookie(cookie, ends, 77, now + first_sequence::period_s), offer);
    EXPECT_FALSE(s.read_cookie(cookie, ends, 77, now + 2 * first_sequence::period_s));
    EXPECT_FALSE(s.read_cookie(cookie, ends, 77, now + 3 * first_sequence::period_s));
    EXPECT_FALSE(s.read_cookie(cookie, ends, 78, now));
    for (unsigned bit = 0; bit < 32; ++bit)
      EXPECT_FALSE(s.read_cookie(cookie ^ 1u << bit, ends, 77, now)) << "bit " << bit;
    connection_ends other = ends;
    other.peer_port = 40001;
    EXPECT_FALSE(s.read_cookie(cookie, other, 77, now));
    other = ends;
    other.own = 0xC0000203;
    EXPECT_FALSE(s.read_cookie(cookie, other, 77, now));
  }
  EXPECT_EQ(s.read_cookie(s.cookie(ends, 1, {1459, false}, now), ends, 1, now)->mss, 1440);
  EXPECT_EQ(s.read_cookie(s.cookie(ends, 1, {9000, false}, now), ends, 1, now)->mss, 1460);
  EXPECT_EQ(s.read_cookie(s.cookie(ends, 1, {100, false}, now), ends, 1, now)->mss, 536);
  first_sequence another;
  ASSERT_TRUE(another.make());
  EXPECT_FALSE(another.read_cookie(s.cookie(ends, 77, {}, now), ends, 77, now));
}

// --- how many connections a host may begin ------------------------------------------------------

TEST_F(Tcp, AHostBeginsSoManyConnectionsInASecondAndNoMore) {
  options.connections_per_second_max = 3;
  start();
  std::vector<kernel_client> all(3);
  run([&] {
    for (auto& c : all)
      ASSERT_TRUE(c.connect());
  });
  std::atomic<bool> fourth{false};
  kernel_client late;
  std::thread other = client_thread([&] { fourth = late.connect(); });
  ASSERT_TRUE(run_until([&] { return stack->counters().refused_rate.value() != 0; }));
  EXPECT_FALSE(fourth);
  EXPECT_EQ(handler.open.size(), 3u);
  clock += rte_get_tsc_hz(); // the kernel repeats its SYN, and now there is a token
  ASSERT_TRUE(run_until([&] { return fourth.load(); }));
  other.join();
}

TEST_F(Tcp, NobodyUsesUpTheConnectionsOfAHostBySendingInItsName) {
  options.connections_per_second_max = 1;
  options.connections_per_host_max = 10;
  start();
  for (std::uint16_t n = 1; n < 500; ++n) // none of them is completed
    stack->input(make(pool, {.from = kernel_address, .from_port = n}), 0, 0, true);
  run([] {
    kernel_client c;
    ASSERT_TRUE(c.connect()) << std::strerror(errno);
  });
  EXPECT_EQ(stack->counters().refused_rate.value(), 0u);
  EXPECT_EQ(stack->counters().refused_host.value(), 0u);
}

TEST(SourceRates, TokensComeBackWithTime) {
  constexpr std::uint64_t hz = 1000;
  source_rates r(4, hz, make_hash_key(1));
  const net::ip_address host(0xC0000201), other(0xC0000202);
  for (int i = 0; i < 4; ++i)
    EXPECT_TRUE(r.take(host, 5));
  EXPECT_FALSE(r.take(host, 5));
  EXPECT_FALSE(r.allows(host, 254));
  EXPECT_TRUE(r.allows(other, 5));
  EXPECT_TRUE(r.take(host, 255)); // a quarter of a second later
  EXPECT_FALSE(r.take(host, 255));
  EXPECT_FALSE(r.take(host, 3)) << "an older time brings no token back";
  for (int i = 0; i < 4; ++i)
    EXPECT_TRUE(r.take(host, 100'000)) << "no more than four are kept";
  EXPECT_FALSE(r.take(host, 100'000));
}

TEST(SourceRates, HostsOfOneIpv6PrefixShareTheirTokens) {
  source_rates r(1, 1000, make_hash_key(1));
  EXPECT_TRUE(r.take({0x2001'0DB8'0000'0001, 1}, 1));
  EXPECT_FALSE(r.take({0x2001'0DB8'0000'0001, 2}, 1));
  EXPECT_TRUE(r.take({0x2001'0DB8'0000'0002, 1}, 1));
}

TEST(SourceRates, AHostInAFullTableTakesThePlaceThatRemembersLeast) {
  source_rates r(10, 1000, make_hash_key(1), 4); // a single set
  for (std::uint32_t host = 1; host <= 4; ++host)
    for (std::uint32_t i = 0; i < host; ++i)
      EXPECT_TRUE(r.take(host, 1));
  EXPECT_EQ(r.forgotten(), 0u);
  EXPECT_TRUE(r.take(5, 1)); // in the place of host 1
  EXPECT_EQ(r.forgotten(), 1u);
  for (int i = 0; i < 6; ++i)
    EXPECT_TRUE(r.take(4, 1));
  EXPECT_FALSE(r.take(4, 1));
  EXPECT_TRUE(r.take(6, 2000)) << "by now the others have all their tokens again";
  EXPECT_EQ(r.forgotten(), 1u);
  source_rates unlimited(0, 1000, make_hash_key(1));
  for (int i = 0; i < 1000; ++i)
    EXPECT_TRUE(unlimited.take(1, 1));
}

// --- segments within a connection ---------------------------------------------------------------

TEST_F(Tcp, AForgedResetOrSynDoesNotEndAConnectionOfAnother) {
  kernel_client c;
  run([&] {
    c.bind_port(20001);
    ASSERT_TRUE(c.connect());
    ASSERT_TRUE(c.send("before"));
    EXPECT_EQ(c.receive(6), "before");
  });
  std::minstd_rand random(3);
  for (unsigned n = 0; n < 20000; ++n) {
    forged f;
    f.from = 0xC6120702;
    f.from_port = 20001;
    // Half of them are within the window, and none begins where the window does (RFC 5961).
    f.sequence = n % 4 < 2 ? line.next_sequence + 1 + static_cast<std::uint32_t>(random() % 60000)
                           : static_cast<std::uint32_t>(random()) << 1;
    f.acknowledged = static_cast<std::uint32_t>(random()) << 1;
    f.flags = n % 2 == 0
                  ? RTE_TCP_RST_FLAG
                  : static_cast<std::uint8_t>(RTE_TCP_SYN_FLAG | (random() & RTE_TCP_ACK_FLAG));
    stack->input(make(pool, f), 0, 0, true);
    if (n % 100 == 0) round();
  }
  ASSERT_TRUE(handler.gone.empty());
  run([&] {
    ASSERT_TRUE(c.send("after"));
    EXPECT_EQ(c.receive(5), "after");
  });
}

TEST_F(Tcp, ForgedSegmentsAreChallengedOnceInHalfASecond) {
  kernel_client c;
  run([&] {
    c.bind_port(20003);
    ASSERT_TRUE(c.connect());
    ASSERT_TRUE(c.send("before"));
    EXPECT_EQ(c.receive(6), "before");
  });
  const auto inject = [&](std::uint32_t sequence, std::uint32_t acknowledged, std::uint8_t flags) {
    stack->input(make(pool, {.from = kernel_address,
                             .from_port = 20003,
                             .sequence = sequence,
                             .acknowledged = acknowledged,
                             .flags = flags,
                             .payload = "evil"}),
                 0, 0, true);
  };
  const std::uint32_t next = line.next_sequence;
  const std::uint64_t sent = stack->counters().packets_sent.value();
  inject(next + 10, 0, RTE_TCP_RST_FLAG);
  EXPECT_EQ(stack->counters().challenged.value(), 1u);
  EXPECT_EQ(stack->counters().packets_sent.value(), sent + 1);
  inject(next + 11, 0, RTE_TCP_RST_FLAG);
  inject(next + 5, 0, RTE_TCP_SYN_FLAG);
  inject(next, 77, RTE_TCP_ACK_FLAG); // acknowledges what was never sent
  EXPECT_EQ(stack->counters().challenged.value(), 1u);
  EXPECT_EQ(stack->counters().challenges_withheld.value(), 3u);
  EXPECT_EQ(stack->counters().packets_sent.value(), sent + 1);
  inject(next - 10, 0, RTE_TCP_RST_FLAG); // outside the window: nobody asks
  inject(next, 0, 0);                     // acknowledges nothing
  EXPECT_EQ(stack->counters().challenges_withheld.value(), 3u);
  clock += rte_get_tsc_hz() / 2 + 1;
  round();
  inject(next, 77, RTE_TCP_ACK_FLAG);
  EXPECT_EQ(stack->counters().challenged.value(), 2u);
  run([&] {
    ASSERT_TRUE(c.send("after"));
    EXPECT_EQ(c.receive(5), "after");
  });
  EXPECT_EQ(handler.open.begin()->second.text, "beforeafter");
}

TEST_F(Tcp, AClientWhoseResetWasLostConnectsAgainFromItsPort) {
  {
    kernel_client c;
    run([&] {
      c.bind_port(20004);
      ASSERT_TRUE(c.connect());
      ASSERT_TRUE(c.send("x"));
      EXPECT_EQ(c.receive(1), "x");
    });
    line.lost_per_mille = 1000;
    c.reset();
    for (int i = 0; i < 100; ++i)
      round();
    line.lost_per_mille = 0;
    ASSERT_EQ(handler.open.size(), 1u);
  }
  run([&] {
    kernel_client again;
    again.bind_port(20004);
    ASSERT_TRUE(again.connect()) << std::strerror(errno); // its kernel resets the old one
    ASSERT_TRUE(again.send("again"));
    EXPECT_EQ(again.receive(5), "again");
  });
  EXPECT_EQ(stack->counters().challenged.value(), 1u);
  ASSERT_GE(handler.gone.size(), 1u);
  EXPECT_EQ(handler.gone[0].reason, end_reason::reset);
}

TEST_F(Tcp, ASegmentWithAWrongChecksumIsDroppedAndCounted) {
  // The sum of the pseudo-header and the segment, without its checksum.
  const forged f{.payload = "abc"};
  rte_mbuf* const probe = make(pool, f);
  const auto* const ip = rte_pktmbuf_mtod(probe, const rte_ipv4_hdr*);
  const std::uint16_t right = rte_ipv4_udptcp_cksum(ip, ip + 1);
  const std::uint16_t partial = rte_ipv4_phdr_cksum(ip, 0);
  rte_pktmbuf_free(probe);
  const auto inject = [&](std::uint16_t checksum) {
    forged g = f;
    g.checksum = checksum;
    stack->input(make(pool, g), 0, 0, false);
  };
  inject(static_cast<std::uint16_t>(right + 1));
  EXPECT_EQ(stack->counters().checksum_wrong.value(), 1u);
  inject(partial);
  EXPECT_EQ(stack->counters().checksum_partial.value(), 1u);
  EXPECT_EQ(stack->open(), 0u);
  inject(right);
  EXPECT_EQ(stack->open(), 1u);
}

} // namespace
} // namespace chainring::stream
