# SPDX-License-Identifier: BSD-3-Clause
"""The will: given, refused, updated and deleted. Usage: test_will.py path/to/chainring-client"""
import sys
import unittest

from peer import *  # noqa: F403: the protocol's names

WILL_OPTIONS = ('--will-topic', 'w/t', '--will-payload', 'gone', '--will-qos', '2', '--will-retain')


class WillTest(ClientTest):
    def begin(self, *arguments, retry_s=HANG_S):
        return self.start('pub', '-q', '1', '-i', 'me', '-t', 'a/b', '-m', 'x', *arguments, retry_s=retry_s)

    def complete(self, process, again=()):
        self.peer.register(1, again)
        self.peer.puback(self.peer.expect(PUBLISH, again))
        self.peer.farewell(again)
        self.finish(process, 0)


class AtConnect(WillTest):
    def test_the_broker_may_ask_for_both_parts_again(self):
        p = self.begin(*WILL_OPTIONS)
        self.assertEqual(self.peer.expect(CONNECT)[0], CLEAN | WILL)
        for _ in range(2):
            self.peer.send(WILLTOPICREQ)
            self.assertEqual(self.peer.expect(WILLTOPIC), bytes([QOS2 | RETAIN]) + b'w/t')
        for _ in range(2):
            self.peer.send(WILLMSGREQ)
            self.assertEqual(self.peer.expect(WILLMSG), b'gone')
        self.peer.send(CONNACK, bytes([ACCEPTED]))
        self.complete(p)

    def test_a_lost_part_is_sent_again(self):
        p = self.begin(*WILL_OPTIONS, '--max-retries', '1000', retry_s=0.2)
        again = (CONNECT, WILLTOPIC, WILLMSG)
        self.peer.expect(CONNECT)
        self.peer.send(WILLTOPICREQ)
        for _ in range(2):
            self.peer.expect(WILLTOPIC, again)
        self.peer.send(WILLMSGREQ)
        for _ in range(2):
            self.peer.expect(WILLMSG, again)
        self.peer.send(CONNACK, bytes([ACCEPTED]))
        self.complete(p, again=(*again, REGISTER, PUBLISH))

    def test_a_broker_that_forgot_the_connection_within_the_will_is_asked_from_the_start(self):
        p = self.begin(*WILL_OPTIONS, '--max-retries', '1', retry_s=0.3)
        self.peer.expect(CONNECT)
        self.peer.send(WILLTOPICREQ)
        for _ in range(2):
            self.peer.expect(WILLTOPIC, again=(CONNECT,))
        self.assertEqual(self.peer.expect(CONNECT)[0], CLEAN | WILL)
        self.peer.send(WILLTOPICREQ)
        self.peer.expect(WILLTOPIC, again=(CONNECT,))
        self.peer.send(CONNACK, bytes([NOT_SUPPORTED]))
        self.finish(p, 1)

    def test_a_will_that_is_never_accepted_is_reported_with_the_part(self):
        p = self.begin(*WILL_OPTIONS, '--max-retries', '0', retry_s=0.3)
        for _ in range(2):
            self.peer.expect(CONNECT)
            self.peer.send(WILLTOPICREQ)
            self.peer.expect(WILLTOPIC)
        self.assertIn('WILLTOPIC was not answered by 127.0.0.1', self.finish(p, 1)[1])

    def test_a_broker_that_asks_without_end_is_reported(self):
        p = self.begin(*WILL_OPTIONS)
        self.peer.expect(CONNECT)
        for _ in range(15):
            self.peer.send(WILLTOPICREQ)
            self.peer.expect(WILLTOPIC)
        self.peer.send(WILLTOPICREQ)
        self.assertIn('asked for the will again and again', self.finish(p, 1)[1])

    def test_a_refused_will_is_named(self):
        for answered in (False, True):  # the broker may refuse at once, or when it knows the topic
            with self.subTest(answered=answered):
                p = self.begin(*WILL_OPTIONS)
                self.peer.expect(CONNECT)
                if answered:
                    self.peer.send(WILLTOPICREQ)
                    self.peer.expect(WILLTOPIC)
                self.peer.send(CONNACK, bytes([NOT_SUPPORTED]))
                self.assertIn("client id 'me' with a will to 'w/t' was refused by the broker (rejected: not supported)",
                              self.finish(p, 1)[1])

    def test_a_will_without_a_message_is_an_empty_message(self):
        p = self.begin('--will-topic', 'w/t')
        self.peer.expect(CONNECT)
        self.peer.send(WILLTOPICREQ)
        self.assertEqual(self.peer.expect(WILLTOPIC), b'\0w/t')
        self.peer.send(WILLMSGREQ)
        self.assertEqual(self.peer.expect(WILLMSG), b'')
        self.peer.send(CONNACK, bytes([ACCEPTED]))
        self.complete(p)

    def test_a_broker_that_asks_a_client_without_a_will_gets_no_will(self):
        p = self.begin()
        self.assertEqual(self.peer.expect(CONNECT)[0], CLEAN)
        self.peer.send(WILLTOPICREQ)
        self.peer.send(WILLMSGREQ)
        self.peer.send(CONNACK, bytes([ACCEPTED]))
        self.complete(p)

    def test_malformed_requests_for_the_will_are_ignored(self):
        p = self.begin(*WILL_OPTIONS)
        self.peer.expect(CONNECT)
        self.peer.send(WILLTOPICREQ, b'\0')
        self.peer.send(WILLMSGREQ, b'\0\0')
        self.peer.send(CONNACK)
        self.peer.send(WILLTOPICREQ)
        self.peer.expect(WILLTOPIC)
        self.peer.send(WILLMSGREQ)
        self.peer.expect(WILLMSG)
        self.peer.send(CONNACK, bytes([ACCEPTED]))
        self.complete(p)

    def test_only_the_will_of_a_kept_session_is_deleted(self):
        p = self.begin('-c', '--will-delete')
        self.assertEqual(self.peer.expect(CONNECT)[0], WILL)
        self.peer.send(WILLTOPICREQ)
        self.assertEqual(self.peer.expect(WILLTOPIC), b'')
        self.peer.send(CONNACK, bytes([ACCEPTED]))
        self.complete(p)


class Update(WillTest):
    def test_the_will_is_updated_after_connect(self):
        p = self.begin('--will-update', *WILL_OPTIONS)
        self.assertEqual(self.peer.accept()[0], CLEAN)
        self.assertEqual(self.peer.expect(WILLTOPICUPD), bytes([QOS2 | RETAIN]) + b'w/t')
        self.peer.send(WILLTOPICRESP, bytes([ACCEPTED]))
        self.assertEqual(self.peer.expect(WILLMSGUPD), b'gone')
        self.peer.send(WILLMSGRESP, bytes([ACCEPTED]))
        self.complete(p)

    def test_an_update_without_a_message_leaves_the_message(self):
        p = self.begin('--will-update', '--will-topic', 'w/t')
        self.peer.accept()
        self.assertEqual(self.peer.expect(WILLTOPICUPD), b'\0w/t')
        self.peer.send(WILLTOPICRESP, bytes([ACCEPTED]))
        self.complete(p)

    def test_an_update_to_nothing_deletes_the_will(self):
        p = self.begin('-c', '--will-update', '--will-delete')
        self.assertEqual(self.peer.accept()[0], 0)
        self.assertEqual(self.peer.expect(WILLTOPICUPD), b'')
        self.peer.send(WILLTOPICRESP, bytes([ACCEPTED]))
        self.complete(p)

    def test_a_lost_update_is_repeated(self):
        p = self.begin('--will-update', *WILL_OPTIONS, '--max-retries', '1000', retry_s=0.2)
        again = (CONNECT, WILLTOPICUPD, WILLMSGUPD)
        self.peer.accept()
        for _ in range(2):
            self.peer.expect(WILLTOPICUPD, again)
        self.peer.send(WILLTOPICRESP, bytes([ACCEPTED]))
        for _ in range(2):
            self.peer.expect(WILLMSGUPD, again)
        self.peer.send(WILLMSGRESP, bytes([ACCEPTED]))
        self.complete(p, again=(*again, REGISTER, PUBLISH))

    def test_a_refused_update_is_named_and_the_session_is_ended(self):
        for part, says in ((WILLTOPICRESP, "the update of the will to topic 'w/t' was refused"),
                           (WILLMSGRESP, "the update of the will's message was refused")):
            with self.subTest(says=says):
                p = self.begin('--will-update', *WILL_OPTIONS)
                self.peer.accept()
                self.peer.expect(WILLTOPICUPD)
                if part == WILLMSGRESP:
                    self.peer.send(WILLTOPICRESP, bytes([ACCEPTED]))
                    self.peer.expect(WILLMSGUPD)
                self.peer.send(part, bytes([NOT_SUPPORTED]))
                self.peer.farewell()
                self.assertIn(says, self.finish(p, 1)[1])


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
