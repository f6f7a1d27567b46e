"""Real Postfix, one instance a host, each with its own queue and Maildirs."""

import grp
import os
import pwd
import signal
from pathlib import Path

import ca
import proc

SPOOL = Path("/run/lab/spool")
MAIL = Path("/run/lab/mail")

# Who has a mailbox, in every domain.
USERS = ("info", "sales", "kenji", "yuki", "hana", "load", "discard")

MAIN = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {log}
maillog_file_prefixes = /run
import_environment = MAIL_CONFIG TZ
myhostname = {hostname}
mydestination =
alias_maps =
inet_interfaces = all
inet_protocols = all
mynetworks = 127.0.0.0/8 [::1]/128
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {mail}
virtual_mailbox_maps = texthash:{config}/mailboxes
transport_maps = inline:{{ discard@{domain}=discard: }}
virtual_uid_maps = static:5000
virtual_gid_maps = static:5000
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_event_limit_exceptions = static:all
smtpd_error_sleep_time = 0
smtpd_tls_security_level = may
smtpd_tls_chain_files = {certificate}
smtpd_tls_received_header = yes
smtp_tls_security_level = may
in_flow_delay = 0
default_process_limit = 200
minimal_backoff_time = 5s
queue_run_delay = 5s
biff = no
"""

MASTER = """\
{inet}
pickup     unix n - n 60   1 pickup
cleanup    unix n - n -    0 cleanup
qmgr       unix n - n 300  1 qmgr
tlsmgr     unix - - n 1000 1 tlsmgr
rewrite    unix - - n -    - trivial-rewrite
bounce     unix - - n -    0 bounce
defer      unix - - n -    0 bounce
trace      unix - - n -    0 bounce
verify     unix - - n -    1 verify
flush      unix n - n 1000 0 flush
proxymap   unix - - n -    - proxymap
smtp       unix - - n -    - smtp
relay      unix - - n -    - smtp
error      unix - - n -    - error
retry      unix - - n -    - error
discard    unix - - n -    - discard
virtual    unix - n n -    - virtual
anvil      unix - - n -    1 anvil
scache     unix - - n -    1 scache
postlog    unix-dgram n - n - 1 postlogd
"""

MX_ONLY = "smtp inet n - n - 200 smtpd"
SASL = """\
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sasl_type=dovecot
  -o smtpd_sasl_path=/run/lab/dovecot/auth-client
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_tls_auth_only=yes"""
PROVIDER = f"""\
{MX_ONLY}
submission inet n - n - 200 smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
{SASL}
submissions inet n - n - 200 smtpd
  -o syslog_name=postfix/submissions
  -o smtpd_tls_wrappermode=yes
{SASL}"""


class Postfix:
    def __init__(self, ns, hostname, domain, certificate, inet=MX_ONLY,
                 ports=(25,)):
        self.ns, self.hostname, self.domain = ns, hostname, domain
        self.certificate, self.inet, self.ports = certificate, inet, ports
        self.config = Path(f"/run/lab/{ns}/postfix")
        self.queue, self.data = SPOOL / ns, Path(f"/run/lab/{ns}/data")
        self.mail = MAIL / ns
        self.log = proc.LOG / f"{ns}-postfix.log"
        self.process = None

    def prepare(self):
        self.config.mkdir(parents=True)
        values = {"queue": self.queue, "data": self.data, "log": self.log,
                  "hostname": self.hostname, "domain": self.domain,
                  "mail": self.mail, "config": self.config,
                  "certificate": self.certificate}
        (self.config / "main.cf").write_text(MAIN.format(**values))
        (self.config / "master.cf").write_text(MASTER.format(inet=self.inet))
        (self.config / "mailboxes").write_text("".join(
            f"{user}@{self.domain} {user}/Maildir/\n" for user in USERS))
        # Postfix waits until a file is two seconds old before it believes it.
        for path in self.config.iterdir():
            os.utime(path, (1, 1))
        owner = pwd.getpwnam("postfix")
        drop = grp.getgrnam("postdrop").gr_gid
        self.data.mkdir(parents=True, mode=0o700)
        os.chown(self.data, owner.pw_uid, owner.pw_gid)
        self.queue.mkdir(parents=True)
        for name in ("active bounce corrupt defer deferred flush hold "
                     "incoming private saved trace maildrop public "
                     "pid").split():
            (self.queue / name).mkdir(mode=0o700)
            if name != "pid":
                os.chown(self.queue / name, owner.pw_uid,
                         drop if name in ("maildrop", "public")
                         else owner.pw_gid)
        (self.queue / "maildrop").chmod(0o1730)
        (self.queue / "public").chmod(0o2710)
        (self.queue / "pid").chmod(0o755)
        self.mail.mkdir(parents=True)
        os.chown(self.mail, 5000, 5000)

    def start(self):
        # master itself, in front: `postfix start` checks the whole package
        # first, which takes longer than raising the rest of the lab.
        self.process = proc.spawn(
            self.ns, ["/usr/lib/postfix/sbin/master", "-c", self.config,
                      "-d"], self.log,
            env={**os.environ, "MAIL_CONFIG": str(self.config)},
            start_new_session=True)

    def ready(self):
        proc.wait_ports(self.process, self.ports, f"Postfix at {self.ns}")

    def restart(self):
        """With new processes: no TLS ticket of before is good any more."""
        proc.stop(self.process, signal.SIGTERM)
        proc.wait_until(lambda: not self.strays(), "Postfix's children to end")
        self.start()
        self.ready()

    def strays(self):
        """Processes of this instance still alive."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(entry / "cwd") == str(self.queue):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


def instances():
    return {
        "mxa": Postfix("mxa", "mx.alpha.example", "alpha.example",
                       ca.DIR / "mxa.pem"),
        "mxb": Postfix("mxb", "mx.beta.example", "beta.example",
                       ca.DIR / "mxb.pem"),
        "isp": Postfix("isp", "mail.isp.example", "isp.example",
                       ca.CURRENT, PROVIDER, (25, 465, 587)),
    }
