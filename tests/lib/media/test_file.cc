// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "../../../drivers/media/file/file_format.h"
#include "media/media.h"

namespace chainring {
namespace {

namespace fs = std::filesystem;

/// A directory of the test's own on a disk, gone when the test ends.
class FileMedia : public testing::Test {
 protected:
  FileMedia() {
    std::string name = (fs::current_path() / "test_file.XXXXXX").string();
    CHAINRING_ASSERT(mkdtemp(name.data()) != nullptr);
    directory_ = name;
    options_.path = path("region");
    options_.size = 1u << 20;
    options_.journal_size = 1u << 20;
  }
  ~FileMedia() override { fs::remove_all(directory_); }

  std::string path(const char* name) const { return (directory_ / name).string(); }
  static std::uint64_t* words(media& m) { return reinterpret_cast<std::uint64_t*>(m.base()); }
  /// Stores and drains one word at the start of a line.
  static void put(media& m, std::uint64_t line, std::uint64_t value) {
    m.store_release(&words(m)[line * 8], value);
    m.flush(&words(m)[line * 8], 8);
    m.drain();
  }
  static std::uint64_t get(media& m, std::uint64_t line) { return words(m)[line * 8]; }
  std::unique_ptr<media> must_create() {
    auto m = create_media(options_);
    if (!m) throw std::runtime_error(m.error().message);
    return std::move(m).value();
  }
  std::unique_ptr<media> must_open() {
    media_options o = options_;
    o.size = 0;
    auto m = open_media(o);
    if (!m) throw std::runtime_error(m.error().message);
    return std::move(m).value();
  }

  fs::path directory_;
  media_options options_;
};

TEST_F(FileMedia, KeepsWhatWasDrainedAcrossClose) {
  auto m = must_create();
  EXPECT_EQ(m->durability(), durability_class::file);
  EXPECT_STREQ(m->driver_name(), "file");
  EXPECT_EQ(m->size(), options_.size);
  for (std::uint64_t i = 0; i < 100; ++i)
    put(*m, i * 7, i + 1);
  ASSERT_TRUE(m->close());
  m = must_open();
  for (std::uint64_t i = 0; i < 100; ++i)
    EXPECT_EQ(get(*m, i * 7), i + 1);
  EXPECT_EQ(get(*m, 1), 0u);
}

TEST_F(FileMedia, KeepsWhatAMarkWasDurableForWhenAbandoned) {
  auto m = must_create();
  for (std::uint64_t i = 0; i < 1000; ++i)
    put(*m, i, i + 1);
  ASSERT_TRUE(m->wait(m->mark()));
  m.reset();
  m = must_open();
  for (std::uint64_t i = 0; i < 1000; ++i)
    ASSERT_EQ(get(*m, i), i + 1);
}

TEST_F(FileMedia, LosesWhatWasStoredAndNeverDrained) {
  auto m = must_create();
  put(*m, 0, 1);
  m->store(&words(*m)[8], 5);
  m->flush(&words(*m)[8], 8);
  ASSERT_TRUE(m->close());
  m = must_open();
  EXPECT_EQ(get(*m, 0), 1u);
  EXPECT_EQ(get(*m, 1), 0u);
}

} // namespace
} // namespace chainring
