// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <rte_eal.h>

#include "frames.h"
#include "support/one_cpu.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::string lcores = chainring::test::lcore_on_one_cpu();
  const char* eal[] = {"test_net", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry",
                       "-m",       "64",        "--lcores", lcores.c_str()};
  if (rte_eal_init(sizeof eal / sizeof *eal, const_cast<char**>(eal)) < 0) return 2;
  if (chainring::net_test::pool() == nullptr || chainring::net_test::headers() == nullptr) return 2;
  const int status = RUN_ALL_TESTS();
  rte_eal_cleanup();
  return status;
}
