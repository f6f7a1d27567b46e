"""Mail programs as clients of port 25, one function each, for the matrix.

Each function takes a Cell and returns what the program said: (code, text).
Modes: "off", no STARTTLS; "may", when it is offered; "must", or nothing. A
program without such a mode is not in its MODES. Certificates are checked where
the program can be told the server's name apart from the address.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import ca
import clients
import postfix
import proc
from daemon import BUILD
from dovecot import PASSWORD

FETCHED = BUILD / "clients"
USER = "kenji@isp.example"
MODES = ("off", "may", "must")


@dataclass
class Cell:
    line: str           # namespace
    server: str         # address dialled
    name: str           # the server's own
    mode: str
    to: str
    token: str
    auth: bool

    @property
    def host(self):
        return f"[{self.server}]" if ":" in self.server else self.server

    @property
    def message(self):
        return clients.message(self.token, USER, self.to)


def run(cell, argv, text=None, env=None):
    result = proc.run(cell.line, argv, text=text, timeout=60, env=env)
    return result.code, result.out


def swaks(cell):
    extra = {"off": [], "may": ["-tlso"], "must": ["-tls"]}[cell.mode]
    if cell.auth:
        extra += ["--auth", "LOGIN", "--auth-user", USER, "--auth-password",
                  PASSWORD]
    result = clients.swaks(cell.line, cell.server, cell.to, cell.token,
                           extra=extra)
    said = [line for start in ("<", "***") for line in
            result.out.splitlines() if line.startswith(start)]
    return result.code, "\n".join(said)


def curl(cell):
    extra = {"off": [], "may": ["--ssl"], "must": ["--ssl-reqd"]}[cell.mode]
    login = ["-u", f"{USER}:{PASSWORD}"] if cell.auth else []
    return run(cell, [
        "curl", "-sS", "-m", "50", *extra, *login, "--resolve",
        f"{cell.name}:25:{cell.host}", "--mail-from", USER, "--mail-rcpt",
        cell.to, "-T", "-", f"smtp://{cell.name}:25/pc.example"], cell.message)


def msmtp(cell):
    result = clients.msmtp(cell.line, cell.server, cell.name, cell.to,
                           cell.token, tls=cell.mode == "must",
                           auth=("plain" if cell.mode == "must" else "login")
                           if cell.auth else None)
    said = [line for line in result.out.splitlines()
            if line.startswith("msmtp: ") and "could not send" not in line]
    return result.code, "\n".join(said)


def s_nail(cell):
    extra = ["-Ssmtp-use-starttls", "-Stls-verify=ignore"] \
        if cell.mode == "must" else []
    # It takes no IPv6 address: a name that has no other.
    host = f"v{6 if ':' in cell.server else 4}.{cell.name}"
    mta = f"smtp://{host}:25"
    if cell.auth:
        extra += ["-Ssmtp-auth=login"]
        mta = (f"smtp://{USER.replace('@', '%40')}:{PASSWORD}"
               f"@{host}:25")
    else:
        extra += ["-Ssmtp-auth=none"]
    return run(cell, ["s-nail", "-:/", "-Sv15-compat", "-Ssendwait",
                      f"-Smta={mta}", *extra, f"-Sfrom={USER}",
                      "-Shostname=pc.example", f"-s{cell.token}", cell.to],
               "Hello.\n")


SMTPLIB = """
import json, smtplib, ssl, sys
c = json.load(open(sys.argv[1]))
tls = ssl.create_default_context()
tls.check_hostname = False      # it is told an address
s = smtplib.SMTP(c["server"], 25, "pc.example", timeout=50)
try:
    s.ehlo()
    if c["mode"] == "must" or c["mode"] == "may" and s.has_extn("starttls"):
        s.starttls(context=tls)
    if c["auth"]:
        s.login(c["user"], c["password"])
    s.sendmail(c["user"], [c["to"]], c["message"])
    s.quit()
except smtplib.SMTPException as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
NET_SMTP = """
use strict; use Net::SMTP; use JSON::PP;
open(my $f, '<', $ARGV[0]) or die; my $c = decode_json(join '', <$f>);
my $s = Net::SMTP->new($c->{server}, Port => 25, Hello => 'pc.example',
    Timeout => 50) or die "cannot connect: $@\\n";
sub check { $_[0] or die $s->code . ' ' . $s->message . "\\n" }
if ($c->{mode} eq 'must' or $c->{mode} eq 'may' and $s->supports('STARTTLS')) {
    $s->starttls(SSL_verifycn_name => $c->{name}, SSL_hostname => $c->{name})
        or die "STARTTLS: $@\\n" . $s->message . "\\n";
}
check($s->auth($c->{user}, $c->{password})) if $c->{auth};
check($s->mail($c->{user})); check($s->to($c->{to}));
check($s->data($c->{message})); $s->quit;
"""
NODEMAILER = """
const c = JSON.parse(require('fs').readFileSync(process.argv[1]));
const t = require(c.module).createTransport({
    host: c.server, port: 25, secure: false, name: 'pc.example',
    ignoreTLS: c.mode === 'off', requireTLS: c.mode === 'must',
    tls: { servername: c.name, ca: require('fs').readFileSync(c.trust) },
    auth: c.auth ? { user: c.user, pass: c.password } : undefined });
t.sendMail({ envelope: { from: c.user, to: c.to }, raw: c.message })
    .then(() => t.close(), (e) => { console.log(e.message); process.exit(1); });
"""


def script(cell, argv, env=None):
    path = clients.config(json.dumps({
        "server": cell.server, "name": cell.name, "mode": cell.mode,
        "auth": cell.auth, "user": USER, "password": PASSWORD, "to": cell.to,
        "message": cell.message.replace("\n", "\r\n"),
        "trust": clients.TRUST,
        "module": str(FETCHED / "node/node_modules/nodemailer")}))
    return run(cell, [*argv, path], env=env)


def python_smtplib(cell):
    return script(cell, ["/usr/bin/python3", "-c", SMTPLIB])


def perl_net_smtp(cell):
    return script(cell, ["/usr/bin/perl", "-e", NET_SMTP])


def nodemailer(cell):
    return script(cell, ["node", "-e", NODEMAILER])


def opensmtpd(cell):
    scheme = {"off": "smtp+notls", "may": "smtp", "must": "smtp+tls"}[cell.mode]
    login = f"{USER}:{PASSWORD}@" if cell.auth else ""
    return run(cell, [FETCHED / "root/usr/bin/smtp", "-C", "-F", USER, "-H",
                      "pc.example", "-s", f"{scheme}://{login}{cell.host}:25",
                      cell.to], cell.message)


EXIM = """\
exim_path = {binary}
spool_directory = {spool}
log_file_path = {spool}/%slog
primary_hostname = pc.example
keep_environment = LD_LIBRARY_PATH
begin routers
all:
  driver = manualroute
  route_list = * "<+ {server}" byname
  transport = out
  self = send
begin transports
out:
  driver = smtp
  user = Debian-exim
  helo_data = pc.example
  tls_verify_certificates = {trust}
  {tls}
  {auth}
begin retry
* * F,2h,15m
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
"""


def exim(cell):
    spool = Path(clients.config("")).with_suffix(".exim")
    spool.mkdir()
    shutil.chown(spool, "Debian-exim", "Debian-exim")
    path = clients.config(EXIM.format(
        binary=FETCHED / "root/usr/sbin/exim4", spool=spool, server=cell.server, trust=clients.TRUST, user=USER,
        password=PASSWORD,
        tls={"off": "hosts_avoid_tls = *", "may": "",
             "must": "hosts_require_tls = *"}[cell.mode],
        auth="hosts_require_auth = *" if cell.auth else ""))
    os.chmod(path, 0o644)
    binary = FETCHED / "root/usr/sbin/exim4"
    env = {"LD_LIBRARY_PATH": str(
        FETCHED / "root/usr/lib" / f"{os.uname().machine}-linux-gnu")}
    code, out = run(cell, [binary, "-C", path, "-odf", "-f", USER, cell.to],
                    cell.message, env)
    log = proc.tail(spool / "mainlog", 50)
    for mark, word in (("=>", "sent"), ("**", "bounced: "), ("==", "waits: ")):
        for line in log.splitlines():
            if f" {mark} {cell.to}" in line:
                return int(mark != "=>"), word + line.split(mark, 1)[1]
    return code, out + log


# It never authenticates in clear.
TLS_FOR_AUTH = ("OpenSMTPD smtp(1)",)

PROGRAMS = {
    "swaks": (swaks, MODES),
    "curl": (curl, MODES),
    "msmtp": (msmtp, ("off", "must")),
    "s-nail": (s_nail, ("off", "must")),
    "Python smtplib": (python_smtplib, MODES),
    "Perl Net::SMTP": (perl_net_smtp, MODES),
    "nodemailer": (nodemailer, MODES),
    "Exim": (exim, MODES),
    "OpenSMTPD smtp(1)": (opensmtpd, MODES),
}


class PostfixClient(postfix.Postfix):
    """Postfix on a line; the sender chooses the mode and the server."""

    def __init__(self, ns, targets, auth):
        super().__init__(ns, "pc.example", "pc.example", ca.DIR / "mxa.pem",
                         inet="", ports=())
        self.targets, self.auth = targets, auth

    def prepare(self):
        super().prepare()
        login = ("smtp_sasl_auth_enable = yes\n"
                 "smtp_sasl_security_options = noanonymous\n"
                 f"smtp_sasl_password_maps = static:{USER}:{PASSWORD}\n")
        with open(self.config / "main.cf", "a", encoding="ascii") as file:
            file.write("sender_dependent_default_transport_maps = "
                       f"texthash:{self.config}/transports\n"
                       + (login if self.auth else ""))
        with open(self.config / "master.cf", "a", encoding="ascii") as file:
            for mode, level in (("off", "none"), ("may", "may"),
                                ("must", "encrypt")):
                file.write(f"{mode} unix - - n - - smtp\n"
                           f"  -o smtp_tls_security_level={level}\n")
        (self.config / "transports").write_text("".join(
            f"{mode}{family}@isp.example {mode}:[{server}]:25\n"
            for mode in MODES for family, server in self.targets.items()))
        for path in self.config.iterdir():
            os.utime(path, (1, 1))

    def ready(self):
        proc.wait_until(lambda: (self.queue / "public/pickup").exists(),
                        f"Postfix at {self.ns}")

    def send(self, cell):
        sender = f"{cell.mode}{6 if ':' in cell.server else 4}@isp.example"
        env = {"MAIL_CONFIG": str(self.config)}
        known = len(self.tries(sender))
        proc.need(cell.line, ["sendmail", "-f", sender, cell.to],
                  text=cell.message, env=env)
        line = proc.wait_until(lambda: self.tries(sender)[known:],
                               f"Postfix to try {sender}", 40)[0]
        word = {"sent": "sent", "bounced": "bounced: ", "deferred": "waits: "}
        status = re.search(r"status=(\w+) \((.*)\)$", line)
        return (int(status[1] != "sent"),
                word.get(status[1], status[1]) + status[2])

    def tries(self, sender):
        """Of each message from sender the first line that has a status."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        found = []
        for number in re.findall(rf"(\w+): from=<{re.escape(sender)}>, size",
                                 text):
            line = re.search(rf".* {number}: to=.*status=.*", text)
            if line and number not in [seen for seen, _ in found]:
                found.append((number, line.group(0)))
        return [line for _, line in found]
