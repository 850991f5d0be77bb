#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""tests/peers --quick runs every server, prints and writes what it measured, and leaves nothing behind. This test
checks no time. Needs root, mosquitto and libpaho-mqtt.

  test_peers.py SOURCE_ROOT BUILD_ROOT MQTT_LOAD
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

source, build, load = sys.argv[1:4]
del sys.argv[1:4]
# The command runs under the interpreter of this test: one that is found by `env` may be a shell script, as that of pyenv
# is, which has processes of its own and does not know what an interrupt means to the command.
COMMAND = [sys.executable, os.path.join(source, "tests", "peers"), build, "--no-build"]
HANG_S = 120
SERVERS = {"chainring, class file", "chainring, class emulated", "mosquitto"}


def children_of(pid):
    """The processes that `pid` or a descendant of it has started and that still run."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    parents[int(name)] = int(f.read().rpartition(")")[2].split()[1])
            except OSError:
                pass  # it has ended
    found, last = {pid}, 0
    while len(found) != last:
        last = len(found)
        found |= {p for p, parent in parents.items() if parent in found}
    return found - {pid}


def left_behind():
    return [name for name in os.listdir("/var/tmp") if name.startswith("chainring-peers-")]


class Peers(unittest.TestCase):
    def setUp(self):
        self.before = left_behind()

    def tearDown(self):
        self.assertEqual(left_behind(), self.before)

    def test_every_server_is_measured(self):
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "peers.json")
            done = subprocess.run([*COMMAND, "--quick", "--json", path], capture_output=True, text=True, timeout=HANG_S)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            with open(path) as f:
                said = json.load(f)
        self.assertEqual(set(said["servers"]), SERVERS)
        self.assertTrue(said["quick"])
        for name, figures in said["servers"].items():
            self.assertIn(name, done.stdout)
            for key in ("messages_per_s", "ack_p50_us", "ack_p99_us", "ack_p99_9_us", "delivery_p50_us", "delivery_p99_us", "delivery_p99_9_us"):
                self.assertGreater(figures[key], 0, f"{name}: {key}")
            self.assertGreaterEqual(figures["cpu_us"], 0)
        for key in ("cpu", "cores", "kernel", "compiler", "commit", "build_options"):
            self.assertTrue(said["machine"][key], key)
        for word in ("Durability", "TCP", "UDP", "XDP", "Polling", "measures nothing"):
            self.assertIn(word, done.stdout)

    def test_every_server_is_measured_with_one_client_program_over_mqtt(self):
        for arguments in (["--qos", "0", "--rate", "2000"], ["--qos", "1"], ["--qos", "2"]):
            with tempfile.TemporaryDirectory() as scratch:
                path = os.path.join(scratch, "peers.json")
                done = subprocess.run([*COMMAND, "--mqtt", *arguments, "--quick", "--json", path], capture_output=True,
                                      text=True, timeout=HANG_S)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                with open(path) as f:
                    said = json.load(f)
            self.assertEqual(set(said["servers"]), SERVERS | {"mosquitto, autosave"})
            for name, figures in said["servers"].items():
                self.assertGreater(figures["messages_per_s"], 0, name)
                self.assertGreater(figures["delivery_p99_us"], 0, name)
            for word in ("Durability", "autosave_on_changes", "XDP", "Polling", "measures nothing"):
                self.assertIn(word, done.stdout)

    def test_an_interrupt_ends_all_that_it_started(self):
        for count in (1, 2, 3):  # the namespace, a server and its clients, each while it starts
            self.interrupt_as_soon_as_it_has_started(count)

    def interrupt_as_soon_as_it_has_started(self, count):
        process = subprocess.Popen([*COMMAND, "--rounds", "50"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            end = time.monotonic() + HANG_S
            while len(started := children_of(process.pid)) < count:
                self.assertIsNone(process.poll(), "the command ended by itself")
                self.assertLess(time.monotonic(), end)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=HANG_S)
        finally:
            process.kill()
        self.assertIn("interrupted", said, f"exit {process.returncode}")
        self.assertNotEqual(process.returncode, 0)
        self.assertEqual([p for p in started if os.path.exists(f"/proc/{p}")], [])

    def test_arguments_out_of_range_are_refused_with_the_range(self):
        for arguments, named in [(["--rounds", "0"], "1 to 100"), (["--seconds", "0.1"], "0.5 to 60"),
                                 (["--clients", "1001"], "1 to 1000"), (["--mqtt", "--clients", "20001"], "1 to 20000"),
                                 (["--qos", "0"], "--mqtt"), (["--mqtt", "--unacked", "2"], "--mqtt"),
                                 (["--mqtt", "--qos", "0"], "--rate"), (["--payload", "35"], "36 to 1400")]:
            done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=HANG_S)
            self.assertEqual(done.returncode, 2)
            self.assertIn(named, done.stderr)

    def test_without_root_it_says_that_root_is_needed(self):
        def become_nobody():
            os.setgid(65534)
            os.setuid(65534)

        with tempfile.TemporaryDirectory() as copy:  # which nobody can read, wherever the source lies
            os.chmod(copy, 0o755)
            for name in ("tests/peers", "tests/support/machine.py", "tests/system/own_network.py"):
                os.makedirs(os.path.dirname(os.path.join(copy, name)), exist_ok=True)
                shutil.copy(os.path.join(source, name), os.path.join(copy, name))
            done = subprocess.run(["/usr/bin/python3", os.path.join(copy, "tests/peers"), copy, "--no-build"], cwd="/",
                                  capture_output=True, text=True, timeout=HANG_S, preexec_fn=become_nobody)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("root", done.stderr)

    def test_a_program_that_is_missing_is_named(self):
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=HANG_S,
                              env={**os.environ, "PATH": "/nonexistent"})
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("mosquitto is not installed", done.stderr)

    def test_the_mqtt_load_refuses_a_server_that_does_not_listen(self):
        done = subprocess.run([load, "tcp://127.0.0.1:1", "1", "1", "1", "64", "0.1", "0.1"], capture_output=True,
                              text=True, timeout=HANG_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is refused", done.stderr)

    def test_the_mqtt_load_refuses_arguments_out_of_range(self):
        for at, text in [(1, "0"), (2, "x"), (4, "15"), (6, "601")]:
            arguments = ["tcp://127.0.0.1:1", "1", "1", "1", "64", "0.1", "0.1"]
            arguments[at] = text
            done = subprocess.run([load, *arguments], capture_output=True, text=True, timeout=HANG_S)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"'{text}': expected", done.stderr)


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("this test needs root")
    unittest.main()
