# SPDX-License-Identifier: BSD-3-Clause
"""The mempool driver in unmodified dpdk-test and dpdk-testpmd, which load it by EAL's -d.
    test_programs.py DRIVER CHAINRING_REGION"""
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

DRIVER, REGION_TOOL = sys.argv[1:3]
del sys.argv[1:3]
HANG_S = 60  # only detects hangs
MARK = b"an octet string that is nowhere else"
FRAME = b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x88\xb5" + MARK + bytes(64)
FRAMES = 100


class Programs(unittest.TestCase):
    def setUp(self):
        # EAL refuses a driver below a directory that everybody may write to.
        self.safe = tempfile.mkdtemp(prefix="chainring-mempool-", dir="/run")
        self.addCleanup(shutil.rmtree, self.safe)
        self.driver = shutil.copy(DRIVER, self.safe)
        self.folder = tempfile.mkdtemp(prefix="chainring-mempool-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.folder)
        self.region = os.path.join(self.folder, "pools")

    def command(self, program, ops):
        return [program, "--no-huge", "-m", "256", "--no-pci", "--no-shconf", "--no-telemetry", "-d", self.driver,
                f"--mbuf-pool-ops-name={ops}", "--log-level=mempool:info"]

    @staticmethod
    def environment(setting):
        kept = {k: v for k, v in os.environ.items() if k != "CHAINRING_MEMPOOL_REGION"}
        return kept if setting is None else {**kept, "CHAINRING_MEMPOOL_REGION": setting}

    def autotest(self, setting):
        done = subprocess.run(self.command("dpdk-test", "chainring") + ["mempool_autotest"], env=self.environment(setting),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=HANG_S, check=False)
        return done.stdout

    def frames(self):
        path = os.path.join(self.folder, "in.pcap")
        with open(path, "wb") as f:
            f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
            for second in range(FRAMES):
                f.write(struct.pack("<IIII", second, 0, len(FRAME), len(FRAME)) + FRAME)
        return path

    def forward(self, setting, ops="chainring"):
        """testpmd receives the frames of a file and sends them to another one, until the first are there or it ends."""
        sent = os.path.join(self.folder, "out.pcap")
        arguments = ["--lcores", "0@0,1@0", f"--vdev=net_pcap0,rx_pcap={self.frames()},tx_pcap={sent}", "--",
                     "--total-num-mbufs=2048", "--no-mlockall", "--forward-mode=io", "--no-flush-rx",
                     "--auto-start", "-i"]
        testpmd = subprocess.Popen(self.command("dpdk-testpmd", ops) + arguments, env=self.environment(setting),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        hangs = time.monotonic() + HANG_S
        while testpmd.poll() is None and not self.has(sent, FRAME) and time.monotonic() < hangs:
            time.sleep(0.02)
        try:
            said, _ = testpmd.communicate("stop\nquit\n", timeout=HANG_S)
        finally:
            testpmd.kill()
        return said, sent

    @staticmethod
    def has(path, octets):
        if not os.path.exists(path):
            return False
        with open(path, "rb") as f:
            return octets in f.read()

    def test_mempool_autotest_passes_in_memory(self):
        said = self.autotest(None)
        self.assertIn("Test OK", said)
        self.assertIn("pools lie in region (memory)", said)
        self.assertIn("ops_name: <chainring>", said)

    def test_mempool_autotest_passes_in_a_file_that_is_made_and_then_opened(self):
        for setting in (self.region + ",32M", self.region):
            said = self.autotest(setting)
            self.assertIn("Test OK", said)
            self.assertIn(f"pools lie in region {self.region}", said)

    def test_testpmd_receives_into_the_region(self):
        said, sent = self.forward(self.region + ",32M")
        self.assertIn("preferred mempool ops selected: chainring", said)
        self.assertIn("Bye...", said)
        self.assertTrue(self.has(sent, FRAME), said)
        self.assertTrue(self.has(self.region, MARK), said)

    def test_a_region_is_not_touched_by_other_operations(self):
        said, _ = self.forward(self.region + ",32M", "ring_mp_mc")
        self.assertIn("Bye...", said)
        self.assertFalse(os.path.exists(self.region))

    def test_the_region_tool_finds_a_region_of_pools_whole(self):
        self.assertIn("Test OK", self.autotest(self.region + ",32M"))
        done = subprocess.run([REGION_TOOL, "check", self.region], capture_output=True, text=True, timeout=HANG_S,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_brokers_region_is_refused(self):
        subprocess.run([REGION_TOOL, "create", self.region, "--size", "64M", "--max-sessions", "100"], check=True,
                       capture_output=True, timeout=HANG_S)
        with open(self.region, "rb") as f:
            before = f.read()
        said, _ = self.forward(self.region)
        self.assertIn("which pools would overwrite; the mempool driver needs a region of its own", said)
        self.assertNotIn("Bye...", said)
        with open(self.region, "rb") as f:
            self.assertTrue(before == f.read(), "the region was changed")

    def test_a_setting_that_is_wrong_is_named(self):
        said, _ = self.forward(self.region)
        self.assertIn(f"CHAINRING_MEMPOOL_REGION is '{self.region}': there is no such file", said)
        self.assertNotIn("Bye...", said)


if __name__ == "__main__":
    unittest.main()
