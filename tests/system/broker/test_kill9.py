#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 under load: every acknowledged message is delivered, none is torn, and the region passes the
check after each death. Real clients (UDP sockets) use a real port (TAP). Needs root.

  test_kill9.py BROKER REGION_TOOL DIRECTORY ROUNDS
"""
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import own_network  # noqa: F401

BROKER, TOOL, DIRECTORY, ROUNDS = sys.argv[1:4] + [int(sys.argv[4])]
TAP = f"crk{os.getpid() % 100000}"
NET = f"10.{198 + os.getpid() % 2}.{os.getpid() % 250}"
PUBLISHERS, SUBSCRIBERS = 8, 3
HANG_S = 90  # this timeout only detects hangs
AHEAD_MAX = 2000  # how many messages the subscribers, with one exchange at a time, may lag behind
CONNECT, CONNACK, REGISTER, REGACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, DISCONNECT = (
    4, 5, 0x0A, 0x0B, 0x0C, 0x0D, 0x12, 0x13, 0x16, 0x18)
TOPIC = b"load/of/everything"


def message(kind, body=b""):
    return bytes([len(body) + 2, kind]) + body


class Client:
    def __init__(self, name):
        self.name = name.encode()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.connected = False
        self.waiting = None  # the datagram and the time when it was last sent

    def send(self, datagram):
        try:
            self.sock.sendto(datagram, (f"{NET}.1", 10000))
        except OSError:
            pass  # the port is gone because the broker is

    def ask(self, datagram):
        self.waiting = [datagram, time.monotonic()]
        self.send(datagram)

    def start(self):
        self.connected = False
        self.ask(message(CONNECT, bytes([0, 1]) + struct.pack(">H", 0) + self.name))

    def poll(self):
        """Returns what has arrived, and repeats a request that had no answer for a while."""
        got = []
        while True:
            try:
                got.append(self.sock.recv(2048))
            except (BlockingIOError, ConnectionError):
                break
        if self.waiting and time.monotonic() - self.waiting[1] > 0.3:
            self.ask(self.waiting[0])
        for d in got:
            if len(d) < 2 or d[0] != len(d):
                raise SystemExit(f"the broker sent a malformed datagram: {d.hex()}")
            if d[1] == DISCONNECT:
                self.start()
            elif d[1] == CONNACK and d[2] == 0 and not self.connected:
                self.connected = True
                self.on_connected()
            else:
                self.on(d[1], d[2:])


class Publisher(Client):
    def __init__(self, number):
        super().__init__(f"publisher{number}")
        self.number, self.sequence, self.acked, self.topic = number, 0, set(), None

    def on_connected(self):
        self.ask(message(REGISTER, struct.pack(">HH", 0, 1) + TOPIC))

    def publish(self, again):
        if not again:
            self.sequence += 1
        text = struct.pack(">II", self.number, self.sequence) + bytes(
            (self.sequence * 7 + i) & 255 for i in range(40 + self.sequence % 60))
        data = text + struct.pack(">I", zlib.crc32(text))
        self.ask(message(PUBLISH, bytes([0x20]) + struct.pack(">HH", self.topic, self.sequence & 0xFFFF or 1) + data))

    def on(self, kind, body):
        if kind == REGACK and body[4] == 0:
            self.topic = struct.unpack(">H", body[:2])[0]
            self.waiting = None
            if self.sequence > 0 and self.sequence not in self.acked:
                self.publish(again=True)
        elif kind == PUBACK and self.sequence:
            if struct.unpack(">H", body[2:4])[0] != (self.sequence & 0xFFFF or 1):
                return
            if body[4] == 0:
                self.acked.add(self.sequence)
                self.waiting = None

    def poll(self):
        super().poll()
        if load and self.connected and self.waiting is None and ahead() < AHEAD_MAX:
            self.publish(again=False)


class Subscriber(Client):
    def __init__(self, number):
        super().__init__(f"subscriber{number}")
        self.got, self.doubled, self.subscribed, self.last = {}, 0, False, 0.0

    def on_connected(self):
        self.waiting = None
        if not self.subscribed:
            self.ask(message(SUBSCRIBE, bytes([0x20]) + struct.pack(">H", 1) + TOPIC))

    def poll(self):
        super().poll()
        if self.waiting is None and time.monotonic() - self.last > 0.5:
            self.last = time.monotonic()
            self.send(message(PINGREQ))  # a broker that was restarted answers DISCONNECT

    def on(self, kind, body):
        self.last = time.monotonic()
        if kind == SUBACK:
            self.subscribed, self.waiting = True, None
        elif kind == REGISTER:
            self.send(message(REGACK, body[:4] + b"\0"))
        elif kind == PUBLISH:
            data = body[5:]
            if zlib.crc32(data[:-4]) != struct.unpack(">I", data[-4:])[0]:
                raise SystemExit(f"a torn message was delivered: {data.hex()}")
            key = struct.unpack(">II", data[:8])
            self.doubled += key in self.got
            self.got[key] = True
            self.send(message(PUBACK, body[1:5] + b"\0"))


def start(region):
    log = open(os.path.join(region + ".log"), "wb")
    p = subprocess.Popen(
        [BROKER, "--lcores", "0@0,1@0", "--no-pci", "--no-huge", "-m", "256", "--no-telemetry",
         "--file-prefix", TAP, f"--vdev=net_tap0,iface={TAP}", "--", "--region", region, "--size", "64M",
         "--address", f"{NET}.1/24", "--retry-interval", "1", "--max-retries", "100", "--queue-size", "16384", "-i"],
        stdin=subprocess.PIPE, stdout=log, stderr=log)
    p.log = log.name
    deadline = time.monotonic() + HANG_S
    while b"chainring: ready" not in open(log.name, "rb").read():
        if p.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the broker did not start:\n" + open(log.name).read())
        time.sleep(0.02)
    subprocess.run(["ip", "addr", "replace", f"{NET}.2/24", "dev", TAP], check=True)
    subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
    return p


def ahead():
    """Returns about how many acknowledged messages the slowest subscriber still has to get."""
    return sum(p.sequence for p in publishers) - min(len(s.got) for s in subscribers)


def serve(seconds=None, until=None, progress=None):
    """Serves for a time, or until a condition holds; False when that and progress() stood still too long."""
    begun, seen = time.monotonic(), None
    while time.monotonic() < begun + (seconds if seconds else HANG_S):
        select.select([c.sock for c in clients], [], [], 0.05)
        for c in clients:
            c.poll()
        if until and until():
            return True
        if progress and progress() != seen:
            begun, seen = time.monotonic(), progress()
    return until is None


def ask_broker():
    """Returns what the broker says about itself, for the report of a failure."""
    broker.stdin.write(b"show sessions\nshow queues\nshow counters\nshow port stats\n")
    broker.stdin.flush()
    time.sleep(1)
    with open(broker.log, errors="replace") as f:
        return f.read()[-6000:]


seed = int(os.environ.get("CHAINRING_SEED", random.randrange(1 << 30)))
print(f"CHAINRING_SEED={seed}", flush=True)
choose = random.Random(seed)
load = True
with tempfile.TemporaryDirectory(dir=DIRECTORY) as scratch:
    region = os.path.join(scratch, "region")
    publishers = [Publisher(i) for i in range(PUBLISHERS)]
    subscribers = [Subscriber(i) for i in range(SUBSCRIBERS)]
    clients = publishers + subscribers
    broker = start(region)
    try:
        for s in subscribers:
            s.start()
        if not serve(until=lambda: all(s.subscribed for s in subscribers)):
            raise SystemExit("the SUBACKs did not come")
        for p in publishers:
            p.start()
        for n in range(ROUNDS):
            before = sum(len(p.acked) for p in publishers)
            if not serve(until=lambda: sum(len(p.acked) for p in publishers) > before + 20):
                raise SystemExit("no message is acknowledged")
            serve(seconds=choose.uniform(0.0, 0.3))
            broker.send_signal(signal.SIGKILL)
            broker.wait()
            check = subprocess.run([TOOL, "check", region], capture_output=True, text=True)
            if check.returncode != 0:
                raise SystemExit(f"after kill {n + 1}, the check of the region says:\n{check.stdout}{check.stderr}")
            broker = start(region)
        load = False
        quiet = lambda: all(p.waiting is None for p in publishers)
        if not serve(until=quiet):
            raise SystemExit("the last messages were never acknowledged")
        acked = {(p.number, q) for p in publishers for q in p.acked}
        if not serve(until=lambda: all(acked <= s.got.keys() for s in subscribers),
                     progress=lambda: sum(len(s.got) for s in subscribers)):
            for s in subscribers:
                missing = sorted(acked - s.got.keys())
                print(s.name, "misses", len(missing), "of", len(acked), missing[:5], "connected:", s.connected,
                      "waiting:", s.waiting)
            print(ask_broker())
            raise SystemExit("acknowledged messages are lost")
        sent = {(p.number, q) for p in publishers for q in range(1, p.sequence + 1)}
        for s in subscribers:
            if not set(s.got) <= sent:
                raise SystemExit(f"messages were delivered that were never sent: {sorted(set(s.got) - sent)[:20]}")
        broker.terminate()
        if broker.wait(timeout=HANG_S) != 0:
            raise SystemExit("the broker did not close cleanly")
        print(f"{ROUNDS} kills, {len(acked)} acknowledged, {sum(len(s.got) for s in subscribers)} delivered, "
              f"0 lost, 0 torn, {sum(s.doubled for s in subscribers)} delivered again")
    finally:
        if broker.poll() is None:
            broker.kill()
            broker.wait()
