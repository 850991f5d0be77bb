# SPDX-License-Identifier: BSD-3-Clause
"""What was published, acknowledged and delivered, and the judgement of it.

Every message says in its content which stream it belongs to and which number it has there. A stream has one
publisher and one topic. An audience is one subscriber, or the members of one shared subscription."""
import struct
import zlib


class Broken(Exception):
    """The broker broke its contract."""


def content(stream, number):
    text = struct.pack(">II", stream, number) + bytes((number * 7 + i) & 255 for i in range(20 + number % 60))
    return text + struct.pack(">I", zlib.crc32(text))


def key_of(data):
    """Returns the stream and the number of a message's content."""
    if len(data) < 12 or zlib.crc32(data[:-4]) != struct.unpack(">I", data[-4:])[0]:
        raise Broken(f"torn: {data.hex()}")
    return struct.unpack(">II", data[:8])


class Audience:
    """Receivers of streams, who together get each message at least once, or exactly once."""

    def __init__(self, name, streams, exactly_once):
        self.name, self.streams, self.exactly_once = name, streams, exactly_once
        self.got = {}  # for each key the number of its deliveries

    def receive(self, key, who):
        self.got[key] = self.got.get(key, 0) + 1
        if self.exactly_once and self.got[key] > 1:
            raise Broken(f"doubled: {who} of {self.name} got message {key} {self.got[key]} times")

    def doubled(self):
        return sum(n - 1 for n in self.got.values())


class Retained:
    """A topic with a retained message: the last acknowledged one, and one that has no answer yet. The
    number None means that the topic is clear."""

    def __init__(self):
        self.known, self.open = None, False
        self.next = None

    def publish(self, number):
        self.next, self.open = number, True

    def acknowledge(self):
        self.known, self.open = self.next, False

    def allowed(self):
        return {self.known, self.next} if self.open else {self.known}


class Ledger:
    def __init__(self):
        self.topics = {}  # for each stream its topic
        self.sent, self.acked, self.never = set(), set(), set()
        self.audiences, self.retained = [], {}
        self.counts = {}

    def stream(self, topic):
        self.topics[len(self.topics)] = topic
        return len(self.topics) - 1

    def audience(self, name, streams, exactly_once=True):
        self.audiences.append(Audience(name, streams, exactly_once))
        return self.audiences[-1]

    def count(self, what, n=1):
        self.counts[what] = self.counts.get(what, 0) + n

    def missing(self):
        """Returns (audience, key) for each acknowledged message that has not come."""
        return [(a, k) for a in self.audiences for k in self.acked if k[0] in a.streams and k not in a.got]

    def deliveries(self):
        return sum(sum(a.got.values()) for a in self.audiences)

    def check_delivery(self, audience, data, topic, who):
        """Enters a delivery. The topic is the one that the broker named to the receiver."""
        key = key_of(data)
        if key not in self.sent:
            raise Broken(f"unknown: {who} got message {key}, which was never sent")
        if key in self.never:
            raise Broken(f"forbidden: {who} got message {key}, which must not be published")
        if key[0] not in audience.streams or topic != self.topics[key[0]]:
            raise Broken(f"misrouted: {who} got message {key} on {topic}")
        audience.receive(key, who)
        return key

    def check_retained(self, given, who):
        """Judges what a new subscriber was given: a number for each topic that has a message."""
        for topic, state in self.retained.items():
            if given.get(topic) not in state.allowed():
                what = "retained again" if state.known is None else "retained lost or stale"
                raise Broken(f"{what}: {who} got {given.get(topic)} on {topic}, not one of {state.allowed()}")
        self.count("retained messages given", len(given))
        self.count("cleared topics", sum(s.allowed() == {None} for s in self.retained.values()))

    def check_complete(self):
        missing = self.missing()
        if missing:
            some = ", ".join(f"{a.name}: {k}" for a, k in missing[:8])
            raise Broken(f"lost: {len(missing)} deliveries of {len(self.acked)} acknowledged messages, as {some}")

    def report(self):
        lines = []
        for a in self.audiences:
            due = sum(k[0] in a.streams for k in self.acked)
            lines.append(f"{a.name}: {due} acknowledged, {sum(a.got.values())} delivered, "
                         f"{sum(k not in a.got for k in self.acked if k[0] in a.streams)} lost, {a.doubled()} delivered again")
        return "\n".join(lines + [", ".join(f"{n} {what}" for what, n in sorted(self.counts.items()))])
