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

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import own_network  # noqa: F401
from ledger import Broken
from load import HANG_S, Load
from one_broker import OneBroker

if __name__ == "__main__":
    seed = int(os.environ.get("CHAINRING_SEED", random.randrange(1 << 30)))
    print(f"CHAINRING_SEED={seed}", flush=True)
    choose = random.Random(seed)
    directory, rounds, parts = sys.argv[3], int(sys.argv[4]), sys.argv[5:]
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        broker = OneBroker(sys.argv[1], scratch)
        try:
            broker.start()
            load = Load(broker.address, choose, parts)
            load.start()
            for n in range(rounds):
                load.before_kill(30)
                broker.process.send_signal(signal.SIGKILL)
                broker.process.wait()
                check = subprocess.run([sys.argv[2], "check", broker.region], capture_output=True, text=True)
                if check.returncode != 0:
                    raise Broken(f"region: after kill {n + 1}, the check says:\n{check.stdout}{check.stderr}")
                broker.start()
                load.after_restart()
            load.finish()
            broker.process.terminate()
            if broker.process.wait(timeout=HANG_S) != 0:
                raise Broken("close: the broker did not close cleanly")
            print(f"{rounds} kills, {len(load.ledger.acked)} messages acknowledged\n{load.ledger.report()}")
        except Broken as what:
            print(load.ledger.report())
            raise SystemExit(f"{what}\n{broker.says()}") from None
        finally:
            broker.end()
