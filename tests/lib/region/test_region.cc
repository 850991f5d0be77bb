// SPDX-License-Identifier: BSD-3-Clause
#include <cstring>
#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "region/region.h"
#include "region/region_media.h"

namespace chainring {
namespace {

constexpr std::uint64_t region_size = 1 << 20;

// A medium whose bytes outlive it, as a file's do.
class kept_media final : public media {
 public:
  explicit kept_media(std::vector<std::byte>& bytes) {
    base_ = bytes.data();
    size_ = bytes.size();
    path_ = "(kept)";
  }
  const char* driver_name() const noexcept override { return "kept"; }
  result<void> grow(std::uint64_t) override { return error{errc::unsupported, "grow"}; }
  result<void> close() override { return {}; }
};

region_options two_areas() {
  region_options o;
  o.areas = {{"a", 100, 1}, {"b", 4096, 7}};
  return o;
}

class Region : public testing::Test {
 protected:
  std::vector<std::byte> bytes = std::vector<std::byte>(region_size);
  std::unique_ptr<media> fresh() { return std::make_unique<kept_media>(bytes); }
  void make() {
    auto r = region::create_on(fresh(), two_areas());
    ASSERT_TRUE(r) << r.error().message;
    ASSERT_TRUE((*r)->close());
  }
  superblock& block(int i) {
    return *reinterpret_cast<superblock*>(bytes.data() + superblock_offsets[i]);
  }
  void reseal(int i) { block(i).crc = crc32c(0, &block(i), offsetof(superblock, crc)); }
  // Opening must refuse, for this reason, and change nothing.
  void refused(errc code, const std::string& words) {
    const auto before = bytes;
    auto r = region::open_on(fresh(), false);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, code) << r.error().message;
    EXPECT_NE(r.error().message.find(words), std::string::npos) << r.error().message;
    EXPECT_EQ(bytes, before);
  }
};

TEST_F(Region, KeepsItsAreasAndGeometryOverReopens) {
  make();
  for (std::uint64_t life = 2; life < 6; ++life) {
    auto r = region::open_on(fresh(), false);
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ((*r)->incarnation(), life);
    EXPECT_TRUE((*r)->was_clean());
    auto a = (*r)->root("a"), b = (*r)->root("b");
    ASSERT_TRUE(a);
    ASSERT_TRUE(b);
    EXPECT_EQ(a->offset, areas_offset);
    EXPECT_EQ(a->size, 128u);
    EXPECT_EQ(b->offset, areas_offset + 128);
    EXPECT_EQ(b->version, 7u);
    const region_geometry& g = (*r)->geometry();
    EXPECT_EQ(g.block_offset % 4096, 0u);
    EXPECT_EQ(g.block_offset + g.block_count * g.block_size, region_size);
    ASSERT_TRUE((*r)->close());
  }
}

TEST_F(Region, SaysThatTheLifeBeforeDidNotEndCleanly) {
  { auto r = region::create_on(fresh(), two_areas()); }
  auto r = region::open_on(fresh(), false);
  ASSERT_TRUE(r);
  EXPECT_FALSE((*r)->was_clean());
}

TEST_F(Region, UsesTheSurvivingSuperblockAndSaysSo) {
  make();
  for (int damaged : {0, 1}) {
    const auto whole = bytes;
    block(damaged).size ^= 1;
    auto r = region::open_on(fresh(), false);
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ((*r)->notes().size(), 1u);
    bytes = whole;
  }
}

TEST_F(Region, RefusesTwoDamagedSuperblocks) {
  make();
  block(0).sequence ^= 1;
  block(1).uuid[0] ^= 1;
  refused(errc::corrupt, "superblock B fails its checksum");
}

TEST_F(Region, RefusesWhatIsNoRegion) {
  std::memset(bytes.data(), 'x', bytes.size());
  refused(errc::corrupt, "no region magic");
}

TEST_F(Region, RefusesAFormatItDoesNotKnow) {
  make();
  for (int i : {0, 1}) {
    block(i).format_major = 9;
    reseal(i);
  }
  refused(errc::version, "format version 9");
}

TEST_F(Region, RefusesUnknownIncompatFlags) {
  make();
  for (int i : {0, 1}) {
    block(i).incompat = 4;
    reseal(i);
  }
  refused(errc::version, "incompat flags 4");
}

TEST_F(Region, OpensUnknownReadOnlyFeaturesForReadingOnly) {
  make();
  for (int i : {0, 1}) {
    block(i).ro_compat = 2;
    reseal(i);
  }
  refused(errc::version, "read-only");
  const auto before = bytes;
  EXPECT_TRUE(region::open_on(fresh(), true));
  EXPECT_EQ(bytes, before);
}

TEST_F(Region, RefusesATruncatedMedium) {
  make();
  bytes.resize(region_size / 2);
  refused(errc::corrupt, "truncated");
  bytes.resize(4096);
  refused(errc::corrupt, "truncated");
}

TEST_F(Region, RefusesADamagedDirectory) {
  make();
  auto* entry = reinterpret_cast<root_entry*>(bytes.data() + root_directory_offset);
  entry[1].offset = entry[0].offset;
  refused(errc::corrupt, "root 1 fails its checksum");
  entry[1].crc = crc32c(0, &entry[1], offsetof(root_entry, crc));
  refused(errc::corrupt, "root 1 overlaps root 'a'");
}

TEST_F(Region, CreateNamesTheArgumentItRefuses) {
  auto said = [&](region_options o) {
    auto r = region::create_on(fresh(), o);
    return r ? std::string() : r.error().message;
  };
  region_options o = two_areas();
  o.block_size = 100;
  EXPECT_NE(said(o).find("block size 100"), std::string::npos);
  o = two_areas();
  o.areas[1].size = region_size;
  EXPECT_NE(said(o).find("region size"), std::string::npos);
  o = two_areas();
  o.areas[1].name = "a";
  EXPECT_NE(said(o).find("named twice"), std::string::npos);
}

} // namespace
} // namespace chainring
