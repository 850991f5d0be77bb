# SPDX-License-Identifier: BSD-3-Clause
"""chainring-client against the real broker over a TAP port, in a network namespace of the test's own.
Needs root. Usage: test_broker.py path/to/chainring-client path/to/dpdk-chainring"""
import itertools
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..'), os.path.join(HERE, '..', 'region')]
import own_network  # noqa: E402, F401
from regions import Broker  # noqa: E402

CLIENT = BROKER = None
HANG_S = 90  # this timeout only detects hangs
ADDRESS, ADDRESS6, TAP, GROUP, GROUP6 = '10.80.0.1', '2001:db8:80::1', 'crclient', '225.1.1.1', 'ff02::101'
PATIENT = ('--retry-interval', '0.3', '--max-retries', '300')


class BrokerTest(unittest.TestCase):
    numbers = itertools.count()
    more = ()  # further arguments of the broker

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(dir='/var/tmp', prefix='chainring-client-')
        cls.addClassCleanup(cls.directory.cleanup)
        cls.topics = os.path.join(cls.directory.name, 'topics')
        with open(cls.topics, 'w') as f:
            f.write('7 predefined/seven\n')
        cls.start_broker()
        cls.addClassCleanup(lambda: cls.broker.kill())

    @classmethod
    def start_broker(cls):
        cls.broker = Broker(BROKER, os.path.join(cls.directory.name, 'region'), '--size', '64M', '--multicast', GROUP,
                            '--multicast', GROUP6, '--address6', ADDRESS6 + '/64', '--max-datagram', '8000',
                            '--predefined-topics', cls.topics, '--retry-interval', '1', *cls.more, vdev='net_tap0,iface=' + TAP,
                            address=ADDRESS + '/24')
        cls.broker.ready()
        for command in ('ip addr replace 10.80.0.2/24 dev ' + TAP, 'ip addr replace 2001:db8:80::2/64 dev %s nodad' % TAP,
                        'ip link set %s up' % TAP,
                        'ip route replace 224.0.0.0/4 dev ' + TAP):
            subprocess.run(command.split(), check=True)

    def setUp(self):
        """The names of each test are its own, because all tests of a class share a broker."""
        self.own = '%s%d' % (self.id().split('.')[-1][5:13], next(BrokerTest.numbers))
        self.topic = self.own + '/t'

    def start(self, command, *arguments, host=ADDRESS, stdin=subprocess.DEVNULL):
        run = Run([CLIENT, command, *(['-h', host] if host else []), *PATIENT, *arguments], stdin, self)
        self.addCleanup(run.kill)
        return run

    def run_client(self, command, *arguments, status=0, **more):
        return self.start(command, *arguments, **more).finish(status)

    def subscriber(self, *arguments, host=ADDRESS):
        """A subscriber that has made its first subscription."""
        run = self.start('sub', '-d', *arguments, host=host)
        run.until('received SUBACK')
        return run

    def publish_lines(self, lines, *arguments, **more):
        """Starts a publisher of these lines."""
        source = tempfile.TemporaryFile()
        source.write(b'\n'.join(lines))
        source.seek(0)
        self.addCleanup(source.close)
        return self.start('pub', '-t', self.topic, '-l', *arguments, stdin=source, **more)


class Run:
    """A client whose outputs go to files, because a pipe that nobody reads would stop it."""

    def __init__(self, command, stdin, test):
        self.test, self.out, self.err = test, tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=stdin, stdout=self.out, stderr=self.err)
        for file in (self.out, self.err):
            test.addCleanup(file.close)

    def lines(self):
        """The whole lines that the client has printed."""
        return os.pread(self.out.fileno(), 1 << 24, 0).split(b'\n')[:-1]

    def said(self):
        return os.pread(self.err.fileno(), 1 << 24, 0).decode()

    def wait(self, condition, what):
        end = time.monotonic() + HANG_S
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None and not condition():
                self.test.fail('%s: never %s; status %s: %s %s\n%s' % (
                    self.process.args, what, self.process.poll(), self.lines()[-10:], self.said()[-2000:],
                    self.test.broker.said()[-2000:]))
            time.sleep(0.01)

    def until(self, words, count=1):
        self.wait(lambda: self.said().count(words) >= count, 'said %r %d times' % (words, count))

    def printed(self, count):
        """Waits for so many lines, and returns all that there are."""
        self.wait(lambda: len(self.lines()) >= count, 'printed %d lines' % count)
        return self.lines()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def finish(self, status=0):
        """Waits for the end, and returns the lines that the client printed."""
        try:
            got = self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            got = 'none, it hangs'
        if got != status:
            self.test.fail('%s: status %s instead of %d: %s\n%s' % (
                self.process.args, got, status, self.said()[-3000:], self.test.broker.said()[-2000:]))
        return [line.decode() for line in self.lines()]

    def interrupt(self):
        self.process.send_signal(signal.SIGTERM)
        return self.finish()


class Qos(BrokerTest):
    def test_a_message_is_delivered_at_the_lower_qos_of_publisher_and_subscriber(self):
        for wanted in (0, 1, 2):
            s = self.subscriber('-q', str(wanted), '-t', self.topic, '-C', '3', '-F', '%q %r %t %p')
            for given in (0, 1, 2):
                self.run_client('pub', '-q', str(given), '-t', self.topic, '-m', 'at %d' % given)
            self.assertEqual(s.finish(), ['%d 0 %s at %d' % (min(wanted, given), self.topic, given) for given in (0, 1, 2)])

    def test_qos_minus_1_goes_to_predefined_and_short_topics(self):
        s = self.subscriber('-t', 'predefined/seven', '-t', 'zz', '-C', '2', '-v')
        s.until('received SUBACK', 2)
        self.run_client('pub', '-q', '-1', '--topic-id', '7', '-m', 'one')
        s.printed(1)  # datagrams of two sockets may overtake each other
        self.run_client('pub', '-q', '-1', '--short-topic', '-t', 'zz', '-m', 'two')
        self.assertEqual(s.finish(), ['predefined/seven one', 'zz two'])

    def test_every_form_of_a_topic_and_a_wildcard_is_subscribed_to(self):
        s = self.subscriber('-q', '2', '--short-topic', '-t', 'yy', '--topic-id', '7', '-t', self.own + '/+/x', '-C', '3', '-v')
        s.until('received SUBACK', 3)
        self.run_client('pub', '-q', '2', '-t', 'yy', '-m', 'short')
        self.run_client('pub', '-q', '1', '-t', 'predefined/seven', '-m', 'predefined')
        self.run_client('pub', '-q', '2', '-t', self.own + '/7/x', '-m', 'wild')
        self.assertEqual(s.finish(), ['yy short', '7 predefined', self.own + '/7/x wild'])

    def test_a_kept_session_gets_what_was_published_while_it_was_away(self):
        me = ('-c', '-i', 'kept', '-q', '2', '-t', self.topic)
        self.run_client('sub', *me, '-E')
        for text in ('one', 'two'):
            self.run_client('pub', '-q', '2', '-t', self.topic, '-m', text)
        self.assertEqual(self.run_client('sub', *me, '-C', '2'), ['one', 'two'])
        self.run_client('pub', '-q', '2', '-t', self.topic, '-m', 'three')
        self.assertEqual(self.run_client('sub', *me, '-C', '1'), ['three'])

    def test_an_unsubscribed_filter_gets_nothing_more(self):
        me = ('-c', '-i', 'leaver', '-q', '1')
        self.run_client('sub', *me, '-t', self.topic, '-t', self.own + '/stay', '-E')
        self.run_client('sub', *me, '-U', self.topic, '-E')
        self.run_client('pub', '-q', '1', '-t', self.topic, '-m', 'gone')
        self.run_client('pub', '-q', '1', '-t', self.own + '/stay', '-m', 'kept')
        self.assertEqual(self.run_client('sub', *me, '-t', self.own + '/stay', '-C', '1'), ['kept'])

    def test_a_request_gets_its_response(self):
        responder = self.subscriber('-q', '2', '-t', self.own + '/request', '-C', '1')
        r = self.start('rr', '-q', '2', '-t', self.own + '/request', '-e', self.own + '/response', '-m', '6*7')
        self.assertEqual(responder.finish(), ['6*7'])
        self.run_client('pub', '-q', '2', '-t', self.own + '/response', '-m', '42')
        self.assertEqual(r.finish(), ['42'])

    def test_a_request_without_a_responder_ends_with_status_27(self):
        r = self.start('rr', '-q', '1', '-t', self.own + '/request', '-e', self.own + '/response', '-n', '-W', '1')
        self.assertEqual(r.finish(27), [])
        self.assertIn('no response', r.said())

    def test_clients_of_both_address_families_exchange_messages(self):
        s = self.subscriber('-q', '2', '-t', self.topic, '-C', '2', host=ADDRESS6)
        self.run_client('pub', '-q', '2', '-t', self.topic, '-m', 'from 4')
        self.run_client('pub', '-q', '2', '-t', self.topic, '-m', 'from 6', host=ADDRESS6)
        self.assertEqual(s.finish(), ['from 4', 'from 6'])

    def test_a_message_longer_than_a_packet_needs_fragments(self):
        text = 'x' * 5000
        for host in (ADDRESS, ADDRESS6):
            s = self.subscriber('-q', '1', '-t', self.topic, '-C', '1', host=host)
            p = self.start('pub', '-q', '1', '-t', self.topic, '-m', text, host=host)
            p.finish(1)
            self.assertIn('too long', p.said())
            self.assertIn('--fragments', p.said())
            self.run_client('pub', '-q', '1', '-t', self.topic, '-m', text, '--fragments', host=host)
            self.assertEqual(s.finish(), [text])

    def test_the_gateway_is_found_by_multicast_and_by_unicast(self):
        for where in (GROUP, ADDRESS, GROUP6 + '%' + TAP, ADDRESS6):
            self.run_client('pub', '--search', where, '--search-delay', '0', '-q', '1', '-t', self.topic, '-m', 'x', host=None)


class Killed(BrokerTest):
    LINES = 600

    def test_a_broker_that_is_killed_neither_loses_nor_doubles_a_message_at_qos_2(self):
        lines = ['line %d' % n for n in range(self.LINES)]
        s = self.subscriber('-k', '1', '-c', '-i', 'sink', '-q', '2', '-t', self.topic, '-C', str(self.LINES))
        p = self.publish_lines([line.encode() for line in lines], '-c', '-i', 'source', '-q', '2')
        for fifth in (1, 2, 4):
            s.printed(self.LINES * fifth // 5)
            self.broker.kill()
            type(self).start_broker()
        self.assertEqual(s.finish(), lines)
        p.finish()


class Proxy:
    """A network between one client and the broker that loses and doubles datagrams, both ways."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.near, self.far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.near.bind(('127.0.0.1', 0))
        self.far.connect((ADDRESS, 10000))
        self.client, self.end = None, False
        self.thread = threading.Thread(target=self.relay)
        self.thread.start()

    def relay(self):
        while not self.end:
            for from_socket in select.select([self.near, self.far], [], [], 0.1)[0]:
                datagram, sender = from_socket.recvfrom(65536)
                for _ in range(self.random.choices((0, 1, 2), (10, 75, 15))[0]):
                    if from_socket is self.near:
                        self.client = sender
                        self.far.send(datagram)
                    else:
                        self.near.sendto(datagram, self.client)

    def close(self):
        self.end = True
        self.thread.join()
        self.near.close()
        self.far.close()


class Lossy(BrokerTest):
    MESSAGES = 25
    # A broker with the usual five retries takes one client of 400 for lost here, and is right to.
    more = ('--max-retries', '100')

    def through(self, seed):
        proxy = Proxy(seed)
        self.addCleanup(proxy.close)
        return ('-p', str(proxy.near.getsockname()[1]))

    def test_a_network_that_loses_and_doubles_delivers_once_and_in_order_at_qos_2(self):
        seed = int(os.environ.get('CHAINRING_SEED', random.randrange(1 << 32)))
        print('CHAINRING_SEED=%d' % seed, flush=True)
        lines = ['line %d' % n for n in range(self.MESSAGES)]
        s = self.start('sub', '-d', '-c', '-i', 'lossy', '-q', '2', '-t', self.topic, '-C', str(self.MESSAGES),
                       *self.through(seed), host='127.0.0.1')
        s.until('received SUBACK')
        p = self.publish_lines([line.encode() for line in lines], '-q', '2', *self.through(seed + 1), host='127.0.0.1')
        p.finish()
        self.assertEqual(s.finish(), lines)


class Retained(BrokerTest):
    def publish(self, text, *arguments):
        self.run_client('pub', '-q', '1', '-r', '-t', self.topic, '-m', text, *arguments)

    def none_is_left(self):
        self.assertEqual(self.start('sub', '-q', '1', '-t', self.topic, '-W', '1', '--retained-only').finish(27), [])

    def test_a_retained_message_is_given_to_new_subscribers_and_the_last_one_counts(self):
        for qos in ('0', '1', '2'):
            self.publish('old')
            self.run_client('pub', '-q', qos, '-r', '-t', self.topic, '-m', 'new ' + qos)
            for filter in (self.topic, self.own + '/#'):
                self.assertEqual(self.run_client('sub', '-q', '2', '-t', filter, '-C', '1', '-F', '%r %t %p'),
                                 ['1 %s new %s' % (self.topic, qos)])

    def test_a_present_subscriber_gets_it_without_the_flag(self):
        s = self.subscriber('-q', '1', '-t', self.topic, '-C', '1', '-F', '%r %p')
        self.publish('now')
        self.assertEqual(s.finish(), ['0 now'])

    def test_an_empty_message_clears_it(self):
        self.publish('x')
        self.run_client('pub', '-q', '1', '-r', '-t', self.topic, '-n')
        self.none_is_left()

    def test_the_client_removes_it(self):
        self.publish('x')
        s = self.subscriber('-q', '1', '-t', self.topic, '--remove-retained', '--retained-only')
        s.until('received PUBACK')
        self.assertEqual(s.interrupt(), ['x'])
        self.none_is_left()

    def test_a_stale_message_is_not_printed(self):
        self.publish('stale')
        s = self.subscriber('-q', '1', '-t', self.topic, '-R', '-C', '1')
        s.until('received PUBLISH')
        self.publish('fresh')
        self.assertEqual(s.finish(), ['fresh'])

    def test_it_survives_the_broker(self):
        self.publish('durable')
        self.broker.kill()
        type(self).start_broker()
        self.assertEqual(self.run_client('sub', '-q', '2', '-t', self.topic, '-C', '1', '-F', '%r %p'), ['1 durable'])


class Shared(BrokerTest):
    def member(self, name, *arguments, filter=None, qos='1'):
        return self.subscriber('-i', name, '-q', qos, '-t', '$share/%s/%s' % (self.own, filter or self.topic), *arguments)

    def publish(self, count, qos='1'):
        self.publish_lines([b'%d' % n for n in range(count)], '-q', qos).finish()

    def all_of(self, count):
        return sorted('%d' % n for n in range(count))

    def test_every_message_goes_to_exactly_one_member(self):
        for qos in ('1', '2'):
            members = [self.member('m%d' % n, qos=qos) for n in range(3)]
            self.publish(100, qos)
            end = time.monotonic() + HANG_S
            while sum(len(m.lines()) for m in members) < 100 and time.monotonic() < end:
                time.sleep(0.01)
            got = sum((m.interrupt() for m in members), [])
            self.assertEqual(sorted(got), self.all_of(100))

    def test_messages_are_kept_while_all_members_are_away(self):
        self.member('away', '-c').interrupt()
        self.publish(10)
        self.assertEqual(self.member('away', '-c', '-C', '10').finish(), ['%d' % n for n in range(10)])

    def test_the_messages_of_a_member_that_is_silent_go_to_the_others(self):
        silent = self.member('silent', '-c', '-k', '1')
        silent.process.send_signal(signal.SIGSTOP)  # it takes a message and acknowledges nothing
        alive = self.member('alive', '-c')
        self.publish(20)
        self.assertEqual(sorted(line.decode() for line in alive.printed(20)), self.all_of(20))
        silent.kill()

    def test_a_wildcard_can_be_shared(self):
        m = self.member('wild', '-v', '-C', '1', filter=self.own + '/#')
        self.run_client('pub', '-q', '1', '-t', self.own + '/a/b', '-m', 'x')
        self.assertEqual(m.finish(), [self.own + '/a/b x'])


class Wills(BrokerTest):
    def victim(self, *arguments):
        """A client with a will and a short keep-alive."""
        return self.subscriber('-i', 'v-' + self.own, '-k', '1', '-t', self.own + '/other', *arguments)

    def will(self, topic=None, text='lost'):
        return ('--will-topic', topic or self.topic, '--will-payload', text, '--will-qos', '1')

    def test_the_will_of_a_client_that_is_lost_is_published(self):
        s = self.subscriber('-q', '2', '-t', self.topic, '-C', '1', '-F', '%q %r %p')
        self.victim(*self.will()).kill()
        self.assertEqual(s.finish(), ['1 0 lost'])

    def test_a_retained_will_is_retained(self):
        s = self.subscriber('-q', '1', '-t', self.topic, '-C', '1')
        self.victim(*self.will(), '--will-retain').kill()
        s.finish()
        self.assertEqual(self.run_client('sub', '-q', '1', '-t', self.topic, '-C', '1', '-F', '%r %p'), ['1 lost'])

    def test_no_will_is_published_after_a_disconnect_or_a_deletion(self):
        s = self.subscriber('-q', '1', '-t', self.topic, '-C', '1')
        self.victim(*self.will()).interrupt()
        for delete in (('--will-delete',), ('--will-delete', '--will-update')):
            self.victim('-c', *self.will()).interrupt()  # the kept session keeps its will
            self.victim('-c', *delete).kill()
        time.sleep(3)  # longer than the keep-alive of 1 s with its tolerance
        self.run_client('pub', '-q', '1', '-t', self.topic, '-m', 'end')
        self.assertEqual(s.finish(), ['end'])

    def test_an_updated_will_is_published(self):
        s = self.subscriber('-q', '1', '-t', self.own + '/#', '-C', '2', '-F', '%q %t %p')
        v = self.victim('-c', *self.will())
        v.interrupt()
        self.victim('-c', '--will-update', '--will-topic', self.own + '/new', '--will-qos', '1').kill()
        self.assertEqual(s.printed(1), [b'1 %s/new lost' % self.own.encode()])
        self.victim('--will-update', *self.will(self.own + '/newer', 'updated')).kill()
        self.assertEqual(s.finish()[1], '1 %s/newer updated' % self.own)

    def test_the_will_of_a_client_that_never_returns_is_published_after_the_brokers_death(self):
        s = self.subscriber('-c', '-i', 'heir', '-q', '1', '-t', self.topic, '-C', '1')
        v = self.victim('-c', *self.will())
        v.kill()
        self.broker.kill()
        type(self).start_broker()
        self.assertEqual(s.finish(), ['lost'])


class Sleep(BrokerTest):
    def sleeper(self, *arguments, every='1'):
        run = self.start('sub', '-d', '-i', 's-' + self.own, '-t', self.topic, '--sleep', '60', '--awake-every', every,
                         *arguments)
        run.until('received DISCONNECT')
        return run

    def test_a_sleeper_gets_the_messages_of_every_qos_that_came_during_its_sleep(self):
        for wanted in (1, 2):
            s = self.sleeper('-q', str(wanted), '-C', '2', '-F', '%q %p')
            for given in (1, 2):
                self.run_client('pub', '-q', str(given), '-t', self.topic, '-m', 'at %d' % given)
            self.assertEqual(s.finish(), ['%d at %d' % (min(wanted, given), given) for given in (1, 2)])
            self.assertNotIn('dropped, as it came during sleep', s.said())

    def test_a_sleeper_learns_the_topics_of_a_wildcard(self):
        s = self.sleeper('-q', '1', '-t', self.own + '/w/#', '-C', '2', '-v')
        for name in ('a', 'b'):
            self.run_client('pub', '-q', '1', '-t', self.own + '/w/' + name, '-m', name)
        self.assertEqual(s.finish(), ['%s/w/a a' % self.own, '%s/w/b b' % self.own])

    def test_a_sleep_longer_than_the_keep_alive_is_no_loss(self):
        w = self.subscriber('-q', '1', '-t', self.own + '/will', '-W', '4')
        s = self.sleeper('-q', '1', '-k', '1', '-C', '1', '--will-topic', self.own + '/will', '--will-payload', 'lost', every='3')
        self.run_client('pub', '-q', '1', '-t', self.topic, '-m', 'x')
        self.assertEqual(s.finish(), ['x'])
        self.assertEqual(w.finish(27), [])

    def test_a_sleeper_that_never_wakes_up_is_lost_and_its_will_is_published(self):
        w = self.subscriber('-q', '1', '-t', self.own + '/will', '-C', '1')
        self.run_client('sub', '-i', 's-' + self.own, '-t', self.topic, '--sleep', '1', '-E', '--will-topic', self.own + '/will',
                        '--will-payload', 'lost')
        self.assertEqual(w.finish(), ['lost'])

    def test_a_sleeper_that_connects_again_gets_its_messages(self):
        me = ('-c', '-i', 's-' + self.own, '-q', '2', '-t', self.topic)
        self.run_client('sub', *me, '--sleep', '60', '-E')
        self.run_client('pub', '-q', '2', '-t', self.topic, '-m', 'x')
        self.assertEqual(self.run_client('sub', *me, '-C', '1'), ['x'])


if __name__ == '__main__':
    CLIENT, BROKER = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(warnings='ignore')  # a broker that was killed leaves its log file open until the end
