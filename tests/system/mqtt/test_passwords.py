#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""User names and passwords as operators and clients see them: dpdk-chainring-passwd, mosquitto_passwd, mosquitto's
clients, and rules that name users. Needs root.

  test_passwords.py BROKER PASSWD DIRECTORY
"""
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from certificates import Files
from mqtt5_client import Client5
from mqtt_client import CONNACK, CONNECT, HANG_S, PINGREQ, PINGRESP, PUBACK, PUBLISH, Client, Closed, packet, text
from mqtt_rig import NET, counter, expect, same, start

PROGRAM, PASSWD, DIRECTORY = sys.argv[1:4]
HOST = NET + ".1"
ACCEPTED, BAD_PASSWORD, NOT_AUTHORIZED = 0, 4, 5


def passwd(*arguments, typed=None, status=0):
    done = subprocess.run([PASSWD, *arguments], input=typed, capture_output=True, text=True, timeout=HANG_S)
    expect(done.returncode == status, f"{PASSWD} {arguments} ends with {done.returncode}", done.stdout + done.stderr)
    return done.stderr


def connect_packet(name, user=None, password=None):
    flags = 2 | (128 if user is not None else 0) | (64 if password is not None else 0)
    body = text("MQTT") + bytes([4, flags]) + b"\0\0" + text(name)
    return packet(CONNECT, body + (text(user) if user is not None else b"") + (text(password) if password is not None else b""))


def connect(name, user=None, password=None, behind=b"", port=1883):
    c = Client((HOST, port))
    c.send(connect_packet(name, user, password) + behind)
    return c, c.expect(CONNACK)[1]


def test_the_command(path):
    passwd(path, "nobody", "x", status=2)  # without -b
    expect("-c makes a new one" in passwd("-b", path, "nobody", "x", status=2), "the remedy is not said")
    passwd("-c", "-b", path, "ann", "first")
    passwd("-b", "-I", "1000", path, "ann", "apple")  # a new password
    passwd("-I", "1000", path, "sensor-7", typed="seven\n")
    passwd("-b", "-I", "1000", path, "gone", "x")
    passwd("-D", path, "gone")
    expect("has no user" in passwd("-D", path, "gone", status=2), "a user is deleted twice")
    expect("colon" in passwd("-b", path, "a:b", "x", status=2), "a colon is taken")
    subprocess.run(["mosquitto_passwd", "-b", path, "mos", "quitto"], check=True, timeout=HANG_S)
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    same("the users", [line.split(":")[0] for line in lines], ["ann", "sensor-7", "mos"])
    expect("apple" not in "".join(lines) and os.stat(path).st_mode & 0o77 == 0, "the file tells too much", lines)


def test_who_may_connect(path, b):
    for user, password, code in (("ann", "apple", ACCEPTED), ("sensor-7", "seven", ACCEPTED), ("mos", "quitto", ACCEPTED),
                                 ("ann", "first", BAD_PASSWORD), ("ann", "", BAD_PASSWORD), ("ann", None, BAD_PASSWORD),
                                 ("nobody", "apple", BAD_PASSWORD), ("", "apple", BAD_PASSWORD), ("a" * 300, "x", BAD_PASSWORD),
                                 (None, None, NOT_AUTHORIZED)):
        c, found = connect("c", user, password)
        same(f"{user} with {password}", found, code)
        expect(code == ACCEPTED or c.closed(), f"the connection of {user} is still open")
        c.close()
    for arguments, good in ((("-u", "ann", "-P", "apple"), True), (("-u", "ann", "-P", "pear"), False), ((), False),
                            (("-V", "mqttv5", "-u", "ann", "-P", "apple"), True), (("-V", "mqttv5", "-u", "ann", "-P", "pear"), False),
                            (("-V", "mqttv5"), False)):
        done = subprocess.run(["mosquitto_pub", "-h", HOST, "-t", "t", "-m", "m", *arguments], capture_output=True, timeout=HANG_S)
        same(f"mosquitto_pub {arguments}", done.returncode == 0, good)


def test_what_follows_connect_waits(path, b):
    c, code = connect("eager", "ann", "apple", packet(PUBLISH, text("all/ann") + b"\0\1" + b"early", 2))
    same("CONNACK", code, ACCEPTED)
    same("PUBACK", c.expect(PUBACK), b"\0\1")
    c.disconnect()
    c, code = connect("eager", "ann", "wrong", packet(PUBLISH, text("all/ann") + b"\0\1" + b"never", 2))
    same("CONNACK", code, BAD_PASSWORD)
    expect(c.closed(), "the connection is still open")
    gone = [Client((HOST, 1883)) for _ in range(20)]
    for c in gone:  # these go away while their passwords are checked
        c.send(connect_packet("gone", "mos", "quitto"))
        c.close()
    many = [Client((HOST, 1883)) for _ in range(100)]
    for n, c in enumerate(many):
        c.send(connect_packet(f"many{n}", "ann", "apple" if n % 2 else "pear"))
    same("a hundred at once", [c.expect(CONNACK)[1] for c in many], [BAD_PASSWORD, ACCEPTED] * 50)
    for c in many:
        c.close()


def test_a_listener_has_settings_of_its_own(path, b):
    first, code = connect("a1", port=1884)
    same("anonymously at the listener that allows it", code, ACCEPTED)
    second, code = connect("a2", "ann", "pear", port=1884)
    same("with a wrong password there", code, BAD_PASSWORD)
    expect(second.closed(), "the connection is still open")
    second, code = connect("a3", port=1884)
    same("the second connection", code, ACCEPTED)
    third = Client((HOST, 1884))
    third.send(connect_packet("a4"))
    expect(third.closed(), "a third connection is served")
    first.disconnect()
    end = time.monotonic() + HANG_S
    while True:  # until the broker has heard of the end of the first one
        try:
            same("a connection in the place of the first", connect("a5", port=1884)[1], ACCEPTED)
            return
        except Closed:
            expect(time.monotonic() < end, "the place of the first connection stays taken")


def test_rules_for_users(path, b):
    c, _ = connect("c1", "sensor-7", "seven")
    same("SUBACK", c.subscribe("own/sensor-7/#", "own/ann/#", "all/#"), b"\1\x80\1")
    c.publish("own/sensor-7/c1", b"mine")
    c.publish("own/ann/c1", b"not mine", qos=0)
    c.publish("all/x", b"denied", qos=0)
    other, _ = connect("c2", "ann", "apple")
    other.publish("all/ann", b"to all")
    same("what comes", [m[:2] for m in c.take(2)], [("own/sensor-7/c1", b"mine"), ("all/ann", b"to all")])
    for one in (c, other):
        one.disconnect()


def test_the_file_is_read_again(path, b):
    deleted, _ = connect("deleted", "mos", "quitto")
    stays, _ = connect("stays", "ann", "apple")
    changes = Client5((HOST, 1883))
    same("CONNACK", changes.connect("changes", user="sensor-7", password=b"seven")[1], ACCEPTED)
    anonymous, _ = connect("anonymous", port=1884)
    passwd("-b", "-I", "1000", path, "new", "user")
    passwd("-b", "-I", "1000", path, "sensor-7", "eight")
    passwd("-D", path, "mos")
    end = time.monotonic() + HANG_S
    b.process.send_signal(signal.SIGHUP)
    while True:
        c, code = connect("c", "new", "user")
        c.close()
        if code == ACCEPTED:
            break
        expect(time.monotonic() < end, "the new user is never let in", b.said())
    same("a user that was deleted", connect("c", "mos", "quitto")[1], BAD_PASSWORD)
    expect(deleted.closed(), "a client whose user was deleted is still connected", b.said())
    same("DISCONNECT for a new password", changes.ended()[0], 0x87)
    same("the new password", connect("changes", "sensor-7", "eight")[1], ACCEPTED)
    stays.publish("all/ann", b"by a connection from before")
    anonymous.send(packet(PINGREQ))
    anonymous.expect(PINGRESP)
    with open(path, "a", encoding="utf-8") as f:
        f.write("faulty\n")
    b.process.send_signal(signal.SIGHUP)
    while "the former passwords stay in force" not in b.said():
        expect(time.monotonic() < end, "a file with a fault is not refused", b.said())
        time.sleep(0.1)
    same("a user of the former file", connect("c", "new", "user")[1], ACCEPTED)
    stays.disconnect()


def test_certificates_name_users(directory, path):
    files = Files(directory)
    server, key = files("server", "/CN=broker", f"IP:{HOST}")
    mine, mine_key = files("sensor", "/CN=by-certificate")
    rules = os.path.join(directory, "rules")
    with open(rules, "w", encoding="utf-8") as f:
        f.write("allow connect user *\nallow publish topic own/%u/#\nallow connect anonymous client guest\n")
    with start(PROGRAM, os.path.join(directory, "region2"), "--listen", "mqtts://", "--listen", "mqtt://", "--tls-cert", server,
               "--tls-key", key, "--tls-ca", files.ca, "--tls-identity-as-user", "--password-file", path, "--allow-anonymous",
               "--access", rules) as b:
        def pub(topic, *arguments):
            return subprocess.run(["mosquitto_pub", "-h", HOST, "-p", "8883", "--cafile", files.ca, "-q", "1", "-m", "m", "-t", topic,
                                   *arguments], capture_output=True, timeout=HANG_S).returncode == 0
        certified = ("--cert", mine, "--key", mine_key)
        same("by certificate", pub("own/by-certificate/t", *certified), True)
        same("by certificate, whatever user is given", pub("own/by-certificate/t", "-u", "ann", "-P", "wrong", *certified), True)
        same("by password", pub("own/ann/t", "-u", "ann", "-P", "apple"), True)
        same("by a wrong password", pub("own/ann/t", "-u", "ann", "-P", "wrong"), False)
        same("anonymously", connect("guest")[1], ACCEPTED)
        same("anonymously, against the rules", connect("other")[1], NOT_AUTHORIZED)
        same("the end", b.end(), 0)


def main():
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        path, rules = os.path.join(directory, "passwords"), os.path.join(directory, "rules")
        test_the_command(path)
        with open(rules, "w", encoding="utf-8") as f:
            f.write("allow connect\nallow publish,subscribe topic own/%u/#\nallow publish topic all/%u\nallow subscribe topic all/#\n"
                    "allow publish topic t\n")
        with open(path, encoding="utf-8") as f:
            before = f.read()
        with start(PROGRAM, os.path.join(directory, "region"), "--listen", "mqtt://", "--listen",
                   "mqtt://:1884?max-connections=2&allow-anonymous=true", "--password-file", path, "--access", rules, "-i",
                   stdin=subprocess.PIPE) as b:
            for test in (test_who_may_connect, test_what_follows_connect_waits, test_a_listener_has_settings_of_its_own, test_rules_for_users, test_the_file_is_read_again):
                test(path, b)
                expect(b.process.poll() is None, f"the broker ended in {test.__name__}", b.said())
                print(f"{test.__name__}: ok", flush=True)
            b.process.stdin.write(b"show counters\nquit\n")
            b.process.stdin.flush()
            same("the end", b.process.wait(HANG_S), 0)
            for name, least in (("passwords_checked", 100), ("passwords_wrong", 50), ("anonymous_refused", 2), ("listener_full", 1),
                                ("ended_by_passwords", 2)):
                found = counter(b, "mqtt_" + name)
                expect(found >= least, f"mqtt_{name} is {found}, expected at least {least}")
        with open(path, "w", encoding="utf-8") as f:
            f.write(before)
        test_certificates_name_users(directory, path)
        print("test_certificates_name_users: ok")


main()
