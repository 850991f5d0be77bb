// SPDX-License-Identifier: BSD-3-Clause
// Tests the driver dax on what libpmem calls persistent memory. It runs in the guest. The
// environment names CHAINRING_PMEM_DIRECTORY (fsdax), CHAINRING_PMEM_DEVICE (devdax) and
// CHAINRING_PLAIN_DIRECTORY (a disk without DAX). All content of the device is lost.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <libpmem.h>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "media/media.h"
#include "region/region.h"

namespace chainring::test {
namespace {

std::string named(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) {
    std::fprintf(stderr, "%s is not set: this test needs persistent memory\n", variable);
    std::exit(2);
  }
  return text;
}
std::string directory() {
  return named("CHAINRING_PMEM_DIRECTORY");
}
std::string device() {
  return named("CHAINRING_PMEM_DEVICE");
}
std::string plain() {
  return named("CHAINRING_PLAIN_DIRECTORY");
}

/// Returns the VmFlags of the mapping that holds `at`; "sf" means that MAP_SYNC was granted.
std::string mapping_flags(const void* at) {
  std::ifstream smaps("/proc/self/smaps");
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t from = 0, to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2)
      inside = from <= address && address < to;
    else if (inside && line.rfind("VmFlags:", 0) == 0)
      return line.substr(8) + " ";
  }
  return "";
}

std::uint64_t* words(media& m) {
  return reinterpret_cast<std::uint64_t*>(m.base());
}
bool is_zero(const std::byte* at, std::uint64_t n) {
  return n == 0 || (*at == std::byte{0} && std::memcmp(at, at + 1, n - 1) == 0);
}
bool libpmem_says_pmem(const std::string& path, std::size_t size, int flags) {
  std::size_t mapped = 0;
  int pmem = 0;
  void* at = pmem_map_file(path.c_str(), size, flags, 0600, &mapped, &pmem);
  EXPECT_NE(at, nullptr) << path << ": " << pmem_errormsg();
  if (at != nullptr) {
    EXPECT_EQ(pmem_is_pmem(at, mapped), pmem);
    pmem_unmap(at, mapped);
  }
  return pmem != 0;
}
result<std::unique_ptr<media>> open_at(const std::string& path, bool read_only = false) {
  media_options o;
  o.path = path;
  o.read_only = read_only;
  return open_media(o);
}
/// Does what an operator does to give up the content of a device.
void clear_head(const std::string& path) {
  std::size_t size = 0;
  void* at = pmem_map_file(path.c_str(), 0, 0, 0, &size, nullptr);
  ASSERT_NE(at, nullptr) << pmem_errormsg();
  pmem_memset_persist(at, 0, 8192);
  pmem_unmap(at, size);
}

/// Tests that hold for both kinds.
class Pmem : public testing::TestWithParam<const char*> {
 protected:
  Pmem() {
    options.size = 4 << 20;
    if (on_device()) {
      options.path = device();
      clear_head(options.path);
    } else {
      options.path = directory() + "/region-" + std::string(6, 'X');
      close(mkstemp(options.path.data()));
      unlink(options.path.c_str());
    }
  }
  ~Pmem() override {
    if (on_device())
      clear_head(options.path);
    else
      unlink(options.path.c_str());
  }
  [[nodiscard]] bool on_device() const { return std::string(GetParam()) == "devdax"; }
  std::unique_ptr<media> created() {
    auto m = create_media(options);
    EXPECT_TRUE(m) << m.error().message;
    return m ? std::move(*m) : nullptr;
  }
  std::unique_ptr<media> opened(bool read_only = false) {
    auto m = open_at(options.path, read_only);
    EXPECT_TRUE(m) << m.error().message;
    return m ? std::move(*m) : nullptr;
  }
  media_options options;
};
INSTANTIATE_TEST_SUITE_P(Kinds, Pmem, testing::Values("fsdax", "devdax"),
                         [](const auto& info) { return info.param; });

TEST_P(Pmem, LibpmemReportsPersistentMemory) {
  if (on_device())
    EXPECT_TRUE(libpmem_says_pmem(options.path, 0, 0));
  else
    EXPECT_TRUE(libpmem_says_pmem(options.path, 1 << 20, PMEM_FILE_CREATE));
}

TEST_P(Pmem, TheDriverIsChosenByDefaultAndHasClassPower) {
  auto m = created();
  ASSERT_TRUE(m);
  EXPECT_STREQ(m->driver_name(), "dax");
  EXPECT_EQ(m->durability(), durability_class::power);
  EXPECT_TRUE(is_zero(m->base(), m->size()));
  EXPECT_EQ(pmem_is_pmem(m->base(), m->size()), on_device() ? 1 : 0)
      << "a file's mapping is the driver's own, not libpmem's";
  if (!on_device()) {
    EXPECT_NE(mapping_flags(m->base()).find(" sf "), std::string::npos) << mapping_flags(m->base());
  }
  EXPECT_TRUE(m->durable(m->mark()));
  ASSERT_TRUE(m->close());
  m = opened();
  ASSERT_TRUE(m);
  EXPECT_STREQ(m->driver_name(), "dax");
  EXPECT_EQ(m->durability(), durability_class::power);
}

TEST_P(Pmem, WrittenDataIsKept) {
  auto m = created();
  ASSERT_TRUE(m);
  const std::uint64_t size = m->size();
  const std::string text(5000, 't');
  m->store(words(*m), 1);
  m->store_release(words(*m) + 1, 2);
  std::uint64_t expected = 0;
  EXPECT_TRUE(m->compare_exchange(words(*m) + 2, expected, 3));
  m->write(m->base() + 8192 + 24, text.data(), text.size());
  m->store(words(*m) + size / 8 - 1, 4);
  m->flush(m->base(), 24);
  m->flush(m->base() + 8192 + 24, text.size());
  m->flush(m->base() + size - 8, 8);
  m->drain();
  persist_range(*m, m->base(), size);
  ASSERT_TRUE(m->close());
  for (const bool read_only : {false, true}) {
    m = opened(read_only);
    ASSERT_TRUE(m);
    ASSERT_EQ(m->size(), size);
    EXPECT_EQ(words(*m)[0], 1u);
    EXPECT_EQ(words(*m)[1], 2u);
    EXPECT_EQ(words(*m)[2], 3u);
    EXPECT_EQ(std::memcmp(m->base() + 8192 + 24, text.data(), text.size()), 0);
    EXPECT_EQ(words(*m)[size / 8 - 1], 4u);
    ASSERT_TRUE(m->close());
  }
}

// A device is mapped in units of its alignment, so the page that replaces a lost one is such a
// unit.
TEST_P(Pmem, LostMemoryFailsTheMediumAndNotTheProcess) {
  auto m = created();
  ASSERT_TRUE(m);
  const std::uint64_t unit = on_device() ? 2u << 20 : 4096, at = m->size() / 2 / unit * unit;
  const int empty = memfd_create("empty", MFD_CLOEXEC);
  ASSERT_NE(mmap(m->base() + at, unit, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, empty, 0),
            MAP_FAILED)
      << std::strerror(errno);
  close(empty);
  m->store(words(*m), 5);
  EXPECT_FALSE(m->failed());
  const auto* lost = reinterpret_cast<const volatile std::uint64_t*>(m->base() + at + unit / 2);
  EXPECT_EQ(*lost, 0u);
  EXPECT_TRUE(m->failed());
  EXPECT_EQ(m->lost_at(), at + unit / 2);
  EXPECT_FALSE(m->durable(m->mark()));
  EXPECT_EQ(words(*m)[0], 5u) << "the rest must still be there";
  EXPECT_FALSE(m->close());
}

TEST_P(Pmem, AReadOnlyOpenChangesNothing) {
  auto m = created();
  ASSERT_TRUE(m);
  m->store(words(*m), 1);
  ASSERT_TRUE(m->close());
  m = opened(true);
  ASSERT_TRUE(m);
  words(*m)[0] = 2; // this changes a private copy
  EXPECT_FALSE(m->grow(m->size() + (1 << 20)));
  ASSERT_TRUE(m->close());
  m = opened();
  ASSERT_TRUE(m);
  EXPECT_EQ(words(*m)[0], 1u);
}

TEST_P(Pmem, AMediumIsOpenForOneWriterOrForReaders) {
  auto m = created();
  ASSERT_TRUE(m);
  for (const bool read_only : {false, true}) {
    auto other = open_at(options.path, read_only);
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code, errc::busy) << other.error().message;
  }
  ASSERT_TRUE(m->close());
  auto first = opened(true), second = opened(true);
  auto writer = open_at(options.path);
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().code, errc::busy) << writer.error().message;
}

TEST_P(Pmem, ExistingContentIsNotOverwritten) {
  auto m = created();
  ASSERT_TRUE(m);
  m->store(words(*m) + 1000, 1); // in the second page
  m->flush(words(*m) + 1000, 8);
  m->drain();
  ASSERT_TRUE(m->close());
  auto again = create_media(options);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, errc::exists) << again.error().message;
  m = opened();
  ASSERT_TRUE(m);
  EXPECT_EQ(words(*m)[1000], 1u);
}

TEST_P(Pmem, ARegionOnItHasClassPower) {
  region_options o;
  o.media = options;
  o.areas = {{"a", 4096, 1}};
  auto r = region::create(o);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ((*r)->medium().durability(), durability_class::power);
  EXPECT_EQ((*r)->geometry().size, (*r)->medium().size());
  const std::string uuid = (*r)->uuid();
  EXPECT_FALSE(region::create(o)) << "it already holds a region";
  r = error{}; // it is not closed, as if the process had died
  r = region::open(options);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_FALSE((*r)->was_clean());
  EXPECT_EQ((*r)->uuid(), uuid);
  ASSERT_EQ((*r)->roots().size(), 1u);
  ASSERT_TRUE((*r)->close());
  r = region::open(options);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_TRUE((*r)->was_clean());
  ASSERT_TRUE((*r)->close());
}

// --- files --------------------------------------------------------------------------------------

class Fsdax : public Pmem {};
INSTANTIATE_TEST_SUITE_P(Kinds, Fsdax, testing::Values("fsdax"),
                         [](const auto& info) { return info.param; });

TEST_P(Fsdax, AFileGrowsInPlaceAndTheNewPartIsZero) {
  options.size_max = 16 << 20;
  options.size = (4 << 20) + 4096; // this is no multiple of a huge page
  auto m = created();
  ASSERT_TRUE(m);
  const std::byte* const base = m->base();
  m->store(words(*m) + m->size() / 8 - 1, 7);
  const std::uint64_t old = m->size();
  auto grown = m->grow(12 << 20);
  ASSERT_TRUE(grown) << grown.error().message;
  EXPECT_EQ(m->base(), base);
  EXPECT_EQ(m->size(), 12u << 20);
  EXPECT_EQ(words(*m)[old / 8 - 1], 7u);
  EXPECT_TRUE(is_zero(base + old, m->size() - old));
  EXPECT_NE(mapping_flags(base + old).find(" sf "), std::string::npos);
  m->store(words(*m) + m->size() / 8 - 1, 8);
  m->flush(base + m->size() - 8, 8);
  m->drain();
  auto too_far = m->grow(17 << 20);
  ASSERT_FALSE(too_far);
  EXPECT_EQ(too_far.error().code, errc::invalid_argument);
  EXPECT_FALSE(m->grow(4096)) << "a file never becomes shorter";
  ASSERT_TRUE(m->close());
  m = opened();
  ASSERT_TRUE(m);
  EXPECT_EQ(m->size(), 12u << 20);
  EXPECT_EQ(words(*m)[m->size() / 8 - 1], 8u);
}

TEST_P(Fsdax, ARegionThatGrewBeforeADeathKeepsItsSizeAndRoots) {
  options.size_max = 16 << 20;
  region_options o;
  o.media = options;
  auto r = region::create(o);
  ASSERT_TRUE(r) << r.error().message;
  const std::uint64_t blocks = (*r)->geometry().block_count;
  ASSERT_TRUE((*r)->grow(8 << 20));
  const std::uint64_t grown = (*r)->geometry().block_count;
  EXPECT_GT(grown, blocks);
  ASSERT_TRUE((*r)->add_root({"mine", (*r)->geometry().block_offset, 512, 3}));
  r = error{}; // it is not closed, as if the process had died
  media_options again = options;
  again.size = 0;
  r = region::open(again);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_FALSE((*r)->was_clean());
  EXPECT_EQ((*r)->medium().durability(), durability_class::power);
  EXPECT_EQ((*r)->geometry().block_count, grown);
  auto mine = (*r)->root("mine");
  ASSERT_TRUE(mine);
  EXPECT_EQ(mine->size, 512u);
  EXPECT_EQ(mine->version, 3u);
}

TEST_P(Fsdax, AFullFileSystemIsAnErrorWhenCreatingAndGrowing) {
  struct statvfs space {};
  ASSERT_EQ(statvfs(directory().c_str(), &space), 0);
  const std::uint64_t all = space.f_blocks * space.f_frsize;
  const std::uint64_t asked = options.size;
  options.size = all;
  auto none = create_media(options);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, errc::no_space) << none.error().message;
  EXPECT_EQ(access(options.path.c_str(), F_OK), -1) << "no file may be left behind";
  options.size = asked;
  options.size_max = 2 * all;
  auto m = created();
  ASSERT_TRUE(m);
  auto grown = m->grow(all);
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().code, errc::no_space) << grown.error().message;
  EXPECT_EQ(m->size(), asked);
  EXPECT_EQ(std::filesystem::file_size(options.path), asked);
  m->store(words(*m) + asked / 8 - 1, 1);
  EXPECT_TRUE(m->grow(asked + 4096)) << "a smaller step must still work";
}

TEST_P(Fsdax, AFileWithHolesIsGivenItsSpace) {
  // A copy may have holes. The first store to a hole on a full disk would raise SIGBUS.
  std::ofstream(options.path).flush();
  std::filesystem::resize_file(options.path, 4 << 20);
  auto m = opened();
  ASSERT_TRUE(m);
  struct stat info {};
  ASSERT_EQ(stat(options.path.c_str(), &info), 0);
  EXPECT_GE(info.st_blocks * 512, 4 << 20);
  EXPECT_TRUE(is_zero(m->base(), m->size()));
}

TEST_P(Fsdax, ATruncatedFileIsRefused) {
  ASSERT_TRUE(created()->close());
  for (const std::uint64_t size : {(4u << 20) - 5, 0u}) {
    std::filesystem::resize_file(options.path, size);
    media_options o = options;
    o.size = 0;
    o.driver = "dax";
    auto m = open_media(o);
    ASSERT_FALSE(m);
    EXPECT_EQ(m.error().code, errc::corrupt) << m.error().message;
    EXPECT_EQ(std::filesystem::file_size(options.path), size) << "nothing may be changed";
  }
}

TEST_P(Fsdax, ARegionOfClassFileKeepsItsDriver) {
  options.driver = "file";
  options.journal_size = 4 << 20;
  auto m = created();
  ASSERT_TRUE(m);
  EXPECT_EQ(m->durability(), durability_class::file);
  m->store(words(*m), 1);
  m->flush(m->base(), 8);
  m->drain();
  ASSERT_TRUE(m->wait(m->mark()));
  ASSERT_TRUE(m->close());
  m = opened();
  ASSERT_TRUE(m);
  EXPECT_STREQ(m->driver_name(), "file");
  EXPECT_EQ(m->durability(), durability_class::file);
  EXPECT_EQ(words(*m)[0], 1u);
  ASSERT_TRUE(m->close());
  media_options o = options;
  o.size = o.journal_size = 0;
  for (const bool read_only : {false, true}) {
    o.driver = "dax";
    o.read_only = read_only;
    auto wrong = open_media(o);
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().message.find("class file"), std::string::npos) << wrong.error().message;
  }
}

TEST_P(Fsdax, ThePlainDiskBesideItIsNotOfClassPower) {
  const std::string path = plain() + "/region";
  unlink(path.c_str());
  EXPECT_FALSE(libpmem_says_pmem(path, 1 << 20, PMEM_FILE_CREATE));
  unlink(path.c_str());
  media_options o = options;
  o.path = path;
  o.driver = "dax";
  EXPECT_EQ(create_media(o).error().code, errc::unsupported);
  EXPECT_EQ(access(path.c_str(), F_OK), -1);
  o.driver.clear();
  o.journal_size = 4 << 20;
  auto m = create_media(o);
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ((*m)->durability(), durability_class::file);
  ASSERT_TRUE((*m)->close());
  unlink(path.c_str());
}

TEST_P(Fsdax, ARegionFileCopiedToAPlainDiskIsNotCalledPower) {
  ASSERT_TRUE(created()->close());
  const std::string path = plain() + "/copy";
  std::filesystem::copy_file(options.path, path, std::filesystem::copy_options::overwrite_existing);
  media_options o;
  o.path = path;
  o.driver = "dax";
  for (const bool read_only : {false, true}) {
    o.read_only = read_only;
    auto m = open_media(o);
    ASSERT_FALSE(m) << "read_only " << read_only << ": class " << to_string((*m)->durability());
    EXPECT_EQ(m.error().code, errc::unsupported) << m.error().message;
  }
  unlink(path.c_str());
}

TEST_P(Fsdax, EnvironmentVariablesThatMakeLibpmemLieAreRefused) {
  ASSERT_TRUE(created()->close());
  setenv("PMEM_NO_FLUSH", "1", 1);
  auto m = open_at(options.path);
  unsetenv("PMEM_NO_FLUSH");
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().message.find("eADR"), std::string::npos) << m.error().message;
  setenv("PMEM_IS_PMEM_FORCE", "1", 1);
  media_options o;
  o.path = options.path;
  o.driver = "dax";
  m = open_media(o);
  unsetenv("PMEM_IS_PMEM_FORCE");
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().message.find("PMEM_IS_PMEM_FORCE"), std::string::npos) << m.error().message;
}

// --- devices ------------------------------------------------------------------------------------

class Devdax : public Pmem {};
INSTANTIATE_TEST_SUITE_P(Kinds, Devdax, testing::Values("devdax"),
                         [](const auto& info) { return info.param; });

TEST_P(Devdax, ADeviceIsUsedAndClearedAsAWhole) {
  auto m = created();
  ASSERT_TRUE(m);
  const std::uint64_t size = m->size();
  EXPECT_GT(size, options.size);
  EXPECT_EQ(size % (2 << 20), 0u);
  m->store(words(*m) + size / 8 - 1, 9); // this word lies beyond the first pages
  m->flush(m->base() + size - 8, 8);
  m->drain();
  ASSERT_TRUE(m->close());
  m = created();
  ASSERT_TRUE(m) << "a device whose first 8 KiB are zero is free";
  EXPECT_TRUE(is_zero(m->base(), size));
}

TEST_P(Devdax, AMediumHasTheSizeOfItsDevice) {
  auto m = created();
  ASSERT_TRUE(m);
  const std::uint64_t size = m->size();
  EXPECT_TRUE(m->grow(size));
  EXPECT_TRUE(m->grow(1));
  auto grown = m->grow(size + 1);
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().code, errc::unsupported);
  ASSERT_TRUE(m->close());
  options.size = size + 1;
  auto larger = create_media(options);
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.error().code, errc::no_space) << larger.error().message;
}

TEST_P(Devdax, ARegionIsOpenedWithTheSizeItWasCreatedWith) {
  // An operator may name a smaller size than the device has; naming it again is no growth.
  region_options o;
  o.media = options;
  auto r = region::create(o);
  ASSERT_TRUE(r) << r.error().message;
  ASSERT_TRUE((*r)->close());
  r = region::open(options);
  ASSERT_TRUE(r) << r.error().message;
  ASSERT_TRUE((*r)->close());
}

} // namespace
} // namespace chainring::test
