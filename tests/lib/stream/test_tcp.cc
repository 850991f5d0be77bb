// SPDX-License-Identifier: BSD-3-Clause
#include "forged.h"
#include "stream_fixture.h"

namespace chainring::stream {
namespace {

std::string numbered(std::size_t size) {
  std::string text;
  for (std::uint64_t n = 0; text.size() < size; ++n)
    text += std::to_string(n) + " ";
  text.resize(size);
  return text;
}

TEST_F(Tcp, WhatAClientSendsComesBackFromAnEcho) {
  run([] {
    kernel_client c;
    ASSERT_TRUE(c.connect());
    ASSERT_TRUE(c.send("hello"));
    EXPECT_EQ(c.receive(5), "hello");
    c.finish();
    EXPECT_EQ(c.receive_end(), 0);
  });
  EXPECT_EQ(handler.gone.size(), 1u);
  EXPECT_TRUE(handler.open.empty());
  EXPECT_EQ(stack->counters().accepted.value(), 1u);
}

TEST_F(Tcp, MegabytesGoBothWaysInOrder) {
  const std::string all = numbered(4 << 20);
  run([&] {
    kernel_client c;
    ASSERT_TRUE(c.connect());
    std::thread sender = client_thread([&] { EXPECT_TRUE(c.send(all)); });
    EXPECT_TRUE(c.receive(all.size()) == all);
    sender.join();
    c.finish();
    EXPECT_EQ(c.receive_end(), 0);
  });
}

TEST_F(Tcp, AClientWithAClosedWindowIsServedWhenItReadsAgain) {
  const std::string all = numbered(1 << 20);
  run([&] {
    kernel_client c;
    c.receive_buffer(4096);
    ASSERT_TRUE(c.connect());
    std::thread sender = client_thread([&] { EXPECT_TRUE(c.send(all)); });
    std::this_thread::sleep_for(std::chrono::seconds(2)); // it reads nothing; a probe is due
    EXPECT_TRUE(c.receive(all.size()) == all);
    sender.join();
  });
}

TEST_F(Tcp, AHandlerThatDoesNotConsumeStopsItsPeer) {
  handler.consumes = false;
  handler.echo = false;
  kernel_client c;
  run([&] { ASSERT_TRUE(c.connect()); });
  const std::string all = numbered(1 << 20);
  std::atomic<bool> sent{false};
  std::thread sender = client_thread([&] {
    EXPECT_TRUE(c.send(all));
    sent = true;
  });
  ASSERT_TRUE(run_until([&] { return handler.received_octets >= 60000; }));
  for (int i = 0; i < 20000; ++i)
    round();
  EXPECT_LE(handler.received_octets, 65535u);
  EXPECT_FALSE(sent);
  handler.consumes = true;
  stack->consumed(handler.open.begin()->first, 65535);
  ASSERT_TRUE(run_until([&] { return handler.received_octets == all.size() && sent; }));
  sender.join();
  EXPECT_TRUE(handler.open.begin()->second.text == all);
}

TEST_F(Tcp, AResetByThePeerIsReported) {
  run([] {
    kernel_client c;
    ASSERT_TRUE(c.connect());
    ASSERT_TRUE(c.send("x"));
    EXPECT_EQ(c.receive(1), "x");
    c.reset();
  });
  ASSERT_TRUE(run_until([&] { return handler.gone.size() == 1; }));
  EXPECT_TRUE(handler.gone[0].ended);
  EXPECT_EQ(handler.gone[0].reason, end_reason::reset);
  EXPECT_EQ(stack->open(), 0u);
}

TEST_F(Tcp, AnAbortResetsThePeer) {
  kernel_client c;
  run([&] { ASSERT_TRUE(c.connect()); });
  ASSERT_TRUE(run_until([&] { return handler.open.size() == 1; }));
  stack->abort(handler.open.begin()->first);
  handler.forget(handler.open.begin()->first);
  run([&] { EXPECT_EQ(c.receive_end(), -ECONNRESET); });
  EXPECT_EQ(stack->open(), 0u);
}

TEST_F(Tcp, WhatWasWrittenBeforeAHandlersCloseArrives) {
  kernel_client c;
  run([&] { ASSERT_TRUE(c.connect()); });
  ASSERT_TRUE(run_until([&] { return handler.open.size() == 1; }));
  const connection mine = handler.open.begin()->first;
  run([&] { ASSERT_TRUE(c.send("not consumed")); });
  handler.consumes = false;
  ASSERT_TRUE(run_until([&] { return handler.received_octets != 0; }));
  handler.send(mine, " goodbye");
  handler.close(mine);
  run([&] {
    EXPECT_EQ(c.receive(1000), "not consumed goodbye");
    EXPECT_EQ(c.receive_end(), 0);
  });
}

TEST_F(Tcp, AClientThatFinishesFirstStillReceives) {
  handler.closes_after = false;
  kernel_client c;
  run([&] {
    ASSERT_TRUE(c.connect());
    ASSERT_TRUE(c.send("question"));
    c.finish();
  });
  ASSERT_TRUE(
      run_until([&] { return handler.open.size() == 1 && handler.open.begin()->second.finished; }));
  const connection mine = handler.open.begin()->first;
  handler.send(mine, " answer");
  run([&] { EXPECT_EQ(c.receive(15), "question answer"); });
  handler.close(mine);
  run([&] { EXPECT_EQ(c.receive_end(), 0); });
  ASSERT_TRUE(run_until([&] { return stack->open() == 0; }));
}

TEST_F(Tcp, APortWithoutAListenerRefuses) {
  run([] {
    kernel_client c;
    EXPECT_FALSE(c.connect(own_port + 1));
    EXPECT_EQ(errno, ECONNREFUSED);
  });
}

// The side that closes first waits in TIME-WAIT. Here it is the stack.
TEST_F(Tcp, AClientMayUseItsPortAgainAtOnce) {
  for (int i = 0; i < 5; ++i) {
    kernel_client c;
    run([&] {
      c.bind_port(20000);
      bool connected = c.connect();
      // The kernel may still wait for the last acknowledgement of the connection before.
      for (int tries = 0; !connected && errno == EADDRNOTAVAIL && tries < 6000; ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        connected = c.connect();
      }
      ASSERT_TRUE(connected) << std::strerror(errno);
      ASSERT_TRUE(c.send("again"));
      EXPECT_EQ(c.receive(5), "again");
    });
    ASSERT_EQ(handler.open.size(), 1u);
    handler.close(handler.open.begin()->first);
    run([&] {
      EXPECT_EQ(c.receive_end(), 0);
      c.close();
    });
    EXPECT_EQ(stack->open(), 1u) << "there is no TIME-WAIT to be used again";
  }
}

TEST_F(Tcp, HundredsOfClientsComeAndGo) {
  constexpr int rounds = 20, at_once = 50;
  run([&] {
    for (int r = 0; r < rounds; ++r) {
      std::vector<kernel_client> all(at_once);
      for (auto& c : all)
        ASSERT_TRUE(c.connect()) << std::strerror(errno);
      for (int i = 0; i < at_once; ++i)
        ASSERT_TRUE(all[static_cast<std::size_t>(i)].send("client " + std::to_string(100 + i)));
      for (int i = 0; i < at_once; ++i)
        ASSERT_EQ(all[static_cast<std::size_t>(i)].receive(10),
                  "client " + std::to_string(100 + i));
      for (int i = 0; i < at_once; ++i)
        if (i % 3 == 0) all[static_cast<std::size_t>(i)].reset();
    }
  });
  ASSERT_TRUE(run_until([&] { return stack->open() == 0; }));
  EXPECT_EQ(handler.gone.size(), std::size_t{rounds * at_once});
  EXPECT_EQ(stack->counters().accepted.value(), stack->counters().ended.value());
}

TEST_F(Tcp, AHostHasSoManyConnectionsAndNoMore) {
  options.connections_per_host_max = 3;
  start();
  std::vector<kernel_client> all(3);
  run([&] {
    for (auto& c : all)
      ASSERT_TRUE(c.connect());
  });
  std::atomic<bool> fourth{false};
  kernel_client late;
  std::thread other = client_thread([&] { fourth = late.connect(); });
  ASSERT_TRUE(run_until([&] { return stack->counters().refused_host.value() != 0; }));
  EXPECT_FALSE(fourth);
  EXPECT_EQ(handler.open.size(), 3u);
  all[0].reset(); // the kernel repeats its SYN, and now there is a place
  ASSERT_TRUE(run_until([&] { return fourth.load(); }));
  other.join();
}

TEST_F(Tcp, EverythingArrivesInOrderOverALineThatLosesAndExchangesPackets) {
  const std::string all = numbered(256 << 10);
  line.lost_per_mille = 30;
  line.exchanged_per_mille = 20;
  run([&] {
    std::vector<std::thread> clients;
    for (int i = 0; i < 4; ++i)
      clients.push_back(client_thread([&] {
        kernel_client c;
        ASSERT_TRUE(c.connect()) << std::strerror(errno);
        std::thread sender = client_thread([&] { EXPECT_TRUE(c.send(all)); });
        EXPECT_TRUE(c.receive(all.size()) == all);
        sender.join();
      }));
    for (auto& c : clients)
      c.join();
  });
  EXPECT_GT(line.lost, 20u);
  EXPECT_GT(line.exchanged, 20u);
}

TEST_F(Tcp, RandomSegmentsHarmNobody) {
  kernel_client c;
  run([&] {
    c.bind_port(20002);
    ASSERT_TRUE(c.connect());
  });
  std::minstd_rand random(5);
  const unsigned before = rte_mempool_in_use_count(pool);
  for (unsigned n = 0; n < 50000; ++n) {
    forged f;
    f.from = random() % 2 == 0 ? 0xC6120702 : 0xC6120703 + random() % 4;
    f.from_port = static_cast<std::uint16_t>(random() % 2 == 0 ? 20002 : 1000 + random() % 50);
    f.sequence = static_cast<std::uint32_t>(random());
    f.acknowledged = static_cast<std::uint32_t>(random());
    f.flags = static_cast<std::uint8_t>(random());
    f.payload.assign(random() % 1200, 'r');
    rte_mbuf* const m = make(pool, f);
    ASSERT_NE(m, nullptr) << "the packets before are not given back";
    // Any octet behind the IP header may be another one.
    for (int i = 0; i < 3; ++i)
      rte_pktmbuf_mtod(m, unsigned char*)[20 + random() % (m->data_len - 20)] =
          static_cast<unsigned char>(random());
    stack->input(m, 0, 0, true);
    if (n % 50 == 0) round();
  }
  // Whatever became of the connection, the next one works.
  run([] {
    kernel_client next;
    ASSERT_TRUE(next.connect()) << std::strerror(errno);
    ASSERT_TRUE(next.send("next"));
    EXPECT_EQ(next.receive(4), "next");
  });
  EXPECT_LE(rte_mempool_in_use_count(pool), before + 3000);
}

TEST_F(Tcp, ASecondStackIsRefused) {
  const auto second = tcp_stack::create({}, handler, *packets);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, errc::busy);
}

TEST_F(Tcp, AllFramesReturnToThePool) {
  const auto in_use = [&] { return rte_mempool_in_use_count(pool); };
  const unsigned before = in_use();
  run([] {
    for (int i = 0; i < 20; ++i) {
      kernel_client c;
      ASSERT_TRUE(c.connect());
      ASSERT_TRUE(c.send(std::string(3000, 'x')));
      EXPECT_EQ(c.receive(3000).size(), 3000u);
      if (i % 2 == 0) c.reset();
    }
  });
  ASSERT_TRUE(run_until([&] { return stack->open() == 0; }));
  EXPECT_TRUE(run_until([&] { return in_use() <= before; })) << in_use() << " of " << before;
}

} // namespace
} // namespace chainring::stream
