#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Shows each normative statement of MQTT-SN 1.2 on a running broker. Messages are built by scapy and sent
by UDP sockets to a TAP port; what the broker sends is compared with what scapy expects, and read again by
tshark, field by field. Needs root.

  test_conformance.py BROKER TABLE           compares the outcome with the table in that file
  test_conformance.py BROKER TABLE --write   writes the table
"""
import inspect
import os
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from rig import *  # noqa: F403: the rig's and the messages' names
from statements import CLIENT, NOT_THE_GATEWAYS, STATEMENTS, Departs

GROUP, ADVERTISE_S = '225.1.1.1', 2
PREDEFINED, PREDEFINED_NAME = 7, b'predefined/seven'
TESTS = []
verdicts = {}  # statement -> (verdict, test)


def test(function):
    TESTS.append(function)
    return function


class shows:
    """What is done inside shows these statements. The first difference ends the test."""

    def __init__(self, *statements):
        self.statements = statements
        self.test = inspect.stack()[1].function

    def __enter__(self):
        for s in self.statements:
            assert s in STATEMENTS and s not in NOT_THE_GATEWAYS, s
            verdicts[s] = ('fails', self.test)

    def __exit__(self, kind, *_):
        if kind is None:
            for s in self.statements:
                verdicts[s] = ('holds', self.test)


def same(got, wanted, what):
    if got != wanted:
        raise Failed(f'{what}: {got}, wanted {wanted}')


# --- 5.2, 5.3: header and fields ----------------------------------------------------------------------

@test
def both_forms_of_the_length(w):
    c = w.client()
    with shows('5.2.1/2', '5.2.1/3'):
        c.asks(long_form(connect(w.name())), connack())
        c.asks(PINGREQ, PINGRESP)
        c.asks(long_form(PINGREQ), PINGRESP)
    with shows('5.2.1/1'):
        c.says(b'\x03\x16')     # the length is one more than the octets that follow
        c.says(b'\x01\x16')     # a length field that is cut off
        c.quiet()
        topic = w.name()
        c.subscribes(topic)
        tid = c.registers(topic)
        c.says(publish(bytes(300), tid=tid))
        got = c.hears()
        same(got[:3], b'\x01' + len(got).to_bytes(2, 'big'), 'the length of a long message')


@test
def reserved_types(w):
    c = w.client().connects()
    with shows('5.2.2/1'):
        for kind in (0x03, 0x11, 0x19, 0x1e, 0xfd, 0xff):
            c.says(bytes((2, kind)))
        c.quiet()
        c.asks(PINGREQ, PINGRESP)


@test
def client_ids(w):
    with shows('5.3.1/1', '6.2/3'):
        w.client().asks(connect(b'x' * 23), connack())
        w.client().asks(connect(b'x' * 24), connack(REJECT_UNSUPPORTED))
        w.client().asks(connect(b''), connack(REJECT_UNSUPPORTED))
    with shows('5.3.8/1'):
        w.client().asks(connect(w.name(), prot_id=2), connack(REJECT_UNSUPPORTED))


@test
def flags(w):
    c = w.client().connects()
    topic = w.name()
    with shows('5.3.4/2'):
        c.says(subscribe(1, qos=3, topic_name=topic))
        same(c.takes(sn.SUBACK).return_code, REJECT_UNSUPPORTED, 'SUBSCRIBE at QoS -1')
    with shows('5.3.4/3'):
        c.says(b'\x09\x0c\x23\x00\x01\x00\x02xy')  # PUBLISH with the topic id type 0b11
        same(c.takes(sn.PUBACK).return_code, REJECT_UNSUPPORTED, 'PUBLISH with the reserved topic id type')
        c.says(b'\x06\x12\x23\x00\x03a')
        same(c.takes(sn.SUBACK).return_code, REJECT_UNSUPPORTED, 'SUBSCRIBE with the reserved topic id type')
    with shows('5.3.10/1'):
        same(c.registers(topic) != 0, True, 'accepted')
        c.asks(publish(b'x', qos=1, tid=60000, mid=2), puback(60000, 2, REJECT_ID))
        c.says(register(0, 3, b'a/#'))
        same(c.takes(sn.REGACK).return_code, REJECT_UNSUPPORTED, 'REGISTER of a filter')
    with shows('5.3.11/1'):
        for tid in (0, 0xffff):
            c.asks(publish(b'x', qos=1, tid=tid, mid=4), puback(tid, 4, REJECT_ID))


# --- 5.4: the form of messages ------------------------------------------------------------------------

@test
def answers_carry_the_ids_of_their_requests(w):
    c, topic = w.client(), w.name()
    with shows('5.4.5/1', '6.2/1'):
        c.connects()
    with shows('5.4.11/1', '6.5/1'):
        c.says(register(0, 0x1234, topic))
        answer = c.takes(sn.REGACK)
        same((answer.mid, answer.return_code), (0x1234, ACCEPTED), 'REGACK')
        tid = answer.tid
        c.asks(publish(b'x', qos=1, tid=tid, mid=1), puback(tid, 1))
    with shows('5.4.16/1', '6.9/1', '6.10/1'):
        c.asks(subscribe(0x2345, qos=1, topic_name=topic), suback(tid, 0x2345, qos=1))
        c.asks(publish(b'mine', qos=0, tid=tid))
        same(c.gets_data(b'mine').tid, tid, 'the topic id of the PUBLISH')
    with shows('5.4.16/2'):
        c.says(subscribe(9, dup=1, qos=0, topic_name=topic))
        got = c.hears()
        same(got[2] & 0x9f, 0, 'the unused flags of SUBACK')
    with shows('5.4.13/1'):
        c.asks(publish(b'x', qos=1, tid=tid, mid=0xabcd), puback(tid, 0xabcd))
        c.gets_data(b'x')
    with shows('5.4.12/1'):
        c.says(publish(b'zero', qos=0, tid=tid))
        same(c.gets_data(b'zero').mid, 0, 'the message id of a PUBLISH at QoS 0')
    with shows('5.4.18/1', '6.9/4'):
        c.asks(unsubscribe(0x3456, topic_name=topic), unsuback(0x3456))
        c.says(publish(b'unheard', tid=tid))
        c.quiet()
    with shows('5.4.20/1', '6.11/1'):
        c.asks(PINGREQ, b'\x02\x17')
    with shows('5.4.21/1', '6.12/1'):
        c.asks(DISCONNECT, b'\x02\x18')


@test
def refusals(w):
    c = w.client().connects()
    with shows('6.5/2'):
        c.asks(register(0, 1, b'a/+'), regack(0, 1, REJECT_UNSUPPORTED))
    with shows('6.9/2'):
        c.says(subscribe(2, topic_name=b'a/#/b'))
        same(c.takes(sn.SUBACK).return_code, REJECT_UNSUPPORTED, 'SUBSCRIBE to an invalid filter')
    with shows('6.6/2'):
        for qos, mid in ((0, 0), (1, 3), (2, 4)):
            c.asks(publish(b'x', qos=qos, tid=61000, mid=mid), puback(61000, mid, REJECT_ID))
    with shows('6.7/2'):
        c.asks(publish(b'x', qos=1, tid_type=PREDEFINED_ID, tid=99, mid=5), puback(99, 5, REJECT_ID))


# --- 6.6: publishing, QoS 2 -----------------------------------------------------------------------------

@test
def three_qos_levels(w):
    a, b, topic = w.client().connects(), w.client().connects(), w.name()
    tid = a.registers(topic)
    b.subscribes(topic, qos=2)
    with shows('6.6/1', '5.4.14/1'):
        a.says(publish(b'zero', tid=tid))
        b.gets_data(b'zero', 0)
        a.asks(publish(b'one', qos=1, tid=tid, mid=1), puback(tid, 1))
        b.gets_data(b'one', 1)
        a.asks(publish(b'two', qos=2, tid=tid, mid=2), pubrec(2))
        a.asks(publish(b'two', qos=2, dup=1, tid=tid, mid=2), pubrec(2))
        a.asks(pubrel(2), pubcomp(2))
        a.asks(pubrel(2), pubcomp(2))
        b.gets_data(b'two', 2)
        b.quiet()
    with shows('6.13/2'):
        a.asks(register(0, 9, topic), regack(tid, 9))
        a.asks(register(0, 9, topic), regack(tid, 9))
        a.asks(subscribe(10, topic_name=topic), suback(tid, 10))
        a.asks(subscribe(10, topic_name=topic), suback(tid, 10))
        for _ in range(4):
            a.asks(DISCONNECT, DISCONNECT)
            time.sleep(0.2)


# --- 6.5, 6.10: names -----------------------------------------------------------------------------------

@test
def names_are_registered_before_they_are_used(w):
    a, b = w.client().connects(), w.client().connects()
    base = w.name()
    topic = base + b'/x'
    tid = a.registers(topic)
    with shows('6.9/3'):
        b.says(subscribe(1, qos=1, topic_name=base + b'/+'))
        b.gets(suback(0, 1, qos=1))
    with shows('6.5/4', '5.4.10/1', '6.10/2'):
        a.asks(publish(b'first', qos=1, tid=tid, mid=1), puback(tid, 1))
        asked = b.takes(sn.REGISTER)
        same(asked.topic_name, topic, 'the name in REGISTER')
        same(asked.tid not in (0, 0xffff), True, 'the id in REGISTER')
        b.quiet()
        b.says(regack(asked.tid, asked.mid))
        same(b.gets_data(b'first', 1).tid, asked.tid, 'the id in PUBLISH')
    with shows('6.10/4'):
        a.asks(publish(b'second', qos=1, tid=tid, mid=2), puback(tid, 2))
        p = b.takes(sn.PUBLISH)
        b.says(puback(p.tid, p.mid, REJECT_ID))
        b.learns(topic)
        b.gets_data(b'second', 1)
    other = base + b'/y'
    with shows('6.10/3'):
        b.subscribes(other, qos=1)
        c = w.client().connects(cleansess=0)
        c.subscribes(other, qos=1)
        c.asks(DISCONNECT, DISCONNECT)
        with_y = a.registers(other)
        a.asks(publish(b'third', qos=1, tid=with_y, mid=3), puback(with_y, 3))
        c.asks(connect(c.id, cleansess=0), connack())
        asked = c.takes(sn.REGISTER)
        c.says(regack(asked.tid, asked.mid, REJECT_UNSUPPORTED))
        c.quiet()
        a.asks(publish(b'fourth', qos=1, tid=with_y, mid=4), puback(with_y, 4))
        c.quiet()
        b.gets_data(b'third', 1)
        b.gets_data(b'fourth', 1)


@test
def names_after_a_reconnect(w):
    a, b, topic = w.client().connects(), w.client().connects(cleansess=0), w.name()
    tid = a.registers(topic)
    b.subscribes(topic, qos=1)
    with shows('6.5/5', '6.12/2', '6.3/4'):
        b.asks(DISCONNECT, DISCONNECT)
        a.asks(publish(b'kept', qos=1, tid=tid, mid=1), puback(tid, 1))
        b.asks(connect(b.id, cleansess=0), connack())
        b.learns(topic)
        b.gets_data(b'kept', 1)


@test
def repeated_messages(w):
    a, b, topic = w.client().connects(), w.client().connects(), w.name()
    tid = a.registers(topic)
    b.subscribes(topic, qos=1)
    with shows('5.3.4/1'):
        a.asks(publish(b'x', qos=1, tid=tid, mid=1), puback(tid, 1))
        first = b.takes(sn.PUBLISH)
        again = b.takes(sn.PUBLISH)
        same((first.dup, again.dup, first.mid, again.data), (0, 1, again.mid, b'x'), 'DUP and message id')
        b.says(puback(again.tid, again.mid))


@test
def topic_ids_of_other_clients(w):
    a, b = w.client().connects(), w.client().connects()
    with shows('7.3/1'):
        for _ in range(3):
            tid = a.registers(w.name())
        b.asks(publish(b'x', qos=1, tid=tid, mid=1), puback(tid, 1, REJECT_ID))


@test
def messages_that_are_too_long(w):
    a, b, base = w.client().connects(), w.client().connects(), w.name()
    long_name = base + b'/' + b'n' * 240
    tid = a.registers(long_name)
    b.subscribes(base + b'/#', qos=1)
    with shows('6.10/5'):
        a.says(publish(bytes(1460), qos=1, tid=tid, mid=1))
        answer = a.takes(sn.PUBACK)
        same(answer.return_code in (ACCEPTED, REJECT_UNSUPPORTED), True, 'the answer to a long message')
        if answer.return_code == ACCEPTED:
            b.learns(long_name)
            same(len(b.gets_data(bytes(1460), 1).data), 1460, 'the size of the message')


# --- 6.7, 6.8: predefined ids, short names, QoS -1 -------------------------------------------------------

@test
def topics_without_registration(w):
    a, b = w.client().connects(), w.client().connects()
    with shows('6.7/3'):
        b.asks(subscribe(1, tid_type=PREDEFINED_ID, tid=PREDEFINED), suback(PREDEFINED, 1))
        b.asks(subscribe(2, tid_type=SHORT_NAME, short_topic=b'ab'), suback(0, 2))
    with shows('6.7/1'):
        a.says(publish(b'one', tid_type=PREDEFINED_ID, tid=PREDEFINED))
        b.gets(publish(b'one', tid_type=PREDEFINED_ID, tid=PREDEFINED))
        a.says(publish(b'two', tid_type=SHORT_NAME, tid=short_id(b'ab')))
        b.gets(publish(b'two', tid_type=SHORT_NAME, tid=short_id(b'ab')))
    stranger = w.client()
    with shows('6.8/1'):
        stranger.says(publish(b'three', qos=3, tid_type=PREDEFINED_ID, tid=PREDEFINED))
        b.gets(publish(b'three', tid_type=PREDEFINED_ID, tid=PREDEFINED))
        stranger.says(publish(b'four', qos=3, tid_type=SHORT_NAME, tid=short_id(b'ab')))
        b.gets(publish(b'four', tid_type=SHORT_NAME, tid=short_id(b'ab')))
    with shows('6.8/2'):
        stranger.says(publish(b'five', qos=3, tid=PREDEFINED))
        stranger.quiet()
        b.quiet()


# --- 6.11 to 6.13: keeping alive, disconnecting -------------------------------------------------------------

@test
def strangers(w):
    with shows('6.12/4'):
        for octets in (PINGREQ, register(0, 1, b'a'), subscribe(2, topic_name=b'a'), publish(b'x', qos=1, tid=1, mid=3)):
            w.client().asks(octets, DISCONNECT)


def with_will(client, topic, data, qos=1, retain=0, clean=1, keep_alive=600):
    """Connects with a will."""
    client.id = getattr(client, 'id', None) or client.wire.name()
    client.asks(connect(client.id, will=1, cleansess=clean, duration=keep_alive), WILLTOPICREQ)
    client.asks(willtopic(topic, qos=qos, retain=retain), WILLMSGREQ)
    client.asks(willmsg(data), connack())
    return client


@test
def wills(w):
    watcher, topic = w.client().connects(), w.name()
    watcher.subscribes(topic, qos=1)
    with shows('6.2/2', '5.4.6/1', '5.4.8/1'):
        c = with_will(w.client(), topic, b'lost', keep_alive=1)
    with shows('6.11/2', '7.2/1'):
        watcher.gets_data(b'lost', 1)
        c.gets(DISCONNECT)
    with shows('5.4.7/1'):
        c = with_will(w.client(), topic, b'kept', qos=0, retain=1, keep_alive=1)
        watcher.gets_data(b'kept', 0)
        late = w.client().connects()
        late.says(subscribe(1, qos=1, topic_name=topic))
        late.takes(sn.SUBACK)
        p = late.takes(sn.PUBLISH)
        same((p.data, p.retain), (b'kept', 1), 'a retained will')
        eraser = w.client().connects()
        eraser.says(publish(b'', retain=1, tid=eraser.registers(topic)))
        watcher.gets_data(b'', 0)
    with shows('6.12/3'):
        c = with_will(w.client(), topic, b'still there', clean=0)
        c.asks(DISCONNECT, DISCONNECT)
        watcher.quiet()
        c.asks(connect(c.id, cleansess=0, duration=1), connack())
        watcher.gets_data(b'still there', 1)


@test
def wills_and_clean_sessions(w):
    watcher, topic, other = w.client().connects(), w.name(), w.name()
    watcher.subscribes(topic, qos=1)
    watcher.subscribes(other, qos=1)
    with shows('6.3/3'):
        c = with_will(w.client(), topic, b'old', clean=0)
        c.subscribes(w.name(), qos=1)
        with_will(c, other, b'new', clean=0, keep_alive=1)
        watcher.gets_data(b'new', 1)
        c.gets(DISCONNECT)
    with shows('6.3/2'):
        c = with_will(w.client(), topic, b'gone', clean=0)
        c.asks(connect(c.id, cleansess=1, duration=1), connack())
        c.gets(DISCONNECT)
        watcher.quiet()
    with shows('6.3/5', '5.4.7/2'):
        c = with_will(w.client(), topic, b'gone', clean=0)
        mine = w.name()
        c.subscribes(mine, qos=1)
        c.asks(connect(c.id, cleansess=0, will=1, duration=2), WILLTOPICREQ)
        c.asks(willtopic(b''), connack())
        c.says(publish(b'x', qos=1, tid=c.registers(mine), mid=9))  # the subscription is still there
        same(sorted((c.hears()[1], c.hears()[1])), [sn.PUBLISH, sn.PUBACK], 'the subscription')
    with shows('6.3/1'):
        c = with_will(w.client(), topic, b'first', clean=0)
        c.subscribes(mine, qos=1)
        with_will(c, other, b'second', clean=1, keep_alive=1)
        watcher.gets_data(b'second', 1)


@test
def wills_that_are_updated(w):
    watcher, topic, other = w.client().connects(), w.name(), w.name()
    watcher.subscribes(topic, qos=1)
    watcher.subscribes(other, qos=1)
    c = with_will(w.client(), topic, b'first', keep_alive=4)
    with shows('5.4.24/1'):
        c.asks(willtopicupd(other, qos=1), willtopicresp())
    with shows('5.4.25/1'):
        c.asks(willmsgupd(b'second'), willmsgresp())
    with shows('6.4/1', '6.4/2'):
        same(watcher.gets_data(b'second', 1).tid, watcher.registers(other), 'the topic of the will')
    c = with_will(w.client(), topic, b'first', keep_alive=4)
    with shows('6.4/3'):
        c.asks(willtopicupd(b''), willtopicresp())
        c.gets(DISCONNECT)
        watcher.quiet()


# --- 6.14: sleeping ------------------------------------------------------------------------------------------

@test
def sleeping(w):
    a, b, topic = w.client().connects(), w.client().connects(cleansess=0, duration=1), w.name()
    tid = a.registers(topic)
    b.subscribes(topic, qos=1)
    with shows('6.14/1', '6.14/2', '6.14/10'):
        b.asks(disconnect(600), DISCONNECT)
        a.asks(publish(b'one', qos=1, tid=tid, mid=1), puback(tid, 1))
        a.asks(publish(b'two', qos=1, tid=tid, mid=2), puback(tid, 2))
        b.quiet(2.5)  # the keep-alive time is over
    with shows('6.14/3', '5.4.19/1'):
        b.says(pingreq(b.id))
        b.gets_data(b'one', 1)
        b.gets_data(b'two', 1)
        b.gets(PINGRESP)
    with shows('6.14/4', '6.14/6'):
        b.asks(pingreq(b.id), PINGRESP)
        a.asks(publish(b'three', qos=1, tid=tid, mid=3), puback(tid, 3))
        b.quiet()
    with shows('6.14/9'):
        b.asks(disconnect(1200), DISCONNECT)
        b.quiet()
    with shows('6.14/7'):
        b.asks(connect(b.id, cleansess=0), connack())
        got = b.hears()
        if got[1] == sn.REGISTER:
            asked = sn.MQTTSN(got).payload
            b.says(regack(asked.tid, asked.mid))
            b.gets_data(b'three', 1)
        else:
            p = sn.MQTTSN(got).payload
            same(p.data, b'three', 'the message that was kept')
            b.says(puback(p.tid, p.mid))
    with shows('6.14/8'):
        b.asks(disconnect(600), DISCONNECT)
        b.asks(DISCONNECT, DISCONNECT)
        b.asks(PINGREQ, DISCONNECT)


@test
def sleepers_that_never_wake(w):
    watcher, topic = w.client().connects(), w.name()
    watcher.subscribes(topic, qos=1)
    with shows('6.14/5'):
        c = with_will(w.client(), topic, b'overslept')
        c.asks(disconnect(1), DISCONNECT)
        watcher.gets_data(b'overslept', 1)


# --- 5.5, 6.1: forwarders and discovery -------------------------------------------------------------------------

@test
def forwarders(w):
    f, node = w.client(), b'\x11\x22\x33\x44'
    with shows('5.5/1', '5.5/2'):
        f.asks(encapsulated(node, connect(w.name())), encapsulated(node, connack()))
        f.asks(encapsulated(node, PINGREQ), encapsulated(node, PINGRESP))
        f.asks(encapsulated(b'\x55', PINGREQ), encapsulated(b'\x55', DISCONNECT))  # nobody has connected there
    with shows('5.5/3'):
        f.asks(encapsulated(node, searchgw(2)), encapsulated(node, gwinfo(1), radius=2))


@test
def discovery(w):
    with shows('6.1/3', '5.4.3/1'):
        w.client().asks(searchgw(1), gwinfo(1))
    member = w.client().joins(GROUP)
    advertise = message(sn.ADVERTISE, sn.MQTTSNAdvertise, gw_id=1, duration=ADVERTISE_S)
    with shows('5.4.1/1', '6.1/1', '6.1/2'):
        member.gets(advertise, advertise)
    with shows('6.1/4'):
        member.sock.sendto(searchgw(1), (GROUP, PORT))
        got = member.hears()
        while got == advertise:
            got = member.hears()
        same(got, gwinfo(1), 'the answer in the group')


# --- the table ----------------------------------------------------------------------------------------------------

def table():
    rows = ['| statement | section | what it says | test | verdict |', '|---|---|---|---|---|']
    for s, text in STATEMENTS.items():
        other = NOT_THE_GATEWAYS.get(s)
        verdict, by = verdicts.get(s, (other or 'not shown', ''))
        if isinstance(other, Departs):
            verdict = f'departs: {other}'
        rows.append(f"| {s} | {s.split('/')[0]} | {text} | {by} | {verdict} |")
    holds = sum(v[0] == 'holds' for v in verdicts.values())
    others = sum(v == CLIENT for v in NOT_THE_GATEWAYS.values())
    departs = sum(isinstance(v, Departs) for v in NOT_THE_GATEWAYS.values())
    return rows, f'{len(STATEMENTS)} statements: {holds} hold, {others} bind clients, {departs} are departed from'


def page(rows, summary):
    return '\n'.join([
        '# Conformance with MQTT-SN 1.2', '',
        'One row for each normative statement of the specification, in our own words. "Holds" means that the named test of',
        '`tests/system/conformance/test_conformance.py` has shown it on a running broker over a TAP port, with messages that',
        'scapy built and that tshark read again. The table is written by `ninja -C build conformance-table`, and the test',
        '`conformance` compares it with its own run. MQTT-SN 2.0 is not claimed.', '', summary + '.', '', *rows, ''])


def main():
    program, path, *more = sys.argv[1:]
    failures = []
    with tempfile.TemporaryDirectory(dir='/var/tmp') as scratch:
        topics = os.path.join(scratch, 'topics')
        with open(topics, 'w') as f:
            f.write(f'{PREDEFINED} {PREDEFINED_NAME.decode()}\n')
        wire = Wire(program, scratch, '--predefined-topics', topics, '--retry-interval', '1', '--multicast', GROUP,
                    '--advertise', str(ADVERTISE_S))
        try:
            for one in TESTS:
                try:
                    one(wire)
                except Failed as why:
                    failures.append(f'{one.__name__}: {why}')
                if wire.broker.process.poll() is not None:
                    raise SystemExit(f'{one.__name__}: the broker ended:\n{wire.broker.said()}')
            messages, fields, wrong = wire.dissect()
        finally:
            wire.stop()
    rows, summary = table()
    print(f'{summary}; {messages} messages and {fields} fields read by tshark as by scapy, {len(wrong)} differences')
    for line in failures + wrong[:20]:
        print(line)
    for s in STATEMENTS:
        if s not in verdicts and s not in NOT_THE_GATEWAYS:
            failures.append(s)
            print(f'{s}: no test has shown it')
    if more == ['--write']:
        with open(path, 'w') as f:
            f.write(page(rows, summary))
    else:
        with open(path) as f:
            if f.read() != page(rows, summary):
                raise SystemExit(f'{path} is not what this run has shown; write it again by ninja -C build conformance-table')
    raise SystemExit(bool(failures or wrong))


main()
