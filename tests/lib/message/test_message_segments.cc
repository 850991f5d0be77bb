// SPDX-License-Identifier: BSD-3-Clause
// A table of several segments, and a table that gets more of them while it is used.
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "message_fixture.h"

namespace chainring {
namespace {

using test::differs;
using test::fields;
using test::publish_message;
using test::table_layout;
using test::table_on_media;

constexpr table_layout first_of{
    .descriptors = 3, .block_size = 64, .blocks = 256, .descriptors_max = 100};

/// A first segment and blocks, and behind them memory for `more` descriptors.
struct growing {
  std::unique_ptr<media> m;
  table_on_media t;
  explicit growing(std::uint32_t more, bool caches = false)
      : m(memory_media(first_of.size() + std::uint64_t{64} * more, durability_class::process)),
        t(*m, first_of, caches) {}
  [[nodiscard]] static std::uint64_t at(std::uint32_t descriptor) {
    return first_of.size() + std::uint64_t{64} * descriptor;
  }
};

TEST(MessageSegments, DescriptorNumbersContinueFromSegmentToSegment) {
  growing g(10);
  g.t.add_segment({growing::at(4), 6});
  g.t.add_segment({growing::at(0), 1}); // on media it lies in front of the segment before
  EXPECT_EQ(g.t->count(), 10u);
  std::set<std::uint32_t> indexes;
  for (std::uint64_t id = 0; id < 10; ++id) {
    message msg;
    ASSERT_TRUE(publish_message(g.t, id, fields(id, 20), msg));
    indexes.insert(msg.ref.index);
    EXPECT_EQ(differs(*g.t.table, msg.ref, id, fields(id, 20)), "");
  }
  EXPECT_EQ(indexes.size(), 10u);
  EXPECT_EQ(*indexes.rbegin(), 9u);
  message msg;
  EXPECT_FALSE(g.t->reserve(fields(1, 20), msg));
  EXPECT_EQ(g.t->statistics().live, 10u);
  // Each descriptor lies where its segment says.
  const auto* media_at = reinterpret_cast<const message_descriptor*>(g.m->base());
  const auto published = [&](std::uint64_t offset) {
    return message_word0::unpack(media_at[offset / 64].state).state == message_state::published;
  };
  for (const std::uint64_t offset :
       {std::uint64_t{0}, growing::at(0), growing::at(4), growing::at(9)})
    EXPECT_TRUE(published(offset)) << offset;
  EXPECT_FALSE(published(growing::at(1)));
  EXPECT_EQ(g.t->check().published, 10u);
}

TEST(MessageSegments, AFullTableTakesMessagesAgainOnceItHasGrown) {
  for (const bool caches : {false, true}) {
    growing g(50, caches);
    message msg;
    for (std::uint64_t id = 0; id < 3; ++id)
      ASSERT_TRUE(publish_message(g.t, id, fields(id, 20), msg));
    EXPECT_FALSE(publish_message(g.t, 3, fields(3, 20), msg));
    EXPECT_EQ(g.t->statistics().refused_descriptors, 1u);
    g.t.add_segment({growing::at(0), 50});
    for (std::uint64_t id = 3; id < 53; ++id)
      ASSERT_TRUE(publish_message(g.t, id, fields(id, 20), msg));
    EXPECT_FALSE(publish_message(g.t, 53, fields(53, 20), msg));
    EXPECT_TRUE(g.t->drop_reference(msg.ref.index));
    EXPECT_TRUE(publish_message(g.t, 54, fields(54, 20), msg));
  }
}

TEST(MessageSegments, ATableOpenedWithTheSameSegmentsFindsItsMessages) {
  growing g(10);
  g.t.add_segment({growing::at(0), 4});
  g.t.add_segment({growing::at(4), 6});
  std::vector<message> all(13);
  for (std::uint64_t id = 0; id < 13; ++id)
    ASSERT_TRUE(publish_message(g.t, id, fields(id, 20), all[id]));
  const table_on_media again(*g.m, first_of, false, {{growing::at(0), 4}, {growing::at(4), 6}});
  again.begin_recovery();
  again->persist_as_read();
  for (std::uint64_t id = 0; id < 13; id += 2)
    EXPECT_EQ(again->recover_reference(all[id].ref), message_status::ok);
  again.finish_recovery();
  EXPECT_EQ(again->statistics().live, 7u);
  EXPECT_EQ(again->statistics().free, 6u);
  for (std::uint64_t id = 0; id < 13; id += 2)
    EXPECT_EQ(differs(*again.table, all[id].ref, id, fields(id, 20)), "");
  // Without its last segment the table does not know the numbers in that segment.
  const table_on_media less(*g.m, first_of, false, {{growing::at(0), 4}});
  less.begin_recovery();
  EXPECT_EQ(less->recover_reference({7, 1}), message_status::out_of_range);
}

TEST(MessageSegments, AnImpossibleSegmentIsRefusedWithASentence) {
  growing g(200);
  auto refused = [&](std::uint64_t offset, std::uint32_t count) {
    const auto added = g.t->add_segment(offset, count);
    EXPECT_EQ(g.t->count(), 3u);
    return added.ok() ? std::string("accepted") : added.error().message;
  };
  EXPECT_EQ(refused(growing::at(0) + 8, 1), "message table offset " +
                                                std::to_string(growing::at(0) + 8) +
                                                ": expected a multiple of 64");
  EXPECT_EQ(refused(growing::at(0), 0), "message descriptors 0: expected 1 to 2147483648");
  EXPECT_NE(refused(g.m->size() - 64, 2).find("message descriptors 2: expected what fits"),
            std::string::npos);
  EXPECT_EQ(refused(growing::at(0), 98),
            "message descriptors 98: expected at most the 97 left of descriptors_max 100");
  EXPECT_NE(refused(0, 2).find("expected a segment that does not overlap segment 0"),
            std::string::npos);
  std::memset(g.m->base() + growing::at(1) + 16, 1, 8);
  EXPECT_EQ(refused(growing::at(0), 2), "message table offset " + std::to_string(growing::at(0)) +
                                            ": expected zeroed descriptors; the word at offset " +
                                            std::to_string(growing::at(1) + 16) + " is not zero");
  for (std::uint32_t n = 0; n < 15; ++n)
    g.t.add_segment({growing::at(10 + n), 1});
  EXPECT_EQ(g.t->add_segment(growing::at(30), 1).error().message,
            "message table segments 17: expected 1 to 16");
  EXPECT_EQ(g.t->count(), 18u);
  const std::vector<message_segment> many(17, {0, 1});
  EXPECT_EQ(message_table::create(*g.m, many, *g.t.store).error().message,
            "message table segments 17: expected 1 to 16");
  EXPECT_EQ(message_table::create(*g.m, 0, 3, *g.t.store, {.descriptors_max = 2}).error().message,
            "descriptors_max 2: expected the 3 of the segments, to 2147483648");
}

TEST(MessageSegments, ThreadsPublishAndReadWhileTheTableGrows) {
  growing g(60, true);
  std::atomic<std::uint64_t> published{0}, wrong{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t id = t; !stop.load(std::memory_order_relaxed); id += 3) {
        message msg[4];
        unsigned n = 0;
        while (n < 4 && publish_message(g.t, id, fields(id, 20), msg[n]))
          ++n;
        for (unsigned i = 0; i < n; ++i) {
          wrong += !differs(*g.t.table, msg[i].ref, id, fields(id, 20)).empty();
          g.t->drop_reference(msg[i].ref.index);
        }
        published += n;
      }
    });
  for (std::uint32_t n = 0; n < 15; ++n) {
    const std::uint64_t before = published;
    g.t.add_segment({growing::at(4 * n), 4});
    while (published < before + 50)
      std::this_thread::yield();
  }
  stop = true;
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(g.t->count(), 63u);
  EXPECT_EQ(g.t->statistics().free, 63u);
  EXPECT_TRUE(g.t.store->check());
}

} // namespace
} // namespace chainring
