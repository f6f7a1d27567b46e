"""Printers: lines whose mail goes out through an account of the provider, with
a real Postfix that says who logged in, and how."""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

import daemon
import dovecot
import net
import proc
from test_peers import PLAIN, submit

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
USER = "yuki@isp.example"
SENDER = "scans@isp.example"
PASSWORD_FILE = daemon.ETC / "hall.password"
TOKEN_FILE = daemon.ETC / "hall.token"


def config(account=f'password_file = "{PASSWORD_FILE}";'):
    lines = ", ".join(f'"{text}"' for text in (
        net.address("legacy", 4) + "/32", net.LINES["legacy"].prefix6))
    legacy = 'port25 = "submit"; enforce = "all";'
    return daemon.quick().replace(
        legacy, f"{legacy} accounts = true;") + f"""
accounts = (
  {{ name = "hall"; prefixes = ( {lines} ); server = "mail.isp.example";
    user = "{USER}"; sender = "{SENDER}"; {account} }}
);
"""


def write_secret(path, text, mode=0o600):
    """As a program does that renews it: whole, and at once."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text + "\n")
    fresh.chmod(mode)
    fresh.rename(path)


@pytest.fixture(scope="module")
def printers(running):
    write_secret(PASSWORD_FILE, dovecot.PASSWORD)
    running.restart(config())
    yield running
    running.restart(daemon.quick())


@pytest.fixture
def hall(printers, gate):
    """The shared daemon with the account of the hall's printer, and no trace of
    its password in the log afterwards."""
    since = gate.here()
    yield gate
    said = "\n".join(gate.lines(since))
    for trace in traces():
        assert trace.decode() not in said, said


@pytest.fixture
def other(hall):
    """... with something else in the account."""
    def change(account, *swap):
        text = config(account)
        hall.reconfigure(text.replace(*swap) if swap else text)
        return hall
    yield change
    hall.reconfigure(config())


def traces():
    """The password as it may stand somewhere: by itself, and in base64 with
    whatever is before it."""
    for before in (b"", b"\0" + USER.encode() + b"\0"):
        whole = before + dovecot.PASSWORD.encode()
        yield whole
        yield base64.b64encode(whole).rstrip(b"=")[:-1]


def mail(peer, token, sender="<hall@printer.example>",
         rcpt="kenji@isp.example"):
    """A printer's mail; the answer to MAIL if that is no 250, else to all."""
    answer = peer.ask(f"MAIL FROM:{sender}")
    if not answer[0].startswith("250"):
        return answer[-1]
    answer = peer.ask(f"RCPT TO:<{rcpt}>")
    if not answer[0].startswith("250"):
        return answer[-1]
    peer.ask("DATA")
    return peer.ask(f"Subject: {token}\r\n\r\nscanned\r\n.")[-1]


def hello(family=4):
    peer = submit(family)
    peer.line()
    peer.ask("EHLO hall.example")
    return peer


def who_logged_in(world, since):
    """(method, user) of each login that Postfix has seen since then."""
    return re.findall(r"sasl_method=([^, ]+), sasl_username=(\S+)",
                      world.mta["isp"].log.read_text()[since:])


def sends(world, gate, token, method, family, **more):
    log, here = len(world.mta["isp"].log.read_text()), gate.here()
    with hello(family) as peer:
        said = mail(peer, token, **more)
        assert said.startswith("250"), peer
        peer.ask("QUIT")
    got = world.wait_arrival("isp", "kenji", token)
    assert got["Return-Path"] == f"<{SENDER}>", got
    assert who_logged_in(world, log) == [(method, USER)]
    event = gate.wait_event(here, "submit", account="hall")
    assert event["msgs"] == "1" and event["reason"] == "done", event


@FAMILIES
@pytest.mark.parametrize("mechanism", ("auto", "plain", "login", "cram-md5"))
def test_a_printer_sends(world, other, mechanism, family):
    """No AUTH, no sender; Postfix knows the account's user and its sender."""
    gate = other(f'password_file = "{PASSWORD_FILE}"; '
                 f'mechanism = "{mechanism}";')
    method = "PLAIN" if mechanism == "auto" else mechanism.upper()
    sends(world, gate, f"hall-{mechanism}-{family}", method, family)


def test_a_null_sender_is_replaced_too(world, hall):
    sends(world, hall, "null", "PLAIN", 4, sender="<>")


@FAMILIES
def test_its_own_login_wins(world, hall, family):
    log, token = len(world.mta["isp"].log.read_text()), f"own-{family}"
    with hello(family) as peer:
        assert peer.ask(PLAIN)[0].startswith("235"), peer
        assert mail(peer, token, "<kenji@isp.example>").startswith("250"), peer
        peer.ask("QUIT")
    assert world.wait_arrival("isp", "kenji", token)["Return-Path"] == \
        "<kenji@isp.example>"
    assert who_logged_in(world, log) == [("PLAIN", "kenji@isp.example")]


def test_only_its_line(other):
    """Another line of the class gets our 530."""
    other(f'password_file = "{PASSWORD_FILE}";', net.address("legacy", 4),
          "198.19.0.99")
    with hello(4) as peer:
        assert mail(peer, "x").startswith("530 5.7.0"), peer
    with hello(6) as peer:
        assert mail(peer, "x").startswith("250"), peer


def test_suspect_ends_it(hall):
    """At once, also for a session that is logged in; and until it is clear."""
    line = net.address("legacy", 4)
    with hello() as peer:
        assert mail(peer, "before").startswith("250"), peer
        assert hall.cli("zombie", "add", line, "--why", "a test").ok
        try:
            assert mail(peer, "after").startswith("530 5.7.0"), peer
            with hello() as fresh:
                assert mail(fresh, "after").startswith("530 5.7.0"), fresh
                # which says nothing of who knows a password
                assert fresh.ask(PLAIN)[0].startswith("235"), fresh
            with hello(6) as neighbour:
                assert mail(neighbour, "v6").startswith("250"), neighbour
        finally:
            assert hall.cli("zombie", "clear", line).ok
        assert mail(peer, "again").startswith("250"), peer


def test_quotas_are_the_accounts(other):
    """Of all its lines together, in the hour of the clock."""
    # under a name that no other test has sent under
    other(f'password_file = "{PASSWORD_FILE}"; messages_per_hour = 2;',
          '"hall"', '"quota"')
    for family in (4, 6):
        with hello(family) as peer:
            assert mail(peer, "quota").startswith("250"), peer
    for family in (4, 6):
        with hello(family) as peer:
            assert mail(peer, "quota").startswith("450 4.7.1"), peer


# ---- the keeper -----------------------------------------------------------

def test_the_keeper_holds_little(hall):
    keeper = hall.only("sallyport:keep")
    status = daemon.status(keeper)
    for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert int(status[name], 16) == 0, f"{name} {status[name]}"
    assert set(status["Uid"].split()) == {
        str(daemon.user_id("sallyport-keeper"))}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    if not daemon.sanitized():
        assert os.listdir(f"/proc/{keeper}/root/") == []
    limits = Path(f"/proc/{keeper}/limits").read_text()
    assert re.search(r"Max core file size +0 +0", limits), limits
    shown = json.loads(hall.cli("--json", "status").out)["keeper"]
    assert shown["pid"] == keeper and shown["accounts"] == 1, shown


def test_the_keeper_dies_in_the_middle(world, hall):
    """Who waits gets a 421 that says why; the next session knows nothing."""
    hall.expected = ["keeper (pid", "process-died"]
    relays, keeper = hall.relays(), hall.only("sallyport:keep")
    since = hall.here()
    with hello() as peer:
        os.kill(keeper, signal.SIGSTOP)
        peer.send("MAIL FROM:<hall@printer.example>")
        # its question lies in the keeper's channel, whose owner is asleep
        proc.wait_until(lambda: unread(keeper), "the question")
        os.kill(keeper, signal.SIGKILL)
        said = peer.reply()[-1]
        assert said.startswith("421 4.3.0 mail.isp.example: the account of "
                               "your line cannot be used just now: the keeper "
                               "has ended"), peer
    assert hall.wait_event(since, "submit")["reason"] == "keeper"
    proc.wait_until(lambda: hall.named("sallyport:keep") not in
                    ([], [keeper]), "another keeper")
    assert hall.relays() == relays
    sends(world, hall, "after-the-keeper", "PLAIN", 6)


def unread(pid):
    """Does a channel of this process hold something it has not read?"""
    return any(entry.endswith("(a question)") for entry in waiting(pid))


def waiting(pid):
    # What lies in a unix socket no file of /proc says: ask ss, which asks the
    # kernel, for those that this process has open.
    inodes = {name[8:-1] for name in daemon.links(pid).values()
              if name.startswith("socket:[")}
    out = proc.run("gw", ["ss", "-xanH"]).out
    for line in out.splitlines():
        fields = line.split()
        if len(fields) > 7 and fields[5] in inodes and int(fields[2]) > 0:
            yield f"{fields[5]} (a question)"


def test_a_silent_keeper_is_replaced(hall):
    """Within the two seconds that every process has."""
    hall.expected = ["keeper (pid", "process-died"]
    keeper = hall.only("sallyport:keep")
    os.kill(keeper, signal.SIGSTOP)
    with hello() as peer:
        assert mail(peer, "x").startswith("421 4.3.0"), peer
    proc.wait_until(lambda: hall.named("sallyport:keep") not in
                    ([], [keeper]), "another keeper")
    with hello() as peer:
        assert mail(peer, "x").startswith("250"), peer


def regions(pid):
    for row in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights = row.split()[:2]
        if rights.startswith("rw"):
            yield [int(end, 16) for end in span.split("-")]


def holds(pid, words):
    """Are these octets in the memory of the process?"""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for start, end in regions(pid):
            try:
                memory.seek(start)
                if words in memory.read(end - start):
                    return True
            except (OSError, ValueError):
                continue
    return False


def test_the_password_is_nowhere_else(world, other):
    """With cram-md5: in no memory but the keeper's, after it was used."""
    gate = other(f'password_file = "{PASSWORD_FILE}"; '
                 'mechanism = "cram-md5";')
    if daemon.sanitized():
        pytest.skip("a sanitizer keeps what was freed")
    sends(world, gate, "nowhere", "CRAM-MD5", 4)
    keeper = gate.only("sallyport:keep")
    assert holds(keeper, dovecot.PASSWORD.encode())
    for pid in gate.pids():
        if pid != keeper:
            for trace in traces():
                assert not holds(pid, trace), daemon.status(pid)["Name"]


# ---- files ----------------------------------------------------------------

def test_a_file_that_others_read_is_refused(hall):
    """By `check' and by a reload, with what to do; and by what runs."""
    hall.expected = ["hall.password", "reload refused"]
    since = hall.here()
    PASSWORD_FILE.chmod(0o644)
    try:
        wrong = "may be read or written by others"
        check = hall.cli("check")
        assert check.code == 2 and str(PASSWORD_FILE) in check.out, check
        assert wrong in check.out and "chmod 600" in check.out, check
        assert not hall.cli("reload").ok
        hall.wait_text(since, f"account hall: {PASSWORD_FILE} {wrong}")
        with hello() as peer:
            assert "its secret cannot be read" in mail(peer, "x"), peer
    finally:
        PASSWORD_FILE.chmod(0o600)
    wait_sends(hall)


def wait_sends(gate):
    """Until the file is read again, which takes a tick."""
    def sent():
        with hello() as peer:
            return mail(peer, "x").startswith("250")
    gate.expected = [*gate.expected, "hall."]
    proc.wait_until(sent, "the account to work again", 10, pause=0.2)


def test_a_password_that_is_none(hall):
    hall.expected = ["hall.password"]
    since = hall.here()
    write_secret(PASSWORD_FILE, "two\nlines")
    try:
        check = hall.cli("check")
        assert check.code == 2 and "more than one line" in check.out, check
        hall.wait_text(since, "account hall: .*more than one line")
        with hello() as peer:
            assert mail(peer, "x").startswith("421 4.3.0"), peer
        # a wrong one is the server's to refuse, and no reason to bounce
        write_secret(PASSWORD_FILE, "wrong")

        def refused():
            with hello() as peer:
                return mail(peer, "x").startswith("454 4.7.0")
        proc.wait_until(refused, "the wrong password to be read", pause=0.2)
    finally:
        write_secret(PASSWORD_FILE, dovecot.PASSWORD)
    wait_sends(hall)


def test_check_says_what_it_does(hall):
    check = hall.cli("check")
    assert check.ok, check
    assert f"Account hall: {net.address('legacy', 4)}/32" in check.out, check
    assert dovecot.PASSWORD not in check.out


# ---- XOAUTH2 --------------------------------------------------------------

KEY = b"0123456789abcdef0123456789abcdef"
KEYS = Path("/run/lab/oauth-keys")
OAUTH = Path("/run/lab/dovecot-oauth.conf")


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token_for(user, seconds):
    """A JSON web token (RFC 7519) that Dovecot verifies by itself."""
    now = int(time.time())
    head = {"alg": "HS256", "typ": "JWT"}
    body = {"sub": user, "email": user, "iat": now - 60, "exp": now + seconds}
    text = b".".join(encoded(json.dumps(part).encode())
                     for part in (head, body))
    return (text + b"." + encoded(
        hmac.new(KEY, text, hashlib.sha256).digest())).decode()


@pytest.fixture
def oauth(world):
    """A Dovecot that takes tokens."""
    key = KEYS / "default" / "HS256" / "default"
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_bytes(base64.b64encode(KEY))
    OAUTH.write_text("introspection_mode = local\n"
                     f"local_validation_key_dict = fs:posix:prefix={KEYS}/\n"
                     "username_attribute = email\n")
    before = dovecot.CONF.read_text()
    dovecot.CONF.write_text(before.replace(
        "auth_mechanisms = plain", "auth_mechanisms = xoauth2 plain")
        + f"passdb {{\n  driver = oauth2\n  mechanisms = xoauth2\n"
          f"  args = {OAUTH}\n}}\n")
    both(world)
    yield
    dovecot.CONF.write_text(before)
    both(world)


def both(world):
    """Postfix asks once which mechanisms there are."""
    world.dovecot.restart()
    world.mta["isp"].restart()


@FAMILIES
def test_a_token_that_is_renewed(world, oauth, other, family):
    """The old one is refused; the new file is read without a reload."""
    write_secret(TOKEN_FILE, token_for(USER, -30))
    gate = other(f'token_file = "{TOKEN_FILE}";')
    with hello(family) as peer:
        assert "the server refused it with 535" in mail(peer, "x"), peer
    write_secret(TOKEN_FILE, token_for(USER, 600))
    log = len(world.mta["isp"].log.read_text())

    def sent():
        with hello(family) as peer:
            return mail(peer, f"token-{family}").startswith("250")
    proc.wait_until(sent, "the new token to be read", 10, pause=0.5)
    assert who_logged_in(world, log)[-1] == ("XOAUTH2", USER)
    assert gate.alive()
