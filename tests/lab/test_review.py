"""Moments that a reader of the code doubted: peers that are slow, tables that
are not there yet, ends in the middle of a TLS record."""

import os
import signal
import socket
import time

import daemon
import net
import odd
import proc
from dovecot import PASSWORD
from peer import Peer
from test_peers import PLAIN, odd_submit, pop3, submit

ROLES = 3       # one relay, control, nfq

def narrow_window(conn, size=4096):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def test_large_mail_to_a_slow_server(gate):
    """Faster in than out: nothing piles up, nothing is left behind."""
    size, got = 3 << 20, []
    before = net.read_sysctl("gw", "net.ipv4.tcp_wmem")
    net.sysctl("gw", net__ipv4__tcp_wmem="4096 16384 32768")

    def script(server, conn):
        narrow_window(conn)
        odd.say(conn, b"220 odd ESMTP\r\n")
        for answer in (odd.GOOD["EHLO"], odd.GOOD["AUTH"], odd.GOOD["MAIL"],
                       odd.GOOD["RCPT"], odd.GOOD["DATA"]):
            server.read(conn)
            odd.say(conn, answer)
        total, tail = 0, b""
        while not tail.endswith(b"\r\n.\r\n"):
            data = conn.recv(30000)
            if not data:
                return
            total, tail = total + len(data), (tail + data)[-5:]
            time.sleep(0.001)
        got.append(total)
        odd.say(conn, b"250 2.0.0 Queued\r\n")
        server.read(conn)
    try:
        with odd.OddServer(465, script), odd_submit() as peer:
            peer.sock.settimeout(60)
            peer.line()
            assert peer.ask("EHLO pc")[0].startswith("250"), peer
            assert peer.ask(PLAIN)[0].startswith("235"), peer
            peer.ask("MAIL FROM:<kenji@isp.example>")
            peer.ask("RCPT TO:<yuki@isp.example>")
            assert peer.ask("DATA")[0].startswith("354"), peer
            line = b"x" * 70 + b"\r\n"
            peer.send(line * (size // len(line)) + b".\r\n")
            assert peer.reply()[0].startswith("250"), peer
    finally:
        net.sysctl("gw", net__ipv4__tcp_wmem=" ".join(before.split()))
    assert got == [size // len(line) * len(line) + 3]


def pop3_session(server, conn):
    odd.say(conn, b"+OK odd\r\n")
    for _ in range(2):
        server.read(conn)
        odd.say(conn, b"+OK\r\n")


def log_in(peer):
    assert peer.line().startswith("+OK"), peer
    for command in ("USER kenji", f"PASS {PASSWORD}"):
        peer.send(command)
        assert peer.line().startswith("+OK"), peer


def test_large_mail_to_a_slow_client(gate):
    """The last octets arrive although nothing else happens in the relay."""
    for size in range(1 << 20, (1 << 20) + 200000, 17000):
        def script(server, conn):
            pop3_session(server, conn)
            conn.sendall(b"y" * size)
            server.read(conn)
        with odd.OddServer(995, script):
            peer = Peer("legacy", net.address("dns", 4, 1), 110)
            with peer:
                narrow_window(peer.sock)
                log_in(peer)
                peer.sock.settimeout(10)
                got = len(peer.rest)
                while got < size:
                    got += len(peer.sock.recv(20000))
                    time.sleep(0.0005)
                assert got == size


def test_successor_knows_the_servers_before_it_serves(running):
    """What queued while no relay was there is wrapped, not passed in clear."""
    running.wait_gate(True)
    before, since = running.at_rest(), running.here()
    relay, = running.relays()
    os.kill(relay, signal.SIGSTOP)
    pop3 = [Peer("legacy", net.address("isp", 4 if n % 2 else 6), 110)
            for n in range(4)]
    smtp = [Peer("legacy", net.address("isp", 4 if n % 2 else 6), 25)
            for n in range(4)]
    os.kill(relay, signal.SIGKILL)
    for peer in pop3:
        with peer:
            assert peer.line().startswith("+OK"), peer
            peer.send("CAPA")
            assert "UIDL" in peer.dotted(), peer
    for peer in smtp:
        with peer:
            assert "mail.isp.example" in peer.line(), peer
    def wrapped():
        events = map(daemon.parse, running.lines(since))
        return sum(bool(e) and e.kind == "wrap" and e["tls"] == "1.3"
                   for e in events) == len(pop3)
    proc.wait_until(wrapped, "a wrap for each of them")
    running.wait_gate(True)
    running.wait_holdings(before)


def test_refused_sessions_do_not_count(gate):
    """Who was told to come later is let in as soon as there is room, whether
    or not it has read its 421."""
    peers = [submit() for _ in range(20)]
    for peer in peers:
        assert peer.line().startswith("220"), peer
    late = [submit() for _ in range(10)]
    for peer in late:
        assert peer.line().startswith("421"), peer
    since = gate.here()
    assert peers[0].ask("QUIT")[0].startswith("221")
    gate.wait_event(since, "submit", reason="done")
    with submit() as peer:
        assert peer.line().startswith("220"), peer
    for peer in peers + late:
        peer.close()


def test_dead_parent_leaves_nobody_waiting(running):
    """Relays that still carry a session hold no listener: whoever calls
    before the gate has shut gets through by the next SYN."""
    running.wait_gate(True)
    with Peer("fixed", net.address("mxa", 4), 25) as held:
        assert held.line().startswith("220"), held
        began = time.monotonic()
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        with Peer("fixed", net.address("mxa", 4), 25, timeout=20) as peer:
            try:
                line = peer.line()
            except ConnectionResetError:
                line = ""   # caught in the last queue
            assert line == "" or line.startswith("220"), peer
        assert time.monotonic() - began < 12
        assert held.ask("NOOP")[0].startswith("250"), held
    proc.wait_until(lambda: not proc.run("gw", [
        "pgrep", "-u", "sallyport-relay"]).ok, "the relay to leave")
    running.start()
    running.wait_all()


def test_reload_loses_nobody(gate):
    """Sessions go on over a reload; whoever calls while one relay takes over
    from the other is served, and served right."""
    held = [submit() for _ in range(3)]
    for peer in held:
        peer.line()
        assert peer.ask("EHLO pc")[0].startswith("250"), peer
    for n in range(4):
        since = gate.here()
        os.kill(gate.process.pid, signal.SIGHUP)
        for k in range(8):
            family = 4 if k % 2 else 6
            with pop3(family) as peer:
                assert peer.line().startswith("+OK"), peer
                peer.send("CAPA")
                assert "UIDL" in peer.dotted(), peer
            with submit(family) as peer:
                assert "mail.isp.example" in peer.line(), peer
                answer = peer.ask("EHLO pc")
                assert any("AUTH" in line for line in answer), peer
        gate.wait_text(since, r"is in force")
    for peer in held:
        assert peer.ask("NOOP")[0].startswith("250"), peer
        assert peer.ask("QUIT")[0].startswith("221"), peer
    proc.wait_until(lambda: len(gate.children()) == ROLES, "the old to leave")


def test_who_outstays_a_reload_is_told_so(running):
    """After drain_max: 421, not all in the same moment, and no session of
    the new relay is touched."""
    running.restart(daemon.quick(gateway="drain_max = 2;"))
    try:
        held = [submit(6 if n % 2 else 4) for n in range(12)]
        for peer in held:
            assert peer.line().startswith("220"), peer
        since = running.here()
        os.kill(running.process.pid, signal.SIGHUP)
        running.wait_text(since, r"is in force")
        with pop3() as new:
            assert new.line().startswith("+OK"), new
            times = []
            for peer in held:
                assert peer.line().startswith("421"), peer
                times.append(time.monotonic())
                assert peer.end()[0] == "eof", peer
            assert max(times) - min(times) > 0.1
            new.send("QUIT")
            assert new.line().startswith("+OK"), new
        for peer in held:
            peer.close()
        proc.wait_until(lambda: len(running.children()) == ROLES,
                        "the old to leave")
    finally:
        running.restart(daemon.quick())
