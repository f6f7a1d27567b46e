"""Submission at servers that nobody has listed (smtp.unknown_origin).

mail.isp.example is taken out of the configuration: the same real Postfix and
Dovecot behind it, whose name the gateway then does not know.
"""

import re

import pytest

import ca
import clients
import daemon
import net
import odd
import proc
from peer import Peer
from test_peers import FAMILIES, PLAIN

UNLISTED = ("dns", 0)   # a host of the lab that no name of a server leads to


def config():
    text = re.sub(r"servers = \(.*?\n\);", """servers = (
  { name = "odd.isp.example"; submission = "tls:465"; } );""",
                  daemon.quick(), flags=re.S)
    return text.replace("smtp = {", 'smtp = {\n  unknown_origin = "origin";', 1)


@pytest.fixture(scope="module", name="trying")
def fixture_trying(world, running):
    del world
    running.restart(config())
    yield running
    running.restart(daemon.quick())


@pytest.fixture(name="afresh")
def fixture_afresh(trying):
    """Nothing remembered of any host: a reload brings new relays."""
    trying.reconfigure(config())
    return trying


def shut(family, port):
    """Nobody answers on this port of the provider's server."""
    return ["ip6tables" if family == 6 else "iptables", "-w", "-{}", "INPUT",
            "-p", "tcp", "--dport", port, "-j", "REJECT", "--reject-with",
            "tcp-reset"]


class Shut:
    def __init__(self, family, *ports):
        self.rules = [shut(family, port) for port in ports]

    def change(self, letter):
        for rule in self.rules:
            proc.need("isp", [word.format(letter) if isinstance(word, str)
                              else word for word in rule])

    def __enter__(self):
        self.change("I")

    def __exit__(self, *_):
        self.change("D")


def mail(world, family, token):
    """What a 2005-style program says, with user name and password."""
    result = clients.swaks_auth("legacy", net.address("isp", family),
                                "yuki@isp.example", token)
    arrived = world.wait_arrival("isp", "yuki", token) if result.ok else None
    return result, arrived


@FAMILIES
def test_465_of_the_same_host(world, afresh, family):
    since, token = afresh.here(), f"origin-465-{family}"
    result, arrived = mail(world, family, token)
    assert result.ok, result.out
    literal = net.address("isp", family)
    literal = f"[IPv6:{literal}]" if family == 6 else f"[{literal}]"
    assert f"220 {literal} ESMTP" in result.out, result.out
    assert "ESMTPSA" in arrived["Received"], arrived["Received"]
    event = afresh.wait_event(since, "submit")
    assert event["reason"] == "done" and "server" not in event, event.text
    assert net.address("legacy", family) in event["out"], event.text
    assert "STARTTLS" not in result.out


@FAMILIES
def test_587_where_465_is_closed_and_it_is_remembered(world, afresh, family):
    with Shut(family, 465):
        result, arrived = mail(world, family, f"origin-587-{family}")
        assert result.ok, result.out
        assert "ESMTPSA" in arrived["Received"], arrived["Received"]
        # remembered: STARTTLS is shown, and leads to the server's own
        name = clients.certificate("legacy", net.address("isp", family),
                                   "mail.isp.example")
        assert "mail.isp.example" in str(name), name
    # and still dialled first when 465 answers again
    with Shut(family, 465):
        result, _ = mail(world, family, f"origin-again-{family}")
        assert result.ok, result.out


@FAMILIES
def test_a_host_without_submission_is_block(afresh, family):
    since = afresh.here()
    mx = net.address("mxb", family)
    result = clients.swaks("legacy", mx, "info@beta.example", "none")
    assert "550-5.7.1 Outbound port 25 is closed" in result.out, result.out
    assert "isp.example/op25b" in result.out
    event = afresh.wait_event(since, "block")
    assert event["reason"] == "unknown-origin" and "out" not in event
    assert event["helo"] == "pc.example" and event["rcpts"] == "1", event.text
    # now it is known, and the gateway greets by its own name
    result = clients.swaks("legacy", mx, "info@beta.example", "none")
    assert "220 gw1.isp.example ESMTP" in result.out, result.out
    assert "550-5.7.1" in result.out


def odd_server(port, answers=None, tls=True):
    return odd.OddServer(port, odd.smtp(answers or {}), tls=tls,
                         ns=UNLISTED[0], which=UNLISTED[1])


def talk(*words):
    """A session with the unlisted host: the replies to each command."""
    with Peer("legacy", net.address(UNLISTED[0], 4, UNLISTED[1]), 25) as peer:
        peer.line()
        return [peer.ask(word) for word in words]


CLEAR = {"EHLO": b"250-odd.isp.example\r\n250 AUTH PLAIN LOGIN\r\n"}


def test_no_password_without_tls(afresh):
    """587 that has AUTH but no STARTTLS: as good as none."""
    del afresh
    with odd_server(587, CLEAR, tls=False) as server:
        replies = talk("EHLO pc", PLAIN, "MAIL FROM:<kenji@isp.example>",
                       "RCPT TO:<yuki@isp.example>")
        assert not any("AUTH" in line for line in replies[0]), replies
        assert replies[1][0].startswith("50"), replies
        assert replies[3][0].startswith("550-5.7.1"), replies
        assert b"AUTH" not in server.seen and b"MAIL" not in server.seen
        assert b"EHLO gw1.isp.example" in server.seen, server.seen


def test_no_password_to_a_certificate_that_nobody_vouches_for(afresh):
    del afresh
    good, bad = ca.DIR / "odd.pem", ca.DIR / "self.pem"
    if not bad.exists():
        ca.make_bad()
    kept = good.read_text()
    good.write_text(bad.read_text())
    try:
        with odd_server(465) as server:
            replies = talk("EHLO pc", PLAIN)
            assert not any("AUTH" in line for line in replies[0]), replies
            # said from the server's own thread, after the gateway has left
            proc.wait_until(lambda: server.errors, "the handshake to fail")
            assert server.seen == b"", server.seen
    finally:
        good.write_text(kept)


def test_a_server_that_fails_after_the_list_is_no_block(afresh):
    """Only what stands before the list leads to the text: later it is 421."""
    since = afresh.here()
    with odd_server(465, {"MAIL": None}):
        replies = talk("EHLO pc", PLAIN, "MAIL FROM:<kenji@isp.example>")
        assert replies[1][0].startswith("235"), replies
        assert replies[2][0].startswith("421"), replies
        event = afresh.wait_event(since, "submit")
        assert event["reason"] == "server-eof", event.text


@pytest.mark.parametrize("answer", (b"554 no\r\n", b"rubbish\r\n", None,
                                    "reset"), ids=str)
def test_odd_greetings_lead_to_the_text(afresh, answer):
    del afresh
    with odd_server(465, {"": answer}):
        replies = talk("EHLO pc", "MAIL FROM:<kenji@isp.example>",
                       "RCPT TO:<yuki@isp.example>", "QUIT")
        assert replies[0][0].startswith("250"), replies
        assert replies[2][0].startswith("550-5.7.1"), replies
        assert replies[3][0].startswith("221"), replies
