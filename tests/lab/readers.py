"""Mail programs as clients of ports 110 and 143, one function each.

Each function takes a Cell and returns (code, text, mail): how the program
ended, what it said, and what it wrote of the mailbox. Modes: "off", no
STARTTLS; "may", when it is offered; "must", or nothing; a program without such
a mode has no row for it in MODES. Every program dials the server by name and
checks its certificate; the address family is chosen by the /etc/hosts that it
sees, in a mount namespace of its own.
"""

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import clients
import proc
from dovecot import PASSWORD
from mailers import FETCHED, MODES

PORTS = {"POP3": 110, "IMAP": 143}
LIBRARY = FETCHED / "root/usr/lib" / f"{os.uname().machine}-linux-gnu"
PYTHON = FETCHED / "root/usr/lib/python3/dist-packages"
OFFLINEIMAP = FETCHED / "root/usr/share/offlineimap3"

# Its own /etc/hosts, and no other source of names.
NAMED = ('mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/nsswitch.conf '
         '&& shift 2 && exec "$@"')


@dataclass
class Cell:
    line: str           # namespace
    address: str        # what the name below means to the program
    name: str
    protocol: str       # "POP3" or "IMAP"
    mode: str
    user: str

    @property
    def scheme(self):
        return self.protocol.lower()

    @property
    def escaped(self):
        return self.user.replace("@", "%40")


def run(cell, argv, env=None, timeout=60):
    hosts = clients.config(f"127.0.0.1 localhost\n{cell.address} {cell.name}\n")
    switch = clients.config("passwd: files\ngroup: files\nhosts: files\n")
    for path in (hosts, switch):
        os.chmod(path, 0o644)
    result = proc.run(cell.line, ["unshare", "--mount", "sh", "-c", NAMED, "sh",
                                  hosts, switch, *argv],
                      timeout=timeout, env=env)
    return result.code, result.out


def home():
    return Path(tempfile.mkdtemp(dir=clients.TMP))


def contents(folder):
    """Every file below a folder, as text."""
    return "".join(path.read_text(errors="replace")
                   for path in sorted(Path(folder).rglob("*"))
                   if path.is_file())


def but(text, *noise):
    """A program's words without the lines that only sum them up."""
    return "\n".join(line for line in text.splitlines()
                     if not any(word in line for word in noise))


# ---- programs with a configuration of their own ---------------------------

def curl(cell):
    extra = {"off": [], "may": ["--ssl"], "must": ["--ssl-reqd"]}[cell.mode]
    path = "INBOX;MAILINDEX=1" if cell.protocol == "IMAP" else "1"
    code, out = run(cell, [
        "curl", "-sS", "-m", "50", *extra, "-u", f"{cell.user}:{PASSWORD}",
        f"{cell.scheme}://{cell.name}/{path}"])
    return code, out, out


def mpop(cell):
    """Without TLS it gives no password away unless it is told to: auth user."""
    box = home() / "mbox"
    tls = ("tls off\nauth user\n" if cell.mode == "off" else
           f"tls on\ntls_starttls on\ntls_trust_file {clients.TRUST}\n")
    path = clients.config(
        f"defaults\n{tls}account default\nhost {cell.name}\nport 110\n"
        f"user {cell.user}\npassword {PASSWORD}\ntimeout 30\n"
        f"keep on\ndelivery mbox {box}\nuidls_file {box}.uidls\n")
    code, out = run(cell, ["mpop", "-C", path])
    return code, but(out, "error during mail retrieval"), contents(box.parent)


def fetchmail(cell):
    """Whoever checks the certificate requires TLS: "may" does not."""
    folder = home()
    tls = {"off": 'sslproto ""', "may": "no sslcertck",
           "must": 'sslproto "auto"'}[cell.mode]
    path = clients.config(
        f'poll "{cell.name}" protocol {cell.protocol} username "{cell.user}" '
        f'password "{PASSWORD}" {tls} sslcertfile "{clients.TRUST}" fetchall keep'
        "\n")
    code, out = run(cell, [
        "fetchmail", "-f", path, "--nosyslog", "--nodetach", "--mda",
        f"cat >>{folder}/mbox", "--pidfile", folder / "pid", "--idfile",
        folder / "ids"], env={"FETCHMAILHOME": str(folder)})
    return code, but(out, "WARNING: ", "rror on ", "error while ",
                     "Query status"), contents(folder)


def getmail(cell):
    folder = home()
    (folder / "rc").write_text(
        f"[retriever]\ntype = Simple{cell.protocol}Retriever\n"
        f"server = {cell.name}\nusername = {cell.user}\n"
        f"password = {PASSWORD}\ntimeout = 30\n"
        "[destination]\ntype = MDA_external\npath = /bin/sh\n"
        f'arguments = ("-c", "cat >>{folder}/mbox")\n'
        "allow_root_commands = true\n[options]\nread_all = true\n")
    code, out = run(cell, ["/usr/bin/python3", FETCHED / "root/usr/bin/getmail",
                           "--getmaildir", folder, "--rcfile", folder / "rc"],
                    env={"PYTHONPATH": str(PYTHON)})
    box = folder / "mbox"
    return code, out, box.read_text() if box.exists() else ""


def mutt(cell):
    """On a terminal, as it wants to be; the keys are typed for it. What it says
    behind a bell is an error, and then it waits to be told what next."""
    folder, short = home(), cell.scheme.rstrip("3")
    (folder / "rc").write_text(
        f'set folder="{folder}"\n'
        f'set dotlock_program="{FETCHED}/root/usr/bin/mutt_dotlock"\n'
        f'set spoolfile="{short}://{cell.name}/"\n'
        f'set {short}_user="{cell.user}"\nset {short}_pass="{PASSWORD}"\n'
        f'set ssl_ca_certificates_file="{clients.TRUST}"\n'
        f'set certificate_file="{folder}/accepted"\n'
        f'set ssl_starttls={"no" if cell.mode == "off" else "yes"}\n'
        f'set ssl_force_tls={"yes" if cell.mode == "must" else "no"}\n'
        "set pop_delete=no\nset timeout=5\nset connect_timeout=20\n"
        "set confirmcreate=no\nset confirmappend=no\nset delete=no\n"
        "folder-hook . 'push "
        f'"<copy-message><kill-line>{folder}/mbox<enter><exit>"\'\n')
    code, out = run(cell, [
        "script", "-qec", f"{FETCHED}/root/usr/bin/mutt -n -F {folder}/rc",
        "/dev/null"], {"LD_LIBRARY_PATH": str(LIBRARY), "TERM": "ansi"}, 25)
    box = folder / "mbox"
    said = re.findall(r"\x07\r([^\r\n\x07\x1b]+)", out)
    return code, "\n".join(said) or out, box.read_text() if box.exists() else ""


def mbsync(cell):
    folder = home()
    path = clients.config(
        f"IMAPAccount a\nHost {cell.name}\nUser {cell.user}\nPass {PASSWORD}\n"
        f"SSLType {'None' if cell.mode == 'off' else 'STARTTLS'}\n"
        f"CertificateFile {clients.TRUST}\nTimeout 30\n\n"
        "IMAPStore far\nAccount a\n\n"
        f"MaildirStore near\nPath {folder}/\nInbox {folder}/INBOX\n\n"
        "Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\n"
        f"SyncState {folder}/\nSync Pull\n")
    code, out = run(cell, ["mbsync", "-q", "-c", path, "c"])
    return code, out, contents(folder / "INBOX")


def offlineimap(cell):
    folder = home()
    (folder / "rc").write_text(
        f"[general]\naccounts = a\nmetadata = {folder}/state\n"
        "socktimeout = 30\n[Account a]\nlocalrepository = near\n"
        "remoterepository = far\n[Repository near]\ntype = Maildir\n"
        f"localfolders = {folder}/mail\n[Repository far]\ntype = IMAP\n"
        f"remotehost = {cell.name}\nremoteuser = {cell.user}\n"
        f"remotepass = {PASSWORD}\nssl = no\n"
        f"starttls = {'no' if cell.mode == 'off' else 'yes'}\n"
        f"sslcacertfile = {clients.TRUST}\n"
        "folderfilter = lambda name: name == 'INBOX'\n")
    code, out = run(cell, ["/usr/bin/python3", OFFLINEIMAP / "run", "-c",
                           folder / "rc", "-o", "-u", "quiet"],
                    env={"PYTHONPATH": f"{OFFLINEIMAP}:{PYTHON}"})
    return code, out, contents(folder / "mail")


def s_nail(cell, *more):
    box = home() / "mbox"
    tls = {"off": [], "must": [f"-S{cell.scheme}-use-starttls"]}[cell.mode]
    code, out = run(cell, [
        "s-nail", "-:/", "-Sv15-compat", "-Stls-verify=strict",
        f"-Stls-ca-file={clients.TRUST}", "-Stls-ca-no-defaults", *tls, *more,
        f"-Y copy 1 {box}", "-Y xit", "-R", "-f",
        f"{cell.scheme}://{cell.escaped}:{PASSWORD}@{cell.name}"])
    said = [line for line in out.splitlines() if " error: " in line]
    return code, "\n".join(said) or out, contents(box.parent)


def s_nail_no_apop(cell):
    return s_nail(cell, "-Spop3-no-apop")


# ---- libraries, each with the shortest program around it ------------------

POPLIB = """
import json, poplib, ssl, sys
c = json.load(open(sys.argv[1]))
try:
    s = poplib.POP3(c["name"], 110, timeout=50)
    if c["mode"] == "must" or c["mode"] == "may" and "STLS" in s.capa():
        s.stls(ssl.create_default_context(cafile=c["trust"]))
    s.user(c["user"])
    s.pass_(c["password"])
    print(b"\\n".join(s.retr(1)[1]).decode())
    s.quit()
except (poplib.error_proto, OSError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
IMAPLIB = """
import imaplib, json, ssl, sys
c = json.load(open(sys.argv[1]))
try:
    s = imaplib.IMAP4(c["name"], 143, timeout=50)
    if c["mode"] == "must" or c["mode"] == "may" and \\
            "STARTTLS" in s.capabilities:
        s.starttls(ssl.create_default_context(cafile=c["trust"]))
    s.login(c["user"], c["password"])
    s.select("INBOX", readonly=True)
    print(s.fetch("1", "(BODY.PEEK[])")[1][0][1].decode())
    s.logout()
except (imaplib.IMAP4.error, OSError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
NET_POP3 = """
use strict; use Net::POP3; use JSON::PP;
open(my $f, '<', $ARGV[0]) or die; my $c = decode_json(join '', <$f>);
my $s = Net::POP3->new($c->{name}, Port => 110, Timeout => 50)
    or die "cannot connect: $@\\n";
sub said { $s->code . ' ' . $s->message . "\\n" }
if ($c->{mode} eq 'must' or $c->{mode} eq 'may' and exists $s->capa->{STLS}) {
    $s->starttls(SSL_ca_file => $c->{trust}) or die "STLS: $@ " . said();
}
defined $s->login($c->{user}, $c->{password}) or die said();
my $mail = $s->get(1) or die said();
print @$mail; $s->quit;
"""
IMAPFLOW = """
const c = JSON.parse(require('fs').readFileSync(process.argv[1]));
const { ImapFlow } = require(c.module);
const s = new ImapFlow({ host: c.name, port: 143, secure: false, logger: false,
    doSTARTTLS: { off: false, must: true }[c.mode],
    tls: { ca: require('fs').readFileSync(c.trust) },
    auth: { user: c.user, pass: c.password } });
(async () => {
    await s.connect();
    const lock = await s.getMailboxLock('INBOX');
    const m = await s.fetchOne('1', { source: true });
    console.log(m.source.toString());
    lock.release();
    await s.logout();
})().catch((e) => { console.log(e.responseText || e.message); process.exit(1); });
"""


def script(cell, argv):
    path = clients.config(json.dumps({
        "name": cell.name, "mode": cell.mode, "user": cell.user,
        "password": PASSWORD, "trust": clients.TRUST,
        "module": str(FETCHED / "node/node_modules/imapflow")}))
    code, out = run(cell, [*argv, path])
    return code, out, out


def poplib(cell):
    return script(cell, ["/usr/bin/python3", "-c", POPLIB])


def imaplib(cell):
    return script(cell, ["/usr/bin/python3", "-c", IMAPLIB])


def net_pop3(cell):
    return script(cell, ["/usr/bin/perl", "-e", NET_POP3])


def imapflow(cell):
    return script(cell, ["node", "-e", IMAPFLOW])


STRICT = ("off", "must")
PROGRAMS = {    # (protocol, program): the function, the modes it has
    ("POP3", "curl"): (curl, MODES),
    ("POP3", "mpop"): (mpop, STRICT),
    ("POP3", "fetchmail"): (fetchmail, MODES),
    ("POP3", "getmail6"): (getmail, ("off",)),
    ("POP3", "mutt"): (mutt, MODES),
    ("POP3", "s-nail"): (s_nail, STRICT),
    ("POP3", "s-nail, *pop3-no-apop*"): (s_nail_no_apop, STRICT),
    ("POP3", "Python poplib"): (poplib, MODES),
    ("POP3", "Perl Net::POP3"): (net_pop3, MODES),
    ("IMAP", "curl"): (curl, MODES),
    ("IMAP", "fetchmail"): (fetchmail, MODES),
    ("IMAP", "getmail6"): (getmail, ("off",)),
    ("IMAP", "mutt"): (mutt, MODES),
    ("IMAP", "s-nail"): (s_nail, STRICT),
    ("IMAP", "mbsync"): (mbsync, STRICT),
    ("IMAP", "OfflineIMAP"): (offlineimap, ("off", "may")),
    ("IMAP", "Python imaplib"): (imaplib, MODES),
    ("IMAP", "imapflow"): (imapflow, MODES),
}
