"""Rules, sets and routes that somebody else takes away: noticed, said once,
brought back; and not when it was the operator himself."""

import pytest

import daemon
import net
import proc
import scenes
from peer import Peer
from test_rules import FOREIGN, foreign_lines, without_rules

__all__ = ["without_rules"]


def in_gateway(*commands):
    for command in commands:
        proc.need("gw", command.split())


def flush(tools, table):
    in_gateway(f"{tools} -w -t {table} -F", f"{tools} -w -t {table} -X")


def flush_both(table):
    for tools in ("iptables", "ip6tables"):
        flush(tools, table)


def flush_everything():
    """As `nft flush ruleset' or a firewall's restart."""
    for table in ("mangle", "filter", "raw"):
        flush_both(table)


def our_sets():
    names = proc.need("gw", ["ipset", "list", "-n"]).split()
    return [name for name in names if name.startswith("sallyport_")]


def destroy_sets():
    flush_everything()
    proc.need("gw", ["ipset", "restore"], text="".join(
        f"destroy {name}\n" for name in our_sets()))


DAMAGE = {
    "mangle": lambda: flush_both("mangle"),
    "filter": lambda: flush_both("filter"),
    "sets-destroyed": destroy_sets,
    "set-emptied": lambda: in_gateway("ipset flush sallyport_block4"),
    "routing": lambda: in_gateway("ip -4 rule del priority 2525",
                                  "ip -6 route flush table 2525"),
}


def alarms(gate, since):
    found = (daemon.parse(line) for line in gate.lines(since))
    return [event for event in found if event and event.kind == "alarm"
            and event.get("what") == "rules-changed"]


def captured(family, line="dynamic"):
    with Peer(line, net.address("mxa", family), 25) as peer:
        text = peer.line()
        peer.ask("QUIT")
    return text.startswith("220 gw1")


@pytest.fixture
def foreign(gate):
    """Rules of the operator that no damage here takes away."""
    gate.expected += ["rules", "gate", "allow-set-changed", "allowlist"]
    for rule in FOREIGN:
        proc.need("gw", [part.format("-A") for part in rule])
    proc.need("gw", ["ip", "rule", "add", "fwmark", "0x1/0x1", "table", "77",
                     "priority", "77"])
    yield gate
    for rule in FOREIGN:
        proc.run("gw", [part.format("-D") for part in rule])
    proc.run("gw", ["ip", "rule", "del", "priority", "77"])


@pytest.mark.parametrize("part", DAMAGE)
def test_what_others_take_away_comes_back(foreign, part):
    gate, since = foreign, foreign.here()
    assert captured(4) and captured(6)
    with Peer("legacy", net.address("isp", 4), 25) as before:
        assert before.line().startswith("220 mail.isp.example"), before
        DAMAGE[part]()
        left = foreign_lines()
        gate.wait_text(since, "rules: applied again in", timeout=60)
        gate.wait_gate(True)
        # who began before it goes on, and new ones are captured
        assert before.ask("NOOP")[0].startswith("250"), before
        assert before.ask("QUIT")[0].startswith("221"), before
    assert captured(4) and captured(6)
    assert foreign_lines() == left
    assert "77:" in proc.need("gw", ["ip", "rule"])
    result = gate.rules("verify")
    assert result.ok, result.out
    gate.wait_all()
    # by now it has looked again: once is enough
    event, = alarms(gate, since)
    assert int(event["differences"]) > 0 and event["first"], event


def test_sessions_begun_meanwhile_survive(foreign, family=6):
    """Without rules they run directly; rules that come back leave them."""
    gate, since = foreign, foreign.here()
    with daemon.rules_locked():
        flush_both("mangle")
        peer = Peer("dynamic", net.address("mxa", family), 25)
    with peer:
        assert "mx.alpha.example ESMTP Postfix" in peer.line()
        gate.wait_text(since, "rules: applied again in", timeout=60)
        gate.wait_gate(True)
        assert captured(family)
        assert peer.ask("EHLO pc.example")[0].startswith("250"), peer
        assert peer.ask("QUIT")[0].startswith("221"), peer
    assert len(alarms(gate, since)) == 1
    gate.wait_all()


def test_bypasses_are_brought_back_too(foreign, world):
    gate, since = foreign, foreign.here()
    play = scenes.Play(scenes.stopped_daemon_stops_no_mail, world, gate, 4)
    line = net.address("dynamic", 4)
    assert gate.cli("bypass", line, "--for", "10m").ok
    assert gate.cli("bypass", "203.0.113.80", "--for", "10m").ok
    assert gate.cli("bypass", "end", "203.0.113.80").ok
    try:
        assert scenes.direct(play)
        destroy_sets()
        gate.wait_text(since, "rules: applied again in", timeout=60)
        gate.wait_gate(True)
        gate.wait_all()
        assert scenes.direct(play)
        listed = gate.cli("bypass", "list").out
        assert line in listed and "203.0.113.80" not in listed, listed
    finally:
        assert gate.cli("bypass", "end", line).ok
    assert not scenes.direct(play)
    assert len(alarms(gate, since)) == 1


def test_removed_on_purpose_stays_removed(world, without_rules):
    gate, since = without_rules, without_rules.here()
    gate.wait_text(0, "rules are not applied")
    seen = 0

    def still_gone():
        nonlocal seen
        assert (daemon.plain_tables(daemon.kernel_state())
                == daemon.plain_tables(world.pristine))
        seen += 1
        # a look follows a change within two seconds
        return scenes.time.monotonic() > until and seen > 3
    until = scenes.time.monotonic() + 4
    proc.wait_until(still_gone, "nothing to happen", 30, pause=0.2)
    assert not alarms(gate, since)


def test_lost_while_no_daemon_ran(foreign):
    """What was applied is known to the next daemon, too."""
    gate = foreign
    gate.stop()
    flush_everything()
    since = gate.here()
    gate.start(rules=False)
    gate.wait_text(since, "rules: applied again in", timeout=60)
    gate.wait_gate(True)
    assert captured(4) and captured(6)
    assert len(alarms(gate, since)) == 1
    gate.wait_all()


def test_only_the_alarm(running):
    running.restart(daemon.quick(gateway="repair = false;"))
    since = running.here()
    try:
        flush("iptables", "mangle")
        running.wait_text(since, "alarm .*rules-changed", timeout=60)
        running.wait_text(since, "gateway.repair is false")
        assert not captured(4) and captured(6)
        assert running.rules("verify").code == 1
        assert running.rules("apply").ok
        assert captured(4)
        assert len(alarms(running, since)) == 1
    finally:
        running.restart(daemon.quick())
