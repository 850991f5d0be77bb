// SPDX-License-Identifier: BSD-3-Clause
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "media/media.h"

namespace chainring {
namespace {

// A directory on `where` that goes with the test.
class directory {
 public:
  explicit directory(std::string where) : path_(std::move(where) + "/chainring-XXXXXX") {
    made_ = mkdtemp(path_.data()) != nullptr;
  }
  ~directory() {
    if (made_) (void)std::system(("rm -rf " + path_).c_str());
  }
  bool made() const { return made_; }
  std::string file(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
  bool made_ = false;
};

// Where hugetlbfs is mounted; empty: nowhere.
std::string hugetlbfs() {
  std::ifstream mounts("/proc/mounts");
  std::string device, point, type, rest;
  while (mounts >> device >> point >> type && std::getline(mounts, rest))
    if (type == "hugetlbfs") return point;
  return {};
}

media_options at(const std::string& path, std::uint64_t size = 0) {
  media_options o;
  o.path = path;
  o.size = size;
  return o;
}

void keeps_its_bytes(const std::string& where, std::uint64_t size) {
  const directory d(where);
  ASSERT_TRUE(d.made());
  {
    auto m = create_media(at(d.file("region"), size));
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_STREQ((*m)->driver_name(), "hugetlb");
    EXPECT_EQ((*m)->durability(), durability_class::process);
    EXPECT_GE((*m)->size(), size);
    (*m)->store(reinterpret_cast<std::uint64_t*>((*m)->base()), 42);
    ASSERT_TRUE((*m)->grow(2 * size));
    EXPECT_EQ((*m)->size(), 2 * size);
    (*m)->store(reinterpret_cast<std::uint64_t*>((*m)->base() + 2 * size - 8), 43);
  }
  auto m = open_media(at(d.file("region")));
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(*reinterpret_cast<std::uint64_t*>((*m)->base()), 42u);
  EXPECT_EQ(*reinterpret_cast<std::uint64_t*>((*m)->base() + 2 * size - 8), 43u);
}

TEST(Hugetlb, KeepsItsBytesOnTmpfsThroughGrowthAndReopen) {
  keeps_its_bytes("/dev/shm", 1 << 20);
}

TEST(Hugetlb, KeepsItsBytesOnHugetlbfsWhereThereIsOne) {
  const std::string where = hugetlbfs();
  const bool required = std::getenv("CHAINRING_REQUIRE_HUGETLBFS") != nullptr;
  if (where.empty() && !required) {
    std::printf("no hugetlbfs is mounted: only tmpfs was tried\n");
    return;
  }
  ASSERT_FALSE(where.empty()) << "CHAINRING_REQUIRE_HUGETLBFS is set and none is mounted";
  keeps_its_bytes(where, 2 << 20);
}

TEST(Hugetlb, HasOneWriterAtATime) {
  const directory d("/dev/shm");
  auto first = create_media(at(d.file("region"), 65536));
  ASSERT_TRUE(first);
  auto second = open_media(at(d.file("region")));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, errc::busy);
  EXPECT_NE(second.error().message.find(d.file("region")), std::string::npos);
  ASSERT_TRUE((*first)->close());
  EXPECT_TRUE(open_media(at(d.file("region"))));
}

TEST(Hugetlb, CreatesNothingOverAnExistingFile) {
  const directory d("/dev/shm");
  std::ofstream(d.file("region")) << "mine";
  auto m = create_media(at(d.file("region"), 65536));
  ASSERT_FALSE(m);
  EXPECT_EQ(m.error().code, errc::exists);
  std::string kept;
  std::ifstream(d.file("region")) >> kept;
  EXPECT_EQ(kept, "mine");
}

TEST(Hugetlb, LeavesNoFileBehindWhereThereIsNoRoom) {
  const directory d("/dev/shm");
  auto m = create_media(at(d.file("region"), std::uint64_t{1} << 46));
  ASSERT_FALSE(m);
  struct stat st {};
  EXPECT_NE(stat(d.file("region").c_str(), &st), 0);
}

TEST(Hugetlb, EmulatedClassTakesAnyFile) {
  const directory d("/tmp");
  media_options o = at(d.file("region"), 65536);
  o.emulated = true;
  auto m = create_media(o);
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ((*m)->durability(), durability_class::emulated);
}

TEST(Hugetlb, RefusesADiskByName) {
  const directory d("/var/tmp");
  media_options o = at(d.file("region"), 65536);
  o.driver = "hugetlb";
  auto m = create_media(o);
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().message.find("class file"), std::string::npos) << m.error().message;
}

} // namespace
} // namespace chainring
