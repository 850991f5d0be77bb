# SPDX-License-Identifier: BSD-3-Clause
"""Every message that chainring-client sends, dissected by scapy field by field; what it receives is
built by scapy. Usage: test_fields.py path/to/chainring-client"""
import sys
import unittest

from scapy.contrib import mqttsn as sn

from peer import *  # noqa: F403: the protocol's names

NO_FLAGS = dict(dup=0, qos=0, retain=0, will=0, cleansess=0, tid_type=0)


def flags(**given):
    return dict(NO_FLAGS, **given)


class Fields(ClientTest):
    def dissect(self, kind, layer=None, **fields):
        """Receives a message, which must have this type and exactly these fields, and returns it. A field
        whose value is Ellipsis may have any value."""
        self.peer.socket.settimeout(HANG_S)
        datagram, self.peer.client = self.peer.socket.recvfrom(65536)
        packet = sn.MQTTSN(datagram)
        self.assertEqual((sn.PACKET_TYPE[packet.type], packet.len), (sn.PACKET_TYPE[kind], len(datagram)))
        if layer is None:
            self.assertEqual(len(datagram), 2)
            return None
        body = packet[layer]
        # The fields that follow from others, or that are absent for this form, are None.
        found = {f.name: body.getfieldval(f.name) for f in body.fields_desc if body.getfieldval(f.name) is not None}
        for name, value in fields.items():
            if value is not ...:
                self.assertEqual(found[name], value, name)
        for name in set(found) - set(fields):
            self.assertFalse(found[name], '%s is not expected to be set' % name)
        return body

    def build(self, kind, layer=None, **fields):
        packet = sn.MQTTSN(type=kind)
        # scapy 2.5 appends the optional duration to every DISCONNECT.
        self.peer.send_raw(b'\x02\x18' if kind == sn.DISCONNECT else bytes(packet / layer(**fields) if layer else packet))

    def connected(self, **fields):
        self.dissect(sn.CONNECT, sn.MQTTSNConnect, prot_id=1, **fields)
        self.build(sn.CONNACK, sn.MQTTSNConnack, return_code=0)

    def subscribed(self, **fields):
        body = self.dissect(sn.SUBSCRIBE, sn.MQTTSNSubscribe, mid=..., **fields)
        self.build(sn.SUBACK, sn.MQTTSNSuback, qos=fields['qos'], tid=5, mid=body.mid)

    def ended(self, process):
        self.dissect(sn.DISCONNECT)
        self.build(sn.DISCONNECT)
        return self.finish(process, 0)[0]

    def test_a_publisher_with_a_will(self):
        p = self.start('pub', '-i', 'me', '-k', '300', '-q', '2', '-r', '-t', 'a/b', '-m', 'text', '--will-topic', 'w/t',
                       '--will-payload', 'gone', '--will-qos', '1', '--will-retain')
        self.dissect(sn.CONNECT, sn.MQTTSNConnect, prot_id=1, duration=300, client_id=b'me',
                     **flags(cleansess=1, will=1))
        self.build(sn.WILLTOPICREQ)
        self.dissect(sn.WILLTOPIC, sn.MQTTSNWillTopic, will_topic=b'w/t', **flags(qos=1, retain=1))
        self.build(sn.WILLMSGREQ)
        self.dissect(sn.WILLMSG, sn.MQTTSNWillMsg, will_msg=b'gone')
        self.build(sn.CONNACK, sn.MQTTSNConnack, return_code=0)
        body = self.dissect(sn.REGISTER, sn.MQTTSNRegister, tid=0, mid=..., topic_name=b'a/b')
        self.build(sn.REGACK, sn.MQTTSNRegack, tid=0x1234, mid=body.mid, return_code=0)
        body = self.dissect(sn.PUBLISH, sn.MQTTSNPublish, tid=0x1234, mid=..., data=b'text', **flags(qos=2, retain=1))
        self.assertNotEqual(body.mid, 0)
        self.build(sn.PUBREC, sn.MQTTSNPubrec, mid=body.mid)
        self.dissect(sn.PUBREL, sn.MQTTSNPubrel, mid=body.mid)
        self.build(sn.PUBCOMP, sn.MQTTSNPubcomp, mid=body.mid)
        self.ended(p)

    def test_every_other_qos_and_form_of_a_topic(self):
        for arguments, fields in ((['-q', '0', '--short-topic', '-t', 'xy'], dict(flags(tid_type=2), tid=0x7879, mid=0)),
                                  (['-q', '1', '--topic-id', '300'], dict(flags(qos=1, tid_type=1), tid=300, mid=...)),
                                  (['-q', '-1', '--topic-id', '300'], dict(flags(qos=3, tid_type=1), tid=300, mid=0))):
            with self.subTest(arguments=arguments):
                p = self.start('pub', '-i', 'me', '-m', 'text', *arguments)
                if fields['qos'] != 3:
                    self.connected(duration=60, client_id=b'me', **flags(cleansess=1))
                body = self.dissect(sn.PUBLISH, sn.MQTTSNPublish, data=b'text', **fields)
                if fields['qos'] == 1:
                    self.build(sn.PUBACK, sn.MQTTSNPuback, tid=300, mid=body.mid, return_code=0)
                if fields['qos'] == 3:
                    self.finish(p, 0)
                else:
                    self.ended(p)

    def test_updates_of_the_will(self):
        p = self.start('pub', '-i', 'me', '--short-topic', '-t', 'xy', '-n', '--will-update', '--will-topic', 'w/t',
                       '--will-payload', 'gone', '--will-qos', '2')
        self.connected(duration=60, client_id=b'me', **flags(cleansess=1))
        self.dissect(sn.WILLTOPICUPD, sn.MQTTSNWillTopicUpd, will_topic=b'w/t', **flags(qos=2))
        self.build(sn.WILLTOPICRESP, sn.MQTTSNWillTopicResp, return_code=0)
        self.dissect(sn.WILLMSGUPD, sn.MQTTSNWillMsgUpd, will_msg=b'gone')
        self.build(sn.WILLMSGRESP, sn.MQTTSNWillMsgResp, return_code=0)
        self.dissect(sn.PUBLISH, sn.MQTTSNPublish, tid=0x7879, mid=0, data=b'', **flags(tid_type=2))
        self.ended(p)

    def test_a_subscriber_in_every_form(self):
        p = self.start('sub', '-c', '-i', 'me', '-q', '2', '-C', '3', '-v', '-U', 'old', '-t', '$share/g/a/#', '-t', 'a/b',
                       '--topic-id', '300')
        self.connected(duration=60, client_id=b'me', **flags())
        body = self.dissect(sn.UNSUBSCRIBE, sn.MQTTSNUnsubscribe, mid=..., topic_name=b'old', **flags())
        self.build(sn.UNSUBACK, sn.MQTTSNUnsuback, mid=body.mid)
        self.subscribed(topic_name=b'$share/g/a/#', **flags(qos=2))
        self.subscribed(topic_name=b'a/b', **flags(qos=2))
        self.subscribed(tid=300, **flags(qos=2, tid_type=1))
        self.build(sn.REGISTER, sn.MQTTSNRegister, tid=6, mid=1, topic_name=b'a/c')
        self.dissect(sn.REGACK, sn.MQTTSNRegack, tid=6, mid=1, return_code=0)
        self.build(sn.PUBLISH, sn.MQTTSNPublish, qos=1, tid=6, mid=2, data=b'one')
        self.dissect(sn.PUBACK, sn.MQTTSNPuback, tid=6, mid=2, return_code=0)
        self.build(sn.PUBLISH, sn.MQTTSNPublish, qos=2, tid=5, mid=3, data=b'two')
        self.dissect(sn.PUBREC, sn.MQTTSNPubrec, mid=3)
        self.build(sn.PUBREL, sn.MQTTSNPubrel, mid=3)
        self.dissect(sn.PUBCOMP, sn.MQTTSNPubcomp, mid=3)
        self.build(sn.PINGREQ)
        self.dissect(sn.PINGRESP)
        self.build(sn.PUBLISH, sn.MQTTSNPublish, qos=1, tid=77, mid=4, data=b'unknown')
        self.dissect(sn.PUBACK, sn.MQTTSNPuback, tid=77, mid=4, return_code=2)
        self.build(sn.PUBLISH, sn.MQTTSNPublish, qos=0, tid=300, tid_type=1, data=b'three')
        self.assertEqual(self.ended(p), b'a/c one\na/b two\n300 three\n')

    def test_a_sleeper(self):
        p = self.start('sub', '-i', 'me', '--short-topic', '-t', 'xy', '-C', '1', '--sleep', '600', '--awake-every', '0.1')
        self.connected(duration=60, client_id=b'me', **flags(cleansess=1))
        self.subscribed(short_topic=b'xy', **flags(tid_type=2))
        self.dissect(sn.DISCONNECT, sn.MQTTSNDisconnect, duration=600)
        self.build(sn.DISCONNECT)
        self.dissect(sn.PINGREQ, sn.MQTTSNPingReq, client_id=b'me')
        self.build(sn.PINGRESP)
        self.dissect(sn.PINGREQ, sn.MQTTSNPingReq, client_id=b'me')
        self.build(sn.PUBLISH, sn.MQTTSNPublish, tid=0x7879, tid_type=2, data=b'x')
        self.assertEqual(self.ended(p), b'x\n')

    def test_a_search(self):
        p = self.start('pub', '--search', '127.0.0.1', '--search-delay', '0', '--radius', '7', '-q', '-1', '--topic-id', '1',
                       '-n', host=None)
        self.dissect(sn.SEARCHGW, sn.MQTTSNSearchGW, radius=7)
        self.build(sn.GWINFO, sn.MQTTSNGwInfo, gw_id=3)
        self.dissect(sn.PUBLISH, sn.MQTTSNPublish, tid=1, mid=0, data=b'', **flags(qos=3, tid_type=1))
        self.finish(p, 0)


if __name__ == '__main__':
    ClientTest.program = sys.argv.pop(1)
    unittest.main()
