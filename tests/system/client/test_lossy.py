# SPDX-License-Identifier: BSD-3-Clause
"""A peer at random. Over a network that loses and doubles datagrams, nothing is lost and nothing is
delivered twice at QoS 2; and datagrams of any content do no harm. CHAINRING_SEED repeats a run. Usage: test_lossy.py path/to/chainring-client"""
import os
import random
import select
import signal
import struct
import sys
import threading
import unittest

from peer import *  # noqa: F403: the protocol's names

MESSAGES = 60
AGAIN_S = 0.03


class Lossy(Peer):
    """A small broker at QoS 2, each of whose datagrams may be lost or doubled on the way."""

    def __init__(self, seed):
        super().__init__()
        self.random = random.Random(seed)
        self.open, self.got = set(), []
        self.end = False

    def pass_on(self):
        """How many copies of a datagram arrive."""
        return self.random.choices((0, 1, 2), (25, 60, 15))[0]

    def send(self, kind, body=b''):
        for _ in range(self.pass_on()):
            super().send(kind, body)

    def heard(self, wait_s):
        """Returns the messages that arrived within the time."""
        if not select.select([self.socket], [], [], wait_s)[0]:
            return []
        return [self.receive()] * self.pass_on()

    def answer(self, kind, body):
        """Answers as a broker does; returns True when the message was one of the exchange of subscribe or
        publish that the caller has to handle."""
        if kind == CONNECT:
            self.send(CONNACK, b'\0')
        elif kind == REGISTER:
            self.send(REGACK, b'\0\5' + body[2:4] + b'\0')
        elif kind == SUBSCRIBE:
            self.send(SUBACK, bytes([QOS2]) + b'\0\5' + body[1:3] + b'\0')
        elif kind == PUBLISH:
            if body[3:5] not in self.open:
                self.open.add(body[3:5])
                self.got.append(body[5:])
            self.send(PUBREC, body[3:5])
        elif kind == PUBREL:
            self.open.discard(body)
            self.send(PUBCOMP, body)
        elif kind == DISCONNECT:
            self.send(DISCONNECT)
        elif kind == PINGREQ:
            self.send(PINGRESP)
        else:
            return True
        return False

    def serve(self):
        while not self.end:
            for kind, body in self.heard(0.05):
                self.answer(kind, body)

    def deliver(self, texts):
        """Sends the messages one after the other, each until its PUBCOMP came."""
        subscribed = False
        while not subscribed:
            for kind, body in self.heard(AGAIN_S):
                self.answer(kind, body)
                subscribed = subscribed or kind == SUBSCRIBE
        for n, text in enumerate(texts):
            message_id = struct.pack('>H', n % 3 + 1)  # ids come back soon
            released = done = False
            again = 0
            while not done and not self.end:
                if released:
                    self.send(PUBREL, message_id)
                else:
                    self.send(PUBLISH, bytes([QOS2 | again]) + b'\0\5' + message_id + text)
                    again = DUP
                for kind, body in self.heard(AGAIN_S):
                    if self.answer(kind, body) and body == message_id:
                        released = released or kind == PUBREC
                        done = done or kind == PUBCOMP
        self.serve()


class Exactly(ClientTest):
    def setUp(self):
        seed = int(os.environ.get('CHAINRING_SEED', random.randrange(1 << 32)))
        print('CHAINRING_SEED=%d' % seed, flush=True)
        self.peer = Lossy(seed)
        self.addCleanup(self.peer.close)

    def in_background(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments)

        def stop():
            self.peer.end = True
            thread.join()
        thread.start()
        self.addCleanup(stop)

    def test_each_line_arrives_exactly_once_and_in_order(self):
        lines = [b'line %d' % n for n in range(MESSAGES)]
        self.in_background(self.peer.serve)
        p = self.start('pub', '-q', '2', '-t', 'a/b', '-l', '--max-retries', '1000', retry_s=AGAIN_S)
        self.finish(p, 0, b'\n'.join(lines))
        self.assertEqual(self.peer.got, lines)

    def test_each_message_is_printed_exactly_once_and_in_order(self):
        texts = [b'message %d' % n for n in range(MESSAGES)]
        self.in_background(self.peer.deliver, texts)
        p = self.start('sub', '-q', '2', '-t', 'a/b', '-C', str(MESSAGES), '--max-retries', '1000', retry_s=AGAIN_S)
        out, _ = self.finish(p, 0)
        self.assertEqual(out.splitlines(), texts)

    def catch_up(self, n):
        """Returns when the client has handled everything, and its answers are read, so that no socket is full and
        drops a datagram. A PINGREQ would not do: one at random is answered as well."""
        message_id = struct.pack('>H', 0x3000 + n)
        self.peer.send(REGISTER, b'\0\6' + message_id + b'caught/up')
        while self.peer.receive() != (REGACK, b'\0\6' + message_id + b'\0'):
            pass

    def test_datagrams_of_any_content_do_no_harm(self):
        pick = self.peer.random
        self.peer.close()
        self.peer = Peer()  # the network loses nothing of what this test waits for
        self.addCleanup(self.peer.close)
        p = self.start('sub', '-q', '2', '-t', 'a/b')
        self.peer.accept()
        body = self.peer.expect(SUBSCRIBE)
        self.peer.send(SUBACK, bytes([QOS2]) + b'\0\5' + body[1:3] + b'\0')
        kinds = [kind for kind in range(0x00, 0x1E) if kind != DISCONNECT] + [0xFE, 0xFF]
        for n in range(5000):
            body = bytes(pick.choice((0, 1, 5, 0x20, 0x40, 0x61, 0xFF, pick.randrange(256))) for _ in range(pick.randrange(12)))
            datagram = bytes([len(body) + 2 if pick.random() < 0.9 else pick.randrange(256), pick.choice(kinds)]) + body
            if datagram[1:2] == bytes([DISCONNECT]) or datagram[0] == 1 and datagram[3:4] == bytes([DISCONNECT]):
                continue  # it would rightly end the session
            self.peer.send_raw(datagram)
            if n % 50 == 0:
                self.catch_up(n)
        self.catch_up(n)
        self.peer.send(PUBLISH, b'\0\0\5\0\0the end')
        while b'the end' not in p.stdout.readline():
            self.assertIsNone(p.poll())
        p.send_signal(signal.SIGTERM)
        while self.peer.receive()[0] != DISCONNECT:
            pass
        self.peer.send(DISCONNECT)
        self.finish(p, 0)


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
