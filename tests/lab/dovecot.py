"""Real Dovecot at the provider: POP3 and IMAP, in clear with STARTTLS and over
TLS, and the password check of Postfix's submission ports."""

import os
from pathlib import Path

import ca
import proc

BASE = Path("/run/lab/dovecot")
CONF = Path("/run/lab/dovecot.conf")
USERS = Path("/run/lab/dovecot.users")
LOG = proc.LOG / "dovecot.log"

# A string that occurs nowhere else, so that captures can be searched for it.
PASSWORD = "Umeboshi-9Zq7-tea-house"
ACCOUNTS = ("kenji", "yuki", "hana", "load")

# No index on disk: tests put files into maildirs and take them away, and within
# a second of that an index still lists what is gone.
CONFIG = f"""\
base_dir = {BASE}
state_dir = /run/lab/dovecot-state
log_path = {LOG}
protocols = imap pop3
listen = *, ::
ssl = yes
ssl_cert = <{ca.CURRENT}
ssl_key = <{ca.CURRENT}
disable_plaintext_auth = yes
auth_mechanisms = plain login cram-md5 apop
auth_failure_delay = 0
first_valid_uid = 100
mail_location = maildir:~/Maildir:INDEX=MEMORY
mail_fsync = never
mail_max_userip_connections = 0
passdb {{
  driver = passwd-file
  args = {USERS}
}}
userdb {{
  driver = static
  args = uid=5000 gid=5000 home=/run/lab/mail/isp/%n
}}
service auth {{
  client_limit = 5000
  unix_listener auth-client {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service pop3-login {{
  service_count = 0
  process_min_avail = 1
  client_limit = 2000
}}
service imap-login {{
  service_count = 0
  process_min_avail = 1
  client_limit = 2000
}}
service pop3 {{
  service_count = 1000
  process_min_avail = 4
}}
service imap {{
  service_count = 1000
  process_min_avail = 4
}}
protocol imap {{
  mail_plugins = imap_zlib
}}
service stats {{
  client_limit = 10000
}}
"""


class Dovecot:
    def __init__(self):
        self.process = None

    def prepare(self):
        CONF.write_text(CONFIG)
        USERS.touch()
        for name in ACCOUNTS:
            self.add_account(name)

    def add_account(self, name):
        """A mailbox; also while Dovecot runs."""
        with open(USERS, "a", encoding="ascii") as file:
            file.write(f"{name}@isp.example:{{PLAIN}}{PASSWORD}::::::\n")
        home = Path("/run/lab/mail/isp") / name
        for sub in ("cur", "new", "tmp"):
            (home / "Maildir" / sub).mkdir(parents=True)
        for path in (home, *home.rglob("*")):
            os.chown(path, 5000, 5000)

    def start(self):
        # Under the host's own name: it stands in the APOP challenge, and mail
        # programs look whether it is one.
        self.process = proc.spawn("isp", [
            "unshare", "--uts", "sh", "-c", "hostname mail.isp.example && "
            f"exec dovecot -c {CONF} -F"], LOG)

    def ready(self):
        proc.wait_ports(self.process, (110, 143, 993, 995), "Dovecot")
        proc.wait_until((BASE / "auth-client").exists, "Dovecot's SASL socket")

    def restart(self):
        proc.stop(self.process)
        self.start()
        self.ready()
