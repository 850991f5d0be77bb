#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""chainring-bench --quick runs, prints every figure, and writes the same figures to its JSON file. This
test checks no time."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

program = sys.argv.pop(1)

FIGURES = {
    "ring": 3,
    "chain": 2,
    "map": 4,
    "match": 3,
    "journal": 1,
    "broker-emulated": 16,
    "broker-file": 20,
    "recovery": 4,
    "idle": 3,
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
