# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's telemetry socket, used as dpdk-telemetry.py uses it."""
import json
import socket


class Telemetry:
    def __init__(self, prefix):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(60)
        self.sock.connect(f"/run/dpdk/{prefix}/dpdk_telemetry.v2")
        self.limit = json.loads(self.sock.recv(1024))["max_output_len"]

    def ask(self, command):
        self.sock.send(command.encode())
        return json.loads(self.sock.recv(self.limit))[command.split(",")[0]]
