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
import scenes
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
def test_bytes_behind_starttls_are_never_heard(gate, family):
    """CVE-2011-0411: what stands behind STARTTLS in clear is not a command."""
    since = gate.here()
    with submit(family) as peer:
        peer.line()
        assert any("STARTTLS" in line for line in peer.ask("EHLO pc"))
        peer.send(b"STARTTLS\r\nMAIL FROM:<kenji@isp.example>\r\n")
        how, data = peer.end()
        assert how in ("eof", "reset"), peer
        assert b"2.1.0" not in data, peer
    gate.wait_event(since, *KINDS["submit"], reason="tls-injection")


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


def test_nul_in_a_message_is_refused(world, gate):
    with submit() as peer:
        peer.line()
        peer.ask("EHLO pc")
        assert peer.ask(PLAIN)[0].startswith("235"), peer
        peer.ask("MAIL FROM:<kenji@isp.example>")
        peer.ask("RCPT TO:<yuki@isp.example>")
        peer.ask("DATA")
        peer.send(b"Subject: nul-mail\r\n\r\nzero \0 here\r\n\0.\r\n.\r\n"
                  b"QUIT\r\n")
        how, data = peer.end()
        assert how in ("eof", "reset"), peer
        assert data[:1] in (b"", b"4", b"5"), peer
    assert world.arrived("isp", "yuki", "nul-mail") is None


def test_pipelined_submission(world, gate):
    """Every command has exactly one reply, in order."""
    with submit() as peer:
        peer.line()
        peer.ask("EHLO pc")
        assert peer.ask(PLAIN)[0].startswith("235"), peer
        peer.send(b"NOOP\r\nMAIL FROM:<kenji@isp.example>\r\n"
                  b"RCPT TO:<yuki@isp.example>\r\n"
                  b"RCPT TO:<nobody@isp.example>\r\n"
                  b"VRFY x\r\nXCLIENT ADDR=127.0.0.1\r\nDATA\r\n")
        codes = [peer.reply()[0][:3] for _ in range(7)]
        assert codes[:4] == ["250", "250", "250", "550"], peer
        assert codes[5] == "502" and codes[6] == "354", peer
        peer.send(b"Subject: pipelined\r\n\r\nx\r\n.\r\nQUIT\r\n")
        assert peer.reply()[0].startswith("250"), peer
        assert peer.reply()[0].startswith("221"), peer
    world.wait_arrival("isp", "yuki", "pipelined")


def test_unknown_verbs_never_reach_the_server(gate):
    with submit() as peer:
        peer.line()
        lines = peer.ask("EHLO pc")
        for hidden in ("BINARYMIME", "ETRN", "VRFY", "XCLIENT"):
            assert not any(line[4:].split()[0] == hidden for line in lines)
        assert peer.ask(PLAIN)[0].startswith("235"), peer
        for verb in ("XCLIENT ADDR=198.51.100.1", "XFORWARD NAME=x",
                     "BURL imap://x", "TURN", "ETRN x",
                     b"BDAT 3 LAST\r\nabc"):
            assert peer.ask(verb)[0][:3] in ("500", "502", "503"), peer


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


def odd_imap(family=4):
    return Peer("legacy", net.address("dns", family, 1), 143)


BAD_SMTP = {
    "no-welcome": {"": b"554 5.3.2 Not today\r\n"},
    "closes": {"": None},
    "resets": {"": "reset"},
    "no-ehlo": {"EHLO": b"500 5.5.1 What\r\n", "HELO": b"500 What\r\n"},
    "closes-at-ehlo": {"EHLO": None},
    "resets-at-ehlo": {"EHLO": "reset"},
    "codes-change": {"EHLO": b"250-odd\r\n550 no\r\n"},
    "not-smtp": {"": b"SSH-2.0-OpenSSH_9.2\r\n"},
    "long-line": {"": b"220 " + b"x" * 70000 + b"\r\n"},
    "flood": {"EHLO": b"250-X\r\n" * 20000 + b"250 Y\r\n"},
    "nul": {"EHLO": b"250-odd\0\r\n250 \0AUTH PLAIN\r\n"},
    "two-replies": {"": b"220 one\r\n220 two\r\n250 three\r\n"},
}


@pytest.mark.parametrize("name", sorted(BAD_SMTP))
def test_server_that_answers_badly_before_auth(gate, name):
    """The client hears 421 (or a plain EHLO list it can live with), never a
    hang, and is never asked for a password that has nowhere to go."""
    since = gate.here()
    with odd.OddServer(465, odd.smtp(BAD_SMTP[name])):
        with odd_submit() as peer:
            assert peer.line().startswith("220"), peer
            answer = peer.ask("EHLO pc")
            if answer[0].startswith("421"):
                assert peer.end()[0] in ("eof", "reset"), peer
            else:
                assert name in ("flood", "nul", "no-ehlo", "two-replies",
                                "codes-change"), peer
                peer.send("QUIT")
                peer.end()
    event = gate.wait_event(since, "submit",
                            dst=scenes.endpoint("203.0.113.54", 25))
    assert event.get("reason") not in (None, "none"), event


@pytest.mark.parametrize("what", ("reset", None))
@pytest.mark.parametrize("verb", ("AUTH", "MAIL", "RCPT", "DATA", "."))
def test_server_that_leaves_in_the_middle(gate, verb, what):
    """421 at a command; 451 after the message, whose fate nobody knows."""
    with odd.OddServer(465, odd.smtp({verb: what})):
        with odd_submit() as peer:
            assert peer.line().startswith("220"), peer
            assert peer.ask("EHLO pc")[0].startswith("250"), peer
            for step in (PLAIN, "MAIL FROM:<a@b.example>",
                         "RCPT TO:<c@d.example>", "DATA", "text\r\n."):
                answer = peer.ask(step)
                if answer[0][:1] not in "23":
                    break
            assert answer[0][:3] == ("451" if verb == "." else "421"), peer
            assert peer.end()[0] in ("eof", "reset"), peer


def plain_talk(server, conn):
    conn.sendall(b"220 odd.isp.example ESMTP, in clear\r\n")
    server.read(conn)


def half_handshake(server, conn):
    server.read(conn)
    conn.sendall(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03")
    conn.close()


def alert(server, conn):
    server.read(conn)
    conn.sendall(b"\x15\x03\x03\x00\x02\x02\x28")


def at_once(server, conn):
    odd.reset(conn)


NO_TLS = {"plain": plain_talk, "half": half_handshake, "alert": alert,
          "reset": at_once}


@FAMILIES
@pytest.mark.parametrize("name", sorted(NO_TLS))
@pytest.mark.parametrize("kind", ("submit", "pop3", "imap"))
def test_server_without_proper_tls_gets_nothing(gate, kind, name, family):
    """Never plain where TLS was promised."""
    since = gate.here()
    port = {"submit": 465, "pop3": 995, "imap": 993}[kind]
    with odd.OddServer(port, NO_TLS[name], tls=False) as server:
        if kind == "imap":
            with odd_imap(family) as peer:
                assert peer.line().startswith("* BYE [UNAVAILABLE]"), peer
        elif kind == "submit":
            with odd_submit(family) as peer:
                assert peer.line().startswith("220"), peer
                assert peer.ask("EHLO pc")[0].startswith("421"), peer
        else:
            with odd_pop3(family) as peer:
                assert peer.line().startswith("-ERR [SYS/TEMP]"), peer
        for word in (b"EHLO", b"USER", PASSWORD.encode()):
            assert word not in server.seen
    event = gate.wait_event(since, *KINDS[kind])
    reasons = ["tls-failed", "server-reset", "server-eof", "tls-timeout"]
    if name == "reset":
        reasons.append("connect-failed")    # it came before we looked
    assert event["reason"] in reasons, event


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


BAD_POP3 = {
    "no-welcome": b"-ERR go away\r\n",
    "not-pop3": b"220 smtp here\r\n",
    "long-line": b"+OK " + b"x" * 70000 + b"\r\n",
    "closes": b"",
    "half": b"+OK half a gree",
}


@pytest.mark.parametrize("name", sorted(BAD_POP3))
def test_pop3_server_that_greets_badly(gate, name):
    def script(server, conn):
        conn.sendall(BAD_POP3[name])
        if name in ("no-welcome", "not-pop3", "long-line"):
            server.read(conn)
    since = gate.here()
    with odd.OddServer(995, script):
        with odd_pop3() as peer:
            assert peer.line().startswith("-ERR"), peer
            assert peer.end()[0] in ("eof", "reset"), peer
    event = gate.wait_event(since, "wrap")
    assert event.get("reason") not in (None, "none"), event


BAD_ORIGIN = {
    "closes": b"", "nul": b"220 \0\r\n", "flood": b"220-x\r\n" * 20000,
    "long": b"220 " + b"x" * 100000 + b"\r\n", "binary": bytes(range(256)) * 64,
}


@pytest.mark.parametrize("name", sorted(BAD_ORIGIN))
def test_relay_passes_whatever_the_origin_says(gate, name):
    """Byte for byte, then the end."""
    def script(server, conn):
        conn.sendall(BAD_ORIGIN[name])
        conn.shutdown(net.socket.SHUT_WR)
        server.read(conn)
    with odd.OddServer(25, script, tls=False):
        with Peer("fixed", net.address("dns", 4, 1), 25) as peer:
            how, data = peer.end()
            assert (how, data == BAD_ORIGIN[name]) == ("eof", True), peer


@FAMILIES
def test_half_close_is_passed_on(gate, family):
    """FIN means "no more from me": the answer still comes."""
    def script(server, conn):
        conn.sendall(b"220 odd\r\n")
        while server.read(conn):
            pass
        conn.sendall(b"421 you said all you had to say\r\n")
    with odd.OddServer(25, script, tls=False) as server:
        with Peer("fixed", net.address("dns", family, 1), 25) as peer:
            assert peer.line() == "220 odd", peer
            peer.send("NOOP")
            peer.sock.shutdown(net.socket.SHUT_WR)
            assert peer.end() == ("eof",
                                  b"421 you said all you had to say\r\n"), peer
        assert server.seen == b"NOOP\r\n"


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
