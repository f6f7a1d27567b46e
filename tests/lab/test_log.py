"""What the log holds by option: JSON, shortened addresses, summaries."""

import json

import pytest

import daemon
import net
import proc
from peer import Peer

MAIL = ("EHLO pc.example", "MAIL FROM:<kenji@isp.example>",
        "RCPT TO:<bob@alpha.example>", "QUIT")


@pytest.fixture
def configured(gate):
    """The shared daemon with other log options; afterwards as it was."""
    before = daemon.CONF.read_text()

    def configure(log):
        gate.reconfigure(daemon.quick().replace("per_minute = 0;", log))
        return gate
    yield configure
    gate.reconfigure(before)


def mail(host="mxa", line="second", commands=MAIL):
    with Peer(line, net.address(host, 4), 25) as peer:
        peer.reply()
        for command in commands:
            peer.ask(command)


def wait_lines(gate, since, want, what):
    """The lines since then for which want says yes, once there is one."""
    def look():
        return [line for line in gate.lines(since) if want(line)]
    return proc.wait_until(look, what, 15)


def test_json_has_the_names_of_ecs(configured):
    gate = configured('format = "json"; envelope = "domain"; '
                      'destination = "net";')
    since = gate.here()
    mail()
    line, = wait_lines(gate, since, lambda line: '"block"' in line,
                       "a block event")
    event = json.loads(line)
    assert event["event.action"] == "block"
    assert event["log.level"] == "info"
    assert event["service.name"] == "sallyport"
    assert event["@timestamp"].endswith("Z")
    assert event["source.ip"] == net.address("second", 4)
    assert isinstance(event["source.port"], int)
    assert event["destination.ip"].endswith(".0")
    assert event["destination.ip"] != net.address("mxa", 4)
    assert event["destination.port"] == 25
    assert event["event.reason"] == "policy"
    assert event["sallyport.class"] == "dynamic"
    assert event["sallyport.code"] == 550
    assert event["sallyport.helo"] == "pc.example"
    assert event["email.from.address"] == "isp.example"
    assert event["email.to.address"] == "alpha.example"
    # what the processes themselves say is JSON too
    gate.cli("reload")
    wait_lines(gate, since, lambda line: "is in force" in line, "the reload")
    for line in gate.lines(since):
        assert {"@timestamp", "log.level", "event.action"} <= \
            set(json.loads(line)), line


def test_addresses_as_the_operator_wants_them(configured):
    gate = configured('envelope = "hash"; destination = "none";')
    since = gate.here()
    mail()
    mail()
    first = gate.wait_event(since, "block")
    assert "dst" not in first, first
    assert len(first["from"]) == 16 and int(first["from"], 16), first
    assert first["to"] != first["from"], first
    assert "isp.example" not in str(first), first
    both = wait_lines(gate, since, lambda line: " block " in f" {line}",
                      "both")
    assert {daemon.parse(line)["from"] for line in both} == {first["from"]}


def test_by_default_no_address_is_kept(gate):
    since = gate.here()
    mail()
    event = gate.wait_event(since, "block")
    assert "from" not in event and "to" not in event, event
    assert "bob" not in str(event) and "kenji" not in str(event), event


def test_a_line_that_talks_much_is_summed_up(configured):
    """Nothing is lost: what the summary says and the lines are all sessions,
    also when the minute ends before we do."""
    gate = configured("per_minute = 5;")
    since = gate.here()
    for _ in range(30):
        mail()
    mail(line="dynamic")
    gate.wait_event(since, "block", **{"class": "dynamic"})
    # control leaves, and tells what it had not told
    gate.reconfigure(daemon.CONF.read_text())
    events = [daemon.parse(line) for line in gate.lines(since)]
    mine = [event for event in events
            if event and event["line"] == net.address("second", 4)]
    sums = [event for event in mine if event["reason"] == "summary"]
    assert sums, mine
    assert 1 <= len(sums) <= 2, sums
    assert len(mine) - len(sums) <= 10, mine
    told = sum(int(event["sessions"]) for event in sums)
    assert told + len(mine) - len(sums) == 30, mine
    assert sum(int(event["rcpts"]) for event in mine) == 30, mine
    assert "from" not in sums[0] and "dst" not in sums[0], sums[0]
