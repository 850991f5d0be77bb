// SPDX-License-Identifier: BSD-3-Clause
// The errors for a path at which no region can be created or opened, and what a creation that fails
// half-way leaves behind.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "media/media.h"
#include "scratch.h"

namespace chainring::test {
namespace {

constexpr std::uint64_t size = 4 << 20;

media_options at(const std::string& path) {
  media_options o;
  o.path = path;
  o.size = size;
  o.journal_size = 1 << 20;
  return o;
}

/// Checks that neither a creation nor an open succeeds there, and that each says these words.
void refused(const std::string& path, const std::string& words) {
  media_options o = at(path);
  auto created = create_media(o);
  o.size = 0;
  auto opened = open_media(o);
  for (const auto* m : {&created, &opened}) {
    ASSERT_FALSE(*m) << path;
    const std::string& said = m->error().message;
    EXPECT_NE(said.find(words), std::string::npos) << said;
    EXPECT_NE(said.find(path), std::string::npos) << said;
  }
}

TEST(MediaPath, ADirectoryIsRefusedAndCalledADirectory) {
  const scratch_directory d(disk_directory());
  std::filesystem::create_directory(d.file("here"));
  refused(d.file("here"), "it is a directory; name a file in it");
}

TEST(MediaPath, AnEmptyFileIsRefusedAndTheErrorSaysToRemoveIt) {
  for (const std::string& where : {disk_directory(), std::string("/dev/shm")}) {
    const scratch_directory d(where);
    std::ofstream(d.file("empty"));
    refused(d.file("empty"), "it is an empty file, which is no region; remove it");
    EXPECT_TRUE(std::filesystem::exists(d.file("empty")))
        << "a file that another program made must not be removed";
    std::filesystem::remove(d.file("empty"));
    EXPECT_TRUE(create_media(at(d.file("empty")))) << "the remedy that the error names must work";
  }
}

TEST(MediaPath, ALinkToNothingIsRefusedAndItsTargetIsNamed) {
  const scratch_directory d(disk_directory());
  std::filesystem::create_symlink(d.file("gone"), d.file("link"));
  refused(d.file("link"), "it is a symbolic link to " + d.file("gone") + ", which is not there");
  EXPECT_FALSE(std::filesystem::exists(d.file("gone")));
  std::filesystem::remove(d.file("link"));
}

TEST(MediaPath, APathInAMissingDirectoryIsRefusedAndTheDirectoryIsNamed) {
  const scratch_directory d(disk_directory());
  refused(d.file("no/region"), "its directory " + d.file("no") + " does not exist; make it");
}

TEST(MediaPath, APathBelowAFileIsRefusedAndTheFileIsNamed) {
  const scratch_directory d(disk_directory());
  std::ofstream(d.file("file")) << "x";
  refused(d.file("file/region"), "directory");
}

/// Limits the size of files as long as it lives.
class size_limit {
 public:
  explicit size_limit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~size_limit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

// SIGXFSZ has its default action here, which ends the process.
TEST(MediaPath, ACreationAboveTheFileSizeLimitFailsAndLeavesNoFile) {
  for (const std::string& where : {disk_directory(), std::string("/dev/shm")}) {
    const scratch_directory d(where);
    const size_limit limit(2 << 20);
    auto m = create_media(at(d.file("region")));
    ASSERT_FALSE(m) << where;
    EXPECT_EQ(m.error().code, errc::no_space) << m.error().message;
    EXPECT_NE(m.error().message.find("ulimit -f"), std::string::npos) << m.error().message;
    EXPECT_TRUE(std::filesystem::is_empty(d.path())) << "a file is left behind";
  }
}

TEST(MediaPath, AGrowthAboveTheFileSizeLimitFailsAndTheRegionGoesOn) {
  for (const std::string& where : {disk_directory(), std::string("/dev/shm")}) {
    const scratch_directory d(where);
    auto m = create_media(at(d.file("region")));
    ASSERT_TRUE(m) << m.error().message;
    {
      const size_limit limit(6 << 20);
      auto grown = (*m)->grow(2 * size);
      ASSERT_FALSE(grown) << where;
      EXPECT_EQ(grown.error().code, errc::no_space) << grown.error().message;
      EXPECT_NE(grown.error().message.find("ulimit -f"), std::string::npos)
          << grown.error().message;
    }
    EXPECT_EQ((*m)->size(), size);
    EXPECT_TRUE((*m)->grow(2 * size)) << "growth must succeed once the limit allows it";
    EXPECT_TRUE((*m)->close());
  }
}

TEST(MediaPath, TheSignalOfTheFileSizeLimitIsBlockedOnlyDuringTheCall) {
  const scratch_directory d(disk_directory());
  {
    const size_limit limit(2 << 20);
    EXPECT_FALSE(create_media(at(d.file("region"))));
  }
  sigset_t blocked, pending;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&blocked, SIGXFSZ));
  EXPECT_FALSE(sigismember(&pending, SIGXFSZ));
}

} // namespace
} // namespace chainring::test
