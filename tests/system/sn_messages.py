# SPDX-License-Identifier: BSD-3-Clause
"""MQTT-SN messages as scapy builds them. Every function returns the octets of one message."""
from scapy.contrib import mqttsn as sn

ACCEPTED, CONGESTION, REJECT_ID, REJECT_UNSUPPORTED = 0, 1, 2, 3
NORMAL_ID, PREDEFINED_ID, SHORT_NAME = 0, 1, 2


def message(kind, layer=None, **fields):
    """Returns the octets of a message. A DISCONNECT without duration and an empty WILLTOPIC are built by hand,
    because scapy 2.5 adds octets to them."""
    if kind == sn.DISCONNECT and not fields:
        return b'\x02\x18'
    packet = sn.MQTTSN(type=kind)
    return bytes(packet / layer(**fields) if layer else packet)


def long_form(octets):
    """Returns the same message with the length field of three octets."""
    return b'\x01' + (len(octets) + 2).to_bytes(2, 'big') + octets[1:]


def publish(data, **fields):
    return message(sn.PUBLISH, sn.MQTTSNPublish, data=data, **fields)


def puback(tid, mid, code=ACCEPTED):
    return message(sn.PUBACK, sn.MQTTSNPuback, tid=tid, mid=mid, return_code=code)


def pubrec(mid):
    return message(sn.PUBREC, sn.MQTTSNPubrec, mid=mid)


def pubrel(mid):
    return message(sn.PUBREL, sn.MQTTSNPubrel, mid=mid)


def pubcomp(mid):
    return message(sn.PUBCOMP, sn.MQTTSNPubcomp, mid=mid)


def register(tid, mid, name):
    return message(sn.REGISTER, sn.MQTTSNRegister, tid=tid, mid=mid, topic_name=name)


def regack(tid, mid, code=ACCEPTED):
    return message(sn.REGACK, sn.MQTTSNRegack, tid=tid, mid=mid, return_code=code)


def connect(name, **fields):
    fields = dict(dict(cleansess=1, prot_id=1, duration=600), **fields)
    return message(sn.CONNECT, sn.MQTTSNConnect, client_id=name, **fields)


def connack(code=ACCEPTED):
    return message(sn.CONNACK, sn.MQTTSNConnack, return_code=code)


def willtopic(name, **fields):
    return message(sn.WILLTOPIC, sn.MQTTSNWillTopic, will_topic=name, **fields) if name else b'\x02\x07'


def willmsg(data):
    return message(sn.WILLMSG, sn.MQTTSNWillMsg, will_msg=data)


def willtopicupd(name, **fields):
    return message(sn.WILLTOPICUPD, sn.MQTTSNWillTopicUpd, will_topic=name, **fields) if name else b'\x02\x1a'


def willmsgupd(data):
    return message(sn.WILLMSGUPD, sn.MQTTSNWillMsgUpd, will_msg=data)


def willtopicresp(code=ACCEPTED):
    return message(sn.WILLTOPICRESP, sn.MQTTSNWillTopicResp, return_code=code)


def willmsgresp(code=ACCEPTED):
    return message(sn.WILLMSGRESP, sn.MQTTSNWillMsgResp, return_code=code)


def subscribe(mid, **fields):
    return message(sn.SUBSCRIBE, sn.MQTTSNSubscribe, mid=mid, **fields)


def unsubscribe(mid, **fields):
    return message(sn.UNSUBSCRIBE, sn.MQTTSNUnsubscribe, mid=mid, **fields)


def suback(tid, mid, qos=0, code=ACCEPTED):
    return message(sn.SUBACK, sn.MQTTSNSuback, qos=qos, tid=tid, mid=mid, return_code=code)


def unsuback(mid):
    return message(sn.UNSUBACK, sn.MQTTSNUnsuback, mid=mid)


def searchgw(radius):
    return message(sn.SEARCHGW, sn.MQTTSNSearchGW, radius=radius)


def gwinfo(gw_id):
    return bytes((3, sn.GWINFO, gw_id))


def disconnect(duration=None):
    return DISCONNECT if duration is None else message(sn.DISCONNECT, sn.MQTTSNDisconnect, duration=duration)


def pingreq(client_id=b''):
    return bytes((2 + len(client_id), sn.PINGREQ)) + client_id


def encapsulated(node_id, inner, radius=0):
    """The length octet covers the header and the node id only."""
    return bytes((3 + len(node_id), 0xfe, radius)) + node_id + inner


DISCONNECT, PINGREQ, PINGRESP = message(sn.DISCONNECT), message(sn.PINGREQ), message(sn.PINGRESP)
WILLTOPICREQ, WILLMSGREQ = message(sn.WILLTOPICREQ), message(sn.WILLMSGREQ)


def short_id(name):
    return int.from_bytes(name, 'big')
