// SPDX-License-Identifier: BSD-3-Clause
#include <cstdio>
#include <sys/stat.h>
#include <unistd.h>

#include "media/media.h"
#include "scratch.h"

namespace chainring::test {
namespace {

constexpr const char* tmpfs = "/dev/shm";

media_options at(const std::string& path, std::uint64_t size = 0) {
  media_options o;
  o.path = path;
  o.size = size;
  return o;
}

std::uint64_t* words(media& m) {
  return reinterpret_cast<std::uint64_t*>(m.base());
}

void keeps_its_bytes(const std::string& where, std::uint64_t size) {
  const scratch_directory d(where);
  std::byte* base = nullptr;
  {
    auto m = create_media(at(d.file("region"), size));
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_STREQ((*m)->driver_name(), "hugetlb");
    EXPECT_EQ((*m)->durability(), durability_class::process);
    EXPECT_EQ((*m)->size(), size);
    base = (*m)->base();
    (*m)->store(words(**m), 42);
    (*m)->flush(words(**m), 8);
    (*m)->drain();
    EXPECT_TRUE((*m)->durable((*m)->mark()));
    ASSERT_TRUE((*m)->grow(2 * size - 1)) << "the size is rounded up to whole pages";
    EXPECT_EQ((*m)->size(), 2 * size);
    EXPECT_EQ((*m)->base(), base) << "growth must not move the region";
    EXPECT_EQ((*m)->base()[2 * size - 1], std::byte{0});
    (*m)->store(words(**m) + size / 4 - 1, 43);
    EXPECT_EQ((*m)->grow(5 * size).error().code, errc::invalid_argument)
        << "four times the size are reserved";
    EXPECT_EQ((*m)->grow(size).error().code, errc::invalid_argument) << "a region never shrinks";
  }
  auto m = open_media(at(d.file("region")));
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ((*m)->size(), 2 * size);
  EXPECT_EQ(words(**m)[0], 42u);
  EXPECT_EQ(words(**m)[size / 4 - 1], 43u);
  ASSERT_TRUE((*m)->close());

  media_options o = at(d.file("region"));
  o.read_only = true;
  auto reader = open_media(o), second_reader = open_media(o);
  ASSERT_TRUE(reader) << reader.error().message;
  ASSERT_TRUE(second_reader) << second_reader.error().message;
  EXPECT_EQ(words(**reader)[0], 42u);
  words(**reader)[0] = 7; // the memory of an inspection is private, so it may be changed
  EXPECT_FALSE((*reader)->grow(3 * size));
  EXPECT_EQ(open_media(at(d.file("region"))).error().code, errc::busy);
  ASSERT_TRUE((*reader)->close());
  ASSERT_TRUE((*second_reader)->close());
  m = open_media(at(d.file("region")));
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(words(**m)[0], 42u) << "the file must not change";
}

TEST(Hugetlb, KeepsItsBytesOnTmpfsThroughGrowthAndReopen) {
  keeps_its_bytes(tmpfs, 1 << 20);
}

TEST(Hugetlb, KeepsItsBytesOnHugetlbfsIfItIsMounted) {
  const auto where = hugetlbfs_directory();
  const char* required = std::getenv("CHAINRING_REQUIRE_HUGETLBFS");
  std::printf("hugetlbfs: %s\n", where ? where->c_str() : "none mounted, only tmpfs is tried");
  if (!where) {
    ASSERT_FALSE(required != nullptr && std::string(required) == "1")
        << "CHAINRING_REQUIRE_HUGETLBFS=1 and no hugetlbfs is mounted";
    return;
  }
  keeps_its_bytes(*where, 2 << 20);
  const scratch_directory d(*where);
  auto m = create_media(at(d.file("region_map_0"), 2 << 20));
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().message.find("map_"), std::string::npos) << m.error().message;
  m = create_media(at(d.file("rounded"), 1));
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ((*m)->size() % (2 << 20), 0u);
}

TEST(Hugetlb, HasOneWriterAtATime) {
  const scratch_directory d(tmpfs);
  auto first = create_media(at(d.file("region"), 65536));
  ASSERT_TRUE(first);
  for (bool read_only : {false, true}) {
    media_options o = at(d.file("region"));
    o.read_only = read_only;
    auto second = open_media(o);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, errc::busy);
    EXPECT_NE(second.error().message.find(d.file("region")), std::string::npos);
  }
  ASSERT_TRUE((*first)->close());
  EXPECT_TRUE(open_media(at(d.file("region"))));
}

TEST(Hugetlb, AnAbandonedRegionKeepsEveryVisibleStoreAndIsFreeAgain) {
  const scratch_directory d(tmpfs);
  auto m = create_media(at(d.file("region"), 65536));
  ASSERT_TRUE(m);
  (*m)->store(words(**m) + 5, 6);
  (*m).reset();
  m = open_media(at(d.file("region")));
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(words(**m)[5], 6u);
}

TEST(Hugetlb, CreatesNothingOverAnExistingFile) {
  const scratch_directory d(tmpfs);
  std::ofstream(d.file("region")) << "mine";
  auto m = create_media(at(d.file("region"), 65536));
  ASSERT_FALSE(m);
  EXPECT_EQ(m.error().code, errc::exists);
  EXPECT_EQ(contents(d.file("region")), "mine");
}

TEST(Hugetlb, LeavesNoFileBehindIfCreationFails) {
  const scratch_directory d(tmpfs);
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1} << 44, UINT64_MAX}) {
    auto m = create_media(at(d.file("region"), size));
    ASSERT_FALSE(m);
    EXPECT_EQ(access(d.file("region").c_str(), F_OK), -1) << size;
  }
}

TEST(Hugetlb, RefusesATruncatedFileAndAMissingFile) {
  const scratch_directory d(tmpfs);
  ASSERT_TRUE(create_media(at(d.file("region"), 65536)));
  for (const off_t size : {100, 0}) {
    ASSERT_EQ(truncate(d.file("region").c_str(), size), 0);
    auto m = open_media(at(d.file("region")));
    ASSERT_FALSE(m);
    EXPECT_EQ(m.error().code, errc::corrupt);
  }
  EXPECT_EQ(open_media(at(d.file("nothing"))).error().code, errc::not_found);
}

TEST(Hugetlb, HolesOfASparseFileAreFilledAtOpen) {
  const scratch_directory d(tmpfs);
  std::ofstream(d.file("region")).flush();
  ASSERT_EQ(truncate(d.file("region").c_str(), 1 << 20), 0);
  auto m = open_media(at(d.file("region")));
  ASSERT_TRUE(m) << m.error().message;
  struct stat info {};
  ASSERT_EQ(stat(d.file("region").c_str(), &info), 0);
  EXPECT_GE(info.st_blocks * 512, 1 << 20);
}

TEST(Hugetlb, ClassEmulatedAcceptsAnyFile) {
  for (const std::string& where : {std::string(tmpfs), disk_directory()}) {
    const scratch_directory d(where);
    media_options o = at(d.file("region"), 65536);
    o.durability = durability_class::emulated;
    auto m = create_media(o);
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_EQ((*m)->durability(), durability_class::emulated);
    (*m)->store(words(**m), 5);
    (*m)->flush(words(**m), 8);
    (*m)->drain();
    ASSERT_TRUE((*m)->close());
    o.size = 0;
    m = open_media(o);
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_EQ(words(**m)[0], 5u);
  }
}

TEST(Hugetlb, RefusesAFileOnADiskAndNamesTheRemedy) {
  const scratch_directory d(disk_directory());
  media_options o = at(d.file("region"), 65536);
  o.driver = "hugetlb";
  auto m = create_media(o);
  ASSERT_FALSE(m);
  EXPECT_EQ(m.error().code, errc::unsupported);
  EXPECT_NE(m.error().message.find("class file"), std::string::npos) << m.error().message;
  EXPECT_EQ(access(d.file("region").c_str(), F_OK), -1);
}

TEST(Hugetlb, RefusesARegionOfClassFile) {
  const scratch_directory d(disk_directory());
  media_options o = at(d.file("region"), 65536);
  o.journal_size = 1 << 20;
  ASSERT_TRUE(create_media(o));
  o.size = 0;
  o.durability = durability_class::emulated;
  auto m = open_media(o);
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().message.find("class file"), std::string::npos) << m.error().message;
}

} // namespace
} // namespace chainring::test
