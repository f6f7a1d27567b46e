"""IMAP wrapped and tunnelled, POP3's STLS, and the ways to a server.

Real programs and a real Dovecot first, then servers that say what none would.
What a plain port offers is asked there once and remembered: so each test that
is about that has an address of its own kind (the odd server's), or a daemon
that has just begun.
"""

import base64
import imaplib
import re
import signal
import socket
import ssl
import zlib

import pytest

import ca
import clients
import daemon
import net
import odd
import proc
import scenes
from dovecot import LOG as DOVECOT_LOG
from dovecot import PASSWORD
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
USER = "kenji@isp.example"


def imap(family=4):
    return Peer("legacy", net.address("isp", family), 143)


def pop3(family=4):
    return Peer("legacy", net.address("isp", family), 110)


def odd_peer(port, family=4):
    return Peer("legacy", net.address("dns", family, 1), port)


def tagged(peer, tag):
    """Everything up to the tagged line."""
    lines = [peer.line()]
    while not lines[-1].startswith(tag + " "):
        assert lines[-1] or not peer.said[-1].endswith("[end]"), peer
        lines.append(peer.line())
    return lines


def ask(peer, command):
    peer.send(command)
    return tagged(peer, command.split(" ")[0])


def logins(before):
    tail = proc.tail(DOVECOT_LOG, 10 ** 6).splitlines()[before:]
    return [line for line in tail if " Login: user=<kenji" in line]


def log_length():
    return len(proc.tail(DOVECOT_LOG, 10 ** 6).splitlines())


# ---- programs -------------------------------------------------------------

class Imap(imaplib.IMAP4):
    """Python's own client, on a line."""

    def __init__(self, family):
        self.family = family
        super().__init__(net.address("isp", family), 143)

    def _create_socket(self, timeout):
        return net.connect("legacy", net.address("isp", self.family), 143, 20)


def with_imaplib(line, server, secure, token):
    with Imap(6 if ":" in server else 4) as box:
        if secure:
            context = ssl.create_default_context()
            box.host = "mail.isp.example"
            box.starttls(context)
            assert ("DNS", "mail.isp.example") in box.sock.getpeercert()[
                "subjectAltName"]
        box.login(USER, PASSWORD)
        box.select("INBOX", readonly=True)
        return str(box.fetch("1", "(BODY.PEEK[])")[1])


def with_curl(line, server, secure, token):
    return clients.curl_imap(line, server, options="LOGIN",
                             name="mail.isp.example" if secure else None).out


def with_mbsync(line, server, secure, token):
    # mbsync verifies the name that it dials, and can be told no other.
    host = "mail.isp.example" if secure else server
    result = clients.mbsync(line, host, tls="STARTTLS" if secure else "None")
    return result.mail or result.out


def with_fetchmail(line, server, secure, token):
    result = clients.fetchmail(line, server, protocol="IMAP")
    return result.mail or result.out


PROGRAMS = {"imaplib": with_imaplib, "curl": with_curl,
            "mbsync": with_mbsync, "fetchmail": with_fetchmail}
MATRIX = [(name, secure, family) for name in sorted(PROGRAMS)
          for secure in (False, True) for family in (4, 6)
          if not (secure and (name == "fetchmail" or
                              (name, family) == ("mbsync", 6)))]


@pytest.mark.parametrize("name,secure,family", MATRIX, ids=lambda value: {
    False: "clear", True: "starttls", 4: "v4", 6: "v6"}.get(value, value)
    if not isinstance(value, str) else value)
def test_programs(world, gate, name, secure, family):
    token, before, since = f"{name}-{family}-mail", log_length(), gate.here()
    world.empty("kenji")
    world.put("kenji", clients.message(token, "mei@alpha.example", USER))
    got = PROGRAMS[name]("legacy", net.address("isp", family), secure, token)
    assert token in got, got
    assert all(", TLS," in line for line in logins(before)), logins(before)
    gate.wait_event(since, "tunnel" if secure else "wrap")


# ---- the dialogue, with Dovecot -------------------------------------------

@FAMILIES
def test_capabilities_wherever_they_appear(gate, family):
    """The list is the one inside TLS: no LOGINDISABLED, logins allowed; and
    STARTTLS, because port 143 of Dovecot has it."""
    with imap(family) as peer:
        greeting = peer.line()
        asked = ask(peer, "a CAPABILITY")
        inside = ask(peer, f"b LOGIN {USER} {PASSWORD}")
    for line in (greeting, asked[0]):
        words = re.split(r"[ \]]", line)
        assert "STARTTLS" in words and "AUTH=PLAIN" in words, peer
        assert "LOGINDISABLED" not in words, peer
    assert inside[-1].startswith("b OK"), peer
    assert "STARTTLS" not in " ".join(inside), peer


@FAMILIES
def test_literals_of_every_kind(gate, family):
    """Whole, waiting and not waiting; a password with a quote in it cannot be
    sent otherwise."""
    for command in (
            [b"a LOGIN {17}", USER, b" {23}", PASSWORD, b""],
            [b"a LOGIN {17+}", USER, b" {23+}", PASSWORD, b""],
            [b"a LOGIN " + USER.encode() + b" {23}", PASSWORD, b""]):
        with imap(family) as peer:
            peer.line()
            for part in command:
                if isinstance(part, bytes):
                    peer.send(part + b"\r\n")
                    if part.endswith(b"}") and not part.endswith(b"+}"):
                        assert peer.line().startswith("+"), peer
                else:
                    peer.send(part.encode())
            assert tagged(peer, "a")[-1].startswith("a OK"), peer
            assert ask(peer, "b SELECT INBOX")[-1].startswith("b OK"), peer


def test_before_the_login(gate):
    """ID passes; ENABLE gets the server's own answer; then both kinds of AUTH."""
    plain = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    for login in (f"d AUTHENTICATE PLAIN {plain}", "d AUTHENTICATE PLAIN"):
        with imap() as peer:
            peer.line()
            assert ask(peer, 'a ID ("name" "lab")')[-1].startswith("a OK")
            assert "non-auth" in ask(peer, "b ENABLE CONDSTORE")[-1], peer
            assert ask(peer, f"c LOGIN {USER} wrong")[-1].startswith(
                "c NO [AUTHENTICATIONFAILED]"), peer
            peer.send(login)
            if login.endswith("PLAIN"):
                assert peer.line().startswith("+"), peer
                peer.send(plain)
            assert tagged(peer, "d")[-1].startswith("d OK"), peer


def test_compressed_and_idle(world, gate):
    """Opaque after the login: COMPRESS=DEFLATE, and IDLE that hears of a mail
    inside it."""
    world.empty("kenji")
    with imap() as peer:
        peer.line()
        assert ask(peer, f"a LOGIN {USER} {PASSWORD}")[-1].startswith("a OK")
        assert ask(peer, "b COMPRESS DEFLATE")[-1].startswith("b OK"), peer
        squeeze = zlib.compressobj(wbits=-15)
        unsqueeze = zlib.decompressobj(wbits=-15)
        heard = unsqueeze.decompress(peer.rest)

        def hear(word):
            nonlocal heard
            while word not in heard:
                data = peer.sock.recv(65536)
                assert data, heard
                heard += unsqueeze.decompress(data)

        def say(text):
            peer.sock.sendall(squeeze.compress(text)
                              + squeeze.flush(zlib.Z_SYNC_FLUSH))
        say(b"c SELECT INBOX\r\nd IDLE\r\n")
        hear(b"+ idling")
        world.put("kenji", clients.message("idle", "a@b.example", USER))
        hear(b"1 EXISTS")
        say(b"DONE\r\ne LOGOUT\r\n")
        hear(b"e OK")


@FAMILIES
def test_large_mail_is_bit_exact(world, gate, family):
    """Up and down again: 8 MB of every octet that a message may hold."""
    body = (bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b"")
            * 3 + b"\r\n") * 11000
    text = b"Subject: large\r\n\r\n" + body
    world.empty("hana")
    with Imap(family) as box:
        box.login("hana@isp.example", PASSWORD)
        assert box.append("INBOX", "", None, text)[0] == "OK"
        box.select("INBOX")
        data = box.fetch("1", "(BODY.PEEK[])")[1][0][1]
    assert data == text


# ---- the server's own plain port ------------------------------------------

def greet_only(banner):
    """A server inside TLS that says hello and then nothing of interest."""
    def script(server, conn):
        conn.sendall(banner)
        while server.read(conn):
            pass
    return script


def clear_port(words, port):
    """A plain port with these words in its list."""
    def script(server, conn):
        conn.sendall(b"* OK odd\r\n" if port == 143 else b"+OK odd\r\n")
        if port == 143 and server.read(conn):
            conn.sendall(b"* CAPABILITY IMAP4rev1 " + words + b"\r\nsp1 OK\r\n")
        elif server.read(conn):
            conn.sendall(b"+OK\r\n" + words + b".\r\n")
    return script


IMAP_HELLO = b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] odd\r\n"
# Each at an address and port of its own, in a daemon that remembers nothing.
PLAIN_PORT = {
    "offers": (143, 4, b"STARTTLS"),
    "offers-not": (110, 4, b"XSTLS\r\n"),
    "refuses": (143, 6, None),
    "silent": (110, 6, b""),
}


# And addresses of the odd server's that no other test uses.
FORGETFUL = daemon.quick().replace(
    'imap = "tls:993"; }', 'imap = "tls:993"; addresses = ( '
    f'"{net.address("dns", 4)}", "{net.address("dns", 6)}" ); }}')


@pytest.fixture(scope="module")
def forgetful(running):
    running.restart(FORGETFUL)


def inside(port):
    """What the secure port says: no STARTTLS, in either protocol."""
    def script(server, conn):
        conn.sendall(IMAP_HELLO if port == 143 else b"+OK odd\r\n")
        while server.read(conn):
            if port == 110:
                conn.sendall(b"+OK\r\nTOP\r\n.\r\n")
    return script


def shown(peer, port):
    if port == 143:
        return "STARTTLS" in re.split(r"[ \]]", peer.line())
    assert peer.line().startswith("+OK"), peer
    peer.send("CAPA")
    return "STLS" in peer.dotted()


@pytest.mark.parametrize("name", sorted(PLAIN_PORT))
def test_starttls_is_shown_exactly_when_the_plain_port_has_it(
        forgetful, gate, name):
    """Once asked, remembered: the second and third session ask nobody."""
    port, family, words = PLAIN_PORT[name]
    asked = []

    def clear(server, conn):
        asked.append(1)
        if words:
            clear_port(words, port)(server, conn)
        server.read(conn)
    servers = [odd.OddServer(993 if port == 143 else 995, inside(port))]
    if words is not None:
        servers.append(odd.OddServer(port, clear, tls=False))
    try:
        for _ in range(3):
            with odd_peer(port, family) as peer:
                assert shown(peer, port) == (name == "offers"), peer
    finally:
        for server in servers:
            server.__exit__()
    assert len(asked) == (0 if words is None else 1)


@FAMILIES
def test_stls_ends_at_the_server_itself(gate, family):
    """POP3: shown, taken to port 110, the real certificate, and a login that
    Dovecot sees in TLS."""
    since = gate.here()
    with pop3(family) as peer:
        assert peer.line().startswith("+OK"), peer
        peer.send("CAPA")
        assert peer.dotted().count("STLS") == 1, peer
        peer.send("STLS")
        assert peer.line().startswith("+OK"), peer
        certificate = peer.starttls("mail.isp.example")
        assert ("DNS", "mail.isp.example") in certificate["subjectAltName"]
        peer.send(f"USER {USER}")
        assert peer.line().startswith("+OK"), peer
        peer.send(f"PASS {PASSWORD}")
        assert peer.line().startswith("+OK"), peer
        peer.send("QUIT")
        peer.line()
    gate.wait_event(since, "tunnel")


# ---- servers that say what none would -------------------------------------

HAS_OFFER = b"\x04imap"
NO_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"    # its alert, fatal


@pytest.mark.parametrize("how", ("alert", "reset"))
def test_server_that_ends_the_handshake_over_alpn(forgetful, gate, how):
    """Dialled once more without, and remembered."""
    family = 4 if how == "alert" else 6
    hellos = []

    def script(server, conn):
        hello = conn.recv(4096, socket.MSG_PEEK)
        hellos.append(HAS_OFFER in hello)
        if not hellos[-1]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(ca.DIR / "odd.pem")
            conn = context.wrap_socket(conn, server_side=True)
            conn.sendall(IMAP_HELLO)
            conn.recv(100)
        elif how == "alert":
            conn.recv(4096)
            conn.sendall(NO_PROTOCOL)
        else:
            odd.reset(conn)
    with odd.OddServer(993, script, tls=False, which=0):
        for _ in range(3):
            with Peer("legacy", net.address("dns", family), 143) as peer:
                assert peer.line().startswith("* OK"), peer
    assert hellos == [True, False, False, False]


# ---- other ways to a server -----------------------------------------------

OTHER_WAYS = daemon.quick().replace(
    'pop3 = "tls:995"; imap = "tls:993"; own',
    'pop3 = "starttls:110"; imap = "starttls:143"; own').replace(
    'pop3 = "tls:995";\n    imap = "tls:993"; }',
    'pop3 = "plain:1110";\n    imap = "plain:1143"; addresses = ( '
    f'"{net.address("dns", 4, 1)}" ); }}')


@pytest.fixture(scope="module")
def other_ways(running):
    running.restart(OTHER_WAYS)
    yield
    running.restart(daemon.quick())


@FAMILIES
def test_upstream_by_starttls(world, other_ways, gate, family):
    """A server without 993 and 995: the list from before TLS is forgotten, the
    login is inside, APOP still has its time stamp."""
    before, address = log_length(), net.address("isp", family)
    world.empty("kenji")
    world.put("kenji", clients.message("by-starttls", "a@b.example", USER))
    with imap(family) as peer:
        greeting = peer.line()
        assert greeting.endswith("] mail.isp.example ready"), peer
        assert "LOGINDISABLED" not in greeting, peer
    got = clients.curl_imap("legacy", address)
    assert "by-starttls" in got.out, got.out
    got = clients.fetchmail("legacy", address)
    assert "by-starttls" in got.mail, got.out
    assert len(logins(before)) == 2, logins(before)
    assert all(", TLS," in line for line in logins(before)), logins(before)


def test_upstream_by_starttls_verifies_too(world, other_ways, gate):
    gate.expected += ["certificate"]
    since = gate.here()
    with net.Capture("gw", "up0", "tcp") as capture:
        try:
            world.show_certificate("wrong")
            mail = clients.curl_imap("legacy", net.address("isp", 4))
            pop = clients.mpop("legacy", net.address("isp", 4), "user")
        finally:
            world.show_certificate("isp")
        seen = capture.bytes()
    assert "* BYE [UNAVAILABLE]" in mail.out, mail.out
    assert "-ERR [SYS/TEMP]" in pop.out, pop.out
    assert len(seen) > 3000
    assert not any(needle in seen for needle in scenes.needles(PASSWORD))
    gate.wait_event(since, "wrap", reason="certificate")


def test_upstream_in_clear_only_to_literal_addresses(other_ways, gate):
    """plain: where the operator's file says so; over IPv6 this server is known
    by its name alone, and is left alone."""
    hello = greet_only(b"* OK [CAPABILITY IMAP4rev1] in clear\r\n")
    direct = greet_only(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] itself\r\n")
    with odd.OddServer(1143, hello, tls=False), \
            odd.OddServer(143, direct, tls=False):
        with odd_peer(143, 4) as peer:
            assert "in clear" in peer.line(), peer
        with odd_peer(143, 6) as peer:
            assert "itself" in peer.line(), peer
    with odd.OddServer(1110, greet_only(b"+OK in clear\r\n"), tls=False):
        with odd_peer(110, 4) as peer:
            assert "in clear" in peer.line(), peer


@FAMILIES
def test_a_server_on_more_addresses_than_dns_tells(world, gate, family):
    """DNS says nothing at all; the operator's file says whose address it is,
    the certificate has to be that server's, as always."""
    gate.expected.append("does not resolve")
    (daemon.ETC / "mail.txt").write_text("203.0.113.80/29\n2001:db8:80::/64\n")
    world.dns.send_signal(signal.SIGSTOP)
    try:
        gate.restart(daemon.quick().replace(
            "starttls = 587;", 'starttls = 587; prefixes_file = "mail.txt";'))
        since = gate.here()
        with imap(family) as peer:
            assert peer.line().startswith("* OK"), peer
            assert " OK " in ask(peer, f"a LOGIN {USER} {PASSWORD}")[-1], peer
        event = gate.wait_event(since, "wrap")
        assert event["server"] == "mail.isp.example" and "tls" in event
        host = net.address("isp", family)
        assert "(mail.isp.example)" in gate.cli("why", net.address(
            "legacy", family), host).out
        # taken out of the file, it is no server of ours any more
        (daemon.ETC / "mail.txt").write_text("192.0.2.0/24\n")
        assert gate.cli("reload").ok
        with imap(family) as peer:
            assert peer.line().startswith("* OK"), peer
            peer.send("a LOGOUT")
            peer.end()
        assert "(mail.isp.example)" not in gate.cli("why", net.address(
            "legacy", family), host).out
    finally:
        world.dns.send_signal(signal.SIGCONT)
        gate.restart(daemon.quick())
