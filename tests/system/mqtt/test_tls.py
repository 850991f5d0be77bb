#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""MQTT by TLS as clients see it: mosquitto's programs, MQTT.js, openssl s_client, and Python's ssl. They use the
kernel's TCP behind a TAP port. Needs root.

  test_tls.py BROKER DIRECTORY NODE
"""
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from certificates import Files
from mqtt_client import HANG_S, Client
from mqtt_rig import NET, counter, expect, same, start

PROGRAM, DIRECTORY, NODE = sys.argv[1:4]
HERE = os.path.dirname(os.path.abspath(__file__))
HOST = NET + ".1"


def mosquitto(program, *arguments, status=0, port=8883):
    done = subprocess.run([f"mosquitto_{program}", "-h", HOST, "-p", str(port), *arguments], capture_output=True, text=True,
                          timeout=HANG_S)
    expect((done.returncode == 0) == (status == 0), f"mosquitto_{program} ends with {done.returncode}", done.stderr)
    return done.stdout


def node(url, **options):
    done = subprocess.run([NODE, os.path.join(HERE, "mqtt_js.js"), url, json.dumps(options)], capture_output=True, text=True,
                          timeout=HANG_S, env={**os.environ, "NODE_PATH": "/usr/share/nodejs"})
    return done.returncode, done.stdout, done.stderr


def s_client(*arguments, send="Q\n", port=8883):
    done = subprocess.run(["openssl", "s_client", "-connect", f"{HOST}:{port}", *arguments], input=send, capture_output=True,
                          text=True, timeout=HANG_S)
    return done.returncode, done.stdout + done.stderr


class TlsClient(Client):
    def __init__(self, context, name="broker.example", port=8883):
        super().__init__((HOST, port))
        self.sock = context.wrap_socket(self.sock, server_hostname=name)


def test_clients(files, b):
    sub = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", "-h", HOST, "-p", "8883", "--cafile", files.ca, "-t", "m/#", "-q", "2",
                            "-C", "2", "-v", "-d"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while "SUBACK" not in (line := sub.stdout.readline()):
        expect(line, "mosquitto_sub ended")
    mosquitto("pub", "--cafile", files.ca, "-t", "m/a", "-m", "by TLS", "-q", "2")
    subprocess.run(["mosquitto_pub", "-h", HOST, "-t", "m/b", "-m", "in clear", "-q", "1"], check=True, timeout=HANG_S)
    said = sub.communicate(timeout=HANG_S)[0]
    expect("m/a by TLS\n" in said and "m/b in clear\n" in said, "mosquitto_sub did not get both", said)
    wrong = files("stranger", "/CN=stranger", authority=True)[0]
    mosquitto("pub", "--cafile", wrong, "-t", "x", "-m", "x", status=1)
    same("MQTT.js by mqtts", node(f"mqtts://{HOST}:8883", ca=files.ca), (0, "got 30 messages\n", ""))
    same("MQTT.js by wss", node(f"wss://{HOST}:8081/mqtt", ca=files.ca), (0, "got 30 messages\n", ""))


def test_what_openssl_finds(files, b):
    for version, cipher in (("-tls1_2", "ECDHE-ECDSA"), ("-tls1_3", "TLS_")):
        status, said = s_client(version, "-CAfile", files.ca, "-alpn", "mqtt", "-servername", "broker.example",
                                "-verify_hostname", "broker.example", "-verify_return_error")
        expect(status == 0 and "Verify return code: 0 (ok)" in said and "ALPN protocol: mqtt" in said and cipher in said,
               f"s_client {version}", said)
    for arguments in (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
                      ("-tls1_2", "-cipher", "AES128-GCM-SHA256"), ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"),
                      ("-alpn", "h2")):
        status, said = s_client(*arguments)
        expect(status != 0, f"s_client {arguments} was served", said)
    same("the certificate for another name", "CN = second" in s_client("-servername", "second.example")[1], True)
    same("the certificate for an unknown name", "CN = broker" in s_client("-servername", "third.example")[1], True)
    status, said = s_client("-tls1_2", send="R\nQ\n")
    expect("RENEGOTIATING" in said and "no renegotiation" in said, "renegotiation is not refused", said)
    session = os.path.join(files.directory, "session")
    s_client("-tls1_2", "-sess_out", session)
    expect("Reused, TLSv1.2" in s_client("-tls1_2", "-sess_in", session)[1], "a session is not resumed")


def test_stalled_and_broken_handshakes_harm_nobody(files, b):
    context = ssl.create_default_context(cafile=files.ca)
    silent, half = socket.create_connection((HOST, 8883)), socket.create_connection((HOST, 8883))
    half.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    for octets in (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x10\x0c\0\4MQTT\4\2\0\0\0\0",
                   os.urandom(2000)):
        c = Client((HOST, 8883))
        c.send(octets)
        expect(c.closed(), f"{octets[:20]} did not close the connection")
    for at in range(1, 40, 3):  # a client that goes away in the middle
        c = socket.create_connection((HOST, 8883))
        c.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(at))
        c.close()
    c = TlsClient(context)
    same("CONNACK", c.connect("honest"), (False, 0))
    c.disconnect()
    return silent, half


def test_new_certificates(files, b):
    context = ssl.create_default_context(cafile=files.ca)
    old = TlsClient(context)
    same("CONNACK", old.connect("old"), (False, 0))
    files("server", "/CN=renewed", "DNS:broker.example")
    b.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + HANG_S
    while "CN = renewed" not in s_client("-servername", "broker.example")[1]:
        expect(time.monotonic() < end, "the new certificate is not used", b.said())
    old.publish("t", b"by the old connection")
    with open(os.path.join(files.directory, "server.pem"), "w") as f:
        f.write("no certificate\n")
    b.process.send_signal(signal.SIGHUP)
    while "the former certificates stay in use" not in b.said():
        expect(time.monotonic() < end, "the broker does not refuse a wrong certificate", b.said())
        time.sleep(0.1)
    expect("CN = renewed" in s_client()[1], "the former certificate is not in use")
    old.disconnect()


def test_certificates_of_clients(files, region):
    server, key = files("server2", "/CN=broker", "DNS:broker.example,IP:" + HOST, key="RSA")
    mine, mine_key = files("sensor", "/CN=sensor-7")
    with start(PROGRAM, region, "--listen", "mqtts://", "--tls-cert", server, "--tls-key", key, "--tls-ca", files.ca,
               "--tls-clients", "required", "--tls-version", "1.3") as b:
        mosquitto("pub", "--cafile", files.ca, "--cert", mine, "--key", mine_key, "-t", "x", "-m", "x", "-q", "1")
        mosquitto("pub", "--cafile", files.ca, "-t", "x", "-m", "x", "-q", "1", status=1)
        expect(s_client("-tls1_2")[0] != 0, "TLS 1.2 is served")
        same("the end", b.end(), 0)


def reload_until(b, sentence):
    """Lets the broker read its files again, and waits until it says this once more."""
    before = b.said().count(sentence)
    b.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + HANG_S
    while b.said().count(sentence) == before:
        expect(time.monotonic() < end, f"the broker does not say '{sentence}'", b.said())
        time.sleep(0.05)


def test_shared_keys(files, region):
    """Clients and a broker that have no certificates at all."""
    path, rules = os.path.join(files.directory, "keys"), os.path.join(files.directory, "rules")
    key, other = "0123456789abcdef" * 2, "f" * 64
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"sensor-7:{key}\nsensor-8:{other}\n")
    with open(rules, "w", encoding="utf-8") as f:
        f.write("allow connect user *\nallow publish,subscribe topic own/%u/#\n")
    with start(PROGRAM, region, "--listen", "mqtts://", "--psk-file", path, "--tls-identity-as-user", "--access", rules, "-i",
               stdin=subprocess.PIPE) as b:
        def psk(identity, value):
            return "--psk-identity", identity, "--psk", value, "-q", "1"
        sub = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", "-h", HOST, "-p", "8883", *psk("sensor-8", other), "-t",
                                "own/sensor-8/#", "-d"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while "SUBACK" not in (line := sub.stdout.readline()):
            expect(line, "mosquitto_sub ended")
        mosquitto("pub", *psk("sensor-8", other), "-t", "own/sensor-8/t", "-m", "by a key")
        while "by a key" not in (line := sub.stdout.readline()):
            expect(line, "mosquitto_sub ended")
        for version in ("tlsv1.2", "tlsv1.3"):
            mosquitto("pub", *psk("sensor-7", key), "-t", "own/sensor-7/t", "-m", "m", "--tls-version", version)
        mosquitto("pub", *psk("sensor-7", other), "-t", "own/sensor-7/t", "-m", "a wrong key", status=1)
        mosquitto("pub", *psk("sensor-9", key), "-t", "own/sensor-9/t", "-m", "nobody's key", status=1)
        for version in ("-tls1_2", "-tls1_3"):
            expect(s_client(version)[0] != 0, f"a client without a key is served by {version}")
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(f"sensor-7:{key}\n")
        os.rename(path + ".new", path)
        reload_until(b, "and the shared keys of")
        sub.communicate(timeout=HANG_S)  # it was connected, comes again and is refused, which ends it
        mosquitto("pub", *psk("sensor-8", other), "-t", "own/sensor-8/t", "-m", "m", status=1)
        mosquitto("pub", *psk("sensor-7", key), "-t", "own/sensor-7/t", "-m", "m")
        with open(path, "a", encoding="utf-8") as f:
            f.write("sensor-6:12\n")
        reload_until(b, "the former certificates stay in use")
        expect("keys:2: the key of 'sensor-6' has 1 octets" in b.said(), "the wrong line is not named", b.said())
        mosquitto("pub", *psk("sensor-7", key), "-t", "own/sensor-7/t", "-m", "m")
        b.process.stdin.write(b"show counters\nquit\n")
        b.process.stdin.flush()
        same("the end", b.process.wait(HANG_S), 0)
        for name, least in (("keyed", 6), ("keys_gone", 1), ("handshakes_failed", 4)):
            found = counter(b, "tls_" + name)
            expect(found >= least, f"tls_{name} is {found}, expected at least {least}")


def test_revoked_certificates(files, region):
    server, key = files("server3", "/CN=broker", f"DNS:broker.example,IP:{HOST}")
    good, good_key = files("good", "/CN=good")
    gone, gone_key = files("gone", "/CN=gone")
    crl = files.revocations()
    with start(PROGRAM, region, "--listen", "mqtts://", "--tls-cert", server, "--tls-key", key, "--tls-ca", files.ca,
               "--tls-clients", "required", "--tls-crl", crl) as b:
        def pub(certificate, certificate_key, status=0):
            mosquitto("pub", "--cafile", files.ca, "--cert", certificate, "--key", certificate_key, "-t", "x", "-m", "x", "-q", "1",
                      status=status)
        pub(good, good_key)
        pub(gone, gone_key)
        files.revocations(gone)
        reload_until(b, "with the revocation lists of")
        pub(good, good_key)
        pub(gone, gone_key, status=1)
        same("the end", b.end(), 0)


def main():
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        files = Files(directory)
        server, key = files("server", "/CN=broker", f"DNS:broker.example,IP:{HOST}")
        second, second_key = files("second", "/CN=second", "DNS:second.example", key="RSA")
        with start(PROGRAM, os.path.join(directory, "region"), "--listen", "mqtt://", "--listen", "mqtts://", "--listen", "wss://",
                   "--tls-cert", server, "--tls-key", key, "--tls-cert", second, "--tls-key", second_key,
                   "-i", stdin=subprocess.PIPE) as b:
            for test in (test_clients, test_what_openssl_finds, test_stalled_and_broken_handshakes_harm_nobody,
                         test_new_certificates):
                test(files, b)
                expect(b.process.poll() is None, f"the broker ended in {test.__name__}", b.said())
                print(f"{test.__name__}: ok", flush=True)
            b.process.stdin.write(b"show counters\nquit\n")
            b.process.stdin.flush()
            same("the end", b.process.wait(HANG_S), 0)
            for name, least in (("handshakes", 10), ("resumed", 1), ("tls_1_3", 3), ("handshakes_failed", 8)):
                found = counter(b, "tls_" + name)
                expect(found >= least, f"tls_{name} is {found}, expected at least {least}")
        for number, test in enumerate((test_certificates_of_clients, test_shared_keys, test_revoked_certificates), 2):
            test(files, os.path.join(directory, f"region{number}"))
            print(f"{test.__name__}: ok", flush=True)


main()
