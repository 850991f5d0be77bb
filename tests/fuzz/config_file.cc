// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the broker's configuration file, and the parsers of its values.
#include <iostream>

#include "common/size.h"
#include "fuzz.h"
#include "net/address.h"
#include "options.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = (std::cout.rdbuf(nullptr), std::cerr.rdbuf(nullptr), true);
  (void)quiet;
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)chainring::app::parse_size(text);
  (void)chainring::net::parse_ipv4_prefix(text);
  (void)chainring::net::parse_ipv4(text);
  const chainring::fuzz::memory_file file({data, size});
  std::string arguments[] = {"dpdk-chainring", "--region", "/r",       "--address",
                             "192.0.2.1/24",   "--config", file.path()};
  char* argv[std::size(arguments) + 1] = {};
  for (std::size_t i = 0; i < std::size(arguments); ++i)
    argv[i] = arguments[i].data();
  chainring::app::options o;
  const auto parsed = chainring::app::parse(std::size(arguments), argv, o);
  chainring::fuzz::expect(parsed.run || parsed.exit_status == 0 || parsed.exit_status == 2,
                          "the parser returned an exit status other than 0 and 2");
  if (!parsed.run) return 0;
  chainring::fuzz::expect(!o.addresses.empty() && o.mtu >= 576 && o.udp_port != 0 &&
                              o.tables.sessions_max != 0 && o.gateway.gateway_id != 0,
                          "an accepted option is out of its range");
  return 0;
}
