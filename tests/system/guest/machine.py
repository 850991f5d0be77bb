# SPDX-License-Identifier: BSD-3-Clause
"""A QEMU guest, which can be started, told what to run, reset and killed."""
import json
import os
import select
import socket
import subprocess
import time

from image import need

HANG_S = 240  # this timeout only detects hangs


class GuestDied(Exception):
    pass


class Machine:
    """One guest. `nvdimms` are backing files, `disk` is the socket of an NBD server, `taps` are host interfaces."""

    def __init__(self, directory, image, initramfs, nvdimms, disk, taps, prefix=()):
        self.dir, self.image, self.initramfs = directory, image, initramfs
        self.nvdimms, self.disk, self.taps, self.prefix = nvdimms, disk, taps, list(prefix)
        self.process, self.agent, self.monitor, self.pending, self.boots = None, None, None, b"", 0

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self):
        for name in ("agent", "monitor"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        self.boots += 1
        self.console = self.path(f"console{self.boots}.log")
        command = self.prefix + [
            need("qemu-system-x86_64"), "-machine", "pc,accel=tcg,nvdimm=on", "-cpu", "max", "-smp", "2",
            "-m", "1280M,slots=4,maxmem=4G", "-nodefaults", "-no-user-config", "-display", "none",
            "-kernel", self.image, "-initrd", self.initramfs,
            "-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr apparmor=0 tsc=reliable random.trust_cpu=on",
            "-serial", "file:" + self.console,
            "-chardev", f"socket,id=agent,path={self.path('agent')},server=on,wait=off", "-serial", "chardev:agent",
            "-qmp", f"unix:{self.path('monitor')},server=on,wait=off"]
        for i, (path, size_mib) in enumerate(self.nvdimms):
            # Without a label area the namespace would stay raw, without DAX.
            command += ["-object", f"memory-backend-file,id=m{i},share=on,mem-path={path},size={size_mib + 2}M,align=2M",
                        "-device", f"nvdimm,id=nv{i},memdev=m{i},label-size=2M"]
        if self.disk:
            command += ["-blockdev", f"driver=nbd,node-name=d0,server.type=unix,server.path={self.disk}",
                        "-device", "virtio-blk-pci,drive=d0,write-cache=on"]
        for i, tap in enumerate(self.taps):
            command += ["-netdev", f"tap,id=n{i},ifname={tap},script=no,downscript=no",
                        "-device", f"virtio-net-pci,netdev=n{i},mac=02:00:00:00:20:{i + 1:02x},romfile="]
        self.log = self.path(f"qemu{self.boots}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.agent = self.connect("agent")
        self.pending = b""
        self.monitor = self.connect("monitor").makefile("rw")
        self.monitor.readline()
        self.qmp("qmp_capabilities")
        self.wait_up()

    def connect(self, name):
        deadline = time.monotonic() + HANG_S
        while True:
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(self.path(name))
                return s
            except OSError:
                s.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise GuestDied("QEMU does not run:\n" + open(self.log, errors="replace").read())
                time.sleep(0.02)

    def qmp(self, command):
        self.monitor.write(json.dumps({"execute": command}) + "\n")
        self.monitor.flush()
        while True:
            line = self.monitor.readline()
            if not line:
                raise GuestDied("QEMU is gone")
            answer = json.loads(line)
            if "error" in answer:
                raise GuestDied(f"{command}: {answer['error']}")
            if "return" in answer:
                return

    def read_until(self, mark, hang_s):
        deadline = time.monotonic() + hang_s
        while True:
            at = self.pending.find(mark)
            end = self.pending.find(b"\n", at)
            if at >= 0 and end >= 0:
                before, line = self.pending[:at], self.pending[at:end]
                self.pending = self.pending[end + 1:]
                return before.decode(errors="replace").replace("\r", ""), line[len(mark):].decode().strip()
            if not select.select([self.agent], [], [], 0.5)[0]:
                if time.monotonic() > deadline:
                    raise GuestDied(f"no answer from the guest; console:\n{self.console_tail()}\n"
                                    f"so far:\n{self.pending.decode(errors='replace')[-4000:]}")
                continue
            got = self.agent.recv(65536)
            if not got:
                raise GuestDied("QEMU ended:\n" + open(self.log, errors="replace").read() + self.console_tail())
            self.pending += got

    def console_tail(self):
        with open(self.console, errors="replace") as f:
            return f.read()[-4000:]

    def wait_up(self):
        self.read_until(b"\001up", HANG_S)

    def run(self, command, hang_s=HANG_S):
        """Returns (exit status, output) of a command in the guest."""
        self.agent.sendall(command.replace("\n", " ").encode() + b"\n")
        output, status = self.read_until(b"\001end ", hang_s)
        return int(status), output

    def check(self, command, hang_s=HANG_S):
        status, output = self.run(command, hang_s)
        if status != 0:
            raise SystemExit(f"in the guest, '{command}' ended with {status}:\n{output}")
        return output

    def system_reset(self):
        """Presses the reset button: processors and devices restart, and all memory but the NVDIMMs is forgotten."""
        self.pending = b""
        self.qmp("system_reset")
        self.wait_up()

    def kill(self):
        """Pulls the plug: QEMU dies between two instructions."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for end in (self.agent, self.monitor):
            if end:
                end.close()
        self.agent = self.monitor = None
