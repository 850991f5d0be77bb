#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Start-up errors say what was probably meant and what to do: a misspelt argument, a forgotten "--", what
EAL refuses, a prefix that is in use, a configuration file with its line, sizes that contradict each
other. And a broker that is started without descriptors, hung up on, or limited in its file sizes
does not break. TAP ports: needs root.

  test_start_up.py BROKER GENERATOR CLIENT REGION_TOOL
"""
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker
from sn_client import ACCEPTED, Client
from telemetry import Telemetry

PROGRAM, GENERATOR, CLIENT, TOOL = sys.argv[1:5]
HANG_S = 90  # this timeout only detects hangs
EAL = ["--lcores", "0@0,1@0", "--no-pci", "--no-telemetry", "--vdev=net_null0,no-rx=1"]
NO_HUGE = ["--no-huge", "-m", "256"]
SESSION = ["--file-prefix", f"crs{os.getpid()}"]


def fail(what, said):
    raise SystemExit(f"{what}\n{said}")


def refused(command, *words, without=(), status=2, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, stdin=subprocess.DEVNULL, **more)
    said = done.stdout + done.stderr
    if done.returncode != status:
        fail(f"{command}: status {done.returncode}, expected {status}", said)
    for word in words:
        if word not in said:
            fail(f"{command}: the refusal does not say '{word}'", said)
    for word in without:
        if word in said:
            fail(f"{command}: the refusal wrongly says '{word}'", said)


def test_a_misspelt_argument_is_named_with_the_nearest_name():
    own = ["--region", region, "--address", "192.0.2.1/24"]
    refused([PROGRAM, *EAL, "--", "--regoin", region, "--address", "192.0.2.1/24"], "'--regoin'", "did you mean --region?",
            without=["is required"])
    refused([PROGRAM, *EAL, "--", *own, "--bogus"], "'--bogus'", "no such argument", without=["is required", "did you mean"])
    refused([PROGRAM, *EAL, "--", *own, "--queue-sise=16"], "'--queue-sise'", "did you mean --queue-size?")
    refused([PROGRAM, *EAL, "--", "--bogus"], "'--bogus'", without=["is required"])
    refused([GENERATOR, *EAL, "--", "--brokr", "192.0.2.1"], "'--brokr'", "did you mean --broker?", without=["is required"])
    refused([CLIENT, "pub", "--topik", "a", "-m", "x"], "'--topik'", "did you mean --topic?", without=["is required"])
    refused([TOOL, "create", region, "--sise", "64M"], "'--sise'", "did you mean --size?", without=["is required"])


def test_a_forgotten_separator_is_named():
    refused([PROGRAM, *EAL, "--region", region, "--address", "192.0.2.1/24"], "'--region'", 'before "--"', without=["is required"])
    refused([PROGRAM, *EAL, "--region", region, "--", "--address", "192.0.2.1/24"], "'--region'", 'before "--"')
    refused([PROGRAM, *EAL], "is required", 'behind "--"')


def test_a_refusal_of_eal_comes_with_the_right_remedy():
    own = ["--", "--region", region, "--address", "192.0.2.1/24"]
    refused([PROGRAM, *NO_HUGE, *EAL, *SESSION, "--vdve=net_null1", *own], "'--vdve'", "did you mean --vdev?", without=["add --no-huge", "Success"])
    refused([PROGRAM, *NO_HUGE, *EAL, *SESSION, "--lcores", "0@999", *own], without=["add --no-huge", "Success"])
    refused([PROGRAM, *NO_HUGE, *EAL, *SESSION, "--proc-type", "secondary", *own], "--proc-type secondary", "primary process", "--file-prefix",
            without=["add --no-huge", "Success"])
    refused([PROGRAM, "--no-huge", "-m", "1", *EAL, *SESSION, *own], without=["add --no-huge", "Success"])
    if os.path.exists(region):
        fail("a region was made", "")


def test_a_file_prefix_in_use_is_named():
    with Broker(PROGRAM, os.path.join(scratch, "first"), "--size", "16M") as b:
        b.ready()
        refused([PROGRAM, *NO_HUGE, *EAL, "--file-prefix", b.prefix, "--", "--region", region, "--address", "192.0.2.1/24"],
                f"'{b.prefix}'", "in use", "--file-prefix", without=["Success", "add --no-huge"])
        if b.end() != 0:
            fail("the first broker", b.said())


def test_a_file_size_limit_is_named():
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    refused([PROGRAM, *NO_HUGE, *EAL, *SESSION, "--", "--region", region, "--address", "192.0.2.1/24"], "ulimit -f",
            without=["Success", "add --no-huge"], preexec_fn=limited)


def test_a_configuration_error_has_its_file_and_line():
    config = os.path.join(scratch, "conf")
    base = f'region = "{region}"\naddress = "192.0.2.1/24"\n'
    for text, *words in ((base + "# first\nudp-port = 70000\n", f"{config}:4:", "1 to 65535"),
                         (base + "queue-sise = 16\n", f"{config}:3:", "'queue-sise'", "did you mean queue-size?"),
                         (f'region = "{region}"\n\naddress = "192.0.2.1"\n', f"{config}:3:", "prefix length"),
                         (base + "queue-size = 100\nqueue-first = 200\n", f"{config}:4:", "200", "100")):
        with open(config, "w") as f:
            f.write(text)
        refused([PROGRAM, *EAL, "--", "--config", config], *words)


def test_values_that_contradict_each_other_are_refused_and_both_named():
    refused([PROGRAM, *EAL, "--", "--region", region, "--address", "192.0.2.1"], "--address", "'192.0.2.1'", "192.0.2.1/24")
    refused([PROGRAM, *EAL, "--", "--region", region, "--address", "192.0.2.1/24", "--queue-size", "100", "--queue-first", "200"],
            "--queue-first", "200", "100", "--queue-size")
    whole = os.path.join(scratch, "whole")
    with Broker(PROGRAM, whole, "--size", "64M", "--queue-size", "100") as b:
        b.ready()
        if b.end() != 0:
            fail("a --queue-size below the default --queue-first", b.said())
    with Broker(PROGRAM, whole, "--size", "32M") as b:
        status, said = b.refused()
        if status != 2 or "--size 32M" not in said or "64M" not in said:
            fail(f"a smaller --size: status {status}", said)
    with Broker(PROGRAM, whole, "--size", "64M") as b:
        b.ready()
        if b.end() != 0:
            fail("the same --size again", b.said())


def test_a_broker_started_without_standard_descriptors_serves_and_ends():
    for missing in ("2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"):
        b = Broker.__new__(Broker)
        path = os.path.join(scratch, "bare" + missing.replace(" ", "").replace("&-", ""))
        command = [PROGRAM, *b.eal("net_null0,no-rx=1", telemetry=True), "--", "--region", path, "--size", "16M", "--address",
                   "192.0.2.1/24", "--idle", "sleep"]
        b.start(["bash", "-c", f'exec "$@" {missing}', "bash", *command])
        with b:
            end = time.monotonic() + HANG_S
            while not os.path.exists(f"/run/dpdk/{b.prefix}/dpdk_telemetry.v2") and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(1)
            for fd in range(3):
                target = os.readlink(f"/proc/{b.process.pid}/fd/{fd}")
                if "dpdk" in target or path in target:
                    fail(f"started with {missing}: descriptor {fd} is {target}", "")
            Telemetry(b.prefix).ask("/chainring/region")
            if b.end() != 0:
                fail(f"started with {missing}", b.said())


def test_hangup_pipe_and_file_size_signals_do_not_end_the_broker():
    log = os.path.join(scratch, "log")
    config = os.path.join(scratch, "hup.conf")
    with open(config, "w") as f:
        f.write('log-level = "chainring.*:error"\n')
    with Broker(PROGRAM, os.path.join(scratch, "hup"), "--size", "16M", "--log-file", log, "--config", config, telemetry=True) as b:
        end = time.monotonic() + HANG_S
        while not os.path.exists(f"/run/dpdk/{b.prefix}/dpdk_telemetry.v2") and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1)
        for s in (signal.SIGPIPE, signal.SIGXFSZ):
            b.process.send_signal(s)
        with open(config, "w") as f:
            f.write('log-level = "chainring.*:info"\n')
        os.rename(log, log + ".1")
        b.process.send_signal(signal.SIGHUP)
        while not (os.path.exists(log) and "open again" in open(log).read()):
            if time.monotonic() > end or b.process.poll() is not None:
                fail("after SIGHUP there is no new log file", b.said())
            time.sleep(0.05)
        if b.end() != 0 or "closed cleanly" not in open(log).read():
            fail("the broker does not end cleanly", open(log).read())
        for line in open(log):
            if line[4] != "-" or line[10] != "T" or not line[19:].startswith("."):
                fail("a line of the log has no wall-clock time", line)
        if "ready" in open(log + ".1").read():
            fail("the log level of the configuration file was not applied", open(log + ".1").read())


def test_a_message_too_long_for_a_packet_is_refused_at_once():
    tap = f"crl{os.getpid() % 100000}"
    with Broker(PROGRAM, os.path.join(scratch, "long"), "--size", "16M", vdev=f"net_tap0,iface={tap}", address="10.79.0.1/24") as b:
        b.ready()
        subprocess.run(["ip", "addr", "replace", "10.79.0.2/24", "dev", tap], check=True)
        subprocess.run(["ip", "link", "set", tap, "up"], check=True)
        to = [CLIENT, "pub", "-h", "10.79.0.1", "-q", "1", "-t", "a", "-d", "-m"]
        done = subprocess.run([*to, "x" * 1500], capture_output=True, text=True, timeout=HANG_S)
        if done.returncode != 1 or "too long" not in done.stderr or "1472" not in done.stderr or done.stderr.count("sent PUBLISH") > 1:
            fail(f"1,500 octets: status {done.returncode}", done.stderr)
        done = subprocess.run([*to, "x" * 1400], capture_output=True, text=True, timeout=HANG_S)
        if done.returncode != 0:
            fail(f"1,400 octets: status {done.returncode}", done.stderr)
    for command in ("pub", "sub"):
        done = subprocess.run([CLIENT, command, "--help"], capture_output=True, text=True, timeout=HANG_S)
        if f"these flags of mosquitto_{command}:" not in done.stdout:
            fail(f"{command} --help does not say which flags it lacks", done.stdout)


def test_no_client_id_breaks_telemetry():
    tap = f"crs{os.getpid() % 100000}"
    with Broker(PROGRAM, os.path.join(scratch, "names"), "--size", "16M", vdev=f"net_tap0,iface={tap}", address="10.77.0.1/24",
                telemetry=True) as b:
        b.ready()
        subprocess.run(["ip", "addr", "replace", "10.77.0.2/24", "dev", tap], check=True)
        subprocess.run(["ip", "link", "set", tap, "up"], check=True)
        shown = set()
        for name in ("\u00e9", 'a"b\\c', "\x01\x1b[2J\x7f", "\U0001f600", "plain"):
            c = Client(name, ("10.77.0.1", 10000))
            if c.connect() != ACCEPTED:
                continue  # control characters may be refused, and then nothing is shown
            c.disconnect()
            shown.add(name)
        sessions = Telemetry(b.prefix).ask("/chainring/sessions,0")  # json.loads checks that it is valid
        got = {s["client"] for s in sessions.values() if isinstance(s, dict)}
        if not {"\\u00e9", "plain", 'a\\"b\\\\c', "\\ud83d\\ude00"} <= got or len(got) != len(shown):
            fail(f"of {shown}", got)
        subprocess.run(["ip", "link", "del", tap], check=True)
        if not b.until("is down, or its interface is gone"):
            fail("a TAP that vanishes is not logged", b.said())
        time.sleep(3)
        if b.said().count("is down, or its interface") != 1 or b.end() != 0:
            fail("the log says it more than once, or the end is not clean", b.said())


with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="chainring-start-") as scratch:
    region = os.path.join(scratch, "region")
    for name, test in list(globals().items()):
        if name.startswith("test_") and (len(sys.argv) < 6 or sys.argv[5] in name):
            test()
            print(f"{name}: passed", flush=True)
