"""The scenes: who does what on which line, and what must come of it.

Each scene is a function of a Play; demo.py tells it, test_scenes.py asserts
it.  A Play notes what the mail program itself said, what arrived where and the
daemon's log line, and every expectation with what was got instead.
"""

import base64
import re
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import clients
import net
import proc
from dovecot import LOG as DOVECOT_LOG
from dovecot import PASSWORD
from peer import Peer

SCENES = []


def scene(title, main=True):
    """Register a scene; main ones are shown over IPv6 too."""
    def register(function):
        function.title, function.main = title, main
        SCENES.append(function)
        return function
    return register


class Play:
    def __init__(self, function, world, daemon, family):
        self.name = function.__name__.replace("_", "-")
        self.title, self.family = function.title, family
        self.function, self.world, self.daemon = function, world, daemon
        self.did, self.words, self.arrivals = [], [], []
        self.log_lines, self.checks = [], []
        self.since = daemon.here() if daemon else 0
        self.seconds = 0.0

    # What happens ----------------------------------------------------------

    def at(self, name, which=0):
        return net.address(name, self.family, which)

    def in_brackets(self, name):
        """An address the way Postfix writes it in Received."""
        return ("[IPv6:%s]" if self.family == 6 else "[%s]") % self.at(name)

    def token(self):
        return f"{self.name}-{uuid.uuid4().hex[:8]}"

    def do(self, text):
        self.did.append(text)

    def quote(self, result, *patterns):
        """Keep the lines of a program's output that tell the story."""
        for line in result.out.splitlines():
            if any(re.search(pattern, line) for pattern in patterns):
                self.words.append(line.strip().replace(PASSWORD, "********"))

    def arrived(self, text):
        self.arrivals.append(text)

    # What must be ----------------------------------------------------------

    def check(self, want, condition, got=""):
        self.checks.append((want, bool(condition), str(got)))
        return bool(condition)

    def check_said(self, result, pattern, want):
        found = re.search(pattern, result.out)
        return self.check(want, found, found.group(0) if found
                          else result.out[-1500:])

    def check_log(self, *kinds, **fields):
        """One log line of this scene has these fields."""
        try:
            event = self.daemon.wait_event(self.since, *kinds, **fields)
        except AssertionError as error:
            self.check(f"log: {'|'.join(kinds)} {fields}", False, error)
            return None
        self.log_lines.append(event.text)
        self.check(f"log: {'|'.join(kinds)} "
                   + " ".join(f"{k}={v}" for k, v in fields.items()), True,
                   event.text)
        return event

    def check_arrival(self, host, user, token, want):
        try:
            mail = self.world.wait_arrival(host, user, token)
        except TimeoutError as error:
            self.check(want, False, error)
            self.arrived(f"nothing at {user} on {host}")
            return None
        self.arrived(f"{token} at {user} on {host}")
        self.check(want, True)
        return mail

    def check_nothing(self, host, user, token):
        mail = self.world.arrived(host, user, token)
        self.arrived(f"nothing at {user} on {host}" if mail is None
                     else f"{token} at {user} on {host}")
        self.check(f"nothing arrives on {host}", mail is None)

    def check_received(self, mail, *parts):
        """One Received line of a message has all the parts."""
        lines = [" ".join(line.split())
                 for line in (mail.get_all("Received") or [])]
        found = next((line for line in lines
                      if all(part in line for part in parts)), None)
        if found:
            self.arrived(f"Received: {found}")
        self.check("a Received line with " + ", ".join(parts), found,
                   found or "\n".join(lines))

    @property
    def ok(self):
        return bool(self.checks) and all(ok for _, ok, _ in self.checks)

    def run(self):
        began = time.monotonic()
        try:
            self.function(self)
        except Exception as error:
            import traceback
            self.check("the scene plays to its end", False,
                       "".join(traceback.format_exception(error)))
        self.seconds = time.monotonic() - began
        return self

    def report(self):
        """Everything, for people."""
        out = [f"{self.name} over IPv{self.family}: {self.title}"]
        out += [f"  did      {line}" for line in self.did]
        out += [f"  said     {line}" for line in self.words]
        out += [f"  arrived  {line}" for line in self.arrivals]
        out += [f"  log      {line}" for line in self.log_lines]
        for want, good, got in self.checks:
            out.append(f"  {'as expected' if good else 'NOT AS EXPECTED'}: "
                       f"{want}")
            if not good:
                out += [f"      {line}" for line in got.splitlines()]
        if not self.ok and self.daemon:
            out.append("  the daemon's log during this scene:")
            out += [f"      {line}"
                    for line in self.daemon.lines(self.since)[-40:]]
        return "\n".join(out)


def needles(password):
    """A password as it would look on a wire that is not encrypted."""
    found = [password.encode()]
    for lead in range(3):
        text = base64.b64encode(b"\0" * lead + password.encode())
        # Only what does not depend on the neighbours.
        found.append(text[(lead * 8 + 5) // 6:-4])
    return found


REFUSAL = r"550[- ]5\.7\.1 .*OP25B"
URL = r"550[- ]5\.7\.1 .*https?://\S+"


# ---- port 25, class block -------------------------------------------------

@scene("a bot in the dynamic range mails two foreign MXs")
def bot_is_refused(play):
    tokens = {host: play.token() for host in ("mxa", "mxb")}
    users = {"mxa": "info@alpha.example", "mxb": "info@beta.example"}
    play.do("line dynamic, swaks to mx.alpha.example:25 and mx.beta.example:25")
    with ThreadPoolExecutor() as pool:
        results = dict(zip(tokens, pool.map(
            lambda host: clients.swaks("dynamic", play.at(host), users[host],
                                       tokens[host], sender="x@bot.example"),
            tokens)))
    for host, result in results.items():
        play.quote(result, r"^<.*\b550", r"RCPT TO")
        play.check_said(result, REFUSAL, "the operator's text with 550 5.7.1")
        play.check_said(result, URL, "the operator's URL")
        play.check_said(result, r"RCPT TO:(?s:.*?)550", "refused at RCPT")
        play.check_nothing(host, "info", tokens[host])
        play.check_log("block", line=line_text("dynamic", play.family),
                       stage="rcpt", code="550", esc="5.7.1",
                       reason="policy", dst=endpoint(play.at(host), 25))


def line_text(name, family):
    """The line as the log names it: IPv4 address, IPv6 prefix."""
    if family == 4:
        return net.address(name, 4)
    return net.LINES[name].prefix6


def endpoint(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@scene("the same line mails the provider's own MX")
def own_mx_is_open(play):
    token = play.token()
    play.do("line dynamic, swaks to mx.isp.example:25 (pass_destinations)")
    result = clients.swaks("dynamic", play.at("isp", 1), "yuki@isp.example",
                           token)
    play.quote(result, r"^<.*(220|250 2)")
    play.check_said(result, r"220 mail\.isp\.example ESMTP Postfix",
                    "the provider's own greeting, not ours")
    mail = play.check_arrival("isp", "yuki", token, "the mail arrives")
    if mail:
        play.check_received(mail, play.in_brackets("dynamic"))


@scene("an allowlisted line mails a foreign MX")
def allowlisted_line_passes(play):
    token = play.token()
    play.do("line allowed (inside the dynamic range, on the allowlist), "
            "swaks to mx.alpha.example:25")
    result = clients.swaks("allowed", play.at("mxa"), "info@alpha.example",
                           token)
    play.quote(result, r"^<.*(220|250 2)")
    play.check_said(result, r"220 mx\.alpha\.example ESMTP Postfix",
                    "the MX's own greeting")
    mail = play.check_arrival("mxa", "info", token, "the mail arrives")
    if mail:
        play.check_received(mail, play.in_brackets("allowed"))


# ---- port 25, class relay -------------------------------------------------

@scene("a relay-class line mails a foreign MX with STARTTLS")
def relay_keeps_starttls(play):
    token = play.token()
    play.do("line fixed, msmtp to mx.alpha.example:25, TLS required, "
            "certificate verified by msmtp")
    result = clients.msmtp("fixed", play.at("mxa"), "mx.alpha.example",
                           "info@alpha.example", token)
    play.quote(result, r"<-- 220", r"CN=", r"smtpstatus")
    play.check("msmtp verified the certificate and sent", result.ok,
               result.out)
    play.check_said(result, r"CN=mx\.alpha\.example", "the MX's certificate")
    mail = play.check_arrival("mxa", "info", token, "the mail arrives")
    if mail:
        play.check_received(mail, "ESMTPS", play.in_brackets("fixed"))
    event = play.check_log("relay", line=line_text("fixed", play.family))
    if event:
        play.check("upstream from the line's own address",
                   event.get("out", "").startswith(
                       endpoint(play.at("fixed"), "")), event.text)


# ---- port 25, class submit ------------------------------------------------

@scene("a mail program of 2005 sends with AUTH in clear on port 25")
def old_program_submits(play):
    token = play.token()
    play.do("line legacy, swaks AUTH LOGIN without TLS to mail.isp.example:25")
    result = clients.swaks_auth("legacy", play.at("isp"), "info@alpha.example",
                                token)
    play.quote(result, r"^<.*(220|AUTH|235|250 2)")
    play.check("swaks sent it", result.ok, result.out)
    play.check_said(result, r"235 2\.7\.0", "the real server's 235")
    play.check("our 220 names the server", re.search(
        r"220 mail\.isp\.example ESMTP", result.out), result.out)
    mail = play.check_arrival("mxa", "info", token, "the mail arrives")
    if mail:
        play.check_received(mail, "ESMTPSA", "by mail.isp.example",
                            play.in_brackets("legacy"))
    play.check_log("submit", line=line_text("legacy", play.family),
                   dst=endpoint(play.at("isp"), 25))


@scene("the same program without AUTH")
def no_auth_gets_530(play):
    token = play.token()
    play.do("line legacy, swaks without AUTH to mail.isp.example:25")
    result = clients.swaks("legacy", play.at("isp"), "info@alpha.example",
                           token)
    play.quote(result, r"^<.*530")
    play.check_said(result, r"530[- ]5\.7\.0", "our 530 5.7.0")
    play.check_nothing("mxa", "info", token)
    play.check_log("submit", line=line_text("legacy", play.family),
                   code="530")


@scene("the same program with the wrong password")
def wrong_password_gets_535(play):
    token = play.token()
    play.do("line legacy, swaks AUTH LOGIN with a wrong password")
    result = clients.swaks_auth("legacy", play.at("isp"), "info@alpha.example",
                                token, password="not-" + PASSWORD[:8])
    play.quote(result, r"^<.*535")
    play.check_said(result, r"535 5\.7\.8", "the real server's 535 5.7.8")
    play.check_nothing("mxa", "info", token)
    play.check_log("submit", line=line_text("legacy", play.family),
                   code="535")


@scene("a modern mail program requires STARTTLS on port 25")
def starttls_is_tunnelled(play):
    token = play.token()
    play.do("line legacy, msmtp to mail.isp.example:25, TLS required, AUTH "
            "PLAIN")
    seen = clients.certificate("legacy", play.at("isp"), "mail.isp.example")
    play.check_said(seen, r"CN=mail\.isp\.example",
                    "the server's real certificate")
    result = clients.msmtp("legacy", play.at("isp"), "mail.isp.example",
                           "info@beta.example", token, auth="plain")
    play.quote(result, r"CN=", r"<-- 235", r"smtpstatus")
    play.check("msmtp verified the certificate and sent", result.ok,
               result.out)
    mail = play.check_arrival("mxb", "info", token, "the mail arrives")
    if mail:
        play.check_received(mail, "ESMTPSA", "by mail.isp.example",
                            play.in_brackets("legacy"))
    play.check_log("tunnel", line=line_text("legacy", play.family))


# ---- POP3 -----------------------------------------------------------------

def put_mail(play):
    """One fresh mail in the mailbox: its token, and Dovecot's log until now."""
    token = play.token()
    play.world.empty("kenji")
    play.world.put("kenji", clients.message(token, "mei@alpha.example",
                                            "kenji@isp.example"))
    return token, len(proc.tail(DOVECOT_LOG, 10 ** 6).splitlines())


def check_fetched(play, token, mail, out):
    play.check("the message is fetched", token in mail, out)
    play.arrived(f"{token} in the program's mailbox" if token in mail
                 else "nothing in the program's mailbox")


def check_login(play, before, method):
    tail = proc.tail(DOVECOT_LOG, 10 ** 6).splitlines()[before:]
    login = next((line for line in tail if "Login: user=<kenji" in line
                  and f"method={method}" in line), "")
    play.check(f"Dovecot saw {method} inside TLS from the line's own address",
               ", TLS," in login and f"rip={play.at('legacy')}," in login,
               login or "\n".join(tail))
    if login:
        play.arrived("Dovecot: " + login.split("Info: ", 1)[-1])


def fetch(play, program, told, method):
    token, before = put_mail(play)
    play.do(f"line legacy, {told} without TLS to mail.isp.example:110")
    result = program("legacy", play.at("isp"))
    play.quote(result, r"(\+OK (Dovecot|Logged)| (USER|PASS|APOP) )")
    check_fetched(play, token, result.mail, result.out)
    check_login(play, before, method)
    play.check_log("wrap", line=line_text("legacy", play.family),
                   dst=endpoint(play.at("isp"), 110))


@scene("mail is fetched by POP3 in clear, with USER and PASS")
def pop3_is_wrapped(play):
    fetch(play, clients.mpop, "mpop with USER and PASS", "PLAIN")


@scene("mail is fetched by POP3 in clear, with APOP")
def pop3_apop_survives(play):
    fetch(play, clients.fetchmail, "fetchmail with APOP", "APOP")


# ---- IMAP -----------------------------------------------------------------

@scene("mail is read by IMAP in clear")
def imap_is_wrapped(play):
    token, before = put_mail(play)
    play.do("line legacy, curl without TLS to mail.isp.example:143")
    result = clients.curl_imap("legacy", play.at("isp"))
    play.quote(result, r"^< (\* OK|A\d+ OK)", r"^> A\d+ (AUTH|LOGIN)")
    play.check_said(result, r"\* OK \[CAPABILITY [^]]*AUTH=PLAIN[^]]*\] ",
                    "the capabilities inside the greeting allow a login")
    play.check("LOGINDISABLED of the clear port is not shown",
               "LOGINDISABLED" not in result.out, result.out)
    check_fetched(play, token, result.out, result.out)
    check_login(play, before, "PLAIN")
    play.check_log("wrap", line=line_text("legacy", play.family),
                   dst=endpoint(play.at("isp"), 143))


@scene("a modern mail program requires STARTTLS on port 143")
def imap_starttls_is_tunnelled(play):
    token, before = put_mail(play)
    play.do("line legacy, curl to mail.isp.example:143, TLS required, "
            "certificate verified by curl")
    result = clients.curl_imap("legacy", play.at("isp"),
                               name="mail.isp.example")
    play.quote(result, r"STARTTLS", r"subject:", r"SSL certificate verify")
    play.check_said(result, r"CN=mail\.isp\.example",
                    "the server's real certificate")
    check_fetched(play, token, result.out, result.out)
    check_login(play, before, "PLAIN")
    play.check_log("tunnel", line=line_text("legacy", play.family),
                   dst=endpoint(play.at("isp"), 143))


# ---- trust ----------------------------------------------------------------

@scene("the provider suddenly presents a certificate of the wrong name")
def wrong_name_is_refused(play):
    token = play.token()
    with net.Capture("gw", "up0", "tcp") as capture:
        play.do("good sessions first, so that there is something to resume")
        good = clients.swaks_auth("legacy", play.at("isp"), "hana@isp.example",
                                  play.token())
        play.check("the good session is good", good.ok, good.out)
        good = clients.mpop("legacy", play.at("isp"), "user", user="hana")
        play.check("the good POP3 session is good", good.ok, good.out)
        good = clients.curl_imap("legacy", play.at("isp"), message="",
                                 extra=("-X", "NOOP"))
        play.check("the good IMAP session is good", good.ok, good.out)
        try:
            play.world.show_certificate("wrong")
            play.do("mail.isp.example now shows www.elsewhere.example; "
                    "line legacy: swaks AUTH LOGIN on 25, mpop USER on 110, "
                    "curl LOGIN on 143")
            smtp = clients.swaks_auth("legacy", play.at("isp"),
                                      "info@alpha.example", token)
            pop3 = clients.mpop("legacy", play.at("isp"), "user")
            imap = clients.curl_imap("legacy", play.at("isp"))
            starttls = clients.msmtp(
                "legacy", play.at("isp"), "mail.isp.example",
                "info@alpha.example", token, auth="plain")
        finally:
            play.world.show_certificate("isp")
        seen = capture.bytes()
    play.quote(smtp, r"^<.*421")
    play.quote(pop3, r"-ERR")
    play.quote(imap, r"BYE")
    play.check_said(smtp, r"<.*\b421[- ]", "SMTP: 421")
    play.check_said(pop3, r"-ERR \[SYS/TEMP\]", "POP3: -ERR [SYS/TEMP]")
    play.check_said(imap, r"\* BYE \[UNAVAILABLE\]",
                    "IMAP: BYE [UNAVAILABLE]")
    play.check("the program that verifies itself refuses too",
               not starttls.ok, starttls.out)
    play.check("the gateway's upstream was captured", len(seen) > 10000,
               len(seen))
    play.check("no byte of the password in clear on the upstream",
               not any(needle in seen for needle in needles(PASSWORD)))
    play.check_nothing("mxa", "info", token)
    play.check_log("submit", line=line_text("legacy", play.family),
                   reason="certificate")
    play.check_log("wrap", line=line_text("legacy", play.family),
                   reason="certificate")


# ---- failure --------------------------------------------------------------

@scene("the daemon is stopped, and continued")
def stopped_daemon_stops_no_mail(play):
    daemon, token = play.daemon, play.token()
    play.do("kill -STOP to every process of the daemon; line dynamic mails "
            "mx.alpha.example until it gets there")
    daemon.signal_all(signal.SIGSTOP)
    began = time.monotonic()
    try:
        proc.wait_until(lambda: direct(play), "the MX itself to answer", 12,
                        pause=0.2)
        took = time.monotonic() - began
        play.check("mail goes direct within 6 seconds", took <= 6.0,
                   f"{took:.1f} s")
        play.words.append(f"(the MX's own greeting after {took:.1f} s)")
        result = clients.swaks("dynamic", play.at("mxa"), "info@alpha.example",
                               token)
        play.quote(result, r"^<.*(220|250 2)")
        mail = play.check_arrival("mxa", "info", token, "the mail arrives")
        if mail:
            play.check_received(mail, play.in_brackets("dynamic"))
    finally:
        daemon.signal_all(signal.SIGCONT)
    play.do("kill -CONT")
    daemon.wait_gate(True)
    token = play.token()
    result = clients.swaks("dynamic", play.at("mxb"), "info@beta.example",
                           token)
    play.quote(result, r"^<.*550")
    play.check_said(result, REFUSAL, "refused again")
    play.check_nothing("mxb", "info", token)


def direct(play):
    """Does a connection from the dynamic line reach the MX itself?"""
    try:
        with Peer("dynamic", play.at("mxa"), 25, timeout=0.4) as peer:
            if "mx.alpha.example ESMTP Postfix" not in peer.line():
                return False
            peer.ask("QUIT")
            return True
    except OSError:
        return False
