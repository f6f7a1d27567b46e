"""`publish`: TLS ends at the gateway, real Dovecot and Postfix speak in clear
behind it, real programs in front of it."""

import imaplib
import os
import poplib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import tempfile
import time
from pathlib import Path

import pytest

import ca
import clients
import daemon
import inner
import net
import proc
from dovecot import PASSWORD
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
NAME = "pub.isp.example"
USER = "kenji@isp.example"
PAIR = daemon.ETC / "pub"       # pub.crt and pub.key, root's alone
# Offset of the ports behind which the server is told the client's address.
TOLD = 10000


def group(offset, behind, more=""):
    return f"""  {{ name = "{NAME}"; listen = ( "{net.GW_UP[4]}", "{net.GW_UP[6]}" );
    pop3s = {995 + offset}; imaps = {993 + offset}; submissions = {465 + offset};
    pop3 = {110 + offset}; imap = {143 + offset}; submission = {587 + offset};
    pop3_to = {behind["pop3"]}; imap_to = {behind["imap"]};
    submission_to = {behind["submission"]};
    certificates = ( {{ chain = "pub/pub.crt"; key = "pub/pub.key"; }},
                     {{ chain = "pub/hosted.crt"; key = "pub/hosted.key"; }} );
    {more} }}"""


PUBLISH = "publish = (\n" + group(0, inner.BARE) + ",\n" + group(
    TOLD, inner.PROXY, "proxy = true;") + "\n);\n"


def install(name, source):
    """A certificate and its key where the configuration says."""
    PAIR.mkdir(mode=0o700, exist_ok=True)
    for end in ("crt", "key"):
        path = PAIR / f"{name}.{end}"
        shutil.copyfile(ca.DIR / f"{source}.{end}", path)
        path.chmod(0o600)


@pytest.fixture(scope="module")
def published(running):
    """The shared daemon with a mail server behind it."""
    for name in ("pub", "hosted"):
        install(name, name)
    behind = inner.Inner(ca.DIR / "mxa.pem").start()
    running.reconfigure(daemon.quick() + PUBLISH)
    running.apply()
    yield behind
    running.reconfigure(daemon.quick())
    running.apply()
    behind.stop()


def trusting(name=NAME):
    context = ssl.create_default_context(cafile=clients.TRUST)
    context.check_hostname = name is not None
    return context


def dial(family, port, name=NAME, ns="mxa", context=None, **more):
    """A TLS connection to a published port."""
    sock = net.connect(ns, net.GW_UP[family], port, **more)
    return (context or trusting(name)).wrap_socket(sock, server_hostname=name)


class Secure(Peer):
    """A Peer inside TLS."""

    def __init__(self, family, port, ns="mxa", name=NAME):
        super().__init__(ns, net.GW_UP[family], port)
        self.starttls(name)


def inside(work, ns="mxa"):
    return net.inside(ns, work)


def host(family):
    return f"[{net.GW_UP[6]}]" if family == 6 else net.GW_UP[4]


# ---- mail -------------------------------------------------------------------

@FAMILIES
@pytest.mark.parametrize("offset", (0, TOLD), ids=("bare", "told"))
def test_mail_is_sent_and_read_with_python(gate, published, family, offset):
    """smtplib, poplib and imaplib, certificates verified."""
    token, since = f"python-{family}-{offset}-{os.getpid()}", gate.here()
    address, box = net.GW_UP[family], {}

    class Pop(poplib.POP3_SSL):
        def _create_socket(self, timeout):
            return self.context.wrap_socket(socket.create_connection(
                (address, self.port), 20), server_hostname=NAME)

    class Imap(imaplib.IMAP4_SSL):
        def _create_socket(self, timeout):
            return self.ssl_context.wrap_socket(socket.create_connection(
                (address, self.port), 20), server_hostname=NAME)

    class Smtp(smtplib.SMTP_SSL):
        def _get_socket(self, name, port, timeout):
            return self.context.wrap_socket(socket.create_connection(
                (address, port), 20), server_hostname=NAME)

    def send():
        with Smtp(NAME, 465 + offset, "pc.example", context=trusting()) as s:
            s.login(USER, PASSWORD)
            s.sendmail(USER, [USER], clients.message(token, USER, USER))

    def read_pop3():
        pop = Pop(NAME, 995 + offset, context=trusting())
        pop.user(USER)
        pop.pass_(PASSWORD)
        box["pop3"] = b"".join(b"\n".join(pop.retr(i + 1)[1])
                               for i in range(len(pop.list()[1])))
        pop.quit()

    def read_imap():
        imap = Imap(NAME, 993 + offset, ssl_context=trusting())
        imap.login(USER, PASSWORD)
        imap.select()
        box["imap"] = b"".join(part for _, found in (
            imap.fetch(number, "(RFC822)")
            for number in imap.search(None, "ALL")[1][0].split())
            for item in found for part in item if isinstance(part, bytes))
        imap.logout()

    inside(send)
    maildir = Path("/run/lab/mail/gw/kenji/Maildir/new")
    proc.wait_until(lambda: any(token in path.read_text()
                                for path in maildir.glob("*")),
                    "the mail to arrive")
    inside(read_pop3)
    inside(read_imap)
    assert token.encode() in box["pop3"] and token.encode() in box["imap"]
    for port in (995, 993, 465):
        event = gate.wait_event(since, "publish", dst=(
            f"{host(family)}:{port + offset}"), reason="done")
        assert event["tls"] == "1.3", event


@FAMILIES
def test_mail_programs_agree(gate, published, family):
    """curl, mpop, msmtp and swaks."""
    token = f"programs-{family}-{os.getpid()}"
    address = net.GW_UP[family]
    path = clients.config(
        f"defaults\naccount default\nhost {address}\nport 465\nfrom {USER}\n"
        f"tls on\ntls_starttls off\ntls_trust_file {clients.TRUST}\n"
        f"tls_host_override {NAME}\nauth plain\nuser {USER}\n"
        f"password {PASSWORD}\n")
    result = proc.run("mxb", ["msmtp", "-C", path, USER],
                      text=clients.message(token, USER, USER))
    assert result.ok, result
    result = clients.swaks("mxb", address, USER, token + "-swaks", port=465,
                           extra=("--tls-on-connect", "--auth", "LOGIN",
                                  "--auth-user", USER, "--auth-password",
                                  PASSWORD))
    assert result.ok, result
    proc.wait_until(lambda: any(token + "-swaks" in p.read_text() for p in Path(
        "/run/lab/mail/gw/kenji/Maildir").glob("*/*")), "the mail")
    for url in (f"pop3s://{NAME}/", f"imaps://{NAME}/INBOX"):
        port = 995 if url.startswith("pop3") else 993
        result = proc.run("mxb", [
            "curl", "-sS", "-v", "-m", "30", "-u", f"{USER}:{PASSWORD}",
            "--cacert", clients.TRUST, "--resolve",
            f"{NAME}:{port}:{host(family)}", url])
        assert result.ok, result
    box = tempfile.mktemp(dir=clients.TMP)
    path = clients.config(
        f"defaults\naccount default\nhost {address}\nport 995\ntls on\n"
        f"tls_starttls off\ntls_trust_file {clients.TRUST}\n"
        f"tls_host_override {NAME}\nuser {USER}\npassword {PASSWORD}\n"
        f"keep on\ndelivery mbox {box}\nuidls_file {box}.uidls\n")
    result = proc.run("mxb", ["mpop", "-C", path])
    assert result.ok, result
    assert token in Path(box).read_text()


# ---- certificates -----------------------------------------------------------

def names_of(sock):
    with sock:
        return sorted(name for _, name in sock.getpeercert()["subjectAltName"])


HOSTED = ["*.hosted.example", "hosted.example"]


@FAMILIES
@pytest.mark.parametrize("name, want", (
    (NAME, [NAME]), ("PUB.isp.example", [NAME]), ("a.hosted.example", HOSTED),
    ("hosted.example", HOSTED)))
def test_certificate_by_name(gate, published, family, name, want):
    assert names_of(dial(family, 993, name)) == want


@pytest.mark.parametrize("name", (None, "a.b.hosted.example",
                                  "elsewhere.example"))
def test_the_first_certificate_for_everybody_else(gate, published, name):
    context = trusting()
    context.check_hostname = False
    assert names_of(dial(4, 995, name, context=context)) == [NAME]


def test_a_reload_brings_a_new_certificate(gate, published):
    """While an IMAP session goes on with the old one."""
    with Secure(4, 993) as peer:
        assert peer.line().startswith("* OK")
        old = peer.sock.getpeercert()["serialNumber"]
        peer.send(f'a LOGIN {USER} "{PASSWORD}"')
        while not peer.line().startswith("a OK"):
            pass
        install("pub", "renewed")
        result = gate.cli("reload")
        assert result.ok, result

        def shown():
            with dial(4, 993) as sock:
                return sock.getpeercert()["serialNumber"]
        proc.wait_until(lambda: shown() != old, "the new certificate")
        peer.send("b NOOP")
        assert peer.line().startswith("b OK"), peer
        peer.send("c LOGOUT")
        assert "BYE" in peer.line(), peer
    proc.wait_until(lambda: len(gate.relays()) == 1, "the old relay to leave")


def test_a_bad_pair_leaves_the_running_one(gate, published):
    """A reload with somebody else's key is refused, with the files' names."""
    install("pub", "pub")
    shutil.copyfile(ca.DIR / "hosted.key", PAIR / "pub.key")
    since = gate.here()
    gate.expected = ["is not that of the certificate", "reload refused"]
    assert gate.cli("reload").code == 2     # the command looks first
    os.kill(gate.process.pid, signal.SIGHUP)
    line = gate.wait_text(since, "is not that of the certificate")
    assert str(PAIR / "pub.key") in line and str(PAIR / "pub.crt") in line
    gate.wait_text(since, "reload refused")
    assert names_of(dial(4, 993)) == [NAME]
    install("pub", "pub")
    (PAIR / "pub.key").chmod(0o640)
    result = gate.cli("check")
    assert f"expected chmod 600 {PAIR / 'pub.key'}" in result.out, result
    (PAIR / "pub.key").chmod(0o600)
    result = gate.cli("check")
    assert result.ok and f"{NAME} is published on" in result.out, result


# ---- tickets ----------------------------------------------------------------

def s_client(port, name=NAME, extra=(), ns="mxa", text="", family=4):
    return proc.run(ns, ["openssl", "s_client", "-connect",
                         f"{host(family)}:{port}", "-servername", name,
                         "-CAfile", clients.TRUST, "-ign_eof", *extra],
                    text=text)


@pytest.mark.parametrize("version", ("-tls1_2", "-tls1_3"))
def test_a_session_resumes_only_where_it_began(gate, published, version):
    """Not at another port, nor under another name, wildcard or not."""
    path = tempfile.mktemp(dir=clients.TMP)
    first = s_client(995, extra=(version, "-sess_out", path),
                     text="QUIT\r\n")
    assert "New, TLS" in first.out and os.path.exists(path), first

    def again(port=995, name=NAME):
        result = s_client(port, name, (version, "-sess_in", path),
                          text="QUIT\r\n" if port != 993 else "a LOGOUT\r\n")
        assert "+OK" in result.out or "* OK" in result.out, result
        return "Reused, TLS" in result.out
    assert again()
    assert not again(port=993)
    assert not again(port=995 + TOLD)
    assert not again(name="a.hosted.example")
    other = tempfile.mktemp(dir=clients.TMP)
    s_client(995, "a.hosted.example", (version, "-sess_out", other),
             text="QUIT\r\n")
    path = other
    assert again(name="a.hosted.example")
    assert not again(name="b.hosted.example")


def test_keys_of_tickets_are_replaced(gate, published):
    """A ticket lives while its key is the last or the one before; a relay that
    is killed takes none of them along."""
    config = daemon.CONF.read_text()
    path = tempfile.mktemp(dir=clients.TMP)

    def reused():
        result = s_client(995, extra=("-tls1_2", "-sess_in", path),
                          text="QUIT\r\n")
        assert "+OK" in result.out, result
        return "Reused, TLS" in result.out
    s_client(995, extra=("-tls1_2", "-sess_out", path), text="QUIT\r\n")
    assert reused()
    gate.expected = ["relay 0", "killed", "has ended"]
    old = gate.relays()
    os.kill(old[0], signal.SIGKILL)
    proc.wait_until(lambda: gate.relays() and gate.relays() != old,
                    "another relay")
    proc.wait_until(lambda: "Reused" in s_client(
        995, extra=("-tls1_2", "-sess_in", path), text="QUIT\r\n").out,
        "its keys to be those of before")
    try:
        gate.reconfigure(config.replace(
            "publish = (", "tls = { ticket_time = 10; };\npublish = ("))
        # the client itself would give up a ticket that is too old
        proc.wait_until(lambda: not reused(), "two periods to pass", 40, 1)
    finally:
        gate.reconfigure(config)


# ---- who it is --------------------------------------------------------------

@FAMILIES
def test_the_server_behind_is_told_the_address(gate, published, family):
    """And, by Dovecot's own rule, that the password came inside TLS."""
    with Secure(family, 993 + TOLD) as peer:
        source = peer.address[0]
        assert "LOGINDISABLED" not in peer.line(), peer
        peer.send(f'a LOGIN {USER} "{PASSWORD}"')
        while not (line := peer.line()).startswith("a "):
            pass
        assert line.startswith("a OK"), peer
        peer.send("b LOGOUT")
        peer.end()
    proc.wait_until(lambda: f"rip={source}," in proc.tail(inner.LOG, 30),
                    "the address in Dovecot's log")
    with Secure(family, 465 + TOLD) as peer:
        peer.line()
        assert peer.ask("EHLO pc")[0].startswith("250"), peer
        peer.ask("QUIT")
    proc.wait_until(lambda: re.search(
        rf"postfix/told.*connect from .*\[{re.escape(source)}\]",
        proc.tail(published.log, 30)), "the address in Postfix's log")


@pytest.mark.parametrize("verb", ("XCLIENT ADDR=192.0.2.1", "XFORWARD NAME=x",
                                  "BURL imap://x"))
def test_nobody_speaks_to_postfix_as_if_trusted(gate, published, verb):
    with Secure(4, 465) as peer:
        peer.line()
        peer.ask("EHLO pc")
        assert peer.ask(verb)[0].startswith("502"), peer
        assert peer.ask("MAIL FROM:<a@b.example>")[0].startswith("530"), peer
        peer.ask("QUIT")


# ---- STARTTLS ---------------------------------------------------------------

CLEAR = pytest.mark.parametrize("offset", (0, TOLD), ids=("bare", "told"))


@FAMILIES
@CLEAR
def test_pop3_by_stls(gate, published, family, offset):
    """No login is shown or taken before TLS; everything is behind it."""
    since = gate.here()
    with Peer("mxa", net.GW_UP[family], 110 + offset) as peer:
        assert peer.line() == f"+OK {NAME} ready", peer
        peer.send("CAPA")
        shown = peer.dotted()
        assert "STLS" in shown and "USER" not in shown, peer
        assert not any(line.startswith("SASL") for line in shown), peer
        peer.send(f"USER {USER}")
        assert peer.line().startswith("-ERR [SYS/PERM]"), peer
        peer.send("STLS")
        assert peer.line().startswith("+OK"), peer
        peer.starttls(NAME)
        peer.send("CAPA")
        shown = peer.dotted()
        assert "STLS" not in shown and "USER" in shown, peer
        assert any(line.startswith("SASL") for line in shown), peer
        peer.send(f"USER {USER}")
        assert peer.line().startswith("+OK"), peer
        peer.send(f"PASS {PASSWORD}")
        assert peer.line().startswith("+OK"), peer
        peer.send("QUIT")
        peer.line()
    event = gate.wait_event(since, "publish")
    assert (event["tls"], event["stage"]) == ("1.3", "session"), event


@FAMILIES
@CLEAR
def test_imap_by_starttls(gate, published, family, offset):
    with Peer("mxa", net.GW_UP[family], 143 + offset) as peer:
        greeting = peer.line()
        assert " STARTTLS LOGINDISABLED]" in greeting, peer
        assert "AUTH=" not in greeting, peer
        peer.send(f'a LOGIN {USER} "x"')
        assert peer.line().startswith("a NO [PRIVACYREQUIRED]"), peer
        peer.send("b STARTTLS")
        assert peer.line().startswith("b OK"), peer
        peer.starttls(NAME)
        peer.send("c CAPABILITY")
        shown = peer.line()
        assert "LOGINDISABLED" not in shown and "STARTTLS" not in shown, peer
        assert "AUTH=PLAIN" in shown, peer
        assert peer.line().startswith("c OK"), peer
        peer.send(f'd LOGIN {USER} "{PASSWORD}"')
        while not (line := peer.line()).startswith("d "):
            pass
        assert line.startswith("d OK"), peer
        peer.send("e LOGOUT")
        peer.end()


@FAMILIES
@CLEAR
def test_submission_by_starttls(gate, published, family, offset):
    token = f"starttls-{family}-{offset}-{os.getpid()}"
    with Peer("mxa", net.GW_UP[family], 587 + offset) as peer:
        assert peer.line() == f"220 {NAME} ESMTP", peer
        shown = peer.ask("EHLO pc")
        assert shown[-1] == "250 STARTTLS", peer
        assert not any("AUTH" in line for line in shown), peer
        for verb in ("AUTH PLAIN AGEAYg==", "MAIL FROM:<a@b.example>"):
            assert peer.ask(verb)[0].startswith("530 5.7.0 Must"), peer
        assert peer.ask("STARTTLS")[0].startswith("220"), peer
        peer.starttls(NAME)
        shown = peer.ask("EHLO pc")
        assert any(line.startswith("250-AUTH") or line.startswith("250 AUTH")
                   for line in shown), peer
        assert not any("STARTTLS" in line for line in shown), peer
        peer.ask("QUIT")
    result = clients.swaks("mxb", net.GW_UP[family], USER, token,
                           port=587 + offset, extra=(
                               "-tls", "--auth", "PLAIN", "--auth-user", USER,
                               "--auth-password", PASSWORD))
    assert result.ok, result


def test_programs_by_starttls(gate, published):
    """curl, mpop, msmtp and Python, each insisting on TLS."""
    for url, port in ((f"pop3://{NAME}/", 110), (f"imap://{NAME}/INBOX", 143)):
        result = proc.run("mxb", [
            "curl", "-sS", "-v", "-m", "30", "--ssl-reqd", "-u",
            f"{USER}:{PASSWORD}", "--cacert", clients.TRUST, "--resolve",
            f"{NAME}:{port}:{host(4)}", url])
        assert result.ok, result
    result = clients.msmtp("mxb", net.GW_UP[6], NAME, USER, "msmtp-starttls",
                           auth="plain", port=587)
    assert result.ok, result
    box = tempfile.mktemp(dir=clients.TMP)
    path = clients.config(
        f"defaults\naccount default\nhost {net.GW_UP[4]}\nport 110\ntls on\n"
        f"tls_starttls on\ntls_trust_file {clients.TRUST}\n"
        f"tls_host_override {NAME}\nuser {USER}\npassword {PASSWORD}\n"
        f"keep on\ndelivery mbox {box}\nuidls_file {box}.uidls\n")
    result = proc.run("mxb", ["mpop", "-C", path])
    assert result.ok, result


def with_imaplib():
    class Imap(imaplib.IMAP4):
        def _create_socket(self, timeout):
            return socket.create_connection((net.GW_UP[4], self.port), 20)
    imap = Imap(NAME, 143)
    imap.starttls(trusting())
    imap.login(USER, PASSWORD)
    imap.logout()


def test_imaplib_by_starttls(gate, published):
    inside(with_imaplib)


SWITCH = {110: ("STLS\r\n", "USER evil\r\nPASS evil\r\n"),
          143: ("a STARTTLS\r\n", "b NOOP\r\nc CAPABILITY\r\n"),
          587: ("STARTTLS\r\n", "RSET\r\nEHLO evil\r\n")}


@FAMILIES
@pytest.mark.parametrize("port", sorted(SWITCH))
def test_commands_behind_the_switch(gate, published, port, family):
    """In the same segment: the session ends, and nothing is executed in TLS."""
    verb, more = SWITCH[port]
    since = gate.here()
    with Peer("mxa", net.GW_UP[family], port) as peer:
        peer.line()
        if port == 587:
            peer.ask("EHLO pc")
        peer.send((verb + more).encode())
        how, got = peer.end()
        assert how in ("eof", "reset"), peer
        assert not got.startswith((b"+OK", b"a OK", b"220")), peer
    gate.wait_event(since, "publish", reason="tls-injection")


@pytest.mark.parametrize("port", sorted(SWITCH))
def test_commands_behind_our_answer(gate, published, port):
    """Where a hello belongs: no handshake, and nothing said in clear."""
    verb, more = SWITCH[port]
    since = gate.here()
    with Peer("mxa", net.GW_UP[4], port) as peer:
        peer.line()
        if port == 587:
            peer.ask("EHLO pc")
        peer.send(verb.encode())
        assert peer.line().startswith(("+OK", "a OK", "220")), peer
        peer.send(more.encode())
        how, got = peer.end()
        assert how in ("eof", "reset") and b"OK" not in got, peer
    gate.wait_event(since, "publish", reason="client-tls")


def test_a_login_in_clear_where_the_operator_says_so(gate, published):
    config = daemon.CONF.read_text()
    try:
        gate.reconfigure(config.replace("certificates =",
                                        "require_tls = false; certificates ="))
        with Peer("mxa", net.GW_UP[4], 110) as peer:
            peer.line()
            for line in (f"USER {USER}", f"PASS {PASSWORD}"):
                peer.send(line)
                assert peer.line().startswith("+OK"), peer
        # Dovecot knows that this one is not in TLS, and from far away
        with Peer("mxa", net.GW_UP[4], 143 + TOLD) as peer:
            assert "LOGINDISABLED" in peer.line(), peer
            peer.send("a STARTTLS")
            assert peer.line().startswith("a OK"), peer
            peer.starttls(NAME)
            peer.send(f'b LOGIN {USER} "{PASSWORD}"')
            while not (line := peer.line()).startswith("b "):
                pass
            assert line.startswith("b OK"), peer
    finally:
        gate.reconfigure(config)


# ---- what goes wrong --------------------------------------------------------

@FAMILIES
@pytest.mark.parametrize("data", (b"EHLO pc\r\n", b"GET / HTTP/1.1\r\n\r\n",
                                  b"\x16\x03\x01\xff\xff" + b"\0" * 2000,
                                  bytes(range(256)) * 20),
                         ids=("smtp", "http", "huge", "binary"))
def test_garbage_instead_of_a_hello(gate, published, family, data):
    since = gate.here()
    with Peer("mxa", net.GW_UP[family], 465) as peer:
        peer.send(data)
        peer.sock.shutdown(socket.SHUT_WR)
        how, got = peer.end()
        assert how in ("eof", "reset"), peer
        assert not got.startswith(b"220"), peer
    event = gate.wait_event(since, "publish")
    assert event["reason"] in ("client-tls", "client-eof", "client-reset"), event


def test_protocols_of_other_servers_are_refused(gate, published):
    context = trusting()
    context.set_alpn_protocols(["http/1.1"])
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        dial(4, 993, context=context)
    context.set_alpn_protocols(["h2", "imap"])
    with dial(4, 993, context=context) as sock:
        assert sock.selected_alpn_protocol() == "imap"


def test_a_slow_handshake_ends_in_time(gate, published):
    """An octet a second: ten seconds as a whole."""
    since, began = gate.here(), time.monotonic()
    with Peer("mxa", net.GW_UP[4], 995, timeout=1) as peer:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 99
        how, sent = "timeout", 0
        while how == "timeout" and time.monotonic() - began < 20:
            try:
                peer.send(hello[sent:sent + 1])
            except OSError:
                break
            sent += 1
            how, _ = peer.end()
        assert 8 < time.monotonic() - began < 15, peer
    gate.wait_event(since, "publish", reason="client-timeout")


def test_the_server_behind_is_down(gate, published):
    """Each protocol's own word for "later": no program drops its password."""
    published.stop_dovecot()
    try:
        with Secure(4, 995) as peer:
            assert peer.line().startswith("-ERR [SYS/TEMP]"), peer
        with Secure(6, 993) as peer:
            assert peer.line().startswith("* BYE [UNAVAILABLE]"), peer
    finally:
        published.raise_dovecot()
    config = daemon.CONF.read_text()
    try:
        gate.reconfigure(config.replace(f'_to = {inner.BARE["submission"]}',
                                        "_to = 9"))
        gate.apply()
        with Secure(4, 465) as peer:
            assert peer.line().startswith("220"), peer
            assert peer.ask("EHLO pc")[0].startswith("421"), peer
    finally:
        gate.reconfigure(config)
        gate.apply()


def test_too_many_of_one_client(gate, published):
    config, socks = daemon.CONF.read_text(), []
    try:
        gate.reconfigure(config.replace(
            "certificates =", "max_per_line = 3; certificates =", 1))
        since = gate.here()
        socks = [dial(4, 995) for _ in range(3)]
        for sock in socks:
            assert sock.recv(100).startswith(b"+OK")
        with pytest.raises(OSError):
            dial(4, 995).recv(1)
        gate.wait_event(since, "publish", reason="max-per-line")
    finally:
        for sock in socks:
            sock.close()
        gate.reconfigure(config)


def test_a_place_that_is_taken(gate, published):
    """A reload that wants it is refused, and says who has it."""
    config, since = daemon.CONF.read_text(), gate.here()
    taken = net.inside("gw", socket.create_server, (net.GW_UP[4], 2993))
    gate.expected = ["is in use by", "reload refused"]
    try:
        daemon.CONF.write_text(config.replace("imaps = 993;", "imaps = 2993;"))
        assert not gate.cli("reload").ok
        line = gate.wait_text(since, "is in use by")
        assert f"{net.GW_UP[4]}:2993" in line, line
        assert re.search(r"pid \d+|user root", line), line
    finally:
        taken.close()
        daemon.CONF.write_text(config)
    assert names_of(dial(4, 993)) == [NAME]


def test_only_the_relays_hold_keys(gate, published):
    """The keys' memory is open in the parent and nowhere else."""
    holders = {pid for pid in gate.pids() for name in
               daemon.links(pid).values() if "sallyport-keys" in name}
    assert holders == {gate.process.pid} or holders == {gate.pids()[0]}


def test_rules_are_as_they_should_be(gate, published):
    """The jail has a rule for each port behind, and verify knows them."""
    assert gate.rules("verify").ok
    jail = proc.need("gw", ["iptables", "-S", "sallyport_jail"])
    for port in (*inner.BARE.values(), *inner.PROXY.values()):
        assert re.search(rf"-d 127.0.0.1/32 -p tcp .*--dport {port} .*RETURN",
                         jail), jail


def test_nothing_but_published(gate, published):
    """One class that is only watched, no server, and a mailbox in front of it."""
    config = daemon.CONF.read_text()
    try:
        gate.reconfigure(
            'subscribers = ( { class = "own"; prefixes = ( "198.18.0.0/16" );\n'
            '  port25 = "watch"; } );\ngateway = { workers = 1; grace = 2; };\n'
            'nfq = { lines = 20000; };\n' + PUBLISH)
        with Secure(6, 993) as peer:
            assert peer.line().startswith("* OK"), peer
            peer.send(f'a LOGIN {USER} "{PASSWORD}"')
            while not (line := peer.line()).startswith("a "):
                pass
            assert line.startswith("a OK"), peer
        with Peer("dynamic", net.GW_UP[4], 110) as peer:
            assert peer.line().startswith("+OK"), peer
    finally:
        gate.reconfigure(config)


@pytest.fixture
def two_relays(gate, published):
    """The same with two relay processes."""
    config = daemon.CONF.read_text()
    gate.restart(daemon.quick(workers=2) + PUBLISH)
    yield gate
    gate.restart(config)


@pytest.mark.parametrize("version", ("-tls1_2", "-tls1_3"))
def test_any_relay_takes_a_ticket(two_relays, published, version):
    """Connections are spread by the kernel: twelve, and every one resumes."""
    path, since = tempfile.mktemp(dir=clients.TMP), two_relays.here()
    s_client(995, extra=(version, "-sess_out", path), text="QUIT\r\n")
    for _ in range(12):
        result = s_client(995, extra=(version, "-sess_in", path),
                          text="QUIT\r\n")
        assert "+OK" in result.out and "Reused, TLS" in result.out, result

    def slots():
        # proxyd/relay.c: 8 bits of the id, above the 20 of its four last digits
        digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        return {(digits.index(event["id"][-6]) * 32
                 + digits.index(event["id"][-5])) & 255
                for event in map(daemon.parse, two_relays.lines(since))
                if event}
    proc.wait_until(lambda: slots() == {0, 1}, "both relays to have had some")


def test_large_mail_both_ways(gate, published):
    """Three million octets in, and out again as they were."""
    token = f"large-{os.getpid()}"
    body = "".join(f"{n:07} " + "x" * 60 + "\n" for n in range(45000))

    class Smtp(smtplib.SMTP_SSL):
        def _get_socket(self, name, port, timeout):
            return self.context.wrap_socket(socket.create_connection(
                (net.GW_UP[6], port), 20), server_hostname=NAME)

    def send():
        with Smtp(NAME, 465, "pc.example", context=trusting()) as s:
            s.login("yuki@isp.example", PASSWORD)
            s.sendmail(USER, ["yuki@isp.example"], clients.message(
                token, USER, "yuki@isp.example", body))
    inside(send)
    maildir = Path("/run/lab/mail/gw/yuki/Maildir/new")
    proc.wait_until(lambda: list(maildir.glob("*")), "the mail to arrive", 30)
    result = proc.run("mxb", [
        "curl", "-sS", "-m", "60", "-u", f"yuki@isp.example:{PASSWORD}",
        "--cacert", clients.TRUST, "--resolve", f"{NAME}:995:{host(6)}",
        f"pop3s://{NAME}/1"], timeout=70)
    assert result.ok, result.out[-300:]
    assert result.out.replace("\r\n", "\n").rstrip("\n").endswith(
        body.rstrip("\n"))
