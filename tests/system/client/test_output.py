# SPDX-License-Identifier: BSD-3-Clause
"""What is subscribed to, what is printed and how, against a scripted peer.
Usage: test_output.py path/to/chainring-client"""
import re
import signal
import sys
import unittest

from peer import *  # noqa: F403: the protocol's names


class Output(ClientTest):
    def begin(self, *arguments, filter=b'a/b', topic_id=5):
        p = self.start('sub', '-q', '1', '-t', filter.decode(), *arguments)
        self.peer.accept()
        self.assertEqual(self.peer.subscribe(topic_id), (QOS1, filter))
        return p

    def printed(self, process, *messages):
        """Sends (text, flags) pairs and returns what the program printed."""
        for i, (text, flags) in enumerate(messages):
            self.peer.publish(5, text, flags=flags, msg_id=i + 1 if flags & QOS1 else 0)
            if flags & QOS1:
                self.peer.expect(PUBACK)
        self.peer.farewell()
        return self.finish(process, 0)[0]

    def test_each_field_of_a_format_is_printed(self):
        p = self.begin('-C', '2', '-F', r'%t|%p|%q|%r|%l|%m|%x|%X|%%\t.\\')
        self.assertEqual(self.printed(p, (b'\xab', QOS1 | RETAIN), (b'', 0)),
                         b'a/b|\xab|1|1|1|1|ab|AB|%\t.\\\n' + b'a/b||0|0|0|0|||%\t.\\\n')

    def test_a_format_may_hold_times_and_no_newline(self):
        p = self.begin('-C', '1', '-N', '-F', r'%I %U\0')
        out = self.printed(p, (b'x', 0))
        self.assertTrue(re.fullmatch(rb'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \d+\.\d{9}\0', out), out)

    def test_a_wrong_format_is_refused_with_the_fault(self):
        for given, says in (('%', "ends with '%'"), ('%z', "there is no '%z'"), ('a\\', "ends with '\\'"), ('\\q', "'\\q'")):
            with self.subTest(format=given):
                err = self.finish(self.start('sub', '-t', 'a', '-F', given), 2)[1]
                self.assertIn('--format', err)
                self.assertIn(says, err)

    def test_a_payload_of_any_octets_is_printed_as_it_is(self):
        payload = bytes(range(256)) * 4
        p = self.begin('-N', '-C', '1')
        self.assertEqual(self.printed(p, (payload, QOS1)), payload)

    def test_stale_retained_messages_are_acknowledged_and_not_printed(self):
        p = self.begin('-R', '-C', '1')
        self.assertEqual(self.printed(p, (b'stale', QOS1 | RETAIN), (b'stale', RETAIN), (b'new', QOS1)), b'new\n')

    def test_only_retained_messages_are_printed_if_asked(self):
        p = self.begin('--retained-only', '-C', '1')
        self.assertEqual(self.printed(p, (b'new', QOS1), (b'stale', QOS1 | RETAIN)), b'stale\n')

    def test_topics_that_are_filtered_out_are_acknowledged_and_not_printed(self):
        p = self.begin('-T', 'a/+/x', '-T', 'b', '-C', '1', filter=b'#', topic_id=0)
        for topic_id, name in ((6, b'a/1/x'), (7, b'b'), (8, b'a/1/y')):
            self.peer.send(REGISTER, bytes([0, topic_id, 0, topic_id]) + name)
            self.peer.expect(REGACK)
            self.peer.publish(topic_id, name, msg_id=topic_id)
            self.peer.expect(PUBACK)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'a/1/y\n')

    def test_a_retained_message_is_removed_with_an_empty_one(self):
        p = self.begin('--remove-retained', '-C', '2')
        self.peer.publish(5, b'old', flags=QOS1 | RETAIN, msg_id=1)
        self.peer.expect(PUBACK)
        self.assertEqual(self.peer.register(6), b'a/b')
        body = self.peer.expect(PUBLISH)
        self.assertEqual((body[0], body[1:3], body[5:]), (QOS1 | RETAIN, b'\0\6', b''))
        self.peer.puback(body)
        self.peer.publish(5, b'new', flags=0, msg_id=0)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'old\nnew\n')

    def test_a_shared_subscription_prints_the_topic_without_the_group(self):
        p = self.begin('-v', '-C', '1', filter=b'$share/workers/a/b')
        self.assertEqual(self.printed(p, (b'job', QOS1)), b'a/b job\n')

    def test_a_shared_subscription_with_wildcards_learns_its_topics_by_registration(self):
        p = self.begin('-v', '-C', '1', filter=b'$share/workers/jobs/#', topic_id=0)
        self.peer.send(REGISTER, b'\0\5\0\1jobs/7')
        self.peer.expect(REGACK)
        self.assertEqual(self.printed(p, (b'job', QOS1)), b'jobs/7 job\n')

    def test_a_refused_shared_subscription_is_named(self):
        p = self.start('sub', '-t', '$share/workers/a/b')
        self.peer.accept()
        self.peer.subscribe(0, code=NOT_SUPPORTED)
        self.peer.farewell()
        self.assertIn("the subscription to '$share/workers/a/b' was refused", self.finish(p, 1)[1])

    def test_wrong_shared_subscriptions_are_refused_with_the_form(self):
        for filter in ('$share', '$share/', '$share/g', '$share/g/', '$share//a', '$share/+/a', '$share/g#/a'):
            with self.subTest(filter=filter):
                err = self.finish(self.start('sub', '-t', filter), 2)[1]
                self.assertIn('expected $share/GROUP/FILTER', err)
        self.assertIn('is not a topic filter', self.finish(self.start('sub', '-t', '$share/g/a#'), 2)[1])

    def test_a_filter_is_unsubscribed_from_before_the_others_are_subscribed_to(self):
        p = self.start('sub', '-c', '-i', 'me', '-U', 'old/#', '-t', 'a/b', '-E')
        self.peer.accept()
        body = self.peer.expect(UNSUBSCRIBE)
        self.assertEqual((body[0], body[3:]), (0, b'old/#'))
        self.peer.send(UNSUBACK, body[1:3])
        self.peer.subscribe(5)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0), (b'', ''))

    def test_congestion_at_connect_and_subscribe_is_waited_out(self):
        p = self.start('sub', '-t', 'a/b', '-C', '1', '--max-retries', '1000', retry_s=0.3)
        self.peer.expect(CONNECT)
        self.peer.send(CONNACK, bytes([CONGESTION]))
        self.peer.accept()
        self.peer.subscribe(0, code=CONGESTION, again=(CONNECT,))
        self.peer.subscribe(5, again=(SUBSCRIBE,))
        self.peer.publish(5, b'x', flags=0, msg_id=0)
        self.peer.farewell(again=(SUBSCRIBE,))
        self.assertEqual(self.finish(p, 0)[0], b'x\n')

    def test_a_suback_that_grants_qos_minus_1_or_has_a_wrong_id_is_ignored(self):
        p = self.start('sub', '-t', 'a/b', '-t', 'c', '-C', '1')
        self.peer.accept()
        body = self.peer.expect(SUBSCRIBE)
        self.peer.send(SUBACK, bytes([QOS_MINUS_1]) + b'\0\5' + body[1:3] + b'\0')
        self.peer.send(SUBACK, b'\0\0\5\x77\x77\0')
        self.peer.barrier()
        self.peer.send(SUBACK, b'\0\0\5' + body[1:3] + b'\0')
        self.peer.subscribe(6)
        self.peer.publish(5, b'x', flags=0, msg_id=0)
        self.peer.farewell()
        self.finish(p, 0)

    def test_predefined_ids_of_an_earlier_run_are_printed_in_a_kept_session(self):
        p = self.start('sub', '-q', '1', '-c', '-i', 'me', '-v', '-t', 'a/b', '-C', '1')
        self.peer.accept()
        self.peer.subscribe(5)
        self.peer.publish(9, b'x', flags=QOS1 | PREDEFINED, msg_id=1)
        self.assertEqual(self.peer.expect(PUBACK), b'\0\x09\0\1\0')
        self.peer.farewell()
        self.assertEqual(self.finish(p, 0)[0], b'9 x\n')

    def test_quiet_prints_no_error(self):
        p = self.start('sub', '--quiet', '-t', 'a/b')
        self.peer.accept()
        self.peer.subscribe(0, code=NOT_SUPPORTED)
        self.peer.farewell()
        self.assertEqual(self.finish(p, 1), (b'', ''))


class Flags(ClientTest):
    def test_the_message_is_repeated(self):
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x', '--repeat', '3', '--repeat-delay', '0.05')
        self.peer.accept()
        self.peer.register(1)
        ids = set()
        for _ in range(3):
            body = self.peer.expect(PUBLISH)
            self.assertEqual(body[5:], b'x')
            ids.add(body[3:5])
            self.peer.puback(body)
        self.assertEqual(len(ids), 3)
        self.peer.farewell()
        self.finish(p, 0)

    def test_the_client_id_has_the_prefix(self):
        p = self.start('pub', '-t', 'a/b', '-m', 'x', '-I', 'meter-')
        self.assertEqual(self.peer.accept()[4:], b'meter-%d' % p.pid)
        self.peer.register(1)
        self.peer.expect(PUBLISH)
        self.peer.farewell()
        self.finish(p, 0)

    def test_a_reserved_topic_id_is_reported_as_the_brokers_fault(self):
        for reserved in (0, 0xFFFF):
            p = self.start('pub', '-t', 'a/b', '-m', 'x')
            self.peer.accept()
            self.peer.register(reserved)
            self.peer.farewell()
            self.assertIn("gave the topic 'a/b' the id %d, which the protocol reserves" % reserved, self.finish(p, 1)[1])

    def test_a_ping_without_a_session_is_ignored(self):
        p = self.start('sub', '-t', 'a/b')
        self.peer.expect(CONNECT)
        self.peer.send(PINGREQ)
        self.peer.send(PUBREL, b'\0\1')
        self.peer.send(CONNACK, bytes([ACCEPTED]))
        self.peer.subscribe(5)  # and neither PINGRESP nor PUBCOMP before it
        p.send_signal(signal.SIGTERM)
        self.peer.farewell()
        self.finish(p, 0)

    def refused(self, *arguments, says):
        self.assertIn(says, self.finish(self.start(*arguments), 2)[1])

    def test_options_that_are_wrong_together_are_named_with_the_remedy(self):
        pub, sub = ('pub', '-t', 'a', '-m', 'x'), ('sub', '-t', 'a')
        self.refused(*pub, '--will-delete', says='give --disable-clean-session')
        self.refused(*pub, '--will-update', says='give the new will with --will-topic')
        self.refused(*pub, '--will-topic', 'w', '--will-delete', says='--will-delete')
        self.refused(*pub, '--will-topic', '', says='--will-topic')
        self.refused(*pub, '--will-topic', 'a/+', says="--will-topic: 'a/+' is not a topic name")
        self.refused(*pub, '--ipv4', '--ipv6', says='--ipv6')
        self.refused(*pub, '-i', 'a', '-I', 'b', says='--id')
        self.refused(*pub, '-I', 24 * 'x', says='--id-prefix')
        self.refused(*pub, '--repeat', '0', says='--repeat')
        self.refused('pub', '-t', 'a', '-l', '--repeat', '2', says='--repeat: the lines of standard input')
        self.refused('pub', '--short-topic', '-t', 'ab', '-m', 'x', '-q', '-1', '--will-topic', 'w', says='there is no will')
        self.refused('pub', '-t', 'a', '-f', '', says='--file')
        self.refused(*sub, '-R', '--retained-only', says='--retained-only')
        self.refused(*sub, '-E', '-C', '1', says='-E')
        self.refused(*sub, '--awake-every', '1', says='--sleep')
        self.refused(*sub, '--sleep', '5', '--awake-every', '6', says='--awake-every: 6 s is longer than --sleep')
        self.refused(*sub, '--sleep', '0', says='--sleep')
        self.refused(*sub, '--sleep', '65536', says='--sleep')
        self.refused(*sub, '--sleep', '5', '--remove-retained', says='--remove-retained')
        self.refused(*sub, '-T', 'a#', says='--filter-out')
        self.refused(*sub, '-U', 'a#', says='--unsubscribe')
        self.refused('sub', '--radius', '1', '-t', 'a', says='--search')

    def test_help_lists_every_option_with_its_meaning(self):
        for command, options in (
                ('pub', '--host --port --bind --search --radius --id --id-prefix --disable-clean-session --keepalive '
                 '--short-topic --will-topic --will-payload --will-qos --will-retain --will-update --will-delete '
                 '--debug --quiet --topic --topic-id --message --stdin-line --file --stdin-file --null-message --qos '
                 '--retain --repeat --repeat-delay --retry-interval --max-retries --ipv4 --ipv6 --search-delay --fragments'),
                ('sub', '--topic --unsubscribe --qos --verbose --no-newline --format --filter-out -R --retained-only '
                 '--remove-retained --sleep --awake-every --count --timeout -E $share/GROUP/FILTER'),
                ('rr', '--topic --message --response-topic --timeout --format --verbose --no-newline --qos')):
            said = subprocess.run([self.program, command, '--help'], stdout=subprocess.PIPE, check=True).stdout.decode()
            for option in options.split():
                self.assertIn(option, said)


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
