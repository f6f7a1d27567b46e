"""pop-before-smtp: mail programs that fetch mail and know no AUTH, with a real
Dovecot that takes the login and a real Postfix that is told of it."""

import base64
import re

import pytest

import daemon
import dovecot
import net
from peer import Peer
from test_accounts import hello, mail, who_logged_in
from test_peers import PLAIN

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
KENJI = "kenji@isp.example"
FROM = f"<{KENJI}>"


def config(minutes=30):
    legacy = 'port25 = "submit"; enforce = "all";'
    listed = 'name = "mail.isp.example";'
    return daemon.quick(workers=2).replace(
        legacy, f"{legacy} pop_before_smtp = true;").replace(
            listed, f"{listed} xclient = true;").replace(
                "smtp = {", f"smtp = {{ pop_minutes = {minutes};")


@pytest.fixture(scope="module")
def trusted(world, running):
    """A Postfix that takes XCLIENT from us, and a daemon of two relays."""
    isp = world.mta["isp"]
    master = isp.config / "master.cf"
    text = master.read_text()
    master.write_text(text.replace(
        "-o smtpd_tls_wrappermode=yes", "-o smtpd_tls_wrappermode=yes\n"
        "  -o smtpd_authorized_xclient_hosts=static:all"))
    isp.restart()
    running.restart(config())
    yield running
    master.write_text(text)
    isp.restart()
    running.restart(daemon.quick())


@pytest.fixture
def fresh(trusted, gate):
    """... which has seen no login yet: a restart forgets them."""
    return gate


def forget(gate):
    gate.restart(config())


def pop3(user, *, how="user", password=dovecot.PASSWORD, family=4):
    """Log in by POP3; did the server take it?"""
    with Peer("legacy", net.address("isp", family), 110) as peer:
        peer.line()
        if how == "plain":
            peer.send("AUTH PLAIN " + base64.b64encode(
                f"\0{user}\0{password}".encode()).decode())
            return peer.line().startswith("+OK")
        peer.send(f"USER {user}")
        assert peer.line().startswith("+OK"), peer
        peer.send(f"PASS {password}")
        taken = peer.line().startswith("+OK")
        peer.send("QUIT")
        peer.line()
        return taken


@FAMILIES
@pytest.mark.parametrize("how", ("user", "plain"))
def test_mail_after_pop3(world, fresh, how, family):
    """Refused before, taken after, whichever relay each of them met; Postfix
    knows the user, and the sender is the client's own."""
    forget(fresh)
    since = fresh.here()
    with hello(family) as peer:
        assert mail(peer, "early", FROM).startswith("530 5.7.0"), peer
    assert pop3(KENJI, how=how, family=family)
    log = len(world.mta["isp"].log.read_text())
    for i in range(8):
        with hello(family) as peer:
            assert mail(peer, f"pop-{how}-{family}-{i}", FROM).startswith(
                "250"), peer
            peer.ask("QUIT")
    got = world.wait_arrival("isp", "kenji", f"pop-{how}-{family}-7")
    assert got["Return-Path"] == FROM, got
    users = re.findall(r"sasl_username=(\S+)",
                       world.mta["isp"].log.read_text()[log:])
    assert users == [KENJI] * 8, users
    event = fresh.wait_event(since, "submit", login="pop")
    assert event["msgs"] == "1" and "account" not in event, event


def test_a_refused_login_is_none(fresh):
    fresh.expected = ["reason=done"]
    forget(fresh)
    assert not pop3(KENJI, password="wrong")
    with hello() as peer:
        assert mail(peer, "x", FROM).startswith("530 5.7.0"), peer


def test_nobody_elses(fresh):
    """Not another line's, not the same line's other family."""
    forget(fresh)
    assert pop3(KENJI, family=6)
    with hello(4) as peer:
        assert mail(peer, "x", FROM).startswith("530 5.7.0"), peer
    with hello(6) as peer:
        assert mail(peer, "x", FROM).startswith("250"), peer


def test_the_next_customer_has_not_logged_in(fresh):
    """An address is not a customer: who gets it after him is nobody."""
    line = net.address("legacy", 4)
    assert fresh.cli("lease", "bind", line, "anna").ok
    assert pop3(KENJI)
    with hello() as peer:
        assert mail(peer, "anna", FROM).startswith("250"), peer
    assert fresh.cli("lease", "bind", line, "bert").ok
    with hello() as peer:
        assert mail(peer, "bert", FROM).startswith("530 5.7.0"), peer
    assert fresh.cli("lease", "release", line).ok
    forget(fresh)


def test_its_own_login_wins(world, fresh):
    forget(fresh)
    assert pop3("yuki@isp.example")
    log = len(world.mta["isp"].log.read_text())
    with hello() as peer:
        assert peer.ask(PLAIN)[0].startswith("235"), peer
        assert mail(peer, "own", FROM).startswith("250"), peer
    assert who_logged_in(world, log) == [("PLAIN", KENJI)]


def test_suspect_ends_it(fresh):
    forget(fresh)
    assert pop3(KENJI)
    line = net.address("legacy", 4)
    with hello() as peer:
        assert mail(peer, "before", FROM).startswith("250"), peer
        assert fresh.cli("zombie", "add", line, "--why", "a test").ok
        try:
            assert mail(peer, "after", FROM).startswith("530"), peer
        finally:
            assert fresh.cli("zombie", "clear", line).ok


def test_a_server_that_does_not_trust_us(world, fresh):
    """Then it is as if there had been no login: our 530, and AUTH works."""
    isp = world.mta["isp"]
    master = isp.config / "master.cf"
    text = master.read_text()
    master.write_text(text.replace("xclient_hosts=static:all",
                                   "xclient_hosts="))
    isp.restart()
    try:
        assert pop3(KENJI)
        with hello() as peer:
            assert mail(peer, "x", FROM).startswith("530 5.7.0"), peer
            assert peer.ask(PLAIN)[0].startswith("235"), peer
    finally:
        master.write_text(text)
        isp.restart()
