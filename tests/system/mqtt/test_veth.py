#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""MQTT over a veth pair: the broker's port is one end, by net_af_packet and by net_af_xdp, and clients use the kernel's TCP
at the other end, over IPv4 and IPv6. The kernel leaves the checksums of what it sends to hardware that does not exist.
Needs root.

  test_veth.py BROKER
"""
import os
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region"), os.path.join(HERE, "..", "broker")]
import own_network  # noqa: F401
from mqtt_client import Client
from regions import Broker, run
from telemetry import Telemetry

PROGRAM = sys.argv[1]
OWN, PEER = "crvown", "crvpeer"
NET, NET6 = "10.78.1", "fd00:78::"
LONG = b"payload " * 5000  # several segments


def expect(true, what, said=""):
    if not true:
        raise SystemExit(f"{what}\n{said}")


def exchange(address):
    """A client publishes to another one; both come through `address`."""
    subscriber, publisher = Client((address, 1883)), Client((address, 1883))
    subscriber.connect("s" + address)
    subscriber.subscribe("long")
    publisher.connect("p" + address)
    for data in (b"short", LONG, b""):
        publisher.publish("long", data)
        expect(subscriber.take(1)[-1][1] == data, f"{len(data)} octets to {address} do not come back")
    for c in (subscriber, publisher):
        c.disconnect()


def main():
    run("ip", "link", "add", OWN, "type", "veth", "peer", "name", PEER)
    for name in (OWN, PEER):  # the port's end is the broker's alone
        with open(f"/proc/sys/net/ipv6/conf/{name}/accept_dad", "w") as f:
            f.write("0")
    with open(f"/proc/sys/net/ipv6/conf/{OWN}/disable_ipv6", "w") as f:
        f.write("1")
    # AF_PACKET would be given segments that are longer than a packet, and truncate them.
    run("ip", "link", "set", PEER, "gso_max_segs", "1")
    run("ip", "addr", "add", f"{NET}.2/24", "dev", PEER)
    run("ip", "link", "set", OWN, "up")
    run("ip", "link", "set", PEER, "up")
    run("ip", "addr", "add", f"{NET6}2/64", "dev", PEER, "nodad")
    for driver in ("net_af_packet", "net_af_xdp"):
        with tempfile.TemporaryDirectory() as scratch:
            b = Broker(PROGRAM, os.path.join(scratch, "region"), "--size", "32M", "--listen", "mqtt://", "--partial-checksums",
                       "--address6", f"{NET6}1/64", vdev=f"{driver}0,iface={OWN}", address=f"{NET}.1/24",
                       telemetry=True).ready()
            with b:
                exchange(f"{NET}.1")
                exchange(f"{NET6}1")
                found = Telemetry(b.prefix).ask("/chainring/counters")
                expect(found["tcp_accepted"] == 4, f"{driver}: connections", str(found))
                expect(found["tcp_checksum_partial"] == 0 and found["tcp_checksum_wrong"] == 0, f"{driver}: checksums", str(found))
                expect(b.end() == 0, f"{driver}: the broker did not end well", b.said())
            print(f"{driver}: octets go both ways over IPv4 and IPv6")


main()
