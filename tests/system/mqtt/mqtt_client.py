# SPDX-License-Identifier: BSD-3-Clause
"""A client of MQTT 3.1.1 for tests of the broker: a TCP socket of the kernel that sends what it is told, also what no
client should, and checks the form of what it receives."""
import select
import socket
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, \
    DISCONNECT, AUTH = range(1, 16)
HANG_S = 90  # this timeout only detects hangs


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(data)) + data


def packet(kind, body=b"", flags=0):
    size, n = b"", len(body)
    while True:
        size += bytes([n % 128 | (128 if n >= 128 else 0)])
        n //= 128
        if n == 0:
            return bytes([kind << 4 | flags]) + size + body


class Closed(Exception):
    """The broker has closed the connection."""


class Client:
    def __init__(self, to):
        try:
            self.sock = socket.create_connection(to, HANG_S)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except ConnectionResetError:  # the broker took the connection and ended it at once, as receive() will find
            self.sock, other = socket.socketpair()
            other.close()
        self.buffer, self.got, self.next = b"", [], 0

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the broker has closed the connection, as receive() will find

    def receive(self, seconds=HANG_S):
        """Returns the next packet as (kind, flags, body), or None when none came in time."""
        end = time.monotonic() + seconds
        while True:
            size, shift, at = 0, 0, 1
            while at < len(self.buffer):
                size |= (self.buffer[at] & 127) << shift
                shift += 7
                at += 1
                if self.buffer[at - 1] < 128:
                    if len(self.buffer) >= at + size:
                        whole, self.buffer = self.buffer[:at + size], self.buffer[at + size:]
                        return whole[0] >> 4, whole[0] & 15, whole[at:]
                    break
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                return None
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                raise Closed from None
            if not more:
                raise Closed
            self.buffer += more

    def expect(self, kind, matches=lambda body: True, acknowledge=True):
        """Returns the body of the next packet of this kind; deliveries before it are kept and acknowledged."""
        while True:
            found = self.receive()
            if found is None:
                raise SystemExit(f"no packet of type {kind} came")
            got, flags, body = found
            if got == kind and matches(body):
                return body
            if got == PUBLISH:
                self.keep(flags, body, acknowledge)
            elif got == PUBREL:
                self.send(packet(PUBCOMP, body))
            elif got != PINGRESP:  # a ping waits for nothing, so its answer may overtake others
                raise SystemExit(f"a packet of type {got} came instead of {kind}")

    def keep(self, flags, body, acknowledge=True):
        n, = struct.unpack_from(">H", body)
        topic, rest = body[2:2 + n].decode(), body[2 + n:]
        qos, packet_id = flags >> 1 & 3, b""
        if qos:
            packet_id, rest = rest[:2], rest[2:]
            if acknowledge:
                self.send(packet(PUBACK if qos == 1 else PUBREC, packet_id))
        self.got.append((topic, rest, qos, bool(flags & 1), bool(flags & 8)))
        return packet_id

    def take(self, count, seconds=HANG_S):
        """Receives and acknowledges until so many messages have come. Returns them, with what came before."""
        end = time.monotonic() + seconds
        while len(self.got) < count and (left := end - time.monotonic()) > 0:
            found = self.receive(left)
            if found is None:
                break
            kind, flags, body = found
            if kind == PUBLISH:
                self.keep(flags, body)
            elif kind == PUBREL:
                self.send(packet(PUBCOMP, body))
        got, self.got = self.got, []
        return got

    def connect(self, name, clean=True, keep_alive_s=0, will=None, level=4, protocol="MQTT"):
        """Returns (session present, return code)."""
        flags = 2 if clean else 0
        body = text(name)
        if will:
            flags |= 4 | will[2] << 3 | (32 if will[3] else 0)
            body += text(will[0]) + text(will[1])
        self.send(packet(CONNECT, text(protocol) + bytes([level, flags]) + struct.pack(">H", keep_alive_s) + body))
        answer = self.expect(CONNACK)
        return bool(answer[0]), answer[1]

    def id(self):
        self.next = self.next % 65535 + 1
        return struct.pack(">H", self.next)

    def subscribe(self, *filters, qos=1):
        mine = self.id()
        self.send(packet(SUBSCRIBE, mine + b"".join(text(f) + bytes([qos]) for f in filters), 2))
        return self.expect(SUBACK, lambda body: body[:2] == mine)[2:]

    def unsubscribe(self, *filters):
        mine = self.id()
        self.send(packet(UNSUBSCRIBE, mine + b"".join(text(f) for f in filters), 2))
        return self.expect(UNSUBACK, lambda body: body[:2] == mine)

    def publish(self, topic, data, qos=1, retain=False, dup=False, packet_id=None):
        """Publishes, and waits until the message is acknowledged (QoS 2: until PUBCOMP)."""
        mine = (packet_id or self.id()) if qos else b""
        self.send(packet(PUBLISH, text(topic) + mine + data, qos << 1 | retain | dup << 3))
        if qos == 1:
            self.expect(PUBACK, lambda body: body == mine)
        if qos == 2:
            self.expect(PUBREC, lambda body: body == mine)
            self.send(packet(PUBREL, mine, 2))
            self.expect(PUBCOMP, lambda body: body == mine)

    def closed(self):
        """True when the broker closes the connection, whatever it sends before."""
        try:
            while self.receive() is not None:
                pass
        except Closed:
            return True
        return False

    def disconnect(self):
        self.send(packet(DISCONNECT))
        self.sock.close()

    def close(self):
        self.sock.close()
