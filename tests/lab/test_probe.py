"""sallyport probe: what servers answer on their secure ports, in one polite
connection each, and what it says of those that are not polite."""

import json
import re
import ssl

import net
import odd
import pytest

PORTS = (587, 465, 993, 995)


def probe(gate, *words, status=None):
    result = gate.cli("--json", "probe", *words, timeout=60)
    if status is not None:
        assert result.code == status, result
    return {entry["address"]: entry for entry in json.loads(result.out)}


def outcomes(entry):
    return {port["port"]: port["outcome"] for port in entry["ports"]}


def detail(entry, number):
    return next(p for p in entry["ports"] if p["port"] == number)["detail"]


def test_a_listed_server(gate):
    """By name and by address; both families; the real certificate."""
    found = probe(gate, "mail.isp.example", status=0)
    assert set(found) == {net.address("isp", 4), net.address("isp", 6)}
    for entry in found.values():
        assert outcomes(entry) == dict.fromkeys(PORTS, "valid"), entry
        assert entry["name_by"] == "servers" and entry["covered"]
        assert all("mail.isp.example" in port["names"].split()
                   and port["until"] > 0 for port in entry["ports"])
    again = probe(gate, net.address("isp", 4), status=0)
    assert list(again.values())[0]["name"] == "mail.isp.example"
    text = gate.cli("probe", net.address("isp", 4)).out
    assert re.search(r"465  answers, certificate valid for mail\.isp\.example "
                     r"until 20\d\d-\d\d-\d\d", text), text


def test_closed_ports_and_reverse_dns(gate):
    address = net.address("mxa", 4)
    found = probe(gate, address, status=1)[address]
    assert outcomes(found) == dict.fromkeys(PORTS, "refused")
    assert (found["name"], found["name_by"]) == ("mx.alpha.example",
                                                 "reverse-dns")
    assert not found["covered"]


def test_another_name_and_nobodys_name(gate):
    """A certificate for odd.isp.example under a name that somebody says."""
    def script(server, conn):
        odd.say(conn, b"220 odd ESMTP\r\n")
        server.read(conn)

    with odd.OddServer(465, script, which=0):
        found = probe(gate, "ns.lab.example", status=1)
    for entry in found.values():
        assert outcomes(entry)[465] == "other-name", entry
        assert entry["name_by"] == "operator"
    with odd.OddServer(465, script) as server:
        found = probe(gate, "odd.isp.example", status=0)
        assert {outcomes(e)[465] for e in found.values()} == {"valid"}
    # greeted, then QUIT: not a word more
    assert server.seen in (b"QUIT\r\n", b"QUIT\r\n" * 2), server.seen


def self_signed(world, tmp_path):
    import ca
    ca.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
               "/CN=odd.isp.example", "-keyout", tmp_path / "key",
               "-out", tmp_path / "crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    return context


def test_a_certificate_nobody_signed(gate, world, tmp_path):
    context = self_signed(world, tmp_path)

    def script(server, conn):
        server.read(context.wrap_socket(conn, server_side=True))

    with odd.OddServer(993, script, tls=False):
        found = probe(gate, "odd.isp.example", status=1)
    for entry in found.values():
        assert outcomes(entry)[993] == "untrusted", entry
        assert "self" in detail(entry, 993), entry


HOSTILE = {
    "garbage": ([b"\x00\xff\x1b[31m" * 8 + b"\r\n"], "does not speak SMTP"),
    "endless line": ([b"220 " + b"x" * 40000], "endless line"),
    "endless reply": ([b"220-on and on\r\n" * 500], "does not speak SMTP"),
    "refusal": ([b"554 5.7.1 go away\r\n"], "answers 554"),
    "no STARTTLS": ([b"220 odd\r\n", b"250-odd\r\n250 STARTTLSX\r\n"],
                    "STARTTLS is not offered"),
    "no, after all": ([b"220 odd\r\n", b"250 STARTTLS\r\n", b"454 no\r\n"],
                      "answers 454"),
    "injection": ([b"220 odd\r\n", b"250 STARTTLS\r\n",
                   b"220 go\r\n250 already here\r\n"], "clear text behind"),
    "hangs up": ([b""], "closed the connection"),
    "no handshake": ([b"220 odd\r\n", b"250 STARTTLS\r\n",
                      b"220 go\r\n", b"HTTP/1.0 400 what?\r\n\r\n"], None),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_submission(gate, kind):
    answers, words = HOSTILE[kind]

    def script(server, conn):
        for at, answer in enumerate(answers):
            if at > 0:
                server.read(conn)
            odd.say(conn, answer)
        if answers != [b""]:
            server.read(conn)

    with odd.OddServer(587, script, tls=False) as server:
        found = probe(gate, "odd.isp.example", status=1)
    for entry in found.values():
        assert outcomes(entry)[587] == "no-tls", entry
        assert words is None or words in detail(entry, 587), entry
        assert detail(entry, 587).isprintable()
    assert b"AUTH" not in server.seen and b"MAIL" not in server.seen


def test_silence_ends(gate):
    """Two silent ports of two addresses, and none of them for ever."""
    def script(server, conn):
        while server.read(conn):
            pass

    with odd.OddServer(587, script, tls=False), \
            odd.OddServer(465, script, tls=False):
        found = probe(gate, "odd.isp.example", status=1)
    for entry in found.values():
        assert outcomes(entry) == {587: "silent", 465: "silent",
                                   993: "refused", 995: "refused"}, entry
        assert "nothing more" in detail(entry, 465), entry


@pytest.mark.parametrize("address", ("127.0.0.1", "10.1.2.3", "::1",
                                     "fe80::1", net.GW_UP[4], net.GW_UP[6]))
def test_where_no_relay_may_go(gate, address):
    found = probe(gate, address, status=1)[address]
    assert outcomes(found) == dict.fromkeys(PORTS, "forbidden"), found


@pytest.mark.parametrize("words", ((), ("--deep", "203.0.113.80"),
                                   ("no.such.example",),
                                   ("203.0.113.80:25",), ("x" * 300,)))
def test_mistakes(gate, words):
    result = gate.cli("probe", *words, timeout=60)
    assert result.code == 2, result
    assert result.out.startswith("sallyport: probe: "), result
