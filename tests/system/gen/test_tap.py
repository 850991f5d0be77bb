#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Generator and broker each have a TAP port, and a bridge in a network namespace joins them. Needs root.

  test_tap.py GENERATOR BROKER REGION_TOOL
"""
import os
import sys

from rig import Namespace, Rig, check, expect, ip, tail, text, until, verdict

with Namespace(f"crtap{os.getpid()}") as ns, Rig(*sys.argv[1:4], directory="/dev/shm") as rig:
    def join(process, tap):
        """Puts the kernel's end of a TAP port on the bridge, once the port has started."""
        until(lambda: "port 0 (net_tap0" in text(process.log) or process.poll() is not None, f"{tap} is there")
        expect(process.poll() is None, "a process that runs, not", tail(process.log))
        # The kernel's end has the MAC address of the port, so the bridge would keep frames sent to it.
        ip("-n", ns, "link", "set", tap, "address", f"02:00:00:00:20:0{tap[-1]}")
        ip("-n", ns, "link", "set", tap, "master", "bridge")
        ip("-n", ns, "link", "set", tap, "up")

    ip("-n", ns, "link", "add", "bridge", "type", "bridge")
    ip("-n", ns, "link", "set", "bridge", "up")
    broker = rig.start_broker(vdev="--vdev=net_tap0,iface=crt0", netns=ns)
    join(broker, "crt0")
    n = 3000
    generator = rig.start_generator("-p", "8", "-s", "8", "-t", "4", "-n", str(n), "--payload", "36-1400", netns=ns,
                                    vdev="--vdev=net_tap0,iface=crt1")
    join(generator, "crt1")
    check(verdict(generator), "net_tap to net_tap", status=0, acked=n, delivered=2 * n, lost=0, corrupted=0, owed=0)
    rig.end_broker(broker)
