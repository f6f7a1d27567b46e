"""Where the gateway stands: behind NAT, beside the router, in the one PC.

Each place has a daemon of its own, which serves all tests of that place.  When
it leaves, it must have been silent, and `rules remove` must leave the kernel
as it was.  In line, with the lines' own addresses, is what all other modules
test.
"""

import contextlib
import re

import pytest

import clients
import daemon
import net
import proc
import scenes
from dovecot import LOG as DOVECOT_LOG
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
REFUSED = re.compile(scenes.REFUSAL)


@pytest.fixture(scope="module")
def place(direct):
    """The lab without the shared daemon, which gets its configuration back."""
    yield direct
    daemon.CONF.write_text(daemon.quick())


def kernel(ns):
    return daemon.plain_tables(daemon.kernel_state(ns))


@contextlib.contextmanager
def at_work(config, ns="gw"):
    """A daemon in ns, with its rules; afterwards the traces it left."""
    before = kernel(ns)
    gate = daemon.Daemon(config, ns)
    since, gate.expected = gate.here(), []
    gate.since = since
    try:
        gate.start()
        gate.wait_all()
        held = gate.at_rest()
        yield gate
        gate.wait_holdings(held)
    finally:
        code = gate.stop()
        removed = gate.rules("remove")
    assert code == 0, f"sallyportd ended with {code}\n{proc.tail(gate.log)}"
    assert removed.ok, removed.out
    assert kernel(ns) == before
    bad = [line for line in gate.bad_lines(since)
           if not any(text in line for text in gate.expected)]
    assert not bad, "unexpected log lines:\n" + "\n".join(bad)


# What a line gets, wherever the gateway stands ------------------------------

def token(name):
    return f"{name}-{scenes.uuid.uuid4().hex[:8]}"


def received(mail):
    return "\n".join(" ".join(line.split())
                     for line in mail.get_all("Received"))


def in_brackets(address):
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def must_refuse(gate, ns, family, line):
    """A foreign MX, from a class that is blocked (or may only submit)."""
    since = gate.here()
    result = clients.swaks(ns, net.address("mxa", family),
                           "info@alpha.example", token("refused"))
    assert REFUSED.search(result.out), result.out
    event = gate.wait_event(since, "block", line=line)
    assert event["dst"] == scenes.endpoint(net.address("mxa", family), 25)


def must_submit(world, gate, ns, family, line):
    """AUTH in clear on port 25; returns whom the server saw, "[ADDRESS]"."""
    since, word = gate.here(), token("submit")
    result = clients.swaks_auth(ns, net.address("isp", family),
                                "info@alpha.example", word)
    assert result.ok, result.out
    trace = received(world.wait_arrival("mxa", "info", word))
    gate.wait_event(since, "submit", line=line)
    events = [event for event in map(daemon.parse, gate.lines(since))
              if event]
    assert len(events) == 1, "\n".join(map(str, events))
    return re.search(r"\((?:[^()]*)(\[[^]]+\])\) .*by mail\.isp\.example",
                     trace).group(1)


def must_fetch(world, gate, ns, family, line):
    """POP3 in clear; returns the address that Dovecot saw inside TLS."""
    since, word = gate.here(), token("pop3")
    world.empty("kenji")
    world.put("kenji", clients.message(word, "mei@alpha.example",
                                       "kenji@isp.example"))
    before = len(proc.tail(DOVECOT_LOG, 10 ** 6).splitlines())
    result = clients.mpop(ns, net.address("isp", family))
    assert word in result.mail, result.out
    gate.wait_event(since, "wrap", line=line)
    tail = proc.tail(DOVECOT_LOG, 10 ** 6).splitlines()[before:]
    login = next(row for row in tail if "Login: user=<kenji" in row)
    assert ", TLS," in login, login
    return re.search(r"rip=([^,]+),", login).group(1)


def must_pass(world, ns, family, host="isp", user="yuki@isp.example"):
    """The provider's own MX, direct; returns the Received lines."""
    word = token("direct")
    where = net.address(host, family, 1 if host == "isp" else 0)
    result = clients.swaks(ns, where, user, word)
    assert result.ok, result.out
    return received(world.wait_arrival(host, user.split("@")[0], word))


def is_direct(ns, family):
    """Does the MX itself answer?  A refusal is none: nobody may be refused."""
    try:
        with Peer(ns, net.address("mxa", family), 25, timeout=0.4) as peer:
            if "mx.alpha.example ESMTP Postfix" not in peer.line():
                return False
            peer.ask("QUIT")
            return True
    except TimeoutError:
        return False


def must_shut(gate, ns):
    """Stopped, the daemon captures nothing after five seconds."""
    gate.expected += ["silent", "relay", "gate"]
    assert not is_direct(ns, 4)
    gate.signal_all(proc.signal.SIGSTOP)
    began = scenes.time.monotonic()
    try:
        proc.wait_until(lambda: is_direct(ns, 4), "the MX itself to answer",
                        12, pause=0.1)
        assert scenes.time.monotonic() - began <= 6.5
    finally:
        gate.signal_all(proc.signal.SIGCONT)
    gate.wait_gate(True)
    gate.wait_all()


def must_be_once(gate):
    """apply again changes nothing, verify finds nothing."""
    def steady():
        return [(name, [line for line in lines if " timeout " not in line
                        and "Size in memory" not in line
                        and "Number of entries" not in line])
                for name, lines in kernel(gate.ns)]
    before = steady()
    for verb in ("apply", "verify"):
        result = gate.rules(verb)
        assert result.ok, result.out
    assert steady() == before
    gate.wait_all()


# A NAT gateway --------------------------------------------------------------

LAN = {"dynamic": "192.168.77.7", "legacy": "192.168.77.200"}


def lan_line(name, family):
    return LAN[name] if family == 4 else net.LINES[name].prefix6


@contextlib.contextmanager
def private_network():
    """Two lines with private addresses behind MASQUERADE.  IPv6 is routed."""
    old = "via 198.18.0.1 dev eth0 onlink src"
    rule = ["POSTROUTING", "-s", "192.168.77.0/24", "-o", "up0", "-j",
            "MASQUERADE"]
    for name, address in LAN.items():
        net.batch(name, [f"addr add {address}/32 dev eth0",
                         f"route replace default {old} {address}"])
        net.batch("gw", [f"route add {address}/32 dev {name} src 198.18.0.1"])
    proc.need("gw", ["iptables", "-t", "nat", "-A", *rule])
    try:
        yield
    finally:
        proc.need("gw", ["iptables", "-t", "nat", "-D", *rule])
        for name, address in LAN.items():
            net.batch("gw", [f"route del {address}/32 dev {name}"])
            net.batch(name, [f"route replace default {old} "
                             f"{net.address(name, 4)}",
                             f"addr del {address}/32 dev eth0"])


def nat_config(capture):
    text = daemon.quick(grace=0, gateway=f'capture = "{capture}"; nat = true;')
    return text.replace('"198.18.0.0/16"', '"192.168.77.0/25"').replace(
        '"198.19.0.0/24"', '"192.168.77.128/25"')


@pytest.fixture(scope="class", params=("redirect", "tproxy"))
def nat(place, request):
    with private_network(), at_work(nat_config(request.param)) as gate:
        gate.capture = request.param
        yield gate


class TestNatGateway:
    @FAMILIES
    def test_nat_gateway(self, place, nat, family):
        """Servers see the gateway; what is not captured is translated too."""
        gateway = net.GW_UP[family]
        must_refuse(nat, "dynamic", family, lan_line("dynamic", family))
        legacy = lan_line("legacy", family)
        assert must_submit(place, nat, "legacy", family,
                           legacy) == in_brackets(gateway)
        assert must_fetch(place, nat, "legacy", family, legacy) == gateway
        seen = gateway if family == 4 else net.address("dynamic", 6)
        assert in_brackets(seen) in must_pass(place, "dynamic", family)

    def test_nat_gateway_rules_once(self, nat):
        must_be_once(nat)

    def test_nat_gateway_stopped_daemon(self, nat):
        if nat.capture == "redirect":
            must_shut(nat, "dynamic")


# redirect: what is different about it ---------------------------------------

@pytest.fixture(scope="class")
def redirect(place):
    config = daemon.quick(grace=0, gateway='capture = "redirect";')
    with at_work(config) as gate:
        yield gate


def refused(ns, address, port):
    try:
        Peer(ns, address, port, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class TestRedirect:
    def test_listener_is_no_way_in(self, redirect):
        """Who dials the listener was not captured: a loop if we served it."""
        for address in ("198.18.0.1", *net.GW_UP.values()):
            assert refused("dynamic", address, 2525)
            assert refused("dynamic", address, 25)
        assert refused("inet", net.GW_UP[4], 2525)
        # The machine itself may, like the daemon's self-test.
        for loop in ("127.0.0.1", "::1"):
            with Peer("gw", loop, 2525) as peer:
                assert peer.end() == ("eof", b"")
        # Without rules nobody refuses it but the relay.
        redirect.expected += ["rules", "gate"]
        assert redirect.rules("remove").ok
        try:
            for address in net.GW_UP.values():
                with Peer("dynamic", address, 2525) as peer:
                    assert peer.end() == ("eof", b"")
        finally:
            redirect.apply()
            redirect.wait_all()

    @FAMILIES
    def test_origin_that_is_the_gateway_is_a_loop(self, redirect, family):
        """Somebody's rule leads what is for the gateway itself to us."""
        tool = "iptables" if family == 4 else "ip6tables"
        rule = ["PREROUTING", "-d", net.GW_UP[family], "-p", "tcp", "--dport",
                "25", "-j", "REDIRECT", "--to-ports", "2525"]
        proc.need("gw", [tool, "-t", "nat", "-A", *rule])
        since = redirect.here()
        try:
            with contextlib.suppress(ConnectionResetError):
                with Peer("dynamic", net.GW_UP[family], 25) as peer:
                    assert peer.end()[0] == "reset", peer
        finally:
            proc.need("gw", [tool, "-t", "nat", "-D", *rule])
        redirect.wait_event(since, "reset", reason="loop")

    @FAMILIES
    def test_input_policy_drop(self, place, redirect, family):
        """The operator's INPUT drops what it does not know."""
        tool = "iptables" if family == 4 else "ip6tables"
        icmp = "icmp" if family == 4 else "ipv6-icmp"
        rules = (["INPUT", "-i", "lo", "-j", "ACCEPT"],
                 ["INPUT", "-p", "udp", "--sport", "53", "-j", "ACCEPT"],
                 ["INPUT", "-p", icmp, "-j", "ACCEPT"])
        for rule in rules:
            proc.need("gw", [tool, "-A", *rule])
        proc.need("gw", [tool, "-P", "INPUT", "DROP"])
        try:
            legacy = scenes.line_text("legacy", family)
            must_refuse(redirect, "dynamic", family,
                        scenes.line_text("dynamic", family))
            must_submit(place, redirect, "legacy", family, legacy)
            must_fetch(place, redirect, "legacy", family, legacy)
        finally:
            proc.need("gw", [tool, "-P", "INPUT", "ACCEPT"])
            for rule in rules:
                proc.need("gw", [tool, "-D", *rule])

    def test_session_from_before_is_left_alone(self, redirect):
        """Connection tracking takes up sessions in the middle; we do not."""
        redirect.expected += ["rules", "gate"]
        assert redirect.rules("remove").ok
        try:
            peers = [Peer("dynamic", net.address("mxa", family), 25)
                     for family in (4, 6)]
            for peer in peers:
                assert "mx.alpha.example" in peer.line()
            redirect.apply()
            redirect.wait_all()
            for peer in peers:
                assert peer.ask("EHLO pc.example")[0].startswith("250"), peer
                assert peer.ask("QUIT")[0].startswith("221"), peer
                peer.close()
        finally:
            redirect.apply()
            redirect.wait_all()

    @FAMILIES
    def test_relay_from_the_gateway(self, place, redirect, family):
        """Bytes unchanged, but the server sees us, not the line."""
        since = redirect.here()
        word = token("relay")
        result = clients.msmtp("fixed", net.address("mxa", family),
                               "mx.alpha.example", "info@alpha.example", word)
        assert result.ok, result.out
        assert in_brackets(net.GW_UP[family]) in received(
            place.wait_arrival("mxa", "info", word))
        redirect.wait_event(since, "relay")

    def test_bypass_of_a_line(self, redirect):
        line = net.address("dynamic", 4)
        assert not is_direct("dynamic", 4)
        assert redirect.cli("bypass", line, "--for", "10m").ok
        assert is_direct("dynamic", 4)
        assert not is_direct("dynamic", 6)
        assert redirect.cli("bypass", "end", line).ok
        assert not is_direct("dynamic", 4)

    def test_change_of_capture(self, redirect):
        """A reload cannot; rules for the other way capture nothing."""
        redirect.expected += ["gateway.capture", "reload refused"]
        text, since = daemon.CONF.read_text(), redirect.here()
        daemon.CONF.write_text(text.replace('capture = "redirect";', ""))
        try:
            assert not redirect.cli("reload").ok
            assert redirect.rules("apply").ok
            redirect.wait_text(since, "rules are for another gateway.capture")
            redirect.wait_gate(False)
            assert is_direct("dynamic", 4)
        finally:
            daemon.CONF.write_text(text)
            redirect.apply()
            redirect.wait_all()
        assert not is_direct("dynamic", 4)

    @FAMILIES
    def test_verdict_of_nfq(self, redirect, family):
        """What nfq wants reset is not redirected."""
        text = daemon.CONF.read_text()
        daemon.CONF.write_text(text.replace('port25 = "block";',
                                            'port25 = "reset"; count = true;'))
        try:
            for step in (redirect.cli("reload"), redirect.rules("apply")):
                assert step.ok, step.out
            proc.wait_until(lambda: refused("dynamic", net.address(
                "mxa", family), 25), "nfq's reset")
        finally:
            daemon.CONF.write_text(text)
            for step in (redirect.cli("reload"), redirect.rules("apply")):
                assert step.ok, step.out
            redirect.wait_all()

    @FAMILIES
    def test_syn_cookies(self, place, redirect, family):
        """Connection tracking knows the origin, whoever keeps the request."""
        old = net.read_sysctl("gw", "net.ipv4.tcp_syncookies")
        net.sysctl("gw", net__ipv4__tcp_syncookies=2)
        try:
            for _ in range(5):
                must_fetch(place, redirect, "legacy", family,
                           scenes.line_text("legacy", family))
        finally:
            net.sysctl("gw", net__ipv4__tcp_syncookies=old)

    def test_dead_daemon_refuses_nobody(self, redirect):
        """kill -9 of everything: a SYN finds silence, then the MX; never a
        reset from the port that nobody listens on."""
        redirect.expected += ["gate", "relay", "nfq"]
        redirect.kill_all()
        began = scenes.time.monotonic()
        proc.wait_until(lambda: is_direct("dynamic", 4),
                        "the MX itself to answer", 12, pause=0.1)
        assert scenes.time.monotonic() - began <= 6.5
        redirect.start()
        redirect.wait_all()


# A pool of addresses --------------------------------------------------------

POOL = {4: ("203.0.113.193", "203.0.113.194"),
        6: ("2001:db8:b::1", "2001:db8:b::2")}


@pytest.fixture(scope="class")
def pool(place):
    ways = {4: "203.0.113.192/28", 6: "2001:db8:b::/64"}
    addresses = POOL[4] + POOL[6]
    net.batch("gw", [f"addr add {a} dev lo" for a in addresses])
    net.batch("inet", [f"route add {way} via {net.GW_UP[v]}"
                       for v, way in ways.items()])
    config = daemon.quick(grace=0, gateway='source = "gateway"; addresses = ( '
                          + ", ".join(f'"{a}"' for a in addresses) + " );")
    try:
        with at_work(config) as gate:
            yield gate
    finally:
        net.batch("inet", [f"route del {way}" for way in ways.values()])
        net.batch("gw", [f"addr del {a} dev lo" for a in POOL[4]]
                  + [f"addr del {a}/128 dev lo" for a in POOL[6]])


class TestPool:
    @FAMILIES
    def test_pool_of_addresses_is_used_in_turn(self, place, pool, family):
        """Questions to a server, whether it has STLS, take their turn too."""
        legacy = scenes.line_text("legacy", family)
        smtp = {must_submit(place, pool, "legacy", family, legacy)
                for _ in range(3)}
        assert smtp == {in_brackets(address) for address in POOL[family]}
        pop3 = {must_fetch(place, pool, "legacy", family, legacy)
                for _ in range(3)}
        assert pop3 == set(POOL[family])

    def test_address_of_the_pool_that_is_elsewhere_is_named(self, pool):
        net.batch("gw", [f"addr del {POOL[4][1]}/32 dev lo"])
        try:
            result = pool.rules("verify")
            assert f"gateway.addresses: {POOL[4][1]} is not" in result.out
        finally:
            net.batch("gw", [f"addr add {POOL[4][1]} dev lo"])


# One-armed: beside the router -----------------------------------------------

ARM = {4: "203.0.113.130", 6: "2001:db8:a::2"}
ARM_ROUTER = {4: "203.0.113.129", 6: "2001:db8:a::1"}
ARM_NET = {4: "203.0.113.128/30", 6: "2001:db8:a::/64"}
# Answers to the relays: with the lines' addresses they need the way back too.
BACK_PORTS = (25, 465, 587, 995)


@pytest.fixture(scope="class")
def arm(place):
    """A host beside gw, which becomes a plain router that sends it the lines'
    ports 25 and 110."""
    proc.need("gw", ["ip", "netns", "add", "arm"])
    net.sysctl("arm", net__ipv6__conf__default__accept_dad=0,
               net__ipv6__conf__default__accept_ra=0,
               net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1,
               net__ipv4__conf__all__send_redirects=0,
               net__ipv4__conf__default__send_redirects=0)
    net.batch("gw", ["link add name arm type veth peer name eth0 netns arm",
                     "link set dev arm up",
                     f"addr add {ARM_ROUTER[4]}/30 dev arm",
                     f"addr add {ARM_ROUTER[6]}/64 dev arm nodad"])
    net.batch("arm", ["link set dev lo up", "link set dev eth0 up",
                      f"addr add {ARM[4]}/30 dev eth0",
                      f"addr add {ARM[6]}/64 dev eth0 nodad",
                      f"route add default via {ARM_ROUTER[4]}",
                      f"route add default via {ARM_ROUTER[6]}"])
    # What arrives from the arm has its source elsewhere; and the way back of
    # an answer to port 25 would be to the arm.
    net.sysctl("gw", net__ipv4__conf__arm__rp_filter=2,
               net__ipv4__conf__up0__rp_filter=2)
    net.batch("inet", [f"route add {ARM_NET[v]} via {net.GW_UP[v]}"
                       for v in ARM_NET])
    for v in (4, 6):
        for line in "\n".join(
                [f"route add default via {ARM[v]} table 77"]
                + [f"rule add iif {name} ipproto tcp dport {port} lookup 77 "
                   "priority 77" for name in net.LINES for port in (25, 110)]
                ).splitlines():
            proc.need("gw", ["ip", f"-{v}", *line.split()])
    try:
        yield place
    finally:
        for v in (4, 6):
            while proc.run("gw", ["ip", f"-{v}", "rule", "del", "priority",
                                  "77"]).ok:
                pass
        net.batch("inet", [f"route del {way}" for way in ARM_NET.values()])
        net.sysctl("gw", net__ipv4__conf__up0__rp_filter=1)
        net.batch("gw", ["link del arm"])
        proc.need("gw", ["ip", "netns", "del", "arm"])


def back(verb):
    """The router sends answers to our ports of a line to the arm."""
    for v in (4, 6):
        for port in BACK_PORTS:
            proc.need("gw", ["ip", f"-{v}", "rule", verb, "iif", "up0",
                             "ipproto", "tcp", "sport", str(port), "dport",
                             "10240-32767", "lookup", "77", "priority", "77"])


@pytest.fixture(scope="class", params=("gateway", "client"))
def beside(arm, request):
    config = daemon.quick(grace=0, gateway=f'source = "{request.param}";')
    with contextlib.ExitStack() as stack:
        if request.param == "client":
            back("add")
            stack.callback(back, "del")
        gate = stack.enter_context(at_work(config, "arm"))
        gate.source = request.param
        yield gate


class TestOneArm:
    @FAMILIES
    def test_one_arm(self, place, beside, family):
        """Answers come back to the arm by its address, or by the way back."""
        legacy = scenes.line_text("legacy", family)
        seen = ARM[family] if beside.source == "gateway" else \
            net.address("legacy", family)
        must_refuse(beside, "dynamic", family,
                    scenes.line_text("dynamic", family))
        assert must_submit(place, beside, "legacy", family,
                           legacy) == in_brackets(seen)
        assert must_fetch(place, beside, "legacy", family, legacy) == seen
        # Not captured: to the arm, and on from there.
        assert in_brackets(net.address("allowed", family)) in must_pass(
            place, "allowed", family, "mxa", "info@alpha.example")


# One PC ---------------------------------------------------------------------

@pytest.fixture(scope="class")
def pc(place):
    """The daemon on the machine of a line, for its own programs."""
    config = daemon.quick(grace=0, gateway='capture = "redirect"; '
                          'local = true;')
    with at_work(config, "legacy") as gate:
        yield gate


class TestOnePc:
    @FAMILIES
    def test_one_pc(self, place, pc, family):
        """Its programs are served; the daemon's own connections are not
        captured: each session makes one line of the log, from the machine's
        own address."""
        own = net.address("legacy", family)
        line = scenes.line_text("legacy", family)
        must_refuse(pc, "legacy", family, line)
        assert must_submit(place, pc, "legacy", family,
                           line) == in_brackets(own)
        assert must_fetch(place, pc, "legacy", family, line) == own
        assert in_brackets(own) in must_pass(place, "legacy", family)
        assert not [row for row in pc.lines(pc.since) if "reason=loop" in row]

    @FAMILIES
    def test_one_pc_is_no_gateway_for_others(self, pc, family):
        """Its own services and its listener are what they were."""
        own = net.address("legacy", family)
        loop = "127.0.0.1" if family == 4 else "::1"
        assert refused("legacy", own, 25) and refused("legacy", loop, 25)
        assert refused("gw", own, 2525)

    def test_one_pc_rules_once(self, pc):
        must_be_once(pc)

    def test_one_pc_stopped_daemon(self, pc):
        must_shut(pc, "legacy")

    @pytest.mark.parametrize("action", ("reset", "drop"))
    def test_one_pc_other_actions(self, pc, action):
        """What the kernel decides about forwarded packets holds here too."""
        text = daemon.CONF.read_text()
        daemon.CONF.write_text(text.replace('port25 = "submit"',
                                            f'port25 = "{action}"'))
        try:
            for step in (pc.cli("reload"), pc.rules("apply")):
                assert step.ok, step.out
            with pytest.raises(ConnectionRefusedError if action == "reset"
                               else TimeoutError):
                Peer("legacy", net.address("mxa", 4), 25, timeout=1)
        finally:
            daemon.CONF.write_text(text)
            for step in (pc.cli("reload"), pc.rules("apply")):
                assert step.ok, step.out
            pc.wait_all()
