# SPDX-License-Identifier: BSD-3-Clause
"""The normative statements of MQTT-SN 1.2 in our own words, in the order of its sections. A statement
that binds only clients is marked CLIENT: no test of a gateway can show it. One that Chainring departs
from is marked with the reason, which the table prints."""

CLIENT = "binds clients"


class Departs(str):
    """Why the gateway does something else."""


STATEMENTS = {
    # 5.2: the header
    "5.2.1/1": "The length counts every octet of the message, its own included.",
    "5.2.1/2": "A first octet of 0x01 announces a length of two octets, the most significant first.",
    "5.2.1/3": "A message shorter than 256 octets may use the short form; both forms mean the same.",
    "5.2.2/1": "A message of a reserved type is not a message of the protocol.",
    # 5.3: the fields
    "5.3.1/1": "A client id has 1 to 23 characters.",
    "5.3.4/1": "DUP is 0 when a PUBLISH is sent for the first time, and 1 when it is repeated.",
    "5.3.4/2": "QoS -1 may only be used in a PUBLISH of a client.",
    "5.3.4/3": "The topic id type 0b11 is reserved.",
    "5.3.8/1": "The protocol id is 0x01; all other values are reserved.",
    "5.3.10/1": "A return code is one of accepted, congestion, invalid topic id and not supported.",
    "5.3.11/1": "The topic ids 0x0000 and 0xFFFF are not used.",
    # 5.4: the messages
    "5.4.1/1": "ADVERTISE carries the gateway's id and the seconds until the next one.",
    "5.4.3/1": "GWINFO of a gateway carries its id and no address.",
    "5.4.5/1": "CONNACK answers a CONNECT with a return code.",
    "5.4.6/1": "WILLTOPICREQ has only a header.",
    "5.4.7/1": "WILLTOPIC carries the QoS and the retain flag of the will.",
    "5.4.7/2": "An empty WILLTOPIC deletes the stored will.",
    "5.4.8/1": "WILLMSGREQ has only a header.",
    "5.4.10/1": "A REGISTER of a gateway carries the topic id that it has assigned to the name.",
    "5.4.11/1": "REGACK carries the topic id to use and the message id of its REGISTER.",
    "5.4.12/1": "A PUBLISH at QoS 0 has the message id 0x0000.",
    "5.4.13/1": "PUBACK carries topic id and message id of its PUBLISH.",
    "5.4.14/1": "PUBREC, PUBREL and PUBCOMP carry the message id of their PUBLISH.",
    "5.4.16/1": "SUBACK carries the granted QoS, the topic id to use, and the message id of its SUBSCRIBE.",
    "5.4.16/2": "The unused bits of SUBACK's flags are 0.",
    "5.4.18/1": "UNSUBACK carries the message id of its UNSUBSCRIBE.",
    "5.4.19/1": "PINGREQ may carry a client id.",
    "5.4.20/1": "PINGRESP has only a header.",
    "5.4.21/1": "A DISCONNECT of a gateway carries no duration.",
    "5.4.24/1": "WILLTOPICRESP acknowledges WILLTOPICUPD with a return code, in 3 octets.",
    "5.4.25/1": "WILLMSGRESP acknowledges WILLMSGUPD with a return code, in 3 octets.",
    # 5.5: forwarders
    "5.5/1": "The length of an encapsulated frame covers the header up to the node id only.",
    "5.5/2": "The gateway encapsulates what it sends to a node behind a forwarder, with the node's id.",
    "5.5/3": "The control octet of a frame to a forwarder carries the broadcast radius.",
    # 6.1: discovery
    "6.1/1": "A gateway may announce itself by broadcasting ADVERTISE periodically.",
    "6.1/2": "The duration in ADVERTISE is the time until the gateway sends the next one.",
    "6.1/3": "A gateway replies to SEARCHGW with GWINFO.",
    "6.1/4": "GWINFO is broadcast with the radius of the SEARCHGW.",
    "6.1/5": "A client delays its SEARCHGW by a random time, and cancels it when it hears another one.",
    # 6.2: connecting
    "6.2/1": "Without the will flag a CONNECT is answered with CONNACK at once.",
    "6.2/2": "With the will flag the gateway prompts for the will's topic, then for its message, then sends CONNACK.",
    "6.2/3": "A connection that the gateway cannot accept is answered with CONNACK and the reason.",
    # 6.3: clean sessions
    "6.3/1": "CleanSession and Will: subscriptions and will are deleted, and a new will is prompted for.",
    "6.3/2": "CleanSession without Will: subscriptions and will are deleted, and nothing is prompted for.",
    "6.3/3": "Will without CleanSession: everything is kept, and the new will replaces the old.",
    "6.3/4": "Neither flag: everything is kept, and nothing is prompted for.",
    "6.3/5": "A client deletes only its will by CONNECT without CleanSession, with Will, and an empty WILLTOPIC.",
    # 6.4: updating a will
    "6.4/1": "WILLTOPICUPD replaces the topic of the stored will.",
    "6.4/2": "WILLMSGUPD replaces the message of the stored will.",
    "6.4/3": "An empty WILLTOPICUPD deletes the will.",
    # 6.5: topic names
    "6.5/1": "An accepted REGISTER is answered with the topic id that is assigned to the name.",
    "6.5/2": "A REGISTER that cannot be accepted is answered with the reason.",
    "6.5/3": "A client has at most one REGISTER outstanding.",
    "6.5/4": "The gateway registers a name with a client before it publishes to a wildcard subscription.",
    "6.5/5": "The gateway registers names again for a client that reconnects without CleanSession.",
    # 6.6: publishing
    "6.6/1": "QoS 0, 1 and 2 are supported with the flows of MQTT.",
    "6.6/2": "A PUBLISH with an unknown topic id is answered with 'invalid topic id' at every QoS.",
    "6.6/3": "A client has at most one PUBLISH at QoS 1 or 2 outstanding.",
    # 6.7: predefined and short topics
    "6.7/1": "Predefined topic ids and short names need no REGISTER.",
    "6.7/2": "A predefined topic id that is not known is answered with 'invalid topic id'.",
    "6.7/3": "A client subscribes to a predefined topic id or short name in order to receive its messages.",
    # 6.8: QoS -1
    "6.8/1": "A PUBLISH at QoS -1 needs no connection.",
    "6.8/2": "QoS -1 is allowed with predefined topic ids and short names only.",
    # 6.9: subscribing
    "6.9/1": "An accepted SUBSCRIBE to a name is answered with the topic id that is assigned to it.",
    "6.9/2": "A SUBSCRIBE that cannot be accepted is answered with the reason.",
    "6.9/3": "The SUBACK of a filter with wildcards carries the topic id 0x0000.",
    "6.9/4": "UNSUBSCRIBE is answered with UNSUBACK, and its filter matches no more.",
    "6.9/5": "A client has at most one SUBSCRIBE or UNSUBSCRIBE outstanding.",
    # 6.10: publishing to clients
    "6.10/1": "The gateway publishes with the topic id of the SUBACK.",
    "6.10/2": "After a REGISTER the gateway waits for REGACK before it publishes.",
    "6.10/3": "A client that rejects a REGISTER unsubscribes from that name.",
    "6.10/4": "After 'invalid topic id' from a client the gateway corrects the assignment.",
    "6.10/5": "A message that is too long for the client is not announced to it.",
    # 6.11: keeping alive
    "6.11/1": "PINGREQ is answered with PINGRESP.",
    "6.11/2": "A client that is silent for longer than its keep-alive time counts as lost, and its will is published.",
    # 6.12: disconnecting
    "6.12/1": "DISCONNECT is answered with DISCONNECT.",
    "6.12/2": "DISCONNECT leaves the subscriptions of a session without CleanSession in place.",
    "6.12/3": "DISCONNECT leaves the will in place, and does not publish it.",
    "6.12/4": "A message of a client that cannot be identified is answered with DISCONNECT.",
    # 6.13: repeating
    "6.13/1": "A client repeats what is not answered, at most Nretry times.",
    "6.13/2": "A request that is repeated because its answer was lost is answered again.",
    # 6.14: sleeping
    "6.14/1": "DISCONNECT with a duration is acknowledged with DISCONNECT, and the client counts as asleep.",
    "6.14/2": "Messages for a sleeping client are kept.",
    "6.14/3": "PINGREQ with the client id wakes the client: it gets its messages, and then PINGRESP.",
    "6.14/4": "Without messages PINGREQ with the client id is answered with PINGRESP at once.",
    "6.14/5": "A client that sends nothing for longer than its sleep counts as lost, and its will is published.",
    "6.14/6": "After PINGRESP the client is asleep again, and its time begins anew.",
    "6.14/7": "A sleeping client becomes active by CONNECT.",
    "6.14/8": "A sleeping client disconnects by DISCONNECT without a duration.",
    "6.14/9": "A sleeping client changes its time by DISCONNECT with another duration.",
    "6.14/10": "A sleep that is longer than the keep-alive time is no loss.",
    # 7: implementation notes
    "7.2/1": "The gateway's timers tolerate 10 % more than durations above a minute, and 50 % more than shorter ones.",
    "7.3/1": "Topic ids belong to one client, and mean nothing for another one.",
}

NOT_THE_GATEWAYS = {
    "6.1/5": CLIENT, "6.5/3": CLIENT, "6.6/3": CLIENT, "6.9/5": CLIENT, "6.13/1": CLIENT,
}
