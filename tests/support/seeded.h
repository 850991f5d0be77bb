// SPDX-License-Identifier: BSD-3-Clause
/// Seeded bugs: defects in the production code that a test switches on at run time. The tests must
/// find each of them; if they did not, they would be too weak.
#pragma once
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "base/hook.h"

namespace chainring::test {

/// Switches a bug on while the object lives. No other thread may run when it is made or destroyed.
class seeded {
 public:
  explicit seeded(const char* bug) { set_seeded_bug(bug); }
  ~seeded() { set_seeded_bug(nullptr); }
  seeded(const seeded&) = delete;
  seeded& operator=(const seeded&) = delete;
};

/// Fails the test if the bug was not found. Prints the line that tests/prove counts; `by` says what
/// found the bug.
inline void expect_found(const char* bug, bool found, const std::string& by = {}) {
  EXPECT_TRUE(found) << "seeded bug " << bug << " was not found";
  std::printf("seeded bug %s: %s%s%s\n", bug, found ? "found" : "MISSED", by.empty() ? "" : " by ",
              by.c_str());
}

} // namespace chainring::test
