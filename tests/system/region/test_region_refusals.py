#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What cannot be opened is refused with a sentence that names it and says what to do, by the tool and
by the broker, and is left as it was; what can be lived with is opened and told.

  test_region_refusals.py BROKER REGION_TOOL DIRECTORY
"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from regions import *

PROGRAM, TOOL, DIRECTORY = sys.argv[1:4]
SIZE = 4 << 20
SMALL = ["--size", "4M", "--journal-size", "1M", "--max-sessions", "16", "--max-subscriptions", "16"]
# On a disk the region is in a container with a journal; on tmpfs it is the file.
os.makedirs(DIRECTORY, exist_ok=True)
on_tmpfs = subprocess.run(["stat", "-f", "-c", "%T", DIRECTORY], capture_output=True, text=True).stdout.strip() == "tmpfs"
checked = 0


def check(true, what, said=""):
    global checked
    checked += 1
    if not true:
        raise SystemExit(f"{what}\n{said}")


def says(said, words, what):
    for word in words:
        check(word in said, f"{what}: it does not say '{word}':", said)


def refused_by_tool(path, *words, command="check", untouched=True):
    before = digest(path) if os.path.isfile(path) else None
    for c in {command, "info"}:
        said = run(TOOL, c, path, status=2)
        says(said, [path, *words], f"chainring-region {c}")
    if untouched and before:
        check(digest(path) == before, f"chainring-region changed {path}")


def refused_by_broker(path, *words, arguments=(), untouched=True, from_byte=0):
    before = digest(path, from_byte) if os.path.isfile(path) else None
    with Broker(PROGRAM, path, *arguments) as b:
        status, said = b.refused()
        check(status == 2, f"the broker's status is {status}", said)
        check("ready" not in said, "it started", said)
        says(said, [path, *words], "dpdk-chainring")
    if untouched and before:
        check(digest(path, from_byte) == before, f"dpdk-chainring changed {path}")


def refused(path, *words, **more):
    refused_by_tool(path, *words)
    refused_by_broker(path, *words, **more)


def refused_region(path, *words):
    """Refused for what the region says. The container is opened by then, which renews its headers;
    every byte of the region stays."""
    refused(path, *words, from_byte=Superblock.image_of(path))


def fresh(name):
    path = os.path.join(scratch, name)
    run(TOOL, "create", path, *SMALL)
    return path


def test_each_superblock_damaged():
    for copy, letter, other in ((0, "A", "B"), (1, "B", "A")):
        path = fresh(f"damaged-{letter}")
        s = Superblock(path, copy)
        s["block_count"] += 1
        s.store(good_crc=False)
        note = f"superblock {letter} fails its checksum; superblock {other} is used"
        before = digest(path)
        says(run(TOOL, "check", path, status=1), [note, "damaged"], "check")
        says(run(TOOL, "info", path), [note], "info")
        check(digest(path) == before, "the tool changed what it looked at")
        with Broker(PROGRAM, path) as b:
            b.ready()
            says(b.said(), [note], "dpdk-chainring")
            check(b.end() == 0, "it did not close cleanly", b.said())
        says(run(TOOL, "check", path), ["clean"], "after the broker made it whole")


def test_both_superblocks_damaged():
    path = fresh("damaged-both")
    for copy in (0, 1):
        s = Superblock(path, copy)
        s["size"] += 4096
        s.store(good_crc=False)
    refused_region(path, "superblock A fails its checksum", "superblock B fails its checksum", "restore it from a copy")


def forged(name, **fields):
    path = fresh(name)
    for copy in (0, 1):
        s = Superblock(path, copy)
        for field, value in fields.items():
            s[field] = value
        s.store()
    return path


def test_what_this_build_does_not_know():
    refused_region(forged("major", format_major=7), "format version 7", "this build reads 3", "open it with a build that reads that version")
    refused_region(forged("older", format_major=1), "format version 1", "this build reads 3", "drain it with the version that made it, and create another")
    refused_region(forged("incompat", incompat=4), "incompat flags 4", "open it with a build that knows them")
    path = forged("compat", compat=8)
    with Broker(PROGRAM, path) as b:
        b.ready()
        check(b.end() == 0, "it did not close cleanly", b.said())
    check(Superblock(path, 0)["compat"] == 8, "an unknown compat flag was not kept")
    path = forged("ro-compat", ro_compat=2)
    says(run(TOOL, "check", path), ["clean"], "an unknown ro_compat flag allows reading")
    refused_by_broker(path, "ro_compat flags 2", "open it read-only", from_byte=Superblock.image_of(path))


def test_only_the_newer_superblock_is_judged():
    """One that is newer and not understood is not passed over for an older one."""
    path = fresh("newer")
    a, b = Superblock(path, 0), Superblock(path, 1)
    newer, older = (a, b) if a["sequence"] > b["sequence"] else (b, a)
    newer["format_major"] = 4
    newer.store()
    refused_region(path, "format version 4")


def test_sizes_that_cannot_be():
    refused_region(forged("longer", size=SIZE * 2), str(SIZE * 2), "truncated", "restore the whole file")
    refused_region(forged("block-size", block_size=300), "block size 300", "restore it from a copy")
    refused_region(forged("blocks", block_count=1 << 40), "blocks at", "restore it from a copy")


def test_block_size_of_another_region():
    """Its tables would lie elsewhere: one that is valid by itself, and wrong for these contents."""
    path = fresh("other-blocks")
    said = run(TOOL, "create", os.path.join(scratch, "big-blocks"), *SMALL, "--block-size", "4096")
    check("4096 bytes" in said, "the block size asked for", said)
    with Broker(PROGRAM, path, "--block-size", "4096") as b:  # only when creating, as --help says
        b.ready()
        check(b.end() == 0, "it did not close cleanly", b.said())
    says(run(TOOL, "info", path), ["block size    256"], "the region's block size stays")


def test_truncated():
    for keep in (SIZE + (1 << 20) if not on_tmpfs else SIZE - 4096, 6000, 100):
        path = fresh(f"truncated-{keep}")
        os.truncate(path, keep)
        refused(path)  # words differ; the path is named
        said = run(TOOL, "check", path, status=2)
        check(any(w in said for w in ("cut short", "truncated", "too short", "too few")), "it does not say why:", said)


def test_not_a_region():
    path = os.path.join(scratch, "letter")
    with open(path, "wb") as f:
        f.write(b"Dear reader, \n" * 100000)
    os.truncate(path, 1 << 20)
    refused(path, "not a region")
    empty = os.path.join(scratch, "empty")
    open(empty, "wb").close()
    refused_by_tool(empty, "it is an empty file, which is no region; remove it")
    refused_by_broker(empty, "it is an empty file, which is no region; remove it")
    says(run(TOOL, "create", empty, *SMALL, status=2), ["remove it"], "create over an empty file")
    check(os.path.getsize(empty) == 0, "an empty file of somebody's was changed")


def test_paths_that_cannot_be():
    refused_by_tool(scratch, "is a directory")
    refused_by_broker(scratch, "is a directory")
    absent = os.path.join(scratch, "no", "such", "place")
    missing = f"its directory {os.path.dirname(absent)} does not exist; make it, or name another path"
    refused_by_tool(absent, missing)
    refused_by_broker(absent, missing)
    link = os.path.join(scratch, "link")
    os.symlink(os.path.join(scratch, "gone"), link)
    refused_by_tool(link, "it is a symbolic link to", "which is not there")
    refused_by_broker(link, "it is a symbolic link to", "which is not there")
    check(not os.path.exists(link), "something was made where the link leads")
    limited = os.path.join(scratch, "limited")
    said = run("prlimit", "--fsize=2097152", "--", TOOL, "create", limited, *SMALL, status=2)
    says(said, [limited, "ulimit -f"], "a file above the limit on sizes")
    check(not os.path.exists(limited), "a file that could not be made whole was left behind")
    says(run(TOOL, "info", os.path.join(scratch, "absent"), status=2), ["chainring-region create"], "an absent file")
    check(not os.path.exists(os.path.join(scratch, "absent")), "info made a file")
    for path in ("/proc/region", "/sys/region"):
        said = run(TOOL, "create", path, *SMALL, status=2)
        says(said, [path], "a path that cannot be written")
        refused_by_broker(path)
    path = fresh("exists")
    before = digest(path)
    says(run(TOOL, "create", path, *SMALL, status=2), [path, "File exists", "give another path"], "create over a region")
    check(digest(path) == before, "create changed what exists")


def test_a_second_opener():
    path = fresh("in-use")
    with Broker(PROGRAM, path) as first:
        first.ready()
        words = ["open elsewhere", "stop that program first"]
        says(run(TOOL, "check", path, status=2), [path, *words, "chainring-region dump"], "a check of a region in use")
        refused_by_broker(path, *words, untouched=False)
        says(run(TOOL, "info", path, status=0), ["no: it is in use"], "a look at a region in use")
        check(first.process.poll() is None, "the first broker ended")
        check(first.end() == 0, "it did not close cleanly", first.said())
    says(run(TOOL, "info", path), ["last closed   cleanly"], "the first broker's region")


def test_a_full_disk():
    """A tmpfs of 8 MiB, where only class process can be; a loop device is not everywhere."""
    mount = os.path.join(scratch, "small")
    os.mkdir(mount)
    run("mount", "-t", "tmpfs", "-o", "size=8m", "none", mount)
    try:
        path = os.path.join(mount, "region")
        said = run(TOOL, "create", path, "--size", "64M", status=2)
        says(said, [path, "No space left on device"], "create on a full disk")
        check(os.listdir(mount) == [], "a failed create left something")
        with Broker(PROGRAM, path, "--size", "64M") as b:
            status, said = b.refused()
            check(status == 2, "status", said)
            says(said, [path, "No space left on device"], "dpdk-chainring on a full disk")
        if os.path.exists(path):
            raise SystemExit("a failed create left a region")
        for leftover in os.listdir(mount):
            os.unlink(os.path.join(mount, leftover))
        run(TOOL, "create", path, *SMALL)
        before = digest(path)
        with Broker(PROGRAM, path, "--size", "64M") as b:  # to be grown
            status, said = b.refused()
            check(status == 2, "status", said)
            says(said, [path, "No space left on device"], "growing on a full disk")
        says(run(TOOL, "check", path), ["clean"], "what could not grow")
        check(os.path.getsize(path) == SIZE, "its size changed")
    finally:
        run("umount", mount)


def test_the_tool_s_arguments():
    path = os.path.join(scratch, "never")
    for arguments, words in ((["--size", "x"], ["--size", "'x'", "256M"]), (["--size", "-4M"], ["--size"]),
                             (["--size", "0"], ["--size", "at least"]), (["--size", "9999999T"], ["--size", "up to"]),
                             (["--size", "4M"], ["need", "--max-sessions"]),
                             (["--size", "4M", "--block-size", "100"], ["--block-size", "256"]),
                             (["--size", "4M", "--class", "hope"], ["--class", "power"]),
                             (["--size", "4M", "--max-sessions", "0"], ["--max-sessions", "1"]),
                             (["--size", "4M", "--max-subscriptions", "0"], ["--max-subscriptions", "1"]),
                             (["--size", "4M", "--max-messages", "-1"], ["--max-messages", "0"]),
                             (["--size", "64M", "--class", "power"], [path]),
                             ([], ["--size"]), (["--size", "4M", "--colour", "red"], ["--colour"])):
        says(run(TOOL, "create", path, *arguments, status=2), words, f"create {arguments}")
        check(not os.path.exists(path), f"create {arguments} left a file")
    run(TOOL, status=2)
    run(TOOL, "destroy", path, status=2)
    says(run(TOOL, "create", "--help"), ["--size", "--block-size", "--class", "--journal-size", "--max-messages"], "--help")


scratch = tempfile.mkdtemp(dir=DIRECTORY, prefix="chainring-refusals-")
try:
    tests = [(n, f) for n, f in sorted(globals().items()) if n.startswith("test_")]
    for name, test in tests:
        test()
        print(f"{name}: fine", flush=True)
    print(f"{len(tests)} tests, {checked} checks")
finally:
    shutil.rmtree(scratch)
