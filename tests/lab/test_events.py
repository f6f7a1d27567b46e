"""`sallyport events': the log, as it happens."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess

import pytest

import clients
import daemon
import net
import proc


CONTROL = "/run/sallyport/control"


def talk(token):
    clients.swaks("second", net.address("mxa", 4), "info@alpha.example", token,
                  helo=token)


class Follower:
    """The command itself, its lines read as they come."""

    def __init__(self, gate, *words):
        self.process = subprocess.Popen(
            proc.enter_argv(gate.ns, [daemon.BUILD / "sallyport", "-c",
                                      daemon.CONF, "events", "--follow",
                                      *words]),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""

    def read(self):
        data = self.process.stdout.read()
        self.text += data.decode() if data else ""
        return self.text

    def wait(self, pattern, timeout=10):
        return proc.wait_until(lambda: re.search(pattern, self.read()),
                               pattern, timeout)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(name="follow")
def fixture_follow(gate):
    made = []

    def begin(*words):
        made.append(Follower(gate, *words))
        return made[-1]
    yield begin
    for one in made:
        one.end()


def test_the_last_ones_and_each_new_one(gate, follow):
    talk("before")
    gate.wait_text(0, r'helo="before"')
    told = gate.cli("events").out
    assert 'helo="before"' in told.splitlines()[-1], told
    follower = follow()
    follower.wait('helo="before"')
    talk("after")
    follower.wait('block id=.*helo="after"')
    # as the log has it, to the letter
    line = next(x for x in gate.lines() if 'helo="after"' in x)
    assert line.split("block", 1)[1] in follower.text


def test_only_those_asked_for(gate, follow):
    follower = follow("allow", "lease")
    talk("silent")
    assert gate.cli("allow", "add", "198.18.42.1", "--why", "heard").ok
    follower.wait('allow op=add prefix="?198.18.42.1/32.*why="heard"')
    assert "block " not in follower.read()
    assert gate.cli("allow", "del", "198.18.42.1").ok
    assert "allow op=del" in gate.cli("events", "allow").out
    assert "block id" not in gate.cli("events", "allow").out


def test_it_goes_on_over_a_reload(gate, follow):
    follower = follow()
    follower.wait(".")
    assert gate.cli("reload").ok
    proc.wait_until(lambda: len(gate.named("sallyport:ctl")) == 1,
                    "the old one to leave its follower", 10)

    def heard():
        talk("reloaded")
        return 'helo="reloaded"' in follower.read()
    proc.wait_until(heard, "the successor's events", 15)
    assert follower.process.poll() is None


def test_who_does_not_read_loses_lines_and_nobody_waits(gate, follow):
    """A follower that sleeps: told how many it missed; the log has all."""
    sleeper, reader = follow(), follow()
    reader.wait(".")
    sleeper.process.send_signal(signal.SIGSTOP)
    big = daemon.ETC / "storm"
    since = gate.here()
    for turn in range(12):
        big.write_text("".join(f"198.18.{100 + i // 250}.{1 + i % 250} {turn}\n"
                               for i in range(5000)))
        assert gate.cli("lease", "bind", "--file", str(big)).ok
    for n in range(30):
        assert gate.cli("allow", "add", f"198.18.43.{n + 1}", "--why",
                        "w" * 250).ok
    reader.wait(r"198.18.43.30/32")
    assert len([x for x in gate.lines(since) if "198.18.43." in x]) == 30
    sleeper.process.send_signal(signal.SIGCONT)
    sleeper.wait(r"198.18.43.30/32|events were lost")
    for n in range(30):
        assert gate.cli("allow", "del", f"198.18.43.{n + 1}").ok
    big.write_text("".join(f"198.18.{100 + i // 250}.{1 + i % 250}\n"
                           for i in range(5000)))
    assert gate.cli("lease", "release", "--file", str(big)).ok


def test_json_lines_are_json(gate):
    before = daemon.CONF.read_text()
    gate.reconfigure(daemon.quick(log='format = "json";'))
    try:
        assert gate.cli("allow", "add", "198.18.42.2").ok
        lines = gate.cli("events", "allow").out.splitlines()
        last = json.loads(lines[-1])
        assert last["event.action"] == "allow" and "@timestamp" in last, lines
        assert gate.cli("allow", "del", "198.18.42.2").ok
    finally:
        gate.reconfigure(before)


class Raw:
    """A client of the control socket that reads when it is told to."""

    def __init__(self, request):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(10)
        self.sock.connect(CONTROL)
        self.sock.sendall(request + b"\n")
        self.reader = self.sock.makefile("rb")

    def close(self):
        self.reader.close()
        self.sock.close()


def test_what_was_lost_is_told(gate):
    """Once, and as soon as there is room: not with the next event."""
    with contextlib.closing(Raw(b"events follow")) as slow:
        assert json.loads(slow.reader.readline())["ok"]
        line, since = "198.18.44.1", gate.here()
        for n in range(1600):
            with contextlib.closing(Raw(b"allow add %s pass pin %d%s" % (
                    line.encode(), n, b"w" * 240))) as one:
                assert json.loads(one.reader.readline())["ok"]
        all_of_them = len([x for x in gate.lines(since) if line in x])
        got, lost = 0, 0
        while got + lost < all_of_them:
            text = slow.reader.readline().decode()
            told = re.match(r"# (\d+) events were lost", text)
            lost += int(told[1]) if told else 0
            got += line in text
        assert lost > 0 and got > 0 and got + lost == all_of_them
    assert gate.cli("allow", "del", line).ok


def test_so_many_follow_and_no_other_word(gate):
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            one = stack.enter_context(contextlib.closing(Raw(b"events follow")))
            assert json.loads(one.reader.readline())["ok"]
        told = gate.cli("events", "--follow")
        assert told.code == 1 and "too many follow already" in told.out, told
        assert gate.cli("events").ok
    for word in (b"events", b"events foo", b"events follow me"):
        with contextlib.closing(Raw(word)) as one:
            assert json.loads(one.reader.readline())["error"] == \
                "unknown request", word


def test_bad_words(gate):
    for words in (("--all",), ("--follow", "Block"), ("x=1",)):
        assert gate.cli("events", *words).code == 2, words
