# SPDX-License-Identifier: BSD-3-Clause
"""Certificates for tests, made by openssl."""
import os
import subprocess

HANG_S = 90  # this timeout only detects hangs


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=HANG_S)


class Files:
    """An authority, and certificates that lead to it."""

    def __init__(self, directory):
        self.directory = directory
        self.ca = self("ca", "/CN=authority", authority=True)[0]

    def __call__(self, name, subject, hosts="", authority=False, key="EC"):
        at = os.path.join(self.directory, name)
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "EC" else ["-newkey", "rsa:2048"]
        arguments = ["req", "-x509", *kind, "-nodes", "-days", "2", "-subj", subject, "-keyout", at + ".key", "-out", at + ".pem"]
        if not authority:
            arguments += ["-CA", self.ca, "-CAkey", self.ca[:-4] + ".key", "-addext", "basicConstraints=critical,CA:FALSE"]
        if hosts:
            arguments += ["-addext", "subjectAltName=" + hosts]
        if os.path.exists(at + ".pem"):  # written beside and renamed, as an operator would
            arguments[arguments.index("-out") + 1] = at + ".new"
            openssl(*arguments)
            os.rename(at + ".new", at + ".pem")
        else:
            openssl(*arguments)
        return at + ".pem", at + ".key"

    def revocations(self, *certificates):
        """The revocation list of the authority, with these certificates in it. Returns its file."""
        database, settings = os.path.join(self.directory, "database"), os.path.join(self.directory, "settings")
        open(database, "a", encoding="utf-8").close()
        with open(settings, "w", encoding="utf-8") as f:
            f.write(f"[ca]\ndefault_ca = here\n[here]\ndatabase = {database}\ndefault_md = sha256\ndefault_crl_days = 2\n")
        ca = ["ca", "-config", settings, "-cert", self.ca, "-keyfile", self.ca[:-4] + ".key"]
        for certificate in certificates:
            openssl(*ca, "-revoke", certificate)
        at = os.path.join(self.directory, "revoked.pem")
        openssl(*ca, "-gencrl", "-out", at + ".new")
        os.rename(at + ".new", at)
        return at
