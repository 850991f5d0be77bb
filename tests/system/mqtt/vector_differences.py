# SPDX-License-Identifier: BSD-3-Clause
"""Where the broker answers mosquitto's test vectors in another way than mosquitto, and why."""
import collections

# cases: an expression that the name of the file and of the case match; broker: one that matches what the broker did;
# says: that, in words for the document; why: the reason.
Difference = collections.namedtuple("Difference", "cases broker says why")

DIFFERENCES = [
    Difference(r" v3.1 CONNECT|: issue 2163 v3$", r"^(closes the connection|(says|answers the usual CONNECT with) CONNACK 0001.*)$",
               "refuses MQTT 3.1 with return code 1",
               "MQTT 3.1 is from 2010, before the standards. The versions that are served are 3.1.1 and 5.0."),
    Difference(r" v5.0 ", r"^says DISCONNECT 81 and not DISCONNECT 82$", "ends the connection with 0x81 and not with 0x82",
               "A packet with reserved flags, a reserved type or a property that its type may not have is malformed, says MQTT 5.0 in "
               "2.1.3, 2.2.2.2 and 4.13.1. Its form is judged before it is asked who may send it."),
    Difference(r" v5.0 (PUBLISH: 30 topic 0|SUBSCRIBE: 82 (QoS|short 3)|SUBSCRIBE ALLOWED PROPERTIES: 82 with subscription-identifier=0|"
               r"UNSUBSCRIBE: A2 short 3)", r"^says DISCONNECT 82 and not DISCONNECT 81$",
               "ends the connection with 0x82 and not with 0x81",
               "MQTT 5.0 calls these a protocol error: an empty topic without an alias (3.3.2.1), a maximum QoS or a retain handling of "
               "3 (3.8.3.1), a subscription identifier of 0 (3.8.2.1.2), and a SUBSCRIBE or UNSUBSCRIBE without filters (3.8.3, "
               "3.10.3)."),
    Difference(r" v5.0 PUBLISH ALLOWED PROPERTIES: subscription-identifier", r"^says DISCONNECT 82 and not PUBACK 123410$",
               "ends the connection with 0x82", "A PUBLISH of a client may not have a subscription identifier (MQTT-3.3.4-6)."),
    Difference(r" v5.0 PUBLISH", r"^says PUBACK 123400 and not PUBACK 123410$", "answers 0x00 and not 0x10",
               "A server may say that nobody has subscribed (3.4.2.1), and this one does not ask: the message is accepted."),
    Difference(r" v5.0 PUBLISH ALLOWED PROPERTIES: topic alias > max", r"^says nothing$", "takes the message",
               "The vector's alias is above mosquitto's maximum, and within this broker's."),
    Difference(r" v5.0 PUBLISH ALLOWED PROPERTIES: maximum packet size", r"^says CONNACK 0095 and not CONNACK 0000$",
               "refuses the client with 0x95", "A client that takes packets of 20 octets cannot be told this broker's limits in CONNACK."),
    Difference(r" v5.0 PUBREC", r"^says PUBREL 000192 and not PUBREL 000100$", "answers a PUBREC that it does not know with reason 0x92",
               "There is a reason code for it, Packet Identifier not found (3.6.2.1)."),
    Difference(r"(topic|Will topic|Client ID|Username) with (U\+|0x)00(01|1F|7F|9F)",
               r"^(does not close the connection|says nothing|says (UN)?SUBACK [0-9a-f]+ and not DISCONNECT 81)$",
               "takes control characters in names",
               "A server may refuse them, and need not (1.5.3 of MQTT 3.1.1, 1.5.4 of MQTT 5.0). Wherever this broker shows a name, "
               "they are escaped."),
]
