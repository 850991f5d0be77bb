#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs the load, and does one step for each line of its input: `start`, `before` (a kill), `after` (the restart),
`finish`. It answers each with a line. In between the load goes on, so that a kill comes in the middle of it.

  run_load.py ADDRESS PORT SEED PREFIX PART...
"""
import os
import random
import select
import sys

sys.dont_write_bytecode = True
from ledger import Broken
from load import Load

ACKNOWLEDGED = 30  # how many messages each round acknowledges at least


def main(address, port, seed, prefix, *parts):
    load = Load((address, int(port)), random.Random(int(seed)), parts, prefix)
    steps = {"start": load.start, "before": lambda: load.before_kill(ACKNOWLEDGED), "after": load.after_restart,
             "finish": load.finish}
    try:
        while True:
            if load.started:
                load.serve(seconds=float("inf"), until=lambda: select.select([sys.stdin], [], [], 0)[0])
            step = os.read(0, 100).decode().strip()
            if not step:
                raise SystemExit("the input ended")
            steps[step]()
            print(f"{step}: {len(load.ledger.acked)} messages acknowledged", flush=True)
            if step == "finish":
                print(load.ledger.report(), flush=True)
                return
    except Broken as what:
        raise SystemExit(f"{load.ledger.report()}\n{what}") from None


if __name__ == "__main__":
    main(*sys.argv[1:])
