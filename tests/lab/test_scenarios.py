"""scenarios/*.mp, played by tools/mailpeer through the gateway.

A scenario's own lines say what it is about and what it needs:

    #: upstream submit        the ways to a server it is played over (WAYS)
    #: pieces whole           not an octet at a time, which is another scenario
    #: log submit reason=...  an event of that kind, with these fields, for
                              each of its plays

Each is played over IPv4 and IPv6, whole and an octet at a time; $open is the
file of open/ that brings a session to where its way begins.
"""

import re
from pathlib import Path

import pytest

import ca
import daemon
import net
import proc
from test_peers import FAMILIES, PLAIN

HERE = Path(__file__).resolve().parent / "scenarios"
MAILPEER = daemon.BUILD / "mailpeer"

# A way → whose line, which server is dialled: its host, address, name, and the
# certificate it shows.
TLS = ("legacy", ("dns", 1), "odd.isp.example", "odd")
CLEAR = ("legacy", ("dns", 0), "submit.isp.example", "submit")
WAYS = {
    "submit-tls": TLS, "submit-starttls": CLEAR,
    "pop3-tls": TLS, "pop3-plain": CLEAR,
    "imap-tls": TLS, "imap-plain": CLEAR,
    "relay": ("fixed", ("dns", 1), "odd.isp.example", "odd"),
    "block": ("second", ("mxa", 0), "mx.alpha.example", "mxa"),
}


def config():
    """One server by TLS; one by STARTTLS and, for its literal addresses, in
    clear."""
    literal = ", ".join(f'"{net.address("dns", family)}"'
                        for family in (4, 6))
    return daemon.quick().replace('  { name = "odd.isp.example";', f"""\
  {{ name = "submit.isp.example"; submission = "starttls:587";
    pop3 = "plain:1110"; imap = "plain:1143"; addresses = ( {literal} ); }},
  {{ name = "odd.isp.example";""")


@pytest.fixture(scope="module", name="between")
def fixture_between(world, running):
    del world
    running.restart(config())
    yield running
    running.restart(daemon.quick())


def said(path, word):
    """The texts behind `#: word` of a scenario."""
    return re.findall(rf"^#: {word} (.*)$", path.read_text(), re.M)


def ways(path):
    return [way for want in said(path, "upstream")[0].split()
            for way in WAYS if way == want or way.startswith(want + "-")]


def play(path, way, family, octets):
    line, (host, which), name, certificate = WAYS[way]
    origin = net.address(host, family, which)
    settings = {"origin": f"[{origin}]" if family == 6 else origin,
                "name": name, "cert": ca.DIR / f"{certificate}.pem",
                "plain": PLAIN, "open": HERE / "open" / f"{way}.mp"}
    if way == "block":
        settings["line"] = net.fresh_line(family)
    more = [word for key, value in settings.items()
            for word in ("-D", f"{key}={value}")]
    more += ["-b", str(octets)] if octets else []
    return proc.run("gw", [MAILPEER, "-n", f"client={line}", "-n",
                           f"server={host}", *more, path])


def log_of(text):
    """`submit reason=done`: a kind and fields."""
    kind, *fields = text.split()
    return kind, dict(field.split("=", 1) for field in fields)


@FAMILIES
@pytest.mark.parametrize("path", sorted(HERE.glob("*.mp")),
                         ids=lambda path: path.stem)
def test_scenario(between, gate, path, family):
    assert ways(path), "no way to play it"
    for way in ways(path):
        for octets in (0,) if said(path, "pieces") else (0, 1):
            since = gate.here()
            result = play(path, way, family, octets)
            assert result.ok, f"{way}, {octets or 'all'} at a time: " \
                f"{result.code}\n{result.out}"
            for text in said(path, "log"):
                kind, fields = log_of(text)
                gate.wait_event(since, kind, **fields)
    del between


# ---- mailpeer itself ------------------------------------------------------

OPEN = """\
server listen 127.0.0.1:2599
client connect 127.0.0.1:2599
server accept
"""
# Steps, exit status, what is said.
ITSELF = {
    "well": ("server send hi\nclient expect h*\nclient shut\n"
             "server end eof\nserver reset\nclient end reset", 0, ""),
    "repeated": ("client raw *3 a\\x2e\nserver exact a.a.a.", 0, ""),
    "variable": ("define word a b\nserver send $word\nclient expect a b", 0,
                 ""),
    "another line": ("server send hi\nclient expect ho", 1,
                     "client expect ho\n    but the line is another"),
    "other octets": ("server raw hi\nclient exact ho", 1,
                     "but the octets are others"),
    "nothing": ("client expect hi", 1, "but nothing came in time"),
    "half a line": ("server raw hi\nclient expect hi", 1,
                    "client < hi\n"),
    "unforeseen": ("server raw hi\\r\\nho\\r\\n\nclient expect hi\n"
                   "client send x", 1, "but this was not expected"),
    "unread": ("server send hi\nserver close\nclient end", 1,
               "but this was not expected"),
    "unread at the end": ("server send hi", 1, "but this was not expected"),
    "did not end": ("client end", 1, "but nothing came in time"),
    "another end": ("server close\nclient end reset", 1,
                    "but the other side has closed it"),
    "received": ("server send secret\nclient expect *\nclient never cre", 1,
                 "but it was received"),
    "bare LF": ("server raw hi\\n\nclient expect hi", 1, "ends in a bare LF"),
    "nobody": ("other listen 127.0.0.1:2598\nother accept", 1,
               "but nobody has connected"),
    "refused": ("other connect 127.0.0.1:1", 1, "but connect: "),
    "no TLS": ("client tls name\n", 1, "but TLS: not in time"),
    "no verb": ("client jump", 2, ":4: no such verb: jump"),
    "no variable": ("client send $nothing", 2, ":4: no such variable: $noth"),
    "no escape": ("client send \\q", 2, ":4: no such escape"),
    "no text": ("client connect", 2, ":4: this verb needs a text"),
    "a text": ("client close now", 2, ":4: this verb takes no text"),
    "itself": ("include itself.mp", 2, "too many files include each other"),
}


@pytest.mark.parametrize("name", sorted(ITSELF))
def test_mailpeer(world, name, tmp_path):
    """What differs is said, where and how; a wrong file is no scenario."""
    del world
    steps, code, words = ITSELF[name]
    path = tmp_path / f"{name.replace(' ', '-')}.mp"
    path.write_text(OPEN + steps + "\n")
    for octets in ((), ("-b", "1")):
        result = proc.run("dns", [MAILPEER, "-t", "1", *octets, path])
        assert result.code == code, result.out
        assert words in result.out and (code or not result.out), result.out


def test_mailpeer_usage(world):
    del world
    help_ = proc.run("dns", [MAILPEER, "--help"])
    assert help_.ok and "PEER VERB TEXT" in help_.out
    for args in ([], ["-t", "0", "x"], ["-D", "x", "x"], ["-b", "-1", "x"],
                 ["-q"], ["/nonexistent.mp"]):
        assert proc.run("dns", [MAILPEER, *args]).code == 2, args
