// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

#include "stream/host_turns.h"

namespace chainring::stream {
namespace {

TEST(HostTurns, HostsTakeTurnsAndTheThingsOfOneHostStayInOrder) {
  host_turns<std::string> turns;
  for (const char* thing : {"a1", "a2", "a3", "b1", "c1", "b2"})
    (void)turns.add(static_cast<std::uint64_t>(thing[0]), thing);
  std::string order;
  while (turns.size() != 0)
    order += turns.take() + " ";
  EXPECT_EQ(order, "a1 b1 c1 a2 b2 a3 ");
}

TEST(HostTurns, WhatIsRemovedIsNotTaken) {
  host_turns<int> turns;
  const auto first = turns.add(1, 10);
  (void)turns.add(1, 11);
  const auto only = turns.add(2, 20);
  (void)turns.add(3, 30);
  turns.remove(first);
  turns.remove(only);
  EXPECT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns.take(), 11);
  (void)turns.add(2, 21);
  EXPECT_EQ(turns.take(), 30);
  EXPECT_EQ(turns.take(), 21);
  EXPECT_EQ(turns.size(), 0u);
}

// Against a model that looks through everything.
TEST(HostTurns, AnyOrderOfCallsKeepsTheTurns) {
  host_turns<int> turns;
  struct waiting {
    std::uint64_t host;
    int thing;
    host_turns<int>::place place;
  };
  std::vector<waiting> all;         // in the order in which they came
  std::vector<std::uint64_t> order; // of the hosts that have something
  std::mt19937 random(1);
  const auto leave = [&](std::size_t i, bool taken) {
    const std::uint64_t host = all[i].host;
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
    const bool more = std::ranges::any_of(all, [&](const waiting& w) { return w.host == host; });
    if (!more || taken) std::erase(order, host);
    if (more && taken) order.push_back(host);
  };
  for (int i = 0; i < 20'000; ++i) {
    const unsigned what = random() % 5;
    if (what < 2 || all.empty()) {
      const std::uint64_t host = random() % 4;
      if (std::ranges::find(order, host) == order.end()) order.push_back(host);
      all.push_back({host, i, turns.add(host, i)});
    } else if (what == 2) {
      const std::size_t at = random() % all.size();
      turns.remove(all[at].place);
      leave(at, false);
    } else {
      const auto next =
          std::ranges::find(all, order.front(), [](const waiting& w) { return w.host; });
      ASSERT_EQ(turns.take(), next->thing);
      leave(static_cast<std::size_t>(next - all.begin()), true);
    }
    ASSERT_EQ(turns.size(), all.size());
  }
}

} // namespace
} // namespace chainring::stream
