// SPDX-License-Identifier: BSD-3-Clause
// Payloads that become messages where a port has received them: a broker with blocks of 2,048
// bytes, and frames in data rooms, as a port with a receive_pool fills them.
#include <rte_mempool.h>

#include "broker_fixture.h"
#include "mqttsn/taking_sink.h"
#include "support/eal_main.h"

namespace chainring::testing_broker {
namespace {

constexpr std::uint64_t alice = 101, bob = 102, carol = 103;
constexpr auto one = sn::flags{}.with_qos(sn::qos_level::one);
constexpr auto two = sn::flags{}.with_qos(sn::qos_level::two);
constexpr std::uint16_t frame_headers = 42; ///< Ethernet, IPv4 and UDP
const std::size_t lengths[] = {1, 64, 256, 1024, 1400};

std::string text_of(std::size_t size, unsigned seed = 0) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i)
    text += static_cast<char>('a' + (i * 7 + i / 26 + seed) % 26);
  return text;
}

class Received : public testing::Test {
 protected:
  static constexpr std::uint32_t mbufs = 63;
  std::unique_ptr<bench> b;
  std::unique_ptr<receive_pool> rooms;
  std::optional<sn::taking_sink> sink;
  broker_config config = small_config();
  std::uint16_t topic = 0;
  std::uint16_t last_id = 100;

  void SetUp() override { start(1); }
  void start(std::size_t octets_min) {
    region_options o;
    o.block_size = 2048;
    auto medium = memory_media(4 << 20, durability_class::process);
    o.areas = chainring::broker::areas(small_layout(), medium->size(), o.block_size);
    auto made = chainring::broker::open(region::create_on(std::move(medium), o).value(), config);
    ASSERT_TRUE(made) << made.error().message;
    b = std::make_unique<bench>(std::move(*made));
    rooms = receive_pool::create("rooms", b->broker->blocks(), {.mbufs = mbufs, .cache_mbufs = 0})
                .value();
    sink.emplace(*b->gateway, 0, *rooms);
    b->broker->worker(0).receive_from(&*sink, octets_min);
    b->connect(alice, "alice", true);
    b->connect(bob, "bob", false);
    b->subscribe(bob, "t", sn::qos_level::one);
    topic = b->register_name(alice, "t");
  }
  void TearDown() override {
    EXPECT_EQ(rte_mempool_avail_count(rooms->mempool()), mbufs) << "an mbuf did not come back";
    b->broker->worker(0).receive_from(nullptr, 0);
    rooms.reset();
  }
  rte_mbuf* frame_of(const bytes& datagram) const {
    rte_mbuf* const m = rte_pktmbuf_alloc(rooms->mempool());
    EXPECT_NE(m, nullptr);
    char* const at =
        rte_pktmbuf_append(m, static_cast<std::uint16_t>(frame_headers + datagram.size()));
    std::memset(at, 'H', frame_headers);
    std::memcpy(at + frame_headers, datagram.data(), datagram.size());
    return m;
  }
  /// Datagrams of alice that a port has received in one burst. The frames are given back.
  void arrive(std::vector<rte_mbuf*> frames) {
    std::vector<net::received_datagram> burst;
    for (rte_mbuf* m : frames) {
      net::received_datagram d{};
      d.from = alice;
      d.received_tsc = rte_rdtsc();
      d.data = rte_pktmbuf_mtod_offset(m, const std::byte*, frame_headers);
      d.size = m->data_len - frame_headers;
      d.frame = m;
      burst.push_back(d);
    }
    sink->receive_burst(burst);
    for (rte_mbuf* m : frames)
      rte_pktmbuf_free(m);
  }
  bytes publish_of(const std::string& text, sn::flags flags = one) {
    return encode(sn::publish{.flags = flags,
                              .topic_id = topic,
                              .msg_id = ++last_id,
                              .data = std::as_bytes(std::span(text))});
  }
  void publish(const std::string& text, sn::flags flags = one) {
    arrive({frame_of(publish_of(text, flags))});
    b->settle();
  }
  /// The code of the oldest PUBACK for alice.
  sn::return_code answer() {
    auto r = b->next(alice);
    const auto* p = r ? r->get<sn::puback>() : nullptr;
    EXPECT_NE(p, nullptr) << "no PUBACK";
    return p != nullptr ? p->code : sn::return_code::not_supported;
  }
  [[nodiscard]] std::uint64_t in_place() const { return b->broker->counters().received_in_place; }
  [[nodiscard]] std::uint64_t copied() const { return b->broker->counters().received_copied; }
  [[nodiscard]] std::uint64_t free_blocks() const {
    return b->broker->block_statistics().free_blocks;
  }
};

TEST_F(Received, PayloadsOfEveryLengthAreDeliveredWholeAtOnceAndFromAQueue) {
  for (const std::size_t n : lengths) {
    publish(text_of(n));
    EXPECT_EQ(answer(), sn::return_code::accepted);
    EXPECT_EQ(b->take(bob), text_of(n)) << n << " octets, placed at once";
  }
  b->connect(carol, "carol", true);
  b->subscribe(carol, "t", sn::qos_level::one);
  for (const std::size_t n : lengths) {
    publish(text_of(n));
    EXPECT_EQ(b->take(bob), text_of(n)) << n << " octets, for two queues";
    EXPECT_EQ(b->take(carol), text_of(n));
  }
  b->ask<sn::disconnect>(bob, sn::disconnect{});
  for (const std::size_t n : lengths)
    publish(text_of(n));
  b->connect(bob, "bob", false);
  for (const std::size_t n : lengths)
    EXPECT_EQ(b->take(bob), text_of(n)) << n << " octets, from the queue";
  EXPECT_EQ(in_place(), 3 * std::size(lengths));
  EXPECT_EQ(copied(), 0u);
}

TEST_F(Received, ARetainedMessageAndOneAtQos2AreTakenToo) {
  publish(text_of(1024), one.with_retain(true));
  EXPECT_EQ(answer(), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), text_of(1024));
  b->connect(carol, "carol", true);
  b->subscribe(carol, "t", sn::qos_level::one);
  EXPECT_EQ(b->take(carol), text_of(1024)) << "the retained message";
  const bytes datagram = publish_of(text_of(256), two);
  arrive({frame_of(datagram), frame_of(datagram)}); // repeated
  b->settle();
  EXPECT_EQ(b->take(bob), text_of(256));
  EXPECT_EQ(b->take(carol), text_of(256));
  EXPECT_EQ(b->take(bob), "(nothing)");
  EXPECT_EQ(in_place(), 2u);
}

TEST_F(Received, TheMessagesOfABurstComeInTheirOrderWhereverTheyLie) {
  std::vector<rte_mbuf*> frames;
  for (unsigned i = 0; i < 8; ++i)
    frames.push_back(frame_of(publish_of(text_of(100 + i, i))));
  rte_mbuf_refcnt_update(frames[3], 1); // somebody else reads this frame, so it is copied
  arrive(frames);
  rte_pktmbuf_free(frames[3]);
  b->settle();
  for (unsigned i = 0; i < 8; ++i)
    EXPECT_EQ(b->take(bob), text_of(100 + i, i));
  EXPECT_EQ(in_place(), 7u);
  EXPECT_EQ(copied(), 1u);
}

TEST_F(Received, APayloadThatIsTooShortOrAtQos0IsCopied) {
  b->broker->worker(0).receive_from(&*sink, 257);
  publish(text_of(300), one.with_qos(sn::qos_level::zero));
  EXPECT_EQ(b->take(bob), text_of(300));
  publish(text_of(256));
  publish(text_of(257));
  publish("", one);
  for (const std::size_t n : {256, 257})
    EXPECT_EQ(b->take(bob), text_of(n));
  EXPECT_EQ(b->take(bob), "");
  EXPECT_EQ(in_place(), 1u);
  EXPECT_EQ(copied(), 0u);
}

TEST_F(Received, ATopicThatDoesNotFitInFrontOfItsPayloadIsCopiedWithIt) {
  // 128 octets of headroom, the headers, and 7 octets of the PUBLISH lie in front.
  constexpr std::size_t front = 128 + frame_headers + 7;
  for (const std::size_t size : {front, front + 1}) {
    const std::string name = text_of(size);
    b->subscribe(bob, name, sn::qos_level::one);
    topic = b->register_name(alice, name);
    publish(text_of(200, 5));
    EXPECT_EQ(answer(), sn::return_code::accepted);
    EXPECT_EQ(b->take(bob), text_of(200, 5));
  }
  EXPECT_EQ(in_place(), 1u);
  EXPECT_EQ(copied(), 1u);
}

TEST_F(Received, AQueueThatGrowsKeepsWhatFoundItsRingFull) {
  b->ask<sn::disconnect>(bob, sn::disconnect{});
  std::vector<rte_mbuf*> frames;
  for (unsigned i = 0; i < config.queue_slots; ++i)
    frames.push_back(frame_of(publish_of(text_of(500, i))));
  arrive(frames);
  b->settle();
  for (unsigned i = 0; i < config.queue_slots; ++i)
    EXPECT_EQ(answer(), sn::return_code::accepted);
  b->connect(bob, "bob", false);
  for (unsigned i = 0; i < config.queue_slots; ++i)
    EXPECT_EQ(b->take(bob), text_of(500, i));
  EXPECT_EQ(in_place(), config.queue_slots);
  EXPECT_EQ(copied(), 0u) << "a message that found no place at once was copied";
}

TEST_F(Received, AMessageForAFullQueueIsRefusedAndLeavesNoBlock) {
  b->ask<sn::disconnect>(bob, sn::disconnect{});
  for (unsigned i = 0; i < config.queue_slots; ++i) {
    publish(text_of(300, i));
    EXPECT_EQ(answer(), sn::return_code::accepted);
  }
  const std::uint64_t before = free_blocks();
  for (unsigned i = 0; i < 5; ++i) {
    publish(text_of(300, i));
    EXPECT_EQ(answer(), sn::return_code::congestion);
  }
  EXPECT_EQ(free_blocks(), before);
  b->connect(bob, "bob", false);
  for (unsigned i = 0; i < config.queue_slots; ++i)
    EXPECT_EQ(b->take(bob), text_of(300, i));
  b->settle();
  EXPECT_EQ(free_blocks(), before + config.queue_slots);
}

TEST_F(Received, WhereTheRegionIsFullPublishesAreRefusedAndThePoolStaysFull) {
  std::vector<chain> all(4096);
  const auto free = static_cast<std::uint32_t>(free_blocks());
  all.resize(b->broker->blocks().allocate(free, all));
  ASSERT_FALSE(all.empty());
  for (int i = 0; i < 100; ++i) { // more than the pool has mbufs
    publish(text_of(300));
    EXPECT_EQ(answer(), sn::return_code::congestion);
  }
  EXPECT_EQ(rte_mempool_avail_count(rooms->mempool()), mbufs);
  EXPECT_EQ(in_place(), 0u);
  EXPECT_GE(copied(), 100u);
  b->broker->blocks().release(all);
  publish(text_of(300));
  EXPECT_EQ(answer(), sn::return_code::accepted);
  EXPECT_EQ(b->take(bob), text_of(300));
  EXPECT_EQ(in_place(), 1u);
}

TEST_F(Received, AMessageBehindAForwardersHeaderIsTaken) {
  b->subscribe(bob, "ab", sn::qos_level::one);
  const std::string node = "node";
  const auto arrive_from_node = [&](const bytes& inner) {
    arrive({frame_of(
        encode(sn::encapsulated{.node_id = std::as_bytes(std::span(node)), .inner = inner}))});
    b->settle();
  };
  arrive_from_node(encode(sn::connect{.flags = sn::flags{}.with_clean(true), .client_id = node}));
  const std::string text = text_of(700);
  arrive_from_node(encode(sn::publish{.flags = one.with_topic_type(sn::topic_id_type::short_name),
                                      .topic_id = 'a' << 8 | 'b',
                                      .msg_id = 5,
                                      .data = std::as_bytes(std::span(text))}));
  EXPECT_EQ(b->take(bob), text);
  EXPECT_EQ(in_place(), 1u);
}

TEST_F(Received, TheRegionIsInOrderWithMessagesThatWereTaken) {
  b->ask<sn::disconnect>(bob, sn::disconnect{});
  for (const std::size_t n : lengths)
    publish(text_of(n));
  auto wrong = chainring::broker::check(b->broker->region());
  ASSERT_TRUE(wrong);
  EXPECT_TRUE(wrong->empty()) << wrong->front();
}

} // namespace
} // namespace chainring::testing_broker
