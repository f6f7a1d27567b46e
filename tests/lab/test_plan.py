"""sallyport plan: what was seen of a watched class, exactly, and what the
servers that its lines dial would answer."""

import json
import os
import signal
import socket

import net
import pytest
from peer import Peer
from test_first import WATCHING, counts, greeting

import daemon
import proc

# Bots by the plan's measure, and few enough that no set of the place of
# destinations overflows (32 of eight): what is named below would be pushed out.
BOT_DESTINATIONS = 72


@pytest.fixture
def watching(running):
    running.restart(WATCHING)
    running.wait_all()
    counts(running)
    yield running
    running.restart(daemon.quick())


def plan(gate, *words):
    result = gate.cli("--json", "plan", *words, timeout=60)
    assert result.code == 0, result
    answer = json.loads(result.out)
    return {c["class"]: c for c in answer["classes"]}, answer


def dial(line, source, destination):
    """A first packet, whatever becomes of it."""
    def body():
        sock = socket.socket(socket.AF_INET6 if ":" in source
                             else socket.AF_INET)
        sock.setblocking(False)
        sock.bind((source, 0))
        sock.connect_ex((destination, 25))
        sock.close()
    net.inside(line, body)


def people_and_a_bot(family):
    """3 connections of one line, 1 of another, and many of a third."""
    one, other, bot = (net.fresh_line(family) for _ in range(3))
    for _ in range(3):
        greeting("second", "mxa", family, source_address=(one, 0))
    greeting("second", "mxb", family, source_address=(other, 0))
    for _ in range(2):
        dial("second", other, net.address("dns", family, 1))  # odd.isp.example
    if family == 6:
        for i in range(BOT_DESTINATIONS):
            dial("second", bot, f"2001:db8:{0x1000 + i:x}::25")


def wait_attempts(gate, want):
    def look():
        attempts = plan(gate)[0]["dynamic"]["attempts"]
        return sum(attempts.values()) == want and attempts
    return proc.wait_until(look, f"{want} attempts in the plan", 10)


def test_numbers_are_what_happened(watching):
    for family in (4, 6):
        people_and_a_bot(family)
    wait_attempts(watching, 12 + BOT_DESTINATIONS)
    classes, answer = plan(watching)
    seen = classes["dynamic"]
    assert (seen["port25"], seen["now"], seen["enforce"]) == (
        "block", "watch", "watch")
    assert seen["lines"] == {"calm": 4, "between": 0, "bot": 1}
    assert seen["attempts"] == {"calm": 12, "between": 0,
                                "bot": BOT_DESTINATIONS}
    assert seen["destination_attempts"] == 12 + BOT_DESTINATIONS
    to = {d["address"]: d for d in seen["destinations"]}
    for family in (4, 6):
        mxa = to[net.address("mxa", family)]
        assert (mxa["attempts"], mxa["error"], mxa["lines"]) == (3, 0, 1)
        assert mxa["server"] is None
        odd = to[net.address("dns", family, 1)]
        assert odd["server"] == "odd.isp.example" and odd["submission"]
    assert seen["destinations"][0]["attempts"] == 3
    assert 0 < answer["since"] <= seen["first"] <= seen["last"]
    text = watching.cli("plan", "dynamic").out
    assert "would bring block to:" in text and "not in `servers'" in text
    assert "class legacy" not in text
    assert "class legacy" in watching.cli("plan").out


def test_numbers_outlive_nfq_and_a_reload(watching):
    people_and_a_bot(4)
    wait_attempts(watching, 6)
    old = watching.named("sallyport:nfq")
    since = watching.here()
    os.kill(old[0] if isinstance(old, list) else old, signal.SIGKILL)
    watching.wait_text(since, "nfq")
    proc.wait_until(lambda: watching.status()["nfq"]["restarts"] == 1
                    and watching.status()["nfq"]["pid"] > 0,
                    "another nfq", 10)
    counts(watching)
    people_and_a_bot(4)
    wait_attempts(watching, 12)
    assert watching.cli("reload").ok
    counts(watching)
    people_and_a_bot(4)
    wait_attempts(watching, 18)
    seen = plan(watching)[0]["dynamic"]
    assert seen["destination_attempts"] == 18
    mxa = [d for d in seen["destinations"]
           if d["address"] == net.address("mxa", 4)]
    assert (mxa[0]["attempts"], mxa[0]["lines"]) == (9, 3)


def test_what_their_servers_answer(watching):
    people_and_a_bot(4)
    wait_attempts(watching, 6)
    answer = plan(watching, "--probe=2")[1]
    assert len(answer["probe"]) == 2
    assert answer["probe"][0]["address"] == net.address("mxa", 4)
    assert {p["outcome"] for p in answer["probe"][0]["ports"]} == {"refused"}
    text = watching.cli("plan", "--probe", timeout=60).out
    assert "secure ports of the 3 destinations dialled most:" in text
    assert "465  refused" in text


SHADOW = daemon.quick().replace("subscribers = (", """subscribers = (
  { class = "shadow"; prefixes = ( "198.18.127.0/24" ); port25 = "relay"; },""",
                                1).replace(
    "smtp = {", "smtp = {\n  read_replies = true;", 1) + """
zombie = { unknown_user = { count = "log"; }; refusal = { count = "log"; }; };
"""


def tell(number, to, sessions):
    """Sessions of a line of the relayed class, each with one recipient."""
    for _ in range(sessions):
        with Peer("second", net.address("mxa", 4), 25,
                  source_address=(f"198.18.127.{number}", 0)) as peer:
            peer.reply()
            for command in ("EHLO pc.example", "MAIL FROM:<kenji@isp.example>",
                            f"RCPT TO:<{to}@alpha.example>", "QUIT"):
                peer.ask(command)


def test_shadow_of_the_detector_beside_what_servers_did(running):
    """Zombies in a class that only relays: refused ones, one that servers
    like, one that nobody can read; and one that is none and is refused."""
    running.restart(SHADOW)
    running.wait_all()
    assert "detector: 0 zombies\n" in running.cli("plan", "shadow").out
    for number, to, sessions in ((1, "nobody", 9), (2, "info", 6),
                                 (3, "info", 1), (4, "nobody", 12),
                                 (5, "sales", 7)):
        tell(number, to, sessions)
    for number in (1, 2, 3):
        assert running.cli("zombie", "add", f"198.18.127.{number}").ok

    def shadow():
        return plan(running)[0]["shadow"]["shadow"]
    proc.wait_until(lambda: shadow()["accepted"] == 6 and shadow()["refused"]
                    == 9 and shadow()["others"] == 2, "the outcomes", 10)
    told = shadow()
    assert (told["named"], told["judged"], told["innocent"],
            told["missed"]) == (3, 2, 1, 1), told
    one, = told["lines"]
    assert (one["line"], one["accepted"], one["refused"], one["pinned"]) == (
        "198.18.127.2", 6, 0, True), one
    text = running.cli("plan", "shadow").out
    assert ("detector: 3 zombies; servers refused 60 % of what 2 of them tried"
            in text), text
    assert "of 1 too little could be read" in text, text
    assert ("1 of them looks innocent, servers took half or more: 198.18.127.2 "
            "(6 of 6, named by an operator)\n") in text, text
    assert "1 of 2 other lines were refused nine times in ten" in text, text
    # a class that blocks has no such thing, nor has one whose replies are not
    # read
    assert plan(running)[0]["dynamic"]["shadow"] is None
    for off in (("read_replies = true;", ""), ('"log"', '"off"')):
        running.reconfigure(SHADOW.replace(*off))
        assert plan(running)[0]["shadow"]["shadow"] is None
        assert "servers answer is not known: it takes smtp.read_replies" in \
            running.cli("plan", "shadow").out
    for number in (1, 2, 3):
        assert running.cli("zombie", "clear", f"198.18.127.{number}").ok
    running.restart(daemon.quick())


@pytest.mark.parametrize("words", (("nobody",), ("--probe=0",),
                                   ("--probe=101",), ("--probe=x",),
                                   ("dynamic", "legacy"), ("--deep",)))
def test_mistakes(gate, words):
    result = gate.cli("plan", *words)
    assert result.code == 2 and result.out.startswith("sallyport: plan: ")
