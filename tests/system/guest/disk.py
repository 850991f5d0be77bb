# SPDX-License-Identifier: BSD-3-Clause
"""A disk with a volatile write cache: an NBD server that forgets unflushed writes at a power cut.

A completed write sits in the cache, sector by sector, until a flush makes it durable. A power cut
comes within a write, so that something is always unflushed, and decides for each sector on its own:
none of the writes since the last flush is there, or all, or the first few of them. So writes are
lost, torn between their sectors and reordered, as a disk may; flushed ones never are, and one sector
never tears.
"""
import os
import random
import socket
import struct
import threading

SECTOR = 512
OPTION_MAGIC, REPLY_MAGIC = 0x49484156454F5054, 0x3E889045565A9
REQUEST_MAGIC, ANSWER_MAGIC = 0x25609513, 0x67446698
EXPORT_NAME, ABORT, LIST, INFO, GO = 1, 2, 3, 6, 7
ACK, INFO_REPLY, UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH, TRIM = 0, 1, 2, 3, 4
FLAGS = 1 | 4 | 8  # the server has flags, and supports FLUSH and FUA
FUA = 1
EINVAL = 22


class Disk:
    def __init__(self, path, size, seed):
        self.path, self.size, self.choose = path, size, random.Random(seed)
        self.now = bytearray(size)      # what the guest reads
        self.durable = bytearray(size)  # what a power cut leaves
        self.cache = {}                 # for each sector, its contents after each write since it was durable
        self.lock, self.off, self.connections = threading.Lock(), True, []
        self.is_cut, self.countdown, self.outcome = threading.Event(), 0, (0, 0)
        self.writes = self.flushes = self.lost = self.kept = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        threading.Thread(target=self.accept, daemon=True).start()

    def power_on(self):
        self.off = False

    def cut(self, writes, wait_s):
        """Makes the power fail within the `writes`-th write from now; from there on nothing is answered.
        Returns (sectors lost or set back, sectors kept whole)."""
        self.is_cut.clear()
        with self.lock:
            self.countdown = writes
        self.is_cut.wait(wait_s)  # without writes the power fails after this time
        with self.lock:
            return self.outcome if self.off else self.fail()

    def fail(self):
        """Makes the power fail. The caller holds the lock."""
        self.off, self.countdown = True, 0
        lost = kept = 0
        chance = self.choose.choice((0.0, 0.1, 0.5, 0.9))
        for sector, versions in self.cache.items():
            survives = len(versions)
            if self.choose.random() >= chance:
                survives = self.choose.randrange(len(versions))
            if survives:
                self.durable[sector * SECTOR:(sector + 1) * SECTOR] = versions[survives - 1]
            lost += survives < len(versions)
            kept += survives == len(versions)
        self.cache.clear()
        self.now[:] = self.durable
        self.lost, self.kept, self.outcome = self.lost + lost, self.kept + kept, (lost, kept)
        for c in self.connections:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections.clear()
        self.is_cut.set()
        return self.outcome

    def accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return  # the server is closed
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            with self.lock:
                if self.off:
                    return
                self.connections.append(c)
            if self.negotiate(c):
                while self.request(c):
                    pass
        except OSError:
            pass  # the power was cut, or QEMU is gone
        finally:
            c.close()

    @staticmethod
    def take(c, n):
        got = bytearray()
        while len(got) < n:
            piece = c.recv(n - len(got))
            if not piece:
                raise OSError("closed")
            got += piece
        return bytes(got)

    def negotiate(self, c):
        c.sendall(b"NBDMAGIC" + struct.pack(">QH", OPTION_MAGIC, 1 | 2))  # fixed newstyle, no zeroes
        self.take(c, 4)
        while True:
            _, option, length = struct.unpack(">QII", self.take(c, 16))
            self.take(c, length)  # every name stands for this disk

            def reply(kind, body=b""):
                c.sendall(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(body)) + body)

            if option == EXPORT_NAME:
                c.sendall(struct.pack(">QH", self.size, FLAGS))
                return True
            if option in (GO, INFO):
                reply(INFO_REPLY, struct.pack(">HQH", 0, self.size, FLAGS))
                reply(INFO_REPLY, struct.pack(">HIII", 3, SECTOR, 4096, 32 << 20))
                reply(ACK)
                if option == GO:
                    return True
            elif option == ABORT:
                reply(ACK)
                return False
            else:
                reply(UNSUPPORTED)

    def request(self, c):
        magic, flags, kind, handle, at, n = struct.unpack(">IHHQQI", self.take(c, 28))
        if magic != REQUEST_MAGIC or kind == DISCONNECT:
            return False
        data = self.take(c, n) if kind == WRITE else None
        error, body = 0, b""
        with self.lock:
            if self.off:
                return False
            if kind in (READ, WRITE) and (at % SECTOR or n % SECTOR or at + n > self.size):
                error = EINVAL
            elif kind == READ:
                body = bytes(self.now[at:at + n])
            elif kind == WRITE:
                self.write(at, data, bool(flags & FUA))
                if self.countdown == 1:
                    self.fail()
                    return False
                self.countdown = max(0, self.countdown - 1)
            elif kind == FLUSH:
                self.flush()
            elif kind != TRIM:
                error = EINVAL
        c.sendall(struct.pack(">IIQ", ANSWER_MAGIC, error, handle) + body)
        return True

    def write(self, at, data, durably):
        self.writes += 1
        self.now[at:at + len(data)] = data
        for i in range(0, len(data), SECTOR):
            sector = (at + i) // SECTOR
            if durably:
                self.cache.pop(sector, None)
                self.durable[at + i:at + i + SECTOR] = data[i:i + SECTOR]
            else:
                self.cache.setdefault(sector, []).append(data[i:i + SECTOR])

    def flush(self):
        self.flushes += 1
        for sector, versions in self.cache.items():
            self.durable[sector * SECTOR:(sector + 1) * SECTOR] = versions[-1]
        self.cache.clear()

    def close(self):
        with self.lock:
            self.off = True
        self.listener.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
