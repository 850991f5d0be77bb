#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""chainring-bench --quick runs, prints every figure, and writes the same figures to its JSON file. This
test checks no time."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

program = sys.argv.pop(1)

CPUS = len(os.sched_getaffinity(0))
FIGURES = {
    "ring": 4,
    "chain": 2,
    "map": 4,
    "seqlock": 7 if CPUS > 1 else 4,
    "match": 6,
    "journal": 1,
    "broker-emulated": 20,
    "broker-file": 36 if CPUS > 1 else 32,
    "received": 6,
    "workers": 5 if CPUS > 1 else 0,
    "recovery": 4,
    "idle": 3,
    "million": 30,
    "fan-out": 7,
    "tcp": 6,
    "overload": 65,
}


def run(*arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300)


class Bench(unittest.TestCase):
    def test_list_prints_the_groups(self):
        done = run("--list")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()], list(FIGURES))

    def test_an_unknown_group_is_refused(self):
        done = run("--only", "rings")
        self.assertEqual(done.returncode, 2)
        self.assertIn("rings", done.stderr)

    def test_a_missing_directory_is_refused(self):
        self.assertEqual(run("--directory", "/nonexistent").returncode, 2)

    def test_a_bad_payload_fan_out_or_rate_is_refused_with_what_is_accepted(self):
        for arguments, named in [(["--payload", "10"], "11 to 1463"), (["--payload", "1464"], "11 to 1463"),
                                 (["--fan-out", "0"], "1 to 1024"), (["--fan-out", "65"], "64"),
                                 (["--fan-out", "9", "--clients", "8"], "8"), (["--rate", "0"], "1 to 1e9"),
                                 (["--rate", "201%"], "1% to 200%"), (["--rate", "fast"], "1 to 1e9"),
                                 (["--rate", "50%", "--messages", "9"], "--messages")]:
            done = run("--quick", "--only", "broker-emulated", *arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(arguments[0], done.stderr)
            self.assertIn(named, done.stderr)

    def figures_of(self, *arguments):
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "figures.json")
            done = run("--quick", "--only", "broker-emulated", "--json", path, *arguments)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            with open(path, encoding="utf-8") as text:
                return json.load(text), done.stdout

    def test_payload_and_fan_out_are_what_was_asked_for(self):
        for payload in (11, 250, 1463):  # the second needs a length of three octets on its way
            said, _ = self.figures_of("--clients", "64", "--payload", str(payload), "--fan-out", "5")
            self.assertIn(f"{payload} bytes, fan-out 5,", said["figures"][0]["group"])
            self.assertEqual((said["options"]["payload"], said["options"]["fan_out"]), (payload, 5))
            self.assertGreater(said["figures"][0]["value"], 0)

    def test_a_broker_is_compared_with_itself_without_drains_and_with_a_bare_loop(self):
        said, text = self.figures_of("--clients", "64")
        peers = {f["peer"]: f for f in said["figures"] if "peer" in f}
        self.assertEqual(set(peers), {"the same in class process", "l2fwd, the same frames"})
        for figure in peers.values():
            self.assertGreater(figure["peer_value"], 0)
            self.assertGreater(figure["ratio"], 0)
        self.assertIn("of its speed without drains", text)
        self.assertIn("a bare loop that receives 2 frames for each message", text)

    def test_with_a_number_of_messages_only_the_broker_runs(self):
        said, _ = self.figures_of("--clients", "64", "--messages", "2000")
        self.assertEqual([f for f in said["figures"] if "peer" in f], [])
        self.assertGreaterEqual(next(f["value"] for f in said["figures"] if f["figure"] == "messages measured"), 2000)

    def test_two_workers_hand_over_what_lands_at_the_other_one(self):
        for arguments, handed in ([], 0), (["--crossing", "1"], 0), (["--misplaced"], 2):
            done = run("--only", "workers", "--messages", "2000", *arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = re.search(r"datagrams handed over, a message +([\d.]+)", done.stdout)
            self.assertAlmostEqual(float(found[1]), handed, delta=0.1)  # a PUBLISH and a PUBACK each

    def test_rates_are_offered_beside_the_other_figures(self):
        said, _ = self.figures_of("--clients", "64", "--rate", "10%", "--rate", "5000")
        values = {f["figure"]: f["value"] for f in said["figures"]}
        self.assertAlmostEqual(values["offered 5000, rate"], 0.005)
        for rate in ("10%", "5000"):
            self.assertGreater(values[f"offered {rate}, rate reached"], 0)
            self.assertGreater(values[f"offered {rate}, due to PUBACK, p99.9"], 0)

    def test_the_file_names_the_machine(self):
        said, text = self.figures_of("--clients", "64")
        for key in ("cpu", "cores", "memory_pages", "kernel", "compiler", "dpdk"):
            self.assertTrue(said["machine"][key])
            self.assertIn(str(said["machine"][key]), text)

    def test_every_figure_is_printed(self):
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "figures.json")
            done = run("--quick", "--directory", scratch, "--json", path)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            with open(path, encoding="utf-8") as text:
                figures = json.load(text)["figures"]
            self.assertEqual(os.listdir(scratch), ["figures.json"], "files were left behind")
        self.assertEqual(len(figures), sum(FIGURES.values()))
        for figure in figures:
            self.assertIn(figure["figure"], done.stdout)
            self.assertGreaterEqual(figure["value"], 0)
            if "target" in figure:
                self.assertEqual(figure["verdict"], "not judged")
        self.assertIn("not judged", done.stdout)

    def test_eal_arguments_may_be_given(self):
        done = run("--no-huge", "--no-pci", "--no-shconf", "-m", "128", "--", "--quick", "--only", "ring")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("rte_ring", done.stdout)


if __name__ == "__main__":
    unittest.main()
