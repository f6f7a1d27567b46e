"""The rules alone, without the daemon: what the kernel does with a packet.

Four namespaces of its own (lines, gateway, a router with a narrow link, the
internet) and two servers that say who they are: one where the relays would
listen, one out there.  All sockets live in this process; each is made inside
the namespace it belongs to.
"""

import contextlib
import ctypes
import json
import os
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

import daemon
import proc

LINES, GATEWAY, ROUTER, INTERNET = NAMES = ("k-lines", "k-gw", "k-router",
                                            "k-inet")
MARK_OWN = 0x2600
IPV6_TRANSPARENT = 75

LINE = {
    "block": ("198.18.1.1", "2001:db8:1:100::1"),
    "carry": ("198.18.2.1", "2001:db8:2::1"),
    "reset": ("198.18.3.1", "2001:db8:3::1"),
    "drop": ("198.18.4.1", "2001:db8:4::1"),
    "watch": ("198.18.5.1", "2001:db8:5::1"),
    "hole": ("198.18.1.65", "2001:db8:1:200::1"),   # carry inside block
    "allowed": ("198.18.1.99", "2001:db8:1:9900::1"),
    "acarry": ("198.18.1.97", "2001:db8:1:9700::1"),
    "nobody": ("198.19.0.1", "2001:db8:99::1"),
    "lblock": ("198.18.6.1", "2001:db8:6::1"),      # enforce = "listed"
    "lcarry": ("198.18.7.1", "2001:db8:7::1"),
    "lreset": ("198.18.8.1", "2001:db8:8::1"),
    "ldrop": ("198.18.9.1", "2001:db8:9::1"),
    "creset": ("198.18.10.1", "2001:db8:10::1"),    # queued first
}
HOST = {
    "mx": ("203.0.113.25", "2001:db8:f::25"),
    "own": ("203.0.113.80", "2001:db8:f::80"),
    "pass": ("203.0.113.129", "2001:db8:f:1::1"),
    "never": ("203.0.113.66", "2001:db8:f::66"),
    "private": ("10.9.9.9", "fd00:9::9"),
    "listed": ("203.0.113.44", "2001:db8:f:44::1"),
}
CONFIG = """
gateway = {{ name = "gw1.isp.example"; on_failure = "{failure}";
  never = ( "203.0.113.66", "2001:db8:f::66" ); }};
subscribers = (
  {{ class = "b"; prefixes = ( "198.18.1.0/24", "2001:db8:1::/48" );
    port25 = "block"; enforce = "all"; }},
  {{ class = "h"; prefixes = ( "198.18.1.64/28", "2001:db8:1:200::/56" );
    port25 = "relay"; }},
  {{ class = "c"; prefixes = ( "198.18.2.0/24", "2001:db8:2::/48" );
    port25 = "relay"; count = true; }},
  {{ class = "r"; prefixes = ( "198.18.3.0/24", "2001:db8:3::/48" );
    port25 = "reset"; enforce = "all"; }},
  {{ class = "d"; prefixes = ( "198.18.4.0/24", "2001:db8:4::/48" );
    port25 = "drop"; enforce = "all"; }},
  {{ class = "w"; prefixes = ( "198.18.5.0/24", "2001:db8:5::/48" );
    port25 = "block"; }},
  {{ class = "lb"; prefixes = ( "198.18.6.0/24", "2001:db8:6::/48" );
    port25 = "block"; enforce = "listed"; destinations_file = "listed"; }},
  {{ class = "lc"; prefixes = ( "198.18.7.0/24", "2001:db8:7::/48" );
    port25 = "relay"; enforce = "listed"; destinations_file = "listed"; }},
  {{ class = "lr"; prefixes = ( "198.18.8.0/24", "2001:db8:8::/48" );
    port25 = "reset"; enforce = "listed"; destinations_file = "listed"; }},
  {{ class = "ld"; prefixes = ( "198.18.9.0/24", "2001:db8:9::/48" );
    port25 = "drop"; enforce = "listed"; destinations_file = "listed"; }},
  {{ class = "cr"; prefixes = ( "198.18.10.0/24", "2001:db8:10::/48" );
    port25 = "reset"; enforce = "all"; count = true; }}
);
nfq = {{ submission = true; return_path = "{back}"; }};
allow = {{ file = "{allow}"; }};
pass_destinations = ( "own", "203.0.113.128/25", "2001:db8:f:1::/64" );
servers = ( {{ name = "mail.isp.example"; submission = "tls:465";
  pop3 = "tls:995"; imap = "tls:993"; own = true;
  addresses = ( "203.0.113.80", "2001:db8:f::80" ); }} );
pop3 = {{ wrap = "listed"; }};
"""
ALLOW = """198.18.1.96/28   # all of these, but
198.18.1.97 port25=relay
2001:db8:1:9900::/56
2001:db8:1:9700::/56 port25=relay
"""

FAMILIES = pytest.mark.parametrize("v", (0, 1), ids=("v4", "v6"))
libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(name):
    """This thread in another network namespace; its sockets stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(there, 0):
            raise OSError(ctypes.get_errno(), f"setns {name}")
        yield
    finally:
        libc.setns(home, 0)
        os.close(home)
        os.close(there)


def new_socket(v, transparent=False, mark=0):
    s = socket.socket(socket.AF_INET6 if v else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if transparent and v:
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    elif transparent:
        s.setsockopt(socket.SOL_IP, 19, 1)
    if mark:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return s


class Speaker:
    """Says "NAME PEER LOCAL", then echoes; "bye" makes it close first."""

    def __init__(self, name, ns, v, address, port, transparent=False):
        with inside(ns):
            self.socket = new_socket(v, transparent)
            if v:
                self.socket.setsockopt(socket.IPPROTO_IPV6,
                                       socket.IPV6_V6ONLY, 1)
            self.socket.bind((address, port))
            self.socket.listen(64)
        self.name = name
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, peer = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s, peer),
                             daemon=True).start()

    def serve(self, s, peer):
        with contextlib.suppress(OSError), s:
            local = s.getsockname()
            s.sendall(f"{self.name} {peer[0]} {local[0]} {local[1]}\n"
                      .encode())
            while (data := s.recv(65536)) and data != b"bye\n":
                s.sendall(data)


class Client:
    def __init__(self, v, line, host, port=25, ns=LINES, timeout=3, sport=0,
                 **options):
        with inside(ns):
            self.socket = new_socket(v, **options)
        self.socket.settimeout(timeout)
        self.socket.bind((LINE.get(line, (line, line))[v], sport))
        self.socket.connect((HOST[host][v], port))
        self.banner = self.read().split()

    def read(self):
        data = b""
        while not data.endswith(b"\n"):
            more = self.socket.recv(65536)
            if not more:
                break
            data += more
        return data.decode()

    def echo(self, text="hello\n"):
        self.socket.sendall(text.encode())
        return self.read() == text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def who(v, line, host, port=25, **more):
    """"proxy" or "server", or what became of the connection."""
    try:
        with Client(v, line, host, port, **more) as client:
            return client.banner[0]
    except (ConnectionResetError, ConnectionRefusedError):
        return "reset"
    except (TimeoutError, PermissionError):
        return "nothing"


def batch(ns, text):
    proc.need(ns, ["ip", "-batch", "-"], text=text)


def raise_network():
    for name in NAMES:
        os.system(f"ip netns add {name}")
        proc.need(name, ["sysctl", "-q", "-w",
                         "net.ipv6.conf.default.accept_dad=0",
                         "net.ipv6.conf.all.accept_dad=0",
                         "net.ipv4.ip_forward=1",
                         "net.ipv4.conf.all.rp_filter=1",
                         "net.ipv6.conf.all.forwarding=1"])
        batch(name, "link set lo up\n")
    for left, right, a, b in ((GATEWAY, LINES, "c0", "e0"),
                              (GATEWAY, ROUTER, "s0", "r0"),
                              (ROUTER, INTERNET, "r1", "e0")):
        batch(left, f"link add {a} type veth peer name {b} netns {right}\n"
                    f"link set {a} up\n")
        batch(right, f"link set {b} up\n")
    batch(LINES, "".join(
        f"addr add {four}/32 dev e0\naddr add {six}/128 dev e0 nodad\n"
        for four, six in LINE.values())
        + "addr add fe80::2/64 dev e0 nodad\n"
        "route add 198.18.0.1 dev e0 src 198.18.1.1\n"
        "route add default via 198.18.0.1\n"
        "route add default via fe80::1 dev e0\n")
    batch(GATEWAY, "addr add 198.18.0.1/15 dev c0\n"
          "addr add fe80::1/64 dev c0 nodad\n"
          "addr add 192.0.2.1/30 dev s0\naddr add fe80::1/64 dev s0 nodad\n"
          "addr add 2001:db8:a::1/64 dev s0 nodad\n"
          "route add default via 192.0.2.2\n"
          "route add default via fe80::2 dev s0\n"
          + "".join(f"route add {six} via fe80::2 dev c0\n"
                    for _, six in LINE.values()))
    batch(ROUTER, "addr add 192.0.2.2/30 dev r0\n"
          "addr add fe80::2/64 dev r0 nodad\n"
          "addr add 203.0.113.1/24 dev r1\naddr add fe80::1/64 dev r1 nodad\n"
          "route add 198.18.0.0/15 via 192.0.2.1\n"
          "route add 2001:db8::/32 via fe80::1 dev r0\n"
          "route add 2001:db8:f::/48 via fe80::2 dev r1 mtu 1300\n"
          "route add fd00:9::9 via fe80::2 dev r1\n"
          "route add 10.9.9.9 via 203.0.113.25\n"
          "route add 203.0.113.25 dev r1 mtu lock 1300\n")
    batch(INTERNET, "addr add fe80::2/64 dev e0 nodad\n" + "".join(
        f"addr add {four}/24 dev e0\naddr add {six}/128 dev e0 nodad\n"
        for four, six in HOST.values())
        + "route add default via 203.0.113.1\n"
        "route add default via fe80::1 dev e0\n")


class Kernel:
    def __init__(self, directory):
        self.allow = directory / "allow.list"
        self.allow.write_text(ALLOW)
        (directory / "listed").write_text("203.0.113.44\n"
                                          "2001:db8:f:44::/64 # a carrier\n")
        self.config = directory / "kernel.conf"
        self.configure()

    def configure(self, failure="open", back="off"):
        self.config.write_text(CONFIG.format(allow=self.allow, back=back,
                                             failure=failure))

    def command(self, *words):
        return proc.run(GATEWAY, [daemon.BUILD / "sallyport", "-c", self.config,
                                  *words])

    def rules(self, verb):
        return self.command("rules", verb)

    def bypass(self, *words):
        result = self.command("bypass", *words)
        assert result.ok, result.out
        return result.out

    def apply(self, **options):
        self.configure(**options)
        result = self.rules("apply")
        assert result.ok, result.out
        result = self.rules("verify")
        assert result.ok, result.out

    def open(self, *ports, full=True, seconds=600):
        """What the daemon does each second, for longer."""
        for name in ("sallyport_live", "sallyport_all"):
            proc.need(GATEWAY, ["ipset", "flush", name])
            for port in ports if full or name.endswith("live") else ():
                proc.need(GATEWAY, ["ipset", "add", name, str(port),
                                    "timeout", str(seconds)])

    def shut(self):
        self.open()

    def nfq(self, *ports, seconds=600):
        """What the daemon does while nfq answers."""
        proc.need(GATEWAY, ["ipset", "flush", "sallyport_nfq"])
        for port in ports:
            proc.need(GATEWAY, ["ipset", "add", "sallyport_nfq", str(port),
                                "timeout", str(seconds)])


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    raise_network()
    speakers = []
    for v in (0, 1):
        for port in (25, 80, 110, 143, 587):
            speakers.append(Speaker("server", INTERNET, v, "::" if v else
                                    "0.0.0.0", port))
        speakers.append(Speaker("proxy", GATEWAY, v, "::1" if v else
                                "127.0.0.1", 2525, transparent=True))
    yield Kernel(tmp_path_factory.mktemp("kernel"))
    for speaker in speakers:
        speaker.socket.close()
    for name in NAMES:
        os.system(f"ip netns del {name}")


@pytest.fixture
def kernel(machine):
    machine.apply()
    machine.shut()
    machine.nfq()
    yield machine
    for path in Path("/run").glob("sallyport-bypass.*"):
        path.unlink()       # or the next apply would bring them back
    for name in ("off", "calmp", "bypass4", "bypass6", "bypassd4",
                 "bypassd6", "calm4", "calm6", "calmd4", "calmd6"):
        proc.need(GATEWAY, ["ipset", "flush", "sallyport_" + name])


class Reader:
    """A reader of the queue that counts what is queued and answers each packet
    in the way it was told, or never."""

    VERDICT = {"accept": (1, None), "reset": (1, 0x2700), "drop": (0, None)}

    def __init__(self, verdict):
        self.verdict, self.seen, self.done = verdict, [], False
        with inside(GATEWAY):
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        self.socket.bind((0, 0))
        self.socket.settimeout(5)
        self.ask(2, attribute(1, struct.pack(">BxH", 1, 0)))
        self.ask(2, attribute(2, struct.pack(">IB", 200, 2)))
        self.socket.settimeout(0.1)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def message(self, kind, body, flags):
        head = struct.pack("=IHHII", 20 + len(body), 0x300 | kind, flags, 1, 0)
        return head + struct.pack(">BBH", 0, 0, 2525) + body

    def ask(self, kind, body):
        self.socket.send(self.message(kind, body, 5))
        error = struct.unpack_from("=i", self.socket.recv(65536), 16)[0]
        if error:
            raise OSError(-error, os.strerror(-error))

    def read(self):
        while not self.done:
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            self.packet(data)

    def packet(self, data):
        at, end, parts = 20, struct.unpack_from("=I", data)[0], {}
        while at + 4 <= end:
            size, kind = struct.unpack_from("=HH", data, at)
            parts[kind & 0x3fff] = data[at + 4:at + size]
            at += (size + 3) & ~3
        if 1 not in parts or 10 not in parts:
            return
        self.seen.append(ports(parts[10]))
        if self.verdict is None:
            return
        code, mark = self.VERDICT[self.verdict]
        body = attribute(2, struct.pack(">I", code) + parts[1][:4])
        if mark is not None:
            body += attribute(3, struct.pack(">I", mark))
        self.socket.send(self.message(1, body, 1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done = True
        self.thread.join()
        self.socket.close()


def attribute(kind, data):
    return (struct.pack("=HH", 4 + len(data), kind) + data
            + bytes(-len(data) % 4))


def ports(packet):
    """Source and destination address and port of a TCP packet."""
    if packet[0] >> 4 == 6:
        at, family, first, size = 40, socket.AF_INET6, 8, 16
    else:
        at, family, first, size = (packet[0] & 15) * 4, socket.AF_INET, 12, 4
    sport, dport = struct.unpack_from(">HH", packet, at)
    addresses = [socket.inet_ntop(family, packet[i:i + size])
                 for i in (first, first + size)]
    return addresses[0], sport, addresses[1], dport


@FAMILIES
def test_shut_gate_captures_nothing(kernel, v):
    for line in ("block", "carry", "hole", "allowed", "acarry", "watch"):
        assert who(v, line, "mx") == "server"
    assert who(v, "block", "own", 110) == "server"


@FAMILIES
def test_who_is_captured(kernel, v):
    kernel.open(25, 110, 143)
    want = {("block", "mx"): "proxy", ("carry", "mx"): "proxy",
            ("hole", "mx"): "proxy", ("acarry", "mx"): "proxy",
            ("allowed", "mx"): "server", ("watch", "mx"): "server",
            ("nobody", "mx"): "server", ("block", "own"): "server",
            ("block", "pass"): "server", ("block", "never"): "server",
            ("block", "private"): "server", ("carry", "own"): "proxy",
            ("hole", "pass"): "proxy", ("acarry", "own"): "proxy",
            ("reset", "mx"): "reset", ("reset", "own"): "server",
            ("reset", "pass"): "server"}
    got = {pair: who(v, *pair) for pair in want}
    assert got == want
    assert who(v, "drop", "mx", timeout=1) == "nothing"
    assert who(v, "drop", "own") == "server"
    # POP3 and IMAP: only of listed servers, for every subscriber
    for port in (110, 143):
        assert who(v, "watch", "own", port) == "proxy"
        assert who(v, "allowed", "own", port) == "proxy"
        assert who(v, "nobody", "own", port) == "server"
        assert who(v, "block", "mx", port) == "server"
    assert who(v, "block", "mx", 80) == "server"


@FAMILIES
def test_origin_is_the_address_dialled(kernel, v):
    kernel.open(25)
    with Client(v, "block", "mx") as client:
        assert client.banner == ["proxy", LINE["block"][v], HOST["mx"][v],
                                 "25"]


@FAMILIES
def test_grace_leaves_running_sessions_alone(kernel, v):
    with Client(v, "block", "mx") as old:
        assert old.banner[0] == "server"
        kernel.open(25, full=False)
        assert who(v, "block", "mx") == "proxy"
        assert old.echo()
        kernel.open(25)
        with pytest.raises(OSError):
            for _ in range(3):
                assert old.echo()


@FAMILIES
def test_syn_cookies(kernel, v):
    kernel.open(25)
    proc.need(GATEWAY, ["sysctl", "-q", "-w", "net.ipv4.tcp_syncookies=2"])
    try:
        for _ in range(10):
            with Client(v, "block", "mx") as client:
                assert client.banner[0] == "proxy"
                assert client.echo()
    finally:
        proc.need(GATEWAY, ["sysctl", "-q", "-w", "net.ipv4.tcp_syncookies=1"])


@FAMILIES
def test_gate_shuts_by_itself_and_sessions_go_on(kernel, v):
    kernel.open(25, seconds=1)
    with Client(v, "block", "mx") as client:
        assert client.banner[0] == "proxy"
        proc.wait_until(lambda: who(v, "block", "mx") == "server",
                        "the gate to shut", 5)
        assert client.echo()


@FAMILIES
def test_same_ports_again_at_once(kernel, v):
    """A client comes back with the ports of a session in TIME_WAIT."""
    kernel.open(25)
    for _ in range(3):
        began = time.monotonic()
        with Client(v, "block", "mx", sport=40123) as client:
            assert client.banner[0] == "proxy"
            assert time.monotonic() - began < 0.9, "a SYN was lost"
            client.socket.sendall(b"bye\n")
            assert client.socket.recv(10) == b""


@FAMILIES
def test_closed_resets_port_25_while_the_gate_is_shut(kernel, v):
    kernel.apply(failure="closed")
    kernel.shut()
    want = {("block", "mx"): "reset", ("carry", "mx"): "reset",
            ("hole", "mx"): "reset", ("acarry", "mx"): "reset",
            ("allowed", "mx"): "server", ("watch", "mx"): "server",
            ("nobody", "mx"): "server", ("block", "own"): "server",
            ("block", "pass"): "server"}
    assert {pair: who(v, *pair) for pair in want} == want
    assert who(v, "block", "own", 110) == "server"
    kernel.open(25, full=False)
    assert who(v, "block", "mx") == "proxy"


@FAMILIES
def test_input_policy_drop(kernel, v):
    kernel.open(25)
    tool = "ip6tables" if v else "iptables"
    proc.need(GATEWAY, [tool, "-P", "INPUT", "DROP"])
    try:
        if v:   # neighbour discovery is not ours to let in
            proc.need(GATEWAY, [tool, "-A", "INPUT", "-p", "ipv6-icmp", "-j",
                                "ACCEPT"])
        with Client(v, "block", "mx") as client:
            assert client.banner[0] == "proxy" and client.echo()
        with upstream(v) as client:
            assert client.banner[0] == "server" and client.echo()
    finally:
        proc.need(GATEWAY, [tool, "-P", "INPUT", "ACCEPT"])
        proc.run(GATEWAY, [tool, "-D", "INPUT", "-p", "ipv6-icmp", "-j",
                           "ACCEPT"])


def upstream(v, line="block", host="mx", port=25, **more):
    """A relay's connection: marked, with the line's address."""
    return Client(v, line, host, port, ns=GATEWAY, transparent=True,
                  mark=MARK_OWN, **more)


@FAMILIES
def test_relays_connections(kernel, v):
    kernel.open(25)
    with upstream(v) as client:
        assert client.banner[:2] == ["server", LINE["block"][v]]
        assert client.echo()
    local = ("192.0.2.1", "2001:db8:a::1")[v]
    with upstream(v, local) as client:
        assert client.banner[:2] == ["server", local]


@FAMILIES
def test_jail(kernel, v):
    def outcome(**more):
        return who(v, ns=GATEWAY, transparent=True, mark=MARK_OWN, timeout=1,
                   **more)
    local = ("192.0.2.1", "2001:db8:a::1")[v]
    assert outcome(line=local, host="mx", port=80) == "reset"
    assert outcome(line=local, host="never") == "reset"
    assert outcome(line=local, host="private") == "reset"
    assert outcome(line="block", host="mx", port=80) == "nothing"
    assert outcome(line="block", host="private") == "nothing"
    assert outcome(line="nobody", host="mx") == "nothing"
    # only the relays' own connections are jailed
    assert who(v, local, "mx", 80, ns=GATEWAY) == "server"


@FAMILIES
def test_path_mtu_of_the_relays(kernel, v):
    """The router's ICMP error is addressed to the line and must reach us."""
    kernel.open(25)
    with upstream(v, timeout=10) as client:
        data = b"x" * 199999 + b"\n"
        threading.Thread(target=client.socket.sendall, args=(data,),
                         daemon=True).start()
        assert len(client.read()) == len(data)
    proc.need(GATEWAY, ["ip", "-6" if v else "-4", "route", "flush", "cache"])


@FAMILIES
def test_listed_destinations(kernel, v):
    kernel.open(25)
    want = {("lblock", "listed"): "proxy", ("lblock", "mx"): "server",
            ("lcarry", "listed"): "proxy", ("lcarry", "mx"): "server",
            ("lreset", "listed"): "reset", ("lreset", "mx"): "server",
            ("ldrop", "mx"): "server", ("block", "listed"): "proxy",
            ("watch", "listed"): "server", ("reset", "listed"): "reset"}
    assert {pair: who(v, *pair) for pair in want} == want
    assert who(v, "ldrop", "listed", timeout=1) == "nothing"
    kernel.shut()
    assert who(v, "lblock", "listed") == "server"
    kernel.apply(failure="closed")
    kernel.shut()
    for line in ("lblock", "lcarry"):
        assert who(v, line, "listed") == "reset"
        assert who(v, line, "mx") == "server"


# ---- first packets ----

COUNTED = {("block", "mx"): True, ("carry", "mx"): True, ("watch", "mx"): True,
           ("hole", "own"): False, ("carry", "pass"): True,
           ("hole", "mx"): False, ("carry", "own"): True,
           ("lcarry", "mx"): True, ("lcarry", "listed"): False,
           ("creset", "mx"): True, ("lblock", "mx"): True,
           ("lblock", "listed"): True, ("lreset", "mx"): True,
           ("watch", "own"): True,
           ("block", "own"): False, ("block", "pass"): False,
           ("allowed", "mx"): False, ("acarry", "mx"): False,
           ("reset", "mx"): False, ("creset", "own"): False,
           ("lreset", "listed"): False, ("lblock", "own"): False,
           ("nobody", "mx"): False}


@FAMILIES
def test_which_first_packets_are_queued(kernel, v):
    kernel.open(25)
    kernel.nfq(25)
    with Reader("accept") as reader:
        for pair, queued in COUNTED.items():
            del reader.seen[:]
            outcome = who(v, *pair)
            assert bool(reader.seen) == queued, (pair, outcome, reader.seen)
            if queued:
                source, _, destination, port = reader.seen[0]
                assert (source, destination, port) == (
                    LINE[pair[0]][v], HOST[pair[1]][v], 25)
                assert len(reader.seen) == 1, "only the SYN"
        assert who(v, "block", "mx", 80) == "server"
        del reader.seen[:]
        assert who(v, "block", "mx", 587) == "server"
        assert not reader.seen, "587 is not in the gate"
        kernel.nfq(25, 587)
        assert who(v, "block", "mx", 587) == "server"
        assert who(v, "allowed", "mx", 587) == "server"
        assert who(v, "nobody", "mx", 587) == "server"
        assert [seen[3] for seen in reader.seen] == [587, 587]
        assert who(v, "block", "mx") == "proxy"


@FAMILIES
def test_queue_without_reader_lets_pass(kernel, v):
    kernel.open(25)
    kernel.nfq(25, 587)
    want = {("block", "mx"): "proxy", ("watch", "mx"): "server",
            ("carry", "mx"): "proxy", ("reset", "mx"): "reset",
            ("creset", "mx"): "reset"}
    assert {pair: who(v, *pair) for pair in want} == want
    assert who(v, "block", "mx", 587) == "server"


@FAMILIES
def test_gate_of_nfq(kernel, v):
    """A reader that is there but says nothing holds no one for long."""
    with Reader(None) as reader:
        assert who(v, "watch", "mx", timeout=1) == "server"
        assert not reader.seen, "queued with the gate shut"
        kernel.nfq(25, seconds=2)
        assert who(v, "watch", "mx", timeout=0.5) == "nothing"
        assert reader.seen
        began = time.monotonic()
        proc.wait_until(lambda: who(v, "watch", "mx", timeout=0.5) == "server",
                        "the gate of nfq to shut", 6)
        assert time.monotonic() - began < 4


@FAMILIES
@pytest.mark.parametrize("line", ("block", "carry", "watch", "creset"))
def test_verdict_reset(kernel, v, line):
    """The mark skips capture; the client sees a reset at once."""
    kernel.open(25)
    kernel.nfq(25)
    with Reader("reset") as reader:
        began = time.monotonic()
        assert who(v, line, "mx") == "reset"
        assert time.monotonic() - began < 0.5
        assert len(reader.seen) == 1
    with Reader("drop"):
        assert who(v, line, "mx", timeout=0.5) == "nothing"


@FAMILIES
@pytest.mark.parametrize("strict", (0, 1, 2))
def test_verdict_reset_with_source_filter(kernel, v, strict):
    kernel.nfq(25)
    proc.need(GATEWAY, ["sysctl", "-q", "-w",
                        f"net.ipv4.conf.all.rp_filter={strict}",
                        f"net.ipv4.conf.c0.rp_filter={strict}"])
    try:
        with Reader("reset"):
            assert who(v, "block", "mx") == "reset"
    finally:
        proc.need(GATEWAY, ["sysctl", "-q", "-w",
                            "net.ipv4.conf.all.rp_filter=1",
                            "net.ipv4.conf.c0.rp_filter=0"])


def answer_unasked(v, line, host):
    """A server's SYN+ACK to a line whose SYN went another way: the line's end
    is bound here and its SYN kept from us by a rule of this test."""
    with inside(LINES):
        raw = socket.socket(socket.AF_INET6 if v else socket.AF_INET,
                            socket.SOCK_RAW, socket.IPPROTO_TCP)
    with inside(INTERNET):
        out = socket.socket(socket.AF_INET6 if v else socket.AF_INET,
                            socket.SOCK_RAW, socket.IPPROTO_TCP)
    with raw, out:
        raw.settimeout(1)
        out.bind((HOST[host][v], 0))
        segment = tcp_synack(HOST[host][v], LINE[line][v], v)
        out.sendto(segment, (LINE[line][v], 0))
        while True:
            try:
                data, _ = raw.recvfrom(4096)
            except TimeoutError:
                return "dropped"
            at = 0 if v else (data[0] & 15) * 4
            if struct.unpack_from(">HH", data, at) == (25, 41234):
                return "arrived"


def tcp_synack(source, destination, v):
    family = socket.AF_INET6 if v else socket.AF_INET
    head = struct.pack(">HHIIBBHHH", 25, 41234, 7, 8, 0x50, 0x12, 1024, 0, 0)
    ends = (socket.inet_pton(family, source)
            + socket.inet_pton(family, destination))
    pseudo = ends + (struct.pack(">II", 20, 6) if v
                     else struct.pack(">HH", 6, 20)) + head
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return head[:16] + struct.pack(">H", ~total & 0xffff) + head[18:]


@FAMILIES
@pytest.mark.parametrize("back", ("off", "count", "drop"))
def test_return_path(kernel, v, back):
    kernel.apply(back=back)
    kernel.open(25)
    kernel.nfq(25)
    with Reader("accept") as reader:
        assert answer_unasked(v, "block", "mx") == "arrived"
        assert len(reader.seen) == (0 if back == "off" else 1)
        del reader.seen[:]
        for pair in (("carry", "mx"), ("allowed", "mx"), ("block", "own"),
                     ("block", "pass"), ("nobody", "mx"), ("lblock", "mx")):
            assert answer_unasked(v, *pair) == "arrived", pair
        # sessions of the relays do not come by here
        with upstream(v) as client:
            assert client.echo()
        assert not reader.seen
    kernel.nfq()
    assert answer_unasked(v, "block", "mx") == (
        "dropped" if back == "drop" else "arrived")
    assert answer_unasked(v, "lblock", "listed") == (
        "dropped" if back == "drop" else "arrived")
    kernel.shut()
    assert answer_unasked(v, "block", "mx") == "arrived"
    assert who(v, "block", "mx") == "server"


def test_verify_names_rules_that_the_queue_skips(kernel):
    rule = ["PREROUTING", "-p", "udp", "--dport", "53", "-j", "NOTRACK"]
    proc.need(GATEWAY, ["iptables", "-t", "raw", "-A"] + rule)
    try:
        result = kernel.rules("verify")
        assert result.ok and "do not meet a rule behind ours" in result.out
    finally:
        proc.need(GATEWAY, ["iptables", "-t", "raw", "-D"] + rule)


# ---- bypass ----

def captures(v):
    """Who meets us, of all that could."""
    want = {("block", "mx"): "proxy", ("carry", "mx"): "proxy",
            ("acarry", "mx"): "proxy", ("lblock", "listed"): "proxy",
            ("reset", "mx"): "reset", ("lreset", "listed"): "reset"}
    return {pair for pair, how in want.items() if who(v, *pair) == how}, \
        set(want)


@FAMILIES
def test_bypass_all(kernel, v):
    kernel.open(25, 110)
    kernel.nfq(25)
    with Client(v, "block", "mx") as session, Reader("accept") as reader:
        assert session.banner[0] == "proxy"
        began = time.monotonic()
        kernel.bypass("all", "--for", "30m")
        assert who(v, "block", "mx") == "server"
        assert time.monotonic() - began < 1
        del reader.seen[:]
        assert captures(v)[0] == set()
        assert who(v, "drop", "mx") == "server"
        assert who(v, "watch", "own", 110) == "server"
        assert not reader.seen
        assert session.echo(), "a session that we hold goes on"
        assert kernel.rules("verify").ok
        assert kernel.rules("apply").ok
        assert who(v, "block", "mx") == "server", "apply keeps a bypass"
        listed = json.loads(kernel.bypass("list", "--json"))["bypass"]
        assert [entry["kind"] for entry in listed] == ["all"]
        assert 1700 < listed[0]["seconds"] <= 1800
        with Client(v, "block", "mx") as direct:
            assert direct.banner[0] == "server"
            assert "all ended" in kernel.bypass("end", "all")
            assert who(v, "block", "mx") == "proxy"
            for _ in range(3):
                assert direct.echo(), "torn by the end of the bypass"
    assert captures(v)[0] == captures(v)[1]
    assert kernel.command("bypass", "end", "all").code == 1


@FAMILIES
def test_bypass_all_when_closed(kernel, v):
    """on_failure = "closed" and a dead daemon: mail flows all the same."""
    kernel.apply(failure="closed")
    kernel.shut()
    assert who(v, "block", "mx") == "reset"
    kernel.bypass("all", "--for", "1h")
    for line in ("block", "carry", "acarry", "reset"):
        assert who(v, line, "mx") == "server"


@FAMILIES
def test_bypass_ends_by_itself(kernel, v):
    kernel.open(25)
    kernel.bypass("all", "--for", "1s")
    proc.wait_until(lambda: who(v, "block", "mx") == "proxy",
                    "the bypass to end", 4)


@FAMILIES
def test_bypass_line(kernel, v):
    kernel.open(25)
    line = LINE["block"][v]
    assert kernel.bypass(line, "--for", "10m").startswith("line ")
    assert who(v, "block", "mx") == "server"
    assert who(v, "carry", "mx") == "proxy"
    kernel.bypass(LINE["reset"][v], "--for", "10m")
    assert who(v, "reset", "mx") == "server"
    assert len(kernel.bypass("list").splitlines()) == 2
    with Client(v, "block", "mx") as direct:
        kernel.bypass("end", line)
        assert who(v, "block", "mx") == "proxy"
        assert direct.echo(), "torn by the end of the bypass"
    # an IPv6 address stands for its line
    assert ("/56 " in kernel.bypass(line, "--for", "1m")) == bool(v)
    prefix = ("198.18.1.0/24", "2001:db8:1::/48")[v]
    kernel.bypass("end", line)
    kernel.bypass(prefix, "--for", "1m")
    assert who(v, "hole", "mx") == "server"
    assert who(v, "carry", "mx") == "proxy"


@FAMILIES
def test_bypass_destination(kernel, v):
    kernel.open(25)
    kernel.bypass(HOST["mx"][v], "--for", "10m")
    assert captures(v)[0] == {("lblock", "listed"), ("lreset", "listed")}
    assert who(v, "drop", "mx") == "server"
    assert kernel.bypass("list").startswith("destination " + HOST["mx"][v])
    kernel.bypass("end", HOST["mx"][v])
    assert captures(v)[0] == captures(v)[1]
    # one line to another: which of the two is meant has to be said
    kernel.bypass(LINE["watch"][v], "--destination", "--for", "1m")
    assert kernel.bypass("list").startswith("destination ")


@pytest.mark.parametrize("words", (
    ("all",), ("--for", "1m"), ("all", "--for"), ("all", "--for", "1"),
    ("all", "--for", "0s"), ("all", "--for", "40d"), ("all", "--for", "1w"),
    ("198.18.1.1/24", "--for", "1m"), ("0.0.0.0/0", "--for", "1m"),
    ("1.2.3", "--for", "1m"), ("all", "more", "--for", "1m"),
    ("all", "--line", "--for", "1m"), ("end",), ("list", "more"),
    ("198.18.1.1", "--line", "--destination", "--for", "1m"),
    ("mx.example", "--line", "--for", "1m")))
def test_bypass_words(kernel, words):
    result = kernel.command("bypass", *words)
    assert result.code == 2, result.out
    assert kernel.bypass("list") == ""


def test_bypass_without_rules(machine):
    assert machine.rules("remove").ok
    for words in (("all", "--for", "1m"), ("198.18.1.1", "--for", "1m"),
                  ("2001:db8:f::25", "--for", "1m"), ("list",),
                  ("end", "all")):
        result = machine.command("bypass", *words)
        assert result.code == 1 and "no rules" in result.out, result.out


def state():
    """Everything of the gateway that the rules may touch."""
    text = ""
    for argv in (["iptables-save"], ["ip6tables-save"], ["ip", "rule"],
                 ["ip", "-6", "rule"], ["ip", "route", "show", "table", "all"],
                 ["ip", "-6", "route", "show", "table", "all"],
                 ["ipset", "list", "-n"]):
        text += proc.need(GATEWAY, argv)
    return [line for line in text.splitlines() if line.startswith("-A")
            or line[:1] not in "#*:" and line != "COMMIT"]


REFUSED = {
    "forwarding": (["sysctl", "-q", "-w", "net.ipv4.ip_forward=0"],
                   ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"],
                   "ip_forward"),
    "forwarding6": (["sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=0"],
                    ["sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1"],
                    "forwarding"),
    "valid mark": (["sysctl", "-q", "-w", "net.ipv4.conf.c0.src_valid_mark=1"],
                   ["sysctl", "-q", "-w", "net.ipv4.conf.c0.src_valid_mark=0"],
                   "src_valid_mark"),
    "mark": (["ip", "rule", "add", "fwmark", "0x500/0x500", "table", "9",
              "priority", "9"], ["ip", "rule", "del", "priority", "9"],
             "gateway.mark"),
    "priority": (["ip", "-6", "rule", "add", "from", "fd00::/8", "table", "9",
                  "priority", "2525"],
                 ["ip", "-6", "rule", "del", "priority", "2525"],
                 "gateway.priority"),
    "table": (["ip", "route", "add", "198.51.100.0/24", "dev", "s0", "table",
               "2525"], ["ip", "route", "flush", "table", "2525"],
              "gateway.table"),
}


@pytest.mark.parametrize("reason", sorted(REFUSED))
def test_refused_with_the_reason_and_nothing_changed(machine, reason):
    do, undo, word = REFUSED[reason]
    assert machine.rules("remove").ok
    proc.need(GATEWAY, do)
    try:
        before = state()
        result = machine.rules("apply")
        assert result.code == 1 and word in result.out, result.out
        assert state() == before
    finally:
        proc.need(GATEWAY, undo)
    assert machine.rules("remove").ok


def test_a_failure_half_way_is_undone(machine):
    """A set in the way that cannot be replaced: found only while applying."""
    assert machine.rules("remove").ok
    before = state()
    proc.need(GATEWAY, ["ipset", "create", "sallyport_never4",
                       "bitmap:port", "range", "0-9"])
    try:
        result = machine.rules("apply")
        assert result.code == 1 and "sallyport_never4" in result.out
        proc.need(GATEWAY, ["ipset", "destroy", "sallyport_never4"])
        assert state() == before
    finally:
        proc.run(GATEWAY, ["ipset", "destroy", "sallyport_never4"])


def test_old_numbers_are_replaced(machine):
    """Another mark and table, the same priority: nothing of the old stays."""
    machine.apply()
    text = machine.config.read_text()
    machine.config.write_text(text.replace(
        "gateway = {", 'gateway = { mark = "0x30000/0xff0000"; table = 77;'))
    result = machine.rules("apply")
    assert result.ok, result.out
    result = machine.rules("verify")
    assert result.ok, result.out
    assert not [line for line in state() if "2525" in line
                and "TPROXY" not in line and "NFQUEUE" not in line
                and not line.startswith("2525:")]
    assert not [line for line in state() if "0x2500" in line]
    assert machine.rules("remove").ok
    assert not [line for line in state() if "sallyport" in line or
                "0x30000" in line or "table 77" in line]
