#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""chainring-region compacts the region of a broker that has ended: the free blocks form longer runs. The program is killed while it moves messages; the region is clean all the same, a second call goes on, and a broker
delivers every message. Then the region becomes shorter than its last message allowed. Needs root.

  test_compact.py BROKER REGION_TOOL DIRECTORY
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "broker")]
import own_network  # noqa: F401
from regions import Broker, run
from sn_client import ACCEPTED, Client

PROGRAM, TOOL, DIRECTORY = sys.argv[1:4]
TAP = f"crc{os.getpid() % 100000}"
NET = f"10.{196 + os.getpid() % 2}.{os.getpid() % 250}"
SMALL, LARGE = 200, 1300  # octets: one block, and six
SMALLS, LARGES, AGAIN = 1000, 100, 500
TRIES = 20


def expect(holds, *what):
    if not holds:
        raise SystemExit("expected " + " ".join(str(w) for w in what))


def text(number, octets):
    return f"m{number} ".encode().ljust(octets, b"%c" % (97 + number % 26))


class Served:
    """A broker on a TAP port that serves the region."""

    def __init__(self, region):
        self.broker = Broker(PROGRAM, region, "--queue-size", "8192", vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24")

    def __enter__(self):
        self.broker.ready()
        run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
        run("ip", "link", "set", TAP, "up")
        return self

    def __exit__(self, failed, *_):
        status = None if failed else self.broker.end()
        self.broker.__exit__()
        expect(failed or status == 0, "a clean end of the broker, not", status)

    def client(self, name):
        c = Client(name, (f"{NET}.1", 10000))
        expect(c.connect() == ACCEPTED, "a connection of", name)
        return c


def received(reader, wanted):
    while len(reader.got) < len(wanted):
        expect(reader.receive(60)[0] is not None, len(wanted), "deliveries, not", len(reader.got))
    expect(reader.got == wanted, "every message once, in order, not", len(reader.got))


def figures(said, when):
    found = re.search(when + r": (\d+) of (\d+) blocks free in (\d+) runs, the longest (\d+), ([\d.]+) chains a message of (\d+)", said)
    expect(found, "the figures of", when, "in", said)
    return [float(f) for f in found.groups()]


def cut_off(region):
    """Kills a compaction behind its first move. False: it had ended before."""
    p = subprocess.Popen([TOOL, "compact", region], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first = p.stdout.readline()
    p.kill()
    rest = p.communicate()[0]
    expect("messages were moved in" in first, "progress, not", first + rest)
    return "after:" not in rest


with tempfile.TemporaryDirectory(dir=DIRECTORY) as scratch:
    region = os.path.join(scratch, "region")
    run(TOOL, "create", region, "--size", "2M", "--max-sessions", "16", "--max-subscriptions", "16", "--max-messages", "4096")
    with Served(region) as s:
        readers = {name: s.client(name) for name in ("first", "second")}
        for name, reader in readers.items():
            expect(reader.subscribe(name.encode()) == ACCEPTED, "a subscription")
            reader.disconnect()
        writer = s.client("writer")
        for number in range(SMALLS):  # messages of two readers lie side by side
            for topic in (b"first", b"second"):
                expect(writer.publish(topic, text(number, SMALL)) == ACCEPTED, "an accepted message")
        expect(readers["second"].connect() == ACCEPTED, "a connection")
        received(readers["second"], [text(n, SMALL) for n in range(SMALLS)])
        readers["second"].disconnect()
        for number in range(LARGES):
            expect(writer.publish(b"second", text(number, LARGE)) == ACCEPTED, "an accepted message")
    # A kill in the middle, for as often as the program is quicker than the kill.
    whole = os.path.join(scratch, "whole")
    shutil.copy(region, whole)
    for attempt in range(TRIES):
        if cut_off(region):
            break
        shutil.copy(whole, region)
    else:
        raise SystemExit(f"none of {TRIES} compactions was cut off")
    expect("clean" in run(TOOL, "check", region, status=0), "a clean region")
    said = run(TOOL, "compact", region, status=0)
    after = figures(said, "after")
    said = run(TOOL, "compact", whole, status=0)
    before = figures(said, "before")
    expect(after[5] == before[5] == SMALLS + LARGES, "all messages, not", said)
    expect(after[2] < before[2] / 4 and after[4] == 1.0, "fewer free runs and one chain a message, not", said)
    expect("clean" in run(TOOL, "check", region, status=0), "a clean region")

    # A broker delivers everything, and leaves messages at the end of the region.
    with Served(region) as s:
        reader = s.client("second")
        received(reader, [text(n, LARGE) for n in range(LARGES)])
        reader.disconnect()
        reader = s.client("first")
        received(reader, [text(n, SMALL) for n in range(SMALLS)])
        writer = s.client("writer")
        for number in range(AGAIN):
            expect(writer.publish(b"second", text(number, LARGE)) == ACCEPTED, "an accepted message")
        reader = s.client("second")
        while len(reader.got) < AGAIN - 50:
            expect(reader.receive(60)[0] is not None, "a delivery")
    # The size that is asked for is possible, or the one that the refusal names.
    said = run(TOOL, "resize", region, "--size", "1M", status=None)
    if "ask for" in said:
        size = re.search(r"ask for (\d+) bytes", said).group(1)
        expect(1 << 20 < int(size) < 2 << 20, "a size that is smaller, not", said)
        said = run(TOOL, "resize", region, "--size", size, status=0)
    expect("2097152 before" in said, "a region that became shorter, not", said)
    expect("clean" in run(TOOL, "check", region, status=0), "a clean region")
    with Served(region) as s:
        reader = s.client("second")
        while text(AGAIN - 1, LARGE) not in reader.got:
            expect(reader.receive(60)[0] is not None, "a delivery of the last message")
print(f"{before[2]:.0f} free runs before and {after[2]:.0f} after; {said.strip()}; all checks hold")
