// SPDX-License-Identifier: BSD-3-Clause
#include "options.h"

#include <charconv>
#include <CLI/CLI.hpp>

#include "clients.h"
#include "common/parse.h"

namespace chainring::bench {

namespace {

constexpr std::uint32_t fan_out_max = 1024;
constexpr double rate_max = 1e9, percent_max = 200;

void refuse(const char* argument, const std::string& why) {
  throw CLI::ValidationError(argument, why);
}

offered_rate parse_rate(const std::string& text) {
  offered_rate r{text, 0, text.ends_with('%')};
  const char* const end = text.data() + text.size() - r.percent;
  const auto read = std::from_chars(text.data(), end, r.value);
  const double most = r.percent ? percent_max : rate_max;
  if (read.ec != std::errc() || read.ptr != end || !(r.value >= 1 && r.value <= most))
    refuse("--rate", "'" + text + "': expected 1 to 1e9 messages a second, or 1% to 200%");
  return r;
}

} // namespace

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
  a.add_option(
       "--messages", o.messages,
       "Measure the broker over this many messages, and not for a time. Under valgrind only "
       "these are counted (tests/instructions); 0 means for a time")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 40));
  a.add_option(
       "--payload", o.payload_size,
       "Octets of each message of the broker's figures, from 11, which hold the numbers that "
       "the clients check, to 1463, which fit into a packet")
      ->check(CLI::Range(payload_size_min, payload_size_max))
      ->capture_default_str();
  a.add_option("--fan-out", o.fan_out,
               "Subscribers of each message of the broker's figures; at most as many as there are "
               "clients")
      ->check(CLI::Range(1u, fan_out_max))
      ->capture_default_str();
  a.add_option("--block-size", o.block_size,
               "Bytes of a block in the regions of the broker's figures")
      ->check(CLI::IsMember({64, 128, 256, 512, 1024, 2048, 4096}))
      ->capture_default_str();
  a.add_option("--rx-in-region", o.rx_in_region,
               "The argument of that name of the broker in its figures; it needs a --block-size "
               "from 2048")
      ->check(CLI::Range(0u, 65535u));
  std::vector<std::string> rates;
  a.add_option("--rate", rates,
               "Also offer the broker so many messages a second, whether it keeps up or not, and "
               "measure from when each was due: a number, or a share of what the broker does "
               "otherwise, as 50%; may be repeated");
  a.add_option("--crossing", o.crossing,
               "The group workers measures only this share of messages, 0 to 1, whose subscriber "
               "has another worker than the publisher")
      ->check(CLI::Range(0.0, 1.0));
  a.add_flag("--misplaced", o.misplaced,
             "In the group workers every datagram lands at another worker than that of its client");
  a.add_option("--requests-per-round", o.requests_per_round,
               "The argument of that name of the broker in the group overload; 0 means no limit")
      ->check(CLI::Range(0u, 1000u))
      ->capture_default_str();
  a.add_option("--sessions", o.sessions, "Sessions of the group million; 0 means 1,000,000")
      ->check(CLI::Range(0u, 4'000'000u));
  a.add_option("--fill-sessions", o.fill_sessions)->group(""); // the process that million.cc kills
  a.add_flag("--long-filters", o.long_filters)->group("");
  std::uint64_t journal_mib = 0;
  a.add_option("--journal-size", journal_mib,
               "Journal size of class file in MiB; 0 means the driver's default")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{65536}));
  a.add_flag(
      "--quick", o.quick,
      "Use small sizes and few rounds; this shows that the program runs, and measures nothing");
  const auto check = [&] {
    for (const std::string& text : rates)
      o.rates.push_back(parse_rate(text));
    if (o.clients != 0 ? o.fan_out > o.clients : o.fan_out > 64)
      refuse("--fan-out", std::to_string(o.fan_out) +
                              ": each subscriber is a client, and there are " +
                              std::to_string(o.clients != 0 ? o.clients : 64) +
                              "; give more --clients, or a smaller fan-out");
    if (o.rx_in_region && o.block_size < 2048)
      refuse("--rx-in-region", "a frame needs one block; give --block-size 2048 or 4096");
    if (o.messages != 0 && !o.rates.empty())
      refuse("--rate", "rates are measured for a time; leave --messages out");
  };
  if (const app::parsed p = app::parse_arguments(a, argc, argv, check); !p.run) return p;
  o.journal_size = journal_mib << 20;
  return {true, 0};
}

} // namespace chainring::bench
