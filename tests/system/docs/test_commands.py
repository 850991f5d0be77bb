#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs every command of the README and the guides in the order of a reader: each ```sh block of a
document, one command after the other, in one directory and one network namespace. A broker and a
subscriber that does not end by itself (-C, -W, -E) stay in the background, as in a terminal of
their own; the next broker of the document takes the place of the last. Everything else has to end with status 0.

A block below a comment `<!-- not run: REASON -->` is not run; its programs have to be there, and to
know the arguments. Blocks of other languages (```text, ```cpp) are no commands, and a block of no
language or one that is indented is an error, so that no command escapes by its form.

  test_commands.py SOURCE_ROOT BUILD_ROOT [DOCUMENT ...]
"""
import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import own_network  # noqa: F401

SOURCE, BUILD = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
DOCUMENTS = sys.argv[3:] or ["README.md", "docs/guides/running.md", "docs/guides/inspecting.md", "docs/guides/client.md", "docs/guides/network.md",
                             "docs/guides/generator.md", "docs/guides/benchmarks.md", "docs/performance.md"]
HANG_S = 120  # this timeout only detects hangs
NOT_RUN = re.compile(r"<!-- not run: (\S.{10,}) -->$")
OURS = {"dpdk-chainring", "dpdk-chainring-gen", "chainring-client", "chainring-region", "chainring-bench"}


def fail(what, said=""):
    raise SystemExit(f"{what}\n{said}")


def blocks(document):
    """Returns (line, commands, reason why it is not run or None) for each block of commands."""
    lines = open(os.path.join(SOURCE, document)).read().split("\n")
    found, fence, reason, body, start = [], None, None, [], 0
    for n, line in enumerate(lines, 1):
        if fence is None and line.startswith("```"):
            fence, body, start = line[3:].strip(), [], n
            if not fence:
                fail(f"{document}:{n}: a block has no language; expected sh, text or cpp")
            before = NOT_RUN.match(lines[n - 2]) if n > 1 else None
            reason = before.group(1) if before else None
        elif fence is not None and line == "```":
            if fence == "sh":
                found.append((start, body, reason))
            fence = None
        elif fence is not None:
            body.append(line)
        elif re.match(r"    \S", line) and not lines[n - 2].strip():
            fail(f"{document}:{n}: a block is indented; expected a fence with a language")
        elif line.startswith("<!-- not run") and not (NOT_RUN.match(line) and lines[n].startswith("```sh")):
            fail(f"{document}:{n}: a 'not run' comment must give a reason directly above an sh block")
    return found


def commands(body):
    """Returns the commands of a block, with continued lines joined."""
    joined = []
    for line in body:
        if joined and joined[-1].endswith("\\"):
            joined[-1] = joined[-1][:-1] + " " + line.strip()
        elif line.strip() and not line.lstrip().startswith("#"):
            joined.append(line)
    return joined


def words_of(command):
    return shlex.split(command, comments=True)


class Background:
    def __init__(self, command, name):
        self.name, self.log = name, tempfile.TemporaryFile()
        self.process = subprocess.Popen(["bash", "-c", "exec " + command], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=top)

    def said(self):
        return os.pread(self.log.fileno(), 1 << 22, 0).decode(errors="replace")

    def until(self, words):
        end = time.monotonic() + HANG_S
        while words not in self.said():
            if self.process.poll() is not None or time.monotonic() > end:
                fail(f"{self.name}: the program never printed '{words}'", self.said())
            time.sleep(0.05)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            fail(f"{self.name}: the program does not end", self.said())


def check_only(where, command):
    """Checks a command that is not run: its form, its program and the names of its arguments."""
    if subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode != 0:
        fail(f"{where}: this is no valid shell command", command)
    words = words_of(command)
    program = words[0]
    if shutil.which(program, path=f"{top}:{os.environ['PATH']}") is None and not os.path.exists(os.path.join(top, program)):
        fail(f"{where}: there is no {program}", command)
    if os.path.basename(program) not in OURS:
        return
    # The help of a program with commands does not hold the options of the commands.
    help_of = "--help-all" if os.path.basename(program) == "chainring-client" else "--help"
    said = subprocess.run([os.path.join(top, program), help_of], capture_output=True, text=True, timeout=HANG_S).stdout
    for word in words[1:]:
        if word.startswith("--") and len(word) > 2 and word.split("=")[0] not in said:
            fail(f"{where}: --help does not list {word}", command)


def run(document):
    broker, subscriber = None, None
    ran = left = 0
    try:
        for line, body, reason in blocks(document):
            for command in commands(body):
                where = f"{document}:{line}"
                if reason:
                    check_only(where, command)
                    left += 1
                    continue
                words, ran = words_of(command), ran + 1
                name = os.path.basename(words[0])
                if name == "dpdk-chainring":
                    if broker:
                        broker.end()
                    broker = Background(command, where)
                    broker.until("chainring: ready")
                    continue
                if name == "chainring-client" and words[1] == "sub" and not {"-C", "--count", "-W", "--timeout", "-E"} & set(words):
                    subscriber = Background(command + " -d", where)
                    subscriber.until("received SUBACK")
                    continue
                done = subprocess.run(["bash", "-c", command], cwd=top, capture_output=True, text=True, timeout=HANG_S,
                                      stdin=subprocess.DEVNULL)
                if done.returncode != 0:
                    fail(f"{where}: {command}\nstatus {done.returncode}", done.stdout + done.stderr + (broker.said() if broker else ""))
                if name == "chainring-client" and words[1] == "pub" and subscriber:
                    topic, text = words[words.index("-t") + 1], words[words.index("-m") + 1]
                    subscriber.until(f"{topic} {text}")
    finally:
        for b in (subscriber, broker):
            if b:
                b.end()
    print(f"{document}: {ran} commands run, {left} not", flush=True)


def own_directories():
    """Puts /var/lib and /dev/shm of this program into the scratch directory."""
    CLONE_NEWNS = 0x00020000
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        fail("a mount namespace cannot be made; run this test as root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for path in ("/var/lib", "/dev/shm"):
        own = os.path.join(scratch, path.strip("/").replace("/", "-"))
        os.mkdir(own)
        subprocess.run(["mount", "--bind", own, path] if path == "/var/lib" else ["mount", "-t", "tmpfs", "none", path], check=True)


with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="chainring-commands-") as scratch:
    top = os.path.join(scratch, "clone")
    os.mkdir(top)
    for entry in os.listdir(SOURCE):
        if not entry.startswith("build") and entry != ".git":
            os.symlink(os.path.join(SOURCE, entry), os.path.join(top, entry))
    os.symlink(BUILD, os.path.join(top, "build"))
    own_directories()
    helped = subprocess.run([os.path.join(top, ".ci/quickstart"), "--help"], capture_output=True, text=True, timeout=HANG_S)
    if helped.returncode != 0 or "From a fresh clone" not in helped.stdout or "installing" in helped.stdout:
        fail(".ci/quickstart --help", helped.stdout + helped.stderr)
    # The quickstart must build every program that the documents name.
    quickstart = open(os.path.join(SOURCE, ".ci/quickstart")).read()
    for document in DOCUMENTS:
        for named in set(re.findall(r"build/(app/[\w-]+/[\w-]+)", open(os.path.join(SOURCE, document)).read())):
            if named not in quickstart:
                fail(f"{document} names build/{named}, which .ci/quickstart does not build")
    for document in DOCUMENTS:
        run(document)
    subprocess.run(["umount", "-l", "/var/lib"], check=True)
