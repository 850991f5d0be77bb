// SPDX-License-Identifier: BSD-3-Clause
/// main() of a test that needs EAL, without hugepages, devices or root. Include it once, last, and
/// link gtest without its main.
#pragma once
#include <gtest/gtest.h>
#include <rte_eal.h>

#include "one_cpu.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::string lcores = chainring::test::lcore_on_one_cpu();
  const char* eal[] = {argv[0], "--no-huge", "--no-pci",     "--no-shconf",   "-m",
                       "64",    "--lcores",  lcores.c_str(), "--no-telemetry"};
  if (rte_eal_init(sizeof eal / sizeof *eal, const_cast<char**>(eal)) < 0) return 1;
  return RUN_ALL_TESTS();
}
