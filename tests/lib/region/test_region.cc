// SPDX-License-Identifier: BSD-3-Clause
// What a region promises when nothing is wrong with it.
#include "region_fixture.h"

namespace chainring::test {
namespace {

class Region : public RegionTest {};

std::string said(const result<void>& r) {
  return r ? "nothing" : r.error().message;
}

TEST_F(Region, KeepsItsAreasAndGeometryOverReopens) {
  make();
  std::string uuid;
  for (std::uint64_t life = 2; life < 6; ++life) {
    auto r = reopen();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->incarnation(), life);
    EXPECT_TRUE(r->was_clean());
    EXPECT_TRUE(r->notes().empty());
    EXPECT_EQ(r->uuid(), uuid.empty() ? r->uuid() : uuid);
    uuid = r->uuid();
    auto a = r->root("a"), b = r->root("b");
    ASSERT_TRUE(a && b);
    EXPECT_EQ(a->offset, areas_offset);
    EXPECT_EQ(a->size, 128u);
    EXPECT_EQ(b->offset, areas_offset + 128);
    EXPECT_EQ(b->version, 7u);
    EXPECT_EQ(b->kind, root_kind::area);
    const region_geometry& g = r->geometry();
    EXPECT_EQ(g.block_offset % 4096, 0u);
    EXPECT_EQ(g.block_size, 256u);
    EXPECT_EQ(g.block_offset + g.block_count * g.block_size, size);
    ASSERT_TRUE(r->close());
    ASSERT_TRUE(r->close()) << "a second close does nothing";
  }
}

TEST_F(Region, TranslatesBetweenOffsetsAndPointers) {
  auto r = region::create_on(fresh(), two_areas());
  ASSERT_TRUE(r);
  region& g = **r;
  EXPECT_EQ(g.offset_of(g.at(4711)), 4711u);
  EXPECT_TRUE(g.contains(0, size));
  EXPECT_TRUE(g.contains(size, 0));
  EXPECT_FALSE(g.contains(1, size));
  EXPECT_FALSE(g.contains(size + 1, 0));
  EXPECT_FALSE(g.contains(UINT64_MAX, 2)) << "the sum of offset and size must not overflow";
  EXPECT_FALSE(g.contains(2, UINT64_MAX));
}

TEST_F(Region, SaysThatTheLastProcessDidNotCloseIt) {
  { ASSERT_TRUE(region::create_on(fresh(), two_areas())); }
  EXPECT_FALSE(reopen()->was_clean());
  EXPECT_FALSE(reopen()->was_clean());
  ASSERT_TRUE(reopen()->close());
  EXPECT_TRUE(reopen()->was_clean());
}

TEST_F(Region, ReadOnlyOpenChangesNothingAndRefusesChanges) {
  make();
  const auto before = bytes;
  {
    auto r = reopen(true);
    ASSERT_TRUE(r);
    EXPECT_TRUE(r->read_only());
    EXPECT_EQ(r->incarnation(), 1u);
    EXPECT_NE(said(r->grow(2 * size)).find("not open for writing"), std::string::npos);
    EXPECT_NE(
        said(r->add_root({"x", r->geometry().block_offset, 64, 1})).find("not open for writing"),
        std::string::npos);
    EXPECT_TRUE(r->close());
  }
  EXPECT_TRUE(bytes == before);
}

TEST_F(Region, RootsNameRangesOfTheBlockAreaForGood) {
  make();
  {
    auto r = reopen();
    const std::uint64_t at = r->geometry().block_offset;
    EXPECT_TRUE(r->add_root({"chain", at + 512, 768, 3}));
    EXPECT_TRUE(r->add_root({"another", at, 512, 4}));
  }
  auto r = reopen();
  auto chain = r->root("chain"), another = r->root("another");
  ASSERT_TRUE(chain && another);
  EXPECT_EQ(chain->offset, r->geometry().block_offset + 512);
  EXPECT_EQ(chain->size, 768u);
  EXPECT_EQ(chain->version, 3u);
  EXPECT_EQ(chain->kind, root_kind::range);
  EXPECT_EQ(r->roots().size(), 4u);
  EXPECT_EQ(r->root("nobody").error().code, errc::not_found);
}

TEST_F(Region, RangesOfOneNameAreNumberedInTheOrderTheyWereAdded) {
  make();
  {
    auto r = reopen();
    const std::uint64_t at = r->geometry().block_offset;
    for (std::uint32_t n = 0; n < 12; ++n) {
      auto added = r->add_range("table", n, at + n * 256, 256);
      ASSERT_TRUE(added) << added.error().message;
      EXPECT_EQ(added->name, n == 0 ? "table" : "table#" + std::to_string(n));
      EXPECT_EQ(r->ranges("table").size(), n + 1);
    }
    EXPECT_EQ(r->add_range("a", 5, at + 8192, 64)->name, "a#1")
        << "an area of that name is the first range";
  }
  auto r = reopen();
  const std::vector<region_root> found = r->ranges("table");
  ASSERT_EQ(found.size(), 12u);
  for (std::uint32_t n = 0; n < 12; ++n) {
    EXPECT_EQ(found[n].version, n);
    EXPECT_EQ(found[n].offset, r->geometry().block_offset + n * 256);
  }
  ASSERT_EQ(r->ranges("a").size(), 2u);
  EXPECT_EQ(r->ranges("a")[0].kind, root_kind::area);
  EXPECT_TRUE(r->ranges("tab").empty());
}

TEST_F(Region, AddingARangeStoresAndDrainsOneLine) {
  make();
  auto r = reopen();
  seam_counter seam;
  r->medium().observe(&seam);
  ASSERT_TRUE(r->add_range("table", 1, r->geometry().block_offset, 4096));
  r->medium().observe(nullptr);
  EXPECT_EQ(seam.text(), "8 stores, 0 writes, 1 flushes of 1 lines, 1 drains");
}

TEST_F(Region, ARangeWhoseNumberedNameDoesNotFitIsRefused) {
  make();
  auto r = reopen();
  const std::uint64_t at = r->geometry().block_offset;
  const std::string name(30, 'n');
  ASSERT_TRUE(r->add_range(name, 1, at, 64));
  auto second = r->add_range(name, 1, at + 64, 64);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("no name of 1 to 31"), std::string::npos);
}

TEST_F(Region, AddRootNamesTheRootThatItRefuses) {
  make();
  auto r = reopen();
  const std::uint64_t at = r->geometry().block_offset;
  ASSERT_TRUE(r->add_root({"first", at + 256, 256, 1}));
  const auto before = bytes;
  const std::pair<region_root, const char*> wrong[] = {
      {{"", at, 64, 1}, "no name of 1 to 31"},
      {{std::string(32, 'x'), at, 64, 1}, "no name of 1 to 31"},
      {{std::string("a\0b", 3), at, 64, 1}, "no name of 1 to 31"},
      {{"first", at, 64, 1}, "has the name of another root"},
      {{"a", at, 64, 1}, "has the name of another root"},
      {{"x", at, 512, 1}, "overlaps root 'first'"},
      {{"x", at + 448, 1024, 1}, "overlaps root 'first'"},
      {{"x", at + 1, 64, 1}, "not on a line"},
      {{"x", at, 0, 1}, "names 0 bytes"},
      {{"x", areas_offset, 64, 1}, "outside the block area"},
      {{"x", size, 64, 1}, "outside the block area"},
      {{"x", size - 64, 65, 1}, "outside the block area"},
      {{"x", size - 64, UINT64_MAX, 1}, "outside the block area"},
  };
  for (const auto& [root, words] : wrong)
    EXPECT_NE(said(r->add_root(root)).find(words), std::string::npos)
        << words << ": " << said(r->add_root(root));
  EXPECT_TRUE(bytes == before);
}

TEST_F(Region, AddRootFailsWithASentenceIfTheDirectoryIsFull) {
  make();
  auto r = reopen();
  std::uint64_t at = r->geometry().block_offset;
  for (std::uint32_t i = 2; i < root_directory_entries; ++i, at += 64)
    ASSERT_TRUE(r->add_root({"root " + std::to_string(i), at, 64, i}));
  auto full = r->add_root({"one more", at, 64, 1});
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, errc::no_space);
  EXPECT_NE(full.error().message.find("all 64 entries"), std::string::npos);
  EXPECT_EQ(reopen()->roots().size(), root_directory_entries);
}

TEST_F(Region, GrowsByWholeBlocksAndStaysGrown) {
  make();
  const std::uint64_t blocks = reopen()->geometry().block_count;
  {
    auto r = reopen();
    ASSERT_TRUE(r->grow(size)) << "the region has this size already";
    EXPECT_EQ(r->geometry().block_count, blocks);
    ASSERT_TRUE(r->grow(size + 1000));
    EXPECT_EQ(r->geometry().size, size + 1000);
    EXPECT_EQ(r->geometry().block_count, blocks + 3);
    EXPECT_EQ(r->grow(100 * size).error().code, errc::no_space);
    EXPECT_EQ(r->geometry().size, size + 1000);
  }
  EXPECT_EQ(reopen()->geometry().block_count, blocks + 3);
  // Either superblock alone knows the new size.
  for (int lost : {0, 1}) {
    const auto whole = bytes;
    block(lost).crc ^= 1;
    EXPECT_EQ(reopen()->geometry().block_count, blocks + 3);
    bytes = whole;
  }
}

TEST_F(Region, UsesTheLongerMediumThatAnInterruptedGrowthLeft) {
  make();
  bytes.resize(2 * size); // the file was grown and synced before the power failed
  auto r = reopen();
  ASSERT_TRUE(r);
  EXPECT_EQ(r->geometry().size, size);
  ASSERT_TRUE(r->grow(size + 4096));
  EXPECT_EQ(r->geometry().size, 2 * size);
}

TEST_F(Region, CreateClearsTheOldContentOfTheMedium) {
  std::memset(bytes.data(), 0xa5, bytes.size());
  make();
  auto r = reopen();
  ASSERT_TRUE(r);
  EXPECT_EQ(r->roots().size(), 2u);
  for (std::uint64_t i = areas_offset; i < areas_offset + 128 + 4096; ++i)
    ASSERT_EQ(*r->at(i), std::byte{0}) << i;
}

TEST_F(Region, CreateRefusesAMediumThatHoldsARegion) {
  make();
  for (int lost : {0, 1}) {
    const auto whole = bytes;
    block(lost).magic = 0;
    const auto before = bytes;
    auto r = region::create_on(fresh(), two_areas());
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::exists);
    EXPECT_NE(r.error().message.find("holds a region already"), std::string::npos);
    EXPECT_TRUE(bytes == before);
    bytes = whole;
  }
}

TEST_F(Region, CreateNamesTheArgumentThatItRefuses) {
  const auto before = bytes;
  auto refusal = [&](auto change) {
    region_options o = two_areas();
    change(o);
    auto r = region::create_on(fresh(), o);
    EXPECT_TRUE(bytes == before);
    return r ? std::string("nothing") : r.error().message;
  };
  for (std::uint32_t wrong : {0u, 32u, 100u, 8192u})
    EXPECT_NE(refusal([&](auto& o) { o.block_size = wrong; }).find("64 to 4096"),
              std::string::npos);
  EXPECT_NE(refusal([](auto& o) { o.areas[1].size = size - 4096; }).find("region size"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& o) { o.areas[1].size = UINT64_MAX; }).find("area 'b'"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& o) { o.areas[1].name = "a"; }).find("two areas have this name"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& o) { o.areas[1].name = ""; }).find("1 to 31"), std::string::npos);
  EXPECT_NE(refusal([](auto& o) { o.areas[1].name = std::string(32, 'x'); }).find("1 to 31"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& o) { o.areas.resize(65); }).find("room for 64"), std::string::npos);
}

TEST_F(Region, CallsFailWithAnErrorOnceTheMediumHasFailed) {
  make();
  auto backing = fresh();
  kept_media& m = *backing;
  auto r = region::open_on(std::move(backing), false);
  ASSERT_TRUE(r);
  m.failed_ = true;
  EXPECT_TRUE((*r)->failed());
  const std::uint64_t at = (*r)->geometry().block_offset;
  EXPECT_EQ((*r)->add_root({"x", at, 64, 1}).error().code, errc::io);
  EXPECT_EQ((*r)->grow(2 * size).error().code, errc::io);
  EXPECT_EQ((*r)->close().error().code, errc::io);
  EXPECT_FALSE(reopen()->was_clean());
}

// These counts are golden: a change here is a change of the protocol, and its commit explains it.
TEST_F(Region, EachOperationMakesTheGoldenNumberOfPersistCalls) {
  const auto counted = [&](auto operation) {
    seam_counter c;
    auto backing = fresh();
    media& m = *backing;
    operation(std::move(backing), m, c);
    return std::to_string(c.stores) + " stores, " + std::to_string(c.writes) + " writes, " +
           std::to_string(c.lines) + " lines, " + std::to_string(c.drains) + " drains";
  };
  EXPECT_EQ(counted([&](std::unique_ptr<media> backing, media& m, seam_counter& c) {
              m.observe(&c);
              ASSERT_TRUE(region::create_on(std::move(backing), two_areas()));
            }),
            "82 stores, 0 writes, 268 lines, 3 drains");
  EXPECT_EQ(counted([&](std::unique_ptr<media> backing, media& m, seam_counter& c) {
              m.observe(&c);
              ASSERT_TRUE(region::open_on(std::move(backing), false));
            }),
            "18 stores, 0 writes, 194 lines, 3 drains");
  EXPECT_EQ(counted([&](std::unique_ptr<media> backing, media& m, seam_counter& c) {
              auto r = region::open_on(std::move(backing), false);
              ASSERT_TRUE(r);
              m.observe(&c);
              ASSERT_TRUE((*r)->add_root({"x", (*r)->geometry().block_offset, 64, 1}));
            }),
            "8 stores, 0 writes, 1 lines, 1 drains");
  EXPECT_EQ(counted([&](std::unique_ptr<media> backing, media& m, seam_counter& c) {
              auto r = region::open_on(std::move(backing), false);
              ASSERT_TRUE(r);
              m.observe(&c);
              ASSERT_TRUE((*r)->grow(size + 4096));
            }),
            "18 stores, 0 writes, 2 lines, 2 drains");
  EXPECT_EQ(counted([&](std::unique_ptr<media> backing, media& m, seam_counter& c) {
              auto r = region::open_on(std::move(backing), false);
              ASSERT_TRUE(r);
              m.observe(&c);
              ASSERT_TRUE((*r)->close());
            }),
            "18 stores, 0 writes, 2 lines, 2 drains");
}

} // namespace
} // namespace chainring::test
