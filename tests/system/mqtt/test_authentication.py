#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Enhanced authentication of MQTT 5.0 by SCRAM-SHA-256. The client's side is Python's hashlib and hmac. Needs root.

  test_authentication.py BROKER PASSWD DIRECTORY
"""
import base64
import hashlib
import hmac
import os
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from mqtt5_client import AUTH, Client5, read_section, section
from mqtt_client import CONNACK, CONNECT, DISCONNECT, HANG_S, PINGREQ, PINGRESP, PUBLISH, packet, text
from mqtt_rig import NET, counter, expect, run, same, start

PROGRAM, PASSWD, DIRECTORY = sys.argv[1:4]
TO = (f"{NET}.1", 1883)
METHOD = "SCRAM-SHA-256"
SUCCESS, CONTINUE, AGAIN = 0, 0x18, 0x19
PROTOCOL_ERROR, NOT_AUTHORIZED, BAD_METHOD = 0x82, 0x87, 0x8C


class Scram:
    """RFC 5802, the client's side."""

    def __init__(self, user, password, header="n,,"):
        self.password, self.header = password.encode(), header
        self.bare = f"n={user},r={base64.b64encode(os.urandom(12)).decode()}"

    def first(self):
        return (self.header + self.bare).encode()

    def last(self, server_first):
        nonce, salt, rounds = (part[2:] for part in server_first.decode().split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(salt), int(rounds))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c={base64.b64encode(self.header.encode()).decode()},r={nonce}"
        covered = ",".join([self.bare, server_first.decode(), without_proof]).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), covered, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), covered, "sha256")
        self.expected = b"v=" + base64.b64encode(verifier)
        return (without_proof + ",p=" + base64.b64encode(proof).decode()).encode()


def connect_packet(name, clean=True, **properties):
    return packet(CONNECT, text("MQTT") + bytes([5, 2 if clean else 0]) + b"\0\0" + section(**properties) + text(name))


def auth(reason, **properties):
    return packet(AUTH, bytes([reason]) + section(**properties))


def answer(c, kind):
    """(reason, properties) of the next packet, which is of that kind."""
    body = c.expect(kind)
    if kind == CONNACK:
        body = body[1:]
    return body[0], read_section(body[1:])[0] if len(body) > 1 else {}


def begin(name, scram, **more):
    """A client that was sent the server's first message."""
    c = Client5(TO)
    c.send(connect_packet(name, auth_method=METHOD, auth_data=scram.first(), **more))
    reason, found = answer(c, AUTH)
    same("AUTH", (reason, found["auth_method"]), (CONTINUE, METHOD))
    return c, found["auth_data"]


def proved(name, user, password, **more):
    scram = Scram(user, password)
    c, server_first = begin(name, scram, **more)
    c.send(auth(CONTINUE, auth_method=METHOD, auth_data=scram.last(server_first)))
    reason, found = answer(c, CONNACK)
    if reason == SUCCESS:
        same("what the broker proves", (found["auth_method"], found["auth_data"]), (METHOD, scram.expected))
    return c, reason


def test_who_is_let_in():
    c, reason = proved("a", "ann", "apple")
    same("CONNACK", reason, SUCCESS)
    same("SUBACK", c.subscribe("own/ann/#", "own/bob/#"), b"\1\x87")  # the rules see the name
    c.publish("own/ann/x", b"mine")
    same("a message", [m[:2] for m in c.take(1)], [("own/ann/x", b"mine")])
    c.disconnect()
    for user, password in (("ann", "pear"), ("nobody", "apple"), ("hashed", "apple")):
        c, reason = proved("a", user, password)
        same(f"CONNACK of {user} with {password}", reason, NOT_AUTHORIZED)
        expect(c.closed(), "the connection is open")
    # A password that is kept for SCRAM is good for CONNECT alone too.
    c = Client5(TO)
    same("CONNACK", c.connect("a", user="ann", password=b"apple")[1], SUCCESS)
    c.disconnect()
    run("mosquitto_pub", "-h", TO[0], "-u", "ann", "-P", "apple", "-t", "own/ann/x", "-m", "m", "-q", "1")


def test_what_is_refused():
    for method, data, reason in (("SCRAM-SHA-1", b"n,,n=ann,r=x", BAD_METHOD), ("", b"", BAD_METHOD), (METHOD, b"", NOT_AUTHORIZED),
                                 (METHOD, b"n,,n=ann", NOT_AUTHORIZED), (METHOD, b"p=tls-exporter,,n=ann,r=x", NOT_AUTHORIZED)):
        c = Client5(TO)
        c.send(connect_packet("a", auth_method=method, auth_data=data))
        same(f"CONNACK for {method} {data}", answer(c, CONNACK)[0], reason)
        expect(c.closed(), "the connection is open")
    for name, sent, reason in (
            ("PUBLISH", packet(PUBLISH, text("own/ann/x") + b"\0x"), PROTOCOL_ERROR), ("PINGREQ", packet(PINGREQ), PROTOCOL_ERROR),
            ("AUTH with success", auth(SUCCESS, auth_method=METHOD, auth_data=b"x"), PROTOCOL_ERROR),
            ("AUTH that begins again", auth(AGAIN, auth_method=METHOD, auth_data=b"n,,n=ann,r=x"), PROTOCOL_ERROR),
            ("AUTH of another method", auth(CONTINUE, auth_method="other", auth_data=b"x"), PROTOCOL_ERROR),
            ("AUTH with nonsense", auth(CONTINUE, auth_method=METHOD, auth_data=b"x"), NOT_AUTHORIZED),
            ("AUTH without data", auth(CONTINUE, auth_method=METHOD), NOT_AUTHORIZED)):
        c, _ = begin("a", Scram("ann", "apple"))
        c.send(sent)
        same(f"CONNACK after {name}", answer(c, CONNACK)[0], reason)
        expect(c.closed(), f"the connection is open after {name}")
    c, _ = begin("a", Scram("ann", "apple"))
    c.send(packet(DISCONNECT, b"\0" + section(session_expiry=9)))
    expect(c.closed(), "a client that leaves is not let go")
    gone = [begin(f"gone{n}", Scram("ann", "apple"))[0] for n in range(20)]
    for c in gone:
        c.close()


def test_proved_again():
    c, reason = proved("again", "ann", "apple")
    same("CONNACK", reason, SUCCESS)
    scram = Scram("ann", "apple")
    c.send(auth(AGAIN, auth_method=METHOD, auth_data=scram.first()))
    reason, found = answer(c, AUTH)
    same("AUTH", reason, CONTINUE)
    c.send(packet(PINGREQ))  # everything else goes on
    c.expect(PINGRESP)
    c.send(auth(CONTINUE, auth_method=METHOD, auth_data=scram.last(found["auth_data"])))
    reason, found = answer(c, AUTH)
    same("AUTH at the end", (reason, found["auth_method"], found["auth_data"]), (SUCCESS, METHOD, scram.expected))
    c.publish("own/ann/x", b"still there")
    scram = Scram("bob", "berry")  # another user, with the right password
    c.send(auth(AGAIN, auth_method=METHOD, auth_data=scram.first()))
    c.send(auth(CONTINUE, auth_method=METHOD, auth_data=scram.last(answer(c, AUTH)[1]["auth_data"])))
    same("DISCONNECT", c.ended()[0], NOT_AUTHORIZED)
    c = Client5(TO)
    same("CONNACK", c.connect("plain", user="ann", password=b"apple")[1], SUCCESS)
    c.send(auth(AGAIN, auth_method=METHOD, auth_data=b"n,,n=ann,r=x"))
    same("DISCONNECT of who has not proved itself so", c.ended()[0], PROTOCOL_ERROR)


def test_a_new_password(path, b):
    c, reason = proved("changes", "bob", "berry")
    same("CONNACK", reason, SUCCESS)
    scram = Scram("bob", "berry")
    waits, server_first = begin("waits", scram)
    passwd("-b", "--scram", "-I", "1000", path, "bob", "other")
    b.process.send_signal(signal.SIGHUP)
    same("DISCONNECT", c.ended()[0], NOT_AUTHORIZED)
    waits.send(auth(CONTINUE, auth_method=METHOD, auth_data=scram.last(server_first)))
    same("CONNACK for a proof of the former password", answer(waits, CONNACK)[0], NOT_AUTHORIZED)
    same("CONNACK for the new one", proved("changes", "bob", "other")[1], SUCCESS)


def passwd(*arguments):
    subprocess.run([PASSWD, *arguments], check=True, timeout=HANG_S)


def main():
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        path, rules = os.path.join(directory, "passwords"), os.path.join(directory, "rules")
        passwd("-c", "-b", "--scram", "-I", "1000", path, "ann", "apple")
        passwd("-b", "--scram", "-I", "1000", path, "bob", "berry")
        passwd("-b", "-I", "1000", path, "hashed", "apple")
        with open(rules, "w", encoding="utf-8") as f:
            f.write("allow connect\nallow publish,subscribe topic own/%u/#\n")
        with start(PROGRAM, os.path.join(directory, "region"), "--listen", "mqtt://", "--password-file", path, "--access", rules,
                   "-i", stdin=subprocess.PIPE) as b:
            test_who_is_let_in()
            test_what_is_refused()
            test_proved_again()
            test_a_new_password(path, b)
            b.process.stdin.write(b"show counters\nquit\n")
            b.process.stdin.flush()
            same("the end", b.process.wait(HANG_S), 0)
            for name, least in (("authentications", 5), ("authentications_failed", 7)):
                found = counter(b, "mqtt_" + name)
                expect(found >= least, f"mqtt_{name} is {found}, expected at least {least}")
        with start(PROGRAM, os.path.join(directory, "region"), "--listen", "mqtt://") as b:
            c = Client5(TO)
            c.send(connect_packet("a", auth_method=METHOD, auth_data=b"n,,n=ann,r=x"))
            same("CONNACK without a password file", answer(c, CONNACK)[0], BAD_METHOD)
            same("the end", b.end(), 0)
    print("all ok")


main()
