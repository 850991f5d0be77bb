#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What is installed can be used: programs print their version, headers compile alone, and together with both
compilers, a program builds with the shared and with the static library, and the unit starts the broker.

  test_install.py BUILD_DIR SOURCE_DIR VERSION MESON
"""
import concurrent.futures
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD, SOURCE, VERSION, MESON = sys.argv[1:5]
HERE = os.path.dirname(os.path.abspath(__file__))
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-std=c++20"]
HANG_S = 120  # this timeout only detects hangs


def run(*command, **more):
    """Returns standard output. A command that fails ends the test with both of its outputs."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, **more)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def find(root, name):
    found = [os.path.join(d, f) for d, _, files in os.walk(root) for f in files if f == name]
    if len(found) != 1:
        raise SystemExit(f"installed {len(found)} times: {name}")
    return found[0]


class Installed:
    def __init__(self, scratch):
        self.root = os.path.join(scratch, "root")
        run(MESON, "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", self.root)
        pc = find(self.root, "libchainring.pc")
        self.libdir = os.path.dirname(os.path.dirname(pc))
        text = open(pc).read()
        self.prefix = re.search(r"^prefix=(.*)$", text, re.M).group(1)
        # The prefix is changed to the scratch directory, which replaces an installation into the system.
        with open(pc, "w") as f:
            f.write(text.replace(f"prefix={self.prefix}", f"prefix={self.root}{self.prefix}", 1))
        self.environment = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc))
        self.programs = os.path.join(self.root + self.prefix, "bin")
        self.include = os.path.join(self.root + self.prefix, "include")

    def flags(self, *arguments):
        return run("pkg-config", *arguments, env=self.environment).split()


def test_versions(i):
    stated = open(os.path.join(SOURCE, "VERSION")).read().strip()
    modversion = run("pkg-config", "--modversion", "libchainring", env=i.environment).strip()
    said = {name: run(os.path.join(i.programs, name), "--version").strip()
            for name in sorted(os.listdir(i.programs))}
    for name in ("dpdk-chainring", "chainring-region", "chainring-client"):
        if name not in said:
            raise SystemExit(f"{name} is not installed")
    wrong = {n: v for n, v in said.items() if v.split() != [n, stated]}
    if wrong or modversion != stated or VERSION != stated:
        raise SystemExit(f"VERSION {stated}, meson {VERSION}, pkg-config {modversion}, programs {said}")
    print(f"version {stated}: VERSION, pkg-config, {', '.join(said)}")


def strict(i):
    """Returns the compiler's flags with warnings for the headers of this project and none for DPDK's."""
    flags = i.flags("--cflags", "libchainring")
    ours = f"-I{i.include}"
    if ours not in flags:
        raise SystemExit(f"pkg-config names no {ours}: {flags}")
    return [f for f in (f if f == ours else re.sub("^-I", "-isystem", f) for f in flags)]


def test_headers(i):
    base = os.path.join(i.include, "chainring")
    headers = sorted(os.path.relpath(os.path.join(d, f), i.include)
                     for d, _, files in os.walk(base) for f in files)
    for header in headers:
        at = os.path.join(i.include, header)
        for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', open(at).read(), re.M):
            if not os.path.isfile(os.path.join(os.path.dirname(at), included)):
                raise SystemExit(f'{header} includes "{included}", which is not installed')
    flags = strict(i)

    def alone(job):
        compiler, header = job
        run(compiler, *WARNINGS, *flags, "-fsyntax-only", "-x", "c++", "-", input=f"#include <{header}>\n")

    for compiler in ("gcc", "clang-19"):
        run(compiler, *(w for w in WARNINGS if not w.startswith("-std")), "-std=c11", *flags, "-fsyntax-only", "-x", "c", "-",
            input="#include <chainring/c.h>\n")

    # What one compiler finds complete, the other one need not find complete again; it compiles all of them together.
    together = ["chainring/chainring.h", "chainring/broker.h"]
    jobs = [("g++", h) for h in headers] + [("clang++-19", h) for h in together]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(alone, jobs))
    # The default clang of Debian is too old. Each header says so first, or is one that it can read.
    version = run("clang++", "-dM", "-E", "-x", "c++", "/dev/null")
    if int(re.search(r"__clang_major__ (\d+)", version).group(1)) < 16:
        def named(header):
            done = subprocess.run(["clang++", *WARNINGS, *flags, "-fsyntax-only", "-x", "c++", "-"], capture_output=True,
                                  text=True, timeout=HANG_S, input=f"#include <{header}>\n")
            errors = re.findall(r"error: (.*)", done.stderr)
            told = done.returncode != 0 and errors and errors[0].startswith('"chainring needs clang 16 or newer')
            if not told and (done.returncode != 0 or header in ("chainring/chainring.h", "chainring/broker.h")):
                raise SystemExit(f"clang++ reads {header} and says: {done.stderr or 'nothing'}")

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(named, headers))
    print(f"{len(headers)} headers, each alone with g++ and clang++-19; an older clang is named as too old")


def look_as_secondary(i, scratch, at, there):
    """A DPDK secondary process looks into the region of a broker, which goes on."""
    free = int(re.search(r"HugePages_Free:\s+(\d+)", open("/proc/meminfo").read()).group(1))
    if free < 160:
        print(f"{free} hugepages are free: no primary for a secondary process")
        return
    prefix, region = f"crsec{os.getpid()}", at("looked-at.region")
    eal = ["--lcores", "0@0,1@0", "--no-pci", "-m", "256", "--file-prefix", prefix, "--vdev=net_null0,no-rx=1"]
    with open(at("primary.log"), "w+b") as log:
        broker = subprocess.Popen([os.path.join(i.programs, "dpdk-chainring"), *eal, "--", "--region", region, "--size", "64M",
                                   "--address", "192.0.2.1/24", "--idle", "sleep"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        said = lambda: os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
        try:
            end = time.monotonic() + HANG_S
            while "chainring: ready" not in said():
                if broker.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the primary did not start:\n{said()}")
                time.sleep(0.05)
            before = os.stat(region).st_mtime_ns
            for kind in ("shared", "static"):
                seen = run(at(f"look-{kind}"), "--proc-type=secondary", "--no-pci", "--lcores", "0@1", "--file-prefix", prefix,
                           "--log-level=error", "--", region, env=there)
                if seen.splitlines()[-1] != "0 records were changing":
                    raise SystemExit(f"secondary_look ({kind}) says: {seen}")
            if os.stat(region).st_mtime_ns != before:
                raise SystemExit("the look has changed the region's file")
            broker.send_signal(signal.SIGTERM)
            if broker.wait(HANG_S) != 0 or "closed cleanly" not in said():
                raise SystemExit(f"the primary did not go on:\n{said()}")
        finally:
            if broker.poll() is None:
                broker.kill()
                broker.wait()
    print("a secondary process looks into the region of a running broker")


def test_library(i, scratch):
    compile = ["g++", *WARNINGS, "-O1", *strict(i)]
    shared = i.flags("--libs", "libchainring")
    # These are the flags that docs/guides/library.md gives.
    static = [*i.flags("--libs-only-L", "libchainring"), "-Wl,-Bstatic", "-lchainring", "-Wl,-Bdynamic",
              *i.flags("--libs", "libdpdk", "libpmem"), "-pthread"]
    at = lambda name: os.path.join(scratch, name)
    sources = {"words": os.path.join(SOURCE, "docs/examples/durable_words.cc"),
               "jobs": os.path.join(SOURCE, "docs/examples/durable_jobs.cc"),
               "topics": os.path.join(SOURCE, "docs/examples/durable_topics.cc"),
               "transfer": os.path.join(SOURCE, "docs/examples/durable_transfer.cc"),
               "orders": os.path.join(SOURCE, "docs/examples/durable_orders.cc"),
               "letters": os.path.join(SOURCE, "docs/examples/counted_letters.cc"),
               "readers": os.path.join(SOURCE, "docs/examples/two_readers.cc"),
               "answers": os.path.join(SOURCE, "docs/examples/late_answers.cc"),
               "packets": os.path.join(SOURCE, "docs/examples/kept_packets.cc"),
               "echo": os.path.join(SOURCE, "docs/examples/echo_front_end.cc"),
               "tally": os.path.join(SOURCE, "docs/examples/durable_tally.cc"),
               "readings": os.path.join(SOURCE, "docs/examples/shared_readings.cc"),
               "memory": os.path.join(SOURCE, "docs/examples/shared_memory_driver.cc"),
               "look": os.path.join(SOURCE, "docs/examples/secondary_look.cc"),
               "drivers": os.path.join(HERE, "drivers.cc")}
    in_c = ["gcc", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-std=c11", "-O1", *strict(i),
            os.path.join(SOURCE, "docs/examples/durable_words.c")]
    run(*in_c, "-o", at("c-words-shared"), *shared)
    run(*in_c, "-o", at("c-words-static"), *static, "-lstdc++")

    def build(name):
        run(*compile, sources[name], "-o", at(f"{name}-shared"), *shared)
        run(*compile, sources[name], "-o", at(f"{name}-static"), *static)
        if "libchainring" in run("ldd", at(f"{name}-static")):
            raise SystemExit("the program meant to be static needs libchainring.so")

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build, sources))
    there = dict(os.environ, LD_LIBRARY_PATH=i.libdir)
    for n, kind in enumerate(("shared", "static", "shared"), 1):
        said = run(at(f"words-{kind}"), at("words.region"), "to", "be", "or", "not", "to", "be", env=there)
        counts = sorted(said.splitlines())
        if not re.fullmatch(r"class (file|process)", counts[1]) or \
           counts[:1] + counts[2:] != [f"be {2 * n}", f"not {n}", f"or {n}", f"to {2 * n}"]:
            raise SystemExit(f"durable_words ({kind}), run {n}, says: {said}")
    for n, kind in enumerate(("shared", "static"), 1):
        said = run(at(f"c-words-{kind}"), at("c-words.region"), "to", "be", "or", "not", "to", "be", env=there)
        if sorted(said.splitlines()) != [f"be {2 * n}", f"not {n}", f"or {n}", f"to {2 * n}"]:
            raise SystemExit(f"durable_words.c ({kind}), run {n}, says: {said}")
    for kind, arguments, heard in (("shared", ["add", "one"], ""), ("static", ["add", "two"], ""), ("shared", ["next"], "one\n"),
                                   ("static", ["done"], "one\n"), ("static", ["done"], "two\n"), ("shared", ["next"], "nothing to do\n")):
        said = run(at(f"jobs-{kind}"), at("jobs.region"), *arguments, env=there)
        if said != heard:
            raise SystemExit(f"durable_jobs ({kind}) {arguments} says: {said}")
    for kind, arguments, heard in (("shared", "join ada news", ""), ("static", "join bob news", ""), ("shared", "join ada jobs", ""),
                                   ("static", "members news", "ada\nbob\n"), ("shared", "topics ada", "jobs\nnews\n"),
                                   ("static", "leave bob news", ""), ("shared", "members news", "ada\n"), ("static", "go ada", "2\n"),
                                   ("shared", "members news", "")):
        said = run(at(f"topics-{kind}"), at("topics.region"), *arguments.split(), env=there)
        if sorted(said.splitlines()) != heard.splitlines():
            raise SystemExit(f"durable_topics ({kind}) {arguments} says: {said}")
    for kind, arguments, heard in (("shared", "put hall 20", "20 pieces on 1 shelves"), ("static", "move hall attic 5", "20 pieces on 2 shelves"),
                                   ("shared", "move attic hall 5", "20 pieces on 1 shelves"), ("static", "move hall hall 20", "20 pieces on 1 shelves")):
        said = run(at(f"transfer-{kind}"), at("transfer.region"), *arguments.split(), env=there)
        if said != heard + "\n":
            raise SystemExit(f"durable_transfer ({kind}) {arguments} says: {said}")
    for kind, arguments, heard in (("shared", ["7", "1", "two bolts"], "placed"), ("static", ["7", "1", "two bolts"], "placed already"),
                                   ("static", ["next"], "two bolts"), ("shared", ["7", "1", "two bolts"], "placed already"),
                                   ("static", ["7", "2", "a nut"], "placed"), ("shared", ["7", "1", "x"], "placed already, and so was a later one"),
                                   ("shared", ["next"], "a nut"), ("static", ["next"], "no order")):
        said = run(at(f"orders-{kind}"), at("orders.region"), *arguments, env=there)
        if said != heard + "\n":
            raise SystemExit(f"durable_orders ({kind}) {arguments} says: {said}")
    for kind, arguments, heard in (("shared", ["one"], ["one"]), ("static", ["two", "-"], []), ("static", ["three"], ["two", "three"])):
        said = run(at(f"echo-{kind}"), at("echo.region"), *arguments, env=there)
        if said != "".join(f"echo/here: {text}\n" for text in heard):
            raise SystemExit(f"echo_front_end ({kind}) {arguments} says: {said}")
    for kind, value, total in (("shared", 20, "1 values, sum 20"), ("static", 22, "2 values, sum 42")):
        said = run(at(f"tally-{kind}"), at("tally.region"), str(value), env=there)
        if said != total + "\n":
            raise SystemExit(f"durable_tally ({kind}) says: {said}")
    for kind in ("shared", "static"):
        said = run(at(f"letters-{kind}"), "mississippi", env=there)
        if said != "i 8000\nm 2000\np 4000\ns 8000\n":
            raise SystemExit(f"counted_letters ({kind}) says: {said}")
        said = run(at(f"readers-{kind}"), at("readers.region"), "one", "two", env=there)
        if said != "heard: one two\n" * 2:
            raise SystemExit(f"two_readers ({kind}) says: {said}")
        said = run(at(f"answers-{kind}"), "--no-huge", "--no-pci", "--no-shconf", "-m", "64", "--log-level=error", env=there)
        if said.splitlines()[-2:] != ["request 2 is late", "request 1 is late"]:
            raise SystemExit(f"late_answers ({kind}) says: {said}")
        for kept in range(3):
            said = run(at(f"packets-{kind}"), "--no-huge", "--no-pci", "--no-shconf", "-m", "64", "--log-level=error",
                       "--vdev=net_null0,size=1000", "--", at(f"packets-{kind}.region"), env=there)
            if not said.endswith(f"sent {32 if kept else 0} of former runs, kept 32\n"):
                raise SystemExit(f"kept_packets ({kind}), run {kept + 1}, says: {said}")
        said = run(at(f"readings-{kind}"), "5000", env=there)
        if said != "10000 readings of 4 sensors, sum 24995000\n":
            raise SystemExit(f"shared_readings ({kind}) says: {said}")
    with tempfile.TemporaryDirectory(prefix="chainring-install-", dir="/dev/shm") as memory:
        for n, kind in enumerate(("shared", "static"), 1):
            said = run(at(f"memory-{kind}"), os.path.join(memory, "region"), env=there)
            if said != f"run {n}, driver shared-memory\n":
                raise SystemExit(f"shared_memory_driver ({kind}), run {n}, says: {said}")
    look_as_secondary(i, scratch, at, there)
    expected = None
    for kind in ("shared", "static"):
        said = run(at(f"drivers-{kind}"), scratch, env=there)
        drivers = dict(line.split(": ", 1) for line in said.splitlines())
        if not {"file", "hugetlb", "dax"} <= set(drivers):
            raise SystemExit(f"drivers of the {kind} program: {said}")
        for name in ("file", "hugetlb", "dax"):
            if f"{scratch}/absent" not in drivers[name]:
                raise SystemExit(f"driver {name} refuses without naming the path: {drivers[name]}")
        if expected not in (None, said):
            raise SystemExit(f"shared says:\n{expected}static says:\n{said}")
        expected = said
    print(f"the examples shared and static; drivers in both: {', '.join(drivers)}")


def test_mempool_driver(i):
    """It needs nothing of the library beside it, and shows EAL and other libraries no name."""
    driver = find(i.root, "librte_mempool_chainring.so")
    if os.path.dirname(driver) != os.path.join(i.libdir, "chainring"):
        raise SystemExit(f"the mempool driver is installed as {driver}")
    shown = run("nm", "-D", "--defined-only", driver).split()
    if shown or "libchainring" in run("ldd", driver):
        raise SystemExit(f"the mempool driver shows {shown} and needs {run('ldd', driver)}")
    print("the mempool driver is installed and stands alone")


def test_unit(i, scratch):
    """Checks the unit with systemd, then runs its ExecStart by hand: start, ready, SIGTERM, closed."""
    text = open(find(i.root, "chainring.service")).read()
    exec_start = re.search(r"^ExecStart=(.*)$", text, re.M).group(1)
    program = os.path.join(i.prefix, "bin", "dpdk-chainring")
    if shlex.split(exec_start)[0] != program:
        raise SystemExit(f"the unit starts {exec_start}, and {program} is what is installed")
    if shutil.which("systemd-analyze"):
        unit = os.path.join(scratch, "chainring.service")
        with open(unit, "w") as f:
            f.write(text.replace(program, i.root + program))
        run("systemd-analyze", "verify", "--man=no", unit)
        print("systemd-analyze verify: fine")
    else:  # check what can be checked without it
        for line in text.splitlines():
            if line and not re.match(r"#|\[(Unit|Service|Install)\]$|[A-Z]\w*=", line):
                raise SystemExit(f"not a unit's line: {line}")
        print("no systemd-analyze here: the unit's lines have a unit's form, no more was checked")

    args_file = re.search(r"^EnvironmentFile=(.*)$", text, re.M).group(1)
    config = re.search(r"--config (\S+)", exec_start).group(1)
    example = open(find(i.root, "eal.args")).read()
    if not re.search(r"^EAL_ARGS=\S", example, re.M) or os.path.basename(args_file) != "eal.args":
        raise SystemExit("the example eal.args does not set what the unit reads")
    settings = open(find(i.root, os.path.basename(config))).read()
    state = re.search(r"^StateDirectory=(.*)$", text, re.M).group(1)
    if f'region = "/var/lib/{state}/' not in settings:
        raise SystemExit("the example configuration keeps its region where the unit makes no directory")
    own = os.path.join(scratch, "chainring.conf")
    with open(own, "w") as f:
        f.write(re.sub(r"^size = .*$", 'size = "64M"',
                       settings.replace(f"/var/lib/{state}/", scratch + "/"), flags=re.M))
    eal = (f"--lcores 0@0,1@0 --no-pci --no-huge -m 256 --no-telemetry --file-prefix crinst{os.getpid()} "
           "--vdev=net_null0,no-rx=1")
    command = []
    for word in shlex.split(exec_start):
        command += eal.split() if word == "$EAL_ARGS" else [word.replace(config, own).replace(program, i.root + program)]
    for life in ("first", "second"):
        log = os.path.join(scratch, f"log-{life}")
        with open(log, "wb") as to:
            broker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=to, stderr=to)
        try:
            end = time.monotonic() + HANG_S
            while "chainring: ready" not in open(log).read():
                if broker.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"ExecStart by hand did not start:\n{open(log).read()}")
                time.sleep(0.05)
            broker.send_signal(signal.SIGTERM)
            status = broker.wait(HANG_S)
        finally:
            if broker.poll() is None:
                broker.kill()
                broker.wait()
        if status != 0 or "closed cleanly" not in open(log).read():
            raise SystemExit(f"status {status} after SIGTERM:\n{open(log).read()}")
        said = run(os.path.join(i.programs, "chainring-region"), "info", os.path.join(scratch, "region"))
        if not re.search(r"^last closed +cleanly$", said, re.M):
            raise SystemExit(f"the region is not clean:\n{said}")
    print("ExecStart by hand: ready, SIGTERM, closed cleanly, twice")


with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="chainring-install-") as scratch:
    installed = Installed(scratch)
    test_versions(installed)
    test_mempool_driver(installed)
    test_library(installed, scratch)
    test_unit(installed, scratch)
    test_headers(installed)
