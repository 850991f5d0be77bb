#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""chainring-region shows what lies in the region of a running broker: everything that was acknowledged before
the look, nothing that was never published, and not one octet of the file is changed. The broker goes on. Then a
message is damaged, and the others are salvaged and delivered. Real packets on a TAP port. Needs root.

  test_look.py BROKER REGION_TOOL DIRECTORY
"""
import json
import os
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "broker")]
import own_network  # noqa: F401
from regions import Broker, digest, run
from sn_client import ACCEPTED, Client

PROGRAM, TOOL, DIRECTORY = sys.argv[1:4]
TAP = f"crl{os.getpid() % 100000}"
NET = f"10.{192 + os.getpid() % 2}.{os.getpid() % 250}"
MESSAGES, LOOKS = 250, 6
ODD = 'odd "one"\\'  # an identity that has to be escaped


def expect(holds, *what):
    if not holds:
        raise SystemExit("expected " + " ".join(str(w) for w in what))


def text(number):
    return f"m{number} ".encode() + b"x" * (number * 37 % 150)


def looked(command, *options):
    """The lines of a look as JSON. It must not have found damage."""
    return [json.loads(line) for line in run(TOOL, command, region, "--json", *options, status=0).splitlines()]


def numbers_in(lines):
    found = []
    for line in lines:
        if line["kind"] == "entry" and line["queue"] == reader:
            number = int(line["content"][1:].split(" ")[0])
            expect(line["content"] == text(number).decode(), "the content that was published, not", line)
            expect(line["topic"] == "load/all", "the topic, not", line)
            found.append(number)
    return found


def state_of_file():
    s = os.stat(region)
    return digest(region), s.st_size, s.st_mtime_ns, s.st_ctime_ns


with tempfile.TemporaryDirectory(dir=DIRECTORY) as scratch:
    region = os.path.join(scratch, "region")
    small = ["--size", "16M", "--max-sessions", "64", "--max-subscriptions", "64", "--max-messages", "4096"]
    run(TOOL, "create", region, *small)
    with Broker(PROGRAM, region, "--queue-size", "4096", vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24").ready() as b:
        run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
        run("ip", "link", "set", TAP, "up")
        clients = {name: Client(name, (f"{NET}.1", 10000)) for name in ("reader", ODD, "writer")}
        for c in clients.values():
            expect(c.connect() == ACCEPTED, "a connection")
        expect(clients["reader"].subscribe(b"load/+") == ACCEPTED, "a subscription")
        clients["reader"].disconnect()
        passing = Client("passing", (f"{NET}.1", 10000))
        expect(passing.connect(clean=True) == ACCEPTED, "a connection")
        expect(passing.subscribe(b"other") == ACCEPTED, "a subscription")
        sessions = {line["identity"]: line for line in looked("sessions") if line["kind"] == "session"}
        expect(set(sessions) == {"reader", 'odd \\"one\\"\\\\', "writer", "passing"}, "four sessions, not", sessions)
        expect([s for s, line in sessions.items() if line["ends_with_connection"]] == ["passing"],
               "one that ends with its connection, not", sessions)
        expect(sessions["passing"]["subscriptions"] == 1, "its subscription, not", sessions["passing"])
        expect(clients["writer"].publish(b"other", b"to one") == ACCEPTED, "an accepted message")
        queues = [q["number"] for q in looked("queues") if q["kind"] == "queue"]
        expect(sessions["passing"]["number"] in queues, "its queue among", queues)
        expect(passing.receive(60)[0] is not None, "a delivery")
        passing.disconnect()
        expect("passing" not in [line.get("identity") for line in looked("sessions")], "an end with its connection")
        reader = sessions["reader"]["number"]
        expect(sessions["reader"]["subscriptions"] == 1, "one subscription, not", sessions["reader"])

        # Looks under traffic: between what was acknowledged before and what is published behind.
        acknowledged, begun = [-1], [0]

        def publish():
            for number in range(MESSAGES):
                begun[0] = number + 1
                if clients["writer"].publish(b"load/all", text(number)) != ACCEPTED:
                    return
                acknowledged[0] = number

        writer = threading.Thread(target=publish)
        writer.start()
        looks = 0
        while writer.is_alive() or looks < LOOKS:
            before = acknowledged[0]
            numbers = numbers_in(looked("dump", "--octets", "1000"))
            expect(numbers == list(range(len(numbers))), "messages in order, not", numbers)
            expect(before < len(numbers) <= begun[0], before + 1, "to", begun[0], "messages, not", len(numbers))
            queue = next(q for q in looked("queues") if q["kind"] == "queue" and q["number"] == reader)
            expect(len(numbers) <= queue["waiting"] <= begun[0], "a queue that grows, not", queue)
            said = run(TOOL, "info", region, status=0)
            expect("in use" in said, "a region that is in use, not", said)
            looks += 1
        writer.join()
        expect(acknowledged[0] == MESSAGES - 1, "every message acknowledged, not", acknowledged[0] + 1)

        # Nothing is stored while all is quiet, and no look stores anything either.
        before = state_of_file()
        for command in ("sessions", "queues", "dump"):
            looked(command)
            run(TOOL, command, region, status=0)
        run(TOOL, "info", region, status=0)
        expect(state_of_file() == before, "the same octets and times of the file")
        said = run(TOOL, "check", region, status=2)
        expect("open elsewhere" in said and "chainring-region dump" in said, "a check that is refused, not", said)

        # The broker goes on.
        expect(clients["reader"].connect() == ACCEPTED, "a connection")
        while len(clients["reader"].got) < MESSAGES:
            expect(clients["reader"].receive(60)[0] is not None, "a delivery")
        expect(clients["reader"].got == [text(n) for n in range(MESSAGES)], "every message once, in order")
        expect(numbers_in(looked("dump")) in ([], [MESSAGES - 1]), "an empty queue")
        clients["reader"].disconnect()
        kept = range(MESSAGES, MESSAGES + 5)
        for n in kept:
            expect(clients["writer"].publish(b"load/all", text(n)) == ACCEPTED, "an accepted message")
        expect(passing.connect(clean=True) == ACCEPTED, "a connection")
        expect(b.end() == 0, "a clean end of the broker", b.said())
    expect("passing" in [line.get("identity") for line in looked("sessions")], "what the next start deletes")
    expect("cleanly" in run(TOOL, "info", region, status=0), "a clean region")
    expect("clean" in run(TOOL, "check", region, status=0), "a clean region")
    expect(numbers_in(looked("dump", "--octets", "1000"))[-5:] == list(kept), "the messages that were kept")

    # One message is damaged. The others arrive in a new region, and a broker delivers them.
    lost = kept[2]
    with open(region, "r+b") as f:
        octets, at = f.read(), -1
        while (at := octets.find(text(lost), at + 1)) >= 0:
            f.seek(at + 6)
            f.write(b"?")
    saved, before = os.path.join(scratch, "saved"), digest(region)
    said = run(TOOL, "dump", region, status=1)
    expect("its content fails its CRC32C" in said, "the damaged message named, not", said)
    said = run(TOOL, "salvage", region, saved, status=1)
    expect(f"queue {reader}, message" in said and "its content fails its CRC32C" in said, "the lost message named, not", said)
    expect("queued messages: 4 arrived, 1 lost" in said or "queued messages: 5 arrived, 1 lost" in said, "four messages, not", said)
    expect("sessions: 3 arrived, 0 lost" in said, "three sessions, not", said)
    expect(digest(region) == before, "the source as it was")
    expect(not os.path.exists(saved + ".partial"), "nothing half-made")
    expect("it exists" in run(TOOL, "salvage", region, saved, status=2), "a target that exists refused")
    expect("clean" in run(TOOL, "check", saved, status=0), "a clean new region")

    # It becomes longer and shorter again, and keeps everything.
    records = run(TOOL, "dump", saved, "--json", status=0).splitlines()[1:]
    for size, octets in (("24M", 24 << 20), ("16M", 16 << 20)):
        expect(f"{octets} bytes" in run(TOOL, "resize", saved, "--size", size, status=0), "a region of", size)
        expect("clean" in run(TOOL, "check", saved, status=0), "a clean region of", size)
        expect(run(TOOL, "dump", saved, "--json", status=0).splitlines()[1:] == records, "the same records in", size)
    said = run(TOOL, "resize", saved, "--size", "64K", status=2)
    expect("cannot be moved" in said and "ask for" in said, "a refusal that names what lies there, not", said)
    expect(run(TOOL, "dump", saved, "--json", status=0).splitlines()[1:] == records, "the same records as before")
    with Broker(PROGRAM, saved, "--queue-size", "4096", vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24").ready() as b:
        run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
        run("ip", "link", "set", TAP, "up")
        again = Client("reader", (f"{NET}.1", 10000))
        expect(again.connect() == ACCEPTED, "a connection")
        wanted = [text(n) for n in kept if n != lost]
        while again.got[-4:] != wanted:
            expect(again.receive(60)[0] is not None, "a delivery of", wanted, "not", again.got)
        expect(b.end() == 0, "a clean end of the broker", b.said())
print(f"{looks} looks under traffic; all checks hold")
