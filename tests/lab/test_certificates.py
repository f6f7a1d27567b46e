"""Certificates that must not be accepted: what the client hears, what the
operator reads, and that the server never gets a credential."""

import pytest

import ca
import daemon
import net
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


def pop3_and_smtp(family):
    """What a client that would give its password away hears on 110 and 25."""
    host = net.address("isp", family)
    with Peer("legacy", host, 110) as peer:
        peer.send("USER kenji")
        peer.send(f"PASS {PASSWORD}")
        pop3 = peer.line()
    with Peer("legacy", host, 25) as peer:
        peer.reply()
        smtp = peer.ask("EHLO pc")
        if smtp[0].startswith("250"):
            peer.ask("QUIT")
    return pop3, smtp


def refused(gate, *words):
    for family in (4, 6):
        refused_over(gate, family, words)


def refused_over(gate, family, words):
    since = gate.here()
    pop3, smtp = pop3_and_smtp(family)
    assert pop3.startswith("-ERR [SYS/TEMP]"), pop3
    assert smtp[0].startswith("421"), smtp
    for kind in ("wrap", "submit"):
        event = gate.wait_event(since, kind, reason="certificate")
        for word in words:
            assert word in event["detail"], event.text
        assert "tls" not in event, event.text


@FAMILIES
def test_listed_and_pinned_is_accepted(strict, gate, family):
    pop3, smtp = pop3_and_smtp(family)
    assert pop3.startswith("+OK"), pop3
    assert smtp[0].startswith("250"), smtp


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
