"""Real mail programs, run on a line.

Each function returns proc.Result: what the program itself said is the point.
The address family is chosen by dialling an address; programs that check a
certificate are told the name they would have used.
"""

import os
import re
import tempfile
from pathlib import Path

import proc
from dovecot import PASSWORD

TRUST = "/etc/ssl/certs/ca-certificates.crt"
TMP = Path("/run/lab/tmp")


def words(text):
    """A program's own words, without what differs from run to run."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    text = lines[-1] if lines else "(nothing)"
    text = re.sub(r"\[?[0-9a-f]*:[0-9a-f:]+::[0-9a-f]+\]?|"
                  r"\[?\d+\.\d+\.\d+\.\d+\]?", "SERVER", text)
    text = re.sub(r"(SERVER)+", "SERVER", text)
    text = re.sub(r"[0-9A-HJKMNP-TV-Z]{13}", "ID", text)
    text = re.sub(r"/\S+/run/lab\S*|/run/lab\S+", "FILE", text)
    return text.replace("|", "/")[:100]


def message(token, sender, to, body="Good morning.\n"):
    return (f"From: {sender}\nTo: {to}\nSubject: {token}\n"
            f"Message-ID: <{token}@lab.example>\n\n{body}")


def swaks(line, server, to, token, sender="kenji@isp.example", port=25,
          helo="pc.example", extra=()):
    """The Swiss army knife; speaks as plainly as an old program or a bot."""
    family = ["-6"] if ":" in server else ["-4"]
    host = f"[{server}]" if ":" in server else server
    return proc.run(line, ["swaks", *family, "--server", host, "--port",
                           str(port), "--helo", helo, "--from", sender, "--to",
                           to, "--header", f"Subject: {token}",
                           "--timeout", "30", *extra])


def swaks_auth(line, server, to, token, mechanism="LOGIN", user=None,
               password=PASSWORD, **more):
    """AUTH in clear on port 25, as mail programs did in 2005."""
    return swaks(line, server, to, token, extra=(
        "--auth", mechanism, "--auth-user", user or "kenji@isp.example",
        "--auth-password", password), **more)


def config(text):
    """A private configuration file for a program."""
    handle, path = tempfile.mkstemp(dir=TMP)
    os.write(handle, text.encode())
    os.close(handle)
    os.chmod(path, 0o600)
    return path


def msmtp(line, server, name, to, token, tls=True, auth=None, port=25,
          sender="kenji@isp.example", password=PASSWORD, body="Hello.\n"):
    """A present-day program; with tls it refuses anything less."""
    text = (f"defaults\nlogfile -\naccount default\nhost {server}\n"
            f"port {port}\nfrom {sender}\ndomain pc.example\ntimeout 30\n")
    if tls:
        text += (f"tls on\ntls_starttls on\ntls_trust_file {TRUST}\n"
                 f"tls_host_override {name}\n")
    else:
        text += "tls off\n"
    if auth:
        text += (f"auth {auth}\nuser kenji@isp.example\n"
                 f"password {password}\n")
    path = config(text)
    return proc.run(line, ["msmtp", "-C", path, "--debug", to],
                    text=message(token, sender, to, body))


def certificate(line, server, name, port=25):
    """What msmtp sees of the server's certificate after STARTTLS."""
    return proc.run(line, [
        "msmtp", "--serverinfo", f"--host={server}", f"--port={port}",
        "--tls=on", "--tls-starttls=on", f"--tls-trust-file={TRUST}",
        f"--tls-host-override={name}"])


def mpop(line, server, auth="user", password=PASSWORD, user="kenji",
         keep=False):
    """POP3 on port 110 in clear; the mail that came is in .mail."""
    box = tempfile.mktemp(dir=TMP, suffix=".mbox")
    path = config(
        f"defaults\ntls off\naccount default\nhost {server}\nport 110\n"
        f"user {user}@isp.example\npassword {password}\nauth {auth}\n"
        f"timeout 30\nkeep {'on' if keep else 'off'}\n"
        f"delivery mbox {box}\nuidls_file {box}.uidls\n")
    result = proc.run(line, ["mpop", "-C", path, "--debug"])
    result.mail = Path(box).read_text() if os.path.exists(box) else ""
    return result


def fetchmail(line, server, user="kenji", password=PASSWORD, protocol="APOP"):
    """Without TLS, POP3 with APOP or IMAP; the mail that came is in .mail."""
    box = tempfile.mktemp(dir=TMP, suffix=".mbox")
    path = config(f'poll "{server}" protocol {protocol} username '
                  f'"{user}@isp.example" password "{password}" '
                  'sslproto "" fetchall\n')
    result = proc.run(line, [
        "fetchmail", "-f", path, "-v", "-v", "--nosyslog", "--nodetach",
        "--mda", f"cat >>{box}", "--pidfile", box + ".pid",
        "--idfile", box + ".ids"], env={"FETCHMAILHOME": str(TMP)})
    result.mail = Path(box).read_text() if os.path.exists(box) else ""
    return result


def curl_pop3(line, server, user="kenji", password=PASSWORD, options="*",
              number="1"):
    host = f"[{server}]" if ":" in server else server
    return proc.run(line, [
        "curl", "-sS", "-v", "--login-options", f"AUTH={options}",
        "-u", f"{user}@isp.example:{password}", "-m", "30",
        f"pop3://{host}/{number}"])


def curl_imap(line, server, user="kenji", password=PASSWORD, options="PLAIN",
              name=None, message=";MAILINDEX=1", extra=()):
    """IMAP on port 143; with a name STARTTLS is required, and verified."""
    host = name or (f"[{server}]" if ":" in server else server)
    secure = ["--ssl-reqd", "--cacert", TRUST, "--resolve",
              f"{name}:143:{server}"] if name else []
    return proc.run(line, [
        "curl", "-sS", "-v", "--login-options", f"AUTH={options}", *secure, *extra,
        "-u", f"{user}@isp.example:{password}", "-m", "30",
        f"imap://{host}/INBOX{message}"])


def mbsync(line, server, user="kenji", password=PASSWORD, tls="None"):
    """isync: the whole INBOX into a Maildir; the mail that came is in .mail."""
    home = Path(tempfile.mkdtemp(dir=TMP))
    path = config(
        f"IMAPAccount a\nHost {server}\nUser {user}@isp.example\n"
        f"Pass {password}\nSSLType {tls}\nCertificateFile {TRUST}\n"
        "AuthMechs *\nTimeout 30\n\nIMAPStore far\nAccount a\n\n"
        f"MaildirStore near\nPath {home}/\nInbox {home}/INBOX\n\n"
        "Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\n"
        f"SyncState {home}/\nSync Pull\n")
    result = proc.run(line, ["mbsync", "-V", "-c", path, "c"])
    result.mail = "".join(mail.read_text() for mail in home.glob("INBOX/*/*"))
    return result


def curl_smtp(line, server, to, token, user="kenji", password=PASSWORD,
              body="Hello.\n", port=25, auth=True):
    host = f"[{server}]" if ":" in server else server
    sender = f"{user}@isp.example"
    login = ["-u", f"{sender}:{password}"] if auth else []
    return proc.run(line, [
        "curl", "-sS", "-v", "-m", "60", *login, "--mail-from", sender,
        "--mail-rcpt", to, "-T", "-", f"smtp://{host}:{port}/pc.example"],
        text=message(token, sender, to, body))


def s_nail(line, server, to, token, sender="kenji@isp.example"):
    """mailx of our day, sending the way it did thirty years ago."""
    host = f"[{server}]" if ":" in server else server
    return proc.run(line, [
        "s-nail", "-:/", "-v", "-v", "-Sv15-compat", "-Ssendwait",
        f"-Smta=smtp://{host}:25", "-Ssmtp-auth=none", f"-Sfrom={sender}",
        "-Shostname=pc.example", f"-s{token}", to], text="Hello.\n")
