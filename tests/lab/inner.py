"""What stands behind a published server: Dovecot and Postfix on the gateway's
loopback, in clear; once as they come, and once expecting the PROXY header."""

import os
import shutil
from pathlib import Path

import dovecot
import postfix
import proc

BASE = Path("/run/lab/inner")
CONF = Path("/run/lab/inner.conf")
LOG = proc.LOG / "inner-dovecot.log"
BARE = {"pop3": 2110, "imap": 2143, "submission": 2587}
PROXY = {"pop3": 3110, "imap": 3143, "submission": 3587}

CONFIG = f"""\
base_dir = {BASE}
state_dir = /run/lab/inner-state
log_path = {LOG}
protocols = imap pop3
listen = 127.0.0.1, ::1
ssl = no
disable_plaintext_auth = yes
haproxy_trusted_networks = 127.0.0.0/8, ::1
auth_mechanisms = plain login cram-md5 scram-sha-256
auth_failure_delay = 0
first_valid_uid = 100
mail_location = maildir:~/Maildir:INDEX=MEMORY
mail_max_userip_connections = 0
passdb {{
  driver = passwd-file
  args = {dovecot.USERS}
}}
userdb {{
  driver = static
  args = uid=5000 gid=5000 home={postfix.MAIL}/gw/%n
}}
service auth {{
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
  inet_listener pop3 {{
    port = {BARE["pop3"]}
  }}
  inet_listener pop3s {{
    port = 0
  }}
  inet_listener told {{
    port = {PROXY["pop3"]}
    haproxy = yes
  }}
}}
service imap-login {{
  service_count = 0
  inet_listener imap {{
    port = {BARE["imap"]}
  }}
  inet_listener imaps {{
    port = 0
  }}
  inet_listener told {{
    port = {PROXY["imap"]}
    haproxy = yes
  }}
}}
"""

SASL = f"""\
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sasl_type=dovecot
  -o smtpd_sasl_path={BASE}/auth-client
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_tls_security_level=none"""
INET = f"""\
127.0.0.1:{BARE["submission"]} inet n - n - 200 smtpd
  -o syslog_name=postfix/bare
{SASL}
127.0.0.1:{PROXY["submission"]} inet n - n - 200 smtpd
  -o syslog_name=postfix/told
  -o smtpd_upstream_proxy_protocol=haproxy
{SASL}"""


class Inner:
    def __init__(self, certificate):
        self.dovecot = None
        self.postfix = postfix.Postfix(
            "gw", "pub.isp.example", "isp.example", certificate, INET,
            (BARE["submission"], PROXY["submission"]))
        self.log = self.postfix.log

    def start(self):
        CONF.write_text(CONFIG)
        self.postfix.prepare()
        for user in ("kenji", "yuki"):
            for sub in ("cur", "new", "tmp"):
                (postfix.MAIL / "gw" / user / "Maildir" / sub).mkdir(
                    parents=True)
            for path in (postfix.MAIL / "gw" / user).rglob("*"):
                os.chown(path, 5000, 5000)
            shutil.chown(postfix.MAIL / "gw" / user, 5000, 5000)
        self.postfix.start()
        self.raise_dovecot()
        self.postfix.ready()
        return self

    def raise_dovecot(self):
        self.dovecot = proc.spawn("gw", ["dovecot", "-c", CONF, "-F"], LOG)
        proc.wait_ports(self.dovecot, (BARE["pop3"], BARE["imap"],
                                       PROXY["pop3"], PROXY["imap"]),
                        "the inner Dovecot")
        proc.wait_until((BASE / "auth-client").exists, "its SASL socket")

    def stop_dovecot(self):
        proc.stop(self.dovecot)

    def stop(self):
        self.stop_dovecot()
        proc.stop(self.postfix.process)
        proc.wait_until(lambda: not self.postfix.strays(),
                        "Postfix's children to end")
