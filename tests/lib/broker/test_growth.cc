// SPDX-License-Identifier: BSD-3-Clause
// Growth of tables while clients work.
#include "../region/region_fixture.h"
#include "broker/access.h"
#include "broker_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_broker {
namespace {

constexpr std::uint64_t publisher = 9000, first_client = 1000;
constexpr unsigned clients = 100, filters_each = 2, messages_each = 4;

store_layout four_sessions() {
  store_layout l = tiny_layout();
  l.sessions_max = 4;
  l.subscriptions_max = 8;
  l.messages_max = 16;
  return l;
}

std::string id_of(unsigned n) {
  return "client-" + std::to_string(n);
}
std::string filter_of(unsigned n, unsigned which) {
  return "f/" + std::to_string(n) + "/" + std::to_string(which);
}

class Growth : public testing::Test {
 protected:
  test::line_bytes bytes = test::line_bytes(4 << 20);
  broker_config config = small_config(2);

  std::unique_ptr<bench> open(bool fresh) {
    auto made =
        broker_on(std::make_unique<test::kept_media>(bytes), config, fresh, four_sessions());
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::make_unique<bench>(std::move(*made)) : nullptr;
  }
  /// Grows the tables, as the application does once a second, between any two steps of clients.
  static void grow(bench& b) {
    auto grown = b.broker->grow_tables();
    ASSERT_TRUE(grown) << grown.error().message;
  }
};

TEST_F(Growth, ATableOfFourSessionsTakesAHundredClientsAndKeepsThem) {
  {
    auto b = open(true);
    ASSERT_TRUE(b);
    EXPECT_EQ(b->broker->sessions_capacity(), 4u);
    for (unsigned n = 0; n < clients; ++n) {
      grow(*b);
      ASSERT_EQ(b->connect(first_client + n, id_of(n), false), sn::return_code::accepted) << n;
      for (unsigned f = 0; f < filters_each; ++f)
        b->subscribe(first_client + n, filter_of(n, f), sn::qos_level::one);
      (void)b->ask<sn::disconnect>(first_client + n, sn::disconnect{});
    }
    grow(*b);
    ASSERT_EQ(b->connect(publisher, "publisher", true), sn::return_code::accepted);
    for (unsigned n = 0; n < clients; ++n) {
      const auto topic = b->register_name(publisher, filter_of(n, n % filters_each));
      for (unsigned m = 0; m < messages_each; ++m) {
        grow(*b);
        ASSERT_EQ(b->publish(publisher, topic, "message " + std::to_string(n * messages_each + m),
                             static_cast<std::uint16_t>(m + 1)),
                  sn::return_code::accepted)
            << n << " " << m;
      }
    }
    EXPECT_GE(b->broker->sessions_capacity(), clients + 1);
    EXPECT_GE(b->broker->subscriptions_capacity(), clients * filters_each);
    EXPECT_GE(b->broker->message_statistics().descriptors, clients * messages_each);
    auto wrong = broker::check(b->broker->region());
    ASSERT_TRUE(wrong) << wrong.error().message;
    EXPECT_EQ(*wrong, std::vector<std::string>{});
  }
  for (int life = 0; life < 2; ++life) {
    auto b = open(false);
    ASSERT_TRUE(b);
    EXPECT_EQ(b->broker->opened().notes, std::vector<std::string>{});
    EXPECT_EQ(b->broker->session_count(), clients);
    EXPECT_EQ(b->broker->subscription_count(), clients * filters_each);
    EXPECT_EQ(b->broker->message_statistics().live, life == 0 ? clients * messages_each : 0);
    if (life == 1) break;
    for (unsigned n = 0; n < clients; ++n) {
      ASSERT_EQ(b->connect(first_client + n, id_of(n), false), sn::return_code::accepted) << n;
      for (unsigned m = 0; m < messages_each; ++m)
        EXPECT_EQ(b->take(first_client + n), "message " + std::to_string(n * messages_each + m));
    }
  }
}

TEST_F(Growth, AFullTableCausesCongestionUntilItHasGrown) {
  auto b = open(true);
  ASSERT_TRUE(b);
  for (unsigned n = 0; n < 4; ++n)
    ASSERT_EQ(b->connect(first_client + n, id_of(n), false), sn::return_code::accepted);
  EXPECT_EQ(b->connect(first_client + 4, id_of(4), false), sn::return_code::congestion);
  auto grown = b->broker->grow_tables();
  ASSERT_TRUE(grown);
  EXPECT_EQ(*grown, 1u);
  EXPECT_EQ(b->connect(first_client + 4, id_of(4), false), sn::return_code::accepted);
  grown = b->broker->grow_tables();
  ASSERT_TRUE(grown);
  EXPECT_EQ(*grown, 0u) << "nothing grows while an eighth is free";
}

TEST_F(Growth, ARegionWithoutRoomForASegmentStaysAsItIs) {
  bytes.resize(128 << 10);
  auto b = open(true);
  ASSERT_TRUE(b);
  // Each growth takes at most half of the free blocks, so it ends while messages still have room.
  for (int i = 0; i < 20; ++i) {
    auto grown = b->broker->grow_tables(true);
    ASSERT_TRUE(grown) << grown.error().message;
    if (*grown == 0) break;
  }
  auto grown = b->broker->grow_tables(true);
  ASSERT_TRUE(grown);
  EXPECT_EQ(*grown, 0u);
  EXPECT_GT(b->broker->block_statistics().free_blocks, 8u);
  EXPECT_EQ(b->connect(first_client, id_of(0), false), sn::return_code::accepted);
  const auto sessions = b->broker->sessions_capacity();
  b.reset();
  b = open(false);
  ASSERT_TRUE(b);
  EXPECT_EQ(b->broker->sessions_capacity(), sessions);
}

TEST_F(Growth, BlocksThatWereUsedBeforeAreClearedForASegment) {
  auto b = open(true);
  ASSERT_TRUE(b);
  block_store& blocks = broker_access::state(*b->broker).blocks();
  const auto n = static_cast<std::uint32_t>(blocks.statistics().largest_run);
  const auto run = blocks.reserve_run(n);
  ASSERT_TRUE(run);
  std::memset(bytes.data() + *run, 0x5a, std::size_t{n} * blocks.block_size());
  blocks.release_run(*run, n);
  auto grown = b->broker->grow_tables(true);
  ASSERT_TRUE(grown) << grown.error().message;
  EXPECT_EQ(*grown, 5u);
  auto wrong = broker::check(b->broker->region());
  ASSERT_TRUE(wrong);
  EXPECT_EQ(*wrong, std::vector<std::string>{});
}

TEST_F(Growth, QueueRecordsThatACrashLeftWithoutSessionsAreUsedByTheNextGrowth) {
  {
    auto b = open(true);
    ASSERT_TRUE(b);
    store& state = broker_access::state(*b->broker);
    auto run = state.blocks().reserve_run(
        static_cast<std::uint32_t>(state.blocks().blocks_for(queue_table::bytes_for(4))));
    ASSERT_TRUE(run);
    std::memset(bytes.data() + *run, 0, queue_table::bytes_for(4));
    ASSERT_TRUE(b->broker->region().add_range(store_area::queues, store_area::version, *run,
                                              queue_table::bytes_for(4)));
  }
  auto b = open(false);
  ASSERT_TRUE(b);
  EXPECT_EQ(b->broker->opened().notes, std::vector<std::string>{});
  EXPECT_EQ(b->broker->sessions_capacity(), 4u);
  auto grown = b->broker->grow_tables(true);
  ASSERT_TRUE(grown) << grown.error().message;
  EXPECT_EQ(b->broker->sessions_capacity(), 8u);
  EXPECT_EQ(b->broker->region().ranges(store_area::queues).size(), 2u);
  b.reset();
  ASSERT_TRUE(open(false));
}

TEST_F(Growth, ASegmentThatLiesOnNoBlocksIsRefusedAtOpenAndNamedByTheCheck) {
  {
    auto b = open(true);
    ASSERT_TRUE(b);
    auto grown = b->broker->grow_tables(true);
    ASSERT_TRUE(grown);
  }
  auto* entries = reinterpret_cast<root_entry*>(bytes.data() + root_directory_offset);
  for (unsigned i = 0; i < root_directory_entries; ++i)
    if (std::string_view(entries[i].name) == "broker.messages#1") {
      entries[i].offset += 64; // aligned to a line but not to a block
      entries[i].crc = detail::crc_of(entries[i]);
    }
  auto made = broker_on(std::make_unique<test::kept_media>(bytes), config, false, four_sessions());
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("broker.messages#1"), std::string::npos)
      << made.error().message;
  auto r = region::open_on(std::make_unique<test::kept_media>(bytes), true);
  ASSERT_TRUE(r);
  auto wrong = broker::check(**r);
  ASSERT_TRUE(wrong);
  ASSERT_FALSE(wrong->empty());
  EXPECT_NE(wrong->front().find("broker.messages#1"), std::string::npos) << wrong->front();
}

} // namespace
} // namespace chainring::testing_broker
