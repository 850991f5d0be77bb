#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What is shipped holds nothing that only tests use.   test_symbols.py BUILD_DIR FILE...

No symbol of the simulated medium is in FILE, a library or program. And without -Dtests=true a hook
point or seeded bug compiles to nothing: the objects of the data path, compiled here the way that build
compiles them, refer to none of the symbols behind hooks, while the objects of BUILD_DIR, which has
tests, do.
"""
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

BUILD, SHIPPED = sys.argv[1], sys.argv[2:]
TESTS_ONLY = re.compile(r"\bchainring::(?:detail::)?sim_\w+|\bchainring::test::")
HOOKS = re.compile(r"\b(?:run_hook|is_active_bug|active_bug|hooks_on|set_hook|set_seeded_bug|fixed_seed|set_fixed_seed)\b")
DATA_PATH = re.compile(r"lib/(?:broker|message|ring)/\w+\.cc$")
SLOW = re.compile(r"recover|store\.cc$")  # what runs at open only


def symbols(path):
    return subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True).stdout


def check_shipped(path):
    said = symbols(path)
    if "chainring::" not in said:
        return [f"{path}: no symbol of chainring at all, so this looks at the wrong file"]
    return [f"{path}: {name}" for name in sorted({m.group(0) for m in TESTS_ONLY.finditer(said)})]


def compile_without(command, folder):
    """The object's hook symbols when compiled without test hooks; a failure is one."""
    words = shlex.split(command["command"])
    at = os.path.join(folder, command["output"].replace("/", "_"))
    for flag in ("-MF", "-MQ", "-o"):
        words[words.index(flag) + 1] = at + (".d" if flag == "-MF" else "")
    done = subprocess.run(words + ["-O0", "-DCHAINRING_TEST_HOOKS=0"], cwd=command["directory"], capture_output=True, text=True)
    if done.returncode != 0:
        return [f"{command['file']}: does not compile without test hooks:\n{done.stderr}"]
    return [f"{command['file']}: refers to {name} without test hooks" for name in sorted(set(HOOKS.findall(symbols(at))))]


wrong = [line for path in SHIPPED for line in check_shipped(path)]
commands = [c for c in json.load(open(os.path.join(BUILD, "compile_commands.json")))
            if DATA_PATH.search(c["file"]) and not SLOW.search(c["file"]) and c["output"].startswith("lib/libchainring_")]
if not commands:
    wrong.append(f"{BUILD}: no object of the data path in compile_commands.json")
with_hooks = sum(bool(HOOKS.search(symbols(os.path.join(c["directory"], c["output"])))) for c in commands)
if with_hooks == 0:
    wrong.append(f"{BUILD}: none of its {len(commands)} objects has a hook, so nothing is shown")
with tempfile.TemporaryDirectory(prefix="chainring-symbols-") as folder:
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for lines in pool.map(lambda c: compile_without(c, folder), commands):
            wrong += lines
for line in wrong:
    print(line)
print(f"{len(SHIPPED)} files shipped; {len(commands)} objects of the data path, of which {with_hooks} have hooks "
      f"with tests: {len(wrong)} complaints")
sys.exit(1 if wrong else 0)
