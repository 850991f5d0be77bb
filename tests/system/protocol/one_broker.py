# SPDX-License-Identifier: BSD-3-Clause
"""A broker with a TAP port in this program's own network namespace. It is started again after each kill, with one
worker and with two in turn, so that sessions change their workers."""
import os
import subprocess
import time

from load import WILL_GRACE_S

HANG_S = 90  # this timeout only detects hangs


class OneBroker:
    def __init__(self, program, directory):
        self.program, self.region = program, os.path.join(directory, "region")
        self.log = self.region + ".log"
        self.tap = f"crp{os.getpid() % 100000}"
        self.net = f"10.{200 + os.getpid() % 2}.{os.getpid() % 250}"
        self.address = (f"{self.net}.1", 10000)
        self.process, self.starts = None, 0

    def start(self):
        self.starts += 1
        lcores = "0@0,1@0" if self.starts % 2 else "0@0,1@0,2@1"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.program, "--lcores", lcores, "--no-pci", "--no-huge", "-m", "256", "--no-telemetry",
                 "--file-prefix", self.tap, f"--vdev=net_tap0,iface={self.tap}", "--", "--region", self.region,
                 "--size", "64M", "--address", f"{self.net}.1/24", "--retry-interval", "1", "--max-retries", "100",
                 "--queue-size", "16384", "--will-grace", str(WILL_GRACE_S), "-i"],
                stdin=subprocess.PIPE, stdout=log, stderr=log)
        deadline = time.monotonic() + HANG_S
        while "chainring: ready" not in self.text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the broker did not start:\n" + self.text())
            time.sleep(0.02)
        subprocess.run(["ip", "addr", "replace", f"{self.net}.2/24", "dev", self.tap], check=True)
        subprocess.run(["ip", "link", "set", self.tap, "up"], check=True)

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def says(self):
        """Returns what the broker says about itself, for the report of a failure."""
        if self.process.poll() is None:
            self.process.stdin.write(b"show sessions\nshow queues\nshow counters\n")
            self.process.stdin.flush()
            time.sleep(1)
        return self.text()[-6000:]

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
