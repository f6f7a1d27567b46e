"""Certificates that must not be accepted: what the client hears, what the
operator reads, and that the server never gets a credential.

First the real servers with bad certificates; then scripted ones that would take
down every octet of what they were told inside TLS.
"""

import ssl

import pytest

import ca
import daemon
import net
import odd
import proc
import scenes
from dovecot import LOG as DOVECOT_LOG
from dovecot import PASSWORD
from peer import Peer

CRL = daemon.ETC / "crl.pem"
FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
NOBODY = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def config(pins):
    return daemon.quick().replace(
        "servers = (", 'tls = { crl = "crl.pem"; };\nservers = (').replace(
        "starttls = 587;", 'starttls = 587; pins = ( "%s", "%s" );' % pins)


@pytest.fixture(scope="module")
def strict(world, running):
    """The shared daemon with a revocation list and the server's real pin."""
    ca.make_bad()
    CRL.write_text((ca.DIR / "crl.pem").read_text())
    running.restart(config((NOBODY, ca.pin("isp"))))
    yield running
    world.show_certificate("isp")
    running.restart(daemon.quick())


def answers(family, name="isp", which=0):
    """What a client that would give its password away hears on 110, 143, 25."""
    host = net.address(name, family, which)
    with Peer("legacy", host, 110) as peer:
        peer.send("USER kenji")
        peer.send(f"PASS {PASSWORD}")
        pop3 = peer.line()
    with Peer("legacy", host, 143) as peer:
        peer.send(f"a LOGIN kenji {PASSWORD}")
        imap = peer.line()
    with Peer("legacy", host, 25) as peer:
        peer.reply()
        smtp = peer.ask("EHLO pc")
        if smtp[0].startswith("250"):
            peer.ask("QUIT")
    return pop3, imap, smtp[0]


def refused(gate, *words):
    for family in (4, 6):
        since = gate.here()
        before = len(proc.tail(DOVECOT_LOG, 10 ** 6).splitlines())
        with net.Capture("gw", "up0", "tcp") as up:
            refused_answers(answers(family))
            wire = up.bytes()
        refused_lines(gate, since, net.address("isp", family), words)
        assert not any(needle in wire for needle in scenes.needles(PASSWORD))
        told = proc.tail(DOVECOT_LOG, 10 ** 6).splitlines()[before:]
        assert not any("Login: " in line or "kenji" in line for line in told)


def refused_answers(heard):
    for line, want in zip(heard, ("-ERR [SYS/TEMP]", "* BYE [UNAVAILABLE]",
                                  "421")):
        assert line.startswith(want), heard


def refused_lines(gate, since, host, words, reason="certificate"):
    """One line for each session, with the reason and whose it is."""
    for kind, port in (("wrap", 110), ("wrap", 143), ("submit", 25)):
        at = {"dst": scenes.endpoint(host, port)}
        event = gate.wait_event(since, kind, **at)
        assert event["reason"] == reason, event.text
        for word in words:
            assert word in event["detail"], event.text
        assert "tls" not in event, event.text
        assert len([line for line in gate.lines(since)
                    if f"dst={at['dst']} " in line]) == 1


@FAMILIES
def test_listed_and_pinned_is_accepted(strict, gate, family):
    for line, want in zip(answers(family), ("+OK", "* OK", "250")):
        assert line.startswith(want), line


@pytest.mark.parametrize("shown, words", (
    ("expired", ("certificate has expired", "CN=mail.isp.example",
                 "2025-01-01 to 2025-04-01")),
    ("early", ("not yet valid", "2099-01-01 to 2099-04-01")),
    ("wrong", ("ostname mismatch", "CN=www.elsewhere.example")),
    ("self", ("self-signed", "CN=mail.isp.example")),
    ("revoked", ("certificate revoked", "2025-01-01 to 2099-04-01")),
), ids=lambda value: value if isinstance(value, str) else "")
def test_refused(world, strict, gate, shown, words):
    world.show_certificate(shown)
    try:
        refused(gate, *words)
    finally:
        world.show_certificate("isp")


def test_old_revocation_list(strict, gate):
    """A list that nobody renews protects nobody: refused, and said so."""
    CRL.write_text((ca.DIR / "old-crl.pem").read_text())
    try:
        assert gate.cli("reload").ok
        refused(gate, "CRL has expired")
    finally:
        CRL.write_text((ca.DIR / "crl.pem").read_text())
        assert gate.cli("reload").ok


def test_key_that_is_not_pinned(strict, gate):
    """The certificate is good, the name is right, the key is another one."""
    daemon.CONF.write_text(config((NOBODY, ca.pin("mxa"))))
    try:
        assert gate.cli("reload").ok
        refused(gate, "no key of the chain is pinned",
                "CN=mail.isp.example")
    finally:
        daemon.CONF.write_text(config((NOBODY, ca.pin("isp"))))
        assert gate.cli("reload").ok


# ---- servers that take down what they hear --------------------------------

GREETINGS = {995: b"+OK odd\r\n", 465: b"220 odd.isp.example ESMTP\r\n",
             993: b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] odd\r\n"}


class Listeners:
    """995, 993 and 465 of odd.isp.example with one certificate."""

    def __init__(self, context):
        self.reused = []
        self.servers = [odd.OddServer(port, self.script(greeting),
                                      context=context)
                        for port, greeting in GREETINGS.items()]

    def script(self, greeting):
        def script(server, conn):
            self.reused.append(conn.session_reused)
            conn.sendall(greeting)
            while said := server.read(conn):
                if said.startswith(b"EHLO"):
                    conn.sendall(odd.GOOD["EHLO"])
                elif said.startswith(b"CAPA"):
                    conn.sendall(b"+OK\r\nUSER\r\n.\r\n")
                elif said.startswith((b"USER", b"PASS")):
                    conn.sendall(b"+OK\r\n")
                elif said.startswith(b"a LOGIN"):
                    conn.sendall(b"a OK in\r\n")
                elif said.startswith(b"QUIT"):
                    conn.sendall(b"221 Bye\r\n")
        return script

    @property
    def seen(self):
        return b"".join(server.seen for server in self.servers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.__exit__()


def test_a_server_with_a_good_certificate_hears_the_password(strict, gate):
    """That the next tests could fail at all."""
    with Listeners(odd.tls_context("odd")) as listeners:
        for line, want in zip(answers(4, "dns", 1), ("+OK", "* OK", "250")):
            assert line.startswith(want), line
        proc.wait_until(lambda: listeners.seen.count(PASSWORD.encode()) == 2,
                        "two passwords")


@FAMILIES
@pytest.mark.parametrize("shown, words", (
    ("odd-expired", ("certificate has expired", "CN=odd.isp.example",
                     "2025-01-01 to 2025-04-01")),
    ("odd-revoked", ("certificate revoked", "CN=odd.isp.example",
                     "2025-01-01 to 2099-04-01")),
    ("isp", ("ostname mismatch", "CN=mail.isp.example")),
    ("self", ("self-signed", "CN=mail.isp.example")),
), ids=lambda value: value if isinstance(value, str) else "")
def test_hears_nothing(strict, gate, shown, words, family):
    since = gate.here()
    with Listeners(odd.tls_context(shown)) as listeners:
        refused_answers(answers(family, "dns", 1))
        refused_lines(gate, since, net.address("dns", family, 1), words)
        assert listeners.seen == b"" and not listeners.reused


@FAMILIES
def test_wrong_name_after_a_resumed_session(strict, gate, family):
    """Resumption ends with the server's keys: what then is shown is looked at,
    each time, and no session of it is kept. With its own name again it is as
    before."""
    with Listeners(odd.tls_context("odd")) as good:
        for _ in range(12):     # tickets of former servers are used up first
            answers(family, "dns", 1)
            if good.reused[-3:] == [True] * 3:
                break
        assert good.reused[-3:] == [True] * 3, good.reused
    with Listeners(odd.tls_context("wrong")) as wrong:
        for _ in range(3):
            since = gate.here()
            refused_answers(answers(family, "dns", 1))
            refused_lines(gate, since, net.address("dns", family, 1),
                          ("ostname mismatch", "CN=www.elsewhere.example"))
        assert wrong.seen == b"" and not wrong.reused
    with Listeners(odd.tls_context("odd")) as good:
        for line, want in zip(answers(family, "dns", 1),
                              ("+OK", "* OK", "250")):
            assert line.startswith(want), line
        assert good.reused == [False] * 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@FAMILIES
@pytest.mark.parametrize("least, highest, accepted", (
    ("1.2", "TLSv1_2", True), ("1.3", "TLSv1_2", False),
    ("1.2", "TLSv1_1", False)))
def test_old_versions_of_tls(strict, gate, least, highest, accepted, family):
    """tls.min_server; before a certificate is seen there is none to name."""
    context = odd.tls_context("odd")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = getattr(ssl.TLSVersion, highest)
    context.set_ciphers("ALL:@SECLEVEL=0")
    gate.reconfigure(config((NOBODY, ca.pin("isp"))).replace(
        "tls = {", f'tls = {{ min_server = "{least}";'))
    try:
        since = gate.here()
        with Listeners(context) as listeners:
            heard = answers(family, "dns", 1)
            if accepted:
                assert heard[0].startswith("+OK"), heard
                gate.wait_event(since, "wrap", tls="1.2")
                return
            refused_answers(heard)
            refused_lines(gate, since, net.address("dns", family, 1),
                          ("protocol",), "tls-failed")
            assert listeners.seen == b""
    finally:
        gate.reconfigure(config((NOBODY, ca.pin("isp"))))
