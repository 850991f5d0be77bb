# SPDX-License-Identifier: BSD-3-Clause
"""chainring-client pub runs against a scripted peer. Usage: test_pub.py path/to/chainring-client"""
import os
import struct
import sys
import tempfile
import unittest

from peer import *  # noqa: F403: the protocol's names


class Publish(ClientTest):
    def test_qos_1_registers_the_topic_and_waits_for_the_acknowledgement(self):
        p = self.start('pub', '-i', 'me', '-k', '30', '-q', '1', '-t', 'a/b', '-m', 'hello')
        self.assertEqual(self.peer.accept(), bytes([CLEAN, 1]) + struct.pack('>H', 30) + b'me')
        self.assertEqual(self.peer.register(77), b'a/b')
        body = self.peer.expect(PUBLISH)
        self.assertEqual(body[0], QOS1)
        self.assertEqual(struct.unpack('>H', body[1:3])[0], 77)
        self.assertNotEqual(body[3:5], b'\0\0')
        self.assertEqual(body[5:], b'hello')
        self.assertIsNone(p.poll())
        self.peer.puback(body)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0), (b'', ''))

    def test_qos_0_is_sent_once_with_message_id_0(self):
        p = self.start('pub', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        self.peer.register(1)
        self.assertEqual(self.peer.expect(PUBLISH), b'\0\0\1\0\0x')
        self.peer.farewell()
        self.finish(p, 0)

    def test_qos_2_takes_both_steps(self):
        p = self.start('pub', '-q', '2', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        self.peer.register(1)
        body = self.peer.expect(PUBLISH)
        self.assertEqual(body[0], QOS2)
        self.peer.send(PUBREC, body[3:5])
        self.assertEqual(self.peer.expect(PUBREL), body[3:5])
        self.peer.send(PUBCOMP, body[3:5])
        self.peer.farewell()
        self.finish(p, 0)

    def test_qos_minus_1_needs_no_session(self):
        p = self.start('pub', '-q', '-1', '--topic-id', '9', '-m', 'x')
        self.assertEqual(self.peer.receive(), (PUBLISH, bytes([QOS_MINUS_1 | PREDEFINED]) + b'\0\x09\0\0x'))
        self.finish(p, 0)
        p = self.start('pub', '-q', '-1', '--short-topic', '-t', 'ab', '-m', 'y')
        self.assertEqual(self.peer.receive(), (PUBLISH, bytes([QOS_MINUS_1 | SHORT]) + b'ab\0\0y'))
        self.finish(p, 0)

    def test_short_and_predefined_topics_are_not_registered(self):
        for arguments, kind, topic in ((['--short-topic', '-t', 'xy'], SHORT, b'xy'),
                                       (['--predefined', '513'], PREDEFINED, b'\2\1')):
            p = self.start('pub', '-q', '1', '-m', 'm', *arguments)
            self.peer.accept()
            body = self.peer.expect(PUBLISH)
            self.assertEqual(body[:3], bytes([QOS1 | kind]) + topic)
            self.peer.puback(body)
            self.peer.farewell()
            self.finish(p, 0)

    def test_retain_and_clean_session_flags_are_sent(self):
        p = self.start('pub', '-c', '-i', 'kept', '-r', '-t', 'a/b', '-n')
        self.assertEqual(self.peer.accept()[0], 0)
        self.peer.register(1)
        self.assertEqual(self.peer.expect(PUBLISH), bytes([RETAIN]) + b'\0\1\0\0')
        self.peer.farewell()
        self.finish(p, 0)

    def test_the_will_is_given_when_the_broker_asks(self):
        p = self.start('pub', '-t', 'a/b', '-n', '--will-topic', 'w/t', '--will-payload', 'gone', '--will-qos', '1',
                       '--will-retain')
        self.assertEqual(self.peer.expect(CONNECT)[0], CLEAN | WILL)
        self.peer.send(WILLTOPICREQ)
        self.assertEqual(self.peer.expect(WILLTOPIC), bytes([QOS1 | RETAIN]) + b'w/t')
        self.peer.send(WILLMSGREQ)
        self.assertEqual(self.peer.expect(WILLMSG), b'gone')
        self.peer.send(CONNACK, b'\0')
        self.peer.register(1)
        self.peer.expect(PUBLISH)
        self.peer.farewell()
        self.finish(p, 0)

    def test_a_long_message_uses_the_long_length_field(self):
        text = bytes(range(256)) * 40
        with tempfile.NamedTemporaryFile() as file:
            file.write(text)
            file.flush()
            p = self.start('pub', '-q', '1', '-t', 'a/b', '-f', file.name)
            self.peer.accept()
            self.peer.register(1)
            body = self.peer.expect(PUBLISH)
            self.assertEqual(body[5:], text)
            self.peer.puback(body)
            self.peer.farewell()
            self.finish(p, 0)

    def test_standard_input_is_one_message(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-s')
        p.stdin.write(b'one\ntwo\n')
        p.stdin.close()
        p.stdin = None
        self.peer.accept()
        self.peer.register(1)
        body = self.peer.expect(PUBLISH)
        self.assertEqual(body[5:], b'one\ntwo\n')
        self.peer.puback(body)
        self.peer.farewell()
        self.finish(p, 0)

    def test_each_line_is_a_message_and_one_is_outstanding_at_a_time(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-l')
        p.stdin.write(b'one\n\ntwo\nlast')
        p.stdin.close()
        p.stdin = None
        self.peer.accept()
        self.peer.register(1)
        ids = set()
        for line in (b'one', b'', b'two', b'last'):
            body = self.peer.expect(PUBLISH)
            self.assertEqual(body[5:], line)
            ids.add(body[3:5])
            self.peer.puback(body)
        self.assertEqual(len(ids), 4)
        self.peer.farewell()
        self.finish(p, 0)


class Retransmission(ClientTest):
    def test_a_publish_is_sent_again_with_dup_and_the_same_id(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x', '--max-retries', '1000', retry_s=0.2)
        self.peer.accept()
        self.peer.register(1, again=(CONNECT,))
        first = self.peer.expect(PUBLISH, again=(CONNECT, REGISTER))
        self.assertEqual(first[0], QOS1)
        for _ in range(2):
            again = self.peer.expect(PUBLISH)
            self.assertEqual(again[0], DUP | QOS1)
            self.assertEqual(again[1:], first[1:])
        self.peer.puback(first)
        self.peer.farewell(again=(PUBLISH,))
        self.finish(p, 0)

    def test_connect_register_and_disconnect_are_sent_again(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x', '--max-retries', '1000', retry_s=0.2)
        self.peer.expect(CONNECT)
        self.peer.accept()
        self.peer.expect(REGISTER, again=(CONNECT,))
        self.peer.register(1)
        self.peer.puback(self.peer.expect(PUBLISH, again=(REGISTER,)))
        self.peer.expect(DISCONNECT, again=(PUBLISH,))
        self.peer.farewell()
        self.finish(p, 0)

    def test_a_request_without_an_answer_fails_after_the_retries(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x', '--max-retries', '2', retry_s=0.5)
        kinds = [self.peer.receive()[0] for _ in range(3)]
        self.assertEqual(kinds, 3 * [CONNECT])
        _, err = self.finish(p, 1)
        self.assertIn('CONNECT was not answered by 127.0.0.1:%d in 3 attempts' % self.peer.port, err)
        self.assertIn('--max-retries', err)

    def test_a_port_without_a_listener_is_named(self):
        self.peer.close()
        p = self.start('pub', '-t', 'a/b', '-m', 'x', '--max-retries', '1', retry_s=0.1)
        self.assertIn('nothing listens on that port', self.finish(p, 1)[1])

    def test_an_acknowledgement_of_another_message_is_ignored(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        self.peer.register(1)
        body = self.peer.expect(PUBLISH)
        self.peer.send(PUBACK, body[1:3] + struct.pack('>H', 999) + b'\0')
        self.peer.send(PINGREQ)
        self.peer.expect(PINGRESP)  # the client still waits
        self.peer.puback(body)
        self.peer.farewell()
        self.finish(p, 0)

    def test_malformed_datagrams_are_ignored(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x')
        self.peer.expect(CONNECT)
        for datagram in (b'', b'\x00', b'\x03', b'\x05\x05\0', b'\x01\xff\xff\x05', b'\x02\xff', b'\x02\x0d'):
            self.peer.send_raw(datagram)
        self.peer.send(CONNACK, b'\0')
        self.peer.register(1)
        self.peer.puback(self.peer.expect(PUBLISH))
        self.peer.farewell()
        self.finish(p, 0)


class Refusal(ClientTest):
    def test_a_refused_connection_names_the_client_id(self):
        p = self.start('pub', '-i', 'me', '-t', 'a/b', '-m', 'x')
        self.peer.expect(CONNECT)
        self.peer.send(CONNACK, bytes([NOT_SUPPORTED]))
        self.assertIn("client id 'me' was refused by the broker (rejected: not supported)", self.finish(p, 1)[1])

    def test_a_refused_registration_names_the_topic(self):
        p = self.start('pub', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        body = self.peer.expect(REGISTER)
        self.peer.send(REGACK, b'\0\0' + body[2:4] + bytes([NOT_SUPPORTED]))
        self.peer.farewell()
        self.assertIn("the topic 'a/b' was refused", self.finish(p, 1)[1])

    def test_a_refused_message_gives_the_reason(self):
        p = self.start('pub', '-q', '1', '-r', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        self.peer.register(1)
        self.peer.puback(self.peer.expect(PUBLISH), NOT_SUPPORTED)
        self.peer.farewell()
        self.assertIn("to 'a/b' was refused by the broker (rejected: not supported)", self.finish(p, 1)[1])

    def test_a_refused_line_is_named_by_its_number(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-l')
        p.stdin.write(b'one\ntwo\nthree\n')
        p.stdin.flush()
        self.peer.accept()
        self.peer.register(1)
        self.peer.puback(self.peer.expect(PUBLISH))
        self.peer.puback(self.peer.expect(PUBLISH), NOT_SUPPORTED)
        self.peer.farewell()
        self.assertIn('(line 2; the 1 before it were delivered)', self.finish(p, 1)[1])

    def test_a_refusal_at_qos_0_is_reported(self):
        p = self.start('pub', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        self.peer.register(1)
        self.peer.puback(self.peer.expect(PUBLISH), NOT_SUPPORTED)
        self.peer.farewell()
        self.assertIn("1 of the messages to 'a/b' were refused", self.finish(p, 1)[1])

    def test_an_unknown_topic_id_is_registered_again(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        self.peer.register(1)
        self.peer.puback(self.peer.expect(PUBLISH), INVALID_TOPIC_ID)
        self.assertEqual(self.peer.register(2), b'a/b')
        body = self.peer.expect(PUBLISH)
        self.assertEqual(body[1:3], b'\0\2')
        self.peer.puback(body)
        self.peer.farewell()
        self.finish(p, 0)

    def test_a_message_refused_for_congestion_is_sent_again(self):
        p = self.start('pub', '-q', '1', '--short-topic', '-t', 'ab', '-m', 'x', '--max-retries', '1000', retry_s=0.3)
        self.peer.accept()
        body = self.peer.expect(PUBLISH, again=(CONNECT,))
        self.peer.puback(body, CONGESTION)
        while True:  # the repeated message has a new message id
            again = self.peer.expect(PUBLISH)
            if again[3:5] != body[3:5]:
                break
            self.peer.puback(again, CONGESTION)
        self.assertEqual(again[5:], b'x')
        self.peer.puback(again)
        self.peer.farewell(again=(PUBLISH,))
        self.finish(p, 0)

    def test_a_session_that_the_broker_ended_is_replaced_by_a_new_one(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        self.peer.register(1)
        self.peer.expect(PUBLISH)
        self.peer.send(DISCONNECT)
        self.peer.accept()
        self.peer.register(5)
        body = self.peer.expect(PUBLISH)
        self.assertEqual(body[1:3], b'\0\5')
        self.assertEqual(body[5:], b'x')
        self.peer.puback(body)
        self.peer.farewell()
        self.finish(p, 0)


class Usage(ClientTest):
    def refused(self, *arguments, says):
        process = self.start(*arguments)
        _, err = self.finish(process, 2)
        self.assertIn(says, err)

    def test_wrong_arguments_are_named_with_the_remedy(self):
        self.refused('pub', '-m', 'x', says='--topic')
        self.refused('pub', '-t', 'a', says='--message')
        self.refused('pub', '-t', 'a', '-m', 'x', '-n', says='--null-message')
        self.refused('pub', '-t', 'a', '--topic-id', '1', '-m', 'x', says='--topic-id')
        self.refused('pub', '-t', 'a/#', '-m', 'x', says="--topic: 'a/#' is not a topic name")
        self.refused('pub', '-t', 'a', '-t', 'b', '-m', 'x', says='--topic')
        self.refused('pub', '-t', 'a/b', '-m', 'x', '-q', '-1', says='--topic-id')
        self.refused('pub', '-t', 'a/b', '-m', 'x', '-q', '3', says='--qos')
        self.refused('pub', '-t', 'a/b', '-m', 'x', '-p', '99999', says='--port')
        self.refused('pub', '-t', 'a/b', '-m', 'x', '-c', says='--id')
        self.refused('pub', '-t', 'a/b', '-m', 'x', '-i', 24 * 'x', says='--id')
        self.refused('pub', '-t', 'a/b', '-m', 'x', '--will-qos', '1', says='--will-topic')
        self.refused('sub', '-t', 'a#', says="--topic: 'a#' is not a topic filter")
        self.refused('sub', says='--topic')
        self.refused('sub', '-t', 'a', 'b', says='b')
        self.refused('sub', '-t', 'a', '-q', '-1', says='--qos')

    def test_an_unreadable_file_and_an_unknown_host_are_named(self):
        with tempfile.TemporaryDirectory() as directory:
            p = self.start('pub', '-t', 'a/b', '-f', os.path.join(directory, 'none'))
            self.assertIn('--file', self.finish(p, 1)[1])
        p = self.start('pub', '-t', 'a/b', '-m', 'x', host='host.invalid')
        _, err = self.finish(p, 1)
        self.assertIn("cannot find host 'host.invalid'", err)
        self.assertIn('--host', err)

    def test_brackets_and_commas_are_part_of_a_topic(self):
        p = self.start('pub', '-t', '[a,b]', '-m', '[x,y]')
        self.peer.accept()
        self.assertEqual(self.peer.register(1), b'[a,b]')
        self.assertEqual(self.peer.expect(PUBLISH)[5:], b'[x,y]')
        self.peer.farewell()
        self.finish(p, 0)

    def test_help_and_version_go_to_standard_output(self):
        for arguments, says in ((['--help'], b'pub'), (['pub', '--help'], b'--retry-interval'),
                                (['sub', '--help'], b'--count'), (['--version'], b'chainring-client ')):
            out = subprocess.run([self.program, *arguments], stdout=subprocess.PIPE, check=True).stdout
            self.assertIn(says, out)


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
