#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 while clients use everything that the protocol has. The ledger of the load must hold: no
acknowledged message is lost and none is doubled at QoS 2. The broker serves a real port (TAP). Needs root.

  test_kill9_protocol.py BROKER REGION_TOOL DIRECTORY ROUNDS PART...
"""
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import own_network  # noqa: F401
from load_process import LoadProcess
from one_broker import HANG_S, OneBroker


def main(program, tool, directory, rounds, *parts):
    seed = int(os.environ.get("CHAINRING_SEED", random.randrange(1 << 30)))
    print(f"CHAINRING_SEED={seed}", flush=True)
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        broker, load = OneBroker(program, scratch), None
        try:
            broker.start()
            load = LoadProcess(*broker.address, seed, parts)
            load.do("start")
            for n in range(int(rounds)):
                load.do("before")
                time.sleep(choose.uniform(0.0, 0.3))
                broker.process.send_signal(signal.SIGKILL)
                broker.process.wait()
                check = subprocess.run([tool, "check", broker.region], capture_output=True, text=True)
                if check.returncode != 0:
                    raise SystemExit(f"after kill {n + 1}, the check of the region says:\n{check.stdout}{check.stderr}")
                broker.start()
                load.do("after")
            print(f"{rounds} kills, {load.do('finish')}\n{load.report()}")
            broker.process.terminate()
            if broker.process.wait(timeout=HANG_S) != 0:
                raise SystemExit("the broker did not close cleanly")
        except SystemExit as what:
            raise SystemExit(f"{what}\n{broker.says()}") from None
        finally:
            broker.end()
            if load:
                load.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
