# SPDX-License-Identifier: BSD-3-Clause
"""Compares the codec with scapy's MQTT-SN layers, in both directions, for every message type.

What scapy builds must decode to the fields it was built of and encode to its bytes again; what is
encoded from fields must be its bytes, and be dissected by it to the same fields.

Usage: test_scapy.py path/to/mqttsn_lines
"""
import subprocess
import sys

from scapy.contrib import mqttsn as sn


def flags(dup=0, qos=0, retain=0, will=0, cleansess=0, tid_type=0):
    octet = dup << 7 | qos << 5 | retain << 4 | will << 3 | cleansess << 2 | tid_type
    return octet, dict(dup=dup, qos=qos, retain=retain, will=will, cleansess=cleansess, tid_type=tid_type)


def hexed(text):
    return (text if isinstance(text, bytes) else text.encode()).hex()


# Each case has this codec's type and fields, and scapy's type, layer (None for no body) and fields.
CASES = []


def case(name, ours, kind, layer, theirs):
    CASES.append((name, ours, kind, layer, theirs))


case('ADVERTISE', dict(gw_id=7, duration_s=900), sn.ADVERTISE, sn.MQTTSNAdvertise, dict(gw_id=7, duration=900))
case('SEARCHGW', dict(radius=2), sn.SEARCHGW, sn.MQTTSNSearchGW, dict(radius=2))
for address in (b'', b'\x0a\x0b\x0c\x0d'):
    case('GWINFO', dict(gw_id=1, gw_address=hexed(address)), sn.GWINFO, sn.MQTTSNGwInfo, dict(gw_id=1, gw_addr=address))
for client in (b'c', b'a-client-of-23-characte'):
    for f in (dict(), dict(cleansess=1), dict(will=1, cleansess=1)):
        octet, fields = flags(**f)
        case('CONNECT', dict(flags=octet, protocol=1, keep_alive_s=60, client_id=hexed(client)),
             sn.CONNECT, sn.MQTTSNConnect, dict(fields, prot_id=1, duration=60, client_id=client))
for code in range(4):
    case('CONNACK', dict(code=code), sn.CONNACK, sn.MQTTSNConnack, dict(return_code=code))
    case('REGACK', dict(topic_id=0x1234, msg_id=0x5678, code=code), sn.REGACK, sn.MQTTSNRegack,
         dict(tid=0x1234, mid=0x5678, return_code=code))
    case('PUBACK', dict(topic_id=0x1234, msg_id=0x5678, code=code), sn.PUBACK, sn.MQTTSNPuback,
         dict(tid=0x1234, mid=0x5678, return_code=code))
    case('SUBACK', dict(flags=flags(qos=1)[0], topic_id=0x1234, msg_id=0x5678, code=code), sn.SUBACK, sn.MQTTSNSuback,
         dict(flags(qos=1)[1], tid=0x1234, mid=0x5678, return_code=code))
    case('WILLTOPICRESP', dict(code=code), sn.WILLTOPICRESP, sn.MQTTSNWillTopicResp, dict(return_code=code))
    case('WILLMSGRESP', dict(code=code), sn.WILLMSGRESP, sn.MQTTSNWillMsgResp, dict(return_code=code))
case('WILLTOPICREQ', {}, sn.WILLTOPICREQ, None, {})
case('WILLMSGREQ', {}, sn.WILLMSGREQ, None, {})
case('PINGRESP', {}, sn.PINGRESP, None, {})
for name, kind, layer in (('WILLTOPIC', sn.WILLTOPIC, sn.MQTTSNWillTopic),
                          ('WILLTOPICUPD', sn.WILLTOPICUPD, sn.MQTTSNWillTopicUpd)):
    for topic in (b'w', b'will/' + 300 * b't'):
        octet, fields = flags(qos=1, retain=1)
        case(name, dict(erase=0, flags=octet, topic=hexed(topic)), kind, layer, dict(fields, will_topic=topic))
    case(name, dict(erase=1), kind, None, {})
for name, kind, layer in (('WILLMSG', sn.WILLMSG, sn.MQTTSNWillMsg), ('WILLMSGUPD', sn.WILLMSGUPD, sn.MQTTSNWillMsgUpd)):
    for data in (b'gone', 253 * b'g', 254 * b'g', 2000 * b'g'):
        case(name, dict(data=hexed(data)), kind, layer, dict(will_msg=data))
for topic in (b'a', b'a/b/c', 249 * b'r', 250 * b'r', 1000 * b'r'):
    case('REGISTER', dict(topic_id=5, msg_id=6, topic=hexed(topic)), sn.REGISTER, sn.MQTTSNRegister,
         dict(tid=5, mid=6, topic_name=topic))
for data in (b'x', b'hello', 248 * b'd', 249 * b'd', 1400 * b'd', 60000 * b'd'):
    for f in (dict(), dict(qos=1), dict(qos=2, dup=1), dict(qos=3, tid_type=2), dict(retain=1, tid_type=1)):
        octet, fields = flags(**f)
        case('PUBLISH', dict(flags=octet, topic_id=0x6162, msg_id=0xFFFE, data=hexed(data)), sn.PUBLISH,
             sn.MQTTSNPublish, dict(fields, tid=0x6162, mid=0xFFFE, data=data))
for name, kind, layer in (('PUBCOMP', sn.PUBCOMP, sn.MQTTSNPubcomp), ('PUBREC', sn.PUBREC, sn.MQTTSNPubrec),
                          ('PUBREL', sn.PUBREL, sn.MQTTSNPubrel), ('UNSUBACK', sn.UNSUBACK, sn.MQTTSNUnsuback)):
    case(name, dict(msg_id=0x0102), kind, layer, dict(mid=0x0102))
for name, kind, layer in (('SUBSCRIBE', sn.SUBSCRIBE, sn.MQTTSNSubscribe),
                          ('UNSUBSCRIBE', sn.UNSUBSCRIBE, sn.MQTTSNUnsubscribe)):
    for topic in (b'a/#', b'+/b', 250 * b's', 300 * b's'):
        octet, fields = flags(qos=1, dup=1)
        case(name, dict(flags=octet, msg_id=9, topic_id=0, topic=hexed(topic)), kind, layer,
             dict(fields, mid=9, topic_name=topic))
    octet, fields = flags(qos=2, tid_type=1)
    case(name, dict(flags=octet, msg_id=9, topic_id=0x0203, topic=''), kind, layer, dict(fields, mid=9, tid=0x0203))
    octet, fields = flags(tid_type=2)
    case(name, dict(flags=octet, msg_id=9, topic_id=0x7879, topic=hexed('xy')), kind, layer,
         dict(fields, mid=9, short_topic=b'xy'))
case('PINGREQ', dict(client_id=''), sn.PINGREQ, None, {})
case('PINGREQ', dict(client_id=hexed('sleeper')), sn.PINGREQ, sn.MQTTSNPingReq, dict(client_id=b'sleeper'))
case('DISCONNECT', dict(has_duration=0, duration_s=0), sn.DISCONNECT, None, {})
case('DISCONNECT', dict(has_duration=1, duration_s=300), sn.DISCONNECT, sn.MQTTSNDisconnect, dict(duration=300))
case('ENCAPSULATED', dict(radius=3, node_id=hexed('node-7'), inner='0c0c2000010002' + hexed('hello')), sn.ENCAPS_MSG,
     sn.MQTTSNEncaps, dict(radius=3, w_node_id=b'node-7'))


def built_by_scapy(kind, layer, fields):
    if kind == sn.DISCONNECT and layer is None:
        return b'\x02\x18'  # scapy 2.5 subtracts the two octets of the optional duration twice
    packet = sn.MQTTSN(type=kind)
    if layer is not None:
        packet = packet / layer(**fields)
    if kind == sn.ENCAPS_MSG:
        packet = packet / sn.MQTTSN() / sn.MQTTSNPublish(qos=sn.QOS_1, tid=1, mid=2, data=b'hello')
    return bytes(packet)


class Codec:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip('\n')

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def compare(codec, name, ours, kind, layer, theirs):
    """Yields a sentence for each difference."""
    expected = built_by_scapy(kind, layer, theirs)
    status, text, again = codec.ask('decode ' + expected.hex()).split('|')
    if status != 'ok':
        yield 'scapy built %s, which we call %s' % (expected.hex(), status)
        return
    words = text.split(' ')
    got = dict(word.split('=', 1) for word in words[1:])
    if words[0] != name:
        yield 'scapy built a %s, which we call %s' % (name, words[0])
    for field, value in ours.items():
        if got.get(field) != str(value):
            yield 'field %s: scapy was given %s, we decoded %s' % (field, value, got.get(field))
    if again != expected.hex():
        yield 'decoded and encoded again: %s, scapy: %s' % (again, expected.hex())

    encoded = codec.ask('encode %s %s' % (name, ' '.join('%s=%s' % pair for pair in ours.items())))
    if encoded != expected.hex():
        yield 'we encoded %s, scapy %s' % (encoded, expected.hex())
        return
    packet = sn.MQTTSN(bytes.fromhex(encoded))
    own_length = len(encoded) // 2 if kind != sn.ENCAPS_MSG else 3 + len(theirs['w_node_id'])
    if packet.type != kind or packet.len != own_length:
        yield 'scapy dissects type %#x and length %d of %s' % (packet.type, packet.len, encoded)
    for field, value in theirs.items():
        found = packet[layer].getfieldval(field)
        if found != value:
            yield 'field %s: we encoded %r, scapy dissects %r' % (field, value, found)


def main():
    codec = Codec(sys.argv[1])
    failures = 0
    for one in CASES:
        for difference in compare(codec, *one):
            failures += 1
            print('%s %s: %s' % (one[0], {k: str(v)[:40] for k, v in one[1].items()}, difference[:300]))
    kinds = {one[2] for one in CASES}
    missing = set(sn.PACKET_TYPE) - kinds
    for kind in missing:
        failures += 1
        print('no case for %s' % sn.PACKET_TYPE[kind])
    if codec.close() != 0:
        failures += 1
        print('the codec program failed')
    print('%d cases, %d types, %d differences' % (len(CASES), len(kinds), failures))
    return failures != 0


if __name__ == '__main__':
    sys.exit(main())
