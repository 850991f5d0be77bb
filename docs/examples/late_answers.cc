// SPDX-License-Identifier: BSD-3-Clause
// Timeouts around requests: one that is answered is cancelled, and the others fire in the order of
// their deadlines, none of them early. The arguments are those of EAL.
//   c++ -std=c++20 late_answers.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out --no-huge --no-pci -m 64    # "request 2 is late" and then "request 1 is late"
#include <chainring/chainring.h>
#include <cstdio>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_timer.h>

using namespace chainring;

static void late(void* left, std::uint64_t request) noexcept {
  std::printf("request %llu is late\n", static_cast<unsigned long long>(request));
  --*static_cast<int*>(left);
}

int main(int argc, char** argv) {
  if (rte_eal_init(argc, argv) < 0 || rte_timer_subsystem_init() != 0) return 1;
  auto made = timer_set::create(16);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().message.c_str());
    return 1;
  }
  timer_set& timers = **made;
  int left = 3;
  const std::uint64_t now = rte_rdtsc(), ms = rte_get_tsc_hz() / 1000;
  (void)timers.arm(now + 30 * ms, late, &left, 1);
  (void)timers.arm(now + 20 * ms, late, &left, 2);
  const timer_handle answered = timers.arm(now + 10 * ms, late, &left, 3);
  if (timers.cancel(answered)) --left; // its answer has come
  while (left > 0)
    timers.manage(); // a worker does this in its polling loop
  return 0;
}
