# SPDX-License-Identifier: BSD-3-Clause
"""Importing this module moves the program, and what it starts, into a network namespace of its own.
Nothing that is sent while a TAP port is away can leave the machine, and the namespace ends with
the program. Needs root."""
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000  # <sched.h>

_libc = ctypes.CDLL(None, use_errno=True)
if _libc.unshare(CLONE_NEWNET) != 0:
    raise SystemExit(f"a network namespace: {os.strerror(ctypes.get_errno())}: run as root")
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
