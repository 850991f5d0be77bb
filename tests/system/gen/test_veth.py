#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Generator and broker on the two ends of a veth pair, by net_af_packet. Needs root.

  test_veth.py GENERATOR BROKER REGION_TOOL
"""
import os
import subprocess
import sys

from rig import Rig, check

ENDS = [f"crv{os.getpid() % 100000}{side}" for side in "ab"]


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


ip("link", "add", ENDS[0], "type", "veth", "peer", "name", ENDS[1])
try:
    for end in ENDS:
        # The kernel has no business on this link: no address, no neighbours, no router solicitations.
        with open(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6", "w") as f:
            f.write("1")
        ip("link", "set", end, "up")
    with Rig(*sys.argv[1:4], directory="/dev/shm") as rig:
        broker = rig.start_broker(vdev=f"--vdev=net_af_packet0,iface={ENDS[0]}")
        n = 5000
        r = rig.generate("-p", "8", "-s", "8", "-t", "4", "-n", str(n), "--payload", "36-1400",
                         vdev=f"--vdev=net_af_packet0,iface={ENDS[1]}")
        check(r, "af_packet on veth", status=0, acked=n, delivered=2 * n, lost=0, corrupted=0, owed=0, dropped={})
        rig.end_broker(broker)
finally:
    ip("link", "del", ENDS[0])
