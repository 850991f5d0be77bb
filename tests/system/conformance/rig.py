# SPDX-License-Identifier: BSD-3-Clause
"""What the conformance tests are made of: a broker on a TAP port, clients that are UDP sockets, a capture
of everything on the wire, and the comparison of what tshark reads there with what scapy reads."""
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..'), os.path.join(HERE, '..', 'region')]
import own_network  # noqa: E402,F401: everything here runs in a network namespace of its own
from regions import Broker, run  # noqa: E402
from scapy.contrib import mqttsn as sn  # noqa: E402
from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.utils import wrpcap  # noqa: E402
from sn_messages import *  # noqa: E402,F403: one function for each message

HANG_S = 60  # this timeout only detects hangs
QUIET_S = 0.3  # how long nothing must come where nothing may come
PORT = 10000


class Failed(Exception):
    """What was received where something else was expected."""


def name_of(octets):
    if octets is None:
        return 'nothing'
    kind = octets[3] if octets[0] == 1 else octets[1]
    return f"{sn.PACKET_TYPE.get(kind, hex(kind))} {octets.hex()}"


class Wire:
    """A TAP port with a broker behind it. It keeps every frame that passes."""

    def __init__(self, program, directory, *arguments):
        self.program, self.directory, self.arguments = program, directory, arguments
        self.region = os.path.join(directory, 'region')
        self.tap = f"crc{os.getpid() % 100000}"
        self.net = f"10.{190 + os.getpid() % 2}.{os.getpid() % 250}"
        self.broker_at = (f"{self.net}.1", PORT)
        self.frames, self.peers, self.ids = [], [], 0
        self.stopping = False
        self.start()

    def start(self):
        self.broker = Broker(self.program, self.region, '--size', '64M', *self.arguments,
                             vdev=f"net_tap0,iface={self.tap}", address=f"{self.net}.1/24").ready()
        run('ip', 'addr', 'replace', f"{self.net}.2/24", 'dev', self.tap)
        run('ip', 'link', 'set', self.tap, 'up')
        self.stopping = False
        self.tapped = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.tapped.bind((self.tap, 0))
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while not self.stopping:
            if select.select([self.tapped], [], [], 0.1)[0]:
                try:
                    self.frames.append(self.tapped.recv(65536))
                except OSError:
                    return

    def stop(self, kill=False):
        if kill:
            self.broker.kill()
        else:
            self.broker.end()
        self.stopping = True
        self.thread.join()
        self.tapped.close()

    def restart(self, kill=True):
        """Ends the broker, as a crash does unless told otherwise, and starts it again on its region."""
        self.stop(kill)
        self.start()

    def client(self):
        return Client(self)

    def name(self):
        """Returns a client id or topic name that no other test uses."""
        self.ids += 1
        return b'n%d' % self.ids

    def dissect(self):
        """Compares what tshark reads in each message of the broker with what scapy reads, and returns the
        number of messages and fields compared, and what differs."""
        capture = os.path.join(self.directory, 'capture.pcap')
        sent = []
        for raw in self.frames:
            frame = Ether(raw)
            if frame.haslayer(UDP) and frame[IP].src == self.broker_at[0] and frame[UDP].sport == PORT:
                sent.append(frame)
        wrpcap(capture, sent)
        shark = subprocess.run(
            ['tshark', '-r', capture, '-d', f'udp.port=={PORT},mqttsn', '-T', 'json', '--no-duplicate-keys', '-o',
             'ip.check_checksum:TRUE', '-o', 'udp.check_checksum:TRUE'], capture_output=True, text=True, timeout=300)
        if shark.returncode != 0:
            raise SystemExit('tshark: ' + shark.stderr)
        read = json.loads(shark.stdout)
        wrong, fields = [], 0
        if len(read) != len(sent):
            wrong.append(f'tshark sees {len(read)} packets of {len(sent)}')
        for frame, packet in zip(sent, read):
            layers = packet['_source']['layers']
            text = json.dumps(layers)
            octets = bytes(frame[UDP].payload)
            if '_ws.malformed' in text or 'Bad checksum' in text:
                wrong.append(f'tshark marks {name_of(octets)}')
            n, bad = compare(layers.get('mqttsn', {}), octets)
            fields += n
            wrong += bad
        return len(sent), fields, wrong


# What scapy calls a field, and what tshark calls it.
FIELDS = {'return_code': 'mqttsn.return.code', 'tid': 'mqttsn.topic.id', 'mid': 'mqttsn.msg.id', 'gw_id': 'mqttsn.gw.id',
          'duration': 'mqttsn.adv.interv', 'qos': 'mqttsn.qos', 'dup': 'mqttsn.dup', 'retain': 'mqttsn.retain',
          'tid_type': 'mqttsn.topic.id.type', 'topic_name': 'mqttsn.topic'}


def flat(tree, into):
    for key, value in tree.items():
        if isinstance(value, dict):
            flat(value, into)
        elif isinstance(value, str):
            into.setdefault(key, value)
    return into


def compare(layer, octets):
    """Returns how many fields were compared, and a sentence for each that differs."""
    seen = flat(layer if isinstance(layer, dict) else layer[0], {})
    if octets[1:2] == b'\xfe':  # a header for a forwarder; scapy has no wireless node id of other lengths
        return 0, []
    packet = sn.MQTTSN(octets)
    wrong, n = [], 0

    def same(name, got, want):
        nonlocal n
        n += 1
        if got is None or int(got, 0) != want:
            wrong.append(f'{name_of(octets)}: tshark reads {name} as {got}, scapy as {want}')

    same('mqttsn.msg.type', seen.get('mqttsn.msg.type'), packet.type)
    same('mqttsn.msg.len', seen.get('mqttsn.msg.len'), len(octets))
    body = packet.payload
    for field in getattr(body, 'fields_desc', ()):
        theirs = FIELDS.get(field.name)
        if theirs is None or theirs not in seen:
            continue
        value = body.getfieldval(field.name)
        if field.name == 'topic_name':
            n += 1
            if seen[theirs].encode() != value:
                wrong.append(f'{name_of(octets)}: tshark reads the topic as {seen[theirs]}')
        elif theirs == 'mqttsn.topic.id' and seen[theirs].isalpha():
            same(theirs, str(int.from_bytes(seen[theirs].encode(), 'big')), value)  # a short name
        else:
            same(theirs, seen[theirs], int(value))
    return n, wrong


class Client:
    """A UDP socket. Nothing is answered or repeated by itself."""

    def __init__(self, wire):
        self.wire, self.mid = wire, 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wire.peers.append(self)

    def joins(self, group):
        """Receives what is sent to the group, and sends to it."""
        self.sock.bind(('', PORT))
        mine = socket.inet_aton(f"{self.wire.net}.2")
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + mine)
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mine)
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        return self

    def broadcasts(self, octets):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.sock.sendto(octets, (f"{self.wire.net}.255", PORT))

    def next_mid(self):
        self.mid += 1
        return self.mid

    def says(self, octets):
        self.sock.sendto(octets, self.wire.broker_at)

    def hears(self, seconds=HANG_S):
        """Returns the next message, or None when none comes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.sock], [], [], left)[0]:
                try:
                    return self.sock.recv(65536)
                except ConnectionError:
                    continue
        return None

    def gets(self, *messages):
        """The next messages are exactly these."""
        for wanted in messages:
            got = self.hears()
            if got != wanted:
                raise Failed(f'got {name_of(got)}, wanted {name_of(wanted)}')

    def asks(self, octets, *answers):
        self.says(octets)
        self.gets(*answers)

    def takes(self, kind):
        """Returns the next message, of that kind, as scapy reads it."""
        got = self.hears()
        if got is None or sn.MQTTSN(got).type != kind:
            raise Failed(f'got {name_of(got)}, wanted {sn.PACKET_TYPE[kind]}')
        return sn.MQTTSN(got).payload

    def quiet(self, seconds=QUIET_S):
        """Nothing comes. A ping on another connection proves that the broker has handled what was said."""
        got = self.hears(seconds)
        if got is not None:
            raise Failed(f'got {name_of(got)}, wanted nothing')

    # --- what most tests begin with ---

    def connects(self, name=None, **fields):
        self.id = name or self.wire.name()
        self.asks(connect(self.id, **fields), connack())
        return self

    def registers(self, topic):
        mid = self.next_mid()
        self.says(register(0, mid, topic))
        answer = self.takes(sn.REGACK)
        if answer.mid != mid or answer.return_code != ACCEPTED:
            raise Failed(f'REGACK: message id {answer.mid}, return code {answer.return_code}')
        return answer.tid

    def subscribes(self, topic, qos=0):
        mid = self.next_mid()
        self.says(subscribe(mid, qos=qos, topic_name=topic))
        answer = self.takes(sn.SUBACK)
        if answer.mid != mid or answer.return_code != ACCEPTED:
            raise Failed(f'SUBACK: message id {answer.mid}, return code {answer.return_code}')
        return answer.tid

    def learns(self, topic):
        """Answers the REGISTER of that name, and returns its topic id."""
        asked = self.takes(sn.REGISTER)
        if asked.topic_name != topic:
            raise Failed(f'REGISTER of {asked.topic_name}, wanted {topic}')
        self.says(regack(asked.tid, asked.mid))
        return asked.tid

    def gets_data(self, data, qos=0):
        """The next message is a PUBLISH with that data and QoS; it is acknowledged. Returns it."""
        p = self.takes(sn.PUBLISH)
        if p.data != data or p.qos != qos:
            raise Failed(f'PUBLISH of {p.data} at QoS {p.qos}, wanted {data} at QoS {qos}')
        if qos == 1:
            self.says(puback(p.tid, p.mid))
        if qos == 2:
            self.asks(pubrec(p.mid), pubrel(p.mid))
            self.says(pubcomp(p.mid))
        return p
