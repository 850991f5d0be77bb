#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""MQTT 5.0 over TCP as clients see it: mosquitto's programs, Paho, and a client that also does what no client should.
They use the kernel's TCP behind a TAP port. Needs root.

  test_mqtt5.py BROKER DIRECTORY
"""
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from test_mqtt import NET, PACKET_MAX, SN, TO, connected, expect, mosquitto, same, start, DIRECTORY
import sn_client
from mqtt5_client import AUTH, Client5, Closed, section
from mqtt_client import (CONNACK, CONNECT, DISCONNECT, HANG_S, PINGREQ, PINGRESP, PUBACK, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE,
                         packet, text)


def connected5(name, clean=True, **more):
    c = Client5(TO)
    same(f"CONNACK for {name}", c.connect(name, clean, **more)[1], 0)
    return c


def messages(got):
    return [m[:4] for m in got]


def test_connack_says_what_the_broker_offers(_):
    c = Client5(TO)
    present, reason, offered = c.connect("offers")
    same("CONNACK", (present, reason), (False, 0))
    same("what CONNACK offers", offered, {"receive_maximum": 32, "maximum_packet": PACKET_MAX, "alias_maximum": 16})
    c.disconnect()
    names = set()
    for clean in (True, False):
        c = Client5(TO)
        _, reason, offered = c.connect("", clean)
        same("CONNACK without a client id", reason, 0)
        names.add(offered["assigned_id"])
        c.disconnect()
    same("assigned client ids", len(names), 2)
    c = Client5(TO)
    _, reason, said = c.connect("methods", auth_method="SCRAM-SHA-1", auth_data=b"x")
    expect(reason == 0x8C and "method" in said["reason"], "an authentication method is not refused", (reason, said))
    expect(c.closed(), "the connection with an authentication method is open")
    c = Client5(TO)
    same("CONNACK without problem information", c.connect("methods", auth_method="x", problem_information=0), (False, 0x8C, {}))
    c = Client5(TO)
    same("a client of tiny packets", c.connect("tiny", maximum_packet=20), (False, 0x95, {}))
    c = Client5(TO)
    c.send(packet(CONNECT, text("MQTT") + b"\5\2\0\0" + section(receive_maximum=1) + section(receive_maximum=1)[1:] + text("x")))
    same("CONNACK of a malformed CONNECT", c.expect(2)[1], 0x81)
    c = Client5(TO)
    c.send(packet(CONNECT, text("MQTT") + b"\5\2\0\0" + section(receive_maximum=0) + text("x")))
    same("CONNACK of a wrong CONNECT", c.expect(2)[1], 0x82)


def test_a_disconnect_says_why(_):
    faults = {
        "no packet": (b"\xff\xff\xff\xff\xff", 0x81),
        "reserved flags": (packet(SUBSCRIBE, b"\0\1\0" + text("a") + b"\1", 0), 0x81),
        "text that is not UTF-8": (packet(PUBLISH, b"\0\2\xc0\x80" + b"\0\1\0", 2), 0x81),
        "a second CONNECT": (packet(CONNECT, text("MQTT") + b"\5\2\0\0\0" + text("faulty")), 0x82),
        "packet id 0": (packet(PUBLISH, text("t") + b"\0\0\0", 2), 0x82),
        "what only a server sends": (packet(SUBACK, b"\0\1\0\0"), 0x82),
        "AUTH without a method": (packet(AUTH, b""), 0x82),
        "an unknown alias": (packet(PUBLISH, text("") + section(alias=3)), 0x82),
        "an alias above the maximum": (packet(PUBLISH, text("t") + section(alias=17)), 0x94),
        "alias 0": (packet(PUBLISH, text("t") + section(alias=0)), 0x94),
        "a subscription identifier of a publisher": (packet(PUBLISH, text("t") + section(subscription_id=3)), 0x82),
        "subscription identifier 0": (packet(SUBSCRIBE, b"\0\1" + section(subscription_id=0) + text("a") + b"\1", 2), 0x82),
        "no local of a shared subscription": (packet(SUBSCRIBE, b"\0\1\0" + text("$share/g/a") + b"\5", 2), 0x82),
        "a packet that is too long": (b"\x30" + b"\xff\xff\xff\x7f", 0x95),
    }
    for what, (octets, reason) in faults.items():
        c = connected5("faulty")
        c.send(octets)
        same(f"the reason of {what}", c.ended()[0], reason)
    c = connected5("faulty", problem_information=0)
    c.send(packet(AUTH, b""))
    same("DISCONNECT without problem information", c.ended(), (0x82, {}))
    c = connected5("faulty")
    c.send(packet(AUTH, b""))
    expect("packet" in c.ended()[1]["reason"], "no reason string came")
    c = connected5("silent", keep_alive_s=1)
    same("the reason of silence", c.ended()[0], 0x8D)
    c = connected5("greedy")
    for n in range(1, 33):
        c.send_publish("greedy", b"x", qos=2, packet_id=bytes([0, n]))
        same("PUBREC", c.expect(PUBREC), bytes([0, n]))
    c.send_publish("greedy", b"x", packet_id=b"\0\x21")
    same("the reason of more than the receive maximum", c.ended()[0], 0x93)


def test_sessions_expire_as_their_clients_ask(_):
    def present(name, clean=False, **more):
        c = Client5(TO)
        found, reason, _ = c.connect(name, clean, **more)
        same("CONNACK", reason, 0)
        return found, c

    keeper = connected5("expiry", session_expiry=1000)
    keeper.subscribe("e/#")
    keeper.disconnect()
    found, keeper = present("expiry", session_expiry=1000)
    same("a session that has not expired", found, True)
    keeper.disconnect(session_expiry=0)  # it ends now
    found, keeper = present("expiry")
    same("a session whose DISCONNECT ended it", found, False)
    # Without an expiry it ends with its connection.
    keeper.disconnect()
    found, keeper = present("expiry", session_expiry=0xFFFFFFFF)
    same("a session without an expiry", found, False)
    keeper.disconnect()
    found, keeper = present("expiry", session_expiry=1)
    same("a session that never expires", found, True)
    keeper.disconnect()
    time.sleep(3)
    found, keeper = present("expiry", session_expiry=5)
    same("a session that has expired", found, False)
    found, again = present("expiry", clean=True, session_expiry=5)
    same("a clean start", found, False)
    same("the reason of a takeover", keeper.ended()[0], 0x8E)
    again.disconnect()
    # Of two connections that open one session at once, one gets it, and the other is told so.
    both = [Client5(TO) for _ in range(2)]
    for c in both:
        c.send(packet(CONNECT, text("MQTT") + b"\5\2\0\0\0" + text("twins")))
    said, end = [[], []], time.monotonic() + HANG_S
    while sum(map(len, said)) < 3 and time.monotonic() < end:
        for c, mine in zip(both, said):
            if found := c.receive(0.1):
                mine.append((found[0], found[2][1] if found[0] == CONNACK else found[2][0]))
            if mine == [(CONNACK, 0x89)]:
                mine.append(None)  # nothing follows
    won, lost = sorted(said, key=len)
    same("what the one that has the session is told", won, [(CONNACK, 0)])
    expect(lost in ([(CONNACK, 0), (DISCONNECT, 0x8E)], [(CONNACK, 0x89), None]), "what the other one is told", lost)
    for c in both:
        c.close()
    c = connected5("expiry2")
    c.send(packet(DISCONNECT, b"\0" + section(session_expiry=7)))
    same("an expiry that begins in DISCONNECT", c.ended()[0], 0x82)


def test_answers_have_reasons(_):
    c = connected5("reasons")
    same("SUBACK", c.subscribe("r/1", "r/2", "$share/g/r", qos=2), b"\2\2\2")
    same("UNSUBACK", c.unsubscribe("r/1", "r/none"), b"\0\x11")
    same("SUBACK of a long filter", c.subscribe("x" * 300), b"\x8f")
    same("PUBACK of a long topic", c.publish("x" * 300, b"x")[0], 0x90)
    same("PUBREC of a long topic", c.publish("x" * 300, b"x", qos=2)[0], 0x90)
    same("PUBACK behind refusals", c.publish("r/9", b"x"), (0, {}))
    # What a client refuses is not sent again.
    p = connected5("reasons2")
    p.publish("r/2", b"refused")
    mine = c.expect(PUBLISH, acknowledge=False)
    n = 2 + len("r/2")
    c.send(packet(PUBACK, mine[n:n + 2] + b"\x97"))
    p.publish("r/2", b"refused too", qos=2)
    mine = c.expect(PUBLISH, acknowledge=False)
    c.send(packet(PUBREC, mine[n:n + 2] + b"\x80"))
    p.publish("r/2", b"taken", qos=2)
    same("what comes after refusals", [m[1] for m in c.take(1)], [b"taken"])
    c.send(packet(PUBREC, b"\x7f\x01"))
    same("PUBREL for an unknown message", c.expect(PUBREL, lambda body: body[0] == 0x7F), b"\x7f\x01\x92")
    c.disconnect()


def test_the_answers_keep_the_order_of_the_messages(_):
    c = connected5("order")
    all_of = b""
    for n in range(1, 31):
        topic = "x" * 300 if n % 3 == 0 else "order/%d" % n
        all_of += packet(PUBLISH, text(topic) + bytes([0, n]) + b"\0x", 2)
    c.send(all_of)
    got = [c.expect(PUBACK) for _ in range(30)]
    same("the order of the answers", [body[1] for body in got], list(range(1, 31)))
    same("the reasons", [len(body) > 2 and body[2] == 0x90 for body in got], [n % 3 == 0 for n in range(1, 31)])
    c.disconnect()


def test_a_full_queue_refuses_and_the_connection_goes_on(directory):
    with start(os.path.join(directory, "full"), "--queue-size", "64") as b:
        c = connected5("full", session_expiry=100)
        c.subscribe("full/#")
        c.disconnect()
        p = connected5("filler")
        reasons = [p.publish("full/x", b"%d" % n)[0] for n in range(70)]
        expect(reasons[:60] == [0] * 60 and 0x97 in reasons, "a full queue refuses nothing", reasons)
        same("another topic", p.publish("other", b"x")[0], 0)
        c = Client5(TO)
        same("CONNACK", c.connect("full", False, session_expiry=0)[:2], (True, 0))
        same("what was acknowledged", [m[1] for m in c.take(reasons.count(0))],
             [b"%d" % n for n in range(70) if reasons[n] == 0])
        b.process.send_signal(signal.SIGTERM)
        same("the reason at the end of the broker", c.ended()[0], 0x8B)
        same("the same for the publisher", p.ended()[0], 0x8B)
        same("the end", b.process.wait(HANG_S), 0)


def test_topic_aliases(_):
    c = connected5("aliased", alias_maximum=2)
    c.subscribe("a/#", qos=1)
    p = connected5("aliasing")
    p.publish("a/long/topic", b"1", alias=1)
    p.publish("", b"2", alias=1)
    p.publish("", b"3", qos=2, alias=1)
    p.publish("a/other", b"4", alias=1)
    p.publish("", b"5", qos=0, alias=1)
    p.publish("a/third", b"6", alias=16)
    p.publish("a/long/topic", b"7")
    same("messages by aliases", messages(c.take(7)), [
        ("a/long/topic", b"1", 1, False), ("a/long/topic", b"2", 1, False), ("a/long/topic", b"3", 1, False),
        ("a/other", b"4", 1, False), ("a/other", b"5", 0, False), ("a/third", b"6", 1, False), ("a/long/topic", b"7", 1, False)])
    same("topics as they were sent", [(topic, found.get("alias")) for topic, found in c.raw], [
        ("a/long/topic", 1), ("", 1), ("", 1), ("a/other", 2), ("", 2), ("a/third", None), ("", 1)])
    p.disconnect()
    p = connected5("aliasing")  # aliases end with their connection
    p.send_publish("", b"x", qos=0, alias=1)
    same("an alias of a former connection", p.ended()[0], 0x82)
    c.disconnect()


def test_the_sizes_that_a_client_takes(_):
    c = connected5("small", maximum_packet=100, session_expiry=100)
    c.subscribe("s/#", qos=2)
    p = connected5("large")
    for n, size in enumerate((10, 200, 80, 5000, 20)):
        p.publish("s/%d" % n, b"x" * size, qos=n % 3)
    same("what fits", [m[0] for m in c.take(3)], ["s/0", "s/2", "s/4"])
    c.disconnect()
    c = Client5(TO)
    same("CONNACK", c.connect("small", False)[:2], (True, 0))
    same("what did not fit is not sent again", c.take(1, seconds=1), [])
    # No more messages are under way than the client takes at once.
    c.disconnect()
    c = connected5("narrow", receive_maximum=2)
    c.subscribe("s/#", qos=1)
    for n in range(5):
        p.publish("s/%d" % n, b"x")
    first = c.receive(), c.receive()
    same("messages beyond the receive maximum", c.receive(1), None)
    for kind, flags, body in first:
        same("a message", kind, PUBLISH)
        c.keep(flags, body)
    same("all messages", [m[0] for m in c.take(5)], ["s/%d" % n for n in range(5)])
    c.disconnect()
    p.disconnect()


def test_subscription_options(_):
    c = connected5("options")
    c.publish("kept/a", b"kept", retain=True)
    c.subscribe("own/#", no_local=True)
    for qos in (0, 1, 2):
        c.publish("own/%d" % qos, b"mine", qos=qos)
    p = connected5("options2")
    p.publish("own/x", b"another's")
    same("no local", messages(c.take(1)), [("own/x", b"another's", 1, False)])
    same("what came of its own", c.take(1, seconds=1), [])
    c.subscribe("kept/#", handling=2)
    same("retain handling 2", c.take(1, seconds=1), [])
    c.subscribe("kept/#", handling=1)
    same("retain handling 1 of an old subscription", c.take(1, seconds=1), [])
    c.unsubscribe("kept/#")
    c.subscribe("kept/#", handling=1)
    same("retain handling 1 of a new subscription", messages(c.take(1)), [("kept/a", b"kept", 1, True)])
    c.subscribe("kept/#", handling=0, as_published=True)
    same("retain handling 0", messages(c.take(1)), [("kept/a", b"kept", 1, True)])
    p.publish("kept/a", b"new", retain=True)
    same("retain as published", messages(c.take(1)), [("kept/a", b"new", 1, True)])
    c.subscribe("kept/#", handling=2)
    p.publish("kept/a", b"newer", retain=True)
    same("retain not as published", messages(c.take(1)), [("kept/a", b"newer", 1, False)])
    p.publish("kept/a", b"", retain=True)
    c.take(1)
    # A group gives each message to one member.
    same("SUBACK", c.subscribe("$share/workers/jobs/#", qos=1), b"\1")
    same("SUBACK", p.subscribe("$share/workers/jobs/#", qos=1), b"\1")
    for n in range(20):
        p.publish("jobs/%d" % n, b"x")
    got, end = [], time.monotonic() + HANG_S
    while len(got) < 20 and time.monotonic() < end:
        got += c.take(20, seconds=0.1) + p.take(20, seconds=0.1)
    same("what the members of a group get", sorted(m[0] for m in got), sorted("jobs/%d" % n for n in range(20)))
    c.disconnect()
    p.disconnect()


def test_what_a_member_of_a_group_refuses_goes_to_nobody_else(b):
    members = [connected5(f"refusing {n}") for n in range(2)]
    p = connected5("p")
    for m in members:
        m.subscribe("$share/refusing/r/#", qos=1)
    p.publish("r/refused", b"x")
    refused = None
    while refused is None:
        for m in members:
            found = m.receive(0.05)
            if found and found[0] == PUBLISH:
                packet_id = m.keep(found[1], found[2], acknowledge=False)
                refused = m.got.pop()[0]
                m.send(packet(PUBACK, packet_id + b"\x80"))  # unspecified error
                m.send(packet(PINGREQ))
                m.expect(PINGRESP)
                break
    same("what was refused", refused, "r/refused")
    # Later messages come to both members, and the refused one to none of them.
    got, n = [[], []], 0
    while not all(got):
        p.publish("r/%d" % n, b"x")
        n += 1
        for i, m in enumerate(members):
            got[i] += [topic for topic, *_ in m.take(1, seconds=0.05)]
    expect("r/refused" not in got[0] + got[1], "the message that a member has refused goes to another one", got)
    for c in (*members, p):
        c.disconnect()


def test_subscription_identifiers(region, b):
    c = connected5("identified", session_expiry=100)
    c.subscribe("i/+", subscription_id=1)
    c.subscribe("i/#", subscription_id=268435455, qos=2)
    c.subscribe("i/b", "j/x")
    c.subscribe("$share/ids/k/#", subscription_id=7)
    p = connected5("identifier-publisher")
    p.publish("i/a", b"x")
    p.publish("i/a/b", b"x", qos=0)
    p.publish("i/b", b"x", qos=2)
    p.publish("j/x", b"x")
    p.publish("k/x", b"x")
    ids = [{1, 268435455}, {268435455}, {1, 268435455}, set(), {7}]
    same("subscription identifiers", [set(m[4].get("subscription_id", ())) for m in sorted(c.take(5))], ids)
    c.unsubscribe("i/#")
    c.subscribe("i/+", subscription_id=3)
    c.subscribe("j/#", subscription_id=4)
    c.disconnect()
    for n in range(2):
        p.publish("i/a", b"%d" % n)
        p.publish("j/x", b"%d" % n, qos=2)
        if n == 0:
            b.end(signal.SIGKILL)
            b = start(region)
            p = connected5("identifier-publisher")
        c = Client5(TO)
        same("CONNACK", c.connect("identified", False, session_expiry=100)[:2], (True, 0))
        same("subscription identifiers of a later connection",
             [(m[0], m[4].get("subscription_id")) for m in c.take(2)], [("i/a", [3]), ("j/x", [4])])
        c.subscribe("i/+")  # without an identifier now
        p.publish("i/a", b"x")
        same("a subscription without an identifier", c.take(1)[0][4], {})
        c.subscribe("i/+", subscription_id=3)
        c.disconnect()
    many = connected5("many-identifiers")
    reasons = many.subscribe(*["n/%d" % n for n in range(130)], subscription_id=9)
    same("more identifiers than there may be", reasons, b"\1" * 128 + b"\x97\x97")
    same("one that it has", many.subscribe("n/5", subscription_id=10), b"\1")
    same("one without", many.subscribe("n/200"), b"\1")
    many.disconnect()
    p.disconnect()
    return b


def test_wills(_):
    c = connected5("heir5")
    c.subscribe("will5/#", qos=1)
    will = ("will5/x", b"gone", 1, False)
    dying = connected5("dying5", will=will)
    dying.disconnect()
    same("a will after DISCONNECT", c.take(1, seconds=1), [])
    dying = connected5("dying5", will=will)
    dying.disconnect(reason=4)
    same("a will after DISCONNECT with will", messages(c.take(1)), [("will5/x", b"gone", 1, False)])
    dying = connected5("dying5", will=will, will_properties={"will_delay": 5}, session_expiry=100)
    dying.close()
    same("a will before its delay", c.take(1, seconds=1), [])
    same("a will after its delay", messages(c.take(1)), [("will5/x", b"gone", 1, False)])
    dying = connected5("dying5", will=will, will_properties={"will_delay": 5}, session_expiry=100)
    dying.close()
    dying = connected5("dying5", clean=False, session_expiry=100)
    same("the will of a client that came back", c.take(1, seconds=6), [])
    dying.disconnect(session_expiry=0)
    dying = connected5("dying5", will=will, will_properties={"will_delay": 100})
    dying.close()
    same("a will whose session ends with its connection", messages(c.take(1)), [("will5/x", b"gone", 1, False)])
    c.disconnect()


CARRIED = {"payload_format": 1, "content_type": "text/plain", "response_topic": "answers/here", "correlation_data": b"\0\xff17",
           "user": [("a", "1"), ("b", ""), ("a", "2")]}


def test_properties_go_with_the_message(region, b):
    c = connected5("carried", session_expiry=100)
    c.subscribe("c/#", qos=2)
    second = connected5("carried2")
    p = connected5("carrying")
    for qos in (0, 1, 2):
        p.publish("c/%d" % qos, b"data", qos=qos, **CARRIED)
    second.subscribe("c/#", qos=2)
    for qos in (0, 1, 2):  # to two sessions, and with an alias of the publisher
        p.publish("c/two", b"data", qos=qos, alias=2, **CARRIED)
    p.publish("c/none", b"data")
    p.publish("c/empty", b"", **CARRIED)
    got = c.take(8)
    same("what was published", [(m[0], m[2]) for m in got],
         [("c/0", 0), ("c/1", 1), ("c/2", 2), ("c/two", 0), ("c/two", 1), ("c/two", 2), ("c/none", 1), ("c/empty", 1)])
    for topic, data, _, _, found in got:
        same(f"the properties of {topic}", found, {} if topic == "c/none" else CARRIED)
        same(f"the payload of {topic}", data, b"" if topic == "c/empty" else b"data")
    same("what the second one got", [m[4] for m in second.take(5)], [CARRIED] * 3 + [{}, CARRIED])
    # In queues and retained, across a kill.
    c.disconnect()
    big = dict(CARRIED, user=[("name %d" % n, "v" * 500) for n in range(40)])
    p.publish("c/kept", b"data", retain=True, **big)
    began = time.monotonic()
    p.publish("c/kept/2", b"data", qos=2, message_expiry=1000, **CARRIED)
    p.publish("c/short", b"data", message_expiry=1)
    p.publish("c/short", b"data", retain=True, message_expiry=1)
    b.end(signal.SIGKILL)
    time.sleep(2)
    b = start(region)
    c = Client5(TO)
    same("CONNACK", c.connect("carried", False, session_expiry=100)[:2], (True, 0))
    got = c.take(2)
    passed = time.monotonic() - began
    same("what was kept", [m[0] for m in got], ["c/kept", "c/kept/2"])
    same("what has expired", c.take(1, seconds=1), [])
    same("the properties of what was kept", got[0][4], big)
    left = got[1][4].pop("message_expiry")
    expect(998 - passed <= left <= 998, f"what is left of the expiry after {passed} s is {left} s")
    same("the properties of what was kept", got[1][4], CARRIED)
    c.subscribe("c/kept")
    c.subscribe("c/kept", qos=0)
    c.subscribe("c/short")
    same("the retained message", [(m[0], m[2], m[3], m[4] == big) for m in c.take(2)],
         [("c/kept", 1, True, True), ("c/kept", 0, True, True)])
    # Of a will.
    dying = connected5("carried-will", will=("c/will", b"gone", 1, False), will_properties=dict(CARRIED, message_expiry=77, will_delay=0))
    dying.close()
    same("the properties of a will", c.take(1)[0][4], dict(CARRIED, message_expiry=77))
    # A client of 3.1.1 and one of MQTT-SN get the payload alone.
    old = connected("carried-old")
    old.subscribe("c/mixed", qos=1)
    sensor = sn_client.Client("carried-sn", SN)
    same("CONNACK", sensor.connect(), sn_client.ACCEPTED)
    same("SUBACK", sensor.subscribe(b"c/mixed"), sn_client.ACCEPTED)
    p = connected5("carrying")
    p.publish("c/mixed", b"data", **CARRIED)
    p.publish("c/mixed", b"more", retain=True, **CARRIED)
    same("3.1.1", [m[1] for m in old.take(2)], [b"data", b"more"])
    end = time.monotonic() + HANG_S
    while len(sensor.got) < 2 and time.monotonic() < end:
        sensor.receive(0.2)
    same("MQTT-SN", sensor.got, [b"data", b"more"])
    # A request and its answer.
    c.disconnect(session_expiry=0)
    for one in (p, old, second):
        one.close()
    answerer = connected5("answerer")
    answerer.subscribe("service/+")
    asks = subprocess.Popen(["mosquitto_rr", "-V", "5", "-h", NET + ".1", "-t", "service/time", "-e", "answers/7", "-m", "what?",
                             "-D", "publish", "correlation-data", "17", "-q", "1"], stdout=subprocess.PIPE, text=True)
    topic, data, _, _, found = answerer.take(1)[0]
    same("the request", (topic, data, found["response_topic"], found["correlation_data"]),
         ("service/time", b"what?", "answers/7", b"17"))
    answerer.publish(found["response_topic"], b"noon", correlation_data=found["correlation_data"])
    same("the answer", asks.communicate(timeout=HANG_S)[0], "noon\n")
    answerer.disconnect()
    return b


def test_mosquittos_programs(_):
    for qos in "012":
        sub = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", "-V", "5", "-h", NET + ".1", "-t", "m5/#", "-q", qos, "-C", "3", "-v",
                                "-d"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while "SUBACK" not in sub.stdout.readline():
            expect(sub.poll() is None, "mosquitto_sub ended")
        mosquitto("pub", "-V", "5", "-t", "m5/a", "-m", "one " + qos, "-q", qos)
        mosquitto("pub", "-V", "311", "-t", "m5/b", "-m", "two " + qos, "-q", qos)
        mosquitto("pub", "-V", "5", "-t", "m5/c", "-m", "three " + qos, "-q", qos, "-D", "publish", "topic-alias", "4")
        said = sub.communicate(timeout=HANG_S)[0]
        for line in ("m5/a one", "m5/b two", "m5/c three"):
            expect(f"{line} {qos}\n" in said, "mosquitto_sub did not get all", said)


def test_both_versions_and_mqtt_sn_share_everything(_):
    sensor = sn_client.Client("sensor5", SN)
    same("CONNACK", sensor.connect(), sn_client.ACCEPTED)
    same("SUBACK", sensor.subscribe(b"all/sensor"), sn_client.ACCEPTED)
    old, new = connected("old"), connected5("new")
    old.subscribe("all/#", qos=2)
    new.subscribe("all/#", qos=2)
    same("PUBACK", sensor.publish(b"all/1", b"from MQTT-SN"), sn_client.ACCEPTED)
    old.publish("all/2", b"from 3.1.1", qos=2)
    new.publish("all/3", b"from 5.0", qos=2)
    new.publish("all/sensor", b"to all")
    wanted = [("all/1", b"from MQTT-SN"), ("all/2", b"from 3.1.1"), ("all/3", b"from 5.0"), ("all/sensor", b"to all")]
    same("what 3.1.1 gets", [m[:2] for m in old.take(4)], wanted)
    same("what 5.0 gets", [m[:2] for m in new.take(4)], wanted)
    end = time.monotonic() + HANG_S
    while not sensor.got and time.monotonic() < end:
        sensor.receive(0.2)
    same("what MQTT-SN gets", sensor.got, [b"to all"])
    # A client id is one session, whichever version its client speaks.
    taker = connected("new", clean=False)
    same("the reason of the takeover", new.ended()[0], 0x8E)
    taker.subscribe("mine", qos=1)
    again = Client5(TO)
    same("CONNACK", again.connect("new", False, session_expiry=100)[:2], (True, 0))
    expect(taker.closed(), "the former connection is open")
    old.publish("mine", b"after two takeovers")
    same("the session's message", messages(again.take(1)), [("mine", b"after two takeovers", 1, False)])
    again.disconnect(session_expiry=0)
    old.disconnect()


def test_paho(_):
    import paho.mqtt.client as paho
    import paho.mqtt.properties as properties
    from paho.mqtt.packettypes import PacketTypes
    seen, ready = queue.Queue(), queue.Queue()

    def connect(name, expiry):
        c = paho.Client(name, protocol=paho.MQTTv5)
        c.on_connect = lambda client, data, flags, reason, found: ready.put(reason.getName())
        c.on_subscribe = lambda client, data, mid, reasons, found: ready.put([r.value for r in reasons])
        c.on_message = lambda client, data, m: seen.put((m.topic, m.payload, m.qos, getattr(m.properties, "UserProperty", None)))
        asks = properties.Properties(PacketTypes.CONNECT)
        asks.SessionExpiryInterval = expiry
        c.connect(TO[0], TO[1], clean_start=True, properties=asks)
        c.loop_start()
        same("CONNACK for Paho", ready.get(timeout=HANG_S), "Success")
        return c

    c, p = connect("paho-sub", 60), connect("paho-pub", 0)
    c.subscribe("paho/#", options=paho.SubscribeOptions(qos=2, noLocal=True))
    same("SUBACK for Paho", ready.get(timeout=HANG_S), [2])
    for qos in (0, 1, 2):
        info = p.publish("paho/%d" % qos, b"x" * 1000, qos=qos)
        info.wait_for_publish(HANG_S)
        same("a message by Paho", seen.get(timeout=HANG_S), ("paho/%d" % qos, b"x" * 1000, qos, None))
        given = properties.Properties(PacketTypes.PUBLISH)
        given.UserProperty = [("a", "1"), ("a", "2")]
        p.publish("paho/%d" % qos, b"y", qos=qos, properties=given).wait_for_publish(HANG_S)
        same("properties by Paho", seen.get(timeout=HANG_S), ("paho/%d" % qos, b"y", qos, [("a", "1"), ("a", "2")]))
    for one in (c, p):
        one.disconnect()
        one.loop_stop()


def test_sessions_and_their_expiry_survive_a_kill(region, b):
    for name, expiry in (("ends", 0), ("short", 3), ("long", 1000), ("ever", 0xFFFFFFFF)):
        c = connected5("k-" + name, session_expiry=expiry)
        c.subscribe("k5/" + name, qos=2)
        if name != "ends":
            c.disconnect()
    p = connected5("k-writer")
    for n in range(10):
        for name in ("short", "long", "ever"):
            same("PUBACK", p.publish("k5/" + name, b"%d" % n, qos=1 + n % 2)[0], 0)
    b.end(signal.SIGKILL)
    time.sleep(3)
    with start(region) as b:
        for name, kept in (("ends", False), ("short", False), ("long", True), ("ever", True)):
            c = Client5(TO)
            same("the session of " + name, c.connect("k-" + name, False)[0], kept)
            if kept:
                same("its messages", [m[1] for m in c.take(10)], [b"%d" % n for n in range(10)])
            c.disconnect()
        same("the end", b.end(), 0)


def test_the_operators_expiry_is_the_limit(directory):
    with start(os.path.join(directory, "limited"), "--session-expiry", "50") as b:
        for asked, granted in ((20, None), (50, None), (51, 50), (0xFFFFFFFF, 50), (0, None)):
            c = Client5(TO)
            same(f"the expiry for {asked}", c.connect("limited", session_expiry=asked)[2].get("session_expiry"), granted)
            c.disconnect()
        same("the end", b.end(), 0)


def test_access_rules(directory):
    rules = os.path.join(directory, "rules5")
    with open(rules, "w") as f:
        f.write("default deny\nallow connect client good*\nallow publish client good* topic in/#\n"
                "allow subscribe client good* topic out/#\n")
    with start(os.path.join(directory, "ruled5"), "--access", rules, "-i", stdin=subprocess.PIPE) as b:
        c = Client5(TO)
        same("CONNACK of a stranger", c.connect("bad")[1], 0x87)
        c = connected5("good")
        same("SUBACK", c.subscribe("out/a", "in/a", "$share/g/out/b"), b"\1\x87\1")
        same("PUBACK", c.publish("in/a", b"allowed")[0], 0)
        reason, said = c.publish("out/a", b"denied")
        expect(reason == 0x87 and "rules" in said["reason"], "a PUBLISH that is denied", (reason, said))
        same("PUBREC", c.publish("out/a", b"denied", qos=2)[0], 0x87)
        same("PUBACK after refusals", c.publish("in/a", b"allowed")[0], 0)
        kicked = connected5("good-kicked")
        b.process.stdin.write(b"kick good-kicked\n")
        b.process.stdin.flush()
        same("the reason of a kick", kicked.ended()[0], 0x98)
        with open(rules, "w") as f:
            f.write("default deny\n")
        b.process.stdin.write(b"reload\n")
        b.process.stdin.flush()
        same("the reason of new rules", c.ended()[0], 0x87)
        b.process.stdin.write(b"show counters\nquit\n")
        b.process.stdin.flush()
        same("the end", b.process.wait(HANG_S), 0)
        for name, least in (("mqtt_connects_v5", 2), ("mqtt_publishes_denied", 2), ("mqtt_subscribes_denied", 1),
                            ("mqtt_ended_by_rules", 1), ("mqtt_disconnects_sent", 1)):
            found = re.search(rf"{name} +(\d+)", b.said())
            expect(found and int(found[1]) >= least, f"{name} is not at least {least}", b.said())


def main():
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        region = os.path.join(directory, "region")
        with start(region, "--size", "64M") as b:
            for test in (test_connack_says_what_the_broker_offers, test_a_disconnect_says_why,
                         test_sessions_expire_as_their_clients_ask, test_answers_have_reasons,
                         test_the_answers_keep_the_order_of_the_messages, test_topic_aliases, test_the_sizes_that_a_client_takes,
                         test_subscription_options, test_what_a_member_of_a_group_refuses_goes_to_nobody_else, test_wills,
                         test_mosquittos_programs,
                         test_both_versions_and_mqtt_sn_share_everything, test_paho):
                test(b)
                expect(b.process.poll() is None, f"the broker ended in {test.__name__}", b.said())
                print(f"{test.__name__}: ok", flush=True)
            b = test_subscription_identifiers(region, b)
            b = test_properties_go_with_the_message(region, b)
            test_sessions_and_their_expiry_survive_a_kill(region, b)
        test_a_full_queue_refuses_and_the_connection_goes_on(directory)
        test_the_operators_expiry_is_the_limit(directory)
        test_access_rules(directory)
    print("all ok")


if __name__ == "__main__":
    try:
        main()
    except Closed:
        raise SystemExit("the broker has closed a connection that should be open")
