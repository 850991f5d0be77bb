# SPDX-License-Identifier: BSD-3-Clause
"""The search for a gateway, IPv6 and local addresses, in a network namespace of the test's own.
Usage: test_search.py path/to/chainring-client"""
import ipaddress
import os
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import own_network  # noqa: E402, F401
from peer import *  # noqa: E402, F403: the protocol's names

GROUP, GROUP6, PORT = '225.1.1.1', 'ff02::1:ff', 10000


class Group:
    """A gateway that hears SEARCHGW on a multicast group or by broadcast."""

    def __init__(self, address):
        self.address = address
        self.ipv6 = ':' in address
        self.socket = socket.socket(socket.AF_INET6 if self.ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.settimeout(HANG_S)
        if self.ipv6:
            link = socket.if_nametoindex('veth0')
            self.socket.bind((address, PORT, 0, link))
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                                   socket.inet_pton(socket.AF_INET6, address) + struct.pack('@I', link))
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link)
        else:
            self.socket.bind((address, PORT))
            if ipaddress.ip_address(address).is_multicast:
                self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                                       socket.inet_aton(address) + socket.inet_aton('192.0.2.1'))
                self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('192.0.2.1'))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def close(self):
        self.socket.close()

    def hear(self):
        """Returns the radius of the next SEARCHGW and its sender."""
        while True:
            datagram, sender = self.socket.recvfrom(100)
            if datagram[1] == SEARCHGW:
                assert len(datagram) == 3, datagram.hex()
                return datagram[2], sender


class Search(ClientTest):
    @classmethod
    def setUpClass(cls):
        for command in ('ip link add veth0 type veth peer name veth1', 'ip addr add 192.0.2.1/24 brd + dev veth0',
                        'ip -6 addr add 2001:db8::1/64 dev veth0 nodad', 'ip link set veth0 up', 'ip link set veth1 up',
                        'ip route add 224.0.0.0/4 dev veth0'):
            subprocess.run(command.split(), check=True)

    def gateway(self, address):
        """A peer at the port of gateways, as SEARCHGW and GWINFO name no port."""
        self.peer.close()
        self.peer = Peer(address, PORT)
        self.addCleanup(self.peer.close)

    def search(self, address, *arguments, delay_s=0, retry_s=HANG_S):
        return self.start('pub', '--search', address, '--search-delay', str(delay_s), '-q', '1', '-t', 'a/b', '-m', 'x',
                          *arguments, host=None, retry_s=retry_s)

    def complete(self, process, again=()):
        self.peer.accept(again)
        self.peer.register(1)
        self.peer.puback(self.peer.expect(PUBLISH))
        self.peer.farewell()
        return self.finish(process, 0)

    def listening(self, address):
        group = Group(address)
        self.addCleanup(group.close)
        return group

    def test_the_first_gateway_that_answers_a_multicast_is_used(self):
        self.gateway('192.0.2.1')
        group = self.listening(GROUP)
        p = self.search(GROUP, '--radius', '3')
        radius, sender = group.hear()
        self.assertEqual(radius, 3)
        self.peer.socket.sendto(bytes([3, GWINFO, 1]), sender)
        self.complete(p)

    def test_an_answer_by_multicast_is_heard_and_so_is_an_advertisement(self):
        for answer in (bytes([3, GWINFO, 7]), bytes([5, ADVERTISE, 7, 3, 132])):
            with self.subTest(answer=answer):
                self.gateway('192.0.2.1')
                group = self.listening(GROUP)
                p = self.search(GROUP)
                group.hear()
                self.peer.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('192.0.2.1'))
                self.peer.socket.sendto(answer, (GROUP, PORT))
                self.complete(p)

    def test_a_broadcast_is_answered_by_broadcast(self):
        self.gateway('192.0.2.1')
        group = self.listening('192.0.2.255')
        p = self.search('192.0.2.255')
        group.hear()
        self.peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.peer.socket.sendto(bytes([3, GWINFO, 1]), ('192.0.2.255', PORT))
        self.complete(p)

    def test_a_unicast_address_can_be_asked(self):
        self.gateway('192.0.2.1')
        p = self.search('192.0.2.1')
        self.assertEqual(self.peer.expect(SEARCHGW), b'\1')
        self.peer.send(GWINFO, b'\1')
        self.complete(p)

    def test_another_client_names_the_gateway_by_its_address(self):
        self.gateway('192.0.2.1')
        group = self.listening(GROUP)
        p = self.search(GROUP)
        _, sender = group.hear()
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(other.close)
        other.sendto(bytes([5, GWINFO, 1, 9, 9]), sender)  # an address of a form that this network does not have
        other.sendto(bytes([7, GWINFO, 1]) + socket.inet_aton('192.0.2.1'), sender)
        self.complete(p)

    def test_ipv6_multicast_finds_an_ipv6_gateway(self):
        self.gateway('2001:db8::1')
        group = self.listening(GROUP6)
        p = self.search(GROUP6 + '%veth0')
        _, sender = group.hear()
        self.peer.socket.sendto(bytes([3, GWINFO, 1]), sender)
        self.complete(p)

    def test_the_search_is_repeated_with_growing_intervals_and_its_failure_says_what_to_check(self):
        self.gateway('192.0.2.1')
        group = self.listening(GROUP)
        p = self.search(GROUP, '--max-retries', '2', retry_s=0.2)
        for _ in range(3):
            group.hear()
        err = self.finish(p, 1)[1]
        self.assertIn('no gateway answered SEARCHGW to 225.1.1.1 port 10000 in 3 attempts', err)
        self.assertIn('--host', err)

    def test_the_search_of_another_client_counts_as_this_clients_own(self):
        self.gateway('192.0.2.1')
        self.peer.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('192.0.2.1'))
        for _ in range(20):  # the random delay of one search may be too short for the other client's
            p = self.search(GROUP, '-d', '--max-retries', '1', delay_s=1, retry_s=0.2)
            while p.poll() is None:
                self.peer.socket.sendto(bytes([3, SEARCHGW, 1]), (GROUP, PORT))
                time.sleep(0.005)
            err = self.finish(p, 1)[1]
            if 'another client searches' in err:
                break
        self.assertEqual(err.count('sent SEARCHGW'), 1, err)  # two, without the other client

    def test_malformed_answers_are_ignored(self):
        self.gateway('192.0.2.1')
        group = self.listening(GROUP)
        p = self.search(GROUP)
        _, sender = group.hear()
        for datagram in (b'', b'\2\2', b'\x03\x02', b'\x04\x00\1\2', b'\x03\x05\0'):
            self.peer.socket.sendto(datagram, sender)
        self.peer.socket.sendto(bytes([3, GWINFO, 1]), sender)
        self.complete(p)

    def test_a_wrong_address_is_named(self):
        p = self.search('no.such.host.invalid')
        self.assertIn("--search: cannot find the address 'no.such.host.invalid'", self.finish(p, 1)[1])


class Addresses(ClientTest):
    def publish_to(self, address, host, *arguments):
        self.peer.close()
        self.peer = Peer(address)
        self.addCleanup(self.peer.close)
        p = self.start('pub', '-q', '1', '-t', 'a/b', '-m', 'x', *arguments, host=host)
        self.peer.accept()
        self.peer.register(1)
        self.peer.puback(self.peer.expect(PUBLISH))
        self.peer.farewell()
        self.finish(p, 0)

    def test_ipv6_addresses_and_names_of_both_families_are_reached(self):
        self.publish_to('::1', '::1')
        self.publish_to('127.0.0.1', 'localhost', '--ipv4')
        self.publish_to('::1', '::1', '--ipv6')

    def test_the_local_address_is_chosen(self):
        self.publish_to('127.0.0.1', '127.0.0.1', '-A', '127.0.0.9')
        self.assertEqual(self.peer.client[0], '127.0.0.9')

    def test_an_address_of_the_other_family_is_named(self):
        for arguments, says in ((('--ipv6',), "cannot find an IPv6 address of host '127.0.0.1'"),
                                (('-A', '::1'), "--bind: '::1' is not a local IPv4 address"),
                                (('-A', '203.0.113.1'), '--bind: cannot send from 203.0.113.1')):
            with self.subTest(arguments=arguments):
                self.assertIn(says, self.finish(self.start('pub', '-t', 'a', '-m', 'x', *arguments), 1)[1])

    def test_a_port_without_a_listener_is_named_with_brackets_for_ipv6(self):
        p = self.start('pub', '-t', 'a', '-m', 'x', '--max-retries', '1', host='::1', retry_s=0.1)
        err = self.finish(p, 1)[1]
        self.assertIn('was not answered by [::1]:%d' % self.peer.port, err)
        self.assertIn('nothing listens on that port', err)


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
