// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <rte_eal.h>

#include "frames.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* eal[] = {"test_net", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m",
                       "64",       "-l",        "0"};
  if (rte_eal_init(sizeof eal / sizeof *eal, const_cast<char**>(eal)) < 0) return 2;
  if (chainring::net_test::pool() == nullptr || chainring::net_test::headers() == nullptr) return 2;
  const int status = RUN_ALL_TESTS();
  rte_eal_cleanup();
  return status;
}
