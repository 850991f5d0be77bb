#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Fills a region to its last block. Publishers receive "congestion", and nothing acknowledged is lost,
even when the broker is killed while the region is full. When the subscriber has its messages, service
goes on. Real packets on a TAP port. Needs root.

  test_full.py BROKER REGION_TOOL DIRECTORY
"""
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker, run
from sn_client import ACCEPTED, CONGESTION, HANG_S, Client
from telemetry import Telemetry

PROGRAM, TOOL, DIRECTORY = sys.argv[1:4]
TAP = f"crf{os.getpid() % 100000}"
NET = f"10.{196 + os.getpid() % 2}.{os.getpid() % 250}"
TOPIC = b"full"
seed = int(os.environ.get("CHAINRING_SEED", random.randrange(1 << 30)))
print(f"CHAINRING_SEED={seed}", flush=True)
choose = random.Random(seed)


def start(region):
    b = Broker(PROGRAM, region, "--queue-size", "4096", "--retry-interval", "1", "--max-retries", "100", "-i",
               stdin=subprocess.PIPE, vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24", telemetry=True).ready()
    run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
    run("ip", "link", "set", TAP, "up")
    return b


def message(number, size):
    text = struct.pack(">I", number) + bytes((number * 7 + i) & 255 for i in range(size - 8))
    return text + struct.pack(">I", zlib.crc32(text))


def number_of(data):
    if zlib.crc32(data[:-4]) != struct.unpack(">I", data[-4:])[0]:
        raise SystemExit(f"torn: {data.hex()}")
    return struct.unpack(">I", data[:4])[0]


def drain(subscriber, wanted):
    """Receives until every number of `wanted` has come. Returns the numbers in the order of arrival."""
    came, end = [], time.monotonic() + HANG_S
    while not wanted <= set(came):
        if time.monotonic() > end:
            raise SystemExit(f"acknowledged and lost: {sorted(wanted - set(came))[:20]}")
        subscriber.receive(1)
        came += [number_of(d) for d in subscriber.got]
        subscriber.got = []
    return came


def fill(publishers, first, sizes):
    """Publishes until congestion. Returns the acknowledged numbers and the next free number."""
    acked, number = set(), first
    while True:
        code = publishers[number % len(publishers)].publish(TOPIC, message(number, choose.choice(sizes)))
        if code == CONGESTION:
            return acked, number + 1
        if code != ACCEPTED:
            raise SystemExit(f"PUBACK with return code {code}")
        acked.add(number)
        number += 1
        if number - first > 10000:
            raise SystemExit("a region this small took 10,000 messages")


def check_clean(region):
    said = run(TOOL, "check", region, status=None)
    if "clean" not in said:
        raise SystemExit(f"check says:\n{said}")


with tempfile.TemporaryDirectory(dir=DIRECTORY, prefix="chainring-full-") as scratch:
    region = os.path.join(scratch, "region")
    said = run(TOOL, "create", region, "--size", "512K", "--journal-size", "1M", "--max-sessions", "8",
               "--max-subscriptions", "8", "--max-messages", "2048")
    blocks = int(said.split(" blocks ")[0].split()[-1])
    broker = start(region)
    try:
        to = (f"{NET}.1", 10000)
        subscriber = Client("subscriber", to)
        if subscriber.connect() != ACCEPTED or subscriber.subscribe(TOPIC) != ACCEPTED:
            raise SystemExit("the subscriber is refused")
        subscriber.disconnect()
        publishers = [Client(f"publisher{i}", to) for i in range(3)]
        for p in publishers:
            p.connect()
        # Long messages come first, then the shortest ones until no block is left.
        acked, number = fill(publishers, 1, [40, 300, 900, 1200])
        more, number = fill(publishers, number, [40])
        acked |= more
        space = Telemetry(broker.prefix).ask("/chainring/region")
        if space["blocks_free"] != 0 or space["blocks_live"] != blocks:
            raise SystemExit(f"the broker reports congestion although blocks are left: {space}")
        refused, number_refused = 0, number
        for p in publishers * 5:  # publishing stays refused, and nothing else is
            number += 1
            if p.publish(TOPIC, message(number, 40)) != CONGESTION:
                raise SystemExit("a message was acknowledged although no block is free")
            refused += 1
        other = Client("newcomer", to)
        if other.connect() != ACCEPTED:
            raise SystemExit("a full region refuses connections")
        other.disconnect()

        broker.end(signal.SIGKILL)
        check_clean(region)
        broker.kill()
        broker = start(region)
        space = Telemetry(broker.prefix).ask("/chainring/region")
        if space["messages_live"] != len(acked) or space["blocks_free"] != 0:
            raise SystemExit(f"after the kill, {len(acked)} acknowledged: {space}")
        if subscriber.connect() != ACCEPTED:
            raise SystemExit("the subscriber is refused after the kill")
        came = drain(subscriber, acked)
        ghosts = set(came) - acked
        if ghosts:
            raise SystemExit(f"delivered and never acknowledged: {sorted(ghosts)}")
        if sorted(set(came)) != sorted(acked) or [n for i, n in enumerate(came) if n not in came[:i]] != sorted(acked):
            raise SystemExit("out of order")

        for p in publishers:
            p.topics = {}
            if p.connect() != ACCEPTED:
                raise SystemExit("a publisher is refused after the drain")
        subscriber.disconnect()
        again, number = fill(publishers, number + 1, [40, 300, 900, 1200])
        if len(again) < len(acked) // 4:
            raise SystemExit(f"only {len(again)} messages fit after the drain, {len(acked)} did before")
        subscriber.connect()
        drain(subscriber, again)
        # The region is full again. It grows while it is served, and then accepts messages.
        subscriber.disconnect()
        acked, number = fill(publishers, number + 1, [40])
        broker.process.stdin.write(b"grow region 1M\n")
        broker.process.stdin.flush()
        if not broker.until("the region has 1048576 bytes"):
            raise SystemExit(f"the region does not grow:\n{broker.said()}")
        more = 0
        while publishers[0].publish(TOPIC, message(number, 40)) == ACCEPTED and more < 50:
            acked.add(number)
            number, more = number + 1, more + 1
        space = Telemetry(broker.prefix).ask("/chainring/region")
        if more < 50 or space["blocks"] <= blocks:
            raise SystemExit(f"only {more} messages fit after the region grew: {space}\n{broker.said()}")
        broker.end(signal.SIGKILL)
        check_clean(region)
        broker.kill()
        broker = start(region)
        subscriber.connect()
        drain(subscriber, acked)
        if broker.end() != 0:
            raise SystemExit(f"the broker did not close cleanly:\n{broker.said()}")
        check_clean(region)
        print(f"{space['blocks']} blocks after growing, {more} more messages")
        print(f"{blocks} blocks full with {len(acked)} messages, {refused + 2} refused, killed, {len(came)} delivered, "
              f"0 lost; {len(again)} more afterwards")
    finally:
        broker.kill()
