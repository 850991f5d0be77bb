// SPDX-License-Identifier: BSD-3-Clause
// dpdk-chainring: EAL arguments, then the broker's own; then workers until a signal or "quit".
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <poll.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_pdump.h>
#include <rte_timer.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "log.h"
#include "options.h"
#include "prompt.h"
#include "service.h"
#include "telemetry.h"

namespace chainring::app {
int log_region, log_port, log_broker;
}

using namespace chainring::app;

namespace {

int register_log(const char* name) {
  const int type = rte_log_register_type_and_pick_level(name, RTE_LOG_INFO);
  return type < 0 ? RTE_LOGTYPE_USER1 : type;
}

bool asks_for(int argc, char** argv, const char* option) {
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i)
    if (std::strcmp(argv[i], option) == 0) return true;
  return false;
}

} // namespace

int main(int argc, char** argv) {
  // Before EAL: --version, and --help of both halves, need neither memory nor ports.
  options o;
  if (asks_for(argc, argv, "--version")) {
    std::puts("dpdk-chainring " CHAINRING_VERSION);
    return 0;
  }
  int own = 1;
  while (own < argc && std::strcmp(argv[own], "--") != 0) ++own;
  if (asks_for(argc, argv, "--help") || asks_for(argc, argv, "-h")) {
    char help[] = "--help";
    char* arguments[] = {argv[0], help, nullptr};
    (void)parse(2, arguments, o);
    std::puts("\nEAL arguments:");
    std::fflush(stdout);
  } else {
    // Our own arguments are checked first: EAL takes a second to start.
    const parsed p = parse(own < argc ? argc - own : 1, own < argc ? argv + own : argv, o);
    if (!p.run) return p.exit_status;
  }
  log_region = register_log("chainring.region");
  log_port = register_log("chainring.port");
  log_broker = register_log("chainring.broker");
  // Handled by one thread, so that no signal interrupts a burst.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  if (rte_eal_init(own, argv) < 0) {
    std::fprintf(stderr, "EAL: %s; without hugepages add --no-huge -m 256\n", rte_strerror(rte_errno));
    return 2;
  }
  rte_timer_subsystem_init();
  if (rte_pdump_init() != 0)
    CHAINRING_LOG(WARNING, broker, "packet capture (dpdk-dumpcap) is not available");

  int status = 0;
  {
    auto made = service::create(o);
    if (!made) {
      std::fprintf(stderr, "dpdk-chainring: %s\n", made.error().message.c_str());
      rte_eal_cleanup();
      return 2;
    }
    service& s = **made;
    register_telemetry(s);
    if (auto started = s.start(); !started) {
      std::fprintf(stderr, "dpdk-chainring: %s\n", started.error().message.c_str());
      status = 2;
    } else {
      CHAINRING_LOG(NOTICE, broker, "ready, %zu worker lcores", s.workers().size());
      const int wake = signalfd(-1, &signals, SFD_CLOEXEC);
      wait_for_end(s, wake, o.interactive);
      close(wake);
    }
    s.stop();
    if (auto closed = s.finish(); !closed) {
      std::fprintf(stderr, "dpdk-chainring: %s\n", closed.error().message.c_str());
      status = 1;
    } else if (status == 0) {
      CHAINRING_LOG(NOTICE, broker, "closed cleanly");
    }
    unregister_telemetry();
  }
  rte_pdump_uninit();
  rte_eal_cleanup();
  return status;
}
