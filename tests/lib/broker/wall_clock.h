// SPDX-License-Identifier: BSD-3-Clause
/// A wall clock that a test sets ahead, for sessions and messages that expire. A program that uses
/// it has wall_clock.cc among its sources.
#pragma once
#include <ctime>

namespace chainring::test {
inline std::time_t wall_clock_ahead_s = 0;
} // namespace chainring::test
