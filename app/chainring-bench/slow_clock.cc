// SPDX-License-Identifier: BSD-3-Clause
/// The clock of a program whose instructions are counted.
///
/// Under valgrind a program runs fifty times slower than in reality, or two hundred times: that
/// depends on the machine. What the broker does some times in a second it would do so much more
/// often for each message, and where that comes between two bursts, the bursts behind it have other
/// sizes: the counts would tell how fast the machine is. So a second of the benchmark is so long
/// there that the clock hardly moves. All times in DPDK and in the broker are multiples of
/// rte_get_tsc_hz(), and a function of the program is called in place of one in a shared library.
#include <dlfcn.h>
#include <rte_cycles.h>

#include <cstdint>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

extern "C" [[gnu::visibility("default")]] std::uint64_t rte_get_tsc_hz() {
  using function = std::uint64_t();
  static const auto of_dpdk = reinterpret_cast<function*>(dlsym(RTLD_NEXT, "rte_get_tsc_hz"));
  static const std::uint64_t slower = RUNNING_ON_VALGRIND != 0 ? 10'000 : 1;
  return slower * of_dpdk();
}
