"""A certificate authority made on the spot, and the servers' certificates."""

import base64
import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

DIR = Path("/run/lab/ca")

# file name → names in the certificate.  "wrong" is what a broken or hostile
# mail.isp.example would show: valid, trusted, and somebody else's.
CERTIFICATES = {
    "mxa": ("mx.alpha.example",),
    "mxb": ("mx.beta.example",),
    "isp": ("mail.isp.example", "mx.isp.example", "four.isp.example",
            "two.isp.example"),
    "odd": ("odd.isp.example",),
    "submit": ("submit.isp.example",),
    "pub": ("pub.isp.example",),
    "hosted": ("*.hosted.example", "hosted.example"),
    "renewed": ("pub.isp.example",),
    "wrong": ("www.elsewhere.example",),
}
CURRENT = DIR / "isp-current.pem"


def openssl(*args, text=None):
    subprocess.run(["openssl", *map(str, args)], check=True, text=True,
                   input=text, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


def make():
    """The CA and all certificates; returns the CA's PEM text."""
    DIR.mkdir(mode=0o755)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/O=Lab/CN=Lab CA", "-keyout", DIR / "ca.key",
            "-out", DIR / "ca.pem")
    with ThreadPoolExecutor() as pool:
        list(pool.map(issue, CERTIFICATES))
    show("isp")
    return (DIR / "ca.pem").read_text()


def issue(name, first=None, last=None):
    """Valid from now for two days, or between the two times."""
    names = CERTIFICATES[name]
    key, request, pem = (DIR / f"{name}.{end}" for end in ("key", "csr", "crt"))
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", f"/O=Lab/CN={names[0]}", "-keyout", key,
            "-out", request)
    extensions = DIR / f"{name}.ext"
    extensions.write_text("basicConstraints=CA:FALSE\nsubjectAltName="
                          + ",".join(f"DNS:{n}" for n in names) + "\n")
    if first:
        register("-startdate", first, "-enddate", last, "-in", request,
                 "-extfile", extensions, "-notext", "-out", pem)
        (DIR / f"{name}.pem").write_text(key.read_text() + pem.read_text())
        return
    openssl("x509", "-req", "-in", request, "-CA", DIR / "ca.pem", "-CAkey",
            DIR / "ca.key", "-set_serial",
            1000 + list(CERTIFICATES).index(name), "-days", "2",
            "-extfile", extensions, "-out", pem)
    (DIR / f"{name}.pem").write_text(key.read_text() + pem.read_text())


def show(name):
    """Which certificate mail.isp.example has from its next start on."""
    fresh = DIR / "isp-next.pem"
    fresh.symlink_to(DIR / f"{name}.pem")
    os.replace(fresh, CURRENT)


# What else a server may show: file name → names, first and last day, revoked.
BAD = {
    "expired": (CERTIFICATES["isp"], "20250101", "20250401", False),
    "early": (CERTIFICATES["isp"], "20990101", "20990401", False),
    "revoked": (CERTIFICATES["isp"], "20250101", "20990401", True),
    "odd-expired": (CERTIFICATES["odd"], "20250101", "20250401", False),
    "odd-revoked": (CERTIFICATES["odd"], "20250101", "20990401", True),
}
REGISTER = """\
[ca]
default_ca = lab
[lab]
database = {dir}/index.txt
new_certs_dir = {dir}
default_md = sha256
unique_subject = no
rand_serial = yes
policy = any
[any]
organizationName = optional
commonName = supplied
"""


def make_bad():
    """Those, a certificate nobody signed, crl.pem and an old one."""
    (DIR / "index.txt").write_text("")
    (DIR / "ca.conf").write_text(REGISTER.format(dir=DIR))
    for name, (names, first, last, revoked) in BAD.items():
        CERTIFICATES[name] = names
        issue(name, first + "000000Z", last + "000000Z")
        if revoked:
            register("-revoke", DIR / f"{name}.crt")
    register("-gencrl", "-crlhours", "5", "-out", DIR / "crl.pem")
    register("-gencrl", "-crl_lastupdate", "20250101000000Z",
             "-crl_nextupdate", "20250201000000Z", "-out", DIR / "old-crl.pem")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            "/O=Lab/CN=mail.isp.example", "-addext",
            "subjectAltName=DNS:mail.isp.example", "-keyout",
            DIR / "self.key", "-out", DIR / "self.crt")
    (DIR / "self.pem").write_text((DIR / "self.key").read_text()
                                  + (DIR / "self.crt").read_text())


def register(*args):
    openssl("ca", "-batch", "-config", DIR / "ca.conf", "-cert",
            DIR / "ca.pem", "-keyfile", DIR / "ca.key", *args)


def pin(name):
    """sha256/BASE64 of a certificate's public key, as the option wants it."""
    key = subprocess.run(["openssl", "x509", "-in", DIR / f"{name}.pem",
                          "-noout", "-pubkey"], check=True,
                         stdout=subprocess.PIPE).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"],
                         check=True, input=key, stdout=subprocess.PIPE).stdout
    return "sha256/" + base64.b64encode(hashlib.sha256(der).digest()).decode()
