// SPDX-License-Identifier: BSD-3-Clause
#include "common/eal.h"

#include <algorithm>
#include <cstdio>
#include <rte_eal.h>
#include <rte_errno.h>
#include <string_view>

#include "common/parse.h"
#include "common/stream.h"

namespace chainring::app {

namespace {

/// The long options of EAL in DPDK 22.11 (lib/eal/common/eal_options.h).
const std::vector<std::string> eal_names = {"--allow",
                                            "--base-virtaddr",
                                            "--block",
                                            "--create-uio-dev",
                                            "--file-prefix",
                                            "--force-max-simd-bitwidth",
                                            "--help",
                                            "--huge-dir",
                                            "--huge-unlink",
                                            "--huge-worker-stack",
                                            "--in-memory",
                                            "--iova-mode",
                                            "--lcores",
                                            "--legacy-mem",
                                            "--log-level",
                                            "--main-lcore",
                                            "--match-allocations",
                                            "--mbuf-pool-ops-name",
                                            "--no-hpet",
                                            "--no-huge",
                                            "--no-pci",
                                            "--no-shconf",
                                            "--no-telemetry",
                                            "--proc-type",
                                            "--single-file-segments",
                                            "--socket-limit",
                                            "--socket-mem",
                                            "--syslog",
                                            "--telemetry",
                                            "--trace",
                                            "--trace-bufsz",
                                            "--trace-dir",
                                            "--trace-mode",
                                            "--vdev",
                                            "--version",
                                            "--vfio-intr",
                                            "--vfio-vf-token",
                                            "--vmware-tsc-map"};

/// Returns the value of "--name value" or "--name=value", or an empty string without that option.
std::string value_of(const std::vector<std::string>& arguments, const std::string& name) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == name) return i + 1 < arguments.size() ? arguments[i + 1] : "";
    if (arguments[i].starts_with(name + "=")) return arguments[i].substr(name.size() + 1);
  }
  return "";
}

bool given(const std::vector<std::string>& arguments, const std::string& name) {
  return std::ranges::any_of(
      arguments, [&](const std::string& a) { return a == name || a.starts_with(name + "="); });
}

std::string unknown_to_eal(const std::vector<std::string>& arguments) {
  for (const std::string& a : arguments) {
    const std::string name = a.substr(0, a.find('='));
    if (!name.starts_with("--") || name.size() == 2) continue;
    // getopt accepts the beginning of a name in place of the name.
    if (std::ranges::none_of(eal_names, [&](const std::string& n) { return n.starts_with(name); }))
      return "'" + name + "': EAL has no such argument" + suggestion(name, eal_names);
  }
  return "";
}

} // namespace

sigset_t block_end_signals(std::initializer_list<int> others) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  for (const int s : others)
    sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

std::string why_eal_failed(const std::vector<std::string>& arguments,
                           const std::vector<std::string>& logged, unsigned memory_mb) {
  const auto is_given = [&](std::string_view words) {
    return std::ranges::any_of(
        logged, [&](const std::string& l) { return l.find(words) != std::string::npos; });
  };
  std::string prefix = value_of(arguments, "--file-prefix");
  if (prefix.empty()) prefix = "rte";
  const std::string no_huge = "--no-huge -m " + std::to_string(memory_mb);
  if (const std::string unknown = unknown_to_eal(arguments); !unknown.empty()) return unknown;
  // The last error that EAL logs is the most general one; the first is the cause.
  std::string cause = logged.empty() ? "" : logged.front();
  if (cause.starts_with("EAL: ")) cause.erase(0, 5);
  if (is_given("Cannot create lock on") || is_given("Is another primary process running"))
    return "the file prefix '" + prefix +
           "' is in use by another process: give this one a prefix of its own, as --file-prefix " +
           prefix + "2";
  if (is_given("init memzone") || is_given("init config") || is_given("Cannot resize") ||
      is_given("Cannot truncate"))
    return "EAL cannot make its files in the run-time directory of the file prefix '" + prefix +
           "' (" + cause + "): see that the directory (/var/run/dpdk/" + prefix +
           ", or one below XDG_RUNTIME_DIR) has room and can be written, and that no file size "
           "limit "
           "applies (ulimit -f); or add --no-shconf, with which EAL makes no files";
  const bool huge = !given(arguments, "--no-huge") && !given(arguments, "--no-hug");
  if (is_given("hugepage") || is_given("Cannot init memory") || is_given("not enough memory")) {
    if (huge)
      return cause +
             ". Reserve hugepages (.ci/hugepages 256, or echo 256 > "
             "/proc/sys/vm/nr_hugepages, and mount hugetlbfs), or add " +
             no_huge;
    return cause +
           ". With --no-huge, as much memory must be free as -m says in MiB: expected at "
           "least " +
           std::to_string(memory_mb);
  }
  if (cause.empty()) {
    cause = rte_errno != 0 ? rte_strerror(rte_errno) : "EAL does not say why";
    return cause + "; --help lists the arguments of EAL";
  }
  return cause;
}

bool start_eal(int argc, char** argv, unsigned memory_mb) {
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  const std::string type = value_of(arguments, "--proc-type");
  if (!type.empty() && type != "primary") {
    std::fprintf(stderr,
                 "--proc-type %s: this program owns its ports and memory, and runs as a primary "
                 "process only: leave the argument out, and give each program that runs at the "
                 "same time a --file-prefix of its own\n",
                 type.c_str());
    return false;
  }
  if (auto opened = open_log("", false); !opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return false;
  }
  rte_errno = 0;
  if (rte_eal_init(argc, argv) >= 0) return true;
  std::fprintf(stderr, "EAL did not start: %s\n",
               why_eal_failed(arguments, logged_errors(), memory_mb).c_str());
  return false;
}

} // namespace chainring::app
