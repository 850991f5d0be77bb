// SPDX-License-Identifier: BSD-3-Clause
#include "frames.h"

namespace chainring::net_test {
namespace {

constexpr std::uint64_t hz = 1'000'000;

class TxBuffer : public testing::Test {
 protected:
  ring_port device{8}; // its ring takes 7 packets
  marked_media media;
  std::unique_ptr<tx_buffer> tx;
  std::uint32_t next = 0; // numbers the packets

  void SetUp() override {
    rte_eth_conf conf{};
    ASSERT_EQ(rte_eth_dev_configure(device.id(), 1, 1, &conf), 0);
    ASSERT_EQ(rte_eth_rx_queue_setup(device.id(), 0, 64, 0, nullptr, pool()), 0);
    ASSERT_EQ(rte_eth_tx_queue_setup(device.id(), 0, 64, 0, nullptr), 0);
    ASSERT_EQ(rte_eth_dev_start(device.id()), 0);
    make(16);
  }
  void make(std::uint32_t capacity) {
    tx_buffer_options o;
    o.port_id = device.id();
    o.capacity = capacity;
    o.stall_ms = 100;
    o.tsc_hz = hz;
    tx = std::move(tx_buffer::create(o)).value();
  }
  void TearDown() override {
    tx.reset();
    (void)rte_eth_dev_stop(device.id());
    (void)rte_eth_dev_close(device.id());
    (void)device.all_left();
    EXPECT_TRUE(all_back());
  }
  bool send(mark_t mark) {
    octets o;
    put32(o, next);
    rte_mbuf* m = mbuf(o);
    const bool room = tx->send(m, mark);
    if (room)
      ++next;
    else
      rte_pktmbuf_free(m);
    return room;
  }
  void stage() {
    octets o;
    put32(o, next++);
    tx->stage(mbuf(o));
  }
  std::vector<std::uint32_t> left() {
    std::vector<std::uint32_t> v;
    for (const octets& o : device.all_left())
      v.push_back(get32(o, 0));
    return v;
  }
  using numbers = std::vector<std::uint32_t>;

  /// Checks that the next packets have left in their order, each behind its mark.
  void take(const std::vector<mark_t>& marks) {
    for (const std::uint32_t n : left()) {
      ASSERT_EQ(n, seen++);
      ASSERT_LE(marks.at(n), media.reached);
    }
  }
  /// Lets marks up to `mark` become durable, and packets leave, now and then.
  void turn(std::mt19937_64& random, mark_t mark, const std::vector<mark_t>& marks) {
    if (random() % 4 == 0) media.reached = std::min<mark_t>(media.reached + random() % 8, mark);
    if (random() % 2 == 0) (void)tx->pump(media, 0);
    take(marks);
  }
  void take_all(const std::vector<mark_t>& marks) {
    while (tx->size() != 0) {
      (void)tx->pump(media, 0);
      take(marks);
    }
    EXPECT_EQ(seen, next);
  }
  std::uint32_t seen = 0; ///< packets that have left
};

TEST_F(TxBuffer, NoPacketLeavesBeforeItsMarkIsDurable) {
  for (const mark_t mark : {5u, 5u, 6u, 9u})
    ASSERT_TRUE(send(mark));
  EXPECT_EQ(tx->pump(media, 0), 0u);
  EXPECT_EQ(left(), numbers{});
  media.reached = 5;
  EXPECT_EQ(tx->pump(media, 0), 2u);
  EXPECT_EQ(left(), (numbers{0, 1}));
  media.reached = 8;
  EXPECT_EQ(tx->pump(media, 0), 1u);
  EXPECT_EQ(left(), (numbers{2}));
  media.reached = 9;
  EXPECT_EQ(tx->pump(media, 0), 1u);
  EXPECT_EQ(left(), (numbers{3}));
  EXPECT_EQ(tx->sent(), 4u);
}

TEST_F(TxBuffer, APacketWithoutAMarkKeepsItsPlaceBehindWaitingPackets) {
  ASSERT_TRUE(send(0));
  ASSERT_TRUE(send(3));
  ASSERT_TRUE(send(0));
  EXPECT_EQ(tx->pump(media, 0), 1u);
  EXPECT_EQ(left(), (numbers{0}));
  media.reached = 3;
  EXPECT_EQ(tx->pump(media, 0), 2u);
  EXPECT_EQ(left(), (numbers{1, 2}));
}

TEST_F(TxBuffer, AMarkThatIsLowerThanTheOneBeforeWaitsNoLonger) {
  media.reached = 10;
  ASSERT_TRUE(send(10));
  ASSERT_TRUE(send(4));
  EXPECT_EQ(tx->pump(media, 0), 2u);
  EXPECT_EQ(left(), (numbers{0, 1}));
  EXPECT_EQ(media.asked, 1u); // since 10 is durable, 4 is durable too
}

TEST_F(TxBuffer, PacketsWithRandomMarksKeepTheirOrderAndNeverLeaveEarly) {
  std::mt19937_64 random(run_seed());
  std::vector<mark_t> marks;
  mark_t mark = 0;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 3 != 0 && tx->free() != 0) {
      mark += random() % 3;
      const mark_t this_one = random() % 8 == 0 ? 0 : mark;
      if (send(this_one)) marks.push_back(this_one);
    }
    turn(random, mark, marks);
  }
  EXPECT_GT(seen, 1000u);
  media.reached = mark;
  take_all(marks);
  EXPECT_EQ(tx->sent(), next);
  EXPECT_EQ(tx->stalled(), 0u);
}

TEST_F(TxBuffer, AFullBufferRefusesAndLeavesTheFrameToTheCaller) {
  for (int i = 0; i < 16; ++i)
    ASSERT_TRUE(send(1));
  EXPECT_EQ(tx->free(), 0u);
  EXPECT_FALSE(send(1));
  EXPECT_EQ(tx->high_water(), 16u);
  media.reached = 1;
  EXPECT_EQ(tx->pump(media, 0), 7u);
  EXPECT_EQ(tx->free(), 7u);
  EXPECT_TRUE(send(1));
  EXPECT_EQ(left(), (numbers{0, 1, 2, 3, 4, 5, 6}));
}

TEST_F(TxBuffer, AStalledDeviceLosesNoPacketWhileItsLinkIsUp) {
  for (int i = 0; i < 16; ++i)
    ASSERT_TRUE(send(0));
  EXPECT_EQ(tx->pump(media, 0), 7u); // the device is full
  for (std::uint64_t second = 1; second <= 60; ++second)
    EXPECT_EQ(tx->pump(media, second * hz), 0u);
  EXPECT_EQ(tx->stalled(), 0u);
  EXPECT_EQ(tx->stalls(), 59u);
  EXPECT_EQ(tx->size(), 9u);
  EXPECT_EQ(left(), (numbers{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(tx->pump(media, 61 * hz), 7u);
  EXPECT_EQ(left(), (numbers{7, 8, 9, 10, 11, 12, 13}));
}

TEST_F(TxBuffer, ADeviceWhoseLinkIsDownLosesOnlyPacketsWithDurableMarks) {
  ASSERT_EQ(rte_eth_dev_set_link_down(device.id()), 0);
  for (int i = 0; i < 9; ++i)
    ASSERT_TRUE(send(1));
  ASSERT_TRUE(send(2));
  media.reached = 1;
  EXPECT_EQ(tx->pump(media, 1000), 7u); // the device is full
  EXPECT_EQ(tx->pump(media, 1000), 0u); // the stall begins
  EXPECT_EQ(tx->pump(media, 1000 + hz / 10), 0u);
  EXPECT_EQ(tx->stalled(), 0u);
  EXPECT_EQ(tx->pump(media, 999), 0u); // a time from before the stall does not count
  EXPECT_EQ(tx->stalled(), 0u);
  EXPECT_EQ(tx->pump(media, 1001 + hz / 10), 2u);
  EXPECT_EQ(tx->stalled(), 2u);
  EXPECT_EQ(tx->size(), 1u); // the packet is kept because its mark is not durable
  EXPECT_EQ(left(), (numbers{0, 1, 2, 3, 4, 5, 6}));
  media.reached = 2;
  EXPECT_EQ(tx->pump(media, 2000 + hz / 10), 1u);
  EXPECT_EQ(left(), (numbers{9}));
}

TEST_F(TxBuffer, ADeviceThatAcceptsOnePacketInTimeLosesNone) {
  for (int i = 0; i < 16; ++i)
    ASSERT_TRUE(send(0));
  std::uint64_t now = 0;
  std::vector<std::uint32_t> all;
  while (tx->size() != 0) {
    (void)tx->pump(media, now);
    now += hz / 11;
    if (rte_mbuf* m = device.left()) all.push_back(get32(taken(m), 0));
  }
  for (const std::uint32_t n : left())
    all.push_back(n);
  EXPECT_EQ(all.size(), 16u);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  EXPECT_EQ(tx->stalled(), 0u);
}

TEST_F(TxBuffer, StagedPacketsLeaveOnceTheyHaveADurableMark) {
  media.reached = 4;
  ASSERT_TRUE(send(3));
  stage();
  stage();
  EXPECT_EQ(tx->pump(media, 0), 1u); // what was sent before is not held up
  EXPECT_EQ(tx->free(), 14u);
  EXPECT_EQ(tx->pump(0), 0u); // a mark is missing, whatever it will be
  tx->release(5);
  EXPECT_EQ(tx->pump(media, 0), 0u);
  media.reached = 5;
  EXPECT_EQ(tx->pump(media, 0), 2u);
  EXPECT_EQ(left(), (numbers{0, 1, 2}));
}

TEST_F(TxBuffer, APacketThatIsSentAmongStagedOnesKeepsItsPlaceAndItsMark) {
  stage();
  ASSERT_TRUE(send(0));
  stage();
  ASSERT_TRUE(send(9));
  EXPECT_EQ(tx->pump(media, 0), 0u);
  tx->release(5);
  media.reached = 8;
  EXPECT_EQ(tx->pump(media, 0), 0u); // the last packet of these would leave too early
  ASSERT_TRUE(send(7));
  media.reached = 9;
  EXPECT_EQ(tx->pump(media, 0), 5u);
  EXPECT_EQ(left(), (numbers{0, 1, 2, 3, 4}));
}

TEST_F(TxBuffer, AReleaseWithoutStagedPacketsChangesNothing) {
  ASSERT_TRUE(send(2));
  tx->release(99);
  media.reached = 2;
  EXPECT_EQ(tx->pump(media, 0), 1u);
  EXPECT_EQ(left(), (numbers{0}));
}

TEST_F(TxBuffer, StagedPacketsThatWereNotReleasedAreFreed) {
  for (int i = 0; i < 5; ++i)
    stage();
  tx.reset();
  EXPECT_TRUE(all_back());
}

TEST_F(TxBuffer, RandomBurstsOfStagedPacketsKeepTheirOrderAndNeverLeaveEarly) {
  std::mt19937_64 random(run_seed());
  std::vector<mark_t> marks;
  std::vector<std::size_t> staged; // without a mark
  mark_t mark = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto what = random() % 8;
    if (what < 3 && tx->free() != 0) {
      staged.push_back(marks.size());
      marks.push_back(~mark_t{0});
      stage();
    } else if (what == 3 && tx->free() != 0) {
      marks.push_back(random() % 2 == 0 ? 0 : mark + random() % 3);
      ASSERT_TRUE(send(marks.back()));
    } else if (what == 4) {
      mark += random() % 3;
      for (const std::size_t n : staged)
        marks[n] = mark;
      staged.clear();
      tx->release(mark);
    }
    turn(random, mark, marks);
  }
  EXPECT_GT(seen, 1000u);
  for (const std::size_t n : staged)
    marks[n] = mark;
  tx->release(mark);
  media.reached = mark + 3;
  take_all(marks);
}

TEST_F(TxBuffer, AReservedPlaceIsFreeForNoOtherFrame) {
  for (int i = 0; i < 15; ++i)
    ASSERT_TRUE(send(0));
  tx->reserve();
  EXPECT_EQ(tx->free(), 0u);
  EXPECT_FALSE(send(0));
  tx->unreserve();
  EXPECT_TRUE(send(0));
}

TEST_F(TxBuffer, WithoutAMediaNoPacketWaits) {
  ASSERT_TRUE(send(99));
  EXPECT_EQ(tx->pump(0), 1u);
  EXPECT_EQ(left(), (numbers{0}));
}

TEST_F(TxBuffer, PacketsThatDidNotLeaveAreFreed) {
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(send(1));
  tx.reset();
  EXPECT_TRUE(all_back());
}

TEST_F(TxBuffer, ItsCapacityIsRoundedUpAndChecked) {
  make(9);
  EXPECT_EQ(tx->capacity(), 16u);
  for (const std::uint32_t bad : {0u, 1u, (1u << 24) + 1}) {
    tx_buffer_options o;
    o.capacity = bad;
    const auto made = tx_buffer::create(o);
    ASSERT_FALSE(made);
    EXPECT_NE(made.error().message.find("expected 2 to 2^24"), std::string::npos);
  }
}

} // namespace
} // namespace chainring::net_test
