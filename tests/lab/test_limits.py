"""What a line and a session may have, with everything real behind it.

Sessions of a line over all relays, also after one of them was killed; size,
quotas and wrong passwords of submit; and what a thousand blocked bots cost
those who send honest mail.
"""

import base64
import os
import resource
import signal
import statistics
import time

import pytest

import daemon
import net
import proc
from dovecot import PASSWORD
from peer import Peer

WRONG = "AUTH PLAIN " + base64.b64encode(
    b"\0kenji@isp.example\0not-it").decode()
RIGHT = "AUTH PLAIN " + base64.b64encode(
    f"\0kenji@isp.example\0{PASSWORD}".encode()).decode()


def submit(address=None):
    more = {"source_address": (address, 0)} if address else {}
    return Peer("legacy", net.address("isp", 4), 25, **more)


@pytest.fixture
def configured(gate):
    """The shared daemon with other options; afterwards as it was."""
    before = daemon.CONF.read_text()

    def configure(config):
        gate.reconfigure(config)
        return gate
    yield configure
    configure(before)


def open_until_refused(most):
    """Sessions of the legacy line; those greeted, the last one is refused."""
    peers = []
    for _ in range(most):
        peers.append(submit())
        if not peers[-1].line().startswith("220"):
            return peers
    return peers


def test_one_line_over_all_relays(gate):
    """Four relays together hold the line's sessions; what a killed one held
    is free again, no more and no less."""
    gate.expected += ["relay"]
    before, peers = daemon.CONF.read_text(), []
    try:
        gate.restart(daemon.quick(workers=4, per_line=8))
        peers = open_until_refused(30)
        assert len(peers) == 9, peers[-1]
        killed = gate.relays()[0]
        os.kill(killed, signal.SIGKILL)
        alive = []
        for peer in peers[:8]:
            try:
                peer.send("NOOP")
                assert peer.line() == "250 2.0.0 Ok", peer
                alive.append(peer)
            except (OSError, AssertionError):
                peer.close()
        proc.wait_until(lambda: killed not in gate.relays() and
                        len(gate.relays()) == 4, "its successor", 30)
        peers += open_until_refused(30)
        greeted = len(peers) - 9 - 1
        assert greeted == 8 - len(alive), (greeted, len(alive))
    finally:
        for peer in peers:
            peer.close()
        gate.restart(before)


def login(password=RIGHT):
    peer = submit()
    peer.line()
    lines = peer.ask("EHLO pc")
    assert peer.ask(password)[0].startswith("235"), peer
    return peer, lines


def with_limits(text):
    return daemon.quick().replace("smtp = {", "smtp = { " + text, 1)


def test_size_and_quotas(configured):
    """SIZE is ours, and a line that has used its hour is told to come later,
    in whichever session."""
    gate = configured(with_limits(
        "max_size = 2000; rcpts_per_hour = 2; messages_per_hour = 1;"))
    peer, lines = login()
    with peer:
        assert "250-SIZE 2000" in lines, lines
        assert peer.ask("MAIL FROM:<kenji@isp.example> SIZE=2001")[0] \
            .startswith("552 5.3.4"), peer
        peer.ask("MAIL FROM:<kenji@isp.example>")
        for want in ("250", "250", "450"):
            assert peer.ask("RCPT TO:<kenji@isp.example>")[0] \
                .startswith(want), peer
        assert peer.ask("DATA")[0].startswith("354"), peer
        assert peer.ask("Subject: one\r\n\r\nhi\r\n.")[0] \
            .startswith("250"), peer
    since = gate.here()
    with login()[0] as peer:
        assert peer.ask("MAIL FROM:<kenji@isp.example>")[0] \
            .startswith("450 4.7.1"), peer
        peer.ask("QUIT")
    gate.wait_event(since, "submit", code="450", stage="mail", msgs="0")


def test_wrong_passwords_end_with_421(configured):
    """After two wrong ones not even the right one is tried, and never a 535 of
    ours: the mail program would ask for another password."""
    gate = configured(with_limits("max_guesses = 2;"))
    since = gate.here()
    for _ in range(2):
        with submit() as peer:
            peer.line()
            peer.ask("EHLO pc")
            assert peer.ask(WRONG)[0].startswith("535"), peer
    with submit() as peer:
        peer.line()
        peer.ask("EHLO pc")
        assert peer.ask(RIGHT)[0].startswith("421 4.7.0"), peer
    gate.wait_event(since, "submit", reason="password-guesses", code="421")


# ---- a thousand bots --------------------------------------------------------

BOTS = int(os.environ.get("SALLYPORT_BOTS", "300"))


def round_trips(sessions=4, count=80):
    """Milliseconds of one command and its answer by the real server, in a few
    sessions: of more than 100 such commands Postfix has enough."""
    took = []
    for _ in range(sessions):
        with login()[0] as peer:
            for _ in range(count):
                start = time.perf_counter()
                answer = peer.ask("NOOP")[0]
                took.append(1000 * (time.perf_counter() - start))
                assert answer.startswith("250"), peer
    return took


def percentile(values, share):
    return sorted(values)[int(share * (len(values) - 1))]


def test_bots_cost_honest_mail_nothing(configured, record_property):
    """Blocked sessions that stay open, each in its dialogue: the round trip of
    a submit session beside them, less its median without them. This machine
    has other work: the best of a few turns is what we cost."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (min(hard, max(soft, BOTS + 200)), hard))
    gate = configured(daemon.quick(per_line=10000))
    bots, host = [], net.address("mxa", 4)
    try:
        alone = statistics.median(round_trips())
        relay = gate.relays()[-1]
        before = daemon.pss(relay)
        for _ in range(BOTS):
            bots.append(net.connect("second", host, 25, 20))
        for bot in bots:
            bot.sendall(b"EHLO bot\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\n")
        for bot in bots:
            seen = b""
            while b"(ref " not in seen:
                seen += bot.recv(4096)
        added = []
        for _ in range(5):
            for bot in bots[::10]:
                bot.sendall(b"RCPT TO:<a@b.c>\r\n")
            added.append(percentile(round_trips(), .99) - alone)
            if added[-1] < 20:
                break
        each = (daemon.pss(relay) - before) / BOTS
        print(f"{BOTS} bots: {alone:.2f} ms alone, 99th percentile "
              f"+{min(added):.2f} ms, {each:.1f} kB a blocked session")
        record_property("added_ms", min(added))
        assert min(added) < 20, added
        assert each < 16 or daemon.sanitized(), each
    finally:
        for bot in bots:
            bot.close()
