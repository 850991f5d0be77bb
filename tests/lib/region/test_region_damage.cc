// SPDX-License-Identifier: BSD-3-Clause
// How an open treats media that are damaged, truncated, foreign, newer or forged.
#include <cstdlib>
#include <random>

#include "region_fixture.h"
#include "support/seed.h"

namespace chainring::test {
namespace {

using detail::case_of;
using detail::superblock_case;
using detail::superblock_state;

class RegionDamage : public RegionTest {};

TEST_F(RegionDamage, EveryPairOfSuperblocksIsExactlyOneCase) {
  using enum superblock_state;
  const superblock_case expected[4][4] = {
      // B:  valid                      damaged                  unwritten                 foreign
      {superblock_case::both, superblock_case::survivor, superblock_case::cut_off,
       superblock_case::survivor}, // A valid
      {superblock_case::survivor, superblock_case::lost, superblock_case::lost,
       superblock_case::lost}, // A damaged
      {superblock_case::cut_off, superblock_case::lost, superblock_case::none,
       superblock_case::foreign}, // A unwritten
      {superblock_case::survivor, superblock_case::lost, superblock_case::foreign,
       superblock_case::foreign}, // A foreign
  };
  const superblock_state all[] = {valid, damaged, unwritten, foreign};
  for (int a = 0; a < 4; ++a)
    for (int b = 0; b < 4; ++b)
      EXPECT_EQ(case_of(all[a], all[b]), expected[a][b]) << a << ", " << b;
}

TEST_F(RegionDamage, TheSurvivingSuperblockIsUsedAndTheDamagedOneIsNotedAndRepaired) {
  make();
  const auto whole = bytes;
  for (int damaged : {0, 1})
    for (std::size_t at = 0; at < sizeof(superblock); at += 8) {
      bytes = whole;
      reinterpret_cast<std::uint64_t*>(&block(damaged))[at / 8] ^= 0x0100;
      {
        auto r = reopen(true);
        ASSERT_TRUE(r);
        ASSERT_EQ(r->notes().size(), 1u) << at;
        EXPECT_NE(r->notes()[0].find(damaged == 0 ? "superblock A" : "superblock B"),
                  std::string::npos)
            << r->notes()[0];
      }
      {
        auto r = reopen();
        ASSERT_TRUE(r);
        EXPECT_EQ(r->notes().size(), 1u);
        EXPECT_EQ(r->geometry().size, size);
        EXPECT_EQ(r->roots().size(), 2u);
      }
      EXPECT_TRUE(reopen()->notes().empty()) << "the open before repaired it";
    }
}

TEST_F(RegionDamage, AnInterruptedSuperblockWriteIsNotReportedAsDamage) {
  make();
  for (int cut : {0, 1}) {
    const auto whole = bytes;
    block(cut).magic = 0;
    block(cut).sequence += 1;
    EXPECT_TRUE(reopen(true)->notes().empty());
    std::memset(&block(cut), 0, sizeof(superblock));
    EXPECT_EQ(reopen(true)->notes().size(), 1u) << "no crash leaves the second line zero";
    bytes = whole;
  }
}

TEST_F(RegionDamage, TheNewerSuperblockCounts) {
  make();
  block(0).incarnation = 70;
  block(0).sequence = 1000;
  reseal(0);
  EXPECT_EQ(reopen(true)->incarnation(), 70u);
  block(1).incarnation = 80;
  block(1).sequence = 1001;
  reseal(1);
  EXPECT_EQ(reopen(true)->incarnation(), 80u);
  EXPECT_EQ(reopen()->incarnation(), 81u);
  EXPECT_EQ(block(0).sequence, 1002u) << "the older superblock is stored over first";
  EXPECT_EQ(block(1).sequence, 1003u);
}

TEST_F(RegionDamage, RefusesTwoDamagedSuperblocks) {
  make();
  block(0).sequence ^= 1;
  block(1).uuid[0] ^= 1;
  refused(errc::corrupt, "superblock A fails its checksum, superblock B fails its checksum");
  block(1).magic = 0;
  refused(errc::corrupt, "superblock B was never written");
  block(1).magic = 5;
  refused(errc::corrupt, "superblock B has no region magic");
}

TEST_F(RegionDamage, RefusesAMediumThatHoldsNoRegion) {
  refused(errc::corrupt, "it is not a region, or its creation did not finish");
  std::memset(bytes.data(), 'x', bytes.size());
  refused(errc::corrupt, "it is not a region: superblock A has no region magic");
}

TEST_F(RegionDamage, RefusesSuperblocksOfTwoRegions) {
  make();
  block(1).uuid[1] ^= 1;
  reseal(1);
  refused(errc::corrupt, "two different regions");
}

TEST_F(RegionDamage, RefusesAnUnknownFormatVersion) {
  make();
  forge([](superblock& s) { s.format_major = 9; });
  refused(errc::version,
          "format version 9, and this build reads 3; open it with a build that reads");
  block(0).crc ^= 1;
  block(1).crc ^= 1;
  refused(errc::version, "damaged, or of format version 9");
}

TEST_F(RegionDamage, RefusesARegionOfAnOlderFormatAndSaysWhatToDo) {
  make();
  forge([](superblock& s) { s.format_major = 1; });
  refused(errc::version,
          "it has format version 1, and this build reads 3; drain it with the version "
          "that made it, and create another");
  refused(errc::version, "drain it with the version that made it", true);
}

TEST_F(RegionDamage, ADamagedRangeIsRefusedAndTheOtherRangesAreReadable) {
  make();
  {
    auto r = reopen();
    const std::uint64_t at = r->geometry().block_offset;
    ASSERT_TRUE(r->add_range("table", 1, at, 64));
    ASSERT_TRUE(r->add_range("table", 1, at + 64, 64));
    ASSERT_TRUE(r->add_range("table", 1, at + 128, 64));
  }
  const auto whole = bytes;
  forge_root(3, [&](root_entry& e) { e.offset = entry(2).offset; });
  refused(errc::corrupt, "'table#1' overlaps root 'table'");
  bytes = whole;
  forge_root(3, [](root_entry& e) { e.offset = size - 32; });
  refused(errc::corrupt, "outside the block area");
  bytes = whole;
  forge_root(3, [](root_entry& e) { e.offset = areas_offset; });
  refused(errc::corrupt, "outside the block area");
  bytes = whole;
  entry(3).version ^= 1;
  refused(errc::corrupt, "root 3 of its directory fails its checksum");
  auto r = reopen(true);
  ASSERT_EQ(r->notes().size(), 1u);
  EXPECT_EQ(r->ranges("table").size(), 1u) << "a missing number must not be passed over";
  EXPECT_TRUE(r->root("table#2"));
}

TEST_F(RegionDamage, ANewerMinorVersionAndUnknownCompatFlagsOpenAndAreKept) {
  make();
  forge([](superblock& s) {
    s.format_minor = 77;
    s.compat = 0x30;
    s.reserved[3] = 4711;
  });
  ASSERT_TRUE(reopen()->close());
  for (int i : {0, 1}) {
    EXPECT_EQ(block(i).format_minor, 77u);
    EXPECT_EQ(block(i).compat, 0x30u);
    EXPECT_EQ(block(i).reserved[3], 4711u);
  }
}

TEST_F(RegionDamage, RefusesUnknownIncompatFlags) {
  make();
  forge([](superblock& s) { s.incompat = 4; });
  refused(errc::version, "incompat flags 4");
  refused(errc::version, "incompat flags 4", true);
}

TEST_F(RegionDamage, RefusesARegionThatWasNeverFinished) {
  make();
  forge([](superblock& s) { s.state = 3; });
  refused(errc::corrupt, "it was never finished");
  refused(errc::corrupt, "it was never finished", true);
}

TEST_F(RegionDamage, NeverUsesAnOlderSuperblockInPlaceOfANewerOneThatItDoesNotUnderstand) {
  make();
  const int newer = block(0).sequence > block(1).sequence ? 0 : 1;
  block(newer).incompat = 4;
  reseal(newer);
  refused(errc::version, "incompat flags 4");
  block(newer).incompat = 0;
  block(newer).size *= 2;
  reseal(newer);
  refused(errc::corrupt, "truncated");
}

TEST_F(RegionDamage, OpensUnknownReadOnlyFeaturesForReadingOnly) {
  make();
  forge([](superblock& s) { s.ro_compat = 2; });
  refused(errc::version, "ro_compat flags 2); open it read-only");
  const auto before = bytes;
  EXPECT_TRUE(reopen(true));
  EXPECT_TRUE(bytes == before);
}

TEST_F(RegionDamage, RefusesATruncatedMedium) {
  make();
  bytes.resize(size - 4096);
  refused(errc::corrupt,
          "says it has 1048576 bytes, and there are 1044480: the file was truncated");
  bytes.resize(4096);
  refused(errc::corrupt, "too few for a region");
  bytes.resize(0);
  refused(errc::corrupt, "too few for a region");
}

TEST_F(RegionDamage, RefusesAnImpossibleGeometry) {
  make();
  const auto whole = bytes;
  using change = void (*)(superblock&);
  const change wrong[] = {
      [](superblock& s) { s.block_size = 0; },
      [](superblock& s) { s.block_size = 32; },
      [](superblock& s) { s.block_size = 192; },
      [](superblock& s) { s.block_size = 8192; },
      [](superblock& s) { s.block_offset += 64; },
      [](superblock& s) { s.block_offset = 1ull << 60; },
      [](superblock& s) { s.block_offset = 4096; },
      [](superblock& s) { s.block_count += 1; },
      [](superblock& s) { s.block_count = UINT64_MAX; },
      [](superblock& s) { s.block_count = 0; },
      [](superblock& s) { s.areas_offset = 64; },
      [](superblock& s) { s.areas_offset += 1; },
      [](superblock& s) { s.areas_offset = UINT64_MAX - 63; },
      [](superblock& s) { s.areas_size = UINT64_MAX - 63; },
      [](superblock& s) { s.areas_size += 1; },
      [](superblock& s) { s.area_count = 65; },
      [](superblock& s) { s.root_capacity = 1 << 30; },
      [](superblock& s) { s.state = 4; },
  };
  for (std::size_t i = 0; i < std::size(wrong); ++i) {
    bytes = whole;
    forge(wrong[i]);
    SCOPED_TRACE(i);
    refused(errc::corrupt, "its superblock holds an impossible value");
    refused(errc::corrupt, "its superblock holds an impossible value", true);
  }
}

TEST_F(RegionDamage, RefusesADamagedDirectoryButOpensItsIntactRootsForReading) {
  make();
  ASSERT_TRUE(reopen()->add_root({"range", reopen(true)->geometry().block_offset, 64, 1}));
  const auto whole = bytes;
  struct {
    int which;
    void (*change)(root_entry&);
    const char* words;
  } const wrong[] = {
      {1, [](root_entry& e) { e = {}; }, "root 1 of its directory is missing"},
      {1, [](root_entry& e) { e.state = 2; }, "impossible commit word"},
      {1, [](root_entry& e) { e.kind = 2; }, "impossible commit word"},
      {2, [](root_entry& e) { e.kind = 1; }, "impossible commit word"},
      {2, [](root_entry& e) { e.kind = 3; }, "impossible commit word"},
      {2, [](root_entry& e) { e.reserved0 = 1; }, "impossible commit word"},
      {1, [](root_entry& e) { e.offset = areas_offset; }, "'b' overlaps root 'a'"},
      {1, [](root_entry& e) { e.offset = 0; }, "outside the areas"},
      {1, [](root_entry& e) { e.offset += 64; }, "outside the areas"},
      {1, [](root_entry& e) { e.size = UINT64_MAX; }, "outside the areas"},
      {2, [](root_entry& e) { e.offset = areas_offset; }, "outside the block area"},
      {2, [](root_entry& e) { e.offset = UINT64_MAX - 63; }, "outside the block area"},
      {2, [](root_entry& e) { e.size = 0; }, "names 0 bytes"},
      {1, [](root_entry& e) { std::memset(e.name, 'n', sizeof e.name); }, "name without an end"},
      {1, [](root_entry& e) { e.name[20] = 'n'; }, "name without an end"},
      {1, [](root_entry& e) { std::memset(e.name, 0, sizeof e.name); }, "has no name"},
      {1, [](root_entry& e) { e.name[0] = 'a'; }, "has the name of another root"},
  };
  for (const auto& w : wrong) {
    bytes = whole;
    if (std::string(w.words).find("not there") == std::string::npos)
      forge_root(w.which, w.change);
    else
      w.change(entry(w.which));
    refused(errc::corrupt, w.words);
    auto r = reopen(true);
    ASSERT_TRUE(r);
    EXPECT_EQ(r->roots().size(), 2u) << w.words;
    ASSERT_EQ(r->notes().size(), 1u) << w.words;
    EXPECT_NE(r->notes()[0].find(w.words), std::string::npos) << r->notes()[0];
  }
  bytes = whole;
  entry(1).size ^= 64;
  refused(errc::corrupt, "root 1 of its directory fails its checksum");
}

// Superblocks and directory get random bytes. An open either refuses and changes nothing, or it
// reports a region that is possible.
TEST_F(RegionDamage, RandomDamageIsRefusedOrHarmless) {
  std::mt19937_64 random(test::printed_seed(20240607));
  make();
  ASSERT_TRUE(reopen()->add_root({"range", reopen(true)->geometry().block_offset, 64, 1}));
  const auto whole = bytes;
  unsigned refusals = 0;
  for (int round = 0; round < 4000; ++round) {
    bytes = whole;
    for (int n = 1 + static_cast<int>(random() % 6); n > 0; --n) {
      const bool directory = random() % 3 == 0;
      const std::uint64_t at = directory ? root_directory_offset + random() % (4 * 64)
                                         : superblock_offsets[random() % 2] + random() % 256;
      bytes[at] = static_cast<std::byte>(random());
    }
    // Half of the time the checksums are made right, so that the checks behind them are reached.
    if (random() % 2 == 0) {
      reseal(0);
      reseal(1);
      for (int i = 0; i < 4; ++i)
        entry(i).crc = detail::crc_of(entry(i));
    }
    const bool read_only = random() % 2 == 0;
    const auto before = bytes;
    auto r = region::open_on(fresh(), read_only);
    const bool untouched = bytes == before;
    ASSERT_TRUE(untouched || (r && !read_only)) << "round " << round;
    refusals += !r;
    if (!r) continue;
    const region_geometry& g = (*r)->geometry();
    ASSERT_LE(g.size, bytes.size());
    ASSERT_TRUE((*r)->contains(g.block_offset, g.block_count * g.block_size));
    for (const region_root& root : (*r)->roots())
      ASSERT_TRUE((*r)->contains(root.offset, root.size));
  }
  EXPECT_GT(refusals, 100u);
  EXPECT_LT(refusals, 3900u);
}

} // namespace
} // namespace chainring::test
