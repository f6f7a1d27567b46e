"""Kernel rules: idempotent, verified, gone without trace, and harmless to
what was there before."""

import shlex

import pytest

import clients
import daemon
import net
import proc
import scenes
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))


@pytest.fixture
def without_rules(gate):
    """The daemon runs, its rules are not there; afterwards they are."""
    gate.expected += ["sallyport_", "rules", "gate"]
    result = gate.rules("remove")
    assert result.ok, result.out
    yield gate
    gate.apply()
    gate.wait_all()


def test_show_changes_nothing(world, without_rules):
    result = without_rules.rules("show")
    assert result.ok, result.out
    assert "TPROXY" in result.out and "sallyport_live" in result.out
    assert daemon.kernel_state() == daemon.kernel_state()
    assert (daemon.plain_tables(daemon.kernel_state())
            == daemon.plain_tables(world.pristine))


def steady(state):
    """Without the elements that the daemon refreshes each second."""
    return [(name, [line for line in lines if " timeout " not in line
                    and "Size in memory" not in line
                    and "Number of entries" not in line])
            for name, lines in daemon.plain_tables(state)]


def test_apply_twice_is_once(gate):
    before = steady(daemon.kernel_state())
    result = gate.rules("apply")
    assert result.ok, result.out
    assert steady(daemon.kernel_state()) == before
    result = gate.rules("verify")
    assert result.ok, result.out
    gate.wait_all()


def first_rule(tables, *words):
    """A -A line of tables-save output, as arguments of -D, with its table."""
    table = ""
    for line in proc.need("gw", [f"{tables}-save"]).splitlines():
        if line.startswith("*"):
            table = line[1:]
        if line.startswith("-A") and all(word in line for word in words):
            return [tables, "-w", "-t", table, "-D"] + shlex.split(line[3:])
    raise AssertionError(f"{tables}: no rule with {words}")


DAMAGE = {
    "divert": lambda: first_rule("iptables", "PREROUTING", "sallyport"),
    "divert6": lambda: first_rule("ip6tables", "PREROUTING", "sallyport"),
    "capture": lambda: first_rule("iptables", "TPROXY"),
    "capture6": lambda: first_rule("ip6tables", "TPROXY"),
    "jail": lambda: first_rule("iptables", "OUTPUT", "sallyport"),
    "jail6": lambda: first_rule("ip6tables", "OUTPUT", "sallyport"),
    "route": lambda: ["ip", "-4", "route", "flush", "table", "2525"],
    "route6": lambda: ["ip", "-6", "route", "flush", "table", "2525"],
    "priority": lambda: ["ip", "-4", "rule", "del", "priority", "2525"],
    "priority6": lambda: ["ip", "-6", "rule", "del", "priority", "2525"],
}


@pytest.mark.parametrize("part", sorted(DAMAGE))
def test_verify_sees_what_is_missing_and_apply_repairs_it(gate, part):
    gate.expected += ["rules", "verify", "gate"]
    argv = DAMAGE[part]()
    with daemon.rules_locked():     # or the daemon may be faster
        proc.need("gw", argv)
        result = gate.rules("verify")
    assert result.code == 1, result.out
    assert result.out.strip(), "verify said nothing"
    result = gate.rules("apply")
    assert result.ok, result.out
    result = gate.rules("verify")
    assert result.ok, result.out
    gate.wait_gate(True)
    gate.wait_all()


FOREIGN = (
    ("iptables", "-t", "mangle", "{}", "PREROUTING", "-p", "udp", "--dport",
     "53", "-j", "MARK", "--set-xmark", "0x1/0x1"),
    ("ip6tables", "-t", "mangle", "{}", "FORWARD", "-p", "tcp", "--dport",
     "80", "-j", "ACCEPT"),
    ("iptables", "-t", "filter", "{}", "FORWARD", "-s", "198.18.77.0/24",
     "-j", "DROP"),
    ("ip6tables", "-t", "filter", "{}", "INPUT", "-p", "tcp", "--dport",
     "2222", "-j", "ACCEPT"),
)


def foreign_lines():
    text = proc.need("gw", ["iptables-save"]) + proc.need(
        "gw", ["ip6tables-save"])
    return [line for line in text.splitlines() if line.startswith("-A")
            and "sallyport" not in line]


def big_list():
    """Thousands in both families: plain, relayed (a hole in a prefix that
    passes), ending, over already."""
    later, past = "2036-01-01T00:00:00Z", "2001-01-01T00:00:00Z"
    lines = ["198.18.0.0/17"]
    for n in range(1500):
        rest = ("", " port25=relay", f" until={later}", f" until={past}")[n % 4]
        lines += [f"198.18.{n // 250}.{n % 250 + 1}{rest}",
                  f"2001:db8:{16 + n // 256:x}:{n % 256:x}00::/56{rest}"]
    return "\n".join(lines) + "\n"


def test_a_big_list_goes_in_whole(gate):
    """By netlink, into a set that is there and into one that is not; what
    `ipset' says is in it is what `verify' and the file say."""
    file = daemon.ETC / "allow.list"
    before = file.read_text()
    # without the daemon, which would put back what its own file says
    gate.stop()
    file.write_text(big_list())
    try:
        for first in ("apply", "remove"):
            if first == "remove":
                assert gate.rules("remove").ok
            result = gate.rules("apply")
            assert result.ok, result.out
            for family, plain in ((4, 750 + 1), (6, 750)):
                saved = proc.run("gw", ["ipset", "save",
                                        f"sallyport_allow{family}"]).out
                held = [line for line in saved.splitlines()
                        if line.startswith("add ")]
                holes = sum("nomatch" in line for line in held)
                ending = sum(" timeout 0" not in line for line in held)
                assert len(held) - holes == plain, len(held)
                assert holes == (375 if family == 4 else 0), holes
                assert ending == 375, ending
            assert in_set("sallyport_allow4", "198.18.0.1")
            assert not in_set("sallyport_allow4", "198.18.0.2")
            assert in_set("sallyport_acarry4", "198.18.0.2")
            assert in_set("sallyport_allow4", "198.18.0.4")     # by the /17
            result = gate.rules("verify")
            assert result.ok, result.out
    finally:
        file.write_text(before)
        gate.start()
        gate.wait_all()


def in_set(name, address):
    return proc.run("gw", ["ipset", "test", name, address]).ok


def test_foreign_rules_are_left_alone(without_rules):
    """The operator's own rules survive apply, a second apply, and remove."""
    gate = without_rules
    for rule in FOREIGN:
        proc.need("gw", [part.format("-A") for part in rule])
    proc.need("gw", ["ipset", "create", "operator", "hash:net"])
    proc.need("gw", ["ipset", "add", "operator", "198.18.77.0/24"])
    proc.need("gw", ["ip", "rule", "add", "fwmark", "0x1/0x1", "table", "77",
                     "priority", "77"])
    try:
        before = foreign_lines()
        assert len(before) == len(FOREIGN)
        for verb in ("apply", "apply", "verify", "remove"):
            result = gate.rules(verb)
            assert result.ok, f"{verb}: {result.out}"
            assert [line for line in foreign_lines()
                    if line in before] == before
        assert foreign_lines() == before
        assert "198.18.77.0/24" in proc.need("gw", ["ipset", "list",
                                                    "operator"])
        assert "77:" in proc.need("gw", ["ip", "rule"])
    finally:
        proc.run("gw", ["ip", "rule", "del", "priority", "77"])
        proc.run("gw", ["ipset", "destroy", "operator"])
        for rule in FOREIGN:
            proc.run("gw", [part.format("-D") for part in rule])


def test_remove_leaves_nothing(world, gate):
    gate.expected += ["sallyport_", "rules", "gate"]
    assert (daemon.plain_tables(daemon.kernel_state())
            != daemon.plain_tables(world.pristine))
    result = gate.rules("remove")
    assert result.ok, result.out
    try:
        assert (daemon.plain_tables(daemon.kernel_state())
                == daemon.plain_tables(world.pristine))
        again = gate.rules("remove")
        assert again.ok, again.out
        result = gate.rules("verify")
        assert result.code == 1, result.out
    finally:
        gate.apply()
        gate.wait_all()


@FAMILIES
@pytest.mark.parametrize("line", ("dynamic", "legacy", "fixed"))
def test_session_from_before_the_first_apply_survives(world, without_rules,
                                                      family, line):
    gate, token = without_rules, f"before-apply-{line}-{family}"
    with Peer(line, net.address("mxa", family), 25) as peer:
        assert "mx.alpha.example ESMTP Postfix" in peer.line()
        peer.ask("EHLO pc.example")
        gate.apply()
        assert peer.ask("MAIL FROM:<a@beta.example>")[0].startswith("250")
        assert peer.ask("RCPT TO:<info@alpha.example>")[0].startswith("250")
        assert peer.ask("DATA")[0].startswith("354"), peer
        peer.send(f"Subject: {token}\r\n\r\nStill here.\r\n.")
        assert peer.reply()[0].startswith("250"), peer
        peer.ask("QUIT")
    world.wait_arrival("mxa", "info", token)
    # New ones are captured all the same.
    if line == "dynamic":
        result = clients.swaks(line, net.address("mxa", family),
                               "info@alpha.example", token + "-new")
        assert scenes.re.search(scenes.REFUSAL, result.out), result.out


@FAMILIES
def test_connections_succeed_under_syn_cookies(gate, family):
    """Under a flood the kernel keeps no request: the handshake's last ACK
    must find its way to the listener by itself."""
    assert gate.is_open(25, "sallyport_all")
    old = net.read_sysctl("gw", "net.ipv4.tcp_syncookies")
    net.sysctl("gw", net__ipv4__tcp_syncookies=2)
    try:
        for _ in range(15):
            with Peer("legacy", net.address("isp", family), 25) as peer:
                assert peer.line().startswith("220 mail.isp.example"), peer
                assert peer.ask("QUIT")[0].startswith("221"), peer
        with Peer("legacy", net.address("isp", family), 110) as peer:
            assert peer.line().startswith("+OK"), peer
            peer.send("QUIT")
            assert peer.line().startswith("+OK"), peer
        with Peer("fixed", net.address("mxa", family), 25) as peer:
            assert "mx.alpha.example" in peer.line(), peer
            peer.ask("QUIT")
    finally:
        net.sysctl("gw", net__ipv4__tcp_syncookies=old)


@pytest.mark.parametrize("how", ("healthy", "stopped", "dead"))
def test_bypass_all_in_a_second(running, world, how):
    """Whatever the daemon does: mail goes direct, and afterwards not."""
    running.wait_gate(True)
    play = scenes.Play(scenes.stopped_daemon_stops_no_mail, world, running, 4)
    assert not scenes.direct(play)
    if how == "stopped":
        running.signal_all(proc.signal.SIGSTOP)
    elif how == "dead":
        running.kill_all()
    try:
        assert running.is_open(), "the gate has not shut by itself yet"
        began = scenes.time.monotonic()
        result = running.cli("bypass", "all", "--for", "10m")
        assert result.ok, result.out
        for play.family in (4, 6):
            assert scenes.direct(play)
        assert scenes.time.monotonic() - began < 1
    finally:
        if how == "stopped":
            running.signal_all(proc.signal.SIGCONT)
        elif how == "dead":
            running.start()
    running.wait_gate(True)
    assert scenes.direct(play)
    result = running.cli("bypass", "end", "all")
    assert result.ok, result.out
    assert not scenes.direct(play)
    running.wait_all()


def test_dead_daemon_captures_nothing_more(running, world):
    """kill -9 of everything: within 5 seconds mail goes direct."""
    running.wait_gate(True)
    running.kill_all()
    play = scenes.Play(scenes.stopped_daemon_stops_no_mail, world, running, 4)
    began = scenes.time.monotonic()
    proc.wait_until(lambda: scenes.direct(play), "the MX itself to answer",
                    12, pause=0.2)
    assert scenes.time.monotonic() - began <= 6.5
    running.start()
    running.wait_all()
