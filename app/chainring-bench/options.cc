// SPDX-License-Identifier: BSD-3-Clause
#include "options.h"

#include <CLI/CLI.hpp>

#include "common/parse.h"

namespace chainring::bench {

app::parsed parse(int argc, char** argv, options& o) {
  CLI::App a{"Measures chainring against its peers, and prints figures, ratios and targets.\n"
             "Usage: chainring-bench [EAL arguments --] [arguments below]\n"
             "Without EAL arguments: --no-huge --no-pci --no-shconf -m 512, on one lcore."};
  a.name("chainring-bench [EAL arguments --]");
  a.set_version_flag("--version", "chainring-bench " CHAINRING_VERSION);
  a.add_flag("--list", o.list, "Print the groups of figures and exit");
  a.add_option("--only", o.only, "Run only these groups; the beginning of a name is enough");
  a.add_option("--seconds", o.seconds,
               "Seconds to spend on each figure, including the time of its peer")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  a.add_option(
       "--memory-directory", o.memory_directory,
       "Directory for files of class process: in tmpfs, or in hugetlbfs with enough free pages")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str();
  a.add_option("--directory", o.directory, "Directory for files of class file, on an ordinary disk")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str();
  a.add_option("--json", o.json, "Also write the figures to this file");
  a.add_option("--window", o.window,
               "PUBLISH messages that wait for their PUBACK at one time; 0 means 1024 for class "
               "file, else 64")
      ->check(CLI::Range(0u, 8192u));
  a.add_option("--clients", o.clients,
               "Clients of the broker's figures; 0 means 10,000 and then 64")
      ->check(CLI::Range(0u, 1000000u));
  a.add_option("--messages", o.messages,
               "Measure the broker over this many messages, and not for a time. Under valgrind only "
               "these are counted (tests/instructions); 0 means for a time")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 40));
  std::uint64_t journal_mib = 0;
  a.add_option("--journal-size", journal_mib,
               "Journal size of class file in MiB; 0 means the driver's default")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{65536}));
  a.add_flag(
      "--quick", o.quick,
      "Use small sizes and few rounds; this shows that the program runs, and measures nothing");
  if (const app::parsed p = app::parse_arguments(a, argc, argv, [] {}); !p.run) return p;
  o.journal_size = journal_mib << 20;
  return {true, 0};
}

} // namespace chainring::bench
