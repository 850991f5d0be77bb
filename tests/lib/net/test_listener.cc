// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <cstring>
#include <rte_cycles.h>

#include "frames.h"
#include "net/listener.h"

namespace chainring::net_test {
namespace {

struct heard {
  client_address from;
  std::string text;
  std::uint64_t received_tsc;
  bool to_group = false;
};

class recording_sink final : public datagram_sink {
 public:
  unsigned home = 0;
  bool follow = false; ///< all but "connect" belong elsewhere until that was received
  std::vector<heard> got;

  unsigned home_of(client_address, std::span<const std::byte> payload) noexcept override {
    if (follow && std::ranges::any_of(got, [](const heard& h) { return h.text == "connect"; }))
      return home;
    return follow && payload.size() != std::strlen("connect") ? 1 - home : home;
  }
  void receive(client_address from, bool to_group, std::span<const std::byte> payload,
               std::uint64_t received_tsc) noexcept override {
    got.push_back({from,
                   {reinterpret_cast<const char*>(payload.data()), payload.size()},
                   received_tsc,
                   to_group});
  }
};

/// A group of two workers and two ports: worker 0 reads port 0, and worker 1 reads port 1.
class Listener : public testing::Test {
 protected:
  static constexpr std::uint32_t places = 512;
  std::array<std::unique_ptr<ring_port>, 2> devices;
  std::array<std::unique_ptr<net::interface>, 2> interfaces;
  std::unique_ptr<listener_group> group;
  recording_sink first, second;
  marked_media media;
  listener_options options;

  void SetUp() override {
    for (std::uint16_t i = 0; i < 2; ++i) {
      devices[i] = std::make_unique<ring_port>(1024);
      interface_config c = configuration();
      c.port_id = devices[i]->id();
      c.interface_id = i;
      auto opened = open_interface(c, {.pool = pool()});
      ASSERT_TRUE(opened) << opened.error().message;
      interfaces[i] = std::move(*opened);
    }
    options.workers = 2;
    options.tx_capacity = places;
    options.handed_capacity = 32;
    options.waiting_max = 4096;
    options.descriptors = 64;
    options.pool = pool();
    auto made = create();
    ASSERT_TRUE(made) << made.error().message;
    group = std::move(*made);
    second.home = 1;
  }
  result<std::unique_ptr<listener_group>> create() {
    std::array<net::interface*, 2> all{interfaces[0].get(), interfaces[1].get()};
    return listener_group::create(all, options);
  }
  void TearDown() override {
    group.reset();
    for (auto& i : interfaces)
      i.reset();
    for (auto& d : devices)
      d.reset();
    EXPECT_TRUE(all_back());
  }
  static client_address address(std::uint16_t interface_id) {
    return endpoint{peer, peer_port, interface_id}.key();
  }
  rte_mbuf* to_port(std::size_t port, octets frame) {
    std::ranges::copy(mac_octets(interfaces[port]->device.mac()), frame.begin());
    return mbuf(frame);
  }
  void arrives(std::size_t port, const char* what) {
    devices[port]->arrives(to_port(port, datagram_frame(text(what))));
  }
  bool send_one(unsigned worker, client_address to) {
    datagram_transport& out = group->worker(worker).out();
    if (out.begin(to, 100).empty()) return false;
    out.commit(100);
    return true;
  }
  /// Lets both workers poll until port `port` counts as emptied for both.
  void settle(std::uint64_t after) {
    for (int i = 0; i < 100 && group->worker(1).heard_until(address(0)) < after; ++i) {
      (void)group->worker(0).poll(first);
      (void)group->worker(1).poll(second);
      rte_delay_us_block(1000);
    }
  }
};

TEST_F(Listener, ADatagramGoesToTheWorkerOfItsClient) {
  arrives(0, "mine");
  EXPECT_TRUE(group->worker(0).poll(first));
  ASSERT_EQ(first.got.size(), 1u);
  EXPECT_EQ(first.got[0].text, "mine");
  EXPECT_EQ(first.got[0].from, address(0));
  first.home = 1;
  arrives(0, "another's");
  EXPECT_TRUE(group->worker(0).poll(first));
  EXPECT_EQ(first.got.size(), 1u);
  EXPECT_TRUE(group->worker(1).poll(second));
  ASSERT_EQ(second.got.size(), 1u);
  EXPECT_EQ(second.got[0].text, "another's");
  EXPECT_EQ(group->worker(0).handed_over(), 1u);
}

TEST_F(Listener, ADatagramThatWasSentToABroadcastIsHandedOverAsOne) {
  for (unsigned home : {0u, 1u}) {
    first.home = home;
    devices[0]->arrives(mbuf(ethernet(
        ipv4(udp(text("all"), {.to = 0xffffffff}), {.to = 0xffffffff}), 0x0800, everybody)));
    arrives(0, "one");
    (void)group->worker(0).poll(first);
    (void)group->worker(1).poll(second);
    const auto& got = home == 0 ? first.got : second.got;
    ASSERT_EQ(got.size(), 2u);
    EXPECT_TRUE(got[0].to_group);
    EXPECT_FALSE(got[1].to_group);
  }
}

TEST_F(Listener, ADatagramHandedOverCarriesTheTimeAtWhichItWasRead) {
  first.home = 1;
  arrives(0, "ping");
  const std::uint64_t before = rte_rdtsc();
  (void)group->worker(0).poll(first);
  const std::uint64_t after = rte_rdtsc();
  rte_delay_us_block(1000); // the datagram waits in the ring
  (void)group->worker(1).poll(second);
  ASSERT_EQ(second.got.size(), 1u);
  EXPECT_GE(second.got[0].received_tsc, before);
  EXPECT_LE(second.got[0].received_tsc, after);
}

TEST_F(Listener, NoWorkerHasHeardAPortThatIsNotEmptied) {
  const std::uint64_t start = rte_rdtsc();
  settle(start);
  EXPECT_GE(group->worker(0).heard_until(address(0)), start);
  EXPECT_GE(group->worker(1).heard_until(address(0)), start);
  for (int i = 0; i < 300; ++i)
    arrives(0, "ping");
  const std::uint64_t waiting = rte_rdtsc();
  for (int burst = 0; burst < 4; ++burst) {
    rte_delay_us_block(3000);
    (void)group->worker(0).poll(first); // this reads 64 of them each time
    (void)group->worker(1).poll(second);
    EXPECT_LT(group->worker(0).heard_until(address(0)), waiting);
    EXPECT_LT(group->worker(1).heard_until(address(0)), waiting);
  }
  settle(waiting);
  EXPECT_EQ(first.got.size(), 300u);
  EXPECT_GE(group->worker(0).heard_until(address(0)), waiting);
}

TEST_F(Listener, ABurstBetweenTwoReadsThatFindLittleDoesNotKeepAWorkerFromHearing) {
  settle(rte_rdtsc());
  for (int round = 0; round < 3; ++round) {
    rte_delay_us_block(3000);
    const std::uint64_t start = rte_rdtsc();
    (void)group->worker(0).poll(first); // finds nothing
    (void)group->worker(1).poll(second);
    for (int i = 0; i < 64; ++i)
      arrives(0, "burst");
    rte_delay_us_block(3000);
    (void)group->worker(0).poll(first); // a full read
    (void)group->worker(0).poll(first); // an empty one: what came before the first one was read
    (void)group->worker(0).poll(first);
    (void)group->worker(1).poll(second);
    EXPECT_GE(group->worker(0).heard_until(address(0)), start) << round;
    EXPECT_EQ(first.got.size(), 64u * (round + 1));
  }
}

TEST_F(Listener, AWorkerHasHeardAPortOnlyAfterItTookTheDatagramsHandedOverToIt) {
  settle(rte_rdtsc());
  first.home = 1;
  arrives(0, "ping");
  const std::uint64_t waiting = rte_rdtsc();
  for (int i = 0; i < 10; ++i) { // worker 0 empties the port while worker 1 does not run
    (void)group->worker(0).poll(first);
    rte_delay_us_block(1000);
  }
  EXPECT_GE(group->worker(0).heard_until(address(0)), waiting);
  EXPECT_LT(group->worker(1).heard_until(address(0)), waiting);
  (void)group->worker(1).poll(second);
  EXPECT_EQ(second.got.size(), 1u);
  EXPECT_GE(group->worker(1).heard_until(address(0)), waiting);
}

TEST_F(Listener, AFullLinkDoesNotStopTheOtherLinks) {
  // Worker 1 answers on both links; the link to port 0 has no room left.
  while (group->worker(1).out().credit(address(0)) != 0)
    ASSERT_TRUE(send_one(1, address(0)));
  EXPECT_EQ(group->worker(1).out().credit(address(1)), places);
  first.home = 1;
  arrives(0, "handed, and its link is full");
  arrives(1, "read");
  (void)group->worker(0).poll(first);
  (void)group->worker(1).poll(second);
  ASSERT_EQ(second.got.size(), 1u);
  EXPECT_EQ(second.got[0].text, "read");
  EXPECT_TRUE(send_one(1, address(1)));
  media.reached = 1;
  group->worker(1).out().release(1);
  EXPECT_TRUE(group->worker(1).send(media, rte_rdtsc()));
  (void)group->worker(1).poll(second);
  EXPECT_EQ(second.got.size(), 2u);
}

TEST_F(Listener, ADatagramWithCreditKeepsItsPlaceAgainstOtherFrames) {
  interfaces[0]->arp->learn(peer, peer_mac, rte_rdtsc());
  datagram_transport& out = group->worker(0).out();
  const std::uint32_t credit = out.credit(address(0));
  EXPECT_EQ(credit, places);
  for (std::uint32_t i = 0; i < credit; ++i)
    ASSERT_TRUE(send_one(0, address(0)));
  EXPECT_EQ(out.credit(address(0)), 0u);
  EXPECT_EQ(out.dropped(), 0u);
  EXPECT_FALSE(send_one(0, address(0)));
  EXPECT_EQ(out.dropped(), 1u);
  // A ping arrives in between. Its answer finds no place, and the datagram that was begun keeps its
  // own.
  std::array<datagram, 64> in;
  rte_mbuf* ping = to_port(0, echo_frame());
  EXPECT_EQ(group->worker(0).links()[0]->process({&ping, 1}, in, rte_rdtsc()), 0u);
  EXPECT_EQ(group->worker(0).links()[0]->drops()[drop_reason::transmit_full], 1u);
  out.release(0);
  std::size_t sent = 0;
  for (int i = 0; i < 20; ++i) {
    (void)group->worker(0).send(media, rte_rdtsc());
    sent += devices[0]->all_left().size();
  }
  EXPECT_EQ(sent, credit);
  EXPECT_EQ(out.credit(address(0)), places);
}

TEST_F(Listener, ADatagramThatIsDestroyedBeforeItIsSentGivesBackItsFrame) {
  ASSERT_TRUE(send_one(0, address(0)));
  EXPECT_EQ(group->worker(0).out().credit(address(0)), places - 1);
} // TearDown checks that the frame is back

TEST_F(Listener, AnAddressOfNoInterfaceHasNoCredit) {
  EXPECT_EQ(group->worker(0).out().credit(address(7)), 0u);
  EXPECT_FALSE(send_one(0, address(7)));
  EXPECT_EQ(group->worker(0).heard_until(address(7)), 0u);
}

TEST_F(Listener, AnEarlierDatagramOfTheSenderMayDecideWhereALaterOneBelongs) {
  first.follow = true;
  for (const char* what : {"early", "connect", "late"})
    arrives(0, what);
  (void)group->worker(0).poll(first);
  ASSERT_EQ(first.got.size(), 2u);
  EXPECT_EQ(first.got[0].text, "connect");
  EXPECT_EQ(first.got[1].text, "late");
  EXPECT_EQ(group->worker(0).handed_over(), 1u);
}

TEST_F(Listener, AFrameThatSomebodyElseHoldsIsNotSentAgain) {
  interfaces[0]->arp->learn(peer, peer_mac, rte_rdtsc());
  std::vector<rte_mbuf*> held;
  for (int i = 0; i < 20; ++i) {
    held.push_back(to_port(0, datagram_frame(text("question"))));
    rte_mbuf_refcnt_update(held.back(), 1);
    devices[0]->arrives(held.back());
    (void)group->worker(0).poll(first);
    ASSERT_TRUE(send_one(0, address(0)));
    group->worker(0).out().release(0);
    (void)group->worker(0).send(media, rte_rdtsc());
    (void)devices[0]->all_left();
  }
  for (rte_mbuf* m : held) {
    EXPECT_EQ(rte_mbuf_refcnt_read(m), 1);
    EXPECT_EQ(m->pkt_len, 42u + 8);
    rte_pktmbuf_free(m);
  }
}

TEST_F(Listener, TheStockOfFramesHasABoundAndGoesBackToThePool) {
  const unsigned before = rte_mempool_in_use_count(pool());
  for (int i = 0; i < 500; ++i) {
    arrives(0, "question");
    (void)group->worker(0).poll(first);
    EXPECT_LE(rte_mempool_in_use_count(pool()), before + datagram_transport::stock_max);
  }
  EXPECT_EQ(first.got.size(), 500u);
} // TearDown checks that the frames are back

TEST_F(Listener, ADatagramBegunAndNotCommittedGivesItsFrameToTheNext) {
  interfaces[0]->arp->learn(peer, peer_mac, rte_rdtsc());
  datagram_transport& out = group->worker(0).out();
  const auto at = out.begin(address(1), 50).data();
  EXPECT_EQ(out.begin(address(0), 100).data(), at);
  out.commit(100);
  out.release(0);
  (void)group->worker(0).send(media, rte_rdtsc());
  ASSERT_EQ(devices[0]->all_left().size(), 1u);
}

TEST_F(Listener, ADatagramForAFullHandOverRingIsDroppedAndCounted) {
  first.home = 1;
  for (int i = 0; i < 40; ++i)
    arrives(0, "many");
  (void)group->worker(0).poll(first);
  EXPECT_EQ(group->worker(0).handed_over(), 32u);
  EXPECT_EQ(group->worker(0).handed_dropped(), 8u);
}

/// Three workers and a port with three receive queues: worker n reads queue n.
class QueueListener : public testing::Test {
 protected:
  static constexpr unsigned workers = 3;
  ring_port device{1024, workers};
  std::unique_ptr<net::interface> interface;
  std::unique_ptr<listener_group> group;
  std::array<recording_sink, workers> sinks;
  marked_media media;
  listener_options options;

  void SetUp() override {
    interface_config c = configuration();
    c.port_id = device.id();
    c.interface_id = 0;
    auto opened = open_interface(c, {.pool = pool(), .rx_queues = workers, .tx_queues = workers});
    ASSERT_TRUE(opened) << opened.error().message;
    interface = std::move(*opened);
    ASSERT_EQ(interface->device.rx_queues(), workers);
    options.workers = workers;
    options.tx_capacity = 512;
    options.handed_capacity = 32;
    options.waiting_max = 1024;
    options.descriptors = 64;
    options.pool = pool();
    net::interface* all[] = {interface.get()};
    auto made = listener_group::create(all, options);
    ASSERT_TRUE(made) << made.error().message;
    group = std::move(*made);
  }
  void TearDown() override {
    group.reset();
    interface.reset();
    EXPECT_TRUE(all_back());
  }
  void arrives(unsigned queue, const std::string& what) {
    octets frame = datagram_frame(text(what.c_str()));
    std::ranges::copy(mac_octets(interface->device.mac()), frame.begin());
    device.arrives(mbuf(frame), queue);
  }
  static client_address client() { return endpoint{peer, peer_port, 0}.key(); }
  void poll_all() {
    for (unsigned w = 0; w < workers; ++w)
      (void)group->worker(w).poll(sinks[w]);
  }
};

TEST_F(QueueListener, EachWorkerReadsItsQueueAndSendsOnItsOwn) {
  interface->arp->learn(peer, peer_mac, rte_rdtsc());
  for (unsigned w = 0; w < workers; ++w) {
    sinks[w].home = w;
    arrives(w, "queue " + std::to_string(w));
  }
  for (unsigned w = 0; w < workers; ++w) {
    listener& l = group->worker(w);
    EXPECT_TRUE(l.poll(sinks[w]));
    ASSERT_EQ(sinks[w].got.size(), 1u);
    EXPECT_EQ(sinks[w].got[0].text, "queue " + std::to_string(w));
    ASSERT_FALSE(l.out().begin(client(), 100).empty());
    l.out().commit(100);
    l.out().release(0);
    EXPECT_TRUE(l.send(media, rte_rdtsc()));
    EXPECT_EQ(device.all_left(w).size(), 1u);
    EXPECT_EQ(l.handed_over(), 0u);
  }
}

TEST_F(QueueListener, AHomeTakesWhatAllReadersHandedOverInTheirOrder) {
  for (auto& sink : sinks)
    sink.home = 2;
  for (int i = 0; i < 10; ++i)
    for (unsigned q = 0; q < workers; ++q)
      arrives(q, std::to_string(q) + " " + std::to_string(i));
  poll_all();
  (void)group->worker(2).poll(sinks[2]);
  ASSERT_EQ(sinks[2].got.size(), 30u);
  for (unsigned q = 0; q < workers; ++q) {
    int next = 0;
    for (const heard& h : sinks[2].got) {
      if (h.text[0] != static_cast<char>('0' + q)) continue;
      EXPECT_EQ(h.text, std::to_string(q) + " " + std::to_string(next++));
    }
    EXPECT_EQ(next, 10);
  }
  EXPECT_EQ(group->worker(0).handed_over(), 10u);
  EXPECT_EQ(group->worker(1).handed_over(), 10u);
  EXPECT_EQ(group->worker(2).handed_over(), 0u);
}

TEST_F(QueueListener, AReaderWithAFullRingTakesNoRoomFromTheOthers) {
  for (auto& sink : sinks)
    sink.home = 2;
  for (int i = 0; i < 60; ++i)
    arrives(0, "many");
  (void)group->worker(0).poll(sinks[0]);
  EXPECT_EQ(group->worker(0).handed_over(), 32u);
  EXPECT_EQ(group->worker(0).handed_dropped(), 28u);
  for (int i = 0; i < 20; ++i)
    arrives(1, "few");
  (void)group->worker(1).poll(sinks[1]);
  EXPECT_EQ(group->worker(1).handed_dropped(), 0u);
  (void)group->worker(2).poll(sinks[2]);
  EXPECT_EQ(sinks[2].got.size(), 52u);
}

TEST_F(QueueListener, AWorkerHasHeardAPortOnlyWhenEachOfItsQueuesWasEmptied) {
  const std::uint64_t start = rte_rdtsc();
  for (int i = 0; i < 10; ++i) { // worker 1 does not run, so nobody knows what is in its queue
    (void)group->worker(0).poll(sinks[0]);
    (void)group->worker(2).poll(sinks[2]);
    rte_delay_us_block(1000);
  }
  for (unsigned w : {0u, 2u})
    EXPECT_EQ(group->worker(w).heard_until(client()), 0u);
  for (int i = 0; i < 10; ++i) {
    poll_all();
    rte_delay_us_block(1000);
  }
  for (unsigned w = 0; w < workers; ++w)
    EXPECT_GE(group->worker(w).heard_until(client()), start);
  // A datagram that waits in the queue of worker 1 holds the time back for all of them.
  sinks[1].home = 1;
  arrives(1, "ping");
  const std::uint64_t waiting = rte_rdtsc();
  for (int i = 0; i < 10; ++i) {
    (void)group->worker(0).poll(sinks[0]);
    (void)group->worker(2).poll(sinks[2]);
    rte_delay_us_block(1000);
  }
  for (unsigned w : {0u, 2u})
    EXPECT_LT(group->worker(w).heard_until(client()), waiting);
  poll_all();
  EXPECT_EQ(sinks[1].got.size(), 1u);
}

/// Answers each datagram so often that the answers to a burst leave no room for those to another.
class answering_sink final : public datagram_sink {
 public:
  explicit answering_sink(listener& l) : out_(l.out()) {}
  std::size_t heard_from_others = 0;

  unsigned home_of(client_address, std::span<const std::byte>) noexcept override { return 0; }
  void receive(client_address from, bool, std::span<const std::byte> payload,
               std::uint64_t) noexcept override {
    heard_from_others += payload.size() == std::strlen("from another queue");
    for (int i = 0; i < 5 && !out_.begin(from, 20).empty(); ++i)
      out_.commit(20);
  }

 private:
  datagram_transport& out_;
};

TEST_F(QueueListener, ABusyQueueDoesNotKeepAWorkerFromWhatOthersHandOver) {
  interface->arp->learn(peer, peer_mac, rte_rdtsc());
  answering_sink sink(group->worker(0));
  arrives(1, "from another queue");
  (void)group->worker(1).poll(sinks[1]); // its clients are at home at worker 0
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 64; ++i)
      arrives(0, "own");
    (void)group->worker(0).poll(sink);
    group->worker(0).out().release(0);
    while (group->worker(0).send(media, rte_rdtsc()))
      (void)device.all_left(0);
  }
  EXPECT_EQ(sink.heard_from_others, 1u);
}

TEST_F(QueueListener, APortWithMoreQueuesThanWorkersIsRefused) {
  group.reset();
  options.workers = 2;
  net::interface* all[] = {interface.get()};
  auto made = listener_group::create(all, options);
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("has 3 receive queues; expected at most one for each of 2"),
            std::string::npos)
      << made.error().message;
}

TEST_F(Listener, ATooSmallPoolOrBufferIsRefusedWithTheNumbers) {
  group.reset();
  options.tx_capacity = 4096;
  auto made = create();
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("the packet pool has 8191 buffers"), std::string::npos)
      << made.error().message;
  options.tx_capacity = 256;
  made = create();
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("256 packets are too small; expected at least 512"),
            std::string::npos);
  options.tx_capacity = 512;
  options.pool = nullptr;
  EXPECT_FALSE(create());
  options.pool = pool();
  options.workers = 0;
  EXPECT_FALSE(create());
}

} // namespace
} // namespace chainring::net_test
