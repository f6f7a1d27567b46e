"""Submit, octet for octet and to the bitter end: chunks through a real Postfix,
and a server that goes away in every state there is."""

import hashlib
import random
import re
import socket

import pytest

import daemon
import net
import odd
import scenes
from peer import Peer
from test_peers import FAMILIES, PLAIN, odd_submit, pop3, submit


def logged_in(family, words="EHLO pc"):
    peer = submit(family)
    peer.line()
    shown = peer.ask(words)
    assert peer.ask(PLAIN)[0].startswith("235"), peer
    return peer, shown


def body_of(token, size, seed):
    """CRLF lines of every octet but CR, LF and NUL, dots at their start."""
    rng, text = random.Random(seed), bytearray()
    octets = bytes(set(range(1, 256)) - {10, 13})
    while len(text) < size:
        text += b"." * rng.randrange(3) + bytes(
            rng.choices(octets, k=rng.randrange(200))) + b"\r\n"
    return f"Subject: {token}\r\n\r\n".encode() + bytes(text)


@FAMILIES
@pytest.mark.parametrize("chunk", (1, 7, 4096, 16385, 1 << 20))
def test_chunks_arrive_octet_for_octet(world, gate, chunk, family):
    """Pipelined as a client may; a message as large as some hundred chunks."""
    token = f"bdat-{chunk}-{family}"
    mail = body_of(token, min(400 * chunk, 300000), f"{chunk}{family}")
    peer, shown = logged_in(family)
    with peer:
        assert any(line[4:] == "CHUNKING" for line in shown), peer
        data = (b"MAIL FROM:<kenji@isp.example> BODY=8BITMIME\r\n"
                b"RCPT TO:<yuki@isp.example>\r\n")
        pieces = [mail[at:at + chunk] for at in range(0, len(mail), chunk)]
        for piece in pieces:
            data += b"BDAT %d\r\n" % len(piece) + piece
        peer.send(data + b"BDAT 0 LAST\r\n")
        for _ in range(2 + len(pieces) + 1):
            assert peer.reply()[0].startswith("250"), peer
        assert peer.ask("QUIT")[0].startswith("221"), peer
    got = world.wait_arrival("isp", "yuki", token).get_payload(decode=True)
    want = mail.split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n")
    assert hashlib.sha256(got).digest() == hashlib.sha256(want).digest()


def test_chunks_that_are_no_mail_are_eaten(gate):
    """Nothing inside a chunk is a command, whoever refuses it."""
    trick = b"RSET\r\nQUIT\r\n"
    chunk = b"BDAT %d LAST\r\n" % len(trick) + trick
    with submit() as peer:
        peer.line()
        peer.ask("EHLO pc")
        assert peer.ask(chunk)[0].startswith("530"), peer
        assert peer.ask(PLAIN)[0].startswith("235"), peer
        assert peer.ask(chunk)[0].startswith("503"), peer
        peer.ask("MAIL FROM:<kenji@isp.example>")
        assert peer.ask("RCPT TO:<nobody@isp.example>")[0].startswith("550")
        assert peer.ask(chunk)[0].startswith("554"), peer
        peer.ask("RCPT TO:<discard@isp.example>")
        assert peer.ask(chunk)[0].startswith("250"), peer
        assert peer.ask("NOOP")[0].startswith("250"), peer


# ---- the server goes away -------------------------------------------------

# State: (what the server answers before it, what the client has said, the code
# it must hear).  The state is where the server does what it does.
MAIL = ("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")
STATES = {
    "greeting": ("", ("EHLO pc",), "421"),
    "list": ("EHLO", ("EHLO pc",), "421"),
    "auth": ("AUTH", ("EHLO pc", PLAIN), "421"),
    "auth-continued": ("CONT", ("EHLO pc", "AUTH LOGIN", "CONT"), "421"),
    "noop": ("NOOP", ("EHLO pc", "NOOP"), "421"),
    "rset": ("RSET", ("EHLO pc", PLAIN, "RSET"), "421"),
    "mail": ("MAIL", ("EHLO pc", PLAIN, *MAIL[:1]), "421"),
    "rcpt": ("RCPT", ("EHLO pc", PLAIN, *MAIL), "421"),
    "data": ("DATA", ("EHLO pc", PLAIN, *MAIL, "DATA"), "421"),
    "payload": ("half", ("EHLO pc", PLAIN, *MAIL, "DATA", "half a text\r\n."),
                "4"),
    "final": (".", ("EHLO pc", PLAIN, *MAIL, "DATA", "text\r\n."), "451"),
    "chunk": ("half", ("EHLO pc", PLAIN, *MAIL, b"BDAT 9 LAST\r\n0123456\r\n"),
              "4"),
    "chunk-reply": ("BDAT", ("EHLO pc", PLAIN, *MAIL, b"BDAT 2\r\nab"), "421"),
    "chunk-last": ("LAST", ("EHLO pc", PLAIN, *MAIL, b"BDAT 2 LAST\r\nab"),
                   "451"),
    "quit": ("QUIT", ("EHLO pc", "QUIT"), "421"),
}
BEFORE = ("greeting", "list")     # our own 421 then
ENDS = {"closes": None, "resets": "reset", "half": odd.Last(b"250-hal"),
        "words": b"what?\r\n", "leaves": b"421 4.3.2 Closing\r\n"}


def goes_away(gate, state, end):
    where, said, code = STATES[state]
    answers = {where: ENDS[end]}
    if state == "auth-continued":
        answers["AUTH"] = b"334 VXNlcm5hbWU6\r\n"
    since = gate.here()
    with odd.OddServer(465, odd.smtp(answers)):
        with odd_submit() as peer:
            assert peer.line().startswith("220"), peer
            for step in said:
                answer = peer.ask(step)
                if answer[0][:1] not in "23":
                    break
            assert step == said[-1], peer
            # Its own goodbye is passed on, in whatever state it is read.
            if end == "leaves" and where != "half" and state not in BEFORE:
                code = "421"
            assert answer[-1].startswith(code), peer
            assert peer.end() in (("eof", b""), ("reset", b"")), peer
    event = gate.wait_event(since, "submit", dst=scenes.endpoint(
        net.address("dns", 4, 1), 25))
    assert event["reason"].startswith("server-"), event
    assert event["msgs"] == "0", event


@pytest.mark.parametrize("state", sorted(STATES))
def test_a_server_that_goes_away(gate, state):
    """Never a hang, never half a reply, never a message acknowledged."""
    for end in ENDS:
        goes_away(gate, state, end)


def test_a_server_that_stalls_before_our_answer(gate):
    """25 s until the answer to the first EHLO, whatever it waits for."""
    since, peers = gate.here(), []

    def script(server, conn):
        if conn.family == socket.AF_INET:   # the other: not even that
            conn.sendall(b"220 odd.isp.example\r\n")
        while server.read(conn):
            pass
    with odd.OddServer(465, script):
        for family in (4, 6):
            peers.append(odd_submit(family))
            peers[-1].sock.settimeout(40)
            assert peers[-1].line().startswith("220")
            peers[-1].send("EHLO pc")
        for peer in peers:
            assert peer.reply()[-1].startswith("421 4.4.2"), peer
            peer.close()
    event = gate.wait_event(since, "submit", reason="server-timeout")
    assert 24 <= float(event["dur"]) <= 32, event


# ---- whose connection it is -----------------------------------------------

IDENTITY = {
    "xclient": ("xclient = true;", "smtpd_authorized_xclient_hosts=static:all"),
    "proxy": ('proxy = "submission";', "smtpd_upstream_proxy_protocol=haproxy"),
}


@pytest.fixture(params=sorted(IDENTITY))
def told(request, world, running):
    """A daemon whose connections carry the gateway's address, and a Postfix
    that is told whose they are."""
    option, postfix = IDENTITY[request.param]
    isp = world.mta["isp"]
    master = isp.config / "master.cf"
    text = master.read_text()
    head, tail = text.split("submissions inet", 1)
    name, rest = tail.split("\n", 1)
    master.write_text(f"{head}submissions inet{name}\n  -o {postfix}\n{rest}")
    isp.restart()
    listed = 'name = "mail.isp.example";'
    running.restart(daemon.quick(gateway='source = "gateway";').replace(
        listed, f"{listed} {option}"))
    yield running
    master.write_text(text)
    isp.restart()
    running.restart(daemon.quick())


def test_the_server_learns_whose_connection_it_is(world, told):
    """Postfix logs the line's address, not the gateway's; and what a client
    says of itself by XCLIENT is not heard."""
    log = world.mta["isp"].log
    for family in (4, 6):
        token, since = f"identity-{family}", len(log.read_text())
        peer, shown = logged_in(family)
        with peer:
            assert not any("XCLIENT" in line for line in shown), peer
            assert peer.ask("XCLIENT ADDR=192.0.2.1")[0].startswith("502")
            peer.ask("MAIL FROM:<kenji@isp.example>")
            peer.ask("RCPT TO:<yuki@isp.example>")
            peer.ask("DATA")
            assert peer.ask(f"Subject: {token}\r\n\r\nx\r\n.")[0].startswith(
                "250"), peer
            peer.ask("QUIT")
        world.wait_arrival("isp", "yuki", token)
        said = log.read_text()[since:]
        line = net.address("legacy", family)
        assert re.search(r"client=\S+\[" + re.escape(line) + r"\], sasl",
                         said), said


# ---- one server's source ---------------------------------------------------

@pytest.fixture
def apart(running):
    """Lines' own addresses everywhere, but the gateway's to the provider."""
    listed = 'name = "mail.isp.example";'
    running.restart(daemon.quick().replace(
        listed, f'{listed} source = "gateway";'))
    yield running
    running.restart(daemon.quick())


def out_of(gate, peer, kind):
    """Where a session's connection to the server came from, by the log."""
    since = gate.here()
    with peer:
        assert peer.line().startswith(("220", "+OK")), peer
        if kind == "submit":
            assert peer.ask("EHLO pc")[0].startswith(("250", "421")), peer
        peer.send("QUIT")
        peer.end()
    event = gate.wait_event(since, kind)
    return event["out"].rsplit(":", 1)[0].strip("[]"), event


@FAMILIES
def test_a_server_of_its_own_source(world, apart, family):
    """Submit and POP3 go there from the gateway, to others from the line;
    relay never comes from an address that is trusted."""
    line, gateway = net.address("legacy", family), net.GW_UP[family]
    out, event = out_of(apart, submit(family), "submit")
    assert out == gateway, event
    out, event = out_of(apart, pop3(family), "wrap")
    assert out == gateway, event
    with odd.OddServer(465, odd.smtp({})):
        out, event = out_of(apart, odd_submit(family), "submit")
    assert out == line, event
    with Peer("fixed", net.address("isp", family), 25) as peer:
        since = apart.here()
        assert peer.line().startswith("220"), peer
        peer.ask("QUIT")
    event = apart.wait_event(since, "relay")
    assert event["server"] == "mail.isp.example", event
    assert event["out"].rsplit(":", 1)[0].strip("[]") == net.address(
        "fixed", family), event
