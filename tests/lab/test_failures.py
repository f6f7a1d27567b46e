"""What breaks, and what goes on: relays killed, origins unreachable, narrow
paths, forbidden places, broken configuration."""

import os
import signal
import socket
import threading

import pytest

import clients
import daemon
import net
import proc
import scenes
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))


@pytest.fixture
def two_relays(running):
    running.restart(daemon.quick(workers=2))
    running.expected = []
    yield running
    running.restart(daemon.quick())


def greeted(line, host, family):
    peer = Peer(line, net.address(host, family), 25)
    assert peer.line().startswith("220"), peer
    return peer


def test_killed_relay_takes_only_its_own_sessions(two_relays):
    gate, since = two_relays, two_relays.here()
    before = gate.at_rest()
    peers = [greeted("fixed", "mxa", 4 if n % 2 else 6) for n in range(16)]
    victim, other = gate.relays()
    os.kill(victim, signal.SIGKILL)
    alive = 0
    for peer in peers:
        try:
            alive += peer.ask("NOOP")[0].startswith("250")
        except OSError:
            pass
    assert 0 < alive < len(peers), f"{alive} of {len(peers)} went on"
    proc.wait_until(lambda: len(gate.relays()) == 2, "the relay's successor")
    assert other in gate.relays() and victim not in gate.relays()
    gate.wait_text(since, r"alarm|relay\d* .*(killed|signal|ended|restart)")
    for peer in peers:
        peer.close()
    for n in range(8):
        with greeted("fixed", "mxb", 4 if n % 2 else 6) as peer:
            assert peer.ask("QUIT")[0].startswith("221")
    gate.wait_holdings(before)


def test_queued_connections_are_served_by_the_successor(running):
    """One relay, stopped: connections queue at its listener.  It dies; every
    one of them is served by the next."""
    running.wait_gate(True)
    before = running.at_rest()
    relay, = running.relays()
    os.kill(relay, signal.SIGSTOP)
    peers = []
    for n in range(40):
        peers.append(Peer("fixed" if n % 2 else "legacy", net.address(
            "mxa" if n % 2 else "isp", 4 if n % 4 < 2 else 6), 25))
    os.kill(relay, signal.SIGKILL)
    served = 0
    for peer in peers:
        with peer:
            served += peer.line().startswith("220")
            assert peer.ask("QUIT")[0].startswith("221"), peer
    assert served == len(peers)
    assert running.relays() and relay not in running.relays()
    running.wait_gate(True)
    running.wait_holdings(before)


def test_control_is_restarted(running):
    running.wait_gate(True)
    since, before = running.here(), running.at_rest()
    control = running.named("sallyport:ctl")
    assert len(control) == 1
    with greeted("fixed", "mxa", 4) as peer:
        os.kill(control[0], signal.SIGKILL)
        assert peer.ask("NOOP")[0].startswith("250"), peer
        proc.wait_until(lambda: len(running.children()) == 3
                        and control[0] not in running.children(),
                        "control's successor")
        assert peer.ask("QUIT")[0].startswith("221"), peer
    proc.wait_until(lambda: running.cli("status").ok, "status to answer")
    running.wait_event(since, "relay", dst="203.0.113.25:25")
    running.wait_gate(True)
    running.wait_holdings(before)


UNREACHABLE = {
    "no-route": {4: "198.51.100.77", 6: "2001:db8:dead::1"},
    "closed": {4: "203.0.113.53", 6: "2001:db8:53::53"},
}


@FAMILIES
@pytest.mark.parametrize("kind", sorted(UNREACHABLE))
def test_unreachable_origin_resets_the_relay_class(gate, family, kind):
    since, target = gate.here(), UNREACHABLE[kind][family]
    try:
        with Peer("fixed", target, 25) as peer:
            how, data = peer.end()
            assert (how, data) == ("reset", b""), peer
    except ConnectionResetError:
        pass    # so soon that connect() itself heard of it
    gate.wait_event(since, "relay", "reset", reason="connect-failed",
                    dst=scenes.endpoint(target, 25))


BODY = "".join(f"{n:060d}\n" for n in range(3400))


@FAMILIES
@pytest.mark.parametrize("line,host,user", (
    ("fixed", "mxa", "info@alpha.example"),
    ("legacy", "isp", "yuki@isp.example")))
def test_upload_over_a_narrow_path(world, gate, family, line, host, user):
    """200 kB towards a server behind 1,300 bytes: the router's ICMP errors
    are addressed to the subscriber and must reach the relay's socket."""
    assert len(BODY) > 200000
    token = f"narrow-{line}-{family}"
    net.narrow(host, 1300)
    try:
        result = clients.curl_smtp(line, net.address(host, family), user,
                                   token, body=BODY, auth=line == "legacy")
        assert result.ok, result.out
        mail = world.wait_arrival(host, user.split("@")[0], token)
    finally:
        net.narrow(host, 0)
    assert f"{3399:060d}" in mail.get_payload()


# ---- places where nobody is connected to ----------------------------------

FORBIDDEN = ("10.9.9.9", "192.168.9.9", "172.16.9.9", "169.254.9.9",
             "fd00:9::9")


@pytest.fixture
def trap():
    """Listeners in the internet at addresses that must not be dialled."""
    accepted, sockets = [], []
    commands = [f"addr add {a}/{128 if ':' in a else 32} dev lo"
                for a in FORBIDDEN]
    net.batch("inet", commands)

    def serve(server):
        try:
            while True:
                conn, who = server.accept()
                accepted.append((server.getsockname()[0], who[0]))
                conn.close()
        except OSError:
            pass

    for family, any_address in ((socket.AF_INET, "0.0.0.0"),
                                (socket.AF_INET6, "::")):
        server = net.inside("inet", socket.socket, family)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((any_address, 25))
        server.listen(64)
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        sockets.append(server)
    yield accepted
    for server in sockets:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    net.batch("inet", [c.replace("addr add", "addr del") for c in commands])


@pytest.mark.parametrize("target", FORBIDDEN)
def test_forbidden_origin_is_not_reached_through_us(gate, trap, target):
    """The operator's FORWARD drops it; the proxy must not lead around that."""
    tables = "ip6tables" if ":" in target else "iptables"
    rule = ["FORWARD", "-d", target, "-j", "DROP"]
    proc.need("gw", [tables, "-w", "-I"] + rule)
    since = gate.here()
    try:
        with pytest.raises(OSError):
            with Peer("fixed", target, 25, timeout=3) as peer:
                peer.sock.settimeout(3)
                how, data = peer.end()
                assert not data, peer
                raise OSError(how)
    finally:
        proc.need("gw", [tables, "-w", "-D"] + rule)
    assert trap == []
    assert not [e for e in map(daemon.parse, gate.lines(since))
                if e and e.get("out") and target in e.get("dst", "")]


@pytest.mark.parametrize("target", ("198.18.0.1", "203.0.113.254",
                                    "2001:db8:ffff::2"))
@pytest.mark.parametrize("port", (25, 110, 2525))
def test_the_gateway_is_no_origin(gate, target, port):
    """Its own addresses, the listener's port included: no session, no loop."""
    with pytest.raises(OSError):
        with Peer("fixed", target, port, timeout=5) as peer:
            how, data = peer.end()
            assert not data, peer
            raise OSError(how)


# ---- configuration --------------------------------------------------------

BROKEN = {
    "unknown key": ("gateway = {", "gateway = { colour = 3;", "colour"),
    "wrong type": ("grace = 2", 'grace = "two"', "grace"),
    "host bits": ("198.19.0.0/24", "198.19.0.7/24", "198.19.0.7"),
    "same prefix twice": ("198.19.0.0/24", "198.18.0.0/16", "198.18.0.0/16"),
    "unknown action": ('port25 = "submit"', 'port25 = "sumbit"', "sumbit"),
    "syntax": ("subscribers = (", "subscribers = ((", "sallyport.conf"),
    "out of range": ("workers = 1", "workers = 100000", "workers"),
    "not there yet": ("gateway = {", 'gateway = { backend = "nft";', "nft"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_configuration_is_named_and_changes_nothing(gate, name):
    """check, a second start and a reload all refuse it; mail goes on."""
    old, new, word = BROKEN[name]
    text = daemon.quick()
    assert old in text
    gate.expected += ["sallyport.conf", "reload", "configuration"]
    daemon.CONF.write_text(text.replace(old, new, 1))
    try:
        result = gate.cli("check")
        assert result.code == 2, result.out
        assert word in result.out and "sallyport.conf:" in result.out
        result = proc.run("gw", [daemon.BUILD / "sallyportd", "-d", "-c",
                                 daemon.CONF])
        assert result.code == 2, result.out
        assert word in result.out, result.out
        since = gate.here()
        os.kill(gate.process.pid, signal.SIGHUP)
        gate.wait_text(since, r"sallyport\.conf")
    finally:
        daemon.CONF.write_text(text)
    result = clients.swaks("second", net.address("mxa", 4),
                           "info@alpha.example", "broken-config")
    assert "550" in result.out, result.out


def test_broken_allowlist_is_named(gate):
    path = daemon.ETC / "allow.list"
    good = path.read_text()
    path.write_text(good + "198.18.3.300 # too much\n")
    try:
        result = gate.cli("check")
        assert result.code == 2, result.out
        assert "allow.list:3" in result.out, result.out
    finally:
        path.write_text(good)


@pytest.mark.parametrize("args", (
    ("frobnicate",), ("rules",), ("rules", "frobnicate"), ("status", "--what"),
    ("check", "surplus"),))
def test_command_line_mistakes_are_usage_errors(gate, args):
    result = gate.cli(*args)
    assert result.code == 2, result.out
    assert result.out.strip()


def test_reload_takes_a_changed_allowlist(world, gate):
    """The good case of the same thing: a line is let out without a restart."""
    path, pid = daemon.ETC / "allow.list", gate.process.pid
    good, since = path.read_text(), gate.here()
    path.write_text(good + "198.18.4.8 port25=pass # for an afternoon\n")
    try:
        result = gate.rules("apply")
        assert result.ok, result.out
        os.kill(pid, signal.SIGHUP)
        gate.wait_text(since, r"is in force")
        token = "let-out"
        result = clients.swaks("second", net.address("mxa", 4),
                               "info@alpha.example", token)
        assert result.ok, result.out
        mail = world.wait_arrival("mxa", "info", token)
        assert "[198.18.4.8]" in mail["Received"]
    finally:
        path.write_text(good)
        since = gate.here()
        os.kill(pid, signal.SIGHUP)
        gate.wait_text(since, r"is in force")
        gate.apply()
        gate.wait_all()
    assert gate.process.pid == pid and gate.alive()
