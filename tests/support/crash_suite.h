// SPDX-License-Identifier: BSD-3-Clause
/// What the crash suites of the components ask of their scenarios, in the same words: that each
/// holds, that each seeded bug is found by one of them, and that each call is needed by one.
///
///     const scenario_list all = {inserts, erases};
///     TEST(MapCrash, NothingIsLost) { expect_all_hold(all, options()); }
///     TEST(MapCrash, SeededBugsAreFound) { expect_bugs_found({"map.two_undrained"}, all,
///     options()); } TEST(MapCrash, EveryFlushAndDrainIsNeeded) { expect_calls_needed(all,
///     options(), mutants); }
#pragma once
#include <gtest/gtest.h>

#include <cstdio>
#include <initializer_list>
#include <string>
#include <vector>

#include "explorer.h"
#include "mutation.h"
#include "seeded.h"

namespace chainring::test {

using scenario_list = std::vector<scenario (*)()>;

/// Explores each scenario, and prints the table that tests/prove counts.
inline void expect_all_hold(const scenario_list& all, const explorer_options& o) {
  std::printf("%s\n", explorer_report::header().c_str());
  for (auto make : all) {
    const explorer_report r = explore(make(), o);
    EXPECT_TRUE(r.ok()) << r.failure;
  }
}

/// Expects that with each of the bugs one of the scenarios fails.
inline void expect_bugs_found(std::initializer_list<const char*> bugs, const scenario_list& all,
                              explorer_options o) {
  o.print = false;
  for (const char* bug : bugs) {
    const seeded on(bug);
    std::string by;
    for (auto make : all)
      if (by.empty() && !explore(make(), o).ok()) by = make().name;
    expect_found(bug, !by.empty(), by);
  }
}

/// Expects that one of the scenarios fails without each call of the persist seam that `which`
/// names, or that `which` says why it stays.
inline void expect_calls_needed(const scenario_list& all, explorer_options o,
                                const mutation_options& which) {
  o.print = false;
  std::vector<scenario> scenarios;
  for (auto make : all)
    scenarios.push_back(make());
  const mutation_report r = mutate(scenarios, o, which);
  std::printf("%s", r.text().c_str());
  EXPECT_EQ(r.baseline, "");
  EXPECT_EQ(r.survivors(), std::vector<std::string>{});
}

} // namespace chainring::test
