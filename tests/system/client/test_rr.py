# SPDX-License-Identifier: BSD-3-Clause
"""chainring-client rr runs against a scripted peer. Usage: test_rr.py path/to/chainring-client"""
import signal
import sys
import unittest

from peer import *  # noqa: F403: the protocol's names


class Request(ClientTest):
    def begin(self, *arguments, retry_s=HANG_S):
        p = self.start('rr', '-q', '1', '-t', 'calc/in', '-e', 'calc/out', '-m', '6*7', *arguments, retry_s=retry_s)
        self.peer.accept()
        self.assertEqual(self.peer.subscribe(5, again=(CONNECT,)), (QOS1, b'calc/out'))
        self.assertEqual(self.peer.register(6, again=(SUBSCRIBE,)), b'calc/in')
        return p

    def test_one_response_ends_the_program(self):
        p = self.begin('-v')
        request = self.peer.expect(PUBLISH)
        self.assertEqual(request[:3] + request[5:], bytes([QOS1]) + b'\0\x066*7')
        self.peer.puback(request)
        self.peer.publish(5, b'42', msg_id=9)
        self.assertEqual(self.peer.expect(PUBACK), b'\0\5\0\x09\0')
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0), (b'calc/out 42\n', ''))

    def test_a_response_that_comes_before_the_acknowledgement_counts(self):
        p = self.begin()
        request = self.peer.expect(PUBLISH)
        self.peer.publish(5, b'42', msg_id=9)
        self.peer.puback(request)
        self.peer.expect(PUBACK)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'42\n')

    def test_a_retained_message_and_one_from_before_the_request_are_no_responses(self):
        p = self.start('rr', '-q', '1', '-t', 'calc/in', '-e', 'calc/+', '-m', '6*7')
        self.peer.accept()
        body = self.peer.expect(SUBSCRIBE)
        self.peer.send(REGISTER, b'\0\5\0\1calc/out')
        self.peer.expect(REGACK)
        self.peer.publish(5, b'early', msg_id=8)
        self.peer.send(SUBACK, bytes([QOS1]) + b'\0\0' + body[1:3] + b'\0')
        self.assertEqual(self.peer.expect(PUBACK), b'\0\5\0\x08\0')
        self.peer.register(6)
        self.peer.puback(self.peer.expect(PUBLISH))
        self.peer.publish(5, b'retained', flags=QOS1 | RETAIN, msg_id=9)
        self.peer.expect(PUBACK)
        self.peer.publish(5, b'42', flags=0, msg_id=0)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'42\n')

    def test_a_qos_2_request_and_response_take_all_steps(self):
        p = self.start('rr', '-q', '2', '-t', 'calc/in', '-e', 'calc/+', '-m', '6*7', '-F', '%t=%p')
        self.peer.accept()
        self.assertEqual(self.peer.subscribe(0), (QOS2, b'calc/+'))
        self.peer.register(6)
        request = self.peer.expect(PUBLISH)
        self.peer.send(PUBREC, request[3:5])
        self.peer.expect(PUBREL)
        self.peer.send(PUBCOMP, request[3:5])
        self.peer.send(REGISTER, b'\0\7\0\1calc/out')
        self.peer.expect(REGACK)
        self.peer.publish(7, b'42', flags=QOS2, msg_id=9)
        self.assertEqual(self.peer.expect(PUBREC), b'\0\x09')
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'calc/out=42\n')

    def test_no_response_is_status_27_and_says_what_was_waited_for(self):
        p = self.begin('-W', '0.3')
        self.peer.puback(self.peer.expect(PUBLISH))
        self.peer.farewell()
        out, err = self.finish(p, 27)
        self.assertEqual(out, b'')
        self.assertIn("no response to 'calc/in' came on 'calc/out' in 0.3 s; check that a responder", err)

    def test_a_session_that_ends_after_the_request_goes_on_waiting_and_does_not_ask_twice(self):
        p = self.begin('--max-retries', '1000', retry_s=0.3)
        self.peer.puback(self.peer.expect(PUBLISH, again=(REGISTER,)))
        self.peer.barrier(again=(PUBLISH,))
        self.peer.send(DISCONNECT)
        self.peer.accept()
        self.peer.subscribe(5, again=(CONNECT,))
        self.peer.publish(5, b'42', msg_id=9)
        self.peer.expect(PUBACK, again=(SUBSCRIBE,))
        self.peer.farewell()
        out, err = self.finish(p, 0)
        self.assertEqual(out, b'42\n')
        self.assertIn('connecting again', err)

    def test_a_session_that_ends_before_the_request_is_acknowledged_sends_it_again(self):
        p = self.begin('--max-retries', '1000', retry_s=0.3)
        self.peer.expect(PUBLISH, again=(REGISTER,))
        self.peer.send(DISCONNECT)
        self.peer.accept(again=(PUBLISH,))
        self.peer.subscribe(5, again=(CONNECT,))
        self.peer.register(6, again=(SUBSCRIBE,))
        self.peer.puback(self.peer.expect(PUBLISH, again=(REGISTER,)))
        self.peer.publish(5, b'42', flags=0, msg_id=0)
        self.peer.farewell(again=(PUBLISH,))
        self.assertEqual(self.finish(p, 0)[0], b'42\n')

    def test_a_refused_request_is_reported(self):
        p = self.begin()
        self.peer.puback(self.peer.expect(PUBLISH), NOT_SUPPORTED)
        self.peer.farewell()
        self.assertIn("to 'calc/in' was refused by the broker (rejected: not supported)", self.finish(p, 1)[1])

    def test_an_interruption_is_a_failure_because_the_response_is_missing(self):
        p = self.begin()
        self.peer.puback(self.peer.expect(PUBLISH))
        p.send_signal(signal.SIGINT)
        self.peer.farewell()
        self.assertIn('interrupted before the response came', self.finish(p, 1)[1])

    def test_wrong_arguments_are_named_with_the_remedy(self):
        for arguments, says in ((('-t', 'a', '-m', 'x'), '--response-topic'), (('-e', 'b', '-m', 'x'), '--topic'),
                                (('-t', 'a', '-e', 'b'), '--message'),
                                (('-t', 'a', '-e', 'b#', '-m', 'x'), "--response-topic: 'b#' is not a topic filter"),
                                (('-t', 'a', '-e', 'b', '-m', 'x', '-q', '-1'), '--qos')):
            with self.subTest(arguments=arguments):
                self.assertIn(says, self.finish(self.start('rr', *arguments), 2)[1])


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
