#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of the fuzz targets' corpora from packets that scapy makes.   make_corpus.py DIRECTORY

Files are named after their contents. Inputs that once crashed a target lie beside them and are not
changed. The seeds of the ledger come from the generator: see docs/guides/fuzzing.md.
"""
import os
import struct
import sys

from scapy.contrib import mqttsn as sn
from scapy.layers.inet import ICMP, IP, UDP, IPOption_RR, fragment
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


SEEDS = {
    "mqttsn": lambda: MESSAGES.items(),
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
    "config_file": lambda: [
        ("usual", b"region = /var/lib/chainring/region\nsize = 256M\naddress = 192.0.2.1/24\nudp-port = 10000\n"
                  b"queue-size = 1024\noverflow = drop-oldest\nidle = sleep\n"),
        ("unknown", b"colour = blue\n"), ("section", b"[broker]\nmtu = 9000\n"),
        ("list", b"address = [\"192.0.2.1/24\", \"198.51.100.1/24\"]\ngateway = [\"0.0.0.0\", \"198.51.100.9\"]\n"),
        ("flag", b"interactive = true\npartial-checksums = false\n"), ("size", b"16G"), ("address", b"192.0.2.1/24"),
        ("quotes", b"region = \"a b'c\n"), ("range", b"mtu = 99999999999999999999\n"),
    ],
}


def main():
    for target, seeds in SEEDS.items():
        directory = os.path.join(sys.argv[1], target)
        os.makedirs(directory, exist_ok=True)
        for name, data in seeds():
            with open(os.path.join(directory, name), "wb") as out:
                out.write(data)


if __name__ == "__main__":
    main()
