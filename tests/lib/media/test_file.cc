// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "media/file/file_media.h"
#include "scratch.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

class FileMedia : public testing::Test {
 protected:
  FileMedia() : directory_(disk_directory()) {
    options_.path = directory_.file("region");
    options_.size = 1u << 20;
    options_.journal_size = 1u << 20;
  }
  static std::uint64_t* words(media& m) { return reinterpret_cast<std::uint64_t*>(m.base()); }
  /// Stores and drains one word at the beginning of a line.
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
  media_options opening(bool read_only = false) const {
    media_options o = options_;
    o.size = 0;
    o.read_only = read_only;
    return o;
  }
  std::unique_ptr<media> must_open(bool read_only = false) {
    auto m = open_media(opening(read_only));
    if (!m) throw std::runtime_error(m.error().message);
    return std::move(m).value();
  }
  void expect_refused(errc code, const std::string& why) {
    auto m = create_media(options_);
    ASSERT_FALSE(m);
    EXPECT_EQ(m.error().code, code) << m.error().message;
    EXPECT_NE(m.error().message.find(why), std::string::npos) << m.error().message;
    EXPECT_NE(m.error().message.find(options_.path), std::string::npos) << m.error().message;
    EXPECT_EQ(access(options_.path.c_str(), F_OK), -1) << "the refusal leaves no file behind";
  }
  void expect_not_opened(errc code, const std::string& why) {
    const std::string before = contents(options_.path);
    auto m = open_media(opening());
    ASSERT_FALSE(m);
    EXPECT_EQ(m.error().code, code) << m.error().message;
    EXPECT_NE(m.error().message.find(why), std::string::npos) << m.error().message;
    EXPECT_NE(m.error().message.find(options_.path), std::string::npos) << m.error().message;
    EXPECT_TRUE(contents(options_.path) == before) << "the file must not change";
  }

  scratch_directory directory_;
  media_options options_;
};

TEST_F(FileMedia, ACreationWithoutADescriptorForTheImageLeavesNothingBehind) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // UndefinedBehaviorSanitizer opens a pipe when it sees an object of a type for the first time, so
  // all types are seen before there is no descriptor left.
  ASSERT_TRUE(create_media(options_));
  ASSERT_EQ(unlink(options_.path.c_str()), 0);
  const int next = dup(0);
  ASSERT_GE(next, 0);
  close(next);
  rlimit one_more = before;
  one_more.rlim_cur = static_cast<rlim_t>(next) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &one_more), 0);
  const auto refused = create_media(options_);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::io) << refused.error().message;
  EXPECT_NE(refused.error().message.find("Too many open files"), std::string::npos)
      << refused.error().message;
  EXPECT_EQ(access(options_.path.c_str(), F_OK), -1) << "the refused creation left a file behind";
  EXPECT_TRUE(create_media(options_));
}

TEST_F(FileMedia, KeepsDrainedBytesAcrossAClose) {
  auto m = must_create();
  EXPECT_EQ(m->durability(), durability_class::file);
  EXPECT_STREQ(m->driver_name(), "file");
  EXPECT_EQ(m->size(), options_.size);
  for (std::uint64_t i = 0; i < 100; ++i)
    put(*m, i * 7, i + 1);
  ASSERT_TRUE(m->close());
  ASSERT_TRUE(m->close()) << "a second close does nothing";
  m = must_open();
  for (std::uint64_t i = 0; i < 100; ++i)
    EXPECT_EQ(get(*m, i * 7), i + 1);
  EXPECT_EQ(get(*m, 1), 0u);
}

TEST_F(FileMedia, KeepsBytesWhoseMarkWasDurableWhenItIsAbandoned) {
  auto m = must_create();
  for (std::uint64_t i = 0; i < 1000; ++i)
    put(*m, i, i + 1);
  ASSERT_TRUE(m->wait(m->mark()));
  m.reset();
  m = must_open();
  for (std::uint64_t i = 0; i < 1000; ++i)
    ASSERT_EQ(get(*m, i), i + 1);
}

TEST_F(FileMedia, LosesBytesThatWereStoredAndNeverDrained) {
  auto m = must_create();
  put(*m, 0, 1);
  m->store(&words(*m)[8], 5);
  m->flush(&words(*m)[8], 8);
  ASSERT_TRUE(m->close());
  m = must_open();
  EXPECT_EQ(get(*m, 0), 1u);
  EXPECT_EQ(get(*m, 1), 0u);
}

TEST_F(FileMedia, LapsItsJournalManyTimesUnderSeveralThreads) {
  auto m = must_create();
  constexpr int threads = 3;
  constexpr std::uint64_t drains = 400, lines = 300; // 23 MB pass through a journal of 1 MiB
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([&, t] {
      for (std::uint64_t k = 1; k <= drains; ++k) {
        const std::uint64_t first = static_cast<std::uint64_t>(t) * lines;
        for (std::uint64_t l = first; l < first + lines; ++l)
          m->store(&words(*m)[l * 8 + k % 8], k);
        m->flush(&words(*m)[first * 8], lines * cacheline_size);
        m->drain();
      }
    });
  for (auto& t : all)
    t.join();
  ASSERT_TRUE(m->wait(m->mark()));
  m.reset();
  m = must_open();
  for (std::uint64_t l = 0; l < threads * lines; ++l)
    for (std::uint64_t k = drains - 7; k <= drains; ++k)
      ASSERT_EQ(words(*m)[l * 8 + k % 8], k) << l;
}

/// Drains after some pauses in which the committer went to sleep until a drain wakes it. True if
/// each drain became durable within `limit`.
bool commits_after_pauses(file_media& m, std::chrono::seconds limit) {
  using clock = std::chrono::steady_clock;
  for (std::uint64_t pause = 1; pause <= 4; ++pause) {
    while (!m.committer_sleeps())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    auto* const word = reinterpret_cast<std::uint64_t*>(m.base());
    m.store_release(word, pause);
    m.flush(word, sizeof *word);
    m.drain();
    const mark_t mark = m.mark();
    for (const auto end = clock::now() + limit; !m.durable(mark);) {
      if (clock::now() > end) return false;
      std::this_thread::yield();
    }
  }
  return true;
}

TEST_F(FileMedia, ADrainWakesACommitterThatSleeps) {
  auto m = must_create();
  EXPECT_TRUE(commits_after_pauses(dynamic_cast<file_media&>(*m), std::chrono::seconds(60)));
}

TEST_F(FileMedia, FindsACommitterThatIsNotWoken) {
  auto m = must_create();
  const seeded active_bug("file_committer_not_woken");
  expect_found("file_committer_not_woken",
               !commits_after_pauses(dynamic_cast<file_media&>(*m), std::chrono::seconds(2)));
}

/// The CPUs on which the thread of this process with that name may run.
std::vector<int> cpus_of(const std::string& thread) {
  std::vector<int> cpus;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream comm(task.path() / "comm");
    std::string name;
    if (!std::getline(comm, name) || name != thread) continue;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(std::stoi(task.path().filename()), sizeof set, &set) != 0) continue;
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(static_cast<std::size_t>(i), &set)) cpus.push_back(i);
  }
  return cpus;
}

TEST_F(FileMedia, RunsItsThreadsOnTheCpuThatItIsGiven) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  int last = 0;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(static_cast<std::size_t>(i), &set)) last = i;
  options_.journal_cpu = last;
  auto m = must_create();
  put(*m, 0, 1);
  ASSERT_TRUE(m->wait(m->mark())); // so the committer runs, and has chosen its CPUs
  EXPECT_EQ(cpus_of("cr-commit"), std::vector<int>{last});
  EXPECT_EQ(m->journal_counts().commits, 1u);
  EXPECT_GT(m->journal_counts().bytes, cacheline_size);
}

TEST_F(FileMedia, RefusesACpuThatItMayNotUse) {
  options_.journal_cpu = CPU_SETSIZE - 1;
  expect_refused(errc::invalid_argument, "journal_cpu 1023: this process was started without");
}

TEST_F(FileMedia, GrowsInPlaceAndKeepsTheSizeAcrossReopen) {
  auto m = must_create();
  put(*m, 3, 4);
  std::byte* base = m->base();
  ASSERT_TRUE(m->grow(3u << 20));
  EXPECT_EQ(m->size(), 3u << 20);
  EXPECT_EQ(m->base(), base);
  EXPECT_EQ(get(*m, (3u << 20) / 64 - 1), 0u);
  put(*m, (3u << 20) / 64 - 1, 9);
  EXPECT_EQ(m->grow(1u << 20).error().code, errc::invalid_argument);
  EXPECT_EQ(m->grow(5u << 20).error().code, errc::invalid_argument)
      << "four times the size are reserved";
  EXPECT_TRUE(m->grow(3u << 20)) << "the region has this size already";
  ASSERT_TRUE(m->close());
  m = must_open();
  EXPECT_EQ(m->size(), 3u << 20);
  EXPECT_EQ(get(*m, 3), 4u);
  EXPECT_EQ(get(*m, (3u << 20) / 64 - 1), 9u);
  struct stat info {};
  ASSERT_EQ(stat(options_.path.c_str(), &info), 0);
  EXPECT_GE(static_cast<std::uint64_t>(info.st_blocks) * 512, 4u << 20)
      << "the file must be allocated and not sparse";
}

TEST_F(FileMedia, HasOneWriterOrManyReaders) {
  auto m = must_create();
  put(*m, 1, 2);
  for (bool read_only : {false, true}) {
    auto second = open_media(opening(read_only));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, errc::busy);
    EXPECT_NE(second.error().message.find(options_.path), std::string::npos);
  }
  ASSERT_TRUE(m->wait(m->mark()));
  m.reset();
  const std::string before = contents(options_.path);
  auto a = must_open(true), b = must_open(true);
  EXPECT_EQ(get(*a, 1), 2u);
  EXPECT_EQ(get(*b, 1), 2u);
  put(*a, 1, 3);
  EXPECT_TRUE(a->durable(a->mark()));
  EXPECT_EQ(get(*b, 1), 2u);
  EXPECT_EQ(open_media(opening()).error().code, errc::busy);
  ASSERT_TRUE(a->close());
  ASSERT_TRUE(b->close());
  EXPECT_TRUE(contents(options_.path) == before) << "a reader must not write";
}

TEST_F(FileMedia, CreatesNothingOverAnExistingFile) {
  std::ofstream(options_.path) << "mine";
  auto m = create_media(options_);
  ASSERT_FALSE(m);
  EXPECT_EQ(m.error().code, errc::exists);
  EXPECT_EQ(contents(options_.path), "mine");
}

TEST_F(FileMedia, RefusesTmpfsAndNamesTheRemedy) {
  const scratch_directory d("/dev/shm");
  options_.path = d.file("region");
  options_.driver = "file";
  expect_refused(errc::unsupported, "ask for class process");
}

TEST_F(FileMedia, RefusesHugetlbfsWhereThereIsOne) {
  const auto where = hugetlbfs_directory();
  if (!where) return;
  const scratch_directory d(*where);
  options_.path = d.file("region");
  options_.driver = "file";
  expect_refused(errc::unsupported, "ask for class process");
}

TEST_F(FileMedia, RefusesSizesThatCannotWork) {
  for (const std::uint64_t size : {1u, 4096u, (1u << 20) - 1}) {
    options_.journal_size = size;
    expect_refused(errc::invalid_argument, "journal_size");
  }
  options_.journal_size = UINT64_MAX;
  expect_refused(errc::invalid_argument, "journal_size");
  options_.journal_size = 1u << 20;
  options_.size = 0;
  expect_refused(errc::invalid_argument, "size is 0");
  options_.size = UINT64_MAX;
  expect_refused(errc::invalid_argument, "size");
  options_.size = 1u << 20;
  options_.size_max = 1u << 19;
  expect_refused(errc::invalid_argument, "size_max");
  options_.size_max = 0;
  options_.driver = "file";
  options_.durability = durability_class::emulated;
  expect_refused(errc::invalid_argument, "emulated");
}

TEST_F(FileMedia, RefusesAFileSystemWithoutRoomAndLeavesNothing) {
  options_.size = std::uint64_t{1} << 44;
  auto m = create_media(options_);
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().message.find("allocate"), std::string::npos) << m.error().message;
  EXPECT_EQ(access(options_.path.c_str(), F_OK), -1);
}

TEST_F(FileMedia, RefusesFilesThatAreNotRegionsOfClassFile) {
  expect_not_opened(errc::not_found, "region");
  std::ofstream(options_.path).flush();
  expect_not_opened(errc::corrupt, "an empty file");
  std::ofstream(options_.path) << "short";
  expect_not_opened(errc::corrupt, "too short");
  std::ofstream(options_.path) << std::string(1 << 20, 'x');
  expect_not_opened(errc::corrupt, "not a region");
}

TEST_F(FileMedia, RefusesATruncatedFileAndLeavesItAlone) {
  ASSERT_TRUE(must_create()->close());
  for (const off_t size : {2 * 1024 * 1024, 64 * 1024, 9000, 100}) {
    ASSERT_EQ(truncate(options_.path.c_str(), size), 0);
    expect_not_opened(errc::corrupt, size > 8192 ? "cut short" : "too short");
  }
}

TEST_F(FileMedia, OpensAFileWithOneIntactHeaderCopyAndNoFileWithoutOne) {
  auto m = must_create();
  put(*m, 1, 2);
  ASSERT_TRUE(m->close());
  overwrite(options_.path, 32, "damage");
  m = must_open();
  EXPECT_EQ(get(*m, 1), 2u);
  ASSERT_TRUE(m->close());
  overwrite(options_.path, file_format::header_spacing + 32, "damage");
  m = must_open();
  EXPECT_EQ(get(*m, 1), 2u);
  ASSERT_TRUE(m->close());
  overwrite(options_.path, 32, "damage");
  overwrite(options_.path, file_format::header_spacing + 32, "damage");
  expect_not_opened(errc::corrupt, "both header copies");
}

TEST_F(FileMedia, RefusesToOpenWithSizesThatDifferFromTheFiles) {
  ASSERT_TRUE(must_create()->close());
  options_.journal_size = 2u << 20;
  expect_not_opened(errc::invalid_argument, "journal_size");
  options_.journal_size = 0;
  media_options o = opening();
  o.size = 2u << 20;
  EXPECT_EQ(open_media(o).error().code, errc::invalid_argument);
}

// --- failures under way ----------------------------------------------------------------------

/// A real file whose changes fail from some moment on. Thread-safe.
struct failing_file final : block_file {
  failing_file(std::unique_ptr<block_file> f, std::atomic<bool>& b)
      : real(std::move(f)), broken(b) {}
  ssize_t do_write_at(std::uint64_t o, const void* f, std::size_t n) noexcept override {
    return broken ? -EIO : real->write_at(o, f, n);
  }
  ssize_t read_at(std::uint64_t o, void* t, std::size_t n) noexcept override {
    return real->read_at(o, t, n);
  }
  int do_sync() noexcept override { return broken ? EIO : real->sync(); }
  int do_allocate(std::uint64_t f, std::uint64_t t) noexcept override {
    return broken ? ENOSPC : real->allocate(f, t);
  }
  std::unique_ptr<block_file> real;
  std::atomic<bool>& broken;
};

TEST_F(FileMedia, AfterAFailureNoThreadWaitsForEverAndNothingNewBecomesDurable) {
  ASSERT_TRUE(must_create()->close());
  std::atomic<bool> broken = false;
  file_parts parts;
  const auto open_part = [&] {
    return std::make_unique<failing_file>(posix_block_file(detail::file_descriptor(
                                              ::open(options_.path.c_str(), O_RDWR | O_CLOEXEC))),
                                          broken);
  };
  parts.journal = open_part();
  parts.image = open_part();
  parts.file_bytes = std::filesystem::file_size(options_.path);
  parts.draw_salt = [] { return 77u; };
  auto opened = file_media::attach(std::move(parts), opening());
  ASSERT_TRUE(opened) << opened.error().message;
  file_media& m = **opened;
  put(m, 0, 1);
  ASSERT_TRUE(m.wait(m.mark()));
  const mark_t before = m.mark();
  broken = true;
  std::vector<std::thread> all;
  std::atomic<int> gave_up = 0;
  for (int t = 0; t < 3; ++t)
    all.emplace_back([&, t] {
      // This is far more than the journal holds, so threads that wait for room must be released
      // too.
      for (std::uint64_t k = 0; k < 30'000; ++k)
        put(m, 1 + static_cast<std::uint64_t>(t), k);
      gave_up += !m.wait(m.mark());
    });
  for (auto& t : all)
    t.join();
  EXPECT_EQ(gave_up, 3);
  EXPECT_TRUE(m.failed());
  EXPECT_TRUE(m.durable(before)) << "a mark that was durable stays durable";
  EXPECT_FALSE(m.durable(m.mark()));
  EXPECT_FALSE(m.grow(2u << 20));
  broken = false; // the failure stays final all the same
  EXPECT_FALSE(m.wait(m.mark()));
  EXPECT_EQ(m.close().error().code, errc::io);
  auto again = must_open();
  EXPECT_EQ(get(*again, 0), 1u);
}

} // namespace
} // namespace chainring::test
