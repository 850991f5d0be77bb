# SPDX-License-Identifier: BSD-3-Clause
"""A client that sleeps (section 6.14) against a scripted peer. Usage: test_sleep.py path/to/chainring-client"""
import signal
import struct
import sys
import unittest

from peer import *  # noqa: F403: the protocol's names


class Sleep(ClientTest):
    def begin(self, *arguments, awake_every='0.1', retry_s=HANG_S):
        p = self.start('sub', '-q', '1', '-i', 'node', '-t', 'a/b', '--sleep', '60', '--awake-every', awake_every,
                       *arguments, retry_s=retry_s)
        self.peer.accept()
        self.peer.subscribe(5, again=(CONNECT,))
        self.peer.sleep(60, again=(SUBSCRIBE,))
        return p

    def test_each_awakening_fetches_what_the_broker_kept(self):
        p = self.begin('-C', '3', '-v')
        for messages in ((b'one', b'two'), (), (b'three',)):
            self.assertEqual(self.peer.expect(PINGREQ), b'node')
            for i, text in enumerate(messages):
                self.peer.publish(5, text, msg_id=i + 1)
                self.assertEqual(self.peer.expect(PUBACK), b'\0\5' + struct.pack('>H', i + 1) + b'\0')
            if text != b'three':
                self.peer.send(PINGRESP)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0), (b'a/b one\na/b two\na/b three\n', ''))

    def test_the_broker_registers_a_topic_and_delivers_every_qos_while_the_client_is_awake(self):
        p = self.begin('-C', '3', '-v')
        self.peer.expect(PINGREQ)
        self.peer.send(REGISTER, b'\0\6\0\1a/c')
        self.assertEqual(self.peer.expect(REGACK), b'\0\6\0\1\0')
        self.peer.publish(6, b'zero', flags=0, msg_id=0)
        self.peer.publish(6, b'one', msg_id=2)
        self.peer.expect(PUBACK)
        self.peer.publish(6, b'two', flags=QOS2, msg_id=3)
        self.peer.expect(PUBREC)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'a/c zero\na/c one\na/c two\n')

    def test_pubrel_of_a_message_is_answered_while_awake(self):
        p = self.begin('-C', '2')
        self.peer.expect(PINGREQ)
        self.peer.publish(5, b'x', flags=QOS2, msg_id=3)
        self.peer.expect(PUBREC)
        self.peer.send(PUBREL, b'\0\3')
        self.assertEqual(self.peer.expect(PUBCOMP), b'\0\3')
        self.peer.send(PINGRESP)
        self.peer.expect(PINGREQ)
        self.peer.publish(5, b'y', flags=0, msg_id=0)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'x\ny\n')

    def test_what_arrives_during_sleep_is_not_heard(self):
        p = self.begin('-C', '1', '-d', awake_every='1')
        self.peer.publish(5, b'unheard', msg_id=1)
        self.peer.send(DISCONNECT)
        self.assertEqual(self.peer.expect(PINGREQ), b'node')  # and no PUBACK before it
        self.peer.publish(5, b'heard', msg_id=1)
        self.peer.expect(PUBACK)
        self.peer.farewell()
        out, err = self.finish(p, 0)
        self.assertEqual(out, b'heard\n')
        self.assertIn('dropped, as it came during sleep: PUBLISH', err)

    def test_a_message_that_came_before_sleep_and_is_not_acknowledged_is_left_to_the_broker(self):
        p = self.start('sub', '-q', '1', '-i', 'node', '-t', 'a/b', '--sleep', '60', '--awake-every', '0.1', '-C', '2')
        self.peer.accept()
        self.peer.subscribe(5)
        self.assertEqual(self.peer.expect(DISCONNECT), b'\0\x3c')
        self.peer.publish(5, b'kept', msg_id=1)
        self.peer.publish(5, b'printed', flags=0, msg_id=0)
        self.peer.send(DISCONNECT)
        self.peer.expect(PINGREQ)
        self.peer.publish(5, b'kept', flags=QOS1 | DUP, msg_id=1)
        self.peer.expect(PUBACK)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'printed\nkept\n')

    def test_a_lost_pingreq_is_repeated(self):
        p = self.begin('-C', '1', '--max-retries', '1000', retry_s=0.2)
        for _ in range(3):
            self.assertEqual(self.peer.expect(PINGREQ, again=(DISCONNECT,)), b'node')
        self.peer.publish(5, b'x', msg_id=1)
        self.peer.expect(PUBACK, again=(PINGREQ,))
        self.peer.farewell(again=(PINGREQ,))
        self.assertEqual(self.finish(p, 0)[0], b'x\n')

    def test_a_broker_that_does_not_answer_lets_the_client_sleep_on(self):
        p = self.begin('-C', '1', '--max-retries', '1', retry_s=0.3)
        for _ in range(4):  # two awakenings with one repetition each
            self.peer.expect(PINGREQ, again=(DISCONNECT,))
        self.peer.publish(5, b'x', msg_id=1)
        self.peer.expect(PUBACK, again=(PINGREQ,))
        self.peer.farewell(again=(PINGREQ,))
        out, err = self.finish(p, 0)
        self.assertEqual(out, b'x\n')
        self.assertRegex(err, "PINGREQ of 'node', who is awake, was not answered .* in 2 attempts.*; sleeping on")

    def test_a_client_that_was_not_heard_for_its_whole_sleep_connects_again(self):
        p = self.start('sub', '-i', 'node', '-t', 'a/b', '--sleep', '1', '--awake-every', '0.6', '-C', '1',
                       '--max-retries', '0', retry_s=0.5)
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.sleep(1)
        self.peer.expect(PINGREQ)
        self.peer.accept(again=(PINGREQ,))
        self.peer.subscribe(5)
        self.peer.sleep(1)
        self.peer.expect(PINGREQ)
        self.peer.publish(5, b'x', flags=0, msg_id=0)
        self.peer.farewell(again=(PINGREQ,))
        out, err = self.finish(p, 0)
        self.assertEqual(out, b'x\n')
        self.assertIn('was not heard for the 1 s of --sleep', err)

    def test_a_session_that_the_broker_has_given_up_is_begun_again(self):
        p = self.begin('-C', '1', '--max-retries', '1000', retry_s=0.2)
        self.peer.expect(PINGREQ, again=(DISCONNECT,))
        self.peer.send(DISCONNECT)
        self.peer.accept(again=(PINGREQ,))
        self.peer.subscribe(5, again=(CONNECT,))
        self.peer.sleep(60, again=(SUBSCRIBE,))
        self.peer.expect(PINGREQ, again=(DISCONNECT,))
        self.peer.publish(5, b'x', flags=0, msg_id=0)
        self.peer.farewell(again=(PINGREQ,))
        self.assertEqual(self.finish(p, 0)[0], b'x\n')

    def test_a_broker_without_sleep_is_named(self):
        p = self.start('sub', '-t', 'a/b', '--sleep', '60', '--max-retries', '1', retry_s=0.3)
        self.peer.accept()
        self.peer.subscribe(5, again=(CONNECT,))
        for _ in range(2):
            self.assertEqual(self.peer.expect(DISCONNECT, again=(SUBSCRIBE,)), b'\0\x3c')
        self.peer.farewell()
        self.assertRegex(self.finish(p, 1)[1], 'DISCONNECT for a sleep of 60 s was not answered .*; a broker that does '
                         'not support sleep does not answer')

    def test_the_program_ends_asleep_when_only_the_subscription_is_wanted(self):
        p = self.begin('-E')
        self.assertEqual(self.finish(p, 0), (b'', ''))

    def test_an_interruption_ends_the_sleep_with_a_normal_disconnect(self):
        p = self.begin(awake_every='60')
        p.send_signal(signal.SIGTERM)
        self.peer.farewell()
        self.finish(p, 0)

    def test_the_timeout_ends_the_sleep(self):
        p = self.begin('-W', '0.3', awake_every='60')
        self.peer.farewell()
        self.assertIn('--timeout', self.finish(p, 27)[1])


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
