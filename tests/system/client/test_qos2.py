# SPDX-License-Identifier: BSD-3-Clause
"""QoS 2 in both directions, with a peer that loses, repeats and confuses messages.
Usage: test_qos2.py path/to/chainring-client"""
import struct
import sys
import unittest

from peer import *  # noqa: F403: the protocol's names

OFTEN = ('--max-retries', '1000')


class Sending(ClientTest):
    def begin(self, *arguments, retry_s=HANG_S):
        p = self.start('pub', '-q', '2', '-t', 'a/b', '-m', 'x', *arguments, retry_s=retry_s)
        self.peer.accept()
        self.peer.register(1, again=(CONNECT,))
        return p

    def complete(self, process, again=()):
        self.peer.farewell(again)
        self.finish(process, 0)

    def test_a_lost_pubrec_makes_the_client_repeat_the_publish(self):
        p = self.begin(*OFTEN, retry_s=0.2)
        first = self.peer.expect(PUBLISH, again=(CONNECT, REGISTER))
        again = self.peer.expect(PUBLISH)
        self.assertEqual((first[0], again[0]), (QOS2, QOS2 | DUP))
        self.assertEqual(again[1:], first[1:])
        self.peer.send(PUBREC, first[3:5])
        self.assertEqual(self.peer.expect(PUBREL, again=(PUBLISH,)), first[3:5])
        self.peer.send(PUBCOMP, first[3:5])
        self.complete(p, again=(PUBREL,))

    def test_a_lost_pubcomp_makes_the_client_repeat_the_pubrel_and_never_the_publish(self):
        p = self.begin(*OFTEN, retry_s=0.2)
        message_id = self.peer.expect(PUBLISH, again=(CONNECT, REGISTER))[3:5]
        self.peer.send(PUBREC, message_id)
        self.peer.expect(PUBREL, again=(PUBLISH,))
        for _ in range(3):
            self.assertEqual(self.peer.expect(PUBREL), message_id)
        self.peer.send(PUBCOMP, message_id)
        self.complete(p, again=(PUBREL,))

    def test_a_repeated_pubrec_is_answered_with_pubrel(self):
        p = self.begin()
        message_id = self.peer.expect(PUBLISH)[3:5]
        for _ in range(2):
            self.peer.send(PUBREC, message_id)
            self.assertEqual(self.peer.expect(PUBREL), message_id)
        self.peer.send(PUBCOMP, message_id)
        self.complete(p)

    def test_answers_with_other_message_ids_or_of_another_form_complete_nothing(self):
        p = self.begin()
        body = self.peer.expect(PUBLISH)
        other = struct.pack('>H', struct.unpack('>H', body[3:5])[0] + 1)
        self.peer.send(PUBREC, other)
        self.assertEqual(self.peer.expect(PUBREL), other)  # so that the peer closes that id
        self.peer.send(PUBCOMP, body[3:5])
        self.peer.send(PUBACK, body[1:5] + bytes([ACCEPTED]))  # what QoS 1 would be answered with
        self.peer.send(PUBREC, body[3:5] + b'\0')
        self.peer.send(PUBREC, body[3:4])
        self.peer.barrier()
        self.peer.send(PUBREC, body[3:5])
        self.assertEqual(self.peer.expect(PUBREL), body[3:5])
        self.peer.send(PUBCOMP, other)
        self.peer.barrier()
        self.peer.send(PUBCOMP, body[3:5])
        self.complete(p)

    def test_a_refusal_ends_the_exchange(self):
        p = self.begin()
        self.peer.puback(self.peer.expect(PUBLISH), NOT_SUPPORTED)
        self.peer.farewell()
        self.assertIn("to 'a/b' was refused by the broker (rejected: not supported)", self.finish(p, 1)[1])

    def test_a_peer_that_never_completes_is_reported_with_what_was_waited_for(self):
        p = self.begin('--max-retries', '1', retry_s=0.3)
        message_id = self.peer.expect(PUBLISH, again=(CONNECT, REGISTER))[3:5]
        self.peer.send(PUBREC, message_id)
        for _ in range(2):
            self.peer.expect(PUBREL, again=(PUBLISH,))
        self.peer.farewell()
        self.assertRegex(self.finish(p, 1)[1], r'PUBREL %d was not answered .* in 2 attempts, 0\.3 s apart.*--max-retries'
                         % struct.unpack('>H', message_id))

    def test_a_session_that_ends_after_pubrec_never_sends_the_message_again(self):
        for kept in (False, True):
            with self.subTest(kept=kept):
                p = self.start('pub', '-q', '2', '-t', 'a/b', '-m', 'x', *(['-c', '-i', 'me'] if kept else []))
                self.peer.accept()
                self.peer.register(1)
                if kept:
                    self.peer.send(PUBCOMP, self.peer.expect(PUBREL))
                message_id = self.peer.expect(PUBLISH)[3:5]
                self.peer.send(PUBREC, message_id)
                self.peer.expect(PUBREL)
                self.peer.send(DISCONNECT)
                self.peer.accept()
                if kept:  # a clean session has forgotten the id
                    self.assertEqual(self.peer.expect(PUBREL), message_id)
                    self.peer.send(PUBCOMP, message_id)
                self.complete(p)

    def test_a_kept_session_that_ends_before_pubrec_continues_with_the_same_message_id(self):
        p = self.start('pub', '-c', '-i', 'me', '-q', '2', '-t', 'a/b', '-m', 'x')
        self.peer.accept()
        self.peer.register(1)
        self.peer.send(PUBCOMP, self.peer.expect(PUBREL))
        first = self.peer.expect(PUBLISH)
        self.peer.send(DISCONNECT)
        self.peer.accept()
        self.peer.register(7)
        again = self.peer.expect(PUBLISH)
        self.assertEqual(again, bytes([QOS2 | DUP]) + b'\0\7' + first[3:])
        self.peer.send(PUBREC, first[3:5])
        self.peer.expect(PUBREL)
        self.peer.send(PUBCOMP, first[3:5])
        self.complete(p)

    def test_a_kept_session_closes_ids_that_an_earlier_run_may_have_left_open(self):
        p = self.start('pub', '-c', '-i', 'me', '-q', '2', '-t', 'a/b', '-l')
        p.stdin.write(b'one\ntwo\n')
        p.stdin.close()
        p.stdin = None
        self.peer.accept()
        self.peer.register(1)
        for line in (b'one', b'two'):
            closed = self.peer.expect(PUBREL)
            self.peer.send(PUBCOMP, closed)
            body = self.peer.expect(PUBLISH)
            self.assertEqual(body[3:], closed + line)
            self.peer.send(PUBREC, closed)
            self.peer.expect(PUBREL)
            self.peer.send(PUBCOMP, closed)
        self.complete(p)

    def test_congestion_is_waited_out_and_the_message_gets_a_new_id(self):
        p = self.begin(*OFTEN, retry_s=0.3)
        refused = self.peer.expect(PUBLISH, again=(CONNECT, REGISTER))
        self.peer.puback(refused, CONGESTION)
        while True:
            body = self.peer.expect(PUBLISH)
            if body[3:5] != refused[3:5]:
                break
            self.peer.puback(body, CONGESTION)
        self.assertEqual(body[0], QOS2)
        self.peer.send(PUBREC, body[3:5])
        self.peer.expect(PUBREL, again=(PUBLISH,))
        self.peer.send(PUBCOMP, body[3:5])
        self.complete(p, again=(PUBREL,))

    def test_congestion_that_does_not_end_is_reported(self):
        p = self.begin('--max-retries', '1', retry_s=0.2)
        seen = set()
        while len(seen) < 2:
            body = self.peer.expect(PUBLISH, again=(CONNECT, REGISTER))
            seen.add(body[3:5])
            self.peer.puback(body, CONGESTION)
        self.peer.farewell(again=(PUBLISH,))
        self.assertIn('(rejected: congestion); try again later', self.finish(p, 1)[1])


class Receiving(ClientTest):
    def begin(self, *arguments, retry_s=HANG_S):
        p = self.start('sub', '-q', '2', '-t', 'a/b', *arguments, retry_s=retry_s)
        self.peer.accept()
        self.assertEqual(self.peer.subscribe(5, again=(CONNECT,))[0], QOS2)
        return p

    def deliver(self, text, message_id, flags=QOS2):
        self.peer.publish(5, text, flags=flags, msg_id=message_id)
        self.assertEqual(self.peer.expect(PUBREC), struct.pack('>H', message_id))

    def release(self, message_id):
        self.peer.send(PUBREL, struct.pack('>H', message_id))
        self.assertEqual(self.peer.expect(PUBCOMP), struct.pack('>H', message_id))

    def test_every_duplicate_before_pubrel_is_answered_and_none_is_printed(self):
        p = self.begin('-C', '2')
        self.deliver(b'once', 3)
        self.deliver(b'once', 3, QOS2 | DUP)
        self.deliver(b'once', 3)  # the id is open, so this is a duplicate even without DUP
        self.release(3)
        self.deliver(b'last', 4)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'once\nlast\n')

    def test_an_id_is_free_again_after_pubrel(self):
        p = self.begin('-C', '2')
        self.deliver(b'one', 3)
        self.release(3)
        self.deliver(b'two', 3, QOS2 | DUP)  # the first sight of it that the client gets
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'one\ntwo\n')

    def test_a_pubrel_is_answered_every_time_also_for_an_unknown_id(self):
        p = self.begin('-C', '1')
        for message_id in (9, 9, 77):
            self.release(message_id)
        self.deliver(b'x', 9)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'x\n')

    def test_two_messages_with_the_same_text_and_different_ids_are_two_messages(self):
        p = self.begin('-C', '2')
        self.deliver(b'x', 3)
        self.deliver(b'x', 4)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'x\nx\n')

    def test_a_duplicate_that_comes_before_the_first_is_handled_is_printed_once(self):
        for flags in (QOS1, QOS2):
            with self.subTest(flags=flags):
                # The copies arrive while SUBSCRIBE of the second filter waits for its answer.
                p = self.start('sub', '-q', '2', '-C', '2', '-t', 'a/b', '-t', 'c')
                self.peer.accept()
                self.peer.subscribe(5)
                body = self.peer.expect(SUBSCRIBE)
                self.peer.publish(5, b'x', flags=flags, msg_id=3)
                self.peer.publish(5, b'x', flags=flags | DUP, msg_id=3)
                self.peer.barrier()
                self.peer.send(SUBACK, bytes([QOS2]) + b'\0\6' + body[1:3] + b'\0')
                self.peer.expect(PUBACK if flags == QOS1 else PUBREC)
                self.peer.publish(5, b'y', flags=0, msg_id=0)
                self.peer.farewell()
                self.assertEqual(self.finish(p, 0)[0], b'x\ny\n')

    def test_a_kept_session_prints_once_although_the_broker_was_killed_before_pubrel(self):
        p = self.begin('-c', '-i', 'me', '-C', '2', '--max-retries', '1000', retry_s=0.2)
        self.peer.publish(5, b'once', flags=QOS2, msg_id=3)
        self.peer.expect(PUBREC, again=(SUBSCRIBE,))
        self.peer.send(DISCONNECT)
        self.peer.accept()
        self.peer.subscribe(8, again=(CONNECT,))
        # The PUBREC was lost with the broker, which sends the message again.
        self.peer.publish(8, b'once', flags=QOS2, msg_id=3)
        self.peer.expect(PUBREC, again=(SUBSCRIBE,))
        self.release(3)
        self.peer.publish(8, b'last', flags=QOS2, msg_id=4)
        self.peer.expect(PUBREC)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'once\nlast\n')

    def test_a_clean_session_begins_with_no_open_ids(self):
        p = self.begin('-C', '2', '--max-retries', '1000', retry_s=0.2)
        self.peer.publish(5, b'old', flags=QOS2, msg_id=3)
        self.peer.expect(PUBREC, again=(SUBSCRIBE,))
        self.peer.send(DISCONNECT)
        self.peer.accept()
        self.peer.subscribe(5, again=(CONNECT,))
        self.peer.publish(5, b'new', flags=QOS2, msg_id=3)
        self.peer.expect(PUBREC, again=(SUBSCRIBE,))
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'old\nnew\n')

    def test_a_publish_at_qos_minus_1_and_malformed_messages_are_ignored(self):
        p = self.begin('-C', '1')
        self.peer.publish(5, b'forbidden', flags=QOS_MINUS_1, msg_id=0)
        self.peer.send(PUBLISH, b'\x40\0\5')
        self.peer.send(PUBREL, b'\0')
        self.peer.send_raw(b'\x09\x0c\x43\0\5\0\1xy')  # the reserved type of a topic id
        self.peer.barrier()
        self.deliver(b'x', 3)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'x\n')


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
