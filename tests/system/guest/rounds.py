# SPDX-License-Identifier: BSD-3-Clause
"""Brokers in the guest, generators on the host, and the rounds of kills and resets."""
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "protocol"))
from load import WILL_GRACE_S
from load_process import LoadProcess

HANG_S = 360  # this timeout only detects hangs
EAL = "--no-pci --no-huge -m 128 --no-telemetry"
PRELOAD = "/bin/liblying_sync.so"
LOAD = ["-p", "8", "-s", "4", "-t", "2", "--payload", "36-700"]
RATE = ["--rate", "300"]
PROTOCOLS = ["mqtt-sn", "mqtt5", "mqtt"]


class Place:
    """A region in the guest with the broker on it, and the generator on the host that judges it."""

    def __init__(self, number, name, region, durability, lcores, may_lie=False):
        self.number, self.name, self.region, self.durability, self.lcores = number, name, region, durability, lcores
        self.tap, self.net, self.may_lie = f"tap{number}", f"10.77.{number}", may_lie
        self.tap_index, self.recoveries, self.lives = 0, [], 0

    def log(self):
        return f"/tmp/{self.name}.log"

    def start(self, machine):
        """Starts the broker and does not wait for it."""
        env = f"env LD_PRELOAD={PRELOAD} " if self.may_lie else ""
        size = "" if self.region.startswith("/dev/dax") else "--size 40M "  # a device has a size of its own
        machine.check(
            f"rm -f /tmp/{self.name}.*; ip link set eth{self.number} up && "
            f"start_broker {self.number} {self.name} {env}dpdk-chainring --lcores {self.lcores} {EAL} "
            f"--file-prefix {self.name} --vdev=net_af_packet0,iface=eth{self.number} -- "
            f"--region {self.region} {size}--journal-size 8M "
            f"--address {self.net}.1/24 --listen mqtt:// --retry-interval 1 --max-retries 100 --queue-size 8192 "
            f"--max-sessions 256 --max-subscriptions 256 --will-grace {WILL_GRACE_S} --idle sleep --class {self.durability} &")

    def wait_ready(self, machine):
        log, deadline = "", time.monotonic() + HANG_S
        while "chainring: ready" not in log:
            status, log = machine.run(f"cat {self.log()} 2>&1; [ ! -e /tmp/{self.name}.pid ] || "
                                      f"kill -0 $(cat /tmp/{self.name}.pid)")
            if status != 0 or time.monotonic() > deadline:
                _, state = machine.run("ps; cat /tmp/*.pid; dmesg | tail -20")
                raise SystemExit(f"the broker on {self.region} {'hangs' if status == 0 else 'did not start'}:\n{log}\n{state}")
            time.sleep(0.1)
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
    """One phase of the packet generator in the namespace. The ledger stays between phases: the first phase
    makes it, and the later ones continue from it. Each phase at a place speaks another protocol than the one before,
    and so do the places at one time: what one protocol has published, another one collects."""

    def __init__(self, program, directory, namespace, place, phase, *own):
        self.place, self.phase = place, phase
        self.protocol = PROTOCOLS[(place.number + place.lives) % len(PROTOCOLS)]
        place.lives += 1
        self.log = os.path.join(directory, f"gen-{place.name}-{place.lives}-{phase}.log")
        ledger = os.path.join(directory, place.name + ".ledger")
        command = ["ip", "netns", "exec", namespace, program, "--lcores", "0@0", "--no-pci", "--no-huge", "-m", "192",
                   "--no-telemetry", "--file-prefix", f"{namespace}{place.name}",
                   f"--vdev=net_af_packet0,iface={place.tap}", "--", "--broker", f"{place.net}.1",
                   "--address", f"{place.net}.100/24", "--protocol", self.protocol, "--retry-interval", "0.25", "--report-interval", "0.2",
                   "--idle", "sleep", "--json", "--phase", phase, "--ledger", ledger,
                   *(["--resume"] if os.path.exists(ledger) else LOAD), *own]
        if "--drain-timeout" not in own:
            command += ["--drain-timeout", "240"]  # this timeout detects hangs; a slow boot is not one
        with open(self.log, "wb") as to:
            while True:  # like start_broker; `read` waits until the process id is found to fit
                self.process = subprocess.Popen(["sh", "-c", 'read -r _ && exec "$@"', "sh", *command],
                                                stdin=subprocess.PIPE, stdout=to, stderr=to)
                if (self.process.pid ^ place.tap_index) & 3 == place.number:
                    break
                self.kill()
            self.process.stdin.write(b"go\n")
            self.process.stdin.close()

    def text(self, last=0):
        with open(self.log, "rb") as f:
            if last:
                f.seek(max(0, os.path.getsize(self.log) - last))
            return f.read().decode(errors="replace")

    def over(self):
        return self.process.poll() is not None

    def count(self, what):
        """Returns the count in the newest report, or None before the first report."""
        found = re.findall(rf"\b{what} (\d+) \(", self.text(2000))
        return int(found[-1]) if found else None

    def wait_for(self, what, more, or_over=False):
        """Waits until `more` than now are counted, and returns that count."""
        deadline, since = time.monotonic() + HANG_S, None
        while True:
            now = self.count(what)
            if since is None:
                since = now
            if now is not None and now >= since + more:
                return now
            if self.over():
                if or_over:
                    return now
                raise SystemExit(f"the generator of {self.place.name} ended:\n{self.text(3000)}")
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.place.name}: no message is {what} any more:\n{self.text(3000)}")
            time.sleep(0.05)

    def stop_publishing(self):
        self.process.send_signal(signal.SIGTERM)

    def verdict(self):
        try:
            self.process.wait(timeout=HANG_S)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"the generator of {self.place.name} hangs:\n{self.text(3000)}") from None
        reports = [line for line in self.text().splitlines() if line.startswith("{")]
        if len(reports) != 1:
            raise SystemExit(f"no report of {self.place.name}, status {self.process.returncode}:\n{self.text(3000)}")
        report = json.loads(reports[0])
        if report["status"] != self.process.returncode:
            raise SystemExit(f"{self.place.name}: status {self.process.returncode}, but {reports[0]}")
        return report

    def kill(self):
        if not self.over():
            self.process.kill()
            self.process.wait()


def mount(machine):
    machine.check("mount -t ext4 -o dax=always /dev/pmem0 /pmem && mount -t ext4 /dev/vda /disk")
    # Without a cache in the model of the disk no write could be lost.
    machine.check("grep -q 'write back' /sys/block/vda/queue/write_cache")


class Rounds:
    """The guest, its disk, and the kills and resets. `say` prints a line of progress."""

    KINDS = ["power cut", "kill -9", "power cut", "system_reset", "power cut while starting"]

    def __init__(self, machine, disk, generate, choose, say):
        self.machine, self.disk, self.generate, self.choose, self.say = machine, disk, generate, choose, say
        self.counts = dict.fromkeys(self.KINDS, 0)
        self.running, self.loads = [], []

    def resets(self):
        return sum(n for kind, n in self.counts.items() if kind != "kill -9")

    def start_brokers(self, places):
        for place in places:
            place.start(self.machine)
        for place in places:
            place.wait_ready(self.machine)

    def run_phase(self, places, phase, *own, wanted=(0,), each=lambda generators: None):
        """Runs one phase of every place's generator, with `each` while they run. Returns their reports."""
        self.running = [self.generate(p, phase, *own) for p in places]
        each(self.running)
        reports = [g.verdict() for g in self.running]
        for g, r in zip(self.running, reports):
            r["protocol"] = g.protocol
            if r["status"] not in wanted:
                raise SystemExit(f"{g.place.name}, phase {phase}: {r}\n{g.text(3000)}")
        self.running = []
        return reports

    def power_cut(self, wait_s=2):
        lost, kept = self.disk.cut(self.choose.randrange(1, 6), wait_s)
        self.machine.kill()
        self.disk.power_on()
        self.machine.start()
        return f"of the unflushed sectors {lost} lost, {kept} kept"

    def strike(self, kind, places, progress):
        """Makes one kill or reset, checks every region, and starts the brokers again."""
        detail = "each broker"
        if kind == "kill -9":
            for place in places:
                place.kill(self.machine)
        else:
            if kind == "system_reset":
                self.machine.system_reset()
                detail = "the disk kept its cache"
            else:
                if kind == "power cut while starting":
                    for place in places:
                        place.kill(self.machine)
                    for place in places:
                        place.start(self.machine)
                # The first writes after a start are those of the recovery.
                detail = self.power_cut(8 if kind == "power cut while starting" else 2)
            mount(self.machine)
        self.counts[kind] += 1
        for place in places:
            place.check_region(self.machine)
        self.start_brokers(places)
        self.say(f"{kind}, reset {self.resets()}: {detail}; regions check clean; {progress}; messages found: "
                 f"{', '.join(str(p.recoveries[-1]) for p in places)}")

    def under(self, what, more, until_resets, places, generators, or_over=False):
        """Makes kills and resets in the middle of the load until so many resets were made."""
        while self.resets() < until_resets:
            at = [g.wait_for(what, more, or_over) for g in generators]
            if all(g.over() for g in generators):
                return  # a reset now would come without load
            time.sleep(self.choose.uniform(0, 0.7))
            kind = self.KINDS[sum(self.counts.values()) % len(self.KINDS)]
            self.strike(kind, places, f"{what} " + ", ".join(map(str, at)))

    def protocol(self, places, namespace, parts, resets):
        """Makes so many resets, with the kills between them, under the load of tests/system/protocol. Its ledger
        must hold at the end."""
        for place in places:  # the kernel's sockets have an address of their own beside the generator's
            subprocess.run(["ip", "-n", namespace, "addr", "add", f"{place.net}.99/24", "dev", place.tap], check=True)
        self.loads = [LoadProcess(f"{p.net}.1", 10000, self.choose.randrange(1 << 30), parts, "protocol/",
                                  ["ip", "netns", "exec", namespace]) for p in places]
        self.step("start")
        until = self.resets() + resets
        while self.resets() < until:
            progress = self.step("before")
            time.sleep(self.choose.uniform(0, 0.7))
            self.strike(self.KINDS[sum(self.counts.values()) % len(self.KINDS)], places, "; ".join(progress))
            self.step("after")
        self.step("finish")
        for place, load in zip(places, self.loads):
            self.say(f"{place.name}, the protocol's ledger: " + load.report().replace("\n", "; "))
        self.loads = []
        for place in places:
            subprocess.run(["ip", "-n", namespace, "addr", "del", f"{place.net}.99/24", "dev", place.tap], check=True)

    def step(self, step):
        for load in self.loads:
            load.begin(step)
        return [load.end(step) for load in self.loads]

    def kill_generators(self):
        for g in self.running + self.loads:
            g.kill()
