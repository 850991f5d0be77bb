# SPDX-License-Identifier: BSD-3-Clause
"""A scripted MQTT-SN peer on loopback, and the program under test that runs against it."""
import os
import socket
import struct
import subprocess
import unittest

ADVERTISE, SEARCHGW, GWINFO = range(0x00, 0x03)
CONNECT, CONNACK, WILLTOPICREQ, WILLTOPIC, WILLMSGREQ, WILLMSG = range(0x04, 0x0A)
REGISTER, REGACK, PUBLISH, PUBACK, PUBCOMP, PUBREC, PUBREL = range(0x0A, 0x11)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(0x12, 0x19)
WILLTOPICUPD, WILLTOPICRESP, WILLMSGUPD, WILLMSGRESP = range(0x1A, 0x1E)

DUP, QOS1, QOS2, QOS_MINUS_1, RETAIN, WILL, CLEAN = 0x80, 0x20, 0x40, 0x60, 0x10, 0x08, 0x04
PREDEFINED, SHORT = 0x01, 0x02
ACCEPTED, CONGESTION, INVALID_TOPIC_ID, NOT_SUPPORTED = range(4)

HANG_S = 60  # this timeout only detects hangs


class Peer:
    """The broker's end: it reports what the client sent, and answers what the test says."""

    def __init__(self, address='127.0.0.1', port=0):
        family = socket.AF_INET6 if ':' in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.port = self.socket.getsockname()[1]
        self.client = None

    def close(self):
        self.socket.close()

    def receive(self, timeout_s=HANG_S):
        """Returns (type, body) of the next message."""
        self.socket.settimeout(timeout_s)
        datagram, self.client = self.socket.recvfrom(65536)
        header = 4 if datagram[0] == 1 else 2
        length = struct.unpack('>H', datagram[1:3])[0] if header == 4 else datagram[0]
        assert length == len(datagram), datagram.hex()
        return datagram[header - 1], datagram[header:]

    def expect(self, kind, again=()):
        """Returns the body of the next message, which must have this type. Retransmissions of the types
        in `again`, which are answered already, may come before it."""
        while True:
            got, body = self.receive()
            if got == kind:
                return body
            assert got in again, 'expected type %#x, got %#x %s' % (kind, got, body.hex())

    def send(self, kind, body=b''):
        length = len(body) + 2
        head = struct.pack('>BHB', 1, length + 2, kind) if length > 255 else struct.pack('>BB', length, kind)
        self.socket.sendto(head + body, self.client)

    def send_raw(self, datagram):
        self.socket.sendto(datagram, self.client)

    def accept(self, again=()):
        """Accepts the CONNECT and returns its body."""
        body = self.expect(CONNECT, again)
        self.send(CONNACK, bytes([ACCEPTED]))
        return body

    def register(self, topic_id, again=()):
        """Accepts a REGISTER and returns its topic."""
        body = self.expect(REGISTER, again)
        assert body[:2] == b'\0\0'
        self.send(REGACK, struct.pack('>H', topic_id) + body[2:4] + bytes([ACCEPTED]))
        return body[4:]

    def subscribe(self, topic_id, code=ACCEPTED, again=()):
        """Accepts a SUBSCRIBE and returns (flags, the octets of its topic)."""
        body = self.expect(SUBSCRIBE, again)
        self.send(SUBACK, bytes([body[0] & 0x60]) + struct.pack('>H', topic_id) + body[1:3] + bytes([code]))
        return body[0], body[3:]

    def publish(self, topic_id, data, flags=QOS1, msg_id=1):
        self.send(PUBLISH, struct.pack('>BHH', flags, topic_id, msg_id) + data)

    def puback(self, publish_body, code=ACCEPTED):
        self.send(PUBACK, publish_body[1:5] + bytes([code]))

    def barrier(self, again=()):
        """Returns when the client has handled everything that was sent to it; it has sent nothing meanwhile."""
        self.send(PINGREQ)
        self.expect(PINGRESP, again)

    def sleep(self, duration_s, again=()):
        """Accepts a DISCONNECT that announces a sleep."""
        assert self.expect(DISCONNECT, again) == struct.pack('>H', duration_s)
        self.send(DISCONNECT)

    def farewell(self, again=()):
        assert self.expect(DISCONNECT, again) == b''
        self.send(DISCONNECT)


class ClientTest(unittest.TestCase):
    program = None

    def setUp(self):
        self.peer = Peer()
        self.addCleanup(self.peer.close)

    def start(self, command, *arguments, host='127.0.0.1', retry_s=HANG_S,
              stdout=subprocess.PIPE):
        """Runs the program; it sends no retransmissions unless the test sets retry_s. A host of None leaves
        the choice of the broker to the arguments."""
        process = subprocess.Popen(
            [self.program, command, *(['-h', host] if host else []), '-p', str(self.peer.port), '--retry-interval',
             str(retry_s),
             *arguments], stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL='C'))
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def finish(self, process, status, stdin=None):
        """Waits for the program and returns what it wrote."""
        out, err = process.communicate(stdin, timeout=HANG_S)
        self.assertEqual(process.returncode, status, err.decode())
        return out, err.decode()
