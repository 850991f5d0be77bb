#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The generator finds every fault of a broker with known faults, and the number of faults. The faulty
broker is a UDP socket of the kernel, and the generator's port is a TAP. Needs root.

  test_faults.py GENERATOR
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import own_network  # noqa: F401
from faulty_broker import FaultyBroker
from rig import Rig, check, expect, tail, until, verdict

TAP = f"crf{os.getpid() % 100000}"
NET = f"10.{202 + os.getpid() % 2}.{os.getpid() % 250}"
N, EVERY = 200, 10
SHAPE = ("-p", "4", "-t", "2", "--fan-out", "2")


def there():
    return subprocess.run(["ip", "link", "show", TAP], capture_output=True).returncode == 0


def run(fault, *own, broker=None, every=EVERY):
    """Runs a generator against a faulty broker, which continues from an earlier run if it is given."""
    p = rig.start_generator(*own, "--drain-timeout", "2.5", vdev=f"--vdev=net_tap0,iface={TAP}", broker=f"{NET}.2",
                            address=f"{NET}.1/24")
    until(lambda: there() or p.poll() is not None, "the port is there")
    expect(p.poll() is None, "a generator that runs, not", tail(p.log))
    subprocess.run(["ip", "addr", "replace", f"{NET}.2/24", "dev", TAP], check=True)
    subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
    if broker is None:
        broker = FaultyBroker(f"{NET}.2", fault, every)
    broker.serve(lambda: p.poll() is None)
    return verdict(p), broker


with Rig(sys.argv[1]) as rig:
    whole = {"sent": N, "acked": N, "malformed": 0, "in_doubt": 0, "partial": 0}
    clean = {"torn": 0, "unknown": 0, "misrouted": 0, "duplicated": 0, "reordered": 0, "lost": 0}
    all_of_it = 2 * N
    hits = all_of_it // EVERY

    def expect_fault(fault, status, **wanted):
        r, broker = run(fault, *SHAPE, "-n", str(N))
        broker.sock.close()
        expect(fault == "none" or broker.hits == hits, f"{hits} faults made, not", broker.hits)
        check(r, fault, status=status, **{**whole, **clean, **wanted})

    expect_fault("none", 0, delivered=all_of_it)
    expect_fault("drop", 1, delivered=all_of_it - hits, lost=hits)
    expect_fault("flip", 1, delivered=all_of_it - hits, lost=hits, torn=hits)
    expect_fault("cut", 1, delivered=all_of_it - hits, lost=hits, torn=hits)
    expect_fault("unknown", 1, delivered=all_of_it - hits, lost=hits, unknown=hits)
    expect_fault("foreign", 1, delivered=all_of_it - hits, lost=hits, unknown=hits)
    expect_fault("misroute", 1, delivered=all_of_it - hits, lost=hits, misrouted=hits)
    expect_fault("duplicate", 0, delivered=all_of_it, duplicated=hits, duplicated_dup=hits, duplicated_plain=0)
    expect_fault("duplicate_plain", 0, delivered=all_of_it, duplicated=hits, duplicated_dup=0, duplicated_plain=hits)
    expect_fault("garbage", 1, delivered=all_of_it, malformed=hits)

    # A held delivery comes behind its successor, so the last delivery needs a successor too.
    r, broker = run("reorder", "-p", "1", "-s", "1", "-n", str(N + 1))
    broker.sock.close()
    check(r, "reorder", status=0, acked=N + 1, **{**clean, "delivered": N + 1, "reordered": N // EVERY})

    # Messages are never acknowledged and go to one of two subscribers. The verdict comes with collect.
    ledger = os.path.join(rig.dir, "partial")
    r, broker = run("partial", *SHAPE, "--phase", "subscribe", "--ledger", ledger)
    check(r, "partial: subscribe", status=0)
    r, _ = run("partial", "--phase", "publish", "-n", str(N), "--ledger", ledger, "--resume", broker=broker)
    check(r, "partial: publish", status=3, unacknowledged=4, acked=4 * (EVERY - 1), partial=0)
    r, _ = run("partial", "--phase", "collect", "--ledger", ledger, "--resume", broker=broker)
    broker.sock.close()
    # The broker delivers nothing else to clients that are away: 36 messages to 2 subscribers each.
    check(r, "partial: collect", status=1, partial=4, unacknowledged=4, lost=2 * 36)

    # Without an answer there is no verdict on a broker that went away or never was there.
    r, broker = run("half_deaf", *SHAPE, "-n", str(N), every=100)
    broker.sock.close()
    check(r, "half deaf", status=3, lost=0, corrupted=0)
    expect(r["unacknowledged"] > 0 and "stopped answering" in r["verdict"], "a broker that fell silent, not", r)
    r, broker = run("deaf", *SHAPE, "-n", str(N))
    broker.sock.close()
    check(r, "deaf", status=3, sent=0)
    expect("never answered" in r["verdict"], "a broker that never answered, not", r)
