// SPDX-License-Identifier: BSD-3-Clause
// chainring-bench measures every figure of the design in one run, each against a peer.
#include <cstdio>
#include <rte_eal.h>
#include <rte_timer.h>
#include <sched.h>
#include <string>
#include <unistd.h>

#include "common/eal.h"
#include "common/start.h"
#include "figures.h"
#include "machine.h"
#include "options.h"

using namespace chainring::bench;

namespace {

struct group {
  const char* name;
  const char* summary;
  bool (*run)(bench_context&);
};

constexpr group groups[] = {
    {"ring", "a burst that passes through one durable queue", ring_figures},
    {"chain", "allocation and release of blocks", chain_figures},
    {"map", "lookups and durable inserts", map_figures},
    {"seqlock", "values read while they are replaced, and lists that grow", seqlock_figures},
    {"match", "topics matched against 10 to 1,000,000 filters", match_figures},
    {"journal", "one drain of class file", journal_figures},
    {"broker-emulated", "QoS 1 from end to end, class emulated", broker_emulated_figures},
    {"broker-file", "QoS 1 from end to end, class file", broker_file_figures},
    {"received", "payloads kept where a port has received them, beside copied ones",
     received_figures},
    {"workers", "two workers: what crosses between them, and what it costs", workers_figures},
    {"recovery", "opening a region that is full of queued messages", recovery_figures},
    {"idle", "an idle worker, and the first frame after a pause", idle_figures},
    {"million", "a million durable sessions, killed and opened again", million_figures},
    {"fan-out", "one message to 15,000 and to 100,000 subscribers", fan_out_figures},
    {"tcp", "octets sent back to 1 to 100,000 TCP clients", tcp_figures},
    {"overload", "more messages than a worker can handle, and disturbances", overload_figures},
};

bool chosen(const options& o, const std::string& name) {
  if (o.only.empty()) return true;
  for (const std::string& wanted : o.only)
    if (name.starts_with(wanted)) return true;
  return false;
}

/// The number of the first CPU that this process may use.
int first_cpu(const cpu_set_t& set) {
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) return i;
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  chainring::app::start_process();
  int own = chainring::app::own_arguments(argc, argv); // EAL's arguments stand before a "--"
  if (own == argc) own = 0;
  options o;
  const auto p = parse(argc - own, argv + own, o);
  if (!p.run) return p.exit_status;
  for (const std::string& wanted : o.only) {
    bool known = false;
    for (const group& g : groups)
      known |= std::string_view(g.name).starts_with(wanted);
    if (known) continue;
    std::fprintf(stderr, "--only %s: there is no such group; --list prints the groups\n",
                 wanted.c_str());
    return 2;
  }
  if (o.list) {
    for (const group& g : groups)
      std::printf("%-16s %s\n", g.name, g.summary);
    return 0;
  }

  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  sched_getaffinity(0, sizeof cpus, &cpus);
  std::vector<std::string> eal = {argv[0]};
  if (own != 0)
    eal.assign(argv, argv + own);
  else
    for (const std::string& a :
         {std::string("--no-huge"), std::string("--no-pci"), std::string("--no-shconf"),
          std::string("--no-telemetry"), std::string("--log-level=error"), std::string("-m"),
          std::string("512"), std::string("-l"), std::to_string(first_cpu(cpus)),
          "--file-prefix=chainring-bench-" + std::to_string(getpid())})
      eal.push_back(a);
  std::vector<char*> eal_argv;
  for (std::string& a : eal)
    eal_argv.push_back(a.data());
  if (!chainring::app::start_eal(static_cast<int>(eal_argv.size()), eal_argv.data(), 512)) return 2;
  rte_timer_subsystem_init();

  if (!o.fill_sessions.empty()) return fill_sessions(o);

  std::printf("%s\n", to_string(this_machine()).c_str());
  report out(!o.quick);
  bench_context c{o, out, cpus};
  bool good = true;
  for (const group& g : groups)
    if (chosen(o, g.name)) good &= g.run(c);
  out.summary();
  if (!o.json.empty() && !out.write_json(o.json, o)) {
    std::fprintf(stderr, "--json %s: the file cannot be written\n", o.json.c_str());
    good = false;
  }
  rte_eal_cleanup();
  return good ? 0 : 1;
}
