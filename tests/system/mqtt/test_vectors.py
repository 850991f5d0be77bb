#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Plays mosquitto's test vectors to the broker: packets that a client sends, what mosquitto answers, and whether it
closes the connection. They are in mosquitto's sources (test/broker/data), which `.ci/install tests` brings. Each case
ends as mosquitto's does, or its difference is listed below with the reason; a difference that is listed and does not
occur fails the test as well.

  test_vectors.py BROKER VECTORS DOCUMENT [--write] [--only TEXT]

DOCUMENT is docs/mqtt-vectors.md. The test compares it with what it found, and writes it with --write. --only runs the
cases whose name has that text, prints what each sent and got, and compares no document.

What the two specifications leave to the server is no difference: the packet identifiers of its messages, the
properties of answers, and a DISCONNECT or CONNACK of 5.0 with its reason before the server closes. Needs root.
"""
import collections
import glob
import json
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mqtt_client import (AUTH, CONNACK, CONNECT, DISCONNECT, HANG_S, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC,
                         PUBREL, SUBACK, UNSUBACK, Client, Closed, packet, text)
from mqtt_rig import NET, start
from vector_differences import DIFFERENCES

TO = (f"{NET}.1", 1883)
NAMES = {CONNECT: "CONNECT", CONNACK: "CONNACK", PUBLISH: "PUBLISH", PUBACK: "PUBACK", PUBREC: "PUBREC", PUBREL: "PUBREL",
         PUBCOMP: "PUBCOMP", SUBACK: "SUBACK", UNSUBACK: "UNSUBACK", PINGRESP: "PINGRESP", DISCONNECT: "DISCONNECT",
         AUTH: "AUTH"}

SILENCE_S = 2  # after this time without a packet the broker is asked whether it is done


class Differs(Exception):
    """The case does not end as mosquitto's does."""


def number(octets, at):
    """A variable byte integer, and where it ends."""
    value, shift = 0, 0
    while True:
        value |= (octets[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if octets[at - 1] < 128:
            return value, at


def without_properties(body, at):
    size, end = number(body, at)
    return body[:at] + body[end + size:]


def meaning(octets, version):
    """What a client learns from a packet."""
    kind, flags, (_, at) = octets[0] >> 4, octets[0] & 15, number(octets, 1)
    body = octets[at:]
    if version == 5:
        if kind in (CONNACK, SUBACK, UNSUBACK):
            body = without_properties(body, 2)
        elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
            body = body[:3] if len(body) > 2 else body + b"\0"
        elif kind in (DISCONNECT, AUTH):
            body = body[:1] or b"\0"
    return NAMES.get(kind, str(kind)), flags, body.hex()


def said(found):
    return f"{found[0]} {found[2]}".strip()


def level_of(octets):
    """The protocol level that a CONNECT names, or None."""
    try:
        _, at = number(octets, 1)
        return octets[at + 2 + int.from_bytes(octets[at:at + 2], "big")] if octets[0] >> 4 == CONNECT else None
    except IndexError:
        return None


def connect(c, name, version):
    body = text("MQIsdp" if version == 3 else "MQTT") + bytes([version, 2, 0, 60]) + (b"\0" if version == 5 else b"") + text(name)
    c.send(packet(CONNECT, body))
    found = meaning(receive(c), version)
    if (found[0], found[2]) != ("CONNACK", "0000"):
        raise Differs(f"answers the usual CONNECT with {said(found)}")


def receive(c):
    """The next packet. A broker that has nothing to say is not waited for: it answers a PINGREQ."""
    try:
        found = c.receive(SILENCE_S)
        if found is None:
            c.send(packet(PINGREQ))
            found = c.receive()
            if found is not None and found[0] == PINGRESP:
                raise Differs("says nothing")
    except Closed:
        raise Differs("closes the connection") from None
    if found is None:
        raise Differs("hangs")
    return packet(found[0], found[2], found[1])


def publish(m):
    c = Client(TO)
    connect(c, "helper", 4)
    c.publish(m["topic"], m["payload"].encode(), m["qos"])
    c.close()


def is_closed(c, version):
    """Whether the server closes the connection, with at most a DISCONNECT of 5.0, or a CONNACK that refuses, before it."""
    c.send(packet(PINGREQ))  # so that a connection that stays open is known without a wait
    try:
        while True:
            found = c.receive()
            if found is None:
                raise Differs("hangs")
            refuses = found[0] == DISCONNECT or found[0] == CONNACK and found[2][1] >= 0x80
            if version != 5 or not refuses:
                return False
    except Closed:
        return True


def identifier_at(octets):
    """Where the packet identifier of a server's message, or of what belongs to it, is; None if it has none."""
    kind, (_, at) = octets[0] >> 4, number(octets, 1)
    if kind == PUBLISH and octets[0] & 6:
        return at + 2 + int.from_bytes(octets[at:at + 2], "big")
    return at if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP) else None


def renamed(octets, names):
    """The packet with the identifier that `names` has for its own."""
    at = identifier_at(octets)
    if at is None or octets[at:at + 2] not in names:
        return octets
    return octets[:at] + names[octets[at:at + 2]] + octets[at + 2:]


def play(case, n):
    version, name = case.get("ver", 4), f"vector{n}"
    theirs = {}  # by the packet identifiers of the vector, those of the broker
    c = Client(TO)
    try:
        if case.get("connect", True):
            connect(c, name, version)
        for m in case["msgs"]:
            if m["type"] == "publish":
                publish(m)
                continue
            octets = bytes.fromhex(m["payload"].replace(" ", ""))
            if m["type"] == "send":
                version = level_of(octets) or version
                c.send(renamed(octets, theirs) if theirs else octets)
                continue
            found = receive(c)
            if octets[0] >> 4 == found[0] >> 4 == PUBLISH and octets[0] & 6:
                mine, their = identifier_at(octets), identifier_at(found)
                theirs[octets[mine:mine + 2]] = found[their:their + 2]
            wanted = meaning(renamed(octets, theirs), version)
            found = meaning(found, version)
            if found != wanted:
                raise Differs(f"says {said(found)} and not {said(wanted)}")
        expected = case.get("expect_disconnect", True)
        if is_closed(c, version) != expected:
            raise Differs("does not close the connection" if expected else "closes the connection")
    finally:
        c.close()


def cases(directory):
    for path in sorted(glob.glob(os.path.join(directory, "*.json"))):
        with open(path, encoding="utf-8") as f:
            for group in json.load(f):
                for case in group["tests"]:
                    yield os.path.basename(path), f"{' '.join(group['group'].split())}: {' '.join(case['name'].split())}", case


def document(files, differences):
    total, same = sum(len(f) for f in files.values()), sum(r is None for f in files.values() for r in f)
    lines = ["# mosquitto's test vectors", "",
             "What the broker answers to the packets in mosquitto's sources (version 2.0.21, `test/broker/data`), compared with",
             "what mosquitto answers. Packet identifiers, the properties of answers, and a DISCONNECT or CONNACK of 5.0 with its",
             "reason before the server closes are left to a server and not compared. The test `mqtt_vectors` plays all of them and compares this document with what",
             "it found; `ninja -C build mqtt-vectors` writes it.", "",
             f"{total} cases: {same} end as mosquitto's do, {total - same} differ for the reasons below.", "",
             "| file | cases | the same | different |", "|---|---|---|---|"]
    for name, results in files.items():
        lines.append(f"| {name} | {len(results)} | {sum(r is None for r in results)} | {sum(r is not None for r in results)} |")
    lines += ["", "| cases | the broker | why |", "|---|---|---|"]
    for (why, what), names in differences.items():
        shown = ", ".join(f"`{name}`" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(f"| {shown} | {what} | {why} |")
    return "\n".join(lines) + "\n"


def main():
    program, vectors, written = sys.argv[1:4]
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else None
    files, differences, wrong, unused = collections.defaultdict(list), {}, [], set(DIFFERENCES)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        b = start(program, os.path.join(scratch, "region"), "--listen", "mqtt://")
        for n, (file, name, case) in enumerate(cases(vectors)):
            if only is not None and only not in f"{file} {name}":
                continue
            result = None
            try:
                play(case, n)
            except Differs as e:
                result = str(e)
            if only is not None:
                print(f"{file} {name}: {result or 'the same'}\n  {case}")
            files[file].append(result)
            if result is None:
                continue
            d = next((d for d in DIFFERENCES if re.search(d.cases, f"{file} {name}") and re.search(d.broker, result)), None)
            if d is None:
                wrong.append(f"{file} {name}: the broker {result}")
            else:
                unused.discard(d)
                differences.setdefault((d.why, d.says), []).append(name)
        if b.end() != 0:
            raise SystemExit(f"the broker did not end well:\n{b.said()}")
    if not files:
        raise SystemExit(f"{vectors}: no test vectors of mosquitto, or none of that name; .ci/install tests brings them")
    if only is not None:
        return
    wrong += [f"listed as a difference, and not found: {d.cases}: {d.broker}" for d in unused]
    if wrong:
        raise SystemExit("\n".join(wrong) + f"\n{len(wrong)} faults")
    made = document(files, differences)
    if "--write" in sys.argv:
        with open(written, "w", encoding="utf-8") as f:
            f.write(made)
    else:
        with open(written, encoding="utf-8") as f:
            if f.read() != made:
                raise SystemExit(f"{written} does not say what was found: run ninja -C build mqtt-vectors")
    print(made.split("\n")[7])


main()
