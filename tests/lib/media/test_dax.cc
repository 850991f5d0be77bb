// SPDX-License-Identifier: BSD-3-Clause
// What can be shown without persistent memory: class power is never claimed without it.
#include <gtest/gtest.h>

#include <unistd.h>

#include "media/media.h"
#include "scratch.h"

namespace chainring::test {
namespace {

const media_driver& dax() {
  for (const media_driver* d : media_drivers())
    if (std::string(d->name) == "dax") return *d;
  throw std::runtime_error("no driver dax");
}

class Dax : public testing::Test {
 protected:
  Dax() : directory_(disk_directory()) {
    options_.path = directory_.file("region");
    options_.driver = "dax";
    options_.size = 1 << 20;
  }
  ~Dax() override {
    unsetenv("PMEM_IS_PMEM_FORCE");
    unsetenv("PMEM_NO_FLUSH");
  }
  void expect_refused(const char* why) {
    auto m = create_media(options_);
    ASSERT_FALSE(m);
    EXPECT_NE(m.error().message.find(why), std::string::npos) << m.error().message;
    EXPECT_EQ(access(options_.path.c_str(), F_OK), -1) << "the refusal leaves no file behind";
  }
  scratch_directory directory_;
  media_options options_;
};

TEST_F(Dax, SuitsNoOrdinaryFileOrDirectory) {
  EXPECT_FALSE(dax().suits(directory_.file("region"))) << "a file that does not exist yet";
  std::ofstream(directory_.file("there")) << std::string(8192, 'x');
  EXPECT_FALSE(dax().suits(directory_.file("there")));
  std::ofstream(directory_.file("empty")).flush();
  EXPECT_FALSE(dax().suits(directory_.file("empty")));
  EXPECT_FALSE(dax().suits(directory_.path()));
  EXPECT_FALSE(dax().suits("/dev/null"));
  EXPECT_FALSE(dax().suits("/dev/shm/region"));
  EXPECT_FALSE(dax().suits("/nowhere/at/all"));
  EXPECT_TRUE(std::filesystem::exists(directory_.file("there")));
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
    files += entry.is_regular_file();
  EXPECT_EQ(files, 2u) << "the probe leaves no file";
}

TEST_F(Dax, RefusesAFileThatLibpmemDoesNotCallPersistent) {
  expect_refused("class file");
}

TEST_F(Dax, RefusesAFileThatOnlyAnEnvironmentVariableCallsPersistent) {
  setenv("PMEM_IS_PMEM_FORCE", "1", 1);
  expect_refused("PMEM_IS_PMEM_FORCE");
  EXPECT_FALSE(dax().suits(options_.path));
}

TEST_F(Dax, RefusesToWorkWithoutFlushesIfTheMachineHasNoEadr) {
  setenv("PMEM_NO_FLUSH", "1", 1);
  // A machine with eADR gets as far as libpmem's verdict on the file.
  auto m = create_media(options_);
  ASSERT_FALSE(m);
  EXPECT_TRUE(m.error().message.find("PMEM_NO_FLUSH=1") != std::string::npos ||
              m.error().message.find("class file") != std::string::npos)
      << m.error().message;
}

TEST_F(Dax, RefusesClassEmulatedAndReadOnlyCreation) {
  options_.durability = durability_class::emulated;
  expect_refused("driver dax gives class power, not emulated");
  options_.durability.reset();
  options_.read_only = true;
  expect_refused("read-only");
}

TEST_F(Dax, RefusesImpossibleSizes) {
  options_.size = 0;
  expect_refused("size is 0");
  options_.size = 1 << 20;
  options_.size_max = 4096;
  expect_refused("size_max");
}

TEST_F(Dax, RefusesToOpenAFileThatDoesNotExist) {
  options_.size = 0;
  EXPECT_EQ(open_media(options_).error().code, errc::not_found);
}

} // namespace
} // namespace chainring::test
