"""A certificate authority made on the spot, and the servers' certificates."""

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
    "isp": ("mail.isp.example", "mx.isp.example"),
    "odd": ("odd.isp.example",),
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


def issue(name):
    names = CERTIFICATES[name]
    key, request, pem = (DIR / f"{name}.{end}" for end in ("key", "csr", "crt"))
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", f"/O=Lab/CN={names[0]}", "-keyout", key,
            "-out", request)
    extensions = DIR / f"{name}.ext"
    extensions.write_text("basicConstraints=CA:FALSE\nsubjectAltName="
                          + ",".join(f"DNS:{n}" for n in names) + "\n")
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
