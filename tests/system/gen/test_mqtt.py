#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs the generator's MQTT clients against the broker over net_memif, in two processes: fan-out, wildcards, QoS 0, 1
and 2, clean sessions, phases, and a broker that is killed and started again while both protocols publish.

  test_mqtt.py GENERATOR BROKER REGION_TOOL
"""
import os
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "mqtt"))
from certificates import Files
from rig import Rig, check, expect, text, until, verdict

LISTEN = ("--listen", "mqtt://", "--queue-size", "4096")

with Rig(*sys.argv[1:4], directory="/dev/shm") as rig:
    files = Files(rig.dir)
    certificate, key = files("server", "/CN=broker")
    BY_TLS = ("--listen", "mqtts://", "--queue-size", "4096", "--tls-cert", certificate, "--tls-key", key)
    broker = rig.start_broker(*LISTEN)
    mqtt = ("--protocol", "mqtt")

    n = 20000
    r = rig.generate(*mqtt, "-p", "16", "-t", "4", "--fan-out", "3", "-n", str(n), "--payload", "36-500")
    check(r, "fan-out 3", status=0, sent=n, acked=n, delivered=3 * n, lost=0, corrupted=0, reordered=0, owed=0,
          duplicated=0, resent=0, unacknowledged=0, malformed=0, unexpected=0, foreign=0)
    expect(r["ack_latency_us"]["count"] == n, "a latency for each acknowledgement")
    expect(r["delivery_latency_us"]["count"] == 3 * n, "a latency for each delivery")

    n = 3000
    r = rig.generate(*mqtt, "-p", "5", "-s", "3", "-t", "5", "--wildcard", "-n", str(n), "--prefix", "wild")
    check(r, "wildcard", status=0, acked=n, delivered=3 * n, lost=0, corrupted=0)

    r = rig.generate(*mqtt, "-p", "500", "-s", "500", "-t", "500", "-n", str(n), "--prefix", "many")
    check(r, "a thousand connections", status=0, acked=n, delivered=n, lost=0, corrupted=0)

    r = rig.generate(*mqtt, "-p", "4", "-s", "4", "-n", str(n), "--clean", "--prefix", "clean", "--rate", "3000")
    check(r, "clean sessions, 3000/s", status=0, acked=n, delivered=4 * n, lost=0, corrupted=0)

    r = rig.generate(*mqtt, "-p", "2", "-s", "2", "-t", "2", "-q", "0", "-n", "2000", "--rate", "2000", "--prefix", "zero")
    check(r, "QoS 0", status=0, sent=2000, acked=0, lost=0, corrupted=0, owed=0)
    expect(r["delivered"] + r["undelivered"] == 2000 and r["delivered"] > 0, "QoS 0 to be counted, not", r)

    for version in ("mqtt", "mqtt5"):
        r = rig.generate("--protocol", version, "-p", "16", "-t", "4", "--fan-out", "3", "-n", "5000", "-q", "2", "--prefix", version + "-2")
        check(r, f"QoS 2 by {version}", status=0, sent=5000, acked=5000, delivered=15000, lost=0, corrupted=0, reordered=0, owed=0,
              duplicated=0, twice=0, unacknowledged=0, malformed=0, unexpected=0)

    # MQTT publishes what clients of MQTT-SN collect, and the other way round: the ledger knows no protocol.
    for first, second in (("mqtt", "mqtt-sn"), ("mqtt-sn", "mqtt")):
        ledger = os.path.join(rig.dir, f"{first}.json")
        shape = ("-p", "4", "-s", "4", "-t", "4", "--prefix", first, "--ledger", ledger)
        check(rig.generate("--protocol", second, *shape, "--phase", "subscribe"), "subscribe", status=0)
        check(rig.generate("--protocol", first, *shape, "--phase", "publish", "-n", str(n), "--resume"), "publish", status=0,
              acked=n, owed=n)
        check(rig.generate("--protocol", second, *shape, "--phase", "collect", "--resume"), f"{first} to {second}", status=0,
              delivered=n, lost=0, corrupted=0, owed=0)
    rig.end_broker(broker)

    broker = rig.start_broker(*BY_TLS)
    r = rig.generate(*mqtt, "--tls-ca", files.ca, "-p", "100", "-s", "100", "-t", "100", "-n", "20000", "--payload", "36-1400", "--prefix", "tls")
    check(r, "200 connections by TLS", status=0, acked=20000, delivered=20000, lost=0, corrupted=0, duplicated=0, malformed=0, unexpected=0)
    stranger = files("stranger", "/CN=stranger", authority=True)[0]
    r = rig.generate(*mqtt, "--tls-ca", stranger, "-n", "1", "--drain-timeout", "2", "--prefix", "stranger")
    check(r, "a broker of another authority", status=3, sent=0)
    expect("handshakes of TLS failed" in r["verdict"], "the verdict to name TLS, not", r["verdict"])
    rig.end_broker(broker)

    # A broker that says nothing is left for another connection, long before TCP gives the first one up.
    broker = rig.start_broker(*LISTEN)
    gen = rig.start_generator(*mqtt, "-p", "4", "-s", "4", "-t", "4", "-n", "4000", "--rate", "1000", "--prefix", "still", "--drain-timeout",
                              "60", "--connection-timeout", "1")
    until(lambda: "publishing: sent" in text(gen.log), "the clients publish")
    broker.send_signal(signal.SIGSTOP)
    until(lambda: re.search(r"reconnects [1-9]", text(gen.log)), "the clients leave their connections")
    broker.send_signal(signal.SIGCONT)
    check(verdict(gen), "a broker that stood still", status=0, acked=4000, delivered=4000, lost=0, corrupted=0)
    rig.end_broker(broker)

    # Killed while clients publish and receive, and started again: nothing that was acknowledged is lost.
    # At QoS 2 nothing is delivered twice either.
    for name, qos, secure in (("QoS 1", 1, False), ("QoS 2", 2, False), ("QoS 2 by TLS", 2, True)):
        listen = BY_TLS if secure else LISTEN
        broker = rig.start_broker(*listen)
        gen = rig.start_generator(*mqtt, *(("--tls-ca", files.ca) if secure else ()), "-p", "8", "-s", "8", "-t", "8", "-n", "60000", "--rate", "6000", "--prefix", f"kill{qos}{secure:d}",
                                  "--drain-timeout", "60", "-q", str(qos))
        until(lambda: "publishing: sent" in text(gen.log), "the clients publish")
        for _ in range(3):
            time.sleep(1)
            broker.send_signal(signal.SIGKILL)
            broker.wait()
            broker = rig.start_broker(*listen)
        r = verdict(gen)
        check(r, f"killed three times at {name}", status=0, acked=60000, delivered=60000, lost=0, corrupted=0, partial=0, twice=0)
        expect(r["reconnects"] >= 16, "clients that connected again, not", r["reconnects"])
        rig.end_broker(broker)
