// SPDX-License-Identifier: BSD-3-Clause
#include "machine.h"

#include <fstream>
#include <rte_eal.h>
#include <rte_version.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace chainring::bench {

namespace {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(": ") + 2);
  return "unknown CPU";
}

} // namespace

machine this_machine() {
  machine m;
  m.cpu = cpu_name();
  m.cores = sysconf(_SC_NPROCESSORS_ONLN);
  m.memory_pages = rte_eal_has_hugepages() != 0 ? "hugepages" : "4 KiB pages";
  utsname u{};
  if (uname(&u) == 0) m.kernel = std::string(u.sysname) + " " + u.release + " " + u.machine;
#ifdef __clang__
  m.compiler = "clang " __clang_version__;
#else
  m.compiler = "g++ " __VERSION__;
#endif
#ifndef __OPTIMIZE__
  m.compiler += ", not optimized";
#endif
  m.dpdk = rte_version();
  return m;
}

std::string to_string(const machine& m) {
  return m.cpu + ", " + std::to_string(m.cores) + " CPUs, " + m.kernel + ", packets on " +
         m.memory_pages + ", " + m.dpdk + ", compiled by " + m.compiler;
}

} // namespace chainring::bench
