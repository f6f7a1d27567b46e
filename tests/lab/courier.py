"""Real Courier beside Dovecot: another family of POP3 and IMAP servers.

Fetched, not installed (tests/fetch-clients): its programs are started here the
way its start scripts would do it, with their settings in the environment, as
odd.isp.example. Its plain ports take no password without TLS.
"""

import os
import subprocess
from pathlib import Path

import ca
import proc
from dovecot import PASSWORD
from mailers import FETCHED

ROOT = FETCHED / "root"
LIB = ROOT / "usr/lib"
LOGIN = LIB / "courier/courier"
MAIL = Path("/run/lab/mail/courier")
LOG = proc.LOG / "courier.log"
ENV = {
    "PATH": "/usr/bin:/bin",
    "LD_LIBRARY_PATH": f"{LIB}:{LIB}/{os.uname().machine}-linux-gnu:"
                       f"{LIB}/courier-authlib",
    "MAILDIRPATH": "Maildir",
    "COURIERTLS": str(ROOT / "usr/bin/couriertls"),
    "TLS_CERTFILE": str(ca.DIR / "odd.pem"),
    "TLS_TRUSTCERTS": "/etc/ssl/certs/ca-certificates.crt",
    "TLS_VERIFYPEER": "NONE",
    "POP3AUTH": "PLAIN LOGIN", "POP3AUTH_TLS": "PLAIN LOGIN",
    "POP3_STARTTLS": "YES", "POP3_TLS_REQUIRED": "1",
    "IMAP_STARTTLS": "YES", "IMAP_TLS_REQUIRED": "1",
    "IMAP_CAPABILITY": "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE SORT IDLE",
    "IMAP_CAPABILITY_TLS": "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE SORT IDLE "
                           "AUTH=PLAIN",
    "IMAP_EMPTYTRASH": "", "IMAP_IDLE_TIMEOUT": "1", "IMAP_USELOCKS": "0",
    "IMAP_ENHANCEDIDLE": "0", "IMAP_ULIMITD": "131072", "IMAP_UMASK": "022",
}
SERVICES = {110: ("courierpop3login", "courierpop3d", False),
            995: ("courierpop3login", "courierpop3d", True),
            143: ("imaplogin", "imapd", False),
            993: ("imaplogin", "imapd", True)}
AUTH = """\
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=3
authdaemonvar=/run/courier/authdaemon
"""


def database(path, rows):
    """A table of userdb: name → fields, as makeuserdb leaves it."""
    subprocess.run([LOGIN.parent / "courier-authlib/makedatprog", "-",
                    f"{path}.tmp", path], check=True, text=True, input="".join(
                        f"{name}\t{fields}\n" for name, fields in rows.items()) + ".\n",
                   env=ENV)
    os.chmod(path, 0o600)


class Courier:
    """In namespace `dns`, on every address that it has."""

    def __init__(self, users):
        self.users, self.processes = users, []

    def prepare(self):
        etc = Path("/etc/courier")
        etc.mkdir(exist_ok=True)
        (etc / "authdaemonrc").write_text(AUTH)
        Path("/run/courier/authdaemon").mkdir(parents=True, exist_ok=True)
        key = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True,
                             text=True, stdout=subprocess.PIPE).stdout.strip()
        for user in self.users:
            for sub in ("cur", "new", "tmp"):
                (MAIL / user / "Maildir" / sub).mkdir(parents=True)
        for path in (MAIL, *MAIL.rglob("*")):
            os.chown(path, 5000, 5000)
        database(etc / "userdb.dat", {
            f"{user}@isp.example": f"uid=5000|gid=5000|home={MAIL}/{user}|"
            f"mail={MAIL}/{user}/Maildir" for user in self.users})
        database(etc / "userdbshadow.dat", {
            f"{user}@isp.example": f"systempw={key}" for user in self.users})

    def start(self, ports=tuple(SERVICES)):
        self.processes = [self.spawn(
            [LIB / "courier/courier-authlib/authdaemond"])]
        for port in ports:
            login, server, tls = SERVICES[port]
            program = [LOGIN / login,
                       (ROOT / "usr/bin" if server == "imapd" else LOGIN)
                       / server, "Maildir"]
            if tls:
                program = [ENV["COURIERTLS"], "-server", "-tcpd", *program]
            kind = "POP3" if "pop3" in login else "IMAP"
            self.processes.append(self.spawn(
                [ROOT / "usr/sbin/couriertcpd", "-address=0", "-maxprocs=200",
                 "-maxperip=200", "-nodnslookup", "-noidentlookup", str(port),
                 *program],
                {f"{kind}_STARTTLS": "NO", f"{kind}_TLS_REQUIRED": "0",
                 f"{kind}_TLS": "1"} if tls else {}))
        proc.wait_ports(self.processes[-1], ports, "Courier")
        proc.wait_until(Path("/run/courier/authdaemon/socket").exists,
                        "Courier's authdaemond")

    def spawn(self, argv, more=None):
        return proc.spawn("dns", argv, LOG, env={**ENV, **(more or {})},
                          start_new_session=True)

    def stop(self):
        for process in self.processes:
            proc.stop(process)

    def put(self, user, name, text):
        """The one message of a mailbox."""
        for path in (MAIL / user / "Maildir").glob("[cn][ue][rw]/*"):
            path.unlink()
        fresh = MAIL / user / "Maildir/tmp" / name
        fresh.write_text(text)
        os.chown(fresh, 5000, 5000)
        fresh.rename(fresh.parents[1] / "new" / name)
