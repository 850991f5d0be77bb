#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""--rx-in-region: a broker whose ports receive into its region delivers payloads of every length whole, under way, from
its queues and retained, and again after a restart and a kill; what is too short is copied; a region or a port that
cannot do it is refused. Real clients use a TAP port. Needs root.

  test_rx_in_region.py BROKER REGION_TOOL DIRECTORY
"""
import os
import signal
import struct
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker, run
from sn_client import ACCEPTED, HANG_S, PUBACK, PUBLISH, Client, encode
from telemetry import Telemetry

PROGRAM, TOOL, DIRECTORY = sys.argv[1:4]
TAP = f"crx{os.getpid() % 100000}"
NET = f"10.{196 + os.getpid() % 2}.{os.getpid() % 250}"
TO = (f"{NET}.1", 10000)
LARGEST = 1500 - 28 - 9  # the packet of the port without IPv4, UDP and the header of a long PUBLISH
LENGTHS = [1, 64, 256, 1024, LARGEST]


def start(region, *arguments):
    b = Broker(PROGRAM, region, *arguments, vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24", telemetry=True).ready()
    run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
    run("ip", "link", "set", TAP, "up")
    return b


def expect(true, what, said=""):
    if not true:
        raise SystemExit(f"{what}\n{said}")


def payload(length, seed):
    return bytes((i * 7 + seed * 31 + i // 251) % 256 for i in range(length))


def retain(client, name, data):
    """Publishes a retained message; the topic is registered."""
    mine = client.next_id()
    body = client.ask(encode(PUBLISH, b"\x30" + client.topics[name] + mine + data),
                      lambda kind, b: kind == PUBACK and b[2:4] == mine)
    return body[4]


def take(client, wanted):
    """The next deliveries, as many as `wanted`; one that comes twice in a row counts once."""
    got = []
    for _ in range(1000):
        for data in client.got:
            if got[-1:] != [data]:
                got.append(data)
        client.got = []
        if len(got) >= len(wanted):
            break
        client.receive(HANG_S / 100)
    return got


def counters(b):
    return Telemetry(b.prefix).ask("/chainring/counters")


def test_delivered(least, in_place):
    """`in_place`: how many of the lengths are taken with --rx-in-region `least`."""
    region = os.path.join(scratch, f"region{least}")
    sent = [payload(n, seed) for seed, n in enumerate(LENGTHS)]
    arguments = ["--size", "96M", "--block-size", "2048", "--rx-in-region", str(least)]
    with start(region, *arguments) as b:
        publisher, here, away, other = (Client(n, TO) for n in ("publisher", "here", "away", "other"))
        for c in (publisher, here, away, other):
            expect(c.connect() == ACCEPTED, "a client is refused")
        for c, name in ((here, b"one"), (away, b"one/two/three"), (here, b"both"), (other, b"both")):
            expect(c.subscribe(name) == ACCEPTED, "refused")
        away.disconnect()
        for name in (b"one", b"one/two/three", b"both", b"kept"):
            for data in sent:
                expect(publisher.publish(name, data) == ACCEPTED, f"{name}: {len(data)} octets are refused")
        expect(take(here, sent * 2) == sent * 2 and take(other, sent) == sent, "what was delivered at once is not what was sent")
        expect(retain(publisher, b"kept", sent[3]) == ACCEPTED, "refused")
        c = counters(b)
        # A client that waits for long repeats its PUBLISH.
        wanted, most = 3 * in_place + 1, 3 * in_place + 1 + c["published_qos1"] - 4 * len(LENGTHS) - 1
        expect(wanted <= c["received_in_place"] <= most and c["received_copied"] == 0, f"expected {wanted} taken", c)
        b.process.send_signal(signal.SIGTERM)
        expect(b.process.wait(HANG_S) == 0, "the broker did not end cleanly", b.said())
    run(TOOL, "check", region)
    with start(region, *arguments) as b:
        expect(away.connect() == ACCEPTED, "refused")
        expect(take(away, sent[:2]) == sent[:2], "what was in the queue is not what was sent")
        b.process.kill()
        b.process.wait(HANG_S)
    run(TOOL, "check", region)
    with start(region, "--size", "96M") as b:  # and without the option
        expect(away.connect() == ACCEPTED, "refused")
        left = take(away, sent[2:])
        if left[0] == sent[1]:  # its PUBACK came when the broker was dead
            left = left[1:] + take(away, sent[-1:])
        expect(left == sent[2:], "what was left in the queue is not what was sent", [len(x) for x in left])
        expect(here.connect() == ACCEPTED and here.subscribe(b"kept") == ACCEPTED, "refused")
        expect(take(here, [sent[3]]) == [sent[3]], "the retained message is another one")


def test_region_without_room():
    """A region that has become full opens all the same, and its payloads are copied."""
    region = os.path.join(scratch, "small")
    with start(region, "--size", "16M", "--block-size", "2048", "--rx-in-region", "0") as b:
        expect("no room for" in b.said() and "--size" in b.said(), "nothing is said about the room", b.said())
        a = Client("alone", TO)
        expect(a.connect() == ACCEPTED and a.subscribe(b"a") == ACCEPTED and a.publish(b"a", b"text" * 300) == ACCEPTED and
               take(a, [b""]) == [b"text" * 300], "a message did not come")
        expect(counters(b)["received_in_place"] == 0, "a payload was taken")


def test_refusals():
    def refused(arguments, *words, vdev="net_null0,no-rx=1"):
        region = os.path.join(scratch, "refused")
        b = Broker(PROGRAM, region, "--size", "96M", *arguments, vdev=vdev)
        expect(b.process.wait(HANG_S) == 2, f"{arguments} is not refused", b.said())
        for word in ("--rx-in-region", *words):
            expect(word in b.said(), f"{arguments}: the refusal does not say '{word}'", b.said())
        if os.path.exists(region):
            os.remove(region)

    refused(["--rx-in-region", "1024"], "blocks of 256 bytes", "--block-size 2048")
    refused(["--rx-in-region", "1024", "--block-size", "2048", "--mtu", "3000"], "--block-size 4096")
    refused(["--rx-in-region", "1024", "--block-size", "4096", "--mtu", "9000"], "--mtu", "at most 3888")
    refused(["--rx-in-region", "1024", "--block-size", "2048"], "net_memif", vdev="net_memif0")


with tempfile.TemporaryDirectory(dir=DIRECTORY, prefix="chainring-rx-") as scratch:
    test_delivered(0, 5)
    test_delivered(1024, 2)
    test_region_without_room()
    test_refusals()
print("payloads that were received into the region are whole")
