"""Submission that lives on another host (servers.submission_host).

Each server of this configuration is an address where nobody listens: what is
answered can only come from its submission host.
"""

import re
import signal
import socket

import pytest

import clients
import daemon
import net
import odd
import scenes
from peer import Peer
from test_peers import FAMILIES, PLAIN

# Name → its submission_host, and what else its entry says.
SERVERS = {
    "real": ("mx.isp.example", "starttls = 587;"),
    "lost": ("nowhere.isp.example", "starttls = 587;"),
    "odd": ("submit.isp.example", ""),
    "single": ("four.isp.example", ""),
    "any": ("four.isp.example", 'source = "gateway";'),
    "pair": ("two.isp.example", ""),
    "own": ("gw1.isp.example", ""),
    "proxy": ("submit.isp.example", 'proxy = "submission"; '
              'source = "gateway";'),
    "xclient": ("submit.isp.example", 'xclient = true; source = "gateway";'),
}


def dialled(server, family):
    number = 201 + list(SERVERS).index(server)
    return f"203.0.113.{number}" if family == 4 else \
        f"2001:db8:25:a::{number}"


def config():
    rows = ",\n".join(
        f'  {{ name = "{name}.isp.example"; submission = "tls:465"; '
        f'submission_host = "{host}"; {more}\n    addresses = ( '
        f'"{dialled(name, 4)}", "{dialled(name, 6)}" ); }}'
        for name, (host, more) in SERVERS.items())
    return re.sub(r"servers = \(.*?\n\);", f"servers = (\n{rows}\n);",
                  daemon.quick(), flags=re.S)


@pytest.fixture(scope="module", name="hosted")
def fixture_hosted(world, running):
    del world
    running.restart(config())
    yield running
    running.restart(daemon.quick())


def dial(server, family):
    return Peer("legacy", dialled(server, family), 25)


def endpoint(host, family, which, port):
    return scenes.endpoint(net.address(host, family, which), port)


def first_answer(server, family):
    """What EHLO is answered with, and the session's line in the log."""
    with dial(server, family) as peer:
        assert peer.line() == f"220 {server}.isp.example ESMTP", peer
        answer = peer.ask("EHLO pc")
        if answer[0].startswith("250"):
            peer.ask("QUIT")
        assert peer.end()[0] == "eof", peer
    return answer


@FAMILIES
def test_mail_goes_to_the_submission_host(world, hosted, gate, family):
    """A real Postfix, verified by the host's name; dst stays what was dialled."""
    token, since = f"host-{family}", gate.here()
    result = clients.swaks_auth("legacy", dialled("real", family),
                                "yuki@isp.example", token)
    assert result.ok, result.out
    assert "220 real.isp.example ESMTP" in result.out, result.out
    assert "ESMTPSA" in world.wait_arrival("isp", "yuki", token)["Received"]
    event = gate.wait_event(since, "submit", reason="done")
    assert event["dst"] == scenes.endpoint(dialled("real", family), 25)
    assert event["via"] == endpoint("isp", family, 1, 465), event
    assert event["server"] == "real.isp.example", event
    assert event["out"].rsplit(":", 1)[0].strip("[]") == net.address(
        "legacy", family), event


@FAMILIES
def test_starttls_is_tunnelled_to_the_submission_host(hosted, gate, family):
    """To its port 587, whose certificate the mail program itself sees."""
    since = gate.here()
    name = clients.certificate("legacy", dialled("real", family),
                               "mx.isp.example")
    assert "mx.isp.example" in str(name), name
    event = gate.wait_event(since, "tunnel")
    assert event["via"] == endpoint("isp", family, 1, 587), event
    assert event["dst"] == scenes.endpoint(dialled("real", family), 25)


@FAMILIES
def test_a_host_that_does_not_resolve(hosted, gate, family):
    since = gate.here()
    answer = first_answer("lost", family)
    assert answer[0].startswith(
        "421 4.4.3 lost.isp.example: its submission host has no address "
        "for your line: nowhere.isp.example, "), answer
    event = gate.wait_event(since, "submit", reason="no-address")
    assert "out" not in event and "via" not in event, event
    assert "does not resolve" in gate.cli("status").out


def test_a_host_of_one_family(hosted, gate):
    """The line's own address reaches no other family: 421. The gateway's does."""
    assert first_answer("single", 4)[0].startswith("250")
    since = gate.here()
    answer = first_answer("single", 6)
    assert answer[0].startswith("421 4.4.3"), answer
    assert "four.isp.example, IPv6" in answer[0], answer
    gate.wait_event(since, "submit", reason="no-address")
    since = gate.here()
    assert first_answer("any", 6)[0].startswith("250")
    event = gate.wait_event(since, "submit")
    assert event["via"] == endpoint("isp", 4, 1, 465), event
    assert event["out"].startswith(net.GW_UP[4] + ":"), event


@FAMILIES
def test_the_certificate_of_the_dialled_name_is_refused(hosted, gate, family):
    """And nothing of what the client would say is ever on the wire."""
    since = gate.here()
    with odd.OddServer(465, odd.smtp({}), which=0) as server:
        with dial("odd", family) as peer:
            peer.line()
            peer.send(f"EHLO pc\r\n{PLAIN}\r\n")    # as eager as can be
            answer = peer.reply()
            assert answer[0].startswith("421 4.7.5"), peer
            assert "certificate not accepted" in answer[0], peer
            assert peer.end()[0] in ("eof", "reset"), peer
        assert server.seen == b"", server.seen
    event = gate.wait_event(since, "submit", reason="certificate")
    assert event["via"] == endpoint("dns", family, 0, 465), event
    with odd.OddServer(465, odd.smtp({}), which=0,
                       certificate="submit") as server:
        with dial("odd", family) as peer:
            peer.line()
            peer.ask("EHLO pc")
            assert peer.ask(PLAIN)[0].startswith("235"), peer
        assert PLAIN.encode() in server.seen


@FAMILIES
def test_the_next_address_is_tried(hosted, gate, family):
    """One of the two refuses connections; whichever comes first."""
    vias = set()
    for _ in range(4):
        since = gate.here()
        assert first_answer("pair", family)[0].startswith("250")
        vias.add(gate.wait_event(since, "submit")["via"])
    assert vias == {endpoint("isp", family, 1, 465)}


@FAMILIES
def test_a_host_that_nobody_is_connected_to(hosted, gate, family):
    since = gate.here()
    answer = first_answer("own", family)
    assert answer[0].startswith("421 4.4.1"), answer
    assert "not a permitted destination: own" in answer[0], answer
    gate.wait_event(since, "submit", reason="forbidden")


@FAMILIES
def test_a_reload_keeps_the_addresses(world, hosted, gate, family):
    """New processes, while DNS does not answer: known is known."""
    gate.expected.append("does not resolve")
    world.dns.send_signal(signal.SIGSTOP)
    try:
        gate.reconfigure(config())
        assert first_answer("real", family)[0].startswith("250")
    finally:
        world.dns.send_signal(signal.SIGCONT)


@FAMILIES
def test_the_host_learns_whose_connection_it_is(hosted, gate, family):
    """XCLIENT and the PROXY header go to the host that is connected to."""
    line = net.address("legacy", family)
    listed = odd.GOOD["EHLO"].replace(b"250 8BITMIME",
                                      b"250-XCLIENT ADDR PORT\r\n250 8BITMIME")
    with odd.OddServer(465, odd.smtp({
            "EHLO": listed, "XCLIENT": b"220 odd again\r\n"}), which=0,
            certificate="submit") as server:
        assert first_answer("xclient", family)[0].startswith("250")
        said = f"XCLIENT ADDR={'IPV6:' if family == 6 else ''}{line} PORT="
        assert said.encode() in server.seen, server.seen

    def first_octets(server, conn):
        while len(server.seen) < 16 + (12 if family == 4 else 36):
            server.read(conn)
    with odd.OddServer(465, first_octets, tls=False, which=0) as server:
        assert first_answer("proxy", family)[0].startswith("421")
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    assert server.seen[:12] == b"\r\n\r\n\0\r\nQUIT\n", server.seen
    addresses = socket.inet_pton(kind, line) + socket.inet_pton(
        kind, dialled("proxy", family))
    assert server.seen[16:].startswith(addresses), server.seen
