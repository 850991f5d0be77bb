# SPDX-License-Identifier: BSD-3-Clause
"""Regions and brokers for tests of the real programs: made, forged, started, ended."""
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time

HANG_S = 90  # only detects hangs
CRC_TABLE = []
for _n in range(256):
    for _ in range(8):
        _n = _n >> 1 ^ (0x82F63B78 if _n & 1 else 0)
    CRC_TABLE.append(_n)


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value


class Superblock:
    """One of the two, as docs/media-format.md says: fields by name, stored with its CRC32C."""
    SIZE, CRC_AT = 256, 56
    FIELDS = {"magic": ("<Q", 0), "format_major": ("<I", 8), "sequence": ("<Q", 16), "size": ("<Q", 32),
              "block_count": ("<Q", 40), "state": ("<I", 48), "crc": ("<I", 56), "uuid": ("<Q", 64), "compat": ("<I", 80), "incompat": ("<I", 84),
              "ro_compat": ("<I", 88), "block_size": ("<I", 92), "areas_size": ("<Q", 104), "block_offset": ("<Q", 120)}

    def __init__(self, path, copy):
        self.path = path
        self.at = self.image_of(path) + 4096 * copy
        with open(path, "rb") as f:
            f.seek(self.at)
            self.bytes = bytearray(f.read(self.SIZE))
        if self.bytes[:8] != b"ChainRgn" or crc32c(self.sealed()) != self["crc"]:
            raise SystemExit(f"{path}: no superblock at {self.at}; has the format changed?")

    @staticmethod
    def image_of(path):
        """Where the region begins: at 0, or where its container's header says."""
        with open(path, "rb") as f:
            first = f.read(72)
        return struct.unpack_from("<Q", first, 56)[0] if first[:8] == b"CHNGJNL1" else 0

    def __getitem__(self, field):
        form, at = self.FIELDS[field]
        return struct.unpack_from(form, self.bytes, at)[0]

    def __setitem__(self, field, value):
        form, at = self.FIELDS[field]
        struct.pack_into(form, self.bytes, at, value)

    def sealed(self):
        copy = bytearray(self.bytes)
        copy[self.CRC_AT:self.CRC_AT + 4] = bytes(4)
        return bytes(copy)

    def store(self, good_crc=True):
        if good_crc:
            self["crc"] = crc32c(self.sealed())
        with open(self.path, "r+b") as f:
            f.seek(self.at)
            f.write(self.bytes)


def digest(path, from_byte=0):
    with open(path, "rb") as f:
        f.seek(from_byte)
        return hashlib.sha256(f.read()).hexdigest()


def run(*command, status=0):
    """What it says on both outputs; another status ends the test."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, stdin=subprocess.DEVNULL)
    said = done.stdout + done.stderr
    if status is not None and done.returncode != status:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}, expected {status}\n{said}")
    return said


class Broker:
    """dpdk-chainring without hugepages. `vdev` is its port; a null one costs nothing."""
    count = 0
    lcores = "0@0,1@0"

    def __init__(self, program, region, *arguments, vdev="net_null0,no-rx=1", address="192.0.2.1/24", telemetry=False,
                 stdin=subprocess.DEVNULL, lcores=None):
        self.lcores = lcores or Broker.lcores
        self.start([program, *self.eal(vdev, telemetry), "--", "--region", region,
                    *(["--address", address] if address else []), "--idle", "sleep", *arguments], stdin)

    def eal(self, vdev, telemetry=False):
        Broker.count += 1
        self.prefix = f"crt{os.getpid()}x{Broker.count}"
        return ["--lcores", self.lcores, "--no-pci", "--no-huge", "-m", "256", "--file-prefix", self.prefix,
                *([] if telemetry else ["--no-telemetry"]), f"--vdev={vdev}"]

    def start(self, command, stdin=subprocess.DEVNULL):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=stdin, stdout=self.log, stderr=self.log)

    def said(self):
        return os.pread(self.log.fileno(), 1 << 24, 0).decode(errors="replace")

    def until(self, words):
        """Waits until its output holds `words`. False: it ended without."""
        end = time.monotonic() + HANG_S
        while words not in self.said():
            if self.process.poll() is not None:
                return words in self.said()
            if time.monotonic() > end:
                self.kill()
                raise SystemExit(f"the broker never said '{words}':\n{self.said()}")
            time.sleep(0.02)
        return True

    def ready(self):
        if not self.until("chainring: ready"):
            raise SystemExit(f"the broker did not start:\n{self.said()}")
        return self

    def end(self, how=signal.SIGTERM):
        """Ends it; its status."""
        self.process.send_signal(how)
        return self.process.wait(HANG_S)

    def refused(self):
        """Waits for its end; its status and what it said."""
        try:
            return self.process.wait(HANG_S), self.said()
        except subprocess.TimeoutExpired:
            self.kill()
            raise SystemExit(f"the broker was to refuse:\n{self.said()}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.log.close()
        shutil.rmtree(f"/run/dpdk/{self.prefix}", ignore_errors=True)
