# SPDX-License-Identifier: BSD-3-Clause
"""The load in a process of its own, for programs that kill brokers."""
import os
import subprocess
import sys


class LoadProcess:
    def __init__(self, address, port, seed, parts, prefix="", inside=()):
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-B", os.path.join(os.path.dirname(os.path.abspath(__file__)), "run_load.py"),
             address, str(port), str(seed), prefix, *parts],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def begin(self, step):
        """Begins a step of run_load.py."""
        self.process.stdin.write(step + "\n")
        self.process.stdin.flush()

    def end(self, step):
        """Waits for the end of the step, and returns what the load says."""
        line = self.process.stdout.readline().strip()
        if not line.startswith(step + ": "):
            raise SystemExit(f"the load ended in '{step}':\n{line}\n{self.process.stdout.read()}")
        return line.removeprefix(step + ": ")

    def do(self, step):
        self.begin(step)
        return self.end(step)

    def report(self):
        """Returns the report behind the step `finish`."""
        text = self.process.stdout.read().strip()
        if self.process.wait() != 0:
            raise SystemExit(f"the load failed:\n{text}")
        return text

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
