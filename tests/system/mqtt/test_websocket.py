#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""MQTT in WebSockets as clients see it: MQTT.js, and a client that sends what no client should. They use the kernel's
TCP behind a TAP port. Needs root.

  test_websocket.py BROKER DIRECTORY NODE
"""
import os
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from mqtt_client import CONNACK, CONNECT, DISCONNECT, HANG_S, PINGREQ, PINGRESP, Client, Closed, packet, text
from mqtt_rig import NET, counter, expect, same, start

PROGRAM, DIRECTORY, NODE = sys.argv[1:4]
HERE = os.path.dirname(os.path.abspath(__file__))
PATH = "/devices"
REQUEST = (f"GET {PATH} HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
           "Sec-WebSocket-Version: 13\r\n")
CONNECT_ME = packet(CONNECT, text("MQTT") + b"\4\2\0\0" + text("raw"))


def frame(payload, first=0x82):
    """A frame as a client sends it, with a mask."""
    size = bytes([128 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
    return bytes([first]) + size + b"\1\2\3\4" + bytes(b ^ (n % 4 + 1) for n, b in enumerate(payload))


class WebSocket(Client):
    """A client whose request and frames are what the test says."""

    def __init__(self, request=REQUEST + "\r\n", port=8080):
        super().__init__((f"{NET}.1", port))
        self.send(request if isinstance(request, bytes) else request.encode())

    def exactly(self, size):
        while len(self.buffer) < size:
            more = self.sock.recv(65536)
            if not more:
                raise Closed
            self.buffer += more
        out, self.buffer = self.buffer[:size], self.buffer[size:]
        return out

    def head(self):
        out = b""
        while not out.endswith(b"\r\n\r\n"):
            out += self.exactly(1)
        return out.decode()

    def frame(self):
        first, size = self.exactly(2)
        if size == 126:
            size, = struct.unpack(">H", self.exactly(2))
        return first, self.exactly(size)

    def payload(self, size):
        """So many octets of payload. Control frames before its end are kept in `control`."""
        out, self.control = b"", []
        while len(out) < size:
            first, octets = self.frame()
            if first == 0x82:
                out += octets
            else:
                self.control.append((first, octets))
        return out


def upgraded():
    c = WebSocket()
    head = c.head()
    expect(head.startswith("HTTP/1.1 101 ") and "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head and
           "Sec-WebSocket-Protocol: mqtt" in head, "the answer is another than RFC 6455 says", head)
    return c


def test_mqtt_js():
    url = f"ws://{NET}.1:8080{PATH}"
    done = subprocess.run([NODE, os.path.join(HERE, "mqtt_js.js"), url], capture_output=True, text=True, timeout=HANG_S,
                          env={**os.environ, "NODE_PATH": "/usr/share/nodejs"})
    same("MQTT.js", (done.returncode, done.stdout, done.stderr), (0, "got 30 messages\n", ""))


def test_packets_cross_frames():
    c = upgraded()
    whole = CONNECT_ME + packet(PINGREQ)
    for octet in whole:
        c.send(frame(bytes([octet]), 0x82))
    same("CONNACK and PINGRESP", c.payload(6), packet(CONNACK, b"\0\0") + packet(PINGRESP))
    # One message of several frames with several packets, and a ping between the frames.
    c.send(frame(packet(PINGREQ)[:1], 0x02) + frame(b"are you there", 0x89) + frame(packet(PINGREQ)[1:] + packet(PINGREQ), 0x80))
    same("two PINGRESP", c.payload(4), packet(PINGRESP) * 2)
    same("the pong", c.control or [c.frame()], [(0x8a, b"are you there")])
    c.send(frame(packet(DISCONNECT)) + frame(b"\x03\xe8", 0x88))
    same("the close frame", c.frame(), (0x88, b"\x03\xe8"))
    expect(c.closed(), "the connection is still open")


def test_what_is_wrong_ends_the_connection():
    for request, status in ((REQUEST.replace(PATH, "/mqtt"), 404), (REQUEST.replace("GET", "POST"), 405),
                            (REQUEST.replace("Protocol: mqtt", "Protocol: amqp"), 400),
                            (REQUEST.replace("13", "7"), 426), (REQUEST + "Origin: https://evil.example\r\n", 403),
                            (REQUEST + "X: " + "x" * 9000 + "\r\n", 431)):
        c = WebSocket(request + "\r\n")
        said = c.head()
        expect(said.startswith(f"HTTP/1.1 {status} "), f"expected {status} for {request}", said)
        expect(c.closed(), f"the connection is still open after {status}")
    expect(WebSocket(CONNECT_ME).head().startswith("HTTP/1.1 400 "), "MQTT without WebSocket is not refused")
    c = WebSocket(REQUEST + "Origin: https://good.example\r\n\r\n")
    expect(c.head().startswith("HTTP/1.1 101 "), "the origin that is listed is refused")
    for what, octets, status in (("text", frame(b"x", 0x81), 1003), ("a reserved bit", frame(b"x", 0xc2), 1002)):
        c = upgraded()
        c.send(octets)
        kind, payload = c.frame()
        same(what, (kind, struct.unpack(">H", payload[:2])[0]), (0x88, status))
        expect(c.closed(), f"the connection is still open after {what}")
    c = upgraded()
    c.send(frame(b"\xf0\0"))  # not MQTT
    same("what is no MQTT", c.frame()[0], 0x88)


def main():
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        with start(PROGRAM, os.path.join(directory, "region"), "--listen", "ws://:8080" + PATH, "--websocket-origin",
                   "https://good.example", "-i", stdin=subprocess.PIPE) as b:
            for test in (test_mqtt_js, test_packets_cross_frames, test_what_is_wrong_ends_the_connection):
                test()
                expect(b.process.poll() is None, f"the broker ended in {test.__name__}", b.said())
                print(f"{test.__name__}: ok", flush=True)
            b.process.stdin.write(b"show counters\nquit\n")
            b.process.stdin.flush()
            same("the end", b.process.wait(HANG_S), 0)
            for name, least in (("upgraded", 5), ("refused", 7), ("refused_path", 1), ("refused_origin", 1), ("refused_size", 1),
                                ("pings", 1), ("text", 1), ("malformed", 1)):
                found = counter(b, "websocket_" + name)
                expect(found >= least, f"websocket_{name} is {found}, expected at least {least}")


main()
