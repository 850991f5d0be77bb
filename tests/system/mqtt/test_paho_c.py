#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Eclipse Paho's client library in C (libpaho-mqtt) with the broker: both versions, by TCP and by TLS, over the kernel's
TCP behind a TAP port. Needs root.

  test_paho_c.py BROKER DIRECTORY PAHO_CLIENT
"""
import os
import sys
import tempfile

sys.dont_write_bytecode = True
from certificates import Files
from mqtt_rig import NET, expect, run, same, start

PROGRAM, DIRECTORY, CLIENT = sys.argv[1:4]
HOST = NET + ".1"

with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
    files = Files(directory)
    server, key = files("server", "/CN=broker", f"IP:{HOST}")
    with start(PROGRAM, os.path.join(directory, "region"), "--listen", "mqtt://", "--listen", "mqtts://", "--tls-cert", server,
               "--tls-key", key) as b:
        for version in ("3", "5"):
            for uri, more in ((f"tcp://{HOST}:1883", ()), (f"ssl://{HOST}:8883", (files.ca,))):
                print(run(CLIENT, uri, version, *more).strip(), flush=True)
                expect(b.process.poll() is None, "the broker ended", b.said())
        same("the end", b.end(), 0)
