#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs the generator against the broker over net_memif, in two processes, with each QoS, fan-out and wildcards.

  test_contract.py GENERATOR BROKER REGION_TOOL
"""
import sys

from rig import Rig, check, expect

with Rig(*sys.argv[1:4], directory="/dev/shm") as rig:
    broker = rig.start_broker("--queue-size", "4096")

    n = 20000
    r = rig.generate("-p", "16", "-t", "4", "--fan-out", "3", "-n", str(n), "--payload", "36-500")
    check(r, "fan-out 3", status=0, sent=n, acked=n, delivered=3 * n, lost=0, corrupted=0, reordered=0, owed=0,
          duplicated=r["duplicated_dup"], unacknowledged=0, malformed=0, foreign=0)
    expect(r["ack_latency_us"]["count"] == n, "a latency for each acknowledgement")
    expect(r["delivery_latency_us"]["count"] == 3 * n, "a latency for each delivery")
    expect(0 < r["ack_latency_us"]["p50"] <= r["ack_latency_us"]["p99"] <= r["ack_latency_us"]["max"], "rising ones")

    n = 3000
    r = rig.generate("-p", "5", "-s", "3", "-t", "5", "--wildcard", "-n", str(n), "--prefix", "wild")
    check(r, "wildcard", status=0, acked=n, delivered=3 * n, lost=0, corrupted=0)

    # There are more clients than one address has ports.
    r = rig.generate("-p", "300", "-s", "300", "-t", "300", "-n", str(n), "--prefix", "many", "--source-ports", "100")
    check(r, "six addresses", status=0, acked=n, delivered=n, lost=0, corrupted=0)

    r = rig.generate("-p", "4", "-s", "4", "-n", str(n), "--clean", "--prefix", "clean", "--rate", "3000")
    check(r, "clean sessions, 3000/s", status=0, acked=n, delivered=4 * n, lost=0, corrupted=0)

    r = rig.generate("-p", "2", "-s", "2", "-t", "2", "-q", "0", "-n", "2000", "--rate", "2000", "--prefix", "zero")
    check(r, "QoS 0", status=0, sent=2000, acked=0, lost=0, corrupted=0, owed=0)
    expect(r["delivered"] + r["undelivered"] == 2000 and r["delivered"] > 0, "QoS 0 to be counted, not", r)

    r = rig.generate("-p", "2", "-s", "2", "-t", "2", "-q", "-1", "-n", "2000", "--rate", "2000", "--prefix", "less")
    check(r, "QoS -1", status=0, sent=2000, acked=0, lost=0, corrupted=0, owed=0)
    expect(r["delivered"] + r["undelivered"] == 2000 and r["delivered"] > 0, "QoS -1 to be counted, not", r)

    rig.end_broker(broker)
