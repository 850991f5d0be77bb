#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Persistent memory and power cuts, in a QEMU guest. docs/guides/guest.md describes the test.

  test_guest.py CACHE BROKER REGION_TOOL GENERATOR LYING_SYNC SUITE...

Status 77, and a sentence, where QEMU, the kernel, root or TAP devices are not to be had. Takes
CHAINRING_SEED, CHAINRING_GUEST_RESETS (default 20) and CHAINRING_GUEST_KEEP.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import image
from disk import Disk
from machine import Machine
from rounds import RATE, Generator, Place, Rounds, mount

CACHE, BROKER, TOOL, GENERATOR, LYING_SYNC = sys.argv[1:6]
SUITES = {os.path.basename(s): s for s in sys.argv[6:]}
HERE = os.path.dirname(os.path.abspath(__file__))
RESETS = int(os.environ.get("CHAINRING_GUEST_RESETS", "20"))
# So many of the resets come under the load of tests/system/protocol, with these parts.
PROTOCOL_RESETS, PROTOCOL_PARTS = RESETS // 4, ("qos2", "retained", "wills", "groups", "sleepers")
SEED = int(os.environ.get("CHAINRING_SEED", random.randrange(1 << 30)))
NAMESPACE = f"crguest{os.getpid()}"
DEVICE = "/dev/dax1.0"
PLACES = [Place(0, "fsdax", "/pmem/region", "power", "0@0,1@0"), Place(1, "devdax", DEVICE, "power", "0@1,1@1"),
          Place(2, "disk", "/disk/region", "file", "0@0,1@1")]
# One power cut hits these regions, two of which are known to lose what they acknowledged.
SEEDED = [Place(0, "tmpfs", "/dev/shm/region", "process", "0@0,1@0"), Place(1, "honest", "/disk/honest", "file", "0@1,1@1"),
          Place(2, "lying", "/disk/lying", "file", "0@0,1@1", may_lie=True)]
# These tests say something about ordinary memory, or make thousands of media, and are left out here.
LEFT_OUT = {"guest_block_store": "BlockStore.RefusesGeometryWithASentenceThatNamesTheArgument",
            "guest_message": "MessageTable.RefusesGeometryWithASentenceThatNamesTheArgument",
            "guest_durable_map": "DurableMap.NoBytesOnMediaCrashTheMap"}
# These tests need a region that ends before its medium does, and a device is larger.
LEFT_OUT_ON_DEVICE = {"guest_durable_map": "DurableMapCreate.ATableOutsideTheRegionIsRefused"}
begun = time.monotonic()


def say(*what):
    print(f"[{time.monotonic() - begun:5.0f} s] " + " ".join(map(str, what)), flush=True)


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def check_names():
    """A test that is left out must be there, or it was given another name."""
    for names in (LEFT_OUT, LEFT_OUT_ON_DEVICE):
        for program, name in names.items():
            listed = subprocess.run([SUITES[program], "--gtest_list_tests", f"--gtest_filter={name}"],
                                    capture_output=True, text=True).stdout
            if name.split(".")[1] not in listed:
                raise SystemExit(f"{program} has no test {name}, which is to be left out")


def make_namespace():
    if os.geteuid() != 0:
        raise image.Unavailable("it needs root for TAP devices and a network namespace")
    if not os.path.exists("/dev/net/tun"):
        raise image.Unavailable("there is no /dev/net/tun")
    image.need("ip")
    image.need("qemu-system-x86_64")
    try:
        run("ip", "netns", "add", NAMESPACE)
        inside = ["ip", "netns", "exec", NAMESPACE]
        run(*inside, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        for place in PLACES:
            run("ip", "-n", NAMESPACE, "tuntap", "add", place.tap, "mode", "tap")
            run("ip", "-n", NAMESPACE, "link", "set", place.tap, "up")
        links = subprocess.run(["ip", "-n", NAMESPACE, "-json", "link"], stdout=subprocess.PIPE, check=True).stdout
        index = {link["ifname"]: link["ifindex"] for link in json.loads(links)}
        for place in PLACES + SEEDED:
            place.tap_index = index[place.tap]
    except subprocess.CalledProcessError as e:
        raise image.Unavailable(f"a network namespace with TAP devices cannot be made: {e}") from None
    return inside


def suite(machine, program, where, environment, left_out):
    status, output = machine.run(
        f"{environment} /bin/{program} --gtest_color=no --gtest_filter=-{':'.join(left_out)}", 300)
    last = [line for line in output.strip().splitlines() if line.startswith(("[  PASSED", "on media"))]
    if status != 0 or "on media: 0 " in output or not last:
        raise SystemExit(f"in the guest, {environment} {program} failed:\n{output}")
    say(f"{program} on {where}: {'; '.join(last)}")


class Guest:
    """A guest with two NVDIMMs and a disk of its own, started and formatted."""

    def __init__(self, directory, kernel, initramfs, taps, inside):
        os.makedirs(directory, exist_ok=True)
        self.disk = Disk(os.path.join(directory, "disk.nbd"), 192 << 20, SEED)
        nvdimms = [(os.path.join(directory, f"nvdimm{i}"), mib) for i, mib in enumerate((128, 64))]
        self.machine = Machine(directory, kernel, initramfs, nvdimms, self.disk.path, taps, inside)

    def start(self):
        self.disk.power_on()
        self.machine.start()
        self.machine.check("ndctl create-namespace -f -e namespace0.0 -m fsdax 2>&1 && "
                           "ndctl create-namespace -f -e namespace1.0 -m devdax 2>&1")
        self.machine.check("mkfs.ext4 -q -b 4096 /dev/pmem0 2>&1 && mkfs.ext4 -q -b 4096 /dev/vda 2>&1")
        mount(self.machine)

    def end(self):
        self.machine.kill()
        self.disk.close()


def suites(guest):
    """Runs in a guest of its own beside the rounds, which leave a processor idle while their guest boots."""
    guest.start()
    machine = guest.machine
    for program in SUITES:
        if program == "guest_pmem":
            continue
        for where, left_out in (("/pmem", [LEFT_OUT]), (DEVICE, [LEFT_OUT, LEFT_OUT_ON_DEVICE])):
            suite(machine, program, where, f"CHAINRING_TEST_MEDIA={where}",
                  [names[program] for names in left_out if program in names])
    # This asserts that libpmem says is_pmem and that regions have class power. It leaves the device blank.
    suite(machine, "guest_pmem", "fsdax, devdax", "CHAINRING_PMEM_DIRECTORY=/pmem CHAINRING_PLAIN_DIRECTORY=/disk "
          f"CHAINRING_PMEM_DEVICE={DEVICE}", [])
    guest.end()


def contract(rounds):
    """Kills brokers and resets the guest under load, with the subscribers away and with all of them
    connected. Returns 1 if the contract is broken."""
    machine = rounds.machine
    machine.check(f"chainring-region create {DEVICE} --size 40M --max-sessions 256 --max-subscriptions 256 --class power")
    rounds.start_brokers(PLACES)
    say("the brokers are up:", ", ".join(f"{p.name} of class {p.durability}" for p in PLACES))
    rounds.run_phase(PLACES, "subscribe")

    def publish(generators, until):
        rounds.under("acked", 100, until, PLACES, generators)
        for g in generators:
            g.stop_publishing()

    def say_all(what, reports):
        say(what, "; ".join(f"{p.name} by {x['protocol']}: {x['verdict']}" for p, x in zip(PLACES, reports)))

    broken = False
    for _ in range(2):  # without collecting in between, the queues would fill
        until = rounds.resets() + max(1, RESETS // 7)
        r = rounds.run_phase(PLACES, "publish", *RATE, each=lambda g: publish(g, until))
        say_all("subscribers away:", r)
        r = rounds.run_phase(PLACES, "collect", wanted=(0, 1),
                             each=lambda g: rounds.under("delivered", 100, until + 1, PLACES, g, True))
        say_all("collected:", r)
        broken |= any(x["status"] for x in r)
    r = rounds.run_phase(PLACES, "all", *RATE, wanted=(0, 1), each=lambda g: publish(g, RESETS - PROTOCOL_RESETS))
    broken |= any(x["status"] for x in r)
    for place, x in zip(PLACES, r):
        say(f"{place.name}, class {place.durability}, {x['protocol']}: {x['verdict']}; {x['duplicated']} delivered again, "
            f"{x['reconnects']} reconnects, {x['resent']} sent again")
    rounds.protocol(PLACES, NAMESPACE, PROTOCOL_PARTS, PROTOCOL_RESETS)
    for place in PLACES:
        place.stop(machine)
        place.check_region(machine)
    total = {name: sum(x[name] for x in r)
             for name in ("acked", "delivered", "lost", "torn", "unknown", "misrouted", "partial", "duplicated", "owed")}
    kills = rounds.counts["kill -9"] * len(PLACES)
    say(f"resets {rounds.resets()} ({', '.join(f'{n} {kind}' for kind, n in rounds.counts.items() if kind != 'kill -9')}), "
        f"kill -9 {kills}; disk: {rounds.disk.writes} writes, {rounds.disk.flushes} flushes, {rounds.disk.lost} unflushed "
        f"sectors lost; " + ", ".join(f"{name} {n}" for name, n in total.items()))
    if rounds.disk.lost == 0:
        raise SystemExit("no power cut lost a sector, so nothing was proved about the disk")
    return broken


def seeded(rounds):
    """Runs the same generator over media that lose data. Returns 1 if it does not report that."""
    rounds.machine.check("rm -f /disk/region && sync")
    rounds.start_brokers(SEEDED)
    rounds.run_phase(SEEDED, "subscribe")
    rounds.machine.check("touch /tmp/lie")
    rounds.run_phase(SEEDED, "publish", "--count", "400")
    say("seeded:", rounds.power_cut())
    mount(rounds.machine)
    rounds.start_brokers(SEEDED)
    reports = rounds.run_phase(SEEDED, "collect", "--drain-timeout", "6", wanted=(0, 1))
    failed = False
    for place, r in zip(SEEDED, reports):
        expected = place.name == "honest"
        as_expected = r["lost"] == 0 and r["status"] == 0 if expected else r["lost"] > 0 and r["status"] == 1
        say(f"seeded, {place.name}: {r['verdict']}:", "as expected" if as_expected else "NOT AS EXPECTED")
        failed |= not as_expected
    return failed


def main(directory, inside):
    kernel, initramfs = image.build(directory, CACHE, [BROKER, TOOL, LYING_SYNC] + list(SUITES.values()),
                                    {os.path.join(HERE, "init"): "/init",
                                     os.path.join(HERE, "start_broker"): "/bin/start_broker"})
    guest = Guest(os.path.join(directory, "rounds"), kernel, initramfs, [p.tap for p in PLACES], inside)
    machine = guest.machine
    rounds = Rounds(machine, guest.disk, lambda place, *phase: Generator(GENERATOR, directory, NAMESPACE, place, *phase),
                    random.Random(SEED), say)
    other = Guest(os.path.join(directory, "suites"), kernel, initramfs, [], inside)
    aside = ThreadPoolExecutor(1)
    try:
        passed = aside.submit(suites, other)
        guest.start()
        say("the guest is up")
        broken = contract(rounds)
        blind = seeded(rounds)
        passed.result()
        say("contract BROKEN" if broken else "the contract held;",
            "the generator let a seeded loss PASS" if blind else "the generator found every seeded loss")
        return 1 if broken or blind else 0
    except BaseException:
        print(f"console of the last boot:\n{machine.console_tail() if machine.process else ''}", flush=True)
        raise
    finally:
        rounds.kill_generators()
        guest.end()
        other.end()
        aside.shutdown()


if __name__ == "__main__":
    say(f"CHAINRING_SEED={SEED}")
    check_names()
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
