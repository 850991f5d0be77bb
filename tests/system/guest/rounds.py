# SPDX-License-Identifier: BSD-3-Clause
"""Brokers in the guest, generators on the host: what the rounds of resets share."""
import json
import os
import re
import signal
import subprocess
import time

HANG_S = 120  # only detects hangs
EAL = "--no-pci --no-huge -m 128 --no-telemetry"


class Place:
    """A region in the guest with the broker on it, and the generator on the host that judges it."""

    def __init__(self, number, name, region, durability, lcores):
        self.number, self.name, self.region, self.durability, self.lcores = number, name, region, durability, lcores
        self.tap, self.net = f"tap{number}", f"10.77.{number}"
        self.generator, self.recoveries = None, []

    def log(self):
        return f"/tmp/{self.name}.log"

    def start(self, machine):
        """Starts the broker: does not wait."""
        machine.check(
            f"rm -f /tmp/{self.name}.*; ip link set eth{self.number} up && "
            f"start_broker {self.number} {self.name} dpdk-chainring --lcores {self.lcores} {EAL} --file-prefix {self.name} "
            f"--vdev=net_af_packet0,iface=eth{self.number} -- --region {self.region} --size 40M --journal-size 8M "
            f"--address {self.net}.1/24 --retry-interval 1 --max-retries 100 --queue-size 4096 --max-sessions 4096 "
            f"--max-subscriptions 4096 --idle sleep --class {self.durability} &")

    def wait_ready(self, machine):
        status, _ = machine.run(
            f"until [ -e /tmp/{self.name}.pid ]; do sleep 0.05; done; pid=$(cat /tmp/{self.name}.pid); "
            f"until grep -q 'chainring: ready' {self.log()}; do kill -0 $pid || exit 1; sleep 0.05; done")
        log = machine.run(f"cat {self.log()}")[1]
        if status != 0:
            raise SystemExit(f"the broker on {self.region} did not start:\n{log}")
        found = re.search(r"region (\S+): class (\w+), (\d+) messages, .* ([0-9.]+) seconds", log)
        if not found or found.group(2) != self.durability:
            raise SystemExit(f"{self.region}: expected class {self.durability} in\n{log}")
        self.recoveries.append(int(found.group(3)))

    def kill(self, machine):
        machine.check(f"pid=$(cat /tmp/{self.name}.pid); kill -9 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.05; done")

    def stop(self, machine):
        machine.check(f"pid=$(cat /tmp/{self.name}.pid); kill -TERM $pid; while kill -0 $pid 2> /dev/null; do sleep 0.05; done; "
                      f"grep -q 'closed cleanly' {self.log()} || {{ cat {self.log()}; false; }}")

    def check_region(self, machine):
        machine.check(f"chainring-region check {self.region}")


class Generator:
    """One run of the packet generator in the namespace; its log is its ledger's moving count."""

    def __init__(self, program, directory, namespace, place, *own):
        self.place, self.started = place, time.monotonic()
        self.log = os.path.join(directory, f"gen-{place.name}-{len(os.listdir(directory))}.log")
        command = ["ip", "netns", "exec", namespace, program, "--lcores", "0@0", "--no-pci", "--no-huge", "-m", "192",
                   "--no-telemetry", "--file-prefix", f"{namespace}{place.name}",
                   f"--vdev=net_af_packet0,iface={place.tap}", "--", "--broker", f"{place.net}.1",
                   "--address", f"{place.net}.100/24", "--retry-interval", "0.5", "--report-interval", "0.2",
                   "--drain-timeout", "60", "--idle", "sleep", "--json", *own]
        with open(self.log, "wb") as to:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=to, stderr=to)

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def count(self, what):
        found = re.findall(what + r" (\d+)", self.text())
        return int(found[-1]) if found else 0

    def wait_for(self, what, more, since):
        """Until `more` than `since` are counted."""
        deadline = time.monotonic() + HANG_S
        while self.count(what) < since + more:
            if self.process.poll() is not None:
                raise SystemExit(f"the generator of {self.place.name} ended:\n{self.text()[-3000:]}")
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.place.name}: nothing is {what} any more:\n{self.text()[-3000:]}")
            time.sleep(0.02)

    def stop_publishing(self):
        self.process.send_signal(signal.SIGTERM)

    def verdict(self):
        try:
            self.process.wait(timeout=HANG_S)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"the generator of {self.place.name} hangs:\n{self.text()[-3000:]}") from None
        reports = [line for line in self.text().splitlines() if line.startswith("{")]
        if len(reports) != 1:
            raise SystemExit(f"no report of {self.place.name}, status {self.process.returncode}:\n{self.text()[-3000:]}")
        report = json.loads(reports[0])
        if report["status"] != self.process.returncode:
            raise SystemExit(f"{self.place.name}: status {self.process.returncode}, but {reports[0]}")
        return report

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
