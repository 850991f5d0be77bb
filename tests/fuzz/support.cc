// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <iterator>
#include <rte_eal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

namespace chainring::fuzz {

memory_file::memory_file(std::span<const std::uint8_t> content)
    : fd_(memfd_create("input", 0)), path_("/proc/self/fd/" + std::to_string(fd_)) {
  const bool written =
      write(fd_, content.data(), content.size()) == static_cast<ssize_t>(content.size());
  expect(fd_ >= 0 && written, "cannot make a file");
}

memory_file::~memory_file() {
  close(fd_);
}

void start_eal() {
  testing::FLAGS_gtest_break_on_failure = true;
  const char* eal[] = {"fuzz", "--no-huge", "--no-pci", "--no-shconf",    "-m",
                       "64",   "-l",        "0",        "--no-telemetry", "--log-level=error"};
  expect(rte_eal_init(std::size(eal), const_cast<char**>(eal)) >= 0, "EAL does not start");
}

} // namespace chainring::fuzz
