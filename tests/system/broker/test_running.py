#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The running broker as an operator sees it: the prompt, telemetry and its pages, packet capture and
signals. Real clients use a TAP port. Needs root.

  test_running.py BROKER REGION_TOOL DIRECTORY
"""
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "region")]
import own_network  # noqa: F401
from regions import Broker, run
from sn_client import (ACCEPTED, CONGESTION, HANG_S, PUBACK, PUBLISH, REGACK, REGISTER, Client, encode)
from telemetry import Telemetry

PROGRAM, TOOL, DIRECTORY = sys.argv[1:4]
TAP = f"crp{os.getpid() % 100000}"
NET = f"10.{194 + os.getpid() % 2}.{os.getpid() % 250}"
TO = (f"{NET}.1", 10000)
CLIENTS = 70  # more than two pages of telemetry


def start(region, *arguments, **more):
    b = Broker(PROGRAM, region, *arguments, vdev=f"net_tap0,iface={TAP}", address=f"{NET}.1/24", **more).ready()
    run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
    run("ip", "link", "set", TAP, "up")
    return b


def expect(true, what, said=""):
    if not true:
        raise SystemExit(f"{what}\n{said}")


class Prompt:
    def __init__(self, broker, to):
        self.broker, self.to = broker, to

    def ask(self, line, until):
        """Sends a line. Returns what the broker prints from then on, once it matches `until`."""
        before = len(self.broker.said())
        os.write(self.to, (line + "\n").encode())
        end = time.monotonic() + HANG_S
        while time.monotonic() < end and self.broker.process.poll() is None:
            said = self.broker.said()[before:]
            if re.search(until, said, re.S):
                return said
            time.sleep(0.02)
        raise SystemExit(f"the answer to '{line}' does not match {until}:\n{self.broker.said()[before:]}")


def test_prompt_and_telemetry():
    region = os.path.join(scratch, "prompt")
    ours, theirs = os.pipe()
    with start(region, "-i", "--size", "32M", "--max-sessions", "128", telemetry=True, stdin=ours) as b:
        os.close(ours)
        # Make sessions, subscriptions and a queue.
        subscriber = Client("absent one", TO)
        expect(subscriber.connect() == ACCEPTED and subscriber.subscribe(b"kept/#") == ACCEPTED, "refused")
        subscriber.disconnect()
        clients = [Client(f"client{i}", TO) for i in range(CLIENTS)]
        for c in clients:
            expect(c.connect() == ACCEPTED, "a client is refused")
        for i in range(5):
            expect(clients[0].publish(b"kept/x", b"%d" % i) == ACCEPTED, "a publish is refused")

        p = Prompt(b, theirs)
        said = p.ask("help", r"quit +close the region cleanly")
        for command in ("show port stats", "show region", "show sessions", "show queues", "show topics", "show counters",
                        "show session CLIENT", "show subscriptions", "show rates", "show top", "grow region SIZE", "kick CLIENT", "compact",
                        "clear queue CLIENT", "drain on|off", "set session-expiry", "quit"):
            expect(command in said, f"help does not list '{command}'", said)
        said = p.ask("show port stats", r"worker 0 ")
        rx = re.search(r"port 0 \(net_tap0\): rx (\d+) packets", said)
        expect(rx and int(rx.group(1)) >= CLIENTS + 5, "port stats", said)
        said = p.ask("show region", r"messages: .*\n")
        expect(f"region {region}: class " in said and "messages: 5 live" in said, "show region", said)
        said = p.ask("show sessions", rf"{CLIENTS + 1} sessions")
        expect("'absent one': disconnected" in said and re.search(rf"'client7': connected.*at {re.escape(NET)}\.2:\d+", said), "show sessions", said)
        said = p.ask("show queues", r"\d+ queues")
        expect("(absent one): depth 5 of " in said, "show queues", said)
        said = p.ask("show topics", r"subscriptions in all")
        expect("kept/#: 1 subscriptions" in said, "show topics", said)
        said = p.ask("show counters", r"drain_tsc +\d+")
        expect(re.search(r"published_qos1 +5\b", said), "show counters", said)
        said = p.ask("compact", r"free blocks\n")
        expect("the messages are moved together: " in said, "compact", said)
        said = p.ask("show nonsense", r"Bad arguments|Command not found")
        expect(b.process.poll() is None, "a bad command ended the broker", said)

        # Telemetry is read by its socket, page by page, and by DPDK's script.
        t = Telemetry(b.prefix)
        commands = t.ask("/")
        for command in ("/chainring/region", "/chainring/counters", "/chainring/ports", "/chainring/sessions",
                        "/chainring/session", "/chainring/topics", "/chainring/rates"):
            expect(command in commands, f"telemetry has no {command}", commands)
        r = t.ask("/chainring/region")
        expect(r["path"] == region and r["messages_live"] == 5 and r["failed"] == 0 and
               r["blocks_free"] + r["blocks_live"] == r["blocks"], "telemetry's region", r)
        c = t.ask("/chainring/counters")
        expect(c["sessions"] == CLIENTS + 1 and c["subscriptions"] == 1, "telemetry's counters", c)
        ports = t.ask("/chainring/ports")
        expect(ports["worker0"]["rounds"] > 0 and "reassembled" in ports["port0"] and ports["next"] == 0, "telemetry's ports", ports)
        ports = t.ask("/chainring/ports,1")
        expect("worker0" in ports and "port0" not in ports, "the ports from the second entry on", ports)
        names, first, pages = [], 0, 0
        while True:
            page = t.ask(f"/chainring/sessions,{first}")
            pages += 1
            names += [s["client"] for s in page.values() if isinstance(s, dict)]
            if page["next"] == 0:
                break
            expect(page["next"] > first, "pages do not go on", page)
            first = page["next"]
        expect(sorted(names) == sorted(["absent one"] + [f"client{i}" for i in range(CLIENTS)]) and pages > 1,
               f"{pages} pages of sessions", names)
        for bad in ("/chainring/sessions,x", "/chainring/sessions,99999999999999999999", "/chainring/sessions,-1"):
            t.ask(bad)  # any answer is fine, but not a crash
        expect(b.process.poll() is None, "a bad parameter ended the broker", b.said())
        script = shutil.which("dpdk-telemetry.py")
        if script:
            done = subprocess.run([script, "-f", b.prefix], input="/chainring/region\nquit\n", capture_output=True,
                                  text=True, timeout=HANG_S)
            expect('"class"' in done.stdout, "dpdk-telemetry.py", done.stdout + done.stderr)
            print("dpdk-telemetry.py reads it")

        # Text that clients choose does not reach the terminal as control characters.
        odd = Client("a\x1b[2Jb\x7f", TO)
        expect(odd.connect() == ACCEPTED and odd.subscribe("odd/\x1b]0;\u009bx".encode()) == ACCEPTED, "refused")
        said = p.ask("show sessions", rf"{CLIENTS + 2} sessions") + p.ask("show topics", r"subscriptions in all")
        expect(r"'a\u001b[2Jb\u007f'" in said and r"odd/\u001b]0;\u009bx: 1 subscriptions" in said and "\x1b[2J" not in said and
               "\x7f" not in said, "control characters", repr(said))

        # An operator looks closer, and acts; each command says what it did.
        said = p.ask("show sessions like client1* connected count 5", r"there are more: .*")
        expect(said.count("connected, at") == 5 and "absent" not in said, "a page of sessions", said)
        more = re.search(r"show sessions from (\d+) count 5", said).group(1)
        said = p.ask(f"show sessions like client1* from {more} count 50", r"(\d+) sessions\n")
        expect(said.count("connected, at") == 6, "the next page", said)  # client1, client10 to client19
        said = p.ask("show sessions disconnected", r"\d+ sessions")
        expect("1 sessions" in said and "absent one" in said, "who is not connected", said)
        said = p.ask("show sessions likewise", r"expected like PATTERN")
        said = p.ask("show session absent one", r"kept/# at QoS 1")
        expect("depth 5 of" in said and "oldest message: published" in said and "never expires" in said, "one session", said)
        said = p.ask(r"show session a\u001b[2Jb\u007f", r"1 subscriptions")  # as it is printed
        p.ask("show session nobody", r"no such client")
        said = p.ask("show subscriptions like absent*", r"1 subscriptions")
        expect("'absent one': kept/# at QoS 1" in said, "subscriptions", said)
        said = p.ask("show topics like kept*", r"1 filters")
        said = p.ask("show topics count 1", r"subscriptions in all")
        more = re.search(r"1 filters; there are more: show topics from (\d+) count 1", said)
        expect(more, "a page of filters", said)
        said = p.ask(f"show topics from {more.group(1)} count 1", r"subscriptions in all")
        expect(re.search(r"1 filters\r?\n", said), "the last page of filters", said)
        said = p.ask("show topics count 4000000000", r"subscriptions in all")
        expect("2 filters" in said, "all filters", said)
        # What 'show session' names for the other filters is a pattern that finds this client.
        many = Client("m\x1b[1]# any", TO)
        expect(many.connect() == ACCEPTED and all(many.subscribe(b"many/%d" % i) == ACCEPTED for i in range(101)), "refused")
        said = p.ask(r"show session m\u001b[1]\u0023 any", r"and 1 more: .*")
        more = re.search(r"and 1 more: (show subscriptions like \S+)\s", said)
        expect(more, "the pattern for further subscriptions is no single word", said)
        said = p.ask(more.group(1), r"\d+ subscriptions\r?\n")
        expect("101 subscriptions" in said and "many/100 at QoS 1" in said, "the pattern for further subscriptions", said)
        # A '#' would end the command, and the session of another client with it.
        p.ask("kick absent one#1", r"'#' begins a comment, so nothing was done")
        p.ask("show session absent one", r"session \d+ 'absent one'")
        p.ask(r"kick m\u001b[1]\u0023 any", r"the client's session has ended: .*")
        keeper = clients[4]
        tid = keeper.ask(encode(REGISTER, b"\0\0\0\x63status/4"), lambda kind, _: kind == REGACK)[:2]
        keeper.ask(encode(PUBLISH, b"\x30" + tid + b"\0\x64" + b"up"), lambda kind, _: kind == PUBACK)
        said = p.ask("show retained", r"1 of at most \d+ messages")
        expect("status/4: 2 octets at QoS 1" in said and "1 retained messages" in said, "show retained", said)
        expect(t.ask("/chainring/retained,0")["topics"] == ["status/4"], "telemetry's retained messages")
        p.ask("clear retained status/4", r"the retained message is deleted")
        p.ask("clear retained status/4", r"has no retained message")
        keeper.subscribe(b"$share/crew/jobs/#")
        said = p.ask("show groups", r"1 groups")
        expect("$share/crew/jobs/#: 1 members, queued 0 of at most" in said, "show groups", said)
        group = t.ask("/chainring/groups,0")["0"]
        expect(group["name"] == "crew" and group["filter"] == "jobs/#" and group["members"] == 1, "telemetry's groups", group)
        p.ask("show session client4", r"\$share/crew/jobs/# at QoS")
        p.ask("show top 99", r"expected 1 to 10")
        said = p.ask("show top 1", r"longest queues:\s+absent one +5 queued")
        p.ask("show rates", r"show rates\r?\n(.* a second)*")
        p.ask("set session-expiry 3600", r"session-expiry is 3600 from now on")
        expect("ends 3600 s after its connection" in p.ask("show session absent one", r"kept/#"), "session-expiry")
        p.ask("set session-expiry 0", r"session-expiry is 0")
        p.ask("set max-retries 101", r"expected 0 to 100")
        p.ask("set retry-interval 5", r"retry-interval is 5")
        p.ask("set log-level nonsense", r"set log-level: ")
        said = p.ask("drain on", r"refuses new sessions and publishes; 5 messages")
        expect(clients[2].publish(b"kept/x", b"no") == CONGESTION, "a publish while draining")
        expect(Client("late", TO).connect() == CONGESTION, "a new session while draining")
        expect(clients[3].connect() == ACCEPTED, "a session that exists is refused while draining")
        p.ask("drain off", r"serves again")
        expect(clients[2].publish(b"kept/x", b"yes") == ACCEPTED, "a publish after draining")
        one = t.ask("/chainring/session,absent one")
        expect(one["queued"] == 6 and one["filters"] == ["kept/#"], "telemetry's session", one)
        topics = t.ask("/chainring/topics,0")
        expect(dict(zip(topics["filters"], topics["subscriptions"])).get("kept/#") == 1, "telemetry's topics", topics)
        t.ask("/chainring/rates")
        expect("6 messages are dropped" in p.ask("clear queue absent one", r"is cleared: .*"), "clear queue")
        said = p.ask("kick absent one", r"the client's session has ended: .*")
        expect("it was not connected, 1 subscriptions and 0 queued" in said, "kick", said)
        p.ask("kick absent one", r"no such client")
        said = p.ask("kick client5", r"the client's session has ended: .*")
        expect("its connection is closed" in said, "kick", said)

        # The end of input ends the prompt but not the broker.
        os.close(theirs)
        time.sleep(0.3)
        expect(clients[1].publish(b"kept/y", b"still there") == ACCEPTED, "after the end of input")
        expect(b.process.poll() is None, "the end of input ended the broker", b.said())
        expect(b.end() == 0 and "closed cleanly" in b.said(), "SIGTERM", b.said())


def test_quit_and_signals():
    region = os.path.join(scratch, "signals")
    run(TOOL, "create", region, "--size", "8M", "--journal-size", "1M", "--max-sessions", "64", "--max-subscriptions", "64")
    for how in (signal.SIGINT, signal.SIGTERM, "quit", "end of input before anything"):
        ours, theirs = os.pipe()
        with start(region, "-i", stdin=ours) as b:
            os.close(ours)
            c = Client("walker", TO)
            expect(c.connect(clean=True) == ACCEPTED, "refused")
            if how == "quit":
                os.write(theirs, b"quit\n")
                status = b.process.wait(HANG_S)
            elif isinstance(how, str):
                os.close(theirs)
                theirs = -1
                expect(c.connect(clean=True) == ACCEPTED, "the end of input ended the broker")
                status = b.end()
            else:
                status = b.end(how)
            expect(status == 0 and "closed cleanly" in b.said(), f"{how}: status {status}", b.said())
        if theirs >= 0:
            os.close(theirs)
        said = run(TOOL, "info", region)
        expect(re.search(r"^last closed +cleanly$", said, re.M), f"after {how}", said)
    # A signal comes while the broker starts.
    for delay in (0.0, 0.1, 0.3):
        b = Broker(PROGRAM, region)
        with b:
            time.sleep(delay)
            b.process.send_signal(signal.SIGTERM)
            try:
                b.process.wait(HANG_S)
            except subprocess.TimeoutExpired:
                raise SystemExit(f"SIGTERM {delay} s after the start: the broker does not end\n{b.said()}")
        run(TOOL, "check", region)


def test_a_signal_during_a_command():
    """The thread of the prompt hears signals also while a command waits."""
    region = os.path.join(scratch, "command")
    ours, theirs = os.pipe()
    with start(region, "-i", "--size", "32M", stdin=ours) as b:
        os.close(ours)
        os.write(theirs, b"show top 10\n")
        end = time.monotonic() + HANG_S
        while "show top 10" not in b.said():
            expect(time.monotonic() < end, "the prompt does not echo", b.said())
            time.sleep(0.01)
        b.process.send_signal(signal.SIGHUP)
        while "log levels are read again" not in b.said():
            expect(time.monotonic() < end, "SIGHUP is not heard", b.said())
            time.sleep(0.01)
        expect("clients that sent the most" not in b.said(), "SIGHUP waited for the end of the command", b.said())
        expect(b.end() == 0, "SIGTERM", b.said())
        expect("clients that sent the most" not in b.said(), "SIGTERM waited for the end of the command", b.said())
    os.close(theirs)


def test_pages_of_telemetry():
    """A page holds at most 16 KiB. No session is left out however much of it its id takes."""
    region = os.path.join(scratch, "pages")
    with start(region, "--size", "32M", "--max-sessions", "128", telemetry=True) as b:
        clients = [Client("\1" * 20 + f"{i:03}", TO) for i in range(100)]
        for c in clients:
            expect(c.connect() == ACCEPTED and c.subscribe(b"x/+/" + b"\1" * 60) == ACCEPTED, "refused")
            expect(c.subscribe(b"$share/" + c.name[-3:] + b"/" + b"\1" * 60) == ACCEPTED, "refused")
        t = Telemetry(b.prefix)
        for query in ("sessions", "groups"):
            seen, first = set(), 0
            while True:
                page = t.ask(f"/chainring/{query},{first}")
                seen |= {n for n in page if n != "next"}
                if page["next"] == 0:
                    break
                expect(page["next"] > first, "pages do not go on", page)
                first = page["next"]
            expect(len(seen) == 100, f"pages of {query} left out {100 - len(seen)}", sorted(seen))


def test_dumpcap():
    """dpdk-dumpcap is a secondary process, which needs a primary with hugepages."""
    script = shutil.which("dpdk-dumpcap")
    free = int(re.search(r"HugePages_Free:\s+(\d+)", open("/proc/meminfo").read()).group(1))
    if not script or free < 128:
        print(f"dpdk-dumpcap not tried: {'not installed' if not script else f'{free} free hugepages, 128 are needed'}")
        return
    region, capture = os.path.join(scratch, "dumpcap"), os.path.join(scratch, "capture.pcapng")
    b = Broker.__new__(Broker)
    eal = [a for a in b.eal(f"net_tap0,iface={TAP}", telemetry=True) if a != "--no-huge"]
    b.start([PROGRAM, *eal, "--", "--region", region, "--size", "32M", "--address", f"{NET}.1/24", "--idle", "sleep"])
    with b:
        b.ready()
        run("ip", "addr", "replace", f"{NET}.2/24", "dev", TAP)
        run("ip", "link", "set", TAP, "up")
        with tempfile.TemporaryFile() as log:
            dumpcap = subprocess.Popen([script, "--file-prefix", b.prefix, "-i", "net_tap0", "-c", "8", "-w", capture],
                                       stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            try:
                end = time.monotonic() + HANG_S
                number = 0
                while dumpcap.poll() is None and time.monotonic() < end:
                    number += 1
                    expect(Client(f"seen{number % 50}", TO).connect(clean=True) == ACCEPTED, "refused")
                    time.sleep(0.05)
                said = os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
                expect(dumpcap.poll() == 0, f"dpdk-dumpcap: {dumpcap.poll()}", said)
            finally:
                if dumpcap.poll() is None:
                    dumpcap.kill()
                dumpcap.wait()
        with open(capture, "rb") as f:
            text = f.read()
        expect(text[:4] == b"\x0a\x0d\x0d\x0a" and b"seen" in text, "the capture holds no packet of the test's clients")
        expect(b.end() == 0, "the broker did not close cleanly", b.said())
        print("dpdk-dumpcap captures its packets")
    for line in open("/proc/mounts"):  # the hugepage files of EAL stay after the process
        if line.split()[2] == "hugetlbfs":
            for name in os.listdir(line.split()[1]):
                if name.startswith(f"{b.prefix}map_"):
                    os.unlink(os.path.join(line.split()[1], name))


scratch = tempfile.mkdtemp(dir=DIRECTORY, prefix="chainring-running-")
try:
    for name, test in sorted((n, f) for n, f in globals().items() if n.startswith("test_")):
        test()
        print(f"{name}: passed", flush=True)
finally:
    shutil.rmtree(scratch)
