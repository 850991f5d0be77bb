#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Truncates the file of a region below the broker that serves it. On tmpfs that removes its memory, on a
disk its journal. The broker does not crash, names the file, answers at its prompt, and acknowledges nothing more.

  test_cut_short.py GENERATOR BROKER REGION_TOOL
"""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "gen"))
from rig import HANG_S, Rig, expect, tail, text, until  # noqa: E402


def cut_short(where, keep, words):
    with Rig(*sys.argv[1:4], directory=where) as rig:
        broker = rig.start_broker("--interactive", "--max-sessions", "64", "--max-subscriptions", "256",
                                  stdin=subprocess.PIPE)
        p = rig.start_generator("-p", "4", "-s", "2", "-t", "2", "--duration", "3", "--drain-timeout", "1",
                                "--report-interval", "0.2")
        until(lambda: "delivered" in text(p.log) or p.poll() is not None, "messages flow")
        expect(p.poll() is None, "a generator that still runs, not", tail(p.log))
        os.truncate(rig.region, keep)
        until(lambda: words in text(broker.log) or broker.poll() is not None, "the broker says so")
        expect(broker.poll() is None, "a running broker, not", tail(broker.log))
        expect(rig.region in text(broker.log), "the file's name in", tail(broker.log))
        said = len(text(broker.log))
        broker.stdin.write(b"show region\nshow counters\n")
        broker.stdin.flush()
        until(lambda: "FAILED" in text(broker.log)[said:] and "datagrams" in text(broker.log)[said:],
              "the prompt answers")
        acked = [line for line in text(broker.log).splitlines() if line.startswith("published_qos1")]
        p.wait(timeout=HANG_S)
        broker.stdin.write(b"quit\n")
        broker.stdin.flush()
        expect(broker.wait(timeout=HANG_S) == 1, "status 1, not", tail(broker.log))
        print(f"{where}: cut to {keep} bytes; {acked[-1]}; {words}", flush=True)


cut_short("/dev/shm", 1 << 20, "is gone")
with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
    cut_short(directory, 1 << 20, "deleted or cut short")
