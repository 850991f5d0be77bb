#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""docs/performance.md and its plots are what docs/plots/figures.json gives, and tests/performance --measure --quick makes
such a page from figures of this build. This test checks no time. It does not count instructions and runs no other
broker: the tests of tests/instructions and tests/peers do.

  test_performance.py SOURCE_ROOT BUILD_ROOT
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

source, build = sys.argv[1:3]
del sys.argv[1:3]
COMMAND = [sys.executable, os.path.join(source, "tests", "performance")]
PLOTS = ["clients.svg", "payload.svg", "fan-out.svg", "latency.svg", "recovery.svg"]
if len(os.sched_getaffinity(0)) > 1:
    PLOTS.append("workers.svg")
DOCUMENT = os.path.join(source, "docs", "performance.md")


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=400)


class Performance(unittest.TestCase):
    def test_the_committed_page_is_what_the_committed_figures_give(self):
        done = run("--check")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_committed_figures_were_measured_and_name_their_machine(self):
        with open(os.path.join(source, "docs", "plots", "figures.json")) as f:
            data = json.load(f)
        self.assertFalse(data["quick"])
        self.assertEqual(set(data["measured"]), {"bench", "workers", "recovery", "instructions", "peers", "peers-mqtt"})
        for about in data["measured"].values():
            for key in ("cpu", "cores", "kernel", "compiler", "commit", "build_options"):
                self.assertTrue(about[key], key)
            self.assertNotIn("changed", about["commit"])

    def test_every_plot_of_the_page_exists(self):
        with open(DOCUMENT) as f:
            shown = re.findall(r"!\[[^\]]+\]\((plots/[\w-]+\.svg)\)", f.read())
        self.assertTrue(set(PLOTS) <= {os.path.basename(p) for p in shown})
        for path in shown:
            self.assertTrue(os.path.exists(os.path.join(source, "docs", path)), path)

    def test_prose_holds_no_measured_numbers(self):
        with open(DOCUMENT) as f:
            prose = re.sub(r"<!-- generated: (\S+) -->.*?<!-- end of \1 -->", "", f.read(), flags=re.S)
        self.assertEqual(re.findall(r"\d[\d.,]*\s*(?:%|M/s|M messages|us\b|ns\b|times)", prose), [])

    def test_a_page_is_made_from_figures_of_this_build_and_a_change_of_it_is_found(self):
        with tempfile.TemporaryDirectory() as d:
            document, figures = os.path.join(d, "performance.md"), os.path.join(d, "figures.json")
            shutil.copy(DOCUMENT, document)
            where = ["--figures", figures, "--document", document]
            skip = ["instructions", "peers", "peers-mqtt"] + ([] if "workers.svg" in PLOTS else ["workers"])
            done = run("--measure", build, "--no-build", "--quick", *(w for part in skip for w in ("--skip", part)), *where)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            for name in PLOTS:
                with open(os.path.join(d, name)) as f:
                    self.assertIn("<svg", f.read())
            with open(document) as f:
                text = f.read()
            self.assertIn("not judged", text)
            self.assertEqual(run("--check", *where).returncode, 0)
            self.assertEqual(run(*where).returncode, 0)
            with open(document) as f:
                self.assertEqual(f.read(), text, "the same figures gave another page")
            with open(document, "w") as f:
                f.write(text.replace("not judged", "met"))
            with open(os.path.join(d, PLOTS[0]), "a") as f:
                f.write("<!-- -->")
            done = run("--check", *where)
            self.assertEqual(done.returncode, 1)
            self.assertIn(document, done.stdout)
            self.assertIn(PLOTS[0], done.stdout)

    def test_a_document_without_a_place_for_a_table_is_named_and_left_alone(self):
        with tempfile.TemporaryDirectory() as d:
            document = os.path.join(d, "performance.md")
            with open(document, "w") as f:
                f.write("# Performance\n")
            done = run("--document", document)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("<!-- generated: machine -->", done.stderr)
            with open(document) as f:
                self.assertEqual(f.read(), "# Performance\n")

    def test_arguments_that_do_not_fit_are_refused(self):
        for arguments, named in [(["--seconds", "0"], "0.1 to 60"), (["--check", "--measure"], "--measure"),
                                 (["--figures", "/nonexistent"], "--measure"), (["--skip", "all"], "bench")]:
            done = run(*arguments)
            self.assertNotEqual(done.returncode, 0, arguments)
            self.assertIn(named, done.stderr)


if __name__ == "__main__":
    unittest.main()
