#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""docs/conformance-mqtt.md names, for each normative statement of MQTT 3.1.1 and 5.0, the tests that show it. This
checks that every test exists that it names, and that it counts itself rightly. It runs none of them.

  test_table.py SOURCE_ROOT
"""
import os
import re
import sys

ROOT = sys.argv[1]
DOCUMENT = os.path.join(ROOT, "docs", "conformance-mqtt.md")
ROW = re.compile(r"^\| (MQTT-\d+\.\d+\.\d+-\d+) \| (.+?) \| (server|client|both) \| (.+?) \| (holds|client|departs|untested) \|$")
wrong = []


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def google_tests():
    """Suite.Name of every test below tests/lib."""
    found = set()
    for directory, _, files in os.walk(os.path.join(ROOT, "tests", "lib")):
        for name in files:
            if name.endswith((".cc", ".h")):
                text = read(directory, name)
                found.update(".".join(m) for m in re.findall(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", text, re.M))
    return found


def exists(test, known, vectors):
    if m := re.fullmatch(r"(test_\w+\.py): (\w+)", test):
        path = os.path.join(ROOT, "tests", "system", "mqtt", m[1])
        return os.path.exists(path) and re.search(rf"^def {m[2]}\(", read(path), re.M) is not None
    if m := re.fullmatch(r"fuzz: (\w+)", test):
        return os.path.exists(os.path.join(ROOT, "tests", "fuzz", m[1] + ".cc"))
    if m := re.fullmatch(r"vectors: (\S+\.json)", test):
        return m[1] in vectors
    return test in known


known, vectors = google_tests(), read("docs", "mqtt-vectors.md")
text = read("docs", "conformance-mqtt.md")
if len(known) < 1000:
    wrong.append(f"only {len(known)} tests were found below tests/lib")
for version in ("3.1.1", "5.0"):
    part = re.search(rf"^## MQTT {re.escape(version)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    lines = [line for line in part[1].splitlines() if line.startswith("| MQTT-")] if part else []
    counts, seen = dict.fromkeys(("holds", "client", "departs", "untested"), 0), set()
    for line in lines:
        row = ROW.match(line)
        if row is None:
            wrong.append(f"{version}: not a row: {line}")
            continue
        statement, _, binds, tests, verdict = row.groups()
        counts[verdict] += 1
        if statement in seen:
            wrong.append(f"{version}: {statement} stands twice")
        seen.add(statement)
        if (verdict in ("holds", "departs")) != (tests != "-") or (verdict == "client") != (binds == "client"):
            wrong.append(f"{version}: {statement}: the tests, whom it binds and the verdict do not go together")
        wrong += [f"{version}: {statement}: there is no test '{t}'" for t in tests.split(", ")
                  if t != "-" and not exists(t, known, vectors)]
    said = (f"{len(lines)} statements: {counts['holds']} hold, {counts['client']} bind clients, {counts['departs']} are departed from, "
            f"{counts['untested']} are not tested.")
    if not lines or part[1].count(said) != 1:
        wrong.append(f"{version}: expected the sentence '{said}'")
print("\n".join(wrong) or "the table names tests that exist, and counts itself rightly")
sys.exit(bool(wrong))
