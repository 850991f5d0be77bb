#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An idle broker on a TAP port with --idle sleep uses at most a twentieth of a core, with all its threads
together, and still answers. The test measures CPU time and not wall-clock time, so that other work on
the machine changes little. Needs root.   test_idle.py BROKER"""
import os
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker

TAP = f"cri{os.getpid() % 100000}"
SECONDS, MOST = 6, 0.05


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="chainring-idle-") as scratch:
    with Broker(sys.argv[1], os.path.join(scratch, "region"), "--size", "64M", vdev=f"net_tap0,iface={TAP}",
                address="10.78.0.1/24") as b:
        b.ready()
        subprocess.run(["ip", "addr", "replace", "10.78.0.2/24", "dev", TAP], check=True)
        subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
        time.sleep(2)
        before, since = cpu_seconds(b.process.pid), time.monotonic()
        time.sleep(SECONDS)
        share = (cpu_seconds(b.process.pid) - before) / (time.monotonic() - since)
        pings = subprocess.run(["ping", "-c", "5", "-i", "0.5", "10.78.0.1"], capture_output=True, text=True).stdout
        print(f"{share:.1%} of a core; first packets after half a second:")
        print(pings.strip().split("\n")[-1])
        if " 0% packet loss" not in pings:
            raise SystemExit(f"the broker does not answer pings\n{pings}\n{b.said()}")
        if share > MOST:
            raise SystemExit(f"the idle broker uses {share:.1%} of a core; expected at most {MOST:.0%}")
        if b.end() != 0:
            raise SystemExit(b.said())
