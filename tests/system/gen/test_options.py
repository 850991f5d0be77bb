#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Refusals name the argument and what is accepted, with status 2, and come before EAL starts.

  test_options.py GENERATOR
"""
import json
import os
import subprocess
import sys

from rig import EAL, Rig, expect, text

GENERATOR = sys.argv[1]
BASE = ["--broker", "10.0.0.1", "--address", "10.0.0.2/24"]


def run(*own, eal=()):
    return subprocess.run([GENERATOR, *eal, "--", *own], capture_output=True, text=True, timeout=60)


def refused(own, *words):
    done = run(*own)
    said = done.stdout + done.stderr
    expect(done.returncode == 2, "status 2 for", own, "not", done.returncode, said)
    for word in words:
        expect(word in said, f"'{word}' for", own, "in", said)
    expect("EAL" not in done.stderr, "no EAL for", own, "but", said)


done = run("--help")
expect(done.returncode == 0 and "The exit status is 0 when the contract held" in done.stdout, "help, not", done)
for option in ("--fan-out", "--phase", "--ledger", "--resume", "--drain-timeout"):
    expect(option in done.stdout, option, "in the help")
done = run("--version")
expect(done.returncode == 0 and done.stdout.startswith("dpdk-chainring-gen "), "a version, not", done)

refused([], "--broker is required")
refused(["--broker", "10.0.0.1"], "--address is required")
refused([*BASE, "--no-such"], "--no-such")
refused(["--broker", "10.0.0", "--address", "10.0.0.2/24"], "--broker", "10.0.0")
refused(["--broker", "10.0.0.1:0", "--address", "10.0.0.2/24"], "--broker", "1 to 65535")
refused(["--broker", "10.0.0.1:x", "--address", "10.0.0.2/24"], "--broker", "1 to 65535")
refused(["--broker", "10.0.0.1", "--address", "10.0.0.2/33"], "--address")
refused([*BASE, "--gateway", "ten"], "--gateway", "ten")
refused([*BASE, "--qos", "2"], "--qos", "QoS 2", "-1, 0 or 1")
refused([*BASE, "--qos", "3"], "--qos", "-1 to 2")
refused([*BASE, "--protocol", "amqp"], "--protocol", "mqtt-sn")
refused([*BASE, "--tls-ca", "/absent"], "--tls-ca", "does not exist")
refused([*BASE, "--tls-ca", "/etc/passwd"], "--tls-ca", "--protocol mqtt")
refused([*BASE, "--protocol", "mqtt", "--qos", "-1"], "--qos", "QoS -1", "0, 1 or 2")
refused([*BASE, "--protocol", "mqtt", "-p", "4", "-t", "4", "--fan-out", "1", "--source-ports", "7"], "--protocol", "--source-ports (7)", "8")
refused([*BASE, "--payload", "35"], "--payload", "36 to 1463")
refused([*BASE, "--payload", "1464"], "--payload", "36 to 1463", "--mtu 1500")
refused([*BASE, "--payload", "100-50"], "--payload", "MIN-MAX")
refused([*BASE, "--payload", "-64"], "--payload")
refused([*BASE, "--mtu", "100"], "--mtu", "576 to 9000")
refused([*BASE, "--publishers", "2000000"], "--publishers", "0 to 1000000")
refused([*BASE, "-p", "0", "-s", "0"], "--publishers", "no clients")
refused([*BASE, "--topics", "0"], "--topics", "1 to 1000000")
refused([*BASE, "--topics", "4000", "--qos", "-1"], "--topics", "1 to 3844")
refused([*BASE, "--fan-out", "2", "--subscribers", "3"], "--fan-out", "--subscribers")
refused([*BASE, "--fan-out", "1000000", "--topics", "2"], "--fan-out", "2000000")
refused([*BASE, "--prefix", "with/slash"], "--prefix", "1 to 10")
refused([*BASE, "--prefix", "elevenchars"], "--prefix", "1 to 10")
refused([*BASE, "--source-port", "60000", "--source-ports", "10000"], "--source-ports", "1 to 5536")
refused([*BASE, "--phase", "late"], "--phase", "subscribe")
refused([*BASE, "--phase", "publish"], "--phase", "--ledger")
refused([*BASE, "--phase", "collect", "--ledger", "l"], "--phase", "--resume")
refused([*BASE, "--phase", "subscribe", "--ledger", "l", "--clean"], "--clean", "--phase all")
refused([*BASE, "--resume"], "--resume", "--ledger")
refused([*BASE, "--rate", "-1"], "--rate", "0 to")
refused([*BASE, "--drain-timeout", "0"], "--drain-timeout", "0.1 to")
refused([*BASE, "--idle", "never"], "--idle", "poll")
refused([*BASE, "-p", "1000000", "-s", "1000", "--wildcard"], "MiB", "--window")

with Rig(GENERATOR) as rig:
    path = os.path.join(rig.dir, "ledger")
    refused([*BASE, "--ledger", path, "--resume"], path, "No such file")
    done = run(*BASE, "-p", "2", "--ledger", path, "--drain-timeout", "0.2",
               eal=["--lcores", "0@0", *EAL, "--no-telemetry", "--file-prefix", rig.prefix, "--vdev=net_null0"])
    expect(done.returncode == 3 and "never answered" in done.stdout, "status 3 without a broker, not", done)
    refused([*BASE, "--ledger", path], "--ledger", "--resume")
    refused([*BASE, "--ledger", path, "--resume", "-p", "3"], "--publishers", "another value")
    refused([*BASE, "--ledger", path, "--resume", "--payload", "65"], "--payload", "another value")
    whole = text(path)

    def damaged(change, *words):
        state = json.loads(whole)
        change(state)
        with open(path, "w") as f:
            json.dump(state, f)
        refused([*BASE, "--ledger", path, "--resume"], path, "cannot be resumed", *words)

    with open(path, "w") as f:
        f.write(whole[:len(whole) // 2])
    refused([*BASE, "--ledger", path, "--resume"], path, "cannot be resumed")
    damaged(lambda s: s.update(chainring_ledger=2), "format")
    damaged(lambda s: s.pop("publishers"), "publishers")
    damaged(lambda s: s["publishers"].pop(), "publishers", "expected 2")
    damaged(lambda s: s["publishers"][0].update(acked=5), "acked", "0 to 0")
    damaged(lambda s: s["publishers"][0].update(sent=-1), "sent")
    damaged(lambda s: s["publishers"][0].update(sent=1 << 50), "acked")
    damaged(lambda s: s["publishers"][0].update(starts=[]), "starts")
    damaged(lambda s: s["publishers"][0]["subscribers"][0].update(delivered=[[1, 99]]), "delivered")
    damaged(lambda s: s["shape"].update(topics=0), "topics")
    damaged(lambda s: s["shape"].update(payload_max=70000), "payload_max")

    done = run(*BASE, "--payload", "1463", eal=["--lcores", "0@0", *EAL, "--no-telemetry", "--file-prefix", rig.prefix])
    expect(done.returncode == 2 and "EAL found no port" in done.stderr, "status 2 without a port, not", done)
print("all refusals are right")
