"""What sessions tell the detectors, as the log has it, with real servers."""

import re

import pytest

import clients
import daemon
import net
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
READING = daemon.quick().replace("smtp = {", "smtp = {\n  read_replies = true;")
RELAY = "fixed"


@pytest.fixture(scope="module")
def reading(running):
    running.restart(READING)
    yield running
    running.restart(daemon.quick())


def counts(event):
    """evidence=contact:1/1,helo:0/1 as a dictionary; contact is told apart,
    for it depends on what the line did before."""
    found = dict(part.split(":") for part in event["evidence"].split(","))
    contact = found.pop("contact")
    assert contact in ("0/1", "1/1"), event
    assert re.fullmatch(r"[0-9a-f]{4}", event["dialect"]), event
    assert int(event["at"]) > 1500000000, event
    return found


def dialogue(gate, family, host, *commands, line=RELAY, kind="relay", **more):
    """Commands, each after the reply to the one before; the event."""
    since = gate.here()
    with Peer(line, net.address(host, family), 25, **more) as peer:
        peer.reply()
        for command in commands:
            peer.ask(command)
    return gate.wait_event(since, kind)


@FAMILIES
def test_by_default_no_reply_is_read(gate, family):
    """Only what the line says itself, and that the server was reached; in
    block, where all answers are ours, not even that."""
    commands = ("EHLO pc.example", "MAIL FROM:<kenji@isp.example>",
                "RCPT TO:<nobody@alpha.example>", "QUIT")
    event = dialogue(gate, family, "mxa", *commands)
    assert counts(event) == {"refusal": "0/1", "null": "0/1",
                             "helo": "0/1"}, event
    event = dialogue(gate, family, "mxa", *commands, line="second",
                     kind="block")
    assert counts(event) == {"null": "0/1", "helo": "0/1"}, event


@FAMILIES
def test_real_replies_are_read_when_the_operator_says_so(reading, family):
    event = dialogue(reading, family, "mxa", "EHLO pc.example",
                     "MAIL FROM:<kenji@isp.example>",
                     "RCPT TO:<info@alpha.example>",
                     "RCPT TO:<nobody@alpha.example>",
                     "RCPT TO:<nobody2@alpha.example>",
                     "RCPT TO:<x@elsewhere.example>", "QUIT")
    assert counts(event) == {"unknown": "2/3", "refusal": "1/2",
                             "null": "0/1", "helo": "0/1"}, event
    assert event["quit"] == "1" and event["domains"] == "1", event


def test_habits(reading):
    """HELO with the server's own name, null sender, out of turn, no QUIT."""
    since = reading.here()
    with Peer(RELAY, net.address("mxa", 4), 25) as peer:
        peer.reply()
        peer.send("EHLO mx.alpha.example\r\nMAIL FROM:<>")
        peer.reply()
        peer.reply()
    event = reading.wait_event(since, "relay")
    assert counts(event) == {"null": "1/1", "helo": "1/1"}, event
    assert event["pipelined"] == "1" and event["quit"] == "0", event


def test_a_dialect_tells_programs_apart(reading):
    """Twice the same program, and another: the address and the recipients do
    not matter, verbs and spacing do."""
    def seen(mail, to, family):
        return dialogue(reading, family, "mxa", "EHLO pc", mail,
                        f"RCPT TO:<{to}@alpha.example>", "QUIT")["dialect"]
    first = seen("MAIL FROM:<kenji@isp.example>", "info", 4)
    assert seen("MAIL FROM:<mei@beta.example>", "sales", 6) == first
    assert seen("MAIL From: <kenji@isp.example>", "info", 4) != first


def test_a_name_that_differs_each_time(reading):
    """Three names a line may have; each further one is a bad event, but where
    it falls upon the bit of another (64 bits)."""
    address = net.fresh_line(4)
    got = [counts(dialogue(reading, 4, "mxa", f"EHLO pc{number}.example",
                           "QUIT", line="second", kind="block",
                           source_address=(address, 0)))["helo"]
           for number in (*range(12), 11)]
    assert got[:3] == ["0/1"] * 3 and got.count("1/1") >= 4, got
    assert got[12] == "0/1", got


def test_an_unreachable_origin_is_a_refusal(reading):
    since, closed = reading.here(), "203.0.113.53"
    try:
        with Peer(RELAY, closed, 25) as peer:
            peer.end()
    except ConnectionResetError:
        pass    # so soon that connect() itself heard of it
    event = reading.wait_event(since, "relay", dst=closed + ":25")
    assert event["evidence"].endswith("refusal:1/1"), event


@FAMILIES
def test_submission_is_heard_too(reading, family):
    since = reading.here()
    result = clients.swaks_auth("legacy", net.address("isp", family),
                                "nobody@isp.example", "token-evidence")
    event = reading.wait_event(since, "submit")
    assert "550 5.1.1" in result.out, result.out
    assert counts(event) == {"unknown": "1/1", "null": "0/1",
                             "helo": "0/1"}, event
