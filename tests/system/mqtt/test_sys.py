#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The topics below $SYS, at which the broker reports about itself: their values, who is given them, and that no client
publishes there. Needs root.

  test_sys.py BROKER DIRECTORY
"""
import os
import re
import struct
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import mqtt_rig
import sn_client
from mqtt5_client import Client5
from mqtt_client import HANG_S, PUBACK, PUBLISH, Client, packet, text
from mqtt_rig import NET, expect, run, same

PROGRAM, DIRECTORY = sys.argv[1:3]
TO, SN = (f"{NET}.1", 1883), (f"{NET}.1", 10000)
LAST = "$SYS/broker/retained messages/count"  # of the values that are published one after the other
NOT_AUTHORIZED, REFUSED = 0x87, 3


def reports(c, until):
    """Takes whole reports, as {topic: text}, until one fulfils the condition."""
    end, found = time.monotonic() + HANG_S, {}
    while time.monotonic() < end:
        for topic, data, qos, retained, *_ in c.take(1):
            same("QoS and retain flag of " + topic, (qos, retained), (0, False))
            found[topic] = data.decode()
            if topic == LAST:
                if until(found):
                    return found
                found = {}
    raise SystemExit(f"no report is as expected; the last one is {found}")


def test_what_is_reported():
    watcher = Client(TO)
    same("CONNACK", watcher.connect("watcher"), (False, 0))
    same("SUBACK", watcher.subscribe("$SYS/#"), b"\1")
    other = Client(TO)
    same("CONNACK", other.connect("other"), (False, 0))
    same("SUBACK", other.subscribe("#", "+/broker/uptime"), b"\1\1")
    for n in range(3):
        other.publish(f"state/{n}", b"x", retain=True)
    other.take(3)
    away = Client(TO)
    away.connect("away", clean=False)
    away.disconnect()
    found = reports(watcher, lambda r: r.get("$SYS/broker/clients/disconnected") == "1" and r[LAST] == "3")
    expect(re.fullmatch(r"chainring version \d+\.\d+\.\d+", found["$SYS/broker/version"]), "another version", found)
    expect(re.fullmatch(r"\d+ seconds", found["$SYS/broker/uptime"]), "another time", found)
    same("clients", [found["$SYS/broker/clients/" + k] for k in ("total", "connected")], ["3", "2"])
    same("messages", [found["$SYS/broker/publish/messages/received"], found["$SYS/broker/subscriptions/count"]], ["3", "3"])
    expect(int(found["$SYS/broker/messages/received"]) >= 9, "fewer packets than were sent", found)
    sensor = sn_client.Client("sensor", SN)
    same("CONNACK", sensor.connect(), sn_client.ACCEPTED)
    same("SUBACK", sensor.subscribe(b"$SYS/broker/+"), sn_client.ACCEPTED)
    registered, end = {}, time.monotonic() + HANG_S
    while not (registered and any(b"seconds" in data for data in sensor.got)) and time.monotonic() < end:
        kind, body = sensor.receive(0.2)
        if kind == sn_client.REGISTER:
            registered[body[4:]] = body[:2]
    expect(any(b"seconds" in data for data in sensor.got), "MQTT-SN is not given the report", sensor.got)
    same("what the filter # gives", other.take(1, 0), [])
    # The client has an id of the topic now, and may not publish there for all that.
    name, topic_id = registered.popitem()
    body = sensor.ask(sn_client.encode(sn_client.PUBLISH, b"\x20" + topic_id + b"\0\7forged"),
                      lambda kind, b: kind == sn_client.PUBACK and b[2:4] == b"\0\7")
    same(f"PUBACK for {name}", body[4], REFUSED)
    mosquitto = run("mosquitto_sub", "-h", TO[0], "-t", "$SYS/broker/version", "-C", "1", "-W", "60")
    expect("chainring version" in mosquitto, "mosquitto_sub is given something else", mosquitto)
    return watcher, sensor


def test_only_the_broker_publishes_there(watcher, sensor):
    c = Client(TO)
    c.connect("forger")
    c.send(packet(PUBLISH, text("$SYS/broker/version") + b"\0\1forged", 2))
    expect(c.closed(), "a PUBLISH at QoS 1 was answered")
    c = Client(TO)
    same("CONNACK with a will", c.connect("forger", will=("$SYS/broker/version", "forged", 0, False))[1], 5)
    c = Client5(TO)
    c.connect("forger5")
    c.send(packet(PUBLISH, text("$SYS") + b"\0\1\0forged", 2))
    same("PUBACK", c.expect(PUBACK)[:3], struct.pack(">HB", 1, NOT_AUTHORIZED))
    c.publish("$SYSTEM", b"another topic")
    c.disconnect()
    same("CONNACK with a will", Client5(TO).connect("w", will=("$SYS/x", "forged", 0, False))[1], NOT_AUTHORIZED)
    same("REGACK", sensor.publish(b"$SYS/broker/uptime", b"forged"), REFUSED)
    reports(watcher, lambda r: True)
    found = reports(watcher, lambda r: True)
    expect("forged" not in found.values(), "a report is forged", found)


def main():
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        with mqtt_rig.start(PROGRAM, os.path.join(directory, "region"), "--listen", "mqtt://", "--sys-interval", "1") as b:
            watcher, sensor = test_what_is_reported()
            test_only_the_broker_publishes_there(watcher, sensor)
            same("the end", b.end(), 0)
        with mqtt_rig.start(PROGRAM, os.path.join(directory, "region"), "--listen", "mqtt://", "--sys-interval", "0") as b:
            c = Client(TO)
            c.connect("watcher")
            c.subscribe("$SYS/#")
            same("with --sys-interval 0", c.take(1, 3), [])
            same("the end", b.end(), 0)
    print("all ok")


main()
