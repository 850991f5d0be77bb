// SPDX-License-Identifier: BSD-3-Clause
/// How programs on EAL begin.
#pragma once
#include <csignal>
#include <cstdio>
#include <rte_eal.h>
#include <rte_errno.h>

namespace chainring::app {

/// SIGINT and SIGTERM, blocked from now on in every thread: one takes them from a signalfd, so that
/// none interrupts a burst.
inline sigset_t block_end_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

/// False: EAL did not start, and why was printed, with the remedy where `memory_mb` would do.
inline bool start_eal(int argc, char** argv, unsigned memory_mb = 256) {
  if (rte_eal_init(argc, argv) >= 0) return true;
  std::fprintf(stderr, "EAL: %s; without hugepages add --no-huge -m %u\n", rte_strerror(rte_errno),
               memory_mb);
  return false;
}

} // namespace chainring::app
