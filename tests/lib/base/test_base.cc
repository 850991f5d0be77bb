// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <array>
#include <atomic>
#include <gtest/gtest.h>
#include <latch>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/grace.h"
#include "base/hook.h"
#include "base/idle.h"
#include "base/lazy_array.h"
#include "base/spin_lock.h"
#include "base/thread_slot.h"
#include "support/many_threads.h"

namespace chainring {
namespace {

TEST(Crc32c, GivesThePublishedCheckValues) {
  // the usual check input for the polynomial of RFC 3720
  EXPECT_EQ(crc32c(0, "123456789", 9), 0xE3069283u);
  const std::string zeros(32, '\0');
  EXPECT_EQ(crc32c(0, zeros.data(), zeros.size()), 0x8A9136AAu); // RFC 3720 B.4
}

TEST(Crc32c, ContinuesWhereItStopped) {
  const std::string text = "an acknowledged message is never lost";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::uint32_t first = crc32c(0, text.data(), cut);
    EXPECT_EQ(crc32c(first, text.data() + cut, text.size() - cut),
              crc32c(0, text.data(), text.size()));
  }
}

TEST(Crc32c, IsTheSameWithoutTheInstructionAtEveryLengthAndAddress) {
  std::array<unsigned char, 160> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<unsigned char>(i * 37 + 11);
  for (std::size_t n = 0; n <= 130; ++n)
    for (std::size_t from = 0; from < 9; ++from) {
      const std::uint32_t expected = detail::crc32c_any(7, bytes.data() + from, n);
      ASSERT_EQ(crc32c(7, bytes.data() + from, n), expected) << n << " bytes from " << from;
      std::array<unsigned char, 160> copy{};
      ASSERT_EQ(copy_crc32c(7, copy.data() + 3, bytes.data() + from, n), expected);
      ASSERT_TRUE(std::equal(copy.begin() + 3, copy.begin() + 3 + static_cast<std::ptrdiff_t>(n),
                             bytes.begin() + static_cast<std::ptrdiff_t>(from)));
      ASSERT_EQ(std::count(copy.begin() + 3 + static_cast<std::ptrdiff_t>(n), copy.end(), 0),
                static_cast<std::ptrdiff_t>(copy.size() - 3 - n))
          << "a byte behind the range changed";
    }
}

TEST(Crc32c, AddsAWordAsItsEightBytes) {
  const std::uint64_t words[] = {0x0123456789abcdef, ~std::uint64_t{0}, 1};
  std::uint64_t state = detail::crc32c_begin(99);
  for (const std::uint64_t w : words)
    state = detail::crc32c_word(state, w);
  EXPECT_EQ(detail::crc32c_end(state), crc32c(99, words, sizeof words));
}

TEST(Result, HoldsAValueOrAnError) {
  result<int> good = 7;
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, 7);
  result<int> bad = error{errc::not_found, "root 'x': not there"};
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, errc::not_found);
  EXPECT_DEATH((void)bad.value(), "ask ok\\(\\) first. The error: root 'x': not there");
  EXPECT_DEATH((void)good.error(), "ask ok\\(\\) first");
}

TEST(Hook, RunsOnlyWhileSet) {
  static int count = 0;
  hook_point("before");
  set_hook([](const char* name, void*) noexcept { count += std::string(name) == "here"; }, nullptr);
  hook_point("here");
  set_hook(nullptr, nullptr);
  hook_point("here");
  EXPECT_EQ(count, 1);
}

TEST(SeededBug, IsOffUnlessNamed) {
  EXPECT_FALSE(seeded_bug("a"));
  set_seeded_bug("a");
  EXPECT_TRUE(seeded_bug("a"));
  EXPECT_FALSE(seeded_bug("b"));
  set_seeded_bug(nullptr);
  EXPECT_FALSE(seeded_bug("a"));
}

TEST(ThreadSlot, DiffersBetweenLivingThreadsAndIsReused) {
  const unsigned mine = thread_slot();
  EXPECT_EQ(mine, thread_slot());
  unsigned first = 0, second = 0;
  std::thread([&] { first = thread_slot(); }).join();
  std::thread([&] { second = thread_slot(); }).join();
  EXPECT_NE(first, mine);
  EXPECT_EQ(first, second);
}

TEST(ThreadSlot, EachOfManyLivingThreadsHasANumberAndTheFirstHaveRows) {
  constexpr unsigned n = 600;
  std::array<unsigned, n> numbers{}, rows{};
  std::array<bool, n> has_row{};
  test::run_at_once(n, [&](unsigned i) {
    numbers[i] = thread_slot();
    has_row[i] = detail::own_row(rows[i]);
  });
  EXPECT_EQ(std::set<unsigned>(numbers.begin(), numbers.end()).size(), n);
  for (unsigned i = 0; i < n; ++i) {
    EXPECT_EQ(has_row[i], numbers[i] < max_thread_slots);
    if (has_row[i]) {
      EXPECT_EQ(rows[i], numbers[i]);
    }
  }
}

TEST(ThreadSlot, BelongsToItsThreadUntilTheDestructorsOfItsOwnObjectsHaveRun) {
  struct late {
    std::latch* reached = nullptr;
    std::latch* other_asked = nullptr;
    unsigned* number = nullptr;
    ~late() {
      reached->count_down();
      other_asked->wait();
      *number = thread_slot();
    }
  };
  std::latch reached(1), other_asked(1);
  unsigned before = 0, within = 0, other = 0;
  std::thread ending([&] {
    static thread_local late object; // exists before the thread has a number
    object.reached = &reached;
    object.other_asked = &other_asked;
    object.number = &within;
    before = thread_slot();
  });
  reached.wait();
  std::thread([&] { other = thread_slot(); }).join();
  other_asked.count_down();
  ending.join();
  EXPECT_EQ(within, before);
  EXPECT_NE(other, before);
}

TEST(GracePeriods, WaitForThreadsThatShareRows) {
  const test::occupied_rows no_row_left;
  detail::grace_periods grace;
  ASSERT_TRUE(grace.make());
  constexpr unsigned n = 40; // more than there are rows at first
  for (unsigned last = 0; last < n; last += 13) {
    std::vector<std::unique_ptr<std::latch>> leave;
    for (unsigned i = 0; i < n; ++i)
      leave.push_back(std::make_unique<std::latch>(1));
    std::latch in(n), out(n - 1);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < n; ++i)
      threads.emplace_back([&, i] {
        {
          const detail::inside section(grace);
          in.count_down();
          leave[i]->wait();
        }
        if (i != last) out.count_down();
      });
    in.wait();
    const std::uint64_t stamp = grace.stamp();
    grace.begin();
    for (unsigned i = 0; i < n; ++i)
      if (i != last) leave[i]->count_down();
    out.wait();
    EXPECT_FALSE(grace.over(stamp)) << "thread " << last << " is inside";
    leave[last]->count_down();
    for (std::thread& t : threads)
      t.join();
    EXPECT_TRUE(grace.over(stamp));
  }
}

TEST(IdlePolicy, SleepsGrowInALongPauseUpToTheirBoundAndAreShortAgainAfterWork) {
  idle_policy idle(idle_mode::sleep, 400);
  EXPECT_EQ(idle.sleep_us(), 100u);
  for (int i = 0; i < 64; ++i)
    idle.idle();
  EXPECT_EQ(idle.sleep_us(), 200u);
  for (int i = 0; i < 640; ++i)
    idle.idle();
  EXPECT_EQ(idle.sleep_us(), 400u);
  idle.busy();
  EXPECT_EQ(idle.sleep_us(), 100u);
}

TEST(IdlePolicy, ALoopThatAsksForNoLongerSleepsNeverGetsThem) {
  idle_policy idle;
  for (int i = 0; i < 300; ++i)
    idle.idle();
  EXPECT_EQ(idle.sleep_us(), 100u);
}

TEST(IdleMode, RefusesAnUnknownNameAndListsTheAcceptedOnes) {
  EXPECT_TRUE(parse_idle_mode("yield"));
  auto bad = parse_idle_mode("spin");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("poll, yield or sleep"), std::string::npos);
}

TEST(SpinLock, AdmitsOneHolderAtATimeAndShowsItTheStoresOfTheHolderBefore) {
  spin_lock lock;
  std::uint64_t plain = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        const std::lock_guard guard(lock);
        ++plain;
      }
    });
  for (std::thread& t : threads)
    t.join();
  EXPECT_EQ(plain, 80'000u);
}

TEST(SpinLock, ATryLockFailsWhileAnotherThreadHoldsTheLock) {
  spin_lock lock;
  {
    const std::unique_lock first(lock, std::try_to_lock);
    EXPECT_TRUE(first.owns_lock());
    EXPECT_FALSE(lock.try_lock());
  }
  EXPECT_TRUE(lock.try_lock());
}

TEST(GracePeriods, AreOverOnceTheThreadsThatWereInsideHaveLeftEvenIfOthersCameInLater) {
  detail::grace_periods periods;
  ASSERT_TRUE(periods.make());
  std::atomic<int> step{0};
  const auto reach = [&](int n) {
    step = n;
    step.notify_all();
  };
  const auto wait_for = [&](int n) {
    for (int now = step; now < n; now = step)
      step.wait(now);
  };
  std::thread reader([&] {
    {
      const detail::inside first_visit(periods);
      reach(1);
      wait_for(2);
    }
    reach(3);
    wait_for(4);
    const detail::inside later(periods);
    reach(5);
    wait_for(6);
  });
  wait_for(1);
  const std::uint64_t stamp = periods.stamp();
  EXPECT_FALSE(periods.over(stamp)) << "the grace period has not begun";
  periods.begin();
  EXPECT_FALSE(periods.over(stamp)) << "the reader is inside";
  reach(2);
  wait_for(3);
  EXPECT_TRUE(periods.over(stamp));
  reach(4);
  wait_for(5);
  EXPECT_TRUE(periods.over(stamp)) << "the reader came in after the stamp";
  const std::uint64_t next = periods.stamp();
  periods.begin();
  EXPECT_FALSE(periods.over(next));
  reach(6);
  reader.join();
  EXPECT_TRUE(periods.over(next));
}

TEST(LazyArray, IsZeroAndAlignedAtEverySize) {
  constexpr std::size_t huge_page = 2u << 20;
  for (const std::size_t bytes :
       {std::size_t{64}, huge_page / 4, huge_page, 3 * huge_page + 8192}) {
    chainring::detail::lazy_array<std::uint64_t> array;
    ASSERT_TRUE(array.make(bytes / 8, true));
    const std::size_t alignment = bytes >= huge_page ? huge_page : cacheline_size;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array.data()) % alignment, 0u) << bytes;
    for (const std::size_t i : {std::size_t{0}, bytes / 16, bytes / 8 - 1}) {
      EXPECT_EQ(array[i], 0u) << bytes;
      array[i] = i; // the last one lies in the mapping
    }
  }
}

} // namespace
} // namespace chainring
