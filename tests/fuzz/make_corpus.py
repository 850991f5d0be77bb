#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of the fuzz targets' corpora from packets that scapy makes.   make_corpus.py DIRECTORY

Files are named after their contents. Inputs that once crashed a target lie beside them and are not
changed. The seeds of the ledger come from the generator: see docs/guides/fuzzing.md.
"""
import os
import re
import struct
import sys

from scapy.contrib import mqttsn as sn
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR, fragment
from scapy.layers.inet6 import (HBHOptUnknown, ICMPv6EchoRequest, ICMPv6MLQuery, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr,
                                ICMPv6NDOptSrcLLAddr, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop,
                                IPv6ExtHdrRouting, RouterAlert, fragment6)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

CLIENT, OURS, CLIENT6, OURS6 = "192.0.2.9", "192.0.2.1", "2001:db8::9", "2001:db8::1"
OUR_MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:99"


def message(body):
    return bytes(sn.MQTTSN() / body)


# Topic ids are given out from 8 on, because the targets have predefined ones up to 7.
MESSAGES = {
    "advertise": message(sn.MQTTSNAdvertise(gw_id=1, duration=900)),
    "searchgw": message(sn.MQTTSNSearchGW(radius=1)),
    "gwinfo": message(sn.MQTTSNGwInfo(gw_id=1, gw_addr="1234")),
    "connect": message(sn.MQTTSNConnect(cleansess=1, duration=60, client_id="alice")),
    "connect_kept": message(sn.MQTTSNConnect(cleansess=0, duration=60, client_id="bob")),
    "connack": message(sn.MQTTSNConnack(return_code=0)),
    "willtopic": message(sn.MQTTSNWillTopic(qos=1, will_topic="w/t")),
    "willmsg": message(sn.MQTTSNWillMsg(will_msg="gone")),
    "register": message(sn.MQTTSNRegister(tid=0, mid=5, topic_name="a/b")),
    "regack": message(sn.MQTTSNRegack(tid=8, mid=1, return_code=0)),
    "publish_qos0": message(sn.MQTTSNPublish(qos=0, tid_type=0, tid=8, mid=0, data="hello")),
    "publish_qos1": message(sn.MQTTSNPublish(qos=1, tid_type=0, tid=8, mid=7, data="hello")),
    "publish_short": message(sn.MQTTSNPublish(qos=1, tid_type=2, tid=0x7172, mid=8, data="x")),
    "publish_predefined": message(sn.MQTTSNPublish(qos=1, tid_type=1, tid=1, mid=9, data="p")),
    "publish_minus_one": message(sn.MQTTSNPublish(qos=3, tid_type=1, tid=7, mid=0, data="q")),
    "publish_long": message(sn.MQTTSNPublish(qos=1, tid_type=0, tid=8, mid=10, data="y" * 240)),
    "puback": message(sn.MQTTSNPuback(tid=8, mid=1, return_code=0)),
    "pubrec": message(sn.MQTTSNPubrec(mid=7)),
    "pubrel": message(sn.MQTTSNPubrel(mid=7)),
    "pubcomp": message(sn.MQTTSNPubcomp(mid=7)),
    "subscribe": message(sn.MQTTSNSubscribe(qos=1, tid_type=0, mid=11, topic_name="a/b")),
    "subscribe_any": message(sn.MQTTSNSubscribe(qos=1, tid_type=0, mid=12, topic_name="a/#")),
    "subscribe_one": message(sn.MQTTSNSubscribe(qos=1, tid_type=0, mid=13, topic_name="+/b")),
    "subscribe_short": message(sn.MQTTSNSubscribe(qos=1, tid_type=2, mid=14, short_topic="qr")),
    "subscribe_predefined": message(sn.MQTTSNSubscribe(qos=0, tid_type=1, mid=15, tid=1)),
    "unsubscribe": message(sn.MQTTSNUnsubscribe(tid_type=0, mid=16, topic_name="a/b")),
    "pingreq": message(sn.MQTTSNPingReq(client_id="")),
    "pingreq_id": message(sn.MQTTSNPingReq(client_id="alice")),
    "pingresp": message(sn.MQTTSNPingResp()),
    "disconnect": bytes.fromhex("0218"),
    "disconnect_sleep": message(sn.MQTTSNDisconnect(duration=30)),
    "willtopicupd": message(sn.MQTTSNWillTopicUpd(qos=1, will_topic="w/u")),
    "willmsgupd": message(sn.MQTTSNWillMsgUpd(will_msg="later")),
    "willtopic_empty": bytes.fromhex("0207"),
    "connect_will": message(sn.MQTTSNConnect(will=1, cleansess=0, duration=60, client_id="alice")),
    "willtopic_retained": message(sn.MQTTSNWillTopic(qos=1, retain=1, will_topic="a/b")),
    "publish_qos2": message(sn.MQTTSNPublish(qos=2, tid_type=0, tid=8, mid=7, data="once")),
    "publish_again": message(sn.MQTTSNPublish(dup=1, qos=2, tid_type=0, tid=8, mid=7, data="once")),
    "publish_retained": message(sn.MQTTSNPublish(qos=1, retain=1, tid_type=0, tid=8, mid=20, data="kept")),
    "publish_cleared": message(sn.MQTTSNPublish(qos=1, retain=1, tid_type=0, tid=8, mid=21, data="")),
    "subscribe_qos2": message(sn.MQTTSNSubscribe(qos=2, tid_type=0, mid=22, topic_name="a/b")),
    "subscribe_shared": message(sn.MQTTSNSubscribe(qos=1, tid_type=0, mid=23, topic_name="$share/g/a/#")),
    "unsubscribe_shared": message(sn.MQTTSNUnsubscribe(tid_type=0, mid=24, topic_name="$share/g/a/#")),
    "pubrec_first": message(sn.MQTTSNPubrec(mid=1)),
    "pubcomp_first": message(sn.MQTTSNPubcomp(mid=1)),
    "regack_refused": message(sn.MQTTSNRegack(tid=8, mid=1, return_code=2)),
    "encapsulated": bytes.fromhex("05fe016162") + message(sn.MQTTSNSearchGW(radius=1)),
    "long_form": bytes.fromhex("0100080c20000800") + b"z",
}

BURST, SETTLE, CRASH = 5 << 2, 6 << 2, 7 << 2


def say(client, *names):
    out = b""
    for name in names:
        data = MESSAGES[name] if isinstance(name, str) else name
        out += bytes([client, len(data)]) + data
    return out


def then(step):
    return bytes([step])



def sequences():
    join = say(0, "connect") + say(1, "connect_kept") + then(SETTLE)
    ready = join + say(1, "subscribe", "subscribe_any") + say(0, "register") + then(SETTLE)
    yield "join", join
    yield "deliver", ready + say(0, "publish_qos1") + then(SETTLE) + say(1, "puback") + then(SETTLE)
    yield "register_first", join + say(1, "subscribe_any") + say(0, "register") + then(SETTLE) + \
        say(0, "publish_qos1") + then(SETTLE) + say(1, "regack") + then(SETTLE) + say(1, "puback") + then(SETTLE)
    yield "crash_with_a_queue", ready + say(1, "disconnect") + say(0, "publish_qos1") + then(BURST) + \
        say(0, "publish_long") + then(SETTLE) + then(CRASH) + say(1, "connect_kept") + then(SETTLE) + say(1, "puback")
    yield "full_queue", ready + say(1, "disconnect") + say(0, *["publish_qos1"] * 9) + then(SETTLE)
    yield "short_and_predefined", join + say(1, "subscribe_short", "subscribe_predefined") + then(SETTLE) + \
        say(0, "publish_short", "publish_predefined", "publish_qos0", "publish_minus_one") + then(SETTLE) + say(1, "puback")
    yield "nobody", say(3, "publish_minus_one", "publish_qos1", "pingreq", "searchgw") + then(SETTLE)
    yield "unsubscribe_and_clean", ready + say(1, "unsubscribe") + say(0, "publish_qos1") + then(SETTLE) + \
        say(1, "connect") + then(SETTLE) + then(CRASH)
    released = say(0, "publish_qos2") + then(SETTLE) + say(0, "publish_again") + then(SETTLE) + say(0, "pubrel") + then(SETTLE)
    yield "qos2_both_ways", join + say(1, "subscribe_qos2") + say(0, "register") + then(SETTLE) + released + \
        say(1, "pubrec_first") + then(SETTLE) + say(1, "pubcomp_first") + then(SETTLE)
    yield "qos2_across_a_crash", join + say(1, "subscribe_qos2") + say(0, "register", "publish_qos2") + then(SETTLE) + \
        say(1, "pubrec_first") + then(BURST) + then(CRASH) + say(0, "connect") + say(1, "connect_kept") + then(SETTLE) + \
        say(0, "pubrel") + say(1, "pubcomp_first") + then(SETTLE)
    yield "retained", join + say(0, "register", "publish_retained") + then(SETTLE) + say(1, "subscribe_any") + then(SETTLE) + \
        say(1, "regack", "puback") + then(CRASH) + say(1, "connect_kept", "subscribe_any") + then(SETTLE) + \
        say(0, "connect", "register", "publish_cleared") + then(SETTLE)
    will = say(0, "connect_will") + then(SETTLE) + say(0, "willtopic") + then(SETTLE) + say(0, "willmsg") + then(SETTLE)
    yield "will_set_changed_and_sent", say(1, "connect_kept", "subscribe_any") + will + \
        say(0, "willtopicupd", "willmsgupd") + then(SETTLE) + say(2, "connect") + then(SETTLE) + then(CRASH)
    yield "will_retained_and_deleted", say(0, "connect_will") + then(SETTLE) + say(0, "willtopic_retained") + then(SETTLE) + \
        say(0, "willmsg") + then(SETTLE) + say(2, "connect_kept", "subscribe_any", "connect") + then(SETTLE) + then(CRASH) + will + say(0, "connect_will") + then(SETTLE) + \
        say(0, "willtopic_empty") + then(SETTLE)
    yield "will_half_way", say(0, "connect_will") + then(SETTLE) + say(0, "willmsg", "publish_qos1") + then(SETTLE) + \
        say(0, "willtopic") + then(SETTLE) + say(0, "connect_will") + then(SETTLE) + say(2, "connect_will") + then(SETTLE)
    yield "sleep", ready + say(1, "disconnect_sleep") + then(SETTLE) + say(0, "publish_qos1") + then(SETTLE) + \
        say(1, message(sn.MQTTSNPingReq(client_id="bob"))) + then(SETTLE) + say(1, "puback") + then(SETTLE) + \
        say(2, message(sn.MQTTSNPingReq(client_id="bob"))) + then(CRASH) + say(1, "connect_kept") + then(SETTLE)
    yield "shared", join + say(0, "subscribe_shared", "register") + say(1, "subscribe_shared") + then(SETTLE) + \
        say(0, *["publish_qos1"] * 4) + then(SETTLE) + say(1, "regack_refused", "puback", "disconnect_sleep") + then(SETTLE) + \
        say(0, "puback", "unsubscribe_shared") + then(CRASH) + say(1, "connect_kept", "unsubscribe_shared") + then(SETTLE)
    yield "every_message", join + b"".join(say(n % 4, name) for n, name in enumerate(MESSAGES)) + then(SETTLE)


def frames():
    def udp(payload, **ip):
        return Ether(dst=OUR_MAC, src=PEER_MAC) / IP(src=CLIENT, dst=OURS, **ip) / \
            UDP(sport=40000, dport=10000) / Raw(payload)
    yield "connect", 0, udp(MESSAGES["connect"])
    yield "connect_segments", 4, udp(MESSAGES["connect"])
    yield "options", 0, udp(MESSAGES["pingreq"], options=[IPOption_RR(routers=["192.0.2.3"])])
    yield "fragment", 0, udp(MESSAGES["pingreq"], flags="MF")
    yield "unchecked", 8, udp(MESSAGES["publish_long"])
    yield "priority_tag", 0, Ether(dst=OUR_MAC, src=PEER_MAC) / Dot1Q(prio=3, vlan=0) / \
        IP(src=CLIENT, dst=OURS) / UDP(sport=40000, dport=10000) / Raw(MESSAGES["pingreq"])
    yield "echo", 0, Ether(dst=OUR_MAC, src=PEER_MAC) / IP(src=CLIENT, dst=OURS) / ICMP(id=7, seq=1) / Raw(b"ping")
    yield "arp_request", 0, Ether(dst="ff:ff:ff:ff:ff:ff", src=PEER_MAC) / \
        ARP(op=1, hwsrc=PEER_MAC, psrc=CLIENT, pdst=OURS)
    yield "arp_reply", 0, Ether(dst=OUR_MAC, src=PEER_MAC) / \
        ARP(op=2, hwsrc=PEER_MAC, psrc=CLIENT, hwdst=OUR_MAC, pdst=OURS)
    fragments = [Ether(dst=OUR_MAC, src=PEER_MAC) / p for p in
                 fragment(IP(src=CLIENT, dst=OURS, id=7) / UDP(sport=40000, dport=10000) / Raw(bytes(300)), fragsize=128)]
    yield "fragments", 64, fragments
    yield "fragments_twice", 64, fragments[:2] + fragments[:2] + fragments[2:]

    def ipv6(*layers, **ip):
        packet = Ether(dst=OUR_MAC, src=PEER_MAC) / IPv6(**{"src": CLIENT6, "dst": OURS6, **ip})
        for layer in layers:
            packet = packet / layer
        return packet
    datagram = (UDP(sport=40000, dport=10000), Raw(MESSAGES["connect"]))
    yield "ipv6_connect", 0, ipv6(*datagram)
    yield "ipv6_options", 0, ipv6(IPv6ExtHdrHopByHop(options=[RouterAlert()]), IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1e, optdata=b"skip")]),
                                  IPv6ExtHdrRouting(segleft=0, addresses=[CLIENT6]), *datagram)
    yield "ipv6_option_refused", 0, ipv6(IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x80, optdata=b"must")]), *datagram)
    yield "ipv6_echo", 0, ipv6(IPv6ExtHdrDestOpt(), ICMPv6EchoRequest(id=7, seq=1, data=b"ping"))
    for name, chain in (("ipv6_fragments", []), ("ipv6_fragments_behind_options", [IPv6ExtHdrHopByHop()])):
        whole = IPv6(src=CLIENT6, dst=OURS6)
        for layer in [*chain, IPv6ExtHdrFragment(id=9), UDP(sport=40000, dport=10000), Raw(bytes(300))]:
            whole = whole / layer
        yield name, 64, [Ether(dst=OUR_MAC, src=PEER_MAC) / p for p in fragment6(whole, 180)]
    yield "ipv6_fragment_alone", 0, ipv6(IPv6ExtHdrFragment(id=9), *datagram)
    yield "solicitation", 0, ipv6(ICMPv6ND_NS(tgt=OURS6), ICMPv6NDOptSrcLLAddr(lladdr=PEER_MAC), dst="ff02::1:ff00:1", hlim=255)
    yield "solicitation_without_mac", 0, ipv6(ICMPv6ND_NS(tgt=OURS6), hlim=255)
    yield "probe", 0, ipv6(ICMPv6ND_NS(tgt=OURS6), src="::", dst="ff02::1:ff00:1", hlim=255)
    yield "advertisement", 0, [ipv6(*datagram), ipv6(ICMPv6ND_NA(tgt=CLIENT6, S=1, O=1), ICMPv6NDOptDstLLAddr(lladdr=PEER_MAC), hlim=255)]
    yield "listener_query", 0, ipv6(IPv6ExtHdrHopByHop(options=[RouterAlert()]), ICMPv6MLQuery(mrd=100), src="fe80::9", dst="ff02::1", hlim=1)
    yield "igmp_query", 0, Ether(dst="01:00:5e:00:00:01", src=PEER_MAC) / IP(src=CLIENT, dst="224.0.0.1", ttl=1, proto=2) / \
        Raw(bytes.fromhex("110aeef500000000"))
    tag = Ether(dst=OUR_MAC, src=PEER_MAC) / Dot1Q(vlan=7)
    yield "vlan_connect", 0, tag / IP(src=CLIENT, dst=OURS) / UDP(sport=40000, dport=10000) / Raw(MESSAGES["connect"])
    yield "vlan_ipv6", 0, tag / IPv6(src=CLIENT6, dst=OURS6) / UDP(sport=40000, dport=10000) / Raw(MESSAGES["connect"])
    yield "vlan_arp", 0, tag / ARP(op=1, hwsrc=PEER_MAC, psrc=CLIENT, pdst=OURS)
    yield "vlan_other", 0, Ether(dst=OUR_MAC, src=PEER_MAC) / Dot1Q(vlan=8) / IP(src=CLIENT, dst=OURS) / UDP(sport=1, dport=10000)
    yield "vlan_untagged", 0, udp(MESSAGES["connect"])
    yield "group", 0, Ether(dst="01:00:5e:00:01:07", src=PEER_MAC) / IP(src=CLIENT, dst="224.0.1.7") / \
        UDP(sport=40000, dport=10000) / Raw(MESSAGES["searchgw"])


def change(what, place, octets, extra=b"", length=None):
    n = len(octets) if length is None else length
    return bytes([what]) + place.to_bytes(3, "big") + bytes([n]) + extra + octets


def mqtt_packets():
    """The examples of the MQTT codec's tests, each behind an octet that chooses the version, and all of a version in one stream."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib/mqtt/examples.cc")
    with open(path, encoding="utf-8") as source:
        examples = re.findall(r"\{v([35]),\s*(\w+)\{(?:.*?)((?:\"[0-9A-F ]+\"\s*)+)\}", source.read(), re.S)
    streams = {b"\0": b"", b"\1": b""}
    for n, (version, name, octets) in enumerate(examples):
        first, packet = (b"\0" if version == "3" else b"\1"), bytes.fromhex(octets.replace('"', ""))
        streams[first] += packet
        yield f"{name}_{'311' if version == '3' else '5'}_{n}", first + packet
    for first, stream in streams.items():
        yield f"stream_{first[0]}", first + stream


def websockets():
    """What clients of WebSocket send: the request of RFC 6455, 1.3, and frames, each with the mask 1, 2, 3, 4."""
    def frame(first, payload, second=0x80):
        size = bytes([second | len(payload)]) if len(payload) < 126 else bytes([second | 126]) + struct.pack(">H", len(payload))
        mask = b"\1\2\3\4" if second else b""
        return bytes([first]) + size + mask + bytes(b ^ (n % 4 + 1 if second else 0) for n, b in enumerate(payload))

    head = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" \
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
    ready = head + b"\r\n"
    yield "request", ready
    yield "origin", head + b"Origin: https://example.org\r\n\r\n"
    yield "path", ready.replace(b"/mqtt ", b"/other?a=b ")
    yield "body", head + b"Content-Length: 5\r\n\r\nhello"
    yield "folded", head + b"X: a\r\n b\r\n\r\n"
    yield "method", ready.replace(b"GET", b"POST")
    yield "version", ready.replace(b"HTTP/1.1", b"HTTP/1.0")
    yield "old", ready.replace(b"Version: 13", b"Version: 8")
    yield "long", head + b"X: " + b"x" * 1200 + b"\r\n\r\n"
    yield "not_http", b"\x10\x0c\0\4MQTT\4\2\0\0\0\0"
    yield "binary", ready + frame(0x82, b"hello")
    yield "parts", ready + frame(0x02, b"he") + frame(0x89, b"ping") + frame(0x80, b"llo")
    yield "longer", ready + frame(0x82, b"x" * 300)
    yield "close", ready + frame(0x82, b"last") + frame(0x88, b"\x03\xe8bye")
    yield "close_reason", ready + frame(0x88, b"\3\xe8" + "\u00e9\U0001f600".encode())
    yield "close_wrong_twice", ready + frame(0x89, b"ping") + frame(0x88, b"\xa4\1\xff\xff")
    yield "text", ready + frame(0x81, b"text")
    yield "no_mask", ready + frame(0x82, b"x", 0)
    yield "reserved", ready + frame(0xc3, b"x")
    yield "eight_octets_of_size", ready + b"\x82\xff\0\0\0\0\0\0\0\3\1\2\3\4abc"


SEEDS = {
    "mqttsn": lambda: MESSAGES.items(),
    "mqtt": mqtt_packets,
    "upgrade": lambda: [(name, b"\7" + octets) for name, octets in websockets()],
    "worker": lambda: [(f"{name}_{w}", bytes([w]) + steps) for name, steps in sequences() for w in (0, 1)],
    "frame": lambda: [(name, bytes([name.startswith("vlan_")]) + b"".join(
        bytes([how | (0 if bytes(f)[0] & 1 else 32) | 3]) + struct.pack(">H", len(bytes(f))) + bytes(f)
        for f in (sent if isinstance(sent, list) else [sent]))) for name, how, sent in frames()],
    "region": lambda: [
        ("untouched", b"\0"),
        ("superblock", b"\0" + change(1, 16, b"\1")),
        ("superblock_forged", b"\1" + change(0, 40, b"\xff" * 8)),
        ("root_forged", b"\1" + change(0, 8192 + 8, b"\xff" * 16)),
        ("session", b"\0" + change(1, 12288, b"\2")),
        ("session_forged", b"\1" + change(0, 12288 + 4, b"\7\0\0\0")),
        ("slot", b"\0" + change(1, 0x6de0, b"\4")),
        ("zeroed_page", b"\0" + change(3, 0x6000, b"", length=63)),
        ("line_copied", b"\0" + change(2, 0x3800, b"", extra=(0x3840).to_bytes(3, "big"), length=0)),
        ("line_of_before", b"\0" + change(4, 0x3200, b"", length=1)),
    ],
    "journal": lambda: [
        ("untouched", b"\0"),
        ("header_forged", b"\1" + (80).to_bytes(3, "big") + b"\x08" + b"\x40" + b"\0" * 7),
        ("tail_wraps", b"\1" + (80).to_bytes(3, "big") + b"\x08" + b"\x40" + b"\xff" * 7),
        ("record_torn", b"\0" + (8192 + 200).to_bytes(3, "big") + b"\x01\xff"),
        ("record_forged", b"\2" + (8192 + 32).to_bytes(3, "big") + b"\x08\x80" + b"\0" * 7),
        ("cut_short", b"\4\0\0\0\0\0\x10\0"),
    ],
    "topics_file": lambda: [
        ("usual", b"# id name\n1 a/b\n2 c\n65534 last/one\n"),
        ("bad_id", b"0 a\n"), ("twice", b"1 a\n1 b\n"), ("wildcard", b"3 a/#\n"), ("no_name", b"7\n"),
        ("blank", b"\n   \n\t\n"), ("binary", bytes(range(256))),
    ],
    "access_file": lambda: [
        ("usual", b"# who may do what\ndefault deny\ndeny all client guest* listener 1\nallow connect client sensor-* from "
                  b"10.0.0.0/8\nallow publish client sensor-* topic a/%c/#\nallow publish,subscribe from fd00::/8\n"
                  b"allow publish unconnected from 10.0.0.0/8 topic a\n"),
        ("quotes", b"allow publish client \"a \\\"b\\\\\" topic \"a b/#\"\r\n"), ("open_quote", b"deny connect client \"a\n"),
        ("holes", b"deny subscribe topic a/b\nallow subscribe topic a/#\nallow subscribe topic +/b\ndefault allow\n"),
        ("client_in_topic", b"deny publish,subscribe topic %c/+/x\nallow publish,subscribe topic %c\nallow all client ?\n"),
        ("dollar", b"allow subscribe topic #\ndeny subscribe topic $S/#\nallow subscribe\n"),
        ("range", b"allow connect from 10.0.0.1/8\n"), ("ranges", b"allow connect from ::/0\ndeny connect from 0.0.0.0/0\n"),
        ("many", b"".join(b"allow publish,subscribe client ? topic a/%d/#\n" % i for i in range(16)) + b"deny subscribe client a\n"),
        ("percent", b"allow publish topic 100%\n"), ("no_action", b"allow\n"), ("blank", b"\n   \n\t\n"),
        ("binary", bytes(range(256))),
    ],
    "tcp": lambda: tcp_steps(),
    "clients": lambda: client_steps(),
    "scram": lambda: [(name, len(first).to_bytes(2, "big") + first + last) for name, first, last in (
        ("usual", b"n,,n=ann,r=x", b"c=biws,r=xnonce,p=" + b"A" * 43 + b"="), ("binding", b"y,,n=ann,r=x", b"c=eSws,r=xnonce,p=AAAA"),
        ("identity", b"n,a=a=2Cb=3D,n=a=2Cb=3D,r=!~", b"c=bixhPWE9MkNiPTNELA==,r=!~nonce,x=y,p=" + b"B" * 43 + b"="),
        ("plus", b"p=tls-unique,,n=ann,r=x", b""), ("extension", b"n,,m=1,n=ann,r=x", b""), ("empty", b"", b""))],
    "password_file": lambda: [
        ("usual", b"# users\nu1:$7$101$GLdc7yr6DHoV1muy$9MNr0i7a4tTIVNcw1t8ubH+bxKgmCm1mYD1qEX4DxVHL2xIP0QGuYBhErXeZK++"
                  b"pzycWnU1C9pwYUgNi+Cx47g==\r\n\r\nu2:$7$20000$c2FsdHNhbHQ=$" + b"A" * 86 + b"==\n"),
        ("old", b"u:$6$salt$hash\n"), ("twice", (b"u:$7$1$c2FsdHNhbHQ=$" + b"A" * 86 + b"==\n") * 2),
        ("rounds", b"u:$7$0$c2FsdHNhbHQ=$" + b"A" * 86 + b"==\n"), ("salt", b"u:$7$1$c2Fs$" + b"A" * 86 + b"==\n"),
        ("no_colon", b"user\n"), ("no_name", b":$7$\n"), ("blank", b"\n\r\n"), ("binary", bytes(range(256))),
    ],
    "config_file": lambda: [
        ("usual", b"region = /var/lib/chainring/region\nsize = 256M\naddress = 192.0.2.1/24\nudp-port = 10000\n"
                  b"queue-size = 1024\noverflow = drop-oldest\nidle = sleep\n"),
        ("unknown", b"colour = blue\n"), ("section", b"[broker]\nmtu = 9000\n"),
        ("list", b"address = [\"192.0.2.1/24\", \"198.51.100.1/24\"]\ngateway = [\"0.0.0.0\", \"198.51.100.9\"]\n"),
        ("flag", b"interactive = true\npartial-checksums = false\n"), ("size", b"16G"), ("address", b"192.0.2.1/24"),
        ("quotes", b"region = \"a b'c\n"), ("range", b"mtu = 99999999999999999999\n"),
    ],
}


def tcp_steps():
    """What tests/fuzz/tcp.cc does: segments of its peers, the handler's doing, and time."""
    FIN, SYN, RST, ACK = 1, 2, 4, 16

    def go_on(peer, flags, payload=0, options=b""):
        return bytes([4, peer, flags, len(options)]) + options + payload.to_bytes(2, "big")

    def astray(peer, flags, sequence, acknowledged, payload=0):
        return bytes([3, peer, flags]) + b"".join((0x4000 + n).to_bytes(2, "big") for n in (sequence, acknowledged)) + \
            bytes([0]) + payload.to_bytes(2, "big")

    def act(what, number=b""):
        return bytes([1, what, 0]) + number

    def wait(sixteenths):
        return bytes([2, sixteenths])

    def opened(peer, options=b""):
        return go_on(peer, SYN, options=options) + go_on(peer, ACK)

    mss = b"\x02\x04\x05\xb4\x04\x02"
    write, consume, close, abort, device_full = range(5)
    return [
        ("talk", opened(0, mss) + go_on(0, ACK, 100) + go_on(0, FIN | ACK) + act(close) + go_on(0, ACK)),
        ("talk_ipv6", opened(1, mss) + go_on(1, ACK, 100) + go_on(1, ACK) + act(close) + go_on(1, ACK) + go_on(1, FIN | ACK) + wait(255)),
        ("cookies", b"".join(go_on(p, SYN, options=mss) for p in range(8)) +
         b"".join(go_on(p, ACK) + go_on(p, ACK, 50) for p in range(8)) + wait(255)),
        ("reset", opened(0) + astray(0, RST, 5, 0) + astray(0, SYN, 9, 0) + astray(0, ACK, 0, 99, 20) + go_on(0, RST)),
        ("out_of_order", opened(2, mss) + astray(2, ACK, 200, 0, 100) + astray(2, ACK, 100, 0, 100) + go_on(2, ACK, 100) +
         go_on(2, ACK, 100) + go_on(2, ACK, 100)),
        ("much", opened(3, mss) + act(write, b"\xff\xff") + go_on(3, ACK) + go_on(3, ACK) + wait(40) + go_on(3, ACK) + act(abort)),
        ("retransmitted", opened(0) + act(device_full) + act(write, b"\x01\x00") + wait(20) + act(device_full) + wait(40) + go_on(0, ACK)),
        ("windows", opened(0) + go_on(0, ACK, 1399) * 3 + act(consume, b"\xff\xff\xff\xff") + wait(8)),
        ("again", opened(0) + act(close) + go_on(0, ACK) + go_on(0, FIN | ACK) + astray(0, SYN, 300, 0) + wait(255)),
        ("many", b"".join(opened(p) for p in range(8)) + b"".join(go_on(p, ACK, 10) for p in range(8)) + b"".join(act(close) for _ in range(6))),
        ("packet", bytes([0, 0, 40]) + bytes(IP(src="192.0.2.9", dst="192.0.2.1") / TCP(sport=1, dport=1883, flags="S")) + bytes([0, 0])),
        ("packet_ipv6", bytes([0, 0, 68]) + bytes(IPv6(src="2001:db8::9", dst="2001:db8::1") / IPv6ExtHdrDestOpt() /
                                                   TCP(sport=1, dport=1883, flags="S")) + bytes([0, 0])),
    ]


def client_steps():
    """What tests/fuzz/clients.cc does: packets of MQTT clients, their connections, and the broker's rounds."""
    OCTETS, SLOWLY, ANSWER, HANG_UP, ROOM, ROUND, SETTLE, RESTART = range(8)

    def text(value):
        return len(value).to_bytes(2, "big") + value

    def packet(first, body=b""):
        return bytes([first, len(body)]) + body

    def step(what, client=0, argument=b""):
        return bytes([what << 2 | client]) + argument

    def send(client, *packets, how=OCTETS):
        octets = b"".join(packets)
        return step(how, client, bytes([len(octets)]) + octets)

    def connect(name, v5=False, clean=False, properties=b"", will=b"", will_flags=0):
        flags = 2 * clean | (4 | will_flags if will else 0)
        own = bytes([len(properties)]) + properties if v5 else b""
        return packet(0x10, text(b"MQTT") + bytes([5 if v5 else 4, flags]) + b"\0\0" + own + text(name) + will)

    def subscribe(topic, options, v5=False, properties=b""):
        return packet(0x82, b"\0\7" + (bytes([len(properties)]) + properties if v5 else b"") + text(topic) + bytes([options]))

    def publish(topic, qos, number=1, v5=False, properties=b"", flags=0, payload=b"m"):
        return packet(0x30 | qos << 1 | flags, text(topic) + (number.to_bytes(2, "big") if qos else b"") +
                      (bytes([len(properties)]) + properties if v5 else b"") + payload)

    lasting = b"\x11\xff\xff\xff\xff"
    settle, answers = step(SETTLE), lambda client: b"".join(step(ANSWER, client) + step(SETTLE) for _ in range(6))
    pair = send(0, connect(b"s", True, properties=lasting), subscribe(b"t/#", 2, True)) + settle + send(1, connect(b"p")) + settle
    return [
        ("talk", pair + send(1, publish(b"t/a", 1), publish(b"t/b", 2, 2)) + settle + answers(1) + answers(0)),
        ("slowly", send(2, connect(b"x", clean=True), subscribe(b"t", 1), publish(b"t", 1), how=SLOWLY) + settle + answers(2)),
        ("restart", pair + send(1, publish(b"t/a", 2)) + settle + step(RESTART) + send(0, connect(b"s", True, properties=lasting)) +
         settle + answers(0) + send(1, connect(b"p"), publish(b"t/a", 2, flags=8)) + settle + answers(1) + answers(0)),
        ("takeover", pair + send(2, connect(b"s")) + settle + send(1, publish(b"t/a", 1)) + settle + answers(2) +
         send(3, connect(b"s", True)) + settle),
        ("refuses", pair + step(ROOM, 0, b"\1") + b"".join(send(1, publish(b"t/a", 1, n, payload=b"m" * 99)) + settle for n in range(1, 9)) +
         step(ROOM, 0, b"\xff") + settle + answers(0)),
        ("wills", send(0, connect(b"w", will=text(b"t/w") + text(b"gone"), will_flags=0x28)) + settle + send(1, connect(b"s", True),
         subscribe(b"t/#", 1, True)) + settle + step(HANG_UP, 0, b"\0") + settle + answers(1)),
        ("will_v5", send(0, connect(b"w", True, will=b"\5\x18\0\0\0\1" + text(b"t/w") + text(b"gone"), will_flags=8)) + settle + step(HANG_UP, 0, b"\1") + settle),
        ("limits", send(0, connect(b"s", True, properties=b"\x21\0\1\x27\0\0\0\x40" + lasting), subscribe(b"t", 1, True)) + settle +
         send(1, connect(b"p"), *(publish(b"t", 1, n) for n in (1, 2, 3))) + settle + answers(0)),
        ("aliases", send(0, connect(b"s", True, properties=b"\x22\0\2"), subscribe(b"t/#", 0, True)) + settle + send(1, connect(b"p", True),
         publish(b"t", 0, v5=True, properties=b"\x23\0\1"), publish(b"", 0, v5=True, properties=b"\x23\0\1")) + settle),
        ("shared", send(0, connect(b"a", True), subscribe(b"$share/g/t", 1, True)) + send(1, connect(b"b", True),
         subscribe(b"$share/g/t", 1, True, b"\x0b\5")) + settle + send(2, connect(b"p"), publish(b"t", 1), publish(b"t", 1, 2)) + settle + answers(0) + answers(1)),
        ("retained", send(0, connect(b"p"), publish(b"t", 1, flags=1), publish(b"t/u", 1, 2, flags=1)) + settle +
         send(1, connect(b"s"), subscribe(b"t/#", 1)) + settle + answers(1) + send(0, publish(b"t", 1, 4, flags=1, payload=b"")) + settle),
        ("denied", send(0, connect(b"p", True), publish(b"denied/t", 1, v5=True), subscribe(b"denied/#", 1, True)) + settle +
         send(1, connect(b"q"), publish(b"denied/t", 2)) + settle),
        ("faults", send(0, publish(b"t", 0)) + send(1, connect(b"a"), connect(b"a")) + send(2, connect(b"b"), b"\x20\2\0\0") +
         send(3, connect(b"c", True), packet(0xF0)) + settle + send(0, connect(b"d"), bytes([0x30, 0xff, 0xff, 0xff, 0x7f])) + settle),
        ("ends", pair + send(1, publish(b"t/a", 1), b"\xe0\0", b"\xc0\0") + settle + step(HANG_UP, 0, b"\2") + send(0, connect(b"s", True)) + step(ROUND)),
        ("unsubscribe", pair + send(0, packet(0xA2, b"\0\1\0" + text(b"t/#"))) + send(1, publish(b"t/a", 1)) + settle + send(0, packet(0xC0)) + settle),
    ]


def main():
    for target, seeds in SEEDS.items():
        directory = os.path.join(sys.argv[1], target)
        os.makedirs(directory, exist_ok=True)
        for name, data in seeds():
            with open(os.path.join(directory, name), "wb") as out:
                out.write(data)


if __name__ == "__main__":
    main()
