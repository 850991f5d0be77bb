# SPDX-License-Identifier: BSD-3-Clause
"""A client of MQTT 5.0 for tests of the broker. It reads properties by the tables of the specification (2.2.2.2), and
knows nothing of the broker's own codec."""
import struct

from mqtt_client import (CONNACK, CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK,
                         UNSUBSCRIBE, Client, Closed, packet, text)

AUTH = 15
# {name: (identifier, form)}; a form is a struct's letter, v (variable byte integer), s (text), d (data) or p (pair).
PROPERTIES = {
    "payload_format": (1, "B"), "message_expiry": (2, "I"), "content_type": (3, "s"), "response_topic": (8, "s"),
    "correlation_data": (9, "d"), "subscription_id": (11, "v"), "session_expiry": (17, "I"), "assigned_id": (18, "s"),
    "server_keep_alive": (19, "H"), "auth_method": (21, "s"), "auth_data": (22, "d"), "problem_information": (23, "B"),
    "will_delay": (24, "I"), "response_information": (26, "s"), "server_reference": (28, "s"), "reason": (31, "s"),
    "receive_maximum": (33, "H"), "alias_maximum": (34, "H"), "alias": (35, "H"), "maximum_qos": (36, "B"),
    "retain_available": (37, "B"), "user": (38, "p"), "maximum_packet": (39, "I"), "wildcards": (40, "B"),
    "subscription_ids": (41, "B"), "shared": (42, "B"),
}
BY_NUMBER = {number: (name, form) for name, (number, form) in PROPERTIES.items()}


def variable(n):
    out = b""
    while True:
        out += bytes([n % 128 | (128 if n >= 128 else 0)])
        n //= 128
        if n == 0:
            return out


def read_variable(data):
    value, n = 0, 0
    while True:
        value |= (data[n] & 127) << 7 * n
        n += 1
        if data[n - 1] < 128:
            return value, data[n:]


def section(**given):
    """Octets of a property section with its length. `user` is a list of pairs."""
    out = b""
    for name, value in given.items():
        number, form = PROPERTIES[name]
        if form == "p":
            out += b"".join(bytes([number]) + text(k) + text(v) for k, v in value)
        elif form in "sd":
            out += bytes([number]) + text(value)
        else:
            out += bytes([number]) + (variable(value) if form == "v" else struct.pack(">" + form, value))
    return variable(len(out)) + out


def read_section(data):
    """Returns ({name: value}, what follows the section). `user` and `subscription_id` are lists."""
    size, data = read_variable(data)
    mine, rest = data[:size], data[size:]
    found = {}
    while mine:
        name, form = BY_NUMBER[mine[0]]
        mine = mine[1:]
        if form == "v":
            value, mine = read_variable(mine)
        elif form in "sdp":
            value = []
            for _ in range(2 if form == "p" else 1):
                n, = struct.unpack_from(">H", mine)
                value.append(mine[2:2 + n] if form == "d" else mine[2:2 + n].decode())
                mine = mine[2 + n:]
            value = tuple(value) if form == "p" else value[0]
        else:
            value, = struct.unpack_from(">" + form, mine)
            mine = mine[struct.calcsize(form):]
        if name in ("user", "subscription_id"):
            found.setdefault(name, []).append(value)
        elif name in found:
            raise SystemExit(f"property {name} came twice")
        else:
            found[name] = value
    return found, rest


class Client5(Client):
    """Keeps deliveries as (topic, payload, QoS, retain, properties). `aliases` are those of the server."""

    def __init__(self, to):
        super().__init__(to)
        self.aliases = {}
        self.raw = []  # (topic as it was sent, properties as they were sent) of deliveries

    def keep(self, flags, body, acknowledge=True):
        n, = struct.unpack_from(">H", body)
        topic, rest = body[2:2 + n].decode(), body[2 + n:]
        qos, packet_id = flags >> 1 & 3, b""
        if qos:
            packet_id, rest = rest[:2], rest[2:]
        found, payload = read_section(rest)
        self.raw.append((topic, dict(found)))
        if "alias" in found:
            alias = found.pop("alias")
            topic = self.aliases.setdefault(alias, topic) if not topic else topic
            self.aliases[alias] = topic
        if qos and acknowledge:
            self.send(packet(PUBACK if qos == 1 else PUBREC, packet_id))
        self.got.append((topic, payload, qos, bool(flags & 1), found))
        return packet_id

    def connect(self, name, clean=True, keep_alive_s=0, will=None, will_properties=None, user=None, password=None, **properties):
        """Returns (session present, reason, properties)."""
        flags = 2 if clean else 0
        body = text(name)
        if will:
            flags |= 4 | will[2] << 3 | (32 if will[3] else 0)
            body += section(**(will_properties or {})) + text(will[0]) + text(will[1])
        if user is not None:
            flags |= 128
            body += text(user)
        if password is not None:
            flags |= 64
            body += text(password)
        self.send(packet(CONNECT, text("MQTT") + bytes([5, flags]) + struct.pack(">H", keep_alive_s) + section(**properties) + body))
        answer = self.expect(CONNACK)
        found, rest = read_section(answer[2:])
        if rest:
            raise SystemExit(f"octets behind a CONNACK: {rest}")
        return bool(answer[0]), answer[1], found

    def subscribe(self, *filters, qos=1, no_local=False, as_published=False, handling=0, reasons=None, **properties):
        """Returns the reason codes."""
        mine = self.id()
        options = qos | no_local << 2 | as_published << 3 | handling << 4
        self.send(packet(SUBSCRIBE, mine + section(**properties) + b"".join(text(f) + bytes([options]) for f in filters), 2))
        return read_section(self.expect(SUBACK, lambda body: body[:2] == mine)[2:])[1]

    def unsubscribe(self, *filters):
        mine = self.id()
        self.send(packet(UNSUBSCRIBE, mine + section() + b"".join(text(f) for f in filters), 2))
        return read_section(self.expect(UNSUBACK, lambda body: body[:2] == mine)[2:])[1]

    def send_publish(self, topic, data, qos=1, retain=False, dup=False, packet_id=None, **properties):
        mine = (packet_id or self.id()) if qos else b""
        self.send(packet(PUBLISH, text(topic) + mine + section(**properties) + data, qos << 1 | retain | dup << 3))
        return mine

    @staticmethod
    def reason(body):
        """(reason, properties) of an acknowledgement behind its packet identifier."""
        return (body[2] if len(body) > 2 else 0), (read_section(body[3:])[0] if len(body) > 3 else {})

    def publish(self, topic, data, qos=1, **more):
        """Publishes, and waits for the acknowledgement (QoS 2: until PUBCOMP). Returns its reason and its properties."""
        mine = self.send_publish(topic, data, qos, **more)
        if qos == 0:
            return 0, {}
        found = self.reason(self.expect(PUBACK if qos == 1 else PUBREC, lambda body: body[:2] == mine))
        if qos == 2 and found[0] < 0x80:
            self.send(packet(PUBREL, mine, 2))
            self.expect(PUBCOMP, lambda body: body[:2] == mine)
        return found

    def ended(self):
        """(reason, properties) of the DISCONNECT with which the broker closes the connection."""
        body = self.expect(DISCONNECT)
        found = (body[0] if body else 0), (read_section(body[1:])[0] if len(body) > 1 else {})
        if not self.closed():
            raise SystemExit("the connection is open behind a DISCONNECT")
        return found

    def disconnect(self, reason=0, **properties):
        self.send(packet(DISCONNECT, bytes([reason]) + section(**properties) if reason or properties else b""))
        self.sock.close()


__all__ = ["AUTH", "Client5", "Closed", "section", "variable"]
