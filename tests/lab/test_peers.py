"""Peers that do what no mail program does, on either side.

Whatever comes: a named reason in the log, an answer or an end within a
moment, no descriptor left behind (the gate fixture counts), and the next
session is served as if nothing had been.
"""

import base64

import pytest

import daemon
import net
import odd
from dovecot import PASSWORD
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
PLAIN = "AUTH PLAIN " + base64.b64encode(
    f"\0kenji@isp.example\0{PASSWORD}".encode()).decode()


def block(family=4):
    # Each time another line: who leaves after EHLO is remembered.
    return Peer("second", net.address("mxa", family), 25,
                source_address=(net.fresh_line(family), 0))


def submit(family=4):
    return Peer("legacy", net.address("isp", family), 25)


def relay(family=4):
    return Peer("fixed", net.address("mxa", family), 25)


def pop3(family=4):
    return Peer("legacy", net.address("isp", family), 110)


def imap(family=4):
    return Peer("legacy", net.address("isp", family), 143)


OPENERS = {"block": block, "submit": submit, "relay": relay, "pop3": pop3,
           "imap": imap}
KINDS = {"block": ("block",), "submit": ("submit", "tunnel"),
         "relay": ("relay",), "pop3": ("wrap", "tunnel"),
         "imap": ("wrap", "tunnel")}
WELCOME = ("220", "+OK", "* O")


def still_serves(kind):
    with OPENERS[kind]() as peer:
        assert peer.line()[:3] in WELCOME, peer
        peer.send("a LOGOUT" if kind == "imap" else "QUIT")
        assert peer.line()[:3] in ("221", "+OK", "* B"), peer


# ---- clients --------------------------------------------------------------

NOISE = {
    "long-line": b"EHLO " + b"x" * 70000 + b"\r\n",
    "long-no-end": b"y" * 70000,
    "nul": b"EH\0LO pc\r\n",
    "bare-lf": b"NOOP\nNOOP\n",
    "bare-cr": b"NOOP\rNOOP\r\n",
    "high-bytes": bytes(range(128, 256)) + b"\r\n",
    "tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 505,
    "http": b"GET / HTTP/1.1\r\nHost: mx\r\n\r\n",
    "lhlo": b"LHLO pc\r\n",
    "proxy": b"PROXY TCP4 198.18.3.7 203.0.113.25 1 25\r\n",
    "empty-lines": b"\r\n" * 2000,
    "many-bad": b"XYZZY\r\n" * 2000,
}


@pytest.mark.parametrize("noise", sorted(NOISE))
@pytest.mark.parametrize("kind", ("block", "submit", "pop3", "imap"))
def test_noise_ends_with_a_reason(gate, kind, noise):
    since = gate.here()
    with OPENERS[kind]() as peer:
        assert peer.line()[:3] in WELCOME, peer
        try:
            peer.send(NOISE[noise])
            peer.send(b"\r\nQUIT\r\na LOGOUT\r\n")
            how, _ = peer.end()
        except OSError:
            how = "reset"
        assert how in ("eof", "reset"), peer
    event = gate.wait_event(since, *KINDS[kind])
    assert event.get("reason") not in (None, "none"), event
    still_serves(kind)


@pytest.mark.parametrize("kind", ("block", "submit", "pop3", "imap"))
def test_tls_hello_without_an_end_of_line_is_answered(gate, kind):
    """It holds no LF and waits for an answer: so would we."""
    since = gate.here()
    with OPENERS[kind]() as peer:
        assert peer.line()[:3] in WELCOME, peer
        peer.send(NOISE["tls-hello"])
        how, words = peer.end()
        assert how == "eof", peer
        assert words[:3] in (b"421", b"500", b"-ER", b"* B"), peer
    gate.wait_event(since, *KINDS[kind], reason="client-protocol")
    still_serves(kind)


@pytest.mark.parametrize("noise", ("long-line", "nul", "bare-lf", "http"))
def test_relay_becomes_opaque_instead_of_closing(gate, noise):
    """The same bytes reach the MX, whose answer comes back."""
    since = gate.here()
    with relay() as peer:
        assert "mx.alpha.example" in peer.line(), peer
        peer.send(NOISE[noise])
        answer = peer.line()
        assert answer[:1] in "245", peer
        peer.close()
    gate.wait_event(since, "relay", line="198.19.1.40")


STEPS = {
    "block": ("EHLO pc", "MAIL FROM:<a@b.example>",
              "RCPT TO:<info@alpha.example>", "DATA"),
    "submit": ("EHLO pc", PLAIN, "MAIL FROM:<kenji@isp.example>",
               "RCPT TO:<discard@isp.example>", "DATA", "half a message"),
    "relay": ("EHLO pc", "MAIL FROM:<a@b.example>",
              "RCPT TO:<info@alpha.example>", "DATA", "half a message"),
    "pop3": ("CAPA", "USER kenji@isp.example", f"PASS {PASSWORD}", "STAT"),
    # One line of answer to each.
    "imap": ("a ENABLE X", "b LOGIN kenji@isp.example {23+}", PASSWORD,
             "c UNSELECT"),
}


def answer_to(peer, kind, step):
    if step == "CAPA":
        return peer.dotted()
    if kind in ("pop3", "imap"):
        return [] if step.endswith("+}") else [peer.line()]
    return peer.reply()


@FAMILIES
@pytest.mark.parametrize("how", ("close", "reset"))
@pytest.mark.parametrize("kind", sorted(STEPS))
def test_leaving_at_any_point_leaves_nothing(gate, kind, how, family):
    """Before the greeting, after each step, and right after each command
    without waiting for its answer."""
    for wait in (True, False):
        for count in range(-1, len(STEPS[kind]) + 1):
            peer = OPENERS[kind](family)
            if count >= 0:
                peer.line()
                for step in STEPS[kind][:count]:
                    peer.send(step)
                    if wait and not step.startswith("half"):
                        answer_to(peer, kind, step)
            getattr(peer, how)()
    still_serves(kind)


@FAMILIES
@pytest.mark.parametrize("kind", sorted(STEPS))
def test_one_byte_at_a_time(gate, kind, family):
    with OPENERS[kind](family) as peer:
        peer.sock.setsockopt(net.socket.IPPROTO_TCP, net.socket.TCP_NODELAY, 1)
        peer.line()
        for step in [s for s in STEPS[kind] if s not in (
                "DATA", "half a message")]:
            for byte in step.encode() + b"\r\n":
                peer.sock.sendall(bytes([byte]))
            want = {"pop3": "+OK", "imap": ""}.get(kind, "2")
            if kind == "block" and step[:4] == "RCPT":
                want = "550"
            for line in answer_to(peer, kind, step)[:1]:
                assert line.startswith(want), peer


@FAMILIES
def test_bytes_behind_stls_and_starttls_of_imap(gate, family):
    """The same of the wrapped protocols."""
    for open_it, attack in ((pop3, b"STLS\r\nUSER kenji\r\n"),
                            (imap, b"a STARTTLS\r\nb NOOP\r\n")):
        since = gate.here()
        with open_it(family) as peer:
            assert "OK" in peer.line(), peer
            peer.send(attack)
            how, data = peer.end()
            assert how in ("eof", "reset"), peer
            assert b"UNAVAILABLE" in data or b"SYS/TEMP" in data, peer
        gate.wait_event(since, "wrap", reason="tls-injection")


@FAMILIES
def test_half_a_handshake_through_the_tunnel(gate, family):
    with submit(family) as peer:
        peer.line()
        peer.ask("EHLO pc")
        assert peer.ask("STARTTLS")[0].startswith("220"), peer
        peer.send(NOISE["tls-hello"][:40])
        peer.reset()
    still_serves("submit")


DOTS = {
    "lf.lf": b"\n.\n", "lf.crlf": b"\n.\r\n", "crlf.lf": b"\r\n.\n",
    "cr.cr": b"\r.\r", "crlf.crcrlf": b"\r\n.\r\r\n", "cr.crlf": b"\r.\r\n",
}


@FAMILIES
@pytest.mark.parametrize("name", sorted(DOTS))
def test_nothing_is_smuggled_behind_a_false_dot(world, gate, name, family):
    """One message goes in; one, with the false end inside it, comes out."""
    token = f"smuggle-{name.replace('.', '-')}-{family}"
    with submit(family) as peer:
        peer.line()
        peer.ask("EHLO pc")
        assert peer.ask(PLAIN)[0].startswith("235"), peer
        peer.ask("MAIL FROM:<kenji@isp.example>")
        peer.ask("RCPT TO:<yuki@isp.example>")
        peer.ask("DATA")
        peer.send(f"Subject: {token}\r\n\r\nfirst".encode() + DOTS[name]
                  + b"MAIL FROM:<ceo@isp.example>\r\n"
                  b"RCPT TO:<hana@isp.example>\r\nDATA\r\n"
                  + f"Subject: {token}-evil\r\n\r\nevil\r\n.\r\n".encode())
        assert peer.reply()[0].startswith("250"), peer
        assert peer.ask("QUIT")[0].startswith("221"), peer
    mail = world.wait_arrival("isp", "yuki", token)
    assert "ceo@isp.example" in mail.get_payload()
    assert world.arrived("isp", "hana", token) is None


@FAMILIES
def test_adaptive_refuses_at_ehlo_the_second_time(gate, family):
    """Who leaves after EHLO never reads the text at RCPT; next time it comes
    at EHLO."""
    address, since = net.fresh_line(family), gate.here()

    def visit():
        return Peer("second", net.address("mxa", family), 25,
                    source_address=(address, 0))
    with visit() as peer:
        peer.line()
        assert peer.ask("EHLO pc")[0].startswith("250"), peer
        peer.ask("QUIT")
    gate.wait_event(since, "block")
    with visit() as peer:
        peer.line()
        answer = peer.ask("EHLO pc")
        assert answer[0].startswith("550"), peer
        assert any("OP25B" in line for line in answer), peer
    event = gate.wait_event(since, "block", stage="ehlo", code="550")
    want = address if family == 4 else address.replace("::1", "::/56")
    assert event["line"] == want, event


CHOICES = """subscribers = (
  { class = "greeted"; prefixes = ( "198.18.0.0/16" ); port25 = "block";
    enforce = "all"; block = { stage = "greeting"; }; },
  { class = "softly"; prefixes = ( "2001:db8:1::/48" ); port25 = "block";
    enforce = "all"; block = { stage = "mail"; soft = "2126-01-01T00:00:00Z";
      text = ( "{client} closed, {event}" ); }; }
);
smtp = { block = { delay = 0; text = ( "Closed." ); }; };
"""


def test_stages_and_a_soft_beginning_by_class(gate):
    """One class is refused by the greeting; another softly at MAIL, with the
    line's own address and the id of its log line in the text."""
    four, six = net.fresh_line(4), net.fresh_line(6)
    config, since = daemon.CONF.read_text(), gate.here()
    start = config.index("subscribers = (")
    try:
        gate.reconfigure(config[:start] + CHOICES +
                         "nfq = { lines = 20000; };\n")
        with Peer("second", net.address("mxa", 4), 25,
                  source_address=(four, 0)) as peer:
            assert peer.reply()[0].startswith("554-Closed."), peer
            assert peer.ask("QUIT")[0].startswith("221"), peer
        gate.wait_event(since, "block", stage="greeting", code="554")
        with Peer("second", net.address("mxa", 6), 25,
                  source_address=(six, 0)) as peer:
            peer.line()
            peer.ask("EHLO pc")
            answer = peer.ask("MAIL FROM:<>")[0]
        event = gate.wait_event(since, "block", stage="mail", code="451")
        assert answer == f"451 4.7.1 {six} closed, {event['id']}", answer
    finally:
        gate.reconfigure(config)


def test_too_many_sessions_of_one_line(gate):
    """The 21st is told to come later; another line is not concerned."""
    peers, since = [], gate.here()
    try:
        for _ in range(20):
            peer = submit()
            peers.append(peer)
            assert peer.line().startswith("220"), peer
        with submit() as peer:
            assert peer.line().startswith("421"), peer
        gate.wait_event(since, reason="max-per-line", line="198.19.0.20")
        with block() as other:
            assert other.line().startswith("220"), other
    finally:
        for peer in peers:
            peer.close()


# ---- servers --------------------------------------------------------------

def odd_submit(family=4):
    return Peer("legacy", net.address("dns", family, 1), 25)


def odd_pop3(family=4):
    return Peer("legacy", net.address("dns", family, 1), 110)


@pytest.mark.parametrize("kind", ("submit", "pop3"))
def test_silent_server_ends_in_time(gate, kind):
    """A TCP connection and nothing on it: ten seconds for TLS."""
    since = gate.here()
    with odd.OddServer(465 if kind == "submit" else 995,
                       lambda server, conn: [server.read(conn)
                                             for _ in range(3)], tls=False):
        with (odd_submit if kind == "submit" else odd_pop3)() as peer:
            peer.sock.settimeout(20)
            if kind == "submit":
                assert peer.line().startswith("220"), peer
                assert peer.ask("EHLO pc")[0].startswith("421"), peer
            else:
                assert peer.line().startswith("-ERR [SYS/TEMP]"), peer
    gate.wait_event(since, *KINDS[kind], reason="tls-timeout")


def test_hostile_words_cannot_forge_a_log_line(gate):
    """Whatever HELO says, it stays inside its quotes on its own line."""
    since = gate.here()
    with block() as peer:
        peer.line()
        peer.send(b'EHLO x" reason=done\x1b[2J \\" \xff\xfe id=1\r\n')
        peer.reply()
        peer.ask("MAIL FROM:<a@b.example>")
        peer.ask("RCPT TO:<info@alpha.example>")
        peer.ask("QUIT")
    event = gate.wait_event(since, "block")
    assert event["reason"] == "policy", event
    assert event.text.isascii() and event.text.isprintable(), event
    assert daemon.parse(event.text)["stage"] == "rcpt", event
