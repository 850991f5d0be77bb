# SPDX-License-Identifier: BSD-3-Clause
"""A load of clients whose ledger says at any time what the broker owes. Each part is independent:

  qos2      publishers and subscribers, exactly once
  retained  topics that are set and cleared; a new subscriber after each restart gets the last state
  wills     clients that never return after a kill, clients that return, and clients that sent DISCONNECT
  groups    members of two shared subscriptions, at QoS 2 and at QoS 1, one of each vanishes in each round
  sleepers  clients that sleep and wake
"""
import select
import time

from clients import DISCONNECT, PUBACK, PUBLISH, QOS1, QOS2, QOS_BITS, REGACK, REGISTER, RETAIN, SUBSCRIBE
from clients import Client, Leaver, Publisher, Sleeper, message, number
from ledger import Broken, Ledger, content, key_of

PARTS = ("qos2", "retained", "wills", "groups", "sleepers")
HANG_S = 300  # this timeout only detects hangs; a guest takes long to boot
AHEAD_MAX = 300  # how many deliveries, of one exchange at a time each, subscribers may lag behind
MEMBERS = 3
WILL_GRACE_S = 8  # the broker's --will-grace


class Checker(Client):
    """A new subscriber to retained topics. A message of its own shows that it was given everything. Each SUBSCRIBE
    is given everything, also one that repeats another. So this client is slow to repeat, and judges doubles only
    where it did not."""

    MARK = b"the last one"
    again_s = 5

    def __init__(self, name, to, prefix):
        super().__init__(name, to, clean=True, on_delivery=self.given_one)
        self.given, self.done, self.mark = {}, False, prefix + "ret/mark"
        self.mark_id, self.subscribes = None, 0
        self.subscribe(prefix + "ret/#")

    def ask(self, datagram):
        self.subscribes += datagram[1] == SUBSCRIBE
        super().ask(datagram)

    def given_one(self, topic, data, flags):
        if topic == self.mark:
            self.done = True
        elif not flags & RETAIN:
            raise Broken(f"flag: {self.name} got a message on {topic} without the retain flag")
        elif topic in self.given and self.subscribes == 1:
            raise Broken(f"doubled: {self.name} was given two retained messages on {topic}")
        else:
            self.given[topic] = key_of(data)[1]

    def next_request(self):
        if self.done:
            return False
        if self.mark_id is None:
            self.ask(message(REGISTER, b"\0\0\0\7" + self.mark.encode()))
        else:
            self.ask(message(PUBLISH, bytes([QOS1]) + self.mark_id + b"\0\7" + self.MARK))
        return True

    def on_answer(self, kind, body):
        if kind == REGACK and body[4] == 0:
            self.mark_id, self.names[number(body[:2])], self.waiting = body[:2], self.mark, None
        elif kind == PUBACK and body[4] == 0:
            self.waiting = None


class Load:
    """`serve` runs the clients. The caller kills the broker between before_kill() and after_restart(), and
    runs them meanwhile."""

    def __init__(self, to, choose, parts=PARTS, prefix=""):
        self.to, self.choose, self.parts, self.prefix = to, choose, parts, prefix
        self.ledger, self.clients, self.rounds = Ledger(), [], 0
        self.publishers, self.retainers, self.leavers, self.returners = [], [], [], []
        self.doomed, self.groups, self.vanished, self.sleepers = [], [], [], []
        self.publishing, self.started, self.lost = True, False, 0
        topics = [prefix + f"load/{i}" for i in range(3)]
        if {"qos2", "groups", "sleepers"} & set(parts):
            self.publishers = [self.add(Publisher(f"{prefix}publisher{i}", to, self.ledger, topics, more=self.more))
                               for i in range(4)]
        streams = {s for p in self.publishers for s in p.streams}
        if "qos2" in parts:
            self.subscriber("subscriber0", streams, prefix + "load/#")
            self.subscriber("subscriber1", streams, *topics)
            one = {s for s in streams if self.ledger.topics[s] == topics[1]}
            self.subscriber("subscriber2", one, topics[1])
        if "retained" in parts:
            self.retainers = [
                self.add(Publisher(f"{prefix}retainer{i}", to, self.ledger, [prefix + f"ret/{i}/{n}" for n in range(4)],
                                   retain=True, more=self.more)) for i in range(2)]
            self.subscriber("present", {s for p in self.retainers for s in p.streams}, prefix + "ret/+/+", empty=True)
        if "wills" in parts:
            self.will_streams = set()
            self.subscriber("heir", self.will_streams, prefix + "will/#")
        if "groups" in parts:
            for name, member, qos in (("group", "member", QOS2), ("group at QoS 1", "worker", QOS1)):
                audience = self.ledger.audience(name, streams, exactly_once=qos == QOS2)
                members = [self.add(self.member(audience, f"{member}{i}", qos)) for i in range(MEMBERS)]
                self.groups.append(members)
        if "sleepers" in parts:
            for i in range(2):
                audience = self.ledger.audience(f"sleeper{i}", streams)
                s = self.add(Sleeper(f"{prefix}sleeper{i}", to, choose, self.entering(audience, f"sleeper{i}")))
                s.subscribe(prefix + "load/#")
                self.sleepers.append(s)

    def add(self, client):
        self.clients.append(client)
        return client

    def entering(self, audience, who, empty=False):
        def on_delivery(topic, data, flags):
            if empty and not data and not flags & RETAIN:
                return  # a publisher cleared the topic
            if flags & RETAIN:
                raise Broken(f"flag: {who} got a message on {topic} with the retain flag")
            if flags & QOS_BITS != (QOS2 if audience.exactly_once else QOS1):
                raise Broken(f"flag: {who} got a message on {topic} at another QoS than it asked for")
            self.ledger.check_delivery(audience, data, topic, who)
        return on_delivery

    def subscriber(self, name, streams, *filters, empty=False):
        audience = self.ledger.audience(name, streams)
        c = self.add(Client(self.prefix + name, self.to, on_delivery=self.entering(audience, name, empty)))
        c.subscribe(*filters)

    def member(self, audience, name, qos):
        # A member that vanishes is lost after its keep-alive time, or its lease ends before.
        c = Client(self.prefix + name, self.to, keep_alive_s=2, on_delivery=self.entering(audience, name))
        c.subscribe(f"$share/{'all' if qos == QOS2 else 'each'}/{self.prefix}load/#", qos=qos)
        return c

    def more(self):
        return self.publishing and self.behind() < AHEAD_MAX

    def behind(self):
        return max(sum(k[0] in a.streams for k in self.ledger.acked) - len(a.got) for a in self.ledger.audiences)

    def serve(self, seconds=None, until=None, progress=None, what=None):
        """Serves for a time, or until a condition holds. Fails when nothing changes any more."""
        begun, seen = time.monotonic(), None
        while time.monotonic() < begun + (HANG_S if seconds is None else seconds):
            select.select([c.sock for c in self.clients], [], [], 0.02)
            for c in list(self.clients):
                c.poll()
            if until and until():
                return
            if progress and progress() != seen:
                begun, seen = time.monotonic(), progress()
        if until:
            states = [f"{c.name}: connected {c.connected}, waiting for {c.waiting and c.waiting[0][:20].hex()}"
                      for c in self.clients if not c.idle()]
            if not self.publishing:
                self.ledger.check_complete()
            raise Broken(f"hung: {what} never came\n" + "\n".join(states))

    def start(self):
        """Starts all clients; the publishers begin when everybody has subscribed."""
        self.started = True
        late = self.publishers + self.retainers
        for c in self.clients:
            if c not in late:
                c.start()
        self.serve(until=lambda: all(c.subscribed == len(c.filters) for c in self.clients), what="an SUBACK")
        for c in (c for members in self.groups for c in members):
            if c.granted != c.qos:
                raise Broken(f"granted: {c.name} was granted another QoS than it asked for")
        for c in late:
            c.start()

    def with_will(self, name, keep_alive_s=0):
        stream = self.ledger.stream(f"{self.prefix}will/{name}")
        self.will_streams.add(stream)
        self.ledger.sent.add((stream, 1))
        c = self.add(Leaver(f"{self.prefix}{name}", self.to, (self.ledger.topics[stream], content(stream, 1)),
                            keep_alive_s))
        c.key = (stream, 1)
        c.start()
        return c

    def before_kill(self, acknowledged):
        """Prepares the round's wills, and serves until so many more messages are acknowledged."""
        if "wills" in self.parts:
            self.doomed = [self.with_will(f"doomed{self.rounds}.{i}") for i in range(2)]
            self.returners = [self.with_will(f"returner{self.rounds}")]
            leavers = [self.with_will(f"leaver{self.rounds}")]
            self.serve(until=lambda: all(c.idle() for c in self.doomed + self.returners + leavers), what="a CONNACK")
            for c in self.doomed:  # silent from here on, and still connected at the kill
                self.clients.remove(c)
            for c in leavers:
                c.leave()
            self.serve(until=lambda: all(c.gone for c in leavers), what="the answer to DISCONNECT")
            for c in leavers:
                self.ledger.never.add(c.key)
                self.ledger.count("clients that left, with a will")
                self.remove(c)
        if self.groups:
            self.bring_back(self.vanished)  # those of the former round
            self.vanished = [self.choose.choice(members) for members in self.groups]
        before = len(self.ledger.acked)
        if self.publishers or self.retainers:
            self.serve(until=lambda: len(self.ledger.acked) >= before + acknowledged,
                       what="a PUBREC")
        self.ready_at = time.monotonic()
        self.vanish(self.vanished)

    def bring_back(self, members):
        for c in members:
            c.open_socket()
            self.add(c)
            c.start()

    def vanish(self, members):
        for c in members:
            self.remove(c)
            self.ledger.count("members vanished")

    def after_restart(self):
        self.rounds += 1
        for c in self.doomed:  # they never return
            self.ledger.acked.add(c.key)
            self.ledger.count("clients that died with a will")
            c.close()
        self.doomed = []
        if "retained" in self.parts:
            self.check_retained()
        if "wills" in self.parts:
            # They connected again with the same will, and now they leave. Where the broker died once more while
            # it started, they may have connected more than once.
            self.serve(until=lambda: all(c.connects >= 2 and c.idle() for c in self.returners), what="a CONNACK")
            in_time = time.monotonic() - self.ready_at < WILL_GRACE_S
            for c in self.returners:
                c.leave()
            self.serve(until=lambda: all(c.gone for c in self.returners), what="the answer to DISCONNECT")
            for c in self.returners:
                if in_time:
                    self.ledger.never.add(c.key)
                    self.ledger.count("clients that came back in time, with a will")
                self.remove(c)
            self.returners = []

    def remove(self, client):
        self.clients.remove(client)
        client.close()

    def check_retained(self):
        """A new subscriber is given the state of each topic while the publishers of these stand still."""
        held = [c for c in self.clients if c in self.retainers]
        self.clients = [c for c in self.clients if c not in held]
        checker = self.add(Checker(f"{self.prefix}checker{self.rounds}", self.to, self.prefix))
        self.add_wire(checker)
        checker.start()
        self.serve(until=lambda: checker.done and not checker.open and checker.idle(), what="a retained message")
        self.ledger.check_retained(checker.given, checker.name)
        checker.send(message(DISCONNECT))
        self.remove(checker)
        self.clients += held

    def add_wire(self, client):
        pass

    def finish(self):
        """Ends the load, and waits for everything that is owed."""
        if self.groups:  # one more of each vanishes, and the broker lives on
            more = [[m for m in members if m not in self.vanished][0] for members in self.groups]
            self.vanish(more)
            self.serve(seconds=0.2)
            # At QoS 1 the others get what these had. At QoS 2 it waits for them.
            self.bring_back([c for c in self.vanished + more if c.qos == QOS2])
        if "wills" in self.parts:  # a client falls silent, and the broker lives on
            c = self.with_will("silent", keep_alive_s=1)
            self.serve(until=c.idle, what="a CONNACK")
            self.ledger.acked.add(c.key)
            self.remove(c)
        self.publishing = False
        for s in self.sleepers:
            s.stays = True
        all_publishers = self.publishers + self.retainers
        self.serve(until=lambda: all(p.quiet() for p in all_publishers), what="a PUBCOMP",
                   progress=lambda: len(self.ledger.acked))
        self.serve(until=lambda: len(self.ledger.missing()) <= self.lost, progress=self.ledger.deliveries, what="a delivery")
        if "retained" in self.parts:
            self.check_retained()
        # What comes twice comes after all else. The wills of clients that left would be due by then, too.
        self.serve(until=lambda: not any(c.open for c in self.clients), what="a PUBREL")
        self.serve(seconds=1.5)
        self.ledger.count("deliveries repeated before PUBREL", sum(c.repeats for c in self.clients))
        self.ledger.check_complete()
