#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The broker is on one end of a veth pair and the generator on the other, in a network namespace, both
by net_af_packet. Needs root.

  test_veth.py GENERATOR BROKER REGION_TOOL
"""
import os
import sys

from rig import Namespace, Rig, check, ip

HERE, THERE = [f"crv{os.getpid() % 100000}{side}" for side in "ab"]

with Namespace(f"crveth{os.getpid()}") as there:
    ip("link", "add", HERE, "type", "veth", "peer", "name", THERE, "netns", there)
    with open(f"/proc/sys/net/ipv6/conf/{HERE}/disable_ipv6", "w") as f:
        f.write("1")  # no neighbour or router solicitations
    ip("link", "set", HERE, "up")
    ip("-n", there, "link", "set", THERE, "up")
    with Rig(*sys.argv[1:4], directory="/dev/shm") as rig:
        broker = rig.start_broker(vdev=f"--vdev=net_af_packet0,iface={HERE}")
        n = 5000
        r = rig.generate("-p", "8", "-s", "8", "-t", "4", "-n", str(n), "--payload", "36-1400", netns=there,
                         vdev=f"--vdev=net_af_packet0,iface={THERE}")
        check(r, "af_packet on veth", status=0, acked=n, delivered=2 * n, lost=0, corrupted=0, owed=0, dropped={})
        rig.end_broker(broker)
