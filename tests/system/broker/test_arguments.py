#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""dpdk-chainring refuses every argument that is malformed or out of range, with its name, the range that
it accepts, and status 2, before it starts or makes anything. --help lists each argument;
the configuration file has the same keys.

  test_arguments.py BROKER
"""
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "region"))
from regions import Broker

PROGRAM = sys.argv[1]
HANG_S = 90  # this timeout only detects hangs
# For each argument, what is refused (None when any text is accepted), and what the refusal accepts.
NUMBERS = {"--udp-port": (1, 65535), "--sys-interval": (0, 86400), "--mtu": (576, 9000), "--max-sessions": (1, 4000000), "--max-sessions-per-address": (0, 4000000),
           "--max-subscriptions": (1, 16000000), "--max-retained": (1, 16000000),
           "--max-retained-bytes": (0, 1000000000000), "--max-messages": (0, 1000000000), "--queue-size": (4, 1048576),
           "--queue-first": (0, 1048576), "--queue-size-clean": (0, 1048576), "--queue-bytes": (0, 1000000000000),
           "--retry-interval": (1, 3600), "--max-retries": (0, 100), "--requests-per-round": (0, 1000), "--max-topics": (16, 100000000),
           "--max-registrations": (16, 100000000),
           "--max-registrations-per-session": (1, 16383), "--max-subscriptions-per-session": (1, 16000000),
           "--max-qos2-per-session": (1, 65535),
           "--session-expiry": (0, 4000000000), "--message-expiry": (0, 4000000000),
           "--will-grace": (0, 86400), "--max-qos0": (16, 10000000), "--gateway-id": (1, 255),
           "--max-packet": (128, 16777216), "--max-connections": (1, 1000000), "--max-connections-per-address": (1, 1000000),
           "--max-connection-rate": (0, 1000000),
           "--helper-threads": (1, 64), "--advertise": (0, 65535), "--max-datagram": (0, 65000), "--max-nodes": (1, 1048576), "--max-nodes-per-forwarder": (1, 65535),
           "--home-seed": (0, 10**15), "--journal-cpu": (0, 1023), "--rx-in-region": (0, 65535)}
CHOICES = {"--class": ["auto", "power", "file", "process", "emulated"], "--overflow": ["reject", "drop-newest", "drop-oldest"],
           "--overflow-clean": ["reject", "drop-newest", "drop-oldest"],
           "--tls-clients": ["optional", "required"], "--tls-version": ["1.2", "1.3"],
           "--idle": ["poll", "yield", "sleep"], "--block-size": ["64", "128", "256", "512", "1024", "2048", "4096"]}
SIZES = ["--size", "--journal-size"]
OTHERS = {"--address": (["here", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/x"], "expected"),
          "--gateway": (["there", "1.2.3"], "expected"), "--multicast": (["there", "192.0.2.1", "fd00::1", "ff02::x"], "expected"),
          "--address6": (["here", "192.0.2.1/24", "fd00::1", "fd00::1/129", "fd00::1/", "fd00::g/64", "::ffff:192.0.2.1/64"], "expected"),
          "--gateway6": (["there", "192.0.2.1", "fd00::/64"], "expected"), "--vlan": (["x", "-1", "4095"], "0 to 4094"), "--predefined-topics": (["{}/absent"], "does not exist"),
          "--access": (["{}/absent"], "does not exist"),
          "--listen": (["http://", "mqtt:", "mqtt://x", "mqtt://192.0.2.9", "mqtt://192.0.2.1x", "mqtt://[::1", "mqtt://[fd00::9]:1", "mqtt://[192.0.2.1]", "mqtt://fd00::1", "mqtt://[fd00::1]x", "mqtt://:", "mqtt://:0", "mqtt://:65536", "mqtt://:1x", "mqtt:///path", "ws://:/",
                        "ws://:80/a b", "ws://x/mqtt", "ws://:80/mqtt?x", "mqtt://?", "mqtt://?max-connections", "mqtt://?max-connections=0", "mqtt://?max-connections=1000001",
                        "mqtt://?allow-anonymous=maybe", "mqtt://?max-connections=1&", "mqtt://:1?max-connections=1?",
                        "mqttsn://x", "mqttsn://192.0.2.1", "mqttsn://:", "mqttsn://:0", "mqttsn://:65536", "mqttsn://?max-connections=1"], "expected"),
          "--tls-cert": (["{}/absent"], "does not exist"), "--tls-key": (["{}/absent"], "does not exist"), "--tls-ca": (["{}/absent"], "does not exist"),
          "--tls-crl": (["{}/absent"], "does not exist"), "--psk-file": (["{}/absent"], "does not exist"),
          "--password-file": (["{}/absent"], "does not exist"),
          "--config": (["{}/absent"], "does not exist"), "--log-level": (["loud", "chainring.*:loud", ":debug", "9"], "expected")}
FLAGS = ["--partial-checksums", "--names-at-qos-minus-one", "--allow-anonymous", "--tls-identity-as-user", "--interactive", "--help", "--version"]
TEXTS = ["--region", "--log-file", "--websocket-origin"]
CERTIFICATE = ["-keyout", "{0}/key.pem", "-out", "{0}/cert.pem", "-subj", "/CN=x"]


def run(*arguments, eal=()):
    done = subprocess.run([PROGRAM, *eal, "--", *arguments], capture_output=True, text=True, timeout=HANG_S,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def fail(what, said):
    raise SystemExit(f"{what}\n{said}")


def refused(arguments, *words):
    global count
    count += 1
    status, said = run(*arguments)
    if status != 2:
        fail(f"{arguments}: status {status}", said)
    if "EAL" in said.replace("[EAL arguments]", ""):
        fail(f"{arguments}: EAL was started", said)
    for word in words:
        if word not in said:
            fail(f"{arguments}: the refusal does not say '{word}'", said)
    if os.path.exists(region):
        fail(f"{arguments}: a region was made", said)


count = 0
with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="chainring-arguments-") as scratch:
    region = os.path.join(scratch, "region")
    good = ["--region", region, "--address", "192.0.2.1/24"]

    for name, (low, high) in NUMBERS.items():
        bad = [str(high + 1), "-1", "x", "1.5", "", "99999999999999999999999"] + ([str(low - 1)] if low > 0 else [])
        for value in bad:
            refused([*good, name, value], name, *([f"{low} to {high}"] if value else []))
    for name, choices in CHOICES.items():
        for value in ("x", "AUTO", "0", choices[0] + "x"):
            refused([*good, name, value], name, *choices)
    for name in SIZES:
        for value in ("x", "M", "-1M", "1Q", "1.5G", "1MM", "99999999999999999999", "99999999T", "33T"):
            refused([*good, name, value], name, f"'{value}'", "K, M, G or T", "up to 32T")
        for value in ("0", "1023K"):
            refused([*good, name, value], name, f"'{value}'", "at least 1M")
    for name, (values, words) in OTHERS.items():
        for value in values:
            base = ["--region", region] if name == "--address" else good
            refused([*base, name, value.format(scratch)], name, words)
    for name in [*NUMBERS, *CHOICES, *SIZES, *OTHERS, *TEXTS]:
        base = ["--region", region] if name == "--address" else good[2:] if name == "--region" else good
        refused([*base, name], name)  # the value is missing
    refused([*good, "--gateway", "192.0.2.9", "--gateway", "192.0.2.8"], "--gateway", "one for each --address")
    refused([*good, "--address6", "fd00::1/64", "--address6", "fd00::2/64"], "--address6", "one for each --address")
    refused([*good, "--gateway6", "fd00::9"], "--gateway6", "one for each --address6")
    refused([*good, "--vlan", "7", "--vlan", "8"], "--vlan", "one for each port")
    refused([*good, "--multicast", "ff02::101"], "--multicast", "needs --address6")
    refused([*good, "--multicast", "225.1.1.1", "--multicast", "225.1.1.2"], "--multicast", "already")
    refused(["--region", region, "--address", "0.0.0.0/0"], "--address", "--address6")
    refused(["--region", region], "--address")
    refused([*good, "--advertise", "60"], "--advertise", "--multicast")
    refused(["--address", "192.0.2.1/24"], "--region")
    refused([*good, "--rx-in-region", "1024", "--queue-bytes", "1"], "--rx-in-region", "--queue-bytes")
    refused([*good, "--listen", "mqtt://", "--listen", "ws://:1883"], "--listen", "already")
    refused([*good, "--listen", "mqttsn://", "--listen", "mqttsn://:1"], "--listen", "one port")
    refused([*good, "--listen", "mqttsn://", "--udp-port", "10001"], "--listen", "--udp-port")
    for address in ("mqtts://", "wss://"):
        refused([*good, "--listen", address], "--listen", "--tls-cert", "--psk-file")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *(a.format(scratch) for a in CERTIFICATE)],
                   check=True, capture_output=True, timeout=HANG_S)
    cert, key = scratch + "/cert.pem", scratch + "/key.pem"
    refused([*good, "--tls-cert", cert], "--tls-key", "one for each --tls-cert")
    refused([*good, "--tls-cert", key, "--tls-key", key], "--tls-cert", key)
    refused([*good, "--tls-cert", cert, "--tls-key", cert], "--tls-cert", cert)
    refused([*good, "--tls-identity-as-user"], "--tls-identity-as-user", "--tls-ca", "--psk-file")
    refused([*good, "--tls-crl", cert], "--tls-crl", "--tls-ca")
    refused([*good, "--tls-ca", cert], "--tls-ca", "--tls-cert")
    refused([*good, "--tls-cert", cert, "--tls-key", key, "--tls-ca", cert, "--tls-crl", key], "--tls-crl", key, "revocation lists")
    psk = scratch + "/keys"
    for text, words in (("no key\n", "a colon"), ("a:1234\n", "2 octets"), ("a:" + "0" * 31 + "x\n", "digits")):
        with open(psk, "w") as f:
            f.write(text)
        refused([*good, "--psk-file", psk], "--psk-file", "keys:1", words)
    with open(psk, "w") as f:
        f.write("a:" + "01" * 16 + "\n")
    subprocess.run(["openssl", "ca", "-gencrl", "-config", "/dev/stdin", "-cert", cert, "-keyfile", key, "-out", scratch + "/crl.pem"],
                   input=f"[ca]\ndefault_ca=here\n[here]\ndatabase=/dev/null\ndefault_md=sha256\ndefault_crl_days=2\n", text=True,
                   check=True, capture_output=True, timeout=HANG_S)
    refused([*good, "--password-file", cert], "--password-file", "cert.pem:1", "colon")
    passwords = scratch + "/passwords"
    with open(passwords, "w") as f:
        f.write("# nobody\n")
    refused([*good, "--tls-clients", "required"], "--tls-clients", "--tls-ca")
    refused([*good, "--colour", "red"], "--colour")
    refused([*good, "--mtu", "1500", "--mtu", "1400"], "--mtu")

    topics = os.path.join(scratch, "topics")
    for text, words in (("x name\n", ["topics:1"]), ("1 a\n0 b\n", ["topics:2"]), ("65535 a\n", ["topics:1"]),
                        ("1 a\n1 b\n", ["topics:2"]), ("7\n", ["topics:1"]), ("3 a/#\n", ["topics:1"])):
        with open(topics, "w") as f:
            f.write(text)
        refused([*good, "--predefined-topics", topics], "--predefined-topics", *words)

    rules = os.path.join(scratch, "rules")
    for text, words in (("alow connect\n", ["rules:1", "'alow' begins no rule"]), ("default deny\nallow connect topic a\n", ["rules:2"]),
                        ("allow connect from 10.0.0.1/8\n", ["rules:1", "which must be zero"])):
        with open(rules, "w") as f:
            f.write(text)
        refused([*good, "--access", rules], "--access", *words)

    # The configuration file has the same keys and the same refusals, and refuses unknown keys.
    config = os.path.join(scratch, "chainring.conf")

    def configured(text, *words):
        with open(config, "w") as f:
            f.write(text)
        refused(["--config", config], *words)

    base = f'region = "{region}"\naddress = "192.0.2.1/24"\n'
    for name, (low, high) in NUMBERS.items():
        configured(f"{base}{name[2:]} = {high + 1}\n", name, f"{low} to {high}")
    for name, choices in CHOICES.items():
        configured(f'{base}{name[2:]} = "x"\n', name, *choices)
    configured(base + "colour = red\n", "colour")
    configured(base + "queue-sise = 16\n", "queue-sise")
    configured(base + "this is no line of a configuration\n")
    configured(f'region = "{region}"\n', "--address")

    status, said = run("--help", eal=["--no-huge"])
    for name in [*NUMBERS, *CHOICES, *SIZES, *OTHERS, *TEXTS, *FLAGS]:
        if name not in said:
            fail(f"--help does not list {name}", said)
    listed = set(re.findall(r"^\s+(?:-\w,)?(--[a-z0-9-]+)", said.split("EAL arguments:")[0], re.M))
    unknown = listed - set(NUMBERS) - set(CHOICES) - set(SIZES) - set(OTHERS) - set(TEXTS) - set(FLAGS)
    if status != 0 or unknown:
        fail(f"status {status}; --help lists {unknown}, which this test does not try", said)
    done = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, timeout=HANG_S)
    if done.returncode != 0 or "--lcores" not in done.stdout or "--queue-size" not in done.stdout:
        fail("--help before -- does not show both halves", done.stdout)

    with open(config, "w") as f:  # this file has every key, each with its own value
        f.write(base + "\n".join([
            'size = "16M"', "block-size = 512", 'class = "file"', 'journal-size = "2M"', 'gateway = "192.0.2.254"',
            "udp-port = 10011", "sys-interval = 20", "mtu = 1400", "max-sessions = 32", "max-subscriptions = 64", "max-messages = 1000",
            "queue-size = 64", 'overflow = "drop-newest"', "queue-size-clean = 16", "queue-bytes = 100000", 'overflow-clean = "drop-oldest"', "retry-interval = 3", "max-retries = 7", "requests-per-round = 2", "max-topics = 128",
            "max-registrations = 128", "max-registrations-per-session = 64",
            "max-subscriptions-per-session = 48", "max-qos2-per-session = 8", "session-expiry = 3600", "message-expiry = 7200", "will-grace = 30", "max-qos0 = 32", "gateway-id = 9", 'log-level = "chainring.*:info"', 'idle = "sleep"', "partial-checksums = true", "names-at-qos-minus-one = true", "max-nodes = 64",
            'multicast = ["225.1.1.1", "ff02::101"]', 'address6 = "fd00::1/64"', 'gateway6 = "fd00::9"', "vlan = 7", "max-datagram = 2000", "advertise = 60",
            "max-nodes-per-forwarder = 32", 'listen = ["mqtt://192.0.2.1:11883", "mqtt://[fd00::1]", "ws://", "ws://:9001/", "mqtts://", "wss://?max-connections=7&allow-anonymous=false"]', f'tls-cert = "{cert}"', f'tls-key = "{key}"', f'tls-ca = "{cert}"', f'tls-crl = "{scratch}/crl.pem"', f'psk-file = "{psk}"', 'tls-clients = "required"', 'tls-version = "1.3"', 'helper-threads = 2', f'password-file = "{passwords}"', "allow-anonymous = true", "tls-identity-as-user = true", 'websocket-origin = ["https://example.org", "null"]', "max-packet = 70000", "max-connections = 500",
            "max-connections-per-address = 50", "max-connection-rate = 20"]) + "\n")
    b = Broker.__new__(Broker)
    b.start([PROGRAM, *b.eal("net_null0,no-rx=1"), "--", "--config", config])
    with b:
        b.ready()
        if "192.0.2.1:10011" not in b.said() or b.end() != 0:
            fail("with the configuration file", b.said())
    print(f"{count} refusals, {len(listed)} arguments in --help, a configuration with every key")
