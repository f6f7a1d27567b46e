"""TLS to POP3 and IMAP servers that nobody has listed (wrap = "opportunistic").

mail.isp.example is taken out of the configuration: the same real Dovecot, whose
name the gateway then does not know. What it has once had is remembered until
the daemon ends.
"""

import contextlib
import re
import socket
import time

import pytest

import ca
import daemon
import net
import odd
from dovecot import PASSWORD
from peer import Peer
from test_origin import Shut
from test_peers import FAMILIES

TLS_PORT = {110: 995, 143: 993}
PORTS = pytest.mark.parametrize("port", TLS_PORT, ids=("pop3", "imap"))
REFUSED = {110: "-ERR [SYS/TEMP]", 143: "* BYE [UNAVAILABLE]"}


def config():
    text = re.sub(r"servers = \(.*?\n\);", """servers = (
  { name = "odd.isp.example"; submission = "tls:465"; } );""",
                  daemon.quick(), flags=re.S)
    return re.sub(r'(pop3|imap) = \{ wrap = "listed"; \};',
                  r'\1 = { wrap = "opportunistic"; };', text)


@pytest.fixture(scope="module", name="opportune")
def fixture_opportune(world, running):
    ca.make_bad()
    running.restart(config())
    yield running
    world.show_certificate("isp")
    running.restart(daemon.quick())


@pytest.fixture(name="afresh")
def fixture_afresh(world, opportune):
    """A daemon that knows of no host."""
    opportune.restart(config())
    yield opportune
    world.show_certificate("isp")


def login(family, port):
    """The server's first line, and its answer to user name and password."""
    with Peer("legacy", net.address("isp", family), port) as peer:
        greeting = peer.line()
        if greeting.startswith(REFUSED[port]):
            return greeting, None
        if port == 143:
            peer.send(f"a LOGIN kenji@isp.example {PASSWORD}")
            answer = peer.line()
            peer.send("b LOGOUT")
        else:
            peer.ask("USER kenji@isp.example")
            answer = peer.ask(f"PASS {PASSWORD}")[0]
            peer.send("QUIT")
        peer.end()
        return greeting, answer


def works(gate, family, port, kind):
    since = gate.here()
    greeting, answer = login(family, port)
    # in the clear Dovecot says what it says without us
    said = "OK" if kind == "wrap" else "laintext authentication"
    assert "OK" in greeting and said in answer, (greeting, answer)
    return gate.wait_event(since, kind)


def is_refused(gate, family, port, kind, reason):
    since = gate.here()
    greeting, answer = login(family, port)
    assert greeting.startswith(REFUSED[port]) and answer is None, greeting
    return gate.wait_event(since, kind, reason=reason)


@FAMILIES
@PORTS
def test_tls_where_there_is_some(opportune, family, port):
    with Shut(family, TLS_PORT[port]):
        event = works(opportune, family, port, "relay")
        assert "tls" not in event and "evidence" not in event, event.text
    # one refusal is not believed: it is tried again at once
    event = works(opportune, family, port, "wrap")
    assert event["tls"] == "1.3" and "server" not in event, event.text
    assert "detail" not in event, event.text
    # what was seen has to stay; all relays know it, after a reload too
    assert opportune.cli("reload").ok
    with Shut(family, TLS_PORT[port]):
        is_refused(opportune, family, port, "wrap", "connect-failed")
    works(opportune, family, port, "wrap")


@FAMILIES
def test_what_was_valid_has_to_stay_so(world, opportune, family):
    works(opportune, family, 110, "wrap")
    world.show_certificate("self")
    event = is_refused(opportune, family, 110, "alarm", "tls-changed")
    assert "self-signed" in event["detail"], event.text
    # once a minute is enough
    is_refused(opportune, family, 110, "wrap", "tls-changed")
    # a trusted authority vouches for somebody else
    world.show_certificate("wrong")
    event = is_refused(opportune, family, 110, "wrap", "tls-changed")
    assert "none of the names" in event["detail"], event.text
    world.show_certificate("isp")
    works(opportune, family, 110, "wrap")


@FAMILIES
def test_a_certificate_nobody_vouches_for_is_better_than_none(
        world, afresh, family):
    world.show_certificate("self")
    event = works(afresh, family, 143, "wrap")
    assert "not verified: self-signed" in event["detail"], event.text
    world.show_certificate("isp")
    works(afresh, family, 143, "wrap")
    world.show_certificate("expired")
    event = is_refused(afresh, family, 143, "alarm", "tls-changed")
    assert "expired" in event["detail"], event.text


def pop3_script(server, conn):
    conn.sendall(b"+OK in clear\r\n")
    while server.read(conn):
        conn.sendall(b"+OK\r\n")


def silent_script(server, conn):
    while server.read(conn):
        pass


def smtp_script(server, conn):
    conn.sendall(b"220 somebody else ESMTP\r\n")
    while server.read(conn):
        pass


@pytest.mark.parametrize("script, tls, family", (
    (silent_script, False, 4), (silent_script, False, 6),
    (pop3_script, False, 6), (smtp_script, True, 4)),
    ids=("silent-v4", "silent-v6", "no-tls", "other-protocol"))
def test_a_tls_port_that_is_none(afresh, script, tls, family):
    """In the clear within two seconds or three; then a minute without trying."""
    with odd.OddServer(995, script, tls=tls) as beside, \
            odd.OddServer(110, pop3_script, tls=False):
        for turn in range(2):
            since, began = afresh.here(), time.monotonic()
            with Peer("legacy", net.address("dns", family, 1), 110) as peer:
                assert peer.line() == "+OK in clear", peer
                took = time.monotonic() - began
                assert peer.ask("USER kenji") == ["+OK"], peer
            afresh.wait_event(since, "relay")
            assert took < (3 if turn == 0 else 1), took
        assert b"USER" not in beside.seen, beside.seen


@FAMILIES
def test_nobody_there_is_a_reset(afresh, family):
    try:
        with Peer("legacy", net.address("mxa", family), 110) as peer:
            how, said = peer.end()
            assert (how, said) == ("reset", b""), peer
    except ConnectionResetError:
        pass    # before the client had looked at its own port


def test_a_line_brings_so_many_new_ones(afresh):
    """Who dials hosts all over the world is carried in the clear."""
    mx = net.address("mxa", 4).rsplit(".", 1)[0]
    with contextlib.ExitStack() as stack:
        for n in range(20):
            sock = stack.enter_context(
                net.inside("legacy", socket.socket, socket.AF_INET))
            sock.setblocking(False)
            assert sock.connect_ex((f"{mx}.{180 + n}", 143)) in (0, 115)
        # all of them have been looked at when this one is over
        since = afresh.here()
        greeting, _ = login(4, 110)
        assert "+OK" in greeting
        event = afresh.wait_event(since, "relay")
        assert "tls" not in event, event.text
