# SPDX-License-Identifier: BSD-3-Clause
"""An MQTT-SN 1.2 client for tests of the broker. It is a plain UDP socket, has one request at a time,
and repeats it until the answer comes. It checks the form of everything that it receives."""
import select
import socket
import struct
import time

CONNECT, CONNACK, REGISTER, REGACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    4, 5, 0x0A, 0x0B, 0x0C, 0x0D, 0x12, 0x13, 0x16, 0x17, 0x18)
ACCEPTED, CONGESTION = 0, 1
HANG_S = 90  # this timeout only detects hangs
AGAIN_S = 0.5


def encode(kind, body=b""):
    n = len(body) + 2
    return bytes([n, kind]) + body if n < 256 else b"\x01" + struct.pack(">HB", n + 2, kind) + body


def decode(datagram):
    n, at = (datagram[0], 1) if datagram[0] != 1 else (struct.unpack(">H", datagram[1:3])[0], 3)
    if n != len(datagram):
        raise SystemExit(f"the broker sent a malformed datagram: {datagram.hex()}")
    return datagram[at], datagram[at + 1:]


class Client:
    def __init__(self, name, to):
        self.name, self.to, self.got, self.message_id = name.encode(), to, [], 0
        self.topics = {}
        self.sock = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, datagram):
        try:
            self.sock.sendto(datagram, self.to)
        except OSError:
            pass  # the port is gone because the broker is

    def receive(self, seconds):
        """Returns the next message, after keeping and acknowledging deliveries; (None, b"") if none came."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.sock], [], [], left)[0]:
                break
            try:
                kind, body = decode(self.sock.recv(65536))
            except ConnectionError:
                continue
            if kind == REGISTER:
                self.send(encode(REGACK, body[:4] + b"\0"))
            elif kind == PUBLISH:
                self.got.append(body[5:])
                if body[0] & 0x60:
                    self.send(encode(PUBACK, body[1:5] + b"\0"))
            return kind, body
        return None, b""

    def ask(self, datagram, matches):
        """Sends until an answer matches(kind, body), and returns its body."""
        end = time.monotonic() + HANG_S
        while time.monotonic() < end:
            self.send(datagram)
            again = time.monotonic() + AGAIN_S
            while (left := again - time.monotonic()) > 0:
                kind, body = self.receive(left)
                if kind is not None and matches(kind, body):
                    return body
        raise SystemExit(f"{self.name.decode()}: no answer to {datagram.hex()}")

    def next_id(self):
        self.message_id = self.message_id % 0xFFFF + 1
        return struct.pack(">H", self.message_id)

    def connect(self, clean=False, keep_alive_s=0):
        flags = 4 if clean else 0
        body = self.ask(encode(CONNECT, bytes([flags, 1]) + struct.pack(">H", keep_alive_s) + self.name),
                        lambda kind, _: kind == CONNACK)
        return body[0]

    def subscribe(self, name, qos=1):
        mine = self.next_id()
        body = self.ask(encode(SUBSCRIBE, bytes([qos << 5]) + mine + name),
                        lambda kind, b: kind == SUBACK and b[3:5] == mine)
        return body[5]

    def publish(self, name, data):
        """Publishes at QoS 1 and returns the return code."""
        if name not in self.topics:
            mine = self.next_id()
            body = self.ask(encode(REGISTER, b"\0\0" + mine + name), lambda kind, b: kind == REGACK and b[2:4] == mine)
            if body[4] != ACCEPTED:
                return body[4]
            self.topics[name] = body[:2]
        mine = self.next_id()
        body = self.ask(encode(PUBLISH, b"\x20" + self.topics[name] + mine + data),
                        lambda kind, b: kind == PUBACK and b[2:4] == mine)
        return body[4]

    def disconnect(self):
        self.ask(encode(DISCONNECT), lambda kind, _: kind == DISCONNECT)
