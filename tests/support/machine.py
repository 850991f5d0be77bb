# SPDX-License-Identifier: BSD-3-Clause
"""What figures depend on besides the source: the machine, the commit and the build."""
import json
import os
import platform
import re
import subprocess

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD_OPTIONS = ("buildtype", "optimization", "debug", "b_lto", "b_sanitize", "tests", "cpu", "cpp_args")


def said(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=SOURCE)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit():
    """The commit that is checked out, and "changed" if files differ from it."""
    name = said("git", "rev-parse", "--short=10", "HEAD") or "unknown"
    return name + (", changed" if said("git", "status", "--porcelain", "--untracked-files=no") else "")


def build_options(build):
    """{option: value} of a build directory, as meson knows them."""
    found = json.loads(said("meson", "introspect", "--buildoptions", os.path.abspath(build)) or "[]")
    return {o["name"]: o["value"] for o in found if o["name"] in BUILD_OPTIONS}


def compiler(build):
    """The first line of what the compiler of a build directory says of itself."""
    try:
        with open(os.path.join(build, "compile_commands.json")) as f:
            words = json.load(f)[0]["command"].split()
    except OSError:
        return "unknown"
    named = words[1] if os.path.basename(words[0]) == "ccache" else words[0]
    return said(named, "--version").split("\n")[0] or named


def describe(build):
    """What a figure needs beside it to be made again."""
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"model name\s*: (.*)", f.read())
    with open("/proc/meminfo") as f:
        pages = re.search(r"HugePages_Total:\s*(\d+)", f.read())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "hugepages": int(pages[1]) if pages else 0,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "compiler": compiler(build),
        "commit": commit(),
        "build_options": build_options(build),
    }
