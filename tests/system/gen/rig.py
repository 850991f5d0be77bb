# SPDX-License-Identifier: BSD-3-Clause
"""What the generator's tests have in common: starting the programs, their ports, and the verdict."""
import json
import os
import select
import subprocess
import tempfile
import time

HANG_S = 60  # this timeout only detects hangs
BROKER_MAC = "02:00:00:00:10:01"
EAL = ["--no-pci", "--no-huge", "-m", "192"]


def fail(*what):
    raise SystemExit(" ".join(str(w) for w in what))


def expect(holds, *what):
    if not holds:
        fail("expected", *what)


class Rig:
    """A scratch directory, a broker and generators, which all end with this object."""

    def __init__(self, generator, broker=None, tool=None, directory=None):
        self.generator_path, self.broker_path, self.tool = generator, broker, tool
        self.scratch = tempfile.TemporaryDirectory(dir=directory)
        self.dir = self.scratch.name
        self.region = os.path.join(self.dir, "region")
        self.prefix = f"crgen{os.getpid()}"
        self.processes, self.brokers = [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
                p.wait()
        self.scratch.cleanup()

    def memif(self, role):
        mac = f",mac={BROKER_MAC}" if role == "server" else ""
        return f"--vdev=net_memif0,role={role},id=1,socket-abstract=no,socket={self.dir}/memif{mac}"

    def spawn(self, command, log, **how):
        with open(log, "wb") as to:
            p = subprocess.Popen(command, stdout=to, stderr=subprocess.STDOUT, **how)
        p.log = log
        self.processes.append(p)
        return p

    def start_broker(self, *own, vdev=None, lcores="0@0,1@0", netns=None, **how):
        self.brokers += 1
        if os.path.exists(self.dir + "/memif"):
            os.unlink(self.dir + "/memif")  # a killed broker leaves its socket behind
        how.setdefault("stdin", subprocess.DEVNULL)
        p = self.spawn(
            [*inside(netns), self.broker_path, "--lcores", lcores, *EAL, "--no-telemetry", "--file-prefix", self.prefix + "b",
             vdev or self.memif("server"), "--", "--region", self.region, "--size", "128M", "--address",
             "10.77.0.1/24", "--retry-interval", "1", "--max-retries", "100", *own],
            os.path.join(self.dir, f"broker{self.brokers}.log"), **how)
        until(lambda: "chainring: ready" in text(p.log) or p.poll() is not None, "the broker is ready")
        expect(p.poll() is None, "a running broker, not", tail(p.log))
        return p

    def end_broker(self, p):
        p.terminate()
        expect(p.wait(timeout=HANG_S) == 0, "a clean close of the broker, not", tail(p.log))
        self.check_region()

    def check_region(self):
        done = subprocess.run([self.tool, "check", self.region], capture_output=True, text=True)
        expect(done.returncode == 0, "an intact region, not", done.stdout, done.stderr)

    def start_generator(self, *own, vdev=None, broker="10.77.0.1", address="10.77.0.100/24", netns=None):
        number = len(self.processes)
        return self.spawn(
            [*inside(netns), self.generator_path, "--lcores", "0@1", *EAL, "--no-telemetry", "--file-prefix",
             f"{self.prefix}g{number}", vdev or self.memif("client"), "--", "--broker", broker, "--address", address,
             "--retry-interval", "0.3", "--idle", "sleep", "--json", *own],
            os.path.join(self.dir, f"generator{number}.log"), stdin=subprocess.DEVNULL)

    def generate(self, *own, **how):
        return verdict(self.start_generator(*own, **how))


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def inside(netns):
    return ["ip", "netns", "exec", netns] if netns else []


class Namespace:
    """A network namespace without IPv6, so that the kernel sends nothing of its own on any link."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        ip("netns", "add", self.name)
        subprocess.run([*inside(self.name), "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
                        "net.ipv6.conf.default.disable_ipv6=1"], check=True)
        return self.name

    def __exit__(self, *_):
        ip("netns", "del", self.name)


def text(path):
    with open(path, errors="replace") as f:
        return f.read()


def tail(path):
    return "\n".join(text(path).splitlines()[-12:])


def until(holds, what):
    deadline = time.monotonic() + HANG_S
    while not holds():
        if time.monotonic() > deadline:
            fail("timed out waiting until", what)
        time.sleep(0.02)


def verdict(p):
    """Waits for a generator and returns its final report, whose status must be the exit status."""
    try:
        p.wait(timeout=HANG_S)
    except subprocess.TimeoutExpired:
        fail("the generator hangs:\n" + tail(p.log))
    lines = [line for line in text(p.log).splitlines() if line.startswith("{")]
    expect(len(lines) == 1, "one report, not status", p.returncode, "and\n" + tail(p.log))
    report = json.loads(lines[0])
    expect(report["status"] == p.returncode, "exit status", report["status"], "not", p.returncode)
    return report


def check(report, what, **wanted):
    """Checks that the report holds these values."""
    wrong = {k: report[k] for k, v in wanted.items() if report[k] != v}
    expect(not wrong, what + ":", wanted, "not", wrong, "in", json.dumps(report))
    print(f"{what}: {report['verdict']}; {report['acked_per_s']:.0f} acked/s, "
          f"{report['delivered_per_s']:.0f} delivered/s, ack p99 {report['ack_latency_us']['p99']:.0f} us", flush=True)
