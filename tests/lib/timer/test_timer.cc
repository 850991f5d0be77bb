// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <rte_cycles.h>
#include <unistd.h>
#include <vector>

#include "base/hook.h"
#include "support/eal_main.h"
#include "timer/timer.h"

namespace chainring {
namespace {

struct fired {
  std::uint64_t argument;
  std::uint64_t at_tsc;
};
std::vector<fired> log;

void note(void*, std::uint64_t argument) noexcept {
  log.push_back({argument, rte_rdtsc()});
}

class Timer : public testing::Test {
 protected:
  std::unique_ptr<timer_set> timers;
  const std::uint64_t ms = rte_get_tsc_hz() / 1000;
  void SetUp() override {
    auto made = timer_set::create(64);
    ASSERT_TRUE(made) << made.error().message;
    timers = std::move(made).value();
    log.clear();
  }
  // Runs until that many timers have fired. A hang is detected, a delay is not.
  void wait_for(std::size_t count) {
    const std::uint64_t limit = rte_rdtsc() + 60 * rte_get_tsc_hz();
    while (log.size() < count && rte_rdtsc() < limit)
      timers->manage();
    ASSERT_EQ(log.size(), count);
  }
};

TEST_F(Timer, TimersFireInDeadlineOrderAndNeverEarly) {
  const std::uint64_t now = rte_rdtsc();
  const std::uint64_t due[] = {now + 9 * ms, now + 3 * ms, now + 6 * ms, now + 3 * ms + 1};
  for (std::uint64_t i = 0; i < 4; ++i)
    (void)timers->arm(due[i], note, nullptr, i);
  while (rte_rdtsc() < now + 10 * ms) {
  }
  wait_for(4);
  const std::uint64_t order[] = {1, 3, 2, 0};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(log[i].argument, order[i]);
    EXPECT_GE(log[i].at_tsc, due[order[i]]);
  }
}

// rte_timer adds ticks to a clock that it reads later than the caller computed them.
TEST_F(Timer, TimersFireInDeadlineOrderEvenIfAThreadIsDelayedWhileItArmsOne) {
  static int armed;
  armed = 0;
  set_hook(
      [](const char* name, void*) noexcept {
        if (std::strcmp(name, "timer.counted") != 0 || armed++ != 0) return;
        const std::uint64_t until = rte_rdtsc() + rte_get_tsc_hz() / 100; // between the two clocks
        while (rte_rdtsc() < until) {
        }
      },
      nullptr);
  const std::uint64_t due = rte_rdtsc() + 30 * ms;
  (void)timers->arm(due, note, nullptr, 0);
  set_hook(nullptr, nullptr);
  for (std::uint64_t i = 1; i < 20; ++i)
    (void)timers->arm(due + i, note, nullptr, i);
  wait_for(20);
  for (std::uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(log[i].argument, i);
    EXPECT_GE(log[i].at_tsc, due + i);
  }
}

TEST_F(Timer, TimersWhoseDeadlinesAreAFewCyclesApartFireInOrder) {
  auto made = timer_set::create(20'000);
  ASSERT_TRUE(made);
  timers = std::move(made).value();
  const std::uint64_t due = rte_rdtsc() + 100 * ms;
  for (std::uint64_t i = 0; i < 20'000; ++i)
    (void)timers->arm(due + (i * 7919 % 20'000) * 20, note, nullptr, i * 7919 % 20'000);
  wait_for(20'000);
  EXPECT_TRUE(std::ranges::is_sorted(log, {}, &fired::argument));
  for (const fired& f : log)
    EXPECT_GE(f.at_tsc, due + f.argument * 20);
}

TEST_F(Timer, ATimerWithTheLargestDeadlineNeverFires) {
  constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
  for (std::uint64_t less : {std::uint64_t{0}, std::uint64_t{1}, ms, std::uint64_t{1} << 62})
    (void)timers->arm(never - less, note, nullptr, 99);
  const timer_handle last = timers->arm(never, note, nullptr, 98);
  (void)timers->arm(rte_rdtsc() + 5 * ms, note, nullptr, 1);
  wait_for(1);
  for (int i = 0; i < 1000; ++i)
    timers->manage();
  ASSERT_EQ(log.size(), 1u);
  EXPECT_EQ(log[0].argument, 1u);
  EXPECT_TRUE(timers->cancel(last));
  EXPECT_EQ(timers->armed(), 4u);
}

std::uint64_t resident_bytes() {
  std::uint64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<std::uint64_t>(getpagesize());
}

TEST_F(Timer, ASetForAMillionTimersUsesMemoryOnlyForThoseThatWereArmed) {
  const std::uint64_t before = resident_bytes();
  std::vector<std::unique_ptr<timer_set>> workers;
  for (int i = 0; i < 8; ++i) {
    auto made = timer_set::create(1'000'000);
    ASSERT_TRUE(made);
    workers.push_back(std::move(made).value());
  }
  for (auto& w : workers)
    for (std::uint64_t round = 0; round < 1000; ++round) {
      timer_handle h[8];
      for (timer_handle& each : h)
        each = w->arm(rte_rdtsc() + 1000 * ms, note, nullptr, round);
      for (const timer_handle& each : h)
        ASSERT_TRUE(w->cancel(each)); // the next timer gets its place
    }
  EXPECT_LT(resident_bytes() - before, 4u << 20);
}

TEST_F(Timer, TimersThatAreCancelledAfterTheyExpiredLeaveRoomForOthers) {
  const std::uint64_t soon = rte_rdtsc() + 50 * ms;
  timer_handle h[64];
  for (timer_handle& each : h)
    each = timers->arm(soon, note, nullptr, 0);
  while (rte_rdtsc() < soon) {
    timers->manage();
    for (timer_handle& each : h)
      if (timers->cancel(each)) each = timers->arm(soon, note, nullptr, 1);
  }
  wait_for(64);
  EXPECT_EQ(timers->armed(), 0u);
}

TEST_F(Timer, AStaleHandleCancelsNothing) {
  const timer_handle first = timers->arm(rte_rdtsc(), note, nullptr, 1);
  wait_for(1);
  EXPECT_FALSE(timers->pending(first));
  const timer_handle second = timers->arm(rte_rdtsc() + ms, note, nullptr, 2);
  EXPECT_EQ(second.index, first.index); // the same place
  EXPECT_FALSE(timers->cancel(first));
  EXPECT_FALSE(timers->cancel({}));
  EXPECT_TRUE(timers->pending(second));
  wait_for(2);
  EXPECT_EQ(log[1].argument, 2u);
}

TEST_F(Timer, ACancelledTimerDoesNotFire) {
  const timer_handle h = timers->arm(rte_rdtsc(), note, nullptr, 1);
  EXPECT_TRUE(timers->cancel(h));
  EXPECT_FALSE(timers->cancel(h));
  (void)timers->arm(rte_rdtsc() + ms, note, nullptr, 2);
  wait_for(1);
  EXPECT_EQ(log[0].argument, 2u);
}

TEST_F(Timer, ACallbackMayArmATimer) {
  struct again {
    timer_set* timers;
    int left;
  } a{timers.get(), 5};
  auto go = [](void* context, std::uint64_t n) noexcept {
    auto* self = static_cast<again*>(context);
    log.push_back({n, rte_rdtsc()});
    if (--self->left > 0)
      (void)self->timers->arm(
          rte_rdtsc(), [](void* c, std::uint64_t v) noexcept { note(c, v); }, nullptr, n + 1);
  };
  (void)timers->arm(rte_rdtsc(), go, &a, 1);
  wait_for(2);
  EXPECT_EQ(log[1].argument, 2u);
}

TEST_F(Timer, AFullSetRefusesAnotherTimerAndCancellingSomeLeavesTheOthersArmed) {
  std::vector<timer_handle> all;
  for (std::uint64_t i = 0; i < 64; ++i)
    all.push_back(timers->arm(rte_rdtsc() + ms, note, nullptr, i));
  EXPECT_EQ(timers->armed(), 64u);
  EXPECT_EQ(timers->arm(rte_rdtsc(), note, nullptr, 99), timer_handle{});
  for (std::uint64_t i = 0; i < 64; i += 2)
    EXPECT_TRUE(timers->cancel(all[i]));
  wait_for(32);
  for (const fired& f : log)
    EXPECT_EQ(f.argument % 2, 1u);
}

TEST(RemainingTime, IsTheWholeTimeIfTheClockWasSetBack) {
  EXPECT_EQ(remaining_ns(100, 40, 70), 30u);
  EXPECT_EQ(remaining_ns(100, 40, 100), 0u);
  // the clock was set back: the time is no longer than it ever was
  EXPECT_EQ(remaining_ns(100, 40, 10), 60u);
}

} // namespace
} // namespace chainring
