# SPDX-License-Identifier: BSD-3-Clause
"""A broker on a UDP socket with a known fault, which the generator must find.

Faults (each hits every EVERY-th delivery, so their number is known):
  none             nothing
  drop             acknowledges and never delivers
  flip             one octet of the payload changed
  cut              the payload's last octets missing
  unknown          whole, but of a sequence that was never sent
  foreign          whole, but of somebody else's run
  misroute         delivered on another topic's id, to that topic's subscriber
  duplicate        twice, the second time with DUP
  duplicate_plain  twice, without DUP
  reorder          after its successor
  garbage          a datagram that is no message, in addition
  partial          not acknowledged, and delivered to the topic's first subscriber only
  half_deaf        stops answering everything after the first EVERY deliveries
  deaf             never answers anything
"""
import socket
import struct

CONNECT, CONNACK, REGISTER, REGACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    4, 5, 0x0A, 0x0B, 0x0C, 0x0D, 0x12, 0x13, 0x16, 0x17, 0x18)


def crc32c(data):
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def resum(payload):
    return payload[:-4] + struct.pack("<I", crc32c(payload[:-4]))


class FaultyBroker:
    def __init__(self, address, fault, every):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.sock.bind((address, 10000))
        self.sock.settimeout(0.1)
        self.fault, self.every = fault, every
        self.ids, self.names = {}, {}  # topics have the same id for all clients
        self.subscribers = {}  # for each topic id, the addresses in order
        self.seen = set()  # pairs (publisher's address, message id) that were placed
        self.deliveries = self.hits = self.msg_id = 0
        self.held = {}  # for each subscriber, the delivery that waits for its successor
        self.owing = []  # for "partial": what the first subscriber gets when it returns

    def send(self, to, kind, body=b""):
        self.sock.sendto(bytes([len(body) + 2, kind]) + body, to)

    def id_of(self, name):
        if name not in self.ids:
            self.ids[name] = len(self.ids) + 1
            self.names[self.ids[name]] = name
        return self.ids[name]

    def publish(self, to, topic, payload, flags=0x20):
        self.msg_id = self.msg_id % 65535 + 1
        self.send(to, PUBLISH, bytes([flags]) + struct.pack(">HH", topic, self.msg_id) + payload)

    def deliver(self, to, topic, payload):
        self.deliveries += 1
        hit = self.deliveries % self.every == 0
        self.hits += hit
        fault = self.fault if hit else "none"
        if fault == "drop":
            return
        if fault == "flip":
            payload = payload[:30] + bytes([payload[30] ^ 0x10]) + payload[31:]
        if fault == "cut":
            payload = payload[:-3]
        if fault == "unknown":
            payload = resum(payload[:16] + struct.pack("<Q", 1 << 40) + payload[24:])
        if fault == "foreign":
            payload = resum(payload[:4] + bytes([payload[4] ^ 1]) + payload[5:])
        if fault == "misroute":
            topic = topic % len(self.ids) + 1
            to = self.subscribers[topic][0]
        if fault == "reorder" and to not in self.held:
            self.held[to] = (topic, payload)
            return
        self.publish(to, topic, payload)
        if fault == "duplicate":
            self.publish(to, topic, payload, 0xA0)
        if fault == "duplicate_plain":
            self.publish(to, topic, payload)
        if fault == "garbage":
            self.sock.sendto(b"\x09\x0c\x00", to)
        if to in self.held:
            self.publish(to, *self.held.pop(to))

    def on_publish(self, sender, body):
        topic, msg_id = struct.unpack(">HH", body[1:5])
        if self.fault == "partial" and msg_id % self.every == 0:
            if (sender, msg_id) not in self.seen:
                self.seen.add((sender, msg_id))
                self.owing.append((topic, body[5:]))
                self.hits += 1
            return
        if (sender, msg_id) not in self.seen:
            self.seen.add((sender, msg_id))
            for to in self.subscribers.get(topic, []):
                self.deliver(to, topic, body[5:])
        self.send(sender, PUBACK, body[1:5] + b"\0")

    def on_connect(self, sender, clean):
        self.send(sender, CONNACK, b"\0")
        if clean:
            return
        for topic, payload in self.owing:
            if self.subscribers[topic][0] == sender:
                # Topic names are registered again in a new connection.
                self.send(sender, REGISTER, struct.pack(">HH", topic, 1) + self.names[topic])
                self.publish(sender, topic, payload)

    def serve(self, while_running):
        """Serves until while_running() is false."""
        while while_running():
            try:
                d, sender = self.sock.recvfrom(2048)
            except TimeoutError:
                continue
            if self.fault == "deaf" or (self.fault == "half_deaf" and self.deliveries >= self.every):
                continue
            kind, body = d[1], d[2:]
            if kind == CONNECT:
                self.on_connect(sender, body[0] & 4)
            elif kind == REGISTER:
                self.send(sender, REGACK, struct.pack(">H", self.id_of(body[4:])) + body[2:4] + b"\0")
            elif kind == SUBSCRIBE:
                topic = self.id_of(body[3:])
                at = self.subscribers.setdefault(topic, [])
                if sender not in at:
                    at.append(sender)
                self.send(sender, SUBACK, b"\x20" + struct.pack(">H", topic) + body[1:3] + b"\0")
            elif kind == PUBLISH:
                self.on_publish(sender, body)
            elif kind == PINGREQ:
                self.send(sender, PINGRESP)
            elif kind == DISCONNECT:
                self.send(sender, DISCONNECT)
