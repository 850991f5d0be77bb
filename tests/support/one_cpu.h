// SPDX-License-Identifier: BSD-3-Clause
/// The CPU that EAL binds a test program to.
#pragma once
#include <sched.h>
#include <string>
#include <unistd.h>

namespace chainring::test {

/// The argument of --lcores for one lcore. EAL binds it to a CPU, and the threads that a test
/// starts inherit that, which keeps a schedule of threads quick. Programs that run side by side
/// should not all have the same CPU, so each takes one by its process id.
inline std::string lcore_on_one_cpu() {
  cpu_set_t may;
  if (sched_getaffinity(0, sizeof may, &may) != 0) return "0@0";
  int nth = getpid() % CPU_COUNT(&may), cpu = 0;
  while (!CPU_ISSET(static_cast<std::size_t>(cpu), &may) || nth-- > 0)
    ++cpu;
  return "0@" + std::to_string(cpu);
}

} // namespace chainring::test
