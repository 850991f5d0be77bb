# SPDX-License-Identifier: BSD-3-Clause
"""A broker behind a TAP port in a network namespace of its own, for tests of MQTT over TCP."""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region"), os.path.join(HERE, "..", "broker")]
import own_network  # noqa: E402,F401
from regions import Broker, run  # noqa: E402

TAP = f"crm{os.getpid() % 100000}"
NET = f"10.{196 + os.getpid() % 2}.{os.getpid() % 250}"


def start(program, region, *arguments, **more):
    size = [] if "--size" in arguments else ["--size", "64M"]
    b = Broker(program, region, *size, *arguments, vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24", **more).ready()
    run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
    run("ip", "link", "set", TAP, "up")
    return b


def expect(true, what, said=""):
    if not true:
        raise SystemExit(f"{what}\n{said}")


def same(what, found, wanted):
    expect(found == wanted, f"{what}: {found}, expected {wanted}")


def counter(b, name):
    """The last value of a counter that `show counters` has printed."""
    found = re.findall(rf"\b{name} +(\d+)", b.said())
    expect(found, f"{name} is not among the counters", b.said())
    return int(found[-1])
