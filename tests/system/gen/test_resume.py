#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs that outlive the broker, and brokers that outlive the generator, keep the contract.

  test_resume.py GENERATOR BROKER REGION_TOOL
"""
import json
import os
import re
import signal
import sys

from rig import Rig, check, expect, tail, text, until, verdict

DRAIN = ("--drain-timeout", "10", "--report-interval", "0.2")


def delivered(p):
    found = re.findall(r"delivered (\d+)", text(p.log))
    return int(found[-1]) if found else 0


def kill(p):
    p.send_signal(signal.SIGKILL)
    p.wait()


with Rig(*sys.argv[1:4]) as rig:
    # The run has phases: the broker dies between the last acknowledgement and the first delivery.
    ledger = os.path.join(rig.dir, "phases")
    broker = rig.start_broker("--queue-size", "4096")
    r = rig.generate("--phase", "subscribe", "-p", "4", "-t", "2", "--fan-out", "2", "--ledger", ledger, *DRAIN)
    check(r, "subscribe", status=0, sent=0)
    r = rig.generate("--phase", "publish", "-n", "2000", "--resume", "--ledger", ledger, *DRAIN)
    check(r, "publish", status=0, sent=2000, acked=2000, delivered=0, owed=4000)
    kill(broker)
    rig.check_region()
    broker = rig.start_broker("--queue-size", "4096")
    r = rig.generate("--phase", "collect", "--resume", "--ledger", ledger, *DRAIN)
    check(r, "collect after kill -9 of the broker", status=0, acked=2000, delivered=4000, lost=0, corrupted=0, owed=0)
    state = json.loads(text(ledger))
    expect(state["lives_complete"] == [True, True, True] and not os.path.exists(ledger + ".new"), "a whole ledger")

    # The run is one piece: the broker dies under the clients, which connect again and go on.
    ledger = os.path.join(rig.dir, "under-load")
    p = rig.start_generator("-p", "8", "-s", "4", "-t", "2", "--duration", "6", "--prefix", "load", "--ledger", ledger,
                            *DRAIN)
    for _ in range(2):
        before = delivered(p)
        until(lambda: delivered(p) > before + 100 or p.poll() is not None, "messages flow")
        expect(p.poll() is None, "a generator that still runs, not", tail(p.log))
        kill(broker)
        rig.check_region()
        broker = rig.start_broker("--queue-size", "4096")
    r = verdict(p)
    check(r, "two kill -9 under load", status=0, lost=0, corrupted=0, owed=0, partial=0, unacknowledged=0)
    expect(r["reconnects"] >= 12 and r["delivered"] >= 2 * r["acked"] > 0, "reconnects and deliveries in", r)

    # A signal stops the generator: it drains, and its verdict stands.
    p = rig.start_generator("-p", "4", "-s", "2", "-t", "2", "--prefix", "stop", *DRAIN)
    until(lambda: delivered(p) > 100, "messages flow")
    p.send_signal(signal.SIGTERM)
    r = verdict(p)
    check(r, "SIGTERM", status=0, lost=0, corrupted=0, owed=0, unacknowledged=0)

    # The generator dies. Messages that it may have received are in doubt and are never called lost.
    ledger = os.path.join(rig.dir, "died")
    p = rig.start_generator("-p", "4", "-s", "2", "-t", "2", "--prefix", "died", "--ledger", ledger, *DRAIN)
    until(lambda: delivered(p) > 100 and json.loads(text(ledger))["counts"]["delivered"] > 0, "it writes its ledger")
    kill(p)
    expect(json.loads(text(ledger))["lives_complete"] == [False], "a ledger that says that its life did not end")
    r = rig.generate("-n", "500", "--resume", "--ledger", ledger, "--drain-timeout", "3")
    expect(r["status"] == (3 if r["in_doubt"] else 0), "status 3 exactly when a message is in doubt, not", r)
    check(r, "kill -9 of the generator", lost=0, corrupted=0, unacknowledged=0)
    rig.end_broker(broker)
