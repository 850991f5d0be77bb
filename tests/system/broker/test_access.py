#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Access rules of the real broker: what a file allows and denies, what SIGHUP and the command
'reload' change, that a file with a fault changes nothing and is named with its line, and that an
address has only so many sessions. A TAP port: needs root.

  test_access.py BROKER
"""
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker
from sn_client import ACCEPTED, CONGESTION, REGACK, REGISTER, Client, encode
from telemetry import Telemetry

PROGRAM = sys.argv[1]
NOT_SUPPORTED = 3
HANG_S = 90  # this timeout only detects hangs
ADDRESS = ("10.83.0.1", 10000)


def fail(what, said):
    raise SystemExit(f"{what}\n{said}")


def expect(what, found, wanted, b):
    if found != wanted:
        fail(f"{what}: {found}, expected {wanted}", b.said())


def write(path, text):
    """Replaces the file at once, as an operator should."""
    with open(path + ".new", "w") as out:
        out.write(text)
    os.rename(path + ".new", path)


def link_up():
    subprocess.run(["ip", "addr", "replace", "10.83.0.2/24", "dev", "cra0"], check=True)
    subprocess.run(["ip", "link", "set", "cra0", "up"], check=True)


def start(*arguments, **more):
    return Broker(PROGRAM, os.path.join(scratch, f"region{Broker.count}"), "--size", "16M", *arguments,
                  vdev="net_tap0,iface=cra0", address="10.83.0.1/24", **more)


def register(client, name):
    mine = client.next_id()
    return client.ask(encode(REGISTER, b"\0\0" + mine + name), lambda kind, b: kind == REGACK and b[2:4] == mine)[4]


def until_counter(t, name, value, b):
    end = time.monotonic() + HANG_S
    while t.ask("/chainring/counters")[name] != value:
        if time.monotonic() > end:
            fail(f"the counter {name} never came to {value}: {t.ask('/chainring/counters')}", b.said())
        time.sleep(0.05)


def test_rules_decide_and_are_read_again():
    rules = os.path.join(scratch, "rules")
    write(rules, "# first\nallow connect client good* from 10.83.0.0/24\nallow publish topic own/%c\nallow subscribe topic own/+\n")
    with start("--access", rules, "--interactive", telemetry=True, stdin=subprocess.PIPE) as b:
        b.ready()
        if f"3 rules of the file {rules} are in force" not in b.said():
            fail("the log does not say which rules are in force", b.said())
        link_up()
        t = Telemetry(b.prefix)
        good, bad, other = Client("good1", ADDRESS), Client("bad", ADDRESS), Client("good2", ADDRESS)
        expect("CONNECT of a client without a rule", bad.connect(), NOT_SUPPORTED, b)
        expect("CONNECT of a client with a rule", good.connect(), ACCEPTED, b)
        expect("CONNECT of another client", other.connect(), ACCEPTED, b)
        expect("REGISTER of an own topic", register(good, b"own/good1"), ACCEPTED, b)
        expect("REGISTER of another's topic", register(good, b"own/good2"), NOT_SUPPORTED, b)
        expect("SUBSCRIBE to allowed topics", other.subscribe(b"own/+"), ACCEPTED, b)
        expect("SUBSCRIBE to everything", other.subscribe(b"#"), NOT_SUPPORTED, b)
        expect("PUBLISH", good.publish(b"own/good1", b"one"), ACCEPTED, b)
        expect("sessions", t.ask("/chainring/counters")["sessions"], 2, b)

        # A file with a fault changes nothing.
        write(rules, "default allow\nallow conect\n")
        b.process.send_signal(signal.SIGHUP)
        if not b.until("the former access rules stay in force"):
            fail("SIGHUP with a wrong file ended the broker", b.said())
        if f"{rules}:2: 'conect' is nothing that a rule can be about" not in b.said():
            fail("the refusal does not name the file, the line and the fault", b.said())
        os.rename(rules, rules + ".away")
        b.process.send_signal(signal.SIGHUP)
        b.until(f"{rules}: the file cannot be read; the former access rules stay in force")
        expect("CONNECT after files with a fault", bad.connect(), NOT_SUPPORTED, b)
        expect("PUBLISH after files with a fault", good.publish(b"own/good1", b"two"), ACCEPTED, b)

        # New rules end connections and hold for those that go on.
        write(rules, "deny connect client good2\nallow connect\nallow publish topic new\n")
        b.process.send_signal(signal.SIGHUP)
        b.until("3 rules of the file " + rules + " are in force, and what fits none of them is denied")
        until_counter(t, "ended_by_rules", 1, b)
        expect("CONNECT of a client that is denied now", other.connect(), NOT_SUPPORTED, b)
        expect("CONNECT of a client that is allowed now", bad.connect(), ACCEPTED, b)
        expect("PUBLISH to a registered topic that is denied now", good.publish(b"own/good1", b"three"), NOT_SUPPORTED, b)
        expect("PUBLISH to a new topic", good.publish(b"new", b"four"), ACCEPTED, b)

        # The prompt does the same, and says what it did.
        write(rules, "default allow\n")
        b.process.stdin.write(b"reload\n")
        b.process.stdin.flush()
        b.until("0 rules of the file")
        end = time.monotonic() + HANG_S
        while other.connect() != ACCEPTED:
            if time.monotonic() > end:
                fail("the rules of 'reload' are not in force", b.said())
        counters = t.ask("/chainring/counters")
        for name, least in (("connects_denied", 3), ("registers_denied", 1), ("subscribes_denied", 1), ("publishes_denied", 1)):
            if counters[name] < least:
                fail(f"{name} is {counters[name]}, expected {least} or more", b.said())
        expect("status", b.end(), 0, b)


def test_a_wrong_file_is_refused_at_the_start():
    rules = os.path.join(scratch, "wrong")
    write(rules, "allow connect from 10.0.0.1/8\n")
    with start("--access", rules) as b:
        status, said = b.refused()
        if status != 2 or f"--access: {rules}:1: the address of the range '10.0.0.1/8'" not in said:
            fail(f"a file with a fault: status {status}", said)
    with start("--access", rules + ".missing") as b:
        if b.refused()[0] != 2:
            fail("a missing file was not refused", b.said())


def test_an_address_has_only_so_many_sessions():
    with start("--max-sessions-per-address", "3", telemetry=True) as b:
        b.ready()
        link_up()
        for i in range(6):
            expect(f"CONNECT {i}", Client(f"c{i}", ADDRESS).connect(), ACCEPTED if i < 3 else CONGESTION, b)
        counters = Telemetry(b.prefix).ask("/chainring/counters")
        expect("sessions", counters["sessions"], 3, b)
        if counters["opens_refused_source"] < 3:
            fail(f"opens_refused_source is {counters['opens_refused_source']}", b.said())


with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"{name}: good", flush=True)
