// SPDX-License-Identifier: BSD-3-Clause
/// A wall clock that a test sets ahead, for sessions that expire. It stands in for the C library's
/// clock_gettime() in the whole program. The definition is weak, so that several files may include
/// it.
#pragma once
#include <ctime>
#include <sys/syscall.h>
#include <unistd.h>

namespace chainring::test {
inline std::time_t wall_clock_ahead_s = 0;
} // namespace chainring::test

extern "C" [[gnu::weak]] int clock_gettime(clockid_t clock, timespec* t) noexcept {
  const long failed = syscall(SYS_clock_gettime, clock, t);
  if (failed == 0 && clock == CLOCK_REALTIME) t->tv_sec += chainring::test::wall_clock_ahead_s;
  return static_cast<int>(failed);
}
