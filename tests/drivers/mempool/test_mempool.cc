// SPDX-License-Identifier: BSD-3-Clause
/// The mempool operations "chainring" in this process, and the places they give to objects.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <set>
#include <string>
#include <unistd.h>
#include <vector>

#include "mempool/chainring/pool_region.h"

namespace chainring::mempool {
namespace {

/// A directory for regions, which is removed at the end.
class MempoolDriver : public testing::Test {
 protected:
  MempoolDriver() {
    std::string name = "/dev/shm/chainring_mempool_XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~MempoolDriver() override {
    unsetenv("CHAINRING_MEMPOOL_REGION");
    std::filesystem::remove_all(folder_);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  static void set(const std::string& setting) {
    ASSERT_EQ(setenv("CHAINRING_MEMPOOL_REGION", setting.c_str(), 1), 0);
  }
  static rte_mempool* mbufs(const char* name, unsigned count) {
    return rte_pktmbuf_pool_create_by_ops(name, count, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                          SOCKET_ID_ANY, "chainring");
  }
  static std::string why(const std::string& setting) {
    auto opened = pool_region::open(setting);
    return opened ? "" : opened.error().message;
  }

 private:
  std::string folder_;
};

TEST_F(MempoolDriver, APacketsBytesAreInTheFileOfTheRegion) {
  set(path("pools") + ",16M");
  rte_mempool* const pool = mbufs("in_file", 100);
  ASSERT_NE(pool, nullptr) << rte_strerror(rte_errno);
  rte_mbuf* const m = rte_pktmbuf_alloc(pool);
  ASSERT_NE(m, nullptr);
  const std::string text = "these octets were received";
  std::memcpy(rte_pktmbuf_append(m, static_cast<std::uint16_t>(text.size())), text.data(),
              text.size());
  std::ifstream file(path("pools"), std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(all.find(text), std::string::npos);
  rte_pktmbuf_free(m);
  rte_mempool_free(pool);
}

TEST_F(MempoolDriver, APoolThatIsFreedGivesItsBlocksToTheNextOne) {
  set(",16M");
  rte_mempool* const keeps_it_open = mbufs("small", 15);
  ASSERT_NE(keeps_it_open, nullptr);
  for (int i = 0; i < 3; ++i) {
    rte_mempool* const most = mbufs("most", 4000); // 10 of 16 MiB
    ASSERT_NE(most, nullptr) << "round " << i;
    EXPECT_EQ(rte_mempool_avail_count(most), 4000u);
    EXPECT_EQ(mbufs("too_much", 4000), nullptr);
    EXPECT_EQ(rte_errno, ENOMEM);
    rte_mempool_free(most);
  }
  rte_mempool_free(keeps_it_open);
}

TEST_F(MempoolDriver, EveryObjectOfAPoolIsGivenOutOnce) {
  set(",16M");
  rte_mempool* const pool = mbufs("once", 1000);
  ASSERT_NE(pool, nullptr);
  std::vector<rte_mbuf*> all(1000);
  ASSERT_EQ(rte_pktmbuf_alloc_bulk(pool, all.data(), 1000), 0);
  EXPECT_EQ(rte_pktmbuf_alloc(pool), nullptr);
  std::sort(all.begin(), all.end());
  for (std::size_t i = 1; i < all.size(); ++i)
    ASSERT_GE(reinterpret_cast<std::byte*>(all[i]) - reinterpret_cast<std::byte*>(all[i - 1]),
              static_cast<std::ptrdiff_t>(pool->header_size + pool->elt_size + pool->trailer_size));
  rte_pktmbuf_free_bulk(all.data(), 1000);
  EXPECT_EQ(rte_mempool_avail_count(pool), 1000u);
  rte_mempool_free(pool);
}

TEST_F(MempoolDriver, ARegionIsClosedWithItsLastPoolAndOpenedByTheNextOne) {
  set(path("pools") + ",16M");
  rte_mempool* const a = mbufs("a", 10);
  ASSERT_NE(a, nullptr);
  EXPECT_NE(why(path("pools")), "") << "the region is open, so another open has to be refused";
  rte_mempool_free(a);
  EXPECT_EQ(why(path("pools")), "");
  set(path("pools"));
  rte_mempool* const b = mbufs("b", 10);
  ASSERT_NE(b, nullptr);
  rte_mempool_free(b);
}

TEST_F(MempoolDriver, APoolWithoutARegionIsNotMade) {
  set(path("none"));
  EXPECT_EQ(mbufs("nowhere", 10), nullptr);
  EXPECT_EQ(rte_errno, EINVAL);
}

TEST_F(MempoolDriver, ASettingThatNamesNoRegionIsRefusedWithTheRemedy) {
  for (const char* setting : {"pools,", "pools,much", ",0", "pools,0"})
    EXPECT_NE(why(setting).find("CHAINRING_MEMPOOL_REGION is '" + std::string(setting) + "'"),
              std::string::npos)
        << setting;
  const std::string none = why(path("none"));
  EXPECT_NE(none.find("there is no such file"), std::string::npos) << none;
  EXPECT_NE(none.find("Give PATH,SIZE such as /dev/hugepages/pools,512M"), std::string::npos);
}

TEST_F(MempoolDriver, ARegionThatHoldsSomethingElseIsRefused) {
  region_options o;
  o.media.path = path("other");
  o.media.size = 1 << 20;
  o.areas = {{"broker.sessions", 4096, 1}};
  ASSERT_TRUE((*region::create(o))->close());
  const std::string said = why(path("other"));
  EXPECT_NE(said.find("holds 'broker.sessions', which pools would overwrite"), std::string::npos)
      << said;

  o.media.path = path("empty");
  o.areas.clear();
  ASSERT_TRUE((*region::create(o))->close());
  EXPECT_NE(why(path("empty")).find("was not made by the mempool driver"), std::string::npos);
}

TEST_F(MempoolDriver, AnObjectForWhichAPlaceIsRefusedGoesToTheNextPage) {
  auto region = pool_region::open(",16M").value();
  const std::uint64_t all = region->blocks().statistics().free_blocks;
  const auto in_one_page = [](const std::byte* at, std::size_t bytes) {
    return reinterpret_cast<std::uintptr_t>(at) % 4096 + bytes <= 4096;
  };
  auto places = pool_places::take(*region, 500, 1536, in_one_page); // two to a page, not 2.7
  ASSERT_TRUE(places) << places.error().message;
  ASSERT_EQ((*places)->starts().size(), 500u);
  for (std::byte* at : (*places)->starts())
    EXPECT_TRUE(in_one_page(at, 1536));
  EXPECT_EQ(std::set<std::byte*>((*places)->starts().begin(), (*places)->starts().end()).size(),
            500u);
  (*places).reset();
  EXPECT_EQ(region->blocks().statistics().free_blocks, all);
}

TEST_F(MempoolDriver, APoolThatDoesNotFitTakesNothing) {
  auto region = pool_region::open(",1M").value();
  const std::uint64_t all = region->blocks().statistics().free_blocks;
  const auto never = [](const std::byte*, std::size_t) { return false; };
  EXPECT_FALSE(pool_places::take(*region, 100, 1 << 20));
  auto nowhere = pool_places::take(*region, 10, 2048, never);
  ASSERT_FALSE(nowhere);
  EXPECT_NE(
      nowhere.error().message.find("has no places for the pool's 10 objects of 2048 bytes each"),
      std::string::npos)
      << nowhere.error().message;
  EXPECT_EQ(region->blocks().statistics().free_blocks, all);
}

} // namespace
} // namespace chainring::mempool

#include "support/eal_main.h"
