#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The ledger of the protocol's load finds every fault that a broker could have. A real broker serves; the
faults are made on the way from it to one client. Needs root.

  test_ledger.py BROKER DIRECTORY PART...
"""
import os
import random
import struct
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import own_network  # noqa: F401
from clients import DUP, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QOS1, QOS2, RETAIN, message, number
from ledger import Broken, content, key_of
from load import Load
from one_broker import OneBroker


class Wire:
    """What a client receives. The fifth PUBLISH with content meets the fault. A PUBLISH that the broker repeats is
    none of these: what it carries may have arrived before."""

    at = 5

    def __init__(self, client):
        self.client, self.seen, self.made, self.hidden, self.kept = client, 0, 0, set(), None
        client.wire = self.pass_on

    def pass_on(self, kind, body):
        if kind == PUBREL and number(body) in self.hidden:
            self.hidden.discard(number(body))
            self.client.send(message(PUBCOMP, body))
            return []
        if kind == PUBLISH and len(body) > 16 and not self.made and not body[0] & DUP and self.fits(body):
            self.seen += 1
            if self.seen >= self.at:
                self.made += 1
                return self.fault(body)
        return [(kind, body), *self.behind(kind, body)]

    def fits(self, body):
        return True

    def behind(self, kind, body):
        return []

    def swallow(self, body):
        """Acknowledges a PUBLISH in the client's name."""
        if body[0] & QOS2:
            self.hidden.add(number(body[3:5]))
            self.client.send(message(PUBREC, body[3:5]))
        else:
            self.client.send(message(PUBACK, body[1:5] + b"\0"))
        return []


class Lose(Wire):
    def fault(self, body):
        self.kept = body[5:]
        return self.swallow(body)

    def pass_on(self, kind, body):
        if kind == PUBLISH and self.kept and body[5:] == self.kept:
            return self.swallow(body)  # the answer to the first copy came too late
        return super().pass_on(kind, body)


class LoseOne(Lose):
    at = 1


class RepeatAfterRelease(Wire):
    def fault(self, body):
        self.kept = body
        return [(PUBLISH, body)]

    def behind(self, kind, body):
        if kind == PUBREL and self.kept and number(self.kept[3:5]) == number(body):
            return [(PUBLISH, self.kept)]
        return []


class SecondCopy(Wire):
    def fault(self, body):
        return [(PUBLISH, body), (PUBLISH, body[:3] + struct.pack(">H", number(body[3:5]) ^ 0x7000) + body[5:])]


class SecondCopyOfOne(SecondCopy):
    at = 1


class Reuse(Wire):
    def fault(self, body):
        return [(PUBLISH, body), (PUBLISH, body[:-1] + bytes([body[-1] ^ 1]))]


class Tear(Wire):
    def fault(self, body):
        return [(PUBLISH, body[:10] + bytes([body[10] ^ 1]) + body[11:])]


class Invent(Wire):
    def fault(self, body):
        return [(PUBLISH, body[:5] + content(key_of(body[5:])[0], 1 << 20))]


class Misroute(Wire):
    def fault(self, body):
        mine = number(body[1:3])
        other = next(i for i in self.client.names if self.client.names[i] != self.client.names[mine])
        return [(PUBLISH, body[:1] + struct.pack(">H", other) + body[3:])]

    def pass_on(self, kind, body):
        return super().pass_on(kind, body) if len(self.client.names) > 1 else [(kind, body)]


class SetRetain(Wire):
    def fault(self, body):
        return [(PUBLISH, bytes([body[0] | RETAIN]) + body[1:])]


class LowerQoS(Wire):
    def fault(self, body):
        return [(PUBLISH, bytes([body[0] & ~QOS2 | QOS1]) + body[1:])]


class OfOneState(Wire):
    """Meets a retained message whose topic has this one state: while a publisher has no answer yet, two are right."""

    at = 1

    def fits(self, body):
        states = self.client.load.ledger.retained
        topic = self.client.names[number(body[1:3])]
        return topic in states and not states[topic].open


class LoseRetained(OfOneState, Lose):
    pass


class Stale(OfOneState):
    def fault(self, body):
        stream, n = key_of(body[5:])
        return [(PUBLISH, body[:5] + content(stream, n - 1))]


class ClearRetain(Wire):
    at = 1

    def fault(self, body):
        return [(PUBLISH, bytes([body[0] & ~RETAIN]) + body[1:])]


class BringBack(Wire):
    """Gives a message on a cleared topic, under an id of this fault's own."""

    at = 1

    def __init__(self, client):
        super().__init__(client)
        self.load = client.load

    def fault(self, body):
        topic = next((t for t, s in self.load.ledger.retained.items() if s.allowed() == {None}), None)
        if topic is None:
            raise SystemExit("no topic is clear")
        self.client.names[0x7777] = topic
        extra = body[:1] + struct.pack(">HH", 0x7777, 0x7777) + content(0, 1)
        return [(PUBLISH, body), (PUBLISH, extra), (PUBREL, extra[3:5])]


class RevokeWill(Wire):
    """Gives the will of a client that sent DISCONNECT."""

    at = 1

    def __init__(self, client):
        super().__init__(client)
        self.load = client.load

    def fault(self, body):
        key = min(self.load.ledger.never)
        self.client.names[0x7777] = self.load.ledger.topics[key[0]]
        return [(PUBLISH, body), (PUBLISH, body[:1] + struct.pack(">HH", 0x7777, 0x7777) + content(*key))]


class Wake(Wire):
    """Gives a message again while the client sleeps, after a PINGREQ that was not repeated: what comes after a
    repeated one may be for its first copy, and the load does not judge it."""

    def fault(self, body):
        self.kept = body
        return [(PUBLISH, body)]

    def behind(self, kind, body):
        if kind == PINGRESP and self.kept and self.client.state == "awake" and self.client.tries == 1:
            return [(PUBLISH, self.kept)]
        return []


class NeverPublish(Wire):
    """Answers one PUBLISH of a publisher in the broker's place, and the broker never sees it."""

    def __init__(self, client):
        super().__init__(client)
        self.sending, self.mine, self.answers = client.send, None, []
        client.send = self.send

    def send(self, datagram):
        kind = datagram[1]
        if kind == PUBLISH and self.mine is None and self.client.sequence == 5:
            self.mine = datagram[5:7]
        if self.mine and kind in (PUBLISH, PUBREL) and (datagram[5:7] if kind == PUBLISH else datagram[2:]) == self.mine:
            self.made = 1
            self.client.on(PUBREC if kind == PUBLISH else PUBCOMP, self.mine)
            return
        self.sending(datagram)

    def pass_on(self, kind, body):
        return [(kind, body)]


# The part, the client, what happens to it, and the beginning of what the ledger must say.
FAULTS = [
    ("qos2", "subscriber0", Lose, "lost: 1 deliveries"),
    ("qos2", "publisher1", NeverPublish, "lost: 2 deliveries"),
    ("qos2", "subscriber0", RepeatAfterRelease, "doubled: "),
    ("qos2", "subscriber1", SecondCopy, "doubled: "),
    ("qos2", "subscriber0", Reuse, "reused: "),
    ("qos2", "subscriber1", Tear, "torn: "),
    ("qos2", "subscriber0", Invent, "unknown: "),
    ("qos2", "subscriber1", Misroute, "misrouted: "),
    ("qos2", "subscriber0", SetRetain, "flag: "),
    ("qos2", "subscriber0", LowerQoS, "flag: "),
    ("retained", "present", Lose, "lost: 1 deliveries"),
    ("retained", "present", SecondCopy, "doubled: "),
    ("retained", "checker", LoseRetained, "retained lost or stale: "),
    ("retained", "checker", Stale, "retained lost or stale: "),
    ("retained", "checker", BringBack, "retained again: "),
    ("retained", "checker", ClearRetain, "flag: "),
    ("retained", "checker", SecondCopyOfOne, "doubled: "),
    ("wills", "heir", LoseOne, "lost: 1 deliveries"),
    ("wills", "heir", RevokeWill, "forbidden: "),
    ("wills", "heir", SecondCopyOfOne, "doubled: "),
    ("groups", "member0", Lose, "lost: 1 deliveries"),
    ("groups", "worker0", Lose, "lost: 1 deliveries"),
    ("groups", "member0", SecondCopy, "doubled: "),
    ("sleepers", "sleeper0", Lose, "lost: 1 deliveries"),
    ("sleepers", "sleeper1", Wake, "woken: "),
    ("sleepers", "sleeper1", SecondCopy, "doubled: "),
]


class FaultyLoad(Load):
    """A load with a fault for one client. `lost` deliveries are not waited for, because they never come."""

    def __init__(self, client, fault, lost, *arguments):
        super().__init__(*arguments)
        self.victim, self.fault, self.wires, self.lost = client, fault, [], lost
        for c in self.clients:
            self.add_wire(c)

    def add_wire(self, client):
        if client.name.removeprefix(self.prefix).startswith(self.victim):
            client.load = self
            self.wires.append(self.fault(client))

    def made(self):
        return any(w.made for w in self.wires)

    def before_kill(self, acknowledged):
        """A publisher meets its fault before it is told to publish no more."""
        super().before_kill(acknowledged)
        if any(w.client in self.publishers for w in self.wires):
            self.wait_for_fault()

    def vanish(self, members):
        """A member vanishes behind its fault: the others may have been given all messages until now."""
        if any(w.client in members for w in self.wires):
            self.wait_for_fault()
        super().vanish(members)

    def wait_for_fault(self):
        self.serve(until=self.made, what="a message that meets the fault")


def verdict(load, restart):
    try:
        load.start()
        load.before_kill(60)
        restart()
        load.after_restart()
        load.finish()
        return "nothing"
    except Broken as what:
        return str(what)


if __name__ == "__main__":
    seed = int(os.environ.get("CHAINRING_SEED", random.randrange(1 << 30)))
    print(f"CHAINRING_SEED={seed}", flush=True)
    choose = random.Random(seed)
    parts = sys.argv[3:]
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as scratch:
        broker = OneBroker(sys.argv[1], scratch)

        def restart():
            broker.process.kill()
            broker.process.wait()
            broker.start()

        try:
            broker.start()
            for n, (part, client, fault, wanted) in enumerate(f for f in FAULTS if f[0] in parts):
                lost = int(wanted.split()[1]) if wanted.startswith("lost: ") else 0
                load = FaultyLoad(client, fault, lost, broker.address, choose, [part], f"run{n}/")
                got = verdict(load, restart if part == "wills" else lambda: None)
                if not got.startswith(wanted) or not load.made():
                    raise SystemExit(f"{part}, {client}, {fault.__name__}: expected '{wanted}', not '{got}'; the fault "
                                     f"was {'' if load.made() else 'not '}made\n"
                                     f"{load.ledger.report()}\n{broker.says()}")
                print(f"{part}, {fault.__name__}: {got.splitlines()[0][:90]}", flush=True)
                for c in load.clients:
                    c.close()
            for n, part in enumerate(parts):
                load = FaultyLoad("nobody", Wire, 0, broker.address, choose, [part], f"whole{n}/")
                got = verdict(load, restart)
                if got != "nothing":
                    raise SystemExit(f"{part}: without a fault the ledger says '{got}'\n{broker.says()}")
                print(f"{part}: without a fault the ledger says nothing", flush=True)
        finally:
            broker.end()
