// SPDX-License-Identifier: BSD-3-Clause
/// Received mbufs that become pieces of chains, and mbufs that are attached to pieces.
#include <algorithm>
#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <string>
#include <thread>
#include <vector>

#include "mbuf/attachments.h"
#include "mbuf/receive_pool.h"

namespace chainring::test {
namespace {

class Mbufs : public testing::Test {
 protected:
  static constexpr std::uint32_t blocks = 4096;
  std::unique_ptr<media> memory = memory_media(blocks * 256, durability_class::process);
  std::unique_ptr<block_store> store =
      block_store::create(*memory, 0, 256, blocks, {.cache_runs_max = 0}).value();

  [[nodiscard]] std::uint64_t free_blocks() const { return store->statistics().free_blocks; }
  [[nodiscard]] std::unique_ptr<receive_pool> pool(std::uint32_t mbufs = 31) const {
    return receive_pool::create("received", *store, {.mbufs = mbufs, .cache_mbufs = 0}).value();
  }
  static rte_mbuf* received(const receive_pool& p, const std::string& octets) {
    rte_mbuf* const m = rte_pktmbuf_alloc(p.mempool());
    if (m == nullptr) return nullptr;
    std::memcpy(rte_pktmbuf_append(m, static_cast<std::uint16_t>(octets.size())), octets.data(),
                octets.size());
    return m;
  }
  /// EAL runs without hugepages here, where bus addresses are virtual ones.
  static rte_iova_t bus_address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }
  [[nodiscard]] std::string text(const chain_piece& p) const {
    const auto octets = octets_of(*store, p);
    return {reinterpret_cast<const char*>(octets.data()), octets.size()};
  }
};

std::string pattern(std::size_t n) {
  std::string s(n, 0);
  for (std::size_t i = 0; i < n; ++i)
    s[i] = static_cast<char>('a' + i * 7 % 26);
  return s;
}

TEST_F(Mbufs, APacketThatIsTakenIsAPieceOfAChainWithTheSameOctetsAtTheSamePlace) {
  auto p = pool();
  for (std::size_t size : {1u, 64u, 127u, 128u, 129u, 1000u, 1900u}) {
    rte_mbuf* const m = received(*p, pattern(size));
    const std::byte* const at = rte_pktmbuf_mtod(m, const std::byte*);
    chain_piece piece;
    ASSERT_EQ(p->take(*m, 0, static_cast<std::uint32_t>(size), piece), take_status::taken);
    EXPECT_TRUE(valid(*store, piece));
    EXPECT_EQ(octets_of(*store, piece).data(), at) << "the octets were moved";
    EXPECT_NE(rte_pktmbuf_mtod(m, const std::byte*), at) << "the mbuf kept its data room";
    EXPECT_EQ(rte_mbuf_data_iova(m), bus_address(rte_pktmbuf_mtod(m, void*)));
    rte_pktmbuf_free(m);
    EXPECT_EQ(text(piece), pattern(size));
    store->release(chain_of(*store, piece));
  }
}

TEST_F(Mbufs, APieceKeepsOnlyTheBlocksInWhichItsOctetsLie) {
  auto p = pool();
  const std::uint64_t before = free_blocks();
  rte_mbuf* const m = received(*p, pattern(1500));
  chain_piece piece;
  ASSERT_EQ(p->take(*m, 600, 300, piece), take_status::taken); // behind 128 octets of headroom
  EXPECT_EQ(piece.offset, (128 + 600) % 256);
  EXPECT_EQ(chain_of(*store, piece).blocks, 3u);
  EXPECT_EQ(text(piece), pattern(1500).substr(600, 300));
  EXPECT_EQ(free_blocks(), before - 3);
  store->release(chain_of(*store, piece));
  EXPECT_EQ(free_blocks(), before);
  rte_pktmbuf_free(m);
}

TEST_F(Mbufs, ThePoolStaysFullHoweverManyPacketsAreKept) {
  auto p = pool(31);
  std::vector<chain_piece> kept;
  for (int i = 0; i < 400; ++i) {
    rte_mbuf* const m = received(*p, pattern(100) + std::to_string(i));
    ASSERT_NE(m, nullptr) << "after " << i;
    kept.emplace_back();
    ASSERT_EQ(p->take(*m, 0, m->data_len, kept.back()), take_status::taken) << "after " << i;
    rte_pktmbuf_free(m);
    ASSERT_EQ(rte_mempool_avail_count(p->mempool()), 31u);
  }
  for (int i = 0; i < 400; ++i)
    ASSERT_EQ(text(kept[static_cast<std::size_t>(i)]), pattern(100) + std::to_string(i));
}

TEST_F(Mbufs, AStoreWithoutBlocksLeavesTheMbufAsItWas) {
  auto p = pool();
  std::array<chain, 64> all;
  while (store->allocate_bulk(7, std::span(all).first(1))) {
  }
  rte_mbuf* const m = received(*p, "kept in the mbuf");
  chain_piece piece;
  EXPECT_EQ(p->take(*m, 0, m->data_len, piece), take_status::no_room);
  EXPECT_EQ(std::string(rte_pktmbuf_mtod(m, const char*), m->data_len), "kept in the mbuf");
  rte_pktmbuf_free(m);
}

TEST_F(Mbufs, AnMbufThatOthersHoldOrOfAnotherPoolIsNotTaken) {
  auto p = pool();
  rte_mempool* const other =
      rte_pktmbuf_pool_create("others", 31, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  ASSERT_NE(other, nullptr);
  chain_piece piece;
  rte_mbuf* m = received(*p, "octets");

  rte_mbuf* const clone = rte_pktmbuf_clone(m, other);
  EXPECT_EQ(p->take(*m, 0, 1, piece), take_status::not_own) << "a clone reads it";
  EXPECT_EQ(p->take(*clone, 0, 1, piece), take_status::not_own) << "a clone has no data room";
  rte_pktmbuf_free(clone);

  rte_mbuf_refcnt_update(m, 1);
  EXPECT_EQ(p->take(*m, 0, 1, piece), take_status::not_own) << "it has two references";
  rte_mbuf_refcnt_update(m, -1);

  rte_mbuf* const second = received(*p, "more");
  ASSERT_EQ(rte_pktmbuf_chain(m, second), 0);
  EXPECT_EQ(p->take(*m, 0, 1, piece), take_status::not_own) << "it has two segments";
  rte_pktmbuf_free(m);

  m = rte_pktmbuf_alloc(other);
  rte_pktmbuf_append(m, 10);
  EXPECT_EQ(p->take(*m, 0, 1, piece), take_status::not_own) << "it is of another pool";
  rte_pktmbuf_free(m);
  rte_mempool_free(other);
}

TEST_F(Mbufs, AnMbufWhoseLastHolderIsACloneGoesBackToItsPool) {
  auto p = pool();
  rte_mempool* const other =
      rte_pktmbuf_pool_create("others", 31, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  rte_mbuf* const m = received(*p, "octets");
  rte_mbuf* const clone = rte_pktmbuf_clone(m, other);
  rte_pktmbuf_free(m);
  EXPECT_EQ(rte_mempool_avail_count(p->mempool()), 30u);
  rte_pktmbuf_free(clone);
  EXPECT_EQ(rte_mempool_avail_count(p->mempool()), 31u);
  rte_mbuf* const again = received(*p, "again");
  chain_piece piece;
  EXPECT_EQ(p->take(*again, 0, 5, piece), take_status::taken);
  rte_pktmbuf_free(again);
  rte_mempool_free(other);
}

TEST_F(Mbufs, APoolThatEndsGivesItsBlocksBackAndLeavesWhatWasTaken) {
  const std::uint64_t before = free_blocks();
  auto p = pool(100);
  EXPECT_EQ(free_blocks(), before - 100 * 8);
  chain_piece piece;
  rte_mbuf* const m = received(*p, pattern(200));
  ASSERT_EQ(p->take(*m, 0, 200, piece), take_status::taken);
  rte_pktmbuf_free(m);
  p.reset();
  EXPECT_EQ(free_blocks(), before - 2);
  EXPECT_EQ(text(piece), pattern(200));
  EXPECT_TRUE(store->check());
}

TEST_F(Mbufs, APoolThatCannotBeMadeIsRefusedAndTakesNothing) {
  const std::uint64_t before = free_blocks();
  auto p = pool();
  const std::uint64_t beside = free_blocks();
  const struct {
    receive_pool_options options;
    const char* says;
  } cases[] = {
      {{.mbufs = 0}, "mbufs is 0"},
      {{.data_room = 128}, "data_room is 128; give more than the 128 octets"},
      {{.data_room = 65400}, "more than the 65,535 of an mbuf"},
      {{.private_bytes = 3}, "private_bytes is 3; give a multiple of 8"},
      {{.mbufs = 1000}, "no room for 1000 data rooms of 8 blocks each"},
      {{.mbufs = 31, .cache_mbufs = 0}, "EAL makes no such mempool"}, // the name is taken
  };
  for (const auto& c : cases) {
    auto made = receive_pool::create("received", *store, c.options);
    ASSERT_FALSE(made) << c.says;
    EXPECT_NE(made.error().message.find(c.says), std::string::npos) << made.error().message;
    EXPECT_EQ(free_blocks(), beside) << c.says;
  }
  p.reset();
  EXPECT_EQ(free_blocks(), before);
}

TEST_F(Mbufs, APieceIsTheSameAfterItWasAWord) {
  for (const chain_piece& p :
       {chain_piece{0, 0, 1}, {blocks - 1, 255, 65535}, {UINT32_MAX, 1, 2}}) {
    EXPECT_EQ(chain_piece::unpack(p.pack()), p);
    EXPECT_NE(p.pack(), 0u);
  }
}

TEST_F(Mbufs, APieceReadFromMediaIsValidOnlyInsideTheStore) {
  EXPECT_TRUE(valid(*store, {blocks - 1, 0, 256}));
  EXPECT_TRUE(valid(*store, {blocks - 1, 255, 1}));
  EXPECT_FALSE(valid(*store, {blocks - 1, 1, 256}));
  EXPECT_FALSE(valid(*store, {0, 256, 1}));
  EXPECT_FALSE(valid(*store, {0, 0, 0}));
  EXPECT_FALSE(valid(*store, {blocks, 0, 1}));
  EXPECT_FALSE(valid(*store, {UINT32_MAX, 255, 65535}));
}

class Attached : public Mbufs {
 protected:
  rte_mempool* headers =
      rte_pktmbuf_pool_create("headers", 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  ~Attached() override { rte_mempool_free(headers); }

  chain_piece stored(std::uint16_t offset, const std::string& octets) {
    chain c;
    const bool got = store->allocate_contiguous(
        static_cast<std::uint32_t>(store->blocks_for(offset + octets.size())), c);
    EXPECT_TRUE(got);
    memory->write(store->address(c) + offset, octets.data(), octets.size());
    return {c.first, offset, static_cast<std::uint16_t>(octets.size())};
  }
};

TEST_F(Attached, AnMbufShowsTheOctetsWhereTheyLie) {
  auto links = attachments::create(*store).value();
  for (std::size_t size : {1u, 64u, 1500u, 65535u}) {
    const chain_piece piece = stored(17, pattern(size));
    rte_mbuf* const m = rte_pktmbuf_alloc(headers);
    ASSERT_TRUE(links->attach(*m, piece, size));
    EXPECT_EQ(rte_pktmbuf_pkt_len(m), size);
    EXPECT_EQ(rte_pktmbuf_mtod(m, const std::byte*), octets_of(*store, piece).data());
    EXPECT_EQ(rte_mbuf_data_iova(m), bus_address(rte_pktmbuf_mtod(m, void*)));
    EXPECT_EQ(rte_pktmbuf_headroom(m) + rte_pktmbuf_tailroom(m), 0) << "it could be written to";
    attached_piece ended[2];
    EXPECT_EQ(links->collect(ended), 0u);
    rte_pktmbuf_free(m);
    ASSERT_EQ(links->collect(ended), 1u);
    EXPECT_EQ(ended[0].piece, piece);
    EXPECT_EQ(ended[0].token, size);
    EXPECT_EQ(text(piece), pattern(size));
    store->release(chain_of(*store, piece));
  }
  EXPECT_EQ(rte_mempool_avail_count(headers), 255u);
}

TEST_F(Attached, AFreedMbufHasItsOwnDataRoomAgain) {
  auto links = attachments::create(*store).value();
  const chain_piece piece = stored(0, "octets");
  std::vector<rte_mbuf*> all(255);
  ASSERT_EQ(rte_pktmbuf_alloc_bulk(headers, all.data(), 255), 0);
  for (rte_mbuf* m : all)
    ASSERT_TRUE(links->attach(*m, piece));
  rte_pktmbuf_free_bulk(all.data(), 255);
  ASSERT_EQ(rte_pktmbuf_alloc_bulk(headers, all.data(), 255), 0);
  for (rte_mbuf* m : all) {
    EXPECT_TRUE(RTE_MBUF_DIRECT(m));
    EXPECT_GE(rte_pktmbuf_tailroom(m), 2000);
  }
  rte_pktmbuf_free_bulk(all.data(), 255);
}

TEST_F(Attached, APinEndsWithTheLastClone) {
  auto links = attachments::create(*store).value();
  const chain_piece piece = stored(0, "octets");
  rte_mbuf* const m = rte_pktmbuf_alloc(headers);
  ASSERT_TRUE(links->attach(*m, piece));
  rte_mbuf* const first = rte_pktmbuf_clone(m, headers);
  rte_mbuf* const second = rte_pktmbuf_clone(first, headers);
  attached_piece ended[4];
  for (rte_mbuf* next : {m, second}) {
    rte_pktmbuf_free(next);
    EXPECT_EQ(links->collect(ended), 0u);
    EXPECT_EQ(links->pinned(), 1u);
  }
  rte_pktmbuf_free(first);
  EXPECT_EQ(links->collect(ended), 1u);
  EXPECT_EQ(links->pinned(), 0u);
}

TEST_F(Attached, WithoutAPlaceNothingIsAttachedUntilOneIsCollected) {
  auto links = attachments::create(*store, {.places = 2}).value();
  const chain_piece piece = stored(0, "octets");
  std::array<rte_mbuf*, 3> m;
  ASSERT_EQ(rte_pktmbuf_alloc_bulk(headers, m.data(), 3), 0);
  EXPECT_TRUE(links->attach(*m[0], piece));
  EXPECT_TRUE(links->attach(*m[1], piece));
  EXPECT_FALSE(links->attach(*m[2], piece));
  EXPECT_TRUE(RTE_MBUF_DIRECT(m[2]));
  rte_pktmbuf_free(m[0]);
  EXPECT_FALSE(links->attach(*m[2], piece)) << "the place is not collected yet";
  attached_piece ended[2];
  EXPECT_EQ(links->collect(ended), 1u);
  EXPECT_TRUE(links->attach(*m[2], piece));
  rte_pktmbuf_free(m[1]);
  rte_pktmbuf_free(m[2]);
}

TEST_F(Attached, MbufsMayBeFreedByAnotherThreadWhileMoreAreAttached) {
  auto links = attachments::create(*store, {.places = 64}).value();
  std::vector<std::uint64_t> seen;
  constexpr std::uint64_t all = 2000;
  std::uint64_t next = 0;
  while (seen.size() < all) {
    std::vector<rte_mbuf*> burst;
    for (; next < all && burst.size() < 16; ++next) {
      rte_mbuf* const m = rte_pktmbuf_alloc(headers);
      const chain_piece piece = stored(0, std::to_string(next));
      if (m == nullptr || !links->attach(*m, piece, next)) {
        store->release(chain_of(*store, piece));
        rte_pktmbuf_free(m);
        break;
      }
      burst.push_back(m);
    }
    std::thread port([&] {
      for (rte_mbuf* m : burst)
        rte_pktmbuf_free(m);
    });
    std::array<attached_piece, 8> ended;
    for (std::uint32_t n; (n = links->collect(ended)) != 0;)
      for (std::uint32_t i = 0; i < n; ++i) {
        EXPECT_EQ(text(ended[i].piece), std::to_string(ended[i].token));
        seen.push_back(ended[i].token);
        store->release(chain_of(*store, ended[i].piece));
      }
    port.join();
  }
  std::sort(seen.begin(), seen.end());
  for (std::uint64_t i = 0; i < all; ++i)
    ASSERT_EQ(seen[i], i) << "each piece is collected once";
  EXPECT_EQ(free_blocks(), blocks);
}

TEST_F(Attached, ANumberOfPlacesOutOfRangeIsRefused) {
  for (std::uint32_t places : {0u, (1u << 20) + 1}) {
    auto made = attachments::create(*store, {.places = places});
    ASSERT_FALSE(made);
    EXPECT_NE(made.error().message.find("give 1 to 1048576"), std::string::npos);
  }
}

TEST_F(Attached, WhatWasReceivedIsSentFromWhereItWasReceived) {
  auto p = pool();
  auto links = attachments::create(*store).value();
  rte_mbuf* const in = received(*p, pattern(700));
  const std::byte* const at = rte_pktmbuf_mtod(in, const std::byte*);
  chain_piece piece;
  ASSERT_EQ(p->take(*in, 0, 700, piece), take_status::taken);
  rte_pktmbuf_free(in);
  rte_mbuf* const out = rte_pktmbuf_alloc(headers);
  ASSERT_TRUE(links->attach(*out, piece));
  EXPECT_EQ(rte_pktmbuf_mtod(out, const std::byte*), at);
  rte_pktmbuf_free(out);
}

} // namespace
} // namespace chainring::test

#include "support/eal_main.h"
