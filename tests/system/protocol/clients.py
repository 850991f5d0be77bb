# SPDX-License-Identifier: BSD-3-Clause
"""MQTT-SN clients that outlive the broker. Each is a UDP socket with one request at a time, which it repeats
until the answer comes. After a restart the broker answers DISCONNECT, and the client connects again and
takes its exchanges up where they were. No client hides a message that came twice."""
import socket
import struct
import time

from ledger import Broken, Retained, content

(CONNECT, CONNACK, WILLTOPICREQ, WILLTOPIC, WILLMSGREQ, WILLMSG, REGISTER, REGACK, PUBLISH, PUBACK, PUBCOMP, PUBREC,
 PUBREL, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT) = (
    4, 5, 6, 7, 8, 9, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x12, 0x13, 0x16, 0x17, 0x18)
DUP, QOS2, QOS1, RETAIN, WILL, CLEAN = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04
QOS_BITS = 0x60
SO_NO_CHECK = 11  # <asm/socket.h>
AGAIN_S, PING_S = 0.3, 0.5


def message(kind, body=b""):
    return bytes([len(body) + 2, kind]) + body


def number(octets):
    return struct.unpack(">H", octets)[0]


class Client:
    """`on_delivery(topic, data, flags)` is told of each message once for each time that it came as a new one."""

    def __init__(self, name, to, clean=False, keep_alive_s=0, on_delivery=None):
        self.name, self.to, self.clean, self.keep_alive_s = name, to, clean, keep_alive_s
        self.on_delivery = on_delivery
        self.open_socket()
        self.connected = False
        self.waiting = None  # the request without an answer: its datagram and the time when it was last sent
        self.tries = 0  # how often the last request was sent
        self.open = {}  # messages at QoS 2 that have no PUBREL yet, by message id
        self.names = {}  # topics by the ids that the broker gave in this connection
        self.filters, self.subscribed, self.granted = [], 0, None
        self.last = 0.0
        self.repeats = self.connects = 0
        self.wire = None  # a fault on the way in: (kind, body) to a list of what arrives

    def open_socket(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)  # a guest is not told of a checksum that is missing
        self.sock.setblocking(False)

    def close(self):
        self.sock.close()

    def send(self, datagram):
        self.last = time.monotonic()
        try:
            self.sock.sendto(datagram, self.to)
        except OSError:
            pass  # the port is gone because the broker is

    def ask(self, datagram):
        self.tries = self.tries + 1 if self.waiting and self.waiting[0] == datagram else 1
        self.waiting = [datagram, time.monotonic()]
        self.send(datagram)

    def start(self):
        self.connected, self.names = False, {}
        will = WILL if self.will else 0
        self.ask(message(CONNECT, bytes([will | (CLEAN if self.clean else 0), 1]) +
                         struct.pack(">H", self.keep_alive_s) + self.name.encode()))

    will = None  # the topic and the content
    qos = QOS2
    again_s = AGAIN_S

    def subscribe(self, *filters, qos=QOS2):
        """Subscribes. The requests follow when the client is connected."""
        self.filters += filters
        self.qos = qos

    def idle(self):
        return self.connected and self.waiting is None and self.subscribed == len(self.filters)

    def poll(self):
        while True:
            try:
                d = self.sock.recv(2048)
            except (BlockingIOError, ConnectionError):
                break
            if len(d) < 2 or d[0] != len(d):
                raise Broken(f"malformed: {self.name} got {d.hex()}")
            for kind, body in self.wire(d[1], d[2:]) if self.wire else [(d[1], d[2:])]:
                self.on(kind, body)
        now = time.monotonic()
        if self.waiting and now - self.waiting[1] > self.again_s:
            self.ask(self.waiting[0])
        elif self.connected and not self.waiting:
            if self.subscribed < len(self.filters):
                self.ask(message(SUBSCRIBE, bytes([self.qos]) + struct.pack(">H", self.subscribed + 1) +
                                 self.filters[self.subscribed].encode()))
            elif not self.next_request() and now - self.last > PING_S:
                self.send(message(PINGREQ))  # a broker that was restarted answers DISCONNECT

    def next_request(self):
        """Makes the client's next request, if there is one. Returns whether there was."""
        return False

    def on_connected(self):
        pass

    def on_answer(self, kind, body):
        pass

    def on(self, kind, body):
        if kind == DISCONNECT:
            self.on_disconnect()
        elif kind == WILLTOPICREQ and self.will and not self.connected:
            self.send(message(WILLTOPIC, bytes([QOS2]) + self.will[0].encode()))
        elif kind == WILLMSGREQ and self.will and not self.connected:
            self.send(message(WILLMSG, self.will[1]))
        elif kind == CONNACK:
            if body[0] > 1:  # only "congestion" may be over soon
                raise Broken(f"refused: {self.name} got CONNACK with the code {body[0]}")
            if body[0] == 0 and not self.connected:
                self.connected, self.waiting, self.connects = True, None, self.connects + 1
                self.on_connected()
        elif kind == SUBACK:
            if self.subscribed < len(self.filters) and number(body[3:5]) == self.subscribed + 1 and body[5] == 0:
                if number(body[1:3]):
                    self.names[number(body[1:3])] = self.filters[self.subscribed]
                self.granted = body[0] & QOS_BITS
                self.subscribed, self.waiting = self.subscribed + 1, None
        elif kind == REGISTER:
            self.names[number(body[:2])] = body[4:].decode()
            self.send(message(REGACK, body[:4] + b"\0"))
        elif kind == PUBLISH:
            self.on_publish(body)
        elif kind == PUBREL:
            self.open.pop(number(body), None)
            self.send(message(PUBCOMP, body))
        else:
            self.on_answer(kind, body)

    def on_disconnect(self):
        self.start()

    def on_publish(self, body):
        flags, topic, message_id, data = body[0], number(body[1:3]), number(body[3:5]), body[5:]
        if flags & QOS_BITS == QOS2:
            if message_id in self.open:
                if self.open[message_id] != data:
                    raise Broken(f"reused: {self.name} got another message under id {message_id} before PUBREL")
                self.repeats += 1
            else:
                self.open[message_id] = data
                self.deliver(topic, data, flags)
            self.send(message(PUBREC, body[3:5]))
        else:
            self.deliver(topic, data, flags)
            if flags & QOS_BITS == QOS1:
                self.send(message(PUBACK, body[1:5] + b"\0"))

    def deliver(self, topic, data, flags):
        if topic not in self.names:
            raise Broken(f"misrouted: {self.name} got a message with topic id {topic}, of which it was not told")
        if self.on_delivery:
            self.on_delivery(self.names[topic], data, flags)


class Publisher(Client):
    """Publishes at QoS 2 to its streams in turn, each message until PUBREC and then until PUBCOMP. A
    retained topic is cleared now and then."""

    def __init__(self, name, to, ledger, topics, retain=False, more=lambda: True):
        super().__init__(name, to)
        self.ledger, self.retain, self.more = ledger, retain, more
        self.streams = [ledger.stream(t) for t in topics]
        if retain:
            for t in topics:
                ledger.retained.setdefault(t, Retained())
        self.sequence, self.message_id = 0, 0
        self.exchange = None  # the stream, the number (None clears), and whether PUBREC came
        self.ids, self.tried = {}, False

    def on_connected(self):
        self.ids = {}
        if self.exchange and self.tried:
            self.ledger.count("PUBRELs resumed" if self.exchange[2] else "PUBLISHes resumed")

    def next_request(self):
        if self.exchange is None:
            if not self.more():
                return False
            self.sequence += 1
            stream = self.streams[self.sequence % len(self.streams)]
            clears = self.retain and self.sequence // len(self.streams) % 3 == stream % 3
            self.exchange = [stream, None if clears else self.sequence, False]
            self.message_id = self.message_id % 0xFFFF + 1
            self.tried = False
            if not clears:
                self.ledger.sent.add((stream, self.sequence))
            if self.retain:
                self.ledger.retained[self.ledger.topics[stream]].publish(self.exchange[1])
        stream, n, released = self.exchange
        topic = self.ledger.topics[stream]
        if released:
            self.ask(message(PUBREL, struct.pack(">H", self.message_id)))
        elif topic not in self.ids:
            self.ask(message(REGISTER, struct.pack(">HH", 0, self.message_id) + topic.encode()))
        else:
            flags = QOS2 | (DUP if self.tried else 0) | (RETAIN if self.retain else 0)
            self.tried = True
            data = b"" if n is None else content(stream, n)
            self.ask(message(PUBLISH, bytes([flags]) + struct.pack(">HH", self.ids[topic], self.message_id) + data))
        return True

    def on_answer(self, kind, body):
        if not self.exchange or not self.waiting:
            return
        stream, n, released = self.exchange
        if kind == REGACK and number(body[2:4]) == self.message_id and body[4] == 0:
            self.ids[self.ledger.topics[stream]] = number(body[:2])
            self.waiting = None
        elif kind == PUBREC and number(body) == self.message_id and not released:
            self.exchange[2], self.waiting = True, None
            if n is not None:
                self.ledger.acked.add((stream, n))
            self.ledger.count("acknowledged at QoS 2")
            if self.retain:
                self.ledger.retained[self.ledger.topics[stream]].acknowledge()
        elif kind == PUBCOMP and number(body) == self.message_id and released:
            self.exchange, self.waiting = None, None

    def quiet(self):
        return self.connected and self.exchange is None


class Leaver(Client):
    """Connects with a will, and sends DISCONNECT when it is told to leave. `gone` says that the answer came."""

    def __init__(self, name, to, will, keep_alive_s=0):
        super().__init__(name, to, keep_alive_s=keep_alive_s)
        self.will = will
        self.leaving = self.gone = False

    def leave(self):
        self.leaving = True

    def next_request(self):
        if self.leaving:
            self.ask(message(DISCONNECT))
        return self.leaving

    def poll(self):
        if not self.gone:
            super().poll()

    def on_disconnect(self):
        if self.leaving and self.connected:
            self.gone, self.waiting = True, None
        else:
            self.start()


class Sleeper(Client):
    """Sleeps, and wakes for its messages. Nothing may reach it between."""

    def __init__(self, name, to, choose, on_delivery):
        super().__init__(name, to, on_delivery=on_delivery)
        self.choose, self.state, self.wakes_at, self.stays = choose, "active", 0.0, False
        self.wakes = 0

    def start(self):
        self.state = "active"
        super().start()

    def next_request(self):
        if self.state == "active" and not self.stays:
            self.state = "falling asleep"
            self.ask(message(DISCONNECT, struct.pack(">H", 600)))
        return self.state != "active"

    def poll(self):
        super().poll()
        if self.state == "asleep" and (self.stays or time.monotonic() > self.wakes_at):
            self.state = "awake"
            self.ask(message(PINGREQ, self.name.encode()))

    def sleep(self):
        self.state, self.waiting = "asleep", None
        self.wakes_at = time.monotonic() + self.choose.uniform(0.05, 0.4)

    def on_disconnect(self):
        if self.state == "falling asleep":
            self.sleep()  # the broker of before the kill or the one of after it: PINGREQ will tell
        else:
            self.start()

    def on_answer(self, kind, body):
        if kind == PINGRESP and self.state == "awake":
            self.wakes += 1
            self.sleep()

    def on_publish(self, body):
        if self.state == "asleep" and self.tries == 1:  # a repeated request may have its second answer late
            raise Broken(f"woken: {self.name} got a message while it slept")
        super().on_publish(body)
