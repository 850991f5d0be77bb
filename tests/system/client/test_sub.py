# SPDX-License-Identifier: BSD-3-Clause
"""chainring-client sub runs against a scripted peer. Usage: test_sub.py path/to/chainring-client"""
import signal
import struct
import sys
import unittest

from peer import *  # noqa: F403: the protocol's names


class Subscribe(ClientTest):
    def test_each_filter_is_subscribed_to_and_the_count_ends_the_program(self):
        p = self.start('sub', '-q', '1', '-C', '2', '-v', '-t', 'a/b', '-t', 'c/+')
        self.peer.accept()
        self.assertEqual(self.peer.subscribe(5), (QOS1, b'a/b'))
        self.assertEqual(self.peer.subscribe(0), (QOS1, b'c/+'))
        self.peer.publish(5, b'one', msg_id=7)
        self.assertEqual(self.peer.expect(PUBACK), b'\0\5\0\7\0')
        self.peer.send(REGISTER, b'\0\6\0\1c/d')
        self.assertEqual(self.peer.expect(REGACK), b'\0\6\0\1\0')
        self.peer.publish(6, b'two', msg_id=8)
        self.assertEqual(self.peer.expect(PUBACK), b'\0\6\0\10\0')
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0), (b'a/b one\nc/d two\n', ''))

    def test_predefined_and_short_topics_are_subscribed_to(self):
        p = self.start('sub', '-v', '-C', '2', '--topic-id', '300', '--short-topic', '-t', 'xy')
        self.peer.accept()
        self.assertEqual(self.peer.subscribe(0), (SHORT, b'xy'))
        self.assertEqual(self.peer.subscribe(300), (PREDEFINED, b'\1\x2c'))
        self.peer.publish(300, b'1', flags=PREDEFINED, msg_id=0)
        self.peer.publish(0x7879, b'2', flags=SHORT, msg_id=0)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'300 1\nxy 2\n')

    def test_brackets_and_commas_are_part_of_a_filter(self):
        p = self.start('sub', '-C', '1', '-t', '[a,b]', '-t', 'c')
        self.peer.accept()
        self.assertEqual(self.peer.subscribe(1)[1], b'[a,b]')
        self.assertEqual(self.peer.subscribe(2)[1], b'c')
        self.peer.publish(2, b'x', flags=0, msg_id=0)
        self.peer.farewell()
        self.finish(p, 0)

    def test_no_newline_suppresses_the_newline(self):
        p = self.start('sub', '-N', '-C', '2', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.publish(5, b'one', flags=0, msg_id=0)
        self.peer.publish(5, b'two', flags=0, msg_id=0)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'onetwo')

    def test_a_message_is_printed_before_it_is_acknowledged(self):
        p = self.start('sub', '-q', '1', '-C', '1', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.publish(5, b'kept')
        self.peer.expect(PUBACK)
        self.assertEqual(p.stdout.read(5), b'kept\n')
        self.peer.farewell()
        self.finish(p, 0)

    def test_a_message_that_cannot_be_written_is_not_acknowledged(self):
        with open('/dev/full', 'wb') as full:
            p = self.start('sub', '-q', '1', '-t', 'a/b', stdout=full)
            self.peer.accept()
            self.peer.subscribe(5)
            self.peer.publish(5, b'lost?')
            self.peer.farewell()  # there is no PUBACK before it
            self.assertIn('cannot write to standard output', self.finish(p, 1)[1])

    def test_a_duplicate_at_qos_1_is_printed_and_acknowledged_again(self):
        p = self.start('sub', '-q', '1', '-C', '2', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.publish(5, b'x', msg_id=3)
        self.peer.expect(PUBACK)
        self.peer.publish(5, b'x', flags=QOS1 | DUP, msg_id=3)
        self.peer.expect(PUBACK)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'x\nx\n')

    def test_a_duplicate_at_qos_2_is_acknowledged_and_not_printed_again(self):
        p = self.start('sub', '-q', '2', '-C', '2', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.publish(5, b'x', flags=QOS2, msg_id=3)
        self.assertEqual(self.peer.expect(PUBREC), b'\0\3')
        self.peer.publish(5, b'x', flags=QOS2 | DUP, msg_id=3)
        self.assertEqual(self.peer.expect(PUBREC), b'\0\3')
        self.peer.send(PUBREL, b'\0\3')
        self.assertEqual(self.peer.expect(PUBCOMP), b'\0\3')
        self.peer.publish(5, b'y', flags=QOS2, msg_id=3)  # this is a new message with the same id
        self.assertEqual(self.peer.expect(PUBREC), b'\0\3')
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'x\ny\n')

    def test_an_unknown_topic_id_is_refused_and_not_printed(self):
        p = self.start('sub', '-q', '1', '-C', '1', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.publish(6, b'stranger', msg_id=2)
        self.assertEqual(self.peer.expect(PUBACK), b'\0\6\0\2' + bytes([INVALID_TOPIC_ID]))
        self.peer.publish(5, b'friend', msg_id=3)
        self.peer.expect(PUBACK)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'friend\n')

    def test_a_topic_id_that_may_belong_to_a_lost_suback_is_not_refused(self):
        p = self.start('sub', '-q', '1', '-C', '1', '-t', 'a/b')
        self.peer.accept()
        body = self.peer.expect(SUBSCRIBE)
        self.peer.publish(5, b'x', msg_id=2)
        self.peer.send(PINGREQ)
        self.peer.expect(PINGRESP)  # there is no answer before it
        self.peer.send(SUBACK, bytes([QOS1]) + b'\0\5' + body[1:3] + b'\0')
        self.peer.publish(5, b'x', flags=QOS1 | DUP, msg_id=2)
        self.assertEqual(self.peer.expect(PUBACK), b'\0\5\0\2\0')
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'x\n')

    def test_an_invalid_registration_is_refused(self):
        p = self.start('sub', '-t', '#')
        self.peer.accept()
        self.peer.subscribe(0)
        self.peer.send(REGISTER, b'\0\0\0\1a/b')
        self.assertEqual(self.peer.expect(REGACK), b'\0\0\0\1' + bytes([INVALID_TOPIC_ID]))
        self.peer.send(REGISTER, b'\0\1\0\2a/#')
        self.assertEqual(self.peer.expect(REGACK), b'\0\1\0\2' + bytes([NOT_SUPPORTED]))
        p.send_signal(signal.SIGTERM)
        self.peer.farewell()
        self.finish(p, 0)

    def test_a_refused_subscription_names_the_filter(self):
        p = self.start('sub', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(0, code=NOT_SUPPORTED)
        self.peer.farewell()
        self.assertIn("the subscription to 'a/b' was refused by the broker (rejected: not supported)",
                      self.finish(p, 1)[1])

    def test_a_lower_qos_than_asked_for_is_reported(self):
        p = self.start('sub', '-q', '1', '-C', '1', '-t', 'a/b')
        self.peer.accept()
        body = self.peer.expect(SUBSCRIBE)
        self.peer.send(SUBACK, b'\0\0\5' + body[1:3] + b'\0')
        self.peer.publish(5, b'x', flags=0, msg_id=0)
        self.peer.farewell()
        self.assertIn("the broker granted 'a/b' only QoS 0", self.finish(p, 0)[1])


class Liveness(ClientTest):
    def test_a_ping_is_answered(self):
        p = self.start('sub', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.send(PINGREQ)
        self.assertEqual(self.peer.expect(PINGRESP), b'')
        p.send_signal(signal.SIGINT)
        self.peer.farewell()
        self.finish(p, 0)

    def test_an_idle_session_is_kept_alive(self):
        p = self.start('sub', '-k', '1', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        for _ in range(2):
            self.assertEqual(self.peer.expect(PINGREQ), b'')
            self.peer.send(PINGRESP)
        p.send_signal(signal.SIGTERM)
        self.peer.farewell(again=(PINGREQ,))
        self.finish(p, 0)

    def test_unanswered_pings_make_the_client_connect_again(self):
        p = self.start('sub', '-k', '1', '-t', 'a/b', '-C', '1', '--max-retries', '3', retry_s=1)
        self.peer.accept()
        self.peer.subscribe(5, again=(CONNECT,))
        for _ in range(4):
            self.peer.expect(PINGREQ, again=(SUBSCRIBE,))
        self.peer.accept()
        self.peer.subscribe(9, again=(CONNECT,))
        self.peer.publish(9, b'x', flags=0, msg_id=0)
        self.peer.farewell(again=(SUBSCRIBE,))
        out, err = self.finish(p, 0)
        self.assertEqual(out, b'x\n')
        self.assertIn('PINGREQ was not answered', err)

    def test_a_session_that_the_broker_ended_is_replaced_by_a_new_one(self):
        p = self.start('sub', '-q', '1', '-c', '-i', 'kept', '-C', '2', '-v', '-t', 'a/b', '--max-retries', '1000',
                       retry_s=0.3)
        self.assertEqual(self.peer.accept()[0], 0)
        self.peer.subscribe(5, again=(CONNECT,))
        self.peer.publish(5, b'one')
        self.peer.expect(PUBACK, again=(SUBSCRIBE,))
        self.peer.send(DISCONNECT)
        self.assertEqual(self.peer.accept(), b'\0\1\0\x3ckept')
        self.assertEqual(self.peer.subscribe(8, again=(CONNECT,)), (QOS1, b'a/b'))
        self.peer.publish(8, b'two')
        self.peer.expect(PUBACK, again=(SUBSCRIBE,))
        self.peer.farewell()
        out, err = self.finish(p, 0)
        self.assertEqual(out, b'a/b one\na/b two\n')
        self.assertIn('ended the session; connecting again', err)

    def test_the_timeout_ends_the_program_with_status_27(self):
        p = self.start('sub', '-W', '0.2', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.farewell()
        self.assertIn('--timeout', self.finish(p, 27)[1])

    def test_an_interruption_ends_the_wait_for_a_broker_that_does_not_answer(self):
        p = self.start('sub', '-t', 'a/b')
        self.peer.expect(CONNECT)
        p.send_signal(signal.SIGTERM)
        self.finish(p, 0)

    def test_debug_prints_each_message(self):
        p = self.start('sub', '-d', '-q', '1', '-C', '1', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.publish(5, b'x', msg_id=4)
        self.peer.expect(PUBACK)
        self.peer.farewell()
        err = self.finish(p, 0)[1]
        for line in ('sent CONNECT', "sent SUBSCRIBE m1", "received PUBLISH m4 t5 q1", 'sent PUBACK m4 t5 accepted',
                     'received DISCONNECT'):
            self.assertIn(line, err)


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
