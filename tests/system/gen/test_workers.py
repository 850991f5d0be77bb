#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A broker has two workers and one port. What one worker receives for the other is handed over.

  test_workers.py GENERATOR BROKER REGION_TOOL
"""
import re
import subprocess
import sys

from rig import HANG_S, Rig, check, expect, text, until

SEED = "7"
with Rig(*sys.argv[1:4], directory="/dev/shm") as rig:
    broker = rig.start_broker("-i", "--idle", "sleep", "--home-seed", SEED, lcores="0@0,1@0,2@1", stdin=subprocess.PIPE)
    n = 10000
    r = rig.generate("-p", "24", "-s", "24", "-t", "8", "-n", str(n), "--payload", "36-300")
    check(r, "two workers", status=0, sent=n, acked=n, delivered=3 * n, lost=0, corrupted=0, owed=0)
    broker.stdin.write(b"show port stats\nshow counters\n")
    broker.stdin.flush()
    counts = lambda: re.findall(r"worker (\d) \(lcore \d\): handed over (\d+)", text(broker.log))
    until(lambda: len(counts()) == 2, "the prompt answers")
    handed = {int(worker): int(count) for worker, count in counts()}
    # Worker 0 polls the port, and about half of the sessions belong to worker 1.
    expect(handed[0] > n / 4 and handed[1] == 0, "hand-over from the first worker, not", handed)
    print(f"handed over: {handed[0]}")
    # The same load with a stated share of the subscribers at the other worker.
    for share, crossing in (("0", 0), ("0.5", 12), ("1", 24)):
        r = rig.generate("-p", "24", "-s", "24", "-t", "8", "-n", str(n), "--prefix", "c" + share[-1],
                         "--crossing", share, "--broker-workers", "2", "--home-seed", SEED)
        check(r, f"{share} cross", status=0, sent=n, acked=n, delivered=3 * n, lost=0, corrupted=0, owed=0)
        said = text(rig.processes[-1].log)
        expect(f"{crossing} of 24 subscribers are served by another of 2 workers" in said, "the share that crosses, not", said)
    broker.stdin.write(b"quit\n")
    broker.stdin.flush()
    expect(broker.wait(timeout=HANG_S) == 0, "a clean close, not", text(broker.log))
    rig.check_region()
