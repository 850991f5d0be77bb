// SPDX-License-Identifier: BSD-3-Clause
/// The CPU that EAL binds a test program to.
#pragma once
#include <fcntl.h>
#include <sched.h>
#include <string>
#include <sys/file.h>
#include <unistd.h>

namespace chainring::test {

/// The argument of --lcores for one lcore. EAL binds it to a CPU, and the threads that a test
/// starts inherit that, which keeps a schedule of threads quick. Programs that run side by side
/// take a CPU each, by locking a file for it as long as they run. Where all are taken, the process
/// id decides.
inline std::string lcore_on_one_cpu() {
  cpu_set_t may;
  if (sched_getaffinity(0, sizeof may, &may) != 0) return "0@0";
  int nth = getpid() % CPU_COUNT(&may), by_id = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(static_cast<std::size_t>(cpu), &may)) continue;
    if (nth-- == 0) by_id = cpu;
    const std::string name = "/tmp/chainring-test-cpu-" + std::to_string(cpu);
    const int fd = open(name.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) return "0@" + std::to_string(cpu);
    if (fd >= 0) close(fd);
  }
  return "0@" + std::to_string(by_id);
}

} // namespace chainring::test
