// SPDX-License-Identifier: BSD-3-Clause
// Pages of a medium are lost, where that is tolerated. And what must never lie in such a page. Both
// for a medium alone, and for the structures in blocks.
#include <algorithm>
#include <rte_mbuf.h>
#include <thread>

#include "lost_memory.h"
#include "map/durable_map.h"
#include "mbuf/receive_rooms.h"
#include "message/message.h"
#include "support/eal_main.h"

namespace chainring::test_faults {
namespace {

// --- the medium ----------------------------------------------------------------------------------

/// A medium that tolerates the loss of all pages but the first, when the test says so.
class LostPage : public OnAPlace {
 protected:
  LostPage() {
    auto m = create_media(options_.media);
    if (!m) throw std::runtime_error(m.error().message);
    m_ = std::move(*m);
  }
  volatile std::uint64_t& word(std::uint64_t p) {
    return *reinterpret_cast<volatile std::uint64_t*>(m_->base() + p * page);
  }
  void lose(std::uint64_t p) {
    poison(*m_, p * page);
    EXPECT_EQ(word(p), 0u);
  }
  std::unique_ptr<media> m_;
};

TEST_P(LostPage, AToleratedPageReadsAsZerosAndIsCountedAndTheMediumGoesOn) {
  word(3) = 7;
  word(4) = 7;
  m_->tolerate_loss(m_->base() + page, region_size - page);
  EXPECT_EQ(m_->losses(), 0u);
  EXPECT_EQ(m_->lost_page(0), UINT64_MAX);
  lose(3);
  EXPECT_FALSE(m_->failed());
  EXPECT_TRUE(m_->status());
  EXPECT_NE(m_->losses(), 0u);
  EXPECT_TRUE(m_->lost_since(0));
  EXPECT_EQ(m_->lost_pages(), 1u);
  EXPECT_EQ(m_->lost_page(0), 3 * page);
  EXPECT_EQ(m_->lost_page(1), UINT64_MAX);
  EXPECT_TRUE(m_->lost(m_->base() + 3 * page + 100, 8));
  EXPECT_TRUE(m_->lost(m_->base() + 2 * page, 3 * page));
  EXPECT_FALSE(m_->lost(m_->base() + 2 * page, page));
  EXPECT_FALSE(m_->lost(m_->base() + 4 * page, page));
  EXPECT_TRUE(m_->durable(m_->mark())) << "a tolerated loss leaves the marks durable";
  EXPECT_EQ(word(4), 7u);
  word(3) = 5;
  EXPECT_EQ(word(3), 5u);
  EXPECT_EQ(m_->lost_pages(), 1u);
  EXPECT_TRUE(m_->close());
}

TEST_P(LostPage, ALostPageIsFoundByTheCallThatAsksForIt) {
  m_->tolerate_loss(m_->base() + page, region_size - page);
  poison(*m_, 5 * page);
  EXPECT_EQ(m_->lost_pages(), 0u) << "no access has met the page yet";
  EXPECT_TRUE(m_->lost(m_->base() + 4 * page, 3 * page));
  EXPECT_EQ(m_->lost_page(0), 5 * page);
  poison(*m_, 8 * page);
  EXPECT_FALSE(m_->require(m_->base() + 7 * page, 2 * page));
  EXPECT_EQ(m_->lost_pages(), 2u);
  EXPECT_FALSE(m_->failed());
}

TEST_P(LostPage, APageOutsideTheToleratedRangeOrPartlyOutsideFailsTheMedium) {
  m_->tolerate_loss(m_->base() + 2 * page + 64, 4 * page); // covers whole pages 3 to 5
  for (const std::uint64_t p : {3u, 5u}) {
    lose(p);
    EXPECT_FALSE(m_->failed()) << p;
  }
  lose(6);
  EXPECT_TRUE(m_->failed());
  EXPECT_EQ(m_->lost_at(), 6 * page);
  EXPECT_EQ(m_->lost_pages(), 2u);
}

TEST_P(LostPage, APagePartlyInFrontOfTheToleratedRangeFailsTheMedium) {
  m_->tolerate_loss(m_->base() + 2 * page + 64, 4 * page);
  lose(2);
  EXPECT_TRUE(m_->failed());
}

TEST_P(LostPage, ARequiredPageFailsTheMedium) {
  // before the range is known, as at an open
  ASSERT_TRUE(m_->require(m_->base() + 4 * page - 8, 16));
  m_->tolerate_loss(m_->base() + page, region_size - page);
  lose(2);
  EXPECT_FALSE(m_->failed());
  lose(3);
  EXPECT_TRUE(m_->failed());
  EXPECT_EQ(m_->lost_at(), 3 * page);
}

TEST_P(LostPage, APageIsRequiredUntilItsLastRequirementIsTakenBack) {
  m_->tolerate_loss(m_->base() + page, region_size - page);
  for (const std::uint64_t p : {3u, 4u}) {
    ASSERT_TRUE(m_->require(m_->base() + p * page, 64));
    ASSERT_TRUE(m_->require(m_->base() + p * page + 64, 64));
  }
  m_->unrequire(m_->base() + 3 * page, 64);
  m_->unrequire(m_->base() + 3 * page + 64, 64);
  m_->unrequire(m_->base() + 4 * page, 64);
  lose(3);
  EXPECT_FALSE(m_->failed());
  lose(4);
  EXPECT_TRUE(m_->failed());
}

TEST_P(LostPage, APageRequiredMoreOftenThanCanBeCountedStaysRequired) {
  m_->tolerate_loss(m_->base() + page, region_size - page);
  for (int i = 0; i < 300; ++i)
    ASSERT_TRUE(m_->require(m_->base() + 3 * page, 64));
  for (int i = 0; i < 300; ++i)
    m_->unrequire(m_->base() + 3 * page, 64);
  lose(3);
  EXPECT_TRUE(m_->failed());
}

TEST_P(LostPage, ALostPageCannotBeRequiredAndThenNothingIsRequired) {
  m_->tolerate_loss(m_->base() + page, region_size - page);
  lose(4);
  EXPECT_FALSE(m_->require(m_->base() + 3 * page, 2 * page));
  lose(3);
  EXPECT_FALSE(m_->failed());
}

TEST_P(LostPage, APageLostUnderManyThreadsCountsAsOneLossAndNoThreadSeesZerosBefore) {
  m_->tolerate_loss(m_->base() + page, region_size - page);
  for (std::uint64_t p = 2; p < 42; ++p) {
    const std::uint64_t losses = m_->losses();
    word(p) = 5;
    std::atomic<bool> wrong = false;
    std::vector<std::thread> all;
    for (int t = 0; t < 3; ++t)
      all.emplace_back([&] {
        while (word(p) == 5) {
        }
        if (!m_->lost_since(losses) || !m_->lost(m_->base() + p * page, 8)) wrong = true;
      });
    poison(*m_, p * page);
    for (auto& t : all)
      t.join();
    EXPECT_FALSE(wrong);
    EXPECT_EQ(m_->lost_pages(), p - 1);
  }
  EXPECT_FALSE(m_->failed());
}

TEST_P(LostPage, APageThatATruncationCutOffIsNotReplacedByGrowing) {
  m_->tolerate_loss(m_->base() + page, region_size - page);
  cut(region_size / 2);
  const auto grown = m_->grow(2 * region_size);
  ASSERT_FALSE(grown);
  EXPECT_NE(grown.error().message.find("cut short"), std::string::npos) << grown.error().message;
}

INSTANTIATE_TEST_SUITE_P(Places, LostPage, places(), place_name);

// --- required memory -----------------------------------------------------------------------------

/// Structures over a block store whose memory may be lost. They were served, or recovered first.
class Required : public OnAPlace {
 protected:
  static constexpr std::uint64_t at = region_size / 2; ///< offset of the blocks
  static constexpr std::uint32_t block = 64;

  Required() {
    auto m = create_media(options_.media);
    if (!m) throw std::runtime_error(m.error().message);
    m_ = std::move(*m);
    over();
  }
  void over() {
    blocks_ = block_store::create(*m_, at, block, at / block).value();
    messages_ = message_table::create(*m_, 0, 16, *blocks_).value();
    map_ = durable_map::create(*m_, page, 64, *blocks_).value();
  }
  void tolerate() { m_->tolerate_loss(m_->base() + at, region_size - at); }
  void begin_recovery() {
    map_.reset();
    messages_.reset();
    blocks_.reset();
    ASSERT_TRUE(m_->close());
    media_options again = options_.media;
    again.size = 0;
    m_ = open_media(again).value();
    over();
    blocks_->begin_recovery();
    messages_->begin_recovery();
  }
  void finish_recovery() {
    messages_->finish_recovery();
    blocks_->finish_recovery();
    tolerate();
  }
  /// Makes a message in blocks of which no two adjoin, so that it has an extent list.
  message_ref in_pieces() {
    std::vector<chain> singles(at / block);
    EXPECT_TRUE(blocks_->allocate_bulk(1, singles));
    std::ranges::sort(singles, {}, &chain::first);
    blocks_->flush_caches();
    for (std::size_t i = 0; i < singles.size(); i += 2)
      blocks_->release(singles[i]);
    blocks_->flush_caches();
    message m;
    EXPECT_TRUE(messages_->reserve({.payload_size = 4 * block}, m));
    EXPECT_TRUE(m.chains.list);
    const bytes text(4 * block, std::byte{'x'});
    messages_->copy_in(m, text.data(), text.size());
    messages_->stage(m);
    messages_->publish(m);
    list_ = static_cast<std::uint64_t>(blocks_->address({m.chains.first, 1}) - m_->base());
    return m.ref;
  }
  static std::span<const std::byte> long_key() {
    static const std::string key(100, 'k');
    return std::as_bytes(std::span(key));
  }
  /// The offset of the key's chain.
  std::uint64_t insert_long_key() {
    EXPECT_EQ(map_->insert(long_key(), std::as_bytes(std::span("v", 1))), map_status::done);
    const std::byte* from = m_->base() + at;
    const std::byte* end = m_->base() + region_size;
    const std::byte* found = std::search(from, end, long_key().begin(), long_key().end());
    EXPECT_NE(found, end);
    return static_cast<std::uint64_t>(found - m_->base());
  }

  std::unique_ptr<media> m_;
  std::unique_ptr<block_store> blocks_;
  std::unique_ptr<message_table> messages_;
  std::unique_ptr<durable_map> map_;
  std::uint64_t list_ = 0;
};

TEST_P(Required, TheLossOfAnExtentListFailsTheMedium) {
  tolerate();
  const message_ref ref = in_pieces();
  poison(*m_, list_);
  message_view v;
  EXPECT_NE(messages_->view(ref, v), message_status::ok);
  EXPECT_TRUE(m_->failed());
}

TEST_P(Required, TheLossOfAnExtentListThatRecoveryFoundFailsTheMedium) {
  const message_ref ref = in_pieces();
  begin_recovery();
  ASSERT_EQ(messages_->recover_reference(ref), message_status::ok);
  finish_recovery();
  poison(*m_, list_);
  message_view v;
  EXPECT_NE(messages_->view(ref, v), message_status::ok);
  EXPECT_TRUE(m_->failed());
}

TEST_P(Required, TheLossOfAnExtentListFailsTheMediumUntilItsMessageIsGone) {
  tolerate();
  const message_ref ref = in_pieces();
  messages_->drop_reference(ref.index);
  poison(*m_, list_);
  EXPECT_TRUE(m_->lost(m_->base() + list_, 8));
  EXPECT_FALSE(m_->failed());
}

TEST_P(Required, TheLossOfALongKeyFailsTheMedium) {
  tolerate();
  poison(*m_, insert_long_key());
  (void)map_->contains(long_key());
  EXPECT_TRUE(m_->failed());
}

TEST_P(Required, TheLossOfALongKeyThatRecoveryFoundFailsTheMedium) {
  const std::uint64_t key = insert_long_key();
  begin_recovery();
  EXPECT_EQ(map_->recover().entries, 1u);
  finish_recovery();
  poison(*m_, key);
  (void)map_->contains(long_key());
  EXPECT_TRUE(m_->failed());
}

TEST_P(Required, TheLossOfALongKeyFailsTheMediumUntilTheKeyIsErased) {
  tolerate();
  const std::uint64_t key = insert_long_key();
  EXPECT_EQ(map_->erase(long_key()), map_status::done);
  map_.reset(); // no reader is left
  poison(*m_, key);
  EXPECT_TRUE(m_->lost(m_->base() + key, 8));
  EXPECT_FALSE(m_->failed());
}

TEST_P(Required, TheLossOfADataRoomFailsTheMedium) {
  tolerate();
  detail::receive_rooms rooms(*blocks_, page / block);
  const std::vector<chain> all = rooms.take_blocks(3);
  ASSERT_FALSE(all.empty());
  const auto room = static_cast<std::uint64_t>(blocks_->address(all.back()) - m_->base());
  poison(*m_, room);
  EXPECT_TRUE(m_->lost(m_->base() + room, 8) || m_->failed());
  EXPECT_TRUE(m_->failed());
}

TEST_P(Required, ADataRoomThatWasTakenMayBeLostAndTheOneThatTookItsPlaceMayNot) {
  tolerate();
  detail::receive_rooms rooms(*blocks_, page / block);
  const std::vector<chain> all = rooms.take_blocks(1);
  ASSERT_EQ(all.size(), 1u);
  rte_mbuf m{};
  m.buf_addr = blocks_->address(all[0]);
  chain_piece piece;
  ASSERT_TRUE(rooms.exchange(m, 0, page, piece));
  poison(*m_, static_cast<std::uint64_t>(blocks_->address(all[0]) - m_->base()));
  EXPECT_TRUE(m_->lost(blocks_->address(all[0]), 8));
  EXPECT_FALSE(m_->failed());
  const auto* const fresh = static_cast<const std::byte*>(m.buf_addr);
  poison(*m_, static_cast<std::uint64_t>(fresh - m_->base()));
  EXPECT_TRUE(m_->lost(fresh, 8) || m_->failed());
  EXPECT_TRUE(m_->failed());
}

TEST_P(Required, ADataRoomIsNeverMadeOfLostMemory) {
  tolerate();
  poison(*m_, at); // nobody has met it yet
  detail::receive_rooms rooms(*blocks_, page / block);
  std::vector<chain> all = rooms.take_blocks(4);
  ASSERT_FALSE(all.empty());
  std::uint32_t count = 0;
  for (const chain& c : all) {
    EXPECT_FALSE(m_->lost(blocks_->address(c), blocks_->size_of(c)));
    count += c.blocks / (page / block);
  }
  EXPECT_GE(count, 4u);
  EXPECT_FALSE(m_->failed());
}

TEST_P(Required, RequiredMemoryIsNeverAllocatedFromLostMemory) {
  constexpr std::uint64_t gone = 16; // pages: more blocks than one request tries one by one
  tolerate();
  for (std::uint64_t p = 0; p < gone; ++p)
    poison(*m_, at + p * page);
  chain c;
  ASSERT_TRUE(blocks_->allocate_required(9, c));
  EXPECT_GE(c.first, gone * page / block);
  EXPECT_FALSE(m_->failed());
  chain other;
  ASSERT_TRUE(blocks_->allocate_contiguous(1, other))
      << "no other allocation may get lost memory either";
  EXPECT_FALSE(m_->lost(blocks_->address(other), block));
  const block_store_statistics s = blocks_->statistics();
  EXPECT_EQ(s.withheld_blocks, gone * page / block)
      << "all free blocks of a lost page are withheld at once";
  EXPECT_EQ(s.live_blocks, s.withheld_blocks + c.blocks + 1);
  EXPECT_TRUE(blocks_->check());
}

TEST_P(Required, BlocksWhoseMemoryIsLostDoNotBecomeFreeAgain) {
  tolerate();
  std::vector<chain> all, together(64); // as many as a thread's cache takes
  chain c;
  ASSERT_TRUE(blocks_->allocate_bulk(4, together));
  while (blocks_->allocate_contiguous(24, c)) // of a page and a half, so that many lie in two pages
    all.push_back(c);
  while (blocks_->allocate_contiguous(1, c))
    all.push_back(c);
  const auto page_of = [&](const chain& of) {
    return static_cast<std::uint64_t>(blocks_->address(of) - m_->base()) / page;
  };
  const std::uint64_t lost[] = {page_of(together[20]), page_of(all[all.size() / 2])};
  ASSERT_NE(lost[0], lost[1]);
  for (const std::uint64_t p : lost)
    poison(*m_, p * page);
  EXPECT_TRUE(m_->lost(m_->base() + lost[0] * page, 1));
  for (const chain& one : all)
    blocks_->release(one);
  blocks_->release(together); // there is room again, so the caches take them
  const block_store_statistics s = blocks_->statistics();
  EXPECT_EQ(s.withheld_blocks, 2 * page / block);
  EXPECT_EQ(s.live_blocks, s.withheld_blocks);
  EXPECT_TRUE(blocks_->check());
  std::vector<chain> singles(s.free_blocks);
  ASSERT_TRUE(blocks_->allocate_bulk(1, singles));
  for (const chain& one : singles)
    EXPECT_FALSE(m_->lost(blocks_->address(one), block)) << one.first;
}

INSTANTIATE_TEST_SUITE_P(Places, Required, places(), place_name);

} // namespace
} // namespace chainring::test_faults
