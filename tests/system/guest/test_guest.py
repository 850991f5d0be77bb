#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Persistent memory and power cuts, in a QEMU guest: docs/guides/guest.md says what is shown.

  test_guest.py CACHE BROKER REGION_TOOL GENERATOR SUITE...

Status 77, and a sentence, where QEMU, the kernel, root or TAP devices are not to be had. Takes
CHAINRING_SEED, and CHAINRING_GUEST_RESETS (default 21).
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import image
from disk import Disk
from machine import Machine
from rounds import Generator, Place

CACHE, BROKER, TOOL, GENERATOR = sys.argv[1:5]
SUITES = sys.argv[5:]
HERE = os.path.dirname(os.path.abspath(__file__))
RESETS = int(os.environ.get("CHAINRING_GUEST_RESETS", "21"))
SEED = int(os.environ.get("CHAINRING_SEED", random.randrange(1 << 30)))
NAMESPACE = f"crguest{os.getpid()}"
DEVICE = "/dev/dax1.0"
PLACES = [Place(0, "fsdax", "/pmem/region", "power", "0@0,1@0"), Place(1, "devdax", DEVICE, "power", "0@1,1@1"),
          Place(2, "disk", "/disk/region", "file", "0@0,1@1")]
LOAD = ["-p", "8", "-s", "4", "-t", "2", "--payload", "36-700", "--rate", "400"]
# What a suite's own words about its memory, or thousands of media, make pointless here.
LEFT_OUT = {"guest_block_store": "BlockStore.RefusesGeometryWithASentenceThatNamesTheArgument",
            "guest_message": "MessageTable.RefusesGeometryWithASentenceThatNamesTheArgument",
            "guest_durable_map": "DurableMap.NoBytesOnMediaMakeItCrash"}
begun = time.monotonic()


def say(*what):
    print(f"[{time.monotonic() - begun:5.0f} s]", *what, flush=True)


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make_namespace():
    if os.geteuid() != 0:
        raise image.Unavailable("it needs root: for TAP devices and a network namespace")
    if not os.path.exists("/dev/net/tun"):
        raise image.Unavailable("there is no /dev/net/tun")
    image.need("ip")
    try:
        run("ip", "netns", "add", NAMESPACE)
        inside = ["ip", "netns", "exec", NAMESPACE]
        run(*inside, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        for place in PLACES:
            run("ip", "-n", NAMESPACE, "tuntap", "add", place.tap, "mode", "tap")
            run("ip", "-n", NAMESPACE, "link", "set", place.tap, "up")
    except subprocess.CalledProcessError as e:
        raise image.Unavailable(f"no network namespace with TAP devices: {e}") from None
    return inside


def suite(machine, program, environment, left_out=""):
    status, output = machine.run(
        f"{environment} /bin/{program} --gtest_color=no --gtest_brief=1 --gtest_filter=-{left_out}", 300)
    last = [line for line in output.strip().splitlines() if line][-2:]
    if status != 0 or ("on media: 0 " in output):
        raise SystemExit(f"in the guest, {environment} {program} failed:\n{output}")
    say(f"{program}, {environment.split('=')[-1]}: {'; '.join(last)}")


def suites(machine):
    say(machine.check(f"CHAINRING_PMEM_DIRECTORY=/pmem CHAINRING_PMEM_DEVICE={DEVICE} CHAINRING_PLAIN_DIRECTORY=/disk "
                      "/bin/guest_pmem --gtest_color=no --gtest_brief=1", 300).strip())
    for program in (os.path.basename(s) for s in SUITES):
        if program != "guest_pmem":
            for where in ("/pmem", DEVICE):
                suite(machine, program, f"CHAINRING_TEST_MEDIA={where}", LEFT_OUT.get(program, ""))
    machine.check(f"dd if=/dev/zero of=/tmp/zeros bs=8192 count=1 2> /dev/null; rm -f /pmem/* 2> /dev/null; ls /pmem")


def mount(machine):
    machine.check("mount -t ext4 -o dax=always /dev/pmem0 /pmem && mount -t ext4 /dev/vda /disk")


def start_brokers(machine):
    for place in PLACES:
        place.start(machine)
    for place in PLACES:
        place.wait_ready(machine)


def main(directory, inside):
    choose = random.Random(SEED)
    kernel, initramfs = image.build(directory, CACHE, [BROKER, TOOL] + SUITES,
                                    {os.path.join(HERE, "init"): "/init",
                                     os.path.join(HERE, "start_broker"): "/bin/start_broker"})
    disk = Disk(os.path.join(directory, "disk.nbd"), 192 << 20, SEED)
    nvdimms = [(os.path.join(directory, f"nvdimm{i}"), mib) for i, mib in enumerate((128, 64))]
    machine = Machine(directory, kernel, initramfs, nvdimms, disk.path, [p.tap for p in PLACES], inside)
    generators = []
    try:
        disk.power_on()
        machine.start()
        say("the guest is up")
        machine.check("ndctl create-namespace -f -e namespace0.0 -m fsdax 2>&1 && "
                      "ndctl create-namespace -f -e namespace1.0 -m devdax 2>&1")
        machine.check("mkfs.ext4 -q -b 4096 /dev/pmem0 2>&1 && mkfs.ext4 -q -b 4096 /dev/vda 2>&1")
        mount(machine)
        suites(machine)
        machine.check(f"chainring-region create {DEVICE} --size 40M --max-sessions 4096 --max-subscriptions 4096 "
                      "--class power")
        start_brokers(machine)
        say("the brokers are up")
        generators = [Generator(GENERATOR, directory, NAMESPACE, p, "--ledger", os.path.join(directory, p.name + ".ledger"),
                                *LOAD) for p in PLACES]
        counts = {"kill -9 of a broker": 0, "system_reset": 0, "power cut": 0}
        while counts["system_reset"] + counts["power cut"] < RESETS:
            what = ["power cut", "kill -9 of a broker", "power cut", "system_reset"][sum(counts.values()) % 4]
            before = [g.count("acknowledged") for g in generators]
            for g, since in zip(generators, before):
                g.wait_for("acknowledged", 100, since)
            time.sleep(choose.uniform(0, 0.7))
            counts[what] += 1
            if what == "kill -9 of a broker":
                for place in PLACES:
                    place.kill(machine)
                for place in PLACES:
                    place.check_region(machine)
                say(f"{what}, each of {len(PLACES)}; regions check clean")
            else:
                if what == "power cut":
                    lost, kept = disk.cut()
                    machine.kill()
                    disk.power_on()
                    machine.start()
                    detail = f"of the unflushed sectors {lost} were lost, {kept} kept"
                else:
                    machine.system_reset()
                    detail = "the disk kept its cache"
                mount(machine)
                for place in PLACES:
                    place.check_region(machine)
                say(f"{what} {counts[what]}: {detail}; acknowledged before it: "
                    f"{', '.join(str(g.count('acknowledged')) for g in generators)}; regions check clean")
            start_brokers(machine)
        for g in generators:
            g.stop_publishing()
        failed = False
        total = dict.fromkeys(("acked", "delivered", "lost", "torn", "unknown", "partial", "duplicated", "owed"), 0)
        for g in generators:
            r = g.verdict()
            failed |= r["status"] != 0
            for name in total:
                total[name] += r[name]
            say(f"{g.place.name}, class {g.place.durability}: {r['verdict']}; {r['duplicated']} delivered again, "
                f"{r['reconnects']} reconnects; messages found at the starts: "
                f"{', '.join(map(str, g.place.recoveries))}")
        for place in PLACES:
            place.stop(machine)
            place.check_region(machine)
        say(f"resets {counts['system_reset'] + counts['power cut']} ({counts['power cut']} power cuts, "
            f"{counts['system_reset']} system_reset), kill -9 {counts['kill -9 of a broker'] * len(PLACES)}; "
            f"disk: {disk.flushes} flushes, {disk.lost} unflushed sectors lost; "
            + ", ".join(f"{name} {n}" for name, n in total.items()))
        return 1 if failed else 0
    except BaseException:
        print(f"console of the last boot:\n{machine.console_tail() if machine.process else ''}", flush=True)
        raise
    finally:
        for g in generators:
            g.kill()
        machine.kill()
        disk.close()


if __name__ == "__main__":
    say(f"CHAINRING_SEED={SEED}")
    scratch = tempfile.mkdtemp(prefix="chainring-guest-", dir="/var/tmp")
    try:
        status = main(scratch, make_namespace())
    except image.Unavailable as why:
        print(f"SKIPPED, nothing was tested: {why}", flush=True)
        status = 77
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], stderr=subprocess.DEVNULL)
        if os.environ.get("CHAINRING_GUEST_KEEP"):
            print("kept:", scratch)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(status)
