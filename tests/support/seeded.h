// SPDX-License-Identifier: BSD-3-Clause
/// Seeded bugs: defects in the production code behind run-time switches. Each must be found by the
/// tests that would miss it if they were too weak.
#pragma once
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "base/hook.h"

namespace chainring::test {

/// A bug, switched on for as long as this lives. No other thread may run when it comes or goes.
class seeded {
 public:
  explicit seeded(const char* bug) { set_seeded_bug(bug); }
  ~seeded() { set_seeded_bug(nullptr); }
  seeded(const seeded&) = delete;
  seeded& operator=(const seeded&) = delete;
};

/// Fails the test if the bug was not found, and prints the line that tests/prove counts. `by` says
/// what found it.
inline void expect_found(const char* bug, bool found, const std::string& by = {}) {
  EXPECT_TRUE(found) << "seeded bug " << bug << " was not found";
  std::printf("seeded bug %s: %s%s%s\n", bug, found ? "found" : "MISSED", by.empty() ? "" : " by ",
              by.c_str());
}

} // namespace chainring::test
