// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <atomic>
#include <rte_ring.h>
#include <set>
#include <vector>

#include "base/hook.h"
#include "base/idle.h"
#include "support/explorer.h"

namespace chainring::test {
namespace {

/// Each thread makes three steps. Records which thread made which step.
std::string trace_of(schedule& s, unsigned threads) {
  std::string out;
  std::vector<std::function<void()>> functions;
  for (unsigned t = 0; t < threads; ++t)
    functions.emplace_back([&out, t] {
      for (int i = 0; i < 3; ++i) {
        hook_point("test.step");
        out += static_cast<char>('a' + t);
      }
    });
  interleave(s, functions);
  return out;
}

TEST(Schedule, WithoutPreemptionsThreadsRunOneAfterAnother) {
  schedule s;
  EXPECT_EQ(trace_of(s, 3), "aaabbbccc");
  EXPECT_EQ(s.steps(), 9u);
  EXPECT_TRUE(s.preemptions().empty());
}

TEST(Schedule, PreemptsExactlyAtItsPreemptions) {
  schedule s = schedule::fixed(1, {{2, 0}, {3, 1}});
  // b makes two steps; at step 2 the schedule switches to a; at step 3, the first hook point of a,
  // back to b.
  EXPECT_EQ(trace_of(s, 2), "bbbaaa");
  schedule t = schedule::fixed(0, {{1, 1}});
  EXPECT_EQ(trace_of(t, 2), "abbbaa");
}

TEST(Schedule, SeededRunsRepeatAndReplayFromText) {
  std::set<std::string> seen;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    schedule a = schedule::seeded(seed, 2), b = schedule::seeded(seed, 2);
    const std::string out = trace_of(a, 2);
    EXPECT_EQ(trace_of(b, 2), out);
    auto again = schedule::from_text(a.text());
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(trace_of(*again, 2), out) << a.text();
    seen.insert(out);
  }
  EXPECT_GE(seen.size(), 10u) << "of the 20 there are";
  EXPECT_FALSE(schedule::from_text("x").has_value());
  EXPECT_FALSE(schedule::from_text("0,5").has_value());
}

TEST(Schedule, EnumerationVisitsEveryInterleavingOnce) {
  // Two threads of three steps: C(6, 3) = 20 orders, of which "ababab" needs five switches.
  schedule_plan plan;
  plan.preemptions = 5;
  plan.enumerated_max = 100000;
  std::set<std::string> orders;
  for_each_schedule(plan, 1, [&](schedule& s) {
    orders.insert(trace_of(s, 2));
    return true;
  });
  EXPECT_EQ(orders.size(), 20u);
  plan.preemptions = 0;
  orders.clear();
  EXPECT_EQ(for_each_schedule(plan, 1,
                              [&](schedule& s) {
                                orders.insert(trace_of(s, 2));
                                return true;
                              }),
            2u);
  EXPECT_EQ(orders, (std::set<std::string>{"aaabbb", "bbbaaa"}));
}

TEST(Schedule, EnumerationSaysWhetherItWasComplete) {
  const auto run = [](unsigned most) {
    schedule_plan plan;
    plan.preemptions = 2;
    plan.enumerated_max = most;
    schedule_source source(plan, 1);
    unsigned n = 0;
    for (auto s = source.next(nullptr); s.has_value();) {
      ++n;
      trace_of(*s, 2);
      const schedule last = *s;
      s = source.next(&last);
    }
    return std::pair(n, source.complete());
  };
  EXPECT_FALSE(run(10).second);
  EXPECT_EQ(run(10).first, 10u);
  EXPECT_TRUE(run(10000).second);
}

TEST(Schedule, FindsALostUpdateThatNeedsOnePreemption) {
  const auto body = [](schedule& s) {
    std::uint64_t counter = 0;
    const auto add = [&] {
      const std::uint64_t seen = counter;
      hook_point("test.between");
      counter = seen + 1;
    };
    interleave(s, {add, add});
    return counter == 2;
  };
  schedule_plan plan;
  plan.preemptions = 0;
  for_each_schedule(plan, 1, [&](schedule& s) {
    EXPECT_TRUE(body(s));
    return true;
  });
  plan.preemptions = 1;
  schedule bad;
  bool held = true;
  for_each_schedule(
      plan, 1, [&](schedule& s) { return held = body(s); }, &bad);
  EXPECT_FALSE(held);
  auto again = schedule::from_text(bad.text());
  ASSERT_TRUE(again.has_value());
  EXPECT_FALSE(body(*again));
}

TEST(Schedule, AThreadThatWaitsLetsTheOthersRun) {
  schedule s;
  bool ready = false;
  std::string out;
  interleave(s, {[&] {
                   idle_policy policy;
                   while (!ready)
                     policy.idle();
                   out += 'w';
                 },
                 [&] {
                   out += 'r';
                   ready = true;
                 }});
  EXPECT_EQ(out, "rw");
}

TEST(Schedule, RtePauseIsAHookPointInTheVariantBuild) {
  schedule s;
  bool ready = false;
  interleave(s, {[&] {
                   while (!ready)
                     rte_pause();
                 },
                 [&] { ready = true; }});
  EXPECT_GE(s.steps(), 1u);
  // So are the loops inside DPDK's own inline functions.
  std::uint32_t value = 0;
  schedule t;
  interleave(t, {[&] { rte_wait_until_equal_32(&value, 1, __ATOMIC_ACQUIRE); },
                 [&] { __atomic_store_n(&value, 1, __ATOMIC_RELEASE); }});
  EXPECT_EQ(t.steps(), 1u);
}

TEST(Schedule, StepsCountOnOverSeveralInterleaves) {
  schedule s = schedule::fixed(0, {{7, 1}});
  EXPECT_EQ(trace_of(s, 2), "aaabbb");
  EXPECT_EQ(trace_of(s, 2), "abbbaa");
}

// --- interleaved producers, crashed --------------------------------------------------------------

/// Two threads take tickets and append. If the ticket is read and stored in two steps, both may
/// take the same one, and the later thread overwrites an acknowledged record.
scenario two_producers(bool atomic_ticket) {
  scenario s;
  s.name = "two producers";
  constexpr std::size_t line = 8;
  s.run = [atomic_ticket](media& m, history& h) {
    std::atomic<std::uint64_t> next{0};
    const auto produce = [&](std::uint64_t id) {
      auto* w = reinterpret_cast<std::uint64_t*>(m.base());
      h.begin(id);
      std::uint64_t ticket;
      if (atomic_ticket) {
        ticket = next.fetch_add(1);
      } else {
        ticket = next.load();
        hook_point("test.ticket");
        next.store(ticket + 1);
      }
      m.store(&w[ticket * line + 1], ~id);
      m.store_release(&w[ticket * line], id);
      m.flush(&w[ticket * line], 8);
      m.drain();
      h.ack(id);
    };
    interleave(h.threads(), {[&] { produce(1); }, [&] { produce(2); }});
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const auto* w = reinterpret_cast<const std::uint64_t*>(m.base());
    std::set<std::uint64_t> found;
    for (std::size_t t = 0; t < 2; ++t)
      if (w[t * line] != 0) {
        if (w[t * line + 1] != ~w[t * line]) return "torn";
        found.insert(w[t * line]);
      }
    for (std::uint64_t id : h.ids(history::acked))
      if (!found.contains(id)) return "lost " + std::to_string(id);
    return {};
  };
  return s;
}

TEST(ScheduledExplorer, CatchesARaceThatNeedsASwitchAndReplaysIt) {
  explorer_options o;
  o.print = false;
  EXPECT_TRUE(explore(two_producers(false), o).ok()) << "one thread after the other it is right";
  o.schedules.preemptions = 1;
  const explorer_report r = explore(two_producers(false), o);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.failure.find("lost"), std::string::npos) << r.failure;
  const explorer_report again = explore(two_producers(false), o, r.replay);
  EXPECT_FALSE(again.ok()) << r.replay;

  o.schedules = {};
  o.schedules.random = 40;
  EXPECT_FALSE(explore(two_producers(false), o).ok());
}

TEST(ScheduledExplorer, PassesItsCorrectFormUnderEverySchedule) {
  explorer_options o;
  o.print = false;
  o.schedules.preemptions = 2;
  o.schedules.random = 20;
  const explorer_report r = explore(two_producers(true), o);
  EXPECT_TRUE(r.ok()) << r.failure;
  EXPECT_GT(r.schedules, 50u);
}

} // namespace
} // namespace chainring::test
