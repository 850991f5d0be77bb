#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The broker beside the kernel's own network stack, on a TAP port: IPv6 at a global and at the
link-local address, datagrams in fragments in both directions, a multicast group, a VLAN, and jumbo
frames. Needs root.

  test_network.py BROKER
"""
import os
import re
import select
import socket
import struct
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker, run
from sn_client import ACCEPTED, CONNACK, CONNECT, HANG_S, Client, encode
from telemetry import Telemetry

from scapy.config import conf
from scapy.arch import get_if_hwaddr
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

PROGRAM = sys.argv[1]
TAP = f"crn{os.getpid() % 100000}"
NET, NET6, GROUP, GROUP6 = "10.77.1", "fd00:77::", "225.1.1.1", "ff02::101"
SEARCHGW, GWINFO = 1, 2
count = 0


def expect(true, what, said=""):
    global count
    count += 1
    if not true:
        raise SystemExit(f"{what}\n{said}")


def start(name, *arguments, mtu=1500, address=f"{NET}.1/24"):
    b = Broker(PROGRAM, os.path.join(scratch, name), "--size", "32M", "--retry-interval", "1", *arguments, vdev=f"net_tap0,iface={TAP}",
               address=address, telemetry=True).ready()
    run("ip", "link", "set", TAP, "up", "mtu", str(mtu))
    run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
    # The kernel need not wait for an answer to its probe for a duplicate address.
    run("ip", "addr", "add", f"{NET6}2/64", "dev", TAP, "nodad")
    return b


def counters(b):
    return Telemetry(b.prefix).ask("/chainring/ports")


def ping(address, *arguments):
    said = run("ping", "-c", "3", "-i", "0.05", "-W", str(HANG_S), *arguments, address, status=None)
    expect("3 received" in said, f"ping {address}", said)


def link_local_of(b):
    found = re.search(r"\[(fe80::[0-9a-f:]+)\]:10000", b.said())
    expect(found, "the broker does not tell its link-local address", b.said())
    return found.group(1)


def exchange(a, b, topic, data):
    """One client publishes and the other one receives; they may use different protocols."""
    expect(a.publish(topic, data) == ACCEPTED, f"a PUBLISH of {len(data)} octets is refused")
    for _ in range(20):
        if b.got and b.got[-1] == data:
            break
        b.receive(HANG_S / 20)
    expect(b.got and b.got[-1] == data, f"{len(data)} octets from {a.to} did not come to {b.to}", str([len(g) for g in b.got]))


def test_ipv6_and_fragments():
    with start("both", "--address6", f"{NET6}1/64", "--max-datagram", "4000") as b:
        ping(f"{NET}.1")
        ping(f"{NET6}1")
        ping(f"{NET6}1", "-s", "1400")
        near = link_local_of(b)
        ping(f"{near}%{TAP}")
        scope = socket.if_nametoindex(TAP)
        over4, over6 = Client("four", (f"{NET}.1", 10000)), Client("six", (f"{NET6}1", 10000))
        over_link = Client("near", (near, 10000, 0, scope))
        for c in (over4, over6, over_link):
            expect(c.connect() == ACCEPTED and c.subscribe(b"to/" + c.name) == ACCEPTED, f"{c.to} is refused")
        # Kernel and broker take datagrams apart, and put them together, over both protocols.
        for size in (10, 1400, 1500, 2900, 3900):
            data = os.urandom(size)
            exchange(over4, over6, b"to/six", data)
            exchange(over6, over4, b"to/four", data)
            exchange(over6, over_link, b"to/near", data)
        seen = counters(b)
        expect(seen["port0"]["reassembled"] >= 9, "datagrams that were put together", seen)
        for lost in ("fragment_refused", "fragment_lost", "udp_checksum", "nd_malformed", "ip_extension"):
            expect(f"dropped_{lost}" not in seen["port0"], lost, seen)


def test_ipv6_alone():
    with start("alone", "--address6", f"{NET6}1/64", address=None) as b:
        ping(f"{NET6}1")
        c = Client("six", (f"{NET6}1", 10000))
        expect(c.connect() == ACCEPTED and c.subscribe(b"a") == ACCEPTED, "refused")
        exchange(c, c, b"a", b"hello")
        said = run("ping", "-c", "1", "-W", "1", f"{NET}.1", status=None)
        expect("1 received" not in said, "a broker without an IPv4 address answers one", said)
        expect(b.process.poll() is None, "the broker ended", b.said())


def search(family, group, interface):
    """A client that listens on the group and searches there for a gateway. Returns what comes."""
    listening = socket.socket(family, socket.SOCK_DGRAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("", 10000))
    if family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                             socket.inet_pton(family, group) + struct.pack("@I", interface))
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        to = (group, 10000, 0, interface)
    else:
        mreq = socket.inet_aton(group) + socket.inet_aton(f"{NET}.2")
        listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
        listening.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(f"{NET}.2"))
        listening.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        to = (group, 10000)
    for _ in range(HANG_S):
        listening.sendto(encode(SEARCHGW, b"\0"), to)
        while select.select([listening], [], [], 1)[0]:
            datagram = listening.recv(100)
            if datagram[1] == GWINFO:
                listening.close()
                return datagram
    return b""


def test_groups():
    with start("groups", "--address6", f"{NET6}1/64", "--multicast", GROUP, "--multicast", GROUP6) as b:
        interface = socket.if_nametoindex(TAP)
        expect(search(socket.AF_INET, GROUP, interface)[1:2] == bytes([GWINFO]), "no GWINFO at the IPv4 group", b.said())
        expect(search(socket.AF_INET6, GROUP6, interface)[1:2] == bytes([GWINFO]), "no GWINFO at the IPv6 group", b.said())


def test_vlan():
    """Frames are made and read by scapy, because not every kernel has VLAN interfaces."""
    with start("vlan", "--address6", f"{NET6}1/64", "--vlan", "7") as b:
        wire = conf.L2socket(iface=TAP)
        peer, peer6 = f"{NET}.9", f"{NET6}9"
        mac, ours, group = "02:00:00:00:00:99", get_if_hwaddr(TAP), "33:33:ff:00:00:01"

        def ask(packet, wanted, vlan=7):
            """Sends a tagged packet until the wanted layer comes back, tagged, and returns the answer."""
            destination = "ff:ff:ff:ff:ff:ff" if ARP in packet else group if ICMPv6ND_NS in packet else ours
            frame = Ether(src=mac, dst=destination) / (Dot1Q(vlan=vlan) / packet if vlan else packet)
            for _ in range(HANG_S * 2):
                wire.send(frame)
                while wanted and select.select([wire], [], [], 0.5)[0]:
                    got = wire.recv()
                    if got is not None and Dot1Q in got and got[Dot1Q].vlan == 7 and got.dst == mac and wanted in got:
                        return got
                if not wanted:
                    return None
            raise SystemExit(f"no {wanted.__name__} to {frame.summary()}")

        expect(ask(ARP(op="who-has", hwsrc=mac, psrc=peer, pdst=f"{NET}.1"), ARP)[ARP].hwsrc == ours, "the ARP reply")
        expect(ask(IPv6(src=peer6, dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=f"{NET6}1") / ICMPv6NDOptSrcLLAddr(lladdr=mac),
                   ICMPv6ND_NA)[IPv6].dst == peer6, "the neighbour advertisement")
        connect = encode(CONNECT, b"\4\1\0\0tagged")
        for ip in (IP(src=peer, dst=f"{NET}.1"), IPv6(src=peer6, dst=f"{NET6}1")):
            answer = ask(ip / UDP(sport=4000, dport=10000) / Raw(connect), Raw)
            expect(bytes(answer[UDP].payload)[:3] == bytes([3, CONNACK, ACCEPTED]), "the CONNACK", answer.summary())
        before = counters(b)
        for vlan in (8, 0, None):
            ask(IP(src=peer, dst=f"{NET}.1") / UDP(sport=4000, dport=10000) / Raw(connect), None, vlan)
        for _ in range(HANG_S * 20):
            after = counters(b)
            dropped = {r: after["port0"].get(f"dropped_{r}", 0) - before["port0"].get(f"dropped_{r}", 0) for r in ("vlan_tagged", "vlan_untagged")}
            if dropped["vlan_tagged"] >= 1 and dropped["vlan_untagged"] >= 2:
                break
            time.sleep(0.05)
        expect(dropped["vlan_tagged"] >= 1 and dropped["vlan_untagged"] >= 2, "frames of other VLANs are not counted", after)


def test_jumbo():
    """The port is one end of a veth pair, because a TAP port carries 1500 octets."""
    ours, theirs = f"{TAP}a", f"{TAP}b"
    run("ip", "link", "add", ours, "mtu", "9000", "type", "veth", "peer", "name", theirs, "mtu", "9000")
    run("ip", "addr", "add", f"{NET}.2/24", "dev", theirs)
    for end in (ours, theirs):
        run("ip", "link", "set", end, "up")
    with Broker(PROGRAM, os.path.join(scratch, "jumbo"), "--size", "32M", "--mtu", "9000", "--partial-checksums",
                vdev=f"net_pcap0,iface={ours}", address=f"{NET}.1/24", telemetry=True).ready() as b:
        c = Client("large", (f"{NET}.1", 10000))
        c.sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO: nothing is fragmented
        expect(c.connect() == ACCEPTED and c.subscribe(b"a") == ACCEPTED, "refused")
        for size in (1473, 8900):
            exchange(c, c, b"a", os.urandom(size))
        seen = counters(b)
        expect(seen["port0"]["reassembled"] == 0, "a jumbo frame was fragmented", seen)


def test_refusals():
    for words, arguments, vdev in (
            (("--mtu 9000", "(net_tap0) carries packets of at most"), ["--mtu", "9000"], f"net_tap0,iface={TAP}"),
            (("--max-datagram 12000", "in 8 fragments"), ["--max-datagram", "12000"], "net_null0,no-rx=1"),
            (("gateway6 fd01::1",), ["--address6", "fd00::1/64", "--gateway6", "fd01::1"], "net_null0,no-rx=1")):
        b = Broker(PROGRAM, os.path.join(scratch, "refused"), "--size", "32M", "--retry-interval", "1", *arguments, vdev=vdev)
        status = b.process.wait(HANG_S)
        expect(status in (1, 2) and all(w in b.said() for w in words), f"{arguments}: status {status}", b.said())


with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
    for test in (test_refusals, test_ipv6_and_fragments, test_ipv6_alone, test_groups, test_vlan, test_jumbo):
        test()
        print(f"{test.__name__}: passed", flush=True)
print(f"{count} checks")
