// SPDX-License-Identifier: BSD-3-Clause
// Kills a process that drains from several threads with kill -9, again and again, over one file. A
// ledger in memory shared with the parent says what was reported durable.
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <random>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "media/media.h"
#include "scratch.h"
#include "support/seed.h"

namespace chainring::test {
namespace {

constexpr unsigned threads = 3;
constexpr std::uint64_t spread = 64; ///< lines between the lines that two threads write

struct ledger {
  std::atomic<std::uint64_t> acked[threads];
  /// by thread: drained, so that other threads may depend on it
  std::atomic<std::uint64_t> seen[threads];
  std::atomic<bool> ready;
};

/// What one thread writes in each drain: a count, the same count in many other lines, and the
/// drained count of its neighbour that it saw before it stored.
struct thread_lines {
  static constexpr std::uint64_t copies = 60;
  std::uint64_t* words;
  explicit thread_lines(media& m, unsigned t)
      : words(reinterpret_cast<std::uint64_t*>(m.base()) + t * spread * 8) {}
  std::uint64_t& count() { return words[0]; }
  std::uint64_t& again(std::uint64_t i) { return words[(1 + i) * 8 + i % 7]; }
  std::uint64_t& saw() { return words[20 * 8 + 7]; }
};

[[noreturn]] void child(const media_options& options, ledger& l) {
  auto m = open_media(options);
  if (!m) {
    std::fprintf(stderr, "%s\n", m.error().message.c_str());
    _exit(1);
  }
  media& r = **m;
  for (unsigned t = 0; t < threads; ++t)
    l.seen[t] = thread_lines(r, t).count();
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t)
    all.emplace_back([&, t] {
      thread_lines mine(r, t);
      std::vector<std::pair<std::uint64_t, mark_t>> waiting;
      for (std::uint64_t k = mine.count() + 1;; ++k) {
        r.store(&mine.saw(), l.seen[(t + 1) % threads].load());
        r.store(&mine.count(), k);
        for (std::uint64_t i = 0; i < thread_lines::copies; ++i)
          r.store(&mine.again(i), k);
        r.flush(&mine.again(0), thread_lines::copies * cacheline_size);
        r.flush(&mine.count(), 8);
        r.drain();
        l.seen[t].store(k);
        waiting.emplace_back(k, r.mark());
        if (waiting.size() < 64) continue;
        if (!r.wait(waiting.front().second)) _exit(2);
        std::size_t done = 0;
        while (done < waiting.size() && r.durable(waiting[done].second))
          ++done;
        l.acked[t].store(waiting[done - 1].first);
        waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(done));
      }
    });
  l.ready = true;
  for (auto& t : all)
    t.join();
  _exit(3);
}

TEST(FileStress, KillNineLosesNothingReportedDurableAndKeepsOrder) {
  std::mt19937_64 draw(printed_seed(1));
  const scratch_directory d(disk_directory());
  media_options options;
  options.path = d.file("region");
  options.size = 1u << 20;
  options.journal_size = 1u << 20;
  {
    auto m = create_media(options);
    ASSERT_TRUE(m) << m.error().message;
    ASSERT_TRUE((*m)->close());
  }
  options.size = 0;
  auto* l = static_cast<ledger*>(
      mmap(nullptr, sizeof(ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(l, MAP_FAILED);
  std::uint64_t total = 0;
  for (int round = 0; round < 40; ++round) {
    l->ready = false;
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) child(options, *l);
    while (!l->ready) {
      ASSERT_EQ(waitpid(pid, nullptr, WNOHANG), 0) << "the child ended by itself";
      usleep(1000);
    }
    usleep(static_cast<useconds_t>(5'000 + draw() % 60'000));
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    auto m = open_media(options);
    ASSERT_TRUE(m) << m.error().message;
    for (unsigned t = 0; t < threads; ++t) {
      thread_lines mine(**m, t), other(**m, (t + 1) % threads);
      EXPECT_GE(mine.count(), l->acked[t].load()) << "round " << round << " thread " << t;
      for (std::uint64_t i = 0; i < thread_lines::copies; ++i)
        ASSERT_EQ(mine.count(), mine.again(i)) << "a drain must be there whole or not at all";
      EXPECT_LE(mine.saw(), other.count())
          << "a word must not be there without the word it was stored after";
      total += mine.count();
    }
    ASSERT_FALSE(HasFailure());
    if (round % 2 == 0) {
      ASSERT_TRUE((*m)->close());
    }
  }
  munmap(l, sizeof(ledger));
  EXPECT_GT(total, 0u);
}

} // namespace
} // namespace chainring::test
