#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""MQTT 3.1.1 over TCP as clients see it: mosquitto's programs, and a client that also does what no client should. They
use the kernel's TCP behind a TAP port. Needs root.

  test_mqtt.py BROKER DIRECTORY
"""
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mqtt_rig
import sn_client
from mqtt_client import (CONNECT, HANG_S, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBSCRIBE,
                         Client, Closed, packet, text)
from mqtt_rig import NET, Broker, expect, run, same

PROGRAM, DIRECTORY = sys.argv[1:3]
TO, SN = (f"{NET}.1", 1883), (f"{NET}.1", 10000)
PACKET_MAX = 100_000


def start(region, *arguments, **more):
    return mqtt_rig.start(PROGRAM, region, "--listen", "mqtt://", "--max-packet", str(PACKET_MAX), *arguments, **more)


def connected(name, clean=True, **more):
    c = Client(TO)
    same(f"CONNACK for {name}", c.connect(name, clean, **more)[1], 0)
    return c


def mosquitto(program, *arguments, status=0):
    return run(f"mosquitto_{program}", "-h", NET + ".1", *arguments, status=status)


def test_mosquittos_programs(_):
    for qos in "012":
        sub = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", "-h", NET + ".1", "-t", "m/#", "-q", qos, "-C", "2", "-v", "-d"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while "SUBACK" not in sub.stdout.readline():
            expect(sub.poll() is None, "mosquitto_sub ended")
        mosquitto("pub", "-t", "m/a", "-m", "one " + qos, "-q", qos)
        mosquitto("pub", "-t", "m/b", "-m", "two " + qos, "-q", qos)
        said = sub.communicate(timeout=HANG_S)[0]
        expect(f"m/a one {qos}\n" in said and f"m/b two {qos}\n" in said, "mosquitto_sub did not get both", said)
    mosquitto("pub", "-t", "kept", "-m", "retained", "-q", "1", "-r")
    same("the retained message", mosquitto("sub", "-t", "kept", "-C", "1"), "retained\n")
    mosquitto("pub", "-t", "kept", "-n", "-q", "1", "-r")
    with tempfile.NamedTemporaryFile() as big:
        big.write(os.urandom(PACKET_MAX - 100))
        big.flush()
        mosquitto("sub", "-t", "big", "-i", "big", "-c", "-q", "1", "-E")
        mosquitto("pub", "-t", "big", "-f", big.name, "-q", "1")
        got = subprocess.run(["mosquitto_sub", "-h", NET + ".1", "-t", "big", "-i", "big", "-c", "-q", "1", "-C", "1", "-N"],
                             capture_output=True, timeout=HANG_S, check=True).stdout
        same("the size of the longest message", len(got), PACKET_MAX - 100)
    done = subprocess.run(["mosquitto_pub", "-h", NET + ".1", "-V", "mqttv31", "-t", "x", "-m", "x"], capture_output=True,
                          text=True, timeout=HANG_S)
    expect(done.returncode != 0 and "rotocol version" in done.stderr, "MQTT 3.1 is not refused by its version", done.stderr)


def test_both_protocols_share_everything(_):
    sensor = sn_client.Client("sensor", SN)
    same("CONNACK", sensor.connect(), sn_client.ACCEPTED)
    same("SUBACK", sensor.subscribe(b"to/sensor"), sn_client.ACCEPTED)
    c = connected("reader")
    same("SUBACK", c.subscribe("from/#", "none", qos=1), b"\1\1")
    same("PUBACK", sensor.publish(b"from/sensor", b"21 C"), sn_client.ACCEPTED)
    same("a message from MQTT-SN", c.take(1), [("from/sensor", b"21 C", 1, False, False)])
    c.publish("to/sensor", b"faster")
    end = time.monotonic() + HANG_S
    while not sensor.got and time.monotonic() < end:
        sensor.receive(0.2)
    same("a message from MQTT", sensor.got, [b"faster"])
    c.publish("state/door", b"open", retain=True)
    same("SUBACK", sensor.subscribe(b"state/door"), sn_client.ACCEPTED)
    while len(sensor.got) < 2 and time.monotonic() < end:
        sensor.receive(0.2)
    same("a retained message", sensor.got[1:], [b"open"])
    # A client id is one session, whichever protocol its client speaks.
    taker = connected("sensor", clean=False)
    same("the queue of the session", taker.subscribe("to/sensor"), b"\1")
    c.publish("to/sensor", b"after")
    same("a message after the takeover", taker.take(1), [("to/sensor", b"after", 1, False, False)])
    taker.disconnect()
    c.disconnect()


def test_sessions_and_takeover(_):
    c = connected("keeper", clean=False)
    same("SUBACK", c.subscribe("k/#", qos=2), b"\2")
    c.disconnect()
    p = connected("publisher")
    for n in range(5):
        p.publish("k/1", b"m%d" % n, qos=n % 3 or 1)
    c = Client(TO)
    same("CONNACK", c.connect("keeper", clean=False), (True, 0))
    same("what waited", [m[1] for m in c.take(5)], [b"m%d" % n for n in range(5)])
    # A second connection of the same client ends the first one.
    again = Client(TO)
    same("CONNACK", again.connect("keeper", clean=False), (True, 0))
    expect(c.closed(), "the former connection is still open")
    p.publish("k/2", b"to the second")
    same("the second connection", again.take(1)[0][1], b"to the second")
    # What was not acknowledged is sent again with DUP, under the same id.
    p.publish("k/3", b"unacknowledged")
    first = again.expect(PUBLISH, acknowledge=False)
    again.close()
    again = Client(TO)
    same("CONNACK", again.connect("keeper", clean=False), (True, 0))
    kind, flags, body = again.receive()
    same("the repetition", (kind, flags, body), (PUBLISH, 0xA, first))
    again.keep(flags, body)
    again.got.clear()
    same("UNSUBACK", len(again.unsubscribe("k/#", "no/such")), 2)
    p.publish("k/4", b"to nobody")
    same("after UNSUBSCRIBE", again.take(1, seconds=1), [])
    # A clean start forgets everything.
    again.disconnect()
    c = Client(TO)
    same("CONNACK", c.connect("keeper", clean=True), (False, 0))
    c.disconnect()
    c = Client(TO)
    same("an empty id with a clean session", c.connect("", clean=True), (False, 0))
    c.disconnect()
    c = Client(TO)
    same("an empty id without", c.connect("", clean=False), (False, 2))
    expect(c.closed(), "the connection without an id is still open")
    p.disconnect()


def test_qos_2_is_delivered_once(_):
    c = connected("once")
    c.subscribe("o/#", qos=2)
    p = connected("repeater", clean=False)
    message = text("o/x") + b"\0\7" + b"only one"
    p.send(packet(PUBLISH, message, 4))
    same("PUBREC", p.expect(PUBREC), b"\0\7")
    p.close()  # before PUBREL
    p = connected("repeater", clean=False)
    p.send(packet(PUBLISH, message, 0xC))
    same("PUBREC of the repetition", p.expect(PUBREC), b"\0\7")
    p.send(packet(PUBREL, b"\0\7", 2))
    same("PUBCOMP", p.expect(PUBCOMP), b"\0\7")
    p.send(packet(PUBREL, b"\0\7", 2))
    same("PUBCOMP of a repeated PUBREL", p.expect(PUBCOMP), b"\0\7")
    p.publish("o/y", b"another", qos=2, packet_id=b"\0\7")
    same("what was delivered", [m[1] for m in c.take(3, seconds=3)], [b"only one", b"another"])
    c.disconnect()
    p.disconnect()


def test_wills(_):
    c = connected("heir")
    c.subscribe("will/#", qos=1)
    for how in ("disconnects", "vanishes", "is silent", "breaks a rule"):
        dying = connected("dying", will=("will/" + how, b"gone", 1, False), keep_alive_s=1 if how == "is silent" else 0)
        if how == "disconnects":
            dying.disconnect()
            same("a will after DISCONNECT", c.take(1, seconds=1), [])
            continue
        if how == "vanishes":
            dying.close()
        if how == "breaks a rule":
            dying.send(b"\xf0\0")
        same("the will of one that " + how, c.take(1), [("will/" + how, b"gone", 1, False, False)])
        if how == "is silent":
            expect(dying.closed(), "the silent client is still connected")
    c.disconnect()


def test_what_is_malformed_closes_only_its_own_connection(_):
    honest = connected("honest")
    honest.subscribe("h", qos=1)
    c = Client(TO)
    same("CONNECT of MQTT 3.1", c.connect("old", protocol="MQIsdp", level=3), (False, 1))
    c = Client(TO)
    same("CONNECT of no version", c.connect("new", level=77), (False, 1))
    faults = {
        "a packet before CONNECT": packet(PINGREQ),
        "what only a server sends": packet(2, b"\0\0"),
        "another protocol": b"GET / HTTP/1.1\r\n\r\n",
        "a remaining length of five octets": b"\x10\xff\xff\xff\xff\x7f",
        "a CONNECT that ends early": packet(CONNECT, text("MQTT") + b"\4\2\0\0\0\5ab"),
        "a will QoS of 3": packet(CONNECT, text("MQTT") + b"\4\x1e\0\0" + text("w") + text("t") + text("m")),
        "a packet that is too long": packet(CONNECT, text("MQTT") + b"\4\2\0\0" + text("x" * 60000) + b"y" * PACKET_MAX),
    }
    for what, octets in faults.items():
        c = Client(TO)
        c.send(octets)
        expect(c.closed(), f"{what} did not close the connection")
    faults = {
        "a second CONNECT": packet(CONNECT, text("MQTT") + b"\4\2\0\0" + text("faulty")),
        "PUBLISH at QoS 3": packet(PUBLISH, text("t") + b"\0\1", 6),
        "PUBLISH with packet id 0": packet(PUBLISH, text("t") + b"\0\0", 2),
        "PUBLISH to a filter": packet(PUBLISH, text("t/#") + b"\0\1", 2),
        "SUBSCRIBE to nothing": packet(SUBSCRIBE, b"\0\1", 2),
        "SUBSCRIBE with a wrong filter": packet(SUBSCRIBE, b"\0\1" + text("a#") + b"\1", 2),
        "SUBSCRIBE with reserved flags": packet(SUBSCRIBE, b"\0\1" + text("a") + b"\1", 0),
        "text that is not UTF-8": packet(PUBLISH, b"\0\2\xc0\x80" + b"\0\1", 2),
    }
    for what, octets in faults.items():
        c = connected("faulty")
        c.send(octets)
        expect(c.closed(), f"{what} did not close the connection")
    # Everything in one segment, and every octet in a segment of its own.
    c = Client(TO)
    whole = packet(CONNECT, text("MQTT") + b"\4\2\0\0" + text("pieces")) + \
        packet(PUBLISH, text("h") + b"\0\1" + b"at once", 2) + packet(PINGREQ)
    c.send(whole)
    same("CONNACK", c.expect(2), b"\0\0")
    same("PUBACK", c.expect(PUBACK), b"\0\1")
    c.disconnect()
    c = Client(TO)
    for octet in whole:
        c.send(bytes([octet]))
        time.sleep(0.001)
    same("CONNACK", c.expect(2), b"\0\0")
    same("PUBACK", c.expect(PUBACK), b"\0\1")
    c.disconnect()
    same("what the honest client got", [m[1] for m in honest.take(2)], [b"at once"] * 2)
    honest.disconnect()


def test_a_client_that_reads_nothing_stalls_nobody(_):
    deaf = connected("deaf", clean=False)
    deaf.subscribe("s/#", qos=1)
    hearing = connected("hearing")
    hearing.subscribe("s/#", qos=1)
    p = connected("many")
    data, n = b"x" * 20000, 60
    for i in range(n):
        p.publish("s/%d" % i, data)
        same("the other subscriber", len(hearing.take(1)), 1)
    same("what the deaf client gets in the end", [m[0] for m in deaf.take(n)], ["s/%d" % i for i in range(n)])
    for c in (deaf, hearing, p):
        c.disconnect()


def test_acknowledged_messages_survive(region, b):
    c = connected("survivor", clean=False)
    same("SUBACK", c.subscribe("z/#", qos=2), b"\2")
    c.disconnect()
    p = connected("writer")
    for n in range(20):
        p.publish("z/%d" % n, b"%d" % n, qos=1 + n % 2)
    p.publish("z/retained", b"kept", retain=True)
    b.end(signal.SIGKILL)
    with start(region) as b:
        c = Client(TO)
        same("CONNACK after a kill", c.connect("survivor", clean=False), (True, 0))
        got = c.take(21)
        same("what was acknowledged before the kill", [m[1] for m in got], [b"%d" % n for n in range(20)] + [b"kept"])
        r = connected("later")
        r.subscribe("z/retained")
        same("the retained message after a kill", r.take(1), [("z/retained", b"kept", 1, True, False)])
        c.disconnect()
        r.disconnect()
        same("the end", b.end(), 0)


def test_access_rules(directory):
    rules = os.path.join(directory, "rules")
    with open(rules, "w") as f:
        f.write("default deny\nallow connect client good*\nallow publish client good* topic in/#\n"
                "allow subscribe client good* topic out/#\n")
    with start(os.path.join(directory, "ruled"), "--access", rules, "-i", stdin=subprocess.PIPE) as b:
        c = Client(TO)
        same("CONNACK of a stranger", c.connect("bad"), (False, 5))
        c = connected("good")
        same("SUBACK", c.subscribe("out/a", "in/a", "$share/g/out/b", "$share/x"), b"\1\x80\1\x80")
        c.publish("in/a", b"allowed")
        c.publish("out/a", b"denied", qos=0)
        c.send(packet(PUBLISH, text("out/a") + b"\0\1denied", 2))
        expect(c.closed(), "a PUBLISH at QoS 1 that is denied was answered")
        c = connected("good2")
        with open(rules, "w") as f:
            f.write("default deny\n")
        b.process.stdin.write(b"reload\n")
        b.process.stdin.flush()
        expect(c.closed(), "a client that the new rules deny is still connected")
        b.process.stdin.write(b"show counters\nquit\n")
        b.process.stdin.flush()
        same("the end", b.process.wait(HANG_S), 0)
        for name, least in (("mqtt_connects_denied", 1), ("mqtt_publishes_denied", 2), ("mqtt_subscribes_denied", 1),
                            ("mqtt_ended_by_rules", 1), ("tcp_accepted", 3)):
            found = re.search(rf"{name} +(\d+)", b.said())
            expect(found and int(found[1]) >= least, f"{name} is not at least {least}", b.said())


class Dribbler(threading.Thread):
    """Sends a packet octet by octet, and would need minutes for all of it."""

    def __init__(self, client, octets):
        super().__init__(daemon=True)
        self.ended = False
        self.client, self.octets = client, octets
        self.start()

    def run(self):
        for octet in self.octets:
            self.client.send(bytes([octet]))
            try:
                self.client.receive(0.25)
            except Closed:
                self.ended = True
                return


def test_each_listener_has_rules(directory):
    rules = os.path.join(directory, "rules")
    with open(rules, "w") as f:
        f.write("deny connect port 1884\nallow connect\nallow publish port 1883\n")
    with start(os.path.join(directory, "ports"), "--access", rules, "--listen", "mqtt://:1884", "--listen", "mqttsn://:10001") as b:
        expect(Client((TO[0], 1884)).connect("c")[1] == 5, "a client connects at a port that is denied")
        connected("c").publish("t", b"allowed")
        sensor = sn_client.Client("sensor", (TO[0], 10001))
        same("CONNACK", sensor.connect(), sn_client.ACCEPTED)
        expect(sensor.publish(b"from/sensor", b"denied") != sn_client.ACCEPTED, "the rule for port 1883 holds for MQTT-SN")
        same("the end", b.end(), 0)


def test_two_workers_are_refused(directory):
    b = Broker(PROGRAM, os.path.join(directory, "two"), "--listen", "mqtt://:1884", lcores="0@0,1@0,2@0")
    status, said = b.refused()
    expect(status == 2 and "--listen: MQTT over TCP needs a broker with one worker lcore" in said, "two workers", said)


def main():
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        region = os.path.join(directory, "region")
        with start(region, "--size", "64M") as b:
            connecting = Dribbler(Client(TO), packet(CONNECT, text("MQTT") + b"\4\2\0\0" + text("x" * 1000)))
            publishing = Client(TO)
            same("CONNACK", publishing.connect("dribbler", keep_alive_s=1), (False, 0))
            publishing = Dribbler(publishing, packet(PUBLISH, text("t") + b"x" * 1000))
            for test in (test_mosquittos_programs, test_both_protocols_share_everything, test_sessions_and_takeover,
                         test_qos_2_is_delivered_once, test_wills,
                         test_what_is_malformed_closes_only_its_own_connection,
                         test_a_client_that_reads_nothing_stalls_nobody):
                test(b)
                expect(b.process.poll() is None, f"the broker ended in {test.__name__}", b.said())
                print(f"{test.__name__}: ok", flush=True)
            for dribbler, what in ((connecting, "a CONNECT that comes octet by octet is waited for longer than 10 s"),
                                   (publishing, "a client that never completes a packet is not silent for the keep alive")):
                dribbler.join(HANG_S)
                expect(dribbler.ended, what)
            test_acknowledged_messages_survive(region, b)
        test_access_rules(directory)
        test_each_listener_has_rules(directory)
        test_two_workers_are_refused(directory)
    print("all ok")


if __name__ == "__main__":
    try:
        main()
    except Closed:
        raise SystemExit("the broker has closed a connection that should be open")
