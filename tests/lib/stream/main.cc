// SPDX-License-Identifier: BSD-3-Clause
// The tests of TCP run in a network namespace of their own, against the kernel's TCP behind a TAP
// port. They need root.
#include <gtest/gtest.h>
#include <rte_eal.h>
#include <sched.h>

#include "support/one_cpu.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (unshare(CLONE_NEWNET) != 0) {
    std::perror("test_tcp: a network namespace (run as root)");
    return 2;
  }
  const std::string lcores = chainring::test::lcore_on_one_cpu();
  const char* eal[] = {"test_tcp",       "--no-huge",   "--no-pci", "--no-shconf",
                       "--no-telemetry", "-m",          "128",      "--vdev=net_tap0,iface=stream0",
                       "--lcores",       lcores.c_str()};
  if (rte_eal_init(sizeof eal / sizeof *eal, const_cast<char**>(eal)) < 0) return 2;
  if (std::system("ip link set lo up && ip addr add 198.18.7.2/24 dev stream0 && "
                  "ip -6 addr add 2001:db8:7::2/64 dev stream0 nodad && ip link set stream0 up") !=
      0)
    return 2;
  const int status = RUN_ALL_TESTS();
  rte_eal_cleanup();
  return status;
}
