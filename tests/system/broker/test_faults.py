#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Faults that were found in use, over real packets on a TAP port: a process that is stopped for longer
than its clients' keep-alive, one socket with two clients, an absent subscriber whose full queue stops a
topic, and what an operator can do about it. Needs root.   test_faults.py BROKER"""
import os
import re
import select
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker, run
from sn_client import ACCEPTED, CONGESTION, DISCONNECT, HANG_S, PINGREQ, PINGRESP, Client, decode, encode
from telemetry import Telemetry

PROGRAM = sys.argv[1]
TAP = f"crq{os.getpid() % 100000}"
NET = f"10.{192 + os.getpid() % 2}.{os.getpid() % 250}"
TO = (f"{NET}.1", 10000)
KEEP_ALIVE_S, STALL_S, CLIENTS = 2, 5, 150


def start(region, *arguments, **more):
    b = Broker(PROGRAM, region, "--size", "32M", *arguments, vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24",
               telemetry=True, **more).ready()
    run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
    # Packets that the broker does not read while it is stopped wait in this queue.
    run("ip", "link", "set", TAP, "txqueuelen", "8192", "up")
    return b


def expect(true, what, said=""):
    if not true:
        raise SystemExit(f"{what}\n{said}")


def until(condition, what, b):
    end = time.monotonic() + HANG_S
    while not condition():
        expect(time.monotonic() < end and b.process.poll() is None, f"this never happened: {what}", b.said())
        time.sleep(0.05)


def delivered(client):
    """Returns the deliveries to the client until it is quiet for a while, at least one."""
    end = time.monotonic() + HANG_S
    while not client.got and time.monotonic() < end:
        client.receive(1)
    while client.receive(0.5)[0] is not None:
        pass
    return client.got


class TooLate(Exception):
    """This program, not the broker, let a client be silent for longer than its keep alive."""


class Pingers:
    """Clients that each ping every second, also while others are still connecting."""

    def __init__(self):
        self.by_fd, self.answers, self.sent = {}, {}, {}

    def connect(self, client, b):
        self.sent[client.sock.fileno()] = time.monotonic()
        expect(client.connect(clean=True, keep_alive_s=KEEP_ALIVE_S) == ACCEPTED, "refused", b.said())
        self.by_fd[client.sock.fileno()] = client
        self.ping_who_was_silent()

    def ping_who_was_silent(self):
        """Each client that was silent for a second pings, and what was sent to the clients is read."""
        for fd, client in self.by_fd.items():
            now = time.monotonic()
            if now - self.sent[fd] < 1:
                continue
            if now - self.sent[fd] > KEEP_ALIVE_S:
                raise TooLate
            client.send(encode(PINGREQ))
            self.sent[fd] = now
        for fd in select.select(list(self.by_fd), [], [], 0.05)[0]:
            kind, _ = decode(self.by_fd[fd].sock.recv(65536))
            expect(kind != DISCONNECT, f"{self.by_fd[fd].name.decode()} was sent DISCONNECT although it pinged each second")
            self.answers[fd] = self.answers.get(fd, 0) + (kind == PINGRESP)

    def ping(self, seconds):
        """The clients ping for so many seconds. Returns how many PINGRESPs the least answered client got."""
        self.answers = {}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.ping_who_was_silent()
        return min(self.answers.get(fd, 0) for fd in self.by_fd)


def test_a_stall_longer_than_the_keep_alive():
    for count in (2, CLIENTS):
        for attempt in range(10):
            try:
                stall(count, os.path.join(scratch, f"stall{count}-{attempt}"))
                break
            except TooLate:
                print(f"attempt {attempt} says nothing: this program was itself late with a ping", flush=True)
        else:
            raise SystemExit(f"in 10 attempts this machine never let {count} clients ping each second")


def stall(count, region):
    with start(region) as b:
        pingers = Pingers()
        for i in range(count):
            pingers.connect(Client(f"pinger{i}", TO), b)
        pingers.ping(1)
        b.process.send_signal(signal.SIGSTOP)
        try:
            pingers.ping(STALL_S)
        finally:
            b.process.send_signal(signal.SIGCONT)
        expect(pingers.ping(2 * KEEP_ALIVE_S) > 0, "a client is not answered after the stall", b.said())
        counters = Telemetry(b.prefix).ask("/chainring/counters")
        expect(counters["sessions"] == count and counters["sessions_lost"] == 0, "sessions were lost", counters)
        # A client that is silent is disconnected.
        t = Telemetry(b.prefix)
        until(lambda: t.ask("/chainring/counters")["sessions"] == 0, "the sessions of silent clients end", b)
        expect(b.end() == 0, "the broker did not close cleanly", b.said())


def test_one_socket_with_two_clients():
    with start(os.path.join(scratch, "socket")) as b:
        first, second, publisher = Client("first", TO), Client("second", TO), Client("publisher", TO)
        second.sock = first.sock
        expect(publisher.connect(clean=True) == ACCEPTED, "refused")
        expect(first.connect() == ACCEPTED and first.subscribe(b"a") == ACCEPTED, "refused")
        expect(second.connect() == ACCEPTED and second.subscribe(b"b") == ACCEPTED, "refused")
        expect(publisher.publish(b"a", b"for the first") == ACCEPTED, "refused")
        expect(publisher.publish(b"b", b"for the second") == ACCEPTED, "refused")
        expect(delivered(second) == [b"for the second"], "the second client got", second.got)
        elsewhere = Client("first", TO)
        expect(elsewhere.connect() == ACCEPTED, "refused")
        expect(delivered(elsewhere) == [b"for the first"], "the first client got", elsewhere.got)
        expect(b.end() == 0, "the broker did not close cleanly", b.said())


def test_an_absent_subscriber_and_the_prompt():
    ours, theirs = os.pipe()
    with start(os.path.join(scratch, "absent"), "-i", "--queue-size", "63", stdin=ours) as b:
        os.close(ours)

        def prompt(line, words):
            before = len(b.said())
            os.write(theirs, (line + "\n").encode())
            until(lambda: re.search(words, b.said()[before:]), f"'{line}' answered by {words}", b)
            return b.said()[before:]

        absent, publisher = Client("absent", TO), Client("publisher", TO)
        expect(absent.connect() == ACCEPTED and absent.subscribe(b"t") == ACCEPTED, "refused")
        absent.disconnect()
        expect(publisher.connect(clean=True) == ACCEPTED, "refused")

        def fill():
            for i in range(200):
                if publisher.publish(b"t", b"%d" % i) == CONGESTION:
                    return i
            raise SystemExit("a queue of 63 accepted 200 messages")

        expect(fill() == 63, "the queue did not accept 63 messages")
        expect(b.until("the queue of client 'absent' is full with 63 messages"), "the log does not name the full queue", b.said())
        prompt("show queues", r"\(absent\): depth 63 of 63")
        prompt("clear queue nobody", "no such client")
        prompt("clear queue absent", "queue is cleared")
        until(lambda: publisher.publish(b"t", b"new") == ACCEPTED, "the topic accepts messages again", b)
        expect(absent.connect() == ACCEPTED, "refused")
        expect(delivered(absent) == [b"new"], "after the cleared queue the client got", absent.got)
        absent.disconnect()
        expect(fill() == 63, "the queue did not accept 63 messages")
        prompt("kick nobody", "no such client")
        prompt("kick absent", "session has ended")
        until(lambda: publisher.publish(b"t", b"for nobody") == ACCEPTED, "the topic accepts messages again", b)
        expect("absent" not in prompt("show sessions", r"1 sessions"), "the session is still there")
        # A client that is connected receives DISCONNECT.
        expect(absent.connect() == ACCEPTED, "refused")
        prompt("kick absent", "session has ended")
        kind = 0
        while kind not in (DISCONNECT, None):
            kind, _ = absent.receive(HANG_S)
        expect(kind == DISCONNECT, "a client that is kicked gets no DISCONNECT")
        os.close(theirs)
        expect(b.end() == 0, "the broker did not close cleanly", b.said())


def test_sessions_expire_after_a_restart():
    region = os.path.join(scratch, "expiry")
    with start(region) as b:
        absent, publisher = Client("absent", TO), Client("publisher", TO)
        expect(absent.connect() == ACCEPTED and absent.subscribe(b"t") == ACCEPTED, "refused")
        expect(publisher.connect(clean=True) == ACCEPTED and publisher.publish(b"t", b"x") == ACCEPTED, "refused")
        expect(b.end() == 0, "the broker did not close cleanly", b.said())
    with start(region, "--session-expiry", "1") as b:
        t = Telemetry(b.prefix)
        until(lambda: t.ask("/chainring/counters")["sessions"] == 0, "the session expires", b)
        counters = t.ask("/chainring/counters")
        expect(counters["expired"] == 1 and counters["subscriptions"] == 0, "after the expiry", counters)
        until(lambda: t.ask("/chainring/region")["messages_live"] == 0, "the messages of the session are freed", b)
        expect(b.end() == 0, "the broker did not close cleanly", b.said())


with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="chainring-faults-") as scratch:
    for name, test in sorted((n, f) for n, f in globals().items() if n.startswith("test_")):
        before = time.monotonic()
        test()
        print(f"{name}: passed, {time.monotonic() - before:.0f} seconds", flush=True)
