#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A broker with two workers has two receive queues on a TAP port. The kernel brings the packets of a client to the queue
on which the last answer to it left, so nearly all datagrams land at the home of their client. Needs root.

  test_queues.py BROKER
"""
import os
import re
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker

TAP = f"crq{os.getpid() % 100000}"
CLIENTS, PINGS, HANG_S = 40, 25, 60
PINGREQ, PINGRESP, CONNACK = bytes([2, 0x16]), bytes([2, 0x17]), bytes([3, 5, 0])


def ask(s, question, answer):
    """A datagram may be lost on the way, so the question is put again."""
    for _ in range(HANG_S):
        s.send(question)
        try:
            got = s.recv(100)
            while got != answer:
                got = s.recv(100)
            return
        except socket.timeout:
            pass
    raise SystemExit(f"no answer to {question!r}")


with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="chainring-queues-") as scratch:
    with Broker(sys.argv[1], os.path.join(scratch, "region"), "--size", "64M", "-i", vdev=f"net_tap0,iface={TAP}",
                address="10.78.0.1/24", lcores="0@0,1@0,2@0", stdin=subprocess.PIPE) as b:
        b.ready()
        subprocess.run(["ip", "addr", "replace", "10.78.0.2/24", "dev", TAP], check=True)
        subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
        sockets = []
        for n in range(CLIENTS):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.settimeout(1)
            s.connect(("10.78.0.1", 10000))
            name = f"client{n}".encode()
            ask(s, bytes([6 + len(name), 4, 4, 1, 0, 60]) + name, CONNACK)
            sockets.append(s)
        for _ in range(PINGS):
            for s in sockets:
                ask(s, PINGREQ, PINGRESP)
        b.process.stdin.write(b"show port stats\n")
        b.process.stdin.flush()
        b.until("worker 1 (lcore 2): handed over")
        said = b.said()
        if "2 receive and 2 transmit queues" not in said:
            raise SystemExit(f"expected a receive queue for each worker\n{said}")
        handed = {int(w): int(n) for w, n in re.findall(r"worker (\d) \(lcore \d\): handed over (\d+)", said)}
        datagrams = CLIENTS * (1 + PINGS)
        print(f"handed over: {handed} of about {datagrams} datagrams")
        # Half of them would be handed over if they landed by chance.
        if sorted(handed) != [0, 1] or sum(handed.values()) > datagrams / 4:
            raise SystemExit(f"expected that most datagrams land at the home of their client\n{said}")
        if b.end() != 0:
            raise SystemExit(b.said())
