#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Replays a capture of MQTT-SN clients through the broker and compares every packet that it sends.

  test_pcap.py BROKER

scapy writes rx.pcap, which the broker reads through net_pcap; what the broker writes to tx.pcap is
compared with what scapy expects, field by field, in order for each client (between clients any
order), and dissected by tshark. Expectations follow the text of MQTT-SN 1.2.

The capture is read at once, so a client cannot wait for what it answers. But it can know it: topic
ids and message ids are given out 1, 2, 3 ... for each client. What it answers must reach the broker
after the broker has asked: the broker takes frames in bursts of 64 and says what a burst led to at
its end. So each step here is a burst, filled up to 64 frames with some that are for others; a
client's answers stand in a later step than what they answer.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict

from scapy.contrib import mqttsn as sn
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Padding, Raw, bind_layers
from scapy.utils import rdpcap, wrpcap

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from sn_messages import *  # noqa: F403: one function for each message

BROKER = sys.argv[1]
BURST = 64  # frames that the broker receives at one time
PORT, OURS = 10000, '192.0.2.1'
MAC = '02:70:63:61:70:00'  # the MAC address that net_pcap gives to its first port
BROADCAST = 'ff:ff:ff:ff:ff:ff'
ROUTER = '02:00:00:00:00:fe'
HANG_S = 120  # this timeout only detects hangs
PREDEFINED, PREDEFINED_NAME = 7, b'defined/before'
FIRST = PREDEFINED + 1  # the broker gives out ids above the predefined ones

bind_layers(UDP, sn.MQTTSN, sport=PORT)
steps = [[]]
expected = defaultdict(list)  # for each destination MAC and address
clients = []
malformed = trailing = 0


AB = short_id(b'ab')


class Client:
    def __init__(self, ip=None, mac=None):
        number = len(clients) + 11
        clients.append(self)
        self.ip = ip or '192.0.2.%d' % number
        self.mac = mac or '02:00:00:00:01:%02x' % number
        self.port = 20000 + number

    def frame(self, octets):
        return Ether(src=self.mac, dst=MAC) / IP(src=self.ip, dst=OURS) / UDP(sport=self.port, dport=PORT) / Raw(octets)

    def says(self, octets):
        """Sends in this step. Short frames are padded as on a wire."""
        packet = self.frame(octets)
        steps[-1].append(packet / Padding(bytes(max(0, 60 - len(packet)))))

    def sends(self, packet):
        steps[-1].append(packet)

    def gets(self, *messages):
        for octets in messages:
            self.gets_frame(Ether(src=MAC, dst=self.mac) / IP(src=OURS, dst=self.ip, flags='DF', ttl=64)
                            / UDP(sport=PORT, dport=self.port) / sn.MQTTSN(octets))

    def gets_frame(self, packet):
        expected[self.mac, self.ip].append(Ether(bytes(packet)))

    def asks(self, octets, *answers):
        self.says(octets)
        self.gets(*answers)


def next_step():
    steps.append([])


# --- the clients and what they say ------------------------------------------------------------------

publisher, by_name, wildcard, predefined, short, durable, far, quiet = (Client() for _ in range(8))
far.ip, far.mac = '198.51.100.7', ROUTER  # off the link, so answered through the router that forwarded its frames
refused, stranger, unknown, last = (Client() for _ in range(4))
connected = [publisher, by_name, wildcard, predefined, short, durable, far, quiet, last]

# The broker's own ARP announcement comes before everything else.
expected[BROADCAST, OURS].append(Ether(src=MAC, dst=BROADCAST) / ARP(op='who-has', hwsrc=MAC, psrc=OURS,
                                                                     hwdst='00:00:00:00:00:00', pdst=OURS))

for c in connected:
    if c is far or c is quiet:
        continue  # the quiet client is learned from its datagrams
    c.sends(Ether(src=c.mac, dst=BROADCAST) / ARP(op='who-has', hwsrc=c.mac, psrc=c.ip, pdst=OURS) / Padding(bytes(18)))
    c.gets_frame(Ether(src=MAC, dst=c.mac) / ARP(op='is-at', hwsrc=MAC, psrc=OURS, hwdst=c.mac, pdst=c.ip))
for n in (0, 1, 56, 1472):
    data = bytes(i & 255 for i in range(n))
    publisher.sends(Ether(src=publisher.mac, dst=MAC) / IP(src=publisher.ip, dst=OURS, tos=0x20, ttl=9, id=4660)
                    / ICMP(type='echo-request', id=77, seq=n) / Raw(data))
    publisher.gets_frame(Ether(src=MAC, dst=publisher.mac) / IP(src=OURS, dst=publisher.ip, tos=0x20, ttl=64, flags='DF')
                         / ICMP(type='echo-reply', id=77, seq=n) / Raw(data))

next_step()
for c, name in ((publisher, b'publisher'), (by_name, b'by-name'), (wildcard, b'wildcard'), (predefined, b'predefined'),
                (short, b'a-short-name-subscriber'), (far, b'far'), (quiet, b'quiet'), (last, b'last')):
    c.asks(connect(name), connack())
durable.asks(connect(b'durable', cleansess=0), connack())
refused.asks(connect(b''), connack(REJECT_UNSUPPORTED))
refused.asks(connect(b'24-characters-are-too-ma'), connack(REJECT_UNSUPPORTED))
refused.asks(connect(b'will', will=1), WILLTOPICREQ)
refused.asks(willtopic(b'a/will', qos=1), WILLMSGREQ)
refused.asks(willtopic(b'every/#', qos=1), connack(REJECT_UNSUPPORTED))
refused.asks(connect(b'protocol', prot_id=2), connack(REJECT_UNSUPPORTED))
malformed += 1

next_step()
publisher.asks(register(0, 1, b'sensors/a'), regack(FIRST, 1))
by_name.asks(subscribe(10, qos=1, topic_name=b'sensors/a'), suback(FIRST, 10, qos=1))
wildcard.asks(subscribe(11, qos=1, topic_name=b'sensors/#'), suback(0, 11, qos=1))
predefined.asks(subscribe(12, qos=1, tid_type=1, tid=PREDEFINED), suback(PREDEFINED, 12, qos=1))
short.asks(subscribe(13, tid_type=2, short_topic=b'ab'), suback(0, 13))
durable.asks(subscribe(14, qos=1, topic_name=b'sensors/b'), suback(FIRST, 14, qos=1))
far.asks(subscribe(15, topic_name=b'sensors/+'), suback(0, 15))

next_step()
publisher.asks(register(0, 2, b'sensors/b'), regack(FIRST + 1, 2))
by_name.asks(subscribe(16, qos=1, topic_name=b'sensors/a'), suback(FIRST, 16, qos=1))  # again: the same id

next_step()
publisher.asks(register(0, 3, b'sensors/a'), regack(FIRST, 3))
quiet.asks(register(0, 1, b'wild/#'), regack(0, 1, REJECT_UNSUPPORTED))

next_step()  # QoS 1: known to who subscribed by name, told to the others first
publisher.asks(publish(b'first', qos=1, tid=FIRST, mid=100), puback(FIRST, 100))
by_name.gets(publish(b'first', qos=1, tid=FIRST, mid=1))
wildcard.gets(register(FIRST, 1, b'sensors/a'))
far.gets(register(FIRST, 1, b'sensors/a'))

next_step()
by_name.says(puback(FIRST, 1))
wildcard.asks(regack(FIRST, 1), publish(b'first', qos=1, tid=FIRST, mid=1))
far.asks(regack(FIRST, 1), publish(b'first', tid=FIRST))

next_step()  # QoS 0
wildcard.says(puback(FIRST, 1))
publisher.says(publish(b'second', tid=FIRST + 1))
durable.gets(publish(b'second', tid=FIRST))
wildcard.gets(register(FIRST + 1, 2, b'sensors/b'))
far.gets(register(FIRST + 1, 2, b'sensors/b'))

next_step()
wildcard.asks(regack(FIRST + 1, 2), publish(b'second', tid=FIRST + 1))
far.asks(regack(FIRST + 1, 2), publish(b'second', tid=FIRST + 1))

next_step()  # QoS -1, from somebody who never connects and is never answered
stranger.says(publish(b'from outside', qos=3, tid_type=1, tid=PREDEFINED))
predefined.gets(publish(b'from outside', tid_type=1, tid=PREDEFINED))
stranger.says(publish(b'short', qos=3, tid_type=2, tid=AB))
short.gets(publish(b'short', tid_type=2, tid=AB))
stranger.says(publish(b'unknown id', qos=3, tid_type=1, tid=99))
stranger.says(publish(b'not allowed', qos=3, tid=FIRST))

next_step()
publisher.asks(publish(b'predefined', qos=1, tid_type=1, tid=PREDEFINED, mid=101), puback(PREDEFINED, 101))
predefined.gets(publish(b'predefined', qos=1, tid_type=1, tid=PREDEFINED, mid=1))

next_step()
predefined.says(puback(PREDEFINED, 1))
publisher.asks(publish(b'by short name', qos=1, tid_type=2, tid=AB, mid=102), puback(AB, 102))
short.gets(publish(b'by short name', tid_type=2, tid=AB))

next_step()  # refused, with the protocol's own words
publisher.asks(publish(b'x', qos=1, tid=77, mid=103), puback(77, 103, REJECT_ID))
publisher.asks(publish(b'x', tid=77), puback(77, 0, REJECT_ID))
publisher.asks(publish(b'x', qos=1, tid_type=1, tid=99, mid=104), puback(99, 104, REJECT_ID))
quiet.asks(subscribe(21, qos=1, topic_name=b'a/#/b'), suback(0, 21, code=REJECT_UNSUPPORTED))
quiet.asks(subscribe(22, qos=1, tid_type=1, tid=99), suback(99, 22, code=REJECT_ID))
quiet.asks(willtopicupd(b'every/#'), willtopicresp(REJECT_UNSUPPORTED))
quiet.asks(willmsgupd(b'w'), willmsgresp(REJECT_UNSUPPORTED))  # there is no will
for octets in (publish(b'x', qos=1, tid=FIRST, mid=1), PINGREQ, subscribe(1, topic_name=b'a'), register(0, 1, b'a')):
    unknown.asks(octets, DISCONNECT)
unknown.says(PINGREQ)  # a stranger is told so four times a second at most

next_step()
quiet.asks(subscribe(20, qos=2, topic_name=b'exactly/once'), suback(FIRST, 20, qos=2))

next_step()  # both handshakes of QoS 2, in which every message is repeated
quiet.asks(publish(b'once', qos=2, tid=FIRST, mid=112), pubrec(112), publish(b'once', qos=2, tid=FIRST, mid=1))

next_step()
quiet.asks(publish(b'once', qos=2, dup=1, tid=FIRST, mid=112), pubrec(112))
quiet.asks(pubrel(112), pubcomp(112))

next_step()
quiet.asks(pubrel(112), pubcomp(112))
quiet.asks(pubrec(1), pubrel(1))
quiet.asks(pubrec(1), pubrel(1))

next_step()
quiet.says(pubcomp(1))

next_step()  # nothing of this is answered
broken = [b'\x05', b'\x00\x16', b'\x01\x00\x00\x16', b'\x01\x00\x03\x16', b'\x09\x16', b'\x01\xff\xff\x0c', b'\x02\x03',
          b'\x02\xff', b'\x02\x0d', b'\x08' + puback(FIRST, 1)[1:] + b'!', b'\x06\x0c\x20\x00\x01\x00', b'\x02\x04', b'\x04\x12\x20\x00']
for octets in broken:
    quiet.sends(quiet.frame(octets))
    malformed += 1
quiet.sends(quiet.frame(b''))
malformed += 1
quiet.asks(encapsulated(b'n', PINGREQ, radius=1), encapsulated(b'n', DISCONNECT))  # nobody has connected there
quiet.says(puback(FIRST, 999))   # nothing is outstanding
quiet.says(regack(FIRST, 999))
dropped = Counter()


def drop(reason, packet):
    dropped[reason] += 1
    steps[-1].append(packet)


good = quiet.frame(PINGREQ)
packet = good.copy()
packet[UDP].chksum = 0x1234
drop('udp_checksum', packet)
packet = good.copy()
packet[IP].chksum = 0x1234
drop('ip_checksum', packet)
packet = good.copy()
packet[UDP].len = 7
drop('udp_length', packet)
packet = good.copy()
packet[IP].len = 2000
drop('ip_total_length', packet)
packet = good.copy()
packet[UDP].dport = PORT + 1
drop('udp_destination', packet)
packet = good.copy()
packet[IP].dst = '192.0.2.2'
drop('ip_destination', packet)
drop('frame_short', Ether(src=quiet.mac, dst=MAC, type=0x0800) / Raw(b'E\0\0'))
drop('ethertype', Ether(src=quiet.mac, dst=MAC, type=0x86dd) / Raw(bytes(60)))
drop('arp_elsewhere', Ether(src=quiet.mac, dst=BROADCAST) / ARP(hwsrc=quiet.mac, psrc=quiet.ip, pdst='192.0.2.200'))

next_step()  # the fragments of a datagram are put together
for part in fragment(quiet.frame(publish(bytes(1000), tid=FIRST)), fragsize=400):
    quiet.sends(part)
quiet.gets(publish(bytes(1000), tid=FIRST))

next_step()  # the long form of the length, octets behind the message
quiet.asks(long_form(PINGREQ), PINGRESP)
quiet.asks(PINGREQ + b'behind', PINGRESP)
trailing += 1
publisher.asks(long_form(publish(b'long form', qos=1, tid=FIRST, mid=107)), puback(FIRST, 107))
by_name.gets(publish(b'long form', qos=1, tid=FIRST, mid=2))
wildcard.gets(publish(b'long form', qos=1, tid=FIRST, mid=2))
far.gets(publish(b'long form', tid=FIRST))

next_step()
by_name.says(puback(FIRST, 2))
wildcard.says(long_form(puback(FIRST, 2)))
large = bytes(i * 7 & 255 for i in range(1400))
publisher.asks(publish(large, qos=1, tid=FIRST, mid=108), puback(FIRST, 108))
by_name.gets(publish(large, qos=1, tid=FIRST, mid=3))
wildcard.gets(publish(large, qos=1, tid=FIRST, mid=3))
far.gets(publish(large, tid=FIRST))

next_step()  # a durable session goes away, and finds what came meanwhile
by_name.says(puback(FIRST, 3))
wildcard.says(puback(FIRST, 3))
durable.asks(DISCONNECT, DISCONNECT)

next_step()
publisher.asks(publish(b'kept', qos=1, tid=FIRST + 1, mid=109), puback(FIRST + 1, 109))
wildcard.gets(publish(b'kept', qos=1, tid=FIRST + 1, mid=4))
far.gets(publish(b'kept', tid=FIRST + 1))

next_step()
wildcard.says(puback(FIRST + 1, 4))
durable.asks(connect(b'durable', cleansess=0), connack(), register(FIRST, 1, b'sensors/b'))

next_step()
durable.asks(regack(FIRST, 1), publish(b'kept', qos=1, tid=FIRST, mid=1))

next_step()
durable.says(puback(FIRST, 1))
by_name.asks(unsubscribe(30, topic_name=b'sensors/a'), unsuback(30))
short.asks(unsubscribe(31, tid_type=2, short_topic=b'ab'), unsuback(31))
predefined.asks(unsubscribe(32, tid_type=1, tid=PREDEFINED), unsuback(32))
quiet.asks(unsubscribe(33, topic_name=b'never/subscribed'), unsuback(33))

next_step()  # those three hear nothing any more
publisher.asks(publish(b'after', qos=1, tid=FIRST, mid=110), puback(FIRST, 110))
wildcard.gets(publish(b'after', qos=1, tid=FIRST, mid=5))
far.gets(publish(b'after', tid=FIRST))
publisher.says(publish(b'nobody', tid_type=2, tid=AB))
publisher.says(publish(b'nobody', tid_type=1, tid=PREDEFINED))

next_step()  # the wildcard subscriber has lost the id: told again, then sent again
wildcard.asks(puback(FIRST, 5, REJECT_ID), register(FIRST, 3, b'sensors/a'))

next_step()
wildcard.asks(regack(FIRST, 3), publish(b'after', qos=1, dup=1, tid=FIRST, mid=5))

next_step()
wildcard.says(puback(FIRST, 5))
for c in connected:
    c.asks(PINGREQ, PINGRESP)

next_step()
for c in connected:
    if c is not last:
        c.asks(DISCONNECT, DISCONNECT)

next_step()
publisher.asks(publish(b'x', qos=1, tid=FIRST, mid=111), DISCONNECT)
publisher.says(publish(b'x', qos=3, tid_type=2, tid=AB))

next_step()
last.asks(PINGREQ, PINGRESP)  # answered behind everything else

# --- the broker ---------------------------------------------------------------------------------------

foreign = Ether(src='02:00:00:00:02:01', dst='02:00:00:00:02:02') / IP(src='192.0.2.250', dst='192.0.2.251') / UDP(
    sport=5, dport=PORT) / Raw(PINGREQ)
frames = []
for step in steps:
    if len(step) > BURST:
        sys.exit('a step of %d frames is no burst' % len(step))
    dropped['mac_destination'] += BURST - len(step)
    frames += step + [foreign] * (BURST - len(step))
wanted = sum(len(packets) for packets in expected.values())


def runtime(prefix):
    """Where EAL keeps its sockets."""
    return '%s/dpdk/%s' % ('/var/run' if os.geteuid() == 0 else os.environ.get('XDG_RUNTIME_DIR', '/tmp'), prefix)


def telemetry(prefix, command):
    """What dpdk-telemetry.py shows for it; None while the broker is not there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(HANG_S)
        try:
            s.connect(runtime(prefix) + '/dpdk_telemetry.v2')
            s.recv(16384)
            s.send(command.encode())
            return json.loads(s.recv(65536))[command.split(',')[0]]
        except (FileNotFoundError, ConnectionError):
            return None


def run(scratch):
    path = lambda name: os.path.join(scratch, name)
    wrpcap(path('rx.pcap'), frames)
    with open(path('topics'), 'w') as f:
        f.write('%d %s\n' % (PREDEFINED, PREDEFINED_NAME.decode()))
    prefix = 'crpcap%d' % os.getpid()
    log = open(path('log'), 'w+')
    broker = subprocess.Popen(
        [BROKER, '--lcores', '0@0,1@0', '--no-pci', '--no-huge', '-m', '256', '--file-prefix', prefix,
         '--vdev=net_pcap0,rx_pcap=%s,tx_pcap=%s' % (path('rx.pcap'), path('tx.pcap')), '--', '--region',
         path('region'), '--size', '64M', '--address', OURS + '/24', '--udp-port', str(PORT), '--predefined-topics',
         path('topics'), '--retry-interval', '3600'],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    counters, ports, seen = {}, {}, (0, 0)
    try:
        deadline = time.monotonic() + HANG_S
        while seen[0] < len(frames) or seen[1] < wanted:
            if broker.poll() is not None:
                sys.exit('the broker ended:\n' + open(path('log')).read())
            if time.monotonic() > deadline:
                print('received %d of %d frames, sent %d of %d' % (seen[0], len(frames), seen[1], wanted))
                break
            time.sleep(0.05)
            stats = telemetry(prefix, '/ethdev/stats,0')
            if stats:
                seen = stats['ipackets'], stats['opackets']
        counters = telemetry(prefix, '/chainring/counters') or {}
        ports = telemetry(prefix, '/chainring/ports') or {}
        broker.send_signal(signal.SIGTERM)
        if broker.wait(timeout=HANG_S) != 0:
            sys.exit('the broker did not close cleanly:\n' + open(path('log')).read())
    finally:
        if broker.poll() is None:
            broker.kill()
            broker.wait()
        log.close()
        shutil.rmtree(runtime(prefix), ignore_errors=True)  # EAL leaves it
    return rdpcap(path('tx.pcap')), counters, ports, dissected(path('tx.pcap'))


def dissected(capture):
    """What tshark makes of each frame: (number, UDP, type, length, return code, marks of damage)."""
    shark = subprocess.run(
        ['tshark', '-r', capture, '-d', 'udp.port==%d,mqttsn' % PORT, '-T', 'fields', '-E', 'separator=|', '-e',
         'frame.number', '-e', 'udp.length', '-e', 'mqttsn.msg.type', '-e', 'mqttsn.msg.len', '-e', '_ws.malformed',
         '-e', '_ws.expert.message', '-o', 'ip.check_checksum:TRUE', '-o', 'udp.check_checksum:TRUE'],
        capture_output=True, text=True, timeout=HANG_S)
    if shark.returncode != 0:
        sys.exit('tshark: ' + shark.stderr)
    return [line.split('|') for line in shark.stdout.splitlines()]


# --- the comparison -------------------------------------------------------------------------------------

failures = fields = 0


def failed(text):
    global failures
    failures += 1
    print(text)


def computed_again(packet):
    """With every length and checksum as scapy computes it."""
    packet = packet.copy()
    for layer, names in ((IP, ('len', 'chksum', 'ihl')), (UDP, ('len', 'chksum')), (ICMP, ('chksum',)), (sn.MQTTSN, ('len',))):
        if packet.haslayer(layer) and bytes(packet[layer]) != DISCONNECT:
            for name in names:
                packet[layer].delfieldval(name)
    return Ether(bytes(packet))


def compare(where, got, want):
    global fields
    if got.haslayer(IP):
        want[IP].id = got[IP].id  # checked for all packets together
    want = computed_again(want)
    if bytes(computed_again(got)) != bytes(got):
        failed('%s: scapy computes other lengths or checksums: %s' % (where, bytes(got).hex()))
    if got.layers() != want.layers():
        return failed('%s: %s, wanted %s' % (where, got.summary(), want.summary()))
    for layer in want.layers():
        for field in want[layer].fields_desc:
            fields += 1
            a, b = got[layer].getfieldval(field.name), want[layer].getfieldval(field.name)
            if a != b:
                failed('%s: %s.%s is %r, wanted %r (%s)' % (where, layer.__name__, field.name, a, b, want.summary()))


def destination(packet):
    return (packet.dst, packet[IP].dst if packet.haslayer(IP) else packet[ARP].pdst)


with tempfile.TemporaryDirectory() as scratch:
    sent, counters, ports, seen_by_tshark = run(scratch)

got = defaultdict(list)
for packet in sent:
    got[destination(packet)].append(packet)
for key in sorted(set(got) | set(expected)):
    a, b = got[key], expected[key]
    if len(a) != len(b):
        failed('%s: %d packets, wanted %d' % (key, len(a), len(b)))
        for n in range(max(len(a), len(b))):
            print('  %d: %s | wanted %s' % (n, bytes(a[n]).hex()[84:140] if n < len(a) else '-',
                                          bytes(b[n]).hex()[84:140] if n < len(b) else '-'))
    for n, (one, other) in enumerate(zip(a, b)):
        compare('%s packet %d' % (key, n), one, other)
if not sent or not sent[-1].haslayer(sn.MQTTSN) or destination(sent[-1]) != (last.mac, last.ip):
    failed('something was sent after the last answer')
ids = [packet[IP].id for packet in sent if packet.haslayer(IP)]
if ids != [n & 0xffff for n in range(len(ids))]:
    failed('IP identifications do not follow each other: %s' % ids)

# tshark: nothing marked, and the type and length of each message as scapy has them.
if len(seen_by_tshark) != len(sent):
    failed('tshark sees %d packets of %d' % (len(seen_by_tshark), len(sent)))
judged = 0
for packet, (number, udp_length, kind, length, bad, expert) in zip(sent, seen_by_tshark):
    if bad or re.search('malformed|checksum|Bad|incorrect', expert, re.IGNORECASE):
        failed('tshark on packet %s: %s %s' % (number, bad, expert))
    if not packet.haslayer(UDP):
        continue
    judged += 1
    # A message behind a header for a forwarder has two types and two lengths.
    kinds, lengths = ([int(part, 0) for part in text.split(',') if part] for text in (kind, length))
    if not kinds or kinds[0] != packet[sn.MQTTSN].type:
        failed('tshark on packet %s: type %r, scapy has %#x' % (number, kind, packet[sn.MQTTSN].type))
    elif sum(lengths) != len(packet[sn.MQTTSN]) or int(udp_length) != 8 + len(packet[sn.MQTTSN]):
        failed('tshark on packet %s: length %s' % (number, length))

for reason, n in sorted(dropped.items()):
    if ports.get('port0', {}).get('dropped_' + reason) != n:
        failed('counted as %s: %s, there were %d' % (reason, ports.get('port0', {}).get('dropped_' + reason), n))
for name, n in (('malformed', malformed), ('trailing_octets', trailing), ('retransmitted', 1), ('sessions_lost', 0),
                ('dropped_qos0', 0), ('damaged', 0)):
    if counters.get(name) != n:
        failed('counter %s: %s, wanted %d' % (name, counters.get(name), n))

print('%d frames in %d bursts replayed; %d packets and %d fields compared, %d messages dissected by tshark; %d differences'
      % (len(frames), len(steps), len(sent), fields, judged, failures))
sys.exit(failures != 0)
