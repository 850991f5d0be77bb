// SPDX-License-Identifier: BSD-3-Clause
// Stands in for the C library's clock_gettime() in the whole program. The definition may not be
// weak: that of a sanitizer's runtime would take its place.
#include "wall_clock.h"

#include <sys/syscall.h>
#include <unistd.h>

extern "C" int clock_gettime(clockid_t clock, timespec* t) noexcept {
  const long failed = syscall(SYS_clock_gettime, clock, t);
  if (failed == 0 && clock == CLOCK_REALTIME) t->tv_sec += chainring::test::wall_clock_ahead_s;
  return static_cast<int>(failed);
}
