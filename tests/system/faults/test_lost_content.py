#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Truncates the file of a region below the broker, where only messages and free blocks lie. Those
messages are damaged, everything else is served and acknowledged, and the broker says
what it lost. Real packets on a TAP port. Needs root.

  test_lost_content.py BROKER REGION_TOOL
"""
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, part) for part in ("..", "../region", "../broker")]
import own_network  # noqa: F401
from regions import Broker, run
from sn_client import ACCEPTED, CONGESTION, Client
from telemetry import Telemetry

PROGRAM, TOOL = sys.argv[1:3]
TAP = f"crl{os.getpid() % 100000}"
NET = f"10.{198 + os.getpid() % 2}.{os.getpid() % 250}"
TOPIC, COUNT = b"lost", 600


def expect(holds, *what):
    if not holds:
        raise SystemExit(" ".join(str(w) for w in ("expected", *what)))


def message(number):
    return b"".join(b"%06d " % (number * 1000 + i) for i in range(140))


def start(region):
    return Broker(PROGRAM, region, "--queue-size", "4096", "--retry-interval", "1", "--max-retries", "100",
                  "--queue-first", "0", "-i",  # the queue's one ring lies in front of the messages, so it is not cut off
                  stdin=subprocess.PIPE, vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24", telemetry=True)


def receive(subscriber, last):
    """Returns what comes up to the message `last`, each message once."""
    came = []
    while last not in came:
        kind, _ = subscriber.receive(60)
        expect(kind is not None, "more messages than", len(came), "of which the last is not", last[:7])
        came += [d for d in subscriber.got if d not in came]
        subscriber.got = []
    return came


with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="chainring-lost-") as scratch:
    region = os.path.join(scratch, "region")
    run(TOOL, "create", region, "--size", "4M", "--max-sessions", "8", "--max-subscriptions", "8", "--max-messages", "2048")
    broker = start(region).ready()
    try:
        run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
        run("ip", "link", "set", TAP, "up")
        to = (f"{NET}.1", 10000)
        subscriber, publisher, newcomer = (Client(name, to) for name in ("subscriber", "publisher", "newcomer"))
        expect(subscriber.connect() == ACCEPTED and subscriber.subscribe(TOPIC) == ACCEPTED, "a subscriber")
        subscriber.disconnect()
        publisher.connect()
        for n in range(COUNT):
            expect(publisher.publish(TOPIC, message(n)) == ACCEPTED, "message", n, "to be acknowledged")

        with open(region, "rb") as f:
            image = f.read()
        places = [image.find(message(n)) for n in range(COUNT)]
        expect(min(places) > 0, "every message in the region")
        kept = sorted(places)[COUNT * 2 // 3] // 4096 * 4096
        whole = [message(n) for n in range(COUNT) if places[n] + len(message(n)) <= kept]
        os.truncate(region, kept)

        # The messages that are left are delivered, and lost free blocks are found when they are used.
        subscriber.connect()
        came = receive(subscriber, whole[-1])
        expect(came == whole, f"the {len(whole)} messages that are there, not {len(came)}")
        more = [message(COUNT + n) for n in range(50)]
        for text in more:
            for _ in range(100):
                code = publisher.publish(TOPIC, text)
                if code != CONGESTION:
                    break
            expect(code == ACCEPTED, "an acknowledgement, not", code)
        came = receive(subscriber, more[-1])
        expect(came == more, "new messages, not", len(came), "of", len(more))
        expect(newcomer.connect() == ACCEPTED, "a new client")

        telemetry = Telemetry(broker.prefix)
        space, counters = telemetry.ask("/chainring/region"), telemetry.ask("/chainring/counters")
        expect(space["failed"] == 0 and space["lost_pages"] > 0, "lost pages and no failure, not", space)
        expect(space["blocks_free"] + space["blocks_live"] == space["blocks"], "all blocks in", space)
        expect(counters["damaged"] >= COUNT - len(whole), "the others counted as damaged in", counters)
        broker.process.stdin.write(b"show region\n")
        broker.process.stdin.flush()
        expect(broker.until("LOST: "), "the prompt to say what is lost:", broker.said())
        expect(broker.until("is gone") and region in broker.said(), "a sentence in", broker.said())
        expect(broker.end() == 0, "a clean end, not", broker.said())
        expect("pages of its memory were lost" in broker.said(), "a warning at the end of", broker.said())
        refused, said = start(region).refused()
        expect(refused == 2 and region in said, "a refusal of a file that is too short, not", said)
        print(f"cut to {kept} bytes: {len(whole)} of {COUNT} messages delivered, {counters['damaged']} damaged, "
              f"{space['lost_pages']} pages lost, {space['blocks_withheld']} blocks set aside, {len(more)} more acknowledged")
    finally:
        broker.kill()
